"""
Mechanisms of action, and the distance to training
==================================================

Two looks into an aligned space. Do the profiles of drugs with one mechanism of action
lie closer together than before? And are molecules far from the training set found less
easily?
"""

# %%
# A fitted CCA
# ------------

import pandas as pd
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.inspection import (
    LatentMapDisplay,
    RegressionDisplay,
    neighbor_change,
    training_distances,
)
from sklearn_molge.metrics import retrieval_ranks
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter

study = make_perturbation_study(
    300, n_cell_lines=6, n_genes=200, level=5, random_state=0
)
split = drug_cell_line_split(
    study.groups,
    val_drugs=0,
    val_cell_lines=0,
    test_drugs=0.4,
    test_cell_lines=2,
    random_state=0,
)
train, test = study[split.train], study[split.test]
cca = CCA(30, correlation_power=2, random_state=0)
pipe = make_pipeline(MorganFingerprinter(), cca).fit(train.smiles, train.ge)

# %%
# Unseen drugs on a map
# ---------------------
#
# A point is a test drug: its profiles, averaged. Both panels show the same drugs, by
# principal components here (``reducer="umap"`` with umap-learn installed).

drugs = test.groups[:, 0]
moa = test.obs.groupby("drug")["moa"].first()
before = pd.DataFrame(test.ge).groupby(drugs).mean()
after = pd.DataFrame(pipe[-1].transform_ge(test.ge)).groupby(drugs).mean()
LatentMapDisplay.from_embeddings(
    before,
    moa,
    after=after,
    reducer="pca",
    names=("Profiles as they are", "Aligned by CCA"),
    random_state=0,
)

# %%
# A map proves nothing. The share of the five nearest drugs with the same mechanism,
# before and after, does: the alignment has learnt which genes tell about structure.

change = neighbor_change(before, after, moa, random_state=0)
print(change.table.round(3))

# %%
# Distance to the training set
# ----------------------------
#
# A point is a drug: how badly it is found against its distance to the nearest training
# molecule.

ranks = retrieval_ranks(pipe, test.smiles, test.ge)
distances = training_distances(
    train.smiles, train.ge, test.smiles, test.ge, embedder=pipe
)
RegressionDisplay.from_predictions(
    distances["fingerprint"],
    ranks,
    drugs,
    xlabel="Tanimoto distance to the nearest training molecule",
    n_candidates=len(set(drugs)),
    random_state=0,
)

# %%
# In this simulation the distance hardly matters: the interval of the slope holds 0.
