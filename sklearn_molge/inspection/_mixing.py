"""Whether profiles lie by cell line, or the lines mix."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import sparse
from sklearn.utils import check_consistent_length, check_random_state

from sklearn_molge._compat import validate_params
from sklearn_molge._utils.groups import encode_labels
from sklearn_molge._utils.resampling import percentile_interval, resampled_sums
from sklearn_molge.base import identify_drugs
from sklearn_molge.inspection._tied_order import (
    CONSTRAINTS,
    TIE_TOLERANCE,
    check_embeddings,
    nearest_weights,
)

__all__ = ["CellLineMixing", "cell_line_mixing"]

Codes = NDArray[np.intp]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CellLineMixing:
    """How far the profiles of cell lines mix; see :func:`cell_line_mixing`.

    Attributes
    ----------
    n_neighbors : int
        Number of nearest profiles looked at.
    mixing : float
        `other_lines` / `expected`: 0 where each line lies apart, 1 where the lines
        are mixed at random.
    interval : tuple of float
        Percentile interval (low, high) of `mixing`.
    p_value : float
        One-sided, from permuting the lines: that chance mixes as little or less.
    other_lines : float
        Mean share of the nearest other profiles that are of another line.
    expected : float
        The same when profiles are mixed at random.
    table : DataFrame
        One row per line, in sorted order, index "cell_line": n_profiles, other_lines,
        expected, mixing.
    """

    n_neighbors: int
    mixing: float
    interval: tuple[float, float]
    p_value: float
    other_lines: float
    expected: float
    table: pd.DataFrame = field(repr=False)


@validate_params(CONSTRAINTS, prefer_skip_nested_validation=True)
def cell_line_mixing(
    embeddings: ArrayLike,
    cell_lines: ArrayLike,
    *,
    drugs: ArrayLike | None = None,
    n_neighbors: int = 15,
    metric: str = "correlation",
    n_permutations: int = 1000,
    n_resamples: int = 2000,
    confidence_level: float = 0.95,
    random_state: int | np.random.RandomState | None = None,
) -> CellLineMixing:
    r"""How far the profiles of different cell lines mix.

    Any other grouping of rows will do in place of cell lines, such as plates, treated
    and control, or training and test profiles.

    Parameters
    ----------
    embeddings : array-like or sparse matrix of shape (n_samples, n_features)
        Profiles: expression, its features, or ``transform_ge(y)``.
    cell_lines : array-like of shape (n_samples,)
        Cell line of each profile.
    drugs : array-like of shape (n_samples,), default=None
        Identity of each profile's molecule. The interval resamples whole drugs; by
        default it treats profiles as independent, and is too narrow where a drug has
        several.
    n_neighbors : int, default=15
        Number of nearest profiles looked at, k; less than the number of profiles.
    metric : {"correlation", "cosine", "dot", "euclidean", "jaccard", "tanimoto"}, \
            default="correlation"
        How near two profiles are, see
        :func:`~sklearn_molge.metrics.pairwise_similarity`.
    n_permutations : int, default=1000
        Number of permutations of the cell lines.
    n_resamples : int, default=2000
        Number of bootstrap samples of the drugs, or of the profiles.
    confidence_level : float, default=0.95
        Coverage of the interval, in (0, 1).
    random_state : int, RandomState instance or None, default=None
        Controls the permutations and the resampling.

    Returns
    -------
    result : CellLineMixing
        With `mixing`, `interval`, `p_value` and the data frame `table`, one row per
        line.

    Raises
    ------
    ValueError
        If lengths disagree, a cell line or drug is missing, there is one line or one
        drug only, a value is NaN or infinite, or `n_neighbors` is too large.

    See Also
    --------
    same_class_neighbors : Whether molecules of one mechanism lie together.

    Notes
    -----
    With :math:`o_i` the share of profile i's k nearest others that are of another
    line, and :math:`n_i` the number of profiles of its own line,

    .. math:: \mathrm{mixing} = \frac{\sum_i o_i}{\sum_i (n - n_i) / (n - 1)}.

    Ties count with their mean over all orders. It exceeds 1 where profiles seek other
    lines: those of one drug, which is profiled once in each line, once the embedding
    brings them together. The p-value is
    :math:`(1 + \#\{s^* \le s\}) / (1 + n_\mathrm{permutations})`. The interval
    resamples drugs with all that they contribute, in first order: as query
    :math:`o_i` in excess of its expectation, and the same as neighbour of others.
    Resampling queries alone gives intervals that are too narrow by a third.

    Examples
    --------
    >>> from sklearn_molge.inspection import cell_line_mixing
    >>> profiles = [[0.0], [0.1], [0.2], [7.0], [7.1], [7.2]]
    >>> apart = cell_line_mixing(
    ...     profiles, ["PC3"] * 3 + ["A375"] * 3, n_neighbors=2, metric="euclidean",
    ...     random_state=0,
    ... )
    >>> apart.mixing
    0.0
    >>> apart.expected
    0.6
    """
    array = check_embeddings(embeddings, metric)
    n = array.shape[0]
    names, codes = _line_codes(array, cell_lines)
    drug_codes = _drug_codes(array, drugs)
    if n_neighbors >= n:
        raise ValueError(
            f"n_neighbors must be less than the number of profiles, {n}. "
            f"Got {n_neighbors}."
        )
    rng = check_random_state(random_state)
    weights = nearest_weights(array, metric, n_neighbors).tocoo()
    other_lines = _other_lines(weights, codes) / n_neighbors
    n_profiles = np.bincount(codes)
    expected = (n - n_profiles) / (n - 1)
    null = [
        _other_lines(weights, rng.permutation(codes)).mean() / n_neighbors
        for _ in range(n_permutations)
    ]
    extreme = np.sum(np.array(null) <= other_lines.mean() + TIE_TOLERANCE)
    table = pd.DataFrame(
        {
            "n_profiles": n_profiles,
            "other_lines": np.bincount(codes, other_lines) / n_profiles,
            "expected": expected,
        },
        index=pd.Index(names, name="cell_line"),
    )
    mixing = float(other_lines.mean() / expected[codes].mean())
    influences = _influences(weights, codes, mixing * expected[codes], n_neighbors)
    of_drugs = np.bincount(drug_codes, influences) / expected[codes].sum()
    samples = resampled_sums(of_drugs - of_drugs.mean(), n_resamples, rng)
    low, high = mixing + percentile_interval(samples, confidence_level)
    return CellLineMixing(
        n_neighbors=n_neighbors,
        mixing=mixing,
        interval=(max(float(low), 0.0), float(high)),
        p_value=float((1 + extreme) / (1 + n_permutations)),
        other_lines=float(other_lines.mean()),
        expected=float(expected[codes].mean()),
        table=table.assign(mixing=table["other_lines"] / table["expected"]),
    )


def _line_codes(array, cell_lines: ArrayLike) -> tuple[NDArray, Codes]:
    """Return the distinct cell lines, sorted, and each row's as a number."""
    codes, names = encode_labels(cell_lines, name="cell_lines")
    check_consistent_length(array, codes)
    if len(names) < 2:
        raise ValueError(
            f"cell_lines must hold at least 2 distinct lines. Got only {names[0]!r}."
        )
    return names, codes


def _drug_codes(array, drugs: ArrayLike | None) -> Codes:
    """Return what is resampled: each row's drug as a number, or each row."""
    if drugs is None:
        return np.arange(array.shape[0])
    rows = identify_drugs(array, drugs, np.empty(0))
    names, codes = np.unique(rows, return_inverse=True)
    if len(names) < 2:
        raise ValueError(
            f"drugs must hold at least 2 distinct drugs. Got only {names[0]!r}."
        )
    return codes


def _other_lines(weights: sparse.coo_array, codes: Codes) -> NDArray:
    """Return how many of each row's neighbours are of another line."""
    rows, columns = weights.coords
    others = weights.data * (codes[rows] != codes[columns])
    return np.bincount(rows, others, minlength=len(codes))


def _influences(
    weights: sparse.coo_array, codes: Codes, expected: Floats, n_neighbors: int
) -> NDArray:
    """Return what each row adds to the sum of `other_lines`, beyond the expected.

    A profile counts among its own neighbours and as a neighbour of others, which had
    another one in its place without it.
    """
    both = _other_lines(weights, codes) + _other_lines(weights.T.tocoo(), codes)
    return both / n_neighbors - (1 + weights.sum(axis=0) / n_neighbors) * expected
