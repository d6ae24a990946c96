"""Where the true molecule ranks among the candidates."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary
from zlib import crc32

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils import check_consistent_length, gen_batches
from sklearn.utils.validation import column_or_1d

from sklearn_molge._compat import StrOptions, _safe_indexing, validate_params
from sklearn_molge._utils.checks import check_same_rows
from sklearn_molge._utils.genes import as_frame
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.rows import (
    as_indexable,
    as_smiles_array,
    distinct_rows,
    is_text,
    query_blocks,
    rank_blocks,
)
from sklearn_molge._utils.similarity import METRICS, check_views, similarity_to
from sklearn_molge._utils.trained_rows import hash_rows
from sklearn_molge._utils.typing import Rows
from sklearn_molge._utils.views import BLOCK_PROFILES, comparison, trained_rows
from sklearn_molge.base import identify_drugs, one_row_per_drug, trained_molecules
from sklearn_molge.exceptions import FewCandidatesWarning
from sklearn_molge.metrics._scores import chance_scores
from sklearn_molge.molecules import parsed_once

__all__ = ["rank_embeddings", "retrieval_ranks"]

# With fewer candidates chance alone has a mean reciprocal rank above 0.18.
_N_ENOUGH = 20
# Of new drugs with the features of a drug of the training: 15 % at 512 bits, in L1000.
_TOLERATED_SHARE = 0.25


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
    known : ndarray of str
        Drugs that the estimator was fitted on, by other profiles than the queries'.
    """

    ranks: NDArray[np.float64]
    drugs: NDArray[np.object_]
    n_candidates: int
    known: NDArray[np.object_]


def retrieval_ranks(
    estimator: Any,
    X: Rows,
    y: ArrayLike,
    *,
    drugs: ArrayLike | None = None,
    per: str = "profile",
    queries: ArrayLike | None = None,
    candidates: Rows | None = None,
    gallery: ArrayLike | None = None,
) -> NDArray:
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
        are one drug. Where rows of one drug differ in X, one of them stands for it,
        whatever their order: the SMILES that sorts first, the features with the least
        hash.
    per : {"profile", "drug"}, default="profile"
        Whether each profile is a query, or each drug: its profiles averaged in the
        joint space (of a retriever without one: its similarities averaged).
    queries : array-like of int or bool, default=None
        The rows to use as queries; all of X stays the candidate set.
    candidates : array-like of shape (n_candidates,), default=None
        The drugs to rank, a subset of `drugs` that holds every query's drug.
    gallery : array-like of shape (n_molecules,) or (n_molecules, n_features), \
            default=None
        Further molecules to rank beside those of X, written as X is. With all
        molecules of a study, the ranks of all folds are among the same candidates.

    Returns
    -------
    ranks : ndarray of shape (n_queries,) or (n_drugs,)
        In the order of the rows; of drugs, in sorted order. NaN where there is one
        candidate: every model would be right.

    Raises
    ------
    ValueError
        If a similarity is NaN, a query's drug is not among the candidates, a label of
        `drugs` is missing or blank, `gallery` comes with `drugs`, or features without
        `drugs` come again with the same profiles and other equal rows.
    TypeError
        If `estimator` has no two-view estimator inside.

    Warns
    -----
    FewCandidatesWarning
        If fewer than 20 molecules are ranked.

    See Also
    --------
    sklearn_molge.model_selection.cross_val_ranks : Ranks of all folds.

    Notes
    -----
    No sorting: similarities are computed in blocks and compared with the match's own,
    and candidates with equal embeddings are computed once, so that they tie exactly.
    Extra memory is the distinct molecules, points of the joint space and a few blocks:
    profiles are projected some thousand at a time. The paper's code ranks the whole
    distance matrix instead (5.1 of its appendix).

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
        gallery=gallery,
    )
    return result.ranks


@validate_params(
    {"per": [StrOptions({"profile", "drug"})]}, prefer_skip_nested_validation=True
)
def rank_queries(
    estimator,
    X,
    y,
    *,
    drugs=None,
    per="profile",
    queries=None,
    candidates=None,
    gallery=None,
) -> RankedQueries:
    """Do the work of `retrieval_ranks`, and return the ranks with their drugs."""
    with parsed_once():
        return _rank_queries(estimator, X, y, drugs, per, queries, candidates, gallery)


