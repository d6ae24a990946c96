"""The versions that pyproject.toml allows are those that were tried."""

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
# These look at the code, or drive it from outside, and run none of it.
TOOLS = {"ruff", "mypy", "pandas-stubs", "playwright"}
UNTRIED = {"docs", "bench", "pretrained"}  # extras whose lower bounds nobody tries


def requirements(extras):
    texts = sum((EXTRAS[extra] for extra in extras), PROJECT["dependencies"])
    return {need.name: need for need in map(Requirement, texts)}


def pins(name):
    lines = (ROOT / name).read_text("utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


TRIED = requirements(set(EXTRAS) - UNTRIED)


@pytest.mark.parametrize("name", sorted(set(TRIED) - TOOLS - {"torch"}))
def test_the_oldest_environment_has_the_lower_bound(name):
    bounds = TRIED[name].specifier
    (lowest,) = (bound.version for bound in bounds if bound.operator == ">=")
    assert Version(pins("constraints-oldest.txt")[name]) == Version(lowest)


@pytest.mark.parametrize("file", ["constraints.txt", "constraints-oldest.txt"])
def test_pins_are_allowed(file):
    known = requirements(EXTRAS)
    allowed = {
        name: known[name].specifier.contains(version)
        for name, version in pins(file).items()
        if name in known
    }
    assert all(allowed.values()), allowed
