"""align_profiles and match_genes: genes by name, whichever name they have."""

import datetime
import re
from types import SimpleNamespace

import anndata
import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy import sparse
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import CCA
from sklearn_molge.base import check_profiles
from sklearn_molge.datasets import Study, load_lincs, read_gct
from sklearn_molge.exceptions import GeneNamesWarning
from sklearn_molge.expression import align_profiles, match_genes, profile_from_genes
from sklearn_molge.metrics import RetrievalScorer

GENES = pd.DataFrame(
    {
        "gene_id": [16, 4735, 8518, 7157],
        "symbol": ["AARS", "SEPT2", "IKBKAP", "TP53"],
    }
)
VALUES = np.arange(8.0).reshape(2, 4)


# -- names ---------------------------------------------------------------------------


@pytest.mark.parametrize("kinds", [["gene_id"], ["symbol"], ["gene_id", "symbol"]])
def test_what_became_of_names(kinds):
    names = ["aars", "AARS1", "16", "SEPTIN2", "2-Sep", "ENSG00000141510", "tp53",
             "EGFR", "1956", "99999999", "p53", None, "1-Mar"]  # fmt: skip
    told = match_genes(names, GENES[kinds])["status"].tolist()
    by_old_names = "symbol" in kinds
    assert told == [
        "used" if by_old_names else "alias", *["came before"] * 2,
        "alias" if by_old_names else "used", "came before", "used", "came before",
        *["not in the model"] * 2, *["unknown"] * 4,
    ]  # fmt: skip
    one = {name: match_genes([name], GENES)["status"].item() for name in names}
    assert (one["AARS1"], one["2-Sep"], one["16"]) == ("alias", "alias", "used")


@pytest.mark.parametrize(
    ("name", "how"),
    [
        (16, "name"),
        ("16", "name"),
        (16.0, "name"),
        (" aars ", "name"),
        ("Aars", "name"),  # as mouse genes are written
        ("AARS1", "current symbol"),
        ("Aars1", "current symbol"),
        ("ENSG00000090861", "Ensembl id"),
        ("ENSG00000090861.16", "Ensembl id"),
        ("ensg00000090861.1", "Ensembl id"),
    ],
)
def test_names_of_one_gene(name, how):
    found = match_genes([name], GENES)
    assert found.loc[0, "column"] == 0
    assert found.loc[0, "how"] == how
    assert found.loc[0, ["gene_id", "symbol"]].tolist() == [16, "AARS"]


@pytest.mark.parametrize(
    "name",
    [
        "2-Sep", "Sep-02", "02-Sep-21", "2. Sep", "2021-09-02", "2021-09-02 00:00:00",
        44441, "44441", 44441.0, datetime.date(2021, 9, 2), pd.Timestamp("2021-09-02"),
    ],
)  # fmt: skip
def test_a_spreadsheet_made_a_date_of_it(name):
    found = match_genes([name], GENES)
    assert found.loc[0, "column"] == 1
    assert found.loc[0, "how"] == "date"


def test_a_date_of_two_genes_is_not_read():
    marches = pd.DataFrame({"symbol": ["MARCH1", "MARC2", "MARCH3"]})
    found = match_genes(["1-Mar", "2-Mar", "3-Mar"], marches)
    assert found["column"].tolist() == [-1, -1, 2]
    assert found.loc[0, "how"] == "a date, of MARCHF1 or MTARC1"


@pytest.mark.parametrize(
    "name", [None, np.nan, pd.NaT, "", "p53", "ENSG99999999999", "ENSMUSG00000031960"]
)
def test_unknown_names(name):
    found = match_genes([name], GENES)
    assert found.loc[0, "column"] == -1
    assert found.loc[0, "symbol"] is None


def test_a_gene_that_the_model_lacks_is_named():
    found = match_genes(["EGFR", "ENSG00000146648"], GENES)
    assert found["column"].tolist() == [-1, -1]
    assert found["gene_id"].tolist() == [1956, 1956]
    assert found["how"].tolist() == [
        "current symbol of another gene", "Ensembl id of another gene"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "genes",
    [
        GENES[["symbol"]],
        GENES[["gene_id"]],
        GENES["symbol"].tolist(),
        GENES["gene_id"].astype(str).to_numpy(),
        ["AARS1", "SEPTIN2", "ELP1", "TP53"],
        ["ENSG00000090861.3", "ENSG00000168385", "ENSG00000070061", "ENSG00000141510"],
    ],
)
def test_any_kind_of_name_finds_any_other(genes):
    for names in (
        [16, 4735, 8518, 7157],
        ["AARS", "SEPT2", "IKBKAP", "TP53"],
        ["AARS1", "SEPTIN2", "ELP1", "tp53"],
        ["ENSG00000090861", "ENSG00000168385", "ENSG00000070061", "ENSG00000141510"],
    ):
        assert match_genes(names, genes)["column"].tolist() == [0, 1, 2, 3]


