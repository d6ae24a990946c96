"""Smyth's moderated t-test: variances borrow strength from each other."""

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

__all__ = ["fit_variance_prior", "moderated_t_test"]

Floats = NDArray[np.float64]


def fit_variance_prior(variances: Floats, df: float) -> tuple[float, float]:
    r"""Fit the prior of the variances of many genes by moments.

    Parameters
    ----------
    variances : ndarray of shape (n_genes,)
        Residual variance of each gene, each with `df` degrees of freedom.
    df : float
        Residual degrees of freedom.

    Returns
    -------
    prior_df : float
        :math:`d_0`; infinite where the variances scatter no more than they would if
        all genes had the same.
    prior_variance : float
        :math:`s_0^2`.

    Raises
    ------
    ValueError
        If more than half of the variances are zero: no scale is left.

    Notes
    -----
    Under :math:`1 / \sigma_g^2 \sim \chi^2_{d_0} / (d_0 s_0^2)`, with
    :math:`e_g = \log s_g^2 - \psi(d/2) + \log(d/2)`,

    .. math:: \psi'(d_0 / 2) = \operatorname{var}(e_g) - \psi'(d/2), \qquad
              s_0^2 = \exp(\bar e + \psi(d_0/2) - \log(d_0/2)).

    For infinite :math:`d_0` the mean variance is returned, the maximum of the
    likelihood, as limma does. Variances below 1e-5 of the median are raised to it.

    References
    ----------
    G. K. Smyth, "Linear models and empirical Bayes methods for assessing differential
    expression in microarray experiments", Statistical Applications in Genetics and
    Molecular Biology 3 (2004), section 6.2.
    """
    median = float(np.median(variances))
    if median <= 0:
        raise ValueError(
            "More than half of the genes have a residual variance of 0; the prior of "
            "the variances needs replicates that differ."
        )
    variances = np.maximum(variances, 1e-5 * median)
    half = df / 2
    e = np.log(variances) - special.digamma(half) + np.log(half)
    excess = _variance(e) - float(special.polygamma(1, half))
    if excess <= 0:
        return np.inf, float(np.mean(variances))
    half_prior = trigamma_inverse(excess)
    location = np.mean(e) + special.digamma(half_prior) - np.log(half_prior)
    return 2 * half_prior, float(np.exp(location))


def _variance(values: Floats) -> float:
    return float(np.var(values, ddof=1)) if len(values) > 1 else 0.0


def trigamma_inverse(x: float) -> float:
    """Solve ``trigamma(y) = x`` for y > 0 by Newton's method (Smyth, appendix)."""
    if x > 1e7:
        return x**-0.5
    if x < 1e-6:
        return 1 / x
    y = 0.5 + 1 / x
    for _ in range(50):
        trigamma = special.polygamma(1, y)
        step = trigamma * (1 - trigamma / x) / special.polygamma(2, y)
        y += step
        # 1 / trigamma is convex, so that y grows from a start that is too small.
        if -step / y < 1e-8:
            break
    return float(y)


def moderated_t_test(
    effects: Floats,
    variances: Floats,
    df: float,
    *,
    unscaled_variance: float,
    prior: tuple[float, float] | None = None,
) -> tuple[Floats, Floats]:
    r"""Moderated t and its two-sided p-value for each gene.

    Parameters
    ----------
    effects : ndarray of shape (n_genes,)
        Estimated effects.
    variances : ndarray of shape (n_genes,)
        Residual variances, with `df` degrees of freedom.
    df : float
        Residual degrees of freedom.
    unscaled_variance : float
        Variance of an effect over that of one observation.
    prior : tuple of (float, float), default=None
        :math:`d_0` and :math:`s_0^2`; by default fitted by `fit_variance_prior`.
        With :math:`d_0 = 0` the test is the ordinary t-test.

    Returns
    -------
    t, p_values : ndarray of shape (n_genes,)

    Notes
    -----
    The statistic is the effect over :math:`\tilde s_g \sqrt{v}` with
    :math:`\tilde s_g^2 = (d_0 s_0^2 + d s_g^2) / (d_0 + d)`, and has
    :math:`d_0 + d` degrees of freedom, at most those of all genes together.
    """
    prior_df, prior_variance = prior or fit_variance_prior(variances, df)
    weight = 1.0 if np.isinf(prior_df) else prior_df / (prior_df + df)
    shrunken = weight * prior_variance + (1 - weight) * variances
    t = effects / np.sqrt(shrunken * unscaled_variance)
    total = min(prior_df + df, df * len(effects)) if prior_df > 0 else df
    return t, 2 * stats.t.sf(np.abs(t), total)
