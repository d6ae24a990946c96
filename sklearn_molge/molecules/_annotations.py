"""annotation_matrix: mechanisms and targets of molecules as features."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from numbers import Integral

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer

from sklearn_molge._compat import Interval, validate_params
from sklearn_molge._utils.groups import split_classes
from sklearn_molge._utils.messages import counted, first_few_at
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.molecules._identity import drug_ids
from sklearn_molge.molecules._smiles import (
    check_smiles,
    parsed_once,
    valid_smiles_mask,
)

__all__ = ["AnnotationMatrix", "annotation_matrix"]

_SMILES_COLUMNS = ("smiles", "canonical_smiles")


@dataclass(frozen=True, eq=False)
class AnnotationMatrix:
    """Labels of molecules; see :func:`annotation_matrix`.

    Attributes
    ----------
    matrix : csr_array of shape (n_molecules, n_labels)
        1.0 where a molecule has a label. A row without one is all zeros: unknown.
    names : ndarray of shape (n_labels,)
        Of the labels: column and label, as "moa: EGFR inhibitor".
    n_annotated : int
        Distinct molecules that have a label.
    n_unknown : int
        Distinct molecules that the table has no label for.
    n_excluded : int
        Distinct molecules that have a label, which is left out because of `exclude`.
    n_unreadable : int
        Rows of the table with a label and without a SMILES that can be read.
    """

    matrix: sparse.csr_array = field(repr=False)
    names: NDArray[np.object_] = field(repr=False)
    n_annotated: int
    n_unknown: int
    n_excluded: int
    n_unreadable: int


@validate_params(
    {
        "smiles": ["array-like"],
        "columns": ["array-like"],
        "smiles_column": [str, None],
        "exclude": ["array-like", None],
        "sep": [str],
        "min_count": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def annotation_matrix(
    smiles: ArrayLike,
    annotations: pd.DataFrame,
    *,
    columns: ArrayLike = ("moa", "target"),
    smiles_column: str | None = None,
    exclude: ArrayLike | None = None,
    sep: str = "|",
    min_count: int = 1,
) -> AnnotationMatrix:
    """Mechanisms and targets of molecules, as features by molecule identity.

    Parameters
    ----------
    smiles : array-like of str of shape (n_molecules,)
        Molecules.
    annotations : DataFrame
        Table of annotated molecules, in any order; those of one identity have all of
        their labels together.
    columns : sequence of str, default=("moa", "target")
        Columns with labels.
    smiles_column : str, default=None
        Column with SMILES; by default "smiles" or "canonical_smiles".
    exclude : array-like of str of shape (n_excluded,), default=None
        SMILES of molecules whose labels must not be used, in any spelling: those of the
        test. Their rows are zeros, as those of molecules that nothing is known of.
    sep : str, default="|"
        What parts the labels of a molecule; "; " in some releases of LINCS.
    min_count : int, default=1
        Leave out labels of fewer of the distinct molecules.

    Returns
    -------
    result : AnnotationMatrix
        With `matrix`, `names`, and how many molecules have labels, have none, and are
        excluded.

    Raises
    ------
    ValueError
        If a SMILES of `smiles` or `exclude` is invalid, or `annotations` lacks a
        column.

    Warns
    -----
    DataWarning
        If rows of `annotations` with a label have a SMILES that cannot be read.
    UserWarning
        If labels seem to be joined by ";", and `sep` is another.

    See Also
    --------
    drug_ids : The identity by which molecules are matched.
    sklearn_molge.inspection.class_enrichment : Labels of answers.

    Notes
    -----
    A label is knowledge, not structure: whoever has it of a test molecule knows what
    the test asks. So give the test molecules as `exclude`. Molecules without a label
    have cosine and inner product 0 with all others, themselves included: as a kernel
    it goes beside one of structures.

    Examples
    --------
    >>> import pandas as pd
    >>> from sklearn_molge.molecules import annotation_matrix
    >>> table = pd.DataFrame({
    ...     "smiles": ["CC(=O)Oc1ccccc1C(O)=O", "CCO"],
    ...     "moa": ["COX inhibitor|NFkB inhibitor", "solvent"],
    ... })
    >>> aspirin_as_salt = "CC(=O)Oc1ccccc1C(=O)[O-].[Na+]"
    >>> known = annotation_matrix([aspirin_as_salt, "CCN"], table, columns=["moa"])
    >>> known.names.tolist()
    ['moa: COX inhibitor', 'moa: NFkB inhibitor']
    >>> known.matrix.toarray()
    array([[1., 1.],
           [0., 0.]])
    >>> known
    AnnotationMatrix(n_annotated=1, n_unknown=1, n_excluded=0, n_unreadable=0)
    """
    column = _find_column(annotations, smiles_column, columns)
    with parsed_once():
        ids, codes = np.unique(drug_ids(check_smiles(smiles)), return_inverse=True)
        excluded = check_smiles([] if exclude is None else exclude)
        left_out = set(drug_ids(excluded)) if len(excluded) else set()
        labels, n_unreadable = _labels_by_drug(annotations, column, columns, sep)
    known = [labels.get(drug, set()) for drug in ids]
    is_left_out = np.array([drug in left_out for drug in ids], dtype=bool)
    n_excluded = sum(bool(own) for own in np.array(known, dtype=object)[is_left_out])
    kept = [set() if out else own for own, out in zip(known, is_left_out, strict=True)]
    binarizer = MultiLabelBinarizer(sparse_output=True)
    members = sparse.csr_array(binarizer.fit_transform(kept), dtype=np.float64)
    frequent = np.flatnonzero(members.sum(axis=0) >= min_count)
    members = members[:, frequent]
    return AnnotationMatrix(
        matrix=members[codes],
        names=binarizer.classes_.astype(object)[frequent],
        n_annotated=int(np.count_nonzero(np.diff(members.indptr))),
        n_unknown=sum(not own for own in known),
        n_excluded=n_excluded,
        n_unreadable=n_unreadable,
    )


def _find_column(annotations, smiles_column, columns) -> str:
    """Return the column of SMILES; check that all columns are there."""
    if not hasattr(annotations, "columns"):
        raise TypeError(
            f"annotations must be a DataFrame. Got a {type(annotations).__name__}."
        )
    asked = (smiles_column,) if smiles_column is not None else _SMILES_COLUMNS
    found = [name for name in asked if name in annotations.columns]
    missing = [name for name in columns if name not in annotations.columns]
    if not found or missing:
        raise ValueError(
            f"annotations must have the columns {list(columns)} and one of SMILES, "
            f"{' or '.join(map(repr, asked))}. Got {list(annotations.columns)}."
        )
    return found[0]


def _labels_by_drug(annotations, smiles_column, columns, sep):
    """Return the labels of each annotated drug, and how many rows cannot be read."""
    of_rows: list[set[str]] = [set() for _ in range(len(annotations))]
    for name in columns:
        for own, found in zip(
            of_rows, split_classes(annotations[name], sep=sep), strict=True
        ):
            own.update(f"{name}: {label}" for label in found)
    rows = np.flatnonzero([bool(own) for own in of_rows])
    texts = np.asarray(annotations[smiles_column], dtype=object)[rows]
    good = valid_smiles_mask(texts) if len(rows) else np.empty(0, dtype=bool)
    if not good.all():
        bad = np.flatnonzero(~good)
        warnings.warn(
            f"annotations has {counted(len(bad), 'row')} of {len(rows):,} with a label "
            "and without a SMILES that can be read; they are left out: "
            f"{first_few_at(rows[bad], texts[bad], n=3)}.",
            DataWarning,
            stacklevel=4,
        )
    labels: dict[str, set[str]] = {}
    if good.any():
        for drug, row in zip(drug_ids(texts[good]), rows[good], strict=True):
            labels.setdefault(drug, set()).update(of_rows[row])
    return labels, int(np.count_nonzero(~good))