def test_the_id_decides_where_a_symbol_moved_to_another_gene():
    # Called TAZ until 2020, TAFAZZIN is not WWTR1, which many call TAZ.
    genes = pd.DataFrame({"gene_id": [6901, 25937], "symbol": ["TAZ", "WWTR1"]})
    found = match_genes(["TAZ", "TAFAZZIN", "WWTR1", 6901], genes)
    assert found["column"].tolist() == [0, 0, 1, 0]


def test_a_name_of_two_genes_needs_the_id():
    genes = pd.DataFrame({"gene_id": [1, 2], "symbol": ["A", "A"]})
    with pytest.raises(ValueError, match="'A' is the name of 2 genes"):
        match_genes(["A"], genes)


@pytest.mark.parametrize("genes", [[], "TP53", 3.0, np.zeros((2, 2)), GENES[:0]])
def test_genes_without_names(genes):
    with pytest.raises(ValueError, match="genes must"):
        match_genes(["TP53"], genes)


def test_an_estimator_without_names():
    with pytest.raises(ValueError, match=r"CCA was not fitted on profiles whose genes"):
        match_genes(["TP53"], CCA())


def test_every_landmark_by_every_name(level5_folder):
    table = pd.read_csv(level5_folder / "geneinfo.txt", sep="\t", dtype=str)
    genes = table.set_axis(["gene_id", "symbol", "title", "kind"], axis=1)
    today = match_genes(genes["gene_id"], ["TP53"])["symbol"]
    assert (today != genes["symbol"]).sum() == 47  # renamed since
    assert match_genes(today, genes)["column"].tolist() == list(range(978))
    mouse = match_genes(today.str.capitalize(), genes[["symbol"]])
    assert mouse["column"].tolist() == list(range(978))
    assert match_genes(genes["symbol"], today)["column"].tolist() == list(range(978))


def test_inferred_genes_by_the_names_of_today():
    names = {
        24142: ("NAT6", "NAA80"),
        2983: ("GUCY1B3", "GUCY1B1"),
        515: ("ATP5F1", "ATP5PB"),
        2533: ("FYB", "FYB1"),
        5818: ("PVRL1", "NECTIN1"),
        3021: ("H3F3B", "H3-3B"),
        8565: ("YARS", "YARS1"),
        10778: ("ZNF271", "ZNF271P"),  # a pseudogene
    }
    before, today = zip(*names.values(), strict=True)
    for a, b in [(before, today), (today, before), (names, before), (today, names)]:
        found = match_genes(a, list(map(str, b)))
        assert found["column"].tolist() == list(range(len(names)))


# -- profiles ------------------------------------------------------------------------


def shuffled(columns=("TP53", "ELP1", "EGFR", "AARS1", "SEPTIN2")):
    """Return VALUES under names of today, in another order, with a gene more."""
    extra = np.column_stack([VALUES[:, [3, 2]], [9.0, 9.0], VALUES[:, [0, 1]]])
    return pd.DataFrame(extra, columns=columns, index=["a", "b"])


def annotated(name):
    frame = shuffled()
    var = pd.DataFrame(
        {"gene_symbol": frame.columns}, index=["p1", "p2", "p3", "p4", "p5"]
    )
    obs = pd.DataFrame(index=["a", "b"])
    values = frame.to_numpy()
    if name == "gct":
        return SimpleNamespace(matrix=values, genes=var, obs=obs)
    if name == "var_names":
        return anndata.AnnData(values, obs=obs, var=var.set_index("gene_symbol"))
    return anndata.AnnData(sparse.csr_matrix(values), obs=obs, var=var)


@pytest.mark.parametrize(
    "y",
    [
        shuffled(),
        shuffled([7157, 8518, 1956, 16, 4735]),
        pl.from_pandas(shuffled()),
        pl.from_pandas(shuffled()).to_arrow(),
        annotated("gct"),
        annotated("var_names"),
        annotated("var"),
    ],
    ids=["symbols", "ids", "polars", "pyarrow", "GCT", "var_names", "var"],
)
def test_the_order_is_that_of_the_model(y):
    aligned = align_profiles(y, GENES)
    assert aligned.columns.tolist() == ["16", "4735", "8518", "7157"]
    np.testing.assert_array_equal(aligned, VALUES)
    if not hasattr(y, "schema"):  # of polars and pyarrow, whose rows have no names
        assert aligned.index.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda e: e,
        lambda e: make_pipeline(StandardScaler(), e),
        lambda e: GridSearchCV(
            make_pipeline(StandardScaler(), e),
            {"cca__ridge": [0.1]},
            scoring=RetrievalScorer("mrr"),
            cv=2,
        ),
    ],
    ids=["bare", "Pipeline", "search"],
)
def test_to_an_estimator(wrap):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(20, 4)), rng.normal(size=(20, 4))
    named = pd.DataFrame(y, columns=["16", "4735", "8518", "7157"])
    fitted = wrap(CCA(3, ridge=0.1)).fit(X, named)
    aligned = align_profiles(shuffled(), fitted)
    assert aligned.columns.tolist() == named.columns.tolist()
    np.testing.assert_array_equal(aligned, VALUES)


