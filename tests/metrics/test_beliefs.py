import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import CCA
from sklearn_molge.exceptions import FewCandidatesWarning
from sklearn_molge.metrics import (
    AbstentionDisplay,
    ReliabilityDisplay,
    Score,
    abstention_curve,
    bootstrap_calibration_error,
    expected_calibration_error,
    query_beliefs,
    reliability_curve,
    retrieval_ranks,
    set_coverage,
)
from sklearn_molge.retrieval import ConformalRetriever


@pytest.fixture(scope="module")
def answered():
    """Return a calibrated Pipeline and unseen rows: 30 drugs with two profiles."""
    rng = np.random.default_rng(0)
    X = np.repeat(rng.normal(size=(110, 8)), 2, axis=0)
    y = X + 1.5 * rng.normal(size=X.shape)
    pipe = make_pipeline(
        StandardScaler(), ConformalRetriever(CCA(5, ridge=0.1), cv=2, random_state=0)
    )
    return pipe.fit(X[:160], y[:160]), X[160:], y[160:]


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def test_the_table_equals_the_methods_of_the_retriever(answered):
    pipe, X, y = answered
    table = query_beliefs(pipe, X, y, coverages=(0.5, 0.9))
    features, sure = pipe[0].transform(X), pipe[1]
    beliefs = sure.predict_belief(features[::2], y)
    own, each = np.repeat(np.arange(30), 2), np.arange(60)
    np.testing.assert_array_equal(table["rank"], retrieval_ranks(pipe, X, y))
    np.testing.assert_allclose(table["belief"], beliefs[each, own])
    np.testing.assert_allclose(table["confidence"], beliefs.max(axis=1))
    np.testing.assert_array_equal(table["correct"], beliefs.argmax(axis=1) == own)
    p_values = sure.predict_p(features[::2], y)
    np.testing.assert_allclose(table["p_value"], p_values[each, own])
    for coverage in (0.5, 0.9):
        sets = sure.predict_set(features[::2], y, coverage)
        np.testing.assert_array_equal(table[f"size@{coverage}"], sets.sum(axis=1))
        summary = set_coverage(table, random_state=0).loc[coverage]
        assert summary["held"] == sets[each, own].mean()
        assert summary["mean_size"] == pytest.approx(sets.mean())
    assert (table["n_candidates"] == 30).all()
    names = [f"d{i}" for i in own]
    named = query_beliefs(pipe, X, y, drugs=names)
    assert named["drug"].tolist() == names
    assert set_coverage(named).index.tolist() == [0.5, 0.8, 0.9, 0.95]


@pytest.mark.parametrize(
    ("coverages", "message"),
    [
        ([0.5, 1], r"coverages must hold numbers in \(0, 1\)"),
        ([-2, 1.5], r"coverages must hold numbers in \(0, 1\)"),
        ([np.nan], r"coverages must hold numbers in \(0, 1\)"),
        ([], "coverages must be 1-D and hold at least one"),
        (0.9, "coverages must be 1-D and hold at least one"),
        ("a", "coverages: could not convert"),
    ],
)
def test_coverages_are_checked_before_any_work(coverages, message):
    with pytest.raises(ValueError, match=message):
        query_beliefs(None, None, None, coverages=coverages)


def test_columns_keep_the_number(answered):
    pipe, X, y = answered
    coverages = np.array([0.9, 1 - 0.05, 0.9999999, 1e-7])
    table = query_beliefs(pipe, X, y, coverages=coverages)
    assert set_coverage(table, random_state=0).index.tolist() == coverages.tolist()
    full = table["size@0.9999999"] == table["n_candidates"]
    assert full.all()


def test_a_single_candidate_is_not_judged(answered):
    pipe, X, y = answered
    with pytest.warns(FewCandidatesWarning, match="only molecule"):
        table = query_beliefs(pipe, X[:2], y[:2])
    assert table["rank"].isna().all()
    assert table["correct"].isna().all()
    with pytest.raises(ValueError, match="NaN, of a query with a single candidate"):
        expected_calibration_error(table["correct"], table["confidence"])


def test_a_retriever_without_beliefs_is_refused(answered):
    _, X, y = answered
    with pytest.raises(TypeError, match="`predict_p` method"):
        query_beliefs(CCA(5, ridge=0.1).fit(X, y), X, y)


