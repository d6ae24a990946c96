"""A killed search goes on where it was, and touches no other's file."""

import hashlib
import inspect
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from hyperopt import hp
from sklearn.base import BaseEstimator, clone
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold

from sklearn_molge.exceptions import CorruptFileError
from sklearn_molge.model_selection import HyperoptSearchCV

X = np.arange(8.0)[:, None]
SPACE = {
    "x": hp.uniform("x", -5, 5),
    "more": hp.choice("more", [{}, {"y": hp.uniformint("y", -3, 3)}]),
}


class Bowl(BaseEstimator):
    """Fails above 4, and is interrupted at the trial that a counter says."""

    n_left = None

    def __init__(self, x=0.0, y=0):
        self.x = x
        self.y = y

    def fit(self, X, y=None):
        if Bowl.n_left is not None:
            if Bowl.n_left == 0:
                raise KeyboardInterrupt
            Bowl.n_left -= 1
        if self.x > 4:
            raise RuntimeError("too high")
        return self

    def score(self, X, y=None):
        return float(-((self.x - 1) ** 2) - (self.y + 2) ** 2 + X.sum() / 100)


@pytest.fixture
def interrupted_after(monkeypatch):
    def set_left(n_fits):
        monkeypatch.setattr(Bowl, "n_left", n_fits)

    return set_left


def make(path=None, **params):
    params = {"n_iter": 20, "cv": 2, "n_initial_points": 5, "random_state": 0} | params
    return HyperoptSearchCV(Bowl(), SPACE, trials_path=path, **params)


def assert_same(a, b):
    assert a.best_params_ == b.best_params_
    assert a.cv_results_.keys() == b.cv_results_.keys()
    for name, column in a.cv_results_.items():
        if "_time" in name:
            assert column.shape == b.cv_results_[name].shape
        elif name == "params":
            assert column == b.cv_results_[name]
        elif name == "error":
            assert [e is None for e in column] == [
                e is None for e in b.cv_results_[name]
            ]
        else:
            np.testing.assert_array_equal(column, b.cv_results_[name])
            assert column.dtype == b.cv_results_[name].dtype
    assert a.trials_.vals == b.trials_.vals
    assert a.trials_.losses() == b.trials_.losses()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.parametrize("n_suggestions", [1, 3])
def test_a_resumed_search_is_the_uninterrupted_one(
    tmp_path, interrupted_after, n_suggestions
):
    path = tmp_path / "trials.json"
    options = {"n_suggestions": n_suggestions, "return_train_score": True}
    whole = make(**options).fit(X)
    interrupted_after(25)  # in the 13th trial, in TPE's part
    with pytest.raises(KeyboardInterrupt):
        make(path, **options).fit(X)
    saved = json.loads(path.read_text())
    assert len(saved["trials"]) == 12
    interrupted_after(2 * 8)  # no more fits than are left: 8 trials of 2 folds
    with pytest.raises(KeyboardInterrupt):
        make(path, **options).fit(X)  # it is the last fit, on all data
    interrupted_after(1)
    assert_same(make(path, **options).fit(X), whole)
    assert list(tmp_path.iterdir()) == [path]


def test_more_trials_and_fewer(tmp_path):
    path = tmp_path / "trials.json"
    with pytest.warns(FitFailedWarning):
        short = make(path, n_iter=12).fit(X)
    with pytest.warns(FitFailedWarning):
        longer = make(str(path), n_iter=18).fit(X)
    with pytest.warns(FitFailedWarning):
        assert_same(longer, make(n_iter=18).fit(X))
    with pytest.warns(FitFailedWarning):
        assert_same(make(path, n_iter=12).fit(X), short)
    assert len(json.loads(path.read_text())["trials"]) == 18


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
def test_without_a_seed_the_file_has_it(tmp_path, interrupted_after):
    path = tmp_path / "trials.json"
    interrupted_after(21)
    with pytest.raises(KeyboardInterrupt):
        make(path, random_state=None).fit(X)
    seed = json.loads(path.read_text())["seed"]
    interrupted_after(None)
    first = make(path, random_state=None).fit(X)
    again = make(path, random_state=None).fit(X)
    assert_same(first, again)
    assert json.loads(path.read_text())["seed"] == seed


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"cv": 4}, "the splits of cv"),
        ({"cv": KFold(2, shuffle=True)}, "the splits of cv"),
        ({"random_state": 1}, "random_state"),
        ({"algorithm": "random"}, "algorithm"),
        ({"n_initial_points": 6}, "algorithm"),
        ({"n_suggestions": 2}, "n_suggestions"),
        ({"scoring": "r2"}, "scoring"),
        ({"error_score": 0.0}, "error_score"),
        ({"return_train_score": True}, "return_train_score"),
        ({"estimator": Bowl(x=3)}, "estimator"),
        ({"param_distributions": {"x": hp.uniform("x", -5, 4)}}, "param_distributions"),
    ],
)
def test_another_search_is_refused(tmp_path, change, what):
    path = tmp_path / "trials.json"
    make(path, n_iter=2, algorithm="anneal").fit(X)
    before = path.read_text()
    other = make(path, n_iter=2, algorithm="anneal").set_params(**change)
    with pytest.raises(ValueError, match=f"belongs to another search.*{what}"):
        other.fit(X)
    assert path.read_text() == before


