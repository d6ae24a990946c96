"""
Plate controls: which block of features carries the signal from one line to another?
====================================================================================

Level 3 profiles are log2 intensities, in which the plate and the cell line speak louder
than the drug. Beside each treated well stands the mean of its plate's DMSO wells, and
``L1000Featurizer`` makes the paper's blocks of the two. Trained in one cell line and
tested in another, on other drugs, the blocks show what they are worth.

The data are two maps of the same 345 compounds, one in A375 (GCT), one in HT115
(AnnData, two replicate plates)::

    python examples/plate_controls.py --data path/to/lincs_level3_plates
"""

import argparse
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import Study, load_lincs
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.metrics import bootstrap_scores, chance_scores, retrieval_ranks
from sklearn_molge.model_selection import DrugCellLineKFold
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    OracleRetriever,
    TransformedTargetRetriever,
)

BLOCKS = {
    "treated": ("treated",),
    "control, treated": ("control", "treated"),
    "difference": ("difference",),
    "log2 fold change": ("log2_fold_change",),
    "the authors' three": ("control", "treated", "log2_fold_change"),
    "the paper's four": ("control", "treated", "difference", "log2_fold_change"),
}


def load(folder):
    """Return one study of both lines, genes matched by symbol."""
    gct = folder / "CPC006_A375_6H_X1.level3.gct"
    a375 = load_lincs([gct], level=3, metadata=folder / "obs.csv")
    wells = anndata.read_h5ad(folder / "CPC006_HT115_6H_X1_X2.level3.h5ad")
    ht115 = Study.from_anndata(wells, level=3)
    return Study.concat([a375, ht115])


def rank(estimator, study, y, cv):
    """Return the ranks of every test profile, with its line and drug."""
    parts = []
    for train, test in cv.split(study.smiles, groups=study.groups):
        model = clone(estimator).fit(study.smiles[train], y[train])
        drugs = study.groups[test, 0]
        parts.append(
            pd.DataFrame(
                {
                    "rank": retrieval_ranks(model, study.smiles[test], y[test]),
                    "line": study.groups[test, 1],
                    "drug": drugs,
                    "n_candidates": len(np.unique(drugs)),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    study = load(options.data)
    print(study)
    print(study.obs.groupby(["cell_line", "plate"]).size().to_string(), end="\n\n")
    y = study.paired_ge(how="mean")
    cv = DrugCellLineKFold(3, 2, random_state=0)
    oracle_cv = clone(cv).set_params(train="oracle_train_lines")
    rows = []
    for name, blocks in BLOCKS.items():
        profiles = L1000Featurizer(blocks, paired=True)
        methods = {
            "oracle": (OracleRetriever(), oracle_cv),
            "CCA": (CCA(50, correlation_power=1, random_state=0), cv),
            "D-NN": (DoubleNNRetriever(), cv),
        }
        for method, (retriever, splits) in methods.items():
            estimator = TransformedTargetRetriever(retriever, profiles)
            if method != "oracle":  # which knows a drug by its SMILES
                estimator = make_pipeline(MorganFingerprinter(), estimator)
            ranked = rank(estimator, study, y, splits)
            for line, part in ranked.groupby("line"):
                mrr = bootstrap_scores(part["rank"], part["drug"], random_state=0)
                score, low, high = mrr.loc["mrr"]
                rows.append(
                    {
                        "blocks": name,
                        "test line": line,
                        "method": method,
                        "MRR": f"{score:.3f} [{low:.3f}, {high:.3f}]",
                    }
                )
    table = pd.DataFrame(rows).pivot(
        index="blocks", columns=["test line", "method"], values="MRR"
    )
    print(table.loc[list(BLOCKS)].to_string(), end="\n\n")
    for line, part in ranked.groupby("line"):
        chance = chance_scores(part["n_candidates"])
        print(f"chance in {line}: MRR {chance['mrr']:.3f}, {len(part)} queries")


if __name__ == "__main__":
    main()
