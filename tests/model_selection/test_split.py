import inspect

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    cross_validate,
    learning_curve,
)

from sklearn_molge.model_selection import (
    DrugCellLineKFold,
    DrugCellLineShuffleSplit,
)


def full_table(n_drugs=6, n_lines=6, n_replicates=2):
    return np.array(
        [
            (f"drug{d}", f"line{c}")
            for d in range(n_drugs)
            for c in range(n_lines)
            for _ in range(n_replicates)
        ],
        dtype=object,
    )


def test_blocks_of_a_small_table_by_hand():
    groups = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y"), ("b", "y")]
    cv = DrugCellLineKFold(2, 2, shuffle=False)
    blocks = [(tr.tolist(), te.tolist()) for tr, te in cv.split(groups, groups=groups)]
    assert blocks == [([3, 4], [0]), ([2], [1]), ([1], [2]), ([0], [3, 4])]
    cv = DrugCellLineKFold(2, 2, hold_out="drugs", shuffle=False)
    blocks = [(tr.tolist(), te.tolist()) for tr, te in cv.split(groups, groups=groups)]
    assert blocks == [([2, 3, 4], [0, 1]), ([0, 1], [2, 3, 4])]
    cv = DrugCellLineKFold(2, 2, hold_out="cell_lines", shuffle=False)
    blocks = [(tr.tolist(), te.tolist()) for tr, te in cv.split(groups, groups=groups)]
    assert blocks == [([1, 3, 4], [0, 2]), ([0, 2], [1, 3, 4])]


@pytest.mark.parametrize(("n_drug_folds", "n_line_folds"), [(3, 3), (4, 2), (2, 3)])
def test_pairs_of_folds_are_blocks_of_the_whole(n_drug_folds, n_line_folds):
    groups = np.array([[d, c] for d in "abcdefgh" for c in "vwxyz"], dtype=object)
    every = DrugCellLineKFold(n_drug_folds, n_line_folds, random_state=0)
    cv = DrugCellLineKFold(n_drug_folds, n_line_folds, paired=True, random_state=0)
    blocks = list(every.split(groups, groups=groups))
    pairs = list(cv.split(groups, groups=groups))
    assert len(pairs) == cv.get_n_splits() == max(n_drug_folds, n_line_folds)
    for i, pair in enumerate(pairs):
        block = blocks[i % n_drug_folds * n_line_folds + i % n_line_folds]
        for rows, expected in zip(pair, block, strict=True):
            np.testing.assert_array_equal(rows, expected)
    for column, labels in enumerate(("abcdefgh", "vwxyz")):
        tested = {groups[row, column] for _, test in pairs for row in test}
        assert tested == set(labels)


@pytest.mark.parametrize("hold_out", ["drugs", "cell_lines"])
def test_pairs_where_one_is_held_out_are_all_folds(hold_out):
    groups = np.array([[d, c] for d in "abcd" for c in "wxyz"], dtype=object)
    cv = DrugCellLineKFold(2, 3, hold_out=hold_out, random_state=0)
    paired = DrugCellLineKFold(2, 3, hold_out=hold_out, paired=True, random_state=0)
    assert cv.get_n_splits() == paired.get_n_splits()
    for (_, test), (_, other) in zip(
        *(c.split(groups, groups=groups) for c in (cv, paired)), strict=True
    ):
        np.testing.assert_array_equal(test, other)


def test_sizes_of_a_full_table():
    groups = full_table(9, 9, 1)
    for train, test in DrugCellLineKFold(random_state=0).split(groups, groups=groups):
        assert (len(train), len(test)) == (36, 9)


@pytest.mark.parametrize(
    "cv",
    [
        DrugCellLineKFold(2, 3, random_state=3),
        DrugCellLineShuffleSplit(4, test_drugs=2, test_cell_lines=2, random_state=3),
    ],
)
def test_order_of_rows_permutes_the_indices_only(cv):
    groups = full_table()
    order = np.random.default_rng(0).permutation(len(groups))
    permuted = cv.split(groups, groups=groups[order])
    for (train, test), (p_train, p_test) in zip(
        cv.split(groups, groups=groups), permuted, strict=True
    ):
        np.testing.assert_array_equal(np.sort(order[p_train]), train)
        np.testing.assert_array_equal(np.sort(order[p_test]), test)


