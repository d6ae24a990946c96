"""What wrappers of one retriever pass on to it."""

from __future__ import annotations

from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, MetaEstimatorMixin
from sklearn.utils import get_tags
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import check_is_fitted, has_fit_parameter

from sklearn_molge._compat import _routing_enabled, available_if
from sklearn_molge._utils.genes import check_gene_names
from sklearn_molge._utils.sample_weights import hand_on_weights
from sklearn_molge._utils.typing import Compare
from sklearn_molge._utils.views import comparison, is_embedder, resolve_views
from sklearn_molge.base import TwoViewMixin

__all__ = ["BaseWrapper", "metadata_for"]


def _retriever_has(attribute):
    def check(self):
        getattr(getattr(self, "retriever_", self.retriever), attribute)
        return True

    return check


def _embeds_profiles(self):
    """Whether the two-view estimator, perhaps inside a Pipeline, has a joint space."""
    inner = resolve_views(getattr(self, "retriever_", self.retriever), None, None)[0]
    return is_embedder(inner)


def metadata_for(owner, name, groups, fit_params):
    """Return what the estimator that is `name` of `owner` is fitted with.

    With metadata routing, what it requests; otherwise all, with the groups where its
    `fit` has them, and the weights of rows under the name by which it takes them.
    """
    if _routing_enabled():
        given = fit_params if groups is None else {"groups": groups, **fit_params}
        return process_routing(owner, "fit", **given)[name].fit
    member = getattr(owner, name)
    fit_params = hand_on_weights(member, fit_params, name=name)
    if groups is not None and has_fit_parameter(member, "groups"):
        return {"groups": groups, **fit_params}
    return fit_params


class BaseWrapper(MetaEstimatorMixin, TwoViewMixin, BaseEstimator):
    """Wraps `retriever`, fitted as `retriever_`, whose joint space and ranks it has.

    A subclass has `fit`, and an :meth:`unwrap` of its own if it changes profiles.
    """

    def unwrap(self, X, y):
        """Take one step down to the fitted retriever, with both views as it takes them.

        Parameters
        ----------
        X : array-like or None
            Molecules.
        y : array-like or None
            Profiles.

        Returns
        -------
        retriever, X, y
            The fitted retriever, and the views, with the names of the genes.
        """
        check_is_fitted(self)
        if y is not None:
            y = check_gene_names(self, y, reset=False)
        return self.retriever_, X, y

    @available_if(_retriever_has("transform"))
    def transform(self, X) -> NDArray:
        """Project molecules into the joint space; for retrievers that have one.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules.

        Returns
        -------
        embedded : ndarray of shape (n_molecules, n_components)
            As the retriever embeds them.
        """
        check_is_fitted(self)
        return self.retriever_.transform(X)

    @available_if(_retriever_has("transform"))
    def fit_transform(self, X, y, **fit_params) -> NDArray:
        """Fit, then project the molecules into the joint space.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row.
        y : array-like of shape (n_samples, n_genes)
            Profile of each row.
        **fit_params : dict
            Metadata for the retriever and the transformer.

        Returns
        -------
        embedded : ndarray of shape (n_samples, n_components)
            As the retriever embeds the molecules.
        """
        return self.fit(X, y, **fit_params).transform(X)

    @available_if(_retriever_has("set_output"))
    def set_output(self, *, transform=None) -> Self:
        """Choose the container that ``transform`` returns.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, default=None
            None leaves it as it is.

        Returns
        -------
        self : object
            This estimator.
        """
        for retriever in (self.retriever, getattr(self, "retriever_", None)):
            if retriever is not None:
                retriever.set_output(transform=transform)
        return self

    @available_if(_embeds_profiles)
    def transform_ge(self, y) -> NDArray:
        """Project profiles into the joint space; for retrievers that have one.

        Parameters
        ----------
        y : array-like of shape (n_profiles, n_genes)
            Profiles.

        Returns
        -------
        embedded : ndarray of shape (n_profiles, n_components)
            As the retriever embeds them.
        """
        check_is_fitted(self)
        inner, _, profiles = resolve_views(self, None, y)
        return inner.transform_ge(profiles)

    @available_if(_retriever_has("get_feature_names_out"))
    def get_feature_names_out(self, input_features=None) -> NDArray[np.object_]:
        """Names of the dimensions of the joint space.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            Passed to the retriever.

        Returns
        -------
        names : ndarray of str
            As the retriever names them.
        """
        check_is_fitted(self)
        return self.retriever_.get_feature_names_out(input_features)

    def compare_to(self, X) -> Compare:
        """Prepare a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as `retriever` was fitted on them.

        Returns
        -------
        compare : callable
            Takes profiles as the wrapper does, and returns what ``similarity`` returns
            for them.
        """
        check_is_fitted(self)
        return comparison(self, X)

    @property
    def n_features_in_(self) -> int:
        """Number of molecule features seen by the retriever."""
        check_is_fitted(self)
        return self.retriever_.n_features_in_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        inner = get_tags(self.retriever)
        tags.input_tags = inner.input_tags
        tags.transformer_tags = inner.transformer_tags
        return tags
