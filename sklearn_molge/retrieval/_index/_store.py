"""Vectors of molecules with their texts, names and ids; in memory or in a folder."""

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_molge.retrieval._index import _manifest
from sklearn_molge.retrieval._index._columns import TextColumn
from sklearn_molge.retrieval._index._layout import Layout, Written
from sklearn_molge.retrieval._index._lookup import IdLookup
from sklearn_molge.retrieval._index._precision import STORED_DTYPES, prepare, rotate

__all__ = ["VectorStore", "prepare"]

STORED_METRICS = ("correlation", "cosine", "dot", "euclidean")


class VectorStore:
    """Rows that are appended, never changed, and marked when they are removed.

    Made by :meth:`create` or :meth:`open`. In a folder every column is a file that
    grows, and the manifest says how much of each counts: it is replaced when all else
    is on the disk, so a killed write leaves the index as it was before. Any number of
    processes may read, also while one writes; they see the rows of the moment at which
    they opened it. One may write at a time, and is told if another did.

    Attributes
    ----------
    path : Path or None
    n_components : int
    dtype : {"float32", "float16", "int8"}
    metric : {"correlation", "cosine", "dot", "euclidean"}
    identity : dict
        What the embedder is.
    key : str
        Tells this store from all others, whatever is appended to it.
    note : dict or None
        What the last write said about itself.
    largest_norm : float
        Of all rows as they are stored, removed ones included.
    """

    def __init__(self, path: Path | None, settings: dict, *, writable: bool):
        self.path = path
        self.writable = writable
        self.key: str = settings["key"]
        self.n_components: int = settings["n_components"]
        self.dtype: str = settings["dtype"]
        self.metric: str = settings["metric"]
        self.identity: dict = settings["identity"]
        self._layout = Layout(path, self.n_components, self.dtype, self.metric)
        self._active: NDArray[np.bool_] | None = None
        self._lookup = IdLookup()
        self._take(settings)

    @classmethod
    def create(
        cls,
        path: Path | None,
        *,
        n_components: int,
        dtype: str,
        metric: str,
        identity: dict,
    ) -> "VectorStore":
        """Make an empty store, in memory or in a new folder.

        Raises
        ------
        FileExistsError
            If `path` holds anything.
        ValueError
            If an argument is not one of those allowed.
        """
        _check_choice("dtype", dtype, STORED_DTYPES)
        _check_choice("metric", metric, STORED_METRICS)
        if n_components < 1:
            raise ValueError(f"n_components must be at least 1. Got {n_components}.")
        settings = {
            "format": _manifest.FORMAT,
            "version": _manifest.VERSION,
            "key": uuid.uuid4().hex,
            "n_components": int(n_components),
            "dtype": dtype,
            "metric": metric,
            "identity": json.loads(json.dumps(identity)),
            "note": None,
            "has_ids": None,
            "largest_norm": 0.0,
            "n_rows": 0,
            "files": {},
        }
        if path is not None:
            path = Path(path).absolute()
            _manifest.refuse_used(path)
            path.mkdir(parents=True, exist_ok=True)
            _manifest.write_manifest(path, settings)
        return cls(path, settings, writable=True)

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> "VectorStore":
        """Open a folder by memory map; no row is read.

        Raises
        ------
        FileNotFoundError, ValueError
            If it is not the folder of an index, or one of its files is missing, cut
            or damaged.
        """
        path = Path(path).absolute()
        settings = _manifest.read_manifest(path)
        _manifest.check_files(path, settings["files"])
        return cls(path, settings, writable=writable)

    def _take(self, settings: dict) -> None:
        """Let what a manifest names count."""
        self._layout.commit(settings)
        self._settings = settings
        self._active = None

    @property
    def note(self) -> dict | None:
        return self._settings["note"]

    @property
    def largest_norm(self) -> float:
        return self._settings["largest_norm"]

    @property
    def n_rows(self) -> int:
        return self._settings["n_rows"]

    @property
    def n_active(self) -> int:
        return self.n_rows - self._layout.removed.n_rows

    @property
    def nbytes(self) -> int:
        """Bytes of all columns, as they count."""
        return sum(column.nbytes for column in self._layout.columns())

    @property
    def active(self) -> NDArray[np.bool_] | None:
        """Which rows are not removed; None where all are there."""
        if self._layout.removed.n_rows and self._active is None:
            self._active = np.ones(self.n_rows, dtype=bool)
            self._active[self._layout.removed.view()] = False
        return self._active

    # Writing

    def append(
        self,
        vectors: NDArray,
        texts: NDArray[np.object_],
        names: NDArray[np.object_],
        ids: NDArray[np.object_] | None,
        *,
        note: dict | None = None,
    ) -> None:
        """Add rows; in a folder they are durable when this returns, or not there.

        Parameters
        ----------
        vectors : ndarray of shape (n, n_components)
            As embedded.
        texts, names : ndarray of str of shape (n,)
        ids : ndarray of str of shape (n,) or None
            None: the texts are the ids, and are not stored twice.
        note : dict, default=None
            Takes the place of the store's; None leaves that as it is.

        Raises
        ------
        TypeError, ValueError
            If anything is not as described; nothing is written then.
        """
        vectors = np.asarray(vectors)
        self._check_rows(vectors, texts, names, ids)
        if not len(vectors):
            if note is not None:
                self.write_note(note)
            return
        written, largest = self._layout.encode(vectors)
        written |= self._layout.texts.encode(texts)
        written |= self._layout.names.encode(names)
        if ids is not None:
            written |= self._layout.ids.encode(ids)
        self._write(
            written,
            n_rows=self.n_rows + len(vectors),
            has_ids=ids is not None,
            largest_norm=max(largest, self.largest_norm),
            **({} if note is None else {"note": note}),
        )

    def write_note(self, note: dict | None) -> None:
        """Replace the note."""
        self._write({}, note=note)

    def remove(self, rows: NDArray[np.intp]) -> None:
        """Mark rows as removed; their numbers stay taken.

        Raises
        ------
        ValueError
            If there is no such row.
        """
        rows = np.unique(np.asarray(rows, dtype=np.int64))
        wrong = rows[(rows < 0) | (rows >= self.n_rows)]
        if wrong.size:
            raise ValueError(
                f"rows must be from 0 to {self.n_rows - 1}. Got {wrong[:20].tolist()}."
            )
        if self.active is not None:
            rows = rows[self.active[rows]]
        if rows.size:
            self._write({self._layout.removed: rows})

    def _check_rows(self, vectors, texts, names, ids) -> None:
        if vectors.ndim != 2 or vectors.shape[1] != self.n_components:
            raise ValueError(
                f"vectors must be of shape (n, {self.n_components}). "
                f"Got {vectors.shape}."
            )
        for name, column in (("texts", texts), ("names", names), ("ids", ids)):
            if column is not None and len(column) != len(vectors):
                raise ValueError(
                    f"{name} must have one entry a vector, {len(vectors)}. "
                    f"Got {len(column)}."
                )
        has_ids = self._settings["has_ids"]
        if len(vectors) and has_ids is not None and has_ids != (ids is not None):
            raise ValueError(
                f"ids must be given {'always' if has_ids else 'never'}, as with the "
                "first rows of this store."
            )

    def _write(self, written: Written, **changes: Any) -> None:
        """Write the data, then the manifest, then let it count here."""
        if not self.writable:
            raise ValueError(
                f"{self.path} was opened for reading; open it with writable=True."
            )
        settings = self._settings | {"files": self._layout.sizes(written)} | changes
        settings = json.loads(json.dumps(settings))  # plain values, in memory as well
        if self.path is None:
            for column, rows in written.items():
                column.write(rows)
        else:
            with _manifest.one_writer(self.path, self._settings):
                for column, rows in written.items():
                    column.write(rows)
                _manifest.write_manifest(self.path, settings)
        self._take(settings)

    # Reading

    def stored(
        self, rows: slice | NDArray[np.intp], out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return rows in the space of :meth:`to_stored`, as they lie or in `out`."""
        return self._layout.decode(rows, out)

    def to_stored(self, vectors: NDArray) -> NDArray[np.float32]:
        """Lead vectors, as embedded, to where inner products with rows are taken."""
        rows = prepare(vectors, self.metric)
        return rotate(rows) if self.dtype == "int8" else rows

    def prepared(self, rows: slice) -> NDArray[np.float32]:
        """Return rows as `prepare` made them, within the precision of the store."""
        stored = self.stored(rows)
        return rotate(stored, back=True) if self.dtype == "int8" else stored

    def extra(self, rows: slice) -> NDArray[np.float32] | None:
        """Return what a metric needs besides: the squared lengths for "euclidean"."""
        return self._layout.norms.view()[rows] if self.metric == "euclidean" else None

    def texts(self, rows: NDArray[np.intp]) -> NDArray[np.object_]:
        return self._layout.texts.get(self._positions(rows))

    def names(self, rows: NDArray[np.intp]) -> NDArray[np.object_]:
        return self._layout.names.get(self._positions(rows))

    def ids(self, rows: NDArray[np.intp]) -> NDArray[np.object_]:
        return self._id_column().get(self._positions(rows))

    def all_ids(self) -> NDArray[np.object_]:
        """Return the ids of all rows, removed ones included."""
        return self.ids(np.arange(self.n_rows))

    def find(self, id_: str) -> NDArray[np.intp]:
        """Return the rows that have this id and are not removed."""
        rows = self._lookup.find(self._id_column(), id_)
        return rows if self.active is None else rows[self.active[rows]]

    def _id_column(self) -> TextColumn:
        layout = self._layout
        return layout.ids if self._settings["has_ids"] else layout.texts

    def _positions(self, rows: Any) -> NDArray[np.intp]:
        rows = np.asarray(rows, dtype=np.intp)
        if rows.size and not (0 <= rows.min() and rows.max() < self.n_rows):
            raise IndexError(
                f"rows must be from 0 to {self.n_rows - 1}. Got {rows.min()} to "
                f"{rows.max()}."
            )
        return rows

    def __getstate__(self) -> dict:
        """Hand on the path of a folder, or all of what is in memory."""
        if self.path is not None:
            return {"path": self.path}
        return vars(self) | {"_lookup": IdLookup(), "_active": None}

    def __setstate__(self, state: dict) -> None:
        if set(state) == {"path"}:
            state = vars(VectorStore.open(state["path"]))
        self.__dict__.update(state)


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {list(allowed)}. Got {value!r}.")
