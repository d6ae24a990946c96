"""How often a SMILES is parsed: twice in a training, once in a ranking."""

from collections import Counter

import pytest
from rdkit import Chem
from sklearn.pipeline import FeatureUnion

from sklearn_molge.metrics import retrieval_ranks
from sklearn_molge.molecules import (
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
)


@pytest.fixture
def parses(monkeypatch):
    """Count what RDKit parses, by its text."""
    counts = Counter()
    parse = Chem.MolFromSmiles

    def count(text, *args, **kwargs):
        counts[text] += 1
        return parse(text, *args, **kwargs)

    monkeypatch.setattr(Chem, "MolFromSmiles", count)
    return counts


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
def test_once_for_the_towers_and_once_for_the_identity(
    make_net, study, split, parses, encoder, groups
):
    net = make_net(
        encoder, molecule_features=three_kinds(), max_epochs=1,
        train_split=split if groups else None,
    )  # fmt: skip
    net.fit(study.smiles, study.ge, groups=study.groups if groups else None)
    # Its molecules are let go before training, and what it has seen is kept after it.
    assert parses == dict.fromkeys(study.smiles, 2)


def test_once_more_for_distances_of_structure(make_net, study, parses):
    """The molecules of 20,000 drugs are not kept while the towers train."""
    net = make_net(max_epochs=2, sampler__distance="structure")
    net.fit(study.smiles, study.ge)
    assert set(parses) == set(study.smiles)
    assert max(parses.values()) == 3


def test_once_in_a_projection_and_in_a_ranking(make_net, study, parses):
    net = make_net(molecule_features=three_kinds(), max_epochs=1)
    net.fit(study.smiles, study.ge)
    for call in (
        lambda: net.transform(study.smiles),
        lambda: retrieval_ranks(net, study.smiles, study.ge),
        lambda: net.score(study.smiles, study.ge),
    ):
        parses.clear()
        call()
        assert parses == dict.fromkeys(study.smiles, 1)


def test_nothing_is_kept(make_net, study, parses):
    for _ in range(2):
        make_net(max_epochs=1).fit(study.smiles, study.ge)
    assert set(parses.values()) == {4}
