"""VotingRetriever: several two-view estimators rank together."""

from __future__ import annotations

from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MetaEstimatorMixin, clone
from sklearn.utils import Bunch, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import (
    check_is_fitted,
    column_or_1d,
)

from sklearn_molge._compat import (
    _BaseComposition,
    _fit_context,
    _routing_enabled,
)
from sklearn_molge._utils.checks import check_same_rows
from sklearn_molge._utils.rows import take_distinct
from sklearn_molge._utils.sample_weights import hand_on_weights
from sklearn_molge._utils.typing import Compare
from sklearn_molge._utils.views import comparison, resolve_views
from sklearn_molge.base import TwoViewMixin, check_profiles

__all__ = ["VotingRetriever"]


class VotingRetriever(MetaEstimatorMixin, TwoViewMixin, _BaseComposition):
    r"""Rank molecules by the mean similarity of several two-view estimators.

    The twin of scikit-learn's ``VotingRegressor``: each estimator is fitted on its
    own on all rows, and their similarities are averaged. Similarities of different
    kinds, say a correlation and a distance, are made comparable first.

    Parameters
    ----------
    estimators : list of (str, estimator)
        Names and two-view estimators, or Pipelines, searches and wrappers that end
        in one. ``"drop"`` in the place of an estimator leaves it out.
    weights : array-like of shape (n_estimators,), default=None
        Weight of each of `estimators`, at least 0; None weights them equally.
    standardize : bool, default=True
        Standardise the similarities of each estimator before the mean, so that all
        have the same say whatever their scale. False averages them as they are.
    n_jobs : int or None, default=None
        Number of estimators to fit at a time; see scikit-learn's glossary.

    Attributes
    ----------
    estimators_ : list of estimator
        The fitted estimators that were not dropped.
    named_estimators_ : Bunch
        The fitted estimators by name; a dropped one is "drop".
    weights_ : ndarray of shape (n_estimators_,)
        Weights of `estimators_`, with sum 1.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.
    n_features_in_ : int
        Number of molecule features; only where the first of `estimators_` has it.
    feature_names_in_ : ndarray of str
        Names of the molecule features; only where the first has them.

    See Also
    --------
    sklearn.ensemble.VotingRegressor : The same for regression.
    TransformedTargetRetriever : Gives each estimator its own view of the profiles.

    Notes
    -----
    The similarity of molecule m to profile g is

    .. math:: s(m, g) = \sum_k w_k \frac{s_k(m, g) - \mu_k(g)}{\sigma_k(g)},
        \qquad \sum_k w_k = 1,

    with the mean and the standard deviation of :math:`s_k(\cdot, g)` over the
    distinct molecules that g is compared with (zero mean, unit variance: Montague and
    Aslam 2001). So it depends on these candidates; rows of X that repeat a molecule
    change nothing. An estimator that finds all of them equally similar adds 0.

    A similarity of minus infinity, an :class:`OracleRetriever`'s of a molecule that it
    does not know, is left out of its estimator's mean and standard deviation and stays
    minus infinity in the vote: the molecule shares the last ranks, whatever the other
    estimators say. An estimator of weight 0 has no say in this either.

    There is no joint space. Drug-level ranks average the similarities of a drug's
    profiles; see :func:`~sklearn_molge.metrics.retrieval_ranks`.

    References
    ----------
    M. Montague and J. A. Aslam, "Relevance score normalization for metasearch",
    CIKM 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.retrieval import DoubleNNRetriever, VotingRetriever
    >>> rng = np.random.default_rng(0)
    >>> hidden = rng.normal(size=(200, 2))
    >>> X = hidden @ rng.normal(size=(2, 10)) + rng.normal(size=(200, 10))
    >>> y = hidden @ rng.normal(size=(2, 30)) + rng.normal(size=(200, 30))
    >>> vote = VotingRetriever(
    ...     [
    ...         ("cca", CCA(n_components=3, ridge=0.1)),
    ...         ("dnn", DoubleNNRetriever("euclidean", n_neighbors=10)),
    ...     ],
    ...     weights=[2, 1],
    ... )
    >>> vote.fit(X[:150], y[:150]).similarity(X[150:], y[150:]).shape
    (50, 50)
    >>> vote.set_params(dnn="drop").fit(X[:150], y[:150]).weights_
    array([1.])
    """

    _parameter_constraints: dict = {
        "estimators": [list],
        "weights": ["array-like", None],
        "standardize": ["boolean"],
        "n_jobs": [Integral, None],
    }

    def __init__(self, estimators, *, weights=None, standardize=True, n_jobs=None):
        self.estimators = estimators
        self.weights = weights
        self.standardize = standardize
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, **fit_params) -> Self:
        """Fit a clone of every estimator.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row, as the estimators take it.
        y : array-like of shape (n_samples, n_genes)
            Profile of each row; the estimators get it as an array, or, where genes
            have names, as a data frame.
        **fit_params : dict
            Metadata, such as `sample_weight`. With metadata routing, each estimator
            gets what it requests; without, every estimator gets all, and the weights
            of rows under the name by which it takes them.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If `estimators` or `weights` are not as described above, or
            `sample_weight` is given and one of `estimators` takes none.
        TypeError
            If there is no two-view estimator inside one of `estimators`.
        """
        self._check_estimators()
        weights = self._check_weights()
        y = check_profiles(self, y, reset=True, as_frame=True, allow_nan=True)
        check_same_rows(X=X, y=y)
        voters = [(name, e) for name, e in self.estimators if e != "drop"]
        if _routing_enabled():
            routed = process_routing(self, "fit", **fit_params)
        else:
            routed = {
                name: Bunch(fit=hand_on_weights(e, fit_params, name=f"voter {name!r}"))
                for name, e in voters
            }
        self.estimators_ = Parallel(n_jobs=self.n_jobs)(
            delayed(clone(estimator).fit)(X, y, **routed[name].fit)
            for name, estimator in voters
        )
        for estimator in self.estimators_:
            resolve_views(estimator, None, None)
        self.named_estimators_ = Bunch(**dict(self.estimators))
        for (name, _), fitted in zip(voters, self.estimators_, strict=True):
            self.named_estimators_[name] = fitted
        self.weights_ = weights
        return self

    def _check_estimators(self):
        pairs = self.estimators
        if not pairs or not all(_is_named(pair) for pair in pairs):
            raise ValueError(
                "estimators must be a non-empty list of (name, estimator) tuples, each "
                f'estimator with a `fit` method or "drop". Got {pairs!r}.'
            )
        self._validate_names([name for name, _ in pairs])
        if all(estimator == "drop" for _, estimator in pairs):
            raise ValueError("estimators must hold one that is not dropped. All are.")

    def _check_weights(self):
        """Return the weights of the estimators that are not dropped, with sum 1."""
        if self.weights is None:
            weights = np.ones(len(self.estimators))
        else:
            weights = column_or_1d(self.weights, dtype=np.float64)
        if len(weights) != len(self.estimators):
            raise ValueError(
                f"weights must have one entry for each of the {len(self.estimators)} "
                f"estimators, dropped ones included. Got {len(weights)}."
            )
        kept = weights[[estimator != "drop" for _, estimator in self.estimators]]
        if not np.isfinite(weights).all() or weights.min() < 0 or kept.max() == 0:
            raise ValueError(
                "weights must be finite numbers of at least 0, and not all of the "
                f"estimators that are not dropped may have 0. Got {self.weights!r}."
            )
        return kept / kept.sum()

    def compare_to(self, X, *, reference=None) -> Compare:
        """Prepare a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as the estimators were fitted on them.
        reference : array-like of shape (n_reference,) or (n_reference, n_features), \
                default=None
            The molecules over which similarities are standardised, such as a sample of
            a library of which X are the best; by default X.

        Returns
        -------
        compare : callable
            Takes profiles of shape (n_profiles, n_genes), and returns their mean
            similarities, in standard deviations, or without `standardize` in the unit
            of the estimators: an array of shape (n_profiles, n_molecules), larger
            meaning closer.
        """
        check_is_fitted(self)
        distinct, codes = take_distinct(X)
        others = None if reference is None else take_distinct(reference)[0]
        votes = [
            (
                weight,
                comparison(estimator, distinct, reference=others),
                None
                if others is None
                else comparison(estimator, others, reference=others),
            )
            for weight, estimator in zip(self.weights_, self.estimators_, strict=True)
            if weight > 0
        ]

        def similarity(y):
            y = check_profiles(self, y, reset=False, as_frame=True, allow_nan=True)
            total = np.zeros((len(y), distinct.shape[0]))
            for weight, compare, to_reference in votes:
                similarities = compare(y)
                if self.standardize:
                    over = similarities if to_reference is None else to_reference(y)
                    similarities = _standardize(similarities, over)
                total += weight * similarities
            return total[:, codes]

        return similarity

    def get_params(self, deep=True) -> dict[str, Any]:
        """Get the parameters, and with `deep` those of the estimators.

        Parameters
        ----------
        deep : bool, default=True
            Whether to return the estimators by name and their parameters too.

        Returns
        -------
        params : dict
            Parameter names mapped to their values.
        """
        return self._get_params("estimators", deep=deep)

    def set_params(self, **params) -> Self:
        """Set parameters, such as ``cca="drop"`` or ``cca__n_components=20``.

        Parameters
        ----------
        **params : dict
            Names as :meth:`get_params` lists them.

        Returns
        -------
        self : object
            This estimator.
        """
        self._set_params("estimators", **params)
        return self

    def get_metadata_routing(self):
        """Say which metadata the estimators request.

        Returns
        -------
        routing : MetadataRouter
            The router of this meta-estimator.
        """
        voters = {name: e for name, e in self.estimators if e != "drop"}
        mapping = MethodMapping().add(caller="fit", callee="fit")
        return MetadataRouter(owner=self).add(**voters, method_mapping=mapping)

    @property
    def named_estimators(self) -> Bunch:
        """The estimators of the parameter `estimators` by name."""
        return Bunch(**dict(self.estimators))

    @property
    def n_features_in_(self) -> int:
        """Number of molecule features seen by the first estimator."""
        check_is_fitted(self)
        return self.estimators_[0].n_features_in_

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Names of the molecule features seen by the first estimator."""
        check_is_fitted(self)
        return self.estimators_[0].feature_names_in_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            inner = [get_tags(e) for _, e in self.estimators if e != "drop"]
        except (AttributeError, TypeError, ValueError):
            return tags  # `fit` says what is wrong with `estimators`
        for name in ("allow_nan", "sparse", "string"):
            taken = all(getattr(tag.input_tags, name) for tag in inner)
            setattr(tags.input_tags, name, taken)
        tags.non_deterministic = any(tag.non_deterministic for tag in inner)
        return tags


def _is_named(pair):
    """Whether `pair` is a name and an estimator, or a name and "drop"."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        return False
    name, estimator = pair
    return isinstance(name, str) and (estimator == "drop" or hasattr(estimator, "fit"))


def _standardize(similarities, reference):
    """Centre and scale rows by those of `reference`; infinities stay as they are."""
    rounding = np.finfo(np.result_type(reference, np.float32)).eps
    finite = np.isfinite(reference)
    n_finite = np.maximum(np.count_nonzero(finite, axis=1), 1)[:, None]
    values = np.where(finite, reference, 0).astype(np.float64)
    size = np.sqrt(np.sum(values**2, axis=1, keepdims=True) / n_finite)
    mean = values.sum(axis=1, keepdims=True) / n_finite
    values -= mean
    values[~finite] = 0
    spread = np.sqrt(np.sum(values**2, axis=1, keepdims=True) / n_finite)
    # The centring of a constant row leaves rounding errors, which are not a spread.
    constant = spread <= 10 * rounding * size
    spread[constant] = 1
    finite = np.isfinite(similarities)
    centred = np.where(finite, similarities, 0).astype(np.float64) - mean
    standardized = np.where(constant, 0, centred / spread)
    return np.where(finite, standardized, similarities)
