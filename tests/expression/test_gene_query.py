import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.utils import check_array

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import load_lincs
from sklearn_molge.exceptions import GeneNamesWarning
from sklearn_molge.expression import profile_from_genes

GENES = pd.DataFrame(
    {
        "gene_id": [7157, 4609, 1956, 596, 1017],
        "symbol": ["TP53", "MYC", "EGFR", "BCL2", "CDK2"],
    }
)


def test_up_and_down_genes_by_symbol_and_id():
    query = profile_from_genes(
        GENES, up=["tp53", " 4609 "], down=[1956, "Bcl2"], scale=2
    )
    np.testing.assert_array_equal(query.profile, [[2, 2, -2, -2, 0]])
    assert query.profile.dtype == np.float32
    assert query.missing.empty
    assert query.found["part"].tolist() == ["up", "up", "down", "down"]
    assert query.found["entry"].tolist() == ["tp53", " 4609 ", 1956, "Bcl2"]
    assert query.found["column"].tolist() == [0, 1, 2, 3]
    assert query.found["gene_id"].tolist() == [7157, 4609, 1956, 596]
    assert query.found["symbol"].tolist() == ["TP53", "MYC", "EGFR", "BCL2"]
    assert query.found["value"].tolist() == [2, 2, -2, -2]


@pytest.mark.parametrize(
    "up",
    [
        [7157],
        (7157.0,),
        np.array([7157]),
        pd.Series(["7157"]),
        pd.Index(["7157.0"]),
        {"TP53"},
        iter(["TP53"]),
        {"TP53": 1}.keys(),
    ],
)
def test_lists_of_any_kind(up):
    profile = profile_from_genes(GENES, up=up, scale=0.5).profile
    np.testing.assert_array_equal(profile, [[0.5, 0, 0, 0, 0]])


def test_one_side_is_enough():
    profile = profile_from_genes(GENES, down=["MYC"], scale=2.0).profile
    np.testing.assert_array_equal(profile, [[0, -2, 0, 0, 0]])


def test_scale_makes_the_root_mean_square_one():
    with pytest.warns(UserWarning, match="1 of 2 down genes"):
        query = profile_from_genes(GENES, up=["TP53"], down=["MYC", "X"])
    expected = np.sqrt(5 / 2) * np.array([[1, -1, 0, 0, 0]])
    np.testing.assert_allclose(query.profile, expected, rtol=1e-6)
    np.testing.assert_allclose(np.mean(query.profile**2), 1, rtol=1e-6)


@pytest.mark.parametrize("name", ["gene_id", "symbol"])
def test_genes_may_have_one_kind_of_name(name):
    entry = {"gene_id": 4609, "symbol": "MYC"}[name]
    query = profile_from_genes(GENES[[name]], up=[entry], scale=2)
    assert query.profile[0, 1] == 2
    assert list(query.found) == ["part", "entry", "column", name, "how", "value"]


def test_missing_genes_are_counted_and_named():
    with pytest.warns(
        UserWarning, match="Not among the 5 genes of a profile"
    ) as record:
        query = profile_from_genes(
            GENES, up=["TP53", "AARS1", 99], down=["X1", "MYC"], scale=2
        )
    (warning,) = record
    text = str(warning.message)
    assert "2 of 3 up genes (AARS1, 99); 1 of 2 down genes (X1)" in text
    assert warning.filename == __file__
    assert query.missing["part"].tolist() == ["up", "up", "down"]
    assert query.missing["entry"].tolist() == ["AARS1", 99, "X1"]
    assert repr(query) == (
        "GeneQuery: 1 of 3 up genes found, 1 of 2 down genes found (5 in a profile)"
    )
    np.testing.assert_array_equal(query.profile, [[2, -2, 0, 0, 0]])


def test_a_whole_side_may_be_missing():
    with pytest.warns(UserWarning, match="2 of 2 down genes"):
        query = profile_from_genes(GENES, up=["TP53"], down=["A1", "A2"])
    assert "0 of 2 down genes found" in repr(query)


def test_many_missing_genes_are_not_all_named():
    with pytest.warns(UserWarning, match=r"G19 and 1,480 more\)"):
        query = profile_from_genes(GENES, up=["MYC", *(f"G{i}" for i in range(1500))])
    assert len(query.missing) == 1500