@pytest.mark.parametrize("hold_out", ["both", "cell_lines"])
def test_oracle_rows_of_a_shuffle_split(hold_out):
    groups = full_table(6, 4)
    cv = DrugCellLineShuffleSplit(20, hold_out=hold_out, random_state=0)
    oracle_cv = clone(cv).set_params(train="oracle_train_lines")
    own_cv = clone(cv).set_params(train="oracle_test_lines")
    for (_, test), (oracle, test_a), (own, test_b) in zip(
        *(c.split(groups, groups=groups) for c in (cv, oracle_cv, own_cv)), strict=True
    ):
        for other in (test_a, test_b, own):
            np.testing.assert_array_equal(test, other)
        drugs, lines = set(groups[test, 0]), set(groups[test, 1])
        assert oracle.tolist() == [
            row for row, (d, c) in enumerate(groups) if d in drugs and c not in lines
        ]


def test_oracle_train_lines_by_hand():
    groups = [("a", "x"), ("a", "y"), ("b", "x"), ("b", "y")]
    cv = DrugCellLineKFold(2, 2, train="oracle_train_lines", shuffle=False)
    blocks = [(tr.tolist(), te.tolist()) for tr, te in cv.split(groups, groups=groups)]
    assert blocks == [([1], [0]), ([0], [1]), ([3], [2]), ([2], [3])]


def test_oracle_does_not_get_drugs_of_the_fold_that_are_not_tested():
    # Fold 0 of the drugs is a and b; b is not in line x.
    groups = [("a", "x"), ("a", "y"), ("b", "y"), ("c", "x"), ("c", "y")]
    cv = DrugCellLineKFold(2, 2, train="oracle_train_lines", shuffle=False)
    oracle, test = next(cv.split(groups, groups=groups))
    assert (oracle.tolist(), test.tolist()) == ([1], [0])


@pytest.mark.parametrize(
    ("test_drugs", "test_lines", "n_drugs", "n_lines"),
    [(0.2, 0.2, 2, 1), (0.21, 1, 3, 1), (3, 0.5, 3, 3), (0.9, 4, 9, 4)],
)
def test_fractions_are_rounded_up(test_drugs, test_lines, n_drugs, n_lines):
    groups = full_table(10, 5)
    cv = DrugCellLineShuffleSplit(
        5, test_drugs=test_drugs, test_cell_lines=test_lines, random_state=0
    )
    for train, test in cv.split(groups, groups=groups):
        assert len(set(groups[test, 0])) == n_drugs
        assert len(set(groups[test, 1])) == n_lines
        assert len(set(groups[train, 0])) == 10 - n_drugs
        assert len(set(groups[train, 1])) == 5 - n_lines


def test_a_fraction_that_floating_point_overshoots_is_not_rounded_up():
    assert 0.07 * 100 > 7
    groups = full_table(100, 2, 1)
    cv = DrugCellLineShuffleSplit(1, test_drugs=0.07, hold_out="drugs")
    ((_, test),) = cv.split(groups, groups=groups)
    assert len(set(groups[test, 0])) == 7


def test_every_drug_and_line_gets_its_turn():
    groups = full_table(6, 4, 1)
    cv = DrugCellLineShuffleSplit(600, test_drugs=2, test_cell_lines=1, random_state=0)
    tested = np.concatenate(
        [groups[test] for _, test in cv.split(groups, None, groups)]
    )
    drugs = pd.Series(tested[:, 0]).value_counts()
    lines = pd.Series(tested[:, 1]).value_counts()
    # 600 splits: a drug is expected in 200 of them, a line in 150, sd 12 and 11.
    assert drugs.between(150, 250).all()
    assert len(drugs) == 6
    assert (lines / 2).between(105, 195).all()
    assert len(lines) == 4


