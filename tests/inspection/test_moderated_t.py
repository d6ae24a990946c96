import numpy as np
import pytest
from scipy import special, stats

from sklearn_molge.inspection._differential import (
    fit_variance_prior,
    moderated_t_test,
    trigamma_inverse,
)


@pytest.mark.parametrize("y", [1e-4, 0.01, 0.5, 1.0, 3.7, 40.0, 1e5, 1e8])
def test_trigamma_inverse(y):
    assert trigamma_inverse(special.polygamma(1, y)) == pytest.approx(y, rel=1e-4)


def trigamma_by_series(x):
    """Slow: the sum of 1 / (x + k)^2, and its tail as an integral."""
    k = np.arange(200_000)
    return np.sum(1 / (x + k) ** 2) + 1 / (x + len(k) - 0.5)


def test_prior_by_a_slow_search():
    """The moment equations, by bisection and sums in place of Newton and scipy."""
    variances = np.array([0.2, 0.5, 1.0, 1.5, 4.0, 9.0, 0.05, 2.0])
    df = 6
    digamma_3 = 1 + 1 / 2 - np.euler_gamma
    e = [np.log(s) - digamma_3 + np.log(3) for s in variances]
    mean = sum(e) / len(e)
    excess = sum((each - mean) ** 2 for each in e) / (len(e) - 1)
    excess -= trigamma_by_series(3)
    low, high = 0.01, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        if trigamma_by_series(middle) > excess:
            low = middle
        else:
            high = middle
    step = 1e-5
    digamma = (special.gammaln(low + step) - special.gammaln(low - step)) / (2 * step)
    d0, s2 = fit_variance_prior(variances, df)
    assert d0 == pytest.approx(2 * low, rel=1e-5)
    assert s2 == pytest.approx(np.exp(mean + digamma - np.log(low)), rel=1e-5)


def test_equal_variances_have_an_infinite_prior():
    assert fit_variance_prior(np.full(100, 2.5), 4) == (np.inf, 2.5)
    drawn = 2.0 * stats.chi2(4).rvs(200, random_state=1) / 4
    # Less scatter than sampling alone: the middle of what was drawn.
    d0, s2 = fit_variance_prior(np.sort(drawn)[50:150], 4)
    assert np.isinf(d0)
    assert s2 == pytest.approx(np.mean(np.sort(drawn)[50:150]))


@pytest.mark.parametrize(("d0", "s2", "df"), [(4.0, 0.3, 10), (12.0, 5.0, 3)])
def test_recovers_the_prior_that_was_drawn_from(d0, s2, df):
    rng = np.random.default_rng(0)
    true = d0 * s2 / rng.chisquare(d0, size=200_000)
    variances = true * rng.chisquare(df, size=len(true)) / df
    fitted = fit_variance_prior(variances, df)
    assert fitted == pytest.approx((d0, s2), rel=0.05)


def test_zero_variances():
    with pytest.raises(ValueError, match="More than half"):
        fit_variance_prior(np.array([0.0, 0.0, 1.0]), 3)
    d0, s2 = fit_variance_prior(np.array([0.0, 1.0, 2.0, 3.0]), 3)
    assert np.isfinite([d0, s2]).all()


def test_without_prior_it_is_the_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 30)), rng.normal(size=(7, 30))
    expected = stats.ttest_ind(a, b)
    squares = a.var(axis=0) * 5 + b.var(axis=0) * 7
    t, p = moderated_t_test(
        a.mean(axis=0) - b.mean(axis=0),
        squares / 10,
        10,
        unscaled_variance=1 / 5 + 1 / 7,
        prior=(0.0, 1.0),
    )
    np.testing.assert_allclose(t, expected.statistic)
    np.testing.assert_allclose(p, expected.pvalue)


def test_shrinkage_by_hand():
    effects, variances = np.array([1.0, 2.0]), np.array([1.0, 4.0])
    t, p = moderated_t_test(
        effects, variances, 4, unscaled_variance=0.5, prior=(2.0, 1.0)
    )
    # (2 * 1 + 4 * 1) / 6 = 1 and (2 * 1 + 4 * 4) / 6 = 3.
    np.testing.assert_allclose(t, [1 / np.sqrt(0.5), 2 / np.sqrt(1.5)])
    np.testing.assert_allclose(p, 2 * stats.t.sf(t, 6))
    # With an infinite prior all genes have its variance, and together 8 df.
    t, p = moderated_t_test(
        effects, variances, 4, unscaled_variance=1.0, prior=(np.inf, 4.0)
    )
    np.testing.assert_allclose(t, [0.5, 1.0])
    np.testing.assert_allclose(p, 2 * stats.t.sf(t, 8))


def test_p_values_are_uniform_without_an_effect():
    rng = np.random.default_rng(0)
    sd = np.sqrt(4 * 0.5 / rng.chisquare(4, size=5000))
    wells = sd * rng.normal(size=(6, 5000))
    effects = wells[:3].mean(axis=0) - wells[3:].mean(axis=0)
    squares = 3 * (wells[:3].var(axis=0) + wells[3:].var(axis=0))
    _, p = moderated_t_test(effects, squares / 4, 4, unscaled_variance=2 / 3)
    assert stats.kstest(p, "uniform").pvalue > 0.01
