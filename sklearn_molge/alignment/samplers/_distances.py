"""Distances between drugs, by their expression or their structure."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from sklearn_molge._utils.rows import is_text, row_batches
from sklearn_molge._utils.similarity import similarity_to
from sklearn_molge.alignment.samplers._index import Indices, ProfileIndex
from sklearn_molge.molecules import MorganFingerprinter

_FLOATS = [np.float32, np.float64]
# Equal drugs are at distance 0, and tied, whatever the rounding of the product.
_ROUNDING = 10 * np.finfo(np.float32).eps


class DrugDistances:
    """Distances, 1 - similarity, computed for the drugs that are asked for.

    Parameters
    ----------
    features : ndarray or sparse matrix of shape (n_drugs, n_features)
        One row for each drug.
    metric : {"correlation", "jaccard"}
        The similarity.
    """

    def __init__(self, features: Any, metric: str):
        self.features = features
        self.metric = metric

    @classmethod
    def from_expression(cls, profiles: Any, index: ProfileIndex) -> "DrugDistances":
        if profiles is None:
            raise ValueError(
                "distance='expression' compares the drugs' mean profiles. "
                "The 'profiles' parameter of prepare is None."
            )
        profiles = check_array(profiles, dtype=_FLOATS, input_name="profiles")
        _check_length("profiles", profiles, "profile", index.n_profiles)
        means = index.drug_means(profiles)
        return cls(means.astype(np.float32, copy=False), "correlation")

    @classmethod
    def from_structure(cls, molecules: Any, index: ProfileIndex) -> "DrugDistances":
        if molecules is None:
            raise ValueError(
                "distance='structure' compares the drugs' molecules. "
                "The 'molecules' parameter of prepare is None."
            )
        if is_text(molecules):
            _check_length("molecules", molecules, "drug", index.n_drugs)
            fingerprints = MorganFingerprinter(sparse_output=True).transform(molecules)
            return cls(fingerprints, "jaccard")
        molecules = check_array(molecules, dtype=_FLOATS, input_name="molecules")
        _check_length("molecules", molecules, "drug", index.n_drugs)
        return cls(molecules.astype(np.float32, copy=False), "correlation")

    def between(self, rows: Indices, columns: Indices) -> NDArray[np.float32]:
        """Return the distances from some drugs to others; a drug's own is 0."""
        similarity = similarity_to(self.features[columns], metric=self.metric)
        distances = _to_distances(similarity(self.features[rows]))
        distances[rows[:, None] == columns] = 0.0
        return distances

    def all_pairs(self) -> NDArray[np.float32]:
        """Return the matrix of all distances, with zeros in the diagonal."""
        n_drugs = self.features.shape[0]
        similarity = similarity_to(self.features, metric=self.metric)
        distances = np.empty((n_drugs, n_drugs), dtype=np.float32)
        # By blocks of the one product, so that only the result takes n_drugs^2.
        for part in row_batches(n_drugs, n_drugs):
            distances[part] = _to_distances(similarity(self.features[part]))
        np.fill_diagonal(distances, 0.0)
        return distances


def _to_distances(similarities: NDArray) -> NDArray:
    distances = np.minimum(1 - similarities, 2.0)
    distances[distances < _ROUNDING] = 0.0
    return distances


def _check_length(name: str, values: Any, what: str, expected: int) -> None:
    if len(values) != expected:
        raise ValueError(
            f"{name} must have one row for each {what}. Got {len(values)} for "
            f"{expected} {what}s."
        )
