"""Tables as text: CSV that no spreadsheet runs, JSON with all digits, and back."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.json import build_table_schema

from sklearn_molge._utils.spreadsheets import guarded, guarded_column, unguarded

__all__ = [
    "describe_fields", "frame_from_csv", "frame_from_json", "frame_to_csv",
    "frame_to_json", "keeps_index", "loads",
]  # fmt: skip

_QUOTED_OR_END = re.compile('("(?:[^"]|"")*")|\r\n')
# The types of columns that come back: no other is built because a file says so.
_WITH_MISSING = {
    "integer": {f"{sign}Int{n}" for sign in ("", "U") for n in (8, 16, 32, 64)},
    "number": {"Float32", "Float64"},
    "boolean": {"boolean"},
    "string": {"string", "str"},
}
_NUMBERS = {"number": np.float64, "integer": np.int64, "boolean": np.bool_}
_TEXTS = ("string", "any", "datetime", "duration")
_INFINITE = {"Infinity": math.inf, "-Infinity": -math.inf}
# Cells of a CSV file that is read: the ranks of a million queries by fifty methods.
# More of them, empty, are a small file and a large table.
_MOST_CELLS = 50_000_000
_MOST_COLUMNS = 10_000  # there are no studies of so many methods
_MOST_HEADER = 1 << 20

Frame = pd.DataFrame
Field = dict[str, Any]


def keeps_index(frame: Frame) -> bool:
    """Whether the index says something: a mere count of rows does not."""
    return not (isinstance(frame.index, pd.RangeIndex) and frame.index.name is None)


# CSV


def frame_to_csv(frame: Frame) -> str:
    """Return CSV in which a text that would be a formula begins with a single quote.

    A text that begins with quotes and a formula gets one more, so that taking one off
    gives every text back. Numbers are left alone. What has an end of a line is quoted.
    """
    flat = frame
    if keeps_index(frame):
        names: Any = ["" if name is None else name for name in frame.index.names]
        flat = frame.rename_axis(index=names).reset_index(allow_duplicates=True)
    # By position: names may come twice.
    columns = {i: guarded_column(flat.iloc[:, i]) for i in range(flat.shape[1])}
    header = [guarded(name) for name in flat.columns]
    # The end of a line is two characters, so that both of them are quoted in texts.
    text = pd.DataFrame(columns).to_csv(
        index=False, header=header, lineterminator="\r\n"
    )
    return _QUOTED_OR_END.sub(lambda found: found[1] or "\n", text)


def frame_from_csv(content: bytes, fields: Sequence[Field]) -> Frame:
    """Read what `frame_to_csv` wrote of columns that are `fields`, without an index.

    Raises
    ------
    ValueError
        If the columns are others, or hold something else.
    """
    if not 0 < len(fields) <= _MOST_COLUMNS:
        raise ValueError(f"it should have 1 to {_MOST_COLUMNS:,} columns")
    if content.count(b",") + content.count(b"\n") > _MOST_CELLS:
        raise ValueError(f"it has more than {_MOST_CELLS:,} cells")
    head = content[:_MOST_HEADER].decode("utf-8", "ignore")
    header = next(csv.reader(io.StringIO(head, newline=""), strict=True), [])
    names = [field["name"] for field in fields]
    if list(map(unguarded, header)) != names:
        raise ValueError("its columns are not those that were written")
    kinds = {i: _csv_dtype(field) for i, field in enumerate(fields)}
    how: dict[str, Any] = {
        "float_precision": "round_trip",
        "dtype": kinds,
        "na_values": {i: [""] for i, kind in kinds.items() if kind is not str},
    }
    if b"\0" in content:  # where pandas' parser in C ends a text
        how |= {"engine": "python", "float_precision": None}
    frame: Frame = pd.read_csv(
        io.BytesIO(content),
        header=0,
        names=range(len(names)),
        keep_default_na=False,
        **how,
    )
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError("its rows have more fields than its header")
    columns = {
        i: _text_column(frame[i], fields[i]) if kind is str else frame[i]
        for i, kind in kinds.items()
    }
    return pd.DataFrame(columns).set_axis(names, axis=1)


def _csv_dtype(field: Field) -> Any:
    kind, dtype = _dtype(field)
    return str if kind in _TEXTS else dtype


def _text_column(column: pd.Series, field: Field) -> pd.Series:
    if column.isna().any():
        raise ValueError(f"column {field['name']!r} ends before its rows do")
    return column.astype(object).map(unguarded).astype(_dtype(field)[1])


# JSON


def frame_to_json(frame: Frame) -> str:
    """Return Table Schema, as pandas' ``orient="table"`` but with all digits."""
    index: Any = None
    flat = frame
    if keeps_index(frame):
        index = [name or "index" for name in frame.index.names]
        flat = frame.rename_axis(index=index).reset_index()
    schema: Field = {"fields": describe_fields(flat)}
    if index:
        schema["primaryKey"] = index
    names = list(flat.columns)
    columns = [[_plain(value) for value in flat[name]] for name in names]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return json.dumps(
        {"schema": schema, "data": rows}, indent=1, allow_nan=False, ensure_ascii=False
    )


