"""A user's own split in a table, and what commands write as JSON."""

import pandas as pd
import pytest

from sklearn_molge.__main__ import main
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation import audit_split, draw_split

pytest.importorskip("anndata")

AUDIT = ["audit", "--data", "study.h5ad"]


@pytest.fixture
def study(here):
    return Study.load("study.h5ad")


def test_by_the_ids_of_profiles(study, json_of):
    told = json_of(*AUDIT, "--split", "split.csv")
    expected = audit_split(study, draw_split(study.groups, random_state=0))
    shared = {row["check"]: row["n_shared"] for row in told["table"]
              if row["parts"] == "train/test"}  # fmt: skip
    table = expected.table[expected.table["parts"] == "train/test"]
    assert shared == {
        row.check: None if pd.isna(row.n_shared) else row.n_shared
        for row in table.itertuples()
    }
    assert told["violations"] == []


def test_by_drugs_alone_lines_are_shared(study, capsys):
    drugs = sorted(set(study.groups[:, 0]))
    parts = ["Training"] * 20 + ["validation"] * 4 + ["test"] * 6
    table = pd.DataFrame({" drug": drugs, "split": parts})
    table.to_csv("drugs.tsv", sep="\t", index=False)
    assert main([*AUDIT, "--split", "drugs.tsv"]) == 1
    out, err = capsys.readouterr()
    assert "VIOLATION: cell lines in both parts of train/test: 4 of 4" in out
    assert "drugs in both" not in out
    assert "drugs.tsv, by drug: 0 profiles in no part" in err


def test_by_drug_and_line(study, capsys):
    rows = study.obs[["pert_id", "cell_line"]].drop_duplicates()
    lines = sorted(set(study.obs["cell_line"]))
    drugs = sorted(set(study.obs["pert_id"]))
    train = rows["pert_id"].isin(drugs[:20]) & rows["cell_line"].isin(lines[:3])
    test = rows["pert_id"].isin(drugs[20:]) & (rows["cell_line"] == lines[3])
    table = rows.assign(part=train.map({True: "train"}).mask(test, "test"))
    table = pd.concat([table.dropna(), pd.DataFrame(
        {"pert_id": ["none"], "cell_line": ["x"], "part": ["test"]})])  # fmt: skip
    table.to_csv("both.csv", index=False)
    assert main([*AUDIT, "--split", "both.csv"]) == 0
    out, err = capsys.readouterr()
    assert "No violation" in out
    n_free = len(study) - 2 * (20 * 3 + 10)
    assert f"by pert_id, cell_line: {n_free} profiles in no part; 1 row of the" in err


def test_a_row_in_two_parts(study, json_of):
    table = pd.read_csv("split.csv", dtype=str)
    both = pd.concat([table, table.head(1).assign(part="test")])
    both.to_csv("bad.csv", index=False)
    told = json_of(*AUDIT, "--split", "bad.csv", code=1)
    assert any(text.startswith("rows in both parts") for text in told["violations"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\n", "must have a column 'part', and one that the study has"),
        ("part,other\ntrain,1\n", "must have a column 'part', and one that"),
        (
            "id,part\nx,here\n",
            "column 'part' must hold train, val and test. Got 'here'",
        ),
        ("", "split.csv cannot be read"),
    ],
)
def test_tables_that_are_no_split(here, error_of, text, message):
    (here / "split.csv").write_text(text)
    assert message in error_of(*AUDIT, "--split", "split.csv")


def test_a_split_is_drawn_or_given(here, error_of):
    said = error_of(*AUDIT, "--split", "split.csv", "--test-drugs", 3)
    assert said.endswith("--test-drugs: for a split that is drawn, not with --split.")
    assert "there is no x.csv" in error_of(*AUDIT, "--split", "x.csv")


def test_verify(here, json_of):
    told = json_of("verify", "index")
    assert told["ok"] is True
    assert told["checked"]["molecules"] == 30
    vectors = here / "index" / "vectors.bin"
    content = bytearray(vectors.read_bytes())
    content[len(content) // 2] ^= 1
    vectors.write_bytes(content)
    told = json_of("verify", "index", code=1)
    assert told["ok"] is False
    assert "vectors.bin" in told["damaged"]
