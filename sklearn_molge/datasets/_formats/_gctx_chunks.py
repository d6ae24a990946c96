"""Reading scattered rows and columns of a matrix on disk, in the order of the file."""

from dataclasses import dataclass
from io import FileIO

import h5py
import numpy as np
from numpy.typing import NDArray
from tqdm.auto import tqdm

__all__ = ["read_matrix"]

# Up to so many bytes, reading on through a gap is cheaper than a second request.
HDF5_GAP = 2**19
CONTIGUOUS_GAP = 2**14
# A contiguous matrix has no chunks; its columns are looked at in pages of a disk.
PAGE_BYTES = 2**12

Selector = slice | NDArray[np.intp]


@dataclass(frozen=True)
class _Block:
    """Stretches of one axis that lie side by side in the buffer.

    `spans` are their bounds in the file, `size` their total length; what is wanted
    of them lies at `inside` in the buffer and goes to `target` of the result.
    """

    spans: list[tuple[int, int]]
    size: int
    inside: Selector
    target: Selector


def read_matrix(
    dataset: h5py.Dataset,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    *,
    dtype: np.dtype,
    chunk_bytes: int,
    progress: bool | str,
) -> NDArray[np.floating]:
    """Read ``dataset[rows][:, columns]`` with a bounded buffer.

    Parameters
    ----------
    dataset : h5py.Dataset of shape (n_rows, n_columns)
        Of real numbers, in any layout.
    rows, columns : ndarray of int
        Positions in any order, repeats allowed.
    dtype : dtype
        Of the result.
    chunk_bytes : int
        Most memory that buffer and picked values take beside the result, unless a
        single chunk of the file is larger.
    progress : bool or "auto"
        Whether to show a progress bar; "auto": on a terminal, after two seconds.
    """
    result = np.empty((len(rows), len(columns)), dtype=dtype)
    if result.size == 0:
        return result
    with tqdm(
        total=result.size,
        desc="Reading",
        unit=" values",
        unit_scale=True,
        disable=None if progress == "auto" else not progress,
        delay=2 if progress == "auto" else 0,
    ) as bar:
        offset = _contiguous_offset(dataset)
        if _is_everything(rows, columns, dataset.shape):
            _read_everything(dataset, result, chunk_bytes, bar)
        elif offset is None:
            _read_chunks(dataset, rows, columns, result, chunk_bytes, bar)
        else:
            _read_lines(dataset, offset, rows, columns, result, bar)
    return result


