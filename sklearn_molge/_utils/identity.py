"""What tells one setting from another, and is the same in every process."""

import os
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import partial
from types import FunctionType, MethodType

import joblib
import numpy as np
from sklearn.base import BaseEstimator

__all__ = ["NotImportableError", "describe", "imported_name", "is_frozen"]

# Of a fitted network: how it came to be, not what it computes.
_HISTORY = {"history_", "callbacks_", "optimizer_"}


class NotImportableError(TypeError):
    """A function or a class has no name by which it can be imported.

    Parameters
    ----------
    name : str
        Its module and qualified name.
    """

    def __init__(self, name: str):
        self.name = name
        super().__init__(name)

    def __str__(self) -> str:
        return (
            f"{self.name} cannot be imported by its name, so its results cannot be "
            "told apart and are not cached; define it in a module."
        )


def is_frozen(value: object) -> bool:
    """Whether a clone keeps what was learnt, as of FrozenEstimator and FittedTower."""
    own = getattr(type(value), "__sklearn_clone__", BaseEstimator.__sklearn_clone__)
    return own is not BaseEstimator.__sklearn_clone__


def imported_name(value: type | FunctionType) -> str:
    """Return what a class or a function is imported by.

    Raises
    ------
    NotImportableError
        If it is a lambda, was made inside a function, or belongs to a script.
    """
    name = f"{value.__module__}.{value.__qualname__}"
    if "<" in name or value.__module__ == "__main__":
        raise NotImportableError(name)
    return name


def describe(
    value: object,
    *,
    fitted: bool = False,
    name: Callable[[type | FunctionType], object] = imported_name,
) -> object:
    """Describe a parameter by plain values: ``joblib.hash`` of them identifies it.

    Estimators, classes, networks and random states have no stable hash of their own.
    An estimator is told by its parameters; where a clone keeps what it learnt, or with
    `fitted`, by its attributes. Functions and classes are told by `name`; inside one
    process, ``name=id`` takes also those that cannot be imported.

    Raises
    ------
    NotImportableError
        If a function or a class inside has no name by which it can be imported.
    """
    fitted = fitted or is_frozen(value)
    again = partial(describe, fitted=fitted, name=name)
    if isinstance(value, type | FunctionType):
        return name(value)
    if hasattr(value, "state_dict"):  # nn.Module
        state = {k: v.cpu().numpy() for k, v in value.state_dict().items()}
        return repr(value), state
    if isinstance(value, list | tuple):
        return [again(v) for v in value]
    if isinstance(value, dict):
        return {k: again(v) for k, v in value.items()}
    if isinstance(value, set | frozenset):  # whose order differs between processes
        return sorted(joblib.hash(again(v)) for v in value)
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, MethodType):  # its object may hold it: a circle
        return again(value.__func__)
    return _describe_object(value, fitted, again)


def _describe_object(value, fitted, again):
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))  # as text, as it is for text
    if hasattr(value, "get_state"):  # numpy's RandomState
        return again(value.get_state())
    if isinstance(value, partial):
        return again([value.func, value.args, value.keywords])
    if hasattr(value, "__qualname__"):  # functions that are not of Python
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "get_params"):
        params = vars(value) if fitted else value.get_params(deep=False)
        kept = {k: v for k, v in params.items() if k not in _HISTORY}
        return again([type(value), kept])
    if hasattr(value, "__array__") and not isinstance(value, np.generic):
        labels = [getattr(value, name, None) for name in ("index", "columns")]
        return again([type(value), np.asarray(value), *labels])  # of pandas
    if hasattr(value, "tocsr") or is_dataclass(value):  # a sparse array, a Score
        return again([type(value), vars(value)])
    text = repr(value)
    if " at 0x" in text:  # an address, another in each process
        if not hasattr(value, "__dict__"):  # of an extension, such as a Generator
            return joblib.hash(value)
        return again([type(value), vars(value)])
    return text
