"""What the samplers hand to the estimator, and what the losses are given."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class SampledBatch(NamedTuple):
    """Rows of the training profiles that make one batch.

    The triplets are positions in `profiles`, not rows of the study. Without them
    (None) every pair of profiles of different drugs in the batch is a triplet.

    Attributes
    ----------
    profiles : ndarray of shape (n_profiles,)
        Rows of the training set.
    anchors, partners, negatives : ndarray of shape (n_triplets,) or None
        The profile gA of each triplet, another profile gA' of its drug (gA itself
        where the drug has no other) and the profile gB of the negative drug.
    """

    profiles: NDArray[np.intp]
    anchors: NDArray[np.intp] | None = None
    partners: NDArray[np.intp] | None = None
    negatives: NDArray[np.intp] | None = None


class EmbeddedBatch(NamedTuple):
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
    anchors, partners, negatives : Tensor of shape (n_triplets,) or None
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
    anchors: Tensor | None = None
    partners: Tensor | None = None
    negatives: Tensor | None = None

    @property
    def profile_drugs(self):
        """Drug code of each profile, of shape (n_profiles,)."""
        return self.molecule_drugs[self.molecule_index]

    @property
    def positives(self):
        """Which molecules are each profile's drug: (n_profiles, n_molecules) bool."""
        return self.profile_drugs[:, None] == self.molecule_drugs[None, :]

    def triplets(self):
        """Return anchors, partners and negatives, all pairs where none were sampled.

        Of all pairs, each anchor's partner is the next profile of its drug in the
        batch, in a circle.
        """
        if self.anchors is not None:
            return self.anchors, self.partners, self.negatives
        drugs = self.profile_drugs
        anchors, negatives = torch.nonzero(
            drugs[:, None] != drugs[None, :], as_tuple=True
        )
        return anchors, next_of_same(drugs)[anchors], negatives


def next_of_same(codes):
    """Position of the next entry with the same code, in a circle."""
    order = torch.argsort(codes, stable=True)
    ranked = codes[order]
    _, group, counts = torch.unique_consecutive(
        ranked, return_inverse=True, return_counts=True
    )
    starts = torch.cumsum(counts, 0) - counts
    positions = torch.arange(len(codes), device=codes.device)
    following = starts[group] + (positions - starts[group] + 1) % counts[group]
    out = torch.empty_like(order)
    out[order] = order[following]
    return out
