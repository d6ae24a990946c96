"""A study as an AnnData object and as its file (.h5ad), and back."""

from __future__ import annotations

import mmap
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._files.hdf5 import Hdf5File, open_hdf5, seal
from sklearn_molge._files.hdf5_seal import SEAL_ATTRIBUTE
from sklearn_molge._files.hdf5_writing import writing_hdf5
from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replacing
from sklearn_molge._utils.genes import check_no_row_numbers
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.optional import import_optional
from sklearn_molge.datasets._columns import (
    CONTROL_COLUMNS,
    GENES,
    OBS_COLUMNS,
    TEXTS,
    check_each_once,
    name_genes,
    standard_genes,
    standard_obs,
)
from sklearn_molge.datasets._exact_tables import (
    check_exact,
    check_names,
    describe_table,
    has_default_index,
    join_tables,
    restore_table,
)
from sklearn_molge.datasets._formats._values import check_values, warn_of_scale
from sklearn_molge.datasets._quantities import QUANTITIES
from sklearn_molge.datasets._selection import Funnel, as_tuple, keep_molecules
from sklearn_molge.datasets._texts import unify_case
from sklearn_molge.exceptions import CorruptFileError, DataWarning
from sklearn_molge.expression import match_genes
from sklearn_molge.molecules import IDENTITY_VERSION

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = [
    "anndata_to_parts",
    "read_study_parts",
    "study_to_anndata",
    "write_study",
]

MARK = "sklearn_molge"
# Where var keeps the index of `genes`, since its own holds the genes' names.
GENE_INDEX = "study_index"
BLOCK_BYTES = 2**24
# A matrix up to here is compared with its checksum though it is mapped: it takes 10 ms.
COMPARED_BYTES = 2**24
# Of every object in the file, so that the mapped matrix starts at a cache line.
ALIGNMENT = 64
ARRAY_ATTRIBUTES = {"encoding-type": "array", "encoding-version": "0.2.0"}


# ------------------------------------------------------------------ to AnnData


def study_to_anndata(study) -> AnnData:
    """Put treated profiles, then control wells, in one AnnData object."""
    anndata = _import_anndata("to_anndata")
    obs, var, mark = _study_tables(study)
    return anndata.AnnData(X=_joint_matrix(study), obs=obs, var=var, uns={MARK: mark})


