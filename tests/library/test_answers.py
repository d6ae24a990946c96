"""The table of answers: against slow loops, RDKit and the library's own functions."""

import pickle
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.metrics import pairwise_similarity
from sklearn_molge.molecules import drug_ids

SMILES = np.array(["CCO", "CC[NH3+]", "c1ccccc1O", "CC(=O)O", "CCCCCC"], dtype=object)
NAMES = ["ethanol", "", "phenol", "acetic acid", "hexane"]
TRAINING = np.array(
    ["CCO", "CCN", "c1ccccc1O", "CC(=O)O", "CCCCCC", "C#N"], dtype=object
)
METRICS = ["correlation", "cosine", "dot", "euclidean"]


def alkanes(n):
    return ["C" * (i + 1) for i in range(n)]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    vectors, known, queries = (rng.normal(size=(n, 6)) for n in (30, 40, 7))
    return [v.astype(np.float32) for v in (vectors, known, queries)]


@pytest.fixture
def index(index_of):
    vectors = np.random.default_rng(0).normal(size=(5, 4))
    index = index_of(vectors, texts=SMILES, unique_by="drug")
    return MoleculeIndex(index.estimator).fit(SMILES, names=NAMES)


@pytest.fixture
def queries():
    return np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)


# The table


def test_one_row_an_answer(index, queries):
    _, rows = index.kneighbors(queries, 3)
    table = index.query(pd.DataFrame(queries, index=["a", "b"]), 3)
    assert list(table) == [
        "query", "rank", "molecule", "name", "drug", "score",
        "p_value", "query_p_value", "query_q_value", "better_than_noise",
        "library", "library_row", "index_row",
    ]  # fmt: skip
    assert table["query"].tolist() == ["a"] * 3 + ["b"] * 3
    assert table["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    np.testing.assert_array_equal(table["index_row"], rows.ravel())
    np.testing.assert_array_equal(table["molecule"], SMILES[rows.ravel()])
    assert table["name"].tolist() == [NAMES[row] for row in rows.ravel()]
    np.testing.assert_array_equal(table["drug"], drug_ids(SMILES)[rows.ravel()])
    scores = index.similarity_to_rows(queries, range(5))
    expected = np.take_along_axis(scores, rows, axis=1)
    np.testing.assert_allclose(table["score"], expected.ravel(), rtol=1e-6)
    assert table.attrs == {
        "metric": "correlation", "reverse": False, "model": "Points",
        "n_molecules": 5, "n_skipped": 0, "n_permutations": 999, "level": 0.05,
    }  # fmt: skip


def test_queries_are_numbered_without_names(index, queries):
    assert index.query(queries, 2)["query"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("unique_by", ["smiles", None])
def test_drugs_are_computed_where_the_index_has_none(index, queries, unique_by):
    other = MoleculeIndex(index.estimator, unique_by=unique_by).fit(SMILES)
    table = other.query(queries, 5)
    np.testing.assert_array_equal(table["drug"], drug_ids(table["molecule"]))


def test_pictures_on_request(index, queries):
    table = index.query(queries, 5, pictures=True)
    assert list(table)[-1] == "structure"
    assert table["structure"].nunique() == 5
    for svg in table["structure"]:
        assert ElementTree.fromstring(svg).tag.endswith("svg")


@pytest.mark.parametrize("reverse", [False, True])
def test_columns_of_the_background(index, queries, reverse):
    known = np.random.default_rng(2).normal(size=(9, 4))
    training = ["CCCO", "OC(C)=O", "CCN"]
    index.calibrate(training, known)
    table = index.query(queries, 5, reverse=reverse)
    assert list(table)[10:] == [
        "percentile", "nearest_training", "nearest_similarity",
        "in_training", "library", "library_row", "index_row",
    ]  # fmt: skip
    # Ethylamine is the charged one's drug, acetic acid's spelling another.
    known_drugs = set(drug_ids(training))
    assert table["in_training"].tolist() == [d in known_drugs for d in table["drug"]]
    assert table.loc[table["in_training"], "index_row"].nunique() == 2
    acid = table[table["name"] == "acetic acid"]
    assert (acid["nearest_training"] == "OC(C)=O").all()
    assert (acid["nearest_similarity"] == 1).all()
    assert table.attrs["reverse"] == reverse


# Percentiles


def slow_percentiles(scores, known, rows):
    """Count, for each answer, the background's lower scores with its molecule."""
    out = np.empty(rows.shape)
    for query, row in np.ndindex(*rows.shape):
        column, score = known[:, rows[query, row]], scores[query, row]
        tied = np.isclose(column, score, rtol=1e-6, atol=1e-7)
        below = (column < score) & ~tied
        out[query, row] = 100 * (below.sum() + 0.5 * tied.sum()) / len(column)
    return out


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("reverse", [False, True])
def test_percentiles_equal_a_slow_loop(data, metric, reverse, index_of):
    vectors, known, queries = data
    index = index_of(vectors, metric, texts=alkanes(30)).calibrate(y=known)
    table = index.query(queries, 5, reverse=reverse)
    expected = slow_percentiles(
        table["score"].to_numpy().reshape(7, 5),
        pairwise_similarity(known, vectors, metric=metric),
        table["index_row"].to_numpy().reshape(7, 5),
    )
    np.testing.assert_allclose(table["percentile"], expected.ravel(), atol=1e-9)


def test_percentiles_of_many_profiles_are_made_in_blocks(data, index_of):
    vectors, known, queries = data
    index = index_of(vectors, texts=alkanes(30)).calibrate(y=known)
    expected = index.query(queries, 30)["percentile"]
    index.calibrate(y=np.tile(known, (10_000, 1)))  # ten molecules are a block
    np.testing.assert_allclose(index.query(queries, 30)["percentile"], expected)


def test_percentiles_by_hand(index_of):
    index = index_of([[1.0, 0.0], [0.0, 1.0]], "dot", texts=alkanes(2))
    index.calibrate(y=np.array([[1.0, 5], [2, 5], [2, 5], [4, 5]]))
    queries = np.array([[2.0, 6.0], [0.5, 5.0]])
    expected = [[50, 100], [0, 50]]
    for reverse in (False, True):  # of a low score it is low, whatever is asked for
        table = index.query(queries, 2, reverse=reverse)
        for query in (0, 1):
            rows = table[table["query"] == query].set_index("index_row")
            assert rows["percentile"][[0, 1]].tolist() == expected[query]


def test_a_query_of_the_background_ties_with_itself(data, index_of):
    vectors, known, _ = data
    index = index_of(vectors, texts=alkanes(30)).calibrate(y=known)
    table = index.query(known, 30)
    counts = table["percentile"] * len(known) / 100
    np.testing.assert_allclose(counts % 1, 0.5)
    # All of the background with one molecule: each percentile comes once.
    for _, of_row in counts.groupby(table["index_row"]):
        np.testing.assert_allclose(np.sort(of_row), np.arange(40) + 0.5)


def test_no_queries(data, index_of):
    index = index_of(data[0], texts=alkanes(30)).calibrate(TRAINING, data[1])
    assert len(index.query(np.empty((0, 6)), 3)) == 0


# The training set


def rdkit_bits(smiles):
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    return [generator.GetFingerprint(Chem.MolFromSmiles(s)) for s in smiles]


def test_nearest_training_molecule_is_rdkits(index_of):
    asked = np.array(["CCCO", "CCO", "Oc1ccccc1C", "[Na+].[Cl-]"], dtype=object)
    index = index_of(np.eye(4), "dot", texts=asked)
    table = index.calibrate(TRAINING).query(np.eye(4)[:1], 4)
    known = np.unique(TRAINING)
    for i, bits in enumerate(rdkit_bits(asked)):
        expected = DataStructs.BulkTanimotoSimilarity(bits, rdkit_bits(known))
        assert table["nearest_similarity"][i] == max(expected)
        assert table["nearest_training"][i] == known[np.argmax(expected)]
    assert table["nearest_similarity"][1] == 1
    order = np.array([5, 3, 3, 1, 0, 4, 2, 2])
    again = index.calibrate(TRAINING[order].tolist()).query(np.eye(4)[:1], 4)
    pd.testing.assert_frame_equal(again, table)


def test_bad_calibration(index, queries):
    with pytest.raises(InvalidSmilesError, match="index 1: '-666'"):
        index.calibrate(["CCO", "-666"])
    with pytest.raises(ValueError, match="X, y or both must be given"):
        index.calibrate()
    assert "in_training" not in index.query(queries, 1)


@pytest.mark.parametrize("which", ["profiles", "molecules", "both"])
def test_a_calibration_is_stored_and_pickled(data, index_of, tmp_path, which):
    vectors, known, queries = data
    index = index_of(vectors, texts=alkanes(30), folder=tmp_path / "index")
    index.calibrate(["C#N"], queries)  # to be replaced
    index.calibrate(
        None if which == "profiles" else TRAINING,
        None if which == "molecules" else known,
    )
    expected = index.query(queries, 5)
    assert ("percentile" in expected) == (which != "molecules")
    assert ("in_training" in expected) == (which != "profiles")
    opened = MoleculeIndex.open(tmp_path / "index")
    for copy in (opened, pickle.loads(pickle.dumps(index))):
        pd.testing.assert_frame_equal(copy.query(queries, 5), expected)


# Several profiles of one condition


def test_conditions_are_means_in_the_joint_space(index):
    profiles = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    table = index.query(profiles, 5, groups=["b", "a", "b", "c", "a"])
    assert table["query"].tolist() == ["a"] * 5 + ["b"] * 5 + ["c"] * 5
    means = [profiles[[1, 4]].mean(0), profiles[[0, 2]].mean(0), profiles[3]]
    expected = index.query(pd.DataFrame(means, index=list("abc")), 5)
    np.testing.assert_allclose(table["score"], expected["score"], rtol=1e-5)
    order = np.array([4, 2, 0, 3, 1])
    again = index.query(profiles[order], 5, groups=list("abbca"))
    assert set(again["query"]) == {"a", "b", "c"}


def test_conditions_do_not_depend_on_order(index):
    profiles = np.random.default_rng(3).normal(size=(5, 4)).astype(np.float32)
    groups = np.array([10, 9, 10, 9, 9])
    table = index.query(profiles, 5, groups=groups)
    assert table["query"].tolist() == [9] * 5 + [10] * 5
    order = np.array([4, 2, 0, 3, 1])
    again = index.query(profiles[order], 5, groups=groups[order])
    np.testing.assert_allclose(again["score"], table["score"], rtol=1e-5)


def test_single_profiles_stay_as_they_are(index, queries):
    table = index.query(queries, 5, groups=pd.Series(["v", "w"]))
    expected = index.query(queries, 5)
    np.testing.assert_array_equal(table["score"], expected["score"])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["a", None, "b", "b", "a"], r"Missing in rows \[1\]"),
        (["a", float("nan"), "b", "b", "a"], r"Missing in rows \[1\]"),
        ([1.0, np.nan, 1.0, 1.0, np.nan], r"Missing in rows \[1, 4\]"),
        (["a", "b"], "inconsistent numbers of samples"),
        (["1", 1, "b", "b", "a"], r"of one kind. Got \['int', 'str'\]"),
        (
            np.array(["a", 1, "b", 2, 3], dtype=object),
            r"of one kind. Got \['int', 'str'\]",
        ),
    ],
)
def test_bad_conditions(index, groups, message):
    with pytest.raises(ValueError, match=message):
        index.query(np.ones((5, 4)).cumsum(axis=1), 2, groups=groups)


def test_two_queries_of_one_name_are_refused(index, queries):
    profiles = pd.DataFrame(queries, index=["a", "a"])
    with pytest.raises(ValueError, match="More than once: 'a'"):
        index.query(profiles, 3)
    assert (
        index.query(profiles, 3, groups=profiles.index)["query"].tolist() == ["a"] * 3
    )
