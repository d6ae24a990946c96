"""What a model file may hold: classes by their names, and nothing that is called.

scikit-learn's estimators are trusted as skops trusts them. Of all else only what is
named here: this library's public estimators, the classes of their state, torch's
layers. A class that has a ``__setstate__`` of its own is never one of them.
"""

import json
from collections.abc import Collection, Mapping
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.gaussian_process.kernels import Kernel

from sklearn_molge._utils.messages import printable

__all__ = [
    "MOST_DEPTH",
    "STAND_IN",
    "check_schema",
    "check_state",
    "layer_class",
    "name_of",
    "named_class",
    "state_class",
]

STAND_IN = "sklearn_molge.persistence._encoding.StandIn"
# Levels of a schema: skops reads it by recursion. An ensemble has about 40.
MOST_DEPTH = 120
# Nodes, of which each takes skops a kilobyte; what is there twice counts twice, as it
# is looked at twice. An ensemble has a few thousand.
_MOST_NODES = 300_000

_ROOMS = ("molecules", "expression", "alignment", "retrieval", "metrics",
          "model_selection", "inspection", "evaluation")  # fmt: skip
# What estimators consist of, and no user makes.
_STATES = {
    f"sklearn_molge.{name}"
    for name in (
        "_utils.trained_rows.TrainedRows",
        "_utils.trained_rows._RowKeys",
        "alignment._process.Committee",
        "alignment._process.Effects",
        "alignment._process.ExactProcess",
        "molecules._annotation_kernel._LabelRegression",
        "molecules._annotations.AnnotationMatrix",
        "retrieval._conformal._Curve",
        "retrieval._evidence._Fitted",
    )
} | {
    f"sklearn.{name}"
    for name in (
        "metrics._scorer._PassthroughScorer",
        *(
            f"gaussian_process.kernels.{kernel}"
            for kernel in (
                "CompoundKernel", "ConstantKernel", "DotProduct", "Exponentiation",
                "ExpSineSquared", "Matern", "PairwiseKernel", "Product", "RBF",
                "RationalQuadratic", "Sum", "WhiteKernel",
            )
        ),
        *(
            f"model_selection._split.{splitter}"
            for splitter in (
                "GroupKFold", "GroupShuffleSplit", "KFold", "LeaveOneGroupOut",
                "LeaveOneOut", "LeavePGroupsOut", "LeavePOut", "RepeatedKFold",
                "RepeatedStratifiedKFold", "ShuffleSplit", "StratifiedGroupKFold",
                "StratifiedKFold", "StratifiedShuffleSplit", "TimeSeriesSplit",
            )
        ),
    )
}  # fmt: skip
# Networks of this library, and their parts.
_LAYERS = {
    f"sklearn_molge.{name}"
    for name in (
        "alignment._two_tower.ExpressionTower",
        "alignment._two_tower.FeedForward",
        "alignment._two_tower.MoleculeTower",
        "alignment._two_tower.Scaling",
        "alignment._two_tower.TwoTower",
        "alignment._two_tower.WithLinearPath",
        "molecules._dmpnn.DMPNN",
    )
}
# Where classes are public that a parameter may name: criterion, optimizer, dtype.
_NAMED = {
    "builtins": ("bool", "float", "int", "str"),
    "skorch.dataset": ("Dataset",),
    "torch.utils.data.dataloader": ("DataLoader",),
    "sklearn_molge.alignment": ("TwoTower",),
    "sklearn_molge.alignment.losses": None,
    "sklearn_molge.alignment.samplers": None,
    "torch.optim": None,
    "torch.optim.lr_scheduler": None,
    "numpy": None,
}
# Parameters that no stranger should set: a place in which files are written, or
# unpickled; and leave to unpickle.
_OF_ONE_MACHINE = ("cache_folder", "checkpoint_folder", "memory", "torch_load_kwargs",
                   "trials_path")  # fmt: skip


