"""Readers of files of molecules, one function a format.

A reader is a function of the path, the columns of SMILES and names, and the row to
begin with. It checks the first lines of the file when it is called, and returns an
iterator over pairs of SMILES and name, or a :class:`Table` that can tell more. Written
below :func:`reader`, it is known to :class:`~sklearn_molge.library.MoleculeFile` by its
name and its endings.
"""

import csv
import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from operator import length_hint
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from sklearn_molge._files.text import (
    LONGEST_LINE,
    inner_name,
    look_into,
    open_text,
    split_member,
)
from sklearn_molge._utils.optional import import_optional
from sklearn_molge.exceptions import CorruptFileError, LibraryWarning
from sklearn_molge.library._columns import (
    N_SAMPLED,
    Column,
    Extra,
    chosen_columns,
    distinct_names,
    find_columns,
    find_name,
    is_missing,
    is_smiles_column,
    name_of,
    plain_value,
    readable_share,
)
from sklearn_molge.library._opening import refuse_foreign
from sklearn_molge.molecules import parse_smiles

__all__ = [
    "FORMATS",
    "Column",
    "Format",
    "Layout",
    "Rows",
    "Table",
    "format_of",
    "open_text",
    "reader",
]

# SMILES, name, and the values of the further columns.
Rows = Iterator[tuple]

# A table where the first line names a column of SMILES, lines of SMILES otherwise.
_SNIFFED = (".txt", ".smi", ".smiles", ".cxsmiles", ".ism", ".can", ".csv", ".tsv")
_DELIMITERS = {"csv": ",;\t|", "tsv": "\t,;|"}  # the usual one first
_HALF = 0.5
_BLOCK = 2**15  # letters of a table that are looked through at a time
_N_NOTES = 30  # lines of notes above a header
_N_RECORDS = 100  # whose fields are looked at
_PARQUET_ROWS = 16_384  # that are decoded at a time
# In a row: a single zero byte makes one bad entry, a lost block takes line ends away.
_N_ZEROS = 8
# Letters of a record of an SDF: with pictures as text in its fields it has a few MB.
_LONGEST_RECORD = 2**26
# Of a structure: a thousand atoms and their bonds are 2,000. RDKit writes a chain of
# 2,000 atoms as SMILES in 0.1 s, and crashes at 20,000.
_MOST_LINES = 20_000
_MOST_ATOMS = 2_000


@dataclass(frozen=True)
class Table:
    """What a reader found.

    Attributes
    ----------
    rows : iterator of tuples
        SMILES, name, and the values of the columns in `extra`.
    columns : tuple of str
        All columns of the file.
    smiles, name : str, int or None
        Which of them are read; None is what the format has for it.
    extra : tuple of str
        The further ones.
    line : callable or None
        Tells the line of the file on which the last row began.
    separator : str or None
        What stands between the columns.
    """

    rows: Rows
    columns: tuple[str, ...] = ()
    smiles: Column = None
    name: Column = None
    extra: tuple[str, ...] = ()
    line: Callable[[], int] | None = None
    separator: str | None = None


Read = Callable[..., Table | Rows]


@dataclass(frozen=True)
class Format:
    """A kind of file.

    Attributes
    ----------
    suffixes : tuple of str
        Endings of its files.
    read : callable
        The reader.
    columns : {"none", "named", "named or numbered"}
        How the columns of SMILES and names may be given.
    count : callable or None
        Tells the number of rows of a path, where that is cheap.
    """

    suffixes: tuple[str, ...]
    read: Read
    columns: str
    count: Callable[[Path], int] | None


FORMATS: dict[str, Format] = {}


def reader(
    name: str,
    *suffixes: str,
    columns: str = "named",
    count: Callable[[Path], int] | None = None,
) -> Callable[[Read], Read]:
    """Register the function below as the reader of a format; see :class:`Format`."""

    def register(read: Read) -> Read:
        FORMATS[name] = Format(suffixes, read, columns, count)
        return read

    return register


@dataclass(frozen=True)
class Layout:
    """The format of a file, and its columns where they have no header."""

    format: str
    smiles: Column = None
    name: Column = None


