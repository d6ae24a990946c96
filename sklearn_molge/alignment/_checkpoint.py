"""Checkpoints of a training, to go on after an interruption."""

import os
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import joblib
import numpy as np
import torch
from torch import Tensor

from sklearn_molge._utils.identity import NotImportableError, describe

# What changes nothing about the trained weights.
_NOT_PART_OF_A_RUN = {"checkpoint_folder", "verbose"}
_FORMAT = 1
_ARRAY = "ndarray"
_PARTS = ("module_", "criterion_", "optimizer_")


class Checkpoint:
    """State of one training in one file of a folder.

    The file's name is a hash of parameters and data, so that folds and searches can
    share a folder and each run finds its own. It is written to a second file first and
    then renamed: a kill leaves the old one or the new one. It is removed when the
    training ends. It is read without executing code in it.

    Parameters
    ----------
    folder : path-like
        Made if it is not there.
    net : PairNet
        Whose parameters count.
    dataset : PairDataset
        The training set.
    """

    def __init__(self, folder: Any, net: Any, dataset: Any):
        try:
            identity = _identity(net, dataset)
        except NotImportableError as error:
            raise TypeError(f"checkpoint_folder: {error}") from error
        self.path = Path(folder) / f"{identity}.pt"
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, net: Any) -> None:
        """Write the state after an epoch."""
        state = {
            "format": _FORMAT,
            "seed": net.seed_,
            "history": net.history.to_list(),
            "callbacks": {n: _state_of(vars(cb)) for n, cb in net.callbacks_},
            "trainable": [p.requires_grad for _, p in net.get_all_learnable_params()],
            **{part: getattr(net, part).state_dict() for part in _PARTS},
        }
        partial = self.path.with_suffix(f".{os.getpid()}.part")
        torch.save(_plain(state), partial)
        os.replace(partial, self.path)

    def restore(self, net: Any) -> None:
        """Go back to the state in the file, if there is one."""
        if not self.path.exists():
            return
        try:
            state = _load(self.path)
            if state["format"] != _FORMAT:
                raise ValueError(f"format {state['format']}, not {_FORMAT}")
            for part in _PARTS:
                getattr(net, part).load_state_dict(state[part])
            named = net.get_all_learnable_params()
            for (_, p), trainable in zip(named, state["trainable"], strict=True):
                p.requires_grad_(trainable)  # a Freezer acts in one epoch only
        except Exception as error:
            raise ValueError(
                f"checkpoint_folder: {self.path} cannot be read ({error}); remove it "
                "to start from the beginning."
            ) from error
        net.seed_ = state["seed"]
        net.history_ = type(net.history)(state["history"])
        for name, callback in net.callbacks_:
            for key, value in state["callbacks"].get(name, {}).items():
                _restore(callback, key, value)

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)


def _load(path: Path) -> Any:
    try:
        return _with_arrays(torch.load(path, map_location="cpu", weights_only=True))
    except UnpicklingError:  # torch's message advises to run the code in the file
        raise ValueError("it is not a checkpoint") from None


def _identity(net: Any, dataset: Any) -> str:
    """Hash of everything that decides the trained weights."""
    params = {
        key: describe(value)
        for key, value in sorted(net.get_params(deep=False).items())
        if key not in _NOT_PART_OF_A_RUN
    }
    parts = net._fitted_to
    data = dataset.X, dataset.profiles.cpu().numpy(), dataset.groups
    rows = parts.train, parts.valid
    # Training that goes on does so from other weights, which the seed tells apart.
    start = (len(net.history), net.seed_) if net.history else None
    return joblib.hash((params, data, rows, start))


def _state_of(attributes: dict) -> dict:
    """Return what a callback learnt: numbers, text, tensors, or a state_dict."""
    learnt = {k: v for k, v in attributes.items() if k.endswith("_")}
    return {
        key: {"state_dict": v.state_dict()} if _has_state(v) else v
        for key, v in learnt.items()
        if _has_state(v) or _is_plain(v)
    }


def _has_state(value: Any) -> bool:
    return hasattr(value, "state_dict") and not isinstance(value, type)


def _restore(callback: Any, key: str, value: Any) -> None:
    current: Any = getattr(callback, key, None)
    if hasattr(current, "load_state_dict"):
        current.load_state_dict(value["state_dict"])
    else:
        setattr(callback, key, value)


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(v) for v in value.values())
    if isinstance(value, list | tuple):
        return all(_is_plain(v) for v in value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    plain = bool | int | float | str | Tensor | np.generic
    return value is None or isinstance(value, plain)


def _plain(value: Any) -> Any:
    """Return the state in types that torch reads back without executing code."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(v) for v in value)
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(value.copy())}
    return value.item() if isinstance(value, np.generic) else value


def _with_arrays(value: Any) -> Any:
    """Return what `_plain` was given, arrays as arrays."""
    if isinstance(value, dict):
        if value.keys() == {_ARRAY}:
            return value[_ARRAY].cpu().numpy()
        return {k: _with_arrays(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_with_arrays(v) for v in value)
    return value
