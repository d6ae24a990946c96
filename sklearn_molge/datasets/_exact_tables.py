"""Tables in the types that an AnnData file can hold, and back to what they were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import infer_dtype, is_object_dtype

__all__ = [
    "check_exact",
    "check_names",
    "describe_table",
    "has_default_index",
    "join_tables",
    "restore_table",
    "room_for_missing",
]

MISSING = {"None": None, "NA": pd.NA, "nan": np.nan}
RESERVED = ("_index", "")
STORABLE = ("string", "boolean", "integer", "floating", "empty")


def join_tables(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Put tables below each other in types that lose nothing and can be written.

    Whole numbers and booleans that a table lacks become pandas' nullable types, never
    floats; text becomes categorical. The index becomes text.
    """
    lengths = [len(table) for table in tables]
    names = dict.fromkeys(name for table in tables for name in table)
    columns = {
        name: _join_column([t.get(name) for t in tables], lengths) for name in names
    }
    index = np.concatenate([t.index.astype(str).to_numpy(dtype=object) for t in tables])
    return pd.DataFrame(columns, index=pd.Index(index, dtype=object))


def _join_column(parts: Sequence[pd.Series | None], lengths: Sequence[int]):
    there = [part for part in parts if part is not None]
    if len(there) < len(parts):
        there = [room_for_missing(part) for part in there]
        dtype = there[0].dtype
        filled = iter(there)
        there = [
            _gap(dtype, length) if part is None else next(filled)
            for part, length in zip(parts, lengths, strict=True)
        ]
    if len({part.dtype for part in there}) == 1:
        return _writable(pd.concat(there, ignore_index=True))
    kinds = {getattr(part.dtype, "kind", "O") for part in there}
    if kinds <= set("fiu") and all(isinstance(p.dtype, np.dtype) for p in there):
        return np.concatenate([part.to_numpy() for part in there])
    plain = np.concatenate([part.to_numpy(dtype=object) for part in there])
    return _writable(pd.Series(plain, dtype=object))


def room_for_missing(column: pd.Series) -> pd.Series:
    """Make whole numbers and booleans pandas' nullable types, never floats."""
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "iub":
        return pd.Series(pd.array(column.to_numpy()))
    return column


def _gap(dtype, length: int) -> pd.Series:
    return pd.Series([np.nan] * length, dtype=object).astype(dtype)


def _writable(column: pd.Series):
    dtype = column.dtype
    if is_object_dtype(dtype) or isinstance(dtype, pd.StringDtype):
        # Text with gaps can be written only as categorical.
        try:
            return pd.Categorical(column.astype(object))
        except TypeError:  # Lists and the like cannot be written at all.
            return column.array
    if isinstance(dtype, (pd.Float32Dtype, pd.Float64Dtype)):
        return column.to_numpy(dtype=np.float64, na_value=np.nan)
    return column.array


def describe_table(table: pd.DataFrame) -> dict:
    """Say what `restore_table` must know to undo `join_tables`."""
    mark: dict = {
        "columns": [str(name) for name in table],
        "types": [_type_name(dtype) for dtype in table.dtypes],
        "missing": [_kind_of_missing(column) for _, column in table.items()],
        "index_type": (
            "range" if has_default_index(table) else _type_name(table.index.dtype)
        ),
    }
    if table.index.name is not None:
        mark["index_name"] = str(table.index.name)
    for name, column in table.items():
        if isinstance(column.dtype, pd.CategoricalDtype):
            kept = mark.setdefault("categories", {}).setdefault(str(name), {})
            kept["values"] = _plain_array(column.cat.categories)
            kept["ordered"] = bool(column.cat.ordered)
    return mark


def has_default_index(table: pd.DataFrame) -> bool:
    """Say whether the rows are only numbered 0, 1, ..."""
    return isinstance(table.index, pd.RangeIndex) and table.index.equals(
        pd.RangeIndex(len(table))
    )


def _plain_array(index: pd.Index) -> NDArray:
    return index.to_numpy(dtype=object if index.dtype.kind == "O" else None)


