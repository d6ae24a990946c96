"""The vocabularies of the public L1000 releases, and reading their tables."""

import csv
import re
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from gzip import BadGzipFile
from os import PathLike
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge.molecules import MISSING_SMILES

__all__ = [
    "CONTROL_COLUMNS",
    "OBS_COLUMNS",
    "PROFILE_IDS",
    "QUANTITIES",
    "TEXTS",
    "coded_texts",
    "combine_compounds",
    "first_known",
    "index_by_key",
    "is_known",
    "join_layers",
    "parse_quantity",
    "quantity",
    "read_table",
    "standard_genes",
    "standard_obs",
    "table_parts",
]

OBS_COLUMNS = [
    "pert_id",
    "pert_name",
    "drug",
    "cell_line",
    "plate",
    "well",
    "dose_um",
    "time_h",
    "pert_type",
    "moa",
    "target",
]
CONTROL_COLUMNS = [name for name in OBS_COLUMNS if name != "drug"]
PROFILE_IDS = ("inst_id", "sample_id", "sig_id", "profile_id")

# Our name, then the releases' names: a row without the first takes the next.
TEXTS = {
    "pert_id": ("pert_id",),
    "pert_name": ("pert_name", "pert_iname", "cmap_name", "pert_desc"),
    "cell_line": ("cell_line", "cell_iname", "cell_id"),
    "plate": ("plate", "det_plate", "rna_plate"),
    "well": ("well", "det_well", "rna_well"),
    "pert_type": ("pert_type",),
    "smiles": ("smiles", "canonical_smiles", "SMILES"),
    "moa": ("moa",),
    "target": ("target",),
}
QUANTITIES = {
    "dose_um": ("dose_um", "pert_dose", "pert_idose", "exp_pert_dose"),
    "time_h": ("time_h", "pert_time", "pert_itime", "exp_pert_time"),
}
GENES = {
    "gene_id": ("gene_id", "pr_gene_id"),
    "symbol": ("symbol", "gene_symbol", "pr_gene_symbol"),
    "is_landmark": ("is_landmark", "pr_is_lm", "pr_is_lmark", "feature_space"),
}
KNOWN = frozenset().union(*TEXTS.values(), *QUANTITIES.values(), *GENES.values())
KNOWN |= {f"{column}_unit" for names in QUANTITIES.values() for column in names}
# Units in lower case; a number without a unit anywhere is in the first.
UNITS = {
    "dose_um": {"um": 1.0, "pm": 1e-6, "nm": 1e-3, "mm": 1e3, "m": 1e6},
    "time_h": {"h": 1.0, "hr": 1.0, "min": 1 / 60, "d": 24.0},
}
# The releases write micro as u, as the micro sign or as mu, in mixed encodings.
MICRO = str.maketrans(dict.fromkeys("\u00b5\u03bc\ufffd", "u"))
QUANTITY = re.compile(r"\s*(-?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(\S*)\s*")
# Rows of a table of profiles that are held as text at a time.
PART_ROWS = 2**16
MISSING = (MISSING_SMILES | {"-666.0"}) - {"restricted"}


def read_table(path: str | PathLike[str], keys: Sequence[str]) -> pd.DataFrame:
    """Read the columns of a table that have a meaning here, as text.

    Parameters
    ----------
    path : path
        Tab-separated text, or ``.csv``; gzipped where it ends in ``.gz``.
    keys : sequence of str
        Names of the column that identifies a row; the first one present is taken.

    Returns
    -------
    table : DataFrame
        Indexed by the key, columns as in the file.

    Raises
    ------
    ValueError
        If the file is no such table, or has none of `keys`.
    """
    with _reading(path):
        table = pd.read_csv(path, dtype=str, **_options(path, keys))
    return index_by_key(table, keys, repr(str(path)))


def table_parts(
    path: str | PathLike[str], keys: Sequence[str]
) -> Iterator[pd.DataFrame]:
    """Read a table as `read_table` does, in parts, with categories for texts.

    So the memory is that of one part, however many rows there are.
    """
    kinds = defaultdict(lambda: "category", dict.fromkeys(keys, "object"))
    with _reading(path):
        reader = pd.read_csv(
            path, dtype=kinds, chunksize=PART_ROWS, **_options(path, keys)
        )
    with reader:
        while True:
            with _reading(path):
                part = next(reader, None)
            if part is None:
                break
            yield index_by_key(part, keys, repr(str(path)))


