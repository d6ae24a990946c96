import math

import pytest

from sklearn_molge.alignment.losses import SigmoidLoss


@pytest.mark.parametrize("bias", [-10.0, 0.5])
def test_equals_a_slow_loop(make_batch, slow_distance, bias):
    batch = make_batch()
    drugs, molecule_drugs = batch.profile_drugs.tolist(), batch.molecule_drugs.tolist()
    expected = 0.0
    for g, drug in zip(batch.profiles, drugs, strict=True):
        for m, other in zip(batch.molecules, molecule_drugs, strict=True):
            z = 1 if drug == other else -1
            s = (1 - slow_distance(g, m, "cosine")) / 0.1
            expected += math.log(1 + math.exp(-z * (s + bias)))
    value = SigmoidLoss(bias=bias)(batch)
    assert value.item() == pytest.approx(expected / len(drugs), rel=1e-6)


def test_what_is_learned():
    def learned(**parameters):
        named = SigmoidLoss(**parameters).named_parameters()
        return {name for name, p in named if p.requires_grad}

    assert learned() == {"log_scale", "bias"}
    assert learned(learn_bias=False) == {"log_scale"}
    assert learned(learn_temperature=False) == {"bias"}


def test_bias_gradient(line_batch):
    # With cosines s = +-1 that of a pair is -z * sigmoid(-z * (s + bias)).
    batch = line_batch([1.0, -1.0], [1.0, -1.0])
    loss = SigmoidLoss(temperature=1.0, bias=2.0)
    loss(batch).backward()
    expected = -1 / (1 + math.exp(3)) + 1 / (1 + math.exp(-1))
    assert loss.bias.grad.item() == pytest.approx(expected, rel=1e-5)


def test_bad_bias():
    with pytest.raises(ValueError, match=r"'bias'.*float.*'low'"):
        SigmoidLoss(bias="low")
