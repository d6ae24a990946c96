"""Reading scattered rows and columns of a matrix on disk, in the order of the file.

Where the bytes of the matrix can be found, they are read past HDF5, whose lock lets one
thread in at a time, and which reads scattered rows several times slower.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass

import h5py
import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from tqdm.auto import tqdm

from sklearn_molge._files.hdf5 import Hdf5File, Stored, inflate
from sklearn_molge._files.reading import reading
from sklearn_molge._utils.progress import progress_bar

__all__ = ["read_matrix"]

# A contiguous matrix has no chunks; its columns are looked at in pages of a disk.
PAGE_BYTES = 2**12
# Up to so many bytes, reading on through a gap is cheaper than a second request.
LINE_GAP = 2**14
CHUNK_GAP = 2**16
# A task is long beside its start, and short beside the whole: threads stay near each
# other in the file.
TASK_BYTES = 2**23
# The filters that are undone here.
FILTERS = {(), ("gzip",), ("shuffle", "gzip")}

Selector = slice | NDArray[np.intp]


def read_matrix(
    file: Hdf5File,
    name: str,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    out: NDArray[np.floating],
    *,
    chunk_bytes: int,
    progress: bool | str,
    n_jobs: int | None = None,
) -> None:
    """Read ``file[name][rows][:, columns]`` into `out`; the rest is as of `read_gctx`.

    `rows` and `columns` are positions in any order, repeats allowed.
    """
    if out.size == 0:
        return
    out = np.asarray(out)
    with (
        reading(file.filename, f"dataset {name!r}"),
        progress_bar(
            shown=progress,
            total=out.size,
            desc="Reading",
            unit=" values",
            unit_scale=True,
        ) as bar,
    ):
        dataset, stored = file[name], file.stored[name]
        raw = _raw_matrix(file, dataset, stored)
        everything = out.shape == dataset.shape and all(
            isinstance(_as_slice(positions), slice) for positions in (rows, columns)
        )
        if everything:
            file.check_matrix()
        if raw is None:
            file.check_values(name)
        if everything and not (raw and raw.filters):
            _read_everything(dataset, out, chunk_bytes, bar)
        elif raw is None:
            _read_chunks(dataset, rows, columns, out, bar)
        else:
            in_lines = not raw.filters and raw.chunks in (None, (1, raw.shape[1]))
            tasks = (
                _line_tasks(raw, rows, columns, out)
                if in_lines
                else _band_tasks(raw, rows, columns, out, chunk_bytes)
            )
            # In threads, whatever the backend: all write into one array.
            parallel = Parallel(
                n_jobs, require="sharedmem", return_as="generator_unordered"
            )
            for n_values in parallel(tasks):
                bar.update(n_values)


# --------------------------------------------------------------------- through HDF5


def _read_everything(
    dataset: h5py.Dataset, out: NDArray[np.floating], chunk_bytes: int, bar: tqdm
) -> None:
    n_rows, n_columns = dataset.shape
    height = dataset.chunks[0] if dataset.chunks else 1
    row_bytes = n_columns * dataset.dtype.itemsize
    step = max(chunk_bytes // (height * row_bytes), 1) * height
    for first in range(0, n_rows, step):
        part = np.s_[first : min(first + step, n_rows)]
        dataset.read_direct(out, part, part)
        bar.update(out[part].size)


def _read_chunks(
    dataset: h5py.Dataset,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    out: NDArray[np.floating],
    bar: tqdm,
) -> None:
    """Read chunk by chunk, each once, and pick from it: for what only HDF5 decodes.

    h5py's own indexing by lists hands HDF5 a selection of single elements, which
    costs far more than the reading.
    """
    height, width = dataset.chunks or (1, dataset.shape[1])
    parts = _by_chunk(columns, width)
    for band in _by_chunk(rows, height):
        top = band.number * height
        for part in parts:
            left = part.number * width
            chunk = dataset[top : top + height, left : left + width]
            picked = chunk[_grid(band.inside, part.inside)]
            out[_grid(band.target, part.target)] = picked
            bar.update(picked.size)


# ------------------------------------------------------------- the bytes of a matrix


@dataclass(frozen=True)
class _RawMatrix:
    """A matrix whose bytes can be read without HDF5.

    `chunks` is None for one plain stretch. `places` has (byte, length, mask of the
    filters left out) of each chunk, row by row.
    """

    path: str
    shape: tuple[int, int]
    dtype: np.dtype
    chunks: tuple[int, int] | None
    filters: tuple[str, ...]
    places: NDArray[np.int64]

    def read(self, file: io.FileIO, offset: int, part: NDArray) -> None:
        """Fill `part`, which is contiguous, from `offset` on."""
        file.seek(offset)
        if file.readinto(part.data) < part.nbytes:
            raise ValueError(f"{self.path} ends inside its matrix.")

    def unpack(
        self,
        file: io.FileIO,
        place: tuple[int, int, int],
        rows: NDArray,
        columns: NDArray,
    ) -> NDArray:
        """Return ``chunk[rows][:, columns]`` of a packed chunk."""
        start, n_bytes, left_out = place
        packed = np.empty(n_bytes, dtype=np.uint8)
        self.read(file, start, packed)
        # Bit i of the mask: stored without the i-th filter.
        undone = [name for i, name in enumerate(self.filters) if not left_out >> i & 1]
        raw = self._inflate(packed) if "gzip" in undone else packed
        if "shuffle" not in undone:
            return raw.view(self.dtype).reshape(self.chunks)[np.ix_(rows, columns)]
        # The first bytes of all values, then the second ones: only the wanted ones
        # are put together again.
        planes = raw.reshape(self.dtype.itemsize, *(self.chunks or self.shape))
        wanted = planes[:, rows[:, None], columns[None, :]]
        joined = np.ascontiguousarray(np.moveaxis(wanted, 0, -1))
        return joined.view(self.dtype)[..., 0]

    def _inflate(self, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        size = int(np.prod(self.chunks or self.shape)) * self.dtype.itemsize
        raw = np.frombuffer(inflate(packed.data, size), np.uint8)
        if raw.nbytes != size:
            raise ValueError(f"a chunk has {raw.nbytes:,} bytes instead of {size:,}")
        return raw


def _raw_matrix(
    file: Hdf5File, dataset: h5py.Dataset, stored: Stored
) -> _RawMatrix | None:
    """Return where the bytes are, or None where only HDF5 can decode them."""
    if (
        stored.filters not in FILTERS
        or not len(stored.places)
        or dataset.id.get_type() != h5py.h5t.py_create(dataset.dtype)
    ):
        return None
    places = stored.places.astype(np.int64)
    places[:, 0] += file.userblock_size
    return _RawMatrix(
        path=file.filename,
        shape=dataset.shape,
        dtype=dataset.dtype,
        chunks=dataset.chunks,
        filters=stored.filters,
        places=places,
    )


# ------------------------------------------------------------- rows that are one piece


def _line_tasks(
    raw: _RawMatrix,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    out: NDArray[np.floating],
) -> Iterator[tuple]:
    """Read row by row: one stays in the processor's cache while it is picked from."""
    itemsize, n_columns = raw.dtype.itemsize, raw.shape[1]
    page = PAGE_BYTES // itemsize
    (block,) = _cover(
        columns,
        unit=page,
        length=n_columns,
        max_size=n_columns + page,
        max_gap=LINE_GAP // itemsize,
    )
    inside = np.arange(block.size)[block.inside]
    order = np.argsort(rows, kind="stable")
    step = max(TASK_BYTES // (block.size * itemsize), 1)
    for first in range(0, len(order), step):
        targets = order[first : first + step].tolist()
        wanted = rows[targets].tolist()
        if raw.chunks is None:
            offset = int(raw.places[0, 0])
            starts = [offset + row * n_columns * itemsize for row in wanted]
        else:
            starts = raw.places[wanted, 0].tolist()
        lines = list(zip(targets, starts, strict=True))
        yield delayed(_read_lines)(raw, block.spans, inside, lines, out)


def _read_lines(
    raw: _RawMatrix,
    spans: list[tuple[int, int]],
    inside: NDArray[np.intp],
    lines: list[tuple[int, int]],
    out: NDArray[np.floating],
) -> int:
    ends = np.cumsum([end - begin for begin, end in spans])
    line = np.empty(ends[-1], dtype=raw.dtype)
    parts = [
        (begin * raw.dtype.itemsize, part)
        for (begin, _), part in zip(spans, np.split(line, ends), strict=False)
    ]
    same_type = line.dtype == out.dtype
    with io.FileIO(raw.path) as file:
        for target, start in lines:
            for shift, part in parts:
                raw.read(file, start + shift, part)
            if same_type:  # "clip" writes in place; no position is out of range
                line.take(inside, out=out[target], mode="clip")
            else:
                out[target] = line[inside]
    return len(lines) * len(inside)


# ------------------------------------------------------------ bands of chunks, in a row


@dataclass(frozen=True)
class _Part:
    """What is wanted of one chunk along one axis: from `inside` of it to `target`."""

    number: int
    inside: NDArray[np.intp]
    target: NDArray[np.intp]


def _by_chunk(positions: NDArray[np.intp], size: int) -> list[_Part]:
    """Sort positions by their chunk; within one they keep their order."""
    numbers = positions // size
    order = np.argsort(numbers, kind="stable")
    cuts = np.flatnonzero(np.diff(numbers[order])) + 1
    return [
        _Part(int(numbers[part[0]]), positions[part] % size, part)
        for part in np.split(order, cuts)
    ]


def _band_tasks(
    raw: _RawMatrix,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    out: NDArray[np.floating],
    chunk_bytes: int,
) -> Iterator[tuple]:
    height, width = raw.chunks or raw.shape
    parts = _by_chunk(columns, width)
    bands = _by_chunk(rows, height)
    step = max(TASK_BYTES // (height * width * raw.dtype.itemsize * len(parts)), 1)
    n_across = -(-raw.shape[1] // width)
    numbers = np.array([part.number for part in parts])
    for first in range(0, len(bands), step):
        work = [
            (band, raw.places[band.number * n_across + numbers].tolist())
            for band in bands[first : first + step]
        ]
        yield delayed(_read_bands)(raw, work, parts, out, chunk_bytes)


def _read_bands(
    raw: _RawMatrix,
    work: list[tuple[_Part, list[tuple[int, int, int]]]],
    parts: list[_Part],
    out: NDArray[np.floating],
    chunk_bytes: int,
) -> int:
    targets = [_as_slice(part.target) for part in parts]
    with io.FileIO(raw.path) as file:
        for band, places in work:
            rows = _as_slice(band.target)
            stored = []
            for place, part, target in zip(places, parts, targets, strict=True):
                if raw.filters:  # whole: nothing of it can be read before
                    picked = raw.unpack(file, place, band.inside, part.inside)
                    out[_grid(rows, target)] = picked
                else:
                    stored.append((place[0], _as_slice(part.inside), target))
            if stored:
                _read_plain_band(file, raw, band, stored, out, chunk_bytes)
    return sum(len(band.target) for band, _ in work) * out.shape[1]


def _read_plain_band(
    file: io.FileIO,
    raw: _RawMatrix,
    band: _Part,
    chunks: list[tuple[int, Selector, Selector]],
    out: NDArray[np.floating],
    chunk_bytes: int,
) -> None:
    """Read of plain chunks no more than the rows wanted, and what lies between."""
    height, width = raw.chunks or raw.shape
    row_bytes = width * raw.dtype.itemsize
    blocks = _cover(
        band.inside,
        unit=1,
        length=height,
        max_size=max(chunk_bytes // 2 // row_bytes, 1),
        max_gap=CHUNK_GAP // row_bytes,
    )
    buffer = np.empty((max(block.size for block in blocks), width), raw.dtype)
    for offset, columns, target in chunks:
        for block in blocks:
            rows = _as_slice(band.target[block.target])
            top = 0
            for begin, end in block.spans:
                bottom = top + end - begin
                raw.read(file, offset + begin * row_bytes, buffer[top:bottom])
                top = bottom
            out[_grid(rows, target)] = buffer[: block.size][
                _grid(block.inside, columns)
            ]


# ------------------------------------------------------------- stretches of one axis


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


def _cover(
    positions: NDArray[np.intp], *, unit: int, length: int, max_size: int, max_gap: int
) -> list[_Block]:
    """Cover positions by stretches of whole units, and group these into blocks.

    A stretch may run on through at most `max_gap` unwanted places.
    """
    ordered = np.sort(positions)
    firsts, lasts = _stretches(ordered // unit, max_size // unit, max_gap // unit)
    starts = firsts * unit
    stops = np.minimum((lasts + 1) * unit, length)
    ends = np.cumsum(stops - starts)
    order = np.argsort(positions, kind="stable")
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
