"""HyperoptSearchCV is a scikit-learn search, and learns from its trials."""

import warnings

import joblib
import numpy as np
import pandas as pd
import pytest
from hyperopt import Trials, hp, tpe
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import estimator_checks
from sklearn.utils.validation import check_is_fitted

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.metrics import RetrievalScorer, similarity
from sklearn_molge.model_selection import DrugCellLineKFold, HyperoptSearchCV
from sklearn_molge.molecules import MorganFingerprinter

X = np.arange(8.0)[:, None]


class Bowl(BaseEstimator):
    """Scores best at x = 1, y = -2; counts what it is told to, and fails so too."""

    def __init__(self, x=0.0, y=0.0, kind="bowl", fail=None):
        self.x = x
        self.y = y
        self.kind = kind
        self.fail = fail

    def fit(self, X, y=None):
        if self.fail == "fit" or (self.fail == "high" and self.x > 1):
            raise RuntimeError(f"no fit at x={self.x}")
        self.n_features_in_ = X.shape[1]
        return self

    def score(self, X, y=None):
        if self.fail == "score":
            raise RuntimeError("no score")
        return -((self.x - 1) ** 2) - (self.y + 2) ** 2


SPACE = {"x": hp.uniform("x", -5, 5), "y": hp.uniform("y", -5, 5)}


def make(estimator=None, space=None, **params):
    params = {"n_iter": 6, "cv": 2, "random_state": 0} | params
    space = SPACE if space is None else space
    return HyperoptSearchCV(estimator or Bowl(), space, **params)


def scores_of(search):
    return search.cv_results_["mean_test_score"]


def two_scores(estimator, X, y=None):
    score = estimator.score(X, y)
    return {"good": score, "bad": -score}


def test_all_that_a_grid_search_has():
    search = make(return_train_score=True).fit(X)
    grid = GridSearchCV(Bowl(), {"x": [0, 1], "y": [0]}, cv=2, return_train_score=True)
    assert set(grid.fit(X).cv_results_) == set(search.cv_results_) - {"error"}
    fitted = {name for name in vars(grid) if name.endswith("_")}
    assert fitted | {"trials_"} == {n for n in vars(search) if n.endswith("_")}
    assert search.n_splits_ == 2
    assert search.n_features_in_ == 1
    assert search.multimetric_ is False
    assert search.score(X) == search.best_score_
    table = pd.DataFrame(search.cv_results_)
    assert len(table) == 6
    assert table["rank_test_score"].min() == 1


def test_scores_are_those_of_cross_validation():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(30, 4)), rng.normal(size=30)
    space = {"alpha": hp.loguniform("alpha", -3, 3)}
    search = make(Ridge(), space, cv=KFold(3)).fit(A, b)
    for i, params in enumerate(search.cv_results_["params"]):
        slow = cross_validate(Ridge(**params), A, b, cv=KFold(3))["test_score"]
        np.testing.assert_array_equal(
            [search.cv_results_[f"split{k}_test_score"][i] for k in range(3)], slow
        )
    best = int(np.argmax(scores_of(search)))
    assert search.best_index_ == best
    assert search.best_score_ == scores_of(search)[best]
    assert search.best_params_ == search.cv_results_["params"][best]
    slow = Ridge(**search.best_params_).fit(A, b)
    np.testing.assert_array_equal(search.predict(A), slow.predict(A))


def test_parameters_are_plain_python():
    space = {
        "x": hp.choice("x", [1, 2.5]),
        "y": hp.uniformint("y", 1, 5),
        "kind": ["a", [64, 32], None],
        "fail": hp.quniform("fail", 0, 4, 2),
    }
    search = make(space=space, n_iter=20).fit(X)
    allowed = {"x": (int, float), "y": (int,), "fail": (float,)}
    for params in search.cv_results_["params"]:
        for name, types in allowed.items():
            assert type(params[name]) in types
        assert params["kind"] in ("a", [64, 32], None)
    assert any(params["kind"] == [64, 32] for params in search.cv_results_["params"])


