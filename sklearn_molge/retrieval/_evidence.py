"""EvidenceRetriever: measured signatures where there are any, and structure."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.base import BaseEstimator, MetaEstimatorMixin, clone
from sklearn.utils import check_random_state, get_tags
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import (
    HasMethods,
    Interval,
    StrOptions,
    _check_method_params,
    _fit_context,
    _safe_indexing,
)
from sklearn_molge._utils.checks import check_finite, check_same_rows
from sklearn_molge._utils.groups import encode_groups
from sklearn_molge._utils.messages import counted
from sklearn_molge._utils.rows import (
    as_indexable,
    distinct_rows,
    draw_rows,
    is_text,
    take_distinct,
)
from sklearn_molge._utils.typing import Compare
from sklearn_molge._utils.views import comparison, resolve_views
from sklearn_molge.base import TwoViewMixin, check_profiles, distinct_drugs
from sklearn_molge.retrieval._connectivity import ConnectivityRetriever, check_signs
from sklearn_molge.retrieval._wrapper import metadata_for

__all__ = ["EvidenceRetriever"]

# Molecules that scores are compared with, and queries that calibrate; drawn where there
# are more.
_MOST_MOLECULES = 1000
_MOST_QUERIES = 1000
# Fewer queries do not tell how much either score means.
_LEAST_MATCHES = 10


class EvidenceRetriever(MetaEstimatorMixin, TwoViewMixin, BaseEstimator):
    r"""Rank a library of which a part was measured, by all that is known of each.

    Every molecule has a place by its structure. Measured molecules then share out their
    places anew, by structure and by the connectivity of their signatures to the query;
    the others keep theirs. `query` says which molecule was ranked by what.

    Parameters
    ----------
    structure : estimator
        A two-view estimator, or a Pipeline, search or wrapper that ends in one.
    connectivity : ConnectivityRetriever, default=None
        With ``direction="mimic"``; None stands for
        ``ConnectivityRetriever("cosine", unit="raw", summary="max")``, which was as
        good as "wtcs" on real data and is some hundred times faster.
    n_splits : int, default=3
        Number of folds of lines that choose the weights; `structure` is fitted once
        more for each.
    direction : {"mimic", "reverse"}, default="mimic"
        Whether the molecules are sought whose effect is the query, or the query with
        its sign turned, as against a disease.
    random_state : int, RandomState instance or None, default=None
        Divides lines, and draws molecules and signatures. Pass an int for the same
        result in each call.

    Attributes
    ----------
    structure_ : estimator
        The fitted `structure`.
    connectivity_ : ConnectivityRetriever
        The fitted `connectivity`.
    weights_ : Series of shape (2,)
        Of "structure" and "connectivity": what a standard deviation of each adds to the
        logit of a measured molecule. With a connectivity of 0 structure ranks alone.
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
    The scale is that of the structure's similarity, whose distribution over measured
    molecules is kept: a measured molecule gets the similarity

    .. math:: F_s^{-1}(F_u(u)), \qquad u = a s + b c,

    with the distributions F over measured molecules (all, or 1,000 of them) for this
    query. Here s is the structure's similarity in standard deviations over these
    molecules, and c the connectivity, standardised over the measured molecules for the
    query, and then for the molecule over the training signatures of others: one with
    many signatures has some that is like any query. (These are the T-norm and the
    Z-norm of Auckenthaler et al. 2000.) So measured molecules as a class are neither
    lifted nor lowered, and a score does not depend on the other candidates: a
    :class:`VotingRetriever` in `structure` standardises over the measured molecules.

    The weights :math:`a, b \ge 0` are those of a conditional logit (McFadden 1974):
    they maximise the likelihood of the true molecule among measured ones, for profiles
    of lines that were held out. Without `groups` a distinct row is a line of its own.

    A molecule that was measured is known to `structure` too, which saw its profiles and
    may well favour it. Scorers do not warn of it: it is meant to be known. To judge
    honestly, hold cell lines out, and leave some test molecules out of the training. On
    real data (queries of unseen lines, 45 % of them of measured molecules), MRR rose by
    0.008 [0.005, 0.012] over a Gaussian process alone and by 0.013 [0.009, 0.017] over
    CCA: by 0.017 and 0.028 for measured molecules, by 0.001 for the others.

    References
    ----------
    R. Auckenthaler, M. Carey and H. Lloyd-Thomas, "Score normalization for
    text-independent speaker verification systems", Digital Signal Processing 10 (2000).

    D. McFadden, "Conditional logit analysis of qualitative choice behavior", in
    Frontiers in Econometrics (1974), 105-142.

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
    def fit(self, X, y, groups=None, **fit_params) -> Self:
        """Weigh both kinds of evidence, and fit both estimators on all rows.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, n_features)
            Molecule of each row, as `structure` takes it.
        y : array-like of shape (n_samples, n_genes)
            Signature of each row, in z-scores.
        groups : array-like of shape (n_samples, 2), default=None
            Drug and cell line of each row. The lines are used; which molecule a row
            is, X says. A structure whose `fit` has a parameter `groups` gets them, too.
        **fit_params : dict
            Metadata for the structure, such as its `sample_weight`; what has one entry
            a row is cut to the rows of each fold. With metadata routing, what it
            requests. Connectivity and the calibration count each row once.

        Returns
        -------
        self : object
            Fitted estimator.

        Raises
        ------
        ValueError
            If there are fewer lines than `n_splits`, if fewer than 10 profiles are of a
            molecule that was measured in another line as well, if `direction` is
            "reverse" and no value of y is below 0, or if a similarity is not finite.
        TypeError
            If there is no two-view estimator inside `structure`.
        """
        y = check_profiles(self, y, reset=True, as_frame=True)
        X = as_indexable(X)
        check_same_rows(X=X, y=y)
        if self.direction == "reverse":
            check_signs(y, self.direction)
        if self.connectivity is not None and self.connectivity.direction != "mimic":
            raise ValueError(
                "connectivity must have direction='mimic': the parameter of "
                "EvidenceRetriever turns both kinds of evidence. Got 'reverse'."
            )
        rng = check_random_state(self.random_state)
        params = metadata_for(self, "structure", groups, fit_params)
        self.weights_ = self._calibrate(X, y, groups, params, rng)
        self._fitted = self._fit_both(X, y, groups, params, rng)
        self.structure_ = self._fitted.structure
        self.connectivity_ = self._fitted.connectivity
        return self

    def _fit_both(self, X, y, groups, params, rng):
        connectivity = self.connectivity
        if connectivity is None:
            connectivity = ConnectivityRetriever("cosine", unit="raw", summary="max")
        structure = clone(self.structure).fit(X, y, **params)
        resolve_views(structure, None, None)
        connectivity = clone(connectivity).fit(X, y, groups)
        return _Fitted.make(structure, connectivity, X, rng)

    def _calibrate(self, X, y, groups, params, rng):
        """Return the weight of each kind, from lines that were not trained on."""
        drugs = distinct_drugs(X)[2]
        profiles = np.asarray(y)
        if groups is None:  # equal rows are on the same side
            rows = np.column_stack([distinct_rows(profiles)[1], drugs])
            _, lines = np.unique(rows, axis=0, return_inverse=True)
        else:
            groups = np.column_stack([f.labels[f.codes] for f in encode_groups(groups)])
            check_same_rows(X=X, groups=groups)
            _, lines = np.unique(groups[:, 1].astype(str), return_inverse=True)
        n_lines = lines.max() + 1
        if n_lines < self.n_splits:
            raise ValueError(
                f"n_splits={self.n_splits} needs as many cell lines. Got {n_lines}."
            )
        fold_of = rng.permutation(np.arange(n_lines) % self.n_splits)[lines]
        choices = []
        for fold in range(self.n_splits):
            train = np.flatnonzero(fold_of != fold)
            test = np.flatnonzero((fold_of == fold) & np.isin(drugs, drugs[train]))
            if len(test):
                own = drugs[test]
                drawn = draw_rows(profiles[test], _MOST_QUERIES, rng, codes=own)
                fitted = self._fit_both(
                    _safe_indexing(X, train),
                    _safe_indexing(y, train),
                    None if groups is None else groups[train],
                    _check_method_params(X, params, train),
                    rng,
                )
                test = test[drawn]
                choices.append(_choices(fitted, X, y, drugs, train, test, rng))
        return pd.Series(_conditional_logit(choices), ["structure", "connectivity"])

    def compare_to(self, X) -> Compare:
        """Prepare a fixed set of molecules once, to be compared with many profiles.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules, as `structure` takes them.

        Returns
        -------
        compare : callable
            Takes profiles of shape (n_profiles, n_genes), and returns the similarity
            to every molecule, on the scale of the structure's: an array of shape
            (n_profiles, n_molecules), larger meaning closer. Of a molecule that was not
            measured it is the structure's own.
        """
        check_is_fitted(self)
        distinct, codes = take_distinct(X)
        compare = self._fitted.compare_to(distinct, self.weights_)

        def similarity(y):
            y = check_profiles(self, y, reset=False, as_frame=True)
            return compare(-y if self.direction == "reverse" else y)[0][:, codes]

        return similarity

    def evidence(self, X) -> NDArray[np.object_]:
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

    def query(self, X, y, *, n_answers=None) -> pd.DataFrame:
        """Answer profiles by a table that says by what each molecule is ranked.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Molecules; of rows of one drug, such as a salt and its base, one answers.
        y : array-like of shape (n_profiles, n_genes)
            Profiles, in z-scores.
        n_answers : int, default=None
            Number of molecules for each query, the first ranks; None returns all.

        Returns
        -------
        table : DataFrame
            Sorted by rank within each query, with the columns "query" (row of y),
            "rank", "molecule" (the SMILES, or the row of X), "score" (on the scale of
            the structure's similarity), "evidence" (see :meth:`evidence`), "structure"
            (its similarity) and "connectivity" (standard deviations above that of other
            queries; NaN where there is no signature). With ``direction="reverse"`` all
            are those of the query with its sign turned.
        """
        check_is_fitted(self)
        if n_answers is not None and (
            not isinstance(n_answers, Integral) or n_answers < 1
        ):
            raise ValueError(
                f"n_answers must be an int >= 1 or None. Got {n_answers!r}."
            )
        X = as_indexable(X)
        _, rows, codes = distinct_drugs(X)
        first = rows[np.argsort(np.unique(codes, return_index=True)[1])]
        distinct = _safe_indexing(X, first)
        compare = self._fitted.compare_to(distinct, self.weights_)
        y = check_profiles(self, y, reset=False, as_frame=True)
        score, structure, connectivity = compare(
            -y if self.direction == "reverse" else y
        )
        columns = np.argsort(-score, axis=1, kind="stable")[:, :n_answers]
        rows, flat = np.arange(len(y))[:, None], columns.ravel()
        molecules = np.asarray(distinct, object).reshape(-1) if is_text(X) else first
        return pd.DataFrame(
            {
                "query": np.repeat(np.arange(len(y)), columns.shape[1]),
                "rank": np.tile(np.arange(1, columns.shape[1] + 1), len(y)),
                "molecule": molecules[flat],
                "score": score[rows, columns].ravel(),
                "evidence": self.evidence(distinct)[flat],
                "structure": structure[rows, columns].ravel(),
                "connectivity": connectivity[rows, columns].ravel(),
            }
        )

    def get_metadata_routing(self):
        """Say which metadata are used here, and which the structure requests.

        Returns
        -------
        routing : MetadataRouter
            The router of this meta-estimator.
        """
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(structure=self.structure, method_mapping=mapping)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        try:
            inner = get_tags(self.structure).input_tags
        except (AttributeError, TypeError, ValueError):
            return tags  # `fit` says what is wrong with `structure`
        tags.input_tags.sparse, tags.input_tags.string = inner.sparse, inner.string
        return tags


