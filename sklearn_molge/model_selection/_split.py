"""Cross-validation in which no test drug and no test cell line was trained on."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice, product
from numbers import Integral, Real
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import KFold
from sklearn.utils import check_random_state

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge._utils.groups import (
    Factor,
    Mask,
    count_of,
    disjoint_masks,
    encode_groups,
    oracle_mask,
)

__all__ = ["DrugCellLineKFold", "DrugCellLineShuffleSplit"]

Indices = NDArray[np.intp]
Block = tuple[str, Mask, Mask]
Seed = int | np.random.RandomState | None
_SHARE_OR_COUNT = [
    Interval(Real, 0, 1, closed="neither"),
    Interval(Integral, 1, None, closed="left"),
]


class BaseDrugCellLineSplit(BaseEstimator, metaclass=ABCMeta):
    """Turn held-out drugs and cell lines into training and test rows."""

    _parameter_constraints: ClassVar[dict] = {
        "hold_out": [StrOptions({"both", "drugs", "cell_lines"})],
        "test_sources": [str, "array-like", None],
        "train": [StrOptions({"disjoint", "oracle_train_lines", "oracle_test_lines"})],
        "random_state": ["random_state"],
    }

    __metadata_request__split: ClassVar[dict] = {"groups": True}

    hold_out: str
    train: str
    test_sources: str | Sequence[str] | None

    def split(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
    ) -> Iterator[tuple[Indices, Indices]]:
        """Return the training and test rows of each split.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Only its length is looked at.
        y : array-like of shape (n_samples, ...), default=None
            Only its length is looked at.
        groups : array-like or DataFrame of shape (n_samples, 2)
            Drug and cell line of each row. A DataFrame, of polars or a table of
            pyarrow as well, with columns "drug" and "cell_line", in any order and
            among others, is read by these names. Texts lose the blanks around them,
            and labels of several types become texts: 5 and "5", "A" and "A " are one,
            with a warning.

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
        drug, cell_line = encode_groups(groups, X, y, test_sources=self.test_sources)
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
        if drug.tested is not None:
            test &= drug.tested
        _check_rows(train, name, "no training row: every row shares a drug or a line")
        _check_rows(test, name, "no test row: none of its drugs is in its lines")
        if self.train == "oracle_test_lines":
            train = test
        elif self.train == "oracle_train_lines":
            train = oracle_mask(drug, test, ~held_lines)
            if drug.tested is not None:
                train &= drug.tested
            _check_rows(train, name, "no row of a test drug in a training line")
        return np.flatnonzero(train), np.flatnonzero(test)


def _check_rows(mask: Mask, name: str, what: str) -> None:
    if not mask.any():
        raise ValueError(f"{name} has {what}. Use fewer folds, or hold out others.")


