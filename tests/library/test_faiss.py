import json
import pickle
import sys

import numpy as np
import pytest

from sklearn_molge.retrieval._index import _faiss
from sklearn_molge.retrieval._index._faiss import FaissSearcher, default_factory
from sklearn_molge.retrieval._index._search import top_k
from sklearn_molge.retrieval._index._store import VectorStore

METRICS = ["correlation", "cosine", "dot", "euclidean"]


@pytest.fixture(autouse=True)
def faiss():
    """One thread: torch brings an OpenMP of its own into the process of the tests."""
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield faiss
    faiss.omp_set_num_threads(before)


def add(store, first, n):
    rng = np.random.default_rng(first)
    centres = np.random.default_rng(99).normal(size=(20, store.n_components))
    noise = rng.normal(size=(n, store.n_components))
    texts = np.arange(first, first + n).astype(str).astype(object)
    store.append(centres[rng.integers(0, 20, n)] + noise, texts, texts, None)


def make_store(path=None, *, n=3000, metric="correlation", dtype="float32", d=16):
    store = VectorStore.create(
        path, n_components=d, dtype=dtype, metric=metric, identity={}
    )
    add(store, 0, n)
    return store


@pytest.fixture
def queries():
    return np.random.default_rng(1).normal(size=(30, 16)).astype(np.float32)


def assert_same(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def recall(found, expected):
    return np.mean(
        [np.isin(a, b).mean() for a, b in zip(found[1], expected[1], strict=True)]
    )


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("metric", METRICS)
def test_flat_is_the_exact_search(queries, metric, dtype, reverse):
    store = make_store(metric=metric, dtype=dtype)
    searcher = FaissSearcher(store)
    if reverse and metric == "euclidean":
        with pytest.raises(ValueError, match="reverse=True needs backend='exact'"):
            searcher.top_k(queries, 5, reverse=True)
        return
    expected = top_k(store, queries, 5, reverse=reverse)
    assert_same(searcher.top_k(queries, 5, reverse=reverse), expected)
    assert searcher.top_k(queries, 0)[0].shape == (30, 0)
    assert searcher.top_k(queries[:0], 5)[1].shape == (0, 5)


@pytest.mark.parametrize("factory", ["IVF32,SQ8", "IVF32,Flat", "HNSW32,Flat", "SQ8"])
@pytest.mark.parametrize("metric", METRICS)
def test_other_factories_find_most(queries, metric, factory):
    store = make_store(metric=metric)
    found = FaissSearcher(store, factory=factory).top_k(queries, 10)
    expected = top_k(store, queries, 10)
    assert recall(found, expected) >= 0.9
    assert (np.diff(found[0], axis=1) <= 0).all()
    same = found[1] == expected[1]  # scores are the store's own
    np.testing.assert_array_equal(found[0][same], expected[0][same])


def test_default_by_the_number_of_rows():
    assert default_factory(199_999) == "Flat"
    assert default_factory(200_000) == "IVF1788,SQ8"
    assert default_factory(10**6) == "IVF4000,SQ8"


def test_lists_by_default(queries, monkeypatch):
    monkeypatch.setattr(_faiss, "_FLAT_ROWS", 1000)
    store = make_store()
    searcher = FaissSearcher(store)
    assert (searcher._index.nlist, searcher._index.nprobe) == (216, 30)
    assert recall(searcher.top_k(queries, 10), top_k(store, queries, 10)) >= 0.9
    again = FaissSearcher(store)
    assert_same(again.top_k(queries, 10), searcher.top_k(queries, 10))


def test_parameters(queries):
    store = make_store()
    one = FaissSearcher(store, factory="IVF64,Flat", parameters={"nprobe": 1})
    every = FaissSearcher(store, factory="IVF64,Flat", parameters={"nprobe": 64})
    expected = top_k(store, queries, 10)
    assert_same(every.top_k(queries, 10), expected)
    assert recall(one.top_k(queries, 10), expected) < 1
    graph = FaissSearcher(store, factory="HNSW8", parameters={"efSearch": 77})
    assert graph._index.hnsw.efSearch == 77


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factory": "Nothing7"}, "faiss_factory must be .*Got 'Nothing7'"),
        ({"parameters": {"nprobes": 3}}, "parameters must be .*Got 'nprobes'"),
        ({"factory": "IVF5000,Flat"}, "cannot be trained with 3000 molecules"),
    ],
)
def test_what_faiss_does_not_know(options, message):
    with pytest.raises(ValueError, match=message):
        FaissSearcher(make_store(), **options)


