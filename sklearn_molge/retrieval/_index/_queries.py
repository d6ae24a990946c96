"""What a fitted index can be asked."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.molecules import drug_ids
from sklearn_molge.retrieval._index._background import Background
from sklearn_molge.retrieval._index._conditions import combine_queries
from sklearn_molge.retrieval._index._embedding import embed_profiles
from sklearn_molge.retrieval._index._search import mid_ranks, scores_of
from sklearn_molge.retrieval._index._skipped import SkippedRows
from sklearn_molge.retrieval._index._store import VectorStore
from sklearn_molge.retrieval._index._table import answer_table

__all__ = ["ProfileQueries"]

N_SHOWN = 20


class ProfileQueries:
    """Mixin of an index with a store: neighbours, ranks and tables of answers."""

    estimator: Any
    unique_by: str | None
    metric_: str
    store_: VectorStore
    background_: Background | None
    _skipped: SkippedRows
    _search: Callable

    def kneighbors(
        self, y, n_neighbors=10, *, groups=None, reverse=False, return_distance=True
    ):
        """Find the molecules that are closest to each profile.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles, as the embedder was fitted on them.
        n_neighbors : int, default=10
            Molecules for each query.
        groups : array-like of shape (n_profiles,), default=None
            The condition of each profile. Profiles of one condition (replicates, cell
            lines) are one query, their mean in the joint space; queries are sorted by
            condition then. None makes each profile a query.
        reverse : bool, default=False
            Look for the molecules of lowest similarity, as in a search for what
            reverses a disease. Of z-scores, ``-y`` is another way: what mimics the
            opposite profile; an embedding subtracts a mean, so the two differ.
        return_distance : bool, default=True
            Whether to return distances too.

        Returns
        -------
        distances : ndarray of shape (n_queries, n_neighbors)
            1 - similarity for "correlation" and "cosine", the distance for
            "euclidean", minus the product for "dot"; ascending, with `reverse`
            descending. Only with `return_distance`.
        rows : ndarray of int of shape (n_queries, n_neighbors)
            Rows of the index, see :meth:`get_molecules`. Equally close ones come in
            the order of their rows.

        Raises
        ------
        ValueError
            If `n_neighbors` is more than there are molecules, or `y` is no array of
            profiles.
        """
        queries, _ = self._embed_queries(y, groups)
        scores, rows = self._top_k(queries, n_neighbors, reverse)
        if not return_distance:
            return rows
        one = 1 if self.metric_ in ("correlation", "cosine") else 0
        return one - scores, rows

    def rank(self, y, molecules, *, groups=None, reverse=False):
        """Rank a molecule among all molecules of the index.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles.
        molecules : str or array-like of shape (n_queries,)
            SMILES of the molecule to rank, one for all queries or one for each.
        groups : array-like of shape (n_profiles,), default=None
            As in :meth:`kneighbors`.
        reverse : bool, default=False
            Whether the lowest similarity is the best.

        Returns
        -------
        ranks : ndarray of shape (n_queries,)
            Mid-ranks, 1 being the best, as of
            :func:`~sklearn_molge.metrics.retrieval_ranks`. Where rows of the index are
            one molecule (``unique_by=None``), its best row counts.

        Raises
        ------
        ValueError
            With index and text of every molecule that is not in the index.
        InvalidSmilesError
            If one is not a molecule.
        """
        queries, _ = self._embed_queries(y, groups)
        if isinstance(molecules, str):
            molecules = [molecules] * len(queries)
        smiles = as_smiles_array(molecules)
        check_consistent_length(queries, smiles)
        own = self._find(smiles, "molecules")
        return mid_ranks(self.store_, queries, own, reverse=reverse)

    def query(
        self, y, n_neighbors=10, *, groups=None, reverse=False, pictures=False
    ) -> pd.DataFrame:
        """Answer profiles with a table of molecules.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles; the index of a DataFrame names the queries.
        n_neighbors : int, default=10
            Molecules for each query.
        groups : array-like of shape (n_profiles,), default=None
            As in :meth:`kneighbors`; the conditions name the queries.
        reverse : bool, default=False
            As in :meth:`kneighbors`.
        pictures : bool, default=False
            Add the structures, as SVG text.

        Returns
        -------
        table : DataFrame of n_queries * n_neighbors rows
            ``query``, ``rank`` (from 1), ``molecule`` (SMILES), ``name``, ``drug``
            (see :func:`~sklearn_molge.molecules.drug_ids`), ``score`` (similarity by
            the metric); after :meth:`calibrate` also ``percentile`` (in percent: the
            background's queries that score lower with this molecule), and
            ``nearest_training`` (SMILES), ``nearest_similarity`` (Tanimoto, Morgan)
            and ``in_training``; ``row``; with `pictures` ``structure``.

        Raises
        ------
        ValueError
            As :meth:`kneighbors`.

        See Also
        --------
        MoleculeQueryDisplay : The answer as pictures.
        """
        queries, labels = self._embed_queries(y, groups)
        scores, rows = self._top_k(queries, n_neighbors, reverse)
        return answer_table(
            self.store_,
            scores,
            rows,
            labels=labels,
            background=self.background_,
            reverse=reverse,
            ids_are_drugs=self.unique_by == "drug",
            pictures=pictures,
        )

    def similarity_to_rows(
        self, y: ArrayLike, rows: ArrayLike, *, groups: Any = None
    ) -> NDArray[np.float32]:
        """Similarity of every query to some rows of the index.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles.
        rows : array-like of int of shape (n_rows,)
            Rows of the index.
        groups : array-like of shape (n_profiles,), default=None
            As in :meth:`kneighbors`.

        Returns
        -------
        similarity : ndarray of shape (n_queries, n_rows)
            Larger means closer.

        Raises
        ------
        IndexError
            If a row is not in the index.
        """
        queries, _ = self._embed_queries(y, groups)
        return scores_of(self.store_, queries, self._check_rows(rows))

    def get_molecules(self, rows: ArrayLike | None = None) -> pd.DataFrame:
        """Look up rows of the index.

        Parameters
        ----------
        rows : array-like of int of any shape, default=None
            Rows, such as :meth:`kneighbors` returns; None is all that can be found.

        Returns
        -------
        molecules : DataFrame
            ``smiles``, ``name`` and, with ``unique_by="drug"``, ``drug``; one row an
            entry of `rows`, which is its index.

        Raises
        ------
        IndexError
            If a row is not in the index.
        """
        check_is_fitted(self)
        store = self.store_
        if rows is None:
            every = np.arange(store.n_rows)
            rows = every if store.active is None else every[store.active]
        rows = self._check_rows(rows)
        columns = {"smiles": store.texts(rows), "name": store.names(rows)}
        if self.unique_by == "drug":
            columns["drug"] = store.ids(rows)
        return pd.DataFrame(columns, index=pd.Index(rows, name="row"))

    @property
    def n_molecules_(self):
        """Molecules that can be found."""
        return self.store_.n_active

    @property
    def n_rows_(self):
        """Rows, removed ones included."""
        return self.store_.n_rows

    @property
    def nbytes_(self):
        """Bytes of vectors, SMILES, names and identities."""
        return self.store_.nbytes

    @property
    def skipped_(self):
        """Rows of the library that are not in the index, and why."""
        return self._skipped.to_frame()

    def _embed_queries(self, y, groups) -> tuple[NDArray[np.float32], Any]:
        """Lead profiles into the joint space; return them with their names."""
        check_is_fitted(self)
        names = y.index if isinstance(y, pd.DataFrame) else None
        embedded = embed_profiles(self.estimator, y)
        if groups is None:
            return embedded, names
        return combine_queries(embedded, groups)

    def _top_k(self, queries, n_neighbors, reverse):
        n_active = self.store_.n_active
        is_int = isinstance(n_neighbors, Integral)
        if not (is_int and 1 <= n_neighbors <= n_active):
            raise ValueError(
                f"n_neighbors must be an int from 1 to {n_active:,}, the number of "
                f"molecules in the index. Got {n_neighbors!r}."
            )
        return self._search(queries, int(n_neighbors), reverse=reverse)

    def _find(self, smiles: NDArray[np.object_], parameter: str) -> list[NDArray]:
        """Return the rows of each molecule."""
        ids = drug_ids(smiles) if self.unique_by == "drug" else smiles
        known = {text: self.store_.find(text) for text in dict.fromkeys(ids)}
        missing = [i for i, text in enumerate(ids) if not len(known[text])]
        if missing:
            shown = ", ".join(f"index {i}: {smiles[i]!r}" for i in missing[:N_SHOWN])
            more = ", ..." if len(missing) > N_SHOWN else ""
            raise ValueError(
                f"{len(missing)} of the {len(smiles)} {parameter} are not in the "
                f"index: {shown}{more}."
            )
        return [known[text] for text in ids]

    def _check_rows(self, rows: ArrayLike) -> NDArray[np.intp]:
        rows = np.asarray(rows)
        if rows.dtype.kind not in "iu" and rows.size:
            raise IndexError(f"rows must be ints. Got an array of dtype {rows.dtype}.")
        rows = rows.reshape(-1).astype(np.intp)
        outside = rows[(rows < 0) | (rows >= self.store_.n_rows)]
        if outside.size:
            raise IndexError(
                f"rows must be from 0 to {self.store_.n_rows - 1:,}. Got "
                f"{outside[:10].tolist()}."
            )
        return rows
