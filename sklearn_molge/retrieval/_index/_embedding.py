"""Embedding a library of molecules batch by batch, in any number of processes."""

from collections.abc import Generator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import joblib
import numpy as np
from numpy.typing import NDArray
from sklearn.utils.parallel import Parallel, delayed

from sklearn_molge._utils.parallel import SentOnce, received
from sklearn_molge._utils.views import is_embedder, resolve_views
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import (
    MISSING_SMILES,
    drug_ids,
    parsed_once,
    valid_smiles_mask,
)
from sklearn_molge.retrieval._index._sources import Batch, Source

__all__ = [
    "EmbeddedBatch",
    "embed_library",
    "embed_profiles",
    "identities",
    "probe",
    "two_view",
]

# Their vectors tell one embedder from another.
_PROBES = (
    "CC(=O)Oc1ccccc1C(=O)O",
    "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",
    "ONC(=O)CCCCCCC(=O)Nc1ccccc1",
    "CN1CCN(CC1)Cc1ccc(cc1)C(=O)Nc1ccc(C)c(c1)Nc1nccc(n1)-c1cccnc1",
    "CC(C)Cc1ccc(cc1)C(C)C(=O)O",
    "OCC1OC(O)C(O)C(O)C1O",
    "Clc1ccccc1C1=NCc2nnc(C)n2-c2sccc12",
    "CCN(CC)CCNC(=O)c1ccc(N)cc1",
)
INVALID = "not a valid SMILES"
_NOT_FINITE = "its embedding is not finite"
# So many batches a process may be done ahead of who takes the results.
_AHEAD = 32
# Where so many molecules in a row cannot be embedded, it is not for the molecules.
_ALL_FAIL = 16


@dataclass(frozen=True)
class EmbeddedBatch:
    """What became of a batch of rows of a library.

    Attributes
    ----------
    first_row, n_rows : int
        Which rows of the source these were.
    rows : ndarray of shape (n_kept,), dtype=int64
        Rows of the source that have a vector.
    vectors : ndarray of shape (n_kept, n_components), dtype=float32
    texts, names : ndarray of shape (n_kept,), dtype=object
    ids : ndarray of shape (n_kept,), dtype=object, or None
        By which molecules are told apart; None where all are kept.
    skipped : list of (row, entry, reason)
        Rows of the source that are no molecule or have no finite embedding.
    """

    first_row: int
    n_rows: int
    rows: NDArray[np.int64]
    vectors: NDArray[np.float32]
    texts: NDArray[np.object_]
    names: NDArray[np.object_]
    ids: NDArray[np.object_] | None
    skipped: list[tuple[int, Any, str]]


def two_view(estimator: Any) -> Any:
    """Return the embedder inside `estimator`.

    Raises
    ------
    TypeError
        If it has no joint space: no ``transform`` of molecules or ``transform_ge``.
    """
    inner, _, _ = resolve_views(estimator, None, None)
    if not is_embedder(inner):
        raise TypeError(
            "estimator must embed molecules and profiles in one space (`transform` and "
            f"`transform_ge`), as CCA and CoordinatedEmbedder do. Got {inner!r}, whose "
            "similarities cannot be prepared for a library: rank with "
            "sklearn_molge.metrics.similarity."
        )
    return inner


def embed_profiles(estimator: Any, y: Any) -> NDArray[np.float32]:
    """Lead profiles into the joint space."""
    inner, _, profiles = resolve_views(estimator, None, y)
    vectors = np.asarray(inner.transform_ge(profiles), dtype=np.float32)
    if not np.isfinite(vectors).all():
        bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
        raise ValueError(
            f"y: the embedding of {len(bad)} profiles is not finite, in rows "
            f"{bad[:20].tolist()}."
        )
    return vectors


def _embed(estimator: Any, smiles: NDArray[np.object_]) -> NDArray[np.float32]:
    inner, molecules, _ = resolve_views(estimator, smiles, None)
    return np.asarray(inner.transform(molecules), dtype=np.float32)


def probe(estimator: Any) -> NDArray[np.float32]:
    """Embed a few fixed molecules, by which two embedders can be compared.

    Raises
    ------
    ValueError
        If `estimator` does not take SMILES.
    """
    try:
        return _embed(estimator, np.array(_PROBES, dtype=object))
    except (TypeError, ValueError) as error:
        raise ValueError(
            "estimator must be fitted on SMILES; put what computes features of "
            "molecules into a Pipeline before it. Embedding "
            f"{_PROBES[0]!r} failed with {type(error).__name__}: {error}"
        ) from error


def identities(
    smiles: NDArray[np.object_], unique_by: str | None
) -> NDArray[np.object_] | None:
    """Return what tells molecules apart: "drug", "smiles" (the text) or None."""
    if unique_by is None:
        return None
    return smiles if unique_by == "smiles" else drug_ids(smiles)


