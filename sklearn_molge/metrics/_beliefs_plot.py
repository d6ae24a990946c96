"""Displays of how sure answers are: reliability, and abstention."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_molge._compat import validate_params
from sklearn_molge._utils.plotting import DisplayMixin
from sklearn_molge.metrics._beliefs import (
    abstention_curve,
    bootstrap_calibration_error,
    expected_calibration_error,
    query_beliefs,
    reliability_curve,
)
from sklearn_molge.metrics._scores import Score, chance_scores, get_score

__all__ = ["AbstentionDisplay", "ReliabilityDisplay"]

_PERFECT, _CHANCE = "perfect", "chance"
_GREY = {"color": "0.4", "linestyle": "--", "zorder": 1.5}


class _BeliefDisplay(DisplayMixin):
    """Base: draws columns of :func:`query_beliefs`, the arguments of a subclass."""

    _columns: ClassVar[tuple[str, ...]]
    from_predictions: ClassVar[Any]

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
    ) -> Self:
        """Ask a calibrated retriever for its beliefs, and draw them.

        Parameters
        ----------
        estimator : estimator
            A fitted :class:`~sklearn_molge.retrieval.ConformalRetriever`, or a
            Pipeline or search around one.
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            The molecule of each row: SMILES, or features.
        y : array-like of shape (n_samples, n_genes)
            The profile of each row.
        drugs : array-like of shape (n_samples,), default=None
            Identity of each row's molecule. The interval resamples them.
        name : str, default=None
            Name in the legend; by default the name of the estimator's class.
        **kwargs : dict
            Passed to ``from_predictions``.

        Returns
        -------
        display : object
            A display of this class.
        """
        queries = query_beliefs(estimator, X, y, drugs=drugs)
        return cls.from_predictions(
            *(queries[column].to_numpy() for column in cls._columns),
            drugs=queries["drug"],
            name=type(estimator).__name__ if name is None else name,
            **kwargs,
        )


class ReliabilityDisplay(_BeliefDisplay):
    """Reliability diagram: how often the first molecule is the true one.

    Make one with :meth:`from_estimator` or :meth:`from_predictions`. All parameters
    are stored as attributes. Pass `ax` to draw several models on the same axes.

    Parameters
    ----------
    table : DataFrame
        Of :func:`reliability_curve`.
    error : float, default=None
        Expected calibration error, for the legend.
    error_interval : tuple of two floats, default=None
        Lower and upper end of the error, for the legend.
    name : str, default=None
        Name of the model, for the legend.

    Attributes
    ----------
    line_ : matplotlib Artist
        The curve, a marker a bin.
    interval_ : matplotlib Artist or None
        Bars of the interval; none without drugs.
    perfect_line_ : matplotlib Artist
        The diagonal; one for all displays on the same axes.
    counts_ : matplotlib Artist
        Bars, in grey: the share of the queries that each bin has.
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Figure with the curve.

    See Also
    --------
    reliability_curve : The numbers of the curve.
    sklearn.calibration.CalibrationDisplay : The same for a classifier.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.metrics import ReliabilityDisplay
    >>> rng = np.random.default_rng(0)
    >>> confidence = rng.uniform(size=500)
    >>> correct = rng.uniform(size=500) < confidence
    >>> display = ReliabilityDisplay.from_predictions(correct, confidence, name="Sure")
    >>> display.line_.get_label()
    'Sure (ECE = 0.035)'
    """

    _columns = ("correct", "confidence")

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        error: float | None = None,
        error_interval: tuple[float, float] | None = None,
        name: str | None = None,
    ):
        self.table = table
        self.error = error
        self.error_interval = error_interval
        self.name = name

    @classmethod
    def from_predictions(
        cls,
        correct: ArrayLike,
        confidence: ArrayLike,
        *,
        drugs: ArrayLike | None = None,
        n_bins: int = 10,
        strategy: str = "quantile",
        confidence_level: float = 0.95,
        n_resamples: int = 1000,
        random_state: int | np.random.RandomState | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> ReliabilityDisplay:
        """Draw the diagram of answers that are known to be right or wrong.

        Parameters
        ----------
        correct : array-like of shape (n_queries,)
            1 where the first molecule is the true one, 0 where it is not.
        confidence : array-like of shape (n_queries,)
            The share of belief in the first molecule.
        drugs : array-like of shape (n_queries,), default=None
            Identity of the true molecule; draws the intervals from resampling whole
            drugs, and that of the error stands in the legend. None without.
        n_bins : int, default=10
            Number of bins of the confidence.
        strategy : {"quantile", "uniform"}, default="quantile"
            Bins with as many queries each, or of equal width.
        confidence_level : float, default=0.95
            Coverage of the interval, in (0, 1).
        n_resamples : int, default=1000
            Number of bootstrap samples of the drugs, and of those of each bin.
        random_state : int, RandomState instance or None, default=None
            Draws the drugs.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        **kwargs : dict
            Passed to matplotlib's ``plot`` for the curve.

        Returns
        -------
        display : ReliabilityDisplay
        """
        bins: dict[str, Any] = {"n_bins": n_bins, "strategy": strategy}
        options: dict[str, Any] = bins | {
            "confidence_level": confidence_level,
            "n_resamples": n_resamples,
            "random_state": random_state,
        }
        table = reliability_curve(correct, confidence, drugs=drugs, **options)
        interval = None
        if drugs is None:
            error = expected_calibration_error(correct, confidence, **bins)
        else:
            error, low, high = bootstrap_calibration_error(
                correct, confidence, drugs, **options
            )
            interval = low, high
        display = cls(table, error=error, error_interval=interval, name=name)
        return display.plot(ax, **kwargs)

    def plot(
        self, ax: Any = None, *, name: str | None = None, **kwargs: Any
    ) -> ReliabilityDisplay:
        """Draw the diagram.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        name : str, default=None
            Name in the legend; by default the one that the display was made with.
        **kwargs : dict
            Passed to matplotlib's ``plot`` for the curve.

        Returns
        -------
        display : ReliabilityDisplay
            Itself, with the artists as attributes.
        """
        ax, table = self._use_axes(ax), self.table
        x, right = table["confidence"], table["correct"]
        shown = None if self.error is None else f"ECE = {self.error:.3f}"
        if self.error_interval is not None:
            shown = "{} [{:.3f}, {:.3f}]".format(shown, *self.error_interval)
        label = _legend(self.name if name is None else name, shown)
        kwargs = {"marker": "o", "markersize": 4, "label": label, **kwargs}
        (self.line_,) = ax.plot(x, right, **kwargs)
        self.interval_ = None
        if table["low"].notna().any():
            self.interval_ = ax.vlines(
                x, table["low"], table["high"], color=self.line_.get_color(), alpha=0.5
            )
        share = table["n_queries"] / table["n_queries"].sum()
        self.counts_ = ax.vlines(x, 0, share, color="0.85", linewidth=5, zorder=1)
        if not any(line.get_gid() == _PERFECT for line in ax.lines):
            self.counts_.set_label("Share of the queries")
        self.perfect_line_ = _once(ax, _PERFECT, [0, 1], [0, 1], "Perfect")
        ax.set_xlabel("Confidence: belief in the first molecule")
        ax.set_ylabel("Share of first molecules that are right")
        self._set_limits()
        ax.legend(loc="upper left")
        return self

    def _set_limits(self) -> None:
        """Show what is drawn, with room for the legend; of real profiles few are sure.

        A wider view of another display on the same axes stays.
        """
        table = self.table
        right = 1.1 * table["confidence"].max()
        top = 1.5 * np.nanmax(table[["correct", "high"]])
        drawn = [line for line in self.ax_.lines if line.get_gid() != _PERFECT]
        if len(drawn) > 1:
            right = max(right, self.ax_.get_xlim()[1])
            top = max(top, self.ax_.get_ylim()[1])
        self.ax_.set(xlim=(0, min(1, right)), ylim=(0, min(1, max(top, right))))


class AbstentionDisplay(_BeliefDisplay):
    """Score of the answers against the share of the queries that is answered.

    Make one with :meth:`from_estimator` or :meth:`from_predictions`. All parameters
    are stored as attributes. Pass `ax` to draw several models on the same axes.

    Parameters
    ----------
    table : DataFrame
        Of :func:`abstention_curve`.
    scoring : str or Score, default="mrr"
        Which score it holds.
    chance : float, default=None
        What a random ranking scores.
    name : str, default=None
        Name of the model, for the legend.

    Attributes
    ----------
    line_ : matplotlib Artist
        The curve.
    interval_ : matplotlib Artist or None
        The band; none without drugs.
    chance_line_ : matplotlib Artist or None
        What a random ranking has, however many it answers.
    ax_ : matplotlib Axes
        Axes with the curve.
    figure_ : matplotlib Figure
        Figure with the curve.

    See Also
    --------
    abstention_curve : The numbers of the curve.

    Examples
    --------
    >>> from sklearn_molge.metrics import AbstentionDisplay
    >>> display = AbstentionDisplay.from_predictions(
    ...     [1, 1, 2, 5, 8], [0.9, 0.8, 0.5, 0.3, 0.2], 20, name="Sure"
    ... )
    >>> display.line_.get_label()
    'Sure (MRR of all = 0.565)'
    """

    _columns = ("rank", "confidence", "n_candidates")

    def __init__(
        self,
        table: pd.DataFrame,
        *,
        scoring: str | Score = "mrr",
        chance: float | None = None,
        name: str | None = None,
    ):
        self.table = table
        self.scoring = scoring
        self.chance = chance
        self.name = name

    @classmethod
    @validate_params({"scoring": [str, Score]}, prefer_skip_nested_validation=True)
    def from_predictions(
        cls,
        ranks: ArrayLike,
        confidence: ArrayLike,
        n_candidates: ArrayLike,
        *,
        drugs: ArrayLike | None = None,
        scoring: str | Score = "mrr",
        confidence_level: float = 0.95,
        n_resamples: int = 1000,
        random_state: int | np.random.RandomState | None = None,
        name: str | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> AbstentionDisplay:
        """Draw the curve of an array of ranks.

        Parameters
        ----------
        ranks : array-like of shape (n_queries,)
            Rank of the true molecule for each query, 1 being the best.
        confidence : array-like of shape (n_queries,)
            How sure each answer is; larger is surer.
        n_candidates : int or array-like of shape (n_queries,)
            Number of molecules that were ranked, for the chance line.
        drugs : array-like of shape (n_queries,), default=None
            Identity of the true molecule; draws the interval from resampling whole
            drugs. No interval without.
        scoring : str or Score, default="mrr"
            "mrr", "median_rank", "hits@k" or your own.
        confidence_level : float, default=0.95
            Coverage of the interval, in (0, 1).
        n_resamples : int, default=1000
            Number of bootstrap samples of the drugs of the answered queries.
        random_state : int, RandomState instance or None, default=None
            Draws the drugs.
        name : str, default=None
            Name in the legend.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        **kwargs : dict
            Passed to matplotlib's ``plot`` for the curve.

        Returns
        -------
        display : AbstentionDisplay
        """
        table = abstention_curve(
            ranks, confidence, drugs=drugs, scoring=scoring,
            confidence_level=confidence_level, n_resamples=n_resamples,
            random_state=random_state,
        )  # fmt: skip
        (chance,) = chance_scores(n_candidates, scores=[scoring]).values()
        return cls(table, scoring=scoring, chance=chance, name=name).plot(ax, **kwargs)

    def plot(
        self, ax: Any = None, *, name: str | None = None, **kwargs: Any
    ) -> AbstentionDisplay:
        """Draw the curve.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        name : str, default=None
            Name in the legend; by default the one that the display was made with.
        **kwargs : dict
            Passed to matplotlib's ``plot`` for the curve.

        Returns
        -------
        display : AbstentionDisplay
            Itself, with the artists as attributes.
        """
        ax, table = self._use_axes(ax), self.table
        title = get_score(self.scoring, parameter="scoring").label
        shown = f"{title} of all = {_short(table['score'].iloc[-1])}"
        label = _legend(self.name if name is None else name, shown)
        kwargs = {"label": label, **kwargs}
        (self.line_,) = ax.plot(table["answered"], table["score"], **kwargs)
        self.interval_ = self.chance_line_ = None
        if table["low"].notna().any():
            self.interval_ = ax.fill_between(
                table["answered"], table["low"], table["high"],
                color=self.line_.get_color(), alpha=0.2, linewidth=0,
            )  # fmt: skip
        if self.chance is not None:
            key = f"{_CHANCE}-{self.chance:.9f}"
            label = f"Chance ({title} = {_short(self.chance)})"
            self.chance_line_ = _once(ax, key, [0, 1], [self.chance] * 2, label)
        ax.set(xlim=(0, 1), xlabel="Share of the queries answered, surest first")
        ax.set(ylabel=f"{title} of the answered")
        ax.legend()
        return self


def _short(value: float) -> str:
    """Write 0.226, and a median rank of 16 as 16."""
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _legend(name: str | None, shown: str | None) -> str | None:
    if shown is None:
        return name
    return shown if name is None else f"{name} ({shown})"


def _once(ax: Any, gid: str, x: Any, y: Any, label: str) -> Any:
    """Draw a line of reference, unless another display has drawn it already."""
    for line in ax.lines:
        if line.get_gid() == gid:
            return line
    (line,) = ax.plot(x, y, label=label, gid=gid, **_GREY)
    return line
