"""Readers of files of molecules, one function a format.

A reader is a function of the path, the columns of SMILES and names, and the row to
begin with. It checks the first lines of the file when it is called, and returns an
iterator over pairs of SMILES and name. Written below :func:`reader`, it is known to
:class:`~sklearn_molge.library.MoleculeFile` by its name and its endings.
"""

import bz2
import csv
import gzip
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from sklearn_molge._utils.optional import import_optional

__all__ = ["FORMATS", "OPENERS", "Column", "Format", "Rows", "format_of", "reader"]

Column = str | int | None
# "all", or the names of further columns.
Extra = Sequence[str] | str | None
# SMILES, name, and the values of the further columns.
Rows = Iterator[tuple]

OPENERS: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open}
# A table where the first line names a column of SMILES, lines of SMILES otherwise.
_SNIFFED = (".txt", ".smi", ".smiles", ".cxsmiles", ".ism")
_DELIMITERS = {"csv": ",", "tsv": "\t"}
_PARQUET_ROWS = 16_384  # that are decoded at a time

# Lower case, the most telling first.
_SMILES_COLUMNS = (
    *("smiles", "canonical_smiles", "isomeric_smiles", "canonical smiles"),
    *("cxsmiles", "smi", "structure"),
)
_NAME_COLUMNS = (
    *("name", "cmap_name", "pert_iname", "compound_name", "pref_name", "title"),
    *("_name", "pert_id", "chembl_id", "molecule_chembl_id", "zinc_id", "zincid"),
    *("catalog_id", "compound_id", "idnumber", "cid", "id"),
)


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
    """

    rows: Rows
    columns: tuple[str, ...] = ()
    smiles: Column = None
    name: Column = None
    extra: tuple[str, ...] = ()


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


def format_of(path: Path, smiles_column: Column) -> str:
    """Tell the format by the ending, and where that is not enough by the first line.

    Raises
    ------
    ValueError
        If the ending is unknown.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in OPENERS:
        suffixes.pop()
    suffix = suffixes[-1] if suffixes else ""
    for name, kind in FORMATS.items():
        if suffix in kind.suffixes:
            return name
    if suffix in _SNIFFED:
        return _sniff(path, smiles_column)
    raise ValueError(
        f"{path}: the format must be given as one of {list(FORMATS)}, since it cannot "
        f"be told from the ending {suffix!r}."
    )


def _sniff(path: Path, smiles_column: Column) -> str:
    """Tell a table from lines of SMILES by the first line."""
    with open_text(path) as file:
        first = file.readline().rstrip("\r\n")
    for name, delimiter in _DELIMITERS.items():
        columns = first.split(delimiter)
        if len(columns) == 1:
            continue
        if isinstance(smiles_column, int) or smiles_column in columns:
            return name
        if any(map(_is_smiles_column, columns)):
            return name
    return "smi"


def open_text(path: Path) -> TextIO:
    r"""Open a text, unpacking it on the way; odd bytes stay visible as ``\xe9``."""
    opener = OPENERS.get(path.suffix.lower(), open)
    return io.TextIOWrapper(
        opener(path, "rb"), encoding="utf-8-sig", errors="backslashreplace", newline=""
    )


# Which columns of a table hold the SMILES and the names.


def find_columns(
    path: object, columns: Sequence[str], smiles: Column, name: Column
) -> tuple[int, int | None]:
    """Return the places of the SMILES and of the names (None if there are none).

    Raises
    ------
    ValueError
        With the columns that are there.
    """
    place = _find(columns, _SMILES_COLUMNS) if smiles is None else _at(columns, smiles)
    if place is None:
        wanted = (
            f"a column of SMILES ({', '.join(_SMILES_COLUMNS)}); name it by "
            "smiles_column"
            if smiles is None
            else f"the column {smiles!r} of smiles_column"
        )
        raise _missing(path, columns, wanted)
    if name is None:
        has_header = not isinstance(smiles, int)
        return place, _find(columns, _NAME_COLUMNS) if has_header else None
    name_place = _at(columns, name)
    if name_place is None:
        raise _missing(path, columns, f"the column {name!r} of name_column")
    return place, name_place


