"""Similarities between the rows of two arrays, larger meaning closer."""

import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.exceptions import DataDimensionalityWarning
from sklearn.preprocessing import normalize
from sklearn.utils.extmath import row_norms, safe_sparse_dot
from sklearn.utils.validation import check_array

from sklearn_molge._utils.checks import check_named
from sklearn_molge._utils.genes import check_same_columns
from sklearn_molge._utils.rows import standardize_rows
from sklearn_molge._utils.typing import Matrix, Rows

__all__ = [
    "METRICS",
    "SPARSE_METRICS",
    "check_view",
    "check_views",
    "paired_similarity",
    "says_nothing",
    "similarity_to",
]

SimilarityFunction = Callable[[NDArray], NDArray]


def _dot(gallery: NDArray) -> SimilarityFunction:
    return lambda queries: safe_sparse_dot(queries, gallery.T, dense_output=True)


def _cosine(gallery: NDArray) -> SimilarityFunction:
    unit_gallery = _unit_rows(gallery)
    return lambda queries: safe_sparse_dot(
        _unit_rows(queries), unit_gallery.T, dense_output=True
    )


def _unit_rows(rows: NDArray) -> NDArray:
    """Scale rows to unit length, also those whose squares overflow or vanish."""
    if not sparse.issparse(rows):
        largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
        smallest = np.sqrt(np.finfo(rows.dtype).tiny) / np.finfo(rows.dtype).eps
        is_odd = (largest > 0) & ~((largest > smallest) & (largest < 1 / smallest))
        if is_odd.any():
            rows = rows / np.where(is_odd, largest, 1)[:, None].astype(rows.dtype)
    return normalize(rows)


def _correlation(gallery: NDArray) -> SimilarityFunction:
    rows = standardize_rows(gallery)
    return lambda queries: standardize_rows(queries) @ rows.T


def _euclidean(gallery: NDArray) -> SimilarityFunction:
    # Around the gallery's centre, where the squares cancel least.
    centre = gallery.mean(axis=0)
    rows = gallery - centre
    # One product gives |b|^2 - 2 <a, b>.
    rows = np.column_stack([-2 * rows, row_norms(rows, squared=True)])

    def similarity(queries: NDArray) -> NDArray:
        centred = queries - centre
        ones = np.ones((len(centred), 1), dtype=centred.dtype)
        distances = np.hstack([centred, ones]) @ rows.T
        distances += row_norms(centred, squared=True)[:, None]
        np.maximum(distances, 0, out=distances)
        np.sqrt(distances, out=distances)
        return np.negative(distances, out=distances)

    return similarity


def _tanimoto(gallery: NDArray) -> SimilarityFunction:
    squares = row_norms(gallery, squared=True)

    def similarity(queries: NDArray) -> NDArray:
        shared = safe_sparse_dot(queries, gallery.T, dense_output=True)
        union = row_norms(queries, squared=True)[:, None] + squares - shared
        empty = union == 0  # two molecules without a single bit are alike
        shared[empty] = 1.0
        union[empty] = 1.0
        return np.divide(shared, union, out=shared)

    return similarity


def _as_bits(array: NDArray) -> NDArray:
    return (array != 0).astype(np.float32)


def _jaccard(gallery: NDArray) -> SimilarityFunction:
    to_gallery = _tanimoto(_as_bits(gallery))
    return lambda queries: to_gallery(_as_bits(queries))


_METRICS: dict[str, Callable[[NDArray], SimilarityFunction]] = {
    "correlation": _correlation,
    "cosine": _cosine,
    "dot": _dot,
    "euclidean": _euclidean,
    "jaccard": _jaccard,
    "tanimoto": _tanimoto,
}
METRICS = frozenset(_METRICS)
SPARSE_METRICS = frozenset({"cosine", "dot", "jaccard", "tanimoto"})


def says_nothing(n_dimensions: int, metric: str) -> str:
    """Say why `metric` is the same for any rows of so few dimensions; else ""."""
    if metric != "correlation" or n_dimensions > 2:
        return ""
    return (
        f"The correlation of rows of length {n_dimensions} is "
        f"{'0' if n_dimensions < 2 else '1, 0 or -1'}, whatever they hold: take at "
        "least 3 dimensions, or metric='euclidean' or 'dot'."
    )


def similarity_to(gallery: NDArray, *, metric: str) -> SimilarityFunction:
    """Prepare `gallery` once; the function returned compares blocks of rows with it."""
    fault = says_nothing(gallery.shape[1], metric)
    if fault:
        warnings.warn(fault, DataDimensionalityWarning, stacklevel=3)
    _refuse_too_large(gallery, metric)
    compare = _METRICS[metric](gallery)

    def similarity(queries: NDArray) -> NDArray:
        _refuse_too_large(queries, metric)
        return compare(queries)

    return similarity


# The others do not depend on the size of a row.
_SIZED = frozenset({"dot", "euclidean", "tanimoto"})


def _refuse_too_large(rows: NDArray, metric: str) -> None:
    """Refuse numbers whose products overflow."""
    values: NDArray = sparse.csr_array(rows).data if sparse.issparse(rows) else rows
    if metric not in _SIZED or not values.size or values.dtype.kind != "f":
        return
    largest = max(float(values.max()), -float(values.min()))
    limit = np.sqrt(float(np.finfo(values.dtype).max) / (16 * rows.shape[1]))
    if largest > limit:
        raise ValueError(
            f"metric={metric!r} multiplies numbers, which must not be above "
            f"{limit:.2g} in {values.dtype}. Got {largest:.4g}: scale the rows, or "
            "take metric='cosine' or 'correlation'."
        )


def paired_similarity(A: NDArray, B: NDArray, *, metric: str) -> NDArray:
    """Similarity of each row of A to the same row of B."""
    step = 64  # a step compares more rows than asked, but stays in BLAS
    parts = [
        np.diagonal(similarity_to(B[i : i + step], metric=metric)(A[i : i + step]))
        for i in range(0, len(A), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0, dtype=A.dtype)


def check_view(A: Rows, *, metric: str, name: str) -> Matrix:
    """Check an array that `metric` is to compare."""
    accept_sparse = "csr" if metric in SPARSE_METRICS else False
    return check_named(
        check_array,
        A,
        name=name,
        input_name=name,
        accept_sparse=accept_sparse,
        dtype=[np.float64, np.float32],
    )


def check_views(A: Rows, B: Rows, *, metric: str) -> tuple[Matrix, Matrix]:
    """Check two arrays that `metric` is to compare; both come out in one dtype."""
    check_same_columns(A, B, names=("A", "B"), strict=False)
    A, B = (
        check_view(A, metric=metric, name="A"),
        check_view(B, metric=metric, name="B"),
    )
    if A.shape[1] != B.shape[1]:
        raise ValueError(
            "A and B must have the same number of features. "
            f"Got {A.shape[1]} and {B.shape[1]}."
        )
    if A.dtype != B.dtype:
        A, B = A.astype(np.float64, copy=False), B.astype(np.float64, copy=False)
    if sparse.issparse(A) != sparse.issparse(B):
        A, B = sparse.csr_array(A), sparse.csr_array(B)
    return A, B
