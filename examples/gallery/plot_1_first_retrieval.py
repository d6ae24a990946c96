"""
A first retrieval, by CCA
=========================

A profile is a query, and the answer is a ranking of molecules. Here canonical
correlation analysis brings Morgan fingerprints and profiles into one space.
"""

# %%
# A study
# -------
#
# 150 simulated molecules, measured in six cell lines: one row a profile. With real data
# the study comes from :func:`~sklearn_molge.datasets.load_lincs`.

import matplotlib.pyplot as plt
import numpy as np
from rdkit import Chem
from rdkit.Chem import Draw
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.expression import L1000Featurizer
from sklearn_molge.metrics import RetrievalCurveDisplay, retrieval_ranks, similarity
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import TransformedTargetRetriever

study = make_perturbation_study(150, n_cell_lines=6, level=5, random_state=0)
split = drug_cell_line_split(
    study.groups,
    val_drugs=0,
    val_cell_lines=0,
    test_drugs=0.3,
    test_cell_lines=2,
    random_state=0,
)
train, test = study[split.train], study[split.test]
print(train)
print(test)

# %%
# Fit and rank
# ------------
#
# The test drugs and the test lines were never seen in training.

pipe = make_pipeline(
    MorganFingerprinter(),
    TransformedTargetRetriever(
        CCA(n_components=50, random_state=0), transformer=L1000Featurizer()
    ),
)
pipe.fit(train.smiles, train.ge)
ranks = retrieval_ranks(pipe, test.smiles, test.ge)
drugs = test.groups[:, 0]

display = RetrievalCurveDisplay.from_predictions(
    ranks, len(set(drugs)), drugs=drugs, name="CCA", random_state=0
)
display.ax_.set_title("Unseen drugs in unseen cell lines")

# %%
# The curve is the share of the queries whose true molecule is among the first k. The
# band is a 95 % interval over drugs, the dashed line a random ranking.
#
# The answer to one query
# -----------------------
#
# Similarities rank any molecules, here the test drugs for a profile of median rank.

query = int(np.argsort(ranks)[len(ranks) // 2])
library = np.unique(test.smiles)
scores = similarity(pipe, library, test.ge[[query]])[0]
best = np.argsort(scores)[::-1][:6]
legends = [
    f"{place}: {scores[i]:.2f}" + " (true)" * (library[i] == test.smiles[query])
    for place, i in enumerate(best, start=1)
]
grid = Draw.MolsToGridImage(
    [Chem.MolFromSmiles(library[i]) for i in best],
    molsPerRow=3,
    subImgSize=(260, 180),
    legends=legends,
    returnPNG=False,
)


fig, ax = plt.subplots(figsize=(7.8, 3.8))
ax.imshow(grid)
ax.axis("off")
ax.set_title("The first six molecules for one profile, with their similarity")
fig.tight_layout()

# %%
# The first ones share building blocks, as molecules of one simulated mechanism do.
