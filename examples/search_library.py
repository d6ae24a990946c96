"""
A library of molecules, searched with a profile
===============================================

A pipeline is trained on a study from which some drugs and cell lines are held out. It
embeds a library of molecules that have no profile, once; then a held-out profile is the
query. The answer is a table, a picture, and the rank of the molecule that really caused
the profile.

Run it on the simulated study, or on a folder laid out like the public LINCS releases
with a library in a file::

    python examples/search_library.py
    python examples/search_library.py --data path/to/lincs_folder \
        --library path/to/compoundinfo.txt.gz --jobs 2

Kill it while it embeds and start it again: it goes on.
"""

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from sklearn_molge.datasets import load_lincs, make_perturbation_study
from sklearn_molge.evaluation import ReportTable
from sklearn_molge.expression import profile_from_genes
from sklearn_molge.library import MoleculeFile, MoleculeIndex, MoleculeQueryDisplay
from sklearn_molge.metrics import chance_scores, retrieval_scores
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.retrieval import recommended_pipeline

SEED = 0


def divide(study):
    """Return a training part, and profiles of unseen drugs in unseen lines."""
    split = drug_cell_line_split(
        study.groups,
        val_drugs=0,
        val_cell_lines=0,
        test_drugs=0.2,
        test_cell_lines=0.25,
        random_state=SEED,
    )
    return study[split.train], study[split.test]


def embed_library(train, library, folder, **options):
    """Train the quicker of the recommended pipelines, and embed the library."""
    pipe = recommended_pipeline(model="linear", random_state=SEED)
    pipe.fit(train.smiles, train.ge)
    index = MoleculeIndex(pipe, folder=folder, **options).fit(library)
    # What an answer is compared with: the training set.
    return index.calibrate(train.smiles, train.ge)


def rank_true_molecules(index, test):
    """Rank the molecule of every held-out profile among the whole library."""
    known = np.isin(test.groups[:, 0], index.get_molecules()["drug"])
    return known, index.rank(test.ge[known], test.smiles[known])


def strongest_query(ranks, known):
    """Choose the held-out condition whose molecule is found best."""
    rows = np.flatnonzero(known)
    return int(rows[np.argmin(ranks)])


def main(arguments=None):
    """Run the example from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[1])
    parser.add_argument("--data", default="simulated", help="folder, or 'simulated'")
    parser.add_argument("--library", type=Path, help="file of SMILES")
    parser.add_argument("--out", type=Path, default=Path("search-output"))
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.data == "simulated":
        study = make_perturbation_study(level=5, random_state=SEED)
    else:
        study = load_lincs(options.data, level=5)
    train, test = divide(study)
    library = MoleculeFile(options.library) if options.library else study.smiles
    print(f"Training: {train}\nHeld out: {test}")
    start = time.perf_counter()
    options.out.mkdir(parents=True, exist_ok=True)
    index = embed_library(
        train, library, options.out / "index", dtype=options.dtype, n_jobs=options.jobs
    )
    print(
        f"Index: {index.n_molecules_:,} molecules, {index.nbytes_ / 1e6:.0f} MB, "
        f"{time.perf_counter() - start:.0f} s with the training; left out:"
    )
    print(index.skipped_["reason"].str.replace(r"\d+", "N", regex=True).value_counts())
    known, ranks = rank_true_molecules(index, test)
    k = (1, 10, 100, 1000)
    scores = {
        "held-out profiles": retrieval_scores(ranks, k=k),
        "chance": chance_scores(index.n_molecules_, k=k),
    }
    print(pd.DataFrame(scores).round(4).to_string(), end="\n\n")
    row = strongest_query(ranks, known)
    ask(index, test, row, options.out)


def ask(index, test, row, out):
    """Ask with one profile, with its cell lines together, its genes, and in reverse."""
    profile, smiles, line = test.ge[[row]], test.smiles[row], test.groups[row, 1]
    same = test.groups[:, 0] == test.groups[row, 0]
    print(f"\nQuery: {smiles} in {line}; the true molecule has these ranks:")
    order = np.argsort(profile[0])
    gene_ids = test.genes["gene_id"].to_numpy()
    genes = profile_from_genes(
        test.genes, up=gene_ids[order[-50:]], down=gene_ids[order[:50]]
    )
    print(f"  by the profile             {index.rank(profile, smiles)[0]:.1f}")
    together = index.rank(test.ge[same], smiles, groups=np.repeat("all", same.sum()))
    print(f"  by {same.sum()} cell lines together  {together[0]:.1f}")
    print(f"  by 50 up and 50 down genes {index.rank(genes.profile, smiles)[0]:.1f}")
    named = pd.DataFrame(profile, index=[f"{line}, drug {test.groups[row, 0]}"])
    table = index.query(named, 10)
    # ReportTable's CSV: a name of a library that begins with "=" is no formula in it.
    text = ReportTable(table.reset_index(drop=True)).to_csv()
    (out / "answer.csv").write_text(text, encoding="utf-8", newline="\n")
    print(table.drop(columns=["query", "nearest_training"]).round(3).to_string())
    display = MoleculeQueryDisplay.from_table(table)
    display.figure_.savefig(out / "answer.png", dpi=110)
    print(f"The answer as a picture: {out / 'answer.png'}")
    print("In reverse, what could oppose this profile:")
    print(index.query(named, 5, reverse=True)[["name", "score", "percentile"]])


if __name__ == "__main__":
    sys.exit(main())
