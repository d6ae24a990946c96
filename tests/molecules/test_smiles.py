import pickle
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.rdBase import BlockLogs
from scipy import sparse
from sklearn.base import clone

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import (
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
    canonical_smiles,
    check_smiles,
    drug_ids,
    identity_report,
    parent_molecule,
    parse_smiles,
    parsed_once,
    valid_smiles_mask,
)

FUNCTIONS = [check_smiles, canonical_smiles, drug_ids]

# InChIKeys as in PubChem.
ASPIRIN = "BSYNRYMUTXBXSQ"
CAFFEINE = "RYYVLZVUVIJVGH"
ALANINE = "QNAYBMKLOCPYGJ"


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "entry",
    ["-666", "", " ", "restricted", "Restricted", "nan", "None", "NA", "C1CC", "C(C",
     "xyz", "C[N](C)(C)(C)C", None, np.nan, pd.NA, 5, b"CCO"],
)  # fmt: skip
def test_what_is_not_a_molecule(function, entry):
    with pytest.raises(InvalidSmilesError) as caught:
        function(["CCO", entry, "CCN"])
    assert caught.value.indices == [1]
    assert caught.value.entries[0] is entry
    assert str(caught.value) == (
        f"1 entry of X is not a valid SMILES: index 1: {entry!r}."
    )


@pytest.mark.parametrize("function", FUNCTIONS)
def test_every_bad_entry_is_named(function):
    message = (
        r"^3 entries of X are not valid SMILES: index 0: '-666', "
        r"index 2: None, index 3: '-666'\.$"
    )
    with pytest.raises(InvalidSmilesError, match=message) as caught:
        function(["-666", "CCO", None, "-666"])
    assert caught.value.indices == [0, 2, 3]


def test_long_lists_of_bad_entries_are_cut_short():
    with pytest.raises(InvalidSmilesError, match=r"index 19: '' and 5 more") as caught:
        check_smiles([""] * 25)
    assert caught.value.indices == list(range(25))


def test_error_survives_pickling():
    error = pickle.loads(pickle.dumps(InvalidSmilesError([3], ["C1"])))
    assert (error.indices, error.entries) == ([3], ["C1"])
    assert "index 3: 'C1'" in str(error)


def test_bad_smiles_do_not_print(capfd):
    with pytest.raises(InvalidSmilesError):
        check_smiles(["C1CC", "C[N](C)(C)(C)C"])
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    ("X", "shape"),
    [("CCO", r"\(\)"), ([["CCO", "C"]], r"\(1, 2\)"), ([[["CCO"]]], r"\(1, 1, 1\)")],
)
def test_one_column_is_needed(function, X, shape):
    with pytest.raises(ValueError, match=f"X must be a 1-D array-like.*shape {shape}"):
        function(X)


@pytest.mark.parametrize(
    "X",
    [
        ["OCC", "CCN"],
        ("OCC", "CCN"),
        np.array(["OCC", "CCN"]),
        np.array([["OCC"], ["CCN"]], dtype=object),
        pd.Series(["OCC", "CCN"], index=[5, 5]),
        pd.Series(["OCC", "CCN"], dtype="string"),
        pd.DataFrame({"smiles": ["OCC", "CCN"]}),
    ],
    ids=lambda X: f"{type(X).__name__}-{getattr(X, 'dtype', '')}",
)
def test_kinds_of_input(X):
    checked = check_smiles(X)
    assert checked.dtype == object
    assert checked.tolist() == ["OCC", "CCN"]
    assert canonical_smiles(X).tolist() == ["CCO", "CCN"]
    assert drug_ids(X).dtype == object


def test_check_smiles_leaves_the_entries_alone():
    entries = ["OCC", "[Na+].[O-]C(C)=O", "C([H])([H])([H])[H]"]
    assert check_smiles(entries).tolist() == entries


@pytest.mark.parametrize("function", FUNCTIONS)
def test_no_entries(function):
    assert function([]).shape == (0,)


