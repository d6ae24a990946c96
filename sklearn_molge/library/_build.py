"""Filling a store from a library: embedding, and writing so that a kill loses little.

Batches of rows are embedded in any number of processes, joined into segments without
the molecules that are there already, and appended; the store's progress says where to
go on.
"""

import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.progress import progress_bar
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.library._database import DATABASE
from sklearn_molge.library._embedder import check_identity, embed_molecules
from sklearn_molge.library._file import (
    INVALID,
    MISSING,
    Batch,
    IterableSource,
    ReadableShare,
    Source,
    why_unreadable,
)
from sklearn_molge.library._store import Skipped, VectorStore
from sklearn_molge.molecules import (
    MISSING_SMILES,
    drug_ids,
    parse_smiles,
    parsed_once,
    valid_smiles_mask,
)
from sklearn_molge.parallel import SentOnce, received

__all__ = [
    "add_library",
    "check_library",
    "check_settings",
    "check_some_readable",
    "embed_library",
    "is_complete",
    "make_store",
    "unfinished_start",
]

_NOT_FINITE = "its embedding is not finite"
_NO_LIBRARY: dict = {"source": None, "next_row": 0, "counts": {}, "done": True}
# So many batches a process may be done ahead of who takes the results.
_AHEAD = 32
# Where so many molecules in a row cannot be embedded, it is not for the molecules.
_ALL_FAIL = 16
# So many rows are looked at until there is a molecule.
_LOOKED_AT = 64
# So many batches are written at a time: a kill loses at most these.
_BATCHES_PER_SEGMENT = 16


@dataclass(frozen=True)
class EmbeddedRows:
    """What became of a batch of rows of a library.

    Attributes
    ----------
    first_row, n_rows : int
        Which rows of the source these were.
    rows : ndarray of shape (n_kept,), dtype=int64
        Rows of the source that have a vector.
    vectors : ndarray of shape (n_kept, n_components), dtype=float32
    texts, names : ndarray of shape (n_kept,), dtype=object
    ids : ndarray of shape (n_kept,), dtype=object, or None
        Identities of the molecules; None where the texts are compared, or nothing.
    columns : dict of str to ndarray of shape (n_kept,), dtype=object
        Further columns of the source.
    skipped : list of Skipped
        Rows of the source that are no molecule or have no finite embedding.
    """

    first_row: int
    n_rows: int
    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    texts: NDArray[np.object_]
    names: NDArray[np.object_]
    ids: NDArray[np.object_] | None
    columns: dict[str, NDArray[np.object_]]
    skipped: list[Skipped]


def embed_library(
    estimator,
    source: Source,
    *,
    start: int = 0,
    batch_size: int = 4096,
    n_jobs: int | None = None,
    unique_by: str | None = "drug",
) -> Generator[EmbeddedRows]:
    """Embed the rows of `source` from `start` on, and yield them in their order.

    The estimator is sent to each process once. The source is read as the batches are
    taken, at most 32 batches a process ahead.
    """
    batches = source.iter_batches(batch_size, start=start)
    n_workers = joblib.effective_n_jobs(n_jobs)
    if n_workers == 1:
        for batch in batches:
            yield _embed_batch(estimator, batch, unique_by)
        return
    sent = SentOnce(estimator)
    with Parallel(n_jobs=n_jobs, return_as="generator") as parallel:
        for first in batches:
            window = chain([first], islice(batches, _AHEAD * n_workers - 1))
            yield from parallel(
                delayed(_embed_sent)(sent.payload, sent.key, batch, unique_by)
                for batch in window
            )


def _embed_sent(
    payload: NDArray[np.uint8], key: str, batch: Batch, unique_by: str | None
) -> EmbeddedRows:
    return _embed_batch(received(payload, key), batch, unique_by)


def _embed_batch(estimator, batch: Batch, unique_by: str | None) -> EmbeddedRows:
    first_row, smiles, names = batch
    try:
        with parsed_once():
            reasons = _unreadable(smiles, parse=unique_by == "drug")
            vectors, kept = _embed_valid(estimator, smiles, reasons)
            ids = drug_ids(smiles[kept]) if unique_by == "drug" else None
    except Exception as error:
        error.add_note(f"while rows {first_row} to {first_row + len(smiles) - 1}")
        raise
    return EmbeddedRows(
        first_row=first_row,
        n_rows=len(smiles),
        rows=first_row + kept,
        vectors=vectors,
        texts=smiles[kept],
        names=names[kept],
        ids=ids,
        columns={name: values[kept] for name, values in batch.columns.items()},
        skipped=[
            Skipped(first_row + i, smiles[i], reasons[i]) for i in sorted(reasons)
        ],
    )


