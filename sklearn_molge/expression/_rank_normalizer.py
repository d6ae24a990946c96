"""RankNormalizer: each profile by the ranks of its genes."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin

from sklearn_molge._utils.rows import normal_scores
from sklearn_molge.base import check_features

__all__ = ["RankNormalizer"]


class RankNormalizer(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    r"""Replace the values of each profile by the normal scores of their ranks.

    Every profile gets the same distribution, whatever its scale and however heavy its
    tails: a few genes of extreme z-score no longer decide. Each row is transformed by
    itself, as by scikit-learn's ``Normalizer``; ``QuantileTransformer`` does the same
    for columns.

    Attributes
    ----------
    n_features_in_ : int
        Number of genes.
    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the genes; only where X had names that are all text.

    See Also
    --------
    SourceScaler : Centre and scale the genes of each source.
    sklearn.preprocessing.QuantileTransformer : Ranks within a feature.

    Notes
    -----
    The rank r of a gene among the n genes with a value, ties at their mean, becomes

    .. math:: \Phi^{-1}\left(\frac{r - 1/2}{n}\right),

    the rank-based inverse normal transformation with the offset of Bliss
    ("rankit"; Beasley, Erickson and Allison 2009). NaN stays NaN, and a profile whose
    values are all the same becomes 0.

    References
    ----------
    T. M. Beasley, S. Erickson and D. B. Allison, "Rank-based inverse normal
    transformations are increasingly used, but are they merited?", Behavior Genetics 39
    (2009).

    Examples
    --------
    >>> from sklearn_molge.expression import RankNormalizer
    >>> RankNormalizer().fit_transform([[-1.0, 0.2, 30.0], [2.0, 1.0, 1.0]]).round(2)
    array([[-0.97,  0.  ,  0.97],
           [ 0.97, -0.43, -0.43]])
    """

    def fit(self, X, y=None) -> Self:
        """Note the number and names of the genes.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_genes)
            Profiles; NaN for genes that are missing.
        y : None
            Ignored.

        Returns
        -------
        self : object
            Fitted transformer.
        """
        self._check(X, reset=True)
        return self

    def transform(self, X) -> NDArray:
        """Replace the values of each profile.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_genes)
            Profiles.

        Returns
        -------
        scores : ndarray of shape (n_profiles, n_genes)
        """
        return normal_scores(self._check(X, reset=False))

    def _check(self, X, *, reset):
        return check_features(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.requires_fit = False
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
