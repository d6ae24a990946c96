import itertools

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.__main__ import main
from sklearn_molge.datasets import GctData, Study, read_gct, read_gctx, write_gctx

anndata = pytest.importorskip("anndata")


@pytest.fixture
def data(values):
    obs = pd.DataFrame(
        {"cell_id": ["A375", None, "PC3", "PC3"], "dose": [1.5, np.nan, 0.1, 10]},
        index=["p:A1", "p:A2", "p:A3", "p:A4"],
    )
    genes = pd.DataFrame({"symbol": ["AARS1", "TP53", None]}, index=["16", "7157", "9"])
    return GctData(values, obs, genes)


@pytest.mark.parametrize("path", [["gct"], ["h5ad"], ["gct", "h5ad", "gct"]])
def test_nothing_is_lost_on_the_way(tmp_path, data, path):
    write_gctx(tmp_path / "0.gctx", data)
    names = ["0.gctx", *(f"{i + 1}.{kind}" for i, kind in enumerate(path)), "last.gctx"]
    for source, target in itertools.pairwise(names):
        assert main(["convert", str(tmp_path / source), str(tmp_path / target)]) == 0
    back = read_gctx(tmp_path / "last.gctx")
    np.testing.assert_array_equal(back.matrix, data.matrix)
    expected = read_gctx(tmp_path / "0.gctx")
    for name in ("obs", "genes"):
        got, wanted = getattr(back, name), getattr(expected, name)
        pd.testing.assert_frame_equal(got, wanted, check_dtype=False)


def test_gct_is_as_others_write_it(tmp_path, data):
    write_gctx(tmp_path / "0.gctx", data)
    assert main(["convert", str(tmp_path / "0.gctx"), str(tmp_path / "1.gct")]) == 0
    lines = (tmp_path / "1.gct").read_text().split("\n")
    assert lines[0] == "#1.3"
    assert lines[1] == "3\t4\t1\t2"
    assert lines[2] == "id\tsymbol\tp:A1\tp:A2\tp:A3\tp:A4"
    assert lines[3] == "cell_id\tna\tA375\t-666\tPC3\tPC3"
    assert lines[4] == "dose\tna\t1.5\t-666\t0.1\t10.0"
    assert lines[5].startswith("16\tAARS1\t")
    np.testing.assert_array_equal(read_gct(tmp_path / "1.gct").matrix, data.matrix)


def test_a_folder_becomes_a_study(here, json_of):
    told = json_of("convert", "path/to/lincs", "new.h5ad")
    study, expected = Study.load("new.h5ad"), Study.load("study.h5ad")
    assert (told["n_profiles"], told["n_genes"]) == study.ge.shape
    np.testing.assert_array_equal(study.ge, expected.ge)
    assert study.smiles.tolist() == expected.smiles.tolist()
    one = study.obs["cell_line"].iloc[0]
    told = json_of("convert", "path/to/lincs", "one.gctx", "--cell-lines", one)
    assert told["n_profiles"] == (study.obs["cell_line"] == one).sum()


def test_what_is_there_is_not_replaced_in_silence(here, error_of):
    assert error_of("convert", "queries.gct", "study.h5ad").endswith(
        "OUT: study.h5ad is there; --force replaces it."
    )
    assert "there is no folder no" in error_of("convert", "queries.gct", "no/a.gct")
    assert "must end in one of" in error_of("convert", "queries.gct", "a.txt")
    assert "IN: there is no none.gct" in error_of("convert", "none.gct", "a.gctx")
    said = error_of("convert", "results.csv", "a.gctx")
    assert "results.csv is no GCT, GCTX or .h5ad file" in said
    assert main(["convert", "queries.gct", "study.h5ad", "--force"]) == 0


def test_a_layer_is_asked_for(here, json_of, error_of, values):
    obs = pd.DataFrame(
        {"pert_type": "trt_cp", "cell_id": "A375", "smiles": ["CCO", "CCN", "C", "N"]},
        index=list("abcd"),
    )
    var = pd.DataFrame(index=["16", "23", "25"])
    adata = anndata.AnnData(np.abs(values), obs, var, layers={"z": values})
    adata.write_h5ad("plate.h5ad")
    layer = ["--layer", "z"]
    json_of("convert", "plate.h5ad", "z.gctx", *layer)
    np.testing.assert_array_equal(read_gctx("z.gctx").matrix, values)
    json_of("convert", "plate.h5ad", "z.h5ad", "--study", "--all-genes", *layer)
    np.testing.assert_array_equal(Study.load("z.h5ad").ge, values)
    assert json_of("describe", "plate.h5ad")["plate.h5ad"]["facts"]["layers"] == ["z"]
    assert "--layer must be one of 'z'. Got y." in error_of(
        "convert", "plate.h5ad", "y.gctx", "--layer", "y"
    )
    assert "has no layers" in error_of("convert", "z.gctx", "y.h5ad", *layer)
    assert "--layer is for --profile and --data" in error_of(
        "search", "--index", "index", "--de", "results.csv", *layer
    )
