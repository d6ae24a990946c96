"""Indexes of molecules: a folder that only grows."""

import sqlite3

import numpy as np
from harness import Operation, same
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.molecules import MorganFingerprinter


class IndexFit(Operation):
    """A library, in batches, that is given again after a kill."""

    name = "index-fit"
    backend = "exact"

    def prepare(self, folder):
        study = make_perturbation_study(
            40, n_cell_lines=2, n_genes=20, level=5, random_state=0
        )
        pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(4, ridge=1.0))
        self.pipe, self.y = pipe.fit(study.smiles, study.ge), study.ge[:5]
        chains = [f"{'C' * (i + 1)}{'N' * j}O" for i in range(30) for j in range(4)]
        self.library = [*chains, "no molecule", *chains[:3]]

    def index(self, folder):
        return MoleculeIndex(
            self.pipe, folder=folder / "index", batch_size=8, backend=self.backend
        )

    def open(self, folder):
        return MoleculeIndex.open(folder / "index", estimator=self.pipe, batch_size=8)

    def run(self, folder):
        self.index(folder).fit(self.library)

    def result(self, folder):
        return told(self.open(folder), self.y)

    def look(self, folder):
        """Rows are the first ones of the whole index."""
        if (folder / "index" / "index.sqlite").exists():
            index = self.open(folder)
            n_rows = index.n_rows_
            texts = index.get_molecules()["smiles"].tolist() if n_rows else []
            assert texts == self.expected[0]["smiles"][:n_rows], "other rows"

    def is_clear(self, folder, error):
        is_expected = isinstance(error, OSError | ValueError | sqlite3.Error)
        return is_expected and str(folder) in str(error)


def told(index, y):
    distances, rows = index.kneighbors(y, 10)
    table = index.get_molecules().to_dict("list")
    return [table, distances, rows, index.skipped_.astype(str).to_dict("list")]


class IndexPartialFit(IndexFit):
    """A second library, into an index that holds one."""

    name = "index-partial-fit"

    def prepare(self, folder):
        super().prepare(folder)
        self.second = [f"c1ccccc1{'C' * i}{'O' * j}" for i in range(20) for j in (0, 1)]

    def start(self, folder):
        self.index(folder).fit(self.library)

    def run(self, folder):
        self.open(folder).partial_fit(self.second)

    def look(self, folder):
        super().look(folder)
        n_before = len(self.before[0]["smiles"])
        assert self.open(folder).n_rows_ >= n_before, "rows are gone"


class IndexRemove(IndexFit):
    """Some molecules, all of them or none."""

    name = "index-remove"

    def start(self, folder):
        self.index(folder).fit(self.library)

    def run(self, folder):
        index = self.open(folder)
        there = set(index.get_molecules()["smiles"])
        wanted = [text for text in self.library[:40] if text in there]
        if wanted:  # what is not there, as after a kill, cannot be removed
            index.remove(wanted)

    def look(self, folder):
        found = self.result(folder)
        assert same(found, self.before) or same(found, self.expected), "a third state"


class IndexCalibrate(IndexRemove):
    """The background of scores, replaced."""

    name = "index-calibrate"

    def run(self, folder):
        self.open(folder).calibrate(y=np.tile(self.y, (5, 1)) + np.eye(25, 20))

    def result(self, folder):
        return [self.open(folder).query(self.y, 3).to_dict("list")]

    def look(self, folder):
        self.result(folder)


class FaissBuild(IndexRemove):
    """The index of faiss beside the vectors, which is built at the first search."""

    name = "faiss-build"
    backend = "faiss"

    def open(self, folder):
        return MoleculeIndex.open(
            folder / "index", estimator=self.pipe, backend="faiss"
        )

    def run(self, folder):
        self.open(folder).kneighbors(self.y, 10)


def faiss_is_there():
    try:
        import faiss
    except ImportError:
        return False
    faiss.omp_set_num_threads(1)
    return True


OPERATIONS = [IndexFit(), IndexPartialFit(), IndexRemove(), IndexCalibrate()]
OPERATIONS += [FaissBuild()] if faiss_is_there() else []
