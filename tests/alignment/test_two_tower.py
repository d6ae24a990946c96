"""The network: layers, scaling, the linear start."""

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_molge.alignment import CCA, CoordinatedEmbedder, TwoTower
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler
from sklearn_molge.exceptions import JointSpaceWarning


class Molecules:
    """Stands for distinct molecules: a graph is a row of numbers."""

    def __init__(self, rows, features=None):
        self.graphs, self.features = rows, features

    def take(self, indices):
        parts = self.graphs, self.features
        return [None if p is None else p[torch.as_tensor(indices)] for p in parts]


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


def scaled(how, x, seen=X, weights=None):
    """Scale profiles by what a tower learnt from `seen`."""
    net = TwoTower(x.shape[1], 1, scaling=how)
    molecules = Molecules(None, torch.zeros(1, 1))
    learn(net, molecules, seen, np.zeros(len(seen), dtype=int), weights=weights)
    return net.expression_tower.scale(x), net


def learn(net, molecules, profiles, molecule_of, batch_size=3, weights=None):
    net.learn(
        molecules, molecule_of, profiles, batch_size=batch_size, seed=0, weights=weights
    )


@pytest.mark.parametrize(
    ("how", "scale"),
    [
        ("view", [(101 / 3) ** 0.5] * 3),
        # A tenth of the view's scale is 0.58: it bounds the constant column alone.
        ("column", [1.0, 10.0, 0.1 * (101 / 3) ** 0.5]),
    ],
)
def test_scaling_by_hand(how, scale):
    expected = (X - torch.tensor([2.0, 20.0, 5.0])) / torch.tensor(scale)
    torch.testing.assert_close(scaled(how, X)[0], expected)


def test_no_scaling():
    torch.testing.assert_close(scaled("none", X)[0], X, rtol=0, atol=0)


@pytest.mark.parametrize("how", ["view", "column"])
def test_scaling_of_constant_data_does_not_divide_by_zero(how):
    got, _ = scaled(how, torch.tensor([[7.0, 8.0]]), torch.full((4, 2), 7.0))
    torch.testing.assert_close(got, torch.tensor([[0.0, 1]]))
    for seed in range(20):  # whatever the rounding of their mean
        weights = np.random.default_rng(seed).random(4)
        got, _ = scaled(
            how, torch.tensor([[0.1, 1.1]]), torch.full((4, 2), 0.1), weights
        )
        torch.testing.assert_close(got, torch.tensor([[0.0, 1]]))


@pytest.mark.parametrize("weighted", [False, True])
def test_scaling_of_many_rows_is_that_of_all_at_once(weighted):
    rows = 3 * draw(9000, 2) + torch.tensor([100.0, -5.0])  # more than one part
    net, weights = TwoTower(2, 1, scaling="column"), None
    if weighted:
        weights = np.random.default_rng(0).random(len(rows))
    molecule_of = np.zeros(len(rows), dtype=int)
    molecules = Molecules(None, torch.zeros(1, 1))
    net.learn(molecules, molecule_of, rows, batch_size=3, seed=0, weights=weights)
    mean = np.average(rows.double().numpy(), axis=0, weights=weights)
    square = np.average((rows.double().numpy() - mean) ** 2, axis=0, weights=weights)
    scale = net.expression_tower.scale
    np.testing.assert_allclose(scale.mean, mean, rtol=1e-6)
    np.testing.assert_allclose(scale.scale, np.sqrt(square), rtol=1e-6)


def test_scaling_is_saved_with_the_weights():
    expected, net = scaled("column", X)
    other = TwoTower(3, 1, scaling="column")
    other.load_state_dict(net.state_dict())
    got = other.expression_tower.scale(X)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


# -- towers --------------------------------------------------------------------------


def test_graph_vector_and_features_are_scaled_apart_and_joined():
    rows, features = draw(5, 2), 1000 * draw(5, 3, seed=1)
    profiles = draw(9, 4, seed=2)
    net = TwoTower(
        4, 3, Doubler(), embedding_size=6, scaling="column", normalize=False
    ).eval()
    molecules = Molecules(rows, features)
    learn(net, molecules, profiles, np.array([4, 3, 2, 1, 0, 0, 0, 1, 2]))

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
    learn(net, Molecules(rows, features), profiles, np.array([3, 1, 3] * 3))
    tower = net.molecule_tower
    torch.testing.assert_close(tower.scale_graph.mean, 2 * rows[[1, 3]].mean(0))
    torch.testing.assert_close(tower.scale_features.mean, features[[1, 3]].mean(0))


def test_learning_the_scaling_leaves_the_mode():
    net = TwoTower(4, 0, Doubler()).train()
    learn(net, Molecules(draw(3, 2)), draw(3, 4), np.arange(3))
    assert all(module.training for module in net.modules())


