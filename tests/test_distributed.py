"""Two processes train as one: on pairs of batches, or on each batch in two parts."""

import importlib
import subprocess
import sys
from itertools import chain
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.alignment.samplers import UniformSampler
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
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
TORCHRUN += ["--nproc-per-node", "2", "--standalone"]
# Its --cpu is for one process, or for MPI.
ACCELERATE = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu"]
ACCELERATE += ["--num_processes", "2", "--num_machines", "1", "--main_process_port=0"]
ACCELERATE += ["--mixed_precision", "no", "--dynamo_backend", "no"]
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
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES), prepend=":")
    subprocess.run(
        [*TORCHRUN, tmp_path / "script.py", tmp_path], check=True, timeout=300
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


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return importlib.import_module("distributed_training")


@pytest.mark.parametrize("n_rows", [160, 146])
def test_two_processes_are_equal_to_one_at_the_same_effective_batch(
    n_rows, study, tmp_path, monkeypatch, example
):
    params = PARAMS | {"split": True, "max_epochs": 3}
    joblib.dump((study[:n_rows], params), tmp_path / "inputs.joblib")
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setenv("PYTHONPATH", str(EXAMPLES), prepend=":")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))  # nobody's own settings
    launch = ACCELERATE if n_rows == 160 else TORCHRUN
    subprocess.run([*launch, tmp_path / "script.py", tmp_path], check=True, timeout=300)
    (first, first_seen), (second, second_seen) = (
        joblib.load(tmp_path / f"rank{rank}.joblib") for rank in (0, 1)
    )
    assert len(first_seen) == len(second_seen) == 3 * 4  # steps, as of one process
    assert not set(first_seen) & set(second_seen)
    alone = CoordinatedEmbedder(**PARAMS | example.SPLIT | {"max_epochs": 3})
    start = CoordinatedEmbedder(
        **PARAMS | example.SPLIT | {"max_epochs": 3, "lr": 1e-12}
    )
    rows = study[:n_rows]
    for net in (alone, start):
        net.fit(rows.smiles, rows.ge, rows.groups)
    moved = 0.0
    for name, weight in weights_of(first).items():
        np.testing.assert_array_equal(weights_of(second)[name], weight)
        target = weights_of(alone)[name]
        np.testing.assert_allclose(weight, target, rtol=1e-5, atol=1e-6)
        moved = max(moved, np.abs(target - weights_of(start)[name]).max(initial=0))
    assert moved > 1e-3
    embedded = alone.transform(study.smiles)
    np.testing.assert_allclose(first.transform(study.smiles), embedded, atol=1e-5)


@pytest.mark.parametrize("partners", [False, True])
def test_parts_of_a_batch_are_its_triplets(partners, example):
    drugs = np.repeat(np.arange(7), 3)
    options = {"batch_size": 8, "partners": partners}
    whole = UniformSampler(**options).prepare(drugs)
    parts = example.SharedOutSampler(**options, n_parts=3).prepare(drugs)
    assert parts.n_batches_ == 3 * whole.n_batches_
    wholes = list(whole.epoch(np.random.default_rng(0)))
    shared = list(parts.epoch(np.random.default_rng(0)))
    assert len(shared) == parts.n_batches_
    for i, batch in enumerate(wholes):
        own = triplets_of(batch)
        got = [triplets_of(part) for part in shared[3 * i : 3 * i + 3]]
        assert {len(part) for part in got} == {-(-len(own) // 3)}
        together = list(chain.from_iterable(got))
        assert together == (own + own)[: len(together)]


def triplets_of(batch):
    columns = [batch.profiles[c].tolist() for c in batch.triplets if c is not None]
    return list(zip(*columns, strict=True))
