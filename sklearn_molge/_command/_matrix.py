"""Matrices in files with all that is told of their rows and columns."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from sklearn_molge._files.reading import reading
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.optional import import_optional

if TYPE_CHECKING:
    from anndata import AnnData

    from sklearn_molge.datasets import GctData

__all__ = [
    "is_saved_study",
    "kind_of",
    "matrix_of",
    "read_anndata",
    "read_matrix",
    "shape_of",
]

_HDF5 = b"\x89HDF"
_MATRIX = "0/DATA/0/matrix"
_MARK = "uns/sklearn_molge"


def kind_of(path: Path) -> str:
    """Return "gct", "gctx" or "h5ad" by the content of a file, "" for another."""
    from sklearn_molge._files.hdf5 import open_hdf5

    if path.is_dir():
        return ""
    with open(path, "rb") as file:
        start = file.read(8)
    if start.removeprefix(b"\xef\xbb\xbf").startswith(b"#1."):
        return "gct"
    if not start.startswith(_HDF5):
        return ""
    with open_hdf5(path) as hdf5:
        if "0" in hdf5.names:
            return "gctx"
        return "h5ad" if {"obs", "var"} <= hdf5.names else ""


def is_saved_study(path: Path) -> bool:
    """Whether `Study.save`, or AnnData of `Study.to_anndata`, wrote a file."""
    from sklearn_molge._files.hdf5 import open_hdf5

    if kind_of(path) != "h5ad":
        return False
    with open_hdf5(path, _MARK) as file:
        return _MARK in file.parts


def read_matrix(
    path: Path, n_profiles: int | None = None, layer: str | None = None
) -> GctData:
    """Read a GCT, a GCTX or an .h5ad file, or its first profiles.

    Raises
    ------
    ValueError
        If it is none of these, or damaged, or has no such layer.
    """
    from sklearn_molge.datasets import GctData, read_gct, read_gctx

    kind = kind_of(path)
    if layer is not None and kind in ("gct", "gctx"):
        raise ValueError(f"--layer: {path} is no .h5ad file, and has no layers.")
    rows = None if n_profiles is None else slice(0, n_profiles)
    if kind == "gctx":
        return read_gctx(path, samples=rows, missing="nan")
    if kind == "gct":
        data = read_gct(path, samples=rows, missing="nan")
        obs, genes = (
            table.mask(table.isin(["-666", -666])) for table in (data.obs, data.genes)
        )
        return GctData(data.matrix, obs, genes)
    if kind == "h5ad":
        return matrix_of(read_anndata(path)[rows or slice(None)], layer)
    raise ValueError(f"{path} is no GCT, GCTX or .h5ad file.")


def read_anndata(path: Path) -> AnnData:
    """Open an .h5ad file; its matrix stays on the disk until it is asked for."""
    anndata = import_optional("anndata", extra="anndata", needed_by="An .h5ad file")
    with reading(path):
        return anndata.read_h5ad(path, backed="r")


def matrix_of(data: AnnData, layer: str | None = None) -> GctData:
    """Return the matrix of AnnData, or a layer, with its tables."""
    import numpy as np

    from sklearn_molge.datasets import GctData

    layers = first_few(data.layers) or "none"
    if layer is not None and layer not in data.layers:
        raise ValueError(f"--layer must be one of {layers}. Got {layer}.")
    if layer is None and data.X is None:
        raise ValueError(f"The file has no X, but the layers {layers}: give --layer.")
    values = data.X if layer is None else data.layers[layer]
    values = values[:] if hasattr(values, "shape") else values
    values = values.toarray() if hasattr(values, "toarray") else np.asarray(values)
    return GctData(matrix=values, obs=data.obs.copy(), genes=data.var.copy())


def shape_of(path: Path) -> tuple[int, int]:
    """Return how many profiles and genes a matrix has, without reading it."""
    from sklearn_molge._files.hdf5 import open_hdf5

    kind = kind_of(path)
    if kind == "gctx":
        with open_hdf5(path) as file, reading(path, _MATRIX):
            n_profiles, n_genes = file[_MATRIX].shape
        return n_profiles, n_genes
    if kind == "h5ad":
        return read_anndata(path).shape
    with open(path, encoding="utf-8", errors="replace") as text, reading(path):
        lines = (line for line in text if line.strip())
        next(lines)
        n_genes, n_profiles = map(int, next(lines).split()[:2])
    return n_profiles, n_genes
