"""Checks of ranks and of numbers of candidates."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._utils.messages import first_few_at

__all__ = ["check_n_candidates", "check_ranks"]


def check_ranks(
    ranks: ArrayLike, *, n_candidates: int | None = None, name: str = "ranks"
) -> NDArray[np.float64]:
    """Return ranks as floats; refuse what cannot be the rank of a molecule."""
    array = np.asarray(ranks)
    if array.dtype.kind not in "biuf":
        array = _as_floats(array, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D. Got an array of shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one rank. Got none.")
    array = array.astype(np.float64)
    upper = np.inf if n_candidates is None else n_candidates
    # Written so that NaN is outside, too.
    outside = np.flatnonzero(~((array >= 1) & (array <= upper) & np.isfinite(array)))
    if outside.size:
        limit = "finite" if n_candidates is None else f"<= n_candidates={n_candidates}"
        raise ValueError(
            f"{name} must be >= 1 (1 is the best) and {limit}; NaN is no rank. "
            f"{outside.size} of {array.size} are not: "
            f"{first_few_at(outside, array[outside], write='{:g}'.format, n=5)}."
        )
    return array


def _as_floats(array: NDArray, name: str) -> NDArray[np.float64]:
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must hold numbers: {error}. Got {array!r}.") from None


def check_n_candidates(n_candidates: ArrayLike) -> NDArray[np.int64]:
    """Return one number of candidates, or one for each query, as an array."""
    sizes = np.atleast_1d(np.asarray(n_candidates))
    integral = sizes.ndim == 1 and np.issubdtype(sizes.dtype, np.integer)
    if not integral or sizes.size == 0 or sizes.min() < 1:
        raise ValueError(
            "n_candidates must be an int >= 1, or one for each query. "
            f"Got {n_candidates!r}."
        )
    return sizes.astype(np.int64)
