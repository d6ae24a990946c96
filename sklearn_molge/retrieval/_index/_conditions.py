"""Several profiles of one condition as one query."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import column_or_1d

from sklearn_molge._utils.rows import group_means

__all__ = ["combine_queries"]


def combine_queries(
    embedded: NDArray[np.float32], groups: Any
) -> tuple[NDArray[np.float32], NDArray]:
    """Average the profiles of each condition in the joint space.

    The rule of ``retrieval_ranks(per="drug")``. On real data (see
    ``benchmarks/bench_queries.py``) none of the others was better: means or MODZ of
    the profiles, means, quantiles or the best of the similarities or ranks.

    Parameters
    ----------
    embedded : ndarray of shape (n_profiles, n_components)
        Profiles in the joint space.
    groups : array-like of shape (n_profiles,)
        The condition of each profile: its drug, or disease and tissue.

    Returns
    -------
    combined : ndarray of shape (n_conditions, n_components), dtype=float32
    labels : ndarray of shape (n_conditions,)
        The conditions, sorted.

    Raises
    ------
    ValueError
        If `groups` has another length, a missing entry, or kinds that do not sort.
    """
    # numpy makes the text "nan" of a NaN in a list of texts.
    kind = None if hasattr(groups, "dtype") else object
    groups = column_or_1d(np.asarray(groups, dtype=kind))
    check_consistent_length(embedded, groups)
    missing = np.flatnonzero(pd.isna(groups))
    if missing.size:
        raise ValueError(
            "groups must name the condition of every profile. "
            f"Missing in rows {missing[:20].tolist()}."
        )
    try:
        labels, codes = np.unique(groups, return_inverse=True)
    except TypeError as error:
        kinds = sorted({type(g).__name__ for g in groups.tolist()})
        raise ValueError(f"groups must be of one kind. Got {kinds}.") from error
    return group_means(embedded, codes).astype(np.float32), labels
