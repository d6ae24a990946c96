"""Model files: one file, replaced whole."""

import numpy as np
from harness import Operation
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.persistence import (
    describe_model,
    load_background,
    load_model,
    save_model,
)


def fitted(seed, n_molecules):
    study = make_perturbation_study(
        n_molecules, n_cell_lines=2, n_genes=100, level=5, random_state=seed
    )
    pipe = make_pipeline(MorganFingerprinter(fp_size=256), CCA(5, ridge=0.1))
    return pipe.fit(study.smiles, study.profiles()), study


class SaveModel(Operation):
    """A model with its background, over an older one."""

    name = "save-model"

    def prepare(self, folder):
        self.old, self.new = fitted(0, 10), fitted(1, 100)

    def start(self, folder):
        self.save(folder, *self.old)

    def run(self, folder):
        self.save(folder, *self.new)

    @staticmethod
    def save(folder, model, study):
        save_model(model, folder / "a.molge", background=study)

    def result(self, folder):
        path = folder / "a.molge"
        background, model = load_background(path), load_model(path)
        return [
            describe_model(path).identity,
            model.transform(["CCO", "c1ccccc1O"]),
            np.array(background.profiles),
            background.smiles.tolist(),
        ]


class SaveNewModel(SaveModel):
    """The same where there is none."""

    name = "save-new-model"

    def start(self, folder):
        """Nothing is there."""


OPERATIONS = [SaveModel(), SaveNewModel()]
