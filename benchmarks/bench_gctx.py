"""Scattered genes of scattered samples: read_gctx against plain h5py indexing.

A file of random float32 is written in each layout, read in turn by all readers (the
order reversed at every second round), and deleted. The pages of the file are in
memory for all of them: one round before the measured ones is thrown away.

``read_gctx`` is timed as called, with ids and metadata; h5py for the matrix alone:

* samples first: ``matrix[sorted_samples, :][:, sorted_genes]``
* genes first: ``matrix[:, sorted_genes][sorted_samples]``

Run ``python benchmarks/bench_gctx.py``; with ``--n-samples 2000 --n-genes 3000
--samples 500 --genes 300`` it takes seconds.
"""

import argparse
import gc
import platform
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

import sklearn_molge
from sklearn_molge.datasets import read_gctx, write_gctx

MATRIX = "0/DATA/0/matrix"
MB = 1e6


def layouts(n_samples: int, n_genes: int) -> dict[str, dict]:
    square = (min(512, n_samples), min(512, n_genes))
    return {
        "write_gctx, Broad": {},
        "one sample a chunk": {"chunks": (1, n_genes)},
        "square": {"chunks": square},
        "all samples of 4 genes": {"chunks": (n_samples, min(4, n_genes))},
        "Broad, gzip 4": {"compression": 4},
        "contiguous, cmapPy": {"chunks": None},
    }


def readers(
    path: Path, samples: np.ndarray, genes: np.ndarray
) -> dict[str, Callable[[], np.ndarray]]:
    def ours() -> np.ndarray:
        return read_gctx(path, samples=samples, genes=genes, progress=False).matrix

    def samples_first() -> np.ndarray:
        with h5py.File(path) as file:
            return file[MATRIX][samples, :][:, genes]

    def genes_first() -> np.ndarray:
        with h5py.File(path) as file:
            return file[MATRIX][:, genes][samples]

    return {"ours": ours, "samples first": samples_first, "genes first": genes_first}


def time_in_turn(
    calls: dict[str, Callable[[], np.ndarray]], n_rounds: int
) -> dict[str, list[float]]:
    results = {name: call() for name, call in calls.items()}
    for result in results.values():
        np.testing.assert_array_equal(result, results["ours"])
    del results, result
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(n_rounds):
        for name in list(calls)[:: 1 if number % 2 == 0 else -1]:
            gc.collect()
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def traced_peak(call: Callable[[], np.ndarray]) -> float:
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / MB


def most_resident() -> float:
    """Return the most memory that this process has held in MB; NaN if not on Linux."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    peaks = [int(line.split()[1]) for line in lines if line.startswith("VmHWM")]
    return peaks[0] * 1024 / MB if peaks else float("nan")


def resident_growth(path: Path, samples: np.ndarray, genes: np.ndarray) -> float:
    read_gctx(path, samples=samples[:1], genes=genes[:1])
    before = most_resident()
    read_gctx(path, samples=samples, genes=genes, progress=False)
    return most_resident() - before


def in_fresh_process(function: Callable[..., float], *arguments: object) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def spread(seconds: list[float]) -> str:
    return f"{np.median(seconds):.3f} ({min(seconds):.3f}-{max(seconds):.3f})"


def rows(arguments: argparse.Namespace, folder: Path) -> Iterator[list[str]]:
    rng = np.random.default_rng(arguments.seed)
    shape = arguments.n_samples, arguments.n_genes
    samples = np.sort(rng.choice(shape[0], arguments.samples, replace=False))
    genes = np.sort(rng.choice(shape[1], arguments.genes, replace=False))
    obs = pd.DataFrame(
        index=[f"PLATE{i // 384:04d}:W{i % 384:03d}" for i in range(shape[0])]
    )
    gene_frame = pd.DataFrame(index=[str(i) for i in range(shape[1])])
    for name, layout in layouts(*shape).items():
        if arguments.only and arguments.only not in name:
            continue
        path = folder / "bench.gctx"
        matrix = np.random.default_rng(arguments.seed).random(shape, dtype=np.float32)
        write_gctx(path, matrix, obs, gene_frame, **layout)
        del matrix
        calls = readers(path, samples, genes)
        seconds = time_in_turn(calls, arguments.rounds)
        median = {reader: np.median(values) for reader, values in seconds.items()}
        resident = in_fresh_process(resident_growth, path, samples, genes)
        yield [
            name,
            *(spread(values) for values in seconds.values()),
            f"{median['ours'] / median['samples first']:.2f}",
            f"{median['ours'] / median['genes first']:.2f}",
            f"{traced_peak(calls['ours']):.0f} / {resident:.0f}",
            f"{traced_peak(calls['samples first']):.0f}",
        ]
        path.unlink()


def table_row(cells: Iterable[str], widths: Iterable[int]) -> str:
    padded = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"| {' | '.join(padded)} |"


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-samples", type=int, default=20_000, help="in the file")
    parser.add_argument("--n-genes", type=int, default=12_328, help="in the file")
    parser.add_argument("--samples", type=int, default=5_000, help="to read")
    parser.add_argument("--genes", type=int, default=978, help="to read")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="layouts whose name contains this")
    parser.add_argument("--folder", help="where to make the temporary folder")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    print(
        f"{platform.processor() or platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}, numpy {np.__version__}, "
        f"h5py {h5py.__version__} (HDF5 {h5py.version.hdf5_version}), "
        f"sklearn_molge {sklearn_molge.__version__}"
    )
    result_mb = arguments.samples * arguments.genes * 4 / MB
    print(
        f"{arguments.genes} genes x {arguments.samples} samples, {result_mb:.0f} MB, "
        f"of {arguments.n_genes} x {arguments.n_samples}; "
        f"seconds: median (min-max) of {arguments.rounds}; "
        "ratios of medians; files cached in memory; peaks in MB\n"
    )
    columns = {
        "layout": 22,
        "read_gctx": 22,
        "h5py, samples first": 22,
        "h5py, genes first": 22,
        "to samples f.": 13,
        "to genes f.": 11,
        "peak traced / resident": 22,
        "peak of h5py": 12,
    }
    print(table_row(columns, columns.values()))
    print(table_row(["-" * width for width in columns.values()], columns.values()))
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        for row in rows(arguments, Path(folder)):
            print(table_row(row, columns.values()), flush=True)


if __name__ == "__main__":
    main()
