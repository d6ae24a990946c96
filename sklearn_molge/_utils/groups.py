"""Groups of rows: which drug, which cell line; and what may be learnt from what."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length

from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.rows import factorize_texts

__all__ = [
    "Factor",
    "count_of",
    "disjoint_masks",
    "encode_groups",
    "encode_labels",
    "label_text",
    "oracle_mask",
    "split_classes",
]

_COLUMNS = ("drug", "cell_line")
# How other names of a column of drugs begin, as pert_id; those of lines by "cell".
_OF_DRUGS = ("drug", "pert", "compound", "molecule", "smiles", "canonical_smiles")

Codes = NDArray[np.intp]
Labels = NDArray[np.object_]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Factor:
    """One column of the groups, as positions in its sorted distinct labels.

    Sorted, so that which label goes where does not depend on the order of rows.
    """

    name: str
    codes: Codes
    labels: Labels
    tested: Mask | None = None

    @property
    def pool(self) -> Codes:
        """Positions of the labels that may be held out: those of rows to test."""
        everything = np.arange(len(self.labels))
        return everything if self.tested is None else np.unique(self.codes[self.tested])

    @property
    def plural(self) -> str:
        return f"{self.name.replace('_', ' ')}s"

    def rows(self, positions: Codes) -> Mask:
        """Return the rows whose label is at one of the positions."""
        chosen = np.zeros(len(self.labels), dtype=bool)
        chosen[positions] = True
        return chosen[self.codes]


def label_text(label: object) -> str:
    """Write a label without its type and the blanks around it.

    Examples
    --------
    >>> from sklearn_molge._utils.groups import label_text
    >>> [label_text(label) for label in (5, 5.0, "5", "5 ", b"5")]
    ['5', '5', '5', '5', '5']
    """
    if isinstance(label, bytes):
        label = label.decode(errors="replace")
    elif isinstance(label, Integral):
        label = int(label)
    elif isinstance(label, Real) and float(label).is_integer():
        label = int(float(label))
    return str(label).strip()


def split_classes(labels: ArrayLike, *, sep: str = "|") -> list[frozenset[str]]:
    """Return the classes of each row, joined by `sep`; none where the text is blank.

    A row may also be a list, tuple, set or array of texts.

    Raises
    ------
    ValueError
        If such a row holds anything else, as a row of an indicator matrix does.

    Warns
    -----
    UserWarning
        If classes seem to be joined by ";" instead.

    Examples
    --------
    >>> from sklearn_molge._utils.groups import split_classes
    >>> [sorted(classes) for classes in split_classes(["b| a", "", None])]
    [['a', 'b'], [], []]
    >>> [sorted(classes) for classes in split_classes([["b", "a"], {"c"}])]
    [['a', 'b'], ['c']]
    """
    texts = [_joined_classes(row, sep) for row in labels]  # type: ignore[union-attr]
    n_other = sum(";" in text for text in texts)
    if n_other and not any(sep in text for text in texts):
        warnings.warn(
            f"No label has {sep!r} between classes, and {n_other:,} have ';': each of "
            "these is taken for one class. If ';' parts classes, write '|' instead, or "
            "say sep=';' where that is a parameter.",
            UserWarning,
            stacklevel=4,
        )
    return [frozenset(filter(None, map(str.strip, t.split(sep)))) for t in texts]


def _joined_classes(row: Any, sep: str) -> str:
    if not isinstance(row, list | tuple | set | frozenset | np.ndarray):
        return "" if pd.isna(row) else label_text(row)
    others = [label for label in row if not isinstance(label, str)]
    if others:
        raise ValueError(
            "labels must be text, or lists of texts, the classes of each row. Got a "
            f"list with {first_few(others, n=3)}."
        )
    return sep.join(row)


def encode_labels(labels: ArrayLike, *, name: str) -> tuple[Codes, Labels]:
    """Return each label's place among the distinct ones, which come sorted.

    Texts lose the blanks around them; where labels are of several types, all become
    texts: 5 and "5", "A" and "A " are one, with a warning. Numbers stay numbers.

    Raises
    ------
    ValueError
        If a label is missing or blank, or `labels` is not one column.
    """
    array = np.asarray(labels, dtype=object)
    if array.ndim == 2 and array.shape[1] == 1:
        array = array[:, 0]
    if array.ndim != 1:
        raise ValueError(f"{name} must be 1-D. Got an array of shape {array.shape}.")
    codes, written = _factorize(array, name)
    numbers = all(isinstance(label, Real) for label in written)
    texts = written if numbers else np.array([label_text(t) for t in written], object)
    missing = (codes < 0) | np.isin(codes, np.flatnonzero(texts == ""))
    if missing.any():
        raise ValueError(
            f"{name} must not have missing labels. {missing.sum()} of {len(array)} "
            f"rows have, at indices {first_few(np.flatnonzero(missing).tolist())}."
        )
    if numbers:
        places, distinct = pd.factorize(texts, sort=True)
    else:
        places, distinct = factorize_texts(texts, sort=True)
    if len(distinct) < len(written):
        repeated = np.flatnonzero(np.bincount(places) > 1)
        ways = (", ".join(map(repr, written[places == i])) for i in repeated)
        warnings.warn(
            f"{name} has labels that differ in type or in blanks only; each of these "
            f"is taken for one: {first_few(ways, write='({})'.format)}.",
            UserWarning,
            stacklevel=2,
        )
    return places[codes], distinct


def _factorize(array: Labels, name: str) -> tuple[Codes, Labels]:
    """Return each label's place among the distinct ones, -1 where it is missing.

    As ``pandas.factorize``, which ends a text at NUL.
    """
    places: dict[object, int] = {}
    rows = np.flatnonzero(~pd.isna(array))
    codes = np.full(len(array), -1, dtype=np.intp)
    try:
        found = [places.setdefault(label, len(places)) for label in array[rows]]
    except TypeError as error:
        raise TypeError(f"{name} must hold texts or numbers: {error}.") from None
    codes[rows] = found
    return codes, np.fromiter(places, dtype=object, count=len(places))


def encode_groups(
    groups: ArrayLike | pd.DataFrame | None,
    *data: ArrayLike | None,
    test_sources: str | Sequence[str] | None = None,
) -> tuple[Factor, Factor]:
    """Check `groups` and return drugs and cell lines.

    `data` are arrays that must be as long as `groups`, or None. `test_sources` names
    the sources, by the column "source" of `groups`, whose rows may be tested.
    """
    if groups is None:
        raise ValueError(
            "The 'groups' parameter should not be None: it holds the drug and the cell "
            "line of each row, shape (n_samples, 2)."
        )
    columns = _named_columns(groups)
    if columns is None:
        columns = _unnamed_columns(groups)
    check_consistent_length(*data, columns[0])
    tested = None if test_sources is None else _tested_rows(groups, test_sources)
    drug, cell_line = (
        Factor(
            name,
            *encode_labels(column, name=f"The column {name!r} of groups"),
            tested,
        )
        for name, column in zip(_COLUMNS, columns, strict=True)
    )
    return drug, cell_line


def _tested_rows(groups, test_sources: str | Sequence[str]) -> Mask:
    """Return which rows are of the sources that may be tested."""
    names = getattr(groups, "column_names", getattr(groups, "columns", None))
    if names is None or "source" not in list(names):
        raise ValueError(
            "test_sources needs groups with the columns 'drug', 'cell_line' and "
            "'source': the obs of a study that join_studies made."
        )
    column = groups["source"]
    values = column.to_numpy(object) if hasattr(column, "iloc") else _as_labels(column)
    codes, labels = encode_labels(values, name="The column 'source' of groups")
    texts = [label_text(label) for label in labels]
    wanted = [test_sources] if isinstance(test_sources, str) else list(test_sources)
    unknown = [name for name in wanted if label_text(name) not in texts]
    if unknown or not wanted:
        raise ValueError(
            f"test_sources must name sources of groups, which are {first_few(texts)}. "
            f"Got {test_sources!r}."
        )
    return np.isin(np.array(texts, object)[codes], [label_text(n) for n in wanted])


def _named_columns(groups) -> list[Labels] | None:
    """Return drugs and lines of what has names: a frame of pandas, polars, pyarrow."""
    if isinstance(groups, pd.MultiIndex):
        groups = groups.to_frame(index=False)
    fields = getattr(getattr(groups, "dtype", None), "names", None)
    if isinstance(groups, Mapping) or fields is not None:
        raise TypeError(
            "groups must be an array of shape (n_samples, 2) or a DataFrame; "
            "pandas.DataFrame(groups) makes one that is read by its names. "
            f"Got a {type(groups).__name__}."
        )
    names = getattr(groups, "column_names", getattr(groups, "columns", None))
    if names is None:
        return None
    known = [str(name).strip().lower().replace(" ", "_") for name in names]
    found = [known.count(name) for name in _COLUMNS]
    if found == [1, 1]:
        chosen = [known.index(name) for name in _COLUMNS]
    elif len(known) == 2 and not any(found):
        chosen = _told_apart(known)
        if not chosen:
            chosen = [0, 1]
            _say_by_position(names)
    else:
        raise ValueError(
            "groups must have one column 'drug' and one 'cell_line', or two columns of "
            f"other names, the drug first. Got the columns {first_few(names)}."
        )
    if isinstance(groups, pd.DataFrame):
        return [groups.iloc[:, i].to_numpy(dtype=object) for i in chosen]
    return [_as_labels(groups[names[i]]) for i in chosen]


def _told_apart(names: Sequence[str]) -> list[int]:
    """Return drug and line where two other names say it, as LINCS's do; else none."""
    for drug, line in ((0, 1), (1, 0)):
        if names[line].startswith("cell") and names[drug].startswith(_OF_DRUGS):
            return [drug, line]
    return []


