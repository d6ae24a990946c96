"""The store itself: what counts after a kill at any moment, and who may write.

Private: kills and torn files must hit single writes, which an index makes many of.
"""

import os
import pickle
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from sklearn_molge.exceptions import CorruptFileError
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.library._store import Skipped, VectorStore

DTYPES = ["float32", "float16", "int8"]
METRICS = ["correlation", "cosine", "dot", "euclidean"]


def create(folder=None, *, d=3, dtype="float32", metric="dot", identity=None):
    return VectorStore.create(
        folder, n_components=d, dtype=dtype, metric=metric, identity=identity or {}
    )


def batch(first, n, d=3):
    """Rows whose vector, text, name and id tell their number."""
    numbers = np.arange(first, first + n)
    vectors = np.outer(numbers, np.arange(1, d + 1)).astype(np.float32)
    return vectors, *([f"{kind}{i}" for i in numbers] for kind in ("s", "nämé ", "id"))


def check_prefix(store, n_rows):
    assert store.n_rows == n_rows
    vectors, *expected = batch(0, n_rows, store.n_components)
    np.testing.assert_array_equal(store.stored(slice(0, n_rows)), vectors)
    columns = store.molecules(np.arange(n_rows))
    places = [[0] * n_rows, list(range(n_rows))]  # the library, and the row in it
    assert [column.tolist() for column in columns] == expected + places


def rows_of(store, id_):
    return store.find([id_])[1].tolist()


@pytest.fixture(params=["memory", "folder"])
def folder(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "a" / "index"


def reopened(store):
    """Return the store as another process would see it."""
    if store.folder is None:
        return pickle.loads(pickle.dumps(store))
    return VectorStore.open(store.folder)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_what_is_appended_can_be_read(folder, dtype, metric):
    store = create(folder, dtype=dtype, metric=metric, identity={"embedder": ["a", 1]})
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 3)).astype(np.float32)
    _, texts, names, ids = batch(0, 7)
    store.append(vectors[:5], texts[:5], names[:5], ids[:5], progress={"rows": 5})
    store.append(vectors[5:], texts[5:], names[5:], ids[5:])
    whole = create(None, dtype=dtype, metric=metric)
    whole.append(vectors, texts, names, ids)
    for seen in (store, reopened(store), pickle.loads(pickle.dumps(store))):
        assert (seen.n_rows, seen.n_active, seen.active) == (7, 7, None)
        assert seen.identity == {"embedder": ["a", 1]}
        assert seen.progress == {"rows": 5}
        assert seen.key == store.key != whole.key
        assert seen.nbytes > 7 * 3
        assert seen.largest_norm == whole.largest_norm
        rows = slice(1, 7)
        np.testing.assert_array_equal(seen.stored(rows), whole.stored(rows))
        smiles, names_, ids_, *_ = seen.molecules(np.array([6, 0, 6]))
        assert smiles.tolist() == ["s6", "s0", "s6"]
        assert names_.tolist() == ["nämé 6", "nämé 0", "nämé 6"]
        assert ids_.tolist() == ["id6", "id0", "id6"]
        assert [len(column) for column in seen.molecules(np.array([], int))] == [0] * 5
        norms = seen.norms(slice(0, 7))
        if metric == "euclidean":
            squares = np.square(seen.stored(slice(0, 7))).sum(axis=1)
            np.testing.assert_allclose(norms, squares, rtol=1e-4)
        else:
            assert norms is None


def test_an_empty_store(folder):
    store = reopened(create(folder))
    assert (store.n_rows, store.n_active) == (0, 0)
    assert store.active is None
    assert store.progress is None
    assert rows_of(store, "x") == []
    assert store.stored(slice(0, 0)).shape == (0, 3)


