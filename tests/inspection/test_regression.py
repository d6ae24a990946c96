from itertools import permutations

import numpy as np
import pytest
from scipy import stats

from sklearn_molge.inspection import performance_regression
from sklearn_molge.metrics import chance_scores

DRUGS = ["a", "a", "b", "c", "c", "c", "d"]
X = [0.5, 0.5, 1.0, 2.0, 2.0, 2.0, 4.0]
RANKS = [1, 4, 2, 10, 5, 1, 8]


def simulate(n_drugs=40, seed=0, slope=0.0, between=1.0, sizes=(2, 5)):
    """Profiles of drugs: x and ranks have a part that is the drug's own."""
    rng = np.random.default_rng(seed)
    drugs = np.repeat(np.arange(n_drugs), rng.integers(*sizes, size=n_drugs))
    x = between * rng.normal(size=n_drugs)[drugs] + rng.normal(size=len(drugs))
    y = between * rng.normal(size=n_drugs)[drugs] + rng.normal(size=len(drugs))
    return x, np.exp(y + slope * x + 30), drugs.astype(str)


def test_points_per_drug_by_hand():
    fit = performance_regression(X, RANKS, DRUGS, random_state=0)
    table = fit.table.set_index("drug")
    assert table["x"].to_dict() == {"a": 0.5, "b": 1.0, "c": 2.0, "d": 4.0}
    mrr = {"a": 0.625, "b": 0.5, "c": 1.3 / 3, "d": 0.125}
    assert table["mrr"].to_dict() == pytest.approx(mrr)
    assert table["median_rank"].to_dict() == {"a": 2.5, "b": 2, "c": 5, "d": 8}
    assert table["n_profiles"].to_dict() == {"a": 2, "b": 1, "c": 3, "d": 1}
    np.testing.assert_allclose(table["response"], -np.log(list(mrr.values())))
    expected = stats.linregress(table["x"], table["response"])
    assert (fit.slope, fit.intercept) == pytest.approx(expected[:2])
    assert (fit.r, fit.p_value) == pytest.approx((expected.rvalue, expected.pvalue))
    assert fit.naive_p_value == fit.p_value
    assert (fit.n, fit.n_drugs, fit.n_dropped, fit.chance) == (4, 4, 0, None)
    np.testing.assert_allclose(
        fit.predict([0, 2]), [fit.intercept, fit.intercept + 2 * fit.slope]
    )


def test_median_rank_and_single_profiles():
    by_rank = performance_regression(X, RANKS, DRUGS, response="rank", random_state=0)
    assert by_rank.table["response"].tolist() == [2.5, 2, 5, 8]
    single = performance_regression(X, RANKS, DRUGS, per="profile", random_state=0)
    np.testing.assert_allclose(single.table["response"], np.log(RANKS))
    assert single.table["drug"].tolist() == DRUGS
    expected = stats.linregress(X, np.log(RANKS))
    assert single.slope == pytest.approx(expected.slope)
    assert single.naive_p_value == pytest.approx(expected.pvalue)
    assert (single.n, single.n_drugs) == (7, 4)


def test_logarithm_drops_zeros_and_counts_them():
    x = [0.0, 0.0, 1.0, 2.0, 2.0, 2.0, 4.0]
    fit = performance_regression(x, RANKS, DRUGS, log_x=True, random_state=0)
    np.testing.assert_allclose(fit.table["x"], np.log([1, 2, 4]))
    assert (fit.n_dropped, fit.n, fit.table["drug"].tolist()) == (1, 3, list("bcd"))
    single = performance_regression(
        x, RANKS, DRUGS, log_x=True, per="profile", random_state=0
    )
    assert (single.n_dropped, single.n) == (2, 5)


@pytest.mark.parametrize("per", ["drug", "profile"])
def test_bootstrap_draws_whole_drugs(per):
    """Each resample against a line through the rows of the drawn drugs."""
    x, ranks, drugs = simulate(12)
    fit = performance_regression(
        x, ranks, drugs, per=per, n_resamples=50, random_state=3
    )
    names = np.unique(drugs)
    counts = np.random.RandomState(3).multinomial(12, np.full(12, 1 / 12), size=50)
    at, response = fit.table["x"].to_numpy(), fit.table["response"].to_numpy()
    lines = []
    for count in counts:
        rows = np.concatenate(
            [
                np.flatnonzero(fit.table["drug"] == name)
                for name, n in zip(names, count, strict=True)
                for _ in range(n)
            ]
        )
        line = stats.linregress(at[rows], response[rows])
        lines.append((line.slope, line.intercept, line.rvalue))
    slopes, intercepts, r = np.transpose(lines)
    tails = [0.025, 0.975]
    assert (fit.slope_low, fit.slope_high) == pytest.approx(np.quantile(slopes, tails))
    assert (fit.r_low, fit.r_high) == pytest.approx(np.quantile(r, tails))
    np.testing.assert_allclose(
        fit.interval([0.0, 1.0]),
        np.quantile([intercepts, intercepts + slopes], tails, axis=1),
        rtol=1e-9,
    )


