"""What the losses share: distances, margins over triplets, cosines of all pairs."""

import math
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sklearn_molge._compat import (
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn_molge.alignment._batches import EmbeddedBatch, Triplets

DISTANCES = {"euclidean", "cosine"}
ANCHORS = {"expression", "molecule", "expression_only"}
MARGIN_CONSTRAINTS = {
    "margin": [Interval(Real, 0, None, closed="left")],
    "beta": [Interval(Real, 0, None, closed="neither")],
    "learn_beta": ["boolean"],
    "distance": [StrOptions(DISTANCES)],
    "average": [StrOptions({"active", "mean"})],
}
_LARGEST_SCALE = 100
TEMPERATURE_CONSTRAINTS = {
    "temperature": [Interval(Real, 1 / _LARGEST_SCALE, None, closed="left")],
    "learn_temperature": ["boolean"],
}
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


# -- triplets ------------------------------------------------------------------------


class MarginLoss(nn.Module):
    """Margin terms of Wu et al. 2017 and their average over triplets."""

    _parameter_constraints: ClassVar[dict] = MARGIN_CONSTRAINTS
    # What a sampler must give: triplets with another profile of the anchor's drug.
    needs_partners = False

    def __init__(self, *, margin, beta, learn_beta, distance, average, **others):
        super().__init__()
        params = {"margin": margin, "beta": beta, "learn_beta": learn_beta}
        params |= {"distance": distance, "average": average, **others}
        name = type(self).__name__
        validate_parameter_constraints(self._parameter_constraints, params, name)
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


def triplets_of(batch: EmbeddedBatch) -> Triplets:
    """Return the triplets of a batch that has some."""
    triplets = batch.resolve_triplets()
    if len(triplets.anchors) == 0:
        raise_single_drug(batch)
    return triplets


def triplet_distances(
    batch: EmbeddedBatch, anchor: str, distance: str
) -> tuple[Tensor, Tensor]:
    """Distances of each triplet's anchor to its positive and to its negative."""
    anchors, negatives, partners = triplets_of(batch)
    if anchor == "expression_only":
        if partners is None:
            raise ValueError(
                "A loss that compares two profiles of a drug needs triplets with "
                "partners: set sampler__partners=True. The sampler's have none."
            )
        within = pairwise_distances(batch.profiles, batch.profiles, distance)
        return within[anchors, partners], within[anchors, negatives]
    cross = pairwise_distances(batch.profiles, batch.molecules, distance)
    own = batch.molecule_index[anchors]
    other = batch.molecule_index[negatives]
    if anchor == "expression":
        return cross[anchors, own], cross[anchors, other]
    return cross[anchors, own], cross[negatives, own]


# -- all pairs -----------------------------------------------------------------------


class AllPairsLoss(nn.Module):
    """Base of the losses over the cosines of all pairs, divided by a temperature."""

    def __init__(self, temperature: float, learn_temperature: bool):
        super().__init__()
        self.log_scale = nn.Parameter(
            torch.tensor(-math.log(temperature)), requires_grad=learn_temperature
        )

    def logits(self, batch: EmbeddedBatch) -> Tensor:
        """Return the scaled cosines, of shape (n_profiles, n_molecules)."""
        refuse_single_drug(batch)
        # Clamped in place, as in CLIP: clamped on the way its gradient would stay 0.
        with torch.no_grad():
            self.log_scale.clamp_(max=math.log(_LARGEST_SCALE))
        cosines = cosine_similarities(batch.profiles, batch.molecules)
        return cosines * self.log_scale.exp()


def log_negatives(logits: Tensor, positives: Tensor) -> Tensor:
    """Log of each row's sum of exponentials over its negatives, as a column."""
    return logits.masked_fill(positives, -math.inf).logsumexp(1, keepdim=True)


def mean_over_positives(terms: Tensor, positives: Tensor) -> Tensor:
    """Mean over rows of the mean of each row's terms over its positives."""
    return ((terms * positives).sum(1) / positives.sum(1)).mean()
