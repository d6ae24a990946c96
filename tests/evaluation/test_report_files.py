import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from sklearn_molge.evaluation import ReportTable, Section, StudyReport

example = runpy.run_path(str(Path(__file__).with_name("example_report.py")))


@pytest.fixture(scope="module")
def report():
    return example["make_report"]()


@pytest.fixture(scope="module")
def folder(report, tmp_path_factory):
    return report.save(tmp_path_factory.mktemp("report")).parent


def small_report(frame):
    return StudyReport("A study", [Section("Results", {"scores": ReportTable(frame)})])


def test_files(report, folder):
    written = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
    tables = [f"tables/{n}.{kind}" for n in report.tables for kind in ("csv", "json")]
    pictures = [f"figures/{n}.{k}" for n in report.figures for k in ("svg", "png")]
    alone = ["report.html", "report.json", "ranks.csv"]
    assert written == {*tables, *pictures, *alone}
    assert_frame_equal(pd.read_csv(folder / "ranks.csv"), report.ranks)
    for name, frame in report.tables.items():
        csv = pd.read_csv(folder / f"tables/{name}.csv", float_precision="round_trip")
        if frame.index.name is not None:
            csv = csv.set_index(frame.index.name)
        numbers = frame.select_dtypes("number").columns
        assert_frame_equal(csv[numbers], frame[numbers], check_exact=True)
        with (folder / f"tables/{name}.json").open(encoding="utf-8") as file:
            fields = json.load(file)["schema"]["fields"]
        assert [each["name"] for each in fields][-1] == frame.columns[-1]


def test_load_gives_the_report_back(report, folder, tmp_path):
    again = StudyReport.load(folder)
    assert list(again.tables) == list(report.tables)
    for name, frame in report.tables.items():
        assert_frame_equal(again.tables[name], frame, check_exact=True)
    assert_frame_equal(again.ranks, report.ranks)
    assert again.figures == report.figures
    for section, old in zip(again.sections, report.sections, strict=True):
        assert (section.title, section.text) == (old.title, old.text)
        assert list(section.items) == list(old.items)
    same = "title description settings versions seconds command notes columns"
    for name in same.split():
        assert getattr(again, name) == getattr(report, name)
    page = again.save(tmp_path)
    assert page.read_bytes() == (folder / "report.html").read_bytes()


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"x": [0.1, np.inf, -np.inf, np.nan, 1 / 3]}),
        pd.DataFrame({"x": [1, 2], "ok": [True, False]}, index=["a", "a"]),
        pd.DataFrame(
            {"x": pd.Series([1.5], dtype=float)}, index=pd.Index([7], name="n")
        ),
        pd.DataFrame({"x": pd.Series([], dtype=int), "y": pd.Series([], dtype=float)}),
        pd.DataFrame(
            {"x": [1.0, 2.0]},
            index=pd.MultiIndex.from_tuples([("a", 1), ("b", 2)], names=["k", "n"]),
        ),
    ],
)
def test_tables_come_back_with_all_digits(frame, tmp_path):
    small_report(frame).save(tmp_path)
    assert_frame_equal(
        StudyReport.load(tmp_path).tables["scores"], frame, check_exact=True
    )


def test_save_replaces_and_leaves_no_scraps(tmp_path):
    small_report(pd.DataFrame({"x": [1.0]})).save(tmp_path)
    (tmp_path / "tables/mine.txt").write_text("keep")
    page = small_report(pd.DataFrame({"x": [2.5]})).save(str(tmp_path))
    assert page == tmp_path / "report.html"
    assert (tmp_path / "tables/scores.csv").read_text() == "x\n2.5\n"
    assert sorted(p.name for p in (tmp_path / "tables").iterdir()) == [
        "mine.txt", "scores.csv", "scores.json",
    ]  # fmt: skip
    assert StudyReport.load(tmp_path).ranks.empty


TABLE = ReportTable(pd.DataFrame({"x": [1]}))


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ({"../x": TABLE}, r"must have names.*'\.\./x'"),
        ({"x": ReportTable(pd.DataFrame({1: [1]}))}, r"columns named by str.*\[1\]"),
        ({"x": ReportTable(pd.DataFrame())}, "at least one column"),
        (
            {"x": ReportTable(pd.DataFrame({"a": [1]}, pd.Index([3], name="a")))},
            "distinct names",
        ),
        ({"t": TABLE}, r"each name once. Got \['t'\]"),
    ],
)
def test_wrong_names_are_refused_before_anything_is_written(items, message, tmp_path):
    sections = [Section("A", {"t": TABLE}), Section("B", items)]
    report = StudyReport("A study", sections)
    with pytest.raises(ValueError, match=message):
        report.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_table_is_a_data_frame(tmp_path):
    with pytest.raises(TypeError, match=r"tables\['scores'\] must be a DataFrame"):
        small_report([1, 2]).save(tmp_path)
    bare = StudyReport("A study", [Section("A", {"t": TABLE.frame})])
    with pytest.raises(TypeError, match="must hold ReportTable and ReportFigure"):
        bare.save(tmp_path)


def test_load_refuses_what_is_no_report(tmp_path):
    with pytest.raises(FileNotFoundError):
        StudyReport.load(tmp_path)
    (tmp_path / "report.json").write_text("{}")
    with pytest.raises(ValueError, match="must be a report of format 2"):
        StudyReport.load(tmp_path)
