import base64
import re
import runpy
from collections import Counter
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.evaluation import (
    ColumnInfo,
    ReportFigure,
    ReportTable,
    Section,
    StudyReport,
)

example = runpy.run_path(str(Path(__file__).with_name("example_report.py")))
VOID = {"meta", "link", "img", "br", "input", "hr"}
MINUS = "\N{MINUS SIGN}"
SVG = '<svg xmlns="http://www.w3.org/2000/svg"/>'


@pytest.fixture(scope="module")
def report():
    return example["make_report"]()


@pytest.fixture(scope="module")
def folder(report, tmp_path_factory):
    return report.save(tmp_path_factory.mktemp("report")).parent


@pytest.fixture(scope="module")
def page(folder):
    return parse((folder / "report.html").read_text(encoding="utf-8"))


class Page(HTMLParser):
    """Elements in order; each with its tag, attributes, ancestors and text."""

    def __init__(self):
        super().__init__()
        self.elements, self.open = [], []

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "attrs": dict(attrs), "text": "", "in": list(self.open)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        opened = self.open.pop()["tag"]
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def find(self, tag, inside=None):
        return [
            e
            for e in self.elements
            if e["tag"] == tag and (inside is None or any(a is inside for a in e["in"]))
        ]


def parse(text):
    page = Page()
    page.feed(text)
    page.close()
    assert not page.open, f"left open: {[e['tag'] for e in page.open]}"
    return page


def cells_of(page, number):
    """The text of all cells of a table, row by row, heads first."""
    table = page.find("table")[number]
    rows = []
    for row in page.find("tr", inside=table):
        cells = page.find("th", inside=row) + page.find("td", inside=row)
        rows.append([" ".join(cell["text"].split()) for cell in cells])
    return rows


def html_cells(frame):
    report = StudyReport(
        "A study", [Section("Results", {"scores": ReportTable(frame)})]
    )
    return cells_of(parse(report._repr_html_()), 0)


def test_page_is_semantic(page, report):
    (html,), (title,), (h1,) = page.find("html"), page.find("title"), page.find("h1")
    assert html["attrs"]["lang"] == "en"
    assert title["text"] == h1["text"] == report.title
    names = {meta["attrs"].get("name") for meta in page.find("meta")}
    assert "viewport" in names
    levels = [int(e["tag"][1]) for e in page.elements if re.match("h[1-6]$", e["tag"])]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for head in page.find("th"):
        assert head["attrs"]["scope"] in ("col", "row")


def test_every_table_and_figure_is_there_with_words(page, report):
    captions = [caption["text"] for caption in page.find("caption")]
    assert len(captions) == len(page.find("table")) == len(report.tables)
    tables = {
        name: item
        for section in report.sections
        for name, item in section.items.items()
        if isinstance(item, ReportTable)
    }
    for i, (name, caption) in enumerate(zip(tables, captions, strict=True), 1):
        words = tables[name].caption or name
        assert " ".join(caption.split()) == f"Table {i}. {words}"
    assert [e["attrs"]["alt"] for e in page.find("img")] == [
        figure.alt for figure in report.figures.values()
    ]
    ids = Counter(e["attrs"]["id"] for e in page.elements if "id" in e["attrs"])
    assert set(ids.values()) == {1}
    for link in page.find("a", inside=page.find("nav")[0]):
        assert link["attrs"]["href"].removeprefix("#") in ids


