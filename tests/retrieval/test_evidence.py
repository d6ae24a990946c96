import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.metrics import retrieval_ranks, similarity
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import ConnectivityRetriever, EvidenceRetriever

PIPE = make_pipeline(MorganFingerprinter(fp_size=256), CCA(10, ridge=1.0))


@pytest.fixture(scope="module")
def data():
    study = make_perturbation_study(
        80, n_cell_lines=5, n_genes=60, level=5, random_state=0
    )
    new_line = study.groups[:, 1] == study.groups[0, 1]
    hidden = np.isin(study.groups[:, 0], np.unique(study.groups[:, 0])[::2])
    train = ~new_line & ~hidden
    fitted = EvidenceRetriever(PIPE, random_state=0).fit(
        study.smiles[train], study.ge[train], study.groups[train]
    )
    return study, train, new_line, hidden, fitted


def test_both_kinds_of_evidence_find_what_one_does_not(data):
    study, _, new_line, _, fitted = data
    X, y = study.smiles[new_line], study.ge[new_line]
    alone = [fitted.structure_, fitted.connectivity_]
    with pytest.warns(match="have no measured signature"):
        scores = [np.mean(1 / retrieval_ranks(model, X, y)) for model in alone]
    assert np.mean(1 / retrieval_ranks(fitted, X, y)) > max(scores)
    assert (fitted.weights_.loc["both", ["structure", "connectivity"]] > 0).all()
    assert fitted.weights_.loc["structure", "connectivity"] == 0


def test_the_score_is_the_stated_sum(data):
    study, train, new_line, hidden, fitted = data
    X, y = study.smiles[new_line], study.ge[new_line]
    known = np.unique(study.smiles[train])

    def standard(model):
        reference, found = similarity(model, known, y), similarity(model, X, y)
        mean = reference.mean(axis=1, keepdims=True)
        return (found - mean) / reference.std(axis=1, keepdims=True)

    with pytest.warns(match="have no measured signature"):
        connectivity = standard(fitted.connectivity_)
    structure = standard(fitted.structure_)
    table = fitted.weights_
    found = fitted.similarity(X, y)
    for j, own in enumerate(hidden[new_line]):
        weights = table.loc["structure" if own else "both"]
        expected = weights["intercept"] + weights["structure"] * structure[:, j]
        if not own:
            expected += weights["connectivity"] * connectivity[:, j]
        np.testing.assert_allclose(found[:, j], expected, rtol=1e-4, atol=1e-5)


def test_a_score_does_not_depend_on_the_other_candidates(data):
    study, _, new_line, _, fitted = data
    X, y = study.smiles[new_line], study.ge[new_line]
    few = fitted.similarity(X[:3], y)
    np.testing.assert_allclose(few, fitted.similarity(X, y)[:, :3], rtol=1e-4)


def test_table_says_by_what(data):
    study, _, new_line, hidden, fitted = data
    _, first = np.unique(study.smiles[new_line], return_index=True)
    hidden = hidden[new_line][first]
    X, y = study.smiles[new_line][first], study.ge[new_line][:3]
    texts = fitted.evidence(X)
    assert set(texts[hidden]) == {"structure"}
    assert set(texts[~hidden]) == {"4 cell lines and structure"}
    table = fitted.query(np.append(X, X[:5]), y)
    assert len(table) == 3 * len(X)
    found = fitted.similarity(X, y)
    for q, part in table.groupby("query"):
        part = part.set_index("molecule").loc[X]
        np.testing.assert_allclose(part["score"], found[q], rtol=1e-4, atol=1e-5)
        assert (part["evidence"] == texts).all()
        assert (part["connectivity"].isna() == hidden).all()
    assert fitted.query(X, y, n_answers=2)["rank"].tolist() == [1, 2] * 3


def test_reverse_is_the_query_with_its_sign_turned(data):
    study, train, new_line, _, fitted = data
    X, y = study.smiles[new_line], study.ge[new_line]
    rows = study.smiles[train], study.ge[train], study.groups[train]
    reverse = clone(fitted).set_params(direction="reverse").fit(*rows)
    np.testing.assert_array_equal(reverse.similarity(X, y), fitted.similarity(X, -y))
    assert reverse.query(X, y).equals(fitted.query(X, -y))
    again = pickle.loads(pickle.dumps(reverse))
    np.testing.assert_array_equal(again.similarity(X, y), reverse.similarity(X, y))


def test_without_lines_rows_count(data):
    study, train, _, _, _ = data
    model = EvidenceRetriever(PIPE, ConnectivityRetriever(n_genes=10), random_state=0)
    model.fit(study.smiles[train], study.ge[train])
    assert model.evidence(study.smiles[train][:1]) == "8 signatures and structure"


def test_errors(data):
    study, train, _, _, _ = data
    X, y, groups = study.smiles[train], study.ge[train], study.groups[train]
    with pytest.raises(ValueError, match="n_splits=9 needs as many cell lines"):
        EvidenceRetriever(PIPE, n_splits=9).fit(X, y, groups)
    _, once = np.unique(X, return_index=True)
    with pytest.raises(ValueError, match="at least 10 profiles of molecules that were"):
        EvidenceRetriever(PIPE).fit(X[once], y[once])
    reverse = ConnectivityRetriever(direction="reverse")
    with pytest.raises(ValueError, match="connectivity must have direction='mimic'"):
        EvidenceRetriever(PIPE, reverse).fit(X, y, groups)
    with pytest.raises(ValueError, match="direction='reverse' needs profiles with a s"):
        EvidenceRetriever(PIPE, direction="reverse").fit(X, np.abs(y), groups)
