"""SpecificityDisplay: how well drugs are found, against the genes they change."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sklearn_molge.inspection._regression import (
    PerformanceRegression,
    performance_regression,
)
from sklearn_molge.inspection._regression_plot import RegressionDisplay

__all__ = ["SpecificityDisplay"]


class SpecificityDisplay(RegressionDisplay):
    """How well drugs are found, against the number of genes that they change.

    Make one with :meth:`from_predictions`; attributes are those of
    :class:`RegressionDisplay`. The horizontal axis is ln(1 + number of genes), so that
    drugs that change no gene stay in (the paper takes ln of the number; its drugs
    change 60 and more).

    Parameters
    ----------
    regression : PerformanceRegression
        On ln(1 + number of genes), one point a drug.
    n_unknown : int, default=0
        Number of drugs that were left out because their number of genes is not known.

    See Also
    --------
    differential_genes : The number of genes.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_molge.inspection import SpecificityDisplay
    >>> n_genes = pd.Series({"a": 0, "b": 12.5, "c": 80, "d": 300})
    >>> display = SpecificityDisplay.from_predictions(
    ...     n_genes, ranks=[4, 3, 2, 2, 1], drugs=["a", "b", "c", "d", "e"]
    ... )
    >>> display.regression.n, display.n_unknown
    (4, 1)
    """

    def __init__(self, regression: PerformanceRegression, *, n_unknown: int = 0):
        super().__init__(regression, xlabel="ln(1 + number of genes changed)")
        self.n_unknown = n_unknown

    @classmethod
    def from_predictions(  # type: ignore[override]
        cls,
        n_genes: "pd.Series[Any]",
        ranks: ArrayLike,
        drugs: ArrayLike,
        *,
        n_candidates: ArrayLike | None = None,
        ax: Any = None,
        **kwargs: Any,
    ) -> "SpecificityDisplay":
        """Regress the ranks on the number of genes, and draw it.

        Parameters
        ----------
        n_genes : Series of float
            Number of genes by drug (the index), such as
            ``differential_genes(study).groupby("drug")["n_genes"].mean()``. Drugs that
            it does not have, or has as NaN, are left out.
        ranks, drugs : array-like of shape (n_queries,)
            As in :func:`performance_regression`.
        n_candidates : int or array-like of shape (n_queries,), default=None
            Number of molecules that were ranked, for the response of a random ranking.
        ax : matplotlib Axes, default=None
            Axes to draw on; a new figure by default.
        **kwargs : dict
            ``response``, ``confidence_level``, ``n_resamples`` and ``random_state`` of
            :func:`performance_regression`.

        Returns
        -------
        display : SpecificityDisplay

        Raises
        ------
        ValueError
            If a drug is twice in `n_genes` or has a negative number, or as
            :func:`performance_regression`.
        """
        of_drug = _check_n_genes(n_genes)
        drugs, ranks = np.asarray(drugs, dtype=object), np.asarray(ranks)
        x = pd.Series(drugs).map(of_drug).to_numpy(dtype=np.float64)
        known = ~np.isnan(x)
        if n_candidates is not None and np.ndim(n_candidates) == 1:
            n_candidates = np.asarray(n_candidates)[known]
        regression = performance_regression(
            np.log1p(x[known]),
            ranks[known],
            drugs[known],
            n_candidates=n_candidates,
            **kwargs,
        )
        n_unknown = len(pd.unique(drugs[~known]))
        return cls(regression, n_unknown=n_unknown).plot(ax)


def _check_n_genes(n_genes: Any) -> "pd.Series[float]":
    """Return the known numbers of genes, one for each drug."""
    if not isinstance(n_genes, pd.Series):
        raise TypeError(
            "n_genes must be a Series, with the drugs as its index. "
            f"Got {type(n_genes).__name__}."
        )
    known = n_genes.dropna().astype(np.float64)
    twice = known.index[known.index.duplicated()]
    if len(twice):
        raise ValueError(
            f"n_genes must hold each drug once. {len(twice)} come again, the first "
            f"{twice[0]!r}: take the mean over the cell lines."
        )
    bad = known[~((known >= 0) & np.isfinite(known))]
    if len(bad):
        raise ValueError(
            f"n_genes must be finite and at least 0. Got {bad.iloc[0]:g} for "
            f"{bad.index[0]!r}."
        )
    return known
