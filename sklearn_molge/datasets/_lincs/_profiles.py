"""What is known of each profile, joined from tables that are read in pieces."""

import re
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._columns import (
    PROFILE_IDS,
    TEXTS,
    combine_compounds,
    read_inchi,
    standard_obs,
)
from sklearn_molge.datasets._lincs._matrices import FoundFiles, Matrix
from sklearn_molge.datasets._lincs._profile_ids import ProfileIds, encode_ids
from sklearn_molge.datasets._quantities import QUANTITIES, Readings, quantity
from sklearn_molge.datasets._tables import index_by_key, read_table, table_parts
from sklearn_molge.datasets._texts import as_frame, clean, coded_texts, unify_case
from sklearn_molge.exceptions import DataWarning

__all__ = ["profile_table"]

# Of the profiles: where fewer have a row in the tables, these belong to other data.
LEAST_SHARE = 0.1
# BRD-K12345678-001-02-3 is a batch of BRD-K12345678.
BATCH = re.compile(r"(brd-[a-z]?\d+)-\d{3}-\d{2}-\d+")


class _Columns:
    """Our columns for n profiles: filled by layers, of which the first one counts.

    A text is a number into the vocabulary of its column: a release has millions of
    profiles, and few distinct values.
    """

    def __init__(self, n: int):
        self.n = n
        self._codes: dict[str, NDArray[np.int32]] = {}
        self._vocabulary: dict[str, dict[str, int]] = {
            name: {} for name in [*TEXTS, *(f"{name}_note" for name in QUANTITIES)]
        }
        self._numbers: dict[str, NDArray[np.float64]] = {}

    def fill(self, rows: NDArray[np.intp] | slice, table: pd.DataFrame) -> None:
        """Fill what is not yet known of `rows`, each named once, from a table."""
        for name, sources in TEXTS.items():
            for source in sources:
                if source in table:
                    self.fill_text(name, rows, *coded_texts(table[source], name))
        for name in QUANTITIES:
            read = quantity(table, name)
            if read is not None:
                self._fill_number(name, rows, read)

    def fill_text(
        self,
        name: str,
        rows: NDArray[np.intp] | slice,
        codes: NDArray[np.integer],
        texts: Iterable[str | None],
    ) -> None:
        """Fill a column of texts; a code of -1, and None, is a missing value."""
        vocabulary = self._vocabulary[name]
        ours = [
            -1 if text is None else vocabulary.setdefault(text, len(vocabulary))
            for text in texts
        ]
        new = np.array([*ours, -1], dtype=np.int32)[codes]
        if name not in self._codes:
            self._codes[name] = np.full(self.n, -1, dtype=np.int32)
        old = self._codes[name][rows]
        self._codes[name][rows] = np.where(old < 0, new, old)

    def _fill_number(
        self, name: str, rows: NDArray[np.intp] | slice, read: Readings
    ) -> None:
        if name not in self._numbers:
            self._numbers[name] = np.full(self.n, np.nan)
        old = self._numbers[name][rows]
        known = np.isnan(old) & ~np.isnan(read.values)
        note = f"{name}_note"
        if known.any() and note in self._codes:  # why an earlier layer had no value
            self._codes[note][rows] = np.where(known, -1, self._codes[note][rows])
        codes = np.where(np.isnan(old), read.codes, -1)
        self.fill_text(note, rows, codes, read.notes)
        self._numbers[name][rows] = np.where(known, read.values, old)

    def fill_compounds(self, compounds: pd.DataFrame, stacklevel: int) -> None:
        """Fill by ``pert_id`` what a table of compounds knows."""
        perts = list(self._vocabulary["pert_id"])
        codes = self._codes.get("pert_id", np.full(self.n, -1, dtype=np.int32))
        rows = _find_perts(perts, compounds, stacklevel=stacklevel + 1)
        for name in compounds:
            known = np.append(compounds[name].to_numpy(object), np.nan)[rows]
            texts = [None if pd.isna(text) else text for text in known]
            self.fill_text(str(name), slice(None), codes, texts)

    def unify_lines(self, stacklevel: int) -> None:
        """Take cell lines whose names differ by case only for one."""
        lines = self._vocabulary["cell_line"]
        codes = self._codes.get("cell_line", np.empty(0, dtype=np.int32))
        counts = np.bincount(codes[codes >= 0], minlength=len(lines))
        same = unify_case(list(lines), counts.tolist())
        for old, new in same.items():
            codes[codes == lines[old]] = lines[new]
        if same:
            told = [f"{old!r} is read as {new!r}" for old, new in same.items()]
            warnings.warn(
                f"Cell lines whose names differ by upper and lower case only are one: "
                f"{first_few(told, write=str, n=5)}.",
                DataWarning,
                stacklevel=stacklevel + 1,
            )

    def _convert_inchi(self) -> None:
        """Write structures that are InChI as SMILES."""
        texts = np.array(list(self._vocabulary["smiles"]), dtype=object)
        numbers, distinct = pd.factorize(read_inchi(texts))
        if len(texts) and (distinct != texts[: len(distinct)]).any():
            codes = self._codes["smiles"]
            self._codes["smiles"] = np.append(numbers, -1)[codes].astype(np.int32)
            self._vocabulary["smiles"] = {text: i for i, text in enumerate(distinct)}

    def frame(self) -> pd.DataFrame:
        """Return the columns, texts as categories; what was filled is given up."""
        columns: dict[str, object] = {}
        self._convert_inchi()
        for name, vocabulary in self._vocabulary.items():
            codes = self._codes.pop(name, np.full(self.n, -1, dtype=np.int8))
            distinct = pd.Index(list(vocabulary), dtype=object)
            columns[name] = pd.Categorical.from_codes(codes, categories=distinct)
        for name in QUANTITIES:
            columns[name] = self._numbers.pop(name, np.full(self.n, np.nan))
        return pd.DataFrame(columns, copy=False)


