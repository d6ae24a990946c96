"""What a library can be given as: a file, an array, or an iterable."""

import csv
import hashlib
import os
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from inspect import signature
from itertools import chain, islice
from numbers import Integral
from pathlib import Path
from typing import Protocol

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.exceptions import LibraryWarning
from sklearn_molge.library._readers import (
    FORMATS,
    Column,
    Table,
    chosen_columns,
    find_columns,
    format_of,
    name_of,
    plain_value,
)
from sklearn_molge.molecules import MISSING_SMILES

__all__ = [
    "INVALID",
    "MISSING",
    "ArraySource",
    "Batch",
    "IterableSource",
    "MoleculeFile",
    "ReadableShare",
    "Source",
    "why_unreadable",
]

# A file up to this size is counted by reading it once.
_COUNTED_BYTES = 16 * 2**20
_ENDS_BYTES = 2**20
# Below this share of molecules a library is warned of.
_READABLE = 0.9
_N_EXAMPLES = 5
# So many entries tell one iterable from another.
_N_PEEKED = 1000


@dataclass(frozen=True, eq=False)
class Batch:
    """Rows of a library that follow each other.

    Iterating gives `first_row`, `smiles` and `names`, for
    ``for first_row, smiles, names in library.iter_batches(1000)``.

    Attributes
    ----------
    first_row : int
        Number of the first row, counted as in the library: row ``first_row + i`` is
        row i of the batch, rows that are no molecule included.
    smiles, names : ndarray of shape (n_rows,), dtype=object
        Entries as they are in the library; a name that is missing is "".
    columns : dict of str to ndarray of shape (n_rows,), dtype=object
        Other columns of the library that were asked for, by their names there and in
        that order. A value is a str, int, float, bool, or None where there is none;
        tables of text and SDF hold texts only.
    """

    first_row: int
    smiles: NDArray[np.object_]
    names: NDArray[np.object_]
    columns: dict[str, NDArray[np.object_]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.smiles)

    def __iter__(self) -> Iterator:
        return iter((self.first_row, self.smiles, self.names))


MISSING = "missing"
INVALID = "not a valid SMILES"


def why_unreadable(entry: object) -> str:
    """Tell, of an entry that is no molecule, what is missing from what is wrong."""
    text = entry if isinstance(entry, str) else plain_value(entry)
    is_missing = text is None or str(text).strip().lower() in MISSING_SMILES
    return MISSING if is_missing else INVALID


@dataclass
class ReadableShare:
    """Counts, over the rows of a library that were read, those that are molecules.

    Attributes
    ----------
    n_rows, n_missing, n_invalid : int
        Rows; those without a SMILES; those whose entry is no SMILES.
    examples : list of (row, entry, reason)
        The first of those that are no SMILES.
    """

    n_rows: int = 0
    n_missing: int = 0
    n_invalid: int = 0
    examples: list[tuple[int, object, str]] = field(default_factory=list)

    def add(self, n_rows: int, bad: Iterable[tuple[int, object, str]]) -> None:
        """Count `n_rows` more rows, of which `bad` (row, entry, reason) are none."""
        self.n_rows += n_rows
        for row, entry, reason in bad:
            if reason == MISSING:
                self.n_missing += 1
            elif reason == INVALID:
                self.n_invalid += 1
                if len(self.examples) < _N_EXAMPLES:
                    self.examples.append((row, entry, reason))

    @property
    def n_good(self) -> int:
        """Rows that are molecules."""
        return self.n_rows - self.n_missing - self.n_invalid

    def check(self, source: object) -> None:
        """Refuse a library of which nothing can be read; warn of a file below 90 %.

        Raises
        ------
        ValueError
            If it has no rows, or none of them is a molecule.
        """
        what = repr(source) if isinstance(source, MoleculeFile) else "the library"
        if not self.n_rows:
            raise ValueError(f"X: {what} has no rows.")
        message = (
            f"X: {self.n_good:,} of {self.n_rows:,} rows of {what} are molecules; "
            f"{self.n_missing:,} have no SMILES and {self.n_invalid:,} have one that "
            "is not valid"
        )
        if self.examples:
            shown = first_few(self.examples, write=lambda e: f"row {e[0]}: {e[1]!r}")
            message += f" ({shown})"
        if not self.n_good:
            raise ValueError(f"{message}.")
        is_named = isinstance(source, MoleculeFile | FrameSource)
        if is_named and self.n_good < _READABLE * self.n_rows:
            warnings.warn(f"{message}.", LibraryWarning, stacklevel=2)


