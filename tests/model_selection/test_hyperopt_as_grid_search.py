"""The results of HyperoptSearchCV are those of GridSearchCV at the same points."""

import pickle

import numpy as np
import pandas as pd
import pytest
from hyperopt import hp
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.datasets import make_regression
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.metrics import RetrievalScorer
from sklearn_molge.model_selection import DrugCellLineShuffleSplit, HyperoptSearchCV
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import TransformedTargetRetriever

X, y = make_regression(40, 5, noise=20.0, random_state=0)
SPACE = {
    "scale": [StandardScaler(), MinMaxScaler(), "passthrough"],
    "model": hp.choice(
        "model",
        [
            {"model": Ridge(), "model__alpha": hp.loguniform("alpha", -3, 5)},
            {
                "model": KNeighborsRegressor(),
                "model__n_neighbors": hp.uniformint("n_neighbors", 1, 9),
                "model__weights": hp.choice("weights", ["uniform", "distance"]),
            },
        ],
    ),
}
TIMES = {
    f"{which}_{name}_time" for which in ("mean", "std") for name in ("fit", "score")
}
FIRST = X[0, 0]


def make(estimator=None, space=None, **params):
    estimator = Ridge() if estimator is None else estimator
    space = {"alpha": hp.loguniform("alpha", -3, 5)} if space is None else space
    return HyperoptSearchCV(
        estimator, space, **{"n_iter": 8, "cv": 2, "random_state": 0, **params}
    )


def make_pipeline():
    return Pipeline([("scale", StandardScaler()), ("model", Ridge())])


def grid_of(search, **params):
    """GridSearchCV over the points of a search, one by one."""
    grid = [
        {k: [v] for k, v in point.items()} for point in search.cv_results_["params"]
    ]
    return GridSearchCV(search.estimator, grid, **params)


def assert_same_results(ours, theirs):
    assert set(ours.cv_results_) == set(theirs.cv_results_) | {"error"}
    for name in set(theirs.cv_results_) - TIMES - {"params"}:
        a, b = ours.cv_results_[name], theirs.cv_results_[name]
        assert np.array_equal(np.ma.getmaskarray(a), np.ma.getmaskarray(b)), name
        if name.startswith("param_"):
            assert str(a) == str(b), name
            assert a.dtype == b.dtype, name
        else:
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert str(ours.cv_results_["params"]) == str(theirs.cv_results_["params"])


def middle(results):
    return int(np.argsort(results["mean_test_score"])[len(results["params"]) // 2])


@pytest.mark.parametrize("refit", [True, False, middle])
def test_all_results_are_those_of_a_grid_search(refit):
    params = {"cv": KFold(3), "refit": refit, "return_train_score": True}
    ours = make(make_pipeline(), SPACE, **params).fit(X, y)
    theirs = grid_of(ours, **params).fit(X, y)
    assert_same_results(ours, theirs)
    assert ours.best_index_ == theirs.best_index_
    assert str(ours.best_params_) == str(theirs.best_params_)
    assert hasattr(ours, "best_score_") == hasattr(theirs, "best_score_")
    assert hasattr(ours, "best_estimator_") == hasattr(theirs, "best_estimator_")
    if refit:
        np.testing.assert_array_equal(ours.predict(X), theirs.predict(X))
        assert ours.score(X, y) == theirs.score(X, y)


@pytest.mark.parametrize(
    "scoring",
    [
        ["r2", "neg_mean_absolute_error"],
        {"r2": "r2", "worst": "neg_max_error"},
        lambda model, X, y: {"r2": model.score(X, y), "first": model.predict(X)[0]},
    ],
)
def test_all_results_with_several_metrics(scoring):
    params = {"cv": KFold(3), "scoring": scoring, "refit": "r2"}
    ours = make(make_pipeline(), SPACE, **params).fit(X, y)
    theirs = grid_of(ours, **params).fit(X, y)
    assert_same_results(ours, theirs)
    assert ours.best_score_ == theirs.best_score_
    assert ours.score(X, y) == theirs.score(X, y)


def test_frames_and_a_nested_search():
    frame = pd.DataFrame(X, index=np.arange(40)[::-1] * 7, columns=list("abcde"))
    target = pd.Series(y, index=frame.index)
    before = frame.copy(), target.copy()
    ours = make().fit(frame, target)
    assert_same_results(ours, grid_of(ours, cv=2).fit(frame, target))
    assert ours.feature_names_in_.tolist() == list("abcde")
    assert ours.n_features_in_ == 5
    pd.testing.assert_frame_equal(frame, before[0])
    pd.testing.assert_series_equal(target, before[1])
    outer = cross_validate(make(n_iter=3), X, y, cv=2, return_estimator=True)
    assert all(len(s.cv_results_["params"]) == 3 for s in outer["estimator"])


class Fragile(RegressorMixin, BaseEstimator):
    """Fails where `alpha` is above a limit, in the fold that holds the first row."""

    def __init__(self, alpha=1.0, limit=1.0):
        self.alpha = alpha
        self.limit = limit

    def fit(self, X, y):
        if self.alpha > self.limit and X[0, 0] == FIRST:
            raise ValueError("too much")
        self.mean_ = np.mean(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)


@pytest.mark.parametrize("error_score", [np.nan, -7.0])
def test_failing_folds_are_those_of_a_grid_search(error_score):
    params = {"error_score": error_score, "return_train_score": True, "cv": KFold(3)}
    with pytest.warns(FitFailedWarning, match=r"trials failed in at least one fold"):
        ours = make(Fragile(), **params).fit(X, y)
    with pytest.warns((FitFailedWarning, UserWarning)):
        theirs = grid_of(ours, **params).fit(X, y)
    assert_same_results(ours, theirs)
    assert ours.best_index_ == theirs.best_index_
    failed = [point["alpha"] > 1 for point in ours.cv_results_["params"]]
    assert [e is not None for e in ours.cv_results_["error"]] == failed
    assert 0 < sum(failed) < len(failed)


def test_a_nested_embedder_with_groups():
    study = make_perturbation_study(
        16, n_cell_lines=4, n_genes=20, level=5, random_state=0
    )
    embedder = CoordinatedEmbedder(
        None,
        molecule_features=MorganFingerprinter(fp_size=32),
        module__embedding_size=3,
        max_epochs=1,
        batch_size=16,
        random_state=0,
    )
    estimator = Pipeline([("model", TransformedTargetRetriever(embedder))])
    estimator.set_params(model__transformer=StandardScaler())
    space = {
        "model__retriever__lr": hp.loguniform("lr", -9, -4),
        "model__retriever__metric": ["correlation", "euclidean"],
    }
    params = {
        "cv": DrugCellLineShuffleSplit(2, test_drugs=0.4, random_state=0),
        "scoring": RetrievalScorer(k=(1,)),
        "refit": "mrr",
    }
    data = {"X": study.smiles, "y": study.ge, "groups": study.groups}
    ours = make(estimator, space, n_iter=2, **params).fit(**data)
    theirs = grid_of(ours, **params).fit(**data)
    assert_same_results(ours, theirs)
    assert ours.score(study.smiles, study.ge) == theirs.score(study.smiles, study.ge)
    again = pickle.loads(pickle.dumps(ours))
    assert again.score(study.smiles, study.ge) == ours.score(study.smiles, study.ge)
    with pytest.raises(ValueError, match="groups"):
        clone(ours).fit(study.smiles, study.ge)
