"""Folders in the vocabularies of the releases, small enough to select by hand."""

import gzip
import warnings
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sklearn_molge.datasets import load_lincs, write_gctx
from sklearn_molge.exceptions import DataWarning, InvalidSmilesError
from sklearn_molge.molecules import drug_ids

GENES = ["23", "16", "999", "25"]  # 999 is inferred
SMILES = {"BRD-1": "CCO", "BRD-2": "c1ccccc1", "BRD-4": "[Na+].CC[O-]"}
ETHANOL, BENZENE = drug_ids(["CCO", "c1ccccc1"])

# id, pert_id, pert_type, dose, unit, time, line, plate
WELLS = [
    ("P1:A01", "BRD-1", "trt_cp", "10.0", "um", 6, "A375", "P1"),
    ("P1:A02", "BRD-2", "trt_cp", "9.99", "\u00b5M", 6, "A375", "P1"),
    ("P1:A03", "BRD-3", "trt_cp", "10", "um", 6, "A375", "P1"),
    ("P1:A04", "BRD-2", "trt_cp", "10", "nM", 6, "A375", "P1"),
    ("P1:A05", "DMSO", "ctl_vehicle", "-666", "-666", 6, "A375", "P1"),
    ("P1:A06", "UnTrt", "ctl_untrt", "-666.0", "-666", 6, "A375", "P1"),
    ("P1:A07", "EMPTY", "ctl_vector", "-666", "-666", 6, "A375", "P1"),
    ("P2:A01", "BRD-4", "trt_cp", "0.01", "mM", 6, "PC3", "P2"),
    ("P2:A02", "BRD-2", "trt_cp", "3.33", "um", 6, "PC3", "P2"),
    ("P2:A03", "DMSO", "ctl_vehicle", "0.1", "%", 6, "PC3", "P2"),
    ("P3:A01", "BRD-2", "trt_cp", "10.0", "um", 24, "A375", "P3"),
    ("P3:A02", "DMSO", "ctl_vehicle", "-666", "-666", 24, "A375", "P3"),
]


def values_of(ids, genes=GENES, start=0):
    """100 * row + Entrez id: each value says where it comes from."""
    rows = 100 * (start + np.arange(len(ids)))
    return (rows[:, None] + np.array(genes, dtype=int)).astype(np.float32)


def write_matrix(path, ids, genes=GENES, start=0, **columns):
    with h5py.File(path, "w") as file:
        file["0/DATA/0/matrix"] = values_of(ids, genes, start)
        file["0/META/COL/id"] = np.array(ids, dtype="S")
        file["0/META/ROW/id"] = np.array(genes, dtype="S")
        for name, column in columns.items():
            file[f"0/META/COL/{name}"] = np.array(column, dtype="S")


def write_table(path, columns, rows):
    lines = ["\t".join(map(str, row)) for row in [columns, *rows]]
    text = ("\n".join(lines) + "\n").encode()
    path = Path(path)
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


@pytest.fixture
def geo(tmp_path):
    """GSE92742: numbers and units apart, RNA plates, -666 for what is missing."""
    start = tmp_path / "GSE92742_Broad_LINCS"
    ids = [well[0] for well in WELLS]
    write_matrix(f"{start}_Level3_INF_mlr12k_n12x4.gctx", ids)
    write_matrix(f"{start}_Level4_ZSPCINF_mlr12k_n12x4.gctx", ids, start=1000)
    columns = "inst_id pert_id pert_type pert_dose pert_dose_unit pert_time cell_id"
    wells = pd.DataFrame(WELLS, columns=[*columns.split(), "rna_plate"])
    wells["pert_time_unit"] = "h"
    wells["pert_iname"] = wells["pert_id"].str.lower()
    wells["rna_well"] = wells["inst_id"].str[-3:]
    # Tables of GEO are in another order than the matrices.
    wells[::-1].to_csv(f"{start}_inst_info.txt.gz", sep="\t", index=False)
    perts = [*SMILES.items(), ("BRD-3", "restricted"), ("DMSO", "CS(C)=O")]
    write_table(f"{start}_pert_info.txt.gz", ["pert_id", "canonical_smiles"], perts)
    write_table(
        f"{start}_gene_info.txt",
        ["pr_gene_id", "pr_gene_symbol", "pr_is_lm"],
        [(16, "AARS", 1), (23, "ABCF1", 1), (25, "ABL1", 1), (999, "CDH1", 0)],
    )
    return tmp_path


def expected(ids, genes=(16, 23, 25)):
    rows = [[well[0] for well in WELLS].index(i) for i in ids]
    return np.array([[100.0 * row + gene for gene in genes] for row in rows])


