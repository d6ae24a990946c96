"""Files of a report: written whole or not at all, tables with all digits."""

import json
import math
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.io.json import build_table_schema

from sklearn_molge.evaluation._report_tables import keeps_index

__all__ = ["table_from_json", "table_to_json", "write_whole"]

_DTYPES = {"number": np.float64, "integer": np.int64, "boolean": np.bool_}


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file beside its place, then move it there."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode("utf-8") if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        # mkstemp's files are for the owner only.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def table_to_json(frame: pd.DataFrame) -> str:
    """Return Table Schema, as pandas' ``orient="table"`` but with all digits."""
    kept = keeps_index(frame)
    if kept:
        index: Any = [name or "index" for name in frame.index.names]
        flat = frame.rename_axis(index=index).reset_index()
    else:
        index, flat = None, frame
    schema = build_table_schema(flat, index=False, primary_key=index)
    names = list(flat.columns)
    columns = [[_plain(value) for value in flat[name]] for name in names]
    rows = [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]
    return json.dumps(
        {"schema": schema, "data": rows}, indent=1, allow_nan=False, ensure_ascii=False
    )


def table_from_json(text: str) -> pd.DataFrame:
    """Read what :func:`table_to_json` wrote."""
    table = json.loads(text)
    fields = table["schema"]["fields"]
    frame = pd.DataFrame(
        {
            each["name"]: pd.Series(
                [row[each["name"]] for row in table["data"]], dtype=object
            ).astype(each.get("extDtype") or _DTYPES.get(each["type"], object))
            for each in fields
        }
    )
    index = table["schema"].get("primaryKey")
    if index:
        frame = frame.set_index(index)
        if index == ["index"]:
            frame.index.name = None
    return frame


def _plain(value: Any) -> Any:
    """Return what JSON can hold: a missing value is null."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or (isinstance(value, float) and value != value):
        return None
    if isinstance(value, float) and math.isinf(value):
        # JSON has no infinity: a text that float() reads.
        return "Infinity" if value > 0 else "-Infinity"
    return value if isinstance(value, (bool, int, float, str)) else str(value)
