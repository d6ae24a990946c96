"""RandomRetriever: chance, as an estimator."""

from __future__ import annotations

from hashlib import blake2b
from typing import Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import _check_sample_weight, _fit_context
from sklearn_molge._utils.typing import Compare
from sklearn_molge.base import (
    TwoViewMixin,
    check_molecules,
    check_profiles,
    check_two_views,
    molecule_keys,
)

__all__ = ["RandomRetriever"]


class RandomRetriever(TwoViewMixin, BaseEstimator):
    """Rank molecules at random: what a score means nothing without.

    The similarity of a molecule and a profile is a hash of both and of the seed: it
    does not depend on which others they are compared with, nor on their order.

    Parameters
    ----------
    random_state : int, RandomState instance or None, default=None
        Seed of the hash; pass an int for the same ranking each time.

    Attributes
    ----------
    seed_ : int
        The seed used.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.

    See Also
    --------
    sklearn_molge.metrics.chance_scores : The expected scores, without a draw.

    Examples
    --------
    >>> from sklearn_molge.retrieval import RandomRetriever
    >>> chance = RandomRetriever(random_state=0).fit(["CCO", "CCN"], [[0.0], [1.0]])
    >>> chance.similarity(["CCO", "CCN", "CCC"], [[0.0], [1.0]]).shape
    (2, 3)
    """

    _parameter_constraints: dict = {"random_state": ["random_state"]}

    _remembers_rows = False  # it learns nothing

    def __init__(self, random_state=None):
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None) -> Self:
        """Draw the seed.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecules; only their number is looked at.
        y : array-like of shape (n_samples, n_genes)
            Profiles; only their number is looked at.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows; only their number and sign are looked at.

        Returns
        -------
        self : object
            Fitted estimator.
        """
        _, y = check_two_views(self, X, y, accept_sparse="csr")
        _check_sample_weight(sample_weight, y, ensure_non_negative=True)
        self.seed_ = int(check_random_state(self.random_state).randint(2**31 - 1))
        return self

    def compare_to(self, X) -> Compare:
        """Prepare a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules.

        Returns
        -------
        compare : callable
            Takes profiles of shape (n_profiles, n_genes), and returns random numbers,
            uniform on [0, 1): an array of shape (n_profiles, n_molecules), larger
            meaning closer.
        """
        check_is_fitted(self)
        X = check_molecules(self, X, reset=False, accept_sparse="csr")
        molecules = self._hash(molecule_keys(X))

        def similarity(y):
            y = check_profiles(self, y, reset=False, dtype=np.float64)
            profiles = self._hash(molecule_keys(y))
            return _uniform(profiles[:, None] * np.uint64(3) + molecules)

        return similarity

    def _hash(self, keys):
        seed = self.seed_.to_bytes(8, "little")
        texts = (k.encode() if isinstance(k, str) else k for k in keys)
        digests = b"".join(blake2b(t, digest_size=8, key=seed).digest() for t in texts)
        return np.frombuffer(digests, dtype=np.uint64)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.sparse = True
        tags.non_deterministic = self.random_state is None
        return tags


def _uniform(bits):
    """Mix 64-bit integers (Steele et al. 2014, SplitMix64) into numbers in [0, 1)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return (bits >> np.uint64(11)) * 2.0**-53
