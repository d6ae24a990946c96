"""A study as an AnnData object, and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge.datasets._join import check_once
from sklearn_molge.datasets._lincs._metadata import (
    CONTROL_COLUMNS,
    OBS_COLUMNS,
    QUANTITIES,
    TEXTS,
    join_layers,
    standard_genes,
    standard_obs,
)
from sklearn_molge.datasets._lincs._selection import Funnel, as_tuple, keep_molecules
from sklearn_molge.datasets._tables import (
    describe_table,
    has_default_index,
    join_tables,
    restore_table,
)
from sklearn_molge.molecules import drug_ids

if TYPE_CHECKING:
    from anndata import AnnData

    from sklearn_molge.datasets._study import Study

__all__ = [
    "MARK",
    "anndata_to_parts",
    "import_anndata",
    "own_parts",
    "study_tables",
    "study_to_anndata",
]

MARK = "sklearn_molge"
# Where var keeps the index of `genes`, since its own holds the genes' names.
GENE_INDEX = "study_index"
N_SHOWN = 5


def study_to_anndata(study: Study) -> AnnData:
    """Put treated profiles, then control wells, in one AnnData object."""
    AnnData = import_anndata("to_anndata").AnnData
    obs, var, mark = study_tables(study)
    return AnnData(X=_joint_matrix(study), obs=obs, var=var, uns={MARK: mark})


def import_anndata(what: str) -> Any:
    """Import anndata, or say how to install it for `what`."""
    try:
        import anndata
    except ImportError as error:
        raise ImportError(
            f'{what} needs anndata: pip install "sklearn-molge[anndata]"'
        ) from error
    return anndata


def study_tables(study: Study) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Return obs and var of the AnnData object, and what undoes their making."""
    mark: dict[str, Any] = {
        "obs": describe_table(study.obs),
        "genes": describe_table(study.genes),
    }
    tables = [study.obs.assign(smiles=study.smiles, is_control=False)]
    if study.control_obs is not None:
        mark["control_obs"] = describe_table(study.control_obs)
        tables.append(study.control_obs.assign(is_control=True))
    if study.level is not None:
        mark["level"] = int(study.level)
    if study.dropped is not None:
        mark["dropped"] = join_tables([study.dropped])
        mark["dropped_types"] = describe_table(study.dropped)
    return join_tables(tables), _gene_table(study.genes), mark


def _gene_table(genes: pd.DataFrame) -> pd.DataFrame:
    var = join_tables([genes])
    if not has_default_index(genes):
        var[GENE_INDEX] = pd.Categorical(var.index)
    name = next((n for n in ("gene_id", "symbol") if n in genes), None)
    labels = var.index if name is None else genes[name]
    return var.set_axis(pd.Index(labels.astype(str).to_numpy(dtype=object)), axis=0)


def _joint_matrix(study: Study) -> NDArray[np.float32]:
    """Return both matrices as one: where they are parts of one, without a copy."""
    ge, control_ge = study.ge, study.control_ge
    if control_ge is None:
        return ge
    whole = _owner(ge)
    if (
        whole is _owner(control_ge)
        and whole.dtype == ge.dtype == control_ge.dtype
        and whole.size == ge.size + control_ge.size
        and ge.ctypes.data == whole.ctypes.data
        and control_ge.ctypes.data == ge.ctypes.data + ge.nbytes
        and all(part.flags.c_contiguous for part in (whole, ge, control_ge))
    ):
        return np.asarray(whole).reshape(-1, ge.shape[1])
    return np.vstack([ge, control_ge])


def _owner(values: NDArray) -> NDArray:
    """Return the array of which `values` is a part."""
    while isinstance(values.base, np.ndarray):
        values = values.base
    return values


