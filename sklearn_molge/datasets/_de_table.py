"""Tables of differential expression, as tools write them, made a query."""

import csv
import datetime
import os
import re
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from numbers import Integral, Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._files.reading import reading
from sklearn_molge._files.text import check_is_file
from sklearn_molge._utils.genes import (
    are_row_numbers,
    check_no_row_numbers,
    gene_status,
)
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge._utils.notebook import facts_html
from sklearn_molge._utils.optional import import_optional
from sklearn_molge._utils.views import target_genes
from sklearn_molge.datasets._fold_changes import (
    LOG_CHANGES,
    RATIOS,
    NoDirectionError,
    bare,
    has_no_sign,
    in_log2,
    is_percentage,
)
from sklearn_molge.datasets._formats._values import NUMBER, parse_numbers
from sklearn_molge.datasets._tables import csv_rows, sniff_table
from sklearn_molge.datasets._texts import clean, unquote
from sklearn_molge.exceptions import CorruptFileError, DataWarning, GeneNamesWarning
from sklearn_molge.expression import match_genes

__all__ = ["DEQuery", "read_de_table"]

# Names of columns, in small letters and digits only: what they hold.
ROLES = {
    "statistic": (
        *("stat", "t", "z", "scores", "score", "statistic", "tstat", "tstatistic"),
        *("zscore", "zscores", "zstat", "zstatistic", "waldstat", "wald"),
    ),
    "log2fc": LOG_CHANGES,
    "ratio": RATIOS,
    "p": ("pvalue", "pval", "pvals", "p", "pvalues", "prt", "rawp", "rawpvalue"),
    "padj": (
        *("padj", "adjpval", "adjpvalue", "adjp", "fdr", "pvaladj", "pvalsadj"),
        *("pvalueadj", "padjust", "qvalue", "qval", "qvalues", "bh", "fwer"),
    ),
    "group": ("group", "groups", "cluster", "contrast", "comparison"),
}  # fmt: skip
GENE_COLUMNS = {
    *("gene", "genes", "symbol", "symbols", "genesymbol", "genesymbols", "genename"),
    *("genenames", "name", "names", "id", "geneid", "geneids", "hgncsymbol", "hgnc"),
    *("externalgenename", "entrez", "entrezid", "entrezgene", "entrezgeneid"),
    *("ensembl", "ensemblid", "ensemblgene", "ensemblgeneid", "ensgene", "feature"),
    *("features", "featureid", "target", "targetid", "row", "rownames", "index", "x"),
}
# Of these the ones that may name what only numbers the rows.
ROWS = {"x", "row", "rownames", "index", "id", "unnamed0"}
# A column of whole numbers has to name so many times the genes of one of text: numbers
# of rows are ids of Entrez of some gene, too.
MORE_NUMBERS = 10
# What tells the tool that wrote a table; the first that fits.
KINDS = {
    "DESeq2": ({"basemean", "log2foldchange"},),
    "edgeR": ({"logfc", "logcpm"},),
    "limma": ({"logfc", "aveexpr"}, {"logfc", "adjpval"}),
    "Seurat": ({"pval", "pvaladj"},),
    "scanpy": ({"names", "scores"}, {"logfoldchanges", "pvals"}),
}
ALIASES = ("current symbol", "previous symbol", "date")
ROW_NAMES = "row names"
USED = ("used", "alias")
BELOW = "below the cut-off"
REPEATED = "duplicate dropped"
INFINITE = {"inf", "-inf", "+inf", "infinity", "-infinity"}
DECIMAL_COMMA = re.compile(r"[-+]?\d*,\d+([eE][-+]?\d+)?")
# What may have a separator of thousands, or a decimal comma.
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2},\d{3}")
# What a column of words calls the two directions, in small letters only.
UP = {"up", "upregulated", "upregulation"}
DOWN = {"down", "downregulated", "downregulation"}
# A larger share of rows in which it is another one is no matter of rounding.
CONTRADICTED = 0.05
# Symbols of mouse and rat: a capital, then small letters.
OF_RODENTS = re.compile(r"[A-Z][a-z0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)?")
# What a p-value of 0 counts as where none is above 0: what is told from 0.
SMALLEST_P = np.finfo(np.float64).tiny
# A human genome has 60,000 genes; of a table with 100 groups that is the most.
MOST_CELLS = 2**25
MOST_BYTES = 2**29
# Values that are all above 0 are of a part of the table, the genes that went up, if
# they are of no more than this share of the genes.
LEAST_WHOLE, LARGEST_PART, MOST_MEASURED = 20, 0.75, 12_000
# Below this share of the model's genes it is warned of those without a value.
COVERED = 0.9


