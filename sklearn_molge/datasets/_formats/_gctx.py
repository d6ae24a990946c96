"""Reading GCTX files: a matrix with its metadata, in HDF5."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge.datasets._formats._gctdata import (
    GctData,
    Subset,
    check_dtype,
    resolve_subset,
    text_index,
)
from sklearn_molge.datasets._formats._gctx_chunks import read_matrix
from sklearn_molge.datasets._formats._gctx_write import (
    COLUMN_META,
    MATRIX,
    ROW_META,
    write_gctx,
)

__all__ = ["read_gctx", "read_gctx_metadata", "write_gctx"]


@validate_params(
    {
        "path": [str, os.PathLike],
        "samples": "no_validation",
        "genes": "no_validation",
        "dtype": "no_validation",
        "chunk_bytes": [Interval(Integral, 1, None, closed="left")],
        "progress": ["boolean", StrOptions({"auto"})],
    },
    prefer_skip_nested_validation=True,
)
def read_gctx(
    path: str | os.PathLike[str],
    *,
    samples: Subset = None,
    genes: Subset = None,
    dtype: DTypeLike = np.float32,
    chunk_bytes: int = 2**24,
    progress: bool | str = "auto",
) -> GctData:
    """Read a GCTX file, or some samples and genes of it.

    Only the parts of the file that hold what is asked for are read, in the order of
    the file, each once. Memory stays near the size of the result plus `chunk_bytes`,
    however large the file.

    Parameters
    ----------
    path : path-like
        The file, in layout GCTX1.0 (see `write_gctx`).
    samples : None, array-like, slice or callable, default=None
        The samples to read (the file's columns), in the order in which to return
        them: ids (text), positions, a boolean mask, a slice of positions, or a
        callable that takes `obs` and returns a boolean mask. None: all, in the order
        of the file. What is asked for twice is returned twice.
    genes : None, array-like, slice or callable, default=None
        The genes to read (the file's rows), likewise. Row ids are text: whole numbers
        are positions, never Entrez ids.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Of the matrix.
    chunk_bytes : int, default=16777216
        Most memory in bytes for the read buffer, with what is picked from it. One
        chunk of the file is always held whole, however large.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar. "auto" shows one on a terminal, when the
        reading takes more than two seconds.

    Returns
    -------
    data : GctData
        `matrix` (n_samples, n_genes), `obs` and `genes`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is not HDF5 or not in the layout of GCTX, or holds nothing of the
        name or position asked for.

    Warns
    -----
    UserWarning
        If text of the file is not UTF-8; it is read as Latin-1 then.

    See Also
    --------
    read_gct : The same from a text file.
    write_gctx : Write such a file.

    Notes
    -----
    Metadata keep the type in which they are stored: numbers are numbers, text is
    text, also where it says "-666", LINCS's mark for a missing value. Empty text is
    missing (NaN). Numbers stored as text stay text; in a GCT file they become
    numbers, since there everything is text.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_molge.datasets import read_gctx, write_gctx
    >>> obs = pd.DataFrame({"pert_id": ["DMSO", "BRD-K1", "BRD-K2"]}, list("abc"))
    >>> genes = pd.DataFrame(index=["16", "23"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "small.gctx"
    ...     write_gctx(path, np.array([[0.0, 1], [2, 3], [4, 5]]), obs, genes)
    ...     data = read_gctx(path, samples=lambda obs: obs["pert_id"] != "DMSO")
    >>> data.matrix
    array([[2., 3.],
           [4., 5.]], dtype=float32)
    >>> data.obs["pert_id"].to_dict()
    {'b': 'BRD-K1', 'c': 'BRD-K2'}
    """
    dtype = check_dtype(dtype)
    with _open(path) as file:
        matrix, obs_ids, gene_ids = _read_layout(file)
        rows, obs = _read_axis(file, COLUMN_META, obs_ids, samples, "samples")
        columns, gene_frame = _read_axis(file, ROW_META, gene_ids, genes, "genes")
        values = read_matrix(
            matrix,
            rows,
            columns,
            dtype=dtype,
            chunk_bytes=chunk_bytes,
            progress=progress,
        )
    return GctData(values, obs, gene_frame)


def read_gctx_metadata(
    path: str | os.PathLike[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read the metadata of a GCTX file, without its matrix.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    obs : DataFrame
        One row a sample, as of `read_gctx`.
    genes : DataFrame
        One row a gene.
    """
    with _open(path) as file:
        _, obs_ids, gene_ids = _read_layout(file)
        obs = _read_frame(file, COLUMN_META, obs_ids, None)
        genes = _read_frame(file, ROW_META, gene_ids, None)
    return obs, genes


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[h5py.File]:
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


def _read_layout(file: h5py.File) -> tuple[h5py.Dataset, pd.Index, pd.Index]:
    """Return the matrix, unread, with the ids of samples and genes."""
    names = MATRIX, f"{COLUMN_META}/id", f"{ROW_META}/id"
    nodes = [file.get(name) for name in names]
    for name, node in zip(names, nodes, strict=True):
        if not isinstance(node, h5py.Dataset):
            raise ValueError(
                f"{file.filename} is not a GCTX file: it has no dataset {name!r}."
            )
    matrix, *id_nodes = nodes
    obs_ids, gene_ids = (
        text_index(_read_values(node, node.size, None, file)) for node in id_nodes
    )
    if matrix.shape != (len(obs_ids), len(gene_ids)):
        raise ValueError(
            f"{file.filename}: dataset {MATRIX!r} must have shape "
            f"({len(obs_ids)}, {len(gene_ids)}), one entry for each of the ids in "
            f"{COLUMN_META!r} and {ROW_META!r}. Got shape {matrix.shape}."
        )
    if matrix.dtype.kind not in "fiu":
        raise ValueError(
            f"{file.filename}: dataset {MATRIX!r} must hold real numbers. "
            f"Got dtype {matrix.dtype}."
        )
    return matrix, obs_ids, gene_ids


def _read_axis(
    file: h5py.File, group: str, ids: pd.Index, subset: Subset, name: str
) -> tuple[NDArray[np.intp], pd.DataFrame]:
    """Return the positions asked for, and their metadata."""
    positions = resolve_subset(
        subset,
        ids,
        name=name,
        path=file.filename,
        read_metadata=lambda: _read_frame(file, group, ids, None),
    )
    wanted = None if subset is None else positions
    return positions, _read_frame(file, group, ids, wanted)


def _read_frame(
    file: h5py.File, group: str, ids: pd.Index, positions: NDArray[np.intp] | None
) -> pd.DataFrame:
    index = ids if positions is None else ids[positions]
    columns = {}
    for name, node in file[group].items():
        if name == "id" or not isinstance(node, h5py.Dataset):
            continue
        values = _read_values(node, len(ids), positions, file)
        if values.dtype == object:
            values[[isinstance(v, str) and not v for v in values]] = np.nan
        columns[name] = pd.Series(values, index=index, dtype=values.dtype)
    return pd.DataFrame(columns, index=index)


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
        return _decode(values.tolist(), dataset, file)
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
