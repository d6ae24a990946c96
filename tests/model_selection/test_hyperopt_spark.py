"""backend="spark", with a stand-in for hyperopt's SparkTrials."""

import pickle
import sys
from types import ModuleType

import hyperopt
import numpy as np
import pytest
from hyperopt import Trials, hp
from hyperopt.base import JOB_STATE_CANCEL, JOB_STATE_ERROR
from sklearn.base import BaseEstimator
from sklearn.exceptions import FitFailedWarning

from sklearn_molge.model_selection import HyperoptSearchCV

X = np.arange(8.0)[:, None]


class Bowl(BaseEstimator):
    def __init__(self, x=0.0, fail=False):
        self.x = x
        self.fail = fail

    def fit(self, X, y=None):
        if self.fail or self.x > 4:
            raise RuntimeError("too high")
        return self

    def score(self, X, y=None):
        return -((self.x - 1) ** 2)


class FakeSparkTrials(Trials):
    """Takes what SparkTrials takes, one trial at a time, through a pickle."""

    made = ()
    lost = ()
    cancelled = ()

    def __init__(self, parallelism=None):
        super().__init__()
        FakeSparkTrials.made = (*self.made, parallelism)

    def fmin(self, fn, space, algo, max_evals, early_stop_fn, rstate, **options):
        assert options["pass_expr_memo_ctrl"] is None
        assert not options["catch_eval_exceptions"]
        fn = pickle.loads(pickle.dumps(fn))
        result = hyperopt.fmin(
            fn,
            space,
            algo,
            max_evals,
            trials=self,
            allow_trials_fmin=False,
            rstate=rstate,
            early_stop_fn=early_stop_fn,
            return_argmin=False,
            show_progressbar=False,
            verbose=False,
        )
        for doc in self._dynamic_trials:
            if doc["tid"] in self.lost:
                doc["state"] = JOB_STATE_ERROR
                doc["misc"]["error"] = ("<class 'OSError'>", "worker lost")
            if doc["tid"] in self.cancelled:
                doc["state"] = JOB_STATE_CANCEL
        self.refresh()
        return result


@pytest.fixture
def spark(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark", ModuleType("pyspark"))
    monkeypatch.setattr(hyperopt, "SparkTrials", FakeSparkTrials)
    monkeypatch.setattr(FakeSparkTrials, "made", ())
    return FakeSparkTrials


def make(estimator=None, **params):
    params = {"n_iter": 8, "cv": 2, "n_suggestions": 3, "random_state": 0} | params
    space = {"x": hp.uniform("x", -5, 4)}
    return HyperoptSearchCV(estimator or Bowl(), space, backend="spark", **params)


def test_results_of_spark(spark):
    search = make(algorithm="anneal").fit(X)
    assert spark.made == (3,)
    x = search.cv_results_["param_x"].astype(float)
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], -((x - 1) ** 2)
    )
    assert len(x) == 8
    assert search.best_score_ == search.cv_results_["mean_test_score"].max()
    assert type(search.trials_) is Trials
    pickle.loads(pickle.dumps(search))
    again = make(algorithm="anneal").fit(X).cv_results_["params"]
    assert again == search.cv_results_["params"]


def test_lost_and_cancelled_trials(spark, monkeypatch):
    whole = make().fit(X).cv_results_["params"]
    monkeypatch.setattr(spark, "lost", (2,))
    monkeypatch.setattr(spark, "cancelled", (5, 7))
    with pytest.warns(FitFailedWarning, match="1 of 6 trials"):
        search = make().fit(X)
    assert search.cv_results_["params"] == [whole[i] for i in (0, 1, 2, 3, 4, 6)]
    assert "worker lost" in search.cv_results_["error"][2]
    assert search.trials_.statuses()[2] == "fail"
    with pytest.raises(RuntimeError, match="worker lost"):
        make(error_score="raise").fit(X)


def test_early_stopping_and_failure(spark):
    search = make(n_iter=100, early_stopping=5, algorithm="random").fit(X)
    scores = search.cv_results_["mean_test_score"]
    assert len(scores) - 1 - np.argmax(scores) == 5
    with pytest.raises(ValueError, match="All 8 trials failed"):
        make(Bowl(fail=True)).fit(X)


def test_spark_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(ImportError, match=r"sklearn-molge\[spark\]"):
        make().fit(X)


def test_trials_path_is_not_for_spark(spark, tmp_path):
    with pytest.raises(ValueError, match="backend='joblib' only"):
        make(trials_path=tmp_path / "trials.json").fit(X)
    assert spark.made == ()
