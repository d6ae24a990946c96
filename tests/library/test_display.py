import sys

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.library import MoleculeQueryDisplay


@pytest.fixture
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


def make_table(n_answers=7, query="A375"):
    molecules = ["CCO", "c1ccccc1O", "CC(=O)Oc1ccccc1C(=O)O", "CCN.Cl"]
    return pd.DataFrame(
        {
            "query": query,
            "rank": np.arange(n_answers) + 1,
            "molecule": [molecules[i % 4] for i in range(n_answers)],
            "name": [f"drug {i}" for i in range(n_answers)],
            "score": np.linspace(0.7, -0.2, n_answers),
        }
    )


def texts(ax):
    return [text.get_text() for text in ax.texts]


def boxes(display):
    """Return the boxes of all texts and pictures in pixels."""
    display.figure_.canvas.draw()
    found = [display.title_.get_window_extent()]
    for ax, image in zip(display.axes_, display.images_, strict=True):
        found += [text.get_window_extent() for text in ax.texts]
        found.append(image.get_window_extent())
    return found


def overlap(a, b):
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return width > 0.5 and height > 0.5


def test_one_structure_an_answer(plt):
    table = make_table()
    display = MoleculeQueryDisplay.from_table(table, metric="correlation")
    assert display.axes_.shape == display.images_.shape == (7,)
    assert display.title_.get_text() == "A375"
    assert texts(display.axes_[0]) == ["1. drug 0", "correlation 0.700"]
    assert texts(display.axes_[6])[1] == "correlation \N{MINUS SIGN}0.200"
    assert display.figure_ is display.ax_.figure
    np.testing.assert_allclose(display.figure_.get_size_inches(), (12, 5))
    for image in display.images_:
        assert np.asarray(image.get_array())[..., 3].any()
    assert np.array_equal(*(display.images_[i].get_array() for i in (0, 4)))
    assert not np.array_equal(*(display.images_[i].get_array() for i in (0, 1)))


def test_what_the_table_knows_is_told(plt):
    table = make_table(2, query=3).assign(
        percentile=[99.94, 50.0], nearest_similarity=[0.456, 1.0],
        in_training=[False, True],
    )  # fmt: skip
    table.attrs = {"metric": "euclidean", "reverse": True}
    display = MoleculeQueryDisplay.from_table(table, n_columns=1)
    assert texts(display.axes_[0])[1:] == [
        "distance \N{MINUS SIGN}0.700, percentile 99.9", "nearest in training 0.46",
    ]  # fmt: skip
    assert texts(display.axes_[1])[2] == "in the training set"
    display.plot(n_columns=2)
    assert display.title_.get_text() == "Query 3, reversed: lowest similarity first"
    assert display.plot(title="Mine").title_.get_text() == "Mine"


def test_noise_is_told(plt):
    table = make_table(2).assign(
        p_value=[0.001, 0.25], query_q_value=0.4, better_than_noise=False
    )
    display = MoleculeQueryDisplay.from_table(table, metric="correlation")
    title = "A375 (not better than noise, q 0.400)"
    assert display.title_.get_text() == title
    assert texts(display.axes_[1])[1] == "correlation \N{MINUS SIGN}0.200, p 0.250"
    table["better_than_noise"] = True
    display = MoleculeQueryDisplay.from_table(table)
    assert display.title_.get_text() == "A375 (better than noise, q 0.400)"


def test_a_score_without_a_metric(plt):
    display = MoleculeQueryDisplay.from_table(make_table(1))
    assert texts(display.axes_[0])[1] == "score 0.700"


@pytest.mark.parametrize("n_answers", [1, 2, 5, 6, 50])
def test_nothing_overlaps(plt, n_answers):
    table = make_table(n_answers)
    table["name"] = ["W" * (1 + i % 60) for i in range(n_answers)]
    table = table.assign(percentile=100.0, nearest_similarity=0.5)
    display = MoleculeQueryDisplay.from_table(table, metric="correlation")
    found = boxes(display)
    frame = display.figure_.bbox
    for i, box in enumerate(found):
        assert box.x0 >= frame.x0 - 0.5
        assert box.x1 <= frame.x1 + 0.5
        assert box.y0 >= frame.y0 - 0.5
        assert box.y1 <= frame.y1 + 0.5
        assert not any(overlap(box, other) for other in found[:i])


