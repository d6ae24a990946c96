"""What the attributions to atoms and to genes share."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.utils.validation import check_array

from sklearn_molge._utils.views import resolve_views
from sklearn_molge.metrics import similarity
from sklearn_molge.molecules import check_smiles
from sklearn_molge.retrieval._voting import VotingRetriever


class QueryProfile:
    """One profile, and how rows like it are given to the estimator.

    Attributes
    ----------
    values : ndarray of shape (n_columns,)
        The profile.
    columns : pandas Index or None
        Its column names, where it came with names.
    """

    def __init__(self, profile: ArrayLike):
        self.columns = getattr(
            profile, "index" if isinstance(profile, pd.Series) else "columns", None
        )
        array = np.array(profile)  # a copy: it is returned as `expression`
        rows = check_array(
            array[None] if array.ndim == 1 else array,
            dtype=[np.float64, np.float32],
            input_name="profile",
        )
        if len(rows) != 1:
            raise ValueError(
                "profile must be one profile, of shape (n_genes,) or (1, n_genes). "
                f"Got shape {rows.shape}."
            )
        self.values: NDArray = rows[0]

    def rows(self, values: NDArray) -> Any:
        """Return profiles as the estimator takes them, with the names if any."""
        values = np.atleast_2d(values)
        if self.columns is None:
            return values
        return pd.DataFrame(values, columns=self.columns)


def check_gallery(
    estimator: Any, smiles: str, candidates: ArrayLike | None
) -> NDArray[np.object_]:
    """Check the molecules; return those that stand beside the one that is explained.

    The similarities of a vote are standardised over all molecules that are compared,
    and of one molecule alone, that is 0 whatever the profile.
    """
    check_smiles([smiles])
    if candidates is not None:
        return check_smiles(candidates)
    model = resolve_views(estimator, None, None)[0]
    if isinstance(model, VotingRetriever) and model.standardize:
        raise ValueError(
            "candidates must be given for a VotingRetriever with standardize=True: it "
            "measures a similarity by its spread over the molecules that are ranked. "
            "Got None."
        )
    return np.empty(0, dtype=object)


def similarity_to_each(
    estimator: Any, smiles: list[str], profiles: Any, gallery: NDArray
) -> NDArray[np.float64]:
    """Similarities of profiles to some molecules, of shape (n_profiles, n_smiles)."""
    X = np.concatenate([np.array(smiles, dtype=object), gallery])
    values = np.asarray(similarity(estimator, X, profiles), dtype=np.float64)
    return values[:, : len(smiles)]
