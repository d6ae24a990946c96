"""Reading a matrix past HDF5, cut into tasks for threads, in the order of the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from typing import Any

import h5py
import numpy as np
from joblib import delayed
from numpy.typing import NDArray

from sklearn_molge.datasets._formats._blocks import (
    PAGE_BYTES,
    Selector,
    as_slice,
    cover,
    grid,
)
from sklearn_molge.datasets._formats._gctx_raw import RawMatrix, Stretch

__all__ = ["raw_tasks"]

# Up to so many bytes, reading on through a gap is cheaper than a second request.
LINE_GAP = 2**14
CHUNK_GAP = 2**16
# A task is long beside its start, and short beside the whole: threads stay near each
# other in the file.
TASK_BYTES = 2**23

Task = tuple[Callable[..., int], tuple[Any, ...], dict[str, Any]]


@dataclass(frozen=True)
class _Part:
    """What is wanted of one chunk along one axis: from `inside` of it to `target`."""

    number: int
    inside: NDArray[np.intp]
    target: NDArray[np.intp]


def raw_tasks(
    dataset: h5py.Dataset,
    raw: RawMatrix,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    out: NDArray[np.floating],
    chunk_bytes: int,
) -> Iterator[Task]:
    """Yield the parts of ``out[...] = dataset[rows][:, columns]`` as joblib's tasks.

    Each returns how many values it read.
    """
    if not raw.filters and raw.chunks in (None, (1, raw.shape[1])):
        return _line_tasks(dataset, raw, rows, columns, out)
    return _band_tasks(dataset, raw, rows, columns, out, chunk_bytes)


def _stretch(dataset: h5py.Dataset, row: int, column: int) -> Stretch:
    info = dataset.id.get_chunk_info_by_coord((row, column))
    return Stretch(info.byte_offset, info.size, info.filter_mask)


# ------------------------------------------------------------- rows that are one piece


def _line_tasks(
    dataset: h5py.Dataset,
    raw: RawMatrix,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    out: NDArray[np.floating],
) -> Iterator[Task]:
    """Read row by row: one stays in the processor's cache while it is picked from."""
    itemsize, n_columns = raw.dtype.itemsize, raw.shape[1]
    page = PAGE_BYTES // itemsize
    (block,) = cover(
        columns,
        unit=page,
        length=n_columns,
        max_size=n_columns + page,
        max_gap=LINE_GAP // itemsize,
    )
    order = np.argsort(rows, kind="stable")
    step = max(TASK_BYTES // (block.size * itemsize), 1)
    for first in range(0, len(order), step):
        targets = order[first : first + step].tolist()
        wanted = rows[targets].tolist()
        if raw.chunks is None:
            starts = [raw.offset + row * n_columns * itemsize for row in wanted]
        else:
            starts = [_stretch(dataset, row, 0).offset for row in wanted]
        lines = list(zip(targets, starts, strict=True))
        inside = np.arange(block.size)[block.inside]
        yield delayed(_read_lines)(raw, block.spans, inside, lines, out)


def _read_lines(
    raw: RawMatrix,
    spans: list[tuple[int, int]],
    inside: NDArray[np.intp],
    lines: list[tuple[int, int | None]],
    out: NDArray[np.floating],
) -> int:
    ends = np.cumsum([end - begin for begin, end in spans])
    line = np.empty(ends[-1], dtype=raw.dtype)
    parts = [
        (begin * raw.dtype.itemsize, part)
        for (begin, _), part in zip(spans, np.split(line, ends), strict=False)
    ]
    same_type = line.dtype == out.dtype
    with FileIO(raw.path) as file:
        for target, start in lines:
            if start is None:
                out[target] = raw.fillvalue
                continue
            for shift, part in parts:
                raw.read(file, start + shift, part)
            if same_type:  # "clip" writes in place; no position is out of range
                line.take(inside, out=out[target], mode="clip")
            else:
                out[target] = line[inside]
    return len(lines) * len(inside)


# ------------------------------------------------------------ bands of chunks, in a row


def _band_tasks(
    dataset: h5py.Dataset,
    raw: RawMatrix,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    out: NDArray[np.floating],
    chunk_bytes: int,
) -> Iterator[Task]:
    height, width = raw.chunks or raw.shape
    parts = _by_chunk(columns, width)
    bands = _by_chunk(rows, height)
    band_bytes = height * width * raw.dtype.itemsize * len(parts)
    step = max(TASK_BYTES // band_bytes, 1)
    for first in range(0, len(bands), step):
        work = []
        for band in bands[first : first + step]:
            top = band.number * height
            work.append(
                (band, [_stretch(dataset, top, part.number * width) for part in parts])
            )
        yield delayed(_read_bands)(raw, work, parts, out, chunk_bytes)


def _by_chunk(positions: NDArray[np.intp], size: int) -> list[_Part]:
    """Sort positions by their chunk; within one they keep their order."""
    numbers = positions // size
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [
        _Part(int(numbers[part[0]]), positions[part] % size, part)
        for part in np.split(order, cuts)
    ]


def _read_bands(
    raw: RawMatrix,
    work: list[tuple[_Part, list[Stretch]]],
    parts: list[_Part],
    out: NDArray[np.floating],
    chunk_bytes: int,
) -> int:
    targets: list[Selector] = [as_slice(part.target) for part in parts]
    read = _unpack_band if raw.filters else _read_plain_band
    with FileIO(raw.path) as file:
        for band, stretches in work:
            chunks = list(zip(stretches, parts, targets, strict=True))
            read(file, raw, band, chunks, out, chunk_bytes)
    return sum(len(band.target) for band, _ in work) * out.shape[1]


def _unpack_band(
    file: FileIO,
    raw: RawMatrix,
    band: _Part,
    chunks: list[tuple[Stretch, _Part, Selector]],
    out: NDArray[np.floating],
    chunk_bytes: int,
) -> None:
    """Unpack each chunk whole: nothing of it can be read before."""
    rows = as_slice(band.target)
    for stretch, part, target in chunks:
        out[grid(rows, target)] = (
            raw.fillvalue
            if stretch.offset is None
            else raw.unpack(file, stretch, band.inside, part.inside)
        )


def _read_plain_band(
    file: FileIO,
    raw: RawMatrix,
    band: _Part,
    chunks: list[tuple[Stretch, _Part, Selector]],
    out: NDArray[np.floating],
    chunk_bytes: int,
) -> None:
    """Read of plain chunks no more than the rows wanted, and what lies between."""
    height, width = raw.chunks or raw.shape
    row_bytes = width * raw.dtype.itemsize
    blocks = cover(
        band.inside,
        unit=1,
        length=height,
        max_size=max(chunk_bytes // 2 // row_bytes, 1),
        max_gap=CHUNK_GAP // row_bytes,
    )
    buffer = np.empty((max(block.size for block in blocks), width), raw.dtype)
    for stretch, part, target in chunks:
        columns = as_slice(part.inside)
        for block in blocks:
            rows = as_slice(band.target[block.target])
            if stretch.offset is None:
                out[grid(rows, target)] = raw.fillvalue
                continue
            top = 0
            for begin, end in block.spans:
                bottom = top + end - begin
                raw.read(file, stretch.offset + begin * row_bytes, buffer[top:bottom])
                top = bottom
            out[grid(rows, target)] = buffer[: block.size][grid(block.inside, columns)]