def test_nothing_appended_writes_how_far_it_came(folder):
    store = create(folder)
    store.append(
        *batch(0, 0), skipped=[Skipped(2, "x", "no", 1)], progress={"library": 3}
    )
    seen = reopened(store)
    assert seen.progress == {"library": 3}
    assert seen.skipped() == [(3, 2, "x", "no", 1)]


def test_texts_of_any_kind(folder):
    texts = ["", "a\x00b", "\n", "ß𝄞", "\ud800", "x" * 100_000, ""]
    store = create(folder)
    skipped = [Skipped(0, "\udce9", "no"), Skipped(1, None, "a\x00b")]
    store.append(np.zeros((7, 3)), texts, texts, skipped=skipped)
    store.write_background(None, texts, texts, np.zeros((7, 1), np.uint64))
    seen = reopened(store)
    for column in seen.molecules(np.arange(7))[:3]:
        assert column.tolist() == texts
    assert rows_of(seen, "") == [0, 6]
    assert rows_of(seen, "\ud800") == [4]
    places, rows = seen.find(["\ud800", "no", "a\x00b", ""])
    assert (places.tolist(), rows.tolist()) == ([0, 2, 3, 3], [4, 1, 0, 6])
    assert seen.skipped() == [
        (0, 0, "\udce9", "no", None), (0, 1, "None", "a\x00b", None),
    ]  # fmt: skip
    assert seen.read_background()[1].tolist() == texts


def test_remove_and_find(folder):
    store = create(folder)
    store.append(*batch(0, 5))
    assert rows_of(store, "id3") == [3]
    store.remove(np.array([3, 1, 3]))
    store.remove([1])
    store.append(*batch(3, 2))
    for seen in (store, reopened(store)):
        assert (seen.n_rows, seen.n_active) == (7, 5)
        assert seen.active.tolist() == [True, False, True, False, True, True, True]
        assert rows_of(seen, "id3") == [5]
        assert rows_of(seen, "id4") == [4, 6]
        assert rows_of(seen, "id1") == []
        assert rows_of(seen, "no such") == []


def test_bad_input_changes_nothing(folder):
    store = create(folder)
    store.append(*batch(0, 2))
    vectors, texts, names, ids = batch(2, 3)
    with pytest.raises(TypeError, match="JSON"):
        store.append(vectors, texts, names, ids, progress={"a": object()})
    with pytest.raises(ValueError, match="shorter"):
        store.append(vectors, texts, names[:2], ids)
    bad = vectors.copy()
    bad[1, 1] = np.nan
    with pytest.raises(ValueError, match=r"vectors must be finite.*\[1\]"):
        store.append(bad, texts, names, ids)
    check_prefix(reopened(store), 2)
    store.append(vectors, texts, names, ids)
    check_prefix(reopened(store), 5)


def test_a_block_of_writes_may_fail_and_go_on(folder):
    store = create(folder)
    with store.writing():
        store.append(*batch(0, 2))
        with pytest.raises(ValueError, match="shorter"):
            store.append(*batch(2, 2)[:3], ["one"])
        store.append(*batch(2, 2))
    check_prefix(reopened(store), 4)


# Folders


def test_create_needs_an_empty_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds 'notes.txt'"):
        create(tmp_path)
    with pytest.raises(FileExistsError, match="is a file"):
        create(tmp_path / "notes.txt")
    left = tmp_path / "left"
    left.mkdir()
    name = f".index.sqlite.{'0123' * 8}.part"  # by a killed creation
    (left / name).write_bytes(b"x")
    assert create(left).n_rows == 0


def test_open_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the folder of a MoleculeIndex"):
        VectorStore.open(tmp_path)
    path = tmp_path / "index.sqlite"
    path.write_bytes(b"no database, whatever its name says " * 100)
    with pytest.raises(CorruptFileError, match=r"index.sqlite .*: file is not a"):
        VectorStore.open(tmp_path)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (text)")
    connection.close()
    with pytest.raises(CorruptFileError, match="not the database of a MoleculeIndex"):
        VectorStore.open(tmp_path)
    store = create(tmp_path / "index")
    with sqlite3.connect(store.folder / "index.sqlite") as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()
    with pytest.raises(ValueError, match=r"of version 9, written by a later"):
        VectorStore.open(store.folder)


