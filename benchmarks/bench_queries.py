"""What a query may be made of: several profiles, gene sets, ranked lists.

On real data, whose test molecules and cell lines were never seen, it compares ways to
combine the profiles of one drug over cell lines; up and down genes and ranked lists
with whole profiles; scores with calibrated percentiles; and the lowest similarities
with a search by the negated profile. The draws are those of ``bench_quality.py``::

    python benchmarks/bench_queries.py path/to/lincs_folder
"""

import argparse

import numpy as np
import pandas as pd
from scipy.stats import rankdata, spearmanr
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_molge._utils.rows import group_means
from sklearn_molge._utils.views import resolve_views
from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import load_lincs
from sklearn_molge.expression import consensus_signatures, profile_from_genes
from sklearn_molge.metrics import (
    bootstrap_scores,
    chance_scores,
    paired_comparison,
    pairwise_similarity,
)
from sklearn_molge.model_selection import DrugCellLineShuffleSplit
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import recommended_pipeline

SEED = 0
SET_SIZES = (10, 50, 100, 150)
BEST, PLAIN = "recommended", "CCA, Morgan, weighted"
MODELS = {
    BEST: recommended_pipeline(model="linear", random_state=SEED),
    PLAIN: make_pipeline(
        MorganFingerprinter(), CCA(50, correlation_power=1, random_state=SEED)
    ),
}
SINGLE = "each profile, averaged over its drug"
WHOLE = "whole profile"


class Draw:
    """A fitted model with one draw's test profiles and their gallery."""

    def __init__(self, study, train, test, name):
        X, y, drugs = study.smiles, study.ge, study.groups[:, 0]
        self.genes = study.genes
        self.model = clone(MODELS[name]).fit(X[train], y[train])
        self.train, self.test, self.drugs = y[train], y[test], drugs[test]
        _, first, self.match = np.unique(
            self.drugs, return_index=True, return_inverse=True
        )
        self.gallery = self.embed_molecules(X[test][first])
        self.library = self.embed_molecules(X[np.unique(drugs, return_index=True)[1]])

    def embed_molecules(self, smiles):
        """Project molecules into the joint space."""
        inner, molecules, _ = resolve_views(self.model, smiles, None)
        return inner.transform(molecules)

    def embed(self, profiles):
        """Project profiles into the joint space."""
        inner, _, profiles = resolve_views(self.model, None, profiles)
        return inner.transform_ge(profiles)

    def compare(self, profiles):
        """Return similarities of profiles with the gallery."""
        return pairwise_similarity(self.embed(profiles), self.gallery)


def mid_ranks(scores, match):
    """Rank of the column `match` of each row."""
    return rankdata(-scores, axis=1)[np.arange(len(match)), match]


def signatures(draw, how):
    """Combine the profiles of each drug before they are embedded."""
    made = consensus_signatures(draw.test, draw.match, how=how)
    return draw.embed(made.signatures[np.argsort(made.groups.astype(int))])


def by_drug(function, values, groups):
    return np.array([function(values[groups == g]) for g in np.unique(groups)])


def combined_ranks(draw):
    """Rank each drug of a draw by its profiles in several lines, in several ways."""
    groups, own = draw.match, np.arange(len(draw.gallery))
    embedded, scores = draw.embed(draw.test), draw.compare(draw.test)
    harmonic = by_drug(lambda r: 1 / np.mean(1 / r), mid_ranks(scores, groups), groups)
    places = rankdata(-scores, axis=1)
    joint = {
        "mean in the joint space": group_means(
            embedded, np.unique(groups, return_inverse=True)[1]
        ),
        "mean of the profiles": signatures(draw, "mean"),
        "MODZ of the profiles": signatures(draw, "modz"),
    }
    joint = {k: pairwise_similarity(v, draw.gallery) for k, v in joint.items()}
    joint |= {
        "mean similarity": by_drug(lambda s: s.mean(axis=0), scores, groups),
        "67 % quantile of the similarities": by_drug(
            lambda s: np.quantile(s, 0.67, axis=0), scores, groups
        ),
        "best of the similarities": by_drug(lambda s: s.max(axis=0), scores, groups),
        "mean rank": by_drug(lambda r: -r.mean(axis=0), places, groups),
        "best rank": by_drug(lambda r: -r.min(axis=0), places, groups),
    }
    return {SINGLE: harmonic} | {k: mid_ranks(v, own) for k, v in joint.items()}


def gene_profiles(draw, size=None, scale="auto", values=False):
    """Make each test profile again of some of its genes, or of their order."""
    ids = draw.genes["gene_id"].to_numpy()
    rows = []
    for profile in draw.test:
        order = np.argsort(-profile, kind="stable")
        if size is None:
            asked = {"ranked": ids[order]}
        elif values:
            some = np.r_[order[:size], order[-size:]]
            asked = {"values": pd.Series(profile[some], index=ids[some])}
        else:
            asked = {"up": ids[order[:size]], "down": ids[order[-size:]]}
        rows.append(profile_from_genes(draw.genes, **asked, scale=scale).profile)
    return np.concatenate(rows)


def gene_set_ranks(draw):
    """Rank the test molecules by up and down genes, and by lists, of the profiles."""
    queries = {WHOLE: draw.test, "ranked list": gene_profiles(draw)}
    for size in SET_SIZES:
        queries[f"{size} up, {size} down"] = gene_profiles(draw, size)
    queries["values of 50 up, 50 down"] = gene_profiles(draw, 50, values=True)
    return {k: mid_ranks(draw.compare(v), draw.match) for k, v in queries.items()}


