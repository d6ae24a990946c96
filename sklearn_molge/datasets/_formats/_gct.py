"""Reading GCT files: a matrix with its metadata, in tab-separated text."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TextIO

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge._files.reading import reading
from sklearn_molge._files.text import look_into, open_text
from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._formats._gctdata import (
    GctData,
    Subset,
    check_dtype,
    resolve_subset,
    text_index,
)
from sklearn_molge.datasets._formats._values import (
    MISSING_OPTIONS,
    NUMBER,
    check_values,
    parse_numbers,
)
from sklearn_molge.datasets._tables import BLANKS, MOST_COLUMNS
from sklearn_molge.datasets._texts import unquote
from sklearn_molge.exceptions import CorruptFileError

__all__ = ["read_gct", "read_gct_metadata"]

# An id like 0025 is no number.
ZERO_BEFORE = re.compile(r"[-+]?0\d")
FIRST_HEADER_LINE = 3
# Bytes: 1.3 million samples with a SMILES of 100 letters each are 130 MB.
LONGEST_LINE = 2**28
# The largest release has 1.8 million samples with 30 fields of metadata: 54 million.
MOST_CELLS = 2**26
WHOLE = re.compile("[-+]?[0-9]{1,18}")  # fits 64 bits
LONG = re.compile("[-+]?[0-9]{16,}")  # does not fit a float


@dataclass(frozen=True)
class _Layout:
    """What the first lines say: how many of everything there are."""

    n_genes: int
    n_samples: int
    n_gene_fields: int
    n_sample_fields: int

    @property
    def n_cells(self) -> int:
        return 1 + self.n_gene_fields + self.n_samples

    @property
    def first_gene_line(self) -> int:
        return FIRST_HEADER_LINE + 1 + self.n_sample_fields


@dataclass(frozen=True)
class _Scan:
    """All of a GCT file but its matrix."""

    encoding: str
    layout: _Layout
    obs: pd.DataFrame
    genes: pd.DataFrame


@validate_params(
    {
        "path": [str, os.PathLike],
        "samples": "no_validation",
        "genes": "no_validation",
        "dtype": "no_validation",
        "missing": [StrOptions(MISSING_OPTIONS)],
        "decimal": [StrOptions({".", ","})],
    },
    prefer_skip_nested_validation=True,
)
def read_gct(
    path: str | os.PathLike[str],
    *,
    samples: Subset = None,
    genes: Subset = None,
    dtype: DTypeLike = np.float32,
    missing: str = "raise",
    decimal: str = ".",
) -> GctData:
    r"""Read a GCT text file (version 1.2 or 1.3), or some samples and genes of it.

    The file is gone through twice, line by line: once to check it and to read ids and
    metadata, once for the values asked for. Memory stays near the size of the result.

    Parameters
    ----------
    path : path-like
        The file, packed (gzip, bz2, xz, zip, zstd) or not.
    samples : None, array-like, slice or callable, default=None
        The samples to read (the file's columns), in the order in which to return
        them: ids (text), positions, a boolean mask, a slice of positions, or a
        callable that takes `obs` and returns a boolean mask. None: all, in the order
        of the file. What is asked for twice is returned twice.
    genes : None, array-like, slice or callable, default=None
        The genes to read (the file's rows), likewise. Row ids are text: whole numbers
        are positions, never Entrez ids.
    dtype : {numpy.float32, numpy.float64}, default=numpy.float32
        Of the matrix.
    missing : {"raise", "nan"}, default="raise"
        What to do with values that are missing: cells that are empty, NA, NaN or -666.
        "nan" keeps them as NaN, which estimators refuse.
    decimal : {".", ","}, default="."
        The decimal sign of the values; the other sign is an error.

    Returns
    -------
    data : GctData
        `matrix` (n_samples, n_genes), the transpose of what the file shows, `obs`
        and `genes`. Version 1.2 has no metadata of samples and one text for each gene.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CorruptFileError
        If the file is not in the format, ends early, holds another number of rows
        or columns than its second line says, zero bytes, or a line of more than
        256 MiB; or a value asked for is no finite number that `dtype` can hold (the
        message names line and column, both counted from 1).
    ValueError
        If values are missing and ``missing="raise"`` (it names samples and genes), or
        the path is a pipe or a device.

    Warns
    -----
    UserWarning
        If the file is not UTF-8; it is read as Latin-1 then.

    See Also
    --------
    read_gctx : The same from HDF5: faster, and in parts.

    Notes
    -----
    A column of metadata in which every filled cell is a number becomes numbers, also
    where it says -666, LINCS's mark for a missing value. Any other column stays text
    as it is in the file, "na", "-666" and numbers like 0025 included. Empty cells are
    missing (NaN). The filler in the upper left corner of version 1.3 is not read.
    Whole numbers that would lose digits (more than 18, or than 15 beside empty cells
    and fractions) stay text as well.

    Numbers are written by the digits 0 to 9, a point and an exponent: what only some
    programs read, such as 1_000, 0x10 and infinity, is an error.

    What a spreadsheet leaves behind does no harm: a byte order mark, UTF-16, lines of
    tabs, tabs after the last cell, quotation marks around cells.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_molge.datasets import read_gct
    >>> text = (
    ...     "#1.3\n"
    ...     "2\t3\t1\t1\n"
    ...     "id\tsymbol\tA03\tA04\tA05\n"
    ...     "dose_um\tna\t0\t10\t10\n"
    ...     "16\tAARS1\t8.5\t8.25\t9\n"
    ...     "23\tABCF1\t7.5\t7\t6.5\n"
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "small.gct"
    ...     _ = path.write_text(text)
    ...     data = read_gct(path, samples=["A05", "A03"])
    >>> data.matrix
    array([[9. , 6.5],
           [8.5, 7.5]], dtype=float32)
    >>> data.obs["dose_um"].to_dict()
    {'A05': 10, 'A03': 0}
    """
    dtype = check_dtype(dtype)
    scan = _scan(path)
    rows = resolve_subset(
        samples,
        len(scan.obs),
        name="samples",
        path=path,
        read_ids=lambda: scan.obs.index,
        read_metadata=lambda: scan.obs,
    )
    columns = resolve_subset(
        genes,
        len(scan.genes),
        name="genes",
        path=path,
        read_ids=lambda: scan.genes.index,
        read_metadata=lambda: scan.genes,
    )
    matrix = np.empty((len(rows), len(columns)), dtype=dtype)
    _fill(matrix, path, scan, rows, columns, decimal)
    data = GctData(matrix, scan.obs.iloc[rows], scan.genes.iloc[columns])
    check_values(
        matrix,
        missing,
        where=os.fspath(path),
        names=lambda: (data.obs.index, data.genes.index),
    )
    return data


def read_gct_metadata(
    path: str | os.PathLike[str],
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Read `obs` and `genes` of a GCT file, without its matrix."""
    scan = _scan(path)
    return scan.obs, scan.genes


def _open(path: str | os.PathLike[str], encoding: str) -> TextIO:
    return open_text(
        path, encoding=encoding, errors="strict", newline=None, longest=LONGEST_LINE
    )


def _scan(path: str | os.PathLike[str]) -> _Scan:
    with reading(path):
        head = look_into(path)
        content = _content(head.lines)
        _version_of(*next(content, (1, "")), path)  # before it is read to its end
        encoding = head.encoding
        if encoding != "cp1252":
            try:
                return _scan_as(path, encoding)
            except UnicodeDecodeError:
                pass
        scan = _scan_as(path, "latin-1")
    warnings.warn(
        f"{os.fspath(path)} is not UTF-8; it is read as Latin-1.",
        UserWarning,
        stacklevel=4,
    )
    return scan


def _scan_as(path: str | os.PathLike[str], encoding: str) -> _Scan:
    with _open(path, encoding) as file:
        content = _content(file)
        layout = _read_layout(content, path)
        lines = _checked_lines(content, layout, path)
        header = [unquote(cell) for cell in next(lines).split("\t")]
        n_left = 1 + layout.n_gene_fields
        once: dict[str, str] = {}  # a text that comes again is held once
        sample_fields = [
            [once.setdefault(cell, cell) for cell in _cells(next(lines))]
            for _ in range(layout.n_sample_fields)
        ]
        # Cut off the values: only one line of them is ever held.
        gene_lines = [
            [once.setdefault(cell, cell) for cell in _cells(line, n_left)[:n_left]]
            for line in lines
        ]
    obs = _frame(
        ids=header[n_left:],
        names=[unquote(cells[0]) for cells in sample_fields],
        columns=[cells[n_left:] for cells in sample_fields],
        where=f"{os.fspath(path)}, first column",
    )
    ids, *columns = zip(*gene_lines, strict=True) if gene_lines else [()] * n_left
    genes = _frame(
        ids=[unquote(cell) for cell in ids],
        names=header[1:n_left],
        columns=columns,
        where=f"{os.fspath(path)}, line {FIRST_HEADER_LINE}",
    )
    for what, frame in (("samples", obs), ("genes", genes)):
        n_bare = int((frame.index == "").sum())
        if n_bare:
            raise CorruptFileError(path, "", f"{n_bare:,} {what} have no id")
    return _Scan(encoding, layout, obs, genes)


def _content(file: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Yield number and text of the lines that hold more than tabs and blanks."""
    for number, line in enumerate(file, start=1):
        if line.strip(BLANKS):
            yield number, line.rstrip("\r\n")


def _cells(line: str, at_most: int = -1) -> list[str]:
    cells = line.split("\t", at_most)
    return [unquote(cell) for cell in cells] if '"' in line else cells


def _version_of(number: int, line: str, path: str | os.PathLike[str]) -> str:
    version = line[:80].strip(BLANKS)
    if version not in ("#1.2", "#1.3"):
        raise CorruptFileError(
            path,
            f"line {number}",
            f"a GCT file starts with #1.2 or #1.3. Got {version!r}",
        )
    return version


def _read_layout(
    content: Iterator[tuple[int, str]], path: str | os.PathLike[str]
) -> _Layout:
    number, line = next(content, (1, ""))
    version = _version_of(number, line, path)
    n_counts = 2 if version == "#1.2" else 4
    number, line = next(content, (2, ""))
    counts = line.replace('"', "").split()
    if len(counts) != n_counts or not all(c.isascii() and c.isdigit() for c in counts):
        raise CorruptFileError(
            path,
            f"line {number}",
            f"GCT version {version} needs {n_counts} whole numbers here, how many rows "
            "and columns there are"
            f"{' of values and of metadata' if n_counts == 4 else ''}. "
            f"Got {line[:80].strip(BLANKS)!r}",
        )
    # Version 1.2 has one column of text, "Description", and no metadata of samples.
    known = [int(count[:18]) for count in counts]
    layout = _Layout(*(known if n_counts == 4 else [*known, 1, 0]))
    n_texts = layout.n_genes * (1 + layout.n_gene_fields)
    n_texts = max(n_texts, layout.n_samples * (1 + layout.n_sample_fields))
    if max(known) > MOST_COLUMNS or n_texts > MOST_CELLS:
        raise CorruptFileError(
            path,
            f"line {number}",
            f"it announces more than {MOST_COLUMNS:,} rows or columns, or more than "
            f"{MOST_CELLS:,} cells of metadata: {line[:80].strip(BLANKS)!r}",
        )
    return layout


def _checked_lines(
    content: Iterator[tuple[int, str]], layout: _Layout, path: str | os.PathLike[str]
) -> Iterator[str]:
    """Yield the lines from the header on, each with the right number of cells."""
    n_lines = layout.first_gene_line - 1 + layout.n_genes
    done, number = FIRST_HEADER_LINE - 1, FIRST_HEADER_LINE - 1
    for done, (number, line) in enumerate(content, start=FIRST_HEADER_LINE):
        if done > n_lines:
            raise CorruptFileError(
                path,
                f"line {number}",
                f"the counts in line 2 announce {n_lines} lines, but there are more",
            )
        cells = line.split("\t", layout.n_cells)
        if len(cells) > layout.n_cells and not cells[-1].strip(BLANKS):
            line = line[: -len(cells[-1]) - 1]  # padded by a spreadsheet
        n_cells = line.count("\t") + 1
        if n_cells != layout.n_cells:
            raise CorruptFileError(
                path,
                f"line {number}",
                f"the counts in line 2 announce {layout.n_cells} cells (id, "
                f"{layout.n_gene_fields} of metadata, {layout.n_samples} of values). "
                f"Got {n_cells}",
            )
        yield line
    if done < n_lines:
        raise CorruptFileError(
            path, "", f"it ends after line {number}: line 2 announces {n_lines} lines"
        )


def _frame(
    ids: Sequence[str],
    names: Sequence[str],
    columns: Sequence[Sequence[str]],
    where: str,
) -> pd.DataFrame:
    index = text_index(ids)
    repeated = pd.Index(names)[pd.Index(names).duplicated()]
    if len(repeated):
        raise ValueError(
            f"{where}: columns of metadata must be named differently from each other. "
            f"Got more than once: {first_few(repeated)}."
        )
    typed = [_typed(cells) for cells in columns]
    series = [pd.Series(values, index=index, dtype=values.dtype) for values in typed]
    return pd.DataFrame(dict(zip(names, series, strict=True)), index=index)


def _typed(cells: Sequence[str]) -> NDArray:
    """Return numbers where every filled cell is one, else text; NaN where empty.

    Numbers that would lose digits, such as long ids, stay text.
    """
    bare = [cell.strip(" ") for cell in cells]
    filled = [cell for cell in bare if cell]
    text = np.array([cell or np.nan for cell in cells], dtype=object)
    if not all(map(NUMBER.fullmatch, filled)) or any(map(ZERO_BEFORE.match, filled)):
        return text
    if filled and len(filled) == len(bare) and all(map(WHOLE.fullmatch, filled)):
        return np.array([int(cell) for cell in bare])
    numbers = np.array([float(cell) if cell else np.nan for cell in bare])
    if any(map(LONG.fullmatch, filled)) or np.isinf(numbers).any():
        return text

    return numbers


def _fill(
    matrix: NDArray[np.floating],
    path: str | os.PathLike[str],
    scan: _Scan,
    rows: NDArray[np.intp],
    columns: NDArray[np.intp],
    decimal: str,
) -> None:
    """Read the values asked for into `matrix`, one line of the file at a time."""
    if matrix.size == 0:
        return
    n_left = 1 + scan.layout.n_gene_fields
    order = np.argsort(columns, kind="stable")
    bounds = np.searchsorted(columns[order], np.arange(scan.layout.n_genes + 1))
    cells_wanted = (rows + n_left).tolist()
    n_done = 0
    with reading(path), _open(path, scan.encoding) as file:
        lines = islice(_content(file), scan.layout.first_gene_line - 1, None)
        for (number, line), begin, end in zip(lines, bounds, bounds[1:], strict=False):
            n_done += 1
            if begin == end:
                continue
            cells = _cells(line)
            texts = [cells[i] for i in cells_wanted]
            values, bad = parse_numbers(texts, decimal, matrix.dtype, line)
            if bad is not None:
                comma = texts[bad].count(",") == 1 and decimal == "."
                hint = ". Pass decimal=',' if a comma is the decimal sign" * comma
                if np.isfinite(values[bad]):
                    hint = f" in {matrix.dtype}"
                raise CorruptFileError(
                    path,
                    f"line {number}, column {cells_wanted[bad] + 1} "
                    f"(gene {cells[0]!r}, sample {scan.obs.index[rows[bad]]!r})",
                    f"{texts[bad]!r} is not a finite number{hint}",
                )
            matrix[:, order[begin:end]] = values[:, None]
    if n_done < scan.layout.n_genes:
        raise CorruptFileError(path, "", "it was changed while it was read")
