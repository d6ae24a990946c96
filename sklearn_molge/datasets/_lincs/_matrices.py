"""Matrices of a release joined with its tables: rows, columns and values."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge.datasets._formats._gct import read_gct, read_gct_metadata
from sklearn_molge.datasets._formats._gctx import read_gctx, read_gctx_metadata
from sklearn_molge.datasets._join import common_genes_of
from sklearn_molge.datasets._lincs._find import FoundFiles
from sklearn_molge.datasets._lincs._metadata import (
    PROFILE_IDS,
    combine_compounds,
    first_known,
    index_by_key,
    join_layers,
    read_table,
    standard_genes,
    standard_obs,
)

__all__ = ["Matrix", "common_genes", "open_matrices", "profile_table", "read_profiles"]

N_LANDMARKS = 978


@dataclass
class Matrix:
    """A matrix on disk: what its file says of rows and columns, without the values."""

    path: Path
    obs: pd.DataFrame
    genes: pd.DataFrame


def open_matrices(paths: Sequence[Path]) -> list[Matrix]:
    """Read ids and inner metadata of each matrix."""
    return [
        Matrix(
            path, *(read_gct_metadata if _is_text(path) else read_gctx_metadata)(path)
        )
        for path in paths
    ]


def profile_table(
    matrices: Sequence[Matrix],
    files: FoundFiles,
    metadata: str | PathLike[str] | pd.DataFrame | None,
) -> pd.DataFrame:
    """Join all that is known of each profile.

    Returns
    -------
    obs : DataFrame
        Indexed by profile, in the order of the matrices: our columns without ``drug``,
        ``smiles``, and ``matrix`` and ``position`` for where it is.

    Raises
    ------
    ValueError
        If a profile stands twice, a table fits no profile, or nothing says of what kind
        the profiles are, of which line, or of which molecule.
    """
    ids = np.concatenate([matrix.obs.index.to_numpy(object) for matrix in matrices])
    index = pd.Index(ids, dtype=object)
    if not index.is_unique:
        _raise_ambiguous(matrices, index)
    layers = []
    if metadata is not None:
        layers.append(_fitting(_read_metadata(metadata), index, "metadata"))
    if files.profiles:
        tables = [read_table(path, PROFILE_IDS) for path in files.profiles]
        table = pd.concat([standard_obs(t) for t in tables])
        layers.append(_fitting(table, index, _names(files.profiles)))
    layers.append(pd.concat([standard_obs(m.obs) for m in matrices]))
    obs = join_layers(layers, index)
    if files.compounds:
        compounds = combine_compounds(
            standard_obs(read_table(path, ("pert_id",))) for path in files.compounds
        )
        for name in compounds:
            known = compounds[name].reindex(obs["pert_id"]).to_numpy(object)
            obs[name] = first_known([obs[name].to_numpy(object), known])
    obs["matrix"] = np.repeat(np.arange(len(matrices)), [len(m.obs) for m in matrices])
    obs["position"] = np.concatenate([np.arange(len(m.obs)) for m in matrices])
    _check_known(obs, files)
    return obs


def _raise_ambiguous(matrices: Sequence[Matrix], index: pd.Index) -> None:
    repeated = index[index.duplicated()].unique()
    places = [m.path.name for m in matrices if m.obs.index.isin(repeated).any()]
    raise ValueError(
        f"{len(repeated):,} profiles stand twice, {repeated[0]!r} for one, in "
        f"{', '.join(places)}. Pass as `folder` the list of files to use."
    )


def _read_metadata(metadata: str | PathLike[str] | pd.DataFrame) -> pd.DataFrame:
    if not isinstance(metadata, pd.DataFrame):
        table = read_table(metadata, PROFILE_IDS)
    elif metadata.columns.isin(PROFILE_IDS).any():
        table = index_by_key(metadata, PROFILE_IDS, "metadata")
    else:
        table = metadata
    return standard_obs(table)


def _fitting(table: pd.DataFrame, index: pd.Index, name: str) -> pd.DataFrame:
    """Keep the rows of `table` that are in `index`, each id once."""
    table = table[table.index.isin(index)]
    if table.empty:
        raise ValueError(
            f"{name}: no row is about a profile of the matrices, whose ids are like "
            f"{index[0]!r}."
        )
    repeated = table.index.duplicated()
    if repeated.any():
        warnings.warn(
            f"{name}: {repeated.sum():,} rows repeat the id of an earlier row, "
            f"{table.index[repeated][0]!r} for one; the first row counts.",
            UserWarning,
            stacklevel=5,
        )
    return table[~repeated]


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(path.name for path in paths)


def _check_known(obs: pd.DataFrame, files: FoundFiles) -> None:
    wells = files.profiles, "*inst_info* (Levels 3, 4), *sig_info* (Level 5)"
    structures = files.compounds, "*pert_info*, *compoundinfo*"
    for name, (tables, pattern) in {
        "pert_type": wells,
        "cell_line": wells,
        "smiles": structures,
    }.items():
        if obs[name].isna().all():
            raise ValueError(
                f"No profile has a {name}: not inside {_names(files.matrices)}, nor in "
                f"`metadata`, nor in a table named like {pattern} in {files.where} "
                f"(found {_names(tables) or 'none'})."
            )


def common_genes(
    matrices: Sequence[Matrix],
    files: FoundFiles,
    *,
    landmark_only: bool,
    gene_order: str,
) -> tuple[pd.DataFrame, list[NDArray[np.intp]]]:
    """Choose the genes that every matrix has, and say where each matrix has them.

    Returns
    -------
    genes : DataFrame
        ``gene_id``, ``symbol`` and, where known, ``is_landmark``.
    positions : list of ndarray
        For each matrix the position of each of these genes.

    Raises
    ------
    ValueError
        If a gene has no Entrez id or stands twice in a matrix, no gene is in every
        matrix, or landmarks are asked for and not known.
    """
    tables = [
        standard_genes(read_table(path, ("gene_id", "pr_gene_id")))
        for path in files.genes
    ]
    inner = [_genes_of(matrix) for matrix in matrices]
    known = pd.concat([*tables, *inner]).dropna(subset="gene_id")
    known = known.groupby("gene_id").first()
    landmarks = known.index[known["is_landmark"] == 1]
    places = []
    for matrix, genes in zip(matrices, inner, strict=True):
        ids = genes["gene_id"].to_numpy()
        rows = np.arange(len(ids))
        if landmark_only:
            rows = rows[_is_landmark(ids, landmarks, matrix.path)]
        places.append(pd.Series(rows, index=_check_ids(ids[rows], matrix, rows)))
    shared = common_genes_of([place.index for place in places], "matrix", stacklevel=4)
    if gene_order == "entrez":
        shared = shared.sort_values()
    genes = pd.DataFrame({"gene_id": shared})
    genes["symbol"] = known["symbol"].reindex(shared).to_numpy(object)
    if landmark_only or len(landmarks):
        genes["is_landmark"] = landmark_only | shared.isin(landmarks)
    return genes, [place.loc[shared].to_numpy() for place in places]


def _genes_of(matrix: Matrix) -> pd.DataFrame:
    genes = standard_genes(matrix.genes)
    by_name = pd.to_numeric(genes.index.to_series(), errors="coerce")
    return genes.assign(gene_id=genes["gene_id"].fillna(by_name))


def _is_landmark(
    ids: NDArray[np.float64], landmarks: pd.Index, path: Path
) -> NDArray[np.bool_]:
    if len(landmarks):
        return np.isin(ids, landmarks)
    if len(ids) != N_LANDMARKS:
        raise ValueError(
            f"landmark_only=True, but nothing says which of the {len(ids):,} genes of "
            f"{str(path)!r} are landmarks: it needs a table named like *gene_info* "
            "with pr_is_lm or feature_space. Pass landmark_only=False to load all."
        )
    return np.ones(len(ids), dtype=bool)


def _check_ids(
    ids: NDArray[np.float64], matrix: Matrix, rows: NDArray[np.intp]
) -> NDArray[np.int64]:
    names = matrix.genes.index[rows]
    if np.isnan(ids).any():
        raise ValueError(
            f"{str(matrix.path)!r}: row {names[np.isnan(ids)][0]!r} has no Entrez id, "
            "neither as its name nor in a column gene_id or pr_gene_id."
        )
    repeated = pd.Index(ids).duplicated()
    if repeated.any():
        raise ValueError(
            f"{str(matrix.path)!r}: {repeated.sum():,} genes stand in several rows, "
            f"Entrez id {ids[repeated][0]:.0f} for one."
        )
    return ids.astype(np.int64)


def read_profiles(
    matrices: Sequence[Matrix],
    obs: pd.DataFrame,
    gene_positions: Sequence[NDArray[np.intp]],
    progress: bool | str,
) -> NDArray[np.float32]:
    """Read the profiles of `obs`, and of each matrix no more than these."""
    blocks = [np.empty((0, len(gene_positions[0])), dtype=np.float32)]
    for number, matrix in enumerate(matrices):
        rows = obs.loc[obs["matrix"] == number, "position"].to_numpy()
        genes = gene_positions[number]
        if not len(rows):
            continue
        if _is_text(matrix.path):
            data = read_gct(matrix.path, samples=rows, genes=genes)
        else:
            data = read_gctx(matrix.path, samples=rows, genes=genes, progress=progress)
        blocks.append(data.matrix)
    return blocks[-1] if len(blocks) == 2 else np.concatenate(blocks)


def _is_text(path: Path) -> bool:
    return not path.name.lower().endswith(".gctx")
