"""The towers on tensors: what `transform` and `transform_ge` are the numbers of."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError

from sklearn_molge.molecules import MorganFingerprinter


@pytest.fixture(scope="module")
def data(study):
    return study.smiles, study.ge


@pytest.mark.parametrize(
    "params",
    [
        {"module__dropout": 0.3, "module__unit_profiles": True},
        {"molecule_features": MorganFingerprinter(fp_size=32)},
        {"encoder": None, "molecule_features": MorganFingerprinter(fp_size=32)},
    ],
)
def test_they_are_transform_and_transform_ge(make_net, data, params):
    X, y = data
    net = make_net(**{"encoder": "random", "max_epochs": 1} | params).fit(X, y)
    molecules = net.embed_molecules(*net.molecule_tensors(X))
    profiles = net.embed_profiles(net.profile_tensor(y))
    for tensor, expected in zip(
        (molecules, profiles), (net.transform(X), net.transform_ge(y)), strict=True
    ):
        assert tensor.requires_grad
        np.testing.assert_allclose(tensor.detach().numpy(), expected, atol=1e-5)


def test_gradients_of_atoms_are_differences(make_net, data):
    net = make_net(max_epochs=1, module__normalize=False).fit(*data)
    graphs, features = net.molecule_tensors(["CCO", "CCN"])
    assert features is None
    assert graphs.n_atoms.tolist() == [3, 3]

    def embed(atoms):
        changed = type(graphs)(
            atoms, graphs.bond_features, graphs.bonds, graphs.n_atoms
        )
        return net.embed_molecules(changed, None)[0, 0]

    atoms = graphs.V.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(embed(atoms), atoms)
    assert bool((gradient[3:] == 0).all())  # of the other molecule
    step = torch.zeros_like(atoms)
    step[0, 2] = 1e-2
    with torch.no_grad():
        difference = (embed(atoms + step) - embed(atoms - step)) / 2e-2
    assert gradient[0, 2].item() == pytest.approx(difference.item(), abs=1e-3)


def test_gradients_of_genes_are_differences(make_net, data):
    net = make_net(max_epochs=1, module__unit_profiles=True).fit(*data)
    profiles = net.profile_tensor(data[1][:2]).requires_grad_()
    torch.testing.assert_close(profiles.norm(dim=1), torch.ones(2))
    (gradient,) = torch.autograd.grad(net.embed_profiles(profiles)[0, 0], profiles)
    assert bool((gradient[1] == 0).all())
    step = torch.zeros_like(profiles)
    step[0, 3] = 1e-2
    with torch.no_grad():
        ends = [net.embed_profiles(profiles + s)[0, 0] for s in (step, -step)]
    difference = (ends[0] - ends[1]) / 2e-2
    assert gradient[0, 3].item() == pytest.approx(difference.item(), abs=1e-3)


def test_before_fit(make_net, data):
    net = make_net()
    calls = [
        lambda: net.molecule_tensors(data[0]),
        lambda: net.profile_tensor(data[1]),
        lambda: net.embed_molecules(None, None),
        lambda: net.embed_profiles(torch.zeros(1, 30)),
    ]
    for call in calls:
        with pytest.raises(NotFittedError):
            call()
