"""Profiles that are no study: a matrix of named genes, from a file of any kind."""

import os
import re
import warnings
import zipfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._files.hdf5 import open_hdf5
from sklearn_molge._files.reading import reading
from sklearn_molge._files.text import check_is_file
from sklearn_molge._utils.genes import are_row_numbers, check_no_row_numbers
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.views import target_genes
from sklearn_molge.datasets._columns import (
    PROFILE_IDS,
    is_gene_column,
    is_known,
    name_genes,
    standard_genes,
)
from sklearn_molge.datasets._de_table import ROLES
from sklearn_molge.datasets._fold_changes import RATIOS
from sklearn_molge.datasets._formats._gct import read_gct
from sklearn_molge.datasets._formats._gctx import read_gctx
from sklearn_molge.datasets._formats._h5ad import (
    layers_hint,
    read_h5ad_tables,
    read_h5ad_values,
)
from sklearn_molge.datasets._formats._values import (
    MISSING_OPTIONS,
    check_values,
    parse_numbers,
)
from sklearn_molge.datasets._tables import BLANKS, csv_rows, sniff_table
from sklearn_molge.datasets._texts import clean, unquote
from sklearn_molge.exceptions import CorruptFileError, DataWarning, GeneNamesWarning
from sklearn_molge.expression import match_genes

__all__ = ["read_profiles"]

HDF5_MAGIC = b"\x89HDF"
ZIP_MAGIC = b"PK\x03\x04"
# What the first column of a table is called, in lower case.
GENE_KEYS = {"gene", "genes", "gene_name", "name", "rid", "probe_id", "geneid"}
SAMPLE_KEYS = {"sample", "samples", "profile", "cid", "well", *PROFILE_IDS}
# Of a table of text: rows are converted so many cells at a time, and 20,000 genes of
# 13,000 profiles are what it may hold.
BLOCK_CELLS = 2**22
MOST_CELLS = 2**28
ENSEMBL = re.compile(r"ENS[A-Z]*G\d+(\.\d+)?", re.IGNORECASE)
# Statistics of DESeq2, edgeR, limma, scanpy and Seurat, without points and underscores.
STATISTICS = {
    *("basemean", "lfcse", "logcpm", "aveexpr"),
    *({*ROLES["p"], *ROLES["padj"]} - {"p", "bh"}),
    *(set(RATIOS) - {"fold", "ratio"}),
}


