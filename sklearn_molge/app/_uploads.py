"""Files that are dropped on the page, read with suspicion."""

from __future__ import annotations

import re
import tempfile
import threading
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any
from xml.parsers import expat

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge import datasets
from sklearn_molge._files.hdf5 import open_hdf5
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge.expression import match_genes

__all__ = ["MOST_NAME", "Upload", "gene_marks", "read_query"]

_MOST_PROFILES = 1000
_MOST_UNPACKED = 2**28
MOST_NAME = 60  # characters of the name of a gene
_MIN_SHARE = 0.5  # of the genes of the model, as an index asks for
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"
# Of a workbook, and of a sheet of it.
_MOST_OF_WORKBOOK = 2**26
_MOST_MEMBERS = 1000
_MOST_ROWS = 200_000
_MOST_COLUMNS = 1000
_MOST_CELLS = 4_000_000
_MOST_DEPTH = 100
_CHUNK = 2**16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CELL = re.compile(r"\$?([A-Za-z]{1,3})\$?([0-9]{1,7})")
# What is never opened: what it is, by its first bytes, and what helps.
_REFUSED = {
    _ZIP: "It is packed (.zip, .npz or no workbook of today): save it as CSV",
    b"\x1f\x8b": "It is packed (gzip): unpack it",
    b"BZh": "It is packed (bzip2): unpack it",
    b"\xfd7zXZ": "It is packed (xz): unpack it",
    b"\x28\xb5\x2f\xfd": "It is packed (zstd): unpack it",
    b"\x80": "It is a pickle, which could run anything: save it as CSV",
    b"\xd0\xcf\x11\xe0": "It is a workbook of old Excel: save it as CSV",
}


@dataclass(frozen=True)
class Upload:
    """A file that was read.

    Attributes
    ----------
    name : str
    profiles : ndarray of shape (n_profiles, n_genes)
        In the order of the genes of the model.
    marks : DataFrame
        One row a name of a gene, see :func:`gene_marks`.
    notes : tuple of str
        What was guessed or left out.
    """

    name: str
    profiles: NDArray[np.float32]
    marks: pd.DataFrame
    notes: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Bytes that it takes, roughly."""
        texts = sum(map(len, self.notes)) + len(self.name)
        return self.profiles.nbytes + 300 * len(self.marks) + 4 * texts


def gene_marks(entries: list, genes: Any) -> pd.DataFrame:
    """Say of each name whether it is used: columns entry, column, symbol, status."""
    found = match_genes(entries, genes)
    alias = "alias of " + found["symbol"].astype(str) + " (" + found["how"] + ")"
    status = found["status"].mask(found["status"] == "alias", alias)
    return found.assign(status=status)[["entry", "column", "symbol", "status"]]


def read_query(name: str, content: bytes, genes: Any) -> Upload:
    """Read an uploaded file as profiles of the genes of a model.

    Parameters
    ----------
    name : str
        What the user calls it.
    content : bytes
    genes : DataFrame or array-like of str
        The genes of the model.

    Raises
    ------
    ValueError
        If it is no table of differential expression, GCT, GCTX, h5ad or matrix, is
        a workbook that is too large, or is packed or a pickle, neither of which is
        opened.
    """
    packed = _is_workbook(content)
    for start, why in _REFUSED.items():
        if content.startswith(start) and not packed:
            raise ValueError(f"{name} is not read. {why}.")
    if packed:
        _check_workbook(content)
    elif zipfile.is_zipfile(BytesIO(content)):  # with something before it
        raise ValueError(f"{name} is not read. {_REFUSED[_ZIP]}.")
    if not content.strip():
        raise ValueError(f"{name} is empty.")
    with tempfile.TemporaryDirectory(prefix="molge-") as folder:
        # It is told by its content, but openpyxl goes by the name.
        path = Path(folder) / f"upload.{'xlsx' if packed else 'txt'}"
        path.write_bytes(content)
        try:
            profiles, marks, told = _read(path, content, genes)
        except (ValueError, OSError, ImportError, KeyError) as error:
            text = str(error).replace(str(path), name).replace(folder, "")
            raise ValueError(text) from error
    marks["entry"] = [str(entry)[:MOST_NAME] for entry in marks["entry"]]
    told = [text.replace(str(path), name) for text in dict.fromkeys(told)]
    return Upload(name, profiles, marks, tuple(told))


class _Noting:
    """Collects the warnings of threads that read, each its own.

    Filters of warnings belong to the process: the first thread that reads sets them,
    and the last one puts back what was there. No lock is held in between.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._noted: dict[int, list[str]] = {}
        self._undo = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[list[str]]:
        own, noted = threading.get_ident(), list[str]()
        with self._lock:
            if not self._noted:
                self._start()
            self._noted[own] = noted
        try:
            yield noted
        finally:
            with self._lock:
                del self._noted[own]
                if not self._noted:
                    self._undo.close()

    def _start(self) -> None:
        self._undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("always")
        show = warnings.showwarning

        def note(message, *args: Any, **kwargs: Any) -> None:
            noted = self._noted.get(threading.get_ident())
            if noted is None:  # of another thread, whose warnings are of other users
                show(message, *args, **kwargs)
            else:
                noted.append(str(message))

        warnings.showwarning = note