def _say_by_position(names: Sequence[object]) -> None:
    """Warn where names say something else than drug and line; numbers say nothing."""
    if any(isinstance(name, str) and not name.startswith("column_") for name in names):
        warnings.warn(
            f"groups has the columns {names[0]!r} and {names[1]!r}: the first is taken "
            "for the drug and the second for the cell line. Name them 'drug' and "
            "'cell_line' to be read by name.",
            UserWarning,
            stacklevel=2,
        )


def _as_labels(column) -> Labels:
    values = column.to_pylist() if hasattr(column, "to_pylist") else column.to_list()
    return np.fromiter(values, dtype=object, count=len(values))


def _unnamed_columns(groups) -> list[Labels]:
    if isinstance(groups, list | tuple) and any(hasattr(g, "to_numpy") for g in groups):
        raise TypeError(
            "groups must have one row a sample, and is a list of columns; "
            "pandas.concat(groups, axis=1) puts them side by side."
        )
    labels = np.asarray(groups, dtype=object)
    if labels.ndim == 1 and all(
        isinstance(pair, list | tuple) and len(pair) == 2 for pair in labels
    ):
        labels = np.array(labels.tolist(), dtype=object)  # of a Series of pairs
    if labels.ndim != 2 or labels.shape[1] != 2:
        raise ValueError(
            "groups must have shape (n_samples, 2): the drug and the cell line of each "
            f"row. Got an array of shape {labels.shape}."
        )
    return [labels[:, 0], labels[:, 1]]


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