def _unreadable(smiles: NDArray[np.object_], *, parse: bool) -> dict[int, str]:
    """Find what is no molecule: all of it, or without parsing what is easily seen."""
    if parse:  # for the identities each molecule has to be read anyway
        valid = valid_smiles_mask(smiles)
    else:
        valid = np.array(
            [
                isinstance(s, str) and s.strip().lower() not in MISSING_SMILES
                for s in smiles
            ]
        )
    return {i: why_unreadable(smiles[i]) for i in np.flatnonzero(~valid).tolist()}


def _embed_valid(
    estimator, smiles: NDArray[np.object_], reasons: dict[int, str]
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Embed the entries that are molecules; return which these are as well.

    Why others are left out is added to `reasons`, which names some already.
    """
    tried = np.delete(np.arange(len(smiles)), list(reasons))
    errors: list[Exception] = []
    parts = _embed_part(estimator, smiles, tried, reasons, errors)
    if not parts:
        if len(errors) >= _ALL_FAIL:
            raise errors[-1]
        return np.empty((0, 0), dtype=np.float32), tried[:0]
    kept = np.concatenate([rows for rows, _ in parts])
    vectors = np.concatenate([part for _, part in parts])
    finite = np.isfinite(vectors).all(axis=1)
    reasons |= dict.fromkeys(kept[~finite].tolist(), _NOT_FINITE)
    return vectors[finite], kept[finite]


def _embed_part(
    estimator,
    smiles: NDArray[np.object_],
    rows: NDArray[np.intp],
    reasons: dict[int, str],
    errors: list[Exception],
) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Embed entries; if some cannot be, find out which by halves."""
    if not len(rows):
        return []
    try:
        return [(rows, embed_molecules(estimator, smiles[rows]))]
    except InvalidSmilesError as error:
        if not error.indices:
            raise
        reasons |= dict.fromkeys(rows[error.indices].tolist(), INVALID)
        parts = [np.delete(rows, error.indices)]
    except ValueError as error:
        if len(rows) == 1:
            errors.append(error)
            reasons[int(rows[0])] = f"{type(error).__name__}: {error}"
            return []
        parts = np.array_split(rows, 2)
    return [
        embedded
        for part in parts
        for embedded in _embed_part(estimator, smiles, part, reasons, errors)
    ]


# Writing


class SegmentWriter:
    """Gathers batches into segments of the store, each molecule once.

    Attributes
    ----------
    library : int
        Number of the library, from 0.
    next_row : int
        Rows of the library before it are done.
    readable : ReadableShare
        What its rows were so far.
    n_failed : int
        Molecules that could not be embedded.
    """

    def __init__(
        self, store: VectorStore, source: Source, start: int, unique_by: str | None
    ):
        self.store = store
        self.next_row = start
        self.unique_by = unique_by
        self._fingerprint = source.fingerprint()
        self._batches: list[EmbeddedRows] = []
        known = store.progress
        goes_on = known is not None and not known["done"]
        self.library = 0 if known is None else known["library"] + (not goes_on)
        counts = dict(known["counts"]) if known and goes_on else {}
        self.n_failed = counts.pop("n_failed", 0)
        self.readable = ReadableShare(**counts)
        self.failure: Skipped | None = None
        # What is to be there again if nothing of the library can be used.
        self._before = {**(known or {}), **_NO_LIBRARY} if goes_on else known
        self._n_skipped = store.n_skipped - (start if goes_on else 0)

    def add(self, batch: EmbeddedRows) -> None:
        self.readable.add(batch.n_rows, [row[:3] for row in batch.skipped])
        failed = [s for s in batch.skipped if s.reason not in (MISSING, INVALID)]
        self.n_failed += len(failed)
        self.failure = self.failure or next(iter(failed), None)
        self._batches.append(batch)
        if len(self._batches) == _BATCHES_PER_SEGMENT:
            self.flush(done=False)

    def flush(self, *, done: bool) -> None:
        """Write what has been gathered, and how far the source was read."""
        self.next_row = self._n_rows()
        batches, self._batches = self._batches, []
        if not (done or batches):
            return
        skipped = [row for batch in batches for row in batch.skipped]
        progress = {
            "source": self._fingerprint,
            "library": self.library,
            "next_row": self.next_row,
            "counts": {
                "n_rows": self.readable.n_rows,
                "n_missing": self.readable.n_missing,
                "n_invalid": self.readable.n_invalid,
                "n_failed": self.n_failed,
            },
            "done": done,
        }
        batches = [batch for batch in batches if len(batch.rows)]
        if not batches:
            nothing = np.empty((0, self.store.n_components), dtype=np.float32)
            self.store.append(nothing, [], [], skipped=skipped, progress=progress)
            return
        rows = _joined(batches)
        if self.unique_by is not None:
            rows, doubles = self._without_doubles(rows)
            skipped = sorted(skipped + doubles, key=lambda row: row.row)
        ids = None if rows.ids is None else rows.ids.tolist()
        self.store.append(
            rows.vectors,
            rows.texts.tolist(),
            rows.names.tolist(),
            ids,
            library_rows=rows.rows.tolist(),
            columns=rows.columns,
            skipped=skipped,
            progress=progress,
        )

    def finish(self, source: Source) -> None:
        """Write the rest.

        Raises
        ------
        ValueError
            If no row of the library can be used; nothing of it is kept then.
        """
        try:
            self.readable.check(source)
            if self.failure and self.n_failed == self.readable.n_good:
                raise ValueError(
                    f"X: none of the {self.n_failed:,} molecules of the library can be "
                    f"embedded. Row {self.failure.row}: {self.failure.reason}."
                )
        except ValueError:
            self._batches.clear()
            if self.store.n_skipped > self._n_skipped:
                self.store.forget_library(self._n_skipped, self._before)
            raise
        self.flush(done=True)

    def _n_rows(self) -> int:
        """Rows of the library that were looked at."""
        if not self._batches:
            return self.next_row
        return self._batches[-1].first_row + self._batches[-1].n_rows

    def _without_doubles(
        self, batch: EmbeddedRows
    ) -> tuple[EmbeddedRows, list[Skipped]]:
        """Return the first row of each molecule, and the others as skipped rows."""
        ids = (batch.texts if batch.ids is None else batch.ids).tolist()
        place = {id_: i for i, id_ in reversed(list(enumerate(ids)))}
        first = np.array([place[id_] for id_ in ids])
        known = np.full(len(ids), -1)
        places, rows = self.store.find(ids)
        known[places] = rows
        is_new = (known < 0) & (first == np.arange(len(ids)))
        numbers = self.store.n_rows + np.cumsum(is_new) - 1
        same_as = np.where(known < 0, numbers[first], known).tolist()
        doubles = [
            Skipped(
                int(batch.rows[i]),
                batch.texts[i],
                f"the molecule of index_row {same_as[i]}",
                same_as[i],
            )
            for i in np.flatnonzero(~is_new).tolist()
        ]
        return _taken(batch, is_new), doubles


def _joined(batches: list[EmbeddedRows]) -> EmbeddedRows:
    columns: dict = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in _columns_of(batches[0])
    }
    columns["columns"] = {
        name: np.concatenate([batch.columns[name] for batch in batches])
        for name in batches[0].columns
    }
    return replace(batches[0], **columns)


