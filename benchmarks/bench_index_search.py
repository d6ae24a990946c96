"""Top-k search in a store of vectors, against faiss, scikit-learn and plain numpy.

OMP_NUM_THREADS=1 python benchmarks/bench_index_search.py
OMP_NUM_THREADS=1 python benchmarks/bench_index_search.py --rows 1000000 --queries 200
OMP_NUM_THREADS=1 python benchmarks/bench_index_search.py --index FOLDER

Unit vectors around 1,000 centres, or the vectors of an index in a folder; queries are
rows of their own, or rows of the index with noise. Every peer runs in turn with the
search of the float32 store in memory, A B A B, in one process and with the same number
of threads; torch is not imported, whose OpenMP slows faiss.
"""

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import threadpoolctl
from _timing import compare, describe_machine, peak_mib, report
from sklearn.neighbors import NearestNeighbors

from sklearn_molge.library._faiss import FaissSearcher, default_factory
from sklearn_molge.library._search import top_k
from sklearn_molge.library._store import VectorStore

DTYPES = ("float32", "float16", "int8")
STEP = 65_536


def make_blocks(n_rows, n_queries, d, seed=0):
    """Return a generator of blocks of rows, and queries around the same centres."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(1000, d)).astype(np.float32)

    def draw(n):
        noise = rng.normal(scale=0.5, size=(n, d)).astype(np.float32)
        rows = centres[rng.integers(0, len(centres), n)] + noise
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    queries = draw(n_queries)
    return (draw(min(STEP, n_rows - i)) for i in range(0, n_rows, STEP)), queries


def stored_blocks(folder, n_queries, seed=0):
    """Return the rows of a float32 index on disk, and queries: some with noise."""
    store = VectorStore.open(folder)
    rng = np.random.default_rng(seed)
    rows = rng.choice(store.n_rows, n_queries)
    queries = np.concatenate([store.stored(slice(i, i + 1)) for i in rows])
    noise = rng.normal(size=queries.shape).astype(np.float32)
    queries += 0.5 * queries.std(axis=1, keepdims=True) * noise
    blocks = (
        store.stored(slice(i, min(i + STEP, store.n_rows)))
        for i in range(0, store.n_rows, STEP)
    )
    return blocks, queries, store.n_components, store.metric


def fill(blocks, d, metric, folder):
    """Store the same rows in every precision, in memory and in a folder."""
    stores = {}
    for dtype in DTYPES:
        for where in ("memory", "mapped"):
            path = folder / dtype if where == "mapped" else None
            stores[dtype, where] = VectorStore.create(
                path, n_components=d, dtype=dtype, metric=metric, identity={}
            )
    first = 0
    for block in blocks:
        texts = np.empty(len(block), dtype=object)
        texts[:] = [f"molecule {i}" for i in range(first, first + len(block))]
        for store in stores.values():
            store.append(block, texts, texts)
        first += len(block)
    return {
        key: VectorStore.open(store.folder) if store.folder else store
        for key, store in stores.items()
    }


def numpy_top_k(gallery, queries, k, block=64):
    """Multiply, then partition whole rows of scores, some queries at a time."""
    found = []
    for i in range(0, len(queries), block):
        scores = queries[i : i + block] @ gallery.T
        rows = np.argpartition(scores, -k, axis=1)[:, -k:]
        order = np.argsort(-np.take_along_axis(scores, rows, axis=1), axis=1)
        found.append(np.take_along_axis(rows, order, axis=1))
    return np.concatenate(found)


def recall(rows, expected):
    return np.mean([np.isin(a, b).mean() for a, b in zip(rows, expected, strict=True)])


def directory_bytes(path):
    return sum(file.stat().st_size for file in path.iterdir())


def show(title, seconds, n_queries, rows=None, expected=None):
    per_query = [1000 * s / n_queries for s in seconds]
    text = (
        f"  {title}: {statistics.median(per_query):.3f} ms/query "
        f"[{min(per_query):.3f}, {max(per_query):.3f}]"
    )
    if rows is not None:
        text += f", recall {recall(rows, expected):.4f}"
    print(text, flush=True)


def one_query(ours, queries, points, options, peers):
    """Print the processor time of single queries beside each peer's."""
    n = min(len(queries), 20)

    def each(function, rows):
        return lambda: [function(rows[i : i + 1]) for i in range(n)]

    for title, (peer, goal) in peers.items():
        times = compare(
            each(ours, queries),
            each(peer, points),
            repeats=options.repeats,
            clock=time.process_time,
        )
        report(f"{n} single queries against {title}", *times, goal=goal)
        for name, seconds in zip(("ours", title), times, strict=True):
            show(name, seconds, n)