def _type_name(dtype) -> str:
    if isinstance(dtype, pd.StringDtype) and str(dtype) == "string":
        return f"string[{dtype.storage}]"
    return str(dtype)


def _kind_of_missing(column: pd.Series) -> str:
    """Tell None and NA from NaN; NaN where a column has several of them."""
    if not is_object_dtype(column.dtype):
        return "nan"
    missing = column[column.isna()]
    for name in ("None", "NA"):
        if len(missing) and all(value is MISSING[name] for value in missing):
            return name
    return "nan"


def restore_table(table: pd.DataFrame, mark: Mapping) -> pd.DataFrame:
    """Give the columns of a table, and its index, the types that they had."""
    names = [str(name) for name in mark["columns"]]
    columns = {
        name: _restore_column(table[name], str(kind), str(missing), mark)
        for name, kind, missing in zip(
            names, mark["types"], mark["missing"], strict=True
        )
    }
    kind = str(mark["index_type"])
    index = table.index
    if kind == "range":
        numbers = index.astype(np.int64)
        whole = pd.RangeIndex(len(numbers))
        index = whole if numbers.equals(whole) else numbers
    else:
        index = pd.Index(index.to_numpy(dtype=object)).astype(_dtype(kind))
    index = index.rename(mark.get("index_name"))
    return pd.DataFrame(
        {name: pd.Series(values, index=index) for name, values in columns.items()},
        index=index,
        columns=pd.Index(names),
    )


def _restore_column(column: pd.Series, kind: str, missing: str, mark: Mapping):
    is_category = isinstance(column.dtype, pd.CategoricalDtype)
    if kind == "category":
        kept = mark["categories"][column.name]
        values = np.asarray(kept["values"])
        if values.size == 0:
            values = values.astype(object)
        return pd.Categorical(
            column.astype(object), categories=values, ordered=bool(kept["ordered"])
        )
    if kind == "object":
        plain = column.astype(object).to_numpy(copy=True)
        plain[column.isna().to_numpy()] = MISSING[missing]
        return pd.Series(plain, dtype=object).array
    return (column.astype(object) if is_category else column).astype(_dtype(kind)).array


def _dtype(kind: str):
    # pandas 3 calls its text type "str"; before, text was plain objects.
    return pd.Series(["text"]).dtype if kind == "str" else kind


def check_names(name: str, table: pd.DataFrame) -> None:
    """Raise where the names of rows or columns cannot be written."""
    if not table.columns.is_unique or isinstance(table.index, pd.MultiIndex):
        raise ValueError(
            f"{name} must have an index of one level and columns of different names "
            f"to be saved. Got columns {', '.join(map(str, table.columns))}."
        )
    for label in table:
        if not isinstance(label, str) or label in RESERVED or "/" in label:
            raise ValueError(
                f"The columns of {name} must be named by text without '/', and none "
                f"'_index', to be saved. Got {label!r}."
            )


def check_exact(
    name: str, table: pd.DataFrame, written: pd.DataFrame, restored: pd.DataFrame
) -> None:
    """Raise where a column cannot be written, or would not come back as it is."""
    old, new = table.index, restored.index
    if not new.equals(old) or (new.dtype, new.name) != (old.dtype, old.name):
        what = f"The index of {name}, named {old.name!r} and"
        raise ValueError(_cannot(what, old.dtype))
    for label, column in table.items():
        storable = _can_be_written(written[label])
        if not storable or not restored[label].equals(column):
            raise ValueError(_cannot(f"{name}[{label!r}]", column.dtype))


def _can_be_written(column: pd.Series) -> bool:
    dtype = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return infer_dtype(dtype.categories) in STORABLE
    if isinstance(dtype, np.dtype):
        return dtype.kind in "fiub"
    return isinstance(column.array, pd.arrays.BooleanArray | pd.arrays.IntegerArray)


def _cannot(what: str, dtype) -> str:
    return (
        f"{what} of dtype {dtype} cannot be saved and read back exactly: it must hold "
        "text, or numbers or booleans of one kind."
    )
