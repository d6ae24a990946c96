import json
import os
import re
import shlex
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import platformdirs
import pytest

from sklearn_molge import evaluation
from sklearn_molge.__main__ import main
from sklearn_molge.datasets import Study, make_perturbation_study
from sklearn_molge.evaluation import PaperOptions

CACHE = platformdirs.user_cache_path("sklearn_molge") / "evaluations"


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


class FakeReport:
    command = ""

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        return folder / "report.html"

    def __str__(self):
        return "the tables"


@pytest.fixture
def calls(monkeypatch):
    """Arguments of evaluate_study, which is not run."""
    made = []

    def evaluate_study(study, **options):
        report = FakeReport()
        made.append((study, options, report))
        return report

    monkeypatch.setitem(evaluation.__dict__, "evaluate_study", evaluate_study)
    return made


def evaluate(*arguments, out):
    small = ["--molecules", "20"] if "simulated" in arguments else []
    return main(["evaluate", "--out", str(out), *small, *map(str, arguments)])


def test_defaults(calls, tmp_path, capsys):
    assert evaluate("--data", "simulated", out=tmp_path / "new") == 0
    (study, options, report), *more = calls
    assert not more
    assert study.level == 5
    assert len(set(study.groups[:, 1])) == 8
    expected = make_perturbation_study(20, level=5, random_state=0)
    np.testing.assert_array_equal(study.ge, expected.ge)
    assert report.command.startswith("python -m sklearn_molge evaluate --out ")
    assert options == {
        "split": None, "paper": PaperOptions(), "n_repeats": 3, "baseline": None,
        "inspect": True,
        "cache_folder": CACHE, "random_state": 0,
        "n_jobs": None,
        "verbose": 0,  # no bars off a terminal
    }  # fmt: skip
    out = capsys.readouterr().out
    assert out.startswith("Study: 320 profiles (level 5) of 20 drugs")
    assert "the tables" in out
    assert out.rstrip().endswith("report.html")


def test_every_option(calls, tmp_path, capsys):
    weights = tmp_path / "dmpnn.pt"
    weights.touch()
    code = evaluate(
        "--data", "simulated", "--level", 3, "--preset", "paper", "--repeats", 2,
        "--test-drugs", 0.35, "--val-drugs", 4, "--test-cell-lines", "LINE01,LINE02",
        "--val-cell-lines", 1, "--encoder", weights, "--reference", "finlayson2020",
        "--no-ablations", "--no-inspection", "--jobs", -1, "--cache", tmp_path / "c",
        "--seed", 7, "--baseline", "cca_raw_morgan", "--quiet", out=tmp_path,
    )  # fmt: skip
    assert code == 0
    ((study, options, report),) = calls
    assert study.level == 3
    assert options.pop("split") == {
        "test_drugs": 0.35, "val_drugs": 4, "test_cell_lines": ["LINE01", "LINE02"],
        "val_cell_lines": 1,
    }  # fmt: skip
    command = shlex.split(report.command)
    assert command[:4] == ["python", "-m", "sklearn_molge", "evaluate"]
    assert "cca_raw_morgan" in command
    assert options == {
        "paper": PaperOptions("paper", weights, ablations=False, reference=True),
        "n_repeats": 2, "baseline": "cca_raw_morgan",
        "inspect": False, "cache_folder": tmp_path / "c", "random_state": 7,
        "n_jobs": -1,
        "verbose": 0,
    }  # fmt: skip
    out = capsys.readouterr().out
    assert out == f"The report is {tmp_path / 'report.html'}\n"


def test_options_are_called_as_the_parameters(calls, tmp_path):
    folder = tmp_path / "fits"
    evaluate(
        "--data", "simulated", "--cache-folder", folder, "--n-repeats", 2, "--n-jobs",
        1, "--random-state", 3, out=tmp_path,
    )  # fmt: skip
    options = calls[0][1]
    assert (options["cache_folder"], options["n_repeats"]) == (folder, 2)
    assert (options["n_jobs"], options["random_state"]) == (1, 3)


def test_the_noted_command_repeats_the_call(calls, tmp_path):
    evaluate("--data", "simulated", "--test-drugs", "0.2", out=tmp_path / "a b")
    noted = shlex.split(calls[0][2].command)
    assert main(noted[3:]) == 0
    assert calls[0][1] == calls[1][1]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1", 0.1), ("3", 3), ("0", 0), ("1", 1), ("HT29", ["HT29"]),
        ("HT29, PC3", ["HT29", "PC3"]), ("697,", ["697"]), ("22RV1", ["22RV1"]),
    ],
)  # fmt: skip
def test_share_number_or_names(calls, tmp_path, text, expected):
    evaluate("--data", "simulated", "--val-cell-lines", text, out=tmp_path)
    value = calls[0][1]["split"]["val_cell_lines"]
    assert value == expected
    assert type(value) is type(expected)


