import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from sklearn_molge.datasets import Study
from sklearn_molge.exceptions import DataWarning, InvalidSmilesError
from sklearn_molge.molecules import IDENTITY_VERSION, drug_ids

anndata = pytest.importorskip("anndata")


@pytest.fixture
def study():
    obs = pd.DataFrame(
        {
            "pert_id": ["B1", "B2", "B1"],
            "cell_line": ["L1", "L2", "L2"],
            "plate": ["A", "B", "A"],
            "dose_um": [10.0, 3.3, np.nan],
            "replicate": [1, 2, 3],
            "good": [True, False, True],
            "moa": [np.nan, "x|y", np.nan],
            "well": np.full(3, np.nan, dtype=object),
        },
        index=pd.Index(["t1", "t2", "t3"], dtype=object),
    )
    controls = pd.DataFrame({"plate": ["B", "A"], "pert_type": ["ctl_vehicle"] * 2})
    controls.index = pd.Index(["c1", "c2"], dtype=object)
    return Study(
        ["CCO", "CCN", "CCO"],
        ge=[[1.5, 2], [3, 4], [5, 6]],
        obs=obs,
        genes=pd.DataFrame({"gene_id": [23, 16], "symbol": ["ABCF1", "AARS"]}),
        control_ge=[[7, 8], [9, 10]],
        control_obs=controls,
        level=3,
        dropped=pd.DataFrame(
            {"step": ["s"], "n_dropped": [1], "n_left": [3], "detail": ["d"]}
        ),
    )


def assert_same(one, other):
    assert one.smiles.tolist() == other.smiles.tolist()
    assert one.smiles.dtype == other.smiles.dtype
    np.testing.assert_array_equal(one.ge, other.ge)
    np.testing.assert_array_equal(one.groups, other.groups)
    pd.testing.assert_frame_equal(one.obs, other.obs, check_index_type=False)
    pd.testing.assert_frame_equal(one.genes, other.genes, check_index_type=False)
    assert one.level == other.level
    assert (one.control_ge is None) == (other.control_ge is None)
    if one.control_ge is not None:
        np.testing.assert_array_equal(one.control_ge, other.control_ge)
        pd.testing.assert_frame_equal(
            one.control_obs, other.control_obs, check_index_type=False
        )


def test_layout(study):
    adata = study.to_anndata()
    assert adata.obs_names.tolist() == ["t1", "t2", "t3", "c1", "c2"]
    assert adata.var_names.tolist() == ["23", "16"]
    np.testing.assert_array_equal(adata.X[:, 0], [1.5, 3, 5, 7, 9])
    assert adata.obs["is_control"].tolist() == [False] * 3 + [True] * 2
    assert adata.obs["smiles"].tolist()[:3] == ["CCO", "CCN", "CCO"]
    assert adata.obs["drug"].tolist()[:3] == study.groups[:, 0].tolist()
    assert adata.uns["sklearn_molge"]["level"] == 3


