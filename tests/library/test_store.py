import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn_molge.retrieval._index import _manifest
from sklearn_molge.retrieval._index._search import top_k
from sklearn_molge.retrieval._index._store import VectorStore

DTYPES = ["float32", "float16", "int8"]
METRICS = ["correlation", "cosine", "dot", "euclidean"]


def objects(values):
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def create(path=None, *, d=3, dtype="float32", metric="dot", identity=None):
    return VectorStore.create(
        path, n_components=d, dtype=dtype, metric=metric, identity=identity or {}
    )


def batch(first, n, d=3):
    """Rows whose vector, text, name and id tell their number."""
    numbers = np.arange(first, first + n)
    vectors = np.outer(numbers, np.arange(1, d + 1)).astype(np.float32)
    texts = [objects([f"{kind}{i}" for i in numbers]) for kind in ("s", "nämé ", "id")]
    return vectors, *texts


def check_prefix(store, n_rows):
    vectors, texts, names, ids = batch(0, n_rows, store.n_components)
    every = np.arange(n_rows)
    assert store.n_rows == n_rows
    np.testing.assert_array_equal(store.prepared(slice(0, n_rows)), vectors)
    assert store.texts(every).tolist() == texts.tolist()
    assert store.names(every).tolist() == names.tolist()
    assert store.all_ids().tolist() == ids.tolist()


@pytest.fixture(params=["memory", "folder"])
def path(request, tmp_path):
    return None if request.param == "memory" else tmp_path / "a" / "index"


def reopened(store, **options):
    """Return the store as another process would see it."""
    if store.path is None:
        return pickle.loads(pickle.dumps(store))
    return VectorStore.open(store.path, **options)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_what_is_appended_can_be_read(path, dtype, metric):
    store = create(path, dtype=dtype, metric=metric, identity={"embedder": ["a", 1]})
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(7, 3)).astype(np.float32)
    _, texts, names, ids = batch(0, 7)
    store.append(vectors[:5], texts[:5], names[:5], ids[:5], note={"rows": 5})
    store.append(vectors[5:], texts[5:], names[5:], ids[5:])
    whole = create(None, dtype=dtype, metric=metric)
    whole.append(vectors, texts, names, ids)
    for seen in (store, reopened(store), pickle.loads(pickle.dumps(store))):
        assert (seen.n_rows, seen.n_active, seen.active) == (7, 7, None)
        assert seen.identity == {"embedder": ["a", 1]}
        assert seen.note == {"rows": 5}
        assert seen.key == store.key != whole.key
        assert seen.nbytes == whole.nbytes
        assert seen.largest_norm == whole.largest_norm
        np.testing.assert_array_equal(
            seen.prepared(slice(1, 7)), whole.prepared(slice(1, 7))
        )
        assert seen.texts(np.array([6, 0, 6])).tolist() == ["s6", "s0", "s6"]
        assert seen.names(np.array([3])).tolist() == ["nämé 3"]
        assert seen.ids(np.array([], dtype=int)).tolist() == []
        assert seen.all_ids().tolist() == ids.tolist()
        extra = seen.extra(slice(0, 7))
        if metric == "euclidean":
            squares = np.square(seen.prepared(slice(0, 7))).sum(axis=1)
            np.testing.assert_allclose(extra, squares, rtol=1e-4)
        else:
            assert extra is None


def test_an_empty_store(path):
    store = reopened(create(path))
    assert (store.n_rows, store.n_active, store.nbytes) == (0, 0, 0)
    assert store.active is None
    assert store.note is None
    assert store.all_ids().tolist() == []
    assert store.find("x").tolist() == []
    assert store.prepared(slice(0, 0)).shape == (0, 3)


def test_empty_append_writes_its_note(path):
    store = create(path)
    store.append(*batch(0, 0), note={"next": 3})
    assert reopened(store).note == {"next": 3}
    store.write_note(None)
    assert reopened(store).note is None


def test_texts_of_any_kind(path):
    texts = objects(["", "a\x00b", "\n", "ß𝄞", "\ud800", "x" * 100_000, ""])
    store = create(path)
    store.append(np.zeros((7, 3)), texts, texts, None)
    seen = reopened(store)
    assert seen.texts(np.arange(7)).tolist() == texts.tolist()
    assert seen.ids(np.arange(7)).tolist() == texts.tolist()
    assert seen.find("").tolist() == [0, 6]
    assert seen.find("\ud800").tolist() == [4]


