import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import Descriptors

from sklearn_molge.molecules import MoleculeDescriptors

SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "CC(C)C[C@H](NC(=O)[C@@H](Cc1ccccc1)NC(=O)c1cnccn1)B(O)O",
    "C[C@H]([NH3+])C(=O)O.[Cl-]",
    "Clc1ccc2c(c1)C(=NCC(=O)N2C)c1ccccc1",
    "CCO",
]
# RDKit has no partial charges for platinum.
CISPLATIN = "N[Pt](N)(Cl)Cl"


def raw(smiles, names):
    values = Descriptors.CalcMolDescriptors(Chem.MolFromSmiles(smiles))
    return [values[name] for name in names]


def test_all_descriptors_equal_standardised_rdkit():
    descriptors = MoleculeDescriptors(clip=None)
    features = descriptors.fit_transform(SMILES)
    names = list(descriptors.get_feature_names_out())
    assert set(names) == {name for name, _ in Descriptors.descList} - {"Ipc"}
    values = np.array([raw(smiles, names) for smiles in SMILES])
    expected = np.zeros_like(values)
    for column, x in enumerate(values.T):
        if np.ptp(x) > 0:
            expected[:, column] = (x - x.mean()) / x.std()
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-6)


def test_by_hand():
    # Donors 1, 0, 2: mean 1, standard deviation sqrt(2/3).
    descriptors = MoleculeDescriptors(["NumHDonors"]).fit(["CO", "C", "OCCO"])
    np.testing.assert_allclose(descriptors.mean_, [1])
    np.testing.assert_allclose(descriptors.scale_, [np.sqrt(2 / 3)])
    features = descriptors.transform(["OCC(O)CO", "CC"])
    np.testing.assert_allclose(features, [[np.sqrt(6)], [-np.sqrt(1.5)]], rtol=1e-6)


def test_names_decide_columns_and_their_order():
    names = ["TPSA", "MolWt", "fr_benzene"]
    descriptors = MoleculeDescriptors(names).fit(SMILES)
    assert descriptors.names_ == names
    assert descriptors.get_feature_names_out().tolist() == names
    backwards = MoleculeDescriptors(names[::-1]).fit(SMILES)
    np.testing.assert_array_equal(
        descriptors.transform(SMILES), backwards.transform(SMILES)[:, ::-1]
    )


def test_a_molecule_counts_once_however_often_it_is_seen():
    names = ["MolWt", "TPSA"]
    once = MoleculeDescriptors(names).fit(SMILES)
    often = MoleculeDescriptors(names).fit([*SMILES, *[SMILES[2]] * 50])
    np.testing.assert_array_equal(often.mean_, once.mean_)
    np.testing.assert_array_equal(often.scale_, once.scale_)


def test_undefined_values_take_the_training_mean():
    names = ["MaxPartialCharge", "BCUT2D_MWHI", "MolWt"]
    assert np.isnan(raw(CISPLATIN, names[:1])).all()
    descriptors = MoleculeDescriptors(names).fit([*SMILES, CISPLATIN])
    without = MoleculeDescriptors(names).fit(SMILES)
    np.testing.assert_allclose(descriptors.mean_[:2], without.mean_[:2])
    np.testing.assert_allclose(descriptors.scale_[:2], without.scale_[:2])
    cisplatin = descriptors.transform([CISPLATIN])[0]
    np.testing.assert_array_equal(cisplatin[:2], [0, 0])
    assert cisplatin[2] != 0


def test_infinite_values_are_undefined_too(monkeypatch):
    values = {1: 1.0, 2: np.inf, 3: 3.0, 4: -np.inf}
    monkeypatch.setitem(
        MoleculeDescriptors._featurize.__globals__["_FUNCTIONS"],
        "MolWt",
        lambda mol: values[mol.GetNumAtoms()],
    )
    features = MoleculeDescriptors(["MolWt"]).fit_transform(["C", "CC", "CCC", "CCCC"])
    np.testing.assert_allclose(features, [[-1], [0], [1], [0]])


def test_a_descriptor_never_defined_in_training_is_zero():
    descriptors = MoleculeDescriptors(["MaxPartialCharge"]).fit([CISPLATIN, "Cl[Pt]"])
    assert np.isnan(descriptors.mean_).all()
    np.testing.assert_array_equal(descriptors.scale_, [0])
    np.testing.assert_array_equal(descriptors.transform(["CCO", CISPLATIN]), [[0], [0]])


def test_a_descriptor_constant_in_training_is_zero():
    descriptors = MoleculeDescriptors(["fr_benzene", "MolWt"]).fit(["C", "CC", "CCC"])
    assert descriptors.scale_[0] == 0
    assert descriptors.transform(["c1ccccc1"])[0, 0] == 0


def test_one_training_molecule_gives_zeros():
    assert not MoleculeDescriptors().fit_transform(["CCO"]).any()


@pytest.mark.parametrize(("clip", "expected"), [(2.5, 2.5), (5.0, 5.0), (None, 60)])
def test_clip(clip, expected):
    descriptors = MoleculeDescriptors(["NumHDonors"], clip=clip).fit(["C", "OCCO"])
    sixty_one_donors = "OC" + "C(O)" * 59 + "CO"
    np.testing.assert_array_equal(descriptors.transform([sixty_one_donors]), expected)
    assert descriptors.transform(["OCCO", "C"]).tolist() == [[1], [-1]]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["MolWt", "Weight"], r"unknown: \['Weight'\]"),
        (["MolWt", "MolWt"], "each once"),
        ([], r"Got \[\]"),
        ("MolWt", "'names' parameter of MoleculeDescriptors must be"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_names_refused(names, message, method):
    with pytest.raises(ValueError, match=message):
        getattr(MoleculeDescriptors(names), method)(["-666"])


def test_clip_refused():
    with pytest.raises(ValueError, match=r"'clip' parameter.*Got 0"):
        MoleculeDescriptors(clip=0).fit(SMILES)


def test_what_was_learnt_counts_not_what_was_set_since():
    """Values that are kept for later calls are those of the names that were fitted."""
    weights = MoleculeDescriptors(["MolWt"], clip=None).fit(SMILES)
    expected = weights.transform(["OCCCO", "NCCCN"])
    weights.set_params(names=["NumHDonors"])
    np.testing.assert_array_equal(weights.transform(["OCCCO", "NCCCN"]), expected)
    weights.transform(["OCCCF", "NCCCF"])
    donors = MoleculeDescriptors(["NumHDonors"], clip=None)
    donors.fit(["OCCCF", "NCCCF", "FCCCF"])
    np.testing.assert_allclose(donors.mean_, [np.mean([1, 1, 0])])
