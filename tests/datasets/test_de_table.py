"""Tables of differential expression, in the exact form that each tool writes."""

import bz2
import gzip
import os
import zipfile

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import load_lincs, make_perturbation_study, read_de_table
from sklearn_molge.exceptions import CorruptFileError, DataWarning, GeneNamesWarning
from sklearn_molge.expression import profile_from_genes
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.molecules import MorganFingerprinter

# Symbol, Entrez id, Ensembl id: real, since names are read by the human genome's table.
HUMAN = [
    ("TP53", 7157, "ENSG00000141510"),
    ("MYC", 4609, "ENSG00000136997"),
    ("EGFR", 1956, "ENSG00000146648"),
    ("CDKN1A", 1026, "ENSG00000124762"),
    ("HSPA8", 3312, "ENSG00000109971"),
    ("CCNB1", 891, "ENSG00000134057"),
    ("AARS1", 16, "ENSG00000090861"),
    ("GAPDH", 2597, "ENSG00000111640"),
]
SYMBOLS = [symbol for symbol, _, _ in HUMAN]
# The model knows AARS1 by its older name, and lacks GAPDH.
GENES = pd.DataFrame(
    {
        "gene_id": [i for _, i, _ in HUMAN[:-1]][::-1],
        "symbol": ["AARS", *SYMBOLS[:-2][::-1]],
    }
)
LFC = np.array([1.5, -2.0, 0.25, 3.0, -0.5, -1.0, 0.75, 9.0])
STAT = np.array([3.0, -4.0, 0.5, 6.0, -1.0, -2.0, 1.5, 9.5])
P = np.array([1e-3, 1e-4, 0.5, 0.0, 0.3, 0.05, 0.1, 1e-9])
PADJ = np.minimum(P * 2, 1)
FEW = {"genes": GENES, "min_genes": 3}


def deseq2(**changes):
    return pd.DataFrame(
        {
            "baseMean": 100.0,
            "log2FoldChange": LFC,
            "lfcSE": 0.5,
            "stat": STAT,
            "pvalue": P,
            "padj": PADJ,
        },
        index=SYMBOLS,
    ).assign(**changes)


def limma():
    table = deseq2()
    return pd.DataFrame(
        {
            "logFC": LFC,
            "AveExpr": 7.5,
            "t": STAT,
            "P.Value": P,
            "adj.P.Val": PADJ,
            "B": -4.5,
        },
        index=table.index,
    )


def edger(statistic="F"):
    return pd.DataFrame(
        {"logFC": LFC, "logCPM": 5.0, statistic: STAT**2, "PValue": P, "FDR": PADJ},
        index=SYMBOLS,
    )


def seurat(change="avg_log2FC"):
    return pd.DataFrame(
        {"p_val": P, change: LFC, "pct.1": 0.9, "pct.2": 0.1, "p_val_adj": PADJ},
        index=SYMBOLS,
    )


def scanpy():
    return pd.DataFrame(
        {
            "names": SYMBOLS,
            "scores": STAT,
            "logfoldchanges": LFC,
            "pvals": P,
            "pvals_adj": PADJ,
        }
    )


def write_csv(table, path):  # R: write.csv
    text = table.to_csv(index=True, quoting=2, na_rep="NA")
    path.write_text(text.replace('"NA"', "NA"))
    return path


def write_table(table, path, sep="\t", quote=True):  # R: write.table
    mark = '"' if quote else ""
    lines = [sep.join(f"{mark}{name}{mark}" for name in table)]
    for label, *row in table.itertuples():
        values = ("NA" if pd.isna(v) else f"{v!r}".strip("'") for v in row)
        lines.append(sep.join([f"{mark}{label}{mark}", *map(str, values)]))
    path.write_text("\n".join(lines) + "\n")
    return path


def expected(values):
    """The values in the model's order: GAPDH is none of its genes."""
    by_symbol = dict(zip(SYMBOLS, values, strict=True))
    return [by_symbol.get(s, by_symbol["AARS1"]) for s in GENES["symbol"]]


