"""Queries from genes: up and down sets, ranked lists, partial profiles."""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import rankdata

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge.expression._gene_entries import (
    GeneLookup,
    Key,
    read_genes,
    shown,
)

__all__ = ["GeneQuery", "profile_from_genes"]


@dataclass(frozen=True, eq=False, repr=False)
class GeneQuery:
    """A profile made of genes, with what was found; see :func:`profile_from_genes`.

    It can be given wherever a profile is expected: as an array it is `profile`.

    Attributes
    ----------
    profile : ndarray of shape (1, n_genes), dtype=float32
        The query, in z-scores.
    found : DataFrame
        One row a gene that was given and found: ``part`` ("up", "down", "ranked" or
        "values"), ``entry`` (as given), ``column`` (of `profile`), ``gene_id`` and
        ``symbol`` (as far as known) and ``value`` (in `profile`).
    missing : DataFrame
        One row an entry that was not found: ``part`` and ``entry``.
    """

    profile: NDArray[np.float32]
    found: pd.DataFrame
    missing: pd.DataFrame

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray:
        return np.array(self.profile, dtype=dtype, copy=copy)

    def __len__(self) -> int:
        return len(self.profile)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of `profile`, by which scikit-learn knows an array."""
        return self.profile.shape

    def __repr__(self) -> str:
        found, missing = self.found["part"], self.missing["part"]
        parts = []
        for part in pd.unique(pd.concat([found, missing])):
            n_found = int((found == part).sum())
            n_given = n_found + int((missing == part).sum())
            parts.append(f"{n_found:,} of {n_given:,} {_noun(part)} found")
        return f"GeneQuery: {', '.join(parts)} ({self.profile.shape[1]:,} in a profile)"


@validate_params(
    {
        "genes": [pd.DataFrame],
        "scale": [Interval(Real, 0, None, closed="neither"), StrOptions({"auto"})],
    },
    prefer_skip_nested_validation=True,
)
def profile_from_genes(
    genes: pd.DataFrame,
    *,
    up: Iterable[Key] | None = None,
    down: Iterable[Key] | None = None,
    ranked: Iterable[Key] | Mapping[Key, float] | pd.Series | None = None,
    values: Mapping[Key, float] | pd.Series | None = None,
    scale: float | str = "auto",
) -> GeneQuery:
    r"""Make a profile of a gene set, a ranked list or a partial profile.

    Give `up`, `down` or both; or `ranked`; or `values`. A gene is an Entrez id (a
    number, or a text of digits) or a symbol, in any case of letters; both may be
    mixed.

    Parameters
    ----------
    genes : DataFrame of n_genes rows
        The genes of a profile in their order, with columns ``gene_id`` (Entrez),
        ``symbol`` or both: ``study.genes`` of the study that the estimator learnt
        from.
    up, down : iterable of str or int, default=None
        Genes that go up and down.
    ranked : iterable of str or int, Series or mapping, default=None
        Genes from the most up to the most down; or a score by gene (a Series of
        numbers whose index is the genes, or a mapping), the most up having the
        largest.
    values : Series or mapping, default=None
        Values (z-scores) by gene, of some genes or all.
    scale : float or "auto", default="auto"
        Value of a gene in `up`, in z-scores; one in `down` has minus that. The normal
        scores of `ranked` are multiplied by it, and `values` are not. "auto" is
        :math:`\sqrt{n_\mathrm{genes} / n_\mathrm{found}}`: the root mean square of
        the whole profile is 1, as of z-scores.

    Returns
    -------
    query : GeneQuery
        With ``profile`` of shape (1, n_genes), and the data frames ``found`` and
        ``missing``. It can be given as a profile itself.

    Raises
    ------
    ValueError
        If none of the genes is in `genes`; if a gene is in both `up` and `down`, or
        more than once in `ranked` or `values`; if a symbol stands for several rows
        of `genes`; if an entry is missing or a value not finite; or if no gene is
        told from another.

    Warns
    -----
    UserWarning
        If some of the genes are not in `genes`, with their number and names; or a
        gene comes more than once in `up` or in `down`, where it counts once.

    See Also
    --------
    sklearn_molge.library.MoleculeIndex : A library to ask.

    Notes
    -----
    Genes that are not given are 0, unchanged. A profile of z-scores (Level 4 or 5)
    comes out, so the estimator must have learnt from such: of [treated | control]
    intensities (Level 3) a gene set knows nothing.

    A pipeline that brings profiles to unit length does not see `scale`. Others subtract
    a mean profile, in which 20 genes of z-score 2 would drown.

    A ranked list gives normal scores: the gene at place r of n, counted from the most
    down and of those found, is

    .. math:: \Phi^{-1}\left(\frac{r - 3/8}{n + 1/4}\right),

    before `scale`; genes with equal scores share their mean place.

    Only 978 landmark genes are measured in L1000, so much of a longer list is not
    found. Symbols change with the years (AARS is AARS1 today) and Entrez ids do not.

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
    entries, numbers = read_genes(up, down, ranked, values)
    columns = GeneLookup(genes).columns(entries)
    missing = entries[columns < 0].reset_index(drop=True)
    found = entries.assign(column=columns, value=numbers)[columns >= 0]
    if found.empty:
        raise ValueError(_nothing_found(genes, entries))
    if len(missing):
        warnings.warn(_told_missing(genes, entries, missing), UserWarning, stacklevel=3)
    repeated = found.duplicated("column")
    if repeated.any():
        _refuse_contradictions(found)
        told = shown(found.loc[repeated, "entry"])
        text = f"{repeated.sum():,} of the genes came before and count once: {told}."
        warnings.warn(text, UserWarning, stacklevel=3)
        found = found[~repeated]
    if ranked is not None:
        found["value"] = _normal_scores(found["value"])
    if values is None:
        auto = np.sqrt(len(genes) / len(found))
        found["value"] *= auto if scale == "auto" else scale
    return _gene_query(genes, found, missing)