def test_remove_and_find(path):
    store = create(path)
    store.append(*batch(0, 5))
    assert store.find("id3").tolist() == [3]
    store.remove(np.array([3, 1, 3]))
    store.remove([1])
    store.append(*batch(3, 2))
    for seen in (store, reopened(store)):
        assert (seen.n_rows, seen.n_active) == (7, 5)
        assert seen.active.tolist() == [True, False, True, False, True, True, True]
        assert seen.find("id3").tolist() == [5]
        assert seen.find("id4").tolist() == [4, 6]
        assert seen.find("id1").tolist() == []
        assert seen.find("no such").tolist() == []


@pytest.mark.parametrize("wrong", [[-1], [5], [0, 7]])
def test_rows_that_are_not_there(path, wrong):
    store = create(path)
    store.append(*batch(0, 5))
    with pytest.raises(ValueError, match="rows must be from 0 to 4"):
        store.remove(wrong)
    with pytest.raises(IndexError, match="rows must be from 0 to 4"):
        store.texts(wrong)
    assert store.n_active == 5


def test_bad_input_changes_nothing(path):
    store = create(path)
    store.append(*batch(0, 2))
    vectors, texts, names, ids = batch(2, 3)
    with pytest.raises(ValueError, match=r"vectors must be of shape \(n, 3\). Got"):
        store.append(vectors[:, :2], texts, names, ids)
    with pytest.raises(ValueError, match="names must have one entry a vector, 3"):
        store.append(vectors, texts, names[:2], ids)
    with pytest.raises(ValueError, match="ids must be given always"):
        store.append(vectors, texts, names, None)
    with pytest.raises(TypeError, match=r"names must be strings.* first, at 1: None"):
        store.append(vectors, texts, objects(["a", None, "c"]), ids)
    with pytest.raises(TypeError, match="JSON"):
        store.append(vectors, texts, names, ids, note={"a": object()})
    vectors[1, 1] = np.nan
    with pytest.raises(ValueError, match=r"vectors must be finite.*\[1\]"):
        store.append(vectors, texts, names, ids)
    check_prefix(reopened(store, writable=True), 2)
    store.append(*batch(2, 3))
    check_prefix(reopened(store), 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float64"}, r"dtype must be one of .*'int8'.*Got 'float64'"),
        ({"metric": "jaccard"}, "metric must be one of .*Got 'jaccard'"),
        ({"d": 0}, "n_components must be at least 1. Got 0"),
    ],
)
def test_create_checks(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        create(tmp_path / "index", **change)
    assert not (tmp_path / "index").exists()


def test_create_needs_an_empty_folder(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds \['notes.txt'\]"):
        create(tmp_path)
    with pytest.raises(FileExistsError, match="is a file"):
        create(tmp_path / "notes.txt")
    left = tmp_path / "left"
    left.mkdir()
    (left / "manifest.json.partial").write_text("{")  # by a killed creation
    assert create(left).n_rows == 0


def test_open_says_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match="not the folder of a MoleculeIndex"):
        VectorStore.open(tmp_path)
    manifest = tmp_path / "manifest.json"
    for content, message in (
        ('{"format": ', "not JSON"),
        ("[]", "not the manifest"),
        ('{"format": "sklearn_molge.MoleculeIndex", "version": 9}', "of version 9"),
        ('{"format": "sklearn_molge.MoleculeIndex", "version": 1}', "lacks"),
    ):
        manifest.write_text(content)
        with pytest.raises(ValueError, match=message):
            VectorStore.open(tmp_path)


def test_cut_and_missing_files(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 4))
    path = store.path / "vectors.bin"
    with open(path, "r+b") as file:
        file.truncate(47)
    with pytest.raises(ValueError, match=r"vectors.bin is cut: it has 47 .* with 48"):
        VectorStore.open(store.path)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"vectors.bin is missing.* 48 bytes"):
        VectorStore.open(store.path)


def test_manifest_that_does_not_fit(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 4))
    manifest = json.loads((store.path / "manifest.json").read_text())
    for change in ({"n_rows": 5}, {"files": manifest["files"] | {"vectors.bin": 13}}):
        (store.path / "manifest.json").write_text(json.dumps(manifest | change))
        with pytest.raises(ValueError, match=r"manifest is damaged.*vectors.bin"):
            VectorStore.open(store.path)


