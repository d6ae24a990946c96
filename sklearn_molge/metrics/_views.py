"""The one place that looks inside Pipelines, searches and wrappers."""

from typing import Any

from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

__all__ = ["similarity"]


def resolve_views(estimator: Any, X: Any, y: Any) -> tuple[Any, Any, Any]:
    """Walk down to the two-view estimator, transforming both views on the way.

    Parameters
    ----------
    estimator : estimator
        A fitted two-view estimator, or a Pipeline, search, FrozenEstimator or
        TransformedTargetRetriever around one, in any nesting.
    X, y : array-like or None
        Molecules and profiles as the outermost estimator takes them; a view that is
        None stays None.

    Returns
    -------
    estimator, X, y
        The innermost estimator and the views as it takes them.
    """
    while True:
        if isinstance(estimator, Pipeline):
            if X is not None and len(estimator) > 1:
                X = estimator[:-1].transform(X)
            estimator = estimator.steps[-1][1]
        elif isinstance(estimator, FrozenEstimator):
            estimator = estimator.estimator
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "_resolve_views"):
            estimator, X, y = estimator._resolve_views(X, y)
        elif hasattr(estimator, "similarity"):
            return estimator, X, y
        else:
            raise TypeError(
                "estimator must be a fitted two-view estimator (one with a "
                "`similarity` method) or a Pipeline, search or wrapper that ends in "
                f"one. Got {estimator!r}."
            )


def similarity(estimator, X, y):
    """Similarity of every profile to every molecule, through any Pipeline.

    ``Pipeline`` passes only scikit-learn's own methods on; this function walks a
    Pipeline, a fitted search or a wrapper down to the two-view estimator instead.

    Parameters
    ----------
    estimator : estimator
        Fitted; see :func:`~sklearn_molge.metrics.retrieval_ranks`.
    X : array-like of shape (n_molecules,) or (n_molecules, n_features)
        Molecules, as `estimator` was fitted on them.
    y : array-like of shape (n_profiles, n_genes)
        Profiles, as `estimator` was fitted on them.

    Returns
    -------
    similarity : ndarray of shape (n_profiles, n_molecules)
        Larger means closer.

    Raises
    ------
    TypeError
        If there is no two-view estimator inside.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.metrics import similarity
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> import numpy as np
    >>> X = np.array(["CCO", "CCN", "CCCl", "c1ccccc1O"], dtype=object)
    >>> y = np.random.default_rng(0).normal(size=(4, 5))
    >>> pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(2, ridge=0.1))
    >>> similarity(pipe.fit(X, y), X[:3], y).shape
    (4, 3)
    """
    two_view, X, y = resolve_views(estimator, X, y)
    return two_view.similarity(X, y)
