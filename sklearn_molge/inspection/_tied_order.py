"""Rows in the order of their similarity to each row, ties counted exactly."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils import check_array, gen_batches

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
    "tied_orders",
]

Floats = NDArray[np.float64]
Codes = NDArray[np.intp]

# Similarities that differ by less than this share of the row's largest are equal:
# equal numbers come out of BLAS with other last digits.
TIE_TOLERANCE = 1e-12
# Of similarities, in whole steps of BLAS.
_BLOCK_VALUES, _LEAST_ROWS = 2**20, 32

# Of the parameters that all questions about neighbours have.
_COUNT = [Interval(Integral, 1, None, closed="left")]
CONSTRAINTS: dict[str, list[object]] = {
    "metric": [StrOptions(set(METRICS))],
    "n_neighbors": _COUNT,
    "n_permutations": _COUNT,
    **RESAMPLING_CONSTRAINTS,
}


@dataclass(frozen=True)
class TiedOrder:
    """The other rows in the order of their similarity to some rows.

    Attributes
    ----------
    rows : slice
        The rows whose order it is.
    places : ndarray of shape (n_of_rows, n), dtype=int64
        How many others are closer to the row than the column is, and in the lower half
        of the bits in use how many are as close, the column included.
    n_neighbors : int
        Number of nearest rows that :meth:`scores` looks at, less than n.
    """

    rows: slice
    places: NDArray[np.int64]
    n_neighbors: int

    def scores(self, queries: Codes, rows: Codes, others: Codes, n: int) -> Floats:
        """Neighbour rate and average precision of n queries, given their matches.

        Parameters
        ----------
        queries, rows, others : ndarray of shape (n_pairs,)
            Pairs of a query, which is at one of `self.rows`, and a row that is relevant
            to it, no row to itself.
        n : int
            Number of queries.

        Returns
        -------
        scores : ndarray of shape (n, 2)
            Means over all orders of tied rows; 0 for a query without a match.

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
        n_bits = _n_bits(self.places.shape[1])
        found = self.places[rows - self.rows.start, others]
        closer, tied = _unpacked(found, n_bits)
        inside = np.clip((self.n_neighbors - closer) / tied, 0, 1)
        rate = np.bincount(queries, inside, minlength=n) / self.n_neighbors

        # Sorted by query and place; equal keys are the relevant ones of a tie.
        keys = np.sort((queries << (2 * n_bits)) | found)
        queries = keys >> (2 * n_bits)
        s, t = _unpacked(keys & ((1 << (2 * n_bits)) - 1), n_bits)
        run_start = np.flatnonzero(np.diff(keys, prepend=-1))
        run_size = np.diff(run_start, append=len(keys))
        n_relevant = np.bincount(queries, minlength=n)
        first = np.cumsum(n_relevant) - n_relevant
        a = np.repeat(run_start, run_size) - first[queries] + 1
        b = np.repeat(run_size - 1, run_size) / np.maximum(t - 1, 1)
        harmonic = _harmonic(self.places.shape[1])
        precision = b + (a - b * (s + 1)) * (harmonic[s + t] - harmonic[s]) / t
        total = np.bincount(queries, precision, minlength=n)
        return np.column_stack([rate, total / np.maximum(n_relevant, 1)])


def tied_orders(array, metric: str, n_neighbors: int) -> Iterator[TiedOrder]:
    """Yield the order of all rows of an array, some rows at a time."""
    n = array.shape[0]
    n_bits = _n_bits(n)
    for rows, similarity in _similarity_blocks(array, metric):
        order = np.argsort(np.negative(similarity), axis=1)
        closer, tied = _runs(np.take_along_axis(similarity, order, axis=1))
        places = np.empty(similarity.shape, dtype=np.int64)
        np.put_along_axis(places, order, (closer << n_bits) | tied, axis=1)
        yield TiedOrder(rows, places, n_neighbors)


def _n_bits(n: int) -> int:
    return int(n).bit_length()


def _unpacked(places: NDArray[np.int64], n_bits: int):
    return places >> n_bits, places & ((1 << n_bits) - 1)


@cache
def _harmonic(n: int) -> Floats:
    """Return 0, 1, 1 + 1/2, ..., 1 + 1/2 + ... + 1/n."""
    return np.concatenate([[0], np.cumsum(1 / np.arange(1, n + 1))])


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
    """Return the embeddings, sparse only where `metric` takes it.

    In float64, but for "jaccard", which asks no more than which ones are 0.
    """
    return check_array(
        embeddings,
        accept_sparse="csr" if metric in SPARSE_METRICS else False,
        dtype="numeric" if metric == "jaccard" else np.float64,
        ensure_min_samples=2,
        input_name="embeddings",
    )


def _similarity_blocks(array, metric: str) -> Iterator[tuple[slice, Floats]]:
    """Yield blocks of similarities to all rows, minus infinity to the row itself."""
    # Equal rows are compared once, so that their ties are exact.
    first, codes = distinct_rows(array)
    to_distinct = similarity_to(array[first], metric=metric)
    n = array.shape[0]
    step = int(np.clip(_BLOCK_VALUES // n // _LEAST_ROWS, 1, 8)) * _LEAST_ROWS
    for rows in gen_batches(n, step):
        similarity = to_distinct(array[rows])[:, codes]
        here = np.arange(rows.start, rows.stop)
        similarity[here - rows.start, here] = -np.inf
        yield rows, similarity


def _largest(similarity: Floats) -> Floats:
    finite = np.where(np.isfinite(similarity), similarity, 0)
    return np.abs(finite).max(axis=1, keepdims=True)


def _runs(ordered: Floats) -> tuple[Codes, Codes]:
    """Return start and length of the run of equal numbers at each place of each row."""
    n_rows, n = ordered.shape
    starts = np.ones(ordered.shape, dtype=bool)
    drop = ordered[:, :-1] - ordered[:, 1:]
    starts[:, 1:] = drop > TIE_TOLERANCE * _largest(ordered)
    begin = np.flatnonzero(starts)
    size = np.diff(begin, append=starts.size)
    closer, tied = np.repeat(begin % n, size), np.repeat(size, size)
    return closer.reshape(n_rows, n), tied.reshape(n_rows, n)
