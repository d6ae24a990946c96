"""The approximate search: against the exact one, and what lies in the folder."""

import json
import pickle
import sys

import numpy as np
import pytest

from sklearn_molge.exceptions import LibraryWarning
from sklearn_molge.library import MoleculeIndex

METRICS = ["correlation", "cosine", "dot", "euclidean"]


@pytest.fixture(autouse=True)
def faiss():
    """One thread: torch brings an OpenMP of its own into the process of the tests."""
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield faiss
    faiss.omp_set_num_threads(before)


def points(first, n, d=16):
    rng = np.random.default_rng(first)
    centres = np.random.default_rng(99).normal(size=(20, d))
    return centres[rng.integers(0, 20, n)] + rng.normal(size=(n, d))


@pytest.fixture
def make(index_of):
    """Make an index that knows more molecules than it holds, and faiss searches."""

    def make(n=3000, *, metric="correlation", d=16, **params):
        vectors = np.concatenate([points(i, 500, d) for i in range(26)])
        index = index_of(vectors[:1], metric)
        embedder = index.estimator.fit([str(i) for i in range(13_000)], vectors)
        params = {"backend": "faiss", "unique_by": None, **params}
        texts = [str(i) for i in range(n)]
        return MoleculeIndex(embedder, batch_size=1000, **params).fit(texts)

    return make


@pytest.fixture
def queries():
    return np.random.default_rng(1).normal(size=(30, 16)).astype(np.float32)


def exact(index, queries, k, **options):
    """Return what the exact search says."""
    faiss_backend, index.backend = index.backend, "exact"
    try:
        return index.kneighbors(queries, k, **options)
    finally:
        index.backend = faiss_backend


def assert_same(found, expected):
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def recall(found, expected):
    return np.mean(
        [np.isin(a, b).mean() for a, b in zip(found[1], expected[1], strict=True)]
    )


def add(index, first, n):
    index.partial_fit([str(i) for i in range(first, first + n)])


def saved(faiss, folder):
    """Return the index of faiss in a folder, and its description."""
    return faiss.read_index(str(folder / "index.faiss")), described(folder)


def described(folder):
    """Return what is signed."""
    return json.loads(json.loads((folder / "index.faiss.json").read_text())["index"])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("metric", METRICS)
def test_flat_is_the_exact_search(make, queries, metric, dtype, reverse):
    index = make(metric=metric, dtype=dtype)
    if reverse and metric == "euclidean":
        with pytest.raises(ValueError, match="reverse=True needs backend='exact'"):
            index.kneighbors(queries, 5, reverse=True)
        return
    expected = exact(index, queries, 5, reverse=reverse)
    assert_same(index.kneighbors(queries, 5, reverse=reverse), expected)
    assert index.kneighbors(queries[:0], 5)[1].shape == (0, 5)


@pytest.mark.parametrize("factory", ["IVF32,SQ8", "IVF32,Flat", "HNSW32,Flat", "SQ8"])
@pytest.mark.parametrize("metric", METRICS)
def test_other_factories_find_most(make, queries, metric, factory):
    index = make(metric=metric, faiss_factory=factory)
    found = index.kneighbors(queries, 10)
    expected = exact(index, queries, 10)
    assert recall(found, expected) >= 0.9
    assert (np.diff(found[0], axis=1) >= 0).all()
    same = found[1] == expected[1]  # distances are the index's own
    np.testing.assert_array_equal(found[0][same], expected[0][same])


def test_flat_by_default_and_small_lists_by_name(make, queries, tmp_path, faiss):
    index = make(folder=tmp_path / "index")
    index.kneighbors(queries, 1)
    built, description = saved(faiss, tmp_path / "index")
    assert isinstance(built, faiss.IndexFlat)
    assert description["n_rows"] == description["n_trained"] == 3000
    index = MoleculeIndex.open(
        tmp_path / "index", backend="faiss", faiss_factory="IVF8,SQ8"
    )
    index.kneighbors(queries, 1)
    assert saved(faiss, tmp_path / "index")[0].nlist == 8


