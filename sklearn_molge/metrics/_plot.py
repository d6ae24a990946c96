"""RetrievalCurveDisplay: recall or precision as the list of molecules grows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge._utils.checks import check_n_candidates, check_ranks
from sklearn_molge._utils.plotting import DisplayMixin, label_log_axis
from sklearn_molge._utils.resampling import RESAMPLING_CONSTRAINTS, recall_interval
from sklearn_molge.metrics._curves import recall_at_k
from sklearn_molge.metrics._ranks import rank_queries
from sklearn_molge.metrics._scores import Score, chance_scores, get_score

__all__ = ["RetrievalCurveDisplay"]

_CONSTRAINTS: dict[str, list[Any]] = {
    **RESAMPLING_CONSTRAINTS,
    "confidence_level": [*RESAMPLING_CONSTRAINTS["confidence_level"], None],
    "kind": [StrOptions({"recall", "precision_recall"})],
    "scale": [StrOptions({"log", "linear"})],
}

_CHANCE = "chance"


class RetrievalCurveDisplay(DisplayMixin):
    """Recall at k, or precision and recall, with chance and an interval over drugs.

    Make one with :meth:`from_estimator` or :meth:`from_predictions`. All parameters
    are stored as attributes. Pass `ax` to draw several models on the same axes.

    Parameters
    ----------
    k : ndarray of shape (n_candidates,)
        Number of molecules looked at: 1, ..., n_candidates.
    recall : ndarray of shape (n_candidates,)
        Share of the queries whose true molecule is among the first k.
    kind : {"recall", "precision_recall"}, default="recall"
        Recall against k, or precision (recall over k) against recall.
    scale : {"log", "linear"}, default="log"
        Scale of the axis of k, or of the axis of precision.
    n_candidates : int or ndarray of shape (n_queries,), default=None
        Number of molecules that were ranked, for the chance line; by default the
        largest k.
    interval : ndarray of shape (2, n_candidates), default=None
        Lower and upper end of recall at each k; no band is drawn without.
    score : float, default=None
        Value of a score, for the legend.
    scoring : str or Score, default="mrr"
        Which score `score` is: "mrr", "median_rank", "hits@k" or your own.
    name : str, default=None
        Name of the model, for the legend.

    Attributes
    ----------
    line_ : matplotlib Artist
        The curve.
    chance_line_ : matplotlib Artist or None
        What a random ranking has; one line for all displays on the same axes with as
        many candidates.
    interval_ : matplotlib Artist or None
        The band.
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Figure with the curve.

    See Also
    --------
    recall_at_k : The numbers of the curve.
    precision_recall : The numbers of the other kind, and the paper's variant of them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.metrics import RetrievalCurveDisplay
    >>> ranks = np.random.default_rng(0).integers(1, 51, size=200)
    >>> display = RetrievalCurveDisplay.from_predictions(ranks, 50, name="Random")
    >>> display.line_.get_label()
    'Random (MRR = 0.096)'
    """

    def __init__(
        self,
        k: NDArray[np.int64],
        recall: NDArray[np.float64],
        *,
        kind: str = "recall",
        scale: str = "log",
        n_candidates: int | NDArray[np.int64] | None = None,
        interval: NDArray[np.float64] | None = None,
        score: float | None = None,
        scoring: str | Score = "mrr",
        name: str | None = None,
    ):
        self.k = k
        self.recall = recall
        self.kind = kind
        self.scale = scale
        self.n_candidates = n_candidates
        self.interval = interval
        self.score = score
        self.scoring = scoring
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: ArrayLike,
        y: ArrayLike,
        *,
        drugs: ArrayLike | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> RetrievalCurveDisplay:
        """Rank the molecules of X for the profiles y, and draw the curve.

        Parameters
        ----------
        estimator : estimator
            A fitted two-view estimator, or a Pipeline, search or wrapper around one.
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            The molecule of each row: SMILES, or features.
        y : array-like of shape (n_samples, n_genes)
            The profile of each row.
        drugs : array-like of shape (n_samples,), default=None
            Identity of each row's molecule; see
            :func:`~sklearn_molge.metrics.retrieval_ranks`. The interval resamples
            them.
        name : str, default=None
            Name in the legend; by default the name of the estimator's class.
        **kwargs : dict
            Passed to :meth:`from_predictions`.

        Returns
        -------
        display : RetrievalCurveDisplay
        """
        ranked = rank_queries(estimator, X, y, drugs=drugs)
        return cls.from_predictions(
            ranked.ranks,
            ranked.n_candidates,
            drugs=ranked.drugs,
            name=type(estimator).__name__ if name is None else name,
            **kwargs,
        )

    @classmethod
    @validate_params(_CONSTRAINTS, prefer_skip_nested_validation=True)
    def from_predictions(
        cls,
        ranks: ArrayLike,
        n_candidates: ArrayLike,
        *,
        drugs: ArrayLike | None = None,
        kind: str = "recall",
        scale: str = "log",
        scoring: str | Score = "mrr",
        name: str | None = None,
        ax: Any = None,
        plot_chance: bool = True,
        confidence_level: float | None = 0.95,
        n_resamples: int = 1000,
        random_state: int | np.random.RandomState | None = None,
        **kwargs: Any,
    ) -> RetrievalCurveDisplay:
        """Draw the curve of an array of ranks.

        Parameters
        ----------
        ranks : array-like of shape (n_queries,)
            Rank of the true molecule for each query, 1 being the best.
        n_candidates : int or array-like of shape (n_queries,)
            Number of molecules that were ranked; one number per query where the
            queries had different candidates, as those of several folds.
        drugs : array-like of shape (n_queries,), default=None
            Identity of the true molecule; draws the interval from resampling whole
            drugs. No interval without.
        kind : {"recall", "precision_recall"}, default="recall"
            Recall against k, or precision against recall. The interval is pointwise:
            of recall, or of precision, at the same k.
        scale : {"log", "linear"}, default="log"
            Scale of the axis of k, or of the axis of precision.
        scoring : str or Score, default="mrr"
            What the legend shows: "mrr", "median_rank", "hits@k" or your own.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        plot_chance : bool, default=True
            Draw what a random ranking has.
        confidence_level : float or None, default=0.95
            Coverage of the interval, in (0, 1); None draws no interval.
        n_resamples : int, default=1000
            Number of bootstrap samples of the drugs.
        random_state : int, RandomState instance or None, default=None
            Draws the drugs.
        **kwargs : dict
            Passed to matplotlib's ``plot`` for the curve.

        Returns
        -------
        display : RetrievalCurveDisplay

        Raises
        ------
        ValueError
            If `ranks` is empty, not 1-D, or holds NaN or a number outside 1 to
            `n_candidates`, or if `drugs` has another length, missing entries or fewer
            than two drugs.
        """
        sizes = check_n_candidates(n_candidates)
        most = int(sizes.max())
        array = check_ranks(ranks, n_candidates=most)
        if np.any(array > sizes):
            bad = int(np.argmax(array > sizes))
            raise ValueError(
                f"ranks must be <= n_candidates. Got {array[bad]:g} of {sizes[bad]} at "
                f"index {bad}."
            )
        k, recall = recall_at_k(array, most)
        interval = None
        if drugs is not None and confidence_level is not None:
            interval = recall_interval(
                array,
                drugs,
                most,
                n_resamples=n_resamples,
                confidence_level=confidence_level,
                random_state=random_state,
            )
        display = cls(
            k,
            recall,
            kind=kind,
            scale=scale,
            n_candidates=sizes,
            interval=interval,
            score=get_score(scoring, parameter="scoring")(array),
            scoring=scoring,
            name=name,
        )
        return display.plot(ax, plot_chance=plot_chance, **kwargs)

    def plot(
        self,
        ax: Any = None,
        *,
        name: str | None = None,
        plot_chance: bool = True,
        **kwargs: Any,
    ) -> RetrievalCurveDisplay:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        name : str, default=None
            Name in the legend; by default the one that the display was made with.
        plot_chance : bool, default=True
            Draw what a random ranking has.
        **kwargs : dict
            Passed to matplotlib's ``plot`` for the curve.

        Returns
        -------
        display : RetrievalCurveDisplay
            Itself, with the artists as attributes.
        """
        ax = self._use_axes(ax)
        x, y = self._curve(self.recall)
        label = self._label(self.name if name is None else name, self.score)
        kwargs = {"drawstyle": "steps-post", "label": label, **kwargs}
        (self.line_,) = ax.plot(x, y, **kwargs)
        self.interval_ = None if self.interval is None else self._fill()
        self.chance_line_ = self._plot_chance() if plot_chance else None
        self._set_axes()
        return self

    def _curve(self, recall: Any) -> tuple[Any, Any]:
        """Return what goes on the two axes."""
        if self.kind == "recall":
            return self.k, recall
        return self.recall, recall / self.k

    def _fill(self) -> Any:
        x, (low, high) = self._curve(self.interval)
        color = self.line_.get_color()
        return self.ax_.fill_between(
            x, low, high, step="post", color=color, alpha=0.2, linewidth=0
        )

    def _plot_chance(self) -> Any:
        """Draw the chance line, unless another display has drawn it already."""
        given = len(self.k) if self.n_candidates is None else self.n_candidates
        sizes, n_queries = np.unique(given, return_counts=True)
        recall = (
            np.minimum(self.k[:, None], sizes) / sizes @ (n_queries / np.sum(n_queries))
        )
        (score,) = chance_scores(given, scores=[self.scoring]).values()
        gid = f"{_CHANCE}-{self.kind}-{len(self.k)}-{score:.9f}"
        for line in self.ax_.lines:
            if line.get_gid() == gid:
                return line
        label = self._label("Chance", score)
        x = self.k if self.kind == "recall" else recall
        y = recall if self.kind == "recall" else recall / self.k
        style = {"color": "0.4", "linestyle": "--", "zorder": 1.5}
        (line,) = self.ax_.plot(x, y, label=label, gid=gid, **style)
        return line

    def _label(self, name: str | None, value: float | None) -> str | None:
        if value is None:
            return name
        label = get_score(self.scoring, parameter="scoring").label
        shown = f"{label} = {value:.3f}"
        return shown if name is None else f"{name} ({shown})"

    def _set_axes(self) -> None:
        ax = self.ax_
        if self.kind == "recall":
            ax.set(xscale=self.scale, xlabel="k", ylabel="Recall at k", ylim=(0, 1.01))
            ax.margins(x=0)
            location = "upper left" if self.scale == "log" else "lower right"
        else:
            ax.set(yscale=self.scale, xlabel="Recall", ylabel="Precision", xlim=(0, 1))
            location = "best"
        if self.scale == "log":
            axis = ax.xaxis if self.kind == "recall" else ax.yaxis
            label_log_axis(axis, *axis.get_view_interval())
        # The models first, chance last.
        lines = sorted(ax.lines, key=_is_chance)
        lines = [line for line in lines if not line.get_label().startswith("_")]
        if lines:
            ax.legend(handles=lines, loc=location)


def _is_chance(line: Any) -> bool:
    return str(line.get_gid()).startswith(_CHANCE)
