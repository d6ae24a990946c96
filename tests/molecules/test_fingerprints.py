import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import MACCSkeys, rdFingerprintGenerator

from sklearn_molge.molecules import MoleculeFingerprinter

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "CC(C)C[C@H](NC(=O)[C@@H](Cc1ccccc1)NC(=O)c1cnccn1)B(O)O",
    "C[C@H]([NH3+])C(=O)O.[Cl-]",
    "C",
]
GENERATORS = {
    "atom_pair": rdFingerprintGenerator.GetAtomPairGenerator,
    "torsion": rdFingerprintGenerator.GetTopologicalTorsionGenerator,
    "rdkit": rdFingerprintGenerator.GetRDKitFPGenerator,
}


@pytest.mark.parametrize("count", [False, True])
@pytest.mark.parametrize("fp_size", [64, 2048])
@pytest.mark.parametrize("kind", GENERATORS)
def test_equals_rdkit(kind, fp_size, count):
    generator = GENERATORS[kind](fpSize=fp_size)
    one = (
        generator.GetCountFingerprintAsNumPy
        if count
        else generator.GetFingerprintAsNumPy
    )
    expected = np.stack([one(Chem.MolFromSmiles(smiles)) for smiles in SMILES])
    fingerprints = MoleculeFingerprinter(
        kind, fp_size=fp_size, count=count
    ).fit_transform(SMILES)
    np.testing.assert_array_equal(fingerprints, expected)
    assert fingerprints.dtype == expected.dtype


@pytest.mark.parametrize("kind", ["atom_pair", "torsion"])
def test_chirality(kind):
    isomers = ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"]
    generator = GENERATORS[kind](includeChirality=True)
    expected = [
        generator.GetCountFingerprintAsNumPy(Chem.MolFromSmiles(s)) for s in isomers
    ]
    fingerprinter = MoleculeFingerprinter(kind, count=True, include_chirality=True)
    chiral = fingerprinter.fit_transform(isomers)
    np.testing.assert_array_equal(chiral, expected)
    assert (chiral[0] != chiral[1]).any()
    plain = MoleculeFingerprinter(kind, count=True).fit_transform(isomers)
    np.testing.assert_array_equal(plain[0], plain[1])


def test_maccs():
    fingerprints = MoleculeFingerprinter("maccs", fp_size=64).fit_transform(SMILES)
    assert fingerprints.shape == (5, 167)
    expected = [
        list(MACCSkeys.GenMACCSKeys(Chem.MolFromSmiles(smiles))) for smiles in SMILES
    ]
    np.testing.assert_array_equal(fingerprints, expected)
    assert not fingerprints[:, 0].any()


def test_maccs_keys_by_hand():
    # Keys of the public list: 164 oxygen, 161 nitrogen, 163 and 165 rings, 125 more
    # than one aromatic ring, 134 halogen.
    columns = [164, 161, 163, 165, 125, 134]
    fingerprints = MoleculeFingerprinter("maccs").fit_transform(
        ["CO", "CN", "c1ccccc1", "c1ccccc1-c1ccccc1Cl"]
    )
    np.testing.assert_array_equal(
        fingerprints[:, columns],
        [
            [1, 0, 0, 0, 0, 0],
            [0, 1, 0, 0, 0, 0],
            [0, 0, 1, 1, 0, 0],
            [0, 0, 1, 1, 1, 1],
        ],
    )


def test_a_single_atom_has_no_pair_nor_torsion():
    for kind in GENERATORS:
        assert not MoleculeFingerprinter(kind).fit_transform(["C"]).any()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"kind": "maccs", "count": True},
            'count=True is not possible for kind "maccs"',
        ),
        ({"kind": "maccs", "include_chirality": True}, "'torsion'. Got 'maccs'"),
        ({"kind": "rdkit", "include_chirality": True}, "'torsion'. Got 'rdkit'"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "transform", "fit_transform"])
def test_parameters_that_do_not_go_together(params, message, method):
    fingerprinter = MoleculeFingerprinter(**params)
    with pytest.raises(ValueError, match=message):
        getattr(fingerprinter, method)(["-666"])


def test_unknown_kind():
    with pytest.raises(ValueError, match="'kind' parameter of MoleculeFingerprinter"):
        MoleculeFingerprinter("ecfp").fit(SMILES)