def _gene_query(
    genes: pd.DataFrame, found: pd.DataFrame, missing: pd.DataFrame
) -> GeneQuery:
    profile = np.zeros((1, len(genes)), dtype=np.float32)
    profile[0, found["column"]] = found["value"]
    if not profile.any():
        raise ValueError(
            f"At least one gene must differ from the others. Got {len(found):,} genes "
            "of `genes`, all at the same place."
        )
    named = [name for name in ("gene_id", "symbol") if name in genes]
    names = genes[named].iloc[found["column"]].set_axis(found.index)
    found = found.join(names)[["part", "entry", "column", *named, "value"]]
    return GeneQuery(profile, found.reset_index(drop=True), missing)


def _normal_scores(scores: pd.Series) -> NDArray[np.float64]:
    """Blom's scores of the ranks, those of equal scores being their mean rank."""
    return ndtri((rankdata(scores) - 3 / 8) / (len(scores) + 1 / 4))


def _refuse_contradictions(found: pd.DataFrame) -> None:
    every = found[found.duplicated("column", keep=False)]
    first = every["part"].iloc[0]
    if first in ("ranked", "values"):
        raise ValueError(
            f"{first} must hold each gene once; take their mean or their first. More "
            f"than once: {shown(every['entry'])}."
        )
    both = every.groupby("column")["part"].transform("nunique") > 1
    if both.any():
        told = shown(every.loc[both & (every["part"] == "up"), "entry"])
        raise ValueError(f"A gene must be in up or in down. In both: {told}.")


def _told_missing(
    genes: pd.DataFrame, entries: pd.DataFrame, missing: pd.DataFrame
) -> str:
    parts = []
    for part, entry in missing.groupby("part", sort=False)["entry"]:
        n_given = int((entries["part"] == part).sum())
        parts.append(
            f"{len(entry):,} of {n_given:,} {_noun(str(part))} ({shown(entry)})"
        )
    return f"Not among the {len(genes):,} genes of a profile: {'; '.join(parts)}."


def _nothing_found(genes: pd.DataFrame, entries: pd.DataFrame) -> str:
    if entries.empty:
        return "At least one gene must be given. Got empty lists."
    named = [name for name in ("gene_id", "symbol") if name in genes]
    look = "; ".join(f"{name} as {shown(genes[name].head(3))}" for name in named)
    return (
        f"None of the {len(entries):,} genes given is among the {len(genes):,} genes "
        f"of `genes`, which has {look}. Got {shown(entries['entry'].head(5))}."
    )


def _noun(part: str) -> str:
    return {"values": "genes with a value"}.get(part, f"{part} genes")
