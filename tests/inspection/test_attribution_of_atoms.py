import numpy as np
import pandas as pd
import pytest
from rdkit import Chem
from rdkit.rdBase import BlockLogs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import CCA, CoordinatedEmbedder
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.inspection import atom_attribution
from sklearn_molge.molecules import (
    ChempropEmbedder,
    MoleculeDescriptors,
    MorganFingerprinter,
    parse_smiles,
)
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    TransformedTargetRetriever,
    VotingRetriever,
)

CELECOXIB = "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F"
SMILES = np.array(
    ["CCO", "CCN", "CCCl", "c1ccccc1O", "CC(=O)O", "CC(C)N", "OCC(Cl)C", "CCCC"],
    dtype=object,
)
GE = np.random.default_rng(0).normal(size=(8, 12))


class Pattern:
    """Similarity is the profile's first value, times what `count` says of X."""

    def __init__(self, count):
        self.count = count
        self.calls = []

    def similarity(self, X, y):
        self.calls.append(list(X))
        return np.outer(y[:, 0], [self.count(parse_smiles(text)) for text in X])


def has(smarts):
    query = Chem.MolFromSmarts(smarts)
    return Pattern(lambda mol: float(mol.HasSubstructMatch(query)))


def count_element(symbol):
    return Pattern(lambda mol: sum(a.GetSymbol() == symbol for a in mol.GetAtoms()))


@pytest.fixture(scope="module")
def fingerprint_cca():
    pipe = make_pipeline(MorganFingerprinter(fp_size=128), CCA(3, ridge=0.1))
    return pipe.fit(SMILES, GE)


def tiny_net(**params):
    tiny = {
        "encoder__hidden_size": 16,
        "module__expression_layers": (16,),
        "module__embedding_size": 8,
        "batch_size": 8,
        "max_epochs": 2,
        "lr": 0.01,
        "random_state": 0,
    }
    return CoordinatedEmbedder(**tiny | params)


@pytest.fixture(scope="module")
def net():
    return tiny_net().fit(SMILES, GE)


def test_substructure_marks_its_atoms_and_no_other():
    estimator = has("S(N)(=O)=O")
    result = atom_attribution(estimator, CELECOXIB, [2.0])
    mol = Chem.MolFromSmiles(CELECOXIB)
    group = mol.GetSubstructMatch(Chem.MolFromSmarts("S(N)(=O)=O"))
    expected = np.zeros(mol.GetNumAtoms())
    expected[list(group)] = 2
    np.testing.assert_array_equal(result.values, expected)
    assert (result.similarity, result.baseline_similarity) == (2, 0)
    assert (result.smiles, result.method) == (CELECOXIB, "occlusion")


def test_counted_element_gets_one_for_each_atom():
    result = atom_attribution(count_element("N"), CELECOXIB, [1.0])
    mol = Chem.MolFromSmiles(CELECOXIB)
    np.testing.assert_array_equal(
        result.values, [atom.GetSymbol() == "N" for atom in mol.GetAtoms()]
    )
    assert result.similarity == 3


def test_all_molecules_in_one_call():
    estimator = count_element("N")
    atom_attribution(estimator, "CCN", [1.0])
    (asked,) = estimator.calls
    assert sorted(asked) == sorted(["CCN", "*CN", "C*N", "*CC", "***"])


def test_agrees_with_a_loop(fingerprint_cca):
    result = atom_attribution(fingerprint_cca, "OCC(Cl)C", GE[0])
    texts = ["*CC(Cl)C", "O*C(Cl)C", "OC*(Cl)C", "OCC(*)C", "OCC(Cl)*"]
    embedded = fingerprint_cca.transform(["OCC(Cl)C", *texts])
    query = fingerprint_cca[-1].transform_ge(GE[:1])[0]
    whole, *others = (np.corrcoef(query, row)[0, 1] for row in embedded)
    np.testing.assert_allclose(result.similarity, whole)
    np.testing.assert_allclose(result.values, whole - np.array(others), atol=1e-12)


@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_renumbering_the_atoms_permutes_the_values(net, method):
    mol = Chem.MolFromSmiles(CELECOXIB)
    order = np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist()
    other = Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False)
    written = Chem.MolFromSmiles(other)
    place = written.GetSubstructMatch(mol)  # atom of `other` for each atom of `mol`
    values, renumbered = (
        atom_attribution(net, text, GE[0], method=method).values
        for text in (CELECOXIB, other)
    )
    classes = np.array(Chem.CanonicalRankAtoms(mol, breakTies=False))
    np.testing.assert_allclose(values, renumbered[list(place)], atol=2e-6)
    for rank in np.unique(classes):  # so do atoms that symmetry makes equal
        np.testing.assert_allclose(np.ptp(values[classes == rank]), 0, atol=2e-6)


