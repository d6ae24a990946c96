import matplotlib

matplotlib.use("Agg")

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator

from sklearn_molge.metrics import (
    RetrievalCurveDisplay,
    bootstrap_scores,
    mean_reciprocal_rank,
    precision_recall,
    recall_at_k,
)

N_CANDIDATES = 20


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def study():
    rng = np.random.default_rng(0)
    drugs = np.repeat([f"drug{i:02}" for i in range(N_CANDIDATES)], 3)
    return rng.integers(1, N_CANDIDATES + 1, size=len(drugs)), drugs


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def band(display, x):
    """Lower and upper edge of the band, just right of x."""
    path = display.interval_.get_paths()[0]
    corners = path.vertices[np.isclose(path.vertices[:, 0], x)]
    return corners[:, 1].min(), corners[:, 1].max()


def test_recall_curve(study):
    ranks, _ = study
    display = RetrievalCurveDisplay.from_predictions(ranks, N_CANDIDATES, name="CCA")
    k, recall = recall_at_k(ranks, N_CANDIDATES)
    np.testing.assert_array_equal(display.line_.get_xdata(), k)
    np.testing.assert_array_equal(display.line_.get_ydata(), recall)
    assert display.line_.get_drawstyle() == "steps-post"
    np.testing.assert_allclose(display.chance_line_.get_ydata(), k / N_CANDIDATES)
    assert display.interval_ is None
    assert display.figure_ is display.ax_.figure
    assert (display.ax_.get_xlabel(), display.ax_.get_ylabel()) == ("k", "Recall at k")
    assert display.ax_.get_xscale() == "log"
    mrr = mean_reciprocal_rank(ranks)
    # H_20 / 20 = 3.5977 / 20.
    assert legend_texts(display.ax_) == [
        f"CCA (MRR = {mrr:.3f})",
        "Chance (MRR = 0.180)",
    ]


def test_precision_recall_curve(study):
    ranks, drugs = study
    display = RetrievalCurveDisplay.from_predictions(
        ranks, N_CANDIDATES, kind="precision_recall", scale="linear", drugs=drugs
    )
    precision, recall, _ = precision_recall(ranks, N_CANDIDATES)
    np.testing.assert_allclose(display.line_.get_xdata(), recall)
    np.testing.assert_allclose(display.line_.get_ydata(), precision)
    np.testing.assert_allclose(display.chance_line_.get_ydata(), 1 / N_CANDIDATES)
    assert display.ax_.get_xlabel() == "Recall"
    assert display.ax_.get_ylabel() == "Precision"
    assert display.ax_.get_yscale() == "linear"
    assert display.interval_.get_paths()[0].vertices[:, 1].max() >= precision.max()


@pytest.mark.parametrize("k", [1, 5, 13])
def test_band_is_the_interval_of_hits(study, k):
    ranks, drugs = study
    display = RetrievalCurveDisplay.from_predictions(
        ranks, N_CANDIDATES, drugs=drugs, n_resamples=300, random_state=0
    )
    table = bootstrap_scores(ranks, drugs, k=(k,), n_resamples=300, random_state=0)
    expected = table.loc[f"hits@{k}", ["low", "high"]].tolist()
    np.testing.assert_allclose(display.interval[:, k - 1], expected)
    low, high = band(display, k)
    assert low <= expected[0] + 1e-12
    assert high == pytest.approx(expected[1])


def test_band_in_blocks_of_k_is_the_same(study, monkeypatch):
    ranks, drugs = study
    arguments = {"drugs": drugs, "n_resamples": 50, "random_state": 0}
    whole = RetrievalCurveDisplay.from_predictions(ranks, N_CANDIDATES, **arguments)
    monkeypatch.setattr("sklearn_molge._utils.resampling._BLOCK_ELEMENTS", 180)
    blocks = RetrievalCurveDisplay.from_predictions(ranks, N_CANDIDATES, **arguments)
    np.testing.assert_allclose(blocks.interval, whole.interval)


def test_several_models_on_one_axes(study):
    ranks, drugs = study
    _, ax = plt.subplots()
    displays = [
        RetrievalCurveDisplay.from_predictions(
            r, N_CANDIDATES, drugs=drugs, name=name, ax=ax, n_resamples=10
        )
        for name, r in [("a", ranks), ("b", ranks[::-1])]
    ]
    assert displays[0].chance_line_ is displays[1].chance_line_
    assert len(ax.lines) == 3
    assert [text.split(" ")[0] for text in legend_texts(ax)] == ["a", "b", "Chance"]
    colors = [d.line_.get_color() for d in displays]
    assert colors[0] != colors[1]
    for display in displays:
        facecolor = display.interval_.get_facecolor()[0][:3]
        expected = matplotlib.colors.to_rgb(display.line_.get_color())
        np.testing.assert_allclose(facecolor, expected)


