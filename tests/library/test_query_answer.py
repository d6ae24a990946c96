"""The answer as a page, in a notebook, as SDF: structures, verdict, and no surprise."""

import base64
import io
import pickle
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.library import MoleculeIndex, QueryAnswer

ARGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run".split()
SMILES = ["CCO", "CC(=O)Oc1ccccc1C(=O)O", "c1ccccc1O", "CCCCCC"]
EVIL = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(2)'>",
    "javascript:alert(3)",
    "{{ 7 * 7 }}</style></caption>",
]


class Elements(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.links = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        self.links += [attrs[name] for name in ("href", "src") if name in attrs]
        assert not [name for name in attrs if name.startswith("on")]


def elements(html):
    parser = Elements()
    parser.feed(html)
    return parser


def table(**columns):
    n = 4
    return QueryAnswer(
        {
            "query": ["A375"] * n,
            "rank": range(1, n + 1),
            "molecule": SMILES,
            "name": ["ethanol", "aspirin", "", None],
            "score": [0.5, 0.25, 0.125, -0.5],
            **columns,
        }
    )


@pytest.fixture
def answer(index_of):
    vectors = np.random.default_rng(0).normal(size=(4, 6))
    made = index_of(vectors, texts=SMILES, unique_by="drug")
    extra = {"moa": ["a|b", None, "c", "d"], "price": [1.5, 2.0, None, 3.0]}
    index = MoleculeIndex(made.estimator).fit(SMILES, names=EVIL, columns=extra)
    queries = np.random.default_rng(1).normal(size=(2, 6)).astype(np.float32)
    return index.query(pd.DataFrame(queries, index=["first", "second"]), 3)


# A DataFrame as before


def test_it_is_a_data_frame_that_stays_an_answer(answer):
    assert isinstance(answer, pd.DataFrame)
    for part in (
        answer.head(2),
        answer[answer["rank"] == 1],
        answer.sort_values("name"),
    ):
        assert type(part) is QueryAnswer
        assert part.attrs["n_molecules"] == 4
    again = pickle.loads(pickle.dumps(answer))
    assert type(again) is QueryAnswer
    pd.testing.assert_frame_equal(again, answer)
    assert again.attrs == answer.attrs
    joined = pd.concat([answer, answer.assign(query="third")], ignore_index=True)
    assert joined.to_html().count("<h2>") == 3
    assert len(pd.concat([answer, pd.DataFrame({"other": [1]})])) == 7
    assert answer.groupby("query")["score"].max().shape == (2,)


def test_what_is_no_answer_is_shown_as_any_table(answer):
    part = answer[["name", "score"]]
    assert part._repr_html_() == pd.DataFrame(part)._repr_html_()
    assert part.to_html() == pd.DataFrame(part).to_html()
    assert answer.T._repr_html_() == pd.DataFrame(answer).T._repr_html_()
    options = {"index": False, "columns": ["name"]}
    assert answer.to_html(**options) == pd.DataFrame(answer).to_html(**options)
    assert answer.to_csv() == pd.DataFrame(answer).to_csv()


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
def test_answers_among_some_rows(index_of, metric, reverse):
    rng = np.random.default_rng(0)
    alkanes = ["C" * (i + 1) for i in range(30)]
    index = index_of(rng.normal(size=(30, 6)), metric, texts=alkanes)
    queries = rng.normal(size=(3, 6)).astype(np.float32)
    among = [3, 7, 7, 11, 20, 29, 4]
    whole = index.query(queries, 30, reverse=reverse)
    part = index.query(queries, 4, reverse=reverse, among=among)
    for query, own in part.groupby("query"):
        expected = whole[(whole["query"] == query) & whole["index_row"].isin(among)]
        assert own["index_row"].tolist() == expected["index_row"].tolist()[:4]
        assert own["rank"].tolist() == [1, 2, 3, 4]
        for name in ("score", "p_value", "query_p_value"):
            np.testing.assert_allclose(own[name], expected[name][:4], rtol=1e-6)
    with pytest.raises(ValueError, match="from 1 to 6, the number of molecules in"):
        index.query(queries, 7, among=among)
    with pytest.raises(IndexError, match="from 0 to 29"):
        index.query(queries, 1, among=[30])


# The page


def test_where_the_page_goes(answer, tmp_path):
    page = answer.to_html()
    assert page.startswith("<!DOCTYPE html>")
    assert answer.to_html(tmp_path / "a.html") is None
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == page
    buffer = io.StringIO()
    answer.to_html(buffer)
    assert buffer.getvalue() == page
    assert "<title>Mine</title>" in answer.to_html(title="Mine")


def test_the_page_needs_no_network_and_runs_nothing(answer):
    for html in (answer.to_html(), answer._repr_html_()):
        found = elements(html)
        assert all(link.startswith("data:") for link in found.links)
        assert found.tags.count("script") == html.startswith("<!DOCTYPE")
        assert found.tags.count("img") == len(answer)
        assert "&lt;script&gt;alert(1)" in html
        assert "{{ 7 * 7 }}" in html
    assert "default-src 'none'" in answer.to_html()


@pytest.mark.parametrize("place", ["query", "name", "moa", "molecule", "title"])
@pytest.mark.parametrize("evil", EVIL)
def test_nothing_that_is_given_becomes_markup(place, evil):
    given = table(moa="x")
    given.attrs = {"model": evil, "metric": evil, "account": [evil]}
    if place == "title":
        html = given.to_html(title=evil)
    else:
        given = given.assign(**{place: [evil] * 4, evil: "column"})
        html = given.to_html()
    plain = elements(table(moa="x").to_html())
    found = elements(html)
    assert set(found.tags) <= set(plain.tags)
    assert found.tags.count("script") == 1
    assert all(link.startswith("data:") for link in found.links)


def test_only_web_addresses_become_links():
    urls = ["https://a.org/x?y=1", "javascript:alert(1)", "https://a.org/'\"", "data:x"]
    found = elements(table(url=urls).to_html())
    links = [link for link in found.links if not link.startswith("data:")]
    assert links == ["https://a.org/x?y=1"]


@pytest.mark.parametrize(
    ("better", "q", "said"),
    [(True, 0.01, "Better than noise."), (False, 0.6, "No better than noise.")],
)
def test_the_verdict_comes_first(better, q, said):
    null = {"query_p_value": q, "query_q_value": q, "better_than_noise": better}
    html = table(**null).to_html()
    assert f"<b>{said}</b>" in html
    assert f"false discovery rate = {q:.3f}" in html
    assert html.index(said) < html.index("<table")
    assert said in table(**null)._repr_html_()


def test_without_permutations_the_page_says_so():
    assert "Not compared with noise." in table().to_html()


def test_the_caption_says_what_was_asked_of_what(answer):
    caption = re.search('class="caption">(.*?)</span>', answer.to_html()).group(1)
    assert "3 molecules, most similar first. Library: 4 molecules." in caption
    assert "Score: correlation." in caption
    assert "999 copies" in answer.to_html()
    given = table()
    given.attrs = {"reverse": True, "n_molecules": 9, "n_skipped": 1}
    assert "reversed: least similar first" in given.to_html()
    assert "1 row of the library left out" in given.to_html()


def test_cells(answer):
    html = table(
        p_value=[0.0001, 0.5, 1.0, 0.25], percentile=[99.95, 1, 2, None],
        nearest_similarity=[1.0, 0.5, 0.25, 0], nearest_training="CCN",
        in_training=[True, False, False, False], moa=["a|b", None, "", "c"],
        price=[1.5, 2, None, 1e6], conformal_p=0.5, in_set=[True, False, True, False],
    ).to_html()  # fmt: skip
    values = re.findall('class="value">(.*?)</span>', html)
    assert values[:9] == [
        "0.500", "&lt; 0.001", "100.0", 'yes<code class="note">p = 0.500</code>',
        "1.00", "a, b", "1.5", "0.250", "0.500",
    ]  # fmt: skip
    assert html.count(">in training<") == 1
    assert html.count('class="note">CCN<') == 3
    assert "without a name" in html


def test_a_molecule_that_cannot_be_drawn_is_named():
    html = table(molecule=["not a molecule", None, "CCO", ""]).to_html()
    assert html.count("<img") == 1
    assert "not a molecule" in html


def test_a_notebook_shows_as_many_rows_as_pandas_would():
    with pd.option_context("display.max_rows", 3):
        html = table()._repr_html_()
    assert html.count("<img") == 3
    assert "1 more are not shown." in html


def test_the_csv_of_the_page_runs_no_formula():
    page = table(note="=1+1").to_html()
    link = next(e for e in elements(page).links if e.startswith("data:text/csv"))
    csv = pd.read_csv(io.BytesIO(base64.b64decode(link.split(",")[1])))
    assert set(csv["note"]) == {"'=1+1"}
    assert csv["score"].tolist() == [0.5, 0.25, 0.125, -0.5]


# SDF


def test_sdf(tmp_path):
    evil = "a\n$$$$\n\n>  <injected>\nyes"
    given = table(price=[1.5, None, 2, 3], note=[evil, "b", "$$$$", ">  <x>"])
    given.assign(**{"odd>\n<name": 1}).to_sdf(tmp_path / "a.sdf")
    molecules = list(Chem.SDMolSupplier(str(tmp_path / "a.sdf")))
    assert [Chem.MolToSmiles(m) for m in molecules] == [
        Chem.CanonSmiles(s) for s in SMILES
    ]
    assert [m.GetProp("_Name") for m in molecules] == ["ethanol", "aspirin", "", ""]
    first = molecules[0].GetPropsAsDict()
    assert first["score"] == 0.5
    assert first["price"] == 1.5
    assert first["note"].startswith("a $$$$")
    assert not any("injected" in m.GetPropNames() for m in molecules)
    assert "price" not in molecules[1].GetPropNames()


def test_sdf_refuses(tmp_path):
    with pytest.raises(ValueError, match="columns \\['molecule'\\]"):
        table().drop(columns="molecule").to_sdf(tmp_path / "a.sdf")
    with pytest.raises(InvalidSmilesError, match="index 0"):
        table(molecule="not a molecule").to_sdf(tmp_path / "a.sdf")
    assert not list(tmp_path.iterdir())


# In a browser


def test_the_page_in_a_browser(answer, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if path is None:
        pytest.skip("no browser on the path")
    answer.to_html(tmp_path / "a.html")
    said = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=ARGS)
        for width, scheme in ((1280, "light"), (390, "dark"), (320, "light")):
            page = browser.new_page(
                viewport={"width": width, "height": 800}, color_scheme=scheme
            )
            page.on("console", lambda message: said.append(message.text))
            page.on("dialog", lambda dialog: said.append(dialog.message))
            page.goto((tmp_path / "a.html").as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            sizes = "all => all.map((e) => e.naturalWidth)"
            assert min(page.eval_on_selector_all("img", sizes)) > 100
            page.get_by_role("button", name="Sort by Score").first.click()
            page.get_by_role("button", name="Sort by Score").first.click()
            ranks = "all => all.map((e) => e.dataset.key)"
            assert page.eval_on_selector_all("#table-1 .rank", ranks) == ["3", "2", "1"]
        with page.expect_download() as download:
            page.get_by_text("Download the table as CSV").click()
        csv = pd.read_csv(Path(download.value.path()))
        browser.close()
    assert said == []
    assert csv["rank"].tolist() == [1, 2, 3, 1, 2, 3]
