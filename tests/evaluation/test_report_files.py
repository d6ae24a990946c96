import csv
import hashlib
import json
import os
import re
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from sklearn_molge.evaluation import ReportFigure, ReportTable, Section, StudyReport
from sklearn_molge.exceptions import CorruptFileError

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
    for text in ("{}", '{"format": 2, "sections": []}', "[1]"):
        (tmp_path / "report.json").write_text(text)
        with pytest.raises(CorruptFileError, match=r"report\.json.*of format 3"):
            StudyReport.load(tmp_path)


TEXTS = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "\uff1d1", "-"]
OTHERS = [
    "'=1",
    "''@x",
    "'a",
    "'",
    "a=1",
    "",
    "NA",
    "nan",
    "1e5",
    '"=1"',
    "a\r=b",
]


def test_formulas_are_no_formulas_in_csv_and_come_back(tmp_path):
    """OWASP's list; what has a quote of its own gets one more."""
    texts = TEXTS + OTHERS
    numbers = np.linspace(-1, 1, len(texts))
    table = pd.DataFrame(
        {"a": texts, "n": numbers, "=b": pd.Categorical(texts)},
        index=pd.Index(texts, name="@i"),
    )
    ranks = pd.DataFrame({"drug": texts, "=m": numbers})
    section = Section("Results", {"scores": ReportTable(table)})
    StudyReport("A study", [section], ranks=ranks).save(tmp_path)
    for name in ("tables/scores.csv", "ranks.csv"):
        with (tmp_path / name).open(encoding="utf-8", newline="") as file:
            header, *rows = csv.reader(file)
        assert not [text for text in header if text[0] in "=@"]
        for cells, text, number in zip(rows, texts, numbers, strict=True):
            n = header.index("n" if "n" in header else "'=m")
            assert cells.pop(n) == repr(float(number))  # a number keeps its minus
            guarded = f"'{text}" if text in TEXTS or text[:2] in ("'=", "''") else text
            assert set(cells) == {guarded}
    report = StudyReport.load(tmp_path)
    assert_frame_equal(report.ranks, ranks)
    loaded = report.tables["scores"]
    assert_frame_equal(loaded[["a", "n"]], table[["a", "n"]])
    assert list(loaded["=b"]) == texts


def test_formulas_among_other_things_are_no_formulas():
    """Found by the fuzzer: a column of objects that are not all texts."""
    frame = pd.DataFrame({"x": ["=1", None, -1.5, True]})
    assert ReportTable(frame).to_csv() == 'x\n\'=1\n""\n-1.5\nTrue\n'
    frame = pd.DataFrame({"x": pd.array(["=1", None], dtype="string"), "n": [-1, 2]})
    assert ReportTable(frame).to_csv() == "x,n\n'=1,-1\n,2\n"


def test_texts_of_the_ranks_come_back_with_zeros_inside(tmp_path):
    report = small_report(pd.DataFrame({"x": [1.0]}))
    report.ranks = pd.DataFrame({"drug": ["a\0b", "\0"], "m": [1 / 3, 1e-300]})
    report.save(tmp_path)
    assert_frame_equal(StudyReport.load(tmp_path).ranks, report.ranks, check_exact=True)


def sealed(folder, change=None, **files):
    """Write a report as a hostile hand would: its checksums are right."""
    metadata = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    metadata.pop("sha256")
    for name, content in files.items():
        name = name.replace("__", "/", 1).replace("__", ".")
        (folder / name).write_bytes(content)
        metadata["files"][name] = hashlib.sha256(content).hexdigest()
    if change is not None:
        change(metadata)
    text = json.dumps(metadata, indent=1, ensure_ascii=False)
    metadata["sha256"] = hashlib.sha256(text.encode()).hexdigest()
    text = json.dumps(metadata, indent=1, ensure_ascii=False)
    (folder / "report.json").write_text(text, encoding="utf-8")


def rename_items(name):
    def change(metadata):
        items = metadata["sections"][0]["items"]
        metadata["sections"][0]["items"] = {name: items["scores"]}

    return change


def with_value(value, *keys):
    def change(metadata):
        at = metadata
        for key in keys[:-1]:
            at = at[key]
        at[keys[-1]] = value

    return change


@pytest.fixture
def small(tmp_path):
    folder = tmp_path / "report"
    report = small_report(pd.DataFrame({"x": [1.0, 2.0], "s": ["a", "b"]}))
    report.ranks = pd.DataFrame({"drug": ["a", "b"], "m": [1.0, 2.0]})
    picture = ReportFigure("T", "C", "A", "<svg/>")
    report.sections.append(Section("More", {"picture": picture}))
    report.save(folder)
    return folder