SIGNED_P = np.sign(LFC) * -np.log10(np.maximum(P, 1e-9))
TOOLS = {
    "DESeq2": (deseq2(), "DESeq2", STAT, "stat, a signed statistic"),
    "DESeq2 shrunken": (
        *(deseq2().drop(columns="stat"), "DESeq2", SIGNED_P),
        "sign(log2FoldChange) * -log10(pvalue)",
    ),
    "DESeq2 by likelihood ratio": (
        *(deseq2(stat=STAT**2), "DESeq2", SIGNED_P),
        "sign(log2FoldChange) * -log10(pvalue)",
    ),
    "limma": (limma(), "limma", STAT, "t, a signed statistic"),
    "edgeR": (edger(), "edgeR", SIGNED_P, "sign(logFC) * -log10(PValue)"),
    "edgeR by LR": (edger("LR"), "edgeR", SIGNED_P, "sign(logFC) * -log10(PValue)"),
    "Seurat": (seurat(), "Seurat", SIGNED_P, "sign(avg_log2FC) * -log10(p_val)"),
    "Seurat 3": (
        *(seurat("avg_logFC"), "Seurat", SIGNED_P),
        "sign(avg_logFC) * -log10(p_val)",
    ),
    "scanpy": (scanpy(), "scanpy", STAT, "scores, a signed statistic"),
    "another's": (
        *(limma()[["logFC"]].assign(FDR=PADJ), "statistics"),
        np.sign(LFC) * -np.log10(np.maximum(PADJ, 2e-9)),
        "sign(logFC) * -log10(FDR)",
    ),
    "fold changes": (limma()[["logFC"]], "statistics", LFC, "logFC"),
    "plain": (
        *(limma()[["logFC"]].set_axis(["x1"], axis=1), "plain", LFC),
        "x1, the only column of numbers",
    ),
}


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("form", ["csv", "tabs", "blanks", "bare"])
def test_tools(tmp_path, tool, form):
    table, kind, values, rule = TOOLS[tool]
    path = tmp_path / "de.txt"
    if form == "csv":
        write_csv(table, path)
    else:
        sep = " " if form == "blanks" else "\t"
        write_table(table, path, sep, quote=form != "bare")
    query = read_de_table(path, **FEW)
    assert (query.kind, query.rule.split(", of which 1 are 0")[0]) == (kind, rule)
    np.testing.assert_allclose(query.profile.to_numpy(), [expected(values)], rtol=1e-6)
    assert query.profile.columns.tolist() == GENES["gene_id"].astype(str).tolist()
    assert query.profile.dtypes.unique().tolist() == [np.float32]
    assert query.genes["status"].tolist() == [
        *["used"] * 6,
        "alias",
        "not in the model",
    ]
    assert query.columns["gene"] == ("names" if tool == "scanpy" else "row names")
    assert query.n_missing == 0
    assert f"{kind} table, 7 of 8 rows used" in repr(query)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_names_of_every_kind(tmp_path, at):
    names = [entry[at] for entry in HUMAN]
    if at == 2:
        names = [f"{name}.{i}" for i, name in enumerate(names)]
    path = write_csv(deseq2().set_axis(names), tmp_path / "de.csv")
    np.testing.assert_allclose(read_de_table(path, **FEW).profile, [expected(STAT)])


PLAIN = "TP53\t1.5\nMYC\t-2\nEGFR\t0.25\n"


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        "gene\tvalue\n" + PLAIN,
        PLAIN.replace("\t", ","),
        PLAIN.replace("\t", ";").replace(".", ","),
        "Gene;log2FC\n" + PLAIN.replace("\t", ";").replace(".", ","),
        PLAIN.replace("\t", " "),
        "\ufeffsep=;\n\ngene;x\n" + PLAIN.replace("\t", ";"),
        PLAIN.replace("\n", "\r\n").encode("utf-16"),
        gzip.compress(PLAIN.encode(), mtime=0),
        bz2.compress(PLAIN.encode()),
        PLAIN.replace("\n", "\t\t\n") + "\t\t\t\n",
        "\tgene\tx\n1\tTP53\t1.5\n3\tMYC\t-2\n2\tEGFR\t0.25\n",
        "x1\nTP53,1.5\nMYC,-2\nEGFR,0.25\n",
        "symbol,entrez,x\nTP53,7157,1.5\nMYC,4609,-2\nEGFR,1956,0.25\n",
    ],
)
def test_plain_tables(tmp_path, text):
    path = tmp_path / "de.rnk"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    query = read_de_table(path, genes=["EGFR", "TP53", "MYC"], min_genes=3)
    np.testing.assert_allclose(query.profile, [[0.25, 1.5, -2]])
    assert query.profile.index.tolist() == ["de"]


def test_workbooks(tmp_path):
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "de.xlsx"
    book = openpyxl.Workbook()
    book.active.append(["gene", "log2FoldChange", "stat", "padj"])
    for symbol, change, stat, padj in zip(SYMBOLS, LFC, STAT, PADJ, strict=True):
        book.active.append([symbol, change, stat, padj])
    book.active.append([pd.Timestamp("2024-09-02").to_pydatetime(), 1.0, 2.5, 0.1])
    book.active.append(["MYC", "#DIV/0!", "#DIV/0!", None])
    book.create_sheet("empty")
    book.save(path)
    genes = pd.concat([GENES, pd.DataFrame({"gene_id": [4735], "symbol": ["SEPTIN2"]})])
    with pytest.warns(GeneNamesWarning, match="dates are read as genes: .*SEPTIN2"):
        query = read_de_table(path, genes=genes, min_genes=3)
    np.testing.assert_allclose(query.profile, [[*expected(STAT), 2.5]])
    assert query.genes["status"].tolist()[-2:] == ["alias", "no value"]
    book.create_sheet("more").append(["gene", "x"])
    book.save(path)
    with pytest.raises(ValueError, match="2 sheets with rows: name one by sheet, of"):
        read_de_table(path, **FEW)
    with pytest.raises(ValueError, match=r"sheet must be one of .*'more'\. Got 'x'"):
        read_de_table(path, sheet="x", **FEW)
    with pytest.warns(GeneNamesWarning):
        again = read_de_table(path, genes=genes, min_genes=3, sheet="Sheet")
    pd.testing.assert_frame_equal(again.profile, query.profile)


