"""What a library can be given as: an array, an iterable, or a file."""

import os
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any, Protocol

import joblib
import numpy as np
from sklearn.utils import check_consistent_length

from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.molecules._library._molecule_file import (
    Batch,
    MoleculeFile,
    batches_of,
)

__all__ = ["ArraySource", "Batch", "IterableSource", "Source", "as_source"]

# So many entries tell one iterable from another.
_N_PEEKED = 1000


class Source(Protocol):
    """Rows of molecules that come in batches; their numbers never change.

    Attributes
    ----------
    n_rows : int or None
        How many there are, None if unknown.
    """

    @property
    def n_rows(self) -> int | None: ...

    def iter_batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield the number of the first row, SMILES and names, from row `start`."""

    def fingerprint(self) -> str:
        """Return what tells this library from another one."""


class ArraySource:
    """Molecules in memory.

    Parameters
    ----------
    smiles : array-like of shape (n,)
    names : array-like of shape (n,), default=None
    """

    def __init__(self, smiles: Any, names: Any = None):
        self.smiles = as_smiles_array(smiles)
        self.n_rows = len(self.smiles)
        if names is None:
            self.names = np.full(self.n_rows, "", dtype=object)
        else:
            check_consistent_length(self.smiles, names)
            self.names = np.array([str(name) for name in names], dtype=object)

    def iter_batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield batches of rows."""
        for first in range(start, self.n_rows, batch_size):
            part = slice(first, first + batch_size)
            yield first, self.smiles[part], self.names[part]

    def fingerprint(self) -> str:
        """Return a hash of the molecules and their names."""
        return joblib.hash([self.smiles.tolist(), self.names.tolist()])


class IterableSource:
    """Molecules that come one by one: SMILES, or pairs (SMILES, name).

    Parameters
    ----------
    entries : iterable
        It is gone through once.
    """

    n_rows = None

    def __init__(self, entries: Iterable[Any]):
        self._entries = iter(entries)
        self._peeked: list[Any] | None = None

    def iter_batches(self, batch_size: int, *, start: int = 0) -> Iterator[Batch]:
        """Yield batches of rows, the first `start` of which are passed over."""
        entries = chain(self._peeked or (), self._entries)
        self._peeked = None
        rows = map(_smiles_and_name, islice(entries, start, None))
        yield from batches_of(rows, batch_size, start)

    def fingerprint(self) -> str:
        """Return a hash of the first 1000 entries; to be called before any are read."""
        if self._peeked is None:
            self._peeked = list(islice(self._entries, _N_PEEKED))
        return joblib.hash([_smiles_and_name(entry) for entry in self._peeked])


def _smiles_and_name(entry: Any) -> tuple[Any, str]:
    if isinstance(entry, tuple) and len(entry) == 2:
        return entry[0], str(entry[1])
    return entry, ""


def as_source(X: Any, names: Any = None) -> Source:
    """Make a source of what a user gives as a library.

    Raises
    ------
    ValueError
        If `names` are given beside a source that has its own, X is a single text, or
        no library at all.
    """
    if isinstance(X, os.PathLike):
        X = MoleculeFile(X)
    if isinstance(X, str | bytes | dict) or not (
        hasattr(X, "iter_batches") or isinstance(X, Iterable)
    ):
        raise ValueError(
            "X must be an array-like of SMILES, an iterable, a pathlib.Path or a "
            f"MoleculeFile. Got {X!r}."
        )
    is_file = hasattr(X, "iter_batches")
    is_array = hasattr(X, "__array__") or (
        hasattr(X, "__len__") and hasattr(X, "__getitem__")
    )
    if is_array and not is_file:
        return ArraySource(X, names)
    if names is not None:
        raise ValueError(
            "names must be None where X is a file or an iterable; let it yield pairs "
            f"(SMILES, name). Got names of type {type(names).__name__}."
        )
    return X if is_file else IterableSource(X)
