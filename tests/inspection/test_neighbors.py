import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import sparse

from sklearn_molge.inspection import neighbor_change, same_class_neighbors

FAST = {"n_permutations": 20, "n_resamples": 50, "random_state": 0}


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    labels = rng.choice(["a", "b", "a|c", "c", "", "d"], size=40).astype(object)
    labels[3], labels[7] = None, np.nan
    return rng.normal(size=(40, 5)), labels


def classes_of(labels):
    return [set(t.split("|")) if isinstance(t, str) and t else set() for t in labels]


def slow_scores(distances, sets, k):
    """Rate and average precision of each query without ties, the obvious way."""
    labelled = [i for i, names in enumerate(sets) if names]
    scores = {}
    for i in labelled:
        others = sorted((j for j in labelled if j != i), key=lambda j: distances[i, j])
        hits = [bool(sets[i] & sets[j]) for j in others]
        if any(hits):
            precisions = [np.mean(hits[: r + 1]) for r, hit in enumerate(hits) if hit]
            scores[i] = np.mean(hits[:k]), np.mean(precisions)
    return scores


def test_scores_are_those_of_a_slow_loop(points):
    embeddings, labels = points
    result = same_class_neighbors(embeddings, labels, n_neighbors=3, **FAST)
    slow = slow_scores(1 - np.corrcoef(embeddings), classes_of(labels), 3)
    assert result.n_queries == len(slow)
    assert list(result.molecules.index) == list(slow)
    expected = np.array(list(slow.values()))
    columns = ["rate", "average_precision"]
    np.testing.assert_allclose(result.molecules[columns], expected)
    assert result.rate == pytest.approx(expected[:, 0].mean())
    assert result.average_precision == pytest.approx(expected[:, 1].mean())


def test_a_case_worked_by_hand():
    # On a line: a0 at 0, a1 at 1, b0 at 3, a2 at 6, b1 at 10, nothing at 2.
    result = same_class_neighbors(
        [[0], [1], [2], [3], [6], [10]],
        ["a", "a", "", "b", "a", "b"],
        n_neighbors=2,
        metric="euclidean",
        **FAST,
    )
    # Two nearest: a0: a1 b0; a1: a0 b0; b0: a1 a0 (a2 as near as a0).
    # a2: b0 b1; b1: a2 b0.
    assert list(result.molecules["rate"]) == [0.5, 0.5, 0, 0, 0.5]
    # b0: a1 at 2, then a0 and a2 at 3, then b1: precision 1/4.
    # a0: a1 b0 a2: (1 + 2/3) / 2. a2: b0 b1 a1 a0: (1/3 + 2/4) / 2. b1: a2 b0: 1/2.
    np.testing.assert_allclose(
        result.molecules["average_precision"], [5 / 6, 5 / 6, 1 / 4, 5 / 12, 1 / 2]
    )
    assert (result.n_molecules, result.n_queries) == (5, 5)
    # m / N: 2 of 4 others for an a, 1 of 4 for a b.
    assert result.expected == pytest.approx((3 * 2 / 4 + 2 * 1 / 4) / 5)
    assert list(result.table.index) == ["a", "b"]
    assert list(result.table["n_molecules"]) == [3, 2]
    np.testing.assert_allclose(result.table["rate"], [1 / 3, 1 / 4])
    np.testing.assert_allclose(result.table["expected"], [1 / 2, 1 / 4])


def test_the_table_counts_neighbours_of_the_very_class():
    # The second molecule lies beside one of its class "a", far from the "b".
    result = same_class_neighbors(
        [[0], [1], [9]], ["a", "a|b", "b"], n_neighbors=1, metric="euclidean", **FAST
    )
    assert list(result.molecules["rate"]) == [1, 1, 1]
    assert result.table["rate"].to_dict() == {"a": 1, "b": 0.5}


def test_embeddings_that_say_nothing_are_at_chance():
    """All tied: every score is the expected one, to rounding, and p is 1."""
    labels = ["a", "a", "a|b", "b", "c", "c", "d"]
    result = same_class_neighbors(np.ones((7, 3)), labels, n_neighbors=2, **FAST)
    assert result.rate == pytest.approx(result.expected)
    assert result.average_precision == pytest.approx(result.expected_average_precision)
    assert result.p_value == result.average_precision_p_value == 1
    np.testing.assert_allclose(
        result.table["average_precision"], result.table["expected_average_precision"]
    )


