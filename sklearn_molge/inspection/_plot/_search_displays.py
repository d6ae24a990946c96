"""Displays of a parameter search: what mattered, and what scored where."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from sklearn_molge._utils.plotting import DisplayMixin, label_log_axis
from sklearn_molge.inspection._search import parameter_importance, read_search

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["ParameterImportanceDisplay", "ParameterScoreDisplay"]

_PANEL = 2.6  # inches
_FAILED = "0.45"
_FAILED_HEIGHT = 0.04


class ParameterImportanceDisplay(DisplayMixin):
    """Bars of how much each searched parameter decided the score.

    Make one with :meth:`from_search`. All parameters are stored as attributes.

    Parameters
    ----------
    table : DataFrame
        What :func:`parameter_importance` returns.

    Attributes
    ----------
    bars_ : matplotlib Artist
        One bar per parameter, the most important on top, with the standard deviation
        over the repeats.
    line_ : matplotlib Artist
        Zero: no influence.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    parameter_importance : The numbers.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.inspection import ParameterImportanceDisplay
    >>> table = pd.DataFrame(
    ...     {"importance": [0.5, 0.0], "importance_std": [0.1, 0.0],
    ...      "rho": [0.4, float("nan")], "p_value": [0.001, 0.5]},
    ...     index=["lr", "solver"],
    ... )
    >>> display = ParameterImportanceDisplay(table).plot()
    >>> [label.get_text() for label in display.ax_.get_yticklabels()]
    ['lr', 'solver']
    """

    def __init__(self, table: pd.DataFrame):
        self.table = table

    @classmethod
    def from_search(
        cls,
        search: object,
        *,
        scoring: str | None = None,
        n_repeats: int = 10,
        random_state: int | np.random.RandomState | None = None,
        ax: Axes | None = None,
        max_parameters: int | None = None,
    ) -> ParameterImportanceDisplay:
        """Compute the importances of a fitted search and draw them.

        Parameters
        ----------
        search : estimator
            A fitted search.
        scoring, n_repeats, random_state
            As in :func:`parameter_importance`.
        ax, max_parameters
            As in :meth:`plot`.

        Returns
        -------
        display : ParameterImportanceDisplay
        """
        table = parameter_importance(
            search, scoring=scoring, n_repeats=n_repeats, random_state=random_state
        )
        return cls(table).plot(ax, max_parameters=max_parameters)

    def plot(
        self, ax: Axes | None = None, *, max_parameters: int | None = None
    ) -> ParameterImportanceDisplay:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        max_parameters : int, default=None
            Draw only so many, the most important.

        Returns
        -------
        display : ParameterImportanceDisplay
            Itself, with the artists as attributes.
        """
        table = self.table.iloc[:max_parameters]
        size = (6.4, 0.9 + 0.32 * len(table))
        ax = self._use_axes(ax, figsize=size, layout="constrained")
        places = np.arange(len(table))
        self.bars_ = ax.barh(
            places,
            table["importance"],
            xerr=table["importance_std"],
            height=0.7,
            error_kw={"ecolor": "0.25", "elinewidth": 1, "capsize": 2},
        )
        self.line_ = ax.axvline(0, color="0.4", linewidth=0.8)
        names = _short_names(table.index.tolist())
        ax.set_yticks(places, names)
        ax.set(
            ylim=(len(table) - 0.4, -0.6),
            xlabel="Importance (share of the score's variance)",
        )
        self._annotate(table)
        return self

    def _annotate(self, table):
        """Write rho and p beside the axes, and how good the forests are."""
        ax = self.ax_
        style = {"va": "center", "fontsize": "small", "color": "0.3"}
        offset = {"xytext": (4, 0), "textcoords": "offset points"}
        for place, test in enumerate(table[["rho", "p_value"]].to_numpy()):
            at = {"xy": (1, place), "xycoords": ("axes fraction", "data")}
            ax.annotate(_describe_test(*test), **at, **offset, **style)
        if "r2" in table.attrs:
            attrs = table.attrs
            ax.set_title(
                f"{attrs['scoring']}, {attrs['n_trials']} trials; the forest explains "
                f"{max(attrs['r2'], 0):.0%} of held-out variance",
                fontsize="small",
                loc="left",
            )


