"""GCT text: every cell goes where it belongs, and what is wrong is named."""

import gzip
import tracemalloc

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from pandas.testing import assert_frame_equal

from sklearn_molge.datasets import read_gct, read_gctx, write_gctx
from sklearn_molge.exceptions import CorruptFileError

V13 = """\
#1.3
3\t4\t2\t3
id\tsymbol\tis_lm\ts1\ts2\ts3\ts4
pert_id\tna\tna\tDMSO\tna\t-666\tBRD "K" 1
dose\tna\tna\t-666\t0.5\t10\t
time\tna\tna\t6\t24\t24\t6
16\tAARS1\t1\t1\t2\t3\t4
23\t\t0\t-5.5\t6e-1\t+7\t 8
0025\tABL1\t1\t9.25\t10\t11\t12
"""
V12 = """\
#1.2
2\t3
Name\tDescription\ta\tb\tc
x_at\tfirst gene\t1\t2\t3
y_at\tna\t4\t5\t6
"""
MATRIX = np.array([[1, -5.5, 9.25], [2, 0.6, 10], [3, 7, 11], [4, 8, 12]])


def write(tmp_path, text, name="plate.gct"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path, V13)


def text_index(ids):
    return pd.Index(np.array(ids, dtype=object), dtype=object, name="id")


OBS = pd.DataFrame(
    {
        "pert_id": np.array(["DMSO", "na", "-666", 'BRD "K" 1'], dtype=object),
        "dose": [-666.0, 0.5, 10.0, np.nan],
        "time": [6, 24, 24, 6],
    },
    index=text_index(["s1", "s2", "s3", "s4"]),
).astype({"pert_id": object})
GENES = pd.DataFrame(
    {
        "symbol": np.array(["AARS1", np.nan, "ABL1"], dtype=object),
        "is_lm": [1, 0, 1],
    },
    index=text_index(["16", "23", "0025"]),
).astype({"symbol": object})


def test_version_1_3(path):
    data = read_gct(path)
    assert data.matrix.dtype == np.float32
    assert_array_equal(data.matrix, MATRIX.astype(np.float32))
    assert_frame_equal(data.obs, OBS)
    assert_frame_equal(data.genes, GENES)
    assert_array_equal(read_gct(str(path), dtype=np.float64).matrix, MATRIX)


def test_version_1_2(tmp_path):
    data = read_gct(write(tmp_path, V12))
    assert_array_equal(data.matrix, [[1, 4], [2, 5], [3, 6]])
    assert_frame_equal(data.obs, pd.DataFrame(index=text_index(["a", "b", "c"])))
    assert data.genes["Description"].tolist() == ["first gene", "na"]
    assert_array_equal(data.genes.index, ["x_at", "y_at"])


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.rstrip("\n"),
        lambda text: text + "\n\n",
        lambda text: text.replace("#1.3", "#1.3\t\t\t").replace(
            "\t3\nid", "\t3\t\t\nid"
        ),
        lambda text: text.replace("\n", "\t" * 100 + "\n"),
        lambda text: "\ufeff" + text,
        lambda text: text.replace("16\t", "\t\t\t\t\n16\t") + "\t\t\t\n\t\n",
        lambda text: "\n".join(
            "\t".join('"' + cell.replace('"', '""') + '"' for cell in line.split("\t"))
            for line in text.split("\n")
        ),
        lambda text: text.replace("\n", "\r\r\n"),
    ],
    ids=[
        "windows",
        "no last newline",
        "blank lines after",
        "padded by a spreadsheet",
        "padded by a hundred cells",
        "byte order mark",
        "rows of tabs",
        "quoted",
        "doubled line ends",
    ],
)
def test_harmless_differences(tmp_path, change):
    data = read_gct(write(tmp_path, change(V13)))
    assert_array_equal(data.matrix, MATRIX.astype(np.float32))
    assert_frame_equal(data.obs, OBS)


def test_utf_16(tmp_path):
    path = tmp_path / "excel.gct"
    path.write_bytes(V13.encode("utf-16"))
    data = read_gct(path)
    assert_array_equal(data.matrix, MATRIX.astype(np.float32))
    assert_frame_equal(data.obs, OBS)


def test_many_samples_padded_by_a_spreadsheet(tmp_path):
    n = 100
    ids = [f"s{i}" for i in range(n)]
    lines = ["#1.2", f"1\t{n}", "\t".join(["Name", "Description", *ids])]
    lines.append("\t".join(["x", "na", *map(str, range(n))]))
    text = "\n".join(line + "\t" * (n + 1 - line.count("\t")) for line in lines)
    assert_array_equal(read_gct(write(tmp_path, text)).matrix[:, 0], np.arange(n))


