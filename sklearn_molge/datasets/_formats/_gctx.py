"""GCTX files: a matrix with its metadata, in HDF5."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from numbers import Integral
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._files.hdf5 import Hdf5File, open_hdf5, seal
from sklearn_molge._files.hdf5_seal import SEAL_ATTRIBUTE
from sklearn_molge._files.hdf5_writing import writing_hdf5
from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replacing
from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._formats._gctdata import (
    GctData,
    Subset,
    check_dtype,
    resolve_subset,
    text_index,
)
from sklearn_molge.datasets._formats._gctx_matrix import read_matrix
from sklearn_molge.datasets._formats._values import MISSING_OPTIONS, check_values
from sklearn_molge.exceptions import CorruptFileError

__all__ = [
    "COLUMN_META",
    "MATRIX",
    "ROW_META",
    "check_layout",
    "open_gctx",
    "read_columns",
    "read_frame",
    "read_gctx",
    "read_gctx_values",
    "read_raw_ids",
    "write_gctx",
]

MATRIX = "0/DATA/0/matrix"
ROW_META = "0/META/ROW"
COLUMN_META = "0/META/COL"
VERSION = np.bytes_("GCTX1.0")

BUFFER_BYTES = 2**24
# The rule of the Broad Institute's own writers: at most 1 MiB and 1000 genes a chunk.
CHUNK_BYTES = 2**20
CHUNK_GENES = 1000
METADATA_GZIP = 6


@validate_params(
    {
        "path": [str, os.PathLike],
        "samples": "no_validation",
        "genes": "no_validation",
        "dtype": "no_validation",
        "chunk_bytes": [Interval(Integral, 1, None, closed="left")],
        "progress": ["boolean", StrOptions({"auto"})],
        "n_jobs": [Integral, None],
        "missing": [StrOptions(MISSING_OPTIONS)],
    },
    prefer_skip_nested_validation=True,
)
def read_gctx(
    path: str | os.PathLike[str],
    *,
    samples: Subset = None,
    genes: Subset = None,
    dtype: DTypeLike = np.float32,
    chunk_bytes: int = BUFFER_BYTES,
    progress: bool | str = "auto",
    n_jobs: int | None = None,
    missing: str = "raise",
) -> GctData:
    """Read a GCTX file, or some samples and genes of it.

    Only the parts of the file that hold what is asked for are read, in the order of
    the file, each once. Memory stays near the size of the result plus `chunk_bytes`,
    however large the file.

    Values in one piece, and in chunks that are plain or packed by gzip (with or
    without byte shuffle), are read past HDF5, whose lock lets one thread in at a time;
    other ways of storing go through HDF5, in one thread.

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
        Most memory in bytes for the read buffer, with what is picked from it. A
        compressed chunk of the file is always held whole, however large.
    progress : bool or "auto", default="auto"
        Whether to show a progress bar. "auto" shows one on a terminal, when the
        reading takes more than two seconds.
    n_jobs : int or None, default=None
        Threads that read, and unpack gzip. None is 1 unless in a
        :func:`joblib.parallel_config` context, -1 all processors. The result is the
        same. Each thread has its own buffer. More than one helps with gzip, and
        with a disk that serves several requests at a time.
    missing : {"raise", "nan"}, default="raise"
        What to do with values that are NaN, or -666, LINCS's mark for a missing value.
        "nan" keeps them as NaN, which estimators refuse.

    Returns
    -------
    data : GctData
        `matrix` (n_samples, n_genes), `obs` and `genes`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CorruptFileError
        If the file is not HDF5 or not in the layout of GCTX, is damaged, not complete
        or without a part of its chunks, leads to other files by links, or was changed
        since :func:`write_gctx` wrote it. Only whole matrices are compared with their
        checksum; metadata always are.
    ValueError
        If it holds nothing of the name or position asked for, or values asked for are
        infinite, or missing with ``missing="raise"``; counts them, and names samples
        and genes.

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
    with open_gctx(path) as file:
        check_layout(file)
        rows, obs = _read_axis(file, COLUMN_META, samples, "samples")
        columns, gene_frame = _read_axis(file, ROW_META, genes, "genes")
        values = np.empty((len(rows), len(columns)), dtype=dtype)
        read_matrix(
            file,
            MATRIX,
            rows,
            columns,
            values,
            chunk_bytes=chunk_bytes,
            progress=progress,
            n_jobs=n_jobs,
        )
    check_values(
        values,
        missing,
        where=os.fspath(path),
        names=lambda: (obs.index, gene_frame.index),
    )
    return GctData(values, obs, gene_frame)


