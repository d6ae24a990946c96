"""read_checkpoint: files of chemprop and CheMeleon, opened without running code."""

import argparse
from collections.abc import Callable
from os import PathLike, fspath
from typing import Any

import torch
from chemprop.utils.v1_to_v2 import convert_model_dict_v1_to_v2

__all__ = ["read_checkpoint"]


class _StandIn:
    """An object of a file that is neither tensor nor container.

    A pickle names classes and functions that reading it would call. Here each name
    becomes a subclass of this class, so that arguments and state are kept and nothing
    is called.
    """

    args: tuple

    def __new__(cls, *args):
        self = super().__new__(cls)
        self.args = args
        return self

    def __init__(self, *args):
        pass

    def __setstate__(self, state):
        self.__dict__.update(state if isinstance(state, dict) else {"state": state})


def _stand_in(path):
    module, _, name = path.rpartition(".")
    if name == "AttributeDict":  # Lightning's dict
        return dict
    if path == "argparse.Namespace":  # the settings in a v1 file; it only holds them
        return argparse.Namespace
    return type(name, (_StandIn,), {"__module__": module})


def read_checkpoint(path: str | PathLike) -> dict[str, Any]:
    """Read a file of chemprop (v1 or v2) or CheMeleon.

    Parameters
    ----------
    path : str or PathLike
        The file: a ``.pt`` or ``.ckpt`` of chemprop v2, a ``.pt`` of v1, or a
        dictionary of ``hyper_parameters`` and ``state_dict`` of the message passing
        alone, as CheMeleon is given out.

    Returns
    -------
    contents : dict
        "hyper_parameters" and "state_dict" as in v2, with tensors, plain containers
        and numbers. Classes, and objects of any class, are stand-ins of that name.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or is not one of these forms.
    """
    path = fspath(path)
    with open(path, "rb"):  # says what is wrong with the path itself
        pass
    try:
        contents = _load(path)
    except Exception as error:  # zip, pickle and torch raise errors of many kinds
        # torch's last paragraph but one is the reason, the others are general advice.
        reason = str(error).split("\n\n")[-2:][0].strip()
        raise ValueError(
            f"{path!r} cannot be read: it is damaged, was saved before PyTorch 1.6 "
            f"(load and save it again), or is no file of PyTorch. {reason}"
        ) from error
    keys = list(contents) if isinstance(contents, dict) else []
    if "state_dict" not in keys or not {"hyper_parameters", "args"} & set(keys):
        raise ValueError(
            f"{path!r} is not a chemprop or CheMeleon file: it must hold a dictionary "
            "with 'state_dict' and 'hyper_parameters' (or 'args', chemprop v1). Got a "
            f"{type(contents).__name__} with keys {keys[:8]}."
        )
    return _converted(contents, path) if "args" in keys else contents


def _load(path):
    names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    stand_ins: list[Callable | tuple[Callable, str]]
    stand_ins = [(_stand_in(name), name) for name in names]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True)


def _converted(contents, path):
    # The scaler of the predictions is not needed and, being NumPy's, not read.
    contents = {**contents, "data_scaler": {"means": [0.0], "stds": [1.0]}}
    try:
        return convert_model_dict_v1_to_v2(contents)
    except Exception as error:  # the converter fails in many ways on odd files
        raise ValueError(
            f"{path!r} is a file of chemprop v1 that chemprop's converter fails on: "
            f"{error!r}"
        ) from error
