"""The training set: molecules once each, profiles row by row, in batches."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.model_selection import ShuffleSplit
from skorch.dataset import ValidSplit
from torch.utils.data import DataLoader, Subset

from sklearn_molge.alignment import SampledBatch, Triplets

# What a batch holds is told by hand: no public name shows one before it is embedded.
from sklearn_molge.alignment._dataset import (
    EpochBatches,
    MoleculeInputs,
    PairDataset,
    check_kind,
    check_training_set,
    rows_of,
    split_rows,
)
from sklearn_molge.alignment.samplers import DrugBalancedSampler, UniformSampler
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.model_selection import DrugCellLineShuffleSplit
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
        y=PROFILES.numpy(),
        molecules=MoleculeInputs(graphs, FEATURES),
        molecule_of=MOLECULE_OF,
        drugs=DRUGS,
        cell_lines=np.array([0, 0, 0, 1, 1, 0]),
    )


def test_molecule_inputs(dataset):
    molecules = dataset.molecules
    assert len(molecules) == 3
    assert molecules.nbytes == molecules.graphs.nbytes + 6 * 4
    graphs, features = molecules.take(np.array([2, 0, 2]))
    assert graphs.n_atoms.tolist() == [6, 3, 6]
    assert features.tolist() == [[4.0, 5.0], [0.0, 1.0], [4.0, 5.0]]
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
    assert batch.triplets is None


def test_a_batch_without_some_molecules(dataset):
    batch = dataset.take(SampledBatch(np.array([2, 0])))
    assert batch.graphs.n_atoms.tolist() == [3, 6]
    assert batch.molecule_index.tolist() == [1, 0]
    assert batch.molecule_drugs.tolist() == [5, 5]


def test_triplets_come_along(dataset):
    triplets = Triplets(np.array([0]), np.array([2]))
    batch = dataset.take(SampledBatch(np.array([0, 1, 4]), triplets)).to("cpu")
    assert batch.triplets.anchors.tolist() == [0]
    assert batch.triplets.negatives.tolist() == [2]
    assert batch.triplets.partners is None


def test_drugs_with_equal_features_stay_two_drugs():
    """Fingerprints collide: then one row of features is two drugs."""
    dataset = PairDataset(
        X=np.ones((3, 2)),
        y=PROFILES[:3].numpy(),
        molecules=MoleculeInputs(None, torch.ones(1, 2)),
        molecule_of=np.zeros(3, dtype=int),
        drugs=np.array([0, 1, 0]),
    )
    batch = dataset.take(SampledBatch(np.array([0, 1, 2])))
    assert batch.features.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert batch.molecule_index.tolist() == [0, 1, 0]
    assert batch.molecule_drugs.tolist() == [0, 1]


def test_rows_one_by_one_and_by_the_loader(dataset):
    assert dataset[3].profiles.tolist() == PROFILES[[3]].tolist()
    sampled = [SampledBatch(np.array([3, 1])), SampledBatch(np.array([5, 2, 0]))]
    loader = DataLoader(
        dataset, batch_sampler=sampled, collate_fn=lambda batch: (batch, None)
    )
    for (batch, target), expected in zip(loader, sampled, strict=True):
        assert target is None
        assert batch.profiles.tolist() == PROFILES[expected.profiles].tolist()


def test_to_returns_another_batch(dataset):
    batch = dataset.take(SampledBatch(np.array([0, 1])))
    moved = batch.to("cpu")
    assert moved.profiles.tolist() == batch.profiles.tolist()
    assert moved.graphs.n_atoms.tolist() == batch.graphs.n_atoms.tolist()
    assert moved.triplets is None


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
        anchors.extend(batch.profiles[batch.triplets.anchors].tolist())
        drugs = DRUGS[batch.profiles]
        assert (drugs[batch.triplets.anchors] != drugs[batch.triplets.negatives]).all()
    assert sorted(anchors) == [1, 3, 5]


def test_samplers_see_the_cell_lines(dataset):
    """Two profiles of the drug of row 0: the other line is always in."""
    sampler = DrugBalancedSampler(profiles_per_drug=2, epoch_over="drugs")
    for seed in range(5):
        (batch,) = EpochBatches(sampler, dataset, seed=seed, epoch=0)
        lines = dataset.cell_lines[batch.profiles]
        of_drug = DRUGS[batch.profiles] == 5
        assert sorted(lines[of_drug]) == [0, 1]


# -- from what the user gives --------------------------------------------------------

# (S)- and (R)-alanine and alanine's salt are one drug.
X = np.array(
    ["CCO", "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O", "CCO", "CC(N)C(=O)[O-].[Na+]"],
    dtype=object,
)
Y = np.arange(10, dtype=np.float32).reshape(5, 2)
GROUPS = np.array(
    [["a", "A549"], ["b", "MCF7"], ["b", "A549"], ["c", "PC3"], ["c", "PC3"]]
)


class Lengths(BaseEstimator):
    """Two features of a SMILES: length of the text, and number of N."""

    def __init__(self, sparse_output=False, value=1.0):
        self.sparse_output = sparse_output
        self.value = value

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        rows = np.array([[len(s), self.value * s.count("N")] for s in X])
        return sparse.csr_array(rows) if self.sparse_output else rows


def prepare(X, *, mode="V2", features=None):
    return MoleculeInputs.prepare(X, mode=mode, features=features)


def pairs(X, y, groups=None, *, mode="V2"):
    return PairDataset.prepare(X, y, groups, mode=mode, features=None)


def test_each_distinct_text_is_computed_once():
    molecules, index = prepare(X, features=Lengths())
    assert len(molecules.graphs) == 4
    assert index.tolist() == [0, 1, 2, 0, 3]
    assert molecules.features.tolist() == [[3, 0], [15, 1], [16, 1], [20, 2]]
    assert str(molecules.features.dtype) == "torch.float32"


def test_features_without_a_graph():
    features = Lengths(sparse_output=True)
    molecules, index = prepare(X[:2], mode=None, features=features)
    assert molecules.graphs is None
    assert molecules.features.tolist() == [[3, 0], [15, 1]]
    assert index.tolist() == [0, 1]


def test_numeric_rows():
    rows = np.array([[2.0, 1], [0, 1], [2, 1]])
    molecules, index = prepare(rows, mode=None)
    np.testing.assert_array_equal(molecules.features.numpy()[index], rows)
    assert len(molecules) == 2


def test_features_that_are_not_numbers():
    with pytest.raises(ValueError, match="features of X contains NaN"):
        prepare(X, features=Lengths(value=np.nan))


def test_unknown_molecules():
    with pytest.raises(InvalidSmilesError, match="index 1: '-666'"):
        prepare(np.array(["CCO", "-666"], dtype=object))


def test_wrong_kind_of_molecules():
    with pytest.raises(ValueError, match=r"must be SMILES .* array of shape \(5, 2\)"):
        check_kind(Y, graphs=True, features=False)
    with pytest.raises(ValueError, match="encoder=None is for features, and X is SMI"):
        check_kind(X, graphs=False, features=False)
    check_kind(X, graphs=False, features=True)
    check_kind(Y, graphs=False, features=False)


def test_training_sets_that_cannot_be():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        check_training_set(X, Y[:3], None)
    with pytest.raises(ValueError, match=r"at least 2 drugs, .* Got 1 sample"):
        check_training_set(X[:1], Y[:1], None)
    with pytest.raises(ValueError, match=r"groups must have shape \(n_samples, 2\)"):
        check_training_set(X, Y, GROUPS[:, 0])
    with pytest.raises(InvalidSmilesError, match="index 4: 'C1CC'"):
        check_training_set(np.append(X[:4], "C1CC"), Y, None)


def test_isomers_and_salts_are_one_drug():
    dataset = pairs(X, Y)
    assert dataset.drugs.tolist() == [0, 1, 1, 0, 1]
    assert dataset.molecule_of.tolist() == [0, 1, 2, 0, 3]
    assert dataset.cell_lines is None
    assert dataset.profiles.tolist() == Y.tolist()


@pytest.mark.parametrize("as_frame", [False, True])
def test_groups_name_drugs_and_cell_lines(as_frame):
    groups = pd.DataFrame(GROUPS, columns=["drug", "cell_line"]) if as_frame else GROUPS
    dataset = pairs(X, Y, groups)
    assert dataset.drugs.tolist() == [0, 1, 1, 2, 2]
    assert dataset.cell_lines.tolist() == [0, 1, 0, 2, 2]


def test_equal_features_are_one_drug():
    dataset = pairs(np.array([[1.0], [0.0], [1.0]]), Y[:3], mode=None)
    assert dataset.drugs[0] == dataset.drugs[2] != dataset.drugs[1]


# -- the validation part -------------------------------------------------------------


def test_without_a_split_all_rows_train():
    train, valid = split_rows(None, X, Y, None)
    assert train.tolist() == [0, 1, 2, 3, 4]
    assert valid is None


def test_splitters_see_molecules_profiles_and_groups():
    class Recorder:
        def split(self, X, y, groups):
            self.seen = X, y, groups
            yield [4, 0], [2]
            raise AssertionError("one split is enough")

    recorder = Recorder()
    train, valid = split_rows(recorder, X, Y, GROUPS)
    assert (train.tolist(), valid.tolist()) == ([4, 0], [2])
    assert all(a is b for a, b in zip(recorder.seen, (X, Y, GROUPS), strict=True))


def test_skorch_splits():
    cv = ShuffleSplit(1, test_size=2, random_state=0)
    expected = next(cv.split(X))
    got = split_rows(ValidSplit(cv), X, Y, None)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    cv = DrugCellLineShuffleSplit(1, hold_out="drugs", random_state=0)
    expected = next(cv.split(X, groups=GROUPS))
    got = split_rows(ValidSplit(cv), X, Y, GROUPS)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_split_by_groups_needs_groups():
    cv = DrugCellLineShuffleSplit(1, random_state=0)
    with pytest.raises(ValueError, match=r"train_split=Drug.* needs groups"):
        split_rows(cv, X, Y, None)
