import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from sklearn_molge.inspection import (
    AtomAttributionDisplay,
    GeneAttributionDisplay,
    atom_attribution,
    gene_attribution,
)


@pytest.fixture
def plt():
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    yield plt
    plt.close("all")


@pytest.fixture
def atoms():
    """Values 0.5, 0, -0.25 and 0."""
    told = {"ClCCO": 0.8, "****": 0.1}
    told |= {"*CCO": 0.3, "OC*Cl": 0.8, "O*CCl": 1.05, "*CCCl": 0.8}

    class Told:
        def similarity(self, X, y):
            return np.array([[told[text] for text in X]])

    return atom_attribution(Told(), "ClCCO", [1.0])


@pytest.fixture
def genes():
    """Values 0.1, -0.4 and 0.2."""
    profile, baseline = np.array([1, -2.04, 0]), [0, 0, -1]
    weights = np.array([0.1, 0.4 / 2.04, 0.2])

    class Linear:
        def similarity(self, X, y):
            return (y @ weights + 0.8 - profile @ weights)[:, None]

    names = ["HLA-DRA", "MYC", "TP53"]
    return gene_attribution(
        Linear(), "CCO", profile, baseline=baseline, gene_names=names
    )


class Chlorine:
    def similarity(self, X, y):
        return np.outer(y[:, 0], [text.count("Cl") for text in X])


def test_atoms_are_coloured_around_zero(plt, atoms):
    display = AtomAttributionDisplay(atoms).plot(name="drug")
    assert display.ax_.get_title() == "drug: similarity 0.80"
    assert display.figure_ is display.ax_.figure
    assert display.colorbar_.ax.get_ylabel() == "Change of similarity"
    norm = display.colorbar_.mappable.norm
    assert (norm.vmin, norm.vmax) == (-0.5, 0.5)
    red, _, blue = display.colorbar_.mappable.to_rgba([0.5, 0, -0.25])[:, :3]
    assert red[0] > red[2]
    assert blue[2] > blue[0]
    root = ElementTree.fromstring(display.svg_)
    assert root.tag.endswith("svg")
    circles = [e for e in root.iter() if e.tag.endswith("ellipse")]
    fills = [e.attrib["style"].split("fill:")[1][:7] for e in circles]
    assert fills == [_hex(c) for c in display.colorbar_.mappable.to_rgba(atoms.values)]
    assert np.asarray(display.image_.get_array()).std() > 0


def _hex(color):
    # RDKit cuts where others round.
    return "#" + "".join(f"{int(255 * part):02X}" for part in color[:3])


def test_limit_and_axes(plt, atoms):
    _, axes = plt.subplots(1, 2)
    displays = [AtomAttributionDisplay(atoms).plot(ax, limit=2) for ax in axes]
    assert [d.ax_ for d in displays] == axes.tolist()
    assert displays[0].colorbar_.mappable.norm.vmax == 2
    assert displays[0].ax_.get_title() == "Similarity 0.80"
    with pytest.raises(ValueError, match=r"limit must be above 0. Got 0"):
        AtomAttributionDisplay(atoms).plot(axes[0], limit=0)


def test_atoms_without_any_effect_are_white(plt):
    display = AtomAttributionDisplay.from_estimator(Chlorine(), "CCO", [1.0]).plot()
    assert display.attribution.values.tolist() == [0, 0, 0]
    assert display.colorbar_.mappable.norm.vmax == 1


def test_from_estimator_passes_everything_on(plt):
    _, ax = plt.subplots()
    display = AtomAttributionDisplay.from_estimator(
        Chlorine(), "CCCl", [2.0], ax=ax, name="x", limit=4, candidates=["CC"]
    )
    assert display.attribution.values.tolist() == [0, 0, 2]
    assert display.colorbar_.mappable.norm.vmax == 4
    assert (display.ax_, ax.get_title()) == (ax, "x: similarity 2.00")


def test_genes_are_bars_from_the_largest_down(plt, genes):
    display = GeneAttributionDisplay(genes).plot(n_genes=2)
    ax = display.ax_
    assert [bar.get_width() for bar in display.bars_] == pytest.approx([-0.4, 0.2])
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["MYC (\N{MINUS SIGN}2.0)", "TP53 (+0.0)"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first on top
    assert ax.get_xlabel() == "Change of similarity"
    assert ax.get_ylabel() == "Gene (expression)"
    assert ax.get_title() == "Similarity 0.80"
    assert set(display.zero_line_.get_xdata()) == {0}
    first, second = (bar.get_facecolor() for bar in display.bars_)
    assert first[2] > first[0]  # against: blue
    assert second[0] > second[2]  # for: red


def test_hyphens_of_names_stay(plt, genes):
    ax = GeneAttributionDisplay(genes).plot().ax_
    assert ax.get_yticklabels()[2].get_text() == "HLA-DRA (+1.0)"


def test_genes_on_given_axes(plt, genes):
    _, ax = plt.subplots()
    assert GeneAttributionDisplay(genes).plot(ax, name="drug").ax_ is ax
    assert ax.get_title() == "drug: similarity 0.80"
    with pytest.raises(ValueError, match=r"n_genes must be at least 1. Got 0"):
        GeneAttributionDisplay(genes).plot(ax, n_genes=0)


def test_without_matplotlib(monkeypatch, atoms, genes):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"AtomAttr.*sklearn-molge\[plot\]"):
        AtomAttributionDisplay(atoms).plot()
    with pytest.raises(ImportError, match=r"GeneAttr.*sklearn-molge\[plot\]"):
        GeneAttributionDisplay(genes).plot()
