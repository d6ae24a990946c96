"""What the samplers share."""

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge.alignment._batches import SampledBatch
from sklearn_molge.alignment.samplers._index import Indices, ProfileIndex


class BaseSampler(BaseEstimator, metaclass=ABCMeta):
    """Base of the samplers.

    A subclass has ``_count_batches()``, ``_batches(rng)`` and, if it looks at profiles
    or molecules, ``_prepare(profiles, molecules)``.
    """

    n_batches_: int
    _index: ProfileIndex

    def prepare(
        self,
        drugs: Any,
        *,
        profiles: Any = None,
        cell_lines: Any = None,
        molecules: Any = None,
    ) -> "BaseSampler":
        """Read the training set; nothing random happens here.

        Parameters
        ----------
        drugs : array-like of int, shape (n_profiles,)
            Drug of each profile, as codes 0 to n_drugs - 1, each of which occurs.
        profiles : array-like of shape (n_profiles, n_genes), default=None
            The profiles, for distances between drugs by their expression.
        cell_lines : array-like of int, shape (n_profiles,), default=None
            Cell line of each profile, as codes from 0 on. None counts all as one.
        molecules : array-like of shape (n_drugs,) or (n_drugs, n_features), \
                default=None
            A SMILES or features of each drug, for distances by structure.

        Returns
        -------
        self : object
            The sampler, with `n_batches_`.

        Raises
        ------
        ValueError
            If there are fewer than 2 drugs, codes or lengths are wrong, or what the
            distances are computed from is missing.
        """
        self._validate_params()
        self._index = ProfileIndex(drugs, cell_lines)
        self._prepare(profiles, molecules)
        self.n_batches_ = self._count_batches()
        return self

    def epoch(self, rng: np.random.Generator) -> Iterator[SampledBatch]:
        """Draw the batches of one epoch.

        Parameters
        ----------
        rng : numpy.random.Generator
            The only source of randomness: the same generator in the same state gives
            the same batches.

        Returns
        -------
        batches : iterator of SampledBatch
            `n_batches_` batches, each drawn when it is asked for.
        """
        if not hasattr(self, "n_batches_"):
            raise NotFittedError(
                f"This {type(self).__name__} has not seen a training set; call "
                "'prepare' first."
            )
        return self._batches(rng)

    def _prepare(self, profiles: Any, molecules: Any) -> None:
        """Most samplers look at neither."""

    @abstractmethod
    def _count_batches(self) -> int: ...

    @abstractmethod
    def _batches(self, rng: np.random.Generator) -> Iterator[SampledBatch]: ...


class TripletSampler(BaseSampler):
    """Base of the samplers that choose a negative drug for each anchor.

    A subclass has ``_negative_drugs(drugs, rng)``.
    """

    _parameter_constraints: ClassVar[dict] = {
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "partners": ["boolean"],
        "epoch_over": [StrOptions({"profiles", "drugs"})],
    }

    batch_size: int
    partners: bool
    epoch_over: str

    def _count_batches(self) -> int:
        over_drugs = self.epoch_over == "drugs"
        n_anchors = self._index.n_drugs if over_drugs else self._index.n_profiles
        return -(-n_anchors // self.batch_size)

    def _batches(self, rng: np.random.Generator) -> Iterator[SampledBatch]:
        if self.epoch_over == "drugs":
            drugs = rng.permutation(self._index.n_drugs)
            anchors = self._index.random_profiles(drugs, rng)
        else:
            anchors = rng.permutation(self._index.n_profiles)
        for start in range(0, len(anchors), self.batch_size):
            yield self._triplets(anchors[start : start + self.batch_size], rng)

    def _triplets(self, anchors: Indices, rng: np.random.Generator) -> SampledBatch:
        drugs = self._negative_drugs(self._index.drugs[anchors], rng)
        parts = [anchors, self._index.random_profiles(drugs, rng)]
        if self.partners:
            parts.append(self._index.random_partners(anchors, rng))
        places = np.arange(len(parts) * len(anchors)).reshape(len(parts), -1)
        return SampledBatch(
            profiles=np.concatenate(parts),
            anchors=places[0],
            partners=places[2] if self.partners else None,
            negatives=places[1],
        )

    @abstractmethod
    def _negative_drugs(self, drugs: Indices, rng: np.random.Generator) -> Indices: ...
