"""The files of a release in folders: found by name, opened, and read in part."""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._files.reading import reading
from sklearn_molge._utils.genes import check_no_row_numbers
from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._columns import (
    PROFILE_IDS,
    TEXTS,
    common_genes,
    is_known,
    name_genes,
    standard_genes,
)
from sklearn_molge.datasets._formats._gct import read_gct, read_gct_metadata
from sklearn_molge.datasets._formats._gctx import (
    COLUMN_META,
    ROW_META,
    check_layout,
    open_gctx,
    read_columns,
    read_frame,
    read_gctx_values,
    read_raw_ids,
)
from sklearn_molge.datasets._formats._h5ad import read_h5ad_tables, read_h5ad_values
from sklearn_molge.datasets._formats._values import check_values
from sklearn_molge.datasets._lincs._profile_ids import decode_ids, encode_ids
from sklearn_molge.datasets._tables import read_table, sniff_table
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.expression import match_genes

__all__ = [
    "FoundFiles",
    "Matrix",
    "choose_genes",
    "find_files",
    "find_wells",
    "ids_of",
    "open_matrices",
    "read_profiles",
]

TABLE = r".*\.(txt|tsv|csv)(\.gz)?$"
N_LANDMARKS = 978
# Of `match_genes`: a name of a gene that is it today.
PLAIN_NAMES = "^(?:name|current symbol|Ensembl id|Entrez id)"


# ------------------------------------------------------------------- by their names


@dataclass
class FoundFiles:
    """The files of one or more releases, by what they hold."""

    where: str
    matrices: list[Path] = field(default_factory=list)
    profiles: list[Path] = field(default_factory=list)
    compounds: list[Path] = field(default_factory=list)
    genes: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)  # tables of another name


def find_files(source: object, level: int) -> FoundFiles:
    """Find the matrices of a level, and the tables that go with them.

    `source` is a path or several: folders (their own files, by name) and single files.
    A matrix that is given by its own path need not have the level in its name. Where
    both ``x`` and ``x.gz`` are there, ``x`` is taken. No matrix, or a packed one, is an
    error.
    """
    roots = _as_paths(source)
    kinds = {
        "matrices": rf"level_?{level}(?!\d).*\.(gctx?(\.gz)?|h5ad)$",
        "profiles": ("sig_?info" if level == 5 else "inst_?info") + TABLE,
        "compounds": "(pert|compound)_?info" + TABLE,
        "genes": "gene_?info" + TABLE,
    }
    files = FoundFiles(where=", ".join(repr(str(root)) for root in roots))
    seen: list[str] = []
    for root in roots:
        paths = sorted(root.iterdir()) if root.is_dir() else [root]
        names = {path.name for path in paths}
        for path in paths:
            if path.suffix == ".gz" and path.stem in names:
                continue
            seen.append(path.name)
            found = [k for k, p in kinds.items() if _is_named(path, p)]
            if not found and _is_named(path, TABLE):
                found = ["others"]
            for kind in found:
                getattr(files, kind).append(path)
        if _is_unnamed_matrix(root, level):
            files.matrices.append(root)
    if not files.matrices:
        shown = first_few(seen, write=str) or "no file"
        raise FileNotFoundError(
            f"No matrix of level {level} in {files.where}: looked for GCTX, GCT and "
            f"h5ad files with 'level{level}' in their names (a file given by its own "
            f"path may have any name), found {shown}."
        )
    packed = [
        path.name for path in files.matrices if path.name.lower().endswith(".gctx.gz")
    ]
    if packed:
        raise ValueError(
            f"A packed matrix cannot be read in parts: unpack {', '.join(packed)} in "
            f"{files.where} first (gunzip)."
        )
    return files


def _is_named(path: Path, pattern: str) -> bool:
    return re.search(pattern, path.name, re.IGNORECASE) is not None