def test_expected_scores_are_the_mean_over_all_orders():
    """Three of six are of one class: two relevant ones among five others."""
    orders = list(itertools.permutations([1, 1, 0, 0, 0]))
    precisions = [
        np.mean([np.mean(hits[: r + 1]) for r, hit in enumerate(hits) if hit])
        for hits in orders
    ]
    rates = [np.mean(hits[:3]) for hits in orders]
    points = np.random.default_rng(0).normal(size=(6, 4))
    result = same_class_neighbors(points, list("aaabcd"), n_neighbors=3, **FAST)
    assert result.expected == pytest.approx(np.mean(rates))
    assert result.expected_average_precision == pytest.approx(np.mean(precisions))


def test_planted_classes_are_found_and_shuffled_ones_are_not():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(10), 6)
    centres = rng.normal(size=(10, 8))
    embeddings = centres[classes] + 0.3 * rng.normal(size=(60, 8))
    options = {**FAST, "n_permutations": 200}
    found = same_class_neighbors(embeddings, classes, **options)
    assert found.rate > 0.8
    assert found.p_value == found.average_precision_p_value == 1 / 201
    low, high = found.interval
    assert low <= found.rate <= high
    lost = same_class_neighbors(embeddings, rng.permutation(classes), **options)
    assert lost.p_value > 0.01
    assert lost.interval[0] < lost.expected < lost.interval[1]


def test_intervals_cover():
    """Of other draws of classes and molecules, the mean is in most intervals."""
    results = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        classes = rng.integers(40, size=150)
        molecules = rng.normal(size=(150, 8)) + 0.7 * rng.normal(size=(40, 8))[classes]
        options = {"n_permutations": 1, "n_resamples": 200, "random_state": seed}
        results.append(same_class_neighbors(molecules, classes, **options))
    for score, interval in (
        ("rate", "interval"),
        ("average_precision", "average_precision_interval"),
    ):
        mean = np.mean([getattr(result, score) for result in results])
        ends = np.array([getattr(result, interval) for result in results])
        assert np.mean((ends[:, 0] <= mean) & (mean <= ends[:, 1])) > 0.88


def test_whole_classes_are_resampled():
    embeddings = [[0], [1], [2], [9], [10], [50], [51]]
    labels = ["a", "a|b", "a", "b", "b|c", "c", "c"]
    result = same_class_neighbors(
        embeddings, labels, n_neighbors=2, metric="euclidean", **FAST
    )
    # Three molecules of each class; of several as large, the first by name.
    assert "".join(result.molecules["largest_class"]) == "aaabbcc"


def test_order_of_rows_does_not_matter(points):
    embeddings, labels = points
    rows = np.random.default_rng(1).permutation(len(labels))
    drugs = np.array([f"drug{i:02}" for i in range(len(labels))])
    first = same_class_neighbors(embeddings, labels, drugs=drugs, **FAST)
    second = same_class_neighbors(
        embeddings[rows], labels[rows], drugs=drugs[rows], **FAST
    )
    assert first.molecules.equals(second.molecules)
    assert (first.p_value, first.interval) == (second.p_value, second.interval)


def test_rows_of_one_drug_are_one_molecule():
    embeddings = [[0, 2], [2, 0], [5, 5], [9, 0], [1, 1]]
    drugs = ["x", "x", "y", "z", "w"]
    labels = ["a", "b", "a", "b", None]
    options = {"n_neighbors": 1, "metric": "euclidean", **FAST}
    got = same_class_neighbors(embeddings, labels, drugs=drugs, **options)
    same = same_class_neighbors([[1, 1], [5, 5], [9, 0]], ["a|b", "a", "b"], **options)
    assert list(got.molecules.index) == ["x", "y", "z"]
    np.testing.assert_array_equal(got.molecules, same.molecules)
    assert got.table.equals(same.table)


def test_unlabelled_rows_change_nothing(points):
    embeddings, labels = points
    labelled = np.array([bool(names) for names in classes_of(labels)])
    with_all = same_class_neighbors(embeddings, labels, **FAST)
    without = same_class_neighbors(embeddings[labelled], labels[labelled], **FAST)
    assert with_all.rate == without.rate
    assert with_all.p_value == without.p_value
    assert with_all.n_molecules == labelled.sum()


