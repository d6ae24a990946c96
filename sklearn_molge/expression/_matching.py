"""Which gene a name means: Entrez and Ensembl ids, symbols of any year, dates."""

import datetime
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from numbers import Integral, Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._utils.genes import gene_status
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.views import target_genes

__all__ = ["Key", "TargetGenes", "gene_key", "match_genes"]

Key = int | str

_ENTREZ = re.compile(r"\d+(\.0+)?")
_ENSEMBL = re.compile(r"ensg0*(\d+)(\.\d+)?(_par_y)?")
# What spreadsheets make of MARCH1 and SEPT2: by their settings, one of these.
_DATES = [
    re.compile(r"(?P<day>\d{1,2})[-/. ]+(?P<month>[a-z]{3,4})([-/. ]\d{2,4})?"),
    re.compile(r"(?P<month>[a-z]{3,4})[-/. ](?P<day>\d{1,2})"),
    re.compile(r"\d{4}-(?P<month>\d{2})-(?P<day>\d{2})( 00:00:00)?"),
]
_MONTHS = {
    "jan": 1, "feb": 2, "mar": 3, "apr": 4, "may": 5, "jun": 6, "jul": 7, "aug": 8,
    "sep": 9, "sept": 9, "oct": 10, "nov": 11, "dec": 12,
}  # fmt: skip
_STEMS = {
    2: ("feb",), 3: ("march", "marc", "mar"), 4: ("apr",), 9: ("sept", "sep"),
    10: ("oct",), 11: ("nov",), 12: ("dec",),
}  # fmt: skip
# Days since 1899-12-30, as Excel counts them; no human gene has such an Entrez id.
_SERIALS = range(36_526, 47_848)  # of 2000 to 2030


def match_genes(names: Iterable, genes) -> pd.DataFrame:
    """Say which gene of a model each name is.

    Parameters
    ----------
    names : iterable
        Names as users write them: Entrez ids (numbers or digits), symbols of today or
        of earlier years in upper or lower case, Ensembl ids with or without a version,
        and what spreadsheets make of symbols ("2-Sep").
    genes : DataFrame, array-like of str, fitted estimator, Study or MoleculeIndex
        The genes: a table with the columns ``gene_id`` (Entrez), ``symbol`` or both,
        such as ``study.genes``; their names; an estimator that has
        ``gene_names_in_``, perhaps inside a Pipeline or a search; or what has any of
        these, a study or an index.

    Returns
    -------
    matched : DataFrame
        One row a name: ``entry`` (as given), ``column`` (place among `genes`, -1 where
        it is none of them), ``gene_id`` and ``symbol`` (of that gene as far as `genes`
        has them; of a gene that `genes` lacks as of today, where it is known), and
        ``how`` it was read: "name" (as `genes` has it), "current symbol", "previous
        symbol", "Entrez id", "Ensembl id" or "date"; of one that is not found, why.
        And ``status``: "used"; "alias" (used, by another symbol than `genes` has, or a
        date); "came before" (an earlier name is the same gene of `genes`); "not in the
        model" (a human gene that `genes` lacks); or "unknown".

    Raises
    ------
    ValueError
        If `genes` has no names, or a name stands for several of its genes.

    See Also
    --------
    align_profiles : Puts the columns of profiles in the order of `genes`.
    profile_from_genes : A profile of a list of genes.

    Notes
    -----
    A name that `genes` itself has comes first. The others are read by a table of
    human genes that comes with the library: HGNC (genenames.org, CC0) as of July 2024,
    28,476 genes with an Entrez id (protein-coding, long non-coding RNA, immunoglobulin
    and T cell receptor genes, readthroughs, and pseudogenes that were renamed), among
    them the 978 landmarks, of which 47 have been renamed since. A previous symbol of
    several genes, or one that is another gene's symbol today, is not read; nor are
    aliases ("p53"), which many genes share, and genes of other species. A date is read
    where it can be one gene only: "1-Mar" was MARCH1 or MARC1.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.expression import match_genes
    >>> genes = pd.DataFrame({"gene_id": [16, 4735], "symbol": ["AARS", "SEPT2"]})
    >>> names = ["aars", "AARS1", "ENSG00000090861.16", "2-Sep", "p53"]
    >>> match_genes(names, genes)[["entry", "column", "symbol", "how", "status"]]
                    entry  column symbol             how       status
    0                aars       0   AARS            name         used
    1               AARS1       0   AARS  current symbol  came before
    2  ENSG00000090861.16       0   AARS      Ensembl id  came before
    3               2-Sep       1  SEPT2            date        alias
    4                 p53      -1   None         unknown      unknown
    """
    return TargetGenes.of(genes).match(list(names))


