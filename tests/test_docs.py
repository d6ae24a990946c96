"""The documentation is complete, its links lead somewhere, and its code runs."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GENERATED = ("_build", "api", "gallery")
PAGES = sorted(
    path
    for path in DOCS.rglob("*.md")
    if path.relative_to(DOCS).parts[0] not in GENERATED
)
RUN = re.compile(r"^```(?:python|console)\n", re.MULTILINE)
SHOWN = re.compile(r"^```\{code-block\} python\n(.*?)^```", re.DOTALL | re.MULTILINE)
SHELL = re.compile(
    r"^```(?:bash|\{code-block\} (?:console|bash))\n(.*?)^```", re.DOTALL | re.MULTILINE
)
ROLE = re.compile(r"\{(class|func|meth|data|mod)\}`([^`]+)`")


def pages_with(pattern):
    found = [path for path in PAGES if pattern.search(path.read_text(encoding="utf-8"))]
    return pytest.mark.parametrize("path", found, ids=lambda p: p.stem)


def load(path):
    spec = importlib.util.spec_from_file_location(f"docs_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def api():
    return load(DOCS / "_api.py")


@pytest.fixture(scope="module")
def outputs():
    return load(DOCS / "_outputs.py")


# The API reference.


def test_every_public_name_has_a_page(api, tmp_path):
    expected = set()
    for stub in (ROOT / "sklearn_molge").rglob("__init__.pyi"):
        package = ".".join(stub.parent.relative_to(ROOT).parts)
        for node in ast.parse(stub.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                expected |= {f"{package}.{alias.name}" for alias in node.names}
    for name in ("sklearn_molge.exceptions", "sklearn_molge.base"):
        module = importlib.import_module(name)
        expected |= {f"{name}.{public}" for public in module.__all__}
    expected.add("sklearn_molge.parallel.DaskBackend")
    api.write(tmp_path)
    written = {path.stem for path in (tmp_path / "generated").glob("*.rst")}
    assert written == expected
    overview = (tmp_path / "index.rst").read_text(encoding="utf-8")
    for name in expected:
        assert f"   generated/{name}\n" in overview


def test_pages_say_what_a_name_is(api):
    cca = api.page("sklearn_molge.alignment.CCA")
    assert ".. autoclass:: CCA\n" in cca
    assert [line.split()[-1] for line in cca.splitlines() if "automethod" in line] == [
        "fit", "transform", "transform_ge", "compare_to", "similarity", "score",
    ]  # fmt: skip
    assert ".. autofunction:: drug_ids" in api.page("sklearn_molge.molecules.drug_ids")
    assert ".. autodata:: PRESETS" in api.page("sklearn_molge.alignment.PRESETS")
    assert "recommended" in api.data_docstring("alignment", "PRESETS")


def test_every_package_is_described(api):
    for package in api.packages():
        assert api.meaning(package).endswith("."), package


# Links.


def test_every_page_is_in_a_table_of_contents():
    listed = {DOCS / "index.md"}
    for path in PAGES:
        text = path.read_text(encoding="utf-8")
        for tree in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.S | re.M):
            for line in tree.splitlines():
                if line and not line.startswith(":"):
                    listed.add(path.parent / f"{line}.md")
    written = {DOCS / name / "index.md" for name in GENERATED}
    assert listed - written == set(PAGES)


@pages_with(re.compile(r"\]\(|:link: "))
def test_links_between_pages(path):
    text = path.read_text(encoding="utf-8")
    prose = re.sub(r"^```(?:\{code-block\}|(?!\{)).*?^```", "", text, flags=re.S | re.M)
    links = re.findall(r"\]\(([^)#]*)(?:#[^)]*)?\)", prose)
    links += [f"{link}.md" for link in re.findall(r"^:link: (\S+)$", text, re.M)]
    for link in links:
        if not link or "://" in link:
            continue
        target = (path.parent / link).resolve()
        first, *rest = target.relative_to(DOCS).parts
        if first == "gallery":
            source = Path(rest[-1]).with_suffix(".py").name
            assert source == "index.py" or (ROOT / "examples/gallery" / source).exists()
        elif first != "api":
            assert target.exists(), link


@pages_with(ROLE)
def test_references_to_public_names(path, api):
    names = set(api.all_names())
    for kind, text in ROLE.findall(path.read_text(encoding="utf-8")):
        target = re.sub(r".*<(.*)>", r"\1", text).lstrip("~")
        if not target.startswith("sklearn_molge."):
            continue
        if kind == "meth":
            target, method = target.rsplit(".", 1)
            module, cls = target.rsplit(".", 1)
            assert method in api.members(getattr(importlib.import_module(module), cls))
        assert target in names, text


def test_glossary_terms_that_are_used_exist():
    glossary = (DOCS / "glossary.md").read_text(encoding="utf-8")
    terms = set(re.findall(r"^(\S.*)\n  \S", glossary, re.M))
    assert len(terms) > 30
    for path in PAGES:
        used = re.findall(r"\{term\}`([^`]+)`", path.read_text(encoding="utf-8"))
        assert set(used) <= terms, path


# Code.


@pages_with(RUN)
def test_build_shows_what_the_code_of_a_page_does(path, outputs, monkeypatch, tmp_path):
    import matplotlib.pyplot as plt

    monkeypatch.chdir(tmp_path)
    plt.switch_backend("agg")
    text = path.read_text(encoding="utf-8")
    built = outputs.with_outputs(text, path.stem, tmp_path)
    assert "\n:class: output\n\n" in built or "~~~{code-block} console\n$ " in built
    assert not RUN.search(re.sub(r"^```python\n", "", built, flags=re.M))
    pictures = {link[1:] for link in re.findall(r"!\[The figure.*\]\((.*)\)", built)}
    written = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.*")}
    assert written == pictures  # nothing else is left behind
    assert not plt.get_fignums()


def test_outputs_stand_below_their_blocks(outputs, tmp_path):
    page = """One.

