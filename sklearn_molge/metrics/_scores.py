"""Scores: objects that tables, scorers and intervals iterate over."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from sklearn_molge._utils.checks import check_n_candidates, check_ranks

__all__ = [
    "Score",
    "chance_scores",
    "get_scores",
    "hits_at_k",
    "mean_reciprocal_rank",
    "median_rank",
    "retrieval_scores",
]


@dataclass(frozen=True)
class Score:
    r"""A score of ranks: a value for each query, and one number for all of them.

    Everything that shows scores takes one beside the names of the library's own:
    :class:`~sklearn_molge.metrics.RetrievalScorer`,
    :func:`~sklearn_molge.metrics.retrieval_scores`,
    :func:`~sklearn_molge.metrics.chance_scores`,
    :func:`~sklearn_molge.metrics.bootstrap_scores`,
    :func:`~sklearn_molge.metrics.paired_comparison` and the legend of
    :class:`~sklearn_molge.metrics.RetrievalCurveDisplay`.

    Parameters
    ----------
    name : str
        Key in dictionaries and tables, such as "mrr".
    per_query : callable
        Takes ranks, an array of float of shape (n_queries,), and returns the value of
        each query.
    reduce : callable
        Takes the values of the queries and returns a float, as ``numpy.mean`` and
        ``numpy.median`` do. Resampling is fast with these two; any other function is
        called once for each resample.
    chance : callable
        Takes the number of ranked molecules of each query, an array of int of shape
        (n_queries,), and returns what a random ranking scores: one number, or the
        expected value of each query, which are averaged.
    greater_is_better : bool, default=True
        Whether larger is better.
    label : str, default=None
        What tables, legends and axes call it; by default `name`.
    description : str, default=""
        What it means, for a reader of a report.

    Notes
    -----
    To be pickled, for searches with ``n_jobs`` and caches, it needs functions that can
    be imported, and no lambda.

    Examples
    --------
    The discounted gain, which is between 0 and 1:

    >>> import numpy as np
    >>> from sklearn_molge.metrics import Score, retrieval_scores
    >>> def gain(ranks):
    ...     return 1 / np.log2(1 + ranks)
    >>> def chance(n_candidates):
    ...     return [gain(np.arange(1, n + 1)).mean() for n in n_candidates]
    >>> score = Score("gain", gain, np.mean, chance, label="Discounted gain")
    >>> score([1, 3])
    0.75
    >>> retrieval_scores([1, 3], scores=["mrr", score])
    {'mrr': 0.666..., 'gain': 0.75}
    """

    name: str
    per_query: Callable[[NDArray[np.float64]], ArrayLike] = field(repr=False)
    reduce: Callable[[NDArray[np.float64]], float] = field(repr=False)
    chance: Callable[[NDArray[np.int64]], ArrayLike] = field(repr=False)
    greater_is_better: bool = True
    label: str | None = None
    description: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise ValueError(
                f"The name of a Score must be a non-empty str. Got {self.name!r}."
            )
        for part in ("per_query", "reduce", "chance"):
            if not callable(getattr(self, part)):
                raise TypeError(
                    f"{part} of the score {self.name!r} must be callable. "
                    f"Got {getattr(self, part)!r}."
                )
        if self.label is None:
            object.__setattr__(self, "label", self.name)

    def __call__(self, ranks: ArrayLike) -> float:
        """Score an array of ranks.

        Parameters
        ----------
        ranks : array-like of shape (n_queries,)
            Rank of the true molecule for each query, 1 being the best.

        Returns
        -------
        score : float
        """
        return float(self.reduce(query_values(self, check_ranks(ranks))))


def query_values(score: Score, ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the value of each query, after a check of what `per_query` returned."""
    values = np.asarray(score.per_query(ranks))
    if values.dtype.kind not in "biuf":
        raise TypeError(
            f"per_query of the score {score.name!r} must return numbers. Got an array "
            f"of {values.dtype}."
        )
    values = values.astype(np.float64)
    if values.shape != ranks.shape:
        raise ValueError(
            f"per_query of the score {score.name!r} must return one value for each of "
            f"the {len(ranks)} ranks. Got an array of shape {values.shape}."
        )
    return values


