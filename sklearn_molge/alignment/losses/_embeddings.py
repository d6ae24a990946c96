"""Distances and similarities between embeddings, and the check of a batch."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from sklearn_molge.alignment._batches import EmbeddedBatch

DISTANCES = {"euclidean", "cosine"}
# Shorter embeddings are not stretched to length 1: their gradient would explode.
_SHORTEST = 1e-6


def cosine_similarities(a: Tensor, b: Tensor) -> Tensor:
    """Return the cosine of every row of `a` with every row of `b`."""
    return normalize(a, dim=1, eps=_SHORTEST) @ normalize(b, dim=1, eps=_SHORTEST).T


def pairwise_distances(a: Tensor, b: Tensor, distance: str) -> Tensor:
    """Return the distance of every row of `a` to every row of `b`.

    The gradient of the Euclidean distance at 0 is 0.
    """
    if distance == "cosine":
        return 1 - cosine_similarities(a, b)
    # About a common centre, so that |a|^2 + |b|^2 - 2ab keeps digits as rows get close.
    centre = b.detach().mean(0)
    return torch.cdist(a - centre, b - centre, compute_mode="use_mm_for_euclid_dist")


def refuse_single_drug(batch: EmbeddedBatch) -> None:
    """Raise ValueError where the batch holds no negatives."""
    drugs = batch.molecule_drugs
    if drugs.is_cuda:
        return  # the look would wait for the GPU, and no sampler makes such a batch
    if bool((drugs == drugs[:1]).all()):
        raise_single_drug(batch)


def raise_single_drug(batch: EmbeddedBatch) -> None:
    """Say that the batch holds no negatives."""
    raise ValueError(
        "A batch needs profiles of at least two drugs, or there are no negatives. "
        f"Got 1 drug with n_profiles={len(batch.profiles)} and "
        f"n_molecules={len(batch.molecules)}."
    )
