"""Tables of text files: separator, encoding and header recognised, read in parts."""

import csv
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from os import PathLike
from typing import Literal, TextIO

import numpy as np
import pandas as pd

from sklearn_molge._files.reading import reading
from sklearn_molge._files.text import look_into, open_text
from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._columns import is_known
from sklearn_molge.datasets._texts import clean
from sklearn_molge.exceptions import CorruptFileError, DataWarning

__all__ = [
    "LONGEST_ROW",
    "csv_rows",
    "index_by_key",
    "read_table",
    "sniff_table",
    "table_parts",
]

# Rows of a table of profiles that are held as text at a time.
PART_ROWS = 2**16
SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
BLANKS = ' \t\r\n\xa0\ufeff\u200b"'
# Bytes: the ids of 1.3 million profiles, 45 letters each, are 58 MB.
LONGEST_ROW = 2**26
# The releases have 3 million profiles in all.
MOST_COLUMNS = 2**22
# Empty cells that a spreadsheet adds to a row; it has 2**14 columns.
MOST_PADDED = 2**15
# Empty lines above a header.
MOST_BEFORE = 1000


@dataclass(frozen=True)
class Dialect:
    """How a table is written: what pandas must know, and the header as it stands.

    `names_rows`: as R writes it, whose header lacks the column of the rows' names.
    """

    header: list[str]
    names_rows: bool
    n_before: int
    sep: str
    quoting: Literal[0, 3]  # of the module csv: minimal, none
    encoding: str

    def open(self, path: str | PathLike[str]) -> TextIO:
        """Open the text of the table, from its first line on."""
        # The releases mix encodings: what is odd becomes U+FFFD.
        return open_text(
            path,
            encoding=self.encoding,
            errors="replace",
            newline=None,
            longest=LONGEST_ROW,
        )

    def options(self) -> dict:
        """Return the arguments of `pandas.read_csv`."""
        return {
            "sep": self.sep,
            "quoting": self.quoting,
            "header": None,
            "skiprows": self.n_before + 1,
            "index_col": False,
            "na_filter": False,
            "low_memory": False,
        }


def sniff_table(path: str | PathLike[str], wanted: Callable[[str], bool]) -> Dialect:
    """Find the header of a table, and the separator that makes most of it `wanted`."""
    encoding = look_into(path).encoding
    encoding = "utf-8" if encoding == "cp1252" else encoding
    n_before, header, first = 0, "", ""
    draft = Dialect([], False, 0, ",", csv.QUOTE_NONE, encoding)
    with draft.open(path) as file:
        for line in file:
            if header:
                first = line.rstrip("\n")
                break
            if line.strip(BLANKS + ",;") and not line.lower().startswith("sep="):
                header = line.rstrip("\n")
            elif n_before < MOST_BEFORE:
                n_before += 1
            else:
                raise CorruptFileError(
                    path, "", f"its first {MOST_BEFORE:,} lines are empty"
                )

    def worth(sep: str) -> tuple[int, int]:
        if sep == "|" and first and sep not in first:
            return 0, 0  # the bars of a size, as |logFC|
        cells = _cells(header, sep)
        return sum(wanted(_name(cell, wanted)) for cell in cells), len(cells)

    sep = max(SEPARATORS, key=worth)
    cells = _cells(header, sep)
    row = _cells(first, sep)
    names_rows = len(row) == len(cells) + 1 and all(
        line[-1].strip(BLANKS) for line in (cells, row)
    )
    # LINCS's own tables have single quotation marks in names.
    quoted = sep != "\t" or all(len(c) > 1 and c[0] == c[-1] == '"' for c in cells if c)
    return Dialect(
        header=[*[""][: int(names_rows)], *(clean(cell) for cell in cells)],
        names_rows=names_rows,
        n_before=n_before,
        sep=sep,
        quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
        encoding=encoding,
    )


def _cells(line: str, sep: str) -> list[str]:
    if line.count(sep) >= MOST_COLUMNS:
        raise ValueError(f"a row has more than {MOST_COLUMNS:,} cells")
    if sep == "\t" or not line:
        return line.split(sep)
    try:
        return next(csv.reader([line], delimiter=sep))
    except csv.Error:  # of a longer field than a table by that separator has
        return [line]


