"""The arguments of a study one level up."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._compat import Interval, validate_params
from sklearn_molge.datasets._tables import room_for_missing
from sklearn_molge.expression import ConsensusSignatures, consensus_signatures
from sklearn_molge.expression._controls import check_wells
from sklearn_molge.expression._robust_z import PARAMETERS, zscore_wells

if TYPE_CHECKING:
    from sklearn_molge.datasets._study import Study

__all__ = ["consensus_parts", "level4_parts"]

IDENTITY = ("drug", "cell_line")
CONDITION = (*IDENTITY, "dose_um", "time_h")


@validate_params(
    {"study": "no_validation", **PARAMETERS}, prefer_skip_nested_validation=True
)
def level4_parts(
    study: Study, *, against: str, min_mad: float, clip: float | None
) -> dict[str, Any]:
    """Score wells and controls against their plates."""
    if study.level != 3:
        raise ValueError(f"to_level4 needs a study of level 3. Got {study.level}.")
    if "plate" not in study.obs:
        raise ValueError("to_level4 needs a column 'plate' in obs. Got none.")
    wells = [check_wells(study.ge, study.obs["plate"].to_numpy(dtype=object), "")]
    if study.control_ge is not None and study.control_obs is not None:
        plates = study.control_obs["plate"].to_numpy(dtype=object)
        wells.append(check_wells(study.control_ge, plates, "control_"))
    elif against == "controls":
        raise ValueError('against="controls" needs controls, and the study has none.')
    population, what = (wells, "wells")
    if against == "controls":
        population, what = (wells[1:], "control wells")
    scores = zscore_wells(wells, population, what=what, min_mad=min_mad, clip=clip)
    return {
        "smiles": study.smiles,
        "ge": scores[0],
        "obs": study.obs,
        "genes": study.genes,
        "control_ge": scores[1] if len(scores) > 1 else None,
        "control_obs": study.control_obs,
        "level": 4,
        "dropped": study.dropped,
    }


@validate_params(
    {
        "study": "no_validation",
        "by": [str, "array-like", None],
        "min_replicates": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=False,  # consensus_signatures checks `options`
)
def consensus_parts(
    study: Study,
    *,
    by: str | Sequence[str] | None,
    min_replicates: int,
    **options: Any,
) -> dict[str, Any]:
    """Combine the replicates of each condition; `options` are the signatures'."""
    if study.level == 3:
        raise ValueError(
            "consensus needs z-scores, and the study is of level 3: "
            "study.to_level4().consensus()."
        )
    columns = _condition(study.obs, by)
    labels = study.obs[columns].to_numpy(dtype=object)
    kept = _with_enough(study.obs, columns, min_replicates)
    made = consensus_signatures(
        study.ge if len(kept) == len(labels) else study.ge[kept],
        labels[kept],
        landmarks=_landmarks(study.genes),
        **options,
    )
    obs = _reduced_obs(study.obs.iloc[kept], made, columns)
    first = kept[np.unique(made.group_of, return_index=True)[1]]
    return {
        "smiles": study.smiles[first],
        "ge": made.signatures,
        "obs": obs,
        "genes": study.genes,
        "level": None if study.level is None else 5,
        "dropped": _account(
            study, len(kept), len(obs), min_replicates, columns, options
        ),
    }


def _condition(obs: pd.DataFrame, by: str | Sequence[str] | None) -> list[str]:
    if by is None:
        return [name for name in CONDITION if name in IDENTITY or name in obs]
    columns = [by] if isinstance(by, str) else list(by)
    missing = [name for name in columns if name not in obs]
    if missing or not columns:
        raise ValueError(
            f"by must name one or more columns of obs. Got {by!r}; "
            f"obs has {', '.join(map(str, obs.columns))}."
        )
    return columns


def _landmarks(genes: pd.DataFrame) -> NDArray[np.bool_] | None:
    """Return the landmark genes, None where they are not known."""
    if "is_landmark" not in genes:
        return None
    column = genes["is_landmark"]
    missing = int(column.isna().sum())  # as a boolean, NaN would be true
    mask = np.zeros(len(column), bool) if missing else column.to_numpy(dtype=bool)
    if mask.sum() < 2:
        raise ValueError(
            "genes['is_landmark'] must be true or false for every gene, and true for "
            f"two or more. Got {f'{missing} missing' if missing else mask.sum()}."
        )
    return mask


