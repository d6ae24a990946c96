"""Joining data sets whose genes are not quite the same."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sklearn_molge.datasets._study import Study

__all__ = ["check_once", "common_genes_of", "join_studies"]

N_SHOWN = 5


def common_genes_of(
    genes: Sequence[pd.Index], where: str, *, stacklevel: int
) -> pd.Index:
    """Return the genes that are everywhere, in the order of the first.

    Parameters
    ----------
    genes : sequence of Index
        Names of the genes, each once.
    where : str
        What holds them, for messages.
    stacklevel : int
        Of the warning, counted from the caller.

    Raises
    ------
    ValueError
        If no gene is everywhere.

    Warns
    -----
    UserWarning
        If a gene is not.
    """
    shared = every = genes[0]
    for other in genes[1:]:
        shared = shared[shared.isin(other)]
        every = every.union(other)
    if shared.empty:
        raise ValueError(f"No gene is in every {where}.")
    if len(shared) < len(every):
        left_out = every.difference(shared)
        shown = ", ".join(map(str, left_out[:N_SHOWN]))
        more = ", ..." if len(left_out) > N_SHOWN else ""
        warnings.warn(
            f"{len(left_out):,} of {len(every):,} genes are not in every {where} and "
            f"are left out: {shown}{more}.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return shared


def join_studies(studies: Sequence[Study]) -> dict[str, Any]:
    """Join studies to the arguments of one."""
    levels = {study.level for study in studies}
    if len(levels) != 1:
        raise ValueError(
            "concat needs one or more studies of one level. "
            f"Got {len(studies)} studies of levels {sorted(levels, key=str)}."
        )
    key = "gene_id" if all("gene_id" in s.genes for s in studies) else "symbol"
    names = [_gene_names(study.genes, key) for study in studies]
    shared = common_genes_of(names, "study", stacklevel=3)
    places = [name.get_indexer(shared) for name in names]
    pairs = list(zip(studies, places, strict=True))
    parts = {
        "smiles": np.concatenate([study.smiles for study in studies]),
        "ge": np.concatenate([_columns(study.ge, place) for study, place in pairs]),
        "obs": pd.concat([study.obs for study in studies]),
        "genes": studies[0].genes.iloc[places[0]].reset_index(drop=True),
        "level": studies[0].level,
    }
    controls = [_columns(s.control_ge, p) for s, p in pairs if s.control_ge is not None]
    if controls:
        tables = [s.control_obs for s in studies if s.control_obs is not None]
        parts["control_ge"] = np.concatenate(controls)
        parts["control_obs"] = pd.concat(tables)
    return parts


def _gene_names(genes: pd.DataFrame, key: str) -> pd.Index:
    if key not in genes:
        raise ValueError(
            "concat matches genes by 'gene_id', which all studies must have, or by "
            f"'symbol'. Got a study whose genes have {', '.join(map(str, genes))}."
        )
    names = pd.Index(genes[key])
    check_once(names, f"concat needs genes of different {key}")
    return names


def check_once(names: pd.Index, needed: str) -> None:
    """Raise where a gene has no name, or the name of another."""
    bad = names[names.duplicated() | names.isna()].unique()
    if len(bad):
        shown = ", ".join(map(repr, bad[:N_SHOWN]))
        raise ValueError(f"{needed}. Missing or more than once: {shown}.")


def _columns(values: NDArray, places: NDArray[np.intp]) -> NDArray:
    """Take columns; without a copy where these are all, in order."""
    every = np.array_equal(places, np.arange(values.shape[1]))
    return values if every else values[:, places]
