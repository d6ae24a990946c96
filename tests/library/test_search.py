"""The search itself: against a full sort, and the rounding that it may rely on.

Private: a slow definition is compared with the inside, in blocks of every size.
"""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata

from sklearn_molge.library import _search
from sklearn_molge.library._search import RowComparison, mid_ranks, scores_of, top_k
from sklearn_molge.library._store import VectorStore
from sklearn_molge.metrics import pairwise_similarity, rank_embeddings

DTYPES = ["float32", "float16", "int8"]
METRICS = ["correlation", "cosine", "dot", "euclidean"]


def make_store(vectors, metric, *, dtype="float32", folder=None, removed=()):
    vectors = np.asarray(vectors, dtype=np.float32)
    store = VectorStore.create(
        folder, n_components=vectors.shape[1], dtype=dtype, metric=metric, identity={}
    )
    texts = [str(i) for i in range(len(vectors))]
    store.append(vectors, texts, texts)
    store.remove(np.array(removed, dtype=int))
    return store


def true_scores(store, queries):
    """Similarities to the rows as they are stored, in float64, one by one."""
    gallery = store.stored(slice(0, store.n_rows)).astype(np.float64)
    points = store.to_stored(queries).astype(np.float64)
    if store.metric == "euclidean":
        return -np.sqrt(((points[:, None] - gallery) ** 2).sum(axis=2))
    return (points[:, None] * gallery).sum(axis=2)


def full_sort(store, queries, k, reverse):
    """Sort all rows; the slow, obvious way."""
    scores = true_scores(store, queries)
    keys = scores if reverse else -scores
    rows = np.arange(store.n_rows)
    if store.active is not None:
        keys, rows = keys[:, store.active], rows[store.active]
    order = np.lexsort((np.broadcast_to(rows, keys.shape), keys), axis=1)[:, :k]
    return np.take_along_axis(scores, rows[order], axis=1), rows[order]


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(700, 9)), rng.normal(size=(13, 9)).astype(np.float32)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_top_k_against_a_full_sort(data, metric, dtype, reverse):
    vectors, queries = data
    store = make_store(vectors, metric, dtype=dtype, removed=range(50, 120, 3))
    for k in (0, 1, 10, 600, store.n_active):
        scores, rows = top_k(store, queries, k, reverse=reverse)
        assert (scores.dtype, rows.dtype) == (np.float32, np.intp)
        expected, expected_rows = full_sort(store, queries, k, reverse)
        np.testing.assert_allclose(scores, expected, atol=3e-6)
        # Nearly equal scores may change places where float32 rounds them.
        assert np.count_nonzero(rows != expected_rows) <= rows.size / 1000


