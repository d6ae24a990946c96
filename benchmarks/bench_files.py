"""Files at their size: the paper's cut of a release, and studies saved and opened.

Each call runs in a new process; a round calls all in turn, every second round in the
reverse order. Peaks are of memory that the process has to itself, above what it had
before the call: pages of a mapped file can be dropped at any time.

A release has the shape of LINCS 2020, Level 3, with made-up values (real bytes), and
its files' pages are put out of memory before each call:

* the disk: the matrix of treated wells, read in order in blocks of 8 MB. The limit.
* everything: the matrix read in order through h5py, and the wanted cells picked.
* h5py, samples first: ``matrix[sorted_samples, :][:, sorted_genes]``
* h5py, genes first: ``matrix[:, sorted_genes][sorted_samples]``
* read_gctx, of the same cells.
* finlayson2020_study: tables, treated and controls, in memory and in a memory map.

A study's files stay in memory. With ``--folder`` the releases are made there, and kept.
"""

import contextlib
import ctypes
import importlib.util
import mmap
import os
import shutil
import tempfile
import threading
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import joblib
import numpy as np
import pandas as pd
from _release import LAYOUTS, MATRIX, make_release, value_of
from _timing import missing, ratio_record

from sklearn_molge.datasets import Study, finlayson2020_study, read_gctx
from sklearn_molge.molecules import drug_ids

DISK_BLOCK = 2**23
SMOKE = {
    "n_wells": 720, "n_genes": 60, "table_rows": 1000, "layouts": ["chunked"],
    "jobs": [1], "n_profiles": 50,
}  # fmt: skip


def add_arguments(parser):
    add = parser.add_argument
    add("--n-wells", type=int, default=200_000, help="treated wells of a release")
    add("--n-genes", type=int, default=12_328, help="of a release")
    add("--table-rows", type=int, default=3_000_000, help="of instinfo")
    layouts = ["contiguous", "chunked"]
    add("--layouts", nargs="*", choices=LAYOUTS, default=layouts, help="of releases")
    add("--jobs", type=int, nargs="+", default=[1, 2])
    add("--n-profiles", type=int, default=97_210, help="of a study")
    add("--folder", type=Path, help="of the releases; temporary without it")


# -- in a new process ------------------------------------------------------------------


def measure(prepare, *arguments):
    """Time what `prepare` returns, a function of nothing, and watch its memory."""
    action, check = prepare(*arguments)
    done = threading.Event()
    base = private()
    peaks = [base]

    def watch():
        while not done.wait(0.002):
            peaks[0] = max(peaks[0], private())

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        start = time.perf_counter()
        result = action()
        seconds = time.perf_counter() - start
    finally:
        done.set()
        thread.join()
    peak = max(peaks[0], private())  # what the result holds, however quick the call
    found = {"seconds": seconds, "mib": (peak - base) / 2**20}
    return found | (check(result) if check else {})


def private():
    """Return the bytes that this process has to itself, NaN but on Linux."""
    try:
        resident, shared = Path("/proc/self/statm").read_text().split()[1:3]
    except OSError:
        return float("nan")
    return (int(resident) - int(shared)) * mmap.PAGESIZE


def whole_disk(folder):
    buffer = bytearray(DISK_BLOCK)

    def read():
        with open(matrix_of(folder), "rb", buffering=0) as file:
            while file.readinto(buffer):
                pass

    return read, None


def everything(folder, rows, columns):
    def read():
        with h5py.File(matrix_of(folder)) as file:
            matrix = file[MATRIX]
            step = 8 * (matrix.chunks or (262,))[0]
            out = np.empty((len(rows), len(columns)), np.float32)
            buffer = np.empty((step, matrix.shape[1]), np.float32)
            for first in range(0, len(matrix), step):
                n = min(step, len(matrix) - first)
                matrix.read_direct(buffer, np.s_[first : first + n], np.s_[:n])
                begin, end = np.searchsorted(rows, [first, first + n])
                out[begin:end] = buffer[np.ix_(rows[begin:end] - first, columns)]
        return out

    return read, None


def samples_first(folder, rows, columns):
    def read():
        with h5py.File(matrix_of(folder)) as file:
            return file[MATRIX][rows, :][:, columns]

    return read, None


def genes_first(folder, rows, columns):
    def read():
        with h5py.File(matrix_of(folder)) as file:
            return file[MATRIX][:, columns][rows]

    return read, None