@pytest.mark.parametrize("call", [VectorStore.open, create])
def test_an_index_of_an_earlier_release(tmp_path, call):
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(ValueError, match=r"an earlier release.*fit it again"):
        call(tmp_path)


def test_a_damaged_database(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 5000))
    path = store.folder / "index.sqlite"
    content = bytearray(path.read_bytes())
    content[8192:-4096] = bytes(len(content) - 8192 - 4096)
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"index.sqlite .*malformed"):
        VectorStore.open(store.folder).molecules(np.arange(5000))


def test_cut_and_missing_vectors(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 4))
    path = store.folder / "vectors.bin"
    with open(path, "r+b") as file:
        file.truncate(47)
    with pytest.raises(CorruptFileError, match=r"vectors.bin .* has 47 .* with 48"):
        VectorStore.open(store.folder)
    path.unlink()
    with pytest.raises(CorruptFileError, match=r"vectors.bin .* is missing.* with 48"):
        VectorStore.open(store.folder)


def test_opening_reads_no_vector(tmp_path, monkeypatch):
    store = create(tmp_path / "index")
    store.append(*batch(0, 3))
    monkeypatch.setattr(np, "memmap", None)
    seen = VectorStore.open(store.folder)
    assert seen.n_rows == 3
    with pytest.raises(ValueError, match="not callable"):
        seen.stored(slice(0, 1))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may")
