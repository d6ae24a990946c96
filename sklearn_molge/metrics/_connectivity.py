"""Connectivity to measured signatures, as the Connectivity Map defines it."""

from __future__ import annotations

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils.validation import check_array

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.checks import check_named
from sklearn_molge._utils.connectivity import CONNECTIVITY_METRICS, connectivity_to
from sklearn_molge._utils.groups import encode_labels
from sklearn_molge._utils.similarity import check_views

__all__ = [
    "connectivity_tau",
    "normalized_connectivity",
    "pairwise_connectivity",
    "summarize_connectivity",
]

# Quantiles of the scores in several lines, of which the more extreme one counts.
_LOW, _HIGH = 0.33, 0.67
# Of the largest score, in units of the last place.
_ROUNDING = 128
_SUMMARIES = {"max_quantile", "max", "mean", "median"}


@validate_params(
    {
        "A": ["array-like"],
        "B": ["array-like"],
        "metric": [StrOptions(set(CONNECTIVITY_METRICS))],
        "n_genes": [Interval(Integral, 1, None, closed="left")],
    },
    prefer_skip_nested_validation=True,
)
def pairwise_connectivity(
    A: ArrayLike, B: ArrayLike, *, metric: str = "wtcs", n_genes: int = 150
) -> NDArray:
    r"""Compare every query in A with every measured signature in B.

    Parameters
    ----------
    A : array-like of shape (n_queries, n_genes_in_profile)
        Queries, in z-scores or any unit of which 0 is no change.
    B : array-like of shape (n_signatures, n_genes_in_profile)
        Signatures, in z-scores, with the same genes.
    metric : {"wtcs", "cosine", "correlation", "spearman"}, default="wtcs"
        The weighted connectivity score, or a similarity of whole profiles; Spearman's
        is the correlation of mid-ranks.
    n_genes : int, default=150
        Number of genes in the up set and in the down set of a query, for "wtcs".

    Returns
    -------
    scores : ndarray of shape (n_queries, n_signatures)
        Between -1, the signature reverses the query, and 1, it mimics it.

    See Also
    --------
    pairwise_similarity : Further similarities.
    sklearn_molge.retrieval.ConnectivityRetriever : A search by it.

    Notes
    -----
    The up set of a query holds its `n_genes` genes of largest value, the down set those
    of least. Only genes above 0 can be up and only genes below 0 down, so that a gene
    set, which is 0 elsewhere, is taken as it is. All genes that tie with the last one
    of a set are in it.

    The enrichment of a set S of N_S of the N genes goes through a signature z from its
    largest value to its least, and is the largest deviation from 0 of

    .. math:: P(v) = \sum_{g \in S, z_g \ge v} \frac{|z_g|}{\sum_{h \in S} |z_h|}
        - \sum_{g \notin S, z_g \ge v} \frac{1}{N - N_S},

    a Kolmogorov-Smirnov statistic with weights (Subramanian et al. 2005, with p = 1).
    Genes with equal values are passed together, so their order does not matter; of
    equally large deviations the positive one counts. A set whose genes are all 0 in z
    has enrichment 0. The weighted connectivity score (Subramanian et al. 2017, STAR
    Methods) is

    .. math:: w = \frac{ES_{up} - ES_{down}}{2}

    where the two have different signs, and 0 otherwise. Of a query with one set alone
    it is :math:`ES_{up}`, or :math:`-ES_{down}`.

    References
    ----------
    A. Subramanian et al., "A next generation Connectivity Map: L1000 platform and the
    first 1,000,000 profiles", Cell 171 (2017) 1437-1452. A. Subramanian et al., "Gene
    set enrichment analysis", PNAS 102 (2005) 15545-15550.

    Examples
    --------
    >>> from sklearn_molge.metrics import pairwise_connectivity
    >>> signatures = [[2.0, 1.0, 0.5, -1.0, -3.0], [-3.0, -1.0, 0.5, 1.0, 2.0]]
    >>> pairwise_connectivity([[1.0, 0.0, 0.0, 0.0, -1.0]], signatures)
    array([[ 1., -1.]])
    """
    A, B = check_views(A, B, metric="correlation")
    return connectivity_to(B, metric=metric, n_genes=n_genes)(A)


@validate_params(
    {"scores": ["array-like"], "labels": ["array-like", None]},
    prefer_skip_nested_validation=True,
)
def normalized_connectivity(
    scores: ArrayLike, labels: ArrayLike | None = None
) -> NDArray:
    r"""Make the scores of different cell lines comparable.

    Parameters
    ----------
    scores : array-like of shape (n_queries, n_signatures)
        Connectivity of each query to each signature.
    labels : array-like of shape (n_signatures,), default=None
        Cell line of each signature, or whatever else is to be made comparable, such as
        a text of cell line and kind of perturbagen. None takes all for one.

    Returns
    -------
    ncs : ndarray of shape (n_queries, n_signatures)
        Normalised connectivity scores: of a query, 1 is the mean of the positive scores
        of a cell line and -1 the mean of the negative ones.

    Notes
    -----
    Subramanian et al. 2017, STAR Methods: with the means :math:`\mu^+` and
    :math:`\mu^-` of the positive and the negative scores of query and cell line,

    .. math:: NCS = w / \mu^+ \text{ if } w > 0, \quad -w / \mu^- \text{ otherwise.}

    Examples
    --------
    >>> from sklearn_molge.metrics import normalized_connectivity
    >>> normalized_connectivity([[0.2, 0.6, -0.5, 0.1]], ["A", "A", "A", "B"])
    array([[ 0.5,  1.5, -1. ,  1. ]])
    """
    scores = _check_scores(scores, "scores")
    if labels is None:
        codes = np.zeros(scores.shape[1], dtype=np.intp)
    else:
        codes, _ = encode_labels(labels, name="labels")
        _check_length(codes, scores, "labels")
    in_group = sparse.csr_array(
        (np.ones(len(codes), scores.dtype), (np.arange(len(codes)), codes))
    )
    scale = np.ones_like(scores)
    for sign in (1, -1):
        signed = sign * scores > 0
        count = signed.astype(scores.dtype) @ in_group
        mean = (np.where(signed, scores, 0) @ in_group) / np.maximum(count, 1)
        np.copyto(scale, sign * mean[:, codes], where=signed)
    return scores / scale