@pytest.mark.parametrize(
    ("smiles", "n_atoms"),
    [
        ("C", 1),
        ("[Na+].[Cl-]", 2),
        ("CC(=O)[O-].[Na+]", 5),
        ("[H]C([H])([H])[H]", 1),
        ("[2H]C", 2),
        ("[H][H]", 2),
        ("C[C@H](N)C(=O)O", 6),
        ("F/C=C/F", 4),
        ("Cn1c(=O)c2c(ncn2C)n(C)c1=O", 14),
        ("C[n+]1ccccc1", 7),
        ("*CC", 3),
    ],
)
@pytest.mark.parametrize("method", ["occlusion", "gradient"])
def test_every_atom_of_odd_molecules_has_a_value(net, smiles, n_atoms, method, capfd):
    result = atom_attribution(net, smiles, GE[0], method=method, n_steps=256)
    assert result.values.shape == (n_atoms,)
    assert np.isfinite(result.values).all()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "features",
    [
        MorganFingerprinter(fp_size=64, count=True),
        MorganFingerprinter(fp_size=64, sparse_output=True),
        MoleculeDescriptors(),
        ChempropEmbedder(hidden_size=8, random_state=0),
    ],
    ids=lambda features: f"{type(features).__name__}",
)
def test_any_features_and_any_retriever(features):
    last = TransformedTargetRetriever(
        DoubleNNRetriever("cosine", n_neighbors=3), transformer=StandardScaler()
    )
    pipe = make_pipeline(features, last).fit(SMILES, GE)
    result = atom_attribution(pipe, "Clc1ccccc1", GE[0])
    assert result.values.shape == (7,)
    assert np.isfinite(result.values).all()


def test_vote_needs_candidates(fingerprint_cca):
    vote = VotingRetriever([("cca", fingerprint_cca)]).fit(SMILES, GE)
    with pytest.raises(ValueError, match="candidates must be given for a Voting"):
        atom_attribution(vote, "CCO", GE[0])
    result = atom_attribution(vote, "CCO", GE[0], candidates=SMILES)
    X = np.array(["CCO", "*CO", "C*O", "*CC", "***", *SMILES], dtype=object)
    expected = vote.similarity(X, GE[:1])[0]
    np.testing.assert_allclose(result.values, expected[0] - expected[1:4])
    raw = VotingRetriever([("cca", fingerprint_cca)], standardize=False)
    np.testing.assert_allclose(
        atom_attribution(raw.fit(SMILES, GE), "CCO", GE[0]).values,
        atom_attribution(fingerprint_cca, "CCO", GE[0]).values,
    )


@pytest.mark.parametrize("metric", ["correlation", "cosine", "dot", "euclidean"])
def test_gradients_sum_to_the_change_of_similarity(metric):
    net = tiny_net(metric=metric, module__normalize=False).fit(SMILES, GE)
    result = atom_attribution(net, CELECOXIB, GE[0], method="gradient", n_steps=256)
    X = np.array([CELECOXIB], dtype=object)
    np.testing.assert_allclose(result.similarity, net.similarity(X, GE[:1])[0, 0])
    difference = result.similarity - result.baseline_similarity
    assert abs(difference) > 0.01
    np.testing.assert_allclose(result.values.sum(), difference, atol=1e-3)


@pytest.mark.filterwarnings("ignore:The integrated gradients sum to")
def test_gradients_match_finite_differences_of_a_linear_path(net):
    # One step of the quadrature: x times the gradient at x / 2.
    result = atom_attribution(net, "CO", GE[0], method="gradient", n_steps=1)
    graph, _ = net.molecule_tensors(["CO"])
    profile = net.transform_ge(GE[:1])[0]

    def similarity(atoms, bonds):
        batch = type(graph)(atoms, bonds, graph.bonds, graph.n_atoms)
        embedded = net.embed_molecules(batch, None)[0].detach().numpy()
        return np.corrcoef(embedded, profile)[0, 1]

    def slope(atoms, bonds, step=0.02):
        up = similarity(
            graph.V / 2 + step * atoms, graph.bond_features / 2 + step * bonds
        )
        down = similarity(
            graph.V / 2 - step * atoms, graph.bond_features / 2 - step * bonds
        )
        return (up - down) / (2 * step)

    first, second, bond = graph.V.clone(), graph.V.clone(), graph.bond_features
    first[1] = second[0] = 0
    of_bond = slope(0 * graph.V, bond)
    expected = [slope(atom, 0 * bond) + of_bond / 2 for atom in (first, second)]
    np.testing.assert_allclose(result.values, expected, rtol=0.02, atol=1e-4)


def test_molecule_features_are_held_fixed():
    net = tiny_net(molecule_features=MorganFingerprinter(fp_size=32)).fit(SMILES, GE)
    result = atom_attribution(net, "OCC(Cl)C", GE[0], method="gradient", n_steps=256)
    np.testing.assert_allclose(
        result.values.sum(), result.similarity - result.baseline_similarity, atol=1e-3
    )


