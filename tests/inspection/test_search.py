"""Importance finds the parameters that a made-up score was made of."""

import numpy as np
import pytest
from scipy import stats
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, PolynomialFeatures

from sklearn_molge.inspection import ParameterScoreDisplay, parameter_importance


@pytest.fixture
def read():
    """Read a search: the Display keeps what was read."""
    plt = pytest.importorskip("matplotlib.pyplot")
    yield ParameterScoreDisplay.from_search
    plt.close("all")


class Fitted(BaseEstimator):
    """What a fitted search has, and nothing else."""

    def __init__(self, trials, scores, *, refit=True, **more):
        self.refit = refit
        self.cv_results_ = {
            "params": trials,
            "mean_test_score": np.asarray(scores),
            **{f"mean_test_{name}": np.asarray(s) for name, s in more.items()},
        }
        if more:
            del self.cv_results_["mean_test_score"]

    def fit(self):
        return self


def made_up(n_trials=60, seed=0):
    """Score: lr on a log scale and kind; width and bias do nothing."""
    rng = np.random.default_rng(seed)
    trials = [
        {
            "lr": float(10 ** rng.uniform(-5, -2)),
            "width": int(rng.integers(32, 2048)),
            "kind": str(rng.choice(["a", "b", "c"])),
            "bias": bool(rng.integers(2)),
            "fixed": 3,
        }
        for _ in range(n_trials)
    ]
    scores = np.array([2 * np.log10(t["lr"]) + 2 * (t["kind"] == "b") for t in trials])
    return trials, scores + rng.normal(size=n_trials) / 10


def test_importance_finds_what_the_score_is_made_of():
    trials, scores = made_up()
    table = parameter_importance(Fitted(trials, scores), n_repeats=3, random_state=0)
    assert table.index.tolist()[:2] == ["lr", "kind"]
    assert set(table.index) == {"lr", "kind", "width", "bias"}
    assert table.index.name == "parameter"
    assert table["importance"].is_monotonic_decreasing
    assert table.loc["kind", "importance"] > 0.1
    assert table.loc[["width", "bias"], "importance"].abs().max() < 0.03
    assert table.loc["kind", "kind"] == table.loc["bias", "kind"] == "category"
    assert table.loc["lr", "kind"] == "number"
    assert table.attrs["r2"] > 0.8
    assert table.attrs["n_trials"] == 60
    assert table.attrs["scoring"] == "score"


def test_rho_and_p_are_those_of_scipy():
    trials, scores = made_up(20)
    table = parameter_importance(Fitted(trials, scores), n_repeats=1, random_state=0)
    rho, p = stats.spearmanr([t["lr"] for t in trials], scores)
    assert table.loc["lr", "rho"] == rho
    assert table.loc["lr", "p_value"] == p
    groups = [
        [s for t, s in zip(trials, scores, strict=True) if t["kind"] == kind]
        for kind in "abc"
    ]
    assert table.loc["kind", "p_value"] == pytest.approx(stats.kruskal(*groups).pvalue)
    assert np.isnan(table.loc["kind", "rho"])
    # Spearman by hand: correlation of ranks, no ties here.
    ranks = [stats.rankdata(x) for x in ([t["lr"] for t in trials], scores)]
    assert rho == pytest.approx(np.corrcoef(ranks)[0, 1])


def test_seeds_and_the_order_of_categories():
    trials, scores = made_up(20)
    first, again = (
        parameter_importance(Fitted(trials, scores), n_repeats=1, random_state=3)
        for _ in range(2)
    )
    assert first.equals(again)
    other = parameter_importance(Fitted(trials, scores), n_repeats=1, random_state=4)
    assert not first.equals(other)


def test_failed_trials_are_left_out():
    trials, scores = made_up(20)
    failing = [{**trials[0], "kind": "never"}, *trials]
    table = parameter_importance(
        Fitted(failing, [np.nan, *scores]), n_repeats=1, random_state=0
    )
    whole = parameter_importance(Fitted(trials, scores), n_repeats=1, random_state=0)
    np.testing.assert_allclose(table["p_value"], whole["p_value"])
    assert table.attrs["n_trials"] == 20


def test_parameters_that_some_trials_do_not_have():
    rng = np.random.default_rng(0)
    trials, scores = [], []
    for _ in range(50):
        x = float(rng.uniform())
        deep = bool(rng.integers(2))
        trials.append({"depth": 2, "growth": x} if deep else {"depth": 0})
        scores.append(x if deep else 0.5 + rng.normal() / 100)
    table = parameter_importance(Fitted(trials, scores), n_repeats=2, random_state=0)
    assert table.loc["growth", "n_trials"] == sum("growth" in t for t in trials)
    assert table.loc["growth", "importance"] > 0.5
    assert table.loc["growth", "rho"] == pytest.approx(1)


