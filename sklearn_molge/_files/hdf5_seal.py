"""The seal: checksums of a file's matrix, and of all else, behind its last byte.

HDF5 ignores it; a program that changes the file, or copies its content, cuts it off.
"""

import io
import os
import struct
import zlib
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "RUN",
    "SEAL_ATTRIBUTE",
    "check_runs",
    "read_at",
    "read_seal",
    "runs_of",
    "write_seal",
]

# In the root of a file that ends with a seal, so that one without it is told.
SEAL_ATTRIBUTE = "sklearn_molge_seal"
SEAL_MAGIC = b"\nsklearn_molge-seal-1\r\n"
SEAL_END = struct.Struct("<IQ23s")
RUN = np.dtype([("start", "<u8"), ("crc", "<u4"), ("is_matrix", "<u4")])
IO_BYTES = 2**19  # stays in the processor's cache


def read_at(raw: io.FileIO, begin: int, n: int) -> bytes:
    """Read bytes that must be there."""
    raw.seek(begin)
    content = raw.read(n)
    if len(content) != n:
        raise ValueError(f"it ends at byte {begin + len(content):,}")
    return content


def runs_of(raw: io.FileIO, places: NDArray[np.int64]) -> NDArray:
    """Divide a file into stretches of its matrix, and of all else, with checksums.

    `places` has the address and the bytes of each stretch of the matrix.
    """
    end = os.fstat(raw.fileno()).st_size
    cuts: list[tuple[int, bool]] = [(0, False)]
    for start, n in places[np.argsort(places[:, 0])].tolist():
        if cuts[-1] == (start, False):
            cuts.pop()  # right behind the last chunk
        else:
            cuts.append((start, True))
        cuts.append((start + n, False))
    if cuts[-1][0] == end:
        cuts.pop()
    runs = np.zeros(len(cuts), RUN)
    runs["start"], runs["is_matrix"] = zip(*cuts, strict=True)
    starts = runs["start"].tolist()
    stops = [*starts[1:], end]
    runs["crc"] = [_crc(raw, *run) for run in zip(starts, stops, strict=True)]
    return runs


def write_seal(file: BinaryIO, runs: NDArray) -> None:
    """Write a seal at the end of a file."""
    file.seek(0, os.SEEK_END)
    table = runs.tobytes()
    file.write(table + SEAL_END.pack(zlib.crc32(table), len(runs), SEAL_MAGIC))


def _crc(raw: io.FileIO, start: int, stop: int) -> int:
    crc, buffer = 0, memoryview(bytearray(IO_BYTES))
    raw.seek(start)
    while start < stop:
        n = raw.readinto(buffer[: stop - start])
        if not n:
            raise ValueError(f"it ends at byte {start:,}")
        crc = zlib.crc32(buffer[:n], crc)
        start += n
    return crc


def read_seal(raw: io.FileIO) -> NDArray | None:
    """Return the table of a seal, None where there is none."""
    end = os.fstat(raw.fileno()).st_size - SEAL_END.size
    if end < 0:
        return None
    crc, n, magic = SEAL_END.unpack(read_at(raw, end, SEAL_END.size))
    if magic != SEAL_MAGIC:
        return None
    start = end - n * RUN.itemsize
    if start <= 0:
        raise ValueError("the seal at its end is damaged")
    table = read_at(raw, start, end - start)
    # Where the last run ends is for the check.
    runs = np.append(np.frombuffer(table, RUN), np.array([(start, 0, 2)], RUN))
    starts = runs["start"].tolist()
    if zlib.crc32(table) != crc or starts[0] != 0 or sorted(set(starts)) != starts:
        raise ValueError("the seal at its end is damaged")
    return runs


def check_runs(raw: io.FileIO, runs: NDArray, *, is_matrix: bool) -> None:
    for i in np.flatnonzero(runs["is_matrix"] == is_matrix).tolist():
        start, stop = runs["start"][i : i + 2].tolist()
        if _crc(raw, start, stop) != runs["crc"][i]:
            raise ValueError(
                f"bytes {start:,} to {stop:,} were damaged since it was written: their "
                "checksum is another"
            )
