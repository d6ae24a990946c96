"""Texts in CSV files that a spreadsheet would run as a formula."""

import re
from typing import Any

import pandas as pd

__all__ = ["guarded", "guarded_column", "unguarded"]

# What a spreadsheet takes for a formula, behind the marks that say that it is none.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def guarded(value: Any) -> Any:
    """Put a single quote before a text that would be a formula.

    A text that begins with quotes and a formula gets one more, so that taking one off
    gives every text back.

    Examples
    --------
    >>> from sklearn_molge._utils.spreadsheets import guarded, unguarded
    >>> guarded("=1+1"), guarded("aspirin"), guarded(-1.0)
    ("'=1+1", 'aspirin', -1.0)
    >>> unguarded("'=1+1")
    '=1+1'
    """
    is_formula = isinstance(value, str) and _FORMULA.match(value)
    return f"'{value}" if is_formula else value


def guarded_column(column: pd.Series) -> pd.Series:
    """Guard the texts of a column; numbers are left alone."""
    if column.dtype.kind in "OU":  # texts, categories, and anything among numbers
        return column.astype(object).map(guarded)
    return column


def unguarded(value: str) -> str:
    """Return the text that was guarded."""
    return value[1:] if value.startswith("'") and _FORMULA.match(value) else value
