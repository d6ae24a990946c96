"""The folder of an index: whose it is, and the embedder beside the vectors."""

import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from sklearn.utils.validation import check_is_fitted

from sklearn_molge.retrieval._index._building import is_complete, unfinished_start
from sklearn_molge.retrieval._index._embedding import probe, two_view
from sklearn_molge.retrieval._index._manifest import has_manifest
from sklearn_molge.retrieval._index._sources import Source
from sklearn_molge.retrieval._index._store import STORED_METRICS, VectorStore

__all__ = [
    "check_identity",
    "choose_metric",
    "describe_index",
    "load_embedder",
    "make_store",
    "save_embedder",
]

_FILE = "embedder.joblib"
# Rounding differs between machines; another embedder differs by far more.
_TOLERANCE = 1e-3


def choose_metric(estimator: Any, metric: str) -> str:
    """Return the metric of an index; "auto" is that of its embedder."""
    chosen = two_view(estimator).metric if metric == "auto" else metric
    if chosen not in STORED_METRICS:
        raise ValueError(
            f"metric must be one of {list(STORED_METRICS)}. Got {chosen!r}, the metric "
            "of the embedder; name another one."
        )
    return chosen


def make_store(
    path: Any, source: Source, *, dtype: str, metric: str, identity: dict[str, Any]
) -> VectorStore:
    """Make a store for a library, or open the one that holds a part or all of it.

    Raises
    ------
    FileExistsError
        If the folder holds another library, or no index.
    ValueError
        If it was made with other settings, or another library is unfinished there.
    """
    if path is None or not has_manifest(Path(path)):
        return VectorStore.create(
            None if path is None else Path(path),
            n_components=len(identity["probes"][0]),
            dtype=dtype,
            metric=metric,
            identity=identity,
        )
    store = VectorStore.open(Path(path), writable=True)
    check_identity(store.identity, identity, path)
    for name, own, theirs in (
        ("dtype", dtype, store.dtype),
        ("metric", metric, store.metric),
    ):
        if own != theirs:
            raise ValueError(
                f"{name} must be {theirs!r}, with which the index in {str(path)!r} was "
                f"made. Got {own!r}."
            )
    unfinished = unfinished_start(store, source) is not None
    if store.note and not (unfinished or is_complete(store, source)):
        raise FileExistsError(
            f"path: {str(path)!r} holds another library than X. Open it and call "
            "partial_fit to add X, or give another path."
        )
    return store


def describe_index(estimator: Any, unique_by: str | None) -> dict[str, Any]:
    """Return what tells this index from another, as JSON.

    Raises
    ------
    NotFittedError, ValueError
        If `estimator` is not fitted, or does not take SMILES.
    """
    check_is_fitted(estimator)
    return {"unique_by": unique_by, "probes": probe(estimator).tolist()}


def check_identity(theirs: dict[str, Any], ours: dict[str, Any], path: Any) -> None:
    """Refuse an index of another embedder.

    Raises
    ------
    ValueError
        If the embedders place the probe molecules elsewhere, or molecules are told
        apart in another way.
    """
    if theirs["unique_by"] != ours["unique_by"]:
        raise ValueError(
            f"unique_by must be {theirs['unique_by']!r}, with which the index in "
            f"{str(path)!r} was made. Got {ours['unique_by']!r}."
        )
    there, here = np.array(theirs["probes"]), np.array(ours["probes"])
    same = there.shape == here.shape and np.allclose(
        there, here, rtol=_TOLERANCE, atol=_TOLERANCE * np.abs(there).max(initial=0)
    )
    if not same:
        raise ValueError(
            f"estimator must be the embedder that made the index in {str(path)!r}. Got "
            "one that leads the same molecules to other places."
        )


def save_embedder(folder: Path, estimator: Any) -> None:
    """Write the embedder beside its vectors; the file is whole or not there."""
    partial = folder / f"{_FILE}.part"
    joblib.dump(estimator, partial)
    os.replace(partial, folder / _FILE)


def load_embedder(folder: Path) -> Any:
    """Read the embedder, which runs the code that its pickle names.

    Raises
    ------
    FileNotFoundError
        If the folder holds none.
    """
    path = folder / _FILE
    if not path.exists():
        raise FileNotFoundError(
            f"There is no {_FILE} in {str(folder)!r}: give `estimator`, or fit again."
        )
    return joblib.load(path)
