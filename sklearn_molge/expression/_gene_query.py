"""Profiles from genes: up and down sets, ranked lists, partial profiles."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import DTypeLike, NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from sklearn_molge._compat import (
    HasMethods,
    Interval,
    StrOptions,
    validate_params,
)
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.notebook import facts_html
from sklearn_molge.exceptions import GeneNamesWarning
from sklearn_molge.expression._matching import Key, TargetGenes, gene_key

__all__ = ["GeneQuery", "profile_from_genes"]

_first_few = partial(first_few, write=str)


@dataclass(frozen=True, eq=False, repr=False)
class GeneQuery:
    """A profile made from a list of genes; see :func:`profile_from_genes`.

    It can be passed wherever a profile is expected: as an array it is `profile`.

    Attributes
    ----------
    profile : ndarray of shape (1, n_genes), dtype=float32
        The query, in z-scores.
    found : DataFrame
        One row per gene that was given and found: ``part`` ("up", "down", "ranked" or
        "values"), ``entry`` (as given), ``column`` (of `profile`), ``gene_id`` and
        ``symbol`` (as far as known), ``how`` the entry was read (see
        :func:`match_genes`) and ``value`` (in `profile`).
    missing : DataFrame
        One row per entry that was not found: ``part``, ``entry`` and ``why``.
    gene_name_choices : tuple of ndarray of shape (n_genes,)
        Entrez ids as text, and symbols, as far as known: estimators that were fitted
        on named genes compare these with either.
    """

    profile: NDArray[np.float32]
    found: pd.DataFrame
    missing: pd.DataFrame
    gene_name_choices: tuple[NDArray[np.object_], ...] = ()

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray:
        return np.array(self.profile, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.profile)

    def __getitem__(self, rows) -> "GeneQuery":
        return replace(self, profile=self.profile[rows])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `profile`: scikit-learn takes what has one for an array."""
        return self.profile.shape

    def __repr__(self) -> str:
        found, missing = self.found["part"], self.missing["part"]
        parts = []
        for part in pd.unique(pd.concat([found, missing])):
            n_found = int((found == part).sum())
            n_given = n_found + int((missing == part).sum())
            parts.append(f"{n_found:,} of {n_given:,} {_noun(part)} found")
        return f"GeneQuery: {', '.join(parts)} ({self.profile.shape[1]:,} in a profile)"

    def _repr_html_(self) -> str:
        title, _, parts = repr(self).partition(": ")
        facts = {"holds": parts}
        for part, rows in self.found.groupby("part", sort=False):
            facts[str(part)] = _first_few(rows["entry"])
        facts["not found"] = _first_few(self.missing["entry"])
        tables = {"Found": self.found, "Not found": self.missing}
        return facts_html(title, facts, tables=tables)


