"""Queries against the rows of a store: the closest molecules, and ranks.

A product in float32 finds out which rows may matter; only these are compared again,
pair by pair in float64 and always in the same order, so that equal rows get equal
scores wherever they lie and however the work is cut.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from sklearn_molge._utils.messages import first_few
from sklearn_molge.library._store import VectorStore

__all__ = [
    "LONGEST_VECTOR",
    "RowComparison",
    "check_query_vectors",
    "mid_ranks",
    "scores_of",
    "slices",
    "top_k",
]

_MOST_QUERIES = 4096  # at a time
_MOST_FOUND = 2**22  # rows that are kept at a time, of all queries together
_FEWEST_PENDING = 4096  # worth looking through
_SCORED = (1024, 1024)  # queries and rows of one product in float64
_PART = 1024  # queries of one product
_BLOCK_SCORES = 2**19  # of one product: 2 MiB, which stay in cache
_FEWEST_ROWS = 512  # of one product
_DECODED_VALUES = 2**17  # components that are decoded at a time, and stay in cache
_LONG = 64  # components, from which on one product a row is as fast as BLAS can be
_BAR_GROUPS = 1024  # whose maxima set the first bar
_PAIR_VALUES = 2**20  # components that are multiplied at a time in float64
LONGEST_VECTOR = 1e18  # above, float32 products could overflow
_EPS, _TINY = float(np.finfo(np.float32).eps), float(np.finfo(np.float32).tiny)
_SUBNORMAL = float(np.finfo(np.float32).smallest_subnormal)
_FINER = float(np.finfo(np.float64).eps) / _EPS
_ROUNDING = 1e-6  # in float64


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
    if not np.isfinite(queries).all():
        bad = np.flatnonzero(~np.isfinite(queries).all(axis=1))
        raise ValueError(
            "queries must be finite; a rank needs numbers. "
            f"Got {bad.size} that are not, [{first_few(bad.tolist())}]."
        )
    return queries


class RowComparison:
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
        norms = np.sqrt(np.square(self.points, dtype=np.float64).sum(axis=1))
        longest = store.largest_norm
        if max(longest, norms.max(initial=0)) > LONGEST_VECTOR:
            raise ValueError(
                f"Vectors must not be longer than {LONGEST_VECTOR:g}. Got {longest:g} "
                f"in the store and {norms.max(initial=0):g} among the queries."
            )
        self._squares = norms**2
        self.margin = _margin(store.n_components, norms, longest, self.euclidean)
        # No true key of vectors as they were written is larger.
        self._limits = norms + longest if self.euclidean else norms * longest
        self._limits = self._limits * (1 + _ROUNDING) + _TINY
        self._parts = [
            (part, np.ascontiguousarray(self.sign * self.points[part].T, np.float32))
            for part in slices(len(self.points), _PART)
        ]
        width = max((columns.shape[1] for _, columns in self._parts), default=1)
        block_rows = max(_BLOCK_SCORES // width, _FEWEST_ROWS)
        self._block_rows = max(1, min(block_rows, store.n_rows))
        self.block_size = self._block_rows * width
        self._keys = np.empty(self.block_size, dtype=np.float32)
        # Keys of int8 rows are scaled in the place of the rows where there are fewer.
        self._scales_keys = store.dtype == "int8" and width < store.n_components
        self._piece_rows, n_decoded = self._block_rows, 0
        if store.dtype != "float32":
            n_decoded = max(1, _DECODED_VALUES // store.n_components)
            self._piece_rows = n_decoded = min(n_decoded, self._block_rows)
        self._decoded = np.empty((n_decoded, store.n_components), np.float32)

    def blocks(self) -> Iterator[tuple[slice, slice, NDArray[np.float32]]]:
        """Yield which rows, which queries, and their fast keys (n_rows, n_queries).

        The keys are overwritten by the next block.
        """
        for rows in slices(self.store.n_rows, self._block_rows):
            n_rows = rows.stop - rows.start
            norms = self.store.norms(rows)
            for part, columns in self._parts:
                keys = self._keys[: n_rows * columns.shape[1]].reshape(n_rows, -1)
                self._multiply(rows.start, columns, keys)
                if norms is not None:
                    keys -= np.float32(self.sign / 2) * norms[:, None]
                # A value that is not finite shows with any query.
                self.store.check_vectors(np.isfinite(keys[:, 0]), rows.start)
                yield rows, part, keys

    def _multiply(
        self, start: int, columns: NDArray[np.float32], out: NDArray[np.float32]
    ) -> None:
        """Write the products of rows from `start` on with queries, the columns."""
        is_scaled = not self._scales_keys
        for piece in slices(len(out), self._piece_rows):
            rows = slice(start + piece.start, start + piece.stop)
            gallery = self.store.stored(rows, self._decoded, scaled=is_scaled)
            if columns.shape[1] == 1 and len(columns) >= _LONG:
                np.vecdot(gallery, columns[:, 0], out=out[piece, 0])
            else:
                np.matmul(gallery, columns, out=out[piece])
        if self._scales_keys:
            out *= self.store.scales(slice(start, start + len(out)))[:, None]

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
        self.store.check_vectors(np.abs(keys) <= self._limits[queries], rows)
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
    (Higham, Accuracy and Stability of Numerical Algorithms, 3.5), and underflow: of
    keys, and of decoded rows.
    """
    size = norms * longest
    if euclidean:  # and of the turn from distances to keys
        size = size + longest**2 + norms**2 * _FINER
    tiny = n_components * (_TINY + _SUBNORMAL * norms)
    return (n_components + 16) * _EPS * size + tiny


