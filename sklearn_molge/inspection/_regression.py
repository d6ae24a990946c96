"""Regression of how well drugs are found on something known about them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge._utils.checks import check_n_candidates, check_ranks
from sklearn_molge._utils.resampling import (
    RESAMPLING_CONSTRAINTS,
    encode_drugs,
    percentile_interval,
    resampled_sums,
)

__all__ = ["PerformanceRegression", "performance_regression"]

Floats = NDArray[np.float64]

# Random rankings whose mean response is the chance line: its error is that of the
# mean response over the root of their number.
_N_RANDOM = 200


@dataclass(frozen=True, eq=False)
class PerformanceRegression:
    """A line through drugs or profiles; made by :func:`performance_regression`.

    Attributes
    ----------
    slope, intercept : float
        The least-squares line.
    slope_low, slope_high : float
        Percentile interval of the slope, resampling whole drugs.
    r : float
        Pearson's correlation; NaN where x or the response does not vary.
    r_low, r_high : float
        Percentile interval of `r`, resampling whole drugs.
    p_value : float
        Two-sided p-value of no relation. For ``per="profile"`` whole drugs are
        permuted, since the profiles of one drug are not independent.
    naive_p_value : float
        The t-test of the slope, as if all points were independent (the paper's).
    n, n_drugs, n_dropped : int
        Points, their drugs, and points that were left out because x is 0 and its
        logarithm was asked for.
    chance : float or None
        Expected response of a random ranking; None where `n_candidates` was not given.
    per, response, log_x, confidence_level
        As they were asked for.
    table : DataFrame of n rows
        The points: ``drug``, ``x`` (its logarithm where asked for), ``response``,
        ``n_profiles``, ``mrr``, ``median_rank``.
    """

    slope: float
    slope_low: float
    slope_high: float
    intercept: float
    r: float
    r_low: float
    r_high: float
    p_value: float
    naive_p_value: float
    n: int
    n_drugs: int
    n_dropped: int
    chance: float | None
    per: str
    response: str
    log_x: bool
    confidence_level: float
    table: pd.DataFrame = field(repr=False)
    _lines: Floats = field(repr=False)

    def predict(self, x: ArrayLike) -> Floats:
        """Return the response on the line.

        Parameters
        ----------
        x : array-like of shape (n,)
            As in `table`.

        Returns
        -------
        response : ndarray of shape (n,)
        """
        return self.intercept + self.slope * np.asarray(x, dtype=np.float64)

    def interval(self, x: ArrayLike) -> Floats:
        """Return the lower and upper end of the line, resampling whole drugs.

        Parameters
        ----------
        x : array-like of shape (n,)
            As in `table`.

        Returns
        -------
        interval : ndarray of shape (2, n)
            NaN where there is no line.
        """
        at = np.asarray(x, dtype=np.float64)
        if len(self._lines) == 0:
            return np.full((2, len(at)), np.nan)
        intercepts, slopes = self._lines.T
        lines = intercepts + at[:, np.newaxis] * slopes
        return percentile_interval(lines, self.confidence_level)

    def summary(self) -> dict[str, float | str | None]:
        """Return the numbers without the points: a row of a table.

        Returns
        -------
        summary : dict
            Attributes by name, from ``slope`` to ``log_x``.
        """
        names = [field.name for field in fields(self)]
        told = names[: names.index("confidence_level")]
        return {name: getattr(self, name) for name in told}


@validate_params(
    {
        **RESAMPLING_CONSTRAINTS,
        "x": ["array-like"],
        "ranks": ["array-like"],
        "per": [StrOptions({"drug", "profile"})],
        "response": [StrOptions({"neg_log_mrr", "rank"})],
        "log_x": ["boolean"],
    },
    prefer_skip_nested_validation=True,
)
def performance_regression(
    x: ArrayLike,
    ranks: ArrayLike,
    drugs: ArrayLike,
    *,
    per: str = "drug",
    response: str = "neg_log_mrr",
    log_x: bool = False,
    n_candidates: ArrayLike | None = None,
    confidence_level: float = 0.95,
    n_resamples: int = 2000,
    random_state: int | np.random.RandomState | None = None,
) -> PerformanceRegression:
    r"""Regression of how well drugs are found on a number known for each of them.

    Parameters
    ----------
    x : array-like of shape (n_queries,)
        The number, for each query: a distance to the training set, a count of genes.
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.
    drugs : array-like of shape (n_queries,)
        Identity of the true molecule.
    per : {"drug", "profile"}, default="drug"
        Whether a point is a drug, with the mean of `x` over its queries, or a query.
    response : {"neg_log_mrr", "rank"}, default="neg_log_mrr"
        Minus the natural logarithm of the drug's mean reciprocal rank (of a profile:
        the logarithm of its rank), or the drug's median rank (the profile's rank).
        Larger is worse.
    log_x : bool, default=False
        Use the natural logarithm of the point's x. Points where x is 0 have none:
        they are dropped, and counted in ``n_dropped``.
    n_candidates : int or array-like of shape (n_queries,), default=None
        Number of molecules that were ranked, for the response of a random ranking.
    confidence_level : float, default=0.95
        Coverage of the intervals, in (0, 1).
    n_resamples : int, default=2000
        Number of bootstrap samples of the drugs, and of their permutations.
    random_state : int, RandomState instance or None, default=None
        Controls the resampling of the drugs.

    Returns
    -------
    regression : PerformanceRegression
        With ``slope``, ``intercept``, ``r``, ``p_value``, their intervals, ``n``,
        ``n_drugs``, ``n_dropped``, ``chance`` and the points in ``table``; ``predict``
        and ``interval`` give the line and its band.

    Raises
    ------
    ValueError
        If lengths disagree, ranks are no ranks, `x` is NaN or infinite or, with
        `log_x`, negative, or if there are fewer than two drugs.

    See Also
    --------
    RegressionDisplay : The picture.
    training_distances : Numbers to regress on.

    Notes
    -----
    Intervals resample drugs with all their profiles. With fewer than three points, or
    where x does not vary, there is no line: slope, r and p-value are NaN.

    For ``per="drug"`` the p-value is that of the t-test of the slope. For
    ``per="profile"`` that test, ``naive_p_value``, treats the profiles of one drug as
    independent and is too small: ``p_value`` lets whole drugs exchange their ranks
    with drugs of as many profiles, in random order within the drug, and is exact if
    such drugs are exchangeable.

    A random ranking has the expected response (M + 1) / 2, or log(M!) / M for the
    logarithm of a rank. Minus the logarithm of a drug's MRR depends on its number of
    profiles (Jensen): it comes down to minus the logarithm of the chance MRR only for
    many. Chance is therefore the mean over 200 random rankings of the same profiles.

    References
    ----------
    Finlayson et al. (2020), section 3.4, figures 3 and A2.

    Examples
    --------
    >>> from sklearn_molge.inspection import performance_regression
    >>> fit = performance_regression(
    ...     [0.1, 0.1, 0.2, 0.4, 0.5],
    ...     [1, 3, 3, 5, 9],
    ...     ["a", "a", "b", "c", "d"],
    ...     response="rank",
    ...     random_state=0,
    ... )
    >>> round(fit.slope, 2), round(fit.r, 2), fit.n
    (16.0, 0.94, 4)
    >>> fit.table[["drug", "x", "response", "n_profiles"]]
      drug    x  response  n_profiles
    0    a  0.1       2.0           2
    1    b  0.2       3.0           1
    2    c  0.4       5.0           1
    3    d  0.5       9.0           1
    """
    ranks = check_ranks(ranks)
    values = _check_x(x, len(ranks), log_x)
    encode_drugs(drugs, len(ranks))
    rows = pd.DataFrame(
        {"drug": np.asarray(drugs, dtype=object), "x": values, "rank": ranks}
    )
    if n_candidates is not None:
        rows["n_candidates"] = _check_sizes(n_candidates, ranks)
    table = _points(rows, per, response)
    n_points = len(table)
    if log_x:
        kept = table["x"] > 0
        table = table[kept].assign(x=np.log(table["x"][kept]))
        rows = rows[rows["drug"].isin(table["drug"])] if per == "drug" else rows[kept]
    table = table.reset_index(drop=True)
    rng = check_random_state(random_state)
    at, response_ = table["x"].to_numpy(), table["response"].to_numpy()
    codes = pd.factorize(table["drug"], sort=True)[0]
    slope, intercept, r, naive_p_value = _fit_line(at, response_)
    slopes, intercepts, correlations = _resampled_lines(
        at, response_, codes, n_resamples, rng
    )
    p_value = naive_p_value
    if per == "profile" and np.isfinite(r):
        p_value = _permutation_p_value(at, response_, codes, n_resamples, rng)
    slope_low, slope_high = _interval(slopes, confidence_level)
    r_low, r_high = np.nan, np.nan
    if np.isfinite(r):
        r_low, r_high = _interval(correlations, confidence_level)
    has_line = np.isfinite(slopes)
    asked = n_candidates is not None
    chance = _chance_response(rows, per, response, rng) if asked else None
    return PerformanceRegression(
        slope=slope,
        intercept=intercept,
        slope_low=slope_low,
        slope_high=slope_high,
        r=r,
        r_low=r_low,
        r_high=r_high,
        p_value=p_value,
        naive_p_value=naive_p_value,
        n=len(table),
        n_drugs=len(np.unique(codes)),
        n_dropped=n_points - len(table),
        chance=chance,
        per=per,
        response=response,
        log_x=bool(log_x),
        confidence_level=confidence_level,
        table=table,
        _lines=np.column_stack([intercepts, slopes])[has_line],
    )


def _check_x(x: ArrayLike, n_queries: int, log_x: bool) -> Floats:
    values = column_or_1d(np.asarray(x, dtype=np.float64))
    if len(values) != n_queries:
        raise ValueError(
            f"x must hold one number for each of the {n_queries} ranks. "
            f"Got {len(values)}."
        )
    bad = np.flatnonzero(~np.isfinite(values) | (log_x & (values < 0)))
    if bad.size:
        allowed = "finite and, with log_x=True, at least 0" if log_x else "finite"
        raise ValueError(
            f"x must be {allowed}. {bad.size} of {n_queries} are not, the first "
            f"{values[bad[0]]} at index {bad[0]}."
        )
    return values


def _check_sizes(n_candidates: ArrayLike, ranks: Floats) -> NDArray[np.int64]:
    sizes = check_n_candidates(n_candidates)
    if sizes.size not in (1, len(ranks)):
        raise ValueError(
            f"n_candidates must be an int or hold one for each of the {len(ranks)} "
            f"ranks. Got {sizes.size}."
        )
    sizes = np.broadcast_to(sizes, ranks.shape)
    if np.any(ranks > sizes):
        bad = int(np.argmax(ranks > sizes))
        raise ValueError(
            f"ranks must be <= n_candidates. Got {ranks[bad]:g} of {sizes[bad]} at "
            f"index {bad}."
        )
    return sizes


def _interval(samples: Floats, confidence_level: float) -> tuple[float, float]:
    samples = samples[np.isfinite(samples)]
    if samples.size == 0:
        return np.nan, np.nan
    low, high = percentile_interval(samples, confidence_level)
    return float(low), float(high)


def _points(rows: pd.DataFrame, per: str, response: str) -> pd.DataFrame:
    """Return one row per drug (sorted) or per profile (in order)."""
    rows = rows.assign(mrr=1 / rows["rank"])
    if per == "drug":
        points = rows.groupby("drug", as_index=False).agg(
            x=("x", "mean"),
            mrr=("mrr", "mean"),
            median_rank=("rank", "median"),
            n_profiles=("rank", "size"),
        )
    else:
        points = rows.assign(median_rank=rows["rank"], n_profiles=1)
    by_rank = response == "rank"
    points["response"] = points["median_rank"] if by_rank else -np.log(points["mrr"])
    return points[["drug", "x", "response", "n_profiles", "mrr", "median_rank"]]


def _chance_response(rows: pd.DataFrame, per: str, response: str, rng) -> float:
    """Return the mean response of random rankings of the same queries."""
    if len(rows) == 0:
        return np.nan
    sizes = rows["n_candidates"].to_numpy()
    if response == "rank" and (per == "profile" or np.ptp(sizes) == 0):
        return float(np.mean((sizes + 1) / 2))
    if per == "profile":
        return float(np.mean(special.gammaln(sizes + 1) / sizes))  # log(M!) / M
    codes = pd.factorize(rows["drug"], sort=True)[0]
    order = np.lexsort((sizes, codes))  # the same draws whatever the order of the rows
    codes, sizes = codes[order], sizes[order]
    means = []
    for _ in range(_N_RANDOM):
        ranks = rng.randint(1, sizes + 1)
        if response == "rank":
            of_drug = pd.Series(ranks).groupby(codes).median().to_numpy()
        else:
            of_drug = -np.log(np.bincount(codes, 1 / ranks) / np.bincount(codes))
        means.append(of_drug.mean())
    return float(np.mean(means))


def _fit_line(x: Floats, y: Floats) -> tuple[float, float, float, float]:
    """Return slope, intercept, r and the p-value of the t-test."""
    if len(x) < 3 or _is_constant(x):
        return np.nan, np.nan, np.nan, np.nan
    if _is_constant(y):
        return 0.0, float(y.mean()), np.nan, np.nan
    fit = stats.linregress(x, y)
    return float(fit.slope), float(fit.intercept), float(fit.rvalue), float(fit.pvalue)


def _resampled_lines(
    x: Floats, y: Floats, codes: NDArray[np.intp], n_resamples: int, rng
) -> tuple[Floats, Floats, Floats]:
    """Return slope, intercept and r of each resample of whole drugs."""
    if len(x) < 3 or _is_constant(x):
        return (np.full(n_resamples, np.nan),) * 3
    x_mean, y_mean = x.mean(), y.mean()
    x, y = x - x_mean, y - y_mean
    terms = (np.ones_like(x), x, y, x * x, x * y, y * y)
    sums = np.column_stack([np.bincount(codes, weights=term) for term in terms])
    n, sx, sy, xx, xy, yy = resampled_sums(sums, n_resamples, rng).T
    xx, xy, yy = xx - sx**2 / n, xy - sx * sy / n, yy - sy**2 / n
    # A resample of one value of x has no line; rounding leaves a little of xx.
    xx = np.where(xx > 1e-12 * sums[:, 3].sum(), xx, np.nan)
    yy = np.where(yy > 1e-12 * sums[:, 5].sum(), yy, np.nan)
    slopes = xy / xx
    intercepts = (sy - slopes * sx) / n + y_mean - slopes * x_mean
    return slopes, intercepts, xy / np.sqrt(xx * yy)


def _is_constant(values: Floats) -> bool:
    """Whether values differ by no more than the rounding of a mean."""
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _permutation_p_value(
    x: Floats, y: Floats, codes: NDArray[np.intp], n_resamples: int, rng
) -> float:
    """Two-sided p-value of no relation of x and y, at least 1 / (1 + n_resamples).

    Drugs exchange their y with drugs of as many rows; within a drug, the order is
    random. The statistic is the distance of ``sum(x * y)`` from its mean under these
    permutations. It does not depend on the order of the rows.
    """
    x, y = x - x.mean(), y - y.mean()
    order, sizes = np.lexsort((y, x, codes)), np.bincount(codes)
    blocks = []  # x and y of the drugs with k rows, of shape (n_drugs, k)
    for size in np.unique(sizes):
        rows = order[np.repeat(sizes, sizes) == size].reshape(-1, size)
        blocks.append((x[rows], y[rows]))
    expected = sum(a.size * a.mean() * b.mean() for a, b in blocks)
    observed = abs(sum(np.vdot(a, b) for a, b in blocks) - expected)
    # Equal sums are added up in another order.
    observed -= 1e-12 * np.sqrt(np.sum(x**2) * np.sum(y**2))
    extreme = 0
    for _ in range(n_resamples):
        total = sum(np.vdot(a, _shuffled(b, rng)) for a, b in blocks)
        extreme += int(abs(total - expected) >= observed)
    return (1 + extreme) / (1 + n_resamples)


def _shuffled(block: Floats, rng: np.random.RandomState) -> Floats:
    block = block[rng.permutation(len(block))]
    if block.shape[1] == 1:
        return block
    order = rng.random_sample(block.shape).argsort(axis=1)
    return np.take_along_axis(block, order, axis=1)
