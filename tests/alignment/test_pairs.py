import numpy as np
import pytest
import torch
from sklearn_molge.alignment._pairs import (
    EpochBatches,
    MoleculeInputs,
    PairDataset,
    rows_of,
)
from torch.utils.data import DataLoader, Subset

from sklearn_molge.alignment._batches import SampledBatch
from sklearn_molge.alignment._net import as_is
from sklearn_molge.alignment.samplers import DrugBalancedSampler, UniformSampler
from sklearn_molge.molecules import MoleculeGraphs

SMILES = np.array(["CCO", "CCN", "c1ccccc1"], dtype=object)
# Six profiles: of molecules 0, 1, 2, 1, 0, 0; molecules 0 and 2 are one drug.
MOLECULE_OF = np.array([0, 1, 2, 1, 0, 0])
DRUGS = np.array([5, 3, 5, 3, 5, 5])
FEATURES = torch.arange(6.0).reshape(3, 2)
PROFILES = torch.arange(12.0).reshape(6, 2)


@pytest.fixture
def dataset():
    graphs = MoleculeGraphs.from_smiles(SMILES)
    return PairDataset(
        X=SMILES[MOLECULE_OF],
        molecules=MoleculeInputs(graphs, FEATURES),
        molecule_of=MOLECULE_OF,
        drugs=DRUGS,
        profiles=PROFILES,
        groups=None,
        cell_lines=np.array([0, 0, 0, 1, 1, 0]),
    )


def test_molecule_inputs(dataset):
    molecules = dataset.molecules
    assert len(molecules) == 3
    assert molecules.nbytes == molecules.graphs.nbytes + 6 * 4
    graphs, features = molecules.take(np.array([2, 0, 2]))
    assert graphs.n_atoms.tolist() == [6, 3, 6]
    assert features.tolist() == [[4.0, 5.0], [0.0, 1.0], [4.0, 5.0]]
    assert len(molecules.to("cpu")) == 3
    assert len(MoleculeInputs(molecules.graphs, None)) == 3
    assert MoleculeInputs(None, FEATURES).take(np.array([1]))[0] is None


def test_a_batch_holds_each_molecule_once(dataset):
    batch = dataset.take(SampledBatch(np.array([4, 3, 0, 2, 1])))
    assert len(batch) == 5
    assert batch.profiles.tolist() == PROFILES[[4, 3, 0, 2, 1]].tolist()
    assert batch.features.tolist() == FEATURES.tolist()
    assert batch.graphs.n_atoms.tolist() == [3, 3, 6]
    assert batch.molecule_index.tolist() == [0, 1, 0, 2, 1]
    assert batch.molecule_drugs.tolist() == [5, 3, 5]
    assert batch.anchors is None


def test_a_batch_without_some_molecules(dataset):
    batch = dataset.take(SampledBatch(np.array([2, 0])))
    assert batch.graphs.n_atoms.tolist() == [3, 6]
    assert batch.molecule_index.tolist() == [1, 0]
    assert batch.molecule_drugs.tolist() == [5, 5]


def test_triplets_come_along(dataset):
    triplets = [np.array([0]), np.array([2]), np.array([1])]
    batch = dataset.take(SampledBatch(np.array([0, 1, 4]), *triplets))
    names = ("anchors", "partners", "negatives")
    assert [getattr(batch, name).tolist() for name in names] == [[0], [2], [1]]


def test_drugs_with_equal_features_stay_two_drugs():
    """Fingerprints collide: then one row of features is two drugs."""
    dataset = PairDataset(
        X=np.ones((3, 2)),
        molecules=MoleculeInputs(None, torch.ones(1, 2)),
        molecule_of=np.zeros(3, dtype=int),
        drugs=np.array([0, 1, 0]),
        profiles=PROFILES[:3],
        groups=None,
        cell_lines=None,
    )
    batch = dataset.take(SampledBatch(np.array([0, 1, 2])))
    assert batch.features.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert batch.molecule_index.tolist() == [0, 1, 0]
    assert batch.molecule_drugs.tolist() == [0, 1]


def test_rows_one_by_one_and_by_the_loader(dataset):
    assert dataset[3].profiles.tolist() == PROFILES[[3]].tolist()
    sampled = [SampledBatch(np.array([3, 1])), SampledBatch(np.array([5, 2, 0]))]
    loader = DataLoader(dataset, batch_sampler=sampled, collate_fn=as_is)
    for (batch, target), expected in zip(loader, sampled, strict=True):
        assert target is None
        assert batch.profiles.tolist() == PROFILES[expected.profiles].tolist()


def test_to_returns_another_batch(dataset):
    batch = dataset.take(SampledBatch(np.array([0, 1])))
    moved = batch.to("cpu")
    assert moved.profiles.tolist() == batch.profiles.tolist()
    assert moved.graphs.n_atoms.tolist() == batch.graphs.n_atoms.tolist()
    assert moved.anchors is None


def test_moving_the_dataset(dataset):
    before = dataset.nbytes
    dataset.move("cpu")
    assert dataset.nbytes == before == PROFILES.nbytes + dataset.molecules.nbytes


def test_rows_of(dataset):
    whole, rows = rows_of(dataset)
    assert whole is dataset
    assert rows.tolist() == [0, 1, 2, 3, 4, 5]
    nested = Subset(Subset(dataset, [4, 2, 0]), [2, 0])
    whole, rows = rows_of(nested)
    assert whole is dataset
    assert rows.tolist() == [0, 4]
    with pytest.raises(TypeError, match="a PairDataset is needed, got list"):
        rows_of([1, 2])


# -- batches of an epoch -------------------------------------------------------------


def epochs(dataset, n, *, seed=0, epoch=0):
    batches = EpochBatches(
        UniformSampler(batch_size=4, partners=True), dataset, seed=seed, epoch=epoch
    )
    return [[batch.profiles.tolist() for batch in batches] for _ in range(n)]


def test_epochs_are_drawn_from_seed_and_number(dataset):
    first, second, third = epochs(dataset, 3)
    assert first != second
    assert epochs(dataset, 2, epoch=1) == [second, third]  # as after an interruption
    assert epochs(dataset, 1, seed=1) != [first]


def test_validation_draws_the_same_batches_each_time(dataset):
    first, second = epochs(dataset, 2, epoch=None)
    assert first == second


def test_batches_of_a_part_stay_in_it(dataset):
    part = Subset(dataset, [5, 3, 1])
    batches = EpochBatches(UniformSampler(batch_size=2), part, seed=0, epoch=0)
    assert len(batches) == 2
    anchors = []
    for batch in batches:
        assert set(batch.profiles.tolist()) <= {1, 3, 5}
        anchors.extend(batch.profiles[batch.anchors].tolist())
        drugs = DRUGS[batch.profiles]
        assert (drugs[batch.anchors] != drugs[batch.negatives]).all()
    assert sorted(anchors) == [1, 3, 5]


def test_samplers_see_the_cell_lines(dataset):
    """Two profiles of the drug of row 0: the other line is always in."""
    sampler = DrugBalancedSampler(profiles_per_drug=2, epoch_over="drugs")
    for seed in range(5):
        (batch,) = EpochBatches(sampler, dataset, seed=seed, epoch=0)
        lines = dataset.cell_lines[batch.profiles]
        of_drug = DRUGS[batch.profiles] == 5
        assert sorted(lines[of_drug]) == [0, 1]
