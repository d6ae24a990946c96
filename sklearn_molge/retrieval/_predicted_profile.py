"""PredictedProfileRetriever: a regressor predicts the profile of each molecule."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import (
    HasMethods,
    StrOptions,
    _check_sample_weight,
    _fit_context,
    _routing_enabled,
    _safe_indexing,
)
from sklearn_molge._utils.checks import check_same_rows
from sklearn_molge._utils.rows import as_indexable, distinct_rows, group_means
from sklearn_molge._utils.sample_weights import fit_weights, weight_parameter
from sklearn_molge._utils.similarity import METRICS
from sklearn_molge.base import EmbedderMixin, check_profiles

__all__ = ["PredictedProfileRetriever"]


class PredictedProfileRetriever(
    MetaEstimatorMixin, EmbedderMixin, TransformerMixin, BaseEstimator
):
    r"""Compare profiles with those that a regressor predicts for the molecules.

    Makes a two-view estimator of any regressor of several outputs. Its joint space is
    that of the profiles: molecules come into it by ``regressor.predict``, profiles lie
    there.

    Parameters
    ----------
    regressor : estimator
        A regressor of molecule features, such as ``Ridge``, ``KernelRidge``,
        ``PLSRegression`` or ``RandomForestRegressor``, a Pipeline that ends in one, a
        search, or a ``TransformedTargetRegressor``. One of a single output, such as
        ``SVR``, goes inside ``MultiOutputRegressor``.
    average_profiles : bool, default=True
        Fit on one row a molecule (equal rows of X): the mean of its profiles, weighted
        by their number where `regressor` takes ``sample_weight``. Of least squares this
        is the fit to every profile, at a fraction of the cost. A regressor that takes
        no weights, such as ``PLSRegression``, then counts each molecule once. False
        fits on every profile.
    metric : {"correlation", "cosine", "dot", "euclidean"}, default="correlation"
        Similarity of a profile and a predicted one; see
        :func:`~sklearn_molge.metrics.pairwise_similarity`.

    Attributes
    ----------
    regressor_ : estimator
        The fitted regressor.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.
    n_features_in_ : int
        Number of molecule features; only where `regressor_` has it.
    feature_names_in_ : ndarray of str
        Names of the molecule features; only where `regressor_` has them.

    See Also
    --------
    sklearn.compose.TransformedTargetRegressor : Regresses on transformed profiles.
    TransformedTargetRetriever : Compares in a space of transformed profiles.
    CCA : Linear as well, and weighs directions by how well they are predicted.

    Notes
    -----
    The similarity of molecule m to profile g is :math:`s(g, f(x_m))`, f the regressor
    and s the `metric`. A molecule whose predicted profile is constant has correlation 0
    with every profile.

    With averages, the `sample_weight` of :meth:`fit` weighs the profiles of a molecule,
    and a molecule has the sum of their weights. They reach the last step of a Pipeline,
    and the regressor inside a search, a ``MultiOutputRegressor`` or a
    ``TransformedTargetRegressor``; with metadata routing, those that request them.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn_molge.retrieval import PredictedProfileRetriever
    >>> X = np.array(["CCO", "CCN", "CCCl", "c1ccccc1O", "CC=O"], dtype=object)
    >>> y = np.random.default_rng(0).normal(size=(5, 20))
    >>> regressor = make_pipeline(MorganFingerprinter(fp_size=64), Ridge())
    >>> retriever = PredictedProfileRetriever(regressor).fit(X, y)
    >>> retriever.transform(["CCCO"]).shape  # its predicted profile
    (1, 20)
    >>> retriever.similarity(X, y[:2]).shape
    (2, 5)
    """

    _parameter_constraints: dict = {
        "regressor": [HasMethods(["fit", "predict"])],
        "average_profiles": ["boolean"],
        "metric": [StrOptions(METRICS - {"jaccard", "tanimoto"})],
    }

    def __init__(self, regressor, *, average_profiles=True, metric="correlation"):
        self.regressor = regressor
        self.average_profiles = average_profiles
        self.metric = metric

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, sample_weight=None, **fit_params) -> Self:
        """Fit a clone of the regressor.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row, as `regressor` takes it.
        y : array-like of shape (n_samples, n_genes)
            Profile of each row.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, at least 0; equal by default.
        **fit_params : dict
            Further metadata for the regressor. What has an entry a row is refused with
            `average_profiles`, which joins rows.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If `sample_weight` is given and `regressor` takes none, or it does not
            predict one number a gene for each molecule.
        """
        y = check_profiles(self, y, reset=True)
        check_same_rows(X=X, y=y)
        X = sparse.csr_array(X) if sparse.issparse(X) else as_indexable(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(
                sample_weight, y, dtype=np.float64, ensure_non_negative=True
            )
        if _routing_enabled():
            fit_params = process_routing(self, "fit", **fit_params).regressor.fit
        fit_weights(self.regressor, sample_weight, name="regressor")
        if self.average_profiles and X.shape[1:] != (0,):  # which `regressor` refuses
            _refuse_rows(fit_params, len(y))
            X, y, sample_weight = _average(X, y, sample_weight)
        if weight_parameter(self.regressor) is not None:
            weights = fit_weights(self.regressor, sample_weight, name="regressor")
            fit_params = {**fit_params, **weights}
        self.regressor_ = clone(self.regressor)
        try:
            self.regressor_.fit(X, y[:, 0] if y.shape[1] == 1 else y, **fit_params)
        except ValueError as error:
            if not get_tags(self.regressor).target_tags.multi_output:
                error.add_note(
                    f"regressor must predict {y.shape[1]:,} genes: one of a single "
                    "output goes inside sklearn.multioutput.MultiOutputRegressor."
                )
            raise
        self._predict(_safe_indexing(X, [0]))
        return self

    def transform(self, X) -> NDArray:
        """Predict the profile of each molecule.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as `regressor` takes them.

        Returns
        -------
        profiles : ndarray of shape (n_molecules, n_genes)
            Predicted profiles.
        """
        check_is_fitted(self)
        return self._predict(X)

    def _predict(self, X):
        predicted = np.asarray(self.regressor_.predict(X))
        expected = as_indexable(X).shape[0], self.n_genes_in_
        if predicted.ndim == 1 and self.n_genes_in_ == 1:
            predicted = predicted[:, None]
        if predicted.shape != expected or predicted.dtype.kind not in "biuf":
            raise ValueError(
                "regressor must predict a profile of each molecule (row), numbers of "
                f"shape {expected}. Got {predicted.dtype} of shape {predicted.shape} "
                f"from {type(self.regressor_).__name__}."
            )
        return predicted

    def transform_ge(self, y) -> NDArray:
        """Return the profiles, which lie in the space of the predicted ones.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles.

        Returns
        -------
        profiles : ndarray of shape (n_profiles, n_genes)
            As they came.
        """
        check_is_fitted(self)
        return check_profiles(self, y, reset=False)

    def get_feature_names_out(self, input_features=None) -> NDArray[np.object_]:
        """Names of the dimensions of the joint space: the genes.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Not used, present for API consistency.

        Returns
        -------
        names : ndarray of str
            ``gene_names_in_``, or "gene0", "gene1", ... where genes have no names.
        """
        check_is_fitted(self)
        counted = [f"gene{i}" for i in range(self.n_genes_in_)]
        names = getattr(self, "gene_names_in_", counted)
        return np.array([str(name) for name in names], dtype=object)

    def get_metadata_routing(self):
        """Say which metadata the regressor requests.

        Returns
        -------
        routing : MetadataRouter
            The router of this meta-estimator.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(regressor=self.regressor, method_mapping=mapping)

    @property
    def n_features_in_(self) -> int:
        """Number of molecule features seen by the regressor."""
        check_is_fitted(self)
        return self.regressor_.n_features_in_

    @property
    def feature_names_in_(self) -> NDArray[np.object_]:
        """Names of the molecule features seen by the regressor."""
        check_is_fitted(self)
        return self.regressor_.feature_names_in_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            inner = get_tags(self.regressor)
        except (AttributeError, TypeError):
            return tags  # `fit` says what is wrong with `regressor`
        tags.input_tags = inner.input_tags
        tags.non_deterministic = inner.non_deterministic
        return tags


def _refuse_rows(params, n_rows):
    """Refuse metadata of rows, which the average of a molecule's rows has not."""
    for name, value in params.items():
        if not isinstance(value, str) and np.shape(value)[:1] == (n_rows,):
            raise ValueError(
                f"{name} has an entry for each of the {n_rows:,} profiles, and "
                "average_profiles=True fits on one row a molecule: give "
                "average_profiles=False. Weights go as sample_weight."
            )


def _average(X, y, weights):
    """Return the distinct molecules, their mean profiles and summed weights."""
    weights = np.ones(len(y)) if weights is None else weights
    used = np.flatnonzero(weights > 0)
    y, weights = y[used], weights[used]
    first, codes = distinct_rows(_safe_indexing(X, used))
    means = group_means(y, codes, weights).astype(y.dtype)
    return _safe_indexing(X, used[first]), means, np.bincount(codes, weights)
