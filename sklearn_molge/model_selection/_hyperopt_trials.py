"""What a search draws from and what it has tried: its space, its trials, their file."""

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, TypeGuard

import joblib
import numpy as np
from hyperopt import (
    STATUS_FAIL,
    STATUS_OK,
    Trials,
    anneal,
    hp,
    pyll,
    rand,
    space_eval,
    tpe,
)
from hyperopt.base import JOB_STATE_DONE, Domain
from hyperopt.exceptions import DuplicateLabel
from sklearn.base import BaseEstimator, clone

from sklearn_molge._files.replacing import replace_bytes
from sklearn_molge._utils.identity import describe, imported_name

__all__ = [
    "Fold",
    "SearchSpace",
    "TrialFile",
    "TrialLog",
    "has_stalled",
    "suggest_function",
]

# One fold of one trial: fit_time, score_time, test_scores (None where it failed),
# train_scores if asked for, error (a traceback, or None).
Fold = dict[str, Any]
Params = dict[str, object]


# Points at which the names of the parameters are tried out before the search.
_N_PROBES = 32


class SearchSpace:
    """The distributions that a search draws from.

    Parameters
    ----------
    param_distributions : dict or hyperopt expression
        See :class:`~sklearn_molge.model_selection.HyperoptSearchCV`.
    """

    def __init__(self, param_distributions: object):
        self.expression = _merge_equal(_as_expression(param_distributions))
        try:
            self.domain = Domain(None, self.expression)
        except DuplicateLabel as error:
            raise ValueError(
                "Each hyperopt expression in param_distributions must have a label of "
                f"its own. {error.args[0]!r} comes twice, with other distributions."
            ) from error
        if not self.domain.params:
            raise ValueError(
                "param_distributions must hold a hyperopt expression or a list to "
                f"draw from. Got {param_distributions!r}."
            )

    @property
    def labels(self) -> list[str]:
        """The labels of hyperopt's expressions."""
        return sorted(self.domain.params)

    def params(self, values: Mapping[str, object]) -> Params:
        """Return the parameters at a point, given each active label's value."""
        return self.flatten(space_eval(self.expression, values))

    def flatten(self, point: object) -> Params:
        """Return the parameters at a point; a branch gives way to its contents."""
        if not _is_branch(point):
            raise TypeError(
                "param_distributions must be a dict of parameters, or an expression "
                f"that draws one. It drew {point!r}."
            )
        params: Params = {}
        for name, value in point.items():
            inside = self.flatten(value) if _is_branch(value) else {name: plain(value)}
            twice = sorted(params.keys() & inside.keys())
            if twice:
                raise ValueError(
                    f"param_distributions sets {twice} twice at one point."
                )
            params.update(inside)
        return params

    def check(self, estimator: BaseEstimator) -> None:
        """Raise what `set_params` raises, at points drawn from the space."""
        trials = Trials()
        for seed in range(_N_PROBES):
            (doc,) = rand.suggest([seed], self.domain, trials, seed)
            params = self.params(active_values(doc))
            clone(estimator).set_params(**clone(params, safe=False))

    def identity(self) -> str:
        """Return a hash that tells this space from others."""
        return _node_keys(self.expression, name=imported_name)[id(self.expression)]


def active_values(doc):
    """Return the values of one of hyperopt's trials, without inactive labels."""
    values = doc["misc"]["vals"]
    return {label: plain(value[0]) for label, value in values.items() if len(value)}


def plain(value):
    """Return numpy's numbers as Python's own."""
    if isinstance(value, np.generic):
        return value.item()
    if type(value) in (list, tuple):
        return type(value)(plain(v) for v in value)
    if type(value) is dict:
        return {plain(k): plain(v) for k, v in value.items()}
    return value


def _as_expression(distributions):
    if isinstance(distributions, pyll.Apply):
        return distributions
    bad = [name for name in distributions if not isinstance(name, str)]
    if bad:
        raise TypeError(
            f"The keys of param_distributions must be names, str. Got {bad[0]!r}."
        )
    return {name: _distribution(name, v) for name, v in distributions.items()}


def _merge_equal(expression: object) -> pyll.Apply:
    """Return a copy with one node for each label and distribution.

    scikit-learn's `clone` copies a dict entry by entry, and so parts what several
    entries have in common.
    """
    expression = pyll.as_apply(expression)
    keys = _node_keys(expression, name=id)
    merged: dict[str, pyll.Apply] = {}
    copies: dict[int, pyll.Apply] = {}
    for node in pyll.dfs(expression):
        copy = node.clone_from_inputs([copies[id(each)] for each in node.inputs()])
        if node.name == "hyperopt_param":
            copy = merged.setdefault(keys[id(node)], copy)
        copies[id(node)] = copy
    return copies[id(expression)]


def _node_keys(
    expression: pyll.Apply, *, name: Callable[[type | FunctionType], object]
) -> dict[int, str]:
    """Return a hash of each node, and of all below it, by the node's id."""
    keys: dict[int, str] = {}
    for node in pyll.dfs(expression):
        if isinstance(node, pyll.Literal):
            content = ["literal", describe(node.obj, name=name)]
        else:
            names = [each for each, _ in node.named_args]
            content = [node.name, names, [keys[id(each)] for each in node.inputs()]]
        keys[id(node)] = joblib.hash(content)
    return keys


def _distribution(name, value):
    """Return what hyperopt takes for one entry: a list is a choice."""
    if hasattr(value, "rvs"):
        raise TypeError(
            f"param_distributions[{name!r}] must be a hyperopt expression such as "
            f"hp.uniform({name!r}, 0, 1), a list to choose from or a fixed value. Got "
            f"a scipy distribution, {value!r}."
        )
    if isinstance(value, list | np.ndarray):
        if len(value) == 0:
            raise ValueError(f"param_distributions[{name!r}] has nothing to draw from.")
        return hp.choice(name, [_constant(option) for option in value])
    return _constant(value)


def _constant(value):
    """Keep a value without expressions as it is: hyperopt turns lists into tuples."""
    return value if _has_expression(value) else pyll.Literal(value)


def _has_expression(value: object) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return any(_has_expression(v) for v in value)
    return isinstance(value, pyll.Apply)


def _is_branch(value: object) -> TypeGuard[Params]:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


_FORMAT = 1


def suggest_function(algorithm, n_initial_points):
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
        suggest: Callable,
        *,
        seed: int,
        error_score: float | str,
        find_metric: Callable[[list[Fold]], str | None],
    ):
        self.space = space
        self.seed = seed
        self.error_score = error_score
        self.trials = Trials()
        self.values: list[Params] = []
        self.params: list[Params] = []
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

    def suggest(self, n_points: int) -> list[Params]:
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

    def add(self, values: Mapping[str, object]) -> None:
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
        replace_bytes(self.path, json.dumps(content).encode())


def mean_score(folds, metric, error_score) -> float:
    """Return the mean of one metric, NaN where a fold failed without a score."""
    scores = [fold["test_scores"] for fold in folds]
    if metric is not None:
        scores = [s if s is None else s[metric] for s in scores]
    return float(np.mean([error_score if s is None else s for s in scores]))
