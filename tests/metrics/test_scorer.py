import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.inspection import permutation_importance
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import CCA
from sklearn_molge.base import EmbedderMixin, TwoViewMixin
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import FewCandidatesWarning, LeakageWarning
from sklearn_molge.metrics import (
    RetrievalScorer,
    rank_embeddings,
    retrieval_ranks,
    similarity,
)
from sklearn_molge.model_selection import DrugCellLineKFold
from sklearn_molge.molecules import MorganFingerprinter, drug_ids
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
)

SMILES = np.array(
    [f"{'C' * i}{f}" for i in range(1, 9) for f in ("O", "N", "Cl", "C#N", "S")],
    dtype=object,
)


@pytest.fixture
def study():
    rng = np.random.default_rng(0)
    bits = MorganFingerprinter(fp_size=64).fit_transform(SMILES)
    rows = np.tile(np.arange(len(SMILES)), 2)
    y = bits[rows] @ rng.normal(size=(64, 15)) + 0.3 * rng.normal(size=(len(rows), 15))
    return SMILES[rows], y


@pytest.fixture
def pipe():
    return make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1))


def test_all_scores_come_from_one_ranking(study, pipe, monkeypatch):
    X, y = study
    pipe.fit(X, y)
    ranks = retrieval_ranks(pipe, X, y)
    scores = RetrievalScorer()(pipe, X, y)
    assert list(scores) == ["mrr", "neg_median_rank", "hits@1", "hits@10", "hits@100"]
    assert scores["mrr"] == pytest.approx(np.mean(1 / ranks))
    assert scores["neg_median_rank"] == -np.median(ranks)
    assert scores["hits@10"] == np.mean(ranks <= 10)
    assert RetrievalScorer("hits@10")(pipe, X, y) == scores["hits@10"]
    calls = []
    monkeypatch.setattr(
        CCA,
        "transform_ge",
        lambda self, y, f=CCA.transform_ge: calls.append(1) or f(self, y),
    )
    RetrievalScorer()(pipe, X, y)
    assert len(calls) == 1


def test_score_of_a_pipeline_takes_equal_features_for_one_drug(study, pipe):
    X, y = study
    features = pipe.fit(X, y)[:-1].transform(X)
    expected = np.mean(1 / retrieval_ranks(pipe[-1], features, y))
    assert pipe.score(X, y) == pytest.approx(expected)
    assert len(np.unique(features, axis=0)) < len(np.unique(X))


def test_drug_level(study, pipe):
    X, y = study
    pipe.fit(X, y)
    expected = np.mean(1 / retrieval_ranks(pipe, X, y, per="drug"))
    assert RetrievalScorer("mrr", per="drug")(pipe, X, y) == pytest.approx(expected)


def test_model_selection_tools(study, pipe):
    X, y = study
    cv = KFold(4, shuffle=True, random_state=0)
    every, mrr = (RetrievalScorer(s, known_drugs="ignore") for s in (None, "mrr"))
    result = cross_validate(pipe, X, y, cv=cv, scoring=every, error_score="raise")
    assert result["test_mrr"].shape == (4,)
    assert (result["test_neg_median_rank"] <= -1).all()
    single = cross_val_score(pipe, X, y, cv=cv, scoring=mrr, error_score="raise")
    np.testing.assert_allclose(single, result["test_mrr"])
    search = GridSearchCV(
        pipe,
        {"morganfingerprinter__radius": [0, 2], "cca__n_components": [3, 4]},
        scoring=every,
        refit="mrr",
        cv=cv,
        error_score="raise",
    ).fit(X, y)
    assert search.best_score_ == max(search.cv_results_["mean_test_mrr"])
    _, _, curve = learning_curve(
        pipe, X, y, cv=cv, scoring=mrr, train_sizes=[0.5, 1.0],
        error_score="raise",
    )  # fmt: skip
    np.testing.assert_allclose(curve[1], single)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_metadata_routing(study, n_jobs):
    X, y = study
    features = MorganFingerprinter(fp_size=64).fit_transform(X)
    drugs = np.array([f"drug{i % 7}" for i in range(len(X))], dtype=object)
    cv = KFold(2)
    model = DoubleNNRetriever()
    expected = [
        np.mean(
            1
            / retrieval_ranks(
                model.fit(features[train], y[train]),
                features[test],
                y[test],
                drugs=drugs[test],
            )
        )
        for train, test in cv.split(X)
    ]
    with sklearn.config_context(enable_metadata_routing=True):
        scorer = RetrievalScorer(known_drugs="ignore").set_score_request(drugs=True)
        result = cross_validate(
            model, features, y, cv=cv, scoring=scorer, params={"drugs": drugs},
            n_jobs=n_jobs, error_score="raise",
        )  # fmt: skip
    np.testing.assert_allclose(result["test_mrr"], expected)