def test_only_being_there_is_a_category(read):
    trials = [{"a": 1} if i % 2 else {} for i in range(20)]
    parameters = read(Fitted(trials, np.arange(20.0))).parameters
    assert parameters["a"].cat.categories.tolist() == ["1", "(not set)"]
    table = parameter_importance(
        Fitted(trials, [float(i % 2) for i in range(20)]), n_repeats=1, random_state=0
    )
    assert table.loc["a", "importance"] > 0.5


def test_equal_parameters_are_one():
    trials, scores = made_up(20)
    twins = [{**trial, "twin": trial["lr"]} for trial in trials]
    table = parameter_importance(Fitted(twins, scores), n_repeats=1, random_state=0)
    assert "lr = twin" in table.index
    alone = parameter_importance(Fitted(trials, scores), n_repeats=1, random_state=0)
    np.testing.assert_allclose(table["importance"], alone["importance"])


def test_classes_and_mixed_values_are_categories(read):
    values = [int, None, 3, "text", (64, 32), Ridge()]
    trials = [{"x": values[i % 6]} for i in range(12)]
    parameter = read(Fitted(trials, np.zeros(12))).parameters["x"].cat
    levels = ["(64, 32)", "3", "None", "Ridge", "int", "text"]
    assert parameter.categories.tolist() == levels
    assert parameter.codes[:6].tolist() == [4, 2, 1, 5, 0, 3]


@pytest.mark.parametrize(
    ("values", "is_log"),
    [
        (np.random.default_rng(0).uniform(32, 2048, 60), False),
        (np.exp(np.random.default_rng(0).normal(-7, 1, 60)), True),
        (10 ** np.random.default_rng(0).uniform(-5, -2, 60), True),
        (np.random.default_rng(0).uniform(0, 0.5, 60), False),
        (np.array([-1.0, 10, 100, 1000]), False),
    ],
)
def test_log_scales_are_seen(values, is_log, read):
    trials = [{"x": float(v)} for v in values]
    ax = read(Fitted(trials, np.zeros(len(values)))).ax_
    assert ax.get_xscale() == ("log" if is_log else "linear")


def test_constant_scores():
    trials, _ = made_up(20)
    table = parameter_importance(Fitted(trials, np.ones(20)), n_repeats=1)
    assert table[["importance", "rho", "p_value"]].isna().all(axis=None)


def test_several_scores(read):
    trials, scores = made_up(20)
    search = Fitted(trials, [], refit="mrr", mrr=scores, other=-scores)
    assert read(search).scoring == "mrr"
    np.testing.assert_array_equal(read(search, scoring="other").scores, -scores)
    with pytest.raises(ValueError, match=r"must be one of \['mrr', 'other'\]"):
        parameter_importance(search, scoring="score")
    search.refit = False
    with pytest.raises(ValueError, match="Got None"):
        parameter_importance(search)


def test_too_little_to_say():
    trials, scores = made_up(9)
    with pytest.raises(ValueError, match=r"at least 10 trials.*Got 9"):
        parameter_importance(Fitted(trials, scores))
    with pytest.raises(ValueError, match="varied at least one parameter"):
        parameter_importance(Fitted([{"a": 1}] * 10, np.arange(10.0)))
    with pytest.raises(ValueError, match="'n_repeats' parameter"):
        parameter_importance(Fitted(trials, scores), n_repeats=0)


def test_a_grid_search_does_too():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), rng.normal(size=30)
    grid = GridSearchCV(Ridge(), {"alpha": np.logspace(-3, 3, 12)}, cv=2).fit(X, y)
    assert parameter_importance(grid, n_repeats=1, random_state=0).shape == (1, 6)


def search_over(steps):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(30, 3))
    y = X @ [1.0, 2.0, 3.0] + rng.normal(size=30)
    pipe = Pipeline([("step", None), ("model", Ridge())])
    grid = {"step": steps, "model__alpha": [0.1, 1.0, 10.0, 100.0, 1000.0]}
    return GridSearchCV(pipe, grid, cv=2).fit(X, y)


@pytest.mark.parametrize(
    "steps",
    [
        [PolynomialFeatures(1), PolynomialFeatures(3)],
        [FunctionTransformer(lambda x: x), FunctionTransformer(lambda x: 0 * x)],
    ],
)
def test_estimators_of_one_class_are_several_levels(steps):
    table = parameter_importance(search_over(steps), n_repeats=1, random_state=0)
    assert set(table.index) == {"step", "model__alpha"}


def test_estimators_of_several_classes_keep_their_short_names(read):
    steps = [PolynomialFeatures(1), FunctionTransformer(), "passthrough"]
    parameters = read(search_over(steps)).parameters
    expected = ["FunctionTransformer", "PolynomialFeatures", "passthrough"]
    assert parameters["step"].cat.categories.tolist() == expected
    steps = [PolynomialFeatures(1), PolynomialFeatures(), "passthrough"]
    parameters = read(search_over(steps)).parameters
    expected = ["PolynomialFeatures()", "PolynomialFeatures(degree=1)", "passthrough"]
    assert parameters["step"].cat.categories.tolist() == expected