@pytest.mark.slow
def test_lists_by_default_of_many(index_of, tmp_path, faiss):
    vectors = points(0, 200_000)
    index = index_of(vectors, folder=tmp_path / "index", backend="faiss")
    found = index.kneighbors(vectors[:20], 10)
    assert saved(faiss, tmp_path / "index")[0].nlist == 4 * int(np.sqrt(200_000))
    assert recall(found, exact(index, vectors[:20], 10)) >= 0.9


def test_parameters(make, queries):
    options = {"faiss_factory": "IVF64,Flat"}
    one = make(**options, faiss_parameters={"nprobe": 1})
    every = make(**options, faiss_parameters={"nprobe": 64})
    expected = exact(one, queries, 10)
    assert_same(every.kneighbors(queries, 10), expected)
    assert recall(one.kneighbors(queries, 10), expected) < 1
    make(faiss_factory="HNSW8", faiss_parameters={"efSearch": 77}).kneighbors(queries)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faiss_factory": "Nothing7"}, "faiss_factory must be .*Got 'Nothing7'"),
        ({"faiss_parameters": {"nprobes": 3}}, "parameters must be .*Got 'nprobes'"),
        ({"faiss_factory": "IVF5000,Flat"}, "cannot be trained with 3000 molecules"),
    ],
)
def test_what_faiss_does_not_know(make, queries, options, message):
    with pytest.raises(ValueError, match=message):
        make(**options).kneighbors(queries)


@pytest.mark.parametrize("factory", [None, "IVF16,SQ8", "HNSW32,Flat"])
def test_removed_rows_never_come(make, queries, factory):
    index = make(faiss_factory=factory)
    best = np.unique(exact(index, queries, 60)[1])
    index.kneighbors(queries, 1)
    index.remove(best.astype(str))  # more than are looked for at first
    found = index.kneighbors(queries, 10)
    assert not np.isin(found[1], best).any()
    assert recall(found, exact(index, queries, 10)) >= 0.75


def test_too_few_found_are_answered_exactly(make, queries):
    index = make(500, faiss_factory="IVF16,Flat", faiss_parameters={"nprobe": 1})
    # A list holds some 30 rows.
    assert_same(index.kneighbors(queries, 400), exact(index, queries, 400))


@pytest.mark.parametrize("factory", [None, "IVF16,SQ8", "HNSW32,Flat"])
@pytest.mark.parametrize("in_folder", [False, True])
def test_appended_rows_are_added_without_a_rebuild(
    make, tmp_path, queries, factory, in_folder, faiss
):
    folder = tmp_path / "index" if in_folder else None
    index = make(faiss_factory=factory, folder=folder)
    index.kneighbors(queries, 1)
    add(index, 3000, 2000)
    found = index.kneighbors(queries, 10)
    assert (found[1] >= 3000).any()
    assert recall(found, exact(index, queries, 10)) >= 0.9
    if in_folder:
        built, description = saved(faiss, folder)
        assert (built.ntotal, description["n_trained"]) == (5000, 3000)
        add(index, 5000, 100)
        other = MoleculeIndex.open(folder, backend="faiss", faiss_factory=factory)
        other.kneighbors(queries, 1)
        built, description = saved(faiss, folder)
        assert (built.ntotal, description["n_trained"]) == (5100, 3000)


def test_what_is_outgrown_is_made_anew(make, queries, tmp_path, faiss):
    index = make(folder=tmp_path / "index")
    for first, n, n_trained in ((3000, 9000, 3000), (12_000, 1, 12_001)):
        index.kneighbors(queries, 1)
        add(index, first, n)
        index.kneighbors(queries, 1)
        assert saved(faiss, tmp_path / "index")[1]["n_trained"] == n_trained


