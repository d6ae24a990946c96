"""What the library recommends is made in one place, and reproducible."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from scipy import sparse
from sklearn.base import clone
from sklearn.preprocessing import FunctionTransformer

from sklearn_molge.alignment import GaussianProcessRetriever
from sklearn_molge.datasets import (
    join_studies,
    load_signatures,
    make_perturbation_study,
    source_weights,
)
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.metrics import similarity
from sklearn_molge.molecules import AnnotationKernel, StructureKernel
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
    assert not index.reranks_
    assert index.reverses_by_sign_ == (model == "gaussian_process")
    assert index.kneighbors(y[:1], 3)[1].shape == (1, 3)


def test_joined_fingerprints_are_sparse_and_change_nothing(large_study):
    X, y = large_study.smiles, large_study.ge
    pipe = recommended_pipeline(model="linear", random_state=3)
    dense = clone(pipe)
    dense.steps.insert(1, ("dense", FunctionTransformer(lambda X: X.toarray())))
    pipe.fit(X, y)
    dense.fit(X, y)
    features = pipe[:-1].transform(X)
    assert sparse.issparse(features)
    assert features.nnz < 0.2 * np.prod(features.shape)
    np.testing.assert_array_equal(
        similarity(pipe, X[:9], y[:4]), similarity(dense, X[:9], y[:4])
    )


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
            params["kernel_cca__molecules__random_state"],
            params["kernel_cca__retriever__retriever__random_state"],
        ]

    ensemble = recommended_ensemble(random_state=0, n_jobs=2)
    assert len(set(seeds(ensemble))) == 3
    assert ensemble.n_jobs == 2
    assert seeds(recommended_ensemble(random_state=0)) == seeds(ensemble)
    with_features = recommended_ensemble(transformer=L1000Featurizer())
    params = with_features.get_params()
    for name in ("gaussian_process", "kernel_cca"):
        steps = params[f"{name}__retriever__transformer"]
        assert isinstance(steps[0], L1000Featurizer)
    assert seeds(with_features) == [None] * 3


def annotate(study):
    molecules = np.unique(study.smiles.astype(str)).astype(object)
    labels = np.arange(len(molecules))[:, None] % 3 == np.arange(3)
    return AnnotationKernel(molecules, labels.astype(int), exclude=molecules[:5])


def test_annotations_are_a_share_of_the_kernel(study):
    annotations = annotate(study)
    pipe = recommended_pipeline(annotations=annotations, random_state=0)
    structure = 0.85 * StructureKernel() + 0.15 * annotations
    plain = GaussianProcessRetriever(structure, random_state=0)
    asked = study.smiles[:5], study.ge[:5]
    np.testing.assert_allclose(
        similarity(pipe.fit(study.smiles, study.ge), *asked),
        similarity(plain.fit(study.smiles, study.ge), *asked),
        atol=1e-5,
    )
    with pytest.raises(ValueError, match="annotations is for model="):
        recommended_pipeline(model="linear", annotations=annotations)
    with pytest.raises(TypeError, match=r"must be an AnnotationKernel.* Got DataFrame"):
        recommended_pipeline(annotations=pd.DataFrame())
    names = [
        name for name, _ in recommended_ensemble(annotations=annotations).estimators
    ]
    assert names == ["gaussian_process", "kernel_cca", "annotated"]


@pytest.fixture(scope="module")
def joined(study):
    other = make_perturbation_study(
        25, n_cell_lines=2, n_genes=110, level=5, random_state=1
    )
    theirs = load_signatures(
        other.profiles().iloc[:, :80], other.obs.assign(smiles=other.smiles)
    )
    return join_studies({"ours": study, "theirs": theirs})


@pytest.mark.parametrize("make", [recommended_pipeline, recommended_ensemble])
def test_sources_and_their_weights_reach_the_members(make, joined, study):
    sources = joined.obs["source"].to_numpy()
    asked = study.smiles[:9], study.ge[:4]

    def fit(sources, weights):
        with sklearn.config_context(enable_metadata_routing=True):
            model = make(query_source="ours", random_state=0)
            model.fit(joined.smiles, joined.ge, sources=sources, sample_weight=weights)
        return similarity(model, *asked)

    weights = source_weights(joined, {"theirs": 0.3})
    found = fit(sources, weights)
    assert np.isfinite(found).all()
    assert not np.allclose(found, fit(sources, source_weights(joined, {"theirs": 1.0})))
    with pytest.raises(ValueError, match="NaN"):  # without a source it is not filled
        make(random_state=0).fit(joined.smiles, joined.ge)


@pytest.mark.slow
def test_the_ensemble_searches(large_study):
    X, y = large_study.smiles, large_study.ge
    ensemble = recommended_ensemble(random_state=0).fit(X, y)
    library = np.unique(X.astype(str)).astype(object)
    index = MoleculeIndex(ensemble).fit(library)
    assert not index.reranks_
    distances, _ = index.kneighbors(y[:3], 5)
    expected = ensemble.similarity(library, y[:3])
    np.testing.assert_allclose(
        -distances, np.sort(expected, axis=1)[:, ::-1][:, :5], atol=1e-3
    )