def load_quietly(*args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return load_lincs(*args, **kwargs)


def test_geo_level3_by_hand(geo):
    with pytest.warns(
        UserWarning, match=r"1 profiles of 1 pert_ids: BRD-3 \(restr"
    ) as w:
        study = load_lincs(geo, level=3, pert_time=6, pert_dose=10)
    assert Path(w[0].filename).name == "test_lincs.py"
    ids = ["P1:A01", "P1:A02", "P2:A01"]
    assert list(study.obs.index) == ids
    assert study.ge.dtype == np.float32
    np.testing.assert_array_equal(study.ge, expected(ids))
    assert study.smiles.tolist() == ["CCO", "c1ccccc1", "[Na+].CC[O-]"]
    assert study.groups.tolist() == [
        [ETHANOL, "A375"],
        [BENZENE, "A375"],
        [ETHANOL, "PC3"],
    ]
    assert study.genes.to_dict("list") == {
        "gene_id": [16, 23, 25],
        "symbol": ["AARS", "ABCF1", "ABL1"],
        "is_landmark": [True, True, True],
    }
    obs = study.obs
    np.testing.assert_allclose(obs["dose_um"], [10, 9.99, 10])
    assert obs["time_h"].tolist() == [6.0, 6.0, 6.0]
    assert obs["plate"].tolist() == ["P1", "P1", "P2"]
    assert obs["well"].tolist() == ["A01", "A02", "A01"]
    assert obs["pert_name"].tolist() == ["brd-1", "brd-2", "brd-4"]
    assert obs["moa"].isna().all()
    # Doses of controls are -666 or a percentage, and still they are there.
    assert list(study.control_obs.index) == ["P1:A05", "P1:A06", "P2:A03"]
    np.testing.assert_array_equal(
        study.control_ge, expected(["P1:A05", "P1:A06", "P2:A03"])
    )
    assert study.control_obs["dose_um"].isna().all()
    paired = study.paired_ge()
    controls = [[466, 473, 475]] * 2 + [[916, 923, 925]]
    np.testing.assert_array_equal(paired, np.hstack([study.ge, controls]))


def test_account_of_filters(geo):
    study = load_quietly(geo, level=3, pert_time=6, pert_dose=10)
    steps = study.dropped[["n_dropped", "n_left"]].to_numpy().tolist()
    # 12 wells; 7 treated; one at 24 h; 3.33 um and 10 nM; one without a structure.
    assert steps == [[0, 12], [5, 7], [1, 6], [2, 4], [1, 3]]
    assert study.dropped["step"].tolist()[-1] == "readable SMILES"
    assert "9.99 (1)" in study.dropped["detail"][3]


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"pert_dose": 0.01}, ["P1:A04"]),
        ({"pert_dose": "10 nM"}, ["P1:A04"]),
        ({"pert_dose": [3.33, "10 nM"]}, ["P1:A04", "P2:A02"]),
        ({"pert_dose": 9.9}, ["P1:A02"]),  # 1 %: 9.99 is within, 10 is not
        ({"pert_time": "24 h"}, ["P3:A01"]),
        ({"cell_lines": "PC3"}, ["P2:A01", "P2:A02"]),
        ({"cell_lines": ["PC3"], "pert_dose": 10}, ["P2:A01"]),
        # BRD-1 and BRD-4 are one molecule: with 6 h and 10 um it is in both lines.
        (
            {"pert_time": 6, "pert_dose": 10, "shared_by_all_lines": True},
            ["P1:A01", "P2:A01"],
        ),
        (
            {"pert_time": 6, "pert_dose": 10, "min_cell_lines": 2},
            ["P1:A01", "P2:A01"],
        ),
        (
            {"cell_lines": ["A375"], "pert_time": 24, "shared_by_all_lines": True},
            ["P3:A01"],
        ),
    ],
)
def test_filters(geo, filters, ids):
    study = load_quietly(geo, level=3, **filters)
    assert list(study.obs.index) == ids
    np.testing.assert_array_equal(study.ge, expected(ids))


def test_controls_follow_plate_time_and_type(geo):
    study = load_quietly(geo, level=3, pert_time=24)
    assert list(study.control_obs.index) == ["P3:A02"]
    study = load_quietly(geo, level=3, control_types=["ctl_vector"], pert_time=6)
    assert list(study.control_obs.index) == ["P1:A07"]
    study = load_quietly(geo, level=3, control_types=())
    assert study.control_ge is None
    assert study.control_obs is None


def test_plates_without_control_are_named(geo):
    with pytest.warns(UserWarning, match=r"1 profiles on 1 plates have no .*: P2") as w:
        load_lincs(geo, level=3, pert_dose=3.33, control_types=["ctl_vector"])
    assert {Path(each.filename).name for each in w} == {"test_lincs.py"}


