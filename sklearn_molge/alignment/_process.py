"""Gaussian processes over molecules, one a direction of the space of drugs."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

__all__ = ["Committee", "Effects", "ExactProcess"]

_TINY = 1e-12
_INDEFINITE = 1e-6
_NONE = slice(0)


@dataclass(frozen=True)
class Effects:
    """Mean and variance of effects: (n_molecules, n_components) each."""

    mean: NDArray
    variance: NDArray

    def first(self, k: int) -> "Effects":
        return Effects(self.mean[:, :k], self.variance[:, :k])

    def rows(self, chosen) -> "Effects":
        return Effects(self.mean[chosen], self.variance[chosen])


@dataclass(frozen=True)
class ExactProcess:
    """The process after it has seen the training molecules.

    Attributes
    ----------
    vectors : ndarray of shape (n_molecules, n_molecules)
        Eigenvectors of n^1/2 (h2 K + (1 - h2) I) n^1/2, times n^1/2.
    values : ndarray of shape (n_molecules,)
        Its eigenvalues.
    coefficients : ndarray of shape (n_molecules, n_components)
        A mean effect is the kernel to the training molecules times these.
    variances : ndarray of shape (n_components,)
        Variances of drug effects.
    share : float
        Heritability.
    left_out : Effects
        Effect of each training molecule, predicted from the others.
    log_likelihood : float
        Of the means.
    """

    vectors: NDArray
    values: NDArray
    coefficients: NDArray
    variances: NDArray
    share: float
    left_out: Effects
    log_likelihood: float

    @classmethod
    def fit(cls, K, counts, means, variances, share) -> "ExactProcess":
        roots = np.sqrt(counts)[:, None]
        covariance = share * K + (1 - share) * np.eye(len(K))
        values, vectors = linalg.eigh(roots * covariance * roots.T, driver="evd")
        if values[0] < -_INDEFINITE * values[-1]:
            raise ValueError(
                "kernel must be positive semi-definite over the training molecules. "
                f"Got eigenvalues from {values[0]:.3g} to {values[-1]:.3g}."
            )
        values = np.maximum(values, 0)
        precisions = 1 / (variances * values[:, None] + 1)
        rotated = vectors.T @ (roots * means)
        solved = vectors @ (rotated * precisions)
        own = counts[:, None] * (vectors**2 @ precisions)
        left_out = Effects(
            means - roots * solved / own, np.maximum(1 / own - 1 / counts[:, None], 0)
        )
        log_likelihood = 0.5 * (
            np.log(precisions).sum()
            - np.sum(rotated**2 * precisions)
            + len(variances) * np.log(counts / (2 * np.pi)).sum()
        )
        return cls(
            roots * vectors,
            values,
            share * variances * (roots * solved),
            variances,
            share,
            left_out,
            float(log_likelihood),
        )

    def predict(self, K: NDArray, diagonal: NDArray) -> tuple[NDArray, NDArray]:
        """Mean and variance of what the kernel explains of molecules.

        K is their kernel to the training molecules.
        """
        precisions = 1 / (self.variances * self.values[:, None] + 1)
        known = (self.share * K @ self.vectors) ** 2 @ precisions
        prior = self.share * diagonal[:, None]
        variance = self.variances * np.maximum(prior - self.variances * known, 0)
        return K @ self.coefficients, variance

    def likelihood_gradient(self, counts, means) -> NDArray:
        """Gradient of the likelihood with respect to the entries of h2 K."""
        precisions = 1 / (self.variances * self.values[:, None] + 1)
        vectors = self.vectors  # which hold n^1/2 already
        rotated = vectors.T @ means
        solved = vectors @ (rotated * precisions * np.sqrt(self.variances))
        trace = (vectors * (precisions @ self.variances)) @ vectors.T
        return 0.5 * (solved @ solved.T - trace)


@dataclass(frozen=True)
class Committee:
    """Exact processes over parts of the molecules, whose predictions are combined.

    Attributes
    ----------
    experts : list of ExactProcess
    parts : list of ndarray
        The molecules of each expert.
    left_out : Effects
        Effect of each training molecule, predicted by its expert from its others.
    """

    experts: list[ExactProcess]
    parts: list[NDArray]
    left_out: Effects

    @classmethod
    def fit(cls, kernels, parts, counts, means, variances, share) -> "Committee":
        """Fit a process on each part; `kernels` yields the kernel within each."""
        experts, mean, variance = [], np.empty_like(means), np.empty_like(means)
        for K, part in zip(kernels, parts, strict=True):
            expert = ExactProcess.fit(K, counts[part], means[part], variances, share)
            mean[part] = expert.left_out.mean
            variance[part] = expert.left_out.variance
            experts.append(replace(expert, left_out=expert.left_out.rows(_NONE)))
        return cls(experts, parts, Effects(mean, variance))

    @property
    def log_likelihood(self) -> float:
        """Of the means, the parts taken as independent."""
        return sum(expert.log_likelihood for expert in self.experts)

    def predict(self, kernels: list[NDArray], diagonal: NDArray) -> Effects:
        """Predict molecules from their kernels to the parts.

        Precisions add, less the prior's, which each expert counts; so do the means
        that they weigh. With one expert this is its own prediction.
        """
        share, variances = self.experts[0].share, self.experts[0].variances
        prior = np.maximum(share * variances * diagonal[:, None], _TINY)
        precision, weighted = (1 - len(self.experts)) / prior, 0.0
        for expert, K in zip(self.experts, kernels, strict=True):
            mean, variance = expert.predict(K, diagonal)
            known = 1 / np.clip(variance, _TINY, prior)
            precision = precision + known
            weighted = weighted + known * mean
        return Effects(weighted / precision, 1 / precision + (1 - share) * variances)
