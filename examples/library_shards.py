r"""
A library in shards, one task of a Slurm job array for each
===========================================================

A library of many millions lies in many files, as screening libraries come. Each task
of a job array embeds its part of the files, one ``MoleculeIndex`` a file, and needs no
other task. A task that was killed is started again with the same command and goes on. A
query looks into every shard and merges the answers by distance::

    python examples/library_shards.py embed embedder.joblib library/ shards/
    python examples/library_shards.py query embedder.joblib shards/ y.npy hits.csv

As a job array, with the number of the task from Slurm::

    sbatch --array=0-7 --cpus-per-task=8 --time=12:00:00 --wrap '
      export OMP_NUM_THREADS=1
      python examples/library_shards.py embed embedder.joblib library/ shards/ \
        --task $SLURM_ARRAY_TASK_ID --of 8 --jobs $SLURM_CPUS_PER_TASK'
"""

import argparse
from pathlib import Path

import joblib
import numpy as np
import pandas as pd

from sklearn_molge.evaluation import ReportTable
from sklearn_molge.library import MoleculeFile, MoleculeIndex


def embed_files(embedder, library, shards, *, task=0, n_tasks=1, **options):
    """Embed every `n_tasks`-th file of the folder `library`, from file `task` on."""
    files = sorted(path for path in Path(library).iterdir() if path.is_file())
    for file in files[task::n_tasks]:
        index = MoleculeIndex(embedder, folder=Path(shards, file.name), **options)
        index.fit(MoleculeFile(file))  # goes on, or has nothing to do


def search_shard(path, embedder, profiles, n_neighbors, reverse):
    """Return distances and rows of a shard's best molecules for each profile."""
    index = MoleculeIndex.open(path, estimator=embedder)
    n_neighbors = min(n_neighbors, index.n_molecules_)
    return index.kneighbors(profiles, n_neighbors, reverse=reverse)


def search_shards(shards, embedder, profiles, n_neighbors=10, *, reverse=False):
    """Look into every shard, on joblib's present backend, and merge by distance.

    Returns
    -------
    hits : DataFrame
        ``profile``, ``place`` (from 1), ``distance``, ``shard``, ``index_row`` (of the
        shard), ``library_row`` (of its file), ``smiles`` and ``name``. Of equally close
        molecules the one of the first shard comes first. A molecule that is in two
        shards comes twice.
    """
    paths = sorted(Path(shards).iterdir())
    found = joblib.Parallel()(
        joblib.delayed(search_shard)(path, embedder, profiles, n_neighbors, reverse)
        for path in paths
    )
    distances = np.concatenate([d for d, _ in found], axis=1)
    rows = np.concatenate([r for _, r in found], axis=1)
    shard = np.repeat(np.arange(len(paths)), [r.shape[1] for _, r in found])
    order = np.argsort(-distances if reverse else distances, axis=1, kind="stable")
    order = order[:, :n_neighbors]
    hits = pd.DataFrame(
        {
            "profile": np.repeat(np.arange(len(order)), order.shape[1]),
            "place": np.tile(np.arange(1, order.shape[1] + 1), len(order)),
            "distance": np.take_along_axis(distances, order, axis=1).ravel(),
            "shard": [paths[i].name for i in shard[order].ravel()],
            "index_row": np.take_along_axis(rows, order, axis=1).ravel(),
        }
    )
    molecules = [
        MoleculeIndex.open(Path(shards, name), estimator=embedder)
        .get_molecules(part["index_row"])[["library_row", "smiles", "name"]]
        .set_index(part.index)
        for name, part in hits.groupby("shard")
    ]
    return hits.join(pd.concat(molecules))


def main(arguments=None):
    """Embed a part of a library, or search all of it."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[1],
        epilog="EMBEDDER is a pickle of yours, written by joblib.dump: opening it runs "
        "the code that it names, so give none that you do not trust.",
    )
    commands = parser.add_subparsers(dest="command", required=True)
    embed = commands.add_parser("embed", help="embed the files of one task")
    embed.add_argument("embedder", type=Path)
    embed.add_argument("library", type=Path, help="folder of files of molecules")
    embed.add_argument("shards", type=Path, help="folder of indexes")
    embed.add_argument("--task", type=int, default=0)
    embed.add_argument("--of", type=int, default=1, help="number of tasks")
    embed.add_argument("--jobs", type=int, help="processes")
    query = commands.add_parser("query", help="search all shards")
    query.add_argument("embedder", type=Path)
    query.add_argument("shards", type=Path)
    query.add_argument("profiles", type=Path, help="a .npy file (n_profiles, n_genes)")
    query.add_argument("out", type=Path, help="a .csv file")
    query.add_argument("--top", type=int, default=100)
    query.add_argument("--reverse", action="store_true")
    options = parser.parse_args(arguments)
    embedder = joblib.load(options.embedder)
    if options.command == "embed":
        embed_files(
            embedder,
            options.library,
            options.shards,
            task=options.task,
            n_tasks=options.of,
            n_jobs=options.jobs,
            dtype="int8",
        )
        return
    profiles = np.load(options.profiles)
    hits = search_shards(
        options.shards, embedder, profiles, options.top, reverse=options.reverse
    )
    # In ReportTable's CSV a name that begins with "=" is no formula.
    text = ReportTable(hits.reset_index(drop=True)).to_csv()
    options.out.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
