"""What limits retrieval on real data: more drugs, more cell lines, or neither.

Trains on a share of the training drugs, or of the training lines, of each draw of
``bench_quality.py``, and ranks the test profiles; and the training profiles against as
many training drugs as there are test drugs::

    python benchmarks/bench_learning_curve.py path/to/lincs_folder --out curve.png
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from sklearn_molge.alignment import PRESETS, CoordinatedEmbedder
from sklearn_molge.datasets import load_lincs
from sklearn_molge.metrics import (
    bootstrap_scores,
    chance_scores,
    retrieval_ranks,
)
from sklearn_molge.model_selection import DrugCellLineShuffleSplit

SEED = 0
SHARES = (0.3, 0.6, 1.0)


def keep_share(labels, share, rng):
    """Return a mask of the rows of a random share of the labels."""
    distinct = np.unique(labels)
    chosen = rng.permutation(distinct)[: max(2, round(share * len(distinct)))]
    return np.isin(labels, chosen)


def score(model, study, rows):
    """Return the ranks of some rows among their drugs, and the number of drugs."""
    drugs = study.groups[rows, 0]
    ranks = retrieval_ranks(model, study.smiles[rows], study.ge[rows], drugs=drugs)
    return ranks, drugs, np.full(len(rows), len(np.unique(drugs)))


def measure(study, splits):
    """Return one row for each share of drugs or of lines: MRR of test and train."""
    rows = []
    steps = [(what, s) for what in ("drugs", "cell lines") for s in SHARES]
    for what, share in tqdm(steps, unit="point"):
        parts: dict = {"test": [], "train": []}
        sizes = []
        for draw, (train, test) in enumerate(splits):
            rng = np.random.default_rng([SEED, draw])
            column = 0 if what == "drugs" else 1
            train = train[keep_share(study.groups[train, column], share, rng)]
            sizes.append((len(train), *map(len, map(set, study.groups[train].T))))
            model = CoordinatedEmbedder(**PRESETS["recommended"], random_state=SEED)
            model.fit(study.smiles[train], study.ge[train])
            n_test = len(np.unique(study.groups[test, 0]))
            n_train = len(np.unique(study.groups[train, 0]))
            seen = train[
                keep_share(study.groups[train, 0], min(1, n_test / n_train), rng)
            ]
            parts["test"].append(score(model, study, test))
            parts["train"].append(score(model, study, seen))
        row = dict(
            zip(("profiles", "drugs", "lines"), np.mean(sizes, axis=0), strict=True)
        )
        row |= {"part of": what, "share": share}
        for part, scored in parts.items():
            ranks, drugs, n = map(np.concatenate, zip(*scored, strict=True))
            mrr = bootstrap_scores(ranks, drugs, random_state=SEED).loc["mrr"]
            row |= {f"{part}": mrr.score, f"{part}_low": mrr.low}
            row |= {f"{part}_high": mrr.high, f"{part}_chance": chance_scores(n)["mrr"]}
        rows.append(row)
    return pd.DataFrame(rows)


def draw(table, path):
    """Save the curves."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        1, 2, figsize=(10, 4), sharey=True, layout="constrained"
    )
    for ax, (what, part) in zip(axes, table.groupby("part of"), strict=True):
        x = part["drugs" if what == "drugs" else "lines"]
        for name, colour in (("test", "C0"), ("train", "C1")):
            ax.plot(x, part[name], "o-", color=colour, label=f"{name} profiles")
            ax.fill_between(
                x, part[f"{name}_low"], part[f"{name}_high"], color=colour, alpha=0.2
            )
        ax.plot(x, part["test_chance"], "k--", label="chance, test")
        ax.set_xlabel(f"training {what}")
        ax.set_title(f"Fewer {what}")
    axes[0].set_ylabel("MRR (95 % interval over drugs)")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, default=Path("learning_curve.png"))
    options = parser.parse_args()
    study = load_lincs(options.data, level=5)
    cv = DrugCellLineShuffleSplit(
        3, test_drugs=0.35, test_cell_lines=0.25, random_state=SEED
    )
    table = measure(study, list(cv.split(study.smiles, groups=study.groups)))
    print(table.round(3).to_string(index=False))
    draw(table, options.out)


if __name__ == "__main__":
    main()
