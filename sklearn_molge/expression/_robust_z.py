"""From Level 3 to Level 4: robust z-scores within each plate."""

from __future__ import annotations

from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.genes import check_same_columns
from sklearn_molge._utils.plates import check_wells, zscore_wells

__all__ = ["robust_zscore"]


@validate_params(
    {
        "ge": ["array-like"],
        "plates": ["array-like"],
        "control_ge": ["array-like", None],
        "control_plates": ["array-like", None],
        "against": [StrOptions({"plate", "controls"})],
        "min_mad": [Interval(Real, 0, None, closed="neither")],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
    },
    prefer_skip_nested_validation=True,
)
def robust_zscore(
    ge: ArrayLike,
    plates: ArrayLike,
    *,
    control_ge: ArrayLike | None = None,
    control_plates: ArrayLike | None = None,
    against: str = "plate",
    min_mad: float = 0.1,
    clip: float | None = None,
) -> NDArray[np.floating]:
    r"""Score each well, gene by gene, against the wells of its plate.

    This makes Level 4 of Level 3:

    .. math:: z = \frac{x - \mathrm{median}}{1.4826 \, \max(\mathrm{MAD}, m)}

    with median and median absolute deviation (MAD) of a gene over the reference wells
    of the plate, and :math:`m` = `min_mad`.

    Parameters
    ----------
    ge : array-like of shape (n_wells, n_genes)
        Profiles of the treated wells (log2 intensities), without NaN.
    plates : array-like of shape (n_wells,)
        Plate of each of these wells.
    control_ge : array-like of shape (n_controls, n_genes), default=None
        Profiles of the control wells.
    control_plates : array-like of shape (n_controls,), default=None
        Plate of each control well; goes with `control_ge`.
    against : {"plate", "controls"}, default="plate"
        The reference wells: all wells of the plate, treated and controls (CMap's
        Level 4, ZSPC: most compounds do little, so that the population stands for no
        effect), or the control wells alone (ZSVC).
    min_mad : float, default=0.1
        Smallest MAD to divide by (log2 intensity, > 0): a gene that hardly varies on
        a plate would get huge scores.
    clip : float, default=None
        Limit of the absolute scores; CMap clips at 10 when it computes Level 5, not
        before.

    Returns
    -------
    z : ndarray of shape (n_wells, n_genes)
        z-scores, in the precision of `ge`.

    Raises
    ------
    ValueError
        If a plate has fewer than two reference wells (names the plates), an array has
        the wrong shape, or a plate is missing.

    See Also
    --------
    consensus_signatures : Combine the replicates: from Level 4 to Level 5.
    sklearn_molge.datasets.Study.to_level4 : The same on a study.

    Notes
    -----
    The constant and `min_mad` are those of ``robust_zscore`` in cmapPy [1]_ and cmapM.
    The population is all wells of the plate, whatever they were treated with, as in
    LINCS's own files (``zmad_ref_well: all``). With it, the released scores of two real
    plates are reproduced to 0.0005 (one file up to a constant shift). Without the
    plate's positive controls, the median well correlates with its released scores by
    0.999. cmapM can use the first percentile of a plate's MADs as `min_mad` where that
    is larger; the released files were made without it.

    References
    ----------
    .. [1] O. M. Enache et al., "The GCTx format and cmap{Py, R, M, J} packages",
       Bioinformatics 35 (2019) 1427.
    .. [2] A. Subramanian et al., "A Next Generation Connectivity Map: L1000 Platform
       and the First 1,000,000 Profiles", Cell 171 (2017) 1437.

    Examples
    --------
    >>> from sklearn_molge.expression import robust_zscore
    >>> ge = [[7.0], [8.0], [9.0], [12.0]]
    >>> robust_zscore(ge, ["A"] * 4).round(3)
    array([[-1.012],
           [-0.337],
           [ 0.337],
           [ 2.361]])
    >>> controls = [[7.0], [8.0], [9.0]]
    >>> robust_zscore(
    ...     ge, ["A"] * 4, control_ge=controls, control_plates=["A"] * 3,
    ...     against="controls",
    ... ).round(3)
    array([[-0.674],
           [ 0.   ],
           [ 0.674],
           [ 2.698]])
    """
    if (control_ge is None) != (control_plates is None):
        missing = "control_ge" if control_ge is None else "control_plates"
        raise ValueError(
            f"control_ge and control_plates must be given together. Got {missing}=None."
        )
    treated = check_wells(ge, plates, "")
    population = [treated]
    if control_ge is not None and control_plates is not None:
        check_same_columns(ge, control_ge, names=("ge", "control_ge"))
        controls = check_wells(control_ge, control_plates, "control_")
        if controls[0].shape[1] != treated[0].shape[1]:
            raise ValueError(
                "ge and control_ge must have the same genes. "
                f"Got {treated[0].shape[1]} and {controls[0].shape[1]} columns."
            )
        population = [treated, controls] if against == "plate" else [controls]
    elif against == "controls":
        raise ValueError(
            'against="controls" needs control_ge and control_plates. Got None.'
        )
    what = "wells" if against == "plate" else "control wells"
    return zscore_wells([treated], population, what=what, min_mad=min_mad, clip=clip)[0]
