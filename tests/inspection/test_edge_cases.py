"""Inspection against slow loops and at its edges: types, ties, seeds, row order."""

import random
from itertools import pairwise, permutations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures

from sklearn_molge.datasets import Study
from sklearn_molge.inspection import (
    cell_line_mixing,
    differential_genes,
    gene_attribution,
    latent_map,
    neighbor_change,
    parameter_importance,
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


def pca_map(X=POINTS, seed=0):
    return latent_map(X, reducer="pca", random_state=seed).to_numpy().ravel()


RANDOM = [same_class, mixing, regression, profile_regression, change, pca_map]


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


@pytest.mark.parametrize("n_rows", [3, 7, 49])
def test_many_rows_of_one_drug_are_the_molecule(n_rows):
    drugs = np.repeat(np.arange(N), n_rows)
    labels = np.repeat(LABELS, n_rows)
    for metric, X in (("jaccard", BITS), ("tanimoto", BITS), ("euclidean", POINTS)):
        alone = same_class(X, metric=metric, drugs=np.arange(N))
        many = same_class(np.repeat(X, n_rows, 0), labels, metric=metric, drugs=drugs)
        assert many == pytest.approx(alone, rel=1e-9), metric


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


# Numbers.


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
    options = {"n_neighbors": k, "metric": "euclidean", "random_state": 0, **FAST}
    result = same_class_neighbors(X, labels, **options)
    np.testing.assert_allclose(result.molecules["rate"], rates, rtol=1e-12)
    np.testing.assert_allclose(result.molecules["average_precision"], precisions)
    mixed = cell_line_mixing(X, lines, **options)
    np.testing.assert_allclose(mixed.other_lines, np.mean(others_lines))


def test_permutation_p_values_count_all_deals():
    """With few rows the permutations can be listed: the exact p-values."""
    X, labels, lines = POINTS[:6], np.array(list("aabbcc")), np.array(list("AAABBB"))
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


def test_profile_p_value_by_a_slow_permutation():
    sizes = [1, 1, 1, 2, 2, 2, 3, 3]
    codes = np.repeat(np.arange(8), sizes)
    rng = np.random.RandomState(1)
    x = rng.normal(size=len(codes)) + rng.normal(size=8)[codes]
    ranks = np.round(np.exp(1 + 0.5 * x + 0.5 * rng.normal(size=len(codes)))) + 1
    fit = performance_regression(
        x, ranks, codes, per="profile", n_resamples=4000, random_state=0
    )
    y = np.log(ranks)
    totals = []
    for _ in range(4000):
        shuffled = np.empty(len(y))
        for size in (1, 2, 3):
            drugs = [i for i in range(8) if sizes[i] == size]
            for drug, source in zip(drugs, rng.permutation(drugs), strict=True):
                shuffled[codes == drug] = rng.permutation(y[codes == source])
        totals.append(np.sum((x - x.mean()) * shuffled))
    totals, observed = np.array(totals), np.sum((x - x.mean()) * y)
    extreme = np.abs(totals - totals.mean()) >= abs(observed - totals.mean())
    assert abs(fit.p_value - extreme.mean()) < 0.03
    assert fit.p_value > fit.naive_p_value


@pytest.mark.parametrize("per", ["drug", "profile"])
def test_intervals_and_band_by_a_slow_bootstrap(per):
    rng = np.random.RandomState(0)
    drugs = np.repeat(np.arange(25), rng.randint(1, 4, 25))
    x = rng.normal(size=25)[drugs] + 100
    ranks = rng.randint(1, 30, len(drugs)) + np.round(4 * (x - x.min()))
    fit = performance_regression(
        x, ranks, drugs, per=per, response="rank", n_resamples=4000, random_state=0
    )
    table = fit.table
    rows_of = [np.flatnonzero(table["drug"] == drug) for drug in range(25)]
    slopes, at = [], []
    for _ in range(2000):
        rows = np.concatenate([rows_of[i] for i in rng.randint(0, 25, 25)])
        line = stats.linregress(table["x"].iloc[rows], table["response"].iloc[rows])
        slopes.append(line.slope)
        at.append(line.intercept + line.slope * 101)
    spread = np.std(slopes)
    expected = np.quantile(slopes, [0.025, 0.975])
    np.testing.assert_allclose(
        [fit.slope_low, fit.slope_high], expected, atol=0.3 * spread
    )
    low, high = np.quantile(at, [0.025, 0.975])
    np.testing.assert_allclose(
        fit.interval([101])[:, 0], [low, high], atol=0.3 * np.std(at)
    )


@pytest.mark.parametrize("call", [regression, profile_regression])
def test_regression_does_not_depend_on_the_order_of_rows(call):
    order = np.random.RandomState(5).permutation(N)
    moved = {"x": POINTS[order, 0], "ranks": RANKS[order], "drugs": DRUGS[order]}
    sizes = np.ceil(RANKS).astype(int) + np.arange(N)
    for n_candidates in (20, sizes):
        plain = call(n_candidates=n_candidates)
        same = np.broadcast_to(n_candidates, N)[order]
        assert call(**moved, n_candidates=same) == pytest.approx(plain, rel=1e-9)


def test_one_profile_a_drug_is_the_same_per_drug_and_per_profile():
    alone = np.array([f"drug{i:02}" for i in range(N)])
    of_drugs, of_profiles = regression(drugs=alone), profile_regression(drugs=alone)
    assert of_drugs[:4] == pytest.approx(of_profiles[:4], rel=1e-12)


# Bugs that were found and mended.


def search_over(steps):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(30, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.normal(size=30)
    pipe = Pipeline([("step", None), ("model", Ridge())])
    grid = {"step": steps, "model__alpha": [0.1, 1.0, 10.0, 100.0, 1000.0]}
    return GridSearchCV(pipe, grid, cv=2).fit(X, y)


@pytest.mark.parametrize(
    "steps",
    [
        [PolynomialFeatures(1), PolynomialFeatures(3)],
        [FunctionTransformer(lambda x: x), FunctionTransformer(lambda x: 0 * x)],
    ],
)
def test_estimators_of_one_class_are_several_levels(steps):
    table = parameter_importance(search_over(steps), n_repeats=1, random_state=0)
    assert set(table.index) == {"step", "model__alpha"}


def test_estimators_of_several_classes_keep_their_short_names():
    from sklearn_molge.inspection._search import read_search

    steps = [PolynomialFeatures(1), FunctionTransformer(), "passthrough"]
    parameters, _, _ = read_search(search_over(steps))
    levels = {parameter.name: parameter.levels for parameter in parameters}
    expected = ["FunctionTransformer", "PolynomialFeatures", "passthrough"]
    assert levels["step"] == expected
    steps = [PolynomialFeatures(1), PolynomialFeatures(), "passthrough"]
    parameters, _, _ = read_search(search_over(steps))
    levels = {parameter.name: parameter.levels for parameter in parameters}
    expected = ["PolynomialFeatures()", "PolynomialFeatures(degree=1)", "passthrough"]
    assert levels["step"] == expected


class Sum(BaseEstimator):
    def similarity(self, X, y):
        return np.outer(np.asarray(y).sum(axis=1), np.ones(len(X)))


def test_an_attribution_does_not_share_memory_with_the_profile():
    profile = np.array([1.0, 2.0, 3.0])
    result = gene_attribution(Sum(), "CCO", profile)
    assert not np.shares_memory(result.expression, profile)


def test_rows_outside_of_a_map():
    with pytest.raises(ValueError, match="fit_rows must hold positions in the 12 rows"):
        latent_map(POINTS, reducer="pca", fit_rows=[0, 1, 2, 3, 12])


def test_other_numbers_of_features():
    with pytest.raises(ValueError, match=r"must be as many.* Got 3 and 2"):
        training_distances(SMILES, POINTS, SMILES, POINTS[:, :2])


# Edges.


def test_nobody_is_labelled():
    for labels in ([None] * N, [""] * N, [np.nan] * N, ["a"] + [None] * (N - 1)):
        with pytest.raises(ValueError, match="a class that two molecules share"):
            same_class(labels=np.array(labels, dtype=object))


def test_all_are_of_one_class_or_at_one_place():
    rate, low, high, p_value, _ = same_class(labels=np.repeat("a", N))
    assert (rate, low, high, p_value) == (1.0, 1.0, 1.0, 1.0)
    result = same_class_neighbors(
        np.ones((N, 3)), LABELS, metric="euclidean", random_state=0, **FAST
    )
    assert result.rate == pytest.approx(result.expected)
    expected = result.expected_average_precision
    assert result.average_precision == pytest.approx(expected)
    assert result.p_value == 1.0


def test_each_profile_has_a_line_of_its_own():
    assert mixing(lines=np.arange(N)) == [1.0, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("call", [regression, profile_regression])
def test_nothing_is_left_of_a_logarithm(call):
    with pytest.raises(ValueError, match="at least 2 distinct drugs"):
        call(drugs=np.repeat("x", N))
    assert np.isnan(call(x=np.zeros(N), log_x=True)).all()
    slope, *_, chance = call(x=np.arange(N) == 3, log_x=True)
    assert np.isnan(slope)
    assert np.isfinite(chance)


def test_differential_genes_does_not_depend_on_the_order_of_wells():
    rng = np.random.RandomState(0)
    ge, controls = rng.normal(8, 1, (N, 15)), rng.normal(8, 1, (9, 15))
    ge[::4, :5] += 4

    def counts(rows, wells):
        return differential_genes(
            Study(
                smiles=SMILES[rows],
                ge=ge[rows],
                genes=pd.DataFrame({"symbol": [f"g{i}" for i in range(15)]}),
                obs=pd.DataFrame(
                    {"cell_line": "A", "plate": np.repeat(["P", "Q"], 6)[rows]}
                ),
                control_ge=controls[wells],
                control_obs=pd.DataFrame({"plate": np.tile(["P", "Q", "P"], 3)[wells]}),
                level=3,
            )
        )

    plain = counts(np.arange(N), np.arange(9))
    moved = counts(rng.permutation(N), rng.permutation(9))
    pd.testing.assert_frame_equal(plain, moved)
    assert plain["n_genes"].max() >= 4
