import numpy as np
import pytest
import torch
from sklearn_molge.alignment._feedforward import FeedForward
from sklearn_molge.alignment._pairs import MoleculeInputs
from torch import nn

from sklearn_molge.alignment._two_tower import Scaling, TwoTower


class Graphs:
    """Stands for graphs: a molecule is a row of numbers."""

    def __init__(self, rows):
        self.rows = rows

    def __len__(self):
        return len(self.rows)

    def take(self, indices):
        return self.rows[torch.as_tensor(indices)]


class Doubler(nn.Module):
    """Stands for a graph network."""

    output_size = 2

    def forward(self, rows):
        assert not self.training
        return 2 * rows


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# -- scaling -------------------------------------------------------------------------

X = torch.tensor([[1.0, 10.0, 5.0], [3.0, 30.0, 5.0]])  # variances 1, 100 and 0


@pytest.mark.parametrize(
    ("how", "scale"),
    [
        ("view", [(101 / 3) ** 0.5] * 3),
        # A tenth of the view's scale is 0.58: it bounds the constant column alone.
        ("column", [1.0, 10.0, 0.1 * (101 / 3) ** 0.5]),
    ],
)
def test_scaling_by_hand(how, scale):
    layer = Scaling(3)
    layer.learn(X, how)
    expected = (X - torch.tensor([2.0, 20.0, 5.0])) / torch.tensor(scale)
    torch.testing.assert_close(layer(X), expected)


def test_no_scaling():
    layer = Scaling(3)
    layer.learn(X, "none")
    torch.testing.assert_close(layer(X), X, rtol=0, atol=0)


@pytest.mark.parametrize("how", ["view", "column"])
def test_scaling_of_constant_data_does_not_divide_by_zero(how):
    layer = Scaling(2)
    layer.learn(torch.full((4, 2), 7.0), how)
    torch.testing.assert_close(
        layer(torch.tensor([[7.0, 8.0]])), torch.tensor([[0.0, 1]])
    )


def test_scaling_is_saved_with_the_weights():
    layer = Scaling(3)
    layer.learn(X, "column")
    other = Scaling(3)
    other.load_state_dict(layer.state_dict())
    torch.testing.assert_close(other(X), layer(X), rtol=0, atol=0)


# -- towers --------------------------------------------------------------------------


def test_graph_vector_and_features_are_scaled_apart_and_joined():
    rows, features = draw(5, 2), 1000 * draw(5, 3, seed=1)
    profiles = draw(9, 4, seed=2)
    net = TwoTower(
        4, 3, Doubler(), embedding_size=6, scaling="column", normalize=False
    ).eval()
    molecules = MoleculeInputs(Graphs(rows), features)
    net.learn_scaling(molecules, profiles, [np.arange(3), np.arange(3, 5)])

    def standardize(x):
        return (x - x.mean(0)) / x.std(0, correction=0)

    joined = torch.cat([standardize(2 * rows), standardize(features)], dim=1)
    expected = net.molecule_tower.head(joined)
    got = net.embed_molecules(*molecules.take(np.arange(5)))
    torch.testing.assert_close(got, expected)
    expected = net.expression_tower.network(standardize(profiles))
    torch.testing.assert_close(net.embed_profiles(profiles), expected)


def test_scaling_is_learnt_from_the_given_molecules_only():
    rows, features, profiles = draw(5, 2), draw(5, 3, seed=1), draw(9, 4, seed=2)
    net = TwoTower(4, 3, Doubler())
    net.learn_scaling(MoleculeInputs(Graphs(rows), features), profiles, [[3, 1]])
    tower = net.molecule_tower
    torch.testing.assert_close(tower.scale_graph.mean, 2 * rows[[1, 3]].mean(0))
    torch.testing.assert_close(tower.scale_features.mean, features[[1, 3]].mean(0))


