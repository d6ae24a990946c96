"""The report answers one query: drawn, not picked, and its true molecule is marked."""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.evaluation import evaluate_study
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import RandomRetriever

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_molge.exceptions.FewCandidatesWarning"
)
SECTION = "What does an answer look like?"


@pytest.fixture(scope="module")
def study():
    return make_perturbation_study(
        60, n_cell_lines=4, n_genes=50, level=5, random_state=0
    )


def evaluate(study, seed=0, **methods):
    return evaluate_study(
        study,
        methods=methods,
        embedders={},
        n_repeats=2,
        inspect=False,
        figures=False,
        random_state=seed,
    )


def cca(n_components=5):
    return make_pipeline(MorganFingerprinter(), CCA(n_components))


def test_the_answer_is_that_of_the_ranks(study):
    report = evaluate(study, CCA=cca(), random=RandomRetriever(0))
    (section,) = (s for s in report.sections if s.title == SECTION)
    answer = report.tables["answer"]
    assert answer["true"].sum() == 1
    rank = answer.index[answer["true"].to_numpy()][0]
    first = report.ranks[report.ranks["repeat"] == 0]
    mine = first[first["CCA"] == rank]
    names = study.obs["pert_name"].iloc[mine["row"]].tolist()
    assert answer.loc[answer["true"], "name"].iloc[0] in names
    assert np.all(np.diff(answer.index) >= 0)
    assert "not picked" in section.text
    assert f"{rank:g} of {first['n_candidates'].iloc[0]}" in section.text
    assert "CCA" in section.text


def test_the_query_is_the_same_whatever_the_method(study):
    answers = [evaluate(study, CCA=cca(n)).tables["answer"] for n in (3, 6)]
    first, second = (answer.loc[answer["true"], "name"].iloc[0] for answer in answers)
    assert first == second


def test_controls_answer_nothing(study):
    report = evaluate(study, random=RandomRetriever(0))
    assert "answer" not in report.tables