class DrugCellLineKFold(BaseDrugCellLineSplit):
    """Cross-validation over blocks of unseen drugs in unseen cell lines.

    Drugs and cell lines are each divided into folds. A test block is the rows of one
    drug fold in one line fold; its training rows share neither a drug nor a line with
    it, and the rows that share one of the two are dropped. Every row is tested once.

    Parameters
    ----------
    n_drug_folds : int, default=3
        Number of folds of the drugs, at least 2.
    n_cell_line_folds : int, default=3
        Number of folds of the cell lines, at least 2.
    hold_out : {"both", "drugs", "cell_lines"}, default="both"
        What is unseen in a test block. "drugs" tests each drug fold in all lines,
        "cell_lines" each line fold with all drugs; the other number of folds is not
        used, and no row is dropped.
    train : {"disjoint", "oracle_train_lines", "oracle_test_lines"}, \
            default="disjoint"
        The training rows. Two choices are for oracles, which see the test drugs:
        their rows in the training lines (a test drug without one stays unknown to the
        oracle), or the test rows themselves (for an oracle that leaves the query
        out). The test rows are the same for all three.
    test_sources : str or list of str, default=None
        Test rows are of these sources alone, by the column "source" of `groups`
        (``study.obs`` of a joined study), and only their drugs and lines are drawn.
        Rows of others train, unless their drug or line is held out. None tests all.
    paired : bool, default=False
        Hold out each drug fold with one line fold instead of with each of them: so many
        splits as folds, the fewer ones being used in turn. Large training parts stay
        affordable, but most rows are never tested.
    shuffle : bool, default=True
        Shuffle the sorted labels before dividing them.
    random_state : int, RandomState instance or None, default=None
        Shuffles; pass an int to get the same folds from every call.

    See Also
    --------
    DrugCellLineShuffleSplit : Random drugs and lines, as many splits as asked for.
    drug_cell_line_split : One division into training, validation and test rows.

    Notes
    -----
    Group by :func:`~sklearn_molge.molecules.drug_ids`, never by the SMILES text: one
    drug has many spellings, salts and isomers.

    With k drug folds and l line folds of a full table, a block tests 1 / (k l) of the
    rows and trains on (1 - 1/k)(1 - 1/l): 4/9 for the default. Labels are sorted
    before shuffling, so that the order of rows does not change who is in which fold.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.model_selection import DrugCellLineKFold
    >>> drugs, lines = np.repeat(list("abc"), 3), np.tile(["A549", "HT29", "PC3"], 3)
    >>> groups = np.column_stack([drugs, lines])
    >>> cv = DrugCellLineKFold(3, 3, random_state=0)
    >>> cv.get_n_splits()
    9
    >>> train, test = next(cv.split(groups, groups=groups))
    >>> groups[test].tolist()
    [['c', 'PC3']]
    >>> groups[train].tolist()
    [['a', 'A549'], ['a', 'HT29'], ['b', 'A549'], ['b', 'HT29']]
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseDrugCellLineSplit._parameter_constraints,
        "n_drug_folds": [Interval(Integral, 2, None, closed="left")],
        "n_cell_line_folds": [Interval(Integral, 2, None, closed="left")],
        "paired": ["boolean"],
        "shuffle": ["boolean"],
    }

    def __init__(
        self,
        n_drug_folds=3,
        n_cell_line_folds=3,
        *,
        hold_out="both",
        train="disjoint",
        test_sources=None,
        paired=False,
        shuffle=True,
        random_state=None,
    ):
        self.n_drug_folds = n_drug_folds
        self.n_cell_line_folds = n_cell_line_folds
        self.hold_out = hold_out
        self.train = train
        self.test_sources = test_sources
        self.paired = paired
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(
        self, X: object = None, y: object = None, groups: object = None
    ) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object
            Not used.

        Returns
        -------
        n_splits : int
            ``n_drug_folds * n_cell_line_folds``, or the larger one where they are
            `paired`; the one of the two that is held out where `hold_out` names one.
        """
        self._validate_params()
        n_drugs = 1 if self.hold_out == "cell_lines" else self.n_drug_folds
        n_lines = 1 if self.hold_out == "drugs" else self.n_cell_line_folds
        return max(n_drugs, n_lines) if self.paired else n_drugs * n_lines

    def _blocks(self, drug: Factor, cell_line: Factor) -> Iterator[Block]:
        seed = self.random_state
        if self.shuffle:  # else KFold refuses a random_state
            seed = check_random_state(seed)  # drugs and lines draw from one stream
        drug_folds = line_folds = [("", np.zeros(len(drug.codes), dtype=bool))]
        if self.hold_out != "cell_lines":
            drug_folds = self._folds(drug, seed)
        if self.hold_out != "drugs":
            line_folds = self._folds(cell_line, seed)
        pairs: Iterable = product(drug_folds, line_folds)
        if self.paired:
            n_splits = max(len(drug_folds), len(line_folds))
            pairs = islice(zip(cycle(drug_folds), cycle(line_folds)), n_splits)
        for (drug_name, drugs), (line_name, lines) in pairs:
            names = ", ".join(name for name in (drug_name, line_name) if name)
            yield f"Test block ({names})", drugs, lines

    def _folds(
        self, factor: Factor, seed: int | np.random.RandomState | None
    ) -> list[tuple[str, Mask]]:
        """Return name and rows of each fold of the labels."""
        n_folds, n_labels = getattr(self, f"n_{factor.name}_folds"), len(factor.pool)
        if n_folds > n_labels:
            raise ValueError(
                f"n_{factor.name}_folds={n_folds} is more than the {n_labels} distinct "
                f"{factor.plural} in groups."
            )
        folds = KFold(n_folds, shuffle=self.shuffle, random_state=seed)
        return [
            (f"{factor.name} fold {i}", factor.rows(factor.pool[members]))
            for i, (_, members) in enumerate(folds.split(factor.pool))
        ]