def _study_tables(study) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Return obs and var of the AnnData object, and what undoes their making."""
    mark: dict = {
        "obs": describe_table(study.obs),
        "genes": describe_table(study.genes),
        "identity_version": IDENTITY_VERSION,
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


def _joint_matrix(study) -> NDArray[np.float32]:
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


# ---------------------------------------------------------------- from AnnData


def anndata_to_parts(
    adata: AnnData,
    *,
    layer: str | None,
    columns: Mapping[str, str] | None,
    var_columns: Mapping[str, str] | None,
    genes: pd.DataFrame | None,
    level: int | None,
    control_types: str | Sequence[str],
    on_bad_smiles: str,
    missing: str,
) -> dict:
    """Take an AnnData object apart into the arguments of Study."""
    X, where = _matrix_of(adata, layer)
    if MARK in adata.uns and columns is None is var_columns and genes is None:
        own = _own_parts(adata.obs, adata.var, adata.uns[MARK], X)
        _tell_old_drugs(adata.uns[MARK], where="adata")
        _check_parts(own, missing, adata.var_names, where)
        return own if level is None else own | {"level": level}
    table = adata.obs
    _check_mapping("columns", columns, [*TEXTS, *QUANTITIES], "obs", table)
    _check_mapping("var_columns", var_columns, GENES, "var", adata.var)
    chosen = {ours: adata.var[theirs] for ours, theirs in (var_columns or {}).items()}
    var = adata.var.assign(**chosen)
    obs = _unify_lines(standard_obs(table, columns))
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
    funnel.tell_quantities(stacklevel=4)
    keep_molecules(funnel, on_bad_smiles, stacklevel=4)
    gene_columns, gene_table = _align_genes(var, genes, adata.obs_names)
    funnel.identify(stacklevel=4)
    treated = funnel.obs
    parts: dict = {
        "smiles": treated["smiles"].to_numpy(object),
        "ge": _values(X, treated["position"].to_numpy(), gene_columns),
        "obs": treated[OBS_COLUMNS],
        "genes": gene_table,
        "level": _level_in(adata.uns.get(MARK, {})) if level is None else level,
    }
    if is_control.any():
        parts["control_ge"] = _values(X, is_control, gene_columns)
        parts["control_obs"] = obs.loc[is_control, CONTROL_COLUMNS]
    _check_parts(
        parts,
        missing,
        adata.var_names if gene_columns is None else adata.var_names[gene_columns],
        where,
    )
    names = first_few(adata.layers)
    hint = f" adata.X was read; adata.layers has {names}: name one by layer."
    warn_of_scale(
        parts["ge"],
        parts["level"],
        where="adata",
        stacklevel=3,
        hint=lambda: hint if names and layer is None else "",
    )
    if missing == "nan":
        funnel.tell_missing(*(parts[n] for n in ("ge", "control_ge") if n in parts))
    return parts | {"dropped": funnel.report()}


def _unify_lines(obs: pd.DataFrame) -> pd.DataFrame:
    """Warn of profiles of one name, and take lines that differ by case for one."""
    repeated = obs.index[obs.index.duplicated()]
    if len(repeated):
        _warn(
            f"{len(repeated):,} obs_names of adata repeat an earlier one: "
            f"{first_few(repeated.unique(), n=5)}"
        )
    counts = obs["cell_line"].value_counts()
    same = unify_case(list(counts.index), counts.tolist())
    if not same:
        return obs
    told = [f"{old!r} is read as {new!r}" for old, new in same.items()]
    _warn(
        "Cell lines whose names differ by upper and lower case only are one: "
        f"{first_few(told, write=str, n=5)}"
    )
    return obs.assign(cell_line=obs["cell_line"].replace(same))


def _warn(text: str) -> None:
    warnings.warn(f"{text}.", DataWarning, stacklevel=6)


def _matrix_of(adata: AnnData, layer: str | None):
    """Return the matrix with the profiles, and what it is called."""
    layers = ", ".join(map(repr, adata.layers)) or "none"
    if layer is not None:
        if layer not in adata.layers:
            raise ValueError(
                f"layer must be one of adata.layers (there are: {layers}). "
                f"Got {layer!r}."
            )
        return adata.layers[layer], f"adata.layers[{layer!r}]"
    if adata.X is None:
        raise ValueError(
            "adata.X is None: a study needs the profiles there. Name one of "
            f"adata.layers (there are: {layers}) by layer."
        )
    return adata.X, "adata.X"


def _check_mapping(
    parameter: str,
    mapping: Mapping[str, str] | None,
    known: Iterable[str],
    side: str,
    table: pd.DataFrame,
) -> None:
    """Check the user's names of columns."""
    for ours, theirs in (mapping or {}).items():
        if ours not in known:
            raise ValueError(
                f"{parameter} must have keys among {', '.join(known)}. Got {ours!r}."
            )
        if theirs not in table:
            raise ValueError(
                f"{parameter} maps {ours!r} to {theirs!r}, which adata.{side} lacks. "
                f"It has {', '.join(map(str, table.columns))}."
            )


def _check_parts(parts: dict, missing: str, genes: pd.Index, where: str) -> None:
    """Check the values of treated profiles and controls."""
    for name, table in (("ge", "obs"), ("control_ge", "control_obs")):
        if parts.get(name) is not None:
            parts[name] = check_values(
                parts[name],
                missing,
                where=where if name == "ge" else f"{where} of controls",
                names=partial(_names_of, parts[table].index, genes),
                copy=True,
            )


