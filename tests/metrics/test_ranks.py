import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.stats import rankdata
from sklearn.base import BaseEstimator
from sklearn.metrics import label_ranking_average_precision_score

from sklearn_molge.alignment import CCA
from sklearn_molge.metrics import (
    mean_reciprocal_rank,
    rank_embeddings,
    retrieval_ranks,
)
from sklearn_molge.molecules import drug_ids

BLOCK = "sklearn_molge._utils.rows._BLOCK_BYTES"
SMILES = np.array(["CCO", "CCN", "CCCl", "CCBr", "c1ccccc1", "CC#N"], dtype=object)


class Table(BaseEstimator):
    """Two-view estimator that looks similarities up: y holds a query's number."""

    def __init__(self, table, molecules=SMILES):
        self.table = table
        self.molecules = molecules

    def similarity(self, X, y):
        columns = [list(self.molecules).index(x) for x in X]
        return self.table[np.asarray(y)[:, 0].astype(int)][:, columns]


class Points(BaseEstimator):
    """Embedder whose views are the joint space already."""

    metric = "euclidean"

    def transform(self, X):
        return np.asarray(X, dtype=float)

    def transform_ge(self, y):
        return np.asarray(y, dtype=float)

    def similarity(self, X, y):
        return -cdist(y, X)


def slow_rank(scores, j):
    closer = sum(s > scores[j] for s in scores)
    tied = sum(s == scores[j] for s in scores)
    return 1 + closer + Fraction(tied - 1, 2)


@pytest.mark.parametrize("block_bytes", [1, 200, 2**22])
def test_equals_slow_loop_with_many_ties(monkeypatch, block_bytes):
    monkeypatch.setattr(BLOCK, block_bytes)
    rng = np.random.default_rng(0)
    table = rng.integers(0, 4, (40, 6)).astype(float)
    match = rng.permutation(np.arange(40) % 6)
    ranks = retrieval_ranks(Table(table), SMILES[match], np.arange(40.0)[:, None])
    expected = [float(slow_rank(row, j)) for row, j in zip(table, match, strict=True)]
    np.testing.assert_array_equal(ranks, expected)


