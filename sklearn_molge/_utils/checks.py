"""Checks of arrays, of ranks and of numbers of candidates."""

import re
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_consistent_length

from sklearn_molge._utils.messages import first_few, first_few_at, shortened

__all__ = [
    "check_finite",
    "check_n_candidates",
    "check_named",
    "check_ranks",
    "check_same_rows",
]

T = TypeVar("T")


def check_named(check: Callable[..., T], X, /, *, name: str, **options) -> T:
    """Check an array by a function of scikit-learn, with errors that name it.

    Refused before are the arrays that it would take for numbers by leaving something
    out: what a mask hides, and the unit of times.

    Raises
    ------
    ValueError, TypeError
        Of the check, with `name` in its words.
    """
    _refuse_no_numbers(X, name)
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # of sums, to find NaN
            return check(X, **options)
    except (TypeError, ValueError, OverflowError) as error:
        if re.search(rf"\b{re.escape(name)}\b", str(error)):
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}{_first_no_number(X)}") from error


def _refuse_no_numbers(X, name):
    if np.ma.isMaskedArray(X) and np.ma.is_masked(X):
        raise ValueError(
            f"{name} has {np.ma.count_masked(X):,} masked values of {X.size:,}: fill "
            "them, or leave their rows out."
        )
    is_frame = hasattr(X, "columns") and hasattr(X, "dtypes")
    dtypes = list(X.dtypes) if is_frame else [getattr(X, "dtype", None)]
    kinds = {getattr(dtype, "kind", "") for dtype in dtypes}
    if "c" in kinds:
        raise ValueError(f"{name}: Complex data not supported.")
    if kinds & {"m", "M"}:
        raise TypeError(f"{name} must hold numbers. Got dates or times.")


def _first_no_number(X) -> str:
    """Say where the first entry of objects lies that is no number."""
    try:
        array = np.asarray(X, dtype=object)
    except ValueError:
        return " Its rows have different lengths."
    if array.ndim != 2:
        return ""
    for place, entry in np.ndenumerate(array):
        try:
            float(entry)
        except (TypeError, ValueError, OverflowError):
            row, column = place
            got = shortened(entry if isinstance(entry, str) else repr(entry)[:100])
            return f" Row {row}, column {column} is {got}."
    return ""


def check_same_rows(**views) -> None:
    """Check that arrays, given by their names, have the same number of rows."""
    try:
        check_consistent_length(*views.values())
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{' and '.join(views)} must have the same number of rows: {error}"
        ) from None


def check_finite(result: NDArray, *, name: str, of: str) -> NDArray:
    """Return what was computed; refuse it where its numbers have overflowed."""
    if np.isfinite(result).all():
        return result
    rows = np.flatnonzero(~np.isfinite(result).all(axis=1))
    raise ValueError(
        f"{name} has values too large, or too small, for {result.dtype}: {of} of "
        f"{len(rows):,} of {len(result):,} rows is no finite number, first row "
        f"{rows[0]}. Scale {name}."
    )


def check_ranks(
    ranks: ArrayLike, *, n_candidates: int | None = None, name: str = "ranks"
) -> NDArray[np.float64]:
    """Return ranks as floats; refuse what cannot be the rank of a molecule."""
    _refuse_no_numbers(ranks, name)
    array = _as_floats(ranks, name)
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D. Got an array of shape {array.shape}.")
    if array.size == 0:
        raise ValueError(f"{name} must hold at least one rank. Got none.")
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


def _as_floats(values: ArrayLike, name: str) -> NDArray[np.float64]:
    try:
        return np.asarray(values).astype(np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{name} must hold numbers: {error}. Got {values!r}."
        ) from None


def check_n_candidates(n_candidates: ArrayLike) -> NDArray[np.int64]:
    """Return one number of candidates, or one for each query, as an array."""
    sizes = np.atleast_1d(np.asarray(n_candidates))
    integral = sizes.ndim == 1 and np.issubdtype(sizes.dtype, np.integer)
    if not integral or sizes.size == 0 or sizes.min() < 1:
        got = first_few(sizes.ravel()) if sizes.size > 1 else repr(n_candidates)
        raise ValueError(
            f"n_candidates must be an int >= 1, or one for each query. Got {got}."
        )
    return sizes.astype(np.int64)
