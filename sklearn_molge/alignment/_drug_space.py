"""The space in which drugs differ by more than the noise of their replicates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from sklearn.utils.extmath import row_norms

from sklearn_molge._utils.rows import row_batches

__all__ = ["SMALLEST_EFFECT", "DrugSpace", "Replicates"]

SMALLEST_EFFECT = 1e-6
_SMALLEST_NOISE = 1e-4
_JITTER = 1e-10


@dataclass(frozen=True)
class DrugSpace:
    """Directions in which the noise of a profile has variance 1.

    Attributes
    ----------
    mean : ndarray of shape (n_genes,)
    rotations : ndarray of shape (n_genes, n_components)
    variances : ndarray of shape (n_components,)
        Variances of drug effects, in descending order.
    """

    mean: NDArray
    rotations: NDArray
    variances: NDArray

    def project(self, profiles: NDArray) -> NDArray:
        result = np.empty((len(profiles), self.rotations.shape[1]))
        for part in row_batches(*profiles.shape):
            result[part] = (profiles[part] - self.mean) @ self.rotations
        return result

    def first(self, k: int) -> "DrugSpace":
        return DrugSpace(self.mean, self.rotations[:, :k], self.variances[:k])


@dataclass(frozen=True)
class Replicates:
    """Profiles, the molecule of each, and weights: noise has variance 1 / weight."""

    profiles: NDArray
    codes: NDArray
    weights: NDArray

    def of_molecules(self, chosen: NDArray) -> "Replicates":
        """Return the profiles of some molecules, numbered in the order of `chosen`."""
        place = np.full(self.codes.max() + 1, -1)
        place[chosen] = np.arange(len(chosen))
        codes = place[self.codes]
        rows = codes >= 0
        return Replicates(self.profiles[rows], codes[rows], self.weights[rows])

    def means(self, space: DrugSpace) -> tuple[NDArray, NDArray]:
        """Return total weight and weighted mean in `space` of each molecule."""
        return self._means(space.project(self.profiles))

    def _means(self, rows: NDArray) -> tuple[NDArray, NDArray]:
        n = np.bincount(self.codes, self.weights)
        places = (self.codes, np.arange(len(rows)))
        return n, (sparse.csr_array((self.weights, places)) @ rows) / n[:, None]

    def separate(self, n_pca_components: int, shrinkage: float) -> DrugSpace:
        """Find the directions, by variance between drugs over that within."""
        total = self.weights.sum()
        mean = self.weights @ self.profiles / total
        spread, axes = _principal_axes(
            self.profiles,
            mean,
            np.sqrt(self.weights / total),
            n_pca_components,
        )
        if not axes.size:  # profiles do not vary
            return DrugSpace(mean, axes, np.empty(0))
        rows = DrugSpace(mean, axes, spread).project(self.profiles)
        noise = self._noise(rows, spread, shrinkage)
        # The mean of w (z - mean)^2 holds the noise once a row, whatever its weight.
        between = np.diag(spread) - noise * (len(rows) / total)
        variances, vectors = linalg.eigh(between, noise)
        order = np.argsort(-variances, kind="stable")
        # At least one, so that there is an answer, which says nothing.
        order = order[: max(1, np.count_nonzero(variances > SMALLEST_EFFECT))]
        variances = np.maximum(variances, SMALLEST_EFFECT)
        vectors = vectors[:, order]
        largest = np.argmax(np.abs(vectors), axis=0)
        vectors = vectors * np.sign(vectors[largest, np.arange(len(order))])
        return DrugSpace(mean, axes @ vectors, variances[order])

    def _noise(self, rows, spread, shrinkage) -> NDArray:
        """Covariance of the noise of a profile of weight 1."""
        n_free = len(rows) - (self.codes.max() + 1)
        identity = np.eye(rows.shape[1])
        if n_free == 0:
            return identity * spread[len(spread) // 2 :].mean() / 2
        within = rows - self._means(rows)[1][self.codes]
        noise = (self.weights[:, None] * within).T @ within / n_free
        level = np.trace(noise) / len(noise)
        if level <= spread.sum() * np.finfo(float).eps:  # replicates that are the same
            level = spread.mean() * _SMALLEST_NOISE
        return (1 - shrinkage) * noise + max(shrinkage, _JITTER) * level * identity


def _principal_axes(
    profiles: NDArray, mean: NDArray, roots: NDArray, n_components: int
) -> tuple[NDArray, NDArray]:
    """Variances and axes of the leading components, on the smaller of both sides.

    Of profiles less their mean, times their root weights, which have squares of sum 1.
    """
    n, p = profiles.shape
    wide = p > n
    if wide:
        rows = (profiles - mean) * roots[:, None]
        products = rows @ rows.T
    else:  # a block at a time: a study is not copied
        products = np.zeros((p, p))
        for part in row_batches(n, p):
            rows = (profiles[part] - mean) * roots[part, None]
            products += rows.T @ rows
    first = max(0, min(n, p) - n_components)
    spread, axes = linalg.eigh(products, subset_by_index=[first, min(n, p) - 1])
    spread, axes = spread[::-1], axes[:, ::-1]
    eps = max(n, p) * np.finfo(float).eps
    # What is left of equal profiles by rounding is no difference.
    square = roots**2 @ row_norms(profiles, squared=True)
    kept = spread > max(spread[0] * eps, square * eps**2)
    spread, axes = spread[kept], axes[:, kept]
    return spread, rows.T @ (axes / np.sqrt(spread)) if wide else axes
