"""load_signatures: a table of profiles and a table of what they are, as a study."""

import os
import warnings
from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.genes import check_no_row_numbers
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge.datasets._columns import (
    OBS_COLUMNS,
    PROFILE_IDS,
    TEXTS,
    name_genes,
    standard_genes,
    standard_obs,
)
from sklearn_molge.datasets._profile_files import read_profiles
from sklearn_molge.datasets._quantities import QUANTITIES
from sklearn_molge.datasets._selection import Funnel, keep_molecules
from sklearn_molge.datasets._study import Study
from sklearn_molge.datasets._tables import read_table
from sklearn_molge.datasets._texts import as_frame, clean_texts
from sklearn_molge.exceptions import DataWarning

__all__ = ["load_signatures"]

IDS = (*PROFILE_IDS, "id")
# What tables of signatures call our columns, beside the names of the releases.
ALSO = {"cell_line": "cell", "pert_name": "name"}
# Marks of what is missing: "mixed" is of a profile of several doses or times.
NO_LINE = {"?", "unknown"}
NO_VALUE = {*NO_LINE, "mixed", "various"}
UNKNOWN_LINE = "unknown"


@validate_params(
    {
        "profiles": [str, os.PathLike, pd.DataFrame],
        "obs": "no_validation",
        "source": [str, None],
        "columns": [Mapping, None],
        "mixed_lines": ["array-like"],
        "level": [Interval(Integral, 3, 5, closed="both"), None],
        "on_bad_smiles": [StrOptions({"drop", "raise"})],
        "min_readable": [Interval(Real, 0, 1, closed="both")],
    },
    prefer_skip_nested_validation=True,
)
def load_signatures(
    profiles: str | os.PathLike[str] | pd.DataFrame,
    obs: str | os.PathLike[str] | pd.DataFrame,
    *,
    source: str | None = None,
    columns: Mapping[str, str] | None = None,
    mixed_lines: Sequence[str] = ("consensus", "mixed"),
    level: int | None = None,
    on_bad_smiles: str = "drop",
    min_readable: float = 0.5,
) -> Study:
    """Make a study of a table of signatures and a table of what each of them is.

    For public profiles in other forms than a LINCS release, and for one's own.

    Parameters
    ----------
    profiles : path-like or DataFrame of shape (n_profiles, n_genes)
        The signatures: a file of any kind that :func:`read_profiles` knows (a table of
        text, GCT, GCTX, ``.h5ad``, or numpy's ``.npz`` with ``X`` and ``gene_id``),
        or what it returns: a data frame with a row a profile, and columns named by
        Entrez ids or symbols. NaN is a gene that was not measured.
    obs : path-like or DataFrame of n_profiles rows
        One row a profile, with a column of SMILES. A table of text, or a data frame,
        with columns as in :meth:`Study.from_anndata`; ``cell`` and ``name`` are known
        as well. Rows are found by the ids of the profiles (``sig_id``, ``id``, or a
        data frame's index); in the order of the profiles where one of the two has no
        ids, as an ``.npz``, unless both have the same index in another order.
    source : str, default=None
        Name of the source, for ``obs["source"]``. None takes the column ``source`` of
        `obs` where it has one.
    columns : mapping, default=None
        Our name of a column (or ``smiles``) to its name in `obs`, for what is named
        otherwise; not ``drug``, which is computed.
    mixed_lines : list of str, default=("consensus", "mixed")
        Entries in the place of a cell line that stand for several lines, in upper or
        lower case. They get ``covered_lines`` "*", and so do profiles without a line,
        which is "unknown".
    level : int, default=None
        Level of the LINCS data; None for data of another kind.
    on_bad_smiles : {"drop", "raise"}, default="drop"
        What to do with profiles without a readable SMILES: leave them out, or raise.
    min_readable : float, default=0.5
        Smallest share of the profiles (0 to 1) that must have a readable SMILES.

    Returns
    -------
    study : Study
        Genes as in `profiles`. `dropped` counts what was left out, and says which
        values are missing.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    CorruptFileError
        If a file is damaged: with its part.
    ValueError
        If the rows of the two do not belong together, a column is missing, a gene has
        no name (numbers that only count the columns are none) or another's, a value is
        infinite, a row has no value at all, or fewer than `min_readable` of the
        profiles have a molecule.
    InvalidSmilesError
        If a SMILES is bad and ``on_bad_smiles="raise"``.

    Warns
    -----
    DataWarning
        If profiles have no readable SMILES, ids are in one of the two tables only or
        stand twice in `obs`, or a dose or time cannot be read.

    See Also
    --------
    join_studies : Put it beside other sources.
    load_lincs : For the layout of LINCS releases.
    read_profiles : Profiles alone.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.datasets import load_signatures
    >>> profiles = pd.DataFrame({"780": [1.5, -2.0], "5720": [0.5, None]})
    >>> obs = pd.DataFrame(
    ...     {"smiles": ["CCO", "CCN"], "cell": ["A375", "consensus"], "dose": "10 uM"}
    ... )
    >>> study = load_signatures(profiles, obs, source="ours")
    >>> study.obs[["cell_line", "dose_um", "covered_lines", "source"]].values.tolist()
    [['A375', 10.0, 'A375', 'ours'], ['consensus', 10.0, '*', 'ours']]
    """
    values, has_ids = _read_values(profiles)
    table, has_keys = _read_obs(obs)
    values, table = _matched(values, table, by_id=has_ids and has_keys)
    made = _our_columns(table, columns).assign(position=np.arange(len(table)))
    made["source"] = _sources(table, source)
    funnel = Funnel(made)
    funnel.tell_quantities(stacklevel=2)
    _keep_readable(funnel, on_bad_smiles, min_readable)
    funnel.identify(stacklevel=2)
    ge = values.to_numpy(np.float32)[funnel.obs["position"].to_numpy()]
    empty = funnel.obs.index[np.isnan(ge).all(axis=1)]
    if len(empty):
        raise ValueError(
            f"profiles must have values. Without any: {first_few(empty, n=5)}."
        )
    funnel.tell_missing(ge)
    lines = _lines(funnel.obs["cell_line"], mixed_lines)
    kept = [*OBS_COLUMNS, *(["source"] if made["source"].notna().any() else [])]
    return Study(
        funnel.obs["smiles"].to_numpy(object),
        ge=ge,
        obs=funnel.obs[kept].assign(**lines),
        genes=_genes(values.columns),
        level=level,
        dropped=funnel.report(),
    )


