import numpy as np
import pandas as pd
import pytest

from sklearn_molge.metrics import (
    bootstrap_scores,
    paired_comparison,
    retrieval_scores,
)

BLOCK = "sklearn_molge._utils.resampling._BLOCK_ELEMENTS"
SCORES = ["mrr", "median_rank", "hits@3"]


def simulate(rng, n_drugs=12, n_candidates=40, spread=0.2):
    """Ranks of unequally many profiles; profiles of one drug are alike."""
    sizes = rng.integers(1, 7, size=n_drugs)
    drugs = np.repeat([f"drug{i}" for i in range(n_drugs)], sizes)
    quality = np.repeat(rng.uniform(size=n_drugs), sizes)
    place = np.clip(quality + rng.normal(0, spread, size=len(drugs)), 0, 1)
    return 1 + np.floor(place * (n_candidates - 1)), drugs


def written_out(counts, codes):
    """Rows of a resample: a drug's rows as often as the drug was drawn."""
    return [
        row
        for drug, count in enumerate(counts)
        for _ in range(count)
        for row in np.flatnonzero(codes == drug)
    ]


def draw_counts(rng, n_drugs, n_resamples):
    return rng.multinomial(n_drugs, np.full(n_drugs, 1 / n_drugs), size=n_resamples)


@pytest.mark.parametrize("seed", range(5))
def test_resamples_are_those_of_a_slow_loop(seed):
    ranks, drugs = simulate(np.random.default_rng(seed))
    ranks[::5] += 0.5
    codes = np.unique(drugs, return_inverse=True)[1]
    counts = draw_counts(np.random.RandomState(seed), 12, 50)
    slow = pd.DataFrame(
        [retrieval_scores(ranks[written_out(c, codes)], k=(3,)) for c in counts]
    )
    table = bootstrap_scores(
        ranks, drugs, k=(3,), n_resamples=50, confidence_level=0.9, random_state=seed
    )
    np.testing.assert_allclose(table["low"], slow.quantile(0.05))
    np.testing.assert_allclose(table["high"], slow.quantile(0.95))
    assert table["score"].to_dict() == retrieval_scores(ranks, k=(3,))


def test_shape_of_the_table():
    ranks, drugs = simulate(np.random.default_rng(0))
    table = bootstrap_scores(ranks, drugs, n_resamples=20)
    assert list(table.index) == ["mrr", "median_rank", "hits@1", "hits@10", "hits@100"]
    assert list(table.columns) == ["score", "low", "high"]
    assert (table["low"] <= table["high"]).all()


def test_blocks_do_not_change_the_result(monkeypatch):
    ranks, drugs = simulate(np.random.default_rng(0))
    other = np.random.default_rng(1).permutation(ranks)
    whole = bootstrap_scores(ranks, drugs, random_state=0)
    paired = paired_comparison(ranks, other, drugs, random_state=0)
    monkeypatch.setattr(BLOCK, 7 * len(ranks))
    pd.testing.assert_frame_equal(bootstrap_scores(ranks, drugs, random_state=0), whole)
    blocked = paired_comparison(ranks, other, drugs, random_state=0)
    assert blocked.p_value == paired.p_value
    assert (blocked.low, blocked.high) == pytest.approx((paired.low, paired.high))


def test_names_and_order_of_rows_do_not_matter():
    rng = np.random.default_rng(0)
    ranks, drugs = simulate(rng)
    order = rng.permutation(len(ranks))
    pd.testing.assert_frame_equal(
        bootstrap_scores(ranks, drugs, random_state=0),
        bootstrap_scores(ranks[order], pd.Series(drugs)[order], random_state=0),
    )


def test_interval_of_drugs_is_wider_than_that_of_profiles():
    rng = np.random.default_rng(0)
    drugs = np.repeat(np.arange(30), 10)
    ranks = np.repeat(rng.integers(1, 50, size=30), 10)
    by_drug = bootstrap_scores(ranks, drugs, random_state=0)
    by_profile = bootstrap_scores(ranks, np.arange(300), random_state=0)
    width = by_drug["high"] - by_drug["low"]
    naive = by_profile["high"] - by_profile["low"]
    # Ten equal profiles of a drug: the standard error is sqrt(10) times as large.
    assert width["mrr"] / naive["mrr"] == pytest.approx(np.sqrt(10), rel=0.15)
    assert width["median_rank"] > naive["median_rank"]


def test_coverage_of_the_interval():
    rng = np.random.default_rng(0)
    covered = 0
    truth = np.mean(1 / np.arange(1, 21))
    for i in range(150):
        # The drug's rank is uniform on 1..20, and its profiles share it.
        drugs = np.repeat(np.arange(60), 3)
        ranks = np.repeat(rng.integers(1, 21, size=60), 3)
        low, high = bootstrap_scores(
            ranks, drugs, k=(1,), n_resamples=200, confidence_level=0.9, random_state=i
        ).loc["mrr", ["low", "high"]]
        covered += low <= truth <= high
    # 0.9 of 150 is 135; the standard deviation is 3.7.
    assert 120 <= covered <= 146


def test_seeds():
    ranks, drugs = simulate(np.random.default_rng(0))
    a, b, c = (bootstrap_scores(ranks, drugs, random_state=i) for i in (0, 0, 1))
    pd.testing.assert_frame_equal(a, b)
    assert (a["score"] == c["score"]).all()
    assert a.loc["mrr", "low"] != c.loc["mrr", "low"]


@pytest.mark.parametrize("scoring", SCORES)
def test_identical_models_do_not_differ(scoring):
    ranks, drugs = simulate(np.random.default_rng(0))
    result = paired_comparison(ranks, ranks, drugs, scoring=scoring, random_state=0)
    assert (result.difference, result.low, result.high) == (0, 0, 0)
    assert result.p_value == 1
    assert result.better is None


