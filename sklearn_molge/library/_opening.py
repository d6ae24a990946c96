"""What is refused as a library: other kinds of files, told by their first bytes."""

import codecs
import os
import re
from pathlib import Path

from sklearn_molge._files.text import Head, check_is_file, split_member

__all__ = ["check_path", "refuse_foreign"]

_N_SAMPLE = 2**13
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
        rb"(?is)\s*(<\?xml[^>]*>\s*)?(<!--((?!-->).)*-->\s*)*"
        rb"<(!doctype html|html|head|body)\b",
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
    (rb'\s*(\{\s*["}]|\[\s*[{"])', "JSON", _EXPORT),
    (rb"(?s).{257}ustar", "a tar archive", "unpack it"),
    (rb"\x1f\x8b|BZh[1-9]1AY|\xfd7zXZ\x00|\x28\xb5\x2f\xfd|PK\x03\x04",
     "packed twice", "unpack it once"),
    (rb"Rar!|7z\xbc\xaf", "an archive", "unpack it"),
)  # fmt: skip


def check_path(path: str | os.PathLike) -> None:
    """Say what is wrong with the path itself."""
    if re.match(r"[a-z][a-z0-9+.-]+://", str(path)):
        raise ValueError(
            f"path must be a file of this machine. Got {path!r}: fetch it."
        )
    check_is_file(path)
    with open(split_member(path)[0], "rb"):
        pass


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
    sample = head.data[:_N_SAMPLE]
    if head.encoding in ("utf-8", "cp1252"):
        n_odd = len(sample) - len(sample.translate(None, _CONTROLS))
        if n_odd > 0.1 * len(sample):
            raise ValueError(
                f"{path} is not a text: it begins with {sample[:20]!r}. {_KNOWN}"
            )


_KNOWN = "Lines of SMILES, tables of text, SDF and Parquet are read."
