"""DoubleNNRetriever: from a profile over its nearest known drug to a molecule."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special
from sklearn.base import BaseEstimator
from sklearn.utils.validation import (
    check_is_fitted,
)

from sklearn_molge._compat import (
    Interval,
    StrOptions,
    _check_sample_weight,
    _fit_context,
)
from sklearn_molge._utils.checks import check_same_rows
from sklearn_molge._utils.rows import group_means, row_batches, take_distinct
from sklearn_molge._utils.similarity import METRICS, SPARSE_METRICS, similarity_to
from sklearn_molge._utils.typing import Compare
from sklearn_molge.base import TwoViewMixin, check_features, check_profiles

__all__ = ["DoubleNNRetriever"]


_FLOATS = [np.float64, np.float32]


class DoubleNNRetriever(TwoViewMixin, BaseEstimator):
    r"""Rank molecules by similarity to the drug whose training profile is nearest.

    The "double nearest neighbour" baseline of the paper: the query's nearest
    training profile names a training molecule, and candidates are ranked by their
    structural similarity to it.

    Parameters
    ----------
    metric : {"jaccard", "tanimoto", "correlation", "cosine", "dot", "euclidean"}, \
            default="jaccard"
        Similarity of molecules; "jaccard" for fingerprint bits, "tanimoto" for
        counts, "correlation" for embeddings, as in the paper's code.
    metric_ge : {"correlation", "cosine", "dot", "euclidean"}, default="correlation"
        Similarity of profiles.
    neighbors : {"drug", "profile"}, default="drug"
        Whether the neighbour is sought among the drugs' mean profiles, as in the
        paper's code, or among single profiles, as in its formula.
    n_neighbors : int or None, default=1
        Number of neighbours whose molecules are compared with a candidate; None takes
        all of them, which makes sense with a `temperature`.
    temperature : float, default=None
        Neighbours are weighted by ``softmax(similarity / temperature)``; None weights
        them equally.

    Attributes
    ----------
    molecules_ : ndarray or sparse array of shape (n_neighbors_known, n_features_in_)
        Features of the molecule of each known profile.
    profiles_ : ndarray of shape (n_neighbors_known, n_genes)
        The known profiles: one a drug, or one a training row.
    n_features_in_ : int
        Number of molecule features.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.

    See Also
    --------
    CCA : The paper's other baseline.

    Notes
    -----
    With training profiles :math:`g_t` of molecules :math:`m_t`, the similarity of
    candidate m to query g is :math:`\sum_t w_t \, s(m_t, m)`, summed over the
    `n_neighbors` nearest :math:`g_t`; with one neighbour this is Section 3.2 of
    Finlayson et al. 2020. All queries with the same neighbour then get the same
    ranking. A query that is as near to every known profile, such as a constant one, has
    no nearest: all share its weight, with a warning. In X, rows with equal features are
    one drug.

    The `sample_weight` of :meth:`fit` weighs rows in their drug's mean, whose say as a
    neighbour does not depend on it. With ``neighbors="profile"`` it multiplies
    :math:`w_t`, and so changes nothing about the one nearest profile.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.retrieval import DoubleNNRetriever
    >>> bits = np.array([[1, 1, 0, 0], [0, 0, 1, 1]])
    >>> profiles = np.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]])
    >>> dnn = DoubleNNRetriever().fit(bits, profiles)
    >>> dnn.similarity([[1, 0, 0, 0], [0, 0, 1, 0]], [[0.0, 1.0, 3.0]])
    array([[0.5, 0. ]])
    """

    _parameter_constraints: dict = {
        "metric": [StrOptions(set(METRICS))],
        "metric_ge": [StrOptions(METRICS - {"jaccard", "tanimoto"})],
        "neighbors": [StrOptions({"drug", "profile"})],
        "n_neighbors": [Interval(Integral, 1, None, closed="left"), None],
        "temperature": [Interval(Real, 0, None, closed="neither"), None],
    }

    def __init__(
        self,
        metric="jaccard",
        *,
        metric_ge="correlation",
        neighbors="drug",
        n_neighbors=1,
        temperature=None,
    ):
        self.metric = metric
        self.metric_ge = metric_ge
        self.neighbors = neighbors
        self.n_neighbors = n_neighbors
        self.temperature = temperature

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None) -> Self:
        """Store the known molecules and their profiles.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            Molecule features of each row; sparse for all metrics but "correlation"
            and "euclidean".
        y : array-like of shape (n_samples, n_genes)
            Profile of each row.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, at least 0; equal by default. Those of 0 are left out.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If there are fewer known profiles than `n_neighbors`.
        """
        # Whole numbers become floats once equal rows are one.
        X = check_features(
            self,
            X,
            accept_sparse=self._accept_sparse(),
            dtype=None if _holds_integers(X) else _FLOATS,
        )
        y = check_profiles(self, y, reset=True)
        check_same_rows(X=X, y=y)
        weights = _check_sample_weight(
            sample_weight, y, dtype=np.float64, ensure_non_negative=True
        )
        if not weights.all():
            used = np.flatnonzero(weights)
            X, y, weights = X[used], y[used], weights[used]
        molecules, codes = take_distinct(X)
        if self.neighbors == "drug":
            y = group_means(y, codes, weights)
            codes, weights = np.arange(len(y)), np.ones(len(y))
        else:
            y = y.copy()
        if self.n_neighbors is not None and self.n_neighbors > len(y):
            raise ValueError(
                f"n_neighbors must be at most {len(y)}, the number of known "
                f"{self.neighbors}s. Got {self.n_neighbors}."
            )
        n_constant = np.count_nonzero(np.ptp(y, axis=1) == 0)
        if n_constant and self.metric_ge == "correlation":
            warnings.warn(
                f"{n_constant} of the {len(y)} known profiles are constant: nothing "
                "correlates with them.",
                stacklevel=4,
            )
        if molecules.dtype.kind != "f":
            molecules = molecules.astype(np.float64)
        self._molecules, self._codes = molecules, codes
        self.profiles_, self._weights = y, weights
        return self

    @property
    def molecules_(self) -> NDArray:
        """Features of the molecule of each known profile."""
        return self._molecules[self._codes]

    def compare_to(self, X) -> Compare:
        """Prepare a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_molecules, n_features)
            Molecule features.

        Returns
        -------
        compare : callable
            Takes profiles of shape (n_profiles, n_genes), and returns their
            similarities by way of the known drugs: an array of shape (n_profiles,
            n_molecules), in the unit of `metric`, larger meaning closer.
        """
        check_is_fitted(self)
        X = check_features(
            self,
            X,
            accept_sparse=self._accept_sparse(),
            reset=False,
            dtype=self._molecules.dtype,
        )
        to_profiles = similarity_to(self.profiles_, metric=self.metric_ge)
        to_candidates = similarity_to(X, metric=self.metric)

        def similarity(y):
            y = check_profiles(self, y, reset=False, dtype=self.profiles_.dtype)
            weights = sparse.vstack(
                [
                    self._neighbor_weights(to_profiles(y[rows]))
                    for rows in row_batches(len(y), len(self.profiles_))
                ],
                format="csr",
            )
            of_weights = self._codes[weights.indices]
            used, places = np.unique(of_weights, return_inverse=True)
            weights = sparse.csr_array(
                (weights.data, places, weights.indptr), shape=(len(y), len(used))
            )
            return weights @ to_candidates(self._molecules[used])

        return similarity

    def _neighbor_weights(self, similarities):
        """Weight of each known profile (column) for each query (row), summing to 1."""
        n_queries, n_known = similarities.shape
        k = n_known if self.n_neighbors is None else self.n_neighbors
        if k == 1:
            nearest = similarities.argmax(axis=1)[:, None]
        else:
            nearest = np.argpartition(-similarities, k - 1, axis=1)[:, :k]
        weights = self._weights[nearest]
        if self.temperature is not None:
            near = np.take_along_axis(similarities, nearest, axis=1)
            near -= near.max(axis=1, keepdims=True)
            with np.errstate(over="ignore"):  # a small temperature takes the nearest
                weights = weights * special.softmax(near / self.temperature, axis=1)
        weights = weights / weights.sum(axis=1, keepdims=True)
        rows = np.repeat(np.arange(n_queries), k)
        found = sparse.csr_array(
            (weights.ravel(), (rows, nearest.ravel())), shape=(n_queries, n_known)
        )
        return self._without_a_nearest(similarities, found)

    def _without_a_nearest(self, similarities, weights):
        """Let all known profiles share the weight of those that are near to none."""
        as_near = similarities.min(axis=1) == similarities.max(axis=1)
        n_known = similarities.shape[1]
        if n_known == 1 or not as_near.any():
            return weights
        warnings.warn(
            f"{as_near.sum()} profile(s), the first at index {as_near.argmax()}, are "
            f"as near to each of the {n_known} known ones, as a constant profile is: "
            "their answer is the mean over all, and says nothing of them.",
            stacklevel=4,
        )
        equal = self._weights / self._weights.sum()
        shared = np.where(as_near[:, None], equal, weights.toarray())
        return sparse.csr_array(shared)

    def _accept_sparse(self):
        return "csr" if self.metric in SPARSE_METRICS else False

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = self._accept_sparse() == "csr"
        return tags


def _holds_integers(X) -> bool:
    """Whether X is an array or table of integers or booleans alone."""
    is_frame = hasattr(X, "columns") and hasattr(X, "dtypes")
    dtypes = X.dtypes if is_frame else [getattr(X, "dtype", None)]
    return all(getattr(dtype, "kind", "") in tuple("biu") for dtype in dtypes)