def test_level_4_is_another_matrix(geo):
    study = load_quietly(geo, level=4, pert_time=24)
    np.testing.assert_array_equal(study.ge, [[101016, 101023, 101025]])
    assert list(study.control_obs.index) == ["P3:A02"]


def test_all_genes_and_order_of_the_file(geo):
    study = load_quietly(
        geo, level=3, pert_time=24, landmark_only=False, gene_order="file"
    )
    assert study.genes["gene_id"].tolist() == [23, 16, 999, 25]
    assert study.genes["is_landmark"].tolist() == [True, True, False, True]
    np.testing.assert_array_equal(study.ge, expected(["P3:A01"], (23, 16, 999, 25)))


def test_bad_smiles_can_raise(geo):
    with pytest.raises(InvalidSmilesError) as caught:
        load_lincs(geo, level=3, pert_time=6, on_bad_smiles="raise")
    assert caught.value.indices == [2]
    assert caught.value.entries == ["restricted"]
    assert "1 profiles of 1 pert_ids: BRD-3" in caught.value.__notes__[0]


@pytest.fixture
def lincs2020(tmp_path):
    """Treated and control wells in two matrices; a compound has a row for a target."""
    ids = ["X1:A01", "X1:A02", "X2:A01"]
    write_matrix(tmp_path / "level3_beta_trt_cp_n3x4.gctx", ids)
    write_matrix(
        tmp_path / "level3_beta_ctl_n2x4.gctx",
        ["X1:A23", "X9:A23"],
        genes=["25", "999", "16", "23"],
        start=50,
    )
    write_table(
        tmp_path / "instinfo_beta.txt",
        "sample_id pert_id cmap_name pert_type cell_iname det_plate rna_plate det_well "
        "pert_dose pert_dose_unit pert_idose pert_time pert_itime".split(),
        [
            "X1:A01 BRD-1 one trt_cp A375 X1_B1 X1 A01 10 uM x 24 x".split(),
            ["X1:A02", "BRD-2", 'two"', "trt_cp", "A375", "X1_B1", "X1", "A02", "", "",
             "10 uM", "", "24 h"],
            "X2:A01 BRD-2 two trt_cp PC3 X2_B1 X2 A01 10 uM x 24 x".split(),
            "X1:A23 DMSO DMSO ctl_vehicle A375 X1_B1 X1 A23 -666 -666 x 24 x".split(),
            "X9:A23 DMSO DMSO ctl_vehicle A375 X9_B1 X9 A23 -666 -666 x 24 x".split(),
        ],
    )  # fmt: skip
    write_table(
        tmp_path / "compoundinfo_beta.txt",
        ["pert_id", "cmap_name", "target", "moa", "canonical_smiles"],
        [
            ("BRD-1", "one", "T1", "A inhibitor", "CCO"),
            ("BRD-1", "one", "T2", "A inhibitor", "CCO"),
            ("BRD-1", "one", "T2", "B agonist", "CCO"),
            ("BRD-2", "two", "", "", "c1ccccc1"),
        ],
    )
    write_table(
        tmp_path / "geneinfo_beta.txt",
        ["gene_id", "gene_symbol", "feature_space"],
        [
            (16, "AARS", "landmark"),
            (23, "ABCF1", "landmark"),
            (25, "ABL1", "landmark"),
            (999, "CDH1", "best inferred"),
        ],
    )
    return tmp_path


def test_lincs2020_by_hand(lincs2020):
    with pytest.warns(UserWarning, match=r"1 profiles on 1 plates have no .*: X2_B1"):
        study = load_lincs(lincs2020, level=3, pert_time=24, pert_dose=10)
    np.testing.assert_array_equal(
        study.ge, [[16, 23, 25], [116, 123, 125], [216, 223, 225]]
    )
    np.testing.assert_array_equal(study.control_ge, [[5016, 5023, 5025]])
    assert study.obs["plate"].tolist() == ["X1_B1", "X1_B1", "X2_B1"]
    assert study.obs["pert_name"].tolist() == ["one", 'two"', "two"]
    assert study.obs["moa"].tolist()[0] == "A inhibitor|B agonist"
    assert study.obs["target"].tolist()[0] == "T1|T2"
    assert study.obs["moa"].isna().tolist() == [False, True, True]
    assert study.genes["symbol"].tolist() == ["AARS", "ABCF1", "ABL1"]


