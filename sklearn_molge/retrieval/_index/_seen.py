"""Which molecules an index holds already, in 16 bytes each."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge.retrieval._index._store import VectorStore

__all__ = ["SeenIds"]

_BLOCK = 65_536


class SeenIds:
    """Hashes of ids, each with the row that has it.

    Hashes have 64 bits: of a million ids, two share one with a probability of 3e-8 (of
    a billion, 0.03), and the second molecule would be taken for the first.
    """

    def __init__(self) -> None:
        # Sorted, each more than twice as long as the next one: adding is cheap.
        self._levels: list[tuple[NDArray[np.uint64], NDArray[np.int64]]] = []

    @classmethod
    def of_store(cls, store: VectorStore) -> "SeenIds":
        """Read the ids of the rows that are not removed."""
        seen = cls()
        for first in range(0, store.n_rows, _BLOCK):
            rows = np.arange(first, min(first + _BLOCK, store.n_rows))
            if store.active is not None:
                rows = rows[store.active[rows]]
            if len(rows):
                seen.add(hash_ids(store.ids(rows)), rows)
        return seen

    @property
    def nbytes(self) -> int:
        """Memory of the hashes and the rows."""
        return sum(part.nbytes for level in self._levels for part in level)

    def add(self, hashes: NDArray[np.uint64], rows: NDArray[np.int64]) -> None:
        """Note that these rows have ids of these hashes."""
        if not len(hashes):
            return
        while self._levels and len(self._levels[-1][0]) <= 2 * len(hashes):
            others, their_rows = self._levels.pop()
            hashes = np.concatenate([others, hashes])
            rows = np.concatenate([their_rows, rows])
        order = np.argsort(hashes, kind="stable")
        self._levels.append((hashes[order], rows[order]))

    def find(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return the row of each, -1 where there is none."""
        found = np.full(len(hashes), -1, dtype=np.int64)
        for known, rows in self._levels:
            places = np.searchsorted(known, hashes).clip(max=len(known) - 1)
            same = known[places] == hashes
            found[same] = rows[places[same]]
        return found


def hash_ids(ids: NDArray[np.object_]) -> NDArray[np.uint64]:
    """Return 64 bits of each id, the same in every process."""
    return pd.util.hash_array(ids, categorize=False)
