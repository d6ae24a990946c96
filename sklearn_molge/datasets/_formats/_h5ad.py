"""Files of AnnData (.h5ad): the tables of their sides, and rows of the matrix."""

import os

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._files.hdf5 import open_hdf5
from sklearn_molge._files.reading import reading
from sklearn_molge._utils.optional import import_optional

__all__ = ["read_h5ad_tables", "read_h5ad_values"]

BLOCK_CELLS = 2**24


def read_h5ad_tables(
    path: str | os.PathLike[str], *, needed_by: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return obs and var."""
    anndata = import_optional("anndata", extra="anndata", needed_by=needed_by)
    tables = []
    with open_hdf5(path, "obs", "var") as file:
        for part in ("obs", "var"):
            file.check_values(part)
            with reading(path, f"part {part!r}"):
                tables.append(pd.DataFrame(anndata.io.read_elem(file[part])))
    return tables[0], tables[1]


def read_h5ad_values(
    path: str | os.PathLike[str],
    shape: tuple[int, int],
    *,
    needed_by: str,
    rows: NDArray[np.intp] | None = None,
) -> NDArray[np.float32]:
    """Return rows (ascending; None: all) of X, which must be of `shape`.

    What float32 cannot hold becomes infinite.
    """
    anndata = import_optional("anndata", extra="anndata", needed_by=needed_by)
    rows = np.arange(shape[0]) if rows is None else rows
    with open_hdf5(path, "X") as file:
        file.check_matrix()
        file.check_values("X")
        with reading(path, "part 'X'"), np.errstate(over="ignore"):
            X = file["X"]
            if not isinstance(X, h5py.Dataset):  # sparse
                X = anndata.io.read_elem(X).tocsr()
            if X.shape != shape:
                raise ValueError(
                    f"it is of shape {X.shape}, beside tables of {shape} rows"
                )
            values = np.empty((len(rows), shape[1]), dtype=np.float32)
            step = max(BLOCK_CELLS // max(shape[1], 1), 1)
            for start in range(0, shape[0], step):
                begin, end = np.searchsorted(rows, [start, start + step])
                if begin < end:
                    block = X[start : start + step]
                    block = block.toarray() if hasattr(block, "toarray") else block
                    values[begin:end] = block[rows[begin:end] - start]
            return values
