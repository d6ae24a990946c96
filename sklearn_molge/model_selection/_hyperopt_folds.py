"""What one trial costs: a fit and a score on every fold, failures included."""

import time
import warnings
from collections.abc import Iterator
from traceback import format_exc
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.utils.parallel import delayed

from sklearn_molge._compat import _fit_and_score

__all__ = ["Folds", "collect_errors", "find_metric", "mean_score", "scored_folds"]

# One fold of one trial: fit_time, score_time, test_scores (None where it failed),
# train_scores if asked for, error (a traceback, or None).
Fold = dict[str, Any]


class Folds:
    """Estimator, data and splits of a search.

    Parameters
    ----------
    estimator : estimator
        Cloned for each fold.
    X, y : array-like
        The data.
    splits : list of (train, test)
        Row indices. They are drawn once: trials must not differ by them.
    **options : dict
        Passed to scikit-learn's ``_fit_and_score``; `error_score` among them.
    """

    def __init__(self, estimator: Any, X: Any, y: Any, splits: list, **options: Any):
        if not splits:
            raise ValueError("cv must yield at least one split. It yielded none.")
        self.estimator = estimator
        self.X, self.y = X, y
        self.splits = splits
        self.options = options

    def evaluate(self, params: dict[str, Any]) -> list[Fold]:
        """Return the folds of one trial."""
        return [_evaluate_fold(**call) for call in self._calls(params)]

    def tasks(self, params: dict[str, Any]) -> Iterator[Any]:
        """Yield the folds of one trial as tasks for joblib."""
        return (delayed(_evaluate_fold)(**call) for call in self._calls(params))

    def _calls(self, params: dict[str, Any]) -> Iterator[dict[str, Any]]:
        for train, test in self.splits:
            yield {
                "estimator": clone(self.estimator),
                "X": self.X,
                "y": self.y,
                "train": train,
                "test": test,
                "parameters": params,
                **self.options,
            }


def _evaluate_fold(*, error_score: Any, **options: Any) -> Fold:
    start = time.perf_counter()
    try:
        fold = _fit_and_score(
            verbose=0,
            return_times=True,
            error_score="raise",
            **options,
        )
    except Exception:
        if error_score == "raise":
            raise
        elapsed = time.perf_counter() - start
        return {
            "fit_time": elapsed,
            "score_time": 0.0,
            "test_scores": None,
            "error": format_exc(),
        }
    fold["error"] = fold.pop("fit_error")
    return fold


def find_metric(folds: list[Fold], *, objective: str | None, refit: Any) -> str | None:
    """Return the name of the metric to maximise, None where there is only one.

    Raises ValueError where there are several and neither name is one of them.
    """
    scores = next((f["test_scores"] for f in folds if f["error"] is None), None)
    if scores is None:
        return None
    if not isinstance(scores, dict):
        if objective is not None:
            raise ValueError(
                f"objective={objective!r} names one of several metrics, and scoring "
                "returns a single number."
            )
        return None
    name = refit if objective is None else objective
    if not isinstance(name, str) or name not in scores:
        raise ValueError(
            f"scoring returns several metrics, {sorted(scores)}: refit or objective "
            f"must name the one to maximise. Got refit={refit!r} and "
            f"objective={objective!r}."
        )
    if refit and not callable(refit) and refit not in scores:
        raise ValueError(
            f"scoring returns several metrics, {sorted(scores)}: refit must be one of "
            f"them, a function or False. Got {refit!r}."
        )
    return name


def mean_score(folds: list[Fold], metric: str | None, error_score: Any) -> float:
    """Return the mean of one metric, NaN where a fold failed without a score."""
    scores = [fold["test_scores"] for fold in folds]
    if metric is not None:
        scores = [s if s is None else s[metric] for s in scores]
    return float(np.mean([error_score if s is None else s for s in scores]))


def scored_folds(
    folds: list[Fold], *, error_score: Any, return_train_score: bool
) -> list[Fold]:
    """Return the folds as scikit-learn formats them, failures with `error_score`."""
    good = next(fold["test_scores"] for fold in folds if fold["error"] is None)
    failed = error_score
    if isinstance(good, dict):
        failed = dict.fromkeys(good, error_score)
    names = ["test_scores", "train_scores"][: 1 + return_train_score]
    return [
        {
            "fit_time": fold["fit_time"],
            "score_time": fold["score_time"],
            **{name: fold[name] if fold["error"] is None else failed for name in names},
        }
        for fold in folds
    ]


def collect_errors(trials: list[list[Fold]]) -> NDArray[np.object_]:
    """Return each trial's first traceback or None, with a warning where there is one.

    Raises ValueError where all folds of all trials failed.
    """
    texts = [next((f["error"] for f in folds if f["error"]), None) for folds in trials]
    failed = [text for text in texts if text is not None]
    if all(fold["error"] for folds in trials for fold in folds):
        raise ValueError(
            f"All {len(trials)} trials failed. It is very likely that the model or the "
            "space is misconfigured; error_score='raise' stops at the first. The last "
            f"error:\n{texts[-1]}"
        )
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(trials)} trials failed in at least one fold; "
            f"cv_results_['error'] has the errors. The last one:\n{failed[-1]}",
            FitFailedWarning,
            stacklevel=4,
        )
    return np.array(texts, dtype=object)
