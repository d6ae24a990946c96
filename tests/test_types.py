"""Types reach the user: a misspelt parameter is an error to mypy."""

import ast
import contextlib
import importlib
import inspect
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


# What scikit-learn, skorch or joblib call, what takes the shape of what it wraps, and
# what returns a tuple or not by a parameter.
ANY = {
    "embed_molecules", "embed_profiles", "embedder", "forward", "gene_names_in_",
    "get_dataset", "get_iterator", "get_loss", "get_metadata_routing", "get_params_for",
    "get_params_for_optimizer", "get_split_datasets", "initialize_callbacks",
    "initialize_criterion", "initialize_module", "kneighbors", "molecule_tensors",
    "on_epoch_begin", "on_epoch_end", "predict", "predict_proba", "profile_tensor",
    "retrieve_result_callback", "run_single_epoch", "score", "submit", "unwrap",
    "with_columns",
}  # fmt: skip


def named(name):
    room, _, attribute = name.rpartition(".")
    return getattr(importlib.import_module(room), attribute)


def public_methods():
    """Public methods and properties of public classes, with what defines them."""
    for name in public_names():
        thing = getattr(
            importlib.import_module(name.rpartition(".")[0]), name.rpartition(".")[2]
        )
        for base in thing.__mro__ if isinstance(thing, type) else ():
            if base.__module__.startswith("sklearn_molge"):
                for method, defined in vars(base).items():
                    if not method.startswith("_"):
                        yield f"{base.__module__}.{base.__name__}.{method}", defined


def function_of(defined):
    """Return the function behind a method, a property or what a decorator made."""
    for attribute in ("fget", "__func__", "fn"):
        defined = getattr(defined, attribute, None) or defined
    return inspect.unwrap(defined) if inspect.isroutine(defined) else None


def test_methods_say_what_they_return():
    untyped = {
        name
        for name, defined in public_methods()
        if (function := function_of(defined))
        and "return" not in getattr(function, "__annotations__", {"return": None})
        and name.rpartition(".")[2] not in ANY
    }
    assert untyped == set()


def test_signatures_can_be_read():
    """Help and tooltips say ArrayLike, and not what it consists of."""
    public = dict(public_methods())
    for name in public_names():
        public[name] = named(name)
    shown = {}
    for name, thing in public.items():
        thing = thing if isinstance(thing, type) else function_of(thing)
        with contextlib.suppress(ValueError, TypeError):
            shown[name] = str(inspect.signature(thing))
    assert len(shown) > 400
    unreadable = re.compile(r"_Buffer|_SupportsArray|_NestedSequence|ndarray\[tuple")
    assert [name for name, text in shown.items() if unreadable.search(text)] == []


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