def describe_fields(frame: Frame) -> list[Field]:
    """Return name and type of each column; of a type that is not ours "any"."""
    schema: Any = build_table_schema(frame, index=False)
    fields: list[Field] = schema["fields"]
    for field in fields:
        known = _WITH_MISSING.get(field["type"], set()) | {None}
        if field.get("extDtype") not in known:
            del field["extDtype"]
            field["type"] = "any"
    return fields


def frame_from_json(content: bytes) -> Frame:
    """Read what `frame_to_json` wrote; nothing is built but what it can write.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is something else.
    """
    table = loads(content)
    schema, rows = table["schema"], table["data"]
    names = [field["name"] for field in schema["fields"]]
    if not names or len(set(names)) < len(names):
        raise ValueError(
            f"the schema must name distinct columns. It has {names!r:.200}"
        )
    expected = set(names)
    for i, row in enumerate(rows):
        if row.keys() != expected:
            raise ValueError(f"row {i} has other columns than the schema")
    frame = pd.DataFrame(
        {
            field["name"]: _column([row[field["name"]] for row in rows], field)
            for field in schema["fields"]
        }
    )
    index = schema.get("primaryKey")
    if index:
        frame = frame.set_index(index)
        if index == ["index"]:
            frame.index.name = None
    return frame


def loads(content: bytes) -> Any:
    """Read JSON without the constants that JSON does not have.

    Raises
    ------
    ValueError
        If it is none, or holds half a character.
    """
    value = json.loads(content.decode("utf-8"), parse_constant=_refuse_constant)
    if b"\\ud" in content or b"\\uD" in content:
        json.dumps(value, ensure_ascii=False).encode()  # raises at a lone surrogate
    return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _column(values: list[Any], field: Field) -> pd.Series:
    kind, dtype = _dtype(field)
    is_kind = _IS_KIND.get(kind, _is_text)
    may_miss = kind not in _NUMBERS or kind == "number" or "extDtype" in field
    for i, value in enumerate(values):
        if not (is_kind(value) or (value is None and may_miss)):
            raise ValueError(
                f"row {i} of column {field['name']!r} holds no {kind}: {value!r:.100}"
            )
    if kind == "number":
        values = [_INFINITE.get(v, v) if isinstance(v, str) else v for v in values]
    return pd.Series(values, dtype=object).astype(dtype)


def _dtype(field: Field) -> tuple[str, Any]:
    """Return the kind of a column and its type in pandas."""
    kind, extension = field["type"], field.get("extDtype")
    if extension is not None:
        if extension not in _WITH_MISSING.get(kind, ()):
            raise ValueError(f"columns of type {extension!r:.100} are not read")
        return kind, extension
    if kind not in _NUMBERS and kind not in _TEXTS:
        raise ValueError(f"columns of type {kind!r:.100} are not read")
    return kind, _NUMBERS.get(kind, object)


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return value in _INFINITE
    return isinstance(value, float) or _is_integer(value)


def _is_integer(value: object) -> bool:
    # Of more bits no column consists, and no report can show it.
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and -(2**63) <= value < 2**63  # type: ignore[operator]


def _is_text(value: object) -> bool:
    """Whether it is what a column of objects can hold."""
    return isinstance(value, str | bool | float) or _is_integer(value)


_IS_KIND: dict[str, Callable[[object], bool]] = {
    "number": _is_number,
    "integer": _is_integer,
    "boolean": lambda value: isinstance(value, bool),
}


def _plain(value: Any) -> object:
    """Return what JSON can hold: a missing value is null."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, float) and math.isinf(value):
        # JSON has no infinity: a text that float() reads.
        return "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, (bool, int, float, str)) else str(value)
