from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.model_selection import drug_cell_line_split

LINES = ["A375", "A549", "HA1E", "HCC515", "HT29", "MCF7", "PC3", "VCAP"]
PARTS = ("train", "val", "test")


def full_table(n_drugs=30, lines=LINES):
    return np.array(
        [(f"drug{d:02}", line) for d in range(n_drugs) for line in lines], dtype=object
    )


def random_table(rng):
    n_rows = rng.integers(30, 120)
    drugs = rng.integers(rng.integers(8, 20), size=n_rows)
    lines = rng.integers(rng.integers(3, 7), size=n_rows)
    return np.array(
        [(f"drug{d}", f"line{c}") for d, c in zip(drugs, lines, strict=True)],
        dtype=object,
    )


def slow_parts(groups, split, hold_out):
    """Rows of each part, from the labels that each part was given."""
    slow = {name: [] for name in (*PARTS, "dropped")}
    for row, (drug, line) in enumerate(groups):
        parts = [
            part
            for part in PARTS
            if drug in split.drugs[part] and line in split.cell_lines[part]
        ]
        assert len(parts) <= 1
        slow[parts[0] if parts else "dropped"].append(row)
    test_drugs = {groups[row, 0] for row in slow["test"]}
    slow["oracle_train_lines"] = [
        row
        for row, (drug, line) in enumerate(groups)
        if drug in test_drugs
        and line in split.cell_lines["train"]
        and hold_out != "drugs"
    ]
    return slow


@pytest.mark.parametrize("hold_out", ["both", "drugs", "cell_lines"])
def test_parts_of_random_tables(hold_out):
    rng = np.random.default_rng(0)
    held = {"drugs": [0], "cell_lines": [1], "both": [0, 1]}[hold_out]
    n_checked = 0
    for seed in range(400):
        groups = random_table(rng)
        try:
            split = drug_cell_line_split(
                groups,
                val_drugs=0.3,
                test_drugs=0.3,
                hold_out=hold_out,
                random_state=seed,
            )
        except ValueError as error:
            if "part has no row" not in str(error):
                raise
            continue
        n_checked += 1
        for (a, b), column in product(combinations(PARTS, 2), held):
            labels_a = set(groups[getattr(split, a), column])
            assert not labels_a & set(groups[getattr(split, b), column])
        for name, rows in slow_parts(groups, split, hold_out).items():
            assert getattr(split, name).tolist() == rows
    assert n_checked > 200


def test_lines_of_the_paper():
    groups = full_table(40)
    split = drug_cell_line_split(
        groups, val_cell_lines=["A549"], test_cell_lines=["HT29"], random_state=0
    )
    assert split.cell_lines["val"].tolist() == ["A549"]
    assert split.cell_lines["test"].tolist() == ["HT29"]
    assert split.cell_lines["train"].tolist() == sorted(set(LINES) - {"A549", "HT29"})
    # 40 drugs: 32 in 6 lines, 4 in one, 4 in one; the oracle has 4 drugs in 6 lines.
    assert [len(getattr(split, p)) for p in PARTS] == [192, 4, 4]
    assert len(split.oracle_train_lines) == 24
    assert len(split.dropped) == 40 * 8 - 200
    assert repr(split) == (
        "<DrugCellLineSplit of rows: train=192, val=4, test=4, dropped=120>"
    )


def test_named_drugs():
    groups = full_table(6)
    split = drug_cell_line_split(
        groups,
        val_drugs=np.array(["drug05"]),
        test_drugs=["drug01", "drug00"],
        val_cell_lines=["PC3", "MCF7"],
        test_cell_lines=pd.Index(["HT29"]),
    )
    assert {tuple(g) for g in groups[split.test]} == {
        ("drug00", "HT29"),
        ("drug01", "HT29"),
    }
    assert {tuple(g) for g in groups[split.val]} == {
        ("drug05", "PC3"),
        ("drug05", "MCF7"),
    }
    assert split.drugs["train"].tolist() == ["drug02", "drug03", "drug04"]


@pytest.mark.parametrize(
    ("n_drugs", "val", "test", "expected"),
    [(30, 0.1, 0.1, (3, 3)), (31, 0.1, 0.1, (4, 4)), (30, 2, 0.5, (2, 15))],
)
def test_fractions_are_of_all_drugs_and_rounded_up(n_drugs, val, test, expected):
    split = drug_cell_line_split(full_table(n_drugs), val_drugs=val, test_drugs=test)
    assert (len(split.drugs["val"]), len(split.drugs["test"])) == expected
    assert len(split.drugs["train"]) == n_drugs - sum(expected)


@pytest.mark.parametrize(
    "none",
    [{"val_drugs": 0}, {"val_cell_lines": 0}, {"val_drugs": 0.0}, {"val_drugs": []}],
)
def test_without_validation_nothing_is_set_aside(none):
    split = drug_cell_line_split(full_table(30), random_state=0, **none)
    assert split.val.size == 0
    assert len(split.train) == 27 * 7
    assert len(split.test) == 3
    assert split.drugs["val"].size == split.cell_lines["val"].size == 0


