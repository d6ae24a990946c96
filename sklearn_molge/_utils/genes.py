"""Names of the genes of profiles, and of those that an estimator was fitted on."""

import re
import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._compat import _get_feature_names
from sklearn_molge._utils.messages import first_few

__all__ = [
    "are_row_numbers",
    "as_frame",
    "check_gene_names",
    "check_no_row_numbers",
    "check_same_columns",
    "gene_names",
    "gene_status",
]

Names = NDArray[np.object_]
# How a name was read, where it is another than the one by which the gene is known.
_ALIASES = ("current symbol", "previous symbol", "date")
_ID = re.compile(r"\d+$|ENS[A-Z]*G\d")


def gene_names(y) -> Names | None:
    """Return the names of the columns of profiles, as text; None where there are none.

    Columns of pandas, polars and pyarrow, as scikit-learn's `feature_names_in_`, and
    ``var_names`` of AnnData. Whole numbers are names too, Entrez ids mostly, unless
    they only count the columns. Several levels are one text, as "TP53|7157".

    Raises
    ------
    ValueError
        If two genes have one name.
    TypeError
        If some names are text and others are not.
    """
    columns = getattr(y, "var_names" if _is_anndata(y) else "columns", None)
    if isinstance(columns, pd.Index):
        if not columns.is_unique:
            repeated = columns[columns.duplicated()].unique()
            raise ValueError(
                "y must have each gene in one column. More than once: "
                f"{first_few(repeated, write=str, n=5)}."
            )
        if _is_anndata(y):
            return columns.astype(str).to_numpy(dtype=object)
        if isinstance(columns, pd.MultiIndex):
            return np.array(
                ["|".join(map(str, name)) for name in columns], dtype=object
            )
        if len(columns) and all(_is_whole(name) for name in columns):
            counted = np.array_equal(columns, np.arange(len(columns)))
            texts = [str(int(name)) for name in columns]
            return None if counted else np.array(texts, dtype=object)
    return _get_feature_names(y)


def _is_anndata(y) -> bool:
    """Whether y is an AnnData object, without importing it."""
    return hasattr(y, "var_names") and hasattr(y, "to_df")


def _is_whole(name: object) -> bool:
    # Ids are read as floats where one of the table is missing.
    whole = isinstance(name, Integral) or (
        isinstance(name, float) and name.is_integer()
    )
    return whole and not isinstance(name, bool)


def are_row_numbers(names: Iterable[object]) -> bool:
    """Whether names only count genes: from 0 or 1 on, in any order.

    Of 50 names and more half may be lacking, as where rows were filtered. As ids of
    Entrez some would be genes by chance. One name may be an id.
    """
    texts = [str(name).strip().removesuffix(".0") for name in names]
    n = len(texts)
    if n < 2 or not all(t.isascii() and t.isdigit() and len(t) < 10 for t in texts):
        return False
    numbers = set(map(int, texts))
    if len(numbers) < n:
        return False
    last = max(numbers)
    return last < n or (last == n and 0 not in numbers) or (n >= 50 and last < 2 * n)


def check_no_row_numbers(
    names: Iterable[object], where: str, *, known: Iterable[object] = ()
) -> None:
    """Refuse names that only count genes, unless each of them is among those `known`.

    `where` says where they stand, as in "the columns of a.csv".
    """
    names = list(names)
    if are_row_numbers(names) and not set(map(str, names)) <= set(map(str, known)):
        raise ValueError(
            f"{where} must name genes by Entrez or Ensembl ids or symbols. Got numbers "
            f"that only count them: {first_few(names, write=str, n=5)}."
        )


def gene_status(matched: pd.DataFrame, names: Names) -> Names:
    """Say what became of each name that `match_genes` has read.

    `names` are those of the genes, by their place. "used"; "alias" (used, by another
    symbol than the gene has there, or a date); "not in the model", a known gene; or
    "unknown".
    """
    column = matched["column"].to_numpy()
    inside = column >= 0
    known = matched["gene_id"].notna().to_numpy()
    status = np.where(known, "not in the model", "unknown").astype(object)
    status[inside] = "used"
    by_other = inside & matched["how"].isin(_ALIASES).to_numpy()
    entries, symbols = (matched[name].to_numpy(object) for name in ("entry", "symbol"))
    for row in np.flatnonzero(by_other):
        name = str(names[column[row]])
        called = symbols[row] if _ID.match(name) else name
        if str(entries[row]).casefold() != str(called).casefold():
            status[row] = "alias"
    return status


def as_frame(y):
    """Return AnnData as a data frame of its X, and anything else as it is."""
    if not _is_anndata(y):
        return y
    if y.X is None:
        raise ValueError("y must have values. Got AnnData whose X is None.")
    return y.to_df()


