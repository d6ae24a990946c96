"""Which answers are in the conformal set of their query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._utils.views import resolve_views, step_with, takes_reference
from sklearn_molge.library._embedder import choose_metric
from sklearn_molge.library._queries import Queries
from sklearn_molge.library._search import scores_of, slices
from sklearn_molge.library._searcher import Searcher

__all__ = ["ConformalSets"]

_BLOCK_ROWS = 2**16
# Scores are of single precision, and a tie counts for the molecule.
_ROUNDING = 16 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class ConformalSets:
    """The sets of queries, by their similarities alone.

    Of a query of several profiles nothing is known: single ones calibrate.

    Attributes
    ----------
    coverage : float
        Probability with which a set holds the profile's own molecule.
    columns : dict
        Columns of the table of answers: ``conformal_p``, ``in_set`` and, where every
        molecule of the library has a score, ``set_size``.
    """

    coverage: float
    columns: dict[str, ArrayLike]

    @classmethod
    def find(
        cls, searcher: Searcher, queries: Queries, scores: NDArray
    ) -> ConformalSets | None:
        """Return those of some scores; None where the estimator has none.

        That is so if it is not calibrated, if a similarity depends on the other
        candidates, as that of a standardised vote, or if the scores of the index are no
        similarities of the estimator, but by another metric.
        """
        sure = _calibrated(searcher.own.estimator)
        if sure is None or not _scores_are_similarities(searcher):
            return None
        alone = np.array([len(own) == 1 for own in queries.members], dtype=bool)
        if not alone.any():
            return None
        n_answers = scores.shape[1]
        least = sure.least_similarity()
        least -= _ROUNDING * abs(least) if np.isfinite(least) else 0
        p_values = np.where(
            alone[:, None], sure.predict_p_from_similarity(scores), np.nan
        )
        held = (scores >= least).astype(object)
        held[~alone] = None
        columns: dict[str, ArrayLike] = {
            "conformal_p": p_values.reshape(-1), "in_set": held.reshape(-1)
        }  # fmt: skip
        if not searcher.reranks:
            sizes = np.where(alone, _sizes(searcher, queries, least), np.nan)
            columns["set_size"] = np.repeat(sizes, n_answers)
        return cls(float(sure.coverage), columns)


def _calibrated(estimator: object) -> Any:
    """Return the ConformalRetriever that an estimator is or holds, or None.

    One of a release that did not keep what is needed is none.
    """
    try:
        sure = step_with(estimator, "predict_p_from_similarity", None, None)[0]
    except TypeError:
        return None
    return sure if hasattr(sure, "match_similarities_") else None


def _scores_are_similarities(searcher: Searcher) -> bool:
    if takes_reference(resolve_views(searcher.own.estimator, None, None)[0]):
        return False
    own_metric = choose_metric(searcher.own.embedder, "auto")
    return searcher.reranks or searcher.store.metric == own_metric


def _sizes(searcher: Searcher, queries: Queries, least: float) -> NDArray[np.int64]:
    """Return how many molecules of the library are in each set."""
    store = searcher.store
    rows = np.arange(store.n_rows)
    rows = rows if store.active is None else rows[store.active]
    sizes = np.zeros(len(queries), dtype=np.int64)
    for part in slices(len(rows), _BLOCK_ROWS):
        scores = scores_of(store, queries.vectors, rows[part])
        sizes += np.count_nonzero(scores >= least, axis=1)
    return sizes