@dataclass(frozen=True, eq=False, repr=False)
class DEQuery:
    """A query made of a table of differential expression; see :func:`read_de_table`.

    Attributes
    ----------
    profile : DataFrame of shape (1, n_genes), dtype=float32
        The query: a profile for ``similarity`` and ``MoleculeIndex.query``, with the
        genes of the model in its order, or those of the table. Its index is the name
        of the file, and the group.
    genes : DataFrame
        The account, one row of the table each: ``gene`` (as given), ``taken_as`` (the
        name of the gene in `profile`, or the symbol of a gene that is not there),
        ``symbol``, ``how`` the name was read (see
        :func:`~sklearn_molge.expression.match_genes`), ``value`` and ``status``:
        "used"; "alias" (used, by another name than the model's); "not in the model";
        "unknown"; "no value"; "below the cut-off"; or "duplicate dropped".
    kind : str
        Which tool wrote the table: "DESeq2", "edgeR", "limma", "Seurat", "scanpy",
        "statistics" (of another) or "plain".
    columns : dict of str to str
        The columns that were read, by what they are: "gene", "value", "log2fc", "p",
        "padj", "group".
    rule : str
        What the values are, and which genes count.
    n_missing : int
        Genes of the model without a value, which are 0 in `profile`.
    """

    profile: pd.DataFrame
    genes: pd.DataFrame
    kind: str
    columns: dict[str, str]
    rule: str
    n_missing: int

    def __repr__(self) -> str:
        status = self.genes["status"]
        n_used = int(status.isin(USED).sum())
        others = status[~status.isin(USED)].value_counts()
        lines = [
            f"DEQuery: {self.kind} table, {n_used:,} of {counted(len(status), 'row')} "
            "used",
            f"values   {self.rule}",
            f"genes    column {self.columns['gene']!r}; "
            f"{self.profile.shape[1]:,} in the profile, {self.n_missing:,} of them "
            "without a value (0: unchanged)",
        ]
        n_alias = int((status == "alias").sum())
        if n_alias:
            lines.append(f"by alias {n_alias:,}")
        if len(others):
            told = ", ".join(f"{name} {n:,}" for name, n in others.items())
            lines.append(f"not used {told}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        title, *lines = repr(self).splitlines()
        facts = {line[:8].strip(): line[9:] for line in lines}
        used = self.genes["status"].isin(USED)
        strong = self.genes[used].sort_values("value", key=abs, ascending=False)
        tables = {"Strongest genes": strong, "Not used": self.genes[~used]}
        return facts_html(title, facts, tables=tables)


@validate_params(
    {
        "path": [str, os.PathLike],
        "value": [str, None],
        "gene": [str, None],
        "group": [str, Integral, None],
        "alpha": [Interval(Real, 0, 1, closed="right"), None],
        "min_abs_log2fc": [Interval(Real, 0, None, closed="left"), None],
        "n_top": [Interval(Integral, 1, None, closed="left"), None],
        "min_genes": [Interval(Integral, 1, None, closed="left")],
        "decimal": [StrOptions({"auto", ".", ","})],
        "sheet": [str, None],
    },
    prefer_skip_nested_validation=True,
)
def read_de_table(
    path: str | os.PathLike[str],
    *,
    genes=None,
    value: str | None = None,
    gene: str | None = None,
    group: str | int | None = None,
    alpha: float | None = None,
    min_abs_log2fc: float | None = None,
    n_top: int | None = None,
    min_genes: int = 10,
    decimal: str = "auto",
    sheet: str | None = None,
) -> DEQuery:
    r"""Read a table of differential expression as a query.

    What DESeq2, edgeR, limma (``topTable``), Seurat (``FindMarkers``) and scanpy
    (``rank_genes_groups_df``) write, or a gene and a number a row, with or without a
    header. Text separated by tabs, commas, semicolons or blanks, packed or not, with
    or without R's names of rows, or a workbook (``.xlsx``, the extra ``excel``).

    Parameters
    ----------
    path : path-like
        The file.
    genes : DataFrame, array-like of str, fitted estimator, Study or MoleculeIndex, \
default=None
        The genes of the model, as in
        :func:`~sklearn_molge.expression.profile_from_genes`. None keeps those of the
        table, each once; an index puts them in its order.
    value : str, default=None
        The column whose numbers are the profile; fold changes become those of log2.
        None goes by the rule in the Notes.
    gene : str, default=None
        The column of the genes' names, "row names" for those of R. None takes the
        one, by its name or else its place, that names most genes.
    group : str or int, default=None
        Of a table of several groups, the one to read: column ``group``, ``cluster`` or
        ``contrast``, or the one that tells the rows of each gene apart, as a cell type
        or a time may.
    alpha : float, default=None
        Genes count whose adjusted p-value is below it.
    min_abs_log2fc : float, default=None
        Genes count whose log2 fold change is at least so large, up or down. Seurat's
        ``avg_logFC``, of base e, is converted.
    n_top : int, default=None
        So many genes count, those whose values are furthest from 0.
    min_genes : int, default=10
        Fewer genes with a value are an error.
    decimal : {"auto", ".", ","}, default="auto"
        The decimal sign in text. "auto" is a comma where numbers have commas and none
        has a point. Numbers that may have separators of thousands, as "1,234" has if
        all others with a comma are like it, are an error then.
    sheet : str, default=None
        Of a workbook. None takes the only one that is not empty.

    Returns
    -------
    query : DEQuery
        With ``profile``, of shape (1, n_genes), and the account ``genes``.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CorruptFileError
        If the file is damaged, a number cannot be read, or a p-value is not within
        [0, 1]: with the line.
    ValueError
        If the columns do not tell the genes, the values or the group (names those that
        are there), the values have no direction (see the Notes), a cut-off needs a
        column that is not there, or fewer than `min_genes` genes are left.
    ImportError
        If the file is a workbook and openpyxl is not installed.

    Warns
    -----
    DataWarning
        If all values are of one sign, names look like those of mouse or rat, or most
        genes have several rows.
    GeneNamesWarning
        If more than a tenth of the genes of the model have no value in the table, or a
        name was a date ("2-Sep" for SEPTIN2).

    See Also
    --------
    sklearn_molge.expression.profile_from_genes : Of lists of genes.
    read_profiles : Of tables whose columns are profiles.

    Notes
    -----
    The values are, in this order,

    1. of the column `value`, if given;
    2. a signed statistic: ``stat``, ``t``, ``z`` or ``scores``. One without negative
       values beside fold changes that have some is none (DESeq2's likelihood ratio);
    3. :math:`\mathrm{sign}(\mathrm{logFC}) \cdot (-\log_{10} p)`, of the p-value before
       adjustment where it is there; p = 0, which was rounded, counts as the smallest
       p-value of the table that is above 0;
    4. the log2 fold change; those of base 10 (``log10FC``) or e (``lnFC``, Seurat's
       ``avg_logFC``) are converted;
    5. the only column of numbers.

    Fold changes that are no logarithms (``FC``, ``fold_change``, ``ratio``) become
    them: log2 of ratios (halved: 0.5), which lie on both sides of 1, with a median of
    0.5 or more; sign(FC) log2\|FC\| of signed ones (halved: -2), none of which lies
    between -1 and 1. Others without a negative value are refused, since halved genes
    may be there as 2. So are sizes (``|logFC|``, ``absFC``), the F, LR or U of a test,
    and any other column that is never below 0, unless `value` names it; a single
    column of percentages; and values whose signs a column of "up" and "down"
    contradicts. What was compared may stand in brackets ("Fold-Change(T vs. C)"). Log
    fold changes may be never below 0 where they are a part, genes that went up: of at
    most three quarters of the genes.

    Every measured gene of the model counts, unless a cut-off is asked for: what is not
    significant alone still says where the profile points. Genes without a value, or
    below a cut-off, are 0: unchanged. A missing adjusted p-value (DESeq2 filtered the
    gene) is below every `alpha`. An infinite value is none. Of several rows that are
    one gene, the one with the value furthest from 0 counts.

    References
    ----------
    Love et al. (2014), Genome Biology 15:550 (DESeq2). Robinson et al. (2010),
    Bioinformatics 26:139 (edgeR). Ritchie et al. (2015), Nucleic Acids Research 43:e47
    (limma).

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> from sklearn_molge.datasets import read_de_table
    >>> text = '''"","baseMean","log2FoldChange","lfcSE","stat","pvalue","padj"
    ... "TP53",100,1.5,0.5,3,0.003,0.01
    ... "AARS1",50,-1,0.5,-2,0.04,NA
    ... "GAPDH",900,NA,NA,NA,NA,NA
    ... '''
    >>> genes = pd.DataFrame({"gene_id": [16, 7157], "symbol": ["AARS", "TP53"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "results.csv"
    ...     _ = path.write_text(text)
    ...     query = read_de_table(path, genes=genes, min_genes=2)
    >>> query
    DEQuery: DESeq2 table, 2 of 3 rows used
    values   stat, a signed statistic
    genes    column 'row names'; 2 in the profile, 0 of them without a value (0: unchanged)
    by alias 1
    not used not in the model 1
    >>> query.profile
              16  7157
    results -2.0   3.0
    >>> query.genes[["gene", "taken_as", "value", "status"]]
        gene taken_as  value            status
    0   TP53     7157    3.0              used
    1  AARS1       16   -2.0             alias
    2  GAPDH    GAPDH    NaN  not in the model
    """  # noqa: E501
    table = _Table.read(path, decimal, sheet).of_group(group)
    matched = _find_genes(table, genes, gene)
    target = _own_genes(matched) if genes is None else target_genes(genes)[1]
    values, rule = _values(table, value)
    _check_float32(table, values)
    account = _account(matched, values, target)
    place = matched["column"].to_numpy()
    cuts = _cut(table, account, alpha, min_abs_log2fc)
    _drop_repeated(account, place)
    if n_top is not None:
        cuts.append(f"the {n_top:,} furthest from 0")
        of_used = account.loc[_is_used(account), "value"].abs()
        behind = of_used.sort_values(ascending=False, kind="stable").index[n_top:]
        account.loc[behind, "status"] = BELOW
    used = _is_used(account)
    _check_enough(table, account, target, int(used.sum()), min_genes)
    n_genes = MOST_MEASURED if genes is None else len(target)
    _check_direction(table, account, n_genes, value)
    _warn_of(table, account, target, place)
    profile = np.zeros((1, len(target)), dtype=np.float32)
    profile[0, place[used]] = account["value"][used]
    label = os.path.basename(table.path).split(".")[0]
    return DEQuery(
        pd.DataFrame(
            profile,
            index=[label if group is None else f"{label} {group}"],
            columns=pd.Index(target, dtype=object),
        ),
        account,
        table.kind,
        table.used,
        "; ".join([rule, *cuts]),
        len(target) - int(used.sum()),
    )


# ------------------------------------------------------------------------- the table


@dataclass
class _Table:
    """A table of cells, by columns; `lines` are where its rows stand in the file.

    `used` has the columns that were read, by what they are.
    """

    path: str
    names: list[str]
    columns: list[list[object]]
    lines: list[int]
    decimal: str
    used: dict[str, str]

    @classmethod
    def read(
        cls, path: str | os.PathLike[str], decimal: str, sheet: str | None
    ) -> "_Table":
        check_is_file(path)
        is_workbook = _is_workbook(path)
        if sheet is not None and not is_workbook:
            raise ValueError(f"sheet must be None for text. Got {sheet!r}.")
        with reading(path):
            rows = _sheet_rows(path, sheet) if is_workbook else _text_rows(path)
            header, lines, cells = _rectangle(path, rows)
        has_header = not any(NUMBER.fullmatch(_point(text)) for text in header[1:])
        if not has_header:
            lines, cells = [1, *lines], [list(header), *cells]
            header = [f"column {i}" for i in range(1, len(header) + 1)]
        if len(header) < 2 or not cells:
            raise ValueError(
                f"{os.fspath(path)} is no table of genes and numbers: it has "
                f"{counted(len(cells), 'row')} below the columns {first_few(header)}."
            )
        names = [header[0] or ROW_NAMES, *header[1:]]
        again = sorted({name for name in names if names.count(name) > 1 and name})
        if again:
            raise ValueError(
                f"{os.fspath(path)} has the column {first_few(again)} more than once."
            )
        columns = [list(column) for column in zip(*cells, strict=True)]
        return cls(os.fspath(path), names, columns, lines, decimal, {})

    def of_group(self, group: str | int | None) -> "_Table":
        """Return the rows of one group."""
        name = self.find("group") or self._told_apart_by()
        if name is None:
            if group is None:
                return self
            raise ValueError(
                f"group must be None: {self.path} has no column named like "
                f"{first_few(ROLES['group'])}, but {first_few(self.names)}. "
                f"Got {group!r}."
            )
        of_row = [clean(cell) for cell in self[name]]
        known = list(dict.fromkeys(of_row))
        if group is None:
            if len(known) == 1:
                return self
            raise ValueError(
                f"group must be one of the {len(known):,} in column {name!r} of "
                f"{self.path}: {first_few(known)}."
            )
        places = [i for i, own in enumerate(of_row) if own == str(group)]
        if not places:
            raise ValueError(
                f"group must be in column {name!r} of {self.path}, which has "
                f"{first_few(known)}. Got {group!r}."
            )
        columns = [[column[i] for i in places] for column in self.columns]
        lines = [self.lines[i] for i in places]
        return replace(self, columns=columns, lines=lines, used={"group": name})

    def _told_apart_by(self) -> str | None:
        """Return the column by which the rows of one gene differ, as "cell_type" may.

        Most genes come more than once, and each once with every entry of that column.
        """
        known = [name for name in self.names if bare(name) in GENE_COLUMNS]
        for gene in dict.fromkeys([*known, self.names[0]]):
            genes, distinct = pd.factorize(self._texts(gene))
            n_rows = np.bincount(genes)
            if not (n_rows > 1).sum() > len(n_rows) / 2:
                continue
            for name in self.names:
                entries, levels = pd.factorize(self._texts(name))
                if 1 < len(levels) < len(distinct) and len(levels) <= 2 * n_rows.max():
                    pairs = genes * len(levels) + entries
                    if len(np.unique(pairs)) > 0.99 * len(pairs):
                        return name
        return None

    def _texts(self, name: str) -> NDArray[np.object_]:
        return np.array(
            ["" if cell is None else str(cell) for cell in self[name]], dtype=object
        )

    def __getitem__(self, name: str) -> list[object]:
        return self.columns[self.names.index(name)]

    def find(self, role: str) -> str | None:
        """Return the column of that role, None where there is none."""
        found = [
            name
            for name in self.names
            if bare(name) in ROLES[role] and not has_no_sign(name)
        ]
        if len(found) > 1:
            # As "p" and "P.Value": by the order of the names.
            found.sort(key=lambda name: ROLES[role].index(bare(name)))
            if role in ("statistic", "log2fc", "ratio"):
                raise ValueError(
                    f"{self.path} has several columns of one kind, {first_few(found)}: "
                    "name the one that is meant by value."
                )
            if bare(found[0]) == bare(found[1]):  # of two comparisons
                raise ValueError(
                    f"{self.path} has several columns of one kind, {first_few(found)}, "
                    "and which of them is meant is not known: keep one in the table."
                )
        return found[0] if found else None

    def check(self, parameter: str, name: str) -> str:
        if name not in self.names:
            raise ValueError(
                f"{parameter} must be a column of {self.path}, which has "
                f"{first_few(self.names)}. Got {name!r}."
            )
        return name

    @property
    def kind(self) -> str:
        own = set(map(bare, self.names))
        for kind, signs in KINDS.items():
            if any(sign <= own for sign in signs):
                return kind
        known = {name for role in ROLES for name in ROLES[role] if role != "group"}
        return "statistics" if own & known else "plain"

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return the numbers of a column, NaN where there is none."""
        values, bad = self.parse(name)
        if bad is not None:
            text, hint = str(self[name][bad]).strip(), ""
            if self.decimal == "auto" and THOUSANDS.fullmatch(text):
                hint = ", or may be two: thousands, or a decimal comma (decimal=',')"
            raise CorruptFileError(
                self.path,
                f"line {self.lines[bad]:,}, column {name!r}",
                f"{text!r} is not a number{hint}",
            )
        return values

    def parse(self, name: str) -> tuple[NDArray[np.float64], int | None]:
        """Return the numbers of a column, and the place of the first that is none."""
        texts = ["" if cell is None else str(cell).strip() for cell in self[name]]
        # Of R and Python; and errors of a spreadsheet, such as #DIV/0!.
        texts = ["" if t.lower() in INFINITE or t[:1] == "#" else t for t in texts]
        decimal = self.decimal
        if decimal == "auto":
            commas = [t for t in texts if DECIMAL_COMMA.fullmatch(t)]
            is_clear = not all(map(THOUSANDS.fullmatch, commas))
            points = any("." in t for t in texts)
            decimal = "," if is_clear and not points else "."
        return parse_numbers(texts, decimal)

    def labels(self, name: str) -> list[object]:
        """Return the names in a column; a date of a spreadsheet stays one."""
        return [
            cell if isinstance(cell, datetime.date) else clean(cell or "")
            for cell in self[name]
        ]


def _point(text: str) -> str:
    return text.replace(",", ".", 1) if DECIMAL_COMMA.fullmatch(text) else text


def _is_workbook(path: str | os.PathLike[str]) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with reading(path), zipfile.ZipFile(path) as archive:
        members = {info.filename: info.file_size for info in archive.infolist()}
        is_workbook = "[Content_Types].xml" in members
        if is_workbook and sum(members.values()) > MOST_BYTES:
            raise ValueError(f"it unpacks to more than {MOST_BYTES:,} bytes")
    return is_workbook


def _text_rows(path: str | os.PathLike[str]) -> Iterator[tuple[int, list]]:
    """Yield the line and the cells of each row, of which the first is the header."""
    # A cell with another separator inside is of a line that was split by the wrong one.
    dialect = sniff_table(path, lambda cell: not set(cell) & set("\t;|"))
    if len(dialect.header) == 1:  # R's: blanks, or values of one column
        for sep in (",", ";", " "):
            other = replace(dialect, sep=sep, quoting=csv.QUOTE_MINIMAL)
            with other.open(path) as file:
                rows = csv_rows(path, file, other)
                first = list(islice(rows, dialect.n_before, dialect.n_before + 2))
            if len(first) == 2 and len(first[1][1]) > 1:
                dialect = other
                break
    with dialect.open(path) as file:
        for number, row in csv_rows(path, file, dialect):
            if number > dialect.n_before:
                yield number, [unquote(cell) for cell in row]


def _sheet_rows(
    path: str | os.PathLike[str], sheet: str | None
) -> Iterator[tuple[int, list]]:
    openpyxl = import_optional("openpyxl", extra="excel", needed_by=f"{path}")
    book = openpyxl.load_workbook(path, read_only=True, data_only=True)
    try:
        names = book.sheetnames
        if sheet is not None and sheet not in names:
            raise ValueError(
                f"sheet must be one of those of {path}, {first_few(names)}. "
                f"Got {sheet!r}."
            )
        filled = [sheet] if sheet else [n for n in names if _has_rows(book[n])]
        if len(filled) != 1:
            raise ValueError(
                f"{path} has {counted(len(filled), 'sheet')} with rows: name one by "
                f"sheet, of {first_few(names)}."
            )
        for number, row in enumerate(book[filled[0]].iter_rows(values_only=True), 1):
            yield number, [c.strip() if isinstance(c, str) else c for c in row]
    finally:
        book.close()


def _has_rows(sheet) -> bool:
    if not hasattr(sheet, "iter_rows"):  # a chart
        return False
    rows = sheet.iter_rows(values_only=True)
    return any(any(cell is not None for cell in row) for row in rows)


def _rectangle(
    path: str | os.PathLike[str], rows: Iterable[tuple[int, list]]
) -> tuple[list[str], list[int], list[list]]:
    """Return header, lines and rows of as many cells; empty rows are left out."""
    filled = ((n, row) for n, row in rows if any(c not in (None, "") for c in row))
    _, first = next(filled, (0, []))
    header = [clean(cell) if cell is not None else "" for cell in first]
    width = max((i + 1 for i, name in enumerate(header) if name), default=0)
    lines: list[int] = []
    cells: list[list] = []
    for number, row in filled:
        if not cells and len(row) == len(header) + 1 and row[-1] not in (None, ""):
            header, width = ["", *header], width + 1  # R names rows, not their column
        if len(row) < width or any(c not in (None, "") for c in row[width:]):
            raise CorruptFileError(
                path,
                f"line {number:,}",
                f"{len(row):,} cells, where the header has {width:,}",
            )
        lines.append(number)
        cells.append(row[:width])
        if len(cells) * width > MOST_CELLS:
            raise CorruptFileError(path, "", f"it has more than {MOST_CELLS:,} cells")
    return header[:width], lines, cells


# ------------------------------------------------------------------------- the genes


def _find_genes(table: _Table, genes, gene: str | None) -> pd.DataFrame:
    """Match the names of the column that has most genes, as `match_genes` does."""
    if gene is not None:
        labels = table.labels(table.check("gene", gene))
        own = () if genes is None else target_genes(genes)[1]
        check_no_row_numbers(labels, f"{table.path}: column {gene!r}", known=own)
    candidates, doubtful = _may_name_genes(table) if gene is None else ([gene], [])
    best, n_best = None, -1
    for name in candidates:
        # Of the table's own genes it is asked what they are, not where.
        matched = match_genes(table.labels(name), [""] if genes is None else genes)
        is_gene = matched["gene_id"].notna()
        if genes is not None:
            is_gene = matched["column"] >= 0
        n_found = matched.loc[is_gene, ["gene_id", "symbol"]].drop_duplicates().shape[0]
        if name in doubtful:
            n_found //= MORE_NUMBERS
        if n_found > n_best:
            best, n_best, table.used["gene"] = matched, n_found, name
    if best is None:
        raise ValueError(
            f"{table.path} has no column of genes: name it by gene. It has "
            f"{first_few(table.names)}, of which {table.names[0]!r} only counts the "
            "rows."
        )
    return best


def _may_name_genes(table: _Table) -> tuple[list[str], list[str]]:
    """Return the columns that may name genes, and which may be numbers of rows."""
    known = [name for name in table.names if bare(name) in GENE_COLUMNS]
    first = list(dict.fromkeys([*known, table.names[0]]))
    named = [name for name in first if not are_row_numbers(table.labels(name))]
    doubtful = [name for name in named if _may_count(name, table.labels(name))]
    if not doubtful and named:
        return named, []
    others = [n for n in table.names if n not in first and _is_text(table[n])]
    named = [name for name in named if name not in doubtful]
    return [*named, *others, *doubtful], doubtful


def _may_count(name: str, labels: list[object]) -> bool:
    """Whether a column may be what is left of the numbers of the rows."""
    of_rows = bare(name) in ROWS or bare(name) not in GENE_COLUMNS
    return of_rows and all(isinstance(x, str) and x.isdigit() for x in labels)


def _is_text(cells: list[object]) -> bool:
    """Whether most cells hold text that is no number."""
    texts = ["" if cell is None else _point(str(cell).strip()) for cell in cells]
    return sum(bool(t) and not NUMBER.fullmatch(t) for t in texts) > len(texts) / 2


def _own_genes(matched: pd.DataFrame) -> NDArray[np.object_]:
    """Put the table's own genes, each once, in the place of a model's."""
    names = matched["entry"].astype(str).str.strip()
    key = matched["gene_id"].where(matched["gene_id"].notna(), names.str.casefold())
    lost = (names == "") | matched["how"].str.startswith("a date")
    places, _ = pd.factorize(key.mask(lost))
    matched["column"] = places
    matched["how"] = matched["how"].str.removesuffix(" of another gene")
    return names[places >= 0].groupby(places[places >= 0]).first().to_numpy(object)


def _account(
    matched: pd.DataFrame, values: NDArray[np.float64], target: NDArray[np.object_]
) -> pd.DataFrame:
    """Return the account of all rows, as far as names and values decide it."""
    inside = (matched["column"] >= 0).to_numpy()
    taken_as = matched["symbol"].to_numpy(object, copy=True)
    taken_as[inside] = target[matched["column"][inside]]
    status = gene_status(matched, target)  # which row of a gene counts, values decide
    status[inside & ~np.isfinite(values)] = "no value"
    return pd.DataFrame(
        {
            "gene": matched["entry"],
            "taken_as": taken_as,
            "symbol": matched["symbol"],
            "how": matched["how"],
            "value": values,
            "status": status,
        }
    )


def _is_used(account: pd.DataFrame) -> NDArray[np.bool_]:
    return account["status"].isin(USED).to_numpy()


def _drop_repeated(account: pd.DataFrame, place: NDArray[np.intp]) -> None:
    """Keep of several rows of one gene the one whose value is furthest from 0."""
    used = _is_used(account)
    size = account["value"].abs()[used].sort_values(ascending=False, kind="stable")
    again = pd.Series(place[size.index], index=size.index).duplicated()
    account.loc[again.index[again], "status"] = REPEATED


# ------------------------------------------------------------------------ the values


@dataclass
class _Changes:
    """The fold changes of a table, in log2; `values` is None without a direction.

    `rule` says how they were made of the column `name`, or why they could not be.
    """

    name: str
    values: NDArray[np.float64] | None
    rule: str

    @classmethod
    def of(cls, table: _Table, name: str | None) -> "_Changes | None":
        if name is None:
            return None
        numbers = table.numbers(name)
        try:
            values, rule = in_log2(name, numbers, of_seurat=table.kind == "Seurat")
        except NoDirectionError as error:
            return cls(name, None, str(error))
        return cls(name, values, rule)

    def signed(self, table: _Table) -> NDArray[np.float64]:
        """Return them; raise where they do not tell up from down."""
        if self.values is None:
            raise _no_direction(table, self.name, self.rule)
        return self.values


def _no_direction(table: _Table, name: str, why: str) -> ValueError:
    return ValueError(
        f"{table.path}: column {name!r} {why}. Name a column with a sign by value, "
        "such as log2 fold changes; the table has "
        f"{first_few(table.names)}. Genes that all went one way are a query by "
        "sklearn_molge.expression.profile_from_genes(genes, up=names)."
    )


def _find_changes(table: _Table) -> _Changes | None:
    return _Changes.of(table, table.find("log2fc") or table.find("ratio"))


def _values(table: _Table, value: str | None) -> tuple[NDArray[np.float64], str]:
    """Return the values of all rows, and the rule by which they were chosen."""
    if value is not None:
        return _of_asked(table, value)
    changes = _find_changes(table)
    for of_kind in (_of_statistic, _of_p_values, _of_change, _of_only_column):
        found = of_kind(table, changes)
        if found is not None:
            return found
    raise ValueError(
        f"{table.path} does not tell which column holds the values: name one by value. "
        f"It has {first_few(table.names)}."
    )


def _check_float32(table: _Table, values: NDArray[np.float64]) -> None:
    """Refuse what would be infinite in the profile."""
    sizes = np.abs(np.where(np.isfinite(values), values, 0))
    bad = np.flatnonzero(sizes > np.finfo(np.float32).max)
    if len(bad):
        raise CorruptFileError(
            table.path,
            f"line {table.lines[bad[0]]:,}",
            f"{values[bad[0]]:g} is too large for single precision",
        )


def _of_asked(table: _Table, value: str) -> tuple[NDArray[np.float64], str]:
    own = bare(table.check("value", value))
    if own in (*ROLES["p"], *ROLES["padj"]):
        raise ValueError(
            f"value must be a column with a sign: {value!r} of {table.path} is a "
            "p-value, which has no direction. It has "
            f"{first_few(table.names)}."
        )
    table.used["value"] = value
    values = table.numbers(value)
    if has_no_sign(value, values):
        raise _no_direction(table, value, "has no direction: no value is below 0")
    if own in (*LOG_CHANGES, *RATIOS):
        changes = _Changes.of(table, value)
        assert changes is not None
        return changes.signed(table), f"{changes.rule}, as asked"
    if own in ROLES["statistic"] and not (values < 0).any():
        _check_agrees(table, value)
    return values, f"{value}, as asked"


def _check_agrees(table: _Table, value: str) -> None:
    """Refuse a statistic without negative values beside changes that have some."""
    names = [n for n in table.names if bare(n) in (*LOG_CHANGES, *RATIOS)]
    for changes in (_Changes.of(table, n) for n in names if not has_no_sign(n)):
        if changes is not None and _go_down(changes.values):
            raise _no_direction(
                table, value, f"is never below 0, but {changes.name!r} tells of genes "
                "that went down"
            )  # fmt: skip


def _go_down(values: NDArray[np.float64] | None) -> bool:
    return values is not None and bool((values < 0).any())


def _of_statistic(table: _Table, changes: _Changes | None):
    name = table.find("statistic")
    if name is None:
        return None
    values = table.numbers(name)
    goes_down = (values < 0).any()
    if changes is None or changes.values is None:
        if not goes_down and changes is not None:
            return None  # of changes that say why they are none
        table.used["value"] = name
        return values, f"{name}, a statistic"
    if _go_down(changes.values) and not goes_down:
        return None  # a likelihood ratio, the F or U of a test
    both = np.sign(values) * np.sign(changes.values)
    if np.nansum(both) < 0:
        raise ValueError(
            f"{table.path}: {name!r} and {changes.name!r} have opposite signs in most "
            "rows: name the one that is meant by value."
        )
    table.used["value"] = name
    return values, f"{name}, a signed statistic"


def _of_p_values(table: _Table, changes: _Changes | None):
    name = table.find("p") or table.find("padj")
    if changes is None or name is None:
        return None
    signs = np.sign(changes.signed(table))
    p = _p_values(table, name)
    table.used |= {"log2fc": changes.name, "p": name}
    least = p.min(initial=1, where=p > 0) if (p > 0).any() else SMALLEST_P
    of = changes.name
    if bare(of) in RATIOS:
        of = changes.rule.split(", ")[0]
    rule = f"sign({of}) * -log10({name})"
    n_rounded = int((p == 0).sum())
    if n_rounded:
        rule += f", of which {n_rounded:,} are 0 and count as {least:.3g}"
    return signs * -np.log10(np.maximum(p, least)), rule


def _of_change(table: _Table, changes: _Changes | None):
    if changes is None:
        return None
    values = changes.signed(table)
    table.used["value"] = changes.name
    return values, changes.rule


def _of_only_column(table: _Table, changes: _Changes | None):
    known = {name for role in ("p", "padj", "group") for name in ROLES[role]}
    known |= GENE_COLUMNS - {"x"}
    numeric: list[tuple[str, NDArray[np.float64]]] = []
    unsigned: list[tuple[str, NDArray[np.float64]]] = []
    for name in table.names:
        if name == table.used["gene"] or bare(name) in known:
            continue
        values, bad = table.parse(name)
        if bad is None and np.isfinite(values).any():
            some = unsigned if has_no_sign(name, values) else numeric
            some.append((name, values))
    if len(numeric) > 1:
        numeric = [
            pair for pair in numeric if not are_row_numbers(table.labels(pair[0]))
        ]
    shares = [name for name, _ in numeric if is_percentage(name)]
    if len(numeric) == len(shares) == 1:
        raise _no_direction(
            table, shares[0], "is one of percentages, which lie above -100 and are no "
            "log fold changes"
        )  # fmt: skip
    if not numeric and unsigned:
        raise _no_direction(table, unsigned[0][0], "has no direction")
    if len(numeric) != 1:
        return None
    table.used["value"] = numeric[0][0]
    return numeric[0][1], f"{numeric[0][0]}, the only column of numbers"


def _check_direction(
    table: _Table, account: pd.DataFrame, n_genes: int, value: str | None
) -> None:
    """Refuse values that are never below 0 where that cannot be a part of a table.

    Of genes that were chosen because they went up a column of log fold changes may
    have positive values only; of most genes that were measured it has both.
    """
    values = account["value"].to_numpy()
    _check_words(table, values)
    n_values = int(np.isfinite(values).sum())
    if value is not None or not n_values or (values < 0).any():
        return
    changes = table.find("log2fc") or table.find("ratio")
    n_used = int(_is_used(account).sum())
    if changes is None or (
        n_values >= LEAST_WHOLE and n_used > LARGEST_PART * min(n_genes, MOST_MEASURED)
    ):
        name = table.used.get("value", changes)
        raise _no_direction(
            table, str(name), f"is never below 0 in {n_values:,} rows: ratios, sizes, "
            "counts and most statistics of tests have no direction. If all genes did "
            f"go up, say so by value={name!r}"
        )  # fmt: skip


def _check_words(table: _Table, values: NDArray[np.float64]) -> None:
    """Refuse values whose signs contradict a column that says "up" and "down"."""
    signs = np.sign(np.nan_to_num(values))
    for name in table.names:
        own = [re.sub(r"[^a-z]", "", str(cell).casefold()) for cell in table[name]]
        words = np.array([(word in UP) - (word in DOWN) for word in own])
        wrong = np.flatnonzero(words * signs < 0)
        if len(wrong) <= CONTRADICTED * np.count_nonzero(words * signs):
            continue
        of = str(table.used.get("value", table.used.get("log2fc")))
        raise _no_direction(
            table, of, f"has another sign than {name!r} says in {len(wrong):,} rows: "
            f"in line {table.lines[wrong[0]]:,}, {str(table[name][wrong[0]])!r} stands "
            f"beside {str(table[of][wrong[0]])!r}"
        )  # fmt: skip


def _p_values(table: _Table, name: str) -> NDArray[np.float64]:
    p = table.numbers(name)
    bad = np.flatnonzero((p < 0) | (p > 1))
    if len(bad):
        raise CorruptFileError(
            table.path,
            f"line {table.lines[bad[0]]:,}, column {name!r}",
            f"{p[bad[0]]:g} is no p-value",
        )
    return p


def _cut(
    table: _Table,
    account: pd.DataFrame,
    alpha: float | None,
    min_abs_log2fc: float | None,
) -> list[str]:
    """Mark the rows below the cut-offs, and say which these are."""
    passed = np.ones(len(account), dtype=bool)
    cuts = []
    if alpha is not None:
        name = _needed(table, "padj", "alpha")
        with np.errstate(invalid="ignore"):
            passed &= _p_values(table, name) < alpha
        cuts.append(f"{name} < {alpha:g}")
    if min_abs_log2fc is not None:
        found = _find_changes(table)
        name = found.name if found else _needed(table, "log2fc", "min_abs_log2fc")
        changes = _Changes.of(table, name)
        assert changes is not None
        with np.errstate(invalid="ignore"):
            passed &= np.abs(changes.signed(table)) >= min_abs_log2fc
        table.used["log2fc"] = name
        of = changes.rule if changes.rule == name else f"{name}, in log2"
        cuts.append(f"|{of}| >= {min_abs_log2fc:g}")
    account.loc[_is_used(account) & ~passed, "status"] = BELOW
    return cuts


def _needed(table: _Table, role: str, parameter: str) -> str:
    name = table.find(role)
    if name is None:
        raise ValueError(
            f"{parameter} must be None: {table.path} has no column named like "
            f"{first_few(ROLES[role], n=5)}, but {first_few(table.names)}."
        )
    table.used[role] = name
    return name


# -------------------------------------------------------------------- what is said


def _check_enough(
    table: _Table,
    account: pd.DataFrame,
    target: NDArray[np.object_],
    n_used: int,
    min_genes: int,
) -> None:
    if n_used >= min_genes:
        return
    by_status = account["status"].value_counts()
    counts = ", ".join(f"{status} {n:,}" for status, n in by_status.items())
    raise ValueError(
        f"{table.path}: {counted(n_used, 'gene')} of column {table.used['gene']!r} can "
        f"be used, fewer than min_genes={min_genes}; {counted(len(account), 'row')}: "
        f"{counts}. The column has {first_few(account['gene'], n=3)}; the genes are "
        f"{first_few(target, n=3)}. Columns: {first_few(table.names)}."
    )


def _warn_of(
    table: _Table,
    account: pd.DataFrame,
    target: NDArray[np.object_],
    place: NDArray[np.intp],
) -> None:
    """Tell what makes a profile less than it seems."""
    used = account[_is_used(account)]
    has_value = np.isfinite(account["value"].to_numpy()) & (place >= 0)
    lacking = np.delete(target, np.unique(place[has_value]))
    if len(lacking) > (1 - COVERED) * len(target):
        _warn(
            f"{table.path}: {len(lacking):,} of the {len(target):,} genes have no "
            f"value there and are 0, unchanged: {first_few(lacking, write=str, n=10)}",
            GeneNamesWarning,
        )
    dates = used[used["how"] == "date"]
    if len(dates):
        pairs = zip(dates["gene"], dates["symbol"], strict=True)
        told = [f"{entry} as {symbol}" for entry, symbol in pairs]
        _warn(
            f"{table.path}: dates are read as genes: {first_few(told, write=str)}",
            GeneNamesWarning,
        )
    n_again = len(pd.unique(place[(account["status"] == REPEATED).to_numpy()]))
    if n_again > max(len(np.unique(place[has_value])) / 2, 1):
        _warn(
            f"{table.path}: {n_again:,} genes have several rows, of which the value "
            "furthest from 0 counts. Is the table one of several comparisons?",
            DataWarning,
        )
    values = account["value"].to_numpy()
    values = values[np.isfinite(values)]
    if (values >= 0).all() or (values <= 0).all():
        hint = ""
        if (values >= 0).all() and (values <= 1).all():
            hint = ", and within [0, 1]: p-values have no direction"
        _warn(
            f"{table.path}: all {len(values):,} values are of one sign{hint}. Is a "
            "part of the table, or the direction, missing?",
            DataWarning,
        )
    by_symbol = used.loc[used["how"].isin(["name", *ALIASES]), "gene"].map(str)
    n_rodent = int(by_symbol.map(OF_RODENTS.fullmatch).notna().sum())
    if n_rodent > max(len(used) / 2, 1):
        _warn(
            f"{table.path}: genes are written as those of mouse or rat are, and read "
            f"as human genes of the same letters: {first_few(by_symbol, n=5)}",
            DataWarning,
        )


def _warn(text: str, category: type[Warning]) -> None:
    warnings.warn(f"{text}.", category, stacklevel=5)
