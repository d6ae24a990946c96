import numpy as np
import pytest
from rdkit import Chem
from sklearn.base import clone

from sklearn_molge.model_selection import (
    DrugCellLineKFold,
    DrugCellLineShuffleSplit,
)
from sklearn_molge.molecules import drug_ids

N_TABLES = 1000


def random_table(rng):
    """Sparse drug x line table with repeated rows, in random order."""
    n_drugs, n_lines = rng.integers(3, 12), rng.integers(3, 7)
    n_rows = rng.integers(10, 80)
    drugs = rng.integers(n_drugs, size=n_rows)
    lines = rng.integers(n_lines, size=n_rows)
    return np.array(
        [(f"drug{d}", f"line{c}") for d, c in zip(drugs, lines, strict=True)],
        dtype=object,
    )


def shares(groups, a, b, column):
    return bool(set(groups[a, column]) & set(groups[b, column]))


def splits_or_none(cv, groups):
    """The splits, or None for tables in which a block has to be empty."""
    try:
        return list(cv.split(groups, groups=groups))
    except ValueError as error:
        expected = ("has no t", "no row of a test drug", "is more than the")
        if not any(text in str(error) for text in expected):
            raise
        return None


def folds_of(tested_labels, fold_of_block):
    """Labels of each fold: as every row is tested once, the union over its blocks."""
    folds = {}
    for labels, fold in zip(tested_labels, fold_of_block, strict=True):
        folds.setdefault(fold, set()).update(labels)
    assert sum(len(fold) for fold in folds.values()) == len(
        set().union(*folds.values())
    )
    return [folds[fold] for fold in fold_of_block]


def random_kfold(rng, **params):
    folds = rng.integers(2, 4, size=2).tolist()
    return DrugCellLineKFold(*folds, random_state=int(rng.integers(100)), **params)


@pytest.mark.parametrize("hold_out", ["both", "drugs", "cell_lines"])
def test_kfold_shares_nothing_and_tests_every_row_once(hold_out):
    rng = np.random.default_rng(0)
    n_checked = 0
    for _ in range(N_TABLES):
        groups = random_table(rng)
        cv = random_kfold(rng, hold_out=hold_out)
        splits = splits_or_none(cv, groups)
        if splits is None:
            continue
        n_checked += 1
        assert len(splits) == cv.get_n_splits()
        tested = np.concatenate([test for _, test in splits])
        np.testing.assert_array_equal(np.sort(tested), np.arange(len(groups)))
        for train, test in splits:
            if hold_out != "cell_lines":
                assert not shares(groups, train, test, 0)
            if hold_out != "drugs":
                assert not shares(groups, train, test, 1)
            if hold_out != "both":
                assert len(train) + len(test) == len(groups)
    assert n_checked > N_TABLES / 3


