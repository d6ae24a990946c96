"""A batch at its three stations: sampled, looked up, embedded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sklearn_molge.molecules import GraphBatch

__all__ = ["EmbeddedBatch", "PairBatch", "SampledBatch", "Triplets"]

Positions = NDArray[np.intp] | Tensor


class Triplets(NamedTuple):
    """Which profiles of a batch are compared, as positions in its `profiles`.

    Attributes
    ----------
    anchors : ndarray or Tensor of shape (n_triplets,)
        The profile gA of each triplet.
    negatives : ndarray or Tensor of shape (n_triplets,)
        A profile gB of another drug.
    partners : ndarray or Tensor of shape (n_triplets,), or None
        Another profile gA' of gA's drug; gA itself where the drug has no other.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.alignment import SampledBatch, Triplets
    >>> triplets = Triplets(anchors=np.array([0]), negatives=np.array([1]))
    >>> SampledBatch(profiles=np.array([417, 12]), triplets=triplets).triplets.partners
    """

    anchors: Positions
    negatives: Positions
    partners: Positions | None = None

    def map(self, function: Callable) -> Triplets:
        """Apply a function to the positions that are there."""
        partners = None if self.partners is None else function(self.partners)
        return Triplets(function(self.anchors), function(self.negatives), partners)


@dataclass(frozen=True)
class SampledBatch:
    """Rows of the training set that make one batch: what a sampler draws.

    Attributes
    ----------
    profiles : ndarray of shape (n_profiles,)
        Rows of the training set.
    triplets : Triplets or None
        None compares every pair of profiles of different drugs.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.alignment import SampledBatch
    >>> SampledBatch(profiles=np.array([3, 17, 4])).profiles
    array([ 3, 17,  4])
    """

    profiles: NDArray[np.intp]
    triplets: Triplets | None = None


@dataclass(frozen=True)
class PairBatch:
    """One batch as the towers take it.

    Attributes
    ----------
    graphs : GraphBatch or None
        Graphs of the distinct molecules.
    features : Tensor of shape (n_molecules, n_features) or None
        Their features.
    profiles, molecule_index, molecule_drugs, triplets
        As of :class:`EmbeddedBatch`; the profiles are not embedded.
    """

    graphs: GraphBatch | None
    features: Tensor | None
    profiles: Tensor
    molecule_index: Tensor
    molecule_drugs: Tensor
    triplets: Triplets | None = None

    def __len__(self) -> int:
        return len(self.profiles)

    def to(self, device: str | torch.device) -> PairBatch:
        """Return the batch on a device; pinned memory is copied asynchronously."""
        return _map(self, lambda part: _move(part, device))

    def pin_memory(self) -> PairBatch:
        """Return the batch in page-locked memory; called by torch's DataLoader."""
        return _map(self, lambda p: p.pin_memory() if isinstance(p, Tensor) else p)


@dataclass(frozen=True)
class EmbeddedBatch:
    """Both views of one batch in the joint space: the input of every loss.

    Attributes
    ----------
    molecules : Tensor of shape (n_molecules, d)
        Embeddings of the distinct molecules of the batch.
    profiles : Tensor of shape (n_profiles, d)
        Embeddings of the profiles.
    molecule_index : Tensor of shape (n_profiles,)
        The molecule of each profile.
    molecule_drugs : Tensor of shape (n_molecules,)
        Drug code of each molecule: isomers and salts of one drug share it.
    inputs : Tensor of shape (n_profiles, n_genes)
        The profiles as the expression tower was given them.
    triplets : Triplets or None
        Sampled triplets, as positions in `profiles`; None means all pairs.

    Examples
    --------
    >>> import torch
    >>> from sklearn_molge.alignment import EmbeddedBatch
    >>> batch = EmbeddedBatch(
    ...     molecules=torch.eye(2),
    ...     profiles=torch.zeros(3, 2),
    ...     molecule_index=torch.tensor([0, 1, 1]),
    ...     molecule_drugs=torch.tensor([7, 8]),
    ...     inputs=torch.zeros(3, 978),
    ... )
    >>> batch.positives
    tensor([[ True, False],
            [False,  True],
            [False,  True]])
    """

    molecules: Tensor
    profiles: Tensor
    molecule_index: Tensor
    molecule_drugs: Tensor
    inputs: Tensor
    triplets: Triplets | None = None

    def to(self, device: str | torch.device) -> EmbeddedBatch:
        """Return the batch on a device."""
        return _map(self, lambda part: _move(part, device))

    def float(self) -> EmbeddedBatch:
        """Return the batch with its embeddings in float32."""
        molecules, profiles = self.molecules.float(), self.profiles.float()
        return replace(self, molecules=molecules, profiles=profiles)

    @property
    def profile_drugs(self) -> Tensor:
        """Drug code of each profile, of shape (n_profiles,)."""
        return self.molecule_drugs[self.molecule_index]

    @property
    def positives(self) -> Tensor:
        """Which molecules are each profile's drug: (n_profiles, n_molecules) bool."""
        return self.profile_drugs[:, None] == self.molecule_drugs[None, :]

    def resolve_triplets(self) -> Triplets:
        """Return the sampled triplets, or all pairs where none were sampled.

        Of all pairs, each anchor's partner is the next profile of its drug in the
        batch, in a circle.
        """
        if self.triplets is not None:
            return self.triplets
        drugs = self.profile_drugs
        anchors, negatives = torch.nonzero(
            drugs[:, None] != drugs[None, :], as_tuple=True
        )
        return Triplets(anchors, negatives, _next_of_same(drugs)[anchors])


def _next_of_same(codes: Tensor) -> Tensor:
    """Position of the next entry with the same code, in a circle."""
    order = torch.argsort(codes, stable=True)
    _, group, counts = torch.unique_consecutive(
        codes[order], return_inverse=True, return_counts=True
    )
    starts = torch.cumsum(counts, 0) - counts
    positions = torch.arange(len(codes), device=codes.device)
    following = starts[group] + (positions - starts[group] + 1) % counts[group]
    out = torch.empty_like(order)
    out[order] = order[following]
    return out


def _map(batch, function):
    """Apply a function to every part of a batch that is there."""
    parts = {f.name: getattr(batch, f.name) for f in fields(batch)}
    changed = {
        name: part.map(function) if isinstance(part, Triplets) else function(part)
        for name, part in parts.items()
        if part is not None
    }
    return replace(batch, **changed)


def _move(part, device):
    if isinstance(part, Tensor):
        return part.to(device, non_blocking=True)
    return part.to(device)