class Source(Protocol):
    """Rows of molecules that come in batches; their numbers never change.

    Attributes
    ----------
    n_rows : int or None
        How many there are, None if unknown.
    """

    @property
    def n_rows(self) -> int | None: ...

    def iter_batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the rows from row `start` on."""

    def fingerprint(self) -> str:
        """Return what tells this library from another one."""


class MoleculeFile:
    r"""Library of molecules in a file, read in batches.

    Parameters
    ----------
    path : path-like
        The file, also packed: ending in ``.gz`` or ``.bz2`` behind its own ending
        (Parquet packs itself).
    format : {"smi", "csv", "tsv", "parquet", "sdf"}, default=None
        None goes by the ending. A ``.txt``, ``.smi``, ``.smiles``, ``.cxsmiles`` or
        ``.ism`` is a table where its first line names a column of SMILES between tabs
        or commas, and "smi" otherwise.

        - "smi": a line holds a SMILES and, behind white space, a name. A first line
          that begins with a known name of SMILES columns is a header; empty lines and
          lines that begin with "#" are no rows.
        - "csv", "tsv": a table with a header, separated by commas (fields may be in
          double quotes) or by tabs (a quote is a character like any).
        - "parquet": needs the extra ``parquet``.
        - "sdf": SMILES are written by RDKit of the structures.
    smiles_column : str or int, default=None
        Column of the SMILES. None finds it by known names, in any case: smiles,
        canonical_smiles, isomeric_smiles, cxsmiles, smi, structure. A number, from 0,
        is the place of the column in a table without a header ("csv", "tsv"). In an
        SDF, a data field that holds SMILES, instead of the structure.
    name_column : str or int, default=None
        Column of the names. None finds it by known names, the first of: name,
        cmap_name, pert_iname, compound_name, pref_name, title, pert_id, chembl_id,
        zinc_id, catalog_id, compound_id, idnumber, cid, id; without one, names are
        empty. In an SDF the title line ("_Name"), or one of these fields.
    columns : list of str or "all", default=None
        Further columns that travel with the molecules, such as a catalogue number or a
        price: into the batches, and from there into an index and its answers. "all" is
        all but those of SMILES and names. In an SDF data fields.

    Attributes
    ----------
    format : str
        The format in use.
    n_rows : int or None
        Number of rows: as Parquet has it, counted for files up to 16 MiB, None for
        larger ones.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the format cannot be told from the ending, or there is no such column: with
        the columns that are there.
    ImportError
        If a Parquet file is given and pyarrow is not installed.

    See Also
    --------
    MoleculeIndex : Embeds a library and searches it.

    Notes
    -----
    Rows are handed out as they are: an entry that is no molecule ("-666",
    "restricted", nothing at all, or an SDF record that RDKit cannot read) keeps its
    row, and who reads the rows decides. A byte that is not UTF-8 is shown as
    ``\xe9``.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from sklearn_molge.library import MoleculeFile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "library.smi")
    ...     _ = path.write_text("CCO ethanol\nc1ccccc1 benzene\nrestricted x\n")
    ...     library = MoleculeFile(path)
    ...     for first_row, smiles, names in library.iter_batches(2):
    ...         print(first_row, smiles, names)
    0 ['CCO' 'c1ccccc1'] ['ethanol' 'benzene']
    2 ['restricted'] ['x']
    """

    @validate_params(
        {
            "path": [str, os.PathLike],
            "format": [str, None],
            "smiles_column": [str, Interval(Integral, 0, None, closed="left"), None],
            "name_column": [str, Interval(Integral, 0, None, closed="left"), None],
            "columns": [StrOptions({"all"}), "array-like", None],
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self, path, *, format=None, smiles_column=None, name_column=None, columns=None
    ):
        self.path = Path(path)
        with open(self.path, "rb"):  # says what is wrong with the path itself
            pass
        self.smiles_column = _plain(smiles_column)
        self.name_column = _plain(name_column)
        self.columns = columns if columns is None or columns == "all" else list(columns)
        with _named_errors(self.path):
            self.format = format or format_of(self.path, self.smiles_column)
            _check_columns(self.format, self.smiles_column, self.name_column)
            self._table(0)  # which looks for the columns

    def _table(self, start: int) -> Table:
        wanted = () if self.columns is None else (self.columns,)
        read = FORMATS[self.format].read
        table = read(self.path, self.smiles_column, self.name_column, start, *wanted)
        return table if isinstance(table, Table) else Table(table)

    @property
    def n_rows(self) -> int | None:
        """Number of rows, where that is cheap to find out."""
        return self._n_rows

    @cached_property
    def _n_rows(self) -> int | None:
        count = FORMATS[self.format].count
        with _named_errors(self.path):
            if count is not None:
                return count(self.path)
            if os.path.getsize(self.path) > _COUNTED_BYTES:
                return None
            return sum(1 for _ in self._table(0).rows)

    def iter_batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """Read the rows in batches; no more than one is in memory.

        Parameters
        ----------
        batch_size : int
            Number of rows of a batch.
        start : int, default=0
            Row to begin with; those before are passed over without being looked at
            (in Parquet, whole row groups are not even read).

        Yields
        ------
        batch : Batch
            `first_row`, `smiles`, `names` and `columns`, a dict of arrays. Row
            ``first_row + i`` of the file is row i of the batch.

        Raises
        ------
        ValueError
            If the file is damaged: with the row.
        """
        done = start
        with _named_errors(self.path, lambda: f" behind row {done - 1:,}"):
            table = self._table(start)
            for batch in _batches_of(table.rows, batch_size, start, table.extra):
                yield batch
                done = batch.first_row + len(batch)

    def fingerprint(self) -> str:
        """Return what tells this library from another one, quickly.

        Returns
        -------
        fingerprint : str
            A hash of the format, the columns, the file's size and its first and last
            MiB. It does not depend on the path or the time of writing; a change in the
            middle that keeps the size is not seen.
        """
        size = os.path.getsize(self.path)
        parts = [self.format, self.smiles_column, self.name_column, size]
        if self.columns is not None:
            parts.append(self.columns)
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=16)
        with open(self.path, "rb") as file:
            digest.update(file.read(_ENDS_BYTES))
            file.seek(max(size - _ENDS_BYTES, 0))
            digest.update(file.read(_ENDS_BYTES))
        return digest.hexdigest()

    def with_columns(self, columns):
        """Return the same file with further columns, where its format has any.

        Parameters
        ----------
        columns : list of str, "all" or None
            As of the class; "all" of a format without columns is none.

        Returns
        -------
        library : MoleculeFile
        """
        read = FORMATS[self.format].read
        takes_columns = len(signature(read).parameters) > 4
        if columns is None or (columns == "all" and not takes_columns):
            return self
        other = copy(self)
        other.columns = columns if columns == "all" else list(columns)
        with _named_errors(other.path):
            other._table(0)  # which looks for the columns
        return other

    def __repr__(self):
        return f"MoleculeFile({str(self.path)!r}, format={self.format!r})"


def _batches_of(
    rows: Iterable[tuple], batch_size: int, start: int, columns: Sequence[str] = ()
) -> Iterator[Batch]:
    """Gather rows, the first of which has number `start`, in batches of arrays."""
    rows = iter(rows)
    while chunk := list(islice(rows, batch_size)):
        smiles, names, *values = map(_objects, zip(*chunk, strict=True))
        yield Batch(start, smiles, names, dict(zip(columns, values, strict=True)))
        start += len(chunk)


def _plain(column) -> Column:
    return int(column) if isinstance(column, Integral) else column


def _check_columns(format: str, smiles: Column, name: Column) -> None:
    if format not in FORMATS:
        raise ValueError(f"format must be one of {list(FORMATS)}. Got {format!r}.")
    allowed = FORMATS[format].columns
    columns = {"smiles_column": smiles, "name_column": name}
    given = {k: column for k, column in columns.items() if column is not None}
    for parameter, column in given.items():
        if allowed == "none":
            raise ValueError(
                f"{parameter} must be None for lines of SMILES (format={format!r}), "
                f"which have no columns. Got {column!r}; a table is format='tsv' or "
                "'csv'."
            )
        if isinstance(column, int) and allowed == "named":
            raise ValueError(
                f"{parameter} must be a text for format={format!r}. Got {column!r}."
            )
    if name is not None and isinstance(smiles, int) != isinstance(name, int):
        raise ValueError(
            "smiles_column and name_column must both be texts, or both be numbers for "
            f"a table without a header. Got {smiles!r} and {name!r}."
        )


@contextmanager
def _named_errors(path: Path, where: Callable[[], str] = str) -> Iterator[None]:
    """Say in which file, and where in it, a reader failed."""
    try:
        yield
    except (EOFError, OSError, ValueError, csv.Error, zlib.error) as error:
        # Errors of the system and our own say all; those of unpackers do not.
        if type(error) is ValueError or getattr(error, "errno", None) is not None:
            raise
        raise ValueError(
            f"{path} is damaged{where()}: {type(error).__name__}: {error}"
        ) from error


class ArraySource:
    """Molecules in memory, with or without names and other columns."""

    def __init__(
        self,
        smiles: ArrayLike,
        names: ArrayLike | None = None,
        columns: Mapping[str, ArrayLike] | None = None,
    ):
        self.smiles = as_smiles_array(smiles)
        self.n_rows = len(self.smiles)
        if names is None:
            self.names = np.full(self.n_rows, "", dtype=object)
        else:
            check_consistent_length(self.smiles, names)
            self.names = _objects(name_of(name) for name in _values(names))
        self.columns = {}
        for column, values in (columns or {}).items():
            check_consistent_length(self.smiles, values)
            self.columns[str(column)] = _objects(map(plain_value, _values(values)))

    def iter_batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield batches of rows."""
        for first in range(start, self.n_rows, batch_size):
            part = slice(first, first + batch_size)
            columns = {name: values[part] for name, values in self.columns.items()}
            yield Batch(first, self.smiles[part], self.names[part], columns)

    def fingerprint(self) -> str:
        """Return a hash of all that is in it."""
        parts: list[object] = [self.smiles.tolist(), self.names.tolist()]
        if self.columns:
            parts.append([(name, v.tolist()) for name, v in self.columns.items()])
        return joblib.hash(parts)


