"""A study in one file: an .h5ad of AnnData's, with a matrix that can be mapped."""

from __future__ import annotations

import mmap
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge.datasets._anndata import (
    MARK,
    import_anndata,
    own_parts,
    study_tables,
)
from sklearn_molge.datasets._tables import check_exact, check_names

if TYPE_CHECKING:
    from sklearn_molge.datasets._study import Study

__all__ = ["read_study_parts", "write_study"]

BLOCK_BYTES = 2**24
# Of every object in the file, so that the mapped matrix starts at a cache line.
ALIGNMENT = 64
ARRAY_ATTRIBUTES = {"encoding-type": "array", "encoding-version": "0.2.0"}


def write_study(study: Study, path: str | os.PathLike[str]) -> None:
    """Write the file beside `path`, and give it its name when it is complete."""
    anndata = import_anndata("Study.save")
    final = Path(path)
    if not final.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(final.parent)!r}.")
    obs, var, mark = _checked_tables(study)
    draft = final.with_name(f".{final.name}.{uuid4().hex}.part")
    try:
        with h5py.File(
            draft, "x", alignment_threshold=1, alignment_interval=ALIGNMENT
        ) as file:
            with warnings.catch_warnings():
                # A study may hold a profile twice.
                warnings.filterwarnings("ignore", ".*names are not unique", UserWarning)
                tables = anndata.AnnData(obs=obs, var=var, uns={MARK: mark})
            anndata.io.write_elem(file, "/", tables)
            _write_matrix(file, study)
        os.replace(draft, final)
    finally:
        draft.unlink(missing_ok=True)


def _checked_tables(study: Study) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return the tables to write; raise where they would not come back as they are."""
    given = {
        name: table
        for name in ("obs", "genes", "control_obs", "dropped")
        if (table := getattr(study, name)) is not None
    }
    for name, table in given.items():
        check_names(name, table)
    for name in ("ge", "control_ge"):
        table = given.get("obs" if name == "ge" else "control_obs")
        shape = np.shape(getattr(study, name))
        if table is not None and shape != (len(table), len(study.genes)):
            raise ValueError(
                f"{name} must be of shape ({len(table)}, {len(study.genes)}), as the "
                f"tables of the study are. Got shape {shape}."
            )
    obs, var, mark = study_tables(study)
    restored = own_parts(obs, var, mark, np.empty((len(obs), 0), dtype=np.float32))
    written: dict[str, Any] = {"genes": var, "dropped": mark.get("dropped")}
    for name, table in given.items():
        check_exact(name, table, written.get(name, obs), restored[name])
    return obs, var, mark


def _write_matrix(file: h5py.File, study: Study) -> None:
    """Stream treated, then control profiles into one array in one piece."""
    parts = [study.ge] if study.control_ge is None else [study.ge, study.control_ge]
    n_genes = len(study.genes)
    shape = sum(map(len, parts)), n_genes
    matrix = file.create_dataset("X", shape, dtype=np.float32)
    matrix.attrs.update(ARRAY_ATTRIBUTES)
    step = max(BLOCK_BYTES // max(4 * n_genes, 1), 1)
    row = 0
    for part in parts:
        for start in range(0, len(part), step):
            block = np.asarray(part[start : start + step], dtype=np.float32)
            matrix[row : row + len(block)] = block
            row += len(block)


@validate_params(
    {"path": [str, os.PathLike], "mmap_mode": [StrOptions({"r", "c"}), None]},
    prefer_skip_nested_validation=True,
)
def read_study_parts(
    path: str | os.PathLike[str], *, mmap_mode: str | None
) -> dict[str, Any]:
    """Return the arguments of Study from a file that `write_study` wrote."""
    anndata = import_anndata("Study.load")
    with _open(path) as file:
        mark = _read(file, f"uns/{MARK}", anndata)
        obs, var = (_read(file, name, anndata) for name in ("obs", "var"))
        X = _matrix(file, (len(obs), len(var)), mmap_mode)
    try:
        return own_parts(obs, var, mark, X)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{os.fspath(path)}: the tables and the part 'uns/{MARK}', which describes "
            f"them, do not belong together: {error}"
        ) from error


def _open(path: str | os.PathLike[str]) -> h5py.File:
    if not Path(path).exists():
        raise FileNotFoundError(f"There is no file {os.fspath(path)!r}.")
    try:
        return h5py.File(path, "r")
    except OSError as error:
        # The operating system's own refusals (rights, a folder) carry a number.
        if error.errno is not None:
            raise
        raise ValueError(
            f"{os.fspath(path)} is no file of Study.save, or is cut or damaged: it "
            f"cannot be read as HDF5: {error}"
        ) from error


def _read(file: h5py.File, part: str, anndata: Any) -> Any:
    if part not in file:
        raise ValueError(
            f"{file.filename} has no part {part!r}: it was not written by Study.save. "
            "A file of AnnData's becomes a study by "
            "Study.from_anndata(anndata.read_h5ad(path))."
        )
    try:
        return anndata.io.read_elem(file[part])
    except Exception as error:
        raise ValueError(
            f"{file.filename}: part {part!r} cannot be read: {error}"
        ) from error


def _matrix(file: h5py.File, shape: tuple[int, int], mode: str | None) -> NDArray:
    matrix = file.get("X")
    if not isinstance(matrix, h5py.Dataset) or matrix.shape != shape:
        raise ValueError(
            f"{file.filename}: part 'X' must be an array of shape {shape}, one row for "
            f"each of obs and one column for each of var. Got {matrix!r}."
        )
    if mode is None or 0 in shape:
        return matrix[...]
    offset = matrix.id.get_offset()
    if offset is None or matrix.dtype != np.float32:
        raise ValueError(
            f"{file.filename}: part 'X' is compressed, in chunks or not float32, and "
            "cannot be memory-mapped. Pass mmap_mode=None, or save it by Study.save."
        )
    if mode == "r":
        return np.memmap(file.filename, matrix.dtype, "r", offset, shape)
    with open(file.filename, "rb") as handle:
        pages = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
    # Not a numpy.memmap: joblib's workers would open the file and miss what changed.
    values = np.frombuffer(memoryview(pages), matrix.dtype, matrix.size, offset)
    return values.reshape(shape)