def test_nested_choices_are_masked():
    space = {
        "branch": hp.choice(
            "branch",
            [{"kind": "flat"}, {"kind": "deep", "x": hp.uniform("x", 0, 1)}],
        )
    }
    search = make(space=space, n_iter=12).fit(X)
    kinds = np.array([p["kind"] for p in search.cv_results_["params"]])
    assert set(kinds) == {"flat", "deep"}
    np.testing.assert_array_equal(
        search.cv_results_["param_x"].mask, [k == "flat" for k in kinds]
    )
    assert "param_branch" not in search.cv_results_


def test_a_whole_space_may_be_an_expression():
    space = hp.choice("all", [{"x": 0.0}, {"x": 1.0, "y": hp.uniform("y", -3, -1)}])
    search = make(space=space).fit(X)
    assert {p["x"] for p in search.cv_results_["params"]} == {0.0, 1.0}


@pytest.mark.parametrize("algorithm", ["tpe", "random", "anneal", tpe.suggest])
def test_the_same_seed_gives_the_same_trials(algorithm):
    options = {"algorithm": algorithm, "n_iter": 8, "n_initial_points": 4}
    state = np.random.get_state()[1].copy()
    first = make(**options).fit(X).cv_results_["params"]
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert first == make(**options).fit(X).cv_results_["params"]
    assert first != make(**options, random_state=1).fit(X).cv_results_["params"]


def test_without_a_seed_trials_differ():
    unseeded = [make(random_state=None, n_iter=2).fit(X) for _ in range(2)]
    first, second = (search.cv_results_["params"] for search in unseeded)
    assert first != second


def test_n_jobs_does_not_change_the_result():
    options = {"n_suggestions": 3, "n_iter": 8, "n_initial_points": 3}
    alone = make(**options).fit(X).cv_results_
    with joblib.parallel_config("threading"):
        parallel = make(**options, n_jobs=2).fit(X).cv_results_
    assert alone["params"] == parallel["params"]
    # Points of one round do not know each other's scores, and yet differ.
    one_by_one = make(**options | {"n_suggestions": 1}).fit(X).cv_results_
    assert one_by_one["params"][:4] == alone["params"][:4]
    assert one_by_one["params"] != alone["params"]
    assert len({p["x"] for p in alone["params"]}) == 8


def test_tpe_is_closer_to_the_best_than_random():
    found = {}
    for algorithm in ("tpe", "random"):
        runs = [
            make(algorithm=algorithm, n_iter=60, random_state=seed).fit(X)
            for seed in range(3)
        ]
        found[algorithm] = np.mean([run.best_score_ for run in runs])
    assert found["tpe"] > found["random"] / 2


def test_early_stopping():
    search = make(n_iter=200, early_stopping=7, algorithm="random").fit(X)
    scores = list(scores_of(search))
    assert len(scores) < 200
    assert len(scores) - 1 - int(np.argmax(scores)) == 7
    for n in range(7, len(scores)):  # it had no reason to stop before
        assert n - 1 - int(np.argmax(scores[:n])) < 7


def test_failing_trials_are_recorded_and_the_search_goes_on():
    with pytest.warns(FitFailedWarning, match="trials failed in at least one fold"):
        search = make(Bowl(fail="high"), n_iter=30).fit(X)
    x = search.cv_results_["param_x"].astype(float)
    failed = np.array([e is not None for e in search.cv_results_["error"]])
    np.testing.assert_array_equal(failed, x > 1)
    np.testing.assert_array_equal(failed, np.isnan(scores_of(search)))
    for error, value in zip(
        search.cv_results_["error"][failed], x[failed], strict=True
    ):
        assert f"RuntimeError: no fit at x={value}" in error
    assert search.best_params_["x"] <= 1
    statuses = search.trials_.statuses()
    assert [status == "fail" for status in statuses] == list(failed)
    late = failed[20:].mean()
    assert late < failed[:20].mean() or late == 0  # TPE keeps away