@validate_params(
    {"ncs": ["array-like"], "reference": ["array-like"]},
    prefer_skip_nested_validation=True,
)
def connectivity_tau(ncs: ArrayLike, reference: ArrayLike) -> NDArray:
    r"""Say how unusual a connectivity is for its signature, in percent with a sign.

    Parameters
    ----------
    ncs : array-like of shape (n_queries, n_signatures)
        Normalised scores, of signatures or summarised over cell lines.
    reference : array-like of shape (n_reference, n_signatures)
        The same of the reference queries, with the same signatures.

    Returns
    -------
    tau : ndarray of shape (n_queries, n_signatures)
        Between -100 and 100.

    Notes
    -----
    Subramanian et al. 2017, STAR Methods: with N reference queries i,

    .. math:: \tau_{q, r} = \mathrm{sgn}(NCS_{q, r}) \frac{100}{N}
        \#\{i: |NCS_{i, r}| < |NCS_{q, r}|\}.

    CMap's reference queries are the exemplar signatures of its Touchstone, of the cell
    line and kind of perturbagen of r. Scores that differ by rounding alone are equal.

    Examples
    --------
    >>> from sklearn_molge.metrics import connectivity_tau
    >>> connectivity_tau([[-0.9, 0.9]], [[0.1, 0.1], [-0.5, 1.2], [0.7, 1.5], [1, 2]])
    array([[-75.,  25.]])
    """
    ncs, reference = _check_scores(ncs, "ncs"), _check_scores(reference, "reference")
    _check_length(reference.T, ncs, "reference.T")
    size, known = np.abs(ncs), np.sort(np.abs(reference), axis=0)
    coarser = max(np.finfo(ncs.dtype).eps, np.finfo(reference.dtype).eps)
    size = size - _ROUNDING * coarser * np.maximum(size, known[-1])
    below = [np.searchsorted(known[:, j], size[:, j]) for j in range(ncs.shape[1])]
    return np.sign(ncs) * (100 / len(known)) * np.column_stack(below)


@validate_params(
    {
        "scores": ["array-like"],
        "labels": ["array-like"],
        "summary": [StrOptions(_SUMMARIES)],
    },
    prefer_skip_nested_validation=True,
)
def summarize_connectivity(
    scores: ArrayLike, labels: ArrayLike, *, summary: str = "max_quantile"
) -> NDArray:
    r"""Summarise the scores of each molecule over the cell lines.

    Parameters
    ----------
    scores : array-like of shape (n_queries, n_signatures)
        Normalised scores, one for each molecule and cell line.
    labels : array-like of shape (n_signatures,)
        Molecule of each.
    summary : {"max_quantile", "max", "mean", "median"}, default="max_quantile"
        The first is CMap's: of the quantiles 67 % and 33 %, linear between scores, the
        one of larger absolute value, and of equal ones the upper.

    Returns
    -------
    summarised : ndarray of shape (n_queries, n_molecules)
        In the unit of `scores`, in the order of the sorted distinct labels.

    Notes
    -----
    Subramanian et al. 2017, STAR Methods, "summarization across cell lines". It keeps a
    connection that a third of the lines show, of either sign.

    Examples
    --------
    >>> from sklearn_molge.metrics import summarize_connectivity
    >>> summarize_connectivity([[0.1, 0.2, 2.0, -1.0]], ["a", "a", "a", "b"]).round(3)
    array([[ 0.812, -1.   ]])
    """
    scores = _check_scores(scores, "scores")
    codes, names = encode_labels(labels, name="labels")
    _check_length(codes, scores, "labels")
    order, sizes = np.argsort(codes, kind="stable"), np.bincount(codes)
    begins = np.cumsum(sizes) - sizes
    out = np.empty((len(scores), len(names)), dtype=scores.dtype)
    for size in np.unique(sizes):  # all molecules with as many scores at a time
        chosen = np.flatnonzero(sizes == size)
        columns = order[begins[chosen][:, None] + np.arange(size)]
        out[:, chosen] = _summary_of(scores[:, columns], summary)
    return out


def _summary_of(scores: NDArray, summary: str) -> NDArray:
    """Summarise the last axis."""
    if summary == "max_quantile":
        low, high = np.quantile(scores, [_LOW, _HIGH], axis=-1)
        return np.where(np.abs(high) >= np.abs(low), high, low)
    result: NDArray = getattr(np, summary)(scores, axis=-1)
    return result


def _check_scores(scores, name: str) -> NDArray:
    dtypes = [np.float64, np.float32]
    return check_named(check_array, scores, name=name, input_name=name, dtype=dtypes)


def _check_length(labels, scores: NDArray, name: str) -> None:
    if len(labels) != scores.shape[1]:
        raise ValueError(
            f"{name} must have one entry for each of the {scores.shape[1]} columns of "
            f"the scores. Got {len(labels)}."
        )