@pytest.mark.parametrize("metric", METRICS)
def test_scores_are_those_of_pairwise_similarity(data, metric):
    vectors, queries = data
    vectors[5] = 0
    store = make_store(vectors, metric)
    expected = pairwise_similarity(queries, vectors, metric=metric)
    rows = np.array([699, 5, 5, 0])
    np.testing.assert_allclose(
        scores_of(store, queries, rows), expected[:, rows], atol=5e-6
    )
    scores, rows = top_k(store, queries, 700)
    np.testing.assert_allclose(
        scores, np.take_along_axis(expected, rows, axis=1), atol=5e-6
    )
    for i in range(len(queries)):
        np.testing.assert_allclose(
            scores_of(store, queries[i : i + 1], rows[i])[0], scores[i], atol=1e-6
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_equal_rows_tie_and_come_by_row_number(metric, dtype):
    rng = np.random.default_rng(1)
    distinct = rng.normal(size=(37, 50))
    codes = rng.integers(0, 37, 3000)
    store = make_store(distinct[codes], metric, dtype=dtype)
    queries = rng.normal(size=(5, 50)).astype(np.float32)
    for reverse in (False, True):
        scores, rows = top_k(store, queries, 3000, reverse=reverse)
        for i in range(len(queries)):
            blocks = codes[rows[i]]
            starts = np.flatnonzero(np.diff(blocks, prepend=-1))
            assert len(starts) == 37  # each kind in one piece
            assert (np.diff(rows[i])[np.diff(blocks) == 0] > 0).all()
            assert (np.diff(scores[i])[np.diff(blocks) == 0] == 0).all()
        few = top_k(store, queries, 150, reverse=reverse)
        np.testing.assert_array_equal(few[1], rows[:, :150])
        np.testing.assert_array_equal(few[0], scores[:, :150])


@pytest.mark.parametrize("metric", METRICS)
def test_all_rows_alike(metric):
    store = make_store(np.ones((9000, 4)), metric, removed=[1])
    queries = np.ones((3, 4), dtype=np.float32)
    for reverse in (False, True):
        rows = top_k(store, queries, 4, reverse=reverse)[1]
        np.testing.assert_array_equal(rows, [[0, 2, 3, 4]] * 3)
        ranks = mid_ranks(store, queries, [[0], [8], [8999]], reverse=reverse)
        np.testing.assert_array_equal(ranks, [4500] * 3)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_no_size_of_a_block_changes_a_bit(data, metric, dtype, monkeypatch):
    vectors, queries = data
    vectors[300:310] = vectors[7]
    store = make_store(vectors, metric, dtype=dtype, removed=[3, 7])
    own = [np.array([5 * i, 300]) for i in range(len(queries))]
    expected = *top_k(store, queries, 20), mid_ranks(store, queries, own)
    for sizes in ((1, 1), (7, 3), (64, 5), (1000, 13)):
        monkeypatch.setattr(_search, "_FEWEST_ROWS", sizes[0])
        monkeypatch.setattr(_search, "_BLOCK_SCORES", 1)
        monkeypatch.setattr(_search, "_DECODED_VALUES", 30)
        monkeypatch.setattr(_search, "_PART", sizes[1])
        monkeypatch.setattr(_search, "_LONG", sizes[1])
        monkeypatch.setattr(_search, "_PAIR_VALUES", 40)
        monkeypatch.setattr(_search, "_MOST_QUERIES", 11)
        monkeypatch.setattr(_search, "_FEWEST_PENDING", 1)
        found = *top_k(store, queries, 20), mid_ranks(store, queries, own)
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_a_single_query_is_answered_as_among_others(metric, dtype, reverse):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(2500, 64))
    vectors[2000:] = vectors[rng.integers(0, 40, 500)]
    store = make_store(vectors, metric, dtype=dtype, removed=[3, 5, 2499])
    queries = np.concatenate([vectors[:3], rng.normal(size=(64, 64))])
    own = list(np.arange(134).reshape(67, 2) + 1900)
    for k in (1, 30, store.n_active):
        together = (
            *top_k(store, queries, k, reverse=reverse),
            mid_ranks(store, queries, own, reverse=reverse),
        )
        for i in (0, 1, 2, 50):
            one = slice(i, i + 1)
            alone = (
                *top_k(store, queries[one], k, reverse=reverse),
                mid_ranks(store, queries[one], own[one], reverse=reverse),
            )
            for a, b in zip(alone, together, strict=True):
                np.testing.assert_array_equal(a[0], b[i])


def test_ranks_of_a_single_query_in_a_large_library():
    store = make_store(np.arange(70_000.0)[:, None], "dot")
    query = np.ones((1, 1), dtype=np.float32)
    assert mid_ranks(store, query, [[0]]) == [70_000]
    np.testing.assert_array_equal(top_k(store, query, 3)[1], [[69_999, 69_998, 69_997]])


