"""What the coordinated embedder reaches on real data, beside the classical methods.

The draws are those of ``examples/compare_methods.py``: a share of the drugs and of
the cell lines is held out. Every setting was chosen on inner splits of the training
parts. Each row is written to the file as soon as it is done, and a second call goes on
from there::

    python benchmarks/bench_quality.py path/to/lincs_folder --weights dmpnn.pt
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA, PRESETS, CoordinatedEmbedder
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler
from sklearn_molge.datasets import load_lincs
from sklearn_molge.metrics import (
    bootstrap_scores,
    chance_scores,
    paired_comparison,
    rank_embeddings,
    retrieval_ranks,
)
from sklearn_molge.model_selection import DrugCellLineShuffleSplit
from sklearn_molge.molecules import MoleculeDescriptors, MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    recommended_ensemble,
    recommended_pipeline,
)

SEED = 0
BEST = "recommended pipeline"
# The graph tower with the field's present loss, as untuned as in the prototypes.
GRAPH = {
    "criterion": InfoNCELoss,
    "sampler": DrugBalancedSampler,
    "module__unit_profiles": True,
    "module__expression_layers": (512,),
    "module__head_input_dropout": 0.2,
    "module__input_dropout": 0.3,
    "max_epochs": 20,
}


RANDOM_START = {"module__start": "random", "lr": 1e-3, "max_epochs": 20}
# What the quadruplet loss shares with the recommended settings; the rest are defaults.
FEATURE_TOWER = {
    "encoder", "molecule_features", "metric", "module__expression_layers",
    "module__head_layers", "module__input_dropout", "module__head_input_dropout",
    "module__unit_profiles",
}  # fmt: skip


def embedders(weights):
    """Return the settings of the table by name."""
    paper, quadruplet, graph = PRESETS["paper"], {}, GRAPH
    starts = {"random": "random"} | ({"pretrained": weights} if weights else {})
    settings = {}
    for name, options in (
        ("paper", paper), ("best quadruplet", quadruplet), ("InfoNCE, graph", graph),
    ):  # fmt: skip
        for start, encoder in starts.items():
            for joined, features in (("", None), (" + descr.", MoleculeDescriptors())):
                settings[f"{name}, {start}{joined}"] = options | {
                    "encoder": encoder,
                    "molecule_features": features,
                }
    settings["recommended"] = PRESETS["recommended"]
    settings["recommended, not trained"] = PRESETS["recommended"] | {
        "lr": 1e-12,
        "max_epochs": 1,
    }
    settings["recommended, random start"] = PRESETS["recommended"] | RANDOM_START
    settings["best quadruplet, features"] = {
        **{k: v for k, v in PRESETS["recommended"].items() if k in FEATURE_TOWER},
        "max_epochs": 20,
    }
    return settings


def rank(settings, X, y, drugs, splits):
    """Rank the test profiles by the embeddings, and by CCA on top of them."""
    alone, on_top = [], []
    for train, test in splits:
        model = CoordinatedEmbedder(**settings, random_state=SEED)
        model.fit(X[train], y[train])
        alone.append(retrieval_ranks(model, X[test], y[test], drugs=drugs[test]))
        molecules, profiles = model.transform(X), model.transform_ge(y)
        n_components = min(50, molecules.shape[1])
        cca = CCA(n_components, random_state=SEED)
        cca.fit(molecules[train], profiles[train])
        _, first, match = np.unique(drugs[test], return_index=True, return_inverse=True)
        gallery = cca.transform(molecules[test][first])
        on_top.append(rank_embeddings(cca.transform_ge(profiles[test]), gallery, match))
    return {"Corr": np.concatenate(alone), "CCA on top": np.concatenate(on_top)}


def rank_estimator(estimator, X, y, drugs, splits):
    """Rank the test profiles by any two-view estimator."""
    ranks = []
    for train, test in splits:
        model = clone(estimator).fit(X[train], y[train])
        ranks.append(retrieval_ranks(model, X[test], y[test], drugs=drugs[test]))
    return {"": np.concatenate(ranks)}


def jobs(weights):
    """Return what gives the ranks of each row, by name; called with data and splits."""
    rows = {}
    pipelines = {
        "D-NN, Morgan": make_pipeline(MorganFingerprinter(), DoubleNNRetriever()),
        "CCA, Morgan": make_pipeline(MorganFingerprinter(), CCA(50, random_state=SEED)),
        BEST: recommended_pipeline(model="linear", random_state=SEED),
        "Gaussian process": recommended_pipeline(random_state=SEED),
    }
    for name, pipeline in pipelines.items():
        rows[name] = partial(rank_estimator, pipeline)
    for name, options in embedders(weights).items():
        rows[name] = partial(rank, options)
    ensemble = recommended_ensemble(random_state=SEED)
    rows["recommended ensemble"] = partial(rank_estimator, ensemble)
    return rows


def report(ranks, drugs, n_candidates):
    """Print scores with intervals, and the gain over the recommended pipeline."""
    chance = chance_scores(n_candidates, k=(10,))
    print(f"chance: MRR {chance['mrr']:.3f}, MR {chance['median_rank']:.0f}, "
          f"H@10 {chance['hits@10']:.3f}")  # fmt: skip
    best = ranks[BEST]
    for name, values in ranks.items():
        s = bootstrap_scores(values, drugs, random_state=SEED)
        gain = paired_comparison(values, best, drugs, random_state=SEED)
        text = [
            f"{s.score[key]:.{d}f} [{s.low[key]:.{d}f}, {s.high[key]:.{d}f}]"
            for key, d in (("mrr", 3), ("median_rank", 0), ("hits@10", 3))
        ]
        print(f"| {name} | {' | '.join(text)} | {gain.difference:+.3f} "
              f"[{gain.low:+.3f}, {gain.high:+.3f}] |")  # fmt: skip


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data")
    parser.add_argument("--weights", help="chemprop checkpoint for 'pretrained'")
    parser.add_argument("--out", type=Path, default=Path("quality.csv"))
    parser.add_argument("--only", help="rows whose name holds this text")
    options = parser.parse_args()
    study = load_lincs(options.data, level=5)
    X, y, drugs = study.smiles, study.ge, study.groups[:, 0]
    cv = DrugCellLineShuffleSplit(
        3, test_drugs=0.35, test_cell_lines=0.25, random_state=SEED
    )
    splits = list(cv.split(X, groups=study.groups))
    done = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame()
    for name, job in jobs(options.weights).items():
        seen = any(c == name or c.startswith(f"{name}: ") for c in done.columns)
        wanted = name == BEST or not options.only or options.only in name
        if seen or not wanted:
            continue
        start = time.perf_counter()
        for way, ranks in job(X, y, drugs, splits).items():
            done[f"{name}: {way}" if way else name] = ranks
        done.to_csv(options.out, index=False)
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    queries = np.concatenate([drugs[test] for _, test in splits])
    sizes = np.concatenate(
        [np.full(len(t), len(np.unique(drugs[t]))) for _, t in splits]
    )
    report({c: done[c].to_numpy() for c in done}, queries, sizes)


if __name__ == "__main__":
    main()
