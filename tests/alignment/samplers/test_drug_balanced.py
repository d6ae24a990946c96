from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare

from sklearn_molge.alignment.samplers import DrugBalancedSampler


def random_study(seed, n_drugs, n_profiles, n_lines):
    rng = np.random.default_rng(seed)
    rest = rng.integers(0, n_drugs, n_profiles - n_drugs)
    drugs = rng.permutation(np.append(np.arange(n_drugs), rest))
    return drugs, rng.integers(0, n_lines, n_profiles)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    n_drugs=st.integers(2, 12),
    n_lines=st.integers(1, 4),
    n_per_drug=st.integers(1, 6),
    drugs_per_batch=st.integers(2, 8),
    k=st.integers(1, 5),
)
def test_batches(seed, n_drugs, n_lines, n_per_drug, drugs_per_batch, k):
    drugs, lines = random_study(seed, n_drugs, n_drugs * n_per_drug, n_lines)
    sampler = DrugBalancedSampler(
        drugs_per_batch=drugs_per_batch, profiles_per_drug=k, epoch_over="drugs"
    ).prepare(drugs, cell_lines=lines)
    batches = list(sampler.epoch(np.random.default_rng(seed)))
    assert len(batches) == sampler.n_batches_
    drugs_seen = []
    for batch in batches:
        assert batch.triplets is None
        assert len(set(batch.profiles)) == len(batch.profiles)
        of_batch = set(drugs[batch.profiles])
        assert 2 <= len(of_batch) <= max(drugs_per_batch, 3)
        drugs_seen.extend(of_batch)
        for drug in of_batch:
            check_lines(drug, batch.profiles, drugs, lines, k)
    assert sorted(drugs_seen) == list(range(n_drugs))


def check_lines(drug, profiles, drugs, lines, k):
    """K profiles, or all; a line gives another one only after all others gave one."""
    there = Counter(lines[drugs == drug])
    drawn = Counter(lines[profiles[drugs[profiles] == drug]])
    assert drawn.total() == min(k, there.total())
    assert len(drawn) == min(k, len(there))
    for line in there:
        if drawn[line] < there[line]:
            assert max(drawn.values()) <= drawn[line] + 1


@pytest.mark.parametrize(
    ("n_drugs", "drugs_per_batch", "sizes"),
    [
        (8, 4, [4, 4]),
        (9, 4, [3, 3, 3]),
        (10, 4, [4, 3, 3]),
        (5, 2, [3, 2]),  # not [2, 2, 1]
        (3, 2, [3]),
        (3, 128, [3]),
        (3490, 128, [125] * 18 + [124] * 10),
    ],
)
def test_drugs_are_shared_out_evenly(n_drugs, drugs_per_batch, sizes):
    sampler = DrugBalancedSampler(drugs_per_batch=drugs_per_batch, profiles_per_drug=1)
    sampler.prepare(np.arange(n_drugs))
    batches = sampler.epoch(np.random.default_rng(0))
    assert [len(batch.profiles) for batch in batches] == sizes


def test_passes_of_an_epoch():
    # Counts 1, 2 and 9 with K = 2: a pass draws 5 of the 12 profiles, 12 / 5 is 2.4.
    drugs = np.repeat([0, 1, 2], [1, 2, 9])
    sampler = DrugBalancedSampler().prepare(drugs)
    assert sampler.n_batches_ == 2
    for batch in sampler.epoch(np.random.default_rng(0)):
        assert np.bincount(drugs[batch.profiles]).tolist() == [1, 2, 2]
    # 13 / 5 is 2.6.
    assert DrugBalancedSampler().prepare(np.append(drugs, 2)).n_batches_ == 3
    assert DrugBalancedSampler(epoch_over="drugs").prepare(drugs).n_batches_ == 1
    paper = DrugBalancedSampler().prepare(np.arange(97_210) % 3490)
    assert paper.n_batches_ == 14 * 28


def test_lines_are_drawn_alike_whatever_their_profiles():
    # Drug 0 has 1, 3 and 8 profiles in its three lines.
    drugs = np.repeat([0, 1], [12, 1])
    lines = np.repeat([0, 1, 2, 0], [1, 3, 8, 1])
    sampler = DrugBalancedSampler(epoch_over="drugs").prepare(drugs, cell_lines=lines)
    pairs = Counter()
    for seed in range(3000):
        (batch,) = sampler.epoch(np.random.default_rng(seed))
        of_drug = batch.profiles[drugs[batch.profiles] == 0]
        pairs[tuple(sorted(lines[of_drug]))] += 1
    assert set(pairs) == {(0, 1), (0, 2), (1, 2)}
    assert chisquare(list(pairs.values())).pvalue > 1e-3


def test_profiles_of_a_line_are_drawn_alike():
    drugs = np.repeat([0, 1], [4, 1])
    sampler = DrugBalancedSampler(epoch_over="drugs").prepare(drugs)
    pairs = Counter()
    for seed in range(3000):
        (batch,) = sampler.epoch(np.random.default_rng(seed))
        pairs[tuple(sorted(batch.profiles[batch.profiles < 4]))] += 1
    assert len(pairs) == 6
    assert chisquare(list(pairs.values())).pvalue > 1e-3


def test_profiles_of_a_drug_and_line_take_turns():
    drugs, lines = random_study(0, n_drugs=6, n_profiles=120, n_lines=3)
    sampler = DrugBalancedSampler(drugs_per_batch=3, profiles_per_drug=2)
    sampler.prepare(drugs, cell_lines=lines)
    drawn = np.concatenate(
        [batch.profiles for batch in sampler.epoch(np.random.default_rng(0))]
    )
    times = np.bincount(drawn, minlength=120)
    for drug in range(6):
        for line in range(3):
            of_group = times[(drugs == drug) & (lines == line)]
            assert np.ptp(of_group) <= 1


@pytest.mark.parametrize(
    ("params", "name"),
    [
        ({"drugs_per_batch": 1}, "drugs_per_batch"),
        ({"profiles_per_drug": 0}, "profiles_per_drug"),
        ({"epoch_over": "lines"}, "epoch_over"),
    ],
)
def test_wrong_parameters(params, name):
    with pytest.raises(ValueError, match=f"The '{name}' parameter of"):
        DrugBalancedSampler(**params).prepare([0, 1])