def test_level_5_has_no_controls(tmp_path):
    write_matrix(tmp_path / "GSE_Level5_COMPZ.MODZ_n3x4.gctx", ["s1", "s2", "s3"])
    write_table(
        tmp_path / "GSE_sig_info.txt",
        "sig_id pert_id pert_type cell_id pert_idose pert_itime distil_id".split(),
        [
            ("s1", "BRD-1", "trt_cp", "A375", "10 \u00b5M", "24 h", "a|b"),
            ("s2", "DMSO", "ctl_vehicle", "A375", "-666", "24 h", "c"),
            ("s3", "BRD-2", "trt_cp", "A375", "500 nM", "1440 min", "d"),
        ],
    )
    write_table(
        tmp_path / "GSE_pert_info.txt", ["pert_id", "canonical_smiles"], SMILES.items()
    )
    study = load_lincs(tmp_path, level=5, pert_time=24, landmark_only=False)
    assert list(study.obs.index) == ["s1", "s3"]
    assert study.obs["dose_um"].tolist() == [10.0, 0.5]
    assert study.control_ge is None
    with pytest.raises(ValueError, match="Level 5 is already relative"):
        study.paired_ge()


def test_two_releases_in_one_folder(geo):
    write_matrix(
        geo / "GSE70138_Broad_LINCS_Level3_INF_mlr12k_n2x4_2017-03-06.gctx",
        ["Q1:A01", "Q1:A02"],
        genes=["16", "23", "25", "30"],
        start=20,
    )
    write_table(
        geo / "GSE70138_Broad_LINCS_inst_info_2017-03-06.txt",
        "inst_id pert_id pert_type cell_id det_plate pert_idose pert_itime".split(),
        [
            ("Q1:A01", "BRD-9", "trt_cp", "A375", "Q1_B5", "10.0 um", "6 h"),
            ("Q1:A02", "DMSO", "ctl_vehicle", "A375", "Q1_B5", "-666", "6 h"),
        ],
    )
    write_table(
        geo / "GSE70138_Broad_LINCS_pert_info_2017-03-06.txt",
        ["pert_id", "canonical_smiles"],
        [("BRD-9", "CCN"), ("BRD-3", "CCC")],
    )
    # Both releases know BRD-3; only the second tells its structure.
    with pytest.warns(
        DataWarning, match=r"1 genes .* in no table of genes.*: 30\."
    ) as w:
        study = load_lincs(geo, level=3, pert_time=6, pert_dose=10)
    assert {Path(each.filename).name for each in w} == {"test_lincs.py"}
    ids = ["Q1:A01", "P1:A01", "P1:A02", "P1:A03", "P2:A01"]
    assert list(study.obs.index) == ids  # files by name: GSE70138 comes first
    np.testing.assert_array_equal(study.ge[0], [2016, 2023, 2025])
    np.testing.assert_array_equal(study.ge[1:], expected(ids[1:]))
    assert study.smiles.tolist()[3] == "CCC"
    assert study.control_obs.index.tolist()[0] == "Q1:A02"
    with (
        pytest.warns(UserWarning, match="2 of 5 genes are not in every matrix"),
        pytest.warns(DataWarning, match="in no table of genes"),
    ):
        load_lincs(geo, level=3, pert_time=6, landmark_only=False)


def test_mechanisms_of_another_release(geo):
    write_table(
        geo / "compoundinfo_beta.txt",
        ["pert_id", "moa", "canonical_smiles"],
        [("BRD-1", "mover", "CCCO"), ("BRD-3", "shaker", "")],
    )
    study = load_quietly(geo, level=3, pert_time=6, pert_dose=10)
    assert study.obs["moa"].tolist()[0] == "mover"
    assert study.smiles[0] == "CCO"  # GSE92742 comes first


def test_metadata_overrides_and_adds(geo):
    table = pd.DataFrame(
        {
            "inst_id": ["P1:A03", "P1:A01", "elsewhere"],
            "smiles": ["CCCl", "", "C"],
            "moa": ["mover", None, None],
            "dose_um": [np.nan, 20, 1],
        }
    )
    study = load_lincs(geo, level=3, pert_time=6, pert_dose=[10, 20], metadata=table)
    assert list(study.obs.index) == ["P1:A01", "P1:A02", "P1:A03", "P2:A01"]
    assert study.smiles.tolist()[:3] == ["CCO", "c1ccccc1", "CCCl"]
    assert study.obs["dose_um"].tolist()[::2] == [20.0, 10.0]
    assert study.obs["moa"].tolist()[2] == "mover"
    by_index = table.set_index("inst_id").rename_axis(None)
    path = geo / "mine.csv"
    table.to_csv(path, index=False)
    for same in (by_index, path):
        again = load_lincs(geo, level=3, pert_time=6, pert_dose=[10, 20], metadata=same)
        pd.testing.assert_frame_equal(again.obs, study.obs)


