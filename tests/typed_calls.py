"""Calls as a type checker sees them: `test_types.py` runs mypy on this file.

A call with ``type: ignore`` is wrong; mypy reports an ignore that hides no error.
"""

from typing import assert_type

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge.alignment import (
    CCA,
    GaussianProcessRetriever,
    TwoTower,
)
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.datasets import (
    Study,
    load_lincs,
    make_perturbation_study,
    read_de_table,
)
from sklearn_molge.evaluation import audit_split, draw_split, evaluate_study
from sklearn_molge.expression import (
    L1000Featurizer,
    SourceScaler,
    profile_from_genes,
)
from sklearn_molge.inspection import performance_regression
from sklearn_molge.library import MoleculeFile, MoleculeIndex
from sklearn_molge.metrics import (
    RetrievalCurveDisplay,
    RetrievalScorer,
    pairwise_similarity,
    retrieval_ranks,
)
from sklearn_molge.model_selection import (
    DrugCellLineKFold,
    DrugCellLineSplit,
    HyperoptSearchCV,
    cross_val_ranks,
    drug_cell_line_split,
)
from sklearn_molge.molecules import MorganFingerprinter, drug_ids
from sklearn_molge.retrieval import (
    ConformalRetriever,
    ConnectivityRetriever,
    EvidenceRetriever,
    PredictedProfileRetriever,
    VotingRetriever,
    recommended_ensemble,
    recommended_pipeline,
)

# Functions keep their parameters, and say what they return.
study = assert_type(load_lincs("folder", level=5), Study)
load_lincs("folder", levle=5)  # type: ignore[call-arg]
load_lincs("folder", level="five")  # type: ignore[arg-type]
load_lincs()  # type: ignore[call-arg]
assert_type(make_perturbation_study(30, random_state=0), Study)
make_perturbation_study(30, n_lines=3)  # type: ignore[call-arg]
print(study.mols)  # type: ignore[attr-defined]
assert_type(study.take(np.arange(3)), Study)
read_de_table("results.csv", genes_column="symbol")  # type: ignore[call-arg]
profile_from_genes(study.ge, upp=["A"])  # type: ignore[call-arg]

assert_type(drug_ids(["CCO"]), NDArray[np.object_])
drug_ids(["CCO"], stereo_bonds=True)  # type: ignore[call-arg]

split = assert_type(draw_split(study.groups, random_state=0), DrugCellLineSplit)
draw_split(study.groups, test_drugs=0.3, hold_out="drugs")
draw_split(study.groups, tset_drugs=0.3)  # type: ignore[call-arg]
draw_split(study.groups, hold_out=1)  # type: ignore[arg-type]
print(split.tset)  # type: ignore[attr-defined]
drug_cell_line_split(study.groups, test_drug=3)  # type: ignore[call-arg]
assert_type(cross_val_ranks(CCA(), study.smiles, study.ge), pd.DataFrame)
cross_val_ranks(CCA(), study.smiles, study.ge, fold=3)  # type: ignore[call-arg]

ranks = retrieval_ranks(CCA(), study.smiles, study.ge)
print(ranks.median_rank)  # type: ignore[attr-defined]
retrieval_ranks(CCA(), study.smiles)  # type: ignore[call-arg]
pairwise_similarity([[1.0]], [[1.0]], metric=1)  # type: ignore[arg-type]
performance_regression(ranks, ranks, log=True)  # type: ignore[call-arg]
RetrievalCurveDisplay.from_predictions(ranks, knd="recall")  # type: ignore[call-arg]
evaluate_study(study, repeats=3)  # type: ignore[call-arg]
audit_split(study, trian=[0])  # type: ignore[call-arg]

# So do estimators and their methods.
assert_type(CCA(5).fit(study.smiles, study.ge), CCA)
CCA(n_component=5)  # type: ignore[call-arg]
CCA(5, 1.0)  # type: ignore[call-arg]
CCA().fit(study.smiles)  # type: ignore[call-arg]
CCA().fit(study.smiles, study.ge, weights=[1])  # type: ignore[call-arg]
GaussianProcessRetriever().predict(study.smiles, std=True)  # type: ignore[call-arg]
TwoTower(978, embedding=8)  # type: ignore[call-arg]
InfoNCELoss(temprature=0.1)  # type: ignore[call-arg]
MorganFingerprinter(n_bits=256)  # type: ignore[call-arg]
SourceScaler().fit()  # type: ignore[call-arg]
ConformalRetriever(CCA()).predict_set(study.ge, alfa=0.1)  # type: ignore[call-arg]
assert_type(recommended_ensemble(random_state=0), VotingRetriever)
recommended_pipeline(modle="cca")  # type: ignore[call-arg]
DrugCellLineKFold(2, 2, seed=0)  # type: ignore[call-arg]
HyperoptSearchCV(CCA(), {}, n_trials=3)  # type: ignore[call-arg]
RetrievalScorer("mrr", drug=None)  # type: ignore[call-arg]
MoleculeFile("a.smi", column="x")  # type: ignore[call-arg]
index = MoleculeIndex(CCA())
assert_type(index.fit(study.smiles), MoleculeIndex)
index.query(study.ge, n_result=5)  # type: ignore[call-arg]

# What methods return is known, too.
assert_type(CCA().score(study.smiles, study.ge), float)
assert_type(CCA().similarity(study.smiles, study.ge), NDArray)
assert_type(L1000Featurizer().transform(study.ge), NDArray)
assert_type(SourceScaler().transform(study.ge), NDArray)
sure = ConformalRetriever(CCA())
assert_type(sure.transform(study.smiles), NDArray)
assert_type(sure.predict_set(study.smiles, study.ge), NDArray[np.bool_])
assert_type(sure.predict_belief(study.smiles, study.ge), NDArray[np.float64])
measured = ConnectivityRetriever()
assert_type(measured.query(study.ge), pd.DataFrame)
assert_type(measured.compare_to(study.smiles)(study.ge), NDArray)
assert_type(EvidenceRetriever(CCA()).query(study.smiles, study.ge), pd.DataFrame)
assert_type(PredictedProfileRetriever(CCA()).transform_ge(study.ge), NDArray)
