"""
Recall curves of several methods
================================

How many molecules must be tested to find the true one? Read recall at the number that
you can afford.
"""

# %%
# Three methods, and their vote
# -----------------------------

import matplotlib.pyplot as plt
from sklearn.pipeline import make_pipeline, make_union

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.metrics import RetrievalCurveDisplay, retrieval_ranks
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MoleculeFingerprinter, MorganFingerprinter
from sklearn_molge.retrieval import DoubleNNRetriever, VotingRetriever

study = make_perturbation_study(
    200, n_cell_lines=6, n_genes=300, level=5, random_state=2
)
split = drug_cell_line_split(
    study.groups,
    val_drugs=0,
    val_cell_lines=0,
    test_drugs=0.35,
    test_cell_lines=2,
    random_state=0,
)
train, test = study[split.train], study[split.test]
drugs = test.groups[:, 0]

morgan = MorganFingerprinter()
joined = make_union(morgan, MoleculeFingerprinter("atom_pair"))
nearest = make_pipeline(morgan, DoubleNNRetriever())
cca = make_pipeline(morgan, CCA(50, random_state=0))
cca_joined = make_pipeline(joined, CCA(50, correlation_power=1, random_state=0))
methods = {
    "D-NN": nearest,
    "CCA": cca,
    "CCA, joined features": cca_joined,
    "Vote": VotingRetriever([("one", cca), ("two", cca_joined)]),
}
ranks = {
    name: retrieval_ranks(method.fit(train.smiles, train.ge), test.smiles, test.ge)
    for name, method in methods.items()
}

# %%
# Recall at k
# -----------

fig, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
for name in ranks:
    RetrievalCurveDisplay.from_predictions(
        ranks[name], len(set(drugs)), name=name, ax=ax
    )
ax.set_title("Which share of the queries is answered by k molecules?")

# %%
# Precision and recall
# --------------------
#
# With one true molecule a query, precision is recall divided by k.

display = RetrievalCurveDisplay.from_predictions(
    ranks["CCA, joined features"],
    len(set(drugs)),
    drugs=drugs,
    kind="precision_recall",
    name="CCA, joined features",
    random_state=0,
)