@pytest.mark.parametrize(
    "make",
    [
        lambda g: g.tolist(),
        lambda g: pd.DataFrame(g),
        lambda g: pd.DataFrame(g, columns=["drug", "cell_line"]).astype("category"),
        lambda g: pd.DataFrame(g, columns=["drug", "cell_line"]).astype("string"),
        lambda g: pd.DataFrame(
            {"cell_line": g[:, 1], "dose": 1.0, "drug": g[:, 0]}, index=g[:, 0]
        ),
        lambda g: g.astype(str),
        lambda g: pd.DataFrame({"Cell line ": g[:, 1], "DRUG": g[:, 0]}),
        lambda g: pd.Series([tuple(row) for row in g]),
        lambda g: pd.MultiIndex.from_arrays(g.T[::-1], names=["cell_line", "drug"]),
        # A part of a study: its drugs and lines are fewer than the categories.
        lambda g: pd.DataFrame(
            np.concatenate([g, [["another", "other"]]]), columns=["drug", "cell_line"]
        )
        .astype("category")
        .iloc[:-1],
        lambda g: pl.DataFrame({"cell_line": list(g[:, 1]), "drug": list(g[:, 0])}),
        lambda g: pl.DataFrame(
            {"cell_line": list(g[:, 1]), "dose": 1.0, "drug": list(g[:, 0])},
            schema_overrides={"cell_line": pl.Categorical, "drug": pl.Categorical},
        ),
        lambda g: pl.DataFrame(g.tolist(), orient="row"),
        lambda g: pa.table({"cell_line": list(g[:, 1]), "drug": list(g[:, 0])}),
        lambda g: pa.RecordBatch.from_pydict(
            {"cell_line": list(g[:, 1]), "drug": list(g[:, 0])}
        ),
    ],
    ids=[
        "list", "frame", "categories", "strings", "named columns", "U",
        "other spelling", "pairs", "multi-index", "unused categories", "polars",
        "polars categories", "polars without names", "pyarrow", "pyarrow batch",
    ],
)  # fmt: skip
def test_kinds_of_groups(make):
    groups = full_table()
    cv = DrugCellLineKFold(2, 2, random_state=0)
    for a, b in zip(
        cv.split(groups, groups=groups),
        cv.split(groups, groups=make(groups)),
        strict=True,
    ):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize("hold_out", ["drugs", "both"])
def test_labels_of_several_types_and_with_blanks(hold_out):
    """5 and "5", "A" and "A " are one: no drug and no line is on both sides."""
    drugs = [5, "5", 5.0, "5 ", "A", "A ", b"A", "B", "B", "C", "C", "D"]
    lines = ["x", "x ", "y", "y", 5637, "5637", "x", "y", "y\t", 5637.0, "x", "y"]
    groups = np.array([*zip(drugs, lines, strict=True)], dtype=object)
    cv = DrugCellLineKFold(2, 2, hold_out=hold_out, random_state=0)
    clean = np.array([*zip("5555AAABBCCD", "xxyy55xyy5xy", strict=True)], dtype=object)
    with pytest.warns(UserWarning, match="differ in type or in blanks only") as said:
        splits = list(cv.split(groups, groups=groups))
    assert len(said) == 2  # drugs and cell lines
    assert "'drug' of groups" in str(said[0].message)
    assert "(5, '5', '5 '), ('A', 'A ', b'A')" in str(said[0].message)
    for (train, test), expected in zip(
        splits, cv.split(clean, groups=clean), strict=True
    ):
        np.testing.assert_array_equal(train, expected[0])
        np.testing.assert_array_equal(test, expected[1])
        assert not set(clean[train, 0]) & set(clean[test, 0])


def test_columns_of_other_names_are_read_by_position_and_said():
    groups = full_table()
    frame = pd.DataFrame(groups, columns=["compound", "tissue"])
    cv = DrugCellLineKFold(2, 2, random_state=0)
    with pytest.warns(UserWarning, match="'compound' and 'tissue': the first is taken"):
        found = list(cv.split(groups, groups=frame))
    for a, b in zip(found, cv.split(groups, groups=groups), strict=True):
        np.testing.assert_array_equal(a[1], b[1])


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({"drug": ["a", "b"], "cell_line": ["x", "y"]}, "makes one .* Got a dict"),
        (
            np.array([("a", "x")], dtype=[("drug", "U1"), ("cell_line", "U1")]),
            "pandas.DataFrame.groups. makes one that is read by its names",
        ),
        ((pd.Series(["a", "b"]), pd.Series(["x", "y"])), "is a list of columns"),
    ],
)
def test_groups_that_are_no_table(groups, message):
    with pytest.raises(TypeError, match=message):
        DrugCellLineKFold(2, 2).split(np.zeros(2), groups=groups)


