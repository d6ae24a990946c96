import matplotlib

matplotlib.use("Agg")

import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex

from sklearn_molge.inspection import (
    LatentMapDisplay,
    cell_line_mixing,
    latent_map,
    same_class_neighbors,
)


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


@pytest.fixture
def molecules():
    rng = np.random.default_rng(0)
    moa = np.array(["a", "a", "a|b", "b", "c", None, "a", "c", "", "d"] * 4, object)
    return rng.normal(size=(40, 6)), moa


def draw(before, labels, **options):
    options = {"reducer": "pca", "random_state": 0, **options}
    return LatentMapDisplay.from_embeddings(before, labels, **options)


def legend_texts(display):
    return [text.get_text() for text in display.legend_.get_texts()]


def test_one_panel(molecules):
    embeddings, moa = molecules
    display = draw(embeddings, moa, names=["CCA"], highlight=["b", "a"])
    assert legend_texts(display) == ["b (8)", "a (16)", "other (20)"]
    points = latent_map(embeddings, reducer="pca", random_state=0).to_numpy()
    (scatters,) = display.scatters_
    for name in ("a", "b"):
        rows = [isinstance(text, str) and name in text for text in moa]
        np.testing.assert_array_equal(scatters[name].get_offsets(), points[rows])
    # A molecule of both has the marker of the second inside that of the first.
    assert len(set(scatters["b"].get_sizes())) == 1
    assert min(scatters["a"].get_sizes()) < max(scatters["a"].get_sizes())
    assert scatters["a"].get_zorder() > scatters["b"].get_zorder() > 1
    result = same_class_neighbors(embeddings, moa, random_state=0)
    assert display.ax_.get_title().startswith(
        f"CCA\nsame-class neighbours {100 * result.rate:.1f} % ["
    )
    assert display.ax_.get_title().endswith(f"chance {100 * result.expected:.1f} %")
    assert display.ax_.get_xlabel() == "PCA 1"
    assert display.ax_.get_ylabel() == "PCA 2"
    assert display.figure_ is display.ax_.figure


def test_two_panels(molecules):
    embeddings, moa = molecules
    display = draw(embeddings, moa, after=embeddings[:, ::2], score=None)
    assert [ax.get_title() for ax in display.axes_] == ["before", "after"]
    # The most frequent classes first, those as frequent by name.
    assert list(display.scatters_[0]) == ["other", "a", "b", "c", "d"]
    colors = {to_hex(s.get_facecolor()[0]) for s in display.scatters_[1].values()}
    assert len(colors) == 5
    assert [ax.get_legend() is None for ax in display.axes_] == [True, False]


def test_mixing_on_given_axes_and_coordinates(molecules):
    embeddings, _ = molecules
    lines = np.tile(["A375", "PC3"], 20)
    drugs = np.repeat(np.arange(20), 2).astype(str)
    coordinates = [latent_map(embeddings, reducer="pca", random_state=0)] * 2
    figure, axes = plt.subplots(2, 2)
    for row, labels in zip(axes, (lines, np.roll(lines, 20)), strict=True):
        display = draw(
            embeddings, labels, after=embeddings, coordinates=coordinates, ax=row,
            score="mixing", drugs=drugs, n_neighbors=4, names=("z-score", "aligned"),
        )  # fmt: skip
        assert display.figure_ is figure
        assert list(display.axes_) == list(row)
        mixed = cell_line_mixing(
            embeddings, labels, drugs=drugs, n_neighbors=4, random_state=0
        )
        title = f"z-score\nmixing {mixed.mixing:.2f} ["
        assert row[0].get_title().startswith(title)
        assert legend_texts(display) == ["A375 (20)", "PC3 (20)"]


def test_two_metrics_and_arguments_of_scatter(molecules):
    embeddings, moa = molecules
    bits = (embeddings > 0).astype(np.uint8)
    display = draw(
        bits, moa, after=embeddings, metric=("jaccard", "correlation"), s=7, alpha=0.5
    )
    rate = 100 * same_class_neighbors(bits, moa, metric="jaccard").rate
    assert f"{rate:.1f} %" in display.axes_[0].get_title()
    assert display.scatters_[0]["a"].get_sizes() == [7]
    assert display.scatters_[0]["a"].get_alpha() == 0.5


def test_coordinates_alone():
    points = np.arange(12.0).reshape(6, 2)
    display = LatentMapDisplay([points], ["a", "b"] * 3).plot()
    assert display.ax_.get_xlabel() == "component 1"
    assert display.ax_.get_title() == ""
    again = display.plot(plt.subplots()[1])
    assert again is display


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"highlight": ["a", "x"]}, r"highlight .* Got 2, not in labels: \['x'\]"),
        ({"highlight": ["a", "a"]}, "at most 12 distinct classes of labels. Got 2"),
        ({"score": "purity"}, "score"),
        ({"metric": ("cosine", "cosine")}, "metric must have one entry .* 1 panels"),
        ({"names": ()}, "names must have one entry for each of the 1 panels. Got 0"),
        ({"coordinates": []}, "coordinates must have one entry"),
        ({"coordinates": [np.ones((39, 2))]}, r"\(40, 2\), .* Got \(39, 2\) in panel"),
        ({"labels": ["a", "b"]}, "inconsistent numbers of samples"),
    ],
)
def test_errors(molecules, change, match):
    embeddings, moa = molecules
    good = {"before": embeddings, "labels": moa}
    with pytest.raises(ValueError, match=match):
        draw(**{**good, **change})


def test_number_of_axes(molecules):
    axes = plt.subplots(1, 2)[1]
    with pytest.raises(ValueError, match="ax must have one entry for each of the 1"):
        draw(*molecules, ax=axes)


def test_without_matplotlib(molecules, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"sklearn-molge\[plot\]"):
        draw(*molecules)


def test_names_of_panels_must_be_text():
    points = np.random.default_rng(0).normal(size=(8, 3))
    with pytest.raises(ValueError, match=r"names must hold str. Got \[None, nan\]"):
        LatentMapDisplay.from_embeddings(
            points, list("aabbccdd"), after=points, names=[None, np.nan]
        )
