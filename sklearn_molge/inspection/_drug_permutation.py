"""A permutation test for points that come in drugs."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["permutation_p_value"]

Floats = NDArray[np.float64]


def permutation_p_value(
    x: Floats, y: Floats, codes: NDArray[np.intp], n_resamples: int, rng: Any
) -> float:
    """Two-sided p-value of no relation of x and y, keeping drugs together.

    Drugs exchange their y with drugs of as many rows; within a drug, the order is
    random. The statistic is the distance of ``sum(x * y)`` from its mean under these
    permutations. It does not depend on the order of the rows.

    Parameters
    ----------
    x, y : ndarray of shape (n,)
    codes : ndarray of int of shape (n,)
        Drug of each row, 0 to n_drugs - 1.
    n_resamples : int
        Number of permutations.
    rng : RandomState

    Returns
    -------
    p_value : float
        At least ``1 / (1 + n_resamples)``.
    """
    x, y = x - x.mean(), y - y.mean()
    blocks = _blocks(x, y, codes)
    expected = sum(a.size * a.mean() * b.mean() for a, b in blocks)
    observed = abs(sum(np.vdot(a, b) for a, b in blocks) - expected)
    # Equal sums are added up in another order.
    observed -= 1e-12 * np.sqrt(np.sum(x**2) * np.sum(y**2))
    extreme = 0
    for _ in range(n_resamples):
        total = sum(np.vdot(a, _shuffled(b, rng)) for a, b in blocks)
        extreme += int(abs(total - expected) >= observed)
    return (1 + extreme) / (1 + n_resamples)


def _blocks(
    x: Floats, y: Floats, codes: NDArray[np.intp]
) -> list[tuple[Floats, Floats]]:
    """Return x and y of the drugs with k rows, as arrays of shape (n_drugs, k)."""
    order = np.lexsort((y, x, codes))
    sizes = np.bincount(codes)
    size_of_row = np.repeat(sizes, sizes)
    blocks = []
    for size in np.unique(sizes):
        rows = order[size_of_row == size].reshape(-1, size)
        blocks.append((x[rows], y[rows]))
    return blocks


def _shuffled(block: Floats, rng: Any) -> Floats:
    block = block[rng.permutation(len(block))]
    if block.shape[1] == 1:
        return block
    order = rng.random_sample(block.shape).argsort(axis=1)
    return np.take_along_axis(block, order, axis=1)