def profile_table(
    matrices: Sequence[Matrix],
    files: FoundFiles,
    metadata: str | PathLike[str] | pd.DataFrame | None,
) -> pd.DataFrame:
    """Join all that is known of each profile.

    Returns one row a profile, numbered in the order of the matrices: our columns
    without ``drug``, and ``smiles``; texts are categories. It is an error if a profile
    stands twice, a table fits no profile, or nothing says of what kind the profiles
    are, of which line, or of which molecule.
    """
    ids = ProfileIds(np.concatenate([matrix.ids for matrix in matrices]))
    repeated = ids.repeated()
    if len(repeated):
        _raise_ambiguous(matrices, ids, repeated)
    columns = _Columns(len(ids))
    if metadata is not None:
        _fill_layer(
            columns, ids, partial(_metadata_parts, metadata), "metadata", stacklevel=5
        )
    has_row = np.zeros(len(ids), dtype=bool)
    if files.profiles:
        has_row = _fill_layer(
            columns,
            ids,
            lambda: chain.from_iterable(
                table_parts(path, PROFILE_IDS) for path in files.profiles
            ),
            _names(files.profiles),
            stacklevel=5,
        )
    first = 0
    for matrix in matrices:
        columns.fill(slice(first, first + len(matrix.ids)), matrix.obs)
        first += len(matrix.ids)
    if files.compounds:
        tables = (
            standard_obs(read_table(path, ("pert_id",))) for path in files.compounds
        )
        columns.fill_compounds(combine_compounds(tables, stacklevel=4), stacklevel=4)
    columns.unify_lines(stacklevel=4)
    obs = columns.frame()
    _check_known(obs, files)
    if files.profiles:
        bare = ~has_row & obs["pert_type"].isna().to_numpy()
        _check_share(ids, np.flatnonzero(bare), _names(files.profiles), stacklevel=4)
    return obs


def _check_share(
    ids: ProfileIds, bare: NDArray[np.intp], name: str, *, stacklevel: int
) -> None:
    """Tell of profiles that no table knows; refuse where these are most."""
    if not len(bare):
        return
    shown = first_few((i.decode() for i in ids.ids[bare[:6]]), n=5)
    told = f"{len(bare):,} of {len(ids):,} profiles have no row in {name}: {shown}"
    if len(bare) > (1 - LEAST_SHARE) * len(ids):
        raise ValueError(
            f"{told}. Where fewer than {LEAST_SHARE:.0%} have one, table and matrix do "
            "not belong together; if they do, pass a matrix of these profiles only."
        )
    warnings.warn(f"{told}. They are left out.", DataWarning, stacklevel=stacklevel + 1)


def _key(pert_id: str) -> str:
    """Return what different spellings of a ``pert_id`` have in common."""
    lower = clean(pert_id).casefold()
    batch = BATCH.fullmatch(lower)
    return batch[1] if batch else lower


def _find_perts(
    perts: Sequence[str], compounds: pd.DataFrame, *, stacklevel: int
) -> NDArray[np.intp]:
    """Return the row of each ``pert_id``, by its name or else by `_key`; -1: none."""
    rows = compounds.index.get_indexer(pd.Index(perts, dtype=object))
    lost = np.flatnonzero(rows < 0).tolist()
    if not lost:
        return rows
    keys = pd.Index([_key(str(label)) for label in compounds.index], dtype=object)
    known = compounds["smiles"].to_numpy(object)
    by_key: dict[str, int] = {}
    for row, key in enumerate(keys):
        by_key.setdefault(key, row)
    found = np.array([by_key.get(_key(perts[i]), -1) for i in lost])
    used = keys[found[found >= 0]]
    several = {key for key in used.unique() if len({*known[keys == key]} - {None}) > 1}
    found[[i >= 0 and keys[i] in several for i in found]] = -1
    rows[lost] = found
    taken = [
        f"{perts[i]!r} is {compounds.index[rows[i]]!r}" for i in lost if rows[i] >= 0
    ]
    told = []
    if taken:
        told.append(
            f"{len(taken):,} of {len(perts):,} pert_ids are in the tables of compounds "
            f"in another spelling only: {first_few(taken, write=str, n=5)}"
        )
    if several:
        told.append(
            f"{len(several):,} pert_ids are there in other spellings with different "
            f"structures, of which none is taken: {first_few(sorted(several), n=5)}"
        )
    for text in told:
        warnings.warn(f"{text}.", DataWarning, stacklevel=stacklevel + 1)
    return rows


def _raise_ambiguous(
    matrices: Sequence[Matrix], ids: ProfileIds, repeated: NDArray[np.intp]
) -> None:
    ends = np.cumsum([len(matrix.ids) for matrix in matrices])
    places = [
        matrices[i].path.name
        for i in np.unique(np.searchsorted(ends, repeated, side="right"))
    ]
    texts = pd.Index(ids.ids[repeated].astype(object))
    again = texts[texts.duplicated()]
    raise ValueError(
        f"{again.nunique():,} profiles stand twice, {again[0].decode()!r} for one, in "
        f"{', '.join(places)}. Pass as `folder` the list of files to use."
    )


def _metadata_parts(
    metadata: str | PathLike[str] | pd.DataFrame,
) -> Iterator[pd.DataFrame]:
    if isinstance(metadata, (str, PathLike)):
        yield from table_parts(metadata, PROFILE_IDS)
        return
    table = as_frame(metadata, "metadata")
    if table.columns.isin(PROFILE_IDS).any():
        yield index_by_key(table, PROFILE_IDS, "metadata")
    else:
        yield table.set_axis([clean(label) for label in table.index], axis=0)


def _fill_layer(
    columns: _Columns,
    ids: ProfileIds,
    parts: Callable[[], Iterable[pd.DataFrame]],
    name: str,
    *,
    stacklevel: int,
) -> NDArray[np.bool_]:
    """Fill from the rows of a table that are about our profiles, each id once.

    Where ids are left on both sides, those are matched without blanks, quotation marks
    and case. Returns which profiles have a row.
    """
    seen = np.zeros(len(ids), dtype=bool)
    n_repeated, n_strange, first_repeated = 0, 0, ""
    for part in parts():
        rows = ids.find(encode_ids(part.index))
        known = np.flatnonzero(rows >= 0)
        n_strange += len(rows) - len(known)
        rows = rows[known]
        new = ~seen[rows] & ~pd.Series(rows).duplicated().to_numpy()
        seen[rows] = True
        if not new.all():
            n_repeated += int((~new).sum())
            first_repeated = first_repeated or part.index[known[~new][0]]
        columns.fill(rows[new], part.iloc[known[new]])
    if n_strange and not seen.all():
        _fill_by_folded(columns, ids, seen, parts(), name, stacklevel=stacklevel + 1)
    if not seen.any():
        raise ValueError(
            f"{name}: no row is about a profile of the matrices, whose ids are like "
            f"{ids.ids[0].decode()!r}."
        )
    if n_repeated:
        warnings.warn(
            f"{name}: {n_repeated:,} rows repeat the id of an earlier row, "
            f"{first_repeated!r} for one; the first row counts.",
            UserWarning,
            stacklevel=stacklevel + 1,
        )
    return seen


def _fill_by_folded(
    columns: _Columns,
    ids: ProfileIds,
    seen: NDArray[np.bool_],
    parts: Iterable[pd.DataFrame],
    name: str,
    *,
    stacklevel: int,
) -> None:
    """Fill what no row is about by its exact id; `seen` is brought up to date."""
    left = np.flatnonzero(~seen)
    folded = ProfileIds(_folded(i.decode() for i in ids.ids[left].tolist()))
    if len(folded.repeated()):
        return
    told = []
    for part in parts:
        strange = np.flatnonzero(ids.find(encode_ids(part.index)) < 0)
        rows = folded.find(_folded(part.index[strange]))
        known = np.flatnonzero(rows >= 0)
        rows = left[rows[known]]
        new = ~seen[rows] & ~pd.Series(rows).duplicated().to_numpy()
        seen[rows] = True
        chosen = strange[known[new]]
        columns.fill(rows[new], part.iloc[chosen])
        told += list(zip(part.index[chosen], ids.ids[rows[new]], strict=True))
    if told:
        shown = [f"{there!r} is {ours.decode()!r}" for there, ours in told]
        warnings.warn(
            f"{name}: {len(told):,} ids are those of profiles in another spelling: "
            f"{first_few(shown, write=str, n=5)}.",
            DataWarning,
            stacklevel=stacklevel + 1,
        )


def _folded(texts: Iterable[str]) -> NDArray[np.bytes_]:
    return encode_ids([clean(text).casefold() for text in texts])


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
            hint = ""
            if name == "pert_type" and any(p.suffix == ".h5ad" for p in files.matrices):
                hint = " Study.from_anndata takes profiles without one for treated."
            raise ValueError(
                f"No profile has a {name}: not inside {_names(files.matrices)}, nor in "
                f"`metadata`, nor in a table named like {pattern} in {files.where} "
                f"(found {_names(tables) or 'none'}).{hint}"
            )
