"""The linear start is the CCA of the training set, and training leaves from there."""

import numpy as np
import pytest
import torch

from sklearn_molge.alignment import CCA, CoordinatedEmbedder
from sklearn_molge.alignment._feedforward import FeedForward
from sklearn_molge.alignment._linear_start import WithLinearPath
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler

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


def test_more_dimensions_than_variates_are_zero(pairs):
    X, y = pairs
    settings = AT_START | {"module__embedding_size": 16}
    net = CoordinatedEmbedder(None, **settings).fit(X, y)
    assert (np.abs(net.transform(X)).max(axis=0) > 1e-6).sum() == 12
    assert (np.abs(net.transform_ge(y)).max(axis=0) > 1e-6).sum() == 12


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
    path = WithLinearPath(FeedForward(3, (4,), 2))
    mean, rotations = np.array([1.0, 2, 3]), np.array([[1.0], [0], [2]])
    path.set_linear(mean, rotations)
    x = torch.tensor([[2.0, 2.0, 2.0]])
    # (2 - 1) * 1 + (2 - 3) * 2 = -1, and the unused output is 0.
    torch.testing.assert_close(path(x), torch.tensor([[-1.0, 0.0]]))
