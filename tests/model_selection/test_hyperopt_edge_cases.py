"""HyperoptSearchCV where GridSearchCV and the docstring say what is right."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hyperopt import hp
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.datasets import make_regression
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from sklearn_molge.alignment import (
    CoordinatedEmbedder,
    finlayson2020_search_space,
    recommended_search_space,
)
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


# Bugs that were found and mended.


def shared_space():
    share = hp.uniform("share", 0.1, 1)
    return {"alpha": share, "l1_ratio": share}


def test_a_clone_shares_what_the_search_shares():
    search = make(ElasticNet(), shared_space(), n_iter=3)
    first, second = search.fit(X, y).cv_results_, clone(search).fit(X, y).cv_results_
    assert first["params"] == second["params"]
    assert all(point["alpha"] == point["l1_ratio"] for point in second["params"])


def test_a_clone_goes_on_with_the_file_of_the_search(tmp_path):
    search = make(
        ElasticNet(), shared_space(), n_iter=3, trials_path=tmp_path / "trials.json"
    )
    first = search.fit(X, y).cv_results_["params"]
    again = clone(search).set_params(n_iter=4).fit(X, y).cv_results_["params"]
    assert again[:3] == first
    assert len(again) == 4


@pytest.mark.parametrize(
    "space",
    [
        recommended_search_space(),
        recommended_search_space(tower="graph"),
        finlayson2020_search_space(),
        finlayson2020_search_space(variant="committed"),
    ],
)
def test_the_spaces_of_the_library_survive_a_clone(space):
    def refuse(model, X, y):
        raise KeyboardInterrupt

    search = clone(make(CoordinatedEmbedder(None), space, scoring=refuse))
    # It comes as far as the first fit.
    with pytest.raises((KeyboardInterrupt, ValueError), match=r"All 8 trials|^$"):
        search.fit(X[:, 0], y)


def test_expressions_of_one_label_must_be_equal():
    space = {"alpha": hp.uniform("a", 0, 1), "tol": hp.uniform("a", 0, 2)}
    with pytest.raises(ValueError, match="'a' comes twice, with other distributions"):
        make(space=space).fit(X, y)


@pytest.mark.parametrize("refit", [True, "other"])
def test_refit_is_checked_after_the_first_trial(refit):
    calls = []

    def two(model, X, y):
        calls.append(model)
        return {"a": 1.0, "b": 2.0}

    search = make(scoring=two, objective="a", refit=refit)
    with pytest.raises(ValueError, match=f"refit must be one of them.*{refit!r}"):
        search.fit(X, y)
    assert len(calls) == 2


def test_scores_that_are_nan_are_said():
    with pytest.warns(UserWarning, match="test scores are non-finite"):
        search = make(scoring=lambda *_: np.nan, n_iter=3).fit(X, y)
    assert all(error is None for error in search.cv_results_["error"])
    assert search.trials_.losses() == [None] * 3


def test_no_splits():
    with pytest.raises(ValueError, match="cv must yield at least one split"):
        make(cv=[]).fit(X, y)


class Untouched(Ridge):
    def fit(self, X, y):
        raise AssertionError("fitted before the input was checked")


def test_a_folder_to_write_in(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="folder to write in"):
        make(Untouched(), trials_path=tmp_path / "trials.json").fit(X, y)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
        make(Untouched(), trials_path=tmp_path).fit(X, y)


# Edges.


class Fragile(RegressorMixin, BaseEstimator):
    """Fails where `alpha` is above a limit, in the fold that holds the first row."""

    def __init__(self, alpha=1.0, limit=1.0, error=ValueError):
        self.alpha = alpha
        self.limit = limit
        self.error = error

    def fit(self, X, y):
        if self.alpha > self.limit and X[0, 0] == FIRST:
            raise self.error("too much")
        self.mean_ = np.mean(y)
        return self

    def predict(self, X):
        return np.full(len(X), self.mean_)


FIRST = X[0, 0]


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


def test_an_interrupt_in_a_trial_keeps_those_before(tmp_path):
    path = tmp_path / "trials.json"
    whole = make(n_iter=10).fit(X, y).cv_results_["params"]
    alphas = [point["alpha"] for point in whole]
    limit = max(alphas[:2])
    n_before = next(i for i, alpha in enumerate(alphas) if alpha > limit)
    model = Fragile(limit=limit, error=KeyboardInterrupt)
    search = make(model, n_iter=10, trials_path=path)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X, y)
    assert not hasattr(search, "cv_results_")
    kept = make(model, n_iter=n_before, trials_path=path).fit(X, y)
    assert kept.cv_results_["params"] == whole[:n_before]


@pytest.mark.parametrize("early_stopping", [1, 2, 5])
def test_early_stopping_by_hand(early_stopping):
    scores = make(n_iter=12).fit(X, y).cv_results_["mean_test_score"]
    n = since = 0
    best = -np.inf
    while n < 12 and since < early_stopping:
        since = 0 if scores[n] > best else since + 1
        best = max(best, scores[n])
        n += 1
    search = make(n_iter=12, early_stopping=early_stopping).fit(X, y)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], scores[:n])


def test_seeds_and_global_generators():
    before = np.random.get_state()[1].copy()
    seeds = [np.random.RandomState(3), np.random.RandomState(3), 3]
    runs = [make(n_initial_points=2, random_state=s).fit(X, y) for s in seeds]
    points = [run.cv_results_["params"] for run in runs]
    assert points[0] == points[1] == points[2]
    # The instance has moved on, as everywhere in scikit-learn.
    again = make(n_initial_points=2, random_state=seeds[0]).fit(X, y)
    assert again.cv_results_["params"] != points[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before)


SCRIPT = """
import sys
import numpy as np
from hyperopt import hp
from sklearn.linear_model import ElasticNet
from sklearn_molge.model_selection import HyperoptSearchCV
tol = hp.choice("inner", [{"tol": hp.uniform("tol", 0, 1)}, {"positive": True}])
space = {
    "alpha": hp.loguniform("alpha", -3, 5),
    "l1_ratio": hp.uniform("l1_ratio", 0.1, 1),
    "branch": hp.choice("branch", [tol, {"selection": "random", "random_state": 0}]),
}
search = HyperoptSearchCV(
    ElasticNet(), space, n_iter=9, n_initial_points=3, cv=2, random_state=0,
    trials_path=sys.argv[1],
)
rng = np.random.default_rng(0)
search.fit(rng.normal(size=(20, 3)), rng.normal(size=20))
print(search.cv_results_["params"])
"""


def test_the_hash_seed_of_python_does_not_matter(tmp_path):
    def run(seed, name):
        out = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / name)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return out.stdout

    assert run("1", "a") == run("2", "b")
    first, second = (json.loads((tmp_path / name).read_text()) for name in "ab")
    assert first["identity"] == second["identity"]


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
