"""Which columns of a table hold the SMILES and the names, by name and by content."""

import re
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from sklearn_molge._utils.messages import first_few
from sklearn_molge.molecules import MISSING_SMILES, parse_smiles

__all__ = [
    "KNOWN",
    "N_SAMPLED",
    "Column",
    "Extra",
    "chosen_columns",
    "distinct_names",
    "find_columns",
    "find_name",
    "is_inchi",
    "is_missing",
    "is_smiles_column",
    "name_of",
    "plain_value",
    "readable_share",
]

Column = str | int | None
# "all", or the names of further columns.
Extra = Sequence[str] | str | None

# Entries that tell whether a column holds SMILES.
N_SAMPLED = 50
_HALF = 0.5

# Small letters and digits only, the most telling first.
_SMILES_COLUMNS = (
    *("smiles", "canonicalsmiles", "isomericsmiles", "isosmiles", "cansmiles"),
    *("absolutesmiles", "connectivitysmiles", "cxsmiles", "smi", "smile", "structure"),
)
# Where no column holds SMILES.
_INCHI_COLUMNS = (
    *("inchi", "standardinchi", "stdinchi", "canonicalinchi", "inchistring"),
    *("inchicode", "nonstandardinchi"),
)
_NAME_COLUMNS = (
    *("name", "cmapname", "pertiname", "compoundname", "prefname", "title"),
    *(
        "preferredname",
        "moleculename",
        "molname",
        "drugname",
        "productname",
        "prodname",
    ),
    *("itemname", "genericname", "commonname", "chemicalname", "substancename"),
    *("compound", "drug", "pertid", "brdid", "broadid", "chemblid"),
    *("moleculechemblid", "zincid", "drugbankid", "catalogid", "catalogueid"),
    *("catalogno", "catalogueno", "catalognumber", "cataloguenumber", "catalognum"),
    *("catalog", "catalogue", "catno", "catnumber", "cat", "itemno", "itemnumber"),
    *("productid", "productno", "productnumber", "productcode", "sku", "supplierid"),
    *("vendorid", "compoundid", "compoundno", "compoundcode", "moleculeid", "molid"),
    *("substanceid", "enamineid", "mculeid", "molportid", "idnumber", "pubchemcid"),
    *("cid", "casnumber", "casno", "casrn", "cas", "iupacname", "synonym"),
    *("synonyms", "inchikey", "identifier", "id"),
)
KNOWN = (
    "smiles, canonical_smiles, isomeric_smiles, isosmiles, cxsmiles, smi, structure, "
    "inchi"
)


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name.casefold())


def is_smiles_column(name: str) -> bool:
    """Whether a column of this name should hold SMILES, or InChI."""
    return _rank(name) is not None


def distinct_names(columns: Sequence[object]) -> list[str]:
    """Return names of columns, a second "x" as "x.1", as pandas does."""
    names: dict[str, None] = {}
    counts: dict[str, int] = {}  # else many empty names would take for ever
    for column in map(str, columns):
        name, n = column, counts.get(column, 0)
        while name in names:
            n += 1
            name = f"{column}.{n}"
        names[name], counts[column] = None, n
    return list(names)


def is_missing(entry: object) -> bool:
    """Whether an entry stands for an unknown or withheld structure."""
    value = plain_value(entry)
    return value is None or str(value).strip().lower() in MISSING_SMILES


def readable_share(entries: Iterable[object]) -> float:
    """Share of the entries that are there which are SMILES; NaN if none is there."""
    there = [entry for entry in entries if not is_missing(entry)]
    if not there:
        return np.nan
    texts = map(name_of, there)
    return float(np.mean([is_inchi(t) or parse_smiles(t) is not None for t in texts]))


def is_inchi(entry: object) -> bool:
    """Whether an entry is written as an InChI."""
    return isinstance(entry, str) and entry.lstrip().startswith("InChI=")


def find_columns(
    path: object,
    columns: Sequence[str],
    smiles: Column,
    name: Column,
    entries: Callable[[int], Sequence[object]],
) -> tuple[int, int | None]:
    """Return the places of the SMILES and of the names (None if there are none).

    Parameters
    ----------
    path : object
        What the table is, for messages.
    columns : sequence of str
        The header, distinct names.
    smiles, name : str, int or None
        The columns asked for; None finds them.
    entries : callable
        The first entries of the column at a place.

    Raises
    ------
    ValueError
        With the columns that are there.
    """
    if smiles is None:
        place = _find_smiles(path, columns, entries)
    else:
        place = _at(path, columns, smiles, "smiles_column")
    if name is not None:
        return place, _at(path, columns, name, "name_column")
    if isinstance(smiles, int):  # there is no header
        return place, None
    return place, _find_names(columns, place, entries)


