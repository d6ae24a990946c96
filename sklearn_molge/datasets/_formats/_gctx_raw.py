"""The bytes of a matrix read past HDF5, so that threads need not wait for its lock."""

import zlib
from dataclasses import dataclass
from io import FileIO

import h5py
import numpy as np
from numpy.typing import NDArray

__all__ = ["RawMatrix", "Stretch", "raw_matrix"]

# The filters that are undone here, and what the name of each is to HDF5.
FILTERS = {h5py.h5z.FILTER_SHUFFLE: "shuffle", h5py.h5z.FILTER_DEFLATE: "gzip"}


@dataclass(frozen=True)
class Stretch:
    """Where a chunk lies in the file; bit i of `skipped`: without the i-th filter."""

    offset: int | None
    size: int
    skipped: int = 0


@dataclass(frozen=True)
class RawMatrix:
    """A matrix whose bytes can be read without HDF5.

    `chunks` is None for one plain stretch, which then begins at `offset`.
    """

    path: str
    shape: tuple[int, int]
    dtype: np.dtype
    chunks: tuple[int, int] | None
    filters: tuple[str, ...]
    offset: int
    fillvalue: float

    def read(self, file: FileIO, offset: int, part: NDArray) -> None:
        """Fill `part`, which is contiguous, from `offset` on."""
        file.seek(offset)
        if file.readinto(part.data) < part.nbytes:
            raise ValueError(f"{self.path} ends inside its matrix.")

    def unpack(
        self, file: FileIO, chunk: Stretch, rows: NDArray, columns: NDArray
    ) -> NDArray:
        """Return ``chunk[rows][:, columns]`` of a packed chunk."""
        assert self.chunks is not None
        assert chunk.offset is not None
        packed = np.empty(chunk.size, dtype=np.uint8)
        self.read(file, chunk.offset, packed)
        undone = [
            name for i, name in enumerate(self.filters) if not chunk.skipped >> i & 1
        ]
        raw = self._inflate(packed) if "gzip" in undone else packed
        if "shuffle" not in undone:
            return raw.view(self.dtype).reshape(self.chunks)[np.ix_(rows, columns)]
        # The first bytes of all values, then the second ones: only the wanted ones
        # are put together again.
        planes = raw.reshape(self.dtype.itemsize, *self.chunks)
        wanted = planes[:, rows[:, None], columns[None, :]]
        joined = np.ascontiguousarray(np.moveaxis(wanted, 0, -1))
        return joined.view(self.dtype)[..., 0]

    def _inflate(self, packed: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert self.chunks is not None
        size = self.chunks[0] * self.chunks[1] * self.dtype.itemsize
        try:
            raw = np.frombuffer(zlib.decompress(packed.data, bufsize=size), np.uint8)
        except zlib.error as error:
            raise ValueError(
                f"{self.path}: a chunk of its matrix is damaged: {error}"
            ) from error
        if raw.nbytes != size:
            raise ValueError(
                f"{self.path}: a chunk of its matrix is damaged: it has {raw.nbytes} "
                f"bytes, not {size}."
            )
        return raw


def raw_matrix(dataset: h5py.Dataset) -> RawMatrix | None:
    """Return where the bytes are, or None where only HDF5 can tell or decode them."""
    plist = dataset.id.get_create_plist()
    layout = plist.get_layout()
    codes = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    filters = tuple(FILTERS.get(code, "other") for code in codes)
    if (
        layout not in (h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)
        or filters not in {(), ("gzip",), ("shuffle", "gzip")}
        or dataset.id.get_type() != h5py.h5t.py_create(dataset.dtype)
        or dataset.file.userblock_size != 0
        or dataset.file.driver not in {"sec2", "stdio"}
    ):
        return None
    offset = 0
    if layout == h5py.h5d.CONTIGUOUS:
        # None where nothing was written, or the values are in another file.
        offset = dataset.id.get_offset()
        stored = dataset.id.get_storage_size()
        if offset is None or stored != dataset.size * dataset.dtype.itemsize:
            return None
    return RawMatrix(
        path=dataset.file.filename,
        shape=dataset.shape,
        dtype=dataset.dtype,
        chunks=dataset.chunks,
        filters=filters,
        offset=offset,
        fillvalue=dataset.fillvalue,
    )