def test_a_gene_query_is_profiles_too():
    query = profile_from_genes(GENES[::-1], up=["TP53"], down=[16])
    aligned = align_profiles(query, GENES)
    np.testing.assert_array_equal(aligned, query.profile[:, ::-1])


def test_missing_genes():
    some = shuffled().drop(columns=["TP53", "SEPTIN2"])
    with pytest.raises(ValueError, match=r"y lacks 2 of the 4 genes \(4735, 7157\)"):
        align_profiles(some, GENES)
    told = re.escape("y lacks 2 of the 4 genes (4735, 7157), which are 0 now.")
    with pytest.warns(GeneNamesWarning, match=told):
        aligned = align_profiles(some, GENES, missing="zero")
    np.testing.assert_array_equal(aligned, VALUES * [1, 0, 1, 0])
    with pytest.warns(GeneNamesWarning, match="are NaN now"):
        aligned = align_profiles(some, GENES, missing="nan")
    assert aligned.isna().to_numpy().tolist() == [[False, True] * 2] * 2
    with pytest.raises(ValueError, match=r"y has 2 of the 4 genes, less than min_sh"):
        align_profiles(some, GENES, missing="zero", min_share=0.6)
    with pytest.raises(ValueError, match=r"y has 0 of the 4 genes.*columns are EGFR"):
        align_profiles(some[["EGFR"]], GENES, missing="zero", min_share=0)


def test_columns_of_one_gene():
    twice = shuffled().assign(AARS=[10.0, 20.0])
    message = r"1 genes have several columns: 16 \(AARS1, AARS\)"
    with pytest.raises(ValueError, match=message):
        align_profiles(twice, GENES)
    with pytest.warns(GeneNamesWarning, match="the mean is taken"):
        mean = align_profiles(twice, GENES, duplicates="mean")
    assert mean["16"].tolist() == [5.0, 12.0]
    with pytest.warns(GeneNamesWarning, match="the first is taken"):
        first = align_profiles(twice, GENES, duplicates="first")
    np.testing.assert_array_equal(first, VALUES)


def test_dates_are_reported():
    dated = shuffled(["TP53", "ELP1", "EGFR", "AARS1", "2-Sep"])
    with pytest.warns(GeneNamesWarning, match=r"mean another: 2-Sep as 4735 \(date\)"):
        aligned = align_profiles(dated, GENES)
    np.testing.assert_array_equal(aligned, VALUES)


def test_genes_in_rows():
    with pytest.raises(ValueError, match=r"one profile a row.*give y\.T"):
        align_profiles(shuffled().T, GENES)


@pytest.mark.parametrize("y", [VALUES, VALUES.tolist(), pd.DataFrame(VALUES)])
def test_profiles_without_names(y):
    with pytest.raises(TypeError, match="y must have names of genes"):
        align_profiles(y, GENES)


def test_real_plates_of_another_platform(level3_folder, level5_folder):
    study = load_lincs(level5_folder, level=5)
    plate = read_gct(level3_folder / "CPC006_A375_6H_X1.level3.gct")
    ids = plate.genes["pr_gene_id"].astype(int).tolist()
    assert ids != study.genes["gene_id"].tolist()
    order = [ids.index(gene) for gene in study.genes["gene_id"]]
    aligned = align_profiles(plate, study.genes)
    np.testing.assert_array_equal(aligned, plate.matrix[:, order])
    assert aligned.index.equals(plate.obs.index)


def test_a_study_and_an_empty_anndata():
    genes = pd.DataFrame({"gene_id": [23, 16]})
    study = Study(
        ["CCO"], ge=[[1.0, 2.0]], genes=genes, obs=pd.DataFrame({"cell_line": ["A"]})
    )
    assert align_profiles(study, [16, 23]).to_numpy().tolist() == [[2.0, 1.0]]
    empty = anndata.AnnData(var=pd.DataFrame(index=["16"]))
    with pytest.raises(ValueError, match="y must have values"):
        align_profiles(empty, [16])
    with pytest.raises(ValueError, match="Got AnnData whose X is None"):
        check_profiles(CCA(), empty, reset=True)
