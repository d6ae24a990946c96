"""A Dask cluster of two processes, and a step by which one of them can be killed."""

import os
import signal
import sys
import threading
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import cloudpickle
import pytest
from sklearn.base import BaseEstimator, TransformerMixin

from sklearn_molge.datasets import make_perturbation_study

# The workers cannot import this file: its classes travel with what they are part of.
cloudpickle.register_pickle_by_value(sys.modules[__name__])


class Hostage(TransformerMixin, BaseEstimator):
    """Lets everything through; call number `number` in a worker waits for its end.

    It writes its process number to ``folder / "pid"``, and would fail if nobody killed
    it. Calls are counted by files, so that a call that is run again is another one.
    Those in the process `home` do not count.
    """

    def __init__(self, folder=None, *, home=None, method="fit", number=3):
        self.folder = folder
        self.home = home
        self.method = method
        self.number = number

    def fit(self, X, y=None):
        self.fitted_ = True
        self._count("fit")
        return self

    def transform(self, X):
        self._count("transform")
        return X

    def _count(self, method):
        if self.folder is None or method != self.method or os.getpid() == self.home:
            return
        number = 0
        while True:
            try:
                os.close(os.open(f"{self.folder}/call{number}", os.O_CREAT | os.O_EXCL))
                break
            except FileExistsError:
                number += 1
        if number == self.number:
            partial = Path(self.folder, "pid.part")
            partial.write_text(str(os.getpid()))
            os.replace(partial, Path(self.folder, "pid"))
            time.sleep(100)
            raise RuntimeError("this process was to be killed")


class Killer(threading.Thread):
    """Kills the process that asks for it in `folder`."""

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder = folder
        self.killed = None

    def run(self):
        while not (self.folder / "pid").exists():
            time.sleep(0.01)
        pid = int((self.folder / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        self.killed = pid


@pytest.fixture(scope="session")
def study():
    return make_perturbation_study(
        30, level=5, n_cell_lines=4, n_genes=30, random_state=0
    )


@pytest.fixture
def hostage():
    """The class: a module of tests has no name to import it by."""
    return partial(Hostage, home=os.getpid())


@pytest.fixture
def killer(tmp_path):
    folder = tmp_path / "calls"
    folder.mkdir()
    killer = Killer(folder)
    killer.start()
    return killer


@contextmanager
def two_workers(folder):
    distributed = pytest.importorskip("distributed")
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "processes": True,
        "host": "127.0.0.1",
        "dashboard_address": "127.0.0.1:0",  # any free port
        "memory_limit": None,
        "silence_logs": "CRITICAL",  # it says at length that a worker is gone
        "local_directory": str(folder),
    }
    with (
        distributed.LocalCluster(**options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with two_workers(tmp_path_factory.mktemp("dask")) as client:
        yield client


@pytest.fixture
def mortal_client(tmp_path):
    """A cluster for one test: Dask does not always start a killed worker again."""
    with two_workers(tmp_path / "dask") as client:
        yield client
