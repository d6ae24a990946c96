"""How sure answers are, and whether they are right as often as they say."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_molge._compat import (
    Interval,
    StrOptions,
    _safe_indexing,
    validate_params,
)
from sklearn_molge._utils.checks import check_named, check_ranks
from sklearn_molge._utils.resampling import (
    RESAMPLING_CONSTRAINTS,
    Floats,
    encode_drugs,
    percentile_interval,
    resampled_sums,
)
from sklearn_molge._utils.rows import as_indexable, distinct_rows
from sklearn_molge._utils.views import step_with
from sklearn_molge.base import identify_drugs, one_row_per_drug
from sklearn_molge.metrics._bootstrap import bootstrap_scores
from sklearn_molge.metrics._ranks import _order, match_positions, rank_queries
from sklearn_molge.metrics._scores import Score, get_score
from sklearn_molge.molecules import parsed_once

__all__ = [
    "abstention_curve",
    "bootstrap_calibration_error",
    "expected_calibration_error",
    "query_beliefs",
    "reliability_curve",
    "set_coverage",
]

_BINS: dict[str, list[object]] = {
    "n_bins": [Interval(Integral, 1, None, closed="left")],
    "strategy": [StrOptions({"quantile", "uniform"})],
}
# 1 - 0.9 is not 0.1 in floating point.
_ROUNDING = 1e-9
_SIZE = "size@"


def query_beliefs(
    estimator, X, y, *, drugs=None, coverages=(0.5, 0.8, 0.9, 0.95)
) -> pd.DataFrame:
    """Tabulate what a calibrated retriever says of test profiles, one row a profile.

    The candidates are the distinct drugs of X. Tables of several test sets can be
    joined by ``pandas.concat`` before they are summarised.

    Parameters
    ----------
    estimator : estimator
        A fitted :class:`~sklearn_molge.retrieval.ConformalRetriever`, or a Pipeline
        or search around one.
    X : array-like of shape (n_samples,) or (n_samples, n_features)
        The molecule of each row: SMILES, or features.
    y : array-like of shape (n_samples, n_genes)
        The profile of each row.
    drugs : array-like of shape (n_samples,), default=None
        Identity of each row's molecule; see
        :func:`~sklearn_molge.metrics.retrieval_ranks`.
    coverages : sequence of float, default=(0.5, 0.8, 0.9, 0.95)
        Coverages, in (0, 1), at which sizes of the sets are counted.

    Returns
    -------
    table : DataFrame of shape (n_samples, 7 + n_coverages)
        ``drug``; ``rank`` of the true molecule; ``n_candidates``; ``confidence``, the
        largest share of belief; ``correct``, 1 where the true molecule has it, a share
        of 1 where several do; ``belief`` and ``p_value`` of the true molecule; and the
        size of the set at each coverage, ``size@0.9``. Of a single candidate ``rank``
        and ``correct`` are NaN: nothing was answered.

    Raises
    ------
    ValueError
        If a coverage is not in (0, 1), or there is none.
    TypeError
        If there is no calibrated retriever inside `estimator`.

    Examples
    --------
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.metrics import query_beliefs, set_coverage
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.retrieval import ConformalRetriever
    >>> study = make_perturbation_study(150, n_cell_lines=2, level=5, random_state=0)
    >>> X = MorganFingerprinter(fp_size=256).fit_transform(study.smiles)
    >>> sure = ConformalRetriever(CCA(10, ridge=1.0), random_state=0)
    >>> sure = sure.fit(X[60:], study.ge[60:])
    >>> table = query_beliefs(sure, X[:60], study.ge[:60])
    >>> table.columns[:5].tolist()
    ['drug', 'rank', 'n_candidates', 'confidence', 'correct']
    >>> set_coverage(table, random_state=0).columns[:4].tolist()
    ['held', 'low', 'high', 'mean_size']
    """
    stated = _numbers(coverages, "coverages")
    if not np.all((stated > 0) & (stated < 1)):
        raise ValueError(f"coverages must hold numbers in (0, 1). Got {coverages!r}.")
    X, y = as_indexable(X), as_indexable(y)
    with parsed_once():
        ranked = rank_queries(estimator, X, y, drugs=drugs)
        first, codes = distinct_rows(X)
        drugs = identify_drugs(X, drugs, codes)
    gallery, rows = one_row_per_drug(drugs, _order(X, first, codes), None)
    match = match_positions(drugs, gallery)
    model, candidates, profiles = step_with(
        estimator, "predict_p", _safe_indexing(X, rows), y
    )
    each = np.arange(len(match))
    beliefs = model.predict_belief(candidates, profiles)
    p_values = model.predict_p(candidates, profiles)
    own = beliefs[each, match]
    confidence = beliefs.max(axis=1)
    tied = np.count_nonzero(beliefs == confidence[:, None], axis=1)
    correct = np.where(own == confidence, 1 / tied, 0.0)
    correct[np.isnan(ranked.ranks)] = np.nan
    table = pd.DataFrame(
        {
            "drug": ranked.drugs,
            "rank": ranked.ranks,
            "n_candidates": ranked.n_candidates,
            "confidence": confidence,
            "correct": correct,
            "belief": own,
            "p_value": p_values[each, match],
        }
    )
    for coverage in stated.tolist():
        held = p_values > 1 - coverage + _ROUNDING
        table[f"{_SIZE}{coverage}"] = held.sum(axis=1)
    return table


@validate_params(
    {"queries": [pd.DataFrame], **RESAMPLING_CONSTRAINTS},
    prefer_skip_nested_validation=True,
)
def set_coverage(
    queries: pd.DataFrame,
    *,
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """How often sets hold the true molecule, and how large they are.

    Parameters
    ----------
    queries : DataFrame
        Of :func:`query_beliefs`; several may be joined. A coverage is measured on the
        queries that have a size for it.
    n_resamples : int, default=2000
        Number of bootstrap samples of the drugs.
    confidence_level : float, default=0.95
        Coverage of the interval, in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Draws the drugs.

    Returns
    -------
    table : DataFrame of shape (n_coverages, 8)
        Index: the stated coverages. ``held``, the share of queries whose set holds the
        true molecule, with its percentile interval ``low`` and ``high`` from resampling
        whole drugs; ``mean_size`` and ``median_size``, shares of the candidates;
        ``empty`` and ``full``, shares of the sets; ``n_queries``.

    Raises
    ------
    ValueError
        If a coverage has fewer than two drugs, or a column is missing.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.metrics import set_coverage
    >>> queries = pd.DataFrame({"drug": list("aabb"), "p_value": [0.3, 0.6, 0.9, 0.1],
    ...                         "n_candidates": 10, "size@0.8": [0, 5, 10, 5]})
    >>> set_coverage(queries, random_state=0).round(2).T
    coverage      0.8
    held         0.75
    low          0.50
    high         1.00
    mean_size    0.50
    median_size  0.50
    empty        0.25
    full         0.25
    n_queries    4.00
    """
    missing = {"drug", "p_value", "n_candidates"}.difference(queries.columns)
    sizes = [name for name in queries.columns if str(name).startswith(_SIZE)]
    if missing or not sizes:
        raise ValueError(
            "queries must have the columns 'drug', 'p_value', 'n_candidates', and "
            "'size@c' for each coverage c, as query_beliefs makes them. Got "
            f"{list(queries.columns)}."
        )
    rows = {}
    for name in sizes:
        coverage = float(name.removeprefix(_SIZE))
        known = queries[queries[name].notna()]
        held = known["p_value"].to_numpy() > 1 - coverage + _ROUNDING
        low, high = _mean_interval(
            held, known["drug"], n_resamples, confidence_level, random_state
        )
        share = known[name].to_numpy() / known["n_candidates"].to_numpy()
        rows[coverage] = {
            "held": held.mean(),
            "low": low,
            "high": high,
            "mean_size": share.mean(),
            "median_size": np.median(share),
            "empty": np.mean(share == 0),
            "full": np.mean(share == 1),
            "n_queries": len(known),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("coverage")


def _mean_interval(values, drugs, n_resamples, confidence_level, random_state):
    """Return (low, high) of a mean over queries, from resampling whole drugs."""
    codes, _ = encode_drugs(drugs, len(values))
    sums = np.column_stack([np.bincount(codes, values), np.bincount(codes)])
    resampled = resampled_sums(sums, n_resamples, random_state)
    return percentile_interval(resampled[:, 0] / resampled[:, 1], confidence_level)


def _numbers(values: ArrayLike, name: str) -> Floats:
    array: Floats = check_named(np.asarray, values, name=name, dtype=np.float64)
    if array.ndim != 1 or not array.size:
        raise ValueError(
            f"{name} must be 1-D and hold at least one number. Got {values!r}."
        )
    return array


def _check_shares(values: ArrayLike, name: str) -> Floats:
    array = _numbers(values, name)
    outside = np.count_nonzero(~((array >= 0) & (array <= 1)))
    if outside:
        raise ValueError(
            f"{name} must hold numbers from 0 to 1; NaN, of a query with a single "
            f"candidate, is none. {outside} of {len(array)} are not. Got {values!r}."
        )
    return array


def _check_same_length(first, second, names):
    if len(first) != len(second):
        raise ValueError(
            f"{names} must have one number for each query. "
            f"Got {len(first)} and {len(second)}."
        )


def _bin(correct, confidence, n_bins, strategy):
    """Return both arrays, checked, and the bin of each query."""
    right = _check_shares(correct, "correct")
    sure = _check_shares(confidence, "confidence")
    _check_same_length(right, sure, "correct and confidence")
    edges = np.arange(1, n_bins) / n_bins
    if strategy == "quantile":
        edges = np.quantile(sure, edges)
    return right, sure, np.searchsorted(edges, sure, side="right")


@validate_params(
    {**_BINS, **RESAMPLING_CONSTRAINTS}, prefer_skip_nested_validation=True
)
def reliability_curve(
    correct: ArrayLike,
    confidence: ArrayLike,
    *,
    drugs: ArrayLike | None = None,
    n_bins: int = 10,
    strategy: str = "quantile",
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """How often the first molecule is the true one, at each confidence.

    Parameters
    ----------
    correct : array-like of shape (n_queries,)
        1 where the first molecule is the true one, 0 where it is not.
    confidence : array-like of shape (n_queries,)
        The share of belief in the first molecule.
    drugs : array-like of shape (n_queries,), default=None
        Identity of the true molecule; adds the interval from resampling whole drugs.
    n_bins : int, default=10
        Number of bins of the confidence.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins with as many queries each, or of equal width from 0 to 1.
    n_resamples : int, default=1000
        Number of bootstrap samples of the drugs of each bin.
    confidence_level : float, default=0.95
        Coverage of the interval, in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Draws the drugs.

    Returns
    -------
    table : DataFrame of shape (n_used_bins, 5)
        ``confidence`` and ``correct``, means of the bin; ``low`` and ``high``, NaN
        without `drugs` or with one drug in the bin; ``n_queries``. Bins without a
        query are left out.

    Raises
    ------
    ValueError
        If the arrays differ in length or hold anything outside 0 to 1.

    See Also
    --------
    sklearn.calibration.calibration_curve : The same for a classifier.

    Examples
    --------
    >>> from sklearn_molge.metrics import reliability_curve
    >>> reliability_curve([0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9], n_bins=2)
       confidence  correct  low  high  n_queries
    0         0.2      0.0  NaN   NaN          2
    1         0.7      1.0  NaN   NaN          2
    """
    right, sure, places = _bin(correct, confidence, n_bins, strategy)
    codes = None if drugs is None else encode_drugs(drugs, len(sure))[0]
    rows = []
    for place in np.unique(places):
        inside = places == place
        low = high = np.nan
        if codes is not None and len(np.unique(codes[inside])) > 1:
            low, high = _mean_interval(
                right[inside], codes[inside], n_resamples, confidence_level,
                random_state,
            )  # fmt: skip
        n_inside = np.count_nonzero(inside)
        rows.append((sure[inside].mean(), right[inside].mean(), low, high, n_inside))
    columns = ["confidence", "correct", "low", "high", "n_queries"]
    return pd.DataFrame(rows, columns=columns)


@validate_params(_BINS, prefer_skip_nested_validation=True)
def expected_calibration_error(
    correct: ArrayLike,
    confidence: ArrayLike,
    *,
    n_bins: int = 10,
    strategy: str = "quantile",
) -> float:
    r"""Mean distance of the confidence in the first molecule from how often it is true.

    Parameters
    ----------
    correct : array-like of shape (n_queries,)
        1 where the first molecule is the true one, 0 where it is not.
    confidence : array-like of shape (n_queries,)
        The share of belief in the first molecule.
    n_bins : int, default=10
        Number of bins of the confidence.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins with as many queries each, or of equal width from 0 to 1.

    Returns
    -------
    error : float
        Between 0 and 1. Few queries make it larger: perfect beliefs have
        about :math:`\sqrt{2 a (1 - a) / (\pi n)}` with n queries a bin, of which the
        share a is right.

    Raises
    ------
    ValueError
        If the arrays differ in length or hold anything outside 0 to 1.

    Notes
    -----
    .. math:: \mathrm{ECE} = \sum_b \frac{n_b}{n} |\mathrm{correct}_b -
              \mathrm{confidence}_b|

    References
    ----------
    C. Guo et al., "On calibration of modern neural networks", ICML 2017, equation 3.

    Examples
    --------
    >>> from sklearn_molge.metrics import expected_calibration_error
    >>> error = expected_calibration_error([0, 0, 1, 1], [0.1, 0.3, 0.5, 0.9], n_bins=2)
    >>> round(error, 3)
    0.25
    """
    right, sure, places = _bin(correct, confidence, n_bins, strategy)
    return float(np.abs(np.bincount(places, right - sure)).sum() / len(sure))


@validate_params(
    {**_BINS, **RESAMPLING_CONSTRAINTS}, prefer_skip_nested_validation=True
)
def bootstrap_calibration_error(
    correct: ArrayLike,
    confidence: ArrayLike,
    drugs: ArrayLike,
    *,
    n_bins: int = 10,
    strategy: str = "quantile",
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> pd.Series:
    r"""Estimate the calibration error, with an interval from resampling whole drugs.

    Parameters
    ----------
    correct : array-like of shape (n_queries,)
        1 where the first molecule is the true one, 0 where it is not.
    confidence : array-like of shape (n_queries,)
        The share of belief in the first molecule.
    drugs : array-like of shape (n_queries,)
        Identity of the true molecule.
    n_bins : int, default=10
        Number of bins of the confidence.
    strategy : {"quantile", "uniform"}, default="quantile"
        Bins with as many queries each, or of equal width from 0 to 1.
    n_resamples : int, default=2000
        Number of bootstrap samples of the drugs.
    confidence_level : float, default=0.95
        Coverage of the interval, in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Draws the drugs.

    Returns
    -------
    error : Series
        ``score``, as of :func:`expected_calibration_error`; ``low`` and ``high``: a row
        such as :func:`bootstrap_scores` has.

    Raises
    ------
    ValueError
        If the arrays differ in length, hold anything outside 0 to 1, or there are fewer
        than two drugs.

    Notes
    -----
    Distances do not average out: chance makes the error e larger, and makes that of a
    resample larger again. So the interval is not that of the percentiles q of the
    resamples, which perfect beliefs would be outside of, but the basic one,
    :math:`[2e - q_\mathrm{high}, 2e - q_\mathrm{low}]`, cut off at 0 and reaching up
    to e. It reaches down to 0 where resamples about the distances of the bins, which
    are then those of perfect beliefs, have errors as large as e. The bins stay those of
    all queries.

    References
    ----------
    Davison and Hinkley (1997), Bootstrap Methods and their Application, section 5.2.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.metrics import bootstrap_calibration_error
    >>> rng = np.random.default_rng(0)
    >>> confidence = rng.uniform(size=500)
    >>> right = rng.uniform(size=500) < confidence
    >>> drugs = np.repeat(np.arange(100), 5)
    >>> bootstrap_calibration_error(right, confidence, drugs, random_state=0).round(3)
    score    0.035
    low      0.000
    high     0.041
    Name: expected_calibration_error, dtype: float64
    """
    right, sure, places = _bin(correct, confidence, n_bins, strategy)
    codes, n_drugs = encode_drugs(drugs, len(sure))
    # A column a bin, and one of the number of queries.
    sums = np.zeros((n_drugs, n_bins + 1))
    np.add.at(sums, (codes, places), right - sure)
    sums[:, -1] = np.bincount(codes)
    *bins, n_queries = resampled_sums(sums, n_resamples, random_state).T
    errors = np.abs(bins).sum(axis=0) / n_queries
    own = sums[:, :-1].sum(axis=0)[:, None]
    error = np.abs(own).sum() / len(sure)
    high, low = 2 * error - percentile_interval(errors, confidence_level)
    # What chance alone would make of beliefs that are right in each bin.
    chance = np.abs(bins - own * n_queries / len(sure)).sum(axis=0) / n_queries
    if error < percentile_interval(chance, confidence_level)[1]:
        low = 0.0
    return pd.Series(
        {"score": error, "low": max(low, 0.0), "high": max(high, error)},
        name="expected_calibration_error",
    )


@validate_params(RESAMPLING_CONSTRAINTS, prefer_skip_nested_validation=True)
def abstention_curve(
    ranks: ArrayLike,
    confidence: ArrayLike,
    *,
    drugs: ArrayLike | None = None,
    scoring: str | Score = "mrr",
    answered: Sequence[float] | None = None,
    n_resamples: int = 1000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """Score of the queries that are answered, if the least sure ones are not.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.
    confidence : array-like of shape (n_queries,)
        How sure each answer is; larger is surer.
    drugs : array-like of shape (n_queries,), default=None
        Identity of the true molecule; adds the interval from resampling whole drugs.
    scoring : str or Score, default="mrr"
        "mrr", "median_rank", "hits@k" or your own.
    answered : sequence of float, default=None
        Shares of the queries, in (0, 1]; by default 0.02, 0.04, ..., 1.
    n_resamples : int, default=1000
        Number of bootstrap samples of the drugs of the answered queries.
    confidence_level : float, default=0.95
        Coverage of the interval, in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Draws the drugs.

    Returns
    -------
    table : DataFrame of shape (n_shares, 5)
        ``answered``, the share of the queries that is answered: queries as sure as the
        last one are, too; ``confidence`` of that one; ``score``; ``low`` and ``high``,
        NaN without `drugs` or with one drug among the answered.

    Raises
    ------
    ValueError
        If `ranks` are no ranks, the arrays differ in length, a confidence is NaN, or a
        share is outside (0, 1], or there is none.

    References
    ----------
    Y. Geifman and R. El-Yaniv, "Selective classification for deep neural networks",
    NeurIPS 2017: the risk-coverage curve.

    Examples
    --------
    >>> from sklearn_molge.metrics import abstention_curve
    >>> abstention_curve([1, 2, 4, 4], [0.9, 0.5, 0.2, 0.2], answered=[0.5, 1])
       answered  confidence  score  low  high
    0       0.5         0.5   0.75  NaN   NaN
    1       1.0         0.2   0.50  NaN   NaN
    """
    array = check_ranks(ranks)
    sure = _numbers(confidence, "confidence")
    _check_same_length(array, sure, "ranks and confidence")
    if np.isnan(sure).any():
        raise ValueError("confidence must not be NaN.")
    shares = _numbers(
        np.arange(1, 51) / 50 if answered is None else answered, "answered"
    )
    if not np.all((shares > 0) & (shares <= 1)):
        raise ValueError(f"answered must hold shares in (0, 1]. Got {answered!r}.")
    codes = None if drugs is None else encode_drugs(drugs, len(array))[0]
    score = get_score(scoring, parameter="scoring")
    descending = -np.sort(-sure)
    lasts = np.ceil(np.round(shares * len(sure), 8)).astype(int) - 1
    rows = []
    for threshold in np.unique(descending[lasts])[::-1]:
        inside = sure >= threshold
        low = high = np.nan
        if codes is not None and len(np.unique(codes[inside])) > 1:
            _, low, high = bootstrap_scores(
                array[inside], codes[inside], scores=[score], n_resamples=n_resamples,
                confidence_level=confidence_level, random_state=random_state,
            ).iloc[0]  # fmt: skip
        rows.append((inside.mean(), threshold, score(array[inside]), low, high))
    columns = ["answered", "confidence", "score", "low", "high"]
    return pd.DataFrame(rows, columns=columns)
