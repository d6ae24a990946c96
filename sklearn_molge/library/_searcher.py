"""What answers profiles: a store of vectors, and the retriever that they are of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sklearn_molge._utils.messages import first_few, first_few_at
from sklearn_molge._utils.views import resolve_views, step_with, takes_reference
from sklearn_molge.library._answers import Background, Null, scores_in_space
from sklearn_molge.library._embedder import (
    align_queries,
    choose_metric,
    embed_profiles,
    with_gene_names,
)
from sklearn_molge.library._identity import check_unchanged
from sklearn_molge.library._queries import Queries, with_sign_turned
from sklearn_molge.library._rerank import Cascade, reranked
from sklearn_molge.library._search import mid_ranks, scores_of, slices
from sklearn_molge.library._store import VectorStore
from sklearn_molge.molecules import drug_ids

__all__ = ["Searcher"]

_BLOCK_ROWS = 2**16
_ROUNDING = 16 * float(np.finfo(np.float32).eps)


@dataclass(frozen=True, eq=False)
class Searcher:
    """Finds candidates in the joint space, and scores them again where that is asked.

    Attributes
    ----------
    store : VectorStore
        The library.
    own : Cascade
        The retriever, and the embedder that the vectors are of.
    reranks : bool
        Whether candidates are scored by the retriever.
    reverses_by_sign : bool
        Whether what reverses profiles is what mimics those with their sign turned.
    n_candidates : int
        How many candidates, at most.
    search : callable
        Takes vectors, how many rows are sought and `reverse`, and returns scores and
        rows in the joint space, as :func:`_search.top_k` does.
    """

    store: VectorStore
    own: Cascade
    reranks: bool
    reverses_by_sign: bool
    n_candidates: int
    search: Callable[..., tuple[NDArray, NDArray]]

    def read(self, y):
        """Return profiles in the order of the embedder's genes, and their names."""
        check_unchanged(self.own, self.store.identity)
        genes = self.store.identity["genes"]
        genes = None if genes is None else pd.DataFrame(genes)
        aligned = align_queries(self.own.estimator, genes, y)
        frames = [rows for rows in (y, aligned) if isinstance(rows, pd.DataFrame)]
        return aligned, frames[0].index if frames else None

    def embed(self, y) -> NDArray[np.float32]:
        """Project profiles into the joint space."""
        return embed_profiles(self.own.embedder, y, self.store)

    def ask(self, y, groups, reverse=False) -> tuple[Queries, bool]:
        """Return what is asked, and whether for the least similar molecules.

        The reverse of a score that is more than a place in a joint space is that of the
        profiles with their sign turned.
        """
        y, names = self.read(y)
        turned = bool(reverse) and self.reverses_by_sign
        y = with_sign_turned(y) if turned else y
        queries = Queries.make(y, names, groups, self.embed)
        queries.check_directions(self.store)
        return queries, bool(reverse) and not turned

    def known(self, background: Background | None, queries: Queries):
        """Return the background, if it has profiles to compare queries with."""
        if background is None or background.profiles is None:
            return None
        n_columns, n_genes = background.profiles.shape[1], queries.n_genes
        if self.reranks and n_columns != n_genes:
            raise ValueError(
                f"The background of this index has {n_columns} numbers a profile, and "
                f"the estimator, which scores candidates, takes {n_genes} genes: an "
                "earlier version has kept places in the joint space. Call calibrate "
                "again, with the profiles of the background."
            )
        return background

    def permuted(self, queries: Queries, n_permutations, random_state):
        """Return a generator of the profiles of each query, with permuted genes."""
        return (
            [with_gene_names(self.own.estimator, y) for y in profiles]
            for profiles in queries.permuted(n_permutations, random_state)
        )

    def null(self, permuted, rows, *, level, reverse) -> Null:
        """Compare queries with their permutations, by the score that orders answers."""
        if self.reranks:
            scores = self.own.with_permuted(self.store, permuted, rows)
        else:
            points = (
                np.stack([self.embed(y) for y in profiles]).mean(axis=0)
                for profiles in permuted
            )
            scores = scores_in_space(self.store, points, rows)
        return Null.make(scores, n_queries=len(rows), level=level, reverse=reverse)

    def compare(self, profiles, rows):
        """Score the profiles of the background with rows, as answers are scored."""
        if not self.reranks:
            return scores_of(self.store, profiles, rows)
        profiles = with_gene_names(self.own.estimator, profiles)
        return self.own.compare(self.store, profiles, rows)

    def conformal_sets(self, queries: Queries, scores: NDArray) -> dict[str, NDArray]:
        """Return columns of the answers with these scores: what conformal sets say.

        ``conformal_p``, ``in_set`` and, where every molecule of the library has a
        score, ``set_size``. None, if the estimator is not calibrated, if a similarity
        depends on the other candidates, as that of a standardised vote, or if the
        scores are by another metric than the estimator's. Of a query of several
        profiles nothing is known, since single ones calibrate.
        """
        sure = self.calibrated
        alone = np.array([len(own) == 1 for own in queries.members], dtype=bool)
        if sure is None or not alone.any():
            return {}
        least = sure.least_similarity()
        # Scores are of single precision, and a tie counts for the molecule.
        least -= _ROUNDING * abs(least) if np.isfinite(least) else 0
        p_values = sure.predict_p_from_similarity(scores)
        held = (scores >= least).astype(object)
        p_values[~alone], held[~alone] = np.nan, None
        columns = {"conformal_p": p_values.reshape(-1), "in_set": held.reshape(-1)}
        if not self.reranks:
            sizes = np.where(alone, self._sizes(queries, least), np.nan)
            columns["set_size"] = np.repeat(sizes, scores.shape[1])
        return columns

    @property
    def calibrated(self) -> Any:
        """The ConformalRetriever whose similarities the scores are, or None.

        One of a release that did not keep what is needed is none.
        """
        estimator = self.own.estimator
        try:
            sure = step_with(estimator, "predict_p_from_similarity", None, None)[0]
        except TypeError:
            return None
        own_metric = choose_metric(self.own.embedder, "auto")
        are_similarities = self.reranks or self.store.metric == own_metric
        depends = takes_reference(resolve_views(estimator, None, None)[0])
        known = hasattr(sure, "match_similarities_")
        return sure if known and are_similarities and not depends else None

    def _sizes(self, queries: Queries, least: float) -> NDArray[np.int64]:
        """Return how many molecules of the library score so much with each query."""
        rows = np.arange(self.store.n_rows)
        rows = rows if self.store.active is None else rows[self.store.active]
        sizes = np.zeros(len(queries), dtype=np.int64)
        for part in slices(len(rows), _BLOCK_ROWS):
            scores = scores_of(self.store, queries.vectors, rows[part])
            sizes += np.count_nonzero(scores >= least, axis=1)
        return sizes

    def top_k(self, queries: Queries, n_neighbors, reverse, among=None):
        """Return scores and rows, best first, and the scores in the joint space.

        These are None where they are the scores. `among` are the only rows that count.
        """
        n_active = self.check_not_empty()
        if among is not None:
            return self._top_among(queries, n_neighbors, reverse, among)
        n_candidates = min(self.n_candidates, n_active) if self.reranks else n_active
        is_int = isinstance(n_neighbors, Integral) and n_neighbors is not True
        if not (is_int and 1 <= n_neighbors <= n_candidates):
            what = "molecules in the index"
            if n_candidates < n_active:
                what = "candidates that the estimator scores (n_candidates)"
            raise ValueError(
                f"n_neighbors must be an int from 1 to {n_candidates:,}, the number of "
                f"{what}. Got {n_neighbors!r}."
            )
        if not self.reranks:
            k = int(n_neighbors)
            return *self.search(queries.vectors, k, reverse=reverse), None
        found, rows = self.search(queries.vectors, n_candidates, reverse=False)
        scores = self.own.score(self.store, queries, rows)
        order = np.lexsort((rows, -scores), axis=1)
        best = order[:, :n_neighbors]
        return [np.take_along_axis(a, best, axis=1) for a in (scores, rows, found)]

    def _top_among(self, queries: Queries, n_neighbors, reverse, among: ArrayLike):
        rows = np.unique(self.check_rows(among))
        if self.store.active is not None:
            rows = rows[self.store.active[rows]]
        is_int = isinstance(n_neighbors, Integral) and n_neighbors is not True
        if not (is_int and 1 <= n_neighbors <= len(rows)):
            raise ValueError(
                f"n_neighbors must be an int from 1 to {len(rows):,}, the number of "
                f"molecules in `among`. Got {n_neighbors!r}."
            )
        found = scores_of(self.store, queries.vectors, rows)
        k = max(self.n_candidates, n_neighbors) if self.reranks else n_neighbors
        best = np.argsort(found if reverse else -found, axis=1, kind="stable")[:, :k]
        found, own = np.take_along_axis(found, best, axis=1), rows[best]
        if not self.reranks:
            return found, own, None
        scores = self.own.score(self.store, queries, own)
        best = np.lexsort((own, -scores), axis=1)[:, :n_neighbors]
        return [np.take_along_axis(a, best, axis=1) for a in (scores, own, found)]

    def check_not_empty(self):
        """Return how many molecules there are."""
        if not self.store.n_active:
            raise ValueError(
                "The index has no molecule that can be found: all of its "
                f"{self.store.n_rows:,} rows are removed, or its library is not "
                "embedded yet."
            )
        return self.store.n_active

    def rank(self, queries: Queries, own: list[NDArray[np.intp]], *, reverse):
        """Rank each query's own rows, of which the best one counts."""
        ranks = mid_ranks(self.store, queries.vectors, own, reverse=reverse)
        if not self.reranks:
            return ranks
        n_candidates = min(self.n_candidates, self.store.n_active)
        scores, rows, _ = self.top_k(queries, n_candidates, reverse)
        return reranked(ranks, scores, rows, own)

    def score(self, queries: Queries, rows: NDArray[np.intp]) -> NDArray:
        """Score some rows, the same ones for all queries."""
        if not self.reranks:
            return scores_of(self.store, queries.vectors, rows)
        every = np.broadcast_to(rows, (len(queries), len(rows)))
        return self.own.score(self.store, queries, every)

    def find(self, smiles: NDArray[np.object_], parameter: str) -> list[NDArray]:
        """Return the rows of each molecule."""
        ids = drug_ids(smiles) if self.store.identity["unique_by"] == "drug" else smiles
        places, rows = self.store.find(ids.tolist())
        ends = np.searchsorted(places, np.arange(len(ids)), side="right")
        found = np.split(rows, ends[:-1]) if len(ids) else []
        missing = [i for i, own in enumerate(found) if not len(own)]
        if missing:
            raise ValueError(
                f"{len(missing)} of the {len(smiles)} {parameter} are not in the "
                f"index: {first_few_at(missing, smiles[missing])}."
            )
        return found

    def check_rows(self, rows: ArrayLike) -> NDArray[np.intp]:
        """Return numbers of rows; refuse those that are not in the index."""
        rows = np.asarray(rows)
        if rows.dtype.kind not in "iu" and rows.size:
            raise IndexError(f"rows must be ints. Got an array of dtype {rows.dtype}.")
        rows = rows.reshape(-1).astype(np.intp)
        outside = rows[(rows < 0) | (rows >= self.store.n_rows)]
        if outside.size:
            raise IndexError(
                f"rows must be from 0 to {self.store.n_rows - 1:,}. Got "
                f"[{first_few(outside.tolist(), n=10)}]."
            )
        return rows
