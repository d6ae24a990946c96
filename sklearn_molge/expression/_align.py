"""align_profiles: the genes of profiles in the order that a model knows."""

import warnings
from numbers import Real

import numpy as np
import pandas as pd

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.genes import are_row_numbers, check_no_row_numbers, gene_names
from sklearn_molge._utils.messages import first_few
from sklearn_molge.exceptions import GeneNamesWarning
from sklearn_molge.expression._matching import TargetGenes

__all__ = ["align_profiles"]

# Columns of a table of genes that hold names, in the words of LINCS, AnnData and us.
_KINDS = (
    "gene_id", "pr_gene_id", "entrez_id", "entrez", "symbol", "pr_gene_symbol",
    "gene_symbol", "gene_name", "feature_name", "ensembl_id", "ensembl", "gene_ids",
)  # fmt: skip


@validate_params(
    {
        "missing": [StrOptions({"raise", "zero", "nan"})],
        "min_share": [Interval(Real, 0, 1, closed="both")],
        "duplicates": [StrOptions({"raise", "mean", "first"})],
    },
    prefer_skip_nested_validation=True,
)
def align_profiles(
    y,
    genes,
    *,
    missing: str = "raise",
    min_share: float = 0.5,
    duplicates: str = "raise",
) -> pd.DataFrame:
    """Put the genes of profiles in the order of a model, matched by their names.

    Parameters
    ----------
    y : DataFrame, AnnData, GctData, Study or GeneQuery
        Profiles, one a row, whose genes have names of any kind that
        :func:`match_genes` reads: columns of pandas, polars or pyarrow; ``var_names``
        of AnnData or a column of ``var``; ids or a column of ``genes`` of what
        :func:`~sklearn_molge.datasets.read_gct` returns. Of several kinds of names,
        the one that finds most genes is taken.
    genes : DataFrame, array-like of str, fitted estimator, Study or MoleculeIndex
        The genes of the model, in its order: the estimator itself, if it was fitted on
        named genes, a table with ``gene_id``, ``symbol`` or both, or their names.
    missing : {"raise", "zero", "nan"}, default="raise"
        What becomes of genes that `y` lacks: an error, 0 (unchanged: for z-scores) or
        NaN (for an imputer before the model).
    min_share : float, default=0.5
        Smallest share of `genes` that `y` must have, whatever `missing` says.
    duplicates : {"raise", "mean", "first"}, default="raise"
        What becomes of columns that are one gene, as AARS and AARS1: an error, their
        mean, or the first of them.

    Returns
    -------
    aligned : DataFrame of shape (n_profiles, n_genes)
        Columns named as the model names its genes, index as of `y`. Columns that are
        none of `genes` are left out.

    Raises
    ------
    TypeError
        If the genes of `y` have no names.
    ValueError
        If genes are missing with ``missing="raise"``, or more than `min_share` allows;
        if a gene has several columns and ``duplicates="raise"``; if genes are in the
        rows; or if `genes` has no names.

    Warns
    -----
    GeneNamesWarning
        If genes are missing and filled (how many, and which), or several columns are
        one gene, or a name was a date.

    See Also
    --------
    match_genes : Which column is read as which gene, and how.
    profile_from_genes : For lists of genes.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.expression import align_profiles
    >>> genes = pd.DataFrame({"gene_id": [16, 7157], "symbol": ["AARS", "TP53"]})
    >>> y = pd.DataFrame({"TP53": [2.0], "EGFR": [0.5], "AARS1": [-1.0]}, index=["A"])
    >>> align_profiles(y, genes)
        16  7157
    A -1.0   2.0
    """
    target = TargetGenes.of(genes)
    values, kinds, index = _read(y)
    kinds = [names for names in kinds if not are_row_numbers(names)] or kinds
    for names in kinds:
        check_no_row_numbers(names, "the columns of y", known=target.names)
    matched = max(
        (target.match(names) for names in kinds),
        key=lambda found: found.loc[found["column"] >= 0, "column"].nunique(),
    )
    found = matched[matched["column"] >= 0]
    _check_found(found, matched, target, index, missing, min_share)
    _check_repeated(found, target, duplicates)
    aligned = np.full(
        (len(values), len(target)),
        0 if missing == "zero" else np.nan,
        dtype=np.result_type(values.dtype, np.float32),
    )
    for column in found["column"].unique():
        places = np.flatnonzero(matched["column"] == column)
        of_gene = values[:, places]
        mean = duplicates == "mean" and len(places) > 1
        aligned[:, column] = of_gene.mean(axis=1) if mean else of_gene[:, 0]
    return pd.DataFrame(aligned, index=index, columns=target.names)


