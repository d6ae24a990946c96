"""Displays of enrichment: which classes, and where in the list one class lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._utils.messages import counted
from sklearn_molge._utils.plotting import DisplayMixin
from sklearn_molge.inspection._enrichment import class_enrichment, running_sum

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["EnrichmentDisplay", "RunningSumDisplay"]

_AXES = {
    "running_sum": "Enrichment score (maximum of the running sum)",
    "auc": "AUC of the class among all labelled molecules",
    "hypergeometric": "Hits / expected hits",
}


class EnrichmentDisplay(DisplayMixin):
    """Dots of how enriched each class is, with its size and q-value.

    Make one with :meth:`from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    table : DataFrame
        Of one query, as :func:`class_enrichment` returns it.
    statistic : {"running_sum", "auc", "hypergeometric"}
        What the table is of.

    Attributes
    ----------
    points_ : matplotlib Artist
        One dot per class, the least p-value on top; the area grows with its number of
        molecules, and what is filled has a q-value below `level`.
    line_ : matplotlib Artist
        Chance.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    class_enrichment : The numbers.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.inspection import EnrichmentDisplay
    >>> moa = ["HDAC inhibitor"] * 4 + ["EGFR inhibitor", "mTOR inhibitor", None] * 4
    >>> display = EnrichmentDisplay.from_predictions(
    ...     -np.arange(16), moa, k=4, random_state=0
    ... )
    >>> display.ax_.get_yticklabels()[0].get_text()
    'HDAC inhibitor'
    """

    def __init__(self, table: pd.DataFrame, *, statistic: str):
        self.table = table
        self.statistic = statistic

    @classmethod
    def from_predictions(
        cls,
        scores: ArrayLike | pd.DataFrame,
        labels: ArrayLike | str,
        *,
        ax: Axes | None = None,
        max_classes: int | None = 15,
        level: float = 0.05,
        **options: Any,
    ) -> EnrichmentDisplay:
        """Test the classes of one query, or of several that are pooled, and draw them.

        Parameters
        ----------
        scores, labels
            As in :func:`class_enrichment`.
        ax, max_classes, level
            As in :meth:`plot`.
        **options : dict
            Further parameters of :func:`class_enrichment`.

        Returns
        -------
        display : EnrichmentDisplay

        Raises
        ------
        ValueError
            If there are several queries.
        """
        result = class_enrichment(scores, labels, **options)
        if len(result.queries) > 1:
            raise ValueError(
                f"scores must be of one query. Got {len(result.queries)}; pool=True "
                "makes one list of them."
            )
        table = result.table
        if table.index.nlevels > 1:
            table = table.droplevel("query")
        return cls(table, statistic=result.statistic).plot(
            ax, max_classes=max_classes, level=level
        )

    def plot(
        self,
        ax: Axes | None = None,
        *,
        max_classes: int | None = 15,
        level: float = 0.05,
    ) -> EnrichmentDisplay:
        """Draw the dots.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        max_classes : int, default=15
            Draw only so many, those with the least p-values; None draws all.
        level : float, default=0.05
            Dots with a smaller q-value are filled.

        Returns
        -------
        display : EnrichmentDisplay
            Itself, with the artists as attributes.
        """
        table = self.table.iloc[:max_classes]
        size = (7.2, 1.2 + 0.3 * len(table))
        ax = self._use_axes(ax, figsize=size, layout="constrained")
        places = np.arange(len(table))
        found = (table["q_value"] < level).to_numpy()
        self.line_ = ax.vlines(
            table["chance"],
            places - 0.4,
            places + 0.4,
            color="0.5",
            linestyle="--",
        )
        self.points_ = ax.scatter(
            table["statistic"],
            places,
            s=20 + 120 * np.sqrt(table["n"] / table["n"].max()),
            facecolor=np.where(found, "C0", "white"),
            edgecolor="C0",
            zorder=2,
        )
        ax.set_yticks(places, table.index.tolist())
        ax.set(ylim=(len(table) - 0.4, -0.6), xlabel=_AXES[self.statistic])
        ax.set_title(
            f"filled: q < {level:g}; size: molecules of the class; dashed: chance",
            fontsize="small",
            loc="left",
        )
        for place, (n, n_hits, q) in enumerate(
            table[["n", "n_hits", "q_value"]].itertuples(index=False)
        ):
            ax.annotate(
                f"{counted(n_hits, 'hit')} of {n}, q = {q:.2g}",
                xy=(1, place),
                xycoords=("axes fraction", "data"),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
                color="0.3",
            )
        return self


class RunningSumDisplay(DisplayMixin):
    """The running sum of one class along the list, and where its members are.

    Make one with :meth:`from_predictions`. All parameters are stored as attributes.

    Parameters
    ----------
    places : ndarray of shape (n_places,)
        Places of the list of labelled molecules, from 0; those between tied molecules
        are left out.
    sums : ndarray of shape (n_places,)
        The running sum after each.
    members : ndarray of shape (n_members,)
        Places of the molecules of the class, 1 being the nearest.
    name : str
        Name of the class.

    Attributes
    ----------
    line_ : matplotlib Artist
        The running sum.
    chance_line_ : matplotlib Artist
        0: members spread evenly over the list.
    members_ : matplotlib Artist
        Ticks at the members.
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    class_enrichment : Its maximum, with a p-value.

    Examples
    --------
    >>> from sklearn_molge.inspection import RunningSumDisplay
    >>> display = RunningSumDisplay.from_predictions(
    ...     [4, 3, 2, 1], ["a", "b", "a", "b"], of="a", weight=0
    ... )
    >>> display.sums
    array([0. , 0.5, 0. , 0.5, 0. ])
    """

    def __init__(
        self,
        places: NDArray[np.intp],
        sums: NDArray[np.float64],
        members: NDArray[np.intp],
        *,
        name: str,
    ):
        self.places = places
        self.sums = sums
        self.members = members
        self.name = name

    @classmethod
    def from_predictions(
        cls,
        scores: ArrayLike,
        labels: ArrayLike,
        *,
        of: str,
        sep: str = "|",
        weight: float = 1.0,
        ax: Axes | None = None,
    ) -> RunningSumDisplay:
        """Compute the running sum of a class and draw it.

        Parameters
        ----------
        scores : array-like of shape (n_molecules,)
            How near each molecule is, larger being nearer.
        labels : array-like of shape (n_molecules,)
            Classes of each molecule, joined by `sep`.
        of : str
            Name of the class.
        sep, weight
            As in :func:`class_enrichment`.
        ax : matplotlib Axes, default=None
            As in :meth:`plot`.

        Returns
        -------
        display : RunningSumDisplay

        Raises
        ------
        ValueError
            If `of` is no class of `labels`, or `scores` is not of one query.
        """
        found = running_sum(scores, labels, of, sep=sep, weight=weight)
        return cls(*found, name=of).plot(ax)

    def plot(self, ax: Axes | None = None) -> RunningSumDisplay:
        """Draw the running sum.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.

        Returns
        -------
        display : RunningSumDisplay
            Itself, with the artists as attributes.
        """
        ax = self._use_axes(ax, figsize=(6.4, 3.6), layout="constrained")
        self.chance_line_ = ax.axhline(0, color="0.5", linestyle="--", label="chance")
        self.line_ = ax.plot(self.places, self.sums, color="C0")[0]
        below = min(0.0, self.sums.min())
        height = 0.08 * (self.sums.max() - below)
        self.members_ = ax.vlines(
            self.members, below - 2 * height, below - height, color="0.2", linewidth=1
        )
        ax.set(
            xlabel="Place among the labelled molecules, the nearest first",
            ylabel="Running sum",
            xlim=(0, self.places[-1]),
        )
        ax.set_title(
            f"{self.name}, {len(self.members)} of {self.places[-1]:,} molecules",
            fontsize="medium",
            loc="left",
        )
        ax.legend(loc="best", fontsize="small")
        return self
