"""TrainingDistanceDisplay: how well drugs are found, against five distances."""

from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_molge._utils.optional import import_pyplot
from sklearn_molge.inspection._regression import performance_regression
from sklearn_molge.inspection._regression_plot import RegressionDisplay

__all__ = ["TrainingDistanceDisplay"]

# Of each distance: what a point is, and the axis.
DISTANCES = {
    "fingerprint": ("drug", "Tanimoto distance of fingerprints"),
    "molecule_features": ("drug", "correlation distance of molecule features"),
    "aligned_molecule": ("drug", "correlation distance of aligned molecules"),
    "raw_expression": ("profile", "correlation distance of raw expression"),
    "aligned_expression": ("profile", "correlation distance of aligned expression"),
}
_N_COLUMNS = 3


class TrainingDistanceDisplay:
    """How well drugs are found, against their distances to the training set.

    Make one with :meth:`from_predictions`: one panel a distance, molecules with a
    point a drug and profiles with a point a profile (figures 3A and A2 of the paper).

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
    axes_ : ndarray of Axes
        One for each distance.
    figure_ : matplotlib Figure
        Figure with the panels.

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
        random_state: int | np.random.RandomState | None = None,
        axes: Any = None,
        **kwargs: Any,
    ) -> "TrainingDistanceDisplay":
        """Regress the ranks on every distance, and draw it.

        Parameters
        ----------
        distances : DataFrame of n_queries rows
            As :func:`training_distances` makes it; one panel a column.
        ranks, drugs : array-like of shape (n_queries,)
            As in :func:`performance_regression`.
        log_x : collection of str, default=("molecule_features",)
            Distances of which the logarithm is taken; the default is the paper's.
        random_state : int, RandomState instance or None, default=None
            Draws the drugs.
        axes : sequence of Axes, default=None
            One for each distance; a new figure by default.
        **kwargs : dict
            ``response``, ``n_candidates``, ``confidence_level`` and ``n_resamples`` of
            :func:`performance_regression`.

        Returns
        -------
        display : TrainingDistanceDisplay

        Raises
        ------
        ValueError
            If `distances` has a column of another name or none, `axes` has another
            length, or as :func:`performance_regression`.
        """
        _check_distances(distances, log_x)
        displays = {}
        for name in distances.columns:
            per, label = DISTANCES[name]
            regression = performance_regression(
                distances[name],
                ranks,
                drugs,
                per=per,
                log_x=name in log_x,
                random_state=random_state,
                **kwargs,
            )
            if name not in log_x:
                label = label[0].upper() + label[1:]
            displays[name] = RegressionDisplay(regression, xlabel=label)
        return cls(displays).plot(axes)

    def plot(self, axes: Any = None) -> "TrainingDistanceDisplay":
        """Draw the panels.

        Parameters
        ----------
        axes : sequence of Axes, default=None
            One for each distance; a new figure by default.

        Returns
        -------
        display : TrainingDistanceDisplay
            Itself, with the panels as attributes.

        Raises
        ------
        ValueError
            If `axes` has another length.
        ImportError
            If matplotlib is not installed.
        """
        n_panels = len(self.displays)
        if axes is None:
            axes = _new_axes(n_panels)
        self.axes_ = np.asarray(axes, dtype=object).ravel()
        if len(self.axes_) != n_panels:
            raise ValueError(
                f"axes must be one for each of the {n_panels} distances. "
                f"Got {len(self.axes_)}."
            )
        panels = zip(self.displays.items(), self.axes_, strict=True)
        self.displays_ = {name: each.plot(ax) for (name, each), ax in panels}
        self.figure_ = self.axes_[0].figure
        for ax in self.axes_[1:]:  # the first explains the chance line for all
            if ax.get_legend() is not None:
                ax.get_legend().remove()
        return self


def _new_axes(n_panels: int) -> Any:
    plt = import_pyplot("TrainingDistanceDisplay")
    n_columns = min(n_panels, _N_COLUMNS)
    n_rows = -(-n_panels // n_columns)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(4.3 * n_columns, 3.8 * n_rows),
        layout="constrained",
        squeeze=False,
    )
    for ax in axes.flat[n_panels:]:
        figure.delaxes(ax)
    return axes.flat[:n_panels]


def _check_distances(distances: pd.DataFrame, log_x: Collection[str]) -> None:
    if not isinstance(distances, pd.DataFrame) or distances.shape[1] == 0:
        raise ValueError(
            "distances must be a DataFrame with at least one column, as "
            f"training_distances returns it. Got {distances!r}."
        )
    for name, values in (("distances", distances.columns), ("log_x", log_x)):
        unknown = [each for each in values if each not in DISTANCES]
        if unknown:
            raise ValueError(
                f"{name} must be among {', '.join(map(repr, DISTANCES))}. "
                f"Got {unknown[0]!r}."
            )
