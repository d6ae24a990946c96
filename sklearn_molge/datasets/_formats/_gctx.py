"""Reading GCTX files: a matrix with its metadata, in HDF5."""

import os
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge.datasets._formats._gctdata import (
    GctData,
    Subset,
    check_dtype,
)
from sklearn_molge.datasets._formats._gctx_chunks import read_matrix
from sklearn_molge.datasets._formats._gctx_meta import (
    check_layout,
    open_gctx,
    read_axis,
    read_frame,
)
from sklearn_molge.datasets._formats._gctx_write import (
    COLUMN_META,
    ROW_META,
    write_gctx,
)

__all__ = ["read_gctx", "read_gctx_metadata", "read_gctx_values", "write_gctx"]

CHUNK_BYTES = 2**24


@validate_params(
    {
        "path": [str, os.PathLike],
        "samples": "no_validation",
        "genes": "no_validation",
        "dtype": "no_validation",
        "chunk_bytes": [Interval(Integral, 1, None, closed="left")],
        "progress": ["boolean", StrOptions({"auto"})],
        "n_jobs": [Integral, None],
    },
    prefer_skip_nested_validation=True,
)
def read_gctx(
    path: str | os.PathLike[str],
    *,
    samples: Subset = None,
    genes: Subset = None,
    dtype: DTypeLike = np.float32,
    chunk_bytes: int = CHUNK_BYTES,
    progress: bool | str = "auto",
    n_jobs: int | None = None,
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
    with open_gctx(path) as file:
        matrix = check_layout(file)
        rows, obs = read_axis(file, COLUMN_META, samples, "samples")
        columns, gene_frame = read_axis(file, ROW_META, genes, "genes")
        values = np.empty((len(rows), len(columns)), dtype=dtype)
        read_matrix(
            matrix,
            rows,
            columns,
            values,
            chunk_bytes=chunk_bytes,
            progress=progress,
            n_jobs=n_jobs,
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
    """Read the matrix alone, at these positions, into an array.

    Parameters
    ----------
    path : path-like
        The file.
    samples, genes : ndarray of int
        Positions in the file.
    out : ndarray of shape (n_samples, n_genes)
        Where the values go.
    progress, n_jobs
        As of `read_gctx`.
    """
    with open_gctx(path) as file:
        read_matrix(
            check_layout(file),
            samples,
            genes,
            out,
            chunk_bytes=CHUNK_BYTES,
            progress=progress,
            n_jobs=n_jobs,
        )


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
    with open_gctx(path) as file:
        check_layout(file)
        return read_frame(file, COLUMN_META), read_frame(file, ROW_META)
