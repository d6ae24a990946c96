"""Controls: they stand in each table, below a line, marked, and are never the best."""

import re

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.pipeline import make_pipeline

from sklearn_molge.evaluation import (
    AlignedView,
    Method,
    ReportTable,
    Section,
    StudyReport,
    draw_split,
    finlayson2020_methods,
)
from sklearn_molge.metrics import retrieval_ranks
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import (
    DoubleNNRetriever,
    DrugBlindRetriever,
    OracleRetriever,
    RandomRetriever,
)

KINDS = ["shuffled_molecules", "drug_blind"]
ORDERED = "molecules in random order"
DNN = make_pipeline(MorganFingerprinter(), DoubleNNRetriever())
MEANS = "means of cell lines in the place of profiles"


@pytest.fixture(scope="module")
def report(study, cca, run):
    methods = {
        "blind": Method(DNN, label="mine, blind", drug_blind=True),
        "CCA": cca(),
        "oracle": Method(
            OracleRetriever(), tables=("table2",), train="oracle_train_lines"
        ),
        "ablated": Method(cca(2), tables=("ablations",)),
    }
    return run(study, methods, controls=True, figures=True)


def test_each_table_has_both_kinds(report):
    for name in ("table1", "table2", "ablations"):
        table = report.tables[name]
        assert set(table["control"]) == {"", ORDERED, MEANS}
    # table 1 has a drug-blind row of its own
    names = ["chance", "blind", "CCA", "shuffled_molecules"]
    assert report.tables["table1"].index.tolist() == names
    rest = ["chance", "oracle", *KINDS]
    assert report.tables["table2"].index.tolist() == rest
    assert (report.tables["table1"]["error"] == "").all()


def test_the_default_methods_have_both_in_each_table():
    controls = {n: m for n, m in finlayson2020_methods().items() if m.control}
    assert [m.control for m in controls.values()] == [ORDERED, MEANS]
    for method in controls.values():
        assert method.tables == ("table1", "table2", "ablations")
        assert not method.is_classical


def test_a_shuffled_control_is_the_first_method_on_shuffled_molecules(study, cca, run):
    options = {"n_repeats": 1, "figures": False}
    added = run(study, {"CCA": cca()}, controls=True, **options)
    own = {"CCA": cca(), "other": Method(cca(), shuffle_molecules=True)}
    expected = run(study, own, **options)
    assert added.ranks["shuffled_molecules"].equals(expected.ranks["other"])
    assert added.tables["table1"].loc["shuffled_molecules", "label"] == (
        "CCA, shuffled molecules"
    )


@pytest.mark.filterwarnings("ignore:.*as near to each:UserWarning")  # so meant
def test_the_drug_blind_control_by_a_plain_loop(study, cca, run):
    split = draw_split(study.groups, random_state=0)
    options = {"split": split, "n_repeats": 1, "controls": True}
    report = run(study, {"CCA": cca()}, **options)
    X, y, (train, test) = study.smiles, study.ge, (split.train, split.test)
    lines = study.groups[train, 1]
    means = np.array([y[train][lines == line].mean(axis=0) for line in lines])
    model = clone(DNN).fit(X[train], means)
    ranks = retrieval_ranks(model, X[test], y[test])
    np.testing.assert_array_equal(report.ranks["drug_blind"], ranks)


def test_which_rows_are_controls(cca):
    blind = make_pipeline(
        MorganFingerprinter(), DrugBlindRetriever(DoubleNNRetriever())
    )
    assert Method(cca(), shuffle_molecules=True).control == ORDERED
    assert Method(blind).control == MEANS
    both = Method(blind, shuffle_molecules=True, drug_blind=True)
    assert both.control == f"{ORDERED}; {MEANS}"
    assert Method(RandomRetriever()).control == "random numbers"
    # one of several that are selected from is none
    assert Method([RandomRetriever(), cca()]).control == ""
    assert Method(cca()).is_classical
    assert not Method(blind).is_classical