def csv_rows(
    path: str | PathLike[str], file: TextIO, dialect: Dialect
) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of each row; one that goes on in the next line is an error.

    A quotation mark that is left open would swallow the rows behind it.
    """
    number, is_open, last = 0, False, ""

    def lines() -> Iterator[str]:
        nonlocal number, is_open, last
        for line in chain(file, [None]):
            if is_open:
                raise CorruptFileError(
                    path,
                    f"line {number:,}",
                    "a cell goes over several lines, which is a quotation mark left "
                    f"open, or a line break: {last[:60]!r}",
                )
            if line is not None:
                number, is_open, last = number + 1, True, line
                yield line

    reader = csv.reader(lines(), delimiter=dialect.sep, quoting=dialect.quoting)
    try:
        for row in reader:
            is_open = False
            yield number, row
    except csv.Error as error:
        raise CorruptFileError(path, f"line {number:,}", str(error)) from error


def _name(cell: str, wanted: Callable[[str], bool]) -> str:
    """Return the name that a cell of a header stands for: blanks, quotes and case."""
    name = clean(cell)
    return name.lower() if not wanted(name) and wanted(name.lower()) else name


def read_table(path: str | PathLike[str], keys: Sequence[str]) -> pd.DataFrame:
    """Read the columns of a table that have a meaning here, as text.

    The table is separated by tabs, commas or semicolons, and may be gzipped. It is
    indexed by the first of `keys` that it has; to have none is an error.
    """
    with reading(path):
        dialect = sniff_table(path, _wanted(keys))
        _check_header(path, dialect, keys)
        options = _options(dialect, keys, _width(path, dialect))
        with dialect.open(path) as file:
            table = pd.read_csv(file, **options | {"dtype": str})
    return _finish(table, path, dialect, keys)


def table_parts(
    path: str | PathLike[str], keys: Sequence[str]
) -> Iterator[pd.DataFrame]:
    """Read a table as `read_table` does, in parts, with categories for texts.

    So the memory is that of one part, however many rows there are.
    """
    with reading(path):
        dialect = sniff_table(path, _wanted(keys))
        _check_header(path, dialect, keys)
        options = _options(dialect, keys, _width(path, dialect))
        file = dialect.open(path)
    with file:
        with reading(path):
            reader = pd.read_csv(file, chunksize=PART_ROWS, **options)
        while True:
            with reading(path):
                part = next(reader, None)
            if part is None:
                break
            yield _finish(part, path, dialect, keys)


def _wanted(keys: Sequence[str]) -> Callable[[str], bool]:
    return lambda name: name in keys or is_known(name)


def _options(dialect: Dialect, keys: Sequence[str], width: int) -> dict:
    wanted = _wanted(keys)
    names = [_name(cell, wanted) for cell in dialect.header]
    chosen = [i for i, name in enumerate(names) if wanted(name)]
    return {
        "names": range(width),
        "usecols": chosen,
        "dtype": {i: "object" if names[i] in keys else "category" for i in chosen},
        **dialect.options(),
    }


def _width(path: str | PathLike[str], dialect: Dialect) -> int:
    """Return the most cells of a row; check that rows are as long as the header.

    A longer row is an error, unless a spreadsheet padded it; pandas would cut it. A
    shorter one is told: an editor may have cut empty cells off its end.
    """
    n, widest = len(dialect.header), len(dialect.header)
    short = []
    for number, size, rest in _row_sizes(path, dialect):
        widest = max(widest, size)
        if size > n + MOST_PADDED or (size > n and rest.strip(BLANKS)):
            raise CorruptFileError(
                path,
                f"line {number:,}",
                f"it has {size:,} cells, where the header has {n:,}",
            )
        if size < n:
            short.append(number)
    if short:
        told = (
            f"{os.fspath(path)!r}: {len(short):,} rows have fewer cells than the "
            f"header, which has {n}: lines {first_few(short, n=5)}"
        )
        if dialect.names_rows:
            raise ValueError(f"{told}.")
        warnings.warn(
            f"{told}. What is missing at their end is taken for empty.",
            DataWarning,
            stacklevel=2,
        )
    return widest


def _row_sizes(
    path: str | PathLike[str], dialect: Dialect
) -> Iterator[tuple[int, int, str]]:
    """Yield number, cells and what is beyond the header of each row that is filled."""
    n = len(dialect.header)
    with dialect.open(path) as file:
        if dialect.quoting == csv.QUOTE_NONE:
            for number, line in enumerate(file, 1):
                size = line.count(dialect.sep) + 1
                if number <= dialect.n_before + 1 or not line.strip(BLANKS):
                    continue
                rest = "" if size <= n else line.split(dialect.sep, n)[-1]
                yield number, size, rest
            return
        for number, row in csv_rows(path, file, dialect):
            if number > dialect.n_before + 1 and any(row):
                yield number, len(row), "".join(row[n:])


def _check_header(
    path: str | PathLike[str], dialect: Dialect, keys: Sequence[str]
) -> None:
    names = [_name(cell, _wanted(keys)) for cell in dialect.header]
    if not set(keys) & set(names):
        raise ValueError(
            f"{os.fspath(path)!r} has none of the columns {', '.join(keys)}. Its "
            f"header, read as separated by {SEPARATORS[dialect.sep]}, is "
            f"{first_few(dialect.header)}."
        )
    wanted = _wanted(keys)
    again = {name for name, n in Counter(names).items() if n > 1 and wanted(name)}
    if again:
        raise ValueError(
            f"{os.fspath(path)!r} has the column {first_few(sorted(again))} more than "
            "once."
        )


def _finish(
    table: pd.DataFrame,
    path: str | PathLike[str],
    dialect: Dialect,
    keys: Sequence[str],
) -> pd.DataFrame:
    wanted = _wanted(keys)
    names = [_name(cell, wanted) for cell in dialect.header]
    table = table.set_axis([names[int(i)] for i in table.columns], axis=1)
    return index_by_key(table, keys, repr(os.fspath(path)))


def index_by_key(table: pd.DataFrame, keys: Sequence[str], name: str) -> pd.DataFrame:
    """Index a table by the first of `keys` that it has; `name` is for the error."""
    key = next((key for key in keys if key in table), None)
    if key is None:
        raise ValueError(
            f"{name} has none of the columns {', '.join(keys)}. "
            f"Got {first_few(table.columns)}."
        )
    ids = [
        entry.strip(BLANKS) if isinstance(entry, str) else clean(entry)
        for entry in table[key]
    ]
    return table.set_index(np.array(ids, dtype=object))
