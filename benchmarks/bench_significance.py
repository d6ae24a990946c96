"""How many queries are called better than noise, of real ones and of noise.

Two pipelines are fitted on real profiles of some drugs; the queries are 200 profiles of
other drugs, gene lists of these, and noise of three kinds: N(0, 1), random gene lists,
and normal noise with the covariance of the training profiles, which permuted genes do
not have::

    python benchmarks/bench_significance.py path/to/lincs_folder
"""

import argparse
import time
from pathlib import Path

import numpy as np
from scipy.stats import binomtest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import load_lincs
from sklearn_molge.expression import L1000Featurizer, profile_from_genes
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import TransformedTargetRetriever, recommended_pipeline

N_QUERIES = 200
N_GENES = 50  # up, and as many down
RECOMMENDED = "recommended"


def pipelines():
    """Return the one of the README, and the recommended one."""
    cca = TransformedTargetRetriever(CCA(50), transformer=L1000Featurizer())
    return {
        "README: Morgan, CCA(50)": make_pipeline(MorganFingerprinter(), cca),
        RECOMMENDED: recommended_pipeline(model="linear", random_state=0),
    }


def gene_list(genes, up, down):
    """Return the profile of up and down genes, given by their places."""
    ids = genes["gene_id"].to_numpy()
    return profile_from_genes(genes, up=ids[up], down=ids[down]).profile[0]


def make_queries(study, train, test, rng):
    """Return 200 queries of each kind, by name."""
    n_genes, genes = study.ge.shape[1], study.genes
    real = study.ge[rng.permutation(test)[:N_QUERIES]]
    orders = [np.argsort(-profile, kind="stable") for profile in real]
    draws = [rng.permutation(n_genes) for _ in range(N_QUERIES)]
    centred = study.ge[train] - study.ge[train].mean(axis=0)
    weights = rng.normal(size=(N_QUERIES, len(train))) / np.sqrt(len(train))
    return {
        "profiles of held-out drugs": real,
        "their 50 up and 50 down genes": np.array(
            [gene_list(genes, o[:N_GENES], o[-N_GENES:]) for o in orders]
        ),
        "noise, N(0, 1)": rng.normal(size=real.shape),
        "random lists, 50 up and 50 down": np.array(
            [gene_list(genes, d[:N_GENES], d[-N_GENES:]) for d in draws]
        ),
        "noise with the profiles' covariance": weights @ centred,
    }


def report(index, queries, **options):
    """Print how many queries of each kind are called, and how long one takes."""
    print("| queries | p <= 0.05 | better than noise, FDR 5 % | ms a query |")
    print("|---|---|---|---|")
    for name, profiles in queries.items():
        begin = time.perf_counter()
        table = index.significance(profiles, **options)
        took = 1000 * (time.perf_counter() - begin) / len(profiles)
        n_called = int(table["better_than_noise"].sum())
        low, high = binomtest(n_called, len(table)).proportion_ci()
        share = (table["p_value"] <= 0.05).mean()
        print(f"| {name} | {share:.3f} | {n_called} of {len(table)} "
              f"[{low:.3f}, {high:.3f}] | {took:.0f} |", flush=True)  # fmt: skip
    together = np.concatenate(list(queries.values()))
    called = index.significance(together, **options)["better_than_noise"].to_numpy()
    counts = called.reshape(len(queries), -1).sum(axis=1)
    print("all in one call:", dict(zip(queries, counts.tolist(), strict=True)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--permutations", type=int, default=999)
    options = parser.parse_args()
    study = load_lincs(options.folder, level=5)
    rng = np.random.default_rng(0)
    drugs = study.groups[:, 0]
    held_out = np.isin(drugs, rng.permutation(np.unique(drugs))[:N_QUERIES])
    train, test = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    queries = make_queries(study, train, test, rng)
    for name, pipe in pipelines().items():
        pipe.fit(study.smiles[train], study.ge[train])
        index = MoleculeIndex(pipe).fit(study.smiles)
        print(f"\n{name}; a library of {index.n_molecules_:,} molecules")
        report(index, queries, n_permutations=options.permutations)


if __name__ == "__main__":
    main()
