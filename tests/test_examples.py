"""The README's code and the examples run, on small studies."""

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest

from sklearn_molge import datasets
from sklearn_molge.datasets import make_perturbation_study

ROOT = Path(__file__).parents[1]


def smaller_study(n_molecules=150, *, n_genes=150, **params):
    return make_perturbation_study(n_molecules, n_genes=n_genes, **params)


@pytest.mark.slow
def test_readme_code_runs(capsys, monkeypatch, tmp_path):
    # Word for word, with half of the molecules and a sixth of the genes by default.
    monkeypatch.setattr(datasets, "make_perturbation_study", smaller_study)
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    quick_start, sure, towers, study, search, release, share = blocks
    names = {}
    exec(compile(quick_start, "README.md", "exec"), names)
    mrr, similarities = capsys.readouterr().out.split("\n", 1)
    assert len(names["study"].genes) == 150
    assert float(mrr) > 0.15  # chance is 0.09
    assert len(re.findall(r"-?\d\.\d+", similarities)) == 2
    exec(compile(sure, "README.md", "exec"), names)
    beliefs = names["sure"].predict_belief(names["library"], names["small"].ge[:1])
    assert beliefs.sum() == pytest.approx(1)
    assert re.match(r"\[\[ ?(True|False) ", capsys.readouterr().out)
    exec(compile(towers, "README.md", "exec"), names)
    assert "valid_mrr" in capsys.readouterr().out
    assert len(names["embedder"].history) == 3
    assert not list((tmp_path / "checkpoints").iterdir())  # it was not interrupted
    exec(compile(study, "README.md", "exec"), names)
    assert names["report"].tables["table1"].index.tolist() == ["chance", "mine"]
    assert (tmp_path / "report" / "report.html").exists()
    exec(compile(search, "README.md", "exec"), names)
    assert set(names["answer"]["molecule"]) == set(names["library"])
    assert (tmp_path / "library-index" / "index.sqlite").exists()
    exec(compile(share, "README.md", "exec"), names)
    assert (tmp_path / "model.molge").exists()
    # Needs gigabytes of files: what it imports exists, at least.
    exec(compile(release.split("\n\n")[0], "README.md", "exec"), names)


@pytest.mark.slow
def test_compare_methods(capsys, tmp_path):
    example = runpy.run_path(str(ROOT / "examples" / "compare_methods.py"))
    study = make_perturbation_study(
        200, n_cell_lines=4, n_genes=150, level=5, random_state=0
    )
    ranks, queries = example["evaluate"](study, n_draws=1)
    assert all(len(values) == len(queries) for values in ranks.values())
    table = example["score_table"](ranks, queries)
    assert table.index[0] == "chance"
    assert {example["BASELINE"], example["BEST"], example["SHUFFLED"]} < set(
        table.index
    )
    assert set(example["CEILINGS"].values()) < set(table.index)
    example["draw"](ranks, queries, tmp_path / "recall.png")
    assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG")
    example["ask"](study, tmp_path)
    assert (tmp_path / "answer.png").read_bytes().startswith(b"\x89PNG")
    assert "data:image/svg" in (tmp_path / "answer.html").read_text(encoding="utf-8")
    said = capsys.readouterr().out
    assert "One query, drawn by lot" in said
    assert example["load"]("simulated", 4).level == 4


@pytest.mark.slow
def test_search_library(capsys, tmp_path):
    example = runpy.run_path(str(ROOT / "examples" / "search_library.py"))
    study = make_perturbation_study(
        200, n_cell_lines=4, n_genes=150, level=5, random_state=0
    )
    train, test = example["divide"](study)
    assert not set(train.groups[:, 0]) & set(test.groups[:, 0])
    assert not set(train.groups[:, 1]) & set(test.groups[:, 1])
    index = example["embed_library"](train, study.smiles, tmp_path / "index")
    known, ranks = example["rank_true_molecules"](index, test)
    assert known.all()
    row = example["strongest_query"](ranks, known)
    assert ranks[row] == ranks.min()
    example["ask"](index, test, row, tmp_path)
    assert f"by the profile             {ranks[row]:.1f}" in capsys.readouterr().out
    assert (tmp_path / "answer.png").read_bytes().startswith(b"\x89PNG")
    assert len(pd.read_csv(tmp_path / "answer.csv")) == 10


@pytest.mark.slow
def test_plate_controls(level3_folder):
    pytest.importorskip("anndata")
    example = runpy.run_path(str(ROOT / "examples" / "plate_controls.py"))
    said = "readable SMILES|not in every study|have the dose 0"
    with pytest.warns(UserWarning, match=said):
        study = example["load"](level3_folder)
    assert set(study.obs["cell_line"]) == {"A375", "HT115"}
    assert study.control_obs.groupby("plate").size().to_dict() == {
        "CPC006_A375_6H_X1": 16,
        "CPC006_HT115_6H_X1": 9,
        "CPC006_HT115_6H_X2": 11,
    }
    assert study.paired_ge().shape == (len(study), 2 * len(study.genes))