def _read(y):
    """Return values, the kinds of names of their genes, and the index."""
    table = getattr(y, "var", getattr(y, "genes", None))
    if isinstance(table, pd.DataFrame):
        return _read_annotated(y, table)
    choices = getattr(y, "gene_name_choices", None)
    if choices:  # GeneQuery
        return np.asarray(y), [list(names) for names in choices], None
    names = gene_names(y)
    if names is None:
        hint = ": give study.profiles()" if isinstance(y, np.ndarray) else ""
        raise TypeError(
            "y must have names of genes: a data frame with named columns, AnnData, "
            f"GctData, Study or GeneQuery. Got {type(y).__name__} without names{hint}."
        )
    index = y.index if isinstance(y, pd.DataFrame) else None
    return np.asarray(y), [names.tolist()], index


def _read_annotated(y, table: pd.DataFrame):
    """Read AnnData, GctData or Study: a matrix with tables of its sides."""
    matrix = next(
        (getattr(y, name) for name in ("X", "matrix", "ge") if hasattr(y, name)), None
    )
    if matrix is None:
        raise ValueError(f"y must have values. Got {type(y).__name__} without any.")
    values = matrix.toarray() if hasattr(matrix, "toarray") else np.asarray(matrix)
    kinds = [table[name].tolist() for name in _KINDS if name in table]
    if not isinstance(table.index, pd.RangeIndex):
        kinds.insert(0, table.index.tolist())
    return values, kinds, getattr(y, "obs_names", y.obs.index)


def _check_found(found, matched, target, index, missing, min_share) -> None:
    lacking = np.ones(len(target), dtype=bool)
    lacking[found["column"]] = False
    n_found, n_genes = int((~lacking).sum()), len(target)
    if n_found / n_genes < min_share or not n_found:
        if index is not None and (target.match(list(index))["column"] >= 0).any():
            raise ValueError(
                "y must have one profile a row. Its rows are named by genes: give y.T. "
                "Of a table of statistics (as of DESeq2) one column is a profile: "
                "profile_from_genes(genes, values=y[column]), or read_de_table(path)."
            )
        raise ValueError(
            f"y has {n_found:,} of the {n_genes:,} genes, less than min_share="
            f"{min_share:g}. Its columns are {_few(matched['entry'])}; the genes are "
            f"{_few(target.names)}."
        )
    dates = found.loc[~found["how"].isin(_PLAIN)]
    if len(dates):
        read = [
            f"{entry} as {target.names[column]} ({how})"
            for entry, column, how in dates[["entry", "column", "how"]].to_numpy()
        ]
        _warn(f"Names of genes that may mean another: {_few(read)}.")
    if not lacking.any():
        return
    told = f"{lacking.sum():,} of the {n_genes:,} genes ({_few(target.names[lacking])})"
    if missing == "raise":
        raise ValueError(
            f'y lacks {told}. Set missing="zero" for z-scores, where 0 is unchanged, '
            'or missing="nan" to impute them.'
        )
    _warn(f"y lacks {told}, which are {'0' if missing == 'zero' else 'NaN'} now.")


_PLAIN = [
    "name", "current symbol", "previous symbol", "Entrez id", "Ensembl id"
]  # fmt: skip


def _check_repeated(found, target, duplicates) -> None:
    repeated = found[found.duplicated("column", keep=False)]
    if repeated.empty:
        return
    told = [
        f"{target.names[column]} ({', '.join(map(str, entries))})"
        for column, entries in repeated.groupby("column")["entry"]
    ]
    text = f"{len(told):,} genes have several columns: {_few(told)}."
    if duplicates == "raise":
        raise ValueError(f'{text} Set duplicates="mean" or "first".')
    _warn(f"{text} Of each, the {duplicates} is taken.")


def _warn(text: str) -> None:
    warnings.warn(text, GeneNamesWarning, stacklevel=5)


def _few(values) -> str:
    return first_few(values, write=str, n=10)