def test_every_changed_byte_is_found(small):
    for path in ("report.json", "tables/scores.json", "ranks.csv"):
        content = (small / path).read_bytes()
        for at in range(0, len(content), 7):
            changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
            (small / path).write_bytes(changed)
            with pytest.raises(CorruptFileError, match=re.escape(str(small))):
                StudyReport.load(small)
        (small / path).write_bytes(content)
    assert len(StudyReport.load(small).ranks) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (rename_items("../../etc/passwd"), "must have names of letters"),
        (rename_items("/etc/passwd"), "must have names of letters"),
        (with_value([], "sections", 0, "items"), "'items'"),
        (with_value("table", "sections", 0, "kind"), "entry 0 has"),
        (with_value(7, "sections", 0, "items", "scores", "caption"), "'scores'"),
        (with_value({"a": 1}, "settings"), "'settings': 'a' is 1"),
        (with_value({"a": 10**400}, "seconds"), "too large"),
        (with_value({"a": True}, "seconds"), "'seconds': 'a' is True"),
        (with_value(10**9, "columns", "mrr", "decimals"), "decimals must be"),
        (with_value("\ud800", "title"), "surrogates not allowed"),
        (with_value("int64", "ranks", 1, "extDtype"), "columns of type 'int64'"),
        (with_value([], "notes"), None),
    ],
)
def test_hostile_words_of_a_report(small, change, message):
    text = (small / "report.json").read_text()
    assert "decimals" in text
    try:
        sealed(small, change)
    except UnicodeEncodeError:  # as JSON can hold it
        (small / "report.json").write_text(text.replace('"A study"', '"\\ud800"'))
    if message is None:
        assert StudyReport.load(small).title == "A study"
        return
    with pytest.raises(CorruptFileError, match=message) as told:
        StudyReport.load(small)
    assert told.value.path.startswith(str(small))


def table(values, **field):
    schema = {"fields": [{"name": "x"} | field]}
    rows = [{"x": value} for value in values]
    return json.dumps({"schema": schema, "data": rows}).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (table(["a"], type="string", extDtype="S2000000000"), "'S2000000000' are not"),
        (table(["a"], type="string", extDtype="U999999999"), "are not read"),
        (table([1], type="integer", extDtype="Sparse[int]"), "are not read"),
        (table([1], type="any", extDtype="object"), "are not read"),
        (table([1], type="import os"), "'import os' are not read"),
        (table([1], type=["number"]), "TypeError"),
        (table(["1_000"], type="number"), "row 0 of column 'x' holds no number"),
        (table([None], type="boolean"), "holds no boolean: None"),
        (table([1, 1.5], type="integer"), "row 1 of column 'x' holds no integer"),
        (table([10**400], type="any"), "holds no any"),
        (table([[1]], type="any"), "holds no any"),
        (table([1], type="number")[:-4], "JSONDecodeError"),
        (b'{"schema": {"fields": []}, "data": []}', "distinct columns"),
        (b"[" * 100_000, "RecursionError"),
        (b'{"schema": {"fields": [{"name": "x", "type": "number"}]}, "data": [NaN]}',
         "NaN is no JSON"),
    ],
)  # fmt: skip
def test_hostile_tables(small, content, message):
    sealed(small, tables__scores__json=content)
    with pytest.raises(CorruptFileError, match=message) as told:
        StudyReport.load(small)
    assert told.value.path == str(small / "tables/scores.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"drug,m\na,1\nb,2,3\n", "Expected 2 fields"),
        (b"drug,m\na,1,2\n", "more fields than its header"),
        (b"drug,m\na,x\n", "could not convert"),
        (b"drug,n\na,1\n", "columns are not those"),
        (b"", "columns are not those"),
        (b"drug,m\n\xff,1\n", "UnicodeDecodeError"),
        (b'drug,m\n"a', "EOF inside string"),
    ],
)
def test_hostile_ranks(small, content, message):
    sealed(small)
    (small / "ranks.csv").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    sealed(small, with_value(digest, "files", "ranks.csv"))
    with pytest.raises(CorruptFileError, match=message) as told:
        StudyReport.load(small)
    assert told.value.path == str(small / "ranks.csv")


def test_files_too_large_for_a_report_are_not_read(small):
    for name in ("report.json", "tables/scores.json", "ranks.csv"):
        content = (small / name).read_bytes()
        with (small / name).open("r+b") as file:
            file.truncate(1 << 40)  # of no bytes on the disk
        with pytest.raises(CorruptFileError, match=r"1,099,511,627,776 bytes, and at"):
            StudyReport.load(small)
        (small / name).write_bytes(content)