def test_damaged_ends_of_texts(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 4))
    np.array([2, 4, 10**6, 8]).tofile(store.path / "texts_ends.bin")
    seen = VectorStore.open(store.path)
    assert seen.texts(np.array([0, 1])).tolist() == ["s0", "s1"]
    with pytest.raises(ValueError, match=r"texts_ends.bin is damaged.*texts.bin"):
        seen.texts(np.array([2]))


def test_a_reader_does_not_write(tmp_path):
    store = create(tmp_path / "index")
    for reader in (VectorStore.open(store.path), pickle.loads(pickle.dumps(store))):
        with pytest.raises(ValueError, match="opened for reading"):
            reader.append(*batch(0, 1))
        with pytest.raises(ValueError, match="opened for reading"):
            reader.write_note({})


def test_readers_see_the_rows_of_when_they_opened(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 3))
    reader = VectorStore.open(store.path)
    store.append(*batch(3, 3))
    store.remove([0])
    check_prefix(reader, 3)
    assert reader.active is None
    assert VectorStore.open(store.path).n_active == 5


def test_a_second_writer_is_told(tmp_path):
    first = create(tmp_path / "index")
    second = VectorStore.open(first.path, writable=True)
    first.append(*batch(0, 3))
    with pytest.raises(ValueError, match="changed by another process"):
        second.append(*batch(0, 4))
    with _manifest.one_writer(first.path, _manifest.read_manifest(first.path)):
        with pytest.raises(BlockingIOError, match="is writing"):
            first.append(*batch(3, 1))
    first.append(*batch(3, 1))
    check_prefix(VectorStore.open(first.path), 4)


def test_relative_paths_survive_a_change_of_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = create("index")
    store.append(*batch(0, 2))
    monkeypatch.chdir("/")
    check_prefix(pickle.loads(pickle.dumps(store)), 2)


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def killed_at(monkeypatch, step):
    """Let the process die before the given fsync or replace, counted together."""
    left = iter(range(step))

    def counted(function):
        def call(*args):
            if next(left, None) is None:
                raise Killed
            return function(*args)

        return call

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    monkeypatch.setattr(os, "replace", counted(os.replace))


def test_a_kill_before_each_step_of_an_append(tmp_path, monkeypatch):
    for step in range(40):
        store = create(tmp_path / str(step))
        store.append(*batch(0, 3), note={"n": 3})
        with monkeypatch.context() as patched:
            killed_at(patched, step)
            try:
                store.append(*batch(3, 5), note={"n": 8})
                finished = True
            except Killed:
                finished = False
        seen = VectorStore.open(store.path, writable=True)
        check_prefix(seen, seen.note["n"])
        seen.append(*batch(seen.n_rows, 9 - seen.n_rows))
        check_prefix(VectorStore.open(store.path), 9)
        if finished:
            break
    assert finished
    assert step > 8  # files, the manifest, its name, its folder


def test_each_file_torn_within_what_was_appended(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 3))
    before = {path: path.read_bytes() for path in store.path.iterdir()}
    store.append(*batch(3, 5))
    after = {path: path.read_bytes() for path in store.path.glob("*.bin")}
    files = list(after)
    for torn, path in enumerate(files):
        for lost in (1, 3, len(after[path]) - len(before[path])):
            for old, content in before.items():
                old.write_bytes(content)
            for done in files[:torn]:
                done.write_bytes(after[done])
            path.write_bytes(after[path][: max(len(after[path]) - lost, 0)])
            seen = VectorStore.open(store.path, writable=True)
            check_prefix(seen, 3)
            seen.append(*batch(3, 1))
            check_prefix(VectorStore.open(store.path), 4)


def test_longer_files_are_cut_at_the_next_append(tmp_path):
    store = create(tmp_path / "index")
    store.append(*batch(0, 3))
    sizes = {path.name: path.stat().st_size for path in store.path.glob("*.bin")}
    for name in sizes:
        with open(store.path / name, "ab") as file:
            file.write(b"\xff" * 1001)
    seen = VectorStore.open(store.path, writable=True)
    check_prefix(seen, 3)
    seen.append(*batch(3, 2))
    check_prefix(VectorStore.open(store.path), 5)
    assert (store.path / "vectors.bin").stat().st_size == 5 * 12


