"""Ranking against the way of the paper's code: cdist, rankdata, a loop.

OMP_NUM_THREADS=1 python benchmarks/bench_ranks.py
"""

import argparse

import numpy as np
from _timing import compare, describe_machine, peak_mib, report
from scipy.spatial.distance import cdist
from scipy.stats import mstats

from sklearn_molge.metrics import rank_embeddings


def ranks_of_the_paper(queries, gallery, match, metric):
    """Rank the whole distance matrix, then look each match up (5.1 of its appendix)."""
    ranked = mstats.rankdata(cdist(queries, gallery, metric), axis=1)
    return np.array([ranked[i, j] for i, j in enumerate(match)])


def make(n_queries, n_candidates, n_features=128):
    rng = np.random.default_rng(0)
    gallery = rng.normal(size=(n_candidates, n_features)).astype(np.float32)
    match = rng.integers(0, n_candidates, n_queries)
    noise = rng.normal(scale=3, size=(n_queries, n_features))
    return (gallery[match] + noise).astype(np.float32), gallery, match


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--large", type=int, default=20_000)
    options = parser.parse_args()
    describe_machine()
    data = make(options.queries, options.candidates)
    for metric in ("correlation", "euclidean"):
        ours = rank_embeddings(*data, metric=metric)
        theirs = ranks_of_the_paper(*data, metric)
        agree = np.mean(ours == theirs)
        times = compare(
            lambda m=metric: rank_embeddings(*data, metric=m),
            lambda m=metric: ranks_of_the_paper(*data, m),
            repeats=options.repeats,
        )
        report(
            f"{metric}, {options.queries} x {options.candidates}", *times, goal="1/30"
        )
        print(
            f"  equal ranks {agree:.4%}, largest difference "
            f"{np.abs(ours - theirs).max():g}"
        )
    ours = peak_mib(lambda: rank_embeddings(*data))
    theirs = peak_mib(lambda: ranks_of_the_paper(*data, "correlation"))
    print(f"  extra memory: ours {ours:.1f} MiB, peer {theirs:.1f} MiB")
    large = make(options.large, options.large)
    inputs = sum(a.nbytes for a in large) / 2**20
    print(
        f"{options.large} x {options.large}: extra memory of ours "
        f"{peak_mib(lambda: rank_embeddings(*large)):.1f} MiB (goal at most 64) beside "
        f"inputs of {inputs:.1f} MiB"
    )


if __name__ == "__main__":
    main()