def test_equals_scipy_and_scikit_learn():
    rng = np.random.default_rng(1)
    queries, gallery = rng.normal(size=(60, 8)), rng.normal(size=(25, 8))
    match = rng.integers(0, 25, 60)
    for metric in ("correlation", "cosine", "euclidean"):
        ranks = rank_embeddings(queries, gallery, match, metric=metric)
        distances = cdist(queries, gallery, metric)
        expected = rankdata(distances, axis=1)[np.arange(60), match]
        np.testing.assert_array_equal(ranks, expected)
    relevant = np.arange(25) == match[:, None]
    lrap = label_ranking_average_precision_score(relevant, -distances)
    assert mean_reciprocal_rank(ranks) == pytest.approx(lrap, abs=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean", "dot"])
@pytest.mark.parametrize("n_copies", [1, 3, 17])
def test_identical_embeddings_tie_exactly(dtype, metric, n_copies):
    # BLAS may round equal columns differently; such "ties" must not be broken.
    rng = np.random.default_rng(2)
    distinct = rng.normal(size=(31, 50)).astype(dtype)
    gallery = np.tile(distinct, (n_copies, 1))
    gallery = gallery[rng.permutation(len(gallery))]
    queries = rng.normal(size=(20, 50)).astype(dtype)
    match = rng.integers(0, len(gallery), 20)
    once = rank_embeddings(
        queries, distinct,
        [np.flatnonzero((distinct == gallery[j]).all(1))[0] for j in match],
        metric=metric,
    )  # fmt: skip
    ranks = rank_embeddings(queries, gallery, match, metric=metric)
    np.testing.assert_array_equal(ranks, (once - 1) * n_copies + (n_copies + 1) / 2)


@pytest.mark.parametrize("metric", ["correlation", "euclidean", "cosine"])
def test_constant_model_gets_the_middle_rank(metric):
    queries = np.random.default_rng(0).normal(size=(5, 3))
    ranks = rank_embeddings(queries, np.ones((9, 3)), np.arange(5), metric=metric)
    np.testing.assert_array_equal(ranks, np.full(5, 5.0))


def test_negative_zero_is_zero():
    gallery = np.array([[0.0, 1.0], [-0.0, 1.0]])
    assert rank_embeddings([[1.0, 2.0]], gallery, [0], metric="dot") == 1.5


class OnlySimilarity(BaseEstimator):
    """Two-view estimator without a joint space."""

    def similarity(self, X, y):
        return -cdist(y, X)


@pytest.mark.parametrize("model", [Points(), OnlySimilarity()])
def test_row_order_does_not_matter(model):
    rng = np.random.default_rng(3)
    molecules = rng.normal(size=(8, 4))
    X = molecules[rng.integers(0, 8, 30)]
    y = rng.normal(size=(30, 4))
    order = rng.permutation(30)
    for per in ("profile", "drug"):
        ranks = retrieval_ranks(model, X, y, per=per)
        shuffled = retrieval_ranks(model, X[order], y[order], per=per)
        expected = ranks[order] if per == "profile" else ranks
        np.testing.assert_array_equal(shuffled, expected)
        assert len(np.unique(ranks)) > 1


def test_salts_and_isomers_are_one_candidate():
    # Two spellings and a salt of acetic acid, and an ester.
    X = np.array(["CC(=O)O", "OC(C)=O", "CC(=O)[O-].[Na+]", "CC(=O)OC"], dtype=object)
    seen = []

    class Spy(BaseEstimator):
        def similarity(self, X, y):
            seen.append(list(X))
            return np.zeros((len(y), len(X)))

    ranks = retrieval_ranks(Spy(), X, np.zeros((4, 1)))
    np.testing.assert_array_equal(ranks, [1.5] * 4)  # middle of two candidates
    # Of one drug's spellings the one that sorts first stands for it.
    assert sorted(seen[0]) == ["CC(=O)O", "CC(=O)OC"]


def test_drug_level_averages_in_the_joint_space():
    molecules = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]])
    X = molecules[[0, 0, 1, 2]]
    # One query of the first molecule misses it, the mean of both hits it.
    y = np.array([[3.0, -1.0], [-3.0, 1.0], [3.9, 0.0], [0.0, 3.9]])
    np.testing.assert_array_equal(retrieval_ranks(Points(), X, y), [2, 1, 1, 1])
    by_drug = retrieval_ranks(Points(), X, y, per="drug")
    np.testing.assert_array_equal(by_drug, [1, 1, 1])


def test_drug_level_without_a_joint_space_averages_similarities(monkeypatch):
    rng = np.random.default_rng(4)
    table = rng.normal(size=(20, 6))
    match = rng.permutation(np.arange(20) % 6)
    X, y = SMILES[match], np.arange(20.0)[:, None]
    means = np.stack([table[match == j].mean(axis=0) for j in range(6)])
    expected = {
        drug_ids(SMILES[[j]])[0]: float(slow_rank(means[j], j)) for j in range(6)
    }
    for size in (1, 2**22):
        monkeypatch.setattr(BLOCK, size)
        ranks = retrieval_ranks(Table(table), X, y, per="drug")
        np.testing.assert_array_equal(ranks, [expected[d] for d in sorted(expected)])


def test_queries_and_candidates():
    rng = np.random.default_rng(5)
    table = rng.normal(size=(12, 6))
    match = np.arange(12) % 6
    X, y = SMILES[match], np.arange(12.0)[:, None]
    everything = retrieval_ranks(Table(table), X, y)
    some = retrieval_ranks(Table(table), X, y, queries=[7, 2])
    np.testing.assert_array_equal(some, everything[[7, 2]])
    mask = match < 3
    np.testing.assert_array_equal(
        retrieval_ranks(Table(table), X, y, queries=mask), everything[mask]
    )
    names = np.array(list("abcdef"), dtype=object)[match]
    few = retrieval_ranks(
        Table(table), X, y, drugs=names, queries=mask, candidates=["a", "b", "c"]
    )
    expected = [float(slow_rank(table[i, :3], match[i])) for i in np.flatnonzero(mask)]
    np.testing.assert_array_equal(few, expected)


