"""drug_permutation_test_score: whether the score of a Pipeline is chance."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.model_selection import check_cv
from sklearn.utils import check_random_state, indexable
from sklearn.utils.parallel import Parallel, delayed

from sklearn_molge._compat import (
    HasMethods,
    Interval,
    StrOptions,
    _check_method_params,
    _safe_indexing,
    validate_params,
)
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge._utils.progress import progress_bar
from sklearn_molge._utils.rows import distinct_rows, is_text
from sklearn_molge._utils.typing import Matrix, RandomState, Rows
from sklearn_molge._utils.views import comparison
from sklearn_molge.base import identify_drugs, one_row_per_drug
from sklearn_molge.exceptions import DataWarning, FewCandidatesWarning
from sklearn_molge.metrics import Score, get_scores
from sklearn_molge.model_selection._cross_val_ranks import (
    FixedCandidates,
    cross_val_ranks,
)
from sklearn_molge.molecules import parsed_once

__all__ = ["drug_permutation_test_score"]

# The same ranks in another order of rows have the same mean, but for rounding.
_ROUNDING = 1e-10

Floats = NDArray[np.float64]
Places = NDArray[np.intp]


@validate_params(
    {
        "estimator": [HasMethods("fit")],
        "drugs": ["array-like", None],
        "cv": ["cv_object"],
        "scoring": [str, Score],
        "candidates": [StrOptions({"all", "fold"}), "array-like", "sparse matrix"],
        "n_permutations": [Interval(Integral, 1, None, closed="left")],
        "refit": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose", StrOptions({"auto"})],
        "params": [dict, None],
    },
    prefer_skip_nested_validation=False,
)
def drug_permutation_test_score(
    estimator: Any,
    X: Rows,
    y: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    drugs: ArrayLike | None = None,
    cv: Any = None,
    scoring: Any = "mrr",
    candidates: str | Rows = "fold",
    n_permutations: int = 100,
    refit: bool = True,
    n_jobs: int | None = None,
    random_state: RandomState = None,
    verbose: bool | int | str = "auto",
    params: Mapping[str, Any] | None = None,
) -> tuple[float, NDArray, float]:
    r"""Significance of a cross-validated score, by exchanging whole drugs' molecules.

    The counterpart of scikit-learn's ``permutation_test_score`` for two views and
    an honest split: groups may be 2-D, and a drug's profiles stay together.

    Parameters
    ----------
    estimator : estimator
        A two-view estimator, or a Pipeline, search or wrapper around one; cloned for
        each fold of each permutation.
    X : array-like of shape (n_samples,) or (n_samples, n_features)
        The molecule of each row: SMILES, or features.
    y : array-like of shape (n_samples, n_genes)
        The profile of each row.
    groups : array-like, default=None
        For the splitter: drug and cell line of each row.
    drugs : array-like of shape (n_samples,), default=None
        Identity of each row's molecule; see
        :func:`~sklearn_molge.metrics.retrieval_ranks`.
    cv : int, splitter or iterable, default=None
        As in ``cross_validate``. It is asked once: all permutations have the same
        training and test rows.
    scoring : str or Score, default="mrr"
        "mrr", "median_rank" (negated, so that more is better) or "hits@k"; or your own
        :class:`~sklearn_molge.metrics.Score`. It is taken of the ranks of all folds
        together, so that each test profile counts once.
    candidates : {"all", "fold"} or array-like of molecules, default="fold"
        The molecules to rank: those of the test fold; all distinct ones of X, the
        same number for every fold; or a fixed set, SMILES or features as X is, such as
        a library, beside which a molecule that is not in it is ranked; see
        :func:`cross_val_ranks`.
    n_permutations : int, default=100
        Number of permutations; the least p-value is ``1 / (n_permutations + 1)``.
    refit : bool, default=True
        Fit anew for each permutation. False fits once, on the training rows as they
        are, and exchanges the molecules of the test drugs only: thousands of
        permutations in seconds, of one split and another null hypothesis, see Notes.
    n_jobs : int, default=None
        Number of permutations at a time.
    random_state : int, RandomState instance or None, default=None
        Draws the permutations, the same ones whatever `n_jobs`.
    verbose : bool, int or "auto", default="auto"
        Whether to show a progress bar; "auto" does on a terminal and in a notebook,
        after two seconds.
    params : dict, default=None
        Parameters of the estimator's `fit`; those with one entry a row are cut to the
        training rows, and stay with their profiles.

    Returns
    -------
    score : float
        The score of the molecules as they are; larger is better.
    permutation_scores : ndarray of shape (n_permutations,)
        The scores of exchanged molecules.
    pvalue : float
        ``(1 + #(permutation_scores >= score)) / (1 + n_permutations)``.

    Raises
    ------
    ValueError
        If there is one drug, a fold tests one drug among itself, ``refit=False``
        comes with several splits, or `candidates` are fewer than two or of another
        kind than X.

    Warns
    -----
    LeakageWarning
        If a test drug is in the training rows, once.
    FewCandidatesWarning
        If fewer than 20 molecules are ranked, once.
    DataWarning
        If rows of one drug have different features: the first one that sorts stands
        for all of them.

    See Also
    --------
    sklearn.model_selection.permutation_test_score : Permutes rows of a 1-D y.
    sklearn_molge.metrics.paired_comparison : Whether one method beats another.

    Notes
    -----
    The null hypothesis: *structure says nothing about the profile*. Which molecule
    belongs to which drug is then a matter of chance: any other one-to-one assignment
    of the n molecules to the n drugs (a drug being its profiles, with their cell
    lines and their place in the folds) was as likely as that of the data. Each
    permutation deals all molecules to all drugs and repeats the whole
    cross-validation; a molecule that is dealt to a test drug is in no training row.
    The test is exact (Phipson and Smyth 2010), and it is that of Ojala and Garriga
    (2010, test 1) with drugs in the place of rows. Permuting the rows of `y` instead
    breaks drugs apart: its null scores vary less than those of real drugs, and its
    p-values are too small.

    What it does not say: that the score is of use, and that the effect of a molecule
    is what was found. Drugs of one kind that were profiled in the same lines or
    batches are a reason to reject it as well.

    ``refit=False`` tests *given what was learnt, the structures of the test drugs say
    nothing about their profiles*: exact for one split, whatever the estimator, also
    one in a ``FrozenEstimator``. With several splits each drug would be exchanged
    where it is tested and not where it is trained on, so that folds would vary
    together in the data and not in the permutations: no valid test, and refused.

    A drug whose rows have different SMILES (salts, isomers) is written as the one
    that sorts first, in `score` as well. A fixed set of candidates stays as it is in
    all permutations, so that the test is exact among it, too. A long test can be run
    in parts: the `permutation_scores` of calls with other seeds can be put together.

    References
    ----------
    Ojala and Garriga (2010), "Permutation tests for studying classifier performance",
    JMLR 11. Phipson and Smyth (2010), "Permutation p-values should never be zero",
    Statistical Applications in Genetics and Molecular Biology 9.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.model_selection import (
    ...     DrugCellLineKFold, drug_permutation_test_score,
    ... )
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> study = make_perturbation_study(60, n_cell_lines=4, level=5, random_state=0)
    >>> score, permutation_scores, pvalue = drug_permutation_test_score(
    ...     make_pipeline(MorganFingerprinter(fp_size=256), CCA(5, ridge=1.0)),
    ...     study.smiles, study.ge, groups=study.groups,
    ...     cv=DrugCellLineKFold(2, 2, random_state=0), n_permutations=19,
    ...     random_state=0,
    ... )
    >>> pvalue
    0.05
    """
    X, y, groups = indexable(X, y, groups)
    score_of = _signed(scoring)
    molecules, drugs, places = _one_molecule_a_drug(X, drugs)
    if not isinstance(candidates, str):
        candidates = FixedCandidates(molecules, candidates)
    splits = list(check_cv(cv, y).split(X, y, groups))
    _check_splits(splits, places, candidates=candidates, refit=refit)
    rng = check_random_state(random_state)
    given: dict[str, Any] = {"candidates": candidates, "params": params}
    if refit:
        given |= {"groups": groups, "cv": splits, "drugs": drugs}
        deals = [rng.permutation(molecules.shape[0]) for _ in range(n_permutations)]
        tasks = (
            delayed(_dealt_ranks)(estimator, molecules, deal[places], y, **given)
            for deal in deals
        )
        observed = _cross_val_ranks(
            estimator, molecules, places, y, n_jobs=n_jobs, **given
        )
        permuted = Parallel(n_jobs=n_jobs, return_as="generator")(tasks)
    else:
        ranks_of = _ranks_of_deals(estimator, molecules, places, y, splits[0], **given)
        n_tested = len(np.unique(places[splits[0][1]]))
        observed = ranks_of(np.arange(n_tested))
        permuted = (ranks_of(rng.permutation(n_tested)) for _ in range(n_permutations))
    score, permutation_scores = score_of(observed), np.empty(n_permutations)
    with progress_bar(shown=verbose, total=n_permutations, unit="permutation") as bar:
        for i, ranks in enumerate(permuted):
            permutation_scores[i] = score_of(ranks)
            bar.update()
    n_as_good = np.sum(permutation_scores >= score - _ROUNDING * abs(score))
    return score, permutation_scores, float((1 + n_as_good) / (1 + n_permutations))


def _signed(scoring: str | Score) -> Callable[[Floats], float]:
    """Return a function of ranks, of which more is better."""
    name = scoring.removeprefix("neg_") if isinstance(scoring, str) else scoring
    score = get_scores([name])[0]
    sign = 1 if score.greater_is_better else -1
    return lambda ranks: sign * score(ranks)


def _one_molecule_a_drug(X, drugs) -> tuple[Matrix, NDArray, Places]:
    """Return a molecule for each drug; each row's drug, and its place among them."""
    _, codes = distinct_rows(X)
    with parsed_once():
        drugs = identify_drugs(X, drugs, codes)
    names, rows = one_row_per_drug(drugs, codes, None)
    if len(names) < 2:
        raise ValueError(
            "X must hold at least 2 drugs, whose molecules can be exchanged. Got one, "
            f"{names[0]!r}."
        )
    places = np.searchsorted(names, drugs)
    differ = np.unique(places[codes != codes[rows][places]])
    if len(differ) and not is_text(X):
        warnings.warn(
            f"Rows of {counted(len(differ), 'drug')} of {len(names):,} have different "
            "features in X. Whole drugs are exchanged: the features of one row stand "
            f"for all rows of a drug. Such drugs: {first_few(names[differ], n=3)}.",
            DataWarning,
            stacklevel=4,
        )
    return _safe_indexing(X, rows), drugs, places


def _check_splits(splits, places: Places, *, candidates: object, refit: bool) -> None:
    if not refit and len(splits) > 1:
        raise ValueError(
            "refit=False is a test of one split, such as cv=[(train, test)]. Got "
            f"{len(splits)} splits: of several it is none, see the Notes."
        )
    few = [i for i, (_, test) in enumerate(splits) if len(np.unique(places[test])) < 2]
    if few and not refit:
        raise ValueError("refit=False exchanges the test drugs. Got only one of them.")
    if few and isinstance(candidates, str) and candidates == "fold":
        raise ValueError(
            f"Folds with one test drug have nothing to rank: {first_few(few)}. "
            "candidates='all' ranks them among all drugs."
        )


def _cross_val_ranks(estimator, molecules, dealt: Places, y, **given) -> Floats:
    X = _safe_indexing(molecules, dealt)
    if isinstance(given["candidates"], FixedCandidates):
        given["candidates"] = given["candidates"].dealt(dealt)
    table = cross_val_ranks(estimator, X, y, **given)
    return table["rank"].to_numpy()


def _dealt_ranks(estimator, molecules, dealt: Places, y, **given) -> Floats:
    """Cross-validate with other molecules; what was said of the data is said."""
    with warnings.catch_warnings(), parsed_once():
        warnings.simplefilter("ignore", FewCandidatesWarning)
        return _cross_val_ranks(
            estimator, molecules, dealt, y, known_drugs="ignore", **given
        )


def _ranks_of_deals(
    estimator, molecules, places: Places, y, split, *, candidates, params
) -> Callable[[Places], Floats]:
    """Fit once; return a function of a permutation of the test drugs."""
    train, test = split
    model = clone(estimator).fit(
        _safe_indexing(molecules, places[train]),
        _safe_indexing(y, train),
        **_check_method_params(places, params or {}, train),
    )
    tested, own = np.unique(places[test], return_inverse=True)
    if isinstance(candidates, FixedCandidates):
        X = _safe_indexing(molecules, tested)
        ranks = candidates.all_ranks(model, X, _safe_indexing(y, test), tested)
        return lambda deal: ranks[np.arange(len(test)), deal[own]]
    ranked = np.arange(molecules.shape[0]) if candidates == "all" else tested
    compare = comparison(model, _safe_indexing(molecules, ranked))
    ranks = rankdata(-compare(_safe_indexing(y, test)), axis=1)
    columns = np.searchsorted(ranked, tested)
    return lambda deal: ranks[np.arange(len(test)), columns[deal[own]]]