def cells(folder, rows, columns, n_jobs):
    path = matrix_of(folder)
    return lambda: read_gctx(
        path, samples=rows, genes=columns, n_jobs=n_jobs, progress=False
    ), None


def cut(folder, n_jobs, mmap_path=None):
    """Return the paper's cut, and a check of its values."""
    drug_ids(["CCO"])
    # joblib's threads, pandas' parser: what a first call brings along.
    joblib.Parallel(2, require="sharedmem")(joblib.delayed(int)() for _ in range(2))

    def read():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return finlayson2020_study(
                folder, progress=False, n_jobs=n_jobs, mmap_path=mmap_path
            ).study

    def check(study):
        check_values(folder, study)
        frames = [study.obs, study.control_obs, study.genes]
        own = study.ge.nbytes + study.control_ge.nbytes
        own += sum(int(frame.memory_usage().sum()) for frame in frames)
        return {"profiles": len(study), "controls": len(study.control_ge),
                "own_mib": own / 2**20}  # fmt: skip

    return read, check


def check_values(folder, study):
    """Compare every 1000th profile with what was written."""
    with h5py.File(matrix_of(folder)) as file:
        ids, genes = (
            pd.Index(file[f"0/META/{name}/id"].asstr()[()], dtype=object)
            for name in ("COL", "ROW")
        )
    rows = ids.get_indexer(study.obs.index[::1000])
    columns = genes.get_indexer(study.genes["gene_id"].astype(str))
    expected = value_of(rows, columns, len(genes))
    np.testing.assert_array_equal(study.ge[::1000], expected)


def import_anndata():
    """Import what a first call would, so that no call is charged for it."""
    if importlib.util.find_spec("anndata") is not None:
        return importlib.import_module("anndata")
    return None


def writer(way, made, path):
    """Return how a study in memory, whose two matrices lie apart, is written."""
    import_anndata()
    study = Study.load(made, mmap_mode=None)
    study.ge, study.control_ge = study.ge.copy(), study.control_ge.copy()
    return {
        "Study.save": lambda: study.save(path),
        "joblib.dump": lambda: joblib.dump(study, path),
        "AnnData.write_h5ad": lambda: study.to_anndata().write_h5ad(path),
    }[way], None


def reader(way, path):
    """Return how a study is opened; all values are used but where it says mapped."""
    anndata = import_anndata()

    def used(study):
        study.ge.sum(), study.control_ge.sum()
        return study

    return {
        "Study.load, mapped": lambda: Study.load(path),
        "Study.load, mapped, all values used": lambda: used(Study.load(path)),
        "Study.load, read": lambda: used(Study.load(path, mmap_mode=None)),
        "joblib.load, mapped": lambda: joblib.load(path, mmap_mode="r"),
        "joblib.load": lambda: used(joblib.load(path)),
        "AnnData.read_h5ad": lambda: anndata.read_h5ad(path),
    }[way], None


# -- from the outside ------------------------------------------------------------------


def matrix_of(folder):
    (path,) = folder.glob("level3_beta_trt_cp_*.gctx")
    return path


def fresh(prepare, *arguments):
    """Measure in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(measure, prepare, *arguments).result()


def rounds(calls, options, before=lambda: None):
    """Measure all calls in turn, and return what each round found, by name."""
    found = {name: [] for name in calls}
    for number in range(options.repeats):
        for name in list(calls)[:: 1 if number % 2 == 0 else -1]:
            before()
            # In a smoke run, one new process has to do.
            anew = not options.smoke or calls[name][0] is whole_disk
            found[name].append((fresh if anew else measure)(*calls[name]))
    return found


def record(found, ours, peer, sizes, **more):
    """Return the record of two calls that were measured in turn."""
    own, of_peer = found[ours], found[peer]
    seconds = ([one["seconds"] for one in side] for side in (own, of_peer))
    return ratio_record(
        ours, *seconds, against=peer, sizes=sizes, clock="perf_counter",
        ours_mib=max(one["mib"] for one in own),
        peer_mib=max(one["mib"] for one in of_peer), **more,
    )  # fmt: skip


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


def free_memory():
    pages = os.sysconf("SC_AVPHYS_PAGES") if hasattr(os, "sysconf") else -1
    return pages * mmap.PAGESIZE if pages > 0 else float("inf")


def wanted(folder):
    """Return where the cells of the paper's cut are in the file, sorted."""
    study = cut(folder, 1)[0]()
    with h5py.File(matrix_of(folder)) as file:
        for name, texts in (("COL", study.obs.index), ("ROW", study.genes["gene_id"])):
            ids = pd.Index(file[f"0/META/{name}/id"].asstr()[()], dtype=object)
            yield np.sort(ids.get_indexer(texts.astype(str)))


