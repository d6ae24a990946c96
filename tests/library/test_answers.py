from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from sklearn_molge._utils.rows import group_means
from sklearn_molge.molecules import drug_ids
from sklearn_molge.retrieval._index._background import Background
from sklearn_molge.retrieval._index._conditions import combine_queries
from sklearn_molge.retrieval._index._search import top_k
from sklearn_molge.retrieval._index._store import VectorStore
from sklearn_molge.retrieval._index._table import answer_table

SMILES = np.array(["CCO", "CC[NH3+]", "c1ccccc1O", "CC(=O)O", "CCCCCC"], dtype=object)
NAMES = np.array(["ethanol", "", "phenol", "acetic acid", "hexane"], dtype=object)


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


@pytest.fixture
def store(vectors):
    store = VectorStore.create(
        None, n_components=4, dtype="float32", metric="correlation", identity={}
    )
    store.append(vectors, SMILES, NAMES, drug_ids(SMILES))
    return store


@pytest.fixture
def queries():
    return np.random.default_rng(1).normal(size=(2, 4)).astype(np.float32)


def test_one_row_an_answer(store, queries):
    scores, rows = top_k(store, queries, 3)
    table = answer_table(store, scores, rows, labels=["a", "b"])
    assert list(table) == [
        "query", "rank", "molecule", "name", "drug", "score", "row",
    ]  # fmt: skip
    assert table["query"].tolist() == ["a"] * 3 + ["b"] * 3
    assert table["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    np.testing.assert_array_equal(table["row"], rows.ravel())
    np.testing.assert_array_equal(table["molecule"], SMILES[rows.ravel()])
    np.testing.assert_array_equal(table["name"], NAMES[rows.ravel()])
    np.testing.assert_array_equal(table["drug"], drug_ids(SMILES)[rows.ravel()])
    np.testing.assert_array_equal(table["score"], scores.ravel())
    assert table.attrs == {"metric": "correlation", "reverse": False}


def test_queries_are_numbered_without_labels(store, queries):
    table = answer_table(store, *top_k(store, queries, 2))
    assert table["query"].tolist() == [0, 0, 1, 1]
    labels = pd.Index(["x", "y"], name="profile")
    table = answer_table(store, *top_k(store, queries, 2), labels=labels)
    assert table["query"].tolist() == ["x", "x", "y", "y"]


def test_drugs_are_computed_where_ids_are_not(vectors, queries):
    store = VectorStore.create(
        None, n_components=4, dtype="float32", metric="correlation", identity={}
    )
    store.append(vectors, SMILES, NAMES, None)
    table = answer_table(store, *top_k(store, queries, 5), ids_are_drugs=False)
    np.testing.assert_array_equal(table["drug"], drug_ids(table["molecule"]))


@pytest.mark.parametrize("reverse", [False, True])
def test_columns_of_the_background(store, queries, reverse):
    known = np.random.default_rng(2).normal(size=(9, 4)).astype(np.float32)
    training = ["CCCO", "OC(C)=O", "CCN"]
    background = Background.make(known, training)
    scores, rows = top_k(store, queries, 5, reverse=reverse)
    table = answer_table(store, scores, rows, background=background, reverse=reverse)
    assert list(table)[5:] == [
        "score", "percentile", "nearest_training", "nearest_similarity",
        "in_training", "row",
    ]  # fmt: skip
    expected = background.percentiles(store, scores, rows, reverse=reverse)
    np.testing.assert_array_equal(table["percentile"], expected.ravel())
    # Ethylamine is the charged one's drug, acetic acid's spelling another.
    known_drugs = set(drug_ids(training))
    assert table["in_training"].tolist() == [d in known_drugs for d in table["drug"]]
    assert table.loc[table["in_training"], "row"].nunique() == 2
    acid = table[table["name"] == "acetic acid"]
    assert (acid["nearest_training"] == "OC(C)=O").all()
    assert (acid["nearest_similarity"] == 1).all()
    assert table.attrs["reverse"] == reverse


def test_columns_of_what_is_not_known_are_absent(store, queries):
    known = np.ones((3, 4), dtype=np.float32).cumsum(axis=1)
    table = answer_table(
        store, *top_k(store, queries, 2), background=Background.make(known)
    )
    assert "percentile" in table
    assert not {"nearest_training", "nearest_similarity", "in_training"} & set(table)
    background = Background.make(None, ["CCO"])
    table = answer_table(store, *top_k(store, queries, 2), background=background)
    assert "percentile" not in table
    assert "in_training" in table


def test_pictures_on_request(store, queries):
    table = answer_table(store, *top_k(store, queries, 5), pictures=True)
    assert list(table)[-1] == "structure"
    assert table["structure"].nunique() == 5
    for svg in table["structure"]:
        assert ElementTree.fromstring(svg).tag.endswith("svg")


# Several profiles of one condition.


def test_conditions_are_means_in_the_joint_space(vectors):
    groups = ["b", "a", "b", "c", "a"]
    combined, labels = combine_queries(vectors, groups)
    assert labels.tolist() == ["a", "b", "c"]
    assert combined.dtype == np.float32
    expected = [vectors[[1, 4]].mean(0), vectors[[0, 2]].mean(0), vectors[3]]
    np.testing.assert_allclose(combined, expected, rtol=1e-6)
    codes = np.array([1, 0, 1, 2, 0])
    np.testing.assert_array_equal(
        combined, group_means(vectors, codes).astype(np.float32)
    )


def test_conditions_do_not_depend_on_order(vectors):
    groups = np.array([10, 9, 10, 9, 9])
    combined, labels = combine_queries(vectors, groups)
    assert labels.tolist() == [9, 10]
    order = np.array([4, 2, 0, 3, 1])
    again, _ = combine_queries(vectors[order], groups[order])
    np.testing.assert_allclose(again, combined, rtol=1e-6)


def test_single_profiles_stay_as_they_are(vectors):
    combined, labels = combine_queries(vectors, pd.Series(list("vwxyz")))
    np.testing.assert_array_equal(combined, vectors)
    assert labels.tolist() == list("vwxyz")


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["a", None, "b", "b", "a"], r"Missing in rows \[1\]"),
        ([1.0, np.nan, 1.0, 1.0, np.nan], r"Missing in rows \[1, 4\]"),
        (["a", "b"], "inconsistent numbers of samples"),
        (
            np.array(["a", 1, "b", 2, 3], dtype=object),
            r"of one kind. Got \['int', 'str'\]",
        ),
    ],
)
def test_bad_conditions(vectors, groups, message):
    with pytest.raises(ValueError, match=message):
        combine_queries(vectors, groups)


def test_conditions_of_a_list_do_not_become_texts(vectors):
    with pytest.raises(ValueError, match=r"Missing in rows \[1\]"):
        combine_queries(vectors, ["a", float("nan"), "b", "b", "a"])
    with pytest.raises(ValueError, match=r"of one kind. Got \['int', 'str'\]"):
        combine_queries(vectors, ["1", 1, "b", "b", "a"])