@dataclass(frozen=True, eq=False)
class _Fitted:
    """Both estimators, and the measured molecules that scores are compared with.

    Attributes
    ----------
    cohort : array-like of shape (n_cohort,) or (n_cohort, n_features)
        Some of the measured molecules, or all.
    drawn : ndarray of shape (n_cohort,)
        Which of the connectivity's drugs they are.
    centre, spread : ndarray of shape (n_drugs,)
        Of the standardised connectivity of each measured molecule to signatures of
        others.
    """

    structure: object
    connectivity: ConnectivityRetriever
    cohort: object
    drawn: np.ndarray
    centre: np.ndarray
    spread: np.ndarray

    @classmethod
    def make(cls, structure, connectivity, X, rng):
        """Draw the cohort, and look at the connectivity of training signatures."""
        drugs, signatures = connectivity.drugs_, connectivity.signatures_
        own = connectivity._conditions[connectivity._condition_of, 0]
        rows = draw_rows(signatures, _MOST_QUERIES, rng, codes=own)
        found = connectivity._connectivity_to_drugs()(signatures[rows])
        is_own = own[rows, None] == np.arange(len(drugs))
        others = _standardize(np.ma.array(found, mask=is_own))
        spread = others.std(axis=0).filled(0)
        drawn = np.sort(rng.permutation(len(drugs))[:_MOST_MOLECULES])
        return cls(
            structure,
            connectivity,
            _safe_indexing(X, connectivity._first[drawn]),
            drawn,
            others.mean(axis=0).filled(0),
            np.where(spread > 0, spread, 1),
        )

    def compare_to(self, X, weights=None):
        """Return a function of profiles: score, structure and connectivity.

        Without weights the score is the structure's. Connectivity is NaN where there is
        none.
        """
        cohort = self.cohort
        to_molecules = comparison(self.structure, X, reference=cohort)
        to_cohort = comparison(self.structure, cohort, reference=cohort)
        to_drugs = self.connectivity._connectivity_to_drugs()
        place, known = self.connectivity._find(X)

        def scores(y):
            profiles = np.asarray(y, dtype=self.connectivity.signatures_.dtype)
            measured = (_standardize(to_drugs(profiles)) - self.centre) / self.spread
            structure, by_structure = to_molecules(y), to_cohort(y)
            connectivity = np.where(known, measured[:, place], np.nan)
            score = structure.astype(np.float64)
            if weights is not None and weights["connectivity"] > 0:
                score[:, known] = _quantiles(
                    weights["connectivity"] * connectivity[:, known]
                    + weights["structure"]
                    * _standardize(structure[:, known], by_structure),
                    weights["connectivity"] * measured[:, self.drawn]
                    + weights["structure"] * _standardize(by_structure),
                    by_structure,
                )
            return score, structure, connectivity

        return scores


