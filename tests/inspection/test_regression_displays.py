import matplotlib

matplotlib.use("Agg")

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from sklearn_molge.inspection import (
    RegressionDisplay,
    SpecificityDisplay,
    TrainingDistanceDisplay,
    performance_regression,
)

N_DRUGS = 20
RNG = np.random.default_rng(0)
DRUGS = np.repeat([f"drug{i:02}" for i in range(N_DRUGS)], 2)
X = np.repeat(RNG.random(N_DRUGS), 2)
RANKS = RNG.integers(1, N_DRUGS + 1, size=2 * N_DRUGS)
OPTIONS = {"n_resamples": 50, "random_state": 0}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def test_regression_display():
    display = RegressionDisplay.from_predictions(
        X, RANKS, DRUGS, xlabel="dose (um)", log_x=True, n_candidates=20, **OPTIONS
    )
    fit = performance_regression(
        X, RANKS, DRUGS, log_x=True, n_candidates=20, **OPTIONS
    )
    points = display.points_.get_offsets()
    np.testing.assert_allclose(points, fit.table[["x", "response"]])
    x, y = display.line_.get_data()
    assert (x[0], x[-1]) == (fit.table["x"].min(), fit.table["x"].max())
    np.testing.assert_allclose(y, fit.predict(x))
    low, high = fit.interval(x[:1])
    corners = display.interval_.get_paths()[0].vertices
    at_start = corners[corners[:, 0] == x[0]][:, 1]
    assert (at_start.min(), at_start.max()) == pytest.approx((low[0], high[0]))
    assert display.chance_line_.get_ydata()[0] == fit.chance
    ax = display.ax_
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "ln(dose (um))",
        "-ln MRR of the drug",
    )
    assert f"r = {fit.r:.2f}, p = {fit.p_value:.2g}, n = 20" in ax.get_title("left")
    assert display.figure_ is ax.figure


def test_own_axes_and_style():
    _, ax = plt.subplots()
    display = RegressionDisplay.from_predictions(
        X,
        RANKS,
        DRUGS,
        per="profile",
        response="rank",
        ax=ax,
        scatter_kwargs={"color": "k"},
        **OPTIONS,
    )
    assert display.ax_ is ax
    assert display.chance_line_ is None
    assert display.points_.get_facecolor()[0, :3].tolist() == [0, 0, 0]
    assert ax.get_ylabel() == "Rank of the profile"


def test_no_line():
    display = RegressionDisplay.from_predictions(
        np.ones(2 * N_DRUGS), RANKS, DRUGS, **OPTIONS
    )
    assert display.line_ is display.interval_ is None
    assert "no line" in display.ax_.get_title("left")
    display.figure_.draw_without_rendering()


def test_specificity_display():
    n_genes = pd.Series(RNG.integers(0, 300, size=N_DRUGS), index=np.unique(DRUGS))
    n_genes.iloc[0], n_genes.iloc[1] = 0, 50
    known = n_genes.drop("drug02")
    sizes = np.full(len(DRUGS), 20)
    display = SpecificityDisplay.from_predictions(
        known, RANKS, DRUGS, n_candidates=sizes, **OPTIONS
    )
    table = display.regression.table.set_index("drug")
    assert table.loc["drug00", "x"] == 0
    assert table.loc["drug01", "x"] == pytest.approx(np.log(51))
    assert (display.n_unknown, display.regression.n) == (1, N_DRUGS - 1)
    assert display.regression.n_dropped == 0
    assert display.ax_.get_xlabel() == "ln(1 + number of genes changed)"
    assert display.chance_line_ is not None


@pytest.mark.parametrize(
    ("n_genes", "error", "message"),
    [
        ({"a": 1}, TypeError, "n_genes must be a Series.*Got dict"),
        (pd.Series([1, 2], index=["a", "a"]), ValueError, "'a': take the mean"),
        (pd.Series([-1.0], index=["a"]), ValueError, "at least 0. Got -1 for 'a'"),
    ],
)
def test_specificity_errors(n_genes, error, message):
    with pytest.raises(error, match=message):
        SpecificityDisplay.from_predictions(n_genes, RANKS, DRUGS)


@pytest.fixture
def distances():
    molecules = {
        name: np.repeat(RNG.random(N_DRUGS), 2)
        for name in ("fingerprint", "molecule_features", "aligned_molecule")
    }
    molecules["molecule_features"][:2] = 0
    profiles = {
        name: RNG.random(2 * N_DRUGS)
        for name in ("raw_expression", "aligned_expression")
    }
    return pd.DataFrame(molecules | profiles)


def test_training_distance_display(distances):
    display = TrainingDistanceDisplay.from_predictions(
        distances, RANKS, DRUGS, n_candidates=20, **OPTIONS
    )
    table = display.table
    assert table.index.tolist() == distances.columns.tolist()
    assert table["n"].tolist() == [20, 19, 20, 40, 40]
    assert table["n_dropped"].tolist() == [0, 1, 0, 0, 0]
    assert table["log_x"].tolist() == [False, True, False, False, False]
    expected = performance_regression(
        distances["raw_expression"], RANKS, DRUGS, per="profile", n_candidates=20,
        **OPTIONS,
    )  # fmt: skip
    assert table.loc["raw_expression"].to_dict() == expected.summary()
    assert len(display.axes_) == len(display.figure_.axes) == 5
    assert [display.displays_[name].ax_ for name in distances] == list(display.axes_)
    assert [ax.get_legend() is None for ax in display.axes_] == [False] + [True] * 4
    labels = [ax.get_xlabel() for ax in display.axes_]
    assert labels[0] == "Tanimoto distance of fingerprints"
    assert labels[1] == "ln(correlation distance of molecule features)"
    display.figure_.draw_without_rendering()


def test_training_distances_on_own_axes(distances):
    few = distances[["fingerprint", "raw_expression"]]
    figure, axes = plt.subplots(1, 2)
    display = TrainingDistanceDisplay.from_predictions(
        few, RANKS, DRUGS, response="rank", ax=axes, **OPTIONS
    )
    assert display.figure_ is figure
    with pytest.raises(ValueError, match="ax must have one entry for each of the 2"):
        display.plot(axes[:1])


def test_training_distance_errors(distances):
    display = TrainingDistanceDisplay
    with pytest.raises(ValueError, match=r"distances must be among.*Got 'x'"):
        display.from_predictions(distances.assign(x=1), RANKS, DRUGS)
    with pytest.raises(ValueError, match=r"log_x must be among.*Got 'x'"):
        display.from_predictions(distances, RANKS, DRUGS, log_x=["x"])
    with pytest.raises(ValueError, match="DataFrame with at least one column"):
        display.from_predictions(distances[[]], RANKS, DRUGS)


def test_missing_matplotlib_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"RegressionDisplay\.plot.*\[plot\]"):
        RegressionDisplay.from_predictions(X, RANKS, DRUGS, **OPTIONS)
