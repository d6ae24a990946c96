"""Wells on plates: robust z-scores within each plate."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from sklearn_molge._utils.messages import first_few

__all__ = ["check_plates", "check_wells", "zscore_wells"]

# A normal distribution's standard deviation over its median absolute deviation.
SD_PER_MAD = 1.4826
MIN_WELLS = 2
Wells = tuple[NDArray[np.floating], NDArray[np.object_]]


def check_plates(plates: ArrayLike, name: str) -> NDArray[np.object_]:
    """Return the plates as a 1-D array, without a missing one."""
    array = np.asarray(plates, dtype=object)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D. Got an array of shape {array.shape}.")
    missing = np.flatnonzero(pd.isna(array))
    if missing.size:
        raise ValueError(
            f"{name} must name a plate for every well. Missing at "
            f"{first_few(missing.tolist())}."
        )
    return array


def check_wells(ge: ArrayLike, plates: ArrayLike, prefix: str) -> Wells:
    """Return profiles and plates as arrays of one length; `prefix` is for errors."""
    names = check_plates(plates, f"{prefix}plates")
    values = check_array(ge, dtype=[np.float64, np.float32], input_name=f"{prefix}ge")
    if len(values) != len(names):
        raise ValueError(
            f"{prefix}ge and {prefix}plates must have one row per well. "
            f"Got {len(values)} and {len(names)} rows."
        )
    return values, names


def zscore_wells(
    targets: Sequence[Wells],
    population: Sequence[Wells],
    *,
    what: str,
    min_mad: float,
    clip: float | None,
) -> list[NDArray[np.floating]]:
    """Score the wells of `targets` against those of `population`, plate by plate.

    `what` says what the population consists of, for the error.
    """
    plates = pd.unique(np.concatenate([names for _, names in targets]))
    reference = [_rows_by_plate(names, plates) for _, names in population]
    scored = [_rows_by_plate(names, plates) for _, names in targets]
    counts = [sum(map(len, rows)) for rows in zip(*reference, strict=True)]
    _check_enough(counts, plates, what)
    scores = [np.empty_like(values) for values, _ in targets]
    for place in range(len(plates)):
        wells = np.concatenate(
            [
                values[rows[place]].astype(np.float64)
                for (values, _), rows in zip(population, reference, strict=True)
            ]
        )
        median = np.median(wells, axis=0)
        mad = np.median(np.abs(wells - median), axis=0)
        scale = SD_PER_MAD * np.maximum(mad, min_mad)
        for (values, _), rows, z in zip(targets, scored, scores, strict=True):
            block = (values[rows[place]] - median) / scale
            z[rows[place]] = block if clip is None else block.clip(-clip, clip)
    return scores


def _check_enough(
    counts: Sequence[int], plates: NDArray[np.object_], what: str
) -> None:
    few = [f"{p!r}: {n}" for p, n in zip(plates, counts, strict=True) if n < MIN_WELLS]
    if few:
        raise ValueError(
            f"Every plate must have at least {MIN_WELLS} {what} to be scored against. "
            f"Got {first_few(few, write=str)}."
        )


def _rows_by_plate(
    names: NDArray[np.object_], plates: NDArray[np.object_]
) -> list[NDArray[np.intp]]:
    """Return the rows on each of `plates`; those on others are left out."""
    codes = pd.Index(plates).get_indexer(pd.Index(names))
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(plates) + 1))
    return [order[a:b] for a, b in pairwise(starts)]
