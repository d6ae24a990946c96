"""RetrievalScorer: the retrieval scores as a scikit-learn scorer."""

import warnings

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_molge._compat import StrOptions
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.rows import as_indexable
from sklearn_molge.exceptions import FewCandidatesWarning, LeakageWarning
from sklearn_molge.metrics._ranks import rank_queries
from sklearn_molge.metrics._scores import (
    NAMED,
    Score,
    get_score,
    get_scores,
    query_values,
)

__all__ = ["RetrievalScorer"]

# Where hits are counted if nobody says where.
_K = (1, 10, 100)


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
    drugs : array-like of shape (n_samples,), default=None
        Identity of each row's molecule where the rows are the same in every call, as
        in scikit-learn's ``permutation_importance``. Cross-validation takes parts of
        the rows: route `drugs` there, see Notes.
    gallery : array-like of shape (n_molecules,) or (n_molecules, n_features), \
            default=None
        Further molecules to rank beside those of the test fold, written as X is: with
        all molecules of a study, every fold ranks the same candidates.
    known_drugs : {"warn", "ignore"}, default="warn"
        What to do where new profiles are scored of molecules that the estimator was
        fitted on, as in a plain ``cv=5``. "ignore" where that is meant, as with
        ``DrugCellLineKFold(hold_out="cell_lines")``.

    Warns
    -----
    LeakageWarning
        If molecules of new profiles were in the training, unless `known_drugs` is
        "ignore". An oracle sees the test drugs by definition, and is silent.
    FewCandidatesWarning
        If fewer than 20 molecules are ranked, or a score is the same for every model
        among so few, as "hits@100" among 100. Among fewer than 2 all scores are NaN.

    See Also
    --------
    retrieval_ranks : The ranks behind the scores.
    chance_scores : What a random ranking scores.
    sklearn_molge.model_selection.cross_val_ranks : Ranks of all folds, to be pooled.

    Notes
    -----
    In a Pipeline the molecules are still SMILES here, so a drug is known by
    :func:`~sklearn_molge.molecules.drug_ids`. For features, route `drugs` as metadata:
    ``RetrievalScorer().set_score_request(drugs=True)``. A scorer that raises becomes
    NaN in ``cross_validate`` unless ``error_score="raise"``.

    A two-view estimator remembers hashes of the rows that it was fitted on. Rows whose
    profile is one of them are training scores, and no leak. Where it was fitted on
    features, as behind a fingerprint, different molecules may share them: the warning
    comes when more than a quarter of the drugs with new profiles are known. Rows that
    a step computes otherwise in ``fit_transform`` than in ``transform`` by more than
    rounding are not recognised.

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
        "drugs": ["array-like", None],
        "gallery": ["array-like", "sparse matrix", None],
        "known_drugs": [StrOptions({"warn", "ignore"})],
    }

    def __init__(
        self,
        scoring=None,
        *,
        scores=None,
        k=_K,
        per="profile",
        drugs=None,
        gallery=None,
        known_drugs="warn",
    ):
        self.scoring = scoring
        self.scores = scores
        self.k = k
        self.per = per
        self.drugs = drugs
        self.gallery = gallery
        self.known_drugs = known_drugs

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
        ranked = rank_queries(
            estimator,
            X,
            y,
            drugs=self._drugs(X) if drugs is None else drugs,
            per=self.per,
            gallery=self.gallery,
        )
        if self.known_drugs == "warn" and len(ranked.known):
            _say_known(ranked)
        asked = scores if chosen is None else {_key(chosen): chosen}
        by_default = self.scores is None and tuple(self.k) == _K and chosen is None
        values = _evaluate(asked, ranked, tell_constant=not by_default)
        return values if chosen is None else values[_key(chosen)]

    def _drugs(self, X):
        """Return the drugs of the constructor, which must be those of X."""
        if self.drugs is None:
            return None
        n_labels, n_rows = (as_indexable(a).shape[0] for a in (self.drugs, X))
        if n_labels != n_rows:
            raise ValueError(
                f"drugs of RetrievalScorer has {n_labels} labels for {n_rows} rows. "
                "permutation_importance needs max_samples=1.0. Where parts of the rows "
                "are scored, as in cross-validation, route them: "
                "sklearn.set_config(enable_metadata_routing=True), "
                "RetrievalScorer().set_score_request(drugs=True), and "
                "params={'drugs': drugs}."
            )
        return self.drugs

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


def _evaluate(scores, ranked, *, tell_constant):
    """Return the value of each score; NaN among fewer than two candidates."""
    if ranked.n_candidates < 2:
        return dict.fromkeys(scores, np.nan)
    every_rank = np.arange(1.0, ranked.n_candidates + 1)
    constant = [
        key
        for key, score in scores.items()
        if np.ptp(query_values(score, every_rank)) == 0
    ]
    if constant and tell_constant:
        warnings.warn(
            f"Any model has the same {', '.join(constant)} here: only "
            f"{ranked.n_candidates} molecules were ranked.",
            FewCandidatesWarning,
            stacklevel=4,
        )
    return {
        key: score(ranked.ranks) if score.greater_is_better else -score(ranked.ranks)
        for key, score in scores.items()
    }


def _say_known(ranked):
    warnings.warn(
        f"{len(ranked.known)} of the {len(np.unique(ranked.drugs))} test drugs were in "
        "the training, with other profiles: "
        f"{first_few(ranked.known, write=str, n=3)}. This is no score of unseen "
        "molecules. Split by drug: cv=DrugCellLineKFold(hold_out='drugs'), with "
        "groups. If known drugs are meant to be tested, "
        "RetrievalScorer(known_drugs='ignore') says so.",
        LeakageWarning,
        stacklevel=4,
    )
