"""Trainings: checkpoints, weights and trials."""

import warnings

import numpy as np
import torch
from harness import Operation
from hyperopt import hp
from sklearn.linear_model import Ridge

from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import DrugBalancedSampler
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.model_selection import HyperoptSearchCV
from sklearn_molge.molecules import DMPNN, MorganFingerprinter, load_encoder
from sklearn_molge.molecules import save_encoder as write_encoder

torch.set_num_threads(1)


def make_net(**options):
    return CoordinatedEmbedder(
        None, molecule_features=MorganFingerprinter(fp_size=64), criterion=InfoNCELoss,
        sampler=DrugBalancedSampler, module__embedding_size=8, lr=1e-3,
        module__expression_layers=(16,), random_state=0, verbose=0, **options,
    )  # fmt: skip


class Checkpoint(Operation):
    """A training of four epochs that goes on at its last checkpoint."""

    name = "checkpoint"

    def prepare(self, folder):
        self.study = make_perturbation_study(
            12, n_cell_lines=2, n_genes=10, level=5, random_state=0
        )

    def run(self, folder):
        net = make_net(max_epochs=4, checkpoint_folder=folder / "checkpoints")
        net.fit(self.study.smiles, self.study.ge, self.study.groups)
        self.keep(net.transform_ge(self.study.ge))

    def result(self, folder):
        assert list((folder / "checkpoints").iterdir()) == []
        return self.kept()

    def look(self, folder):
        """Each checkpoint can be gone on from: the repetition shows it."""

    def finals(self, folder):
        return []


class SaveParams(Checkpoint):
    """Weights over older ones."""

    name = "save-params"

    def prepare(self, folder):
        super().prepare(folder)
        study = self.study
        self.nets = [
            make_net(max_epochs=n).fit(study.smiles, study.ge, study.groups)
            for n in (1, 2)
        ]

    def start(self, folder):
        self.nets[0].save_params(f_params=folder / "a.pt")

    def run(self, folder):
        self.nets[1].save_params(f_params=folder / "a.pt")

    def result(self, folder):
        sizes = {"module__n_genes": self.study.ge.shape[1], "module__n_features": 64}
        net = make_net(max_epochs=1, **sizes).initialize()
        net.load_params(f_params=folder / "a.pt")
        return [net.transform_ge(self.study.ge)]

    finals = Operation.finals
    look = Operation.look


class SaveEncoder(Operation):
    """An encoder over an older one."""

    name = "save-encoder"

    def prepare(self, folder):
        torch.manual_seed(0)
        self.encoders = [DMPNN(hidden_size=n) for n in (8, 64)]

    def start(self, folder):
        write_encoder(self.encoders[0], folder / "a.pt")

    def run(self, folder):
        write_encoder(self.encoders[1], folder / "a.pt")

    def result(self, folder):
        state = load_encoder(folder / "a.pt")[0].state_dict()
        return {name: value.numpy() for name, value in state.items()}


class Trials(Operation):
    """A search that goes on from its file of trials."""

    name = "hyperopt-trials"

    def prepare(self, folder):
        rng = np.random.default_rng(0)
        self.X, self.y = rng.normal(size=(20, 3)), rng.normal(size=20)

    def run(self, folder):
        search = HyperoptSearchCV(
            Ridge(), {"alpha": hp.loguniform("alpha", -3, 3)}, n_iter=8, cv=2,
            n_initial_points=3, random_state=0, trials_path=folder / "trials.json",
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            search.fit(self.X, self.y)
        self.keep(search.cv_results_["mean_test_score"])

    def result(self, folder):
        return self.kept()

    def look(self, folder):
        """The file can be gone on from: the repetition shows it."""


OPERATIONS = [Checkpoint(), SaveParams(), SaveEncoder(), Trials()]