def _standardize(scores, known=None):
    """Return scores in standard deviations above the mean of the known ones."""
    known = scores if known is None else known
    spread = known.std(axis=1, dtype=np.float64, keepdims=True)
    centred = scores - known.mean(axis=1, dtype=np.float64, keepdims=True)
    return centred / np.where(spread > 0, spread, 1)


def _quantiles(scores, known, scale):
    """Say which value of `scale` has the place that each score has among known ones.

    Row by row, with interpolation; scores beyond the known ones go on in a line.
    """
    known, scale = np.sort(known, axis=1), np.sort(scale, axis=1)
    found = np.array(
        [np.interp(*row) for row in zip(scores, known, scale, strict=True)]
    )
    spread = known.std(axis=1, keepdims=True)
    slope = scale.std(axis=1, keepdims=True) / np.where(spread > 0, spread, 1)
    beyond = scores - np.clip(scores, known[:, :1], known[:, -1:])
    return found + slope * beyond


def _choices(fitted, X, y, drugs, train, test, rng):
    """Return both standardised scores of queries with measured molecules, and which."""
    codes, first = np.unique(drugs[train]), fitted.connectivity._first
    others = rng.permutation(codes)[:_MOST_MOLECULES]
    candidates = np.union1d(others, drugs[test])
    rows = train[first[np.searchsorted(codes, candidates)]]
    _, structure, connectivity = fitted.compare_to(_safe_indexing(X, rows))(
        _safe_indexing(y, test)
    )
    structure = _standardize(check_finite(structure, name="structure", of="similarity"))
    own = np.searchsorted(candidates, drugs[test])
    return np.stack([structure, connectivity], axis=-1), own


def _conditional_logit(choices):
    """Return the two weights, at least 0, that make the true choices likeliest."""
    n_matches = sum(len(own) for _, own in choices)
    if n_matches < _LEAST_MATCHES:
        raise ValueError(
            f"X and y must hold at least {_LEAST_MATCHES} profiles of molecules that "
            "were measured in another line as well, to calibrate what a score means. "
            f"Got {n_matches}."
        )

    def loss(weights):
        total, slope = 0.0, np.zeros(2)
        for scores, own in choices:
            logits = scores @ weights
            rows = np.arange(len(own))
            log_sums = logsumexp(logits, axis=1)
            beliefs = np.exp(logits - log_sums[:, None])
            total += np.sum(log_sums - logits[rows, own])
            slope += np.einsum("qc,qck->k", beliefs, scores)
            slope -= scores[rows, own].sum(axis=0)
        return total / n_matches, slope / n_matches

    return minimize(loss, [1.0, 0.1], jac=True, bounds=[(0, None)] * 2).x
