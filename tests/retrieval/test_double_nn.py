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
