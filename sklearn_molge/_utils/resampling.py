"""Resampling whole drugs."""

from collections.abc import Iterator
from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array
from sklearn.utils import check_random_state

from sklearn_molge._compat import Interval
from sklearn_molge._utils.groups import encode_labels
from sklearn_molge._utils.typing import RandomState

__all__ = [
    "RESAMPLING_CONSTRAINTS",
    "block_sizes",
    "encode_drugs",
    "percentile_interval",
    "rank_histograms",
    "recall_interval",
    "resampled_counts",
    "resampled_sums",
]

# Elements of the largest array that a block of resamples makes: 32 MB.
_BLOCK_ELEMENTS = 2**22

RESAMPLING_CONSTRAINTS: dict[str, list[object]] = {
    "n_resamples": [Interval(Integral, 1, None, closed="left")],
    "confidence_level": [Interval(Real, 0, 1, closed="neither")],
    "random_state": ["random_state"],
}

Counts = NDArray[np.int64]
Codes = NDArray[np.intp]
Floats = NDArray[np.float64]


def encode_drugs(drugs: ArrayLike, n_queries: int) -> tuple[Codes, int]:
    """Return each query's drug as a number, and how many drugs there are."""
    labels = np.asarray(drugs, dtype=object)
    if labels.shape != (n_queries,):
        raise ValueError(
            f"drugs must hold one drug for each of the {n_queries} ranks. "
            f"Got an array of shape {labels.shape}."
        )
    codes, distinct = encode_labels(labels, name="drugs")
    if len(distinct) < 2:
        raise ValueError(
            "drugs must hold at least 2 distinct drugs: one drug says nothing about "
            f"how others vary. Got only {distinct[0]!r}."
        )
    return codes, len(distinct)


def percentile_interval(samples: Floats, confidence_level: float) -> Floats:
    """Return (low, high) of samples along the last axis."""
    tail = (1 - confidence_level) / 2
    return np.quantile(samples, [tail, 1 - tail], axis=-1)


def resampled_counts(
    n_drugs: int, n_resamples: int, n_queries: int, random_state: RandomState
) -> Iterator[Counts]:
    """Yield how often each drug is drawn, in blocks of resamples (rows)."""
    rng = check_random_state(random_state)
    for size in block_sizes(n_resamples, n_queries):
        yield rng.multinomial(n_drugs, np.full(n_drugs, 1 / n_drugs), size=size)


def resampled_sums(
    sums: NDArray, n_resamples: int, random_state: RandomState
) -> Floats:
    """Add up the rows of `sums`, one a drug, of each resample of the drugs."""
    n = len(sums)
    blocks = resampled_counts(n, n_resamples, n, random_state)
    return np.concatenate([counts @ sums for counts in blocks])


def block_sizes(n_resamples: int, n_queries: int) -> list[int]:
    size = max(1, _BLOCK_ELEMENTS // n_queries)
    return [min(size, n_resamples - i) for i in range(0, n_resamples, size)]


def rank_histograms(places: Codes, codes: Codes, n_places: int) -> csr_array:
    """Count the queries of each drug (column) at each place (row)."""
    ones = np.ones(len(places), dtype=np.int64)
    return csr_array((ones, (places, codes)), shape=(n_places, codes.max() + 1))


def recall_interval(
    ranks: Floats,
    drugs: ArrayLike,
    n_candidates: int,
    *,
    n_resamples: int,
    confidence_level: float,
    random_state: RandomState,
) -> Floats:
    """Return (low, high) of recall at k = 1, ..., n_candidates."""
    codes, n_drugs = encode_drugs(drugs, len(ranks))
    rng = check_random_state(random_state)
    counts = rng.multinomial(n_drugs, np.full(n_drugs, 1 / n_drugs), size=n_resamples)
    n_drawn = counts @ np.bincount(codes)
    # A mid-rank between k and k + 1 is a hit from k + 1 on.
    first_hit = np.ceil(ranks).astype(np.intp) - 1
    histograms = rank_histograms(first_hit, codes, n_candidates)
    interval = np.empty((2, n_candidates))
    hits = np.zeros((1, n_resamples), dtype=np.int64)
    step = max(1, _BLOCK_ELEMENTS // n_resamples)
    for start in range(0, n_candidates, step):
        block = slice(start, start + step)
        hits = hits[-1] + np.cumsum(histograms[block] @ counts.T, axis=0)
        interval[:, block] = percentile_interval(hits / n_drawn, confidence_level)
    return interval