def check_same_columns(A, B, *, names: tuple[str, str], strict: bool = True) -> None:
    """Refuse two tables whose columns have the same names in another order.

    With `strict`, also those that have other names, and names that are not to be told
    apart. What has no names is let through.
    """
    try:
        of_A, of_B = gene_names(A), gene_names(B)
    except (TypeError, ValueError):
        if strict:
            raise
        return
    if of_A is None or of_B is None or np.array_equal(of_A, of_B):
        return
    only = sorted(set(of_A) ^ set(of_B))
    if strict or not only:
        told = f"Only one has {first_few(only, n=5)}" if only else "Their order differs"
        raise ValueError(
            f"{names[0]} and {names[1]} must have the same columns in the same order. "
            f"{told}."
        )


def check_gene_names(estimator, y, *, reset: bool):
    """Set or check `gene_names_in_`, as scikit-learn does `feature_names_in_`.

    Parameters
    ----------
    estimator : estimator
        Gets the attribute, or loses an old one, with `reset`.
    y : array-like of shape (n_profiles, n_genes), AnnData or GeneQuery
        A query that was made of a table of genes matches by either of its names.
    reset : bool
        Whether this is `fit`.

    Returns
    -------
    y : array-like of shape (n_profiles, n_genes)
        With names where the estimator was fitted with names, and without where it was
        not: what it hands on to estimators inside is as they know it.
    """
    choices = getattr(y, "gene_name_choices", None) or None
    names = gene_names(y) if choices is None else None
    y = as_frame(y)
    if reset:
        names = choices[0] if choices else names
        if names is not None:
            estimator.gene_names_in_ = names
        elif hasattr(estimator, "gene_names_in_"):
            del estimator.gene_names_in_
        return y
    fitted = getattr(estimator, "gene_names_in_", None)
    if choices is not None:
        return _match_query(y, choices, fitted)
    if fitted is None or names is None:
        return _one_sided(type(estimator).__name__, y, names, fitted)
    if not np.array_equal(fitted, names):
        raise ValueError(_other_genes(names, fitted, _names_in_rows(y, fitted)))
    return y


def _names_in_rows(y, fitted: Names) -> bool:
    """Whether most of the genes are names of rows: a transposed table, or a Series."""
    index = set(map(str, getattr(y, "index", ())))
    return 2 * len(index.intersection(fitted)) > len(fitted)


def _match_query(query, choices: Sequence[Names], fitted: Names | None):
    values = np.asarray(query)
    if fitted is None:
        return values
    if not any(np.array_equal(fitted, names) for names in choices):
        shared = [len(np.intersect1d(fitted, names)) for names in choices]
        raise ValueError(_other_genes(choices[int(np.argmax(shared))], fitted))
    return pd.DataFrame(values, columns=fitted)


def _one_sided(owner: str, y, names: Names | None, fitted: Names | None):
    """Warn where only the profiles or only the estimator have names."""
    if fitted is None and names is None:
        return y
    if fitted is None:
        warnings.warn(
            f"y has gene names, but {owner} was fitted without gene names",
            stacklevel=4,
        )
        return np.asarray(y)
    if _names_in_rows(y, fitted):
        raise ValueError(_other_genes((), fitted, in_rows=True))
    if np.shape(y)[1:] != fitted.shape:
        return y
    warnings.warn(
        f"y does not have valid gene names, but {owner} was fitted with gene names",
        stacklevel=4,
    )
    return pd.DataFrame(np.asarray(y), columns=fitted)


def _other_genes(names: Iterable, fitted: Names, in_rows: bool = False) -> str:
    """Say how names differ from those of `fit`, in scikit-learn's words."""
    parts = ["The gene names should match those that were passed during fit."]
    unseen, missing = set(names) - set(fitted), set(fitted) - set(names)
    for told, some in (
        (f"Gene names unseen at fit time ({len(unseen):,}):", unseen),
        (f"Gene names seen at fit time, yet now missing ({len(missing):,}):", missing),
    ):
        if some:
            shown = [f"- {name}" for name in sorted(some)[:5]]
            parts += [told, *shown, *["- ..."] * (len(some) > 5)]
    if not unseen and not missing:
        parts.append("Gene names must be in the same order as they were in fit.")
    if in_rows:
        parts.append(
            "y has its genes in the rows: give y.T (of a Series y.to_frame().T)."
        )
    else:
        parts.append(
            "sklearn_molge.expression.align_profiles(y, estimator) puts the genes of y "
            "in the order of the fitted ones."
        )
    return "\n".join(parts)
