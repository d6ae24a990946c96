"""UniformSampler: any other drug is as good a negative."""

from typing import ClassVar

import numpy as np

from sklearn_molge.alignment.samplers._base import Indices, TripletSampler

__all__ = ["UniformSampler"]


class UniformSampler(TripletSampler):
    """Triplets whose negative drug is any other, with equal probability.

    The negative is then one of that drug's profiles, again with equal probability.

    Parameters
    ----------
    batch_size : int, default=417
        Triplets of a batch; the last one of an epoch holds the rest. The default is
        the paper's (Table A2).
    partners : bool, default=False
        Draw for each anchor another profile of its drug too, for losses that compare
        two profiles: one from another cell line where the drug has one, else any
        other, else the anchor itself.
    epoch_over : {"profiles", "drugs"}, default="profiles"
        In an epoch each profile is an anchor once, or each drug is, with one of its
        profiles at random; in random order.

    Attributes
    ----------
    n_batches_ : int
        Batches of an epoch.

    See Also
    --------
    DistanceWeightedSampler : Negatives chosen by their distance from the anchor.
    DrugBalancedSampler : Batches in which every pair is used.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.alignment.samplers import UniformSampler
    >>> drugs = np.array([0, 0, 1, 1, 2])
    >>> sampler = UniformSampler(batch_size=3).prepare(drugs)
    >>> batches = list(sampler.epoch(np.random.default_rng(0)))
    >>> anchors = [batch.profiles[batch.triplets.anchors] for batch in batches]
    >>> sorted(np.concatenate(anchors).tolist())
    [0, 1, 2, 3, 4]
    >>> batches[0].triplets.negatives  # positions in the batch
    array([3, 4, 5])
    """

    _parameter_constraints: ClassVar[dict] = {**TripletSampler._parameter_constraints}

    def __init__(self, *, batch_size=417, partners=False, epoch_over="profiles"):
        self.batch_size = batch_size
        self.partners = partners
        self.epoch_over = epoch_over

    def _negative_drugs(self, drugs: Indices, rng: np.random.Generator) -> Indices:
        negatives = rng.integers(0, self._index.n_drugs - 1, size=len(drugs))
        return negatives + (negatives >= drugs)
