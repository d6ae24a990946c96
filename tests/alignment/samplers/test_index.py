import numpy as np
import pytest
from scipy.stats import chisquare

from sklearn_molge.alignment.samplers._index import ProfileIndex

DRUGS = np.array([1, 0, 2, 1, 1, 0, 1, 0])
LINES = np.array([4, 0, 3, 4, 2, 1, 4, 1])


def allowed_partners(profile, drugs, lines):
    """The slow definition: other lines, else others, else itself."""
    same = [q for q in range(len(drugs)) if drugs[q] == drugs[profile]]
    return (
        [q for q in same if lines[q] != lines[profile]]
        or [q for q in same if q != profile]
        or [profile]
    )


def test_csr_by_hand():
    index = ProfileIndex(DRUGS, LINES)
    assert (index.n_drugs, index.n_profiles) == (3, 8)
    assert index.counts.tolist() == [3, 4, 1]
    # Drug 0: line 0, then line 1 twice; drug 1: line 2, then line 4 three times.
    assert index.order.tolist() == [1, 5, 7, 4, 0, 3, 6, 2]
    assert index.order[index.places].tolist() == list(range(8))
    assert index.drug_places.tolist() == [0, 3, 7, 8]
    assert index.group_places.tolist() == [0, 1, 3, 4, 7, 8]
    assert index.drug_groups.tolist() == [0, 2, 4, 5]
    assert index.group_of_place.tolist() == [0, 1, 1, 2, 3, 3, 3, 4]


def test_two_drugs_in_the_same_line_are_two_groups():
    index = ProfileIndex([0, 1, 1], [5, 5, 5])
    assert index.group_places.tolist() == [0, 1, 3]


def test_random_profiles_are_uniform():
    index = ProfileIndex(DRUGS, LINES)
    drawn = index.random_profiles(np.repeat([1, 2], 8000), np.random.default_rng(0))
    values, counts = np.unique(drawn[:8000], return_counts=True)
    assert values.tolist() == [0, 3, 4, 6]
    assert chisquare(counts).pvalue > 1e-3
    assert set(drawn[8000:]) == {2}


@pytest.mark.parametrize("lines", [LINES, None, np.zeros(8, dtype=int)])
def test_random_partners(lines):
    index = ProfileIndex(DRUGS, lines)
    profiles = np.repeat(np.arange(8), 3000)
    partners = index.random_partners(profiles, np.random.default_rng(1))
    for profile in range(8):
        values, counts = np.unique(partners[profiles == profile], return_counts=True)
        by_hand = np.zeros(8) if lines is None else lines
        assert values.tolist() == allowed_partners(profile, DRUGS, by_hand)
        if len(values) == 1:
            continue
        assert chisquare(counts).pvalue > 1e-3


def test_drug_means():
    profiles = np.random.default_rng(0).normal(size=(8, 5)).astype(np.float32)
    means = ProfileIndex(DRUGS, LINES).drug_means(profiles)
    expected = [profiles[DRUGS == drug].mean(axis=0) for drug in range(3)]
    assert means.dtype == np.float32
    np.testing.assert_allclose(means, expected, rtol=1e-5, atol=1e-6)
