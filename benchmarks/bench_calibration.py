"""How sure answers are on real data: coverage of sets, reliability, abstention.

Draws splits with unseen drugs in unseen cell lines, fits each recommended pipeline in a
ConformalRetriever on the training rows, which calibrates on inner folds alone, and
looks at the test profiles. Controls: without ``groups``, so that lines are not held
out inside, and with the molecules of the training rows shuffled. Answers are kept in
--cache, a file each, and a second call goes on from there.
"""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from sklearn_molge.datasets import load_lincs
from sklearn_molge.metrics import (
    abstention_curve,
    bootstrap_calibration_error,
    query_beliefs,
    set_coverage,
)
from sklearn_molge.model_selection import DrugCellLineShuffleSplit
from sklearn_molge.molecules import parsed_once
from sklearn_molge.retrieval import ConformalRetriever, recommended_pipeline

SMOKE = {"draws": 1, "models": ["CCA"], "controls": [""]}
SEED = 100  # of the inner draws; 0 is that of the tables of other benchmarks
MODELS = {"process": "gaussian_process", "CCA": "linear"}
CONTROLS = ("", "lines not held out", "shuffled molecules")


def answers(study, train, test, draw, model, control):
    """Fit on the training rows, and return the answers to the test profiles."""
    molecules, groups = study.smiles[train], study.groups[train]
    if control == "shuffled molecules":
        rng = np.random.default_rng([SEED, draw])
        drugs, first, places = np.unique(
            groups[:, 0].astype(str), return_index=True, return_inverse=True
        )
        molecules = molecules[first[rng.permutation(len(drugs))[places]]]
    pipe = recommended_pipeline(model=MODELS[model], random_state=0)
    sure = ConformalRetriever(pipe, random_state=0)
    with warnings.catch_warnings():  # a shuffled model may tell nothing
        warnings.simplefilter("ignore")
        sure.fit(
            molecules,
            study.ge[train],
            groups=None if control == "lines not held out" else groups,
        )
    drugs = study.groups[test, 0]
    return query_beliefs(sure, study.smiles[test], study.ge[test], drugs=drugs)


def measure(study, options):
    """Return the answers to all test profiles of all draws, by variant."""
    cv = DrugCellLineShuffleSplit(
        options.draws, test_drugs=0.35, test_cell_lines=0.25, random_state=SEED
    )
    names = [f"{m} {c}".strip() for m in options.models for c in options.controls]
    tables = {name: [] for name in names}
    bar = tqdm(total=options.draws * len(names), unit="fit", disable=None)
    with parsed_once():
        splits = cv.split(study.smiles, groups=study.groups)
        for draw, (train, test) in enumerate(splits):
            for name, of_draw in tables.items():
                model, _, control = name.partition(" ")
                path = options.cache / f"{name.replace(' ', '_')}-{draw}.csv"
                if not path.exists():
                    table = answers(study, train, test, draw, model, control)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    draft = path.with_suffix(".part")
                    table.to_csv(draft, index=False)
                    draft.replace(path)
                of_draw.append(pd.read_csv(path).assign(draw=draw))
                bar.update()
    bar.close()
    return {name: pd.concat(of_draw) for name, of_draw in tables.items()}


def add_arguments(parser):
    add = parser.add_argument
    add("--draws", type=int, default=10)
    add("--models", nargs="+", choices=MODELS, default=list(MODELS))
    add("--controls", nargs="+", choices=CONTROLS, default=list(CONTROLS))
    add("--cache", type=Path, default=Path("bench_calibration"), help="of answers")


def record(name, table):
    """Return the record of a variant: intervals resample drugs."""
    row = {"what": name, "sizes": {"queries": len(table)}}
    row["mrr"] = float(np.mean(1 / table["rank"]))
    for coverage, of in set_coverage(table, random_state=SEED).iterrows():
        row[f"held_by_{100 * coverage:g}%"] = _interval(of, "held")
        row[f"size_of_{100 * coverage:g}%"] = float(of["mean_size"])
    error = bootstrap_calibration_error(
        table["correct"], table["confidence"], table["drug"], random_state=SEED
    )
    row["calibration_error"] = _interval(error, "score")
    for share in (0.1, 0.25):  # or more, where several are as sure
        of = abstention_curve(
            table["rank"], table["confidence"], drugs=table["drug"], answered=[share],
            random_state=SEED,
        ).iloc[0]  # fmt: skip
        row[f"mrr_of_surest_{share:.0%}"] = _interval(of, "score")
    held = (table["p_value"] > 1 - 0.9 + 1e-9).groupby(table["draw"]).mean()
    return row | {"held_by_90%_each_draw": " ".join(f"{share:.2f}" for share in held)}


def _interval(of, value):
    return [float(of[name]) for name in (value, "low", "high")]


def run(options):
    found = measure(load_lincs(options.data, level=5), options)
    return [record(name, table) for name, table in found.items()]