def _rank_queries(estimator, X, y, drugs, per, queries, candidates, gallery):
    X, y = as_indexable(X), as_indexable(y)
    check_same_rows(X=X, y=y)
    chosen = check_queries(queries, y.shape[0])
    if gallery is not None:
        X, drugs = _with_gallery(X, gallery, drugs), None
    first, codes = distinct_rows(X)
    if drugs is None and not is_text(X):
        _refuse_other_molecules(estimator, first[codes], y)
    drugs = identify_drugs(X, drugs, codes)
    gallery_drugs, rows = one_row_per_drug(drugs, _order(X, first, codes), candidates)
    match = match_positions(drugs[chosen], gallery_drugs)
    profiles = y if queries is None else _safe_indexing(y, chosen)
    candidates = _safe_indexing(X, rows)
    molecules = comparison(estimator, candidates)
    trained, candidates = trained_rows(estimator, candidates, molecules)
    known = _known_molecules(trained, candidates, match, profiles)
    if per == "drug":
        match, groups = np.unique(match, return_inverse=True)
        query_drugs = gallery_drugs[match]
    else:
        groups, query_drugs = None, drugs[chosen]
    blocks = molecules.blocks(profiles, groups)
    counts = np.bincount(molecules.codes)
    ranks = rank_blocks(blocks, molecules.codes[match], counts)
    _say_few(len(gallery_drugs), query_drugs)
    if len(gallery_drugs) < 2:
        ranks[:] = np.nan
    return RankedQueries(ranks, query_drugs, len(gallery_drugs), gallery_drugs[known])


def _with_gallery(X, gallery, drugs):
    """Return X with the further molecules of `gallery` below its rows."""
    if drugs is not None:
        raise ValueError(
            "gallery needs drugs=None: its molecules and those of X are identified "
            "together. With identities of your own, put all molecules into X and "
            "choose the profiles by `queries`."
        )
    if is_text(X) != is_text(gallery):
        raise ValueError(
            "gallery must hold molecules as X does, SMILES or features. Got "
            f"{'SMILES' if is_text(X) else 'features'} in X and "
            f"{'SMILES' if is_text(gallery) else 'features'} in gallery."
        )
    if is_text(X):
        return np.concatenate([as_smiles_array(X), as_smiles_array(gallery)])
    if sparse.issparse(X) or sparse.issparse(gallery):
        return sparse.vstack([X, gallery], format="csr")
    if hasattr(X, "iloc") and hasattr(gallery, "iloc"):
        return pd.concat([X, gallery])
    return np.concatenate([np.asarray(X), np.asarray(gallery)])


def _order(X, first: NDArray, codes: NDArray) -> NDArray:
    """Return what decides which row stands for a drug whose rows differ.

    Of texts the least; of features, where the least would be the one with the fewest
    bits, the least hash.
    """
    if is_text(X):
        return codes
    return hash_rows(_safe_indexing(X, first))[codes]


# Digest of the profiles that an estimator was asked for last, without `drugs`, and the
# number of distinct molecules.
_LAST_CALL: WeakKeyDictionary = WeakKeyDictionary()


def _refuse_other_molecules(estimator, partition: NDArray, y) -> None:
    """Refuse profiles that came with other equal rows in the call before.

    ``permutation_importance`` shuffles a column of features: the rows of a drug are no
    longer equal, and the candidates would be other, many more ones.
    """
    try:
        before = _LAST_CALL.get(estimator)
    except TypeError:  # no weak reference, or no hash
        return
    digest = 0
    for part in gen_batches(y.shape[0], BLOCK_PROFILES):
        values = np.ascontiguousarray(as_frame(_safe_indexing(y, part)))
        digest = crc32(values.data.cast("B"), digest)
    now = digest, int(partition.max(initial=0))
    _LAST_CALL[estimator] = now
    # Molecules in another order, as of a shuffled baseline, are no fewer and no more.
    if before is not None and before[0] == now[0] and before[1] != now[1]:
        raise ValueError(
            "These profiles came with other molecules in the call before: without "
            "`drugs`, rows with equal features are one drug, and rows that were equal "
            "no longer are, as where permutation_importance shuffles a feature. Say "
            "which row is which drug: scoring=RetrievalScorer('mrr', drugs=drugs) or "
            "retrieval_ranks(..., drugs=drugs), with drugs of shape (n_samples,)."
        )


