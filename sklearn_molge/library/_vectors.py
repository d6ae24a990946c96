"""How vectors are made comparable, and stored in 4, 2 or 1 bytes a component.

The rows of an int8 store are rotated, queries alike: a fixed random rotation spreads
components that are much larger than the others, and changes no inner product and no
distance. On CCA embeddings of the public library it takes a third of the error away.
"""

import os
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import sync
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.rows import standardize_rows
from sklearn_molge.exceptions import CorruptFileError

__all__ = ["StoredVectors", "prepare", "rotate"]

_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)
_INT8_STEPS = 127
_BLOCK_BYTES = 1 << 22  # that a checksum is taken of at a time


def prepare(vectors: NDArray, metric: str) -> NDArray[np.float32]:
    """Make rows comparable by an inner product, or by the distance of "euclidean".

    "correlation": rows centred and of unit length, constant rows zero; "cosine": of
    unit length; "dot", "euclidean": as they are.
    """
    vectors = np.asarray(vectors, dtype=np.float32)
    if not len(vectors):
        return vectors
    if metric == "correlation":
        return standardize_rows(vectors)
    return _unit_rows(vectors) if metric == "cosine" else vectors


def _unit_rows(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the bits of scikit-learn's normalize, whose checks take longer."""
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    lengths[lengths < 10 * np.finfo(np.float32).eps] = 1  # as good as zero
    with np.errstate(invalid="ignore"):  # what is not finite is refused later
        return vectors / lengths[:, None]


@lru_cache(maxsize=8)
def _rotation(n_components: int) -> NDArray[np.float64]:
    # RandomState, whose numbers are the same in every version of numpy.
    normal = np.random.RandomState(n_components).normal(size=(n_components,) * 2)
    q, r = np.linalg.qr(normal)
    return q * np.sign(np.diag(r))  # which makes it unique


def rotate(vectors: NDArray) -> NDArray[np.float32]:
    """Rotate rows; in float64, so that equal rows stay equal wherever they stand."""
    turned = vectors.astype(np.float64) @ _rotation(vectors.shape[1])
    return turned.astype(np.float32)


class StoredVectors:
    """Vectors in memory, or in a file that is memory-mapped; they only grow.

    Of each row the file holds one record: the scale of an int8 row (what one step is
    worth), the squared length of a row of "euclidean", and the components. How many
    records count is for the caller to know; the next write puts itself over the rest.

    Parameters
    ----------
    path : Path or None
        None keeps the vectors in memory.
    n_components : int
    dtype : {"float32", "float16", "int8"}
    metric : {"correlation", "cosine", "dot", "euclidean"}
    """

    def __init__(self, path: Path | None, n_components: int, dtype: str, metric: str):
        self.path = path
        self.dtype = dtype
        self.metric = metric
        fields: list[tuple] = []
        fields += [("scale", "<f4")] if dtype == "int8" else []
        fields += [("norm", "<f4")] if metric == "euclidean" else []
        # The same bytes on every machine.
        vector = ("vector", np.dtype(dtype).newbyteorder("<"), (n_components,))
        self.record = np.dtype([*fields, vector], align=True)
        self._records = np.empty(0, dtype=self.record)

    def to_stored(self, vectors: NDArray) -> NDArray[np.float32]:
        """Take vectors, as embedded, to where inner products with rows are taken."""
        rows = prepare(vectors, self.metric)
        return rotate(rows) if self.dtype == "int8" else rows

    def encode(self, vectors: NDArray) -> tuple[NDArray[np.void], float]:
        """Turn embedded rows into records; return the largest length as well.

        Raises
        ------
        ValueError
            If a value is not finite, or too large for float16.
        """
        rows: NDArray = prepare(vectors, self.metric)
        _refuse(~np.isfinite(rows), "finite", rows)
        if self.dtype == "int8":
            rows = rotate(rows)
        records = np.zeros(len(rows), dtype=self.record)
        if self.dtype == "float16":
            allowed = f"within ±{_LARGEST_FLOAT16:g} for dtype='float16'"
            _refuse(np.abs(rows) > _LARGEST_FLOAT16, allowed, rows)
        elif self.dtype == "int8":
            scales = np.abs(rows).max(axis=1, initial=0) / np.float32(_INT8_STEPS)
            records["scale"] = scales
            rows /= np.where(scales > 0, scales, np.float32(1))[:, np.newaxis]
            # The rounding of a subnormal scale could lie beyond the last step.
            np.clip(np.rint(rows), -_INT8_STEPS, _INT8_STEPS, out=rows)
        records["vector"] = rows
        squares = np.square(self._decoded(records), dtype=np.float64).sum(axis=1)
        if self.metric == "euclidean":
            records["norm"] = squares
        return records, float(np.sqrt(squares.max(initial=0)))

    def write(self, records: NDArray[np.void], n_rows: int) -> None:
        """Put records behind the first `n_rows`; in a file they are then durable."""
        if self.path is not None:
            self._write_to_file(self.path, records, n_rows)
            return
        end = n_rows + len(records)
        if end > len(self._records):  # by halves, so that many writes stay linear
            size = max(end, len(self._records) * 3 // 2)
            grown = np.empty(size, dtype=self.record)
            grown[:n_rows] = self._records[:n_rows]
            self._records = grown
        self._records[n_rows:end] = records

    def _write_to_file(
        self, path: Path, records: NDArray[np.void], n_rows: int
    ) -> None:
        is_new = not path.exists()
        # "r+b" or "w+b", but of no file that a symbolic link points to.
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_NOFOLLOW", 0)
        if path.is_symlink():
            raise PermissionError(
                f"{path} is a symbolic link, which is not written to: what it points "
                "to need not be part of this index."
            )
        try:
            with open(os.open(path, flags, 0o666), "r+b") as file:
                file.truncate(n_rows * self.record.itemsize)
                file.seek(n_rows * self.record.itemsize)
                file.write(records.view(np.uint8).data if len(records) else b"")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # as of a full disk
            error.filename = error.filename or str(path)
            raise
        if is_new:
            sync(path.parent)

    def digest_of(self, records: NDArray[np.void]) -> str:
        """Return the checksum of records as they lie in the file."""
        content = records.view(np.uint8).data if len(records) else b""
        return sha256(content).hexdigest()[:32]

    def digest(self, first: int, stop: int) -> str:
        """Return the checksum of rows that are stored.

        Not by the memory map: a part of a disk that cannot be read ends the process.
        """
        if self.path is None:
            return self.digest_of(np.ascontiguousarray(self._records[first:stop]))
        digest, left = sha256(), (stop - first) * self.record.itemsize
        with reading(self.path), open(self.path, "rb") as file:
            file.seek(first * self.record.itemsize)
            while block := file.read(min(left, _BLOCK_BYTES)):
                digest.update(block)
                left -= len(block)
        return digest.hexdigest()[:32]

    def check_size(self, n_rows: int) -> None:
        """Raise where the file is missing or has fewer rows; more were being written.

        Raises
        ------
        CorruptFileError
        """
        if self.path is None or not n_rows:
            return
        size = n_rows * self.record.itemsize
        is_there = self.path.is_file()
        found = self.path.stat().st_size if is_there else 0
        if found < size:
            why = f"has {found:,} bytes" if is_there else "is missing"
            written = f"it {why}, and the index was written with {size:,}"
            raise CorruptFileError(self.path, "", written)

    def view(self, n_rows: int) -> NDArray[np.void]:
        """Return the first rows, not copied and read-only."""
        if self.path is None or n_rows == 0:
            view = self._records[:n_rows]
            view.flags.writeable = False
            return view
        records = self._records  # another thread may map more of them meanwhile
        if len(records) != n_rows:
            self.check_size(n_rows)  # what lies behind the end ends the process
            with reading(self.path):
                mapped = np.memmap(self.path, self.record, mode="r", shape=(n_rows,))
            records = np.asarray(mapped)  # slices of a memmap itself are slow
            self._records = records
        return records

    def read(
        self,
        n_rows: int,
        rows: slice | NDArray[np.intp],
        out: NDArray[np.float32] | None = None,
        *,
        scaled: bool = True,
    ) -> NDArray[np.float32]:
        """Return some of `n_rows` rows in float32: as they lie, or in `out`.

        Those of int8 in their steps, if they are not `scaled`.
        """
        view = self.view(n_rows)
        scales = view["scale"][rows] if scaled and self.dtype == "int8" else None
        return _decode(view["vector"][rows], scales, out)

    def scales(self, n_rows: int, rows: slice) -> NDArray[np.float32]:
        """Return what one step of each int8 row is worth."""
        return self.view(n_rows)["scale"][rows]

    def norms(self, n_rows: int, rows: slice) -> NDArray[np.float32] | None:
        """Return the squared lengths, which "euclidean" needs."""
        has_norms = self.metric == "euclidean"
        return self.view(n_rows)["norm"][rows] if has_norms else None

    def _decoded(self, records: NDArray[np.void]) -> NDArray[np.float32]:
        scales = records["scale"] if self.dtype == "int8" else None
        return _decode(records["vector"], scales, None)


def _refuse(bad: NDArray[np.bool_], allowed: str, rows: NDArray) -> None:
    bad_rows = np.flatnonzero(bad.any(axis=1))
    if bad_rows.size:
        raise ValueError(
            f"vectors must be {allowed}. Got {bad_rows.size} rows that are not, "
            f"[{first_few(bad_rows.tolist())}]; first value {rows[bad][0]:g}."
        )


def _decode(
    vectors: NDArray,
    scales: NDArray[np.float32] | None,
    out: NDArray[np.float32] | None,
) -> NDArray[np.float32]:
    if vectors.dtype == np.float32:
        return vectors
    if out is None:
        out = np.empty(vectors.shape, dtype=np.float32)
    out = out[: len(vectors)]
    if vectors.dtype == np.int8:
        np.copyto(out, vectors)  # a product of two types would take twice the time
        return out if scales is None else np.multiply(out, scales[:, None], out=out)
    # What a cast gives, in a sixth of numpy's time: shift the exponent and mantissa
    # into place, keep the sign (a mask of 0x8fffe000), and correct the exponent.
    bits = out.view(np.int32)
    np.copyto(bits, vectors.view(np.int16))
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(-0x70002000), out=bits)
    return np.multiply(out, np.float32(2.0**112), out=out)