def test_bad_parameters(study, pipe):
    X, y = study
    pipe.fit(X, y)
    with pytest.raises(ValueError, match=r"'scoring' parameter .* Got 'map' instead"):
        RetrievalScorer("map")(pipe, X, y)
    with pytest.raises(ValueError, match="'per' parameter of RetrievalScorer"):
        RetrievalScorer(per="line")(pipe, X, y)


# -- what a score is worth -------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    """A study, and the folds of one drug each."""
    study = make_perturbation_study(
        60, n_cell_lines=4, n_genes=50, level=5, random_state=0
    )
    cv = DrugCellLineKFold(60, hold_out="drugs", random_state=0)
    return study, cv


def test_one_candidate_is_no_score(small):
    study, cv = small
    with pytest.warns(FewCandidatesWarning, match="The only molecule to rank") as said:
        scores = cross_val_score(
            RandomRetriever(random_state=0), study.smiles, study.ge,
            groups=study.groups, cv=cv, scoring=RetrievalScorer("mrr"),
            error_score="raise",
        )  # fmt: skip
    assert np.isnan(scores).all()
    # A fold is named by its drug.
    named = {str(w.message).split("queries is ")[1].split(".")[0] for w in said}
    assert named == set(drug_ids(study.smiles))


def test_one_candidate_in_every_way(study, pipe):
    X, y = study
    one = X == X[0]
    pipe.fit(X, y)
    with pytest.warns(FewCandidatesWarning, match="for 2 queries is OKKJLVBELUTLKV"):
        assert np.isnan(retrieval_ranks(pipe, X[one], y[one])).all()
    with pytest.warns(FewCandidatesWarning, match="NaN"):
        assert np.isnan(pipe.score(X[one], y[one]))
    with pytest.warns(FewCandidatesWarning, match="NaN"):
        assert np.isnan(list(RetrievalScorer()(pipe, X[one], y[one]).values())).all()
    with pytest.warns(FewCandidatesWarning, match="NaN"):
        assert np.isnan(rank_embeddings(y[:3], y[:1], [0, 0, 0])).all()


@pytest.mark.parametrize(("n", "warns"), [(2, True), (19, True), (20, False)])
def test_few_candidates_are_said_with_chance(n, warns):
    X, y = SMILES[:n], np.random.default_rng(0).normal(size=(n, 4))
    oracle = OracleRetriever().fit(X, y)
    chance = sum(1 / r for r in range(1, n + 1)) / n
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        RetrievalScorer("mrr")(oracle, X, y)
    assert len(said) == warns
    for w in said:
        assert w.category is FewCandidatesWarning
        assert f"Only {n} molecules were ranked for {n} queries" in str(w.message)
        assert f"mean reciprocal rank of {chance:.2f}" in str(w.message)


def test_a_score_that_is_the_same_for_every_model_is_said(study, pipe):
    X, y = study
    pipe.fit(X, y)
    with pytest.warns(FewCandidatesWarning, match="has the same hits@100 here"):
        assert RetrievalScorer(k=(100,))(pipe, X, y)["hits@100"] == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RetrievalScorer()(pipe, X, y)  # nobody asked for hits@100
        RetrievalScorer(k=(1, 39))(pipe, X, y)  # of 40