_WRITER = """
import sys
sys.path.insert(0, sys.argv[2])
from test_store import batch, create, VectorStore
store = VectorStore.open(sys.argv[1], writable=True)
print("ready", flush=True)
while True:
    n = 1 + store.n_rows % 7
    store.append(*batch(store.n_rows, n), note={"n": store.n_rows + n})
"""


def test_a_killed_process_leaves_a_prefix(tmp_path):
    path = create(tmp_path / "index").path
    grown, random = [0], np.random.default_rng(0)
    for _ in range(3):
        command = [sys.executable, "-c", _WRITER, str(path), os.path.dirname(__file__)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout.readline() == "ready\n"
            time.sleep(random.uniform(0.05, 0.2))
            writer.send_signal(signal.SIGKILL)
        store = VectorStore.open(path)
        check_prefix(store, (store.note or {"n": 0})["n"])
        grown.append(store.n_rows)
    assert grown == sorted(grown)
    assert grown[-1] > 0


def test_opening_reads_no_row(tmp_path, monkeypatch):
    store = create(tmp_path / "index")
    store.append(*batch(0, 3))
    monkeypatch.setattr(np, "memmap", None)
    seen = VectorStore.open(store.path)
    assert seen.n_active == 3
    assert seen.active is None


def test_memory_grows_by_more_than_is_asked_for():
    store = create()
    buffers = set()
    for i in range(1000):
        store.append(*batch(i, 1))
        buffers.add(len(store._layout.vectors._array))
    check_prefix(store, 1000)
    assert len(buffers) < 30


def test_rows_handed_out_cannot_be_changed():
    store = create()
    store.append(*batch(0, 2))
    with pytest.raises(ValueError, match="read-only"):
        store.prepared(slice(0, 2))[0, 0] = 1


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(0, 5)),
        st.tuples(st.just("remove"), st.lists(st.integers(0, 30), max_size=3)),
        st.tuples(st.just("reopen"), st.none()),
        st.tuples(st.just("note"), st.integers()),
    ),
    max_size=12,
)


@pytest.mark.parametrize("in_folder", [False, True])
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps=STEPS, dtype=st.sampled_from(DTYPES), with_ids=st.booleans())
def test_any_sequence_against_a_dict(
    tmp_path_factory, in_folder, steps, dtype, with_ids
):
    path = tmp_path_factory.mktemp("store") / "index" if in_folder else None
    store = create(path, dtype=dtype)
    rows, removed, note = {}, set(), None
    for step, value in steps:
        if step == "append":
            vectors, texts, names, ids = batch(len(rows) % 4, value)
            given_ids = ids if with_ids else None
            store.append(vectors, texts, names, given_ids)
            for row in zip(vectors, texts, names, ids, strict=True):
                rows[len(rows)] = row
        elif step == "remove":
            there = [row for row in value if row < len(rows)]
            store.remove(np.array(there, dtype=int))
            removed |= set(there)
        elif step == "note":
            note = {"n": value}
            store.write_note(note)
        else:
            store = reopened(store, writable=True)
    assert (store.n_rows, store.n_active) == (len(rows), len(rows) - len(removed))
    assert store.note == note
    left = sorted(rows.keys() - removed)
    if store.active is not None:
        assert np.flatnonzero(store.active).tolist() == left
    every = np.arange(len(rows))
    assert store.texts(every).tolist() == [row[1] for row in rows.values()]
    assert store.names(every).tolist() == [row[2] for row in rows.values()]
    column = 3 if with_ids else 1
    assert store.all_ids().tolist() == [row[column] for row in rows.values()]
    for key in {row[column] for row in rows.values()}:
        assert store.find(key).tolist() == [i for i in left if rows[i][column] == key]
    if rows:
        expected = np.array([row[0] for row in rows.values()])
        rounding = {"float32": 0, "float16": 2**-10, "int8": 0.02}[dtype]
        np.testing.assert_allclose(
            store.prepared(slice(0, len(rows))),
            expected,
            atol=rounding * np.abs(expected).max(),
        )
        found = top_k(store, np.ones((1, 3), np.float32), len(left))[1][0]
        assert sorted(found.tolist()) == left
