"""What makes drug_ids and embedding faster changes none of their results."""

import numpy as np
import pandas as pd
import pytest
import torch
from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.rdBase import BlockLogs

from sklearn_molge._utils.device import forward_size
from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import drug_ids, parse_smiles, parsed_once


def slow_id(text):
    """Choose, uncharge and key every molecule, whether it needs it or not."""
    parameters = rdMolStandardize.CleanupParameters()
    parameters.preferOrganic = True
    chooser = rdMolStandardize.LargestFragmentChooser(parameters)
    uncharger = rdMolStandardize.Uncharger()
    with BlockLogs():
        parent = uncharger.uncharge(chooser.choose(Chem.MolFromSmiles(text)))
        key = Chem.MolToInchiKey(parent)
    return key.split("-")[0] if key else Chem.MolToSmiles(parent, isomericSmiles=False)


@pytest.mark.parametrize(
    "text",
    [
        "C[C@H](N)C(=O)O",
        "F/C=C/F",
        "C[C@H]([NH3+])C(=O)[O-].[Na+].[Cl-]",
        "C[N+](C)(C)CC(=O)[O-]",
        "O=[N+]([O-])c1ccccc1",
        "N[Pt](N)(Cl)Cl",
        "[Na+].[Cl-]",
        "OC1=CC=NC=C1",
        "*CCO",
    ],
)
def test_drug_ids(text):
    assert drug_ids([text]).tolist() == [slow_id(text)]


def test_drug_ids_of_the_compounds_of_lincs(shared_data):
    path = shared_data / "library" / "compoundinfo.txt.gz"
    texts = pd.read_csv(path, sep="\t", keep_default_na=False)["canonical_smiles"]
    texts = [text for text in texts[::40] if parse_smiles(text) is not None]
    assert drug_ids(texts).tolist() == list(map(slow_id, texts))


def test_parsed_once_ends_with_its_block():
    with parsed_once():
        first = parse_smiles("CCO")
        assert parse_smiles("CCO") is first
        assert parse_smiles("x") is None
        with parsed_once():
            assert parse_smiles("CCO") is first
        assert parse_smiles("CCO") is first
    assert parse_smiles("CCO") is not first


def test_forward_size():
    cpu = torch.device("cpu")
    assert forward_size(10, cpu) == 10
    assert forward_size(10**6, cpu) == 32 * torch.get_num_threads()
    assert forward_size(10**6, torch.device("cuda")) == 10**6


def test_every_bad_entry_is_named_by_its_row():
    study = make_perturbation_study(n_molecules=10, n_cell_lines=1, random_state=0)
    net = CoordinatedEmbedder(encoder__hidden_size=8, max_epochs=1, random_state=0)
    net.fit(study.smiles, study.ge)
    X = np.array(["CCO", "x", "CCO", None, "x", "-666", "CCN"], dtype=object)
    with pytest.raises(InvalidSmilesError) as caught:
        net.transform(X)
    assert caught.value.indices == [1, 3, 4, 5]
    assert caught.value.entries == ["x", None, "x", "-666"]
