"""Profiles without molecules, from files of every kind, with their genes' names."""

import gzip

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import (
    GctData,
    make_perturbation_study,
    read_profiles,
    write_gctx,
)
from sklearn_molge.exceptions import CorruptFileError, DataWarning, GeneNamesWarning

EXPECTED = pd.DataFrame(
    np.array([[1.5, 3], [-2, 4]], dtype=np.float32),
    index=pd.Index(["a", "b"], dtype=object),
    columns=pd.Index(["780", "5720"], dtype=object),
)
BY_SYMBOL = EXPECTED.set_axis(pd.Index(["DDR1", "PSME1"], dtype=object), axis=1)
GENES = pd.DataFrame({"gene_id": [5720, 780, 1], "symbol": ["PSME1", "DDR1", "A1BG"]})


@pytest.fixture
def write(tmp_path):
    def write(text, name="query.txt"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


ROWS = "gene,a,b\n780,1.5,-2\n5720,3,4\n"


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (ROWS, {}),
        (ROWS.replace(",", "\t"), {}),
        (ROWS.replace(",", ";").replace("1.5", "1,5"), {"decimal": ","}),
        ("\ufeff" + ROWS.replace("\n", "\r\n"), {}),
        ("sep=,\n\n" + ROWS, {}),
        (ROWS.encode("utf-16"), {}),
        (gzip.compress(ROWS.encode(), mtime=0), {}),
        (ROWS.replace("\n", ",,\n") + ",,,,\n", {}),
        ('"gene","a","b"\n"780","1.5","-2"\n"5720",3,4\n', {}),
        ('"a"\t"b"\n"780"\t1.5\t-2\n"5720"\t3\t4\n', {"genes_in": "rows"}),
        (ROWS.replace("780", "780.0"), {}),
        ("sample,780,5720\na,1.5,3\nb,-2,4\n", {}),
        ("x,780,5720\na,1.5,3\nb,-2,4\n", {"genes_in": "columns"}),
        ("pr_gene_id,pr_gene_symbol,a,b\n780,DDR1,1.5,-2\n5720,PSME1,3,4\n", {}),
        ("gene,Entrez_ID,a,b\nDDR1,780,1.5,-2\nPSME1,5720,3,4\n", {}),
        ("#1.2\n2\t2\nName\tDescription\ta\tb\n780\tx\t1.5\t-2\n5720\ty\t3\t4\n", {}),
    ],
)
def test_text(write, text, options):
    pd.testing.assert_frame_equal(read_profiles(write(text), **options), EXPECTED)


def test_genes_by_symbol(write):
    path = write("x,a,b\nDDR1,1.5,-2\nPSME1,3,4\n")
    with pytest.raises(ValueError, match=r"set genes_in=.*rows are 'DDR1', 'PSME1', "):
        read_profiles(path)
    pd.testing.assert_frame_equal(read_profiles(path, genes_in="rows"), BY_SYMBOL)
    expected = EXPECTED[["5720", "780"]]
    for text in ("x,a,b\nDDR1,1.5,-2\nPSME1,3,4\n", "x,ddr1,psme1\na,1.5,3\nb,-2,4\n"):
        profiles = read_profiles(write(text), genes=GENES[:2])
        pd.testing.assert_frame_equal(profiles, expected)


def test_what_is_no_value_is_left_out_and_told(write):
    path = write("sig_id,cell_id,note,pert_dose,DDR1,PSME1\n"
                 "a,A375,x,10,1.5,3\nb,PC3,y,5,-2,4\n")  # fmt: skip
    with pytest.warns(DataWarning, match="'note', 'cell_id', 'pert_dose'") as w:
        profiles = read_profiles(path)
    assert w[0].filename == __file__
    pd.testing.assert_frame_equal(profiles, BY_SYMBOL)


def test_matrices(tmp_path):
    anndata = pytest.importorskip("anndata")
    data = GctData(
        EXPECTED.to_numpy(),
        pd.DataFrame(index=["a", "b"]),
        pd.DataFrame({"pr_gene_id": [780, 5720]}, index=["200001_at", "200002_at"]),
    )
    write_gctx(tmp_path / "one.gctx", data)
    pd.testing.assert_frame_equal(read_profiles(tmp_path / "one.gctx"), EXPECTED)
    adata = anndata.AnnData(
        EXPECTED.to_numpy(), data.obs, pd.DataFrame(index=["DDR1", "PSME1"])
    )
    adata.write_h5ad(tmp_path / "one.h5ad")
    pd.testing.assert_frame_equal(read_profiles(tmp_path / "one.h5ad"), BY_SYMBOL)


