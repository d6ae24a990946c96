"""Which molecules are ranked, and which of them is each query's own."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import column_or_1d

from sklearn_molge.molecules._smiles import drug_ids


def identify_drugs(X, drugs, codes: NDArray) -> NDArray:
    """Identity of each row's molecule: as given, from SMILES, or equal features."""
    if drugs is None:
        return drug_ids(X) if is_text(X) else codes
    drugs = column_or_1d(np.asarray(drugs, dtype=object))
    check_consistent_length(X, drugs)
    missing = np.flatnonzero(pd.isna(drugs))
    if missing.size:
        raise ValueError(
            "drugs must name the molecule of every row. "
            f"Missing in rows {missing[:20].tolist()}."
        )
    return drugs.astype(str).astype(object)


def equal_row_codes(X) -> NDArray[np.intp]:
    """Give equal rows one number; the numbers do not depend on the rows' order."""
    if is_text(X):
        text = np.asarray(X, dtype=object).reshape(X.shape[0]).astype(str)
        return np.unique(text, return_inverse=True)[1]
    if X.ndim != 2:
        raise ValueError(
            "X must be a 1-D array-like of SMILES or a 2-D array-like of features. "
            f"Got an array of shape {X.shape} and dtype {X.dtype}."
        )
    return distinct_rows(X)[1]


def is_text(X) -> bool:
    """Whether X is one column of text: SMILES, not features."""
    if sparse.issparse(X):
        return False
    array = np.asarray(X)
    one_column = array.ndim == 1 or array.shape[1:] == (1,)
    return one_column and (array.dtype == object or array.dtype.kind in "US")


def molecule_keys(X) -> NDArray[np.object_]:
    """Keys by which two arrays of molecules can be compared.

    A key is the drug's identity for SMILES and the bytes of the row for features.
    """
    if is_text(X):
        return drug_ids(X)
    dense = X if sparse.issparse(X) else np.asarray(X, dtype=np.float64)
    return _row_bytes(dense)


def distinct_rows(X) -> tuple[NDArray, NDArray]:
    """Positions of the first of each distinct row, and each row's number."""
    keys = _row_bytes(X) if sparse.issparse(X) else _row_voids(X)
    _, first, codes = np.unique(keys, return_index=True, return_inverse=True)
    return first, codes


def _row_voids(X) -> NDArray[np.void]:
    rows = _without_negative_zero(X)
    return rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]


def _without_negative_zero(X) -> NDArray:
    return np.ascontiguousarray(X) + 0  # equal numbers get equal bytes


def _row_bytes(X) -> NDArray[np.object_]:
    keys = np.empty(X.shape[0], dtype=object)
    if sparse.issparse(X):
        X = sparse.csr_array(X, copy=True)
        X.sum_duplicates()
        X.eliminate_zeros()
        indices = np.split(X.indices, X.indptr[1:-1])
        values = np.split(X.data, X.indptr[1:-1])
        keys[:] = [
            i.astype(np.int64).tobytes() + v.astype(np.float64).tobytes()
            for i, v in zip(indices, values, strict=True)
        ]
    else:
        keys[:] = [row.tobytes() for row in _without_negative_zero(X)]
    return keys


def one_row_per_drug(drugs, texts, candidates) -> tuple[NDArray, NDArray]:
    """Return the distinct drugs, sorted, and for each the row that stands for it."""
    order = np.lexsort((texts, np.unique(drugs, return_inverse=True)[1]))
    gallery, start = np.unique(drugs[order], return_index=True)
    rows = order[start]
    if candidates is None:
        return gallery, rows
    wanted = np.unique(np.asarray(candidates, dtype=object).astype(gallery.dtype))
    unknown = wanted[~np.isin(wanted, gallery)]
    if unknown.size:
        raise ValueError(
            "candidates must be drugs of X. "
            f"Got {unknown.size} that are not, first: {unknown[:5].tolist()}."
        )
    keep = np.isin(gallery, wanted)
    return gallery[keep], rows[keep]


def check_queries(queries, n_samples: int) -> NDArray[np.intp]:
    if queries is None:
        return np.arange(n_samples)
    chosen = column_or_1d(np.asarray(queries))
    if chosen.dtype == bool:
        check_consistent_length(chosen, np.empty(n_samples))
        chosen = np.flatnonzero(chosen)
    if chosen.size == 0 or chosen.dtype.kind not in "iu":
        raise ValueError(
            "queries must be a non-empty array of row positions or a mask of rows. "
            f"Got {queries!r}."
        )
    return np.arange(n_samples)[chosen]


def match_positions(query_drugs: NDArray, gallery: NDArray) -> NDArray[np.intp]:
    missing = ~np.isin(query_drugs, gallery)
    if missing.any():
        raise ValueError(
            "candidates must hold the drug of every query. Missing: "
            f"{np.unique(query_drugs[missing])[:5].tolist()}."
        )
    return np.searchsorted(gallery, query_drugs)