def test_seed_and_order_of_rows():
    x, ranks, drugs = simulate()
    order = np.random.default_rng(1).permutation(len(x))
    for per in ("drug", "profile"):
        arguments = {"per": per, "n_resamples": 99, "random_state": 0}
        one = performance_regression(x, ranks, drugs, **arguments)
        same = performance_regression(x, ranks, drugs, **arguments)
        other = performance_regression(
            x[order], ranks[order], drugs[order], **arguments
        )
        assert one.summary() == same.summary()
        numbers = ("slope", "slope_low", "r_high", "p_value")
        assert [getattr(one, each) for each in numbers] == pytest.approx(
            [getattr(other, each) for each in numbers]
        )


def test_permutation_is_the_exact_test_for_equal_sizes():
    """Four drugs of one row: all 24 orders of the ranks."""
    x, ranks = np.array([0.0, 1, 2, 5]), np.array([2.0, 1, 4, 20])
    orders = np.array(list(permutations(range(4))))
    totals = np.abs(np.log(ranks)[orders] @ (x - x.mean()))
    exact = np.mean(totals >= totals[0] - 1e-9)
    fit = performance_regression(
        x, ranks, list("abcd"), per="profile", n_resamples=4000, random_state=0
    )
    assert fit.p_value == pytest.approx(exact, abs=0.02)


def test_p_value_of_dependent_profiles_is_honest():
    """Without a relation, 5 % are below 0.05; the naive test has many more."""
    honest, naive = [], []
    for seed in range(40):
        x, ranks, drugs = simulate(25, seed, between=3.0, sizes=(7, 9))
        fit = performance_regression(
            x, ranks, drugs, per="profile", n_resamples=99, random_state=seed
        )
        honest.append(fit.p_value <= 0.05)
        naive.append(fit.naive_p_value <= 0.05)
    assert np.mean(honest) <= 0.15
    assert np.mean(naive) >= 0.3


def test_p_value_finds_a_relation():
    x, ranks, drugs = simulate(60, slope=0.8)
    fit = performance_regression(
        x, ranks, drugs, per="profile", n_resamples=199, random_state=0
    )
    assert fit.p_value == 1 / 200
    assert fit.slope_low < 0.8 < fit.slope_high


@pytest.mark.parametrize("per", ["drug", "profile"])
def test_constant_x_has_no_line(per):
    fit = performance_regression(
        np.full(7, 0.1), RANKS, DRUGS, per=per, n_candidates=10, random_state=0
    )
    for name in ("slope", "r", "p_value", "slope_low", "r_high"):
        assert np.isnan(getattr(fit, name))
    assert np.isnan(fit.interval([0, 1])).all()
    assert np.isfinite(fit.chance)


def test_constant_ranks_and_too_few_points():
    flat = performance_regression(X, np.full(7, 3), DRUGS, random_state=0)
    assert flat.slope == 0
    assert np.isnan([flat.r, flat.p_value, flat.r_low, flat.r_high]).all()
    two = performance_regression([1, 2], [1, 2], ["a", "b"], random_state=0)
    assert np.isnan(two.slope)
    none = performance_regression(
        np.zeros(7), RANKS, DRUGS, log_x=True, n_candidates=10, random_state=0
    )
    assert (none.n, none.n_dropped) == (0, 4)
    assert np.isnan([none.slope, none.chance]).all()


def test_chance_response():
    ranks = np.arange(1, 11)
    drugs = np.arange(10).astype(str)
    arguments = {"n_candidates": 10, "n_resamples": 1, "random_state": 0}
    log = np.mean(np.log(ranks))
    fit = performance_regression(ranks, ranks, drugs, per="profile", **arguments)
    assert fit.chance == pytest.approx(log)
    fit = performance_regression(ranks, ranks, drugs, response="rank", **arguments)
    assert fit.chance == 5.5
    fit = performance_regression(ranks, ranks, drugs, **arguments)
    assert fit.chance == pytest.approx(log, abs=0.1)
    # Drugs of many profiles come close to the chance MRR itself.
    many = np.tile(ranks, 20)
    fit = performance_regression(
        np.arange(200) % 2, many, np.arange(200) % 2, **arguments
    )
    assert fit.chance == pytest.approx(-np.log(chance_scores(10)["mrr"]), abs=0.05)
    mixed = performance_regression(
        ranks, ranks, drugs, response="rank", n_candidates=[10] * 9 + [30],
        n_resamples=1, random_state=0,
    )  # fmt: skip
    assert mixed.chance == pytest.approx((9 * 5.5 + 15.5) / 10, abs=0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"x": X[:3]}, "x must hold one number for each of the 7 ranks. Got 3"),
        ({"x": [np.nan, *X[1:]]}, "x must be finite. 1 of 7 are not, the first nan"),
        ({"x": [-1, *X[1:]], "log_x": True}, "at least 0.*first -1.0 at index 0"),
        ({"ranks": [0, *RANKS[1:]]}, "ranks must be >= 1"),
        ({"drugs": ["a"] * 7}, "at least 2 distinct drugs"),
        ({"n_candidates": 9}, "ranks must be <= n_candidates. Got 10 of 9 at index 3"),
        ({"n_candidates": [9, 9]}, "hold one for each of the 7 ranks. Got 2"),
        ({"per": "line"}, "'per' parameter"),
        ({"response": "mrr"}, "'response' parameter"),
    ],
)
def test_errors(arguments, message):
    arguments = {"x": X, "ranks": RANKS, "drugs": DRUGS} | arguments
    with pytest.raises(ValueError, match=message):
        performance_regression(**arguments)


