"""Two processes train as one on the mean gradient of both their batches."""

import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.datasets import make_perturbation_study

pytest.importorskip("accelerate")
pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[1] / "examples"
PARAMS = {
    "encoder__hidden_size": 16,
    "module__embedding_size": 8,
    "module__expression_layers": (12,),
    "optimizer": torch.optim.SGD,
    "lr": 0.01,
    "max_epochs": 1,
    "batch_size": 40,
    "random_state": 0,
}
# Runs in each process. What a batch holds is noted as the hash of its profiles.
SCRIPT = """
import os, sys
import joblib
from distributed_training import DistributedEmbedder, train

folder = sys.argv[1]
study, params = joblib.load(f"{folder}/inputs.joblib")
seen = []
train_step = DistributedEmbedder.train_step

def record_and_train(self, batch, **options):
    seen.append(joblib.hash(batch[0].profiles.numpy()))
    return train_step(self, batch, **options)

DistributedEmbedder.train_step = record_and_train
net = train(study, cpu=True, **params)
joblib.dump((net, seen), f"{folder}/rank{os.environ['RANK']}.joblib")
net.accelerator.end_training()
"""


class OneProcess(CoordinatedEmbedder):
    """Takes the batches in pairs, and a step on the mean gradient of each pair."""

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        self.batches_ = list(self.get_iterator(X, training=True))
        for pair in zip(self.batches_[::2], self.batches_[1::2], strict=True):
            self.optimizer_.zero_grad()
            for batch in pair:
                self.train_step_single(batch)
            for weight in self.module_.parameters():
                weight.grad /= 2
            self.optimizer_.step()
        return self


@pytest.fixture
def study():
    return make_perturbation_study(30, n_cell_lines=3, n_genes=20, random_state=0)


def weights_of(net):
    return {name: w.numpy() for name, w in net.module_.state_dict().items()}


def test_two_processes_average_the_gradients_of_their_batches(
    study, tmp_path, monkeypatch
):
    study = study[: 4 * 40]
    joblib.dump((study, PARAMS), tmp_path / "inputs.joblib")
    (tmp_path / "script.py").write_text(SCRIPT)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES), prepend=":")
    subprocess.run(
        [*launch, "--standalone", tmp_path / "script.py", tmp_path],
        check=True,
        timeout=300,
    )
    monkeypatch.syspath_prepend(EXAMPLES)  # the pickles name the example's class
    (first, first_seen), (second, second_seen) = (
        joblib.load(tmp_path / f"rank{rank}.joblib") for rank in (0, 1)
    )
    expected = OneProcess(**PARAMS).fit(study.smiles, study.ge, study.groups)
    drawn = [joblib.hash(batch.profiles.numpy()) for batch, _ in expected.batches_]
    assert (first_seen, second_seen) == (drawn[::2], drawn[1::2])
    alone = CoordinatedEmbedder(**PARAMS).fit(study.smiles, study.ge, study.groups)
    for name, weight in weights_of(first).items():
        np.testing.assert_array_equal(weights_of(second)[name], weight)
        target = weights_of(expected)[name]
        np.testing.assert_allclose(weight, target, rtol=1e-4, atol=1e-6)
    apart = first.transform(study.smiles) - alone.transform(study.smiles)
    assert np.abs(apart).max() > 0.01
