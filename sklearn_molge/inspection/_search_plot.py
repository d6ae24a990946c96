"""Displays of a parameter search: what mattered, and what scored where."""

from typing import Any

import numpy as np
import pandas as pd

from sklearn_molge._utils.optional import import_pyplot
from sklearn_molge.inspection._search import (
    Searched,
    parameter_importance,
    read_search,
)
from sklearn_molge.inspection._search_axes import (
    describe_test,
    places_of,
    short_names,
)

__all__ = ["ParameterImportanceDisplay", "ParameterScoreDisplay"]

_PANEL = 2.6  # inches
_FAILED = "0.45"
_FAILED_HEIGHT = 0.04


class ParameterImportanceDisplay:
    """Bars of how much each searched parameter decided the score.

    Make one with :meth:`from_search`. All parameters are stored as attributes.

    Parameters
    ----------
    table : DataFrame
        What :func:`parameter_importance` returns.

    Attributes
    ----------
    bars_ : matplotlib Artist
        One bar a parameter, the most important on top, with the standard deviation
        over the repeats.
    line_ : matplotlib Artist
        Zero: no influence.
    ax_ : matplotlib Axes
        Axes with the bars.
    figure_ : matplotlib Figure
        Figure with the bars.

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
        search: Any,
        *,
        metric: str | None = None,
        n_repeats: int = 10,
        random_state: int | np.random.RandomState | None = None,
        ax: Any = None,
        max_parameters: int | None = None,
    ) -> "ParameterImportanceDisplay":
        """Compute the importances of a fitted search and draw them.

        Parameters
        ----------
        search : estimator
            A fitted search.
        metric : str, default=None
            Which of several metrics; by default the one that the search maximised.
        n_repeats : int, default=10
            See :func:`parameter_importance`.
        random_state : int, RandomState instance or None, default=None
            See :func:`parameter_importance`.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        max_parameters : int, default=None
            Draw only so many, the most important.

        Returns
        -------
        display : ParameterImportanceDisplay
        """
        table = parameter_importance(
            search, metric=metric, n_repeats=n_repeats, random_state=random_state
        )
        return cls(table).plot(ax, max_parameters=max_parameters)

    def plot(
        self, ax: Any = None, *, max_parameters: int | None = None
    ) -> "ParameterImportanceDisplay":
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
        if ax is None:
            plt = import_pyplot("ParameterImportanceDisplay")
            size = (6.4, 0.9 + 0.32 * len(table))
            ax = plt.subplots(figsize=size, layout="constrained")[1]
        self.ax_, self.figure_ = ax, ax.figure
        places = np.arange(len(table))
        self.bars_ = ax.barh(
            places,
            table["importance"],
            xerr=table["importance_std"],
            height=0.7,
            error_kw={"ecolor": "0.25", "elinewidth": 1, "capsize": 2},
        )
        self.line_ = ax.axvline(0, color="0.4", linewidth=0.8)
        names = short_names([str(name) for name in table.index])
        ax.set(yticks=places, ylim=(len(table) - 0.4, -0.6))
        ax.set_yticklabels(names)
        ax.set_xlabel("Importance (share of the score's variance)")
        self._annotate(table)
        return self

    def _annotate(self, table: pd.DataFrame) -> None:
        """Write rho and p beside the axes, and how good the forests are."""
        ax = self.ax_
        texts = [describe_test(row) for _, row in table.iterrows()]
        for place, text in enumerate(texts):
            ax.annotate(
                text,
                (1, place),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
                color="0.3",
            )
        if "r2" in table.attrs:
            attrs = table.attrs
            ax.set_title(
                f"{attrs['metric']}, {attrs['n_trials']} trials; the forest explains "
                f"{max(attrs['r2'], 0):.0%} of held-out variance",
                fontsize="small",
                loc="left",
            )


class ParameterScoreDisplay:
    """One panel a parameter: its value and the score of each trial.

    Make one with :meth:`from_search`. All parameters are stored as attributes.

    Parameters
    ----------
    parameters : list of Searched
        The parameters and their values.
    scores : ndarray of shape (n_trials,)
        Mean score of each trial, NaN where it failed.
    metric : str, default="score"
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
        The figure.

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
        self, parameters: list[Searched], scores: Any, *, metric: str = "score"
    ):
        self.parameters = parameters
        self.scores = scores
        self.metric = metric

    @classmethod
    def from_search(
        cls,
        search: Any,
        *,
        params: list[str] | None = None,
        metric: str | None = None,
        ax: Any = None,
        n_columns: int = 3,
    ) -> "ParameterScoreDisplay":
        """Draw the trials of a fitted search.

        Parameters
        ----------
        search : estimator
            A fitted search.
        params : list of str, default=None
            Names of parameters; by default all that varied.
        metric : str, default=None
            Which of several metrics; by default the one that the search maximised.
        ax : matplotlib Axes or array of them, default=None
            One for each panel; a new figure by default.
        n_columns : int, default=3
            Panels side by side in a new figure.

        Returns
        -------
        display : ParameterScoreDisplay

        Raises
        ------
        ValueError
            If a name is not one of a parameter that varied, or there are not as many
            axes as parameters.
        """
        parameters, scores, metric = read_search(search, metric)
        if params is not None:
            known = {name: p for p in parameters for name in p.name.split(" = ")}
            unknown = [name for name in params if name not in known]
            if unknown:
                raise ValueError(
                    f"params must be among {sorted(known)}, which varied. Got "
                    f"{unknown[0]!r}."
                )
            parameters = [known[name] for name in params]
        if not parameters:
            raise ValueError("search must have varied at least one parameter.")
        return cls(parameters, scores, metric=metric).plot(ax, n_columns=n_columns)

    def plot(self, ax: Any = None, *, n_columns: int = 3) -> "ParameterScoreDisplay":
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
        self.axes_ = self._make_axes(ax, n_columns)
        self.ax_, self.figure_ = self.axes_[0], self.axes_[0].figure
        self.points_: list[Any] = []
        self.failures_: list[Any] = []
        self.lines_: list[Any] = []
        self.bests_: list[Any] = []
        names = short_names([parameter.name for parameter in self.parameters])
        for panel, parameter, name in zip(
            self.axes_, self.parameters, names, strict=True
        ):
            self._plot_panel(panel, parameter)
            panel.set_xlabel(name)
        if ax is None:
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

    def _make_axes(self, ax: Any, n_columns: int) -> Any:
        n_panels = len(self.parameters)
        if ax is not None:
            axes = np.atleast_1d(np.asarray(ax, dtype=object)).ravel()
            if len(axes) != n_panels:
                raise ValueError(
                    f"ax must be as many axes as parameters, {n_panels}. Got "
                    f"{len(axes)}."
                )
            return axes
        plt = import_pyplot("ParameterScoreDisplay")
        n_columns = min(n_columns, n_panels)
        n_rows = -(-n_panels // n_columns)
        _, axes = plt.subplots(
            n_rows,
            n_columns,
            figsize=(_PANEL * n_columns + 0.5, _PANEL * n_rows),
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        for unused in axes.ravel()[n_panels:]:
            unused.remove()
        for panel in axes[:, 0]:
            panel.set_ylabel(f"Mean {self.metric}")
        return axes.ravel()[:n_panels]

    def _plot_panel(self, ax: Any, parameter: Searched) -> None:
        x = places_of(ax, parameter)
        has_score, present = np.isfinite(self.scores), parameter.present
        shown = has_score & present
        trials = np.arange(len(x))
        points = ax.scatter(
            x[shown],
            self.scores[shown],
            c=trials[shown],
            cmap="Blues",
            vmin=-0.4 * len(x),
            vmax=len(x),
            s=16,
            linewidths=0,
        )
        self.points_.append(points)
        failed = ~has_score & present
        crosses = None
        if failed.any():
            crosses = ax.scatter(
                x[failed],
                np.full(failed.sum(), _FAILED_HEIGHT),
                marker="x",
                s=16,
                linewidths=1,
                color=_FAILED,
                transform=ax.get_xaxis_transform(),
                label="failed",
            )
        self.failures_.append(crosses)
        best = None
        if has_score.any():
            median, top = np.nanmedian(self.scores), np.nanargmax(self.scores)
            style = {"color": "0.4", "linestyle": "--", "linewidth": 0.8, "zorder": 0.9}
            self.lines_.append(ax.axhline(median, **style))
            if present[top]:
                style = {"facecolors": "none", "edgecolors": "tab:red", "s": 60}
                best = ax.scatter(x[top], self.scores[top], **style)
        self.bests_.append(best)
