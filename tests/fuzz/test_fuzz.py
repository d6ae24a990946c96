"""Some cases of every kind; ``make fuzz N=100000`` tries more."""

import subprocess
import sys
from pathlib import Path

import pytest

N = 50
KINDS = [
    path.stem.removeprefix("kind_")
    for path in sorted(Path(__file__).parent.glob("kind_*.py"))
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bad_inputs_are_told(kind):
    pytest.importorskip("resource", reason="limits of memory are those of Unix")
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).parent), "-n", str(N), "--kind", kind],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
