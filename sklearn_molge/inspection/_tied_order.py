"""Rows in the order of their similarity to each row, ties counted exactly."""

from collections.abc import Iterator
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils import check_array

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge._utils.resampling import RESAMPLING_CONSTRAINTS
from sklearn_molge._utils.rows import distinct_rows
from sklearn_molge._utils.similarity import METRICS, SPARSE_METRICS, similarity_to

__all__ = [
    "CONSTRAINTS",
    "TIE_TOLERANCE",
    "TiedOrder",
    "check_embeddings",
    "nearest_weights",
    "random_scores",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

# Similarities that differ by less than this share of the row's largest are equal:
# equal numbers come out of BLAS with other last digits.
TIE_TOLERANCE = 1e-12
_BLOCK_ROWS = 256

# Of the parameters that all questions about neighbours have.
_COUNT = [Interval(Integral, 1, None, closed="left")]
CONSTRAINTS: dict[str, list[object]] = {
    "metric": [StrOptions(set(METRICS))],
    "n_neighbors": _COUNT,
    "n_permutations": _COUNT,
    **RESAMPLING_CONSTRAINTS,
}


class TiedOrder:
    """The other rows in the order of their similarity to each row.

    Parameters
    ----------
    array : ndarray or csr_array of shape (n, n_features)
    metric : str
        One of `METRICS`.
    n_neighbors : int
        Number of nearest rows that :meth:`scores` looks at, less than n.

    Attributes
    ----------
    n_closer : ndarray of shape (n, n), dtype=int32
        How many others are closer to the row than the column is.
    n_tied : ndarray of shape (n, n), dtype=int32
        How many are as close, the column included.
    """

    def __init__(self, array, metric: str, n_neighbors: int):
        n = array.shape[0]
        self.n_neighbors = n_neighbors
        self.n_closer = np.empty((n, n), dtype=np.int32)
        self.n_tied = np.empty((n, n), dtype=np.int32)
        # harmonic[i] = 1 + 1/2 + ... + 1/i
        self._harmonic = np.concatenate([[0], np.cumsum(1 / np.arange(1, n + 1))])
        for rows, similarity in _similarity_blocks(array, metric):
            order = np.argsort(-similarity, axis=1, kind="stable")
            ordered = np.take_along_axis(similarity, order, axis=1)
            closer, tied = _runs(ordered)
            np.put_along_axis(self.n_closer[rows], order, closer, axis=1)
            np.put_along_axis(self.n_tied[rows], order, tied, axis=1)

    def scores(self, queries: Codes, others: Codes) -> Floats:
        """Neighbour rate and average precision of every row, given its matches.

        Parameters
        ----------
        queries, others : ndarray of shape (n_pairs,)
            Pairs of a row and a row that is relevant to it, no row to itself.

        Returns
        -------
        scores : ndarray of shape (n, 2)
            Means over all orders of tied rows; 0 for a row without a match.

        Notes
        -----
        Of t tied rows behind s closer ones, with g relevant rows among them and c
        among the closer ones, one stands at place s + j with probability 1 / t each.
        If it is relevant, (j - 1)(g - 1) / (t - 1) relevant ones of its ties are
        expected before it. Its mean precision is thus

            1/t sum_{j=1..t} (a + b (j - 1)) / (s + j)
                = b + (a - b (s + 1)) (H_{s+t} - H_s) / t

        with a = c + 1, b = (g - 1) / (t - 1), and b = 0 without ties.
        """
        n = len(self.n_closer)
        closer, tied = self.n_closer[queries, others], self.n_tied[queries, others]
        inside = np.clip((self.n_neighbors - closer) / tied, 0, 1)
        rate = np.bincount(queries, inside, minlength=n) / self.n_neighbors

        keys = queries * n + closer
        by_place = np.argsort(keys, kind="stable")
        queries, s, t = queries[by_place], closer[by_place], tied[by_place]
        _, run_start, run, run_size = np.unique(
            keys[by_place], return_index=True, return_inverse=True, return_counts=True
        )
        n_relevant = np.bincount(queries, minlength=n)
        first = np.cumsum(n_relevant) - n_relevant
        a = run_start[run] - first[queries] + 1
        b = (run_size[run] - 1) / np.maximum(t - 1, 1)
        harmonic = self._harmonic[s + t] - self._harmonic[s]
        precision = b + (a - b * (s + 1)) * harmonic / t
        total = np.bincount(queries, precision, minlength=n)
        return np.column_stack([rate, total / np.maximum(n_relevant, 1)])


def nearest_weights(array, metric: str, n_neighbors: int) -> sparse.csr_array:
    """Return which others are among the nearest of each row; rows sum to n_neighbors.

    Where ties cross the border, each of them has the share that is let in.
    """
    blocks = []
    for _, similarity in _similarity_blocks(array, metric):
        place = similarity.shape[1] - n_neighbors
        last = np.partition(similarity, place, axis=1)[:, place, None]
        tolerance = TIE_TOLERANCE * _largest(similarity)
        closer = similarity > last + tolerance
        tied = ~closer & (similarity >= last - tolerance)
        left = n_neighbors - closer.sum(axis=1, keepdims=True)
        share = left / tied.sum(axis=1, keepdims=True)
        blocks.append(sparse.csr_array(closer + tied * share))
    return sparse.csr_array(sparse.vstack(blocks))


def random_scores(n_relevant: NDArray, n_others: int) -> Floats:
    """Return mean rate and average precision of random orders, one row per query."""
    harmonic = np.sum(1 / np.arange(1, n_others + 1))
    before = (n_relevant - 1) / max(n_others - 1, 1)
    precision = (harmonic + before * (n_others - harmonic)) / n_others
    return np.column_stack([n_relevant / n_others, precision])


def check_embeddings(embeddings: ArrayLike, metric: str):
    """Return the embeddings in float64, sparse only where `metric` takes it."""
    return check_array(
        embeddings,
        accept_sparse="csr" if metric in SPARSE_METRICS else False,
        dtype=np.float64,
        ensure_min_samples=2,
        input_name="embeddings",
    )


def _similarity_blocks(array, metric: str) -> Iterator[tuple[slice, Floats]]:
    """Yield blocks of similarities to all rows, minus infinity to the row itself."""
    # Equal rows are compared once, so that their ties are exact.
    first, codes = distinct_rows(array)
    to_distinct = similarity_to(array[first], metric=metric)
    n = array.shape[0]
    for start in range(0, n, _BLOCK_ROWS):
        rows = slice(start, min(start + _BLOCK_ROWS, n))
        similarity = to_distinct(array[rows])[:, codes]
        here = np.arange(rows.start, rows.stop)
        similarity[here - start, here] = -np.inf
        yield rows, similarity


def _largest(similarity: Floats) -> Floats:
    finite = np.where(np.isfinite(similarity), similarity, 0)
    return np.abs(finite).max(axis=1, keepdims=True)


def _runs(ordered: Floats) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return start and length of the run of equal numbers at each place of each row."""
    n_rows, n = ordered.shape
    starts = np.ones(ordered.shape, dtype=bool)
    drop = ordered[:, :-1] - ordered[:, 1:]
    starts[:, 1:] = drop > TIE_TOLERANCE * _largest(ordered)
    places = np.where(starts, np.arange(n, dtype=np.int32), 0)
    closer = np.maximum.accumulate(places, axis=1)
    run = np.cumsum(starts) - 1
    return closer, np.bincount(run)[run].reshape(n_rows, n).astype(np.int32)
