"""Embeddings on a plane, by one reducer for all rows."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.metrics import pairwise_distances
from sklearn.utils import check_array, check_random_state

from sklearn_molge._compat import HasMethods, StrOptions, validate_params
from sklearn_molge._utils.optional import import_optional
from sklearn_molge._utils.rows import standardize_rows

__all__ = ["latent_map"]

_N_NEIGHBORS = 15  # UMAP's default
_FEW_ROWS = 4096  # UMAP compares all pairs of less
_MIN_ROWS = 5


@validate_params(
    {
        "embeddings": ["array-like", "sparse matrix"],
        "reducer": [
            StrOptions({"auto", "umap", "pca"}),
            HasMethods(["fit_transform"]),
            HasMethods(["fit", "transform"]),
        ],
        "fit_rows": ["array-like", None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def latent_map(
    embeddings: ArrayLike,
    *,
    reducer: object = "auto",
    fit_rows: ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> pd.DataFrame:
    """Project embeddings onto a plane, by one reducer fitted once for all rows.

    Parts of the rows, as training and test molecules, are comparable only on one
    map: give all rows in one call, and take the parts from what it returns. (The maps
    in the paper's code come from one fit per part.)

    Parameters
    ----------
    embeddings : array-like or sparse matrix of shape (n_samples, n_features)
        Molecules or profiles.
    reducer : {"auto", "umap", "pca"} or transformer, default="auto"
        "umap" needs the extra "umap" and takes its defaults; "auto" is "umap" where
        that is installed and "pca" elsewhere, as the names of the columns say. Both
        see the correlation between rows: each row is centred and scaled to unit
        length first, and a constant row becomes zero. A transformer with two outputs
        is cloned and sees `embeddings` as they are.
    fit_rows : array-like of int or bool, default=None
        Rows, or a mask of rows, that the reducer is fitted on; the others are projected
        onto the same map by its ``transform``. All by default.
    random_state : int, RandomState instance or None, default=None
        Seed of "umap" and "pca"; pass an int for the same map each time.

    Returns
    -------
    coordinates : DataFrame of shape (n_samples, 2)
        Columns "UMAP 1" and "UMAP 2", or the like, without a unit.

    Raises
    ------
    ValueError
        If a value is NaN or infinite, `fit_rows` names fewer than 5 rows or one
        twice, or the reducer does not return two columns.
    ImportError
        If ``reducer="umap"`` and umap-learn is not installed.

    See Also
    --------
    LatentMapDisplay : Draws it.
    same_class_neighbors : What a map suggests, as a number.

    Notes
    -----
    Distances between far points of a UMAP mean nothing, and clusters appear in noise:
    judge by numbers in the whole space, not by the map.

    References
    ----------
    McInnes, Healy and Melville (2018), "UMAP: Uniform Manifold Approximation and
    Projection for Dimension Reduction", arXiv:1802.03426.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.inspection import latent_map
    >>> embeddings = np.random.default_rng(0).normal(size=(30, 8))
    >>> train = np.arange(20)
    >>> latent_map(embeddings, reducer="pca", fit_rows=train, random_state=0).shape
    (30, 2)
    """
    array = check_array(embeddings, accept_sparse="csr", input_name="embeddings")
    rows = _fit_rows(fit_rows, array.shape[0])
    if isinstance(reducer, str):
        dense = array.toarray() if sparse.issparse(array) else array
        array = standardize_rows(check_array(dense, dtype=[np.float64, np.float32]))
        model, name = _named_reducer(reducer, array, rows, random_state)
    else:
        model, name = clone(reducer), type(reducer).__name__
    coordinates = _fit_once(model, array, rows)
    if coordinates.shape != (array.shape[0], 2):
        raise ValueError(
            "reducer must return 2 columns. Got an array of shape "
            f"{coordinates.shape} from {reducer!r}."
        )
    return pd.DataFrame(coordinates, columns=[f"{name} 1", f"{name} 2"])


def _fit_rows(fit_rows: ArrayLike | None, n: int) -> NDArray[np.intp]:
    chosen = np.arange(n) if fit_rows is None else np.asarray(fit_rows)
    try:
        rows = np.arange(n)[chosen]
    except IndexError as error:
        raise ValueError(
            f"fit_rows must hold positions in the {n} rows, or be a mask of them: "
            f"{error}."
        ) from error
    n_distinct = len(np.unique(rows))
    if rows.ndim != 1 or n_distinct < max(_MIN_ROWS, len(rows)):
        raise ValueError(
            f"A map must be fitted on at least {_MIN_ROWS} rows, each once. "
            f"Got fit_rows of shape {chosen.shape} with {n_distinct} distinct rows."
        )
    return rows


def _named_reducer(name, array, rows, random_state):
    """Return the reducer and what its axes are called."""
    seed = int(check_random_state(random_state).randint(2**31 - 1))
    if name != "pca":
        try:
            umap = _import_umap()
        except ImportError:
            if name == "umap":
                raise
        else:
            k = min(_N_NEIGHBORS, len(rows) - 1)
            # On unit rows cosine is correlation; more jobs give no fixed result.
            options = {"metric": "cosine", "random_state": seed, "n_jobs": 1}
            if len(rows) == len(array) < _FEW_ROWS:  # no others, who need a search
                neighbors = _neighbors(array[rows], k, umap.distances.cosine)
                options["precomputed_knn"] = neighbors
            return umap.UMAP(n_neighbors=k, **options), "UMAP"
    return PCA(2, random_state=seed), "PCA"


def _neighbors(array, k, metric):
    """Return the nearest rows and their distances, in order, as UMAP does.

    What UMAP sorts them by is compiled anew in each process, for seconds.
    """
    distances = pairwise_distances(array.astype(np.float32), metric=metric)
    nearest = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return nearest.astype(np.int32), np.take_along_axis(distances, nearest, axis=1)


def _import_umap():
    with warnings.catch_warnings():
        # It warns that its variant for tensorflow is not there.
        warnings.simplefilter("ignore", ImportWarning)
        needed_by = 'latent_map with reducer="umap"'
        return import_optional("umap", extra="umap", needed_by=needed_by)


def _fit_once(model, array, rows: NDArray[np.intp]) -> NDArray:
    """Fit on some rows, and put the others on the same map."""
    n = array.shape[0]
    if not hasattr(model, "fit_transform"):
        return np.asarray(model.fit(array[rows], None).transform(array))
    with warnings.catch_warnings():
        # UMAP says that it could not place other rows, where there are none.
        warnings.filterwarnings("ignore", r"precomputed_knn\[2\]", UserWarning)
        fitted = np.asarray(model.fit_transform(array[rows]))
    others = np.setdiff1d(np.arange(n), rows)
    coordinates = np.empty((n, *fitted.shape[1:]), dtype=fitted.dtype)
    coordinates[rows] = fitted
    if others.size:
        coordinates[others] = np.asarray(model.transform(array[others]))
    return coordinates