@validate_params(
    {
        "columns": [Mapping, None],
        "genes": [pd.DataFrame, None],
        "level": [Interval(Integral, 3, 5, closed="both"), None],
        "control_types": [str, "array-like"],
        "on_bad_smiles": [StrOptions({"drop", "raise"})],
    },
    prefer_skip_nested_validation=True,
)
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
        if ours not in TEXTS and ours not in QUANTITIES:
            raise ValueError(
                f"columns must have keys among {', '.join([*TEXTS, *QUANTITIES])}. "
                f"Got {ours!r}."
            )
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
    known = funnel.obs["cell_line"].notna()
    if not known.all():
        funnel.keep(known, "known cell line", "obs gives no cell line")
    keep_molecules(funnel, on_bad_smiles, stacklevel=4)
    gene_columns, gene_table = _align_genes(adata.var, genes)
    X = adata.X
    treated = funnel.obs
    parts = {
        "smiles": treated["smiles"].to_numpy(object),
        "ge": _values(X, treated["position"].to_numpy(), gene_columns),
        "obs": treated.assign(drug=drug_ids(treated["smiles"]))[OBS_COLUMNS],
        "genes": gene_table,
        "level": _level_in(adata.uns.get(MARK, {})) if level is None else level,
        "dropped": funnel.report(),
    }
    if is_control.any():
        parts["control_ge"] = _values(X, is_control, gene_columns)
        parts["control_obs"] = obs.loc[is_control, CONTROL_COLUMNS]
    return parts


def _own_parts(adata: AnnData, level: int | None) -> dict[str, Any]:
    parts = own_parts(adata.obs, adata.var, adata.uns[MARK], adata.X)
    return parts if level is None else parts | {"level": level}


def own_parts(
    obs: pd.DataFrame, var: pd.DataFrame, mark: Mapping[str, Any], X: Any
) -> dict[str, Any]:
    """Undo `study_tables`: return the arguments of Study."""
    is_control = obs["is_control"].to_numpy(bool)
    parts = {
        "smiles": obs["smiles"].to_numpy(object)[~is_control],
        "ge": _values(X, ~is_control),
        "obs": restore_table(obs[~is_control], mark["obs"]),
        "genes": restore_table(_own_gene_table(var), mark["genes"]),
        "level": _level_in(mark),
        "dropped": None,
    }
    if "control_obs" in mark:
        parts["control_ge"] = _values(X, is_control)
        parts["control_obs"] = restore_table(obs[is_control], mark["control_obs"])
    if "dropped" in mark:
        parts["dropped"] = restore_table(mark["dropped"], mark["dropped_types"])
    return parts


def _own_gene_table(var: pd.DataFrame) -> pd.DataFrame:
    if GENE_INDEX in var:
        return var.set_axis(pd.Index(var[GENE_INDEX].to_numpy(dtype=object)), axis=0)
    return var.set_axis(pd.RangeIndex(len(var)), axis=0)


def _level_in(mark: Mapping[str, Any]) -> int | None:
    level = mark.get("level")
    return None if level is None else int(level)


def _values(
    X: Any, rows: NDArray, columns: NDArray[np.intp] | None = None
) -> NDArray[np.float32]:
    """Take rows and columns of a matrix, without a copy where rows lie together."""
    places = np.flatnonzero(rows) if rows.dtype == bool else rows
    start = int(places[0]) if len(places) else 0
    together = np.array_equal(places, np.arange(start, start + len(places)))
    values = X[start : start + len(places)] if together else X[places]
    if hasattr(values, "toarray"):
        values = values.toarray()
    values = np.asarray(values, dtype=np.float32)
    return values if columns is None else values[:, columns]


def _align_genes(
    var: pd.DataFrame, genes: pd.DataFrame | None
) -> tuple[NDArray[np.intp] | None, pd.DataFrame]:
    """Say which columns of the matrix to take (None: all), and what genes they are."""
    there = standard_genes(var)
    names = pd.Series(var.index.astype(str), index=var.index, dtype=object)
    by_name = pd.to_numeric(names, errors="coerce")
    there["gene_id"] = there["gene_id"].fillna(by_name)
    there["symbol"] = there["symbol"].fillna(names.mask(by_name.notna()))
    key = "gene_id" if there["gene_id"].notna().all() else "symbol"
    if genes is None:
        return None, _known_columns(there)
    if key not in genes:
        raise ValueError(
            f"genes must have a column {key!r}, by which the genes of adata are known. "
            f"Got {', '.join(map(str, genes.columns))}."
        )
    check_once(pd.Index(there[key]), f"adata must have genes of different {key}")
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
            stacklevel=5,
        )
    return positions[found], genes[found].reset_index(drop=True)


def _known_columns(genes: pd.DataFrame) -> pd.DataFrame:
    genes = genes.dropna(axis="columns", how="all").reset_index(drop=True)
    types = {"gene_id": np.int64, "is_landmark": bool}
    there = [name for name in types if name in genes]
    unknown = [name for name in there if genes[name].isna().any()]
    genes = genes.drop(columns=unknown)
    return genes.astype({name: types[name] for name in there if name in genes})