def test_a_folder_that_cannot_be_written(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 3))
    files = list(store.folder.iterdir())
    for path in (*files, store.folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        seen = VectorStore.open(store.folder)
        check_prefix(seen, 3)
        with pytest.raises(PermissionError, match="cannot be written"):
            seen.append(*batch(3, 1))
    finally:
        for path in (store.folder, *files):
            path.chmod(0o755)


def test_relative_folders_survive_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = create("index")
    store.append(*batch(0, 2))
    monkeypatch.chdir("/")
    check_prefix(pickle.loads(pickle.dumps(store)), 2)
    check_prefix(store, 2)


# Damaged, or made by somebody else


def edited(store, *statements, values=()):
    """Change the database of a store by SQL."""
    connection = sqlite3.connect(store.folder / "index.sqlite", isolation_level=None)
    for statement in statements:
        connection.execute(statement, values)
    connection.close()


@pytest.fixture
def full(tmp_path):
    """Return a store that holds something in every table, in two segments each."""
    store = create(tmp_path / "index")
    for first in (0, 4):
        prices = {"price": np.array([1, 2, 3, 4], dtype=object)}
        skipped = [Skipped(first + i, f"bad {i}", "no") for i in range(2)]
        store.append(*batch(first, 4), columns=prices, skipped=skipped)
        store.remove([first + 1])
    bits = np.arange(4, dtype=np.uint64).reshape(2, 2)
    store.write_background(np.eye(3, dtype=np.float32), ["C", "N"], ["c", "n"], bits)
    return store


CHECKED = {
    "molecules": 8, "vectors": 8, "skipped rows": 4, "removed rows": 2,
    "profiles of the background": 3, "molecules of the training set": 2,
}  # fmt: skip


def test_verify_counts_what_it_compared(full):
    for seen in (full, reopened(full), pickle.loads(pickle.dumps(full))):
        assert seen.verify() == CHECKED
    old = VectorStore.open(full.folder)
    full.append(*batch(8, 5), skipped=[Skipped(0, "x", "no")])
    full.remove([8])
    assert old.verify() == CHECKED  # of the moment at which it was opened
    full.forget_library(1, None)  # within a segment
    assert full.verify() == {
        **CHECKED, "molecules": 13, "vectors": 13, "skipped rows": 1, "removed rows": 3
    }  # fmt: skip
    memory = create(None)
    assert set(memory.verify().values()) == {0}
    memory.append(*batch(0, 3), skipped=[Skipped(0, "\ud800", "no")])
    assert pickle.loads(pickle.dumps(memory)).verify()["vectors"] == 3


@pytest.mark.parametrize(
    ("statement", "part"),
    [
        ("UPDATE molecules SET smiles = 'CC' WHERE row = 2", "molecules, rows 0 to 3"),
        ("UPDATE molecules SET name = x'00' WHERE row = 7", "molecules, rows 4 to 7"),
        ("UPDATE molecules SET id = 'other' WHERE row = 7", "molecules, rows 4 to 7"),
        ("UPDATE molecules SET further = '[5]' WHERE row = 0", "molecules, rows 0 to"),
        ("UPDATE molecules SET library_row = 9 WHERE row = 0", "molecules, rows 0 to"),
        ("DELETE FROM molecules WHERE row = 3", "molecules, rows 0 to 3"),
        ("UPDATE ids SET id = 'other' WHERE row = 7", "table ids"),
        ("DELETE FROM ids WHERE row = 7", "table ids"),
        ("INSERT INTO ids VALUES ('id7', 3)", "table ids"),
        ("UPDATE skipped SET reason = 'yes' WHERE rowid = 4", "skipped, rows 2 to 3"),
        ("UPDATE skipped SET same_as = 1 WHERE rowid = 1", "skipped, rows 0 to 1"),
        ("UPDATE segments SET digest = '' WHERE part = 'vectors'", "rows 0 to 3"),
        ("UPDATE segments SET stop = 'x' WHERE part = 'skipped'", "'x' ends skipped"),
        ("DELETE FROM segments WHERE first = 4", "molecules go from 4 to 8, of 8 rows"),
        ("INSERT INTO segments VALUES ('vectors', 5, 8, '')", "vectors go from 8 to 5"),
    ],
)
def test_verify_finds_changed_rows(full, statement, part):
    edited(full, statement)
    seen = VectorStore.open(full.folder)
    with pytest.raises(CorruptFileError, match=f"(sqlite|bin) .*{part}") as told:
        seen.verify()
    assert told.value.path.startswith(str(full.folder))


def test_verify_finds_a_flipped_bit_of_a_vector(full):
    path = full.folder / "vectors.bin"
    content = bytearray(path.read_bytes())
    content[5 * 12] ^= 1
    path.write_bytes(content)
    seen = VectorStore.open(full.folder)
    with pytest.raises(CorruptFileError, match=r"vectors.bin.*rows 4 to 7: their"):
        seen.verify()


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        (
            "UPDATE settings SET value = replace(value, 'dot', 'nonsense')",
            "made does not",
        ),
        (
            "UPDATE settings SET value = replace(value, ':', '')",
            "does not have its check",
        ),
        ("UPDATE settings SET digest = 7 WHERE name = 'state'", "state does not"),
        ("DELETE FROM settings WHERE name = 'state'", "it has"),
        ("DELETE FROM molecules WHERE row = 7", "table molecules: it has 7 of 8"),
        ("INSERT INTO molecules VALUES (8, '', '', '', 0, 0, '')", "has 9 of 8 rows"),
        ("DELETE FROM skipped WHERE rowid = 4", "table skipped: it has 3 of 4 rows"),
        ("DELETE FROM removed WHERE rowid = 2", "table removed: it has 1 of 2 rows"),
        ("DROP TABLE ids", "its tables are not those of an index"),
        ("CREATE VIEW v AS SELECT 1", "its tables are not those of an index"),
        (
            "CREATE TRIGGER t AFTER INSERT ON removed BEGIN DELETE FROM ids; END",
            "its tables are not those of an index",
        ),
        ("PRAGMA application_id = 1", "not the database of a MoleculeIndex"),
    ],
)
def test_open_refuses(full, statement, why):
    edited(full, statement)
    with pytest.raises(CorruptFileError, match=why) as told:
        VectorStore.open(full.folder)
    assert told.value.path == str(full.folder / "index.sqlite")