_noting = _Noting()


def _read(
    path: Path, content: bytes, genes: Any
) -> tuple[NDArray, pd.DataFrame, list[str]]:
    is_hdf5 = content.startswith(_HDF5)
    if is_hdf5:
        _check_hdf5(path)
    if is_hdf5 or content.startswith(b"#1."):
        with _noting() as noted:
            return *_aligned(datasets.read_profiles(path), genes), noted
    # The side on which the file has the genes of the model, under its own names.
    errors = []
    is_book = _is_workbook(content)
    for side in () if is_book else ("rows", "columns"):
        try:
            with _noting() as noted:
                read = datasets.read_profiles(path, genes_in=side)
                return *_aligned(read, genes), noted
        except ValueError as error:
            errors.append(error)
    try:
        with _noting() as noted:
            profiles, marks, told = _from_de_table(
                datasets.read_de_table(path, genes=genes)
            )
            return profiles, marks, [*told, *noted]
    except ValueError as no_table:
        if is_book:
            raise
        raise ValueError(
            f"It is no table of differential expression: {no_table} Nor are its rows "
            f"profiles of genes: {errors[0]} Nor its columns: {errors[1]}"
        ) from no_table


def _from_de_table(query: Any) -> tuple[NDArray, pd.DataFrame, list[str]]:
    """Return what a table of differential expression says, and how it was read."""
    account = query.genes
    used = account["status"].isin(["used", "alias"])
    status = account["status"].where(
        account["status"] != "alias", "alias of " + account["taken_as"].astype(str)
    )
    marks = pd.DataFrame(
        {
            "entry": account["gene"].astype(str),
            "column": np.where(used, 0, -1),
            "symbol": account["symbol"],
            "status": status,
        }
    )
    profile = query.profile.to_numpy(dtype=np.float32)
    return profile, marks, [f"A {query.kind} table: {query.rule}."]


def _aligned(frame: pd.DataFrame, genes: Any) -> tuple[NDArray, pd.DataFrame]:
    """Put profiles into the order of the genes of the model; what is missing is 0."""
    if len(frame) > _MOST_PROFILES:
        raise ValueError(
            f"It has {counted(len(frame), 'profile')}; at most {_MOST_PROFILES:,} "
            "are asked together."
        )
    marks = gene_marks(frame.columns.tolist(), genes)
    columns = marks["column"].to_numpy()
    used = np.flatnonzero(columns >= 0)
    n_genes = len(genes)
    _, first, counts = np.unique(columns[used], return_index=True, return_counts=True)
    if (counts > 1).any():
        twice = marks["symbol"].to_numpy()[used][first[counts > 1]]
        raise ValueError(f"Genes have several columns: {first_few(list(twice), n=5)}.")
    if len(used) < _MIN_SHARE * n_genes:
        raise ValueError(
            f"It has {len(used):,} of the {n_genes:,} genes of the model, and half of "
            "them are needed; a list of genes is pasted as up and down genes."
        )
    profiles = np.zeros((len(frame), n_genes), dtype=np.float32)
    profiles[:, columns[used]] = frame.to_numpy(dtype=np.float32)[:, used]
    return profiles, marks


