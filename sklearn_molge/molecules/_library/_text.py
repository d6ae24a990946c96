"""Libraries in text: a SMILES and a name a line, or a table with separators."""

import bz2
import csv
import gzip
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from sklearn_molge.molecules._library._columns import (
    Column,
    find_columns,
    is_smiles_column,
)

__all__ = ["OPENERS", "SmilesLines", "Table", "open_text", "sniff"]

OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
DELIMITERS = {"csv": ",", "tsv": "\t"}


def open_text(path: Path) -> TextIO:
    r"""Open a text, unpacking it on the way; odd bytes stay visible as ``\xe9``."""
    opener = OPENERS.get(path.suffix.lower(), open)
    return io.TextIOWrapper(
        opener(path, "rb"), encoding="utf-8-sig", errors="backslashreplace", newline=""
    )


def sniff(path: Path, smiles_column: Column) -> str:
    """Tell a table from lines of SMILES by the first line."""
    with open_text(path) as file:
        first = file.readline().rstrip("\r\n")
    for format, delimiter in DELIMITERS.items():
        columns = first.split(delimiter)
        if len(columns) == 1:
            continue
        if isinstance(smiles_column, int) or smiles_column in columns:
            return format
        if any(map(is_smiles_column, columns)):
            return format
    return "smi"


class SmilesLines:
    """A SMILES a line, and behind white space the name.

    A first line that begins with the name of a column of SMILES is a header. Empty
    lines and lines that begin with "#" are no rows.
    """

    def __init__(self, path: Path):
        self.path = path

    def rows(self, start: int) -> Iterator[tuple[str, str]]:
        """Yield SMILES and name of each row, from row `start` on."""
        with open_text(self.path) as file:
            lines = self._rows_of(file)
            yield from map(_split_line, islice(lines, start, None))

    def _rows_of(self, file: TextIO) -> Iterator[str]:
        is_first = True
        for line in file:
            if line.isspace() or line.startswith("#"):
                continue
            if not (is_first and is_smiles_column(line.split()[0])):
                yield line
            is_first = False


def _split_line(line: str) -> tuple[str, str]:
    smiles, *rest = line.split(maxsplit=1)
    name = rest[0].rstrip() if rest else ""
    if name.startswith("|") and "|" in name[1:]:  # ChemAxon's extension of SMILES
        extension, _, name = name[1:].partition("|")
        smiles = f"{smiles} |{extension}|"
    return smiles, name.strip()


class Table:
    """A table with a header; or without, where the columns are given as numbers."""

    def __init__(self, path: Path, format: str, smiles: Column, name: Column):
        self.path = path
        self.delimiter = DELIMITERS[format]
        self.has_header = not isinstance(smiles, int)
        with open_text(path) as file:
            columns = next(self._reader(file), [])
        self.smiles_at, self.name_at = find_columns(path, columns, smiles, name)

    def _reader(self, file: TextIO) -> Iterator[list[str]]:
        if self.delimiter == ",":
            return csv.reader(file)
        # A quote in a name is a character like any, as in LINCS's tables.
        return csv.reader(file, delimiter=self.delimiter, quoting=csv.QUOTE_NONE)

    def rows(self, start: int) -> Iterator[tuple[str, str]]:
        """Yield SMILES and name of each row, from row `start` on."""
        smiles_at, name_at = self.smiles_at, self.name_at
        with open_text(self.path) as file:
            table = filter(None, self._reader(file))  # an empty line is no row
            for row in islice(table, start + self.has_header, None):
                yield _cell(row, smiles_at), _cell(row, name_at)


def _cell(row: list[str], at: int | None) -> str:
    return "" if at is None or at >= len(row) else row[at]
