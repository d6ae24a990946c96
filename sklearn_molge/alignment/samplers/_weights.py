"""Probabilities of negatives by distance, and drawing from them.

Everything works on blocks: distances of shape (n_rows, n_columns) from each row's
drug to the drugs of the columns, and `own`, a mask of where that is the same drug.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlogy

from sklearn_molge.alignment.samplers._index import Indices


def uniform_weights(
    distances: NDArray, own: NDArray[np.bool_], *, largest: float
) -> NDArray:
    """Weigh each column by the distances t in [0, largest] that it is nearest to.

    Of columns at the same distance the first has the whole weight.
    """
    order = np.argsort(distances, axis=1, kind="stable")
    ranked = np.take_along_axis(distances, order, axis=1).astype(np.float64)
    left = np.empty((len(distances), distances.shape[1] + 1))
    left[:, 0] = 0.0
    left[:, -1] = largest
    left[:, 1:-1] = (ranked[:, 1:] + ranked[:, :-1]) / 2
    # A tied column begins where the next distance does: its weight is zero.
    left[:, 1:-1][ranked[:, 1:] == ranked[:, :-1]] = np.inf
    left = np.minimum.accumulate(left[:, ::-1], axis=1)[:, ::-1]
    weights = np.empty_like(ranked)
    np.put_along_axis(weights, order, np.diff(left, axis=1), axis=1)
    weights[own] = 0.0
    return weights


def wu_weights(
    distances: NDArray,
    own: NDArray[np.bool_],
    *,
    dimension: int,
    cutoff: float,
    max_distance: float,
) -> NDArray:
    """Weigh each column by min(1 / q(cutoff), 1 / q(d)), relative to the row's largest.

    With d = sqrt(2 * distance), the chord between unit vectors with cosine
    1 - distance.
    """
    chords = np.sqrt(2 * distances.astype(np.float64))
    limit = _log_density(np.array(cutoff), dimension)
    log_weights = -np.maximum(_log_density(chords, dimension), limit)
    log_weights[own | (chords > max_distance)] = -np.inf
    largest = log_weights.max(axis=1, keepdims=True)
    largest[np.isneginf(largest)] = 0.0
    return np.exp(log_weights - largest)


def _log_density(chords: NDArray, dimension: int) -> NDArray:
    """Log of q(d) ~ d^(n - 2) (1 - d^2 / 4)^((n - 3) / 2), on the unit sphere."""
    return xlogy(dimension - 2, chords) + xlogy(
        (dimension - 3) / 2, np.maximum(1 - chords**2 / 4, 0)
    )


def cumulative_probabilities(
    weights: NDArray, own: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Cumulate each row to 1; rows without any weight become uniform but for `own`."""
    empty = ~weights.any(axis=1)
    weights[empty] = ~own[empty]
    cumulative = np.cumsum(weights, axis=1)
    return (cumulative / cumulative[:, -1:]).astype(np.float32)


def draw_columns(
    cumulative: NDArray[np.float32], rows: Indices, rng: np.random.Generator
) -> Indices:
    """Draw a column from each of the rows, by bisection of all at once."""
    targets = rng.random(len(rows))
    low = np.zeros(len(rows), dtype=np.intp)
    high = np.full(len(rows), cumulative.shape[1] - 1)
    for _ in range((cumulative.shape[1] - 1).bit_length()):
        middle = (low + high) // 2
        beyond = cumulative[rows, middle] <= targets
        low = np.where(beyond, middle + 1, low)
        high = np.where(beyond, high, middle)
    return low
