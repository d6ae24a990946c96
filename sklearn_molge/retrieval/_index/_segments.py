"""From embedded batches to segments of a store, each molecule once."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_molge.retrieval._index._embedding import EmbeddedBatch
from sklearn_molge.retrieval._index._seen import SeenIds, hash_ids
from sklearn_molge.retrieval._index._skipped import SkippedRows
from sklearn_molge.retrieval._index._sources import Source
from sklearn_molge.retrieval._index._store import VectorStore

__all__ = ["SegmentWriter"]

# So many batches are written at a time: a kill loses at most these.
_BATCHES_PER_SEGMENT = 16
_COLUMNS = ("rows", "vectors", "texts", "names", "ids")


class SegmentWriter:
    """Gathers batches into segments of the store, each molecule once."""

    def __init__(
        self,
        store: VectorStore,
        source: Source,
        skipped: SkippedRows,
        start: int,
        unique_by: str | None,
    ):
        self.store = store
        self.skipped = skipped
        self.next_row = start
        self.unique_by = unique_by
        self._fingerprint = source.fingerprint()
        self._seen = None if unique_by is None else SeenIds.of_store(store)
        self._batches: list[EmbeddedBatch] = []
        skipped.cut(store.note["skipped"] if store.note else 0)

    def add(self, batch: EmbeddedBatch) -> None:
        self._batches.append(batch)
        if len(self._batches) == _BATCHES_PER_SEGMENT:
            self.flush(done=False)

    def flush(self, *, done: bool) -> None:
        """Write what has been gathered, and how far the source was read."""
        batches, self._batches = self._batches, []
        if not (done or batches):
            return
        skipped = [row for batch in batches for row in batch.skipped]
        if batches:
            self.next_row = batches[-1].first_row + batches[-1].n_rows
            batches = [batch for batch in batches if len(batch.rows)] or batches[:1]
            rows, doubles = self._without_doubles(_joined(batches))
            skipped = sorted(skipped + doubles, key=lambda row: row[0])
        self.skipped.append(skipped)
        note = {
            "source": self._fingerprint,
            "next_row": self.next_row,
            "done": done,
            "skipped": self.skipped.position,
        }
        if batches and len(rows.rows):
            # The texts are ids as well, and are not stored twice.
            ids = rows.ids if self.unique_by == "drug" else None
            self.store.append(rows.vectors, rows.texts, rows.names, ids, note=note)
        else:
            self.store.write_note(note)

    def _without_doubles(
        self, batch: EmbeddedBatch
    ) -> tuple[EmbeddedBatch, list[tuple[int, Any, str]]]:
        """Return the first row of each molecule, and the others as skipped rows."""
        if self._seen is None or batch.ids is None:
            return batch, []
        hashes = hash_ids(batch.ids)
        known = self._seen.find(hashes)
        _, first, place = np.unique(hashes, return_index=True, return_inverse=True)
        is_new = np.zeros(len(hashes), dtype=bool)
        is_new[first] = True
        is_new &= known < 0
        numbers = self.store.n_rows + np.cumsum(is_new) - 1
        self._seen.add(hashes[is_new], numbers[is_new])
        same_as = np.where(known < 0, numbers[first[place]], known)
        doubles = [
            (int(batch.rows[i]), batch.texts[i], f"same molecule as row {same_as[i]}")
            for i in np.flatnonzero(~is_new)
        ]
        return _taken(batch, is_new), doubles


def _joined(batches: list[EmbeddedBatch]) -> EmbeddedBatch:
    columns: dict[str, Any] = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in _COLUMNS
        if getattr(batches[0], name) is not None
    }
    return replace(batches[0], **columns)


def _taken(batch: EmbeddedBatch, chosen: NDArray[np.bool_]) -> EmbeddedBatch:
    columns: dict[str, Any] = {name: getattr(batch, name)[chosen] for name in _COLUMNS}
    return replace(batch, **columns)
