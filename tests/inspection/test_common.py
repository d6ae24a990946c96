"""What all functions of the room keep to: seeds, types, and inputs left alone."""

import random

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sklearn_molge.inspection import (
    cell_line_mixing,
    class_enrichment,
    latent_map,
    neighbor_change,
    performance_regression,
    same_class_neighbors,
    training_distances,
)

N = 12
RNG = np.random.RandomState(0)
POINTS = RNG.normal(size=(N, 3)).round(1)
BITS = (RNG.uniform(size=(N, 20)) < 0.3).astype(float)
LABELS = np.array(["a", "a|b", "b", "b", "c", "c", "a", None, "c|a", "", "d", "b"])
LINES = np.repeat(["A375", "HT29", "PC3"], 4)
DRUGS = np.tile(["x", "y", "z", "w"], 3)
SMILES = np.array(["CCO", "CCC", "c1ccccc1", "CCN"] * 3, dtype=object)
RANKS = np.array([1, 3, 3, 7, 2, 9, 1.5, 4, 10, 6, 2, 5])
FAST = {"n_permutations": 30, "n_resamples": 40}


def same_class(X=POINTS, labels=LABELS, seed=0, **more):
    options = {"n_neighbors": 3, "metric": "euclidean", **FAST, **more}
    result = same_class_neighbors(X, labels, random_state=seed, **options)
    return [result.rate, *result.interval, result.p_value, result.average_precision]


def mixing(X=POINTS, lines=LINES, seed=0, **more):
    options = {"n_neighbors": 3, "metric": "euclidean", **FAST, **more}
    result = cell_line_mixing(X, lines, random_state=seed, **options)
    return [result.mixing, *result.interval, result.p_value]


def regression(x=POINTS[:, 0], ranks=RANKS, drugs=DRUGS, seed=0, **more):
    options = {"n_resamples": 40, "n_candidates": 20, **more}
    fit = performance_regression(x, ranks, drugs, random_state=seed, **options)
    return [fit.slope, fit.slope_low, fit.slope_high, fit.r, fit.p_value, fit.chance]


def profile_regression(**more):
    return regression(per="profile", **more)


def change(seed=0):
    result = neighbor_change(
        BITS, POINTS, LABELS, metric=("jaccard", "euclidean"), n_neighbors=3,
        random_state=seed, **FAST,
    )  # fmt: skip
    return result.table.to_numpy().ravel()


def enrichment(scores=POINTS[:, 0], labels=LABELS, seed=0):
    result = class_enrichment(
        scores, labels, random_state=seed, min_size=2, n_permutations=100
    )
    return result.table[["statistic", "p_value"]].to_numpy().ravel().tolist()


def pca_map(X=POINTS, seed=0):
    return latent_map(X, reducer="pca", random_state=seed).to_numpy().ravel()


RANDOM = [
    same_class,
    mixing,
    regression,
    profile_regression,
    change,
    pca_map,
    enrichment,
]


@pytest.mark.parametrize("call", RANDOM)
def test_seeds_and_global_generators(call):
    numpy_state = np.random.get_state()[1].copy()
    python_state = random.getstate()
    first = call(seed=0)
    np.testing.assert_array_equal(first, call(seed=0))
    np.testing.assert_array_equal(first, call(seed=np.random.RandomState(0)))
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)
    assert random.getstate() == python_state


def odd_index(values):
    index = np.arange(len(values))[::-1] * 3 + 7
    return (pd.DataFrame if np.ndim(values) == 2 else pd.Series)(values, index=index)


def test_pandas_with_any_index():
    frame = odd_index(POINTS)
    assert same_class() == same_class(frame, odd_index(LABELS))
    drugs = odd_index(np.arange(N).astype(str))
    assert same_class(drugs=drugs) == same_class(drugs=drugs.to_numpy())
    assert mixing() == mixing(frame, odd_index(LINES))
    assert enrichment() == enrichment(frame[0], odd_index(LABELS))
    assert mixing(drugs=DRUGS) == mixing(frame, LINES, drugs=odd_index(DRUGS))
    for call in (regression, profile_regression):
        odd = {"ranks": odd_index(RANKS), "drugs": odd_index(DRUGS)}
        assert call() == call(x=frame[0], **odd)
    ours = training_distances(
        odd_index(SMILES), frame, odd_index(SMILES[:5]), odd_index(POINTS[:5] + 1)
    )
    theirs = training_distances(SMILES, POINTS, SMILES[:5], POINTS[:5] + 1)
    pd.testing.assert_frame_equal(ours, theirs)


def test_single_precision_and_integers():
    single = (POINTS * 8).astype(np.int8)
    for dtype in (np.float32, np.int64, np.float64):
        assert same_class(single.astype(dtype)) == same_class(single)
        assert mixing(single.astype(dtype)) == mixing(single)
    ranks = np.arange(1, N + 1)
    assert regression(ranks=ranks.astype(np.float32)) == regression(ranks=ranks)


@pytest.mark.parametrize(
    "kind", [sparse.csr_matrix, sparse.csr_array, sparse.csc_array, sparse.coo_array]
)
@pytest.mark.parametrize("metric", ["jaccard", "tanimoto", "cosine", "dot"])
def test_sparse_rows_are_dense_rows(kind, metric):
    given = kind(BITS)
    dense = same_class(BITS, metric=metric)
    assert same_class(given, metric=metric) == pytest.approx(dense, rel=1e-12)
    drugs = np.arange(N) // 2
    dense = same_class(BITS, metric=metric, drugs=drugs)
    assert same_class(given, metric=metric, drugs=drugs) == pytest.approx(dense)
    assert mixing(given, metric=metric) == pytest.approx(mixing(BITS, metric=metric))
    np.testing.assert_array_equal(given.toarray(), BITS)


def test_inputs_are_not_changed():
    x, ranks = POINTS[:, 0].copy(), RANKS.copy()
    points, bits, labels = POINTS.copy(), BITS.copy(), LABELS.copy()
    for call in RANDOM:
        call()
    training_distances(SMILES, POINTS, SMILES, POINTS)
    np.testing.assert_array_equal(POINTS, points)
    np.testing.assert_array_equal(BITS, bits)
    np.testing.assert_array_equal(LABELS, labels)
    np.testing.assert_array_equal(RANKS, ranks)
    np.testing.assert_array_equal(POINTS[:, 0], x)
