"""LatentMapDisplay: embeddings on a plane, classes in colour."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge._utils.groups import split_classes
from sklearn_molge._utils.plotting import DisplayMixin
from sklearn_molge.inspection._latent_map import latent_map
from sklearn_molge.inspection._mixing import cell_line_mixing
from sklearn_molge.inspection._neighbors import same_class_neighbors

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

__all__ = ["LatentMapDisplay"]

# Okabe and Ito (2008): told apart by colour-blind readers; markers help in print.
_COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]
_MARKERS = "os^DvPo^sDPv"
_N_HIGHLIGHTED = 6
_N_NEIGHBORS = {"neighbors": 5, "mixing": 15}


class LatentMapDisplay(DisplayMixin):
    """Molecules or profiles on a plane, before and after an embedding.

    Make one with :meth:`from_embeddings`. All parameters are stored as attributes.

    Parameters
    ----------
    coordinates : list of DataFrame or ndarray of shape (n_samples, 2)
        One per panel, the same rows in each; see :func:`latent_map`. The columns of a
        data frame name the axes.
    labels : array-like of shape (n_samples,)
        Classes of each row, joined by "|"; empty or NaN where there is none.
    highlight : sequence of str, default=None
        Classes in colour, at most 12; the 6 most frequent by default. A row of several
        classes has one marker inside the other. All other rows are grey.
    titles : sequence of str, default=None
        One per panel.

    Attributes
    ----------
    scatters_ : list of dict of str to matplotlib Artist
        The points of each class, panel by panel; the grey ones are "other".
    legend_ : matplotlib Legend
        On the right of the last panel, with the number of rows of each class.
    axes_ : ndarray of matplotlib Axes
        The panels.
    ax_ : matplotlib Axes
        The first panel.
    figure_ : matplotlib Figure

    See Also
    --------
    latent_map : The coordinates.
    neighbor_change : Whether what the panels suggest holds.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.inspection import LatentMapDisplay
    >>> rng = np.random.default_rng(0)
    >>> moa = np.repeat(["EGFR inhibitor", "HDAC inhibitor"], 10)
    >>> before = rng.normal(size=(20, 8))
    >>> after = before + 3 * rng.normal(size=(2, 8)).repeat(10, axis=0)
    >>> display = LatentMapDisplay.from_embeddings(
    ...     before, moa, after=after, reducer="pca", random_state=0
    ... )
    >>> [ax.get_xlabel() for ax in display.axes_]
    ['PCA 1', 'PCA 1']
    """

    def __init__(
        self,
        coordinates: Sequence[ArrayLike],
        labels: ArrayLike,
        *,
        highlight: Sequence[str] | None = None,
        titles: Sequence[str] | None = None,
    ):
        self.coordinates = coordinates
        self.labels = labels
        self.highlight = highlight
        self.titles = titles

    @classmethod
    @validate_params(
        {
            "score": [StrOptions({"neighbors", "mixing"}), None],
            "random_state": ["random_state"],
        },
        prefer_skip_nested_validation=True,
    )
    def from_embeddings(
        cls,
        before: ArrayLike,
        labels: ArrayLike,
        *,
        after: ArrayLike | None = None,
        coordinates: Sequence[ArrayLike] | None = None,
        highlight: Sequence[str] | None = None,
        reducer: object = "auto",
        score: str | None = "neighbors",
        metric: str | tuple[str, str] = "correlation",
        n_neighbors: int | None = None,
        drugs: ArrayLike | None = None,
        names: Sequence[str] = ("before", "after"),
        ax: Axes | NDArray | None = None,
        random_state: int | np.random.RandomState | None = None,
        **kwargs: Any,
    ) -> LatentMapDisplay:
        """Draw embeddings, with the number that says what the eye should see.

        Parameters
        ----------
        before : array-like or sparse matrix of shape (n_samples, n_features)
            Molecules, one row each (rows of equal molecules crowd a map), or profiles.
        labels : array-like of shape (n_samples,)
            Classes of each row, joined by "|": mechanisms of action, or cell lines,
            "treated" and "control", "train" and "test".
        after : array-like or sparse matrix of shape (n_samples, n_features), \
                default=None
            The same rows in another space, for a second panel.
        coordinates : sequence of array-like of shape (n_samples, 2), default=None
            What :func:`latent_map` made of `before` and `after`, to draw one map with
            several kinds of labels; computed by default.
        highlight : sequence of str, default=None
            Classes in colour; see the class.
        reducer : {"auto", "umap", "pca"} or transformer, default="auto"
            See :func:`latent_map`; the labels of the axes say which one it was.
        score : {"neighbors", "mixing"} or None, default="neighbors"
            What the titles say of the whole space, over all classes, with a 95 %
            interval: the rate of :func:`same_class_neighbors`, in per cent, or the
            mixing of :func:`cell_line_mixing`.
        metric : str or tuple of two str, default="correlation"
            How near two rows are, for `score`; a tuple for `before` and `after`.
        n_neighbors : int, default=None
            Number of neighbours for `score`; by default 5 for "neighbors" and 15 for
            "mixing".
        drugs : array-like of shape (n_samples,), default=None
            Identity of each row's molecule, for `score`.
        names : sequence of str, default=("before", "after")
            Names of the panels.
        random_state : int, RandomState instance or None, default=None
            Seed of the maps and the intervals.
        ax, **kwargs
            As in :meth:`plot`.

        Returns
        -------
        display : LatentMapDisplay

        Raises
        ------
        ValueError
            If lengths disagree, a class of `highlight` is in no row, or `names`,
            `coordinates`, `metric` or `ax` do not fit the number of panels.
        ImportError
            If matplotlib, or umap-learn for ``reducer="umap"``, is not installed.
        """
        spaces = [before] if after is None else [before, after]
        metrics = (metric,) * len(spaces) if isinstance(metric, str) else metric
        _check_count("metric", metrics, len(spaces))
        _check_count("names", names[: len(spaces)], len(spaces))
        if not all(isinstance(name, str) for name in names):
            raise ValueError(f"names must hold str. Got {list(names)!r}.")
        if coordinates is not None:
            _check_count("coordinates", coordinates, len(spaces))
        _assign(labels, highlight)
        options = dict(drugs=drugs, n_neighbors=n_neighbors, random_state=random_state)
        titles = [
            _title(name, space, labels, score, metric=one, **options)
            for name, space, one in zip(names, spaces, metrics, strict=False)
        ]
        if coordinates is None:
            coordinates = [
                latent_map(space, reducer=reducer, random_state=random_state)
                for space in spaces
            ]
        display = cls(coordinates, labels, highlight=highlight, titles=titles)
        return display.plot(ax, **kwargs)

    def plot(self, ax: Axes | NDArray | None = None, **kwargs: Any) -> LatentMapDisplay:
        """Draw the panels.

        Parameters
        ----------
        ax : matplotlib Axes or array-like of Axes, default=None
            One per panel; a new figure by default. The legend stands to the right of
            the last one, for which ``layout="constrained"`` makes room.
        **kwargs : dict
            Passed to matplotlib's ``scatter``.

        Returns
        -------
        display : LatentMapDisplay
            Itself, with the artists as attributes.

        Raises
        ------
        ValueError
            If `ax`, `titles`, `labels` or `highlight` do not fit `coordinates`.
        ImportError
            If matplotlib is not installed.
        """
        names, member = _assign(self.labels, self.highlight)
        n_panels = len(self.coordinates)
        for i, points in enumerate(self.coordinates):
            if np.shape(points) != (len(member), 2):
                raise ValueError(
                    f"coordinates must be of shape ({len(member)}, 2), as labels has "
                    f"{len(member)} entries. Got {np.shape(points)} in panel {i}."
                )
        titles = [""] * n_panels if self.titles is None else self.titles
        _check_count("titles", titles, n_panels)
        panels = self._use_panels(
            ax, n_panels, n_columns=n_panels, panel_size=(4.6, 4.6), margin=2.2
        )
        drawn = zip(panels, self.coordinates, titles, strict=True)
        self.scatters_ = [
            _draw(panel, points, names, member, title, kwargs)
            for panel, points, title in drawn
        ]
        # The classes first, the grey points last.
        artists = self.scatters_[-1]
        handles = [artists[name] for name in (*names, "other") if name in artists]
        place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
        self.legend_ = panels[-1].legend(
            handles=handles, frameon=False, borderaxespad=0, **place
        )
        for handle in self.legend_.legend_handles:
            handle.set(alpha=1, sizes=[30])
        return self


def _assign(
    labels: ArrayLike, highlight: Sequence[str] | None
) -> tuple[list[str], NDArray[np.bool_]]:
    """Return the classes in colour, and which row (n_samples) has which (n_classes)."""
    sets = split_classes(labels)
    sizes = Counter(name for names in sets for name in names)
    if highlight is None:
        ordered = sorted(sizes, key=lambda name: (-sizes[name], name))
        chosen = ordered[:_N_HIGHLIGHTED]
    else:
        chosen = [str(name) for name in highlight]
    unknown = [name for name in chosen if name not in sizes]
    if unknown or len(chosen) > len(_MARKERS) or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"highlight must hold at most {len(_MARKERS)} distinct classes of labels. "
            f"Got {len(chosen)}" + (f", not in labels: {unknown}." if unknown else ".")
        )
    member = [[name in names for name in chosen] for names in sets]
    return chosen, np.array(member, dtype=bool).reshape(len(sets), len(chosen))


def _title(name, embeddings, labels, score, *, n_neighbors, **options):
    if score is None:
        return name
    k = _N_NEIGHBORS[score] if n_neighbors is None else n_neighbors
    options |= {"n_neighbors": k, "n_permutations": 1}  # no p-value is shown
    if score == "mixing":
        mixed = cell_line_mixing(embeddings, labels, **options)
        low, high = mixed.interval
        return f"{name}\nmixing {mixed.mixing:.2f} [{low:.2f}, {high:.2f}], chance 1"
    near = same_class_neighbors(embeddings, labels, **options)
    shares = (near.rate, *near.interval, near.expected)
    rate, low, high, chance = (100 * share for share in shares)
    return (
        f"{name}\nsame-class neighbours {rate:.1f} % [{low:.1f}, {high:.1f}], "
        f"chance {chance:.1f} %"
    )


def _draw(ax, points, names, member, title, kwargs) -> dict[str, Artist]:
    """Draw one panel: the grey points, then the classes, the last one on top."""
    x, y = np.asarray(points).T
    size = float(np.clip(15000 / len(member), 8, 36))
    # The markers of one row become smaller, one inside the other.
    sizes = size * 0.35 ** (np.cumsum(member, axis=1) - 1.0)
    style = {"linewidths": 0, "alpha": 0.85, **kwargs}
    scatters = {}
    other = ~member.any(axis=1)
    if other.any():
        grey = {"color": "0.75", "marker": ".", "zorder": 1, "s": size / 2}
        grey |= {"label": f"other ({other.sum():,})", **style}
        scatters["other"] = ax.scatter(x[other], y[other], **grey)
    for i, name in enumerate(names):
        rows = member[:, i]
        look = {"zorder": 2 + i / 100, "s": sizes[rows, i], "marker": _MARKERS[i]}
        look |= {"color": _COLORS[i % len(_COLORS)]}
        look |= {"label": f"{name} ({rows.sum():,})", **style}
        scatters[name] = ax.scatter(x[rows], y[rows], **look)
    named = isinstance(points, pd.DataFrame)
    xlabel, ylabel = points.columns if named else ("component 1", "component 2")
    # The axes have no unit; equal steps are equal distances.
    ax.set(xlabel=xlabel, ylabel=ylabel, xticks=[], yticks=[])
    ax.set_title(title, fontsize="small")
    ax.set_aspect("equal", adjustable="datalim")
    return scatters


def _check_count(name: str, values: Sequence, n_panels: int) -> None:
    if len(values) != n_panels:
        raise ValueError(
            f"{name} must have one entry for each of the {n_panels} panels. "
            f"Got {len(values)}."
        )