def test_list_of_files_with_metadata_inside(tmp_path):
    for name, line in [("one", "A375"), ("two", "PC3")]:
        write_matrix(
            tmp_path / f"{name}.gctx",
            [f"{name}:A01", f"{name}:A02"],
            pert_id=["BRD-1", "DMSO"],
            pert_type=["TRT_CP", "CTL_VEHICLE"],
            cell_id=[line] * 2,
            exp_pert_dose=["10.0", "10.0"],
            exp_pert_dose_unit=["UM", "UM"],
            exp_pert_time=["6", "6"],
            exp_pert_time_unit=["H", "H"],
            rna_plate=[name, name],
            SMILES=["CCO", "nan"],
        )
    paths = [tmp_path / "two.gctx", str(tmp_path / "one.gctx")]
    study = load_lincs(paths, level=3, landmark_only=False, pert_dose=10, pert_time=6)
    assert study.groups.tolist() == [[ETHANOL, "PC3"], [ETHANOL, "A375"]]
    assert study.obs["pert_type"].tolist() == ["trt_cp", "trt_cp"]
    np.testing.assert_array_equal(study.ge, [[16, 23, 25, 999]] * 2)
    np.testing.assert_array_equal(study.control_ge, [[116, 123, 125, 1099]] * 2)


def test_repeated_id_in_a_table_is_reported(geo):
    path = geo / "zz_inst_info.txt"
    write_table(path, ["inst_id", "cell_id"], [("P1:A01", "WRONG")])
    with pytest.warns(UserWarning, match=r"1 rows repeat the id .*'P1:A01' for one"):
        study = load_lincs(
            geo, level=3, pert_time=6, cell_lines="A375", pert_dose="10 nM"
        )
    assert study.obs.index.tolist() == ["P1:A04"]


# ---------------------------------------------------------------------------- errors


def test_empty_result_says_which_filter(geo):
    with pytest.raises(
        ValueError,
        match=r"after the filter pert_dose=7 um \(dose_um before: .*10.0 \(.*"
        r"in the matrices: 12; pert_type=trt_cp: 7; pert_time=6 h: 6; pert_dose=7 um: ",
    ):
        load_lincs(geo, level=3, pert_time=6, pert_dose=7)
    with pytest.raises(
        ValueError, match=r"shared_by_all_lines=True \(a drug is in 1 of 2"
    ):
        load_quietly(geo, level=3, pert_dose=[3.33, "10 nM", 10], pert_time=[6, 24],
                     cell_lines=["A375", "PC3"], metadata=pd.DataFrame(
                         {"smiles": ["C", "CC"]}, index=["P2:A01", "P2:A02"]),
                     shared_by_all_lines=True)  # fmt: skip


def test_wrong_parameters(geo):
    with pytest.raises(ValueError, match="'level' parameter of load_lincs must be"):
        load_lincs(geo, level=2)
    with pytest.raises(ValueError, match="pert_dose must be one or more numbers"):
        load_lincs(geo, level=3, pert_dose="much")
    with pytest.raises(ValueError, match=r"pert_time must be .* in h, or .*Got \[\]"):
        load_lincs(geo, level=3, pert_time=[])
    with pytest.raises(ValueError, match=r"XYZ. There are: A375, PC3"):
        load_lincs(geo, level=3, cell_lines=["A375", "XYZ"])
    with pytest.raises(TypeError, match=r"path or a list of paths. .* type int"):
        load_lincs(3, level=3)


