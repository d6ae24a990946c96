import tracemalloc

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist

from sklearn_molge.metrics import retrieval_ranks
from sklearn_molge.retrieval import DoubleNNRetriever


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    molecules = rng.random((12, 40)) < 0.3
    rows = rng.integers(0, 12, 50)
    y = rng.normal(size=(12, 15))[rows] + rng.normal(size=(50, 15))
    candidates = (rng.random((9, 40)) < 0.3).astype(float)
    return molecules[rows].astype(float), y, candidates, rng.normal(size=(20, 15))


@pytest.mark.parametrize("neighbors", ["drug", "profile"])
@pytest.mark.parametrize("metric", ["jaccard", "correlation"])
def test_equals_slow_loop(data, neighbors, metric):
    X, y, candidates, queries = data
    model = DoubleNNRetriever(metric, neighbors=neighbors).fit(X, y)
    got = model.similarity(candidates, queries)
    molecules = np.unique(X, axis=0)
    means = np.stack([y[(X == m).all(1)].mean(0) for m in molecules])
    for i, query in enumerate(queries):
        if neighbors == "drug":
            nearest = np.argmin(cdist(query[None], means, "correlation"))
            molecule = molecules[nearest]
        else:
            molecule = X[np.argmin(cdist(query[None], y, "correlation"))]
        first, second = molecule[None], candidates
        if metric == "jaccard":
            first, second = first.astype(bool), second.astype(bool)
        np.testing.assert_allclose(
            got[i], 1 - cdist(first, second, metric)[0], atol=1e-6
        )


@pytest.mark.parametrize(("k", "temperature"), [(3, None), (3, 0.2), (None, 0.5)])
def test_soft_neighbourhood_equals_slow_loop(data, k, temperature):
    X, y, candidates, queries = data
    model = DoubleNNRetriever(
        neighbors="profile", n_neighbors=k, temperature=temperature
    ).fit(X, y)
    got = model.similarity(candidates, queries)
    near = 1 - cdist(queries, y, "correlation")
    likeness = 1 - cdist(X.astype(bool), candidates.astype(bool), "jaccard")
    for i in range(len(queries)):
        chosen = np.argsort(-near[i])[:k]
        weights = np.ones(len(chosen))
        if temperature is not None:
            weights = np.exp(near[i, chosen] / temperature)
        expected = weights @ likeness[chosen] / weights.sum()
        np.testing.assert_allclose(got[i], expected, atol=1e-6)


def test_queries_with_one_neighbour_get_one_ranking(data):
    X, y, candidates, _ = data
    model = DoubleNNRetriever().fit(X, y)
    query = model.profiles_[4]
    similar = model.similarity(candidates, np.stack([query, 3 * query + 1]))
    np.testing.assert_array_equal(similar[0], similar[1])


def test_sparse_equals_dense(data):
    X, y, candidates, queries = data
    dense = DoubleNNRetriever(n_neighbors=2).fit(X, y)
    packed = DoubleNNRetriever(n_neighbors=2).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(
        packed.similarity(sparse.csr_array(candidates), queries),
        dense.similarity(candidates, queries),
        atol=1e-6,
    )
    np.testing.assert_array_equal(
        retrieval_ranks(packed, sparse.csr_array(X), y), retrieval_ranks(dense, X, y)
    )


def test_errors(data):
    X, y, candidates, queries = data
    with pytest.raises(ValueError, match=r"n_neighbors must be at most 12, .* Got 13"):
        DoubleNNRetriever(n_neighbors=13).fit(X, y)
    with pytest.raises(ValueError, match="y has 3 genes, but DoubleNNRetriever"):
        DoubleNNRetriever().fit(X, y).similarity(candidates, queries[:, :3])
    with pytest.raises(ValueError, match="'temperature' parameter"):
        DoubleNNRetriever(temperature=0).fit(X, y)
    with pytest.raises(TypeError, match="dense data is required"):
        DoubleNNRetriever("correlation").fit(sparse.csr_array(X), y)