def test_nothing_found():
    with pytest.raises(
        ValueError, match=r"None of the 1 genes.*7157, 4609, 1956.*TP53.*ENSG000001"
    ):
        profile_from_genes(GENES, up=["ENSG000001"])
    with pytest.raises(ValueError, match="At least one gene must be given"):
        profile_from_genes(GENES, up=[], down=[])


def test_a_gene_in_both_sets():
    with pytest.raises(ValueError, match=r"In both: TP53, MYC\."):
        profile_from_genes(GENES, up=["TP53", "MYC"], down=[4609, 7157, "EGFR"])


def test_a_gene_twice_in_a_set_counts_once():
    with pytest.warns(UserWarning, match="came before; it counts once: 7157") as r:
        query = profile_from_genes(GENES, up=["TP53", "MYC", 7157], scale=2)
    assert r[0].filename == __file__
    assert query.found["entry"].tolist() == ["TP53", "MYC"]
    np.testing.assert_array_equal(query.profile, [[2, 2, 0, 0, 0]])


def test_a_symbol_of_two_genes_needs_the_id():
    genes = pd.DataFrame({"gene_id": [1, 2, 3], "symbol": ["A", "a", "B"]})
    with pytest.raises(ValueError, match=r"'A' is the name of 2 genes.*rows 0, 1;"):
        profile_from_genes(genes, up=["A"])
    np.testing.assert_array_equal(
        profile_from_genes(genes, up=[2], scale=2).profile, [[0, 2, 0]]
    )


def test_unnamed_genes_are_not_found_by_accident():
    genes = pd.DataFrame({"gene_id": [1.0, np.nan, 3.0], "symbol": [None, "", "B"]})
    np.testing.assert_array_equal(
        profile_from_genes(genes, up=[1, "b"], scale=2).profile, [[2, 0, 2]]
    )


# Ranked lists.


def test_ranked_list_gives_blom_scores():
    profile = profile_from_genes(
        GENES, ranked=["EGFR", "BCL2", "TP53", "CDK2", "MYC"]
    ).profile
    places = np.array([3, 1, 5, 4, 2])  # from the most down
    expected = norm.ppf((places - 0.375) / 5.25)
    np.testing.assert_allclose(profile[0], expected, rtol=1e-6)
    np.testing.assert_allclose(profile.max(), 1.179761, rtol=1e-6)


def test_places_are_those_among_the_genes_found():
    with pytest.warns(UserWarning, match="2 of 5 ranked genes"):
        query = profile_from_genes(GENES, ranked=["A1", "MYC", "A2", "TP53", "BCL2"])
    expected = norm.ppf((np.array([2, 3, 1]) - 0.375) / 3.25) * np.sqrt(5 / 3)
    np.testing.assert_allclose(query.profile[0, [0, 1, 3]], expected, atol=1e-7)
    np.testing.assert_array_equal(query.profile[0, [2, 4]], 0)
    assert repr(query) == "GeneQuery: 3 of 5 ranked genes found (5 in a profile)"


@pytest.mark.parametrize("kind", [pd.Series, dict])
def test_scores_are_ranked_with_ties(kind):
    scores = kind({"TP53": 9.0, "MYC": -1.0, "BCL2": -1.0, 1956: 100.0})
    profile = profile_from_genes(GENES, ranked=scores).profile
    places = np.array([3, 1.5, 4, 1.5])
    expected = norm.ppf((places - 0.375) / 4.25) * np.sqrt(5 / 4)
    np.testing.assert_allclose(profile[0, :4], expected, rtol=1e-6)


@given(st.lists(st.floats(-100, 100), min_size=5, max_size=5, unique=True))
def test_scores_and_list_agree(scores):
    series = pd.Series(scores, index=GENES["symbol"])
    by_score = profile_from_genes(GENES, ranked=series).profile
    ordered = series.sort_values(ascending=False).index
    by_place = profile_from_genes(GENES, ranked=list(ordered)).profile
    np.testing.assert_array_equal(by_score, by_place)
    turned = profile_from_genes(GENES, ranked=list(ordered[::-1])).profile
    np.testing.assert_allclose(turned, -by_place, atol=1e-6)


def test_a_gene_twice_in_a_ranking():
    with pytest.raises(ValueError, match=r"ranked must hold each gene once.*MYC, 4609"):
        profile_from_genes(GENES, ranked=["MYC", "TP53", 4609])