@pytest.mark.parametrize(
    "settings", [{"metric": "nonsense"}, {"dtype": "float64"}, {"d": -1}, {"d": "3"}]
)
def test_settings_that_cannot_be_are_refused_with_the_right_checksum(
    tmp_path, settings
):
    path = tmp_path / "index"
    with pytest.raises((ValueError, TypeError)):
        create(path, **settings)
    if path.exists():
        with pytest.raises(CorruptFileError, match="cannot be"):
            VectorStore.open(path)


@pytest.mark.parametrize(
    ("statement", "read"),
    [
        ("UPDATE removed SET row = -1 WHERE rowid = 1", lambda s: s.active),
        ("UPDATE removed SET row = 6 WHERE rowid = 1", lambda s: s.active),
        ("UPDATE background SET profile = x'00' WHERE rowid = 1", None),
        ("UPDATE training SET bits = x'00' WHERE rowid = 1", None),
        ("UPDATE training SET drug = 'x' WHERE rowid = 1", None),
        ("DELETE FROM training", None),
        ("UPDATE molecules SET library_row = 1.5 WHERE row = 2", "rows"),
        ("UPDATE molecules SET library = -1 WHERE row = 2", "rows"),
        ("UPDATE molecules SET name = x'ff' WHERE row = 2", "rows"),
        ("UPDATE molecules SET name = cast(x'ff' AS text) WHERE row = 2", "rows"),
        ("UPDATE molecules SET row = -5 WHERE row = 2", "rows"),
        ("UPDATE molecules SET further = '[1, 2]' WHERE row = 2", "further"),
        ("UPDATE molecules SET further = 'x' WHERE row = 2", "further"),
        ("UPDATE ids SET row = 3 WHERE row = 2", lambda s: s.find(["id2"])),
        ("UPDATE ids SET row = -2 WHERE row = 2", lambda s: s.find(["id2"])),
        ("UPDATE ids SET row = 'x' WHERE row = 2", lambda s: s.find(["id2"])),
        ("UPDATE skipped SET library = 'x' WHERE rowid = 1", lambda s: s.skipped()),
        ("UPDATE skipped SET same_as = 0.5 WHERE rowid = 1", lambda s: s.skipped()),
        ("UPDATE skipped SET entry = x'ff' WHERE rowid = 1", lambda s: s.skipped()),
    ],
)
def test_what_is_read_is_checked_where_that_costs_nothing(full, statement, read):
    reads = {
        None: lambda s: s.read_background(),
        "rows": lambda s: s.molecules(np.arange(8)),
        "further": lambda s: s.further_columns(np.arange(8)),
    }
    edited(full, statement)
    seen = VectorStore.open(full.folder)
    with pytest.raises(CorruptFileError, match=r"table|column") as told:
        reads.get(read, read)(seen)
    assert told.value.path == str(full.folder / "index.sqlite")


def test_removed_rows_that_cannot_be(tmp_path):
    for rows in ([-1], [9], [2, -9]):
        store = create(tmp_path / str(rows))
        store.append(*batch(0, 3))
        store.remove(rows)  # with the right checksum
        seen = VectorStore.open(store.folder)
        with pytest.raises(CorruptFileError, match="table removed"):
            assert seen.active is None


def test_a_schema_that_is_no_text(full):
    path = full.folder / "index.sqlite"
    content = path.read_bytes()
    at = content.index(b"CREATE TABLE skipped")
    path.write_bytes(content[:at] + b"CREATE TABLE\xa2kipped" + content[at + 20 :])
    with pytest.raises(CorruptFileError, match=r"index.sqlite cannot be read"):
        VectorStore.open(full.folder)


