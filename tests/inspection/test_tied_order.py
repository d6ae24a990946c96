"""Neighbours whose order is not decided, against every order that could be."""

from itertools import pairwise, permutations

import numpy as np
import pytest

from sklearn_molge.inspection import cell_line_mixing, same_class_neighbors


def slow_expected(function, ties):
    """Mean over all orders that agree with the distances, ties in any order."""
    agreeing = [
        order
        for order in permutations(range(len(ties)))
        if all(ties[a] <= ties[b] for a, b in pairwise(order))
    ]
    values = [function(order) for order in agreeing]
    return np.mean(values, axis=0)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_ties_are_the_mean_over_all_orders(k):
    X = np.array([[0], [1], [-1], [1], [2], [-1]])
    labels = np.array(["a", "a|b", "b", "c", "a|c", "b"])
    lines = np.array(["A", "A", "B", "B", "C", "C"])
    sets = [set(text.split("|")) for text in labels]
    rates, precisions, others_lines = [], [], []
    for i in range(6):
        others = [j for j in range(6) if j != i]
        ties = np.abs(X[others, 0] - X[i, 0])
        hit = np.array([bool(sets[j] & sets[i]) for j in others])
        other_line = lines[others] != lines[i]

        def scores(order, hit=hit, other_line=other_line):
            ranked = hit[list(order)]
            places = np.flatnonzero(ranked)
            precision = np.mean((np.arange(len(places)) + 1) / (places + 1))
            return [ranked[:k].mean(), precision, other_line[list(order)][:k].mean()]

        rate, precision, line = slow_expected(scores, ties)
        rates.append(rate)
        precisions.append(precision)
        others_lines.append(line)
    options = {
        "n_permutations": 1,
        "n_resamples": 2,
        "n_neighbors": k,
        "metric": "euclidean",
        "random_state": 0,
    }
    result = same_class_neighbors(X, labels, **options)
    np.testing.assert_allclose(result.molecules["rate"], rates, rtol=1e-12)
    np.testing.assert_allclose(result.molecules["average_precision"], precisions)
    mixed = cell_line_mixing(X, lines, **options)
    np.testing.assert_allclose(mixed.other_lines, np.mean(others_lines))


def test_permutation_p_values_count_all_deals():
    """With few rows the permutations can be listed: the exact p-values."""
    X = np.random.RandomState(0).normal(size=(6, 3)).round(1)
    labels, lines = np.array(list("aabbcc")), np.array(list("AAABBB"))
    options = {"n_neighbors": 2, "metric": "euclidean", "n_resamples": 2}

    def rate(labels):
        found = same_class_neighbors(X, labels, n_permutations=1, **options)
        return found.rate

    def mean_mixing(lines):
        return cell_line_mixing(X, lines, n_permutations=1, **options).mixing

    deals = [list(order) for order in permutations(range(6))][::7]
    rates = np.array([rate(labels[deal]) for deal in deals])
    mixings = np.array([mean_mixing(lines[deal]) for deal in deals])
    many = {"n_permutations": 4000, "random_state": 0, **options}
    exact = np.mean(rates >= rate(labels) - 1e-12)
    found = same_class_neighbors(X, labels, **many).p_value
    assert abs(found - exact) < 0.1
    exact = np.mean(mixings <= mean_mixing(lines) + 1e-12)
    assert abs(cell_line_mixing(X, lines, **many).p_value - exact) < 0.1