def scale_ranks(draw):
    """Rank by up and down genes at several scales."""
    queries = {WHOLE: draw.test, "ranked list": gene_profiles(draw)}
    for size in (10, 50, 150):
        for scale in (1.0, 2.0, 5.0, "auto"):
            name = f"{size} up, {size} down at {scale}"
            queries[name] = gene_profiles(draw, size, scale)
    return {k: mid_ranks(draw.compare(v), draw.match) for k, v in queries.items()}


def calibrated_ranks(draw):
    """Rank by scores, by their percentiles and by z-scores of each molecule."""
    scores, known = draw.compare(draw.test), draw.compare(draw.train)
    percentiles = np.empty_like(scores)
    for j, column in enumerate(np.sort(known.T, axis=1)):
        below, not_above = (
            np.searchsorted(column, scores[:, j], side) for side in ("left", "right")
        )
        percentiles[:, j] = 50 * (below + not_above) / len(column)
    tables = {
        "score": scores,
        "percentile": percentiles,
        "z-score": (scores - known.mean(axis=0)) / known.std(axis=0),
    }
    return {k: mid_ranks(v, draw.match) for k, v in tables.items()}


def reversal_ranks(draw):
    """Look for the drug that reverses a state: the state is its negated profile."""
    ways = {
        "profile, negated twice: highest": draw.compare(draw.test),
        "negated profile: lowest": -draw.compare(-draw.test),
    }
    return {k: mid_ranks(v, draw.match) for k, v in ways.items()}


def reversal_agreement(draw):
    """Compare the lowest similarities with the highest to the negated profile."""
    low = -pairwise_similarity(draw.embed(draw.test), draw.library)
    high = pairwise_similarity(draw.embed(-draw.test), draw.library)
    top = [np.argsort(-s, axis=1, kind="stable")[:, :10] for s in (low, high)]
    shared = [len(np.intersect1d(a, b)) / 10 for a, b in zip(*top, strict=True)]
    rho = [spearmanr(a, b).statistic for a, b in zip(low, high, strict=True)]
    return pd.DataFrame({"shared of the first 10": shared, "rank correlation": rho})


def report(title, parts, drugs, sizes, baseline):
    """Print MRR with intervals over drugs, and the difference from a baseline."""
    ranks = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    chance = chance_scores(sizes, k=(10,))
    print(f"\n{title}: {len(drugs)} queries, chance MRR {chance['mrr']:.3f}")
    print("| query | MRR | difference |\n|---|---|---|")
    for name, values in ranks.items():
        s = bootstrap_scores(values, drugs, random_state=SEED).loc["mrr"]
        gain = paired_comparison(values, ranks[baseline], drugs, random_state=SEED)
        print(f"| {name} | {s['score']:.3f} [{s['low']:.3f}, {s['high']:.3f}] | "
              f"{gain.difference:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}] |",
              flush=True)  # fmt: skip


def report_combined(draws):
    parts = [combined_ranks(draw) for draw in draws]
    drugs = np.concatenate([np.unique(draw.drugs) for draw in draws])
    n_lines = np.concatenate([np.bincount(draw.match) for draw in draws])
    sizes = np.concatenate([np.full(len(d.gallery), len(d.gallery)) for d in draws])
    report("One query a drug", parts, drugs, sizes, SINGLE)
    for least in (2, 4):
        some = n_lines >= least
        kept = [{k: np.concatenate([p[k] for p in parts])[some] for k in parts[0]}]
        title = f"Drugs in {least} unseen lines or more"
        report(title, kept, drugs[some], sizes[some], SINGLE)


def main():
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data")
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    study = load_lincs(options.data, level=5)
    cv = DrugCellLineShuffleSplit(
        options.draws, test_drugs=0.35, test_cell_lines=0.25, random_state=SEED
    )
    splits = list(cv.split(study.smiles, groups=study.groups))
    draws = [Draw(study, *split, BEST) for split in splits]
    drugs = np.concatenate([draw.drugs for draw in draws])
    sizes = np.concatenate([np.full(len(d.match), len(d.gallery)) for d in draws])
    report_combined(draws)
    report("Genes", [gene_set_ranks(d) for d in draws], drugs, sizes, WHOLE)
    calibrated = [calibrated_ranks(draw) for draw in draws]
    report("Calibration by training profiles", calibrated, drugs, sizes, "score")
    plain = [Draw(study, *split, PLAIN) for split in splits]
    title = "Genes, where the scale of a profile counts"
    report(title, [scale_ranks(draw) for draw in plain], drugs, sizes, WHOLE)
    for name, some in ((BEST, draws), (PLAIN, plain)):
        parts = [reversal_ranks(draw) for draw in some]
        report(f"Reversal, {name}", parts, drugs, sizes, next(iter(parts[0])))
        told = pd.concat([reversal_agreement(draw) for draw in some])
        n_molecules = len(some[0].library)
        print(f"\nLowest similarities and the negated profile, {n_molecules} molecules")
        print(told.describe().loc[["mean", "25%", "50%", "75%"]].round(2).to_string())


if __name__ == "__main__":
    main()
