"""Which mechanisms or targets are enriched among the molecules that are nearest."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, field
from numbers import Integral, Real

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse, stats
from sklearn.utils import check_array, check_consistent_length, check_random_state

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.checks import check_named
from sklearn_molge._utils.groups import count_of, label_text
from sklearn_molge._utils.messages import first_few
from sklearn_molge.base import identify_drugs
from sklearn_molge.inspection._neighbors import class_members

__all__ = ["ClassEnrichment", "class_enrichment", "running_sum"]

# Positions that a block of permutations holds: 32 MB.
_BLOCK_ELEMENTS = 2**22
_ROUNDING = 1e-10
_DEFAULT_SHARE = 0.1
_USUAL_LEVEL = 0.05  # of a q-value
_AT_LEAST_ONE = Interval(Integral, 1, None, closed="left")

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class ClassEnrichment:
    """Classes of the nearest molecules; see :func:`class_enrichment`.

    Attributes
    ----------
    statistic : str
        What `statistic` and `p_value` of the table are of.
    table : DataFrame
        One row a class, the least p-value first. Index "class", or "query" and
        "class"; columns:

        - n: molecules of the class, among all that have a label.
        - n_hits: those among the first k.
        - expected: `n_hits` by chance.
        - statistic, chance: the statistic, and its mean under the null hypothesis.
        - p_value: one-sided, of such a statistic or more.
        - q_value: false discovery rate by Benjamini and Hochberg, over the classes of
          the query.
        - hits: names of the hits, the nearest first, joined by "|".
    queries : DataFrame
        One row a query: n_molecules (ranked), n_labelled, n_unlabelled (left out, with
        a class unknown), k (first molecules that count as hits, with those that tie
        with the last), n_classes (tested) and n_left_out (classes that are too small
        or too large).
    """

    statistic: str
    table: pd.DataFrame = field(repr=False)
    queries: pd.DataFrame


@dataclass(frozen=True)
class _Options:
    """What holds for all queries."""

    statistic: str
    k: int | float | None
    weight: float
    sizes: tuple[float, float]  # of the classes: least, most
    n_permutations: int
    seed: int


@dataclass(frozen=True)
class _Molecules:
    """The distinct molecules of a ranking: classes, names, and similarities."""

    values: Floats  # (n_queries, n_molecules)
    member: sparse.csr_array  # (n_molecules, n_classes)
    classes: NDArray
    names: list[str]


@validate_params(
    {
        "labels": ["array-like", str],
        "sep": [str],
        "names": ["array-like", None],
        "drugs": ["array-like", None],
        "statistic": [StrOptions({"running_sum", "auc", "hypergeometric"})],
        "k": [_AT_LEAST_ONE, Interval(Real, 0, 1, closed="right"), None],
        "background": ["array-like", dict, None],
        "pool": ["boolean"],
        "weight": [Interval(Real, 0, None, closed="left")],
        "min_size": [_AT_LEAST_ONE],
        "max_size": [_AT_LEAST_ONE, None],
        "n_permutations": [_AT_LEAST_ONE],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def class_enrichment(
    scores: ArrayLike | pd.DataFrame,
    labels: ArrayLike | str,
    *,
    sep: str = "|",
    names: ArrayLike | None = None,
    drugs: ArrayLike | None = None,
    statistic: str = "running_sum",
    k: int | float | None = None,
    background: ArrayLike | dict[str | None, int] | None = None,
    pool: bool = False,
    weight: float = 1.0,
    min_size: int = 3,
    max_size: int | None = None,
    n_permutations: int = 10_000,
    random_state: int | np.random.RandomState | None = None,
) -> ClassEnrichment:
    r"""Mechanisms or targets that are enriched among the nearest molecules.

    Parameters
    ----------
    scores : array-like of shape (n_molecules,) or (n_queries, n_molecules), or table
        How near each molecule is, larger being nearer: similarities, or minus ranks.
        Or the table that :meth:`MoleculeIndex.query
        <sklearn_molge.library.MoleculeIndex.query>` returns, whose columns "query",
        "rank", "score", "name" and "drug" are read.
    labels : array-like of shape (n_molecules,), or str
        Classes of each molecule, joined by `sep`, such as "EGFR inhibitor|HER2
        inhibitor", or a list or set of them. Of a table, the name of its column, such
        as "moa" or "target".
    sep : str, default="|"
        What parts the classes of a molecule; "; " in some releases of LINCS.
    names : array-like of shape (n_molecules,), default=None
        What hits are called; by default the drugs, or the numbers of the molecules.
    drugs : array-like of shape (n_molecules,), default=None
        Identity of each molecule. Those of one drug become one, with the best of their
        scores and all of their classes. By default each is one of its own.
    statistic : {"running_sum", "auc", "hypergeometric"}, default="running_sum"
        "running_sum" and "auc" are of the whole ranking, and compared with molecules
        in random order; the first is high where members of the class crowd at the top,
        the second where they are near on the whole. "hypergeometric" is of the first
        `k` alone.
    k : int or float, default=None
        How many molecules are hits, or which share of them. By default a tenth; where
        `background` is given, all. Those that tie with the last are hits, too.
    background : array-like of shape (n_background,) or dict, default=None
        Classes of all molecules that could have been found, those of `scores` among
        them, one entry a molecule: where `scores` holds only the first of a library,
        for "hypergeometric". Such as ``index.get_molecules()["moa"]``. Or these,
        counted once for many calls: how many molecules are of each class, and under
        the key None how many have a class.
    pool : bool, default=False
        Of several queries, make one ranking, by the mean of the molecules' ranks.
    weight : float, default=1.0
        Of "running_sum": exponent of a member's distance from the middle of the list
        (1 at both ends, 0 in the middle), by which it counts. 0 is the statistic of
        Kolmogorov and Smirnov.
    min_size, max_size : int, default=3, None
        Of classes: how many labelled molecules they have. Others are left out, and
        counted. None is any number.
    n_permutations : int, default=10000
        Number of random orders; the least p-value is ``1 / (n_permutations + 1)``.
    random_state : int, RandomState instance or None, default=None
        Controls the random orders.

    Returns
    -------
    result : ClassEnrichment
        With `table`, one row a class, and `queries`, one row a query: how many
        molecules and classes were looked at, and left out.

    Raises
    ------
    ValueError
        If lengths disagree, a score is NaN or infinite, no class has a size between
        `min_size` and `max_size`, all molecules are hits of "hypergeometric" and there
        is no `background`, or `background` lacks molecules of `scores`.

    Warns
    -----
    UserWarning
        If `n_permutations` is too small for a class to have a q-value of 0.05, or
        classes seem to be joined by ";" and `sep` is another.

    See Also
    --------
    EnrichmentDisplay, RunningSumDisplay : Draw it.
    same_class_neighbors : Whether molecules of a class are near each other.

    Notes
    -----
    A molecule without a class (empty, NaN, None) is left out: its mechanism is unknown,
    not another one. So p-values are given *which places of the list have a label*.

    "running_sum" is the enrichment score of GSEA (Subramanian et al. 2005, "Inferences
    about genes"). For a class of n among N labelled molecules, at place i of the list

    .. math:: \sum_{j \le i,\, j \in c} \frac{|r_j|^w}{\sum_{l \in c} |r_l|^w}
              - \frac{\#\{j \le i,\, j \notin c\}}{N - n}

    and the statistic is its maximum, over places where no tied molecules are parted.
    For :math:`r` GSEA takes the score; here it is the mid-rank, scaled from 1 at the
    top to -1, so that the answer depends on the order alone. "auc" is the probability
    that a member is nearer than a molecule of no such class, ties counting half
    (Mann and Whitney). The null hypothesis of both is that any n of the labelled
    molecules were as likely to be the class:
    :math:`p = (1 + \#\{s^* \ge s\}) / (1 + n_\mathrm{permutations})`.
    "hypergeometric" is Fisher's exact test, one-sided; its statistic is ``n_hits /
    expected``.

    Classes that share molecules, or near analogues, are found together: they are no
    independent evidence. A model may prefer a class for every query; compare queries
    with each other, or with ``pool=True``.

    References
    ----------
    Subramanian et al. (2005), "Gene set enrichment analysis", PNAS 102.
    Benjamini and Hochberg (1995), JRSS B 57.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.inspection import class_enrichment
    >>> moa = ["HDAC inhibitor"] * 4 + ["EGFR inhibitor", "mTOR inhibitor", None] * 4
    >>> similarity = -np.arange(16)
    >>> result = class_enrichment(similarity, moa, k=4, random_state=0)
    >>> result.table[["n", "n_hits", "expected", "statistic"]].head(1)
                    n  n_hits  expected  statistic
    class
    HDAC inhibitor  4       4  1.333333        1.0
    >>> result.queries.loc[0, ["n_labelled", "n_unlabelled"]].tolist()
    [12, 4]
    """
    seed = check_random_state(random_state).randint(np.iinfo(np.int32).max)
    sizes = (min_size, math.inf if max_size is None else max_size)
    options = _Options(statistic, k, weight, sizes, n_permutations, seed)
    if background is not None and statistic != "hypergeometric":
        raise ValueError(
            "background is for statistic='hypergeometric'; the others need all "
            f"molecules in scores. Got statistic={statistic!r}."
        )
    if isinstance(labels, str):
        if pool:
            raise ValueError(
                "pool=True needs the scores of all molecules, and not a table of the "
                "nearest: MoleculeIndex.query(y, groups=...) averages profiles."
            )
        parts = _read_table(scores, labels, names, drugs, sep)
    else:
        read = _read_arrays(scores, labels, names, drugs, sep=sep, pool=pool)
        parts = [(np.arange(len(read.values)), read)]
    one_list = pool or np.ndim(scores) == 1
    universe = None
    if background is not None:
        universe = _counted(background, sep)
    null = _Null(options)
    tables, counts = {}, {}
    for queries, read in parts:
        for query, values in zip(queries, read.values, strict=True):
            tables[query], counts[query] = _test_query(
                values, read, options, universe, null
            )
    found = {query: table for query, table in tables.items() if len(table)}
    if not found:
        raise ValueError(
            f"No class has from {min_size} to {max_size or 'any number of'} labelled "
            "molecules and others beside them: nothing can be tested."
        )
    table = pd.concat(found, names=["query", "class"])
    table = table.droplevel("query") if one_list else table
    _say_too_few(options, max(map(len, found.values())))
    counted = pd.DataFrame.from_dict(counts, orient="index").rename_axis("query")
    return ClassEnrichment(statistic, table, counted)


def _say_too_few(options: _Options, n_classes: int) -> None:
    """Warn where even the best class could not have a q-value of 0.05."""
    least = n_classes / (1 + options.n_permutations)
    if options.statistic != "hypergeometric" and least > _USUAL_LEVEL:
        warnings.warn(
            f"With n_permutations={options.n_permutations} and {n_classes} classes no "
            f"single class can have a q-value below {least:.2g}. Permute more often, "
            "or test fewer classes, by min_size.",
            UserWarning,
            stacklevel=4,
        )


def _read_arrays(scores, labels, names, drugs, *, sep: str, pool: bool) -> _Molecules:
    values = check_named(
        check_array, scores, name="scores", ensure_2d=False, dtype=np.float64
    )
    values = np.atleast_2d(values)
    n = values.shape[1]
    if len(labels) != n or getattr(labels, "ndim", 1) > 1:
        raise ValueError(
            f"labels must hold the classes of each of the {n} molecules. Got shape "
            f"{getattr(labels, 'shape', (len(labels),))}."
        )
    codes, called = np.arange(n), np.arange(n)
    if drugs is not None:
        check_consistent_length(labels, drugs)
        texts = identify_drugs(np.empty((n, 1)), drugs, codes)
        called, codes = np.unique(texts, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    values = np.maximum.reduceat(values[:, order], starts, axis=1)
    if names is not None:
        check_consistent_length(labels, names)
        called = np.asarray(names, dtype=object)[order[starts]]
    if pool:
        values = -stats.rankdata(-values, axis=1).mean(axis=0, keepdims=True)
    member, classes = class_members(labels, codes, sep=sep)
    return _Molecules(values, member, classes, [label_text(name) for name in called])


def _read_table(table, labels: str, names, drugs, sep: str):
    """Return the queries of a table of answers, each with its molecules."""
    columns = getattr(table, "columns", ())
    missing = [name for name in ("query", "rank", labels) if name not in columns]
    if missing:
        raise ValueError(
            f"labels={labels!r} names a column of the table that MoleculeIndex.query "
            f"returns. Got scores without the columns {', '.join(map(repr, missing))}."
        )
    frame = pd.DataFrame({"query": table["query"], "value": -table["rank"]})
    if "score" in table:  # equal ones have ranks one after the other
        equal = [table["query"], table["score"]]
        frame["value"] = frame["value"].groupby(equal).transform("mean")
    frame["labels"] = table[labels]
    every = np.arange(len(frame))
    frame["drugs"] = table.get("drug", every) if drugs is None else np.asarray(drugs)
    frame["names"] = table.get("name") if names is None else np.asarray(names)
    named = frame["names"].map(bool) & frame["names"].notna()
    frame["names"] = frame["names"].where(named, frame["drugs"])
    for query, part in frame.groupby("query", sort=False):
        columns = (part[name] for name in ("value", "labels", "names", "drugs"))
        yield [query], _read_arrays(*columns, sep=sep, pool=False)


def _test_query(values: Floats, read: _Molecules, options, universe, null):
    """Return the rows of one query, and what was counted."""
    order = np.argsort(-values, kind="stable")
    k = _n_hits(values[order], options, in_part=universe is not None)
    labelled = order[np.diff(read.member.indptr)[order] > 0]
    member = read.member[labelled].tocsc()
    ranked = np.diff(member.indptr)
    n_total, n_of_class = len(labelled), ranked
    if universe is not None:
        n_total, n_of_class = _sizes_in(universe, read.classes, ranked)
    low, high = options.sizes
    fits = (n_of_class >= low) & (n_of_class <= high)
    tested = np.flatnonzero(fits & (n_of_class < n_total))
    n_drawn = int(np.isin(order[:k], labelled).sum())
    rows = []
    if len(tested):
        places = _Places.of(values[labelled], options.weight)
        largest = int(ranked[tested].max())
    for i in tested:
        own = np.sort(member.indices[member.indptr[i] : member.indptr[i + 1]])
        hits = own[own < n_drawn]
        expected = n_drawn * n_of_class[i] / n_total
        if options.statistic == "hypergeometric":
            drawn = (n_total, n_of_class[i], n_drawn)
            p_value = float(stats.hypergeom.sf(len(hits) - 1, *drawn))
            test = len(hits) / expected if expected else np.nan, 1.0, p_value
        else:
            test = null.compare(places, own, largest)
        named = "|".join(read.names[labelled[hit]] for hit in hits)
        rows.append((n_of_class[i], len(hits), expected, *test, named))
    columns = ["n", "n_hits", "expected", "statistic", "chance", "p_value", "hits"]
    table = pd.DataFrame(rows, columns=columns, index=read.classes[tested])
    q_values = stats.false_discovery_control(table["p_value"]) if rows else []
    table.insert(6, "q_value", q_values)
    order_of_rows = np.lexsort((-table["statistic"], table["p_value"]))
    counts = {
        "n_molecules": len(values),
        "n_labelled": len(labelled),
        "n_unlabelled": len(values) - len(labelled),
        "k": k,
        "n_classes": len(tested),
        "n_left_out": int(np.count_nonzero(n_of_class)) - len(tested),
    }
    return table.iloc[order_of_rows], counts


def _n_hits(descending: Floats, options: _Options, *, in_part: bool) -> int:
    """Return how many are hits: the first k, and what ties with the last of them."""
    n, asked = len(descending), options.k
    if asked is None:
        asked = 1.0 if in_part else _DEFAULT_SHARE
    k = min(n, count_of(asked, n))
    if k < n:
        k = int(np.count_nonzero(descending >= descending[k - 1]))
    if k >= n and not in_part and options.statistic == "hypergeometric":
        raise ValueError(
            f"k must leave some of the {n} molecules that are no hits, ties included. "
            f"Got k={options.k!r}. Where scores holds the nearest of a library, "
            "background= says which classes all of its molecules have."
        )
    return k


def _counted(background, sep: str) -> dict[str | None, int]:
    """Return how many molecules are of each class, and under None of any."""
    if isinstance(background, dict):
        if None not in background:
            raise ValueError(
                "background must have the key None, how many molecules have a class. "
                f"Got {first_few(background, n=3)}."
            )
        return background
    member, names = class_members(background, np.arange(len(background)), sep=sep)
    sizes = dict(zip(names.tolist(), np.diff(member.tocsc().indptr), strict=True))
    return sizes | {None: int(np.count_nonzero(np.diff(member.indptr)))}


def _sizes_in(universe, classes: NDArray, ranked: Places) -> tuple[int, Places]:
    """Return labelled molecules of the background, and how many are of each class."""
    found = np.array([universe.get(n, 0) for n in classes.tolist()], dtype=np.intp)
    lacking = classes[found < ranked]
    if len(lacking):
        raise ValueError(
            "background must hold all molecules of scores, with their classes. It has "
            f"fewer of {first_few(lacking.tolist(), n=3)}."
        )
    return universe[None], found


@dataclass(frozen=True)
class _Places:
    """The places of a list of labelled molecules, the nearest first.

    Attributes
    ----------
    n : int
        Number of places.
    ends : ndarray of shape (n,)
        The last place of the molecules that tie with each.
    ranks : ndarray of shape (n,)
        Mid-ranks, 1 being the nearest.
    weights : ndarray of shape (n,)
        What a member at each place counts in the running sum.
    """

    n: int
    ends: Places
    ranks: Floats
    weights: Floats

    @classmethod
    def of(cls, descending: Floats, weight: float) -> _Places:
        n = len(descending)
        starts = np.flatnonzero(np.diff(descending, prepend=np.inf))
        last = np.append(starts[1:], n) - 1
        codes = np.cumsum(np.diff(descending, prepend=np.inf) != 0) - 1
        ranks = (starts + last)[codes] / 2 + 1
        from_middle = np.abs(1 - 2 * (ranks - 1) / max(n - 1, 1))
        # In the middle next to nothing, and more than 0: a list may be all tied.
        weights = np.maximum(from_middle, 1 / max(n, 1)) ** weight
        weights = np.maximum(weights, np.finfo(float).tiny)
        return cls(n, last[codes], ranks, weights)

    def running_sums(self, own: Places) -> Floats:
        """Return the sum after each member, those that tie with it included.

        `own` of shape (..., n_members) are the members' places, sorted. Of several
        members in one tie the last has the sum, and those before it less.
        """
        n_own = own.shape[-1]
        sums = np.cumsum(self.weights[own], axis=-1)
        misses = self.ends[own] - np.arange(n_own)
        return sums / sums[..., -1:] - misses / (self.n - n_own)

    def auc(self, own: Places) -> Floats:
        n_own = own.shape[-1]
        farther = n_own * (2 * self.n - n_own + 1) / 2 - self.ranks[own].sum(axis=-1)
        return farther / (n_own * (self.n - n_own))


class _Null:
    """Statistics of random molecules, drawn once for all lists of one length."""

    def __init__(self, options: _Options):
        self.options = options
        self._drawn: dict[int, Places] = {}
        self._known: dict[int, Floats] = {}  # by the size of the class
        self._ends = b""  # for lists with these ties

    def compare(
        self, places: _Places, own: Places, largest: int
    ) -> tuple[float, float, float]:
        """Return the statistic of a class, its mean by chance, and the p-value.

        `largest` is the size of the largest class of the list.
        """
        found = float(self._statistic(places, own))
        ends = places.ends.tobytes()
        if ends != self._ends:
            self._ends, self._known = ends, {}
        if len(own) not in self._known:
            drawn = self._draw(places.n, largest)[:, : len(own)]
            self._known[len(own)] = self._statistic(places, np.sort(drawn, axis=1))
        null = self._known[len(own)]
        p_value = (1 + np.sum(null >= found - _ROUNDING)) / (1 + len(null))
        chance = 0.5 if self.options.statistic == "auc" else float(null.mean())
        return found, chance, float(p_value)

    def _statistic(self, places: _Places, own: Places) -> Floats:
        if self.options.statistic == "auc":
            return places.auc(own)
        return places.running_sums(own).max(axis=-1)

    def _draw(self, n: int, n_kept: int) -> Places:
        """Return the beginnings of random orders of n places, one a row."""
        drawn = self._drawn.get(n)
        if drawn is None or drawn.shape[1] < n_kept:
            rng = np.random.default_rng([self.options.seed, n])
            step = max(1, _BLOCK_ELEMENTS // n)
            total = self.options.n_permutations
            blocks = (
                rng.permuted(np.tile(np.arange(n), (min(step, total - i), 1)), axis=1)
                for i in range(0, total, step)
            )
            drawn = np.concatenate([block[:, :n_kept].copy() for block in blocks])
            self._drawn[n] = drawn
        return drawn


def running_sum(scores: ArrayLike, labels: ArrayLike, of: str, *, sep, weight):
    """Return places, the running sum there, and the members' places, of one class."""
    read = _read_arrays(scores, labels, None, None, sep=sep, pool=False)
    names = read.classes.tolist()
    if len(read.values) > 1 or of not in names:
        raise ValueError(
            f"scores must be of one query, and `of` one of its classes. Got {of!r} and "
            f"{len(read.values)} queries, with the classes {first_few(names, n=5)}."
        )
    order = np.argsort(-read.values[0], kind="stable")
    labelled = order[np.diff(read.member.indptr)[order] > 0]
    is_own = read.member[labelled][:, [names.index(of)]].toarray().ravel() > 0
    places = _Places.of(read.values[0][labelled], weight)
    gains = np.where(is_own, places.weights, 0.0)
    steps = gains / gains.sum() - ~is_own / max(1, np.count_nonzero(~is_own))
    ends = np.unique(places.ends)
    sums = np.append(0.0, np.cumsum(steps)[ends])
    return np.append(0, ends + 1), sums, np.flatnonzero(is_own) + 1