def test_set_coverage_by_hand():
    queries = pd.DataFrame(
        {
            "drug": list("aaab"),
            "p_value": [0.1, 0.2, 0.5, 0.9],
            "n_candidates": [10, 10, 20, 20],
            "size@0.9": [10, 0, 5, 10],
            "size@0.5": [0, 0, 5, 10],
        }
    )
    table = set_coverage(queries, random_state=0)
    np.testing.assert_allclose(table["held"], [0.75, 0.25])  # 0.1 is not above 0.1
    np.testing.assert_allclose(table["mean_size"], [1.75 / 4, 0.75 / 4])
    np.testing.assert_allclose(table["median_size"], [0.375, 0.125])
    np.testing.assert_allclose(table["empty"], [0.25, 0.5])
    np.testing.assert_allclose(table["full"], [0.25, 0])
    # Resamples of two drugs: a alone, b alone, or both.
    np.testing.assert_allclose(table["low"], [2 / 3, 0])
    np.testing.assert_allclose(table["high"], [1, 1])
    assert table["n_queries"].tolist() == [4, 4]
    for without in (["size@0.9", "size@0.5"], ["p_value"], ["n_candidates"], ["drug"]):
        with pytest.raises(ValueError, match="queries must have the columns 'drug'"):
            set_coverage(queries.drop(columns=without))


def test_joined_tables_of_other_coverages_count_where_they_have_sizes():
    one = {"drug": list("ab"), "p_value": [0.05, 0.7], "n_candidates": 10}
    tables = (
        pd.DataFrame(one | {"size@0.9": [0, 10]}),
        pd.DataFrame(one | {"size@0.5": [4, 2]}),
    )
    joined = set_coverage(pd.concat(tables), random_state=0)
    each = pd.concat([set_coverage(table, random_state=0) for table in tables])
    pd.testing.assert_frame_equal(joined, each)
    assert joined["n_queries"].tolist() == [2, 2]
    assert joined["full"].tolist() == [0.5, 0]


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_the_reliability_curve_is_that_of_scikit_learn(strategy):
    rng = np.random.default_rng(0)
    confidence = rng.uniform(size=300)
    correct = rng.uniform(size=300) < confidence**2
    true, said = calibration_curve(correct, confidence, n_bins=7, strategy=strategy)
    table = reliability_curve(correct, confidence, n_bins=7, strategy=strategy)
    np.testing.assert_allclose(table["correct"], true)
    np.testing.assert_allclose(table["confidence"], said)
    error = expected_calibration_error(correct, confidence, n_bins=7, strategy=strategy)
    by_loop = sum(
        n * abs(t - s) for n, t, s in zip(table["n_queries"], true, said, strict=True)
    )
    assert error == pytest.approx(by_loop / 300)
    drugs = np.repeat(np.arange(100), 3)
    some = reliability_curve(correct, confidence, drugs=drugs, random_state=0)
    assert (some["low"] <= some["correct"]).all()
    assert (some["high"] >= some["correct"]).all()
    again = reliability_curve(correct, confidence, drugs=drugs, random_state=0)
    pd.testing.assert_frame_equal(some, again)


def test_the_error_of_perfect_beliefs_is_small():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(size=20_000)
    right = rng.uniform(size=20_000) < confidence
    assert expected_calibration_error(right, confidence) < 0.02
    assert expected_calibration_error(right, np.ones(20_000)) == pytest.approx(
        1 - right.mean()
    )


