"""What every Display needs: axes, its own or the caller's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sklearn_molge._utils.optional import import_pyplot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis

__all__ = ["DisplayMixin", "label_log_axis"]


def label_log_axis(axis: Axis, low: float, high: float) -> None:
    """Label a log axis of this range by few plain numbers, never by "2x10^0"."""
    from matplotlib.ticker import LogLocator, NullFormatter

    subs = (1.0, 2.0, 5.0) if high < 100 * low else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs, numticks=6))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


class DisplayMixin:
    """Mixin of Displays: keeps the axes that `plot` draws on as attributes."""

    # matplotlib's own types do not take a style from a dict.
    ax_: Any
    axes_: Any
    figure_: Any

    def _use_axes(self, ax: Axes | None, **options: Any) -> Axes:
        """Set and return `ax_`; with None, those of a new figure with `options`."""
        if ax is None:
            ax = import_pyplot(type(self).__name__).subplots(**options)[1]
        self.ax_, self.figure_ = ax, ax.figure
        return ax

    def _use_panels(
        self,
        ax: Axes | NDArray[np.object_] | None,
        n_panels: int,
        *,
        n_columns: int,
        panel_size: tuple[float, float],
        margin: float = 0.0,
        **options: Any,
    ) -> NDArray[np.object_]:
        """Set and return `axes_`, one for each panel; `ax_` is the first.

        A new figure has `n_columns` panels side by side, each of `panel_size` inches,
        and is wider by `margin` inches.
        """
        if ax is None:
            n_columns = min(n_columns, n_panels)
            n_rows = -(-n_panels // n_columns)
            width, height = panel_size
            figure, grid = import_pyplot(type(self).__name__).subplots(
                n_rows,
                n_columns,
                figsize=(width * n_columns + margin, height * n_rows),
                layout="constrained",
                squeeze=False,
                **options,
            )
            for unused in grid.flat[n_panels:]:
                figure.delaxes(unused)
            ax = grid.ravel()[:n_panels]
        axes = np.ravel(np.asarray(ax, dtype=object))
        if len(axes) != n_panels:
            raise ValueError(
                f"ax must have one entry for each of the {n_panels} panels. "
                f"Got {len(axes)}."
            )
        self.axes_, self.ax_, self.figure_ = axes, axes[0], axes[0].figure
        return axes