def test_memory_does_not_grow_with_queries_times_known_profiles():
    rng = np.random.default_rng(0)
    X = rng.random((8000, 6)) < 0.5
    y = rng.normal(size=(8000, 4)).astype(np.float32)
    model = DoubleNNRetriever(neighbors="profile").fit(X, y)
    tracemalloc.start()
    retrieval_ranks(model, X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20  # all at once would be 244 MiB


@pytest.mark.parametrize("neighbors", ["drug", "profile"])
@pytest.mark.parametrize(
    "kind", [bool, np.uint8, np.int64, np.float32, sparse.csr_array]
)
def test_any_kind_of_bits_gives_the_same(data, neighbors, kind):
    X, y, candidates, queries = data
    expected = DoubleNNRetriever(neighbors=neighbors).fit(X, y)
    bits = sparse.csr_array(X) if kind is sparse.csr_array else X.astype(kind)
    model = DoubleNNRetriever(neighbors=neighbors).fit(bits, y)
    np.testing.assert_array_equal(
        model.similarity(candidates, queries), expected.similarity(candidates, queries)
    )
    assert model.molecules_.shape == expected.molecules_.shape
    assert model.molecules_.dtype == (np.float32 if kind is np.float32 else np.float64)


@pytest.mark.parametrize("neighbors", ["drug", "profile"])
def test_what_is_known_is_a_copy(data, neighbors):
    X, y, candidates, queries = (array.copy() for array in data)
    model = DoubleNNRetriever(neighbors=neighbors).fit(X, y)
    expected = model.similarity(candidates, queries)
    X[:], y[:] = 1, np.arange(y.shape[1])
    np.testing.assert_array_equal(model.similarity(candidates, queries), expected)


def test_fit_makes_floats_of_distinct_molecules_alone():
    rng = np.random.default_rng(0)
    X = (rng.random((50, 2048)) < 0.1).astype(np.uint8)[np.arange(4000) % 50]
    y = rng.normal(size=(4000, 100)).astype(np.float32)
    tracemalloc.start()
    DoubleNNRetriever().fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * X.size / 2  # half of X in float64


# -- queries and profiles that say nothing -------------------------------------------


@pytest.mark.parametrize("n_neighbors", [1, 3])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.0])
def test_a_constant_query_has_no_nearest_profile(n_neighbors, value):
    """Its answer is the mean over all known drugs, not that of the first of them."""
    rng = np.random.default_rng(0)
    X, y = (rng.random((12, 20)) < 0.3).astype(float), rng.normal(size=(12, 9))
    model = DoubleNNRetriever(n_neighbors=n_neighbors).fit(X, y)
    queries = np.vstack([y[3], np.full(9, value), y[5]])
    with pytest.warns(UserWarning, match="1 profile.*, the first at index 1, are"):
        found = model.similarity(X[:4], queries)
    # The Tanimoto coefficient to each known drug, by its definition.
    expected = [
        np.mean([(a * b).sum() / np.maximum(a, b).sum() for a in X]) for b in X[:4]
    ]
    np.testing.assert_allclose(found[1], expected, rtol=1e-6)
    np.testing.assert_allclose(found[[0, 2]], model.similarity(X[:4], y[[3, 5]]))


def test_constant_known_profiles_are_said():
    rng = np.random.default_rng(0)
    X, y = np.eye(6), rng.normal(size=(6, 9))
    y[[1, 4]] = 2.0
    with pytest.warns(UserWarning, match="2 of the 6 known profiles are constant"):
        DoubleNNRetriever().fit(X, y)
    DoubleNNRetriever(metric_ge="euclidean").fit(X, y)


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e18, 1e30, 1e35])
@pytest.mark.parametrize("neighbors", ["drug", "profile"])
def test_size_of_the_profiles_does_not_matter(size, neighbors):
    """Their squares are no numbers in single precision."""
    rng = np.random.default_rng(0)
    X, y = np.eye(20), rng.integers(-9, 9, size=(20, 9)).astype(np.float32)
    plain = DoubleNNRetriever(neighbors=neighbors).fit(X, y)
    large = (y.astype(np.float64) * size).astype(np.float32)
    scaled = DoubleNNRetriever(neighbors=neighbors).fit(X, large)
    np.testing.assert_array_equal(scaled.similarity(X, large), plain.similarity(X, y))


def test_a_temperature_near_zero_takes_the_nearest():
    rng = np.random.default_rng(0)
    X, y = np.eye(6), rng.normal(size=(6, 9))
    cold = DoubleNNRetriever(n_neighbors=None, temperature=1e-310).fit(X, y)
    nearest = DoubleNNRetriever().fit(X, y)
    np.testing.assert_array_equal(cold.similarity(X, y), nearest.similarity(X, y))


def test_molecules_without_a_bit_are_like_each_other_alone():
    X, y = (
        np.vstack([np.zeros(5), np.eye(5)]),
        np.random.default_rng(0).normal(size=(6, 9)),
    )
    for metric in ("jaccard", "tanimoto"):
        found = DoubleNNRetriever(metric).fit(X, y).similarity(X, y)
        np.testing.assert_array_equal(found, np.eye(6))
