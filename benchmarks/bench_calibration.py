"""How sure answers are on real data: coverage of sets, reliability, abstention.

Draws splits with unseen drugs in unseen cell lines, fits each recommended pipeline in a
ConformalRetriever on the training rows, which calibrates on inner folds alone, and
looks at the test profiles. Controls: without ``groups``, so that lines are not held
out inside, and with the molecules of the training rows shuffled. Answers are kept in a
folder, a file each, and a second call goes on from there::

    python benchmarks/bench_calibration.py path/to/lincs_folder
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from sklearn_molge.datasets import load_lincs
from sklearn_molge.metrics import (
    abstention_curve,
    expected_calibration_error,
    query_beliefs,
    set_coverage,
)
from sklearn_molge.model_selection import DrugCellLineShuffleSplit
from sklearn_molge.molecules import parsed_once
from sklearn_molge.retrieval import ConformalRetriever, recommended_pipeline

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
        for draw, (train, test) in enumerate(
            cv.split(study.smiles, None, study.groups)
        ):
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


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument(
        "--controls", nargs="+", choices=CONTROLS, default=list(CONTROLS)
    )
    parser.add_argument("--cache", type=Path, default=Path("bench_calibration"))
    options = parser.parse_args()
    study = load_lincs(options.folder, level=5)
    for name, table in measure(study, options).items():
        print(f"\n{name}: {len(table)} queries, {options.draws} draws")
        print(set_coverage(table, random_state=SEED).round(3).to_string())
        held = table["p_value"] > 0.1
        print(
            "held at 0.9, each draw:",
            held.groupby(table["draw"]).mean().round(3).tolist(),
        )
        error = expected_calibration_error(table["correct"], table["confidence"])
        print(
            f"right {table['correct'].mean():.3f}, confidence "
            f"{table['confidence'].mean():.3f}, ECE {error:.3f}"
        )
        curve = abstention_curve(
            table["rank"],
            table["confidence"],
            drugs=table["drug"],
            answered=[0.1, 0.25, 0.5, 1],
            random_state=SEED,
        )
        print(curve.round(3).to_string())


if __name__ == "__main__":
    main()