def test_canonical_smiles():
    spellings = ["CC(=O)Oc1ccccc1C(=O)O", "OC(=O)C1=CC=CC=C1OC(C)=O"]
    assert len(set(canonical_smiles(spellings))) == 1
    # Salts and stereochemistry stay.
    assert canonical_smiles(["[Na+].[O-]C(C)=O"])[0] == "CC(=O)[O-].[Na+]"
    left, right = canonical_smiles(["N[C@@H](C)C(=O)O", "N[C@H](C)C(=O)O"])
    assert left != right


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        (["CC(=O)Oc1ccccc1C(=O)O", "OC(=O)C1=CC=CC=C1OC(C)=O"], ASPIRIN),
        (["CC(=O)Oc1ccccc1C(=O)[O-].[Na+]", "CC(=O)Oc1ccccc1C(=O)[O-]"], ASPIRIN),
        (["Cn1c(=O)c2c(ncn2C)n(C)c1=O", "CN1C=NC2=C1C(=O)N(C)C(=O)N2C"], CAFFEINE),
        (["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "CC(N)C(=O)O"], ALANINE),
        (["C[C@H]([NH3+])C(=O)[O-]", "CC([NH3+])C(=O)O.[Cl-]"], ALANINE),
        (["[2H]C([2H])(O)C", "CCO"], "LFQSCWFLJHTTHZ"),
    ],
)
def test_one_drug_whatever_its_salt_charge_isomer_and_spelling(entries, expected):
    assert set(drug_ids(entries)) == {expected}


def test_organic_fragment_goes_before_a_larger_inorganic_one():
    assert drug_ids(["CCO.F[P-](F)(F)(F)(F)F"]).item() == "LFQSCWFLJHTTHZ"


def test_stereo_keeps_isomers_apart_and_nothing_else():
    isomers = ["C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "CC(N)C(=O)O"]
    ids = drug_ids(isomers, stereo=True)
    assert len(set(ids)) == 3
    assert {i.split("-")[0] for i in ids} == {ALANINE}
    assert ids[0] == "QNAYBMKLOCPYGJ-REOHCLBHSA"  # L-alanine
    salt, spelling = drug_ids(
        ["C[C@H]([NH3+])C(=O)O.[Cl-]", "OC(=O)[C@H](C)N"], stereo=True
    )
    assert salt == spelling == ids[0]


def test_different_drugs_differ():
    entries = ["CCO", "CCN", "CCCO", "CC(C)O", "c1ccccc1", "C1CCCCC1"]
    assert len(set(drug_ids(entries))) == len(entries)


@pytest.mark.parametrize("function", [canonical_smiles, drug_ids])
def test_each_entry_keeps_its_place(function):
    entries = ["CCO", "CCN", "CCO", "OCC", "c1ccccc1", "CCN"]
    assert function(entries).tolist() == [function([e]).item() for e in entries]


def test_each_text_is_computed_once(monkeypatch, read_in):
    calls = []
    identify = Chem.MolToInchiKey
    monkeypatch.setattr(
        Chem, "MolToInchiKey", lambda *args: calls.append(args) or identify(*args)
    )
    texts = ["CCO", "CCN", "CCO", "OCC", "CCN"]
    read_in(lambda: [drug_ids(texts), drug_ids(texts)])
    assert len(calls) == 3


def test_real_molecules(level5_folder):
    compounds = pd.read_csv(level5_folder / "compoundinfo.txt", sep="\t")
    signatures = pd.read_csv(level5_folder / "siginfo.txt", sep="\t")
    compounds = compounds[compounds["pert_id"].isin(signatures["pert_id"])]
    smiles = compounds.drop_duplicates("pert_id")["canonical_smiles"]
    assert len(smiles) == 877
    ids = drug_ids(smiles)
    assert len(set(ids)) == 839  # nitrendipine is drawn as two tautomers
    np.testing.assert_array_equal(drug_ids(canonical_smiles(smiles)), ids)


def test_real_dirt(shared_data):
    library = pd.read_csv(shared_data / "library" / "compoundinfo.txt.gz", sep="\t")
    smiles = library["canonical_smiles"].iloc[::15]
    unknown = (smiles.isna() | (smiles == "restricted")).to_numpy()
    assert 0 < unknown.sum() < len(smiles)
    with pytest.raises(InvalidSmilesError) as caught:
        check_smiles(smiles)
    assert caught.value.indices == np.flatnonzero(unknown).tolist()
    assert len(check_smiles(smiles[~unknown])) == (~unknown).sum()


@pytest.mark.parametrize("text", ["CCO CCN", "C C", "CCO aspirin"])
def test_text_behind_a_molecule_is_refused(text):
    with pytest.raises(InvalidSmilesError, match="index 0"):
        check_smiles([text])


def test_extension_of_a_molecule_is_not_refused():
    assert canonical_smiles(["CCO |atomProp:0.p.1|"])[0] == "CCO"


# What makes identities faster changes none of them.


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
        "OC1=CC=NC=C1",
    ],
)
def test_shortcuts_change_no_identity(text):
    assert drug_ids([text]).tolist() == [slow_id(text)]