def test_a_text_longer_than_any_is_not_read(full):
    edited(full, "UPDATE molecules SET name = zeroblob(70000000) WHERE row = 2")
    with pytest.raises(CorruptFileError, match=r"index.sqlite.*too big"):
        VectorStore.open(full.folder).molecules(np.arange(8))
    with pytest.raises(ValueError, match=r"at most 16,777,216 characters. Got one of"):
        full.append(np.ones((1, 3)), ["C"], ["x" * ((1 << 24) + 1)])


def test_a_journal_that_would_delete_a_file(tmp_path):
    """SQLite deletes the file that a journal names as that of several databases."""
    store = create(tmp_path / "index")
    store.append(*batch(0, 3000))
    connection = sqlite3.connect(store.folder / "index.sqlite", isolation_level=None)
    connection.execute("PRAGMA cache_size = 5")
    connection.execute("BEGIN")
    connection.execute("UPDATE molecules SET name = 'longer than it was before'")
    for name in ("killed", "hostile"):
        shutil.copytree(store.folder, tmp_path / name)
    connection.close()
    check_prefix(VectorStore.open(tmp_path / "killed"), 3000)  # it is rolled back
    victim = tmp_path / "thesis.txt"
    victim.write_text("years of work")
    name = str(victim).encode()
    with open(tmp_path / "hostile" / "index.sqlite-journal", "ab") as journal:
        numbers = len(name).to_bytes(4, "big"), sum(name).to_bytes(4, "big")
        page = (0x40000000 // 4096 + 1).to_bytes(4, "big")
        journal.write(page + name + b"".join(numbers))
        journal.write(bytes.fromhex("d9d505f920a163d7"))
    with pytest.raises(CorruptFileError, match=r"sqlite-journal.*not the journal"):
        VectorStore.open(tmp_path / "hostile").verify()
    assert victim.read_text() == "years of work"


@pytest.mark.parametrize("name", ["vectors.bin", "index.sqlite"])
def test_links_are_not_followed_for_writing(full, tmp_path, name):
    path, target = full.folder / name, tmp_path / "target"
    path.rename(target)
    path.symlink_to(target)
    before = target.read_bytes()
    seen = VectorStore.open(full.folder)
    assert seen.verify() == CHECKED
    with pytest.raises(PermissionError, match=f"{name} is a symbolic link"):
        seen.append(*batch(8, 1))
    assert target.read_bytes() == before


def test_two_that_begin_in_one_folder(tmp_path, monkeypatch):
    link = os.link

    def be_second(draft, path):
        monkeypatch.setattr(os, "link", link)
        create(tmp_path / "index").append(*batch(0, 3))
        link(draft, path)

    monkeypatch.setattr(os, "link", be_second)
    with pytest.raises(FileExistsError, match=r"another process has begun .*index"):
        create(tmp_path / "index")
    check_prefix(VectorStore.open(tmp_path / "index"), 3)
    names = {path.name for path in (tmp_path / "index").iterdir()}
    assert names == {"index.sqlite", "vectors.bin"}

    def refuse(draft, path):
        raise PermissionError(1, "a file system without links")

    monkeypatch.setattr(os, "link", refuse)
    create(tmp_path / "other").append(*batch(0, 3))
    check_prefix(VectorStore.open(tmp_path / "other"), 3)


# Readers and writers


def test_readers_see_the_rows_of_when_they_opened(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 3), skipped=[Skipped(3, "x", "no")])
    reader = VectorStore.open(store.folder)
    store.append(*batch(3, 3), skipped=[Skipped(4, "y", "no")])
    store.remove([0])
    check_prefix(reader, 3)
    assert reader.active is None
    assert rows_of(reader, "id4") == []
    assert rows_of(reader, "id0") == [0]
    assert len(reader.skipped()) == 1
    assert VectorStore.open(store.folder).n_active == 5


