"""The training set as the towers read it: molecules once each, profiles row by row."""

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Subset

from sklearn_molge.alignment._batches import SampledBatch


@dataclass(frozen=True)
class MoleculeInputs:
    """Distinct molecules, ready for the molecule tower.

    Attributes
    ----------
    graphs : MoleculeGraphs or None
        Their graphs, of a tower with a D-MPNN.
    features : Tensor of shape (n_molecules, n_features) or None
        Their features.
    """

    graphs: Any
    features: Tensor | None

    def __len__(self) -> int:
        return len(self.graphs if self.features is None else self.features)

    @property
    def nbytes(self) -> int:
        """Memory of graphs and features."""
        parts = (self.graphs, self.features)
        return sum(part.nbytes for part in parts if part is not None)

    def take(self, indices: NDArray) -> tuple[Any, Tensor | None]:
        """Return graphs and features of some molecules as one batch."""
        graphs = None if self.graphs is None else self.graphs.take(indices)
        if self.features is None:
            return graphs, None
        return graphs, self.features[torch.as_tensor(indices)]

    def to(self, device: Any) -> "MoleculeInputs":
        """Return the molecules with their features on a device."""
        features = None if self.features is None else self.features.to(device)
        return MoleculeInputs(self.graphs, features)


@dataclass(frozen=True)
class PairBatch:
    """One batch as the towers take it; the fields are those of `EmbeddedBatch`."""

    graphs: Any
    features: Tensor | None
    profiles: Tensor
    molecule_index: Tensor
    molecule_drugs: Tensor
    anchors: Tensor | None = None
    partners: Tensor | None = None
    negatives: Tensor | None = None

    def __len__(self) -> int:
        return len(self.profiles)

    def to(self, device: Any) -> "PairBatch":
        """Return the batch on a device; pinned memory is copied asynchronously."""
        return self._map(lambda x: _move(x, device))

    def pin_memory(self) -> "PairBatch":
        """Return the batch in page-locked memory; called by torch's DataLoader."""
        return self._map(lambda x: x.pin_memory() if hasattr(x, "pin_memory") else x)

    def _map(self, function: Any) -> "PairBatch":
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(
            self, **{k: function(v) for k, v in values.items() if v is not None}
        )


def _move(x: Any, device: Any) -> Any:
    if isinstance(x, Tensor):
        return x.to(device, non_blocking=True)
    return x.to(device)


class PairDataset(Dataset):
    """Rows of (molecule, profile), with the molecules stored once each.

    Parameters
    ----------
    X : ndarray of shape (n_samples,) or (n_samples, n_features)
        The molecules as the caller gave them: what a splitter is shown.
    molecules : MoleculeInputs
        The distinct molecules.
    molecule_of : ndarray of shape (n_samples,)
        The molecule of each row.
    drugs : ndarray of shape (n_samples,)
        Drug of each row, as codes.
    profiles : Tensor of shape (n_samples, n_genes)
        The profile of each row.
    groups : ndarray of shape (n_samples, 2) or None
        Drug and cell line of each row, as the caller gave them.
    cell_lines : ndarray of shape (n_samples,) or None
        Cell line of each row, as codes.
    """

    def __init__(
        self,
        X: NDArray,
        molecules: MoleculeInputs,
        molecule_of: NDArray[np.intp],
        drugs: NDArray[np.intp],
        profiles: Tensor,
        groups: NDArray | None,
        cell_lines: NDArray[np.intp] | None,
    ):
        self.X = X
        self.molecules = molecules
        self.molecule_of = molecule_of
        self.drugs = drugs
        self.profiles = profiles
        self.groups = groups
        self.cell_lines = cell_lines
        # Drugs with equal features are one input, but not one molecule of a batch.
        self._n_drugs = int(drugs.max()) + 1
        self._pairs = molecule_of * self._n_drugs + drugs

    def __len__(self) -> int:
        return len(self.molecule_of)

    def __getitem__(self, row: int) -> PairBatch:
        return self.take(SampledBatch(np.array([row])))

    def __getitems__(self, sampled: SampledBatch) -> PairBatch:
        return self.take(sampled)

    def take(self, sampled: SampledBatch) -> PairBatch:
        """Return one batch, with each of its molecules once."""
        rows = sampled.profiles
        pairs, index = np.unique(self._pairs[rows], return_inverse=True)
        molecules, drugs = np.divmod(pairs, self._n_drugs)
        graphs, features = self.molecules.take(molecules)
        return PairBatch(
            graphs,
            features,
            profiles=self.profiles[torch.from_numpy(rows)],
            molecule_index=torch.from_numpy(index),
            molecule_drugs=torch.from_numpy(drugs),
            anchors=_as_tensor(sampled.anchors),
            partners=_as_tensor(sampled.partners),
            negatives=_as_tensor(sampled.negatives),
        )

    @property
    def nbytes(self) -> int:
        """Memory of profiles and molecules."""
        return self.profiles.nbytes + self.molecules.nbytes

    def move(self, device: Any) -> None:
        """Put profiles and features on a device, for good.

        Graphs stay: a batch of them is made on the CPU while the device computes.
        """
        self.profiles = self.profiles.to(device)
        self.molecules = self.molecules.to(device)


def _as_tensor(positions: NDArray | None) -> Tensor | None:
    return None if positions is None else torch.from_numpy(positions)


def rows_of(dataset: Dataset) -> tuple[PairDataset, NDArray[np.intp]]:
    """Return the whole dataset and the rows that `dataset`, or a Subset, is."""
    if isinstance(dataset, Subset):
        whole, rows = rows_of(dataset.dataset)
        return whole, rows[np.asarray(dataset.indices)]
    if not isinstance(dataset, PairDataset):
        raise TypeError(f"a PairDataset is needed, got {type(dataset).__name__}")
    return dataset, np.arange(len(dataset))


class EpochBatches:
    """Batches of a sampler as torch's DataLoader takes them, one epoch after another.

    Each epoch draws from its own generator, seeded by (seed, epoch): a run that is
    resumed sees the batches that it would have seen. ``epoch=None`` draws the same
    batches each time, for validation.

    Parameters
    ----------
    sampler : sampler
        Not yet prepared.
    dataset : PairDataset or Subset of it
        Where the rows come from.
    seed : int
        Seed of the training.
    epoch : int or None
        Number of the first epoch.
    """

    batch_size = None  # accelerate asks for it; None means that batches differ in size
    drop_last = False

    def __init__(self, sampler: Any, dataset: Dataset, *, seed: int, epoch: int | None):
        whole, self.rows = rows_of(dataset)
        first, drugs = _first_of_each(whole.drugs[self.rows])
        cell_lines = whole.cell_lines
        self.sampler = sampler.prepare(
            drugs,
            profiles=whole.profiles[torch.from_numpy(self.rows)].cpu().numpy(),
            cell_lines=None if cell_lines is None else cell_lines[self.rows],
            molecules=whole.X[self.rows[first]],
        )
        self.seed, self.epoch = seed, epoch

    def __len__(self) -> int:
        return self.sampler.n_batches_

    def __iter__(self):
        epoch = () if self.epoch is None else (self.epoch,)
        rng = np.random.default_rng([self.seed, *epoch])
        if self.epoch is not None:
            self.epoch += 1
        for batch in self.sampler.epoch(rng):
            yield batch._replace(profiles=self.rows[batch.profiles])


def _first_of_each(codes: NDArray) -> tuple[NDArray, NDArray]:
    _, first, dense = np.unique(codes, return_index=True, return_inverse=True)
    return first, dense
