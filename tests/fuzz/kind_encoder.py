"""Pretrained encoders, as files of chemprop."""

import numpy as np
import torch
from kind_checkpoint import TorchFiles

from sklearn_molge.molecules import DMPNN, MoleculeGraphs, load_encoder, save_encoder

BATCH = MoleculeGraphs.from_smiles(["CCO", "c1ccccc1"]).take([0, 1])


class Encoder(TorchFiles):
    """A file of chemprop v2."""

    name = "encoder"

    def make(self, folder):
        torch.manual_seed(0)
        save_encoder(DMPNN(hidden_size=4), folder / "a.pt")

    def read(self, folder):
        network, mode = load_encoder(folder / "a.pt")
        with torch.no_grad():
            return [mode, network.eval()(BATCH).numpy()]

    def judge(self, case, answer):
        if not np.isfinite(answer[1]).all():
            return "vectors that are not finite"
        return super().judge(case, answer)


KINDS = [Encoder()]