def test_sparse_fingerprints():
    bits = (np.random.default_rng(0).random((20, 30)) < 0.2).astype(np.uint8)
    labels = list("abcd") * 5
    dense = same_class_neighbors(bits, labels, metric="jaccard", **FAST)
    drugs = np.arange(20).astype(str)
    for kind in (sparse.csr_array, sparse.csr_matrix):
        got = same_class_neighbors(
            kind(bits), labels, drugs=drugs, metric="jaccard", **FAST
        )
        assert sorted(got.molecules["rate"]) == sorted(dense.molecules["rate"])
        assert got.rate == pytest.approx(dense.rate)


def test_seeds(points):
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    results = [
        same_class_neighbors(*points, n_permutations=50, random_state=seed)
        for seed in (0, 0, 1)
    ]
    results = [
        (result.average_precision_interval, result.p_value) for result in results
    ]
    assert results[0] == results[1] != results[2]
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_classes_of_a_row_are_joined_by_a_bar():
    labels = ["a|b", " a | ", "", None, float("nan"), "|", 3, "3", "b"]
    points = np.random.default_rng(0).normal(size=(9, 4))
    result = same_class_neighbors(points, labels, n_neighbors=1, **FAST)
    assert result.n_molecules == 5
    assert result.table["n_molecules"].to_dict() == {"3": 2, "a": 2, "b": 2}


@pytest.mark.parametrize("n_rows", [3, 7, 49])
def test_many_rows_of_one_drug_are_the_molecule(n_rows, points):
    embeddings, labels = points
    drugs = np.arange(40)
    for metric, X in (
        ("jaccard", (embeddings > 0.5).astype(float)),
        ("tanimoto", np.abs(embeddings).round()),
        ("euclidean", embeddings),
    ):
        alone = same_class_neighbors(X, labels, metric=metric, drugs=drugs, **FAST)
        many = same_class_neighbors(
            X.repeat(n_rows, 0),
            labels.repeat(n_rows),
            metric=metric,
            drugs=drugs.repeat(n_rows),
            **FAST,
        )
        assert many.rate == pytest.approx(alone.rate, rel=1e-9), metric
        assert many.interval == pytest.approx(alone.interval, rel=1e-9)
        np.testing.assert_allclose(
            many.molecules.iloc[:, :2], alone.molecules.iloc[:, :2]
        )


def test_all_are_of_one_class(points):
    result = same_class_neighbors(points[0], ["a"] * 40, **FAST)
    assert (result.rate, result.interval, result.p_value) == (1.0, (1.0, 1.0), 1.0)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"n_neighbors": 4}, "n_neighbors must be less than .* molecules, 4. Got 4"),
        ({"n_neighbors": 0}, "n_neighbors"),
        ({"metric": "manhattan"}, "metric"),
        ({"labels": list("abcd")}, "no two of one class"),
        ({"labels": [None] * 4}, "Got 0 labelled molecules"),
        ({"labels": [""] * 4}, "a class that two molecules share"),
        ({"labels": [np.nan] * 4}, "a class that two molecules share"),
        ({"labels": ["a", None, None, None]}, "a class that two molecules share"),
        ({"labels": list("aab")}, "inconsistent numbers of samples"),
        ({"drugs": ["x", None, "y", "z"]}, r"drugs must .* indices 1"),
        ({"embeddings": [[np.nan], [1], [2], [3]]}, "embeddings contains NaN"),
        ({"n_permutations": 0}, "n_permutations"),
    ],
)
def test_errors(change, match):
    good = {
        "embeddings": [[0], [1], [2], [3]],
        "labels": list("aabb"),
        "n_neighbors": 1,
        "metric": "euclidean",
    }
    with pytest.raises(ValueError, match=match):
        same_class_neighbors(**{**good, **change})


