import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.base import TwoViewMixin
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import FewCandidatesWarning, LeakageWarning
from sklearn_molge.metrics import chance_scores, retrieval_ranks, retrieval_scores
from sklearn_molge.model_selection import DrugCellLineKFold, cross_val_ranks
from sklearn_molge.molecules import MorganFingerprinter, drug_ids
from sklearn_molge.retrieval import RandomRetriever


@pytest.fixture(scope="module")
def study():
    return make_perturbation_study(
        60, n_cell_lines=4, n_genes=50, level=5, random_state=0
    )


def pipe():
    return make_pipeline(MorganFingerprinter(fp_size=256), CCA(5, ridge=0.1))


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("candidates", ["all", "fold"])
def test_by_a_slow_loop(study, candidates, n_jobs):
    X, y, groups = study.smiles, study.ge, study.groups
    cv = DrugCellLineKFold(3, 2, random_state=0)
    table = cross_val_ranks(
        pipe(), X, y, groups=groups, cv=cv, candidates=candidates, n_jobs=n_jobs
    )
    assert sorted(table["row"]) == list(range(len(X)))  # each row is tested once
    drugs = drug_ids(X)
    np.testing.assert_array_equal(table["drug"], drugs[table["row"]])
    for fold, (train, test) in enumerate(cv.split(X, groups=groups)):
        model = pipe().fit(X[train], y[train])
        part = table[table["fold"] == fold]
        np.testing.assert_array_equal(part["row"], test)
        rows = np.arange(len(X)) if candidates == "all" else test
        ranks = retrieval_ranks(model, X[rows], y[rows])
        np.testing.assert_array_equal(part["rank"], ranks[np.isin(rows, test)])
        assert set(part["n_candidates"]) == {len(set(drugs[rows]))}


def test_one_drug_a_fold_scores_as_chance_among_all(study):
    given = {
        "groups": study.groups,
        "cv": DrugCellLineKFold(60, hold_out="drugs", random_state=0),
    }
    model = RandomRetriever(random_state=0)
    table = cross_val_ranks(model, study.smiles, study.ge, **given)
    found = retrieval_scores(table["rank"])["mrr"]
    chance = chance_scores(table["n_candidates"])["mrr"]
    # The sd of 1 / rank is 0.16, and 480 queries.
    assert abs(found - chance) < 4 * 0.16 / 480**0.5
    with pytest.warns(FewCandidatesWarning, match="The only molecule"):
        alone = cross_val_ranks(
            model, study.smiles, study.ge, candidates="fold", **given
        )
    assert alone["rank"].isna().all()


def test_a_leak_is_said_unless_it_is_meant(study):
    X, y = study.smiles, study.ge
    with pytest.warns(LeakageWarning, match="training rows in 5 of 5 folds; in fold 0"):
        cross_val_ranks(pipe(), X, y, cv=5)
    cross_val_ranks(pipe(), X, y, cv=5, known_drugs="ignore")
    drugs = np.arange(len(X)) // 96  # the folds of an unshuffled cv=5
    cross_val_ranks(pipe(), X, y, cv=KFold(5), drugs=drugs)


def test_parameters_of_fit_are_cut_to_the_training_rows(study):
    class Own(TwoViewMixin, BaseEstimator):
        def fit(self, X, y, groups=None, size=None):
            assert groups.shape == (len(X), 2)
            assert size == 3
            return self

        def compare_to(self, X):
            return lambda y: np.zeros((len(y), len(X)))

    table = cross_val_ranks(
        Own(), study.smiles, study.ge, groups=study.groups,
        cv=DrugCellLineKFold(2, hold_out="drugs"),
        params={"groups": study.groups, "size": 3},
    )  # fmt: skip
    assert (table["rank"] == 30.5).all()


def test_bad_parameters(study):
    with pytest.raises(ValueError, match="'candidates' parameter of cross_val_ranks"):
        cross_val_ranks(pipe(), study.smiles, study.ge, candidates="test")
    with pytest.raises(ValueError, match="drugs must not have missing labels"):
        cross_val_ranks(
            pipe(), study.smiles, study.ge, drugs=[None] * len(study.smiles)
        )
