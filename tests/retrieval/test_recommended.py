"""What the library recommends is made in one place, and reproducible."""

import numpy as np
import pytest

from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.metrics import similarity
from sklearn_molge.retrieval import recommended_ensemble, recommended_pipeline


@pytest.fixture(scope="module")
def study():
    return make_perturbation_study(
        30, n_cell_lines=2, n_genes=110, level=5, random_state=0
    )


@pytest.fixture(scope="module")
def large_study():
    return make_perturbation_study(
        130, n_cell_lines=2, n_genes=110, level=5, random_state=0
    )


@pytest.mark.parametrize("model", ["gaussian_process", "linear"])
def test_a_seed_decides_the_pipeline(model, study, large_study):
    data = large_study if model == "linear" else study
    X, y = data.smiles, data.ge
    first, again = (
        recommended_pipeline(model=model, random_state=3).fit(X, y) for _ in range(2)
    )
    asked = X[:9], y[:4]
    np.testing.assert_array_equal(similarity(first, *asked), similarity(again, *asked))
    index = MoleculeIndex(first).fit(np.unique(X.astype(str)))
    assert index.reranks_ == (model == "gaussian_process")
    assert index.kneighbors(y[:1], 3)[1].shape == (1, 3)


def test_profiles_are_transformed_first(study):
    features = L1000Featurizer(["log2_fold_change"])
    paired = np.hstack([study.ge, np.zeros_like(study.ge)])
    pipe = recommended_pipeline(transformer=features, random_state=0)
    plain = recommended_pipeline(random_state=0).fit(study.smiles, study.ge)
    np.testing.assert_allclose(
        similarity(pipe.fit(study.smiles, paired), study.smiles[:5], paired[:5]),
        similarity(plain, study.smiles[:5], study.ge[:5]),
    )
    assert not hasattr(features, "n_features_in_")  # it is cloned


def test_refuses_another_model():
    with pytest.raises(ValueError, match=r"'gaussian_process' or 'linear'\. Got 'svm'"):
        recommended_pipeline(model="svm")


def test_the_ensemble_has_seeds_of_its_own():
    def seeds(ensemble):
        params = ensemble.get_params()
        return [
            params["gaussian_process__retriever__retriever__random_state"],
            params["tower__retriever__random_state"],
        ]

    ensemble = recommended_ensemble(random_state=0, n_jobs=2)
    assert len(set(seeds(ensemble))) == 2
    assert ensemble.n_jobs == 2
    assert seeds(recommended_ensemble(random_state=0)) == seeds(ensemble)
    with_features = recommended_ensemble(transformer=L1000Featurizer())
    assert isinstance(with_features.get_params()["tower__transformer"], L1000Featurizer)
    assert seeds(with_features) == [None] * 2


@pytest.mark.slow
def test_the_ensemble_searches(large_study):
    X, y = large_study.smiles, large_study.ge
    ensemble = recommended_ensemble(random_state=0)
    ensemble.set_params(tower__retriever__max_epochs=1).fit(X, y)
    library = np.unique(X.astype(str)).astype(object)
    index = MoleculeIndex(ensemble).fit(library)
    assert index.reranks_
    distances, _ = index.kneighbors(y[:3], 5)
    expected = ensemble.similarity(library, y[:3])
    np.testing.assert_allclose(
        -distances, np.sort(expected, axis=1)[:, ::-1][:, :5], atol=1e-3
    )
