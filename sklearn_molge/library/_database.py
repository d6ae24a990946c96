"""The database of an index: its tables, connections to it, and what its errors mean.

A folder may be damaged, or come from anybody. So nothing in a database is run: its
schema has to be ours to the letter, which has no views and no triggers. No text is read
that is longer than those that are written, and whatever SQLite makes of a damaged page
becomes a CorruptFileError.
"""

import errno
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cache
from hashlib import sha256
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sklearn_molge._utils.messages import shortened
from sklearn_molge.exceptions import CorruptFileError

__all__ = [
    "DATABASE",
    "as_array",
    "as_text",
    "begin_database",
    "begin_writing",
    "bindable",
    "check_database",
    "check_version",
    "connect",
    "count_rows",
    "damaged",
    "digest_rows",
    "named_errors",
    "read_settings",
    "setting_seal",
    "snapshot",
]

DATABASE = "index.sqlite"
_APPLICATION = 0x6D6F6C67  # "molg": tells this database from other programs'
# 1 had a manifest in JSON and a file a column; 2 knew no rows of libraries; 3 had no
# checksums.
_VERSION = 4
_WAIT = 60.0  # seconds for a commit to end, or for readers to let one begin
_CACHE_KIB = 262_144  # at most; adding ids touches pages everywhere in their index
# Characters of a text. The largest protein of PDB as SMILES has some 500,000; all genes
# of Ensembl in three namings, which are one text, 4 million.
_MOST_CHARACTERS = 1 << 24
_MOST_BYTES = 4 * _MOST_CHARACTERS + 1024  # of a row, in UTF-8
_DIGESTED = 4096  # rows at a time
_JOURNAL_MARK = bytes.fromhex("d9d505f920a163d7")

# An id that is the text itself is not stored with the molecule. `further` is a list in
# JSON, the values of the library's further columns, which the state names. `ids` is in
# the order of the texts, so that adding a sorted batch goes through it once. Rows of
# `removed` and `skipped` are numbered by SQLite: a reader looks no further than when it
# opened. `segments` has the checksums of what was added together: rows of a table, or
# of the file of vectors.
_SCHEMA = """
CREATE TABLE settings (
    name TEXT PRIMARY KEY, value TEXT NOT NULL, digest TEXT NOT NULL
) WITHOUT ROWID;
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
CREATE TABLE segments (
    part TEXT, first INTEGER, stop INTEGER NOT NULL, digest TEXT NOT NULL,
    PRIMARY KEY (part, first)
) WITHOUT ROWID;
"""


def connect(path: Path | str, *, write: bool = False) -> sqlite3.Connection:
    """Connect to a database that is there, or make one in memory.

    Rollback journal, not WAL: that needs memory shared by all readers, which network
    file systems lack, and files beside the database, which a folder opened for reading
    cannot have. "EXTRA" syncs the folder, too: what was committed outlives a power cut.

    Raises
    ------
    PermissionError
        If it is to be written to, and is a symbolic link.
    CorruptFileError
        If its journal is none of ours.
    """
    target = path if isinstance(path, str) else _target(path, write)
    connection = sqlite3.connect(
        target, timeout=_WAIT, isolation_level=None, check_same_thread=False, uri=True
    )
    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _MOST_BYTES)
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    connection.execute("PRAGMA mmap_size = 0")
    if write or isinstance(path, str):
        connection.execute("PRAGMA synchronous = EXTRA")
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    return connection


def _target(path: Path, write: bool) -> str:
    """Return the URI; one opened for reading is written to by no statement."""
    is_link = path.is_symlink()
    if is_link and write:
        raise PermissionError(
            f"{path} is a symbolic link, which is not written to: what it points to "
            "need not be part of this index."
        )
    journal = path.with_name(f"{path.name}-journal")
    was_killed = not is_link and journal.exists()  # a reader then has to roll back
    if was_killed:
        _check_journal(journal)
    mode = "rw" if write or was_killed else "ro"
    return f"{path.absolute().as_uri()}?mode={mode}"


def _check_journal(path: Path) -> None:
    """Refuse a journal of several databases: SQLite deletes the file that it names."""
    with suppress(FileNotFoundError), open(path, "rb") as file:  # of a commit that ends
        file.seek(max(0, file.seek(0, os.SEEK_END) - len(_JOURNAL_MARK)))
        if file.read() == _JOURNAL_MARK:
            raise CorruptFileError(path, "", "it is not the journal of an index")


def begin_writing(connection: sqlite3.Connection) -> None:
    """Take the lock of writers, or say at once that another has it."""
    connection.execute("PRAGMA busy_timeout = 0")  # who writes holds it for long
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * _WAIT)}")


def _write_schema(connection: sqlite3.Connection) -> None:
    """Make the tables."""
    connection.executescript(_SCHEMA)
    connection.execute(f"PRAGMA application_id = {_APPLICATION}")
    connection.execute(f"PRAGMA user_version = {_VERSION}")


