"""What every sampler owes, and what those of triplets share."""

import pickle
import random

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from sklearn_molge.alignment.samplers import (
    DistanceWeightedSampler,
    DrugBalancedSampler,
    UniformSampler,
)

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
    parts = [part for batch in batches for part in batch if part is not None]
    return np.concatenate(parts).tolist()


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
    anchors = [batch.profiles[batch.anchors] for batch in batches]
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
        assert [len(batch.anchors) for batch in batches] == [7, 2]
        anchors = np.concatenate([batch.profiles[batch.anchors] for batch in batches])
        assert sorted(drugs[anchors]) == list(range(9))
        seen.update(anchors)
    assert seen == set(range(40)), "some profile never stood for its drug"


@every_triplet_sampler
@pytest.mark.parametrize("partners", [False, True])
def test_layout_of_a_batch(sampler, study, partners):
    drugs = study["drugs"]
    for batch in batches_of(sampler, study, partners=partners):
        n = len(batch.anchors)
        assert batch.anchors.tolist() == list(range(n))
        assert batch.negatives.tolist() == list(range(n, 2 * n))
        assert len(batch.profiles) == (3 if partners else 2) * n
        anchors = drugs[batch.profiles[batch.anchors]]
        assert (drugs[batch.profiles[batch.negatives]] != anchors).all()
        if partners:
            assert batch.partners.tolist() == list(range(2 * n, 3 * n))
            assert (drugs[batch.profiles[batch.partners]] == anchors).all()
        else:
            assert batch.partners is None
