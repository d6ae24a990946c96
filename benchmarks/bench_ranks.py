"""Ranking against the way of the paper's code: cdist, rankdata, a loop."""

import numpy as np
from _timing import compare, peak_mib
from scipy.spatial.distance import cdist
from scipy.stats import mstats

from sklearn_molge.metrics import rank_embeddings

SMOKE = {"queries": 60, "candidates": 20, "large": 100}


def add_arguments(parser):
    parser.add_argument("--queries", type=int, default=5000)
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument(
        "--large", type=int, default=20_000, help="of either, for memory"
    )


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


def run(options):
    data = make(options.queries, options.candidates)
    records = []
    for metric in ("correlation", "euclidean"):
        ours = rank_embeddings(*data, metric=metric)
        theirs = ranks_of_the_paper(*data, metric)
        record = compare(
            f"rank_embeddings, {metric}",
            lambda m=metric: rank_embeddings(*data, metric=m),
            lambda m=metric: ranks_of_the_paper(*data, m),
            options, against="cdist, rankdata, a loop", goal=1 / 30,
            sizes={"queries": options.queries, "candidates": options.candidates},
            equal_ranks=float(np.mean(ours == theirs)),
        )  # fmt: skip
        records.append(record)
    large = make(options.large, options.large)
    memory = peak_mib(lambda: rank_embeddings(*large))
    sizes = {"queries": options.large, "candidates": options.large}
    inputs = sum(array.nbytes for array in large) / 2**20
    records.append(
        {"what": "rank_embeddings, memory", "sizes": sizes, "ours_mib": memory,
         "inputs_mib": inputs}
    )  # fmt: skip
    return records
