"""The molecules closest to queries: exact, in blocks, ties by row number."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from sklearn_molge.retrieval._index._comparison import (
    Comparison,
    check_query_vectors,
    slices,
)
from sklearn_molge.retrieval._index._mid_ranks import mid_ranks
from sklearn_molge.retrieval._index._store import VectorStore

__all__ = ["mid_ranks", "scores_of", "top_k"]

_MOST_QUERIES = 4096  # at a time
_MOST_FOUND = 2**22  # rows that are kept at a time, of all queries together
_FEWEST_PENDING = 4096  # worth looking through
_SCORED = (1024, 1024)  # queries and rows of one product in float64


def top_k(
    store: VectorStore, queries: NDArray, k: int, *, reverse: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Find the `k` best rows of each query among those not removed.

    Parameters
    ----------
    store : VectorStore
    queries : ndarray of shape (n_queries, n_components)
        As embedded.
    k : int
        At most ``store.n_active``.
    reverse : bool, default=False
        Whether the least similar come first.

    Returns
    -------
    scores : ndarray of shape (n_queries, k), dtype=float32
        Similarities, best first.
    rows : ndarray of shape (n_queries, k), dtype=intp
        Equal similarities by row number.
    """
    queries = check_query_vectors(store, queries)
    scores = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.intp)
    if k == 0:
        return scores, rows
    step = int(np.clip(_MOST_FOUND // k, 1, _MOST_QUERIES))
    for part in slices(len(queries), step):
        comparison = Comparison(store, queries[part], reverse=reverse)
        best = _Best(comparison, k)
        for block, columns, keys in comparison.blocks():
            best.offer(block, columns, keys)
        scores[part], rows[part] = best.finish()
    return scores, rows


def scores_of(
    store: VectorStore, queries: NDArray, rows: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return the similarity of each query to some rows: (n_queries, n_rows)."""
    queries = check_query_vectors(store, queries)
    rows = np.asarray(rows, dtype=np.intp)
    scores = np.empty((len(queries), len(rows)), dtype=np.float32)
    for i in slices(len(queries), _SCORED[0]):
        points = store.to_stored(queries[i]).astype(np.float64)
        for j in slices(len(rows), _SCORED[1]):
            gallery = store.stored(rows[j]).astype(np.float64)
            if store.metric == "euclidean":
                scores[i, j] = -cdist(points, gallery)
            else:
                scores[i, j] = points @ gallery.T
    return scores


KthKeys = Callable[[NDArray, NDArray, NDArray], NDArray]


class _Best:
    """The best rows of each query so far, and all others that may yet be as good."""

    def __init__(self, comparison: Comparison, k: int):
        self.comparison = comparison
        self.k = k
        self.n_queries = len(comparison.points)
        self._active = comparison.store.active
        # Below these fast keys a row cannot be among the best.
        self._bars = np.full(self.n_queries, -np.inf, dtype=np.float32)
        self._queries = np.empty(0, dtype=np.intp)
        self._rows = np.empty(0, dtype=np.intp)
        self._keys = np.empty(0, dtype=np.float32)
        self._pending: list[tuple[NDArray, NDArray, NDArray]] = []
        self._n_pending = 0
        self._good = np.empty(comparison.block_size + 7, dtype=bool)

    def offer(self, block: slice, part: slice, keys: NDArray[np.float32]) -> None:
        """Take those of a block of rows that may be among the best."""
        active = None if self._active is None else self._active[block]
        bars = self._bars[part]
        if bars.min() == -np.inf:
            bars = self._bars[part] = np.maximum(
                bars, self._first_bars(part, keys, active)
            )
        found = self._at_least(keys, bars)
        rows, queries = np.divmod(found, keys.shape[1])
        if active is not None:
            there = active[rows]
            rows, queries, found = rows[there], queries[there], found[there]
        self._pending.append(
            (queries + part.start, rows + block.start, keys.reshape(-1)[found])
        )
        self._n_pending += found.size
        if self._n_pending >= max(2 * self.n_queries * self.k, _FEWEST_PENDING):
            self._prune()

    def _at_least(self, keys: NDArray[np.float32], bars: NDArray) -> NDArray[np.intp]:
        """Return the positions in `keys` that are not below their query's bar."""
        # Eight rows in a line: numpy is far faster where its inner loop is long.
        n_tiles = 8 if len(keys) % 8 == 0 else 1
        lines = keys.reshape(-1, n_tiles * keys.shape[1])
        flags = self._good[: -(-keys.size // 8) * 8]
        flags[keys.size :] = False
        good = flags[: keys.size].reshape(lines.shape)
        np.greater_equal(lines, np.tile(bars, n_tiles), out=good)
        # Few are; of eight flags at a time most are none.
        eights = np.flatnonzero(flags.view(np.uint64) != 0)
        positions = (8 * eights[:, None] + np.arange(8)).reshape(-1)
        return positions[flags[positions]]

    def _first_bars(self, part: slice, keys: NDArray, active) -> NDArray | float:
        """Return bars from one block alone."""
        candidates = (keys if active is None else keys[active]).T
        n_rows = candidates.shape[1]
        if n_rows < self.k:
            return -np.inf
        kth = np.partition(candidates, n_rows - self.k, axis=1)[:, n_rows - self.k]
        return _below(kth - 2 * self.comparison.margin[part])

    def _gather(self) -> None:
        parts = [(self._queries, self._rows, self._keys), *self._pending]
        self._queries, self._rows, self._keys = (
            np.concatenate(column) for column in zip(*parts, strict=True)
        )
        self._pending, self._n_pending = [], 0

    def _prune(self) -> None:
        """Raise the bars, and drop what is below them."""
        self._gather()
        most = 4 * self.n_queries * self.k + _FEWEST_PENDING
        kept = self._raise_bars(_coarse_kth)
        if len(kept) > most / 2:
            kept = self._raise_bars(_fine_kth)
        if len(kept) > most:
            self._settle()  # many rows are as good as equal
        else:
            self._keep(kept)

    def _raise_bars(self, kth_keys: KthKeys) -> NDArray[np.intp]:
        """Return what is not below the new bars."""
        counts = np.bincount(self._queries, minlength=self.n_queries)
        full = np.flatnonzero(counts >= self.k)
        places = (np.cumsum(counts) - counts)[full] + self.k - 1
        kth = kth_keys(self._queries, self._keys, places)
        bars = _below(kth - 2 * self.comparison.margin[full])
        self._bars[full] = np.maximum(self._bars[full], bars)
        return np.flatnonzero(self._keys >= self._bars[self._queries])

    def _settle(self) -> NDArray:
        """Keep the truly best of each query, in order; return their true keys."""
        keep = np.flatnonzero(self._keys >= self._bars[self._queries])
        exact = self.comparison.exact(self._queries[keep], self._rows[keep])
        order = np.lexsort((self._rows[keep], -exact, self._queries[keep]))
        counts = np.bincount(self._queries[keep], minlength=self.n_queries)
        place = np.arange(len(keep)) - np.repeat(np.cumsum(counts) - counts, counts)
        order = order[place < self.k]
        self._keep(keep[order])
        return exact[order]

    def _keep(self, kept: NDArray[np.intp]) -> None:
        self._queries, self._rows = self._queries[kept], self._rows[kept]
        self._keys = self._keys[kept]

    def finish(self) -> tuple[NDArray, NDArray[np.intp]]:
        """Return the similarities and rows of each query, best first."""
        self._prune()
        exact = self._settle().reshape(self.n_queries, self.k)
        return self.comparison.sign * exact, self._rows.reshape(exact.shape)


def _below(values: NDArray) -> NDArray[np.float32]:
    """Round down to float32."""
    return np.nextafter(values.astype(np.float32), np.float32(-np.inf))


def _rising(bits: NDArray[np.int32]) -> NDArray[np.int32]:
    """Turn the bits of floats into integers that rise as the floats do, or back."""
    return np.where(bits < 0, np.int32(-(2**31)) - bits, bits)


def _fine_kth(queries: NDArray, keys: NDArray, places: NDArray) -> NDArray:
    """Return the keys at some places of all, sorted by query and falling key."""
    return keys[
        np.argsort((queries << 33) - _rising(keys.view(np.int32)).astype(np.int64))[
            places
        ]
    ]


def _coarse_kth(queries: NDArray, keys: NDArray, places: NDArray) -> NDArray:
    """Return bounds of them from below, by half of their bits: a much faster sort."""
    high = (_rising(keys.view(np.int32)) >> 16).astype(np.int16)
    order = np.lexsort((~high, queries.astype(np.uint16)))
    floor = high[order[places]].astype(np.int32) << 16
    return _rising(floor).view(np.float32)