def test_change_is_paired():
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(8), 5)
    noise = rng.normal(size=(40, 6))
    after = noise + 2 * rng.normal(size=(8, 6))[classes]
    options = {"n_neighbors": 3, **FAST}
    change = neighbor_change(noise, after, classes, **options)
    for column, result in (("before", change.before), ("after", change.after)):
        assert change.table.loc["rate", column] == pytest.approx(result.rate)
        assert change.table.loc["average_precision", column] == pytest.approx(
            result.average_precision
        )
    table = change.table
    np.testing.assert_allclose(table["difference"], table["after"] - table["before"])
    assert (table["low"] > 0).all()
    assert (table["low"] < table["difference"]).all()
    assert (table["difference"] < table["high"]).all()


def test_no_change_has_an_empty_interval(points):
    embeddings, labels = points
    change = neighbor_change(embeddings, 2 * embeddings, labels, **FAST)
    np.testing.assert_allclose(change.table[["difference", "low", "high"]], 0)


def test_change_with_two_metrics(points):
    embeddings, labels = points
    bits = (embeddings > 0).astype(np.uint8)
    change = neighbor_change(
        bits, embeddings, labels, metric=("jaccard", "correlation"), **FAST
    )
    alone = same_class_neighbors(bits, labels, metric="jaccard", **FAST)
    assert change.before.rate == alone.rate
    with pytest.raises(ValueError, match=r"metric must be one, or a tuple of two, of"):
        neighbor_change(bits, embeddings, labels, metric=("jaccard", "no"))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        neighbor_change(bits[1:], embeddings, labels)


def test_real_mechanisms_are_found_by_fingerprints(level5_folder):
    from sklearn_molge.datasets import load_lincs
    from sklearn_molge.molecules import MorganFingerprinter

    study = load_lincs(level5_folder, level=5)
    first = np.unique(study.groups[:, 0], return_index=True)[1]
    fingerprints = MorganFingerprinter().fit_transform(study.smiles[first])
    result = same_class_neighbors(
        fingerprints, study.obs["moa"].iloc[first], metric="jaccard", **FAST
    )
    assert result.n_molecules > 500
    assert result.rate > 5 * result.expected
    assert result.p_value == 1 / 21


def test_labels_and_drugs_of_several_types_are_one():
    points = [[0.0], [0.1], [5.0], [5.1], [9.0], [9.3]]
    given = {"n_neighbors": 1, "metric": "euclidean", "random_state": 0}
    clean = same_class_neighbors(points, list("557799"), drugs=list("abcdef"), **given)
    mixed = same_class_neighbors(
        points, [5, "5 ", 7.0, "7", b"9", 9], drugs=list("abcdef"), **given
    )
    assert mixed.rate == clean.rate == 1
    with pytest.warns(UserWarning, match="drugs has labels that differ in type or in"):
        merged = same_class_neighbors(
            points, list("aabbcc"), drugs=[1, "1", "2 ", "2", 3, "4"], **given
        )
    # The two molecules of class c; of a and b there is one each.
    assert merged.molecules.index.tolist() == ["3", "4"]


def test_memory_does_not_grow_with_the_square_of_the_molecules():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 300, 4000).astype(str)
    options = {**FAST, "n_permutations": 2}
    tracemalloc.start()
    same_class_neighbors(rng.normal(size=(4000, 5)), labels, **options)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 4000**2  # an order of all pairs


@pytest.mark.parametrize("kind", [bool, np.uint8, sparse.csr_array])
def test_bits_of_any_kind_have_the_same_neighbours(kind):
    rng = np.random.default_rng(0)
    bits = (rng.random((60, 30)) < 0.3).astype(float)
    labels = rng.integers(0, 9, 60).astype(str)
    options = {"metric": "jaccard", **FAST}
    expected = same_class_neighbors(bits, labels, **options)
    given = kind(bits) if kind is sparse.csr_array else bits.astype(kind)
    found = same_class_neighbors(given, labels, **options)
    assert found.p_value == expected.p_value
    assert found.molecules.equals(expected.molecules)
    assert found.table.equals(expected.table)


def test_permutations_in_parts_are_the_same(points, monkeypatch):
    embeddings, labels = points
    expected = same_class_neighbors(embeddings, labels, **FAST)
    for name in ("_MOST_DEALT", "_PAIRS"):
        monkeypatch.setattr(f"sklearn_molge.inspection._neighbors.{name}", 100)
    found = same_class_neighbors(embeddings, labels, **FAST)
    assert found.p_value == expected.p_value
    assert found.average_precision_p_value == expected.average_precision_p_value
    assert found.interval == expected.interval
