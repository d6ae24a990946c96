"""The store of an index and the embedder beside it: made, opened, held together."""

import os
import warnings
from pathlib import Path

import pandas as pd

from sklearn_molge._files.reading import reading
from sklearn_molge._files.signing import check_signed, dump_signed, load_signed
from sklearn_molge.exceptions import (
    CorruptFileError,
    PickledModelWarning,
    UnstorableModelError,
)
from sklearn_molge.library._database import DATABASE
from sklearn_molge.library._file import Source
from sklearn_molge.library._identity import check_description, check_identity
from sklearn_molge.library._libraries import (
    check_libraries,
    check_unfinished,
    is_complete,
)
from sklearn_molge.library._rerank import Cascade
from sklearn_molge.library._store import VectorStore
from sklearn_molge.persistence import load_model, save_model

__all__ = [
    "check_embedder",
    "check_settings",
    "has_embedder",
    "load_embedder",
    "made_with",
    "make_store",
    "open_store",
    "save_embedder",
]

# Model files; and the one pickle of both, where they cannot hold them.
_MODEL, _CANDIDATES = "model.molge", "candidates.molge"
_EMBEDDER = "embedder.pickle"
_INSTEAD = (
    "Give the embedder, MoleculeIndex.open(folder, estimator=...): then this file "
    "is not opened."
)


def check_settings(
    store: VectorStore, *, dtype: str, metric: str, identity: dict
) -> None:
    """Refuse to go on with other parameters than those that the store was made with.

    Raises
    ------
    ValueError
        If an embedder, a precision, a metric or an identity differs.
    """
    where = f"the index in {str(store.folder)!r}" if store.folder else "this index"
    check_identity(store.identity, identity, where)
    for name, own, theirs in (
        ("dtype", dtype, store.dtype),
        ("metric", metric, store.metric),
    ):
        if own != theirs:
            raise ValueError(
                f"{name} must be {theirs!r}, with which {where} was made. Got {own!r}."
            )


def open_store(
    folder: str | os.PathLike, *, trust: bool = False, verify: bool = False
) -> VectorStore:
    """Open the folder of an index, and look at what is told about it; or at all of it.

    Raises
    ------
    FileNotFoundError, ValueError
        If it is none, or damaged.
    """
    store = VectorStore.open(folder)
    path = Path(folder, DATABASE)
    with reading(path, "what the embedder is"):
        check_description(store.identity, store.n_components)
    with reading(path, "which libraries are there"):
        check_libraries(store.progress)
    store.trust = trust
    if verify:
        store.verify()
    return store


def made_with(store: VectorStore) -> dict:
    """Return the parameters that a store was made with, but for the estimators."""
    genes = store.identity["genes"]
    return {
        "genes": None if genes is None else pd.DataFrame(genes),
        "metric": store.metric,
        "dtype": store.dtype,
        "unique_by": store.identity["unique_by"],
    }


def make_store(
    folder: str | os.PathLike | None,
    source: Source,
    *,
    dtype: str,
    metric: str,
    identity: dict,
) -> VectorStore:
    """Make a store for a library, or open the one that holds a part or all of it.

    Raises
    ------
    FileExistsError
        If the folder holds another library, or no index.
    ValueError
        If it was made with other settings, or another library is unfinished there.
    """
    if folder is None or not Path(folder, DATABASE).is_file():
        return VectorStore.create(
            None if folder is None else Path(folder),
            n_components=len(identity["probes"][0]),
            dtype=dtype,
            metric=metric,
            identity=identity,
        )
    store = open_store(folder)
    check_settings(store, dtype=dtype, metric=metric, identity=identity)
    unfinished = check_unfinished(store, source)
    if store.progress and not (unfinished or is_complete(store, source)):
        raise FileExistsError(
            f"folder: {str(folder)!r} holds another library than X. Open it and call "
            "partial_fit to add X, or give another folder."
        )
    return store


# The embedder


def save_embedder(folder: Path, cascade: Cascade) -> None:
    """Write the embedder beside its vectors; a file is whole or not there.

    With what finds its candidates, if that is another one. As model files, which
    everybody can open; else as a signed pickle.

    Warns
    -----
    PickledModelWarning
        If it is a pickle.
    """
    try:
        if cascade.candidates_by is None:
            (folder / _CANDIDATES).unlink(missing_ok=True)
        else:
            save_model(cascade.candidates_by, folder / _CANDIDATES)
        save_model(cascade.estimator, folder / _MODEL)
        (folder / _EMBEDDER).unlink(missing_ok=True)
        return
    except UnstorableModelError as error:
        why = f"{error.part} is {error.what}"
    content = cascade.estimator
    if cascade.candidates_by is not None:
        content = {"estimator": content, "candidates_by": cascade.candidates_by}
    dump_signed(content, folder / _EMBEDDER)
    for name in (_MODEL, _CANDIDATES):
        (folder / name).unlink(missing_ok=True)
    warnings.warn(
        f"{str(folder)!r} keeps its estimator as a pickle, {_EMBEDDER}, since no model "
        f"file can hold it: {why}. On another machine, or for another user, "
        "MoleculeIndex.open needs estimator=..., or trust=True.",
        PickledModelWarning,
        stacklevel=4,
    )


def has_embedder(folder: Path) -> bool:
    """Whether it is there, and a file that can be read: a pipe is waited for."""
    return any((folder / name).is_file() for name in (_MODEL, _EMBEDDER))


def check_embedder(folder: Path) -> None:
    """Compare the file with its checksums; nothing in it is run.

    Raises
    ------
    CorruptFileError
        If it is missing or damaged.
    """
    if (folder / _MODEL).is_file():
        _load_models(folder)
        return
    if not has_embedder(folder):
        raise CorruptFileError(folder / _MODEL, "", "it is missing")
    check_signed(folder / _EMBEDDER)


def load_embedder(folder: Path, *, trust: bool) -> Cascade:
    """Open the embedder; unpickle it only if this installation wrote it, or by trust.

    Raises
    ------
    FileNotFoundError
        If the folder holds none.
    UntrustedFileError
        If it is a pickle that somebody else wrote or changed, and not `trust`.
    CorruptFileError
        If it is cut or damaged, or holds no embedder.
    """
    if not has_embedder(folder):
        raise FileNotFoundError(
            f"There is no file {_MODEL} or {_EMBEDDER} in {str(folder)!r}: give "
            "`estimator`, or fit again."
        )
    path = folder / _MODEL
    if path.is_file():
        cascade = _load_models(folder)
    else:
        path = folder / _EMBEDDER
        loaded = load_signed(path, trust=trust, instead=_INSTEAD)
        parts = {"estimator", "candidates_by"}
        is_pair = isinstance(loaded, dict) and loaded.keys() == parts
        cascade = Cascade(**loaded) if is_pair else Cascade(loaded)
    for each in (cascade.estimator, cascade.embedder):
        if not hasattr(each, "fit"):
            why = f"it holds no embedder but {type(each).__name__}"
            raise CorruptFileError(path, "", why)
    return cascade


def _load_models(folder: Path) -> Cascade:
    candidates = folder / _CANDIDATES
    by = load_model(candidates) if candidates.is_file() else None
    return Cascade(load_model(folder / _MODEL), by)
