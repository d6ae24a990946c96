"""Conformal sets of the answers of an index."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA, GaussianProcessRetriever
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.expression import profile_from_genes
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.metrics import similarity
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.persistence import load_model, save_model
from sklearn_molge.retrieval import (
    ConformalRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)

STUDY = make_perturbation_study(
    120, n_cell_lines=3, n_genes=40, level=5, random_state=0
)
DRUGS = STUDY.groups[:, 0]
TRAIN = np.isin(DRUGS, np.unique(DRUGS)[:80])
ASKED, LIBRARY = STUDY.ge[~TRAIN][:5], np.unique(STUDY.smiles)


def fitted(model):
    X, y, groups = STUDY.smiles[TRAIN], STUDY.ge[TRAIN], STUDY.groups[TRAIN]
    return model.fit(X, y, groups=groups)


def cca():
    return make_pipeline(MorganFingerprinter(fp_size=128), CCA(6, ridge=1.0))


def conformal(retriever=None, **params):
    return ConformalRetriever(
        cca() if retriever is None else retriever, random_state=0, **params
    )


@pytest.fixture(scope="module")
def sure():
    return fitted(conformal(coverage=0.8))


def test_answers_say_whether_they_are_in_the_set(sure):
    index = MoleculeIndex(sure).fit(LIBRARY)
    assert not index.reranks_
    table = index.query(ASKED, len(LIBRARY), n_permutations=0)
    slow = similarity(sure, LIBRARY, ASKED)
    for i, own in table.groupby("query"):
        scores = slow[i, np.searchsorted(LIBRARY, own["molecule"])]
        p_values = sure.predict_p_from_similarity(scores)
        np.testing.assert_allclose(own["conformal_p"], p_values, atol=1e-2)
        np.testing.assert_array_equal(own["in_set"], p_values > 0.2 + 1e-9)
        assert set(own["set_size"]) == {own["in_set"].sum()}
    assert 0 < table["in_set"].mean() < 1
    assert table.attrs["coverage"] == 0.8
    few = index.query(ASKED, 3, n_permutations=0)
    assert (
        few["set_size"].tolist() == table.groupby("query").head(3)["set_size"].tolist()
    )


def test_the_set_is_told_in_words(sure):
    index = MoleculeIndex(sure).fit(LIBRARY)
    table = index.query(ASKED[:1], 5, n_permutations=0)
    page = table.to_html()
    size = int(table["set_size"].iloc[0])
    assert f"The 80 % set has {size} of {len(LIBRARY)} molecules." in page
    assert "what can be left out, not that the first is right" in page
    assert "In the set" in table._repr_html_()
    table["set_size"], table["in_set"] = 0, False
    assert "The 80 % set is empty" in table.to_html()
    noise = {"better_than_noise": False, "query_p_value": 0.4, "query_q_value": 0.4}
    table = table.assign(**noise)
    page = table.to_html()
    assert "Its conformal set says nothing" in page
    assert "80 % set" not in page


def test_removed_molecules_are_in_no_set(sure):
    index = MoleculeIndex(sure).fit(LIBRARY)
    first = index.query(ASKED[:1], 1, n_permutations=0)
    index.remove(first["molecule"])
    again = index.query(ASKED[:1], 1, n_permutations=0)
    assert again["set_size"].iloc[0] == first["set_size"].iloc[0] - 1


@pytest.mark.parametrize("kind", ["wrapped", "process", "reranked"])
def test_other_shapes_of_the_same(kind):
    if kind == "wrapped":
        model = fitted(TransformedTargetRetriever(conformal()))
        index = MoleculeIndex(model)
    elif kind == "process":
        index = MoleculeIndex(fitted(conformal(GaussianProcessRetriever())))
    else:
        index = MoleculeIndex(
            fitted(conformal()), candidates_by=fitted(conformal()), n_candidates=50
        )
    table = index.fit(LIBRARY).query(ASKED, 20, n_permutations=0)
    assert index.reranks_ == (kind == "reranked")
    assert ("set_size" in table) == (kind != "reranked")
    slow = similarity(index.estimator_, LIBRARY, ASKED)
    slow = slow[table["query"], np.searchsorted(LIBRARY, table["molecule"])]
    np.testing.assert_allclose(table["score"], slow, rtol=1e-3, atol=1e-4)
    assert table["conformal_p"].between(0, 1).all()


def test_a_model_file_keeps_what_sets_need(sure, tmp_path):
    save_model(sure, tmp_path / "sure.molge")
    again = load_model(tmp_path / "sure.molge")
    assert again.least_similarity() == sure.least_similarity()


@pytest.mark.parametrize("why", ["reverse", "genes", "combined", "metric", "vote"])
def test_where_no_set_is_calibrated(sure, why):
    model, params = sure, {}
    if why == "metric":
        params["metric"] = "euclidean"
    if why == "vote":
        model = fitted(conformal(VotingRetriever([("a", cca()), ("b", cca())])))
    index = MoleculeIndex(model, genes=STUDY.genes, **params).fit(LIBRARY)
    y, groups = ASKED[:2], None
    if why == "genes":
        y = profile_from_genes(index, up=STUDY.genes["symbol"][:8])
    if why == "combined":
        groups = ["a", "a"]
    table = index.query(y, 3, groups=groups, reverse=why == "reverse", n_permutations=0)
    assert "in_set" not in table
    assert "coverage" not in table.attrs


def test_of_several_profiles_nothing_is_said(sure):
    index = MoleculeIndex(sure).fit(LIBRARY)
    table = index.query(ASKED[:3], 2, groups=["a", "b", "b"], n_permutations=0)
    assert table["in_set"].notna().tolist() == [True, True, False, False]
    assert table["set_size"].notna().tolist() == [True, True, False, False]
    assert table.to_html().count("Such sets hold") == 1
