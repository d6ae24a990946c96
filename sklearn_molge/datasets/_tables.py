"""Tables of text files: separator, encoding and header recognised, read in parts."""

import csv
import gzip
import os
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import TextIO

import numpy as np
import pandas as pd

from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._columns import is_known
from sklearn_molge.datasets._texts import clean

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
    """How a table is written: what pandas must know, and the header as it stands."""

    header: list[str]
    n_before: int
    sep: str
    quoting: int
    encoding: str
    compression: str | None

    def options(self) -> dict:
        """Return the arguments of `pandas.read_csv`."""
        return {
            "sep": self.sep,
            "quoting": self.quoting,
            "encoding": self.encoding,
            "compression": self.compression,
            "skiprows": self.n_before,
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
    n_before, line = 0, ""
    with open_text(path, encoding, packed=packed, errors="replace") as file:
        for line in file:
            if line.strip(BLANKS + ",;") and not line.lower().startswith("sep="):
                break
            n_before += 1
    line = line.rstrip("\r\n")

    def worth(sep: str) -> tuple[int, int]:
        cells = _cells(line, sep)
        return sum(wanted(_name(cell, wanted)) for cell in cells), len(cells)

    sep = max(SEPARATORS, key=worth)
    cells = _cells(line, sep)
    # LINCS's own tables have single quotation marks in names.
    quoted = sep != "\t" or all(len(c) > 1 and c[0] == c[-1] == '"' for c in cells if c)
    return Dialect(
        header=[clean(cell) for cell in cells],
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
        table = pd.read_csv(path, **_options(dialect, keys) | {"dtype": str})
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
        reader = pd.read_csv(path, chunksize=PART_ROWS, **_options(dialect, keys))
    with reader:
        while True:
            with _reading(path):
                part = next(reader, None)
            if part is None:
                break
            yield _finish(part, path, dialect, keys)


def _wanted(keys: Sequence[str]) -> Callable[[str], bool]:
    return lambda name: name in keys or is_known(name)


def _options(dialect: Dialect, keys: Sequence[str]) -> dict:
    wanted = _wanted(keys)
    kinds: defaultdict = defaultdict(lambda: "category")
    kinds.update(
        (cell, "object")
        for cell in (*dialect.header, *(f'"{cell}"' for cell in dialect.header))
        if _name(cell, wanted) in keys
    )
    return {
        "dtype": kinds,
        "usecols": lambda cell: wanted(_name(cell, wanted)),
        **dialect.options(),
    }


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
    table = table.rename(columns=lambda cell: _name(cell, wanted))
    if dialect.quoting != csv.QUOTE_NONE:
        _check_one_line(table, path)
    return index_by_key(table, keys, repr(os.fspath(path)))


def _check_one_line(table: pd.DataFrame, path: str | PathLike[str]) -> None:
    for name, column in table.items():
        categorical = isinstance(column.dtype, pd.CategoricalDtype)
        for entry in column.cat.categories if categorical else column:
            if "\n" in str(entry):
                raise ValueError(
                    f"{os.fspath(path)!r}: a cell of column {name!r} goes over several "
                    "lines, which is a quotation mark left open, or a line break in a "
                    f"cell: {str(entry)[:60]!r}."
                )


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
