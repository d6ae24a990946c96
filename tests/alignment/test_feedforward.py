import numpy as np
import pytest
import torch
from torch import nn

from sklearn_molge.alignment._feedforward import (
    FeedForward,
    check_layers,
    layer_widths,
)


@pytest.mark.parametrize(
    ("width", "growth", "depth", "expected"),
    [
        (677, 1.712, 2, (677, 1159)),  # the paper's final model, Table A2
        (1024, 0.5, 2, (1024, 512)),
        (20, 0.33, 4, (20, 6, 4, 4)),  # 2.18 and 0.72 become 4, the narrowest
        (677.9, 1.0, 1, (677,)),
        (512, 1.0, 0, ()),
    ],
)
def test_layer_widths_are_those_of_the_paper_code(width, growth, depth, expected):
    assert layer_widths(width, growth, depth) == expected


def test_check_layers():
    widths = check_layers("head_layers", [3.0, np.int64(2)])
    assert widths == (3, 2)
    assert {type(w) for w in widths} == {int}
    for wrong in [(0,), (2.5,), (8, -1)]:
        with pytest.raises(ValueError, match=r"head_layers must be .*at least 1. Got"):
            check_layers("head_layers", wrong)


def kinds(network):
    return [type(layer) for layer in network]


def test_layers_of_a_self_normalising_network():
    network = FeedForward(5, (4, 3), 2, dropout=0.1, input_dropout=0.2)
    hidden = [nn.Linear, nn.SELU, nn.AlphaDropout]
    assert kinds(network) == [nn.Dropout, *hidden, *hidden, nn.Linear]
    assert [network[i].p for i in (0, 3, 6)] == [0.2, 0.1, 0.1]
    shapes = [tuple(network[i].weight.shape) for i in (1, 4, 7)]
    assert shapes == [(4, 5), (3, 4), (2, 3)]


@pytest.mark.parametrize(
    ("activation", "kind"),
    [("relu", nn.ReLU), ("tanh", nn.Tanh), ("sigmoid", nn.Sigmoid), ("silu", nn.SiLU)],
)
def test_plain_networks_have_plain_dropout(activation, kind):
    network = FeedForward(5, (4,), 2, activation=activation, dropout=0.1)
    assert kinds(network) == [nn.Linear, kind, nn.Dropout, nn.Linear]


def test_no_hidden_layer_is_one_linear_layer():
    assert kinds(FeedForward(5, (), 2, dropout=0.5)) == [nn.Linear]


def test_without_bias():
    network = FeedForward(5, (4,), 2, bias=False)
    assert [name for name, _ in network.named_parameters()] == ["0.weight", "2.weight"]


@pytest.mark.parametrize(
    ("activation", "init", "lecun"),
    [
        ("selu", "auto", True),
        ("selu", "torch", False),
        ("relu", "auto", False),
        ("relu", "lecun", True),
    ],
)
def test_initial_weights(activation, init, lecun):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FeedForward(100, (400,), 300, activation=activation, init=init)
    for layer, fan_in in ((network[0], 100), (network[-1], 400)):
        weight = layer.weight.detach()
        std = fan_in**-0.5 if lecun else (3 * fan_in) ** -0.5  # U(±1 / sqrt(fan_in))
        assert weight.std().item() == pytest.approx(std, rel=0.02)
        assert weight.mean().item() == pytest.approx(0, abs=0.02 * std)
        assert bool((layer.bias == 0).all()) == lecun
        assert bool(weight.abs().max() > fan_in**-0.5) == lecun


def test_selu_keeps_mean_and_variance_through_many_layers():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = FeedForward(300, [300] * 12, 300)
        hidden = nn.Sequential(*list(network)[:-1])
        y = hidden(torch.randn(400, 300)).detach()
    assert y.mean().item() == pytest.approx(0, abs=0.1)
    assert y.var().item() == pytest.approx(1, abs=0.15)


def test_forward_by_hand():
    network = FeedForward(2, (2,), 1, activation="relu").eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
        network[0].bias.copy_(torch.tensor([0.5, 0.0]))
        network[2].weight.copy_(torch.tensor([[2.0, 3.0]]))
        network[2].bias.copy_(torch.tensor([-1.0]))
    # relu(1 + 4 + 0.5, -1) = (5.5, 0) and relu(-3 + 2 + 0.5, 3) = (0, 3).
    got = network(torch.tensor([[1.0, 2.0], [-3.0, 1.0]]))
    assert got.tolist() == [[10.0], [8.0]]
