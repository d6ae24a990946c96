import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator
from scipy.spatial.distance import cdist
from scipy.stats import chi2_contingency, chisquare

from sklearn_molge.alignment.samplers import DistanceWeightedSampler
from sklearn_molge.alignment.samplers._base import ProfileIndex

# Weights are compared with their slow definition, to the last tie.
from sklearn_molge.alignment.samplers._distance_weighted import (
    DrugDistances,
    cumulative_probabilities,
    draw_columns,
    uniform_weights,
    wu_weights,
)
from sklearn_molge.datasets import load_lincs
from sklearn_molge.exceptions import InvalidSmilesError

N_DRUGS = 6
REPEATS = 4000
DRUGS = np.repeat(np.arange(N_DRUGS), REPEATS)
FEATURES = np.random.default_rng(9).normal(size=(N_DRUGS, 4)).astype(np.float32)
SMILES = np.array(["CCO", "CCCO", "c1ccccc1", "CCN", "OCC", "Cc1ccccc1"], dtype=object)


def distance_matrix(features):
    distances = cdist(features, features, "correlation")
    np.fill_diagonal(distances, 0)
    return distances


def negatives_of(sampler, seed=0, **data):
    """How often each drug (column) is the negative of each anchor drug (row)."""
    counts = np.zeros((N_DRUGS, N_DRUGS), dtype=int)
    for batch in sampler.prepare(DRUGS, **data).epoch(np.random.default_rng(seed)):
        anchors = DRUGS[batch.profiles[batch.triplets.anchors]]
        np.add.at(counts, (anchors, DRUGS[batch.profiles[batch.triplets.negatives]]), 1)
    assert (np.diagonal(counts) == 0).all()
    return counts


def slow_negatives(distances, n_draws):
    """The paper's code: t uniform, nearest |D - t|, redrawn while it is itself."""
    rng = np.random.default_rng(11)
    low, high = distances.min(), distances.max()
    counts = np.zeros(distances.shape, dtype=int)
    for anchor, row in enumerate(distances):
        for _ in range(n_draws):
            negative = anchor
            while negative == anchor:
                negative = np.argmin(np.abs(row - rng.uniform(low, high)))
            counts[anchor, negative] += 1
    return counts


def assert_same_distribution(counts, slow):
    for row, slow_row in zip(counts, slow, strict=True):
        drawn = (row + slow_row) > 0
        assert chi2_contingency([row[drawn], slow_row[drawn]]).pvalue > 1e-3


def test_uniform_in_distance_against_the_slow_definition():
    distances = distance_matrix(FEATURES)
    assert distances[0].max() < 0.9 * distances.max(), "the largest is of the matrix"
    counts = negatives_of(DistanceWeightedSampler(), profiles=FEATURES[DRUGS])
    slow = slow_negatives(distances, REPEATS)
    assert_same_distribution(counts, slow)
    # The test would notice another rule: uniform negatives are far off.
    with pytest.raises(AssertionError):
        assert_same_distribution(np.full_like(slow, 800), slow)


def test_structure_against_the_slow_definition():
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    bits = [generator.GetFingerprint(Chem.MolFromSmiles(s)) for s in SMILES]
    distances = 1 - np.array(
        [DataStructs.BulkTanimotoSimilarity(b, bits) for b in bits]
    )
    sampler = DistanceWeightedSampler(distance="structure")
    counts = negatives_of(sampler, molecules=SMILES)
    assert_same_distribution(counts, slow_negatives(distances, REPEATS))
    # "CCO" and "OCC" are at distance 0: the first of a tie is the only one drawn.
    assert counts[4, 0] > 0
    assert counts[:, 4].sum() == 0


def test_wu_against_the_formula():
    chords = np.sqrt(2 * distance_matrix(FEATURES))
    sampler = DistanceWeightedSampler(
        weighting="wu", dimension=4, cutoff=0.7, max_distance=1.8
    )
    counts = negatives_of(sampler, profiles=FEATURES[DRUGS])
    with np.errstate(divide="ignore"):
        q = chords**2 * np.sqrt(1 - chords**2 / 4)
        weights = np.minimum(1 / (0.7**2 * np.sqrt(1 - 0.7**2 / 4)), 1 / q)
    weights[chords > 1.8] = 0
    np.fill_diagonal(weights, 0)
    assert (weights[~np.eye(N_DRUGS, dtype=bool)] == 0).any()
    for row, expected in zip(counts, weights, strict=True):
        possible = expected > 0
        assert row[~possible].sum() == 0
        expected = expected[possible] / expected.sum() * REPEATS
        assert chisquare(row[possible], expected).pvalue > 1e-3