def test_what_was_changed_elsewhere_is_not_written_to(tmp_path):
    first = create(tmp_path / "index")
    second = VectorStore.open(first.folder)
    first.append(*batch(0, 3))
    with pytest.raises(ValueError, match="changed by another process"):
        second.append(*batch(0, 4))
    shutil.rmtree(first.folder)
    create(first.folder).append(*batch(0, 3))
    with pytest.raises(ValueError, match="changed by another process"):
        first.remove([0])
    check_prefix(VectorStore.open(first.folder), 3)


def test_a_second_writer_is_told_at_once(tmp_path):
    first = create(tmp_path / "index")
    with first.writing():
        second = VectorStore.open(first.folder)
        with pytest.raises(BlockingIOError, match="Another process is writing"):
            second.append(*batch(0, 1))
        first.append(*batch(0, 3))
        check_prefix(VectorStore.open(first.folder), 3)  # readers are not held up
        with pytest.raises(BlockingIOError, match="Another process is writing"):
            VectorStore.open(first.folder).remove([0])
        first.append(*batch(3, 1))
    VectorStore.open(first.folder).append(*batch(4, 1))
    check_prefix(VectorStore.open(first.folder), 5)


_HOLDER = """
import sys
from sklearn_molge.library._store import Skipped, VectorStore
with VectorStore.open(sys.argv[1]).writing():
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_a_killed_writer_holds_nothing(tmp_path):
    store = create(tmp_path / "index")
    command = [sys.executable, "-c", _HOLDER, str(store.folder)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        with pytest.raises(BlockingIOError, match="Another process is writing"):
            store.append(*batch(0, 3))
        other.send_signal(signal.SIGKILL)
        other.wait()
    store.append(*batch(0, 3))
    check_prefix(VectorStore.open(store.folder), 3)


def test_threads_read_at_once(folder):
    store = create(folder)
    store.append(*batch(0, 500))
    errors = []

    def read(seed):
        try:
            for row in np.random.default_rng(seed).integers(0, 500, 40).tolist():
                assert rows_of(store, f"id{row}") == [row]
                assert store.molecules(np.array([row]))[0].tolist() == [f"s{row}"]
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_threads_read_while_one_writes(folder):
    store = create(folder)
    store.append(*batch(0, 20))
    store.remove([0])
    errors, done = [], threading.Event()

    def read():
        try:
            while not done.is_set():
                assert rows_of(store, "id0") == []
                assert rows_of(store, "id7") == [7]
                assert store.molecules(np.array([7]))[0].tolist() == ["s7"]
                assert not store.active[0]
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for first in range(20, 40):
        store.append(*batch(first, 1))
    done.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(store.active) == 40


def test_a_second_thread_that_writes_is_told_at_once(folder):
    store = create(folder)
    told = []

    def write():
        try:
            store.append(*batch(0, 1))
        except BlockingIOError as error:
            told.append(str(error))

    with store.writing():
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
        store.append(*batch(0, 2))
    assert len(told) == 1
    assert told[0].startswith("Another thread is writing to")
    check_prefix(store, 2)
    thread = threading.Thread(target=lambda: store.append(*batch(2, 1)))
    thread.start()
    thread.join()
    check_prefix(reopened(store), 3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_fork_does_not_write_for_who_forked(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 2))
    with store.writing():
        child = os.fork()
        if not child:
            code = 1
            try:
                check_prefix(store, 2)
                store.append(*batch(2, 1))
            except BlockingIOError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        store.append(*batch(2, 2))
    check_prefix(VectorStore.open(store.folder), 4)


# Killed


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def killed_at(monkeypatch, step):
    """Let the process die before the given sync of vectors, or statement of SQL."""
    left = iter(range(step))

    def count():
        if next(left, None) is None:
            raise Killed

    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda *args: (count(), fsync(*args)))

    class Dying(sqlite3.Connection):
        def execute(self, sql, *args):
            if sql != "ROLLBACK":
                count()
            return super().execute(sql, *args)

        def executemany(self, *args):
            count()
            return super().executemany(*args)

    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *a, **kw: connect(*a, **kw, factory=Dying)
    )


def test_a_kill_before_each_step_of_an_append(tmp_path, monkeypatch):
    n_left = set()
    for step in range(40):
        store = create(tmp_path / str(step))
        store.append(*batch(0, 3), progress={"n": 3})
        finished = False
        with monkeypatch.context() as patched:
            killed_at(patched, step)
            try:
                store.append(*batch(3, 5), progress={"n": 8})
                finished = True
            except Killed:
                pass
        seen = VectorStore.open(store.folder)
        check_prefix(seen, seen.progress["n"])
        n_left.add(seen.n_rows)
        seen.append(*batch(seen.n_rows, 9 - seen.n_rows))
        check_prefix(VectorStore.open(store.folder), 9)
        if finished:
            break
    assert finished
    assert n_left == {3, 8}


def test_vectors_torn_within_what_was_appended(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 3))
    before = {path: path.read_bytes() for path in store.folder.iterdir()}
    store.append(*batch(3, 5))
    vectors = store.folder / "vectors.bin"
    after = vectors.read_bytes()
    assert after.startswith(before[vectors])
    for n_bytes in range(len(before[vectors]), len(after) + 1):
        for path, content in before.items():
            path.write_bytes(content)
        vectors.write_bytes(after[:n_bytes])
        seen = VectorStore.open(store.folder)
        check_prefix(seen, 3)
        seen.append(*batch(3, 1))
        check_prefix(VectorStore.open(store.folder), 4)
        assert vectors.stat().st_size == 4 * 12


_WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_store import batch, VectorStore
store = VectorStore.open(sys.argv[1])
print("ready", flush=True)
while True:
    n = 1 + store.n_rows % 7
    store.append(*batch(store.n_rows, n), progress={"n": store.n_rows + n})
"""