def test_ids_with_zeros_before_stay_text(tmp_path):
    text = V13.replace("time\tna\tna\t6\t24\t24\t6", "plate\tna\tna\t06\t24\t24\t6")
    assert read_gct(write(tmp_path, text)).obs["plate"].tolist() == "06 24 24 6".split()


def test_samples_without_a_name(tmp_path):
    with pytest.raises(
        ValueError, match=r"plate\.gct cannot be read: 1 samples have no id"
    ):
        read_gct(write(tmp_path, V13.replace("s2", " ").replace(" \t", "\t")))


def test_gzipped_under_any_name(tmp_path):
    for name in ("plate.gct.gz", "plate.gct"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(V13.encode()))
        data = read_gct(path, samples=["s3"])
        assert_array_equal(data.matrix, MATRIX[[2]].astype(np.float32))


def test_text_that_is_not_ascii(tmp_path):
    text = V13.replace("DMSO", "β-estradiol µM")
    assert read_gct(write(tmp_path, text)).obs["pert_id"].iloc[0] == "β-estradiol µM"
    path = tmp_path / "latin.gct"
    path.write_bytes(V13.replace("DMSO", "µM").encode("latin-1"))
    with pytest.warns(UserWarning, match=r"latin\.gct is not UTF-8"):
        data = read_gct(path)
    assert data.obs["pert_id"].iloc[0] == "µM"
    assert_array_equal(data.matrix, MATRIX.astype(np.float32))


SELECTIONS = [
    (["s4", "s1"], ["0025", "16"], [3, 0], [2, 0]),
    ([1, -1, 1], [2, 2, 0], [1, 3, 1], [2, 2, 0]),
    (slice(None, None, -1), slice(1, None), [3, 2, 1, 0], [1, 2]),
    (np.array([True, False, False, True]), None, [0, 3], [0, 1, 2]),
    (lambda obs: obs["time"] == 24, lambda genes: genes["is_lm"] == 1, [1, 2], [0, 2]),
    ([], ["23"], [], [1]),
    (["s2"], [], [1], []),
]


@pytest.mark.parametrize(("samples", "genes", "rows", "columns"), SELECTIONS)
def test_part_is_the_part_of_the_whole(path, samples, genes, rows, columns):
    part = read_gct(path, samples=samples, genes=genes)
    assert_array_equal(part.matrix, MATRIX.astype(np.float32)[np.ix_(rows, columns)])
    assert_frame_equal(part.obs, OBS.iloc[rows])
    assert_frame_equal(part.genes, GENES.iloc[columns])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"samples": ["s1", "s9"]},
            r"samples asks for ids .* not in .*plate\.gct: 's9'",
        ),
        ({"genes": ["1", "2"]}, r"genes asks for ids .* not in .*plate\.gct: '1', '2'"),
        ({"genes": [3]}, r"genes asks for positions .* it has 3 genes .*: 3\."),
        ({"samples": [True]}, r"mask for samples .* each of the 4 samples"),
        ({"dtype": "int64"}, r"dtype must be numpy\.float32 or numpy\.float64"),
    ],
)
def test_bad_request(path, arguments, message):
    with pytest.raises(ValueError, match=message):
        read_gct(path, **arguments)


def replaced(old, new):
    assert V13.count(old) == 1
    return V13.replace(old, new)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            r"plate\.gct cannot be read: line 1: .* with #1\.2 or #1\.3\. Got ''",
        ),
        (replaced("#1.3", "#1.4"), r"line 1: .* Got '#1\.4'"),
        (
            replaced("3\t4\t2\t3", "3\t4"),
            r"line 2: GCT version #1\.3 needs 4 .* '3\\t4'",
        ),
        (replaced("3\t4\t2\t3", "3\t4\t2\tx"), r"line 2: .* needs 4 whole numbers"),
        (replaced("3\t4\t2\t3", "3\t-4\t2\t3"), r"line 2: .* needs 4 whole numbers"),
        (V12.replace("2\t3", "2\t3\t1\t0", 1), r"line 2: .* #1\.2 needs 2 whole"),
        (
            replaced("3\t4\t2\t3", "4\t4\t2\t3"),
            r"ends after line 9: line 2 .* 10 lines",
        ),
        (
            replaced("3\t4\t2\t3", "2\t4\t2\t3"),
            r"line 9: .* 8 lines, but there are more",
        ),
        (replaced("3\t4\t2\t3", "3\t5\t2\t3"), r"line 3: .* 8 cells .* Got 7"),
        (replaced("3\t4\t2\t3", "3\t4\t1\t3"), r"line 3: .* 6 cells .* Got 7"),
        (
            V13[: V13.index("0025")],
            r"plate\.gct cannot be read: it ends after line 8: .* 9 lines",
        ),
        (V13[: V13.index("\t11\t12")], r"line 9: .* 7 cells .* Got 5"),
        (V13[: V13.index("time")], r"plate\.gct cannot be read: it ends after line 5"),
        ("#1.3\n3\t4\t2\t3\n", r"plate\.gct cannot be read: it ends after line 2"),
        (replaced("symbol", "is_lm"), r"line 3: .* named differently .* 'is_lm'"),
        (replaced("time", "dose"), r"first column: .* named differently .* 'dose'"),
    ],
)
def test_bad_file(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ValueError, match=message):
        read_gct(path)
    with pytest.raises(ValueError, match=message):
        read_gct(path, samples=[], genes=[])