def test_geometry_of_the_paper(calls, tmp_path):
    evaluate("--data", "simulated", "--geometry", "paper", out=tmp_path)
    assert calls[0][1]["split"] == {
        "val_drugs": 0.1, "test_drugs": 0.1, "val_cell_lines": 1, "test_cell_lines": 1,
    }  # fmt: skip


@pytest.fixture
def h5ad(tmp_path):
    pytest.importorskip("anndata")
    obs = pd.DataFrame(
        {"cell_line": ["A549", "HT29", "PC3"], "pert_type": "trt_cp"},
        index=["one", "two", "three"],
    )
    genes = pd.DataFrame({"gene_id": [16, 23]})
    study = Study(["CCO", "CCN", "CCC"], ge=np.eye(3, 2), obs=obs, genes=genes, level=3)
    path = tmp_path / "plate.h5ad"
    study.to_anndata().write_h5ad(path)
    return path


def test_h5ad_and_named_lines(calls, tmp_path, h5ad):
    more = ["--geometry", "paper", "--test-cell-lines", "PC3"]
    assert evaluate("--data", h5ad, "--level", 3, *more, out=tmp_path / "out") == 0
    ((study, options, _),) = calls
    assert list(study.smiles) == ["CCO", "CCN", "CCC"]
    assert options["split"]["val_cell_lines"] == ["A549"]
    assert options["split"]["test_cell_lines"] == ["PC3"]


def test_lincs_filters(calls, tmp_path, monkeypatch):
    from sklearn_molge import datasets

    asked = {}

    def load_lincs(folder, **options):
        asked.update(options, folder=folder)
        return make_perturbation_study(3, n_genes=2, random_state=0)

    monkeypatch.setitem(datasets.__dict__, "load_lincs", load_lincs)
    evaluate(
        "--data", tmp_path, "--level", 4, "--pert-time", 24, "--pert-dose", 10,
        "--cell-lines", "A375,PC3", "--shared-by-all-lines", out=tmp_path / "out",
    )  # fmt: skip
    assert asked == {
        "folder": [str(tmp_path)], "level": 4, "pert_time": 24, "pert_dose": 10,
        "cell_lines": ["A375", "PC3"], "shared_by_all_lines": True,
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*genes of earlier names")
def test_real_plates_are_joined(calls, tmp_path, level3_folder):
    pytest.importorskip("anndata")
    with pytest.warns(UserWarning, match="readable SMILES|not in every study|dose 0"):
        code = evaluate(
            "--data", level3_folder / "CPC006_A375_6H_X1.level3.gct",
            level3_folder / "CPC006_HT115_6H_X1_X2.level3.h5ad", "--level", 3,
            "--metadata", level3_folder / "obs.csv", out=tmp_path,
        )  # fmt: skip
    assert code == 0
    ((study, *_),) = calls
    assert set(study.obs["cell_line"]) == {"A375", "HT115"}
    assert study.control_ge is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "--data: there is no nowhere"),
        (["--data", "simulated", "--weights", "no.pt"], "--encoder: there is no no.pt"),
        (["--data", "simulated", "--pert-time", "6"], "--pert-time: not for"),
        (["--data", "simulated", "x"], "--data: 'simulated' stands alone"),
        (["--data", ".", "--molecules", "9"], "--molecules is for --data simulated"),
        (["--data", "."], "error: .*level 5"),
    ],
)
def test_errors_are_said_on_stderr(calls, tmp_path, capsys, monkeypatch, arguments,
                                   message):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["evaluate", "--out", "report", *arguments]) == 2
    assert not calls
    output = capsys.readouterr()
    assert not output.out
    assert re.search(message, output.err, re.IGNORECASE), output.err
    assert "Traceback" not in output.err


@pytest.mark.filterwarnings("ignore:2 profiles on 1 plates have no control")
def test_filters_of_h5ad(calls, tmp_path, h5ad):
    lines = ["--cell-lines", "A549,PC3", "--level", 3, "--all-genes"]
    assert evaluate("--data", h5ad, *lines, out=tmp_path / "out") == 0
    assert calls[0][0].smiles.tolist() == ["CCO", "CCC"]


@pytest.mark.parametrize("name", ["report.html", "tables", "ranks.csv"])
def test_out_that_has_files_of_others(calls, tmp_path, capsys, name):
    (tmp_path / name).mkdir()
    assert evaluate("--data", "simulated", out=tmp_path) == 2
    assert f"{tmp_path} has {name} and no report" in capsys.readouterr().err
    assert not calls


