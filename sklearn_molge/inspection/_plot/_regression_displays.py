"""Displays of regressions: how well drugs are found, against what is known of them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._utils.plotting import DisplayMixin
from sklearn_molge.inspection._regression import (
    PerformanceRegression,
    performance_regression,
)
from sklearn_molge.inspection._training_distances import TRAINING_DISTANCES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["RegressionDisplay", "SpecificityDisplay", "TrainingDistanceDisplay"]

_RESPONSES = {
    ("neg_log_mrr", "drug"): "-ln MRR of the drug",
    ("neg_log_mrr", "profile"): "ln rank of the profile",
    ("rank", "drug"): "Median rank of the drug",
    ("rank", "profile"): "Rank of the profile",
}
# More points are drawn paler.
_MANY_POINTS = 500


class RegressionDisplay(DisplayMixin):
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
    figure_ : matplotlib Figure

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
        ax: Axes | None = None,
        scatter_kwargs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> RegressionDisplay:
        """Regress the ranks on x, and draw it.

        Parameters
        ----------
        x, ranks, drugs : array-like of shape (n_queries,)
            As in :func:`performance_regression`.
        xlabel : str, default="x"
            Label of the horizontal axis, without the logarithm.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        scatter_kwargs : dict, default=None
            Passed to matplotlib's ``scatter`` for the points.
        **kwargs : dict
            Passed to :func:`performance_regression`.

        Returns
        -------
        display : RegressionDisplay

        Raises
        ------
        ValueError
            As :func:`performance_regression`.
        """
        regression = performance_regression(x, ranks, drugs, **kwargs)
        return cls(regression, xlabel=xlabel).plot(ax, **(scatter_kwargs or {}))

    def plot(self, ax: Axes | None = None, **kwargs: Any) -> Self:
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
        ax = self._use_axes(ax, layout="constrained")
        fit, table = self.regression, self.regression.table
        alpha = 0.5 if fit.n <= _MANY_POINTS else 0.2
        kwargs = {"s": 14, "alpha": alpha, "linewidths": 0, "color": "C0", **kwargs}
        self.points_ = ax.scatter(table["x"], table["response"], **kwargs)
        self.line_ = self.interval_ = self.chance_line_ = None
        if np.isfinite(fit.slope):
            ends = np.linspace(table["x"].min(), table["x"].max(), 101)
            (self.line_,) = ax.plot(ends, fit.predict(ends), color="C1")
            low, high = fit.interval(ends)
            self.interval_ = ax.fill_between(
                ends, low, high, color="C1", alpha=0.25, linewidth=0
            )
        if fit.chance is not None:
            self.chance_line_ = ax.axhline(
                fit.chance, color="0.4", linestyle="--", zorder=1.5, label="Chance"
            )
            ax.legend(loc="best")
        ax.set(
            xlabel=f"ln({self.xlabel})" if fit.log_x else self.xlabel,
            ylabel=_RESPONSES[fit.response, fit.per],
        )
        ax.set_title(_summary(fit), loc="left", fontsize="small")
        return self


class SpecificityDisplay(RegressionDisplay):
    """How well drugs are found, against the number of genes that they change.

    Make one with :meth:`from_predictions`; attributes are those of
    :class:`RegressionDisplay`. The horizontal axis is ln(1 + number of genes), so that
    drugs that change no gene stay in (the paper takes ln of the number; its drugs
    change 60 and more).

    Parameters
    ----------
    regression : PerformanceRegression
        On ln(1 + number of genes), one point per drug.
    n_unknown : int, default=0
        Number of drugs that were left out because their number of genes is not known.

    See Also
    --------
    differential_genes : The number of genes.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_molge.inspection import SpecificityDisplay
    >>> n_genes = pd.Series({"a": 0, "b": 12.5, "c": 80, "d": 300})
    >>> display = SpecificityDisplay.from_predictions(
    ...     n_genes, ranks=[4, 3, 2, 2, 1], drugs=["a", "b", "c", "d", "e"]
    ... )
    >>> display.regression.n, display.n_unknown
    (4, 1)
    """

    def __init__(self, regression: PerformanceRegression, *, n_unknown: int = 0):
        super().__init__(regression, xlabel="ln(1 + number of genes changed)")
        self.n_unknown = n_unknown

    @classmethod
    def from_predictions(  # type: ignore[override]
        cls,
        n_genes: pd.Series[float],
        ranks: ArrayLike,
        drugs: ArrayLike,
        *,
        n_candidates: ArrayLike | None = None,
        ax: Axes | None = None,
        **kwargs: Any,
    ) -> SpecificityDisplay:
        """Regress the ranks on the number of genes, and draw it.

        Parameters
        ----------
        n_genes : Series of float
            Number of genes by drug (the index), such as
            ``differential_genes(study).groupby("drug")["n_genes"].mean()``. Drugs that
            it does not have, or has as NaN, are left out.
        ranks, drugs : array-like of shape (n_queries,)
            As in :func:`performance_regression`.
        n_candidates : int or array-like of shape (n_queries,), default=None
            Number of molecules that were ranked, for the response of a random ranking.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        **kwargs : dict
            ``response``, ``confidence_level``, ``n_resamples`` and ``random_state`` of
            :func:`performance_regression`.

        Returns
        -------
        display : SpecificityDisplay

        Raises
        ------
        ValueError
            If a drug is twice in `n_genes` or has a negative number, or as
            :func:`performance_regression`.
        """
        of_drug = _check_n_genes(n_genes)
        drugs, ranks = np.asarray(drugs, dtype=object), np.asarray(ranks)
        x = pd.Series(drugs).map(of_drug).to_numpy(dtype=np.float64)
        known = ~np.isnan(x)
        if n_candidates is not None and np.ndim(n_candidates) == 1:
            n_candidates = np.asarray(n_candidates)[known]
        x, ranks, drugs_ = np.log1p(x[known]), ranks[known], drugs[known]
        regression = performance_regression(
            x, ranks, drugs_, n_candidates=n_candidates, **kwargs
        )
        n_unknown = len(pd.unique(drugs[~known]))
        return cls(regression, n_unknown=n_unknown).plot(ax)


class TrainingDistanceDisplay(DisplayMixin):
    """How well drugs are found, against their distances to the training set.

    Make one with :meth:`from_predictions`: one panel per distance, with a point
    per drug for molecules and per profile for profiles (figures 3A and A2 of the
    paper).

    Parameters
    ----------
    displays : dict of str to RegressionDisplay
        The panel of each distance.

    Attributes
    ----------
    displays_ : dict of str to RegressionDisplay
        The panels, drawn.
    table : DataFrame
        The regression of each distance (the index): slope, r, p-value, intervals.
    axes_ : ndarray of matplotlib Axes
        One for each distance.
    ax_ : matplotlib Axes
        The first of them.
    figure_ : matplotlib Figure

    See Also
    --------
    training_distances : The distances.
    performance_regression : The regressions.

    References
    ----------
    Finlayson et al. (2020), figures 3A and A2.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_molge.inspection import TrainingDistanceDisplay
    >>> rng = np.random.default_rng(0)
    >>> drugs = np.repeat([f"drug{i:02}" for i in range(30)], 2)
    >>> distances = pd.DataFrame(
    ...     {
    ...         "fingerprint": np.repeat(rng.random(30), 2),
    ...         "raw_expression": rng.random(60),
    ...     }
    ... )
    >>> ranks = rng.integers(1, 31, size=60)
    >>> display = TrainingDistanceDisplay.from_predictions(
    ...     distances, ranks, drugs, n_resamples=100, random_state=0
    ... )
    >>> display.table["n"].to_dict()
    {'fingerprint': 30, 'raw_expression': 60}
    """

    def __init__(self, displays: dict[str, RegressionDisplay]):
        self.displays = displays
        self.table = pd.DataFrame(
            [display.regression.summary() for display in displays.values()],
            index=pd.Index(displays, name="distance"),
        )

    @classmethod
    def from_predictions(
        cls,
        distances: pd.DataFrame,
        ranks: ArrayLike,
        drugs: ArrayLike,
        *,
        log_x: Collection[str] = ("molecule_features",),
        ax: NDArray[np.object_] | Axes | None = None,
        **kwargs: Any,
    ) -> TrainingDistanceDisplay:
        """Regress the ranks on every distance, and draw it.

        Parameters
        ----------
        distances : DataFrame of n_queries rows
            As :func:`training_distances` makes it; one panel a column.
        ranks, drugs : array-like of shape (n_queries,)
            As in :func:`performance_regression`.
        log_x : collection of str, default=("molecule_features",)
            Distances of which the logarithm is taken; the default is the paper's.
        ax : array-like of Axes, default=None
            One for each distance; a new figure by default.
        **kwargs : dict
            ``response``, ``n_candidates``, ``confidence_level``, ``n_resamples`` and
            ``random_state`` of :func:`performance_regression`.

        Returns
        -------
        display : TrainingDistanceDisplay

        Raises
        ------
        ValueError
            If `distances` has a column of another name or none, `ax` has another
            length, or as :func:`performance_regression`.
        """
        _check_distances(distances, log_x)
        displays = {}
        for name in distances.columns:
            per, label = TRAINING_DISTANCES[name]
            regression = performance_regression(
                distances[name], ranks, drugs, per=per, log_x=name in log_x, **kwargs
            )
            if name not in log_x:
                label = label[0].upper() + label[1:]
            displays[name] = RegressionDisplay(regression, xlabel=label)
        return cls(displays).plot(ax)

    def plot(
        self, ax: NDArray[np.object_] | Axes | None = None
    ) -> TrainingDistanceDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax : array-like of Axes, default=None
            One for each distance; a new figure by default.

        Returns
        -------
        display : TrainingDistanceDisplay
            Itself, with the panels as attributes.

        Raises
        ------
        ValueError
            If `ax` has another length.
        ImportError
            If matplotlib is not installed.
        """
        panels = self._use_panels(
            ax, len(self.displays), n_columns=3, panel_size=(4.3, 3.8)
        )
        drawn = map(RegressionDisplay.plot, self.displays.values(), panels)
        self.displays_ = dict(zip(self.displays, drawn, strict=True))
        for panel in panels[1:]:  # the first explains the chance line for all
            if (legend := panel.get_legend()) is not None:
                legend.remove()
        return self