def test_other_data_are_refused(tmp_path):
    path = tmp_path / "trials.json"
    make(path, n_iter=2).fit(X)
    with pytest.raises(ValueError, match="differs in X"):
        make(path, n_iter=2).fit(X + 1)
    with pytest.raises(ValueError, match="differs in y"):
        make(path, n_iter=2).fit(X, np.ones(8))


@pytest.mark.parametrize(
    "text", ["", "[]", '{"format": 2}', '{"format": "2"}', "\x80", "[" * 100_000]
)
def test_a_file_of_something_else_is_refused(tmp_path, text):
    path = tmp_path / "notes.txt"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CorruptFileError, match=f"{path} cannot be read: trials_path"):
        make(path).fit(X)
    assert path.read_text(encoding="utf-8") == text


def test_bad_paths(tmp_path):
    with pytest.raises(FileNotFoundError, match="folder that exists"):
        make(tmp_path / "nowhere" / "trials.json").fit(X)
    path = tmp_path / "trials.json"
    path.write_text('{"format": 0, "identity": {}, "seed": 0, "trials": []}')
    with pytest.raises(ValueError, match=r"has format 0\. This version reads 2"):
        make(path).fit(X)


def test_a_clone_goes_on_with_the_file_of_the_search(tmp_path):
    shared = hp.uniform("shared", -1, 1)
    search = make(tmp_path / "trials.json", n_iter=3)
    search.set_params(param_distributions={"x": shared, "y": shared})
    first = search.fit(X).cv_results_["params"]
    again = clone(search).set_params(n_iter=4).fit(X).cv_results_["params"]
    assert again[:3] == first
    assert len(again) == 4


class Untouched(Bowl):
    def fit(self, X, y=None):
        raise AssertionError("fitted before the input was checked")


