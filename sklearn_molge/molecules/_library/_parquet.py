"""Libraries in Parquet, read by row group."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sklearn_molge.molecules._library._columns import Column, find_columns

__all__ = ["ParquetTable"]

_ROWS_AT_ONCE = 16_384


class ParquetTable:
    """Two columns of a Parquet file."""

    def __init__(self, path: Path, smiles: Column, name: Column):
        self.path = path
        with self._open() as file:
            columns = file.schema_arrow.names
            self.n_rows = file.metadata.num_rows
        smiles_at, name_at = find_columns(path, columns, smiles, name)
        self.smiles = columns[smiles_at]
        self.name = None if name_at is None else columns[name_at]

    def _open(self) -> Any:
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise ImportError(
                f"{self.path}: a Parquet file needs pyarrow: "
                'pip install "sklearn-molge[parquet]"'
            ) from error
        return pyarrow.parquet.ParquetFile(self.path)

    def rows(self, start: int) -> Iterator[tuple[str, str]]:
        """Yield SMILES and name of each row, from row `start` on."""
        wanted = list({self.smiles, self.name} - {None})
        with self._open() as file:
            sizes = [
                file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)
            ]
            ends = np.cumsum(sizes)
            first = int(np.searchsorted(ends, start, side="right"))
            skip = start - int(ends[first - 1]) if first else start
            groups = list(range(first, len(sizes)))
            for part in file.iter_batches(_ROWS_AT_ONCE, groups, wanted):
                rest = part.slice(min(skip, len(part)))
                skip -= len(part) - len(rest)
                smiles = _texts(rest.column(self.smiles))
                names = [""] * len(smiles)
                if self.name is not None:
                    names = _texts(rest.column(self.name))
                yield from zip(smiles, names, strict=True)


def _texts(column: Any) -> list[str]:
    return ["" if value is None else str(value) for value in column.to_pylist()]
