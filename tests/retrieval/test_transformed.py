import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import CCA
from sklearn_molge.metrics import similarity
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    TransformedTargetRetriever,
)


@pytest.fixture
def views():
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(40, 3))
    X = hidden @ rng.normal(size=(3, 12)) + rng.normal(size=(40, 12))
    return X, hidden @ rng.normal(size=(3, 20)) + rng.normal(size=(40, 20))


class FewRows(TransformerMixin, BaseEstimator):
    """Transformer that remembers how many rows it was fitted on, and their weights."""

    def fit(self, y, sample_weight=None):
        self.n_seen_, self.weight_ = len(y), sample_weight
        return self

    def transform(self, y):
        return y


def test_equals_transforming_by_hand(views):
    X, y = views
    model = TransformedTargetRetriever(CCA(3, ridge=0.1), PCA(5)).fit(X[:30], y[:30])
    pca = PCA(5).fit(y[:30])
    cca = CCA(3, ridge=0.1).fit(X[:30], pca.transform(y[:30]))
    np.testing.assert_allclose(
        model.similarity(X, y), cca.similarity(X, pca.transform(y))
    )
    np.testing.assert_allclose(model.transform(X), cca.transform(X))
    np.testing.assert_allclose(
        model.transform_ge(y), cca.transform_ge(pca.transform(y))
    )
    assert model.score(X, y) == pytest.approx(cca.score(X, pca.transform(y)))
    assert model.n_features_in_ == 12
    assert list(model.get_feature_names_out()) == ["cca0", "cca1", "cca2"]


def test_transformer_sees_training_rows_only_and_is_cloned(views):
    X, y = views
    transformer = FewRows()
    model = TransformedTargetRetriever(CCA(3, ridge=0.1), transformer)
    model.fit(X[:30], y[:30]).similarity(X, y)
    assert model.transformer_.n_seen_ == 30
    assert not hasattr(transformer, "n_seen_")
    assert not hasattr(model.retriever, "x_rotations_")


def test_without_transformer(views):
    X, y = views
    plain = CCA(3, ridge=0.1).fit(X, y)
    model = TransformedTargetRetriever(CCA(3, ridge=0.1)).fit(X, y)
    np.testing.assert_array_equal(model.similarity(X, y), plain.similarity(X, y))


def test_offers_what_the_retriever_offers(views):
    X, y = views
    for inner in (
        CCA(3, ridge=0.1),
        make_pipeline(StandardScaler(), CCA(3, ridge=0.1)),
    ):
        model = TransformedTargetRetriever(inner)
        assert hasattr(model, "transform")
        assert hasattr(model, "transform_ge")
        assert model.fit(X, y).transform_ge(y).shape == (40, 3)
    for inner in (DoubleNNRetriever("correlation"), OracleRetriever()):
        model = TransformedTargetRetriever(inner)
        assert not hasattr(model, "transform")
        assert not hasattr(model, "transform_ge")
        assert model.fit(X, y).similarity(X, y).shape == (40, 40)


def test_fit_params_and_routing(views):
    X, y = views
    weight = np.linspace(1, 2, 40)
    expected = CCA(3, ridge=0.1).fit(X, y, sample_weight=weight).correlations_
    model = TransformedTargetRetriever(CCA(3, ridge=0.1), FewRows())
    model.fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(model.retriever_.correlations_, expected)
    assert model.transformer_.weight_ is None
    with sklearn.config_context(enable_metadata_routing=True):
        routed = TransformedTargetRetriever(
            CCA(3, ridge=0.1).set_fit_request(sample_weight=True),
            FewRows().set_fit_request(sample_weight=True),
        ).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(routed.retriever_.correlations_, expected)
    np.testing.assert_array_equal(routed.transformer_.weight_, weight)


def test_nested_parameters_clone_and_pickle(views, tmp_path):
    X, y = views
    pipe = make_pipeline(
        StandardScaler(), TransformedTargetRetriever(CCA(3, ridge=0.1), PCA(5))
    )
    name = "transformedtargetretriever__"
    pipe.set_params(**{f"{name}retriever__n_components": 3, f"{name}transformer": None})
    assert clone(pipe).get_params()[f"{name}retriever__n_components"] == 3
    pipe.fit(X, y)
    joblib.dump(pipe, tmp_path / "pipe.joblib")
    loaded = joblib.load(tmp_path / "pipe.joblib")
    np.testing.assert_array_equal(similarity(loaded, X, y), similarity(pipe, X, y))


def test_errors(views):
    X, y = views
    with pytest.raises(ValueError, match="'retriever' parameter"):
        TransformedTargetRetriever("cca").fit(X, y)
    with pytest.raises(ValueError, match="'transformer' parameter"):
        TransformedTargetRetriever(CCA(2), "pca").fit(X, y)
    with pytest.raises(sklearn.exceptions.NotFittedError):
        TransformedTargetRetriever(CCA(2)).similarity(X, y)
