"""The library used as its users use it, end to end."""

import warnings

import joblib
import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import load_lincs, make_perturbation_study
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.metrics import (
    RetrievalScorer,
    chance_scores,
    mean_reciprocal_rank,
    retrieval_ranks,
    similarity,
)
from sklearn_molge.model_selection import DrugCellLineKFold, DrugCellLineShuffleSplit
from sklearn_molge.molecules import MoleculeFingerprinter, MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    TransformedTargetRetriever,
)


@pytest.fixture(scope="module")
def study():
    return make_perturbation_study(
        60, n_cell_lines=4, n_genes=80, level=5, random_state=0
    )


@pytest.fixture
def pipe():
    target = TransformedTargetRetriever(
        CCA(n_components=5, random_state=0), transformer=L1000Featurizer()
    )
    return Pipeline([("fp", MorganFingerprinter(fp_size=256)), ("cca", target)])


CV = DrugCellLineKFold(3, 2, random_state=0)


def test_fit_score_and_pickle(study, pipe, tmp_path):
    pipe.fit(study.smiles, study.ge)
    joblib.dump(pipe, tmp_path / "pipe.joblib")
    loaded = joblib.load(tmp_path / "pipe.joblib")
    library = np.array(["CC(=O)Oc1ccccc1C(=O)O", "CCO"], dtype=object)
    expected = similarity(pipe, library, study.ge[:3])
    assert expected.shape == (3, 2)
    np.testing.assert_array_equal(similarity(loaded, library, study.ge[:3]), expected)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_cross_validate(study, pipe, n_jobs):
    result = cross_validate(
        pipe, study.smiles, study.ge, groups=study.groups, cv=CV,
        scoring=RetrievalScorer(), n_jobs=n_jobs, error_score="raise",
    )  # fmt: skip
    by_hand = []
    for train, test in CV.split(study.smiles, groups=study.groups):
        model = clone(pipe).fit(study.smiles[train], study.ge[train])
        ranks = retrieval_ranks(model, study.smiles[test], study.ge[test])
        by_hand.append(np.mean(1 / ranks))
    np.testing.assert_array_equal(result["test_mrr"], by_hand)


def test_metadata_routing(study, pipe):
    plain = cross_validate(
        pipe, study.smiles, study.ge, groups=study.groups, cv=CV,
        scoring=RetrievalScorer(), error_score="raise",
    )  # fmt: skip
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_validate(
            pipe, study.smiles, study.ge, cv=CV,
            scoring=RetrievalScorer().set_score_request(drugs=True),
            params={"groups": study.groups, "drugs": study.groups[:, 0]},
            error_score="raise",
        )  # fmt: skip
    np.testing.assert_array_equal(plain["test_mrr"], routed["test_mrr"])


def test_grid_search_over_nested_parameters(study, pipe):
    search = GridSearchCV(
        pipe,
        {
            "fp__radius": [1, 2],
            "cca__retriever__n_components": [3, 5],
            "cca__transformer__standardize": [True, False],
        },
        scoring=RetrievalScorer(),
        refit="mrr",
        cv=CV,
        error_score="raise",
    ).fit(study.smiles, study.ge, groups=study.groups)
    assert set(search.best_params_) == set(search.param_grid)
    assert search.best_score_ == search.cv_results_["mean_test_mrr"].max()
    got = similarity(search, study.smiles[:2], study.ge[:3])
    best = similarity(search.best_estimator_, study.smiles[:2], study.ge[:3])
    np.testing.assert_array_equal(got, best)


def test_joined_fingerprints_in_a_union(study):
    union = FeatureUnion(
        [
            ("ecfp", MorganFingerprinter(fp_size=128, count=True)),
            ("maccs", MoleculeFingerprinter("maccs")),
        ]
    ).set_output(transform="pandas")
    target = TransformedTargetRetriever(CCA(5, ridge=0.3), PCA(20))
    pipe = make_pipeline(union, target).fit(study.smiles, study.ge)
    ranks = retrieval_ranks(pipe, study.smiles, study.ge)
    assert np.mean(1 / ranks) > 3 * chance_scores(60)["mrr"]


def test_nothing_of_the_test_rows_reaches_the_model(study, pipe):
    """Garbage in the test rows changes no fitted number."""
    train, test = next(CV.split(study.smiles, groups=study.groups))
    model = clone(pipe).fit(study.smiles[train], study.ge[train])
    spoilt = study.ge.copy()
    spoilt[test] = 1e6
    spoilt_model = clone(pipe).fit(study.smiles[train], spoilt[train])
    np.testing.assert_array_equal(
        model[-1].retriever_.x_rotations_, spoilt_model[-1].retriever_.x_rotations_
    )
    drugs, lines = study.groups.T
    assert not set(drugs[train]) & set(drugs[test])
    assert not set(lines[train]) & set(lines[test])


