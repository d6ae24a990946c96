r"""Embedding a library, molecules a second, against chemprop's own command.

    OMP_NUM_THREADS=1 python benchmarks/bench_embedding.py --weights model.pt \
        --library compoundinfo.txt.gz

Without ``--library`` molecules are assembled. Both sides get the same molecules,
weights and threads, and their vectors must be equal within 1e-4. Two ratios are shown:
both as commands of their own, imports and files included; and both without that, ours
in a process that runs and chemprop's time less that of a file with two molecules.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from _assembled import assembled_library
from _timing import describe_machine, report
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.library import MoleculeFile
from sklearn_molge.library._build import embed_library
from sklearn_molge.library._file import as_source
from sklearn_molge.molecules import (
    ChempropEmbedder,
    MorganFingerprinter,
    canonical_smiles,
    parse_smiles,
)


class TransformOnly:
    """Shows the vectors of a network as they are: a joint space of nothing else."""

    def similarity(self, X, y):
        """Make it a two-view estimator; nobody asks for it here."""

    def transform(self, X):
        """Return the vectors."""
        return X


def read_library(options):
    if options.library is None:
        return list(assembled_library(options.n_molecules))
    batches = MoleculeFile(options.library).iter_batches(4096)
    entries = dict.fromkeys(s for _, smiles, _ in batches for s in smiles)
    smiles = [s for s in entries if parse_smiles(s) is not None]
    order = np.random.default_rng(0).permutation(len(smiles))
    return [smiles[i] for i in order[: options.n_molecules]]


def embedders(options, smiles):
    study = make_perturbation_study(200, n_cell_lines=2, random_state=0)
    fingerprints = make_pipeline(MorganFingerprinter(), CCA(128, ridge=0.1))
    yield "Morgan + CCA", fingerprints.fit(study.smiles, study.ge)
    if options.weights:
        network = ChempropEmbedder(options.weights).fit(smiles[:1])
        yield "D-MPNN", make_pipeline(network, TransformOnly())


def embed(estimator, smiles, n_jobs, unique_by):
    batches = embed_library(
        estimator,
        as_source(smiles),
        n_jobs=n_jobs,
        unique_by=unique_by,
        # Small enough that each process has work to the end.
        batch_size=min(4096, -(-len(smiles) // (4 * (n_jobs or 1)))),
    )
    return np.concatenate([batch.vectors for batch in batches])


def chemprop_command(options, folder, smiles, cuik):
    """Return a function that runs ``chemprop fingerprint`` and reads its vectors."""
    table, output = folder / f"{len(smiles)}.csv", folder / "vectors.npz"
    pd.DataFrame({"smiles": smiles}).to_csv(table, index=False)
    program = Path(sys.executable).with_name("chemprop")
    command = [program, "fingerprint", "-q", "-q", "-i", table, "-o", output]
    command += ["--model-paths", options.weights, "--ffn-block-index", "0"]
    command += ["--accelerator", "cpu", "--num-workers", "0"]
    command += ["--batch-size", str(options.chemprop_batch_size)]
    command += ["--use-cuikmolmaker-featurization"] if cuik else []

    def run():
        threads = str(options.cores)
        done = subprocess.run(
            list(map(str, command)),
            env={**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"chemprop failed:\n{done.stderr[-3000:]}")
        with np.load(folder / "vectors_0.npz") as file:
            return next(iter(file.values()))

    return run


def run_own_command(options, folder, n):
    """Embed the file that chemprop is given, in a process of its own."""
    table = folder / f"{n}.csv"
    command = [sys.executable, __file__, "--once", table, "--weights", options.weights]
    command += ["--cores", str(options.cores)]
    threads = {"OMP_NUM_THREADS": "1"}
    subprocess.run(list(map(str, command)), env={**os.environ, **threads}, check=True)


def embed_once(options):
    """Do what chemprop's command does: read a table, embed it, write the vectors."""
    library = MoleculeFile(options.once)
    network = ChempropEmbedder(options.weights).fit(["C"])
    estimator = make_pipeline(network, TransformOnly())
    batches = embed_library(estimator, library, unique_by=None, n_jobs=options.cores)
    vectors = np.concatenate([batch.vectors for batch in batches])
    np.savez(options.once.with_name("ours.npz"), vectors)


def seconds_of(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def bench_rates(smiles, estimators, options):
    """Print molecules a second of each embedder, by processes and identities."""
    for name, estimator in estimators.items():
        for n_jobs in options.n_jobs:
            for unique_by in ("drug", None):
                embed(estimator, smiles[:200], n_jobs, unique_by)  # starts the workers
                rates = sorted(
                    len(smiles)
                    / seconds_of(lambda: embed(estimator, smiles, n_jobs, unique_by))[0]  # noqa: B023
                    for _ in range(options.repeats)
                )
                print(
                    f"{name}, n_jobs={n_jobs}, unique_by={unique_by!r}: "
                    f"{statistics.median(rates):,.0f} molecules/s "
                    f"[{rates[0]:,.0f}, {rates[-1]:,.0f}]",
                    flush=True,
                )


def bench_chemprop(smiles, network, options, folder, cuik):
    """Compare with the command, in turn, and check that the vectors are equal."""
    run = chemprop_command(options, folder, smiles, cuik)
    embed(network, smiles[:200], options.cores, None)  # starts the workers
    start = chemprop_command(options, folder, smiles[:2], cuik)
    ours, our_command, whole, beyond_start = [], [], [], []
    for _ in range(options.repeats):
        seconds, vectors = seconds_of(
            lambda: embed(network, smiles, options.cores, None)
        )
        ours.append(seconds)
        our_command.append(
            seconds_of(lambda: run_own_command(options, folder, len(smiles)))[0]
        )
        seconds, expected = seconds_of(run)
        whole.append(seconds)
        beyond_start.append(seconds - seconds_of(start)[0])
    error = np.abs(vectors - expected).max()
    featurizer = "cuik-molmaker" if cuik else "its own featuriser (the default)"
    print(
        f"{options.cores} cores; chemprop fingerprint, {featurizer}: "
        f"largest difference {error:.1e}"
    )
    assert error < 1e-4, error
    report("  both as commands", our_command, whole, goal="0.333")
    report("  both without their start", ours, beyond_start, goal="0.333")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-molecules", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--n-jobs", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--cores",
        type=int,
        default=1,
        help="of the comparison: our processes of one thread, chemprop's threads",
    )
    parser.add_argument("--weights", help="checkpoint of chemprop, for the D-MPNN")
    parser.add_argument("--library", help="file of molecules, see MoleculeFile")
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--chemprop-batch-size", type=int, default=64)
    options = parser.parse_args()
    if options.once:
        return embed_once(options)
    describe_machine("torch", "chemprop", "rdkit", "joblib")
    print(f"  torch: {torch.get_num_threads()} threads, {os.cpu_count()} processors")
    smiles = read_library(options)
    n_distinct = len(set(canonical_smiles(smiles[:1000])))
    print(f"{len(smiles)} molecules, {n_distinct} distinct among the first 1000")
    estimators = dict(embedders(options, smiles))
    bench_rates(smiles, estimators, options)
    if "D-MPNN" in estimators:
        with tempfile.TemporaryDirectory() as folder:
            for cuik in (False, True):
                bench_chemprop(
                    smiles, estimators["D-MPNN"], options, Path(folder), cuik
                )


if __name__ == "__main__":
    main()