def test_a_gallery_makes_the_candidates_of_all_folds_the_same(small):
    study, cv = small
    scorer = RetrievalScorer("mrr", gallery=study.smiles)
    model = make_pipeline(MorganFingerprinter(fp_size=256), CCA(5, ridge=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # 60 candidates in each fold
        scores = cross_val_score(
            model, study.smiles, study.ge, groups=study.groups, cv=cv, scoring=scorer,
            error_score="raise",
        )  # fmt: skip
    drugs = drug_ids(study.smiles)
    expected = []
    for train, test in cv.split(study.smiles, groups=study.groups):
        model.fit(study.smiles[train], study.ge[train])
        table = similarity(model, study.smiles, study.ge[test])
        _, first = np.unique(drugs, return_index=True)
        own = table[:, [np.flatnonzero(drugs == drugs[test[0]])[0]]]
        ranks = 1 + (table[:, first] > own).sum(axis=1)
        expected.append(np.mean(1 / ranks))
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


def test_a_gallery_of_features(study):
    X, y = study
    features = MorganFingerprinter(fp_size=64).fit_transform(X)
    model = CCA(3, ridge=0.1).fit(features, y)
    whole = retrieval_ranks(model, features, y)
    for kind in (np.asarray, pd.DataFrame, sparse.csr_array):
        some = retrieval_ranks(
            DoubleNNRetriever().fit(features, y) if kind is sparse.csr_array else model,
            kind(features[:7]), y[:7], gallery=kind(features),
        )  # fmt: skip
        if kind is not sparse.csr_array:
            np.testing.assert_array_equal(some, whole[:7])
    with pytest.raises(ValueError, match="gallery needs drugs=None"):
        retrieval_ranks(model, features, y, gallery=features, drugs=X)
    with pytest.raises(ValueError, match="Got features in X and SMILES in gallery"):
        retrieval_ranks(model, features, y, gallery=X)


# -- molecules that were trained on ----------------------------------------------------


MODELS = {
    "fingerprints": lambda: make_pipeline(MorganFingerprinter(), CCA(5, ridge=0.1)),
    "sparse": lambda: make_pipeline(
        MorganFingerprinter(sparse_output=True), DoubleNNRetriever()
    ),
    "other in fit_transform": lambda: make_pipeline(
        MorganFingerprinter(), PCA(20), CCA(5, ridge=0.1)
    ),
    "profiles are transformed": lambda: make_pipeline(
        MorganFingerprinter(), TransformedTargetRetriever(DoubleNNRetriever(), PCA(20))
    ),
    "search": lambda: GridSearchCV(
        make_pipeline(MorganFingerprinter(fp_size=256), CCA(5)),
        {"cca__ridge": [0.1, 1.0]},
        cv=2,
        scoring=RetrievalScorer("mrr", known_drugs="ignore"),
    ),
    "own": lambda: make_pipeline(MorganFingerprinter(), Mean()),
}


class Mean(TwoViewMixin, BaseEstimator):
    """A user's estimator."""

    def fit(self, X, y, groups=None):
        self.mean_ = np.mean(y)
        return self

    def compare_to(self, X):
        return lambda y: np.zeros((len(y), len(X)))


@pytest.mark.parametrize("name", MODELS)
def test_a_plain_split_says_that_drugs_leak(small, name):
    study, _ = small
    X, y, model = study.smiles, study.ge, MODELS[name]()
    for scoring in (RetrievalScorer("mrr"), None)[: 1 + (name != "search")]:
        with pytest.warns(LeakageWarning, match="test drugs were in the training") as w:
            cross_val_score(model, X, y, cv=5, scoring=scoring, error_score="raise")
        assert len(w) == 5
        assert str(w[0].message).startswith("57 of the 57 test drugs")
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        honest = cross_validate(
            model, X, y, groups=study.groups, error_score="raise",
            cv=DrugCellLineKFold(3, hold_out="drugs", random_state=0),
            scoring=RetrievalScorer("mrr"), return_train_score=True,
        )  # fmt: skip
        model.fit(X, y)
        RetrievalScorer()(model, X, y)
        RetrievalScorer()(model, X[:50], y[:50])
    assert len(honest["train_score"]) == 3


def test_what_is_meant_or_by_definition_is_not_said(small):
    study, _ = small
    X, y = study.smiles, study.ge
    lines = DrugCellLineKFold(n_cell_line_folds=2, hold_out="cell_lines")
    pipe = MODELS["fingerprints"]()
    given = {"groups": study.groups, "cv": lines, "error_score": "raise"}
    with pytest.warns(LeakageWarning, match="known_drugs='ignore'. says so"):
        cross_val_score(pipe, X, y, scoring=RetrievalScorer("mrr"), **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        meant = RetrievalScorer("mrr", known_drugs="ignore")
        cross_val_score(pipe, X, y, scoring=meant, **given)
        for oracle in (
            OracleRetriever(),
            TransformedTargetRetriever(OracleRetriever(), PCA(9)),
        ):
            scorer = RetrievalScorer("mrr")
            cross_val_score(oracle, X, y, cv=5, scoring=scorer, error_score="raise")


def test_smiles_that_were_trained_on_are_known_one_by_one(small):
    """An estimator of SMILES knows the texts: one leaking drug of many is said."""
    study, _ = small
    X, y = study.smiles, study.ge
    unseen = X != X[0]
    model = Mean().fit(X[~unseen][:1], y[~unseen][:1])
    with pytest.warns(LeakageWarning, match=f"1 of the 60 .*: {drug_ids(X[:1])[0]}"):
        model.score(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.score(X[unseen], y[unseen])


def test_partial_fit_adds_to_what_is_known():
    class Growing(Mean):
        def partial_fit(self, X, y):
            return self

    rng = np.random.default_rng(0)
    X, y = SMILES[:30], rng.normal(size=(30, 5))
    model = Growing().fit(X[:20], y[:20]).partial_fit(X[20:25], y[20:25])
    new = rng.normal(size=(30, 5))
    with pytest.warns(LeakageWarning, match="25 of the 30 test drugs"):
        model.score(X, new)
    model.fit(X[:2], y[:2])
    with pytest.warns(LeakageWarning, match="2 of the 30 test drugs"):
        model.score(X, new)


# -- features that are permuted --------------------------------------------------------


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_permutation_importance_needs_to_know_who_is_who(small, n_jobs):
    study, _ = small
    features = MorganFingerprinter(fp_size=32).fit_transform(study.smiles)
    # The last column says nothing of a molecule, and has weight 0.
    drugs = drug_ids(study.smiles)
    number = np.unique(drugs, return_inverse=True)[1] % 7
    features = np.column_stack([features, number]).astype(float)
    model = CCA(5, ridge=1.0).fit(features, study.ge)
    model.x_rotations_[-1] = 0
    given = {"n_repeats": 2, "random_state": 0, "n_jobs": n_jobs}
    for scoring in (None, RetrievalScorer("mrr")):
        with pytest.raises(ValueError, match=r"RetrievalScorer\('mrr', drugs=drugs\)"):
            permutation_importance(model, features, study.ge, scoring=scoring, **given)
    scoring = RetrievalScorer("mrr", drugs=drugs)
    found = permutation_importance(model, features, study.ge, scoring=scoring, **given)
    assert (found.importances[-1] == 0).all()
    assert found.importances_mean[:-1].max() > 0.01
    with pytest.raises(ValueError, match="480 labels for 240 rows"):
        permutation_importance(
            model, features, study.ge, scoring=scoring, max_samples=0.5, **given
        )


def test_the_row_that_stands_for_a_drug_is_no_least_one():
    """Of permuted bits the least would nearly always be 0."""
    rng = np.random.default_rng(0)
    drugs = np.repeat(np.arange(200), 8)
    X = np.column_stack([drugs, rng.integers(0, 2, len(drugs))]).astype(float)
    seen = []

    class Spy(BaseEstimator):
        def similarity(self, X, y):
            seen.append(np.asarray(X))
            return np.zeros((len(y), len(X)))

    y = np.zeros((len(X), 1))
    retrieval_ranks(Spy(), X, y, drugs=drugs)
    assert 70 < seen[0][:, 1].sum() < 130
    order = rng.permutation(len(X))
    retrieval_ranks(Spy(), X[order], y[order], drugs=drugs[order])
    np.testing.assert_array_equal(seen[0], seen[1])


# -- containers ------------------------------------------------------------------------


@pytest.mark.parametrize("container", [pl.DataFrame, pd.DataFrame])
def test_frames_of_features_and_profiles(study, container):
    X, y = study
    features = MorganFingerprinter(fp_size=64).fit_transform(X)
    model = CCA(3, ridge=0.1).fit(features, y)
    expected = RetrievalScorer()(model, features, y)
    frames = container(features), container(y)
    frames[0].columns = [f"bit{i}" for i in range(64)]
    named = CCA(3, ridge=0.1).fit(frames[0], y)
    assert RetrievalScorer()(named, frames[0], y) == pytest.approx(expected)
    drugs = container({"drug": list(X)})
    by_name = RetrievalScorer(drugs=drugs)(model, features, y)
    assert by_name == RetrievalScorer(drugs=X)(model, features, y)


@pytest.mark.parametrize("output", ["default", "pandas", "polars"])
def test_transform_output(study, output):
    X, y = study
    expected = RetrievalScorer("mrr")(
        make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1)).fit(X, y),
        X,
        y,
    )
    with sklearn.config_context(transform_output=output):
        pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1))
        assert RetrievalScorer("mrr")(pipe.fit(X, y), X, y) == pytest.approx(expected)


