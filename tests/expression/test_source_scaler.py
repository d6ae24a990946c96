"""SourceScaler: a StandardScaler for each source, with missing genes."""

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.model_selection import cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_molge.alignment import CCA
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.expression import GeneImputer, SourceScaler
from sklearn_molge.metrics import RetrievalScorer
from sklearn_molge.retrieval import TransformedTargetRetriever, VotingRetriever

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)) * np.arange(1, 7)
SOURCES = np.array(["b", "a", "b", "b"] * 10, dtype=object)
X[SOURCES == "b"] = 5 * X[SOURCES == "b"] + 3
HOLES = X.copy()
HOLES[RNG.random(X.shape) < 0.2] = np.nan


@pytest.mark.parametrize("with_mean", [True, False])
@pytest.mark.parametrize("with_std", [True, False])
def test_each_source_by_scikit_learns_scaler(with_mean, with_std):
    options = {"with_mean": with_mean, "with_std": with_std}
    scaler = SourceScaler(query_source="a", **options).fit(HOLES, sources=SOURCES)
    scaled = scaler.transform(HOLES, sources=SOURCES)
    for name in "ab":
        own = SOURCES == name
        single = StandardScaler(**options).fit(HOLES[own])
        np.testing.assert_allclose(scaled[own], single.transform(HOLES[own]))
    queries = StandardScaler(**options).fit(HOLES[SOURCES == "a"]).transform(X)
    np.testing.assert_allclose(scaler.transform(X), queries)
    assert scaler.sources_.tolist() == ["a", "b"]
    assert scaler.n_samples_seen_.tolist() == [10, 30]
    both = SourceScaler(query_source="a", **options)
    np.testing.assert_array_equal(both.fit_transform(HOLES, sources=SOURCES), scaled)


def test_without_sources_all_are_one():
    plain = SourceScaler().fit_transform(HOLES)
    np.testing.assert_allclose(plain, StandardScaler().fit_transform(HOLES))
    one = SourceScaler().fit(HOLES, sources=["x"] * len(HOLES))
    np.testing.assert_array_equal(one.transform(HOLES), plain)


def test_a_query_source_without_sources_is_told():
    with pytest.warns(DataWarning, match="query_source='a' .* all 40 profiles are sca"):
        SourceScaler(query_source="a").fit(X)


def test_length_by_the_measured_genes():
    scaler = SourceScaler(with_mean=False, with_std=False, unit_length=True)
    scaled = scaler.fit_transform(
        [[3.0, 4, 0, 0], [3, np.nan, 4, np.nan], [0, 0, 0, 0]]
    )
    np.testing.assert_allclose(np.linalg.norm(scaled[0]), 1)
    # mean square 12.5 of two, so of four 50
    np.testing.assert_allclose(scaled[1, [0, 2]], np.array([3, 4]) / np.sqrt(50))
    assert scaled[2].tolist() == [0, 0, 0, 0]


def test_what_a_source_lacks_and_what_is_constant():
    scaler = SourceScaler(query_source="a")
    rows = np.array([[1, 5.0, np.nan], [3, 5, np.nan], [1, 1, 1]])
    with pytest.warns(DataWarning, match="Sources of one profile: 'b'"):
        scaler.fit(rows, sources=["a", "a", "b"])
    np.testing.assert_array_equal(scaler.transform([[3, 6, 2]]), [[1, 1, np.nan]])
    assert scaler.transform(rows, sources=["a", "a", "b"])[2].tolist() == [0, 0, 0]
    plain = SourceScaler(query_source="a", with_mean=False, with_std=False)
    plain.fit(rows, sources=["a", "a", "b"])
    np.testing.assert_array_equal(plain.transform([[3, 6, 2]]), [[3, 6, np.nan]])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_no_spread(dtype):
    value = dtype(1000.1)
    rows = np.array([[value], [np.nextafter(value, dtype(2000))], [value]])
    found = SourceScaler().fit(rows).transform(np.array([[value + 1]], dtype))
    np.testing.assert_allclose(found, [[1]], atol=1e-3)
    small = np.array([[0.001], [-0.001], [0.002]], dtype=dtype)
    np.testing.assert_allclose(
        SourceScaler().fit_transform(small),
        StandardScaler().fit_transform(small.astype(float)),
        rtol=1e-5,
    )


def test_types_and_names():
    frame = pd.DataFrame(HOLES.astype(np.float32), columns=list("abcdef"))
    scaler = SourceScaler(query_source="b").fit(frame, sources=pd.Series(SOURCES))
    assert scaler.transform(frame).dtype == np.float32
    assert list(scaler.set_output(transform="pandas").transform(frame)) == list(
        "abcdef"
    )


def test_refused():
    with pytest.raises(ValueError, match=r"query_source must say.* Got None"):
        SourceScaler().fit(X, sources=SOURCES)
    with pytest.raises(ValueError, match=r"query_source must say.* Got 'c'"):
        SourceScaler(query_source="c").fit(X, sources=SOURCES)
    with pytest.raises(ValueError, match="sources must not have missing"):
        SourceScaler().fit(X[:2], sources=["a", None])
    with pytest.raises(ValueError, match="same number of rows"):
        SourceScaler().fit(X, sources=["a"])
    scaler = SourceScaler(query_source="a").fit(X, sources=SOURCES)
    with pytest.raises(ValueError, match=r"sources must be those of fit, .* Got 'c'"):
        scaler.transform(X[:2], sources=["a", "c"])


def routed(scaler):
    return scaler.set_fit_request(sources=True).set_transform_request(sources=True)


def test_in_a_retriever_each_training_row_is_scaled_by_its_source():
    molecules = np.random.default_rng(1).normal(size=(40, 5))
    weight = np.where(SOURCES == "a", 1.0, 0.3)
    scaler, imputer = SourceScaler(query_source="a"), GeneImputer()
    scaled = scaler.fit_transform(HOLES, sources=SOURCES)
    filled = imputer.fit(scaled).transform(scaled)
    by_hand = CCA(3, ridge=0.1).fit(molecules, filled, sample_weight=weight)
    expected = by_hand.similarity(molecules, imputer.transform(scaler.transform(X)))
    with sklearn.config_context(enable_metadata_routing=True):
        steps = make_pipeline(routed(SourceScaler(query_source="a")), GeneImputer())
        model = TransformedTargetRetriever(
            CCA(3, ridge=0.1).set_fit_request(sample_weight=True), steps
        )
        given = {"sources": SOURCES, "sample_weight": weight}
        model.fit(molecules, HOLES, **given)
        np.testing.assert_allclose(model.similarity(molecules, X), expected)
        vote = VotingRetriever([("one", model)], standardize=False)
        finite = TransformedTargetRetriever(
            CCA(3, ridge=0.1).set_fit_request(sample_weight=True),
            routed(SourceScaler(query_source="a")),
        )
        vote.set_params(one=finite).fit(molecules, X, **given)
        alone = finite.fit(molecules, X, **given)
        np.testing.assert_allclose(
            vote.similarity(molecules, X), alone.similarity(molecules, X)
        )
        scores = cross_validate(
            make_pipeline(FunctionTransformer(), finite),
            molecules,
            X,
            cv=2,
            params=given,
            scoring=RetrievalScorer("mrr"),
            error_score="raise",
        )
        assert np.isfinite(scores["test_score"]).all()