def _names_of(samples: pd.Index, genes: pd.Index) -> tuple[pd.Index, pd.Index]:
    return samples, genes


def _own_parts(obs: pd.DataFrame, var: pd.DataFrame, mark: Mapping, X) -> dict:
    """Undo `_study_tables`: return the arguments of Study."""
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


def _tell_old_drugs(mark: Mapping, *, where: str) -> None:
    """Warn where the drugs were named by another version of `drug_ids`."""
    version = int(mark.get("identity_version", 1))
    if version != IDENTITY_VERSION:
        warnings.warn(
            f"{where}: its drugs were named by version {version} of drug_ids, and this "
            f"release has version {IDENTITY_VERSION}: rows of one drug may have two "
            "names, and a split may tear them apart. Unless the names are your own, "
            "name them anew: study.obs = study.obs.assign("
            "drug=drug_ids(study.smiles)), then study = study[:].",
            DataWarning,
            stacklevel=5,
        )


def _own_gene_table(var: pd.DataFrame) -> pd.DataFrame:
    if GENE_INDEX in var:
        return var.set_axis(pd.Index(var[GENE_INDEX].to_numpy(dtype=object)), axis=0)
    return var.set_axis(pd.RangeIndex(len(var)), axis=0)


def _level_in(mark: Mapping) -> int | None:
    level = mark.get("level")
    return None if level is None else int(level)


def _values(
    X, rows: NDArray, columns: NDArray[np.intp] | None = None
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
    var: pd.DataFrame, genes: pd.DataFrame | None, samples: pd.Index
) -> tuple[NDArray[np.intp] | None, pd.DataFrame]:
    """Say which columns of the matrix to take (None: all), and what genes they are."""
    there = name_genes(standard_genes(var))
    key = "gene_id" if there["gene_id"].notna().all() else "symbol"
    if genes is None:
        _check_names(var, there, key)
        return None, _known_columns(there)
    named = pd.Index(there[key].dropna())
    check_each_once(named, f"adata must have genes of different {key}")
    positions = _positions_of(genes, there, var.index)
    found = positions >= 0
    if not found.any():
        turned = (match_genes(samples.astype(str), genes)["column"] >= 0).any()
        hint = " adata.obs_names has some: pass adata.T." if turned else ""
        raise ValueError(
            f"No gene of `genes` is in adata.var. `genes` has "
            f"{first_few(_shown_genes(genes), n=5)}; adata.var_names has "
            f"{first_few(var.index, n=5)}, with columns "
            f"{first_few(var.columns, n=10) or 'none'}.{hint}"
        )
    if not found.all():
        left_out = _shown_genes(genes[~found])
        warnings.warn(
            f"{len(left_out):,} of {len(genes):,} genes are not in adata and are left "
            f"out: {first_few(left_out, write=str)}.",
            UserWarning,
            stacklevel=5,
        )
    return positions[found], genes[found].reset_index(drop=True)


def _positions_of(
    genes: pd.DataFrame, there: pd.DataFrame, names: pd.Index
) -> NDArray[np.intp]:
    """Return the column of adata with each of the genes, -1 where there is none."""
    ids = there["gene_id"].astype(object)
    entries = ids.where(ids.notna(), there["symbol"])
    entries = entries.where(entries.notna(), names.to_numpy())
    check_no_row_numbers(entries, "adata.var_names", known=genes.iloc[:, 0])
    matched = match_genes(entries, genes)
    matched = matched[matched["column"] >= 0]
    repeated = matched[matched.duplicated("column", keep=False)]
    if len(repeated):
        raise ValueError(
            "adata must have each gene in one column. More than once: "
            f"{first_few(repeated['entry'])}."
        )
    renamed = matched[matched["how"] != "name"]
    if len(renamed):
        read = zip(
            renamed["entry"], _shown_genes(genes.iloc[renamed["column"]]), strict=True
        )
        _warn(
            f"{len(renamed):,} genes of adata have another name in `genes`: "
            f"{first_few(read, write=lambda pair: f'{pair[0]} is {pair[1]}', n=10)}"
        )
    positions = np.full(len(genes), -1, dtype=np.intp)
    positions[matched["column"]] = matched.index
    return positions