def top_k(
    store: VectorStore, queries: NDArray, k: int, *, reverse: bool = False
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Find the `k` best rows of each query among those not removed.

    Queries are as embedded; with `reverse` the least similar come first. Returns
    similarities, best first, and rows, both of shape (n_queries, k); equal similarities
    come by row number.
    """
    queries = check_query_vectors(store, queries)
    scores = np.empty((len(queries), k), dtype=np.float32)
    rows = np.empty((len(queries), k), dtype=np.intp)
    if k == 0:
        return scores, rows
    step = int(np.clip(_MOST_FOUND // k, 1, _MOST_QUERIES))
    for part in slices(len(queries), step):
        comparison = RowComparison(store, queries[part], reverse=reverse)
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
            are_good = np.logical_and.reduce(np.isfinite(scores[i, j]), axis=0)
            store.check_vectors(are_good, rows[j])
    return scores


KthKeys = Callable[[NDArray, NDArray, NDArray], NDArray]


class _Best:
    """The best rows of each query so far, and all others that may yet be as good."""

    def __init__(self, comparison: RowComparison, k: int):
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
        if len(bars) == 1:
            return np.flatnonzero(keys >= bars)
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
        """Return bars from one block alone: at least k of its rows reach them.

        Of many rows, k groups have a row that reaches the k-th best maximum of groups.
        """
        candidates = keys if active is None else keys[active]
        n_rows, n_queries = candidates.shape
        if n_rows < self.k:
            return -np.inf
        in_group = n_rows // max(_BAR_GROUPS, 4 * self.k)
        if in_group > 1:
            n_rows //= in_group
            candidates = candidates[: in_group * n_rows]
            groups = candidates.reshape(in_group, n_rows, n_queries)
            candidates = groups.max(axis=0)
        kth = np.partition(candidates.T, n_rows - self.k, axis=1)[:, n_rows - self.k]
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
        if self._n_pending + len(self._rows) > 2 * self.n_queries * self.k:
            self._prune()
        else:
            self._gather()
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


def mid_ranks(
    store: VectorStore,
    queries: NDArray,
    own: list[NDArray[np.intp]],
    *,
    reverse: bool = False,
) -> NDArray[np.float64]:
    """Rank the best of each query's own rows among all rows not removed.

    The rank is ``1 + #(closer) + (#(tied) - 1) / 2``. A query's other own rows do not
    count; rows that are stored alike tie exactly. `own` holds, for each query, the rows
    of its molecule, at least one of which is not removed.
    """
    queries = check_query_vectors(store, queries)
    own = _check_own(store, own, len(queries))
    ranks = np.empty(len(queries))
    for part in slices(len(queries), _MOST_QUERIES):
        comparison = RowComparison(store, queries[part], reverse=reverse)
        ranks[part] = _ranks(comparison, own[part])
    return ranks


def _check_own(store, own, n_queries: int) -> list[NDArray[np.intp]]:
    if len(own) != n_queries:
        raise ValueError(
            f"own must have one entry a query, {n_queries}. Got {len(own)}."
        )
    own = [np.asarray(rows, dtype=np.intp) for rows in own]
    joined = np.concatenate([np.empty(0, np.intp), *own])
    if joined.size and not (0 <= joined.min() and joined.max() < store.n_rows):
        raise ValueError(
            f"own must hold rows from 0 to {store.n_rows - 1}. Got {joined.min()} to "
            f"{joined.max()}."
        )
    active = store.active
    if active is not None:
        own = [rows[active[rows]] for rows in own]
    empty = [i for i, rows in enumerate(own) if not len(rows)]
    if empty:
        raise ValueError(
            "own must hold a row that is not removed for every query. Missing for "
            f"queries [{first_few(empty)}]."
        )
    return [np.unique(rows) for rows in own]


def _ranks(comparison: RowComparison, own: list[NDArray[np.intp]]) -> NDArray:
    active = comparison.store.active
    # Of every own row: its query and number, in the order of rows.
    queries = np.repeat(np.arange(len(own)), [len(rows) for rows in own])
    rows = np.concatenate(own)
    exact = comparison.exact(queries, rows)
    best = np.full(len(own), -np.inf)
    np.maximum.at(best, queries, exact)
    order = np.argsort(rows, kind="stable")
    queries, rows = queries[order], rows[order]
    fast, margin = comparison.as_fast(slice(None), best), comparison.margin
    low, high = fast - margin, fast + margin
    low = np.nextafter(low.astype(np.float32), np.float32(-np.inf))
    high = np.nextafter(high.astype(np.float32), np.float32(np.inf))
    closer, tied = np.zeros(len(own)), np.zeros(len(own))
    for block, part, keys in comparison.blocks():
        if active is not None:
            keys[~active[block]] = -np.inf
        first, last = np.searchsorted(rows, [block.start, block.stop])
        mine = slice(first, last)
        here = (part.start <= queries[mine]) & (queries[mine] < part.stop)
        keys[rows[mine][here] - block.start, queries[mine][here] - part.start] = -np.inf
        above = keys > high[part]
        counter = np.min_scalar_type(len(keys))
        closer[part] += np.add.reduce(above.view(np.uint8), axis=0, dtype=counter)
        near = np.flatnonzero((keys >= low[part]) ^ above)
        if near.size:
            near_rows, near_queries = np.divmod(near, keys.shape[1])
            near_queries += part.start
            difference = (
                comparison.exact(near_queries, near_rows + block.start)
                - best[near_queries]
            )
            for counts, found in ((closer, difference > 0), (tied, difference == 0)):
                counts += np.bincount(near_queries[found], minlength=len(own))
    return 1 + closer + tied / 2
