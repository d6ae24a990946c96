import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.feature_selection import VarianceThreshold
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import CCA
from sklearn_molge.base import EmbedderMixin
from sklearn_molge.metrics import RetrievalScorer, retrieval_ranks, similarity
from sklearn_molge.retrieval import TransformedTargetRetriever


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(40, 3))
    X = hidden @ rng.normal(size=(3, 12)) + rng.normal(size=(40, 12))
    return X, hidden @ rng.normal(size=(3, 20)) + rng.normal(size=(40, 20))


def test_walks_every_nesting_to_the_same_answer(views):
    X, y = views
    scaler, pca, cca = StandardScaler().fit(X), PCA(5).fit(y), CCA(3, ridge=0.1)
    expected = cca.fit(scaler.transform(X), pca.transform(y)).similarity(
        scaler.transform(X[:7]), pca.transform(y[:5])
    )
    wrapped = TransformedTargetRetriever(CCA(3, ridge=0.1), PCA(5))
    pipe = make_pipeline(StandardScaler(), wrapped)
    inside_out = TransformedTargetRetriever(
        make_pipeline(StandardScaler(), CCA(3, ridge=0.1)), PCA(5)
    )
    nested = Pipeline([("outer", "passthrough"), ("inner", pipe)])
    search = GridSearchCV(
        pipe,
        {"transformedtargetretriever__retriever__ridge": [0.1]},
        scoring=RetrievalScorer(),
        refit="mrr",
        error_score="raise",
    )
    for estimator in (pipe, inside_out, nested, search):
        estimator.fit(X, y)
        for fitted in (estimator, FrozenEstimator(estimator)):
            got = similarity(fitted, X[:7], y[:5])
            np.testing.assert_allclose(got, expected, atol=1e-8)
            assert got.shape == (5, 7)
    np.testing.assert_allclose(
        inside_out.transform_ge(y), cca.transform_ge(pca.transform(y)), atol=1e-8
    )


def test_no_two_view_estimator_inside(views):
    X, y = views
    match = r"must be a fitted two-view estimator .* in PredictedProfileRetriever"
    with pytest.raises(TypeError, match=match):
        similarity(
            make_pipeline(VarianceThreshold(), LinearRegression()).fit(X, y), X, y
        )
    with pytest.raises(TypeError, match=r"Got PCA\(\)"):
        retrieval_ranks(PCA(), X, y)


class FramesOnly(BaseEstimator):
    """An estimator of a user's, which knows features and genes by their names."""

    def fit(self, X, y):
        return self

    def similarity(self, X, y):
        return pd.DataFrame(np.outer(y["g1"], X["f1"]), index=y.index, columns=X.index)


@pytest.mark.parametrize("per", ["profile", "drug"])
def test_frames_stay_frames_for_an_estimator_of_a_user(views, per):
    X, y = views
    molecules = pd.DataFrame(X).add_prefix("f")
    profiles = pd.DataFrame(y).add_prefix("g").set_axis(np.arange(40) + 5)
    drugs = np.repeat(np.arange(20), 2)
    expected = np.outer(y[:, 1], X[:, 1])
    model = FramesOnly().fit(molecules, profiles)
    got = similarity(model, molecules, profiles)
    assert isinstance(got, np.ndarray)
    np.testing.assert_allclose(got, expected)
    ranks = retrieval_ranks(model, molecules, profiles, drugs=drugs, per=per)
    assert ranks.shape == (40 if per == "profile" else 20,)


def test_an_embedder_that_compares_in_its_own_way_is_ranked_so():
    class Longest(EmbedderMixin, BaseEstimator):
        metric = "cosine"

        def fit(self, X, y):
            return self

        def transform(self, X):
            return np.asarray(X, dtype=float)

        transform_ge = transform

        def compare_to(self, X):
            lengths = np.linalg.norm(X, axis=1)
            return lambda y: np.tile(lengths, (len(y), 1))

    X = np.array([[3.0, 4.0], [1.0, 0.0], [0.0, 2.0]])
    model = Longest().fit(X, X)
    expected = np.tile([5.0, 1.0, 2.0], (3, 1))
    np.testing.assert_array_equal(model.similarity(X, X), expected)
    np.testing.assert_array_equal(similarity(model, X, X), expected)
    ranks = retrieval_ranks(model, X, X, drugs=["a", "b", "c"])
    np.testing.assert_array_equal(ranks, [1, 3, 2])