def find_wells(files: FoundFiles, matrices: Sequence["Matrix"]) -> Path | None:
    """Take the only table of profiles in the folders, whatever its name, where needed.

    It is where a matrix does not say of what kind, line or molecule its profiles are,
    and no table is there by its name. Several are an error.
    """
    needed = ["pert_type", "cell_line", *["smiles"] * (not files.compounds)]
    if files.profiles or all(
        set(TEXTS[name]).intersection(matrix.obs.columns)
        for matrix in matrices
        for name in needed
    ):
        return None
    found = []
    for path in files.others:
        with reading(path):
            header = sniff_table(path, PROFILE_IDS.__contains__).header
        if {name.lower() for name in header} & set(PROFILE_IDS):
            found.append(path)
    if len(found) > 1:
        raise ValueError(
            f"Several tables in {files.where} may be that of the profiles: "
            f"{first_few([path.name for path in found])}. Pass one as metadata."
        )
    files.profiles += found
    return found[0] if found else None


def _as_paths(source: object) -> list[Path]:
    entries = source if isinstance(source, (list, tuple)) else [source]
    roots = []
    for entry in entries:
        if not isinstance(entry, (str, PathLike)):
            raise TypeError(
                "folder must be a path or a list of paths. "
                f"Got an entry of type {type(entry).__name__}."
            )
        roots.append(Path(entry))
        if not roots[-1].exists():
            raise FileNotFoundError(f"No such file or folder: {str(entry)!r}.")
    return roots


def _is_unnamed_matrix(path: Path, level: int) -> bool:
    if path.is_dir() or not _is_named(path, r"\.(gctx?(\.gz)?|h5ad)$"):
        return False
    named = re.search(r"level_?(\d)", path.name, re.IGNORECASE)
    if named and int(named[1]) != level:
        raise ValueError(f"{str(path)!r} is of level {named[1]}. Got level={level}.")
    return named is None


# ----------------------------------------------------------------- matrices and genes


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
    open_kind = {"h5ad": _open_h5ad, "gctx": _open_hdf5, "gct": _open_text}
    return [open_kind[_kind_of(path)](path) for path in paths]


def h5ad_files(matrices: Sequence["Matrix"], layer: str | None) -> list[Path]:
    """Return those of AnnData; all must be, where a layer is asked for."""
    others = [str(m.path) for m in matrices if _kind_of(m.path) != "h5ad"]
    if layer is not None and others:
        raise ValueError(
            "layer must be None for GCT and GCTX files, which have no layers: "
            f"{first_few(others)}. Got {layer!r}."
        )
    return [m.path for m in matrices if _kind_of(m.path) == "h5ad"]


def _open_h5ad(path: Path) -> Matrix:
    obs, var = read_h5ad_tables(path, needed_by="load_lincs")
    ids = encode_ids(obs.index.astype(str))
    obs = obs.loc[:, [name for name in obs if is_known(str(name))]]
    return Matrix(path, ids, obs.reset_index(drop=True), var)


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


def choose_genes(
    matrices: Sequence[Matrix],
    files: FoundFiles,
    *,
    landmark_only: bool,
    gene_order: str,
) -> tuple[pd.DataFrame, list[NDArray[np.intp]]]:
    """Choose the genes that every matrix has, and say where each matrix has them.

    Returns ``gene_id``, ``symbol`` and, where known, ``is_landmark``, and for each
    matrix the position of each of these genes. It is an error if a gene has no Entrez
    id or stands twice in a matrix, or landmarks are asked for and not known.
    """
    tables = [
        standard_genes(read_table(path, ("gene_id", "pr_gene_id")))
        for path in files.genes
    ]
    inner = [_genes_of(matrix, tables) for matrix in matrices]
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
    shared = common_genes([place.index for place in places], "matrix", stacklevel=4)
    _warn_of_genes(known, pd.concat([*inner])["gene_id"], bool(tables), stacklevel=3)
    if gene_order == "entrez":
        shared = shared.sort_values()
    genes = pd.DataFrame({"gene_id": shared})
    genes["symbol"] = known["symbol"].reindex(shared).to_numpy(object)
    if landmark_only or len(landmarks):
        genes["is_landmark"] = landmark_only | shared.isin(landmarks)
    return genes, [place.loc[shared].to_numpy() for place in places]


