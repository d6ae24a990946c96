"""Files of AnnData (.h5ad): the tables of their sides, and rows of the matrix."""

import os
from collections.abc import Iterable

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._files.hdf5 import open_hdf5
from sklearn_molge._files.reading import reading
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.optional import import_optional

__all__ = ["layers_hint", "read_h5ad_tables", "read_h5ad_values"]

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
    layer: str | None = None,
    rows: NDArray[np.intp] | None = None,
) -> NDArray[np.float32]:
    """Return rows (ascending; None: all) of X or a layer, which must be of `shape`.

    What float32 cannot hold becomes infinite.
    """
    anndata = import_optional("anndata", extra="anndata", needed_by=needed_by)
    rows = np.arange(shape[0]) if rows is None else rows
    part = "X" if layer is None else f"layers/{layer}"
    with open_hdf5(path, part) as file:
        if part not in file.parts:
            _raise_of_part(path, layer)
        if layer is None:
            file.check_matrix()
        file.check_values(part)
        with reading(path, f"part {part!r}"), np.errstate(over="ignore"):
            X = file[part]
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


def _layers_of(path: str | os.PathLike[str]) -> list[str]:
    with open_hdf5(path, "layers") as file, reading(path, "part 'layers'"):
        return sorted(file["layers"]) if "layers" in file.parts else []


def _raise_of_part(path: str | os.PathLike[str], layer: str | None) -> None:
    layers = first_few(_layers_of(path)) or "none"
    if layer is None:
        raise ValueError(
            f"{os.fspath(path)} has no X: name one of its layers by layer. "
            f"There are: {layers}."
        )
    raise ValueError(
        f"layer must be one of the layers of {os.fspath(path)} (there are: {layers}). "
        f"Got {layer!r}."
    )


def layers_hint(paths: Iterable[str | os.PathLike[str]]) -> str:
    """Say which layers there are beside X, for a warning of its values."""
    told = []
    for path in paths:
        layers = _layers_of(path)
        if layers:
            told.append(f"{os.fspath(path)!r} has the layers {first_few(layers)}")
    return f" X was read, and {'; '.join(told)}: name one by layer." if told else ""