def chosen_columns(
    path: object, columns: Sequence[str], extra: Extra, used: Sequence[int | None]
) -> dict[str, int]:
    """Return the places of the further columns that are asked for.

    Raises
    ------
    ValueError
        With the columns that are there.
    """
    if extra is None:
        return {}
    if extra == "all":
        return {c: at for at, c in enumerate(columns) if at not in used}
    missing = [column for column in extra if column not in columns]
    if missing:
        raise _missing(path, columns, f"the columns {missing} of columns")
    return {column: columns.index(column) for column in extra}


def plain_value(value: object) -> str | int | float | bool | None:
    """Return a value as one that JSON knows; None where it is missing."""
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    if value is None or value != value or value is pd.NA or value is pd.NaT:
        return None
    return value if isinstance(value, str | int | float | bool) else str(value)


def name_of(value: object) -> str:
    """Return a name as a text: "" where it is missing, and 2244.0 is "2244"."""
    value = plain_value(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def _is_smiles_column(column: str) -> bool:
    return column.strip().lower() in _SMILES_COLUMNS


def _find(columns: Sequence[str], known: Sequence[str]) -> int | None:
    lower = [column.strip().lower() for column in columns]
    return next((lower.index(name) for name in known if name in lower), None)


def _at(columns: Sequence[str], column: str | int) -> int | None:
    if isinstance(column, str):
        return columns.index(column) if column in columns else None
    return column if 0 <= column < len(columns) else None


def _missing(path: object, columns: Sequence[str], wanted: str) -> ValueError:
    return ValueError(f"{path}: the table must have {wanted}. Got {list(columns)}.")


# Lines of SMILES


@reader("smi", columns="none")
def read_smi(path: Path, smiles: Column, name: Column, start: int) -> Rows:
    """Read a SMILES a line, and behind white space the name.

    A first line that begins with the name of a column of SMILES is a header. Empty
    lines and lines that begin with "#" are no rows.
    """
    with open_text(path) as file:
        yield from map(_split_line, islice(_smiles_lines(file), start, None))


def _smiles_lines(file: TextIO) -> Iterator[str]:
    is_first = True
    for line in file:
        if line.isspace() or line.startswith("#"):
            continue
        if not (is_first and _is_smiles_column(line.split()[0])):
            yield line
        is_first = False


def _split_line(line: str) -> tuple[str, str]:
    smiles, *rest = line.split(maxsplit=1)
    name = rest[0].rstrip() if rest else ""
    if name.startswith("|") and "|" in name[1:]:  # ChemAxon's extension of SMILES
        extension, _, name = name[1:].partition("|")
        smiles = f"{smiles} |{extension}|"
    return smiles, name.strip()


# Tables of text


@reader("csv", ".csv", columns="named or numbered")
def read_csv(
    path: Path, smiles: Column, name: Column, start: int, extra: Extra = None
) -> Table:
    """Read a table separated by commas; fields may be in double quotes."""
    return _read_table(path, smiles, name, start, extra, delimiter=",")


@reader("tsv", ".tsv", ".tab", columns="named or numbered")
def read_tsv(
    path: Path, smiles: Column, name: Column, start: int, extra: Extra = None
) -> Table:
    """Read a table separated by tabs.

    A quote in a name is a character like any, as in LINCS's tables.
    """
    return _read_table(
        path, smiles, name, start, extra, delimiter="\t", quoting=csv.QUOTE_NONE
    )


def _read_table(
    path: Path, smiles: Column, name: Column, start: int, extra: Extra, **dialect: Any
) -> Table:
    with open_text(path) as file:
        columns = next(csv.reader(file, **dialect), [])
    smiles_at, name_at = find_columns(path, columns, smiles, name)
    others = chosen_columns(path, columns, extra, (smiles_at, name_at))
    n_passed = start + (not isinstance(smiles, int))  # by number: there is no header

    def rows() -> Rows:
        with open_text(path) as file:
            table = filter(None, csv.reader(file, **dialect))  # an empty line is no row
            for row in islice(table, n_passed, None):
                yield tuple([_cell(row, at) for at in places])

    places = (smiles_at, name_at, *others.values())
    return _table(rows(), columns, places[:2], others)


def _table(
    rows: Rows,
    columns: Sequence[str],
    places: Sequence[int | None],
    others: Iterable[str],
) -> Table:
    used = [None if at is None else columns[at] for at in places]
    return Table(rows, tuple(columns), *used, tuple(others))


def _cell(row: list[str], at: int | None) -> str:
    return "" if at is None or at >= len(row) else row[at]


# Parquet


def _open_parquet(path: Path) -> Any:
    parquet = import_optional(
        "pyarrow.parquet", extra="parquet", needed_by=f"{path}, a Parquet file,"
    )
    return parquet.ParquetFile(path)


def _count_parquet(path: Path) -> int:
    with _open_parquet(path) as file:
        return file.metadata.num_rows


@reader("parquet", ".parquet", ".pq", count=_count_parquet)
def read_parquet(
    path: Path, smiles: Column, name: Column, start: int, extra: Extra = None
) -> Table:
    """Read two columns, from the row group that holds row `start` on."""
    with _open_parquet(path) as file:
        columns = file.schema_arrow.names
    smiles_at, name_at = find_columns(path, columns, smiles, name)
    wanted = [columns[at] for at in (smiles_at, name_at) if at is not None]
    others = list(chosen_columns(path, columns, extra, (smiles_at, name_at)))

    def rows() -> Rows:
        with _open_parquet(path) as file:
            sizes = [
                file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)
            ]
            ends = np.cumsum(sizes)
            first = int(np.searchsorted(ends, start, side="right"))
            skip = start - int(ends[first - 1]) if first else start
            groups = list(range(first, len(sizes)))
            read = list({*wanted, *others})
            for part in file.iter_batches(_PARQUET_ROWS, groups, read):
                rest = part.slice(min(skip, len(part)))
                skip -= len(part) - len(rest)
                texts = [list(map(name_of, rest.column(c).to_pylist())) for c in wanted]
                if name_at is None:
                    texts.append([""] * len(rest))
                values = [
                    list(map(plain_value, rest.column(c).to_pylist())) for c in others
                ]
                yield from zip(*texts, *values, strict=True)

    return _table(rows(), columns, (smiles_at, name_at), others)


