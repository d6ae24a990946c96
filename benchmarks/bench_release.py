"""The paper's cut out of a folder of a release's true shape, from the disk.

Makes (once; see --keep) a folder as of LINCS 2020, Level 3, with made-up values: real
bytes, 12,328 genes, 352 compounds and 32 controls a plate, tables with the release's
columns. Each call runs in a fresh process, and the files' pages are put out of memory
before it. In turn, a round each:

* the disk: the whole file of treated wells, read in order in blocks of 8 MB. The limit.
* everything: its matrix read in order through h5py, and the wanted cells picked.
* h5py, samples first: ``matrix[sorted_samples, :][:, sorted_genes]``
* h5py, genes first: ``matrix[:, sorted_genes][sorted_samples]``
* read_gctx, of the same cells.
* finlayson2020_study: tables, treated and controls, in memory and in a memory map.

All but the last get the positions of the treated wells and genes of the cut, and read
no table and no control. What takes longer than --cap seconds, or more memory than there
is, is timed on a part (the first samples wanted, one gene in so many) and scaled up in
proportion: "extrapolated".

Run ``python benchmarks/bench_release.py --folder /a/disk/with/30/GB``; with
``--n-wells 5000 --table-rows 10000`` it takes a minute.
"""

import argparse
import ctypes
import json
import mmap
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import h5py
import joblib
import numpy as np
import pandas as pd
from _release import LAYOUTS, MATRIX, N_GENES, make_release, value_of

import sklearn_molge

MB = 1e6
DISK_BLOCK = 2**23
COLUMNS = {
    "what": 34,
    "seconds: median (min-max)": 26,
    "to the disk": 11,
    "peak MB": 9,
    "peak to study": 13,
    "notes": 40,
}


# ------------------------------------------------------------------ in a fresh process


def status(name):
    """Return an entry of /proc in bytes, NaN where there is no /proc."""
    try:
        with open("/proc/self/status") as lines:
            return next(
                1024 * int(ln.split()[1]) for ln in lines if ln.startswith(name)
            )
    except OSError:
        return float("nan")


def forget_peak():
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def load(path, options):
    """Time the paper's cut; return what it holds, and whether values are right."""
    from sklearn_molge.datasets import finlayson2020_study
    from sklearn_molge.molecules import drug_ids

    drug_ids(["CCO"])
    # joblib's threads, pandas' parser: what a first call brings along.
    joblib.Parallel(2, require="sharedmem")(joblib.delayed(int)() for _ in range(2))
    before = status("VmRSS")
    forget_peak()
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        cut = finlayson2020_study(path, progress=False, **options)
    seconds = time.perf_counter() - start
    study = cut.study
    frames = [study.obs, study.control_obs, study.genes]
    own = study.ge.nbytes + study.control_ge.nbytes
    own += sum(int(frame.memory_usage().sum()) for frame in frames)
    peak = status("VmHWM") - before
    check_values(Path(path), study)
    return {
        "seconds": seconds,
        "peak": peak,
        "own": own,
        "profiles": len(study),
        "controls": len(study.control_ge),
        "table": cut.table_beside_paper.to_string(float_format="{:.2f}".format),
        "ids": study.obs.index.tolist(),
        "genes": study.genes["gene_id"].tolist(),
    }


def check_values(folder, study):
    """Compare every 1000th profile with what was written."""
    with h5py.File(matrix_of(folder)) as file:
        ids = pd.Index(file["0/META/COL/id"].asstr()[()], dtype=object)
        genes = pd.Index(file["0/META/ROW/id"].asstr()[()], dtype=object)
    rows = ids.get_indexer(study.obs.index[::1000])
    columns = genes.get_indexer(study.genes["gene_id"].astype(str))
    expected = value_of(rows, columns, len(genes))
    np.testing.assert_array_equal(study.ge[::1000], expected)


