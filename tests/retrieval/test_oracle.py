import tracemalloc

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.decomposition import PCA

from sklearn_molge.metrics import retrieval_ranks
from sklearn_molge.retrieval import OracleRetriever, TransformedTargetRetriever

SMILES = np.array(["CCO", "CCN", "CCCl", "CCBr", "c1ccccc1", "CC#N"], dtype=object)


def slow_oracle(X, y, candidates, queries, metric, leave_out):
    """Recompute every candidate for every query; identity by the text here."""
    table = np.empty((len(queries), len(candidates)))
    for i, query in enumerate(queries):
        for j, candidate in enumerate(candidates):
            rows = [
                t
                for t in range(len(y))
                if X[t] == candidate and not (leave_out and (y[t] == query).all())
            ]
            if not rows:
                table[i, j] = -np.inf
                continue
            mean = y[rows].mean(axis=0)
            distance = cdist(query[None], mean[None], metric)[0, 0]
            table[i, j] = -distance if metric == "euclidean" else 1 - distance
    return table


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    X = SMILES[np.array([0, 0, 0, 1, 1, 2, 3, 3, 3, 3])]
    return X, 8 + rng.normal(size=(10, 30))


@pytest.mark.parametrize("metric", ["correlation", "euclidean", "cosine"])
@pytest.mark.parametrize("leave_out", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_slow_loop(data, metric, leave_out, dtype):
    X, y = data
    y = y.astype(dtype)
    strangers = np.random.default_rng(1).normal(8, 1, (4, 30)).astype(dtype)
    queries = np.concatenate([y[::-1], strangers])
    oracle = OracleRetriever(metric, leave_query_out=leave_out).fit(X, y)
    got = oracle.similarity(SMILES, queries)
    expected = slow_oracle(X, y, SMILES, queries, metric, leave_out)
    np.testing.assert_allclose(
        got, expected, atol=1e-3 if dtype == np.float32 else 1e-7
    )


def test_more_queries_to_leave_out_than_are_compared_at_once():
    X = np.repeat(SMILES, 25)
    y = np.random.default_rng(0).normal(size=(len(X), 5))
    got = OracleRetriever().fit(X, y).similarity(SMILES, y)
    np.testing.assert_allclose(got, slow_oracle(X, y, SMILES, y, "correlation", True))


def test_a_profile_given_twice_is_left_out_twice(data):
    X, y = data
    y[1] = y[0]
    y[3] = y[0]  # under another drug as well
    got = OracleRetriever().fit(X, y).similarity(SMILES, y)
    expected = slow_oracle(X, y, SMILES, y, "correlation", True)
    np.testing.assert_allclose(got, expected, atol=1e-7)


def test_query_is_recognised_after_a_transformer(data):
    # A block of queries leaves PCA with other rounding than the fitted rows.
    rng = np.random.default_rng(0)
    X = np.repeat(SMILES, 10)
    y = rng.normal(8, 0.5, size=(60, 200)).astype(np.float32)
    oracle = TransformedTargetRetriever(OracleRetriever(), PCA(20)).fit(X, y)
    inner, z = oracle.retriever_, oracle.transformer_.transform(y)
    one_by_one = np.stack([oracle.similarity(SMILES, y[[i]])[0] for i in range(60)])
    expected = slow_oracle(X, z, SMILES, z, "correlation", True)
    np.testing.assert_allclose(one_by_one, expected, atol=1e-4)
    assert len(inner.drugs_) == 6


def test_without_leaving_out_the_query_finds_itself(data):
    X, y = data
    lonely = 5  # the only profile of its drug
    seen = OracleRetriever(leave_query_out=False).fit(X, y)
    assert retrieval_ranks(seen, X, y)[lonely] == 1
    assert retrieval_ranks(OracleRetriever().fit(X, y), X, y)[lonely] == 4


def test_molecules_without_a_profile_share_the_last_ranks(data):
    X, y = data
    oracle = OracleRetriever().fit(X, y)
    test_X = np.append(X, SMILES[4:])  # two drugs never profiled
    test_y = np.concatenate([y, y[:2]])
    ranks = retrieval_ranks(oracle, test_X, test_y)
    np.testing.assert_array_equal(ranks[-2:], [5.5, 5.5])


def test_salts_and_features():
    y = np.random.default_rng(0).normal(size=(4, 9))
    salt = np.array(["CC(=O)O", "CC(=O)[O-].[Na+]", "CCO", "OCC"], dtype=object)
    oracle = OracleRetriever(leave_query_out=False).fit(salt, y)
    assert len(oracle.drugs_) == 2
    np.testing.assert_allclose(oracle.means_.mean(0), y.mean(0))
    features = np.array([[1, 0], [1, 0], [0, 1], [0, 1]])
    by_features = OracleRetriever(leave_query_out=False).fit(features, y)
    np.testing.assert_allclose(
        by_features.similarity(features.astype(np.float32)[[0, 2]], y),
        oracle.similarity(salt[[0, 2]], y),
    )


def test_errors(data):
    X, y = data
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        OracleRetriever().fit(X, y[:4])
    with pytest.raises(ValueError, match="index 1: 'C1CC'"):
        OracleRetriever().fit(X, y).similarity(["CCO", "C1CC"], y)


def test_memory_does_not_grow_with_queries_times_fitted_profiles():
    rng = np.random.default_rng(0)
    X = SMILES[rng.integers(0, 6, 8000)]
    y = rng.normal(size=(8000, 4)).astype(np.float32)
    oracle = OracleRetriever().fit(X, y)
    tracemalloc.start()
    retrieval_ranks(oracle, X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 40 * 2**20  # all at once would be 244 MiB
