"""Run the code of a page, block by block, and show below each what it prints and draws.

A fence ``python`` is run, in one namespace a page; of a fence ``console`` the lines
that begin with ``$`` are, by bash. ``{code-block} python`` is only shown: it needs a
download, a server or a cluster. The build and the tests call the same function, so what
a page shows is what this version does. A warning is an error.
"""

import os
import re
import subprocess
import sys
import tempfile
import warnings
from contextlib import chdir, redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path
from typing import NamedTuple

import pandas as pd

BLOCK = re.compile(r"^```(python|console)\n(.*?)^```\n", re.DOTALL | re.MULTILINE)


class Output(NamedTuple):
    """What a block printed, and the figures that it drew, as PNG."""

    text: str
    figures: list[bytes]


def run(page: str, name: str) -> list[Output]:
    """Run the blocks of a page, in an empty folder that is removed afterwards."""
    names = {"__name__": name}
    outputs = []
    with (
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),
        warnings.catch_warnings(),
        # As wide as the pages' code, and no column is left out.
        pd.option_context("display.width", 88, "display.max_columns", None),
    ):
        warnings_are_errors()
        for language, code in BLOCK.findall(page):
            if language == "console":
                outputs.append(Output(run_commands(code), []))
                continue
            with redirect_stdout(StringIO()) as text:
                exec(compile(code, name, "exec"), names)
            outputs.append(Output(text.getvalue(), take_figures()))
    return outputs


def take_figures() -> list[bytes]:
    """Close the open figures of matplotlib and return them as pictures."""
    import matplotlib.pyplot as plt

    pictures = []
    for number in plt.get_fignums():
        file = BytesIO()
        plt.figure(number).savefig(file, dpi=110, bbox_inches="tight")
        pictures.append(file.getvalue())
    plt.close("all")
    return pictures


def warnings_are_errors() -> None:
    """Filter warnings as the tests do (see ``filterwarnings`` in pyproject.toml)."""
    from sklearn.exceptions import DataDimensionalityWarning

    from sklearn_molge.exceptions import FewCandidatesWarning, FewDrugsWarning

    warnings.simplefilter("error")
    for small_on_purpose in (FewCandidatesWarning, FewDrugsWarning):
        warnings.simplefilter("ignore", small_on_purpose)
    warnings.filterwarnings("ignore", category=DataDimensionalityWarning)
    warnings.filterwarnings("ignore", "A worker stopped while some jobs")


def run_commands(code: str) -> str:
    """Run each line that begins with ``$``; return the lines with their outputs."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    shown = []
    for command in re.findall(r"^\$ (.*(?:(?<=\\)\n.*)*)", code, re.MULTILINE):
        done = subprocess.run(
            ["bash", "-c", command],
            env=os.environ | {"PATH": path},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(
                f"{command!r} ended with {done.returncode}: {done.stdout}"
            )
        shown.append(f"$ {command}\n{done.stdout}")
    return "\n".join(shown)


def with_outputs(page: str, name: str, docs: Path) -> str:
    """Return the page with the output of each block below it.

    Figures are written to a folder in ``docs``, from where the page names them.
    """
    outputs = iter(run(page, name))
    stem = name.replace("/", "-")
    folder = docs / "_build" / "outputs"
    folder.mkdir(parents=True, exist_ok=True)

    def add(block: re.Match) -> str:
        text, figures = next(outputs)
        if block[1] == "console":
            return f"~~~{{code-block}} console\n{text}~~~\n"
        below = [block[0]]
        if text:
            below.append(f"~~~{{code-block}} text\n:class: output\n\n{text}~~~\n")
        for figure in figures:
            path = folder / f"{stem}-{len(list(folder.glob(f'{stem}-*'))) + 1}.png"
            path.write_bytes(figure)
            link = path.relative_to(docs).as_posix()
            below.append(f"![The figure that the code above draws](/{link})\n")
        return "\n".join(below)

    for old in folder.glob(f"{stem}-*.png"):
        old.unlink()
    return BLOCK.sub(add, page)
