import pytest

from sklearn_molge.datasets import list_lincs_files


def test_names_sizes_and_order_of_phase_two():
    files = list_lincs_files("GSE70138", level=5)
    assert files["name"].tolist() == [
        "GSE70138_SHA512SUMS.txt.gz",
        "GSE70138_Broad_LINCS_cell_info_2017-04-28.txt.gz",
        "GSE70138_Broad_LINCS_pert_info_2017-03-06.txt.gz",
        "GSE70138_Broad_LINCS_gene_info_2017-03-06.txt.gz",
        "GSE70138_Broad_LINCS_sig_info_2017-03-06.txt.gz",
        "GSE70138_Broad_LINCS_sig_metrics_2017-03-06.txt.gz",
        "GSE70138_Broad_LINCS_Level5_COMPZ_n118050x12328_2017-03-06.gctx.gz",
    ]
    assert files["size"].tolist() == [
        1071,
        2528,
        82376,
        216692,
        1943865,
        3137083,
        5365179698,
    ]
    assert files["checksum"].tolist() == ["server"] + ["sha512"] * 6
    unpacked = files["name"].iloc[-1].removesuffix(".gz")
    assert files["saved_as"].tolist() == [*files["name"].iloc[:-1], unpacked]
    assert files["url"][0] == (
        "https://ftp.ncbi.nlm.nih.gov/geo/series/GSE70nnn/GSE70138/suppl/"
        "GSE70138_SHA512SUMS.txt.gz"
    )


@pytest.mark.parametrize(
    ("level", "matrix", "profiles"),
    [
        (3, "Level3_INF_mlr12k_n1319138x12328.gctx.gz", "inst_info.txt.gz"),
        (4, "Level4_ZSPCINF_mlr12k_n1319138x12328.gctx.gz", "inst_info.txt.gz"),
        (5, "Level5_COMPZ.MODZ_n473647x12328.gctx.gz", "sig_info.txt.gz"),
    ],
)
def test_names_of_phase_one(level, matrix, profiles):
    names = list_lincs_files("GSE92742", level=level)["name"].tolist()
    assert names[0] == "GSE92742_SHA512SUMS.txt.gz"
    assert names[-1] == f"GSE92742_Broad_LINCS_{matrix}"
    tables = ["cell_info.txt.gz", "gene_info.txt.gz", "pert_info.txt.gz", profiles]
    assert {f"GSE92742_Broad_LINCS_{table}" for table in tables} <= set(names)


def test_names_of_2020():
    files = list_lincs_files("LINCS2020", level=3)
    assert files["name"].tolist() == [
        "cellinfo_beta.txt",
        "geneinfo_beta.txt",
        "compoundinfo_beta.txt",
        "instinfo_beta.txt",
        "level3_beta_ctl_n188708x12328.gctx",
        "level3_beta_trt_cp_n1805898x12328.gctx",
    ]
    assert files["size"].isna().tolist() == [False] * 4 + [True] * 2
    assert files["checksum"].tolist() == ["md5"] * 4 + ["server"] * 2
    assert files["url"].iloc[-1] == (
        "https://s3.amazonaws.com/macchiato.clue.io/builds/LINCS2020/level3/"
        "level3_beta_trt_cp_n1805898x12328.gctx"
    )


def test_size_of_an_unpacked_matrix_is_near_four_bytes_a_value():
    controls, treated = list_lincs_files("LINCS2020", level=5).iloc[-2:].itertuples()
    assert controls.name == "level5_beta_ctl_n58022x12328.gctx"
    assert controls.gib * 2**30 == 58022 * 12328 * 4
    assert treated.name == "level5_beta_trt_cp_n720216x12328.gctx"
    assert treated.size == pytest.approx(720216 * 12328 * 4, rel=1e-4)


@pytest.mark.parametrize("level", [3, 4, 5])
def test_controls_are_a_file_of_their_own_only_in_2020(level):
    for release in ("GSE92742", "GSE70138", "LINCS2020"):
        every = list_lincs_files(release, level=level)["name"]
        treated = list_lincs_files(release, level=level, controls=False)["name"]
        left_out = set(every) - set(treated)
        if release == "LINCS2020":
            (name,) = left_out
            assert name.startswith(f"level{level}_beta_ctl_n")
        else:
            assert left_out == set()