def test_shortcuts_change_no_identity_of_lincs(shared_data):
    path = shared_data / "library" / "compoundinfo.txt.gz"
    texts = pd.read_csv(path, sep="\t", keep_default_na=False)["canonical_smiles"]
    texts = [text for text in texts[::40] if parse_smiles(text) is not None]
    ids, slow = drug_ids(texts), list(map(slow_id, texts))
    reasons = identity_report(texts)["reasons"]
    alike = ~reasons.str.contains("tautomer|metal|inorganic").to_numpy()
    assert alike.mean() > 0.9
    assert ids[alike].tolist() == np.array(slow, dtype=object)[alike].tolist()


@pytest.mark.parametrize("block", [parsed_once, nullcontext])
def test_functions_share_molecules(block, read_in):
    smiles = ["CCO", "CCN", "CCO"]
    expected = canonical_smiles(smiles), MorganFingerprinter().transform(smiles)

    def call():
        with block():
            ids = drug_ids(smiles)
            texts = canonical_smiles(smiles)
            fingerprints = MorganFingerprinter().fit_transform(smiles)
        assert ids[0] == ids[2] != ids[1]
        np.testing.assert_array_equal(texts, expected[0])
        np.testing.assert_array_equal(fingerprints, expected[1])

    assert read_in(call) == ["CCO", "CCN"]


@pytest.mark.parametrize("block", [parsed_once, nullcontext])
def test_a_molecule_of_your_own_may_be_changed(block):
    before = drug_ids(["CCO"])
    with block():
        mol = parse_smiles("CCO")
        mol.GetAtomWithIdx(0).SetAtomicNum(7)
        assert Chem.MolToSmiles(parse_smiles("CCO")) == "CCO"
    assert Chem.MolToSmiles(parse_smiles("CCO")) == "CCO"
    assert drug_ids(["CCO"]) == before
    assert canonical_smiles(["CCO"]) == ["CCO"]


def test_what_is_kept_is_bounded(monkeypatch, read_in):
    """Of more molecules than there is room for, the last ones are known."""
    monkeypatch.setattr("sklearn_molge.molecules._smiles._MOLECULES", 20_000)
    monkeypatch.setattr("sklearn_molge.molecules._smiles._RESULTS", 2_000)
    texts = ["C" * n for n in range(1, 31)]
    expected = MorganFingerprinter().fit_transform(texts)

    def call():
        # Atoms of 800 bytes: the last ones have about 30 each.
        for _ in range(2):
            assert valid_smiles_mask(texts[-3:]).all()
            assert valid_smiles_mask(texts).all()
        np.testing.assert_array_equal(MorganFingerprinter().transform(texts), expected)
        np.testing.assert_array_equal(MorganFingerprinter().transform(texts), expected)

    assert len(read_in(call)) > 4 * len(texts)

    def call_in_block():
        with parsed_once():
            call()

    assert read_in(call_in_block) == [*texts[-3:], *texts[:-3]]
    assert len(read_in(lambda: [call_in_block(), canonical_smiles(texts)])) == 60


def test_a_block_may_keep_no_molecules(read_in):
    def call():
        with parsed_once(max_bytes=0):
            ids = drug_ids(["CCO", "CCN"])
            assert drug_ids(["CCN", "CCO"])[0] == ids[1]
            canonical_smiles(["CCO"])
        canonical_smiles(["CCO", "CCO"])

    assert read_in(call) == ["CCO", "CCN", "CCO", "CCO"]


def test_patterns_are_refused_whatever_is_kept():
    fingerprinter = MorganFingerprinter().fit(["CCO"])
    for _ in range(2):
        assert fingerprinter.transform(["*CC", "CCO"]).shape == (2, 2048)
        with pytest.raises(InvalidSmilesError, match="a wildcard"):
            fingerprinter.fit(["*CC", "CCO"])


def test_max_atoms_is_asked_whatever_is_kept():
    texts = ["CCCCCC", "CCO"]
    MoleculeDescriptors(["MolWt"]).fit(texts)
    with pytest.raises(InvalidSmilesError, match="more than max_atoms=5"):
        MoleculeDescriptors(["MolWt"], max_atoms=5).fit(texts)
    MoleculeFingerprinter("maccs").fit(texts)
    with pytest.raises(InvalidSmilesError, match="more than max_atoms=5"):
        MoleculeFingerprinter("maccs", max_atoms=5).fit(texts)


