"""What every sampler owes, and what those of triplets share."""

import pickle
import random

import numpy as np
import pytest
from scipy.stats import chisquare
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklearn_molge.alignment.samplers import (
    DistanceWeightedSampler,
    DrugBalancedSampler,
    UniformSampler,
)

# Its slow definition is compared with its inside: no batch shows its order.
from sklearn_molge.alignment.samplers._base import ProfileIndex

TRIPLETS = [
    UniformSampler(batch_size=7),
    DistanceWeightedSampler(batch_size=7),
    DistanceWeightedSampler(batch_size=7, weighting="wu", distance="structure"),
    DistanceWeightedSampler(batch_size=7, max_candidates=2, pool_size=4),
]
SAMPLERS = [*TRIPLETS, DrugBalancedSampler(drugs_per_batch=3)]


def _name(sampler):
    changed = [str(v) for v in sampler.get_params().values() if v in ("wu", 4)]
    return "-".join([type(sampler).__name__, *changed])


every_sampler = pytest.mark.parametrize("sampler", SAMPLERS, ids=_name)
every_triplet_sampler = pytest.mark.parametrize("sampler", TRIPLETS, ids=_name)


@pytest.fixture
def study():
    """40 profiles of 9 drugs, the last of which has one."""
    rng = np.random.default_rng(0)
    drugs = np.append(np.concatenate([np.arange(8), rng.integers(0, 8, 31)]), 8)
    drugs = drugs[rng.permutation(40)]
    return {
        "drugs": drugs,
        "profiles": rng.normal(size=(40, 12)).astype(np.float32),
        "cell_lines": rng.integers(0, 3, 40),
        "molecules": rng.normal(size=(9, 5)),
    }


def batches_of(sampler, study, seed=0, **params):
    sampler = clone(sampler).set_params(**params).prepare(**study)
    batches = list(sampler.epoch(np.random.default_rng(seed)))
    assert len(batches) == sampler.n_batches_
    return batches


def flat(batches):
    parts = []
    for batch in batches:
        parts += [batch.profiles, *(batch.triplets or ())]
    return np.concatenate([part for part in parts if part is not None]).tolist()


@every_sampler
def test_same_seed_same_batches(sampler, study):
    first = flat(batches_of(sampler, study, seed=3))
    assert flat(batches_of(sampler, study, seed=3)) == first
    assert flat(batches_of(sampler, study, seed=4)) != first
    prepared = pickle.loads(pickle.dumps(clone(sampler).prepare(**study)))
    assert flat(prepared.epoch(np.random.default_rng(3))) == first
    assert flat(prepared.epoch(np.random.default_rng(3))) == first, (
        "an epoch changed it"
    )


@every_sampler
def test_global_generators_are_left_alone(sampler, study):
    before, python_before = np.random.get_state(), random.getstate()
    batches_of(sampler, study)
    after = np.random.get_state()
    assert np.array_equal(before[1], after[1])
    assert before[2:] == after[2:]
    assert random.getstate() == python_before


@every_sampler
def test_input_is_left_alone(sampler, study):
    copies = {name: value.copy() for name, value in study.items()}
    batches_of(sampler, study)
    for name, value in study.items():
        assert np.array_equal(value, copies[name]), name


@every_sampler
def test_not_prepared(sampler):
    with pytest.raises(NotFittedError, match="call 'prepare' first"):
        clone(sampler).epoch(np.random.default_rng(0))


@every_sampler
@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"drugs": np.zeros(40, int)}, "at least 2 drugs. Got 1 different"),
        ({"drugs": np.array([], dtype=int)}, "at least 2 drugs. Got 0 different"),
        ({"drugs": np.arange(40) * 2}, "code from 0 to 78. 39 of .*, the first is 1"),
        ({"drugs": np.arange(40.0)}, "drugs must be a 1-D array of integer codes"),
        ({"drugs": np.arange(-1, 39)}, "drugs must hold codes from 0 on. Got -1 at in"),
        ({"cell_lines": np.zeros(39, int)}, "one code for each .* 39 for 40 profiles"),
        ({"cell_lines": ["A375"] * 40}, "cell_lines must be a 1-D array of integer"),
    ],
)
def test_wrong_codes(sampler, study, wrong, match):
    with pytest.raises(ValueError, match=match):
        clone(sampler).prepare(**{**study, **wrong})


@every_triplet_sampler
@pytest.mark.parametrize(
    ("params", "name"),
    [({"batch_size": 0}, "batch_size"), ({"epoch_over": "wells"}, "epoch_over")],
)
def test_wrong_parameters(sampler, study, params, name):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of"):
        clone(sampler).set_params(**params).prepare(**study)


@every_triplet_sampler
def test_every_profile_is_an_anchor_once(sampler, study):
    batches = batches_of(sampler, study)
    anchors = [batch.profiles[batch.triplets.anchors] for batch in batches]
    assert [len(part) for part in anchors] == [7, 7, 7, 7, 7, 5]
    anchors = np.concatenate(anchors)
    assert sorted(anchors) == list(range(40))
    assert anchors.tolist() != list(range(40))


@every_triplet_sampler
def test_every_drug_is_an_anchor_once(sampler, study):
    drugs = study["drugs"]
    seen = set()
    for seed in range(60):
        batches = batches_of(sampler, study, seed, epoch_over="drugs")
        assert [len(batch.triplets.anchors) for batch in batches] == [7, 2]
        anchors = np.concatenate(
            [batch.profiles[batch.triplets.anchors] for batch in batches]
        )
        assert sorted(drugs[anchors]) == list(range(9))
        seen.update(anchors)
    assert seen == set(range(40)), "some profile never stood for its drug"


@every_triplet_sampler
@pytest.mark.parametrize("partners", [False, True])
def test_layout_of_a_batch(sampler, study, partners):
    drugs = study["drugs"]
    for batch in batches_of(sampler, study, partners=partners):
        n = len(batch.triplets.anchors)
        assert batch.triplets.anchors.tolist() == list(range(n))
        assert batch.triplets.negatives.tolist() == list(range(n, 2 * n))
        assert len(batch.profiles) == (3 if partners else 2) * n
        anchors = drugs[batch.profiles[batch.triplets.anchors]]
        assert (drugs[batch.profiles[batch.triplets.negatives]] != anchors).all()
        if partners:
            assert batch.triplets.partners.tolist() == list(range(2 * n, 3 * n))
            assert (drugs[batch.profiles[batch.triplets.partners]] == anchors).all()
        else:
            assert batch.triplets.partners is None


# -- which profiles a drug has -------------------------------------------------------

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