def test_other_numbers_of_candidates_have_their_own_chance(study):
    ranks, _ = study
    first = RetrievalCurveDisplay.from_predictions(ranks, N_CANDIDATES)
    second = RetrievalCurveDisplay.from_predictions(ranks, 40, ax=first.ax_)
    assert first.chance_line_ is not second.chance_line_
    np.testing.assert_allclose(
        second.chance_line_.get_ydata(), second.chance_line_.get_xdata() / 40
    )


def test_options(study):
    ranks, drugs = study
    display = RetrievalCurveDisplay.from_predictions(
        ranks,
        N_CANDIDATES,
        drugs=drugs,
        scale="linear",
        plot_chance=False,
        confidence_level=None,
        color="red",
        label="mine",
    )
    assert display.chance_line_ is None
    assert display.interval_ is None
    assert display.line_.get_color() == "red"
    assert display.ax_.get_xscale() == "linear"
    assert legend_texts(display.ax_) == ["mine"]
    again = display.plot(name="other")
    assert again is display
    assert legend_texts(display.ax_)[0].startswith("other (MRR")


def test_display_of_numbers_alone():
    display = RetrievalCurveDisplay(np.array([1, 2]), np.array([0.5, 1.0]))
    display.plot(plot_chance=False)
    assert display.ax_.get_legend() is None
    display.plot()
    assert legend_texts(display.ax_) == ["Chance (MRR = 0.750)"]


def test_one_candidate_can_be_drawn():
    display = RetrievalCurveDisplay.from_predictions([1, 1], 1)
    display.figure_.canvas.draw()
    assert display.line_.get_ydata().tolist() == [1.0]


@pytest.mark.parametrize("kind", ["recall", "precision_recall"])
@pytest.mark.parametrize("scale", ["log", "linear"])
def test_perfect_and_hopeless_models_can_be_drawn(kind, scale):
    drugs = list("abcd") * 2
    for ranks in ([1] * 8, [20] * 8):
        display = RetrievalCurveDisplay.from_predictions(
            ranks, 20, drugs=drugs, kind=kind, scale=scale, n_resamples=10
        )
        display.figure_.canvas.draw()
        assert display.line_.get_ydata()[-1] == (1 if kind == "recall" else 1 / 20)


class Memory(BaseEstimator):
    """A two-view estimator whose similarity is what it is given as profiles."""

    def similarity(self, X, y):
        return np.asarray(y)[:, : len(X)]


def test_from_estimator():
    X = np.array(["CCC", "CCN", "CCO", "CCO"], dtype=object)
    # The distinct molecules are ranked in the order of their identity.
    y = np.array([[3.0, 2, 1], [3, 2, 1], [3, 2, 1], [1, 2, 3]])
    drugs = np.array(["a", "b", "c", "c"], dtype=object)
    display = RetrievalCurveDisplay.from_estimator(
        Memory(), X, y, drugs=drugs, n_resamples=10, random_state=0
    )
    # Ranks 1, 2, 3 and 1.
    np.testing.assert_allclose(display.recall, [0.5, 0.75, 1.0])
    assert display.interval_ is not None
    assert legend_texts(display.ax_)[0] == "Memory (MRR = 0.708)"
    display = RetrievalCurveDisplay.from_estimator(
        Memory(), X, y, drugs=drugs, name="mine", kind="precision_recall"
    )
    assert legend_texts(display.ax_)[0] == "mine (MRR = 0.708)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "roc"}, "'kind' parameter"),
        ({"scale": "log2"}, "'scale' parameter"),
        ({"confidence_level": 95}, "'confidence_level' parameter"),
        ({"n_resamples": 0}, "'n_resamples' parameter"),
        ({"drugs": ["a", "b"]}, "one drug for each of the 3 ranks"),
    ],
)
def test_wrong_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        RetrievalCurveDisplay.from_predictions([1, 2, 3], 3, **arguments)
    with pytest.raises(ValueError, match="<= n_candidates=3"):
        RetrievalCurveDisplay.from_predictions([1, 2, 4], 3)
    assert plt.get_fignums() == []


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-molge\[plot\]"'):
        RetrievalCurveDisplay.from_predictions([1, 2], 3)


def test_queries_with_different_candidates():
    ranks = np.array([1, 2, 3, 10, 20])
    sizes = np.array([4, 4, 4, 20, 20])
    display = RetrievalCurveDisplay.from_predictions(ranks, sizes)
    np.testing.assert_allclose(display.recall[[0, 2, 9, 19]], [0.2, 0.6, 0.8, 1])
    chance = [np.mean(np.minimum(k, sizes) / sizes) for k in range(1, 21)]
    np.testing.assert_allclose(display.chance_line_.get_ydata(), chance)
    plt.close(display.figure_)
    with pytest.raises(ValueError, match="Got 5 of 4 at index 1"):
        RetrievalCurveDisplay.from_predictions([1, 5, 20], [4, 4, 20])
