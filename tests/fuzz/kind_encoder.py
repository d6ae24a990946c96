"""Pretrained encoders, as files of chemprop."""

import numpy as np
import torch
from harness import FileKind
from kind_checkpoint import mutate_zip

from sklearn_molge.molecules import DMPNN, MoleculeGraphs, load_encoder, save_encoder

BATCH = MoleculeGraphs.from_smiles(["CCO", "c1ccccc1"]).take([0, 1])


class Encoder(FileKind):
    """A file of chemprop v2, mutated as it is."""

    name = "encoder"
    sealed = True

    def make(self, folder):
        torch.manual_seed(0)
        save_encoder(DMPNN(hidden_size=4), folder / "a.pt")

    def read(self, folder):
        network, mode = load_encoder(folder / "a.pt")
        with torch.no_grad():
            return [mode, network.eval()(BATCH).numpy()]


class EncoderInside(Encoder):
    """Mutated inside, with the right checksums: whoever did it meant it."""

    name = "encoder-inside"
    sealed = False

    def mutate(self, rng, path, content):
        return mutate_zip(rng, content, self.max_bytes)

    def judge(self, case, answer):
        return None if np.isfinite(answer[1]).all() else "vectors that are not finite"


KINDS = [Encoder(), EncoderInside()]
