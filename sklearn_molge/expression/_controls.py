"""Controls of the same plate for every treated well."""

from itertools import pairwise

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_random_state

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge._utils.messages import first_few
from sklearn_molge.exceptions import MissingControlError

__all__ = ["Wells", "check_wells", "match_controls", "rows_by_plate"]

Wells = tuple[NDArray[np.floating], NDArray[np.object_]]


@validate_params(
    {
        "plates": ["array-like"],
        "control_ge": ["array-like"],
        "control_plates": ["array-like"],
        "how": [StrOptions({"mean", "median", "random"})],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def match_controls(
    plates: ArrayLike,
    control_ge: ArrayLike,
    control_plates: ArrayLike,
    *,
    how: str = "mean",
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.floating]:
    """Find a control profile on the same plate for each treated well.

    Parameters
    ----------
    plates : array-like of shape (n_treated,)
        Plate of each treated well.
    control_ge : array-like of shape (n_controls, n_genes)
        Profiles of the control wells (log2 intensities), without NaN.
    control_plates : array-like of shape (n_controls,)
        Plate of each control well.
    how : {"mean", "median", "random"}, default="mean"
        Mean or median of the controls of the plate, gene by gene, or one control well
        of the plate, drawn anew for each treated well. The paper's code draws one at
        random at every access, so that its results change from run to run.
    random_state : int, RandomState instance or None, default=None
        Draws the wells of ``how="random"``; pass an int for the same result each time.

    Returns
    -------
    matched : ndarray of shape (n_treated, n_genes)
        Control profile of each treated well, in the precision of `control_ge`.

    Raises
    ------
    MissingControlError
        If a plate has treated wells and no control; names every such plate.
    ValueError
        If an array has the wrong shape, or a plate is missing (None, NaN).

    Examples
    --------
    >>> from sklearn_molge.expression import match_controls
    >>> control_ge = [[1.0, 4.0], [3.0, 6.0], [8.0, 8.0]]
    >>> match_controls(["B", "A", "A"], control_ge, ["A", "A", "B"])
    array([[8., 8.],
           [2., 5.],
           [2., 5.]])
    """
    treated = _check_plates(plates, "plates")
    profiles, controls = check_wells(control_ge, control_plates, "control_")
    codes, names = pd.factorize(treated)
    wells = rows_by_plate(controls, names)
    counts = np.array([len(rows) for rows in wells], dtype=np.intp)
    if not counts.all():
        raise MissingControlError(names[counts == 0].tolist())
    if how == "random":
        draw = check_random_state(random_state).randint(counts[codes])
        order = np.concatenate(wells) if wells else codes
        return profiles[order[(np.cumsum(counts) - counts)[codes] + draw]]
    matched = np.empty((len(names), profiles.shape[1]), dtype=profiles.dtype)
    summary = np.mean if how == "mean" else np.median
    for row, rows in zip(matched, wells, strict=True):
        row[:] = summary(profiles[rows].astype(np.float64), axis=0)
    return matched[codes]


def _check_plates(plates: ArrayLike, name: str) -> NDArray[np.object_]:
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
    names = _check_plates(plates, f"{prefix}plates")
    values = check_array(ge, dtype=[np.float64, np.float32], input_name=f"{prefix}ge")
    if len(values) != len(names):
        raise ValueError(
            f"{prefix}ge and {prefix}plates must have one row per well. "
            f"Got {len(values)} and {len(names)} rows."
        )
    return values, names


def rows_by_plate(names: NDArray, plates: NDArray) -> list[NDArray[np.intp]]:
    """Return the rows on each of `plates`; those on others are left out."""
    codes = pd.Index(plates).get_indexer(pd.Index(names))
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(len(plates) + 1))
    return [order[a:b] for a, b in pairwise(starts)]
