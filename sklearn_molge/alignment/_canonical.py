"""Linear algebra of ridge CCA: decompose both views once, solve for any ridge."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse


@dataclass(frozen=True)
class View:
    """Covariance of one view, as eigenvectors and eigenvalues.

    Attributes
    ----------
    mean : ndarray of shape (n_features,)
        Weighted mean of the rows.
    axes : ndarray of shape (n_features, rank)
        Eigenvectors of the covariance with an eigenvalue above rounding.
    variances : ndarray of shape (rank,)
        Their eigenvalues.
    unit : float
        Mean variance of a feature that varies: a ridge of 1 is this much.
    """

    mean: NDArray
    axes: NDArray
    variances: NDArray
    unit: float

    def whitening(self, ridge: float) -> NDArray:
        """Return the square roots of the inverse regularised variances."""
        return 1 / np.sqrt(self.variances + ridge * self.unit)


@dataclass(frozen=True)
class ViewPair:
    """Both views decomposed, and their covariance along the axes of each."""

    x: View
    y: View
    cross: NDArray


def decompose(X: NDArray, y: NDArray, codes: NDArray, weights: NDArray) -> ViewPair:
    """Decompose two views whose rows have `weights`.

    Parameters
    ----------
    X : ndarray of shape (n_molecules, n_features)
        Features of each distinct molecule.
    y : ndarray of shape (n_samples, n_genes)
        Profiles.
    codes : ndarray of shape (n_samples,)
        Row of X that is the molecule of each profile.
    weights : ndarray of shape (n_samples,)
        Positive weight of each profile.
    """
    weights = weights / weights.sum()
    molecule_weights = np.bincount(codes, weights=weights, minlength=len(X))
    x_view, x_rows = _decompose_view(X, molecule_weights)
    y_view, y_rows = _decompose_view(y, weights)
    # A molecule is one row: its profiles are summed before they meet its features.
    shares = np.sqrt(weights / molecule_weights[codes])
    sums = sparse.csr_array((shares, (codes, np.arange(len(y))))) @ y_rows
    cross = x_view.axes.T @ (x_rows.T @ sums) @ y_view.axes
    return ViewPair(x_view, y_view, cross)


def _decompose_view(rows: NDArray, weights: NDArray) -> tuple[View, NDArray]:
    """Return the decomposition, and the centred rows times their root weights."""
    mean = weights @ rows
    centred = (rows - mean) * np.sqrt(weights)[:, None]
    n, p = centred.shape
    if p <= n:
        variances, axes = linalg.eigh(centred.T @ centred)
    else:
        variances, left = linalg.eigh(centred @ centred.T)
    kept = variances > variances[-1] * max(n, p) * np.finfo(np.float64).eps
    variances = variances[kept]
    if p <= n:
        axes = axes[:, kept]
    else:
        axes = centred.T @ (left[:, kept] / np.sqrt(variances))
    n_varying = max(1, np.count_nonzero(np.ptp(rows, axis=0)))
    return View(mean, axes, variances, variances.sum() / n_varying), centred


def solve(
    views: ViewPair, ridge: float, n_components: int
) -> tuple[NDArray, NDArray, NDArray]:
    """Return correlations and the rotations of X and y for one ridge."""
    x_white, y_white = views.x.whitening(ridge), views.y.whitening(ridge)
    matrix = x_white[:, None] * views.cross * y_white
    left, correlations, right = _leading_svd(matrix, n_components)
    x_rotations = views.x.axes @ (x_white[:, None] * left)
    y_rotations = views.y.axes @ (y_white[:, None] * right)
    largest = np.argmax(np.abs(x_rotations), axis=0)
    signs = np.sign(x_rotations[largest, np.arange(len(correlations))])
    return correlations, x_rotations * signs, y_rotations * signs


def _leading_svd(matrix: NDArray, k: int) -> tuple[NDArray, NDArray, NDArray]:
    """Return the k leading singular triplets, by the eigenvectors of the Gram matrix.

    Canonical correlations are at most 1, so that the square in the Gram matrix costs
    a correlation c no more than eps / c.
    """
    if matrix.shape[0] > matrix.shape[1]:
        right, values, left = _leading_svd(matrix.T, k)
        return left, values, right
    m = len(matrix)
    k = min(k, m)
    squares, left = linalg.eigh(matrix @ matrix.T, subset_by_index=[m - k, m - 1])
    squares, left = squares[::-1], left[:, ::-1]
    values = np.sqrt(np.maximum(squares, 0))
    tiny = np.finfo(np.float64).tiny
    right = (matrix.T @ left) / np.maximum(values, tiny)
    return left, values, right