def test_long_names_are_cut_and_missing_ones_replaced(plt):
    table = make_table(3)
    table["name"] = ["4-[[5-(phenyl)-2-oxazolyl]methyl]-" * 3, "", "$a_b$ 100%"]
    display = MoleculeQueryDisplay.from_table(table)
    first, second, third = (texts(ax)[0] for ax in display.axes_)
    assert first.startswith("1. 4-[[5-(phenyl)")
    assert first.endswith("\N{HORIZONTAL ELLIPSIS}")
    assert second == "2. c1ccccc1O"
    assert third == "3. $a_b$ 100%"
    display.figure_.canvas.draw()


def test_axes_that_are_given(plt):
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    left.plot([0, 1])
    display = MoleculeQueryDisplay.from_table(make_table(6), ax=right, n_columns=3)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert {texts(ax)[0] for ax in display.axes_} == {
        f"{i + 1}. drug {i}" for i in range(6)
    }
    found = boxes(display)
    edge = right.get_window_extent().x0
    assert all(box.x0 >= edge - 1 for box in found)
    assert not any(overlap(a, b) for i, a in enumerate(found) for b in found[:i])


def test_one_query_of_several(plt):
    table = pd.concat([make_table(2, "a"), make_table(3, "b")])
    display = MoleculeQueryDisplay.from_table(table, query="b")
    assert display.title_.get_text() == "b"
    assert len(display.axes_) == 3
    pairs = pd.concat([make_table(2, 0), make_table(3, 0)])
    pairs["query"] = [("x", 1)] * 2 + [("y", 2)] * 3
    assert len(MoleculeQueryDisplay.from_table(pairs, query=("y", 2)).axes_) == 3


def test_from_estimator_asks_the_index(plt):
    class Index:
        def query(self, y, **kwargs):
            self.asked = (y, kwargs)
            return make_table(2)

    index = Index()
    display = MoleculeQueryDisplay.from_estimator(
        index, [[1.0]], n_columns=1, title="T", n_neighbors=2, reverse=True
    )
    assert index.asked == ([[1.0]], {"n_neighbors": 2, "reverse": True})
    assert display.title_.get_text() == "T"


@pytest.mark.parametrize(
    ("table", "query", "message"),
    [
        (make_table(0), None, "Got 0 rows"),
        (make_table(2).drop(columns="score"), None, r"no \['score'\]"),
        (
            pd.concat([make_table(1, "a"), make_table(1, "b")]),
            None,
            "'a', 'b'. Got None",
        ),
        (make_table(2), "PC3", "'A375'. Got 'PC3', which has 0 rows"),
        (pd.concat([make_table(2), make_table(2)]), "A375", "which has 4 rows"),
    ],
)
def test_bad_tables(plt, table, query, message):
    with pytest.raises(ValueError, match=message):
        MoleculeQueryDisplay.from_table(table, query=query)


@pytest.mark.parametrize("n_columns", [0, 2.5])
def test_bad_columns(plt, n_columns):
    with pytest.raises(ValueError, match="n_columns must be an int, at least 1"):
        MoleculeQueryDisplay.from_table(make_table(), n_columns=n_columns)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(
        ImportError, match=r"MoleculeQueryDisplay.plot needs matplotlib"
    ):
        MoleculeQueryDisplay.from_table(make_table())


def test_a_table_from_a_file(plt):
    table = make_table(2).assign(name=["a", np.nan])
    display = MoleculeQueryDisplay.from_table(table)
    assert texts(display.axes_[1])[0] == "2. c1ccccc1O"
    with pytest.raises(InvalidSmilesError, match="index 1: 'X'"):
        MoleculeQueryDisplay.from_table(table.assign(molecule=["CCO", "X"]))
