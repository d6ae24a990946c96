"""What a library can be given as: a file, an array, or an iterable."""

import csv
import hashlib
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, islice
from numbers import Integral
from pathlib import Path
from typing import Protocol

import joblib
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from sklearn_molge._compat import Interval, validate_params
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.library._readers import FORMATS, Column, Rows, format_of

__all__ = ["ArraySource", "Batch", "IterableSource", "MoleculeFile", "Source"]

Batch = tuple[int, NDArray[np.object_], NDArray[np.object_]]

# A file up to this size is counted by reading it once.
_COUNTED_BYTES = 16 * 2**20
_ENDS_BYTES = 2**20
# So many entries tell one iterable from another.
_N_PEEKED = 1000


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
        """Yield the number of the first row, SMILES and names, from row `start`."""

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
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(self, path, *, format=None, smiles_column=None, name_column=None):
        self.path = Path(path)
        with open(self.path, "rb"):  # says what is wrong with the path itself
            pass
        self.smiles_column = _plain(smiles_column)
        self.name_column = _plain(name_column)
        with _named_errors(self.path):
            self.format = format or format_of(self.path, self.smiles_column)
            _check_columns(self.format, self.smiles_column, self.name_column)
            self._rows(0)  # which looks for the columns

    def _rows(self, start: int) -> Rows:
        read = FORMATS[self.format].read
        return read(self.path, self.smiles_column, self.name_column, start)

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
            return sum(1 for _ in self._rows(0))

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
        first_row : int
            Number of the first row of the batch.
        smiles, names : ndarray of shape (n_rows,), dtype=object
            Texts as they are in the file.

        Raises
        ------
        ValueError
            If the file is damaged: with the row.
        """
        done = start
        with _named_errors(self.path, lambda: f" behind row {done - 1:,}"):
            for batch in _batches_of(self._rows(start), batch_size, start):
                yield batch
                done = batch[0] + len(batch[1])

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
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=16)
        with open(self.path, "rb") as file:
            digest.update(file.read(_ENDS_BYTES))
            file.seek(max(size - _ENDS_BYTES, 0))
            digest.update(file.read(_ENDS_BYTES))
        return digest.hexdigest()

    def __repr__(self):
        return f"MoleculeFile({str(self.path)!r}, format={self.format!r})"


def _batches_of(
    rows: Iterable[tuple[object, str]], batch_size: int, start: int
) -> Iterator[Batch]:
    """Gather rows, the first of which has number `start`, in batches of arrays."""
    rows = iter(rows)
    while chunk := list(islice(rows, batch_size)):
        smiles = np.empty(len(chunk), dtype=object)
        names = np.empty(len(chunk), dtype=object)
        for i, row in enumerate(chunk):
            smiles[i], names[i] = row
        yield start, smiles, names
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
    """Molecules in memory, with or without names."""

    def __init__(self, smiles: ArrayLike, names: Iterable[object] | None = None):
        self.smiles = as_smiles_array(smiles)
        self.n_rows = len(self.smiles)
        if names is None:
            self.names = np.full(self.n_rows, "", dtype=object)
        else:
            check_consistent_length(self.smiles, names)
            self.names = np.array([str(name) for name in names], dtype=object)

    def iter_batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield batches of rows."""
        for first in range(start, self.n_rows, batch_size):
            part = slice(first, first + batch_size)
            yield first, self.smiles[part], self.names[part]

    def fingerprint(self) -> str:
        """Return a hash of the molecules and their names."""
        return joblib.hash([self.smiles.tolist(), self.names.tolist()])


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
        return entry[0], str(entry[1])
    return entry, ""


def as_source(X, names=None) -> Source:
    """Make a source of what a user gives as a library.

    Raises
    ------
    ValueError
        If `names` are given beside a source that has its own, X is a single text, or
        no library at all.
    """
    if isinstance(X, os.PathLike):
        X = MoleculeFile(X)
    if isinstance(X, str | bytes | dict) or not (
        hasattr(X, "iter_batches") or isinstance(X, Iterable)
    ):
        raise ValueError(
            "X must be an array-like of SMILES, an iterable, a pathlib.Path or a "
            f"MoleculeFile. Got {X!r}."
        )
    is_file = hasattr(X, "iter_batches")
    is_array = hasattr(X, "__array__") or (
        hasattr(X, "__len__") and hasattr(X, "__getitem__")
    )
    if is_array and not is_file:
        return ArraySource(X, names)
    if names is not None:
        raise ValueError(
            "names must be None where X is a file or an iterable; let it yield pairs "
            f"(SMILES, name). Got names of type {type(names).__name__}."
        )
    return X if is_file else IterableSource(X)