def test_profile_p_value_by_a_slow_permutation():
    sizes = [1, 1, 1, 2, 2, 2, 3, 3]
    codes = np.repeat(np.arange(8), sizes)
    rng = np.random.RandomState(1)
    x = rng.normal(size=len(codes)) + rng.normal(size=8)[codes]
    ranks = np.round(np.exp(1 + 0.5 * x + 0.5 * rng.normal(size=len(codes)))) + 1
    fit = performance_regression(
        x, ranks, codes, per="profile", n_resamples=4000, random_state=0
    )
    y = np.log(ranks)
    totals = []
    for _ in range(4000):
        shuffled = np.empty(len(y))
        for size in (1, 2, 3):
            drugs = [i for i in range(8) if sizes[i] == size]
            for drug, source in zip(drugs, rng.permutation(drugs), strict=True):
                shuffled[codes == drug] = rng.permutation(y[codes == source])
        totals.append(np.sum((x - x.mean()) * shuffled))
    totals, observed = np.array(totals), np.sum((x - x.mean()) * y)
    extreme = np.abs(totals - totals.mean()) >= abs(observed - totals.mean())
    assert abs(fit.p_value - extreme.mean()) < 0.03
    assert fit.p_value > fit.naive_p_value


@pytest.mark.parametrize("per", ["drug", "profile"])
def test_intervals_and_band_by_a_slow_bootstrap(per):
    rng = np.random.RandomState(0)
    drugs = np.repeat(np.arange(25), rng.randint(1, 4, 25))
    x = rng.normal(size=25)[drugs] + 100
    ranks = rng.randint(1, 30, len(drugs)) + np.round(4 * (x - x.min()))
    fit = performance_regression(
        x, ranks, drugs, per=per, response="rank", n_resamples=4000, random_state=0
    )
    table = fit.table
    rows_of = [np.flatnonzero(table["drug"] == drug) for drug in range(25)]
    slopes, at = [], []
    for _ in range(2000):
        rows = np.concatenate([rows_of[i] for i in rng.randint(0, 25, 25)])
        line = stats.linregress(table["x"].iloc[rows], table["response"].iloc[rows])
        slopes.append(line.slope)
        at.append(line.intercept + line.slope * 101)
    spread = np.std(slopes)
    expected = np.quantile(slopes, [0.025, 0.975])
    np.testing.assert_allclose(
        [fit.slope_low, fit.slope_high], expected, atol=0.3 * spread
    )
    low, high = np.quantile(at, [0.025, 0.975])
    np.testing.assert_allclose(
        fit.interval([101])[:, 0], [low, high], atol=0.3 * np.std(at)
    )


@pytest.mark.parametrize("per", ["drug", "profile"])
def test_chance_does_not_depend_on_the_order_of_rows(per):
    order = np.random.RandomState(5).permutation(7)
    sizes = np.ceil(RANKS).astype(int) + np.arange(7)
    x, ranks, drugs = np.array(X), np.array(RANKS), np.array(DRUGS)
    for n_candidates in (np.full(7, 20), sizes):
        one = performance_regression(
            x, ranks, drugs, per=per, n_candidates=n_candidates, random_state=0
        )
        other = performance_regression(
            x[order], ranks[order], drugs[order], per=per,
            n_candidates=n_candidates[order], random_state=0,
        )  # fmt: skip
        assert other.chance == pytest.approx(one.chance, rel=1e-9)
        assert other.p_value == pytest.approx(one.p_value, rel=1e-9)
        assert other.slope_low == pytest.approx(one.slope_low, rel=1e-9)


def test_one_profile_a_drug_is_the_same_per_drug_and_per_profile():
    one, other = (
        performance_regression(X, RANKS, list("abcdefg"), per=per, random_state=0)
        for per in ("drug", "profile")
    )
    for name in ("slope", "slope_low", "slope_high", "r", "r_low", "r_high"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-12)


@pytest.mark.parametrize("per", ["drug", "profile"])
def test_nothing_is_left_of_a_logarithm(per):
    options = {"per": per, "log_x": True, "n_candidates": 20, "random_state": 0}
    none = performance_regression(np.zeros(7), RANKS, DRUGS, **options)
    numbers = (none.slope, none.slope_low, none.r, none.p_value, none.chance)
    assert np.isnan(numbers).all()
    one = performance_regression(np.arange(7) == 2, RANKS, DRUGS, **options)
    assert np.isnan(one.slope)
    assert np.isfinite(one.chance)