def name_of(value: Any) -> str:
    """Return where a class or a function is defined."""
    module = getattr(value, "__module__", None) or "?"
    return f"{module}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _imported(name: str) -> Any:
    """Return what a name of this library, of scikit-learn or torch stands for."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute, None)


def _public(module: str, attribute: str) -> Any:
    """Return a public name of a module; None if there is none."""
    names = getattr(import_module(module), "__all__", None)
    if attribute.startswith("_") or (names is not None and attribute not in names):
        return None
    return getattr(import_module(module), attribute, None)


@cache
def state_class(name: str) -> type | None:
    """Return the class of this library or scikit-learn that may be built; or None.

    Its instances are made without calling anything, and given their attributes.
    """
    if name in _STATES:
        return _imported(name)
    parts = name.split(".")
    if parts[0] == "sklearn_molge" and len(parts) > 2 and parts[1] in _ROOMS:
        found = _public(".".join(parts[:2]), parts[-1])
        if (
            isinstance(found, type)
            and issubclass(found, BaseEstimator | Kernel)
            and name_of(found) == name
            and not _sets_state(found)
        ):
            return found
    return None


def restored_class(name: str) -> type | None:
    """Return the public estimator that makes itself of a state of its own; or None."""
    parts = name.split(".")
    if parts[0] == "sklearn_molge" and len(parts) > 2 and parts[1] in _ROOMS:
        found = _public(".".join(parts[:2]), parts[-1])
        if hasattr(found, "__molge_setstate__") and name_of(found) == name:
            return found
    return None


def _sets_state(cls: type) -> bool:
    """Whether unpickling calls more than scikit-learn's own `__setstate__`."""
    own = getattr(cls, "__setstate__", BaseEstimator.__setstate__)
    made = [getattr(cls, name) for name in ("__reduce__", "__reduce_ex__", "__new__")]
    plain = [object.__reduce__, object.__reduce_ex__, object.__new__]
    return own is not BaseEstimator.__setstate__ or made != plain


@cache
def layer_class(name: str) -> type | None:
    """Return the network or layer that may be built; None if there is none."""
    from torch import nn

    module, _, attribute = name.rpartition(".")
    if name in _LAYERS:
        return _imported(name)
    if module.startswith("sklearn_molge.alignment.losses."):
        found = _public("sklearn_molge.alignment.losses", attribute)
    elif module.startswith("torch.nn.modules."):
        found = getattr(nn, attribute, None)
    else:
        return None
    is_layer = isinstance(found, type) and issubclass(found, nn.Module)
    return found if is_layer and name_of(found) == name else None


@cache
def named_class(name: str) -> type | None:
    """Return the class that a parameter may name; None if it may not."""
    module, _, attribute = name.rpartition(".")
    for public, names in _NAMED.items():
        is_there = module == public or module.startswith(f"{public}.")
        if is_there and (names is None or attribute in names):
            found = _public(public, attribute)
            if isinstance(found, type) and name_of(found) == name:
                return found if public != "numpy" or _is_scalar(found) else None
    return None


def _is_scalar(cls: type) -> bool:
    return issubclass(cls, np.generic)


def check_state(cls: type, state: Mapping[str, Any]) -> str:
    """Say what is wrong with the attributes of an object; empty if nothing is.

    Both who writes and who reads asks.
    """
    for name, value in state.items():
        if not isinstance(name, str):
            return f"{name!r} is no name of an attribute"
        if callable(getattr(cls, name, None)):
            return f"{name} is a method of {cls.__name__}"
        if name in _OF_ONE_MACHINE and value is not None:
            return (
                f"{name}={value!r} is for one machine alone: set_params({name}=None) "
                "first"
            )
    return ""


# -- schemas of skops ----------------------------------------------------------------


def check_schema(schema: Any, members: Collection[str]) -> set[str]:
    """Refuse a schema that says more than `save_model` writes; nothing is built.

    Parameters
    ----------
    schema : object
        What skops wrote, decoded.
    members : collection of str
        Names of the arrays that are there.

    Returns
    -------
    names : set of str
        The classes of this library that it names, which skops is to trust.

    Raises
    ------
    ValueError
        If it names a class or a function that may not be in a model, or is no schema.
    """
    protocol = schema.get("protocol") if isinstance(schema, dict) else None
    if type(protocol) is not int or protocol < 1:
        raise ValueError(f"the protocol of skops is {protocol!r}")
    check = _SchemaCheck(frozenset(members))
    check.node(schema, 0)
    return check.trusted