def test_a_folder_to_write_in(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    search = make(tmp_path / "trials.json").set_params(estimator=Untouched())
    with pytest.raises(PermissionError, match="folder to write in"):
        search.fit(X)


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(OSError, match=str(tmp_path)):
        make(tmp_path).set_params(estimator=Untouched()).fit(X)


@pytest.mark.parametrize(
    "params",
    [
        {"scoring": lambda model, X, y=None: 0.0},
        {"param_distributions": {"x": [lambda: 1, lambda: 2]}},
    ],
)
def test_what_cannot_be_told_apart_later_is_refused(tmp_path, params):
    search = make(tmp_path / "trials.json").set_params(estimator=Untouched(), **params)
    with pytest.raises(TypeError, match=r"trials_path: .*<lambda> cannot be imported"):
        search.fit(X)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
def test_an_interrupt_in_a_trial_keeps_those_before(tmp_path, interrupted_after):
    path = tmp_path / "trials.json"
    whole = make(n_iter=5).fit(X)
    interrupted_after(7)  # in the second fold of the fourth trial
    search = make(path, n_iter=5)
    with pytest.raises(KeyboardInterrupt):
        search.fit(X)
    assert not hasattr(search, "cv_results_")
    interrupted_after(1)  # the last fit, on all data: none of the three is repeated
    kept = make(path, n_iter=3).fit(X)
    assert kept.cv_results_["params"] == whole.cv_results_["params"][:3]


def run_search(path, n_iter):
    rng = np.random.default_rng(0)
    space = {"alpha": hp.loguniform("alpha", -3, 3), "solver": ["svd", "cholesky"]}
    return HyperoptSearchCV(
        Ridge(),
        space,
        n_iter=n_iter,
        n_initial_points=3,
        cv=2,
        random_state=0,
        trials_path=path,
    ).fit(rng.normal(size=(20, 3)), rng.normal(size=20))


IMPORTS = """
import sys
import numpy as np
from hyperopt import hp
from sklearn.linear_model import Ridge
from sklearn_molge.model_selection import HyperoptSearchCV
"""


def test_another_process_goes_on(tmp_path):
    path = tmp_path / "trials.json"
    program = f"{IMPORTS}\n{inspect.getsource(run_search)}\nrun_search(sys.argv[1], 4)"
    subprocess.run(
        [sys.executable, "-c", program, str(path)],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        check=True,
    )
    assert len(json.loads(path.read_text())["trials"]) == 4
    assert_same(run_search(path, 6), run_search(None, 6))


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


def sealed(content):
    """Return a file's text with the right checksum, as who meant it would write it."""
    body = {key: content[key] for key in ("identity", "seed", "trials")}
    digest = hashlib.sha256(json.dumps(body).encode()).hexdigest()
    return json.dumps({"format": 2, "checksum": digest} | body)


def changed(place, value):
    def change(content):
        *way, last = place
        for step in way:
            content = content[step]
        if value is Ellipsis:
            del content[last]
        else:
            content[last] = value

    return change


SCORE = ("trials", 1, "folds", 0, "test_scores")
BAD_TRIALS = {
    "trial 1: .*'x' must be from -5 to 5. Got 6": (("trials", 1, "values", "x"), 6.0),
    "trial 1: .*'x' must be from .* Got nan": (
        ("trials", 1, "values", "x"),
        float("nan"),
    ),
    "trial 1: .*'x' must be .* Got 1": (("trials", 1, "values", "x"), "1"),
    "trial 1: .*'x' must be .* Got True": (("trials", 1, "values", "x"), True),
    "trial 1: .*no value of 'x'": (("trials", 1, "values", "x"), ...),
    "trial 1: .*'more' must be an int": (("trials", 1, "values", "more"), 0.5),
    "trial 1: .*'more' must be from 0 to 1. Got 7": (
        ("trials", 1, "values", "more"),
        7,
    ),
    "trial 1: .*no label 'z'": (("trials", 1, "values", "z"), 1),
    "trial 1: .*'test_scores' is '9'": (SCORE, "9"),
    "trial 1: .*'test_scores' is None": (SCORE, None),
    "trial 1: .*'test_scores' is 1000": (SCORE, 10**400),
    "trial 1: .*by other metrics than those before": (SCORE, {"a": 1.0}),
    "trial 1: .*an error and a score": (("trials", 1, "folds", 0, "error"), "it fell"),
    "trial 1: .*'fit_time' is -1": (("trials", 1, "folds", 0, "fit_time"), -1),
    "trial 1: .*KeyError": (("trials", 1, "folds", 0, "fit_time"), ...),
    "trial 1: .*must have 2 folds": (("trials", 1, "folds"), []),
    "trial 1: .*TypeError": (("trials", 1), []),
    "trial 1: .*KeyError: 'test_scores'": (SCORE, ...),
    "trials_path: .*no list of trials": (("trials",), 5),
    "trials_path: .*seed is '3'": (("seed",), "3"),
}


@pytest.mark.parametrize("message", BAD_TRIALS)
def test_a_trial_that_is_none_is_named(tmp_path, message):
    path = tmp_path / "trials.json"
    make(path, n_iter=2, algorithm="random").fit(X)
    content = json.loads(path.read_text())
    changed(*BAD_TRIALS[message])(content)
    path.write_text(sealed(content))
    search = make(path, n_iter=2, algorithm="random").set_params(estimator=Bowl())
    with pytest.raises(CorruptFileError, match=f"{path} cannot be read: {message}"):
        search.fit(X)


def test_a_changed_digit_is_noticed(tmp_path):
    """It would have been another best_params_."""
    path = tmp_path / "trials.json"
    make(path, n_iter=2).fit(X)
    content = json.loads(path.read_text())
    assert sealed(content) == path.read_text()
    content["trials"][0]["folds"][0]["test_scores"] += 1000
    path.write_text(json.dumps(content))
    with pytest.raises(CorruptFileError, match="it was changed since it was written"):
        make(path, n_iter=2).fit(X)


DISTRIBUTIONS = {
    "u": hp.uniform("u", -1, 2),
    "lu": hp.loguniform("lu", -3, 0),
    "q": hp.quniform("q", 0, 5, 3),
    "qn": hp.qnormal("qn", 0, 1, 1),
    "n": hp.normal("n", 0, 1),
    "ln": hp.lognormal("ln", 0, 1),
    "qln": hp.qlognormal("qln", 0, 1, 1),
    "qlu": hp.qloguniform("qlu", 0, 3, 2),
    "r": hp.randint("r", 5),
    "r2": hp.randint("r2", 2, 9),
    "ui": hp.uniformint("ui", 1, 4),
    "c": hp.choice("c", [1, {"a": hp.uniform("cc", 0, 1)}]),
    "p": hp.pchoice("p", [(0.2, 1), (0.8, hp.choice("pc", [1, 2]))]),
}


class Anything(BaseEstimator):
    def __init__(self, given=None):
        self.given = given

    def set_params(self, **params):
        return self

    def fit(self, X, y=None):
        return self

    def score(self, X, y=None):
        return 0.0


@pytest.mark.parametrize("algorithm", ["random", "tpe", "anneal"])
def test_what_is_drawn_is_in_the_space(tmp_path, algorithm):
    path = tmp_path / "trials.json"
    for n_iter in (30, 31):
        HyperoptSearchCV(
            Anything(), DISTRIBUTIONS, n_iter=n_iter, cv=2, n_initial_points=10,
            algorithm=algorithm, random_state=0, trials_path=path,
        ).fit(X)  # fmt: skip
    assert len(json.loads(path.read_text())["trials"]) == 31
