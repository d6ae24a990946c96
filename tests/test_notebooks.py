"""The last line of a cell: objects as HTML, Displays that are quiet, progress bars."""

import subprocess
import sys
from html.parser import HTMLParser
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import Study, make_perturbation_study, read_de_table
from sklearn_molge.evaluation import draw_split
from sklearn_molge.exceptions import GeneNamesWarning
from sklearn_molge.expression import profile_from_genes
from sklearn_molge.library import MoleculeFile

NASTY = "<script>alert('x')</script>"


class Page(HTMLParser):
    """Checks that tags are closed in order, and keeps texts and attributes."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.texts, self.sources = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href")]
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture
def nasty_study():
    return Study(
        ["CCO", "CCN", "not a molecule"],
        ge=np.zeros((3, 2)),
        obs=pd.DataFrame(
            {"cell_line": ["A375", NASTY, "PC3"], "drug": ["ethanol", NASTY, "?"]}
        ),
        genes=pd.DataFrame({"gene_id": [16, 23], "symbol": ["AARS1", NASTY]}),
        dropped=pd.DataFrame({"step": [NASTY], "n_dropped": [3]}),
    )


def test_a_study_shows_its_size_and_structures():
    study = make_perturbation_study(30, n_cell_lines=3, level=5, random_state=0)
    page = Page(study._repr_html_())
    assert "30 drugs in 3 cell lines" in page.text
    assert page.tags.count("img") == 4
    assert all(source.startswith("data:image/svg") for source in page.sources)
    assert len(study._repr_html_()) < 100_000


def test_what_comes_from_data_is_escaped(nasty_study, tmp_path):
    path = tmp_path / "results.csv"
    path.write_text(f"symbol,log2FoldChange,padj\nTP53,2.5,0.001\n{NASTY},-3,0.001\n")
    library = tmp_path / "library.csv"
    library.write_text(f"smiles,name\nCCO,{NASTY}\nCCC,{NASTY}\n")
    table = read_de_table(path, min_genes=1)
    with pytest.warns(GeneNamesWarning):
        query = profile_from_genes(nasty_study.genes, up=["AARS1", f"{NASTY}2"])
    split = draw_split(
        pd.DataFrame([[d, f"{NASTY}{c}"] for d in "abcdefghijkl" for c in "XYZ"]),
        random_state=0,
    )
    for shown in (nasty_study, table, query, split, MoleculeFile(library).describe()):
        page = Page(shown._repr_html_())
        assert "script" not in page.tags, type(shown).__name__
        assert "<script>alert" in page.text, type(shown).__name__


def test_a_study_without_profiles_has_html_too(nasty_study):
    page = Page(nasty_study.take(np.arange(0))._repr_html_())
    assert "0 profiles" in page.text


def test_a_split_shows_its_parts():
    study = make_perturbation_study(40, n_cell_lines=4, level=5, random_state=0)
    split = draw_split(study.groups, random_state=0)
    text = Page(split._repr_html_()).text
    for part in ("train", "test"):
        assert f"{len(getattr(split, part)):,} rows of" in text
    assert f"{len(split.dropped):,} row" in text


def run_in_shell(code, *, is_kernel):
    """Run code with a stand-in for IPython, of a kernel or of a terminal."""
    shell = f"""
        import sys, types
        shell = types.SimpleNamespace(config={"IPKernelApp" if is_kernel else ""!r})
        sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
        """
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", dedent(shell) + dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    ).stderr


@pytest.mark.parametrize("is_kernel", [True, False])
def test_bars_are_shown_in_notebooks_without_advice(is_kernel):
    code = """
        sys.modules["ipywidgets"] = None  # not installed
        from sklearn_molge._utils.progress import progress_bar
        bar = progress_bar(shown="auto", total=3, desc="reading")
        bar.delay = 0
        for _ in range(3):
            bar.update()
        bar.refresh()
        bar.close()
        """
    err = run_in_shell(code, is_kernel=is_kernel)
    assert "Warning" not in err
    assert ("reading" in err) == is_kernel
