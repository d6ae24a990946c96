"""Where the true molecule ranks among the candidates."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import column_or_1d

from sklearn_molge._compat import StrOptions, _safe_indexing, validate_params
from sklearn_molge.metrics._blocks import group_means, query_blocks, rank_blocks
from sklearn_molge.metrics._gallery import (
    check_queries,
    distinct_rows,
    equal_row_codes,
    identify_drugs,
    match_positions,
    one_row_per_drug,
)
from sklearn_molge.metrics._similarity import METRICS, check_views, similarity_to
from sklearn_molge.metrics._views import resolve_views

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
    level="profile",
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
    level : {"profile", "drug"}, default="profile"
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
        level=level,
        queries=queries,
        candidates=candidates,
    )
    return result.ranks


@validate_params(
    {"level": [StrOptions({"profile", "drug"})]}, prefer_skip_nested_validation=True
)
def rank_queries(
    estimator, X, y, *, drugs=None, level="profile", queries=None, candidates=None
) -> RankedQueries:
    """Do the work of `retrieval_ranks`, and return the ranks with their drugs."""
    X, y = _as_indexable(X), _as_indexable(y)
    check_consistent_length(X, y)
    codes = equal_row_codes(X)
    drugs = identify_drugs(X, drugs, codes)
    gallery_drugs, rows = one_row_per_drug(drugs, codes, candidates)
    chosen = check_queries(queries, len(drugs))
    match = match_positions(drugs[chosen], gallery_drugs)
    model, gallery, profiles = resolve_views(
        estimator, _safe_indexing(X, rows), _safe_indexing(y, chosen)
    )
    if level == "drug":
        match, groups = np.unique(match, return_inverse=True)
        query_drugs = gallery_drugs[match]
    else:
        groups, query_drugs = None, drugs[chosen]
    ranks = _rank(model, gallery, profiles, match, groups)
    return RankedQueries(ranks, query_drugs, len(gallery_drugs))


def _as_indexable(view):
    return view if hasattr(view, "shape") else np.asarray(view)


def _rank(model, gallery, profiles, match, groups) -> NDArray[np.float64]:
    """Rank by embeddings where the model has them, by its similarities otherwise."""
    codes = equal_row_codes(gallery)
    first = np.unique(codes, return_index=True)[1]
    # Each once: BLAS may round equal rows differently, and they must tie exactly.
    distinct = _safe_indexing(gallery, first)
    if hasattr(model, "transform_ge"):
        embedded = np.asarray(model.transform_ge(profiles))
        if groups is not None:
            embedded = group_means(embedded, groups)
        candidates = np.asarray(model.transform(distinct))[codes]
        return rank_embeddings(embedded, candidates, match, metric=model.metric)
    if hasattr(model, "_similarity_to"):
        compare = model._similarity_to(distinct)
    else:
        compare = partial(model.similarity, distinct)
    blocks = query_blocks(compare, np.asarray(profiles), len(first), groups)
    return rank_blocks(blocks, codes[match], np.bincount(codes))


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
