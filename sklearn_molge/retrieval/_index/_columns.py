"""Columns that only grow: arrays and texts, in memory or in a file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ArrayColumn", "TextColumn"]

_BATCH = 65_536


class ArrayColumn:
    """Rows of numbers in a buffer that grows, or in a file that is memory-mapped.

    What is written counts only once it is committed; the next write puts itself over
    what was not.

    Parameters
    ----------
    name : str
        The file is called ``{name}.bin``.
    dtype : dtype-like
    width : int or None
        Numbers in a row; None for a column of single numbers.
    folder : Path or None
        None keeps the column in memory.
    """

    def __init__(self, name: str, dtype: Any, width: int | None, folder: Path | None):
        self.file_name = f"{name}.bin"
        # The same bytes on every machine.
        self.dtype = np.dtype(dtype).newbyteorder("<")
        self.row_shape = () if width is None else (width,)
        self.path = None if folder is None else folder / self.file_name
        self.n_rows = 0
        self._array: NDArray = np.empty((0, *self.row_shape), dtype=self.dtype)

    @property
    def row_bytes(self) -> int:
        return self.dtype.itemsize * int(np.prod(self.row_shape, dtype=int))

    @property
    def nbytes(self) -> int:
        return self.row_bytes * self.n_rows

    def write(self, rows: NDArray) -> None:
        """Put rows after those that count; a file is durable when this returns."""
        rows = np.ascontiguousarray(rows, dtype=self.dtype)
        if self.path is None:
            end = self.n_rows + len(rows)
            if end > len(self._array):  # by halves, so that many appends stay linear
                grown = np.empty(
                    (max(end, len(self._array) * 3 // 2), *self.row_shape), self.dtype
                )
                grown[: self.n_rows] = self._array[: self.n_rows]
                self._array = grown
            self._array[self.n_rows : end] = rows
            return
        with open(self.path, "r+b" if self.path.exists() else "w+b") as file:
            file.truncate(self.nbytes)
            file.seek(self.nbytes)
            file.write(rows.data if rows.size else b"")
            file.flush()
            os.fsync(file.fileno())

    def commit(self, n_rows: int) -> None:
        """Let so many rows count."""
        if self.path is not None and n_rows != self.n_rows:
            self._array = np.empty((0, *self.row_shape), dtype=self.dtype)
        self.n_rows = n_rows

    def view(self) -> NDArray:
        """Return the rows, not copied and read-only."""
        if self.path is not None and len(self._array) != self.n_rows:
            mapped = np.memmap(
                self.path, self.dtype, mode="r", shape=(self.n_rows, *self.row_shape)
            )
            self._array = np.asarray(mapped)  # slices of a memmap itself are slow
        view = self._array[: self.n_rows]
        view.flags.writeable = False
        return view

    def __getstate__(self) -> dict:
        return vars(self) | {"_array": self._array[: self.n_rows].copy()}


class TextColumn:
    """Texts of any length: their UTF-8 bytes, and where each ends."""

    def __init__(self, name: str, folder: Path | None):
        self.name = name
        self.bytes = ArrayColumn(name, np.uint8, None, folder)
        self.ends = ArrayColumn(f"{name}_ends", np.int64, None, folder)

    @property
    def n_rows(self) -> int:
        return self.ends.n_rows

    def encode(self, texts: NDArray[np.object_]) -> dict[ArrayColumn, NDArray]:
        """Turn texts into what is to be written in each column.

        Raises
        ------
        TypeError
            If an entry is no text.
        """
        wrong = [i for i, text in enumerate(texts) if not isinstance(text, str)]
        if wrong:
            raise TypeError(
                f"{self.name} must be strings. Got {len(wrong)} entries that are not; "
                f"first, at {wrong[0]}: {texts[wrong[0]]!r}."
            )
        # Halves of surrogate pairs are text in Python, though not in UTF-8.
        encoded = [text.encode("utf-8", "surrogatepass") for text in texts]
        lengths = np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded))
        joined = np.frombuffer(b"".join(encoded), dtype=np.uint8)
        return {self.bytes: joined, self.ends: self.bytes.n_rows + np.cumsum(lengths)}

    def get(self, rows: NDArray[np.intp]) -> NDArray[np.object_]:
        """Return the texts of some rows; no others are read."""
        ends = self.ends.view()
        starts = np.where(rows == 0, 0, ends[np.maximum(rows, 1) - 1])
        return self._decode(starts, ends[rows])

    def batches(self, *, start: int) -> Iterator[NDArray[np.object_]]:
        """Yield the texts from row `start` on, some thousands at a time."""
        for first in range(start, self.n_rows, _BATCH):
            yield self.get(np.arange(first, min(first + _BATCH, self.n_rows)))

    def _decode(self, starts: NDArray, ends: NDArray) -> NDArray[np.object_]:
        if len(ends) and not (0 <= starts.min() and ends.max() <= self.bytes.n_rows):
            raise ValueError(
                f"{self.ends.path} is damaged: it names bytes {starts.min()} to "
                f"{ends.max()} of {self.bytes.path}, which has {self.bytes.n_rows}."
            )
        data = self.bytes.view().data
        texts = np.empty(len(ends), dtype=object)
        texts[:] = [
            str(data[a:b], "utf-8", "surrogatepass")
            for a, b in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
        return texts
