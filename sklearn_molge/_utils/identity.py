"""What tells one setting from another, and is the same in every process."""

import os
from functools import partial
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import joblib
import numpy as np
from sklearn.base import BaseEstimator

__all__ = ["describe", "is_frozen"]

# Of a fitted network: how it came to be, not what it computes.
_HISTORY = {"history_", "callbacks_", "optimizer_"}


def is_frozen(value: Any) -> bool:
    """Whether a clone keeps what was learnt, as of FrozenEstimator and FittedTower."""
    own = getattr(type(value), "__sklearn_clone__", BaseEstimator.__sklearn_clone__)
    return own is not BaseEstimator.__sklearn_clone__


def describe(value: Any, *, fitted: bool = False) -> Any:
    """Describe a parameter by plain values: ``joblib.hash`` of them identifies it.

    Estimators, classes, networks and random states have no stable hash of their own.
    An estimator is told by its parameters; where a clone keeps what it learnt, or with
    `fitted`, by its attributes.
    """
    fitted = fitted or is_frozen(value)
    if isinstance(value, type | FunctionType):
        return _name(value, ())
    if hasattr(value, "state_dict"):  # nn.Module
        state = {k: v.cpu().numpy() for k, v in value.state_dict().items()}
        return repr(value), state
    if isinstance(value, list | tuple):
        return [describe(v, fitted=fitted) for v in value]
    if isinstance(value, dict):
        return {k: describe(v, fitted=fitted) for k, v in value.items()}
    if isinstance(value, set | frozenset):  # whose order differs between processes
        return sorted(joblib.hash(describe(v, fitted=fitted)) for v in value)
    if isinstance(value, np.ndarray):
        return value
    if isinstance(value, MethodType):  # its object may hold it: a circle
        return describe(value.__func__)
    return _describe_object(value, fitted)


def _describe_object(value: Any, fitted: bool) -> Any:
    if isinstance(value, os.PathLike):
        return repr(os.fspath(value))  # as text, as it is for text
    if hasattr(value, "get_state"):  # numpy's RandomState
        return describe(value.get_state())
    if isinstance(value, partial):
        return describe([value.func, value.args, value.keywords], fitted=fitted)
    if hasattr(value, "__qualname__"):  # functions that are not of Python
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "get_params"):
        params = vars(value) if fitted else value.get_params(deep=False)
        kept = {k: v for k, v in params.items() if k not in _HISTORY}
        return describe([type(value), kept], fitted=fitted)
    if hasattr(value, "__array__") and not isinstance(value, np.generic):
        labels = [getattr(value, name, None) for name in ("index", "columns")]
        return describe([type(value), np.asarray(value), *labels])  # of pandas
    if hasattr(value, "tocsr"):  # a sparse array
        return describe([type(value), vars(value)])
    text = repr(value)
    if " at 0x" in text:  # an address, another in each process
        if not hasattr(value, "__dict__"):  # of an extension, such as a Generator
            return joblib.hash(value)
        return describe([type(value), vars(value)], fitted=fitted)
    return text


def _name(value: Any, seen: tuple) -> Any:
    """Return what a class or a function is imported by; else its code, too."""
    name = f"{value.__module__}.{value.__qualname__}"
    if value in seen or not ("<" in name or value.__module__ == "__main__"):
        return name
    seen = (*seen, value)
    if not isinstance(value, type):
        return [name, *_code(value, seen)]
    bases = [_name(base, seen) for base in value.__bases__]
    methods = {k: getattr(v, "__func__", v) for k, v in vars(value).items()}
    own = {k: _used(v, seen) for k, v in methods.items() if hasattr(v, "__code__")}
    return [name, bases, own]


def _code(function: Any, seen: tuple) -> list[Any]:
    """Return what tells functions of one name apart: their code, and what it uses."""
    code = function.__code__
    inside = [_used(cell.cell_contents, seen) for cell in function.__closure__ or ()]
    reach = function.__globals__
    names = sorted(_global_names(code) & set(reach))
    around = {name: _used(reach[name], seen) for name in names}
    defaults = describe([function.__defaults__, function.__kwdefaults__])
    return [_instructions(code), inside, around, defaults]


def _used(value: Any, seen: tuple) -> Any:
    if isinstance(value, type | FunctionType):
        return _name(value, seen)
    return value.__name__ if isinstance(value, ModuleType) else describe(value)


def _instructions(code: CodeType) -> list[Any]:
    consts = [
        _instructions(c) if isinstance(c, CodeType) else describe(c)
        for c in code.co_consts
    ]
    return [code.co_code.hex(), list(code.co_names), consts]


def _global_names(code: CodeType) -> set[str]:
    inner = [_global_names(c) for c in code.co_consts if isinstance(c, CodeType)]
    return set(code.co_names).union(*inner)
