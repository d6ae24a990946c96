"""Importing the package is light, and every public name is there and documented."""

import importlib
import inspect
import subprocess
import sys

import pytest

PACKAGES = (
    "alignment alignment.losses alignment.samplers datasets evaluation expression "
    "inspection library metrics model_selection molecules retrieval"
).split()
HEAVY = ["torch", "chemprop", "lightning", "skorch", "pandas", "rdkit", "sklearn"]


@pytest.mark.parametrize(
    "package", ["", ".parallel", *(f".{name}" for name in PACKAGES)]
)
def test_import_is_light(package):
    code = (
        f"import sys, sklearn_molge{package}\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_classical_methods_need_no_torch():
    code = (
        "import sys\n"
        "from sklearn_molge.alignment import CCA\n"
        "from sklearn_molge.retrieval import DoubleNNRetriever\n"
        "from sklearn_molge.molecules import MorganFingerprinter\n"
        "print([n for n in ('torch', 'chemprop', 'lightning', 'skorch')"
        " if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", PACKAGES)
def test_public_names_are_there_and_documented(package):
    module = importlib.import_module(f"sklearn_molge.{package}")
    assert module.__all__
    for name in module.__all__:
        value = getattr(module, name)
        assert inspect.getdoc(value), name
        if not callable(value):
            continue  # a sub-package, or PRESETS
        assert "Examples\n" in inspect.getdoc(value), f"{name} has no example"
        if inspect.isfunction(value) or inspect.isclass(value):
            assert value.__module__.startswith(f"sklearn_molge.{package}."), name
            documented = inspect.getdoc(value)
            for parameter in inspect.signature(value).parameters.values():
                if parameter.kind not in (
                    parameter.VAR_POSITIONAL,
                    parameter.VAR_KEYWORD,
                ):
                    assert parameter.name in documented, (name, parameter.name)


def test_unknown_name():
    import sklearn_molge

    with pytest.raises(AttributeError, match="nonsense"):
        sklearn_molge.nonsense  # noqa: B018
