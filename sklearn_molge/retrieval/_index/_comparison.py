"""Queries against the rows of a store: fast with a known error, or exact.

A product in float32 finds out which rows may matter; only these are compared again,
pair by pair in float64 and always in the same order, so that equal rows get equal
scores wherever they lie and however the work is cut.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sklearn_molge.retrieval._index._store import VectorStore

__all__ = ["Comparison", "check_query_vectors", "slices"]

_PART = 1024  # queries of one product
_BLOCK_SCORES = 2**19  # of one product: 2 MiB, which stay in cache
_FEWEST_ROWS, _MOST_ROWS = 512, 4096  # of one product
_PAIR_VALUES = 2**20  # components that are multiplied at a time in float64
_LARGEST = 1e18  # length of a vector; above, float32 products could overflow


def slices(n: int, size: int) -> Iterator[slice]:
    """Cut `n` things into pieces; unlike scikit-learn's, also where there are none."""
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def check_query_vectors(store: VectorStore, queries: NDArray) -> NDArray[np.float32]:
    """Check the embeddings of profiles."""
    queries = np.asarray(queries, dtype=np.float32)
    if queries.ndim != 2 or queries.shape[1] != store.n_components:
        raise ValueError(
            f"queries must be of shape (n_queries, {store.n_components}). "
            f"Got {queries.shape}."
        )
    bad = np.flatnonzero(~np.isfinite(queries).all(axis=1))
    if bad.size:
        raise ValueError(
            "queries must be finite; a rank needs numbers. "
            f"Got {bad.size} that are not, {bad[:20].tolist()}."
        )
    return queries


class Comparison:
    """Some queries against all rows of a store, a block at a time.

    What is compared is a *key*: larger means earlier in the answer, so similarities
    change their sign with `reverse`. The fast key of "euclidean" is another, falling
    function of the distance, which one product gives.

    Parameters
    ----------
    store : VectorStore
    queries : ndarray of shape (n_queries, n_components)
        As embedded.
    reverse : bool
        Whether low similarities come first.

    Attributes
    ----------
    margin : ndarray of shape (n_queries,)
        A fast key is never farther from the true one than this.
    block_size : int
        The most keys of a block.
    """

    def __init__(self, store: VectorStore, queries: NDArray, *, reverse: bool):
        self.store = store
        self.sign = -1.0 if reverse else 1.0
        self.euclidean = store.metric == "euclidean"
        self.points = store.to_stored(queries)
        norms = np.linalg.norm(self.points.astype(np.float64), axis=1)
        longest = store.largest_norm
        if max(longest, norms.max(initial=0)) > _LARGEST:
            raise ValueError(
                f"Vectors must not be longer than {_LARGEST:g}. Got {longest:g} in "
                f"the store and {norms.max(initial=0):g} among the queries."
            )
        self._squares = norms**2
        self.margin = _margin(store.n_components, norms, longest, self.euclidean)
        self._parts = [
            (part, np.ascontiguousarray(self.sign * self.points[part].T, np.float32))
            for part in slices(len(self.points), _PART)
        ]
        width = max((columns.shape[1] for _, columns in self._parts), default=1)
        self._block_rows = int(
            np.clip(_BLOCK_SCORES // width, _FEWEST_ROWS, _MOST_ROWS)
        )
        self.block_size = self._block_rows * width
        self._keys = np.empty(self.block_size, dtype=np.float32)
        self._decoded = np.empty((self._block_rows, store.n_components), np.float32)

    def blocks(self) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
        """Yield which rows, which queries, and their fast keys (n_rows, n_queries).

        The keys are overwritten by the next block.
        """
        for rows in slices(self.store.n_rows, self._block_rows):
            gallery = self.store.stored(rows, self._decoded)
            extra = self.store.extra(rows)
            for part, columns in self._parts:
                keys = self._keys[: len(gallery) * columns.shape[1]]
                keys = keys.reshape(len(gallery), columns.shape[1])
                np.matmul(gallery, columns, out=keys)
                if extra is not None:
                    keys -= np.float32(self.sign / 2) * extra[:, None]
                yield rows, part, keys

    def exact(self, queries: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray:
        """Return the true keys of pairs of a query and a row: similarities by sign."""
        keys = np.empty(len(rows))
        for pairs in slices(len(rows), max(1, _PAIR_VALUES // self.points.shape[1])):
            a = self.points[queries[pairs]].astype(np.float64)
            b = self.store.stored(rows[pairs])
            if self.euclidean:
                a -= b
                np.square(a, out=a)
                keys[pairs] = -np.sqrt(a.sum(axis=1))
            else:
                a *= b
                keys[pairs] = a.sum(axis=1)
        return np.multiply(keys, self.sign, out=keys)

    def as_fast(self, queries: slice | NDArray, exact: NDArray) -> NDArray:
        """Turn true keys of these queries into fast ones, in float64."""
        if not self.euclidean:
            return exact
        return self.sign * (self._squares[queries] - np.square(exact)) / 2


def _margin(
    n_components: int, norms: NDArray, longest: float, euclidean: bool
) -> NDArray:
    """Bound the error of fast keys, doubled for what is compared with them.

    Of a sum of d products in any order: d times the unit roundoff times the lengths
    (Higham, Accuracy and Stability of Numerical Algorithms, 3.5), and underflow.
    """
    roundoff = np.finfo(np.float32).eps / 2
    size = norms * longest
    if euclidean:
        size = size + longest**2
        # And of the turn from distances to keys.
        size = size + norms**2 * np.finfo(np.float64).eps / np.finfo(np.float32).eps
    tiny = n_components * float(np.finfo(np.float32).tiny)
    return 2 * (n_components + 16) * roundoff * size + tiny