def read_disk(path, _):
    buffer = bytearray(DISK_BLOCK)
    start = time.perf_counter()
    with open(matrix_of(Path(path)), "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
    return {"seconds": time.perf_counter() - start}


def read_everything(path, options):
    rows, columns = np.load(options["rows"]), np.load(options["columns"])
    before = status("VmRSS")
    forget_peak()
    start = time.perf_counter()
    with h5py.File(matrix_of(Path(path))) as file:
        matrix = file[MATRIX]
        step = 8 * (matrix.chunks or (262,))[0]
        out = np.empty((len(rows), len(columns)), np.float32)
        buffer = np.empty((step, matrix.shape[1]), np.float32)
        for first in range(0, len(matrix), step):
            n = min(step, len(matrix) - first)
            matrix.read_direct(buffer, np.s_[first : first + n], np.s_[:n])
            begin, end = np.searchsorted(rows, [first, first + n])
            out[begin:end] = buffer[np.ix_(rows[begin:end] - first, columns)]
    return result_of(start, before, out)


def index_samples_first(path, options):
    rows, columns = np.load(options["rows"]), np.load(options["columns"])
    rows = rows[: max(len(rows) // options["part"], 1)]
    before = status("VmRSS")
    forget_peak()
    start = time.perf_counter()
    with h5py.File(matrix_of(Path(path))) as file:
        out = file[MATRIX][rows, :][:, columns]
    return result_of(start, before, out)


def index_genes_first(path, options):
    rows, columns = np.load(options["rows"]), np.load(options["columns"])
    columns = columns[:: options["part"]]
    before = status("VmRSS")
    forget_peak()
    start = time.perf_counter()
    with h5py.File(matrix_of(Path(path))) as file:
        out = file[MATRIX][:, columns][rows]
    return result_of(start, before, out)


def read_cells(path, options):
    from sklearn_molge.datasets import read_gctx

    rows, columns = np.load(options["rows"]), np.load(options["columns"])
    before = status("VmRSS")
    forget_peak()
    start = time.perf_counter()
    data = read_gctx(
        matrix_of(Path(path)),
        samples=rows,
        genes=columns,
        n_jobs=options["n_jobs"],
        progress=False,
    )
    return result_of(start, before, data.matrix)


def result_of(start, before, out):
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "peak": status("VmHWM") - before, "own": out.nbytes}


# ------------------------------------------------------------------ from the outside


def matrix_of(folder):
    (path,) = folder.glob("level3_beta_trt_cp_*.gctx")
    return path


def forget_files(folder):
    """Put the pages of the files out of memory; return the share that stayed."""
    if not hasattr(os, "posix_fadvise"):
        return float("nan")
    shares = []
    for path in folder.glob("*beta*"):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            shares.append(resident_share(file))
    return max(shares)


def resident_share(file):
    """Return the share of a file's pages that are in memory (mincore)."""
    size = os.fstat(file.fileno()).st_size
    n_pages = -(-size // mmap.PAGESIZE)
    with mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE, mmap.PROT_READ) as mapped:
        view = np.frombuffer(mapped, dtype=np.uint8)
        pages = np.empty(n_pages, dtype=np.uint8)
        failed = ctypes.CDLL(None, use_errno=True).mincore(
            ctypes.c_void_p(view.ctypes.data),
            ctypes.c_size_t(size),
            ctypes.c_void_p(pages.ctypes.data),
        )
        del view
    return float("nan") if failed else float((pages & 1).mean())


def fresh(name, folder, options, cap=None):
    """Call a function of this file in a new process; None where it took too long."""
    command = [sys.executable, __file__, "--call", name, str(folder)]
    try:
        done = subprocess.run(
            [*command, json.dumps(options)], capture_output=True, text=True, timeout=cap
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode < 0:
        return None  # killed: out of memory
    if done.returncode:
        raise RuntimeError(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def free_memory():
    pages = os.sysconf("SC_AVPHYS_PAGES") if hasattr(os, "sysconf") else 0
    return pages * os.sysconf("SC_PAGE_SIZE") if pages else float("inf")


def part_for(name, folder, options, cap):
    """Return by how much to thin out a call of h5py, so that it ends in time."""
    n_rows, n_columns = (len(np.load(options[k])) for k in ("rows", "columns"))
    with h5py.File(matrix_of(folder)) as file:
        shape = file[MATRIX].shape
    between = (
        n_rows * shape[1] if name == "index_samples_first" else shape[0] * n_columns
    )
    part = int(4 * between / (free_memory() / 2)) + 1
    while True:
        forget_files(folder)
        if fresh(name, folder, options | {"part": part}, cap) is not None:
            return part
        part *= 4


def wanted_positions(folder, first, scratch):
    """Write where the same cells are in the file, sorted."""
    with h5py.File(matrix_of(folder)) as file:
        ids = pd.Index(file["0/META/COL/id"].asstr()[()], dtype=object)
        genes = pd.Index(file["0/META/ROW/id"].asstr()[()], dtype=object)
    options = {}
    for name, index, texts in [
        ("rows", ids, first["ids"]),
        ("columns", genes, map(str, first["genes"])),
    ]:
        options[name] = str(scratch / f"{name}.npy")
        np.save(options[name], np.sort(index.get_indexer(list(texts))))
    return options


def calls_for(folder, arguments, scratch):
    """Return what to time: a name, the function, its options."""
    first = fresh("load", folder, {})
    print(
        f"\n{first['profiles']:,} treated and {first['controls']:,} control profiles, "
        f"{first['own'] / MB:.0f} MB; peaks are above the process before the call\n"
        f"{first['table']}\n"
    )
    options = wanted_positions(folder, first, scratch)
    calls = [("disk, in order", "read_disk", {})]
    calls.append(("everything, in order", "read_everything", options))
    for name in ("index_samples_first", "index_genes_first"):
        part = part_for(name, folder, options, arguments.cap)
        calls.append((name.replace("index_", "h5py, ").replace("_", " "), name,
                      options | {"part": part}))  # fmt: skip
    for n_jobs in arguments.jobs:
        calls.append((f"read_gctx, n_jobs={n_jobs}", "read_cells",
                      options | {"n_jobs": n_jobs}))  # fmt: skip
    for n_jobs in arguments.jobs:
        calls.append((f"finlayson2020_study, n_jobs={n_jobs}", "load",
                      {"n_jobs": n_jobs}))  # fmt: skip
    mapped = {"mmap_path": str(scratch / "ge.npy"), "n_jobs": arguments.jobs[-1]}
    calls.append(("same, mmap_path", "load", mapped))
    return calls


def measure(folder, arguments, scratch):
    calls = calls_for(folder, arguments, scratch)
    results = {title: [] for title, _, _ in calls}
    stayed = []
    for number in range(arguments.rounds):
        for title, name, options in calls[:: 1 if number % 2 == 0 else -1]:
            stayed.append(forget_files(folder))
            results[title].append(fresh(name, folder, options))
    print(
        f"pages of the files still in memory before a call: at most {max(stayed):.1%}"
        if not np.isnan(stayed).any()
        else "pages could not be put out of memory on this system: times are warm"
    )
    print(table_row(COLUMNS) + "\n" + table_row(["-" * w for w in COLUMNS.values()]))
    disk = np.median([r["seconds"] for r in results[calls[0][0]]])
    for title, _, options in calls:
        print(table_row(summary(title, results[title], options.get("part", 1), disk)))


def summary(title, results, part, disk):
    seconds = part * np.array([result["seconds"] for result in results])
    cells = [
        title,
        f"{np.median(seconds):.2f} ({seconds.min():.2f}-{seconds.max():.2f})",
        f"{np.median(seconds) / disk:.2f}",
    ]
    if "peak" not in results[0]:
        return [*cells, "", "", "the limit"]
    peak = max(result["peak"] for result in results)
    note = f"extrapolated from 1/{part}, peak of that part" if part > 1 else ""
    if "profiles" in results[0]:
        note = "with tables and controls"
    return [
        *cells,
        f"{peak / MB:.0f}",
        f"{peak / results[0]['own']:.2f}",
        note,
    ]


def table_row(cells):
    padded = (c.ljust(w) for c, w in zip(cells, COLUMNS.values(), strict=True))
    return f"| {' | '.join(padded)} |"


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-wells", type=int, default=200_000, help="treated wells")
    parser.add_argument("--table-rows", type=int, default=3_000_000)
    parser.add_argument("--layouts", nargs="+", choices=LAYOUTS,
                        default=["contiguous", "chunked"])  # fmt: skip
    parser.add_argument("--library", type=Path, help="a compoundinfo table")
    parser.add_argument("--folder", type=Path, help="where to make the folders")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--cap", type=float, default=300, help="seconds for h5py")
    parser.add_argument("--keep", action="store_true", help="use the folders again")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    root = arguments.folder or Path(tempfile.gettempdir())
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"{platform.system()}, Python {platform.python_version()}, "
        f"numpy {np.__version__}, pandas {pd.__version__}, h5py {h5py.__version__} "
        f"(HDF5 {h5py.version.hdf5_version}), sklearn_molge {sklearn_molge.__version__}"
    )
    for layout in arguments.layouts:
        folder = root / f"release_{layout}_{arguments.n_wells}_{arguments.table_rows}"
        start = time.perf_counter()
        try:
            make_release(
                folder,
                n_wells=arguments.n_wells,
                n_table_rows=arguments.table_rows,
                layout=layout,
                library=arguments.library,
            )
            path = matrix_of(folder)
            print(
                f"\n## {layout}: {N_GENES} genes x {arguments.n_wells:,} wells, "
                f"{path.stat().st_size / 1e9:.2f} GB, instinfo of "
                f"{arguments.table_rows:,} rows (ready after "
                f"{time.perf_counter() - start:.0f} s)",
                flush=True,
            )
            with tempfile.TemporaryDirectory(dir=root) as scratch:
                measure(folder, arguments, Path(scratch))
        finally:
            if not arguments.keep:
                shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--call"]:
        print(json.dumps(globals()[sys.argv[2]](sys.argv[3], json.loads(sys.argv[4]))))
    else:
        main()
