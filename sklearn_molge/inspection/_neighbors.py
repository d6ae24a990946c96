"""Whether molecules of one mechanism of action are each other's neighbours."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils import check_consistent_length, check_random_state, gen_batches

from sklearn_molge._compat import validate_params
from sklearn_molge._utils.groups import split_classes
from sklearn_molge._utils.resampling import percentile_interval, resampled_sums
from sklearn_molge._utils.similarity import METRICS
from sklearn_molge.base import identify_drugs
from sklearn_molge.inspection._tied_order import (
    CONSTRAINTS,
    TIE_TOLERANCE,
    check_embeddings,
    random_scores,
    tied_orders,
)

__all__ = [
    "NeighborChange",
    "SameClassNeighbors",
    "class_members",
    "neighbor_change",
    "same_class_neighbors",
]

Codes = NDArray[np.intp]
Floats = NDArray[np.float64]

# Rows that molecules are dealt to, and pairs of molecules that are scored, at a time.
_MOST_DEALT, _PAIRS = 2**25, 2**18
_SCORES = ["rate", "average_precision"]


@dataclass(frozen=True, eq=False)
class SameClassNeighbors:
    """How often near molecules share a class; see :func:`same_class_neighbors`.

    Attributes
    ----------
    n_neighbors : int
        Number of nearest molecules looked at, k.
    n_molecules : int
        Labelled molecules: each query is compared with all others of them.
    n_queries : int
        Those that share a class with another one; the scores are means over these.
    rate : float
        Mean share of the k nearest other molecules that share a class.
    interval : tuple of float
        Percentile interval (low, high) of `rate`, from resampling whole classes.
    expected : float
        `rate` when labels are dealt at random.
    p_value : float
        One-sided, from permuting the labels: that chance has such a `rate` or more.
    average_precision : float
        Mean over the queries of the average precision of their list of all other
        molecules, those that share a class being relevant.
    average_precision_interval : tuple of float
    expected_average_precision, average_precision_p_value : float
        As above.
    table : DataFrame
        One row per class of two molecules or more, the largest first, index "class":
        n_molecules, rate, expected, average_precision, expected_average_precision.
        Here a neighbour counts if it is of this very class.
    molecules : DataFrame
        One row per query, index its drug, or its row without `drugs`: rate,
        average_precision, n_same_class (how many others share a class) and
        largest_class (the one of its classes that has most molecules).
    """

    n_neighbors: int
    n_molecules: int
    n_queries: int
    rate: float
    interval: tuple[float, float]
    expected: float
    p_value: float
    average_precision: float
    average_precision_interval: tuple[float, float]
    expected_average_precision: float
    average_precision_p_value: float
    table: pd.DataFrame = field(repr=False)
    molecules: pd.DataFrame = field(repr=False)


@dataclass(frozen=True, eq=False)
class NeighborChange:
    """What an embedding changes; see :func:`neighbor_change`.

    Attributes
    ----------
    before, after : SameClassNeighbors
    table : DataFrame
        Index "rate" and "average_precision"; columns "before", "after", "difference"
        (after minus before), and "low" and "high", its percentile interval.
    """

    before: SameClassNeighbors
    after: SameClassNeighbors
    table: pd.DataFrame


@validate_params(CONSTRAINTS, prefer_skip_nested_validation=True)
def same_class_neighbors(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    drugs: ArrayLike | None = None,
    n_neighbors: int = 5,
    metric: str = "correlation",
    n_permutations: int = 1000,
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> SameClassNeighbors:
    r"""How often the nearest molecules share a mechanism of action, and by chance.

    Parameters
    ----------
    embeddings : array-like or sparse matrix of shape (n_samples, n_features)
        Molecules: fingerprints, or ``transform(X)`` of an embedder.
    labels : array-like of shape (n_samples,)
        Classes of each row, joined by "|" as in ``study.obs["moa"]``. Two molecules
        match if they share one. A row without a class (empty, NaN, None) is left out,
        as query and as neighbour: its mechanism is unknown, not another one.
    drugs : array-like of shape (n_samples,), default=None
        Identity of each row's molecule. The rows of one drug become one molecule:
        their mean, with all classes of its rows. By default each row is a molecule.
    n_neighbors : int, default=5
        Number of nearest molecules looked at, k; less than the number of labelled
        molecules.
    metric : {"correlation", "cosine", "dot", "euclidean", "jaccard", "tanimoto"}, \
            default="correlation"
        How near two molecules are, see
        :func:`~sklearn_molge.metrics.pairwise_similarity`; "jaccard" suits
        fingerprints.
    n_permutations : int, default=1000
        Number of permutations of the labels over the labelled molecules.
    n_resamples : int, default=2000
        Number of bootstrap samples of the classes.
    confidence_level : float, default=0.95
        Coverage of the intervals, in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Controls the permutations and the resampling.

    Returns
    -------
    result : SameClassNeighbors
        With `rate`, `interval`, `expected`, `p_value`, the same of
        `average_precision`, and the data frames `table` (one row per class) and
        `molecules` (one row per query).

    Raises
    ------
    ValueError
        If lengths disagree, a drug is missing, a value is NaN or infinite,
        `n_neighbors` is too large, or no two molecules share a class.

    See Also
    --------
    neighbor_change : Whether an embedding brings the classes together.
    cell_line_mixing : The opposite question, of profiles and cell lines.

    Notes
    -----
    Queries are the labelled molecules that share a class with another. A class with
    fewer than k others cannot reach rate 1. Ties count with their mean over all
    orders of the tied molecules, exactly. For a query with m matches among N others,
    random labels give, with :math:`H_N = \sum_{r \le N} 1/r`,

    .. math:: E[\mathrm{rate}] = \frac{m}{N}, \qquad
              E[\mathrm{AP}] = \frac{1}{N} \left(H_N
              + \frac{m - 1}{N - 1} (N - H_N)\right).

    The p-value is :math:`(1 + \#\{s^* \ge s\}) / (1 + n_\mathrm{permutations})`.

    The intervals resample whole classes, a molecule of several going with the one
    that most molecules share: neighbours count for each other, so that the molecules
    of a class are no independent queries, and resampling them one by one gives
    intervals that are too narrow by a third. With fewer than some 20 classes even these
    are too narrow. Near analogues of one series
    are near in any fingerprint: compare with `neighbor_change`, not with chance
    alone. Time grows with the square of the number of molecules, and memory does not.

    References
    ----------
    Bestgen (2015), "Exact expected average precision of the random baseline for
    system evaluation", Prague Bulletin of Mathematical Linguistics 103.

    Examples
    --------
    >>> from sklearn_molge.inspection import same_class_neighbors
    >>> embeddings = [[0, 0], [0, 1], [5, 0], [5, 1], [9, 9]]
    >>> moa = ["EGFR inhibitor", "EGFR inhibitor|HER2 inhibitor", "HDAC inhibitor",
    ...        "HDAC inhibitor", None]
    >>> result = same_class_neighbors(
    ...     embeddings, moa, n_neighbors=1, metric="euclidean", random_state=0
    ... )
    >>> result.rate, round(result.expected, 2)
    (1.0, 0.33)
    """
    rng = check_random_state(random_state)
    array = check_embeddings(embeddings, metric)
    ids, array, member, names = _labelled_molecules(array, labels, drugs)
    matches = _matches(member)
    n_molecules = len(ids)
    if n_neighbors >= n_molecules:
        raise ValueError(
            "n_neighbors must be less than the number of labelled molecules, "
            f"{n_molecules}. Got {n_neighbors}."
        )
    scores, in_class, null = _scores(
        partial(tied_orders, array, metric, n_neighbors),
        member,
        matches,
        (rng.permutation(n_molecules).astype(np.int32) for _ in range(n_permutations)),
    )
    n_same = np.diff(matches.indptr)
    is_query = n_same > 0
    found = scores[is_query]
    observed = found.mean(axis=0)
    null /= is_query.sum()
    extreme = np.sum(null >= observed - TIE_TOLERANCE, axis=0)
    p_values = (1 + extreme) / (1 + n_permutations)
    expected = random_scores(n_same[is_query], n_molecules - 1).mean(axis=0)
    molecules = pd.DataFrame(found, columns=_SCORES, index=ids[is_query])
    molecules["n_same_class"] = n_same[is_query]
    classes = molecules["largest_class"] = names[_largest_class(member)[is_query]]
    low, high = _mean_intervals(found, classes, n_resamples, confidence_level, rng)
    return SameClassNeighbors(
        n_neighbors=n_neighbors,
        n_molecules=n_molecules,
        n_queries=int(is_query.sum()),
        rate=float(observed[0]),
        interval=(float(low[0]), float(high[0])),
        expected=float(expected[0]),
        p_value=float(p_values[0]),
        average_precision=float(observed[1]),
        average_precision_interval=(float(low[1]), float(high[1])),
        expected_average_precision=float(expected[1]),
        average_precision_p_value=float(p_values[1]),
        table=_class_table(in_class, member, names),
        molecules=molecules,
    )


@validate_params(
    {**CONSTRAINTS, "metric": [*CONSTRAINTS["metric"], tuple]},
    prefer_skip_nested_validation=True,
)
def neighbor_change(
    before: ArrayLike,
    after: ArrayLike,
    labels: ArrayLike,
    *,
    drugs: ArrayLike | None = None,
    n_neighbors: int = 5,
    metric: str | tuple[str, str] = "correlation",
    n_permutations: int = 1000,
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> NeighborChange:
    """Whether an embedding brings the molecules of a class together.

    Parameters
    ----------
    before, after : array-like or sparse matrix of shape (n_samples, n_features)
        The same molecules, row by row: for example fingerprints and ``transform(X)``.
    labels : array-like of shape (n_samples,)
        Classes of each row, joined by "|".
    metric : str or tuple of two str, default="correlation"
        How near two molecules are; a tuple for `before` and `after`, as
        ``("jaccard", "correlation")``.
    drugs, n_neighbors, n_permutations, n_resamples, confidence_level, random_state
        As in :func:`same_class_neighbors`.

    Returns
    -------
    change : NeighborChange
        With `before` and `after`, as :func:`same_class_neighbors` returns them, and
        `table`: the differences with paired intervals, each resample holding the same
        classes on both sides.

    Raises
    ------
    ValueError
        As :func:`same_class_neighbors`, or if `before` and `after` differ in length.

    Examples
    --------
    >>> from sklearn_molge.inspection import neighbor_change
    >>> before = [[0, 0], [5, 0], [0, 1], [5, 1]]
    >>> after = [[0, 0], [0, 1], [5, 0], [5, 1]]
    >>> change = neighbor_change(
    ...     before, after, ["a", "a", "b", "b"], n_neighbors=1, metric="euclidean",
    ...     random_state=0,
    ... )
    >>> change.table["difference"]
    rate                 1.0
    average_precision    0.5
    Name: difference, dtype: float64
    """
    check_consistent_length(before, after)
    metrics = metric if isinstance(metric, tuple) else (metric, metric)
    if len(metrics) != 2 or not METRICS.issuperset(metrics):
        raise ValueError(
            "metric must be one, or a tuple of two, of "
            f"{', '.join(map(repr, sorted(METRICS)))}. Got {metric!r}."
        )
    rng = check_random_state(random_state)
    results = [
        same_class_neighbors(
            embeddings,
            labels,
            drugs=drugs,
            n_neighbors=n_neighbors,
            metric=name,
            n_permutations=n_permutations,
            n_resamples=n_resamples,
            confidence_level=confidence_level,
            random_state=rng,
        )
        for embeddings, name in zip((before, after), metrics, strict=True)
    ]
    old, new = (result.molecules[_SCORES].to_numpy() for result in results)
    classes = results[0].molecules["largest_class"]
    low, high = _mean_intervals(new - old, classes, n_resamples, confidence_level, rng)
    columns = {"before": old.mean(axis=0), "after": new.mean(axis=0)}
    table = pd.DataFrame(columns, index=_SCORES)
    table["difference"] = table["after"] - table["before"]
    return NeighborChange(results[0], results[1], table.assign(low=low, high=high))


def _labelled_molecules(array, labels: ArrayLike, drugs: ArrayLike | None):
    """Return ids, embeddings and classes of the labelled molecules, and class names."""
    check_consistent_length(array, labels)
    if drugs is None:
        ids = codes = np.arange(array.shape[0])
    else:
        texts = identify_drugs(array, drugs, np.empty(0))
        ids, codes = np.unique(texts, return_inverse=True)
    member, names = class_members(labels, codes)
    rows = np.arange(len(codes))
    of_molecule = sparse.csr_array((np.ones(len(codes)), (codes, rows)))
    labelled = np.flatnonzero(member.sum(axis=1))
    if drugs is not None:
        means = of_molecule.multiply(1 / of_molecule.sum(axis=1)[:, None]).tocsr()
        array = means @ array
    return ids[labelled], array[labelled], member[labelled], names


def class_members(
    labels: ArrayLike, codes: Codes, *, sep: str = "|"
) -> tuple[sparse.csr_array, NDArray]:
    """Return which molecule (row) is of which class, and the names of the classes.

    `codes` are the molecules of the rows of `labels`: 0, 1, ...
    """
    binarizer = MultiLabelBinarizer(sparse_output=True)
    rows, columns = binarizer.fit_transform(split_classes(labels, sep=sep)).nonzero()
    shape = codes.max(initial=-1) + 1, len(binarizer.classes_)
    member = sparse.csr_array((np.ones(len(rows)), (codes[rows], columns)), shape)
    return sparse.csr_array(member > 0, dtype=np.int64), binarizer.classes_


def _matches(member: sparse.csr_array) -> sparse.csr_array:
    """Return which molecules share a class with which others."""
    is_member = member.astype(bool)
    matches = is_member @ is_member.T
    matches.setdiag(False)
    matches.eliminate_zeros()
    if not matches.nnz:
        raise ValueError(
            "labels must name a class that two molecules share. Got "
            f"{member.shape[0]} labelled molecules, no two of one class."
        )
    return matches


def _largest_class(member: sparse.csr_array) -> Codes:
    """Return each molecule's class with most molecules, of equal ones the first."""
    rows, classes = member.nonzero()
    order = np.lexsort((classes, -member.sum(axis=0)[classes], rows))
    return classes[order[member.indptr[:-1]]]


