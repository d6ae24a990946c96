import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from sklearn_molge.alignment import EmbeddedBatch
from sklearn_molge.alignment.losses import InfoNCELoss, SoftTargetInfoNCELoss
from sklearn_molge.datasets import load_lincs


def slow_targets(batch, min_similarity):
    drugs, molecule_drugs = batch.profile_drugs.tolist(), batch.molecule_drugs.tolist()
    correlations = np.corrcoef(batch.inputs.numpy())
    weights = np.zeros((len(drugs), len(molecule_drugs)))
    for i, drug in enumerate(drugs):
        for j, other in enumerate(molecule_drugs):
            if other == drug:
                weights[i, j] = 1
                continue
            of_molecule = [
                (1 + r) / 2 if r >= min_similarity else 0
                for r, m in zip(
                    correlations[i], batch.molecule_index.tolist(), strict=True
                )
                if m == j
            ]
            weights[i, j] = sum(of_molecule) / len(of_molecule)
    return weights / weights.sum(1, keepdims=True)


@pytest.mark.parametrize("min_similarity", [-1.0, 0.0, 0.5])
def test_equals_a_slow_loop(make_batch, slow_distance, min_similarity):
    batch = make_batch()
    targets = slow_targets(batch, min_similarity)
    loss = SoftTargetInfoNCELoss(min_similarity=min_similarity, temperature=0.2)
    np.testing.assert_allclose(loss.targets(batch), targets, atol=1e-12)
    total = 0.0
    for i, g in enumerate(batch.profiles):
        s = [(1 - slow_distance(g, m, "cosine")) / 0.2 for m in batch.molecules]
        log_sum = math.log(sum(math.exp(value) for value in s))
        total -= sum(targets[i, j] * (value - log_sum) for j, value in enumerate(s))
    to_molecules = total / len(batch.profiles)
    one_way = InfoNCELoss(temperature=0.2)
    logits, positives = one_way.logits(batch), batch.positives
    to_profiles = 0.0
    for j in range(len(batch.molecules)):
        own = logits[:, j][positives[:, j]]
        rest = logits[:, j][~positives[:, j]].exp().sum()
        to_profiles += (-(own.exp() / (own.exp() + rest)).log()).mean().item()
    expected = (to_molecules + to_profiles / len(batch.molecules)) / 2
    assert loss(batch).item() == pytest.approx(expected, rel=1e-6)


def test_unlike_profiles_give_the_one_hot_target(make_batch):
    batch = replace(make_batch(), inputs=torch.eye(5, dtype=torch.float64))
    targets = SoftTargetInfoNCELoss(min_similarity=0.0).targets(batch)
    # Isomers of the own drug share the target equally.
    expected = batch.positives / batch.positives.sum(1, keepdim=True)
    torch.testing.assert_close(targets, expected.double())


def test_weights_ignore_level_and_scale_of_a_profile(make_batch):
    batch = make_batch()
    scale = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64)[:, None]
    moved = replace(batch, inputs=batch.inputs * scale + 7)
    loss = SoftTargetInfoNCELoss(min_similarity=-1)
    torch.testing.assert_close(loss.targets(moved), loss.targets(batch))


def test_constant_profile_is_alike_to_none(make_batch):
    batch = make_batch()
    batch.inputs[3] = 2.0
    targets = SoftTargetInfoNCELoss(min_similarity=0.1).targets(batch)
    torch.testing.assert_close(targets[3], batch.positives[3].double())


def test_share_of_other_drugs_in_real_signatures(level5_folder):
    study = load_lincs(level5_folder, level=5)
    rows = np.random.default_rng(0).permutation(len(study.ge))[:417]
    drugs, codes = np.unique(study.groups[rows, 0].astype(str), return_inverse=True)
    batch = EmbeddedBatch(
        molecules=torch.zeros(len(drugs), 2),
        profiles=torch.zeros(len(rows), 2),
        molecule_index=torch.tensor(codes),
        molecule_drugs=torch.arange(len(drugs)),
        inputs=torch.tensor(study.ge[rows]),
    )

    def share_of_others(**parameters):
        targets = SoftTargetInfoNCELoss(**parameters).targets(batch)
        return targets[~batch.positives].sum().item() / len(rows)

    assert share_of_others(min_similarity=-1) > 0.98
    assert 0.1 < share_of_others() < 0.3


def test_bad_similarity():
    with pytest.raises(ValueError, match=r"'min_similarity'.*\[-1.*1.5"):
        SoftTargetInfoNCELoss(min_similarity=1.5)
