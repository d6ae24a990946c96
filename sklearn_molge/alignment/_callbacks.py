"""Callbacks of every training: validation scores, a line an epoch, a checkpoint."""

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from os import PathLike
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from skorch.callbacks import Callback, PrintLog
from torch import nn

from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replacing
from sklearn_molge._files.tensors import check_weights, read_tensors
from sklearn_molge._utils.identity import NotImportableError, describe
from sklearn_molge._utils.rows import distinct_rows, group_means
from sklearn_molge.alignment._dataset import rows_of
from sklearn_molge.alignment._plain import as_plain, from_plain, is_code, is_plain
from sklearn_molge.base import one_row_per_drug
from sklearn_molge.exceptions import CorruptFileError
from sklearn_molge.metrics import mean_reciprocal_rank, rank_embeddings

_SCORES = ("valid_mrr", "valid_mrr_drug")
# What changes nothing about the trained weights.
_NOT_PART_OF_A_RUN = {"checkpoint_folder", "verbose"}
_FORMAT = 1
_PARTS = ("module_", "criterion_", "optimizer_")
_COLOR = re.compile("\x1b\\[[0-9;]*m")


class EpochLog(PrintLog):
    """skorch's line an epoch, with colours on a terminal only.

    The environment variable NO_COLOR turns them off there, too.
    """

    def format_row(self, row, key, color):
        """Return the text of a cell."""
        text = super().format_row(row, key, color)
        if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
            return text
        return _COLOR.sub("", text) if isinstance(text, str) else text