def _scores(orders, member, matches, deals) -> tuple[Floats, Floats, Floats]:
    """Score the molecules, and what is needed to judge that.

    Parameters
    ----------
    orders : callable
        Returns an iterator over the orders of all molecules.
    member, matches : csr_array
        Classes of the molecules; which of them share one.
    deals : iterator of ndarray
        Permutations: the row that each molecule is dealt to.

    Returns
    -------
    scores : ndarray of shape (n_molecules, 2)
    in_class : ndarray of shape (member.nnz, 2)
        Scores of each molecule with each of its classes alone.
    null : ndarray of shape (n_deals, 2)
        Sums over the molecules, as dealt.
    """
    n = member.shape[0]
    of_class = sparse.csr_array(member.T)
    scores, in_class, null = np.empty((n, 2)), np.empty((member.nnz, 2)), []
    while some := list(islice(deals, max(1, _MOST_DEALT // n))):
        dealt = np.stack(some)
        owners = np.empty_like(dealt)
        for owner, deal in zip(owners, dealt, strict=True):
            owner[deal] = np.arange(n)
        sums = np.zeros((len(dealt), 2))
        for order in orders():
            rows = np.arange(order.rows.start, order.rows.stop)
            queries, others = _entries(matches, rows)
            scores[rows] = order.scores(queries, rows[queries], others, len(rows))
            entries = slice(*member.indptr[[rows[0], rows[-1] + 1]])
            rows = np.repeat(rows, np.diff(member.indptr)[order.rows])
            queries, others = _entries(of_class, member.indices[entries])
            apart = others != rows[queries]
            queries, others = queries[apart], others[apart]
            in_class[entries] = order.scores(queries, rows[queries], others, len(rows))
            sums += _dealt_sums(order, matches, dealt, owners)
        null.append(sums)
    return scores, in_class, np.concatenate(null)


def _dealt_sums(order, matches, dealt, owners) -> Floats:
    """Return the sums of the scores at the rows of an order, one row per deal.

    The molecule at a row of deal i is `owners` [i, row], and the reverse is `dealt`.
    """
    n, sums = matches.shape[0], np.empty((len(dealt), 2))
    n_rows = order.rows.stop - order.rows.start
    step = max(1, int(_PAIRS * n / (n_rows * matches.nnz)))
    for part in gen_batches(len(dealt), step):
        queries, others = _entries(matches, owners[part, order.rows].reshape(-1))
        deals, rows = np.divmod(queries, n_rows)
        others = dealt[part].reshape(-1)[deals * n + others]
        n_queries = (part.stop - part.start) * n_rows
        found = order.scores(queries, rows + order.rows.start, others, n_queries)
        sums[part] = found.reshape(-1, n_rows, 2).sum(axis=1)
    return sums


def _entries(matrix: sparse.csr_array, rows: Codes) -> tuple[Codes, Codes]:
    """Return the columns of the entries of some rows, and which of these each is of."""
    begin = matrix.indptr[rows]
    sizes = matrix.indptr[rows + 1] - begin
    of = np.repeat(np.arange(len(rows)), sizes)
    places = np.arange(len(of)) + np.repeat(begin - np.cumsum(sizes) + sizes, sizes)
    return of, matrix.indices[places]


def _class_table(in_class, member, names) -> pd.DataFrame:
    sizes = member.sum(axis=0)
    of_class = np.split(np.argsort(member.indices, kind="stable"), np.cumsum(sizes))
    shared = np.argsort(-sizes, kind="stable")[: np.count_nonzero(sizes > 1)]
    scores = np.array([in_class[of_class[i]].mean(axis=0) for i in shared])
    table = pd.DataFrame(scores, columns=_SCORES, index=names[shared])
    table.insert(0, "n_molecules", sizes[shared])
    expected = random_scores(sizes[shared] - 1, member.shape[0] - 1)
    table.insert(2, "expected", expected[:, 0])
    table["expected_average_precision"] = expected[:, 1]
    return table.rename_axis("class")


def _mean_intervals(values, classes, n_resamples, confidence_level, rng) -> Floats:
    """Return (low, high) of each column's mean over resampled classes of rows."""
    codes = np.unique(np.asarray(classes, dtype=str), return_inverse=True)[1]
    columns = [*values.T, np.ones(len(values))]
    sums = np.column_stack([np.bincount(codes, column) for column in columns])
    *totals, n_rows = resampled_sums(sums, n_resamples, rng).T
    return percentile_interval(np.array(totals) / n_rows, confidence_level)
