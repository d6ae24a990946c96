"""SourceScaler: the profiles of each source brought to one scale."""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import _fit_context
from sklearn_molge._utils.checks import check_same_rows
from sklearn_molge._utils.groups import encode_labels
from sklearn_molge._utils.messages import first_few
from sklearn_molge.base import check_features
from sklearn_molge.exceptions import DataWarning

__all__ = ["SourceScaler"]

_FLOATS = [np.float64, np.float32]


class SourceScaler(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Centre and scale each gene within each source of profiles.

    Sources, or batches, have a scale and a mean of their own. This is scikit-learn's
    ``StandardScaler`` for each source apart, and takes missing genes (NaN), which stay
    missing.

    Parameters
    ----------
    query_source : str, default=None
        The source of profiles whose source is not given to `transform`, such as later
        queries. It must be given where `fit` sees several sources: nothing guesses
        which one a query is like.
    with_mean : bool, default=True
        Take each gene's mean off.
    with_std : bool, default=True
        Divide each gene by its standard deviation (of n, not n - 1).
    unit_length : bool, default=False
        Divide each profile by its length afterwards. Of a profile with missing genes
        the length is estimated from its measured ones, as if the others were as large.

    Attributes
    ----------
    sources_ : ndarray of shape (n_sources,)
        Names of the sources, sorted; [None] where `fit` was given none.
    mean_, scale_ : ndarray of shape (n_sources, n_genes)
        Mean and scale of each gene; NaN for a gene that a source lacks. The scale of a
        gene that is constant in a source, within rounding, is 1.
    n_samples_seen_ : ndarray of shape (n_sources,)
        Number of profiles of each source.
    n_features_in_ : int
        Number of genes.
    feature_names_in_ : ndarray of shape (n_genes,)
        Their names, where X had names.

    See Also
    --------
    GeneImputer : Fills missing genes.
    sklearn_molge.datasets.join_studies : Makes a study of several sources.
    sklearn_molge.retrieval.TransformedTargetRetriever : Puts it before a retriever.

    Notes
    -----
    Which row is of which source is metadata: inside a
    :class:`~sklearn_molge.retrieval.TransformedTargetRetriever` or a Pipeline, set
    ``sklearn.set_config(enable_metadata_routing=True)`` and ask for it in `fit` and
    `transform`, as in the example. So the training rows are scaled as their sources
    say, and test rows as `query_source`.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.expression import SourceScaler
    >>> X = np.array([[0.0, 1], [2, 3], [10, np.nan], [30, np.nan]])
    >>> scaler = SourceScaler(query_source="a").fit(X, sources=["a", "a", "b", "b"])
    >>> scaler.transform(X, sources=["a", "a", "b", "b"])
    array([[-1., -1.],
           [ 1.,  1.],
           [-1., nan],
           [ 1., nan]])
    >>> scaler.transform([[2, 3]])
    array([[1., 1.]])

    With a retriever:

    >>> import sklearn
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.retrieval import TransformedTargetRetriever
    >>> rng = np.random.default_rng(0)
    >>> X, y, sources = rng.normal(size=(40, 5)), rng.normal(size=(40, 9)), ["a", "b"]
    >>> with sklearn.config_context(enable_metadata_routing=True):
    ...     scaler = SourceScaler(query_source="a")
    ...     scaler = scaler.set_fit_request(sources=True)
    ...     scaler = scaler.set_transform_request(sources=True)
    ...     cca = CCA(3, ridge=0.1).set_fit_request(sample_weight=True)
    ...     model = TransformedTargetRetriever(cca, scaler)
    ...     _ = model.fit(X, y, sources=sources * 20, sample_weight=[1, 0.3] * 20)
    """

    _parameter_constraints: dict = {
        "query_source": [str, None],
        "with_mean": ["boolean"],
        "with_std": ["boolean"],
        "unit_length": ["boolean"],
    }

    def __init__(
        self, *, query_source=None, with_mean=True, with_std=True, unit_length=False
    ):
        self.query_source = query_source
        self.with_mean = with_mean
        self.with_std = with_std
        self.unit_length = unit_length

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None, *, sources=None) -> Self:
        """Learn mean and scale of each gene in each source.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_genes)
            Training profiles; NaN is a missing value.
        y : Ignored
            Not used, present for API consistency.
        sources : array-like of str of shape (n_profiles,), default=None
            The source of each profile; None takes all for one.

        Returns
        -------
        self : object
            Fitted transformer.

        Raises
        ------
        ValueError
            If there are several sources and no `query_source`, or it is none of them.

        Warns
        -----
        DataWarning
            If a source has one profile, which its own mean makes 0 in every gene; or
            `query_source` is given and `sources` are not, as where nothing routes them.
        """
        X = self._check(X, reset=True)
        codes, names = np.zeros(len(X), dtype=np.intp), [self.query_source]
        if sources is not None:
            codes, labels = encode_labels(sources, name="sources")
            check_same_rows(X=X, sources=codes)
            names = [str(label) for label in labels]
            self._check_query_source(names)
        moments = [_moments(X[codes == i]) for i in range(len(names))]
        self.sources_ = np.array(names, dtype=object)
        self.n_samples_seen_ = np.bincount(codes)
        if sources is None and self.query_source is not None:
            warnings.warn(
                f"query_source={self.query_source!r} was given, and fit had no sources:"
                f" all {len(X):,} profiles are scaled as one. In a Pipeline or a "
                "TransformedTargetRetriever, metadata routing brings them, see Notes.",
                DataWarning,
                stacklevel=3,
            )
        alone = self.sources_[self.n_samples_seen_ == 1]
        if sources is not None and self.with_mean and len(alone):
            warnings.warn(
                f"Less the mean of its source, a profile that is alone there is 0 in "
                f"every gene. Sources of one profile: {first_few(alone)}.",
                DataWarning,
                stacklevel=3,
            )
        self.mean_, self.scale_ = map(np.array, zip(*moments, strict=True))
        return self

    def _check_query_source(self, names):
        if self.query_source is None and len(names) == 1:
            return
        if self.query_source not in names:
            raise ValueError(
                "query_source must say which source profiles are of whose source is "
                f"not given later: one of {first_few(names)}. "
                f"Got {self.query_source!r}."
            )

    def transform(self, X, sources=None) -> NDArray:
        """Scale profiles as their sources say.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_genes)
            Profiles; NaN stays NaN, and a gene that the source lacked in `fit`
            becomes NaN.
        sources : array-like of str of shape (n_profiles,), default=None
            The source of each profile; None takes all for `query_source`.

        Returns
        -------
        scaled : ndarray of shape (n_profiles, n_genes)
            In the precision of X.

        Raises
        ------
        ValueError
            If a source was not seen in `fit`.
        """
        check_is_fitted(self)
        X = self._check(X, reset=False)
        places = self._places(sources, len(X))
        scaled = X.copy()
        for place in np.unique(places):
            rows = places == place
            if self.with_mean:
                scaled[rows] -= self.mean_[place].astype(X.dtype)
            if self.with_std:
                scaled[rows] /= self.scale_[place].astype(X.dtype)
            scaled[np.ix_(rows, np.isnan(self.mean_[place]))] = np.nan
        return _to_unit_length(scaled) if self.unit_length else scaled

    def fit_transform(self, X, y=None, *, sources=None) -> NDArray:
        """Fit, and scale the same profiles as their sources say.

        Parameters
        ----------
        X : array-like of shape (n_profiles, n_genes)
            Training profiles; NaN is a missing value.
        y : Ignored
            Not used, present for API consistency.
        sources : array-like of str of shape (n_profiles,), default=None
            The source of each profile; None takes all for one.

        Returns
        -------
        scaled : ndarray of shape (n_profiles, n_genes)
            In the precision of X.
        """
        return self.fit(X, sources=sources).transform(X, sources=sources)

    def _check(self, X, *, reset):
        return check_features(
            self, X, reset=reset, dtype=_FLOATS, ensure_all_finite="allow-nan"
        )

    def _places(self, sources, n_rows):
        """Return the place of each row's source among those of `fit`."""
        known = {name: i for i, name in enumerate(self.sources_)}
        if sources is None:
            place = known[self.query_source] if len(known) > 1 else 0
            return np.full(n_rows, place)
        codes, names = encode_labels(sources, name="sources")
        check_same_rows(X=np.empty((n_rows, 0)), sources=codes)
        unknown = [str(name) for name in names if str(name) not in known]
        if unknown:
            raise ValueError(
                f"sources must be those of fit, {first_few(self.sources_)}. "
                f"Got {first_few(unknown)} as well."
            )
        return np.array([known[str(name)] for name in names])[codes]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def _moments(X):
    """Mean and standard deviation of each column over its known values."""
    known = ~np.isnan(X)
    n = known.sum(axis=0)
    counts = np.where(n, n, np.nan)
    mean = np.where(known, X, 0).sum(axis=0, dtype=np.float64) / counts
    deviation = np.where(known, X - mean, 0)
    scale = np.sqrt(np.square(deviation).sum(axis=0) / counts)
    # Rounding is no spread, as in StandardScaler.
    constant = scale <= 10 * np.finfo(X.dtype).eps * np.abs(mean)
    return mean, np.where(constant, 1.0, scale)


def _to_unit_length(X):
    """Divide rows by their length; missing values count as the mean square does."""
    known = ~np.isnan(X)
    n = np.maximum(known.sum(axis=1), 1)
    squares = np.square(np.where(known, X, 0)).sum(axis=1, dtype=np.float64)
    length = np.sqrt(squares * X.shape[1] / n)
    return X / np.where(length > 0, length, 1.0)[:, None].astype(X.dtype)