@validate_params(
    {
        "genes": [
            pd.DataFrame,
            "array-like",
            HasMethods(["fit"]),
            HasMethods(["profiles"]),
        ],
        "scale": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
    },
    prefer_skip_nested_validation=True,
)
def profile_from_genes(
    genes,
    *,
    up: Iterable[Key] | None = None,
    down: Iterable[Key] | None = None,
    ranked: Iterable[Key] | Mapping[Key, float] | pd.Series | None = None,
    values: Mapping[Key, float] | pd.Series | pd.DataFrame | None = None,
    scale: float | str = "auto",
) -> GeneQuery:
    r"""Make a profile from a gene set, a ranked list or a partial profile.

    Give `up`, `down` or both; or `ranked`; or `values`. A gene is an Entrez id (a
    number or a string of digits), a symbol of today or earlier in upper or lower case,
    or an Ensembl id, in any mixture; see :func:`match_genes`.

    Parameters
    ----------
    genes : DataFrame, array-like of str, fitted estimator, Study or MoleculeIndex
        The genes of a profile in their order, with columns ``gene_id`` (Entrez),
        ``symbol`` or both: ``study.genes`` of the study that the estimator was fitted
        on. Or their names; or the estimator itself, if it was fitted on named genes.
    up, down : iterable of str or int, default=None
        Up- and down-regulated genes.
    ranked : iterable of str or int, Series or mapping, default=None
        Genes from the most up- to the most down-regulated; or a score for each gene, as
        `values`, largest for the most up-regulated.
    values : Series, mapping or DataFrame, default=None
        Values (z-scores) of some or all genes, by gene: the index of a Series or of a
        DataFrame with one column, or the first of the two columns of a DataFrame. NaN
        and rows without a name are left out; of a gene that comes more than once, the
        mean is taken.
    scale : float or "auto", default="auto"
        Value of a gene in `up`, in z-scores; minus this for one in `down`. The normal
        scores of `ranked` are multiplied by it; `values` are not. "auto" is
        :math:`\sqrt{n_\mathrm{genes} / n_\mathrm{found}}`, so that a gene set's
        profile has a root mean square of 1, as z-scores have.

    Returns
    -------
    query : GeneQuery
        With ``profile`` of shape (1, n_genes), and the data frames ``found`` and
        ``missing``. It can be passed as a profile itself.

    Raises
    ------
    ValueError
        If none of the genes is in `genes`; if a gene is in both `up` and `down`, or
        more than once in a list `ranked`; if a symbol stands for several rows of
        `genes`; if an entry is missing or a value infinite; or if the profile would be
        0 everywhere.

    Warns
    -----
    GeneNamesWarning
        If some of the genes are not in `genes` or have no value (says how many and
        which); if a gene comes more than once; or if an entry was a date.

    See Also
    --------
    match_genes : Which entry is which gene.
    sklearn_molge.library.MoleculeIndex : A library of molecules to query.

    Notes
    -----
    Genes that are not given are 0: unchanged. The profile is one of z-scores (Level 4
    or 5), so the estimator must have been fitted on z-scores: a gene set says nothing
    about [treated | control] intensities (Level 3).

    `scale` makes no difference to a pipeline that scales profiles to unit length. It
    does to one that subtracts a mean profile, beside which 20 genes of z-score 2 would
    hardly count.

    A ranked list becomes normal scores: of the n genes found, the one at place r from
    the most down-regulated has the score

    .. math:: \Phi^{-1}\left(\frac{r - 3/8}{n + 1/4}\right),

    before `scale`; genes with equal scores share their mean place.

    L1000 measures only 978 landmark genes, so much of a longer list is not found.

    References
    ----------
    Blom (1958), Statistical Estimates and Transformed Beta-Variables: the normal
    scores. Lamb et al. (2006), "The Connectivity Map", Science 313: queries by up and
    down genes.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.expression import profile_from_genes
    >>> genes = pd.DataFrame(
    ...     {"gene_id": [7157, 4609, 1956], "symbol": ["TP53", "MYC", "EGFR"]}
    ... )
    >>> query = profile_from_genes(genes, up=["tp53"], down=[1956])
    >>> query
    GeneQuery: 1 of 1 up genes found, 1 of 1 down genes found (3 in a profile)
    >>> query.profile
    array([[ 1.2247449,  0.       , -1.2247449]], dtype=float32)
    >>> profile_from_genes(genes, ranked=["EGFR", "MYC", "TP53"]).profile.round(2)
    array([[-0.87,  0.  ,  0.87]], dtype=float32)
    """
    target = TargetGenes.of(genes)
    entries = _read_genes({"up": up, "down": down, "ranked": ranked, "values": values})
    matched = target.match(entries["entry"].tolist()).drop(columns="entry")
    entries = pd.concat([entries, matched], axis=1)
    entries.loc[entries["value"].isna(), ["column", "how"]] = [-1, "no value"]
    missing = entries.loc[entries["column"] < 0, ["part", "entry", "how"]]
    found = entries[entries["column"] >= 0]
    if found.empty:
        raise ValueError(_nothing_found(target, entries))
    if len(missing):
        _warn(_told_missing(target, entries, missing))
    guessed = found[found["how"].str.contains("date|,")]
    if len(guessed):
        read = guessed["entry"].astype(str) + " as " + guessed["symbol"].astype(str)
        _warn(f"Names of genes that may mean another: {_first_few(read)}.")
    found = _each_once(found)
    if ranked is not None:
        # Blom's scores; those of equal scores are of their mean rank.
        places = rankdata(found["value"]) - 3 / 8
        found = found.assign(value=ndtri(places / (len(found) + 1 / 4)))
    if values is None:
        factor = np.sqrt(len(target) / len(found)) if scale == "auto" else scale
        found = found.assign(value=found["value"] * factor)
    profile = np.zeros((1, len(target)), dtype=np.float32)
    profile[0, found["column"]] = found["value"]
    if not profile.any():
        raise ValueError(
            f"At least one gene must differ from the others. Got {len(found):,} genes "
            "of `genes`, all at the same place."
        )
    named = [name for name in target.table if name != "name"] or ["gene_id", "symbol"]
    found = found[["part", "entry", "column", *named, "how", "value"]]
    missing = missing.rename(columns={"how": "why"})
    choices = tuple(target.table[n].astype(str).to_numpy(object) for n in target.table)
    found, missing = found.reset_index(drop=True), missing.reset_index(drop=True)
    return GeneQuery(profile, found, missing, choices)