@pytest.mark.parametrize(
    ("hold_out", "sizes"), [("drugs", (192, 24, 24)), ("cell_lines", (180, 30, 30))]
)
def test_holding_out_one_kind_drops_nothing(hold_out, sizes):
    split = drug_cell_line_split(full_table(30), hold_out=hold_out, random_state=0)
    assert tuple(len(getattr(split, p)) for p in PARTS) == sizes
    assert split.dropped.size == 0
    # Without held-out lines there is no other line for an oracle to look at.
    assert len(split.oracle_train_lines) == (0 if hold_out == "drugs" else 180)


def test_order_of_rows_permutes_the_indices_only():
    groups = full_table()
    order = np.random.default_rng(0).permutation(len(groups))
    a = drug_cell_line_split(groups, random_state=5)
    b = drug_cell_line_split(groups[order], random_state=5)
    for name in (*PARTS, "oracle_train_lines", "dropped"):
        rows = np.sort(order[getattr(b, name)])
        np.testing.assert_array_equal(rows, getattr(a, name))


def test_random_state():
    groups = full_table()
    a, b, c = (drug_cell_line_split(groups, random_state=i) for i in (1, 1, 2))
    assert a.test.tolist() == b.test.tolist() != c.test.tolist()


def test_parts_are_frozen():
    split = drug_cell_line_split(full_table())
    with pytest.raises(AttributeError):
        split.test = []


def test_contradicting_validation_is_refused():
    with pytest.raises(
        ValueError, match=r"val_drugs asks for no .* val_cell_lines names .*\['A549'\]"
    ):
        drug_cell_line_split(full_table(), val_drugs=0, val_cell_lines=["A549"])
    # What is not held out is not looked at.
    split = drug_cell_line_split(
        full_table(), val_drugs=0, val_cell_lines=["A549"], hold_out="drugs"
    )
    assert split.val.size == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"test_cell_lines": ["HT-29"]},
            r"test_cell_lines names 'HT-29', which groups does not hold. Its cell "
            r"lines are 'A375', 'A549', .*, 'VCAP'\.",
        ),
        (
            {"val_drugs": ["aspirin", "drug01"]},
            r"val_drugs names 'aspirin',.*'drug00'.* and 10 more\.",
        ),
        ({"test_cell_lines": "HT29"}, "or an array-like. Got 'HT29' instead"),
        (
            {"test_cell_lines": ["HT29"], "val_cell_lines": ["HT29", "PC3"]},
            r"val_cell_lines and test_cell_lines must not share \['HT29'\]",
        ),
        (
            {"test_drugs": 20, "val_drugs": 10},
            "val_drugs=10 and test_drugs=20 leave none of the 30 distinct drugs",
        ),
        ({"test_cell_lines": 0.9}, "leave none of the 8 distinct cell lines"),
        ({"test_cell_lines": 12}, "leave none of the 8 distinct cell lines"),
        ({"test_drugs": 0}, "'test_drugs' parameter of drug_cell_line_split"),
        ({"val_drugs": 1.5}, "'val_drugs' parameter"),
        ({"hold_out": "none"}, "'hold_out' parameter"),
        ({"random_state": "a"}, "'random_state' parameter"),
        ({"test_cell_lines": []}, "test_cell_lines must name at least one"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        drug_cell_line_split(full_table(), **arguments)


def test_empty_part_is_named():
    groups = [("a", "x"), ("b", "y"), ("c", "y"), ("c", "x"), ("d", "x")]
    with pytest.raises(
        ValueError, match=r"test part has no row: none of its 1 drugs.*\['y'\]"
    ):
        drug_cell_line_split(
            groups, test_drugs=["a"], test_cell_lines=["y"], val_drugs=0
        )


def test_wrong_groups():
    with pytest.raises(ValueError, match=r"must have shape \(n_samples, 2\)"):
        drug_cell_line_split(["a", "b"])


def test_sparse_table_of_real_profiles(level5_folder):
    signatures = pd.read_csv(level5_folder / "siginfo.txt", sep="\t")
    groups = signatures[["pert_id", "cell_iname"]].to_numpy(dtype=object)
    split = drug_cell_line_split(
        groups,
        val_drugs=0.2,
        test_drugs=0.2,
        val_cell_lines=["HEK293"],
        test_cell_lines=["U2OS"],
        random_state=0,
    )
    for name, rows in slow_parts(groups, split, "both").items():
        assert getattr(split, name).tolist() == rows
    assert set(groups[split.test, 1]) == {"U2OS"}


def test_named_labels_are_found_whatever_their_type():
    groups = [[drug, line] for drug in (5, 6, "7 ", "8") for line in ("A ", "B", "C")]
    with pytest.warns(UserWarning, match="differ in type or in blanks") as said:
        split = drug_cell_line_split(
            [*groups, ["5", "A"]], val_drugs=0, test_drugs=["5 "], hold_out="drugs"
        )
    assert len(said) == 2
    np.testing.assert_array_equal(split.test, [0, 1, 2, 12])
    assert split.drugs["test"].tolist() == ["5"]