def test_page_needs_no_network(page, folder):
    for element in page.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            value = element["attrs"].get(name, "#")
            assert value.startswith(("#", "data:")), value[:80]
    assert len(page.find("script")) == len(page.find("style")) == 1
    for tag in ("base", "iframe", "object", "embed"):
        assert not page.find(tag)
    for code in (page.find("style")[0]["text"], page.find("script")[0]["text"]):
        assert not re.search(r"url\(|@import|https?:|//\w", code)
    policy = next(
        meta["attrs"]["content"]
        for meta in page.find("meta")
        if meta["attrs"].get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for image in page.find("img"):
        svg = base64.b64decode(image["attrs"]["src"].split(",")[1]).decode()
        assert not re.search(r'href="(?!#|data:)|url\((?!#)|<!DOCTYPE|<script', svg)


def test_names_are_escaped(page, report, folder, tmp_path):
    evil = example["EVIL"]
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in text
    assert "<script>alert" not in report._repr_html_()
    assert evil in [row[0] for row in cells_of(page, 0)]
    # Everything that a user writes, at once.
    frame = pd.DataFrame({evil: [evil]}, index=pd.Index(["x"], name="i" + evil))
    figure = ReportFigure(evil, evil, evil, SVG)
    words = {evil: evil}
    items = {"t": ReportTable(frame, evil), "f": figure}
    nasty = StudyReport(
        evil,
        [Section(evil, items, text=evil)],
        words,
        words,
        words,
        {evil: 1.0},
        f"run {evil}\nagain",
        [evil],
        columns={evil: ColumnInfo(evil, evil)},
    )
    html = parse(nasty.save(tmp_path).read_text(encoding="utf-8"))
    assert len(html.find("script")) == 1
    assert html.find("code")[0]["text"] == f"run {evil}\nagain"
    parse(nasty._repr_html_())


def test_cells():
    frame = pd.DataFrame(
        {
            "words": ["a", None],
            "mrr": [0.2151, np.nan],
            "mrr_low": [0.1776, np.nan],
            "mrr_high": [0.2549, np.nan],
            "median_rank": [17.5, 1000],
            "difference": [-0.0512, -0.0001],
            "p_value": [0.0002, 0.0421],
            "n": [97210, 5],
            "tiny": [1.5e-7, 0.25],
            "large": [12345.6, 0.5],
            "ok": [True, None],
            "odd_low": [0.0, 1.0],
        },
        index=["first", "second"],
    )
    assert html_cells(frame) == [
        ["method", "MRR", "Median rank", "difference", "p", "n", "tiny", "large",
         "odd low", "words", "ok"],
        ["first", "0.215 [0.178, 0.255]", "17.5", f"{MINUS}0.051", "< 0.001", "97,210",
         f"1.5e{MINUS}07", "12,346", "0", "a", "yes"],
        ["second", "-", "1,000.0", "0.000", "0.042", "5", "0.250", "0.5", "1", "-",
         "-"],
    ]  # fmt: skip


def test_a_number_without_interval_stands_alone():
    frame = pd.DataFrame(
        {"mrr": [0.5, 0.04], "mrr_low": [0.4, np.nan], "mrr_high": [0.6, np.nan]},
        index=["CCA", "chance"],
    )
    assert [row[1] for row in html_cells(frame)[1:]] == [
        "0.500 [0.400, 0.600]",
        "0.040",
    ]
    with_row_numbers = frame.reset_index(names="m")
    assert html_cells(with_row_numbers)[1] == ["CCA", "0.500 [0.400, 0.600]"]


@pytest.mark.parametrize(("n_columns", "stacked"), [(10, False), (11, True)])
def test_intervals_of_many_columns_stand_below_their_numbers(
    tmp_path, n_columns, stacked
):
    one = {"mrr": [0.2], "mrr_low": [0.1], "mrr_high": [0.3]}
    others = {f"n_{i}": [i] for i in range(n_columns - 2)}
    frame = pd.DataFrame(one | others, index=["CCA"])
    report = StudyReport("A study", [Section("Results", {"wide": ReportTable(frame)})])
    text = report.save(tmp_path).read_text(encoding="utf-8")
    assert ('<figure class="table stacked"' in text) == stacked


def test_short_words_are_not_broken_and_long_texts_get_room(tmp_path):
    texts = ["train/test", "a word", "a" * 15, "a text of more than thirty letters"]
    frame = pd.DataFrame({"text": texts}, index=list("abcd"))
    report = StudyReport("A study", [Section("Results", {"words": ReportTable(frame)})])
    text = report.save(tmp_path).read_text(encoding="utf-8")
    classes = re.findall(r'<td class="([^"]*)"', text)
    assert classes == ["text word", "text", "text", "text long"]


def test_labels_stand_for_the_index():
    frame = pd.DataFrame(
        {"label": ["chance", "CCA, raw"], "mrr": [0.1, 0.2], "gain": [0.11, 0.99]},
        index=pd.Index(["chance", "cca_raw"], name="method"),
    )
    columns = {"gain": ColumnInfo("Gain", greater_is_better=True, decimals=1)}
    table = {"scores": ReportTable(frame)}
    report = StudyReport("A study", [Section("Results", table)], columns=columns)
    page = parse(report._repr_html_())
    assert cells_of(page, 0) == [
        ["method", "mrr", "Gain"],
        ["chance", "0.100", "0.1"],
        ["CCA, raw", "0.200", "1.0"],
    ]
    assert page.find("tr")[1]["attrs"]["class"] == "chance"
    assert "cca_raw" not in str(report)


def test_marks_are_words(page):
    table = page.find("table")[0]
    rows = page.find("tr", inside=table)[1:]
    marks = {i: row["attrs"]["class"] for i, row in enumerate(rows) if row["attrs"]}
    n = len(rows)
    assert marks == {0: "chance", n - 2: "published", n - 1: "failed"}
    assert "published" in rows[n - 2]["text"]
    assert "failed" in rows[n - 1]["text"]
    notes = " ".join(page.find("ul", inside=table["in"][-2])[0]["text"].split())
    assert "published Finlayson et al. 2020, Table 1" in notes
    assert "failed ValueError: n_components=50 must be <= 12 genes." in notes
    heads = cells_of(page, 0)[0]
    assert "error" not in heads
    assert "source" not in heads


def test_keys_sort_as_the_data_frame(page, report):
    frame = report.tables["table1"]
    table = page.find("table")[0]
    rows = page.find("tr", inside=table)[1:]
    cells = [page.find("td", inside=row) for row in rows]
    column = cells_of(page, 0)[0].index("Median rank") - 1
    keys = [row[column]["attrs"]["data-key"] for row in cells]
    values = [float(key) if key else np.nan for key in keys]
    np.testing.assert_array_equal(values, frame["median_rank"])
    firsts = {
        " ".join(h["text"].split()): h["attrs"]["data-first"]
        for h in page.find("th", inside=page.find("thead", inside=table)[0])
    }
    assert firsts["MRR"] == firsts["difference"] == "descending"
    assert firsts["Median rank"] == firsts["p"] == firsts["method"] == "ascending"


def test_long_tables_are_cut_on_the_page_alone(report, folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "The first 100 of 250 rows; all are in tables/neighbours.csv." in text
    assert len(pd.read_csv(folder / "tables/neighbours.csv")) == 250


def test_csv_link_holds_the_file(page, folder):
    link = next(e for e in page.find("a") if "download" in e["attrs"])
    assert link["attrs"]["download"] == "table1.csv"
    csv = unquote(link["attrs"]["href"].split(",", 1)[1])
    assert csv == (folder / "tables/table1.csv").read_text(encoding="utf-8")


def test_text_fits_a_terminal(report):
    text = str(report)
    assert max(map(len, text.splitlines())) <= 100
    for name in report.tables:
        assert name in text
    assert "voting over neare...s, temperature 5" in text
    assert "DeepCCA, raw / Chemprop (failed)" in text
    assert "DeepCCA, raw / Chemprop: ValueError: n_components=50" in text
    assert "... 240 more rows" in text
    assert repr(report).startswith("StudyReport(title='Which molecule causes")


def test_notebooks_show_tables_alone(report):
    html = parse(report._repr_html_())
    assert len(html.find("table")) == len(report.tables)
    for tag in ("script", "style", "img"):
        assert not html.find(tag)


@pytest.mark.parametrize("name", ["title", "caption", "alt"])
def test_figures_have_words(name):
    words = {"title": "a", "caption": "b", "alt": "c", "svg": SVG} | {name: " "}
    with pytest.raises(ValueError, match=f"{name} must be a str with words"):
        ReportFigure(**words)


def test_figures_are_svg():
    with pytest.raises(ValueError, match=r"starts with '<svg'\. Got '<html>'"):
        ReportFigure("a", "b", "c", "<html>")


def test_from_figure_rasterizes_large_scatters_and_leaves_the_figure():
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    def drawn(n):
        picture = Figure()
        ax = picture.subplots()
        points = ax.scatter(range(n), range(n))
        (markers,) = ax.plot(range(n), range(n), "o")
        words = {"title": "a", "caption": "b", "alt": "c"}
        figure = ReportFigure.from_figure(picture, **words)
        assert not points.get_rasterized()
        assert not markers.get_rasterized()
        assert figure == ReportFigure.from_figure(picture, **words)
        return figure

    small, large = drawn(50), drawn(4000)
    assert "<image" not in small.svg
    assert "<image" in large.svg
    assert len(large.svg) < 200_000
    assert small.svg.startswith("<svg")
    assert small.png.startswith(b"\x89PNG")


def test_ends_that_are_texts_are_no_interval(tmp_path):
    frame = pd.DataFrame({"mrr": [0.5], "mrr_low": ["a"], "mrr_high": [0.6]})
    report = StudyReport("A", [Section("One", {"t": ReportTable(frame)})])
    report.save(tmp_path / "report")
    page = Path(tmp_path, "report", "report.html").read_text(encoding="utf-8")
    assert ">a<" in page
