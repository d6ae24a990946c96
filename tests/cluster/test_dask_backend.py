"""DaskBackend: what it sends and how often, what it refuses, what it leaves behind."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from sklearn.base import BaseEstimator
from sklearn.model_selection import KFold, cross_validate

from sklearn_molge.parallel import DaskBackend

distributed = pytest.importorskip("distributed")


class Sums(BaseEstimator):
    """Knows the sums of what it has seen, and carries something large."""

    def __init__(self, extra=None):
        self.extra = extra

    def fit(self, X, y):
        self.sum_ = X.sum() + y.sum()
        return self

    def score(self, X, y):
        return self.sum_ + X.sum() + 2 * y.sum()


@pytest.fixture
def sent(client, monkeypatch):
    """Bytes of every task that goes to the scheduler."""
    submit, sizes = client.submit, []

    def count(function, content, *args, **options):
        sizes.append(len(content))
        return submit(function, content, *args, **options)

    monkeypatch.setattr(client, "submit", count)
    return sizes


@pytest.fixture
def large():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2000, 80)), rng.normal(size=(2000, 70))


# What is sent.


@pytest.mark.slow
def test_a_study_is_sent_once_however_many_folds(client, sent, large):
    X, y = large
    X.setflags(write=False)
    once = X.nbytes + y.nbytes
    model = Sums(np.zeros(2))
    expected = cross_validate(model, X, y, cv=KFold(20))["test_score"]
    with parallel_config(backend=DaskBackend(client)):
        got = cross_validate(model, X, y, cv=KFold(20))["test_score"]
    np.testing.assert_array_equal(got, expected)
    assert len(sent) == 20 + 2
    assert once < sum(sent) < 1.3 * once  # the rest are indices
    assert max(sorted(sent)[:-2]) < 50_000


@pytest.mark.slow
def test_arrays_inside_of_what_is_sent(client, sent, large):
    X, y = large
    model = Sums(X)
    tasks = [delayed(model.fit)(X[:n], y[:n]) for n in range(1, 9)]
    with parallel_config(backend=DaskBackend(client)):
        out = Parallel()(tasks)
    assert sum(sent) < 1.3 * X.nbytes
    for n, fitted in enumerate(out, 1):
        assert fitted.sum_ == X[:n].sum() + y[:n].sum()


@pytest.mark.slow
def test_rounds_of_one_loop_send_what_they_share_once(client, sent, large):
    X, _ = large
    backend = DaskBackend(client)
    with parallel_config(backend=backend), Parallel() as parallel:
        for i in range(4):
            own = np.full_like(X, i)  # a round's own data do not stay
            sums = parallel(delayed(np.vdot)(X, own) for _ in range(3))
            # Where an array lies in memory decides the order of a product's sums.
            np.testing.assert_allclose(sums, [np.vdot(X, own)] * 3, rtol=1e-9)
            assert len(backend._sent) == 2
    assert len(backend._sent) == 0
    assert sum(size >= X.nbytes for size in sent) == 1 + 4


@pytest.mark.slow
def test_evaluate_study_sends_the_profiles_once(client, sent, study):
    # Not above: the processes import this file.
    from sklearn_molge.evaluation import evaluate_study
    from sklearn_molge.retrieval import RandomRetriever

    y = np.random.default_rng(0).normal(size=(len(study.smiles), 2000))
    methods = {str(n): RandomRetriever(random_state=n) for n in range(8)}
    genes = pd.DataFrame(index=[f"gene{i}" for i in range(2000)])
    wide = replace(study, ge=y.astype(np.float32), genes=genes)
    options = {"embedders": {}, "inspect": False, "figures": False, "n_jobs": 2}
    with parallel_config(backend=DaskBackend(client)):
        evaluate_study(wide, methods=methods, n_repeats=2, **options)
    assert len(sent) > 16
    assert sum(size >= wide.ge.nbytes for size in sent) == 1
    assert sum(sent) < 1.5 * wide.ge.nbytes


@pytest.mark.slow
def test_what_is_sent_is_what_arrives(client, tmp_path):
    mapped = np.lib.format.open_memmap(
        tmp_path / "a.npy", "w+", dtype="f4", shape=(600, 600)
    )
    mapped[:] = np.arange(600)
    texts = np.array([f"C{i}" for i in range(30_000)], dtype=object)
    strided = np.arange(2e6).reshape(2000, 1000)[::2, ::3]
    masked = np.ma.masked_less(np.arange(2e5), 7)
    arrays = [mapped, texts, strided, masked]
    with parallel_config(backend=DaskBackend(client)):
        out = Parallel()(delayed(describe)(array) for array in [*arrays, *arrays])
    for array, (kind, writeable, back) in zip([*arrays, *arrays], out, strict=True):
        assert kind == ("ndarray" if array is mapped else type(array).__name__)
        assert not writeable
        np.testing.assert_array_equal(back, array)


def describe(array):
    return type(array).__name__, array.flags.writeable, np.array(array)


@pytest.mark.slow
def test_loky_maps_a_large_matrix_once(large, tmp_path):
    X, y = large
    get_reusable_executor().shutdown(wait=True)  # one that is there keeps its folder
    with parallel_config("loky", n_jobs=2, temp_folder=str(tmp_path)):
        counts = Parallel()(
            delayed(count_files)(X, y, str(tmp_path)) for _ in range(12)
        )
    get_reusable_executor().shutdown(wait=True)
    assert max(counts) == 2  # one file for each, however many tasks


def count_files(X, y, folder):
    return sum(len(files) for _, _, files in os.walk(folder))


# How it runs.


@pytest.mark.slow
def test_errors_come_back_and_the_rest_is_cancelled(client):
    backend = DaskBackend(client)
    with (
        parallel_config(backend=backend),
        pytest.raises(ZeroDivisionError, match="by zero"),
    ):
        Parallel()(delayed(divmod)(1, n) for n in (1, 0, *range(1, 50)))
    assert not backend._running
    with parallel_config(backend=backend):  # and it still works
        assert Parallel()(delayed(abs)(-n) for n in range(3)) == [0, 1, 2]


@pytest.mark.slow
def test_inner_loops_run_in_the_worker_of_the_outer(client):
    with parallel_config(backend=DaskBackend(client)):
        pids = Parallel()(delayed(inner_pids)() for _ in range(4))
        stream = Parallel(return_as="generator")(delayed(abs)(-n) for n in range(5))
        assert list(stream) == list(range(5))
    assert all(len({*inner, own}) == 1 for own, inner in pids)
    assert os.getpid() not in {own for own, _ in pids}


def inner_pids():
    return os.getpid(), Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4))


@pytest.mark.slow
def test_a_task_of_the_cluster_may_use_the_cluster(client):
    future = client.submit(use_the_cluster, 6)
    assert future.result(timeout=60) == [0, 1, 2, 3, 4, 5]


def use_the_cluster(n):
    with parallel_config(backend=DaskBackend()):
        return Parallel()(delayed(abs)(-i) for i in range(n))


class FakeClient:
    """A cluster with a number of cores."""

    def __init__(self, cores):
        self.cores = cores

    def ncores(self):
        return {str(i): n for i, n in enumerate(self.cores)}

    def wait_for_workers(self, n_workers, timeout):
        raise distributed.TimeoutError("no")


@pytest.mark.parametrize(
    ("cores", "n_jobs", "expected"),
    [
        ([4, 4], None, 8),
        ([4, 4], -1, 8),
        ([4, 4], 2, 8),
        ([4, 4], 1, 1),
        ([1], -1, 2),  # joblib takes 1 to mean: here
    ],
)
def test_effective_n_jobs(cores, n_jobs, expected):
    assert DaskBackend(FakeClient(cores)).effective_n_jobs(n_jobs) == expected


def test_what_cannot_work(monkeypatch):
    with pytest.raises(TimeoutError, match="no worker after timeout=3"):
        DaskBackend(FakeClient([]), timeout=3).effective_n_jobs(None)
    with pytest.raises(ValueError, match="n_jobs == 0"):
        DaskBackend(FakeClient([1])).effective_n_jobs(0)
    monkeypatch.setattr(distributed, "get_client", no_client)
    with pytest.raises(ValueError, match=r"client must be a distributed\.Client"):
        DaskBackend()
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"sklearn-molge\[dask\]"):
        DaskBackend()


def no_client():
    raise ValueError("No global client found and no address provided")


def test_dask_is_imported_when_it_is_used():
    code = "import sklearn_molge.parallel, sys; print('dask' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert out.stdout == "False\n"
