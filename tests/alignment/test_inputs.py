from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.model_selection import ShuffleSplit
from skorch.dataset import ValidSplit

from sklearn_molge.alignment._inputs import (
    build_dataset,
    check_kind,
    check_training_set,
    fit_features,
    molecule_inputs,
    split_rows,
)
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.model_selection import DrugCellLineShuffleSplit

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
        self.seen_ = list(X)
        return self

    def transform(self, X):
        rows = np.array([[len(s), self.value * s.count("N")] for s in X])
        return sparse.csr_array(rows) if self.sparse_output else rows


def parts(*, encoder="V2", features=None, **params):
    """Stand for an embedder: what was fitted, and its parameters."""
    if features is not None:
        features.fit(X)
    return SimpleNamespace(
        encoder_mode_=encoder,
        molecule_features_=features,
        encoder=encoder and "random",
        molecule_features=features,
        **params,
    )


def test_each_distinct_text_is_computed_once():
    molecules, index = molecule_inputs(parts(features=Lengths()), X)
    assert len(molecules.graphs) == 4
    assert index.tolist() == [0, 1, 2, 0, 3]
    assert molecules.features.tolist() == [[3, 0], [15, 1], [16, 1], [20, 2]]
    assert str(molecules.features.dtype) == "torch.float32"


def test_features_without_a_graph():
    molecules, index = molecule_inputs(
        parts(encoder=None, features=Lengths(sparse_output=True)), X[:2]
    )
    assert molecules.graphs is None
    assert molecules.features.tolist() == [[3, 0], [15, 1]]
    assert index.tolist() == [0, 1]


def test_numeric_rows():
    rows = np.array([[2.0, 1], [0, 1], [2, 1]])
    molecules, index = molecule_inputs(parts(encoder=None), rows)
    np.testing.assert_array_equal(molecules.features.numpy()[index], rows)
    assert len(molecules) == 2


def test_features_that_are_not_numbers():
    net = parts(features=Lengths(value=np.nan))
    with pytest.raises(ValueError, match="features of X contains NaN"):
        molecule_inputs(net, X)


def test_unknown_molecules():
    with pytest.raises(InvalidSmilesError, match="index 1: '-666'"):
        molecule_inputs(parts(), np.array(["CCO", "-666"], dtype=object))


def test_wrong_kind_of_molecules():
    with pytest.raises(ValueError, match=r"must be SMILES .* array of shape \(5, 2\)"):
        check_kind(Y, encoder="V2", features=None)
    with pytest.raises(ValueError, match="encoder=None is for features, and X is SMI"):
        check_kind(X, encoder=None, features=None)
    check_kind(X, encoder=None, features=Lengths())
    check_kind(Y, encoder=None, features=None)


def test_training_sets_that_cannot_be():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        check_training_set(parts(), X, Y[:3], None)
    with pytest.raises(ValueError, match=r"at least 2 drugs, .* Got 1 sample"):
        check_training_set(parts(), X[:1], Y[:1], None)
    with pytest.raises(ValueError, match=r"groups must have shape \(n_samples, 2\)"):
        check_training_set(parts(), X, Y, GROUPS[:, 0])
    with pytest.raises(InvalidSmilesError, match="index 4: 'C1CC'"):
        check_training_set(parts(), np.append(X[:4], "C1CC"), Y, None)


def test_fit_features_learns_from_distinct_molecules_and_clones():
    assert fit_features(parts(), X) is None
    given = Lengths()
    net = SimpleNamespace(molecule_features=given)
    assert fit_features(net, X).seen_ == ["CCO", *X[1:3], X[4]]
    assert not hasattr(given, "seen_")


def test_isomers_and_salts_are_one_drug():
    dataset = build_dataset(parts(), X, Y, None)
    assert dataset.drugs.tolist() == [0, 1, 1, 0, 1]
    assert dataset.molecule_of.tolist() == [0, 1, 2, 0, 3]
    assert dataset.groups is None
    assert dataset.cell_lines is None
    assert dataset.profiles.tolist() == Y.tolist()


@pytest.mark.parametrize("as_frame", [False, True])
def test_groups_name_drugs_and_cell_lines(as_frame):
    groups = pd.DataFrame(GROUPS, columns=["drug", "cell_line"]) if as_frame else GROUPS
    dataset = build_dataset(parts(), X, Y, groups)
    assert dataset.drugs.tolist() == [0, 1, 1, 2, 2]
    assert dataset.cell_lines.tolist() == [0, 1, 0, 2, 2]
    assert dataset.groups.tolist() == GROUPS.tolist()


def test_equal_features_are_one_drug():
    dataset = build_dataset(
        parts(encoder=None), np.array([[1.0], [0.0], [1.0]]), Y[:3], None
    )
    assert dataset.drugs[0] == dataset.drugs[2] != dataset.drugs[1]


# -- the validation part -------------------------------------------------------------


def test_without_a_split_all_rows_train():
    train, valid = split_rows(parts(train_split=None), X, Y, None)
    assert train.tolist() == [0, 1, 2, 3, 4]
    assert valid is None


def test_splitters_see_molecules_profiles_and_groups():
    class Recorder:
        def split(self, X, y, groups):
            self.seen = X, y, groups
            yield [4, 0], [2]
            raise AssertionError("one split is enough")

    recorder = Recorder()
    train, valid = split_rows(parts(train_split=recorder), X, Y, GROUPS)
    assert (train.tolist(), valid.tolist()) == ([4, 0], [2])
    assert all(a is b for a, b in zip(recorder.seen, (X, Y, GROUPS), strict=True))


def test_skorch_splits():
    cv = ShuffleSplit(1, test_size=2, random_state=0)
    expected = next(cv.split(X))
    got = split_rows(parts(train_split=ValidSplit(cv)), X, Y, None)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    cv = DrugCellLineShuffleSplit(1, hold_out="drugs", random_state=0)
    expected = next(cv.split(X, groups=GROUPS))
    got = split_rows(parts(train_split=ValidSplit(cv)), X, Y, GROUPS)
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_split_by_groups_needs_groups():
    cv = DrugCellLineShuffleSplit(1, random_state=0)
    with pytest.raises(ValueError, match="'groups' parameter should not be None"):
        split_rows(parts(train_split=cv), X, Y, None)
