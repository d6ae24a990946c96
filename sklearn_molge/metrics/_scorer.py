"""RetrievalScorer: the retrieval scores as a scikit-learn scorer."""

from sklearn.base import BaseEstimator

from sklearn_molge._compat import StrOptions
from sklearn_molge.metrics._ranks import rank_queries
from sklearn_molge.metrics._scores import NAMED, Score, get_score, get_scores

__all__ = ["RetrievalScorer"]


class RetrievalScorer(BaseEstimator):
    """Scorer of two-view estimators for cross-validation and searches.

    Every score comes from one ranking of the test fold's molecules. All are larger
    for better: a score of which smaller is better is negated, and its key starts with
    ``neg_``, as in "neg_median_rank".

    Parameters
    ----------
    scoring : str or Score, default=None
        None returns all scores in a dictionary, for ``cross_validate`` and searches
        with ``refit="mrr"``. A key of it, such as "mrr" or "hits@25", or your own
        :class:`Score`, returns that number alone, for ``learning_curve`` and
        ``cross_val_score``.
    scores : sequence of str or Score, default=None
        What the dictionary holds: names and your own; see :func:`get_scores`. By
        default "mrr", "median_rank" and "hits@k" for each `k`.
    k : sequence of int, default=(1, 10, 100)
        Where hits are counted if `scores` is None.
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
        "scoring": [str, Score, None],
        "scores": ["array-like", None],
        "k": ["array-like"],
        "per": [StrOptions({"profile", "drug"})],
    }

    def __init__(self, scoring=None, *, scores=None, k=(1, 10, 100), per="profile"):
        self.scoring = scoring
        self.scores = scores
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
            By default with the keys "mrr", "neg_median_rank" and "hits@k" for each k.
        """
        self._validate_params()
        scores = {_key(score): score for score in get_scores(self.scores, k=self.k)}
        chosen = None if self.scoring is None else self._one_score(scores)
        ranked = rank_queries(estimator, X, y, drugs=drugs, per=self.per)
        if chosen is not None:
            return _larger_is_better(chosen, ranked.ranks)
        return {key: _larger_is_better(s, ranked.ranks) for key, s in scores.items()}

    def _one_score(self, scores):
        """Return the score that `scoring` names."""
        scoring = self.scoring
        if isinstance(scoring, Score):
            return scoring
        if scoring in scores:
            return scores[scoring]
        known = {_key(score) for score in NAMED.values()}
        if scoring in known or scoring.startswith("hits@"):
            return get_score(scoring.removeprefix("neg_"), parameter="scoring")
        raise ValueError(
            "The 'scoring' parameter of RetrievalScorer must be None, a Score or one "
            f"of {list(scores)}, or 'hits@k'. Got {scoring!r} instead."
        )

    def __call__(self, estimator, X, y, drugs=None):
        """Score a fitted estimator on test rows, as scikit-learn calls a scorer."""
        return self.score(estimator, X, y, drugs=drugs)


def _key(score):
    return score.name if score.greater_is_better else f"neg_{score.name}"


def _larger_is_better(score, ranks):
    return score(ranks) if score.greater_is_better else -score(ranks)