def _read_values(profiles) -> tuple[pd.DataFrame, bool]:
    """Return the profiles, and whether their rows have ids."""
    if not isinstance(profiles, pd.DataFrame):
        profiles = read_profiles(profiles, missing="nan")
    numbered = profiles.index.astype(str).tolist()
    largest = np.finfo(np.float32).max
    infinite = np.abs(profiles.to_numpy(np.float64)) > largest
    if infinite.any():
        row, column = np.argwhere(infinite)[0]
        raise ValueError(
            "profiles must be finite in single precision, or NaN. Got "
            f"{infinite.sum():,} infinite values, the first in row {numbered[row]}, "
            f"column {profiles.columns[column]}."
        )
    return profiles, numbered != [str(i) for i in range(len(profiles))]


def _read_obs(obs) -> tuple[pd.DataFrame, bool]:
    """Return the table of profiles by their ids, and whether it has ids."""
    if isinstance(obs, str | os.PathLike):
        others = (*ALSO.values(), "source", *TEXTS["smiles"], *TEXTS["cell_line"])
        table = read_table(obs, (*IDS, *others))
        obs = table.reset_index(drop=True)
    table = as_frame(obs, "obs")
    key = next((name for name in IDS if name in table), None)
    if key is not None:
        return table.set_axis(pd.Index(clean_texts(table[key]), dtype=object)), True
    return table, not isinstance(table.index, pd.RangeIndex)