class DrugCellLineShuffleSplit(BaseDrugCellLineSplit):
    """Random splits with unseen drugs in unseen cell lines.

    Each split draws drugs and cell lines for the test; its training rows share neither
    with them, and the rows that share one of the two are dropped. Splits are drawn
    independently: unlike in :class:`DrugCellLineKFold`, a row may be tested more than
    once, or never.

    Parameters
    ----------
    n_splits : int, default=10
        Number of splits.
    test_drugs : float or int, default=0.2
        Drugs to test: a fraction in (0, 1) of the distinct drugs, rounded up, or a
        number of them.
    test_cell_lines : float or int, default=0.2
        Cell lines to test, likewise.
    hold_out : {"both", "drugs", "cell_lines"}, default="both"
        What is unseen in the test rows. With "drugs" or "cell_lines" the other number
        is not used, and no row is dropped.
    train : {"disjoint", "oracle_train_lines", "oracle_test_lines"}, \
            default="disjoint"
        The training rows; see :class:`DrugCellLineKFold`.
    test_sources : str or list of str, default=None
        Test rows are of these sources alone, by the column "source" of `groups`
        (``study.obs`` of a joined study), and only their drugs and lines are drawn.
        Rows of others train, unless their drug or line is held out. None tests all.
    random_state : int, RandomState instance or None, default=None
        Draws; pass an int to get the same splits from every call.

    See Also
    --------
    DrugCellLineKFold : Every row is tested exactly once.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.model_selection import DrugCellLineShuffleSplit
    >>> drugs, lines = np.repeat(list("abcde"), 4), np.tile(list("wxyz"), 5)
    >>> groups = np.column_stack([drugs, lines])
    >>> cv = DrugCellLineShuffleSplit(2, test_drugs=2, random_state=0)
    >>> for train, test in cv.split(groups, groups=groups):
    ...     print(len(train), groups[test].tolist())
    9 [['a', 'w'], ['c', 'w']]
    9 [['b', 'x'], ['d', 'x']]
    """

    _parameter_constraints: ClassVar[dict] = {
        **BaseDrugCellLineSplit._parameter_constraints,
        "n_splits": [Interval(Integral, 1, None, closed="left")],
        "test_drugs": _SHARE_OR_COUNT,
        "test_cell_lines": _SHARE_OR_COUNT,
    }

    def __init__(
        self,
        n_splits=10,
        *,
        test_drugs=0.2,
        test_cell_lines=0.2,
        hold_out="both",
        train="disjoint",
        test_sources=None,
        random_state=None,
    ):
        self.n_splits = n_splits
        self.test_drugs = test_drugs
        self.test_cell_lines = test_cell_lines
        self.hold_out = hold_out
        self.train = train
        self.test_sources = test_sources
        self.random_state = random_state

    def get_n_splits(
        self, X: object = None, y: object = None, groups: object = None
    ) -> int:
        """Return the number of splits.

        Parameters
        ----------
        X, y, groups : object
            Not used.

        Returns
        -------
        n_splits : int
            As it was given.
        """
        self._validate_params()
        return self.n_splits

    def _blocks(self, drug: Factor, cell_line: Factor) -> Iterator[Block]:
        rng = check_random_state(self.random_state)
        nothing = np.zeros(len(drug.codes), dtype=bool)
        for i in range(self.n_splits):
            drugs = lines = nothing
            if self.hold_out != "cell_lines":
                drugs = self._draw(drug, rng)
            if self.hold_out != "drugs":
                lines = self._draw(cell_line, rng)
            yield f"Split {i}", drugs, lines

    def _draw(self, factor: Factor, rng: np.random.RandomState) -> Mask:
        """Return the rows of randomly drawn labels."""
        given, n_labels = getattr(self, f"test_{factor.name}s"), len(factor.pool)
        n_test = count_of(given, n_labels)
        if n_test >= n_labels:
            raise ValueError(
                f"test_{factor.name}s={given} leaves none of the {n_labels} distinct "
                f"{factor.plural} in groups to train on."
            )
        return factor.rows(factor.pool[rng.permutation(n_labels)[:n_test]])