class _SchemaCheck:
    """Walks a schema in the order in which skops does."""

    def __init__(self, members: frozenset[str]):
        self.members = members
        self.trusted: set[str] = set()
        self.sizes: dict[int, int] = {}  # of what is complete
        self.used: set[str] = set()  # of the members

    def node(self, node: Any, depth: int) -> int:
        """Return how many nodes there are."""
        if depth > MOST_DEPTH:
            raise ValueError(f"it is nested more than {MOST_DEPTH} levels deep")
        if not isinstance(node, dict):
            raise ValueError(f"a {type(node).__name__} stands where an object should")
        loader, module, name = (
            node.get(key) for key in ("__loader__", "__module__", "__class__")
        )
        if not all(isinstance(text, str) for text in (loader, module, name)):
            raise ValueError("an object has no loader, module or class")
        full = printable(f"{module}.{name}"[:200])
        check = _CHECKS.get(loader)
        if check is None:
            raise ValueError(
                f"it names {full}, to be made by {loader!r:.40}: that is no part of "
                "a model"
            )
        number = node.get("__id__")
        if number is not None and (type(number) is not int or number < 1):
            raise ValueError(f"an object has the number {number!r}")
        if loader != "CachedNode" and number in self.sizes:
            raise ValueError(f"two objects have the number {number}")
        size = 1 + check(self, full, node, depth + 1)
        if size > _MOST_NODES:
            raise ValueError(f"it has more than {_MOST_NODES:,} objects")
        if number is not None:
            self.sizes[number] = size
        return size

    def _cached(self, full, node, depth) -> int:
        if node.get("__id__") not in self.sizes:
            raise ValueError(f"object {node.get('__id__')!r} is not there before")
        return self.sizes[node["__id__"]] - 1

    def _dict(self, full, node, depth) -> int:
        _expect("builtins.dict", full)
        keys, content = node.get("key_types"), node.get("content")
        if not isinstance(content, dict) or not isinstance(keys, dict):
            raise ValueError("a dict has no content")
        types = keys.get("content")
        if keys.get("__loader__") != "ListNode" or not isinstance(types, list):
            raise ValueError("a dict has no types of its keys")
        _expect("builtins.list", f"{keys.get('__module__')}.{keys.get('__class__')}")
        for kind in types:
            named = kind if isinstance(kind, dict) else {}
            if named.get("__loader__") != "TypeNode" or "__id__" in named:
                raise ValueError("the key of a dict is no text")
            _expect(
                "builtins.str", f"{named.get('__module__')}.{named.get('__class__')}"
            )
        if len(types) != len(content) or "__id__" in keys:
            raise ValueError("a dict has not as many keys as values")
        return len(types) + sum(self.node(value, depth) for value in content.values())

    def _list(self, full, node, depth) -> int:
        _expect("builtins.list", full)
        if not isinstance(node.get("content"), list):
            raise ValueError("a list has no content")
        return sum(self.node(value, depth) for value in node["content"])

    def _tuple(self, full, node, depth) -> int:
        _expect("builtins.tuple", full)
        return self._list("builtins.list", node, depth)

    def _json(self, full, node, depth) -> int:
        content = node.get("content")
        value = json.loads(content) if isinstance(content, str) else ()
        if value is not None and type(value) not in (bool, int, float, str):
            raise ValueError("a text is no number, no text and no None")
        return 0

    def _array(self, full, node, depth) -> int:
        scalar = isinstance(getattr(np, node["__class__"], None), type) and _is_scalar(
            getattr(np, node["__class__"])
        )
        if not (node["__module__"] == "numpy" and (scalar or full == "numpy.ndarray")):
            raise ValueError(f"it names {full}, which is no array")
        file = node.get("file")
        if node.get("type") != "numpy" or file not in self.members - self.used:
            raise ValueError(
                f"an array lies in {file!r}, which is no part, or that of another"
            )
        self.used.add(file)
        return 0

    def _object(self, full, node, depth) -> int:
        if full == STAND_IN or state_class(full) is not None:
            self.trusted.add(full)
        elif not full.startswith("sklearn."):  # of which skops knows the estimators
            raise ValueError(f"it names {full}, which is no part of a model")
        content = node.get("content")
        if content is None:
            return 0
        if not isinstance(content, dict) or content.get("__loader__") not in (
            "DictNode",
            "JsonNode",
        ):
            raise ValueError(f"a {full} has no attributes")
        return self.node(content, depth)


# What skops may make: nothing that calls what a file names.
_CHECKS = {
    "CachedNode": _SchemaCheck._cached,
    "DictNode": _SchemaCheck._dict,
    "JsonNode": _SchemaCheck._json,
    "ListNode": _SchemaCheck._list,
    "NdArrayNode": _SchemaCheck._array,
    "ObjectNode": _SchemaCheck._object,
    "TupleNode": _SchemaCheck._tuple,
}


def _expect(wanted: str, found: str) -> None:
    if found != wanted:
        raise ValueError(f"it names {printable(found[:200])} in the place of {wanted}")