def _is_everything(
    rows: NDArray[np.intp], columns: NDArray[np.intp], shape: tuple[int, int]
) -> bool:
    return (len(rows), len(columns)) == shape and all(
        isinstance(_as_slice(positions), slice) for positions in (rows, columns)
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


def _contiguous_offset(dataset: h5py.Dataset) -> int | None:
    """Return where the values start if they are one plain stretch of the file."""
    plain = (
        dataset.chunks is None
        and dataset.id.get_storage_size() == dataset.size * dataset.dtype.itemsize
        and dataset.id.get_type() == h5py.h5t.py_create(dataset.dtype)
        and dataset.file.userblock_size == 0
    )
    return dataset.id.get_offset() if plain else None


def _read_lines(
    dataset: h5py.Dataset,
    offset: int,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    result: NDArray[np.floating],
    bar: tqdm,
) -> None:
    """Read row by row, without HDF5: each of its requests costs as much as 100 kB.

    A row stays in the processor's cache while its values are picked.
    """
    n_columns = dataset.shape[1]
    itemsize = dataset.dtype.itemsize
    page = PAGE_BYTES // itemsize
    (block,) = _blocks(
        columns,
        unit=page,
        length=n_columns,
        max_size=n_columns + page,
        max_gap=CONTIGUOUS_GAP // itemsize,
    )
    line = np.empty(block.size, dtype=dataset.dtype)
    ends = np.cumsum([end - begin for begin, end in block.spans])
    parts = [
        (offset + begin * itemsize, part.data)
        for (begin, _), part in zip(block.spans, np.split(line, ends), strict=False)
    ]
    inside = np.arange(block.size)[block.inside]
    same_type = line.dtype == result.dtype
    order = np.argsort(rows, kind="stable")
    starts = rows[order] * (n_columns * itemsize)
    with FileIO(dataset.file.filename) as file:
        for target, start in zip(order.tolist(), starts.tolist(), strict=True):
            for shift, part in parts:
                file.seek(start + shift)
                if file.readinto(part) < part.nbytes:
                    raise ValueError(f"{file.name} ends inside its matrix.")
            if same_type:  # "clip" writes in place; no position is out of range
                line.take(inside, out=result[target], mode="clip")
            else:
                result[target] = line[inside]
            bar.update(len(inside))


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
    by_column = _blocks(
        columns,
        unit=width,
        length=dataset.shape[1],
        max_size=budget // height,
        max_gap=HDF5_GAP // (height * itemsize),
    )
    widest = max(block.size for block in by_column)
    by_row = _blocks(
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
            picked = part[_grid(r.inside, c.inside)]
            result[_grid(r.target, c.target)] = picked
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


def _blocks(
    positions: NDArray[np.intp], *, unit: int, length: int, max_size: int, max_gap: int
) -> list[_Block]:
    """Cover positions by stretches of whole units, and group these into blocks.

    A stretch may run on through at most `max_gap` unwanted places.
    """
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    firsts, lasts = _stretches(ordered // unit, max_size // unit, max_gap // unit)
    starts = firsts * unit
    stops = np.minimum((lasts + 1) * unit, length)
    ends = np.cumsum(stops - starts)
    blocks: list[_Block] = []
    begin = done = 0
    while begin < len(ends):
        end = max(int(np.searchsorted(ends, done + max_size, "right")), begin + 1)
        done = ends[end - 1]
        low, high = np.searchsorted(ordered, [starts[begin], stops[end - 1]])
        # In the order of the result, so that a lone block fills it as one slice.
        target = np.sort(order[low:high])
        blocks.append(_block(starts[begin:end], stops[begin:end], positions, target))
        begin = end
    return blocks


def _stretches(
    units: NDArray[np.intp], max_units: int, max_gap: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return first and last of each run of sorted units, of at most `max_units`."""
    max_units = max(max_units, 1)
    # A gap as long as a stretch would leave a stretch of which nothing is wanted.
    gaps = np.diff(units) > 1 + min(max_gap, max_units - 1)
    firsts = units[np.r_[True, gaps]]
    lasts = units[np.r_[gaps, True]]
    n_parts = (lasts - firsts) // max_units + 1
    number = np.arange(n_parts.sum()) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
    firsts = np.repeat(firsts, n_parts) + number * max_units
    return firsts, np.minimum(firsts + max_units - 1, np.repeat(lasts, n_parts))


def _block(
    starts: NDArray[np.intp],
    stops: NDArray[np.intp],
    positions: NDArray[np.intp],
    target: NDArray[np.intp],
) -> _Block:
    sizes = stops - starts
    places = np.cumsum(sizes) - sizes
    wanted = positions[target]
    span = np.searchsorted(starts, wanted, side="right") - 1
    return _Block(
        spans=list(zip(starts.tolist(), stops.tolist(), strict=True)),
        size=int(sizes.sum()),
        inside=_as_slice(wanted - starts[span] + places[span]),
        target=_as_slice(target),
    )


def _as_slice(positions: NDArray[np.intp]) -> Selector:
    """Return a slice where it says the same: a slice is a view, a list a copy."""
    if np.all(np.diff(positions) == 1):
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def _grid(rows: Selector, columns: Selector) -> tuple:
    if isinstance(rows, slice) or isinstance(columns, slice):
        return rows, columns
    return np.ix_(rows, columns)
