"""EvidenceRetriever: measured signatures where there are any, and structure."""

from numbers import Integral

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import (
    HasMethods,
    Interval,
    StrOptions,
    _fit_context,
    _safe_indexing,
)
from sklearn_molge._utils.checks import check_same_rows
from sklearn_molge._utils.groups import encode_groups
from sklearn_molge._utils.messages import counted
from sklearn_molge._utils.rows import as_indexable, is_text, take_distinct
from sklearn_molge._utils.views import comparison, resolve_views
from sklearn_molge.base import TwoViewMixin, check_profiles, molecule_keys
from sklearn_molge.retrieval._connectivity import ConnectivityRetriever

__all__ = ["EvidenceRetriever"]

# Molecules that a query's scores are standardised by, queries of a fold that calibrate,
# and pairs of a query and another molecule; drawn where there are more.
_MOST_MOLECULES = 1000
_MOST_QUERIES = 1000
_MOST_NEGATIVES = 200_000
# Fewer matching pairs of a kind do not tell how much its scores mean.
_LEAST_MATCHES = 10


class EvidenceRetriever(MetaEstimatorMixin, TwoViewMixin, BaseEstimator):
    r"""Rank a library of which a part was measured, by all that is known of each.

    A molecule with measured signatures is ranked by their connectivity to the query and
    by its structure, any other by its structure alone. Both kinds of evidence become
    log-likelihood ratios, so that they share one ranking; `query` says which molecule
    was ranked by what.

    Parameters
    ----------
    structure : estimator
        A two-view estimator, or a Pipeline, search or wrapper that ends in one.
    connectivity : ConnectivityRetriever, default=None
        With ``direction="mimic"``; None stands for
        ``ConnectivityRetriever("cosine", unit="raw", summary="max")``, which was as
        good as "wtcs" on real data and is some hundred times faster.
    n_splits : int, default=3
        Number of folds of molecules and of lines for the calibration; `structure`
        is fitted once more for each.
    direction : {"mimic", "reverse"}, default="mimic"
        Whether the molecules are sought whose effect is the query, or the query with
        its sign turned, as against a disease.
    random_state : int, RandomState instance or None, default=None
        Divides molecules and lines. Pass an int for the same result in each call.

    Attributes
    ----------
    structure_ : estimator
        The fitted `structure`.
    connectivity_ : ConnectivityRetriever
        The fitted `connectivity`.
    weights_ : DataFrame of shape (2, 3)
        Of molecules with "structure" alone and with "both": what a standard deviation
        of each score adds to the log-likelihood ratio, and the intercept.
    n_genes_in_ : int
        Number of genes.
    gene_names_in_ : ndarray of shape (n_genes_in_,)
        Names of the genes; only where `y` had names, see
        :func:`~sklearn_molge.base.check_profiles`.

    See Also
    --------
    ConnectivityRetriever : Measured signatures alone.
    VotingRetriever : Averages estimators that know all candidates.

    Notes
    -----
    Scores of a query are standardised by those of training molecules, never by the
    candidates: c to the measured signatures, s to structures. Then

    .. math:: \log \frac{p(s, c \mid \text{match})}{p(s, c \mid \text{no match})}
        \approx a + b_s s + b_c c,

    without c for a molecule that was not measured: a logistic regression of each kind,
    less the log odds of its training pairs. The pairs are out of fold: in each fold a
    part of the lines gives the queries, and a part of the molecules is left out of the
    training altogether; these stand for the molecules without a signature, the others
    for those that were measured in other lines than the query's. Without `groups` each
    row is a line of its own.

    A molecule that was measured is known to `structure` too, which saw its profiles.
    Scorers do not warn of it: it is meant to be known. To judge honestly, hold cell
    lines out, and leave some test molecules out of the training. Measured molecules
    push the others down: on real data, with half of the candidates measured, what the
    queries of the first gained, those of the others lost.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> from sklearn_molge.retrieval import EvidenceRetriever
    >>> study = make_perturbation_study(
    ...     40, n_cell_lines=4, n_genes=60, level=5, random_state=0
    ... )
    >>> X, y = study.smiles, study.ge
    >>> train = study.groups[:, 1] != study.groups[0, 1]
    >>> train &= X != X[0]
    >>> pipe = make_pipeline(MorganFingerprinter(fp_size=256), CCA(5, ridge=1.0))
    >>> model = EvidenceRetriever(pipe, random_state=0)
    >>> model = model.fit(X[train], y[train], study.groups[train])
    >>> model.evidence(X[[0, -1]])
    array(['structure', '3 cell lines and structure'], dtype=object)
    >>> model.query(X, y[:1], n_answers=2)[["rank", "evidence"]]
       rank                    evidence
    0     1  3 cell lines and structure
    1     2  3 cell lines and structure
    """

    _parameter_constraints: dict = {
        "structure": [HasMethods(["fit"])],
        "connectivity": [ConnectivityRetriever, None],
        "n_splits": [Interval(Integral, 2, None, closed="left")],
        "direction": [StrOptions({"mimic", "reverse"})],
        "random_state": ["random_state"],
    }

    _remembers_rows = False

    def __init__(
        self,
        structure,
        connectivity=None,
        *,
        n_splits=3,
        direction="mimic",
        random_state=None,
    ):
        self.structure = structure
        self.connectivity = connectivity
        self.n_splits = n_splits
        self.direction = direction
        self.random_state = random_state

    @_fit_context(prefer_skip_nested_validation=False)
    def fit(self, X, y, groups=None):
        """Calibrate both kinds of evidence, and fit both estimators on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row, as `structure` takes it.
        y : array-like of shape (n_samples, n_genes)
            Signature of each row, in z-scores.
        groups : array-like of shape (n_samples, 2), default=None
            Drug and cell line of each row. The lines are used; which molecule a row
            is, X says.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If there are fewer lines or molecules than `n_splits`, if fewer than 10
            profiles calibrate a kind of evidence (of molecules measured in another
            line, and of any molecule in a line held out), or if `direction` is
            "reverse" and no value of y is below 0.
        TypeError
            If there is no two-view estimator inside `structure`.
        """
        y = check_profiles(self, y, reset=True, as_frame=True)
        X = as_indexable(X)
        check_same_rows(X=X, y=y)
        if self.direction == "reverse" and not (np.asarray(y) < 0).any():
            raise ValueError(
                "direction='reverse' needs profiles with a sign, such as z-scores. No "
                "value of y is below 0; Study.to_level4 and robust_zscore make them."
            )
        if self.connectivity is not None and self.connectivity.direction != "mimic":
            raise ValueError(
                "connectivity must have direction='mimic': the parameter of "
                "EvidenceRetriever turns both kinds of evidence. Got 'reverse'."
            )
        rng = check_random_state(self.random_state)
        self.weights_ = self._calibrate(X, y, groups, rng)
        self._fitted = self._fit_both(X, y, groups, rng)
        self.structure_ = self._fitted.structure
        self.connectivity_ = self._fitted.connectivity
        return self

    def _fit_both(self, X, y, groups, rng):
        connectivity = self.connectivity
        if connectivity is None:
            connectivity = ConnectivityRetriever("cosine", unit="raw", summary="max")
        structure = clone(self.structure).fit(X, y)
        resolve_views(structure, None, None)
        cohort = take_distinct(X)[0]
        if cohort.shape[0] > _MOST_MOLECULES:
            drawn = rng.permutation(cohort.shape[0])[:_MOST_MOLECULES]
            cohort = _safe_indexing(cohort, np.sort(drawn))
        return _Fitted(structure, clone(connectivity).fit(X, y, groups), cohort)

    def _calibrate(self, X, y, groups, rng):
        """Return the weights of each kind, from pairs that were not trained on."""
        _, drugs = np.unique(molecule_keys(X), return_inverse=True)
        lines = np.arange(len(drugs))
        if groups is not None:
            groups = np.column_stack([f.labels[f.codes] for f in encode_groups(groups)])
            check_same_rows(X=X, groups=groups)
            _, lines = np.unique(groups[:, 1].astype(str), return_inverse=True)
        line_fold = self._folds(lines, "cell lines", rng)
        drug_fold = self._folds(drugs, "molecules", rng)
        pairs = []
        for fold in range(self.n_splits):
            train = np.flatnonzero((line_fold != fold) & (drug_fold != fold))
            test = np.flatnonzero(line_fold == fold)
            test = rng.permutation(test)[:_MOST_QUERIES]
            if len(train):
                pairs.append(self._pairs(X, y, groups, drugs, train, test, rng))
        return pd.DataFrame(
            [
                _logistic_weights([pair[kind] for pair in pairs], kind)
                for kind in ("structure", "both")
            ],
            columns=["structure", "connectivity", "intercept"],
            index=["structure", "both"],
        )

    def _folds(self, codes, what, rng):
        """Return the fold of each row; equal codes are in the same."""
        n_distinct = codes.max() + 1
        if n_distinct < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} needs as many {what}. Got {n_distinct}."
            )
        return rng.permutation(np.arange(n_distinct) % self.n_splits)[codes]

    def _pairs(self, X, y, groups, drugs, train, test, rng):
        """Return the scores of held-out queries with molecules, and which match."""
        known_groups = None if groups is None else groups[train]
        fitted = self._fit_both(
            _safe_indexing(X, train), _safe_indexing(y, train), known_groups, rng
        )
        _, first = np.unique(drugs, return_index=True)
        others = rng.permutation(len(first))[:_MOST_MOLECULES]
        candidates = np.union1d(others, drugs[test])
        compare, n_lines = fitted.compare_to(_safe_indexing(X, first[candidates]))
        scores = np.stack(compare(_safe_indexing(y, test)), axis=-1)
        match = drugs[test][:, None] == candidates
        found = {}
        for kind, of_kind in (("structure", n_lines == 0), ("both", n_lines > 0)):
            own, values = match[:, of_kind].ravel(), scores[:, of_kind].reshape(-1, 2)
            negatives = rng.permutation(np.flatnonzero(~own))[:_MOST_NEGATIVES]
            rows = np.concatenate([np.flatnonzero(own), negatives])
            found[kind] = values[rows], own[rows]
        return found

    def compare_to(self, X):
        """Prepare a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as `structure` takes them.

        Returns
        -------
        compare : callable
            Takes profiles of shape (n_profiles, n_genes), and returns the
            log-likelihood ratio of every molecule (natural logarithm): an array of
            shape (n_profiles, n_molecules), larger meaning closer.
        """
        check_is_fitted(self)
        distinct, codes = take_distinct(X)
        compare, n_lines = self._fitted.compare_to(distinct)

        def similarity(y):
            y = check_profiles(self, y, reset=False, as_frame=True)
            structure, connectivity = compare(-y if self.direction == "reverse" else y)
            return self._ratios(structure, connectivity, n_lines)[:, codes]

        return similarity

    def _ratios(self, structure, connectivity, n_lines):
        ratios = np.empty_like(structure)
        for kind, of_kind in (("structure", n_lines == 0), ("both", n_lines > 0)):
            slope, slope_measured, intercept = self.weights_.loc[kind]
            ratios[:, of_kind] = intercept + slope * structure[:, of_kind]
            if kind == "both":
                ratios[:, of_kind] += slope_measured * connectivity[:, of_kind]
        return ratios

    def evidence(self, X):
        """Say by what each molecule is ranked.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules.

        Returns
        -------
        evidence : ndarray of str of shape (n_molecules,)
            "structure", or such as "5 cell lines and structure" of a molecule with
            measured signatures; without `groups` "5 signatures and structure".
        """
        check_is_fitted(self)
        return self._texts(self.connectivity_.knows(X))

    def _texts(self, n_lines):
        what = "cell line" if len(self.connectivity_.cell_lines_) else "signature"
        texts = [
            f"{counted(n, what)} and structure" if n else "structure" for n in n_lines
        ]
        return np.array(texts, dtype=object)

    def query(self, X, y, *, n_answers=None):
        """Answer profiles by a table that says by what each molecule is ranked.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules; rows that come again are left out.
        y : array-like of shape (n_profiles, n_genes)
            Profiles, in z-scores.
        n_answers : int, default=None
            Number of molecules for each query, the first ranks; None returns all.

        Returns
        -------
        table : DataFrame
            Sorted by rank within each query, with the columns "query" (row of y),
            "rank", "molecule" (the SMILES, or the row of X), "score" (the
            log-likelihood ratio), "evidence" (see :meth:`evidence`), "structure" and
            "connectivity" (standard deviations above the mean of the training
            molecules; NaN where there is no signature). With ``direction="reverse"``
            all are those of the query with its sign turned.
        """
        check_is_fitted(self)
        if n_answers is not None and (
            not isinstance(n_answers, Integral) or n_answers < 1
        ):
            raise ValueError(
                f"n_answers must be an int >= 1 or None. Got {n_answers!r}."
            )
        X = as_indexable(X)
        _, codes = take_distinct(X)
        first = np.sort(np.unique(codes, return_index=True)[1])
        distinct = _safe_indexing(X, first)
        compare, n_lines = self._fitted.compare_to(distinct)
        y = check_profiles(self, y, reset=False, as_frame=True)
        structure, connectivity = compare(-y if self.direction == "reverse" else y)
        ratios = self._ratios(structure, connectivity, n_lines)
        columns = np.argsort(-ratios, axis=1, kind="stable")[:, :n_answers]
        rows, flat = np.arange(len(y))[:, None], columns.ravel()
        molecules = np.asarray(distinct, object).reshape(-1) if is_text(X) else first
        return pd.DataFrame(
            {
                "query": np.repeat(np.arange(len(y)), columns.shape[1]),
                "rank": np.tile(np.arange(1, columns.shape[1] + 1), len(y)),
                "molecule": molecules[flat],
                "score": ratios[rows, columns].ravel(),
                "evidence": self._texts(n_lines)[flat],
                "structure": structure[rows, columns].ravel(),
                "connectivity": connectivity[rows, columns].ravel(),
            }
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            inner = get_tags(self.structure).input_tags
        except (AttributeError, TypeError, ValueError):
            return tags  # `fit` says what is wrong with `structure`
        tags.input_tags.sparse, tags.input_tags.string = inner.sparse, inner.string
        return tags


class _Fitted:
    """Both estimators, and the training molecules by which scores are standardised."""

    def __init__(self, structure, connectivity, cohort):
        self.structure, self.connectivity = structure, connectivity
        self.cohort = cohort

    def compare_to(self, X):
        """Return a function of profiles, to both scores, and the lines of each."""
        to_molecules = comparison(self.structure, X)
        to_cohort = comparison(self.structure, self.cohort)
        to_drugs = self.connectivity._connectivity_to_drugs()
        place, known = self.connectivity._find(X)

        def scores(y):
            measured = to_drugs(y)
            connectivity = _standardize(measured, measured)[:, place]
            connectivity[:, ~known] = np.nan
            return _standardize(to_molecules(y), to_cohort(y)), connectivity

        return scores, self.connectivity.knows(X)


def _standardize(scores, known):
    """Return scores in standard deviations above the mean of the known ones."""
    spread = known.std(axis=1, dtype=np.float64, keepdims=True)
    centred = scores - known.mean(axis=1, dtype=np.float64, keepdims=True)
    return centred / np.where(spread > 0, spread, 1)


def _logistic_weights(pairs, kind):
    """Return slopes and the intercept of the log-likelihood ratio."""
    scores = np.concatenate([values for values, _ in pairs]) if pairs else np.empty(0)
    match = np.concatenate([own for _, own in pairs]) if pairs else np.empty(0, bool)
    n_matches = np.count_nonzero(match)
    if min(n_matches, len(match) - n_matches) < _LEAST_MATCHES:
        of = "any molecule in a line held out"
        if kind == "both":
            of = "molecules that were measured in another line as well"
        raise ValueError(
            f"X and y must hold at least {_LEAST_MATCHES} profiles of {of}, to "
            f"calibrate what a score means. Got {n_matches}."
        )
    used = scores if kind == "both" else scores[:, :1]
    model = LogisticRegression(C=1e6).fit(used, match)
    slopes = np.append(model.coef_[0], 0.0)[:2]
    prior = np.log(n_matches / (len(match) - n_matches))
    return *slopes, model.intercept_[0] - prior