def test_error_score_is_a_score():
    search = make(Bowl(fail="high"), error_score=-7.0, n_iter=20, refit=False)
    with pytest.warns(FitFailedWarning):
        search.fit(X)
    failed = np.array([e is not None for e in search.cv_results_["error"]])
    assert failed.any()
    assert (scores_of(search)[failed] == -7).all()


def test_a_scorer_that_fails_with_several_metrics():
    space = {"fail": [None, "score"], "x": hp.uniform("x", 0, 1)}
    with pytest.warns(FitFailedWarning, match="no score"):
        search = make(
            space=space, scoring=two_scores, refit="good", n_iter=8, n_suggestions=2
        ).fit(X)
    failed = np.array([p["fail"] == "score" for p in search.cv_results_["params"]])
    for metric in ("good", "bad"):
        np.testing.assert_array_equal(
            failed, np.isnan(search.cv_results_[f"mean_test_{metric}"])
        )


@pytest.mark.parametrize("fail", ["fit", "score"])
def test_all_failing_raises(fail):
    with pytest.raises(ValueError, match="All 6 trials failed"):
        make(Bowl(fail=fail)).fit(X)
    with pytest.raises(RuntimeError, match="no"):
        make(Bowl(fail=fail), error_score="raise").fit(X)


def test_several_metrics():
    scoring = {"good": "neg_mean_squared_error", "other": "r2"}
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(30, 4)), rng.normal(size=30)
    space = {"alpha": hp.loguniform("alpha", -3, 3)}
    search = make(Ridge(), space, scoring=scoring, refit="other").fit(A, b)
    assert search.multimetric_
    assert search.best_score_ == search.cv_results_["mean_test_other"].max()
    assert min(search.trials_.losses()) == -search.best_score_
    search = make(Ridge(), space, scoring=scoring, refit=False, objective="good").fit(
        A, b
    )
    assert not hasattr(search, "best_params_")
    losses = search.trials_.losses()
    np.testing.assert_array_equal(losses, -search.cv_results_["mean_test_good"])
    with pytest.raises(ValueError, match="objective must name the one to maximise"):
        make(Ridge(), space, scoring=scoring, refit=False).fit(A, b)
    with pytest.raises(ValueError, match="objective must name the one to maximise"):
        make(scoring=two_scores, refit="other").fit(X)
    with pytest.raises(ValueError, match="returns a single number"):
        make(objective="good").fit(X)


def test_refit_by_a_function():
    search = make(refit=lambda results: 2).fit(X)
    assert search.best_index_ == 2
    assert search.best_params_ == search.cv_results_["params"][2]
    assert not hasattr(search, "best_score_")
    search = make(refit=False).fit(X)
    assert not hasattr(search, "best_estimator_")
    assert search.best_score_ == scores_of(search).max()


def test_clone_and_persistence(tmp_path):
    search = make(n_suggestions=2, early_stopping=3)
    assert clone(search).get_params()["early_stopping"] == 3
    search.set_params(n_iter=4, estimator__kind="other").fit(X)
    assert len(scores_of(search)) == 4
    joblib.dump(search, tmp_path / "search.joblib")
    loaded = joblib.load(tmp_path / "search.joblib")
    assert loaded.best_params_ == search.best_params_
    assert isinstance(loaded.trials_, Trials)
    assert loaded.best_estimator_.kind == "other"
    check_is_fitted(loaded)