@dataclass(frozen=True)
class TargetGenes:
    """The genes of a model, in their order.

    Attributes
    ----------
    table : DataFrame of n_genes rows
        Their names, a column a kind.
    names : ndarray of shape (n_genes,)
        What profiles of them are named by.
    """

    table: pd.DataFrame
    names: NDArray[np.object_]

    @classmethod
    def of(cls, genes) -> "TargetGenes":
        """Read what the user gave for the genes of a model."""
        return cls(*target_genes(genes))

    def __len__(self) -> int:
        return len(self.names)

    def match(self, entries: list) -> pd.DataFrame:
        """Return what `match_genes` returns."""
        own: dict[Key | None, set[int]] = defaultdict(set)
        for name in self.table:
            for column, value in enumerate(self.table[name]):
                own[gene_key(value)].add(column)
        own.pop(None, None)
        by_id: dict[int, set[int]] = defaultdict(set)
        for key, columns in own.items():
            ids, _ = _read(key)
            for gene in ids:
                by_id[gene] |= columns
        if "gene_id" in self.table:  # which decides, whatever the symbols say
            given = {key: at for key, at in own.items() if isinstance(key, int)}
            known = set().union(*given.values())
            by_id = {key: at - known for key, at in by_id.items()} | given
        rows = [_match_one(entry, own, by_id) for entry in entries]
        return self._describe(entries, rows)

    def _describe(self, entries, rows) -> pd.DataFrame:
        """Put the names of the genes beside the entries."""
        column = np.array([row[0] for row in rows], dtype=np.intp)
        inside = column >= 0
        known = _human_genes().symbols
        table = {"entry": pd.Series(entries, dtype=object), "column": column}
        for kind in ("gene_id", "symbol"):
            values = np.full(len(entries), None, dtype=object)
            for i, (_, gene, _) in enumerate(rows):
                if gene in known:
                    values[i] = gene if kind == "gene_id" else known[gene]
            if kind in self.table:
                values[inside] = self.table[kind].to_numpy(object)[column[inside]]
            table[kind] = values
        matched = pd.DataFrame(table | {"how": [row[2] for row in rows]})
        again = inside & matched["column"].duplicated().to_numpy()
        status = np.where(again, "came before", gene_status(matched, self.names))
        return matched.assign(status=status)


def _match_one(entry, own, by_id) -> tuple[int, int | None, str]:
    """Return column, Entrez id and how an entry was read; or -1 and why it was not."""
    key = gene_key(entry)
    ids, how = _read(key)
    if key in own:
        columns, how = own[key], "name"
        if ids and by_id.get(ids[0], columns) - columns:
            how = "name, today of another of the genes"
    elif how == "date" and len(ids) > 1:
        names = " or ".join(_human_genes().symbols[gene] for gene in ids)
        return -1, None, f"a date, of {names}"
    else:
        columns = set().union(*(by_id.get(gene, ()) for gene in ids))
    if len(columns) > 1:
        raise ValueError(
            f"{entry!r} is the name of {len(columns)} genes of `genes`, rows "
            f"{first_few(sorted(columns))}; give the Entrez id of the one that is "
            "meant."
        )
    gene = ids[0] if ids else None
    if columns:
        return min(columns), gene, how
    return -1, gene, "unknown" if gene is None else f"{how} of another gene"


# -- names ---------------------------------------------------------------------------


def gene_key(entry: object) -> Key | None:
    """Return the number of an Entrez id, the folded text of a symbol, else None."""
    if isinstance(entry, str):
        text = entry.strip()
        if _ENTREZ.fullmatch(text):
            return int(text.split(".")[0])
        return text.casefold() or None
    if isinstance(entry, datetime.date) and not pd.isna(entry):
        return f"{entry:%Y-%m-%d}"
    if isinstance(entry, bool | np.bool_) or not isinstance(entry, Real):
        return None
    if isinstance(entry, Integral) or float(entry).is_integer():
        return int(entry)  # type: ignore[call-overload]
    return None


def _read(key: Key | None) -> tuple[list[int], str]:
    """Return the human genes that a key can be, as Entrez ids, and as what."""
    human = _human_genes()
    if key is None:
        return [], "unknown"
    if isinstance(key, int):
        if key in _SERIALS:
            return _read_date(datetime.date(1899, 12, 30) + datetime.timedelta(key))
        return [key], "Entrez id"
    found = _ENSEMBL.fullmatch(key)
    if found:
        return human.ensembl.get(int(found[1]), []), "Ensembl id"
    for names, how in (
        (human.current, "current symbol"),
        (human.previous, "previous symbol"),
    ):
        if key in names:
            return [names[key]], how
    for form in _DATES:
        found = form.fullmatch(key)
        if found:
            month = found["month"]
            month = int(month) if month.isdigit() else _MONTHS.get(month, 0)
            return _genes_of_date(month, int(found["day"])), "date"
    return [], "unknown"


def _read_date(date: datetime.date) -> tuple[list[int], str]:
    return _genes_of_date(date.month, date.day), "date"


def _genes_of_date(month: int, day: int) -> list[int]:
    human = _human_genes()
    symbols = [f"{stem}{day}" for stem in _STEMS.get(month, ())]
    ids = [human.current.get(s, human.previous.get(s)) for s in symbols]
    return list(dict.fromkeys(gene for gene in ids if gene is not None))


@dataclass(frozen=True)
class _HumanGenes:
    """The table of human genes, by each of their names; genes are Entrez ids."""

    symbols: dict[int, str]
    current: dict[str, int]
    previous: dict[str, int]
    ensembl: dict[int, list[int]]


@cache
def _human_genes() -> _HumanGenes:
    path = files("sklearn_molge.expression").joinpath("human_genes.tsv.gz")
    with path.open("rb") as file:
        table = pd.read_csv(
            file, sep="\t", comment="#", compression="gzip", keep_default_na=False
        )
    ids = table["gene_id"].tolist()
    symbols = table["symbol"].tolist()
    previous = {
        name.casefold(): gene
        for gene, names in zip(ids, table["previous"], strict=True)
        for name in names.split("|")
        if name
    }
    ensembl: dict[int, list[int]] = defaultdict(list)
    for gene, number in zip(ids, table["ensembl"], strict=True):
        if number:
            ensembl[int(number)].append(gene)
    current = {s.casefold(): gene for s, gene in zip(symbols, ids, strict=True)}
    return _HumanGenes(dict(zip(ids, symbols, strict=True)), current, previous, ensembl)
