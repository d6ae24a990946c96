"""The columns of profiles, compounds and genes: their names, and tables of them.

Ours, and those of the public L1000 releases; `Study` documents what each one means.
"""

import re
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._utils.genes import are_row_numbers
from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._quantities import QUANTITIES, are_quantities, quantity
from sklearn_molge.datasets._texts import clean, clean_texts
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.molecules import (
    MISSING_SMILES,
    drug_ids,
    smiles_from_inchi,
    valid_smiles_mask,
)

__all__ = [
    "ACCOUNT",
    "CONDITION",
    "CONTROL_COLUMNS",
    "GENES",
    "IDENTITY",
    "OBS_COLUMNS",
    "PROFILE_IDS",
    "TEXTS",
    "check_each_once",
    "combine_compounds",
    "common_genes",
    "first_known",
    "is_gene_column",
    "is_known",
    "name_genes",
    "read_inchi",
    "several_structures",
    "standard_genes",
    "standard_obs",
]

# Our name, then the releases' names: a row without the first takes the next.
TEXTS = {
    "pert_id": ("pert_id",),
    "pert_name": ("pert_name", "pert_iname", "cmap_name", "pert_desc"),
    "cell_line": ("cell_line", "cell_iname", "cell_id"),
    "plate": ("plate", "det_plate", "rna_plate"),
    "well": ("well", "det_well", "rna_well"),
    "pert_type": ("pert_type",),
    "smiles": (
        *("smiles", "canonical_smiles", "SMILES"),
        *("inchi", "InChI", "standard_inchi"),
    ),
    "moa": ("moa",),
    "target": ("target",),
}
GENES = {
    "gene_id": ("gene_id", "pr_gene_id", "entrez_id", "entrez"),
    "symbol": (
        "symbol",
        "gene_symbol",
        "pr_gene_symbol",
        "gene_symbols",
        "gene_name",
        "feature_name",
    ),
    "is_landmark": ("is_landmark", "pr_is_lm", "pr_is_lmark", "feature_space"),
}
GENE_COLUMNS = frozenset().union(*GENES.values()) | {"description"}
KNOWN = frozenset().union(*TEXTS.values(), *GENES.values())
# Entrez ids have 9 digits; what has more than 15 is not told from its neighbour.
MOST_ID = 10**15
# Of 1.00127E+08, as spreadsheets write it, digits are lost: it would be another gene.
ENTREZ = re.compile(r"\d+(\.0*)?", re.ASCII)
# Of Ensembl, and of Affymetrix's probe sets.
OTHER_ID = re.compile(r"ENS[A-Z]*G\d+(\.\d+)?|\w+_at", re.IGNORECASE)
PROFILE_IDS = ("inst_id", "sample_id", "sig_id", "profile_id")

# Of a study, in order; wells that are controls (Levels 3 and 4) have no drug.
OBS_COLUMNS = (
    "pert_id pert_name drug cell_line plate well dose_um time_h pert_type moa target"
).split()
CONTROL_COLUMNS = [name for name in OBS_COLUMNS if name != "drug"]
# What a signature (Level 5) has in common: wells of one condition are replicates.
IDENTITY = ("drug", "cell_line")
CONDITION = (*IDENTITY, "dose_um", "time_h")
# Of `Study.dropped`.
ACCOUNT = ["step", "n_dropped", "n_left", "detail"]


def is_gene_column(name: str) -> bool:
    """Whether a column of that name says what the genes of a table are."""
    return name.lower() in GENE_COLUMNS


def is_known(name: str) -> bool:
    """Whether a column of that name has a meaning here, and is worth reading."""
    return name in KNOWN or are_quantities(name)