def test_kfold_by_a_slow_loop():
    rng = np.random.default_rng(3)
    n_checked = 0
    for _ in range(N_TABLES // 4):
        groups = random_table(rng)
        cv = random_kfold(rng)
        variants = {
            train: splits_or_none(clone(cv).set_params(train=train), groups)
            for train in ("disjoint", "oracle_train_lines", "oracle_test_lines")
        }
        if variants["oracle_train_lines"] is None or variants["disjoint"] is None:
            continue
        n_checked += 1
        n_lines = cv.n_cell_line_folds
        blocks = range(cv.get_n_splits())
        tests = [test for _, test in variants["disjoint"]]
        drug_folds = folds_of(
            [groups[t, 0] for t in tests], [i // n_lines for i in blocks]
        )
        line_folds = folds_of(
            [groups[t, 1] for t in tests], [i % n_lines for i in blocks]
        )
        for i in blocks:
            rows = {"train": [], "test": [], "oracle": []}
            test_drugs = set(groups[tests[i], 0])
            for row, (drug, line) in enumerate(groups):
                if drug in drug_folds[i] and line in line_folds[i]:
                    rows["test"].append(row)
                if drug not in drug_folds[i] and line not in line_folds[i]:
                    rows["train"].append(row)
                if drug in test_drugs and line not in line_folds[i]:
                    rows["oracle"].append(row)
            found = {name: [a.tolist() for a in v[i]] for name, v in variants.items()}
            assert found["disjoint"] == [rows["train"], rows["test"]]
            assert found["oracle_train_lines"] == [rows["oracle"], rows["test"]]
            assert found["oracle_test_lines"] == [rows["test"], rows["test"]]
    assert n_checked > N_TABLES / 20


@pytest.mark.parametrize("hold_out", ["both", "drugs", "cell_lines"])
def test_shuffle_split_shares_nothing(hold_out):
    rng = np.random.default_rng(1)
    n_checked = 0
    held = {"drugs": [0], "cell_lines": [1], "both": [0, 1]}[hold_out]
    for seed in range(N_TABLES):
        groups = random_table(rng)
        cv = DrugCellLineShuffleSplit(
            3,
            test_drugs=0.4,
            test_cell_lines=0.3,
            hold_out=hold_out,
            random_state=seed,
        )
        for train, test in splits_or_none(cv, groups) or []:
            n_checked += 1
            assert not any(shares(groups, train, test, column) for column in held)
    assert n_checked > N_TABLES


@pytest.mark.parametrize("hold_out", ["both", "drugs"])
def test_empty_block_is_the_only_reason_to_refuse_a_table(hold_out):
    rng = np.random.default_rng(2)
    refused = 0
    for _ in range(N_TABLES):
        groups = random_table(rng)[:20]
        drugs, lines = (sorted(set(groups[:, c])) for c in (0, 1))
        cv = DrugCellLineKFold(2, 2, hold_out=hold_out, shuffle=False)
        if len(drugs) < 2 or len(lines) < 2:
            continue
        drug_folds = np.array_split(drugs, 2)
        line_folds = np.array_split(lines, 2)
        counts = np.array(
            [
                [sum(d in df and c in lf for d, c in groups) for lf in line_folds]
                for df in drug_folds
            ]
        )
        # With 2 x 2 folds the training block is the one across.
        empty = hold_out == "both" and (counts == 0).any()
        if empty:
            refused += 1
            with pytest.raises(ValueError, match="has no t"):
                cv.split(groups, groups=groups)
        else:
            tests = [test for _, test in cv.split(groups, groups=groups)]
            expected = counts.ravel() if hold_out == "both" else counts.sum(axis=1)
            assert [len(test) for test in tests] == expected.tolist()
    assert hold_out == "drugs" or refused > 5


def spellings(smiles, n=4):
    mol = Chem.MolFromSmiles(smiles)
    return list(Chem.MolToRandomSmilesVect(mol, n, randomSeed=1))


def test_drug_ids_keep_spellings_salts_and_isomers_together():
    drugs = [
        [*spellings("CC(N)Cc1ccccc1"), "C[C@@H](N)Cc1ccccc1", "CC(N)Cc1ccccc1.Cl"],
        [*spellings("CC(=O)Oc1ccccc1C(=O)O"), "CC(=O)Oc1ccccc1C(=O)[O-].[Na+]"],
        [*spellings("CC(C)Cc1ccc(cc1)C(C)C(=O)O"), "CC(C)Cc1ccc([C@H](C)C(=O)O)cc1"],
        [*spellings("CN1CCC[C@H]1c1cccnc1"), "CN1CCC[C@@H]1c1cccnc1"],
        [*spellings("Cn1cnc2c1c(=O)n(C)c(=O)n2C")],
        [*spellings("CC(=O)Nc1ccc(O)cc1")],
    ]
    true = [i for i, texts in enumerate(drugs) for _ in texts for _ in range(4)]
    smiles = [text for texts in drugs for text in texts for _ in range(4)]
    lines = np.tile(list("wxyz"), len(smiles) // 4)
    true = np.array(true)

    def leaks(labels):
        groups = np.column_stack([labels.astype(object), lines.astype(object)])
        cv = DrugCellLineKFold(2, 2, random_state=0)
        return [
            bool(set(true[train]) & set(true[test]))
            for train, test in cv.split(smiles, groups=groups)
        ]

    assert leaks(np.array(smiles, dtype=object)) == [True] * 4
    assert leaks(drug_ids(smiles)) == [False] * 4
