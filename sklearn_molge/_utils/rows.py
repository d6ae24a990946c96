"""Rows: text or features, distinct ones, means of groups, blocks."""

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from scipy.special import ndtri
from scipy.stats import rankdata
from sklearn.utils import gen_batches
from sklearn.utils.extmath import row_norms

from sklearn_molge._compat import _safe_indexing
from sklearn_molge._utils.typing import Matrix, Rows

__all__ = [
    "as_indexable",
    "as_smiles_array",
    "distinct_rows",
    "draw_rows",
    "factorize_texts",
    "group_means",
    "has_text",
    "is_text",
    "means_of_groups",
    "normal_scores",
    "query_blocks",
    "rank_blocks",
    "row_batches",
    "row_bytes",
    "row_texts",
    "standardize_rows",
    "take_distinct",
]

# A block of similarities: small enough to stay in cache, long enough for BLAS.
_BLOCK_BYTES = 4 * 2**20

Blocks = Iterator[tuple[slice, NDArray]]


def as_indexable(X):
    """Return X as it is where rows can be taken from it, and as an array otherwise."""
    if sparse.issparse(X) and X.format in {"bsr", "coo", "dia"}:
        return X.tocsr()
    if not hasattr(X, "shape") or isinstance(X, memoryview):
        return _as_array(X)
    is_frame = hasattr(X, "columns") and hasattr(X, "dtypes")
    if is_frame and any(getattr(t, "byteorder", "=") == ">" for t in X.dtypes):
        return X.astype(np.float64)  # pandas takes no rows of big-endian numbers
    return X


