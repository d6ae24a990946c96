"""Types reach the user: a misspelt parameter is an error to mypy."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("mypy")
ROOT = Path(__file__).parents[1]
CALLS = Path(__file__).with_name("typed_calls.py")


def public_names():
    """Write out the public names of all rooms but modules, with their rooms."""
    for stub in sorted((ROOT / "sklearn_molge").glob("*/**/__init__.pyi")):
        room = ".".join(stub.relative_to(ROOT).parent.parts)
        for node in ast.parse(stub.read_text(encoding="utf-8")).body:
            for name in node.names if isinstance(node, ast.ImportFrom) else ():
                yield f"{room}.{name.asname or name.name}"


@pytest.fixture(scope="module")
def mypy(tmp_path_factory):
    """Run mypy once, on the calls and on all public names."""
    names = sorted(public_names())
    rooms = sorted({name.rpartition(".")[0] for name in names})
    lines = [f"import {room}" for room in rooms]
    lines += [f"reveal_type({name})" for name in names]
    revealed = tmp_path_factory.mktemp("types") / "revealed.py"
    revealed.write_text("\n".join(lines), encoding="utf-8")
    # Where `make lint` ran before, its cache makes this a matter of seconds.
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml"]
    run = subprocess.run(
        [*command, CALLS, revealed], cwd=ROOT, capture_output=True, text=True
    )
    return names, run


def test_mypy_tells_wrong_calls_from_right_ones(mypy):
    _, run = mypy
    assert run.returncode == 0, run.stdout + run.stderr


def test_public_names_have_types(mypy):
    names, run = mypy
    types = re.findall(r'Revealed type is "(.*)"', run.stdout)
    assert len(types) == len(names) > 100
    # What is returned may be any estimator of scikit-learn's, which has no type.
    any_estimator = {"retrieval.recommended_pipeline", "persistence.load_model"}
    untyped = [
        name
        for name, found in zip(names, types, strict=True)
        if (found == "Any" or found.endswith("-> Any"))
        and name.removeprefix("sklearn_molge.") not in any_estimator
    ]
    assert untyped == []