def test_out_that_cannot_be_made(calls, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert evaluate("--data", "simulated", out=tmp_path / "file" / "out") == 2
    assert f"{tmp_path / 'file' / 'out'}" in capsys.readouterr().err
    assert not calls


def test_control_characters_do_not_reach_the_terminal(capsys):
    assert main([*SMALL_AUDIT, "--test-cell-lines", "\x1b[2Jx"]) == 2
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "x1b[2Jx" in err


def test_out_that_is_a_file(calls, tmp_path, capsys):
    (tmp_path / "out").touch()
    assert evaluate("--data", "simulated", out=tmp_path / "out") == 2
    assert "is a file, not a folder" in capsys.readouterr().err
    assert not calls


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Missing command"),
        (["evaluate", "--data", "simulated"], "Missing option '--out'"),
        (["evaluate", "--out", "x"], "Missing option '--data'"),
        (["nothing"], "No such command 'nothing'"),
        (["verify", "x", "y"], "unexpected extra argument (y)"),
        (["audit", "--data", "simulated", "--test-drugs", "1.5"], "share in [0, 1)"),
        (["audit", "--data", "simulated", "--test-drugs", "-1"], "of at least 0"),
        (["audit", "--data", "simulated", "--test-drugs", ","], "must be names"),
        (["evaluate", "--repeats", "0"], "0 is not in the range x>=1"),
        (["evaluate", "--jobs", "0"], "at least 1, or -1 for all"),
        (["evaluate", "--seed", "x"], "'x' is not a valid integer"),
        (["evaluate", "--level", "2"], "'2' is not one of '3', '4', '5'"),
    ],
)
def test_bad_options(capsys, arguments, message):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert message in err
    assert out == ""
    assert len(err.splitlines()) == 1


def fail_with(monkeypatch, error):
    def evaluate_study(study, **options):
        raise error

    monkeypatch.setitem(evaluation.__dict__, "evaluate_study", evaluate_study)


def test_errors_of_the_study(tmp_path, capsys, monkeypatch):
    fail_with(monkeypatch, ValueError("The test part has no row"))
    data = ["--data", "simulated"]
    assert evaluate(*data, out=tmp_path) == 2
    err = capsys.readouterr().err
    assert err == (
        "python -m sklearn_molge evaluate: error: The test part has no row\n"
    )
    assert evaluate(*data, "--traceback", out=tmp_path) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_bug_shows_where_it_is(tmp_path, monkeypatch):
    fail_with(monkeypatch, TypeError("a bug"))
    with pytest.raises(TypeError, match="a bug"):
        evaluate("--data", "simulated", out=tmp_path)


def test_import_errors_are_a_missing_extra_or_ours(tmp_path, capsys, monkeypatch):
    fail_with(monkeypatch, ImportError("needs jinja2", name="jinja2"))
    assert evaluate("--data", "simulated", out=tmp_path) == 2
    assert "needs jinja2" in capsys.readouterr().err
    fail_with(monkeypatch, ImportError("no such name", name="sklearn_molge.metrics"))
    with pytest.raises(ImportError, match="no such name"):
        evaluate("--data", "simulated", out=tmp_path)


def test_interruption(tmp_path, capsys, monkeypatch):
    fail_with(monkeypatch, KeyboardInterrupt())
    assert evaluate("--data", "simulated", out=tmp_path) == 130
    assert "The same command goes on" in capsys.readouterr().err


SMALL_AUDIT = ["audit", "--data", "simulated", "--molecules", "20"]


def test_an_audit_that_finds_a_violation_says_so_by_its_code(monkeypatch, capsys):
    def leaky(groups, **options):
        return {"train": np.arange(5), "test": np.arange(4, 9)}

    monkeypatch.setitem(evaluation.__dict__, "draw_split", leaky)
    assert main(SMALL_AUDIT) == 1
    assert "VIOLATION: rows in both parts" in capsys.readouterr().out


def test_an_interrupted_audit_does_not_go_on(monkeypatch, capsys):
    def interrupted(groups, **options):
        raise KeyboardInterrupt

    monkeypatch.setitem(evaluation.__dict__, "draw_split", interrupted)
    assert main(SMALL_AUDIT) == 130
    assert capsys.readouterr().err == "Interrupted.\n"


