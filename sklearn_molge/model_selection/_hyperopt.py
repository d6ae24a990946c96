"""HyperoptSearchCV: hyperopt's search in scikit-learn's words."""

import os
import time
import warnings
from functools import partial
from numbers import Integral
from traceback import format_exc
from typing import Self

import joblib
import numpy as np
from hyperopt import pyll
from sklearn.base import clone, is_classifier
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state, indexable
from sklearn.utils.parallel import Parallel, delayed

from sklearn_molge._compat import (
    BaseSearchCV,
    Interval,
    StrOptions,
    _check_method_params,
    _fit_and_score,
    _fit_context,
    _MultimetricScorer,
)
from sklearn_molge._utils.identity import NotImportableError, describe
from sklearn_molge._utils.progress import progress_bar
from sklearn_molge.model_selection._hyperopt_trials import (
    SearchSpace,
    TrialFile,
    TrialLog,
    has_stalled,
    suggest_function,
)
from sklearn_molge.molecules import parsed_once

__all__ = ["HyperoptSearchCV"]

_COUNT = Interval(Integral, 1, None, closed="left")


class HyperoptSearchCV(BaseSearchCV):
    """Search over parameters with hyperopt: each trial learns from those before.

    Like :class:`~sklearn.model_selection.RandomizedSearchCV`, but after some random
    points hyperopt's tree-structured Parzen estimator (TPE) draws where earlier trials
    scored well. Spaces may be nested: parameters of a choice are drawn only with it. A
    trial that fails is recorded and the search goes on; with `trials_path` a killed
    search goes on where it was.

    Parameters
    ----------
    estimator : estimator
        Cloned for each trial and fold.
    param_distributions : dict or hyperopt expression
        Parameter names to hyperopt expressions, lists to choose from, or fixed values.
        Where a value is drawn that is itself a dict of parameters, its entries are
        set, and the name of the entry is only a label: ``{"kernel": hp.choice("kernel",
        [{"kernel": "linear"}, {"kernel": "rbf", "gamma": hp.loguniform("gamma", -5,
        0)}])}``. Use ``hp.uniformint`` for integers; ``hp.quniform`` draws floats.
        Equal expressions of one label are one, and draw one value. Inside expressions
        hyperopt turns lists into tuples.
    n_iter : int, default=50
        Number of trials.
    algorithm : {"tpe", "random", "anneal"} or callable, default="tpe"
        How points are suggested; a callable has the signature of
        ``hyperopt.tpe.suggest``.
    n_initial_points : int, default=20
        With "tpe": number of random trials at the start (hyperopt's
        ``n_startup_jobs``).
    scoring : str, callable, list, tuple or dict, default=None
        As in GridSearchCV; greater is better. Several metrics may come from a dict or
        from a callable that returns one, such as
        :class:`~sklearn_molge.metrics.RetrievalScorer`.
    objective : str, default=None
        The metric that is maximised where there are several; by default `refit`.
    n_jobs : int, default=None
        Number of fits at a time: folds of the `n_suggestions` trials of a round. It
        does not change the result.
    refit : bool, str or callable, default=True
        As in GridSearchCV.
    cv : int, splitter or iterable, default=None
        As in GridSearchCV. Splits are drawn once and shared by all trials.
    verbose : int, default=0
        1 shows a progress bar with the best score, 2 also prints each trial.
    pre_dispatch : int or str, default="2*n_jobs"
        As in GridSearchCV.
    error_score : "raise" or float, default=np.nan
        Score of a fold whose fit or scoring failed. With NaN the trial counts as
        failed: hyperopt keeps away from it, and its mean score is NaN.
    return_train_score : bool, default=False
        Whether `cv_results_` has scores on the training folds.
    n_suggestions : int, default=1
        Trials of a round: suggested together, without knowing each other's scores, and
        evaluated in parallel. More are faster with many `n_jobs`, fewer learn more.
    early_stopping : int or None, default=None
        Stop after so many trials without a better mean score.
    trials_path : path-like or None, default=None
        File (JSON) that keeps the trials after each round. If it exists the search
        goes on from it; see Notes.
    random_state : int, RandomState instance or None, default=None
        Decides the suggestions. Pass an int to get the same trials again, if the
        estimator and `cv` give the same scores again.

    Attributes
    ----------
    cv_results_ : dict of str to ndarray
        As in GridSearchCV, in the order of suggestion; parameters that a trial did not
        have are masked. ``cv_results_["error"]`` has the traceback of the first fold
        that failed, or None.
    best_estimator_ : estimator
        Fitted on all data with `best_params_`, if `refit`.
    best_score_ : float
        Mean score of `best_params_`, if `refit` is not callable.
    best_params_ : dict
        Parameters of the best trial.
    best_index_ : int
        Its place in `cv_results_`.
    trials_ : hyperopt.Trials
        hyperopt's record, for its own tools.
    scorer_ : callable or dict
        The scorer.
    n_splits_ : int
        Number of folds.
    refit_time_ : float
        Seconds of the last fit, if `refit`.
    multimetric_ : bool
        Whether there are several metrics.
    n_features_in_ : int
        Of `best_estimator_`.
    feature_names_in_ : ndarray of str
        Of `best_estimator_`, if it has them.

    See Also
    --------
    sklearn.model_selection.RandomizedSearchCV : All points are drawn beforehand.
    sklearn_molge.alignment.finlayson2020_search_space : The space of the paper.
    sklearn_molge.inspection.parameter_importance : Which parameters mattered.

    Notes
    -----
    A file of trials belongs to a search: estimator, space, data, fit parameters,
    splits, scoring, algorithm, round size and seed, by a hash. Any other search refuses
    it and names what differs. A search that goes on ends with the trials of one that
    was never interrupted, apart from times. `n_iter` and `early_stopping` may change:
    more trials are added to a finished search, in rounds of their own. With
    ``random_state=None`` the seed is taken from the file. A shuffling `cv` needs an
    int `random_state`, else its splits differ. What is a search's own, such as a
    function that scores, must be importable by its name, and be no lambda.

    Callbacks given to `set_callbacks` see the search as one task.

    References
    ----------
    Bergstra, Bardenet, Bengio and Kegl 2011, "Algorithms for Hyper-Parameter
    Optimization". Finlayson et al. 2020 search with TPE over 100 trials.

    Examples
    --------
    >>> from hyperopt import hp
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.linear_model import Ridge
    >>> from sklearn_molge.model_selection import HyperoptSearchCV
    >>> X, y = load_diabetes(return_X_y=True)
    >>> search = HyperoptSearchCV(
    ...     Ridge(), {"alpha": hp.loguniform("alpha", -10, 5)}, n_iter=30, cv=3,
    ...     n_initial_points=10, random_state=0,
    ... ).fit(X, y)
    >>> round(search.best_params_["alpha"], 2), round(float(search.best_score_), 3)
    (0.06, 0.489)
    """

    _parameter_constraints: dict = {
        **BaseSearchCV._parameter_constraints,
        "param_distributions": [dict, pyll.Apply],
        "n_iter": [_COUNT],
        "algorithm": [StrOptions({"tpe", "random", "anneal"}), callable],
        "n_initial_points": [_COUNT],
        "objective": [str, None],
        "n_suggestions": [_COUNT],
        "early_stopping": [_COUNT, None],
        "trials_path": [str, os.PathLike, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator,
        param_distributions,
        *,
        n_iter=50,
        algorithm="tpe",
        n_initial_points=20,
        scoring=None,
        objective=None,
        n_jobs=None,
        refit=True,
        cv=None,
        verbose=0,
        pre_dispatch="2*n_jobs",
        error_score=np.nan,
        return_train_score=False,
        n_suggestions=1,
        early_stopping=None,
        trials_path=None,
        random_state=None,
    ):
        super().__init__(
            estimator=estimator,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.param_distributions = param_distributions
        self.n_iter = n_iter
        self.algorithm = algorithm
        self.n_initial_points = n_initial_points
        self.objective = objective
        self.n_suggestions = n_suggestions
        self.early_stopping = early_stopping
        self.trials_path = trials_path
        self.random_state = random_state

    # scikit-learn's own `fit` calls `_run_search`, but raises where all trials of a
    # round fail, keeps no error text, and cannot go on from trials of another run.
    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y=None, **params) -> Self:
        """Search, and fit the best parameters on all data.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Data, as `estimator` takes them.
        y : array-like of shape (n_samples, ...), default=None
            Targets, or profiles.
        **params : dict
            `groups` for the splitter, and parameters for the estimator's `fit` (and,
            with metadata routing, for the scorer and the splitter).

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If a parameter, the space or a name in it is not what it should be, if
            `trials_path` holds another search, or if no trial has a score: if each
            failed or scored NaN in a fold.
        CorruptFileError
            If the file of `trials_path` is damaged or was edited: it has a checksum,
            and each trial is compared with the space.
        TypeError
            If there is a `trials_path` and a function or class in the search that
            cannot be imported by its name.
        KeyboardInterrupt
            If the user interrupts; with `trials_path` the same call goes on.
        """
        scorer = self._check_scoring()
        space = SearchSpace(self.param_distributions)
        base = clone(self.estimator)
        space.check(base)
        X, y = indexable(X, y)
        routed = self._get_routed_params_for_fit(_check_method_params(X, params))
        context = self._init_callback_context(max_subtasks=0).call_on_fit_task_begin(
            estimator=self, X=X, y=y, metadata=None
        )
        cv = check_cv(self.cv, y, classifier=is_classifier(base))
        folds = _Folds(
            base,
            X,
            y,
            list(cv.split(X, y, **routed.splitter.split)),
            scorer=scorer,
            fit_params=routed.estimator.fit,
            score_params=routed.scorer.score,
            return_train_score=self.return_train_score,
            error_score=self.error_score,
        )
        self.n_splits_ = len(folds.splits)
        with parsed_once():  # the trials share molecules and features
            self._collect(self._search(space, folds))
            if self.refit:
                self._refit(base, X, y, routed.estimator.fit)
        several = isinstance(scorer, _MultimetricScorer)
        self.scorer_ = scorer._scorers if several else scorer
        context.call_on_fit_task_end(estimator=self, X=X, y=y, metadata=None)
        return self

    def _check_scoring(self):
        """Return the scorer; refuse what cannot be known to fail later."""
        scorer, _ = self._get_scorers()
        if isinstance(scorer, _MultimetricScorer):
            self._find_metric([{"test_scores": scorer._scorers, "error": None}])
            scorer._raise_exc = True  # else a metric's error is taken for its score
        return scorer

    @property
    def _find_metric(self):
        return partial(_find_metric, objective=self.objective, refit=self.refit)

    def _search(self, space, folds):
        """Run all trials, or those that a file does not have yet."""
        file = saved = None
        if self.trials_path is not None:
            try:
                identity = _identify(self, space, folds)
            except NotImportableError as error:
                raise TypeError(f"trials_path: {error}") from error
            file = TrialFile(self.trials_path, identity)
        log = TrialLog(
            space,
            suggest_function(self.algorithm, self.n_initial_points),
            seed=int(check_random_state(self.random_state).randint(2**31 - 1)),
            error_score=self.error_score,
            find_metric=self._find_metric,
        )
        if file is not None:
            saved = file.read(
                log,
                n_splits=len(folds.splits),
                return_train_score=self.return_train_score,
            )
        if saved is not None:
            log.seed = saved["seed"]
        self.trials_ = log.trials
        for trial in [] if saved is None else saved["trials"][: self.n_iter]:
            log.add(trial["values"])
            log.record(trial["folds"])
        _run_rounds(
            log,
            folds,
            file=file,
            n_iter=self.n_iter,
            n_suggestions=self.n_suggestions,
            patience=self.early_stopping,
            verbose=self.verbose,
            n_jobs=self.n_jobs,
            pre_dispatch=self.pre_dispatch,
        )
        return log

    def _collect(self, log):
        """Set the attributes about the trials."""
        errors = _collect_errors(log.folds)
        if np.isnan(log.best_score):
            raise ValueError(
                f"None of the {len(log)} trials has a score: in each a fold failed or "
                "scored NaN, as a retrieval score does where a fold tests one drug."
            )
        scored = _scored_folds(
            [fold for folds in log.folds for fold in folds],
            error_score=self.error_score,
            return_train_score=self.return_train_score,
        )
        with warnings.catch_warnings():
            if any(errors):  # _collect_errors has said it, and which
                warnings.filterwarnings("ignore", "One or more of the", UserWarning)
            results = self._format_results(log.params, self.n_splits_, scored)
        results["error"] = errors
        self.multimetric_ = isinstance(scored[0]["test_scores"], dict)
        if self.multimetric_:
            self._check_refit_for_multimetric(scored[0]["test_scores"])
        if self.refit or not self.multimetric_:
            metric = self.refit if self.multimetric_ else "score"
            self.best_index_ = self._select_best_index(self.refit, metric, results)
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{metric}"][self.best_index_]
            self.best_params_ = results["params"][self.best_index_]
        self.cv_results_ = results

    def _refit(self, base, X, y, fit_params):
        params = clone(self.best_params_, safe=False)
        self.best_estimator_ = clone(base).set_params(**params)
        start = time.time()
        if y is None:
            self.best_estimator_.fit(X, **fit_params)
        else:
            self.best_estimator_.fit(X, y, **fit_params)
        self.refit_time_ = time.time() - start
        if hasattr(self.best_estimator_, "feature_names_in_"):
            self.feature_names_in_ = self.best_estimator_.feature_names_in_


def _run_rounds(
    log, folds, *, file, n_iter, n_suggestions, patience, verbose, **parallel_options
):
    """Fill `log` up to `n_iter` trials, or until nothing has improved for a while.

    The points of a round are suggested together, and all their folds are evaluated in
    one parallel call: how many run at a time does not change what is suggested.
    """
    n_splits = len(folds.splits)
    bar = progress_bar(shown=verbose, total=n_iter, initial=len(log), unit="trial")
    with bar, Parallel(**parallel_options) as parallel:
        while len(log) < n_iter and not has_stalled(log.losses, patience):
            start = len(log)
            points = log.suggest(min(n_suggestions, n_iter - start))
            out = parallel(task for point in points for task in folds.tasks(point))
            for i, point in enumerate(points):
                log.record(out[i * n_splits : (i + 1) * n_splits])
                if verbose > 1:
                    score = "failed" if log.losses[-1] is None else -log.losses[-1]
                    bar.write(f"trial {start + i}: score={score}, {point}")
            if file is not None:
                file.write(log)
            bar.set_postfix(best=f"{log.best_score:.4g}")
            bar.update(len(points))


class _Folds:
    """Estimator, data and splits of a search.

    Parameters
    ----------
    estimator : estimator
        Cloned for each fold.
    X, y : array-like
        The data.
    splits : list of (train, test)
        Row indices. They are drawn once: trials must not differ by them.
    **options : dict
        Passed to scikit-learn's ``_fit_and_score``; `error_score` among them.
    """

    def __init__(self, estimator, X, y, splits, **options):
        if not splits:
            raise ValueError("cv must yield at least one split. It yielded none.")
        self.estimator = estimator
        self.X, self.y = X, y
        self.splits = splits
        self.options = options

    def tasks(self, params):
        """Yield the folds of one trial as tasks for joblib."""
        for train, test in self.splits:
            yield delayed(_evaluate_fold)(
                clone(self.estimator),
                self.X,
                self.y,
                train=train,
                test=test,
                parameters=params,
                **self.options,
            )


def _evaluate_fold(estimator, X, y, *, error_score, **options):
    start = time.perf_counter()
    try:
        fold = _fit_and_score(
            estimator,
            X,
            y,
            verbose=0,
            return_times=True,
            error_score="raise",
            **options,
        )
    except Exception:
        if error_score == "raise":
            raise
        elapsed = time.perf_counter() - start
        return {
            "fit_time": elapsed,
            "score_time": 0.0,
            "test_scores": None,
            "error": format_exc(),
        }
    fold["error"] = fold.pop("fit_error")
    return fold


def _find_metric(folds, *, objective, refit):
    """Return the name of the metric to maximise, None where there is only one.

    Raises ValueError where there are several and neither name is one of them.
    """
    scores = next((f["test_scores"] for f in folds if f["error"] is None), None)
    if scores is None:
        return None
    if not isinstance(scores, dict):
        if objective is not None:
            raise ValueError(
                f"objective={objective!r} names one of several metrics, and scoring "
                "returns a single number."
            )
        return None
    name = refit if objective is None else objective
    if not isinstance(name, str) or name not in scores:
        raise ValueError(
            f"scoring returns several metrics, {sorted(scores)}: refit or objective "
            f"must name the one to maximise. Got refit={refit!r} and "
            f"objective={objective!r}."
        )
    if refit and not callable(refit) and refit not in scores:
        raise ValueError(
            f"scoring returns several metrics, {sorted(scores)}: refit must be one of "
            f"them, a function or False. Got {refit!r}."
        )
    return name


def _scored_folds(folds, *, error_score, return_train_score):
    """Return the folds as scikit-learn formats them, failures with `error_score`."""
    good = next(fold["test_scores"] for fold in folds if fold["error"] is None)
    failed = error_score
    if isinstance(good, dict):
        failed = dict.fromkeys(good, error_score)
    names = ["test_scores", "train_scores"][: 1 + return_train_score]
    return [
        {
            "fit_time": fold["fit_time"],
            "score_time": fold["score_time"],
            **{name: fold[name] if fold["error"] is None else failed for name in names},
        }
        for fold in folds
    ]


def _collect_errors(trials):
    """Return each trial's first traceback or None, with a warning where there is one.

    Raises ValueError where all folds of all trials failed.
    """
    texts = [next((f["error"] for f in folds if f["error"]), None) for folds in trials]
    failed = [text for text in texts if text is not None]
    if all(fold["error"] for folds in trials for fold in folds):
        raise ValueError(
            f"All {len(trials)} trials failed. It is very likely that the model or the "
            "space is misconfigured; error_score='raise' stops at the first. The last "
            f"error:\n{texts[-1]}"
        )
    if failed:
        warnings.warn(
            f"{len(failed)} of {len(trials)} trials failed in at least one fold; "
            f"cv_results_['error'] has the errors. The last one:\n{failed[-1]}",
            FitFailedWarning,
            stacklevel=4,
        )
    return np.array(texts, dtype=object)


def _identify(search, space, folds):
    """Return a hash of all that decides the trials of a search, by what it is of."""
    refit = search.refit if isinstance(search.refit, str) else None
    options = folds.options
    parts = {
        "estimator": describe(search.estimator),
        "param_distributions": space.identity(),
        "algorithm": [describe(search.algorithm), search.n_initial_points],
        "n_suggestions": search.n_suggestions,
        "scoring": describe([search.scoring, search.objective, refit]),
        "error_score": repr(search.error_score),
        "return_train_score": search.return_train_score,
        "X": folds.X,
        "y": folds.y,
        "fit parameters": [options["fit_params"], options["score_params"]],
        "the splits of cv": folds.splits,
        "random_state": describe(search.random_state),
    }
    return {name: joblib.hash(part) for name, part in parts.items()}