def release_records(layout, folder, options):
    """Return the records of one release."""
    make_release(
        folder, n_wells=options.n_wells, n_table_rows=options.table_rows,
        layout=layout, n_genes=options.n_genes, library=options.library,
    )  # fmt: skip
    rows, columns = wanted(folder)
    calls = {"the disk, in order": (whole_disk, folder)}
    calls["everything, in order"] = (everything, folder, rows, columns)
    skipped = []
    for name, prepare, n_cells in (
        ("h5py, samples first", samples_first, len(rows) * options.n_genes),
        ("h5py, genes first", genes_first, options.n_wells * len(columns)),
    ):
        if 8 * n_cells < free_memory():
            calls[name] = (prepare, folder, rows, columns)
        else:
            why = (
                f"{n_cells * 4 / 2**30:.0f} GiB between: more than half of what is free"
            )
            skipped.append({"what": "read_gctx", "peer": name, "skipped": why})
    peers = list(calls)
    for n_jobs in options.jobs:
        calls[f"read_gctx, n_jobs={n_jobs}"] = (cells, folder, rows, columns, n_jobs)
        calls[f"finlayson2020_study, n_jobs={n_jobs}"] = (cut, folder, n_jobs)
    mapped = folder.with_suffix(".npy")
    calls["finlayson2020_study, mmap_path"] = (cut, folder, options.jobs[-1], mapped)
    stayed = []
    found = rounds(calls, options, lambda: stayed.append(forget_files(folder)))
    mapped.unlink()
    sizes = {"layout": layout, "wells": options.n_wells, "genes": options.n_genes,
             "gb": matrix_of(folder).stat().st_size / 1e9}  # fmt: skip
    records = []
    for name in calls:
        if name in peers:
            continue
        for peer in peers if "read_gctx" in name else peers[:1]:
            more = found[name][-1] | {"pages_that_stayed": max(stayed)}
            del more["seconds"], more["mib"]
            records.append(record(found, name, peer, sizes, **more))
    return records + skipped


def make_study(n_profiles, n_controls, n_genes=978):
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


def study_records(folder, options):
    """Return the records of a study that is saved and opened."""
    made = folder / "made.h5ad"
    make_study(options.n_profiles, options.n_profiles // 15).save(made)
    own, dumped, anndata = (
        folder / name for name in ("study.h5ad", "study.joblib", "anndata.h5ad")
    )
    written = {"Study.save": own, "joblib.dump": dumped}
    read = dict.fromkeys(
        ["Study.load, mapped", "Study.load, mapped, all values used",
         "Study.load, read"], own,
    ) | {"joblib.load": dumped, "joblib.load, mapped": dumped}  # fmt: skip
    pairs = [
        ("Study.save", "joblib.dump"), ("Study.save", "AnnData.write_h5ad"),
        ("Study.load, mapped", "joblib.load, mapped"),
        ("Study.load, mapped, all values used", "joblib.load"),
        ("Study.load, read", "joblib.load"), ("Study.load, read", "AnnData.read_h5ad"),
    ]  # fmt: skip
    records = []
    if without := missing("Study", "anndata"):
        records.append(without)
        pairs = [pair for pair in pairs if "AnnData" not in pair[1]]
    else:
        written["AnnData.write_h5ad"] = read["AnnData.read_h5ad"] = anndata
    calls = {way: (writer, way, made, path) for way, path in written.items()}
    calls |= {way: (reader, way, path) for way, path in read.items()}
    # The first round writes what the others read.
    found = rounds(calls, options)
    sizes = {"profiles": options.n_profiles, "file_mib": own.stat().st_size / 2**20}
    return records + [record(found, *pair, sizes) for pair in pairs]


def run(options):
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root = options.folder or scratch
        records = study_records(scratch, options)
        for layout in options.layouts:
            name = f"release_{layout}_{options.n_wells}_{options.table_rows}"
            records += release_records(layout, root / name, options)
            if options.folder is None:
                shutil.rmtree(root / name)
    return records
