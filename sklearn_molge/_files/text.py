"""Texts as others write them: unpacked and decoded by their bytes, and within bounds.

A line is held in memory, and a few packed MB can unpack to a line of GiB. So the bytes
are looked at on their way, a block at a time: a line that grows beyond any real one is
refused before it is held, and so are zero bytes, which no text has and at which C ends
one.
"""

import bz2
import codecs
import gzip
import io
import lzma
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import IO, Any, TextIO

from sklearn_molge._files.reading import reading
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.optional import import_optional
from sklearn_molge.exceptions import CorruptFileError

__all__ = ["LONGEST_LINE", "Head", "check_is_file", "inner_name", "look_into"]
__all__ += ["open_text", "split_member"]

# Bytes. A SMILES of a million atoms, or a picture as text, has a few MB.
LONGEST_LINE = 2**24

# Of a member of a zip archive: deflate packs zeros to a thousandth, tables to a tenth.
_LARGEST_MEMBER = 2**30
_MOST_PACKED = 200

# Endings that stand behind a file's own.
_PACKED = (".gz", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".zip")
_N_HEAD = 2**18
_N_OF_LINES = 2**16
_PIECE = 2**13
_BLOCK = 2**15

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFSOCK: "a socket",
}


def check_is_file(path: str | os.PathLike[str]) -> None:
    """Refuse a pipe, which would be waited for, a device, which is endless, a folder.

    Raises
    ------
    FileNotFoundError, IsADirectoryError
        If there is nothing, or a folder.
    ValueError
        If it is something else.
    """
    path = split_member(path)[0]
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"There is no file {os.fspath(path)!r}.") from error
    if kind == stat.S_IFDIR:
        inside = sorted(os.listdir(path))
        raise IsADirectoryError(
            f"path must be a file. Got the folder {os.fspath(path)!r} of "
            f"[{first_few(inside, n=5)}]."
        )
    if kind != stat.S_IFREG:
        raise ValueError(
            f"path must be a file on a disk, which can be read twice. Got "
            f"{os.fspath(path)!r}, {_SPECIAL.get(kind, 'something else')}: write its "
            "content into a file first."
        )


def split_member(path: str | os.PathLike[str]) -> tuple[Path, str | None]:
    """Return the file on the disk, and of ``archive.zip/a/b.csv`` the member.

    The name of a member is compared with those in the archive, and with nothing else:
    it is no path of the disk.
    """
    path = Path(path)
    if not os.path.lexists(path):
        for parent in path.parents:
            if parent.is_file():
                return parent, path.relative_to(parent).as_posix()
    return path, None


# ---------------------------------------------------------------------- the beginning


@dataclass(frozen=True)
class Head:
    """The beginning of a file, unpacked.

    Attributes
    ----------
    compression : str or None
        "gzip", "bz2", "xz", "zstd", "zip", or None.
    encoding : str
        "utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32" or "cp1252".
    data : bytes
        The first 256 KiB.
    is_whole : bool
        Whether that is all of it.
    """

    compression: str | None
    encoding: str
    data: bytes
    is_whole: bool

    @property
    def lines(self) -> list[str]:
        """Its first whole lines, with their ends."""
        data = self.data[:_N_OF_LINES]
        is_whole = self.is_whole and len(data) == len(self.data)
        decoder = codecs.getincrementaldecoder(_codec(self.encoding))
        text = decoder("backslashreplace").decode(data, final=is_whole)
        lines = list(io.StringIO(text, newline=""))
        return lines if is_whole or len(lines) < 2 else lines[:-1]


def look_into(path: str | os.PathLike[str]) -> Head:
    """Read the beginning of a file, whatever it is."""
    path = Path(path)
    with reading(path):
        compression = _compression_of(path)
        with _open_bytes(path, compression) as file:
            data, is_whole = _read_head(file)
    return Head(compression, _encoding_of(data, is_whole), data, is_whole)


