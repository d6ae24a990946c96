"""Structures that are written as InChI: converted, or refused with what helps."""

import os

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import (
    MorganFingerprinter,
    canonical_smiles,
    drug_ids,
    smiles_from_inchi,
)

SMILES = [
    "CCO",
    "CC(=O)Nc1ccc(O)cc1",  # an amide
    "C[C@H](N)C(=O)O",
    "Nc1ccccn1",
    "CC(N)=S",
    "C/C=C/C(N)=O",
    "Nc1ccncc1",  # the hydrogen far from the group
    "O=C(O)c1ccccc1",
    "[Na+].CC(=O)[O-]",
]


def inchi(smiles):
    return Chem.MolToInchi(Chem.MolFromSmiles(smiles))


def test_there_and_back():
    given = [inchi(smiles) for smiles in SMILES]
    read = smiles_from_inchi(given)
    assert read.tolist() == canonical_smiles(SMILES).tolist()
    assert drug_ids(read).tolist() == drug_ids(SMILES).tolist()
    # What is no InChI stays, whatever it is; the input is not changed.
    mixed = np.array(["CCN", given[0], None, "-666", f" {given[0]}\n"], dtype=object)
    assert smiles_from_inchi(mixed).tolist() == ["CCN", "CCO", None, "-666", "CCO"]
    assert mixed[1] == given[0]


BAD = [
    "InChI=",
    "InChI=1S/bad",
    "InChI=1S/",
    "InChI=1S/C99999H2",
    "InChI=1S/" + "C" * 50_000,
    "InChI=1S/CH4/h1H4é",
]


@pytest.mark.parametrize("bad", BAD)
def test_bad_ones(bad):
    with pytest.raises(InvalidSmilesError, match="an InChI that cannot be read") as e:
        smiles_from_inchi(["CCO", bad])
    assert (e.value.indices, e.value.entries) == ([1], [bad])
    assert smiles_from_inchi(["CCO", bad], on_bad="keep").tolist() == ["CCO", bad]


def test_an_estimator_says_what_helps():
    with pytest.raises(InvalidSmilesError, match=r"an InChI; .*smiles_from_inchi"):
        MorganFingerprinter().fit_transform(["CCO", inchi("CCN")])


DATA = os.environ.get("SKLEARN_MOLGE_DATA")


@pytest.mark.skipif(DATA is None, reason="SKLEARN_MOLGE_DATA names no folder of data")
def test_real_drugs_keep_their_identity():
    path = os.path.join(DATA, "lincs_level5_sample", "compoundinfo.txt")
    table = pd.read_csv(path, sep="\t")
    column = next(name for name in table if "smiles" in name.lower())
    smiles = canonical_smiles(table[column].dropna().unique()[:200])
    read = smiles_from_inchi([inchi(s) for s in smiles])
    assert drug_ids(read).tolist() == drug_ids(smiles).tolist()
    assert np.mean(read == smiles) > 0.9
