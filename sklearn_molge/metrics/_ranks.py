"""Where the true molecule ranks among the candidates."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import column_or_1d

from sklearn_molge._compat import StrOptions, _safe_indexing, validate_params
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.rows import (
    as_indexable,
    distinct_rows,
    group_means,
    query_blocks,
    rank_blocks,
)
from sklearn_molge._utils.similarity import METRICS, check_views, similarity_to
from sklearn_molge._utils.views import comparison
from sklearn_molge.base import identify_drugs, one_row_per_drug
from sklearn_molge.molecules import parsed_once

__all__ = ["rank_embeddings", "retrieval_ranks"]


@dataclass(frozen=True)
class RankedQueries:
    """Ranks, with what is needed to interpret them.

    Attributes
    ----------
    ranks : ndarray of shape (n_queries,)
        Rank of the true molecule, 1 being the best.
    drugs : ndarray of shape (n_queries,)
        Identity of the true molecule.
    n_candidates : int
        Number of distinct molecules that were ranked.
    """

    ranks: NDArray[np.float64]
    drugs: NDArray[np.object_]
    n_candidates: int


def retrieval_ranks(
    estimator,
    X,
    y,
    *,
    drugs=None,
    per="profile",
    queries=None,
    candidates=None,
):
    """Rank of the true molecule of every profile among the distinct molecules of X.

    The candidates are the distinct drugs of X; the query is each row of y. The rank
    is ``1 + #(closer) + (#(tied) - 1) / 2``, the mid-rank: a model that gives every
    molecule the same similarity gets the middle rank, not the best one.

    Parameters
    ----------
    estimator : estimator
        A fitted two-view estimator, or a Pipeline, search or wrapper around one.
    X : array-like of shape (n_samples,) or (n_samples, n_features)
        The molecule of each row: SMILES, or features.
    y : array-like of shape (n_samples, n_genes)
        The profile of each row.
    drugs : array-like of shape (n_samples,), default=None
        Identity of each row's molecule. By default
        :func:`~sklearn_molge.molecules.drug_ids` of SMILES; of features, equal rows
        are one drug. Where rows of one drug differ in X, the one that sorts first
        stands for it, so that the order of rows does not matter.
    per : {"profile", "drug"}, default="profile"
        Whether each profile is a query, or each drug: its profiles averaged in the
        joint space (of a retriever without one: its similarities averaged).
    queries : array-like of int or bool, default=None
        The rows to use as queries; all of X stays the candidate set.
    candidates : array-like of shape (n_candidates,), default=None
        The drugs to rank, a subset of `drugs` that holds every query's drug.

    Returns
    -------
    ranks : ndarray of shape (n_queries,) or (n_drugs,)
        In the order of the rows; of drugs, in sorted order.

    Raises
    ------
    ValueError
        If a similarity is NaN, or a query's drug is not among the candidates.
    TypeError
        If `estimator` has no two-view estimator inside.

    Notes
    -----
    No sorting: similarities are computed in blocks and compared with the match's own,
    and candidates with equal embeddings are computed once, so that they tie exactly.
    Extra memory is a few blocks, whatever the number of queries and candidates. The
    paper's code ranks the whole distance matrix instead (5.1 of its appendix).

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.metrics import retrieval_ranks
    >>> from sklearn_molge.retrieval import OracleRetriever
    >>> X = np.array(["CCO", "CCN", "CCO", "CCN"], dtype=object)
    >>> y = np.array([[0.0, 1, 2], [2, 1, 0], [0, 1, 3], [3, 1, 0]])
    >>> retrieval_ranks(OracleRetriever().fit(X, y), X, y)
    array([1., 1., 1., 1.])
    """
    result = rank_queries(
        estimator,
        X,
        y,
        drugs=drugs,
        per=per,
        queries=queries,
        candidates=candidates,
    )
    return result.ranks


@validate_params(
    {"per": [StrOptions({"profile", "drug"})]}, prefer_skip_nested_validation=True
)
def rank_queries(
    estimator, X, y, *, drugs=None, per="profile", queries=None, candidates=None
) -> RankedQueries:
    """Do the work of `retrieval_ranks`, and return the ranks with their drugs."""
    with parsed_once():
        return _rank_queries(estimator, X, y, drugs, per, queries, candidates)


def _rank_queries(estimator, X, y, drugs, per, queries, candidates):
    X, y = as_indexable(X), as_indexable(y)
    check_consistent_length(X, y)
    codes = distinct_rows(X)[1]
    drugs = identify_drugs(X, drugs, codes)
    gallery_drugs, rows = one_row_per_drug(drugs, codes, candidates)
    chosen = check_queries(queries, len(drugs))
    match = match_positions(drugs[chosen], gallery_drugs)
    gallery, profiles = _safe_indexing(X, rows), _safe_indexing(y, chosen)
    if per == "drug":
        match, groups = np.unique(match, return_inverse=True)
        query_drugs = gallery_drugs[match]
    else:
        groups, query_drugs = None, drugs[chosen]
    ranks = _rank(estimator, gallery, profiles, match, groups)
    return RankedQueries(ranks, query_drugs, len(gallery_drugs))


def _rank(estimator, gallery, profiles, match, groups) -> NDArray[np.float64]:
    """Rank the rows `match` of the gallery, for each profile or mean of a group."""
    molecules = comparison(estimator, gallery)
    prepared = molecules.prepare(profiles)
    if groups is not None and molecules.in_joint_space:
        prepared, groups = group_means(prepared, groups), None
    counts = np.bincount(molecules.codes)
    blocks = query_blocks(molecules.compare, prepared, len(counts), groups)
    return rank_blocks(blocks, molecules.codes[match], counts)


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
            f"{first_few(np.unique(query_drugs[missing]))}."
        )
    return np.searchsorted(gallery, query_drugs)


@validate_params(
    {
        "queries": ["array-like"],
        "gallery": ["array-like"],
        "match": ["array-like"],
        "metric": [StrOptions(set(METRICS))],
    },
    prefer_skip_nested_validation=True,
)
def rank_embeddings(queries, gallery, match, *, metric="correlation"):
    """Rank of each query's match among the rows of `gallery`.

    Parameters
    ----------
    queries : array-like of shape (n_queries, n_features)
        Embedded profiles.
    gallery : array-like of shape (n_candidates, n_features)
        Embedded molecules, one row a molecule.
    match : array-like of int of shape (n_queries,)
        Row of `gallery` that is the query's true molecule.
    metric : str, default="correlation"
        See :func:`~sklearn_molge.metrics.pairwise_similarity`.

    Returns
    -------
    ranks : ndarray of shape (n_queries,)
        Mid-ranks, 1 being the best.

    Examples
    --------
    >>> from sklearn_molge.metrics import rank_embeddings
    >>> rank_embeddings([[0.0], [2.1]], [[0.0], [1.0], [2.0]], [1, 1],
    ...                 metric="euclidean")
    array([2., 2.])
    """
    queries, gallery = check_views(queries, gallery, metric=metric)
    match = column_or_1d(match)
    check_consistent_length(queries, match)
    first, codes = distinct_rows(gallery)
    to_gallery = similarity_to(gallery[first], metric=metric)
    blocks = query_blocks(to_gallery, queries, len(first))
    return rank_blocks(blocks, codes[match], np.bincount(codes))
