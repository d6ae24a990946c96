"""An estimator as what skops writes and reads, and back.

skops makes scikit-learn's estimators, ours and their state: each by its name, with its
attributes. What it cannot write, or writes in a way that could do more than hold
values, becomes a :class:`StandIn` first: a word and plain values, from which the one
function of that word makes the object again. Tensors go into a table of their own.
"""

import json
import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path, PurePath
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import scipy.special
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import MetadataRequest

from sklearn_molge.exceptions import UnstorableModelError
from sklearn_molge.persistence._trust import (
    MOST_DEPTH,
    check_state,
    layer_class,
    name_of,
    named_class,
    restored_class,
    state_class,
)

__all__ = ["Decoder", "Encoder", "StandIn", "import_skops"]

_SCALARS = (bool, int, float, str, type(None))
# Longer lists and dicts of numbers and texts are one text of JSON.
_LONG = 8
_SPARSE_FORMATS = ("bsr", "coo", "csc", "csr")
_UFUNCS = {"numpy": np, "scipy.special": scipy.special}


class StandIn:
    """What stands for an object that skops does not write: a word, and plain values."""

    def __init__(self, kind: str, content: Any):
        self.kind, self.content = kind, content


def import_skops() -> Any:
    """Import skops.io without torch.

    It asks scikit-learn for all estimators, which imports all its modules, among them
    wrappers of torch, cupy and dask.
    """
    if "skops.io" in sys.modules:
        return sys.modules["skops.io"]
    wrappers = "sklearn.externals.array_api_compat."
    hidden = [wrappers + name for name in ("torch", "cupy", "dask")]
    hidden = [name for name in hidden if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        import skops.io
    finally:
        for name in hidden:
            del sys.modules[name]
    return skops.io


@cache
def _is_trusted_by_skops(cls: type) -> bool:
    skops = import_skops()
    return not skops.get_untrusted_types(data=skops.dumps(cls.__new__(cls)))


# -- kinds of stand-ins --------------------------------------------------------------


class _Kind(NamedTuple):
    """How objects of a type are written, and made again."""

    encode: Callable[["Encoder", Any, str], Any]
    decode: Callable[["Decoder", Any], Any]


def _encode_items(encoder, value, path):
    return [
        (
            encoder.encode(k, f"{path} (the key {k!r})"),
            encoder.encode(v, f"{path}[{k!r}]"),
        )
        for k, v in value.items()
    ]


def _decode_items(make):
    return lambda decoder, items: make((k, v) for k, v in decoder.decode(items))


def _encode_objects(encoder, value, path):
    flat = [encoder.encode(v, f"{path}.flat[{i}]") for i, v in enumerate(value.flat)]
    return encoder.list_of(flat), value.shape


def _decode_objects(decoder, content):
    values, shape = decoder.decode(content)
    found = np.empty(len(values), dtype=object)
    found[:] = values
    return found.reshape(shape)


def _encode_set(encoder, value, path):
    # Their order differs between processes.
    ordered = sorted(value, key=lambda v: (type(v).__name__, repr(v)))
    return [encoder.encode(v, f"{path} (the member {v!r})") for v in ordered]


def _encode_masked(encoder, value, path):
    parts = value.data, np.ma.getmaskarray(value), value.fill_value
    return [encoder.encode(part, path) for part in parts]


def _decode_masked(decoder, content):
    values, mask, fill_value = decoder.decode(content)
    return np.ma.MaskedArray(values, mask, fill_value=fill_value)


def _encode_sparse(encoder, value, path):
    if value.format not in _SPARSE_FORMATS:
        encoder.refuse(path, f"a sparse array of format {value.format!r}")
    names = (
        ("data", "row", "col")
        if value.format == "coo"
        else ("data", "indices", "indptr")
    )
    parts = [encoder.encode(getattr(value, n), f"{path}.{n}") for n in names]
    is_array = isinstance(value, sparse.sparray)
    sorted_ = bool(getattr(value, "has_sorted_indices", False))
    return [value.format, is_array, value.shape, sorted_, *parts]


def _decode_sparse(decoder, content):
    name, is_array, shape, is_sorted, data, *places = decoder.decode(content)
    if name not in _SPARSE_FORMATS:
        raise ValueError(f"a sparse array has the format {name!r}")
    make = getattr(sparse, f"{name}_{'array' if is_array else 'matrix'}")
    if name == "coo":
        found = make((data, tuple(places)), shape=shape)
        found._check()
        return found
    found = make((data, *places), shape=shape)
    found.check_format(full_check=True)  # no index beyond the shape
    if is_sorted:
        found.sort_indices()
    return found


def _encode_labels(encoder, index, path):
    if type(index) not in (pd.Index, pd.RangeIndex):
        encoder.refuse(path, f"a {type(index).__name__}")
    kind = str(index.dtype)
    values = index.to_numpy(dtype=None if index.dtype.kind in "biuf" else object)
    return [kind, encoder.encode(values, path), encoder.encode(index.name, path)]


def _decode_labels(decoder, content):
    kind, values, name = decoder.decode(content)
    return pd.Index(values, dtype=kind, name=name)


def _encode_series(encoder, value, path):
    values = value.to_numpy(dtype=None if value.dtype.kind in "biuf" else object)
    return [
        str(value.dtype),
        encoder.encode(values, path),
        encoder.encode(value.index, f"{path}.index"),
        encoder.encode(value.name, f"{path}.name"),
    ]


def _decode_series(decoder, content):
    kind, values, index, name = decoder.decode(content)
    return pd.Series(values, dtype=kind, index=index, name=name)


def _encode_frame(encoder, value, path):
    columns = [
        encoder.encode(value.iloc[:, i], f"{path}.iloc[:, {i}]")
        for i in range(value.shape[1])
    ]
    index = encoder.encode(value.index, f"{path}.index")
    return [columns, index, encoder.encode(value.columns, f"{path}.columns")]


def _decode_frame(decoder, content):
    columns, index, names = decoder.decode(content)
    frame = pd.DataFrame(dict(enumerate(columns)), index=index)
    frame.columns = names
    return frame


def _encode_random_state(encoder, value, path):
    return encoder.encode(value.get_state(legacy=False), path)


def _decode_random_state(decoder, content):
    found = np.random.RandomState()
    found.set_state(decoder.decode(content))
    return found


def _encode_requests(encoder, value, path):
    """Write which metadata methods ask for; their owner is the object around them."""
    methods = {k: dict(v.requests) for k, v in vars(value).items() if k != "owner"}
    return encoder.encode(methods, path)


def _decode_requests(decoder, content):
    found = MetadataRequest(owner=None)
    for method, requests in decoder.decode(content).items():
        for param, alias in requests.items():
            vars(found)[method].add_request(param=param, alias=alias)
    return found


def _encode_ufunc(encoder, value, path):
    for module, public in _UFUNCS.items():
        if getattr(public, value.__name__, None) is value:
            return [module, value.__name__]
    return encoder.refuse(path, f"the function {value.__name__}")


def _decode_ufunc(decoder, content):
    module, name = content
    found = getattr(_UFUNCS[module], name, None)
    if not isinstance(found, np.ufunc):
        raise ValueError(f"it names {module}.{name}, which is no ufunc")
    return found


def _encode_class(encoder, value, path):
    if named_class(name_of(value)) is not value:
        encoder.refuse(path, f"the class {name_of(value)}")
    return name_of(value)


def _decode_class(decoder, name):
    found = named_class(name)
    if found is None:
        raise ValueError(f"it names {name}, which is no part of a model")
    return found


def _encode_restored(encoder, value, path):
    state = value.__molge_getstate__()
    return [name_of(type(value)), encoder.attributes(type(value), state, path)]


def _decode_restored(decoder, content):
    name, state = content
    cls = restored_class(name)
    if cls is None:
        raise ValueError(f"it names {name}, which is no part of a model")
    state = decoder.decode(state)
    if fault := check_state(cls, state):
        raise ValueError(fault)
    found = cls.__new__(cls)
    found.__molge_setstate__(state)
    return found


def _plain(make):
    """Return a kind whose objects are told by one text."""
    return _Kind(lambda encoder, value, path: str(value), lambda _, text: make(text))


_KINDS: dict[str, _Kind] = {
    "array of objects": _Kind(_encode_objects, _decode_objects),
    "class": _Kind(_encode_class, _decode_class),
    "dtype": _Kind(lambda e, v, p: v.str, lambda _, text: np.dtype(text)),
    "frame": _Kind(_encode_frame, _decode_frame),
    "frozenset": _Kind(_encode_set, lambda d, c: frozenset(d.decode(c))),
    "items": _Kind(_encode_items, _decode_items(dict)),
    "json": _Kind(lambda e, v, p: json.dumps(v), lambda _, text: json.loads(text)),
    "labels": _Kind(_encode_labels, _decode_labels),
    "bunch": _Kind(_encode_items, _decode_items(lambda items: Bunch(**dict(items)))),
    "ordered items": _Kind(_encode_items, _decode_items(OrderedDict)),
    "masked": _Kind(_encode_masked, _decode_masked),
    "path": _plain(Path),
    "random state": _Kind(_encode_random_state, _decode_random_state),
    "requests": _Kind(_encode_requests, _decode_requests),
    "restored": _Kind(_encode_restored, _decode_restored),
    "series": _Kind(_encode_series, _decode_series),
    "set": _Kind(_encode_set, lambda d, c: set(d.decode(c))),
    "slice": _Kind(
        lambda e, v, p: [e.encode(x, p) for x in (v.start, v.stop, v.step)],
        lambda d, c: slice(*d.decode(c)),
    ),
    "sparse": _Kind(_encode_sparse, _decode_sparse),
    "ufunc": _Kind(_encode_ufunc, _decode_ufunc),
}
_OF_TYPE: dict[type, str] = {
    OrderedDict: "ordered items",
    Bunch: "bunch",
    frozenset: "frozenset",
    MetadataRequest: "requests",
    np.ma.MaskedArray: "masked",
    np.random.RandomState: "random state",
    pd.DataFrame: "frame",
    pd.Index: "labels",
    pd.RangeIndex: "labels",
    pd.Series: "series",
    set: "set",
    slice: "slice",
} | {
    getattr(sparse, f"{name}_{kind}"): "sparse"
    for name in _SPARSE_FORMATS
    for kind in ("array", "matrix")
}  # fmt: skip


# -- torch ---------------------------------------------------------------------------


def _encode_tensor(encoder, value, path):
    import torch

    if value.layout is not torch.strided or value.is_quantized or value.is_meta:
        encoder.refuse(path, f"a tensor of layout {value.layout}")
    # safetensors are contiguous; products of others may round otherwise.
    order = sorted(range(value.dim()), key=lambda d: -value.stride(d))
    is_plain = value.is_contiguous()
    stored = value.detach().cpu()
    stored = stored if is_plain else stored.permute(order)
    name = path.removeprefix("estimator.")
    encoder.tensors[name] = stored.contiguous().clone()
    kind = "parameter" if isinstance(value, torch.nn.Parameter) else "tensor"
    return [name, kind, bool(value.requires_grad), None if is_plain else order]


def _decode_tensor(decoder, content):
    import torch

    name, kind, requires_grad, order = decoder.decode(content)
    value = decoder.tensors.pop(name).clone()  # aligned as torch's own
    if order is not None:
        value = value.permute([order.index(d) for d in range(len(order))])
    if kind == "parameter":
        return torch.nn.Parameter(value, requires_grad=requires_grad)
    return value.requires_grad_(requires_grad)


def _encode_layer(encoder, layer, path):
    from torch import nn

    cls, plain = type(layer), vars(nn.Module())
    if layer_class(name_of(cls)) is not cls:
        encoder.refuse(path, f"a network of class {name_of(cls)}")
    own = vars(layer)
    for name, empty in plain.items():
        is_hook = name.endswith(("_hooks", "_hooks_with_kwargs", "_always_called"))
        if is_hook and own.get(name) != empty:
            encoder.refuse(f"{path}.{name}", "a hook, a function that torch calls")
    kept = [{k: v for k, v in own.items() if k not in plain}]
    kept += [own[name] for name in ("_parameters", "_buffers", "_modules")]
    return [
        name_of(cls),
        layer.training,
        sorted(own["_non_persistent_buffers_set"]),
        *(encoder.attributes(cls, dict(part), path) for part in kept),
    ]


def _decode_layer(decoder, content):
    from torch import nn

    name, training, passing, *parts = decoder.decode(content)
    cls = layer_class(name)
    if cls is None:
        raise ValueError(f"it names {name}, which is no part of a model")
    state, parameters, buffers, layers = parts
    for part in parts:
        if fault := check_state(cls, part):
            raise ValueError(fault)
    found = cls.__new__(cls)
    nn.Module.__init__(found)
    if vars(found).keys() & state.keys():
        raise ValueError(f"a {name} has attributes of torch's own")
    vars(found).update(state)
    found.training = bool(training)
    found._parameters.update(parameters)
    found._buffers.update(buffers)
    found._modules.update(layers)
    found._non_persistent_buffers_set.update(passing)
    return found


def _decode_torch(what: str):
    def decode(decoder, text):
        import torch

        if what == "device":
            return torch.device(text)
        found = getattr(torch, text.removeprefix("torch."), None)
        if not isinstance(found, torch.dtype):
            raise ValueError(f"it names the dtype {text!r}")
        return found

    return decode


def _decode_history(decoder, text):
    from skorch.history import History

    return History(json.loads(text))


_KINDS |= {
    "history": _Kind(lambda e, v, p: json.dumps(v.to_list()), _decode_history),
    "layer": _Kind(_encode_layer, _decode_layer),
    "tensor": _Kind(_encode_tensor, _decode_tensor),
    "torch.device": _Kind(lambda e, v, p: str(v), _decode_torch("device")),
    "torch.dtype": _Kind(lambda e, v, p: str(v), _decode_torch("dtype")),
}


def _kind_of_torch(value: Any) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if isinstance(value, torch.nn.Module):
        return "layer"
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        return "tensor"
    if isinstance(value, torch.device | torch.dtype):
        return f"torch.{type(value).__name__}"
    is_history = name_of(type(value)) == "skorch.history.History"
    return "history" if is_history else None


# -- there and back ------------------------------------------------------------------


class Encoder:
    """Makes of an estimator what skops writes, or says what cannot be written.

    Attributes
    ----------
    tensors : dict
        Those of torch, by their places.
    """

    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}
        self._made: dict[int, tuple[Any, Any]] = {}  # with what has the id
        self._open: set[int] = set()
        self._depth = 0

    def refuse(self, path: str, what: str, instead: str = "") -> None:
        """Name a part that no model file holds."""
        raise UnstorableModelError(path, what, instead)

    def encode(self, value: Any, path: str) -> Any:
        """Return what stands for a value; equal objects stay one object."""
        if type(value) in _SCALARS:
            return value
        if id(value) in self._made:
            return self._made[id(value)][0]
        if id(value) in self._open:
            self.refuse(path, "an object that holds itself")
        self._open.add(id(value))
        self._depth += 1
        if self._depth > MOST_DEPTH // 4:
            self.refuse(path, f"a part nested more than {self._depth - 1} levels deep")
        made = self._encode(value, path)
        self._depth -= 1
        self._open.discard(id(value))
        self._made[id(value)] = made, value
        return made

    def list_of(self, values: list) -> Any:
        """Return a list of encoded values."""
        is_long = len(values) > _LONG and all(type(v) in _SCALARS for v in values)
        return StandIn("json", json.dumps(values)) if is_long else values

    def attributes(self, cls: type, state: Mapping[str, Any], path: str) -> dict:
        """Return the encoded attributes of an object."""
        if fault := check_state(cls, state):
            self.refuse(path, f"a {cls.__name__} of which {fault}")
        return {k: self.encode(v, f"{path}.{k}") for k, v in state.items()}

    def _encode(self, value: Any, path: str) -> Any:
        cls = type(value)
        if isinstance(value, np.generic) and value.dtype.kind in "biufcSU":
            return value
        if cls is np.ndarray or cls is np.memmap:
            return self._array(np.asarray(value), path)
        if cls is list:
            return self.list_of(
                [self.encode(v, f"{path}[{i}]") for i, v in enumerate(value)]
            )
        if cls is tuple:
            return tuple(self.encode(v, f"{path}[{i}]") for i, v in enumerate(value))
        if cls is dict:
            return self._dict(value, path)
        kind = self._kind(value)
        if kind is not None:
            return StandIn(kind, _KINDS[kind].encode(self, value, path))
        if self._is_state(cls):
            return self._object(value, path)
        return self.refuse(path, *_described(value))

    def _kind(self, value: Any) -> str | None:
        kind = _OF_TYPE.get(type(value)) or _kind_of_torch(value)
        if kind is not None:
            return kind
        if isinstance(value, np.ufunc):
            return "ufunc"
        if isinstance(value, np.dtype):
            return "dtype" if value.kind in "biufcSU" else None
        if isinstance(value, PurePath):
            return "path"
        if isinstance(value, type):
            return "class"
        return "restored" if restored_class(name_of(type(value))) else None

    def _array(self, value: np.ndarray, path: str) -> Any:
        if value.dtype == object:
            return StandIn("array of objects", _encode_objects(self, value, path))
        if value.dtype.kind not in "biufcSU":
            self.refuse(path, f"an array of dtype {value.dtype}")
        return value

    def _dict(self, value: dict, path: str) -> Any:
        if not all(type(key) is str for key in value):
            return StandIn("items", _encode_items(self, value, path))
        encoded = {k: self.encode(v, f"{path}[{k!r}]") for k, v in value.items()}
        is_long = len(value) > _LONG
        if is_long and all(type(v) in _SCALARS for v in encoded.values()):
            return StandIn("json", json.dumps(encoded))
        return encoded

    def _is_state(self, cls: type) -> bool:
        if state_class(name_of(cls)) is cls:
            return True
        of_sklearn = cls.__module__.startswith("sklearn.")
        return (
            of_sklearn and issubclass(cls, BaseEstimator) and _is_trusted_by_skops(cls)
        )

    def _object(self, value: Any, path: str) -> Any:
        state = value.__getstate__() or {}
        state.pop("_sklearn_version", None)  # skops asks for it again
        made = type(value).__new__(type(value))
        vars(made).update(self.attributes(type(value), state, path))
        return made


