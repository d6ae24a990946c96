"""What a GCTX file says of its samples and genes, read no further than asked for."""

import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge.datasets._formats._gctdata import Subset, resolve_subset, text_index
from sklearn_molge.datasets._formats._gctx_write import COLUMN_META, MATRIX, ROW_META

__all__ = [
    "check_layout",
    "open_gctx",
    "read_axis",
    "read_columns",
    "read_frame",
    "read_raw_ids",
]


@contextmanager
def open_gctx(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
    """Open a file for reading; say what is wrong where it is no HDF5."""
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file {os.fspath(path)!r}.")
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        # The operating system's own refusals (rights, a folder) carry a number.
        if error.errno is not None:
            raise
        raise ValueError(
            f"{os.fspath(path)} cannot be read as HDF5, the format of GCTX files: "
            f"{error}"
        ) from error
    with file:
        yield file


def check_layout(file: h5py.File) -> h5py.Dataset:
    """Return the matrix, unread; raise where the file is not in GCTX's layout."""
    names = MATRIX, f"{COLUMN_META}/id", f"{ROW_META}/id"
    nodes = [file.get(name) for name in names]
    for name, node in zip(names, nodes, strict=True):
        if not isinstance(node, h5py.Dataset):
            raise ValueError(
                f"{file.filename} is not a GCTX file: it has no dataset {name!r}."
            )
    matrix, obs_ids, gene_ids = nodes
    if matrix.shape != (obs_ids.size, gene_ids.size):
        raise ValueError(
            f"{file.filename}: dataset {MATRIX!r} must have shape "
            f"({obs_ids.size}, {gene_ids.size}), one entry for each of the ids in "
            f"{COLUMN_META!r} and {ROW_META!r}. Got shape {matrix.shape}."
        )
    if matrix.dtype.kind not in "fiu":
        raise ValueError(
            f"{file.filename}: dataset {MATRIX!r} must hold real numbers. "
            f"Got dtype {matrix.dtype}."
        )
    return matrix


def read_axis(
    file: h5py.File, group: str, subset: Subset, name: str
) -> tuple[NDArray[np.intp], pd.DataFrame]:
    """Return the positions asked for, and their metadata."""
    positions = resolve_subset(
        subset,
        file[f"{group}/id"].size,
        name=name,
        path=file.filename,
        read_ids=lambda: _read_ids(file, group, None),
        read_metadata=lambda: read_frame(file, group),
    )
    return positions, read_frame(file, group, None if subset is None else positions)


def read_frame(
    file: h5py.File, group: str, positions: NDArray[np.intp] | None = None
) -> pd.DataFrame:
    """Read the metadata of an axis, or of some `positions` of it, indexed by id."""
    frame = read_columns(file, group, positions)
    return frame.set_axis(_read_ids(file, group, positions), axis=0)


def read_columns(
    file: h5py.File,
    group: str,
    positions: NDArray[np.intp] | None = None,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
) -> pd.DataFrame:
    """Read the metadata of an axis without its ids.

    Parameters
    ----------
    file : h5py.File
        An open file in GCTX's layout.
    group : str
        Of the axis.
    positions : ndarray of int, default=None
        Entries to read; None reads all.
    wanted : callable, default=all
        Takes the name of a column and says whether to read it.

    Returns
    -------
    frame : DataFrame
        Indexed by number.
    """
    size = file[f"{group}/id"].size
    columns = {}
    for name, node in file[group].items():
        if name == "id" or not isinstance(node, h5py.Dataset) or not wanted(name):
            continue
        values = _read_values(node, size, positions, file)
        if h5py.check_string_dtype(node.dtype) is not None:
            values[values == ""] = np.nan
        columns[name] = pd.Series(values, dtype=values.dtype)
    index = pd.RangeIndex(size if positions is None else len(positions))
    return pd.DataFrame(columns, index=index)


def read_raw_ids(file: h5py.File, group: str) -> NDArray[np.bytes_]:
    """Read all ids of an axis as UTF-8 in one array: a third of a list of texts."""
    node = file[f"{group}/id"]
    values = np.asarray(node[()]).ravel()
    if values.dtype.kind == "S" and not (values.view(np.uint8) > 127).any():
        return values
    texts = _read_ids(file, group, None)
    return np.array([text.encode() for text in texts], dtype=bytes)


def _read_ids(
    file: h5py.File, group: str, positions: NDArray[np.intp] | None
) -> pd.Index:
    node = file[f"{group}/id"]
    return text_index(_read_values(node, node.size, positions, file))


def _read_values(
    dataset: h5py.Dataset,
    size: int,
    positions: NDArray[np.intp] | None,
    file: h5py.File,
) -> NDArray:
    if dataset.size != size:
        raise ValueError(
            f"{file.filename}: dataset {dataset.name!r} must have {size} entries, as "
            f"many as there are ids. Got shape {dataset.shape}."
        )
    values = np.asarray(dataset[()]).ravel()
    if positions is not None:
        values = values[positions]
    if h5py.check_string_dtype(dataset.dtype) is not None:
        # Each distinct text is decoded, and stored, once.
        codes, distinct = pd.factorize(values.astype(object))
        return _decode(distinct.tolist(), dataset, file)[codes]
    if values.dtype.kind in "fiubc":
        return values.astype(values.dtype.newbyteorder("="))
    return np.fromiter(values, dtype=object, count=len(values))


def _decode(
    entries: list[bytes], dataset: h5py.Dataset, file: h5py.File
) -> NDArray[np.object_]:
    try:
        texts = [entry.decode() for entry in entries]
    except UnicodeDecodeError:
        warnings.warn(
            f"{file.filename}: dataset {dataset.name!r} is not UTF-8; it is read as "
            "Latin-1.",
            UserWarning,
            stacklevel=7,
        )
        texts = [entry.decode("latin-1") for entry in entries]
    return np.array(texts, dtype=object)
