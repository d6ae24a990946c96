"""Filling a store from a library: embedding, and writing so that a kill loses little.

Batches of rows are embedded in any number of processes, joined into segments without
the molecules that are there already, and appended; the store's progress says where to
go on, and which libraries are there.
"""

import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import chain, islice

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from sklearn_molge._utils.messages import first_few, shortened
from sklearn_molge._utils.progress import progress_bar
from sklearn_molge.exceptions import InvalidSmilesError, LibraryWarning
from sklearn_molge.library._embedder import embed_molecules
from sklearn_molge.library._file import (
    Batch,
    IterableSource,
    ReadableShare,
    Source,
    is_unreadable,
    why_unreadable,
)
from sklearn_molge.library._libraries import (
    Library,
    beginning_of,
    check_unfinished,
    row_digests,
    warn_of_known,
)
from sklearn_molge.library._search import LONGEST_VECTOR
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
    "check_some_readable",
    "embed_library",
]

_NOT_FINITE = "its embedding is not finite"
_TOO_LONG = "its embedding is too long to be compared or stored"
_DIED = "the process that embedded it died"
# So many batches a process may be done ahead of who takes the results.
_AHEAD = 32
# Where so many molecules in a row cannot be embedded, it is not for the molecules.
_ALL_FAIL = 16
# Characters of a text that is stored. A SMILES has at most 20,000; nobody writes a name
# or a price of a million.
_MOST_CHARACTERS = 1_000_000
_SHOWN_CHARACTERS = 100  # of longer ones
_MOST_REASON = 2000
_LARGEST_FLOAT16 = float(np.finfo(np.float16).max)
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
        Rows of the source that are no molecule or cannot be embedded.
    digest : int
        Of all these rows as they are in the source, see `row_digests`.
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
    digest: int


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
    taken, at most 32 batches a process ahead. Where a process dies, the batches that
    were on their way are embedded again, see :func:`_embed_alone`.
    """
    batches = source.iter_batches(batch_size, start=start)
    n_workers = joblib.effective_n_jobs(n_jobs)
    if n_workers == 1:
        for batch in batches:
            yield _embed_batch(estimator, batch, unique_by)
        return
    sent = SentOnce(estimator)
    embed = partial(_embed_sent, sent.payload, sent.key, unique_by)
    under_way: deque[Batch] = deque()
    while True:
        try:
            with Parallel(n_jobs=n_jobs, return_as="generator") as parallel:
                for first in batches:
                    window = chain([first], islice(batches, _AHEAD * n_workers - 1))
                    tasks = (delayed(embed)(b) for b in _noted(window, under_way))
                    for rows in parallel(tasks):
                        under_way.popleft()
                        yield rows
            return
        except BrokenProcessPool:
            rows = f"{under_way[0].first_row} to {_last_row(under_way[-1])}"
            warnings.warn(
                f"X: a process died while rows {rows} were being embedded: of a "
                "molecule that crashes the embedder, or of too little memory. They are "
                "embedded again, one batch at a time; a smaller batch_size or n_jobs "
                "needs less memory.",
                LibraryWarning,
                stacklevel=2,
            )
            deaths: list[int] = []
            while under_way:
                yield from _embed_alone(embed, under_way.popleft(), deaths)


def _noted(batches: Iterable[Batch], under_way: deque[Batch]) -> Iterator[Batch]:
    """Yield batches, and note that they are on their way."""
    for batch in batches:
        under_way.append(batch)
        yield batch


def _last_row(batch: Batch) -> int:
    return batch.first_row + len(batch) - 1


def _embed_alone(
    embed: Callable[[Batch], EmbeddedRows], batch: Batch, deaths: list[int]
) -> Iterator[EmbeddedRows]:
    """Embed a batch while nothing else runs, by halves where its process dies.

    A row that alone ends a process is a skipped row. `deaths` are the last such rows.

    Raises
    ------
    RuntimeError
        If too many follow each other: it is not for the molecules then.
    """
    try:
        (rows,) = Parallel(n_jobs=2)([delayed(embed)(batch)])
    except BrokenProcessPool as error:
        if len(batch) > 1:
            half = len(batch) // 2
            for part in (slice(None, half), slice(half, None)):
                yield from _embed_alone(embed, _part_of(batch, part), deaths)
            return
        deaths.append(batch.first_row)
        if len(deaths) == _ALL_FAIL:
            raise RuntimeError(
                f"X: the processes that embedded rows [{first_few(deaths)}] died, each "
                "of them alone. What was done before them is kept: once the embedder "
                "runs again, or there is memory, call fit or partial_fit with the same "
                "library to go on."
            ) from error
        rows = _skipped_batch(batch, dict.fromkeys(range(1), _DIED))
    else:
        deaths.clear()
    yield rows


def _part_of(batch: Batch, part: slice) -> Batch:
    return Batch(
        batch.first_row + (part.start or 0),
        batch.smiles[part],
        batch.names[part],
        {name: values[part] for name, values in batch.columns.items()},
    )


def _embed_sent(
    payload: NDArray[np.uint8], key: str, unique_by: str | None, batch: Batch
) -> EmbeddedRows:
    return _embed_batch(received(payload, key), batch, unique_by)


def _embed_batch(estimator, batch: Batch, unique_by: str | None) -> EmbeddedRows:
    smiles = batch.smiles
    try:
        with parsed_once():
            reasons = _unreadable(batch, parse=unique_by == "drug")
            tried = np.delete(np.arange(len(smiles)), list(reasons))
            embed = partial(embed_molecules, estimator)
            vectors, kept = _of_each(embed, smiles, tried, reasons)
            finite = np.isfinite(vectors).all(axis=1)
            reasons |= dict.fromkeys(kept[~finite].tolist(), _NOT_FINITE)
            vectors, kept = vectors[finite], kept[finite]
            ids = None
            if unique_by == "drug":
                ids, told = _of_each(drug_ids, smiles, kept, reasons)
                vectors, kept = vectors[np.isin(kept, told)], told
    except Exception as error:
        error.add_note(f"while rows {batch.first_row} to {_last_row(batch)}")
        raise
    return replace(
        _skipped_batch(batch, reasons),
        rows=batch.first_row + kept,
        vectors=vectors,
        texts=smiles[kept],
        names=batch.names[kept],
        ids=ids,
        columns={name: values[kept] for name, values in batch.columns.items()},
    )


def _skipped_batch(batch: Batch, reasons: dict[int, str]) -> EmbeddedRows:
    """Return what becomes of a batch of which nothing is kept."""
    nothing = np.empty(0, dtype=object)
    return EmbeddedRows(
        first_row=batch.first_row,
        n_rows=len(batch),
        rows=np.empty(0, dtype=np.int64),
        vectors=np.empty((0, 0), dtype=np.float32),
        texts=nothing,
        names=nothing,
        ids=None,
        columns=dict.fromkeys(batch.columns, nothing),
        skipped=[
            Skipped(batch.first_row + i, _as_listed(batch.smiles[i]), reasons[i])
            for i in sorted(reasons)
        ],
        digest=int(row_digests(batch).sum()),
    )


def _as_listed(entry: object) -> object:
    """Return an entry that is left out, or what stands for it."""
    try:
        text = str(entry)
    except Exception:
        return f"a {type(entry).__name__}"
    if len(text) > _MOST_CHARACTERS:
        return f"{text[:_SHOWN_CHARACTERS]}... of {len(text):,} characters"
    return entry


def _unreadable(batch: Batch, *, parse: bool) -> dict[int, str]:
    """Find what is no molecule: all of it, or without parsing what is easily seen.

    And what no database holds.
    """
    smiles = batch.smiles
    if parse:  # for the identities each molecule has to be read anyway
        valid = valid_smiles_mask(smiles)
    else:
        valid = np.array(
            [
                isinstance(s, str)
                and len(s) <= _MOST_CHARACTERS
                and s.strip().lower() not in MISSING_SMILES
                for s in smiles
            ]
        )
    reasons = {i: why_unreadable(smiles[i]) for i in np.flatnonzero(~valid).tolist()}
    for name, values in [("name", batch.names), *batch.columns.items()]:
        for i, value in enumerate(values):
            if isinstance(value, str) and len(value) > _MOST_CHARACTERS:
                why = f"its {name!r} has more than {_MOST_CHARACTERS:,} characters"
                reasons.setdefault(i, why)
    return reasons


def _of_each(
    function: Callable,
    smiles: NDArray[np.object_],
    rows: NDArray[np.intp],
    reasons: dict[int, str],
) -> tuple[NDArray, NDArray[np.intp]]:
    """Apply `function` to entries; return its values, and which entries have one.

    Why others are left out is added to `reasons`.
    """
    errors: list[Exception] = []
    parts = _of_part(function, smiles, rows, reasons, errors)
    if not parts:
        if len(errors) >= _ALL_FAIL:
            raise errors[-1]
        return np.empty((0, 0), dtype=np.float32), rows[:0]
    return (
        np.concatenate([values for _, values in parts]),
        np.concatenate([kept for kept, _ in parts]),
    )


def _of_part(
    function: Callable,
    smiles: NDArray[np.object_],
    rows: NDArray[np.intp],
    reasons: dict[int, str],
    errors: list[Exception],
) -> list[tuple[NDArray[np.intp], NDArray]]:
    """Apply `function` to entries; if some have no value, find out which by halves.

    `errors` are those of the last entries that follow each other.
    """
    if not len(rows):
        return []
    try:
        values = function(smiles[rows])
    except InvalidSmilesError as error:
        if not error.indices:
            raise
        bad = rows[error.indices].tolist()
        reasons |= {row: why_unreadable(smiles[row]) for row in bad}
        parts = [np.delete(rows, error.indices)]
    except (OSError, ImportError):
        raise  # of the machine, not of a molecule
    except Exception as error:
        if len(rows) == 1:
            errors.append(error)
            if len(errors) >= _ALL_FAIL and not isinstance(error, ValueError):
                raise  # nor is what so many fail of, unless they are refused
            reasons[int(rows[0])] = _told(error)
            return []
        parts = np.array_split(rows, 2)
    else:
        errors.clear()
        return [(rows, values)]
    return [
        done
        for part in parts
        for done in _of_part(function, smiles, part, reasons, errors)
    ]


def _told(error: Exception) -> str:
    """Return an error as a reason that a database holds."""
    text = f"{type(error).__name__}: {error}"[:_MOST_REASON]
    return text.encode("utf-8", "backslashreplace").decode()


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
        self,
        store: VectorStore,
        source: Source,
        unique_by: str | None,
        beginning: Library | None,
    ):
        self.store = store
        self.unique_by = unique_by
        self._batches: list[EmbeddedRows] = []
        known = store.progress or {"library": -1, "done": True, "held": []}
        goes_on = not known["done"]
        self.held: list[dict] = known["held"]
        self.library = known["library"] + (not goes_on)
        begun = Library(**known["begun"]) if goes_on else beginning or Library()
        self.begun = replace(begun, library=self.library, source=source.fingerprint())
        self.next_row = begun.n_rows
        counts: dict = dict(begun.counts)
        self.n_failed = counts.pop("n_failed", 0)
        self.readable = ReadableShare(**counts)
        self.failure: Skipped | None = None
        # What is to be there again if nothing of the library can be used.
        self._n_skipped = known["n_skipped"] if goes_on else store.n_skipped
        self._before: dict | None = None
        if self.held:
            last = {"library": self.library - 1, "begun": self.held[-1]}
            self._before = {**known, **last, "done": True}

    def add(self, batch: EmbeddedRows) -> None:
        batch = self._storable(batch)
        self.readable.add(batch.n_rows, [row[:3] for row in batch.skipped])
        failed = [s for s in batch.skipped if not is_unreadable(s.reason)]
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
        self.begun = self._read_so_far(batches)
        begun = asdict(self.begun)
        progress = {
            "library": self.library,
            "begun": begun,
            "done": done,
            "held": [*self.held, begun] if done else self.held,
            "n_skipped": self._n_skipped,
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
        if self.n_failed:
            # None where it failed before an interruption.
            row, example = self.failure, ""
            if row is not None:
                example = f"; row {row.row}, {shortened(row.entry)}: {row.reason}"
            warnings.warn(
                f"X: {self.n_failed:,} of {self.readable.n_good:,} molecules cannot be "
                f"embedded and are left out, see skipped_{example}.",
                LibraryWarning,
                stacklevel=2,
            )

    def _read_so_far(self, batches: list[EmbeddedRows]) -> Library:
        """Return the library with these batches behind what was written."""
        digest, head = self.begun.digest, self.begun.head
        for batch in batches:
            digest = (digest + batch.digest) % (1 << 64)
            head = head or [batch.first_row + batch.n_rows, digest]
        readable = self.readable
        return replace(
            self.begun,
            n_rows=self.next_row,
            digest=digest,
            head=head,
            counts={
                "n_rows": readable.n_rows,
                "n_missing": readable.n_missing,
                "n_invalid": readable.n_invalid,
                "n_failed": self.n_failed,
            },
        )

    def _storable(self, batch: EmbeddedRows) -> EmbeddedRows:
        """Leave out what is so long that it would hinder all comparisons."""
        n_components = self.store.n_components
        if len(batch.rows) and batch.vectors.shape[1:] != (n_components,):
            raise ValueError(
                f"estimator must embed all molecules in {n_components:,} components. "
                f"Got {batch.vectors.shape[1:]} for rows from {batch.first_row} on."
            )
        if not len(batch.rows):
            return batch
        with np.errstate(over="ignore", invalid="ignore"):
            stored = self.store.to_stored(batch.vectors)
            longest = np.linalg.norm(stored.astype(np.float64), axis=1)
        good = longest <= LONGEST_VECTOR  # which NaN is not
        if self.store.dtype == "float16":
            good &= np.abs(stored).max(axis=1) <= _LARGEST_FLOAT16
        if good.all():
            return batch
        left_out = [
            Skipped(int(batch.rows[i]), batch.texts[i], _TOO_LONG)
            for i in np.flatnonzero(~good).tolist()
        ]
        skipped = sorted(batch.skipped + left_out, key=lambda row: row.row)
        return replace(_taken(batch, good), skipped=skipped)

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


def add_library(
    store: VectorStore,
    estimator,
    source: Source,
    *,
    unique_by: str | None = "drug",
    batch_size: int = 4096,
    n_jobs: int | None = None,
    on_bad_smiles: str = "drop",
    progress: bool | str = "auto",
) -> None:
    """Embed the rows of `source` that are not in `store`, and append them.

    The store is held for writing until the end. What is done is kept when it is
    interrupted or killed, and the store's progress says where to go on. The other
    parameters are those of ``MoleculeIndex``. A library of which no row can be used is
    an error, see :class:`SegmentWriter`.
    """
    with store.writing():
        beginning = None
        if not check_unfinished(store, source):
            beginning, is_all = beginning_of(store, source)
            if beginning is not None:
                warn_of_known(store, beginning, is_all)
            if is_all:
                return
        writer = SegmentWriter(store, source, unique_by, beginning)
        batches = embed_library(
            estimator,
            source,
            start=writer.next_row,
            batch_size=batch_size,
            n_jobs=n_jobs,
            unique_by=unique_by,
        )
        with (
            closing(batches),
            progress_bar(
                shown=progress,
                total=source.n_rows,
                initial=writer.next_row,
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
    invalid = [(s.row, s.entry) for s in skipped if is_unreadable(s.reason)]
    if invalid:
        rows, entries = zip(*invalid, strict=True)
        raise InvalidSmilesError(rows, entries)
    if skipped:
        shown = first_few(
            skipped, write=lambda s: f"row {s.row}, {s.entry!r}: {s.reason}"
        )
        raise ValueError(f"{len(skipped)} rows of X cannot be embedded: {shown}.")
