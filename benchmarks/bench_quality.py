"""What the coordinated embedder reaches on real data, beside the classical methods.

The draws are those of ``examples/compare_methods.py``: a share of the drugs and of
the cell lines is held out. Every setting was chosen on inner splits of the training
parts. The ranks of each row are written to --cache as soon as they are there, and a
second call goes on from there.
"""

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

SMOKE = {"draws": 1, "only": "not trained"}
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
        n_drugs = len(np.unique(drugs[train]))
        n_components = min(50, molecules.shape[1], n_drugs - 1)
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


def add_arguments(parser):
    add = parser.add_argument
    add("--draws", type=int, default=3)
    add("--only", help="rows whose name holds this text")
    add("--cache", type=Path, default=Path("quality.csv"), help="ranks, row by row")


def records(ranks, drugs, n_candidates):
    """Return scores with intervals, and gains over the recommended pipeline."""
    sizes = {"queries": len(drugs), "candidates": float(np.mean(n_candidates))}
    chance = chance_scores(n_candidates, k=(10,))
    chance = {name: float(chance[name]) for name in ("mrr", "median_rank", "hits@10")}
    rows = [{"what": "chance", "sizes": sizes} | chance]
    for name, values in ranks.items():
        scores = bootstrap_scores(values, drugs, random_state=SEED)
        gain = paired_comparison(values, ranks[BEST], drugs, random_state=SEED)
        row = {"what": name, "sizes": sizes}
        for key in chance:
            row[key] = [float(scores.loc[key, c]) for c in ("score", "low", "high")]
        row["gain"] = [float(v) for v in (gain.difference, gain.low, gain.high)]
        rows.append(row)
    return rows


def run(options):
    study = load_lincs(options.data, level=5)
    X, y, drugs = study.smiles, study.ge, study.groups[:, 0]
    cv = DrugCellLineShuffleSplit(
        options.draws, test_drugs=0.35, test_cell_lines=0.25, random_state=SEED
    )
    splits = list(cv.split(X, groups=study.groups))
    done = pd.read_csv(options.cache) if options.cache.exists() else pd.DataFrame()
    for name, job in jobs(options.weights).items():
        seen = any(c == name or c.startswith(f"{name}: ") for c in done.columns)
        wanted = name == BEST or not options.only or options.only in name
        if seen or not wanted:
            continue
        for way, ranks in job(X, y, drugs, splits).items():
            done[f"{name}: {way}" if way else name] = ranks
        done.to_csv(options.cache, index=False)
    queries = np.concatenate([drugs[test] for _, test in splits])
    sizes = np.concatenate(
        [np.full(len(t), len(np.unique(drugs[t]))) for _, t in splits]
    )
    return records({c: done[c].to_numpy() for c in done}, queries, sizes)
