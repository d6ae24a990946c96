"""OracleRetriever: what a perfect molecule encoder could reach."""

from __future__ import annotations

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import (
    StrOptions,
    _check_sample_weight,
    _fit_context,
    _safe_indexing,
)
from sklearn_molge._utils.rows import group_means, row_batches
from sklearn_molge._utils.similarity import METRICS, paired_similarity, similarity_to
from sklearn_molge._utils.typing import Compare
from sklearn_molge.base import (
    TwoViewMixin,
    check_molecules,
    check_profiles,
    check_two_views,
    molecule_keys,
)

__all__ = ["OracleRetriever"]

# Two profiles this close, relative to their length, are one measurement that passed
# through the same transformer twice: replicates differ by orders of magnitude more.
_SAME_PROFILE = 1e-5


class OracleRetriever(TwoViewMixin, BaseEstimator):
    r"""Rank molecules by their own mean profiles, as if structure told all.

    The ceiling of the retrieval task for a representation of profiles: a molecule is
    "embedded" as the mean of the profiles given to ``fit``. Fitted on the test drugs'
    rows in the training lines it stands for a model that generalises to new drugs
    perfectly but not to new lines; fitted on the test rows themselves, for one that
    generalises to both.

    Parameters
    ----------
    metric : {"correlation", "cosine", "dot", "euclidean"}, default="correlation"
        Similarity of profiles. The paper's code takes "correlation" for the
        training lines and "euclidean" for the test line.
    leave_query_out : bool, default=True
        Leave a query that is among the fitted profiles out of its own drug's mean,
        as the paper's code does. (Its formula includes the query.) A query is
        recognised by its values, so the option is harmless where it does not apply.

    Attributes
    ----------
    drugs_ : ndarray of shape (n_drugs,)
        Identities of the molecules with a profile: ``drug_ids`` of SMILES, or the
        bytes of a row of features.
    means_ : ndarray of shape (n_drugs, n_genes)
        Mean profile of each.
    profiles_ : ndarray of shape (n_samples, n_genes)
        The fitted profiles.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.

    See Also
    --------
    DrugCellLineKFold : Its option ``train`` hands an oracle the rows it may see.

    Notes
    -----
    Section 3.2 of Finlayson et al. 2020. A molecule without any profile, or none but
    the query, cannot be found by an oracle: its similarity is minus infinity and it
    shares the last ranks with the others like it.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.retrieval import OracleRetriever
    >>> X = np.array(["CCO", "CCO", "CCN"], dtype=object)
    >>> y = np.array([[0.0, 1, 2], [0, 2, 4], [2, 1, 0]])
    >>> oracle = OracleRetriever(metric="euclidean").fit(X, y)
    >>> oracle.similarity(["CCO", "CCN"], [[0.0, 1, 2]]).round(2)
    array([[-2.24, -2.83]])
    """

    _parameter_constraints: dict = {
        "metric": [StrOptions(METRICS - {"jaccard", "tanimoto"})],
        "leave_query_out": ["boolean"],
    }

    _remembers_rows = False

    def __init__(self, metric="correlation", *, leave_query_out=True):
        self.metric = metric
        self.leave_query_out = leave_query_out

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y, sample_weight=None) -> Self:
        """Store the profiles and each drug's mean.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row: SMILES, or features (equal rows are one drug).
        y : array-like of shape (n_samples, n_genes)
            Profile of each row.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row in its drug's mean, at least 0; equal by default. Those
            of 0 are left out.

        Returns
        -------
        self : object
            Fitted estimator.
        """
        X, y = check_two_views(self, X, y, accept_sparse="csr")
        weights = _check_sample_weight(
            sample_weight, y, dtype=np.float64, ensure_non_negative=True
        )
        used = np.flatnonzero(weights > 0)
        self._weights, self.profiles_ = weights[used], y[used]
        keys = molecule_keys(_safe_indexing(X, used))
        self.drugs_, self._codes = np.unique(keys, return_inverse=True)
        self.means_ = group_means(self.profiles_, self._codes, self._weights)
        return self

    def compare_to(self, X) -> Compare:
        """Prepare a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules.

        Returns
        -------
        compare : callable
            Takes profiles of shape (n_profiles, n_genes), and returns their
            similarities to every molecule's mean profile: an array of shape
            (n_profiles, n_molecules), larger meaning closer; minus infinity for a
            molecule without a profile.
        """
        check_is_fitted(self)
        X = check_molecules(self, X, reset=False, accept_sparse="csr")
        keys = molecule_keys(X)
        place = np.searchsorted(self.drugs_, keys).clip(max=len(self.drugs_) - 1)
        known = self.drugs_[place] == keys
        to_means = similarity_to(self.means_[place], metric=self.metric)
        to_profiles = similarity_to(self.profiles_, metric="euclidean")

        def similarity(y):
            y = check_profiles(self, y, reset=False, dtype=self.means_.dtype)
            similarities = to_means(y)
            similarities[:, ~known] = -np.inf
            if self.leave_query_out:
                query, fitted = self._find(y, to_profiles)
                of_drug = (self._codes[fitted][:, None] == place) & known
                pair, molecule = np.nonzero(of_drug)
                own = self._similarity_without(y, query, fitted)
                similarities[query[pair], molecule] = own[pair]
            return similarities

        return similarity

    def _find(self, y, to_profiles):
        """Return the pairs (query, fitted row) that are the same profile."""
        length = np.linalg.norm(y, axis=1)
        # Squares cancel: a loose look first, then the difference itself.
        loose = 1e-2 * length[:, None] + np.finfo(y.dtype).tiny
        near = [
            np.nonzero(-to_profiles(y[rows]) <= loose[rows])
            + np.array([[rows.start], [0]])
            for rows in row_batches(len(y), len(self.profiles_))
        ]
        query, fitted = np.concatenate(near, axis=1)
        difference = np.linalg.norm(y[query] - self.profiles_[fitted], axis=1)
        same = difference <= _SAME_PROFILE * length[query]
        return query[same], fitted[same]

    def _similarity_without(self, y, query, fitted):
        """Similarity of each query to its drug's mean without the query."""
        pair, drug = np.unique(
            np.column_stack([query, self._codes[fitted]]), axis=0, return_inverse=True
        )
        own = self._weights[fitted]
        sums = np.zeros((len(pair), y.shape[1]))
        np.add.at(sums, drug, own[:, None] * self.profiles_[fitted])
        n_left = np.bincount(self._codes)[pair[:, 1]] - np.bincount(drug)
        total = np.bincount(self._codes, self._weights)[pair[:, 1]]
        left = np.where(n_left > 0, total - np.bincount(drug, own), 1)
        rest = (total[:, None] * self.means_[pair[:, 1]] - sums) / left[:, None]
        own = paired_similarity(
            y[pair[:, 0]], rest.astype(y.dtype), metric=self.metric
        ).copy()
        own[n_left == 0] = -np.inf
        return own[drug]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.sparse = True
        return tags