class ParameterScoreDisplay(DisplayMixin):
    """One panel per parameter: its value and the score of each trial.

    Make one with :meth:`from_search`. All parameters are stored as attributes.

    Parameters
    ----------
    parameters : DataFrame of n_trials rows
        One column per parameter: numbers or a category, NaN in trials without it.
    scores : ndarray of shape (n_trials,)
        Mean score of each trial, NaN where it failed.
    scoring : str, default="score"
        Name of the score.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The panels.
    points_ : list of matplotlib Artist
        The trials of each panel, darker the later.
    failures_ : list of matplotlib Artist or None
        Crosses at the bottom: trials that failed.
    lines_ : list of matplotlib Artist
        The median score of all trials.
    bests_ : list of matplotlib Artist or None
        A ring about the best trial, where it had the parameter.
    ax_ : matplotlib Axes
        The first panel.
    figure_ : matplotlib Figure

    See Also
    --------
    parameter_importance : Which parameters mattered, in numbers.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.model_selection import GridSearchCV
    >>> from sklearn_molge.inspection import ParameterScoreDisplay
    >>> X, y = load_diabetes(return_X_y=True)
    >>> search = GridSearchCV(Ridge(), {"alpha": [0.01, 0.1, 1, 10]}).fit(X, y)
    >>> display = ParameterScoreDisplay.from_search(search)
    >>> display.ax_.get_xscale()
    'log'
    """

    def __init__(
        self,
        parameters: pd.DataFrame,
        scores: NDArray[np.float64],
        *,
        scoring: str = "score",
    ):
        self.parameters = parameters
        self.scores = scores
        self.scoring = scoring

    @classmethod
    def from_search(
        cls,
        search: object,
        *,
        params: list[str] | None = None,
        scoring: str | None = None,
        ax: Axes | NDArray[np.object_] | None = None,
        n_columns: int = 3,
    ) -> ParameterScoreDisplay:
        """Draw the trials of a fitted search.

        Parameters
        ----------
        search : estimator
            A fitted search.
        params : list of str, default=None
            Names of parameters; by default all that varied.
        scoring : str, default=None
            As in :func:`parameter_importance`.
        ax, n_columns
            As in :meth:`plot`.

        Returns
        -------
        display : ParameterScoreDisplay

        Raises
        ------
        ValueError
            If a name is not one of a parameter that varied, or there are not as many
            axes as parameters.
        """
        parameters, scores, scoring = read_search(search, scoring)
        if params is not None:
            known = {
                name: column for column in parameters for name in column.split(" = ")
            }
            unknown = [name for name in params if name not in known]
            if unknown:
                raise ValueError(
                    f"params must be among {sorted(known)}, which varied. Got "
                    f"{unknown[0]!r}."
                )
            parameters = parameters[[known[name] for name in params]]
        if parameters.empty:
            raise ValueError("search must have varied at least one parameter.")
        return cls(parameters, scores, scoring=scoring).plot(ax, n_columns=n_columns)

    def plot(
        self, ax: Axes | NDArray[np.object_] | None = None, *, n_columns: int = 3
    ) -> ParameterScoreDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            One for each panel; a new figure by default.
        n_columns : int, default=3
            Panels side by side in a new figure.

        Returns
        -------
        display : ParameterScoreDisplay
            Itself, with the artists as attributes.
        """
        panels = self._use_panels(
            ax,
            self.parameters.shape[1],
            n_columns=n_columns,
            panel_size=(_PANEL, _PANEL),
            margin=0.5,
            sharey=True,
        )
        self.points_: list[Artist] = []
        self.failures_: list[Artist | None] = []
        self.lines_: list[Artist] = []
        self.bests_: list[Artist | None] = []
        names = _short_names(self.parameters.columns.tolist())
        columns = (self.parameters[column] for column in self.parameters)
        for panel, column, name in zip(panels, columns, names, strict=True):
            self._plot_panel(panel, column)
            panel.set_xlabel(name)
        if ax is None:
            for panel in panels[::n_columns]:
                panel.set_ylabel(f"Mean {self.scoring}")
            self._add_legend()
        return self

    def _add_legend(self) -> None:
        """Say once what the marks are."""
        marks = {
            "trial (darker: later)": self.points_[0],
            "best": next(filter(None, self.bests_), None),
            "median of all trials": next(iter(self.lines_), None),
            "failed": next(filter(None, self.failures_), None),
        }
        shown = {label: mark for label, mark in marks.items() if mark is not None}
        width = self.figure_.get_size_inches()[0]
        self.figure_.legend(
            shown.values(),
            shown.keys(),
            loc="outside lower center",
            ncols=4 if width > 2 * _PANEL else 1,
            fontsize="small",
            frameon=False,
        )

    def _plot_panel(self, ax, parameter):
        x = _places_of(ax, parameter)
        has_score, present = np.isfinite(self.scores), parameter.notna().to_numpy()
        shown, failed = has_score & present, ~has_score & present
        shades = {"cmap": "Blues", "vmin": -0.4 * len(x), "vmax": len(x)}
        trials = np.arange(len(x))[shown]
        points = ax.scatter(
            x[shown], self.scores[shown], c=trials, s=16, linewidths=0, **shades
        )
        crosses = best = None
        if failed.any():
            height = np.full(failed.sum(), _FAILED_HEIGHT)
            style = {"marker": "x", "s": 16, "linewidths": 1, "color": _FAILED}
            place = ax.get_xaxis_transform()
            crosses = ax.scatter(x[failed], height, transform=place, **style)
        if has_score.any():
            median, top = np.nanmedian(self.scores), np.nanargmax(self.scores)
            style = {"color": "0.4", "linestyle": "--", "linewidth": 0.8}
            self.lines_.append(ax.axhline(median, zorder=0.9, **style))
            if present[top]:
                ring = {"facecolors": "none", "edgecolors": "tab:red", "s": 60}
                best = ax.scatter(x[top], self.scores[top], **ring)
        self.points_.append(points)
        self.failures_.append(crosses)
        self.bests_.append(best)


def _short_names(names: list[str]) -> list[str]:
    """Return names without the prefix that all have, up to a double underscore."""
    if len(names) < 2:
        return names
    parts = [name.split(" = ")[0].split("__")[:-1] for name in names]
    n_shared = 0
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        n_shared += 1
    prefix = "".join(f"{part}__" for part in parts[0][:n_shared])
    joined = [[n.removeprefix(prefix) for n in name.split(" = ")] for name in names]
    return ["\n= ".join(parts) for parts in joined]


def _places_of(ax, parameter) -> NDArray[np.float64]:
    """Return where each trial lies along the axis, which is set up for it."""
    if parameter.dtype != "category":
        numbers = parameter.dropna().to_numpy()
        if _is_log(numbers):
            ax.set_xscale("log")
            label_log_axis(ax.xaxis, numbers.min(), numbers.max())
        return parameter.to_numpy()
    levels, codes = parameter.cat.categories, parameter.cat.codes.to_numpy()
    crowded = max(map(len, levels)) * len(levels) > 24
    style = {"rotation": 30, "ha": "right"} if crowded else {}
    ax.set_xticks(np.arange(len(levels)), levels, fontsize="small", **style)
    ax.set_xlim(-0.5, len(levels) - 0.5)
    # Spread evenly by the golden ratio: no two neighbours lie on each other.
    spread = (np.arange(len(codes)) * 0.6180339887 % 1 - 0.5) * 0.5
    return codes + spread


def _is_log(numbers: NDArray[np.float64]) -> bool:
    """Whether the values look as if drawn on a log scale."""
    if numbers.min() <= 0 or numbers.max() < 10 * numbers.min():
        return False
    return abs(stats.skew(np.log(numbers))) < abs(stats.skew(numbers))


def _describe_test(rho: float, p_value: float) -> str:
    if np.isnan(p_value):
        return ""
    p = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
    return p if np.isnan(rho) else f"rho = {rho:+.2f}, {p}"
