import numpy as np
import pytest
import torch

from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.model_selection import DrugCellLineShuffleSplit

TINY = {
    "encoder__hidden_size": 16,
    "module__expression_layers": (16,),
    "module__embedding_size": 8,
    "batch_size": 32,
    "max_epochs": 2,
    "lr": 0.01,
    "random_state": 0,
}


@pytest.fixture(scope="session")
def study():
    """Twenty drugs in three lines, 120 profiles of 30 genes."""
    return make_perturbation_study(
        20, n_cell_lines=3, n_genes=30, level=5, random_state=0
    )


@pytest.fixture(scope="session")
def split():
    """Hold out six drugs and one line, for validation inside of fit."""
    return DrugCellLineShuffleSplit(
        1, test_drugs=0.3, test_cell_lines=1, random_state=0
    )


@pytest.fixture(scope="session")
def make_net():
    """Make a tiny embedder; keywords replace its parameters."""

    def make(encoder="random", **params):
        params = TINY | params
        if encoder is None:
            params.pop("encoder__hidden_size")
        return CoordinatedEmbedder(encoder, **params)

    return make


@pytest.fixture(scope="session")
def fitted(make_net, study):
    """A trained embedder that no test may change."""
    return make_net().fit(study.smiles, study.ge)


@pytest.fixture(scope="session")
def assert_same_training():
    """Check that two trainings ended at the same weights, to the bit."""

    def check(a, b):
        for part in ("module_", "criterion_", "optimizer_"):
            states = [getattr(net, part).state_dict() for net in (a, b)]
            _assert_same_state(*states)
        for key in ("train_loss", "epoch"):
            assert a.history[:, key] == b.history[:, key]

    return check


def _assert_same_state(a, b):
    assert type(a) is type(b)
    if isinstance(a, dict):
        assert list(a) == list(b)
        for key in a:
            _assert_same_state(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            _assert_same_state(x, y)
    elif isinstance(a, torch.Tensor):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    else:
        assert a == b
