"""Kill what writes, fill its disk, run it twice: ``python tests/chaos -n 100``.

Prints a line an operation; the exit status is 1 where anything was not as it should be.
"""

import argparse
import importlib
import os
import subprocess
import sys
import tempfile
import time
import warnings
import zlib
from collections import Counter
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy is imported, and for forks

import numpy as np  # noqa: E402
from harness import Trials, may_mount, mount_small, private_mounts, unmount  # noqa: E402

MODULES = sorted(p.stem for p in Path(__file__).parent.glob("write_*.py"))
KILLS = ["kills", "resumed equal", "another result", "half files", "drafts left"]
FULL = ["tried", "clear errors", "done", "resumed equal", "another result"]
FULL += ["half files", "drafts left", "crashes"]
COLUMNS = {
    "kill": [*KILLS, "unclear errors"],
    "full disk": [*FULL, "unclear errors"],
    "two writers": [*FULL, "unclear errors"],
    "read-only": [*FULL, "unclear errors"],
}


def operations(names):
    """Yield the operations asked for, or all of them."""
    for module in MODULES:
        for operation in importlib.import_module(module).OPERATIONS:
            if not names or operation.name in names:
                yield operation


def try_kills(trials, rng, n):
    """Kill it `n` times."""
    for _ in range(20 * n):
        if trials.counts["kills"] >= n:
            break
        trials.kill(rng)


def try_disks(trials, rng, n):
    """Run it on disks of `n` sizes, from what is there up to what it needs."""
    trials.fresh(trials.work)
    before = bytes_in(trials.work)
    trials.operation.run(trials.work)
    need = before + 1.5 * bytes_in(trials.work) + 32768
    for size in np.linspace(max(before, 8192), need, n, dtype=int):
        trials.fill(int(size) // 4096 * 4096)


def bytes_in(folder):
    """Return the bytes of all files, in pages."""
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
    return sum(-(-size // 4096) * 4096 for size in sizes)


def try_two(trials, rng, n):
    """Let two processes do it at once."""
    for _ in range(max(n // 5, 1)):
        trials.two(rng)


def try_read_only(trials, rng, n):
    """Run it where nothing can be written."""
    if may_mount():
        trials.refuse()


ACCIDENTS = {
    "kill": try_kills,
    "full disk": try_disks,
    "two writers": try_two,
    "read-only": try_read_only,
}


def main(arguments=None):
    """Try each accident with each operation."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=20, help="kills of each operation")
    parser.add_argument("--operation", action="append", help="name; may be repeated")
    parser.add_argument("--accident", action="append", choices=list(ACCIDENTS))
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    known = [operation.name for operation in operations(None)]
    unknown = set(asked.operation or ()) - set(known)
    if unknown:
        parser.error(f"--operation {unknown}: there are {', '.join(known)}")
    prefix = None if "CHAOS_MOUNTS" in os.environ else private_mounts()
    if prefix is not None:  # once more, where a small disk can be mounted
        command = [*prefix, sys.executable, *sys.argv]
        environment = os.environ | {"CHAOS_MOUNTS": "private"}
        return subprocess.run(command, env=environment).returncode
    if not may_mount():
        print(
            "No disks can be mounted here: files are limited instead, and read-only "
            "folders left out."
        )
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder:
        if may_mount():  # where a sync takes no time; it goes with the namespace
            mount_small(folder, "1g")
        for name in ("CACHE", "DATA"):
            os.environ[f"XDG_{name}_HOME"] = f"{folder}/{name}"
        warnings.simplefilter("ignore")
        try:
            return show(asked, Path(folder))
        finally:
            if may_mount():
                unmount(folder)


def show(asked, folder):
    """Print a table an accident, and all that was not as it should be."""
    rows = {accident: [] for accident in asked.accident or ACCIDENTS}
    bad = []
    for operation in operations(asked.operation):
        began = time.perf_counter()
        trials = Trials(operation, folder / operation.name)
        try:
            for accident, lines in rows.items():
                lines.append((operation.name, try_one(accident, trials, asked)))
        finally:
            getattr(operation, "close", lambda: None)()
        took = time.perf_counter() - began
        print(f"{operation.name}: {took:.0f} s, {len(trials.bad)} bad", flush=True)
        for text in trials.bad[:5]:
            print("    " + text.replace("\n", "\n    "), flush=True)
        bad += trials.bad
    for accident, lines in rows.items():
        print(f"\n{accident:<20}" + "".join(f"{c:>16}" for c in COLUMNS[accident]))
        for name, counts in lines:
            print(
                f"{name:<20}" + "".join(f"{counts[c]:>16,}" for c in COLUMNS[accident])
            )
    n_kills = sum(counts["kills"] for _, counts in rows.get("kill", ()))
    print(f"\n{n_kills:,} kills; {len(bad)} not as they should be.")
    return int(bool(bad))


def try_one(accident, trials, asked):
    """Return the counts of one accident."""
    name = f"{accident} {trials.operation.name}"
    trials.counts = Counter()
    rng = np.random.default_rng([asked.seed, zlib.crc32(name.encode())])
    ACCIDENTS[accident](trials, rng, asked.n)
    return trials.counts


if __name__ == "__main__":
    sys.exit(main())