@pytest.mark.parametrize("ranked", [["MYC"], {"MYC": 1.0, "TP53": 1.0}])
def test_a_ranking_without_order(ranked):
    with pytest.raises(ValueError, match="all at the same place"):
        profile_from_genes(GENES, ranked=ranked)


# Partial profiles.


@pytest.mark.parametrize("kind", [pd.Series, dict])
def test_partial_profile(kind):
    values = kind({"MYC": -1.5, "7157": 3.25})
    query = profile_from_genes(GENES, values=values, scale=7.0)
    np.testing.assert_array_equal(query.profile, [[3.25, -1.5, 0, 0, 0]])
    assert repr(query) == "GeneQuery: 2 of 2 genes given found (5 in a profile)"


def test_partial_profile_with_missing_and_repeated_genes():
    with pytest.warns(UserWarning, match=r"1 of 2 genes given \(A1\)"):
        profile_from_genes(GENES, values={"A1": 1.0, "MYC": 2.0})
    with pytest.warns(GeneNamesWarning, match="the mean of its values is taken: MYC"):
        query = profile_from_genes(GENES, values={"myc": 1.0, "MYC": 4.0, "TP53": 1})
    np.testing.assert_array_equal(query.profile, [[1, 2.5, 0, 0, 0]])
    assert query.found["entry"].tolist() == ["myc", "TP53"]


RESULTS = pd.DataFrame({"gene": ["MYC", "TP53"], "z": [-1.5, 3.25], "p": [0.1, 0.2]})


@pytest.mark.parametrize(
    "table",
    [
        RESULTS[["gene", "z"]],
        RESULTS.set_index("gene")[["z"]],
        pd.DataFrame({"id": [4609, 7157], "z": [-1.5, 3.25]}),
        pd.DataFrame({"id": ["ENSG00000136997.20", "TP53"], "z": [-1.5, 3.25]}),
    ],
)
def test_a_table_of_values(table):
    query = profile_from_genes(GENES, values=table)
    np.testing.assert_array_equal(query.profile, [[3.25, -1.5, 0, 0, 0]])
    ranked = profile_from_genes(GENES, ranked=table, scale=1.0)
    assert ranked.profile[0, 0] > 0 > ranked.profile[0, 1]


@pytest.mark.parametrize(
    "table",
    [RESULTS, RESULTS[["z", "gene"]], RESULTS.T, RESULTS[[]]],
)
def test_other_tables_are_refused(table):
    with pytest.raises(ValueError, match="values must be a DataFrame of one column"):
        profile_from_genes(GENES, values=table)


def test_values_and_names_that_are_missing():
    table = pd.DataFrame(
        {"gene": ["MYC", "TP53", np.nan, "", "A1"], "z": [np.nan, 2.0, 1.0, 1.0, 1.0]}
    )
    message = (
        r"Not among the 5 genes of a profile, or without a value \(1\): 4 of 5 genes"
    )
    with pytest.warns(GeneNamesWarning, match=message):
        query = profile_from_genes(GENES, values=table)
    np.testing.assert_array_equal(query.profile, [[2, 0, 0, 0, 0]])
    assert query.missing["why"].tolist() == [
        "no value", "unknown", "unknown", "unknown"
    ]  # fmt: skip


def test_names_of_today_and_earlier():
    genes = pd.DataFrame({"gene_id": [16, 4735], "symbol": ["AARS", "SEPT2"]})
    query = profile_from_genes(genes, up=["AARS1"], down=["ENSG00000168385"], scale=1)
    np.testing.assert_array_equal(query.profile, [[1, -1]])
    assert query.found["how"].tolist() == ["current symbol", "Ensembl id"]
    assert query.found["symbol"].tolist() == ["AARS", "SEPT2"]
    with pytest.warns(GeneNamesWarning, match="may mean another: 2-Sep as SEPT2"):
        query = profile_from_genes(genes, up=["2-Sep"])
    assert query.found["how"].tolist() == ["date"]


def test_the_genes_of_an_estimator():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 4)), rng.normal(size=(20, 5))
    fitted = CCA(3, ridge=0.1).fit(X, pd.DataFrame(y, columns=GENES["symbol"]))
    query = profile_from_genes(fitted, up=["TP53"], down=[1017], scale=2)
    np.testing.assert_array_equal(query.profile, [[2, 0, 0, 0, -2]])
    assert query.found["gene_id"].tolist() == [7157, 1017]
    fitted.similarity(X, query)


