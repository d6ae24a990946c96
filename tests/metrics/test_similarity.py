import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.spatial.distance import cdist
from sklearn.exceptions import DataDimensionalityWarning

from sklearn_molge.metrics import pairwise_similarity, rank_embeddings
from sklearn_molge.retrieval import DoubleNNRetriever

CONTINUOUS = {
    "correlation": lambda a, b: 1 - cdist(a, b, "correlation"),
    "cosine": lambda a, b: 1 - cdist(a, b, "cosine"),
    "euclidean": lambda a, b: -cdist(a, b, "euclidean"),
    "dot": lambda a, b: a @ b.T,
}


@pytest.mark.parametrize("metric", CONTINUOUS)
@pytest.mark.parametrize(("dtype", "tol"), [(np.float64, 1e-10), (np.float32, 2e-4)])
def test_equals_scipy(metric, dtype, tol):
    rng = np.random.default_rng(0)
    a, b = rng.normal(5, 1, (7, 30)).astype(dtype), rng.normal(5, 1, (9, 30))
    got = pairwise_similarity(a, b.astype(dtype), metric=metric)
    expected = CONTINUOUS[metric](a.astype(float), b.astype(dtype).astype(float))
    np.testing.assert_allclose(got, expected, atol=tol * np.abs(expected).max())
    assert got.dtype == dtype


def test_euclidean_far_from_the_origin():
    rng = np.random.default_rng(0)
    a, b = rng.normal(1000, 1, (5, 40)), rng.normal(1000, 1, (6, 40))
    got = pairwise_similarity(
        a.astype(np.float32), b.astype(np.float32), metric="euclidean"
    )
    np.testing.assert_allclose(got, -cdist(a, b), rtol=1e-3)


def test_jaccard_and_tanimoto_by_hand():
    a = np.array([[1, 2, 0, 0], [0, 0, 0, 0]])
    b = np.array([[1, 0, 3, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(
        pairwise_similarity(a, b, metric="jaccard"), [[1 / 3, 0], [0, 1]]
    )
    # <a, b> = 1, |a|^2 = 5, |b|^2 = 10
    np.testing.assert_allclose(
        pairwise_similarity(a, b, metric="tanimoto"), [[1 / 14, 0], [0, 1]]
    )


@pytest.mark.parametrize("metric", ["cosine", "dot", "jaccard", "tanimoto"])
def test_sparse_equals_dense(metric):
    rng = np.random.default_rng(0)
    a = rng.poisson(0.3, (8, 20)).astype(float)
    b = rng.poisson(0.3, (6, 20)).astype(float)
    dense = pairwise_similarity(a, b, metric=metric)
    for pair in [(sparse.csr_array(a), sparse.csr_matrix(b)), (a, sparse.coo_array(b))]:
        np.testing.assert_allclose(
            pairwise_similarity(*pair, metric=metric), dense, rtol=1e-6
        )


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_row_without_variance_correlates_with_nothing(constant, dtype):
    a = np.full((1, 7), constant, dtype=dtype)
    b = np.random.default_rng(0).normal(size=(3, 7)).astype(dtype)
    np.testing.assert_array_equal(pairwise_similarity(a, b), np.zeros((1, 3)))


def test_bad_input():
    with pytest.raises(ValueError, match=r"same number of features. Got 2 and 3"):
        pairwise_similarity([[1, 2]], [[1, 2, 3]])
    with pytest.raises(ValueError, match="contains NaN"):
        pairwise_similarity([[1, np.nan]], [[1, 2]])
    with pytest.raises(ValueError, match="'metric' parameter of pairwise_similarity"):
        pairwise_similarity([[1]], [[1]], metric="manhattan")


@pytest.mark.parametrize(("n", "value"), [(1, "0"), (2, "1, 0 or -1")])
def test_correlation_of_so_few_features_says_nothing(n, value):
    rng = np.random.default_rng(0)
    A, B = rng.normal(size=(4, n)), rng.normal(size=(5, n))
    match = f"rows of length {n} is {value}, whatever"
    with pytest.warns(DataDimensionalityWarning, match=match):
        found = pairwise_similarity(A, B)
    assert set(np.round(np.abs(found), 12).ravel()) == {float(n - 1)}
    with pytest.warns(DataDimensionalityWarning, match=match):
        rank_embeddings(A, B, [0, 1, 2, 3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pairwise_similarity(A, B, metric="euclidean")
        pairwise_similarity(rng.normal(size=(4, 3)), rng.normal(size=(5, 3)))


def test_a_model_that_compares_so_few_features_says_it():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 6)), rng.normal(size=(30, 2))
    model = DoubleNNRetriever().fit(X, y)
    with pytest.warns(DataDimensionalityWarning, match="rows of length 2"):
        model.similarity(X, y)
