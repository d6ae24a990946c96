"""
Chance, ceiling and intervals
=============================

A score says little alone. Beside it belong what a random ranking has, what an oracle
reaches that has seen the test drugs' own profiles, and an interval over drugs.
"""

# %%
# Methods and oracles
# -------------------
#
# The oracles rank the same queries, but may look at the drugs' profiles in the training
# lines, or in the test lines without the query itself.

import matplotlib.pyplot as plt
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.metrics import (
    bootstrap_scores,
    chance_scores,
    paired_comparison,
    retrieval_ranks,
)
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import DoubleNNRetriever, OracleRetriever, RandomRetriever

study = make_perturbation_study(
    200, n_cell_lines=6, n_genes=300, level=5, random_state=1
)
split = drug_cell_line_split(
    study.groups,
    val_drugs=0,
    val_cell_lines=0,
    test_drugs=0.35,
    test_cell_lines=2,
    random_state=0,
)
test = study[split.test]
drugs = test.groups[:, 0]
morgan = MorganFingerprinter()
methods = {
    "random": (RandomRetriever(random_state=0), split.train),
    "nearest neighbours": (make_pipeline(morgan, DoubleNNRetriever()), split.train),
    "CCA": (make_pipeline(morgan, CCA(50, random_state=0)), split.train),
    "oracle, training lines": (OracleRetriever(), split.oracle_train_lines),
    "oracle, test lines": (OracleRetriever(), split.test),
}
ranks = {}
for name, (estimator, rows) in methods.items():
    estimator.fit(study.smiles[rows], study.ge[rows])
    ranks[name] = retrieval_ranks(estimator, test.smiles, test.ge)

# %%
# The picture
# -----------

chance = chance_scores(len(set(drugs)))
fig, axes = plt.subplots(1, 2, figsize=(8.4, 3.2), sharey=True, layout="constrained")
for place, name in enumerate(ranks):
    scores = bootstrap_scores(ranks[name], drugs, random_state=0)
    for ax, key in zip(axes, ("mrr", "hits@10"), strict=True):
        row = scores.loc[key]
        color = "C2" if name.startswith("oracle") else "C0"
        ax.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2)
        ax.plot(row["score"], place, "o", color=color, markersize=8)
for ax, key in zip(axes, ("mrr", "hits@10"), strict=True):
    ax.axvline(chance[key], color="0.4", linestyle="--", label="Chance")
    ax.set(xlim=(0, 1), yticks=range(len(ranks)), yticklabels=list(ranks))
axes[0].set_xlabel("Mean reciprocal rank")
axes[1].set_xlabel("True molecule among the first 10")
axes[0].invert_yaxis()
axes[0].legend(loc="upper right")

# %%
# Is CCA better than the (double) nearest neighbours? Two intervals do not say; a
# comparison on the same drugs does.

print(
    paired_comparison(ranks["CCA"], ranks["nearest neighbours"], drugs, random_state=0)
)
