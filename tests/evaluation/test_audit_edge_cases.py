"""The audit against slow loops and on poor studies; the command line's wrong input."""

import io

import numpy as np
import pandas as pd
import pytest

from sklearn_molge import model_selection
from sklearn_molge.datasets import Study, make_perturbation_study
from sklearn_molge.evaluation import audit_split, reference_table
from sklearn_molge.evaluation._command import main
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import drug_ids

SMILES = ["CCO", "OCC", "c1ccccc1", "CCN", "CCN.Cl", "Cc1ccccc1", "CCO", "CC(=O)O"]
LINES = ["A", "B", "A", "B", "C", "C", "A", "B"]


def make_study(smiles=SMILES, *, controls=None, ge=None, **obs):
    rng = np.random.default_rng(0)
    ge = rng.normal(size=(len(smiles), 4)) if ge is None else ge
    return Study(
        smiles=smiles,
        ge=ge,
        genes=pd.DataFrame({"symbol": list("abcd")}),
        obs=pd.DataFrame({"cell_line": LINES[: len(smiles)]} | obs),
        control_ge=None if controls is None else np.ones((len(controls), 4)),
        control_obs=None if controls is None else pd.DataFrame({"plate": controls}),
    )


def shared(audit, check, parts="train/test"):
    table = audit.table.set_index(["check", "parts"])
    return table.loc[(check, parts), ["n_a", "n_b", "n_shared"]].tolist()


@pytest.mark.parametrize("seed", range(6))
def test_counts_by_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    n = 30
    ge = rng.integers(0, 2, size=(n, 2)).astype(np.float32) @ np.ones((2, 4))
    smiles = rng.choice(SMILES, n).tolist()
    obs = {name: rng.choice(list("PQRSTUVW"), n) for name in ("plate", "pert_id")}
    study = Study(
        smiles=smiles,
        ge=ge,
        genes=pd.DataFrame({"symbol": list("abcd")}),
        obs=pd.DataFrame({"cell_line": rng.choice(list("ABCDEF"), n), **obs}),
        control_ge=np.ones((9, 4)),
        control_obs=pd.DataFrame({"plate": list("PQRPQRWWV")}),
    )
    part = rng.choice(["train", "val", "test"], n)
    split = {name: np.flatnonzero(part == name) for name in ("train", "val", "test")}
    audit = audit_split(study, split)
    drugs = drug_ids(smiles)
    plates = study.obs["plate"].tolist()
    entities = {
        "rows": range(n),
        "drugs": drugs,
        "drugs, as grouped": drugs,
        "cell lines": study.obs["cell_line"].tolist(),
        "perturbagen ids": study.obs["pert_id"].tolist(),
        "plates": plates,
    }
    for a, b in (("train", "test"), ("train", "val"), ("val", "test")):
        for check, values in entities.items():
            first, second = ({values[i] for i in split[name]} for name in (a, b))
            slow = [len(first), len(second), len(first & second)]
            assert shared(audit, check, f"{a}/{b}") == slow, check
        wells = [
            {i for i, plate in enumerate("PQRPQRWWV") if plate in of_part}
            for of_part in ({plates[i] for i in split[name]} for name in (a, b))
        ]
        slow = [len(wells[0]), len(wells[1]), len(wells[0] & wells[1])]
        assert shared(audit, "control wells", f"{a}/{b}") == slow
        copies = sum(any((ge[i] == ge[j]).all() for j in split[a]) for i in split[b])
        assert shared(audit, "profiles", f"{a}/{b}")[2] == copies


def test_only_what_a_study_must_have():
    audit = audit_split(make_study(), {"train": [0, 2], "test": [3, 4]})
    unknown = audit.table.loc[audit.table["n_shared"].isna(), "check"].tolist()
    assert unknown == ["perturbagen ids", "plates", "control wells"]
    assert audit.violations == []
    assert str(audit).count("unknown") == 3
    assert "unknown" in audit._repr_html_()


def test_missing_entries_are_not_shared():
    plates = [None, "P", np.nan, None, "P", None, None, "Q"]
    lines = {"cell_line": ["A", None, "A", "B", None, "C", "A", "B"]}
    study = make_study(plate=plates, controls=["P", "Q"], **lines)
    audit = audit_split(study, {"train": [0, 1, 2], "test": [3, 4]})
    assert shared(audit, "plates") == [1, 1, 1]
    assert shared(audit, "cell lines") == [1, 1, 0]
    assert shared(audit, "control wells") == [1, 1, 1]
    audit = audit_split(study, {"train": [0, 2], "test": [3]})
    assert shared(audit, "plates") == [0, 0, 0]
    assert "control wells" in str(audit)


