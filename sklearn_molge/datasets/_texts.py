"""Texts of tables: cleaned of blanks and quotes, and missing where they are marked."""

import re
import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._utils.messages import first_few
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.molecules import MISSING_SMILES

__all__ = [
    "as_frame",
    "clean",
    "clean_texts",
    "coded_texts",
    "is_missing",
    "plain_labels",
    "unify_case",
    "unquote",
]

MISSING = (MISSING_SMILES | {"n/a", "#n/a", "<na>", "null"}) - {"restricted"}
# LINCS's mark, as any program may have written it.
MARK = re.compile(r"-666(\.0*)?")
WHOLE_NUMBER = re.compile(r"\d+\.0+")
# Of a file's first cell, and of text that was copied from a web page.
INVISIBLE = "\ufeff\u200b"


def unquote(text: str) -> str:
    """Take blanks, and quotation marks around the whole, off a text."""
    text = text.strip().strip(INVISIBLE).strip()
    while len(text) > 1 and text[0] == text[-1] == '"':
        text = text[1:-1].replace('""', '"').strip()
    return text


def clean(entry: object) -> str:
    """Write an entry as text, without blanks and without quotes around it.

    What a spreadsheet made a number of is an id again: 5637.0 is "5637".
    """
    text = unquote(str(entry))
    return text.partition(".")[0] if WHOLE_NUMBER.fullmatch(text) else text


def is_missing(text: str) -> bool:
    """Whether a clean text is one of the marks for a missing value."""
    return text.lower() in MISSING or MARK.fullmatch(text) is not None


def coded_texts(
    column: pd.Series, name: str = ""
) -> tuple[NDArray[np.intp], list[str | None]]:
    """Return a column as numbers into a list of texts, -1 where it is missing.

    A category is not spelled out. Texts are as of `clean`, and None where they are
    marks for a missing value; `name` is ours, for their spelling.
    """
    codes, distinct = _factorize(column)
    texts = [clean(entry) for entry in distinct]
    if name == "pert_type":
        texts = [text.lower() for text in texts]
    return codes, [None if is_missing(text) else text for text in texts]


def clean_texts(column: pd.Series, name: str = "") -> NDArray[np.object_]:
    """Return the texts of a column, NaN where missing."""
    codes, texts = coded_texts(column, name)
    spelled = np.empty(len(texts) + 1, dtype=object)
    spelled[:] = [*(np.nan if text is None else text for text in texts), np.nan]
    return spelled[codes]


def _factorize(column: pd.Series) -> tuple[NDArray[np.intp], NDArray[np.object_]]:
    """Return numbers, -1 where missing, and the distinct entries they stand for."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes = np.asarray(column.cat.codes, dtype=np.intp)
        return codes, np.asarray(column.cat.categories, dtype=object)
    codes, distinct = pd.factorize(column)
    return codes.astype(np.intp, copy=False), np.asarray(distinct, dtype=object)


def unify_case(texts: Sequence[str], counts: Sequence[int]) -> dict[str, str]:
    """Say which texts differ from a more frequent one by upper and lower case only."""
    order = sorted(range(len(texts)), key=lambda i: -counts[i])
    first: dict[str, str] = {}
    for i in order:
        first.setdefault(texts[i].casefold(), texts[i])
    return {t: first[t.casefold()] for t in texts if first[t.casefold()] != t}


def plain_labels(
    table: pd.DataFrame, columns: Sequence[str], *, stacklevel: int
) -> pd.DataFrame:
    """Write labels without blanks around; 5 and "5", "A" and "A " become one.

    The table comes back as it is where nothing is to be done; labels that become one
    are told in a warning.
    """
    for name in columns:
        codes, distinct = _factorize(table[name])
        written = [clean(label) for label in distinct]
        n_types = len({type(label) for label in distinct})
        blanks = any(
            isinstance(d, str) and d != w
            for d, w in zip(distinct, written, strict=True)
        )
        if n_types < 2 and not blanks:
            continue
        texts = np.array([*written, np.nan], dtype=object)
        table = table.assign(**{name: texts[codes]})
        ways: dict[str, list[str]] = {}
        for label, text in zip(distinct, written, strict=True):
            ways.setdefault(text, []).append(repr(label))
        told = [" and ".join(labels) for labels in ways.values() if len(labels) > 1]
        if told:
            warnings.warn(
                f"{name} has labels that differ in type or blanks only, and are one: "
                f"{first_few(told, write=str, n=5)}.",
                DataWarning,
                stacklevel=stacklevel + 1,
            )
    return table


def as_frame(table: object, name: str) -> pd.DataFrame:
    """Return a table of pandas, polars or pyarrow as one of pandas."""
    if isinstance(table, pd.DataFrame):
        return table
    columns = getattr(table, "column_names", None) or getattr(table, "columns", None)
    if columns is None or not hasattr(table, "__getitem__"):
        raise TypeError(
            f"{name} must be a data frame (pandas, polars or pyarrow). "
            f"Got {type(table).__name__}."
        )
    return pd.DataFrame({c: pd.Series(table[c].to_numpy()) for c in columns})
