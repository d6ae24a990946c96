"""Rows of several studies under one list of genes."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._columns import check_each_once, common_genes

__all__ = ["joined_parts"]


def joined_parts(
    studies: Sequence, *, genes: str, caller: str
) -> tuple[dict, list[tuple[int, int]]]:
    """Return the arguments of the study that has all rows, but for its account.

    `genes` is "first", "common" or "union". The second part says for each study how
    many of the genes it lacks, where its values are NaN, and how many are left out.
    """
    key = "gene_id" if all("gene_id" in s.genes for s in studies) else "symbol"
    names = [_gene_names(study.genes, key, caller) for study in studies]
    wanted = names[0]
    if genes == "common":
        wanted = common_genes(names, "study", stacklevel=3)
    elif genes == "union":
        for other in names[1:]:
            wanted = wanted.append(other[~other.isin(wanted)])
    places = [own.get_indexer(wanted) for own in names]
    for i, own in enumerate(places):
        if (own < 0).all():
            raise ValueError(
                f"{caller} needs studies with genes of the first one, which has the "
                f"{key} {first_few(wanted, write=str, n=3)}. Study {i} has none of "
                f"these, but {first_few(names[i], write=str, n=3)}."
            )
    pairs = list(zip(studies, places, strict=True))
    control_ge = [
        _columns_at(s.control_ge, own) for s, own in pairs if s.control_ge is not None
    ]
    control_obs = [s.control_obs for s in studies if s.control_obs is not None]
    table = studies[0].genes.iloc[places[0][places[0] >= 0]]
    if genes == "union":
        again = np.concatenate(names)
        every = pd.concat([study.genes for study in studies])
        table = every[~pd.Index(again).duplicated()]  # in the order of `wanted`
    parts = {
        "smiles": np.concatenate([study.smiles for study in studies]),
        "ge": np.concatenate([_columns_at(s.ge, own) for s, own in pairs]),
        "obs": pd.concat([study.obs for study in studies]),
        "genes": table.reset_index(drop=True),
        "control_ge": np.concatenate(control_ge) if control_ge else None,
        "control_obs": pd.concat(control_obs) if control_obs else None,
        "level": studies[0].level,
    }
    counts = [
        (int((own < 0).sum()), len(n) - int((own >= 0).sum()))
        for own, n in zip(places, names, strict=True)
    ]
    return parts, counts


def _gene_names(genes: pd.DataFrame, key: str, caller: str) -> pd.Index:
    if key not in genes:
        raise ValueError(
            f"{caller} matches genes by 'gene_id', which all studies must have, or by "
            f"'symbol'. Got a study whose genes have {', '.join(map(str, genes))}."
        )
    names = pd.Index(genes[key])
    if key == "gene_id":  # text in one study may be a number in another
        numbers = pd.to_numeric(names, errors="coerce")
        names = names if numbers.isna().any() else pd.Index(numbers)
    check_each_once(names, f"{caller} needs genes of different {key}")
    return names


def _columns_at(values: NDArray, places: NDArray[np.intp]) -> NDArray:
    """Take columns, NaN at -1; without a copy where these are all, in order."""
    if np.array_equal(places, np.arange(values.shape[1])):
        return values
    taken = values[:, places]
    taken[:, places < 0] = np.nan
    return taken