def test_what_has_no_value(tmp_path):
    stat, padj = STAT.copy(), PADJ.copy()
    stat[0], stat[1], padj[3] = np.nan, np.inf, np.nan
    path = write_csv(deseq2(stat=stat, padj=padj), tmp_path / "de.csv")
    with pytest.warns(GeneNamesWarning, match="2 of the 7 genes have no value") as w:
        query = read_de_table(path, **FEW)
    assert w[0].filename == __file__
    assert query.genes["status"].tolist()[:2] == ["no value", "no value"]
    np.testing.assert_allclose(query.profile, [expected([0, 0, *STAT[2:]])])
    assert query.n_missing == 2
    # What DESeq2 filtered is below any cut-off.
    with pytest.warns(GeneNamesWarning):
        query = read_de_table(path, genes=GENES, min_genes=1, alpha=0.2)
    assert query.genes["status"].tolist() == [
        *("no value", "no value", "below the cut-off", "below the cut-off"),
        *("below the cut-off", "used", "below the cut-off", "not in the model"),
    ]
    np.testing.assert_allclose(query.profile, [expected([0, 0, 0, 0, 0, -2, 0, 9.5])])


def test_cut_offs(tmp_path):
    path = write_csv(deseq2(), tmp_path / "de.csv")

    def used(**options):
        query = read_de_table(path, genes=GENES, min_genes=1, **options)
        account = query.genes[query.genes["status"].isin(["used", "alias"])]
        assert np.count_nonzero(query.profile) == len(account)
        return account["gene"].tolist(), query.rule

    start = "stat, a signed statistic; "
    assert used(alpha=0.01) == (["TP53", "MYC", "CDKN1A"], start + "padj < 0.01")
    assert used(min_abs_log2fc=1.5) == (
        ["TP53", "MYC", "CDKN1A"],
        start + "|log2FoldChange| >= 1.5",
    )
    assert used(n_top=2)[0] == ["MYC", "CDKN1A"]
    assert used(alpha=0.5, min_abs_log2fc=2, n_top=5)[0] == ["MYC", "CDKN1A"]
    # avg_logFC is of base e: 0.5 there is 0.72 in log2.
    path = write_csv(seurat("avg_logFC"), tmp_path / "de.csv")
    assert used(min_abs_log2fc=0.7)[0] == [
        *("TP53", "MYC", "CDKN1A", "HSPA8", "CCNB1", "AARS1")
    ]


def test_of_one_gene_the_value_furthest_from_0_counts(tmp_path):
    rows = "gene,t\nTP53,1\ntp53,-3\nAARS,2\nAARS1,-1.5\n7157,2.5\nMYC,1\nMYC,NA\n"
    path = tmp_path / "de.csv"
    path.write_text(rows)
    genes = ["TP53", "AARS1", "MYC"]
    with pytest.warns(DataWarning, match="2 genes have several rows"):
        query = read_de_table(path, genes=genes, min_genes=3)
    assert query.profile.to_numpy().tolist() == [[-3, 2, 1]]
    assert query.genes["status"].tolist() == [
        *("duplicate dropped", "used", "alias", "duplicate dropped"),
        *("duplicate dropped", "used", "no value"),
    ]
    # The order of the rows does not matter.
    lines = rows.splitlines()
    path.write_text("\n".join([lines[0], *lines[:0:-1]]))
    with pytest.warns(DataWarning, match="2 genes have several rows"):
        again = read_de_table(path, genes=genes, min_genes=3)
    pd.testing.assert_frame_equal(again.profile, query.profile)


def test_genes_of_the_table_itself(tmp_path):
    path = tmp_path / "de.csv"
    path.write_text("gene,t\nTP53,1\nAARS,2\nAARS1,-1.5\nnovel1,4\n1-Mar,5\nMYC,-1\n")
    query = read_de_table(path, min_genes=3)
    assert query.profile.columns.tolist() == ["TP53", "AARS", "novel1", "MYC"]
    assert query.profile.to_numpy().tolist() == [[1, 2, 4, -1]]
    assert query.genes["status"].tolist() == [
        *("used", "used", "duplicate dropped", "used", "unknown", "used")
    ]


