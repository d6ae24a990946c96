"""Writing GCTX files."""

import os
from collections.abc import Sequence
from numbers import Integral
from pathlib import Path
from uuid import uuid4

import h5py
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge.datasets._formats._gctdata import GctData, first_of

__all__ = ["COLUMN_META", "MATRIX", "ROW_META", "write_gctx"]

MATRIX = "0/DATA/0/matrix"
ROW_META = "0/META/ROW"
COLUMN_META = "0/META/COL"
VERSION = np.bytes_("GCTX1.0")

# The rule of the Broad Institute's own writers: at most 1 MiB and 1000 genes a chunk.
CHUNK_BYTES = 2**20
CHUNK_GENES = 1000
METADATA_GZIP = 6


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
    final = Path(path)
    if not final.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(final.parent)!r}.")
    draft = final.with_name(f".{final.name}.{uuid4().hex}.part")
    try:
        with h5py.File(draft, "x") as file:
            file.attrs["version"] = VERSION
            file.attrs["src"] = final.name
            single = np.can_cast(matrix.dtype, np.float32)
            stored = np.float32 if single else np.float64
            file.create_dataset(MATRIX, data=matrix, dtype=stored, **layout)
            _write_columns(file, COLUMN_META, obs_columns)
            _write_columns(file, ROW_META, gene_columns)
        os.replace(draft, final)
    finally:
        draft.unlink(missing_ok=True)


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
            f"{first_of(repeated)}."
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


def _write_columns(file: h5py.File, group: str, columns: dict[str, NDArray]) -> None:
    node = file.create_group(group, track_order=True)
    for name, values in columns.items():
        if values.dtype.kind == "S" and (values.view(np.uint8) > 127).any():
            values = values.view(h5py.string_dtype("utf-8", values.itemsize))
        level = METADATA_GZIP if len(values) else None
        node.create_dataset(name, data=values, compression=level)