def _check_hdf5(path: Path) -> None:
    """Refuse what a small file would unpack into."""
    with open_hdf5(path, "0", "X", "obs", "var") as file:
        stored = file.stored
    if "X/indptr" in stored:
        raise ValueError("Its matrix X is sparse: write it dense.")
    n_bytes = sum(prod(each.shape) * each.itemsize for each in stored.values())
    if n_bytes > _MOST_UNPACKED:
        raise ValueError(
            f"It unpacks into {n_bytes:,} bytes, and at most {_MOST_UNPACKED:,} are "
            "read."
        )


# Workbooks


def _is_workbook(content: bytes) -> bool:
    """Whether a file is an .xlsx, from its first byte on."""
    if not content.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            return "[Content_Types].xml" in archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError):
        return False


def _check_workbook(content: bytes) -> None:
    """Refuse a workbook that would unpack, or be filled up, to too much.

    openpyxl pads rows and columns up to the last that a sheet names, which a short text
    may place anywhere, and leaves entities to its parser.

    Raises
    ------
    ValueError
        With what is allowed.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = archive.infolist()
            _check_members(members)
            for member in members:
                if member.filename.lower().endswith((".xml", ".rels")):
                    # No more is unpacked than the archive says, which was added up.
                    with archive.open(member) as file:
                        _Sheet().read(file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"The workbook is damaged: {error}.") from error
    except expat.ExpatError as error:
        raise ValueError(f"The workbook is damaged: {error}.") from error


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > _MOST_MEMBERS:
        raise ValueError(
            f"A workbook may hold {_MOST_MEMBERS:,} parts. Got {len(members):,}."
        )
    n_bytes = sum(member.file_size for member in members)
    if n_bytes > _MOST_OF_WORKBOOK:
        raise ValueError(
            f"The workbook unpacks into {n_bytes:,} bytes, and at most "
            f"{_MOST_OF_WORKBOOK:,} are read: save its table as CSV."
        )
    for member in members:
        if member.compress_type not in _METHODS or member.flag_bits & 1:
            raise ValueError(
                "The workbook is packed as no spreadsheet packs it, or has a password."
            )


class _Sheet:
    """Counts the rows and cells of a part that may be a sheet."""

    def __init__(self) -> None:
        self.row = self.column = self.last = self.width = self.n_cells = self.depth = 0
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end

    def read(self, file) -> None:
        while chunk := file.read(_CHUNK):
            self.parser.Parse(chunk)
        self.parser.Parse(b"", True)

    def _refuse(self, *args) -> None:
        raise ValueError("The workbook defines entities of its own.")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise ValueError("The workbook is nested too deeply.")
        kind, place = name.rpartition(":")[2], attributes.get("r", "")
        if kind == "dimension":
            last = attributes.get("ref", "").rpartition(":")[2]
            self._see(*_place(last))
        elif kind == "row":
            if place and not re.fullmatch("[0-9]{1,7}", place):
                raise ValueError(f"The workbook is damaged: {place!r} is no row.")
            self.row = int(place) if place else self.row + 1
            self.column = 0
            self._see(self.row, 1)
        elif kind == "c":
            if place:
                self.row, self.column = _place(place)
            else:
                self.column += 1
            self.n_cells += 1
            self._see(self.row, self.column)

    def _end(self, name: str) -> None:
        self.depth -= 1

    def _see(self, row: int, column: int) -> None:
        self.width = max(self.width, column)
        self.last = max(self.last, row)
        n_cells = max(self.n_cells, self.last * self.width)
        if row > _MOST_ROWS or column > _MOST_COLUMNS or n_cells > _MOST_CELLS:
            raise ValueError(
                f"A sheet may have {_MOST_ROWS:,} rows, {_MOST_COLUMNS:,} columns and "
                f"{_MOST_CELLS:,} cells; one has more: save the table as CSV."
            )


def _place(text: str) -> tuple[int, int]:
    """Return the row and the column of a cell by its name, such as B3."""
    found = _CELL.fullmatch(text)
    if found is None:
        raise ValueError(f"The workbook is damaged: {text[:20]!r} is no cell.")
    column = 0
    for letter in found[1].upper():
        column = 26 * column + ord(letter) - ord("A") + 1
    return int(found[2]), column