def _summary(fit: PerformanceRegression) -> str:
    if np.isnan(fit.slope):
        return f"n = {fit.n}: no line, x does not vary"
    p = f"p = {fit.p_value:.2g}" if fit.p_value >= 1e-300 else "p < 1e-300"
    return (
        f"slope {fit.slope:.3g} [{fit.slope_low:.3g}, {fit.slope_high:.3g}]\n"
        f"r = {fit.r:.2f}, {p}, n = {fit.n:,}"
    )


def _check_n_genes(n_genes: pd.Series[float]) -> pd.Series[float]:
    """Return the known numbers of genes, one for each drug."""
    if not isinstance(n_genes, pd.Series):
        raise TypeError(
            "n_genes must be a Series, with the drugs as its index. "
            f"Got {type(n_genes).__name__}."
        )
    known = n_genes.dropna().astype(np.float64)
    twice = known.index[known.index.duplicated()]
    if len(twice):
        raise ValueError(
            f"n_genes must hold each drug once. {len(twice)} come again, the first "
            f"{twice[0]!r}: take the mean over the cell lines."
        )
    bad = known[~((known >= 0) & np.isfinite(known))]
    if len(bad):
        raise ValueError(
            f"n_genes must be finite and at least 0. Got {bad.iloc[0]:g} for "
            f"{bad.index[0]!r}."
        )
    return known


def _check_distances(distances: pd.DataFrame, log_x: Collection[str]) -> None:
    if not isinstance(distances, pd.DataFrame) or distances.shape[1] == 0:
        raise ValueError(
            "distances must be a DataFrame with at least one column, as "
            f"training_distances returns it. Got {distances!r}."
        )
    for name, values in (("distances", distances.columns), ("log_x", log_x)):
        unknown = [each for each in values if each not in TRAINING_DISTANCES]
        if unknown:
            raise ValueError(
                f"{name} must be among {', '.join(map(repr, TRAINING_DISTANCES))}. "
                f"Got {unknown[0]!r}."
            )
