"""VectorStore: vectors of molecules with their texts, in memory or in a folder."""

import errno
import json
import os
import sqlite3
import threading
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sklearn_molge._files.replacing import is_draft, replace_bytes
from sklearn_molge._utils.messages import first_few
from sklearn_molge.library._vectors import StoredVectors

__all__ = ["STORED_METRICS", "Skipped", "VectorStore"]

STORED_METRICS = ("correlation", "cosine", "dot", "euclidean")
DATABASE, VECTORS = "index.sqlite", "vectors.bin"


class Skipped(NamedTuple):
    """A row of a library that is not in the index."""

    row: int
    entry: object
    reason: str
    same_as: int | None = None
    """The row of the index that is the same molecule."""


_APPLICATION = 0x6D6F6C67  # "molg": tells this database from other programs'
# 1 had a manifest in JSON and a file a column; 2 knew no rows of libraries.
_VERSION = 3
_WAIT = 60.0  # seconds for a commit to end, or for readers to let one begin
_CACHE_KIB = 262_144  # at most; adding ids touches pages everywhere in their index

# An id that is the text itself is not stored with the molecule. `further` is a list in
# JSON, the values of the library's further columns, which the state names. `ids` is in
# the order of the texts, so that adding a sorted batch goes through it once. Rows of
# `removed` and `skipped` are numbered by SQLite: a reader looks no further than when it
# opened.
_SCHEMA = """
CREATE TABLE settings (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE molecules (
    row INTEGER PRIMARY KEY, smiles TEXT NOT NULL, name TEXT NOT NULL, id TEXT,
    library INTEGER NOT NULL, library_row INTEGER NOT NULL, further TEXT
);
CREATE TABLE ids (
    id TEXT, row INTEGER, PRIMARY KEY (id, row)
) WITHOUT ROWID;
CREATE TABLE removed (row INTEGER NOT NULL);
CREATE TABLE skipped (
    library INTEGER NOT NULL, library_row INTEGER NOT NULL, entry TEXT NOT NULL,
    reason TEXT NOT NULL, same_as INTEGER
);
CREATE TABLE background (profile BLOB NOT NULL);
CREATE TABLE training (smiles TEXT NOT NULL, drug TEXT NOT NULL, bits BLOB NOT NULL);
"""


class _State(NamedTuple):
    """What counts; replaced with every commit."""

    n_rows: int = 0
    n_removed: int = 0
    n_skipped: int = 0
    largest_norm: float = 0.0
    progress: dict | None = None
    columns: dict[str, list[str]] = {}
    last_write: str = ""


