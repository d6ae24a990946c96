"""Trials on a Spark cluster, through hyperopt's SparkTrials."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import hyperopt
import numpy as np
from hyperopt.base import JOB_STATE_DONE, JOB_STATE_ERROR, AllTrialsFailed
from sklearn import config_context, get_config

from sklearn_molge.model_selection._hyperopt_folds import Folds, mean_score
from sklearn_molge.model_selection._hyperopt_space import SearchSpace, active_values
from sklearn_molge.model_selection._hyperopt_trials import TrialLog, has_stalled

__all__ = ["run_on_spark"]


def run_on_spark(
    log: TrialLog,
    folds: Folds,
    *,
    n_iter: int,
    parallelism: int,
    patience: int | None,
    verbose: int,
) -> None:
    """Run a whole search on Spark and enter its trials into `log`.

    hyperopt suggests a point whenever a worker is free, so that which points are known
    at that time, and thereby the next point, depends on how fast the workers are.
    """
    trials = _spark_trials(parallelism)
    objective = partial(
        _evaluate,
        space=log.space,
        folds=folds,
        find_metric=log.find_metric,
        error_score=log.error_score,
        config=get_config(),
    )

    def early_stop(trials: Any, *_: Any) -> tuple[bool, list]:
        done = [t for t in trials.trials if t["state"] == JOB_STATE_DONE]
        return has_stalled([t["result"].get("loss") for t in done], patience), []

    try:
        hyperopt.fmin(
            objective,
            log.space.expression,
            algo=log.suggest_one,
            max_evals=n_iter,
            trials=trials,
            rstate=np.random.default_rng(log.seed),
            return_argmin=False,
            show_progressbar=bool(verbose),
            verbose=False,
            early_stop_fn=None if patience is None else early_stop,
        )
    except AllTrialsFailed:
        pass  # the search says so, with the errors
    _enter(trials, log, n_folds=len(folds.splits))


def _spark_trials(parallelism: int) -> Any:
    try:
        import_module("pyspark")
    except ImportError as error:
        raise ImportError(
            "backend='spark' needs pyspark, which is not installed: pip install "
            '"sklearn-molge[spark]"'
        ) from error
    return hyperopt.SparkTrials(parallelism=parallelism)


def _evaluate(
    point: Any,
    *,
    space: SearchSpace,
    folds: Folds,
    find_metric: Callable[[Any], str | None],
    error_score: Any,
    config: dict[str, Any],
) -> dict[str, Any]:
    """Evaluate one point on a worker."""
    with config_context(**config):
        outcome = folds.evaluate(space.flatten(point))
    score = mean_score(outcome, find_metric(outcome), error_score)
    if np.isfinite(score):
        return {"status": hyperopt.STATUS_OK, "loss": -score, "folds": outcome}
    return {"status": hyperopt.STATUS_FAIL, "folds": outcome}


def _enter(trials: Any, log: TrialLog, *, n_folds: int) -> None:
    """Enter what Spark returned, a lost task as a failure; not what was cancelled."""
    # `trials.trials` leaves out the lost ones.
    docs = sorted(trials._dynamic_trials, key=lambda doc: doc["tid"])
    for doc in docs:
        state = doc["state"]
        if state == JOB_STATE_DONE:
            outcome = doc["result"]["folds"]
        elif state == JOB_STATE_ERROR:
            error = ": ".join(str(part) for part in doc["misc"]["error"])
            if log.error_score == "raise":
                raise RuntimeError(f"A trial failed on Spark with error {error}")
            outcome = [
                {
                    "fit_time": 0.0,
                    "score_time": 0.0,
                    "test_scores": None,
                    "error": error,
                }
            ] * n_folds
        else:
            continue
        log.add(active_values(doc))
        log.record(outcome)
