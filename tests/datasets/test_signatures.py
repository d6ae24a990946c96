"""load_signatures: tables of profiles and of what they are."""

import pickle
import zipfile

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import load_signatures, read_profiles
from sklearn_molge.exceptions import CorruptFileError, DataWarning, InvalidSmilesError

X = np.array([[1, np.nan, 3], [4, 5, np.nan], [7, 8, 9], [1, 2, 3]], np.float32)
OBS = pd.DataFrame(
    {
        "source": "theirs",
        "id": ["p", "q", "r", "s"],
        "name": ["ethanol", "A", "B", "?"],
        "smiles": ["CCO", "CCN", "CCS", "C"],
        "cell": ["A375", "consensus", "?", "PC3"],
        "dose": ["10 uM", "mixed", "?", "500 nM"],
        "time": ["24 h", "?", "6 h", ""],
    }
)


@pytest.fixture
def files(tmp_path):
    np.savez_compressed(tmp_path / "x.npz", X=X, gene_id=np.array([780, 5720, 16]))
    OBS.to_csv(tmp_path / "x.obs.csv", index=False)
    return tmp_path / "x.npz", tmp_path / "x.obs.csv"


def test_npz_and_csv(files):
    study = load_signatures(*files, level=5)
    np.testing.assert_array_equal(study.ge, X)
    assert study.genes["gene_id"].tolist() == [780, 5720, 16]
    obs = study.obs
    assert obs.index.tolist() == ["p", "q", "r", "s"]
    assert obs["cell_line"].tolist() == ["A375", "consensus", "unknown", "PC3"]
    assert obs["covered_lines"].tolist() == ["A375", "*", "*", "PC3"]
    np.testing.assert_equal(obs["dose_um"].tolist(), [10, np.nan, np.nan, 0.5])
    np.testing.assert_equal(obs["time_h"].tolist(), [24, np.nan, 6, np.nan])
    assert obs["source"].unique() == ["theirs"]
    assert obs["pert_name"].tolist()[:3] == ["ethanol", "A", "B"]
    assert (
        "2 of 12 values are NaN, in 2 profiles and 2 genes"
        in (study.dropped["detail"].iloc[0])
    )
    named = load_signatures(*files, source="mine", mixed_lines=["A375"])
    assert named.obs["source"].unique() == ["mine"]
    assert named.obs["covered_lines"].tolist() == ["*", "consensus", "*", "PC3"]


@pytest.mark.parametrize("genes_in", ["rows", "columns"])
def test_tables_of_ones_own_by_id(files, tmp_path, genes_in):
    table = pd.DataFrame(X, index=OBS["id"], columns=["16", "780", "5720"])
    table = table if genes_in == "columns" else table.T.rename_axis("gene")
    table.to_csv(tmp_path / "own.csv")
    shuffled = OBS.iloc[[2, 0, 3, 1]].rename(columns={"smiles": "structure"})
    study = load_signatures(
        tmp_path / "own.csv", shuffled, columns={"smiles": "structure"}
    )
    np.testing.assert_array_equal(study.ge, X)
    assert study.smiles.tolist() == OBS["smiles"].tolist()
    assert study.genes["gene_id"].tolist() == [16, 780, 5720]


def test_rows_of_one_table_only_are_left_out_and_told():
    table = pd.DataFrame(X, index=OBS["id"], columns=["A1BG", "PSMD3", "MYC"])
    with pytest.warns(DataWarning, match="2 ids of one table only.* 1 profiles and 1 "):
        study = load_signatures(table.iloc[1:], OBS.iloc[:3])
    assert study.obs.index.tolist() == ["q", "r"]
    assert study.genes["symbol"].tolist() == ["A1BG", "PSMD3", "MYC"]
    with pytest.raises(ValueError, match="No id of profiles"):
        load_signatures(table.set_axis(list("wxyz")), OBS)
    with pytest.raises(ValueError, match="ids that differ"):
        load_signatures(table.set_axis(list("ppqr")), OBS)
    with pytest.raises(ValueError, match="one row for each of the 4 profiles"):
        load_signatures(table.reset_index(drop=True), OBS.iloc[:3])


@pytest.mark.parametrize("sorted_anew", ["profiles", "obs"])
def test_one_table_is_numbered_and_the_other_is_sorted_anew(sorted_anew):
    table = pd.DataFrame(X, columns=["780", "5720", "16"])
    obs, order = OBS.drop(columns="id"), [2, 0, 3, 1]
    if sorted_anew == "profiles":
        table = table.iloc[order]
    else:
        obs = obs.iloc[order]
    study = load_signatures(table, obs)
    assert study.smiles.tolist() == OBS["smiles"].iloc[table.index].tolist()


def test_ids_with_blanks_and_lines_in_upper_case():
    table = pd.DataFrame(X, index=["p ", " q", "r", "s"], columns=["780", "5720", "16"])
    obs = OBS.assign(cell=["A375", "Consensus", "MIXED", "PC3"])
    study = load_signatures(table, obs, mixed_lines=["consensus", "Mixed"])
    assert len(study) == 4
    assert study.obs["covered_lines"].tolist() == ["A375", "*", "*", "PC3"]


