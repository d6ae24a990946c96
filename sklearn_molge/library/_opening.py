"""Files as bytes: unpacked and decoded by what is in them, not by their names."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, TextIO

from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.optional import import_optional

__all__ = ["Head", "inner_name", "look_into", "open_text", "refuse_foreign"]

# Endings that stand behind a file's own.
_PACKED = (".gz", ".bz2", ".xz", ".lzma", ".zst", ".zstd", ".zip")
_N_HEAD = 2**18
_N_OF_LINES = 2**16
_PIECE = 2**13

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like that of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes({*range(9), *range(14, 32)} - {0x1A, 0x1B})
_EXPORT = "export it as CSV, or give a DataFrame to MoleculeIndex.fit"
# What else a file may begin with: what it is, and what helps.
_FOREIGN: tuple[tuple[bytes, str, str], ...] = (
    (rb"\xd0\xcf\x11\xe0", "an Excel workbook or another file of old Office", _EXPORT),
    (rb"ARROW1|FEA1", "a Feather file", "write Parquet, or give a DataFrame"),
    (rb"\x89HDF", "an HDF5 file", _EXPORT),
    (rb"SQLite format 3", "a database of SQLite", _EXPORT),
    (rb"%PDF", "a PDF", _EXPORT),
    (rb"\x89PNG|GIF8|\xff\xd8\xff", "a picture", "give SMILES"),
    (rb"version https://git-lfs", "a pointer of Git LFS", "fetch it by `git lfs pull`"),
    (
        rb"(?is)\s*(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype html|html|head|body)\b",
        "a page of HTML",
        "look into it: the download may have ended at a log-in or an error",
    ),
    (rb"(?s)\s*<\?xml.{0,500}<!?(DOCTYPE )?CDXML|\s*<CDXML|VjCD", "a ChemDraw file",
     "export it as SDF or SMILES"),
    (rb"\s*<(\?xml|!DOCTYPE|svg|cml)", "XML", _EXPORT),
    (rb"(?s)(\s|#[^\n]*\n)*@<TRIPOS>", "a MOL2 file", "convert it to SDF"),
    (rb"\$(RXN|RDFILE)", "a file of reactions", "a library holds molecules"),
    (rb"(HEADER    |COMPND    |HETATM|ATOM  |CRYST1)", "a PDB file",
     "convert it to SDF"),
    (rb"\s*InChI=", "a list of InChIs", "convert them to SMILES"),
    (rb'\s*(\{\s*["}]|\[\s*[{"])', "JSON", _EXPORT),
    (rb"(?s).{257}ustar", "a tar archive", "unpack it"),
    (rb"\x1f\x8b|BZh[1-9]1AY|\xfd7zXZ\x00|\x28\xb5\x2f\xfd|PK\x03\x04",
     "packed twice", "unpack it once"),
    (rb"Rar!|7z\xbc\xaf", "an archive", "unpack it"),
)  # fmt: skip


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


def look_into(path: Path) -> Head:
    """Read the beginning of a file."""
    compression = _compression_of(path)
    with _open_bytes(path, compression) as file:
        data, is_whole = _read_head(file)
    return Head(compression, _encoding_of(data, is_whole), data, is_whole)


def _read_head(file: IO[bytes]) -> tuple[bytes, bool]:
    pieces: list[bytes] = []
    for _ in range(_N_HEAD // _PIECE):
        try:
            piece = file.read(_PIECE)
        except (EOFError, OSError, ValueError, lzma.LZMAError):
            if not pieces:
                raise
            return b"".join(pieces), False  # who reads on will meet it again
        if not piece:
            return b"".join(pieces), True
        pieces.append(piece)
    return b"".join(pieces), False


def refuse_foreign(path: Path, head: Head) -> None:
    """Refuse what is no text of molecules.

    Raises
    ------
    ValueError
        With what the file seems to be, and what helps.
    """
    for pattern, what, remedy in _FOREIGN:
        if re.match(pattern, head.data.removeprefix(codecs.BOM_UTF8)):
            raise ValueError(f"{path} is {what}, not a library of molecules: {remedy}.")
    sample = head.data[:_PIECE]
    if head.encoding in ("utf-8", "cp1252"):
        n_odd = len(sample) - len(sample.translate(None, _CONTROLS))
        if n_odd > 0.1 * len(sample):
            raise ValueError(
                f"{path} is not a text: it begins with {sample[:20]!r}. {_KNOWN}"
            )


_KNOWN = "Lines of SMILES, tables of text, SDF and Parquet are read."


def _compression_of(path: Path) -> str | None:
    with open(path, "rb") as file:
        magic = file.read(6)
    return next((c for c, kind in _KINDS.items() if kind[0].match(magic)), None)


def _open_bytes(path: Path, compression: str | None) -> IO[bytes]:
    if compression is None:
        return open(path, "rb")
    return _KINDS[compression][1](path)


def _open_zip(path: Path) -> IO[bytes]:
    with zipfile.ZipFile(path) as archive:
        try:
            return archive.open(_member(path, archive))
        except RuntimeError as error:  # of a password
            raise ValueError(f"{path}: {error}") from error


def _member(path: Path, archive: zipfile.ZipFile) -> str:
    names = [
        name
        for name in archive.namelist()
        if not name.endswith("/") and not name.startswith("__MACOSX/")
    ]
    if "[Content_Types].xml" in names:
        raise ValueError(f"{path} is an Excel workbook or like one: {_EXPORT}.")
    if len(names) != 1:
        raise ValueError(
            f"{path} must hold a single file to be read as it is. It is a zip archive "
            f"of {len(names)}: [{first_few(names, n=5)}]; unpack it."
        )
    return names[0]


def _open_zstd(path: Path) -> IO[bytes]:
    try:
        zstd = import_module("compression.zstd")  # Python 3.14
    except ImportError:
        arrow = import_optional(
            "pyarrow", extra="parquet", needed_by=f"{path}, packed by zstd,"
        )
        return arrow.input_stream(str(path), compression="zstd")
    return zstd.open(path, "rb")


_Open = Callable[[Path], Any]
_KINDS: dict[str, tuple[re.Pattern[bytes], _Open]] = {
    "gzip": (re.compile(rb"\x1f\x8b"), lambda path: gzip.open(path, "rb")),
    "bz2": (re.compile(rb"BZh[1-9]"), lambda path: bz2.open(path, "rb")),
    "xz": (
        re.compile(rb"\xfd7zXZ\x00|\x5d\x00\x00"),
        lambda path: lzma.open(path, "rb"),
    ),
    "zstd": (re.compile(rb"\x28\xb5\x2f\xfd"), _open_zstd),
    "zip": (re.compile(rb"PK\x03\x04"), _open_zip),
}


def inner_name(path: Path) -> Path:
    """Return the name of what is packed in a file: "x.csv" of x.csv.gz."""
    if _compression_of(path) == "zip" and path.suffix.lower() == ".zip":
        with zipfile.ZipFile(path) as archive:
            member = Path(_member(path, archive))
        if member.suffix:
            return member
    return path.with_suffix("") if path.suffix.lower() in _PACKED else path


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


def open_text(path: Path) -> TextIO:
    r"""Open a text, unpacking it on the way; odd bytes stay visible as ``\xe9``."""
    head = look_into(path)
    return io.TextIOWrapper(
        _open_bytes(path, head.compression),
        encoding=_codec(head.encoding),
        errors="backslashreplace",
        newline="",
    )