@pytest.mark.parametrize("scoring", SCORES)
@pytest.mark.parametrize("seed", range(3))
def test_comparison_is_that_of_a_slow_loop(scoring, seed):
    rng = np.random.default_rng(seed)
    a, drugs = simulate(rng)
    b = np.maximum(1, a + rng.integers(-8, 12, size=len(a)))
    codes = np.unique(drugs, return_inverse=True)[1]

    def score(ranks):
        return retrieval_scores(ranks, k=(3,))[scoring]

    generator = np.random.RandomState(seed)
    differences = [
        score(a[rows]) - score(b[rows])
        for counts in draw_counts(generator, 12, 60)
        for rows in [written_out(counts, codes)]
    ]
    observed = score(a) - score(b)
    extreme = 0
    for swapped in generator.randint(2, size=(60, 12)).astype(bool):
        x, y = a.copy(), b.copy()
        for drug in np.flatnonzero(swapped):
            x[codes == drug], y[codes == drug] = b[codes == drug], a[codes == drug]
        extreme += abs(score(x) - score(y)) >= abs(observed) - 1e-12
    result = paired_comparison(
        a,
        b,
        drugs,
        scoring=scoring,
        n_resamples=60,
        confidence_level=0.8,
        random_state=seed,
    )
    assert result.difference == pytest.approx(observed)
    assert result.difference == result.score_a - result.score_b
    expected = np.quantile(differences, [0.1, 0.9])
    assert (result.low, result.high) == pytest.approx(tuple(expected))
    assert result.p_value == (1 + extreme) / 61


@pytest.mark.parametrize("scoring", SCORES)
def test_swapping_the_models_turns_the_sign(scoring):
    rng = np.random.default_rng(0)
    a, drugs = simulate(rng)
    b = np.maximum(1, a // 3)
    ab = paired_comparison(a, b, drugs, scoring=scoring, random_state=0)
    ba = paired_comparison(b, a, drugs, scoring=scoring, random_state=0)
    assert ab.difference == -ba.difference
    assert (ab.low, ab.high) == pytest.approx((-ba.high, -ba.low))
    assert ab.p_value == ba.p_value
    # b has the smaller ranks.
    assert (ab.better, ba.better) == ("b", "a")


def test_p_value_is_uniform_where_the_models_are_exchangeable():
    rng = np.random.default_rng(0)
    drugs = np.repeat(np.arange(15), 4)
    p_values = []
    for i in range(200):
        # Profiles of a drug agree: a test over profiles would reject too often.
        a, b = (np.repeat(rng.integers(1, 30, size=15), 4) for _ in range(2))
        p_values.append(
            paired_comparison(a, b, drugs, n_resamples=99, random_state=i).p_value
        )
    # 0.1 of 200 is 20, sd 4.2; 0.5 is 100, sd 7.1.
    assert 6 <= np.sum(np.array(p_values) <= 0.1) <= 34
    assert 76 <= np.sum(np.array(p_values) <= 0.5) <= 124


def test_smallest_p_value():
    a, b = np.ones(40), np.full(40, 30.0)
    result = paired_comparison(a, b, np.arange(40), n_resamples=99, random_state=0)
    assert result.p_value == 0.01
    assert result.low == result.high == result.difference


@pytest.mark.parametrize(
    ("drugs", "message"),
    [
        (["a", "b"], r"one drug for each of the 4 ranks. Got .* shape \(2,\)"),
        ([["a"], ["b"], ["c"], ["d"]], r"Got an array of shape \(4, 1\)"),
        (["a", None, "b", np.nan], r"2 of 4 rows have, at indices 1, 3"),
        (["a"] * 4, "at least 2 distinct drugs.*Got only 'a'"),
    ],
)
def test_wrong_drugs(drugs, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_scores([1, 2, 3, 4], drugs)
    with pytest.raises(ValueError, match=message):
        paired_comparison([1, 2, 3, 4], [1, 2, 3, 4], drugs)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_resamples": 0}, "'n_resamples' parameter"),
        ({"confidence_level": 1.0}, "'confidence_level' parameter"),
        ({"confidence_level": 95}, "'confidence_level' parameter"),
        ({"random_state": "a"}, "'random_state' parameter"),
    ],
)
def test_wrong_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        bootstrap_scores([1, 2], ["a", "b"], **arguments)
    with pytest.raises(ValueError, match=message):
        paired_comparison([1, 2], [1, 2], ["a", "b"], **arguments)


@pytest.mark.parametrize("scoring", ["MRR", "hits@", "hits@0", "hits@1.5", 3, None])
def test_unknown_score(scoring):
    with pytest.raises(ValueError, match=r"'scoring' .* 'median_rank' or 'hits@k'"):
        paired_comparison([1, 2], [1, 2], ["a", "b"], scoring=scoring)
    with pytest.raises(ValueError, match=r"'scores' .* 'median_rank' or 'hits@k'"):
        bootstrap_scores([1, 2], ["a", "b"], scores=["mrr", scoring])


def test_wrong_ranks():
    with pytest.raises(ValueError, match="Got 2 and 3 ranks"):
        paired_comparison([1, 2], [1, 2, 3], ["a", "b"])
    with pytest.raises(ValueError, match="ranks_b must be >= 1"):
        paired_comparison([1, 2], [1, np.nan], ["a", "b"])
    with pytest.raises(ValueError, match="ranks must hold at least one"):
        bootstrap_scores([], [])
    with pytest.raises(ValueError, match="k must be a sequence"):
        bootstrap_scores([1, 2], ["a", "b"], k=3)
