"""CONTRIBUTING.md, "How to add", is followed word by word on a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
WHOLE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
PAGE = WHOLE.split("## How to add\n")[1]
SECTIONS = dict(
    part.split("\n", 1) for part in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]
)
# The words before a block of code say where it goes.
PLACES = {
    "new": re.compile(r"[Ii]n a new file\s+`([^`]+)`:\s*$"),
    "end": re.compile(r"[Aa]t the end of\s+`([^`]+)`:\s*$"),
    "above": re.compile(r"[Ii]n\s+`([^`]+)`, above the line\s+`([^`]+)`:\s*$"),
    "below": re.compile(r"[Ii]n\s+`([^`]+)`, below the line\s+`([^`]+)`:\s*$"),
}
BLOCK = re.compile(r"(.*?)```python\n(.*?)```\n", re.DOTALL)
# Which names the documentation would have a page for.
PRELUDE = """
import sys

def documented_names():
    sys.path.insert(0, {docs!r})
    import _api
    return _api.all_names()

"""


def put(root, words, code):
    """Put a block where the words before it say; False where they say nothing."""
    for place, pattern in PLACES.items():
        found = pattern.search(words.rstrip())
        if found is None:
            continue
        path = root / found[1]
        if place == "new":
            assert not path.exists()
            path.write_text(code, encoding="utf-8")
            return True
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        at = len(lines)
        if place != "end":
            (at,) = [i for i, line in enumerate(lines) if line.strip() == found[2]]
            at += place == "below"
        lines.insert(at, f"\n\n{code}\n\n" if code[0] not in " f" else code)
        path.write_text("".join(lines), encoding="utf-8")
        return True
    return False


@pytest.fixture
def copy(tmp_path):
    for folder in ("sklearn_molge", "docs"):
        kept = shutil.ignore_patterns("__pycache__", "_build", "api", "gallery")
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=kept)
    return tmp_path


@pytest.mark.parametrize("title", SECTIONS)
def test_following_the_page_adds_it(copy, title):
    blocks = BLOCK.findall(SECTIONS[title])
    *additions, (_, check) = blocks
    for words, code in additions:
        assert put(copy, words, code), words
    script = PRELUDE.format(docs=str(copy / "docs")) + check
    ran = subprocess.run(
        [sys.executable, "-c", script],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": str(copy)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr


def test_the_page_has_all_kinds():
    kinds = ("loss", "fingerprint", "score", "format", "figure")
    assert all(any(kind in title for title in SECTIONS) for kind in kinds)
    assert len(SECTIONS) == len(kinds)
