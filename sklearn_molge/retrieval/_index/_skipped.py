"""SkippedRows: what of a library is not in the index, and why."""

import csv
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sklearn_molge.retrieval._index._store import VectorStore

__all__ = ["SkippedRows"]

_COLUMNS = ("row", "entry", "reason")


class SkippedRows:
    """Rows of a library that are not in the index, and why; in memory or in a file.

    Parameters
    ----------
    path : Path or None
        A table, separated by tabs, that grows.
    position : int, default=0
        How much of the table counts, as `position` said when it was noted; the rest
        was written before a kill.
    """

    def __init__(self, path: Path | None, position: int = 0):
        self.path = path
        self.position = position
        self._rows: list[tuple[int, str, str]] = []

    @classmethod
    def of_store(cls, store: VectorStore) -> "SkippedRows":
        """Return those of a store: beside it in its folder, as far as its note says."""
        path = None if store.path is None else store.path / "skipped.tsv"
        return cls(path, store.note["skipped"] if store.note else 0)

    def cut(self, position: int) -> None:
        """Forget what was added since `position`."""
        self.position = position
        del self._rows[position:]

    def append(self, rows: Sequence[tuple[int, Any, str]]) -> None:
        """Add rows; a file is complete on disk when this returns."""
        texts = [(row, str(entry), reason) for row, entry, reason in rows]
        if self.path is None:
            self._rows.extend(texts)
            self.position = len(self._rows)
        elif texts:
            self._append_to_file(self.path, texts)

    def _append_to_file(self, path: Path, rows: list[tuple[int, str, str]]) -> None:
        text = io.StringIO()
        writer = csv.writer(text, delimiter="\t", lineterminator="\n")
        if self.position == 0:
            writer.writerow(_COLUMNS)
        writer.writerows(rows)
        with open(path, "r+b" if path.exists() else "w+b") as file:
            file.truncate(self.position)
            file.seek(self.position)
            file.write(text.getvalue().encode("utf-8", "backslashreplace"))
            file.flush()
            os.fsync(file.fileno())
            self.position = file.tell()

    def to_frame(self) -> pd.DataFrame:
        """Return all rows as a table."""
        if self.path is None or self.position == 0:
            table = pd.DataFrame(self._rows, columns=list(_COLUMNS))
            return table.astype({"row": "int64"})
        with open(self.path, "rb") as file:
            counted = io.BytesIO(file.read(self.position))
        types: Any = {"row": "int64", "entry": str, "reason": str}
        return pd.read_csv(counted, sep="\t", keep_default_na=False, dtype=types)