def test_a_control_is_not_the_baseline_however_good(study, run):
    methods = {"a": RandomRetriever(random_state=0), "b": DNN}
    report = run(study, methods)
    assert report.settings["baseline"] == "b"
    named = run(study, methods, baseline="a")
    assert named.settings["baseline"] == "a"


def test_text_has_a_line_above_the_controls(report):
    lines = str(report).splitlines()
    start = next(i for i, line in enumerate(lines) if "(table1)" in line)
    block = lines[start + 1 : lines.index("", start)]
    rules = [i for i, line in enumerate(block) if set(line) == {"-"}]
    assert len(rules) == 1
    above, below = block[: rules[0]], block[rules[0] + 1 :]
    assert [line.split("  ")[0] for line in above] == ["method", "chance", "CCA"]
    assert all("(control)" in line for line in below)
    assert len(below) == 2
    text = " ".join(" ".join(lines).split())
    assert f"mine, blind: {MEANS}" in text


def test_page_has_a_line_above_the_controls(report, tmp_path):
    html = report.save(tmp_path / "report").read_text(encoding="utf-8")
    table = html.split('id="table-table1"')[1].split("</table>")[0]
    rows = re.findall(r"<tr(?: class=\"([^\"]*)\")?>", table)
    assert rows == ["", "chance", "", "control", "control"]
    assert table.count('<span class="tag">control</span>') == 2
    assert "tr:not(.control) + tr.control" in html
    assert "it cannot know what the drug does" in html
    loaded = StudyReport.load(tmp_path / "report")
    assert str(loaded) == str(report)


def test_a_failed_control_stays_below_the_line():
    frame = pd.DataFrame(
        {
            "mrr": [0.1, np.nan, 0.3],
            "error": ["", "ValueError: none", ""],
            "control": ["", "random numbers", ""],
        },
        index=pd.Index(["a", "bad", "b"], name="method"),
    )
    made = StudyReport("t", [Section("s", {"scores": ReportTable(frame)})])
    assert str(made).splitlines()[3:] == [
        "method          MRR", "a             0.100", "b             0.300",
        "-------------------", "bad (failed)      -", "bad: ValueError: none",
    ]  # fmt: skip
    html = made._repr_html_()
    assert '<tr class="failed control">' in html
    assert '<span class="tag">failed</span> <span class="tag">control</span>' in html
    assert made.tables["scores"].index.tolist() == ["a", "bad", "b"]


def test_notes_say_what_controls_score(report, study, cca, run):
    notes = " ".join(report.notes)
    interval = r"0\.\d+ \[0\.\d+, 0\.\d+\]"
    assert re.search(f"Controls, .*: mine, blind {interval}; CCA, shuff", notes)
    assert "No control stands" not in notes
    alone = run(study, {"CCA": cca()}, n_repeats=1)
    assert any("controls=True adds" in note for note in alone.notes)


def test_a_control_above_chance_is_said(study, cca, run):
    # the molecules of the lines that are tested are told by their lines
    class_of = {d: i % 5 for i, d in enumerate(np.unique(study.groups[:, 0]))}
    lines = np.unique(study.groups[:, 1])
    own = np.array([lines[class_of[d]] for d in study.groups[:, 0]])
    leaky = Method(cca(3), drug_blind=True, train="oracle_test_lines")
    kept = study[own == study.groups[:, 1]]
    report = run(
        kept, {"CCA": cca(2), "leaky": leaky}, n_repeats=1,
        split={"hold_out": "drugs", "test_drugs": 0.6, "val_drugs": 0},
    )  # fmt: skip
    assert any(note.startswith("Above chance: leaky.") for note in report.notes)


def test_curves_of_controls_come_last(report):
    figure = report.figures["recall_at_k"]
    assert "Oracles" in figure.alt
    assert "dotted grey lines are controls" in figure.caption


def test_what_no_control_can_be_made_of(study, net, cca, run):
    with pytest.raises(ValueError, match="controls=True needs a method that is fitted"):
        run(study, {"net": AlignedView()}, embedders={"aligned": net()}, controls=True)
    with pytest.raises(ValueError, match="adds a method 'drug_blind': name yours"):
        run(study, {"CCA": cca(), "drug_blind": cca()}, controls=True)
