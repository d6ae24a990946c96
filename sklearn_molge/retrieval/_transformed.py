"""TransformedTargetRetriever: a transformer for the expression view."""

from typing import Self

from sklearn.base import clone
from sklearn.utils import Bunch
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import (
    HasMethods,
    _fit_context,
    _routing_enabled,
)
from sklearn_molge._utils.genes import check_gene_names
from sklearn_molge._utils.sample_weights import hand_on_weights
from sklearn_molge.retrieval._wrapper import BaseWrapper

__all__ = ["TransformedTargetRetriever"]


class TransformedTargetRetriever(BaseWrapper):
    """Meta-estimator that transforms the profiles for a two-view estimator.

    A Pipeline transforms X, the molecules, and never y. This is the twin of
    scikit-learn's ``TransformedTargetRegressor`` for the profiles: `transformer` is
    fitted on the training profiles and applied to every profile later.

    Parameters
    ----------
    retriever : estimator
        A two-view estimator, or a Pipeline that ends in one.
    transformer : transformer, default=None
        Such as :class:`~sklearn_molge.expression.L1000Featurizer`, PCA, or a
        Pipeline of them; None leaves the profiles as they are.

    Attributes
    ----------
    retriever_ : estimator
        The fitted retriever.
    transformer_ : transformer or None
        The fitted transformer.
    gene_names_in_ : ndarray of shape (n_genes,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.
    n_features_in_ : int
        Number of molecule features; only where `retriever` has it.

    See Also
    --------
    sklearn.compose.TransformedTargetRegressor : The same for regression.

    Notes
    -----
    With metadata routing, what is routed to ``fit`` goes to the retriever and the
    transformer as each requests; without, to the retriever. What the transformer
    requests for ``transform`` it gets for the training profiles alone, such as the
    sources of a :class:`~sklearn_molge.expression.SourceScaler`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.decomposition import PCA
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn_molge.retrieval import TransformedTargetRetriever
    >>> X = np.array(["CCO", "CCN", "CCCl", "c1ccccc1O", "CC=O"], dtype=object)
    >>> y = np.random.default_rng(0).normal(size=(5, 20))
    >>> pipe = make_pipeline(
    ...     MorganFingerprinter(fp_size=64),
    ...     TransformedTargetRetriever(CCA(3, ridge=0.1), transformer=PCA(3)),
    ... )
    >>> pipe.fit(X, y).transform(X).shape
    (5, 3)
    """

    _parameter_constraints: dict = {
        "retriever": [HasMethods(["fit"])],
        "transformer": [HasMethods(["fit", "transform"]), None],
    }

    def __init__(self, retriever, transformer=None):
        self.retriever = retriever
        self.transformer = transformer

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, **fit_params) -> Self:
        """Fit the transformer on the profiles and the retriever on the result.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row, as `retriever` takes it.
        y : array-like of shape (n_samples, n_genes)
            Profile of each row, as `transformer` takes it.
        **fit_params : dict
            Metadata for the retriever and the transformer; `sample_weight` reaches the
            retriever under the name by which it takes it.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If `sample_weight` is given and the retriever takes none.
        """
        if _routing_enabled():
            routed = process_routing(self, "fit", **fit_params)
        else:
            own = hand_on_weights(self.retriever, fit_params, name="retriever")
            routed = Bunch(
                retriever=Bunch(fit=own), transformer=Bunch(fit={}, transform={})
            )
        y = check_gene_names(self, y, reset=True)
        if self.transformer is None:
            self.transformer_ = None
        else:
            self.transformer_ = clone(self.transformer)
            self.transformer_.fit(y, **routed.transformer.fit)
            y = self.transformer_.transform(y, **routed.transformer.transform)
        self.retriever_ = clone(self.retriever).fit(X, y, **routed.retriever.fit)
        return self

    def unwrap(self, X, y):
        """Take one step down to the retriever.

        Parameters
        ----------
        X : array-like or None
            Molecules.
        y : array-like or None
            Profiles, before `transformer`.

        Returns
        -------
        retriever, X, y
            The fitted retriever, the molecules, and the profiles after `transformer`.
        """
        check_is_fitted(self)
        if y is not None:
            y = check_gene_names(self, y, reset=False)
            if self.transformer_ is not None:
                y = self.transformer_.transform(y)
        return self.retriever_, X, y

    def get_metadata_routing(self):
        """Say which metadata the retriever and the transformer request.

        Returns
        -------
        routing : MetadataRouter
            The router of this meta-estimator.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add(
            retriever=self.retriever, method_mapping=mapping
        )
        if self.transformer is not None:
            # The training profiles are transformed in `fit`, later ones without.
            mapping = mapping.add(caller="fit", callee="transform")
            router.add(transformer=self.transformer, method_mapping=mapping)
        return router
