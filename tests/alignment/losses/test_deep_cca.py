from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import linalg

from sklearn_molge.alignment import CCA, EmbeddedBatch
from sklearn_molge.alignment.losses import DeepCCALoss


def paired_batch(n=60, dim=4, noise=1.0, seed=0):
    """Every molecule with two profiles."""
    rng = np.random.default_rng(seed)
    molecules = rng.normal(size=(n // 2, dim))
    index = np.repeat(np.arange(n // 2), 2)
    profiles = molecules[index] @ rng.normal(size=(dim, dim))
    profiles += noise * rng.normal(size=profiles.shape)
    return EmbeddedBatch(
        molecules=torch.tensor(molecules),
        profiles=torch.tensor(profiles),
        molecule_index=torch.tensor(index),
        molecule_drugs=torch.arange(n // 2),
        inputs=torch.tensor(profiles),
    )


def slow_correlations(x, y, ridge):
    """Textbook: inverse square roots of the covariances, built entry by entry."""

    def covariance(a, b):
        out = np.zeros((a.shape[1], b.shape[1]))
        for row_a, row_b in zip(a - a.mean(0), b - b.mean(0), strict=True):
            out += np.outer(row_a, row_b) / (len(a) - 1)
        return out

    def inverse_root(c):
        values, vectors = linalg.eigh(c + ridge * np.eye(len(c)))
        return sum(
            np.outer(v, v) / np.sqrt(value)
            for value, v in zip(values, vectors.T, strict=True)
        )

    t = inverse_root(covariance(x, x)) @ covariance(x, y)
    return linalg.svdvals(t @ inverse_root(covariance(y, y)))


@pytest.mark.parametrize("n_components", [None, 1, 3])
@pytest.mark.parametrize("ridge", [1e-4, 0.5])
def test_equals_a_slow_loop(ridge, n_components):
    batch = paired_batch()
    molecules = batch.molecules.numpy()[batch.molecule_index]
    correlations = slow_correlations(batch.profiles.numpy(), molecules, ridge)
    loss = DeepCCALoss(ridge=ridge, n_components=n_components)(batch)
    assert loss.item() == pytest.approx(-correlations[:n_components].sum(), abs=1e-10)


def test_equals_the_linear_estimator():
    batch = paired_batch(noise=0.5)
    cca = CCA(4, ridge=0.0)
    cca.fit(batch.molecules.numpy()[batch.molecule_index], batch.profiles.numpy())
    loss = DeepCCALoss(ridge=1e-10)(batch)
    assert loss.item() == pytest.approx(-cca.correlations_.sum(), abs=1e-6)


def test_does_not_change_with_a_linear_map_of_either_view():
    batch = paired_batch()
    mixed = replace(
        batch,
        profiles=batch.profiles @ torch.randn(4, 4, dtype=torch.float64) + 3,
        molecules=100 * batch.molecules,
    )
    loss = DeepCCALoss(ridge=1e-12)
    torch.testing.assert_close(loss(mixed), loss(batch), atol=1e-6, rtol=0)


def test_more_dimensions_than_profiles_in_single_precision():
    batch = paired_batch(n=8, dim=20)
    batch = replace(
        batch,
        molecules=batch.molecules.float().requires_grad_(),
        profiles=batch.profiles.float().requires_grad_(),
    )
    value = DeepCCALoss()(batch)
    value.backward()
    # 4 distinct molecules span 3 centred dimensions, which anything correlates with.
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(-3, abs=0.01)
    assert batch.profiles.grad.isfinite().all()


def test_too_many_components():
    with pytest.raises(ValueError, match=r"n_components must be at most 4.*Got 5"):
        DeepCCALoss(n_components=5)(paired_batch())


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"ridge": 0}, r"'ridge'.*\(0.*Got 0"),
        ({"n_components": 0}, r"'n_components'.*None.*Got 0"),
    ],
)
def test_bad_parameters(parameters, match):
    with pytest.raises(ValueError, match=match):
        DeepCCALoss(**parameters)
