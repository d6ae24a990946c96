"""What a search draws from and what it has tried: its space, its trials, their file."""

import json
import os
from collections.abc import Callable, Mapping
from functools import partial
from hashlib import sha256
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

from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replace_bytes
from sklearn_molge._utils.identity import describe, imported_name
from sklearn_molge._utils.messages import first_few

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

    def check_values(self, values: Mapping[str, object]) -> None:
        """Raise ValueError where values of labels are not a point of this space."""
        for label, value in values.items():
            if label not in self.domain.params:
                raise ValueError(f"there is no label {label!r}")
            low, high, is_whole = _range_of(self.domain.params[label])
            if not _is_number(value) or not low <= value <= high:
                raise ValueError(f"{label!r} must be from {low} to {high}. Got {value}")
            if is_whole and not isinstance(value, int):
                raise ValueError(f"{label!r} must be an int. Got {value}")
        missing = sorted(_active_labels(self.expression, values) - values.keys())
        if missing:
            raise ValueError(f"it has no value of {first_few(missing)}")

    def identity(self) -> str:
        """Return a hash that tells this space from others."""
        return _node_keys(self.expression, name=imported_name)[id(self.expression)]


def active_values(doc):
    """Return the values of one of hyperopt's trials, without inactive labels."""
    values = doc["misc"]["vals"]
    return {label: plain(value[0]) for label, value in values.items() if len(value)}


def _is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a number that a float can be; NaN and infinity are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, float) or abs(value) < 1 << 1000


def _range_of(node: pyll.Apply) -> tuple[float, float, bool]:
    """Return the least and the largest value of a distribution, and if it is an int."""
    # Beyond that, 1e300 is as good as infinite.
    low, high, kind = -1e300, 1e300, node.name.removeprefix("q")
    args = node.pos_args + [arg for _, arg in node.named_args]
    if kind == "categorical":
        return 0, len(args[0].inputs()) - 1, True
    if kind == "lognormal":
        low = 0.0
    if all(isinstance(arg, pyll.Literal) for arg in args):
        known = [arg.obj for arg in args]
        if kind == "randint":
            return (0, *known)[-2], known[-1] - 1, True
        if kind in ("uniform", "loguniform"):
            low, high = known[:2]
            if kind == "loguniform":
                low, high = np.exp(low) * (1 - 1e-9), np.exp(high) * (1 + 1e-9)
        # A multiple of q may lie beside the range.
        step = known[2] if node.name.startswith("q") else 0
        low, high = low - step, high + step
    return low, high, kind == "randint"


def _active_labels(expression: pyll.Apply, values: Mapping[str, Any]) -> set[str]:
    """Return the labels of which a point has a value, given those that choose."""
    found, pending = set(), [expression]
    while pending:
        node = pending.pop()
        if node.name == "hyperopt_param":
            found.add(node.pos_args[0].obj)
        elif node.name == "switch" and node.inputs()[0].name == "hyperopt_param":
            choice, *options = node.inputs()
            chosen = values.get(choice.pos_args[0].obj)
            pending.append(choice)
            if chosen is not None:
                pending.append(options[int(chosen)])
        else:
            pending += node.inputs()
    return found


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


_FORMAT = 2


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

    def read(
        self, log: TrialLog, *, n_splits: int, return_train_score: bool
    ) -> dict[str, Any] | None:
        """Return the seed and the trials, or None where there is no file.

        Raises
        ------
        CorruptFileError
            If the file is damaged, or a trial is none of this space and its folds.
        ValueError
            If it is of another search or version.
        """
        if not self.path.exists():
            return None
        with reading(self.path, "trials_path"):
            content = json.loads(self.path.read_text(encoding="utf-8"))
            version = content["format"]
            if type(version) is not int:
                raise ValueError(f"its format is {version!r}")
        if version != _FORMAT:
            raise ValueError(
                f"trials_path: {self.path} has format {version}. This version reads "
                f"{_FORMAT}: give another path, or delete the file."
            )
        with reading(self.path, "trials_path"):
            body = {key: content[key] for key in ("identity", "seed", "trials")}
            if content["checksum"] != _checksum(json.dumps(body)):
                raise ValueError("it was changed since it was written")
            differing = self._differing(body["identity"])
            if type(body["seed"]) is not int or not 0 <= body["seed"] < 1 << 32:
                raise ValueError(f"its seed is {body['seed']!r}")
            if not isinstance(body["trials"], list):
                raise ValueError("it has no list of trials")
        if differing:
            raise ValueError(
                f"trials_path: {self.path} belongs to another search. It differs in "
                f"{', '.join(differing)}. Give another path, or delete the file."
            )
        self._check_trials(log, body["trials"], n_splits, return_train_score)
        return body

    def _check_trials(self, log, trials, n_splits, return_train_score) -> None:
        metrics: set[tuple[str, ...] | None] = set()
        for number, trial in enumerate(trials):
            with reading(self.path, f"trial {number}"):
                log.space.check_values(trial["values"])
                folds = trial["folds"]
                if not isinstance(folds, list) or len(folds) != n_splits:
                    raise ValueError(f"it must have {n_splits} folds")
                for fold in folds:
                    metrics |= _metrics(fold, return_train_score, log.error_score)
                if len(metrics) > 1:
                    raise ValueError("it has scores by other metrics than those before")

    def _differing(self, saved: dict[str, str]) -> list[str]:
        return [part for part, own in self.identity.items() if saved.get(part) != own]

    def write(self, log: TrialLog) -> None:
        """Write what was tried so far: all of it, or what was there before."""
        body = json.dumps(
            {
                "identity": self.identity,
                "seed": log.seed,
                "trials": [
                    {"values": values, "folds": folds}
                    for values, folds in zip(log.values, log.folds, strict=False)
                ],
            }
        )
        start = json.dumps({"format": _FORMAT, "checksum": _checksum(body)})
        replace_bytes(self.path, f"{start[:-1]}, {body[1:]}".encode())


def _checksum(text: str) -> str:
    return sha256(text.encode()).hexdigest()


def _metrics(
    fold: Fold, return_train_score: bool, error_score: float | str
) -> set[tuple[str, ...] | None]:
    """Return the names of a fold's metrics, None for a single one, as one element.

    Raises ValueError where it is not what a fold is.
    """
    for name in ("fit_time", "score_time"):
        if not _is_number(fold[name]) or not 0 <= fold[name] < np.inf:
            raise ValueError(f"{name!r} is {fold[name]!r}")
    if fold["error"] is not None:
        if not isinstance(fold["error"], str) or error_score == "raise":
            raise ValueError(f"a fold has the error {fold['error']!r}")
        if fold["test_scores"] is not None:
            raise ValueError("a fold has an error and a score")
        return set()
    found: set[tuple[str, ...] | None] = set()
    for part in ["test_scores", "train_scores"][: 1 + return_train_score]:
        scores = fold[part]
        named = scores if isinstance(scores, dict) else {part: scores}
        for name, score in named.items():
            if not _is_number(score):
                raise ValueError(f"{name!r} is {score!r}")
        found.add(tuple(scores) if isinstance(scores, dict) else None)
    return found


def mean_score(folds, metric, error_score) -> float:
    """Return the mean of one metric, NaN where a fold failed without a score."""
    scores = [fold["test_scores"] for fold in folds]
    if metric is not None:
        scores = [s if s is None else s[metric] for s in scores]
    return float(np.mean([error_score if s is None else s for s in scores]))
