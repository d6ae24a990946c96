"""The training step of the paper's released code, written anew from its description.

What it does, and where: Finlayson et al. 2020, files datasets.py, models.py, losses.py
and train.py of their repository. Per item, look-ups through a pandas MultiIndex of all
wells; per step, two calls of the graph network and two of the expression network.
"""

import itertools
import random

import numpy as np
import pandas as pd
import torch
from chemprop.data import BatchMolGraph
from chemprop.featurizers import SimpleMoleculeMolGraphFeaturizer
from chemprop.nn import BondMessagePassing, MeanAggregation
from rdkit import Chem
from torch import nn
from torch.utils.data import DataLoader, Dataset

EPS = 1e-6


def well_index(wells, pert_type):
    """Return the 11 levels of the authors' pickled data frames."""
    lines = [f"LINE{line}" for line in wells["lines"]]
    smiles = wells["smiles"]
    levels = {
        "cell_id": lines,
        "cell_type": "tumor",
        "primary_site": [f"site of {line}" for line in lines],
        "subtype": [f"subtype of {line}" for line in lines],
        "pert_id": [f"BRD-{drug:08d}" for drug in wells["drugs"]],
        "pert_name": [f"name-{drug}" for drug in wells["drugs"]],
        "pert_type": pert_type,
        "plate": [f"REP.A{plate:03d}_6H_X1_B22" for plate in wells["plates"]],
        "canonical_smiles": smiles,
        "pert_dose": "um@10.0" if pert_type == "trt_cp" else "-666@-666.0",
        "pert_time": "6.0",
    }
    return pd.MultiIndex.from_frame(pd.DataFrame(levels, dtype=object))


class AuthorsItems(Dataset):
    """Quadruplets, one well of a treated compound at a time."""

    def __init__(self, treated, controls, seed):
        self.raw = _frame(treated, "trt_cp")
        self.control_raw = _frame(controls, "ctl_vehicle")
        both = np.concatenate([self.raw.to_numpy(), self.control_raw.to_numpy()])
        mean, std = both.mean(0), both.std(0, ddof=1)
        self.z = (self.raw - mean) / std
        self.control_z = (self.control_raw - mean) / std
        means = self.z.groupby(level="canonical_smiles").mean()
        self.drug_smiles = means.index.to_numpy()
        self.distances = 1 - np.corrcoef(means.to_numpy())
        np.fill_diagonal(self.distances, 0.0)
        self.low, self.high = self.distances.min(), self.distances.max()
        self.random = random.Random(seed)

    def __len__(self):
        return len(self.z)

    def __getitem__(self, row):
        smiles = self.z.index.get_level_values("canonical_smiles")[row]
        negative = self.drug_smiles[self.draw_negative(smiles)]
        same = self.z.index.get_level_values("canonical_smiles") == negative
        (other,) = self.random.sample(list(set(np.where(same)[0])), 1)
        return (
            row,
            other,
            self.signature(row),
            self.signature(other),
            self.z.index.get_level_values("canonical_smiles")[row],
            self.z.index.get_level_values("canonical_smiles")[other],
        )

    def draw_negative(self, smiles):
        """Take the drug whose distance is nearest to one drawn uniformly."""
        own = np.where(self.drug_smiles == smiles)[0][0]
        while True:
            target = self.random.uniform(self.low, self.high)
            drug = np.argmin(np.abs(self.distances[own] - target))
            if drug != own:
                return drug

    def signature(self, row):
        """Return control, treated, and log2 of the ratio of their raw values."""
        plate = self.z.index.get_level_values("plate")[row]
        same = self.control_z.index.get_level_values("plate") == plate
        (control,) = self.random.sample(list(set(np.where(same)[0])), 1)
        z, raw = (
            (
                torch.tensor(controls.iloc[control].values, dtype=torch.float32),
                torch.tensor(treated.iloc[row].values, dtype=torch.float32),
            )
            for controls, treated in (
                (self.control_z, self.z),
                (self.control_raw, self.raw),
            )
        )
        return torch.cat([*z, torch.log2((raw[1] + EPS) / (raw[0] + EPS))])


def _frame(wells, pert_type):
    values = wells["raw"].astype(np.float64)
    return pd.DataFrame(values, index=well_index(wells, pert_type))


class AuthorsNet(nn.Module):
    """The two towers; molecules come as SMILES, their graphs are cached by SMILES."""

    def __init__(self, n_genes, layers, embedding, *, hidden, depth, dropout):
        super().__init__()
        self.encoder = BondMessagePassing(d_h=hidden, depth=depth)
        self.aggregation = MeanAggregation()
        self.head = nn.Linear(hidden, embedding, bias=False)
        parts, width = [], n_genes
        for size in layers:
            linear = nn.Linear(width, size, bias=False)
            parts += [linear, nn.SELU(), nn.AlphaDropout(dropout)]
            width = size
        self.expression = nn.Sequential(*parts, nn.Linear(width, embedding, bias=False))
        self.featurizer = SimpleMoleculeMolGraphFeaturizer()
        self.graphs = {}

    def batch_graphs(self, smiles):
        for text in smiles:
            if text not in self.graphs:
                self.graphs[text] = self.featurizer(Chem.MolFromSmiles(text))
        batch = BatchMolGraph([self.graphs[text] for text in smiles])
        batch.to(self.head.weight.device)
        return batch

    def encode(self, graphs):
        return self.aggregation(self.encoder(graphs), graphs.batch)

    def embed_molecules(self, smiles):
        return self.head(self.encode(self.batch_graphs(smiles)))

    def embed_profiles(self, profiles):
        return self.expression(profiles.to(self.head.weight.device))

    def forward(self, batch):
        _, _, own, other, own_smiles, other_smiles = batch
        return (
            self.embed_profiles(own),
            self.embed_profiles(other),
            self.embed_molecules(own_smiles),
            self.embed_molecules(other_smiles),
        )


class AuthorsLoss:
    """Two margin losses; each is divided by its triplets with an active term."""

    def __init__(self, margin, beta):
        self.margin, self.beta = margin, beta
        self.distance = nn.PairwiseDistance()

    def triplet(self, anchor, positive, negative):
        near, far = self.distance(anchor, positive), self.distance(anchor, negative)
        pull = torch.relu(near - self.beta + self.margin)
        push = torch.relu(self.beta - far + self.margin)
        active = torch.sum((pull > 0) + (push > 0))
        correct = 100 * (far > near).float().mean()
        return torch.sum(pull + push) / active, correct

    def __call__(self, own, other, own_molecule, other_molecule):
        first, correct = self.triplet(own, own_molecule, other_molecule)
        second, _ = self.triplet(own_molecule, own, other)
        return first + second, correct


class AuthorsTraining:
    """Their loop, one step at a time."""

    def __init__(self, items, net, loss, *, lr, batch_size, seed):
        self.net, self.loss = net, loss
        self.optimizer = torch.optim.Adam(net.parameters(), lr=lr)
        generator = torch.Generator().manual_seed(seed)
        self.loader = DataLoader(
            items, batch_size=batch_size, shuffle=True, generator=generator
        )
        epochs = itertools.repeat(self.loader)
        self.batches = itertools.chain.from_iterable(epochs)

    def next_batch(self):
        return next(self.batches)

    def forward_and_back(self, batch):
        loss, correct = self.loss(*self.net(batch))
        loss.backward()
        return loss.item(), correct.item()

    def step(self):
        batch = self.next_batch()
        self.optimizer.zero_grad()
        scores = self.forward_and_back(batch)
        self.optimizer.step()
        return scores

    def steps(self, n):
        for _ in range(n):
            self.step()
