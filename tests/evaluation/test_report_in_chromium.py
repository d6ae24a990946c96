"""The page in a browser: sorting, no network, telephones, dark mode, print."""

import runpy
import shutil
from pathlib import Path

import pytest

ARGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync"
).split()
NAMES = ("chromium", "chromium-browser", "google-chrome")

# Every text's colour against the nearest background behind it (WCAG 2.2, 1.4.3).
CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => rgb.slice(0, 3).map((c) => c / 255)
    .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const worst = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !element.checkVisibility()) continue;
    if (element.closest("script")) continue;
    let behind = element;
    while (behind && parse(getComputedStyle(behind).backgroundColor)[3] === 0)
      behind = behind.parentElement;
    const [x, y] = [getComputedStyle(element).color,
                    getComputedStyle(behind).backgroundColor].map(parse).map(light);
    const ratio = (Math.max(x, y) + 0.05) / (Math.min(x, y) + 0.05);
    worst.push([ratio, element.outerHTML.slice(0, 100)]);
  }
  return worst.sort((a, b) => a[0] - b[0])[0];
}"""
ROWS = """(column) => [...document.querySelectorAll("#table-table1 tbody tr")]
  .map((row) => row.cells[column].dataset.key)"""


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip(f"no browser on the path: none of {', '.join(NAMES)}")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=ARGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    example = runpy.run_path(str(Path(__file__).with_name("example_report.py")))
    path = example["make_report"]().save(tmp_path_factory.mktemp("report"))
    return path.as_uri()


@pytest.fixture
def open_page(browser, address):
    """Open the page; at the end nothing was said, asked for or thrown."""
    contexts, said, asked = [], [], []

    def open_page(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", address))] == []


def head(page, label):
    return page.locator("#table-table1 thead th", has_text=label).first


def check_sorted(keys, *, descending):
    known = [float(key) for key in keys if key]
    assert known == sorted(known, reverse=descending)
    assert keys == [*keys[: len(known)], *[""] * (len(keys) - len(known))]


def test_sort_by_click(open_page):
    page = open_page()
    before = page.evaluate(ROWS, 1)
    mrr = head(page, "MRR")
    for state, descending in (("descending", True), ("ascending", False)):
        mrr.click()
        assert mrr.get_attribute("aria-sort") == state
        check_sorted(page.evaluate(ROWS, 1), descending=descending)
    mrr.click()
    assert mrr.get_attribute("aria-sort") == "none"
    assert page.evaluate(ROWS, 1) == before
    head(page, "method").click()
    names = page.evaluate(ROWS, 0)
    assert [n for n in names if n.startswith("voting")] == [
        f"voting over nearest molecules, temperature {t}" for t in (1, 2, 5, 10)
    ]


def test_sort_by_keyboard(open_page):
    page = open_page()
    rank = head(page, "median rank")
    button = rank.get_by_role("button", name="Sort by median rank")
    button.focus()
    page.keyboard.press("Enter")
    assert rank.get_attribute("aria-sort") == "ascending"
    check_sorted(page.evaluate(ROWS, 2), descending=False)
    page.keyboard.press("Space")
    assert rank.get_attribute("aria-sort") == "descending"
    check_sorted(page.evaluate(ROWS, 2), descending=True)
    page.keyboard.press("Tab")
    focused = "document.activeElement.getAttribute('aria-label')"
    assert page.evaluate(focused) == "Sort by Hits at 1"
    assert page.get_by_role("columnheader", name="Median rank", exact=True).count() == 2


def test_nothing_in_a_name_runs(open_page):
    page = open_page()
    assert page.locator("script").count() == 1
    assert page.get_by_text("<script>alert(1)</script>").first.is_visible()


def test_figures_and_csv(open_page):
    page = open_page()
    sizes = page.eval_on_selector_all("img", "all => all.map((e) => e.naturalWidth)")
    assert len(sizes) == 6
    assert min(sizes) > 300
    with page.expect_download() as download:
        page.get_by_text("Download as CSV").first.click()
    assert download.value.suggested_filename == "table1.csv"
    assert Path(download.value.path()).read_text().startswith("method,expression,")


def test_command_can_be_copied(open_page):
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").click()
    page.get_by_text("Copied").wait_for()
    text = page.evaluate("navigator.clipboard.readText()")
    assert text.startswith("python -m sklearn_molge evaluate --data lincs_level5 --out")
    assert text.endswith("--repeats 3 --reference finlayson2020")


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_the_page_is_never_wider_than_the_screen(open_page, width):
    page = open_page(viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    box = page.locator("#table-table1 .scroll")
    if width < 700:
        assert box.evaluate("box => box.scrollWidth > box.clientWidth")
    # The names stay where they are when the numbers move.
    box.evaluate("box => { box.scrollLeft = 300; }")
    name = page.locator("#table-table1 tbody th").first.bounding_box()
    assert name["x"] == pytest.approx(box.bounding_box()["x"], abs=1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(open_page, scheme):
    page = open_page(color_scheme=scheme)
    ratio, element = page.evaluate(CONTRAST)
    assert ratio >= 4.5, element
    page_color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (page_color == "rgb(255, 255, 255)") == (scheme == "light")
    card = page.locator(".picture").first
    background = card.evaluate("card => getComputedStyle(card).backgroundColor")
    assert background == "rgb(255, 255, 255)"


def test_print(open_page):
    page = open_page(color_scheme="dark")
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    page.emulate_media(media="print", color_scheme="dark")
    style = "getComputedStyle(document.body)"
    assert page.evaluate(f"{style}.backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate(f"{style}.color") == "rgb(0, 0, 0)"
    for control in ("nav", "thead button", ".command button"):
        assert not page.locator(control).first.is_visible()
    assert not page.get_by_text("Download as CSV").first.is_visible()
    scroll = "box => getComputedStyle(box).overflowX"
    assert page.locator("#table-table1 .scroll").evaluate(scroll) == "visible"
    # All columns are on the paper: 184 mm wide at 96 dots per inch.
    page.set_viewport_size({"width": 695, "height": 1000})
    table = page.locator("#table-table1 table")
    assert table.evaluate("table => table.getBoundingClientRect().width") <= 696