def test_a_report_larger_than_is_read_is_not_written(tmp_path):
    report = small_report(pd.DataFrame({"x": ["a" * (1 << 25)]}))
    with pytest.raises(ValueError, match=r"tables/scores\.json cannot be written"):
        report.save(tmp_path / "new")
    report = small_report(pd.DataFrame({"x": ["\ud800"]}))
    with pytest.raises(ValueError, match=r"scores\.csv .* half a character"):
        report.save(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_nothing_is_read_outside_the_folder_or_waited_for(small, tmp_path):
    path, outside = small / "tables/scores.json", tmp_path / "scores.json"
    path.rename(outside)
    path.symlink_to(outside)
    with pytest.raises(CorruptFileError, match="a link that leaves the report"):
        StudyReport.load(small)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CorruptFileError, match="no regular file"):
        StudyReport.load(small)
    path.unlink()
    (small / "tables").rename(tmp_path / "tables")
    (small / "tables").symlink_to(tmp_path / "tables")
    outside.rename(tmp_path / "tables/scores.json")
    with pytest.raises(CorruptFileError, match="a link that leaves the report"):
        StudyReport.load(small)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_nothing_is_written_through_a_link(small, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.rmtree(small / "tables")
    (small / "tables").symlink_to(outside)
    report = small_report(pd.DataFrame({"x": [1.0]}))
    with pytest.raises(FileExistsError, match="tables is a link"):
        report.save(small)
    (small / "tables").unlink()
    (small / "report.html").unlink()
    (small / "report.html").symlink_to(outside / "page.html")
    report.save(small)
    assert not (small / "report.html").is_symlink()
    assert not list(outside.iterdir())


@pytest.mark.parametrize("name", ["report.html", "ranks.csv", "tables/mine.csv"])
def test_files_of_others_are_not_replaced(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    report = small_report(pd.DataFrame({"x": [1.0]}))
    with pytest.raises(
        FileExistsError, match=f"has {name.split('/')[0]} and no report"
    ):
        report.save(tmp_path)
    assert path.read_text() == "mine"
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]


def test_a_save_that_was_killed_is_told_and_repeated(tmp_path, monkeypatch):
    def killed(self, *args):
        raise KeyboardInterrupt

    report = small_report(pd.DataFrame({"x": [1.0]}))
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", killed)
        with pytest.raises(KeyboardInterrupt):
            report.save(tmp_path)
    (tmp_path / "report.html").touch()
    (tmp_path / "report.json").write_text('{\n "format": 3,\n "unfinished": true\n}')
    with pytest.raises(CorruptFileError, match="not written to its end"):
        StudyReport.load(tmp_path)
    report.save(tmp_path)
    assert StudyReport.load(tmp_path).title == "A study"


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>", "<g onload='alert(1)'/>", "<SCRIPT/>",
        "<foreignObject/>", "<a href='javascript:alert(1)'/>",
        "<image href='https://example.org/x.png'/>", "<use href='other.svg#a'/>",
        "<style>@import 'x.css';</style>", "<style>@im<!-- -->port 'x'</style>",
        "<style>*{fill: u&#114;l(x.svg)}</style>", "<g style='fill: url(x.svg)'/>",
        "<g fill='u\\72l(x.svg)'/>", "<set attributeName='href' to='javascript:a'/>",
        "<img xmlns='http://www.w3.org/1999/xhtml' src='data:image/png;base64,'/>",
        "<?xml-stylesheet href='x.css'?>", "<g>",
    ],
)  # fmt: skip
def test_a_picture_is_a_picture(small, inside):
    content = f"<svg xmlns='http://www.w3.org/2000/svg'>{inside}</svg>".encode()
    with pytest.raises(ValueError, match="svg must be a picture and nothing more"):
        ReportFigure("T", "C", "A", content.decode())
    sealed(small, figures__picture__svg=content)
    with pytest.raises(CorruptFileError, match="a picture and nothing more") as told:
        StudyReport.load(small)
    assert told.value.path == str(small / "figures/picture.svg")


def test_what_a_picture_may_hold():
    inside = (
        "<style>*{stroke: red}</style><g id='a' clip-path='url(#b)'/>"
        "<g fill=\"url( '#c')\" transform='translate(1 2)'/>"
        "<use href='#a'/><image href='data:image/png;base64,AA'/><text>url(x)</text>"
    )
    assert inside in ReportFigure("T", "C", "A", f"<svg>{inside}</svg>").svg


def test_control_characters_do_not_reach_a_terminal():
    report = small_report(pd.DataFrame({"x": ["\x1b]0;owned\x07"], "y": ["a\rb"]}))
    report.title = "\x1b[2J"
    report.notes = ["\x9b31m"]
    shown = str(report)
    assert not [c for c in shown if not c.isprintable() and c != "\n"]
    assert r"\x1b]0;owned\x07" in shown