def test_groups(tmp_path):
    parts = [scanpy().assign(group=g, scores=STAT * k) for g, k in [("0", 1), ("T", 2)]]
    table = pd.concat(parts)[["group", *scanpy()]]
    path = tmp_path / "markers.csv"
    table.to_csv(path, index=False)
    with pytest.raises(ValueError, match=r"group must be one of the 2 .*'0', 'T'\."):
        read_de_table(path, **FEW)
    with pytest.raises(ValueError, match=r"which has '0', 'T'\. Got 'B'"):
        read_de_table(path, group="B", **FEW)
    query = read_de_table(path, group="T", **FEW)
    np.testing.assert_allclose(query.profile, [expected(STAT * 2)])
    assert query.profile.index.tolist() == ["markers T"]
    assert query.columns["group"] == "group"
    np.testing.assert_allclose(
        read_de_table(path, group=0, **FEW).profile, [expected(STAT)]
    )
    # Of one group there is nothing to choose; without groups it is a mistake.
    parts[0].to_csv(path)
    assert len(read_de_table(path, **FEW).genes) == 8
    with pytest.raises(ValueError, match="group must be None"):
        read_de_table(write_csv(deseq2(), path), group="T", **FEW)


def test_columns_that_are_asked_for(tmp_path):
    table = deseq2(symbol=SYMBOLS).set_axis([e for _, _, e in HUMAN])
    path = write_csv(table, tmp_path / "de.csv")
    query = read_de_table(path, gene="symbol", value="log2FoldChange", **FEW)
    assert query.columns == {"gene": "symbol", "value": "log2FoldChange"}
    assert query.rule == "log2FoldChange, as asked"
    np.testing.assert_allclose(query.profile, [expected(LFC)])
    # Probe sets in the first column, row numbers in another: names decide.
    table.insert(0, "probe", [f"{i}_s_at" for i in range(8)])
    table.to_csv(path, index=False)
    assert read_de_table(path, **FEW).columns["gene"] == "symbol"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("gene,a,b\nTP53,1,2\n", {}, r"name one by value\. It has 'gene', 'a', 'b'"),
        ("gene,t,z\nTP53,1,2\n", {}, "several columns of one kind, 't', 'z'"),
        ("gene,t\nTP53,1\n", {"value": "x"}, r"value must be a column.*Got 'x'"),
        ("gene,t\nTP53,1\n", {"gene": "x"}, r"gene must be a column.*Got 'x'"),
        (
            "gene,t,p\nTP53,1,1\n",
            {"value": "p"},
            "is a p-value, which has no direction",
        ),
        ("gene,t\nTP53,1\n", {"alpha": 0.05}, "alpha must be None: .*'padj'"),
        ("gene,t\nTP53,1\n", {"min_abs_log2fc": 1}, "min_abs_log2fc must be None"),
        ("gene,t\nTP53,1\n", {}, "1 gene of column 'gene' can be used, fewer than"),
        ("gene,t\nxx,1\nyy,2\n", {}, r"0 genes.*unknown 2\. The column has 'xx', 'yy'"),
        ("gene,t\nGAPDH,1\n", {}, "not in the model 1"),
        ("gene,t\nTP53,x\n", {}, "line 2, column 't': 'x' is not a number"),
        ("gene,t\nTP53,-1\nMYC,1e39\n", {}, "line 3: 1e\\+39 is too large for single"),
        ("gene,logFC,P.Value\nTP53,1,1.5\n", {}, "line 2, column 'P.Value': 1.5 is no"),
        ("gene,t\nTP53,1,2\n", {"gene": "gene"}, None),
        ("gene,t,t\nTP53,1,2\n", {}, "the column 't' more than once"),
        ("gene,t\nTP53\n", {}, "line 2: 1 cells, where the header has 2"),
        ('gene,t\n"TP53,1\nMYC,2\n', {}, "a quotation mark left open"),
        ("gene\nTP53\n", {}, "is no table of genes and numbers"),
        ("", {}, "is no table of genes and numbers"),
        ("gene,t\n", {}, "is no table of genes and numbers"),
        ("gene,t\nTP53,1\n", {"sheet": "x"}, "sheet must be None for text"),
        (
            "gene,logFC,stat\nTP53,1,-2\nMYC,-1,3\nEGFR,1,-1\n",
            *({}, "'stat' and 'logFC' have opposite signs in most rows"),
        ),
        (b"PK\x03\x04", {}, "cannot be read"),
        (b"\x00" * 50, {}, "zero bytes"),
    ],
)
def test_bad_tables(tmp_path, text, options, message):
    path = tmp_path / "de.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = message or "gene must be a column|1 cells|3 cells|fewer than min_genes"
    with pytest.raises(ValueError, match=message):
        read_de_table(path, **FEW, **options)


