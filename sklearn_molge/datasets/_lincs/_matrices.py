"""Matrices of a release joined with its tables: rows, columns and values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge.datasets._formats._gct import read_gct, read_gct_metadata
from sklearn_molge.datasets._formats._gctx import read_gctx_values
from sklearn_molge.datasets._formats._gctx_meta import (
    check_layout,
    open_gctx,
    read_columns,
    read_frame,
    read_raw_ids,
)
from sklearn_molge.datasets._formats._gctx_write import COLUMN_META, ROW_META
from sklearn_molge.datasets._join import common_genes_of
from sklearn_molge.datasets._lincs._find import FoundFiles
from sklearn_molge.datasets._lincs._ids import encode_ids
from sklearn_molge.datasets._lincs._metadata import (
    is_known,
    read_table,
    standard_genes,
)

__all__ = ["Matrix", "common_genes", "ids_of", "open_matrices", "read_profiles"]

N_LANDMARKS = 978


@dataclass
class Matrix:
    """A matrix on disk: what its file says of rows and columns, without the values.

    `ids` are those of its profiles, in UTF-8; `obs` is what else it says of them, as
    far as it has a meaning here.
    """

    path: Path
    ids: NDArray[np.bytes_]
    obs: pd.DataFrame
    genes: pd.DataFrame


def open_matrices(paths: Sequence[Path]) -> list[Matrix]:
    """Read ids and inner metadata of each matrix."""
    return [_open_text(p) if _is_text(p) else _open_hdf5(p) for p in paths]


def _open_text(path: Path) -> Matrix:
    obs, genes = read_gct_metadata(path)
    return Matrix(path, encode_ids(obs.index), obs.reset_index(drop=True), genes)


def _open_hdf5(path: Path) -> Matrix:
    with open_gctx(path) as file:
        check_layout(file)
        return Matrix(
            path,
            read_raw_ids(file, COLUMN_META),
            read_columns(file, COLUMN_META, wanted=is_known),
            read_frame(file, ROW_META),
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
    rows: NDArray[np.intp],
    gene_positions: Sequence[NDArray[np.intp]],
    out: NDArray[np.float32],
    *,
    progress: bool | str,
    n_jobs: int | None,
) -> None:
    """Read profiles into `out`, and of each matrix no more than these.

    Parameters
    ----------
    matrices : sequence of Matrix
        Where they are.
    rows : ndarray of int
        Numbers of the profiles, ascending, over all matrices in their order.
    gene_positions : sequence of ndarray of int
        For each matrix the position of each gene.
    out : ndarray of shape (n_rows, n_genes)
        Where the values go.
    progress, n_jobs
        As of `read_gctx`.
    """
    for matrix, genes, (own, place) in zip(
        matrices, gene_positions, _by_matrix(matrices, rows), strict=True
    ):
        part = out[place]
        if not len(own):
            continue
        if _is_text(matrix.path):
            part[...] = read_gct(matrix.path, samples=own, genes=genes).matrix
        else:
            read_gctx_values(
                matrix.path, own, genes, part, progress=progress, n_jobs=n_jobs
            )


def ids_of(matrices: Sequence[Matrix], rows: NDArray[np.intp]) -> NDArray[np.bytes_]:
    """Return the ids of profiles, numbered as in `read_profiles`."""
    return np.concatenate(
        [
            matrix.ids[own]
            for matrix, (own, _) in zip(
                matrices, _by_matrix(matrices, rows), strict=True
            )
        ]
    )


def _by_matrix(
    matrices: Sequence[Matrix], rows: NDArray[np.intp]
) -> list[tuple[NDArray[np.intp], slice]]:
    """Return for each matrix its own numbers of the rows, and where they stand."""
    ends = np.cumsum([len(matrix.ids) for matrix in matrices])
    stops = np.searchsorted(rows, ends)
    return [
        (rows[begin:stop] - (end - len(matrix.ids)), slice(begin, stop))
        for matrix, end, begin, stop in zip(
            matrices, ends, [0, *stops[:-1]], stops, strict=True
        )
    ]


def _is_text(path: Path) -> bool:
    return not path.name.lower().endswith(".gctx")
