"""Files that are dropped on the page: read with suspicion, kept for a while."""

from __future__ import annotations

import hashlib
import tempfile
import threading
import warnings
from collections import OrderedDict
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge import datasets
from sklearn_molge._files.hdf5 import open_hdf5
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge.expression import match_genes

__all__ = ["Upload", "UploadStore", "gene_marks", "read_query"]

_MOST_PROFILES = 1000
_MOST_UNPACKED = 2**28
_MIN_SHARE = 0.5  # of the genes of the model, as an index asks for
_HDF5 = b"\x89HDF\r\n\x1a\n"
# What is never opened: what it is, by its first bytes, and what helps.
_REFUSED = {
    b"PK": "It is packed (a workbook, .npz or .zip): save it as CSV",
    b"\x1f\x8b": "It is packed (gzip): unpack it",
    b"BZh": "It is packed (bzip2): unpack it",
    b"\xfd7zXZ": "It is packed (xz): unpack it",
    b"\x28\xb5\x2f\xfd": "It is packed (zstd): unpack it",
    b"\x80": "It is a pickle, which could run anything: save it as CSV",
    b"\xd0\xcf\x11\xe0": "It is a workbook of old Excel: save it as CSV",
}
# Filters of warnings belong to the process.
_READING = threading.Lock()


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
        return self.profiles.nbytes + 200 * len(self.marks)


def gene_marks(entries: list, genes: Any) -> pd.DataFrame:
    """Say of each name whether it is used: columns entry, column, symbol, status."""
    found = match_genes(entries, genes)
    status = []
    for entry, column, symbol, how in zip(
        found["entry"], found["column"], found["symbol"], found["how"], strict=True
    ):
        if column >= 0:
            same = how == "name" or str(entry).casefold() == str(symbol).casefold()
            status.append("used" if same else f"alias of {symbol} ({how})")
        else:
            known = how.endswith("of another gene")
            status.append("not in the model" if known else "unknown")
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
        If it is no table of differential expression, GCT, GCTX, h5ad or matrix, or
        is packed or a pickle, neither of which is opened.
    """
    for start, why in _REFUSED.items():
        if content.startswith(start):
            raise ValueError(f"{name} is not read. {why}.")
    if not content.strip():
        raise ValueError(f"{name} is empty.")
    with (
        tempfile.TemporaryDirectory(prefix="molge-") as folder,
        _READING,
        warnings.catch_warnings(record=True) as said,
    ):
        warnings.simplefilter("always")
        path = Path(folder) / f"upload{_suffix(name)}"
        path.write_bytes(content)
        try:
            profiles, marks, told = _read(path, content, genes)
        except (ValueError, OSError, ImportError, KeyError) as error:
            text = str(error).replace(str(path), name).replace(folder, "")
            raise ValueError(text) from error
    told += [str(each.message).replace(str(path), name) for each in said]
    return Upload(name, profiles, marks, tuple(dict.fromkeys(told)))


def _suffix(name: str) -> str:
    suffix = Path(name).suffix.lower()
    return suffix if suffix in (".csv", ".tsv", ".gct", ".gctx", ".h5ad") else ".txt"


def _read(
    path: Path, content: bytes, genes: Any
) -> tuple[NDArray, pd.DataFrame, list[str]]:
    if content.startswith(_HDF5):
        _check_hdf5(path)
        return *_aligned(datasets.read_profiles(path), genes), []
    if content.startswith(b"#1."):
        return *_aligned(datasets.read_profiles(path), genes), []
    table = genes if isinstance(genes, pd.DataFrame) else None
    try:
        return *_aligned(datasets.read_profiles(path, genes=table), genes), []
    except ValueError as no_profiles:
        read_de_table = getattr(datasets, "read_de_table", None)
        if read_de_table is None:
            raise
        try:
            return _from_de_table(read_de_table(path, genes=genes))
        except ValueError as no_table:
            raise ValueError(
                f"It is no table of differential expression: {no_table} Nor are its "
                f"rows or columns profiles: {no_profiles}"
            ) from no_profiles


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
    with open_hdf5(path, "0", "X") as file:
        stored = file.stored
    if "X/indptr" in stored:
        raise ValueError("Its matrix X is sparse: write it dense.")
    n_bytes = sum(prod(each.shape) * each.itemsize for each in stored.values())
    if n_bytes > _MOST_UNPACKED:
        raise ValueError(
            f"It unpacks into {n_bytes:,} bytes, and at most {_MOST_UNPACKED:,} are "
            "read."
        )


class UploadStore:
    """The last uploads by the hash of their content, within some bytes.

    Parameters
    ----------
    max_bytes : int
    """

    def __init__(self, max_bytes: int):
        self._most = max_bytes
        self._kept: OrderedDict[str, Upload] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, content: bytes, upload: Upload) -> str:
        """Keep an upload, and return what it is called in an address."""
        key = hashlib.sha256(upload.name.encode() + b"\0" + content).hexdigest()[:32]
        with self._lock:
            self._kept[key] = upload
            self._kept.move_to_end(key)
            while len(self._kept) > 1 and self._n_bytes() > self._most:
                self._kept.popitem(last=False)
        return key

    def get(self, key: str) -> Upload:
        """Return an upload.

        Raises
        ------
        KeyError
            If it is not kept any more.
        """
        with self._lock:
            self._kept.move_to_end(key)
            return self._kept[key]

    def _n_bytes(self) -> int:
        return sum(upload.nbytes for upload in self._kept.values())
