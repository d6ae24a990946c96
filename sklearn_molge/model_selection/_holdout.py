"""One division into training, validation and test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_random_state

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.groups import (
    Factor,
    count_of,
    encode_groups,
    label_text,
    oracle_mask,
)
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge._utils.notebook import facts_html

__all__ = ["DrugCellLineSplit", "drug_cell_line_split"]

Indices = NDArray[np.intp]
Labels = NDArray[np.object_]
Choice = float | Sequence[object]

_VAL = [
    Interval(Real, 0, 1, closed="left"),
    Interval(Integral, 0, None, closed="left"),
    "array-like",
]
_TEST = [
    Interval(Real, 0, 1, closed="neither"),
    Interval(Integral, 1, None, closed="left"),
    "array-like",
]
_PARTS = ("train", "val", "test")


@dataclass(frozen=True, eq=False, repr=False)
class DrugCellLineSplit:
    """Rows of a study by what may be done with them.

    Attributes
    ----------
    train, val, test : ndarray of int
        Sorted row indices. No drug and no cell line that is held out is shared
        between any two. `val` is empty where no validation part was asked for.
    oracle_train_lines : ndarray of int
        Rows of the drugs of `test` in the training lines: what an oracle may see.
        Empty where no line is held out.
    dropped : ndarray of int
        Rows in none of `train`, `val` and `test`.
    drugs, cell_lines : dict of str to ndarray
        Labels that were given to "train", "val" and "test".

    See Also
    --------
    drug_cell_line_split : Makes one.

    Examples
    --------
    >>> from sklearn_molge.model_selection import drug_cell_line_split
    >>> groups = [[drug, line] for drug in "abcdef" for line in "XYZ"]
    >>> drug_cell_line_split(groups, random_state=0)
    <DrugCellLineSplit of rows: train=4, val=1, test=1, dropped=12>
    """

    train: Indices
    val: Indices
    test: Indices
    oracle_train_lines: Indices
    dropped: Indices
    drugs: dict[str, Labels]
    cell_lines: dict[str, Labels]

    def __repr__(self) -> str:
        parts = (*_PARTS, "dropped")
        rows = ", ".join(f"{part}={len(getattr(self, part))}" for part in parts)
        return f"<DrugCellLineSplit of rows: {rows}>"

    def _repr_html_(self) -> str:
        facts = {
            part: f"{counted(len(getattr(self, part)), 'row')} of "
            f"{counted(len(self.drugs[part]), 'drug')} in "
            f"{counted(len(self.cell_lines[part]), 'cell line')}"
            f" ({first_few(self.cell_lines[part], write=str, n=5)})"
            for part in _PARTS
            if len(getattr(self, part))
        }
        facts["dropped"] = counted(len(self.dropped), "row")
        return facts_html(type(self).__name__, facts)


@validate_params(
    {
        "val_drugs": _VAL,
        "test_drugs": _TEST,
        "val_cell_lines": _VAL,
        "test_cell_lines": _TEST,
        "hold_out": [StrOptions({"both", "drugs", "cell_lines"})],
        "test_sources": [str, "array-like", None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def drug_cell_line_split(
    groups: ArrayLike | pd.DataFrame,
    *,
    val_drugs: Choice = 0.1,
    test_drugs: Choice = 0.1,
    val_cell_lines: Choice = 1,
    test_cell_lines: Choice = 1,
    hold_out: str = "both",
    test_sources: str | Sequence[str] | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> DrugCellLineSplit:
    """Divide rows so that no two parts share a drug or a cell line.

    Drugs and cell lines are each divided into training, validation and test ones. A
    part is the rows of its drugs in its lines; the rows in between are dropped.

    Parameters
    ----------
    groups : array-like or DataFrame of shape (n_samples, 2)
        Drug and cell line of each row. A DataFrame, of polars or a table of pyarrow
        as well, with columns "drug" and "cell_line", in any order and among others,
        is read by these names. Texts lose the blanks around them, and labels of
        several types become texts: 5 and "5", "A" and "A " are one, with a warning.
    val_drugs, test_drugs : float, int or list, default=0.1
        A fraction in (0, 1) of the distinct drugs, rounded up; a number of them; or
        the drugs themselves.
    val_cell_lines, test_cell_lines : float, int or list, default=1
        A fraction, a number, or the cell lines themselves, likewise.
    hold_out : {"both", "drugs", "cell_lines"}, default="both"
        What the parts must not share. With "drugs" or "cell_lines" the arguments of
        the other are not used, and no row is dropped.
    test_sources : str or list of str, default=None
        Test and validation rows are of these sources alone, by the column "source" of
        `groups` (``study.obs`` of a joined study); only their drugs and lines are held
        out. Rows of others train, unless theirs are. None tests all.
    random_state : int, RandomState instance or None, default=None
        Draws what is not named.

    Returns
    -------
    split : DrugCellLineSplit
        With the row indices `train`, `val`, `test`, `oracle_train_lines` and `dropped`,
        and the labels of each part in `drugs` and `cell_lines`.

    Raises
    ------
    ValueError
        If `groups` has another shape or missing labels, if a name is not in it or is
        in two parts, if nothing is left to train on, or if a part has no row.

    See Also
    --------
    DrugCellLineKFold : Every row is tested once.
    sklearn_molge.evaluation.draw_split : The same, with parts large enough to judge by.

    Notes
    -----
    There is no validation part where `val_drugs` or `val_cell_lines` is 0 (of those
    that are held out): nothing is set aside for it.

    Finlayson et al. (2020, table A1) test in HT29, validate in A549 and train in the
    others, with 80, 10 and 10 % of the drugs. They divide by ``pert_id``, so that a
    molecule with two of them may be in two parts; group by
    :func:`~sklearn_molge.molecules.drug_ids` instead. Labels are sorted before
    drawing: the order of rows does not change who is in which part.

    These shares leave a test part of a few rows where most drugs are in few lines: look
    at the numbers that the split prints.

    Examples
    --------
    >>> from sklearn_molge.model_selection import drug_cell_line_split
    >>> lines = ["A375", "A549", "HT29", "PC3"]
    >>> groups = [(drug, line) for drug in range(20) for line in lines]
    >>> split = drug_cell_line_split(
    ...     groups, val_cell_lines=["A549"], test_cell_lines=["HT29"], random_state=0
    ... )
    >>> split
    <DrugCellLineSplit of rows: train=32, val=2, test=2, dropped=44>
    >>> split.cell_lines["train"]
    array(['A375', 'PC3'], dtype=object)
    """
    drug, cell_line = encode_groups(groups, test_sources=test_sources)
    rng = check_random_state(random_state)
    choices = {
        "drug": (val_drugs, test_drugs),
        "cell_line": (val_cell_lines, test_cell_lines),
    }
    held_out = [name for name in choices if hold_out in ("both", f"{name}s")]
    has_val = _has_val({f"val_{name}s": choices[name][0] for name in held_out})
    divided = []
    for factor in (drug, cell_line):
        everything = np.arange(len(factor.labels))
        if factor.name in held_out:
            val, test = choices[factor.name]
            parts = _divide(factor, val if has_val else [], test, rng)
        else:
            parts = dict.fromkeys(_PARTS, everything)
            parts["val"] = everything if has_val else everything[:0]
        divided.append(parts)
    return _collect(drug, cell_line, *divided)


def _has_val(choices: dict[str, Choice]) -> bool:
    """Return whether a validation part is asked for; refuse a contradiction."""
    empty = [name for name, val in choices.items() if _is_nothing(val)]
    named = [name for name, val in choices.items() if not isinstance(val, Real)]
    contradicted = sorted(set(named) - set(empty))
    if empty and contradicted:
        raise ValueError(
            f"{empty[0]} asks for no validation part, but {contradicted[0]} names "
            f"labels for it: {choices[contradicted[0]]!r}."
        )
    return not empty


def _is_nothing(choice) -> bool:
    return choice == 0 if isinstance(choice, Real) else len(choice) == 0


def _divide(
    factor: Factor, val, test, rng: np.random.RandomState
) -> dict[str, Indices]:
    """Divide the positions of the labels of `factor` into the three parts."""
    if _is_nothing(test):
        raise ValueError(f"test_{factor.name}s must name at least one. Got {test!r}.")
    choices = {"test": test, "val": val}
    parts = {
        part: _find(factor, f"{part}_{factor.name}s", choice)
        for part, choice in choices.items()
        if not isinstance(choice, Real)
    }
    named = np.concatenate([*parts.values(), np.empty(0, dtype=np.intp)])
    distinct, counts = np.unique(named, return_counts=True)
    if np.any(counts > 1):
        shared = factor.labels[distinct[counts > 1]].tolist()
        raise ValueError(
            f"val_{factor.name}s and test_{factor.name}s must not share {shared}."
        )
    n_labels = len(factor.pool)
    rest = rng.permutation(np.setdiff1d(factor.pool, named))
    for part, choice in choices.items():
        if isinstance(choice, Real):
            n_drawn = count_of(choice, n_labels)
            parts[part], rest = np.sort(rest[:n_drawn]), rest[n_drawn:]
    held = np.concatenate(list(parts.values()))
    rest = np.setdiff1d(np.arange(len(factor.labels)), held)
    if not rest.size:
        raise ValueError(
            f"val_{factor.name}s={val!r} and test_{factor.name}s={test!r} leave none "
            f"of the {n_labels} distinct {factor.plural} in groups to train on."
        )
    return {"train": rest, **parts}


def _find(factor: Factor, argument: str, names: Sequence[object]) -> Indices:
    """Return the positions of named labels."""
    known = {label_text(label): i for i, label in enumerate(factor.labels)}
    unknown = [name for name in names if label_text(name) not in known]
    if unknown:
        raise ValueError(
            f"{argument} names {first_few(unknown)}, which groups does not hold. Its "
            f"{factor.plural} are {first_few(factor.labels)}."
        )
    return np.unique(
        np.array([known[label_text(name)] for name in names], dtype=np.intp)
    )


def _collect(
    drug: Factor,
    cell_line: Factor,
    drugs: dict[str, Indices],
    lines: dict[str, Indices],
) -> DrugCellLineSplit:
    """Collect the rows of each part, given the positions of its labels."""
    rows = {p: drug.rows(drugs[p]) & cell_line.rows(lines[p]) for p in _PARTS}
    if drug.tested is not None:
        rows |= {p: rows[p] & drug.tested for p in ("val", "test")}
    for part, mask in rows.items():
        if not mask.any() and drugs[part].size and lines[part].size:
            raise ValueError(
                f"The {part} part has no row: none of its {drugs[part].size} drugs is "
                f"in its cell lines {cell_line.labels[lines[part]].tolist()}."
            )
    seen = cell_line.rows(np.setdiff1d(lines["train"], lines["test"]))
    oracle = oracle_mask(drug, rows["test"], seen)
    if drug.tested is not None:
        oracle &= drug.tested
    dropped = ~np.logical_or.reduce(list(rows.values()))
    return DrugCellLineSplit(
        **{part: np.flatnonzero(mask) for part, mask in rows.items()},
        oracle_train_lines=np.flatnonzero(oracle),
        dropped=np.flatnonzero(dropped),
        drugs={part: drug.labels[at] for part, at in drugs.items()},
        cell_lines={part: cell_line.labels[at] for part, at in lines.items()},
    )
