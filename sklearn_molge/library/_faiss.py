"""The molecules closest to queries, found by faiss: fast, not always all of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_molge._files.replacing import replace_bytes, replacing
from sklearn_molge._utils.optional import import_optional
from sklearn_molge.library._search import (
    RowComparison,
    check_query_vectors,
    slices,
    top_k,
)
from sklearn_molge.library._store import VectorStore

__all__ = ["FaissSearcher", "default_factory"]

_FLAT_ROWS = 200_000  # below, comparing all is as fast
_ADDED = 65_536  # rows that are handed to faiss at a time
_TRAINED = 64  # rows a list; faiss asks for 39
_MOST_TRAINED = 100_000  # of an index without lists
_OUTGROWN = 4  # times the rows that the lists were made for
_MOST_QUERIES = 4096  # at a time
_INDEX, _DESCRIPTION = "index.faiss", "index.faiss.json"
_WIDENED = (1, 4, 16)  # times as many rows, where too few are left


def default_factory(n_rows: int) -> str:
    """Return what is built for so many rows, in the words of ``index_factory``."""
    if n_rows < _FLAT_ROWS:
        return "Flat"
    return f"IVF{4 * int(np.sqrt(n_rows))},SQ8"


class FaissSearcher:
    """An index of faiss over the rows of a store, kept beside it.

    In the folder of a store it is saved as ``index.faiss``, and read again if it was
    built in the same way over rows of this store. Rows that were appended since are
    added; by default it is built anew once there are four times as many as it was
    trained for. It finds candidates, more than asked for; the store's own rows then
    give their scores and their order, so both are those of the exact search.

    `factory` and `parameters` are `faiss_factory` and `faiss_parameters` of
    ``MoleculeIndex``.
    """

    def __init__(
        self,
        store: VectorStore,
        *,
        factory: str | None = None,
        parameters: dict[str, float] | None = None,
    ):
        self.store = store
        self.factory = factory
        self.parameters = parameters
        self._index: Any = None
        self._n_trained = 0
        self._update()

    @property
    def made_with(self) -> tuple:
        """What it depends on: another store or other parameters need another one."""
        return self.store, self.factory, self.parameters

    def top_k(
        self, queries: NDArray, k: int, *, reverse: bool = False
    ) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
        """Find the `k` best rows of each query, as :func:`_search.top_k` does.

        Queries for which faiss finds too few rows that are not removed are answered by
        the exact search.
        """
        if reverse and self.store.metric == "euclidean":
            raise ValueError(
                "reverse=True needs backend='exact' where metric='euclidean': faiss "
                "finds the nearest vectors, not the farthest."
            )
        queries = check_query_vectors(self.store, queries)
        self._update()
        scores = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.intp)
        for part in slices(len(queries), _MOST_QUERIES) if k else ():
            scores[part], rows[part] = self._part(queries[part], k, reverse)
        return scores, rows

    def _part(self, queries, k: int, reverse: bool) -> tuple[NDArray, NDArray]:
        scores = np.empty((len(queries), k), dtype=np.float32)
        rows = np.empty((len(queries), k), dtype=np.intp)
        left = np.arange(len(queries))
        for wider in _WIDENED:
            comparison = RowComparison(self.store, queries[left], reverse=reverse)
            n_found = min(self.store.n_rows, wider * (2 * k + 16))
            points = np.float32(comparison.sign) * comparison.points
            found = self._index.search(points, n_found)[1]
            keys = self._keys(comparison, found)
            enough = np.count_nonzero(keys > -np.inf, axis=1) >= k
            order = np.lexsort((found[enough], -keys[enough]), axis=1)[:, :k]
            best = np.take_along_axis(keys[enough], order, axis=1)
            scores[left[enough]] = comparison.sign * best
            rows[left[enough]] = np.take_along_axis(found[enough], order, axis=1)
            left = left[~enough]
            if not left.size or n_found == self.store.n_rows:
                break
        if left.size:
            scores[left], rows[left] = top_k(
                self.store, queries[left], k, reverse=reverse
            )
        return scores, rows

    def _keys(self, comparison: RowComparison, found: NDArray) -> NDArray:
        """Return true keys; minus infinity where nothing was found or is left."""
        good = found >= 0
        if self.store.active is not None:
            good &= self.store.active[np.maximum(found, 0)]
        keys = np.full(found.shape, -np.inf)
        keys[good] = comparison.exact(np.nonzero(good)[0], found[good])
        return keys

    # Building

    def _update(self) -> None:
        """Read, build or extend the index, so that it holds all rows."""
        n_rows = self.store.n_rows
        if self._index is None:
            self._load()
        outgrown = self.factory is None and n_rows > _OUTGROWN * self._n_trained
        if self._index is None or self._index.ntotal > n_rows or outgrown:
            self._index = self._trained()
            self._n_trained = n_rows
            self._set_parameters()
        start = self._index.ntotal
        if start == n_rows:
            return
        for rows in slices(n_rows - start, _ADDED):
            self._index.add(
                self.store.stored(slice(start + rows.start, start + rows.stop))
            )
        if self.store.folder is not None:
            _save(self.store.folder, self._index, self._description())

    def _description(self) -> dict[str, Any]:
        return {
            "store": self.store.key,
            "factory": self.factory,
            "n_trained": self._n_trained,
            "n_rows": self._index.ntotal,
        }

    def _load(self) -> None:
        _import_faiss()
        if self.store.folder is None:
            return
        index, description = _load(self.store.folder)
        if index is None:
            return
        self._index, self._n_trained = index, description.get("n_trained", 0)
        if description != self._description() or index.d != self.store.n_components:
            self._index, self._n_trained = None, 0
            return
        self._set_parameters()

    def _trained(self) -> Any:
        faiss = _import_faiss()
        n_rows, d = self.store.n_rows, self.store.n_components
        factory = self.factory or default_factory(n_rows)
        euclidean = self.store.metric == "euclidean"
        metric = faiss.METRIC_L2 if euclidean else faiss.METRIC_INNER_PRODUCT
        try:
            index = faiss.index_factory(d, factory, metric)
        except RuntimeError as error:
            raise ValueError(
                "faiss_factory must be what faiss.index_factory knows, for vectors of "
                f"{d} components. Got {factory!r}: {error}"
            ) from error
        if not index.is_trained:
            lists = faiss.try_extract_index_ivf(index)
            if lists is not None:
                lists.cp.niter = 10  # more change little
            most = _MOST_TRAINED if lists is None else _TRAINED * lists.nlist
            rng = np.random.default_rng(0)  # of its own: the same index every time
            chosen = rng.permutation(n_rows)[:most]
            try:
                index.train(self.store.stored(np.sort(chosen)))
            except RuntimeError as error:
                raise ValueError(
                    f"faiss_factory={factory!r} cannot be trained with {n_rows} "
                    f"molecules: {error}"
                ) from error
        return index

    def _set_parameters(self) -> None:
        faiss = _import_faiss()
        lists = faiss.try_extract_index_ivf(self._index)
        if lists is not None:
            lists.nprobe = min(lists.nlist, int(np.ceil(2 * np.sqrt(lists.nlist))))
        for name, value in (self.parameters or {}).items():
            try:
                faiss.ParameterSpace().set_index_parameter(self._index, name, value)
            except RuntimeError as error:
                raise ValueError(
                    f"parameters must be those of {type(self._index).__name__}. "
                    f"Got {name!r}: {error}"
                ) from error

    def __getstate__(self) -> dict:
        state = vars(self) | {"_index": None}
        if self.store.folder is None:
            faiss = _import_faiss()
            state["_bytes"] = faiss.serialize_index(self._index)
        return state

    def __setstate__(self, state: dict) -> None:
        data = state.pop("_bytes", None)
        self.__dict__.update(state)
        if data is not None:
            self._index = _import_faiss().deserialize_index(data)
            self._set_parameters()


def _import_faiss() -> Any:
    return import_optional("faiss", extra="faiss", needed_by="backend='faiss'")


def _save(folder: Path, index: Any, description: dict[str, Any]) -> None:
    """Put an index in the place of another; a kill leaves one of both, or none."""
    with replacing(folder / _INDEX) as draft:
        _import_faiss().write_index(index, str(draft))
        # Without its description a file does not count.
        (folder / _DESCRIPTION).unlink(missing_ok=True)
    content = {**description, "n_bytes": (folder / _INDEX).stat().st_size}
    replace_bytes(folder / _DESCRIPTION, json.dumps(content).encode())


def _load(folder: Path) -> tuple[Any, dict[str, Any]]:
    """Read an index and its description; None where it is not there whole."""
    path = folder / _INDEX
    try:
        description = json.loads((folder / _DESCRIPTION).read_bytes())
        whole = path.stat().st_size == description.pop("n_bytes")
    except (FileNotFoundError, ValueError, KeyError):
        return None, {}
    if not whole:
        return None, {}
    return _import_faiss().read_index(str(path)), description