@pytest.mark.parametrize("weighting", ["uniform", "wu"])
def test_pool_of_all_drugs_is_the_exact_sampler(weighting):
    params = {"weighting": weighting, "dimension": 4}
    exact = DistanceWeightedSampler(**params)
    pooled = DistanceWeightedSampler(**params, max_candidates=2, pool_size=100)
    profiles = FEATURES[DRUGS]
    assert_same_distribution(
        negatives_of(exact, profiles=profiles),
        negatives_of(pooled, seed=1, profiles=profiles),
    )


def test_max_candidates_is_included():
    profiles = FEATURES[DRUGS]
    counts = [
        negatives_of(DistanceWeightedSampler(max_candidates=m), profiles=profiles)
        for m in (N_DRUGS, 10_000)
    ]
    assert np.array_equal(*counts)


def test_pool_is_drawn_for_each_batch():
    rng = np.random.default_rng(0)
    drugs = np.repeat(np.arange(200), 3)
    sampler = DistanceWeightedSampler(batch_size=100, max_candidates=199, pool_size=5)
    sampler.prepare(drugs, profiles=rng.normal(size=(600, 6)))
    of_batches = [
        set(drugs[batch.profiles[batch.triplets.negatives]])
        for batch in sampler.epoch(rng)
    ]
    assert max(map(len, of_batches)) <= 5
    assert len(set.union(*of_batches)) > 5


def test_pool_of_which_the_anchor_is_a_part():
    """With 2 of 3 drugs in the pool an anchor's own drug often leaves just one."""
    drugs = np.repeat([0, 1, 2], 50)
    profiles = np.eye(3)[drugs]
    sampler = DistanceWeightedSampler(batch_size=10, max_candidates=2, pool_size=2)
    sampler.prepare(drugs, profiles=profiles)
    for batch in sampler.epoch(np.random.default_rng(0)):
        negatives = drugs[batch.profiles[batch.triplets.negatives]]
        assert (negatives != drugs[batch.profiles[batch.triplets.anchors]]).all()
        assert len(set(negatives)) <= 2


@pytest.mark.parametrize("distance", ["expression", "structure"])
def test_memory_of_the_pool_is_linear(distance):
    n_drugs = 2000
    drugs = np.arange(n_drugs)
    features = np.random.default_rng(0).normal(size=(n_drugs, 8)).astype(np.float32)
    exact = DistanceWeightedSampler(distance=distance)
    exact.prepare(drugs, profiles=features, molecules=features)
    assert exact._cumulative.nbytes == 4 * n_drugs**2
    pooled = DistanceWeightedSampler(
        distance=distance, batch_size=50, max_candidates=1000, pool_size=20
    )
    tracemalloc.start()
    pooled.prepare(drugs, profiles=features, molecules=features)
    for _ in pooled.epoch(np.random.default_rng(0)):
        pass
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 * n_drugs**2 / 10


@pytest.mark.parametrize("weighting", ["uniform", "wu"])
def test_equal_drugs_have_uniform_negatives(weighting):
    """Where all distances are 0 the paper's code never ends for the first drug."""
    sampler = DistanceWeightedSampler(weighting=weighting)
    counts = negatives_of(sampler, profiles=np.tile([1.0, 2, 4], (len(DRUGS), 1)))
    for drug, row in enumerate(counts):
        assert chisquare(np.delete(row, drug)).pvalue > 1e-3


def test_a_constant_profile_is_uncorrelated():
    profiles = np.array([[1, 1, 1], [0, 1, 2], [0, 1, 3.0]])
    distances = DrugDistances.from_expression(profiles, ProfileIndex([0, 1, 2]))
    matrix = distances.all_pairs()
    assert matrix[0].tolist() == [0, 1, 1]
    assert matrix[:, 0].tolist() == [0, 1, 1]
    drugs = np.arange(3)
    assert distances.between(drugs, drugs).tolist() == matrix.tolist()


