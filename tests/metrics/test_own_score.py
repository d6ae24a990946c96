"""A user's own Score takes part wherever the library shows one."""

import pickle

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_molge.metrics import (
    RetrievalCurveDisplay,
    RetrievalScorer,
    Score,
    bootstrap_scores,
    chance_scores,
    get_scores,
    paired_comparison,
    retrieval_scores,
)
from sklearn_molge.retrieval import OracleRetriever


def itself(ranks):
    return ranks


def middle(n_candidates):
    return (n_candidates + 1) / 2


def slow_mean(values):
    return sum(values) / len(values)


def slow_median(values):
    return float(np.median(values))


MEAN_RANK = Score("mean_rank", itself, np.mean, middle, False, "Mean rank")
SLOW_MEAN = Score("mean_rank", itself, slow_mean, middle, False)
SLOW_MEDIAN = Score("middle_rank", itself, slow_median, middle, False)
DRUGS = np.repeat(list("abcdef"), 3)
RANKS = np.random.default_rng(0).integers(1, 20, size=len(DRUGS)).astype(float)
OTHER = np.random.default_rng(1).integers(1, 30, size=len(DRUGS)).astype(float)


def test_a_score_by_hand():
    assert MEAN_RANK([1, 2, 6]) == 3
    assert (MEAN_RANK.label, SLOW_MEAN.label) == ("Mean rank", "mean_rank")
    assert "mean_rank" in repr(MEAN_RANK)
    assert pickle.loads(pickle.dumps(MEAN_RANK)) == MEAN_RANK


def test_those_of_the_library():
    scores = get_scores()
    assert [score.name for score in scores] == [
        "mrr", "median_rank", "hits@1", "hits@10", "hits@100"
    ]  # fmt: skip
    labels = [score.label for score in scores]
    assert labels == ["MRR", "Median rank", "Hits at 1", "Hits at 10", "Hits at 100"]
    assert [score.greater_is_better for score in scores] == [True, False] + [True] * 3
    for score in scores:
        copied = pickle.loads(pickle.dumps(score))
        assert copied(RANKS) == score(RANKS)
        assert np.mean(copied.chance(437)) == chance_scores(437)[score.name]
    assert [score.name for score in get_scores(k=[3])][2:] == ["hits@3"]
    assert get_scores([MEAN_RANK, "hits@7"])[0] is MEAN_RANK


def test_scores_and_chance():
    assert retrieval_scores([1, 4], scores=["mrr", MEAN_RANK]) == {
        "mrr": 0.625,
        "mean_rank": 2.5,
    }
    assert chance_scores(9, scores=[MEAN_RANK]) == {"mean_rank": 5}
    assert chance_scores([9, 3], scores=[MEAN_RANK]) == {"mean_rank": 3.5}


@pytest.mark.parametrize(
    ("slow", "fast"), [(SLOW_MEAN, MEAN_RANK), (SLOW_MEDIAN, "median_rank")]
)
def test_any_function_reduces_as_the_fast_ones_do(slow, fast):
    tables = [
        bootstrap_scores(RANKS, DRUGS, scores=[s], n_resamples=50, random_state=0)
        for s in (slow, fast)
    ]
    np.testing.assert_allclose(*tables)
    results = [
        paired_comparison(
            RANKS, OTHER, DRUGS, scoring=s, n_resamples=50, random_state=0
        )
        for s in (slow, fast)
    ]
    for name in ("difference", "low", "high", "p_value"):
        values = [getattr(result, name) for result in results]
        assert values[0] == pytest.approx(values[1])
    assert results[0].better == results[1].better == "a"
    assert results[0].scoring == slow.name


def test_scorer():
    X = np.array(["CCO", "CCN", "CCO", "CCN"], dtype=object)
    y = np.array([[0.0, 1, 2], [2, 1, 0], [0, 1, 3], [3, 1, 0]])
    oracle = OracleRetriever().fit(X, y)
    scorer = clone(RetrievalScorer(scores=["mrr", "hits@3", MEAN_RANK]))
    assert scorer(oracle, X, y) == {"mrr": 1, "hits@3": 1, "neg_mean_rank": -1}
    assert scorer.set_params(scoring="neg_mean_rank")(oracle, X, y) == -1
    assert RetrievalScorer(MEAN_RANK)(oracle, X, y) == -1
    assert RetrievalScorer("hits@25")(oracle, X, y) == 1
    assert RetrievalScorer("neg_median_rank", scores=["mrr"])(oracle, X, y) == -1


def test_legend():
    display = RetrievalCurveDisplay.from_predictions(
        [1, 4], 9, scoring=MEAN_RANK, name="mine"
    )
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    matplotlib.pyplot.close(display.figure_)
    assert texts == ["mine (Mean rank = 2.500)", "Chance (Mean rank = 5.000)"]
    assert display.score == 2.5


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("", itself, np.mean, middle), ValueError, "must be a non-empty str. Got ''"),
        (("a", None, np.mean, middle), TypeError, "per_query of the score 'a'"),
        (("a", itself, "mean", middle), TypeError, "reduce of the score 'a' .* 'mean'"),
        (("a", itself, np.mean, 0.5), TypeError, "chance of the score 'a' .* 0.5"),
    ],
)
def test_what_is_no_score(arguments, error, message):
    with pytest.raises(error, match=message):
        Score(*arguments)


def test_wrong_scores():
    with pytest.raises(ValueError, match=r"different names. Got \['mrr', 'mrr'\]"):
        get_scores(["mrr", "mrr"])
    for scores in ("mrr", MEAN_RANK, 3):
        with pytest.raises(ValueError, match="must be a sequence of names and Score"):
            retrieval_scores([1, 2], scores=scores)
    with pytest.raises(ValueError, match=r"'scores' parameter .* Got 'map' instead"):
        chance_scores(3, scores=["map"])


def test_per_query_must_return_a_value_for_each_query():
    score = Score("best", np.min, np.mean, middle)
    with pytest.raises(ValueError, match=r"'best' must return .* 2 ranks.* shape \(\)"):
        score([1, 2])
