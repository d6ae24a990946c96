"""Finding the rows of an id among millions, without holding the ids."""

import numpy as np
from numpy.typing import NDArray

from sklearn_molge.retrieval._index._columns import TextColumn

__all__ = ["IdLookup"]


class IdLookup:
    """Sorted hashes of a column's texts, 16 bytes a row; made at the first question.

    The hashes are Python's own, which differ between processes: they are never stored.
    """

    def __init__(self) -> None:
        self._hashes = np.empty(0, dtype=np.int64)
        self._rows = np.empty(0, dtype=np.intp)

    def find(self, column: TextColumn, text: str) -> NDArray[np.intp]:
        """Return the rows that hold `text`, in order."""
        self._extend(column)
        first, last = (
            np.searchsorted(self._hashes, hash(text), side=side)
            for side in ("left", "right")
        )
        rows = np.sort(self._rows[first:last])
        return rows[column.get(rows) == text]

    def _extend(self, column: TextColumn) -> None:
        known = len(self._rows)
        if known == column.n_rows:
            return
        parts = [
            np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))
            for texts in column.batches(start=known)
        ]
        hashes = np.concatenate([self._hashes, *parts])
        rows = np.concatenate([self._rows, np.arange(known, column.n_rows)])
        order = np.argsort(hashes)
        self._hashes, self._rows = hashes[order], rows[order]