def _known_molecules(trained, candidates, match, profiles) -> NDArray[np.intp]:
    """Tell of new profiles' molecules which ones an estimator was fitted on."""
    if trained is None:
        return match[:0]
    new = np.unique(match[~trained.hold_profiles(profiles)])
    if not len(new):
        return new
    known = trained.hold_molecules(trained_molecules(_safe_indexing(candidates, new)))
    # Different molecules may have equal features, also in an honest split.
    tolerated = 0 if trained.by_text else _TOLERATED_SHARE * len(new)
    return new[known] if known.sum() > tolerated else new[:0]


def _say_few(n_candidates: int, drugs: NDArray) -> None:
    """Warn where a rank says little, or nothing."""
    if n_candidates < 2:
        warnings.warn(
            f"The only molecule to rank for {_queries(len(drugs))} is {drugs[0]}. "
            "Among one candidate every model is right: ranks and scores are NaN. Test "
            "more drugs at a time, or rank among further ones: cross_val_ranks pools "
            "the folds, RetrievalScorer(gallery=...) adds molecules.",
            FewCandidatesWarning,
            stacklevel=4,
        )
    elif n_candidates < _N_ENOUGH:
        warnings.warn(
            f"Only {n_candidates} molecules were ranked for {_queries(len(drugs))}: "
            "chance alone has a mean reciprocal rank of "
            f"{chance_scores(n_candidates)['mrr']:.2f}. Test more drugs at a time, or "
            "rank among further ones: cross_val_ranks pools the folds, "
            "RetrievalScorer(gallery=...) adds molecules.",
            FewCandidatesWarning,
            stacklevel=4,
        )


def _queries(n: int) -> str:
    return f"{n:,} query" if n == 1 else f"{n:,} queries"


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
def rank_embeddings(
    queries: Rows, gallery: Rows, match: ArrayLike, *, metric: str = "correlation"
) -> NDArray:
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
        Mid-ranks, 1 being the best; NaN, with a warning, where `gallery` has one row.

    Raises
    ------
    ValueError
        If a number is missing, the numbers of features differ, or `match` holds
        anything but rows of `gallery`.

    Examples
    --------
    >>> from sklearn_molge.metrics import rank_embeddings
    >>> rank_embeddings([[0.0], [2.1]], [[0.0], [1.0], [2.0]], [1, 1],
    ...                 metric="euclidean")
    array([2., 2.])
    """
    queries, gallery = check_views(queries, gallery, metric=metric)
    match = _check_match(match, len(queries), len(gallery))
    first, codes = distinct_rows(gallery)
    to_gallery = similarity_to(gallery[first], metric=metric)
    blocks = query_blocks(to_gallery, queries, len(first))
    ranks = rank_blocks(blocks, codes[match], np.bincount(codes))
    if len(gallery) < 2:
        _say_few(1, np.zeros(len(ranks), dtype=int))
        ranks[:] = np.nan
    return ranks


def _check_match(match, n_queries: int, n_candidates: int) -> NDArray[np.intp]:
    rows = np.asarray(match)
    fits = rows.shape == (n_queries,) and rows.dtype.kind in "iu"
    if not fits or (rows.size and not 0 <= rows.min() <= rows.max() < n_candidates):
        raise ValueError(
            f"match must hold a row of gallery, an int from 0 to {n_candidates - 1}, "
            f"for each of the {n_queries} queries. Got {rows.dtype} of shape "
            f"{rows.shape}, first {first_few(rows.ravel().tolist(), n=5)}."
        )
    return rows