def test_missing_values(write):
    for mark in ("", "NA", "-666"):
        path = write(ROWS.replace("-2", mark))
        with pytest.raises(ValueError, match=r"of 4 values 1 are missing.*'b'.*'780'"):
            read_profiles(path)
        profiles = read_profiles(path, missing="nan")
        assert profiles.isna().to_numpy().tolist() == [[False, False], [True, False]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no profiles"),
        ("gene,a,b\n", "has no profiles"),
        (ROWS.replace("5720", "780"), "more than once: '780'"),
        (ROWS.replace("5720", ""), "Without a name.*: ''"),
        (ROWS.replace("-2", "x"), "row '780', column 'b': 'x' is not a finite number"),
        (ROWS.replace("-2", "inf"), "'inf' is not a finite number"),
        (ROWS.replace(",-2", ""), "line 2: 2 cells, where the header has 3"),
        (ROWS.replace("-2", "-2,5"), "line 2: 4 cells, where the header has 3"),
        (ROWS.replace("1.5", '"1.5'), "line 2: a cell goes over several lines"),
        ("sample,780\na,x\n", "row 'a', column '780': 'x' is not"),
        (ROWS.removeprefix("gene,a,b\n"), "no header: its first line holds numbers"),
        (ROWS.replace(",b", ","), "1 columns have no name in the first line, 'a'"),
        ("0,1,2\n0,1,2\n1,3,4\n", "does not tell where its genes are"),
        ("x,1,2\n780,1,2\n5720,3,4\n", None),
        ("x,10,20\n780,1,2\n5720,3,4\n", "does not tell where its genes are"),
        (b"PK\x03\x04book", "workbook of a spreadsheet"),
    ],
)
def test_bad_files(write, text, message):
    if message is None:  # columns that only count are no genes
        assert list(read_profiles(write(text))) == ["780", "5720"]
        return
    with pytest.raises(ValueError, match=message):
        read_profiles(write(text))


def test_two_profiles_of_one_id(write):
    with pytest.warns(DataWarning, match="profiles of one id: 'a'"):
        profiles = read_profiles(write(ROWS.replace(",b", ",a")))
    assert profiles.index.tolist() == ["a", "a"]


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"There is no file .*x\.csv"):
        read_profiles(tmp_path / "x.csv")


def test_real_plates(level3_folder):
    pytest.importorskip("anndata")
    profiles = read_profiles(level3_folder / "CPC006_HT115_6H_X1_X2.level3.h5ad")
    assert profiles.shape == (681, 978)
    assert profiles.columns[:3].tolist() == ["DDR1", "PAX8", "RPS5"]
    profiles = read_profiles(level3_folder / "CPC006_A375_6H_X1.level3.gct")
    assert profiles.shape == (371, 978)
    assert profiles.columns[0] == "5720"


def test_genes_by_the_names_of_today_and_among_many_others(write):
    genes = pd.DataFrame({"gene_id": [16], "symbol": ["AARS"]})
    path = write("x,a,b\nAARS1,1.5,-2\nTP53,3,4\nMYC,1,2\nunknown,0,0\n")
    profiles = read_profiles(path, genes=genes)
    assert profiles.to_dict() == {"16": {"a": 1.5, "b": -2}}
    assert profiles.attrs["genes"] == {
        "found": 1, "filled": 0, "left_out": 3, "repeated": 0
    }  # fmt: skip
    path = write("x,a\nENSG00000090861.16,1.5\nENSG00000141510,3\n")
    assert read_profiles(path, genes=["TP53", "AARS1"]).to_numpy().tolist() == [
        [3, 1.5]
    ]


def test_genes_of_a_model_that_the_file_lacks(write):
    path = write("gene,a\nAARS,1\nAARS1,2\nTP53,3\n2-Sep,4\n")
    genes = ["TP53", "MYC", "AARS1", "SEPTIN2"]
    with pytest.warns(GeneNamesWarning) as told:
        profiles = read_profiles(path, genes=genes)
    assert [str(w.message).split(": ", 1)[1] for w in told] == [
        "1 of the 4 genes are missing, and 0 now: MYC.",
        "1 genes come more than once, and the mean is taken: AARS1.",
        "1 genes were dates: 2-Sep.",
    ]
    assert {w.filename for w in told} == {__file__}
    assert profiles.to_dict("list") == {
        "TP53": [3], "MYC": [0], "AARS1": [1.5], "SEPTIN2": [4]
    }  # fmt: skip
    assert profiles.dtypes.unique().tolist() == [np.float32]
    with pytest.raises(
        ValueError, match=r"has 3 of the 4 genes, less than min_share=0\.9"
    ):
        read_profiles(path, genes=genes, min_share=0.9)
    with pytest.raises(ValueError, match="has 0 of the 1 genes"):
        read_profiles(path, genes=["EGFR"], min_share=0)


