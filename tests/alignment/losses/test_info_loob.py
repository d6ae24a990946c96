import math

import pytest
import torch

from sklearn_molge.alignment.losses import InfoLOOBLoss


def slow_info_loob(similarities, row_drugs, column_drugs):
    total = 0.0
    for row, drug in zip(similarities, row_drugs, strict=True):
        pairs = list(zip(row, column_drugs, strict=True))
        negatives = sum(math.exp(s) for s, other in pairs if other != drug)
        positives = [s for s, other in pairs if other == drug]
        total += sum(-math.log(math.exp(s) / negatives) for s in positives) / len(
            positives
        )
    return total / len(row_drugs)


def test_equals_a_slow_loop(make_batch, slow_distance):
    batch = make_batch()
    similarities = [
        [(1 - slow_distance(g, m, "cosine")) / 0.2 for m in batch.molecules]
        for g in batch.profiles
    ]
    drugs, molecule_drugs = batch.profile_drugs.tolist(), batch.molecule_drugs.tolist()
    transposed = list(zip(*similarities, strict=True))
    expected = slow_info_loob(similarities, drugs, molecule_drugs) / 2
    expected += slow_info_loob(transposed, molecule_drugs, drugs) / 2
    value = InfoLOOBLoss(temperature=0.2)(batch)
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_pull_on_a_learnt_pair_does_not_fade(line_batch):
    # Derivative by the own cosine is -1 / temperature however good the pair is.
    batch = line_batch([1.0, -1.0], [1.0, -1.0])
    logits = torch.tensor([[10.0, -10.0], [-10.0, 10.0]], requires_grad=True)
    loss = InfoLOOBLoss()
    loss.logits = lambda batch: logits
    loss(batch).backward()
    torch.testing.assert_close(logits.grad.diagonal(), torch.tensor([-0.5, -0.5]))


def test_temperature_is_fixed_unless_asked_for():
    assert not InfoLOOBLoss().log_scale.requires_grad
    assert InfoLOOBLoss(learn_temperature=True).log_scale.requires_grad