class VectorStore:
    """Rows that are appended, never changed, and marked when they are removed.

    Made by :meth:`create` or :meth:`open`. A folder holds a database of SQLite with
    all but the vectors, which lie in a file that only grows. Vectors are written and
    synced first; then a transaction commits the texts and how many rows count, so a
    kill at any moment leaves the index as it was before. Any number of processes may
    read, also while one writes; they see the rows of the moment at which they opened
    it. One may write at a time, and is told if another did.

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
    """

    def __init__(
        self,
        folder: Path | None,
        settings: dict[str, str],
        connection: sqlite3.Connection | None = None,
    ):
        made = json.loads(settings["made"])
        self.folder = folder
        self.key: str = made["key"]
        self.n_components: int = made["n_components"]
        self.dtype: str = made["dtype"]
        self.metric: str = made["metric"]
        self.identity: dict = made["identity"]
        path = None if folder is None else folder / VECTORS
        self._vectors = StoredVectors(path, self.n_components, self.dtype, self.metric)
        self._connection = connection
        self._lock = threading.RLock()  # of threads that share the connection
        self._write_lock = threading.Lock()  # held by the thread that writes
        self._writer: tuple[int, int] | None = None  # which that is, its connection
        self._writes_by: sqlite3.Connection | None = None
        self._take(_State(**json.loads(settings["state"])))
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
            If `folder` holds anything.
        """
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
        }
        if folder is None:
            connection = _connect(":memory:")
            _write_schema(connection, settings)
            return cls(None, settings, connection)
        folder = Path(folder).absolute()
        _refuse_used(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # By way of memory: SQLite's locks and that of the draft could meet over NFS.
        with closing(_connect(":memory:")) as connection:
            _write_schema(connection, settings)
            replace_bytes(folder / DATABASE, connection.serialize())
        return cls(folder, settings)

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "VectorStore":
        """Open a folder; no molecule is read.

        Raises
        ------
        FileNotFoundError, ValueError
            If it is not the folder of an index, or one of its files is missing, cut
            or damaged.
        """
        folder = Path(folder).absolute()
        path = folder / DATABASE
        if not path.is_file():
            _refuse_earlier(folder)
            raise FileNotFoundError(
                f"{folder} is not the folder of a MoleculeIndex: it has no {DATABASE}."
            )
        with _named_errors(folder), closing(_connect(path)) as connection:
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if application != _APPLICATION:
                raise ValueError(f"{path} is not the database of a MoleculeIndex.")
            _check_version(version, str(path))
            settings = dict(connection.execute("SELECT name, value FROM settings"))
        try:
            return cls(folder, settings)
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{path} is damaged: its settings lack {error}."
            ) from error

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
        with self._connected() as connection:
            removed = connection.execute(
                "SELECT row FROM removed WHERE rowid <= ?", (state.n_removed,)
            ).fetchall()
        active = np.ones(state.n_rows, dtype=bool)
        active[np.array(removed, dtype=np.intp)[:, 0]] = False
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
    def _new_connection(self) -> Iterator[sqlite3.Connection]:
        assert self.folder is not None
        with (
            _named_errors(self.folder),
            closing(_connect(self.folder / DATABASE)) as connection,
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
            with nullcontext(kept) if kept else self._new_connection() as connection:
                with self._lock:
                    self._begin(connection)
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
        connection.execute("PRAGMA busy_timeout = 0")  # who writes holds it for long
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"PRAGMA busy_timeout = {int(1000 * _WAIT)}")
        (state,) = connection.execute(
            "SELECT value FROM settings WHERE name = 'state'"
        ).fetchone()
        last_write = json.loads(state)["last_write"]
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
                connection.execute(
                    "UPDATE settings SET value = ? WHERE name = 'state'",
                    (json.dumps(state._asdict()),),
                )
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._begin(connection, state)
                raise
            self._begin(connection, state)

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
        keys = _bindable(told_by)
        own_ids = [None] * len(keys) if ids is None else keys
        by_id = sorted(range(len(keys)), key=told_by.__getitem__)
        progress = self.progress if progress is None else progress
        library = (progress or {}).get("library", 0)
        places = rows if library_rows is None else library_rows
        named = self._state.columns
        if columns:
            named = {**named, str(library): list(columns)}
            values = zip(*(c.tolist() for c in columns.values()), strict=True)
            further: list = [json.dumps(row) for row in values]
        else:
            further = [None] * len(keys)
        with self._transaction(
            n_rows=rows.stop,
            n_skipped=self._state.n_skipped + len(skipped),
            largest_norm=max(largest, self.largest_norm),
            progress=progress,
            columns=named,
        ) as connection:
            connection.executemany(
                f"INSERT INTO molecules VALUES (?, ?, ?, ?, {library}, ?, ?)",
                zip(
                    rows,
                    _bindable(smiles),
                    _bindable(names),
                    own_ids,
                    places,
                    further,
                    strict=True,
                ),
            )
            connection.executemany(
                "INSERT INTO ids VALUES (?, ?)", ((keys[i], first + i) for i in by_id)
            )
            connection.executemany(
                f"INSERT INTO skipped VALUES ({library}, ?, ?, ?, ?)",
                [(s.row, _bound(str(s.entry)), s.reason, s.same_as) for s in skipped],
            )
            if len(records):
                self._vectors.write(records, first)

    def forget_library(self, n_skipped: int, progress: dict | None) -> None:
        """Take back the skipped rows of a library of which nothing else is here."""
        with self._transaction(n_skipped=n_skipped, progress=progress) as db:
            db.execute("DELETE FROM skipped WHERE rowid > ?", (n_skipped,))

    def remove(self, rows: NDArray[np.intp]) -> None:
        """Mark rows as removed; their numbers stay taken."""
        rows = np.unique(rows)
        if self.active is not None:
            rows = rows[self.active[rows]]
        if not rows.size:
            return
        with self._transaction(n_removed=self._state.n_removed + rows.size) as db:
            db.executemany(
                "INSERT INTO removed VALUES (?)", ((row,) for row in rows.tolist())
            )

    def write_background(
        self,
        profiles: NDArray[np.float32] | None,
        smiles: Sequence[str],
        drugs: Sequence[str],
        bits: NDArray[np.uint64],
    ) -> None:
        """Put profiles and training molecules in the place of those that were there."""
        vectors = () if profiles is None else np.asarray(profiles, dtype="<f4")
        with self._transaction() as db:
            db.execute("DELETE FROM background")
            db.execute("DELETE FROM training")
            db.executemany(
                "INSERT INTO background VALUES (?)",
                ((vector.tobytes(),) for vector in vectors),
            )
            packed = (row.tobytes() for row in bits.astype("<u8"))
            db.executemany(
                "INSERT INTO training VALUES (?, ?, ?)",
                zip(_bindable(smiles), _bindable(drugs), packed, strict=True),
            )

    # Reading

    def to_stored(self, vectors: NDArray) -> NDArray[np.float32]:
        """Take vectors, as embedded, to where inner products with rows are taken."""
        return self._vectors.to_stored(vectors)

    def stored(
        self, rows: slice | NDArray[np.intp], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return rows in the space of :meth:`to_stored`, as they lie or in `out`."""
        return self._vectors.read(self.n_rows, rows, out)

    def norms(self, rows: slice) -> NDArray[np.float32] | None:
        """Return the squared lengths of rows, which "euclidean" needs."""
        return self._vectors.norms(self.n_rows, rows)

    def molecules(self, rows: NDArray[np.intp]) -> list[NDArray]:
        """Return SMILES, names and ids of rows, and the libraries' numbers and rows.

        No others are read.
        """
        distinct, places = np.unique(rows, return_inverse=True)
        with self._connected() as connection:
            found = connection.execute(
                "SELECT smiles, name, coalesce(m.id, smiles), library, library_row "
                "FROM json_each(?) AS a "
                "CROSS JOIN molecules AS m ON row = value ORDER BY a.key",
                (json.dumps(distinct.tolist()),),
            ).fetchall()
        if len(found) != len(distinct):
            raise ValueError(
                f"{self.folder and self.folder / DATABASE} is damaged: it has "
                f"{len(found)} of {len(distinct)} rows."
            )
        columns = list(zip(*found, strict=True)) or [(), (), (), (), ()]
        arrays: list[NDArray] = [
            *(_as_array(column) for column in columns[:3]),
            *(np.array(column, dtype=np.int64) for column in columns[3:]),
        ]
        return [array[places.reshape(-1)] for array in arrays]

    def further_columns(self, rows: NDArray[np.intp]) -> dict[str, NDArray[np.object_]]:
        """Return the further columns of the libraries, by name; None where it has none.

        Those of all libraries from which rows come, in the order of the libraries.
        """
        if not self._state.columns:
            return {}
        distinct, places = np.unique(rows, return_inverse=True)
        with self._connected() as connection:
            found = connection.execute(
                "SELECT library, further FROM json_each(?) AS a "
                "CROSS JOIN molecules AS m ON row = value ORDER BY a.key",
                (json.dumps(distinct.tolist()),),
            ).fetchall()
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
        with self._connected() as connection:
            connection.execute(
                "CREATE TEMP TABLE IF NOT EXISTS asked (place INTEGER PRIMARY KEY, id)"
            )
            connection.executemany(
                "INSERT INTO asked VALUES (?, ?)", enumerate(_bindable(ids))
            )
            found = connection.execute(
                "SELECT place, row FROM asked CROSS JOIN ids USING (id)"
            ).fetchall()
            connection.execute("DELETE FROM asked")
        places, rows = np.array(found, dtype=np.intp).reshape(-1, 2).T
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
        with self._connected() as connection:
            found = connection.execute(
                "SELECT library, library_row, entry, reason, same_as FROM skipped "
                "WHERE rowid <= ? ORDER BY rowid",
                (self._state.n_skipped,),
            ).fetchall()
        return [
            (library, row, _text(entry), reason, same_as)
            for library, row, entry, reason, same_as in found
        ]

    def read_background(
        self,
    ) -> tuple[
        NDArray[np.float32] | None,
        NDArray[np.object_],
        NDArray[np.object_],
        NDArray[np.uint64],
    ]:
        """Return what :meth:`write_background` wrote; without profiles, None."""
        with self._connected() as connection:
            profiles = connection.execute(
                "SELECT profile FROM background ORDER BY rowid"
            ).fetchall()
            training = connection.execute(
                "SELECT smiles, drug, bits FROM training ORDER BY rowid"
            ).fetchall()
        smiles, drugs, bits = zip(*training, strict=True) if training else ((), (), ())
        vectors = np.frombuffer(b"".join(row for (row,) in profiles), dtype="<f4")
        packed = np.frombuffer(b"".join(bits), dtype="<u8")
        return (
            vectors.reshape(-1, self.n_components) if profiles else None,
            _as_array(smiles),
            _as_array(drugs),
            packed.reshape(len(bits), -1 if bits else 0),
        )

    def __getstate__(self) -> dict:
        """Hand on the path of a folder, or all of what is in memory."""
        if self.folder is not None:
            return {"folder": self.folder}
        assert self._connection is not None
        content = self._connection.serialize()
        return {"content": content, "records": self._vectors.view(self.n_rows).copy()}

    def __setstate__(self, state: dict) -> None:
        if "folder" in state:
            self.__dict__.update(vars(VectorStore.open(state["folder"])))
            return
        connection = _connect(":memory:")
        with closing(sqlite3.connect(":memory:")) as received:
            received.deserialize(state["content"])
            received.backup(connection)  # one that may grow without a limit
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        _check_version(version, "What was pickled")
        settings = dict(connection.execute("SELECT name, value FROM settings"))
        self.__init__(None, settings, connection)  # type: ignore[misc]
        self._vectors.write(state["records"], 0)

    def __del__(self) -> None:
        # Python warns of a connection that nobody closes.
        if getattr(self, "folder", True) is None and self._connection is not None:
            self._connection.close()


