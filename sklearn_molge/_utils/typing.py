"""What the rooms expect of the estimators that they are handed."""

from collections.abc import Callable
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

__all__ = [
    "Compare",
    "Embedder",
    "Matrix",
    "RandomState",
    "Rows",
    "Transformer",
    "TwoViewEstimator",
]

# Features, dense or sparse; rows may also be text.
Matrix: TypeAlias = NDArray | sparse.csr_array
Rows: TypeAlias = ArrayLike | sparse.csr_array
# Takes profiles, and returns similarities of shape (n_profiles, n_molecules).
Compare = Callable[[ArrayLike], NDArray]
RandomState = int | np.random.RandomState | None


class Transformer(Protocol):
    """Changes rows, such as a fingerprint or a PCA."""

    def transform(self, X: Rows) -> Rows:
        """Return a row for each row of X."""
        ...


class TwoViewEstimator(Protocol):
    """Compares molecules with profiles, as `sklearn_molge.base.TwoViewMixin` does."""

    def similarity(self, X: Rows, y: ArrayLike) -> NDArray:
        """Similarity of every profile to every molecule."""
        ...


class Embedder(TwoViewEstimator, Protocol):
    """Has a joint space, as `sklearn_molge.base.EmbedderMixin` does."""

    metric: str

    def transform(self, X: Rows) -> Matrix:
        """Project molecules into the joint space."""
        ...

    def transform_ge(self, y: ArrayLike) -> Matrix:
        """Project profiles into the joint space."""
        ...