@pytest.mark.parametrize("kind", ["gct", "gctx", "h5ad", "csv"])
def test_files_of_every_kind_in_the_order_of_a_study(tmp_path, kind):
    study = make_perturbation_study(6, n_genes=20, level=5, random_state=0)
    study.genes = pd.DataFrame({"gene_id": np.arange(100, 120)})
    profiles = study.profiles().iloc[:3, ::-1]
    path = tmp_path / f"q.{kind}"
    if kind == "gctx":
        write_gctx(path, profiles.to_numpy(), profiles[[]], profiles.T[[]])
    elif kind == "h5ad":
        pytest.importorskip("anndata").AnnData(profiles).write_h5ad(path)
    elif kind == "csv":
        profiles.T.rename_axis("gene").to_csv(path)
    else:
        body = profiles.T.assign(Description="x")
        body = body[["Description", *profiles.index]].rename_axis("NAME")
        path.write_text(f"#1.2\n20\t3\n{body.to_csv(sep=chr(9))}")
    read = read_profiles(path, genes=study)
    np.testing.assert_allclose(read, study.ge[:3], rtol=1e-6)
    assert read.columns.tolist() == study.genes["gene_id"].astype(str).tolist()
    assert read.index.tolist() == profiles.index.astype(str).tolist()


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        (",baseMean,log2FoldChange,lfcSE,stat,pvalue,padj", "'baseMean', 'lfcSE'"),
        ("gene,logFC,AveExpr,t,P.Value,adj.P.Val,B", "'AveExpr', 'P.Value'"),
        ("gene,logFC,logCPM,F,PValue,FDR", "'logCPM', 'PValue', 'FDR'"),
        ("gene,FC", "'FC'"),
        ("gene,Fold Change", "'Fold Change'"),
        ("gene,p_val,avg_log2FC,pct.1,pct.2,p_val_adj", "'p_val', 'p_val_adj'"),
    ],
)
def test_statistics_are_no_profiles(write, header, shown):
    path = write("\n".join([header, "780" + ",1" * header.count(",")]) + "\n")
    with pytest.raises(ValueError, match=f"{shown}.*read_de_table"):
        read_profiles(path)


@pytest.mark.parametrize("cell", ["1_000", "\uff11\uff12", "infinity", "1e39", "0x10"])
def test_a_number_is_what_all_take_for_one(write, cell):
    with pytest.raises(CorruptFileError, match="row '780', column 'b'"):
        read_profiles(write(ROWS.replace("-2", cell)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ROWS + "\x00", "line 4: it holds zero bytes"),
        (ROWS.replace("1.5", '"1.5\n9"'), "line 2: a cell goes over several lines"),
        (ROWS + '1,2,"3', "line 4: a cell goes over several lines"),
        ("\n" * 1500 + ROWS, "its first 1,000 lines are empty"),
        (ROWS.replace("1.5", "1" * 140_000), "line 2: field larger than"),
        ("gene,Symbol,symbol,a\n780,x,y,1\n", "'symbol' more than once"),
    ],
)
def test_rows_that_would_be_lost_or_never_end(write, text, message):
    with pytest.raises(CorruptFileError, match=rf"query\.txt cannot .*{message}"):
        read_profiles(write(text), genes_in="rows")


def test_a_packed_line_without_an_end(write):
    bomb = gzip.compress(b"gene,a\n780," + b"1" * (65 * 2**20), 1)
    with pytest.raises(CorruptFileError, match=r"line 2: .*longer than 67,108,864"):
        read_profiles(write(bomb))


def test_a_wide_table_between_tabs(write):
    names = [f"sample {i:010}" for i in range(9000)]  # 153 kB without a comma
    cells = "\t".join(["780", *map(str, range(9000))])
    found = read_profiles(write("\t".join(["gene", *names]) + f"\n{cells}\n"))
    np.testing.assert_array_equal(found.to_numpy().ravel(), np.arange(9000))


def test_rows_that_a_spreadsheet_pads_have_no_further_name(write):
    path = write(ROWS.replace("\n5720,3,4\n", ",\n5720,3,4,\n"))
    pd.testing.assert_frame_equal(read_profiles(path), EXPECTED)


@pytest.mark.parametrize("other", ["SE", "p_adj.loc", "padjust"])
def test_fold_changes_beside_other_statistics_are_no_profiles(tmp_path, other):
    path = tmp_path / "a.csv"
    path.write_text(f"gene,log2FC,{other}\nTP53,1,2\nMYC,-1,2\nEGFR,0,1\n")
    with pytest.raises(ValueError, match="is a table of statistics"):
        read_profiles(path)
    path.write_text("gene,log2FC\nTP53,1\nMYC,-1\nEGFR,0\n")
    assert read_profiles(path, genes_in="rows").shape == (1, 3)