def test_distances_of_means():
    rng = np.random.default_rng(0)
    drugs = rng.permutation(np.append(np.arange(10), rng.integers(0, 10, 40)))
    profiles = rng.normal(size=(50, 7)).astype(np.float32)
    distances = DrugDistances.from_expression(profiles, ProfileIndex(drugs))
    means = np.array([profiles[drugs == drug].mean(axis=0) for drug in range(10)])
    matrix = distances.all_pairs()
    np.testing.assert_allclose(matrix, distance_matrix(means), atol=1e-6)
    assert (np.diagonal(matrix) == 0).all()
    some = distances.between(np.array([3, 3, 8]), np.array([8, 0, 3, 5]))
    np.testing.assert_allclose(some, matrix[[3, 3, 8]][:, [8, 0, 3, 5]], atol=1e-6)
    assert some[0, 2] == some[2, 0] == 0


@pytest.mark.parametrize(
    ("params", "data", "error", "match"),
    [
        ({}, {}, ValueError, "'profiles' parameter of prepare is None"),
        ({"distance": "structure"}, {}, ValueError, "'molecules' parameter of prepare"),
        ({}, {"profiles": np.ones((3, 2))}, ValueError, "profile. Got 3 for 24000"),
        ({}, {"profiles": np.full(DRUGS.shape, 1.0)}, ValueError, "Expected 2D array"),
        (
            {},
            {"profiles": np.full((len(DRUGS), 2), np.nan)},
            ValueError,
            "Input profiles contains NaN",
        ),
        (
            {"distance": "structure"},
            {"molecules": SMILES[:4]},
            ValueError,
            "molecules must have one row for each drug. Got 4 for 6 drugs",
        ),
        (
            {"distance": "structure"},
            {"molecules": FEATURES[:4]},
            ValueError,
            "molecules must have one row for each drug. Got 4 for 6 drugs",
        ),
        (
            {"distance": "structure"},
            {"molecules": np.array([*SMILES[:5], "-666"], dtype=object)},
            InvalidSmilesError,
            "index 5: '-666'",
        ),
        ({"distance": "cell"}, {}, ValueError, "The 'distance' parameter of"),
        ({"weighting": "none"}, {}, ValueError, "The 'weighting' parameter of"),
        ({"cutoff": 0.0}, {}, ValueError, "The 'cutoff' parameter of"),
        ({"pool_size": 1}, {}, ValueError, "The 'pool_size' parameter of"),
    ],
)
def test_errors(params, data, error, match):
    with pytest.raises(error, match=match):
        DistanceWeightedSampler(**params).prepare(DRUGS, **data)


def test_real_distances(level5_folder):
    study = load_lincs(level5_folder, level=5)
    _, drugs = np.unique(study.groups[:, 0].astype(str), return_inverse=True)
    rows = drugs < 120
    drugs, profiles = drugs[rows], study.ge[rows]
    smiles = np.empty(120, dtype=object)
    smiles[drugs] = study.smiles[rows]
    index = ProfileIndex(drugs)
    means = np.array([profiles[drugs == drug].mean(axis=0) for drug in range(120)])
    np.testing.assert_allclose(
        DrugDistances.from_expression(profiles, index).all_pairs(),
        distance_matrix(means),
        atol=2e-6,
    )
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    bits = [generator.GetFingerprint(Chem.MolFromSmiles(s)) for s in smiles]
    expected = [1 - np.array(DataStructs.BulkTanimotoSimilarity(b, bits)) for b in bits]
    structure = DrugDistances.from_structure(smiles, index)
    np.testing.assert_allclose(structure.all_pairs(), expected, atol=1e-6)
    some = structure.between(np.array([5, 9]), np.arange(120))
    np.testing.assert_allclose(some, np.array(expected)[[5, 9]], atol=1e-6)


# -- weights -------------------------------------------------------------------------

WU = {"dimension": 32, "cutoff": 0.5, "max_distance": 1.4}


def own_mask(columns, n_columns):
    return np.array(columns)[:, None] == np.arange(n_columns)