def test_far_from_the_origin_euclidean_is_exact():
    # The squares are 1e6 times the distances: one float32 product could not tell.
    rng = np.random.default_rng(0)
    vectors = (1000 + rng.normal(size=(800, 6))).astype(np.float32)
    queries = (1000 + rng.normal(size=(4, 6))).astype(np.float32)
    store = make_store(vectors, "euclidean")
    for reverse in (False, True):
        scores, rows = top_k(store, queries, 10, reverse=reverse)
        expected, expected_rows = full_sort(store, queries, 10, reverse)
        np.testing.assert_array_equal(rows, expected_rows)
        np.testing.assert_allclose(scores, expected, rtol=1e-6)


@pytest.mark.parametrize("factor", [1e-25, 1e-12, 1e12])
def test_very_small_and_large_vectors(data, factor):
    vectors, queries = data
    store = make_store(vectors * factor, "dot")
    queries = queries * np.float32(factor)
    rows = top_k(store, queries, 10)[1]
    np.testing.assert_array_equal(rows, full_sort(store, queries, 10, False)[1])


def test_too_long_vectors(data):
    vectors, queries = data
    store = make_store(vectors * 1e20, "dot")
    with pytest.raises(
        ValueError, match=r"must not be longer than 1e\+18. Got .*e\+20"
    ):
        top_k(store, queries, 1)


def test_margin_bounds_the_error(data):
    vectors, queries = data
    for metric in METRICS:
        store = make_store(3 + vectors, metric)
        for reverse in (False, True):
            comparison = RowComparison(store, queries, reverse=reverse)
            for rows, part, keys in comparison.blocks():
                grid = np.indices(keys.shape).reshape(2, -1)
                exact = comparison.exact(grid[1] + part.start, grid[0] + rows.start)
                fast = comparison.as_fast(grid[1] + part.start, exact)
                error = np.abs(fast.reshape(keys.shape) - keys)
                assert (error <= comparison.margin[part] / 2).all()


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (np.ones((2, 5)), r"queries must be of shape \(n_queries, 9\). Got \(2, 5\)"),
        (np.ones(9), r"Got \(9,\)"),
        (np.array([[0.0] * 9, [np.nan] * 9]), r"must be finite; .* \[1\]"),
    ],
)
def test_bad_queries(data, queries, message):
    store = make_store(data[0], "cosine")
    for call in (
        lambda: top_k(store, queries, 1),
        lambda: scores_of(store, queries, [0]),
        lambda: mid_ranks(store, queries, [[0]] * len(queries)),
    ):
        with pytest.raises(ValueError, match=message):
            call()


def test_no_queries_and_no_rows(data):
    store = make_store(data[0], "cosine")
    none = np.empty((0, 9), dtype=np.float32)
    assert top_k(store, none, 3)[0].shape == (0, 3)
    assert scores_of(store, none, [1, 2]).shape == (0, 2)
    assert mid_ranks(store, none, []).shape == (0,)
    empty = make_store(np.empty((0, 9)), "cosine")
    assert top_k(empty, data[1], 0)[1].shape == (13, 0)


def test_memory_folder_and_pickle_agree(data, tmp_path):
    vectors, queries = data
    for dtype in DTYPES:
        memory = make_store(vectors, "euclidean", dtype=dtype)
        folder = make_store(vectors, "euclidean", dtype=dtype, folder=tmp_path / dtype)
        expected = top_k(memory, queries, 5)
        for store in (folder, pickle.loads(pickle.dumps(memory))):
            for a, b in zip(top_k(store, queries, 5), expected, strict=True):
                np.testing.assert_array_equal(a, b)


# Ranks


@pytest.mark.parametrize("metric", METRICS)
def test_ranks_of_distinct_rows_are_those_of_the_metrics(data, metric):
    vectors, queries = data
    match = np.arange(13) * 50
    store = make_store(vectors, metric)
    ranks = mid_ranks(store, queries, match[:, None])
    vectors = vectors.astype(np.float32)
    expected = rank_embeddings(queries, vectors, match, metric=metric)
    np.testing.assert_array_equal(ranks, expected)
    reverse = mid_ranks(store, queries, match[:, None], reverse=True)
    np.testing.assert_array_equal(reverse, 701 - ranks)


