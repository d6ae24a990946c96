"""evaluate_study: every table and figure of the paper, for any study."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral
from os import PathLike

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from sklearn_molge._compat import HasMethods, Interval, validate_params
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._audit import audit_repeats
from sklearn_molge.evaluation._divisions import MIN_CANDIDATES, Split, make_repeats
from sklearn_molge.evaluation._explain import explain
from sklearn_molge.evaluation._layout import (
    DrawFigure,
    describe_study,
    make_sections,
    report_notes,
    versions,
)
from sklearn_molge.evaluation._methods import Method, add_controls
from sklearn_molge.evaluation._plan import (
    Plan,
    check_methods,
    views_of,
    weigh,
)
from sklearn_molge.evaluation._results import StudyResults, choose_baseline, rank_table
from sklearn_molge.evaluation._run import (
    Outcome,
    ResultCache,
    fit_embedders,
    run_methods,
    run_tasks,
)
from sklearn_molge.evaluation.paper._rows import PaperOptions
from sklearn_molge.evaluation.report._report import StudyReport
from sklearn_molge.evaluation.report._sections import new_figure
from sklearn_molge.evaluation.report._table_view import score_columns
from sklearn_molge.exceptions import (
    DataWarning,
    FewCandidatesWarning,
    FewDrugsWarning,
)
from sklearn_molge.metrics import Score, get_scores
from sklearn_molge.molecules import parsed_once

__all__ = ["evaluate_study"]

_TITLE = "Which molecule causes this profile?"


@validate_params(
    {
        "study": "no_validation",
        "methods": [Mapping, None],
        "embedders": [Mapping, None],
        "expression": [HasMethods(["fit", "transform"]), None],
        "paper": "no_validation",
        "split": "no_validation",
        "test_sources": [str, "array-like", None],
        "sample_weight": [str, "array-like", None],
        "controls": ["boolean"],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "scores": "no_validation",
        "baseline": [str, None],
        "inspect": ["boolean"],
        "figures": ["boolean", list, tuple],
        "cache_folder": [str, PathLike, None],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
@parsed_once()  # the fits share molecules and features
def evaluate_study(
    study: Study,
    *,
    methods: Mapping[str, BaseEstimator | Sequence[BaseEstimator] | Method]
    | None = None,
    embedders: Mapping[str, BaseEstimator] | None = None,
    expression: BaseEstimator | None = None,
    paper: PaperOptions | None = None,
    split: Split = None,
    test_sources: str | Sequence[str] | None = None,
    sample_weight: str | ArrayLike | None = None,
    controls: bool = False,
    n_repeats: int = 3,
    scores: Sequence[str | Score] | None = None,
    baseline: str | None = None,
    inspect: bool = True,
    figures: bool | Sequence[DrawFigure] = True,
    cache_folder: str | PathLike[str] | None = None,
    random_state: int | np.random.RandomState | None = 0,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> StudyReport:
    """Evaluate many methods on one study, by the same unseen drugs and cell lines.

    Methods are fitted on the training rows, selected on the validation rows (epochs
    of an embedder, the best of a list of estimators, the baseline), and scored on the
    test rows. Each score has an interval that resamples whole drugs, chance beside
    it, and the first a paired comparison with the baseline.

    Parameters
    ----------
    study : Study
        Molecules and profiles. Where it has controls, methods get ``paired_ge()``,
        [treated | control], as profiles.
    methods : mapping of str to estimator, list of estimator or Method, default=None
        The rows. None takes :func:`finlayson2020_methods` and
        :func:`ablation_methods`; add to these with
        ``finlayson2020_methods() | {"mine": Pipeline(...)}``. CCA has 50 components,
        or half as many as training drugs or genes, and never more than the training
        rows allow. Oracles in the training lines are left out where these have no
        profile of a test drug.
    embedders : mapping of str to estimator, default=None
        What the methods' :class:`AlignedView` stand for, fitted once for each repeat,
        on `expression` of the profiles. One with a parameter `train_split` gets the
        validation rows. None takes the embedder of `paper` as "aligned".
    expression : transformer or None, default=None
        Of the profiles. None takes what the level wants: Level 3 with controls their
        difference (with the preset "paper" the paper's blocks), without controls
        standardised intensities; else the profiles as they are.
    paper : PaperOptions or None, default=None
        Preset, pretrained weights and ablations of the default methods and embedder,
        and whether the paper's own numbers are printed below ours. None is
        ``PaperOptions()``.
    split : mapping, DrugCellLineSplit, list of them, or None, default=None
        Parameters of :func:`draw_split`, drawn anew for each repeat; or one such
        division for all repeats; or one for each. What is not given, and None gives
        nothing, follows the study, so that 30 or more drugs are ranked where it has
        them: a tenth of the drugs to test, but 100, or a third where that is fewer; a
        tenth to validate, but 60, or a fifth; and of the cell lines as many as make
        the test part rank 50 drugs (at most a third of the lines) and the validation
        part 30 (at most a quarter). With fewer than three lines, drugs alone are held
        out.
    test_sources : str or list of str, default=None
        Of a study that :func:`~sklearn_molge.datasets.join_studies` made: the sources,
        by ``obs["source"]``, whose rows are tested and validated on. Rows of the
        others train, unless their drug or their line is held out. None tests all. A
        given `DrugCellLineSplit` must test rows of these sources alone.
    sample_weight : array-like of shape (n_samples,) or str, default=None
        Weights of the study's rows in every `fit`, at least 0, such as
        :func:`~sklearn_molge.datasets.source_weights` gives, or the column of `obs`
        that holds them. They reach methods and embedders by the name under which these
        take them; rows of 0 are left out of all training. A :class:`Method` may have
        its own, or none. Ranks of validation and test rows all count the same.
    controls : bool, default=False
        Add to each table that lacks one the controls "shuffled_molecules", the first
        method that is fitted on training rows without an embedder, on molecules in
        random order, and "drug_blind", D-NN fitted on means of cell lines. The default
        methods have both. Controls stand below a line, and are never the baseline
        unless it is named.
    n_repeats : int, default=3
        Number of divisions.
    scores : sequence of str or Score, default=None
        The columns of the tables, see :func:`~sklearn_molge.metrics.get_scores`; the
        first is the one that methods are compared by. None takes "mrr", "median_rank",
        "hits@1", "hits@10" and "hits@100".
    baseline : str or None, default=None
        The method that all are compared with. None takes the classical one of Table 1
        with the best mean reciprocal rank on the validation rows.
    inspect : bool, default=True
        Add what explains the scores: distance to training, specificity, mechanisms,
        latent maps, attributions, for the first of `embedders`.
    figures : bool or list of callable, default=True
        Draw figures, which needs matplotlib. Functions are called with the
        :class:`StudyResults` and return a :class:`ReportFigure`, or None where there
        is nothing to draw; their figures come last, under the functions' names.
    cache_folder : str, path-like or None, default=None
        Folder for the result of every fit. The same call goes on from it after a
        kill. What holds a function or a class that cannot be imported, such as a
        lambda, is fitted anew each time. It holds pickles signed by this installation
        of the library, a user's on a machine: those of others, and files that were
        changed, are not opened, and their results are computed anew. So a folder may
        be shared; each user's results are their own.
    random_state : int, RandomState instance or None, default=0
        Draws divisions, the seeds of all estimators without one, and intervals.
    n_jobs : int or None, default=None
        Number of processes; the result does not depend on it.
    verbose : int, default=0
        1 shows progress.

    Returns
    -------
    report : StudyReport
        ``tables``, ``figures``, ``ranks`` and ``save(folder)``.

    Raises
    ------
    TypeError, ValueError
        If `split`, a source, a weight, a score, a method or an embedder is not as
        described, a method or an embedder takes no weights where there are some, or the
        encoder of `paper` cannot be read, before any fit. A method that fails later
        has its error in its row and in the notes, and the others go on.
    OSError
        If `cache_folder` cannot be written to.

    Warns
    -----
    DataWarning
        If `cache_folder` has results of this call that are not used, because another
        installation wrote them or they were changed.
    FewCandidatesWarning
        If a repeat ranks fewer than 30 test drugs or fewer than 20 validation drugs.
        The report says the same on top, with the numbers: below 30 it judges no claim,
        and of one drug a score is undefined (NaN).
    FewDrugsWarning
        If a repeat trains on fewer than 300 drugs; the report says so, too.

    Notes
    -----
    Ranks of all repeats are pooled, profile by profile, and so is chance; the table
    "candidates" has what each repeat ranks. No interval is given for fewer than five
    test drugs.

    The paper's Tables 1 and 2 have no intervals and no test (Finlayson et al. 2020);
    intervals here are bootstrap percentiles over drugs, and say nothing about other
    cell lines.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn_molge.alignment import CCA
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> from sklearn_molge.evaluation import evaluate_study
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> study = make_perturbation_study(
    ...     level=5, n_molecules=60, n_cell_lines=4, n_genes=50, random_state=0
    ... )
    >>> report = evaluate_study(
    ...     study,
    ...     methods={"CCA": make_pipeline(MorganFingerprinter(), CCA(5))},
    ...     embedders={}, n_repeats=2, inspect=False, figures=False,
    ... )
    >>> report.tables["table1"].index.tolist()
    ['chance', 'CCA']
    """
    paper = PaperOptions() if paper is None else paper
    _check_kind(study, Study, "study", "load_lincs(folder)")
    _check_kind(paper, PaperOptions, "paper", "PaperOptions(preset='quick')")
    _check_figures(figures)
    chosen = get_scores(scores)
    if paper.encoder is not None:
        paper.chemprop.fit(study.smiles[:1])  # raises if it cannot be read
    repeats = make_repeats(split, study, n_repeats, random_state, test_sources)
    plan = _make_plan(study, methods, embedders, expression, paper, repeats)
    plan = _finish_plan(plan, baseline, sample_weight, controls=controls)
    with tempfile.TemporaryDirectory() as temporary:
        cache = ResultCache(cache_folder, temporary)
        audits, leaks, shared = audit_repeats(study, plan.repeats)
        _warn_of_few(plan)
        start = time.perf_counter()
        run = partial(run_tasks, n_jobs=n_jobs, verbose=verbose)
        fitted = fit_embedders(plan, cache, run)
        trained = time.perf_counter()
        outcomes = run_methods(plan, fitted, cache, run)
        scored = time.perf_counter()
        _warn_of_unread(cache, [*fitted.values(), *outcomes.values()])
        if baseline is None:
            baseline = choose_baseline(plan, outcomes)
        ranks = rank_table(plan, outcomes)
        results = StudyResults(plan, fitted, outcomes, ranks, chosen, baseline)
        if inspect and plan.embedders:
            results.explained = explain(plan, fitted, cache, paper.chemprop)
    own_figures = figures if isinstance(figures, list | tuple) else ()
    sections, failed = make_sections(
        results, audits, own_figures if figures else None, reference=paper.reference
    )
    refused = {} if cache_folder is None else cache.refused
    notes = report_notes(results, refused, reference=paper.reference)
    return StudyReport(
        title=_TITLE,
        sections=sections,
        description=describe_study(study),
        settings={
            "split": "draw_split's defaults" if split is None else str(split),
            "repeats": str(n_repeats),
            "preset": paper.preset,
            "seed": str(random_state),
            "profiles": repr(plan.expression),
            "pretrained encoder": str(paper.encoder or "none"),
            "baseline": "none" if baseline is None else plan.labels[baseline],
        }
        | ({} if test_sources is None else {"test sources": str(test_sources)})
        | ({} if sample_weight is None else {"weights": _in_words(sample_weight)})
        | ({"CCA": _cca_settings(plan)} if methods is None else {}),
        versions=versions(),
        seconds={
            "fitting the embedders": trained - start,
            "fitting and ranking the methods": scored - trained,
            "inspection and figures": time.perf_counter() - scored,
        },
        notes=leaks + notes + failed + shared,
        ranks=ranks,
        columns=score_columns(chosen),
    )


def _cca_settings(plan: Plan) -> str:
    params = plan.methods["cca_raw_morgan"].candidates[0].get_params()
    n = params["transformedtargetretriever__retriever__n_components"]
    return f"{n} components (six features: up to {2 * n}), or what the rows allow"


def _in_words(sample_weight: ArrayLike | str) -> str:
    return repr(sample_weight) if isinstance(sample_weight, str) else "an array"


def _check_kind(value: object, kind: type, name: str, such_as: str) -> None:
    if not isinstance(value, kind):
        raise ValueError(
            f"{name} must be a {kind.__name__}, such as {such_as}. Got {value!r}."
        )


def _warn_of_few(plan: Plan) -> None:
    """Say before the fits what the report will say after them."""
    parts = {"test": "nothing can be judged", "val": "selection is mostly chance"}
    found = []
    for part, why in parts.items():
        sizes, least = plan.candidates(part), MIN_CANDIDATES[part]
        if 0 < min(sizes) < least or (part == "test" and min(sizes) < least):
            found.append(
                f"the {part} rows of {counted(len(sizes), 'repeat')} rank "
                f"{first_few(sizes, n=5)} drugs, and below {least} {why}"
            )
    if found:
        said = "; ".join(found)
        warnings.warn(
            f"evaluate_study: {said}. Hold out more drugs or cell lines (`split`), or "
            "take a larger study.",
            FewCandidatesWarning,
            stacklevel=5,
        )
    n_drugs = min(plan.n_train_drugs)
    if n_drugs < FewDrugsWarning.fewest:
        warnings.warn(FewDrugsWarning(n_drugs), stacklevel=5)


def _warn_of_unread(cache: ResultCache, outcomes: Sequence[Outcome]) -> None:
    """Count and name the files of results that were computed anew."""
    changed = [outcome.unread for outcome in outcomes if outcome.unread]
    said = []
    if changed:
        said.append(
            f"{counted(len(changed), 'file')} could not be used, and what they should "
            f"hold was computed anew and replaced: {first_few(changed, write=str, n=5)}"
        )
    others = cache.of_others
    if others:
        said.append(
            f"{counted(len(others), 'file')} with results of this call were written by "
            "another installation, or an earlier version, and not opened, as opening a "
            f"pickle runs code: {first_few(others, write=str, n=5)}"
        )
    if said:
        warnings.warn(
            f"cache_folder: of {cache.folder}, {'; '.join(said)}.",
            DataWarning,
            stacklevel=5,
        )


def _check_figures(figures: bool | Sequence[DrawFigure]) -> None:
    if figures is False:
        return
    new_figure(1, 1)  # without matplotlib it raises now, not when all is done
    for draw in figures if isinstance(figures, list | tuple) else ():
        if not callable(draw) or not getattr(draw, "__name__", "<").isidentifier():
            raise TypeError(
                "figures must be a bool or a list of functions, whose names are the "
                f"names of the figures. Got {draw!r}."
            )


def _make_plan(study, methods, embedders, expression, paper, repeats):
    """Fill in what the paper's defaults are."""
    data = views_of(study, files=[paper.encoder])
    validated = Plan(study, data, repeats, {}, {}, expression).validated
    if expression is None:
        controls = study.control_ge is not None
        expression = paper.expression(study.level, controls=controls)
    if embedders is None:
        embedders = {"aligned": paper.embedder(validated=validated)}
    if methods is None:
        n_drugs = min(len(set(data.drugs[r.split.train])) for r in repeats)
        fewest = min(n_drugs, len(study.genes))
        n_components = max(1, min(50, fewest // 2))
        shared = next(iter(embedders), "aligned")
        methods = paper.methods(expression, n_components=n_components, embedder=shared)
        known = all(len(r.split.oracle_train_lines) for r in repeats)
        methods = {
            name: method
            for name, method in methods.items()
            if known or method.train != "oracle_train_lines"
        }
    return Plan(study, data, repeats, dict(methods), dict(embedders), expression)


def _finish_plan(plan, baseline, sample_weight, *, controls):
    """Check everything, add controls, and give each row its weights."""
    checked = check_methods(plan.methods, plan.embedders, None)
    if controls:
        checked = add_controls(checked, plan.expression)
    check_methods(checked, plan.embedders, baseline)
    weighed, weights = weigh(checked, plan.embedders, plan.study, sample_weight)
    return replace(plan, methods=weighed, sample_weight=weights)
