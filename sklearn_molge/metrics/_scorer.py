"""RetrievalScorer: the retrieval scores as a scikit-learn scorer."""

from sklearn.base import BaseEstimator

from sklearn_molge._compat import StrOptions
from sklearn_molge.metrics._ranks import rank_queries
from sklearn_molge.metrics._scores import retrieval_scores

__all__ = ["RetrievalScorer"]


class RetrievalScorer(BaseEstimator):
    """Scorer of two-view estimators for cross-validation and searches.

    Every score comes from one ranking of the test fold's molecules. All are larger
    for better, so the median rank is negated.

    Parameters
    ----------
    scoring : str, default=None
        None returns all scores in a dictionary, for ``cross_validate`` and searches
        with ``refit="mrr"``. A key of it, such as "mrr", returns that number alone,
        for ``learning_curve`` and ``cross_val_score``.
    k : sequence of int, default=(1, 10, 100)
        Where hits are counted.
    per : {"profile", "drug"}, default="profile"
        Whether a query is a profile, or a drug's mean in the joint space.

    See Also
    --------
    retrieval_ranks : The ranks behind the scores.
    chance_scores : What a random ranking scores.

    Notes
    -----
    In a Pipeline the molecules are still SMILES here, so a drug is known by
    :func:`~sklearn_molge.molecules.drug_ids`. For features, route `drugs` as metadata:
    ``RetrievalScorer().set_score_request(drugs=True)``. A scorer that raises becomes
    NaN in ``cross_validate`` unless ``error_score="raise"``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.metrics import RetrievalScorer
    >>> from sklearn_molge.retrieval import OracleRetriever
    >>> X = np.array(["CCO", "CCN", "CCO", "CCN"], dtype=object)
    >>> y = np.array([[0.0, 1, 2], [2, 1, 0], [0, 1, 3], [3, 1, 0]])
    >>> oracle = OracleRetriever().fit(X, y)
    >>> RetrievalScorer(k=(1,))(oracle, X, y)
    {'mrr': 1.0, 'neg_median_rank': -1.0, 'hits@1': 1.0}
    >>> RetrievalScorer("mrr")(oracle, X, y)
    1.0
    """

    _parameter_constraints: dict = {
        "scoring": [str, None],
        "k": ["array-like"],
        "per": [StrOptions({"profile", "drug"})],
    }

    def __init__(self, scoring=None, *, k=(1, 10, 100), per="profile"):
        self.scoring = scoring
        self.k = k
        self.per = per

    def score(self, estimator, X, y, drugs=None):
        """Score a fitted estimator on test rows.

        Parameters
        ----------
        estimator : estimator
            A fitted two-view estimator, or a Pipeline, search or wrapper around one.
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            The molecule of each row.
        y : array-like of shape (n_samples, n_genes)
            The profile of each row.
        drugs : array-like of shape (n_samples,), default=None
            Identity of each row's molecule; see
            :func:`~sklearn_molge.metrics.retrieval_ranks`.

        Returns
        -------
        scores : dict of str to float, or float
            Keys "mrr", "neg_median_rank" and "hits@k" for each k.
        """
        self._validate_params()
        names = ["mrr", "neg_median_rank", *(f"hits@{k}" for k in self.k)]
        if self.scoring is not None and self.scoring not in names:
            raise ValueError(
                f"The 'scoring' parameter of RetrievalScorer must be None or one of "
                f"{names}. Got {self.scoring!r} instead."
            )
        ranked = rank_queries(estimator, X, y, drugs=drugs, per=self.per)
        scores = retrieval_scores(ranked.ranks, k=self.k)
        scores["neg_median_rank"] = -scores.pop("median_rank")
        scores = {name: float(scores[name]) for name in names}
        return scores if self.scoring is None else scores[self.scoring]

    def __call__(self, estimator, X, y, drugs=None):
        """Score a fitted estimator on test rows, as scikit-learn calls a scorer."""
        return self.score(estimator, X, y, drugs=drugs)
