import math
from dataclasses import replace

import pytest
import torch

from sklearn_molge.alignment.losses import InfoNCELoss


def slow_info_nce(similarities, row_drugs, column_drugs):
    total = 0.0
    for row, drug in zip(similarities, row_drugs, strict=True):
        negatives = sum(
            math.exp(s)
            for s, other in zip(row, column_drugs, strict=True)
            if other != drug
        )
        positives = [
            s for s, other in zip(row, column_drugs, strict=True) if other == drug
        ]
        total += sum(
            -math.log(math.exp(s) / (math.exp(s) + negatives)) for s in positives
        ) / len(positives)
    return total / len(row_drugs)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_equals_a_slow_loop(make_batch, slow_distance, temperature):
    batch = make_batch()
    similarities = [
        [(1 - slow_distance(g, m, "cosine")) / temperature for m in batch.molecules]
        for g in batch.profiles
    ]
    drugs, molecule_drugs = batch.profile_drugs.tolist(), batch.molecule_drugs.tolist()
    transposed = list(zip(*similarities, strict=True))
    expected = slow_info_nce(similarities, drugs, molecule_drugs) / 2
    expected += slow_info_nce(transposed, molecule_drugs, drugs) / 2
    value = InfoNCELoss(temperature=temperature)(batch)
    assert value.item() == pytest.approx(expected, rel=1e-6)


def test_is_clip_where_each_drug_has_one_pair(make_batch):
    batch = make_batch()
    batch = replace(
        batch,
        profiles=batch.profiles[:4],
        inputs=batch.inputs[:4],
        molecule_index=torch.arange(4),
        molecule_drugs=torch.arange(4),
    )
    cosines = torch.nn.functional.cosine_similarity(
        batch.profiles[:, None], batch.molecules[None], dim=2
    )
    target = torch.arange(4)
    rows = torch.nn.functional.cross_entropy(cosines / 0.5, target)
    columns = torch.nn.functional.cross_entropy(cosines.T / 0.5, target)
    value = InfoNCELoss(temperature=0.5)(batch)
    torch.testing.assert_close(value, (rows + columns) / 2, atol=1e-6, rtol=0)


def test_no_other_positive_in_a_denominator(line_batch):
    # Two isomers and two profiles of drug 0, all at cosine 1, and drug 1 at cosine -1:
    # a term of drug 0 meets one negative, that of drug 1 two.
    batch = line_batch([1.0, 1.0, -1.0], [1.0, 1.0, -1.0], molecule_drugs=[0, 0, 1])
    one, two = math.log(1 + math.exp(-2)), math.log(1 + 2 * math.exp(-2))
    value = InfoNCELoss(temperature=1.0)(batch)
    assert value.item() == pytest.approx((2 * one + two) / 3, rel=1e-6)