def test_features_with_given_drugs_keep_drugs_apart():
    # Equal features, but two drugs by name: they tie.
    X = np.array([[0.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    y = np.zeros((3, 2))
    np.testing.assert_array_equal(retrieval_ranks(Points(), X, y), [1, 1, 2])
    np.testing.assert_array_equal(
        retrieval_ranks(Points(), X, y, drugs=["a", "b", "c"]), [1.5, 1.5, 3]
    )


def test_refusals():
    y = np.zeros((6, 1))
    nan = np.zeros((1, 6))
    nan[0, 2] = np.nan
    with pytest.raises(ValueError, match="6 queries are NaN, first query 0"):
        retrieval_ranks(Table(nan), SMILES, y)
    with pytest.raises(ValueError, match=r"'per' parameter.*Got 'row'"):
        retrieval_ranks(Table(nan), SMILES, y, per="row")
    with pytest.raises(ValueError, match="must be drugs of X"):
        retrieval_ranks(Table(nan), SMILES, y, candidates=["nobody"])
    with pytest.raises(ValueError, match="must hold the drug of every query"):
        retrieval_ranks(Table(nan), SMILES, y, drugs=list("abcdef"), candidates=["a"])
    with pytest.raises(ValueError, match=r"drugs must .* 1 of 6 .* indices 1\."):
        retrieval_ranks(Table(nan), SMILES, y, drugs=["a", None, "c", "d", "e", "f"])
    with pytest.raises(ValueError, match="non-empty array of row positions"):
        retrieval_ranks(Table(nan), SMILES, y, queries=[])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        retrieval_ranks(Table(nan), SMILES, y[:3])


def test_memory_does_not_grow_with_the_problem():
    rng = np.random.default_rng(0)
    queries = rng.normal(size=(4000, 8)).astype(np.float32)
    gallery = rng.normal(size=(3000, 8)).astype(np.float32)
    match = rng.integers(0, 3000, 4000)
    tracemalloc.start()
    rank_embeddings(queries, gallery, match)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16 * 2**20  # the whole matrix would be 46 MiB


def test_profiles_are_projected_some_at_a_time():
    rng = np.random.default_rng(0)
    molecules = rng.normal(size=(60, 20))
    match = np.arange(20_000) % 60
    X, y = molecules[match], rng.normal(size=(20_000, 200)).astype(np.float32)
    y[:, :20] += X
    cca = CCA(5, ridge=1.0).fit(X[:600], y[:600])
    drugs = np.array([f"drug {i:02}" for i in range(60)])
    tracemalloc.start()
    ranks = retrieval_ranks(cca, X, y, drugs=drugs[match])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < y.nbytes
    points, gallery = cca.transform_ge(y), cca.transform(molecules)
    np.testing.assert_array_equal(ranks, rank_embeddings(points, gallery, match))
    means = [points[match == i].mean(axis=0) for i in range(60)]
    np.testing.assert_array_equal(
        retrieval_ranks(cca, X, y, drugs=drugs[match], per="drug"),
        rank_embeddings(means, gallery, np.arange(60)),
    )


def test_drugs_with_equal_features_tie_exactly():
    """BLAS rounds the last row of an odd-sized product in its own way."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(31, 9)), rng.normal(size=(31, 12))
    model = CCA(5, ridge=0.1).fit(X, y)
    # Forty more profiles of the first drug and of the last one, which look the same.
    X[-1] = X[0]
    X = np.concatenate([X, np.repeat(X[:1], 40, axis=0)])
    y = np.concatenate([y, rng.normal(size=(40, 12))])
    drugs = np.concatenate([np.arange(31), np.tile([0, 30], 20)])
    ranks = retrieval_ranks(model, X, y, drugs=drugs)[31:]
    similarity = model.similarity(X[:30], y[31:])
    closer = (similarity[:, 1:] > similarity[:, :1]).sum(axis=1)
    np.testing.assert_array_equal(ranks, closer + 1.5)
