"""Try mutated inputs: ``python tests/fuzz -n 1000 --kind gct``.

Every case has a number and is drawn from it: ``--cases 123:124`` runs it again, and
``--here`` does so in this process, for a debugger.
"""

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy is imported

from harness import OUTCOMES, count, run, work  # noqa: E402

MODULES = sorted(p.stem for p in Path(__file__).parent.glob("kind_*.py"))


def kinds_of(names):
    """Return kinds by name: those of ``kind_a.py`` are called "a", or "a-..."."""
    chosen = {}
    for name in names or [module.removeprefix("kind_") for module in MODULES]:
        module = f"kind_{name.split('-')[0]}"
        kinds = importlib.import_module(module).KINDS if module in MODULES else []
        found = [k for k in kinds if name in (k.name, k.name.split("-")[0])]
        if not found:
            raise KeyError(name)
        chosen.update({k.name: k for k in found})
    return list(chosen.values())


def main(arguments=None):
    """Run cases and print a table; the exit status is 1 where one is not good."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="cases of each kind")
    modules = ", ".join(name.removeprefix("kind_") for name in MODULES)
    parser.add_argument("--kind", action="append", help=f"one of {modules}; or a part")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", help="START:STOP instead of 0:N")
    parser.add_argument("--here", action="store_true", help="in this process")
    asked = parser.parse_args(arguments)
    start, stop = map(int, asked.cases.split(":")) if asked.cases else (0, asked.n)
    try:
        kinds = kinds_of(asked.kind or [])
    except KeyError as error:
        parser.error(f"--kind {error}: there is none; modules are {modules}")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        for name in ("CACHE", "DATA"):  # not the user's own
            os.environ[f"XDG_{name}_HOME"] = f"{folder}/{name}"
        if asked.here:
            case = Path(folder, "here")
            case.mkdir()
            work(kinds[0], asked.seed, range(start, stop), case, sys.stdout)
            return 0
        return show(kinds, asked.seed, start, stop)


def show(kinds, seed, start, stop):
    """Print a line a kind, and each case that is not good."""
    print(f"{'kind':<18}{'tried':>8}" + "".join(f"{o:>15}" for o in OUTCOMES))
    all_bad = 0
    for kind in kinds:
        began = time.perf_counter()
        counts, bad = count(run(kind, seed, start, stop))
        cells = "".join(f"{counts[o]:>15,}" for o in OUTCOMES)
        took = f"{time.perf_counter() - began:8.0f} s"
        print(f"{kind.name:<18}{counts.total():>8,}{cells}{took}", flush=True)
        for number, outcome, text in bad[:20]:
            print(f"    case {number}, {outcome}: {text[:400]}")
        all_bad += len(bad)
    return int(all_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