def test_the_interval_of_the_error_by_hand():
    # Two drugs: a in the lower bin, 0.2 too sure; b in the upper one, 0.4 too unsure.
    correct, confidence = [0, 0, 1, 1], [0.2, 0.2, 0.6, 0.6]
    found = bootstrap_calibration_error(
        correct, confidence, list("aabb"), n_bins=2, strategy="uniform", random_state=0
    )
    # Resamples: a and b, 0.3; a alone, 0.2; b alone, 0.4, turned over at 0.3. About
    # the distances: 0; a alone or b alone, 0.1 + 0.2, as large as the error: so from 0.
    np.testing.assert_allclose(found, [0.3, 0.2, 0.4])
    assert found.index.tolist() == ["score", "low", "high"]
    # Whole drugs: one of three profiles weighs as three, and two resamples differ.
    uneven = bootstrap_calibration_error(
        [0, 0, 0, 1], [0.1, 0.1, 0.1, 1], list("aaab"), n_bins=1, random_state=0
    )
    # a and b: 0.3 / 4; a alone: 0.1; b alone: 0.
    np.testing.assert_allclose(uneven, [0.075, 0.05, 0.15])


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
def test_the_interval_of_the_error_by_a_loop(strategy):
    rng = np.random.default_rng(0)
    confidence = rng.uniform(size=60)
    correct = rng.uniform(size=60) < confidence**3
    drugs = rng.integers(12, size=60)
    options = {"n_bins": 4, "strategy": strategy}
    found = bootstrap_calibration_error(
        correct, confidence, drugs, n_resamples=200, random_state=3, **options
    )
    error = expected_calibration_error(correct, confidence, **options)
    assert found["score"] == pytest.approx(error)
    edges = np.arange(1, 4) / 4
    if strategy == "quantile":
        edges = np.quantile(confidence, edges)
    bins = np.searchsorted(edges, confidence, side="right")
    codes = np.unique(drugs, return_inverse=True)[1]
    n = codes.max() + 1
    own = [np.sum((correct - confidence)[bins == b]) / 60 for b in range(4)]
    errors, chance = [], []
    for counts in np.random.RandomState(3).multinomial(n, np.full(n, 1 / n), size=200):
        rows = np.repeat(np.arange(60), counts[codes])
        gaps = [np.sum((correct - confidence)[rows][bins[rows] == b]) for b in range(4)]
        errors.append(np.sum(np.abs(gaps)) / len(rows))
        chance.append(np.sum(np.abs(np.array(gaps) / len(rows) - own)))
    low, high = np.quantile(errors, [0.025, 0.975])
    is_chance = error < np.quantile(chance, 0.975)
    expected = 0 if is_chance else max(0, 2 * error - high)
    np.testing.assert_allclose(found["low"], expected)
    np.testing.assert_allclose(found["high"], max(error, 2 * error - low))
    order = rng.permutation(60)
    again = bootstrap_calibration_error(
        correct[order], confidence[order], drugs[order],
        n_resamples=200, random_state=3, **options,
    )  # fmt: skip
    pd.testing.assert_series_equal(found, again)


def test_perfect_beliefs_may_have_an_error_of_0():
    rng = np.random.default_rng(1)
    drugs, confidence = np.repeat(np.arange(400), 3), rng.uniform(0, 0.5, size=1200)
    right = rng.uniform(size=1200) < confidence
    found = bootstrap_calibration_error(right, confidence, drugs, random_state=0)
    assert found["low"] == 0 < found["score"] <= found["high"] < 0.05
    wrong = bootstrap_calibration_error(right, confidence + 0.2, drugs, random_state=0)
    assert 0.15 < wrong["low"] < 0.2 < wrong["high"] < 0.25


def test_abstention_by_a_loop():
    rng = np.random.default_rng(0)
    ranks, confidence = rng.integers(1, 30, size=40), rng.integers(0, 12, size=40)
    table = abstention_curve(ranks, confidence)
    assert len(table) == len(set(confidence.tolist()))  # ties are answered together
    for share, threshold, score in table[["answered", "confidence", "score"]].values:
        chosen = [
            1 / r for r, c in zip(ranks, confidence, strict=True) if c >= threshold
        ]
        assert share == len(chosen) / 40
        assert score == pytest.approx(sum(chosen) / len(chosen))
    order = rng.permutation(40)
    pd.testing.assert_frame_equal(
        abstention_curve(ranks[order], confidence[order]), table
    )


