"""ConformalRetriever: how sure an answer is, calibrated on unseen molecules."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from numbers import Integral, Real
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import minimize
from scipy.sparse.csgraph import connected_components
from scipy.special import logsumexp
from sklearn.base import clone
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    LeaveOneGroupOut,
    LeavePGroupsOut,
    StratifiedGroupKFold,
    check_cv,
)
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
)
from sklearn.utils.parallel import Parallel, delayed
from sklearn.utils.validation import check_array, check_is_fitted

from sklearn_molge._compat import (
    HasMethods,
    Interval,
    _check_method_params,
    _fit_context,
    _safe_indexing,
    validate_parameter_constraints,
)
from sklearn_molge._utils.checks import check_named, check_same_rows
from sklearn_molge._utils.groups import encode_groups
from sklearn_molge._utils.identity import is_frozen
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.rows import (
    as_indexable,
    distinct_rows,
    is_text,
    take_distinct,
)
from sklearn_molge._utils.views import comparison, trained_rows
from sklearn_molge.base import (
    check_profiles,
    identify_drugs,
    one_row_per_drug,
    trained_molecules,
)
from sklearn_molge.exceptions import (
    CalibrationWarning,
    DataWarning,
    FewCandidatesWarning,
    LeakageWarning,
)
from sklearn_molge.model_selection import DrugCellLineKFold
from sklearn_molge.molecules import parsed_once
from sklearn_molge.retrieval._wrapper import BaseWrapper, metadata_for

__all__ = ["ConformalRetriever"]

Floats = NDArray[np.float64]

# Fewer candidates than this say little about a longer list.
_N_ENOUGH = 20
# By default. Clones that train on much less are worse than the retriever, and sets too
# large: with 3 folds of the drugs, each with 3 of the lines, 90 % sets of a Gaussian
# process held 95 % of L1000 profiles, with these 92 %.
_N_FOLDS = 8
_N_ROWS_OF_FOLD = 5
# Of new drugs with the features of a drug of the training: 15 % at 512 bits, in L1000.
_TOLERATED_SHARE = 0.25
# The steepest slope, per standard deviation of the similarities: beliefs of 0 and 1.
_STEEPEST = 1e3
# 1 - 0.9 is not 0.1 in floating point.
_ROUNDING = 1e-9

# scikit-learn's splitters that take groups of one column: they get the drugs.
_BY_DRUG = (
    GroupKFold,
    GroupShuffleSplit,
    LeaveOneGroupOut,
    LeavePGroupsOut,
    StratifiedGroupKFold,
)

_COVERAGE = {"coverage": [Interval(Real, 0, 1, closed="neither")]}


@dataclass(frozen=True)
class _Queries:
    """Profiles of molecules that a retriever has not seen, compared with such ones.

    Attributes
    ----------
    similarities : ndarray of shape (n_queries, n_candidates)
    match : ndarray of shape (n_queries,)
        Column of each query's own molecule.
    drugs : ndarray of shape (n_queries,)
        The query's drug.
    """

    similarities: NDArray
    match: NDArray[np.intp]
    drugs: NDArray[np.object_]

    def own(self, values: NDArray) -> NDArray:
        """Return of each row the entry of the query's own molecule."""
        return values[np.arange(len(self.match)), self.match]


