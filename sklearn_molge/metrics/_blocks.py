"""Ranks from blocks of similarities: no sorting, memory of a few blocks."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import gen_batches

# A block of similarities: small enough to stay in cache, long enough for BLAS.
_BLOCK_BYTES = 4 * 2**20

Blocks = Iterator[tuple[slice, NDArray]]


def _n_rows_of_block(n_columns: int) -> int:
    return max(1, _BLOCK_BYTES // (8 * n_columns))


def row_batches(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield slices of rows whose similarities to `n_columns` columns fit in a block."""
    return gen_batches(n_rows, _n_rows_of_block(n_columns))


def query_blocks(
    compare: Callable[[NDArray], NDArray],
    queries: NDArray,
    n_columns: int,
    groups: NDArray | None = None,
) -> Blocks:
    """Yield slices of the answer and their similarities, a bounded block at a time."""
    if groups is None:
        for part in row_batches(queries.shape[0], n_columns):
            yield part, compare(queries[part])
        return
    step = _n_rows_of_block(n_columns)
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups))
    first = 0
    while first < len(ends):  # whole groups, as many as fit into a block
        begin = ends[first - 1] if first else 0
        last = max(first + 1, np.searchsorted(ends, begin + step, side="right"))
        rows = order[begin : ends[last - 1]]
        means = group_means(compare(queries[rows]), groups[rows] - first)
        yield slice(first, last), means
        first = int(last)


def group_means(values: NDArray, groups: NDArray) -> NDArray:
    n_groups = groups.max() + 1
    sums = sparse.csr_array(
        (np.ones(len(groups)), (groups, np.arange(len(groups)))),
        shape=(n_groups, len(groups)),
    )
    return (sums @ values) / np.bincount(groups)[:, None]


def rank_blocks(blocks: Blocks, match: NDArray, counts: NDArray) -> NDArray:
    """Mid-rank of the column `match` in each row; column j stands for counts[j]."""
    ranks = np.empty(len(match))
    repeated = counts.max() > 1
    for part, similarities in blocks:
        columns = match[part]
        own = similarities[np.arange(len(columns)), columns][:, None]
        _refuse_nan(similarities, part)
        closer = similarities > own
        not_farther = similarities >= own
        if repeated:
            n_closer, n_not_farther = closer @ counts, not_farther @ counts
        else:
            n_closer = np.count_nonzero(closer, axis=1)
            n_not_farther = np.count_nonzero(not_farther, axis=1)
        ranks[part] = (n_closer + n_not_farther + 1) / 2
    return ranks


def _refuse_nan(similarities: NDArray, part: slice) -> None:
    bad = np.isnan(similarities.min(axis=1))  # min hands a NaN on, without a copy
    if bad.any():
        raise ValueError(
            f"The similarities of {bad.sum()} queries are NaN, first query "
            f"{part.start + int(np.argmax(bad))}; a rank needs numbers."
        )
