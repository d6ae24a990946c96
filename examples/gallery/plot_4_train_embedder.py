"""
Train the two towers and watch them
===================================

A small :class:`~sklearn_molge.alignment.CoordinatedEmbedder`: after each epoch it is
ranked on validation drugs in validation lines, and the best epoch is kept.
"""

# %%
# A part to learn from, a part to watch, a part to test
# -----------------------------------------------------

import matplotlib.pyplot as plt
from skorch.callbacks import EarlyStopping

from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.metrics import chance_scores, mean_reciprocal_rank, retrieval_ranks
from sklearn_molge.model_selection import (
    DrugCellLineShuffleSplit,
    drug_cell_line_split,
)
from sklearn_molge.molecules import MorganFingerprinter

study = make_perturbation_study(
    200, n_cell_lines=6, n_genes=200, level=5, random_state=0
)
split = drug_cell_line_split(
    study.groups,
    val_drugs=0,
    val_cell_lines=0,
    test_drugs=0.3,
    test_cell_lines=2,
    random_state=0,
)
train, test = study[split.train], study[split.test]

# %%
# Train
# -----
#
# No graph network here, so that a CPU does it in seconds: Morgan bits go in. Take
# ``encoder="random"`` or pretrained weights for the D-MPNN.

embedder = CoordinatedEmbedder(
    None,
    molecule_features=MorganFingerprinter(fp_size=1024),
    criterion=InfoNCELoss,
    sampler=DrugBalancedSampler,
    module__embedding_size=32,
    module__expression_layers=(128,),
    module__input_dropout=0.3,
    module__head_input_dropout=0.3,
    train_split=DrugCellLineShuffleSplit(1, test_cell_lines=1, random_state=0),
    callbacks=[
        EarlyStopping("valid_mrr", lower_is_better=False, patience=15, load_best=True)
    ],
    lr=1e-3,
    max_epochs=60,
    random_state=0,
)
embedder.fit(train.smiles, train.ge, groups=train.groups)

# %%
# Watch
# -----

history = embedder.history
epochs = history[:, "epoch"]
best = max(range(len(history)), key=lambda i: history[i, "valid_mrr"])

fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.2), layout="constrained")
left.plot(epochs, history[:, "train_loss"], label="Training")
left.plot(epochs, history[:, "valid_loss"], label="Validation")
left.set(xlabel="Epoch", ylabel="InfoNCE loss")
left.legend()
right.plot(epochs, history[:, "valid_mrr"], color="C1", label="By profile")
right.plot(epochs, history[:, "valid_mrr_drug"], color="C1", ls=":", label="By drug")
right.axvline(epochs[best], color="0.7", label="Best epoch")
right.set(xlabel="Epoch", ylabel="Validation MRR", ylim=(0, None))
right.legend()

# %%
# Test
# ----

ranks = retrieval_ranks(embedder, test.smiles, test.ge)
chance = chance_scores(len(set(test.groups[:, 0])))["mrr"]
print(f"test MRR {mean_reciprocal_rank(ranks):.3f}, chance {chance:.3f}")
