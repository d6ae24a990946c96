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
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._utils.files import replacing
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.progress import progress_bar
from sklearn_molge._utils.views import is_embedder, resolve_views
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.library._file import (
    INVALID,
    MISSING,
    Batch,
    IterableSource,
    ReadableShare,
    Source,
    why_unreadable,
)
from sklearn_molge.library._store import (
    DATABASE,
    STORED_METRICS,
    Skipped,
    VectorStore,
)
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
    "check_identity",
    "check_library",
    "check_some_readable",
    "choose_metric",
    "describe_index",
    "embed_library",
    "embed_profiles",
    "is_complete",
    "load_embedder",
    "make_store",
    "save_embedder",
    "unfinished_start",
]

# Their vectors tell one embedder from another.
_PROBES = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "ONC(=O)CCCCCCC(=O)Nc1ccccc1",
    "CN1CCN(CC1)Cc1ccc(cc1)C(=O)Nc1ccc(C)c(c1)Nc1nccc(n1)-c1cccnc1",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "OCC1OC(O)C(O)C(O)C1O",
    "Clc1ccccc1C1=NCc2nnc(C)n2-c2sccc12",
    "CCN(CC)CCNC(=O)c1ccc(N)cc1",
)
_NOT_FINITE = "its embedding is not finite"
# So many batches a process may be done ahead of who takes the results.
_AHEAD = 32
# Where so many molecules in a row cannot be embedded, it is not for the molecules.
_ALL_FAIL = 16
# So many rows are looked at until there is a molecule.
_LOOKED_AT = 64
# So many batches are written at a time: a kill loses at most these.
_BATCHES_PER_SEGMENT = 16
_EMBEDDER = "embedder.joblib"
# Rounding differs between machines; another embedder differs by far more.
_TOLERANCE = 1e-3


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
    skipped : list of (row, entry, reason)
        Rows of the source that are no molecule or have no finite embedding.
    """

    first_row: int
    n_rows: int
    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    texts: NDArray[np.object_]
    names: NDArray[np.object_]
    ids: NDArray[np.object_] | None
    skipped: list[Skipped]


def two_view(estimator):
    """Return the embedder inside `estimator`.

    Raises
    ------
    TypeError
        If it has no joint space: no ``transform`` of molecules or ``transform_ge``.
    """
    inner, _, _ = resolve_views(estimator, None, None)
    if not is_embedder(inner):
        raise TypeError(
            "estimator must embed molecules and profiles in one space (`transform` and "
            f"`transform_ge`), as CCA and CoordinatedEmbedder do. Got {inner!r}, whose "
            "similarities cannot be prepared for a library: rank with "
            "sklearn_molge.metrics.similarity."
        )
    return inner


def embed_profiles(estimator, y: ArrayLike) -> NDArray[np.float32]:
    """Project profiles into the joint space."""
    inner, _, profiles = resolve_views(estimator, None, y)
    vectors = np.asarray(inner.transform_ge(profiles), dtype=np.float32)
    if not np.isfinite(vectors).all():
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        raise ValueError(
            f"y: the embedding of {len(bad)} profiles is not finite, in rows "
            f"[{first_few(bad.tolist())}]."
        )
    return vectors


def _embed(estimator, smiles: NDArray[np.object_]) -> NDArray[np.float32]:
    inner, molecules, _ = resolve_views(estimator, smiles, None)
    return np.asarray(inner.transform(molecules), dtype=np.float32)


def probe(estimator) -> NDArray[np.float32]:
    """Embed a few fixed molecules, by which two embedders can be compared.

    Raises
    ------
    ValueError
        If `estimator` does not take SMILES.
    """
    try:
        return _embed(estimator, np.array(_PROBES, dtype=object))
    except (TypeError, ValueError) as error:
        raise ValueError(
            "estimator must be fitted on SMILES; put what computes features of "
            "molecules into a Pipeline before it. Embedding "
            f"{_PROBES[0]!r} failed with {type(error).__name__}: {error}"
        ) from error


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
    first_row, smiles, names = batch  # batch.columns: what else travels
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
        skipped=[(first_row + i, smiles[i], reasons[i]) for i in sorted(reasons)],
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
        return [(rows, _embed(estimator, smiles[rows]))]
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
    """Gathers batches into segments of the store, each molecule once."""

    def __init__(
        self, store: VectorStore, source: Source, start: int, unique_by: str | None
    ):
        self.store = store
        self.next_row = start
        self.unique_by = unique_by
        self._fingerprint = source.fingerprint()
        self._batches: list[EmbeddedRows] = []

    def add(self, batch: EmbeddedRows) -> None:
        self._batches.append(batch)
        if len(self._batches) == _BATCHES_PER_SEGMENT:
            self.flush(done=False)

    def flush(self, *, done: bool) -> None:
        """Write what has been gathered, and how far the source was read."""
        batches, self._batches = self._batches, []
        if not (done or batches):
            return
        if batches:
            self.next_row = batches[-1].first_row + batches[-1].n_rows
        skipped = [row for batch in batches for row in batch.skipped]
        progress = {
            "source": self._fingerprint,
            "next_row": self.next_row,
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
            skipped = sorted(skipped + doubles, key=lambda row: row[0])
        ids = None if rows.ids is None else rows.ids.tolist()
        self.store.append(
            rows.vectors,
            rows.texts.tolist(),
            rows.names.tolist(),
            ids,
            skipped=skipped,
            progress=progress,
        )

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
        same_as = np.where(known < 0, numbers[first], known)
        doubles = [
            (int(batch.rows[i]), batch.texts[i], f"same molecule as row {same_as[i]}")
            for i in np.flatnonzero(~is_new)
        ]
        return _taken(batch, is_new), doubles


def _joined(batches: list[EmbeddedRows]) -> EmbeddedRows:
    columns: dict = {
        name: np.concatenate([getattr(batch, name) for batch in batches])
        for name in _columns_of(batches[0])
    }
    return replace(batches[0], **columns)


def _taken(batch: EmbeddedRows, chosen: NDArray[np.bool_]) -> EmbeddedRows:
    columns: dict = {name: getattr(batch, name)[chosen] for name in _columns_of(batch)}
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
    """
    writer = SegmentWriter(store, source, start, unique_by)
    readable = ReadableShare()
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
                readable.add(batch.n_rows, batch.skipped)
                writer.add(batch)
                bar.update(batch.n_rows)
            if readable.n_rows or not start:
                readable.check(source)
        except BaseException:
            writer.flush(done=False)
            raise
        writer.flush(done=True)