def write_other_hdf5(path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file["matrix"] = 1


@pytest.mark.filterwarnings("ignore:Element '/matrix'")
@pytest.mark.parametrize(
    "write", [lambda path: path.write_text("no HDF5"), write_other_hdf5]
)
def test_a_damaged_h5ad_is_named(tmp_path, capsys, write):
    pytest.importorskip("anndata")
    path = tmp_path / "study.h5ad"
    write(path)
    assert main(["audit", "--data", str(path)]) == 2
    assert f"error: {path} cannot be read: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--test-drugs", "0"], "'test_drugs'"),
        (["--test-drugs", "100"], "leave none of the 20 distinct drugs"),
        (["--test-drugs", "0.5", "--val-drugs", "0.5"], "leave none of the 20"),
        (["--test-cell-lines", "NOPE"], "names 'NOPE'"),
        (["--seed", str(2**32)], "'random_state'"),
        (["--pert-time", "6"], "--pert-time: not for --data simulated"),
    ],
)
def test_wrong_input_of_an_audit(capsys, arguments, message):
    assert main([*SMALL_AUDIT, *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("python -m sklearn_molge audit: error: ")
    assert message in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("name", ["empty.gct", "words.gct", "words.gctx", "words.txt"])
def test_files_of_something_else(tmp_path, capsys, name):
    path = tmp_path / name
    path.write_text("" if "empty" in name else "words\n")
    assert main(["audit", "--data", str(path)]) == 2
    assert name in capsys.readouterr().err


def test_audit(capsys):
    small = ["audit", "--data", "simulated", "--molecules", "20"]
    assert main(small) == 0
    out = capsys.readouterr().out
    assert out.startswith("Study: ")
    assert "No violation" in out
    assert main([*small, "--val-drugs", "0"]) == 0
    assert "train/val" not in capsys.readouterr().out


def test_audit_of_a_bad_split(capsys):
    small = ["audit", "--data", "simulated", "--molecules", "20"]
    assert main([*small, "--test-cell-lines", "HT29"]) == 2
    assert "names 'HT29', which groups does not hold" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["evaluate"], ["audit"]])
def test_help(capsys, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    assert main([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: python -m sklearn_molge" in out
    assert max(map(len, out.splitlines())) <= 88


def test_module_is_light_and_has_a_version():
    code = (
        "import sys, sklearn_molge.__main__\n"
        "heavy = ['torch', 'chemprop', 'skorch', 'pandas', 'rdkit', 'sklearn']\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    done = subprocess.run(
        [sys.executable, "-m", "sklearn_molge", "--version"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("sklearn-molge 0")


@pytest.mark.slow
def test_end_to_end(tmp_path, capsys):
    pytest.importorskip("anndata")
    study = make_perturbation_study(
        70, n_cell_lines=3, n_genes=30, n_replicates=1, level=5, random_state=0
    )
    study.to_anndata().write_h5ad(tmp_path / "study.h5ad")
    out = tmp_path / "report"
    arguments = [
        "--data", tmp_path / "study.h5ad", "--preset", "quick", "--repeats", 1,
        "--no-ablations", "--no-inspection", "--reference", "finlayson2020",
    ]  # fmt: skip
    assert evaluate(*arguments, out=out) == 0
    said = capsys.readouterr().out
    assert "D-NN, raw / Morgan" in said
    assert f"Finished fits are kept in {CACHE} (" in said
    assert (out / "report.html").exists()
    noted = json.loads((out / "report.json").read_text(encoding="utf-8"))["command"]
    assert "--preset quick" in noted
    assert not (out / "cache").exists()  # others may write to a report
    kept = set(CACHE.glob("method-*"))
    assert kept
    ranks = pd.read_csv(out / "ranks.csv")
    # Who shares a report with you could run code on your machine.
    made = tmp_path / "made"
    (out / "cache").mkdir()
    for path in kept:
        for name in (path.name, path.name.partition(".")[0] + ".joblib"):
            joblib.dump(Payload(made), out / "cache" / name)
    assert evaluate(*arguments, out=out) == 0  # from the cache
    assert not made.exists()
    assert set(CACHE.glob("method-*")) == kept
    pd.testing.assert_frame_equal(pd.read_csv(out / "ranks.csv"), ranks)


@pytest.mark.parametrize(
    ("given", "threads"),
    [
        ({}, "1 1"),
        ({"OMP_NUM_THREADS": "3"}, "3 None"),
        ({"OMP_NUM_THREADS": ""}, "1 1"),
    ],
)
def test_one_thread_a_process_unless_told(given, threads, tmp_path):
    code = (
        "import os; from sklearn_molge.__main__ import main; "
        f"main(['verify', {str(tmp_path / 'none')!r}]); "
        "print(*map(os.environ.get, "
        "('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'OMP_WAIT_POLICY')))"
    )
    env = {k: v for k, v in os.environ.items() if not re.search("_THREADS$|^OMP_", k)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env | given,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[-2] == f"{threads} PASSIVE"


def test_threads_are_left_alone_where_numpy_is_there(monkeypatch, tmp_path):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    main(["verify", str(tmp_path / "none")])
    assert "OMP_NUM_THREADS" not in os.environ
    assert "OMP_WAIT_POLICY" not in os.environ
