"""
Searching a library
===================

A library of molecules without profiles is embedded once. Then a profile, a list of
genes, or several profiles of one condition are the query.
"""

# %%
# A study and a library
# ---------------------
#
# The pipeline is trained on half of the simulated drugs. The library holds all of them,
# and what every library holds: a row without a structure, and a salt of another row.

import numpy as np
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.expression import profile_from_genes
from sklearn_molge.library import MoleculeIndex, MoleculeQueryDisplay
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter

study = make_perturbation_study(150, n_cell_lines=6, level=5, random_state=0)
split = drug_cell_line_split(
    study.groups,
    val_drugs=0,
    val_cell_lines=0,
    test_drugs=0.5,
    test_cell_lines=2,
    random_state=0,
)
train, test = study[split.train], study[split.test]
pipe = make_pipeline(MorganFingerprinter(), CCA(n_components=50, random_state=0))
pipe.fit(train.smiles, train.ge)

smiles, first = np.unique(study.smiles, return_index=True)
library = [*smiles, "restricted", f"{smiles[0]}.Cl"]
names = [*study.obs["pert_id"].iloc[first], "withheld", "a salt"]
index = MoleculeIndex(pipe).fit(library, names=names)
print(index.skipped_)

# %%
# A profile is a query
# --------------------
#
# The answer says how near each molecule is, how unusual that is for this molecule, and
# how near the training set comes: that needs the training set.

index.calibrate(train.smiles, train.ge)
ranks = index.rank(test.ge, test.smiles)
print(f"Median rank {np.median(ranks):.0f} among {index.n_molecules_} molecules")
query = int(np.argsort(ranks)[len(ranks) // 4])
answer = index.query(test.ge[[query]], 10)
answer[["rank", "name", "score", "percentile", "nearest_similarity", "in_training"]]

# %%
# The same as a picture. The true molecule of this query has the first quartile of the
# ranks.

MoleculeQueryDisplay.from_table(
    answer, title=f"The true molecule has rank {ranks[query]:.0f}"
)

# %%
# Genes, and several profiles together
# ------------------------------------
#
# Fifty genes up and fifty down say less than a profile; the profiles of a drug in
# several cell lines say more.

order = np.argsort(test.ge[query])
ids = test.genes["gene_id"].to_numpy()
genes = profile_from_genes(test.genes, up=ids[order[-50:]], down=ids[order[:50]])
print(genes)
by_genes = index.rank(genes, test.smiles[query])[0]
print(f"Rank by the profile {ranks[query]:.0f}, by genes {by_genes:.0f}")

drugs = test.groups[:, 0]
_, one_of_each = np.unique(drugs, return_index=True)
together = index.rank(test.ge, test.smiles[one_of_each], groups=drugs)
print(f"Median rank: one profile {np.median(ranks):.0f}, all of a drug "
      f"{np.median(together):.0f}")  # fmt: skip
