"""From Level 4 to Level 5: replicates combined into signatures."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.utils import check_array

from sklearn_molge._compat import Interval, StrOptions, validate_params
from sklearn_molge._utils.rows import standardize_rows

__all__ = ["ConsensusSignatures", "consensus_signatures"]

# |z| * sqrt(n) from which a gene counts as changed, in CMap's signature strength.
CHANGED = 2.0
# What CMap puts in place of smaller factors of the transcriptional activity score.
SMALLEST = 0.001


@dataclass(frozen=True, eq=False)
class ConsensusSignatures:
    """Signatures, one per group, and what they were made from.

    Attributes
    ----------
    signatures : ndarray of shape (n_groups, n_genes)
        One signature per group, groups in the order in which they first appear.
    groups : ndarray of shape (n_groups,) or (n_groups, n_columns), dtype=object
        Label of each group, in the form of the labels given.
    group_of : ndarray of shape (n_profiles,)
        Row of `signatures` that each profile contributed to.
    weights : ndarray of shape (n_profiles,)
        Weight of each profile in its signature; they sum to 1 in each group. NaN for
        the median, which has none.
    quality : DataFrame of n_groups rows
        ``n_replicates``; ``cc_q75``: 75th percentile of the Spearman correlations of
        all pairs of replicates (NaN for one replicate); ``ss_ngene``: number of
        genes with ``abs(z) * sqrt(n_replicates) >= 2``; ``tas``: transcriptional
        activity score, 0 to 1 (NaN for one replicate).

    See Also
    --------
    consensus_signatures : Computes them.

    Examples
    --------
    >>> from sklearn_molge.expression import consensus_signatures
    >>> made = consensus_signatures([[1.0, 2.0], [3.0, 5.0], [0.0, 1.0]], [0, 0, 1])
    >>> made.signatures
    array([[2. , 3.5],
           [0. , 1. ]])
    >>> made.group_of
    array([0, 0, 1])
    """

    signatures: NDArray[np.floating]
    groups: NDArray[np.object_]
    group_of: NDArray[np.intp]
    weights: NDArray[np.float64]
    quality: pd.DataFrame


@validate_params(
    {
        "ge": ["array-like"],
        "groups": ["array-like"],
        "how": [StrOptions({"modz", "mean", "median"})],
        "landmarks": ["array-like", None],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "min_weight": [Interval(Real, 0, None, closed="neither")],
    },
    prefer_skip_nested_validation=True,
)
def consensus_signatures(
    ge: ArrayLike,
    groups: ArrayLike,
    *,
    how: str = "modz",
    landmarks: ArrayLike | None = None,
    clip: float | None = 10.0,
    min_weight: float = 0.01,
) -> ConsensusSignatures:
    r"""Combine the replicates of each condition into one signature.

    This makes Level 5 of Level 4. The moderated z-score (MODZ) trusts a replicate as
    far as the others agree with it:

    .. math:: s_g = \sum_i w_i z_{ig}, \quad
              w_i \propto \max\Bigl(\frac{1}{n - 1}
              \sum_{j \ne i} \max(\rho_{ij}, 0),\; w_{\min}\Bigr), \quad
              \sum_i w_i = 1

    where :math:`\rho_{ij}` is Spearman's correlation of replicates i and j over the
    landmark genes.

    Parameters
    ----------
    ge : array-like of shape (n_profiles, n_genes)
        Profiles (z-scores), without NaN.
    groups : array-like of shape (n_profiles,) or (n_profiles, n_columns)
        What each profile is a replicate of, e.g. drug, cell line, dose and time.
        Missing labels are equal to each other.
    how : {"modz", "mean", "median"}, default="modz"
        How to combine the replicates, gene by gene.
    landmarks : array-like of bool of shape (n_genes,), default=None
        The genes over which replicates are compared and changed genes counted: the
        measured ones, where others are inferred from them. None takes all genes.
    clip : float, default=10.0
        Limit of the absolute z-scores before they are combined, as in CMap; None sets
        no limit.
    min_weight : float, default=0.01
        Smallest weight before normalisation (> 0): a replicate that agrees with no
        other still counts a little, and weights exist where none agree.

    Returns
    -------
    consensus : ConsensusSignatures
        ``signatures``, ``groups``, ``group_of``, ``weights`` and ``quality``.

    Raises
    ------
    ValueError
        If an array has the wrong shape, or fewer than two genes are compared.

    See Also
    --------
    robust_zscore : z-scores of wells: from Level 3 to Level 4.
    sklearn_molge.datasets.Study.consensus : The same on a study.

    Notes
    -----
    A single replicate is its own signature (clipped). Two replicates always have equal
    weights, so their MODZ is their mean. A constant profile agrees with no other. A
    signature is a weighted average: it is not scaled by the number of replicates.

    The definition is that of [1]_; clipping and smallest weight are those of CMap's
    programs. cmapPy averages a replicate's correlations before it applies the smallest
    weight, as here. cmapM takes half of their sum, which is the same for three
    replicates and otherwise differs only where the smallest weight is reached.

    ``cc_q75`` and ``tas`` are cmapM's: percentiles as in MATLAB (Hazen's), and
    :math:`\mathrm{TAS} = \sqrt{\mathrm{SS} \cdot \max(\mathrm{cc}, 0) / p}` for
    ``ss_ngene`` SS of p landmark genes (factors of at least 0.001). Negative
    correlations enter ``cc_q75`` unchanged.

    References
    ----------
    .. [1] A. Subramanian et al., "A Next Generation Connectivity Map: L1000 Platform
       and the First 1,000,000 Profiles", Cell 171 (2017) 1437.

    Examples
    --------
    The third replicate ranks the genes the other way round: it keeps the smallest
    weight.

    >>> from sklearn_molge.expression import consensus_signatures
    >>> z = [[3.0, 0.0, -3.0], [2.0, 0.0, -1.0], [-4.0, 0.0, 4.0], [1.0, 2.0, 3.0]]
    >>> consensus = consensus_signatures(z, ["drug A"] * 3 + ["drug B"])
    >>> consensus.weights.round(3)
    array([0.495, 0.495, 0.01 , 1.   ])
    >>> consensus.signatures.round(2)
    array([[ 2.44,  0.  , -1.94],
           [ 1.  ,  2.  ,  3.  ]])
    >>> consensus.quality
       n_replicates  cc_q75  ss_ngene       tas
    0             3     0.5         2  0.57735
    1             1     NaN         2       NaN
    """
    profiles = check_array(ge, dtype=[np.float64, np.float32], input_name="ge")
    labels = _check_groups(groups, len(profiles))
    compared = _check_landmarks(landmarks, profiles.shape[1])
    columns = list(range(labels.shape[1]))
    groups_of_rows = pd.DataFrame(labels).groupby(columns, sort=False, dropna=False)
    group_of = groups_of_rows.ngroup().to_numpy().astype(np.intp)
    first = np.unique(group_of, return_index=True)[1]
    signatures = np.empty((len(first), profiles.shape[1]), dtype=profiles.dtype)
    weights = np.empty(len(profiles))
    rows = []
    ends = np.cumsum(np.bincount(group_of))
    order = np.argsort(group_of, kind="stable")
    for signature, members in zip(signatures, np.split(order, ends[:-1]), strict=True):
        z = profiles[members].astype(np.float64)
        if clip is not None:
            z = z.clip(-clip, clip)
        correlation = _spearman(z[:, compared])
        weights[members] = _WEIGHTS[how](correlation, min_weight)
        signature[:] = np.median(z, axis=0) if how == "median" else weights[members] @ z
        rows.append(_quality(signature[compared], correlation))
    names = ["n_replicates", "cc_q75", "ss_ngene", "tas"]
    return ConsensusSignatures(
        signatures=signatures,
        groups=labels[first] if np.ndim(groups) == 2 else labels[first, 0],
        group_of=group_of,
        weights=weights,
        quality=pd.DataFrame(rows, columns=names),
    )


def _check_groups(groups, n_profiles):
    labels = np.asarray(groups, dtype=object)
    if labels.ndim not in (1, 2) or len(labels) != n_profiles or 0 in labels.shape[1:]:
        raise ValueError(
            f"groups must be of shape ({n_profiles},) or ({n_profiles}, n_columns), "
            f"one row per profile. Got an array of shape {labels.shape}."
        )
    return labels.reshape(n_profiles, -1)


def _check_landmarks(landmarks, n_genes):
    if landmarks is None:
        mask = np.ones(n_genes, dtype=bool)
    else:
        mask = np.asarray(landmarks)
    if mask.shape != (n_genes,) or mask.dtype != bool or mask.sum() < 2:
        raise ValueError(
            f"landmarks must be None or a mask of {n_genes} booleans, and replicates "
            f"be compared over two genes or more. Got shape {mask.shape}, dtype "
            f"{mask.dtype}, {np.count_nonzero(mask)} true."
        )
    return mask


def _spearman(z):
    """Correlate the ranks of rows, 0 where a row does not vary."""
    ranks = standardize_rows(rankdata(z, axis=1))
    return (ranks @ ranks.T).clip(-1, 1)


def _modz_weights(correlation, min_weight):
    n = len(correlation)
    if n == 1:
        return np.ones(1)
    agreement = correlation.clip(min=0)
    np.fill_diagonal(agreement, 0)
    weights = (agreement.sum(axis=1) / (n - 1)).clip(min=min_weight)
    return weights / weights.sum()


_WEIGHTS = {
    "modz": _modz_weights,
    "mean": lambda correlation, _: np.full(len(correlation), 1 / len(correlation)),
    "median": lambda correlation, _: np.full(len(correlation), np.nan),
}


def _quality(signature, correlation):
    """Return replicates, cc_q75, ss_ngene and tas of one signature."""
    n = len(correlation)
    strength = int((np.abs(signature) * np.sqrt(n) >= CHANGED).sum())
    if n == 1:
        return n, np.nan, strength, np.nan
    pairs = correlation[np.triu_indices(n, k=1)]
    agreement = float(np.percentile(pairs, 75, method="hazen"))
    factors = max(strength, SMALLEST) * max(agreement, SMALLEST)
    return n, agreement, strength, float(np.sqrt(factors / len(signature)))
