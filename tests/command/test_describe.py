import pytest

from sklearn_molge.__main__ import main

pytest.importorskip("anndata")


def test_every_kind(here, json_of):
    (here / "words.txt").write_text("some words\nand more of them\n")
    kinds = {
        "index": "an index of molecules",
        "path/to/lincs": "a folder in the layout of LINCS",
        "model.molge": "a model",
        "study.h5ad": "a study",
        "queries.gct": "a matrix of profiles",
        "path/to/lincs/level5.gctx": "a matrix of profiles",
        "vendor.sdf": "a library of molecules",
        "a.smi": "a library of molecules",
        "b.csv.gz": "a library of molecules",
        "results.csv": "a table of differential expression",
        "words.txt": "unknown",
    }
    found = json_of("describe", *kinds, code=2)
    assert {name: each["kind"] for name, each in found.items()} == kinds
    assert any("no library" in why for why in found["words.txt"]["odd"])


def test_a_library(here, json_of):
    text = "\n".join(
        ["SMILES,name", "CCO,a", "OCC,b", "C(C,c", "[Na+].CC(=O)[O-],d", ",e"]
    )
    (here / "vendor.csv").write_text(text)
    found = json_of("describe", "vendor.csv")["vendor.csv"]
    facts = found["facts"]
    assert (facts["smiles_column"], facts["name_column"]) == ("SMILES", "name")
    assert (facts["looked_at"], facts["readable"], facts["drugs"]) == (5, 3, 2)
    assert facts["salts"] == 1
    bad, repeated = found["odd"]
    assert bad.startswith("2 rows without a molecule: row 2 'C(C', row 4")
    assert repeated.startswith("1 row of a drug that came before")


def test_a_matrix_and_a_study(here, json_of):
    found = json_of("describe", "queries.gct", "study.h5ad")
    matrix, study = found["queries.gct"]["facts"], found["study.h5ad"]["facts"]
    assert matrix["profiles"] == study["profiles"] == 240
    assert matrix["named_by"] == {"Entrez id": 40}
    assert matrix["landmarks"] == study["landmarks"] == 40
    assert study["level"] == 5
    assert study["drugs"] == 30
    assert study["cell_lines"] == 4
    assert "around 0" in matrix["level"]


def test_a_table_of_genes(here, json_of):
    facts = json_of("describe", "results.csv")["results.csv"]["facts"]
    assert facts["written_by"] == "DESeq2"
    assert facts["rows"] == 41
    assert facts["genes_named_by"]["unknown"] == 1


def test_in_words(here, capsys):
    assert main(["describe", "vendor.sdf", "index"]) == 0
    out = capsys.readouterr().out
    assert "vendor.sdf: a library of molecules\n" in out
    assert "index: an index of molecules\n" in out
    assert main(["describe", "vendor.sdf", "--rows", "3"]) == 0
    assert "looked at      3" in capsys.readouterr().out


def test_no_such_file(error_of):
    assert "FILE: there is no nothing.csv" in error_of("describe", "nothing.csv")


def test_real_files(shared_data, json_of):
    paths = [
        shared_data / "lincs_level3_plates" / "CPC006_A375_6H_X1.level3.gct",
        shared_data / "lincs_level3_plates" / "CPC006_A375_6H_X1.robust_z.gctx",
    ]
    found = json_of("describe", *paths)
    levels = [found[str(path)]["facts"]["level"] for path in paths]
    assert levels[0] == "3, says the name"
    assert levels[1].startswith("4 or 5 perhaps")
