"""Intervals of scores and comparisons of two models, resampling whole drugs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from sklearn_molge._compat import validate_params
from sklearn_molge._utils.checks import check_ranks
from sklearn_molge._utils.resampling import (
    RESAMPLING_CONSTRAINTS,
    Codes,
    Counts,
    Floats,
    block_sizes,
    encode_drugs,
    percentile_interval,
    rank_histograms,
    resampled_counts,
)
from sklearn_molge.metrics._scores import Score, get_score, get_scores, query_values

__all__ = ["PairedComparison", "bootstrap_scores", "paired_comparison"]


@validate_params(RESAMPLING_CONSTRAINTS, prefer_skip_nested_validation=True)
def bootstrap_scores(
    ranks: ArrayLike,
    drugs: ArrayLike,
    *,
    scores: Sequence[str | Score] | None = None,
    k: Sequence[int] = (1, 10, 100),
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """Scores with percentile intervals from resampling whole drugs.

    The profiles of one drug are no independent queries: they come with their drug
    into a resample, as often as the drug is drawn (cluster bootstrap). The interval
    says how much the score would move with other drugs of the same kind, not with
    other cell lines or another training run.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.
    drugs : array-like of shape (n_queries,)
        Identity of the true molecule (:func:`~sklearn_molge.molecules.drug_ids`).
    scores : sequence of str or Score, default=None
        Names and your own; see :func:`get_scores`. By default "mrr", "median_rank" and
        "hits@k" for each `k`.
    k : sequence of int, default=(1, 10, 100)
        Where hits are counted if `scores` is None.
    n_resamples : int, default=2000
        Number of bootstrap samples of the drugs.
    confidence_level : float, default=0.95
        Coverage of the interval, in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Draws the drugs.

    Returns
    -------
    table : DataFrame of shape (n_scores, 3)
        Index: the names of the scores; columns "score", "low" and "high".

    Raises
    ------
    ValueError
        If `ranks` is empty or holds NaN or a number below 1, if `drugs` has another
        length or missing entries, if there are fewer than two drugs, or if a score is
        unknown.

    See Also
    --------
    paired_comparison : Whether two models differ.

    Notes
    -----
    Extra memory is a few blocks of 32 MB, whatever the number of queries.

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, section 3.8:
    resampling whole clusters.

    Examples
    --------
    >>> from sklearn_molge.metrics import bootstrap_scores
    >>> ranks = [1, 1, 2, 8, 9, 30]
    >>> drugs = ["a", "a", "b", "b", "c", "c"]
    >>> bootstrap_scores(ranks, drugs, k=(10,), random_state=0).round(2)
                 score   low  high
    mrr           0.46  0.07   1.0
    median_rank   5.00  1.00  19.5
    hits@10       0.83  0.50   1.0
    """
    chosen = get_scores(scores, k=k)
    array = check_ranks(ranks)
    codes, n_drugs = encode_drugs(drugs, len(array))
    samples = [
        [_resampled(score, array, codes, counts) for score in chosen]
        for counts in resampled_counts(n_drugs, n_resamples, len(array), random_state)
    ]
    low, high = percentile_interval(np.concatenate(samples, axis=1), confidence_level)
    values = [score(array) for score in chosen]
    names = [score.name for score in chosen]
    return pd.DataFrame({"score": values, "low": low, "high": high}, index=names)


@dataclass(frozen=True)
class PairedComparison:
    """Difference of two models on the same queries.

    Attributes
    ----------
    scoring : str
        Name of the compared score.
    score_a, score_b : float
        The scores of the two models.
    difference : float
        ``score_a - score_b``.
    low, high : float
        Percentile interval of the difference, from resampling whole drugs.
    p_value : float
        Two-sided, from swapping the two models within whole drugs.
    better : {"a", "b", None}
        Which model has the better score: the larger one, or the smaller one of a score
        such as "median_rank"; None where they are equal. It says nothing about
        significance.
    """

    scoring: str
    score_a: float
    score_b: float
    difference: float
    low: float
    high: float
    p_value: float
    better: str | None


@validate_params(RESAMPLING_CONSTRAINTS, prefer_skip_nested_validation=True)
def paired_comparison(
    ranks_a: ArrayLike,
    ranks_b: ArrayLike,
    drugs: ArrayLike,
    *,
    scoring: str | Score = "mrr",
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> PairedComparison:
    r"""Whether two models differ on the same queries.

    Parameters
    ----------
    ranks_a, ranks_b : array-like of shape (n_queries,)
        Ranks from the two models, for the same queries in the same order and the
        same candidates.
    drugs : array-like of shape (n_queries,)
        Identity of the true molecule (:func:`~sklearn_molge.molecules.drug_ids`).
    scoring : str or Score, default="mrr"
        "mrr", "median_rank" or "hits@k" with a number for k, as "hits@10"; or your own.
    n_resamples : int, default=2000
        Number of bootstrap samples, and of permutations.
    confidence_level : float, default=0.95
        Coverage of the interval, in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Draws the drugs that are resampled and those that are swapped.

    Returns
    -------
    comparison : PairedComparison
        With `difference`, `low`, `high`, `p_value` and `better`. The difference is
        ``score_a - score_b``: positive where a has the larger MRR or hits, which is
        better, or the larger median rank, which is worse.

    Raises
    ------
    ValueError
        If `scoring` is unknown, if the three arrays differ in length, if a rank is NaN
        or below 1, if a drug is missing, or if there are fewer than two drugs.

    Notes
    -----
    Under the null hypothesis the models are exchangeable within each drug, so that a
    and b are swapped for a random half of the drugs, all profiles of a drug together:

    .. math:: p = \frac{1 + \#\{|d^*| \ge |d|\}}{1 + n_\mathrm{resamples}}

    Examples
    --------
    >>> from sklearn_molge.metrics import paired_comparison
    >>> a = [1, 1, 2, 1, 3, 1, 2, 1]
    >>> b = [4, 3, 2, 9, 5, 7, 4, 6]
    >>> drugs = list("abcdefgh")
    >>> result = paired_comparison(a, b, drugs, scoring="median_rank", random_state=0)
    >>> result.difference, result.better, result.p_value < 0.05
    (-3.5, 'a', True)
    """
    score = get_score(scoring, parameter="scoring")
    a, b = check_ranks(ranks_a, name="ranks_a"), check_ranks(ranks_b, name="ranks_b")
    if len(a) != len(b):
        raise ValueError(
            "ranks_a and ranks_b must be ranks of the same queries. "
            f"Got {len(a)} and {len(b)} ranks."
        )
    codes, n_drugs = encode_drugs(drugs, len(a))
    rng = check_random_state(random_state)
    resampled = [
        _resampled(score, a, codes, counts) - _resampled(score, b, codes, counts)
        for counts in resampled_counts(n_drugs, n_resamples, len(a), rng)
    ]
    low, high = percentile_interval(np.concatenate(resampled), confidence_level)
    score_a, score_b = score(a), score(b)
    a_is_better = (score_a > score_b) == score.greater_is_better
    return PairedComparison(
        scoring=score.name,
        score_a=score_a,
        score_b=score_b,
        difference=score_a - score_b,
        low=float(low),
        high=float(high),
        p_value=_sign_flip_p_value(score, a, b, codes, n_resamples, rng),
        better=None if score_a == score_b else "a" if a_is_better else "b",
    )


def _resampled(score: Score, ranks: Floats, codes: Codes, counts: Counts) -> Floats:
    """Score each row of `counts`, which says how often each drug was drawn."""
    values = query_values(score, ranks)
    if score.reduce is np.mean:
        sums = np.bincount(codes, weights=values)
        return (counts @ sums) / (counts @ np.bincount(codes))
    if score.reduce is np.median:
        distinct, places = np.unique(values, return_inverse=True)
        histograms = rank_histograms(places, codes, len(distinct)) @ counts.T
        return _histogram_medians(histograms, distinct)
    return np.array([score.reduce(np.repeat(values, n[codes])) for n in counts])


def _sign_flip_p_value(
    score: Score,
    a: Floats,
    b: Floats,
    codes: Codes,
    n_resamples: int,
    rng: np.random.RandomState,
) -> float:
    n_drugs = codes.max() + 1
    observed = abs(score(a) - score(b))
    extreme = 0
    for size in block_sizes(n_resamples, len(a)):
        swapped = rng.randint(2, size=(size, n_drugs))
        difference = _swapped_difference(score, a, b, codes, swapped)
        # Equal differences are summed in another order.
        extreme += int(np.sum(np.abs(difference) >= observed - 1e-12))
    return (1 + extreme) / (1 + n_resamples)


def _swapped_difference(
    score: Score, a: Floats, b: Floats, codes: Codes, swapped: Counts
) -> Floats:
    """Return score_a - score_b after swapping a and b within the drugs marked by 1."""
    a, b = query_values(score, a), query_values(score, b)
    if score.reduce is np.mean:
        return (1 - 2 * swapped) @ np.bincount(codes, a - b) / len(a)
    if score.reduce is np.median:
        distinct, places = np.unique(np.concatenate([a, b]), return_inverse=True)
        of_a, of_b = (
            rank_histograms(at, codes, len(distinct)) for at in np.split(places, 2)
        )
        moved = (of_b - of_a) @ swapped.T
        return _histogram_medians(
            of_a.sum(axis=1)[:, np.newaxis] + moved, distinct
        ) - _histogram_medians(of_b.sum(axis=1)[:, np.newaxis] - moved, distinct)
    turned = [drugs[codes].astype(bool) for drugs in swapped]
    return np.array(
        [
            score.reduce(np.where(t, b, a)) - score.reduce(np.where(t, a, b))
            for t in turned
        ]
    )


def _histogram_medians(histograms: Counts, values: Floats) -> Floats:
    """Return the median of `values`, of which each column says how many there are."""
    cumulative = np.cumsum(histograms, axis=0)
    total = cumulative[-1]
    low = np.sum(cumulative <= (total - 1) // 2, axis=0)
    high = np.sum(cumulative <= total // 2, axis=0)
    return (values[low] + values[high]) / 2
