import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import MACCSkeys, rdFingerprintGenerator

from sklearn_molge.molecules import MoleculeFingerprinter, MorganFingerprinter

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O",
    "C[C@H]([NH3+])C(=O)O.[Cl-]",
    "CC(C)C[C@H](NC(=O)[C@@H](Cc1ccccc1)NC(=O)c1cnccn1)B(O)O",
    "O=c1c(-c2ccc(O)cc2)coc2cc(O)cc(O)c12",
    "C",
]
L_ALANINE, D_ALANINE = "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"
GENERATORS = {
    "atom_pair": rdFingerprintGenerator.GetAtomPairGenerator,
    "torsion": rdFingerprintGenerator.GetTopologicalTorsionGenerator,
    "rdkit": rdFingerprintGenerator.GetRDKitFPGenerator,
}


@pytest.mark.parametrize("count", [False, True])
@pytest.mark.parametrize(
    ("params", "options"),
    [
        ({}, {"radius": 2, "fpSize": 2048}),
        ({"radius": 0}, {"radius": 0, "fpSize": 2048}),
        ({"radius": 3, "fp_size": 100}, {"radius": 3, "fpSize": 100}),
        ({"include_chirality": True}, {"radius": 2, "includeChirality": True}),
        ({"use_bond_types": False}, {"radius": 2, "useBondTypes": False}),
    ],
    ids=str,
)
def test_morgan_equals_rdkit(params, options, count):
    generator = rdFingerprintGenerator.GetMorganGenerator(**options)
    one = (
        generator.GetCountFingerprintAsNumPy
        if count
        else generator.GetFingerprintAsNumPy
    )
    expected = np.stack([one(Chem.MolFromSmiles(smiles)) for smiles in SMILES])
    fingerprints = MorganFingerprinter(**params, count=count).fit_transform(SMILES)
    np.testing.assert_array_equal(fingerprints, expected)
    assert fingerprints.dtype == expected.dtype


def test_morgan_feature_invariants_are_fcfp():
    generator = rdFingerprintGenerator.GetMorganGenerator(
        radius=2,
        atomInvariantsGenerator=rdFingerprintGenerator.GetMorganFeatureAtomInvGen(),
    )
    expected = [
        generator.GetFingerprintAsNumPy(Chem.MolFromSmiles(smiles)) for smiles in SMILES
    ]
    fcfp = MorganFingerprinter(feature_invariants=True).fit_transform(SMILES)
    np.testing.assert_array_equal(fcfp, expected)
    assert not np.array_equal(fcfp, MorganFingerprinter().fit_transform(SMILES))


def test_morgan_counts_of_ethane_by_hand():
    # Radius 0: two equal CH3. Radius 1: each with its one neighbour, equal again and
    # over the same bond, of which the first is kept.
    counts = MorganFingerprinter(count=True).fit_transform(["CC"])
    assert sorted(counts[counts > 0].tolist()) == [1, 2]


def test_morgan_bits_say_where_counts_are():
    counts = MorganFingerprinter(count=True).fit_transform(SMILES)
    bits = MorganFingerprinter().fit_transform(SMILES)
    np.testing.assert_array_equal(counts > 0, bits)
    assert counts.max() > 1


def test_morgan_stereo_isomers_differ_with_chirality_only():
    plain = MorganFingerprinter().fit_transform([L_ALANINE, D_ALANINE])
    chiral = MorganFingerprinter(include_chirality=True).transform(
        [L_ALANINE, D_ALANINE]
    )
    np.testing.assert_array_equal(plain[0], plain[1])
    assert (chiral[0] != chiral[1]).any()


def test_morgan_spelling_does_not_matter():
    fingerprints = MorganFingerprinter().fit_transform(
        ["OC(=O)c1ccccc1", "c1ccccc1C(O)=O"]
    )
    np.testing.assert_array_equal(fingerprints[0], fingerprints[1])


def test_morgan_salt_is_part_of_the_molecule():
    acid, salt = MorganFingerprinter().fit_transform(["CC(=O)[O-]", "CC(=O)[O-].[Na+]"])
    assert ((salt - acid)[salt != acid] == 1).all()
    assert salt.sum() > acid.sum()


def test_morgan_positional_radius_and_feature_names():
    fingerprinter = MorganFingerprinter(1, fp_size=3)
    assert fingerprinter.radius == 1
    assert fingerprinter.get_feature_names_out().tolist() == [
        "morganfingerprinter0",
        "morganfingerprinter1",
        "morganfingerprinter2",
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"radius": -1}, r"'radius' parameter.*\[0, inf\). Got -1"),
        ({"fp_size": 0}, r"'fp_size' parameter.*\[1, inf\). Got 0"),
        ({"count": "yes"}, "'count' parameter"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_morgan_parameters_refused(params, message, method):
    fingerprinter = MorganFingerprinter(**params)
    with pytest.raises(ValueError, match=message):
        getattr(fingerprinter, method)(SMILES)


# MoleculeFingerprinter.


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
    assert fingerprints.shape == (7, 167)
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
