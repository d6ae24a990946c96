"""What the losses over all pairs of a batch share: scaled cosines and positives."""

import math
from numbers import Real

import torch
from torch import Tensor, nn

from sklearn_molge._compat import Interval
from sklearn_molge.alignment._batches import EmbeddedBatch
from sklearn_molge.alignment.losses._embeddings import (
    cosine_similarities,
    refuse_single_drug,
)

_LARGEST_SCALE = 100
TEMPERATURE_CONSTRAINTS = {
    "temperature": [Interval(Real, 1 / _LARGEST_SCALE, None, closed="left")],
    "learn_temperature": ["boolean"],
}


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
