import numpy as np
from scipy.stats import chisquare

from sklearn_molge.alignment.samplers import UniformSampler


def test_negative_drugs_are_uniform_whatever_their_profiles():
    # Of the drugs 0 to 4 the first has most of the profiles.
    drugs = np.concatenate([np.zeros(16_000, dtype=int), np.repeat([1, 2, 3, 4], 1000)])
    sampler = UniformSampler(batch_size=999).prepare(drugs)
    anchors, negatives = [], []
    for batch in sampler.epoch(np.random.default_rng(0)):
        anchors.append(drugs[batch.profiles[batch.triplets.anchors]])
        negatives.append(drugs[batch.profiles[batch.triplets.negatives]])
    anchors, negatives = np.concatenate(anchors), np.concatenate(negatives)
    for drug in range(5):
        counts = np.bincount(negatives[anchors == drug], minlength=5)
        assert counts[drug] == 0
        assert chisquare(np.delete(counts, drug)).pvalue > 1e-3


def test_two_drugs():
    drugs = np.array([0, 1, 1])
    sampler = UniformSampler(partners=True).prepare(drugs)
    (batch,) = sampler.epoch(np.random.default_rng(0))
    negatives = drugs[batch.profiles[batch.triplets.negatives]]
    assert (negatives == 1 - drugs[batch.profiles[batch.triplets.anchors]]).all()
    # The drug of one profile is its own partner, those of the other swap.
    anchors, _, partners = batch.triplets
    partner_of = dict(
        zip(batch.profiles[anchors], batch.profiles[partners], strict=True)
    )
    assert partner_of == {0: 0, 1: 2, 2: 1}


def test_paper_sizes():
    drugs = np.arange(97_210) % 3490
    assert UniformSampler().prepare(drugs).n_batches_ == 234
    assert UniformSampler(epoch_over="drugs").prepare(drugs).n_batches_ == 9