def test_integer_labels():
    groups = np.array([(d, c) for d in range(4) for c in range(4)])
    cv = DrugCellLineKFold(2, 2, shuffle=False)
    _, test = next(cv.split(groups, groups=groups))
    assert groups[test].tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]


def test_random_state():
    groups = full_table()

    def first_test(cv):
        return next(cv.split(groups, groups=groups))[1].tolist()

    assert first_test(DrugCellLineKFold(random_state=1)) == first_test(
        DrugCellLineKFold(random_state=1)
    )
    assert first_test(DrugCellLineKFold(random_state=1)) != first_test(
        DrugCellLineKFold(random_state=2)
    )
    cv = DrugCellLineKFold(random_state=np.random.RandomState(0))
    assert first_test(cv) != first_test(cv)
    with pytest.raises(ValueError, match="random_state has no effect since shuffle"):
        DrugCellLineKFold(shuffle=False, random_state=0).split(groups, groups=groups)
    with pytest.raises(ValueError, match="random_state"):
        DrugCellLineKFold(random_state="seed").split(groups, groups=groups)


def test_the_global_generator_is_left_alone():
    groups = full_table()
    np.random.seed(0)
    expected = np.random.RandomState(0).rand()
    list(DrugCellLineKFold(random_state=1).split(groups, groups=groups))
    list(DrugCellLineShuffleSplit(random_state=1).split(groups, groups=groups))
    assert np.random.rand() == expected


def test_parameters():
    cv = DrugCellLineKFold(4, 5, train="oracle_test_lines", random_state=1)
    assert clone(cv).get_params() == cv.get_params()
    assert repr(DrugCellLineKFold(4, 5)) == (
        "DrugCellLineKFold(n_cell_line_folds=5, n_drug_folds=4)"
    )
    assert list(inspect.signature(DrugCellLineKFold).parameters)[:2] == [
        "n_drug_folds",
        "n_cell_line_folds",
    ]
    assert cv.get_n_splits() == 20
    assert cv.set_params(hold_out="drugs").get_n_splits() == 4
    assert cv.set_params(hold_out="cell_lines").get_n_splits() == 5
    assert DrugCellLineShuffleSplit(7).get_n_splits() == 7


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        (DrugCellLineKFold(1, 3), "'n_drug_folds' parameter of DrugCellLineKFold"),
        (DrugCellLineKFold(3, 2.0), "'n_cell_line_folds' parameter"),
        (DrugCellLineKFold(hold_out="lines"), "'hold_out' parameter"),
        (DrugCellLineKFold(train="all"), "'train' parameter"),
        (DrugCellLineKFold(shuffle="yes"), "'shuffle' parameter"),
        (DrugCellLineKFold(7, 2), "n_drug_folds=7 is more than the 6 distinct drugs"),
        (
            DrugCellLineKFold(2, 9),
            "n_cell_line_folds=9 is more than the 6 distinct cell lines",
        ),
        (
            DrugCellLineKFold(hold_out="drugs", train="oracle_train_lines"),
            "needs held-out cell lines",
        ),
        (DrugCellLineShuffleSplit(0), "'n_splits' parameter"),
        (DrugCellLineShuffleSplit(test_drugs=1.0), "'test_drugs' parameter"),
        (DrugCellLineShuffleSplit(test_cell_lines=0), "'test_cell_lines' parameter"),
        (DrugCellLineShuffleSplit(test_drugs=6), "test_drugs=6 leaves none of the 6"),
        (
            DrugCellLineShuffleSplit(test_cell_lines=0.99),
            "test_cell_lines=0.99 leaves none of the 6 distinct cell lines",
        ),
    ],
)
def test_wrong_parameters(cv, message):
    groups = full_table()
    with pytest.raises(ValueError, match=message):
        cv.split(groups, groups=groups)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (None, "'groups' parameter should not be None"),
        (["a", "b"], r"must have shape \(n_samples, 2\).*Got an array of shape \(2,\)"),
        ([["a", "b", "c"]] * 4, r"Got an array of shape \(4, 3\)"),
        (
            pd.DataFrame({"drug": ["a"], "line": ["b"], "x": 1}),
            r"one column 'drug' and one 'cell_line'.* Got the columns 'drug', 'line', ",
        ),
        (
            pd.DataFrame({"cell_line": ["a"], "compound": ["b"]}),
            "Got the columns 'cell_line', 'compound'",
        ),
        (
            [("a", "x"), (None, "x"), ("  ", np.nan)],
            r"'drug' of groups must not .* 2 of 3 rows have, at indices 1, 2\.",
        ),
        (
            pd.DataFrame(
                {"drug": ["a", pd.NA], "cell_line": ["x", "y"]}, dtype="string"
            ),
            r"1 of 2 rows have, at indices 1\.",
        ),
        ([("a", None)] * 30, r"30 of 30 rows have, .* 19 and 10 more"),
    ],
)
def test_wrong_groups(groups, message):
    X = np.zeros(2 if groups is None else len(groups))
    with pytest.raises(ValueError, match=message):
        DrugCellLineKFold(2, 2).split(X, groups=groups)


