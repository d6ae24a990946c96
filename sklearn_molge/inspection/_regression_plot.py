"""RegressionDisplay: how well drugs are found, against a number known of them."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sklearn_molge._utils.optional import import_pyplot
from sklearn_molge.inspection._regression import (
    PerformanceRegression,
    performance_regression,
)

__all__ = ["RegressionDisplay"]

_RESPONSES = {
    ("neg_log_mrr", "drug"): "-ln MRR of the drug",
    ("neg_log_mrr", "profile"): "ln rank of the profile",
    ("rank", "drug"): "Median rank of the drug",
    ("rank", "profile"): "Rank of the profile",
}
# More points are drawn paler.
_MANY_POINTS = 500


class RegressionDisplay:
    """Points, their regression line with its band, and chance.

    Make one with :meth:`from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    regression : PerformanceRegression
        What :func:`performance_regression` returns.
    xlabel : str, default="x"
        Label of the horizontal axis, with the unit; where the logarithm was taken, it
        becomes "ln(...)".

    Attributes
    ----------
    points_ : matplotlib Artist
        The drugs or profiles.
    line_ : matplotlib Artist or None
        The regression line; None where there is none.
    interval_ : matplotlib Artist or None
        The band of the line, from resampling whole drugs.
    chance_line_ : matplotlib Artist or None
        What a random ranking has; None where its `n_candidates` are not known.
    ax_ : matplotlib Axes
        Axes with the points.
    figure_ : matplotlib Figure
        Figure with the points.

    See Also
    --------
    performance_regression : The numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.inspection import RegressionDisplay
    >>> rng = np.random.default_rng(0)
    >>> drugs = np.repeat([f"drug{i:02}" for i in range(30)], 2)
    >>> ranks = rng.integers(1, 31, size=60)
    >>> display = RegressionDisplay.from_predictions(
    ...     np.repeat(rng.random(30), 2), ranks, drugs, xlabel="distance",
    ...     n_candidates=30, random_state=0,
    ... )
    >>> display.ax_.get_ylabel()
    '-ln MRR of the drug'
    """

    def __init__(self, regression: PerformanceRegression, *, xlabel: str = "x"):
        self.regression = regression
        self.xlabel = xlabel

    @classmethod
    def from_predictions(
        cls,
        x: ArrayLike,
        ranks: ArrayLike,
        drugs: ArrayLike,
        *,
        xlabel: str = "x",
        per: str = "drug",
        response: str = "neg_log_mrr",
        log_x: bool = False,
        n_candidates: ArrayLike | None = None,
        confidence_level: float = 0.95,
        n_resamples: int = 2000,
        random_state: int | np.random.RandomState | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> "RegressionDisplay":
        """Regress the ranks on x, and draw it.

        Parameters
        ----------
        x, ranks, drugs : array-like of shape (n_queries,)
            As in :func:`performance_regression`.
        xlabel : str, default="x"
            Label of the horizontal axis, without the logarithm.
        per, response, log_x, n_candidates, confidence_level, n_resamples, random_state
            As in :func:`performance_regression`.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        **kwargs : dict
            Passed to matplotlib's ``scatter`` for the points.

        Returns
        -------
        display : RegressionDisplay

        Raises
        ------
        ValueError
            As :func:`performance_regression`.
        ImportError
            If matplotlib is not installed.
        """
        regression = performance_regression(
            x,
            ranks,
            drugs,
            per=per,
            response=response,
            log_x=log_x,
            n_candidates=n_candidates,
            confidence_level=confidence_level,
            n_resamples=n_resamples,
            random_state=random_state,
        )
        return cls(regression, xlabel=xlabel).plot(ax, **kwargs)

    def plot(self, ax: Any = None, **kwargs: Any) -> Any:
        """Draw the points, the line, its band and chance.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        **kwargs : dict
            Passed to matplotlib's ``scatter`` for the points.

        Returns
        -------
        display : RegressionDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        if ax is None:
            ax = import_pyplot(type(self).__name__).subplots(layout="constrained")[1]
        self.ax_, self.figure_ = ax, ax.figure
        fit, table = self.regression, self.regression.table
        style: dict[str, Any] = {
            "s": 14,
            "alpha": 0.5 if fit.n <= _MANY_POINTS else 0.2,
        }
        style |= {"linewidths": 0, "color": "C0"}
        self.points_ = ax.scatter(table["x"], table["response"], **(style | kwargs))
        self.line_ = self.interval_ = self.chance_line_ = None
        if np.isfinite(fit.slope):
            ends = np.linspace(table["x"].min(), table["x"].max(), 101)
            (self.line_,) = ax.plot(ends, fit.predict(ends), color="C1")
            low, high = fit.interval(ends)
            self.interval_ = ax.fill_between(
                ends, low, high, color="C1", alpha=0.25, linewidth=0
            )
        if fit.chance is not None:
            style = {"color": "0.4", "linestyle": "--", "zorder": 1.5}
            self.chance_line_ = ax.axhline(fit.chance, **style, label="Chance")
            ax.legend(loc="best")
        ax.set(
            xlabel=f"ln({self.xlabel})" if fit.log_x else self.xlabel,
            ylabel=_RESPONSES[fit.response, fit.per],
        )
        ax.set_title(_summary(fit), loc="left", fontsize="small")
        return self


def _summary(fit: PerformanceRegression) -> str:
    if np.isnan(fit.slope):
        return f"n = {fit.n}: no line, x does not vary"
    p = f"p = {fit.p_value:.2g}" if fit.p_value >= 1e-300 else "p < 1e-300"
    return (
        f"slope {fit.slope:.3g} [{fit.slope_low:.3g}, {fit.slope_high:.3g}]\n"
        f"r = {fit.r:.2f}, {p}, n = {fit.n:,}"
    )
