"""State in types that torch reads back without executing code in a file."""

from io import BytesIO
from typing import Any

import joblib
import numpy as np
import torch
from sklearn.base import BaseEstimator, clone
from torch import Tensor

from sklearn_molge._files.tensors import read_tensors
from sklearn_molge._utils.identity import describe
from sklearn_molge.exceptions import CorruptFileError

_ARRAY = "ndarray"
EXTRA_STATE = "what the weights say of themselves"


def is_plain(value: object) -> bool:
    """Whether :func:`as_plain` keeps all of a value."""
    if isinstance(value, dict):
        return all(is_plain(v) for v in value.values())
    if isinstance(value, list | tuple):
        return all(is_plain(v) for v in value)
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    plain = bool | int | float | str | Tensor | np.generic
    return value is None or isinstance(value, plain)


def is_code(owner: type, name: str) -> bool:
    """Whether a class has a method or property of that name: no state has it."""
    held = getattr(owner, name, None)
    return callable(held) or hasattr(type(held), "__set__")


def as_plain(value: Any) -> Any:
    """Return a state with arrays as tensors, and numbers as Python's."""
    if isinstance(value, dict):
        return {k: as_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(as_plain(v) for v in value)
    if isinstance(value, np.ndarray):
        return {_ARRAY: torch.from_numpy(value.copy())}
    return value.item() if isinstance(value, np.generic) else value


def from_plain(value: Any) -> Any:
    """Return what `as_plain` was given, arrays as arrays."""
    if isinstance(value, dict):
        if value.keys() == {_ARRAY} and isinstance(value[_ARRAY], Tensor):
            return value[_ARRAY].cpu().numpy()
        return {k: from_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(from_plain(v) for v in value)
    return value


def to_tensor(state: dict) -> Tensor:
    """Return a state as one tensor of bytes, which safetensors takes as well."""
    file = BytesIO()
    torch.save(as_plain(state), file)
    return torch.frombuffer(bytearray(file.getvalue()), dtype=torch.uint8)


def from_tensor(tensor: Tensor) -> dict:
    """Return the state that :func:`to_tensor` was given.

    Raises
    ------
    CorruptFileError
        If it is damaged; its path is the name of this part of a file.
    """
    file = BytesIO(tensor.cpu().numpy().tobytes())
    state = from_plain(read_tensors(file, EXTRA_STATE))
    if not isinstance(state, dict):
        raise CorruptFileError(EXTRA_STATE, "", f"it is a {type(state).__name__}")
    return state


# -- fitted transformers -------------------------------------------------------------


def name_of(function: Any) -> str:
    """Return a function's or a class's name, whether or not it can be imported."""
    return f"{function.__module__}.{function.__qualname__}"


def settings_hash(value: object, *, fitted: bool = False) -> str:
    """Return a hash of parameters, the same in every process."""
    return joblib.hash(describe(value, fitted=fitted, name=name_of))


def transformer_state(transformer: BaseEstimator) -> dict:
    """Return what tells a fitted transformer, and what it learnt if that is plain.

    What was learnt lies in the attributes of the transformer and of those that its
    parameters hold, such as the steps of a Pipeline.
    """
    learnt: dict | None = {}
    for name, part in _parts(transformer).items():
        own = {k: v for k, v in vars(part).items() if k not in part.get_params(False)}
        if learnt is None or not is_plain(own):
            learnt = None
        else:
            learnt[name] = own
    return {
        "given": parameters_hash(transformer),
        "fitted": settings_hash(transformer, fitted=True),
        "learnt": learnt,
    }


def parameters_hash(transformer: BaseEstimator) -> str:
    """Return a hash of a transformer's parameters, but for the number of its jobs."""
    copy = clone(transformer)
    jobs = [key for key in copy.get_params() if key.split("__")[-1] == "n_jobs"]
    return settings_hash(copy.set_params(**dict.fromkeys(jobs)))


def restored(transformer: BaseEstimator, learnt: dict) -> BaseEstimator:
    """Return a copy of a transformer that has learnt what `learnt` says."""
    copy = clone(transformer)
    for name, part in _parts(copy).items():
        for key, value in learnt[name].items():
            if key in part.get_params(False) or is_code(type(part), key):
                raise ValueError(f"{key!r} of {type(part).__name__} is not learnt")
            setattr(part, key, value)
    return copy


def _parts(transformer: BaseEstimator) -> dict[str, BaseEstimator]:
    inner = transformer.get_params(deep=True)
    parts = {k: v for k, v in inner.items() if isinstance(v, BaseEstimator)}
    return {"": transformer} | parts
