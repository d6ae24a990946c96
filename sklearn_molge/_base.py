"""What every two-view estimator shares."""

from collections.abc import Callable

import numpy as np
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    validate_data,
)

from sklearn_molge.metrics._gallery import is_text
from sklearn_molge.metrics._ranks import retrieval_ranks
from sklearn_molge.metrics._scores import mean_reciprocal_rank
from sklearn_molge.metrics._similarity import pairwise_similarity

_FLOATS = [np.float64, np.float32]


def check_molecules(estimator, X, *, reset, accept_sparse=False):
    """Check the molecules of an estimator that takes SMILES as well as features."""
    if is_text(X):
        return np.asarray(X, dtype=object).reshape(len(X))
    return validate_data(
        estimator, X, reset=reset, accept_sparse=accept_sparse, dtype=_FLOATS
    )


def check_profiles(y, *, estimator=None, n_genes=None, dtype=None):
    """Check profiles; one column may come as a 1-D array."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but "
            "the target y is None."
        )
    y = check_array(y, ensure_2d=False, dtype=dtype or _FLOATS, input_name="y")
    y = y.reshape(len(y), -1)
    if n_genes is not None and y.shape[1] != n_genes:
        raise ValueError(
            f"y has {y.shape[1]} genes, but {type(estimator).__name__} was fitted on "
            f"{n_genes}."
        )
    return y


def check_two_views(estimator, X, y, *, accept_sparse=False):
    """Check both views in `fit`, and that they have the same number of rows."""
    X = check_molecules(estimator, X, reset=True, accept_sparse=accept_sparse)
    y = check_profiles(y, estimator=estimator)
    check_consistent_length(X, y)
    return X, y


class TwoViewMixin:
    """Mixin of estimators with ``fit(X, y)`` and ``similarity(X, y)``.

    X holds the molecules and y the profiles, row by row;
    ``similarity`` returns an array of shape (n_profiles, n_molecules).
    """

    def score(self, X, y):
        """Mean reciprocal rank of each profile's molecule among those of X.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            The molecule of each row.
        y : array-like of shape (n_samples, n_genes)
            The profile of each row.

        Returns
        -------
        score : float
            Mean reciprocal rank, between 0 and 1; see
            :func:`~sklearn_molge.metrics.retrieval_ranks`.
        """
        return mean_reciprocal_rank(retrieval_ranks(self, X, y))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()  # type: ignore[misc]
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = False
        return tags


class EmbedderMixin(TwoViewMixin):
    """Mixin of two-view estimators with a joint space.

    ``transform(X)`` and ``transform_ge(y)`` lead into it and the parameter
    ``metric`` compares there. Rankings embed each molecule once and go by these.
    """

    transform: Callable
    transform_ge: Callable
    metric: str

    def similarity(self, X, y):
        """Similarity of every profile to every molecule in the joint space.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules.
        y : array-like of shape (n_profiles, n_genes)
            Profiles.

        Returns
        -------
        similarity : ndarray of shape (n_profiles, n_molecules)
            By the parameter `metric`; larger means closer.
        """
        return pairwise_similarity(
            self.transform_ge(y), self.transform(X), metric=self.metric
        )
