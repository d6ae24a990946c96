"""Measure what a release states: ``python benchmarks/run.py [NAME ...] [options]``.

Speed, on made-up data, against a peer; and quality, on real data, with intervals. Each
benchmark is a module ``bench_NAME.py`` with the options that it adds, and `run`, which
returns records: plain dictionaries. Intervals are lists of a value and its two ends::

    python benchmarks/run.py cca ranks --json results.json
    python benchmarks/run.py quality --data path/to/lincs_folder --json quality.json
    python benchmarks/run.py training --help
    python benchmarks/run.py --smoke
    python benchmarks/run.py --table results.json

Each of several benchmarks gets a process of its own: what one imports or keeps in
memory is not there for the next. ``--smoke`` runs all on tiny sizes, real data replaced
by a simulated release; its numbers say nothing.

Neither asv (each function in processes of its own, medians of two commits compared) nor
pytest-benchmark (one function after the other) calls two programs in turn, A B A B, and
gives the ratio of the pairs with its spread.
"""

import argparse
import importlib
import importlib.metadata
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What each is about: the first line of its module.
SPEED = (
    "training", "embedding", "search", "cca", "ranks", "identity", "files",
    "gaussian_process", "journeys", "page",
)  # fmt: skip
QUALITY = ("quality", "deep", "calibration", "connectivity")
NAMES = SPEED + QUALITY
PACKAGES = (
    "sklearn-molge", "numpy", "scipy", "scikit-learn", "pandas", "h5py", "joblib",
    "rdkit", "torch", "skorch", "chemprop", "cuik-molmaker", "faiss-cpu", "cca-zoo",
    "anndata",
)  # fmt: skip
HIDDEN = ("benchmark", "clock")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
HEADINGS = {
    "what": "", "ours_s": "ours, s", "peer_s": "peer, s", "ours_mib": "ours, MiB",
    "peer_mib": "peer, MiB", "mrr": "MRR", "gb": "GB", "wall_s": "wall, s",
    "cpu_s": "CPU, s", "floor_s": "floor, s",
}  # fmt: skip


