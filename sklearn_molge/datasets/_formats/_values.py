"""What a matrix of profiles may hold: finite values, missing ones where allowed."""

import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray

from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._texts import is_missing
from sklearn_molge.exceptions import DataWarning

__all__ = [
    "MISSING_OPTIONS",
    "NUMBER",
    "check_values",
    "describe_missing",
    "parse_numbers",
    "warn_of_scale",
]

MISSING_OPTIONS = {"raise", "nan"}
# LINCS's mark for a missing value; no log2 intensity and no z-score is so low.
MARK = -666
BLOCK_BYTES = 2**22
N_SHOWN = 5
NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
BLANKS = " \t\xa0\ufeff\u200b"
# Values that are looked at to tell z-scores from intensities, and the fewest that tell.
N_LOOKED_AT = 2**18
FEWEST = 500
# log2 of a 16-bit scanner is 16 at most.
LARGEST_LOG2 = 32


def check_values(
    matrix: NDArray[np.floating],
    missing: str,
    *,
    where: str,
    names: Callable[[], tuple[pd.Index, pd.Index]],
    copy: bool = False,
) -> NDArray[np.floating]:
    """Return the matrix, NaN in place of -666; raise for values that are not allowed.

    `missing` is "raise" or "nan", which allows NaN; infinite values never are.
    `where` (the file) and `names` (those of samples and genes) are for the message.
    The matrix is changed in place, unless `copy`.
    """
    n_rows, n_columns = matrix.shape
    if not matrix.size:
        return matrix
    step = max(BLOCK_BYTES // (n_columns * matrix.itemsize), 1)
    rows, columns = np.zeros(n_rows, dtype=bool), np.zeros(n_columns, dtype=bool)
    n_missing = n_infinite = 0
    for start in range(0, n_rows, step):
        block = matrix[start : start + step]
        # NaN is the smallest where there is one.
        if np.isfinite(block.max()) and block.min() > MARK:
            continue
        marked = block == MARK
        if marked.any():
            if copy:
                matrix, copy = np.array(matrix), False
            block = matrix[start : start + step]
            block[marked] = np.nan
        absent, infinite = np.isnan(block), np.isinf(block)
        bad = infinite if missing == "nan" else absent | infinite
        n_missing += int(absent.sum())
        n_infinite += int(infinite.sum())
        rows[start : start + step] = bad.any(axis=1)
        columns |= bad.any(axis=0)
    if n_infinite or (n_missing and missing == "raise"):
        samples, genes = names()
        raise ValueError(
            f"{where}: of {matrix.size:,} values {n_missing:,} are missing and "
            f"{n_infinite:,} infinite, in {rows.sum():,} of {n_rows:,} samples "
            f"({_some(samples, rows)}) and {columns.sum():,} of {n_columns:,} genes "
            f"({_some(genes, columns)}). missing='nan' keeps missing values as NaN; "
            "infinite ones are always refused."
        )
    return matrix


def _some(names: pd.Index, chosen: NDArray[np.bool_]) -> str:
    return first_few(map(str, names[chosen].tolist()), n=N_SHOWN)


def describe_missing(matrix: NDArray[np.floating]) -> str:
    """Count the missing values of a matrix; "" where there is none."""
    absent = np.isnan(matrix)
    n_missing = int(absent.sum())
    if not n_missing:
        return ""
    return (
        f"{n_missing:,} of {matrix.size:,} values are NaN, in "
        f"{absent.any(axis=1).sum():,} profiles and {absent.any(axis=0).sum():,} genes"
    )


def warn_of_scale(
    matrix: NDArray[np.floating],
    level: int | None,
    *,
    where: str,
    stacklevel: int,
    hint: Callable[[], str] = str,
) -> None:
    """Warn where values do not look like those of their level.

    z-scores (Levels 4 and 5) lie on both sides of 0; log2 intensities (Level 3) are
    positive, and none is above 32. `hint` returns what may be read instead.
    """
    if level is None or matrix.size < FEWEST:
        return
    step = max(matrix.size // N_LOOKED_AT, 1)
    some = np.asarray(matrix[::step]).ravel()
    some = some[np.isfinite(some)]
    if len(some) < FEWEST:
        return
    negative = float((some < 0).mean())
    low, middle, high = np.quantile(some, [0.01, 0.5, 0.99])
    told = ""
    if level > 3 and negative < 0.05 and middle > 0:
        told = "z-scores, which are negative for about half of the genes"
    elif level == 3 and negative > 0.05:
        told = "log2 intensities, which are positive"
    elif level == 3 and high > LARGEST_LOG2:
        told = f"log2 intensities, which are below {LARGEST_LOG2}"
    if told:
        warnings.warn(
            f"{where}: level {level} holds {told}; here {negative:.0%} are negative, "
            f"the median is {middle:.3g}, and 98 % lie from {low:.3g} to {high:.3g}. "
            f"Is it another level, or raw counts?{hint()}",
            DataWarning,
            stacklevel=stacklevel + 1,
        )


def parse_numbers(
    texts: Sequence[str],
    decimal: str,
    dtype: DTypeLike = np.float64,
    line: str | None = None,
) -> tuple[NDArray[np.float64], int | None]:
    """Return the numbers, NaN where missing, and the place of what is no number.

    What `dtype` cannot hold is none. Numbers are those of `NUMBER`: Python reads more,
    such as 1_000, and digits of other scripts. `line`, if given, holds all the texts.
    """
    is_plain = line is not None and line.isascii() and "_" not in line
    if not is_plain:
        whole = "\t".join(texts)
        is_plain = whole.isascii() and "_" not in whole
    if decimal == ",":
        # A point becomes what is no number.
        swap = str.maketrans(",.", ".,")
        texts = [text.translate(swap) for text in texts]
    numbers = None
    if is_plain:
        with suppress(ValueError):
            numbers = np.array(texts, dtype=np.float64)
    if numbers is None:
        bare = [text.strip(BLANKS) for text in texts]
        numbers = np.array(
            [float(t) if NUMBER.fullmatch(t) else np.nan for t in bare], np.float64
        )
    with np.errstate(invalid="ignore"):
        strange = np.flatnonzero(~(np.abs(numbers) <= np.finfo(dtype).max))
    bad = next((i for i in strange.tolist() if not is_missing(texts[i].strip())), None)
    return numbers, bad
