"""The margin terms, their averages and the distances that the triplet losses share."""

from numbers import Real

import torch
from torch import Tensor, nn

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._embeddings import (
    DISTANCES,
    pairwise_distances,
    raise_single_drug,
)

ANCHORS = {"expression", "molecule", "expression_only"}
MARGIN_CONSTRAINTS = {
    "margin": [Interval(Real, 0, None, closed="left")],
    "beta": [Interval(Real, 0, None, closed="neither")],
    "learn_beta": ["boolean"],
    "distance": [StrOptions(DISTANCES)],
    "average": [StrOptions({"active", "mean"})],
}


class MarginLoss(nn.Module):
    """Margin terms of Wu et al. 2017 and their average over triplets."""

    def __init__(
        self,
        margin: float,
        beta: float,
        learn_beta: bool,
        distance: str,
        average: str,
    ):
        super().__init__()
        self.margin = margin
        self.beta = nn.Parameter(torch.tensor(float(beta))) if learn_beta else beta
        self.distance = distance
        self.average = average

    def pull(self, distances: Tensor) -> Tensor:
        """Term of a matching pair: positive beyond beta - margin."""
        return torch.relu(distances - self.beta + self.margin)

    def push(self, distances: Tensor) -> Tensor:
        """Term of a pair that does not match: positive within beta + margin."""
        return torch.relu(self.beta - distances + self.margin)

    def average_terms(self, *terms: Tensor) -> Tensor:
        """Sum the terms of each triplet and average over (active) triplets."""
        total = torch.stack(terms).sum(0)
        if self.average == "mean":
            return total.mean()
        return total.sum() / (total > 0).sum().clamp(min=1)


def triplets_of(batch: EmbeddedBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the triplets of a batch that has some."""
    anchors, partners, negatives = batch.triplets()
    if len(anchors) == 0:
        raise_single_drug(batch)
    return anchors, partners, negatives


def triplet_distances(
    batch: EmbeddedBatch, anchor: str, distance: str
) -> tuple[Tensor, Tensor]:
    """Distances of each triplet's anchor to its positive and to its negative."""
    anchors, partners, negatives = triplets_of(batch)
    if anchor == "expression_only":
        within = pairwise_distances(batch.profiles, batch.profiles, distance)
        return within[anchors, partners], within[anchors, negatives]
    cross = pairwise_distances(batch.profiles, batch.molecules, distance)
    own = batch.molecule_index[anchors]
    other = batch.molecule_index[negatives]
    if anchor == "expression":
        return cross[anchors, own], cross[anchors, other]
    return cross[anchors, own], cross[negatives, own]