@pytest.mark.parametrize("cell", ["inf", "7,5", "x", "1.234,5", "-"])
def test_cell_that_is_not_a_number(tmp_path, cell):
    path = write(tmp_path, replaced("6e-1", cell))
    message = rf"line 8, column 5 \(gene '23', sample 's2'\): '{cell}' is not"
    for missing in ("raise", "nan"):
        with pytest.raises(ValueError, match=message):
            read_gct(path, missing=missing)
    with pytest.raises(ValueError, match=message):
        read_gct(path, samples=["s4", "s2"], genes=["16", "23"])
    # What is not asked for is not looked at.
    assert_array_equal(read_gct(path, genes=["0025"]).matrix[:, 0], MATRIX[:, 2])
    part = read_gct(path, samples=["s4", "s1"])
    assert_array_equal(part.matrix, MATRIX[[3, 0]].astype(np.float32))


@pytest.mark.parametrize(
    "cell", ["", "na", "NaN", "NA", "n/a", "-666", "-666.0", "null"]
)
def test_missing_cell(tmp_path, cell):
    path = write(tmp_path, replaced("6e-1", cell).replace("\t12", f"\t{cell}"))
    message = (
        r"plate\.gct: of 12 values 2 are missing and 0 infinite, in 2 of 4 samples "
        r"\('s2', 's4'\) and 2 of 3 genes \('23', '0025'\)\. missing='nan' keeps"
    )
    with pytest.raises(ValueError, match=message):
        read_gct(path)
    expected = MATRIX.astype(np.float32)
    expected[[1, 3], [1, 2]] = np.nan
    assert_array_equal(read_gct(path, missing="nan").matrix, expected)
    assert_array_equal(read_gct(path, samples=["s1", "s3"]).matrix, expected[[0, 2]])


def test_decimal_commas(tmp_path):
    path = write(tmp_path, V13.replace("-5.5", "-5,5").replace("9.25", "9,25"))
    with pytest.raises(ValueError, match=r"line 8.*'-5,5' is not.*Pass decimal=','"):
        read_gct(path)
    assert_array_equal(read_gct(path, decimal=",").matrix, MATRIX.astype(np.float32))
    # 1.234 beside 1,5: one of the two is not what it seems.
    path = write(tmp_path, V13.replace("-5.5", "-5,5"))
    with pytest.raises(ValueError, match=r"line 9.*'9.25' is not a finite number"):
        read_gct(path, decimal=",")


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*none\.gct"):
        read_gct(tmp_path / "none.gct")


def test_damaged_gzip(tmp_path):
    path = tmp_path / "plate.gct.gz"
    path.write_bytes(gzip.compress(V13.encode())[:-20])
    with pytest.raises(ValueError, match=r"plate\.gct\.gz cannot be read: EOFError"):
        read_gct(path)


def test_binary_file(tmp_path):
    path = tmp_path / "plate.gct"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)))
    with pytest.raises(
        ValueError, match=r"plate\.gct cannot be read: line 1: a GCT file starts with"
    ):
        read_gct(path)


def test_metadata_alone_is_that_of_the_whole(path):
    assert_frame_equal(read_gct(path, genes=[]).obs, OBS)
    assert_frame_equal(read_gct(path, samples=[]).genes, GENES)


def test_round_trip_through_gctx(tmp_path, path):
    data = read_gct(path)
    write_gctx(tmp_path / "plate.gctx", data)
    back = read_gctx(tmp_path / "plate.gctx")
    assert_array_equal(back.matrix, data.matrix)
    assert_frame_equal(back.obs, data.obs)
    assert_frame_equal(back.genes, data.genes)


