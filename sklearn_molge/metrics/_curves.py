"""Recall and precision as the list of molecules grows."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.checks import check_ranks

__all__ = ["precision_recall", "recall_at_k"]

_N_CANDIDATES: dict[str, list[Any]] = {
    "n_candidates": [Interval(Integral, 1, None, closed="left")]
}


@validate_params(_N_CANDIDATES, prefer_skip_nested_validation=True)
def recall_at_k(
    ranks: ArrayLike, n_candidates: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Share of the queries whose true molecule is among the first k, for every k.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.
    n_candidates : int
        Number of molecules that were ranked for every query.

    Returns
    -------
    k : ndarray of shape (n_candidates,)
        1, ..., n_candidates.
    recall : ndarray of shape (n_candidates,)
        ``hits_at_k(ranks, k)``; a random ranking has ``k / n_candidates``.

    Raises
    ------
    ValueError
        If `ranks` is empty, not 1-D, or holds NaN or a number outside 1 to
        `n_candidates`.

    Examples
    --------
    >>> from sklearn_molge.metrics import recall_at_k
    >>> k, recall = recall_at_k([1, 2, 2, 4], 4)
    >>> recall
    array([0.25, 0.75, 0.75, 1.  ])
    """
    ordered = np.sort(check_ranks(ranks, n_candidates=n_candidates))
    k = np.arange(1, n_candidates + 1)
    return k, np.searchsorted(ordered, k, side="right") / len(ordered)


@validate_params(
    {**_N_CANDIDATES, "variant": [StrOptions({"correct", "finlayson2020"})]},
    prefer_skip_nested_validation=True,
)
def precision_recall(
    ranks: ArrayLike, n_candidates: int, *, variant: str = "correct"
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    r"""Precision and recall of the first k molecules, for every k.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.
    n_candidates : int
        Number of molecules that were ranked for every query, M.
    variant : {"correct", "finlayson2020"}, default="correct"
        "finlayson2020" gives the numbers of the paper's figures 2 and A1, which are
        too large by n_queries / M.

    Returns
    -------
    precision : ndarray of shape (n_candidates,)
        Mean over the queries of the share of the first k that is relevant.
    recall : ndarray of shape (n_candidates,)
        Share of the queries whose true molecule is among the first k.
    k : ndarray of shape (n_candidates,)
        1, ..., n_candidates.

    Raises
    ------
    ValueError
        If `ranks` is empty, not 1-D, or holds NaN or a number outside 1 to
        `n_candidates`.

    Notes
    -----
    A query has one relevant molecule, so that

    .. math:: \mathrm{precision}(k) = \frac{\mathrm{recall}(k)}{k},

    and a random ranking has precision 1 / M at every k. The code behind the paper's
    curves was never published; their readable points fit hits divided by (number of
    drugs times k) in place of (number of queries times k):

    .. math:: \mathrm{precision}_\mathrm{2020}(k) =
              \frac{n_\mathrm{queries}}{M} \frac{\mathrm{recall}(k)}{k},

    with 2,317 queries and M = 437: 5.3 times too large, 0.012 where recall is 1.

    References
    ----------
    Finlayson et al. (2020), figures 2 and A1.

    Examples
    --------
    >>> from sklearn_molge.metrics import precision_recall
    >>> precision, recall, k = precision_recall([1, 2, 2, 4], 4)
    >>> precision
    array([0.25 , 0.375, 0.25 , 0.25 ])
    >>> recall
    array([0.25, 0.75, 0.75, 1.  ])
    """
    k, recall = recall_at_k(ranks, n_candidates)
    precision = recall / k
    if variant == "finlayson2020":
        precision = precision * (len(np.asarray(ranks)) / n_candidates)
    return precision, recall, k