def _described(value: Any) -> tuple[str, str]:
    """Say what an object is that cannot be stored, and what to do instead."""
    name = name_of(type(value))
    if isinstance(value, FunctionType | MethodType | BuiltinFunctionType):
        what = "a lambda" if value.__name__ == "<lambda>" else "a function"
        return f"{what}, {name_of(value)}", "Take a function of numpy, such as np.log1p"
    if name.startswith("hyperopt."):
        return f"a {name}", "Save its best_estimator_"
    if name.startswith("sklearn.") and any(text in name for text in ("tree", "Tree")):
        return f"a {name}", (
            "A forged tree crashes Python, so skops trusts none. Take a regressor "
            "without trees"
        )
    if isinstance(value, type):
        return f"the class {name_of(value)}", ""
    return f"a {name}", ""


class Decoder:
    """Makes the objects for which stand-ins stand, in what skops has made."""

    def __init__(self, tensors: dict[str, Any]):
        self.tensors = tensors
        self._made: dict[int, tuple[Any, Any]] = {}

    def decode(self, value: Any) -> Any:
        """Return what a value stands for; lists, dicts and objects are changed."""
        if type(value) in _SCALARS or isinstance(value, np.ndarray | np.generic):
            return value
        if id(value) not in self._made:
            self._made[id(value)] = self._decode(value), value
        return self._made[id(value)][0]

    def _decode(self, value: Any) -> Any:
        if type(value) is StandIn:
            kind, content = value.kind, value.content
            if not isinstance(kind, str) or kind not in _KINDS:
                raise ValueError(f"it has an object of kind {kind!r}")
            return _KINDS[kind].decode(self, content)
        if type(value) is tuple:
            return tuple(self.decode(v) for v in value)
        if type(value) is list:
            value[:] = [self.decode(v) for v in value]
            return value
        state = value if type(value) is dict else vars(value)
        for name, held in state.items():
            state[name] = self.decode(held)
        if type(value) is not dict:
            if fault := check_state(type(value), state):
                raise ValueError(fault)
            if isinstance(requests := state.get("_metadata_request"), MetadataRequest):
                methods = [v for k, v in vars(requests).items() if k != "owner"]
                for part in (requests, *methods):
                    part.owner = value
        return value
