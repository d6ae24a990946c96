"""Results of evaluate_study on disk: kept, shared, resumed, told apart."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time

import joblib
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.evaluation import AlignedView
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.retrieval import TransformedTargetRetriever

SPLIT = {"val_drugs": 0.2, "test_drugs": 0.3, "val_cell_lines": 1}


def test_second_call_goes_on_from_the_cache(study, tmp_path, cca, run, recorder, seen):
    row = make_pipeline(recorder(), cca())
    first = run(study, {"CCA": row}, cache_folder=tmp_path)
    assert len(seen) == 2
    second = run(study, {"CCA": row, "new": cca(3)}, cache_folder=tmp_path)
    assert len(seen) == 2
    assert first.ranks["CCA"].equals(second.ranks["CCA"])
    changed = make_pipeline(recorder(), cca(6))
    run(study, {"CCA": changed}, cache_folder=tmp_path)
    assert len(seen) == 4
    other = make_perturbation_study(
        level=5, n_molecules=60, n_cell_lines=5, n_genes=40, random_state=1
    )
    run(other, {"CCA": row}, cache_folder=tmp_path)
    assert len(seen) == 6


def test_errors_are_not_kept(study, tmp_path, run, failing):
    run(study, {"bad": failing()}, cache_folder=tmp_path)
    assert not list(tmp_path.glob("method-*"))


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def cut(path, folder):
    path.write_bytes(path.read_bytes()[:-1])


def run_code(path, folder):
    path.write_bytes(pickle.dumps(Payload(folder / "made")))


def run_code_of_joblib(path, folder):
    joblib.dump(Payload(folder / "made"), path)


def run_code_behind_our_mark(path, folder):
    content = path.read_bytes()
    start = content.index(b"\n") + 1
    payload = pickle.dumps(Payload(folder / "made"))
    path.write_bytes(content[:start] + payload + content[-32:])


def swap(path, folder):
    other = next(p for p in path.parent.glob("method-*") if p != path)
    path.write_bytes(other.read_bytes())


def make_pipe(path, folder):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    "change", [cut, run_code, run_code_of_joblib, run_code_behind_our_mark, swap]
)
def test_a_changed_result_is_not_opened_and_computed_anew(
    study, tmp_path, cca, run, change
):
    cache = tmp_path / "cache"
    first = run(study, {"CCA": cca()}, cache_folder=cache)
    path = min(cache.glob("method-*"))
    change(path, tmp_path)
    with pytest.warns(DataWarning, match=f"1 file could not be used.*{path.name}"):
        second = run(study, {"CCA": cca()}, cache_folder=cache)
    assert second.ranks.equals(first.ranks)
    assert not (tmp_path / "made").exists()
    run(study, {"CCA": cca()}, cache_folder=cache)  # replaced: no warning


def test_an_embedder_that_runs_code_is_not_opened(study, tmp_path, cca, run):
    options = {"embedders": {"aligned": cca()}, "inspect": True, "n_repeats": 1}
    cache, methods = tmp_path / "cache", {"own": AlignedView()}
    first = run(study, methods, cache_folder=cache, **options)
    (path,) = cache.glob("embedder-*")
    run_code(path, tmp_path)
    for other in cache.glob("method-*"):
        other.unlink()
    with pytest.warns(DataWarning, match=path.name):
        second = run(study, methods, cache_folder=cache, n_jobs=2, **options)
    assert second.ranks.equals(first.ranks)
    assert not (tmp_path / "made").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
def test_a_pipe_in_the_place_of_a_result_is_replaced(study, tmp_path, cca, run):
    first = run(study, {"CCA": cca()}, cache_folder=tmp_path)
    path = min(tmp_path.glob("method-*"))
    make_pipe(path, tmp_path)
    assert run(study, {"CCA": cca()}, cache_folder=tmp_path).ranks.equals(first.ranks)
    assert path.is_file()


def test_who_shares_a_folder_has_results_of_their_own(study, tmp_path, cca, run):
    """Each goes on from their own results; those of the other are said once."""
    first = run(study, {"CCA": cca()}, cache_folder=tmp_path)
    ours = sorted(tmp_path.glob("method-*"))
    for path in ours:  # as if another installation had written it
        name, _, end = path.name.split(".")
        run_code(path.rename(path.with_name(f"{name}.0123456789ab.{end}")), tmp_path)
    with pytest.warns(DataWarning, match="2 files with results of this call were"):
        second = run(study, {"CCA": cca()}, cache_folder=tmp_path)
    assert second.ranks.equals(first.ranks)
    assert len(list(tmp_path.glob("method-*"))) == 4
    run(study, {"CCA": cca()}, cache_folder=tmp_path)  # goes on, and says nothing
    assert not (tmp_path / "made").exists()


def test_results_of_an_earlier_version_are_not_opened(study, tmp_path, cca, run):
    cache = tmp_path / "cache"
    run(study, {"CCA": cca()}, cache_folder=cache)
    for path in list(cache.glob("method-*")):
        old = path.with_name(path.name.partition(".")[0] + ".joblib")
        run_code_of_joblib(path.rename(old), tmp_path)
    with pytest.warns(DataWarning, match=r"an earlier version, and not opened.*joblib"):
        run(study, {"CCA": cca()}, cache_folder=cache)
    assert not (tmp_path / "made").exists()


def test_a_folder_that_cannot_be_written_to_is_told_before_any_work(
    study, tmp_path, run, recorder, cca, seen
):
    (tmp_path / "file").touch()
    row = {"CCA": make_pipeline(recorder(), cca())}
    with pytest.raises(NotADirectoryError, match="file is a file, not a folder"):
        run(study, row, cache_folder=tmp_path / "file")
    with pytest.raises(OSError, match=r"file.below"):
        run(study, row, cache_folder=tmp_path / "file" / "below")
    assert not seen


def test_what_cannot_be_imported_is_fitted_anew(
    study, tmp_path, cca, run, recorder, seen
):
    def row(factor):
        scale = FunctionTransformer(lambda y: np.sign(y) * np.abs(y) ** factor)
        target = TransformedTargetRetriever(CCA(3, ridge=0.1), scale)
        return make_pipeline(recorder(), MorganFingerprinter(fp_size=64), target)

    one, again, other = (
        run(study, {"m": row(n), "CCA": cca()}, cache_folder=tmp_path)
        for n in (1, 1, 3)
    )
    assert len(seen) == 6
    assert one.ranks.equals(again.ranks)
    assert not one.ranks["m"].equals(other.ranks["m"])
    assert len(list(tmp_path.glob("method-*"))) == 2  # those of CCA
    (note,) = [note for note in one.notes if "cache_folder" in note]
    assert note.startswith("Not kept in cache_folder: method 'm'. ")
    assert "<lambda> cannot be imported" in note
    silent = run(study, {"m": row(1)})
    assert not any("cache_folder" in note for note in silent.notes)


def test_rows_on_an_embedder_that_cannot_be_kept(
    study, tmp_path, cca, net, run, errors
):
    options = {"embedders": {"aligned": cca()}, "inspect": True, "n_repeats": 1}
    methods = {"own": AlignedView(), "CCA": cca()}
    twice = FunctionTransformer(lambda y: 2 * y)
    reports = [
        run(study, methods, expression=twice, cache_folder=tmp_path, **options)
        for _ in range(2)
    ]
    assert errors(reports[0]) == []
    assert "regressions" in reports[0].tables
    assert reports[0].ranks.equals(reports[1].ranks)
    assert not list(tmp_path.glob("embedder-*"))
    assert len(list(tmp_path.glob("method-*"))) == 1
    assert any("embedder 'aligned'" in note for note in reports[0].notes)
    network = run(
        study,
        methods,
        expression=twice,
        cache_folder=tmp_path,
        **(options | {"embedders": {"aligned": net()}}),
    )
    assert errors(network) == []


def test_the_folder_of_results_may_be_moved(study, tmp_path, cca, run, errors):
    options = {"embedders": {"aligned": cca()}, "inspect": True, "n_repeats": 1}
    first = run(study, {"own": AlignedView()}, cache_folder=tmp_path / "a", **options)
    (tmp_path / "a").rename(tmp_path / "b")
    tower = make_pipeline(AlignedView("molecules"), CCA(3, ridge=0.1))
    methods = {"own": AlignedView(), "tower": tower}
    second = run(study, methods, cache_folder=tmp_path / "b", **options)
    assert errors(second) == []
    assert second.ranks["own"].equals(first.ranks["own"])
    assert "regressions" in second.tables


def test_frozen_estimators_stay_as_they_are_and_are_told_apart(
    study, tmp_path, net, run
):
    fitted = [net().fit(study.smiles, study.ge) for _ in range(2)]
    ranks = []
    for each in fitted:
        row = make_pipeline(each.molecule_encoder(), CCA(3, ridge=0.1))
        report = run(study, {"m": row}, cache_folder=tmp_path, n_repeats=1)
        ranks.append(report.ranks["m"])
        assert each.random_state is None
    assert not ranks[0].equals(ranks[1])


_SCRIPT = """
    import sys, time
    from sklearn.base import BaseEstimator
    from sklearn.pipeline import make_pipeline
    from sklearn_molge.alignment import CCA
    from sklearn_molge.datasets import make_perturbation_study
    from sklearn_molge.evaluation import evaluate_study
    from sklearn_molge.molecules import MorganFingerprinter

    study = make_perturbation_study(
        level=5, n_molecules=60, n_cell_lines=5, n_genes=40, random_state=0
    )
    methods = {
        f"CCA {n}": make_pipeline(MorganFingerprinter(fp_size=256), CCA(n, ridge=0.1))
        for n in range(2, 17)
    }
    report = evaluate_study(
        study, methods=methods, embedders={}, n_repeats=2, inspect=False, figures=False,
        cache_folder=sys.argv[1],
    )
    report.ranks.to_csv(sys.argv[2], index=False)
"""


def test_killed_and_resumed(tmp_path):
    script = tmp_path / "study.py"
    script.write_text(textwrap.dedent(_SCRIPT))

    def start(cache, out):
        return subprocess.Popen(
            [sys.executable, str(script), str(tmp_path / cache), str(tmp_path / out)]
        )

    killed = start("cache", "killed.csv")
    while len(list((tmp_path / "cache").glob("method-*.pickle"))) < 3:
        assert killed.poll() is None, "ended before it could be killed"
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not (tmp_path / "killed.csv").exists()
    kept = {
        path.name: path.stat().st_mtime_ns
        for path in (tmp_path / "cache").glob("method-*.pickle")
    }
    assert 3 <= len(kept) < 30
    assert start("cache", "resumed.csv").wait() == 0
    for name, written in kept.items():
        assert (tmp_path / "cache" / name).stat().st_mtime_ns == written
    assert start("fresh", "whole.csv").wait() == 0
    resumed, whole = (tmp_path / f"{n}.csv" for n in ("resumed", "whole"))
    assert resumed.read_text() == whole.read_text()