def _taken(batch: EmbeddedRows, chosen: NDArray[np.bool_]) -> EmbeddedRows:
    columns: dict = {name: getattr(batch, name)[chosen] for name in _columns_of(batch)}
    columns["columns"] = {name: c[chosen] for name, c in batch.columns.items()}
    return replace(batch, **columns)


def _columns_of(batch: EmbeddedRows) -> tuple[str, ...]:
    columns = ("rows", "vectors", "texts", "names")
    return columns if batch.ids is None else (*columns, "ids")


def check_library(source: Source, batch_size: int, n_jobs: int | None = None) -> None:
    """Look at all molecules first, for users who want to know before any work.

    An iterable can be gone through only once: its bad rows are met on the way.
    """
    if isinstance(source, IterableSource):
        return
    rows: list[int] = []
    entries: list[object] = []
    checked = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_bad_entries)(batch) for batch in source.iter_batches(batch_size)
    )
    for bad_rows, bad_entries in checked:
        rows.extend(bad_rows)
        entries.extend(bad_entries)
    if rows:
        raise InvalidSmilesError(rows, entries)


def _bad_entries(batch: Batch) -> tuple[list[int], list[object]]:
    first_row, smiles, _ = batch
    bad = np.flatnonzero(~valid_smiles_mask(smiles))
    return (first_row + bad).tolist(), smiles[bad].tolist()


def check_some_readable(source: Source) -> None:
    """Refuse a library without a single molecule, before any work.

    Raises
    ------
    ValueError
        With what its rows are.
    """
    if isinstance(source, IterableSource):
        return
    readable = ReadableShare()
    for batch in source.iter_batches(_LOOKED_AT):
        first_row, smiles, _ = batch
        if any(parse_smiles(entry) is not None for entry in smiles):
            return
        bad = [(first_row + i, s, why_unreadable(s)) for i, s in enumerate(smiles)]
        readable.add(len(smiles), bad)
    readable.check(source)