def test_parsed_once_keeps_identities():
    smiles = ["CCO", "OCC.Cl", "C[C@H](N)C(=O)O"]
    flat, full = drug_ids(smiles), drug_ids(smiles, stereo=True)
    with parsed_once():
        for _ in range(2):
            np.testing.assert_array_equal(drug_ids(smiles), flat)
            turned = drug_ids(smiles[::-1], stereo=True)
            np.testing.assert_array_equal(turned, full[::-1])
            with pytest.raises(InvalidSmilesError) as raised:
                drug_ids(["CCO", "nonsense", None])
            assert raised.value.indices == [1, 2]


@pytest.mark.parametrize(
    ("transformer", "change", "n_features"),
    [
        (MorganFingerprinter(fp_size=64), {"fp_size": 32}, 32),
        (MorganFingerprinter(count=True, sparse_output=True), {"radius": 1}, 2048),
        (MoleculeFingerprinter("avalon", on_bad_smiles="nan"), {"fp_size": 32}, 32),
        (MoleculeDescriptors(["MolWt", "TPSA"]), {"names": ["TPSA"]}, 1),
    ],
)
def test_features_are_computed_once(
    transformer, change, n_features, monkeypatch, read_in
):
    first, second = ["CCO", "CCN", "CCO"], ["CCCl", "CCN", "c1ccccc1"]
    seen = []
    featurize = type(transformer)._featurize

    def watched(self, mols):
        seen.extend(Chem.MolToSmiles(mol) for mol in mols)
        return featurize(self, mols)

    def features(smiles):
        found = clone(transformer).fit(first).transform(smiles)
        return found.toarray() if sparse.issparse(found) else found

    expected = {}
    for smiles in (first, second):  # in threads that know nothing of each other
        read_in(lambda smiles=smiles: expected.update({smiles[0]: features(smiles)}))

    def call():
        np.testing.assert_array_equal(features(first), expected["CCO"])
        np.testing.assert_array_equal(features(second), expected["CCCl"])
        features(second)[:] = 7  # a copy
        np.testing.assert_array_equal(features(second), expected["CCCl"])
        assert seen == ["CCO", "CCN", "CCCl", "c1ccccc1"]
        other = clone(transformer).set_params(**change).fit(first).transform(first)
        assert other.shape == (3, n_features)
        if transformer.on_bad_smiles == "raise":
            with pytest.raises(InvalidSmilesError, match="index 2: 'x'"):
                clone(transformer).fit(first).transform(["CCO", "CS", "x"])

    def call_in_block():
        with parsed_once():
            call()

    monkeypatch.setattr(type(transformer), "_featurize", watched)
    for one_of_both in (call, call_in_block):
        seen.clear()
        read_in(one_of_both)
        assert seen[:4] == ["CCO", "CCN", "CCCl", "c1ccccc1"]


@pytest.mark.parametrize(
    ("text", "parent"),
    [
        ("CC(=O)[O-].[Na+]", "CC(=O)O"),
        ("C[C@H]([NH3+])C(=O)O.[Cl-]", "C[C@H](N)C(=O)O"),
        ("C[N+](C)(C)C.[Cl-]", "C[N+](C)(C)C"),  # no proton can balance it
        ("CCO", "CCO"),
    ],
)
def test_parent_molecule(text, parent):
    mol = parse_smiles(text)
    assert Chem.MolToSmiles(parent_molecule(mol)) == parent
    assert Chem.MolToSmiles(mol) == canonical_smiles([text])[0]  # left as it was


def test_valid_smiles_mask_agrees_with_check_smiles():
    entries = np.array(["CCO", "-666", None, np.nan, "C1", "CCN"], dtype=object)
    valid = valid_smiles_mask(entries)
    assert valid.tolist() == [True, False, False, False, False, True]
    assert check_smiles(entries[valid]).tolist() == ["CCO", "CCN"]
    assert valid_smiles_mask([]).shape == (0,)


# What RDKit would read as something else, or never end with.