def main(argv=None):
    """Run the benchmarks that are named, or all, or print the table of a file."""
    argv = sys.argv[1:] if argv is None else list(argv)
    names = list(itertools.takewhile(lambda text: not text.startswith("-"), argv))
    for name in names:
        if name not in NAMES:
            raise SystemExit(f"NAME must be one of {', '.join(NAMES)}. Got {name!r}.")
    module = load(names[0]) if len(names) == 1 else None
    options = read_options(argv[len(names) :], module)
    if options.table:
        return print(as_table(read_results(options.table)))
    if module:
        found = run_here(names[0], module, options)
    else:
        found = run_apart(names or NAMES, argv[len(names) :])
    print(as_table(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    failed = [record["what"] for record in found["records"] if "failed" in record]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")
    return None


def read_results(path):
    """Return what a file of ``--json`` holds."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        keys = ("machine", "versions", "commit", "date", "options", "records")
        return {key: found[key] for key in keys}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SystemExit(f"--table: {path} is no file of --json: {error!r}") from None


def load(name):
    """Return the module of a benchmark."""
    return importlib.import_module(f"bench_{name}")


def read_options(argv, module):
    """Return the options of all benchmarks, and those of one."""
    parser = argparse.ArgumentParser(
        prog="run.py",
        usage="%(prog)s [NAME ...] [options]",
        description=(module.__doc__ if module else __doc__).split("\n\n")[0],
        epilog=f"NAME is of {', '.join(NAMES)}; all by default. A single NAME has "
        "options of its own: NAME --help.",
    )
    add = parser.add_argument
    add("--smoke", action="store_true", help="tiny sizes: does it run?")
    add("--json", type=Path, metavar="PATH", help="where results are written")
    add("--table", type=Path, metavar="PATH", help="print the table of such a file")
    add("--repeats", type=int, default=5, help="of each pair A B; default 5")
    add("--threads", type=int, default=1, help="of both sides; default 1")
    add("--device", default="cpu", help="auto, cpu (default) or cuda, where it is used")
    add("--data", type=Path, help=f"folder of LINCS, Level 5: of {', '.join(QUALITY)}")
    add("--library", type=Path, help="a compoundinfo table; made-up molecules without")
    add("--weights", help="checkpoint of chemprop: a pretrained D-MPNN")
    if module:
        if hasattr(module, "add_arguments"):
            module.add_arguments(parser)
        if "--smoke" in argv:
            parser.set_defaults(repeats=1, **module.SMOKE)
    options = parser.parse_args(argv)
    for name in ("repeats", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name} must be at least 1. Got {getattr(options, name)}.")
    # Before hours of work.
    if options.json and not options.json.resolve().parent.is_dir():
        parser.error(f"--json {options.json}: there is no such folder.")
    return options


def run_here(name, module, options):
    """Run one benchmark in this process, and return what belongs into its file."""
    import threadpoolctl

    os.environ.update(dict.fromkeys(THREADS, str(options.threads)))
    # It slows faiss: not imported where it is not needed.
    if "torch" in sys.modules or options.device.startswith("cuda"):
        import torch

        torch.set_num_threads(options.threads)
        if options.device == "auto":
            options.device = "cuda" if torch.cuda.is_available() else "cpu"
    given = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items()}
    found = about() | {"options": {name: given}, "records": []}
    with (
        threadpoolctl.threadpool_limits(options.threads),
        tempfile.TemporaryDirectory() as folder,
    ):
        if name in QUALITY and options.smoke:
            from _release import make_level5

            make_level5(Path(folder) / "level5")
            options.data = Path(folder) / "level5"
            options.library = options.data / "compoundinfo.txt"
            options.cache = Path(folder) / "cache"
        if name in QUALITY and options.data is None:
            records = [{"what": name, "skipped": "it needs --data, real data"}]
        else:
            records = module.run(options)
    found["records"] = [{"benchmark": name} | record for record in records]
    return found


def run_apart(names, argv):
    """Run each benchmark in a process of its own, one after the other."""
    found = about() | {"options": {}, "records": []}
    for name in names:
        print(f"{name} ...", file=sys.stderr, flush=True)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "results.json"
            # The last --json counts.
            command = [sys.executable, HERE / "run.py", name, *argv, "--json", path]
            code = subprocess.run(command, stdout=subprocess.DEVNULL).returncode
            if path.exists():
                of_one = json.loads(path.read_text(encoding="utf-8"))
                found["options"] |= of_one["options"]
                found["records"] += of_one["records"]
            if code:
                failed = f"exit status {code}"
                found["records"].append(
                    {"benchmark": name, "what": name, "failed": failed}
                )
    return found


def about():
    """Return the machine, versions, commit and date."""
    return {
        "machine": {
            "processor": _processor(),
            "system": f"{platform.system()} {platform.machine()}",
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
            "gpu": _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader"),
        },
        "versions": {"python": platform.python_version()}
        | {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _output("git", "-C", HERE, "describe", "--always", "--dirty"),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(ln.split(": ")[1].strip() for ln in lines if "model name" in ln)
    except (OSError, StopIteration):
        return platform.processor()


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _output(program, *arguments):
    if shutil.which(program) is None:
        return None
    done = subprocess.run([program, *arguments], capture_output=True, text=True)
    return done.stdout.strip() or None


def as_table(found):
    """Return results as tables in Markdown, one a benchmark.

    What fewer than half of the records have goes into the last column.
    """
    machine, versions = found["machine"], found["versions"]
    known = [machine["processor"], f"{machine['cores']} cores", machine["gpu"]]
    known += [f"{name} {version}" for name, version in versions.items()]
    known += [f"commit {found['commit']}", found["date"]]
    lines = ["; ".join(text for text in known if text)]
    of_all = itertools.groupby(found["records"], lambda record: record["benchmark"])
    for name, records in of_all:
        records = list(records)
        keys = dict.fromkeys(key for r in records for key in r if key not in HIDDEN)
        columns = [k for k in keys if 2 * sum(k in r for r in records) >= len(records)]
        rare = [key for key in keys if key not in columns]
        options = found["options"].get(name, {})
        lines += ["", f"### {name}", "", " ".join(_command(options)), ""]
        headings = [_heading(c) for c in columns] + [""]
        lines += [_row(headings), _row("---" for _ in headings)]
        for r in records:
            cells = [_cell(r.get(c, "")) for c in columns]
            more = [f"{_heading(c)} {_cell(r[c])}" for c in rare if c in r]
            lines.append(_row([*cells, "; ".join(more)]))
    return "\n".join(lines)


def _command(options):
    for key, value in options.items():
        if key not in {"json", "table"} and value not in (None, False, "None"):
            yield f"{key}={value if isinstance(value, str) else _cell(value)}"


def _heading(key):
    return HEADINGS.get(key, key.replace("_", " "))


def _row(cells):
    return f"| {' | '.join(cells)} |"


def _cell(value):
    if isinstance(value, dict):
        return ", ".join(f"{_heading(key)} {_cell(v)}" for key, v in value.items())
    if isinstance(value, list):
        texts = list(map(_cell, value))
        is_interval = len(value) == 3 and all(isinstance(v, float) for v in value)
        return "{} [{}, {}]".format(*texts) if is_interval else " ".join(texts)
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
