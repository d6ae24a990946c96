"""How often the best of a library are among the candidates that are scored again.

On a real library, retrievers that no single joint space answers: a vote with a D-NN
in it, a D-NN whose candidates an embedder finds, and a vote of embedders, which one
product answers. The truth is the retriever's similarity with all molecules; the queries
are held-out profiles of drugs and cell lines that were not trained on::

    python benchmarks/bench_rerank.py path/to/lincs_folder compoundinfo.txt.gz
"""

import argparse
import time
from pathlib import Path

import numpy as np
import pandas as pd
from _timing import describe_machine
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import load_lincs
from sklearn_molge.library import MoleculeFile, MoleculeIndex
from sklearn_molge.metrics import similarity
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    PredictedProfileRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)

SEED, K = 0, 10


def retrievers():
    """Return retrievers by name, and an embedder for those that have no space."""
    unit = Normalizer()
    cca = CCA(50, correlation_power=1, random_state=SEED)
    cca = make_pipeline(MorganFingerprinter(), TransformedTargetRetriever(cca, unit))
    ridge = make_pipeline(MorganFingerprinter(), Ridge(100.0))
    ridge = TransformedTargetRetriever(PredictedProfileRetriever(ridge), unit)
    d_nn = make_pipeline(MorganFingerprinter(), DoubleNNRetriever())
    named = {"cca": cca, "ridge": ridge, "d_nn": d_nn}
    votes = {
        "vote of CCA and ridge": ("cca", "ridge"),
        "vote of CCA, ridge and D-NN": ("cca", "ridge", "d_nn"),
    }
    made = {
        name: VotingRetriever([(each, named[each]) for each in members])
        for name, members in votes.items()
    }
    return {**made, "D-NN, candidates by CCA": d_nn}, cca


def recall(found, truth):
    """Share of the true best that is among those found, of each query."""
    both = zip(found, truth, strict=True)
    return np.array([len(set(a) & set(b)) / len(b) for a, b in both])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", help="folder of level 5")
    parser.add_argument("library", type=Path)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--molecules", type=int, help="of the library; all by default")
    options = parser.parse_args()
    describe_machine("rdkit")
    study = load_lincs(options.data, level=5)
    split = drug_cell_line_split(
        study.groups, val_drugs=0, val_cell_lines=0, test_drugs=0.2,
        test_cell_lines=0.25, random_state=SEED,
    )  # fmt: skip
    train, test = study[split.train], study[split.test]
    rng = np.random.default_rng(SEED)
    asked = test.ge[rng.permutation(len(test.ge))[: options.queries]]
    estimators, embedder = retrievers()
    embedder.fit(train.smiles, train.ge)
    every = MoleculeIndex(embedder, progress=False).fit(MoleculeFile(options.library))
    smiles = every.get_molecules()["smiles"].to_numpy()
    if options.molecules:
        smiles = smiles[rng.permutation(len(smiles))[: options.molecules]]
    for name, estimator in estimators.items():
        estimator.fit(train.smiles, train.ge)
        by = embedder if "by CCA" in name else None
        index = MoleculeIndex(estimator, candidates_by=by, progress=False).fit(smiles)
        texts = index.get_molecules()["smiles"].to_numpy()
        truth = similarity(estimator, texts, asked)
        best = np.argsort(-truth, axis=1, kind="stable")[:, :K]
        rows = {}
        for n_candidates in (100, 300, 1000, 3000):
            index.set_params(n_candidates=n_candidates)
            start = time.perf_counter()
            found = index.kneighbors(asked, K, return_distance=False)
            seconds = (time.perf_counter() - start) / len(asked)
            # A tie at the end may fall either way: by the scores, not by the rows.
            scores = np.take_along_axis(truth, found, axis=1)
            last = np.take_along_axis(truth, best[:, -1:], axis=1)
            share = (scores >= last - 1e-9 * np.abs(last)).mean(axis=1)
            rows[n_candidates] = {
                f"recall at {K}": recall(found, best).mean(),
                "counting ties": share.mean(),
                "first is the first": (scores[:, 0] >= truth.max(axis=1)).mean(),
                "s a query": seconds,
            }
            if not index.reranks_:
                break
        kind = "re-ranked" if index.reranks_ else "one product, no candidates"
        print(
            f"\n{name}: {kind}; {index.n_molecules_:,} molecules, {len(asked)} queries"
        )
        print(pd.DataFrame(rows).T.rename_axis("n_candidates").round(3).to_string())


if __name__ == "__main__":
    main()
