"""How sure answers are on real data: coverage of sets, reliability, abstention.

Draws splits with unseen drugs in unseen cell lines, fits the joined-fingerprint CCA in
a ConformalRetriever on the training rows, which calibrates on inner folds alone, and
looks at the test profiles. Controls: without ``groups``, so that lines are not held
out inside, and with the molecules of the training rows shuffled::

    python benchmarks/bench_calibration.py path/to/lincs_folder
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import FunctionTransformer, Normalizer
from tqdm import tqdm

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import load_lincs
from sklearn_molge.metrics import (
    abstention_curve,
    expected_calibration_error,
    query_beliefs,
    set_coverage,
)
from sklearn_molge.model_selection import DrugCellLineShuffleSplit
from sklearn_molge.molecules import (
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
)
from sklearn_molge.retrieval import ConformalRetriever, TransformedTargetRetriever

SEED = 0


def joined_fingerprints(smiles):
    """Return the features of each row; none is learnt, counts are on a log scale."""
    log = FunctionTransformer(np.log1p)
    counted = [
        MorganFingerprinter(2, count=True),
        MorganFingerprinter(2, count=True, feature_invariants=True),
        MoleculeFingerprinter("atom_pair", count=True),
        MoleculeFingerprinter("torsion", count=True),
    ]
    parts = [make_pipeline(fingerprint, log) for fingerprint in counted]
    parts += [MoleculeFingerprinter("maccs"), MoleculeDescriptors()]
    union = FeatureUnion([(f"part{i}", part) for i, part in enumerate(parts)])
    distinct, places = np.unique(smiles.astype(str), return_inverse=True)
    return np.asarray(union.fit_transform(distinct.astype(object)))[places]


def measure(study, n_draws):
    """Return the answers to all test profiles of all draws, by variant."""
    X, y, groups = joined_fingerprints(study.smiles), study.ge, study.groups
    cv = DrugCellLineShuffleSplit(
        n_draws, test_drugs=0.35, test_cell_lines=6, random_state=SEED
    )
    answers = {"groups": [], "no groups": [], "shuffled molecules": []}
    bar = tqdm(total=n_draws * len(answers), unit="fit", disable=None)
    for draw, (train, test) in enumerate(cv.split(X, groups=groups)):
        rng = np.random.default_rng([SEED, draw])
        drugs, places = np.unique(groups[train, 0].astype(str), return_inverse=True)
        first = np.unique(places, return_index=True)[1]
        other = train[first[rng.permutation(len(drugs))[places]]]
        for name, rows, of_fold in (
            ("groups", train, groups[train]),
            ("no groups", train, None),
            ("shuffled molecules", other, groups[train]),
        ):
            cca = CCA(100, ridge=3.0, correlation_power=2, random_state=SEED)
            sure = ConformalRetriever(
                TransformedTargetRetriever(cca, Normalizer()), random_state=SEED
            )
            with warnings.catch_warnings():  # a shuffled model may tell nothing
                warnings.simplefilter("ignore")
                sure.fit(X[rows], y[train], groups=of_fold)
            table = query_beliefs(sure, X[test], y[test], drugs=groups[test, 0])
            answers[name].append(table.assign(draw=draw))
            bar.update()
    bar.close()
    return {name: pd.concat(tables) for name, tables in answers.items()}


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--draws", type=int, default=10)
    options = parser.parse_args()
    study = load_lincs(options.folder, level=5)
    for name, table in measure(study, options.draws).items():
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
