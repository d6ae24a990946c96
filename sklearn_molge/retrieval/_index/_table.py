"""The answer to a query as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rdkit import Chem

from sklearn_molge._utils.drawing import draw_molecule
from sklearn_molge.molecules import drug_ids
from sklearn_molge.retrieval._index._background import Background

if TYPE_CHECKING:
    from sklearn_molge.retrieval._index._store import VectorStore

__all__ = ["answer_table"]

# Pixels of a picture, and its look: no bond is longer than this, no letter smaller.
_SIZE = (300, 200)
_OPTIONS = {"fixedBondLength": 26.0, "minFontSize": 8, "clearBackground": False}


def answer_table(
    store: VectorStore,
    scores: NDArray[np.float32],
    rows: NDArray[np.intp],
    *,
    labels: Any = None,
    background: Background | None = None,
    reverse: bool = False,
    ids_are_drugs: bool = True,
    pictures: bool = False,
) -> pd.DataFrame:
    """Make a table of what `top_k` returned, one row an answer.

    Parameters
    ----------
    store : VectorStore
    scores, rows : ndarray of shape (n_queries, n_answers)
    labels : array-like of shape (n_queries,), default=None
        Names of the queries; their numbers by default.
    background : Background, default=None
        Gives `percentile` where it knows profiles, and the columns of the training
        set where it knows that.
    reverse : bool, default=False
        Whether the lowest similarities were asked for.
    ids_are_drugs : bool, default=True
        Whether the store's ids are :func:`~sklearn_molge.molecules.drug_ids`;
        otherwise these are computed.
    pictures : bool, default=False
        Add `structure`.

    Returns
    -------
    table : DataFrame of n_queries * n_answers rows
        ``query``, ``rank`` (from 1), ``molecule`` (SMILES), ``name``, ``drug``
        (identity), ``score``; ``percentile`` in percent; ``nearest_training``
        (SMILES), ``nearest_similarity`` (Tanimoto) and ``in_training``; ``row`` (in
        the index); ``structure`` (SVG text). What is not known is no column. Its
        ``attrs`` hold "metric" and "reverse".
    """
    n_queries, n_answers = rows.shape
    labels = np.arange(n_queries) if labels is None else np.asarray(labels)
    flat = rows.reshape(-1)
    molecules = store.texts(flat)
    drugs = store.ids(flat) if ids_are_drugs else drug_ids(molecules)
    columns = {
        "query": np.repeat(labels, n_answers),
        "rank": np.tile(np.arange(1, n_answers + 1), n_queries),
        "molecule": molecules,
        "name": store.names(flat),
        "drug": drugs,
        "score": scores.reshape(-1),
    }
    if background is not None and background.knows_profiles:
        percentiles = background.percentiles(store, scores, rows, reverse=reverse)
        columns["percentile"] = percentiles.reshape(-1)
    if background is not None and background.knows_training:
        columns |= _training_columns(background, molecules, drugs)
    columns["row"] = flat
    if pictures:
        columns["structure"] = _structures(molecules)
    table = pd.DataFrame(columns)
    table.attrs |= {"metric": store.metric, "reverse": reverse}
    return table


def _training_columns(
    background: Background, molecules: NDArray[np.object_], drugs: NDArray[np.object_]
) -> dict[str, NDArray]:
    similarity, nearest = background.nearest_training(molecules)
    return {
        "nearest_training": background.smiles[nearest],
        "nearest_similarity": similarity,
        "in_training": np.isin(drugs, background.drugs),
    }


def _structures(molecules: NDArray[np.object_]) -> NDArray[np.object_]:
    """Draw each distinct molecule once, as SVG."""
    drawn = {
        smiles: draw_molecule(
            Chem.MolFromSmiles(smiles), size=_SIZE, form="svg", options=_OPTIONS
        )
        for smiles in dict.fromkeys(molecules.tolist())
    }
    out = np.empty(len(molecules), dtype=object)
    out[:] = [drawn[smiles] for smiles in molecules]
    return out