def standard_obs(
    table: pd.DataFrame, columns: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Write a table of profiles or compounds in our names and units.

    `columns` maps our name to that of the column to take. Returns all our columns but
    ``drug``, and ``smiles``: texts (object, NaN where missing), ``dose_um`` and
    ``time_h`` (float, NaN where missing or not readable), and what is known of their
    units, ``dose_um_note`` and ``time_h_note``, see `Readings`.
    """
    columns = columns or {}
    missing = np.full(len(table), np.nan, dtype=object)
    made: dict[str, NDArray] = {}
    for name, sources in TEXTS.items():
        wanted = [columns[name], *sources] if name in columns else sources
        present = [clean_texts(table[s], name) for s in wanted if s in table]
        made[name] = first_known([*present, missing])
    made["smiles"] = read_inchi(made["smiles"])
    for name in QUANTITIES:
        read = quantity(table, name, columns.get(name))
        if read is None:
            made[name], made[f"{name}_note"] = missing.astype(float), missing
        else:
            made[name] = read.values
            notes = np.array([*read.notes, np.nan], dtype=object)
            made[f"{name}_note"] = notes[read.codes]
    return pd.DataFrame(made, index=table.index)


def read_inchi(structures: NDArray[np.object_]) -> NDArray[np.object_]:
    """Write those structures as SMILES that are InChI, and say how many there are."""
    smiles = smiles_from_inchi(structures, on_bad="keep")
    is_read = smiles != structures
    is_read &= ~pd.isna(structures)
    left = [s for s in smiles if isinstance(s, str) and s.startswith("InChI=")]
    if is_read.any():  # bad ones alone are told with the bad SMILES
        bad = f"; {len(left):,} cannot be read: {first_few(left, n=3)}" if left else ""
        warnings.warn(
            f"Structures of the column of InChI are read as SMILES: {is_read.sum():,} "
            f"are converted{bad}.",
            DataWarning,
            stacklevel=2,
        )
    return smiles


def standard_genes(table: pd.DataFrame) -> pd.DataFrame:
    """Write a table of genes in our names.

    Returns ``gene_id`` and ``is_landmark`` (float) and ``symbol`` (object), NaN where
    unknown.
    """
    columns = {}
    for name, sources in GENES.items():
        present = [clean_texts(table[s]) for s in sources if s in table]
        missing = np.full(len(table), np.nan, dtype=object)
        columns[name] = first_known([*present, missing])
    codes, distinct = pd.factorize(columns["is_landmark"])
    marks = {"1", "true", "t", "yes", "y", "landmark"}
    values = [float(text.lower() in marks) for text in distinct]
    columns["is_landmark"] = np.array([*values, np.nan])[codes]
    ids = pd.Series(columns["gene_id"], dtype=object)
    if are_row_numbers(ids):
        ids = ids.mask(ids.notna())
    columns["gene_id"] = _entrez_ids(ids)
    return pd.DataFrame(columns, index=table.index)


def _entrez_ids(names: pd.Series) -> NDArray[np.float64]:
    """Read ids of genes that are written out, NaN where a name is none."""
    is_id = np.array([bool(ENTREZ.fullmatch(str(name))) for name in names], bool)
    ids = pd.to_numeric(names.where(is_id), errors="coerce").to_numpy(np.float64)
    return np.where((ids > 0) & (ids < MOST_ID), ids, np.nan)


def name_genes(genes: pd.DataFrame) -> pd.DataFrame:
    """Fill ``gene_id`` and ``symbol``, as of `standard_genes`, from names of rows.

    Names that only number the rows are none; ids of Ensembl and of probe sets are no
    symbols.
    """
    names = pd.Series([clean(name) for name in genes.index], genes.index, dtype=object)
    if are_row_numbers(names):
        names = names.mask(names.notna())
    texts = names.mask(pd.to_numeric(names, errors="coerce").notna())
    other = [OTHER_ID.fullmatch(str(name)) is not None for name in names]
    texts = texts.mask(np.array(other, dtype=bool))
    return genes.assign(
        gene_id=first_known([genes["gene_id"].to_numpy(), _entrez_ids(names)]),
        symbol=first_known([genes["symbol"].to_numpy(), texts.to_numpy(object)]),
    )


def common_genes(genes: Sequence[pd.Index], where: str, *, stacklevel: int) -> pd.Index:
    """Return the genes that are everywhere, in the order of the first.

    `where` names what holds them, for the errors and for the warning that some are not
    everywhere; `stacklevel` is counted from the caller.
    """
    shared = every = genes[0]
    for other in genes[1:]:
        shared = shared[shared.isin(other)]
        every = every.union(other)
    if shared.empty:
        raise ValueError(f"No gene is in every {where}.")
    if len(shared) < len(every):
        left_out = every.difference(shared)
        warnings.warn(
            f"{len(left_out):,} of {len(every):,} genes are not in every {where} and "
            f"are left out: {first_few(left_out, write=str)}.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return shared


def check_each_once(names: pd.Index, needed: str) -> None:
    """Raise where a gene has no name, or the name of another."""
    bad = names[names.duplicated() | names.isna()].unique()
    if len(bad):
        raise ValueError(f"{needed}. Missing or more than once: {first_few(bad)}.")


def combine_compounds(tables: Iterable[pd.DataFrame], stacklevel: int) -> pd.DataFrame:
    """Bring tables of compounds, as of `standard_obs`, to one row a ``pert_id``.

    A release has one row for each target: ``smiles`` and ``pert_name`` are the first
    that are known, ``moa`` and ``target`` all that are known, joined by "|".
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
    told = several_structures(table.loc[~withheld, "smiles"])
    if told:
        warnings.warn(
            f"{len(told):,} pert_ids have several structures in the tables of "
            f"compounds; the first is taken: {first_few(told, write=str, n=5)}.",
            DataWarning,
            stacklevel=stacklevel + 1,
        )
    return compounds


def several_structures(smiles: pd.Series) -> list[str]:
    """Say which ids of the index have several molecules: "id: first, second"."""
    pairs = smiles.dropna().astype(object).reset_index(name="smiles")
    pairs = pairs.set_axis(["id", "smiles"], axis=1).drop_duplicates()
    pairs = pairs[pairs["id"].notna() & pairs["id"].duplicated(keep=False)]
    pairs = pairs[valid_smiles_mask(pairs["smiles"])]
    pairs = pairs.assign(drug=drug_ids(pairs["smiles"])).drop_duplicates(["id", "drug"])
    return [
        f"{label}: {', '.join(group)}"
        for label, group in pairs.groupby("id", sort=False)["smiles"]
        if len(group) > 1
    ]


def first_known(columns: list[NDArray]) -> NDArray:
    known = columns[0]
    for column in columns[1:]:
        known = np.where(pd.isna(known), column, known)
    return known
