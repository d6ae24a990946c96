"""Numbers of rows are no genes, though some are ids of Entrez by chance."""

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import (
    Study,
    load_lincs,
    load_signatures,
    read_de_table,
    read_profiles,
    write_gctx,
)
from sklearn_molge.expression import align_profiles

anndata = pytest.importorskip("anndata")

# All of them are ids of human genes below 20.
GENES = pd.DataFrame(
    {
        "gene_id": [1, 2, 9, 10, 12, 13, 14, 15, 16, 18],
        "symbol": [
            *("A1BG", "A2M", "NAT1", "NAT2", "SERPINA3", "AADAC", "AAMP", "AANAT"),
            *("AARS1", "ABAT"),
        ],
    }
)
FROM_0, FROM_1 = [*map(str, range(20))], [*map(str, range(1, 21))]
COUNTS = {
    "from 0": FROM_0,
    "from 1": FROM_1,
    "backwards": FROM_1[::-1],
    "as floats": [f"{i}.0" for i in range(20)],
    "filtered": [str(i) for i in range(100) if i % 5 < 3],
}


def obs_of(n):
    return pd.DataFrame(
        {"pert_type": "trt_cp", "cell_id": "A375", "smiles": ["CCO", "CCN", "C"][:n]},
        index=["a", "b", "c"][:n],
    )


def values_of(n, names):
    return np.random.default_rng(0).normal(size=(n, len(names))).astype(np.float32)


@pytest.fixture(params=COUNTS)
def names(request):
    return COUNTS[request.param]


def test_tables_of_differential_expression(tmp_path, names):
    path = tmp_path / "de.csv"
    table = pd.DataFrame({"logFC": values_of(1, names)[0]}, index=names)
    for label, told in {"": "'row names' only counts", "gene": "'gene' only"}.items():
        table.to_csv(path, index_label=label)
        for genes in (GENES, None):
            with pytest.raises(ValueError, match=rf"no column of genes: .*{told}"):
                read_de_table(path, genes=genes, min_genes=3)
    with pytest.raises(
        ValueError, match=r"column 'gene' must name genes .* count them"
    ):
        read_de_table(path, genes=GENES, gene="gene", min_genes=3)


def test_a_column_of_text_is_found_beside_them(tmp_path):
    path = tmp_path / "de.csv"
    values = np.arange(10.0) - 4.5
    pd.DataFrame({"HGNC name": GENES["symbol"], "x1": values}).to_csv(path)
    query = read_de_table(path, genes=GENES, value="x1", min_genes=3)
    assert query.columns["gene"] == "HGNC name"
    np.testing.assert_allclose(query.profile, [values])


@pytest.mark.parametrize("genes_in", ["rows", "columns", "auto"])
def test_tables_of_profiles(tmp_path, names, genes_in):
    table = pd.DataFrame(values_of(3, names), index=["a", "b", "c"], columns=names)
    table = table.rename_axis("sample") if genes_in == "columns" else table.T
    path = tmp_path / "a.csv"
    table.to_csv(path)
    for genes in (GENES, None):
        with pytest.raises(ValueError, match=r"count them|not tell where its genes"):
            read_profiles(path, genes=genes, genes_in=genes_in)


@pytest.mark.parametrize("kind", ["npz", "gctx", "h5ad"])
def test_matrices(tmp_path, names, kind):
    path = tmp_path / f"a.{kind}"
    values = values_of(3, names)
    if kind == "npz":
        ids = [int(float(name)) for name in names]
        np.savez(path, X=values, gene_id=ids)
        obs = obs_of(3)
        with pytest.raises(ValueError, match="must name genes"):
            load_signatures(path, obs)
    elif kind == "gctx":
        write_gctx(path, values, obs_of(3), pd.DataFrame(index=names))
    else:
        var = pd.DataFrame(index=names)
        anndata.AnnData(values, obs_of(3), var).write_h5ad(path)
    for genes in (GENES, None):
        with pytest.raises(ValueError, match=r"must name genes .* only count them"):
            read_profiles(path, genes=genes)
    if kind != "npz":
        with pytest.raises(ValueError, match=r"rows of genes must name .* count them"):
            load_lincs(path, level=5, landmark_only=False)


def test_a_column_that_counts_is_none_either(names):
    ids = [int(float(name)) for name in names]
    var = pd.DataFrame({"gene_id": ids}, index=names)
    adata = anndata.AnnData(values_of(3, names), obs_of(3), var)
    with pytest.raises(ValueError, match=r"adata.var_names must .* only count them"):
        Study.from_anndata(adata, genes=GENES)
    with pytest.warns(UserWarning, match="20 of 20|60 of 60"):
        study = Study.from_anndata(adata)
    assert not {"gene_id", "symbol"} & set(study.genes)


def test_frames(names):
    y = pd.DataFrame(values_of(3, names), columns=names)
    with pytest.raises(ValueError, match=r"the columns of y must .* only count them"):
        align_profiles(y, GENES)
    # A model whose own genes are such names knows no other.
    np.testing.assert_array_equal(align_profiles(y, names), y)


def test_genes_may_have_low_ids(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("gene,a\n1,0.5\n9,2\n10,-3\n")
    profiles = read_profiles(path, genes=GENES.iloc[[0, 2, 3]])
    assert profiles.to_numpy().tolist() == [[0.5, 2, -3]]