def test_a_killed_process_leaves_a_prefix(tmp_path):
    folder = create(tmp_path / "index").folder
    grown, random = [0], np.random.default_rng(0)
    for _ in range(4):
        here = os.path.dirname(__file__)
        command = [sys.executable, "-c", _WRITER, str(folder), here]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "ready\n"
            time.sleep(random.uniform(0.05, 0.3))
            writer.send_signal(signal.SIGKILL)
        store = VectorStore.open(folder)
        check_prefix(store, (store.progress or {"n": 0})["n"])
        grown.append(store.n_rows)
    assert grown == sorted(grown)
    assert grown[-1] > 0


def test_an_index_is_not_written_by_two(tmp_path, index_of):
    index = index_of(np.eye(4), folder=tmp_path / "index")
    other = MoleculeIndex.open(tmp_path / "index")
    index.remove("3")
    with pytest.raises(ValueError, match="changed by another process"):
        other.partial_fit(["5"])
    with index.store_.writing():
        opened = MoleculeIndex.open(tmp_path / "index")
        for call in (
            lambda: opened.partial_fit(["5"]),
            lambda: opened.remove("0"),
            lambda: opened.calibrate(["CCO"]),
        ):
            with pytest.raises(BlockingIOError, match="Another process is writing"):
                call()
        assert opened.kneighbors(np.eye(4), 3)[1].shape == (4, 3)
    assert opened.remove("0").n_molecules_ == 2


def test_who_writes_removes_what_a_kill_left_of_the_creation(tmp_path):
    store = create(tmp_path / "index")
    left = store.folder / f".index.sqlite.{'0123' * 8}.part"
    left.hardlink_to(store.folder / "index.sqlite")
    VectorStore.open(store.folder)
    assert left.exists()  # readers change nothing
    VectorStore.open(store.folder).append(*batch(0, 3))
    assert not left.exists()
    assert VectorStore.open(store.folder).n_rows == 3
