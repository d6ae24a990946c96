"""Tables as laboratories have them: read right, or told, or refused; never silently."""

import gzip
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import Study, load_lincs, write_gctx
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.molecules import drug_ids

GENES = ["16", "23", "25"]
SIGNATURES = pd.DataFrame(
    {
        "sig_id": ["s1", "s2", "s3", "s4"],
        "pert_id": ["BRD-K10000001", "BRD-K10000002", "BRD-K10000001", "DMSO"],
        "pert_type": ["trt_cp", "trt_cp", "trt_cp", "ctl_vehicle"],
        "cell_id": ["A375", "5637", "PC3", "PC3"],
        "pert_idose": ["10 uM", "500 nM", "1 uM", "-666"],
        "pert_itime": ["24 h", "24 h", "6 h", "24 h"],
    }
)
COMPOUNDS = pd.DataFrame(
    {
        "pert_id": ["BRD-K10000001", "BRD-K10000002"],
        "pert_iname": ["one", "two"],
        "canonical_smiles": ["CCO", "CCN"],
    }
)
GENE_INFO = pd.DataFrame(
    {
        "pr_gene_id": [16, 23, 25],
        "pr_gene_symbol": ["AARS", "ABCF1", "ABL1"],
        "pr_is_lm": [1, 1, 1],
    }
)


@pytest.fixture
def load(tmp_path):
    """Write a release, with changed tables, and load it."""

    def load(
        signatures=SIGNATURES,
        compounds=COMPOUNDS,
        genes=GENE_INFO,
        *,
        ids=("s1", "s2", "s3", "s4"),
        rows=GENES,
        matrix=None,
        name="siginfo.txt",
        **options,
    ):
        if matrix is None:
            matrix = np.arange(len(ids) * len(rows)).reshape(len(ids), -1) - 5.0
        write_gctx(
            tmp_path / "level5.gctx",
            matrix,
            pd.DataFrame(index=list(ids)),
            pd.DataFrame(index=rows),
        )
        tables = {"pertinfo.txt": compounds, "geneinfo.txt": genes, name: signatures}
        for file, table in tables.items():
            if isinstance(table, pd.DataFrame):
                table.to_csv(tmp_path / file, sep="\t", index=False)
            else:
                content = table if isinstance(table, bytes) else table.encode()
                (tmp_path / file).write_bytes(content)
        return load_lincs(tmp_path, level=5, **options)

    return load


def as_text(table, sep="\t", **options):
    return table.to_csv(sep=sep, index=False, **options)


def assert_as_it_should_be(study):
    assert list(study.obs.index) == ["s1", "s2", "s3"]
    assert study.groups[:, 1].tolist() == ["A375", "5637", "PC3"]
    assert study.smiles.tolist() == ["CCO", "CCN", "CCO"]
    np.testing.assert_allclose(study.obs["dose_um"], [10, 0.5, 1])
    np.testing.assert_allclose(study.obs["time_h"], [24, 24, 6])
    np.testing.assert_array_equal(study.ge[:, 0], [-5, -2, 1])


# --------------------------------------------------------- how a table is written


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("siginfo.txt", as_text(SIGNATURES)),
        ("SIGINFO.CSV", as_text(SIGNATURES, ",")),
        ("siginfo.txt", as_text(SIGNATURES, ",")),
        ("siginfo.csv", as_text(SIGNATURES)),
        ("siginfo.csv", as_text(SIGNATURES, ";")),
        ("siginfo.txt", "\ufeff" + as_text(SIGNATURES)),
        ("siginfo.txt", as_text(SIGNATURES).encode("utf-16")),
        ("siginfo.txt", gzip.compress(as_text(SIGNATURES).encode(), mtime=0)),
        ("siginfo.csv.gz", gzip.compress(as_text(SIGNATURES, ",").encode(), mtime=0)),
        ("siginfo.txt", as_text(SIGNATURES, quoting=1)),
        ("siginfo.csv", "sep=;\n" + as_text(SIGNATURES, ";", quoting=1)),
        ("siginfo.txt", as_text(SIGNATURES).replace("\n", "\r\n")),
        ("siginfo.txt", "\t\t\t\n" + as_text(SIGNATURES) + "\n\n"),
        ("siginfo.txt", as_text(SIGNATURES.rename(columns=str.upper))),
        ("siginfo.txt", as_text(SIGNATURES.rename(columns=lambda c: f" {c} "))),
        ("siginfo.txt", as_text(SIGNATURES.map(lambda v: f" {v}  "))),
        ("siginfo.txt", as_text(SIGNATURES).replace("s2", '"s2"')),
        ("siginfo.txt", as_text(SIGNATURES.replace("5637", "5637.0"))),
        ("siginfo.txt", SIGNATURES.to_csv(sep="\t", index_label=None)),
        (
            "siginfo.txt",  # R: rows have names, their column has none
            SIGNATURES.to_csv(sep="\t").removeprefix("\t"),
        ),
    ],
)
def test_a_table_written_in_any_way(load, name, content):
    assert_as_it_should_be(load(content, name=name))