def test_lengths_must_agree():
    groups = full_table()
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, 72\]"):
        DrugCellLineKFold(2, 2).split(np.zeros(3), groups=groups)
    with pytest.raises(ValueError, match=r"inconsistent .*: \[72, 4, 72\]"):
        DrugCellLineKFold(2, 2).split(groups, np.zeros(4), groups)


def test_empty_blocks_are_named():
    groups = [("a", "x"), ("b", "y"), ("a", "y")]
    with pytest.raises(
        ValueError,
        match=r"Test block \(drug fold 0, cell_line fold 1\) has no training row",
    ):
        DrugCellLineKFold(2, 2, shuffle=False).split(groups, groups=groups)
    groups = [("a", "x"), ("a", "y"), ("b", "y"), ("b", "z"), ("c", "x")]
    with pytest.raises(
        ValueError, match=r"\(drug fold 0, cell_line fold 2\) has no test row"
    ):
        DrugCellLineKFold(3, 3, shuffle=False).split(groups, groups=groups)
    groups = [("a", "x"), ("b", "y"), ("c", "x"), ("d", "y")]
    cv = DrugCellLineKFold(2, 2, train="oracle_train_lines", shuffle=False)
    with pytest.raises(ValueError, match="no row of a test drug in a training line"):
        cv.split(groups, groups=groups)


class SharedShare(BaseEstimator):
    """Scores which share of the test rows has a drug or a line of training rows."""

    def __init__(self, alpha=0):
        self.alpha = alpha

    def fit(self, X, y=None):
        self.seen_ = set(X[:, 0]) | set(X[:, 1])
        return self

    def score(self, X, y=None):
        return float(np.mean([d in self.seen_ or c in self.seen_ for d, c in X]))


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize(
    "cv",
    [
        DrugCellLineKFold(3, 3, random_state=0),
        DrugCellLineShuffleSplit(9, random_state=0),
    ],
)
def test_scikit_learn_runs_it(cv, routing):
    groups = full_table()
    metadata = {"params": {"groups": groups}} if routing else {"groups": groups}
    with config_context(enable_metadata_routing=routing):
        result = cross_validate(
            SharedShare(), groups, cv=cv, error_score="raise", **metadata
        )
        assert result["test_score"].tolist() == [0.0] * 9
        leaky = cross_validate(SharedShare(), groups, cv=KFold(9))
        assert leaky["test_score"].min() > 0
        search = GridSearchCV(
            SharedShare(), {"alpha": [0, 1]}, cv=cv, error_score="raise"
        )
        search.fit(groups, **(metadata["params"] if routing else metadata))
        assert search.cv_results_["mean_test_score"].tolist() == [0.0, 0.0]
        assert search.n_splits_ == 9
        scores = learning_curve(
            SharedShare(), groups, None, cv=cv, train_sizes=[0.5, 1.0], **metadata
        )[2]
        assert scores.shape == (2, 9)
        assert scores.max() == 0.0


@pytest.mark.parametrize("form", [pd.DataFrame, pl.DataFrame])
def test_names_of_lincs_tell_drugs_from_lines(form):
    groups = pd.DataFrame(full_table(), columns=["pert_id", "cell_iname"])
    cv = DrugCellLineKFold(2, 2, random_state=0)
    reversed_columns = form(groups.iloc[:, ::-1])
    found = list(cv.split(groups, groups=reversed_columns))
    for a, b in zip(found, cv.split(groups, groups=full_table()), strict=True):
        np.testing.assert_array_equal(a[1], b[1])