@validate_params(
    {
        "path": [str, os.PathLike],
        "genes_in": [StrOptions({"auto", "rows", "columns"})],
        "min_share": [Interval(Real, 0, 1, closed="both")],
        "missing": [StrOptions(MISSING_OPTIONS)],
        "decimal": [StrOptions({".", ","})],
        "layer": [str, None],
    },
    prefer_skip_nested_validation=True,
)
def read_profiles(
    path: str | os.PathLike[str],
    *,
    genes_in: str = "auto",
    genes=None,
    min_share: float = 0.5,
    missing: str = "raise",
    decimal: str = ".",
    layer: str | None = None,
) -> pd.DataFrame:
    r"""Read profiles that are no study, such as queries, with the names of their genes.

    No SMILES, cell line or kind of treatment is needed. The file may be GCT, GCTX,
    ``.h5ad`` of AnnData, numpy's ``.npz`` with the arrays ``X`` (profiles x genes) and
    ``gene_id``, or a table of text separated by tabs, commas or semicolons,
    packed (gzip, bz2, xz, zstd) or not; it is told by its content, not by its name.

    Parameters
    ----------
    path : path-like
        The file.
    genes_in : {"auto", "rows", "columns"}, default="auto"
        Where a table of text has its genes. "auto" looks at the names on both sides
        (Entrez and Ensembl ids, the name of the first column, `genes`), and raises
        where they do not tell. Other formats say it themselves.
    genes : DataFrame, array-like of str, fitted estimator, Study or MoleculeIndex, \
default=None
        The genes of the model, as in
        :func:`~sklearn_molge.expression.align_profiles`: the profiles are put in
        their order, matched by :func:`~sklearn_molge.expression.match_genes`, and a
        table's genes are told by them. Genes that the file lacks are 0 (unchanged: for
        z-scores), others are left out, and of a gene with several columns or rows the
        mean is taken. None keeps the genes of the file.
    min_share : float, default=0.5
        Smallest share of `genes` that the file must have.
    missing : {"raise", "nan"}, default="raise"
        What to do with values that are missing (NaN, empty, -666): raise, or keep them
        as NaN, which estimators refuse.
    decimal : {".", ","}, default="."
        The decimal sign in text.
    layer : str, default=None
        The layer of an ``.h5ad`` file with the profiles; None takes ``X``.

    Returns
    -------
    profiles : DataFrame of shape (n_profiles, n_genes), dtype=float32
        One row a profile, indexed by its id, and one column a gene, named by text:
        Entrez ids where the file knows them of every gene, else symbols, else the
        names of the file; with `genes` as the model names them. Then
        ``profiles.attrs["genes"]`` is the account, counts by name: "found" (genes of
        the model), "filled" (with 0), "left_out" and "repeated" (genes of the file).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CorruptFileError
        If a value is no number that float32 can hold, a quotation mark is left open, a
        row has another number of cells, zero bytes or more than 64 MiB, or a table of
        text has more than 268 million cells: with the line, or the row and the column.
    ValueError
        If the file is of no known format, it does not tell where the genes are, a gene
        has two columns or no name, a value is missing (names the place), or columns
        are statistics, such as "padj": :func:`read_de_table` reads those. If the file
        has fewer of `genes` than `min_share`.
    ImportError
        If the file is AnnData's and anndata is not installed.

    Warns
    -----
    DataWarning
        If columns or rows of a table hold no values and are left out, an id of a
        profile stands twice, or no value in ``X`` of an ``.h5ad`` file is below 0 and
        the file has layers.
    GeneNamesWarning
        If genes of the model are missing and filled (how many, and which), a gene of
        it comes more than once, or a name was a date.

    See Also
    --------
    read_gct, read_gctx : The same with all metadata, or in parts.
    load_lincs : Profiles with their molecules: a study.
    read_de_table : For tables of differential expression.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn_molge.datasets import read_profiles
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "query.csv"
    ...     _ = path.write_text("gene,case 1,case 2\n780,1.5,-2\n5720,0.5,3\n")
    ...     profiles = read_profiles(path)
    >>> profiles
            780  5720
    case 1  1.5   0.5
    case 2 -2.0   3.0
    """
    kind = _kind_of(path)
    if layer is not None and kind != "h5ad":
        raise ValueError(
            f"layer must be None: {os.fspath(path)} is no .h5ad file, and has no "
            f"layers. Got {layer!r}."
        )
    if kind == "h5ad":
        profiles = _of_anndata(path, layer)
    elif kind == "npz":
        profiles = _of_npz(path)
    elif kind == "table":
        profiles = _of_table(path, genes_in, genes, decimal)
    else:
        data = (
            read_gctx(path, missing=missing)
            if kind == "gctx"
            else read_gct(path, missing=missing, decimal=decimal)
        )
        profiles = pd.DataFrame(
            data.matrix, index=data.obs.index, columns=_gene_names(data.genes)
        )
    _check(profiles, path, () if genes is None else target_genes(genes)[1])
    values = check_values(
        profiles.to_numpy(np.float32),
        missing,
        where=os.fspath(path),
        names=lambda: (profiles.index, profiles.columns),
        copy=True,
    )
    profiles = pd.DataFrame(
        values,
        index=pd.Index([str(name) for name in profiles.index], dtype=object),
        columns=pd.Index([str(name) for name in profiles.columns], dtype=object),
    )
    return profiles if genes is None else _in_order(profiles, genes, min_share, path)


