import pickle

import numpy as np
import pytest
import torch
from chemprop.nn import (
    BondMessagePassing,
    MeanAggregation,
    NormAggregation,
    SumAggregation,
)

from sklearn_molge.molecules import DMPNN, MoleculeGraphs

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "C",  # no bonds
    "CC(C)(C)C",
    "C[C@H](N)C(=O)[O-].[Na+]",
    "CC",
    "Clc1ccc2c(c1)C(=NCC(=O)N2C)c1ccccc1",
]
AGGREGATIONS = {
    "mean": MeanAggregation(),
    "sum": SumAggregation(),
    "norm": NormAggregation(norm=7.0),
}


@pytest.fixture(scope="module")
def batch():
    return MoleculeGraphs.from_smiles(SMILES).take(range(len(SMILES)))


def with_the_weights_of(reference, **parameters):
    network = DMPNN(**parameters)
    network.load_state_dict(reference.state_dict())
    return network


def outputs_and_gradients(forward, network):
    vectors = forward()
    target = torch.from_numpy(np.random.default_rng(0).normal(size=vectors.shape))
    network.zero_grad()
    (vectors * target.to(vectors)).sum().backward()
    gradients = {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad
        for name, weight in network.named_parameters()
    }
    return vectors, gradients


@pytest.mark.parametrize(
    ("shared", "aggregation"),
    [
        ({}, "mean"),
        ({"bias": True, "activation": "prelu"}, "sum"),
        ({"undirected": True, "activation": "leakyrelu"}, "norm"),
        ({"depth": 1, "activation": "tanh"}, "norm"),
        ({"depth": 5, "bias": True, "activation": "elu"}, "mean"),
    ],
    ids=str,
)
@pytest.mark.parametrize("hidden_size", [300, 32, 7])
def test_outputs_and_gradients_are_chemprop_s(batch, shared, aggregation, hidden_size):
    reference = BondMessagePassing(d_h=hidden_size, **shared)
    network = with_the_weights_of(
        reference,
        hidden_size=hidden_size,
        aggregation=aggregation,
        aggregation_norm=7.0,
        **shared,
    )
    aggregate = AGGREGATIONS[aggregation]
    expected, expected_gradients = outputs_and_gradients(
        lambda: aggregate(reference(batch), batch.batch), reference
    )
    vectors, gradients = outputs_and_gradients(lambda: network(batch), network)
    assert vectors.shape == (len(SMILES), network.output_size)
    torch.testing.assert_close(vectors, expected, rtol=1e-5, atol=1e-6)
    for name, gradient in expected_gradients.items():
        scale = max(1.0, gradient.abs().max())
        torch.testing.assert_close(
            gradients[name] / scale, gradient / scale, rtol=1e-5, atol=1e-6
        )


def test_dropout_is_chemprop_s(batch):
    # Without padding the same random numbers fall on the same units.
    reference = BondMessagePassing(d_h=32, dropout=0.4)
    network = with_the_weights_of(reference, hidden_size=32, dropout=0.4)
    torch.manual_seed(0)
    expected = AGGREGATIONS["mean"](reference(batch), batch.batch)
    torch.manual_seed(0)
    torch.testing.assert_close(network(batch), expected, rtol=1e-5, atol=1e-6)
    assert not torch.equal(network(batch), network(batch))
    assert torch.equal(network.eval()(batch), network(batch))


def test_dropout_of_padded_units(batch):
    torch.manual_seed(0)
    network = DMPNN(hidden_size=20, depth=1, dropout=0.25, aggregation="sum")
    expected = network.eval()(batch)
    network.train()
    mean = torch.stack([network(batch) for _ in range(2000)]).mean(0)
    # Not exact: the last layer is not linear in what the layers before it drop.
    torch.testing.assert_close(mean, expected, rtol=0.05, atol=0.05)


@pytest.mark.parametrize("bias", [False, True])
def test_same_seed_same_weights_as_chemprop(bias):
    torch.manual_seed(3)
    reference = BondMessagePassing(d_h=20, bias=bias).state_dict()
    torch.manual_seed(3)
    weights = DMPNN(hidden_size=20, bias=bias).state_dict()
    assert list(weights) == list(reference)
    for name, weight in weights.items():
        assert torch.equal(weight, reference[name])


