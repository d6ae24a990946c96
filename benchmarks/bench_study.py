"""Saving and opening a study: Study.save/load, joblib, AnnData.

The size of the paper's data by default; a quick try needs less:

OMP_NUM_THREADS=1 python benchmarks/bench_study.py
OMP_NUM_THREADS=1 python benchmarks/bench_study.py --n-profiles 5000
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
from _timing import describe_machine

from sklearn_molge.datasets import Study

# Each line runs in a process of its own, so that peaks do not add up. What is measured
# lies between the marks; `use` reads every value once.
SCRIPT = """
import resource, sys, threading, time
import joblib, anndata, psutil
import numpy as np
from sklearn_molge.datasets import Study
path, made = sys.argv[1], sys.argv[2]
def use(study):
    study.ge.sum(), study.control_ge.sum()
process, peak, done = psutil.Process(), [0], threading.Event()
def private():
    # Pages of a mapped file can be dropped at any time: they are no memory in use.
    info = process.memory_info()
    return info.rss - info.shared
def watch():
    while not done.wait(0.002):
        peak[0] = max(peak[0], private())
{before}
base = private()
thread = threading.Thread(target=watch)
thread.start()
start = time.perf_counter()
{measured}
seconds = time.perf_counter() - start
peak[0] = max(peak[0], private())
done.set()
thread.join()
print(seconds, max(peak[0] - base, 0) / 2**20)
"""
# Writers get a study in memory, whose two matrices lie apart.
READ = """study = Study.load(made, mmap_mode=None)
study.ge, study.control_ge = study.ge.copy(), study.control_ge.copy()"""
# Title, file, what comes before, what is measured.
TASKS = [
    ("Study.save", "study.h5ad", READ, "study.save(path)"),
    ("joblib.dump", "study.joblib", READ, "joblib.dump(study, path)"),
    ("AnnData: to_anndata, write_h5ad", "anndata.h5ad", READ,
     "study.to_anndata().write_h5ad(path)"),
    ("Study.load, mapped", "study.h5ad", "", "study = Study.load(path)"),
    ("Study.load, mapped, all values used", "study.h5ad", "",
     "study = Study.load(path); use(study)"),
    ("Study.load, read", "study.h5ad", "",
     "study = Study.load(path, mmap_mode=None); use(study)"),
    ("joblib.load", "study.joblib", "", "study = joblib.load(path); use(study)"),
    ("joblib.load, mapped", "study.joblib", "",
     "study = joblib.load(path, mmap_mode='r')"),
    ("AnnData: read_h5ad", "anndata.h5ad", "", "adata = anndata.read_h5ad(path)"),
    ("AnnData: read_h5ad, from_anndata", "anndata.h5ad", "",
     "study = Study.from_anndata(anndata.read_h5ad(path)); use(study)"),
]  # fmt: skip


def make(n_profiles, n_controls, n_genes):
    """Make a study of noise with the columns and the repetitions of a real one."""
    rng = np.random.default_rng(0)

    def table(n, controls):
        drug = rng.integers(0, 1300, n)
        plates = [f"LJP{plate:03}_A375_24H_X1_B19" for plate in range(n // 300 + 1)]
        obs = pd.DataFrame(
            {
                "pert_id": [f"BRD-K{d:08}" for d in drug],
                "pert_name": [f"compound-{d}" for d in drug],
                "cell_line": rng.choice(["A375", "HT29", "MCF7", "PC3"], n),
                "plate": np.repeat(plates, 300)[:n],
                "well": [f"{chr(65 + w // 24)}{w % 24 + 1:02}" for w in drug % 384],
                "dose_um": rng.choice([0.04, 0.12, 0.37, 1.11, 3.33, 10.0], n),
                "time_h": rng.choice([6.0, 24.0], n),
                "pert_type": "ctl_vehicle" if controls else "trt_cp",
                "moa": [f"mechanism {d % 90}" if d % 3 else np.nan for d in drug],
                "target": [f"GENE{d % 200}" if d % 2 else np.nan for d in drug],
            },
            index=[f"{'c' if controls else 't'}{row:07}" for row in range(n)],
        )
        return obs if controls else obs.assign(drug=[f"DRUG{d:010}" for d in drug])

    obs = table(n_profiles, False)
    return Study(
        [f"{'C' * (10 + int(name[-4:]) % 30)}O" for name in obs["drug"]],
        ge=rng.standard_normal((n_profiles, n_genes), dtype=np.float32),
        obs=obs,
        genes=pd.DataFrame({"gene_id": np.arange(n_genes), "is_landmark": True}),
        control_ge=rng.standard_normal((n_controls, n_genes), dtype=np.float32),
        control_obs=table(n_controls, True),
        level=3,
    )


def measure(before, measured, path, made):
    """Run one line in a process of its own; return seconds and extra memory in MiB."""
    script = SCRIPT.format(before=before, measured=measured)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(path), str(made)],
        check=True,
        capture_output=True,
        text=True,
    )
    return tuple(map(float, done.stdout.split()[-2:]))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-profiles", type=int, default=97_210)
    parser.add_argument("--n-genes", type=int, default=978)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", help="where to write; a temporary one by default")
    options = parser.parse_args()
    describe_machine("anndata", "h5py", "joblib", "pandas")
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        made = Path(folder) / "made.h5ad"
        study = make(options.n_profiles, options.n_profiles // 15, options.n_genes)
        study.save(made)
        size, more = study.ge.nbytes / 2**20, study.control_ge.nbytes / 2**20
        print(study)
        print(
            f"  matrices {size:.0f} MiB, controls {more:.0f} MiB; medians of "
            f"{options.repeats} new processes, files in the page cache"
        )
        del study
        print(f"{'':38}{'seconds':>9}{'extra MiB':>11}{'file MiB':>10}")
        results = {task[0]: [] for task in TASKS}
        for _ in range(options.repeats):
            for title, name, before, measured in TASKS:
                run = measure(before, measured, Path(folder) / name, made)
                results[title].append(run)
        for title, name, *_ in TASKS:
            seconds, memory = map(statistics.median, zip(*results[title], strict=True))
            size = os.path.getsize(Path(folder) / name) / 2**20
            print(f"{title:38}{seconds:9.3f}{memory:11.0f}{size:10.0f}", flush=True)


if __name__ == "__main__":
    main()
