"""DrugBalancedSampler: few profiles each of many drugs, all of them compared."""

from collections.abc import Iterator
from numbers import Integral
from typing import ClassVar

import numpy as np

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge.alignment._batches import SampledBatch
from sklearn_molge.alignment.samplers._base import BaseSampler, Indices

__all__ = ["DrugBalancedSampler"]


class DrugBalancedSampler(BaseSampler):
    """Batches of B drugs with K profiles each, in which every pair is used.

    A batch has no triplets of its own: each profile is compared with all of the other
    drugs. The K profiles are from different cell lines as far as the drug has them,
    and drugs with many profiles count no more than others.

    Parameters
    ----------
    drugs_per_batch : int, default=128
        B, the drugs of a batch. The drugs are shared out evenly, to batches of at most
        B; of B + 1 where a drug would be left alone.
    profiles_per_drug : int, default=2
        K, the profiles of each drug in a batch. A drug with fewer gives all it has,
        and none twice.
    epoch_over : {"profiles", "drugs"}, default="profiles"
        Length of an epoch. With "drugs" each drug comes once. With "profiles" each
        comes as often as it takes for about as many profiles as there are:
        n_profiles / sum(min(K, profiles of the drug)) times, rounded and at least 1.

    Attributes
    ----------
    n_batches_ : int
        Batches of an epoch.

    See Also
    --------
    UniformSampler : Triplets of an anchor and one negative.

    Notes
    -----
    The drugs are permuted for each pass over them. The lines are drawn anew for each
    drug and batch; once all lines of the drug are in, those with profiles left are
    drawn from again. The profiles of one drug and line take turns, in an order drawn
    for each epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.alignment.samplers import DrugBalancedSampler
    >>> drugs = np.array([0, 0, 0, 1, 1, 2])
    >>> cell_lines = np.array([0, 0, 1, 0, 1, 1])
    >>> sampler = DrugBalancedSampler(drugs_per_batch=3, epoch_over="drugs")
    >>> sampler.prepare(drugs, cell_lines=cell_lines).n_batches_
    1
    >>> (batch,) = sampler.epoch(np.random.default_rng(0))
    >>> sorted(drugs[batch.profiles].tolist())
    [0, 0, 1, 1, 2]
    """

    _parameter_constraints: ClassVar[dict] = {
        "drugs_per_batch": [Interval(Integral, 2, None, closed="left")],
        "profiles_per_drug": [Interval(Integral, 1, None, closed="left")],
        "epoch_over": [StrOptions({"profiles", "drugs"})],
    }

    def __init__(
        self, *, drugs_per_batch=128, profiles_per_drug=2, epoch_over="profiles"
    ):
        self.drugs_per_batch = drugs_per_batch
        self.profiles_per_drug = profiles_per_drug
        self.epoch_over = epoch_over

    def _count_batches(self) -> int:
        return self._n_passes() * self._n_batches_of_pass()

    def _n_passes(self) -> int:
        if self.epoch_over == "drugs":
            return 1
        drawn = np.minimum(self._index.counts, self.profiles_per_drug).sum()
        return max(1, round(self._index.n_profiles / drawn))

    def _n_batches_of_pass(self) -> int:
        # The second bound leaves at least two drugs to each batch.
        n_drugs = self._index.n_drugs
        return min(-(-n_drugs // self.drugs_per_batch), n_drugs // 2)

    def _batches(self, rng: np.random.Generator) -> Iterator[SampledBatch]:
        index = self._index
        # The profiles of each drug and line, shuffled; and how many of them are used.
        shuffled = rng.permutation(index.n_profiles)
        by_group = np.argsort(index.group_of_place[shuffled], kind="stable")
        order = index.order[shuffled[by_group]]
        used = np.zeros(len(index.group_places) - 1, dtype=np.intp)
        for _ in range(self._n_passes()):
            drugs = rng.permutation(index.n_drugs)
            for part in np.array_split(drugs, self._n_batches_of_pass()):
                groups, turns = self._draw_groups(part, rng)
                first, last = index.group_places[groups], index.group_places[groups + 1]
                places = first + (used[groups] + turns) % (last - first)
                np.add.at(used, groups, 1)
                yield SampledBatch(profiles=order[places])

    def _draw_groups(
        self, drugs: Indices, rng: np.random.Generator
    ) -> tuple[Indices, Indices]:
        """Draw the groups (drug and line) of the batch, and the how-manieth of each."""
        index = self._index
        first, last = index.drug_groups[drugs], index.drug_groups[drugs + 1]
        lines = np.arange((last - first).max())
        exists = lines < (last - first)[:, None]
        groups = np.where(exists, first[:, None] + lines, 0)
        sizes = np.where(exists, np.diff(index.group_places)[groups], 0)
        # Round-robin: every line's first profile ranks before any line's second one.
        rounds = np.arange(self.profiles_per_drug)
        ranks = rng.random(groups.shape)[:, :, None] + rounds
        ranks[rounds >= sizes[:, :, None]] = np.inf
        ranks = ranks.reshape(len(drugs), -1)
        chosen = np.argsort(ranks, axis=1)[:, : self.profiles_per_drug]
        taken = np.isfinite(np.take_along_axis(ranks, chosen, axis=1))
        line, turn = np.divmod(chosen, self.profiles_per_drug)
        return np.take_along_axis(groups, line, axis=1)[taken], turn[taken]
