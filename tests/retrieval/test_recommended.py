"""What the library recommends is made in one place, and reproducible."""

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.metrics import similarity
from sklearn_molge.retrieval import recommended_ensemble, recommended_pipeline


@pytest.fixture(scope="module")
def study():
    return make_perturbation_study(
        130, n_cell_lines=2, n_genes=110, level=5, random_state=0
    )


def test_a_seed_decides_the_pipeline(study):
    X, y = study.smiles, study.ge
    first, again = (recommended_pipeline(random_state=3).fit(X, y) for _ in range(2))
    asked = X[:9], y[:4]
    np.testing.assert_array_equal(similarity(first, *asked), similarity(again, *asked))
    index = MoleculeIndex(first).fit(np.unique(X.astype(str)))
    assert not index.reranks_
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


def test_the_ensemble_has_seeds_of_its_own():
    ensemble = recommended_ensemble(random_state=0, n_jobs=2)
    params = ensemble.get_params()
    seeds = [params[f"tower{i}__retriever__random_state"] for i in ("", "_1", "_2")]
    assert len(set(seeds)) == 3
    assert ensemble.n_jobs == 2
    again = recommended_ensemble(random_state=0).get_params()
    assert [again[f"tower{i}__retriever__random_state"] for i in ("", "_1", "_2")] == (
        seeds
    )
    with_features = recommended_ensemble(transformer=L1000Featurizer()).get_params()
    assert isinstance(with_features["tower__transformer"], L1000Featurizer)
    assert with_features["tower__retriever__random_state"] is None


@pytest.mark.slow
def test_the_ensemble_searches(study):
    X, y = study.smiles, study.ge
    ensemble = clone(recommended_ensemble(random_state=0))
    for name in ("tower", "tower_1", "tower_2"):
        ensemble.set_params(**{f"{name}__retriever__max_epochs": 1})
    ensemble.fit(X, y)
    library = np.unique(X.astype(str)).astype(object)
    index = MoleculeIndex(ensemble).fit(library)
    assert not index.reranks_
    np.testing.assert_allclose(
        index.similarity_to_rows(y[:5], np.arange(len(library))),
        ensemble.similarity(library, y[:5]),
        atol=1e-3,
    )