def _this_thread() -> tuple[int, int]:
    """Tell this thread from all others, those of a forked process as well."""
    return os.getpid(), threading.get_ident()


def _connect(path: Path | str) -> sqlite3.Connection:
    """Connect to a database that is there, or make one in memory.

    Rollback journal, not WAL: that needs memory shared by all readers, which network
    file systems lack, and files beside the database, which a folder opened for reading
    cannot have. "EXTRA" syncs the folder, too: what was committed outlives a power cut.
    """
    target = path if isinstance(path, str) else f"{path.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        target, timeout=_WAIT, isolation_level=None, check_same_thread=False, uri=True
    )
    connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _write_schema(connection: sqlite3.Connection, settings: dict[str, str]) -> None:
    connection.executescript(_SCHEMA)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")
    connection.executemany("INSERT INTO settings VALUES (?, ?)", settings.items())


@contextmanager
def _named_errors(folder: Path) -> Iterator[None]:
    """Say what an error of SQLite means, and in which file."""
    path = folder / DATABASE
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_BUSY:
            raise BlockingIOError(f"Another process is writing to {folder}.") from error
        if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
            raise PermissionError(f"{path} cannot be written to: {error}.") from error
        if code == sqlite3.SQLITE_FULL:
            raise OSError(errno.ENOSPC, str(error), str(path)) from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise ValueError(f"{path} is damaged: {error}.") from error
        raise


def _check_version(version: int, where: str) -> None:
    if version != _VERSION:
        older = "an earlier" if version < _VERSION else "a later"
        raise ValueError(
            f"{where} is of version {version}, written by {older} release of "
            f"sklearn_molge; this one reads version {_VERSION}. Fit the library again, "
            "in another folder."
        )


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


# Halves of surrogate pairs are text in Python, though not in SQLite: bytes are, then.


def _bindable(texts: Iterable[str]) -> list:
    listed = list(texts)
    try:
        "".join(listed).encode()
    except UnicodeEncodeError:
        return [_bound(text) for text in listed]
    return listed


def _bound(text: str) -> str | bytes:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")
    return text


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogatepass")


def _as_array(texts: Sequence[str | bytes]) -> NDArray[np.object_]:
    out = np.empty(len(texts), dtype=object)
    out[:] = texts
    for i in [i for i, text in enumerate(texts) if type(text) is bytes]:
        out[i] = _text(texts[i])
    return out