def _warn_of_genes(
    known: pd.DataFrame, there: pd.Series, has_tables: bool, *, stacklevel: int
) -> None:
    """Warn of landmarks that no matrix has, and of genes that no table knows."""
    absent = known[(known["is_landmark"] == 1) & ~known.index.isin(there)]
    told = []
    if len(absent):
        n_landmarks = int((known["is_landmark"] == 1).sum())
        names = [f"{i:.0f} ({symbol})" for i, symbol in absent["symbol"].items()]
        told.append(
            f"{len(absent):,} of {n_landmarks:,} landmark genes are in no matrix: "
            f"{first_few(names, write=str)}"
        )
    strange = there[~there.isin(known.index[known["is_landmark"].notna()])].dropna()
    if has_tables and len(known) and len(strange):
        shown = first_few((f"{i:.0f}" for i in strange.unique()), write=str)
        told.append(
            f"{strange.nunique():,} genes of the matrices are in no table of genes, "
            f"and count as inferred: {shown}"
        )
    for text in told:
        warnings.warn(f"{text}.", DataWarning, stacklevel=stacklevel + 2)


def _genes_of(matrix: Matrix, tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the genes of a matrix, with the Entrez ids of those that have a symbol.

    Of a symbol, or an Ensembl id, the tables of genes know it, or the human genome's.
    """
    genes = standard_genes(matrix.genes)
    ids, symbols = (name_genes(genes)[name] for name in ("gene_id", "symbol"))
    lost = ids.isna().to_numpy()
    genes = genes.assign(gene_id=ids)
    if not lost.any():
        return genes
    names = symbols.where(symbols.notna(), genes.index.astype(str))[lost]
    check_no_row_numbers(names, f"{str(matrix.path)!r}: the rows of genes")
    known = pd.concat(tables) if tables else pd.DataFrame({"gene_id": [], "symbol": []})
    known = known.dropna(subset="gene_id").groupby("gene_id").first().reset_index()
    matched = match_genes(names, known if len(known) else ["none"])
    found = pd.to_numeric(matched["gene_id"]).to_numpy(np.float64)
    filled = ids.to_numpy(np.float64, copy=True)
    filled[lost] = found
    genes = genes.assign(gene_id=filled)
    odd = matched[np.isfinite(found) & ~matched["how"].str.contains(PLAIN_NAMES)]
    if len(odd):
        read = [f"{e} as {i}" for e, i in odd[["entry", "gene_id"]].to_numpy()]
        warnings.warn(
            f"{str(matrix.path)!r}: genes of earlier names, or that were dates, are "
            f"read by their Entrez ids: {first_few(read, write=str, n=10)}.",
            DataWarning,
            stacklevel=5,
        )
    return genes


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
            "neither as its name nor in a column gene_id or pr_gene_id, and no known "
            "symbol."
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
    missing: str,
    layer: str | None = None,
) -> None:
    """Read profiles into `out`, and of each matrix no more than these.

    `rows` are their numbers, ascending, over all matrices in their order;
    `gene_positions` has for each matrix the position of each gene.
    """
    for matrix, genes, (own, place) in zip(
        matrices, gene_positions, _by_matrix(matrices, rows), strict=True
    ):
        part = out[place]
        if not len(own):
            continue
        kind = _kind_of(matrix.path)
        if kind == "gct":
            data = read_gct(matrix.path, samples=own, genes=genes, missing=missing)
            part[...] = data.matrix
        else:
            if kind == "gctx":
                read_gctx_values(
                    matrix.path, own, genes, part, progress=progress, n_jobs=n_jobs
                )
            else:
                shape = len(matrix.ids), len(matrix.genes)
                part[...] = read_h5ad_values(
                    *(matrix.path, shape), needed_by="load_lincs", layer=layer, rows=own
                )[:, genes]
            check_values(
                part,
                missing,
                where=str(matrix.path),
                names=partial(_names_in, matrix, own, genes),
            )


def _names_in(
    matrix: Matrix, rows: NDArray[np.intp], columns: NDArray[np.intp]
) -> tuple[pd.Index, pd.Index]:
    return decode_ids(matrix.ids[rows]), matrix.genes.index[columns]


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


def _kind_of(path: Path) -> str:
    suffix = path.suffix.lower()
    return suffix[1:] if suffix in (".gctx", ".h5ad") else "gct"