def test_saved_beside_the_vectors_and_read_again(make, tmp_path, queries):
    index = make(folder=tmp_path / "index", faiss_factory="IVF16,SQ8")
    found = index.kneighbors(queries, 10)
    path = tmp_path / "index" / "index.faiss"
    written = path.stat().st_mtime_ns
    assert path.stat().st_size > 3000 * 16
    opened = MoleculeIndex.open(
        tmp_path / "index", backend="faiss", faiss_factory="IVF16,SQ8"
    )
    assert_same(opened.kneighbors(queries, 10), found)
    assert_same(pickle.loads(pickle.dumps(opened)).kneighbors(queries, 10), found)
    assert path.stat().st_mtime_ns == written


def test_pickle_in_memory(make, queries):
    index = make(faiss_factory="IVF64,Flat", faiss_parameters={"nprobe": 3})
    found = index.kneighbors(queries, 10)
    assert_same(pickle.loads(pickle.dumps(index)).kneighbors(queries, 10), found)


@pytest.mark.parametrize("damage", ["other index", "cut", "no description", "not JSON"])
def test_stale_files_are_replaced(make, tmp_path, queries, damage):
    folder = tmp_path / "index"
    index = make(folder=folder)
    index.kneighbors(queries, 1)
    built, description = folder / "index.faiss", folder / "index.faiss.json"
    right = described(folder)["store"]
    if damage == "cut":
        built.write_bytes(built.read_bytes()[:1000])
    elif damage == "no description":
        description.unlink()
    elif damage == "not JSON":
        description.write_text("{")
    else:
        make(folder=tmp_path / "other", metric="dot").kneighbors(queries, 1)
        for path in (built, description):
            path.write_bytes((tmp_path / "other" / path.name).read_bytes())
    opened = MoleculeIndex.open(folder, backend="faiss")
    if damage in ("cut", "not JSON"):
        with pytest.warns(LibraryWarning, match=r"index.faiss.* It is built anew"):
            found = opened.kneighbors(queries, 5)
    else:
        found = opened.kneighbors(queries, 5)
    assert_same(found, exact(index, queries, 5))
    assert described(folder)["store"] == right


def test_what_another_installation_wrote_is_not_read(make, tmp_path, queries):
    """faiss believes what it reads, so it reads what we signed."""
    folder = tmp_path / "index"
    index = make(folder=folder)
    index.kneighbors(queries, 1)
    path = folder / "index.faiss.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "signature": "0" * 64}))
    before = [p.read_bytes() for p in (path, folder / "index.faiss")]
    opened = MoleculeIndex.open(folder, backend="faiss")
    with pytest.warns(LibraryWarning, match=r"not written by this installation"):
        found = opened.kneighbors(queries, 5)
    assert_same(found, exact(index, queries, 5))
    add(index, 3000, 10)
    opened = MoleculeIndex.open(folder, backend="faiss")
    with pytest.warns(LibraryWarning, match=r"another is built in memory"):
        opened.kneighbors(queries, 5)
    assert before == [p.read_bytes() for p in (path, folder / "index.faiss")]
    opened = MoleculeIndex.open(folder, backend="faiss")
    opened.store_.trust = True
    assert_same(opened.kneighbors(queries, 5), exact(index, queries, 5))
    assert described(folder)["n_rows"] == 3010  # and signed by this one now


def test_a_folder_that_cannot_be_written_keeps_it_in_memory(make, tmp_path, queries):
    index = make(folder=tmp_path / "index")
    (tmp_path / "index" / "index.faiss").mkdir()
    with pytest.warns(LibraryWarning, match=r"index.faiss could not be written"):
        found = index.kneighbors(queries, 5)
    assert_same(found, exact(index, queries, 5))


def test_more_rows_than_the_index_are_not_believed(make, tmp_path, queries):
    index = make(folder=tmp_path / "index")
    early = MoleculeIndex.open(tmp_path / "index", backend="faiss")
    add(index, 3000, 500)
    index.kneighbors(queries, 1)
    assert_same(early.kneighbors(queries, 5), exact(early, queries, 5))


def test_without_faiss(make, queries, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r'pip install "sklearn-molge\[faiss\]"'):
        make().kneighbors(queries)


def test_bad_queries(make):
    with pytest.raises(ValueError, match="embedding of 1 profile is not finite"):
        make().kneighbors(np.full((1, 16), np.nan))