def check_database(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database that is not ours, or of another version."""
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != _APPLICATION:
        raise CorruptFileError(path, "", "it is not the database of a MoleculeIndex")
    check_version(connection, str(path))
    if _tables(connection) != _our_tables():
        raise CorruptFileError(path, "schema", "its tables are not those of an index")


def check_version(connection: sqlite3.Connection, where: str) -> None:
    """Refuse what another release wrote."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version != _VERSION:
        older = "an earlier" if version < _VERSION else "a later"
        raise ValueError(
            f"{where} is of version {version}, written by {older} release of "
            f"sklearn_molge; this one reads version {_VERSION}. Fit the library again, "
            "in another folder."
        )


def _tables(connection: sqlite3.Connection) -> set[tuple]:
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master")
    return set(found)


@cache
def _our_tables() -> set[tuple]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(_SCHEMA)
        return _tables(connection)


@contextmanager
def named_errors(path: Path, *, write: bool = False) -> Iterator[None]:
    """Say what an error of SQLite means, and of which file.

    While one writes, others than SQLite's may be those of a library that is read.
    """
    try:
        yield
    except UnicodeDecodeError as error:  # SQLite says what it found in a schema
        if write:
            raise
        raise CorruptFileError(path, "", str(error)) from error
    except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
        raise  # a call of ours was wrong
    except sqlite3.Error as error:
        raise _named(error, path) from error


def _named(error: sqlite3.Error, path: Path) -> Exception:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return BlockingIOError(f"Another process is writing to {path.parent}.")
    if not path.exists():
        return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path))
    if code == sqlite3.SQLITE_READONLY:
        return PermissionError(f"{path} cannot be written to: {error}.")
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        return PermissionError(f"{path} cannot be opened: {error}.")
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
        number = errno.ENOSPC if code == sqlite3.SQLITE_FULL else errno.EIO
        return OSError(number, str(error), str(path))
    return CorruptFileError(path, "", str(error))


def damaged(where: Path | str, part: str, why: str) -> CorruptFileError:
    """Return the error that names what of an index cannot be used, and what to do."""
    return CorruptFileError(
        where, part, f"{why}. The index is damaged: restore it, or fit it again"
    )


# Halves of surrogate pairs are text in Python, though not in SQLite: bytes are, then.


def bindable(texts: Iterable[str]) -> list:
    """Return texts as SQLite takes them.

    Raises
    ------
    ValueError
        If one is longer than any that is read.
    """
    listed = list(texts)
    longest = max(map(len, listed), default=0)
    if longest > _MOST_CHARACTERS:
        raise ValueError(
            f"X: texts of an index must have at most {_MOST_CHARACTERS:,} characters. "
            f"Got one of {longest:,}."
        )
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


def as_text(value: object) -> str:
    """Return what was bound.

    Raises
    ------
    ValueError
        If it is no text.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "surrogatepass")
    raise ValueError(f"{value!r} is not a text")


def as_array(texts: Sequence[object]) -> NDArray[np.object_]:
    """Return texts that were bound as an array."""
    out = np.empty(len(texts), dtype=object)
    out[:] = texts
    for i in [i for i, text in enumerate(texts) if type(text) is not str]:
        out[i] = as_text(texts[i])
    return out


# Checksums


def digest_rows(rows: Iterable[tuple], *blobs: Sequence[bytes]) -> str:
    """Return the checksum of rows of a table, as they are bound and read.

    Of texts, bytes, integers and None; and of columns of blobs beside them.
    """
    digest, left = sha256(), iter(rows)
    while chunk := list(islice(left, _DIGESTED)):
        digest.update(json.dumps(chunk, default=_written_bytes).encode())
    for column in blobs:
        digest.update(json.dumps(list(map(len, column))).encode())
        digest.update(b"".join(column))
    return digest.hexdigest()[:32]


def _written_bytes(value: bytes) -> list[str]:
    return [value.hex()]  # unlike any text


# What is in it


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let all that is read in the block be of one moment."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(sqlite3.OperationalError):  # where an error has ended it
            connection.execute("ROLLBACK")


def begin_database(connection: sqlite3.Connection, settings: dict[str, str]) -> None:
    """Make the tables, and write the settings with their checksums."""
    _write_schema(connection)
    seal = setting_seal(settings["made"])
    rows = [(name, value, seal(name, value)) for name, value in settings.items()]
    connection.executemany("INSERT INTO settings VALUES (?, ?, ?)", rows)


def setting_seal(made: str) -> Callable[[str, str], str]:
    """Return what gives the checksum of a setting, which is of this store alone."""
    store = sha256(made.encode()).hexdigest()

    def seal(name: str, value: str) -> str:
        return sha256(f"{store}\n{name}\n{value}".encode()).hexdigest()[:32]

    return seal


def read_settings(connection: sqlite3.Connection) -> dict[str, str]:
    """Return all settings, whose checksums are right.

    Raises
    ------
    ValueError
        If they are not, or a setting is missing.
    """
    rows = connection.execute("SELECT name, value, digest FROM settings").fetchall()
    found = {name: (value, digest) for name, value, digest in rows}
    if found.keys() != {"made", "state", "background"}:
        raise ValueError(f"it has {shortened(list(found))}")
    seal = setting_seal(found["made"][0])
    for name in ("made", "state", "background"):
        value, digest = found[name]
        if seal(name, value) != digest:
            raise ValueError(f"{name} does not have its checksum")
    return {name: value for name, (value, _) in found.items()}


def count_rows(connection: sqlite3.Connection) -> tuple[int, ...]:
    """Return how many rows molecules, removed and skipped have, by their last."""
    return connection.execute(
        "SELECT (SELECT coalesce(max(row), -1) + 1 FROM molecules), "
        "(SELECT coalesce(max(rowid), 0) FROM removed), "
        "(SELECT coalesce(max(rowid), 0) FROM skipped)"
    ).fetchone()