def format_of(path: Path, smiles_column: Column) -> Layout:
    """Tell the format by the ending, and where that is not enough by the content.

    Raises
    ------
    ValueError
        If the ending is unknown, or the file is of a kind that is not read.
    """
    suffix = inner_name(path).suffix.lower()
    with open(split_member(path)[0], "rb") as file:
        if file.read(4) == b"PAR1":
            return Layout("parquet")
    if suffix in _SNIFFED:
        return _sniff(path, smiles_column, suffix)
    for name, kind in FORMATS.items():
        if suffix in kind.suffixes:
            return Layout(name)
    if suffix in (".xlsx", ".xls", ".ods", ".json"):
        raise ValueError(
            f"{path}: {suffix} is not read; give pandas.read_"
            f"{'json' if suffix == '.json' else 'excel'}(path), or save it as CSV."
        )
    raise ValueError(
        f"{path}: the format must be given as one of {list(FORMATS)}, since it cannot "
        f"be told from the ending {suffix!r}."
    )


def _sniff(path: Path, smiles_column: Column, suffix: str) -> Layout:
    """Tell tables, lines of SMILES and SDF by the first lines."""
    whole = _head_lines(path)
    lines = [line for line in whole if line.strip() and not line.startswith("#")]
    for delimiter in _DELIMITERS["csv"]:
        at = _header_at(lines, delimiter, smiles_column)
        columns = _cells(lines[at], delimiter) if lines else []
        if len(columns) > 1 and (
            isinstance(smiles_column, int) or _names_smiles(columns, smiles_column)
        ):
            return Layout(_format_by(delimiter))
    if any(map(_OF_SDF.match, whole)):
        return Layout("sdf")
    if suffix in (".csv", ".tsv"):
        return Layout(suffix[1:])
    if _smi_shares(lines)[0][0] >= _HALF:
        return Layout("smi")
    shares = [
        (readable_share(column), delimiter, at)
        for delimiter in _DELIMITERS["csv"]
        for at, column in enumerate(_columns_of(lines, delimiter))
    ]
    # The first of equal ones; what has no entry is none.
    share, delimiter, at = max(shares, key=lambda s: np.nan_to_num(s[0]), default=_NONE)
    if not share >= _HALF:
        return Layout("smi")
    first = _cells(lines[0], delimiter)
    if len(first) > at and readable_share([first[at]]) == 1:
        others = [place for place in range(len(first)) if place != at]
        return Layout(_format_by(delimiter), at, others[0] if others else None)
    return Layout(_format_by(delimiter))  # whose header is unknown


_NONE = (0.0, ",", 0)


def _format_by(delimiter: str) -> str:
    return "tsv" if delimiter == "\t" else "csv"


def _names_smiles(columns: Sequence[str], smiles: Column) -> bool:
    return smiles in columns or any(map(is_smiles_column, columns))


def _header_at(lines: Sequence[str], delimiter: str, smiles: Column) -> int:
    """Return which line is the header: the first, unless notes stand above it.

    Notes begin with "#" or "!", or have fewer fields than the header.
    """
    if isinstance(smiles, int):
        return 0
    widest = 1
    for at, line in enumerate(lines[:_N_NOTES]):
        if line.startswith(("#", "!")):
            continue
        cells = _cells(line, delimiter)
        n_filled = sum(bool(cell.strip()) for cell in cells)
        if n_filled > widest and _names_smiles(cells, smiles):
            return at
        widest = max(widest, n_filled)
    return 0


def _head_lines(path: Path) -> list[str]:
    head = look_into(path)
    refuse_foreign(path, head)
    return head.lines


def _reader_of(lines: Iterable[str], delimiter: str, quoted: bool) -> Any:
    if quoted:
        return csv.reader(lines, delimiter=delimiter)
    return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE)


def _cells(line: str, delimiter: str, *, quoted: bool = True) -> list[str]:
    try:
        cells: list[str] = next(_reader_of([line], delimiter, quoted), [])
    except csv.Error:  # of a field that is too long
        return []
    if cells:
        cells[-1] = cells[-1].rstrip("\r\n")  # within a quote that is not closed
    return cells