@pytest.mark.parametrize("factory", [None, "IVF16,SQ8", "HNSW32,Flat"])
def test_removed_rows_never_come(queries, factory):
    store = make_store()
    searcher = FaissSearcher(store, factory=factory)
    best = np.unique(top_k(store, queries, 60)[1])
    store.remove(best)  # more than are looked for at first
    found = searcher.top_k(queries, 10)
    assert not np.isin(found[1], best).any()
    assert recall(found, top_k(store, queries, 10)) >= 0.8


def test_too_few_found_are_answered_exactly(queries):
    store = make_store(n=500)
    searcher = FaissSearcher(
        store, factory="IVF16,Flat", parameters={"nprobe": 1}
    )  # a list holds some 30 rows
    assert_same(searcher.top_k(queries, 400), top_k(store, queries, 400))


@pytest.mark.parametrize("factory", [None, "IVF16,SQ8", "HNSW32,Flat"])
@pytest.mark.parametrize("in_folder", [False, True])
def test_appended_rows_are_added_without_a_rebuild(
    tmp_path, queries, monkeypatch, factory, in_folder
):
    store = make_store(tmp_path / "index" if in_folder else None)
    searcher = FaissSearcher(store, factory=factory)
    monkeypatch.setattr(FaissSearcher, "_trained", None)
    add(store, 3000, 2000)
    found = searcher.top_k(queries, 10)
    assert (found[1] >= 3000).any()
    assert recall(found, top_k(store, queries, 10)) >= 0.9
    if in_folder:
        add(store, 5000, 100)
        other = FaissSearcher(VectorStore.open(store.path), factory=factory)
        assert other._index.ntotal == 5100


def test_lists_are_made_anew_when_outgrown(monkeypatch):
    monkeypatch.setattr(_faiss, "_FLAT_ROWS", 1000)
    store = make_store()
    searcher = FaissSearcher(store)
    add(store, 3000, 9000)
    searcher._update()
    assert searcher._index.nlist == 216
    add(store, 12_000, 1)
    searcher._update()
    assert (searcher._index.nlist, searcher._index.ntotal) == (436, 12_001)


def test_saved_beside_the_store(tmp_path, queries, monkeypatch):
    store = make_store(tmp_path / "index")
    found = FaissSearcher(store, factory="IVF16,SQ8").top_k(queries, 10)
    assert (store.path / "index.faiss").stat().st_size > 3000 * 16
    with monkeypatch.context() as patched:
        patched.setattr(FaissSearcher, "_trained", None)
        reader = VectorStore.open(store.path)
        read = FaissSearcher(reader, factory="IVF16,SQ8")
        assert_same(read.top_k(queries, 10), found)
        assert_same(pickle.loads(pickle.dumps(read)).top_k(queries, 10), found)
    assert FaissSearcher(store, factory="IVF8,SQ8")._index.nlist == 8


def test_pickle_in_memory(queries):
    store = make_store()
    searcher = FaissSearcher(store, factory="IVF64,Flat", parameters={"nprobe": 3})
    copy = pickle.loads(pickle.dumps(searcher))
    assert copy._index.nprobe == 3
    assert_same(copy.top_k(queries, 10), searcher.top_k(queries, 10))


@pytest.mark.parametrize("damage", ["other store", "cut", "no description", "not JSON"])
def test_stale_files_are_replaced(tmp_path, queries, damage):
    store = make_store(tmp_path / "index")
    FaissSearcher(store)
    index = store.path / "index.faiss"
    description = store.path / "index.faiss.json"
    if damage == "cut":
        index.write_bytes(index.read_bytes()[:1000])
    elif damage == "no description":
        description.unlink()
    elif damage == "not JSON":
        description.write_text("{")
    else:
        other = make_store(tmp_path / "other", metric="dot")
        FaissSearcher(other)
        for path in (index, description):
            path.write_bytes((other.path / path.name).read_bytes())
    assert_same(FaissSearcher(store).top_k(queries, 5), top_k(store, queries, 5))
    assert json.loads(description.read_text())["store"] == store.key


def test_more_rows_than_the_store_are_not_believed(tmp_path, queries):
    store = make_store(tmp_path / "index")
    early = VectorStore.open(store.path)
    add(store, 3000, 500)
    FaissSearcher(store)
    assert_same(FaissSearcher(early).top_k(queries, 5), top_k(early, queries, 5))


def test_without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-molge\[faiss\]"'):
        FaissSearcher(make_store())


def test_bad_queries():
    searcher = FaissSearcher(make_store())
    with pytest.raises(ValueError, match="queries must be finite"):
        searcher.top_k(np.full((1, 16), np.nan), 1)
