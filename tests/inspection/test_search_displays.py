"""The displays of a search draw what the tables say."""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator

from sklearn_molge.inspection import (
    ParameterImportanceDisplay,
    ParameterScoreDisplay,
    parameter_importance,
)

plt = pytest.importorskip("matplotlib.pyplot")


class Fitted(BaseEstimator):
    def __init__(self, trials, scores):
        self.cv_results_ = {"params": trials, "mean_test_score": np.asarray(scores)}

    def fit(self):
        return self


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def search():
    rng = np.random.default_rng(0)
    trials = [
        {
            "net__lr": float(10 ** rng.uniform(-5, -2)),
            "net__kind": str(rng.choice(["a", "b"])),
            "net__part__width": int(rng.integers(32, 100)),
        }
        for _ in range(20)
    ]
    scores = np.array([np.log10(t["net__lr"]) for t in trials])
    scores[[3, 7]] = np.nan
    return Fitted(trials, scores)


def test_bars_are_the_table(search):
    display = ParameterImportanceDisplay.from_search(
        search, n_repeats=1, random_state=0
    )
    table = parameter_importance(search, n_repeats=1, random_state=0)
    pd.testing.assert_frame_equal(display.table, table)
    widths = [bar.get_width() for bar in display.bars_]
    np.testing.assert_array_equal(widths, table["importance"])
    names = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert names == [n.removeprefix("net__") for n in table.index]
    assert "share of the score's variance" in display.ax_.get_xlabel()
    assert display.line_.get_xdata() == [0, 0]
    assert "18 trials" in display.ax_.get_title(loc="left")
    assert display.figure_ is display.ax_.figure


def test_bars_on_given_axes(search):
    ax = plt.subplots()[1]
    display = ParameterImportanceDisplay.from_search(
        search, n_repeats=1, random_state=0, ax=ax, max_parameters=2
    )
    assert display.ax_ is ax
    assert len(display.bars_) == 2


def test_points_are_the_trials(search):
    display = ParameterScoreDisplay.from_search(search)
    scores = search.cv_results_["mean_test_score"]
    lr = np.array([t["net__lr"] for t in search.cv_results_["params"]])
    scored = np.isfinite(scores)
    assert [ax.get_xlabel() for ax in display.axes_] == ["lr", "kind", "part__width"]
    assert [ax.get_xscale() for ax in display.axes_] == ["log", "linear", "linear"]
    assert display.ax_.get_ylabel() == "Mean score"
    drawn = display.points_[0].get_offsets().data
    np.testing.assert_array_equal(drawn, np.column_stack([lr, scores])[scored])
    crosses = display.failures_[0].get_offsets().data
    np.testing.assert_array_equal(crosses[:, 0], lr[~scored])
    assert display.lines_[0].get_ydata() == [np.nanmedian(scores)] * 2
    best = display.bests_[0].get_offsets().data
    np.testing.assert_array_equal(best, [[lr[np.nanargmax(scores)], np.nanmax(scores)]])
    kinds = display.axes_[1]
    assert [label.get_text() for label in kinds.get_xticklabels()] == ["a", "b"]
    codes = [t["net__kind"] == "b" for t in search.cv_results_["params"]]
    places = display.points_[1].get_offsets().data[:, 0]
    np.testing.assert_array_equal(np.round(places), np.array(codes)[scored])


def test_chosen_panels(search):
    axes = plt.subplots(1, 2)[1]
    display = ParameterScoreDisplay.from_search(
        search, params=["net__kind", "net__lr"], ax=axes
    )
    assert display.axes_[1] is axes[1]
    assert display.axes_[1].get_xscale() == "log"
    with pytest.raises(ValueError, match=r"one entry for each of the 3 panels\. Got 2"):
        ParameterScoreDisplay.from_search(search, ax=axes)
    with pytest.raises(ValueError, match="Got 'nope'"):
        ParameterScoreDisplay.from_search(search, params=["nope"])
    with pytest.raises(ValueError, match="varied at least one"):
        ParameterScoreDisplay.from_search(Fitted([{"a": 1}] * 3, np.arange(3.0)))


def test_all_failed_and_all_fine(search):
    trials = search.cv_results_["params"]
    failed = ParameterScoreDisplay.from_search(Fitted(trials, [np.nan] * 20))
    assert failed.lines_ == []
    assert failed.bests_ == [None] * 3
    fine = ParameterScoreDisplay.from_search(Fitted(trials, np.arange(20.0)))
    assert fine.failures_ == [None] * 3


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["a__b__c", "a__b__d = a__b__e"], ["c", "d\n= e"]),
        (["a__b", "c"], ["a__b", "c"]),
        (["pipe__lr", "pipe__net__x"], ["lr", "net__x"]),
        (["alone__x"], ["alone__x"]),
    ],
)
def test_names_lose_what_they_share(names, shown):
    columns = ["importance", "importance_std", "rho", "p_value"]
    table = pd.DataFrame(0.5, index=names, columns=columns)
    ax = ParameterImportanceDisplay(table).plot().ax_
    assert [label.get_text() for label in ax.get_yticklabels()] == shown
