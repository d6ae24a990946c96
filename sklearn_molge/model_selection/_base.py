"""What the splitters share: from held-out drugs and lines to rows."""

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from sklearn_molge._compat import StrOptions
from sklearn_molge.model_selection._groups import (
    Factor,
    Mask,
    disjoint_masks,
    encode_groups,
    oracle_mask,
)

__all__ = ["BaseDrugCellLineSplit", "Block", "count_of"]

Indices = NDArray[np.intp]
Block = tuple[str, Mask, Mask]


def count_of(share_or_count: Any, n_labels: int) -> int:
    """Return a count as it is, and a fraction of `n_labels` rounded up."""
    if isinstance(share_or_count, Integral):
        return int(share_or_count)
    # 0.07 * 100 is 7.000000000000001 in floating point.
    return math.ceil(round(share_or_count * n_labels, 8))


class BaseDrugCellLineSplit(BaseEstimator, metaclass=ABCMeta):
    """Turn held-out drugs and cell lines into training and test rows."""

    _parameter_constraints: ClassVar[dict] = {
        "hold_out": [StrOptions({"both", "drugs", "cell_lines"})],
        "train": [StrOptions({"disjoint", "oracle_train_lines", "oracle_test_lines"})],
        "random_state": ["random_state"],
    }

    __metadata_request__split: ClassVar[dict] = {"groups": True}

    hold_out: str
    train: str

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[Indices, Indices]]:
        """Return the training and test rows of each split.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Only its length is looked at.
        y : array-like of shape (n_samples, ...), default=None
            Only its length is looked at.
        groups : array-like or DataFrame of shape (n_samples, 2)
            Drug and cell line of each row. A DataFrame with columns "drug" and
            "cell_line", in any order and among others, is read by these names.

        Returns
        -------
        splits : iterator of (train, test)
            Sorted row indices, ndarray of int.

        Raises
        ------
        ValueError
            If `groups` is missing, has another shape or length or missing labels,
            if there are too few drugs or cell lines, or if a part would be empty.
        """
        self._check()
        drug, cell_line = encode_groups(groups, X, y)
        blocks = self._blocks(drug, cell_line)
        # All of them now: an empty one must not end a long run half-way.
        return iter([self._rows(drug, *block) for block in blocks])

    @abstractmethod
    def _blocks(self, drug: Factor, cell_line: Factor) -> Iterator[Block]:
        """Yield name, rows of held-out drugs and rows of held-out lines."""

    def _check(self) -> None:
        self._validate_params()
        if self.hold_out == "drugs" and self.train == "oracle_train_lines":
            raise ValueError(
                "train='oracle_train_lines' needs held-out cell lines, hold_out='both' "
                "or 'cell_lines'. With hold_out='drugs' every line is a training line."
            )

    def _rows(
        self, drug: Factor, name: str, held_drugs: Mask, held_lines: Mask
    ) -> tuple[Indices, Indices]:
        train, test = disjoint_masks(held_drugs, held_lines, self.hold_out)
        _check_rows(train, name, "no training row: every row shares a drug or a line")
        _check_rows(test, name, "no test row: none of its drugs is in its lines")
        if self.train == "oracle_test_lines":
            train = test
        elif self.train == "oracle_train_lines":
            train = oracle_mask(drug, test, ~held_lines)
            _check_rows(train, name, "no row of a test drug in a training line")
        return np.flatnonzero(train), np.flatnonzero(test)


def _check_rows(mask: Mask, name: str, what: str) -> None:
    if not mask.any():
        raise ValueError(f"{name} has {what}. Use fewer folds, or hold out others.")