def test_nothing_is_changed_or_drawn():
    study = make_study(plate=list("PPQQPPQQ"), controls=["P", "Q"])
    before, obs = study.ge.copy(), study.obs.copy()
    state = np.random.get_state()[1].copy()
    split = {"train": np.array([0, 2]), "test": np.array([3, 4])}
    first, second = (audit_split(study, split) for _ in range(2))
    pd.testing.assert_frame_equal(first.table, second.table)
    np.testing.assert_array_equal(study.ge, before)
    pd.testing.assert_frame_equal(study.obs, obs)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": [0.0, 1.0], "test": [2]}, "train rows of split must be positions"),
        ({"train": [0], "test": np.ones(3, dtype=bool)}, "test rows of split must be"),
        ({"train": [0], "test": np.zeros(8, dtype=bool)}, "must have rows to test on"),
        ({"train": [0], "tset": [1]}, "must have rows to test on"),
        (([0], [1]), "must have rows to train on"),
    ],
)
def test_bad_splits(split, message):
    with pytest.raises(ValueError, match=message):
        audit_split(make_study(), split)


@pytest.mark.parametrize("seed", range(5))
def test_the_splits_of_the_library_are_honest(seed):
    study = make_perturbation_study(25, n_cell_lines=5, level=3, random_state=seed)
    for hold_out in ("both", "drugs", "cell_lines"):
        split = drug_cell_line_split(study.groups, hold_out=hold_out, random_state=seed)
        assert audit_split(study, split, hold_out=hold_out).violations == []


# The command line.

SMALL = ["audit", "--data", "simulated", "--molecules", "20"]


def test_an_audit_that_finds_a_violation_says_so_by_its_code(monkeypatch, capsys):
    def leaky(groups, **options):
        return {"train": np.arange(5), "test": np.arange(4, 9)}

    monkeypatch.setitem(model_selection.__dict__, "drug_cell_line_split", leaky)
    assert main(SMALL) == 1
    assert "VIOLATION: rows in both parts" in capsys.readouterr().out


def test_an_interrupted_audit_does_not_go_on(monkeypatch, capsys):
    def interrupted(groups, **options):
        raise KeyboardInterrupt

    monkeypatch.setitem(model_selection.__dict__, "drug_cell_line_split", interrupted)
    assert main(SMALL) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def write_other_hdf5(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["matrix"] = 1


@pytest.mark.filterwarnings("ignore:Element '/matrix'")
@pytest.mark.parametrize(
    "write", [lambda path: path.write_text("no HDF5"), write_other_hdf5]
)
def test_a_damaged_h5ad_is_named(tmp_path, capsys, write):
    pytest.importorskip("anndata")
    path = tmp_path / "study.h5ad"
    write(path)
    assert main(["audit", "--data", str(path)]) == 2
    assert f"error: {path} cannot be read as .h5ad" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--test-drugs", "0"], "'test_drugs'"),
        (["--test-drugs", "100"], "leave none of the 20 distinct drugs"),
        (["--test-drugs", "0.5", "--val-drugs", "0.5"], "leave none of the 20"),
        (["--test-cell-lines", "NOPE"], "names ['NOPE']"),
        (["--seed", str(2**32)], "'random_state'"),
        (["--pert-time", "6"], "--pert-time: for LINCS folders"),
    ],
)
def test_wrong_input_of_an_audit(capsys, arguments, message):
    assert main([*SMALL, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("python -m sklearn_molge audit: error: ")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["empty.gct", "words.gct", "words.gctx", "words.txt"])
def test_files_of_something_else(tmp_path, capsys, name):
    path = tmp_path / name
    path.write_text("" if "empty" in name else "words\n")
    assert main(["audit", "--data", str(path)]) == 2
    assert name in capsys.readouterr().err


def test_reference_tables_can_be_written_and_read():
    for name in ("table1", "table2", "figure2", "regressions", "data", "chance"):
        table = reference_table(name)
        text = table.to_csv()
        again = pd.read_csv(io.StringIO(text), index_col=0, keep_default_na=False)
        assert again.shape == table.shape
        assert reference_table(name) is not table
    types = reference_table("regressions").dtypes.astype(str)
    assert types["log_x"] == "bool"
    assert set(types[["slope", "intercept", "r", "p_value"]]) == {"float64"}