def test_learning_the_scaling_leaves_the_mode():
    net = TwoTower(4, 0, Doubler()).train()
    net.learn_scaling(MoleculeInputs(Graphs(draw(3, 2)), None), draw(3, 4), [[0, 1, 2]])
    assert all(module.training for module in net.modules())


def test_without_scaling_nothing_is_encoded():
    net = TwoTower(4, 0, Doubler(), scaling="none")
    net.learn_scaling(None, draw(3, 4), [[0]])
    assert bool((net.molecule_tower.scale_graph.scale == 1).all())


def test_features_alone():
    net = TwoTower(4, 3, embedding_size=6)
    assert net.embed_molecules(None, draw(5, 3)).shape == (5, 6)
    assert net.molecule_tower.head[0].weight.shape == (6, 3)


def test_normalize():
    net = TwoTower(4, 3, normalize=True)
    for embeddings in (
        net.embed_molecules(None, draw(5, 3)),
        net.embed_profiles(draw(7, 4)),
    ):
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(len(embeddings)))


def test_unit_profiles_ignore_the_strength():
    net, plain = (TwoTower(4, 3, unit_profiles=unit) for unit in (True, False))
    y = draw(6, 4)

    def embed(net, profiles):
        return net.embed_profiles(net.prepare_profiles(profiles))

    factors = torch.tensor([[0.1], [1.0], [5.0], [2.0], [9.0], [0.5]])
    torch.testing.assert_close(embed(net, factors * y), embed(net, y))
    torch.testing.assert_close(net.prepare_profiles(y).norm(dim=1), torch.ones(6))
    assert not torch.allclose(embed(plain, 2 * y), embed(plain, y))


def widths(network):
    return [layer.out_features for layer in network if isinstance(layer, nn.Linear)]


@pytest.mark.parametrize(
    ("params", "expression", "head"),
    [
        ({}, [1024, 512, 128], [128]),
        ({"expression_layers": (7, 5)}, [7, 5, 128], [128]),
        ({"expression_width": 10, "expression_growth": 2.0}, [10, 20, 128], [128]),
        ({"expression_depth": 0, "head_layers": [6]}, [128], [6, 128]),
        ({"head_width": 9, "head_depth": 2}, [1024, 512, 128], [9, 9, 128]),
        ({"embedding_size": 3}, [1024, 512, 3], [3]),
    ],
)  # fmt: skip
def test_depths_and_widths(params, expression, head):
    net = TwoTower(4, 3, **params)
    assert widths(net.expression_tower.network) == expression
    assert widths(net.molecule_tower.head) == head


def test_each_tower_has_its_own_dropout():
    net = TwoTower(
        4, 3, head_layers=[6], expression_layers=[6],
        dropout=0.1, head_dropout=0.2, input_dropout=0.3, head_input_dropout=0.4,
    )  # fmt: skip
    kinds = nn.Dropout | nn.AlphaDropout
    rates = [
        [layer.p for layer in network if isinstance(layer, kinds)]
        for network in (net.expression_tower.network, net.molecule_tower.head)
    ]
    assert rates == [[0.3, 0.1], [0.4, 0.2]]
    assert isinstance(net.molecule_tower.head, FeedForward)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"embedding_size": 0}, "'embedding_size'.* Got 0"),
        ({"activation": "gelu"}, "'activation'.* Got 'gelu'"),
        ({"dropout": 1.0}, "'dropout'.* Got 1.0"),
        ({"head_input_dropout": -0.1}, "'head_input_dropout'.* Got -0.1"),
        ({"head_depth": -1}, "'head_depth'.* Got -1"),
        ({"expression_width": 0}, "'expression_width'.* Got 0"),
        ({"expression_layers": 5}, "'expression_layers'.* Got 5"),
        ({"expression_layers": (8, 0)}, r"expression_layers must be .* Got \(8, 0\)"),
        ({"scaling": "row"}, "'scaling'.* Got 'row'"),
    ],
)
def test_wrong_parameters(params, match):
    with pytest.raises(ValueError, match=match):
        TwoTower(4, 3, **params)
