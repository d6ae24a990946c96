"""VectorStore: vectors of molecules with their texts, in memory or in a folder."""

import json
import math
import os
import re
import sqlite3
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import is_draft, remove_drafts, replacing
from sklearn_molge._utils.messages import first_few, shortened
from sklearn_molge.library._database import (
    DATABASE,
    as_array,
    begin_database,
    begin_writing,
    bindable,
    check_database,
    check_version,
    connect,
    count_rows,
    damaged,
    digest_rows,
    named_errors,
    read_settings,
    setting_seal,
    snapshot,
)
from sklearn_molge.library._vectors import StoredVectors

__all__ = ["STORED_METRICS", "Skipped", "VectorStore"]

STORED_METRICS = ("correlation", "cosine", "dot", "euclidean")
_STORED_DTYPES = ("float32", "float16", "int8")
VECTORS = "vectors.bin"
# Joint spaces have at most some thousands; the probes of so many fit into one text.
_MOST_COMPONENTS = 1 << 17
_MOST_ROWS = 1 << 48  # more bytes than a file can have
_ASKED = 65_536  # rows that are looked up at a time


class Skipped(NamedTuple):
    """A row of a library that is not in the index."""

    row: int
    entry: object
    reason: str
    same_as: int | None = None
    """The row of the index that is the same molecule."""


# What a database says is believed once it is of the right type and a value that can be.


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value < _MOST_ROWS


def _are_columns(value: object) -> bool:
    return isinstance(value, dict) and all(
        isinstance(names, list) and all(isinstance(name, str) for name in names)
        for names in value.values()
    )


_Checks = dict[str, Callable[[Any], bool]]
_MADE: _Checks = {
    "key": lambda v: isinstance(v, str) and re.fullmatch("[0-9a-f]{32}", v) is not None,
    "n_components": lambda v: type(v) is int and 1 <= v <= _MOST_COMPONENTS,
    "dtype": lambda v: v in _STORED_DTYPES,
    "metric": lambda v: v in STORED_METRICS,
    "identity": lambda v: isinstance(v, dict),
}
_STATE: _Checks = {
    "n_rows": _is_count,
    "n_removed": _is_count,
    "n_skipped": _is_count,
    "largest_norm": lambda v: isinstance(v, float) and 0 <= v < math.inf,
    "progress": lambda v: v is None or isinstance(v, dict),
    "columns": _are_columns,
    "last_write": lambda v: isinstance(v, str),
}


def _checked(text: str, checks: _Checks) -> dict:
    """Read settings in JSON.

    Raises
    ------
    ValueError
        If one is missing, or no allowed value.
    """
    values = json.loads(text)
    if not isinstance(values, dict) or values.keys() != checks.keys():
        raise ValueError(f"{shortened(values)} are not {list(checks)}")
    for name, is_allowed in checks.items():
        if not is_allowed(values[name]):
            raise ValueError(f"{name} cannot be {shortened(values[name])}")
    return values


class _State(NamedTuple):
    """What counts; replaced with every commit."""

    n_rows: int = 0
    n_removed: int = 0
    n_skipped: int = 0
    largest_norm: float = 0.0
    progress: dict | None = None
    columns: dict[str, list[str]] = {}
    last_write: str = ""

    @classmethod
    def read(cls, text: str) -> "_State":
        state = cls(**_checked(text, _STATE))
        if state.n_removed > state.n_rows:
            raise ValueError(f"{state.n_removed} of {state.n_rows} rows are removed")
        return state


