"""What a library can be given as: a file, an array, or an iterable."""

import hashlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property
from inspect import signature
from itertools import chain, count, islice
from numbers import Integral
from pathlib import Path
from typing import Protocol

import joblib
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._files.reading import reading
from sklearn_molge._files.text import look_into, split_member
from sklearn_molge._utils.messages import first_few, shortened
from sklearn_molge._utils.notebook import facts_html
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.exceptions import InvalidSmilesError, LibraryWarning
from sklearn_molge.library._columns import (
    N_SAMPLED,
    Column,
    Extra,
    chosen_columns,
    distinct_names,
    find_columns,
    is_inchi,
    is_missing,
    name_of,
    plain_value,
)
from sklearn_molge.library._opening import check_path
from sklearn_molge.library._readers import FORMATS, Table, format_of
from sklearn_molge.molecules import (
    check_smiles,
    smiles_from_inchi,
    valid_smiles_mask,
)

__all__ = [
    "INVALID",
    "MISSING",
    "ArraySource",
    "Batch",
    "IterableSource",
    "MoleculeFile",
    "ReadableShare",
    "Source",
    "is_unreadable",
    "why_unreadable",
]

# A file up to this size is counted by reading it once.
_COUNTED_BYTES = 16 * 2**20
# So many rows it has only if it is packed, to be unpacked for minutes.
_MOST_COUNTED = 2**24
_ENDS_BYTES = 2**20
# Below this share of molecules a library is warned of.
_READABLE = 0.9
_SEEN_BY_EYE = 20
_N_EXAMPLES = 5
_N_BAD = 20
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
    try:
        if is_missing(entry):
            return MISSING
        check_smiles(np.array([entry], dtype=object))
    except InvalidSmilesError as error:
        (why,) = error.reasons
        return f"{INVALID}: {why}" if why else INVALID
    except Exception:  # of an object that has no text
        return INVALID
    return INVALID


