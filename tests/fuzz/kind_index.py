"""The folder of a MoleculeIndex: a database of SQLite and a file of vectors.

"index" is opened with ``verify=True``: whatever is accepted answers as the good folder
does. "index-open" is opened without: then settings, removed rows and the background are
compared with their checksums, but no vector and no text of a molecule; answers may be
others where these were changed, never NaN, of rows that are not there, or of no text.
"""

import hashlib
import json
import sqlite3

import numpy as np
from harness import FileKind, same
from mutations import mutate
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.molecules import MorganFingerprinter

CELLS = [
    None, -1, 0, 1, 7, 2**31, 2**62, -(2**63), 0.5, 1e300, "", "x", "3", "C\x00C",
    "\u202e", "nan", "[]", "{}", '{"a": 1}', b"", b"\xff\xfe", b"x" * 300, "x" * 70_000,
]  # fmt: skip
VALUES = [
    None, True, False, -1, 0, 1, 2**31, 2**63, 10**400, 0.5, -0.0, float("nan"),
    float("inf"), "", "nonsense", "dot", "float16", [], {}, [[]], [None], {"a": {}},
    "\ud800", "9" * 5000,
]  # fmt: skip
ALWAYS_COMPARED = {"settings", "removed", "background", "training"}


def embedder():
    """Return a small fitted one, and profiles to ask with."""
    X = np.array(["CCO", "CCN", "CCC", "c1ccccc1O", "CC=O"], dtype=object)
    y = np.random.default_rng(0).normal(size=(5, 6))
    pipe = make_pipeline(MorganFingerprinter(fp_size=32), CCA(3, ridge=0.1))
    return pipe.fit(X, y), y


class Index(FileKind):
    """Everything is read and compared."""

    name = "index"
    sealed = True
    verify = True

    def make(self, folder):
        self.embedder, self.y = embedder()
        smiles = [("C" * i) + tail for i in range(1, 9) for tail in "ONF"]
        table = {"price": list(range(26)), "mechanism": ["inhibitor"] * 26}
        # Of a class of small pages and few vectors, so that a change hits something.
        index = MoleculeIndex(self.embedder, folder=folder, batch_size=1)
        index.fit([*smiles, "no molecule", "OC"], columns=table)
        index.partial_fit(["CCCl", "CCCCl", "CCl"], names=["a", "ñ", "c"])
        index.remove(["CO", "CCN"]).remove("CCF").calibrate(["CCO", "CCS"], self.y)
        for path in folder.glob("*.molge"):
            path.unlink()  # that of `self` is given

    def read(self, folder):
        index = MoleculeIndex.open(folder, estimator=self.embedder, verify=self.verify)
        answer = index.query(self.y[:2], 5, n_permutations=0)
        return {
            "near": list(index.kneighbors(self.y, index.n_molecules_)),
            "answer": answer.to_dict("list"),
            "molecules": index.get_molecules().to_dict("list"),
            "rows": index.get_molecules().index.to_numpy(),
            "skipped": index.skipped_.astype(object).fillna(-1).to_dict("list"),
            "rank": self.rank(index),
            "numbers": [index.n_rows_, index.n_molecules_],
        }

    def rank(self, index):
        try:
            return index.rank(self.y[:1], "CCO")
        except ValueError as error:  # an answer, if not the right one
            if "are not in the index" in str(error):
                return "not there"
            raise

    def mutate(self, rng, path, content):
        self.is_forged, self.table = False, None
        if path.name != "index.sqlite" or rng.random() < 0.2:
            return super().mutate(rng, path, content)
        return self.mutate_inside(rng, content)

    def mutate_inside(self, rng, content):
        """Change a database by what SQLite itself can say."""
        with sqlite3.connect(":memory:", isolation_level=None) as db:
            db.deserialize(content)
            db.execute("PRAGMA writable_schema = ON")
            change = CHANGES[rng.integers(len(CHANGES))]
            try:
                change(self, rng, db)
            except (sqlite3.Error, OverflowError, UnicodeError):
                return mutate(rng, content, self.max_bytes)
            content = db.serialize()
        db.close()
        return content

    def judge(self, case, answer):
        why = implausible(answer)
        if why or self.is_forged:
            return why
        return super().judge(case, answer)


