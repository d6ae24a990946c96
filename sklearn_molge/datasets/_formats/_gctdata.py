"""What a GCT or GCTX file holds, and how a part of it is asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, DTypeLike, NDArray

from sklearn_molge._utils.messages import first_few

__all__ = [
    "GctData",
    "Subset",
    "check_dtype",
    "resolve_subset",
    "text_index",
]

Subset = ArrayLike | slice | Callable[[pd.DataFrame], ArrayLike] | None


@dataclass(frozen=True, eq=False, repr=False)
class GctData:
    """A matrix of expression values with what is known of its rows and columns.

    Samples are rows, as scikit-learn wants them. A GCT text file shows the
    transpose: its rows are genes, its columns samples.

    Parameters
    ----------
    matrix : ndarray of shape (n_samples, n_genes)
        Values, in the unit of the file (log2 intensity at Level 3, z-score at
        Levels 4 and 5).
    obs : DataFrame of n_samples rows
        One row a sample (the file's column metadata), indexed by the sample ids.
    genes : DataFrame of n_genes rows
        One row a gene (the file's row metadata), indexed by the row ids: text,
        even where they are Entrez numbers.

    Raises
    ------
    ValueError
        If the three do not belong together.

    See Also
    --------
    read_gct : Read one from a GCT text file.
    read_gctx : Read one from a GCTX file.
    write_gctx : Write one.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from sklearn_molge.datasets import GctData
    >>> GctData(
    ...     matrix=np.zeros((2, 3), dtype=np.float32),
    ...     obs=pd.DataFrame({"pert_id": ["DMSO", "BRD-K1"]}, index=["p:A03", "p:A04"]),
    ...     genes=pd.DataFrame(index=["16", "23", "25"]),
    ... )
    GctData(n_samples=2, n_genes=3, obs=['pert_id'], genes=[])
    """

    matrix: NDArray[np.floating]
    obs: pd.DataFrame
    genes: pd.DataFrame

    def __post_init__(self) -> None:
        expected = (len(self.obs), len(self.genes))
        if np.shape(self.matrix) != expected:
            raise ValueError(
                "matrix must have a row for each row of obs and a column for each "
                f"row of genes, that is shape {expected}. "
                f"Got shape {np.shape(self.matrix)}."
            )

    def __repr__(self) -> str:
        n_samples, n_genes = self.matrix.shape
        return (
            f"GctData(n_samples={n_samples}, n_genes={n_genes}, "
            f"obs={list(self.obs.columns)}, genes={list(self.genes.columns)})"
        )


def check_dtype(dtype: DTypeLike) -> np.dtype:
    """Return the dtype that a matrix is asked for in: float32 or float64."""
    checked = np.dtype(dtype)
    if checked not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise ValueError(
            f"dtype must be numpy.float32 or numpy.float64. Got {dtype!r}."
        )
    return checked


def text_index(ids: Sequence[str] | NDArray) -> pd.Index:
    """Return ids as an index of Python strings named "id", in any pandas."""
    array = np.asarray(ids)
    if array.dtype != object:
        array = array.astype(str).astype(object)
    return pd.Index(array, dtype=object, name="id")


def resolve_subset(
    subset: Subset,
    n_ids: int,
    *,
    name: str,
    path: str | os.PathLike,
    read_ids: Callable[[], pd.Index],
    read_metadata: Callable[[], pd.DataFrame],
) -> NDArray[np.intp]:
    """Return the positions that `subset` asks for, in the order asked.

    Parameters
    ----------
    subset : None, array-like, slice or callable
        As `samples` of `read_gctx`.
    n_ids : int
        Length of the axis.
    name, path
        "samples" or "genes", and the file, for messages.
    read_ids, read_metadata : callable
        Return what the file says of the axis; called only where `subset` needs it.
    """
    if subset is None:
        return np.arange(n_ids, dtype=np.intp)
    if isinstance(subset, slice):
        return _resolve_slice(subset, n_ids, name)
    if callable(subset):
        mask = np.asarray(subset(read_metadata()))
        if mask.dtype != bool:
            raise ValueError(
                f"The callable {name} must return a boolean mask. "
                f"Got an array of dtype {mask.dtype}."
            )
        return _resolve_mask(mask, n_ids, name, path)
    wanted = np.asarray(subset)
    if wanted.ndim != 1:
        raise ValueError(
            f"{name} must be None, a 1-D array-like of ids, positions or booleans, a "
            f"slice, or a callable. Got {subset!r}."
        )
    if wanted.size == 0:
        return np.empty(0, dtype=np.intp)
    if wanted.dtype == bool:
        return _resolve_mask(wanted, n_ids, name, path)
    if wanted.dtype.kind in "iu":
        return _resolve_positions(wanted, n_ids, name, path)
    return _resolve_ids(wanted, read_ids(), name, path)


def _resolve_slice(subset: slice, n_ids: int, name: str) -> NDArray[np.intp]:
    try:
        return np.arange(n_ids, dtype=np.intp)[subset]
    except TypeError:
        raise ValueError(
            f"A slice of {name} must be of positions (whole numbers). Got {subset!r}."
        ) from None


def _resolve_mask(
    mask: NDArray[np.bool_], n_ids: int, name: str, path: str | os.PathLike
) -> NDArray[np.intp]:
    if mask.shape != (n_ids,):
        raise ValueError(
            f"A boolean mask for {name} must have one entry for each of the {n_ids} "
            f"{name} in {path}. Got shape {mask.shape}."
        )
    return np.flatnonzero(mask)


def _resolve_positions(
    wanted: NDArray[np.integer], n_ids: int, name: str, path: str | os.PathLike
) -> NDArray[np.intp]:
    outside = (wanted < -n_ids) | (wanted >= n_ids)
    if outside.any():
        raise ValueError(
            f"{name} asks for positions that {path} does not have; it has {n_ids} "
            f"{name} (ids are given as text): {first_few(wanted[outside].tolist())}."
        )
    positions = wanted.astype(np.intp)
    return np.where(positions < 0, positions + n_ids, positions)


def _resolve_ids(
    wanted: NDArray, ids: pd.Index, name: str, path: str | os.PathLike
) -> NDArray[np.intp]:
    texts = wanted.astype(object)
    strange = [value for value in texts if not isinstance(value, str)]
    if strange:
        raise ValueError(
            f"{name} must hold ids (text), positions (whole numbers) or booleans, of "
            f"one kind. Got {first_few(strange)}."
        )
    if not ids.is_unique:
        repeated = ids[ids.duplicated()].unique()
        raise ValueError(
            f"{name} cannot be asked for by id, because {path} holds some ids more "
            f"than once; ask by position: {first_few(repeated)}."
        )
    positions = ids.get_indexer(pd.Index(texts, dtype=object))
    if (positions < 0).any():
        raise ValueError(
            f"{name} asks for ids that are not in {path}: "
            f"{first_few(texts[positions < 0])}."
        )
    return positions
