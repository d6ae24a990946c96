"""Scores of an array of ranks, and what a random ranking would score."""

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import digamma

from sklearn_molge._utils.checks import check_n_candidates, check_ranks

__all__ = [
    "chance_scores",
    "hits_at_k",
    "mean_reciprocal_rank",
    "median_rank",
    "retrieval_scores",
]


def check_k(k: Any) -> list[int]:
    """Return the places at which hits are counted, as a list of int."""
    if isinstance(k, str) or not np.iterable(k):
        raise ValueError(f"k must be a sequence of int >= 1, as (1, 10). Got {k!r}.")
    for each in k:
        if not isinstance(each, Integral) or each < 1:
            raise ValueError(f"k must hold int >= 1. Got {each!r} in {k!r}.")
    return [int(each) for each in k]


def mean_reciprocal_rank(ranks: ArrayLike) -> float:
    """Mean of one over the rank; 1 is perfect.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best; mid-ranks where
        candidates tie.

    Returns
    -------
    mrr : float
        In (0, 1].

    Raises
    ------
    ValueError
        If `ranks` is empty, not 1-D, or holds NaN or a number below 1.

    Notes
    -----
    With one relevant molecule per query this is also the mean average precision.

    Examples
    --------
    >>> from sklearn_molge.metrics import mean_reciprocal_rank
    >>> mean_reciprocal_rank([1, 2, 4])
    0.583...
    """
    return float(np.mean(1.0 / check_ranks(ranks)))


def median_rank(ranks: ArrayLike) -> float:
    """Median of the ranks; 1 is perfect.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.

    Returns
    -------
    median : float
        The mean of the two middle ranks where their number is even.

    Raises
    ------
    ValueError
        If `ranks` is empty, not 1-D, or holds NaN or a number below 1.

    Examples
    --------
    >>> from sklearn_molge.metrics import median_rank
    >>> median_rank([1, 2, 4, 50])
    3.0
    """
    return float(np.median(check_ranks(ranks)))


def hits_at_k(ranks: ArrayLike, k: int) -> float:
    """Share of the queries whose true molecule is among the first k.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.
    k : int
        Number of molecules looked at, at least 1.

    Returns
    -------
    hits : float
        In [0, 1]. A mid-rank between k and k + 1 is no hit.

    Raises
    ------
    ValueError
        If `ranks` is empty, not 1-D, or holds NaN or a number below 1, or if `k` is
        not an int of at least 1.

    Examples
    --------
    >>> from sklearn_molge.metrics import hits_at_k
    >>> hits_at_k([1, 2, 4, 50], k=2)
    0.5
    """
    (k,) = check_k([k])
    return float(np.mean(check_ranks(ranks) <= k))


def retrieval_scores(
    ranks: ArrayLike, *, k: Sequence[int] = (1, 10, 100)
) -> dict[str, float]:
    """All scores of a ranking at once.

    Parameters
    ----------
    ranks : array-like of shape (n_queries,)
        Rank of the true molecule for each query, 1 being the best.
    k : sequence of int, default=(1, 10, 100)
        Where hits are counted.

    Returns
    -------
    scores : dict of str to float
        Keys "mrr", "median_rank" and "hits@k" for each k.

    Raises
    ------
    ValueError
        If `ranks` is empty, not 1-D, or holds NaN or a number below 1, or if `k` does
        not hold ints of at least 1.

    See Also
    --------
    chance_scores : The same scores of a random ranking.
    bootstrap_scores : The same scores with their intervals.

    Examples
    --------
    >>> from sklearn_molge.metrics import retrieval_scores
    >>> retrieval_scores([1, 2, 4, 50], k=(1, 10))
    {'mrr': 0.4425, 'median_rank': 3.0, 'hits@1': 0.25, 'hits@10': 0.75}
    """
    places = check_k(k)
    array = check_ranks(ranks)
    return {
        "mrr": mean_reciprocal_rank(array),
        "median_rank": median_rank(array),
        **{f"hits@{place}": hits_at_k(array, place) for place in places},
    }


def chance_scores(
    n_candidates: ArrayLike, *, k: Sequence[int] = (1, 10, 100)
) -> dict[str, float]:
    r"""Scores that a random ranking has on average.

    Parameters
    ----------
    n_candidates : int or array-like of shape (n_queries,)
        Number of molecules that were ranked, M; one number per query where the
        queries had different candidates.
    k : sequence of int, default=(1, 10, 100)
        Where hits are counted.

    Returns
    -------
    scores : dict of str to float
        The keys of :func:`retrieval_scores`.

    Raises
    ------
    ValueError
        If `n_candidates` is empty or holds anything but ints of at least 1, or if `k`
        does not hold ints of at least 1.

    Notes
    -----
    The rank is uniform on 1, ..., M, hence

    .. math:: \mathrm{MRR} = \frac{1}{M} \sum_{r=1}^{M} \frac{1}{r}, \quad
              \mathrm{MR} = \frac{M + 1}{2}, \quad
              \mathrm{hits@}k = \frac{\min(k, M)}{M}.

    With one M per query, MRR and hits are means over the queries, and the median is
    that of the mixture of their uniform distributions.

    Examples
    --------
    >>> from sklearn_molge.metrics import chance_scores
    >>> chance_scores(437, k=(10,))
    {'mrr': 0.015..., 'median_rank': 219.0, 'hits@10': 0.022...}
    """
    places = check_k(k)
    sizes = check_n_candidates(n_candidates)
    mrr = np.mean((digamma(sizes + 1.0) + np.euler_gamma) / sizes)
    hits = {f"hits@{p}": float(np.mean(np.minimum(p, sizes) / sizes)) for p in places}
    return {"mrr": float(mrr), "median_rank": _mixture_median(sizes), **hits}


def _mixture_median(sizes: NDArray[np.int64]) -> float:
    """Median of a rank that is uniform on 1..M, with M drawn from `sizes`."""
    mass = np.bincount(sizes)[1:] / np.arange(1, sizes.max() + 1) / sizes.size
    cumulative = np.cumsum(np.cumsum(mass[::-1])[::-1])
    # A probability of exactly one half is blurred by the sums.
    low, high = np.searchsorted(cumulative, [0.5 - 1e-9, 0.5 + 1e-9]) + 1
    return float(low + high) / 2
