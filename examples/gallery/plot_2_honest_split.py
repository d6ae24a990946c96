"""
What a leaky split is worth
===========================

The same queries, the same candidates, the same number of training rows. All that
differs is what the training rows may share with the queries: nothing, the drug, the
cell line, or both, as in a random split.
"""

# %%
# The queries
# -----------
#
# Unseen drugs in unseen lines, measured at two doses. The queries are the profiles of
# the higher dose; those of the lower one a random split would leave in training.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.metrics import bootstrap_scores, chance_scores, retrieval_ranks
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter

study = make_perturbation_study(
    200, n_cell_lines=6, n_genes=300, level=5, random_state=0
)
split = drug_cell_line_split(
    study.groups,
    val_drugs=0,
    val_cell_lines=0,
    test_drugs=0.3,
    test_cell_lines=2,
    random_state=0,
)
high_dose = study.obs["dose_um"].to_numpy() == 10
queries = split.test[high_dose[split.test]]

# %%
# Four training sets
# ------------------

drugs, lines = study.groups.T
test_drug = np.isin(drugs, drugs[queries])
test_line = np.isin(lines, lines[queries])
is_query = np.isin(np.arange(len(drugs)), queries)
may_share = {
    "nothing (honest)": ~test_drug & ~test_line,
    "the cell line": ~test_drug,
    "the drug": ~test_line,
    "both (random rows)": ~is_query,
}
n_rows = may_share["nothing (honest)"].sum()

# %%
# The scores
# ----------

rng = np.random.RandomState(0)
test = study[queries]
table = {}
for name, allowed in may_share.items():
    rows = rng.choice(np.flatnonzero(allowed), n_rows, replace=False)
    pipe = make_pipeline(MorganFingerprinter(), CCA(50, random_state=0))
    pipe.fit(study.smiles[rows], study.ge[rows])
    ranks = retrieval_ranks(pipe, test.smiles, test.ge)
    scores = bootstrap_scores(ranks, test.groups[:, 0], random_state=0)
    table[name] = scores.loc["mrr"]
    print(f"{name:20}", scores.loc["mrr"].round(3).to_dict())

# %%

chance = chance_scores(len(np.unique(test.groups[:, 0])))["mrr"]
fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
for place, (name, row) in enumerate(table.items()):
    color = "C0" if "honest" in name else "C1"
    ax.plot([row["low"], row["high"]], [place, place], color=color, linewidth=2)
    ax.plot(row["score"], place, "o", color=color, markersize=8)
ax.axvline(chance, color="0.4", linestyle="--", label="Chance")
ax.set(yticks=range(len(table)), yticklabels=list(table), xlim=(0, 1))
ax.set(xlabel="Mean reciprocal rank [95 % interval over drugs]")
ax.set_ylabel("Training and test share")
ax.invert_yaxis()
ax.legend(loc="lower right")

# %%
# Nothing about the method has changed. Knowing the drug is what counts: whoever splits
# at random measures how well a model recognises drugs that it has seen.
