import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_molge.alignment.samplers._weights import (
    cumulative_probabilities,
    draw_columns,
    uniform_weights,
    wu_weights,
)

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
