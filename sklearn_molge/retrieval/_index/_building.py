"""Filling a store from a library, so that a kill loses little and a bad row nothing."""

from collections.abc import Sequence
from contextlib import closing
from typing import Any

import numpy as np
from sklearn.utils.parallel import Parallel, delayed
from tqdm.auto import tqdm

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import valid_smiles_mask
from sklearn_molge.retrieval._index._embedding import INVALID, embed_library
from sklearn_molge.retrieval._index._segments import SegmentWriter
from sklearn_molge.retrieval._index._skipped import SkippedRows
from sklearn_molge.retrieval._index._sources import Batch, IterableSource, Source
from sklearn_molge.retrieval._index._store import VectorStore

__all__ = [
    "SkippedRows",
    "add_library",
    "check_library",
    "is_complete",
    "unfinished_start",
]


def check_library(source: Source, batch_size: int, n_jobs: int | None = None) -> None:
    """Look at all molecules first, for users who want to know before any work.

    An iterable can be gone through only once: its bad rows are met on the way.

    Raises
    ------
    InvalidSmilesError
        With every bad entry.
    """
    if isinstance(source, IterableSource):
        return
    rows: list[int] = []
    entries: list[Any] = []
    checked = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_bad_entries)(batch) for batch in source.iter_batches(batch_size)
    )
    for bad_rows, bad_entries in checked:
        rows.extend(bad_rows)
        entries.extend(bad_entries)
    if rows:
        raise InvalidSmilesError(rows, entries)


def _bad_entries(batch: Batch) -> tuple[list[int], list[Any]]:
    first_row, smiles, _ = batch
    bad = np.flatnonzero(~valid_smiles_mask(smiles))
    return (first_row + bad).tolist(), smiles[bad].tolist()


def is_complete(store: VectorStore, source: Source) -> bool:
    """Whether `source` is the last library that was added, and all of it is there."""
    note = store.note
    return bool(note and note["done"] and note["source"] == source.fingerprint())


def unfinished_start(store: VectorStore, source: Source) -> int | None:
    """Return the row at which the last library goes on; None if none is unfinished.

    Raises
    ------
    ValueError
        If one is unfinished and `source` is another one.
    """
    note = store.note
    if note is None or note["done"]:
        return None
    if note["source"] != source.fingerprint():
        raise ValueError(
            f"X: {store.path or 'the index'} holds {note['next_row']:,} rows of a "
            "library that is not finished, and X is another one. Give that library to "
            "go on with it."
        )
    return note["next_row"]


def add_library(
    store: VectorStore,
    estimator: Any,
    source: Source,
    skipped: SkippedRows,
    *,
    start: int = 0,
    unique_by: str | None = "drug",
    batch_size: int = 4096,
    n_jobs: int | None = None,
    on_bad_smiles: str = "drop",
    progress: bool | str = "auto",
) -> None:
    """Embed the rows of `source` from `start` on and append them to `store`.

    What is done is kept when it is interrupted or killed, and the store's note says
    where to go on: see :func:`unfinished_start`.

    Parameters
    ----------
    store : VectorStore
        Writable.
    estimator : estimator
        A fitted embedder of SMILES.
    source : Source
        The library.
    skipped : SkippedRows
        Takes up the rows that do not come into the store.
    start : int, default=0
        Row of the source to begin with.
    unique_by : {"drug", "smiles", None}, default="drug"
        Which rows are one molecule, of which the first is kept.
    batch_size, n_jobs
        See :func:`embed_library`.
    on_bad_smiles : {"drop", "raise"}, default="drop"
        Whether a row that cannot be embedded is skipped, or the end.
    progress : bool or "auto", default="auto"
        Show a progress bar; "auto": on a terminal, after two seconds.
    """
    writer = SegmentWriter(store, source, skipped, start, unique_by)
    batches = embed_library(
        estimator,
        source,
        start=start,
        batch_size=batch_size,
        n_jobs=n_jobs,
        unique_by=unique_by,
    )
    bar = tqdm(
        total=source.n_rows,
        initial=start,
        desc="Embedding",
        unit=" molecules",
        disable=None if progress == "auto" else not progress,
        delay=2 if progress == "auto" else 0,
    )
    with bar, closing(batches):
        try:
            for batch in batches:
                if on_bad_smiles == "raise":
                    _raise_skipped(batch.skipped)
                writer.add(batch)
                bar.update(batch.n_rows)
        except BaseException:
            writer.flush(done=False)
            raise
    writer.flush(done=True)


def _raise_skipped(skipped: Sequence[tuple[int, Any, str]]) -> None:
    invalid = [(row, entry) for row, entry, reason in skipped if reason == INVALID]
    if invalid:
        rows, entries = zip(*invalid, strict=True)
        raise InvalidSmilesError(rows, entries)
    if skipped:
        shown = "; ".join(f"row {r}, {e!r}: {reason}" for r, e, reason in skipped[:20])
        raise ValueError(f"{len(skipped)} rows of X cannot be embedded: {shown}.")