class VectorStore:
    """Rows that are appended, never changed, and marked when they are removed.

    Made by :meth:`create` or :meth:`open`. A folder holds a database of SQLite with
    all but the vectors, which lie in a file that only grows. Vectors are written and
    synced first; then a transaction commits the texts and how many rows count, so a
    kill at any moment leaves the index as it was before. Any number of processes may
    read, also while one writes; they see the rows of the moment at which they opened
    it. One may write at a time, and is told if another did.

    All that is stored has a checksum. Those of settings, of removed rows and of the
    background are compared whenever these are read, the others, which would cost a
    reading of everything, by :meth:`verify`.

    Between calls no connection to a file is kept, so that threads, forks and pickles
    share none; a store in memory keeps its own.

    Attributes
    ----------
    folder : Path or None
    n_components : int
    dtype : {"float32", "float16", "int8"}
    metric : {"correlation", "cosine", "dot", "euclidean"}
    identity : dict
        What the embedder is.
    key : str
        Tells this store from all others, whatever is appended to it.
    trust : bool
        Whether files in the folder are opened that another installation wrote.
    """

    def __init__(
        self,
        folder: Path | None,
        settings: dict[str, str],
        connection: sqlite3.Connection | None = None,
    ):
        self.folder = folder
        with self._reading("table settings"):
            made = _checked(settings["made"], _MADE)
            state = _State.read(settings["state"])
        self.key: str = made["key"]
        self.n_components: int = made["n_components"]
        self.dtype: str = made["dtype"]
        self.metric: str = made["metric"]
        self.identity: dict = made["identity"]
        self.trust = False
        self._seal = setting_seal(settings["made"])
        path = None if folder is None else folder / VECTORS
        self._vectors = StoredVectors(path, self.n_components, self.dtype, self.metric)
        self._connection = connection
        self._lock = threading.RLock()  # of threads that share the connection
        self._write_lock = threading.Lock()  # held by the thread that writes
        self._writer: tuple[int, int] | None = None  # which that is, its connection
        self._writes_by: sqlite3.Connection | None = None
        self._take(state)
        self._vectors.check_size(self.n_rows)

    @classmethod
    def create(
        cls,
        folder: Path | None,
        *,
        n_components: int,
        dtype: str,
        metric: str,
        identity: dict,
    ) -> "VectorStore":
        """Make an empty store, in memory or in a new folder.

        Raises
        ------
        FileExistsError
            If `folder` holds anything, or another process begins an index there.
        ValueError
            If `n_components` are too many.
        """
        if n_components > _MOST_COMPONENTS:
            raise ValueError(
                "estimator: the joint space of an index has at most "
                f"{_MOST_COMPONENTS:,} components. Got {n_components:,}."
            )
        made = {
            "key": uuid.uuid4().hex,
            "n_components": n_components,
            "dtype": dtype,
            "metric": metric,
            "identity": identity,
        }
        settings = {
            "made": json.dumps(made),
            "state": json.dumps(_State(last_write=uuid.uuid4().hex)._asdict()),
            "background": digest_rows([], [], []),
        }
        if folder is None:
            connection = connect(":memory:")
            begin_database(connection, settings)
            return cls(None, settings, connection)
        folder = Path(folder).absolute()
        _refuse_used(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # By way of memory: SQLite's locks and that of the draft could meet over NFS.
        with closing(connect(":memory:", write=True)) as connection:
            begin_database(connection, settings)
            content = connection.serialize()
        with replacing(folder / DATABASE) as draft:
            draft.write_bytes(content)
            _claim(folder, draft)
        return cls(folder, settings)

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "VectorStore":
        """Open a folder; no molecule is read.

        Raises
        ------
        FileNotFoundError
            If it is not the folder of an index, or one of its files is missing.
        CorruptFileError
            If one is cut or damaged.
        ValueError
            If another release wrote it.
        """
        folder = Path(folder).absolute()
        path = folder / DATABASE
        if not path.is_file():
            _refuse_earlier(folder)
            raise FileNotFoundError(
                f"{folder} is not the folder of a MoleculeIndex: it has no {DATABASE}."
            )
        with named_errors(path), closing(connect(path)) as connection:
            check_database(connection, path)
            with snapshot(connection), reading(path, "table settings"):
                settings = read_settings(connection)
                counts = count_rows(connection)
        store = cls(folder, settings)
        store._check_counts(*counts)
        return store

    @property
    def path(self) -> Path | str:
        """The database, for messages."""
        return "the index" if self.folder is None else self.folder / DATABASE

    def _reading(self, part: str):
        return reading(self.path, part)

    def _damaged(self, part: str, why: str) -> Exception:
        return damaged(self.path, part, why)

    def _check_counts(self, *found: int) -> None:
        """Compare the numbers of rows in the database with those that count."""
        state = self._state
        expected = state.n_rows, state.n_removed, state.n_skipped
        for name, n, count in zip(_COUNTED, found, expected, strict=True):
            if n != count:
                raise self._damaged(f"table {name}", f"it has {n} of {count:,} rows")

    def _take(self, state: _State) -> None:
        self._state = state
        self._active: tuple[_State, NDArray[np.bool_]] | None = None

    @property
    def n_rows(self) -> int:
        return self._state.n_rows

    @property
    def n_active(self) -> int:
        return self._state.n_rows - self._state.n_removed

    @property
    def largest_norm(self) -> float:
        """Of all rows as they are stored, removed ones included."""
        return self._state.largest_norm

    @property
    def progress(self) -> dict | None:
        """How far the last library was read."""
        return self._state.progress

    @property
    def nbytes(self) -> int:
        """Bytes of the vectors that count, and of the database."""
        with self._connected() as connection:
            (n_pages,) = connection.execute("PRAGMA page_count").fetchone()
            (page,) = connection.execute("PRAGMA page_size").fetchone()
        return self.n_rows * self._vectors.record.itemsize + n_pages * page

    @property
    def active(self) -> NDArray[np.bool_] | None:
        """Which rows are not removed; None where all are there."""
        state, kept = self._state, self._active  # another thread may write meanwhile
        if not state.n_removed:
            return None
        if kept is not None and kept[0] is state:
            return kept[1]
        part = "table removed"
        with self._connected() as connection, self._reading(part):
            found = connection.execute(
                "SELECT row FROM removed WHERE rowid <= ? ORDER BY rowid",
                (state.n_removed,),
            ).fetchall()
            self._check_segments(
                connection, "removed", state.n_removed, lambda a, b: found[a:b]
            )
            removed = np.array(found, dtype=np.intp).reshape(-1)
        if removed.min() < 0 or removed.max() >= state.n_rows:
            raise self._damaged(part, f"not all are below {state.n_rows:,}")
        active = np.ones(state.n_rows, dtype=bool)
        active[removed] = False
        if np.count_nonzero(~active) != len(removed):
            raise self._damaged(part, "a row comes twice")
        self._active = state, active
        return active

    # Connections

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """Yield the connection that is kept, or one for this block."""
        if self._writer == _this_thread() and self._writes_by is not None:
            with self._lock:
                yield self._writes_by
        elif self._connection is None:
            with self._new_connection() as connection:
                yield connection
        else:
            with self._lock:
                yield self._connection

    @contextmanager
    def _new_connection(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        assert self.folder is not None
        path = self.folder / DATABASE
        with (
            named_errors(path, write=write),
            closing(connect(path, write=write)) as connection,
        ):
            yield connection

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the store in this block: all others can read it, but not write.

        SQLite's lock is held between transactions as well; it goes with the process.
        Raises BlockingIOError where another process or thread is writing, ValueError
        where another process has written since the store was opened.
        """
        if self._writer == _this_thread():
            yield
            return
        if not self._write_lock.acquire(blocking=False):
            raise BlockingIOError(
                f"Another thread is writing to {self.folder or 'the index'}."
            )
        kept = self._connection
        try:
            with (
                nullcontext(kept)
                if kept
                else self._new_connection(write=True) as connection
            ):
                with self._lock:
                    self._begin(connection)
                if self.folder is not None:  # of a kill while the folder was claimed
                    remove_drafts(self.folder / DATABASE)
                self._writer, self._writes_by = _this_thread(), connection
                try:
                    yield
                finally:
                    self._writer = self._writes_by = None
                    with self._lock:
                        if connection.in_transaction:
                            connection.execute("ROLLBACK")
        finally:
            self._write_lock.release()

    def _begin(
        self, connection: sqlite3.Connection, committed: _State | None = None
    ) -> None:
        """Take the lock, where nobody has written but a commit here, interrupted."""
        begin_writing(connection)
        with self._reading("table settings"):
            last_write = _State.read(read_settings(connection)["state"]).last_write
        if committed is not None and last_write == committed.last_write:
            self._take(committed)
        if last_write != self._state.last_write:
            connection.execute("ROLLBACK")
            raise ValueError(
                f"{self.folder} was changed by another process since it was opened "
                "here. Open it again."
            )

    @contextmanager
    def _transaction(self, **changes) -> Iterator[sqlite3.Connection]:
        """Let what is written in the block, and changes of the state, count at once."""
        changes["last_write"] = uuid.uuid4().hex
        state = self._state._replace(**changes)
        with self.writing(), self._connected() as connection:
            try:
                yield connection
                self._write_setting(connection, "state", json.dumps(state._asdict()))
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._begin(connection, state)
                raise
            self._begin(connection, state)

    def _write_setting(self, db: sqlite3.Connection, name: str, value: str) -> None:
        row = value, self._seal(name, value), name
        db.execute("UPDATE settings SET value = ?, digest = ? WHERE name = ?", row)

    # Writing

    def append(
        self,
        vectors: NDArray,
        smiles: Sequence[str],
        names: Sequence[str],
        ids: Sequence[str] | None = None,
        *,
        library_rows: Sequence[int] | None = None,
        columns: dict[str, NDArray] | None = None,
        skipped: Sequence[Skipped] = (),
        progress: dict | None = None,
    ) -> None:
        """Add rows; in a folder they are durable when this returns, or not there.

        Vectors are as embedded. Molecules are told apart and found by `ids`, or where
        that is None by their SMILES. `library_rows` are their rows in the library, by
        default those of the store, `columns` its further columns; `skipped` are rows of
        it that are not in the store.
        `progress`, with the number of the "library", takes the place of the store's,
        unless it is None.
        """
        records, largest = self._vectors.encode(vectors)
        first = self.n_rows
        rows = range(first, first + len(records))
        told_by = smiles if ids is None else ids
        keys = bindable(told_by)
        n = len(keys)
        own_ids = [None] * n if ids is None else keys
        by_id = sorted(range(n), key=told_by.__getitem__)
        progress = self.progress if progress is None else progress
        library = (progress or {}).get("library", 0)
        places = rows if library_rows is None else library_rows
        named = self._state.columns
        if columns:
            named = {**named, str(library): list(columns)}
            values = zip(*(c.tolist() for c in columns.values()), strict=True)
            further: list = bindable(json.dumps(row) for row in values)
        else:
            further = [None] * n
        texts = bindable(smiles), bindable(names), own_ids
        molecules = list(zip(rows, *texts, [library] * n, places, further, strict=True))
        left_out = [(library, *row) for row in _bound_skipped(skipped)]
        n_skipped = self._state.n_skipped
        with self._transaction(
            n_rows=rows.stop,
            n_skipped=n_skipped + len(left_out),
            largest_norm=max(largest, self.largest_norm),
            progress=progress,
            columns=named,
        ) as db:
            db.executemany(
                "INSERT INTO molecules VALUES (?, ?, ?, ?, ?, ?, ?)", molecules
            )
            db.executemany(
                "INSERT INTO ids VALUES (?, ?)", ((keys[i], first + i) for i in by_id)
            )
            db.executemany("INSERT INTO skipped VALUES (?, ?, ?, ?, ?)", left_out)
            _add_segment(db, "molecules", first, n, digest_rows(molecules))
            _add_segment(db, "vectors", first, n, self._vectors.digest_of(records))
            _add_segment(db, "skipped", n_skipped, len(left_out), digest_rows(left_out))
            if len(records):
                self._vectors.write(records, first)

    def forget_library(self, n_skipped: int, progress: dict | None) -> None:
        """Take back the skipped rows of a library of which nothing else is here."""
        with self._transaction(n_skipped=n_skipped, progress=progress) as db:
            db.execute("DELETE FROM skipped WHERE rowid > ?", (n_skipped,))
            db.execute(
                "DELETE FROM segments WHERE part = 'skipped' AND stop > ?", (n_skipped,)
            )
            (first,) = db.execute(
                "SELECT coalesce(max(stop), 0) FROM segments WHERE part = 'skipped'"
            ).fetchone()
            left = _skipped_rows(db, first, n_skipped)
            _add_segment(db, "skipped", first, len(left), digest_rows(left))

    def remove(self, rows: NDArray[np.intp]) -> None:
        """Mark rows as removed; their numbers stay taken."""
        rows = np.unique(rows)
        if self.active is not None:
            rows = rows[self.active[rows]]
        if not rows.size:
            return
        first, marks = self._state.n_removed, [(row,) for row in rows.tolist()]
        with self._transaction(n_removed=first + len(marks)) as db:
            db.executemany("INSERT INTO removed VALUES (?)", marks)
            _add_segment(db, "removed", first, len(marks), digest_rows(marks))

    def write_background(
        self,
        profiles: NDArray[np.float32] | None,
        smiles: Sequence[str],
        drugs: Sequence[str],
        bits: NDArray[np.uint64],
    ) -> None:
        """Put profiles and training molecules in the place of those that were there."""
        vectors = () if profiles is None else np.asarray(profiles, dtype="<f4")
        blobs = [vector.tobytes() for vector in vectors]
        packed = [row.tobytes() for row in bits.astype("<u8")]
        texts = list(zip(bindable(smiles), bindable(drugs), strict=True))
        with self._transaction() as db:
            db.execute("DELETE FROM background")
            db.execute("DELETE FROM training")
            db.executemany(
                "INSERT INTO background VALUES (?)", ((blob,) for blob in blobs)
            )
            db.executemany(
                "INSERT INTO training VALUES (?, ?, ?)",
                ((*row, own) for row, own in zip(texts, packed, strict=True)),
            )
            self._write_setting(db, "background", digest_rows(texts, blobs, packed))

    # Reading

    def to_stored(self, vectors: NDArray) -> NDArray[np.float32]:
        """Take vectors, as embedded, to where inner products with rows are taken."""
        return self._vectors.to_stored(vectors)

    def stored(
        self,
        rows: slice | NDArray[np.intp],
        out: NDArray[np.float32] | None = None,
        *,
        scaled: bool = True,
    ) -> NDArray[np.float32]:
        """Return rows in the space of :meth:`to_stored`, as they lie or in `out`.

        Those of int8 not `scaled` are still to be multiplied by their :meth:`scales`.
        """
        return self._vectors.read(self.n_rows, rows, out, scaled=scaled)

    def check_vectors(
        self, are_good: NDArray[np.bool_], rows: int | NDArray[np.intp]
    ) -> None:
        """Refuse rows whose vectors cannot be those that were written.

        `rows` tells which they are, or the first of them.

        Raises
        ------
        CorruptFileError
        """
        if are_good.all():
            return
        at = int(np.flatnonzero(~are_good)[0])
        row = rows + at if isinstance(rows, int) else rows[at]
        why = "its values are not finite, or too large"
        raise damaged(self._vectors.path or self.path, f"row {row:,}", why)

    def scales(self, rows: slice) -> NDArray[np.float32]:
        """Return what one step of each int8 row is worth."""
        return self._vectors.scales(self.n_rows, rows)

    def norms(self, rows: slice) -> NDArray[np.float32] | None:
        """Return the squared lengths of rows, which "euclidean" needs."""
        return self._vectors.norms(self.n_rows, rows)

    def molecules(self, rows: NDArray[np.intp]) -> list[NDArray]:
        """Return SMILES, names and ids of rows, and the libraries' numbers and rows.

        No others are read.
        """
        distinct, places = np.unique(rows, return_inverse=True)
        found = self._looked_up(
            "smiles, name, coalesce(m.id, smiles), library, library_row", distinct
        )
        columns = list(zip(*found, strict=True)) or [(), (), (), (), ()]
        with self._reading("table molecules"):
            arrays = [as_array(column) for column in columns[:3]]
            numbers = [_as_numbers(column) for column in columns[3:]]
        return [array[places.reshape(-1)] for array in (*arrays, *numbers)]

    def _looked_up(self, columns: str, rows: NDArray[np.intp]) -> list[tuple]:
        """Return columns of distinct rows of the table of molecules, in their order."""
        found: list[tuple] = []
        with self._connected() as connection:
            for first in range(0, len(rows), _ASKED):
                asked = json.dumps(rows[first : first + _ASKED].tolist())
                found += connection.execute(
                    f"SELECT {columns} FROM json_each(?) AS a "
                    "CROSS JOIN molecules AS m ON row = value ORDER BY a.key",
                    (asked,),
                )
        if len(found) != len(rows):
            why = f"it has {len(found):,} of {len(rows):,} rows"
            raise self._damaged("table molecules", why)
        return found

    def further_columns(self, rows: NDArray[np.intp]) -> dict[str, NDArray[np.object_]]:
        """Return the further columns of the libraries, by name; None where it has none.

        Those of all libraries from which rows come, in the order of the libraries.
        """
        if not self._state.columns:
            return {}
        distinct, places = np.unique(rows, return_inverse=True)
        found = self._looked_up("library, further", distinct)
        with self._reading("table molecules, column further"):
            libraries = sorted({library for library, _ in found})
            names = [n for i in libraries for n in self._state.columns.get(str(i), [])]
            columns = {name: np.full(len(found), None, object) for name in names}
            for i, (library, further) in enumerate(found):
                own = self._state.columns.get(str(library), [])
                for name, value in zip(own, json.loads(further or "[]"), strict=True):
                    columns[name][i] = value
        return {name: c[places.reshape(-1)] for name, c in columns.items()}

    def find(self, ids: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Find the rows of some ids that are not removed.

        Returns places in `ids`, and for each a row that has this id; sorted by place,
        then row.
        """
        if not self.n_rows:
            return np.empty(0, np.intp), np.empty(0, np.intp)
        with self._connected() as connection, self._reading("table ids"):
            connection.execute(
                "CREATE TEMP TABLE IF NOT EXISTS asked (place INTEGER PRIMARY KEY, id)"
            )
            connection.executemany(
                "INSERT INTO asked VALUES (?, ?)", enumerate(bindable(ids))
            )
            found = connection.execute(
                "SELECT place, ids.row, coalesce(m.id, m.smiles) = ids.id "
                "FROM asked CROSS JOIN ids USING (id) "
                "LEFT JOIN molecules AS m ON m.row = ids.row"
            ).fetchall()
            connection.execute("DELETE FROM asked")
        wrong = [row for _, row, is_its_own in found if not is_its_own]
        if wrong:
            raise self._damaged("table ids", f"{wrong[0]!r} is the row of another id")
        places, rows = np.array(found, dtype=np.intp).reshape(-1, 3)[:, :2].T
        there = rows < self.n_rows
        if self.active is not None:
            there[there] = self.active[rows[there]]
        places, rows = places[there], rows[there]
        order = np.lexsort((rows, places))
        return places[order], rows[order]

    @property
    def n_skipped(self) -> int:
        return self._state.n_skipped

    def skipped(self) -> list[tuple[int, int, str, str, int | None]]:
        """Return the rows of libraries that are not in the store.

        Each with the number of its library, its row there, the entry, the reason and
        the row of the store that is the same molecule.
        """
        n_skipped, part = self._state.n_skipped, "table skipped"
        with self._connected() as connection:
            found = _skipped_rows(connection, 0, n_skipped)
        if len(found) != n_skipped:
            raise self._damaged(part, f"it has {len(found):,} of {n_skipped:,} rows")
        if not found:
            return []
        libraries, rows, entries, reasons, same_as = zip(*found, strict=True)
        with self._reading(part):
            _as_numbers([*libraries, *rows, *(r for r in same_as if r is not None)])
            texts = as_array(entries), as_array(reasons)
        return list(zip(libraries, rows, *texts, same_as, strict=True))

    def read_background(
        self,
    ) -> tuple[
        NDArray[np.float32] | None,
        NDArray[np.object_],
        NDArray[np.object_],
        NDArray[np.uint64],
    ]:
        """Return what :meth:`write_background` wrote; without profiles, None."""
        part = "tables background and training"
        with (
            self._connected() as connection,
            snapshot(connection),
            self._reading(part),
        ):
            expected = read_settings(connection)["background"]
            profiles = connection.execute(
                "SELECT profile FROM background ORDER BY rowid"
            ).fetchall()
            training = connection.execute(
                "SELECT smiles, drug, bits FROM training ORDER BY rowid"
            ).fetchall()
            blobs, packed = [row for (row,) in profiles], [row[2] for row in training]
            if digest_rows([row[:2] for row in training], blobs, packed) != expected:
                raise self._damaged(
                    part, "they do not have the checksum of the settings"
                )
            smiles, drugs = as_array([r[0] for r in training]), [r[1] for r in training]
            vectors = np.frombuffer(b"".join(blobs), dtype="<f4")
            bits = np.frombuffer(b"".join(packed), dtype="<u8")
            if not np.isfinite(vectors).all():
                raise self._damaged(part, "profiles are not finite")
            return (
                vectors.reshape(len(blobs), -1) if blobs else None,
                smiles,
                as_array(drugs),
                bits.reshape(len(packed), -1 if packed else 0),
            )

    # Checksums

    def verify(self) -> dict[str, int]:
        """Compare all that is stored with the checksums that were written with it.

        This reads everything; another process that writes may have to wait for so long.

        Returns
        -------
        checked : dict of str to int
            What was compared, and how many rows of it.

        Raises
        ------
        CorruptFileError
            With the first part that is damaged.
        """
        state = self._state
        with self._connected() as db:
            (found,) = db.execute("PRAGMA integrity_check(1)").fetchone()
            if found != "ok":
                raise self._damaged("", str(found))
            self._verify_molecules(db)
            self._check_segments(
                db, "skipped", state.n_skipped, lambda a, b: _skipped_rows(db, a, b)
            )
            self._check_segments(db, "vectors", state.n_rows, None)
        active, (profiles, smiles, *_) = self.active, self.read_background()
        return {
            "molecules": state.n_rows,
            "vectors": state.n_rows,
            "skipped rows": state.n_skipped,
            "removed rows": 0 if active is None else int(np.count_nonzero(~active)),
            "profiles of the background": 0 if profiles is None else len(profiles),
            "molecules of the training set": len(smiles),
        }

    def _verify_molecules(self, db: sqlite3.Connection) -> None:
        """Compare molecules with their checksums, and their ids with those of `ids`."""
        there = asked = 0  # sums of hashes do not depend on an order

        def read(first: int, stop: int) -> Iterator[tuple]:
            nonlocal there
            for row in db.execute(
                "SELECT * FROM molecules WHERE row >= ? AND row < ? ORDER BY row",
                (first, stop),
            ):
                own = row[1] if row[3] is None else row[3]
                there += hash((row[0], own, type(own) is str))
                yield row

        self._check_segments(db, "molecules", self.n_rows, read)
        for own, row in db.execute(
            "SELECT id, row FROM ids WHERE row < ?", (self.n_rows,)
        ):
            asked += hash((row, own, type(own) is str))
        if there != asked:
            why = "its ids are not those of the molecules"
            raise self._damaged("table ids", why)

    def _check_segments(
        self,
        db: sqlite3.Connection,
        part: str,
        n: int,
        read: Callable[[int, int], Iterable[tuple]] | None,
    ) -> None:
        """Compare the rows of a part, up to `n`, with their checksums.

        `read` returns rows of a table; where it is None they are those of the file.
        """
        stop = 0
        segments = db.execute(
            "SELECT first, stop, digest FROM segments WHERE part = ? AND first < ? "
            "ORDER BY first",
            (part, n),
        ).fetchall()
        for first, end, digest in [*segments, (n, None, "")]:
            if first != stop:
                why = f"the checksums of {part} go from {stop:,} to {first!r}"
                raise self._damaged("table segments", f"{why}, of {n:,} rows")
            if end is None:
                return
            if type(end) is not int or not first < end <= n:
                raise self._damaged("table segments", f"{end!r} ends {part}")
            if read is None:
                found = self._vectors.digest(first, end)
                path, named = self._vectors.path or self.path, ""
            else:
                found = digest_rows(read(first, end))
                path, named = self.path, f"table {part}, "
            if found != digest:
                where = f"{named}rows {first:,} to {end - 1:,}"
                raise damaged(path, where, "their checksum is another")
            stop = end

    def __getstate__(self) -> dict:
        """Hand on the path of a folder, or all of what is in memory."""
        if self.folder is not None:
            return {"folder": self.folder, "trust": self.trust}
        assert self._connection is not None
        content = self._connection.serialize()
        return {"content": content, "records": self._vectors.view(self.n_rows).copy()}

    def __setstate__(self, state: dict) -> None:
        if "folder" in state:
            self.__dict__.update(vars(VectorStore.open(state["folder"])))
            self.trust = state["trust"]
            return
        connection = connect(":memory:")
        with closing(sqlite3.connect(":memory:")) as received:
            received.deserialize(state["content"])
            received.backup(connection)  # one that may grow without a limit
        check_version(connection, "What was pickled")
        self.__init__(None, read_settings(connection), connection)  # type: ignore[misc]
        self._vectors.write(state["records"], 0)

    def __del__(self) -> None:
        # Python warns of a connection that nobody closes.
        if getattr(self, "folder", True) is None and self._connection is not None:
            self._connection.close()


def _this_thread() -> tuple[int, int]:
    """Tell this thread from all others, those of a forked process as well."""
    return os.getpid(), threading.get_ident()


# The database


_COUNTED = ("molecules", "removed", "skipped")


def _add_segment(
    db: sqlite3.Connection, part: str, first: int, n: int, digest: str
) -> None:
    if n:
        row = part, first, first + n, digest
        db.execute("INSERT INTO segments VALUES (?, ?, ?, ?)", row)


def _skipped_rows(db: sqlite3.Connection, first: int, stop: int) -> list[tuple]:
    return db.execute(
        "SELECT library, library_row, entry, reason, same_as FROM skipped "
        "WHERE rowid > ? AND rowid <= ? ORDER BY rowid",
        (first, stop),
    ).fetchall()


def _bound_skipped(skipped: Sequence[Skipped]) -> list[tuple]:
    entries = bindable(str(row.entry) for row in skipped)
    reasons = bindable(row.reason for row in skipped)
    return [
        (row.row, entry, reason, row.same_as)
        for row, entry, reason in zip(skipped, entries, reasons, strict=True)
    ]


def _as_numbers(values: Sequence[object]) -> NDArray[np.int64]:
    bad = [value for value in values if type(value) is not int or value < 0]
    if bad:
        raise ValueError(f"{bad[0]!r} is not the number of a row or library")
    return np.array(values, dtype=np.int64)


# The folder


def _claim(folder: Path, draft: Path) -> None:
    """Give a draft its name as well, unless another process was first.

    Raises
    ------
    FileExistsError
        If it was.
    """
    path = folder / DATABASE
    try:
        os.link(draft, path)  # unlike a rename, it replaces nothing
    except OSError as error:
        if path.exists():
            raise FileExistsError(
                f"folder: another process has begun an index in {folder} at the same "
                "time. Wait until it has ended, or give another folder."
            ) from error
        # A file system without links: the rename that follows has to do.


def _refuse_earlier(folder: Path) -> None:
    if (folder / "manifest.json").is_file():
        raise ValueError(
            f"{folder} holds an index that was written by an earlier release of "
            "sklearn_molge, which this one does not read: fit it again, in another "
            "folder."
        )


def _refuse_used(folder: Path) -> None:
    """Raise where a folder holds anything but what a killed creation left."""
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"folder must be a folder. {folder} is a file.")
    _refuse_earlier(folder)
    entries = folder.iterdir() if folder.exists() else ()
    found = sorted(path.name for path in entries if not is_draft(path))
    if found:
        raise FileExistsError(
            f"folder must be a new or an empty folder. {folder} holds "
            f"{first_few(found, n=5)}."
        )
