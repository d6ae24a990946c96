"""Fits that are killed at every step, and called again, end as if nothing had been."""

import os
import pkgutil
import shutil
import signal
import sys
import traceback

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.molecules import MorganFingerprinter

STUDY = make_perturbation_study(40, n_cell_lines=1, n_genes=12, random_state=0)
GOOD = list(dict.fromkeys(STUDY.smiles))
FIRST = [*GOOD[:9], "x", GOOD[2], None, "OCC", *GOOD[9:14], "CCO"]
SECOND = [GOOD[4], "CCO", *GOOD[14:22], "-666", GOOD[15], "CCN", *GOOD[22:26], "NCC"]
PARAMS = {"batch_size": 3, "progress": False}
# What a fit does: it is killed before each of these, and behind.
STEPS = [
    "sklearn_molge.library._store.VectorStore.append",
    "sklearn_molge.library._vectors.StoredVectors.write",
    "sklearn_molge.library._index.save_embedder",
    "sklearn_molge.library._build.embed_molecules",
    "os.fsync",
]
pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore::sklearn_molge.exceptions.LibraryWarning"),
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def pipe():
    pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1))
    return pipe.fit(STUDY.smiles, STUDY.ge)


@pytest.fixture(autouse=True)
def small_segments(monkeypatch):
    monkeypatch.setattr("sklearn_molge.library._build._BATCHES_PER_SEGMENT", 2)


def contents(folder):
    """All that an index holds, for comparison to the bit."""
    index = MoleculeIndex.open(folder)
    scores = index.similarity_to_rows(STUDY.ge[:3], np.arange(index.n_rows_))
    answers = index.query(STUDY.ge[:2], 5, n_permutations=0).to_csv()
    molecules = index.get_molecules().to_csv()
    return scores.tobytes(), answers, molecules, index.skipped_.to_csv()


def is_killed(call, step):
    """Run `call` in a process that is killed at a step; tell whether it came so far."""
    child = os.fork()
    if child == 0:
        try:
            with pytest.MonkeyPatch.context() as patch:
                for name in STEPS:
                    patch.setattr(name, counted(pkgutil.resolve_name(name), step))
                call()
            os._exit(0)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


def counted(function, step, count=[0]):  # noqa: B006 (one for all steps)
    def die_at_step():
        if count[0] == step:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1

    def wrapper(*args, **kwargs):
        die_at_step()
        value = function(*args, **kwargs)
        die_at_step()
        return value

    return wrapper


@pytest.mark.parametrize("unique_by", ["drug", None])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_what_is_killed_at_any_step_goes_on(pipe, tmp_path, unique_by, method):
    def fit(folder):
        params = {"folder": folder, "unique_by": unique_by, **PARAMS}
        MoleculeIndex(pipe, **params).fit(FIRST, names=range(len(FIRST)))

    def partial_fit(folder):
        index = MoleculeIndex.open(folder, **PARAMS)
        index.partial_fit(SECOND, names=range(len(SECOND)))

    call = {"fit": fit, "partial_fit": partial_fit}[method]
    before, whole = tmp_path / "before", tmp_path / "whole"
    if method == "partial_fit":
        fit(before)
        shutil.copytree(before, whole)
    call(whole)
    expected = contents(whole)
    step, folder = 0, tmp_path / "killed"
    while True:
        if method == "partial_fit":
            shutil.copytree(before, folder)
        was_killed = is_killed(lambda: call(folder), step)
        call(folder)
        assert contents(folder) == expected, step
        if not was_killed:
            break
        shutil.rmtree(folder)
        step += 1
    assert step > 30
