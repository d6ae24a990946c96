"""Write HDF5 so that a full disk is an OSError, and not the end of the process."""

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import h5py

__all__ = ["writing_hdf5"]


@contextmanager
def writing_hdf5(
    path: str | os.PathLike[str], **options
) -> Iterator[tuple[h5py.File, Callable[[], None]]]:
    """Yield a new HDF5 file at `path`, and what to call after each large part.

    HDF5 (2.0 and before) may read freed memory after a write that failed, at the latest
    when it closes the file. So it never hears of one: the rest goes to memory, and the
    first error is raised by the function that is yielded, or else when the block ends.

    Parameters
    ----------
    path : path-like
        A file that is there; its content goes.
    **options
        Of :class:`h5py.File`.

    Raises
    ------
    OSError
        If the disk is full, or fails.
    """
    with open(path, "r+b", buffering=0) as raw:
        target = _Target(raw)
        try:
            with h5py.File(target, "w", **options) as file:
                yield file, target.check
        except Exception as error:
            if target.error is not None and error is not target.error:
                raise target.error from error
            raise
        target.check()


class _Target(io.RawIOBase):
    """What HDF5 takes for a file: all that it writes can be read back.

    The methods are those that h5py calls; its `read` comes from `readinto`.
    """

    def __init__(self, raw):
        self._raw = raw
        self._place = 0
        self._end = 0
        self._kept: list[tuple[int, bytes]] = []  # what came after the error
        self.error: OSError | None = None

    def check(self) -> None:
        """Raise the first error there was."""
        if self.error is not None:
            raise self.error

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self._end}
        self._place = start[whence] + place
        return self._place

    def tell(self) -> int:
        return self._place

    def write(self, data) -> int:
        place, data = self._place, memoryview(data).cast("B")
        if self.error is None:
            try:
                self._write_all(place, data)
            except OSError as error:
                self.error = error
        if self.error is not None:
            self._kept.append((place, bytes(data)))
        self._place = place + len(data)
        self._end = max(self._end, self._place)
        return len(data)

    def _write_all(self, place: int, data: memoryview) -> None:
        self._raw.seek(place)
        while data:  # a disk that is nearly full takes a part
            data = data[self._raw.write(data) :]

    def readinto(self, out) -> int:
        out = memoryview(out).cast("B")
        self._raw.seek(self._place)
        n_read = 0
        while n_read < len(out) and (n := self._raw.readinto(out[n_read:])):
            n_read += n
        for place, data in self._kept:
            start, stop = place - self._place, place - self._place + len(data)
            first, last = max(start, 0), min(stop, len(out))
            if first < last:
                out[first:last] = data[first - start : last - start]
                n_read = max(n_read, last)
        self._place += n_read
        return n_read

    def truncate(self, size: int | None = None) -> int:
        size = self._place if size is None else size
        if self.error is None:
            try:
                self._raw.truncate(size)
            except OSError as error:
                self.error = error
        self._end = size
        return size

    def flush(self) -> None:
        """Nothing is buffered here."""