@pytest.mark.parametrize("undirected", [False, True])
def test_gradients_by_finite_differences(undirected):
    batch = MoleculeGraphs.from_smiles(["CCO", "C"], mode="RIGR").take([0, 1])
    batch.V, batch.bond_features = batch.V.double(), batch.bond_features.double()
    torch.manual_seed(0)
    network = DMPNN(
        atom_features=52,
        bond_features=2,
        hidden_size=3,
        activation="tanh",
        undirected=undirected,
        bias=True,
    ).double()
    names, weights = zip(*network.named_parameters(), strict=True)

    def forward(*weights):
        named = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(network, named, (batch,))

    torch.autograd.gradcheck(forward, weights)


def test_a_molecule_s_vector_does_not_depend_on_its_neighbours():
    torch.manual_seed(0)
    graphs = MoleculeGraphs.from_smiles(SMILES)
    network = DMPNN()
    together = network(graphs.take(range(len(SMILES))))
    alone = torch.cat([network(graphs.take([i])) for i in range(len(SMILES))])
    backwards = network(graphs.take(range(len(SMILES))[::-1])).flip(0)
    torch.testing.assert_close(alone, together, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(backwards, together, rtol=1e-6, atol=1e-6)


def test_a_molecule_s_vector_does_not_depend_on_the_order_of_atoms():
    spellings = ["CC(=O)Nc1ccc(O)cc1", "Oc1ccc(NC(C)=O)cc1"]
    batch = MoleculeGraphs.from_smiles(spellings).take([0, 1])
    first, second = DMPNN()(batch)
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)


def test_molecules_without_bonds_can_be_learnt_from():
    batch = MoleculeGraphs.from_smiles(["C", "[Na+].[Cl-]"]).take([0, 1])
    network = DMPNN(hidden_size=8, bias=True)
    _, gradients = outputs_and_gradients(lambda: network(batch), network)
    assert not gradients["W_i.weight"].any()
    assert not gradients["W_h.weight"].any()
    assert gradients["W_o.weight"][:, :72].any()


def test_repeated_runs_are_equal(batch):
    network = DMPNN()
    first, first_gradients = outputs_and_gradients(lambda: network(batch), network)
    second, gradients = outputs_and_gradients(lambda: network(batch), network)
    assert torch.equal(first, second)
    for name, gradient in gradients.items():
        assert torch.equal(gradient, first_gradients[name])


def test_batch_norm_normalises_molecules_in_training(batch):
    network = DMPNN(hidden_size=8, batch_norm=True)
    vectors = network(batch)
    torch.testing.assert_close(vectors.mean(0), torch.zeros(8), rtol=0, atol=1e-5)
    assert network.eval()(batch).mean(0).abs().max() > 0.01


def test_pickle(batch):
    network = DMPNN(hidden_size=8)
    again = pickle.loads(pickle.dumps(network))
    assert torch.equal(again(batch), network(batch))


def test_graphs_of_another_mode():
    batch = MoleculeGraphs.from_smiles(["CCO"], mode="V1").take([0])
    message = "72 atom features and 14 bond features. Got graphs with 133 and 14"
    with pytest.raises(ValueError, match=message):
        DMPNN()(batch)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"activation": "gelu"}, "activation must be one of .*'selu'.*Got 'gelu'"),
        ({"aggregation": "max"}, "aggregation must be one of .*'norm'.*Got 'max'"),
    ],
)
def test_unknown_names(parameters, message):
    with pytest.raises(ValueError, match=message):
        DMPNN(**parameters)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(batch):
    network = DMPNN()
    expected, expected_gradients = outputs_and_gradients(
        lambda: network(batch), network
    )
    # Copies: with the network, its gradients move, too.
    expected_gradients = {k: g.clone() for k, g in expected_gradients.items()}
    network.cuda()
    there = batch.to("cuda")
    vectors, gradients = outputs_and_gradients(lambda: network(there), network)
    torch.testing.assert_close(vectors.cpu(), expected, rtol=1e-3, atol=1e-4)
    for name, gradient in expected_gradients.items():
        torch.testing.assert_close(
            gradients[name].cpu(), gradient, rtol=1e-3, atol=1e-3
        )