def _kind_of(path: str | os.PathLike[str]) -> str:
    check_is_file(path)
    with open(path, "rb") as file:
        start = file.read(64)
    if start.startswith(ZIP_MAGIC):
        if b".npy" in start:  # the name of the first entry
            return "npz"
        raise ValueError(
            f"{os.fspath(path)} is a zip archive or a workbook of a spreadsheet: "
            "unpack it, or save the sheet as CSV."
        )
    if start.startswith(HDF5_MAGIC):
        with open_hdf5(path) as file:
            if "0" in file.names:
                return "gctx"
            if {"obs", "var"} <= file.names:
                return "h5ad"
        raise ValueError(f"{os.fspath(path)} is HDF5, but neither GCTX nor AnnData.")
    with reading(path):
        dialect = sniff_table(path, lambda name: False)
    first = next(filter(None, dialect.header), "")
    return "gct" if first.startswith("#1.") else "table"


def _gene_names(table: pd.DataFrame) -> pd.Index:
    """Return the best names that a table of genes knows of every gene."""
    named = name_genes(standard_genes(table))
    if named["gene_id"].notna().all():
        return pd.Index([f"{i:.0f}" for i in named["gene_id"]], dtype=object)
    if named["symbol"].notna().all():
        return pd.Index(named["symbol"], dtype=object)
    return pd.Index([clean(name) for name in table.index], dtype=object)


def _check(
    profiles: pd.DataFrame, path: str | os.PathLike[str], known: Iterable[object]
) -> None:
    if profiles.empty:
        raise ValueError(
            f"{os.fspath(path)} has no profiles: {profiles.shape[0]:,} samples and "
            f"{profiles.shape[1]:,} genes."
        )
    genes = profiles.columns
    check_no_row_numbers(genes, f"{os.fspath(path)}: what names the genes", known=known)
    bad = genes[genes.duplicated() | (genes == "")].unique()
    if len(bad):
        raise ValueError(
            f"{os.fspath(path)}: each gene must have a name of its own. Without a "
            f"name, or more than once: {first_few(bad, n=10)}."
        )
    repeated = profiles.index[profiles.index.duplicated()].unique()
    if len(repeated):
        _warn(f"{os.fspath(path)}: profiles of one id: {first_few(repeated, n=10)}")


def _warn(text: str, category: type[Warning] = DataWarning) -> None:
    warnings.warn(f"{text}.", category, stacklevel=5)


def _in_order(
    profiles: pd.DataFrame, genes, min_share: float, path: str | os.PathLike[str]
) -> pd.DataFrame:
    """Put profiles in the order of a model, and count what was done for it."""
    matched, names = match_genes(profiles.columns, genes), target_genes(genes)[1]
    is_found = (matched["column"] >= 0).to_numpy()
    places = matched["column"].to_numpy()[is_found]
    lacking = np.delete(names, np.unique(places))
    n_found = len(names) - len(lacking)
    if not n_found or n_found < min_share * len(names):
        raise ValueError(
            f"{os.fspath(path)} has {n_found:,} of the {len(names):,} genes, less than "
            f"min_share={min_share:g}. Its genes are "
            f"{first_few(profiles.columns, n=5)}; those of `genes` are "
            f"{first_few(names, n=5)}."
        )
    found = profiles.loc[:, is_found].set_axis(names[places], axis=1)
    repeated = pd.unique(found.columns[found.columns.duplicated()])
    dates = matched.loc[is_found & (matched["how"] == "date"), "entry"]
    for some, told in (
        (lacking, f"of the {len(names):,} genes are missing, and 0 now"),
        (repeated, "genes come more than once, and the mean is taken"),
        (dates, "genes were dates"),
    ):
        if len(some):
            few = first_few(some, write=str, n=10)
            _warn(f"{os.fspath(path)}: {len(some):,} {told}: {few}", GeneNamesWarning)
    if len(repeated):
        found = found.T.groupby(level=0, sort=False).mean().T
    aligned = found.reindex(columns=names, fill_value=0).astype(np.float32)
    aligned.attrs["genes"] = {
        "found": n_found,
        "filled": len(lacking),
        "left_out": int((~is_found).sum()),
        "repeated": len(repeated),
    }
    return aligned


