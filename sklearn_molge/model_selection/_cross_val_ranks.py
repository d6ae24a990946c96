"""cross_val_ranks: ranks of all folds among the same candidates."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils import indexable
from sklearn.utils.parallel import Parallel, delayed

from sklearn_molge._compat import (
    HasMethods,
    StrOptions,
    _check_method_params,
    _safe_indexing,
    validate_params,
)
from sklearn_molge._utils.messages import first_few
from sklearn_molge._utils.rows import (
    as_indexable,
    distinct_rows,
    is_text,
    rank_blocks,
)
from sklearn_molge._utils.typing import Rows
from sklearn_molge._utils.views import comparison
from sklearn_molge.base import identify_drugs, molecule_keys
from sklearn_molge.exceptions import FewCandidatesWarning, LeakageWarning
from sklearn_molge.metrics import chance_scores, retrieval_ranks
from sklearn_molge.molecules import parsed_once

__all__ = ["FixedCandidates", "cross_val_ranks"]

# Fewer candidates than this say little.
_N_ENOUGH = 20


@validate_params(
    {
        "estimator": [HasMethods("fit")],
        "drugs": ["array-like", None],
        "candidates": [StrOptions({"all", "fold"}), "array-like", "sparse matrix"],
        "cv": ["cv_object"],
        "params": [dict, None],
        "known_drugs": [StrOptions({"warn", "ignore"})],
    },
    prefer_skip_nested_validation=False,
)
def cross_val_ranks(
    estimator: Any,
    X: Rows,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    drugs: ArrayLike | None = None,
    candidates: str | Rows = "all",
    cv: Any = None,
    n_jobs: int | None = None,
    params: Mapping[str, Any] | None = None,
    known_drugs: str = "warn",
) -> pd.DataFrame:
    """Ranks of the test profiles of every fold, to be pooled into one score.

    As scikit-learn's ``cross_val_predict``. A score of each fold is among the few
    drugs of that fold; the ranks of all folds among all drugs are comparable, also
    with one test drug a fold.

    Parameters
    ----------
    estimator : estimator
        A two-view estimator, or a Pipeline, search or wrapper around one; cloned for
        each fold.
    X : array-like of shape (n_samples,) or (n_samples, n_features)
        The molecule of each row: SMILES, or features.
    y : array-like of shape (n_samples, n_genes)
        The profile of each row.
    groups : array-like, default=None
        For the splitter: drug and cell line of each row.
    drugs : array-like of shape (n_samples,), default=None
        Identity of each row's molecule; see
        :func:`~sklearn_molge.metrics.retrieval_ranks`.
    candidates : {"all", "fold"} or array-like of molecules, default="all"
        The molecules to rank: all distinct ones of X, those of the training among
        them; those of the test fold; or these, SMILES or features as X is, for every
        profile the same. One whose own molecule is not among these ranks it beside
        them; one that is, is ranked as it is written here.
    cv : int, splitter or iterable, default=None
        As in ``cross_validate``.
    n_jobs : int, default=None
        Number of folds at a time.
    params : dict, default=None
        Parameters of the estimator's `fit`; those with one entry a row are cut to the
        training rows.
    known_drugs : {"warn", "ignore"}, default="warn"
        What to do where a test drug is in the training rows, too.

    Returns
    -------
    table : DataFrame of shape (n_tested, 5)
        One row for each test row of each fold: ``row``, its position; ``fold``;
        ``drug``; ``rank``, 1 being the best; ``n_candidates``.

    Raises
    ------
    ValueError
        If a similarity is NaN, a label of `drugs` is missing or blank, or `candidates`
        has fewer than two molecules, or another kind of them than X.

    Warns
    -----
    LeakageWarning
        If a test drug is in the training rows, unless `known_drugs` is "ignore".
    FewCandidatesWarning
        If fewer than 20 molecules are ranked; among fewer than 2 the rank is NaN.

    See Also
    --------
    sklearn_molge.metrics.bootstrap_scores : Scores of the ranks, with intervals.
    sklearn_molge.metrics.RetrievalScorer : Scores of each fold.

    Notes
    -----
    Among "all", a model can tell the molecules that it was fitted on from the others,
    and may prefer or avoid them. Compare such scores with each other and with chance,
    not with those of a fold's own candidates.

    Examples
    --------
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.metrics import chance_scores, retrieval_scores
    >>> from sklearn_molge.model_selection import DrugCellLineKFold, cross_val_ranks
    >>> from sklearn_molge.retrieval import RandomRetriever
    >>> study = make_perturbation_study(30, n_cell_lines=2, level=5, random_state=0)
    >>> table = cross_val_ranks(
    ...     RandomRetriever(random_state=0), study.smiles, study.ge,
    ...     groups=study.groups, cv=DrugCellLineKFold(30, hold_out="drugs"),
    ... )
    >>> round(retrieval_scores(table["rank"])["mrr"], 2)
    0.14
    >>> round(chance_scores(table["n_candidates"])["mrr"], 2)
    0.13
    """
    X, y, groups = indexable(X, y, groups)
    with parsed_once():
        drugs = identify_drugs(X, drugs, distinct_rows(X)[1])
        if not isinstance(candidates, str | FixedCandidates):
            candidates = FixedCandidates(X, candidates)
        splits = list(check_cv(cv, y).split(X, y, groups))
        if known_drugs == "warn":
            _say_known(drugs, splits)
        ranks = Parallel(n_jobs=n_jobs)(
            delayed(_rank_fold)(
                clone(estimator), X, y, drugs, train, test, candidates, params
            )
            for train, test in splits
        )
    parts = [
        pd.DataFrame(
            {
                "row": test,
                "fold": fold,
                "drug": drugs[test],
                "rank": of_fold,
                "n_candidates": _n_candidates(candidates, drugs, test),
            }
        )
        for fold, ((_, test), of_fold) in enumerate(zip(splits, ranks, strict=True))
    ]
    return pd.concat(parts, ignore_index=True)


def _n_candidates(candidates, drugs, test):
    if isinstance(candidates, FixedCandidates):
        return candidates.n_ranked(test)
    return len(np.unique(drugs if candidates == "all" else drugs[test]))


class FixedCandidates:
    """The same molecules to rank for every profile, whatever its fold.

    Parameters
    ----------
    X : array-like of shape (n_samples,) or (n_samples, n_features)
        The molecule of each profile.
    candidates : array-like
        The molecules, as X is; those that repeat one are left out.
    """

    def __init__(self, X, candidates):
        candidates = as_indexable(candidates)
        if is_text(X) != is_text(candidates):
            kinds = (
                "SMILES" if is_text(rows) else "features" for rows in (X, candidates)
            )
            raise ValueError(
                "candidates must hold molecules as X does, SMILES or features. Got "
                "{} in X and {} in candidates.".format(*kinds)
            )
        if sparse.issparse(X):
            candidates = sparse.csr_array(candidates)
        elif hasattr(X, "iloc") and not hasattr(candidates, "iloc"):
            candidates = pd.DataFrame(candidates, columns=X.columns)
        self.own = molecule_keys(X)
        keys = molecule_keys(candidates)
        self.keys, first = np.unique(keys, return_index=True)
        if len(self.keys) < 2:
            raise ValueError(
                "candidates must hold at least 2 distinct molecules. Got "
                f"{len(self.keys)}."
            )
        self.molecules = _safe_indexing(candidates, first)
        if len(self.keys) < _N_ENOUGH:
            chance = chance_scores(len(self.keys))["mrr"]
            warnings.warn(
                f"candidates has only {len(self.keys)} molecules: chance alone has a "
                f"mean reciprocal rank of {chance:.2f}.",
                FewCandidatesWarning,
                stacklevel=4,
            )

    def __len__(self):
        return len(self.keys)

    def dealt(self, places):
        """Return the same for rows that have the molecules at `places` of X."""
        other = copy(self)
        other.own = self.own[places]
        return other

    def n_ranked(self, rows):
        """Return how many molecules are ranked for the profiles `rows`."""
        return len(self.keys) + ~np.isin(self.own[rows], self.keys)

    def with_own(self, X, own):
        """Return the candidates with those of X beside them that are none of them.

        And the place in this of each of X, whose keys are `own`.
        """
        new, first = np.unique(own, return_index=True)
        is_new = ~np.isin(new, self.keys)
        new, first = new[is_new], first[is_new]
        places = np.searchsorted(self.keys, own).clip(max=len(self.keys) - 1)
        apart = self.keys[places] != own
        places[apart] = len(self.keys) + np.searchsorted(new, own[apart])
        if not len(new):
            return self.molecules, places
        return _stacked(self.molecules, _safe_indexing(X, first)), places

    def ranks(self, model, X, y, rows):
        """Rank the molecules of rows, of which X and y are the views."""
        molecules, places = self.with_own(X, self.own[rows])
        compared = comparison(model, molecules)
        counted = np.arange(len(compared.codes)) < len(self.keys)
        counts = np.bincount(compared.codes, counted)
        ranks = rank_blocks(compared.blocks(y), compared.codes[places], counts)
        return ranks + 0.5 * (places >= len(self.keys))  # its own is not counted

    def all_ranks(self, model, X, y, rows):
        """Rank each molecule X, of `rows`, for each profile: a matrix."""
        molecules, places = self.with_own(X, self.own[rows])
        similarities = comparison(model, molecules)(y)
        ranks = np.empty((len(similarities), len(places)))
        for i, row in enumerate(similarities):
            others = np.sort(row[: len(self.keys)])
            n_farther = np.searchsorted(others, row[places])
            n_not_closer = np.searchsorted(others, row[places], side="right")
            ranks[i] = len(others) + (1 - n_farther - n_not_closer) / 2
        return ranks + 0.5 * (places >= len(self.keys))


def _stacked(first, second):
    if sparse.issparse(first):
        return sparse.vstack([first, second], format="csr")
    if hasattr(first, "iloc"):
        return pd.concat([first, second])
    return np.concatenate([np.asarray(first), np.asarray(second)])


def _say_known(drugs, splits):
    shared = {
        fold: np.intersect1d(drugs[train], drugs[test])
        for fold, (train, test) in enumerate(splits)
    }
    leaks = [fold for fold, names in shared.items() if len(names)]
    if leaks:
        names = first_few(shared[leaks[0]], write=str, n=3)
        warnings.warn(
            f"Test drugs are in the training rows in {len(leaks)} of {len(splits)} "
            f"folds; in fold {leaks[0]}: {names}. These are no ranks of unseen "
            "molecules. Split by drug: cv=DrugCellLineKFold(hold_out='drugs'), with "
            "groups. If known drugs are meant to be tested, known_drugs='ignore' says "
            "so.",
            LeakageWarning,
            stacklevel=4,
        )


def _rank_fold(estimator, X, y, drugs, train, test, candidates, params):
    """Fit on the training rows and rank the molecules of the test rows."""
    fit_params = _check_method_params(X, params or {}, train)
    estimator.fit(_safe_indexing(X, train), _safe_indexing(y, train), **fit_params)
    if isinstance(candidates, FixedCandidates):
        asked, profiles = (_safe_indexing(rows, test) for rows in (X, y))
        return candidates.ranks(estimator, asked, profiles, test)
    if candidates == "all":
        return retrieval_ranks(estimator, X, y, drugs=drugs, queries=test)
    part = (_safe_indexing(rows, test) for rows in (X, y))
    return retrieval_ranks(estimator, *part, drugs=drugs[test])