class FrameSource(ArraySource):
    """Molecules in a table in memory, whose columns are found as in a file.

    Parameters
    ----------
    X : DataFrame of pandas or polars, or Table of pyarrow
        The table.
    names : str or array-like of shape (n_molecules,), default=None
        The names, or the column that holds them.
    columns : list of str or "all", default=None
        Further columns.
    """

    def __init__(self, X, names=None, columns=None):
        # pyarrow's `columns` are the values.
        header = [str(name) for name in getattr(X, "column_names", X.columns)]

        def column(at: int) -> list:
            return _values(X.iloc[:, at] if hasattr(X, "iloc") else X[header[at]])

        name_column = names if isinstance(names, str) else None
        if len(header) == 1:
            smiles_at, name_at = 0, None
        else:
            smiles_at, name_at = find_columns("X", header, None, name_column)
        if names is None or name_column is not None:
            names = None if name_at is None else column(name_at)
        others = chosen_columns("X", header, columns, (smiles_at, name_at))
        extra = {name: column(at) for name, at in others.items()}
        super().__init__(_objects(column(smiles_at)), names, extra)


class IterableSource:
    """Molecules that come one by one, once: SMILES, or pairs (SMILES, name)."""

    n_rows = None

    def __init__(self, entries: Iterable[object]):
        self._entries = iter(entries)
        self._peeked: list[object] | None = None

    def iter_batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield batches of rows, the first `start` of which are passed over."""
        entries = chain(self._peeked or (), self._entries)
        self._peeked = None
        rows = map(_smiles_and_name, islice(entries, start, None))
        yield from _batches_of(rows, batch_size, start)

    def fingerprint(self) -> str:
        """Return a hash of the first 1000 entries; to be called before any are read."""
        if self._peeked is None:
            self._peeked = list(islice(self._entries, _N_PEEKED))
        return joblib.hash([_smiles_and_name(entry) for entry in self._peeked])


def _smiles_and_name(entry: object) -> tuple[object, str]:
    if isinstance(entry, tuple) and len(entry) == 2:
        return entry[0], name_of(entry[1])
    return entry, ""


def _objects(values: Iterable[object]) -> NDArray[np.object_]:
    listed = list(values)
    out = np.empty(len(listed), dtype=object)
    for i, value in enumerate(listed):  # one by one: a value may be a sequence
        out[i] = value
    return out


def _values(column) -> list:
    """Return a column of any kind of table as a list of Python's own values."""
    for method in ("to_pylist", "to_list", "tolist"):  # pyarrow, frames, arrays
        if hasattr(column, method):
            return getattr(column, method)()
    return list(column)