def _warn(text: str) -> None:
    warnings.warn(text, GeneNamesWarning, stacklevel=4)


def _each_once(found):
    """Return each gene once: a gene of a set, and the mean of its values."""
    repeated = found.duplicated("column")
    if not repeated.any():
        return found
    _refuse_contradictions(found)
    scored = found["part"].iloc[0] in ("ranked", "values")
    how = "the mean of its values is taken" if scored else "it counts once"
    told = _first_few(found.loc[repeated, "entry"])
    text = f"{repeated.sum():,} of the genes came before; {how}: {told}."
    warnings.warn(text, GeneNamesWarning, stacklevel=4)
    means = found.groupby("column")["value"].mean()
    found = found[~repeated]
    return found.assign(value=means[found["column"]].to_numpy()) if scored else found


def _refuse_contradictions(found):
    every = found[found.duplicated("column", keep=False)]
    first = every["part"].iloc[0]
    if every["listed"].any():
        raise ValueError(
            f"{first} must hold each gene once. More than once: "
            f"{_first_few(every['entry'])}."
        )
    both = every.groupby("column")["part"].transform("nunique") > 1
    if both.any():
        told = _first_few(every.loc[both & (every["part"] == "up"), "entry"])
        raise ValueError(f"A gene must be in up or in down. In both: {told}.")


def _told_missing(target, entries, missing):
    parts = []
    for part, entry in missing.groupby("part", sort=False)["entry"]:
        n_given = int((entries["part"] == part).sum())
        parts.append(
            f"{len(entry):,} of {n_given:,} {_noun(str(part))} ({_first_few(entry)})"
        )
    n_empty = int((missing["how"] == "no value").sum())
    but = f", or without a value ({n_empty:,})" if n_empty else ""
    return f"Not among the {len(target):,} genes of a profile{but}: {'; '.join(parts)}."


def _nothing_found(target, entries):
    if entries.empty:
        return "At least one gene must be given. Got empty lists."
    table = target.table
    look = "; ".join(f"{name} as {_first_few(table[name].head(3))}" for name in table)
    return (
        f"None of the {len(entries):,} genes given is among the {len(target):,} genes "
        f"of `genes`, which has {look}. Got {_first_few(entries['entry'].head(5))}."
    )


def _noun(part):
    return {"values": "genes given"}.get(part, f"{part} genes")


# Genes as users write them: Entrez ids and symbols, in lists and with numbers.