@dataclass(frozen=True)
class _Curve:
    """From similarities to beliefs: a softmax of a u + c u |u|, u standardised.

    Attributes
    ----------
    mean, scale : float
        Of the finite similarities of the calibration.
    slopes : ndarray of shape (2,)
        a and c, at least 0, so that the order of candidates stays.
    """

    mean: float
    scale: float
    slopes: Floats

    @classmethod
    def fitted(cls, folds, weights, *, bent: bool) -> _Curve:
        """Return the one of maximum likelihood; without `bent`, c is 0."""
        values = np.concatenate([fold.similarities.ravel() for fold in folds])
        values = values[np.isfinite(values)]
        start = cls(float(values.mean()) if len(values) else 0.0, 1.0, np.zeros(2))
        scale = float(values.std()) if len(values) else 0.0
        if scale <= _ROUNDING * abs(start.mean):
            return start
        start = replace(start, scale=scale)

        def loss(slopes):
            """Mean negative log lift, convex: that of equal beliefs is 0."""
            curve, slope = replace(start, slopes=slopes), np.zeros(2)
            total, end = 0.0, 0
            for fold in folds:
                terms = curve.terms(fold.similarities)
                lift = curve.log_lift(fold.similarities)
                own = fold.own(lift)
                begin, end = end, end + len(own)
                # An oracle's own molecule may be minus infinity away at any slope.
                known = np.where(np.isfinite(own), weights[begin:end], 0.0)
                total -= float(known @ np.where(np.isfinite(own), own, 0.0))
                belief = np.exp(lift) / lift.shape[1]
                for i, term in enumerate(terms):
                    slope[i] -= known @ (fold.own(term) - (belief * term).sum(axis=1))
            return total / weights.sum(), slope / weights.sum()

        bounds = [(0, _STEEPEST), (0, _STEEPEST if bent else 0)]
        found = minimize(
            loss, [0.5, 0.0], jac=True, bounds=bounds, method="L-BFGS-B",
            options={"ftol": 1e-12, "gtol": 1e-7, "maxiter": 1000},
        )  # fmt: skip
        return replace(start, slopes=found.x) if found.fun < 0 else start

    def terms(self, similarities: NDArray) -> tuple[Floats, Floats]:
        """Return u and u |u|; 0 where a similarity is minus infinity."""
        finite = np.where(np.isfinite(similarities), similarities, self.mean)
        u = (finite - self.mean) / self.scale
        return u, u * np.abs(u)

    def log_lift(self, similarities: NDArray) -> Floats:
        """Return log(M b): the log softmax over M candidates, plus log M."""
        linear, bent = self.terms(similarities)
        logits = self.slopes[0] * linear + self.slopes[1] * bent
        # An oracle is minus infinity away from what it does not know, perhaps from all.
        unknown = np.isneginf(similarities)
        logits[unknown & ~unknown.all(axis=1, keepdims=True)] = -np.inf
        log_mean = logsumexp(logits, axis=1, keepdims=True) - np.log(logits.shape[1])
        return logits - log_mean