def test_errors_of_a_file_name_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="There is no file"):
        read_de_table(tmp_path / "none.csv")
    path = tmp_path / "de.csv"
    path.write_bytes(gzip.compress(b"gene,t\n" + b"TP53,1\n" * 100)[:-20])
    with pytest.raises(CorruptFileError, match=r"de\.csv cannot be read"):
        read_de_table(path)


def test_bomb_of_a_workbook(tmp_path, monkeypatch):
    openpyxl = pytest.importorskip("openpyxl")
    path = tmp_path / "de.xlsx"
    openpyxl.Workbook().save(path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("xl/big.xml", "w") as file:
            for _ in range(2**10):
                file.write(bytes(2**19 + 1))
    assert os.path.getsize(path) < 2**20
    with pytest.raises(CorruptFileError, match="unpacks to more than 536,870,912"):
        read_de_table(path)


def test_values_of_one_sign_are_told(tmp_path):
    table = pd.DataFrame({"logFC": np.abs(LFC)}, index=SYMBOLS)
    path = write_csv(table, tmp_path / "up.csv")
    with pytest.warns(DataWarning, match=r"all 8 values are of one sign\. Is a") as w:
        read_de_table(path, **FEW)
    assert w[0].filename == __file__
    path = write_csv(pd.DataFrame({"x1": P}, index=SYMBOLS), tmp_path / "p.csv")
    with pytest.warns(DataWarning, match="within .0, 1.: p-values have no direction"):
        read_de_table(path, value="x1", **FEW)


# Halved, doubled, a quarter, four times, unchanged, an eighth, eight times, twice.
IN_LOG2 = np.array([-1, 1, -2, 2, 0, -3, 3, 1.0])
RATIO = np.array([0.5, 2, 0.25, 4, 1, 0.125, 8, 2])
SIGNED = np.array([-2, 2, -4, 4, 1, -8, 8, 2.0])
P_OF_2 = np.full(8, 0.01)  # -log10: 2
CHANGES = {
    "ratios": ({"FC": RATIO}, IN_LOG2, "log2(FC), of ratios"),
    "ratios named fold_change": (
        *({"fold_change": RATIO}, IN_LOG2),
        "log2(fold_change), of ratios",
    ),
    "ratios and p": (
        *({"FC": RATIO, "pvalue": P_OF_2}, 2 * np.sign(IN_LOG2)),
        "sign(log2(FC)) * -log10(pvalue)",
    ),
    "ratios and a likelihood ratio": (
        *({"FC": RATIO, "stat": 10 + RATIO}, IN_LOG2),
        "log2(FC), of ratios",
    ),
    "ratios and t": (
        *({"FC": RATIO, "t": 3 * IN_LOG2}, 3 * IN_LOG2),
        "t, a signed statistic",
    ),
    "sizes and t": (
        *({"FC": np.abs(SIGNED), "t": 3 * IN_LOG2}, 3 * IN_LOG2),
        "t, a statistic",
    ),
    "ratios and their logarithms": (
        *({"FC": RATIO, "log2FC": IN_LOG2}, IN_LOG2),
        "log2FC",
    ),
    "signed fold changes": ({"FC": SIGNED}, IN_LOG2, "sign(FC) * log2|FC|"),
    "log fold changes by another name": (
        *({"FC": IN_LOG2 / 4}, IN_LOG2 / 4),
        "FC, log fold changes: some are between -1 and 1",
    ),
    "log10": ({"log10FC": IN_LOG2 * np.log10(2)}, IN_LOG2, "log10FC / log10(2)"),
    "natural": ({"lnFC": IN_LOG2 * np.log(2)}, IN_LOG2, "lnFC / ln(2)"),
    "natural of Seurat": (
        {"avg_logFC": IN_LOG2 * np.log(2), "p_val_adj": "", "p_val": ""},
        *(2 * np.sign(IN_LOG2), "sign(avg_logFC) * -log10(p_val)"),
    ),
    "sizes beside signs": (
        {"|logFC|": abs(IN_LOG2), "logFC": IN_LOG2},
        *(IN_LOG2, "logFC"),
    ),
    "F beside signs": (
        {"F": RATIO, "x": IN_LOG2},
        *(IN_LOG2, "x, the only column of numbers"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANGES)
def test_fold_changes_become_those_of_log2(tmp_path, case):
    columns, values, rule = CHANGES[case]
    columns = {name: P_OF_2 if isinstance(v, str) else v for name, v in columns.items()}
    path = write_csv(pd.DataFrame(columns, index=SYMBOLS), tmp_path / "de.csv")
    query = read_de_table(path, **FEW)
    assert query.rule == rule
    np.testing.assert_allclose(query.profile, [expected(values)], atol=1e-6)


def test_fold_changes_that_are_asked_for(tmp_path):
    columns = {"FC": RATIO, "t": IN_LOG2, "avg_logFC": IN_LOG2, "F": RATIO}
    path = write_csv(pd.DataFrame(columns, index=SYMBOLS), tmp_path / "de.csv")
    query = read_de_table(path, value="FC", min_abs_log2fc=1.5, **FEW)
    assert query.rule == "log2(FC), of ratios, as asked; |avg_logFC| >= 1.5"
    kept = np.where(np.abs(IN_LOG2) >= 1.5, IN_LOG2, 0)
    np.testing.assert_allclose(query.profile, [expected(kept)])
    # A gene that was not there at all has no logarithm.
    columns["FC"] = np.array([0, 2, 0.25, 4, 1, 0.125, 8, 2])
    del columns["avg_logFC"]
    path = write_csv(pd.DataFrame(columns, index=SYMBOLS), path)
    with pytest.warns(GeneNamesWarning, match="1 of the 7 genes have no value"):
        query = read_de_table(path, value="FC", min_abs_log2fc=1.5, **FEW)
    assert query.rule.endswith("; |FC, in log2| >= 1.5")
    assert query.genes["status"][0] == "no value"


NO_DIRECTION = {
    "sizes of fold changes": ({"FC": abs(SIGNED)}, "'FC' has values from 1 to 8, none"),
    "sizes of log fold changes as FC": (
        {"FC": [0.1, 0.2, 0.05, 0.3, 1.5, 2, 0.4, 0.01]},
        "'FC' has values from 0.01 to 2, none below 0",
    ),
    "with p-values": ({"FC": abs(SIGNED), "pvalue": P}, "'FC' has values from 1 to 8"),
    "F with sizes": ({"FC": abs(SIGNED), "stat": RATIO}, "'FC' has values from 1 to 8"),
    "sizes of log fold changes": (
        {"|logFC|": abs(LFC)},
        r"'\|logFC\|' has no direction",
    ),
    "sizes by name": ({"abs_log2FC": abs(LFC)}, "'abs_log2FC' has no direction"),
    "likelihood ratios": ({"stat": STAT**2}, "'stat' is never below 0 in 8 rows"),
    "F": ({"F": STAT**2}, "'F' has no direction"),
    "LR": ({"LR": STAT**2, "logCPM": RATIO}, "'LR' has no direction"),
    "sizes by a word behind": ({"FC (abs)": abs(SIGNED)}, r"'FC \(abs\)' has no"),
    "percentages": ({"% change": 100 * RATIO - 100}, "'% change' is one of perc"),
    "sizes beside words": (
        {"Regulation": np.where(LFC < 0, "down", "up"), "logFC": abs(LFC)},
        "'logFC' has another sign than 'Regulation' says in ",
    ),
    "the other way round": (
        {"Regulation": np.where(LFC < 0, "Down-regulated", "Up"), "logFC": -LFC},
        "'logFC' has another sign than 'Regulation' says in ",
    ),
    "two comparisons": (
        {"logFC": LFC, "p-value (A vs. C)": P, "p-value (B vs. C)": P},
        "several columns of one kind",
    ),
    "anything": ({"x1": RATIO}, r"'x1' is never below 0 .* so by value='x1'\. Name a"),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_DIRECTION)
def test_values_without_a_direction_are_refused(tmp_path, case):
    columns, message = NO_DIRECTION[case]
    path = write_csv(pd.DataFrame(columns, index=SYMBOLS), tmp_path / "de.csv")
    with pytest.raises(ValueError, match=message):
        read_de_table(path, **FEW)


def test_columns_without_a_direction_cannot_be_asked_for(tmp_path):
    columns = {"logFC": LFC, "stat": STAT**2, "F": STAT**2, "FC": abs(SIGNED)}
    path = write_csv(pd.DataFrame(columns, index=SYMBOLS), tmp_path / "de.csv")
    for name, told in {
        "stat": "'stat' is never below 0, but 'logFC' tells of genes that went down",
        "F": "'F' has no direction: no value is below 0",
        "FC": "'FC' has values from 1 to 8, none below 0",
    }.items():
        with pytest.raises(ValueError, match=told):
            read_de_table(path, value=name, **FEW)


@pytest.mark.parametrize(
    "name", ["Fold-Change(T vs. C)", "FC [T/C]", "fold change (drug versus DMSO)"]
)
def test_names_with_what_was_compared(tmp_path, name):
    path = write_csv(pd.DataFrame({name: SIGNED}, index=SYMBOLS), tmp_path / "de.csv")
    query = read_de_table(path, **FEW)
    assert query.rule == f"sign({name}) * log2|{name}|"
    np.testing.assert_allclose(query.profile, [expected(IN_LOG2)])


def test_a_separator_of_thousands_is_no_decimal_comma(tmp_path):
    values = [1500, -2250, 300, 0, 40, -120, 3000, 10]
    table = pd.DataFrame({"score": [f"{v:,}" for v in values]}, index=SYMBOLS)
    path = write_table(table, tmp_path / "de.txt", quote=False)
    with pytest.raises(CorruptFileError, match=r"'1,500' is not .* a decimal comma"):
        read_de_table(path, **FEW)
    query = read_de_table(path, decimal=",", **FEW)
    assert query.profile.to_numpy().max() == 300
    # One with a 0 before the comma, or of another length, is decimal, and so are all.
    for text in ("0,500", "2,25"):
        table.iloc[3] = text
        query = read_de_table(write_table(table, path, quote=False), **FEW)
        assert query.genes["value"][0] == 1.5


@pytest.mark.parametrize("sep", ["\t", ",", ";"])
def test_bars_around_a_name_separate_nothing(tmp_path, sep):
    table = pd.DataFrame({"|logFC|": abs(LFC), "logFC": LFC}, index=SYMBOLS)
    path = write_table(table, tmp_path / "de.txt", sep, quote=False)
    path.write_text(f"gene{sep}" + path.read_text())
    query = read_de_table(path, **FEW)
    assert query.columns["value"] == "logFC"
    np.testing.assert_allclose(query.profile, [expected(LFC)], rtol=1e-6)


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_whole_table_goes_up_and_down(tmp_path, share):
    study = make_perturbation_study(5, n_genes=40, random_state=0)
    names = study.genes["symbol"][: int(40 * share)]
    table = pd.DataFrame({"logFC": np.arange(len(names)) + 0.5}, index=names)
    path = write_csv(table, tmp_path / "de.csv")
    if share == 1:
        with pytest.raises(ValueError, match=r"'logFC' is never below 0 in 40 rows"):
            read_de_table(path, genes=study)
        with pytest.warns(DataWarning, match="of one sign"):
            read_de_table(path, genes=study, value="logFC")
        return
    with pytest.warns(DataWarning, match="of one sign"), pytest.warns(GeneNamesWarning):
        read_de_table(path, genes=study)


def test_genes_of_a_mouse_are_told(tmp_path):
    path = write_csv(
        deseq2().set_axis([symbol.capitalize() for symbol in SYMBOLS]),
        tmp_path / "de.csv",
    )
    with pytest.warns(DataWarning, match="written as those of mouse or rat"):
        read_de_table(path, **FEW)


def test_whatever_has_genes(tmp_path):
    study = make_perturbation_study(12, n_genes=30, level=5, random_state=0)
    model = make_pipeline(MorganFingerprinter(), CCA(n_components=3))
    model.fit(study.smiles, study.profiles())
    index = MoleculeIndex(model, genes=study.genes).fit(study.smiles)
    values = study.ge[0]
    table = pd.DataFrame({"t": values}, index=study.genes["symbol"])
    path = write_csv(table, tmp_path / "de.csv")
    by_table = read_de_table(path, genes=study.genes).profile
    np.testing.assert_array_equal(by_table, study.ge[:1])
    for genes in (study, index):
        other = read_de_table(path, genes=genes).profile
        np.testing.assert_array_equal(other, by_table)
    features = model[:-1].transform(study.smiles[:3])
    assert model[-1].similarity(features, by_table).shape == (1, 3)
    assert len(index.query(by_table, 3)) == 3
    # An index puts the table's own genes in its order.
    own = index.query(read_de_table(path).profile.set_axis([0]), 3)
    told = index.query(by_table.set_axis([0]), 3)
    pd.testing.assert_frame_equal(own, told)


DATA = os.environ.get("SKLEARN_MOLGE_DATA")


@pytest.mark.skipif(DATA is None, reason="SKLEARN_MOLGE_DATA names no folder of data")
def test_real_profile_comes_back(tmp_path):
    study = load_lincs(os.path.join(DATA, "lincs_level5_sample"), level=5)
    row = study.ge[5].astype(float)
    table = pd.DataFrame(
        {"baseMean": 10.0, "log2FoldChange": row / 2, "stat": row, "pvalue": 0.5},
        index=study.genes["symbol"],
    )
    path = write_csv(table.sample(frac=1, random_state=0), tmp_path / "de.csv")
    query = read_de_table(path, genes=study)
    np.testing.assert_allclose(query.profile.to_numpy()[0], study.ge[5], rtol=1e-6)
    same = profile_from_genes(study, values=table["stat"])
    np.testing.assert_allclose(query.profile, same.profile, rtol=1e-6)


@pytest.mark.parametrize("levels", [["T cell", "B cell"], [6, 24]])
@pytest.mark.parametrize("first", [True, False])
def test_groups_of_a_column_of_any_name(tmp_path, levels, first):
    parts = [limma().assign(part=level) for level in levels]
    parts[1] = parts[1].assign(t=-STAT, logFC=-LFC)
    table = pd.concat(parts).rename_axis("gene").reset_index()
    if first:
        table = table[["part", *table.columns.drop("part")]]
    path = tmp_path / "a.csv"
    table.to_csv(path, index=False)
    with pytest.raises(ValueError, match="group must be one of the 2 in column 'part'"):
        read_de_table(path, **FEW)
    own = [read_de_table(path, group=level, **FEW) for level in levels]
    np.testing.assert_array_equal(own[0].profile, -own[1].profile.to_numpy())
    assert own[0].columns["group"] == "part"
    # Probes of a gene are no groups: their names differ in every row.
    table["part"] = range(len(table))
    table.to_csv(path, index=False)
    with pytest.warns(DataWarning, match="7 genes have several rows"):
        read_de_table(path, **FEW)


@pytest.mark.parametrize("name", ["", "X", "Unnamed: 0"])
@pytest.mark.parametrize("of_gene", ["HGNC name", "symbol"])
def test_numbers_of_rows_are_no_genes(tmp_path, name, of_gene):
    # Rows were left out, and the numbers of others are ids of genes of the model.
    table = limma().rename_axis(of_gene).reset_index()
    table.index = [16, 891, 1026, 1956, 3312, 4609, 7157, 9]
    path = tmp_path / "a.csv"
    table.iloc[::-1].to_csv(path, index_label=name)
    query = read_de_table(path, **FEW)
    assert query.columns["gene"] == of_gene
    expected = dict(zip(SYMBOLS, STAT, strict=True))
    assert query.profile["7157"].item() == expected["TP53"]
    # Without other names they are ids.
    table.drop(columns=of_gene).to_csv(path, index_label=name)
    assert read_de_table(path, **FEW).profile["16"].item() == STAT[0]


def test_bars_of_sizes_are_no_separator(tmp_path):
    path = tmp_path / "sizes.tsv"
    path.write_text("gene\t|logFC|\tpvalue\nTP53\t1.5\t0.01\nMYC\t0.5\t0.2\n")
    with pytest.raises(ValueError, match=r"'\|logFC\|' has no direction"):
        read_de_table(path, min_genes=1)


@pytest.mark.parametrize(
    ("changes", "p"),
    [
        ("Fold-Change(drug vs. DMSO)", "p-value(drug vs. DMSO)"),
        ("FC ([drug] Vs [DMSO])", "p ([drug] Vs [DMSO])"),
    ],
)
def test_names_of_columns_may_have_a_contrast(changes, p, tmp_path):
    """Of Partek and GeneSpring, whose fold changes are signed: halved is -2."""
    path = tmp_path / "partek.tsv"
    path.write_text(f"gene\t{p}\t{changes}\nTP53\t0.01\t4\nMYC\t0.001\t-2\n")
    query = read_de_table(path, min_genes=1)
    assert query.profile.loc[:, ["TP53", "MYC"]].to_numpy() == pytest.approx(
        np.array([[2, -3]])
    )
    query = read_de_table(path, min_genes=1, value=changes)
    assert query.profile.loc[:, ["TP53", "MYC"]].to_numpy() == pytest.approx(
        np.array([[2, -1]])
    )


def test_p_values_of_several_contrasts_are_not_chosen_from(tmp_path):
    path = tmp_path / "two.csv"
    path.write_text(
        "gene,logFC(A vs. C),FDR(A vs. C),logFC(B vs. C),FDR(B vs. C)\n"
        "TP53,1,0.01,2,0.2\nMYC,-1,0.01,-2,0.01\n"
    )
    with pytest.raises(ValueError, match="several columns of one kind"):
        read_de_table(path, min_genes=1)
    with pytest.raises(ValueError, match="which of them is meant is not known"):
        read_de_table(path, min_genes=1, value="logFC(B vs. C)", alpha=0.05)
    query = read_de_table(path, min_genes=1, value="logFC(B vs. C)")
    assert query.profile["TP53"].tolist() == [2]


def test_a_p_value_that_was_rounded_to_0_counts_as_the_smallest(tmp_path):
    path = tmp_path / "rounded.csv"
    path.write_text("gene,logFC,pvalue\nTP53,1,0\nMYC,-2,0.001\nJUN,1,0.1\n")
    query = read_de_table(path, min_genes=1)
    values = query.profile.loc[:, ["TP53", "MYC", "JUN"]].to_numpy()
    assert values == pytest.approx(np.array([[3, -3, 1]]))
    assert query.rule.endswith("of which 1 are 0 and count as 0.001")