def test_without_anndata(study, monkeypatch):
    monkeypatch.setitem(sys.modules, "anndata", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-molge\[anndata\]"'):
        study.to_anndata()


def test_round_trip(study):
    again = Study.from_anndata(study.to_anndata())
    assert_same(again, study)
    pd.testing.assert_frame_equal(again.dropped, study.dropped)


def test_round_trip_through_a_file(study, tmp_path):
    study.to_anndata().write_h5ad(tmp_path / "study.h5ad")
    again = Study.from_anndata(anndata.read_h5ad(tmp_path / "study.h5ad"))
    assert_same(again, study)
    np.testing.assert_array_equal(again.paired_ge(), study.paired_ge())


def test_round_trip_without_controls(study):
    bare = Study(
        study.smiles, ge=study.ge, obs=study.obs, genes=study.genes[["symbol"]]
    )
    adata = bare.to_anndata()
    assert adata.var_names.tolist() == ["ABCF1", "AARS"]
    assert_same(Study.from_anndata(adata), bare)


def foreign(**columns):
    """An object in the vocabulary of GEO, with its marks for what is missing."""
    obs = pd.DataFrame(
        {
            "canonical_smiles": ["CCO", "CS(C)=O", "-666", "CCN", "C"],
            "cell_id": pd.Categorical(["A375"] * 5),
            "rna_plate": ["P1", "P1", "P1", "P2", "P2"],
            "det_plate": ["nan"] * 5,
            "pert_type": [
                "trt_cp",
                "ctl_vehicle",
                "trt_cp",
                "TRT_CP",
                "ctl_vector",
            ],
            "pert_id": ["B1", "DMSO", "B2", "B3", "V"],
            "pert_dose": [10.0, -666.0, 10.0, 500.0, 0.0],
            "pert_dose_unit": ["um", "-666", "um", "nM", "-666"],
        },
        index=list("abcde"),
    ).assign(**columns)
    var = pd.DataFrame({"pr_is_lm": [1, 0]}, index=["AARS", "ABCF1"])
    return anndata.AnnData(np.arange(10, dtype=float).reshape(5, 2), obs, var)


def test_foreign_by_hand():
    with pytest.warns(UserWarning, match=r"1 profiles of 1 pert_ids: B2 \(nan\)") as w:
        study = Study.from_anndata(foreign(), level=3)
    assert w[0].filename == __file__
    assert study.obs.index.tolist() == ["a", "d"]
    np.testing.assert_array_equal(study.ge, [[0, 1], [6, 7]])
    assert study.smiles.tolist() == ["CCO", "CCN"]
    assert study.obs["plate"].tolist() == ["P1", "P2"]
    assert study.obs["dose_um"].tolist() == [10.0, 0.5]
    assert study.obs["pert_type"].tolist() == ["trt_cp", "trt_cp"]
    assert study.control_obs.index.tolist() == ["b"]
    assert study.genes.to_dict("list") == {
        "symbol": ["AARS", "ABCF1"],
        "is_landmark": [True, False],
    }
    assert study.dropped["n_left"].tolist() == [5, 3, 2]
    assert study.level == 3


def test_foreign_columns_by_name_and_sparse_values():
    adata = foreign(structure=["CCO", "", "CCC", "CCN", ""])
    adata.X = sparse.csr_matrix(adata.X)
    study = Study.from_anndata(adata, columns={"smiles": "structure"})
    assert study.smiles.tolist() == ["CCO", "CCC", "CCN"]
    np.testing.assert_array_equal(study.ge, [[0, 1], [4, 5], [6, 7]])
    assert study.level is None


def test_genes_of_another_study():
    adata = foreign()[[0, 1]]
    genes = pd.DataFrame({"gene_id": [23, 16], "symbol": ["ABCF1", "AARS"]})
    study = Study.from_anndata(adata, genes=genes)
    np.testing.assert_array_equal(study.ge, [[1, 0]])
    np.testing.assert_array_equal(study.control_ge, [[3, 2]])
    pd.testing.assert_frame_equal(study.genes, genes)
    more = pd.DataFrame({"gene_id": [9, 16], "symbol": ["NEW", "AARS"]})
    with pytest.warns(UserWarning, match=r"1 of 2 genes are not in adata.*: 9 \(NEW\)"):
        study = Study.from_anndata(adata, genes=more)
    assert study.genes["gene_id"].tolist() == [16]
    # By Entrez id where the object knows it: symbols change.
    adata = adata.copy()
    adata.var["pr_gene_id"] = [16, 23]
    renamed = pd.DataFrame({"gene_id": [23, 16], "symbol": ["X", "AARS1"]})
    study = Study.from_anndata(adata, genes=renamed)
    np.testing.assert_array_equal(study.ge, [[1, 0]])
    assert study.genes["symbol"].tolist() == ["X", "AARS1"]


def test_genes_by_the_names_of_today():
    adata = foreign()[[0]].copy()
    adata.var_names = ["AARS1", "ENSG00000204574.13"]
    genes = pd.DataFrame({"gene_id": [23, 16], "symbol": ["ABCF1", "AARS"]})
    with pytest.warns(DataWarning, match=r"2 genes .* AARS1 is 16 \(AARS\), ENSG") as w:
        study = Study.from_anndata(adata, genes=genes)
    assert any("another name" in str(warning.message) for warning in w)
    np.testing.assert_array_equal(study.ge, [[1, 0]])


def test_errors():
    with pytest.raises(InvalidSmilesError, match="index 1: nan"):
        Study.from_anndata(foreign(), on_bad_smiles="raise")
    with pytest.raises(ValueError, match="columns maps 'moa' to 'mode', which"):
        Study.from_anndata(foreign(), columns={"moa": "mode"})
    adata = foreign()
    adata.obs = adata.obs.drop(columns="canonical_smiles")
    with pytest.raises(ValueError, match="has a smiles: name its column in `columns`"):
        Study.from_anndata(adata)
    with pytest.raises(ValueError, match="No profile is left after the filter treated"):
        Study.from_anndata(foreign()[[1, 4]])
    genes = pd.DataFrame({"symbol": ["NEW"]})
    with pytest.raises(
        ValueError,
        match=r"No gene of `genes` is in adata.var. `genes` has 'NEW'; "
        r"adata.var_names has 'AARS', 'ABCF1', with columns 'pr_is_lm'\.$",
    ):
        Study.from_anndata(foreign()[[0]], genes=genes)
    with pytest.raises(ValueError, match="genes must have rows, and a column"):
        Study.from_anndata(foreign()[[0]], genes=pd.DataFrame({"name": ["AARS"]}))


def test_real_plates(level3_folder):
    adata = anndata.read_h5ad(level3_folder / "CPC006_HT115_6H_X1_X2.level3.h5ad")
    study = Study.from_anndata(adata, level=3)
    table = pd.read_csv(level3_folder / "obs.csv", index_col="inst_id")
    table = table.loc[adata.obs_names]
    treated = table[table["pert_type"] == "trt_cp"]
    assert study.obs.index.tolist() == treated.index.tolist()
    for ours, theirs in [
        ("plate", "plate"),
        ("well", "well"),
        ("pert_id", "pert_id"),
        ("time_h", "time_h"),
        ("cell_line", "cell_id"),
    ]:
        assert study.obs[ours].tolist() == treated[theirs].tolist()
    np.testing.assert_allclose(study.obs["dose_um"], treated["dose_um"], atol=0.005)
    assert study.control_obs["plate"].value_counts().to_dict() == {
        "CPC006_HT115_6H_X1": 9,
        "CPC006_HT115_6H_X2": 11,
    }
    X = pd.DataFrame(adata.X, index=adata.obs_names)
    np.testing.assert_array_equal(study.ge, X.loc[study.obs.index])
    wells = table[table["pert_type"] == "ctl_vehicle"]
    paired = study.paired_ge()
    for row in range(0, len(study), 61):
        plate = wells.index[wells["plate"] == study.obs["plate"].iloc[row]]
        expected = X.loc[plate].to_numpy(float).mean(axis=0)
        np.testing.assert_allclose(paired[row, 978:], expected, rtol=1e-5)
    assert "gene_id" not in study.genes
    assert_same(Study.from_anndata(study.to_anndata()), study)


def test_what_would_be_ignored_is_refused():
    for name in ("time", "drug"):
        with pytest.raises(ValueError, match=f"columns must have keys .*Got '{name}'"):
            Study.from_anndata(foreign(x="1"), columns={name: "x"})
    for name, value in [("on_bad_smiles", "ignore"), ("level", "3"), ("genes", "AARS")]:
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            Study.from_anndata(foreign(), **{name: value})


def test_unknown_cell_lines_are_left_out_and_told():
    adata = foreign(canonical_smiles="CCO", cell_id=["A", "A", None, "B", "A"])
    study = Study.from_anndata(adata)
    assert study.groups[:, 1].tolist() == ["A", "B"]
    assert study.dropped.iloc[2].tolist()[:3] == ["known cell line", 1, 2]


def test_unknown_marks_of_landmarks_are_not_true():
    adata = foreign(canonical_smiles="CCO")
    adata.var["pr_is_lm"] = [1.0, np.nan]
    assert list(Study.from_anndata(adata).genes) == ["symbol"]


def test_genes_of_one_name():
    adata = foreign(canonical_smiles="CCO")
    adata.var["gene_id"] = [5, 5]
    with pytest.raises(ValueError, match=r"different gene_id. .* more than once: 5"):
        Study.from_anndata(adata, genes=pd.DataFrame({"gene_id": [5]}))


def clean(**columns):
    return foreign(canonical_smiles="CCO", **columns)


def test_no_matrix():
    adata = clean()
    bare = anndata.AnnData(obs=adata.obs, var=adata.var, layers={"z": adata.X})
    with pytest.raises(ValueError, match=r"adata.X is None.*there are: 'z'\) by layer"):
        Study.from_anndata(bare)


def test_a_layer_and_columns_of_genes_by_name(study):
    adata = clean()
    adata.layers["z"] = adata.X * 2
    adata.var = adata.var.assign(entrez_number=["16", "23"], measured=[1, 1])
    names = {"gene_id": "entrez_number", "is_landmark": "measured"}
    got = Study.from_anndata(adata, layer="z", var_columns=names)
    plain = Study.from_anndata(adata)
    np.testing.assert_array_equal(got.ge, 2 * plain.ge)
    assert got.genes.to_dict("list") == {
        "gene_id": [16, 23],
        "symbol": ["AARS", "ABCF1"],
        "is_landmark": [True, True],
    }
    own = study.to_anndata()
    own.layers["twice"] = own.X * 2
    np.testing.assert_array_equal(
        Study.from_anndata(own, layer="twice").ge, 2 * study.ge
    )
    with pytest.raises(ValueError, match=r"there are: 'z'\)\. Got 'x'"):
        Study.from_anndata(adata, layer="x")
    with pytest.raises(ValueError, match=r"among gene_id, symbol, is_l.*Got 'name'"):
        Study.from_anndata(adata, var_columns={"name": "measured"})
    with pytest.raises(ValueError, match=r"'gene_id' to 'no', which adata\.var lacks"):
        Study.from_anndata(adata, var_columns={"gene_id": "no"})
    adata.layers["z"][0, 0] = np.nan
    with pytest.raises(ValueError, match=r"adata\.layers\['z'\]: of .* 1 are missing"):
        Study.from_anndata(adata, layer="z")


INCHI = "InChI=1S/C2H5NO/c1-2(3)4/h1H3,(H2,3,4)"


@pytest.mark.parametrize("columns", [None, {"smiles": "mine"}])
def test_inchi_in_the_place_of_smiles(columns):
    name = "inchi" if columns is None else "mine"
    adata = clean(**{name: [INCHI, "", "InChI=1S/bad", INCHI, ""]})
    del adata.obs["canonical_smiles"]
    with pytest.warns(DataWarning, match="InChI are read as SMILES: 2 are .*1 cannot"):
        with pytest.warns(UserWarning, match="1 profiles of 1 pert_ids: B2 .InChI=1S"):
            study = Study.from_anndata(adata, columns=columns)
    assert study.smiles.tolist() == ["CC(N)=O"] * 2
    # A SMILES that is known comes first.
    study = Study.from_anndata(clean(inchi=INCHI))
    assert set(study.smiles) == {"CCO"}


@pytest.mark.parametrize("value", [np.nan, np.inf, -666])
def test_values_that_are_none(value):
    adata = clean()
    adata.X[3, 1] = value
    infinite = np.isinf(value)
    message = (
        rf"adata.X: of 6 values {1 - infinite:d} are missing and {infinite:d} infinite"
        r", in 1 of 3 samples \('d'\) and 1 of 2 genes \('ABCF1'\)"
    )
    with pytest.raises(ValueError, match=message):
        Study.from_anndata(adata)
    if not infinite:
        study = Study.from_anndata(adata, missing="nan")
        np.testing.assert_array_equal(study.ge, [[0, 1], [4, 5], [6, np.nan]])
        assert "treated: 1 of 6 values are NaN" in study.dropped["detail"][0]
    assert adata.X[3, 1] == value or np.isnan(value)  # the object is as it was
    adata = clean()
    adata.X[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"adata.X of controls: of 2 .*'b'.*'AARS'"):
        Study.from_anndata(adata)


def test_values_that_are_none_in_an_object_of_ours(study):
    study.ge[0, 0] = np.nan
    adata = study.to_anndata()
    with pytest.raises(ValueError, match="of 6 values 1 are missing"):
        Study.from_anndata(adata)
    assert_same(Study.from_anndata(adata, missing="nan"), study)


def test_transposed():
    adata = clean()
    turned = anndata.AnnData(adata.X.T, adata.var, adata.obs).T
    np.testing.assert_array_equal(Study.from_anndata(turned).ge[0], [0, 1])
    genes = pd.DataFrame({"symbol": ["a", "b"]})
    with pytest.raises(ValueError, match=r"adata.obs_names has some: pass adata.T"):
        Study.from_anndata(adata, genes=genes)


def test_genes_that_have_no_name_of_ours():
    adata = clean()
    for names in (
        ["ENSG00000090861.16", "ENSG00000204574"],
        ["0", "1"],
        ["1_at", "2_at"],
    ):
        adata.var_names = names
        with pytest.warns(DataWarning, match="2 of 2 genes of adata have neither") as w:
            study = Study.from_anndata(adata)
        assert w[0].filename == __file__
        assert list(study.genes) == ["is_landmark"]
    adata.var["gene_name"] = ["AARS", "ABCF1"]
    assert Study.from_anndata(adata).genes["symbol"].tolist() == ["AARS", "ABCF1"]
    adata.var["entrez_id"] = ["16.0", "23"]
    assert Study.from_anndata(adata).genes["gene_id"].tolist() == [16, 23]


@pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")
def test_names_that_stand_twice():
    adata = clean()
    adata.var_names = ["AARS", "AARS"]
    with pytest.raises(ValueError, match=r"different symbol. More than once: 'AARS'"):
        Study.from_anndata(adata)
    adata = clean()
    adata.obs_names = ["a", "a", "b", "c", "d"]
    with pytest.warns(DataWarning, match="1 obs_names of adata repeat .*: 'a'"):
        study = Study.from_anndata(adata)
    np.testing.assert_array_equal(study.ge, [[0, 1], [4, 5], [6, 7]])


def test_missing_genes_are_named():
    adata = clean()
    adata.var["gene_id"] = [16, 23]
    genes = pd.DataFrame({"gene_id": [23, 780], "symbol": ["ABCF1", "DDR1"]})
    with pytest.warns(UserWarning, match=r"1 of 2 genes .* left out: 780 \(DDR1\)\."):
        Study.from_anndata(adata, genes=genes)


def test_one_pert_id_with_two_molecules():
    adata = foreign(canonical_smiles=["CCO", "", "CCN", "C", ""], pert_id="B1")
    with pytest.warns(
        DataWarning, match="1 pert_ids have profiles of several .* B1: CCO, CCN, C"
    ):
        study = Study.from_anndata(adata)
    assert study.smiles.tolist() == ["CCO", "CCN", "C"]


@pytest.mark.parametrize(
    "lines",
    [
        [5637, 5637, "5637", 5637.0, "x"],
        [5637.0, np.nan, 5637.0, 5637, 5637],
        ["5637.0", " 5637", "5637 ", '"5637"', "5637"],
        pd.array(["5637"] * 5, dtype="string"),
    ],
)
def test_cell_lines_that_are_numbers(lines):
    adata = clean(cell_id="x")
    adata.obs["cell_id"] = pd.Series(lines, index=adata.obs_names, dtype=None)
    assert Study.from_anndata(adata).groups[:, 1].tolist() == ["5637"] * 3


def test_cell_lines_that_differ_by_case():
    with pytest.warns(DataWarning, match="'a375' is read as 'A375'") as w:
        study = Study.from_anndata(clean(cell_id=["A375", "A375", "a375", "A375", "x"]))
    assert w[0].filename == __file__
    assert study.groups[:, 1].tolist() == ["A375"] * 3


def test_drugs_of_another_version_are_told(study, tmp_path):
    adata = study.to_anndata()
    assert adata.uns["sklearn_molge"].pop("identity_version") == IDENTITY_VERSION
    adata.obs["drug"] = ["old", "B", "new", np.nan, np.nan]
    adata.write_h5ad(tmp_path / "old.h5ad")
    for read in (
        lambda: Study.load(tmp_path / "old.h5ad"),
        lambda: Study.from_anndata(adata),
    ):
        with pytest.warns(DataWarning, match="by version 1 of drug_ids") as caught:
            old = read()
        assert caught[0].filename == __file__
        assert old.groups[:, 0].tolist() == ["old", "B", "new"]
    old.obs = old.obs.assign(drug=drug_ids(old.smiles))
    np.testing.assert_array_equal(old[:].groups, study.groups)
