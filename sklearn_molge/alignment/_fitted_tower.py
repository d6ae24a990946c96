"""FittedTower: one tower of a trained embedder, as a transformer of its own."""

from __future__ import annotations

from copy import deepcopy
from typing import Self

from numpy.typing import NDArray
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import HasMethods, StrOptions

__all__ = ["FittedTower"]


class FittedTower(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """One tower of a trained embedder, as a transformer of its own.

    It is frozen, like scikit-learn's ``FrozenEstimator``: `fit` learns nothing and
    ``clone`` returns the same object, so that it can stand in a Pipeline before CCA
    or DoubleNNRetriever (the paper's "aligned" representations, Table 1). It keeps a
    copy of the embedder: training that one further, or anew, does not change it.

    Parameters
    ----------
    embedder : estimator
        Fitted, with ``transform`` and ``transform_ge``.
    view : {"molecules", "profiles"}, default="molecules"
        Which of the two this transformer is.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.alignment import CCA, FittedTower
    >>> rng = np.random.default_rng(0)
    >>> X, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 4))
    >>> cca = CCA(3, ridge=0.1).fit(X, y)
    >>> FittedTower(cca, view="profiles").fit_transform(y).shape
    (8, 3)
    """

    _parameter_constraints: dict = {
        "embedder": [HasMethods(["transform", "transform_ge"])],
        "view": [StrOptions({"molecules", "profiles"})],
    }

    def __init__(self, embedder, *, view="molecules"):
        self.embedder = embedder
        self.view = view

    @property
    def embedder(self):
        """The embedder as it was when it was given."""
        return self._embedder

    @embedder.setter
    def embedder(self, embedder):
        self._embedder = deepcopy(embedder)

    def fit(self, X=None, y=None) -> Self:
        """Check that the embedder is fitted; there is nothing to learn.

        Parameters
        ----------
        X : Ignored
            Not used, present for API consistency.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : object
            The transformer.
        """
        self._validate_params()
        check_is_fitted(self.embedder)
        return self

    def transform(self, X) -> NDArray:
        """Project one view into the joint space.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecules or profiles, whichever `view` says, as the embedder takes them.

        Returns
        -------
        embeddings : ndarray of shape (n_samples, n_components)
            In the joint space.
        """
        check_is_fitted(self.embedder)
        if self.view == "profiles":
            return self.embedder.transform_ge(X)
        return self.embedder.transform(X)

    @property
    def gene_names_in_(self):
        """Names of the genes that the embedder was fitted on, where it has them."""
        return self.embedder.gene_names_in_

    @property
    def _n_features_out(self):
        return self.embedder._n_features_out

    def __sklearn_clone__(self):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags
