"""What is known of each profile, joined from tables that are read in pieces."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge.datasets._columns import (
    PROFILE_IDS,
    QUANTITIES,
    TEXTS,
    coded_texts,
    combine_compounds,
    index_by_key,
    quantity,
    read_table,
    standard_obs,
    table_parts,
)
from sklearn_molge.datasets._lincs._matrices import FoundFiles, Matrix
from sklearn_molge.datasets._lincs._profile_ids import ProfileIds, encode_ids

__all__ = ["profile_table"]


class _Columns:
    """Our columns for n profiles: filled by layers, of which the first one counts.

    A text is a number into the vocabulary of its column: a release has millions of
    profiles, and few distinct values.
    """

    def __init__(self, n: int):
        self.n = n
        self._codes: dict[str, NDArray[np.int32]] = {}
        self._vocabulary: dict[str, dict[str, int]] = {name: {} for name in TEXTS}
        self._numbers: dict[str, NDArray[np.float64]] = {}

    def fill(self, rows: NDArray[np.intp] | slice, table: pd.DataFrame) -> None:
        """Fill what is not yet known of `rows`, each named once, from a table."""
        for name, sources in TEXTS.items():
            for source in sources:
                if source in table:
                    self.fill_text(name, rows, *coded_texts(table[source], name))
        for name, sources in QUANTITIES.items():
            for source in sources:
                if source in table:
                    self._fill_number(name, rows, quantity(table, source, name))

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
        self, name: str, rows: NDArray[np.intp] | slice, new: NDArray[np.float64]
    ) -> None:
        if name not in self._numbers:
            self._numbers[name] = np.full(self.n, np.nan)
        old = self._numbers[name][rows]
        self._numbers[name][rows] = np.where(np.isnan(old), new, old)

    def fill_compounds(self, compounds: pd.DataFrame) -> None:
        """Fill by ``pert_id`` what a table of compounds knows."""
        perts = list(self._vocabulary["pert_id"])
        codes = self._codes.get("pert_id", np.full(self.n, -1, dtype=np.int32))
        for name in compounds:
            known = compounds[name].reindex(perts).to_numpy(object)
            texts = [None if pd.isna(text) else text for text in known]
            self.fill_text(str(name), slice(None), codes, texts)

    def frame(self) -> pd.DataFrame:
        """Return the columns, texts as categories; what was filled is given up."""
        columns: dict[str, object] = {}
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
        _fill_layer(columns, ids, _metadata_parts(metadata), "metadata")
    if files.profiles:
        parts = (
            part for path in files.profiles for part in table_parts(path, PROFILE_IDS)
        )
        _fill_layer(columns, ids, parts, _names(files.profiles))
    first = 0
    for matrix in matrices:
        columns.fill(slice(first, first + len(matrix.ids)), matrix.obs)
        first += len(matrix.ids)
    if files.compounds:
        columns.fill_compounds(
            combine_compounds(
                standard_obs(read_table(path, ("pert_id",))) for path in files.compounds
            )
        )
    obs = columns.frame()
    _check_known(obs, files)
    return obs


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
    if not isinstance(metadata, pd.DataFrame):
        yield from table_parts(metadata, PROFILE_IDS)
    elif metadata.columns.isin(PROFILE_IDS).any():
        yield index_by_key(metadata, PROFILE_IDS, "metadata")
    else:
        yield metadata


def _fill_layer(
    columns: _Columns, ids: ProfileIds, parts: Iterable[pd.DataFrame], name: str
) -> None:
    """Fill from the rows of a table that are about our profiles, each id once."""
    seen = np.zeros(len(ids), dtype=bool)
    n_repeated, first_repeated = 0, ""
    for part in parts:
        rows = ids.find(encode_ids(part.index))
        known = np.flatnonzero(rows >= 0)
        rows = rows[known]
        new = ~seen[rows] & ~pd.Series(rows).duplicated().to_numpy()
        seen[rows] = True
        if not new.all():
            n_repeated += int((~new).sum())
            first_repeated = first_repeated or part.index[known[~new][0]]
        columns.fill(rows[new], part.iloc[known[new]])
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
            stacklevel=6,
        )


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
