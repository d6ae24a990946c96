"""A study as an AnnData object, and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_object_dtype

from sklearn_molge.datasets._lincs._metadata import (
    CONTROL_COLUMNS,
    OBS_COLUMNS,
    join_layers,
    standard_genes,
    standard_obs,
)
from sklearn_molge.datasets._lincs._selection import Funnel, as_tuple, keep_molecules
from sklearn_molge.molecules import drug_ids

if TYPE_CHECKING:
    from anndata import AnnData

    from sklearn_molge.datasets._study import Study

__all__ = ["anndata_to_parts", "study_to_anndata"]

MARK = "sklearn_molge"
N_SHOWN = 5


def study_to_anndata(study: Study) -> AnnData:
    """Put treated profiles, then control wells, in one AnnData object."""
    try:
        from anndata import AnnData
    except ImportError as error:
        raise ImportError(
            'to_anndata needs anndata: pip install "sklearn-molge[anndata]"'
        ) from error
    obs = study.obs.assign(smiles=study.smiles, is_control=False)
    ge = study.ge
    mark: dict[str, Any] = {
        "obs": _columns_and_types(study.obs),
        "genes": _columns_and_types(study.genes),
    }
    if study.control_ge is not None and study.control_obs is not None:
        mark["control_obs"] = _columns_and_types(study.control_obs)
        obs = pd.concat([obs, study.control_obs.assign(is_control=True)])
        ge = np.vstack([ge, study.control_ge])
    if study.level is not None:
        mark["level"] = study.level
    if study.dropped is not None:
        mark["dropped"] = study.dropped
    for name, dtype in obs.dtypes.items():
        # A text column with gaps can be written only as a categorical one.
        if is_object_dtype(dtype) or isinstance(dtype, pd.StringDtype):
            obs[name] = obs[name].astype("category")
    obs.index = obs.index.astype(str)
    name = next((n for n in ("gene_id", "symbol") if n in study.genes), None)
    labels = study.genes.index if name is None else study.genes[name]
    var = study.genes.set_axis(labels.astype(str), axis=0).rename_axis(None)
    return AnnData(X=ge, obs=obs, var=var, uns={MARK: mark})


def anndata_to_parts(
    adata: AnnData,
    *,
    columns: Mapping[str, str] | None,
    genes: pd.DataFrame | None,
    level: int | None,
    control_types: str | Sequence[str],
    on_bad_smiles: str,
) -> dict[str, Any]:
    """Take an AnnData object apart into the arguments of Study."""
    if MARK in adata.uns and columns is None and genes is None:
        return _own_parts(adata, level)
    table = adata.obs
    for ours, theirs in (columns or {}).items():
        if theirs not in table:
            raise ValueError(
                f"columns maps {ours!r} to {theirs!r}, which adata.obs lacks. "
                f"It has {', '.join(map(str, table.columns))}."
            )
        table = table.assign(**{ours: adata.obs[theirs]})
    obs = join_layers([standard_obs(table)], table.index)
    for name in ("smiles", "cell_line"):
        if obs[name].isna().all():
            raise ValueError(
                f"No profile of adata has a {name}: name its column in `columns`. "
                f"adata.obs has {', '.join(map(str, table.columns))}."
            )
    position = np.arange(len(obs))
    types = obs["pert_type"].fillna("")
    is_control = types.isin(as_tuple(control_types)).to_numpy()
    other_control = types.str.startswith("ctl_").to_numpy(bool)
    funnel = Funnel(obs.assign(position=position))
    funnel.keep(
        ~(is_control | other_control),
        "treated",
        f"{is_control.sum():,} controls ({', '.join(as_tuple(control_types))})",
    )
    keep_molecules(funnel, on_bad_smiles, stacklevel=3)
    gene_columns, gene_table = _align_genes(adata.var, genes)
    treated = funnel.obs
    parts = {
        "smiles": treated["smiles"].to_numpy(object),
        "ge": _values(adata, treated["position"].to_numpy(), gene_columns),
        "obs": treated.assign(drug=drug_ids(treated["smiles"]))[OBS_COLUMNS],
        "genes": gene_table,
        "level": _noted_level(adata) if level is None else level,
        "dropped": funnel.report(),
    }
    if is_control.any():
        parts["control_ge"] = _values(adata, np.flatnonzero(is_control), gene_columns)
        parts["control_obs"] = obs.loc[is_control, CONTROL_COLUMNS]
    return parts


def _own_parts(adata: AnnData, level: int | None) -> dict[str, Any]:
    mark = adata.uns[MARK]
    obs = adata.obs
    is_control = obs["is_control"].to_numpy(bool)
    every_gene = np.arange(adata.n_vars)
    parts = {
        "smiles": obs["smiles"].to_numpy(object)[~is_control],
        "ge": _values(adata, np.flatnonzero(~is_control), every_gene),
        "obs": _restore(obs[~is_control], mark["obs"]),
        "genes": _restore(adata.var, mark["genes"]).reset_index(drop=True),
        "level": _noted_level(adata) if level is None else level,
        "dropped": mark.get("dropped"),
    }
    if "control_obs" in mark:
        parts["control_ge"] = _values(adata, np.flatnonzero(is_control), every_gene)
        parts["control_obs"] = _restore(obs[is_control], mark["control_obs"])
    return parts


def _noted_level(adata: AnnData) -> int | None:
    level = adata.uns.get(MARK, {}).get("level")
    return None if level is None else int(level)


def _columns_and_types(table: pd.DataFrame) -> dict[str, list[str]]:
    """Return what joining treated and control wells, and writing, would change."""
    return {
        "columns": list(map(str, table)),
        "types": [str(dtype) for dtype in table.dtypes],
    }


def _restore(table: pd.DataFrame, mark: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    names = list(mark["columns"])
    plain = table[names].astype(object)
    return plain.astype(dict(zip(names, mark["types"], strict=True)))


def _values(
    adata: AnnData, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> NDArray[np.float32]:
    values = adata.X[rows]
    if hasattr(values, "toarray"):
        values = values.toarray()
    return np.asarray(values, dtype=np.float32)[:, columns]


def _align_genes(
    var: pd.DataFrame, genes: pd.DataFrame | None
) -> tuple[NDArray[np.intp], pd.DataFrame]:
    """Say which columns of the matrix to take, and what their genes are."""
    there = standard_genes(var)
    names = pd.Series(var.index.astype(str), index=var.index, dtype=object)
    by_name = pd.to_numeric(names, errors="coerce")
    there["gene_id"] = there["gene_id"].fillna(by_name)
    there["symbol"] = there["symbol"].fillna(names.mask(by_name.notna()))
    key = "gene_id" if there["gene_id"].notna().all() else "symbol"
    if genes is None:
        return np.arange(len(var)), _known_columns(there)
    if key not in genes:
        raise ValueError(
            f"genes must have a column {key!r}, by which the genes of adata are known. "
            f"Got {', '.join(map(str, genes.columns))}."
        )
    positions = pd.Index(there[key]).get_indexer(genes[key])
    found = positions >= 0
    if not found.any():
        raise ValueError(f"No {key} of `genes` is in adata.var.")
    if not found.all():
        left_out = genes[key][~found]
        shown = ", ".join(map(str, left_out[:N_SHOWN]))
        warnings.warn(
            f"{len(left_out):,} of {len(genes):,} genes are not in adata and are left "
            f"out: {shown}{', ...' if len(left_out) > N_SHOWN else ''}.",
            UserWarning,
            stacklevel=4,
        )
    return positions[found], genes[found].reset_index(drop=True)


def _known_columns(genes: pd.DataFrame) -> pd.DataFrame:
    genes = genes.dropna(axis="columns", how="all").reset_index(drop=True)
    if "gene_id" in genes and genes["gene_id"].isna().any():
        genes = genes.drop(columns="gene_id")
    types = {"gene_id": np.int64, "is_landmark": bool}
    return genes.astype({name: t for name, t in types.items() if name in genes})