def test_two_views_groups_and_a_pipeline():
    study = make_perturbation_study(
        20, n_cell_lines=4, n_genes=20, level=5, random_state=0
    )
    pipe = make_pipeline(
        MorganFingerprinter(fp_size=64), CCA(n_components=5, ridge=1.0)
    )
    space = {
        "morganfingerprinter__radius": hp.uniformint("radius", 1, 3),
        "cca": hp.choice("cca", [{"cca__n_components": 3}, {"cca__n_components": 8}]),
    }
    cv = DrugCellLineKFold(2, 2, random_state=0)
    scoring = RetrievalScorer(k=(1,))
    search = make(pipe, space, cv=cv, scoring=scoring, refit="mrr", n_iter=3)
    search.fit(study.smiles, study.ge, groups=study.groups)
    assert search.n_splits_ == 4
    best = search.cv_results_["mean_test_mrr"].max()
    assert search.best_score_ == best
    slow = cross_validate(
        clone(pipe).set_params(**search.best_params_),
        study.smiles,
        study.ge,
        groups=study.groups,
        cv=cv,
        scoring=scoring,
    )
    np.testing.assert_allclose(best, slow["test_mrr"].mean(), rtol=1e-12)
    assert similarity(search, study.smiles[:3], study.ge[:2]).shape == (2, 3)
    assert search.score(study.smiles, study.ge) > 0


def test_metadata_routing():
    from sklearn import config_context

    study = make_perturbation_study(
        12, n_cell_lines=4, n_genes=20, level=5, random_state=0
    )
    pipe = make_pipeline(
        MorganFingerprinter(fp_size=64), CCA(n_components=5, ridge=1.0)
    )
    space = {"morganfingerprinter__radius": hp.uniformint("radius", 1, 3)}
    cv = DrugCellLineKFold(2, 2, random_state=0)
    plain = make(pipe, space, cv=cv, scoring=RetrievalScorer("mrr"), n_iter=2)
    plain.fit(study.smiles, study.ge, groups=study.groups)
    with config_context(enable_metadata_routing=True):
        scoring = RetrievalScorer("mrr").set_score_request(drugs=True)
        routed = make(pipe, space, cv=cv, scoring=scoring, n_iter=2).fit(
            study.smiles, study.ge, groups=study.groups, drugs=study.groups[:, 0]
        )
    np.testing.assert_allclose(scores_of(plain), scores_of(routed), rtol=1e-12)


def test_progress(capsys):
    make(verbose=2, n_iter=2).fit(X)
    assert "trial 1: score=-" in capsys.readouterr().out


def test_callbacks_see_the_search():
    class Counter:
        def __init__(self):
            self.seen = []

        def setup(self, estimator, context):
            self.seen.append("setup")

        def teardown(self, estimator, context):
            self.seen.append("teardown")

        def on_fit_task_begin(self, estimator, context):
            self.seen.append("begin")

        def on_fit_task_end(self, estimator, context):
            self.seen.append("end")

    counter = Counter()
    make(n_iter=2).set_callbacks(counter).fit(X)
    assert counter.seen == ["setup", "begin", "end", "teardown"]


@pytest.mark.parametrize(
    ("params", "error", "message"),
    [
        ({"n_iter": 0}, ValueError, "'n_iter' parameter"),
        ({"algorithm": "grid"}, ValueError, "'algorithm' parameter"),
        ({"early_stopping": 0}, ValueError, "'early_stopping' parameter"),
        ({"space": {"nope": [1, 2]}}, ValueError, "Invalid parameter 'nope'"),
        ({"space": {"x": 1.0}}, ValueError, "must hold a hyperopt expression"),
        ({"space": {"x": []}}, ValueError, r"\['x'\] has nothing to draw from"),
        ({"space": {1: [1, 2]}}, TypeError, "must be names, str. Got 1"),
        ({"space": hp.uniform("x", 0, 1)}, TypeError, "must be a dict of parameters"),
        (
            {"space": {"x": hp.uniform("a", 0, 1), "y": hp.normal("a", 0, 1)}},
            ValueError,
            "'a' comes twice",
        ),
        (
            {"space": {"x": hp.uniform("x", 0, 1), "b": hp.choice("b", [{"x": 3}])}},
            ValueError,
            r"sets \['x'\] twice",
        ),
    ],
)
def test_bad_parameters(params, error, message):
    with pytest.raises(error, match=message):
        make(Bowl(fail="fit"), **params).fit(X)


