"""Least-squares lines, with resamples of whole drugs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sklearn_molge._utils.resampling import resampled_counts

__all__ = ["fit_line", "resampled_lines"]

Floats = NDArray[np.float64]


def fit_line(x: Floats, y: Floats) -> tuple[float, float, float, float]:
    """Return slope, intercept, r and the p-value of the t-test."""
    if len(x) < 3 or _is_constant(x):
        return np.nan, np.nan, np.nan, np.nan
    if _is_constant(y):
        return 0.0, float(y.mean()), np.nan, np.nan
    fit = stats.linregress(x, y)
    return float(fit.slope), float(fit.intercept), float(fit.rvalue), float(fit.pvalue)


def resampled_lines(
    x: Floats, y: Floats, codes: NDArray[np.intp], n_resamples: int, rng: Any
) -> tuple[Floats, Floats, Floats]:
    """Return slope, intercept and r of each resample of whole drugs."""
    if len(x) < 3 or _is_constant(x):
        return (np.full(n_resamples, np.nan),) * 3
    x_mean, y_mean = x.mean(), y.mean()
    x, y = x - x_mean, y - y_mean
    terms = (np.ones_like(x), x, y, x * x, x * y, y * y)
    sums = np.column_stack([np.bincount(codes, weights=term) for term in terms])
    n_drugs = len(sums)
    totals = np.concatenate(
        [
            counts @ sums
            for counts in resampled_counts(n_drugs, n_resamples, n_drugs, rng)
        ]
    )
    n, sx, sy, xx, xy, yy = totals.T
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