def is_frame(X) -> bool:
    """Whether X is a table with named columns, of pandas, polars or pyarrow."""
    return hasattr(X, "columns") and hasattr(X, "__getitem__") and hasattr(X, "shape")


def as_source(X, names=None, columns=None) -> Source:
    """Make a source of what a user gives as a library.

    Parameters
    ----------
    X : str, path-like, MoleculeFile, DataFrame, array-like or iterable
        A text is the path of a file. Columns of a DataFrame (pandas, polars) or a
        Table (pyarrow) are found by their names, as in a file.
    names : array-like of shape (n_molecules,) or str, default=None
        Names where X is an array; where X is a DataFrame, also one of its columns.
    columns : list of str, "all" or mapping of str to array-like, default=None
        Other columns that travel with the molecules: of a file or a DataFrame their
        names, for an array (SMILES alone) the columns themselves, as a dict or a
        DataFrame.

    Raises
    ------
    ValueError
        If `names` or `columns` are given beside a source that has its own, or X is no
        library at all.
    """
    if isinstance(X, str) and not os.path.exists(X):
        raise FileNotFoundError(
            f"X: there is no file {X!r}; one molecule is a list, [{X!r}]."
        )
    if isinstance(X, str | os.PathLike):
        X = MoleculeFile(X, columns=columns)
        columns = None
    if isinstance(X, bytes | dict) or not (
        hasattr(X, "iter_batches") or isinstance(X, Iterable)
    ):
        raise ValueError(
            "X must be an array-like of SMILES, an iterable, a DataFrame, the path of "
            f"a file or a MoleculeFile. Got {X!r}."
        )
    is_file = hasattr(X, "iter_batches")
    is_array = hasattr(X, "__array__") or (
        hasattr(X, "__len__") and hasattr(X, "__getitem__")
    )
    if is_frame(X) and not is_file:
        return FrameSource(X, names, columns)
    if is_array and not is_file:
        return ArraySource(X, names, _as_mapping(columns))
    for parameter, value, remedy in (
        ("names", names, "let an iterable yield pairs (SMILES, name)"),
        ("columns", columns, "give them to MoleculeFile"),
    ):
        if value is not None:
            raise ValueError(
                f"{parameter} must be None where X is a file or an iterable; {remedy}. "
                f"Got {parameter} of type {type(value).__name__}."
            )
    return X if is_file else IterableSource(X)


def _as_mapping(columns) -> Mapping[str, ArrayLike] | None:
    if columns is None or isinstance(columns, Mapping):
        return columns
    if is_frame(columns):
        names = getattr(columns, "column_names", columns.columns)
        return {str(name): columns[name] for name in names}
    raise ValueError(
        "columns must be a dict or a DataFrame of columns where X is an array of "
        f"SMILES. Got {columns!r}."
    )
