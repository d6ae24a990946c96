from fractions import Fraction

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.metrics import (
    chance_scores,
    hits_at_k,
    mean_reciprocal_rank,
    median_rank,
    retrieval_scores,
)

SCORES = [
    mean_reciprocal_rank,
    median_rank,
    lambda ranks: hits_at_k(ranks, 3),
    retrieval_scores,
]


def test_scores_by_hand():
    ranks = [1, 2, 4, 8, 100]
    assert mean_reciprocal_rank(ranks) == pytest.approx((1 + 0.5 + 0.25 + 0.135) / 5)
    assert median_rank(ranks) == 4
    assert median_rank([1, 2, 4, 9]) == 3
    assert [hits_at_k(ranks, k) for k in (1, 3, 4, 99, 100)] == [0.2, 0.4, 0.6, 0.8, 1]


def test_mid_ranks():
    # A constant model of 4 candidates: every query has rank 2.5.
    scores = retrieval_scores([2.5] * 7, k=(2, 3))
    assert scores == pytest.approx(
        {"mrr": 0.4, "median_rank": 2.5, "hits@2": 0.0, "hits@3": 1.0}
    )


def test_retrieval_scores_has_the_keys_in_order():
    ranks = np.array([1, 5, 20, 300])
    scores = retrieval_scores(ranks)
    assert list(scores) == ["mrr", "median_rank", "hits@1", "hits@10", "hits@100"]
    assert all(type(score) is float for score in scores.values())
    assert scores["mrr"] == mean_reciprocal_rank(ranks)
    assert scores["hits@10"] == 0.5
    assert list(retrieval_scores(ranks, k=[np.int64(5)])) == [
        "mrr",
        "median_rank",
        "hits@5",
    ]


def test_order_of_queries_does_not_matter():
    rng = np.random.default_rng(0)
    ranks = rng.integers(1, 100, size=50)
    a, b = retrieval_scores(ranks), retrieval_scores(rng.permutation(ranks))
    assert a == pytest.approx(b)


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("ranks", "message"),
    [
        ([], "ranks must hold at least one rank"),
        ([[1, 2]], r"ranks must be 1-D. Got an array of shape \(1, 2\)"),
        (3, r"ranks must be 1-D. Got an array of shape \(\)"),
        ([1, np.nan, 2], "NaN is no rank. 1 of 3 are not: index 1: nan"),
        (["1", "a"], "ranks must hold numbers: could not convert string"),
        ([1, {}], "ranks must hold numbers: float"),
        ([1, 0, 0.5], "2 of 3 are not: index 1: 0, index 2: 0.5"),
        ([1, np.inf], "finite.* index 1: inf"),
    ],
)
def test_what_is_no_rank_is_refused(score, ranks, message):
    with pytest.raises(ValueError, match=message):
        score(ranks)


@pytest.mark.parametrize("k", [0, -1, 1.5, "10", None])
def test_wrong_k(k):
    with pytest.raises(ValueError, match="k must hold int >= 1"):
        hits_at_k([1, 2], k)
    with pytest.raises(ValueError, match="k must hold int >= 1"):
        retrieval_scores([1, 2], k=(1, k))


@pytest.mark.parametrize("k", [10, "10", None])
def test_k_must_be_a_sequence(k):
    with pytest.raises(ValueError, match="k must be a sequence of int"):
        chance_scores(5, k=k)


@pytest.mark.parametrize("kind", [list, tuple, pd.Series, np.array])
def test_kinds_of_ranks(kind):
    assert mean_reciprocal_rank(kind([1, 2])) == 0.75


@pytest.mark.parametrize("n_candidates", [1, 2, 3, 10, 437])
def test_chance_is_the_mean_over_all_ranks(n_candidates):
    expected = retrieval_scores(np.arange(1, n_candidates + 1))
    assert chance_scores(n_candidates) == pytest.approx(expected)


def test_chance_of_the_paper():
    # 437 candidates: MR 219, MRR 0.0152, hits@10 0.0229, hits@100 0.229.
    scores = chance_scores(437)
    assert scores["median_rank"] == 219
    assert scores["mrr"] == pytest.approx(0.0152, abs=5e-5)
    assert scores["hits@10"] == pytest.approx(0.0229, abs=5e-5)
    assert scores["hits@100"] == pytest.approx(0.229, abs=5e-4)


def test_harmonic_number_is_exact_enough_for_large_libraries():
    slow = float(sum(Fraction(1, r) for r in range(1, 1001)) / 1000)
    assert chance_scores(1000)["mrr"] == pytest.approx(slow, rel=1e-14)


def slow_mixture_median(sizes):
    """Median of all ranks, each query's written out equally often."""
    n_each = int(np.lcm.reduce(sizes))
    ranks = [np.repeat(np.arange(1, m + 1), n_each // m) for m in sizes]
    return np.median(np.concatenate(ranks))


@pytest.mark.parametrize(
    "sizes", [[4, 4, 4], [1, 2, 3], [2, 10], [1, 1, 10], [1, 10], [3, 8, 12, 12], [6]]
)
def test_chance_with_other_candidates_for_each_query(sizes):
    scores = chance_scores(np.array(sizes), k=(1, 5))
    each = [chance_scores(m, k=(1, 5)) for m in sizes]
    for name in ("mrr", "hits@1", "hits@5"):
        assert scores[name] == pytest.approx(np.mean([s[name] for s in each]))
    assert scores["median_rank"] == slow_mixture_median(sizes)


@pytest.mark.parametrize("n_candidates", [0, -3, 4.5, [], [[3, 4]], [3, 0], "many"])
def test_wrong_number_of_candidates(n_candidates):
    with pytest.raises(ValueError, match="n_candidates must be an int >= 1"):
        chance_scores(n_candidates)


def test_many_wrong_numbers_of_candidates_are_not_all_written():
    with pytest.raises(ValueError, match=r"Got .* and \d+ more"):
        chance_scores(["CCO"] * 300)
