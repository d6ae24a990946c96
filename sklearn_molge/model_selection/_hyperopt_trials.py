"""What a search has tried so far: hyperopt's history, our scores, and their file."""

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from hyperopt import STATUS_FAIL, STATUS_OK, Trials, anneal, rand, tpe
from hyperopt.base import JOB_STATE_DONE

from sklearn_molge._utils.identity import describe
from sklearn_molge.model_selection._hyperopt_folds import Fold, Folds, mean_score
from sklearn_molge.model_selection._hyperopt_space import SearchSpace, active_values

__all__ = ["TrialFile", "TrialLog", "has_stalled", "identify", "suggest_function"]

_FORMAT = 1


def suggest_function(algorithm: Any, n_initial_points: int) -> Callable[..., Any]:
    """Return hyperopt's function that suggests the next point."""
    if algorithm == "tpe":
        return partial(tpe.suggest, n_startup_jobs=n_initial_points, verbose=False)
    return {"random": rand.suggest, "anneal": anneal.suggest}.get(algorithm, algorithm)


def has_stalled(losses: list[float | None], patience: int | None) -> bool:
    """Return whether the last `patience` trials were no better than those before."""
    if patience is None or len(losses) < patience:
        return False
    filled = [np.inf if loss is None else loss for loss in losses]
    best = int(np.argmin(filled)) if np.isfinite(filled).any() else -1
    return len(filled) - 1 - best >= patience


class TrialLog:
    """The trials of a search, in the order in which they were suggested.

    Parameters
    ----------
    space : SearchSpace
        What is searched.
    suggest : callable
        One of hyperopt's ``suggest`` functions.
    seed : int
        Decides all suggestions, together with the scores.
    error_score : float or "raise"
        Score of a fold that failed.
    find_metric : callable
        Names the metric to maximise, given the folds of a trial.

    Attributes
    ----------
    trials : hyperopt.Trials
        hyperopt's view of them: what the next suggestions are learnt from.
    values : list of dict
        Each trial's value by label.
    params : list of dict
        Each trial's parameters.
    folds : list of list of dict
        Each finished trial's folds.
    """

    def __init__(
        self,
        space: SearchSpace,
        suggest: Callable[..., Any],
        *,
        seed: int,
        error_score: Any,
        find_metric: Callable[[list[Fold]], str | None],
    ):
        self.space = space
        self.seed = seed
        self.error_score = error_score
        self.trials = Trials()
        self.values: list[dict[str, Any]] = []
        self.params: list[dict[str, Any]] = []
        self.folds: list[list[Fold]] = []
        self.suggest_one = suggest
        self.find_metric = find_metric

    def __len__(self) -> int:
        return len(self.folds)

    @property
    def losses(self) -> list[float | None]:
        """Minus the mean score of each finished trial; None where it failed."""
        return [result.get("loss") for result in self.trials.results[: len(self)]]

    @property
    def best_score(self) -> float:
        """The best mean score so far, NaN where there is none."""
        return -min((x for x in self.losses if x is not None), default=np.nan)

    def suggest(self, n_points: int) -> list[dict[str, Any]]:
        """Return the parameters of the next points.

        They stay in hyperopt's history without a score, which counts as a bad one, so
        that the points of one round keep apart.
        """
        first = len(self)
        for tid in range(first, first + n_points):
            seed = np.random.SeedSequence([self.seed, tid]).generate_state(1)[0]
            history, domain = self.trials, self.space.domain
            (doc,) = self.suggest_one([tid], domain, history, int(seed))
            self.add(active_values(doc))
        return self.params[first:]

    def add(self, values: Mapping[str, Any]) -> None:
        """Add a point that has no score yet."""
        tid, domain = len(self.params), self.space.domain
        labels = self.space.labels
        misc = {
            "tid": tid,
            "cmd": domain.cmd,
            "workdir": domain.workdir,
            "idxs": {label: [tid] if label in values else [] for label in labels},
            "vals": {k: [values[k]] if k in values else [] for k in labels},
        }
        docs = self.trials.new_trial_docs([tid], [None], [domain.new_result()], [misc])
        self.trials.insert_trial_docs(docs)
        self.trials.refresh()
        self.values.append(dict(values))
        self.params.append(self.space.params(values))

    def record(self, folds: list[Fold]) -> None:
        """Record the folds of the first point that has none yet."""
        score = mean_score(folds, self.find_metric(folds), self.error_score)
        doc = self.trials.trials[len(self)]
        doc["state"] = JOB_STATE_DONE
        if np.isfinite(score):
            doc["result"] = {"status": STATUS_OK, "loss": -score}
        else:
            doc["result"] = {"status": STATUS_FAIL}
        errors = [fold["error"] for fold in folds if fold["error"] is not None]
        if errors:
            doc["misc"]["error"] = errors[0]
        self.folds.append(folds)


def identify(search: Any, space: SearchSpace, folds: Folds) -> dict[str, str]:
    """Return a hash of all that decides the trials of a search, by what it is of."""
    refit = search.refit if isinstance(search.refit, str) else None
    options = folds.options
    parts = {
        "estimator": describe(search.estimator),
        "param_distributions": space.identity(),
        "algorithm": [describe(search.algorithm), search.n_initial_points],
        "n_suggestions": search.n_suggestions,
        "scoring": describe([search.scoring, search.objective, refit]),
        "error_score": repr(search.error_score),
        "return_train_score": search.return_train_score,
        "X": folds.X,
        "y": folds.y,
        "fit parameters": [options["fit_params"], options["score_params"]],
        "the splits of cv": folds.splits,
        "random_state": describe(search.random_state),
    }
    return {name: joblib.hash(part) for name, part in parts.items()}


class TrialFile:
    """The file in which a search is kept, after each round.

    JSON, so that reading another's file runs no code. Parameters are not in it:
    they follow from the values and the space.

    Parameters
    ----------
    path : path-like
        The file.
    identity : dict of str to str
        Hash of all that decides the trials, by what it is of.
    """

    def __init__(self, path: str | os.PathLike, identity: dict[str, str]):
        self.path = Path(path)
        self.identity = identity
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"trials_path must lie in a folder that exists. Got {self.path}."
            )
        if not os.access(self.path.parent, os.W_OK):
            raise PermissionError(
                f"trials_path must lie in a folder to write in. Got {self.path}."
            )

    def read(self) -> dict[str, Any] | None:
        """Return the seed and the trials, or None where there is no file."""
        if not self.path.exists():
            return None
        try:
            content = json.loads(self.path.read_text(encoding="utf-8"))
            version, *_ = [content[k] for k in ("format", "identity", "seed", "trials")]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"trials_path: {self.path} is not a file of this search."
            ) from error
        if version != _FORMAT:
            raise ValueError(
                f"trials_path: {self.path} has format {version!r}. This version reads "
                f"{_FORMAT}."
            )
        saved = content["identity"]
        other = [part for part, own in self.identity.items() if saved.get(part) != own]
        if other:
            raise ValueError(
                f"trials_path: {self.path} belongs to another search. It differs in "
                f"{', '.join(other)}. Give another path, or delete the file."
            )
        return content

    def write(self, log: TrialLog) -> None:
        """Write what was tried so far: all of it, or what was there before."""
        content = {
            "format": _FORMAT,
            "identity": self.identity,
            "seed": log.seed,
            "trials": [
                {"values": values, "folds": folds}
                for values, folds in zip(log.values, log.folds, strict=False)
            ],
        }
        unfinished = self.path.with_name(f"{self.path.name}.part")
        unfinished.write_text(json.dumps(content), encoding="utf-8")
        os.replace(unfinished, self.path)