def as_smiles_array(X: ArrayLike) -> NDArray[np.object_]:
    """Return X as a 1-D object array, without looking at the entries."""
    array = np.asarray(X, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(
            "X must be a 1-D array-like of SMILES, or have a single column. "
            f"Got an array of shape {array.shape}."
        )
    return array


def factorize_texts(
    array: NDArray[np.object_], *, sort: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Return each entry's place among the distinct ones, and these.

    Entries in the order of their first, or sorted. Unlike ``pandas.factorize``, which
    ends a text at NUL, and an array of fixed width, which drops NUL at the end, it
    keeps texts apart that are not equal. What is no text is equal to itself alone, so
    that lists may be among the entries.
    """
    places: dict[object, int] = {}
    keys = (entry if isinstance(entry, str) else (id(entry),) for entry in array)
    found = (places.setdefault(key, len(places)) for key in keys)
    codes = np.fromiter(found, dtype=np.intp, count=len(array))
    distinct = np.empty(len(places), dtype=object)
    distinct[codes[::-1]] = array[::-1]
    if sort:
        order = np.array(sorted(range(len(distinct)), key=distinct.__getitem__), int)
        codes, distinct = np.argsort(order)[codes], distinct[order]
    return codes, distinct


def _as_array(X) -> NDArray:
    try:
        return np.asarray(X)
    except ValueError:  # numpy names neither X nor its rows
        raise ValueError(
            "X must be SMILES, or rows of features of one length. Got rows of "
            "different lengths, or lists inside."
        ) from None


def is_text(X) -> bool:
    """Whether X is one column of text: SMILES, not features."""
    if sparse.issparse(X):
        return False
    array = _as_array(X)
    one_column = array.ndim == 1 or array.shape[1:] == (1,)
    return one_column and (array.dtype == object or array.dtype.kind in "UST")


def distinct_rows(X) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Find equal rows of text or features.

    Returns
    -------
    first : ndarray of shape (n_distinct,)
        Position of the first of each distinct row.
    codes : ndarray of shape (n_rows,)
        Each row's number among the distinct ones, which does not depend on the order
        of the rows.
    """
    if sparse.issparse(X):
        return _distinct_keys(_each_row_bytes(X), X.shape[0])
    array = _as_numbers(_as_array(X))
    if is_text(array):
        return _distinct_keys(map(str, array.reshape(-1).tolist()), len(array))
    if array.ndim != 2 or not array.shape[1] or array.dtype.kind == "V":
        raise ValueError(
            "X must be a 1-D array-like of SMILES or a 2-D array-like of features. "
            f"Got an array of shape {array.shape} and dtype {array.dtype}."
        )
    if array.dtype.kind in "OUST":
        return _distinct_keys(row_texts(array), len(array))
    return _distinct_keys(_each_row_bytes(array), len(array))


def _distinct_keys(keys: Iterable[str] | Iterable[bytes], n: int):
    """Find equal keys by their hashes; a dict compares keys of one hash."""
    places: dict[str | bytes, int] = {}
    found = np.fromiter((places.setdefault(k, len(places)) for k in keys), np.intp, n)
    distinct = list(places)
    order = np.array(sorted(range(len(distinct)), key=distinct.__getitem__), np.intp)
    first = np.empty(len(distinct), dtype=np.intp)
    first[found[::-1]] = np.arange(n)[::-1]
    number = np.empty(len(distinct), dtype=np.intp)
    number[order] = np.arange(len(distinct))
    return first[order], number[found]


def draw_rows(
    array: NDArray, most: int, rng: np.random.RandomState, *, codes: NDArray
) -> NDArray[np.intp]:
    """Draw rows, all if there are no more, in whatever order they come the same ones.

    Equal rows are told apart by `codes`.
    """
    if len(array) <= most:
        return np.arange(len(array))
    order = np.lexsort((codes, distinct_rows(array)[1]))
    return np.sort(order[rng.permutation(len(order))[:most]])


def has_text(X) -> bool:
    """Whether X is a table with text in it, such as SMILES beside doses."""
    return not sparse.issparse(X) and _as_numbers(np.asarray(X)).dtype.kind in "OUST"


def row_texts(array: NDArray) -> NDArray[np.object_]:
    """Write each row as one text, of SMILES or of columns of several kinds."""
    rows = array.reshape(len(array), -1).tolist()
    texts = ("\x1f".join(map(str, row)) for row in rows)
    return np.fromiter(texts, dtype=object, count=len(array))


def _as_numbers(array: NDArray) -> NDArray:
    """Return features that came as objects as what they are: numbers, if all are."""
    if array.dtype == object and array.ndim == 2 and array.shape[1] > 1:
        try:
            return array.astype(np.float64)
        except (TypeError, ValueError, OverflowError):
            return array
    return array


def take_distinct(X: Rows) -> tuple[Matrix, NDArray[np.intp]]:
    """Return the distinct rows of X, and for each row of X its place among them."""
    X = as_indexable(X)
    first, codes = distinct_rows(X)
    return _safe_indexing(X, first), codes


def row_bytes(X) -> NDArray[np.object_]:
    """Return each row as bytes, equal for equal numbers of one precision."""
    keys = np.empty(X.shape[0], dtype=object)
    keys[:] = list(_each_row_bytes(X))
    return keys


def _each_row_bytes(X) -> Iterator[bytes]:
    """Yield each row as bytes, a block of rows at a time."""
    if sparse.issparse(X):
        yield from _each_sparse_row_bytes(sparse.csr_array(X))
        return
    for part in row_batches(X.shape[0], max(1, X.shape[1])):
        rows = np.ascontiguousarray(X[part])
        if rows.dtype.kind not in "biu" or not rows.dtype.isnative:
            rows = rows + 0  # no negative zero, bytes in the order of this machine
        yield from map(np.ndarray.tobytes, rows)


def _each_sparse_row_bytes(X: sparse.csr_array) -> Iterator[bytes]:
    for part in row_batches(X.shape[0], max(1, X.shape[1])):
        rows = sparse.csr_array(X[part], copy=True)  # a slice may share its values
        rows.sum_duplicates()
        rows.eliminate_zeros()
        columns, values = rows.indices.astype(np.int64), rows.data.astype(np.float64)
        for begin, end in pairwise(rows.indptr):
            yield columns[begin:end].tobytes() + values[begin:end].tobytes()


def standardize_rows(array: NDArray) -> NDArray:
    """Centre each row and scale it to unit length; a constant row becomes zero."""
    with np.errstate(over="ignore", invalid="ignore"):
        centred = array - array.mean(axis=1, keepdims=True)
        norms = row_norms(centred)
    smallest = np.sqrt(np.finfo(array.dtype).tiny) / np.finfo(array.dtype).eps
    if not np.all((norms > smallest) & np.isfinite(norms)):
        # Squares that overflow or vanish, which are not those of a constant row.
        tiny = np.finfo(array.dtype).smallest_subnormal
        array = array / np.maximum(np.abs(array).max(axis=1, keepdims=True), tiny)
        centred = array - array.mean(axis=1, keepdims=True)
        norms = row_norms(centred)
    # The centring of a constant row leaves rounding errors, which are not a direction.
    noise = 10 * np.finfo(array.dtype).eps * row_norms(array)
    constant = norms <= noise
    norms[constant] = 1.0
    centred /= norms[:, None]
    centred[constant] = 0.0
    return centred


def normal_scores(array: NDArray) -> NDArray:
    """Replace the values of each row by normal quantiles of their ranks; NaN stays."""
    scores = np.empty(array.shape, array.dtype)
    # The order of the rows takes several times their memory.
    for part in row_batches(*array.shape) if len(array) else ():
        _write_normal_scores(array[part], scores[part])
    return scores


def _write_normal_scores(array: NDArray, scores: NDArray) -> None:
    n = array.shape[1]
    order = np.argsort(array, axis=1)
    ordered = np.take_along_axis(array, order, axis=1)
    quantiles = ndtri((np.arange(n) + 0.5) / n).astype(array.dtype)
    np.put_along_axis(scores, order, quantiles[None], axis=1)
    # Of ties the mean rank, and NaN (which sort last) have none.
    tied = np.isnan(ordered[:, -1]) | (ordered[:, 1:] == ordered[:, :-1]).any(axis=1)
    if tied.any():
        ranks = rankdata(array[tied], axis=1, nan_policy="omit")
        known = np.count_nonzero(~np.isnan(array[tied]), axis=1, keepdims=True)
        scores[tied] = ndtri((ranks - 0.5) / known)


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
            yield part, compare(_safe_indexing(queries, part))
        return
    step = _n_rows_of_block(n_columns)
    order = np.argsort(groups, kind="stable")
    ends = np.cumsum(np.bincount(groups))
    first = 0
    while first < len(ends):  # whole groups, as many as fit into a block
        begin = ends[first - 1] if first else 0
        last = max(first + 1, np.searchsorted(ends, begin + step, side="right"))
        rows = order[begin : ends[last - 1]]
        means = group_means(
            compare(_safe_indexing(queries, rows)), groups[rows] - first
        )
        yield slice(first, last), means
        first = int(last)


def group_means(
    values: NDArray, groups: NDArray, weights: NDArray | None = None
) -> NDArray:
    """Return the mean of each group, of rows that weigh more than 0."""
    n_groups = groups.max() + 1
    each = np.ones(len(groups)) if weights is None else weights
    sums = sparse.csr_array(
        (each, (groups, np.arange(len(groups)))), shape=(n_groups, len(groups))
    )
    totals = np.bincount(groups, weights)[:, None]
    if sparse.issparse(values) or values.dtype == np.float64:
        return (sums @ values) / totals
    # scipy makes float64 of all: a few columns at a time.
    means = np.empty((n_groups, values.shape[1]))
    for part in row_batches(values.shape[1], len(values)):
        means[:, part] = sums @ values[:, part]
    means /= totals
    return means


def means_of_groups(
    values: NDArray, labels: NDArray, weights: NDArray | None = None
) -> NDArray:
    """Replace each row by the mean of the rows with its label.

    Examples
    --------
    >>> from sklearn_molge._utils.rows import means_of_groups
    >>> means_of_groups(np.array([[1.0], [3.0], [9.0]]), np.array(["a", "a", "b"]))
    array([[2.],
           [2.],
           [9.]])
    """
    codes = np.unique(labels, return_inverse=True)[1]
    return group_means(values, codes, weights)[codes].astype(values.dtype, copy=False)


def rank_blocks(blocks: Blocks, match: NDArray, counts: NDArray) -> NDArray:
    """Mid-rank of the column `match` in each row; column j stands for counts[j]."""
    ranks = np.empty(len(match))
    repeated = np.any(counts != 1)
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
