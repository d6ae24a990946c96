"""
Training in several processes, one for each GPU
===============================================

Every process holds the towers and trains them on batches of its own; the gradients of
a step are averaged over the processes. The packages accelerate and skorch do it, and
``CoordinatedEmbedder`` needs a mixin of theirs::

    pip install accelerate
    accelerate launch examples/distributed_training.py --out embedder.joblib
    torchrun --nproc-per-node 2 examples/distributed_training.py --cpu

The first trains on all GPUs, the second in two processes without one. A step of n
processes is one of n times the batch, which may bear a larger learning rate.
"""

import argparse
from pathlib import Path

import joblib
import numpy as np
from accelerate import Accelerator
from skorch.hf import AccelerateMixin

from sklearn_molge.alignment import CoordinatedEmbedder
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


def train(study, *, cpu=False, random_state=0, **params):
    """Return the embedder, the same in each process."""
    accelerator = PairAccelerator(cpu=cpu)
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
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--out", type=Path, help="file for the embedder")
    options = parser.parse_args()
    study = make_perturbation_study(random_state=0)
    cv = DrugCellLineShuffleSplit(1, random_state=0)
    ((fitted, tested),) = cv.split(study.smiles, groups=study.groups)
    net = train(
        study[fitted], cpu=options.cpu, max_epochs=options.epochs, batch_size=128
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