# What is not a query.


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "Got none of them"),
        ({"up": ["MYC"], "ranked": ["MYC"]}, "Got up and down, ranked"),
        ({"ranked": ["MYC"], "values": {"MYC": 1}}, "Got ranked, values"),
        ({"up": "MYC"}, "up must be a list of genes. Got the text 'MYC'"),
        ({"up": 4609}, "up must be a list of genes"),
        ({"up": GENES}, "up must be a list of genes"),
        ({"up": ["MYC", None]}, "Got None at place 1"),
        ({"up": ["MYC", np.nan]}, "Got nan at place 1"),
        ({"up": [" "]}, "Got ' ' at place 0"),
        ({"up": [True]}, "Got True at place 0"),
        ({"up": [1.5]}, "Got 1.5 at place 0"),
        ({"ranked": {"MYC", "TP53"}}, "ranked must be a list of genes in order"),
        ({"ranked": pd.Series([4609, 7157])}, "genes as its index"),
        ({"values": pd.Series([1.0, 2.0])}, "genes as its index"),
        ({"values": [1.0, 2.0]}, "values must be a mapping"),
        ({"values": pd.Series(["MYC"])}, "values must be a mapping"),
        ({"values": {"MYC": np.inf, "TP53": 1}}, "1 genes: MYC"),
        ({"ranked": {"MYC": np.inf, "TP53": 1}}, "ranked must be finite"),
        ({"values": {"MYC": 0.0}}, "all at the same place"),
        ({"up": ["MYC"], "scale": 0}, "'scale' parameter"),
        ({"up": ["MYC"], "scale": "big"}, "'scale' parameter"),
    ],
)
def test_bad_queries(asked, message):
    with pytest.raises(ValueError, match=message):
        profile_from_genes(GENES, **asked)


@pytest.mark.parametrize("genes", [GENES.rename(columns=str.upper), GENES[:0]])
def test_bad_genes(genes):
    with pytest.raises(ValueError, match="genes must have rows, and a column"):
        profile_from_genes(genes, up=["MYC"])


def test_genes_are_a_table_or_names():
    with pytest.raises(ValueError, match="'genes' parameter"):
        profile_from_genes("MYC", up=["MYC"])
    profile = profile_from_genes(["MYC", "TP53"], up=["MYC"], scale=1).profile
    np.testing.assert_array_equal(profile, [[1, 0]])


# As a profile.


def test_it_is_an_array():
    query = profile_from_genes(GENES, up=["MYC"])
    assert np.asarray(query) is query.profile
    assert np.asarray(query, dtype=np.float64).dtype == np.float64
    assert np.array(query) is not query.profile
    assert len(query) == 1
    assert query.shape == (1, len(GENES))  # what transformers look at
    checked = check_array(query, dtype=[np.float64, np.float32])
    np.testing.assert_array_equal(checked, query.profile)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(query)), query)


def test_real_genes(level5_folder):
    study = load_lincs(level5_folder, level=5)
    profile = study.ge[0]
    symbols = study.genes["symbol"].to_numpy()
    order = np.argsort(-profile, kind="stable")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        query = profile_from_genes(
            study.genes, up=symbols[order[:50]], down=symbols[order[-50:]]
        )
        whole = profile_from_genes(
            study.genes, values=pd.Series(profile, index=study.genes["gene_id"])
        )
    np.testing.assert_array_equal(np.flatnonzero(query.profile > 0), sorted(order[:50]))
    np.testing.assert_array_equal(
        np.flatnonzero(query.profile < 0), sorted(order[-50:])
    )
    np.testing.assert_array_equal(whole.profile[0], profile)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"up": {"MYC": -3.0}}, r"up must be a list of genes. Got a <class 'dict'>"),
        ({"values": {"MYC": "high"}}, "values must map genes to numbers.*'high'"),
        ({"values": {}}, "At least one gene must be given"),
        ({"ranked": {}}, "At least one gene must be given"),
    ],
)
def test_numbers_are_neither_ignored_nor_made_up(asked, message):
    with pytest.raises(ValueError, match=message):
        profile_from_genes(GENES, **asked)


def test_the_gene_of_id_0():
    genes = pd.DataFrame({"gene_id": [1, 0]})
    profile = profile_from_genes(genes, up=[0], scale=1).profile
    np.testing.assert_array_equal(profile, [[0, 1]])
