import numpy as np
import pytest
import sklearn
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_val_score,
    cross_validate,
    learning_curve,
)
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.metrics import RetrievalScorer, retrieval_ranks
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import DoubleNNRetriever

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
    result = cross_validate(
        pipe, X, y, cv=cv, scoring=RetrievalScorer(), error_score="raise"
    )
    assert result["test_mrr"].shape == (4,)
    assert (result["test_neg_median_rank"] <= -1).all()
    single = cross_val_score(
        pipe, X, y, cv=cv, scoring=RetrievalScorer("mrr"), error_score="raise"
    )
    np.testing.assert_allclose(single, result["test_mrr"])
    search = GridSearchCV(
        pipe,
        {"morganfingerprinter__radius": [0, 2], "cca__n_components": [3, 4]},
        scoring=RetrievalScorer(),
        refit="mrr",
        cv=cv,
        error_score="raise",
    ).fit(X, y)
    assert search.best_score_ == max(search.cv_results_["mean_test_mrr"])
    _, _, curve = learning_curve(
        pipe, X, y, cv=cv, scoring=RetrievalScorer("mrr"), train_sizes=[0.5, 1.0],
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
        scorer = RetrievalScorer().set_score_request(drugs=True)
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