def mean_mrr(estimator, X, y, groups, cv):
    scores = cross_validate(
        estimator, X, y, groups=groups, cv=cv, scoring=RetrievalScorer("mrr"),
        error_score="raise",
    )  # fmt: skip
    return scores["test_score"].mean()


@pytest.mark.slow
@pytest.mark.parametrize("view", ["level 5", "level 3", "level 3 without controls"])
def test_simulated_study_has_the_ordering_of_the_paper(view):
    study = make_perturbation_study(level=int(view[6]), random_state=1)
    X, groups = study.smiles, study.groups
    y, profiles = study.ge, None
    if view == "level 3":
        y, profiles = study.paired_ge(), L1000Featurizer(["log2_fold_change"])
    cv = DrugCellLineKFold(3, 3, random_state=0)

    def score(retriever, train="disjoint", molecules=X):
        estimator = TransformedTargetRetriever(retriever, profiles)
        if not isinstance(retriever, OracleRetriever):
            estimator = make_pipeline(MorganFingerprinter(), estimator)
        splits = clone(cv).set_params(train=train)
        return mean_mrr(estimator, molecules, y, groups, splits)

    chance = chance_scores(100)["mrr"]
    test_oracle = score(OracleRetriever(), "oracle_test_lines")
    train_oracle = score(OracleRetriever(), "oracle_train_lines")
    cca = score(CCA(50, ridge=0.3, correlation_power=1))
    dnn = score(DoubleNNRetriever())
    assert test_oracle > 1.1 * train_oracle
    assert train_oracle > 1.2 * cca
    assert cca > 1.2 * dnn
    assert dnn > 1.3 * chance


@pytest.mark.slow
def test_shuffled_molecules_are_chance():
    study = make_perturbation_study(150, level=5, random_state=0)
    cv = DrugCellLineKFold(3, 3, random_state=0)
    pipe = make_pipeline(MorganFingerprinter(), CCA(30, ridge=0.3))
    rng = np.random.default_rng(0)
    reciprocal = []
    for train, test in cv.split(study.smiles, groups=study.groups):
        drugs, codes = np.unique(study.smiles[train], return_inverse=True)
        pipe.fit(rng.permutation(drugs)[codes], study.ge[train])
        ranks = retrieval_ranks(pipe, study.smiles[test], study.ge[test])
        reciprocal.append(np.mean(1 / ranks))
    assert np.mean(reciprocal) == pytest.approx(chance_scores(50)["mrr"], rel=0.25)


def test_real_level5_data(level5_folder):
    """CCA and D-NN beat chance on unseen drugs in unseen lines of real data."""
    study = load_lincs(level5_folder, level=5)
    cv = DrugCellLineShuffleSplit(1, test_drugs=0.35, test_cell_lines=6, random_state=0)
    train, test = next(cv.split(study.smiles, groups=study.groups))
    chance = chance_scores(len(np.unique(study.groups[test, 0])))["mrr"]
    for retriever, factor in (
        (CCA(50, ridge=0.3, correlation_power=1), 3),
        (DoubleNNRetriever(), 2),
    ):
        pipe = make_pipeline(MorganFingerprinter(), retriever)
        pipe.fit(study.smiles[train], study.ge[train])
        ranks = retrieval_ranks(pipe, study.smiles[test], study.ge[test])
        assert mean_reciprocal_rank(ranks) > factor * chance


# Profiles of another scale.


@pytest.mark.parametrize("size", [1, 100])
def test_profiles_of_another_scale_are_said(size):
    rng = np.random.default_rng(0)
    X, z = rng.normal(size=(40, 6)), rng.normal(size=(40, 30))
    intensities = (8 + z) * size
    for fitted, other, said in (
        (z, intensities, "are all above 0"),
        (intensities, z, "are below 0 for many genes"),
    ):
        for model in (CCA(3, ridge=0.1), DoubleNNRetriever("cosine")):
            model.fit(X, fitted)
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                model.similarity(X, fitted)
            with pytest.warns(DataWarning, match=said):
                model.similarity(X, np.vstack([fitted[:5], other[:1]]))
    up = np.zeros((1, 30))
    up[0, :9] = 2.0  # a list of up genes is no profile of intensities
    CCA(3, ridge=0.1).fit(X, z).transform_ge(up)