def _shown_genes(genes: pd.DataFrame) -> pd.Series:
    if not {"gene_id", "symbol"} <= set(genes.columns):
        return genes.iloc[:, 0].astype(str)
    return genes["gene_id"].astype(str) + " (" + genes["symbol"].astype(str) + ")"


def _check_names(var: pd.DataFrame, genes: pd.DataFrame, key: str) -> None:
    """Refuse a gene in two columns; warn of genes that have no name."""
    repeated = genes.loc[genes[key].notna() & genes[key].duplicated(), key]
    if len(repeated):
        raise ValueError(
            f"adata must have genes of different {key}. More than once: "
            f"{first_few(repeated.unique())}."
        )
    n_bare = int((genes["gene_id"].isna() & genes["symbol"].isna()).sum())
    if n_bare:
        warnings.warn(
            f"{n_bare:,} of {len(genes):,} genes of adata have neither an Entrez id "
            f"nor a symbol, by which profiles are aligned: adata.var_names has "
            f"{first_few(var.index, n=5)}. Give adata.var a column gene_id or symbol.",
            DataWarning,
            stacklevel=6,
        )


def _known_columns(genes: pd.DataFrame) -> pd.DataFrame:
    genes = genes.dropna(axis="columns", how="all").reset_index(drop=True)
    types = {"gene_id": np.int64, "is_landmark": bool}
    there = [name for name in types if name in genes]
    unknown = [name for name in there if genes[name].isna().any()]
    genes = genes.drop(columns=unknown)
    return genes.astype({name: types[name] for name in there if name in genes})


# -------------------------------------------------------------------- the file


def write_study(study, path: str | os.PathLike[str]) -> None:
    """Write the file beside `path`, and give it its name when it is complete."""
    anndata = _import_anndata("Study.save")
    obs, var, mark = _checked_tables(study)
    with warnings.catch_warnings():
        # A study may hold a profile twice.
        warnings.filterwarnings("ignore", ".*names are not unique", UserWarning)
        tables = anndata.AnnData(obs=obs, var=var, uns={MARK: mark})
    aligned = {"alignment_threshold": 1, "alignment_interval": ALIGNMENT}
    with replacing(path) as draft:
        with writing_hdf5(draft, **aligned) as (file, check):
            anndata.io.write_elem(file, "/", tables)
            check()
            _write_matrix(file, study, check)
            file.attrs[SEAL_ATTRIBUTE] = True
        seal(draft, "X")


def _checked_tables(study) -> tuple[pd.DataFrame, pd.DataFrame, dict]:
    """Return the tables to write; raise where they would not come back as they are."""
    given = {
        name: table
        for name in ("obs", "genes", "control_obs", "dropped")
        if (table := getattr(study, name)) is not None
    }
    for name, table in given.items():
        check_names(name, table)
    for name in ("ge", "control_ge"):
        table = given.get("obs" if name == "ge" else "control_obs")
        shape = np.shape(getattr(study, name))
        if table is not None and shape != (len(table), len(study.genes)):
            raise ValueError(
                f"{name} must be of shape ({len(table)}, {len(study.genes)}), as the "
                f"tables of the study are. Got shape {shape}."
            )
    obs, var, mark = _study_tables(study)
    restored = _own_parts(obs, var, mark, np.empty((len(obs), 0), dtype=np.float32))
    written: dict = {"genes": var, "dropped": mark.get("dropped")}
    for name, table in given.items():
        check_exact(name, table, written.get(name, obs), restored[name])
    return obs, var, mark