def _matched(
    values: pd.DataFrame, table: pd.DataFrame, *, by_id: bool
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows that both tables have, in the order of the profiles."""
    ids = pd.Index(values.index.astype(str)).str.strip()
    keys = pd.Index(table.index.astype(str))
    # One may be numbered, and the other be sorted anew.
    same = ids.is_unique and sorted(ids) == sorted(keys)
    if not by_id and not same:
        if len(values) != len(table):
            raise ValueError(
                f"obs must have one row for each of the {len(values):,} profiles, "
                "which are matched by their order, since one of the two has no ids. "
                f"Got {len(table):,} rows."
            )
        again = table.index[table.index.duplicated()].unique()
        if len(again):
            warnings.warn(
                f"obs: profiles of one id: {first_few(again, n=5)}.",
                DataWarning,
                stacklevel=3,
            )
        return values, table
    for name, index in (("profiles", ids), ("obs", keys)):
        again = index[index.duplicated()].unique()
        if len(again):
            raise ValueError(
                f"{name} must have ids that differ. More than once: "
                f"{first_few(again, n=5)}."
            )
    places = keys.get_indexer(ids)
    found = places >= 0
    if not found.any():
        raise ValueError(
            f"No id of profiles, such as {first_few(ids, n=3)}, is in obs, which has "
            f"{first_few(keys, n=3)}."
        )
    alone = [*ids[~found], *keys[~keys.isin(ids)]]
    if alone:
        warnings.warn(
            f"{counted(len(alone), 'id')} of one table only, {first_few(alone, n=5)}: "
            f"{(~found).sum():,} profiles and {len(keys) - found.sum():,} rows of obs "
            "are left out.",
            DataWarning,
            stacklevel=3,
        )
    return values[found], table.iloc[places[found]]


def _our_columns(
    table: pd.DataFrame, columns: Mapping[str, str] | None
) -> pd.DataFrame:
    columns = dict(columns or {})
    for ours, theirs in columns.items():
        if ours not in {*TEXTS, *QUANTITIES} or theirs not in table:
            raise ValueError(
                f"columns must map one of {', '.join([*TEXTS, *QUANTITIES])} to a "
                f"column of obs, which has {', '.join(map(str, table.columns))}. "
                f"Got {ours!r}: {theirs!r}."
            )
    for ours, theirs in ALSO.items():
        if not {*TEXTS[ours]} & {*table.columns} and theirs in table:
            columns.setdefault(ours, theirs)
    lines = {columns.get("cell_line"), *TEXTS["cell_line"]}
    plain = table.copy(deep=False)
    for name in table.select_dtypes(exclude="number"):
        texts = table[name].astype(str).str.strip().str.lower()
        plain[name] = table[name].mask(
            texts.isin(NO_LINE if name in lines else NO_VALUE)
        )
    made = standard_obs(plain, columns)
    if made["smiles"].isna().all():
        raise ValueError(
            "No row of obs has a smiles: name its column in `columns`. It has "
            f"{', '.join(map(str, table.columns))}."
        )
    return made


def _sources(table: pd.DataFrame, source: str | None):
    if source is not None or "source" not in table:
        return np.full(len(table), np.nan if source is None else source, dtype=object)
    return clean_texts(table["source"])


def _keep_readable(funnel: Funnel, on_bad_smiles: str, min_readable: float) -> None:
    n_before = len(funnel.obs)
    keep_molecules(funnel, on_bad_smiles, stacklevel=3)
    share = len(funnel.obs) / n_before
    if share < min_readable:
        raise ValueError(
            f"{len(funnel.obs):,} of {n_before:,} profiles ({share:.0%}) have a "
            f"readable SMILES, fewer than min_readable={min_readable:g}."
        )


def _lines(column: pd.Series, mixed: Sequence[str]) -> dict[str, NDArray[np.object_]]:
    """Return cell lines, and what each of them covers."""
    lines = column.fillna(UNKNOWN_LINE).to_numpy(dtype=object)
    several = {str(line).lower() for line in (*mixed, UNKNOWN_LINE)}
    covered = [("*" if line.lower() in several else line) for line in lines]
    return {"cell_line": lines, "covered_lines": np.array(covered, dtype=object)}


def _genes(names: pd.Index) -> pd.DataFrame:
    """Return the table of genes that the columns name."""
    index = pd.Index([str(name) for name in names], dtype=object)
    check_no_row_numbers(index, "the columns of profiles")
    named = name_genes(standard_genes(pd.DataFrame(index=index)))
    for key in ("gene_id", "symbol"):
        column = named[key]
        if column.notna().all() and not column.duplicated().any():
            values = column.astype(np.int64) if key == "gene_id" else column
            return pd.DataFrame({key: values.to_numpy()})
    raise ValueError(
        "profiles must have columns named by Entrez ids or by symbols, each by "
        f"another. Got {first_few(index, n=5)}."
    )
