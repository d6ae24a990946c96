"""Connectivity: how alike two signatures are, by CMap's score and by others."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from sklearn_molge._utils.rows import row_batches
from sklearn_molge._utils.similarity import SimilarityFunction, similarity_to

__all__ = ["CONNECTIVITY_METRICS", "connectivity_to"]

CONNECTIVITY_METRICS = frozenset({"correlation", "cosine", "spearman", "wtcs"})

# Of a sum over the genes of a set, in units of the last place.
_ROUNDING = 128


def connectivity_to(
    signatures: NDArray, *, metric: str, n_genes: int
) -> SimilarityFunction:
    """Prepare `signatures` once; the function returned compares queries with them."""
    if metric == "wtcs":
        return _weighted_connectivity_to(signatures, n_genes)
    if metric == "spearman":
        to_ranks = similarity_to(_ranked(signatures), metric="correlation")
        return lambda queries: to_ranks(_ranked(queries))
    return similarity_to(signatures, metric=metric)


def _ranked(rows: NDArray) -> NDArray:
    return rankdata(rows, axis=1).astype(rows.dtype)


def _weighted_connectivity_to(signatures: NDArray, n_genes: int) -> SimilarityFunction:
    # Rows without equal values need no look at where ties begin and end.
    tied = (np.diff(np.sort(signatures, axis=1), axis=1) == 0).any(axis=1)
    parts = [
        (rows, _RankedGenes.of(signatures[rows], tied=bool(tied[rows[0]])))
        for rows in (np.flatnonzero(~tied), np.flatnonzero(tied))
        if len(rows)
    ]

    def connectivity(queries: NDArray) -> NDArray:
        scores = np.empty((len(queries), len(signatures)), dtype=signatures.dtype)
        for i, query in enumerate(queries):
            sets = _top_genes(query, n_genes), _top_genes(-query, n_genes)
            for rows, genes in parts:
                scores[i, rows] = _combined(*map(genes.enrichment, sets))
        return scores

    return connectivity


def _top_genes(query: NDArray, n_genes: int) -> NDArray[np.intp]:
    """Return the genes of largest value above 0; with the last come all equal to it."""
    genes = np.flatnonzero(query > 0)
    if len(genes) > n_genes:
        values = query[genes]
        genes = genes[values >= np.partition(values, -n_genes)[-n_genes]]
    return genes


def _combined(up: NDArray | None, down: NDArray | None) -> NDArray | float:
    if up is None:
        return 0.0 if down is None else -down
    if down is None:
        return up
    return np.where(np.sign(up) != np.sign(down), (up - down) / 2, 0)


@dataclass(frozen=True, eq=False)
class _RankedGenes:
    """Signatures with their genes from the largest value to the smallest.

    Attributes
    ----------
    places : ndarray of shape (n_signatures, n_genes), dtype=int32
        Place of each gene in this order.
    weights : ndarray of shape (n_signatures, n_genes)
        Absolute values in this order.
    begins, ends : ndarray of shape (n_signatures, n_genes), dtype=int32, or None
        Number of genes of a larger value than that at a place, and of one as large;
        None where no two are equal.
    """

    places: NDArray[np.int32]
    weights: NDArray
    begins: NDArray[np.int32] | None
    ends: NDArray[np.int32] | None

    @classmethod
    def of(cls, signatures: NDArray, *, tied: bool) -> "_RankedGenes":
        n_genes = signatures.shape[1]
        order = np.argsort(-signatures, axis=1, kind="stable")
        counting = np.arange(n_genes, dtype=np.int32)
        places = np.empty(signatures.shape, dtype=np.int32)
        np.put_along_axis(places, order, counting[None], axis=1)
        falling = np.take_along_axis(signatures, order, axis=1)
        begins = ends = None
        if tied:
            new = np.diff(falling, axis=1, prepend=np.inf) != 0
            begins = np.maximum.accumulate(np.where(new, counting, 0), axis=1)
            last = np.diff(falling, axis=1, append=-np.inf) != 0
            back = np.where(last, counting + 1, n_genes).astype(np.int32)[:, ::-1]
            ends = np.ascontiguousarray(np.minimum.accumulate(back, axis=1)[:, ::-1])
        return cls(places, np.abs(falling), begins, ends)

    def enrichment(self, genes: NDArray[np.intp]) -> NDArray | None:
        """Return the enrichment score of a set in each signature; None of no gene."""
        if not len(genes):
            return None
        # A sixteenth of a block at a time: there are many arrays of this size.
        parts = row_batches(len(self.places), 16 * len(genes))
        return np.concatenate([self._enrichment(genes, rows) for rows in parts])

    def _enrichment(self, genes: NDArray[np.intp], rows: slice) -> NDArray:
        weights = self.weights[rows]
        hits = np.sort(self.places[rows][:, genes], axis=1)
        flat = hits + np.arange(len(weights))[:, None] * weights.shape[1]
        gained = weights.ravel().take(flat)
        sums = np.cumsum(gained, axis=1)
        n_misses = weights.shape[1] - len(genes)
        total = sums[:, -1:]
        # The running sum, times the weight of the whole set, is largest after a hit
        # and least before one; of equal values it is looked at before and after all.
        lost = total / max(n_misses, 1)
        nth = np.arange(len(genes), dtype=np.int32)
        if self.begins is None or self.ends is None:
            after = sums - (hits - nth).astype(sums.dtype) * lost
            before = after - gained
        else:
            begins, ends = (
                (counts[rows].ravel().take(flat) - nth).astype(sums.dtype)
                for counts in (self.begins, self.ends)
            )
            after = sums - (ends - 1) * lost
            before = sums - gained - begins * lost
        largest, least = after.max(axis=1), before.min(axis=1)
        # Of equal deviations the positive one, and of none 0, whatever the rounding.
        rounding = _ROUNDING * np.finfo(sums.dtype).eps * total[:, 0]
        extreme = np.where(largest + rounding >= -least, largest, least)
        extreme[np.abs(extreme) <= rounding] = 0
        return extreme / np.where(total > 0, total, np.inf)[:, 0]