def _write_matrix(file: h5py.File, study, check: Callable[[], None]) -> None:
    """Stream treated, then control profiles into one array in one piece."""
    parts = [study.ge] if study.control_ge is None else [study.ge, study.control_ge]
    n_genes = len(study.genes)
    shape = sum(map(len, parts)), n_genes
    matrix = file.create_dataset("X", shape, dtype=np.float32)
    matrix.attrs.update(ARRAY_ATTRIBUTES)
    step = max(BLOCK_BYTES // max(4 * n_genes, 1), 1)
    row = 0
    for part in parts:
        for start in range(0, len(part), step):
            block = np.asarray(part[start : start + step], dtype=np.float32)
            matrix[row : row + len(block)] = block
            check()
            row += len(block)


def read_study_parts(path: str | os.PathLike[str], *, mmap_mode: str | None) -> dict:
    """Return the arguments of Study from a file that `write_study` wrote."""
    anndata = _import_anndata("Study.load")
    parts = "X", "obs", "var", f"uns/{MARK}"
    with open_hdf5(path, *parts) as file:
        mark = _read(file, f"uns/{MARK}", anndata)
        obs, var = (_read(file, name, anndata) for name in ("obs", "var"))
        X = _matrix(file, (len(obs), len(var)), mmap_mode)
    told = f"the tables and the part 'uns/{MARK}', which describes them"
    with reading(path, told):
        own = _own_parts(obs, var, mark, X)
        _tell_old_drugs(mark, where=os.fspath(path))
    return own


def _read(file: Hdf5File, part: str, anndata):
    if part not in file.parts:
        raise CorruptFileError(
            file.filename,
            f"part {part!r}",
            "it is not there: the file was not written by Study.save. A file of "
            "AnnData's becomes a study by Study.from_anndata(anndata.read_h5ad(path))",
        )
    file.check_values(part)
    with reading(file.filename, f"part {part!r}"):
        return anndata.io.read_elem(file[part])


def _matrix(file: Hdf5File, shape: tuple[int, int], mode: str | None) -> NDArray:
    stored = file.stored.get("X")
    if stored is None or stored.shape != shape:
        raise CorruptFileError(
            file.filename,
            "part 'X'",
            f"it must be an array of shape {shape}, one row for each of obs and one "
            f"column for each of var. Got {stored and stored.shape}",
        )
    is_whole = mode is None or 0 in shape
    if is_whole or stored.chunk_bytes <= COMPARED_BYTES:
        file.check_matrix()
    if is_whole:
        file.check_values("X")
        with reading(file.filename, "part 'X'"):
            values = file["X"][...].astype(np.float32, copy=False)
            if not file.is_sealed:
                _check_unsealed(values, file.filename)
        return values
    if file["X"].dtype != np.float32 or stored.chunks or not len(stored.places):
        raise ValueError(
            f"{file.filename}: part 'X' is compressed, in chunks or not float32, and "
            "cannot be memory-mapped. Pass mmap_mode=None, or save it by Study.save."
        )
    offset = file.userblock_size + int(stored.places[0, 0])
    if mode == "r":
        return np.memmap(file.filename, np.float32, "r", offset, shape)
    with open(file.filename, "rb") as handle:
        pages = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
    # Not a numpy.memmap: joblib's workers would open the file and miss what changed.
    values = np.frombuffer(memoryview(pages), np.float32, shape[0] * shape[1], offset)
    return values.reshape(shape)


def _check_unsealed(values: NDArray, path: str) -> None:
    """Look at values that no checksum vouches for."""
    if np.isinf(values).any():
        raise ValueError(f"{np.isinf(values).sum():,} values are infinite")
    n_missing = int(np.isnan(values).sum())
    if n_missing:
        warnings.warn(
            f"{path}: {n_missing:,} of {values.size:,} values of X are missing (NaN), "
            "and estimators refuse them.",
            DataWarning,
            stacklevel=2,
        )


def _import_anndata(needed_by: str):
    return import_optional("anndata", extra="anndata", needed_by=needed_by)