ODD_TEXTS = {
    "C\ud800": "the character",
    "O\x00C": "the character",
    "CC\x00": "the character",
    "CC\x07": "the character",
    "\ufeffCC": "the character",
    "CC\u200b": "the character",
    "CC\u2192": "the character",
    "[C+9999]": r"\[C\+9999\] goes beyond",
    "[U+128]": "goes beyond",
    "[CH4-16]": "goes beyond",
    "[65548C]": "goes beyond",
    "[1000C]": "goes beyond",
    "[UH256]": "goes beyond",
    "[UH10]": "goes beyond",
    "[C" + "+" * 16 + "]": "goes beyond",
    "C~N": "a bond may be any",
    "C1~CCCC~1": "a bond may be any",  # which RDKit reads as a single bond
    "CN |Z:0|": "a bond may be any",
    "[H]." * 1200 + "[H]": "1,201 atoms, more than",
    "[Pt]" + "(Cl)" * 50: "tangled",
    "(" * 21_000: "21,000 characters",
}


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
def test_what_would_be_read_as_something_else(function, text):
    with pytest.raises(InvalidSmilesError, match=f"index 1: .*{ODD_TEXTS[text]}"):
        function(["CCO", text])
    assert not valid_smiles_mask([text]).item()


def test_numbers_of_opensmiles_and_bonds_of_metals_pass():
    texts = [
        "[U+15]",
        "[238U]",
        "[C-15]",
        "[999C]",
        "[CH4:99999]",
        "C%10CC%10",
        "[UH9]",
    ]
    texts += ["N~[Pt](~N)(Cl)Cl", "[Fe]<-N", "CC\n", " CC"]
    assert check_smiles(texts).tolist() == texts
    assert canonical_smiles(["[U+15]", "[999C]"]).tolist() == ["[U+15]", "[999C]"]


def lattice(*shape):
    """Write a lattice of sulphur atoms, each bound to those around it."""
    mol = Chem.RWMol()
    places = {place: mol.AddAtom(Chem.Atom(16)) for place in np.ndindex(*shape)}
    for place, i in places.items():
        for axis in range(len(shape)):
            j = places.get(tuple(np.add(place, np.eye(len(shape), dtype=int)[axis])))
            if j is not None:
                mol.AddBond(i, j, Chem.BondType.SINGLE)
    for atom in mol.GetAtoms():
        atom.SetNoImplicit(True)
    return Chem.MolToSmiles(mol, canonical=False)


FULLERENE = (
    "c12c3c4c5c1c1c6c7c2c2c8c3c3c9c4c4c%10c5c5c1c1c6c6c%11c7c2c2c7c8c3c3c8c9c4c4c9c%10"
    "c5c5c1c1c6c6c%11c2c2c7c3c3c8c4c4c9c5c1c1c6c2c3c41"
)
LARGE = {
    "C60": FULLERENE,
    "chain": "C" * 1000,
    "rings": "C1CC1" * 300,
    "peptide": "N" + "C(CCCNC(=N)N)C(=O)N" * 80 + "CC(=O)O",
    "RNA": "O" + "P(=O)(O)OCC1OC(n2cnc3c2N=C(N)NC3=O)C(O)C1O" * 40,
    "enols": "C=C(O)" * 300,
    "nitroso": "C(N=O)" * 320,
    "salts": "CC(=O)O." * 240 + "CCO",
    "branches": "C(" * 900 + "C" + ")" * 900,
    "polyene": "C1" + "=CC" * 490 + "=C1",
}


@pytest.mark.parametrize("kind", LARGE)
def test_large_molecules_are_molecules(kind):
    text = LARGE[kind]
    assert valid_smiles_mask([text]).item()
    assert len(drug_ids([text]).item()) == 14
    assert len(drug_ids([text], stereo=True).item()) == 25


@pytest.mark.parametrize("shape", [(4, 4, 4), (12, 12)])
def test_lattices_are_no_molecules(shape):
    with pytest.raises(InvalidSmilesError, match="tangled: more than 700,000 subgraph"):
        check_smiles([lattice(*shape)], wildcards=True)


@pytest.mark.parametrize("text", ["CC(C)(C)CCCC", "S(F)(F)(F)(F)(F)CCC(=O)O"])
def test_subgraphs_of_a_tree_are_counted(text, monkeypatch):
    counts = Chem.FindAllSubgraphsOfLengthMToN(Chem.MolFromSmiles(text), 1, 7)
    n = sum(map(len, counts))
    limit = "sklearn_molge.molecules._smiles.MAX_SUBGRAPHS"
    star = f"{text}.[Pt](Cl)(Cl)(Cl)(Cl)Cl"  # crowded, so that all are counted
    n += 2**5 - 1
    monkeypatch.setattr(limit, n + 1e-6)
    assert valid_smiles_mask([star]).item()
    monkeypatch.setattr(limit, n - 1e-6)
    assert not valid_smiles_mask([star]).item()