# SDF


@reader("sdf", ".sdf", ".sd")
def read_sdf(
    path: Path, smiles: Column, name: Column, start: int, extra: Extra = None
) -> Table:
    """Read structures, of which SMILES are written, or data fields.

    The name is the field `name`, "_Name" being the title line; by default the title,
    and where that is empty the first known field.
    """
    first = next(_records(path), None)
    if first is None:
        raise ValueError(f"{path}: the file has no record.")
    known = list(_fields(first))
    for parameter, field in (("smiles_column", smiles), ("name_column", name)):
        if field is not None and field not in known:
            raise ValueError(
                f"{path}: {parameter} must be a field of the records. Got {field!r}; "
                f"the first record has {known}."
            )

    others = list(chosen_columns(path, known, extra, (0,)))

    def rows() -> Rows:
        for record in islice(_records(path), start, None):
            fields = _fields(record)
            title = _name_of(fields) if name is None else fields.get(str(name), "")
            if smiles is None:
                text = _smiles_of(record, title)
            else:
                text = fields.get(str(smiles), "")
            yield text, title, *(fields.get(field, "") for field in others)

    return Table(rows(), tuple(known), smiles, name, tuple(others))


def _records(path: Path) -> Iterator[list[str]]:
    with open_text(path) as file:
        record: list[str] = []
        for line in file:
            if line.startswith("$$$$"):
                yield record
                record = []
            else:
                record.append(line.rstrip("\r\n"))
        if any(map(str.strip, record)):  # the last one may lack its end
            yield record


def _fields(record: list[str]) -> dict[str, str]:
    """Return the title and the first line of each data field."""
    fields = {"_Name": record[0].strip() if record else ""}
    for i, line in enumerate(record):
        if line.startswith(">") and "<" in line:
            name = line[line.index("<") + 1 : line.rfind(">")]
            fields[name] = record[i + 1].strip() if i + 1 < len(record) else ""
    return fields


def _name_of(fields: dict[str, str]) -> str:
    known = {field.lower(): value for field, value in fields.items()}
    names = (known.get(name, "") for name in ("_name", *_NAME_COLUMNS))
    return next(filter(None, names), "")


def _smiles_of(record: list[str], name: str) -> str:
    """Write the structure as SMILES; a text that is no SMILES if it cannot be read."""
    end = next((i for i, line in enumerate(record) if line.startswith("M  END")), None)
    block = record if end is None else record[: end + 1]
    with BlockLogs():  # RDKit prints each error; the row is reported as bad
        try:
            mol = Chem.MolFromMolBlock("\n".join(block) + "\n")
        except RuntimeError:  # of a counts line that cannot be
            mol = None
        if mol is None:
            return f"unreadable record {name!r}"
        return Chem.MolToSmiles(mol)
