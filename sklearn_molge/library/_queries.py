"""Queries: profiles, alone or those of one condition together, in the joint space."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import column_or_1d

from sklearn_molge._utils.messages import first_few, shortened
from sklearn_molge._utils.rows import group_means
from sklearn_molge._utils.typing import RandomState
from sklearn_molge.library._store import VectorStore

__all__ = ["Queries", "with_sign_turned"]

# No p-value of a query has to be known better, and each is held in memory.
_MOST_PERMUTATIONS = 100_000

Embed = Callable[[Any], NDArray[np.float32]]


@dataclass(frozen=True, eq=False)
class Queries:
    """What an index is asked.

    Attributes
    ----------
    vectors : ndarray of shape (n_queries, n_components), dtype=float32
        The queries in the joint space: means of their profiles.
    names : array-like of shape (n_queries,), or None
    profiles : array-like of shape (n_profiles, n_genes)
        In the order of the estimator's genes.
    members : list of ndarray
        The profiles of each query.
    """

    vectors: NDArray[np.float32]
    names: Any
    profiles: ArrayLike
    members: list[NDArray[np.intp]]

    def __len__(self) -> int:
        return len(self.vectors)

    @property
    def n_genes(self) -> int:
        """Number of genes of a profile."""
        return int(np.prod(np.shape(self.profiles)[1:]))

    @classmethod
    def make(cls, y, names, groups, embed: Embed) -> "Queries":
        """Project profiles, and average those of each condition in the joint space.

        The rule of ``retrieval_ranks(per="drug")``. On real data (see
        docs/benchmarks.md) none of the others was better: means or MODZ of the
        profiles, means, quantiles or the best of the similarities or ranks.

        Raises
        ------
        ValueError
            If profiles are constant, or `groups` does not name a condition for each.
        """
        _refuse_constant(y)
        vectors = embed(y)
        if groups is None:
            return cls(vectors, names, y, list(np.arange(len(vectors))[:, None]))
        labels, codes = _conditions(groups, len(vectors))
        members = [np.flatnonzero(codes == i) for i in range(len(labels))]
        return cls(group_means(vectors, codes).astype(np.float32), labels, y, members)

    def check_directions(self, store: VectorStore) -> None:
        """Refuse queries that have no correlation or no angle with anything."""
        if store.metric not in ("correlation", "cosine"):
            return
        lengths = np.linalg.norm(store.to_stored(self.vectors), axis=1)
        bad = np.flatnonzero(lengths < 0.5)  # of those that have one it is 1
        if bad.size:
            raise ValueError(
                f"y: {bad.size} of {len(self)} queries lie where {store.metric} is "
                "undefined, so no molecule is nearer than another; as the mean profile "
                "of the training set does. Queries number "
                f"[{first_few(bad.tolist())}]."
            )

    def permuted(
        self, n_permutations: int, random_state: RandomState
    ) -> Iterator[list[NDArray]]:
        """Return a generator of the profiles of each query, with their permutations.

        For each of its profiles an array of shape (1 + n_permutations, n_genes): the
        profile itself, then with its genes permuted, in the same ways for all.
        """
        is_int = isinstance(n_permutations, Integral)
        if not (is_int and 0 <= n_permutations <= _MOST_PERMUTATIONS):
            raise ValueError(
                f"n_permutations must be an int from 0 to {_MOST_PERMUTATIONS:,}. Got "
                f"{n_permutations!r}."
            )
        profiles = np.asarray(self.profiles)
        draw = check_random_state(random_state)
        n_genes = profiles.shape[1]
        orders = [np.arange(n_genes)]
        orders += [draw.permutation(n_genes) for _ in range(n_permutations)]
        return ([profiles[i][orders] for i in own] for own in self.members)


def with_sign_turned(y):
    """Return the opposite profiles.

    Raises
    ------
    ValueError
        If all values of a profile are above 0, as those of intensities.
    """
    try:
        values = np.asarray(y)
        values = values if values.dtype.kind == "f" else values.astype(np.float64)
        above = np.flatnonzero((values > 0).reshape(len(values), -1).all(axis=1))
    except (TypeError, ValueError):
        return y  # what is no array of profiles is refused by the embedder
    if above.size:
        raise ValueError(
            "reverse=True asks for what mimics -y, and needs profiles with a sign, "
            f"such as z-scores. All values of {above.size} of {len(values)} are above "
            f"0: rows [{first_few(above.tolist())}]. Study.to_level4 and robust_zscore "
            "make z-scores."
        )
    return pd.DataFrame(-values, y.index, y.columns) if hasattr(y, "iloc") else -values


def _refuse_constant(y) -> None:
    """Refuse profiles that say nothing: zero, or the same in all genes."""
    values = np.asarray(y)
    if values.ndim != 2 or values.dtype.kind not in "fiub" or values.shape[1] < 2:
        return  # what is no array of profiles is refused by the embedder
    bad = np.flatnonzero(values.max(axis=1) == values.min(axis=1))
    if bad.size:
        raise ValueError(
            "y must hold profiles whose genes differ. "
            f"{bad.size} of {len(values)} have the same value in every gene: rows "
            f"[{first_few(bad.tolist())}]."
        )


def _conditions(groups: ArrayLike, n_profiles: int) -> tuple[NDArray, NDArray]:
    """Return the conditions of profiles, sorted, and which each has."""
    # numpy makes the text "nan" of a NaN in a list of texts.
    kind = None if hasattr(groups, "dtype") else object
    given = np.asarray(groups, dtype=kind)
    if given.ndim == 0 or len(given) != n_profiles:
        raise ValueError(
            "groups must have one entry a profile. Got inconsistent numbers of "
            f"samples: {n_profiles} profiles, and "
            f"{len(given) if given.ndim else shortened(groups)} as groups."
        )
    conditions: NDArray = column_or_1d(given)
    missing = np.flatnonzero(pd.isna(conditions))
    if missing.size:
        raise ValueError(
            "groups must name the condition of every profile. "
            f"Missing in rows [{first_few(missing.tolist())}]."
        )
    try:
        labels, codes = np.unique(conditions, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(g).__name__ for g in conditions.tolist()})
        raise ValueError(f"groups must be of one kind. Got {kinds}.") from error
    return labels, codes
