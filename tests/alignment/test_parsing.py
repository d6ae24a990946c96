"""How often a SMILES is parsed: once in whatever a user calls."""

from collections import Counter

import pytest
from sklearn.model_selection import cross_validate
from sklearn.pipeline import FeatureUnion, make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.metrics import RetrievalScorer, retrieval_ranks
from sklearn_molge.model_selection import DrugCellLineKFold, cross_val_ranks
from sklearn_molge.molecules import (
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
)


def three_kinds():
    return FeatureUnion(
        [
            ("ecfp", MorganFingerprinter(fp_size=32)),
            ("maccs", MoleculeFingerprinter("maccs")),
            ("descriptors", MoleculeDescriptors()),
        ]
    )


@pytest.mark.parametrize("encoder", ["random", None])
@pytest.mark.parametrize("groups", [True, False])
def test_once_in_a_training(make_net, study, split, read_in, encoder, groups):
    net = make_net(
        encoder, molecule_features=three_kinds(), max_epochs=2,
        sampler__distance="structure", train_split=split if groups else None,
    )  # fmt: skip
    groups = study.groups if groups else None
    texts = read_in(lambda: net.fit(study.smiles, study.ge, groups=groups))
    assert Counter(texts) == dict.fromkeys(study.smiles, 1)


def test_once_in_a_projection_and_in_a_ranking(make_net, study, read_in):
    net = make_net(molecule_features=three_kinds(), max_epochs=1)
    net.fit(study.smiles, study.ge)
    for call in (
        lambda: net.transform(study.smiles),
        lambda: retrieval_ranks(net, study.smiles, study.ge),
        lambda: net.score(study.smiles, study.ge),
    ):
        assert Counter(read_in(call)) == dict.fromkeys(study.smiles, 1)


def test_once_in_a_cross_validation(study, read_in):
    pipe = make_pipeline(three_kinds(), CCA(3, ridge=1.0))
    given = {"groups": study.groups, "cv": DrugCellLineKFold()}
    scoring = RetrievalScorer()
    for call in (
        lambda: cross_validate(pipe, study.smiles, study.ge, scoring=scoring, **given),
        lambda: cross_val_ranks(pipe, study.smiles, study.ge, **given),
    ):
        assert Counter(read_in(call)) == dict.fromkeys(study.smiles, 1)
