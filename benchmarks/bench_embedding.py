"""Building an index: molecules a second, and D-MPNN vectors against chemprop's command.

Molecules are those of --library, or assembled. chemprop's vectors, by the same weights,
must be equal within 1e-4; from its time that of a file with two molecules is taken off.
"""

import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from _molecules import read_molecules
from _timing import compare, in_new_thread, missing, ratio_record
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.molecules import ChempropEmbedder, MorganFingerprinter

SMOKE = {"molecules": 60, "jobs": [1], "training_molecules": 20, "components": 3}


def add_arguments(parser):
    add = parser.add_argument
    add("--molecules", type=int, default=5000)
    add("--components", type=int, default=128)
    add("--training-molecules", type=int, default=200)
    add("--jobs", type=int, nargs="+", default=[1, 2], help="processes of an index")
    add("--chemprop-batch-size", type=int, default=64)


def embedders(options):
    """Return what embeds molecules: a fingerprint and CCA, and a D-MPNN and CCA."""
    study = make_perturbation_study(
        options.training_molecules, n_cell_lines=2, n_genes=200, random_state=0
    )
    network = ChempropEmbedder(
        options.weights or "random", device=options.device, random_state=0
    )
    features = {"Morgan": MorganFingerprinter(), "D-MPNN": network}
    for name, molecules in features.items():
        pipe = make_pipeline(molecules, CCA(options.components, ridge=0.1))
        yield f"{name}, CCA", pipe.fit(study.smiles, study.ge)


def index_records(name, embedder, smiles, options):
    """Yield what identities of drugs cost beside texts alone, by processes."""
    for n_jobs in options.jobs:
        # Small enough that each process has work to the end.
        size = min(4096, -(-len(smiles) // (4 * n_jobs)))

        def build(unique_by, n_jobs=n_jobs, size=size):
            index = MoleculeIndex(
                embedder, unique_by=unique_by, n_jobs=n_jobs, batch_size=size,
                progress=False,
            )  # fmt: skip
            return index.fit(smiles)

        for unique_by, peer in (("drug", "smiles"), ("smiles", None)):
            record = compare(
                f"index of {name}, unique_by={unique_by!r}",
                functools.partial(build, unique_by), functools.partial(build, peer),
                options, against=f"unique_by={peer!r}", new_thread=True,
                sizes={"molecules": len(smiles), "processes": n_jobs},
                memory=n_jobs == 1, wall=n_jobs > 1,
            )  # fmt: skip
            rates = [len(smiles) / seconds for seconds in record["ours_s"]]
            yield record | {"molecules_per_s": [rates[0], rates[2], rates[1]]}


def chemprop_command(options, folder, smiles, cuik):
    """Return a function that runs ``chemprop fingerprint`` and reads its vectors."""
    table, output = folder / f"{len(smiles)}.csv", folder / "vectors.npz"
    pd.DataFrame({"smiles": smiles}).to_csv(table, index=False)
    program = Path(sys.executable).with_name("chemprop")
    command = [program, "fingerprint", "-q", "-q", "-i", table, "-o", output]
    command += ["--model-paths", options.weights, "--ffn-block-index", "0"]
    accelerator = "cpu" if options.device == "cpu" else "gpu"
    command += ["--accelerator", accelerator, "--num-workers", "0"]
    command += ["--batch-size", str(options.chemprop_batch_size)]
    command += ["--use-cuikmolmaker-featurization"] if cuik else []

    def run():
        threads = str(options.threads)
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


def chemprop_record(smiles, options, folder, cuik):
    """Compare with the command, in turn, and check that the vectors are equal."""
    network = ChempropEmbedder(options.weights, device=options.device).fit(smiles[:1])
    whole = chemprop_command(options, folder, smiles, cuik)
    start = chemprop_command(options, folder, smiles[:2], cuik)
    ours, theirs = [], []
    for _ in range(options.repeats):
        seconds, vectors = _seconds_of(
            lambda: in_new_thread(lambda: network.transform(smiles))
        )
        ours.append(seconds)
        seconds, expected = _seconds_of(whole)
        theirs.append(seconds - _seconds_of(start)[0])
    error = float(np.abs(vectors - expected).max())
    if error > 1e-4:
        raise AssertionError(f"vectors differ from chemprop's by {error:.1e}")
    featuriser = "cuik-molmaker" if cuik else "its default featuriser"
    return ratio_record(
        "D-MPNN vectors", ours, theirs, goal=1 / 3, clock="perf_counter",
        against=f"chemprop fingerprint, {featuriser}, without its start",
        sizes={"molecules": len(smiles)}, largest_error=error,
    )  # fmt: skip


def _seconds_of(function):
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def run(options):
    smiles = read_molecules(options, options.molecules)
    records = []
    for name, embedder in embedders(options):
        records += index_records(name, embedder, smiles, options)
    what, peer = "D-MPNN vectors", "chemprop fingerprint"
    if options.weights is None:
        return [*records, {"what": what, "peer": peer, "skipped": "needs --weights"}]
    if without := missing(what, "chemprop", peer):
        return [*records, without]
    with tempfile.TemporaryDirectory() as folder:
        for cuik in (False, True):
            records.append(chemprop_record(smiles, options, Path(folder), cuik))
    return records
