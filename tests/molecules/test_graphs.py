import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from chemprop.data import BatchMolGraph
from chemprop.featurizers import (
    CuikmolmakerMolGraphFeaturizer,
    MultiHotAtomFeaturizer,
    SimpleMoleculeMolGraphFeaturizer,
)
from chemprop.featurizers.atom import RIGRAtomFeaturizer
from chemprop.featurizers.bond import RIGRBondFeaturizer
from joblib import parallel_config
from rdkit import Chem

from sklearn_molge.exceptions import InvalidSmilesError

# Private: MODES, compared with chemprop's; its featuriser, made to fail; small chunks,
# so that few molecules make several.
from sklearn_molge.molecules import MoleculeGraphs, _graphs

MODES = _graphs.MODES

SIMPLE = {
    "V1": SimpleMoleculeMolGraphFeaturizer(MultiHotAtomFeaturizer.v1()),
    "V2": SimpleMoleculeMolGraphFeaturizer(MultiHotAtomFeaturizer.v2()),
    "ORGANIC": SimpleMoleculeMolGraphFeaturizer(MultiHotAtomFeaturizer.organic()),
    "RIGR": SimpleMoleculeMolGraphFeaturizer(
        RIGRAtomFeaturizer(), RIGRBondFeaturizer()
    ),
}
SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",
    "C[C@H](N)C(=O)[O-].[Na+]",  # a salt
    "C",  # no bonds
    "[Na+].[Cl-]",  # two atoms without bonds
    "[2H]C([2H])([2H])O",  # isotopes
    "[13CH4]",
    "[99C]",  # an isotope that does not exist: its mass is its number
    "[H]O[H]",  # explicit H
    "[H][H]",
    "[H]N([H])C |$a;b;c;d$|",
    "C/C=C\\C#N",
    "N[Pt](N)(Cl)Cl",
    "F[P-](F)(F)(F)(F)F",
    "*C[U]",  # any atom; a heavy one
    "[nH]1cccc1",
    " CCO ",
]
ODD_BONDS = [
    "[NH3][Pt]([NH3])(Cl)Cl",  # too many bonds of N: dative ones
    "[NH3]->[Pt](Cl)(Cl)<-[NH3]",
    "N[Pt](N)(Cl)Cl",  # none of them
    "CC[NH2][Zn]",
    "C[N](C)(C)[Fe]",
    "[H][NH2][Cu]",
    "N->B",
    "[O-]->[Na+]",
    "[BH3]<-[NH3]",
    "C~C",
    "C1~CCCC~1",
    "c1ccccc1~[Fe]",
    "C1=CC=CC1~[Fe]~C1C=CC=C1",
    "CC(=O)O~[Cu]",
    "c1ccccc1->[Cr]",
    "c1cc[n]2->[Zn]<-[n]3ccccc3c2c1",
    "[C-]#[O+]->[Fe]",
    "C$C",
    "[U]$[U]",
    "O=C1O[Pt]2(N[C@@H]3CCCC[C@H]3N2)OC1=O",
    "[NH3][Co] |C:0.0|",
    "CCP(CC)(CC)=[Au]S",
    "c1cc[se]c1",
    "[13C@@H](F)(Cl)[nH]",
]
PARTS = ("V", "E", "edge_index", "rev_edge_index", "batch")


def chemprop_graph(smiles, mode="V2"):
    mols = [Chem.MolFromSmiles(text) for text in smiles]
    return BatchMolGraph([SIMPLE[mode](mol) for mol in mols])


def assert_same_graph(batch, expected):
    assert len(batch) == len(expected)
    for part in PARTS:
        ours, theirs = getattr(batch, part), getattr(expected, part)
        assert ours.dtype == theirs.dtype, part
        assert torch.equal(ours, theirs), part


@pytest.mark.parametrize("mode", MODES)
def test_bit_equal_to_chemprop_s_featurizer(mode):
    graphs = MoleculeGraphs.from_smiles(SMILES, mode=mode)
    assert len(graphs) == len(SMILES)
    batch = graphs.take(range(len(SMILES)))
    assert (batch.V.shape[1], batch.E.shape[1]) == MODES[mode]
    assert_same_graph(batch, chemprop_graph(SMILES, mode))


