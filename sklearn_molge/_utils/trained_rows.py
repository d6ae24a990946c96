"""What an estimator was fitted on, in 8 bytes a row."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sklearn_molge._utils.rows import is_text, row_batches, row_texts
from sklearn_molge._utils.typing import Rows

__all__ = ["TRAINED_ROWS", "TrainedRows", "hash_rows"]

# The attribute of a fitted two-view estimator that holds them.
TRAINED_ROWS = "_trained_rows"
# Steps of the largest value: two ways to compute a row may differ by rounding.
_N_STEPS = 2**12
# So many genes tell profiles apart.
_N_GENES = 64
# Fewer genes may be above 0 by chance.
_N_GENES_OF_A_SCALE = 20
_MANY = 0.25

Hashes = NDArray[np.uint64]


def hash_rows(rows, scale: float = _N_STEPS) -> Hashes:
    """Hash each row of text or numbers, the same in every process.

    Numbers are rounded to steps of `scale` / 4096, by default of 1, which is exact for
    counts. Zeros do not count, so that dense and sparse rows are equal.
    """
    if not sparse.issparse(rows):
        rows = np.asarray(rows)
        if is_text(rows) or rows.dtype.kind not in "biuf":
            # As bytes, of half a surrogate pair too; pandas would end a text at NUL.
            texts = (t.encode("utf-8", "surrogatepass") for t in row_texts(rows))
            coded = np.fromiter(texts, dtype=object, count=len(rows))
            return pd.util.hash_array(coded, categorize=False)
        rows = rows.reshape(len(rows), -1)
    n_columns = rows.shape[1]
    weights = np.random.RandomState(0).randint(2**64, size=n_columns, dtype=np.uint64)
    if sparse.issparse(rows):
        rows = sparse.csr_array(rows)
        steps = _as_steps(rows.data, scale)
        whole = sparse.csr_array((steps, rows.indices, rows.indptr), shape=rows.shape)
        return _mixed(whole @ weights)
    hashes = np.empty(len(rows), dtype=np.uint64)
    for part in row_batches(len(rows), max(n_columns, 1)):
        hashes[part] = _as_steps(rows[part], scale) @ weights
    return _mixed(hashes)


def _mixed(sums: Hashes) -> Hashes:
    """Let rows that differ by one value have hashes in any order (splitmix64)."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        sums = (sums ^ (sums >> np.uint64(shift))) * np.uint64(factor)
    return sums ^ (sums >> np.uint64(31))


def _as_steps(values: NDArray, scale: float) -> NDArray[np.uint64]:
    if values.dtype.kind == "f" or scale != _N_STEPS:
        values = np.rint(values / scale * _N_STEPS)
    with np.errstate(invalid="ignore"):  # NaN becomes some number, too
        return values.astype(np.int64).view(np.uint64)


@dataclass(frozen=True)
class _RowKeys:
    """The distinct rows of an array, by sorted hashes."""

    scale: float
    hashes: Hashes

    @classmethod
    def of(cls, rows: Rows) -> "_RowKeys":
        scale = _scale(rows)
        return cls(scale, np.unique(hash_rows(rows, scale)))

    def hold(self, rows: Rows) -> NDArray[np.bool_]:
        return np.isin(hash_rows(rows, self.scale), self.hashes)

    def extended(self, rows: Rows) -> "_RowKeys":
        more = hash_rows(rows, self.scale)
        return _RowKeys(self.scale, np.union1d(self.hashes, more))


def _scale(rows) -> float:
    values = rows.data if sparse.issparse(rows) else np.asarray(rows)
    if values.dtype.kind == "f" and values.size:
        largest = float(max(values.max(), -values.min()))
        if 0 < largest < np.inf:
            return largest
    return _N_STEPS


@dataclass(frozen=True)
class TrainedRows:
    """Molecules and profiles that an estimator was fitted on.

    Attributes
    ----------
    molecules, profiles : _RowKeys
        Their rows. Of profiles, some genes.
    by_text : bool
        Whether molecules are known by their SMILES, or by their features, which
        different molecules may share.
    signed : bool
        Whether profiles have values below 0, as z-scores have.
    """

    molecules: _RowKeys
    profiles: _RowKeys
    by_text: bool
    signed: bool

    @classmethod
    def of(cls, X: Rows, y: ArrayLike) -> "TrainedRows":
        X = sparse.csr_array(X) if sparse.issparse(X) else np.asarray(X)
        genes = _some_genes(y)
        signed = bool((genes < 0).any())
        return cls(_RowKeys.of(X), _RowKeys.of(genes), is_text(X), signed)

    def extended(self, X: Rows, y: ArrayLike) -> "TrainedRows":
        """Return these and further rows."""
        X = X if sparse.issparse(X) else np.asarray(X)
        return TrainedRows(
            self.molecules.extended(X),
            self.profiles.extended(_some_genes(y)),
            self.by_text,
            self.signed,
        )

    def scale_differs(self, y: NDArray) -> bool:
        """Whether a profile has all values above 0, and those of the fit did not.

        Or many below 0, where those of the fit had none.
        """
        if y.shape[1] < _N_GENES_OF_A_SCALE:
            return False
        if self.signed:
            return bool((y.min(axis=1) > 0).any())
        return bool(((y < 0).mean(axis=1) > _MANY).any())

    def hold_molecules(self, X: Rows) -> NDArray[np.bool_]:
        """Return which molecules it was fitted on."""
        return self.molecules.hold(X)

    def hold_profiles(self, y: ArrayLike) -> NDArray[np.bool_]:
        """Return which profiles it was fitted on."""
        return self.profiles.hold(_some_genes(y))


def _some_genes(y) -> NDArray:
    array = np.asarray(y.X if hasattr(y, "var_names") else y)  # of AnnData
    array = array.reshape(len(array), -1)
    if array.dtype.kind not in "biuf":  # as the estimator has read them
        array = array.astype(np.float64)
    return array[:, :: 1 + array.shape[1] // _N_GENES]
