"""index and search: from files to ranked molecules."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.__main__ import main
from sklearn_molge.datasets import Study, read_de_table
from sklearn_molge.expression import profile_from_genes
from sklearn_molge.library import MoleculeFile, MoleculeIndex, verify_index
from sklearn_molge.persistence import load_model, save_model

pytest.importorskip("anndata")

SEARCH = ["search", "--index", "index"]
INDEX = ["index", "--model", "model.molge"]


# index

SMALL = pytest.mark.filterwarnings("ignore:X. .* are molecules")


def test_the_index_is_that_of_the_model(here):
    index = MoleculeIndex.open("index")
    study, model = Study.load("study.h5ad"), load_model("model.molge")
    assert index.n_molecules_ == 30
    smiles = index.get_molecules()["smiles"].to_numpy()
    expected = model.transform(smiles).astype(np.float32)
    np.testing.assert_array_equal(
        index.estimator_.transform(smiles).astype(np.float32), expected
    )
    query = study.profiles().iloc[:2]
    assert index.query(query, 3)["score"].notna().all()
    assert verify_index("index")["molecules"] == 30


@SMALL
def test_the_background_of_the_model_file_is_used(here, json_of):
    study, model = Study.load("study.h5ad"), load_model("model.molge")
    save_model(model, "with.molge", background=study)
    told = json_of("index", "--model", "with.molge", "--library", "a.smi", "--out", "i")
    assert told["calibrated"]
    query = study.profiles().iloc[:2]
    expected = MoleculeIndex(model).fit("a.smi")
    expected.calibrate(study.smiles, study.profiles())
    pd.testing.assert_series_equal(
        MoleculeIndex.open("i").query(query, 3)["percentile"],
        expected.query(query, 3)["percentile"],
    )


@SMALL
def test_libraries_are_joined_and_gone_on_with(here, json_of):
    both = [*INDEX, "--library", "a.smi", "b.csv.gz", "--out", "new"]
    told = json_of(*both)
    assert told["n_molecules"] == 20
    assert told["skipped"] == {
        "not a valid SMILES": 2,
        "same drug as an earlier row": 3,
    }
    assert not told["calibrated"]
    with pytest.warns(UserWarning, match="nothing is added"):
        assert json_of(*both)["n_molecules"] == 20


@SMALL
def test_a_library_that_was_not_finished_comes_first(here, json_of, monkeypatch):
    index = MoleculeIndex(load_model("model.molge"), folder="new", batch_size=1)
    index.fit("a.smi")
    read = MoleculeFile.iter_batches

    def stopped(self, batch_size, *, start=0):
        yield from itertools.islice(read(self, batch_size, start=start), 20)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MoleculeFile, "iter_batches", stopped)
        with pytest.raises(KeyboardInterrupt):
            index.partial_fit("vendor.sdf")
    assert 8 < MoleculeIndex.open("new").n_molecules_ < 30
    both = [*INDEX, "--library", "a.smi", "vendor.sdf", "--out", "new"]
    with pytest.warns(UserWarning, match="nothing is added"):
        assert json_of(*both)["n_molecules"] == 30


@SMALL
def test_another_library_is_added(here, json_of):
    first = [*INDEX, "--out", "new", "--library"]
    assert json_of(*first, "a.smi")["n_molecules"] == 8
    assert json_of(*first, "b.csv.gz")["n_molecules"] == 20


@SMALL
def test_errors_of_an_index(here, error_of):
    (here / "other").mkdir()
    (here / "other" / "notes.txt").write_text("mine")
    given = [*INDEX, "--library", "a.smi"]
    error_of(*given, "--out", "other")
    assert [path.name for path in (here / "other").iterdir()] == ["notes.txt"]
    assert "is a file, not a folder" in error_of(*given, "--out", "a.smi")
    assert "--library: there is no x.smi" in error_of(
        *INDEX, "--library", "x.smi", "--out", "new"
    )
    assert main([*INDEX, "--library", "a.smi", "--out", "new", "--quiet"]) == 0
    assert "dtype must be" in error_of(*given, "--out", "new", "--dtype", "int8")


# search


def test_a_table_of_genes(here, json_of):
    told = json_of(*SEARCH, "--de", "results.csv", "-n", 5, "--n-permutations", 99)
    index = MoleculeIndex.open("index")
    query = read_de_table("results.csv", genes=index.estimator_)
    expected = index.query(query.profile, 5, n_permutations=99)
    assert [row["molecule"] for row in told["answers"]] == list(expected["molecule"])
    np.testing.assert_allclose(
        [row["score"] for row in told["answers"]], expected["score"]
    )
    (verdict,) = told["queries"]
    assert verdict["query"] == "results"
    assert verdict["query_p_value"] == expected["query_p_value"].iloc[0]
    assert told["genes"] == {"results": {"used": 39, "alias": 1, "unknown": 1}}
    assert {"percentile", "nearest_training", "price"} <= set(told["answers"][0])


def test_one_group_of_a_table(here, json_of, error_of):
    table = pd.read_csv("results.csv", index_col=0).rename_axis("gene").reset_index()
    table = pd.concat([table.assign(cluster="a"), table.assign(cluster="b")])
    table.to_csv("clusters.csv", index=False)
    assert "cluster" in error_of(*SEARCH, "--de", "clusters.csv")
    cut = ["--group", "b", "--value", "log2FoldChange", "--n-top", 12, "-n", 1]
    told = json_of(*SEARCH, "--de", "clusters.csv", *cut)
    assert [query["query"] for query in told["queries"]] == ["clusters b"]
    assert told["genes"]["clusters b"]["below the cut-off"] == 28
    assert "--n-top: for --de." in error_of(*SEARCH, "--up", "TP53", "--n-top", 3)


def test_genes_up_and_down(here, json_of):
    (here / "down.txt").write_text("CCND1\nAARS\n")
    up = ["--up", "HMOX1, txnrd1", "--down", "down.txt"]
    told = json_of(*SEARCH, *up, "-n", 3)
    index = MoleculeIndex.open("index")
    query = profile_from_genes(
        index.estimator_, up=["HMOX1", "TXNRD1"], down=["CCND1", "AARS1"]
    )
    expected = index.query(query, 3)
    assert [row["molecule"] for row in told["answers"]] == list(expected["molecule"])
    assert told["genes"]["genes"]["alias"] + told["genes"]["genes"]["used"] == 4


def test_what_became_of_each_gene(here, json_of):
    with pytest.warns(UserWarning, match="Not among the 40 genes"):
        told = json_of(*SEARCH, "--up", "HMOX1,AARS,EGFR,NOSUCH")
    assert told["genes"]["genes"] == {
        "used": 1, "alias": 1, "not in the model": 1, "unknown": 1
    }  # fmt: skip


def test_profiles_each_by_condition_and_combined(here, json_of):
    small = ["-n", 2, "--n-permutations", 0]
    study = Study.load("study.h5ad")
    each = json_of(*SEARCH, "--profile", "queries.gct", *small)
    assert [q["query"] for q in each["queries"]] == study.obs.index.tolist()
    index = MoleculeIndex.open("index")
    lines = study.obs["cell_line"].tolist()
    by_line = index.query(study.profiles(), 2, groups=lines, n_permutations=0)
    of_file = json_of(
        *SEARCH, "--profile", "queries.gct", "--condition", "cell_id", *small
    )
    of_data = json_of(
        *SEARCH, "--data", "study.h5ad", "--condition", "cell_line", *small
    )
    for told in (of_file, of_data):
        assert [row["molecule"] for row in told["answers"]] == list(by_line["molecule"])
        assert [row["query"] for row in told["answers"]] == list(by_line["query"])
    both = json_of(*SEARCH, "--de", "results.csv", "disease.csv", "--combine", *small)
    one = json_of(*SEARCH, "--de", "results.csv", *small)
    assert [q["query"] for q in both["queries"]] == ["combined"]
    assert [r["molecule"] for r in both["answers"]] == [
        r["molecule"] for r in one["answers"]
    ]


def test_reverse_is_the_other_end(here, json_of):
    ahead = json_of(*SEARCH, "--de", "results.csv", "--n-permutations", 0)["answers"]
    back = json_of(*SEARCH, "--de", "results.csv", "--n-permutations", 0, "--reverse")
    assert back["reverse"] is True
    assert back["answers"][0]["molecule"] == ahead[-1]["molecule"]


def test_every_format(here, capsys):
    pytest.importorskip("openpyxl")
    names = ["a.html", "a.csv", "a.xlsx", "a.json", "a.sdf"]
    given = [*SEARCH, "--de", "results.csv", "-n", "4", "--out", *names]
    assert main(given) == 0
    out = capsys.readouterr().out
    assert "results: 40 genes used, 1 of them by an alias; 1 unknown" in out
    assert "NOSUCHGENE" in out
    assert "results: molecules that may cause it" in out
    assert out.splitlines()[-1] == f"Written: {', '.join(names)}"
    table = pd.read_csv("a.csv")
    told = json.loads((here / "a.json").read_text())
    assert [row["molecule"] for row in told["answers"]] == table["molecule"].tolist()
    book = pd.read_excel("a.xlsx", sheet_name=None)
    assert list(book) == ["answers", "queries", "genes"]
    assert book["answers"]["molecule"].tolist() == table["molecule"].tolist()
    assert len(book["genes"]) == 41
    assert (here / "a.sdf").read_text().count("$$$$") == 4
    page = (here / "a.html").read_text()
    assert "<svg" in page or "data:image/svg" in page
    assert "40 genes used" in page
    assert main(given) == 2
    assert "a.html is there; --force replaces it" in capsys.readouterr().err
    assert main([*given, "--force"]) == 0


def test_a_workbook_holds_no_formula(here, monkeypatch):
    openpyxl = pytest.importorskip("openpyxl")
    bad = ["=1+1", "+1", "-1", "@A1", "fine"]
    smiles = pd.read_csv("vendor.csv.gz")["SMILES"].head(len(bad))
    pd.DataFrame({"SMILES": smiles, "name": bad}).to_csv("bad.csv", index=False)
    assert main([*INDEX, "--library", "bad.csv", "--out", "bad", "--quiet"]) == 0
    given = ["search", "--index", "bad", "--de", "results.csv", "--out", "a.xlsx"]
    assert main([*given, "--quiet"]) == 0
    sheet = openpyxl.load_workbook("a.xlsx")["answers"]
    cells = [cell for row in sheet.iter_rows() for cell in row]
    assert not [cell.value for cell in cells if cell.data_type == "f"]
    assert set(bad) <= {cell.value for cell in cells}


def test_noise_is_an_answer(here, capsys):
    symbols = Study.load("study.h5ad").genes["symbol"].tolist()
    noise = np.random.default_rng(5).normal(size=len(symbols))
    pd.DataFrame({"gene": symbols, "value": noise}).to_csv("noise.csv", index=False)
    assert main([*SEARCH, "--de", "noise.csv"]) == 0
    assert "NO BETTER THAN NOISE (p 0." in capsys.readouterr().out


def test_profiles_without_a_condition(here, error_of):
    lines = (here / "queries.gct").read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith("cell_id"))
    cells = lines[at].split("\t")
    lines[at] = "\t".join([*cells[:-1], "-666"])
    (here / "queries.gct").write_text("\n".join(lines))
    said = error_of(*SEARCH, "--profile", "queries.gct", "--condition", "cell_id")
    assert said.endswith("--condition: no cell_id is known of 1 profile.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "One of --de, --up and --down, --profile, --data must be given. Got none"),
        (["--de", "results.csv", "--up", "TP53"], "Got --de and --up and --down"),
        (["--de", "no.csv"], "--de: there is no no.csv"),
        (["--up", "NOSUCH"], "None of the 1 genes given"),
        (["--data", "study.h5ad"], "--data needs --condition"),
        (["--de", "results.csv", "--condition", "x"], "--condition is for --profile"),
        (["--data", "study.h5ad", "--condition", "x"], "--condition must be one of"),
        (["--profile", "results.csv"], "results.csv"),
        (["--de", "results.csv", "--out", "a.pdf"], "--out must end in .html"),
        (["--de", "results.csv", "--out", "no/a.csv"], "there is no folder no"),
    ],
)
def test_what_cannot_be_asked(here, error_of, arguments, message):
    assert message in error_of(*SEARCH, *arguments)


def test_no_index(here, error_of):
    genes = ["--up", "TP53"]
    assert "--index: there is no x" in error_of("search", "--index", "x", *genes)
    assert "error: " in error_of("search", "--index", "path", *genes)


def test_profiles_of_one_name_in_two_files(here, json_of):
    profiles = Study.load("study.h5ad").profiles()
    for i in range(2):
        own = profiles.iloc[[i]].set_axis(["case 1"])
        own.to_csv(f"p{i}.csv", index_label="sample")
    asked = [*SEARCH, "--profile", "p0.csv", "p1.csv", "--n-permutations", "9"]
    told = json_of(*asked, "-n", "3")
    names = ["p0.csv: case 1", "p1.csv: case 1"]
    assert [each["query"] for each in told["queries"]] == names
    expected = MoleculeIndex.open("index").query(profiles.iloc[:2], 3, n_permutations=9)
    found = [row["molecule"] for row in told["answers"]]
    assert found == expected["molecule"].tolist()