def embed_library(
    estimator: Any,
    source: Source,
    *,
    start: int = 0,
    batch_size: int = 4096,
    n_jobs: int | None = None,
    unique_by: str | None = "drug",
) -> Generator[EmbeddedBatch]:
    """Embed the rows of `source` from `start` on.

    Parameters
    ----------
    estimator : estimator
        A fitted embedder. It is sent to each process once.
    source : Source
        It is read as the batches are taken, at most 32 batches a process ahead.
    start : int, default=0
        Row to begin with.
    batch_size : int, default=4096
        Rows of a batch.
    n_jobs : int, default=None
        Processes, on the present backend of joblib.
    unique_by : {"drug", "smiles", None}, default="drug"
        See :func:`identities`; drugs are identified where the molecules are embedded.

    Yields
    ------
    batch : EmbeddedBatch
        In the order of the rows, whatever `n_jobs`.
    """
    batches = source.iter_batches(batch_size, start=start)
    n_workers = joblib.effective_n_jobs(n_jobs)
    if n_workers == 1:
        for batch in batches:
            yield _embed_batch(estimator, batch, unique_by)
        return
    sent = SentOnce(estimator)
    with Parallel(n_jobs=n_jobs, return_as="generator") as parallel:
        for first in batches:
            window = chain([first], islice(batches, _AHEAD * n_workers - 1))
            yield from parallel(
                delayed(_embed_sent)(sent.payload, sent.key, batch, unique_by)
                for batch in window
            )


def _embed_sent(
    payload: NDArray[np.uint8], key: str, batch: Batch, unique_by: str | None
) -> EmbeddedBatch:
    return _embed_batch(received(payload, key), batch, unique_by)


def _embed_batch(estimator: Any, batch: Batch, unique_by: str | None) -> EmbeddedBatch:
    first_row, smiles, names = batch
    try:
        with parsed_once():
            reasons = _unreadable(smiles, parse=unique_by == "drug")
            vectors, kept = embed_valid(estimator, smiles, reasons)
            ids = identities(smiles[kept], unique_by)
    except Exception as error:
        error.add_note(f"while rows {first_row} to {first_row + len(smiles) - 1}")
        raise
    return EmbeddedBatch(
        first_row=first_row,
        n_rows=len(smiles),
        rows=first_row + kept,
        vectors=vectors,
        texts=smiles[kept],
        names=names[kept],
        ids=ids,
        skipped=[(first_row + i, smiles[i], reasons[i]) for i in sorted(reasons)],
    )


def _unreadable(smiles: NDArray[np.object_], *, parse: bool) -> dict[int, str]:
    """Find what is no molecule: all of it, or without parsing what is easily seen."""
    if parse:  # for the identities each molecule has to be read anyway
        valid = valid_smiles_mask(smiles)
    else:
        valid = np.array(
            [
                isinstance(s, str) and s.strip().lower() not in MISSING_SMILES
                for s in smiles
            ]
        )
    return dict.fromkeys(np.flatnonzero(~valid).tolist(), INVALID)


def embed_valid(
    estimator: Any, smiles: NDArray[np.object_], reasons: dict[int, str]
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Embed the entries that are molecules.

    Parameters
    ----------
    estimator : estimator
        The embedder.
    smiles : ndarray of shape (n,), dtype=object
        Entries.
    reasons : dict
        Why entries are left out; more are added here.

    Returns
    -------
    vectors : ndarray of shape (n_kept, n_components)
    kept : ndarray of int
        Which entries these are.
    """
    tried = np.delete(np.arange(len(smiles)), list(reasons))
    errors: list[Exception] = []
    parts = _embed_part(estimator, smiles, tried, reasons, errors)
    if not parts:
        if len(errors) >= _ALL_FAIL:
            raise errors[-1]
        return np.empty((0, 0), dtype=np.float32), tried[:0]
    kept = np.concatenate([rows for rows, _ in parts])
    vectors = np.concatenate([part for _, part in parts])
    finite = np.isfinite(vectors).all(axis=1)
    reasons |= dict.fromkeys(kept[~finite].tolist(), _NOT_FINITE)
    return vectors[finite], kept[finite]


def _embed_part(
    estimator: Any,
    smiles: NDArray[np.object_],
    rows: NDArray[np.intp],
    reasons: dict[int, str],
    errors: list[Exception],
) -> list[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Embed entries; if some cannot be, find out which by halves."""
    if not len(rows):
        return []
    try:
        return [(rows, _embed(estimator, smiles[rows]))]
    except InvalidSmilesError as error:
        if not error.indices:
            raise
        reasons |= dict.fromkeys(rows[error.indices].tolist(), INVALID)
        parts = [np.delete(rows, error.indices)]
    except ValueError as error:
        if len(rows) == 1:
            errors.append(error)
            reasons[int(rows[0])] = f"{type(error).__name__}: {error}"
            return []
        parts = np.array_split(rows, 2)
    return [
        embedded
        for part in parts
        for embedded in _embed_part(estimator, smiles, part, reasons, errors)
    ]