@pytest.mark.parametrize(
    ("row", "own", "largest", "expected"),
    [
        # t in [0, .25) is the own drug's, [.25, .75) the first tie's, then the last's.
        ([0, 0.5, 0.5, 1], 0, 1, [0, 0.5, 0, 0.25]),
        # Beyond the farthest drug all is its own.
        ([0, 0.5, 0.5, 1], 0, 2, [0, 0.5, 0, 1.25]),
        ([1, 0.25, 0, 0.25], 2, 1, [0.375, 0.5, 0, 0]),
        # Another drug at distance 0 before the own one takes its cell; after it, none.
        ([0, 0, 1], 1, 1, [0.5, 0, 0.5]),
        ([0, 0, 1], 0, 1, [0, 0, 0.5]),
        ([0.5, 0.5, 0.5, 0], 3, 1, [0.75, 0, 0, 0]),
        ([0, 0, 0], 1, 0, [0, 0, 0]),
    ],
)
def test_uniform_weights_by_hand(row, own, largest, expected):
    distances = np.array([row], dtype=np.float32)
    weights = uniform_weights(distances, own_mask([own], len(row)), largest=largest)
    assert weights.tolist() == [expected]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_uniform_weights_against_the_slow_definition(data):
    n = data.draw(st.integers(2, 9))
    cells = st.lists(st.integers(0, 16), min_size=n, max_size=n)
    distances = np.array(data.draw(st.lists(cells, min_size=n, max_size=n))) / 8
    np.fill_diagonal(distances, 0)
    largest = distances.max()
    # Distances are multiples of 1/8, so that no t of this grid is between two cells.
    ts = (np.arange(64) + 0.5) / 64 * largest if largest else np.zeros(64)
    expected = np.zeros((n, n))
    for i in range(n):
        for t in ts:
            j = np.argmin(np.abs(distances[i] - t))  # the first on ties
            expected[i, j] += (j != i) * largest / 64
    weights = uniform_weights(
        distances.astype(np.float32), np.eye(n, dtype=bool), largest=largest
    )
    # A cell's end falls anywhere between two points of the grid.
    assert np.abs(weights - expected).max() <= largest / 64 + 1e-9


def slow_wu(distance, *, dimension, cutoff, max_distance):
    def q(d):
        exponent = (dimension - 3) / 2
        return d ** (dimension - 2) * max(1 - d * d / 4, 0) ** exponent

    chord = math.sqrt(2 * distance)
    if chord > max_distance:
        return 0.0
    return min(1 / q(cutoff), 1 / q(chord) if q(chord) > 0 else math.inf)


@pytest.mark.parametrize("dimension", [3, 4, 32, 128])
@pytest.mark.parametrize("cutoff", [0.2, 0.5, 1.0])
@pytest.mark.parametrize("max_distance", [1.2, 1.4, 2.0])
def test_wu_weights_against_the_formula(dimension, cutoff, max_distance):
    params = {"dimension": dimension, "cutoff": cutoff, "max_distance": max_distance}
    row = np.array([0.0, 0.0, 0.01, 0.1, 0.125, 0.3, 0.5, 0.7, 0.9, 1.3, 2], np.float32)
    weights = wu_weights(row[None], own_mask([1], len(row)), **params)[0]
    expected = np.array([slow_wu(float(d), **params) for d in row])
    expected[1] = 0
    np.testing.assert_allclose(weights, expected / expected.max(), rtol=1e-9)


def test_wu_weights_do_not_underflow():
    # 1 / q(1.4) is 1e-300 of lambda here, but all there is in the row.
    row = np.array([[0.0, 0.95, 0.9]], dtype=np.float32)
    weights = wu_weights(row, own_mask([0], 3), **{**WU, "dimension": 2000})
    assert weights[0, 2] == 1
    assert 0 < weights[0, 1] < 1


def test_rows_without_weight_become_uniform():
    own = own_mask([2, 0], 4)
    cumulative = cumulative_probabilities(np.zeros((2, 4)), own)
    np.testing.assert_allclose(
        cumulative, [[1 / 3, 2 / 3, 2 / 3, 1], [0, 1 / 3, 2 / 3, 1]]
    )
    beyond = np.array([[1.0, 1.1, 0.0, 1.2], [0, 1, 1, 1]], dtype=np.float32)
    assert not wu_weights(beyond, own, **WU).any()


@pytest.mark.parametrize("n_columns", [2, 3, 4, 5, 31, 32, 33, 1000])
def test_draw_columns_against_searchsorted(n_columns):
    rng = np.random.default_rng(n_columns)
    weights = rng.random((6, n_columns)) * (rng.random((6, n_columns)) < 0.5)
    own = own_mask(rng.integers(0, n_columns, 6), n_columns)
    weights[own] = 0
    cumulative = cumulative_probabilities(weights, own)
    rows = rng.integers(0, 6, 3000)
    drawn = draw_columns(cumulative, rows, np.random.default_rng(5))
    targets = np.random.default_rng(5).random(3000)
    expected = [
        np.searchsorted(cumulative[row], target, side="right")
        for row, target in zip(rows, targets, strict=True)
    ]
    assert drawn.tolist() == expected
    assert (weights[rows, drawn] > 0).all()
