"""What tells one setting from another, and is the same in every process."""

from functools import partial
from typing import Any

import numpy as np

__all__ = ["describe"]


def describe(value: Any) -> Any:
    """Describe a parameter by plain values: ``joblib.hash`` of them identifies it.

    Estimators, classes, networks and random states have no stable hash of their own.
    """
    is_class = isinstance(value, type)
    if hasattr(value, "state_dict") and not is_class:  # nn.Module
        state = {k: v.cpu().numpy() for k, v in value.state_dict().items()}
        return repr(value), state
    if isinstance(value, list | tuple):
        return [describe(v) for v in value]
    if isinstance(value, dict):
        return {k: describe(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return value
    if hasattr(value, "get_state") and not is_class:  # numpy's RandomState
        return describe(value.get_state())
    if isinstance(value, partial):
        return describe([value.func, value.args, value.keywords])
    if hasattr(value, "__qualname__"):  # classes, functions and methods
        name = f"{value.__module__}.{value.__qualname__}"
        return [name, *_code(value)] if "<" in name else name
    if hasattr(value, "get_params"):
        return describe([type(value), value.get_params(deep=False)])
    text = repr(value)
    if " object at 0x" in text:  # an address, another in each process
        return describe([type(value), getattr(value, "__dict__", {})])
    return text


def _code(function: Any) -> list[Any]:
    """Return what tells lambdas and inner functions of one name apart."""
    code = getattr(function, "__code__", None)
    if code is None:
        return []
    inside = [cell.cell_contents for cell in function.__closure__ or ()]
    return describe([code.co_code.hex(), code.co_names, repr(code.co_consts), inside])
