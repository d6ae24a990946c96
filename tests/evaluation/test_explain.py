"""What explains the scores: parts that fail alone, the first embedder, the maps."""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA

# To see how many rows a map is drawn from; no report tells.
from sklearn_molge.evaluation import AlignedView, _explain
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter

SPLIT = {"val_drugs": 0.2, "test_drugs": 0.3, "val_cell_lines": 1}


@pytest.mark.parametrize("level", [None, 3])
def test_without_a_test_of_genes_the_distances_stay(study, level, cca, run, remade):
    odd = remade(study, level=level)
    report = run(
        odd, {"own": AlignedView()}, embedders={"aligned": cca()}, inspect=True,
        n_repeats=1,
    )  # fmt: skip
    assert "aligned_molecule" in report.tables["regressions"].index
    assert "n_genes" not in report.tables["regressions"].index
    (note,) = [note for note in report.notes if "failed" in note]
    assert note.startswith("The inspection of specificity failed: ValueError")


class Unlucky(CCA):
    def fit(self, X, y):
        if len(y) == UNLUCKY["rows"]:
            raise RuntimeError("bad luck")
        return super().fit(X, y)

    def transform_ge(self, y):
        return super().transform_ge(y) * UNLUCKY["factor"]


UNLUCKY = {"rows": 0, "factor": 1.0}


def test_an_embedder_that_fails_in_one_repeat(study, monkeypatch, cca, run, errors):
    splits = [
        drug_cell_line_split(study.groups, test_drugs=n, test_cell_lines=2)
        for n in (0.3, 0.4)
    ]
    monkeypatch.setitem(UNLUCKY, "rows", len(splits[0].train))
    embedder = make_pipeline(MorganFingerprinter(fp_size=64), Unlucky(3, ridge=0.1))
    report = run(
        study, {"own": AlignedView(), "CCA": cca()}, embedders={"aligned": embedder},
        inspect=True, split=splits,
    )  # fmt: skip
    said = "embedder aligned: RuntimeError: bad luck (in 1 of 2 repeats)"
    assert errors(report) == [said]
    assert set(report.tables["mixing"]["repeat"]) == {1}
    assert set(report.tables["mechanisms"]["repeat"]) == {1}
    assert report.ranks["own"].isna().equals(report.ranks["repeat"] == 0)
    assert any("not explained in repeat 0: RuntimeError" in n for n in report.notes)


def test_an_embedder_that_diverged_loses_its_rows_only(study, monkeypatch, cca, run):
    monkeypatch.setitem(UNLUCKY, "factor", np.nan)
    embedder = make_pipeline(MorganFingerprinter(fp_size=64), Unlucky(3, ridge=0.1))
    report = run(
        study, {"own": AlignedView(), "CCA": cca()}, embedders={"aligned": embedder},
        inspect=True,
    )  # fmt: skip
    assert np.isfinite(report.tables["table1"].loc["CCA", "mrr"])
    assert any("not explained in repeat 0, 1" in note for note in report.notes)


def test_the_first_embedder_is_explained_whichever_ends_first(study, cca, net, run):
    slow = net()
    slow.set_params(max_epochs=15)
    tables = [
        run(
            study, {"m": AlignedView("both", embedder="b")}, n_repeats=1, n_jobs=n,
            embedders={"a": slow, "b": cca(4)}, inspect=True,
        ).tables["regressions"]
        for n in (1, 2)
    ]  # fmt: skip
    pd.testing.assert_frame_equal(*tables)


def test_many_test_rows_do_not_drown_the_map(study, level3, monkeypatch):
    monkeypatch.setattr(_explain, "_MOST_ROWS", 40)
    for data in (study, level3):
        y = data.ge if data.control_ge is None else data.paired_ge()
        split = drug_cell_line_split(
            data.groups, test_drugs=0.6, test_cell_lines=2, random_state=0
        )
        drawn, kinds = _explain._profiles_to_draw(data, y, data.groups, split)
        assert drawn.shape == (40, y.shape[1])
        assert {len(labels) for labels in kinds.values()} == {40}
        assert set(kinds["train or test"]) >= {"train", "test"}