def is_known(name: str) -> bool:
    """Whether a column of that name has a meaning here, and is worth reading."""
    return name in KNOWN


def _options(path: str | PathLike[str], keys: Sequence[str]) -> dict[str, Any]:
    is_csv = re.search(r"\.csv(\.gz)?$", str(path)) is not None
    return {
        "sep": "," if is_csv else "\t",
        "quoting": csv.QUOTE_MINIMAL if is_csv else csv.QUOTE_NONE,
        "usecols": lambda name: name in keys or is_known(name),
        "na_filter": False,
        "encoding_errors": "replace",
        "low_memory": False,
    }


@contextmanager
def _reading(path: str | PathLike[str]) -> Iterator[None]:
    try:
        yield
    except (ValueError, EOFError, BadGzipFile, zlib.error) as error:
        raise ValueError(f"Cannot read the table {str(path)!r}: {error}") from error


def index_by_key(table: pd.DataFrame, keys: Sequence[str], name: str) -> pd.DataFrame:
    """Index a table by the first of `keys` that it has; `name` is for the error."""
    key = next((key for key in keys if key in table), None)
    if key is None:
        raise ValueError(
            f"{name} has none of the columns {', '.join(keys)}. "
            f"Got {', '.join(map(str, table.columns)) or 'no known column'}."
        )
    return table.set_index(table[key].astype(str).to_numpy(dtype=object))


def standard_obs(table: pd.DataFrame) -> pd.DataFrame:
    """Write a table of profiles or compounds in our names and units.

    Parameters
    ----------
    table : DataFrame
        With any of the releases' column names.

    Returns
    -------
    standard : DataFrame
        Same index; those of our columns that `table` has a source of: texts (object,
        NaN where missing), ``dose_um`` and ``time_h`` (float, NaN where missing or in
        a unit that cannot be converted).
    """
    columns: dict[str, NDArray] = {}
    for name, sources in TEXTS.items():
        present = [_clean_text(table[s], name) for s in sources if s in table]
        if present:
            columns[name] = first_known(present)
    for name, sources in QUANTITIES.items():
        numbers = [quantity(table, s, name) for s in sources if s in table]
        if numbers:
            columns[name] = first_known(numbers)
    return pd.DataFrame(columns, index=table.index)


def join_layers(layers: Sequence[pd.DataFrame], index: pd.Index) -> pd.DataFrame:
    """Take each value from the first layer that knows it.

    Parameters
    ----------
    layers : sequence of DataFrame
        As :func:`standard_obs` gives them, each id once.
    index : Index
        Ids of the profiles.

    Returns
    -------
    obs : DataFrame
        All our columns but ``drug``, and ``smiles``.
    """
    columns = {}
    for name in [*TEXTS, *QUANTITIES]:
        known = [
            layer[name].reindex(index).to_numpy() for layer in layers if name in layer
        ]
        columns[name] = first_known([*known, np.full(len(index), np.nan, object)])
    return pd.DataFrame(columns, index=index).astype(dict.fromkeys(QUANTITIES, float))


def standard_genes(table: pd.DataFrame) -> pd.DataFrame:
    """Write a table of genes in our names.

    Parameters
    ----------
    table : DataFrame
        With any of the releases' column names.

    Returns
    -------
    genes : DataFrame
        Same index; ``gene_id`` and ``is_landmark`` (float) and ``symbol`` (object), NaN
        where unknown.
    """
    columns = {}
    for name, sources in GENES.items():
        present = [_clean_text(table[s]) for s in sources if s in table]
        missing = np.full(len(table), np.nan, dtype=object)
        columns[name] = first_known([*present, missing])
    codes, distinct = pd.factorize(columns["is_landmark"])
    marks = {"1", "1.0", "true", "landmark"}
    values = [float(text.lower() in marks) for text in distinct]
    columns["is_landmark"] = np.array([*values, np.nan])[codes]
    columns["gene_id"] = pd.to_numeric(columns["gene_id"], errors="coerce")
    return pd.DataFrame(columns, index=table.index)


