"""Tables of text files: separator, encoding and header recognised, read in parts."""

import csv
import gzip
import os
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Literal, TextIO

import numpy as np
import pandas as pd

from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._columns import is_known
from sklearn_molge.datasets._texts import clean
from sklearn_molge.exceptions import DataWarning

__all__ = [
    "index_by_key",
    "open_text",
    "read_table",
    "sniff_encoding",
    "sniff_table",
    "table_parts",
]

# Rows of a table of profiles that are held as text at a time.
PART_ROWS = 2**16
SEPARATORS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars"}
BLANKS = ' \t\r\n\xa0\ufeff\u200b"'
GZIP_MAGIC = b"\x1f\x8b"
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


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
    compression: str | None

    def options(self) -> dict:
        """Return the arguments of `pandas.read_csv`."""
        return {
            "sep": self.sep,
            "quoting": self.quoting,
            "encoding": self.encoding,
            "compression": self.compression,
            "header": None,
            "skiprows": self.n_before + 1,
            "index_col": False,
            "na_filter": False,
            "encoding_errors": "replace",
            "low_memory": False,
        }


def sniff_encoding(path: str | PathLike[str]) -> tuple[str, bool]:
    """Return the encoding that the first bytes tell, and whether it is gzipped."""
    with open(path, "rb") as file:
        start = file.read(2)
    packed = start == GZIP_MAGIC
    if packed:
        with gzip.open(path, "rb") as unpacked:
            start = unpacked.read(2)
    return ("utf-16" if start in UTF16_MARKS else "utf-8-sig"), packed


@contextmanager
def open_text(
    path: str | PathLike[str], encoding: str, *, packed: bool, errors: str = "strict"
) -> Iterator[TextIO]:
    """Open a text file, gzipped or not."""
    opener: Callable = gzip.open if packed else open
    with opener(path, "rt", encoding=encoding, errors=errors, newline=None) as text:
        yield text


def sniff_table(path: str | PathLike[str], wanted: Callable[[str], bool]) -> Dialect:
    """Find the header of a table, and the separator that makes most of it `wanted`."""
    encoding, packed = sniff_encoding(path)
    packed = packed or os.fspath(path).lower().endswith(".gz")
    n_before, header, first = 0, "", ""
    with open_text(path, encoding, packed=packed, errors="replace") as file:
        for line in file:
            if header:
                first = line.rstrip("\r\n")
                break
            if line.strip(BLANKS + ",;") and not line.lower().startswith("sep="):
                header = line.rstrip("\r\n")
            else:
                n_before += 1

    def worth(sep: str) -> tuple[int, int]:
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
        compression="gzip" if packed else None,
    )


def _cells(line: str, sep: str) -> list[str]:
    if sep == "\t" or not line:
        return line.split(sep)
    return next(csv.reader([line], delimiter=sep))


def _name(cell: str, wanted: Callable[[str], bool]) -> str:
    """Return the name that a cell of a header stands for: blanks, quotes and case."""
    name = clean(cell)
    return name.lower() if not wanted(name) and wanted(name.lower()) else name


def read_table(path: str | PathLike[str], keys: Sequence[str]) -> pd.DataFrame:
    """Read the columns of a table that have a meaning here, as text.

    The table is separated by tabs, commas or semicolons, and may be gzipped. It is
    indexed by the first of `keys` that it has; to have none is an error.
    """
    with _reading(path):
        dialect = sniff_table(path, _wanted(keys))
        _check_header(path, dialect, keys)
        options = _options(dialect, keys, _width(path, dialect))
        table = pd.read_csv(path, **options | {"dtype": str})
    return _finish(table, path, dialect, keys)


def table_parts(
    path: str | PathLike[str], keys: Sequence[str]
) -> Iterator[pd.DataFrame]:
    """Read a table as `read_table` does, in parts, with categories for texts.

    So the memory is that of one part, however many rows there are.
    """
    with _reading(path):
        dialect = sniff_table(path, _wanted(keys))
        _check_header(path, dialect, keys)
        options = _options(dialect, keys, _width(path, dialect))
        reader = pd.read_csv(path, chunksize=PART_ROWS, **options)
    with reader:
        while True:
            with _reading(path):
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
        if size > n and rest.strip(BLANKS):
            raise ValueError(
                f"Cannot read the table {os.fspath(path)!r}: line {number} has {size} "
                f"cells, where the header has {n}."
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
    n, packed = len(dialect.header), dialect.compression is not None
    with open_text(path, dialect.encoding, packed=packed, errors="replace") as file:
        if dialect.quoting == csv.QUOTE_NONE:
            for number, line in enumerate(file, 1):
                size = line.count(dialect.sep) + 1
                if number <= dialect.n_before + 1 or not line.strip(BLANKS):
                    continue
                rest = "" if size <= n else line.split(dialect.sep, n)[-1]
                yield number, size, rest
            return
        reader = csv.reader(file, delimiter=dialect.sep)
        for row in reader:
            lines = [cell for cell in row if "\n" in cell]
            if lines:
                raise ValueError(
                    f"Cannot read the table {os.fspath(path)!r}: a cell that ends in "
                    f"line {reader.line_num} goes over several lines, which is a "
                    f"quotation mark left open, or a line break: {lines[0][:60]!r}."
                )
            if reader.line_num > dialect.n_before + 1 and any(row):
                yield reader.line_num, len(row), "".join(row[n:])


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
    again = {name for name in names if names.count(name) > 1 and _wanted(keys)(name)}
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


@contextmanager
def _reading(path: str | PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, pd.errors.ParserError) as error:
        raise ValueError(f"Cannot read the table {str(path)!r}: {error}") from error
    except UnicodeError as error:
        raise ValueError(f"Cannot read the table {str(path)!r}: {error}") from error


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