def test_a_frame_of_smiles_and_numbers(study):
    X, y = study
    frame = pd.DataFrame({"smiles": X, "dose": np.arange(len(X)) % 3, "lot": "x"})
    columns = make_column_transformer(
        (MorganFingerprinter(fp_size=64), "smiles"), (StandardScaler(), ["dose"])
    )
    model = make_pipeline(columns, CCA(3, ridge=0.1)).fit(frame, y)
    with pytest.raises(ValueError, match="say by `drugs` which row is which drug"):
        RetrievalScorer("mrr")(model, frame, y)
    assert 0 < RetrievalScorer("mrr", drugs=X)(model, frame, y) < 1
    assert retrieval_ranks(model, frame, y, drugs=X).max() <= len(SMILES)


# -- what an estimator of a user's returns ---------------------------------------------


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (np.zeros((40, 80)), TypeError, r"Own.compare_to\(X\) must return a function"),
        (lambda y: None, ValueError, "Own must return a similarity of each profile"),
        (lambda y: np.zeros((7, len(y))), ValueError, r"shape \(80, 40\). Got float64"),
        (lambda y: np.full((80, 40), "a"), ValueError, "numbers of shape"),
    ],
)
def test_what_compare_to_must_return(study, returned, error, message):
    class Own(Mean):
        def compare_to(self, X):
            return returned

    X, y = study
    model = Own().fit(X, y)
    with pytest.raises(error, match=message):
        retrieval_ranks(model, X, y)
    with pytest.raises(error, match=message.replace("80, 40", "80, 80")):
        model.similarity(X, y)


@pytest.mark.parametrize("metric", [None, "manhattan"])
def test_an_embedder_needs_a_metric(study, metric):
    class Own(EmbedderMixin, BaseEstimator):
        def fit(self, X, y):
            return self

        def transform(self, X):
            return np.ones((len(X), 3))

        transform_ge = transform

    X, y = study
    model = Own().fit(X, y)
    model.metric = metric
    with pytest.raises(ValueError, match=f"Own must have `metric`.*Got {metric!r}"):
        model.similarity(X, y)
    # One point for all molecules: all tie.
    model.metric = "correlation"
    np.testing.assert_array_equal(retrieval_ranks(model, X, y), 20.5)
    Own.transform = lambda self, X: np.full((len(X), 3), np.nan)
    with pytest.raises(ValueError, match=r"Input Own.transform\(X\) contains NaN"):
        model.similarity(X, y)