def combine_compounds(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Bring tables of compounds to one row a ``pert_id``.

    Parameters
    ----------
    tables : iterable of DataFrame
        As :func:`standard_obs` gives them, indexed by ``pert_id``; a release has one
        row for each target.

    Returns
    -------
    compounds : DataFrame
        ``smiles`` and ``pert_name`` are the first that are known, ``moa`` and
        ``target`` all that are known, joined by "|".
    """
    columns = ["pert_name", "smiles", "moa", "target"]
    table = pd.concat([t.reindex(columns=columns).astype(object) for t in tables])
    withheld = table["smiles"].isin(list(MISSING_SMILES))
    by_id = table.assign(smiles=table["smiles"].mask(withheld)).groupby(level=0)
    compounds = by_id[["pert_name", "smiles"]].first()
    raw = table["smiles"].groupby(level=0).first()
    compounds["smiles"] = compounds["smiles"].fillna(raw)
    for name in ("moa", "target"):
        parts = table[name].dropna().str.split("|").explode().rename_axis("pert_id")
        pairs = parts.reset_index().drop_duplicates()
        joined = pairs.groupby("pert_id")[name].agg("|".join)
        compounds[name] = joined.reindex(compounds.index).astype(object)
    return compounds


def parse_quantity(entry: object, name: str) -> float:
    """Read 10, "10", "10 uM" or "10000 nM" as 10.0 um; NaN where it is no quantity."""
    number, unit = _split_quantity(str(entry))
    units = UNITS[name]
    return number * (units.get(unit, np.nan) if unit else 1.0)


def _split_quantity(text: str) -> tuple[float, str]:
    match = QUANTITY.fullmatch(text.translate(MICRO).lower())
    if match is None or float(match[1]) < 0:  # -666 is the mark of a missing value
        return np.nan, ""
    return float(match[1]), match[2]


def quantity(table: pd.DataFrame, column: str, name: str) -> NDArray[np.float64]:
    """Read a column as ``dose_um`` or ``time_h``, with the column of its unit."""
    units = UNITS[name]
    codes, distinct = _factorize(table[column])
    parts = [_split_quantity(str(entry)) for entry in distinct] + [(np.nan, "")]
    number = np.array([part[0] for part in parts])[codes]
    inner = np.array([units.get(unit, np.nan) for _, unit in parts])[codes]
    outer: float | NDArray[np.float64] = 1.0
    if f"{column}_unit" in table:
        unit_codes, texts = coded_texts(table[f"{column}_unit"])
        values = [
            np.nan if t is None else units.get(t.translate(MICRO).lower(), np.nan)
            for t in texts
        ]
        outer = np.array([*values, np.nan])[unit_codes]
    has_unit = np.array([bool(unit) for _, unit in parts])[codes]
    return number * np.where(has_unit, inner, outer)


def coded_texts(
    column: pd.Series, name: str = ""
) -> tuple[NDArray[np.intp], list[str | None]]:
    """Return a column as numbers into a list of texts.

    Parameters
    ----------
    column : Series
        Of anything; a category is not spelled out.
    name : str
        Ours, for the spelling of the texts.

    Returns
    -------
    codes : ndarray of int
        -1 where the column is missing.
    texts : list of str or None
        Without blanks around; None is LINCS's marks for a missing value.
    """
    codes, distinct = _factorize(column)
    texts = [str(entry).strip() for entry in distinct]
    if name == "pert_type":
        texts = [text.lower() for text in texts]
    return codes, [None if text.lower() in MISSING else text for text in texts]


def _clean_text(column: pd.Series, name: str = "") -> NDArray[np.object_]:
    codes, texts = coded_texts(column, name)
    return _spell_out(codes, [np.nan if text is None else text for text in texts])


def _factorize(column: Any) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Return numbers, -1 where missing, and the distinct entries they stand for."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(np.intp), np.asarray(
            column.cat.categories, dtype=object
        )
    codes, distinct = pd.factorize(column)
    return codes, np.asarray(distinct, dtype=object)


def _spell_out(codes: NDArray[np.intp], texts: Sequence[object]) -> NDArray[np.object_]:
    spelled = np.empty(len(texts) + 1, dtype=object)
    spelled[:] = [*texts, np.nan]
    return spelled[codes]


def first_known(columns: list[NDArray]) -> NDArray:
    known = columns[0]
    for column in columns[1:]:
        known = np.where(pd.isna(known), column, known)
    return known