def test_without_scaling_nothing_is_encoded():
    net = TwoTower(4, 0, Doubler(), scaling="none")
    learn(net, None, draw(3, 4), np.arange(3))
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
        ({"expression_layers": (), "head_layers": [6]}, [128], [6, 128]),
        ({"head_layers": [9.0, np.int64(8)]}, [1024, 512, 128], [9, 8, 128]),
        ({"embedding_size": 3}, [1024, 512, 3], [3]),
    ],
)  # fmt: skip
def test_widths_of_the_layers(params, expression, head):
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


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"embedding_size": 0}, "'embedding_size'.* Got 0"),
        ({"activation": "gelu"}, "'activation'.* Got 'gelu'"),
        ({"dropout": 1.0}, "'dropout'.* Got 1.0"),
        ({"head_input_dropout": -0.1}, "'head_input_dropout'.* Got -0.1"),
        ({"head_layers": [2.5]}, r"head_layers must be .* at least 1. Got \[2.5\]"),
        ({"head_layers": [8, -1]}, r"head_layers must be .* Got \[8, -1\]"),
        ({"expression_layers": 5}, "'expression_layers'.* Got 5"),
        ({"expression_layers": (8, 0)}, r"expression_layers must be .* Got \(8, 0\)"),
        ({"scaling": "row"}, "'scaling'.* Got 'row'"),
    ],
)
def test_wrong_parameters(params, match):
    with pytest.raises(ValueError, match=match):
        TwoTower(4, 3, **params)


# -- layers --------------------------------------------------------------------------


def head_of(n_in, layers, n_out, **params):
    """Make the network of features: the head of a molecule tower."""
    names = {"dropout": "head_dropout", "input_dropout": "head_input_dropout"}
    params = {names.get(name, name): value for name, value in params.items()}
    net = TwoTower(1, n_in, head_layers=layers, embedding_size=n_out, **params)
    return net.molecule_tower.head


def kinds(network):
    return [type(layer) for layer in network]


def test_layers_of_a_self_normalising_network():
    network = head_of(5, (4, 3), 2, dropout=0.1, input_dropout=0.2)
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
    network = head_of(5, (4,), 2, activation=activation, dropout=0.1)
    assert kinds(network) == [nn.Linear, kind, nn.Dropout, nn.Linear]


def test_no_hidden_layer_is_one_linear_layer():
    assert kinds(head_of(5, (), 2, dropout=0.5)) == [nn.Linear]


def test_without_bias():
    network = head_of(5, (4,), 2, bias=False)
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
        network = head_of(100, (400,), 300, activation=activation, init=init)
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
        network = head_of(300, [300] * 12, 300)
        hidden = nn.Sequential(*list(network)[:-1])
        y = hidden(torch.randn(400, 300)).detach()
    assert y.mean().item() == pytest.approx(0, abs=0.1)
    assert y.var().item() == pytest.approx(1, abs=0.15)


def test_forward_by_hand():
    network = head_of(2, (2,), 1, activation="relu").eval()
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 2.0], [-1.0, 0.0]]))
        network[0].bias.copy_(torch.tensor([0.5, 0.0]))
        network[2].weight.copy_(torch.tensor([[2.0, 3.0]]))
        network[2].bias.copy_(torch.tensor([-1.0]))
    # relu(1 + 4 + 0.5, -1) = (5.5, 0) and relu(-3 + 2 + 0.5, 3) = (0, 3).
    got = network(torch.tensor([[1.0, 2.0], [-3.0, 1.0]]))
    assert got.tolist() == [[10.0], [8.0]]


# -- the linear start is the CCA of the training set, and training leaves from there ---

SETTINGS = {
    "criterion": InfoNCELoss,
    "sampler": DrugBalancedSampler,
    "module__start": "cca",
    "module__normalize": False,
    "module__embedding_size": 5,
    "module__expression_layers": (8,),
    "module__head_layers": (6,),
    "max_epochs": 1,
    "random_state": 0,
}
# So low a rate that the weights stay where they start.
AT_START = SETTINGS | {"lr": 1e-12}


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    molecules = rng.normal(size=(40, 12)).astype(np.float32)
    of = np.repeat(np.arange(40), 3)
    noise = rng.normal(size=(120, 20))
    profiles = molecules[of] @ rng.normal(size=(12, 20)) + noise
    return molecules[of], profiles.astype(np.float32)


def cca_of(X, y, seed, n_components=5):
    return CCA(n_components, correlation_power=2, random_state=seed).fit(X, y)


