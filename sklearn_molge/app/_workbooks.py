"""check_workbook: an uploaded workbook is looked through before openpyxl opens it."""

from __future__ import annotations

import re
import zipfile
import zlib
from io import BytesIO
from xml.parsers import expat

__all__ = ["check_workbook", "is_workbook"]

_MOST_UNPACKED = 2**26
_MOST_MEMBERS = 1000
_MOST_ROWS = 200_000
_MOST_COLUMNS = 1000
_MOST_CELLS = 4_000_000
_MOST_DEPTH = 100
_CHUNK = 2**16
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CELL = re.compile(r"\$?([A-Za-z]{1,3})\$?([0-9]{1,7})")


def is_workbook(content: bytes) -> bool:
    """Whether a file is an .xlsx, from its first byte on."""
    if not content.startswith(b"PK\x03\x04"):
        return False
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            return "[Content_Types].xml" in archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, UnicodeDecodeError):
        return False


def check_workbook(content: bytes) -> None:
    """Refuse a workbook that would unpack, or be filled up, to too much.

    openpyxl pads rows and columns up to the last that a sheet names, which a short text
    may place anywhere, and leaves entities to its parser.

    Raises
    ------
    ValueError
        With what is allowed.
    """
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            members = archive.infolist()
            _check_members(members)
            for member in members:
                if member.filename.lower().endswith((".xml", ".rels")):
                    # No more is unpacked than the archive says, which was added up.
                    with archive.open(member) as file:
                        _Sheet().read(file)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise ValueError(f"The workbook is damaged: {error}.") from error
    except expat.ExpatError as error:
        raise ValueError(f"The workbook is damaged: {error}.") from error


def _check_members(members: list[zipfile.ZipInfo]) -> None:
    if len(members) > _MOST_MEMBERS:
        raise ValueError(
            f"A workbook may hold {_MOST_MEMBERS:,} parts. Got {len(members):,}."
        )
    n_bytes = sum(member.file_size for member in members)
    if n_bytes > _MOST_UNPACKED:
        raise ValueError(
            f"The workbook unpacks into {n_bytes:,} bytes, and at most "
            f"{_MOST_UNPACKED:,} are read: save its table as CSV."
        )
    for member in members:
        if member.compress_type not in _METHODS or member.flag_bits & 1:
            raise ValueError(
                "The workbook is packed as no spreadsheet packs it, or has a password."
            )


class _Sheet:
    """Counts the rows and cells of a part that may be a sheet."""

    def __init__(self) -> None:
        self.row = self.column = self.last = self.width = self.n_cells = self.depth = 0
        self.parser = expat.ParserCreate()
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end

    def read(self, file) -> None:
        while chunk := file.read(_CHUNK):
            self.parser.Parse(chunk)
        self.parser.Parse(b"", True)

    def _refuse(self, *args) -> None:
        raise ValueError("The workbook defines entities of its own.")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self.depth += 1
        if self.depth > _MOST_DEPTH:
            raise ValueError("The workbook is nested too deeply.")
        kind, place = name.rpartition(":")[2], attributes.get("r", "")
        if kind == "dimension":
            last = attributes.get("ref", "").rpartition(":")[2]
            self._see(*_place(last))
        elif kind == "row":
            if place and not re.fullmatch("[0-9]{1,7}", place):
                raise ValueError(f"The workbook is damaged: {place!r} is no row.")
            self.row = int(place) if place else self.row + 1
            self.column = 0
            self._see(self.row, 1)
        elif kind == "c":
            if place:
                self.row, self.column = _place(place)
            else:
                self.column += 1
            self.n_cells += 1
            self._see(self.row, self.column)

    def _end(self, name: str) -> None:
        self.depth -= 1

    def _see(self, row: int, column: int) -> None:
        self.width = max(self.width, column)
        self.last = max(self.last, row)
        n_cells = max(self.n_cells, self.last * self.width)
        if row > _MOST_ROWS or column > _MOST_COLUMNS or n_cells > _MOST_CELLS:
            raise ValueError(
                f"A sheet may have {_MOST_ROWS:,} rows, {_MOST_COLUMNS:,} columns and "
                f"{_MOST_CELLS:,} cells; one has more: save the table as CSV."
            )


def _place(text: str) -> tuple[int, int]:
    """Return the row and the column of a cell by its name, such as B3."""
    found = _CELL.fullmatch(text)
    if found is None:
        raise ValueError(f"The workbook is damaged: {text[:20]!r} is no cell.")
    column = 0
    for letter in found[1].upper():
        column = 26 * column + ord(letter) - ord("A") + 1
    return int(found[2]), column
