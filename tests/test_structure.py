"""docs/architecture.md holds: imports run downwards, private names stay private."""

import ast
import importlib.util
from pathlib import Path

import pytest

import sklearn_molge

spec = importlib.util.spec_from_file_location(
    "house", Path(__file__).with_name("house.py")
)
house = importlib.util.module_from_spec(spec)
spec.loader.exec_module(house)

ROOT = Path(sklearn_molge.__file__).parent
# From the bottom up: a room may import from its own floor's row and those before it.
FLOORS = [
    {"_compat"},
    {"_utils"},
    {"exceptions", "parallel"},
    {"_files"},
    {"molecules"},
    {"base"},
    {"expression", "metrics"},
    {"datasets", "model_selection"},
    {"alignment"},
    {"retrieval"},
    {"persistence"},
    {"library"},
    {"inspection"},
    {"evaluation"},
    {"app"},
    {"_command"},
    {"__main__"},
]
# Of a mixin, as in scikit-learn's: `score` needs the metrics above the contract.
SCORE_OF_THE_MIXIN = ("base", "metrics")
MODULES = sorted(path for path in ROOT.rglob("*.py") if path.name != "__init__.py")


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def floor_of(room):
    return next(i for i, rooms in enumerate(FLOORS) if room in rooms)


def room_of(path):
    return path.relative_to(ROOT).with_suffix("").parts[0]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_downwards(path):
    own = room_of(path)
    for module in imported_modules(path):
        parts = module.split(".")
        if parts[0] != "sklearn_molge" or len(parts) == 1:
            continue
        if (own, parts[1]) == SCORE_OF_THE_MIXIN:
            continue
        assert parts[1] == own or floor_of(parts[1]) < floor_of(own), module


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_modules_are_private_unless_their_room_is(path):
    public = path.name in ("exceptions.py", "base.py", "parallel.py")
    assert path.name.startswith("_") or public or room_of(path).startswith("_")


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_private_scikit_learn_modules_come_through_compat(path):
    if path.name == "_compat.py":
        return
    for module in imported_modules(path):
        private = [part for part in module.split(".") if part.startswith("_")]
        assert not (module.startswith("sklearn.") and private), module


@pytest.mark.parametrize(
    ("found_in", "most"),
    [
        (house.circles, 0),
        (house.private_imports_across_rooms, 10),
        (house.single_consumer_modules, 18),
        (house.tests_of_private_modules, 12),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_the_house_stays_in_order(found_in, most):
    found = list(found_in(house.ROOT))
    assert len(found) <= most, "\n".join(map(str, ["", *found]))