def read_gctx_values(
    path: str | os.PathLike[str],
    samples: NDArray[np.intp],
    genes: NDArray[np.intp],
    out: NDArray[np.floating],
    *,
    progress: bool | str,
    n_jobs: int | None,
) -> None:
    """Read the matrix alone, at these positions in the file, into an array."""
    with open_gctx(path) as file:
        check_layout(file)
        read_matrix(
            file,
            MATRIX,
            samples,
            genes,
            out,
            chunk_bytes=BUFFER_BYTES,
            progress=progress,
            n_jobs=n_jobs,
        )


# ------------------------------------------------------------------ metadata


@contextmanager
def open_gctx(path: str | os.PathLike[str]) -> Iterator[Hdf5File]:
    """Open a file for reading, once what will be read of it is known to be sound."""
    with open_hdf5(path, MATRIX, COLUMN_META, ROW_META, attributes=False) as file:
        yield file


def check_layout(file: Hdf5File) -> None:
    """Raise where the file is not in GCTX's layout."""
    names = MATRIX, f"{COLUMN_META}/id", f"{ROW_META}/id"
    for name in names:
        if name not in file.stored:
            raise CorruptFileError(
                file.filename, f"dataset {name!r}", "it is not there: no GCTX file"
            )
    with reading(file.filename, f"dataset {MATRIX!r}"):
        matrix, obs_ids, gene_ids = (file[name] for name in names)
        if matrix.shape != (obs_ids.size, gene_ids.size):
            raise ValueError(
                f"it must have shape ({obs_ids.size}, {gene_ids.size}), one entry for "
                f"each of the ids in {COLUMN_META!r} and {ROW_META!r}. "
                f"Got shape {matrix.shape}"
            )
        if matrix.dtype.kind not in "fiu":
            raise ValueError(f"it must hold real numbers. Got dtype {matrix.dtype}")


def _read_axis(
    file: Hdf5File, group: str, subset: Subset, name: str
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
    file: Hdf5File, group: str, positions: NDArray[np.intp] | None = None
) -> pd.DataFrame:
    """Read the metadata of an axis, or of some `positions` of it, indexed by id."""
    frame = read_columns(file, group, positions)
    return frame.set_axis(_read_ids(file, group, positions), axis=0)


def read_columns(
    file: Hdf5File,
    group: str,
    positions: NDArray[np.intp] | None = None,
    *,
    wanted: Callable[[str], bool] = lambda name: True,
) -> pd.DataFrame:
    """Read the metadata of an axis without its ids, in the columns `wanted`."""
    size = file[f"{group}/id"].size
    columns = {}
    with reading(file.filename, f"group {group!r}"):
        for name, node in file[group].items():
            if name == "id" or not isinstance(node, h5py.Dataset) or not wanted(name):
                continue
            values = _read_values(node, size, positions, file)
            if h5py.check_string_dtype(node.dtype) is not None:
                values[values == ""] = np.nan
            columns[name] = pd.Series(values, dtype=values.dtype)
    index = pd.RangeIndex(size if positions is None else len(positions))
    return pd.DataFrame(columns, index=index)


def read_raw_ids(file: Hdf5File, group: str) -> NDArray[np.bytes_]:
    """Read all ids of an axis as UTF-8 in one array: a third of a list of texts."""
    values = _stored_entries(file[f"{group}/id"], file)
    if values.dtype.kind == "S" and not (values.view(np.uint8) > 127).any():
        return values
    texts = _read_ids(file, group, None)
    return np.array([text.encode() for text in texts], dtype=bytes)


def _read_ids(
    file: Hdf5File, group: str, positions: NDArray[np.intp] | None
) -> pd.Index:
    node = file[f"{group}/id"]
    return text_index(_read_values(node, node.size, positions, file))


def _read_values(
    dataset: h5py.Dataset,
    size: int,
    positions: NDArray[np.intp] | None,
    file: Hdf5File,
) -> NDArray:
    values = _stored_entries(dataset, file)
    if len(values) != size:
        raise CorruptFileError(
            file.filename,
            f"dataset {dataset.name!r}",
            f"it must have {size} entries, as many as there are ids. "
            f"Got shape {dataset.shape}",
        )
    if positions is not None:
        values = values[positions]
    if h5py.check_string_dtype(dataset.dtype) is not None:
        # Each distinct text is decoded, and stored, once.
        codes, distinct = pd.factorize(values.astype(object))
        return _decode(distinct.tolist(), dataset, file)[codes]
    if values.dtype.kind in "fiubc":
        return values.astype(values.dtype.newbyteorder("="))
    return np.fromiter(values, dtype=object, count=len(values))


