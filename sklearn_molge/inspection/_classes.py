"""Molecules of several classes: mechanisms of action joined by "|"."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.preprocessing import MultiLabelBinarizer
from sklearn.utils import check_consistent_length

from sklearn_molge.base import identify_drugs

__all__ = ["labelled_molecules", "largest_class", "matching_pairs", "split_classes"]

Codes = NDArray[np.intp]


def split_classes(labels: ArrayLike) -> list[frozenset[str]]:
    """Return the classes of each row; none where the label is missing or blank."""
    texts = pd.Series(np.asarray(labels, dtype=object))
    return [
        frozenset()
        if pd.isna(text)
        else frozenset(name for part in str(text).split("|") if (name := part.strip()))
        for text in texts
    ]


def labelled_molecules(
    array: Any, labels: ArrayLike, drugs: ArrayLike | None
) -> tuple[NDArray, Any, sparse.csr_array, NDArray]:
    """Return ids, embeddings and classes of the labelled molecules, and class names."""
    check_consistent_length(array, labels)
    sets = split_classes(labels)
    if drugs is None:
        ids = codes = np.arange(len(sets))
    else:
        names = identify_drugs(array, drugs, np.empty(0))
        ids, codes = np.unique(names, return_inverse=True)
    binarizer = MultiLabelBinarizer(sparse_output=True)
    row_classes = sparse.csr_array(binarizer.fit_transform(sets), dtype=np.int64)
    rows = np.arange(len(codes))
    of_molecule = sparse.csr_array((np.ones(len(codes)), (codes, rows)))
    member = sparse.csr_array(of_molecule @ row_classes > 0, dtype=np.int64)
    labelled = np.flatnonzero(member.sum(axis=1))
    if drugs is not None:
        means = of_molecule.multiply(1 / of_molecule.sum(axis=1)[:, None]).tocsr()
        array = means @ array
    return ids[labelled], array[labelled], member[labelled], binarizer.classes_


def matching_pairs(member: sparse.csr_array) -> tuple[Codes, Codes]:
    """Return all ordered pairs of two molecules that share a class."""
    queries, others = (member @ member.T).nonzero()
    apart = queries != others
    if not apart.any():
        raise ValueError(
            "labels must name a class that two molecules share. Got "
            f"{member.shape[0]} labelled molecules, no two of one class."
        )
    return queries[apart], others[apart]


def largest_class(member: sparse.csr_array, names: NDArray) -> NDArray:
    """Return the class of each molecule that most molecules share."""
    sizes = member.sum(axis=0)
    return names[np.argmax(member.toarray() * sizes, axis=1)]