def _read_genes(given):
    """Return the entries, the part that each came in, and a number for each."""
    given = {part: genes for part, genes in given.items() if genes is not None}
    sets = given.keys() & {"up", "down"}
    kinds = ["up and down"] * bool(sets) + [part for part in given if part not in sets]
    if len(kinds) != 1:
        raise ValueError(
            "Either up, down or both, or ranked, or values must be given. "
            f"Got {', '.join(kinds) or 'none of them'}."
        )
    parts = [_read_part(part, genes) for part, genes in given.items()]
    return pd.concat(parts, ignore_index=True)


def _read_part(part, genes):
    if isinstance(genes, pd.DataFrame) and part in ("ranked", "values"):
        genes = _as_series(part, genes)
    scored = isinstance(genes, Mapping) or (
        isinstance(genes, pd.Series) and pd.api.types.is_numeric_dtype(genes)
    )
    if part == "values" and not scored:
        raise ValueError(
            "values must be a mapping, a Series of numbers whose index is the genes, "
            f"or a DataFrame. Got {_kind(genes)}."
        )
    scored = scored and part in ("ranked", "values")
    if scored:
        series = pd.Series(genes)
        entries, numbers = _check_index(part, series.index), _check_finite(part, series)
    else:
        entries = _check_list(part, genes)
        signs = {"up": 1.0, "down": -1.0}
        numbers = signs.get(part, np.arange(len(entries), 0, -1, dtype=np.float64))
    for place, entry in enumerate(entries):
        unnamed = scored and (pd.isna(entry) or not str(entry).strip())
        if gene_key(entry) is None and not unnamed:
            raise ValueError(
                f"{part} must hold symbols and Entrez ids. Got {entry!r} at place "
                f"{place}."
            )
    entry = pd.Series(entries, dtype=object)
    listed = part == "ranked" and not scored
    return pd.DataFrame(
        {"part": part, "entry": entry, "value": numbers, "listed": listed}
    )


def _as_series(part, table):
    """Return the values of a table by gene: of its index, or its first column."""
    columns = [table[name] for name in table] if table.columns.is_unique else []
    if len(columns) == 1:
        return columns[0]
    if len(columns) == 2 and pd.api.types.is_numeric_dtype(columns[1]):
        return columns[1].set_axis(columns[0].array)
    raise ValueError(
        f"{part} must be a DataFrame of one column of numbers, indexed by gene, or of "
        "two, genes and numbers. Got the columns "
        f"{_first_few(table.columns)} of {len(table):,} rows: choose two, as "
        f'{part}=table[["gene", "z"]], or of a wide table one row, table.iloc[0].'
    )


def _check_list(part, genes):
    unordered = part == "ranked" and isinstance(genes, set | frozenset)
    tabular = np.ndim(genes) > 1 if hasattr(genes, "ndim") else False
    listed = isinstance(genes, Iterable) and not isinstance(genes, str | bytes)
    if not listed or unordered or tabular or isinstance(genes, Mapping):
        raise ValueError(
            f"{part} must be a list of genes{' in order' if unordered else ''}. "
            f"Got {_kind(genes)}."
        )
    return list(genes)


def _check_index(part, index):
    if len(index) and isinstance(index, pd.RangeIndex) and index.start == 0:
        raise ValueError(
            f"{part} must have the genes as its index. Got a Series of numbers that "
            "are numbered from 0; a ranking of Entrez ids is given as a list."
        )
    return list(index)


def _check_finite(part, series):
    try:
        numbers = series.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{part} must map genes to numbers: {error}.") from error
    bad = np.isinf(numbers)
    if bad.any():
        raise ValueError(
            f"{part} must be finite. Got infinite numbers for {bad.sum():,} genes: "
            f"{_first_few(series.index[bad])}."
        )
    return numbers


def _kind(genes):
    return f"the text {genes!r}" if isinstance(genes, str) else f"a {type(genes)}"
