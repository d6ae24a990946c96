"""Which columns a store has, and what a batch of rows puts into each."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_molge.retrieval._index._columns import ArrayColumn, TextColumn
from sklearn_molge.retrieval._index._precision import (
    Encoded,
    decode,
    encode,
    prepare,
    rotate,
)

__all__ = ["Layout", "Written"]

Written = dict[ArrayColumn, NDArray]


class Layout:
    """The columns of a store.

    ``scales`` are of int8 alone, ``norms`` (squared lengths) of "euclidean" alone, and
    ``ids`` stay empty where the texts are the ids.

    Parameters
    ----------
    folder : Path or None
    n_components : int
    dtype : {"float32", "float16", "int8"}
    metric : {"correlation", "cosine", "dot", "euclidean"}
    """

    def __init__(self, folder: Path | None, n_components: int, dtype: str, metric: str):
        self.dtype = dtype
        self.metric = metric
        self.vectors = ArrayColumn("vectors", dtype, n_components, folder)
        self.scales = ArrayColumn("scales", np.float32, None, folder)
        self.norms = ArrayColumn("norms", np.float32, None, folder)
        self.removed = ArrayColumn("removed", np.int64, None, folder)
        self.texts = TextColumn("texts", folder)
        self.names = TextColumn("names", folder)
        self.ids = TextColumn("ids", folder)

    def columns(self) -> list[ArrayColumn]:
        texts = (self.texts, self.names, self.ids)
        parts = [part for text in texts for part in (text.bytes, text.ends)]
        return [self.vectors, self.scales, self.norms, self.removed, *parts]

    def encode(self, vectors: NDArray) -> tuple[Written, float]:
        """Turn embedded rows into stored ones; return the largest length as well."""
        rows = prepare(vectors, self.metric)
        if self.dtype == "int8":
            rows = rotate(rows)
        encoded = encode(rows, self.dtype)
        decoded = decode(encoded, np.empty(rows.shape, np.float32))
        squares = np.square(decoded, dtype=np.float64).sum(axis=1)
        written = {self.vectors: encoded.vectors}
        if encoded.scales is not None:
            written[self.scales] = encoded.scales
        if self.metric == "euclidean":
            written[self.norms] = squares
        return written, float(np.sqrt(squares.max()))

    def decode(
        self, rows: slice | NDArray[np.intp], out: NDArray[np.float32] | None
    ) -> NDArray[np.float32]:
        """Return stored rows in float32: as they lie, or in `out`."""
        vectors = self.vectors.view()[rows]
        scales = self.scales.view()[rows] if self.dtype == "int8" else None
        if out is None:
            out = np.empty(vectors.shape, dtype=np.float32)
        return decode(Encoded(vectors, scales), out[: len(vectors)])

    def sizes(self, written: Written) -> dict[str, int]:
        """Bytes of each file, once `written` counts."""
        return {
            column.file_name: column.nbytes
            + len(written.get(column, ())) * column.row_bytes
            for column in self.columns()
        }

    def commit(self, settings: dict[str, Any]) -> None:
        """Let what a manifest names count.

        Raises
        ------
        ValueError
            If its numbers do not fit each other.
        """
        files, n_rows = settings["files"], settings["n_rows"]
        full = {self.vectors, self.texts.ends, self.names.ends}
        full |= {self.scales} if self.dtype == "int8" else set()
        full |= {self.norms} if self.metric == "euclidean" else set()
        full |= {self.ids.ends} if settings["has_ids"] else set()
        for column in self.columns():
            found, rest = divmod(files.get(column.file_name, 0), column.row_bytes)
            if rest or (column in full and found != n_rows):
                raise ValueError(
                    f"The manifest is damaged: {files.get(column.file_name, 0)} bytes "
                    f"of {column.file_name} are not {n_rows} rows of "
                    f"{column.row_bytes} bytes."
                )
            column.commit(found)
