"""Evaluations: results that are kept, and the report."""

from harness import Operation
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.evaluation import StudyReport, evaluate_study
from sklearn_molge.molecules import MorganFingerprinter

SPLIT = {"val_drugs": 0.2, "test_drugs": 0.3, "val_cell_lines": 1}


def evaluate(seed, **options):
    study = make_perturbation_study(
        level=5, n_molecules=40, n_cell_lines=4, n_genes=20, random_state=seed
    )
    methods = {
        f"CCA {n}": make_pipeline(MorganFingerprinter(fp_size=64), CCA(n, ridge=0.1))
        for n in (2, 3)
    }
    return evaluate_study(
        study, methods=methods, embedders={}, n_repeats=2, inspect=False,
        figures=False, random_state=0, split=SPLIT, **options,
    )  # fmt: skip


class EvaluateStudy(Operation):
    """With a folder of results, from which a second call goes on."""

    name = "evaluate-study"

    def run(self, folder):
        report = evaluate(0, cache_folder=folder / "cache")
        self.keep(report.ranks.select_dtypes("number"))

    def result(self, folder):
        return self.kept()

    def look(self, folder):
        """Each result is whole: the repetition shows it."""


class ReportSave(Operation):
    """A report over an older one: file by file, each whole."""

    name = "report-save"

    def prepare(self, folder):
        self.old, self.new = (evaluate(seed) for seed in (0, 1))

    def start(self, folder):
        self.old.save(folder / "report")

    def run(self, folder):
        self.new.save(folder / "report")

    def result(self, folder):
        report = StudyReport.load(folder / "report")
        ranks = report.ranks.astype(str).to_dict("list")
        return [ranks, {n: t.to_csv() for n, t in report.tables.items()}]

    def look(self, folder):
        for path in self.finals(folder / "report"):
            if path.is_file():
                assert path.read_bytes() in self.contents(path.name), path

    def contents(self, name):
        """Return what the old and the new file hold."""
        return self.files.get(name, [])

    @property
    def files(self):
        if not hasattr(self, "_files"):
            import tempfile
            from pathlib import Path

            self._files = {}
            for report in (self.old, self.new):
                with tempfile.TemporaryDirectory() as name:
                    report.save(name)
                    for path in Path(name).rglob("*"):
                        if path.is_file():
                            self._files.setdefault(path.name, []).append(
                                path.read_bytes()
                            )
        return self._files


OPERATIONS = [EvaluateStudy(), ReportSave()]
