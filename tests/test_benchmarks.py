"""The benchmarks run, on tiny sizes, and say what they measured."""

import importlib
import json
import re
from argparse import Namespace
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMES = (
    "training", "embedding", "search", "cca", "ranks", "identity", "files",
    "gaussian_process", "journeys", "page", "quality", "deep", "calibration",
    "connectivity",
)  # fmt: skip


@pytest.fixture
def load(monkeypatch):
    """Return a function: a module of the folder of benchmarks."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module


@pytest.fixture
def results(load, tmp_path, capsys):
    """Return a function: what a call of the runner wrote, and what it printed."""

    def run(*arguments):
        path = tmp_path / "results.json"
        load("run").main([*arguments, "--json", str(path)])
        return json.loads(path.read_text(encoding="utf-8")), capsys.readouterr().out

    return run


def check_record(record):
    """A record says what it is, and its intervals hold their value."""
    assert record["what"]
    assert ("ratio" in record) == ("peer" in record and "skipped" not in record)
    for key, value in record.items():
        if key in {"ratio", "gain", "mrr"} or key.endswith("_s"):
            numbers = value if isinstance(value, list) else [value]
            middle, low, high = numbers if len(numbers) == 3 else numbers * 3
            assert low - 1e-9 <= middle <= high + 1e-9, key
            assert key == "gain" or low >= 0, key
        elif key.endswith("_mib"):
            assert not value < 0, key  # NaN where it cannot be read


# The sizes are so small that warnings about them are right.
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", NAMES)
def test_smoke(results, name):
    found, printed = results(name, "--smoke")
    assert found["machine"]["cores"] > 0
    assert {"python", "numpy", "scikit-learn"} <= found["versions"].keys()
    assert re.match(r"\d{4}-\d\d-\d\dT", found["date"])
    assert found["options"][name]["smoke"] is True
    records = found["records"]
    for record in records:
        assert record["benchmark"] == name
        check_record(record)
        assert f"| {record['what']} |" in printed
    assert any({"ratio", "mrr"} & record.keys() for record in records)
    assert not [record for record in records if "failed" in record]


def test_names_are_those_of_the_runner(load):
    assert load("run").NAMES == NAMES
    with pytest.raises(SystemExit, match=r"NAME must be one of .*ranks.* Got 'rank'"):
        load("run").main(["rank"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--repeats", "0"], "--repeats must be at least 1. Got 0"),
        (["--threads", "-1"], "--threads must be at least 1. Got -1"),
        (["--json", "no/such/folder/results.json"], "there is no such folder"),
    ],
)
def test_options_are_checked_before_the_work(load, capsys, arguments, said):
    with pytest.raises(SystemExit, match="2"):
        load("run").main(["ranks", *arguments])
    assert said in capsys.readouterr().err


def test_each_name_gets_a_process_and_a_failure_stops_no_other(load):
    found = load("run").run_apart(["none", "ranks"], ["--smoke"])
    failed, *records = found["records"]
    assert failed["benchmark"] == "none"
    assert "exit status" in failed["failed"]
    assert {record["benchmark"] for record in records} == {"ranks"}
    assert set(found["options"]) == {"ranks"}


def test_real_data_that_is_not_named_is_said(results):
    found, printed = results("connectivity")
    (record,) = found["records"]
    assert "--data" in record["skipped"]
    assert record["skipped"] in printed


def test_table_of_a_file(results, load, tmp_path, capsys):
    _, printed = results("ranks", "--smoke")
    load("run").main(["--table", str(tmp_path / "results.json")])
    assert capsys.readouterr().out == printed
    assert "| rank_embeddings, euclidean | queries 60, candidates 20 |" in printed


def test_two_programs_are_called_in_turn(load, monkeypatch):
    timing = load("_timing")
    calls = []
    seconds = iter([0, 0, 0, 2, 0, 1, 0, 3, 0, 2, 0, 8, 0, 2])
    monkeypatch.setattr(timing, "clock", lambda options: lambda: next(seconds))
    options = Namespace(repeats=3, threads=1, device="cpu")
    ours, peer = timing.in_turn(
        [lambda: calls.append("A"), lambda: calls.append("B")], options
    )
    assert "".join(calls) == "ABABABAB"
    assert (ours, peer) == ([2, 3, 8], [1, 2, 2])  # the first pair warmed up
    record = timing.ratio_record("it", ours, peer, against="that", goal=0.5)
    # The ratios are 2, 1.5 and 4.
    assert record == {
        "what": "it", "sizes": {}, "peer": "that", "ratio": [2.0, 1.5, 4.0],
        "goal": 0.5, "ours_s": [3.0, 2.0, 8.0], "peer_s": [2.0, 1.0, 2.0],
    }  # fmt: skip


def test_peer_that_is_not_installed_is_named(load):
    missing = load("_timing").missing
    assert missing("it", "numpy") is None
    record = missing("it", "no_such_package", "its RidgeCCA")
    assert record["peer"] == "its RidgeCCA"
    assert record["skipped"] == "no_such_package is not installed"


def test_documentation_names_benchmarks_that_are_there():
    named = set()
    for path in (*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md"):
        text = path.read_text(encoding="utf-8")
        named |= set(re.findall(r"benchmarks/run\.py ([a-z]\w*)", text))
    assert named <= set(NAMES)