def test_memory_is_near_the_result(tmp_path):
    n_genes, n_samples = 1500, 400
    rng = np.random.default_rng(0)
    lines = ["#1.2", f"{n_genes}\t{n_samples}"]
    lines.append("\t".join(["id", "text", *(f"s{i}" for i in range(n_samples))]))
    lines.extend(
        "\t".join([str(i), "na", *map("{:.3f}".format, rng.random(n_samples))])
        for i in range(n_genes)
    )
    path = write(tmp_path, "\n".join(lines))
    tracemalloc.start()
    data = read_gct(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert data.matrix.nbytes == 2_400_000
    assert peak < 1.3 * data.matrix.nbytes


# ------------------------------------------------------------------------- real plates


@pytest.mark.parametrize(
    ("name", "n_samples", "n_obs_fields", "n_gene_fields"),
    [
        ("LJP005_A375_24H_X1_B19.level3.gct", 377, 35, 11),
        ("CPC006_A375_6H_X1.level3.gct", 371, 24, 8),
    ],
)
def test_real_plate_as_pandas_reads_it(
    level3_folder, name, n_samples, n_obs_fields, n_gene_fields
):
    data = read_gct(level3_folder / name)
    assert data.matrix.shape == (n_samples, 978)
    table = pd.read_csv(
        level3_folder / name,
        sep="\t",
        skiprows=2,
        index_col=0,
        dtype=str,
        keep_default_na=False,
        quoting=3,
    )
    values = table.iloc[n_obs_fields:, n_gene_fields:]
    assert_array_equal(data.matrix.T, values.to_numpy(float).astype(np.float32))
    assert_array_equal(data.obs.index, values.columns)
    assert_array_equal(data.genes.index, values.index)
    fields = {
        **{n: (data.obs[n], table.loc[n].iloc[n_gene_fields:]) for n in data.obs},
        **{n: (data.genes[n], table[n].iloc[n_obs_fields:]) for n in data.genes},
    }
    assert len(fields) == n_obs_fields + n_gene_fields
    for ours, theirs in fields.values():
        if ours.dtype == object:
            assert_array_equal(ours, theirs)
        else:
            assert_allclose(ours, theirs.astype(float), rtol=0)


def test_real_plate_in_parts(level3_folder):
    path = level3_folder / "LJP005_A375_24H_X1_B19.level3.gct"
    whole = read_gct(path)
    part = read_gct(
        path,
        samples=lambda obs: obs["pert_type"] == "ctl_vehicle",
        genes=whole.genes.index[::-7],
    )
    controls = (whole.obs["pert_type"] == "ctl_vehicle").to_numpy()
    assert controls.sum() == 26
    assert_array_equal(part.matrix, whole.matrix[controls][:, ::-7])
    assert_frame_equal(part.obs, whole.obs[controls])


@pytest.mark.parametrize(
    "cell",
    "9.25\x007 1_000 \uff11\uff12 \u0663 0x1p3 1d5 nan(1) infinity 1e999 True".split(
        " "
    ),
)
def test_a_number_is_what_all_take_for_one(tmp_path, cell):
    path = write(tmp_path, replaced("6e-1", cell))
    for dtype in (np.float32, np.float64):
        with pytest.raises(CorruptFileError, match=r"plate\.gct cannot .*line 8"):
            read_gct(path, dtype=dtype)


def test_what_float32_cannot_hold(tmp_path):
    path = write(tmp_path, replaced("6e-1", "-1e39"))
    with pytest.raises(CorruptFileError, match="'-1e39' is not a finite number in flo"):
        read_gct(path)
    assert read_gct(path, dtype=np.float64).matrix[1, 1] == -1e39


@pytest.mark.parametrize(
    "cells",
    [
        ["1_000", "1", "2", "3"],
        ["inf", "1", "2", "3"],
        ["nan", "1", "2", "3"],
        ["1e999", "1", "2", "3"],
        ["12345678901234567891", "1", "2", "3"],
        ["1234567890123456789", "", "2", "3"],
    ],
)
def test_metadata_that_would_change_as_numbers_stays_text(tmp_path, cells):
    row = "\t".join(["time", "na", "na", *cells])
    path = write(tmp_path, replaced("time\tna\tna\t6\t24\t24\t6", row))
    found = read_gct(path).obs["time"]
    assert [text for text in found if text == text] == [c for c in cells if c]


@pytest.mark.parametrize("counts", ["3\t4\t2\t" + "9" * 30, "5000000\t4\t2\t3"])
def test_counts_beyond_any_release(tmp_path, counts):
    path = write(tmp_path, replaced("3\t4\t2\t3", counts))
    with pytest.raises(CorruptFileError, match="line 2: it announces more than"):
        read_gct(path)
