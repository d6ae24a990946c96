"""The molecules closest to queries, found by faiss: fast, not always all of them."""

import hmac
import json
import warnings
from hashlib import file_digest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replace_bytes, replacing
from sklearn_molge._files.signing import signature
from sklearn_molge._utils.optional import import_optional
from sklearn_molge.exceptions import CorruptFileError, LibraryWarning
from sklearn_molge.library._search import (
    RowComparison,
    check_query_vectors,
    slices,
    top_k,
)
from sklearn_molge.library._store import VectorStore

__all__ = ["FaissSearcher", "default_factory", "read_description"]

_FLAT_ROWS = 200_000  # below, comparing all is as fast
_ADDED = 65_536  # rows that are handed to faiss at a time
_TRAINED = 64  # rows a list; faiss asks for 39
_MOST_TRAINED = 100_000  # of an index without lists
_OUTGROWN = 4  # times the rows that the lists were made for
_MOST_QUERIES = 4096  # at a time
_INDEX, _DESCRIPTION = "index.faiss", "index.faiss.json"
_MOST_DESCRIBED = 1 << 16  # bytes; the longest text in it is a factory of faiss
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

    faiss believes what a file says, so its description is signed by the installation
    that wrote it, and has a checksum of it. One that is damaged is built anew; one that
    another installation wrote is left as it is, and built again in memory, unless the
    store says `trust`. Both are said, and so is a folder that cannot be written to.

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
        self._is_saved = store.folder is not None
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
        good = (found >= 0) & (found < self.store.n_rows)
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
        if self._is_saved and self.store.folder is not None:
            _save(self.store.folder, self._index, self._description())

    def _description(self) -> dict[str, Any]:
        return {
            "store": self.store.key,
            "factory": self.factory,
            "n_trained": self._n_trained,
            "n_rows": 0 if self._index is None else self._index.ntotal,
        }

    def _load(self) -> None:
        _import_faiss()
        if self.store.folder is None:
            return
        path = self.store.folder / _INDEX
        try:
            description, is_ours = read_description(self.store.folder)
            if description is None:
                return
            if not (is_ours or self.store.trust):
                self._is_saved = False
                why = (
                    "was not written by this installation, or was changed since, and "
                    "faiss believes what it reads. It stays as it is, and another is "
                    "built in memory; open(..., trust=True) reads it, if you trust "
                    "whoever wrote it"
                )
                warnings.warn(f"{path} {why}.", LibraryWarning, stacklevel=2)
                return
            self._n_trained = description["n_trained"]
            expected = {**self._description(), "n_rows": description["n_rows"]}
            if description != expected:  # of another store, or built in another way
                self._n_trained = 0
                return
            with reading(path):
                index = _import_faiss().read_index(str(path))
                found = {"components": index.d, "rows": index.ntotal}
                told = self.store.n_components, description["n_rows"]
                if tuple(found.values()) != told:
                    raise ValueError(f"it has {found}")
            self._index = index
            self._set_parameters()
        except (CorruptFileError, OSError) as error:
            self._n_trained = 0
            why = f"{error} It is built anew."
            warnings.warn(why, LibraryWarning, stacklevel=2)

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
    path = folder / _INDEX
    try:
        with replacing(path) as draft:
            _import_faiss().write_index(index, str(draft))
            with open(draft, "rb") as file:
                digest = file_digest(file, "sha256").hexdigest()
            # Without its description a file does not count.
            (folder / _DESCRIPTION).unlink(missing_ok=True)
        told = json.dumps({**description, "digest": digest})
        content = {"index": told, "signature": _signature(told)}
        replace_bytes(folder / _DESCRIPTION, json.dumps(content).encode())
    except (OSError, RuntimeError) as error:  # faiss's, which names no kind
        warnings.warn(
            f"{path} could not be written ({error}): the index of faiss is kept in "
            "memory alone, and built again by the next process.",
            LibraryWarning,
            stacklevel=2,
        )


def _signature(told: str) -> str:
    return signature(told.encode(), purpose="index of faiss")


def read_description(folder: Path) -> tuple[dict[str, Any] | None, bool]:
    """Return what describes the index of faiss, and whether this installation wrote it.

    None where there is no index of faiss, or it is not there whole after a kill.

    Raises
    ------
    CorruptFileError
        If one of both files is damaged.
    """
    path, described = folder / _INDEX, folder / _DESCRIPTION
    if not (path.is_file() and described.is_file()):
        return None, False
    with reading(described):
        with open(described, "rb") as file:
            content = json.loads(file.read(_MOST_DESCRIBED))
        told = str(content["index"])
        is_ours = hmac.compare_digest(
            _signature(told).encode(), str(content["signature"]).encode()
        )
        description = json.loads(told)
        digest = description.pop("digest")
        if not all(type(description[name]) is int for name in ("n_trained", "n_rows")):
            raise ValueError("numbers of rows must be whole")
    with reading(path), open(path, "rb") as file:
        if file_digest(file, "sha256").hexdigest() != digest:
            raise CorruptFileError(path, "", "its checksum is another")
    return description, is_ours