def is_unreadable(reason: str) -> bool:
    """Whether a reason is one of :func:`why_unreadable`."""
    return reason == MISSING or reason.startswith(INVALID)


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
            elif is_unreadable(reason):
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
            shown = first_few(
                self.examples, write=lambda e: f"row {e[0]}: {shortened(e[1])}"
            )
            message += f" ({shown})"
        if not self.n_good:
            raise ValueError(f"{message}.")
        is_named = isinstance(source, MoleculeFile | FrameSource)
        # A few rows in memory were seen by whoever typed them.
        seen = not is_named and self.n_rows < _SEEN_BY_EYE
        if not seen and self.n_good < _READABLE * self.n_rows:
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
        The file, also packed by gzip, bz2, xz, zip or zstd (which
        needs Python 3.14 or the extra ``parquet``). What it is packed by, and whether
        it is UTF-8, UTF-16 or UTF-32, is told by its bytes; what is none of these is
        read as Windows-1252 (Latin-1), with a warning.
    format : {"smi", "csv", "tsv", "parquet", "sdf"}, default=None
        None goes by the ending (that of packing left aside), and by the content:
        Parquet and SDF are known by it. A ``.txt``, ``.smi``, ``.smiles``,
        ``.cxsmiles``, ``.can`` or ``.ism`` is a table where its first line names a
        column of SMILES between commas, tabs, semicolons or bars, or where SMILES stand
        between these in lines without a header, and "smi" otherwise.

        - "smi": a line holds a SMILES and, behind white space, a name, or first a name
          and then the SMILES, whichever half of the first lines are. A first line
          with the name of a column of SMILES in that place is a header; empty lines and
          lines that begin with "#" are no rows.
        - "csv", "tsv": a table with a header. The columns are separated by commas
          ("csv") or tabs ("tsv") unless the first line shows another of the four.
          Fields may be in double quotes and then hold line ends; between tabs a quote
          is a character like any, unless the header or a column is quoted. A line that
          opens a quote which is not closed is read on its own, with a warning.
        - "parquet": needs the extra ``parquet``.
        - "sdf": SMILES are written by RDKit of the structures (V2000 and V3000).
    smiles_column : str or int, default=None
        Column of the SMILES. None takes the first of these whose entries are SMILES, by
        names in any case and without blanks, underscores and points: smiles,
        canonical_smiles, isomeric_smiles, isosmiles, cansmiles, absolute_smiles,
        connectivity_smiles, cxsmiles, smi, structure, or what has "smiles" in its name;
        where there is none, a column of InChI (inchi, standard_inchi, or the only one
        that holds them), which are converted to SMILES, as InChI anywhere are, with a
        warning.
        A second column "x" is called "x.1", as in pandas. A number, from 0, is the
        place of the column in a table without a header ("csv", "tsv"). In an SDF, a
        data field that holds SMILES, instead of the structure.
    name_column : str or int, default=None
        Column of the names. None takes the first that is not empty, by known names:
        of names (such as name, cmap_name, pref_name, "Product Name", title, compound),
        then of identifiers (such as pert_id, chembl_id, zinc_id, "Catalog No.", sku,
        cid, cas, id). Without one, names are empty, and a warning lists the columns. In
        an SDF the title line ("_Name"), or one of these fields.
    columns : list of str or "all", default=None
        Further columns that travel with the molecules, such as a catalogue number or a
        price: into the batches, and from there into an index and its answers. "all" is
        all but those of SMILES and names. In an SDF data fields.
    member : str, default=None
        Of a zip archive with several files, the one to read, by its whole name there;
        ``"vendor.zip/part/a.sdf"`` as `path` is the same. Nothing is unpacked on the
        disk. None takes the only one.

    Attributes
    ----------
    format : str
        The format in use.
    n_rows : int or None
        Number of rows: as Parquet has it, counted for files up to 16 MiB, None for
        larger ones.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is no such file.
    ValueError
        If the format cannot be told from the ending, the file is something else (a page
        of HTML, an Excel workbook, MOL2, a pointer of Git LFS, an archive of several
        files, a pipe, ...), or there is no such column: with the columns that are
        there.
    CorruptFileError
        If it is damaged: here, or where it is read.
    ImportError
        If a Parquet file or one packed by zstd is given and pyarrow is not installed.

    Warns
    -----
    LibraryWarning
        If no column of names is found, the encoding is guessed, a quote is left
        open; or, when all rows were read, that structures are InChI, with counts.

    See Also
    --------
    MoleculeIndex : Embeds a library and searches it.

    Notes
    -----
    Rows are handed out as they are: an entry that is no molecule ("-666",
    "restricted", nothing at all, or an SDF record that RDKit cannot read, or of more
    than 2,000 atoms) keeps its
    row, and who reads the rows decides. Names lose blanks around them.

    Rows are counted from 0: those of a table as pandas does, so that row i is
    ``pd.read_csv(path).iloc[i]`` (the header and blank lines are no rows, one of fields
    that are all empty is), rows of Parquet as they lie in it, lines of SMILES without a
    header, blank lines and comments, and the records of an SDF with those that are
    empty or cannot be read. :meth:`describe` tells lines as well, from 1.

    The encoding is told by the first 256 KiB. A byte behind them that does not fit is
    shown as ``\xe9``.

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
            "member": [str, None],
        },
        prefer_skip_nested_validation=True,
    )
    def __init__(
        self,
        path,
        *,
        format=None,
        smiles_column=None,
        name_column=None,
        columns=None,
        member=None,
    ):
        if member is not None:
            path = f"{os.fspath(path)}/{member}"
        check_path(path)
        self.path = Path(path)
        self.smiles_column = _plain(smiles_column)
        self.name_column = _plain(name_column)
        self.columns = columns if columns is None or columns == "all" else list(columns)
        self.format = format
        with reading(self.path):
            if format is None:
                layout = format_of(self.path, self.smiles_column)
                self.format = layout.format
                if layout.smiles is not None:  # the table has no header
                    self.smiles_column = layout.smiles
                    if self.name_column is None:
                        self.name_column = layout.name
        _check_columns(self.format, self.smiles_column, self.name_column, self.columns)
        with reading(self.path):
            self._found = self.smiles_column, self.name_column
            table = self._table(0)  # which looks for the columns
        self._found = table.smiles, table.name
        self._warn(table)

    def _table(self, start: int) -> Table:
        read, kind = FORMATS[self.format].read, FORMATS[self.format].columns
        wanted = () if self.columns is None or kind == "none" else (self.columns,)
        table = read(self.path, *self._found, start, *wanted)
        return table if isinstance(table, Table) else Table(table)

    def _warn(self, table: Table) -> None:
        is_text = self.format != "parquet"
        if is_text and look_into(self.path).encoding == "cp1252":
            warnings.warn(
                f"{self.path} is not UTF-8, and read as Windows-1252 (Latin-1): look "
                "at its names, or write it as UTF-8.",
                LibraryWarning,
                stacklevel=2,
            )
        if isinstance(table.smiles, str) and self.format != "sdf":
            _warn_unnamed(self.path, table.columns, table.name)

    @property
    def n_rows(self) -> int | None:
        """Number of rows, where that is cheap to find out."""
        return self._n_rows

    @cached_property
    def _n_rows(self) -> int | None:
        count = FORMATS[self.format].count
        with reading(self.path):
            if count is not None:
                return count(self.path)
            if os.path.getsize(split_member(self.path)[0]) > _COUNTED_BYTES:
                return None
            n_rows = sum(1 for _ in islice(self._table(0).rows, _MOST_COUNTED + 1))
            return n_rows if n_rows <= _MOST_COUNTED else None

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
        CorruptFileError
            If the file is damaged, with the row; or a line is longer than 16 MiB, or an
            SDF record than 64 million letters, as no real one is.
        """
        done, inchi = start, _InchiReader()
        with reading(self.path, lambda: f"behind row {done - 1:,}"):
            table = self._table(start)
            for batch in _batches_of(table.rows, batch_size, start, table.extra):
                yield replace(batch, smiles=inchi.convert(batch.smiles))
                done = batch.first_row + len(batch)
        inchi.warn(self.path, table.smiles, stacklevel=2)

    def describe(self, n_rows: int | None = 1000) -> "FileDescription":
        r"""Look at the first rows, and tell how the file is read: a dry run.

        Parameters
        ----------
        n_rows : int or None, default=1000
            Rows to look at; None is all.

        Returns
        -------
        description : FileDescription
            What prints, and shows in a notebook, as a table. Its attributes are
            `path`, `format`, `compression`, `encoding`, `separator`, `columns` (all of
            the file), `smiles_column`, `name_column`, `further_columns`, `n_rows` (None
            if unknown), `n_looked_at`, `n_readable`, `n_missing`, `n_invalid`,
            `n_unnamed`, `n_inchi` (converted to SMILES), `examples` (the first rows
            that are molecules) and `bad_rows`, a DataFrame of the first 20 with
            ``row``, ``line``, ``entry`` and ``reason``.

        Examples
        --------
        >>> import tempfile, pathlib
        >>> from sklearn_molge.library import MoleculeFile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "vendor.csv")
        ...     _ = path.write_text("SMILES;Catalog No.\nCCO;S1\nC1C;S2\n")
        ...     description = MoleculeFile(path).describe()
        >>> description.smiles_column, description.name_column, description.separator
        ('SMILES', 'Catalog No.', ';')
        >>> description.bad_rows
           row  line entry              reason
        0    1     3   C1C  not a valid SMILES
        """
        table = self._table(0)
        share, n_unnamed, n_done, inchi = ReadableShare(), 0, 0, _InchiReader()
        good: list[tuple[str, str]] = []
        bad: list[tuple[int, int | None, object, str]] = []
        with reading(self.path, lambda: f"behind row {n_done - 1:,}"):
            for row, (entry, name, *_) in enumerate(islice(table.rows, n_rows)):
                n_done, n_unnamed = row + 1, n_unnamed + (not name)
                smiles = inchi.convert([entry])[0]
                if valid_smiles_mask([smiles])[0]:
                    share.add(1, ())
                    good.append((smiles, name))
                    continue
                reason = why_unreadable(smiles)
                share.add(1, [(row, smiles, reason)])
                bad.append((row, table.line and table.line(), smiles, reason))
                del good[_N_EXAMPLES:], bad[_N_BAD:]
        head = look_into(self.path) if self.format != "parquet" else None
        return FileDescription(
            path=self.path,
            format=self.format,
            compression=None if head is None else head.compression,
            encoding=None if head is None else head.encoding,
            separator=table.separator,
            columns=table.columns,
            smiles_column=table.smiles,
            name_column=table.name,
            further_columns=table.extra,
            n_rows=self.n_rows,
            n_looked_at=share.n_rows,
            n_readable=share.n_good,
            n_missing=share.n_missing,
            n_invalid=share.n_invalid,
            n_unnamed=n_unnamed,
            n_inchi=inchi.n_read,
            examples=tuple(good[:_N_EXAMPLES]),
            bad_rows=pd.DataFrame(
                bad[:_N_BAD], columns=["row", "line", "entry", "reason"]
            ),
        )

    def fingerprint(self) -> str:
        """Return what tells this library from another one, quickly.

        Returns
        -------
        fingerprint : str
            A hash of the format, the columns, the file's size and its first and last
            MiB. It does not depend on the path or the time of writing; a change in the
            middle that keeps the size is not seen.
        """
        path, member = split_member(self.path)
        size = os.path.getsize(path)
        parts = [self.format, self.smiles_column, self.name_column, size]
        if self.columns is not None:
            parts.append(self.columns)
        if member is not None:
            parts.append(member)
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=16)
        with open(path, "rb") as file:
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
        with reading(other.path):
            other._table(0)  # which looks for the columns
        return other

    def __repr__(self):
        return f"MoleculeFile({str(self.path)!r}, format={self.format!r})"


@dataclass(frozen=True, eq=False, repr=False)
class FileDescription:
    """How a file is read; see :meth:`MoleculeFile.describe`."""

    path: Path
    format: str
    compression: str | None
    encoding: str | None
    separator: str | None
    columns: tuple[str, ...]
    smiles_column: Column
    name_column: Column
    further_columns: tuple[str, ...]
    n_rows: int | None
    n_looked_at: int
    n_readable: int
    n_missing: int
    n_invalid: int
    n_unnamed: int
    n_inchi: int
    examples: tuple[tuple[str, str], ...]
    bad_rows: pd.DataFrame

    def _items(self) -> dict[str, str]:
        share = self.n_readable / self.n_looked_at if self.n_looked_at else 0
        n_rows = "unknown" if self.n_rows is None else f"{self.n_rows:,}"
        structure = "the structures" if self.format == "sdf" else "in place"
        items = {
            "file": str(self.path),
            "format": ", ".join(
                filter(None, [self.format, self.encoding, self.compression])
            ),
            "separator": self.separator and repr(self.separator),
            "columns": ", ".join(map(repr, self.columns)),
            "SMILES": structure
            if self.smiles_column is None
            else repr(self.smiles_column),
            "names": repr(self.name_column) if self.name_column is not None else "",
            "further columns": ", ".join(map(repr, self.further_columns)),
            "rows": f"{n_rows}; looked at {self.n_looked_at:,}",
            "readable": f"{self.n_readable:,} ({share:.1%}); missing "
            f"{self.n_missing:,}, not valid {self.n_invalid:,}",
            "InChI": f"{self.n_inchi:,} converted to SMILES" if self.n_inchi else "",
            "without a name": f"{self.n_unnamed:,}",
            "first rows": "; ".join(f"{s} {name}".strip() for s, name in self.examples),
        }
        return {key: value for key, value in items.items() if value}

    def __repr__(self):
        items = self._items()
        width = max(map(len, items))
        lines = [f"{key:{width}}  {value}" for key, value in items.items()]
        if len(self.bad_rows):
            lines += [
                "bad rows",
                self.bad_rows.to_string(index=False, max_colwidth=100),
            ]
        return "\n".join(lines)

    def _repr_html_(self):
        tables = {"Bad rows": self.bad_rows}
        return facts_html(
            type(self).__name__, self._items(), tables=tables, molecules=self.examples
        )


class _InchiReader:
    """Converts the InChI among entries, and counts them.

    What cannot be read stays, and counts as a bad SMILES.
    """

    def __init__(self) -> None:
        self.n_read = self.n_bad = 0

    def convert(self, entries: Iterable[object]) -> NDArray[np.object_]:
        array = _objects(entries)
        n_inchi = sum(map(is_inchi, array))
        if not n_inchi:
            return array
        smiles = smiles_from_inchi(array, on_bad="keep")
        n_bad = sum(map(is_inchi, smiles))
        self.n_bad += n_bad
        self.n_read += n_inchi - n_bad
        return smiles

    def warn(self, what: object, column: Column, stacklevel: int) -> None:
        if self.n_read or self.n_bad:
            where = "" if column is None else f" of column {column!r}"
            warnings.warn(
                f"{what}: structures{where} are InChI: {self.n_read:,} are converted "
                f"to SMILES, and {self.n_bad:,} cannot be read.",
                LibraryWarning,
                stacklevel=stacklevel + 1,
            )


def _warn_unnamed(path: object, columns: Sequence[str], name: Column) -> None:
    if name is None and len(columns) > 1:
        warnings.warn(
            f"{path}: no column of names is known, so names are empty; give one of "
            f"{list(columns)}, to a MoleculeFile as name_column.",
            LibraryWarning,
            stacklevel=3,
        )


def _batches_of(
    rows: Iterable[tuple], batch_size: int, start: int, columns: Sequence[str] = ()
) -> Iterator[Batch]:
    """Gather rows, the first of which has number `start`, in batches of arrays."""
    rows = iter(rows)
    while chunk := list(islice(rows, batch_size)):
        smiles, names, *values = (
            _objects([row[k] for row in chunk]) for k in range(len(chunk[0]))
        )
        yield Batch(start, smiles, names, dict(zip(columns, values, strict=True)))
        start += len(chunk)


def _plain(column) -> Column:
    return int(column) if isinstance(column, Integral) else column


def _check_columns(format: str, smiles: Column, name: Column, further: Extra) -> None:
    if format not in FORMATS:
        raise ValueError(f"format must be one of {list(FORMATS)}. Got {format!r}.")
    allowed = FORMATS[format].columns
    columns: dict = {"smiles_column": smiles, "name_column": name}
    given = {k: column for k, column in columns.items() if column is not None}
    if further and further != "all":
        given["columns"] = further
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
        given = list(getattr(X, "column_names", X.columns))
        header = distinct_names(given)

        def column(at: int) -> list:
            return _values(X.iloc[:, at] if hasattr(X, "iloc") else X[given[at]])

        def entries(at: int) -> list:
            first = X.head(N_SAMPLED) if hasattr(X, "head") else X[:N_SAMPLED]
            return _values(
                first.iloc[:, at] if hasattr(first, "iloc") else first[given[at]]
            )

        name_column = names if isinstance(names, str) else None
        if len(header) == 1:
            smiles_at, name_at = 0, None
        else:
            smiles_at, name_at = find_columns("X", header, None, name_column, entries)
        if names is None or name_column is not None:
            names = None if name_at is None else column(name_at)
        if names is None:
            _warn_unnamed("X", header, None)
        others = chosen_columns("X", header, columns, (smiles_at, name_at))
        extra = {name: column(at) for name, at in others.items()}
        smiles = map(plain_value, column(smiles_at))
        inchi = _InchiReader()
        super().__init__(inchi.convert(smiles), names, extra)
        inchi.warn("X", header[smiles_at], stacklevel=3)


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
        next(self.look(_N_PEEKED), None)
        first = (self._peeked or [])[:_N_PEEKED]
        return joblib.hash([_smiles_and_name(entry) for entry in first])

    def look(self, batch_size: int) -> Iterator[Batch]:
        """Yield batches from the first row on, which `iter_batches` yields again."""
        kept = self._peeked = [] if self._peeked is None else self._peeked
        for start in count(0, batch_size):
            stop = start + batch_size
            kept.extend(islice(self._entries, max(stop - len(kept), 0)))
            rows = map(_smiles_and_name, kept[start:stop])
            batches = list(_batches_of(rows, batch_size, start))
            if not batches:
                return
            yield from batches


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
        DataFrame. "all" are all that there are; a file with `columns` of its own keeps
        those.

    Raises
    ------
    ValueError
        If `names` or `columns` are given beside a source that has its own, or X is no
        library at all.
    """
    if isinstance(columns, str) and columns != "all":
        raise ValueError(
            "columns must be 'all', a list of names, a mapping of columns or None. "
            f"Got {columns!r}."
        )
    if isinstance(X, str | os.PathLike | MoleculeFile):
        X, columns = _file_of(X, columns), None
    if isinstance(X, bytes | dict) or not (
        hasattr(X, "iter_batches") or isinstance(X, Iterable) or is_frame(X)
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
    if isinstance(columns, str):  # "all" of none
        columns = None
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


def _file_of(X: str | os.PathLike | MoleculeFile, columns) -> MoleculeFile:
    if isinstance(X, str) and not os.path.exists(X):
        raise FileNotFoundError(
            f"X: there is no file {X!r}; one molecule is a list, [{X!r}]."
        )
    file = X if isinstance(X, MoleculeFile) else MoleculeFile(X)
    return file if file.columns is not None else file.with_columns(columns)


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
