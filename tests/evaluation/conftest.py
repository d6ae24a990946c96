"""What the tests of evaluate_study share: a study, methods, a call with few options."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA, CoordinatedEmbedder
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler
from sklearn_molge.datasets import Study, make_perturbation_study
from sklearn_molge.evaluation import evaluate_study
from sklearn_molge.molecules import MorganFingerprinter

SPLIT = {"val_drugs": 0.2, "test_drugs": 0.3, "val_cell_lines": 1}
SEEN = []  # what Recorder was fitted on, in this process


class Recorder(TransformerMixin, BaseEstimator):
    """Notes what it is fitted on."""

    def __init__(self, name="X"):
        self.name = name

    def fit(self, X, y=None):
        SEEN.append((self.name, np.array(X)))
        self.fitted_ = True
        return self

    def transform(self, X):
        return X


class Failing(BaseEstimator):
    def __init__(self, text="out of luck"):
        self.text = text

    def fit(self, X, y):
        raise RuntimeError(self.text)

    def similarity(self, X, y):
        raise AssertionError


def _cca(n_components=4):
    return make_pipeline(MorganFingerprinter(fp_size=64), CCA(n_components, ridge=0.1))


def _net(**options):
    return CoordinatedEmbedder(
        None, molecule_features=MorganFingerprinter(fp_size=64), criterion=InfoNCELoss,
        sampler=DrugBalancedSampler, module__embedding_size=8, lr=1e-3,
        module__expression_layers=(16,), max_epochs=2, **options,
    )  # fmt: skip


def _run(study, methods, **options):
    options = {
        "embedders": {}, "n_repeats": 2, "inspect": False, "figures": False,
        "split": SPLIT,
    } | options  # fmt: skip
    return evaluate_study(study, methods=methods, **options)


def _remade(study, **changes):
    parts = {"ge": study.ge, "obs": study.obs, "genes": study.genes, "level": 5}
    return Study(study.smiles, **(parts | changes))


def _errors(report):
    return [e for e in report.tables["table1"]["error"] if e]


@pytest.fixture(scope="session")
def study():
    """A small level 5 study: 60 drugs in 5 lines."""
    return make_perturbation_study(
        level=5, n_molecules=60, n_cell_lines=5, n_genes=40, random_state=0
    )


@pytest.fixture(scope="session")
def level3():
    return make_perturbation_study(
        level=3, n_molecules=30, n_cell_lines=4, n_genes=16, n_controls=4,
        doses_um=[10.0], random_state=0,
    )  # fmt: skip


@pytest.fixture(scope="session")
def cca():
    """Make a fast method, with a number of components."""
    return _cca


@pytest.fixture(scope="session")
def net():
    """Make a network that is trained in a second."""
    return _net


@pytest.fixture(scope="session")
def run():
    """Call evaluate_study with two repeats of SPLIT and nothing more."""
    return _run


@pytest.fixture(scope="session")
def remade():
    """Return a level 5 study with other parts."""
    return _remade


@pytest.fixture(scope="session")
def errors():
    """List the errors of the rows of Table 1."""
    return _errors


@pytest.fixture(scope="session")
def failing():
    """Make a method that raises when it is fitted."""
    return Failing


@pytest.fixture(scope="session")
def recorder():
    """Make a transformer that notes what it is fitted on, in `seen`."""
    return Recorder


@pytest.fixture
def seen():
    SEEN.clear()
    return SEEN