def _stored_entries(dataset: h5py.Dataset, file: Hdf5File) -> NDArray:
    with reading(file.filename, f"dataset {dataset.name!r}"):
        file.check_values(dataset.name.removeprefix("/"))
        return np.asarray(dataset[()]).ravel()


def _decode(
    entries: list[bytes], dataset: h5py.Dataset, file: Hdf5File
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


# ------------------------------------------------------------------- writing


@validate_params(
    {
        "path": [str, os.PathLike],
        "data": "no_validation",
        "obs": [pd.DataFrame, None],
        "genes": [pd.DataFrame, None],
        "compression": [Interval(Integral, 1, 9, closed="both"), None],
        "chunks": [tuple, StrOptions({"auto"}), None],
    },
    prefer_skip_nested_validation=True,
)
def write_gctx(
    path: str | os.PathLike[str],
    data: GctData | ArrayLike,
    obs: pd.DataFrame | None = None,
    genes: pd.DataFrame | None = None,
    *,
    compression: int | None = None,
    chunks: tuple[int, int] | str | None = "auto",
) -> None:
    """Write a matrix and its metadata as a GCTX file.

    The file gets its name when it is complete: an interrupted call leaves an earlier
    file of this name as it was.

    Parameters
    ----------
    path : path-like
        The file; an existing one is replaced.
    data : GctData or array-like of shape (n_samples, n_genes)
        What to write, or only its matrix. float32 and float64 are stored as they are,
        other numbers as the smaller of the two that holds them.
    obs : DataFrame of n_samples rows, default=None
        One row a sample, indexed by the sample ids. Only with a bare matrix.
    genes : DataFrame of n_genes rows, default=None
        One row a gene, indexed by the row ids. Only with a bare matrix.
    compression : int from 1 to 9, default=None
        Level of gzip (with byte shuffle) for the matrix. None does not compress:
        expression values hardly shrink, and reading takes several times longer.
    chunks : "auto", (int, int) or None, default="auto"
        Samples and genes in a chunk of the matrix. "auto" is the rule of the Broad
        Institute's writers: at most 1000 genes and 1 MiB. None stores the matrix in
        one piece, as cmapPy does: best for reading whole samples, worst for reading
        few genes of many samples from a disk; it cannot be compressed.

    Raises
    ------
    ValueError
        If matrix and metadata do not belong together, an id occurs twice or is
        missing, or the name of a column cannot be stored.
    FileNotFoundError
        If the folder does not exist.

    See Also
    --------
    read_gctx : Read such a file.

    Notes
    -----
    Layout GCTX1.0: the matrix is ``0/DATA/0/matrix``, of shape (n_samples, n_genes);
    each column of `obs` is a dataset in ``0/META/COL``, each of `genes` in
    ``0/META/ROW``, with the index as ``id``; attributes ``version`` and ``src`` on the
    root. GCTX names rows and columns of the transpose, hence the swap.

    Numbers and booleans are stored as such, everything else as fixed-length UTF-8
    text. A missing text is stored as the empty text, and comes back as missing; an
    empty text comes back as missing, too. A missing value in a column of numbers is
    NaN. "-666" is not used: it would come back as text.

    Checksums stand behind the end of the HDF5, where other programs do not look.
    `read_gctx` refuses a file that was changed since; whoever changes one on purpose
    deletes the attribute ``sklearn_molge_seal`` of its root.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_molge.datasets import GctData, read_gctx, write_gctx
    >>> import numpy as np
    >>> import pandas as pd
    >>> data = GctData(
    ...     matrix=np.array([[1.5, -2.0]], dtype=np.float32),
    ...     obs=pd.DataFrame({"dose_um": [10.0]}, index=["plate:A03"]),
    ...     genes=pd.DataFrame({"symbol": ["AARS1", None]}, index=["16", "23"]),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_gctx(Path(folder) / "one.gctx", data)
    ...     back = read_gctx(Path(folder) / "one.gctx")
    >>> back
    GctData(n_samples=1, n_genes=2, obs=['dose_um'], genes=['symbol'])
    >>> back.genes["symbol"].to_dict()
    {'16': 'AARS1', '23': nan}
    """
    data = _as_gct_data(data, obs, genes)
    matrix = np.asarray(data.matrix)
    if matrix.dtype.kind not in "fiub":
        raise ValueError(f"data must hold real numbers. Got dtype {matrix.dtype}.")
    layout = _matrix_layout(matrix.shape, compression, chunks)
    obs_columns = _stored_columns(data.obs, "obs")
    gene_columns = _stored_columns(data.genes, "genes")
    with replacing(path) as draft:
        with writing_hdf5(draft) as (file, check):
            file.attrs["version"] = VERSION
            file.attrs["src"] = Path(path).name
            file.attrs[SEAL_ATTRIBUTE] = True
            single = np.can_cast(matrix.dtype, np.float32)
            stored = np.float32 if single else np.float64
            node = file.create_dataset(MATRIX, matrix.shape, stored, **layout)
            for rows in _blocks_of_chunks(node):
                node[rows] = matrix[rows]
                check()
            _write_columns(file, COLUMN_META, obs_columns)
            _write_columns(file, ROW_META, gene_columns)
        seal(draft, MATRIX)


def _blocks_of_chunks(node: h5py.Dataset) -> Iterator[slice]:
    """Cut the rows of a matrix into blocks that share no chunk."""
    row_bytes = max(node.shape[1] * node.dtype.itemsize, 1)
    height = 1 if node.chunks is None else node.chunks[0]
    step = max(BUFFER_BYTES // row_bytes // height, 1) * height
    for start in range(0, node.shape[0], step):
        yield slice(start, min(start + step, node.shape[0]))


def _as_gct_data(
    data: GctData | ArrayLike, obs: pd.DataFrame | None, genes: pd.DataFrame | None
) -> GctData:
    if isinstance(data, GctData):
        if obs is not None or genes is not None:
            raise ValueError("obs and genes must be None where data is a GctData.")
        return data
    if obs is None or genes is None:
        raise ValueError("obs and genes must be data frames where data is a matrix.")
    return GctData(np.asarray(data), obs, genes)


def _matrix_layout(
    shape: tuple[int, int],
    compression: int | None,
    chunks: tuple[int, int] | str | None,
) -> dict[str, object]:
    if chunks is None:
        if compression is not None:
            raise ValueError("compression must be None where chunks is None.")
        return {}
    if 0 in shape:
        return {}
    if chunks == "auto":
        n_genes = min(shape[1], CHUNK_GENES)
        chunks = (max(min(shape[0], CHUNK_BYTES // 4 // n_genes), 1), n_genes)
    sizes = np.asarray(chunks)
    if sizes.shape != (2,) or sizes.dtype.kind not in "iu" or (sizes < 1).any():
        raise ValueError(
            'chunks must be "auto", None or two positive whole numbers (samples, '
            f"genes). Got {chunks!r}."
        )
    layout: dict[str, object] = {"chunks": tuple(np.minimum(sizes, shape).tolist())}
    if compression is not None:
        layout |= {
            "compression": "gzip",
            "compression_opts": compression,
            "shuffle": True,
        }
    return layout


def _stored_columns(frame: pd.DataFrame, name: str) -> dict[str, NDArray]:
    """Return the index as "id" and every column, as arrays that HDF5 can hold."""
    ids = frame.index
    if not ids.is_unique:
        repeated = ids[ids.duplicated()].unique()
        raise ValueError(
            f"The index of {name} must hold each id once. Got more than once: "
            f"{first_few(repeated)}."
        )
    if ids.hasnans or "" in ids:
        raise ValueError(f"The index of {name} must hold an id for every row.")
    columns = {"id": _as_bytes([str(i) for i in ids])}
    for label in frame.columns:
        if not isinstance(label, str) or label in {"", "."} or "/" in label:
            raise ValueError(
                f"The columns of {name} must be named by text without '/'. "
                f"Got {label!r}."
            )
        if label in columns:
            raise ValueError(
                f"The columns of {name} must be named differently from each other, and "
                f"none 'id', which names the index. Got {label!r} twice."
            )
        columns[label] = _stored_values(frame[label])
    return columns


def _stored_values(column: pd.Series) -> NDArray:
    column = column.infer_objects()
    missing = column.isna().to_numpy()
    if isinstance(column.dtype, np.dtype):
        if column.dtype.kind in "fiub":
            return column.to_numpy()
    elif pd.api.types.is_numeric_dtype(column):
        if missing.any():
            return column.to_numpy(dtype=np.float64, na_value=np.nan)
        return column.to_numpy(dtype=column.dtype.type)
    texts = ["" if m else str(v) for v, m in zip(column, missing, strict=True)]
    return _as_bytes(texts)


def _as_bytes(texts: Sequence[str]) -> NDArray[np.bytes_]:
    encoded = [text.encode() for text in texts]
    width = max(map(len, encoded), default=0)
    return np.array(encoded, dtype=f"S{max(width, 1)}")


def _write_columns(file: Hdf5File, group: str, columns: dict[str, NDArray]) -> None:
    node = file.create_group(group, track_order=True)
    for name, values in columns.items():
        if values.dtype.kind == "S" and (values.view(np.uint8) > 127).any():
            values = values.view(h5py.string_dtype("utf-8", values.itemsize))
        level = METADATA_GZIP if len(values) else None
        node.create_dataset(name, data=values, compression=level)