def test_profiles_without_a_molecule():
    table = pd.DataFrame(X, columns=["780", "5720", "16"])
    bad = OBS.assign(smiles=["CCO", "", "nothing", "restricted"])
    with pytest.warns(DataWarning, match="readable SMILES: 3 profiles"):
        study = load_signatures(table, bad, min_readable=0.25)
    assert len(study) == 1
    assert study.dropped["n_dropped"].tolist() == [0, 3]
    with (
        pytest.warns(DataWarning),
        pytest.raises(ValueError, match=r"1 of 4 profiles \(25%\).*min_readable=0.5"),
    ):
        load_signatures(table, bad)
    with pytest.raises(InvalidSmilesError):
        load_signatures(table, bad, on_bad_smiles="raise")
    with pytest.raises(ValueError, match="No row of obs has a smiles"):
        load_signatures(table, OBS.drop(columns="smiles"))


def test_values_and_names_are_checked():
    table = pd.DataFrame(X, columns=["780", "5720", "16"])
    with pytest.raises(ValueError, match="infinite values, the first in row 2"):
        load_signatures(table.replace(7, np.inf), OBS)
    with pytest.raises(ValueError, match=r"single precision.* 1 infinite values"):
        load_signatures(table.astype(float).replace(7, 1e300), OBS)
    with pytest.raises(ValueError, match="only count them: 1, 2, 3"):
        load_signatures(table.set_axis([1, 2, 3], axis=1), OBS)
    with pytest.raises(ValueError, match="must have values"):
        load_signatures(table.where(np.arange(12).reshape(4, 3) > 2), OBS)
    with pytest.raises(ValueError, match="named by Entrez ids"):
        load_signatures(table.set_axis(["A", "A", "B"], axis=1), OBS)
    with pytest.raises(ValueError, match="columns must map"):
        load_signatures(table, OBS, columns={"smiles": "nowhere"})
    with pytest.raises(TypeError, match="obs must be a data frame"):
        load_signatures(table, 5)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"X": X}, "no array 'gene_id'"),
        ({"X": X, "gene_id": [1, 2]}, "X has 3 columns and gene_id 2"),
        ({"X": X[0], "gene_id": [1, 2, 3]}, "'X'.*1-D"),
        ({"X": X.astype(complex), "gene_id": [1, 2, 3]}, "'X'.*complex"),
        ({"X": X.astype(object), "gene_id": [1, 2, 3]}, "'X'.*allow_pickle"),
    ],
)
def test_damaged_npz(tmp_path, arrays, match):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(CorruptFileError, match=match):
        read_profiles(tmp_path / "x.npz", missing="nan")


def test_another_array_of_the_same_name(tmp_path):
    np.savez(tmp_path / "x.npz", X=X, gene_id=[16, 23, 25])
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("X", pickle.dumps(X + 1))  # numpy would take this one
    found = read_profiles(tmp_path / "x.npz", missing="nan")
    np.testing.assert_array_equal(found, X)


@pytest.mark.parametrize(
    "shape", [(2**40, 3), (4, 2**62), (4, 4), (-4, 3), (4.0, 3), 12, (2**31,)]
)
def test_more_is_declared_than_there_is(tmp_path, shape):
    header = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    header = header.ljust(117) + b"\n"
    npy = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    np.savez(tmp_path / "x.npz", gene_id=[16, 23, 25])
    with zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        archive.writestr("X.npy", npy + X.astype("<f4").tobytes())
    with pytest.raises(CorruptFileError, match="array 'X'"):
        read_profiles(tmp_path / "x.npz")


@pytest.mark.parametrize("name", ["1.00127E+08", "9" * 400])
def test_ids_that_a_spreadsheet_has_rounded(tmp_path, name):
    np.savez(tmp_path / "x.npz", X=X, gene_id=["780.0", name, "16"])
    with pytest.raises(ValueError, match=r"each by another\. Got '780"):
        load_signatures(tmp_path / "x.npz", OBS)


def test_ids_of_obs_that_stand_twice(files):
    obs = OBS.assign(sig_id=["a", "b", "b", "c"])
    with pytest.warns(DataWarning, match="obs: profiles of one id: 'b'"):
        assert len(load_signatures(files[0], obs).obs) == 4


def test_cut_and_changed_npz(files):
    whole = files[0].read_bytes()
    for cut in range(64, len(whole), 23):
        files[0].write_bytes(whole[:cut])
        with pytest.raises(CorruptFileError):
            load_signatures(*files)
    rng = np.random.default_rng(0)
    for _ in range(60):  # damaged, or as it was: nothing else is raised
        changed = bytearray(whole)
        changed[rng.integers(4, len(whole))] ^= 1 << rng.integers(8)
        files[0].write_bytes(changed)
        try:
            study = load_signatures(*files)
        except (CorruptFileError, ValueError):
            continue
        assert study.ge.shape == X.shape


def test_npz_of_profiles_alone(files):
    profiles = read_profiles(files[0], missing="nan")
    assert profiles.columns.tolist() == ["780", "5720", "16"]
    with pytest.raises(ValueError, match="2 are missing"):
        read_profiles(files[0])