def _of_anndata(path: str | os.PathLike[str], layer: str | None) -> pd.DataFrame:
    obs, var = read_h5ad_tables(path, needed_by="read_profiles")
    values = read_h5ad_values(
        path, (len(obs), len(var)), needed_by="read_profiles", layer=layer
    )
    if layer is None and values.size and not (values < 0).any():
        hint = layers_hint([path])
        if hint:  # z-scores are there, perhaps, and X has what they were made of
            _warn(f"{os.fspath(path)}: no value is below 0.{hint.rstrip('.')}")
    with reading(path, "obs and var"):
        return pd.DataFrame(values, index=obs.index, columns=_gene_names(var))


def _of_npz(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Read what `numpy.savez(path, X=profiles, gene_id=ids)` wrote."""
    with reading(path), zipfile.ZipFile(path) as archive:
        members = {info.filename: info for info in archive.infolist()}
        for name in ("X.npy", "gene_id.npy"):
            if name not in members:
                raise ValueError(f"it has no array {name.removesuffix('.npy')!r}")
            if members[name].file_size > 8 * MOST_CELLS:
                raise ValueError(f"{name} has more than {MOST_CELLS:,} values")
    arrays = {}
    with reading(path), np.load(path, allow_pickle=False) as file:
        for name, kinds, ndim in (("X", "fiu", 2), ("gene_id", "iuU", 1)):
            with reading(path, f"array {name!r}"):
                # By its full name: another file "X" may lie beside "X.npy".
                arrays[name] = array = file[f"{name}.npy"]
                if array.dtype.kind not in kinds or array.ndim != ndim:
                    raise ValueError(f"it is {array.ndim}-D of {array.dtype}")
                if array.size > MOST_CELLS:
                    raise ValueError(f"it has more than {MOST_CELLS:,} values")
        X, genes = arrays["X"], arrays["gene_id"]
        if X.shape[1] != len(genes):
            raise ValueError(
                f"X has {X.shape[1]:,} columns and gene_id {len(genes):,} entries"
            )
        names = pd.Index([clean(name) for name in genes], dtype=object)
        with np.errstate(over="ignore"):  # what is too large becomes infinite
            return pd.DataFrame(X.astype(np.float32, copy=False), columns=names)


# ------------------------------------------------------------------- tables of text


def _of_table(
    path: str | os.PathLike[str],
    genes_in: str,
    genes: object,
    decimal: str,
) -> pd.DataFrame:
    with reading(path):
        table = _Table.read(path, decimal)
    if not table.labels or not table.names:
        raise CorruptFileError(
            path,
            "",
            f"it has no profiles: its header is {first_few(table.header)}, with "
            f"{len(table.labels):,} rows below",
        )
    _check_is_header(table.names, path)
    _check_is_no_statistic(table.names, path)
    labels = pd.Index(table.labels, dtype=object)
    if genes_in == "auto":
        genes_in = _find_genes(table, genes, path)
    in_rows = genes_in == "rows"
    known = is_gene_column if in_rows else _is_of_sample
    places = [i for i, name in enumerate(table.names) if not known(name)]
    texts = table.texts_among(places, path)
    left_out = [table.names[i] for i in texts]
    if not in_rows:
        left_out += [name for name in table.names if known(name)]
    if left_out:
        _warn(
            f"{os.fspath(path)}: columns that hold no values of genes are left out: "
            f"{first_few(left_out, n=10)}"
        )
    places = [i for i in places if i not in texts]
    names = pd.Index([table.names[i] for i in places], dtype=object)
    matrix = np.empty((len(places), len(labels)), dtype=np.float32)
    for row, i in zip(matrix, places, strict=True):
        row[:] = np.concatenate(table.numbers[i])
    if not in_rows:
        return pd.DataFrame(matrix.T, index=labels, columns=names)
    columns = _gene_names(table.annotation(path))
    return pd.DataFrame(matrix, index=names, columns=columns)


@dataclass
class _Table:
    """A table of text: numbers by columns in blocks, NaN where a cell is none.

    `bad` has of each column the first cell that is no number, and not missing; `texts`
    has the columns whose names say that they are no values.
    """

    header: list[str]
    labels: list[str] = field(default_factory=list)
    numbers: list[list[NDArray[np.float32]]] = field(default_factory=list)
    bad: dict[int, tuple[int, str]] = field(default_factory=dict)
    texts: dict[int, list[str]] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        return self.header[1:]

    @classmethod
    def read(cls, path: str | os.PathLike[str], decimal: str) -> "_Table":
        dialect = sniff_table(path, lambda name: False)
        with dialect.open(path) as file:
            rows = (
                (number, [unquote(cell) for cell in row])
                for number, row in csv_rows(path, file, dialect)
                if any(cell.strip(BLANKS) for cell in row)
                and not row[0].lower().startswith("sep=")
            )
            _, header = next(rows, (0, [""]))
            first = list(islice(rows, 2))
            if first and all(
                len(row) == len(header) + 1 and row[0] and row[-1] for _, row in first
            ):
                header = ["", *header]  # R names rows, but not their column
            table = cls(header)
            table._fill(path, chain(first, rows), decimal)
        return table

    def _fill(
        self,
        path: str | os.PathLike[str],
        rows: Iterable[tuple[int, list[str]]],
        decimal: str,
    ) -> None:
        """Take in the rows, many at a time; what a spreadsheet pads is left out."""
        n_all = len(self.header)
        n = max((i + 1 for i, name in enumerate(self.header) if name), default=0)
        del self.header[n:]
        self.numbers = [[] for _ in self.names]
        block: list[list[str]] = []
        for number, row in rows:
            if len(row) < n or any(row[n_all:]):
                raise CorruptFileError(
                    path,
                    f"line {number:,}",
                    f"{len(row):,} cells, where the header has {n:,}",
                )
            if any(row[n:]):
                raise CorruptFileError(
                    path,
                    f"line {number:,}",
                    f"{n_all - n:,} columns have no name in the first line, "
                    f"{first_few(self.names, n=5)}",
                )
            block.append(row[:n])
            if len(block) * n >= BLOCK_CELLS:
                self._take(block, decimal)
                block = []
                if len(self.labels) * n > MOST_CELLS:
                    raise CorruptFileError(
                        path,
                        f"line {number:,}",
                        f"it has more than {MOST_CELLS:,} cells; write it as GCTX, "
                        "which is read in parts",
                    )
        self._take(block, decimal)

    def _take(self, rows: list[list[str]], decimal: str) -> None:
        """Take in a block of rows, column by column."""
        n_before = len(self.labels)
        self.labels += [row[0] for row in rows]
        for i, name in enumerate(self.names):
            texts = [row[i + 1] for row in rows]
            numbers, bad = parse_numbers(texts, decimal, np.float32)
            if bad is not None:
                self.bad.setdefault(i, (n_before + bad, texts[bad]))
                numbers[~(np.abs(numbers) <= np.finfo(np.float32).max)] = np.nan
            self.numbers[i].append(numbers.astype(np.float32))
            if is_gene_column(name) or _is_of_sample(name):
                self.texts.setdefault(i, []).extend(texts)

    def texts_among(
        self, places: Sequence[int], path: str | os.PathLike[str]
    ) -> list[int]:
        """Return the columns without a number; one that holds both is an error."""
        texts = []
        for i in places:
            if i not in self.bad:
                continue
            row, text = self.bad[i]
            has_numbers = any(np.isfinite(block).any() for block in self.numbers[i])
            if has_numbers or self.names[i].isdigit():
                raise CorruptFileError(
                    path,
                    f"row {self.labels[row]!r}, column {self.names[i]!r}",
                    f"{text!r} is not a finite number",
                )
            texts.append(i)
        return texts

    def annotation(self, path: str | os.PathLike[str]) -> pd.DataFrame:
        """Return what the table says of genes in its rows."""
        columns = {
            i: name.lower() for i, name in enumerate(self.names) if is_gene_column(name)
        }
        again = [name for name, n in Counter(columns.values()).items() if n > 1]
        if again:
            raise CorruptFileError(
                path, "the header", f"it has {first_few(again)} more than once"
            )
        texts = {name: self.texts[i] for i, name in columns.items()}
        return pd.DataFrame(texts, index=pd.Index(self.labels, dtype=object))


def _check_is_header(labels: list[str], path: str | os.PathLike[str]) -> None:
    """Refuse a first line of values: the names are missing, and a row would be lost."""
    numbers = pd.to_numeric(np.array(labels, dtype=object), errors="coerce")
    whole = [clean(label).isdigit() for label in labels]
    if not np.isnan(numbers.astype(float)).any() and not all(whole):
        raise ValueError(
            f"{os.fspath(path)} has no header: its first line holds numbers, "
            f"{first_few(labels, n=5)}."
        )
    if "" in labels:
        raise ValueError(
            f"{os.fspath(path)}: {labels.count(''):,} columns have no name in the "
            f"first line, {first_few(labels, n=5)}."
        )


def _check_is_no_statistic(labels: list[str], path: str | os.PathLike[str]) -> None:
    """Refuse a table of differential expression, whose columns are no profiles."""
    bare = {name: re.sub(r"[\W_]", "", name.lower()) for name in labels}
    found = [name for name in labels if bare[name] in STATISTICS]
    if len([name for name in labels if not is_gene_column(name)]) > 1:
        found += [name for name in labels if bare[name] in ROLES["log2fc"]]
    if found:
        raise ValueError(
            f"{os.fspath(path)} is a table of statistics, with a row for each gene: "
            f"{first_few(found)} are no profiles. Make a query of it: "
            "sklearn_molge.datasets.read_de_table(path, genes=genes)."
        )


def _is_of_sample(name: str) -> bool:
    return name in PROFILE_IDS or (is_known(name) and not name.isdigit())


def _find_genes(table: _Table, genes: object, path: str | os.PathLike[str]) -> str:
    """Say where the genes of a table are: in its rows, or in its columns."""
    key, labels = table.header[0].lower(), pd.Index(table.labels, dtype=object)
    names = pd.Index(table.names, dtype=object)
    in_rows = key in GENE_KEYS or is_gene_column(key) or _are_genes(labels, genes)
    in_rows |= any(map(is_gene_column, table.names))
    in_columns = key in SAMPLE_KEYS or _are_genes(names, genes)
    if in_rows == in_columns:
        raise ValueError(
            f"{os.fspath(path)} does not tell where its genes are: set genes_in='rows' "
            "or 'columns', or give `genes`. Its rows are "
            f"{first_few(labels, n=5)}, its columns {first_few(names, n=5)}."
        )
    return "rows" if in_rows else "columns"


def _are_genes(labels: pd.Index, genes: object) -> bool:
    """Whether half of the labels or more are names of genes."""
    names = pd.Index([clean(label).upper() for label in labels])
    if are_row_numbers(names):
        return False
    found = np.array([n.isdigit() or bool(ENSEMBL.fullmatch(n)) for n in names])
    if genes is not None:
        matched = match_genes(labels, genes)
        known = (matched["column"] >= 0) | matched["gene_id"].notna()
        found |= known.to_numpy()
    return len(names) > 0 and bool(np.mean(found) >= 0.5)
