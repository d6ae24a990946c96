"""Try mutated inputs: ``python tests/fuzz -n 1000 --kind gct``.

Every case has a number and is drawn from it: ``--cases 123:124`` runs it again, and
``--here`` does so in this process, for a debugger.
"""

import argparse
import importlib
import os
import sys
import time
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy is imported

from harness import OUTCOMES, count, run, work  # noqa: E402

MODULES = sorted(p.stem for p in Path(__file__).parent.glob("kind_*.py"))


def kinds_of(names):
    """Return kinds by name: those of ``kind_a.py`` are called "a", or "a-..."."""
    asked = [f"kind_{name.split('-')[0]}" for name in names] or MODULES
    found = {
        kind.name: kind
        for module in dict.fromkeys(asked)
        for kind in importlib.import_module(module).KINDS
    }
    chosen = [k for k in found if not names or {k, k.split("-")[0]} & set(names)]
    return {name: found[name] for name in chosen}


def main(arguments=None):
    """Run cases and print a table; the exit status is 1 where one is not good."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-n", type=int, default=100, help="cases of each kind")
    parser.add_argument(
        "--kind",
        action="append",
        help="name, or its part before -",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", help="START:STOP instead of 0:N")
    parser.add_argument("--here", action="store_true", help="in this process")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    start, stop = map(int, asked.cases.split(":")) if asked.cases else (0, asked.n)
    kinds = kinds_of(asked.kind or [])
    names = list(kinds)
    if asked.worker is not None:
        with open(asked.worker, "w", encoding="utf-8") as out:
            work(kinds[names[0]], asked.seed, range(start, stop), out)
        return 0
    if asked.here:
        work(kinds[names[0]], asked.seed, range(start, stop), sys.stdout)
        return 0
    return show(names, asked.seed, start, stop)


def show(names, seed, start, stop):
    """Print a line a kind, and each case that is not good."""
    print(f"{'kind':<14}{'tried':>8}" + "".join(f"{o:>15}" for o in OUTCOMES))
    all_bad = 0
    for name in names:
        began = time.perf_counter()
        counts, bad = count(run(name, seed, start, stop))
        cells = "".join(f"{counts[o]:>15,}" for o in OUTCOMES)
        took = f"{time.perf_counter() - began:8.0f} s"
        print(f"{name:<14}{counts.total():>8,}{cells}{took}", flush=True)
        for number, outcome, text in bad[:20]:
            print(f"    case {number}, {outcome}: {text[:400]}")
        all_bad += len(bad)
    return int(all_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
