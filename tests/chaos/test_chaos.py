"""Some kills, full disks and pairs of writers; ``make chaos N=100`` tries more."""

import subprocess
import sys
from pathlib import Path

import pytest

N = 4
OPERATIONS = [
    "study-save",
    "save-model",
    "load-lincs-mmap",
    "index-fit",
    "save-params",
    "fetch-lincs",
]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="forks, kills and small disks")
def test_nothing_that_writes_breaks_by_accident():
    command = [sys.executable, str(Path(__file__).parent), "-n", str(N)]
    for name in OPERATIONS:
        command += ["--operation", name]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
