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
    bootstrap_calibration_error,
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


def summary(table):
    """Return a row of the table: intervals resample drugs."""
    sets = set_coverage(table, random_state=SEED)
    row = {"MRR": f"{np.mean(1 / table['rank']):.3f}"}
    for coverage, of in sets.iterrows():
        held = "{held:.3f} [{low:.3f}, {high:.3f}]".format(**of)
        row[f"{100 * coverage:g} %"] = f"{held}, {of['mean_size']:.2f}"
    error = bootstrap_calibration_error(
        table["correct"], table["confidence"], table["drug"], random_state=SEED
    )
    row["ECE"] = "{score:.3f} [{low:.3f}, {high:.3f}]".format(**error)
    for share in (0.1, 0.25):  # or more, where several are as sure
        of = abstention_curve(
            table["rank"], table["confidence"], drugs=table["drug"], answered=[share],
            random_state=SEED,
        ).iloc[0]  # fmt: skip
        row[f"surest {share:.0%}"] = "{score:.3f} [{low:.3f}, {high:.3f}]".format(**of)
    held = (table["p_value"] > 1 - 0.9 + 1e-9).groupby(table["draw"]).mean()
    row["90 %, each draw"] = " ".join(f"{share:.2f}" for share in held)
    return row


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
    found = measure(study, options)
    print("Each coverage: share of the queries held, and mean size, of the candidates.")
    print(pd.DataFrame({name: summary(t) for name, t in found.items()}).to_string())


if __name__ == "__main__":
    main()