def _reciprocal(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / ranks


def _mean_of_reciprocals(n_candidates: NDArray[np.int64]) -> NDArray[np.float64]:
    return (digamma(n_candidates + 1.0) + np.euler_gamma) / n_candidates


def _itself(ranks: NDArray[np.float64]) -> NDArray[np.float64]:
    return ranks


def _mixture_median(n_candidates: NDArray[np.int64]) -> float:
    """Median of a rank that is uniform on 1..M, with M drawn from `n_candidates`."""
    sizes = np.atleast_1d(n_candidates)
    mass = np.bincount(sizes)[1:] / np.arange(1, sizes.max() + 1) / sizes.size
    cumulative = np.cumsum(np.cumsum(mass[::-1])[::-1])
    # A probability of exactly one half is blurred by the sums.
    low, high = np.searchsorted(cumulative, [0.5 - 1e-9, 0.5 + 1e-9]) + 1
    return float(low + high) / 2


def _is_hit(ranks: NDArray[np.float64], k: int) -> NDArray[np.bool_]:
    return ranks <= k


def _share_of_k(n_candidates: NDArray[np.int64], k: int) -> NDArray[np.float64]:
    return np.minimum(k, n_candidates) / n_candidates


MRR = Score(
    "mrr",
    _reciprocal,
    np.mean,
    _mean_of_reciprocals,
    label="MRR",
    description="mean reciprocal rank: the mean of 1 / rank of the true molecule; 1 is "
    "perfect",
)
MEDIAN_RANK = Score(
    "median_rank",
    _itself,
    np.median,
    _mixture_median,
    greater_is_better=False,
    label="Median rank",
    description="median rank of the true molecule among the candidates; 1 is the best",
)

# The scores that are known by their names, beside "hits@k".
NAMED = {
    score.name: score
    for score in (
        MRR,
        MEDIAN_RANK,
    )
}


def hits(k: int) -> Score:
    """Return the score "hits@k" for one k."""
    return Score(
        f"hits@{k}",
        partial(_is_hit, k=k),
        np.mean,
        partial(_share_of_k, k=k),
        label=f"Hits at {k}",
        description="share of the queries whose true molecule is among the first"
        + (f" {k}" if k > 1 else ""),
    )


def get_scores(
    scores: Sequence[str | Score] | None = None, *, k: Sequence[int] = (1, 10, 100)
) -> list[Score]:
    """Scores by their names.

    Parameters
    ----------
    scores : sequence of str or Score, default=None
        "mrr", "median_rank", "hits@k" with a number for k, as "hits@25", and your own.
        By default "mrr", "median_rank" and "hits@k" for each `k`.
    k : sequence of int, default=(1, 10, 100)
        Where hits are counted if `scores` is None.

    Returns
    -------
    scores : list of Score

    Raises
    ------
    ValueError
        If a name is unknown, if two scores have one name, or if `k` does not hold ints
        of at least 1.

    Examples
    --------
    >>> from sklearn_molge.metrics import get_scores
    >>> [score.label for score in get_scores(["mrr", "hits@25"])]
    ['MRR', 'Hits at 25']
    """
    if scores is None:
        return [MRR, MEDIAN_RANK, *(hits(place) for place in check_k(k))]
    if isinstance(scores, str | Score) or not np.iterable(scores):
        raise ValueError(
            "scores must be a sequence of names and Score objects, as ('mrr', "
            f"'hits@10'). Got {scores!r}."
        )
    found = [get_score(score, parameter="scores") for score in scores]
    names = [score.name for score in found]
    if len(set(names)) < len(names):
        raise ValueError(f"scores must have different names. Got {names}.")
    return found


def get_score(score: str | Score, *, parameter: str) -> Score:
    """Return one score by its name; a Score is returned as it is."""
    if isinstance(score, Score):
        return score
    if isinstance(score, str) and score in NAMED:
        return NAMED[score]
    if isinstance(score, str) and re.fullmatch(r"hits@[1-9]\d*", score):
        return hits(int(score.removeprefix("hits@")))
    raise ValueError(
        f"The '{parameter}' parameter must name a score: "
        f"{', '.join(map(repr, NAMED))} or 'hits@k' with a number for k, as "
        f"'hits@10'; or be a Score. Got {score!r} instead."
    )


def check_k(k: object) -> list[int]:
    """Return the places at which hits are counted, as a list of int."""
    if isinstance(k, str) or not isinstance(k, Iterable):
        raise ValueError(f"k must be a sequence of int >= 1, as (1, 10). Got {k!r}.")
    for each in k:
        if not isinstance(each, Integral) or each < 1:
            raise ValueError(f"k must hold int >= 1. Got {each!r} in {k!r}.")
    return [int(each) for each in k]


def mean_reciprocal_rank(ranks: ArrayLike) -> float:
    """Mean of one over the rank; 1 is perfect.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best; mid-ranks where
        candidates tie.

    Returns
    -------
    mrr : float
        In (0, 1].

    Raises
    ------
    ValueError
        If `ranks` is empty, not 1-D, or holds NaN or a number below 1.

    Notes
    -----
    With one relevant molecule per query this is also the mean average precision.

    Examples
    --------
    >>> from sklearn_molge.metrics import mean_reciprocal_rank
    >>> mean_reciprocal_rank([1, 2, 4])
    0.583...
    """
    return MRR(ranks)


def median_rank(ranks: ArrayLike) -> float:
    """Median of the ranks; 1 is perfect.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.

    Returns
    -------
    median : float
        The mean of the two middle ranks where their number is even.

    Raises
    ------
    ValueError
        If `ranks` is empty, not 1-D, or holds NaN or a number below 1.

    Examples
    --------
    >>> from sklearn_molge.metrics import median_rank
    >>> median_rank([1, 2, 4, 50])
    3.0
    """
    return MEDIAN_RANK(ranks)


def hits_at_k(ranks: ArrayLike, k: int) -> float:
    """Share of the queries whose true molecule is among the first k.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.
    k : int
        Number of molecules looked at, at least 1.

    Returns
    -------
    hits : float
        In [0, 1]. A mid-rank between k and k + 1 is no hit.

    Raises
    ------
    ValueError
        If `ranks` is empty, not 1-D, or holds NaN or a number below 1, or if `k` is
        not an int of at least 1.

    Examples
    --------
    >>> from sklearn_molge.metrics import hits_at_k
    >>> hits_at_k([1, 2, 4, 50], k=2)
    0.5
    """
    (k,) = check_k([k])
    return hits(k)(ranks)


def retrieval_scores(
    ranks: ArrayLike,
    *,
    scores: Sequence[str | Score] | None = None,
    k: Sequence[int] = (1, 10, 100),
) -> dict[str, float]:
    """Several scores of a ranking at once.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.
    scores : sequence of str or Score, default=None
        Names and your own; see :func:`get_scores`. By default "mrr", "median_rank" and
        "hits@k" for each `k`.
    k : sequence of int, default=(1, 10, 100)
        Where hits are counted if `scores` is None.

    Returns
    -------
    scores : dict of str to float
        The value of each score by its name.

    Raises
    ------
    ValueError
        If `ranks` is empty, not 1-D, or holds NaN or a number below 1, if a score is
        unknown, or if `k` does not hold ints of at least 1.

    See Also
    --------
    chance_scores : The same scores of a random ranking.
    bootstrap_scores : The same scores with their intervals.

    Examples
    --------
    >>> from sklearn_molge.metrics import retrieval_scores
    >>> retrieval_scores([1, 2, 4, 50], k=(1, 10))
    {'mrr': 0.4425, 'median_rank': 3.0, 'hits@1': 0.25, 'hits@10': 0.75}
    >>> retrieval_scores([1, 2, 4, 50], scores=["hits@3"])
    {'hits@3': 0.5}
    """
    array = check_ranks(ranks)
    return {score.name: score(array) for score in get_scores(scores, k=k)}


def chance_scores(
    n_candidates: ArrayLike,
    *,
    scores: Sequence[str | Score] | None = None,
    k: Sequence[int] = (1, 10, 100),
) -> dict[str, float]:
    r"""Scores that a random ranking has on average.

    Parameters
    ----------
    n_candidates : int or array-like of shape (n_queries,)
        Number of molecules that were ranked, M; one number per query where the
        queries had different candidates.
    scores : sequence of str or Score, default=None
        Names and your own; see :func:`get_scores`. By default "mrr", "median_rank" and
        "hits@k" for each `k`.
    k : sequence of int, default=(1, 10, 100)
        Where hits are counted if `scores` is None.

    Returns
    -------
    scores : dict of str to float
        The keys of :func:`retrieval_scores`.

    Raises
    ------
    ValueError
        If `n_candidates` is empty or holds anything but ints of at least 1, if a
        score is unknown, or if `k` does not hold ints of at least 1.

    Notes
    -----
    The rank is uniform on 1, ..., M, hence

    .. math:: \mathrm{MRR} = \frac{1}{M} \sum_{r=1}^{M} \frac{1}{r}, \quad
              \mathrm{MR} = \frac{M + 1}{2}, \quad
              \mathrm{hits@}k = \frac{\min(k, M)}{M}.

    With one M per query, MRR and hits are means over the queries, and the median is
    that of the mixture of their uniform distributions.

    Examples
    --------
    >>> from sklearn_molge.metrics import chance_scores
    >>> chance_scores(437, k=(10,))
    {'mrr': 0.015..., 'median_rank': 219.0, 'hits@10': 0.022...}
    """
    sizes = check_n_candidates(n_candidates)
    return {
        score.name: float(np.mean(np.asarray(score.chance(sizes))))
        for score in get_scores(scores, k=k)
    }