class IndexOpen(Index):
    """Opened as it is usually: in less than a millisecond."""

    name = "index-open"
    verify = False

    def judge(self, case, answer):
        is_compared = self.table in ALWAYS_COMPARED and not self.is_forged
        if is_compared and not same(answer, self.expected):
            return f"another answer, where table {self.table} was changed"
        return implausible(answer)


def implausible(answer):
    """Say what no index answers, whatever it holds."""
    distances, rows = answer["near"]
    n_rows, n_active = answer["numbers"]
    if not np.isfinite(distances).all() or (np.diff(distances, axis=1) < 0).any():
        return "distances that are not finite or not in order"
    if rows.min() < 0 or rows.max() >= n_rows or len(set(rows[0])) != n_active:
        return "rows that are not in the index, or twice"
    texts = [*answer["molecules"]["smiles"], *answer["molecules"]["name"]]
    texts += [*answer["skipped"]["entry"], *answer["skipped"]["reason"]]
    if not all(isinstance(text, str) for text in texts):
        return "texts that are none"
    return None


# Changes of a database


def one_of(rng, values):
    """Draw one of a list."""
    return values[rng.integers(len(values))]


def tables_of(db):
    """Return the names of all tables."""
    found = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
    return sorted(name for (name,) in found if not name.startswith("sqlite_"))


def columns_of(db, table):
    """Return the names of a table's columns."""
    return [row[1] for row in db.execute(f"PRAGMA table_info({table})")]


def some_row(rng, db, table):
    """Return the condition that holds for one row, or few, and its values."""
    (n,) = db.execute(f"SELECT count(*) FROM {table}").fetchone()
    at = int(rng.integers(max(n, 1)))
    row = db.execute(f"SELECT * FROM {table} LIMIT 1 OFFSET {at}").fetchone()
    columns = columns_of(db, table)
    return " AND ".join(f"{c} IS ?" for c in columns), list(
        row or [None] * len(columns)
    )


def unbound(db):
    """Take the constraints away; the schema is put back afterwards."""
    before = db.execute("SELECT name, sql FROM sqlite_master").fetchall()
    db.execute("UPDATE sqlite_master SET sql = replace(sql, 'NOT NULL', '        ')")
    content = db.serialize()
    db.deserialize(content)
    db.execute("PRAGMA writable_schema = ON")
    return before


def bound(db, before):
    """Put the schema back."""
    for name, sql in before:
        db.execute("UPDATE sqlite_master SET sql = ? WHERE name = ?", (sql, name))


def set_cell(kind, rng, db):
    """Set a cell to what it cannot be."""
    kind.table = table = one_of(rng, tables_of(db))
    before = unbound(db)
    for _ in range(rng.integers(1, 3)):
        where, row = some_row(rng, db, table)
        column, value = one_of(rng, columns_of(db, table)), one_of(rng, CELLS)
        text = "CAST(? AS TEXT)" if rng.random() < 0.2 else "?"  # of any bytes
        statement = f"UPDATE OR REPLACE {table} SET {column} = {text} WHERE {where}"
        db.execute(statement, [value, *row])
    bound(db, before)


def swap_cells(kind, rng, db):
    """Give a row the value of another."""
    kind.table = table = one_of(rng, tables_of(db))
    place = int(rng.integers(len(columns_of(db, table))))
    column = columns_of(db, table)[place]
    (where, row), (_, other) = some_row(rng, db, table), some_row(rng, db, table)
    statement = f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {where}"
    db.execute(statement, [other[place], *row])


def delete_rows(kind, rng, db):
    """Delete a row, or all."""
    kind.table = table = one_of(rng, tables_of(db))
    if rng.random() < 0.2:
        db.execute(f"DELETE FROM {table}")
        return
    where, row = some_row(rng, db, table)
    db.execute(f"DELETE FROM {table} WHERE {where}", row)