def test_abstention_takes_any_score_and_resamples_drugs():
    ranks, sure = np.arange(1, 21), np.linspace(1, 0, 20)
    drugs = np.repeat(list("abcde"), 4)
    own = Score("worst", lambda r: r, np.max, lambda n: n, greater_is_better=False)
    for scoring, last in (("median_rank", 10.5), ("hits@10", 0.5), (own, 20)):
        table = abstention_curve(
            ranks, sure, drugs=drugs, scoring=scoring, answered=[0.1, 0.5, 1],
            n_resamples=50, random_state=0,
        )  # fmt: skip
        assert table["answered"].tolist() == [0.1, 0.5, 1]
        assert table["score"].iloc[-1] == last
        assert table["low"].isna().tolist() == [True, False, False]  # one drug
        assert (table["low"] <= table["score"])[1:].all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: reliability_curve([0, 1], [0.5]), "one number for each query"),
        (
            lambda: reliability_curve([0, 2], [0.5, 0.5]),
            "correct must hold numbers",
        ),
        (lambda: reliability_curve([0], [np.nan]), "confidence must hold numbers"),
        (lambda: reliability_curve([[0]], [0.5]), "correct must be 1-D"),
        (lambda: reliability_curve([0], ["a"]), "confidence: could not convert"),
        (lambda: reliability_curve([0], [0.5], n_bins=0), "'n_bins' parameter"),
        (lambda: expected_calibration_error([], []), "correct must be 1-D"),
        (lambda: expected_calibration_error([0], [0], n_bins=0), "'n_bins' parameter"),
        (lambda: bootstrap_calibration_error([0], [0], ["a", "b"]), "one drug for"),
        (lambda: bootstrap_calibration_error([0], [0], ["a"]), "at least 2 distinct"),
        (lambda: abstention_curve([1, 2], [0.5]), "one number for each query"),
        (lambda: abstention_curve([0], [0.5]), "ranks must be >= 1"),
        (lambda: abstention_curve([1], [np.nan]), "confidence must not be NaN"),
        (lambda: abstention_curve([1], [1], answered=[0]), "shares in"),
        (lambda: abstention_curve([1], [1], answered=[]), "answered must be 1-D"),
        (lambda: abstention_curve([1], [1], answered=0.5), "answered must be 1-D"),
        (lambda: abstention_curve([1, 2], [[0.1], [0.2]]), "confidence must be 1-D"),
        (lambda: abstention_curve([1], ["a"]), "confidence: could not convert"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_reliability_display(answered):
    pipe, X, y = answered
    display = ReliabilityDisplay.from_estimator(pipe, X, y, n_bins=4, random_state=0)
    table = query_beliefs(pipe, X, y)
    other = ReliabilityDisplay.from_predictions(
        table["correct"], table["confidence"], n_bins=4, ax=display.ax_, name="again"
    )
    np.testing.assert_array_equal(display.line_.get_ydata(), other.table["correct"])
    low, high = display.error_interval
    assert 0 <= low <= display.error <= high
    expected = f"Pipeline (ECE = {display.error:.3f} [{low:.3f}, {high:.3f}])"
    assert display.line_.get_label() == expected
    assert other.line_.get_label() == f"again (ECE = {display.error:.3f})"
    assert display.interval_ is not None
    assert other.interval_ is None
    assert other.perfect_line_ is display.perfect_line_
    heights = [ends[1, 1] for ends in display.counts_.get_segments()]
    assert heights == [0.25] * 4
    assert display.ax_.get_xlabel().startswith("Confidence")
    assert ReliabilityDisplay(display.table).plot().line_ is not None


def test_reliability_display_shows_what_is_drawn():
    low = {"correct": [0, 0, 1, 0], "confidence": [0.1, 0.1, 0.2, 0.2], "n_bins": 2}
    display = ReliabilityDisplay.from_predictions(**low)
    assert display.ax_.get_xlim() == pytest.approx((0, 0.22))
    assert display.ax_.get_ylim() == pytest.approx((0, 0.75))
    high = {"correct": [0, 1], "confidence": [0.5, 0.9], "n_bins": 2}
    ReliabilityDisplay.from_predictions(**high, ax=display.ax_)
    again = ReliabilityDisplay.from_predictions(**low, ax=display.ax_)
    assert again.ax_.get_xlim() == pytest.approx((0, 0.99))
    assert again.ax_.get_ylim() == (0, 1)


def test_abstention_display(answered):
    pipe, X, y = answered
    display = AbstentionDisplay.from_estimator(
        pipe, X, y, n_resamples=20, scoring="hits@10", random_state=0
    )
    np.testing.assert_allclose(display.chance_line_.get_ydata(), 1 / 3)
    assert "of the answered" in display.ax_.get_ylabel()
    table = query_beliefs(pipe, X, y)
    other = AbstentionDisplay.from_predictions(
        table["rank"], table["confidence"], 30, scoring="hits@10", ax=display.ax_
    )
    assert other.chance_line_ is display.chance_line_
    np.testing.assert_array_equal(other.line_.get_ydata(), display.line_.get_ydata())
    assert other.interval_ is None
    assert AbstentionDisplay(other.table).plot().chance_line_ is None
    last = AbstentionDisplay.from_predictions(
        [4, 28], [1, 0], 31, scoring="median_rank"
    )
    assert last.line_.get_label() == "Median rank of all = 16"
    assert last.chance_line_.get_label() == "Chance (Median rank = 16)"
