"""Reading scattered rows and columns of a matrix on disk, in the order of the file."""

import h5py
import numpy as np
from joblib import Parallel
from numpy.typing import NDArray
from tqdm.auto import tqdm

from sklearn_molge.datasets._formats._blocks import (
    PAGE_BYTES,
    as_slice,
    cover,
    grid,
)
from sklearn_molge.datasets._formats._gctx_raw import raw_matrix
from sklearn_molge.datasets._formats._gctx_threads import raw_tasks

__all__ = ["read_matrix"]

# Up to so many bytes, reading on through a gap is cheaper than a second request.
HDF5_GAP = 2**19


def read_matrix(
    dataset: h5py.Dataset,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    out: NDArray[np.floating],
    *,
    chunk_bytes: int,
    progress: bool | str,
    n_jobs: int | None = None,
) -> None:
    """Read ``dataset[rows][:, columns]`` into `out` with a bounded buffer.

    Parameters
    ----------
    dataset : h5py.Dataset of shape (n_rows, n_columns)
        Of real numbers, in any layout.
    rows, columns : ndarray of int
        Positions in any order, repeats allowed.
    out : ndarray of shape (n_rows_read, n_columns_read)
        Where the values go.
    chunk_bytes : int
        Most memory that buffer and picked values take beside the result, unless a
        single chunk of the file is larger.
    progress : bool or "auto"
        Whether to show a progress bar; "auto": on a terminal, after two seconds.
    n_jobs : int or None
        Threads, as joblib counts them, each with a buffer of its own.
    """
    if out.size == 0:
        return
    out = np.asarray(out)
    with tqdm(
        total=out.size,
        desc="Reading",
        unit=" values",
        unit_scale=True,
        disable=None if progress == "auto" else not progress,
        delay=2 if progress == "auto" else 0,
    ) as bar:
        raw = raw_matrix(dataset)
        everything = _is_everything(rows, columns, dataset.shape)
        if everything and not (raw and raw.filters):
            _read_everything(dataset, out, chunk_bytes, bar)
        elif raw is None:
            _read_chunks(dataset, rows, columns, out, chunk_bytes, bar)
        else:
            tasks = raw_tasks(dataset, raw, rows, columns, out, chunk_bytes)
            # In threads, whatever the backend: all write into one array.
            parallel = Parallel(
                n_jobs, require="sharedmem", return_as="generator_unordered"
            )
            for n_values in parallel(tasks):
                bar.update(n_values)


def _is_everything(
    rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, int]
) -> bool:
    return (len(rows), len(columns)) == shape and all(
        isinstance(as_slice(positions), slice) for positions in (rows, columns)
    )


def _read_everything(
    dataset: h5py.Dataset, result: NDArray[np.floating], chunk_bytes: int, bar: tqdm
) -> None:
    n_rows, n_columns = dataset.shape
    height = dataset.chunks[0] if dataset.chunks else 1
    row_bytes = n_columns * dataset.dtype.itemsize
    step = max(chunk_bytes // (height * row_bytes), 1) * height
    for first in range(0, n_rows, step):
        part = np.s_[first : min(first + step, n_rows)]
        dataset.read_direct(result, part, part)
        bar.update(result[part].size)


def _read_chunks(
    dataset: h5py.Dataset,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    result: NDArray[np.floating],
    chunk_bytes: int,
    bar: tqdm,
) -> None:
    """Read stretches of whole chunks, each chunk once, and pick from them.

    h5py's own indexing by lists hands HDF5 a selection of single elements, which
    costs far more than the reading.
    """
    itemsize = dataset.dtype.itemsize
    height, width = dataset.chunks or (1, PAGE_BYTES // itemsize)
    # Half for the buffer, half for what is picked from it.
    budget = max(chunk_bytes // (2 * itemsize), height * width)
    by_column = cover(
        columns,
        unit=width,
        length=dataset.shape[1],
        max_size=budget // height,
        max_gap=HDF5_GAP // (height * itemsize),
    )
    widest = max(block.size for block in by_column)
    by_row = cover(
        rows,
        unit=height,
        length=dataset.shape[0],
        max_size=budget // widest,
        max_gap=HDF5_GAP // (widest * itemsize),
    )
    tallest = max(block.size for block in by_row)
    buffer = np.empty(tallest * widest, dtype=dataset.dtype)
    for r in by_row:
        for c in by_column:
            part = buffer[: r.size * c.size].reshape(r.size, c.size)
            _fill(dataset, part, r.spans, c.spans)
            picked = part[grid(r.inside, c.inside)]
            result[grid(r.target, c.target)] = picked
            bar.update(picked.size)


def _fill(
    dataset: h5py.Dataset,
    part: NDArray,
    row_spans: list[tuple[int, int]],
    column_spans: list[tuple[int, int]],
) -> None:
    """Fill `part` with the stretches of rows by the stretches of columns."""
    top = 0
    for row, row_end in row_spans:
        bottom = top + row_end - row
        left = 0
        for column, column_end in column_spans:
            right = left + column_end - column
            source = np.s_[row:row_end, column:column_end]
            dataset.read_direct(part, source, np.s_[top:bottom, left:right])
            left = right
        top = bottom