def add_rows(kind, rng, db):
    """Add a row, much like another."""
    kind.table = table = one_of(rng, tables_of(db))
    _, row = some_row(rng, db, table)
    row[rng.integers(len(row))] = one_of(rng, CELLS)
    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", row)


def flip_in_blob(kind, rng, db):
    """Flip a bit of what is stored as bytes, or a character of a text."""
    kind.table = table = one_of(rng, tables_of(db))
    where, row = some_row(rng, db, table)
    place = int(rng.integers(len(row)))
    value = row[place]
    if not value or not isinstance(value, str | bytes):
        return
    at = int(rng.integers(len(value)))
    other = (
        b"\x7f" if isinstance(value, bytes) else one_of(rng, ["C", "1", "é", "\x00"])
    )
    changed = value[:at] + other + value[at + 1 :]
    column = columns_of(db, table)[place]
    statement = f"UPDATE OR REPLACE {table} SET {column} = ? WHERE {where}"
    db.execute(statement, [changed, *row])


def change_schema(kind, rng, db):
    """Change what tables there are."""
    table, other = one_of(rng, tables_of(db)), one_of(rng, tables_of(db))
    column = one_of(rng, columns_of(db, table))
    bomb = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
        "SELECT i AS name, zeroblob(1000000000) AS value, i AS digest, i AS row FROM n"
    )
    statements = [
        f"DROP TABLE {table}",
        f"ALTER TABLE {table} RENAME TO other",
        f"ALTER TABLE {table} RENAME COLUMN {column} TO other",
        f"ALTER TABLE {table} ADD COLUMN other",
        f"CREATE INDEX other ON {table} ({column})",
        f"CREATE TRIGGER other AFTER INSERT ON {table} BEGIN DELETE FROM {other}; END",
        f"DROP TABLE {table}; CREATE VIEW {table} AS {bomb}",
        f"DROP TABLE {table}; CREATE VIEW {table} AS SELECT * FROM {table}",
        f"DROP TABLE {table}; CREATE TABLE {table} AS SELECT * FROM {other}",
        f"UPDATE sqlite_master SET sql = sql || ' ' WHERE name = '{table}'",
        f"UPDATE sqlite_master SET rootpage = rootpage + 1 WHERE name = '{table}'",
        f"UPDATE sqlite_master SET rootpage = 999999 WHERE name = '{table}'",
        f"UPDATE sqlite_master SET rootpage = 2 WHERE name = '{table}'",
        f"PRAGMA user_version = {one_of(rng, [0, 1, 3, 5, -1])}",
        f"PRAGMA application_id = {one_of(rng, [0, -1])}",
    ]
    for statement in one_of(rng, statements).split("; "):
        if "BEGIN" not in statement and statement != "END":
            db.execute(statement)


def change_setting(kind, rng, db):
    """Set a field of the settings, with its checksum or without."""
    kind.table = "settings"
    kind.is_forged = rng.random() < 0.7
    settings = dict(db.execute("SELECT name, value FROM settings"))
    name = one_of(rng, ["made", "state"])
    value = json.loads(settings[name])
    place = value
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = keys[rng.integers(len(keys))]
        if isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
            place = place[key]
            continue
        break
    if isinstance(place, dict) and rng.random() < 0.2:
        del place[key]
    else:
        place[key] = one_of(rng, VALUES)
    text = json.dumps(value)
    settings[name] = text
    db.execute("UPDATE settings SET value = ? WHERE name = ?", (text, name))
    if kind.is_forged:
        store = hashlib.sha256(settings["made"].encode()).hexdigest()
        for name, value in settings.items():
            digest = hashlib.sha256(f"{store}\n{name}\n{value}".encode()).hexdigest()
            row = digest[:32], name
            db.execute("UPDATE settings SET digest = ? WHERE name = ?", row)


CHANGES = [
    set_cell, set_cell, swap_cells, delete_rows, add_rows, flip_in_blob, change_schema,
    change_setting,
]  # fmt: skip


KINDS = [Index(), IndexOpen()]