def test_missing_files(geo, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or folder: .*nowhere"):
        load_lincs(tmp_path / "nowhere", level=3)
    with pytest.raises(FileNotFoundError, match=r"No matrix of level 5 .*inst_info"):
        load_lincs(geo, level=5)
    (geo / "GSE92742_Broad_LINCS_inst_info.txt.gz").unlink()
    with pytest.raises(ValueError, match=r"No profile has a pert_type.*\*inst_info\*"):
        load_lincs(geo, level=3)


def test_no_structures(geo):
    (geo / "GSE92742_Broad_LINCS_pert_info.txt.gz").unlink()
    with pytest.raises(ValueError, match=r"has a smiles: .*compoundinfo.*found none"):
        load_lincs(geo, level=3)


def test_landmarks_unknown(geo):
    (geo / "GSE92742_Broad_LINCS_gene_info.txt").unlink()
    with pytest.raises(ValueError, match=r"which of the 4 genes of .* are landmarks"):
        load_lincs(geo, level=3)


def test_profile_in_two_matrices_is_ambiguous(geo):
    write_matrix(geo / "other_level3.gctx", ["P1:A01", "new"])
    with pytest.raises(ValueError, match=r"1 profiles stand twice, 'P1:A01' .*other_l"):
        load_lincs(geo, level=3)


def test_unusable_files(geo):
    level4 = geo / "GSE92742_Broad_LINCS_Level4_ZSPCINF_mlr12k_n12x4.gctx"
    with pytest.raises(ValueError, match=r"is of level 4. Got level=3"):
        load_lincs([level4], level=3)
    (geo / "x_level5.gctx.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=r"unpack x_level5.gctx.gz"):
        load_lincs(geo, level=5)
    with pytest.raises(FileNotFoundError, match=r"mine\.csv"):
        load_lincs(geo, level=3, metadata=geo / "mine.csv")
    with pytest.raises(ValueError, match="metadata: no row is about a profile"):
        load_lincs(geo, level=3, metadata=pd.DataFrame({"moa": ["x"]}, index=["y"]))
    (geo / "a_inst_info.txt").write_text("well\tcell_id\nA01\tA375\n")
    with pytest.raises(ValueError, match=r"a_inst_info.txt' has none of the columns"):
        load_lincs(geo, level=3)
    (geo / "a_inst_info.txt").unlink()
    (geo / "a_inst_info.txt.gz").write_bytes(b"not gzip")
    with pytest.raises(
        ValueError, match=r"a_inst_info.txt.gz.* has none of the columns"
    ):
        load_lincs(geo, level=3)


def test_gene_in_two_rows(tmp_path):
    write_matrix(
        tmp_path / "a.gctx", ["a"], genes=["16", "16"], pert_id=["B"],
        pert_type=["trt_cp"], cell_id=["A375"], smiles=["C"],
    )  # fmt: skip
    with pytest.raises(ValueError, match="1 genes stand in several rows, Entrez id 16"):
        load_lincs([tmp_path / "a.gctx"], level=5, landmark_only=False)


def test_only_what_is_left_is_read(geo, bytes_read):
    load_lincs(geo, level=3, pert_time=24)
    # P3:A01 and its control: a row of four genes each, 4 bytes a value.
    assert bytes_read == [16, 16]


# ------------------------------------------------------------------------- real data


def test_real_level5(level5_folder):
    study = load_lincs(level5_folder, level=5)
    assert len(study) == 2963
    assert study.obs["pert_id"].nunique() == 877
    assert len(set(study.groups[:, 0])) == 839
    assert len(set(study.groups[:, 1])) == 24
    assert study.genes["gene_id"].is_monotonic_increasing
    assert study.ge.shape == (2963, 978)
    info = pd.read_csv(level5_folder / "siginfo.txt", sep="\t", index_col="sig_id")
    compounds = pd.read_csv(level5_folder / "compoundinfo.txt", sep="\t")
    smiles = compounds.set_index("pert_id")["canonical_smiles"]
    rows = np.random.default_rng(0).choice(len(study), 20, replace=False)
    with h5py.File(level5_folder / "level5_trt_cp_n2963x978.gctx") as file:
        ids = file["0/META/COL/id"].asstr()[()].tolist()
        genes = file["0/META/ROW/id"].asstr()[()].astype(int)
        for row in rows:
            name = study.obs.index[row]
            direct = file["0/DATA/0/matrix"][ids.index(name)][np.argsort(genes)]
            np.testing.assert_array_equal(study.ge[row], direct)
            assert study.groups[row, 1] == info.loc[name, "cell_iname"]
            assert study.smiles[row] == smiles[info.loc[name, "pert_id"]]


def test_real_level5_shared_drugs(level5_folder):
    lines = ["THP1", "JURKAT", "HEK293"]
    study = load_lincs(
        level5_folder, level=5, cell_lines=lines, shared_by_all_lines=True
    )
    every = load_lincs(level5_folder, level=5)
    drugs_of = {
        line: {drug for drug, there in every.groups if there == line} for line in lines
    }
    shared = set.intersection(*drugs_of.values())
    assert shared
    assert set(study.groups[:, 0]) == shared
    assert len(study) == sum(
        drug in shared and line in lines for drug, line in every.groups
    )


@pytest.fixture(scope="module")
def plates(level3_folder):
    paths = sorted(level3_folder.glob("*.level3.gct"))
    table = level3_folder / "obs.csv"
    study = load_quietly(paths, level=3, metadata=table)
    return study, pd.read_csv(table, index_col="inst_id"), paths


def read_plate(path):
    """Values of a GCT file by Entrez id and well, without our reader."""
    with open(path) as file:
        n_fields, n_obs = map(int, file.read().split("\n", 2)[1].split()[2:])
    skip = [0, 1, *range(3, 3 + n_obs)]
    table = pd.read_csv(path, sep="\t", skiprows=skip, index_col="pr_gene_id")
    return table.iloc[:, n_fields:].sort_index().T


def test_real_level3_counts_per_plate(plates):
    study, table, _ = plates
    table = table[table["plate"].isin(["CPC006_A375_6H_X1", "LJP005_A375_24H_X1"])]
    treated = table[(table["pert_type"] == "trt_cp") & table["smiles"].notna()]
    controls = table[table["pert_type"] == "ctl_vehicle"]
    assert len(treated) == 676
    assert study.obs["plate"].value_counts().to_dict() == (
        treated["plate"].value_counts().to_dict()
    )
    assert study.control_obs["plate"].value_counts().to_dict() == {
        "CPC006_A375_6H_X1": 16,
        "LJP005_A375_24H_X1": 26,
    }
    assert set(study.control_obs.index) == set(controls.index)
    assert study.smiles.tolist() == treated.loc[study.obs.index, "smiles"].tolist()
    times = treated.loc[study.obs.index, "time_h"]
    np.testing.assert_array_equal(study.obs["time_h"], times)
    # The table has no dose for CPC006_A375; the file's own counts there.
    assert study.obs["dose_um"].notna().all()


@pytest.mark.parametrize(("how", "summary"), [("mean", np.mean), ("median", np.median)])
def test_real_level3_pairs_by_slow_loop(plates, how, summary):
    study, _, paths = plates
    values = pd.concat([read_plate(path) for path in paths])
    assert values.columns.tolist() == study.genes["gene_id"].tolist()
    paired = study.paired_ge(how)
    for row in range(0, len(study), 37):
        own = values.loc[study.obs.index[row]]
        on_plate = study.control_obs["plate"] == study.obs["plate"].iloc[row]
        wells = values.loc[study.control_obs.index[on_plate]]
        np.testing.assert_allclose(paired[row, :978], own, rtol=1e-6)
        np.testing.assert_allclose(
            paired[row, 978:], summary(wells.to_numpy(), axis=0), rtol=1e-5
        )


def test_real_folder_and_level4(level3_folder, plates):
    study, table, _ = plates
    again = load_quietly(level3_folder, level=3, metadata=level3_folder / "obs.csv")
    assert set(again.obs["cell_line"]) == {"A375", "HT115"}  # of the .h5ad
    rows = again.obs.index.isin(study.obs.index)
    pd.testing.assert_frame_equal(again.obs[rows], study.obs)
    np.testing.assert_array_equal(again.ge[rows], study.ge)
    # The table of the folder is found, whatever its name.
    found = load_quietly(level3_folder, level=3)
    pd.testing.assert_frame_equal(found.obs, again.obs)
    assert "profiles by obs.csv" in found.dropped["detail"][0]
    level4 = load_quietly(level3_folder, level=4, metadata=table)
    assert set(level4.obs["plate"]) == {"LJP005_A375_24H_X1"}
    assert len(level4) == (study.obs["plate"] == "LJP005_A375_24H_X1").sum()
    ten = load_quietly(
        level3_folder, level=3, metadata=table, pert_dose=10, cell_lines="A375"
    )
    # 10 um in the file of CPC006 (its DMSO wells say so too), and in LJP005.
    assert set(ten.obs["dose_um"]) == {10.0}
    assert len(ten.control_obs) == 42


def write_h5ad(path, obs, var, values):
    anndata = pytest.importorskip("anndata")
    obs = pd.DataFrame(obs, index=[f"w{i}" for i in range(len(values))])
    anndata.AnnData(np.asarray(values, np.float32), obs, var).write_h5ad(path)
    return path


PLATE = {
    "pert_type": ["trt_cp", "ctl_vehicle", "trt_cp"],
    "cell_id": ["A375", "A375", "PC3"],
    "rna_plate": ["P1", "P1", "P2"],
    "canonical_smiles": ["CCO", "CS(C)=O", "CCN"],
    "pert_dose": [10.0, 0, 1],
}


@pytest.mark.parametrize("is_sparse", [False, True])
def test_h5ad_with_filters(tmp_path, is_sparse):
    values = np.arange(6, dtype=float).reshape(3, 2)
    if is_sparse:
        values = sparse.csr_matrix(values).astype(np.float32)
    anndata = pytest.importorskip("anndata")
    obs = pd.DataFrame(PLATE, index=["w0", "w1", "w2"])
    var = pd.DataFrame(index=["ABCF1", "AARS1"])
    path = tmp_path / "plate_level3.h5ad"
    anndata.AnnData(values, obs, var).write_h5ad(path)
    # By its folder, by its own path, and of lines and doses that are asked for.
    for source in (tmp_path, path, [path]):
        with pytest.warns(UserWarning, match="no control on their plate"):
            study = load_lincs(source, level=3, landmark_only=False)
        assert study.obs.index.tolist() == ["w0", "w2"]
        assert study.control_obs.index.tolist() == ["w1"]
        assert study.genes["gene_id"].tolist() == [16, 23]
        assert study.ge.tolist() == [[1, 0], [5, 4]]
        assert study.control_ge.tolist() == [[3, 2]]
    kept = load_lincs(path, level=3, landmark_only=False, pert_dose=10)
    assert kept.obs.index.tolist() == ["w0"]
    with pytest.raises(ValueError, match="landmark_only=False to load all"):
        load_lincs(path, level=3)
    with pytest.raises(ValueError, match=r"level 3\. Got level=5"):
        load_lincs(path, level=5)


def test_h5ad_without_a_kind_of_treatment(tmp_path):
    obs = {name: PLATE[name] for name in ("cell_id", "canonical_smiles")}
    var = pd.DataFrame(index=["ABCF1", "AARS1"])
    path = write_h5ad(tmp_path / "q.h5ad", obs, var, np.eye(3, 2))
    with pytest.raises(ValueError, match=r"has a pert_type.*Study\.from_anndata takes"):
        load_lincs(path, level=4, landmark_only=False)


def symbols_folder(tmp_path):
    write_gctx(
        tmp_path / "level5.gctx",
        [[1, 2, 3], [4, 5, 6]],
        pd.DataFrame(index=["s1", "s2"]),
        pd.DataFrame(index=["abcf1", "AARS1", "novel"]),
    )
    wells = pd.DataFrame(
        {"sig_id": ["s1", "s2"], "pert_type": "trt_cp", "cell_id": "A375",
         "canonical_smiles": ["CCO", "CCN"]}
    )  # fmt: skip
    wells.to_csv(tmp_path / "my_wells.csv", index=False)
    (tmp_path / "notes.csv").write_text("what,when\na,b\n")
    return tmp_path


def test_genes_by_symbol_with_a_table_of_genes(tmp_path):
    folder = symbols_folder(tmp_path)
    # The table has a gene of its own, and AARS1 by its earlier name.
    (folder / "geneinfo.txt").write_text(
        "gene_id\tgene_symbol\tfeature_space\n16\tAARS\tlandmark\n"
        "23\tABCF1\tlandmark\n900000\tnovel\tinferred\n"
    )
    study = load_lincs(folder, level=5)
    assert study.genes["gene_id"].tolist() == [16, 23]
    assert study.ge.tolist() == [[2, 1], [5, 4]]
    assert "profiles by my_wells.csv" in study.dropped["detail"][0]
    study = load_lincs(folder, level=5, landmark_only=False, gene_order="file")
    assert study.genes["gene_id"].tolist() == [23, 16, 900000]
    assert study.genes["symbol"].tolist() == ["ABCF1", "AARS", "novel"]


def test_genes_that_nothing_knows(tmp_path):
    folder = symbols_folder(tmp_path)
    with pytest.raises(ValueError, match=r"row 'novel' has no Entrez id.*no known"):
        load_lincs(folder, level=5, landmark_only=False)


def test_several_tables_may_be_that_of_the_wells(tmp_path):
    folder = symbols_folder(tmp_path)
    (folder / "wells2.tsv").write_text("sig_id\tx\ns1\t1\n")
    with pytest.raises(ValueError, match=r"Several tables .*'my_wells\.csv', 'wells2"):
        load_lincs(folder, level=5)
    # The one that is named is taken.
    with pytest.raises(ValueError, match="row 'novel' has no Entrez id"):
        load_lincs(
            folder, level=5, landmark_only=False, metadata=folder / "my_wells.csv"
        )


@pytest.mark.parametrize("where", ["wells", "compounds"])
def test_structures_as_inchi(tmp_path, where):
    write_gctx(
        tmp_path / "level5.gctx",
        [[1, 2], [4, 5], [6, 7]],
        pd.DataFrame(index=["s1", "s2", "s3"]),
        pd.DataFrame(index=["16", "23"]),
    )
    wells = pd.DataFrame({"sig_id": ["s1", "s2", "s3"], "pert_id": ["a", "b", "c"],
                          "pert_type": "trt_cp", "cell_id": "A375"})  # fmt: skip
    inchi = ["InChI=1S/C2H5NO/c1-2(3)4/h1H3,(H2,3,4)", "CC(N)=O", "InChI=1S/bad"]
    if where == "wells":
        wells["inchi"] = inchi
    else:
        table = pd.DataFrame({"pert_id": ["a", "b", "c"], "inchi": inchi})
        table.to_csv(tmp_path / "pert_info.csv", index=False)
    wells.to_csv(tmp_path / "sig_info.csv", index=False)
    with pytest.warns(DataWarning, match=r"InChI are read as SMILES: 1 are .*1 cannot"):
        with pytest.warns(UserWarning, match=r"1 pert_ids: c \(InChI=1S/bad\)"):
            study = load_lincs(tmp_path, level=5, landmark_only=False)
    assert study.smiles.tolist() == ["CC(N)=O", "CC(N)=O"]
    assert study.obs["drug"].nunique() == 1