def test_scipy_distributions_are_refused():
    from scipy.stats import uniform

    with pytest.raises(TypeError, match="Got a scipy distribution"):
        make(space={"x": uniform(0, 1)}).fit(X)


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_dict_unchanged,
        estimator_checks.check_estimators_pickle,
        estimator_checks.check_fit_idempotent,
        estimator_checks.check_n_features_in,
        estimator_checks.check_estimators_nan_inf,
        estimator_checks.check_mixin_order,
    ],
    ids=lambda check: check.__name__,
)
def test_checks_of_scikit_learn(check):
    search = make(Ridge(), {"alpha": hp.loguniform("a", -2, 2)}, n_iter=2)
    search.set_params(error_score="raise")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check("HyperoptSearchCV", search)


def test_it_searches_in_a_pipeline():
    rng = np.random.default_rng(0)
    A, b = rng.normal(size=(20, 3)), rng.normal(size=20)
    space = {"alpha": [0.1, 1.0]}
    pipe = make_pipeline(StandardScaler(), make(Ridge(), space, n_iter=2))
    assert pipe.fit(A, b).predict(A).shape == (20,)


@pytest.mark.parametrize("refit", [True, "other"])
def test_refit_is_checked_after_the_first_trial(refit):
    calls = []

    def two(model, X, y=None):
        calls.append(model)
        return {"a": 1.0, "b": 2.0}

    search = make(scoring=two, objective="a", refit=refit)
    with pytest.raises(ValueError, match=f"refit must be one of them.*{refit!r}"):
        search.fit(X)
    assert len(calls) == 2


def test_scores_that_are_nan_are_said():
    def only_right_of_zero(model, X, y=None):
        return model.x if model.x > 0 else np.nan

    search = make(scoring=only_right_of_zero, n_iter=8)
    with pytest.warns(UserWarning, match="test scores are non-finite"):
        search.fit(X)
    assert search.best_params_["x"] > 0
    assert all(error is None for error in search.cv_results_["error"])
    x = [params["x"] for params in search.cv_results_["params"]]
    assert search.trials_.losses() == [-value if value > 0 else None for value in x]


def test_no_trial_with_a_score_is_no_search():
    """scikit-learn's searches take the first candidate then."""
    with pytest.raises(ValueError, match="None of the 3 trials has a score: in each"):
        make(scoring=lambda *_: np.nan, n_iter=3).fit(X)


def test_no_splits():
    with pytest.raises(ValueError, match="cv must yield at least one split"):
        make(cv=[]).fit(X)


@pytest.mark.parametrize("early_stopping", [1, 2, 5])
def test_early_stopping_by_hand(early_stopping):
    scores = make(n_iter=12).fit(X).cv_results_["mean_test_score"]
    n = since = 0
    best = -np.inf
    while n < 12 and since < early_stopping:
        since = 0 if scores[n] > best else since + 1
        best = max(best, scores[n])
        n += 1
    search = make(n_iter=12, early_stopping=early_stopping).fit(X)
    np.testing.assert_array_equal(search.cv_results_["mean_test_score"], scores[:n])


def test_seeds_and_global_generators():
    before = np.random.get_state()[1].copy()
    seeds = [np.random.RandomState(3), np.random.RandomState(3), 3]
    runs = [make(n_initial_points=2, random_state=s).fit(X) for s in seeds]
    points = [run.cv_results_["params"] for run in runs]
    assert points[0] == points[1] == points[2]
    # The instance has moved on, as everywhere in scikit-learn.
    again = make(n_initial_points=2, random_state=seeds[0]).fit(X)
    assert again.cv_results_["params"] != points[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before)