@pytest.mark.parametrize("mode", MODES)
def test_odd_bonds_are_bit_equal(mode):
    smiles = [text for text in ODD_BONDS if Chem.MolFromSmiles(text) is not None]
    assert len(smiles) >= 22
    together = MoleculeGraphs.from_smiles(smiles, mode=mode)
    assert_same_graph(together.take(range(len(smiles))), chemprop_graph(smiles, mode))


def test_dative_bonds_have_no_type():
    cisplatin = MoleculeGraphs.from_smiles(["[NH3][Pt]([NH3])(Cl)Cl"])
    types = cisplatin.bond_bits[:, 1:5]  # single, double, triple, aromatic
    assert types.tolist() == [[0] * 4, [0] * 4, [1, 0, 0, 0], [1, 0, 0, 0]]


@pytest.mark.parametrize("mode", MODES)
def test_modes_are_chemprop_s(mode):
    featurizer = CuikmolmakerMolGraphFeaturizer(mode)
    assert MODES[mode] == (featurizer.atom_fdim, featurizer.bond_fdim)
    assert MODES[mode] == SIMPLE[mode].shape


def test_masses_of_all_elements_are_exact():
    table = Chem.GetPeriodicTable()
    smiles = [f"[{table.GetElementSymbol(z)}]" for z in range(2, 119)]
    masses = MoleculeGraphs.from_smiles(smiles).atom_masses
    expected = [0.01 * table.GetAtomicWeight(z) for z in range(2, 119)]
    np.testing.assert_array_equal(masses, np.array(expected, dtype=np.float32))


@pytest.mark.parametrize(
    "indices",
    [
        [3],
        [5, 0, 5, 2, 2],
        [-1, 1],
        np.array([7, 4]),
        np.arange(len(SMILES)) % 2 == 1,
    ],
    ids=str,
)
def test_take_picks_like_numpy(indices):
    graphs = MoleculeGraphs.from_smiles(SMILES)
    chosen = np.array(SMILES, dtype=object)[indices]
    assert_same_graph(graphs.take(indices), chemprop_graph(chosen))


def test_take_refuses_what_is_not_there():
    graphs = MoleculeGraphs.from_smiles(["CCO", "C"])
    with pytest.raises(IndexError, match="index 2 is out of bounds"):
        graphs.take([0, 2])


def test_bags_name_the_bonds_of_each_sum():
    # Isobutane beside methane: bonds 0-1, 1-2, 1-3; directed bond 2i leaves the first.
    batch = MoleculeGraphs.from_smiles(["C", "CC(C)C"]).take([0, 1])
    source, target = batch.edge_index.tolist()
    assert (source, target) == ([1, 2, 2, 3, 2, 4], [2, 1, 3, 2, 4, 2])
    bonds = range(6)
    expected = {
        "sources": [[a] for a in source],
        "messages": [[f for f in bonds if target[f] == source[e] and f != e ^ 1]
                     for e in bonds],
        "arrivals": [[e for e in bonds if target[e] == a] for a in range(5)],
        "molecules": [[0], [1, 2, 3, 4]],
    }  # fmt: skip
    assert expected["messages"] == [[], [3, 5], [0, 5], [], [0, 3], []]
    for name, lists in expected.items():
        forward, back = getattr(batch.bags, name)
        n_rows = 6 if name in ("messages", "arrivals") else 5
        matrix = torch.zeros(len(lists), n_rows)
        for i, members in enumerate(lists):
            matrix[i, members] = 1
        torch.testing.assert_close(forward.sum(torch.eye(n_rows)), matrix)
        torch.testing.assert_close(back.sum(torch.eye(len(lists))), matrix.T)


def test_n_jobs_and_chunks_do_not_change_the_result(monkeypatch):
    expected = MoleculeGraphs.from_smiles(SMILES)
    monkeypatch.setattr(_graphs, "_CHUNK_SIZE", 5)
    for n_jobs in (1, 2):
        with parallel_config("threading"):  # processes would import torch first
            graphs = MoleculeGraphs.from_smiles(SMILES, n_jobs=n_jobs)
        for name, part in vars(expected).items():
            assert torch.equal(getattr(graphs, name), part), name


