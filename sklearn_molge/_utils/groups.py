"""Groups of rows: which drug, which cell line; and what may be learnt from what."""

import math
from dataclasses import dataclass
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from sklearn_molge._utils.messages import first_few

__all__ = ["Factor", "count_of", "disjoint_masks", "encode_groups", "oracle_mask"]

_COLUMNS = ("drug", "cell_line")

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Factor:
    """One column of the groups, as positions in its sorted distinct labels.

    Sorted, so that which label goes where does not depend on the order of rows.
    """

    name: str
    codes: NDArray[np.intp]
    labels: NDArray[np.object_]

    @classmethod
    def from_labels(cls, name: str, labels: NDArray[np.object_]) -> "Factor":
        return cls(name, *pd.factorize(labels, sort=True))

    @property
    def plural(self) -> str:
        return f"{self.name.replace('_', ' ')}s"

    def rows(self, positions: NDArray[np.intp]) -> Mask:
        """Return the rows whose label is at one of the positions."""
        chosen = np.zeros(len(self.labels), dtype=bool)
        chosen[positions] = True
        return chosen[self.codes]


def encode_groups(
    groups: ArrayLike | pd.DataFrame | None, *data: ArrayLike | None
) -> tuple[Factor, Factor]:
    """Check `groups` and return drugs and cell lines.

    `data` are arrays that must be as long as `groups`, or None.
    """
    if groups is None:
        raise ValueError(
            "The 'groups' parameter should not be None: it holds the drug and the cell "
            "line of each row, shape (n_samples, 2)."
        )
    if isinstance(groups, pd.DataFrame) and set(_COLUMNS) <= set(groups.columns):
        groups = groups[list(_COLUMNS)]
    labels = np.asarray(groups, dtype=object)
    if labels.ndim != 2 or labels.shape[1] != 2:
        raise ValueError(
            "groups must have shape (n_samples, 2): the drug and the cell line of each "
            f"row. Got an array of shape {labels.shape}."
        )
    check_consistent_length(*data, labels)
    missing = np.flatnonzero(pd.isna(labels).any(axis=1))
    if missing.size:
        raise ValueError(
            f"groups must not have missing labels. {missing.size} of {len(labels)} "
            f"rows have, at indices {first_few(missing.tolist())}."
        )
    drug, cell_line = (
        Factor.from_labels(name, labels[:, i]) for i, name in enumerate(_COLUMNS)
    )
    return drug, cell_line


def count_of(share_or_count, n_labels: int) -> int:
    """Return a count as it is, and a fraction of `n_labels` rounded up."""
    if isinstance(share_or_count, Integral):
        return int(share_or_count)
    # 0.07 * 100 is 7.000000000000001 in floating point.
    return math.ceil(round(share_or_count * n_labels, 8))


def disjoint_masks(drug: Mask, cell_line: Mask, hold_out: str) -> tuple[Mask, Mask]:
    """Return the training and test rows, given the rows of what is held out."""
    if hold_out == "drugs":
        return ~drug, drug
    if hold_out == "cell_lines":
        return ~cell_line, cell_line
    return ~drug & ~cell_line, drug & cell_line


def oracle_mask(drug: Factor, test: Mask, train_lines: Mask) -> Mask:
    """Return the rows of the drugs of `test` that lie in training lines."""
    return drug.rows(drug.codes[test]) & train_lines
