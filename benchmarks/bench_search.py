"""What a search over 30 settings gains on real data, and what it costs.

The settings of ``PRESETS["recommended"]`` are searched on inner splits of the training
rows of one outer draw; the default and the best are then fitted on all training rows
and compared on the outer test rows, which the search never saw. The trials are kept in
a file, from which a second call goes on::

    python benchmarks/bench_search.py path/to/lincs_folder --out search
"""

import argparse
import time
from pathlib import Path

import matplotlib as mpl
import numpy as np
from sklearn.base import clone

from sklearn_molge.alignment import (
    PRESETS,
    CoordinatedEmbedder,
    recommended_search_space,
)
from sklearn_molge.datasets import load_lincs
from sklearn_molge.inspection import (
    ParameterImportanceDisplay,
    ParameterScoreDisplay,
    parameter_importance,
)
from sklearn_molge.metrics import (
    RetrievalScorer,
    bootstrap_scores,
    paired_comparison,
    retrieval_ranks,
)
from sklearn_molge.model_selection import DrugCellLineShuffleSplit, HyperoptSearchCV

SEED = 0
HELD_OUT = {"test_drugs": 0.35, "test_cell_lines": 0.25}


def inner_score(estimator, inner, X, y, groups):
    """Return the mean reciprocal rank of a setting on the inner splits."""
    scores = []
    for train, test in inner.split(X, groups=groups):
        model = clone(estimator).fit(X[train], y[train])
        scores.append(RetrievalScorer()(model, X[test], y[test])["mrr"])
    return np.mean(scores)


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data")
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--out", type=Path, default=Path("search"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    study = load_lincs(options.data, level=5)
    X, y, groups = study.smiles, study.ge, study.groups
    outer = DrugCellLineShuffleSplit(3, **HELD_OUT, random_state=SEED)
    train, test = next(outer.split(X, groups=groups))
    inner = DrugCellLineShuffleSplit(2, **HELD_OUT, random_state=1)
    default = CoordinatedEmbedder(**PRESETS["recommended"], random_state=SEED)
    search = HyperoptSearchCV(
        default, recommended_search_space(), n_iter=options.trials,
        n_initial_points=12, cv=inner, scoring=RetrievalScorer(), refit="mrr",
        trials_path=options.out / "trials.json", random_state=SEED, verbose=1,
    )  # fmt: skip
    start = time.perf_counter()
    search.fit(X[train], y[train], groups=groups[train])
    print(f"{options.trials} trials: {time.perf_counter() - start:.0f} s")
    print(search.best_params_)
    of_default = inner_score(default, inner, X[train], y[train], groups[train])
    print(f"inner MRR: default {of_default:.4f}, best {search.best_score_:.4f}")
    print(parameter_importance(search, random_state=SEED).to_string())
    drugs = groups[test, 0]
    ranks = {
        name: retrieval_ranks(model, X[test], y[test], drugs=drugs)
        for name, model in (
            ("default", clone(default).fit(X[train], y[train])),
            ("best", search),
        )
    }
    for name, values in ranks.items():
        score, low, high = bootstrap_scores(values, drugs, random_state=SEED).loc["mrr"]
        print(f"outer MRR of {name}: {score:.4f} [{low:.4f}, {high:.4f}]")
    print(paired_comparison(ranks["best"], ranks["default"], drugs, random_state=SEED))
    mpl.use("Agg")
    for display in (ParameterImportanceDisplay, ParameterScoreDisplay):
        figure = display.from_search(search).figure_
        figure.savefig(options.out / f"{display.__name__}.png", dpi=120)


if __name__ == "__main__":
    main()