def test_small_and_picklable():
    aspirin = MoleculeGraphs.from_smiles([SMILES[0]])
    # 13 atoms, 13 bonds: a byte a feature, 4 a mass and an atom of a bond, 8 a count.
    assert aspirin.nbytes == 13 * (71 + 4) + 13 * (14 + 2 * 4) + 2 * 8
    again = pickle.loads(pickle.dumps(aspirin))
    assert_same_graph(again.take([0, 0]), aspirin.take([0, 0]))


def test_to_a_device_and_back():
    graphs = MoleculeGraphs.from_smiles(SMILES)
    meta = graphs.take([0]).to("meta")
    assert all(part.is_meta for part in (meta.V, meta.E, meta.edge_index))
    assert all(part.is_meta for part in vars(graphs.to("meta")).values())
    assert_same_graph(graphs.to("cpu").take([0]).to("cpu"), chemprop_graph(SMILES[:1]))


@pytest.mark.parametrize("chunk_size", [2, 512])
@pytest.mark.parametrize("entry", ["C1CC", "", "-666", None, np.nan, "CCO CCN"])
def test_bad_entries_are_named(monkeypatch, chunk_size, entry):
    monkeypatch.setattr(_graphs, "_CHUNK_SIZE", chunk_size)
    with pytest.raises(InvalidSmilesError, match="index 1: ") as caught:
        MoleculeGraphs.from_smiles(["CCO", entry, "CCN", "C", entry])
    assert caught.value.indices == [1, 4]
    with pytest.raises(InvalidSmilesError, match="1 entry of X"):
        MoleculeGraphs.from_smiles([entry])


def test_bad_entries_are_not_printed(capfd):
    with pytest.raises(InvalidSmilesError):
        MoleculeGraphs.from_smiles(["CCO", "C1CC"])
    assert capfd.readouterr() == ("", "")


def test_disagreement_with_rdkit_is_an_error(monkeypatch):
    monkeypatch.setattr(_graphs, "_featurize", lambda texts, mode: None)
    with pytest.raises(ValueError, match="refuses what RDKit reads"):
        MoleculeGraphs.from_smiles(["CCO"])


def test_unknown_mode_and_no_molecules():
    with pytest.raises(ValueError, match=r"mode must be one of .*'RIGR'.*Got 'v2'"):
        MoleculeGraphs.from_smiles(["CCO"], mode="v2")
    with pytest.raises(ValueError, match="at least 1 molecule"):
        MoleculeGraphs.from_smiles([])


def test_real_molecules_are_bit_equal(level5_folder):
    table = pd.read_csv(level5_folder / "compoundinfo.txt", sep="\t")
    smiles = table["canonical_smiles"].dropna().unique()[:150]
    graphs = MoleculeGraphs.from_smiles(smiles)
    assert graphs.nbytes / len(graphs) < 20_000
    assert_same_graph(graphs.take(range(len(smiles))), chemprop_graph(smiles))


def test_a_batch_takes_its_bags_to_another_device():
    batch = MoleculeGraphs.from_smiles(["CCO", "C", "c1ccccc1"]).take([0, 2])
    moved = batch.to("meta")  # it has shapes, and no values to find the bags from
    assert moved.V.device.type == "meta"
    for pair, expected in zip(moved.bags, batch.bags, strict=True):
        for bags, same in zip(pair, expected, strict=True):
            assert bags.rows.device.type == "meta"
            assert bags.rows.shape == same.rows.shape
            assert (bags.starts is None) == (same.starts is None)


@pytest.mark.parametrize(
    "text",
    [
        "O\x00C",
        "C[C+9999]",
        "[Pt]" + "(Cl)" * 50,
        "[H]." * 1200 + "[H]",
        "C[F]C",
        "C" * 1001,
    ],
    ids=range(6),
)
def test_bad_texts_among_good_ones_are_named(text):
    with pytest.raises(InvalidSmilesError) as caught:
        MoleculeGraphs.from_smiles(["C" * 300, "[Pt](Cl)(Cl)(Cl)(Cl)Cl", text])
    assert caught.value.indices == [2]
