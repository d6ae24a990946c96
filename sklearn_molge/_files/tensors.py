"""Files that `torch.save` wrote, read without calling anything that they name.

``torch.load(weights_only=True)`` checks neither the zip's checksums nor that a tensor
is no larger than what is stored for it, and such a file could corrupt the memory of
torch before 2.10 (CVE-2026-24747). Here the few instructions that `torch.save` writes
are carried out one by one: tensors, containers, numbers and text come back, and nothing
else.
"""

import os
import pickletools
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from math import prod
from typing import IO, Any

import torch
from torch import Tensor

from sklearn_molge._files.reading import reading
from sklearn_molge.exceptions import CorruptFileError

__all__ = ["Inert", "check_weights", "read_tensors"]

# A record holds a tensor; the networks of this field have a few hundred.
_MOST_RECORDS = 100_000
# What a file says besides numbers: the largest is the history of a long training.
_MOST_PICKLED_BYTES = 1 << 28
_MOST_OBJECTS = 10_000_000
_MOST_DEPTH = 64
_MOST_DIMENSIONS = 64
_PIECE = 1 << 20  # bytes that are read, and whose checksum is computed, at once

_DTYPES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32, "Double": torch.float64, "Half": torch.float16,
        "BFloat16": torch.bfloat16, "Long": torch.int64, "Int": torch.int32,
        "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8,
        "Bool": torch.bool, "ComplexFloat": torch.complex64,
        "ComplexDouble": torch.complex128,
    }.items()
} | {"torch.storage.UntypedStorage": torch.uint8}  # fmt: skip


class Inert:
    """An object of a file that is neither tensor nor container, without its code.

    Each class or function that a file names is a subclass of that name. What it would
    have been called with is in `args`, and its state in its attributes.
    """

    args: tuple = ()


class _RefusedError(Exception):
    """Why a file is not read, without its name."""


def read_tensors(
    file: str | os.PathLike[str] | IO[bytes],
    path: str | os.PathLike[str] | None = None,
    *,
    inert: bool = False,
) -> Any:
    """Read a file of `torch.save` into memory.

    Parameters
    ----------
    file : path-like or binary file
        What to read.
    path : path-like or None, default=None
        What errors call it; None if `file` is a path.
    inert : bool, default=False
        Whether objects of other classes are kept, as :class:`Inert`; else they are
        refused.

    Returns
    -------
    contents : object
        On the CPU; each tensor has its memory in the file.

    Raises
    ------
    CorruptFileError
        If it is cut or damaged, of another kind or an earlier version of PyTorch, or
        says what no file does that `torch.save` wrote.
    """
    path = str(file) if path is None else path
    with reading(path):
        try:
            with zipfile.ZipFile(file) as archive:
                return _Archive(archive).load(inert=inert)
        except _RefusedError as error:
            raise CorruptFileError(path, "", str(error)) from error
        except zipfile.BadZipFile as error:
            raise CorruptFileError(path, "", _not_a_zip(file, error)) from error


def check_weights(
    weights: Any, expected: Mapping[str, Tensor], *, shapes: bool = True
) -> str:
    """Say how weights differ from those that a network has; empty if they fit.

    They must have finite numbers of the same kind, and, where `shapes`, the same names
    and shapes.
    """
    if not isinstance(weights, dict):
        return f"they are a {type(weights).__name__}, not a dictionary"
    found = []
    for name in dict.fromkeys([*expected, *weights] if shapes else weights):
        own, got = expected.get(name), weights.get(name)
        if not isinstance(got, Tensor):
            kind = "none" if got is None else type(got).__name__
            found.append(f"{name}: expected {_shape(own)}, got {kind}")
        elif own is None or own.shape != got.shape:
            if shapes:
                found.append(f"{name}: expected {_shape(own)}, got {_shape(got)}")
        elif own.is_floating_point() != got.is_floating_point() or got.is_complex():
            found.append(f"{name}: expected {own.dtype}, got {got.dtype}")
        elif not _is_finite(got):
            found.append(f"{name}: not all numbers are finite")
    more = f" and {len(found) - 5} more" if len(found) > 5 else ""
    return ", ".join(found[:5]) + more


