"""A model and its file."""

import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.persistence import save_model


@pytest.fixture(scope="session")
def pipe():
    study = make_perturbation_study(
        20, n_cell_lines=2, n_genes=24, level=5, random_state=0
    )
    pipe = make_pipeline(MorganFingerprinter(fp_size=32), CCA(3, ridge=0.1))
    return pipe.fit(study.smiles, study.profiles())


@pytest.fixture
def path(pipe, tmp_path):
    save_model(pipe, tmp_path / "model.molge")
    return tmp_path / "model.molge"