def is_complete(store: VectorStore, source: Source) -> bool:
    """Whether `source` is the last library that was added, and all of it is there."""
    known = store.progress
    return bool(known and known["done"] and known["source"] == source.fingerprint())


def unfinished_start(store: VectorStore, source: Source) -> int | None:
    """Return the row at which the last library goes on; None if none is unfinished.

    Raises
    ------
    ValueError
        If one is unfinished and `source` is another one.
    """
    progress = store.progress
    if progress is None or progress["done"]:
        return None
    if progress["source"] != source.fingerprint():
        raise ValueError(
            f"X: {store.folder or 'the index'} holds {progress['next_row']:,} rows of "
            "a library that is not finished, and X is another one. Give that library "
            "to go on with it."
        )
    return progress["next_row"]


def add_library(
    store: VectorStore,
    estimator,
    source: Source,
    *,
    start: int = 0,
    unique_by: str | None = "drug",
    batch_size: int = 4096,
    n_jobs: int | None = None,
    on_bad_smiles: str = "drop",
    progress: bool | str = "auto",
) -> None:
    """Embed the rows of `source` from `start` on and append them to `store`.

    The store is held for writing until the end. What is done is kept when it is
    interrupted or killed, and the store's progress says where to go on: see
    :func:`unfinished_start`. The other parameters are those of ``MoleculeIndex``.
    A library of which no row can be used is an error, see :class:`SegmentWriter`.
    """
    writer = SegmentWriter(store, source, start, unique_by)
    batches = embed_library(
        estimator,
        source,
        start=start,
        batch_size=batch_size,
        n_jobs=n_jobs,
        unique_by=unique_by,
    )
    with (
        store.writing(),
        closing(batches),
        progress_bar(
            shown=progress,
            total=source.n_rows,
            initial=start,
            desc="Embedding",
            unit=" molecules",
        ) as bar,
    ):
        try:
            for batch in batches:
                if on_bad_smiles == "raise":
                    _raise_skipped(batch.skipped)
                writer.add(batch)
                bar.update(batch.n_rows)
        except BaseException:
            writer.flush(done=False)
            raise
        writer.finish(source)


def _raise_skipped(skipped: Sequence[Skipped]) -> None:
    invalid = [(s.row, s.entry) for s in skipped if s.reason in (MISSING, INVALID)]
    if invalid:
        rows, entries = zip(*invalid, strict=True)
        raise InvalidSmilesError(rows, entries)
    if skipped:
        shown = first_few(
            skipped, write=lambda s: f"row {s.row}, {s.entry!r}: {s.reason}"
        )
        raise ValueError(f"{len(skipped)} rows of X cannot be embedded: {shown}.")


def check_settings(
    store: VectorStore, *, dtype: str, metric: str, identity: dict
) -> None:
    """Refuse to go on with other parameters than those that the store was made with.

    Raises
    ------
    ValueError
        If an embedder, a precision, a metric or an identity differs.
    """
    where = f"the index in {str(store.folder)!r}" if store.folder else "this index"
    check_identity(store.identity, identity, where)
    for name, own, theirs in (
        ("dtype", dtype, store.dtype),
        ("metric", metric, store.metric),
    ):
        if own != theirs:
            raise ValueError(
                f"{name} must be {theirs!r}, with which {where} was made. Got {own!r}."
            )


def make_store(
    folder: str | os.PathLike | None,
    source: Source,
    *,
    dtype: str,
    metric: str,
    identity: dict,
) -> VectorStore:
    """Make a store for a library, or open the one that holds a part or all of it.

    Raises
    ------
    FileExistsError
        If the folder holds another library, or no index.
    ValueError
        If it was made with other settings, or another library is unfinished there.
    """
    if folder is None or not Path(folder, DATABASE).is_file():
        return VectorStore.create(
            None if folder is None else Path(folder),
            n_components=len(identity["probes"][0]),
            dtype=dtype,
            metric=metric,
            identity=identity,
        )
    store = VectorStore.open(folder)
    check_settings(store, dtype=dtype, metric=metric, identity=identity)
    unfinished = unfinished_start(store, source) is not None
    if store.progress and not (unfinished or is_complete(store, source)):
        raise FileExistsError(
            f"folder: {str(folder)!r} holds another library than X. Open it and call "
            "partial_fit to add X, or give another folder."
        )
    return store
