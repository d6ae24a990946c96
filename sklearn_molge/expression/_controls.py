"""Controls of the same plate for every treated well."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array, check_random_state

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge._utils.plates import check_plates
from sklearn_molge.exceptions import MissingControlError

__all__ = ["match_controls"]


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
    treated = check_plates(plates, "plates")
    controls = check_plates(control_plates, "control_plates")
    profiles = check_array(
        control_ge, dtype=[np.float64, np.float32], input_name="control_ge"
    )
    if len(profiles) != len(controls):
        raise ValueError(
            "control_ge and control_plates must have one row per well. "
            f"Got {len(profiles)} and {len(controls)} rows."
        )
    codes, names = pd.factorize(treated)
    control_codes = pd.Index(names).get_indexer(pd.Index(controls))
    counts = np.bincount(control_codes[control_codes >= 0], minlength=len(names))
    if not counts.all():
        raise MissingControlError(names[counts == 0].tolist())
    # Control wells in blocks of one plate; those of other plates (-1) come first.
    order = np.argsort(control_codes, kind="stable")[len(controls) - counts.sum() :]
    ends = np.cumsum(counts)
    if how == "random":
        draw = check_random_state(random_state).randint(counts[codes])
        return profiles[order[(ends - counts)[codes] + draw]]
    matched = np.empty((len(names), profiles.shape[1]), dtype=profiles.dtype)
    summary = np.mean if how == "mean" else np.median
    for row, end, count in zip(matched, ends, counts, strict=True):
        wells = profiles[order[end - count : end]].astype(np.float64)
        row[:] = summary(wells, axis=0)
    return matched[codes]