def test_header_without_a_key_is_shown(load):
    table = SIGNATURES.rename(columns={"sig_id": "signature"})
    with pytest.raises(
        ValueError,
        match=r"siginfo.txt' has none of the columns inst_id.*Its header, read as "
        r"separated by tabs, is 'signature', 'pert_id', 'pert_type', 'cell_id'",
    ):
        load(table)


def test_column_that_stands_twice(load):
    text = as_text(SIGNATURES).replace("pert_itime", "PERT_ID")
    with pytest.raises(ValueError, match=r"has the column 'pert_id' more than once"):
        load(text)


@pytest.mark.parametrize("closed", ["PC3,1 uM", None])
def test_quotation_mark_left_open(load, closed):
    text = as_text(SIGNATURES, ",").replace("BRD-K10000002", '"BRD-K10000002')
    if closed:
        text = text.replace(closed, f'{closed}"')
    with pytest.raises(ValueError, match="over several lines, which is a quotation"):
        load(text)


def test_row_that_is_too_long(load):
    text = as_text(SIGNATURES).replace("500 nM", "500 nM\t")
    with pytest.raises(
        ValueError, match="line 3: it has 7 cells, where the header has 6"
    ):
        load(text)


def test_row_that_is_too_short(load):
    text = as_text(SIGNATURES).replace("500 nM\t24 h", "500 nM")
    with pytest.warns(DataWarning, match="1 rows have fewer cells .* has 6: lines 3"):
        study = load(text)
    np.testing.assert_array_equal(study.obs["time_h"], [24, np.nan, 6])
    with pytest.raises(
        ValueError, match=r"1 rows have fewer cells .* has 7: lines 4\."
    ):
        load(SIGNATURES.to_csv(sep="\t").removeprefix("\t").replace("1 uM\t", ""))


# ------------------------------------------------------------------ ids that match


@pytest.mark.parametrize("change", [str.upper, str.capitalize])
def test_ids_in_another_case(load, change):
    with pytest.warns(DataWarning, match=r"siginfo.txt: 4 ids .* 'S1' is 's1'") as w:
        study = load(SIGNATURES.assign(sig_id=SIGNATURES["sig_id"].map(change)))
    assert {Path(each.filename).name for each in w} == {Path(__file__).name}
    assert_as_it_should_be(study)


def test_ids_padded_in_the_matrix(load):
    with pytest.warns(DataWarning, match=r"siginfo.txt: 1 ids .* 's2' is ' s2 '"):
        study = load(ids=["s1", " s2 ", "s3", "s4"])
    assert study.obs["cell_line"].tolist() == ["A375", "5637", "PC3"]


def test_profiles_without_a_row_are_counted(load):
    with pytest.warns(
        DataWarning, match=r"1 of 4 profiles have no row in siginfo.txt: 's2'. They are"
    ):
        study = load(SIGNATURES.drop(1))
    assert list(study.obs.index) == ["s1", "s3"]


def test_tables_of_other_data(load):
    ids = [f"s{i}" for i in range(1, 45)]
    with pytest.raises(ValueError, match="40 of 44 profiles have no row in siginfo"):
        load(ids=ids)
    with pytest.warns(DataWarning, match="36 of 40 profiles have no row"):
        load(ids=ids[:40])


@pytest.mark.parametrize(
    "spelling", ["brd-k10000002", "BRD-K10000002-001-01-1", "BRD-k10000002-003-12-7"]
)
@pytest.mark.parametrize("where", ["siginfo", "pertinfo"])
def test_compounds_in_another_spelling(load, spelling, where):
    change = {"BRD-K10000002": spelling}
    tables = [SIGNATURES, COMPOUNDS]
    tables[where == "pertinfo"] = tables[where == "pertinfo"].replace(change)
    with pytest.warns(DataWarning, match=r"1 of 3 pert_ids are .* another spelling"):
        assert_as_it_should_be(load(*tables))


