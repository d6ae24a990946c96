"""Top-k search in a store of vectors, against faiss, scikit-learn and plain numpy.

Unit vectors around 1,000 centres, or the vectors of an index in a folder; queries are
rows of their own, or rows of the index with noise. All peers have the same number of
threads; torch is not imported, whose OpenMP slows faiss.
"""

import importlib.util
import tempfile
import time
from pathlib import Path

import numpy as np
from _timing import compare, missing
from sklearn.neighbors import NearestNeighbors

# Private, because an index takes molecules: a million made-up vectors have none.
from sklearn_molge.library._search import slices, top_k
from sklearn_molge.library._store import VectorStore

SMOKE = {"rows": 3000, "components": 8, "queries": 12, "few": 4, "neighbors": 3}
STEP = 65_536


def add_arguments(parser):
    add = parser.add_argument
    add("--rows", type=int, default=100_000)
    add("--components", type=int, default=128)
    add("--queries", type=int, default=1000)
    add("--few", type=int, default=100, help="queries of slow peers")
    add("--neighbors", type=int, default=10)
    add("--factory", help="of faiss; default as for 200,000 rows")
    add("--index", type=Path, help="folder of an index to search")


def make_blocks(n_rows, n_queries, d):
    """Return a generator of blocks of rows, and queries around the same centres."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(1000, d)).astype(np.float32)

    def draw(n):
        noise = rng.normal(scale=0.5, size=(n, d)).astype(np.float32)
        rows = centres[rng.integers(0, len(centres), n)] + noise
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    queries = draw(n_queries)
    return (draw(min(STEP, n_rows - i)) for i in range(0, n_rows, STEP)), queries


def stored_blocks(folder, n_queries):
    """Return the rows of a float32 index on disk, and queries: some with noise."""
    store = VectorStore.open(folder)
    rng = np.random.default_rng(0)
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
    stores = {
        (dtype, where): VectorStore.create(
            folder / dtype if where == "mapped" else None,
            n_components=d, dtype=dtype, metric=metric, identity={},
        )
        for dtype in ("float32", "float16", "int8")
        for where in ("memory", "mapped")
    }  # fmt: skip
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
    pairs = zip(rows, expected, strict=True)
    return float(np.mean([np.isin(a, b).mean() for a, b in pairs]))


def against_peers(exact, queries, sizes, options):
    """Yield the records of the float32 store in memory beside each peer."""
    k = options.neighbors
    gallery = exact.stored(slice(0, exact.n_rows))  # not copied
    points = exact.to_stored(queries)
    euclidean = exact.metric == "euclidean"
    n, few = len(queries), min(len(queries), options.few)

    def versus(against, peer, n, goal=None, **more):
        return compare(
            f"exact, float32, {n:,} queries", lambda: top_k(exact, queries[:n], k),
            lambda: peer(points[:n]), options, against=against, sizes=sizes, goal=goal,
            **more,
        )  # fmt: skip

    def one_by_one(against, peer, goal=None):
        rows = list(slices(few, 1))
        return compare(
            f"exact, float32, {few:,} single queries",
            lambda: [top_k(exact, queries[row], k) for row in rows],
            lambda: [peer(points[row]) for row in rows], options,
            against=against, sizes=sizes, goal=goal,
        )  # fmt: skip

    if without := missing("exact, float32", "faiss", "faiss Flat"):
        yield without
    else:
        import faiss

        faiss.omp_set_num_threads(options.threads)
        flat = (faiss.IndexFlatL2 if euclidean else faiss.IndexFlatIP)(gallery.shape[1])
        flat.add(gallery)
        same = recall(flat.search(points, k)[1], top_k(exact, queries, k)[1])
        yield versus("faiss Flat", lambda q: flat.search(q, k), n, 1.0, recall=same)
        yield one_by_one("faiss Flat", lambda q: flat.search(q, k), 1.1)
    yield one_by_one("one product, the floor", lambda q: gallery @ q[0])
    if not euclidean:
        peer = "matmul and argpartition"
        yield versus(peer, lambda q: numpy_top_k(gallery, q, k), few, 1.0)
    brute = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(gallery)
    yield versus("scikit-learn's NearestNeighbors(brute)", brute.kneighbors, few, 1.0)


def against_float32(stores, queries, sizes, options):
    """Yield the records of the other ways to store: times, recall, sizes on disk."""
    base, k = stores["float32", "memory"], options.neighbors
    expected = top_k(base, queries, k)[1]
    for (dtype, where), store in stores.items():
        if store is base:
            continue
        more = {"recall": recall(top_k(store, queries, k)[1], expected)}
        if store.folder is not None:
            files = Path(store.folder).iterdir()
            more["disk_mib"] = sum(file.stat().st_size for file in files) / 2**20
            start = time.perf_counter()
            VectorStore.open(store.folder)
            more["open_ms"] = 1000 * (time.perf_counter() - start)
        for n in (len(queries), 1):
            yield compare(
                f"{dtype}, {where}, {n:,} queries",
                lambda s=store, n=n: top_k(s, queries[:n], k),
                lambda n=n: top_k(base, queries[:n], k), options,
                against="exact, float32", sizes=sizes, **(more if n > 1 else {}),
            )  # fmt: skip


def approximate(exact, queries, sizes, options):
    """Yield build time, time and recall of the default index for libraries of 1e6."""
    if importlib.util.find_spec("faiss") is None:
        yield missing("approximate", "faiss", "exact, float32")
        return
    from sklearn_molge.library._faiss import FaissSearcher, default_factory

    k = options.neighbors
    factory = options.factory or default_factory(max(exact.n_rows, 200_000))
    if options.smoke:
        factory = "IVF16,SQ8"
    start = time.perf_counter()
    searcher = FaissSearcher(exact, factory=factory)
    built = time.perf_counter() - start
    expected = top_k(exact, queries, k)[1]
    for n in (len(queries), 1):
        yield compare(
            f"{factory}, rescored, {n:,} queries",
            lambda n=n: searcher.top_k(queries[:n], k),
            lambda n=n: top_k(exact, queries[:n], k), options,
            against="exact, float32", sizes=sizes, build_s=built,
            recall=recall(searcher.top_k(queries[:n], k)[1], expected[:n]),
        )  # fmt: skip


def run(options):
    if options.index:
        blocks, queries, d, metric = stored_blocks(options.index, options.queries)
    else:
        d, metric = options.components, "cosine"
        blocks, queries = make_blocks(options.rows, options.queries, d)
    with tempfile.TemporaryDirectory() as folder:
        stores = fill(blocks, d, metric, Path(folder))
        exact = stores["float32", "memory"]
        sizes = {"rows": exact.n_rows, "components": d, "neighbors": options.neighbors}
        return [
            *against_peers(exact, queries, sizes, options),
            *against_float32(stores, queries, sizes, options),
            *approximate(exact, queries, sizes, options),
        ]