```python
import matplotlib.pyplot as plt
a = 2
```

Two.

```python
print(a + 1)
plt.plot([0, a])
```

```console
$ echo one \\
    two
```
"""
    built = outputs.with_outputs(page, "guide/page", tmp_path)
    assert "print(a + 1)\nplt.plot([0, a])\n```\n\n~~~{code-block} text" in built
    assert "\n:class: output\n\n3\n~~~\n" in built
    assert built.count("~~~{code-block} text") == 1  # the first block prints nothing
    assert "(/_build/outputs/guide-page-1.png)" in built
    picture = tmp_path / "_build" / "outputs" / "guide-page-1.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "$ echo one \\\n    two\none two\n" in built


@pytest.mark.parametrize(
    ("block", "error"),
    [
        ("```python\n1 / 0\n```\n", ZeroDivisionError),
        ("```python\nimport warnings\nwarnings.warn('old')\n```\n", UserWarning),
        ("```console\n$ exit 3\n```\n", RuntimeError),
    ],
)
def test_what_fails_on_a_page_fails_its_build(outputs, block, error, tmp_path):
    with pytest.raises(error):
        outputs.with_outputs(block, "page", tmp_path)


def test_every_page_of_the_guide_shows_an_output():
    guide = [path for path in PAGES if path.parent.name == "user_guide"]
    silent = [
        path.stem for path in guide if not RUN.search(path.read_text(encoding="utf-8"))
    ]
    assert silent == ["index"]  # a table of contents


@pages_with(SHOWN)
def test_code_that_is_only_shown_imports_what_exists(path):
    for block in SHOWN.findall(path.read_text(encoding="utf-8")):
        for node in ast.walk(ast.parse(block)):
            if not isinstance(node, ast.ImportFrom):
                continue
            if node.module.startswith("sklearn_molge"):
                module = importlib.import_module(node.module)
                for alias in node.names:
                    assert hasattr(module, alias.name), alias.name


@pages_with(SHELL)
def test_shell_commands_exist(path):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.M))
    variables = set(re.findall(r"^([A-Z]+) \?=", makefile, re.M))
    for block in SHELL.findall(path.read_text(encoding="utf-8")):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.partition("#")[0].strip().removeprefix("$ ").split()
            if words[:1] == ["make"]:
                for word in words[1:]:
                    known = word.split("=")[0] in variables if "=" in word else None
                    assert known or word in targets, line
            elif words[:3] == ["python", "-m", "sklearn_molge"]:
                check_command(words[3:])
            elif words[:1] == ["molge"]:
                check_command(words[1:])
            elif words[:1] == ["python"]:
                assert (ROOT / words[1]).exists(), line


def check_command(words):
    """The options of `molge` are in its help."""
    from contextlib import redirect_stdout
    from io import StringIO

    main = importlib.import_module("sklearn_molge.__main__").main
    text = StringIO()
    command = words[:1] if not words[0].startswith("-") else []
    with redirect_stdout(text):
        assert main([*command, "--help"]) == 0
    for word in words:
        if word.startswith("--"):
            assert word.split("=")[0] in text.getvalue(), word


# The gallery.


def test_gallery_examples_have_a_title():
    examples = sorted((ROOT / "examples/gallery").glob("*.py"))
    assert len(examples) >= 6
    for path in examples:
        assert path.name.startswith("plot_")
        title, line = ast.get_docstring(
            ast.parse(path.read_text(encoding="utf-8"))
        ).splitlines()[:2]
        assert set(line) == {"="}
        assert len(line) == len(title)