def _is_finite(tensor: Tensor) -> bool:
    # A sum is faster; it may overflow where no number does.
    return bool(tensor.sum().isfinite()) or bool(torch.isfinite(tensor).all())


def _shape(tensor: Tensor | None) -> str:
    return "none" if tensor is None else str(tuple(tensor.shape))


def _not_a_zip(file, error: Exception) -> str:
    """Say what a file is instead."""
    if isinstance(file, str | os.PathLike):
        with open(file, "rb") as opened:
            start = opened.read(512)
    else:
        file.seek(0)
        start = file.read(512)
    if start[:1] == b"\x80" or start[257:262] == b"ustar":
        return (
            "it was saved before PyTorch 1.6, or is a pickle: reading it could run "
            "code. If you trust whoever wrote it, load and save it again by torch"
        )
    if start[:4] != b"PK\x03\x04":
        return f"it is no file of PyTorch ({error})"
    return f"it is cut or damaged ({error})"


class _Archive:
    """The records of a file: each is as it was written, and none is larger."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive
        infos = archive.infolist()
        if len(infos) > _MOST_RECORDS:
            raise _RefusedError(f"it has more than {_MOST_RECORDS:,} records")
        self.records = {info.filename: info for info in infos}
        if len(self.records) < len(infos):
            raise _RefusedError("two of its records have one name")
        end = 0
        for info in sorted(infos, key=lambda info: info.header_offset):
            if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                raise _RefusedError(f"record {info.filename!r} is packed")
            if info.file_size != info.compress_size or info.header_offset < end:
                raise _RefusedError(f"record {info.filename!r} overlaps another")
            end = info.header_offset + info.compress_size
        pickles = [name for name in self.records if name.endswith("/data.pkl")]
        if len(pickles) != 1 or pickles[0].count("/") != 1:
            raise _RefusedError("it is a zip file, but not one of torch.save")
        self.folder = pickles[0].removesuffix("data.pkl")
        self.storages: dict[str, Tensor] = {}

    def load(self, *, inert: bool) -> Any:
        """Return what was saved."""
        if f"{self.folder}constants.pkl" in self.records:
            raise _RefusedError("it is a TorchScript program, not weights")
        order = f"{self.folder}byteorder"
        if order in self.records and self.read(order).decode() != sys.byteorder:
            raise _RefusedError(f"its bytes are not in {sys.byteorder}-endian order")
        pickled = self.records[f"{self.folder}data.pkl"]
        if pickled.file_size > _MOST_PICKLED_BYTES:
            raise _RefusedError(
                f"{pickled.filename!r} has more than {_MOST_PICKLED_BYTES:,} bytes"
            )
        value = _Unpickler(self.storage, inert).load(self.read(pickled.filename))
        _check_size(value)
        return value

    def read(self, name: str) -> bytearray:
        """Return the bytes of a record, whose checksum zipfile compares."""
        info = self.records.get(name)
        if info is None:
            raise _RefusedError(f"record {name!r} is missing")
        content = bytearray(info.file_size)
        try:
            with self.archive.open(info) as record:
                for start in range(0, len(content) + 1, _PIECE):  # one more, to its end
                    content[start : start + _PIECE] = record.read(_PIECE)
            return content
        except zipfile.BadZipFile as error:
            # torch.serialization.set_crc32_options(False) leaves them out.
            none = " (0: saved without checksums?)" if info.CRC == 0 else ""
            raise _RefusedError(f"record {name!r} is damaged: {error}{none}") from error

    def storage(self, pid: Any) -> Tensor:
        """Return the numbers that a persistent id stands for, one-dimensional."""
        _, dtype, key, _, n = pid
        if not (isinstance(dtype, torch.dtype) and isinstance(key, str)):
            raise _RefusedError(f"a tensor has the storage {key!r}")
        if key not in self.storages:
            content = self.read(f"{self.folder}data/{key}")
            self.storages[key] = (
                torch.frombuffer(content, dtype=torch.uint8)
                if content
                else torch.empty(0, dtype=torch.uint8)
            )
        stored = self.storages[key]
        if type(n) is not int or n * dtype.itemsize != len(stored):
            raise _RefusedError(f"storage {key!r} has not the {n} numbers it should")
        return stored.view(dtype)


class _Function:
    """What a file may call by name."""

    def __init__(self, call: Callable):
        self.call = call


def _ordered_dict(*args) -> OrderedDict:
    if args:
        raise _RefusedError("an OrderedDict is not empty when it is made")
    return OrderedDict()


def _tensor(storage, offset, size, stride, requires_grad, hooks, *metadata) -> Tensor:
    """Return a tensor that has no more numbers than are stored for it."""
    numbers = [offset, *size, *stride]
    if not all(type(n) is int and 0 <= n < 1 << 62 for n in numbers):
        raise _RefusedError(f"a tensor has the shape {size!r} and strides {stride!r}")
    if len(size) != len(stride) or len(size) > _MOST_DIMENSIONS:
        raise _RefusedError(f"a tensor has {len(size)} dimensions")
    n = prod(size)
    last = offset + sum((a - 1) * b for a, b in zip(size, stride, strict=True))
    if n and (last >= len(storage) or n > len(storage)):
        raise _RefusedError(
            f"a tensor of shape {tuple(size)} is more than what is stored for it, "
            f"{len(storage):,} numbers"
        )
    return storage.as_strided(size, stride, offset) if n else storage.new_empty(size)


def _tensor_of_dtype(storage, offset, size, stride, grad, hooks, dtype, *metadata):
    if not isinstance(dtype, torch.dtype):
        raise _RefusedError(f"a tensor has the dtype {dtype!r}")
    return _tensor(storage.view(dtype), offset, size, stride, grad, hooks)


def _parameter(data, requires_grad, hooks) -> Tensor:
    return data


_CALLED = {
    "collections.OrderedDict": _Function(_ordered_dict),
    "torch._utils._rebuild_tensor_v2": _Function(_tensor),
    "torch._utils._rebuild_tensor_v3": _Function(_tensor_of_dtype),
    "torch._utils._rebuild_parameter": _Function(_parameter),
}


class _Unpickler:
    """Carries out the instructions of a pickle that torch.save writes."""

    def __init__(self, storage: Callable[[Any], Tensor], inert: bool):
        self.storage, self.inert = storage, inert
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def load(self, content: bytearray) -> Any:
        """Return what the pickle makes."""
        for code, argument, _ in pickletools.genops(bytes(content)):
            carry_out = _INSTRUCTIONS.get(code.name)
            if carry_out is None:
                raise _RefusedError(f"it has the instruction {code.name}")
            carry_out(self, argument)
        (value,) = self.stack
        return value

    def _since_mark(self) -> list:
        start = self.marks.pop()
        items = self.stack[start:]
        del self.stack[start:]
        return items

    def _last(self, n: int) -> list:
        if n > len(self.stack):
            raise _RefusedError("it ends within an object")
        items = self.stack[len(self.stack) - n :]
        del self.stack[len(self.stack) - n :]
        return items

    def _set(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise _RefusedError(f"items are set in a {type(target).__name__}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # The hash of a tuple of tuples of tuples would end the process.
            flat = key if isinstance(key, tuple) else (key,)
            if not all(isinstance(k, _KEYS) for k in flat):
                raise _RefusedError(f"a key is a {type(key).__name__}")
            target[key] = value

    def _extend(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise _RefusedError(f"a {type(self.stack[-1]).__name__} is extended")
        self.stack[-1].extend(items)

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        path = f"{module}.{name}"
        if path in _CALLED:
            self.stack.append(_CALLED[path])
        elif path in _DTYPES:
            self.stack.append(_DTYPES[path])
        elif module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            self.stack.append(getattr(torch, name))
        elif not self.inert:
            raise _RefusedError(f"it is no file of weights: it names {path}")
        elif name == "AttributeDict":  # Lightning's
            self.stack.append(_Function(dict))
        else:
            self.stack.append(type(name, (Inert,), {"__module__": module}))

    def _call(self, _: None) -> None:
        function, args = self._last(2)
        if type(args) is not tuple:
            raise _RefusedError("arguments are no tuple")
        if isinstance(function, _Function):
            self.stack.append(function.call(*args))
        elif isinstance(function, type) and issubclass(function, Inert):
            made = function()
            made.args = args
            self.stack.append(made)
        else:
            raise _RefusedError(f"a {type(function).__name__} is called")

    def _build(self, _: None) -> None:
        (state,) = self._last(1)
        target = self.stack[-1]
        if isinstance(target, Inert):
            named = isinstance(state, dict) and all(isinstance(k, str) for k in state)
            vars(target).update(state if named else {"state": state})
        elif type(target) is OrderedDict and type(state) is dict:
            # What torch knows of the modules' versions.
            target._metadata = state.get("_metadata")  # type: ignore[attr-defined]
        elif type(target) is not dict:
            raise _RefusedError(f"a {type(target).__name__} is given a state")


_KEYS = str | int | float | type | Inert | None


def _push(unpickler: _Unpickler, argument: Any) -> None:
    unpickler.stack.append(argument)


def _pushing(make: Callable[[], Any]) -> Callable[[_Unpickler, Any], None]:
    return lambda unpickler, _: unpickler.stack.append(make())


def _tuple(n: int) -> Callable[[_Unpickler, Any], None]:
    return lambda unpickler, _: unpickler.stack.append(tuple(unpickler._last(n)))


def _memorise(unpickler: _Unpickler, argument: int) -> None:
    unpickler.memo[argument] = unpickler.stack[-1]


_INSTRUCTIONS: dict[str, Callable[[_Unpickler, Any], None]] = {
    "PROTO": lambda unpickler, _: None,
    "STOP": lambda unpickler, _: None,
    "NONE": _push,
    "NEWTRUE": _pushing(lambda: True),
    "NEWFALSE": _pushing(lambda: False),
    **dict.fromkeys(["BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"], _push),
    **dict.fromkeys(["BINUNICODE", "SHORT_BINSTRING"], _push),
    "EMPTY_TUPLE": _pushing(tuple),
    "EMPTY_LIST": _pushing(list),
    "EMPTY_DICT": _pushing(dict),
    "EMPTY_SET": _pushing(list),
    "MARK": lambda unpickler, _: unpickler.marks.append(len(unpickler.stack)),
    "TUPLE": lambda u, _: u.stack.append(tuple(u._since_mark())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "APPEND": lambda unpickler, _: unpickler._extend(unpickler._last(1)),
    "APPENDS": lambda unpickler, _: unpickler._extend(unpickler._since_mark()),
    "SETITEM": lambda unpickler, _: unpickler._set(unpickler._last(2)),
    "SETITEMS": lambda unpickler, _: unpickler._set(unpickler._since_mark()),
    **dict.fromkeys(["BINPUT", "LONG_BINPUT"], _memorise),
    **dict.fromkeys(["BINGET", "LONG_BINGET"], lambda u, i: u.stack.append(u.memo[i])),
    "GLOBAL": _Unpickler._global,
    "REDUCE": _Unpickler._call,
    "NEWOBJ": _Unpickler._call,
    "BUILD": _Unpickler._build,
    "BINPERSID": lambda u, _: u.stack.append(u.storage(*u._last(1))),
}


def _check_size(value: Any) -> None:
    """Refuse what is small in a file and endless when it is walked through."""
    n, pending = 0, [(value, 0)]
    while pending:
        value, depth = pending.pop()
        inside: Any = ()
        if isinstance(value, dict):
            inside = [*value.values(), *(k for k in value if isinstance(k, Inert))]
        elif isinstance(value, list | tuple):
            inside = value
        elif isinstance(value, Inert):
            inside = [value.args, *vars(value).values()]
        n += len(inside)
        if depth > _MOST_DEPTH or n > _MOST_OBJECTS:
            raise _RefusedError("it holds more objects, one in another, than it may")
        pending += [(each, depth + 1) for each in inside]
