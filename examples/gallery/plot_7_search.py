"""
Search hyper-parameters with hyperopt
=====================================

:class:`~sklearn_molge.model_selection.HyperoptSearchCV` is an ordinary scikit-learn
search whose trials learn from those before. Here it tunes a whole Pipeline, fingerprint
and CCA together, on splits without a shared drug.
"""

# %%
# The space
# ---------
#
# Lists are choices; hyperopt's expressions are ranges. Names are those of
# ``set_params``.

import matplotlib.pyplot as plt
import numpy as np
from hyperopt import hp
from sklearn.pipeline import Pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.inspection import ParameterScoreDisplay
from sklearn_molge.metrics import RetrievalScorer
from sklearn_molge.model_selection import DrugCellLineKFold, HyperoptSearchCV
from sklearn_molge.molecules import MorganFingerprinter

study = make_perturbation_study(
    100, n_cell_lines=4, n_genes=100, level=5, random_state=0
)
pipe = Pipeline([("fp", MorganFingerprinter()), ("cca", CCA())])
space = {
    "fp__radius": [1, 2, 3],
    "fp__count": [False, True],
    "cca__n_components": hp.uniformint("n_components", 5, 45),
    "cca__ridge": hp.loguniform("ridge", np.log(1e-3), np.log(30)),
}

# %%
# Search
# ------

search = HyperoptSearchCV(
    pipe,
    space,
    n_iter=20,
    n_initial_points=8,
    scoring=RetrievalScorer(),
    refit="mrr",
    cv=DrugCellLineKFold(2, 2, random_state=0),
    random_state=0,
)
search.fit(study.smiles, study.ge, groups=study.groups)
for name, value in search.best_params_.items():
    print(f"{name:18} {value}")

# %%
# The trials
# ----------
#
# In so small a study many settings are equally good, and the best was met early.

scores = np.asarray(search.cv_results_["mean_test_mrr"], dtype=float)
trials = np.arange(1, len(scores) + 1)
fig, ax = plt.subplots(figsize=(6.4, 3.4), layout="constrained")
ax.axvspan(0.5, 8.5, color="0.92", label="Random points")
ax.plot(trials, scores, "o", label="Trial")
ax.plot(trials, np.maximum.accumulate(scores), color="C1", label="Best so far")
ax.set(xlabel="Trial", ylabel="Mean reciprocal rank", xlim=(0.5, len(scores) + 0.5))
ax.xaxis.get_major_locator().set_params(integer=True)
ax.legend(loc="lower right")

# %%
# Each parameter against the score
# --------------------------------

ParameterScoreDisplay.from_search(search)
