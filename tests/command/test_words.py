"""What commands say, and how: help, examples, completion, streams, exit codes."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import sklearn_molge
from sklearn_molge import datasets, evaluation
from sklearn_molge.__main__ import main

COMMANDS = [
    "fetch", "describe", "convert", "train", "index", "search", "serve", "evaluate",
    "audit", "verify", "completion",
]  # fmt: skip


def help_of(capsys, *command):
    assert main([*command, "--help"]) == 0
    return capsys.readouterr().out


def examples_of(text):
    return re.findall(r"^  molge (.+)$", text.partition("Examples:")[2], re.MULTILINE)


@pytest.fixture
def stubs(monkeypatch, tmp_path):
    """What needs a network, a browser or an hour is not run."""

    class Report:
        command = ""

        def save(self, folder):
            return folder

    def serve(folder, *, host, port, token, uploads):
        assert (folder / "index.sqlite").exists()

    module = type(sys)("sklearn_molge.app")
    module.serve = serve
    monkeypatch.setitem(sys.modules, "sklearn_molge.app", module)
    monkeypatch.setitem(
        evaluation.__dict__, "evaluate_study", lambda study, **options: Report()
    )
    monkeypatch.setitem(
        datasets.__dict__, "fetch_lincs", lambda release, **options: tmp_path
    )


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help(capsys, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = help_of(capsys, *command)
    assert text.startswith(f"Usage: python -m sklearn_molge {' '.join(command)}")
    assert max(map(len, text.splitlines())) <= 88
    assert "\x1b" not in text
    assert examples_of(text)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_examples_can_be_typed(capsys, here, stubs, command):
    if not command:  # its model is another
        os.rename("index", "old")
    pytest.importorskip("fastapi")
    (here / "plate.gct").symlink_to("queries.gct")
    (here / "a.gct").symlink_to("queries.gct")
    (here / "wells.csv").write_text("inst_id,cell_id\nnone,A375\n")
    for example in examples_of(help_of(capsys, *command)):
        typed = shlex.split(example.partition(" > ")[0])
        if "a.gct" in typed:  # whose genes and level are another's
            continue
        made = (
            typed[typed.index("--out") + 1] if "--out" in typed else "".join(typed[2:3])
        )
        if typed[0] in ("train", "search", "convert") and os.path.exists(made):
            typed.append("--force")
        assert main(typed) == 0, capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion(capsys, shell):
    assert main(["completion", shell]) == 0
    assert f"_MOLGE_COMPLETE={shell}_complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("se", ["search", "serve"]),
        ("search --re", ["--reverse"]),
        ("train --model x --s", ["--shared-by-all-lines", "--score", "--seed"]),
        ("index --dtype ", ["float32", "float16", "int8"]),
    ],
)
def test_what_is_completed(monkeypatch, capsys, typed, expected):
    words = f"molge {typed}".split(" ")
    monkeypatch.setenv("_MOLGE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(words))
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    with pytest.raises(SystemExit):
        main()
    lines = capsys.readouterr().out.split()
    assert [line.partition(",")[2] for line in lines] == expected


def test_the_script_is_the_module():
    path = Path(sklearn_molge.__file__).parents[1] / "pyproject.toml"
    if not path.exists():
        pytest.skip("an installed package has no pyproject.toml")
    scripts = tomllib.loads(path.read_text())["project"]["scripts"]
    assert scripts == {"molge": "sklearn_molge.__main__:main"}


def test_the_name_it_was_called_by(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/usr/bin/molge"])
    assert main(["audit"]) == 2
    said = "molge audit: error: Missing option '--data'. Try molge audit --help.\n"
    assert capsys.readouterr().err == said


def imports(*arguments):
    """Return what a command imports of some packages."""
    code = (
        "import sys; from sklearn_molge.__main__ import main; "
        f"main({list(arguments)!r}); "
        "print([n for n in ('torch', 'chemprop', 'skorch', 'pandas', 'rdkit', "
        "'sklearn', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize("command", [[], ["search"], ["train"], ["evaluate"]])
def test_help_imports_nothing_heavy(command):
    assert imports(*command, "--help") == "[]"


def test_a_search_where_nobody_looks(here):
    """No torch for a model without networks, no colours, no bars, warnings as lines."""
    code = (
        "import sys; from sklearn_molge.__main__ import main; "
        "assert main('search --index index --up HMOX1,NOSUCH'.split()) == 0; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=here
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("\nFalse\n")
    assert not re.search("\x1b|\r|it/s", done.stdout + done.stderr)
    (line,) = [line for line in done.stderr.splitlines() if "NOSUCH" in line]
    assert line.startswith("warning: ")
    assert ".py" not in line


def test_a_closed_pipe_is_no_error():
    command = (
        f"set -o pipefail; {sys.executable} -m sklearn_molge completion zsh | true"
    )
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_letters_that_a_terminal_lacks_are_escaped(tmp_path, encoding):
    path = tmp_path / "library.csv"
    path.write_text("smiles,name\nCCO,\N{GREEK SMALL LETTER ALPHA}-drug\n", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "sklearn_molge", "describe", str(path)],
        env={**os.environ, "PYTHONIOENCODING": encoding}, capture_output=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"CCO \u03b1-drug" in done.stdout


@pytest.mark.skipif(os.name == "nt", reason="needs a shell of POSIX")
def test_a_closed_stdout_is_no_error(tmp_path):
    path = tmp_path / "library.csv"
    path.write_text("smiles\nCCO\n")
    command = f"{shlex.quote(sys.executable)} -m sklearn_molge describe {path} >&-"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_serve_says_what_is_missing(here, error_of, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    pytest.importorskip("fastapi")
    assert 'pip install "sklearn-molge[app]"' in error_of("serve", "--index", "index")
    assert "there is no nothing" in error_of("serve", "--index", "nothing")


def test_fetch_lists_sizes(capsys, json_of):
    assert main(["fetch", "LINCS2020", "--list"]) == 0
    out = capsys.readouterr().out
    assert "siginfo_beta.txt  0.433" in out
    assert out.splitlines()[-1] == "36.2 GiB in 6 files"
    files = json_of("fetch", "LINCS2020", "--list", "--no-controls")["files"]
    assert [file["size"] for file in files][-1] == 35518405386


def test_fetch_shows_sizes_before(monkeypatch, tmp_path, capsys):
    asked = {}

    def fetch_lincs(release, **options):
        assert "GiB in" in capsys.readouterr().err
        asked.update(options, release=release)
        return tmp_path

    monkeypatch.setitem(datasets.__dict__, "fetch_lincs", fetch_lincs)
    assert main(["fetch", "GSE70138", "--folder", str(tmp_path), "--yes"]) == 0
    assert asked == {
        "release": "GSE70138", "level": 5, "controls": True, "base_url": None,
        "data_home": tmp_path, "progress": True,
    }  # fmt: skip