def test_batches_of_different_structures_are_not_taken(load):
    batches = ["BRD-K10000002-001-01-1", "BRD-K10000002-002-01-1"]
    compounds = pd.DataFrame(
        {
            "pert_id": ["BRD-K10000001", *batches],
            "canonical_smiles": ["CCO", "CCN", "CCCl"],
        }
    )
    with (
        pytest.warns(DataWarning, match="1 pert_ids .* different structures, of which"),
        pytest.warns(UserWarning, match="want of a readable SMILES: 1 profiles"),
    ):
        study = load(compounds=compounds)
    assert study.smiles.tolist() == ["CCO", "CCO"]


def test_one_pert_id_with_two_structures(load):
    more = pd.DataFrame(
        {
            "pert_id": ["BRD-K10000001", "BRD-K10000002"],
            "canonical_smiles": ["CCCCl", "NCC"],  # the second is the same molecule
        }
    )
    with pytest.warns(
        DataWarning,
        match=r"1 pert_ids have several structures .* BRD-K10000001: CCO, CCCCl\.",
    ):
        study = load(compounds=pd.concat([COMPOUNDS, more]))
    assert_as_it_should_be(study)


def test_names_that_are_not_one_to_one_are_in_the_account(load):
    smiles = ["CCO", "CCN"]
    study = load(compounds=COMPOUNDS.assign(pert_iname="same"))
    first, second = drug_ids(smiles)
    told = f"1 names of several molecules: same ({first}, {second})"
    assert told in study.dropped["detail"][0]
    study = load(compounds=COMPOUNDS.assign(canonical_smiles="CCO"))
    told = f"1 molecules of several names: one = two ({first})"
    assert told in study.dropped["detail"][0]


def test_cell_lines_that_differ_by_case(load):
    table = SIGNATURES.assign(cell_id=["A375", "a375", "A375", "A375"])
    with pytest.warns(DataWarning, match="'a375' is read as 'A375'"):
        study = load(table)
    assert study.groups[:, 1].tolist() == ["A375"] * 3


# ------------------------------------------------------------------ genes and values


def test_landmark_that_no_matrix_has(load):
    genes = pd.concat(
        [GENE_INFO, pd.DataFrame([[780, "DDR1", 1], [999, "CDH1", 0]],
                                 columns=GENE_INFO.columns)]
    )  # fmt: skip
    with pytest.warns(
        DataWarning, match=r"1 of 4 landmark genes are in no matrix: 780 \(DDR1\)\."
    ):
        load(genes=genes)


def test_gene_that_no_table_knows(load):
    with pytest.warns(DataWarning, match=r"1 genes of .* no table of genes.*: 25\."):
        study = load(genes=GENE_INFO[:2])
    assert study.genes["gene_id"].tolist() == [16, 23]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -666])
def test_values_that_are_none(load, value):
    matrix = np.arange(12.0).reshape(4, 3) - 6
    matrix[1, 2] = value
    infinite = np.isinf(value)
    message = (
        rf"level5.gctx: of 9 values {int(not infinite)} are missing and "
        rf"{int(infinite)} infinite, in 1 of 3 samples \('s2'\) and 1 of 3 genes "
        r"\('25'\)"
    )
    with pytest.raises(ValueError, match=message):
        load(matrix=matrix)
    if infinite:
        with pytest.raises(ValueError, match=message):
            load(matrix=matrix, missing="nan")
        return
    study = load(matrix=matrix, missing="nan")
    assert np.isnan(study.ge).tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert (
        "treated: 1 of 9 values are NaN, in 1 profiles and 1 genes"
        in (study.dropped["detail"][0])
    )


@pytest.mark.parametrize(
    ("level", "values", "told"),
    [
        (5, lambda r, n: r.normal(size=n), None),
        (3, lambda r, n: r.uniform(4, 15, n), None),
        (5, lambda r, n: r.uniform(4, 15, n), "level 5 holds z-scores, which are neg"),
        (5, lambda r, n: r.poisson(100, n), "level 5 holds z-scores"),
        (5, lambda r, n: np.abs(r.normal(size=n)), "level 5 holds z-scores"),
        (3, lambda r, n: r.normal(size=n), "level 3 holds log2 intensities, which are"),
        (3, lambda r, n: r.poisson(1000, n), "level 3 holds log2 intensities"),
    ],
)
def test_values_of_another_level(level, values, told):
    anndata = pytest.importorskip("anndata")
    X = values(np.random.default_rng(0), (20, 40)).astype(np.float32)
    obs = pd.DataFrame({"smiles": ["CCO"] * 20, "cell_line": "A375"})
    var = pd.DataFrame(index=[f"G{i}" for i in range(40)])
    adata = anndata.AnnData(X, obs.set_index(obs.index.astype(str)), var)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Study.from_anndata(adata, level=level)
    assert [told in str(w.message) for w in caught] == ([] if told is None else [True])