def _with_enough(
    obs: pd.DataFrame, columns: list[str], min_replicates: int
) -> NDArray[np.intp]:
    """Return the rows of conditions with enough replicates."""
    sizes = obs.groupby(columns, dropna=False, observed=True)[columns[0]].transform(
        "size"
    )
    kept = np.flatnonzero(sizes.to_numpy() >= min_replicates)
    if not len(kept):
        raise ValueError(
            f"No condition ({', '.join(columns)}) has min_replicates={min_replicates} "
            f"profiles; the largest has {sizes.max() if len(sizes) else 0}."
        )
    return kept


def _reduced_obs(
    obs: pd.DataFrame, made: ConsensusSignatures, columns: list[str]
) -> pd.DataFrame:
    """Return one row a condition."""
    first = np.unique(made.group_of, return_index=True)[1]
    reduced = {}
    for name, column in obs.items():
        same = _is_constant(column, made.group_of, first)
        if name in IDENTITY and not same.all():
            example = first[np.flatnonzero(~same)[0]]
            raise ValueError(
                f"The profiles of a condition must have one {name}: add {name!r} to "
                f"`by`. Got several where {', '.join(columns)} is "
                f"{', '.join(map(str, obs[columns].iloc[example]))}."
            )
        reduced[name] = _reduce_column(column, made.group_of, first, same)
    table = pd.DataFrame(reduced)
    groups = pd.Series(made.group_of)
    ids = obs.index.astype(str).to_series(index=groups.index)
    table["replicates"] = ids.groupby(groups).agg("|".join).to_numpy(dtype=object)
    if np.isnan(made.weights).any():
        table["weights"] = np.full(len(table), np.nan, dtype=object)
    else:
        weights = pd.Series([f"{weight:.3f}" for weight in made.weights], dtype=object)
        table["weights"] = weights.groupby(groups).agg("|".join).to_numpy(dtype=object)
    for name, values in made.quality.items():
        table[name] = values.to_numpy()
    labels = obs[columns].iloc[first].itertuples(index=False)
    return table.set_axis(
        pd.Index([":".join(map(_text, row)) for row in labels]), axis=0
    )


def _text(value: Any) -> str:
    """Spell a label; two different numbers never alike."""
    if isinstance(value, float):
        return np.format_float_positional(value, trim="-")
    return str(value)


def _is_constant(
    column: pd.Series, group_of: NDArray[np.intp], first: NDArray[np.intp]
) -> NDArray[np.bool_]:
    codes, _ = pd.factorize(column, use_na_sentinel=False)
    differs = codes != codes[first][group_of]
    return np.bincount(group_of, weights=differs) == 0


def _reduce_column(
    column: pd.Series,
    group_of: NDArray[np.intp],
    first: NDArray[np.intp],
    same: NDArray[np.bool_],
) -> Any:
    """Return the common value of each group, else all texts, else a missing value."""
    values = column.iloc[first].reset_index(drop=True)
    if same.all():
        return values.array
    texts = column.astype(object).reset_index(drop=True)
    if not texts.dropna().map(lambda value: isinstance(value, str)).all():
        return room_for_missing(values).where(same).array
    there = texts[~same[group_of]].dropna()
    joined = there.groupby(group_of[there.index]).agg(lambda v: "|".join(v.unique()))
    values = values.astype(object)
    values[joined.index] = joined
    return values.array


def _account(
    study: Study,
    n_kept: int,
    n_left: int,
    min_replicates: int,
    columns: list[str],
    options: dict[str, Any],
) -> pd.DataFrame:
    """Go on with the study's account of what was left out."""
    names = ["step", "n_dropped", "n_left", "detail"]
    n_profiles = len(study)
    n_controls = 0 if study.control_ge is None else len(study.control_ge)
    steps: list[tuple[str, int, int, str]] = []
    if study.dropped is None:
        steps.append(("in the study", 0, n_profiles, ""))
    detail = f"conditions with fewer than {min_replicates} profiles"
    steps.append(("min_replicates", n_profiles - n_kept, n_kept, detail))
    detail = (
        f"{options['how']} of {n_kept:,} profiles by {', '.join(columns)}; "
        f"{n_controls:,} controls left out"
    )
    steps.append(("consensus", n_kept - n_left, n_left, detail))
    table = pd.DataFrame(steps, columns=names)
    return (
        table
        if study.dropped is None
        else pd.concat([study.dropped, table], ignore_index=True)
    )