class ConformalRetriever(BaseWrapper):
    r"""Say how sure the answers of a two-view estimator are.

    Ranks as `retriever` does, and gives each candidate a share of belief
    (:meth:`predict_belief`), a p-value (:meth:`predict_p`), and each query a set of
    candidates that holds the true molecule with a stated probability
    (:meth:`predict_set`). All three are calibrated on profiles of molecules, and in
    cell lines where `groups` are given, that the retriever was not fitted on.

    Parameters
    ----------
    retriever : estimator
        A two-view estimator, or a Pipeline, search or wrapper around one. Inside a
        scikit-learn ``FrozenEstimator`` it is taken as it is, and all rows of `fit`
        calibrate: they must be of molecules that it was not fitted on.
    coverage : float, default=0.9
        Probability, in (0, 1), with which a set holds the true molecule.
    cv : int, splitter or iterable, default=None
        How molecules and lines are held out; every fold must hold out whole drugs. An
        int k makes k folds of the drugs and, with `groups`, k of the lines, which are
        held out in pairs: k clones are fitted, see
        :class:`~sklearn_molge.model_selection.DrugCellLineKFold`. None means 8, or
        fewer, at least 2, where a fold would have less than 20 drugs or about 5 rows,
        or none. ``GroupKFold`` and scikit-learn's other splitters by group get the
        drugs, any other splitter gets `groups`, or the drugs where there are none.
    n_jobs : int or None, default=None
        Number of folds at a time; see scikit-learn's glossary.
    random_state : int, RandomState instance or None, default=None
        Draws the folds where `cv` is None or an int.

    Attributes
    ----------
    retriever_ : estimator
        The retriever, fitted on all rows.
    slopes_ : ndarray of shape (2,)
        a and c of the beliefs, see Notes; 0 where similarities tell nothing of unseen
        molecules.
    conformity_scores_ : ndarray of shape (n_scores,)
        Log lift of each calibration profile's own molecule, sorted.
    conformity_weights_ : ndarray of shape (n_scores,)
        Weight of each; with that of the query's own drug,
        ``1 / (n_calibration_drugs_ + 1)``, their sum is 1.
    match_similarities_ : ndarray of shape (n_scores,)
        Similarity of each calibration profile to its own molecule, sorted.
    match_weights_ : ndarray of shape (n_scores,)
        Weight of each, as in `conformity_weights_`.
    n_calibration_drugs_ : int
        Number of drugs that calibrate.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.
    n_features_in_ : int
        Number of molecule features; only where `retriever` has it.

    See Also
    --------
    sklearn.calibration.CalibratedClassifierCV : Calibrates a classifier.
    sklearn_molge.metrics.query_beliefs : The answers to test profiles, in a table.
    sklearn_molge.metrics.set_coverage : How often sets hold the truth, and their sizes.

    Notes
    -----
    A query with similarities :math:`s_m` to M distinct candidates has the beliefs

    .. math:: b_m = \frac{\exp f(u_m)}{\sum_j \exp f(u_j)}, \qquad
              f(u) = a u + c u |u|, \quad u = (s - \mu) / \sigma,

    with the mean and standard deviation of all similarities of the calibration, and
    :math:`a, c \ge 0` of maximum likelihood over its profiles, each drug weighing the
    same. With c = 0 this is temperature scaling (Guo et al. 2017). The log likelihood
    ratio is quadratic where the similarities of true and other molecules are normal
    with different variances; on L1000 profiles c halves the calibration error or
    better.

    *Beliefs of a Gaussian process are too sure at the top.* Of the surest tenth of its
    answers to L1000 profiles (10 draws) it says 0.58, and 0.44 are right; of the
    profiles that calibrate it, nearly as many are right as it says. So
    curves that are fitted to these profiles hardly help: a lapse rate, a penalty of c,
    also one chosen by leaving folds out, and Platt scaling of the largest share improve
    the calibration error by less than its interval.

    The score of conformity is the lift over chance, :math:`l_m = M b'_m`, with the
    beliefs of temperature scaling. Unlike these it does not shrink as M grows: the
    number of candidates may differ from that of the calibration. The p-value is

    .. math:: p_m = \frac{1}{K + 1} \Big(1 + \sum_{k=1}^{K} \frac{1}{N_k}
              \#\{i \le N_k : l_{ki} \le l_m\}\Big)

    with K calibration drugs of which drug k has :math:`N_k` profiles, and a set holds
    the candidates with :math:`p_m > 1 - \mathrm{coverage}`. A tie counts for the
    candidate, so that ties make sets larger.

    *What is guaranteed.* For a fixed retriever (``FrozenEstimator``), if the query's
    drug is drawn as the calibration drugs were, a set holds it with at least the
    stated probability (hierarchical conformal prediction: Lee, Barber and Willett
    2023, theorem 1, after Dunn, Wasserman and Ramdas 2022): on average over drugs and
    over one of each drug's profiles, not for each molecule, line or strength of effect.
    With `cv` the retriever that answers is fitted on more rows than those that were
    calibrated. The guarantee then assumes that it is no worse, and sets are a little
    too large where it is better: more folds lessen that. It holds for queries whose
    molecule is among the candidates, and for lists of candidates like those of the
    calibration: the drugs that a fold does not train on. Without `groups` lines are
    *not* held out: profiles of lines that are new may then be covered less often.

    *Lists that are not like these*, such as a library of all that can be bought. The
    lift compares a molecule with the list, so that its p-value holds for lists like
    those of the calibration. :meth:`predict_p_from_similarity` leaves the list out: its
    score of conformity is the similarity :math:`s_m` itself. That of the true molecule
    is then calibrated whatever else is in the list, under the same assumptions about
    the profile and its drug, if a similarity does not depend on the other candidates,
    as that of a standardised :class:`VotingRetriever` does. It cannot use how far a
    molecule stands out from the others. A set of a library is large, and the best of
    very many molecules is nearly always in it: it tells what can be left out, and by
    being empty that nothing fits, but not that the first are right.

    A set may be empty: no candidate is like a true molecule. It is full where the
    similarities tell nothing, or where there are fewer than
    :math:`1 / (1 - \mathrm{coverage}) - 1` calibration drugs. Both are answers.

    Rows of X that repeat a molecule share its belief, so that each row of
    :meth:`predict_belief` has sum 1 over the distinct rows of X. While fitting, the
    similarities of all folds are in memory.

    References
    ----------
    .. [1] Y. Lee, R. F. Barber and R. Willett, "Distribution-free inference with
       hierarchical data", 2023, arXiv:2306.06342.
    .. [2] R. Dunn, L. Wasserman and A. Ramdas, "Distribution-free prediction sets for
       two-layer hierarchical models", JASA 2022.
    .. [3] C. Guo et al., "On calibration of modern neural networks", ICML 2017.

    Examples
    --------
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.model_selection import drug_cell_line_split
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn_molge.retrieval import ConformalRetriever
    >>> from sklearn.pipeline import make_pipeline
    >>> study = make_perturbation_study(150, n_cell_lines=6, level=5, random_state=0)
    >>> X, y, groups = study.smiles, study.ge, study.groups
    >>> split = drug_cell_line_split(groups, val_drugs=0, val_cell_lines=0,
    ...                              random_state=0)
    >>> pipe = make_pipeline(MorganFingerprinter(fp_size=256), CCA(10, ridge=1.0))
    >>> sure = ConformalRetriever(pipe, random_state=0)
    >>> sure = sure.fit(X[split.train], y[split.train], groups=groups[split.train])
    >>> held = sure.predict_set(X[split.test], y[split.test])
    >>> held.shape == (len(split.test), len(split.test))
    True
    >>> float(held.diagonal().mean()) > 0.8  # the true molecule of each profile
    True
    """

    _parameter_constraints: dict = {
        "retriever": [HasMethods(["fit"])],
        **_COVERAGE,
        "cv": ["cv_object"],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
    }

    def __init__(
        self, retriever, coverage=0.9, *, cv=None, n_jobs=None, random_state=None
    ):
        self.retriever = retriever
        self.coverage = coverage
        self.cv = cv
        self.n_jobs = n_jobs
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    @parsed_once()  # all folds share the features of molecules
    def fit(self, X, y, groups=None, **fit_params) -> Self:
        """Fit the retriever on all rows, and calibrate its clones on what they miss.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row, as `retriever` takes it.
        y : array-like of shape (n_samples, n_genes)
            Profile of each row; genes may be missing (NaN) where `retriever` fills
            them.
        groups : array-like or DataFrame of shape (n_samples, 2), default=None
            Drug and cell line of each row. Without, the drugs are
            :func:`~sklearn_molge.molecules.drug_ids` of SMILES, or equal rows of
            features, and lines are not held out. Names that SMILES show to be of one
            molecule are one drug. A retriever whose `fit` has a parameter `groups` gets
            them, too.
        **fit_params : dict
            Metadata for the retriever; what has one entry a row is cut to the rows of
            each fold. With metadata routing, what it requests.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If there are fewer than two drugs, `cv` makes no fold, a fold is empty,
            trains on a drug that it tests or has a single candidate, a similarity is
            NaN, or `cv` comes with a frozen retriever.

        Warns
        -----
        CalibrationWarning
            If there are too few drugs for `coverage`, so that every set is full; if
            similarities tell nothing of unseen molecules; or if cell lines cannot be
            held out: `groups` has only one, or too few rows for pairs of folds.
        DataWarning
            If `groups` has several names for one molecule.
        FewCandidatesWarning
            If calibration profiles met fewer than 20 candidates.
        LeakageWarning
            If a frozen retriever was fitted on molecules that calibrate it, or if more
            than a quarter of the drugs that calibrate have the features of drugs that
            were trained on.
        """
        X = as_indexable(X)
        _check_rows(X)
        y = check_profiles(self, y, reset=True, as_frame=True, allow_nan=True)
        check_same_rows(X=X, y=y)
        codes = distinct_rows(X)[1]
        drugs = _drugs(X, groups, codes)
        frozen = is_frozen(self.retriever)
        splits = self._splits(X, y, groups, drugs, codes, frozen=frozen)
        gallery, rows = one_row_per_drug(drugs, codes, None)
        params = metadata_for(self, "retriever", groups, fit_params)
        self.retriever_ = clone(self.retriever).fit(X, y, **params)
        folds = Parallel(n_jobs=self.n_jobs)(
            delayed(_compare_fold)(
                self.retriever_ if frozen else clone(self.retriever),
                X,
                y,
                {} if frozen else params,
                drugs,
                rows,
                train,
                test,
            )
            for train, test in splits
        )
        if frozen:
            _say_known(self.retriever_, _safe_indexing(X, rows), gallery)
        self._calibrate(folds)
        return self

    def _splits(self, X, y, groups, drugs, codes, *, frozen):
        """Return the training and the calibration rows of each fold."""
        everything = np.arange(len(drugs))
        if frozen:
            if self.cv is not None:
                raise ValueError(
                    "cv must be None where retriever is frozen: all rows calibrate it. "
                    f"Got {self.cv!r}."
                )
            return [(everything[:0], everything)]
        if len(np.unique(drugs)) < 2:
            raise ValueError(
                "X must hold at least 2 drugs, of which one is held out. Got only "
                f"{drugs[0]!r}, n_samples={len(drugs)}."
            )
        if self.cv is None or isinstance(self.cv, Integral):
            splits = self._folds(groups, drugs)
        else:
            cv = check_cv(self.cv, y)
            by_drug = groups is None or isinstance(cv, _BY_DRUG)
            splits = list(cv.split(X, y, drugs if by_drug else groups))
        _check_splits(splits, drugs)
        if not is_text(X):
            _say_alike(splits, drugs, codes)
        return splits

    def _folds(self, groups, drugs):
        """Return the rows of the default folds."""
        if self.cv is None:
            of_rows = math.isqrt(len(drugs) // _N_ROWS_OF_FOLD)
            most = min(len(np.unique(drugs)) // _N_ENOUGH, of_rows)
            most, fewest = min(max(2, most), _N_FOLDS), 2
        else:
            most = fewest = int(self.cv)
        if groups is None:
            return self._pairs(most, drugs, drugs, hold_out="drugs")
        line = encode_groups(groups)[1]
        lines, why = line.labels[line.codes], f"one cell line, {line.labels[0]!r}"
        if len(line.labels) > 1:
            for n_folds in range(most, fewest - 1, -1):
                try:
                    return self._pairs(n_folds, drugs, lines, hold_out="both")
                except ValueError:  # a pair without a row
                    if n_folds == self.cv:
                        raise
            why = "too few rows for a fold of the drugs in a fold of the cell lines"
        warnings.warn(
            f"groups has {why}, which cannot be held out: the sets are calibrated on "
            "unseen drugs in lines that the retriever has seen, and may hold the truth "
            "less often in others.",
            CalibrationWarning,
            stacklevel=7,
        )
        return self._pairs(most, drugs, lines, hold_out="drugs")

    def _pairs(self, n_folds, drugs, lines, *, hold_out):
        n_lines = min(n_folds, max(2, len(np.unique(lines))))
        cv = DrugCellLineKFold(
            n_folds, n_lines, hold_out=hold_out, paired=True,
            random_state=self.random_state,
        )  # fmt: skip
        return list(cv.split(drugs, groups=np.column_stack([drugs, lines])))

    def _calibrate(self, folds):
        """Set the temperature and the scores of conformity."""
        smallest = min(fold.similarities.shape[1] for fold in folds)
        if smallest < _N_ENOUGH:
            warnings.warn(
                f"Only {smallest} molecules were candidates for calibration profiles; "
                "beliefs and sets among many more are less certain than they seem. "
                "Use fewer folds, or more drugs.",
                FewCandidatesWarning,
                stacklevel=6,
            )
        drugs, sizes = np.unique(
            np.concatenate([fold.drugs for fold in folds]),
            return_inverse=True,
            return_counts=True,
        )[1:]
        weights = 1 / sizes[drugs]
        self._curve = _Curve.fitted(folds, weights, bent=True)
        self._straight = _Curve.fitted(folds, weights, bent=False)
        if not self._straight.slopes.any():
            warnings.warn(
                "Out of its folds, the retriever's similarities tell nothing of which "
                "molecule is the true one: every candidate gets the same share of "
                "belief, and every set is full.",
                CalibrationWarning,
                stacklevel=6,
            )
        self.slopes_ = self._curve.slopes
        scores = np.concatenate(
            [fold.own(self._straight.log_lift(fold.similarities)) for fold in folds]
        )
        order = np.argsort(scores, kind="stable")
        self.n_calibration_drugs_ = len(sizes)
        self.conformity_scores_ = scores[order]
        self.conformity_weights_ = weights[order] / (len(sizes) + 1)
        matches = np.concatenate([fold.own(fold.similarities) for fold in folds])
        order = np.argsort(matches, kind="stable")
        self.match_similarities_ = matches[order]
        self.match_weights_ = weights[order] / (len(sizes) + 1)
        self._say_too_few(self.coverage, stacklevel=7)

    def _say_too_few(self, coverage, *, stacklevel):
        """Warn where no p-value can be small enough to leave a candidate out."""
        if 1 / (self.n_calibration_drugs_ + 1) > 1 - coverage + _ROUNDING:
            needed = int(np.ceil(1 / (1 - coverage) - 1 - _ROUNDING))
            warnings.warn(
                f"coverage={coverage:g} needs at least {needed} calibration drugs. Got "
                f"{self.n_calibration_drugs_}: every set holds all candidates.",
                CalibrationWarning,
                stacklevel=stacklevel,
            )

    def _similarities(self, X, y):
        """Return the similarities to the distinct molecules, and each row's place."""
        check_is_fitted(self)
        distinct, codes = take_distinct(X)
        return _compare(*self.unwrap(distinct, y)), codes

    def predict_belief(self, X, y) -> NDArray[np.float64]:
        """Share of belief in each molecule, for each profile.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            The candidates, one of which is each profile's molecule.
        y : array-like of shape (n_profiles, n_genes)
            Profiles.

        Returns
        -------
        belief : ndarray of shape (n_profiles, n_molecules)
            Between 0 and 1; each row has sum 1 over the distinct rows of X.
        """
        similarities, codes = self._similarities(X, y)
        lift = np.exp(self._curve.log_lift(similarities))
        return (lift / lift.shape[1])[:, codes]

    def predict_p(self, X, y) -> NDArray[np.float64]:
        """Conformal p-value of each molecule, for each profile.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            The candidates, one of which is each profile's molecule.
        y : array-like of shape (n_profiles, n_genes)
            Profiles.

        Returns
        -------
        p_values : ndarray of shape (n_profiles, n_molecules)
            At least ``1 / (n_calibration_drugs_ + 1)`` and at most 1. That of the true
            molecule is at most a with probability at most a: a small one speaks
            against a molecule.
        """
        similarities, codes = self._similarities(X, y)
        log_lift = self._straight.log_lift(similarities)
        known = self.conformity_scores_, self.conformity_weights_
        return self._p_values(log_lift, *known)[:, codes]

    def _p_values(self, scores, known, weights):
        """Return the weight of the known scores that are no larger, and of a new one.

        A tie counts for the candidate.
        """
        below = np.append(0, np.cumsum(weights))
        places = np.searchsorted(known, scores, side="right")
        return np.minimum(below[places] + 1 / (self.n_calibration_drugs_ + 1), 1)

    def predict_p_from_similarity(self, similarities) -> NDArray[np.float64]:
        """Conformal p-value of similarities to molecules of any list.

        Unlike those of :meth:`predict_p`, they do not depend on the other candidates,
        which may be a whole library: see Notes.

        Parameters
        ----------
        similarities : array-like of any shape
            What ``similarity`` gives, of profiles like those of `fit`, each alone.

        Returns
        -------
        p_values : ndarray of the same shape
            That of a profile's own molecule is at most a with probability at most a.

        Raises
        ------
        ValueError
            If a similarity is NaN.
        """
        check_is_fitted(self)
        similarities = np.asarray(similarities, dtype=np.float64)
        if np.isnan(similarities).any():
            raise ValueError("similarities must be numbers. Got NaN.")
        known = self.match_similarities_, self.match_weights_
        return self._p_values(similarities, *known)

    def least_similarity(self, coverage=None) -> float:
        """Similarity from which on a molecule is in the set, in a list of any kind.

        Parameters
        ----------
        coverage : float, default=None
            Probability with which a set holds the profile's own molecule, in (0, 1); by
            default the parameter `coverage`.

        Returns
        -------
        least : float
            Minus infinity where every set is full. Molecules at least so similar are
            those whose :meth:`predict_p_from_similarity` is above ``1 - coverage``.

        Raises
        ------
        ValueError
            If the coverage is not in (0, 1).

        Warns
        -----
        CalibrationWarning
            If there are too few calibration drugs for the coverage.
        """
        check_is_fitted(self)
        coverage = self.coverage if coverage is None else coverage
        validate_parameter_constraints(
            _COVERAGE, {"coverage": coverage}, caller_name="least_similarity"
        )
        self._say_too_few(coverage, stacklevel=3)
        known = np.append(-np.inf, self.match_similarities_)
        enough = self.predict_p_from_similarity(known) > 1 - coverage + _ROUNDING
        return float(known[np.argmax(enough)])

    def predict_set(self, X, y, coverage=None) -> NDArray[np.bool_]:
        """Tell for each profile which molecules are in its set.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            The candidates, one of which is each profile's molecule.
        y : array-like of shape (n_profiles, n_genes)
            Profiles.
        coverage : float or array-like of shape (n_coverages,), default=None
            Probability with which a set holds the true molecule, in (0, 1); by default
            the parameter `coverage`. No new fit is needed. Of several, the sets of a
            profile are nested: a larger coverage holds all that a smaller one holds.

        Returns
        -------
        held : ndarray of bool of shape (n_profiles, n_molecules) or \
                (n_coverages, n_profiles, n_molecules)
            True where the molecule is in the profile's set; with several coverages
            the first axis is theirs, in the order given. ``held.sum(axis=-1)`` are
            the sizes: 0 says that no candidate fits, all that none can be left out.

        Raises
        ------
        ValueError
            If a coverage is not in (0, 1), or there is none.

        Warns
        -----
        CalibrationWarning
            If there are too few calibration drugs for a coverage.
        """
        coverages = _as_coverages(self.coverage if coverage is None else coverage)
        p_values = self.predict_p(X, y)
        for c in np.unique(coverages):
            self._say_too_few(c, stacklevel=3)
        return p_values > 1 - coverages[..., None, None] + _ROUNDING

    def get_metadata_routing(self):
        """Say which metadata are used here, and which the retriever requests.

        Returns
        -------
        routing : MetadataRouter
            The router of this meta-estimator.
        """
        return (
            MetadataRouter(owner=self)
            .add_self_request(self)
            .add(
                retriever=self.retriever,
                method_mapping=MethodMapping().add(caller="fit", callee="fit"),
            )
        )


def _as_coverages(coverage):
    """Return one coverage as an array without axes, several as one with an axis."""
    array = np.asarray(coverage, dtype=object)
    if array.ndim > 1 or not array.size:
        raise ValueError(
            "The 'coverage' parameter of predict_set must be a number in (0, 1) or a "
            f"1-D array-like of such. Got {coverage!r}."
        )
    for one in array.ravel():
        validate_parameter_constraints(
            _COVERAGE, {"coverage": one}, caller_name="predict_set"
        )
    return array.astype(np.float64)


def _check_rows(X):
    """Refuse what is neither SMILES nor a table, before rows are told apart."""
    if is_text(X):
        return
    objects = not sparse.issparse(X) and np.asarray(X).dtype.kind in "OUST"
    has_texts = objects and any(isinstance(v, str) for v in np.ravel(X))
    dtype = None if has_texts else "numeric"
    check_named(
        check_array, X, name="X", accept_sparse=True, ensure_all_finite=False,
        dtype=dtype,
    )  # fmt: skip


def _drugs(X, groups, codes):
    """Return the identity of each row's molecule.

    Names that share a structure are one drug, as are structures that share a name.
    """
    if groups is None:
        return identify_drugs(X, None, codes)
    drug = encode_groups(groups, X)[0]
    if not is_text(X):
        return drug.labels[drug.codes]
    n_names = len(drug.labels)
    places = n_names + np.unique(identify_drugs(X, None, codes), return_inverse=True)[1]
    size = int(places.max()) + 1
    links = sparse.coo_array((np.ones(len(places)), (drug.codes, places)), (size, size))
    members = connected_components(links, directed=False)[1][:n_names]
    _, first, merged = np.unique(members, return_index=True, return_inverse=True)
    if len(first) < n_names:
        several = np.flatnonzero(np.bincount(merged) > 1)
        names = (first_few(drug.labels[merged == i], n=3) for i in several)
        warnings.warn(
            f"groups has {n_names} names for {len(first)} drugs, by the SMILES of X. "
            "Names of one are taken for one drug: "
            f"{first_few(names, write='({})'.format, n=3)}. Hold out test molecules by "
            "drug_ids, which are the same for all names.",
            DataWarning,
            stacklevel=6,
        )
    return drug.labels[first][merged[drug.codes]]


def _check_splits(splits, drugs):
    """Refuse folds in which nothing is unseen, or nothing can be ranked."""
    if not splits:
        raise ValueError("cv must make at least one fold. Got none.")
    for fold, (train, test) in enumerate(splits):
        if not len(train) or not len(test):
            raise ValueError(
                f"cv must leave rows to train and to test. Fold {fold} has "
                f"{len(train)} training and {len(test)} test rows."
            )
        known = np.intersect1d(drugs[train], drugs[test])
        if len(known):
            raise ValueError(
                f"cv must hold out whole drugs. Fold {fold} trains on {len(known)} of "
                f"its {len(np.unique(drugs[test]))} test drugs: {first_few(known)}. "
                "DrugCellLineKFold keeps them apart."
            )
        if len(np.setdiff1d(drugs, drugs[train])) < 2:
            raise ValueError(
                "cv must leave at least 2 drugs out of each training part, which are "
                f"the candidates. Fold {fold} leaves {drugs[test][0]!r} alone."
            )


def _say_alike(splits, drugs, codes):
    """Warn where many drugs have the features of others that were trained on."""
    alike = [
        np.unique(drugs[test][np.isin(codes[test], codes[train])])
        for train, test in splits
    ]
    n_tested = sum(len(np.unique(drugs[test])) for _, test in splits)
    if sum(map(len, alike)) > _TOLERATED_SHARE * n_tested:
        known = np.unique(np.concatenate(alike))
        warnings.warn(
            f"{len(known)} of the {len(np.unique(drugs))} drugs have the features of "
            "another drug that a clone was trained on before it was calibrated: "
            f"{first_few(known, write=str, n=3)}. If groups has several names for one "
            "molecule, the sets will be too small for unseen ones: name drugs by "
            "drug_ids.",
            LeakageWarning,
            stacklevel=7,
        )


def _compare_fold(retriever, X, y, params, drugs, rows, train, test):
    """Compare the test profiles with every drug that is not in the training rows."""
    if len(train):
        retriever.fit(
            _safe_indexing(X, train),
            _safe_indexing(y, train),
            **_check_method_params(X, params, train),
        )
    rows = rows[~np.isin(drugs[rows], drugs[train])]
    similarities = _compare(retriever, _safe_indexing(X, rows), _safe_indexing(y, test))
    # One row a drug, in the order of the sorted drugs.
    return _Queries(
        similarities, np.searchsorted(drugs[rows], drugs[test]), drugs[test]
    )


def _compare(retriever, X, y):
    """Return the similarities; refuse NaN."""
    similarities = comparison(retriever, X)(y)
    bad = np.isnan(similarities).any(axis=1)
    if bad.any():
        raise ValueError(
            f"The similarities of {bad.sum()} profiles are NaN, first profile "
            f"{int(np.argmax(bad))}; a share of belief needs numbers."
        )
    return similarities


def _say_known(retriever, molecules, drugs):
    """Warn where a frozen retriever was fitted on molecules that calibrate it."""
    compared = comparison(retriever, molecules)
    trained, molecules = trained_rows(retriever, molecules, compared)
    if trained is None:
        return
    known = trained.hold_molecules(trained_molecules(molecules))
    # Different molecules may have equal features, also in an honest split.
    tolerated = 0 if trained.by_text else _TOLERATED_SHARE * len(drugs)
    if known.sum() > tolerated:
        warnings.warn(
            f"The frozen retriever was fitted on {known.sum()} of the {len(drugs)} "
            f"drugs that calibrate it: {first_few(drugs[known], write=str, n=3)}. Its "
            "sets will be too small for unseen molecules. Calibrate on others, or give "
            "the retriever unfrozen and let cv hold them out.",
            LeakageWarning,
            stacklevel=6,
        )