def _read_head(file: IO[bytes]) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    for _ in range(_N_HEAD // _PIECE):
        try:
            piece = file.read(_PIECE)
        except Exception:
            if not pieces:
                raise
            return b"".join(pieces), False  # who reads on will meet it again
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
    return b"".join(pieces), False


def _encoding_of(data: bytes, is_whole: bool) -> str:
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return encoding
    begin = data[:_PIECE]
    even, odd = begin[::2].count(0), begin[1::2].count(0)
    if max(even, odd) > 0.3 * len(begin) / 2 and min(even, odd) < 0.1 * max(even, odd):
        return "utf-16-be" if even > odd else "utf-16-le"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(data, final=is_whole)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _codec(encoding: str) -> str:
    return "utf-8-sig" if encoding == "utf-8" else encoding


# ---------------------------------------------------------------------------- packing


def _compression_of(path: Path) -> str | None:
    check_is_file(path)
    file_path, member = split_member(path)
    with open(file_path, "rb") as file:
        magic = file.read(6)
    found = next((c for c, kind in _KINDS.items() if kind[0].match(magic)), None)
    if member is not None and found != "zip":
        raise ValueError(
            f"{path}: {file_path.name} is no zip archive, which may have members."
        )
    return found


def _open_bytes(path: Path, compression: str | None) -> IO[bytes]:
    if compression is None:
        return open(path, "rb")
    return _KINDS[compression][1](path)


def inner_name(path: Path) -> Path:
    """Return the name of what is packed in a file: "x.csv" of x.csv.gz."""
    file, wanted = split_member(path)
    is_zip = wanted is not None or path.suffix.lower() == ".zip"
    if is_zip and _compression_of(path) == "zip":
        with reading(path), zipfile.ZipFile(file) as archive:
            member = Path(_member(path, archive).filename)
        if member.suffix:
            return member
    return path.with_suffix("") if path.suffix.lower() in _PACKED else path


def _open_zip(path: Path) -> IO[bytes]:
    with zipfile.ZipFile(split_member(path)[0]) as archive:
        member = _member(path, archive)
        if member.flag_bits & 1:
            raise ValueError(
                f"{path}: {member.filename!r} is encrypted: unpack it with its "
                "password."
            )
        if (
            member.file_size > _LARGEST_MEMBER
            and member.file_size > _MOST_PACKED * member.compress_size
        ):
            raise ValueError(
                f"{path}: {member.filename!r} would unpack to {member.file_size:,} "
                f"bytes, of {member.compress_size:,}, as no file of molecules does."
            )
        return archive.open(member)


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """Return what is named behind the archive's path, or the only file in it."""
    files = {
        info.filename: info
        for info in archive.infolist()
        if not info.is_dir() and not info.filename.startswith("__MACOSX/")
    }
    names, wanted = list(files), split_member(path)[1]
    if wanted is not None:
        if wanted not in files:
            raise ValueError(
                f"{path}: member must be a file of the archive, "
                f"[{first_few(names, n=5)}]. Got {wanted!r}."
            )
        return files[wanted]
    if "[Content_Types].xml" in names:
        raise ValueError(
            f"{path} is an Excel workbook or like one: export it as CSV, or read it "
            "into a DataFrame."
        )
    if len(names) != 1:
        raise ValueError(
            f"{path} must hold a single file to be read as it is. It is a zip archive "
            f"of {len(names)}: [{first_few(names, n=5)}]; name one by member, or "
            "unpack it."
        )
    return files[names[0]]


def _open_zstd(path: Path) -> IO[bytes]:
    try:
        zstd = import_module("compression.zstd")  # Python 3.14
    except ImportError:
        arrow = import_optional(
            "pyarrow", extra="parquet", needed_by=f"{path}, packed by zstd,"
        )
        return arrow.input_stream(str(path), compression="zstd")
    return zstd.open(path, "rb")


class _Streams(io.RawIOBase):
    """Packed streams behind each other, each of which must be whole.

    `bz2` and `lzma` take what they cannot read behind a first stream for nothing, and
    parallel packers write a stream for each 900 kB.
    """

    def __init__(self, path: Path, make: Callable[[], Any]):
        self._file = open(path, "rb")
        self._make, self._unpacker = make, make()

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def readinto(self, buffer) -> int:
        while True:
            if self._unpacker.eof:
                packed = self._unpacker.unused_data or self._file.read(_BLOCK)
                packed = packed.lstrip(b"\x00")  # padding
                if not packed:
                    return 0
                self._unpacker = self._make()
            else:
                packed = self._file.read(_BLOCK) if self._unpacker.needs_input else b""
                if self._unpacker.needs_input and not packed:
                    raise EOFError("it ends within a packed stream")
            data = self._unpacker.decompress(packed, len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)


_KINDS: dict[str, tuple[re.Pattern[bytes], Callable[[Path], Any]]] = {
    "gzip": (re.compile(rb"\x1f\x8b"), lambda path: gzip.open(path, "rb")),
    "bz2": (
        re.compile(rb"BZh[1-9]"),
        lambda path: io.BufferedReader(_Streams(path, bz2.BZ2Decompressor), _BLOCK),
    ),
    "xz": (
        re.compile(rb"\xfd7zXZ|\x5d\x00\x00"),
        lambda path: io.BufferedReader(_Streams(path, lzma.LZMADecompressor), _BLOCK),
    ),
    "zstd": (re.compile(rb"\x28\xb5\x2f\xfd"), _open_zstd),
    "zip": (re.compile(rb"PK\x03\x04"), _open_zip),
}


# ------------------------------------------------------------------------ whole texts


def open_text(
    path: str | os.PathLike[str],
    *,
    encoding: str | None = None,
    errors: str = "backslashreplace",
    newline: str | None = "",
    longest: int = LONGEST_LINE,
    n_zeros: int = 1,
) -> TextIO:
    r"""Open a text, unpacking it on the way.

    Parameters
    ----------
    path : path-like
        The file.
    encoding : str or None, default=None
        As of `Head`, or another name that Python knows; None looks into the file.
    errors, newline : str, str or None
        As of `open`. By default odd bytes stay visible as ``\xe9``, and lines keep
        their ends.
    longest : int, default=LONGEST_LINE
        The most bytes of a line, as UTF-8 where they are UTF-16 or UTF-32.
    n_zeros : int, default=1
        So many zero bytes in a row are refused.

    Raises
    ------
    CorruptFileError
        While it is read: at a longer line, and at zero bytes.
    """
    path = Path(path)
    if encoding is None:
        encoding = look_into(path).encoding
    with reading(path):
        file = _open_bytes(path, _compression_of(path))
    make_decoder = None
    if encoding.startswith(("utf-16", "utf-32")):  # in which a byte is no character
        make_decoder = partial(codecs.getincrementaldecoder(encoding), errors)
        encoding = "utf-8"
    lines: Any = _BoundedLines(file, path, longest, n_zeros, make_decoder)
    return io.TextIOWrapper(
        lines, encoding=_codec(encoding), errors=errors, newline=newline
    )


_MakeDecoder = Callable[[], codecs.IncrementalDecoder] | None


class _BoundedLines(io.BufferedIOBase):
    """The bytes of a text in which no line is too long, and none has zero bytes."""

    def __init__(
        self,
        file: IO[bytes],
        path: Path,
        longest: int,
        n_zeros: int,
        make_decoder: _MakeDecoder,
    ):
        self._file, self._path, self._make_decoder = file, path, make_decoder
        self._longest, self._zeros = longest, bytes(n_zeros)
        self._blocks = _blocks_of(file, make_decoder)
        self._n_read = 0
        self._n_open = 0  # bytes of the line that has not ended yet

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def read1(self, size: int = -1, /) -> bytes:
        """Return the next bytes, more than are asked for: each call costs as much."""
        block = next(self._blocks, b"")
        if b"\0" in block and self._zeros in block:  # the first is faster
            why = "it holds zero bytes (NUL), as a lost block of a disk does"
            self._refuse(self._n_read + block.index(self._zeros), why)
        if self._n_open + len(block) > self._longest:
            first = re.search(rb"[\r\n]|\Z", block).start()  # type: ignore[union-attr]
            if self._n_open + first > self._longest:
                why = f"it is longer than {self._longest:,} bytes, as no real one is"
                self._refuse(self._n_read, why)
        end = max(block.rfind(b"\n"), block.rfind(b"\r"))
        self._n_open = len(block) - end - 1 + (self._n_open if end < 0 else 0)
        self._n_read += len(block)
        return block

    def _refuse(self, at: int, why: str) -> None:
        """Name the line of a byte, for which lines are counted only now."""
        n, left = 1, at
        with _open_bytes(self._path, _compression_of(self._path)) as file:
            for block in _blocks_of(file, self._make_decoder):
                n += block.count(b"\n", 0, left) or block.count(b"\r", 0, left)
                left -= len(block)
                if left <= 0:
                    break
        raise CorruptFileError(self._path, f"line {n:,}", why)


def _blocks_of(file: Any, make_decoder: _MakeDecoder) -> Iterator[bytes]:
    """Yield what is in a file, as UTF-8 where a decoder is given."""
    decoder = make_decoder and make_decoder()
    while block := file.read1(_BLOCK):
        if decoder is None:
            yield block
        elif text := decoder.decode(block):
            yield text.encode()
    if decoder is not None:
        yield decoder.decode(b"", final=True).encode()
