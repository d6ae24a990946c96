"""What the samplers share: which profiles a drug has, and the drawing of triplets."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from numbers import Integral
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge._utils.messages import counted
from sklearn_molge.alignment._batches import SampledBatch, Triplets

Indices = NDArray[np.intp]


class ProfileIndex:
    """The profiles in order of drug, then cell line; both in CSR form.

    A group is the profiles of one drug in one cell line.

    Parameters
    ----------
    drugs : array-like of shape (n_profiles,)
        Codes 0 to n_drugs - 1, each of which occurs.
    cell_lines : array-like of shape (n_profiles,) or None
        Codes; None is one line for all.

    Attributes
    ----------
    drugs : ndarray of shape (n_profiles,)
        Drug of each profile.
    order : ndarray of shape (n_profiles,)
        The profiles, sorted; "place" is a position in it.
    places : ndarray of shape (n_profiles,)
        Place of each profile.
    drug_places, group_places : ndarray of shape (n_drugs + 1,), (n_groups + 1,)
        First place of each drug and group.
    drug_groups : ndarray of shape (n_drugs + 1,)
        First group of each drug.
    group_of_place : ndarray of shape (n_profiles,)
        Group at each place.
    """

    def __init__(self, drugs: ArrayLike, cell_lines: ArrayLike | None = None):
        self.drugs, counts = _check_drugs(drugs)
        lines = _check_cell_lines(cell_lines, len(self.drugs))
        self.order = np.lexsort((lines, self.drugs))
        self.places = np.empty_like(self.order)
        self.places[self.order] = np.arange(len(self.order))
        self.drug_places = np.concatenate([[0], np.cumsum(counts)])
        # A group starts where the drug or the line differs from the place before.
        sorted_pairs = np.stack([self.drugs, lines])[:, self.order]
        starts = np.any(np.diff(sorted_pairs, prepend=-1) != 0, axis=0)
        self.group_of_place = np.cumsum(starts) - 1
        self.group_places = np.append(np.flatnonzero(starts), len(self.order))
        self.drug_groups = np.searchsorted(self.group_places, self.drug_places)

    @property
    def n_profiles(self) -> int:
        return len(self.order)

    @property
    def n_drugs(self) -> int:
        return len(self.drug_places) - 1

    @property
    def counts(self) -> Indices:
        """Number of profiles of each drug."""
        return np.diff(self.drug_places)

    def random_profiles(self, drugs: Indices, rng: np.random.Generator) -> Indices:
        """Draw a profile of each drug."""
        first, last = self.drug_places[drugs], self.drug_places[drugs + 1]
        return self.order[rng.integers(first, last)]

    def random_partners(self, profiles: Indices, rng: np.random.Generator) -> Indices:
        """Draw another profile of each one's drug, from another line if there is one.

        Where the drug has no other profile, the profile itself comes back.
        """
        places = self.places[profiles]
        drugs, groups = self.drugs[profiles], self.group_of_place[places]
        first, last = self.drug_places[drugs], self.drug_places[drugs + 1]
        # What must not be drawn: the own line, or itself, or nothing.
        begin, end = self.group_places[groups], self.group_places[groups + 1]
        one_line = end - begin == last - first
        begin = np.where(one_line, places, begin)
        end = np.where(one_line, places + (last - first > 1), end)
        drawn = rng.integers(first, last - (end - begin))
        return self.order[drawn + np.where(drawn >= begin, end - begin, 0)]

    def drug_means(self, profiles: NDArray) -> NDArray:
        """Mean of the profiles of each drug, of shape (n_drugs, n_genes)."""
        weights = np.repeat(1 / self.counts, self.counts).astype(profiles.dtype)
        shape = (self.n_drugs, self.n_profiles)
        return (
            sparse.csr_array((weights, self.order, self.drug_places), shape=shape)
            @ profiles
        )


def _check_drugs(drugs: ArrayLike) -> tuple[Indices, Indices]:
    codes = _check_codes("drugs", drugs)
    counts = np.bincount(codes)
    if len(counts) < 2:
        raise ValueError(
            f"A batch needs the profiles of at least 2 drugs. Got {len(counts)} "
            "different drug(s) in drugs."
        )
    missing = np.flatnonzero(counts == 0)
    if missing.size:
        raise ValueError(
            f"drugs must hold each code from 0 to {len(counts) - 1}. {missing.size} "
            f"of them do not occur, the first is {missing[0]}."
        )
    return codes, counts


def _check_cell_lines(cell_lines: ArrayLike | None, n_profiles: int) -> Indices:
    if cell_lines is None:
        return np.zeros(n_profiles, dtype=np.intp)
    codes = _check_codes("cell_lines", cell_lines)
    if len(codes) != n_profiles:
        raise ValueError(
            "cell_lines must have one code for each profile. Got "
            f"{len(codes)} for {counted(n_profiles, 'profile')}."
        )
    return codes


def _check_codes(name: str, values: ArrayLike) -> Indices:
    codes = np.asarray(values)
    if codes.ndim != 1 or codes.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be a 1-D array of integer codes. Got an array of shape "
            f"{codes.shape} and dtype {codes.dtype}."
        )
    negative = np.flatnonzero(codes < 0)
    if negative.size:
        raise ValueError(
            f"{name} must hold codes from 0 on. Got {codes[negative[0]]} at index "
            f"{negative[0]}."
        )
    return codes.astype(np.intp, copy=False)


class BaseSampler(BaseEstimator, metaclass=ABCMeta):
    """Base of the samplers.

    A subclass has ``_count_batches()``, ``_batches(rng)`` and, if it looks at profiles
    or molecules, ``_prepare(profiles, molecules)``.
    """

    n_batches_: int
    _index: ProfileIndex

    def prepare(
        self,
        drugs: ArrayLike,
        *,
        profiles: ArrayLike | None = None,
        cell_lines: ArrayLike | None = None,
        molecules: ArrayLike | None = None,
    ) -> BaseSampler:
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

    def _prepare(self, profiles, molecules) -> None:
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
        return SampledBatch(np.concatenate(parts), Triplets(*places))

    @abstractmethod
    def _negative_drugs(self, drugs: Indices, rng: np.random.Generator) -> Indices: ...