@pytest.mark.parametrize("metric", METRICS)
def test_ranks_with_equal_rows_are_those_of_the_metrics(metric):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 30)).astype(np.float32)[rng.integers(0, 40, 900)]
    queries = rng.normal(size=(25, 30)).astype(np.float32)
    match = rng.integers(0, 900, 25)
    store = make_store(vectors, metric)
    np.testing.assert_array_equal(
        mid_ranks(store, queries, match[:, None]),
        rank_embeddings(queries, vectors, match, metric=metric),
    )


def test_ranks_by_hand():
    vectors = [[5.0], [4.0], [4.0], [3.0], [2.0], [4.0], [9.0]]
    store = make_store(vectors, "dot", removed=[6])
    queries = np.ones((1, 1), dtype=np.float32)
    for own, rank, reverse_rank in (
        ([0], 1, 6),
        ([1], 3, 4),  # 5; three 4s tie
        ([1, 2], 2.5, 3.5),  # the other own row does not count
        ([4, 1, 2], 2.5, 1),  # the best of its own: 4, or 2 in reverse
        ([0, 4, 6], 1, 1),  # the removed row is not there
        ([3], 5, 2),
        ([3, 3], 5, 2),
    ):
        assert mid_ranks(store, queries, [np.array(own)]) == [rank]
        assert mid_ranks(store, queries, [np.array(own)], reverse=True) == [
            reverse_rank
        ]


def test_bad_own_rows(data):
    store = make_store(data[0], "dot", removed=[4])
    queries = data[1][:2]
    with pytest.raises(ValueError, match=r"one entry a query, 2. Got 1"):
        mid_ranks(store, queries, [[0]])
    with pytest.raises(ValueError, match=r"rows from 0 to 699. Got 0 to 700"):
        mid_ranks(store, queries, [[0], [700]])
    with pytest.raises(ValueError, match=r"Missing for queries \[1\]"):
        mid_ranks(store, queries, [[0], [4]])
    with pytest.raises(ValueError, match=r"Missing for queries \[0\]"):
        mid_ranks(store, queries, [[], [3]])


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 5)),
    metric=st.sampled_from(METRICS),
    dtype=st.sampled_from(DTYPES),
    reverse=st.booleans(),
)
def test_small_integers_with_many_ties(seed, shape, metric, dtype, reverse):
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-2, 3, shape)
    removed = np.flatnonzero(rng.random(shape[0]) < 0.2)[: shape[0] - 1]
    store = make_store(vectors, metric, dtype=dtype, removed=removed)
    queries = rng.integers(-2, 3, (4, shape[1])).astype(np.float32)
    left = np.setdiff1d(np.arange(shape[0]), removed)
    k = int(rng.integers(1, len(left) + 1))
    scores, rows = top_k(store, queries, k, reverse=reverse)
    sign = -1 if reverse else 1
    comparison = RowComparison(store, queries, reverse=reverse)
    own = [left[rng.random(len(left)) < 0.3] for _ in queries]
    own = [rows if len(rows) else left[:1] for rows in own]
    ranks = mid_ranks(store, queries, own, reverse=reverse)
    for i in range(len(queries)):
        keys = comparison.exact(np.full(len(left), i), left)
        order = np.argsort(-keys, kind="stable")[:k]
        np.testing.assert_array_equal(rows[i], left[order])
        np.testing.assert_array_equal(scores[i], np.float32(sign * keys[order]))
        best = own[i][np.argmax(comparison.exact(np.full(len(own[i]), i), own[i]))]
        others = np.setdiff1d(left, own[i])
        alone = np.concatenate([[best], others])
        keys = comparison.exact(np.full(len(alone), i), alone)
        assert ranks[i] == rankdata(-keys)[0]