def _find_smiles(path, columns, entries) -> int:
    ranks = {at: _rank(column) for at, column in enumerate(columns)}
    known = sorted((rank, at) for at, rank in ranks.items() if rank is not None)
    shares = {at: readable_share(entries(at)) for _, at in known}
    readable = [at for _, at in known if shares[at] >= _HALF]
    empty = [at for at, share in shares.items() if np.isnan(share)]
    if readable:
        same = [at for at in readable if ranks[at] == ranks[readable[0]]]
        if any(list(entries(at)) != list(entries(same[0])) for at in same[1:]):
            raise ValueError(
                f"{path}: smiles_column must be one of {[columns[at] for at in same]}, "
                "which hold different entries."
            )
        return readable[0]
    if empty:
        return empty[0]
    by_content = [
        at
        for at in range(len(columns))
        if (there := [e for e in entries(at) if not is_missing(e)])
        and all(map(is_inchi, there))
    ]
    if len(by_content) == 1 and not is_inchi(columns[by_content[0]]):
        return by_content[0]
    others = [
        columns[at]
        for at in range(len(columns))
        if at not in shares and readable_share(entries(at)) >= _HALF
    ]
    hint = "name it by smiles_column"
    if others:
        hint += f", {first_few(others)} holds SMILES"
    if others and readable_share(others[:1]) == 1:  # which is a row
        place = columns.index(others[0])
        hint = f"this one has no header: give its place, smiles_column={place}"
    if not known:
        raise _missing(path, columns, f"a column of SMILES ({KNOWN}); {hint}")
    if others:
        at = known[0][1]
        raise ValueError(
            f"{path}: the column {columns[at]!r} holds no SMILES but "
            f"[{first_few(entries(at), n=3)}]; {hint}."
        )
    return known[0][1]


def _rank(column: str) -> int | None:
    # A second column of a name, "smiles.1", is like the first.
    bare = _bare(re.sub(r"\.\d+$", "", column))
    if bare in _SMILES_COLUMNS:
        return _SMILES_COLUMNS.index(bare)
    if "smiles" in bare:
        return len(_SMILES_COLUMNS)
    if bare in _INCHI_COLUMNS:
        return len(_SMILES_COLUMNS) + 1 + _INCHI_COLUMNS.index(bare)
    return None


def _find_names(columns, smiles_at, entries) -> int | None:
    bare = [_bare(column) for column in columns]
    known = [bare.index(name) for name in _NAME_COLUMNS if name in bare]
    known = [at for at in known if at != smiles_at]
    filled = (at for at in known if any(map(name_of, entries(at))))
    return next(filled, known[0] if known else None)


def _at(path, columns: Sequence[str], column: str | int, parameter: str) -> int:
    if isinstance(column, int):
        if column < len(columns):
            return column
    elif column in columns:
        return columns.index(column)
    else:
        stripped = [name.strip() for name in columns]
        if stripped.count(column) == 1:
            return stripped.index(column)
    raise _missing(path, columns, f"the column {column!r} of {parameter}")


def _missing(path: object, columns: Sequence[str], wanted: str) -> ValueError:
    got = list(columns) if columns else "an empty file"
    return ValueError(f"{path}: the table must have {wanted}. Got {got}.")


def chosen_columns(
    path: object, columns: Sequence[str], extra: Extra, used: Sequence[int | None]
) -> dict[str, int]:
    """Return the places of the further columns that are asked for.

    Raises
    ------
    ValueError
        With the columns that are there.
    """
    if extra is None:
        return {}
    if isinstance(extra, str):  # all
        return {c: at for at, c in enumerate(columns) if at not in used}
    missing = [column for column in extra if column not in columns]
    if missing:
        raise _missing(path, columns, f"the columns {missing} of columns")
    return {column: columns.index(column) for column in extra}


def plain_value(value: object) -> str | int | float | bool | None:
    """Return a value as one that JSON knows; None where it is missing."""
    if isinstance(value, str):
        return value
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and np.isnan(value):
        return None
    return value if isinstance(value, str | int | float | bool) else str(value)


def name_of(value: object) -> str:
    """Return a name as a text: "" where it is missing, and 2244.0 is "2244"."""
    value = plain_value(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()


def find_name(values: dict[str, str]) -> str:
    """Return the first of the known names that is not empty."""
    known = {_bare(column): value for column, value in values.items()}
    names = (known.get(name, "") for name in _NAME_COLUMNS)
    return next(filter(None, names), "")
