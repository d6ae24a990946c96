"""The rank of a query's own molecules among all, without sorting."""

import numpy as np
from numpy.typing import NDArray

from sklearn_molge.retrieval._index._comparison import (
    Comparison,
    check_query_vectors,
    slices,
)
from sklearn_molge.retrieval._index._store import VectorStore

__all__ = ["mid_ranks"]

_MOST_QUERIES = 4096  # at a time


def mid_ranks(
    store: VectorStore,
    queries: NDArray,
    own: list[NDArray[np.intp]],
    *,
    reverse: bool = False,
) -> NDArray[np.float64]:
    """Rank the best of each query's own rows among all rows not removed.

    The rank is ``1 + #(closer) + (#(tied) - 1) / 2``. A query's other own rows do not
    count; rows that are stored alike tie exactly.

    Parameters
    ----------
    store : VectorStore
    queries : ndarray of shape (n_queries, n_components)
        As embedded.
    own : list of ndarray of int
        The rows of each query's molecule, at least one of which is not removed.
    reverse : bool, default=False
        Whether the least similar come first.

    Returns
    -------
    ranks : ndarray of shape (n_queries,)
    """
    queries = check_query_vectors(store, queries)
    own = _check_own(store, own, len(queries))
    ranks = np.empty(len(queries))
    for part in slices(len(queries), _MOST_QUERIES):
        comparison = Comparison(store, queries[part], reverse=reverse)
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
            f"queries {empty[:20]}."
        )
    return [np.unique(rows) for rows in own]


def _ranks(comparison: Comparison, own: list[NDArray[np.intp]]) -> NDArray:
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
        closer[part] += np.add.reduce(above.view(np.uint8), axis=0, dtype=np.uint16)
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