def _raise_skipped(skipped: Sequence[Skipped]) -> None:
    invalid = [
        (row, entry) for row, entry, reason in skipped if reason in (INVALID, MISSING)
    ]
    if invalid:
        rows, entries = zip(*invalid, strict=True)
        raise InvalidSmilesError(rows, entries)
    if skipped:
        shown = first_few(skipped, write=lambda s: f"row {s[0]}, {s[1]!r}: {s[2]}")
        raise ValueError(f"{len(skipped)} rows of X cannot be embedded: {shown}.")


# The folder of an index: whose it is, and the embedder beside the vectors.


def choose_metric(estimator, metric: str) -> str:
    """Return the metric of an index; "auto" is that of its embedder."""
    chosen = two_view(estimator).metric if metric == "auto" else metric
    if chosen not in STORED_METRICS:
        raise ValueError(
            f"metric must be one of {list(STORED_METRICS)}. Got {chosen!r}, the metric "
            "of the embedder; name another one."
        )
    return chosen


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
    check_identity(store.identity, identity, folder)
    for name, own, theirs in (
        ("dtype", dtype, store.dtype),
        ("metric", metric, store.metric),
    ):
        if own != theirs:
            raise ValueError(
                f"{name} must be {theirs!r}, with which the index in {str(folder)!r} "
                f"was made. Got {own!r}."
            )
    unfinished = unfinished_start(store, source) is not None
    if store.progress and not (unfinished or is_complete(store, source)):
        raise FileExistsError(
            f"folder: {str(folder)!r} holds another library than X. Open it and call "
            "partial_fit to add X, or give another folder."
        )
    return store


def describe_index(estimator, unique_by: str | None) -> dict:
    """Return what tells this index from another, as JSON.

    Raises
    ------
    NotFittedError, ValueError
        If `estimator` is not fitted, or does not take SMILES.
    """
    check_is_fitted(estimator)
    return {"unique_by": unique_by, "probes": probe(estimator).tolist()}


def check_identity(theirs: dict, ours: dict, folder: str | os.PathLike) -> None:
    """Refuse an index of another embedder.

    Raises
    ------
    ValueError
        If the embedders place the probe molecules elsewhere, or molecules are told
        apart in another way.
    """
    if theirs["unique_by"] != ours["unique_by"]:
        raise ValueError(
            f"unique_by must be {theirs['unique_by']!r}, with which the index in "
            f"{str(folder)!r} was made. Got {ours['unique_by']!r}."
        )
    there, here = np.array(theirs["probes"]), np.array(ours["probes"])
    same = there.shape == here.shape and np.allclose(
        there, here, rtol=_TOLERANCE, atol=_TOLERANCE * np.abs(there).max(initial=0)
    )
    if not same:
        raise ValueError(
            f"estimator must be the embedder that made the index in {str(folder)!r}. "
            "Got one that projects the same molecules to other places."
        )


def save_embedder(folder: Path, estimator) -> None:
    """Write the embedder beside its vectors; the file is whole or not there."""
    with replacing(folder / _EMBEDDER) as draft:
        joblib.dump(estimator, draft)


def load_embedder(folder: Path):
    """Read the embedder, which runs the code that its pickle names.

    Raises
    ------
    FileNotFoundError
        If the folder holds none.
    """
    path = folder / _EMBEDDER
    if not path.exists():
        raise FileNotFoundError(
            f"There is no {_EMBEDDER} in {str(folder)!r}: give `estimator`, or fit "
            "again."
        )
    return joblib.load(path)
