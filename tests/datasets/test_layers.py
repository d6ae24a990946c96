"""Layers of .h5ad: X with counts, and z-scores beside it."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sklearn_molge.datasets import Study, load_lincs, read_profiles
from sklearn_molge.exceptions import DataWarning

anndata = pytest.importorskip("anndata")

GENES = [16, 23, 25, 780]


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)


@pytest.fixture(params=["dense", "sparse"])
def path(request, tmp_path, values):
    obs = pd.DataFrame(
        {"pert_type": "trt_cp", "cell_id": "A375", "smiles": "CCO"},
        index=[f"s{i}" for i in range(300)],
    )
    var = pd.DataFrame(index=list(map(str, GENES)))
    counts = np.abs(values * 100).round()
    z = values if request.param == "dense" else sparse.csr_matrix(values)
    adata = anndata.AnnData(counts, obs, var, layers={"z": z, "log": np.log1p(counts)})
    adata.write_h5ad(tmp_path / "a.h5ad")
    return tmp_path / "a.h5ad"


def test_profiles(path, values):
    read = read_profiles(path, layer="z", genes=pd.DataFrame({"gene_id": GENES[::-1]}))
    np.testing.assert_array_equal(read, values[:, ::-1])
    with pytest.warns(DataWarning, match=r"is below 0.*layers 'log', 'z'") as w:
        read = read_profiles(path)
    assert w[0].filename == __file__
    np.testing.assert_array_equal(read, np.abs(values * 100).round())


def test_studies(path, values):
    options = {"level": 5, "landmark_only": False}
    study = load_lincs(path, layer="z", **options)
    np.testing.assert_array_equal(study.ge, values)
    told = r"raw counts\? X was read, and '.*a.h5ad' has the layers 'log', 'z': name"
    with pytest.warns(DataWarning, match=told) as w:
        load_lincs(path, **options)
    assert w[0].filename == __file__
    adata = anndata.read_h5ad(path)
    with pytest.warns(DataWarning, match=r"adata.layers has 'log', 'z': name"):
        Study.from_anndata(adata, level=5)
    # What fits its level is told nothing of.
    adata.X = adata.layers["z"]
    Study.from_anndata(adata, level=5)


def test_errors(path, tmp_path):
    told = r"one of the layers of .*a\.h5ad \(there are: 'log', 'z'\)\. Got 'Z'"
    with pytest.raises(ValueError, match=told):
        read_profiles(path, layer="Z")
    with pytest.raises(ValueError, match=told):
        load_lincs(path, level=5, landmark_only=False, layer="Z")
    table = tmp_path / "a.csv"
    table.write_text("gene,a\n16,1\n23,2\n")
    with pytest.raises(ValueError, match=r"layer must be None: .*a\.csv is no \.h5ad"):
        read_profiles(table, layer="z")
    gct = tmp_path / "a.gct"
    gct.write_text("#1.2\n1\t1\nNAME\tDescription\ts1\n16\tx\t1\n")
    with pytest.raises(ValueError, match=r"layer must be None for GCT .*a\.gct"):
        load_lincs([path, gct], level=5, layer="z")


def test_layers_without_x(path, values, tmp_path):
    adata = anndata.read_h5ad(path)
    bare = tmp_path / "bare.h5ad"
    anndata.AnnData(obs=adata.obs, var=adata.var, layers=dict(adata.layers)).write_h5ad(
        bare
    )
    np.testing.assert_array_equal(read_profiles(bare, layer="z"), values)
    with pytest.raises(ValueError, match=r"has no X: name one of its layers .* 'z'"):
        read_profiles(bare)