def _columns_of(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    """Return the columns of the first lines; none where there is but one."""
    rows = [_cells(line, delimiter) for line in lines[:N_SAMPLED]]
    n_columns = max(map(len, rows), default=0)
    if n_columns < 2:
        return []
    return [[_cell(row, at) for row in rows] for at in range(n_columns)]


# Lines of SMILES


@reader("smi", columns="none")
def read_smi(path: Path, smiles: Column, name: Column, start: int) -> Table:
    """Read a SMILES a line, and behind white space the name.

    Where the first words are no SMILES and the second or third are, as in
    ``2244<TAB>CCO``, the SMILES is there. A first line that has the name of a column of
    SMILES at this place is a header. Empty lines and lines that begin with "#" are no
    rows.
    """
    lines = [line for line in _head_lines(path) if _holds_row(line)]
    _, at, tab = _smi_shares(lines)[0]
    separator = "\t" if tab else None
    line_number = 0

    def rows() -> Rows:
        nonlocal line_number
        has_header = bool(lines) and is_smiles_column(_token(lines[0], at, separator))
        to_pass = start + has_header
        with open_text(path, n_zeros=_N_ZEROS) as file:
            for n, line in enumerate(file, 1):
                if line[0] == "#" or line.isspace():
                    continue
                if to_pass:
                    to_pass -= 1
                    continue
                line_number = n
                yield _split_line(line) if at == 0 else _pick(line, at, separator)

    return Table(rows(), line=lambda: line_number)


def _holds_row(line: str) -> bool:
    return not (line.isspace() or line.startswith("#"))


def _smi_shares(lines: Sequence[str]) -> list[tuple[float, int, bool]]:
    """Return how many SMILES there are, best first, at a place of a line.

    The first words, unless they are none.
    """
    lines = lines[: N_SAMPLED + 1]
    shares = [
        (_nan_to_one(readable_share(_token(s, 0, None) for s in lines)), 0, False)
    ]
    if shares[0][0] < _HALF:
        tab = sum("\t" in line for line in lines) > _HALF * len(lines)
        for at in (1, 2):
            tokens = (_token(s, at, "\t" if tab else None) for s in lines)
            shares.append((float(np.nan_to_num(readable_share(tokens))), at, tab))
    return sorted(shares, key=lambda share: share[0], reverse=True)


def _nan_to_one(share: float) -> float:
    return 1.0 if np.isnan(share) else share


def _token(line: str, at: int, separator: str | None) -> str:
    tokens = line.split(separator, at + 1)
    return tokens[at].strip() if at < len(tokens) else ""


def _pick(line: str, at: int, separator: str | None) -> tuple[str, str]:
    tokens = [token.strip() for token in line.split(separator)]
    others = tokens[:at] + tokens[at + 1 :]
    return _cell(tokens, at), " ".join(filter(None, others))


def _split_line(line: str) -> tuple[str, str]:
    words = line.split(None, 1)
    if len(words) == 1:
        return words[0], ""
    smiles, name = words
    if name[0] == "|" and "|" in name[1:]:  # ChemAxon's extension of SMILES
        extension, _, name = name[1:].partition("|")
        smiles = f"{smiles} |{extension}|"
    return smiles, name.strip()


# Tables of text


@reader("csv", ".csv", columns="named or numbered")
def read_csv(
    path: Path, smiles: Column, name: Column, start: int, extra: Extra = None
) -> Table:
    """Read a table separated by commas, or what else its first line shows.

    Fields may be in double quotes.
    """
    return _read_table(path, smiles, name, start, extra, "csv")


@reader("tsv", ".tsv", ".tab", columns="named or numbered")
def read_tsv(
    path: Path, smiles: Column, name: Column, start: int, extra: Extra = None
) -> Table:
    """Read a table separated by tabs, or what else its first line shows.

    A quote in a name is a character like any, as in LINCS's tables, unless the header
    or the SMILES are in quotes.
    """
    return _read_table(path, smiles, name, start, extra, "tsv")


@dataclass(frozen=True)
class _Dialect:
    """How a table is written: its header, and what a whole row is."""

    delimiter: str
    quoted: bool
    columns: list[str]
    smiles_at: int = 0

    def cells(self, line: str) -> list[str]:
        return _cells(line, self.delimiter, quoted=self.quoted)

    def read(self, lines: Iterable[str]) -> Any:
        return _reader_of(lines, self.delimiter, self.quoted)

    def is_row(self, lines: Sequence[str]) -> bool:
        """Whether lines that one quote joins are one row.

        They are not where the quote is never closed, or within a field; where the row
        has not as many fields as the header; or where a later line is a row of its own.
        """
        try:
            rows = list(csv.reader(lines, delimiter=self.delimiter, strict=True))
        except csv.Error:
            return False
        if len(rows) != 1 or len(rows[0]) != len(self.columns):
            return False
        if len(rows[0][self.smiles_at].split()) > 1:
            return False
        return not any(map(self._stands_alone, lines[1:]))

    def is_open(self, line: str) -> bool:
        """Whether a quote of a line is not closed in it."""
        table = self.read([line, ""])
        next(table)
        return table.line_num > 1

    def _stands_alone(self, line: str) -> bool:
        cells = self.cells(line)
        if line.count('"') % 2 or len(cells) != len(self.columns):
            return False
        entry = cells[self.smiles_at].strip()
        return bool(entry) and (is_missing(entry) or parse_smiles(entry) is not None)


def _read_table(
    path: Path, smiles: Column, name: Column, start: int, extra: Extra, format: str
) -> Table:
    lines = [line for line in _head_lines(path) if line.strip(" \r\n")]
    delimiter = _delimiter(lines, smiles, _DELIMITERS[format])
    n_notes = _header_at(lines, delimiter, smiles)
    lines = lines[n_notes:]
    quoted = delimiter != "\t" or _are_quoted(lines[:N_SAMPLED], delimiter)
    header = _cells(lines[0], delimiter, quoted=quoted) if lines else []
    columns = distinct_names(header)
    has_header = not isinstance(smiles, int)
    sample = [
        _cells(s, delimiter, quoted=quoted) for s in lines[has_header : N_SAMPLED + 1]
    ]
    places = find_columns(
        path, columns, smiles, name, lambda at: [_cell(row, at) for row in sample]
    )
    others = chosen_columns(path, columns, extra, places)
    dialect = _Dialect(delimiter, quoted, columns, places[0])
    place = _Place()

    def rows() -> Rows:
        to_pass = start + has_header + n_notes
        told = False
        with open_text(path, n_zeros=_N_ZEROS) as file:
            for numbers, block in _blocks_of(path, file, dialect):
                n = min(to_pass, len(block))
                to_pass -= n
                told = told or _warn_wide(path, numbers[n:], block[n:], len(columns))
                first, names, *further = (
                    _column(block[n:], at) for at in (*places, *others.values())
                )
                place.numbers, place.left = numbers[n:], iter(first)
                names = [name.strip() for name in names]
                yield from zip(place.left, names, *further, strict=True)

    names: list[Column] = list(places)
    if has_header:
        names = [None if at is None else columns[at] for at in places]
    return Table(
        rows(), tuple(columns), names[0], names[1], tuple(others), place.line, delimiter
    )


def _delimiter(lines: Sequence[str], smiles: Column, delimiters: str) -> str:
    """Choose what separates the columns: by the header, or where SMILES stand."""
    if not lines:
        return delimiters[0]

    def fitness(delimiter: str) -> tuple:
        header = _cells(lines[_header_at(lines, delimiter, smiles)], delimiter)
        if isinstance(smiles, int):
            columns = _columns_of(lines, delimiter)
            share = readable_share(columns[smiles]) if smiles < len(columns) else 0
            return float(np.nan_to_num(share)), len(header)
        named = smiles in header if smiles else any(map(is_smiles_column, header))
        return len(header) > 1 and named, len(header)

    return max(delimiters, key=fitness)  # the first of equal ones


def _are_quoted(lines: Sequence[str], delimiter: str) -> bool:
    """Whether quotes of a table with tabs are more than characters of names."""
    rows = [_cells(line, delimiter, quoted=False) for line in lines]
    cells = [
        all(re.fullmatch(r'".*"|', cell) for cell in row) and any(row) for row in rows
    ]
    if cells and cells[0]:
        return True
    by_column = zip(*rows, strict=False)
    return any(
        sum(bool(re.fullmatch(r'"[^"]*"', cell)) for cell in column[1:])
        > _HALF * max(1, len(column) - 1)
        for column in by_column
    )


class _Place:
    """Where in a file a table is read: lines of the rows, and what is left of them."""

    def __init__(self) -> None:
        self.numbers: Sequence[int] = ()
        self.left: Iterator = iter(())

    def line(self) -> int:
        """Return the line of the last row."""
        return self.numbers[len(self.numbers) - length_hint(self.left) - 1]


def _blocks_of(
    path: Path, file: TextIO, dialect: _Dialect
) -> Iterator[tuple[Sequence[int], list[list[str]]]]:
    """Yield the rows of a table and the lines they begin on; empty lines are none."""
    n_before = 0
    while lines := file.readlines(_BLOCK):
        rows = _one_a_line(lines, dialect)
        numbers: Sequence[int] = range(n_before + 1, n_before + len(lines) + 1)
        if rows is None:
            found = list(_careful_rows(path, file, dialect, lines))
            numbers = [n_before + begin + 1 for begin, _ in found]
            rows = [row for _, row in found]
        if min(map(len, rows), default=2) < 2:
            held = [i for i, row in enumerate(rows) if len(row) > 1 or _holds_text(row)]
            numbers, rows = [numbers[i] for i in held], [rows[i] for i in held]
        yield numbers, rows
        n_before += len(lines)


def _holds_text(row: list[str]) -> bool:
    return bool(row) and not row[0].isspace()


def _one_a_line(lines: list[str], dialect: _Dialect) -> list[list[str]] | None:
    """Return the rows of some lines, None if these are not one a line."""
    try:
        rows = list(dialect.read(lines))
        last = dialect.read([lines[-1], ""])
        next(last)
    except csv.Error:  # a field is too long
        return None
    # The reader goes on where a quote is open.
    return rows if len(rows) == len(lines) and last.line_num == 1 else None


def _careful_rows(
    path: Path, file: TextIO, dialect: _Dialect, lines: list[str]
) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of some lines, each with the place of its first line.

    A last row may go on in the file; these lines are appended. A quote that is left
    open would swallow the rows behind it: its line is read on its own then, and a
    warning says so.
    """
    n_lines, done, begin = len(lines), 0, 0

    def more() -> Iterator[str]:
        n_letters = 0
        for line in file:
            lines.append(line)
            n_letters += len(line)
            if n_letters > LONGEST_LINE:
                row = f"the row that begins {lines[begin][:60]!r}"
                raise CorruptFileError(
                    path, row, f"it is longer than {LONGEST_LINE:,} letters"
                )
            yield line

    while done < n_lines:
        table = dialect.read(chain(lines[done:], more()))
        begin = done
        for row in _until_error(table):
            end = done + table.line_num
            is_last = end == len(lines) and end - begin == 1
            if (end - begin > 1 and not dialect.is_row(lines[begin:end])) or (
                is_last and dialect.is_open(lines[begin])
            ):
                _warn_open(path, lines[begin])
                row, end = dialect.cells(lines[begin]), begin + 1
                n_lines = 0
            yield begin, row
            begin = end
            if begin >= n_lines:
                break
        done, n_lines = begin, len(lines)


def _until_error(table: Any) -> Iterator[list[str]]:
    """Yield rows, and nothing in the place of one that an open quote makes too long."""
    n_lines = 0
    try:
        for row in table:
            yield row
            n_lines = table.line_num
    except csv.Error:
        if table.line_num - n_lines < 2:
            raise
        yield []


def _warn_open(path: Path, line: str) -> None:
    warnings.warn(
        f"{path}: a quote is opened and not closed where it should be, so its line is "
        f"read on its own: {line.strip()[:100]!r}.",
        LibraryWarning,
        stacklevel=2,
    )


def _warn_wide(
    path: Path, numbers: Sequence[int], rows: list[list[str]], n_columns: int
) -> bool:
    """Warn of the first row with more fields than the header, and say if there is."""
    if max(map(len, rows), default=0) <= n_columns:
        return False
    for number, row in zip(numbers, rows, strict=True):
        if any(cell.strip() for cell in row[n_columns:]):
            warnings.warn(
                f"{path}: line {number} has {len(row)} fields, and the header has "
                f"{n_columns}: behind a separator that is not in quotes, as in a name, "
                f"fields are in the wrong column or not read. Got {row[:5]!r}.",
                LibraryWarning,
                stacklevel=2,
            )
            return True
    return False


def _column(rows: list[list[str]], at: int | None) -> list[str]:
    if at is None:
        return [""] * len(rows)
    try:
        return [row[at] for row in rows]
    except IndexError:
        return [_cell(row, at) for row in rows]


def _cell(row: Sequence[str], at: int | None) -> str:
    return "" if at is None or at >= len(row) else row[at]


# Parquet


def _open_parquet(path: Path) -> Any:
    parquet = import_optional(
        "pyarrow.parquet", extra="parquet", needed_by=f"{path}, a Parquet file,"
    )
    return parquet.ParquetFile(path, page_checksum_verification=True)


def _count_parquet(path: Path) -> int:
    with _open_parquet(path) as file:
        return file.metadata.num_rows


@reader("parquet", ".parquet", ".pq", count=_count_parquet)
def read_parquet(
    path: Path, smiles: Column, name: Column, start: int, extra: Extra = None
) -> Table:
    """Read columns, from the row group that holds row `start` on."""
    with _open_parquet(path) as file:
        columns = file.schema_arrow.names
        if len(set(columns)) < len(columns):
            raise ValueError(
                f"{path}: columns must have distinct names. Got {columns}."
            )

        def entries(at: int) -> list:
            batches = file.iter_batches(N_SAMPLED, columns=[columns[at]])
            return next((part.column(0).to_pylist() for part in batches), [])

        smiles_at, name_at = find_columns(path, columns, smiles, name, entries)
    used = (columns[smiles_at], None if name_at is None else columns[name_at])
    others = tuple(chosen_columns(path, columns, extra, (smiles_at, name_at)))

    def rows() -> Rows:
        wanted = list({column for column in (*used, *others) if column is not None})
        for part in _parquet_parts(path, wanted, start):

            def values(column: str | None, of: Callable, part: Any = part) -> list:
                if column is None:
                    return [""] * len(part)
                listed = part.column(column).to_pylist()
                return [v if type(v) is str else of(v) for v in listed]

            texts = [values(column, name_of) for column in used]
            texts[1] = [name.strip() for name in texts[1]]
            further = (values(column, plain_value) for column in others)
            yield from zip(*texts, *further, strict=True)

    return Table(rows(), tuple(columns), *used, others)


def _parquet_parts(path: Path, columns: list[str], start: int) -> Iterator[Any]:
    with _open_parquet(path) as file:
        sizes = [
            file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)
        ]
        ends = np.cumsum(sizes)
        first = int(np.searchsorted(ends, start, side="right"))
        skip = start - int(ends[first - 1]) if first else start
        groups = list(range(first, len(sizes)))
        for part in file.iter_batches(_PARQUET_ROWS, groups, columns):
            rest = part.slice(min(skip, len(part)))
            skip -= len(part) - len(rest)
            yield rest


# SDF


@reader("sdf", ".sdf", ".sd", ".mol")
def read_sdf(
    path: Path, smiles: Column, name: Column, start: int, extra: Extra = None
) -> Table:
    """Read structures, of which SMILES are written, or data fields.

    The name is the field `name`, "_Name" being the title line; by default the title,
    and where that is empty the first known field. A value is all lines of its field.
    """
    if not any(map(_OF_SDF.match, _head_lines(path))):
        raise ValueError(
            f"{path}: the file has no record of an SDF, no line 'M  END' or '$$$$'."
        )
    given = {"smiles_column": smiles, "name_column": name}
    wanted = [str(field) for field in given.values() if field is not None]
    known = _fields_of(path, extra, wanted)
    for parameter, field in given.items():
        if field is not None and field not in known:
            raise ValueError(
                f"{path}: {parameter} must be a field of the records. Got {field!r}; "
                f"they have {known}."
            )
    used = [known.index(str(field)) for field in (smiles, name) if field is not None]
    others = chosen_columns(path, known, extra, used if name else [0, *used])
    line_number = 0

    def rows() -> Rows:
        nonlocal line_number
        with open_text(path, n_zeros=_N_ZEROS) as file:
            records = islice(_records(path, file), start, None)
            for n, record in records:
                line_number = n
                fields = _fields(record)
                title = fields["_Name"] if name is None else fields.get(str(name), "")
                if name is None and not title:
                    title = find_name(fields)
                if smiles is None:
                    text = _smiles_of(record, title)
                else:
                    text = fields.get(str(smiles), "")
                values = [fields.get(field, "") for field in others]
                yield text, title.strip(), *values

    return Table(rows(), tuple(known), smiles, name, tuple(others), lambda: line_number)


def _fields_of(path: Path, extra: Extra, wanted: Sequence[str]) -> list[str]:
    """Return the fields of the first records, or until all that are wanted are seen."""
    is_open = extra == "all"
    wanted = [*wanted, *(() if extra is None or is_open else extra)]
    known: dict[str, None] = {}
    with open_text(path, n_zeros=_N_ZEROS) as file:
        for i, (_, record) in enumerate(_records(path, file)):
            known |= dict.fromkeys(_fields(record))
            if i >= _N_RECORDS and not is_open and set(wanted) <= set(known):
                break
    return list(known)


def _records(path: Path, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the line on which each record begins, and its lines."""
    begin, end, n_letters = 1, 0, 0
    record: list[str] = []
    for line in file:
        end += 1
        n_letters += len(line)
        if n_letters > _LONGEST_RECORD:
            raise CorruptFileError(
                path,
                f"the record in line {begin:,}",
                f"it is longer than {_LONGEST_RECORD:,} letters; records end at "
                "a line '$$$$'",
            )
        if line.startswith("$$$$"):
            yield from _apart(begin, record)
            begin, record, n_letters = end + 1, [], 0
        else:
            record.append(line.rstrip("\r\n"))
    if any(map(str.strip, record)):  # the last one may lack its end
        yield from _apart(begin, record)


_OF_SDF = re.compile(r"\$\$\$\$|M  END")
# The fourth line of a record: numbers of atoms and bonds, and the version.
_COUNTS = re.compile(r"[ \d]{6}.*V[23]000\s*$")
# As most write it: a mark and the name alone.
_PLAIN_FIELD = re.compile(r">\s*(\(?\d+\)?\s*)?<[^<>]+>\s*(\(.*\)\s*)?$")


def _apart(begin: int, record: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Put the counts on the fourth line; split where a "$$$$" is missing.

    Behind that begins a structure, not a value.
    """
    counts = [i for i, line in enumerate(record) if _COUNTS.match(line)]
    first, fourth = 0, counts[0] if counts else 3
    for at in counts[1:]:
        if at - 3 > first and not record[at - 4].startswith(">"):
            yield begin + first, _aligned(record[first : at - 3], fourth)
            first, fourth = at - 3, 3
    yield begin + first, _aligned(record[first:], fourth)


def _aligned(record: list[str], counts_at: int) -> list[str]:
    if counts_at < 3:
        return [*[""] * (3 - counts_at), *record]
    return record[counts_at - 3 :] if counts_at < 6 else record


def _fields(record: list[str]) -> dict[str, str]:
    """Return the title and the data fields, of several lines with their ends.

    A value ends at an empty line, or at a line that is but the name of a next field:
    files without the empty lines exist. Of a field that comes twice, the first value
    that is not empty counts.
    """
    fields = {"_Name": record[0].strip() if record else ""}
    name: str | None = None
    value: list[str] = []
    for line in chain(record[1:], [""]):
        if line.startswith(">") and "<" in line:
            if name is None or _PLAIN_FIELD.match(line):
                _put(fields, name, value)
                name, value = line[line.index("<") + 1 : line.rfind(">")], []
                continue
        if name is None:
            continue
        if line.strip():
            value.append(line.strip())
        else:
            _put(fields, name, value)
            name, value = None, []
    return fields


def _put(fields: dict[str, str], name: str | None, value: list[str]) -> None:
    if name is not None and not fields.get(name):
        fields[name] = "\n".join(value)


def _smiles_of(record: list[str], name: str) -> str:
    """Write the structure as SMILES; a text that is no SMILES if it cannot be read."""
    end = next((i for i, line in enumerate(record) if line.startswith("M  END")), None)
    block = record if end is None else record[: end + 1]
    if len(block) > _MOST_LINES:
        return f"unreadable record {name!r} of {len(block):,} lines"
    with BlockLogs():  # RDKit prints each error; the row is reported as bad
        try:
            mol = Chem.MolFromMolBlock("\n".join(block) + "\n")
        except RuntimeError:  # of a counts line that cannot be
            mol = None
        if mol is None:
            return f"unreadable record {name!r}"
        if mol.GetNumAtoms() > _MOST_ATOMS:
            return f"unreadable record {name!r} of {mol.GetNumAtoms():,} atoms"
        return Chem.MolToSmiles(mol)