class RetrievalScoring(Callback):
    """Record the mean reciprocal rank on the validation part after each epoch.

    The history gets ``valid_mrr`` (each profile is a query) and ``valid_mrr_drug``
    (each drug is, its profiles averaged in the joint space), each with ``..._best``,
    as skorch's EarlyStopping and Checkpoint expect it. Candidates are the drugs of the
    validation part. Without a validation part nothing is recorded.
    """

    def initialize(self):
        """Forget the best scores."""
        self.best_ = dict.fromkeys(_SCORES, -np.inf)
        return self

    def on_train_begin(self, net, **kwargs):
        """Remember the best scores of the epochs that a training goes on from."""
        for key in _SCORES:
            scores = [epoch[key] for epoch in net.history if key in epoch]
            self.best_[key] = max(scores, default=-np.inf)

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Rank the validation profiles and record the scores."""
        if dataset_valid is None:
            return
        scores = self.score(net, dataset_valid)
        for key, score in zip(_SCORES, scores, strict=True):
            net.history.record(key, score)
            net.history.record(f"{key}_best", score > self.best_[key])
            self.best_[key] = max(score, self.best_[key])

    def score(self, net, dataset) -> tuple[float, float]:
        """Return the mean reciprocal rank of some rows, by profile and by drug."""
        whole, rows = rows_of(dataset)
        drugs = whole.drugs[rows]
        texts = distinct_rows(whole.X[rows])[1]
        gallery_drugs, first = one_row_per_drug(drugs, texts, None)
        match = np.searchsorted(gallery_drugs, drugs)
        gallery = net._project_molecules(
            whole.molecules, whole.molecule_of[rows[first]]
        )
        queries = net._project_profiles(whole.profiles[rows])
        means, own = group_means(queries, match), np.arange(len(first))
        by_profile = rank_embeddings(queries, gallery, match, metric=net.metric)
        by_drug = rank_embeddings(means, gallery, own, metric=net.metric)
        return mean_reciprocal_rank(by_profile), mean_reciprocal_rank(by_drug)


class TrainingCheckpoint(Callback):
    """Keep the state of one training in one file of a folder, to go on from it.

    The file's name is a hash of parameters and data, so that folds and searches can
    share a folder and each run finds its own. A kill leaves the old file or the new
    one. It is removed when the training ends, and read without executing code in it.
    It stands after all other callbacks, whose state it keeps.

    Parameters
    ----------
    folder : path-like
        Made if it is not there.
    """

    def __init__(self, folder: str | PathLike[str]):
        self.folder = folder

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Go back to the state in the file of this training, if there is one."""
        folder = Path(self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.path_ = folder / f"{self._identity(net, X)}.pt"
        self.end_ = len(net.history) + net.max_epochs
        if self.path_.exists():
            self._restore(net)
        self.written_ = len(net.history)

    def on_epoch_end(self, net, **kwargs):
        """Write the state."""
        state = {
            "format": _FORMAT,
            "seed": net.seed_,
            "history": net.history.to_list(),
            "callbacks": {n: _state_of(vars(cb)) for n, cb in self._others(net)},
            "trainable": [p.requires_grad for _, p in net.get_all_learnable_params()],
            **{part: getattr(net, part).state_dict() for part in _PARTS},
        }
        with replacing(self.path_) as draft:
            torch.save(as_plain(state), draft)
        self.written_ = len(net.history)

    def on_train_end(self, net, **kwargs):
        """Remove the file, unless the user interrupted."""
        if self.written_ >= self.end_ or net._has_stopped_early() or net._diverged:
            self.path_.unlink(missing_ok=True)

    def _others(self, net):
        return [(name, cb) for name, cb in net.callbacks_ if cb is not self]

    def _identity(self, net, dataset) -> str:
        """Hash of everything that decides the trained weights."""
        given = sorted(net.get_params(deep=False).items())
        try:
            params = {k: describe(v) for k, v in given if k not in _NOT_PART_OF_A_RUN}
        except NotImportableError as error:
            raise TypeError(f"checkpoint_folder: {error}") from error
        # Training that goes on does so from weights that the rest does not decide.
        start = describe(net.module_) if net._goes_on else None
        weights = () if dataset.weights is None else (dataset.weights,)
        data = (dataset.X, dataset.y, dataset.drugs, dataset.cell_lines, *weights)
        return joblib.hash((params, data, dataset.train, dataset.valid, start))

    def _restore(self, net) -> None:
        try:
            with undone_on_error(net, net._parts), reading(self.path_):
                state = from_plain(read_tensors(self.path_))
                self._check(net, state)
                for part in _PARTS:
                    load_part(net, part, state[part], self.path_)
                for name, callback in self._others(net):
                    _teach(callback, state["callbacks"].get(name, {}))
        except CorruptFileError as error:
            raise CorruptFileError(
                self.path_,
                error.part,
                f"{error.why.rstrip('.')}. checkpoint_folder: remove the file to start "
                "from the beginning",
            ) from error
        named = net.get_all_learnable_params()
        for (_, p), trainable in zip(named, state["trainable"], strict=True):
            p.requires_grad_(trainable)  # a Freezer acts in one epoch only
        net.seed_ = state["seed"]
        net.history = type(net.history)(state["history"])

    def _check(self, net, state) -> None:
        if state["format"] != _FORMAT:
            raise ValueError(f"format {state['format']!r}, not {_FORMAT}")
        if type(state["seed"]) is not int or not 0 <= state["seed"] < 1 << 63:
            raise ValueError(f"seed {state['seed']!r}")
        check_history(state["history"])
        if not len(net.history) <= len(state["history"]) <= self.end_:
            raise ValueError(
                f"{len(state['history'])} epochs, of a training of {self.end_}"
            )
        n = sum(1 for _ in net.get_all_learnable_params())
        trainable = state["trainable"]
        if len(trainable) != n or not all(isinstance(t, bool) for t in trainable):
            raise ValueError(f"'trainable' is not for {n} weights")


def check_history(history) -> None:
    """Refuse what is no list of epochs with numbers and texts."""
    plain = bool | int | float | str | None
    for number, epoch in enumerate(history if isinstance(history, list) else [None]):
        values = epoch if isinstance(epoch, dict) else {None: None}
        batches = values.get("batches", [])
        rows = [values, *(batches if isinstance(batches, list) else [None])]
        for row in rows:
            for key, value in (row if isinstance(row, dict) else {None: None}).items():
                if not isinstance(key, str) or not (
                    isinstance(value, plain) or (row is values and key == "batches")
                ):
                    raise ValueError(f"epoch {number + 1} of the history is none")


@contextmanager
def undone_on_error(net, names: Sequence[str]) -> Iterator[None]:
    """Leave a net, and its parts of these names, as it was where the block raises."""
    attributes = dict(vars(net))
    names = [f"{name}_" for name in names]
    parts = [getattr(net, name) for name in names if hasattr(net, name)]
    states = [deepcopy(part.state_dict()) for part in parts]
    try:
        yield
    except Exception:
        vars(net).clear()
        vars(net).update(attributes)
        for part, state in zip(parts, states, strict=True):
            part.load_state_dict(state)
        raise


def load_part(net, name: str, state: Any, path) -> None:
    """Load the state of a module or an optimizer that a file has.

    That an optimizer can go on from it is tried by a step without gradients.

    Raises
    ------
    CorruptFileError
        If it does not fit.
    ValueError
        If the weights are of another network: it says which.
    """
    part, label = getattr(net, name), f"the state of {name.removesuffix('_')}"
    is_module = isinstance(part, nn.Module)
    if is_module:
        differing = check_weights(state, part.state_dict(), shapes=False)
        if differing:
            raise CorruptFileError(path, label, differing)
    try:
        if not is_module:
            part.load_state_dict(deepcopy(state))  # whose tensors it would change
            _try_a_step(net)
        part.load_state_dict(state)
    except CorruptFileError as error:  # of the extra state, which has no path
        raise CorruptFileError(path, f"{label}: {error.path}", error.why) from error
    except Exception as error:
        if is_module and isinstance(error, ValueError):
            raise
        why = f"{type(error).__name__}: {error}"
        raise CorruptFileError(path, label, why) from error


def _try_a_step(net) -> None:
    weights = [weight for _, weight in net.get_all_learnable_params()]
    before = [weight.detach().clone() for weight in weights]
    for weight in weights:
        weight.grad = torch.zeros_like(weight) if weight.requires_grad else None
    net.optimizer_.step(lambda: torch.zeros(()))  # LBFGS asks for the loss
    net.optimizer_.zero_grad()
    is_finite = all(bool(torch.isfinite(weight).all()) for weight in weights)
    with torch.no_grad():
        for weight, value in zip(weights, before, strict=True):
            weight.copy_(value)
    if not is_finite:
        raise ValueError("its next step gives weights that are not finite")


def _teach(callback, learnt: dict) -> None:
    """Set what a callback learnt, and nothing else of it."""
    for key, value in learnt.items():
        held: Any = getattr(callback, key, None)
        is_learnt = key.endswith("_") and not key.startswith("_")
        if not is_learnt or is_code(type(callback), key):
            raise ValueError(f"{key!r} of {type(callback).__name__} is not learnt")
        if _has_state(held):
            _check_kinds(value["state_dict"], held.state_dict(), type(held))
            held.load_state_dict(value["state_dict"])
        else:
            _check_kinds(value, held, type(None))
            setattr(callback, key, value)


def _check_kinds(value, held, owner: type) -> None:
    """Refuse another kind of value than the one that is there, which may be None."""
    if isinstance(value, dict) and isinstance(held, dict):
        for key in value:
            if is_code(owner, str(key)):  # schedules take each key as an attribute
                raise ValueError(f"{key!r} of {owner.__name__} is not learnt")
            _check_kinds(value[key], held.get(key), type(None))
    elif None not in (value, held) and _kind(value) != _kind(held):
        raise ValueError(f"{value!r} is not like {held!r}")


def _kind(value) -> str:
    kinds = {"number": bool | int | float, "sequence": list | tuple}
    return next((k for k, t in kinds.items() if isinstance(value, t)), str(type(value)))


def _state_of(attributes: dict) -> dict:
    """Return what a callback learnt: numbers, text, tensors, or a state_dict."""
    learnt = {k: v for k, v in attributes.items() if k.endswith("_")}
    return {
        key: {"state_dict": v.state_dict()} if _has_state(v) else v
        for key, v in learnt.items()
        if _has_state(v) or is_plain(v)
    }


def _has_state(value) -> bool:
    return hasattr(value, "state_dict") and not isinstance(value, type)
