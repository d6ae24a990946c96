import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve

from sklearn_molge.metrics import (
    hits_at_k,
    mean_reciprocal_rank,
    precision_recall,
    recall_at_k,
)


@pytest.fixture
def ranks():
    return np.random.default_rng(0).integers(1, 13, size=30)


def test_recall_by_hand():
    k, recall = recall_at_k([3, 1, 3, 2.5], 4)
    assert k.tolist() == [1, 2, 3, 4]
    assert recall.tolist() == [0.25, 0.25, 1.0, 1.0]


def test_recall_is_hits_at_every_k(ranks):
    k, recall = recall_at_k(ranks, 12)
    assert recall.tolist() == [hits_at_k(ranks, each) for each in k]
    assert recall[-1] == 1


def test_precision_by_a_slow_loop(ranks):
    precision, recall, k = precision_recall(ranks, 12)
    for i, each in enumerate(k):
        found = [[rank == place for place in range(1, each + 1)] for rank in ranks]
        assert precision[i] == pytest.approx(np.mean([np.mean(f) for f in found]))
        assert recall[i] == pytest.approx(np.mean([any(f) for f in found]))
    assert precision[-1] == pytest.approx(1 / 12)


def test_precision_is_scikit_learn_s_over_all_pairs(ranks):
    places = np.tile(np.arange(1, 13), (len(ranks), 1))
    relevant = places == ranks[:, None]
    expected = precision_recall_curve(relevant.ravel(), -places.ravel())
    precision, recall, _ = precision_recall(ranks, 12)
    # scikit-learn goes from many to few, and appends (1, 0).
    np.testing.assert_allclose(precision, expected[0][:-1][::-1])
    np.testing.assert_allclose(recall, expected[1][:-1][::-1])


def test_mean_average_precision_is_the_mean_reciprocal_rank(ranks):
    places = np.arange(1, 13)
    average = [average_precision_score(places == rank, -places) for rank in ranks]
    assert np.mean(average) == pytest.approx(mean_reciprocal_rank(ranks))


def test_random_ranking_has_constant_precision():
    precision, recall, k = precision_recall(np.arange(1, 11), 10)
    np.testing.assert_allclose(precision, 0.1)
    np.testing.assert_allclose(recall, k / 10)


def test_variant_of_the_paper():
    # 2,317 queries and 437 candidates: the curve ends at 0.0121, not at 1/437.
    ranks = np.random.default_rng(0).integers(1, 438, size=2317)
    correct, recall, _ = precision_recall(ranks, 437)
    paper, paper_recall, k = precision_recall(ranks, 437, variant="finlayson2020")
    assert paper[-1] == pytest.approx(0.01213, abs=5e-6)
    np.testing.assert_allclose(paper / correct, 2317 / 437)
    np.testing.assert_allclose(paper, 2317 / 437 * recall / k)
    np.testing.assert_array_equal(paper_recall, recall)


@pytest.mark.parametrize("curve", [recall_at_k, precision_recall])
def test_wrong_arguments(curve):
    with pytest.raises(ValueError, match=r"<= n_candidates=3.* index 1: 4"):
        curve([1, 4], 3)
    with pytest.raises(ValueError, match="'n_candidates' parameter"):
        curve([1, 2], 0)
    with pytest.raises(ValueError, match="NaN is no rank"):
        curve([np.nan], 3)
    with pytest.raises(ValueError, match="'variant' parameter"):
        precision_recall([1], 3, variant="paper")
