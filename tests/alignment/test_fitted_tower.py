import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA, CoordinatedEmbedder, FittedTower
from sklearn_molge.metrics import RetrievalScorer, similarity
from sklearn_molge.model_selection import DrugCellLineKFold
from sklearn_molge.retrieval import DoubleNNRetriever, TransformedTargetRetriever


@pytest.fixture(scope="module")
def data(study):
    return study.smiles, study.ge


@pytest.fixture(scope="module")
def towers(fitted):
    return fitted.molecule_encoder(), fitted.expression_encoder()


def test_towers_are_the_embedder_s(fitted, towers, data):
    molecules, profiles = towers
    assert (molecules.view, profiles.view) == ("molecules", "profiles")
    X, y = data
    np.testing.assert_array_equal(molecules.transform(X), fitted.transform(X))
    np.testing.assert_array_equal(profiles.transform(y), fitted.transform_ge(y))


def test_fit_learns_nothing(fitted, towers, data):
    X, y = data
    before = fitted.transform(X), fitted.transform_ge(y)
    for tower, view, expected in zip(towers, (X, y), before, strict=True):
        assert tower.fit(view[:5]) is tower
        np.testing.assert_array_equal(tower.fit_transform(view), expected)


def test_clone_is_the_same_object(towers):
    for tower in towers:
        assert clone(tower) is tower
        assert clone(make_pipeline(tower))[-1] is tower


def test_names_and_frames(fitted):
    names = fitted.molecule_encoder().get_feature_names_out().tolist()
    assert names == [f"fittedtower{i}" for i in range(8)]
    tower = fitted.expression_encoder().set_output(transform="pandas")
    assert tower.transform(np.zeros((2, 30))).columns.tolist() == names


def test_pickle(towers, data):
    for tower, view in zip(towers, data, strict=True):
        loaded = pickle.loads(pickle.dumps(tower))
        np.testing.assert_array_equal(loaded.transform(view), tower.transform(view))


@pytest.mark.parametrize("retriever", [CCA(4, ridge=0.1), DoubleNNRetriever()])
def test_aligned_representations_feed_other_retrievers(
    fitted, towers, study, data, retriever
):
    """The paper's "aligned" rows: CCA and D-NN on what the towers return."""
    X, y = data
    molecules, profiles = towers
    pipe = make_pipeline(molecules, TransformedTargetRetriever(retriever, profiles))
    pipe.fit(X, y)
    views = fitted.transform(X), fitted.transform_ge(y)
    by_hand = clone(retriever).fit(*views)
    np.testing.assert_allclose(
        similarity(pipe, X[:5], y[:4]),
        by_hand.similarity(views[0][:5], views[1][:4]),
        atol=1e-6,
    )
    before = pickle.dumps(fitted.module_.state_dict())
    scores = cross_validate(
        pipe, X, y, groups=study.groups, cv=DrugCellLineKFold(2, 2, random_state=0),
        scoring=RetrievalScorer("mrr"), error_score="raise",
    )["test_score"]  # fmt: skip
    assert np.isfinite(scores).all()
    assert pickle.dumps(fitted.module_.state_dict()) == before


def test_wrong_parameters(fitted):
    with pytest.raises(ValueError, match=r"'view' .* Got 'genes'"):
        FittedTower(fitted, view="genes").fit()
    with pytest.raises(ValueError, match="'embedder' parameter of FittedTower"):
        FittedTower(DoubleNNRetriever()).fit()


def test_an_embedder_that_is_not_fitted():
    tower = FittedTower(CoordinatedEmbedder())
    for call in (tower.fit, lambda: tower.transform(["CCO"])):
        with pytest.raises(NotFittedError):
            call()