def against_peers(ours, store, queries, k, options):
    """Print the time of each peer beside ours, and the ratio."""
    gallery = store.stored(slice(0, store.n_rows))  # not copied
    points = store.to_stored(queries)
    euclidean = store.metric == "euclidean"
    flat = faiss.IndexFlatL2 if euclidean else faiss.IndexFlatIP
    flat = flat(gallery.shape[1])
    flat.add(gallery)
    expected = ours(queries)[1]
    print(
        f"agreement with faiss Flat {recall(flat.search(points, k)[1], expected):.4%}"
    )

    def versus(title, peer, n, goal):
        times = compare(
            lambda: ours(queries[:n]), lambda: peer(points[:n]), repeats=options.repeats
        )
        report(f"float32 in memory against {title}, {n} queries", *times, goal=goal)
        for name, seconds in zip(("ours", title), times, strict=True):
            show(name, seconds, n)

    n = len(queries)
    versus("faiss Flat", lambda q: flat.search(q, k), n, "1.0")
    one_query(
        ours,
        queries,
        points,
        options,
        {
            "faiss Flat": (lambda q: flat.search(q, k), "1.1"),
            "one gemv, the floor": (lambda q: gallery @ q[0], "none"),
        },
    )
    few = min(n, options.few)
    if not euclidean:
        versus("matmul + argpartition", lambda q: numpy_top_k(gallery, q, k), few, "1")
    brute = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(gallery)
    versus("NearestNeighbors(brute)", brute.kneighbors, few, "1")
    print(f"  extra memory: ours {peak_mib(lambda: ours(queries)):.1f} MiB")
    return expected


def against_float32(stores, queries, k, expected, options):
    """Print times, recall and sizes of the other ways to store."""
    base = stores["float32", "memory"]
    for (dtype, where), store in stores.items():
        if store is base:
            continue
        times = compare(
            lambda s=store: top_k(s, queries, k),
            lambda: top_k(base, queries, k),
            repeats=options.repeats,
        )
        title = f"{dtype}, {where}, against float32 in memory"
        report(title, *times, goal="none")
        show(title, times[0], len(queries), top_k(store, queries, k)[1], expected)
        if where == "memory":
            base_only = {"float32": (lambda q: top_k(base, q, k), "none")}
            print(f"{dtype}, {where}:")
            one_query(
                lambda q, s=store: top_k(s, q, k), queries, queries, options, base_only
            )
        if store.folder is not None:
            start = time.perf_counter()
            VectorStore.open(store.folder)
            opened = time.perf_counter() - start
            print(
                f"  {directory_bytes(store.folder) / 2**20:.1f} MiB on disk, opened in "
                f"{1000 * opened:.1f} ms, extra memory "
                f"{peak_mib(lambda s=store: top_k(s, queries, k)):.1f} MiB"
            )


def approximate(store, queries, k, expected, options):
    """Print build time, time and recall of the default index for libraries of 1e6."""
    factory = options.factory or default_factory(max(store.n_rows, 200_000))
    start = time.perf_counter()
    searcher = FaissSearcher(store, factory=factory)
    print(f"faiss {factory}: built in {time.perf_counter() - start:.1f} s")
    for n in (len(queries), 1):
        times = compare(
            lambda n=n: searcher.top_k(queries[:n], k),
            lambda n=n: top_k(store, queries[:n], k),
            repeats=options.repeats,
        )
        report(f"{factory} against exact, {n} queries", *times, goal="none")
        show(factory, times[0], n, searcher.top_k(queries[:n], k)[1], expected[:n])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--components", type=int, default=128)
    parser.add_argument("--queries", type=int, default=1000)
    parser.add_argument("--few", type=int, default=100, help="queries of slow peers")
    parser.add_argument("--neighbors", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--factory", help="of faiss; default as for 200,000 rows")
    parser.add_argument("--index", type=Path, help="folder of an index to search")
    options = parser.parse_args()
    n_threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))
    threadpoolctl.threadpool_limits(n_threads)
    faiss.omp_set_num_threads(n_threads)
    describe_machine("faiss-cpu")
    if options.index:
        blocks, queries, d, metric = stored_blocks(options.index, options.queries)
    else:
        d, metric = options.components, "cosine"
        blocks, queries = make_blocks(options.rows, options.queries, d)
    with tempfile.TemporaryDirectory() as folder:
        stores = fill(blocks, d, metric, Path(folder))
        exact = stores["float32", "memory"]
        k = options.neighbors
        print(f"{exact.n_rows:,} x {d}, {metric}, top {k} of {len(queries)} queries")
        expected = against_peers(
            lambda q: top_k(exact, q, k), exact, queries, k, options
        )
        against_float32(stores, queries, k, expected, options)
        approximate(exact, queries, k, expected, options)


if __name__ == "__main__":
    main()
