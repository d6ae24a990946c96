"""Some kills, full disks and pairs of writers; ``make chaos N=100`` tries more."""

import subprocess
import sys
from pathlib import Path

import pytest

N = 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, kills and small disks")
def test_nothing_that_writes_breaks_by_accident():
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).parent), "-n", str(N)],
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