def same_up_to_scale(a, b):
    a, b = a - a.mean(0), b - b.mean(0)
    factor = np.sqrt((a**2).mean() / (b**2).mean())
    np.testing.assert_allclose(a, b * factor, atol=2e-3 * np.abs(a).max())


def test_starts_at_cca(pairs):
    X, y = pairs
    net = CoordinatedEmbedder(None, **AT_START, module__scaling="none").fit(X, y)
    cca = cca_of(X, y, net.seed_)
    same_up_to_scale(net.transform(X), cca.transform(X))
    same_up_to_scale(net.transform_ge(y), cca.transform_ge(y))
    # Both views come out in the same size, and centred.
    for embedded in (net.transform(X), net.transform_ge(y)):
        assert np.sqrt((embedded**2).mean()) == pytest.approx(1, rel=1e-3)
        np.testing.assert_allclose(embedded.mean(0), 0, atol=1e-3)


def test_starts_at_cca_of_scaled_unit_profiles(pairs):
    X, y = pairs
    net = CoordinatedEmbedder(
        None, **AT_START, module__scaling="column", module__unit_profiles=True
    ).fit(X, y)
    unit = y / np.linalg.norm(y, axis=1, keepdims=True)
    molecules = np.unique(X, axis=0)
    X, unit = (
        (X - molecules.mean(0)) / molecules.std(0),
        (unit - unit.mean(0)) / unit.std(0),
    )
    cca = cca_of(X, unit, net.seed_)
    same_up_to_scale(net.transform_ge(y), cca.transform_ge(unit))


def test_training_leaves_from_there(pairs):
    X, y = pairs
    start = CoordinatedEmbedder(None, **AT_START).fit(X, y)
    trained = CoordinatedEmbedder(None, **SETTINGS | {"max_epochs": 5, "lr": 1e-2})
    trained.fit(X, y)
    assert trained.history[-1, "train_loss"] < start.history[0, "train_loss"]
    assert not np.allclose(trained.transform(X), start.transform(X), atol=0.1)


@pytest.mark.parametrize("n_features", [12, 200])
def test_more_dimensions_than_variates_start_small(pairs, n_features):
    """Outputs of 0 in both towers would have no gradient, and stay so."""
    X, y = pairs
    X = np.tile(X, (1, 20))[:, :n_features]  # of rank 12, however many columns
    settings = AT_START | {"module__embedding_size": 16}
    said = r"found 12 canonical .*_size is 16: the other 4 outputs"
    for lr, trained in ((1e-12, False), (1e-2, True)):
        net = CoordinatedEmbedder(None, **settings | {"lr": lr, "max_epochs": 3})
        with pytest.warns(JointSpaceWarning, match=said):
            net.fit(X, y)
        for embedded in (net.transform(X), net.transform_ge(y)):
            sizes = np.sqrt((embedded**2).mean(axis=0))
            assert (sizes[:12] > 0.012).all()
            assert (sizes[12:] > 0.001).all()
            assert (sizes[12:].max() > 0.03) == trained


@pytest.mark.parametrize(
    ("n_molecules", "what"),
    [
        (5, r"module__start='cca' needs a CCA .*at least 10 distinct"),
        (40, "^y must vary"),
    ],
)
def test_a_start_at_cca_that_is_not_there(pairs, n_molecules, what):
    X, y = (view[: 3 * n_molecules] for view in pairs)
    if n_molecules == 40:
        y = np.ones_like(y)
    with pytest.raises(ValueError, match=what):
        CoordinatedEmbedder(None, **SETTINGS).fit(X, y)


def test_validation_rows_do_not_shape_the_start(study, split):
    settings = AT_START | {
        "train_split": split,
        "encoder__hidden_size": 16,
        "module__embedding_size": 3,
    }
    train, valid = next(iter(split.split(study.smiles, None, study.groups)))
    other = study.ge.copy()
    other[valid] = -other[valid]
    a, b = (
        CoordinatedEmbedder(**settings).fit(study.smiles, y, groups=study.groups)
        for y in (study.ge, other)
    )
    np.testing.assert_array_equal(
        a.transform_ge(study.ge[train]), b.transform_ge(study.ge[train])
    )
    np.testing.assert_array_equal(a.transform(study.smiles), b.transform(study.smiles))


def test_linear_path_by_hand():
    net = TwoTower(2, 3, start="cca", embedding_size=2)
    mean, rotations = np.array([1.0, 2, 3]), np.array([[1.0], [0], [2]])
    net.molecule_tower.head.set_linear(mean, rotations)
    x = torch.tensor([[2.0, 2.0, 2.0]])
    # (2 - 1) * 1 + (2 - 3) * 2 = -1, and the unused output is 0.
    expected = torch.tensor([[-1.0, 0.0]])
    torch.testing.assert_close(net.molecule_tower.head(x), expected)
