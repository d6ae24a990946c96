"""Similarities: of two arrays, and of profiles and molecules through any Pipeline."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike, NDArray

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge._utils.similarity import METRICS, check_views, similarity_to
from sklearn_molge._utils.typing import Rows
from sklearn_molge._utils.views import comparison

__all__ = ["pairwise_similarity", "similarity"]


@validate_params(
    {
        "A": ["array-like", "sparse matrix"],
        "B": ["array-like", "sparse matrix"],
        "metric": [StrOptions(set(METRICS))],
    },
    prefer_skip_nested_validation=True,
)
def pairwise_similarity(A: Rows, B: Rows, *, metric: str = "correlation") -> NDArray:
    """Similarity of every row of A to every row of B, larger meaning closer.

    Parameters
    ----------
    A : array-like or sparse matrix of shape (n_a, n_features)
        For example embedded profiles.
    B : array-like or sparse matrix of shape (n_b, n_features)
        For example embedded molecules.
    metric : {"correlation", "cosine", "dot", "euclidean", "jaccard", "tanimoto"}, \
            default="correlation"
        Pearson's correlation, cosine, dot product, minus the Euclidean distance,
        the Jaccard index of the non-zero positions, or Tanimoto's
        ``<a, b> / (|a|^2 + |b|^2 - <a, b>)``, which extends Jaccard to counts.
        Sparse input is for all but "correlation" and "euclidean".

    Returns
    -------
    similarity : ndarray of shape (n_a, n_b)
        A row without variance has correlation 0 with everything, and a zero row
        cosine 0 (the paper's code gives them distance 1 as well); two rows without
        any bit have Jaccard index 1.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, or the numbers of features differ.

    Warns
    -----
    DataDimensionalityWarning
        If "correlation" compares rows of one or two features: it is 0, or 1 or -1,
        whatever they hold.

    Examples
    --------
    >>> from sklearn_molge.metrics import pairwise_similarity
    >>> pairwise_similarity([[1, 1, 0]], [[1, 0, 0], [1, 1, 1]], metric="jaccard")
    array([[0.5       , 0.666...]], dtype=float32)
    """
    A, B = check_views(A, B, metric=metric)
    return similarity_to(B, metric=metric)(A)


def similarity(estimator: Any, X: Rows, y: ArrayLike) -> NDArray:
    """Similarity of every profile to every molecule, through any Pipeline.

    ``Pipeline`` passes only scikit-learn's own methods on; this function walks a
    Pipeline, a fitted search or a wrapper down to the two-view estimator instead.

    Parameters
    ----------
    estimator : estimator
        Fitted; see :func:`~sklearn_molge.metrics.retrieval_ranks`.
    X : array-like of shape (n_molecules,) or (n_molecules, n_features)
        Molecules, as `estimator` was fitted on them.
    y : array-like of shape (n_profiles, n_genes)
        Profiles, as `estimator` was fitted on them.

    Returns
    -------
    similarity : ndarray of shape (n_profiles, n_molecules)
        Larger means closer.

    Raises
    ------
    TypeError
        If there is no two-view estimator inside.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.metrics import similarity
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> import numpy as np
    >>> X = np.array(["CCO", "CCN", "CCC", "c1ccccc1O", "CC=O"], dtype=object)
    >>> y = np.random.default_rng(0).normal(size=(5, 5))
    >>> pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1))
    >>> similarity(pipe.fit(X, y), X[:3], y).shape
    (5, 3)
    """
    return comparison(estimator, X)(y)
