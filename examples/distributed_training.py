r"""
Training in several processes, one for each GPU
===============================================

Every process holds the towers and trains them on batches of its own; the gradients of
a step are averaged over the processes. The packages accelerate and skorch do it, and
``CoordinatedEmbedder`` needs a mixin of theirs::

    pip install accelerate
    accelerate launch examples/distributed_training.py --out embedder.joblib
    torchrun --nproc-per-node 2 examples/distributed_training.py --cpu
    accelerate launch --multi_gpu --num_processes 2 --num_machines 1 \
        --mixed_precision no --dynamo_backend no --main_process_port 0 \
        examples/distributed_training.py --cpu --split

The first trains on all GPUs, the others in two processes without one. (With a flag
``--cpu`` of its own, ``accelerate launch`` starts a single process; ``--multi_gpu``
starts several, and needs no GPU where the script asks for none.)

A step of n processes is one of n times the batch, which may bear a larger learning
rate. With ``--split`` the processes share out a batch instead, and end at the weights
to which one process comes by itself.
"""

import argparse
from pathlib import Path

import joblib
import numpy as np
from accelerate import Accelerator
from skorch.hf import AccelerateMixin

from sklearn_molge.alignment import CoordinatedEmbedder, SampledBatch, Triplets
from sklearn_molge.alignment.losses import QuadrupletLoss
from sklearn_molge.alignment.samplers import UniformSampler
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.metrics import retrieval_ranks
from sklearn_molge.model_selection import DrugCellLineShuffleSplit


class PairAccelerator(Accelerator):
    """An Accelerator that takes a loss without parameters as it is."""

    def prepare_model(self, model, **options):
        """Wrap a network whose gradients are to be averaged."""
        if any(weight.requires_grad for weight in model.parameters()):
            return super().prepare_model(model, **options)
        return model


class DistributedEmbedder(AccelerateMixin, CoordinatedEmbedder):
    """A CoordinatedEmbedder that several processes train together."""


# %%
# All processes draw the same batches, which needs an int as `random_state`, and take
# them in turn. Where they do not come out even, the first ones fill up the last round.
#
# So a sampler that gives each batch in as many parts as there are processes shares it
# out. The mean of the parts' gradients is that of the whole batch if the loss is a
# plain mean over triplets (``average="mean"``), nothing else is drawn (no dropout) and
# the batch is a multiple of the parts. It is not for InfoNCE and other losses over all
# pairs of a batch: there each process compares its profiles with the molecules of its
# own part only, so that two processes learn from half of the pairs of one.


class SharedOutSampler(UniformSampler):
    """Batches of `batch_size` triplets, each in `n_parts` equal parts.

    Where a batch is no multiple of `n_parts`, its first triplets fill it up.
    """

    def __init__(
        self, *, batch_size=417, partners=False, epoch_over="profiles", n_parts=1
    ):
        super().__init__(
            batch_size=batch_size, partners=partners, epoch_over=epoch_over
        )
        self.n_parts = n_parts

    def prepare(self, drugs, **views):
        """Read the training set."""
        super().prepare(drugs, **views)
        self.n_batches_ *= self.n_parts
        return self

    def epoch(self, rng):
        """Draw the parts of the batches of one epoch."""
        for batch in super().epoch(rng):
            n_triplets = len(batch.triplets.anchors)
            per_part = -(-n_triplets // self.n_parts)
            triplets = np.resize(np.arange(n_triplets), (self.n_parts, per_part))
            yield from (take_triplets(batch, part) for part in triplets)


def take_triplets(batch, triplets):
    """Return a batch with some of the triplets."""
    positions = [part[triplets] for part in batch.triplets if part is not None]
    rows = [batch.profiles[places] for places in positions]
    places = np.arange(len(rows) * len(triplets)).reshape(len(rows), -1)
    return SampledBatch(np.concatenate(rows), Triplets(*places))


# What makes several processes equal to one. The loss is the paper's.
SPLIT = {
    "sampler": SharedOutSampler,
    "criterion": QuadrupletLoss,
    "criterion__average": "mean",
    "module__dropout": 0.0,
}


def train(study, *, cpu=False, split=False, random_state=0, **params):
    """Return the embedder, the same in each process."""
    accelerator = PairAccelerator(cpu=cpu)
    if split:
        params = {**SPLIT, "sampler__n_parts": accelerator.num_processes, **params}
    net = DistributedEmbedder(
        accelerator=accelerator, random_state=random_state, **params
    )
    net.fit(study.smiles, study.ge, groups=study.groups)
    accelerator.free_memory()  # it holds the training set, which none need pickle
    return net


def main():
    """Train, and score the embedder in the first process."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--cpu", action="store_true", help="use no GPU")
    parser.add_argument("--split", action="store_true", help="share out each batch")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, help="file for the embedder")
    options = parser.parse_args()
    study = make_perturbation_study(random_state=0)
    cv = DrugCellLineShuffleSplit(1, random_state=0)
    ((fitted, tested),) = cv.split(study.smiles, groups=study.groups)
    net = train(
        study[fitted],
        cpu=options.cpu,
        split=options.split,
        max_epochs=options.epochs,
        batch_size=128,
    )
    if net.accelerator.is_main_process:
        ranks = retrieval_ranks(net, study.smiles[tested], study.ge[tested])
        print(f"MRR of unseen drugs in unseen lines: {np.mean(1 / ranks):.3f}")
        if options.out:
            joblib.dump(net, options.out)
    net.accelerator.end_training()


if __name__ == "__main__":
    # Pickles name the module of a class: not "__main__", which cannot be imported.
    from distributed_training import main

    main()
