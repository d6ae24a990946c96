"""The README's code and the examples run, on small studies."""

import re
import runpy
from pathlib import Path

import pytest

from sklearn_molge.datasets import make_perturbation_study

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_readme_code_runs(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    quick_start, towers, study = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names = {}
    exec(compile(quick_start, "README.md", "exec"), names)
    mrr, similarities = capsys.readouterr().out.split("\n", 1)
    assert float(mrr) > 0.15  # chance is 0.05
    assert len(re.findall(r"-?\d\.\d+", similarities)) == 2
    exec(compile(towers, "README.md", "exec"), names)
    assert "valid_mrr" in capsys.readouterr().out
    assert len(names["embedder"].history) == 3
    assert not list((tmp_path / "checkpoints").iterdir())  # it was not interrupted
    exec(compile(study, "README.md", "exec"), names)
    assert names["report"].tables["table1"].index.tolist() == ["chance", "mine"]
    assert (tmp_path / "report" / "report.html").exists()


@pytest.mark.slow
def test_compare_methods(tmp_path):
    example = runpy.run_path(str(ROOT / "examples" / "compare_methods.py"))
    study = make_perturbation_study(
        200, n_cell_lines=4, n_genes=150, level=5, random_state=0
    )
    ranks, queries = example["evaluate"](study, n_draws=1)
    assert all(len(values) == len(queries) for values in ranks.values())
    table = example["score_table"](ranks, queries)
    assert table.index[0] == "chance"
    assert {"CCA, Morgan", "D-NN, Morgan", "oracle, test lines"} <= set(table.index)
    example["draw"](ranks, queries, tmp_path / "recall.png")
    assert (tmp_path / "recall.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_plate_controls(level3_folder):
    pytest.importorskip("anndata")
    example = runpy.run_path(str(ROOT / "examples" / "plate_controls.py"))
    with pytest.warns(UserWarning, match="readable SMILES|not in every study"):
        study = example["load"](level3_folder)
    assert set(study.obs["cell_line"]) == {"A375", "HT115"}
    assert study.control_obs.groupby("plate").size().to_dict() == {
        "CPC006_A375_6H_X1": 16,
        "CPC006_HT115_6H_X1": 9,
        "CPC006_HT115_6H_X2": 11,
    }
    assert study.paired_ge().shape == (len(study), 2 * len(study.genes))