def test_gradient_leaves_the_network_as_it_was(net):
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    results = [
        atom_attribution(net, "OCC(Cl)C", GE[0], method="gradient") for _ in range(2)
    ]
    np.testing.assert_array_equal(results[0].values, results[1].values)
    for name, parameter in net.module_.state_dict().items():
        assert (parameter == before[name]).all()


def test_incomplete_gradients_warn(net):
    from sklearn.exceptions import ConvergenceWarning

    with pytest.warns(ConvergenceWarning, match=r"sum to .*Increase n_steps"):
        atom_attribution(net, CELECOXIB, GE[0], method="gradient", n_steps=1)


def test_trained_embedder_finds_the_atom_that_the_profiles_depend_on():
    chains = ["C" * n for n in range(1, 9)] + ["CC(C)C", "CCC(C)C", "CC(C)CC(C)C"]
    ends = ["O", "N", "C", "S"]
    plain = [chain + end for chain in chains for end in ends]
    smiles = np.array(plain + ["Cl" + text for text in plain], dtype=object)
    rng = np.random.default_rng(0)
    ge = rng.normal(size=(len(smiles), 20))
    ge[len(plain) :, :5] += 4
    net = tiny_net(batch_size=32, max_epochs=10).fit(smiles, ge)
    profile = np.zeros(20)
    profile[:5] = 4
    held_out = "CCC(O)CC(Cl)CCN"
    for method in ("occlusion", "gradient"):
        result = atom_attribution(net, held_out, profile, method=method, n_steps=256)
        atoms = [atom.GetSymbol() for atom in Chem.MolFromSmiles(held_out).GetAtoms()]
        assert atoms[np.argmax(result.values)] == "Cl"


@pytest.mark.parametrize("smiles", ["", "C(", "-666", "CCO CCN"])
def test_invalid_smiles(fingerprint_cca, smiles):
    with pytest.raises(InvalidSmilesError) as error:
        atom_attribution(fingerprint_cca, smiles, GE[0])
    assert error.value.entries == [smiles]
    with pytest.raises(InvalidSmilesError):
        atom_attribution(fingerprint_cca, "CCO", GE[0], candidates=["CC", smiles])


def test_wrong_parameters(fingerprint_cca, net):
    with pytest.raises(ValueError, match=r"'smiles' parameter .* must be an instance"):
        atom_attribution(fingerprint_cca, ["CCO"], GE[0])
    with pytest.raises(ValueError, match="'method' parameter"):
        atom_attribution(fingerprint_cca, "CCO", GE[0], method="shap")
    with pytest.raises(ValueError, match=r"one profile, .* Got shape \(2, 12\)"):
        atom_attribution(fingerprint_cca, "CCO", GE[:2])
    with pytest.raises(ValueError, match="NaN"):
        atom_attribution(fingerprint_cca, "CCO", np.full(12, np.nan))
    with pytest.raises(TypeError, match=r"needs a CoordinatedEmbedder.*Got a CCA"):
        atom_attribution(fingerprint_cca, "CCO", GE[0], method="gradient")


def test_gradient_needs_a_graph():
    fingerprint = MorganFingerprinter(fp_size=32)
    net = CoordinatedEmbedder(
        None, module__embedding_size=4, max_epochs=1, random_state=0
    )
    pipe = make_pipeline(fingerprint, net).fit(SMILES, GE)
    with pytest.raises(TypeError, match="has none"):
        atom_attribution(pipe, "CCO", GE[0], method="gradient")
    assert atom_attribution(pipe, "CCO", GE[0]).values.shape == (3,)


def test_profile_with_names(fingerprint_cca):
    frame = pd.DataFrame(GE, columns=[f"g{i}" for i in range(12)])
    retriever = TransformedTargetRetriever(CCA(3, ridge=0.1), StandardScaler())
    pipe = make_pipeline(MorganFingerprinter(fp_size=64), retriever)
    pipe.fit(SMILES, frame)
    a, b = (atom_attribution(pipe, "CCO", p) for p in (frame.iloc[0], frame[:1]))
    np.testing.assert_array_equal(a.values, b.values)


def test_dummies_are_molecules_on_real_structures(shared_data):
    path = shared_data / "library" / "compoundinfo.txt.gz"
    table = pd.read_csv(path, sep="\t", usecols=["canonical_smiles"])
    texts = table["canonical_smiles"].dropna().drop_duplicates()
    for text in texts.sample(40, random_state=0):
        mol = parse_smiles(text)
        if mol is None:
            continue
        estimator = Texts()
        atom_attribution(estimator, text, [1.0])
        n_atoms = mol.GetNumAtoms()
        with BlockLogs():
            sizes = [Chem.MolFromSmiles(t).GetNumAtoms() for t in estimator.asked]
        assert set(sizes) == {n_atoms}
        assert len(sizes) <= n_atoms + 2  # equal ones are asked for once


class Texts:
    """Remembers the molecules that it was asked for."""

    def similarity(self, X, y):
        self.asked = list(X)
        return np.zeros((len(y), len(X)))
