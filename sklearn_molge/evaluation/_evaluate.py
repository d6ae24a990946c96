"""evaluate_study: every table and figure of the paper, for any study."""

import sys
import tempfile
import time
from collections.abc import Mapping
from functools import partial
from numbers import Integral
from os import PathLike
from typing import Any

from sklearn_molge._compat import HasMethods, Interval, StrOptions, validate_params
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._assemble import Evaluation, assemble, audit_repeats
from sklearn_molge.evaluation._cache import ResultCache
from sklearn_molge.evaluation._embedders import ablation_methods, preset_embedder
from sklearn_molge.evaluation._explain import explain
from sklearn_molge.evaluation._figures import new_figure
from sklearn_molge.evaluation._methods import finlayson2020_methods, profile_features
from sklearn_molge.evaluation._plan import check_methods, make_repeats, views_of
from sklearn_molge.evaluation._report import StudyReport
from sklearn_molge.evaluation._tables import choose_baseline, rank_table
from sklearn_molge.evaluation._tasks import fit_embedders, run_methods, run_tasks
from sklearn_molge.molecules import ChempropEmbedder

__all__ = ["evaluate_study"]


@validate_params(
    {
        "study": [Study],
        "split": "no_validation",
        "methods": [Mapping, None],
        "embedders": [Mapping, None],
        "expression": [HasMethods(["fit", "transform"]), None],
        "preset": [StrOptions({"recommended", "paper", "quick"})],
        "ablations": ["boolean"],
        "weights": [str, PathLike, None],
        "n_repeats": [Interval(Integral, 1, None, closed="left")],
        "reference": [StrOptions({"finlayson2020"}), None],
        "baseline": [str, None],
        "inspect": ["boolean"],
        "figures": ["boolean"],
        "cache_folder": [str, PathLike, None],
        "command": [str, None],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
        "verbose": ["verbose"],
    },
    prefer_skip_nested_validation=True,
)
def evaluate_study(
    study: Study,
    *,
    split: Any = None,
    methods: Mapping[str, Any] | None = None,
    embedders: Mapping[str, Any] | None = None,
    expression: Any = None,
    preset: str = "recommended",
    ablations: bool = True,
    weights: Any = None,
    n_repeats: int = 3,
    reference: str | None = None,
    baseline: str | None = None,
    inspect: bool = True,
    figures: bool = True,
    cache_folder: Any = None,
    command: str | None = None,
    random_state: Any = 0,
    n_jobs: int | None = None,
    verbose: int = 0,
) -> StudyReport:
    """Evaluate many methods on one study, by the same unseen drugs and cell lines.

    Methods are fitted on the training rows, selected on the validation rows (epochs
    of an embedder, the best of a list of estimators, the baseline), and scored on the
    test rows. Each score has an interval that resamples whole drugs, chance beside
    it, and a paired comparison with the baseline.

    Parameters
    ----------
    study : Study
        Molecules and profiles. Where it has controls, methods get ``paired_ge()``,
        [treated | control], as profiles.
    split : mapping, DrugCellLineSplit, list of them, or None, default=None
        Parameters of :func:`~sklearn_molge.model_selection.drug_cell_line_split`,
        drawn anew for each repeat (None: its defaults); or one such division for all
        repeats; or one for each.
    methods : mapping of str to estimator, list of estimator or Method, default=None
        The rows. None takes :func:`finlayson2020_methods` (CCA with 50 components, or
        half as many as training drugs or genes) and with `ablations`
        :func:`ablation_methods`; add to these with
        ``finlayson2020_methods() | {"mine": Pipeline(...)}``.
    embedders : mapping of str to estimator, default=None
        What the methods' :class:`AlignedView` stand for, fitted once for each repeat,
        on `expression` of the profiles. One with a parameter `train_split` gets the
        validation rows. None takes the embedder of `preset` as "aligned".
    expression : transformer or None, default=None
        Of the profiles. None takes what the level wants: Level 3 with controls their
        difference (with ``preset="paper"`` the paper's blocks), without controls
        standardised intensities; else the profiles as they are.
    preset : {"recommended", "paper", "quick"}, default="recommended"
        Settings of the default embedder, see :data:`~sklearn_molge.alignment.PRESETS`;
        "quick" is a small network, to try things out.
    ablations : bool, default=True
        Add :func:`ablation_methods` to the default methods.
    weights : str, path-like or None, default=None
        Pretrained graph network, for the Chemprop rows, the ablations, and a preset
        with a graph; None takes random weights.
    n_repeats : int, default=3
        Number of divisions.
    reference : {"finlayson2020"} or None, default=None
        Print the paper's numbers, which are from other data, below ours.
    baseline : str or None, default=None
        The method that all are compared with. None takes the classical one of Table 1
        with the best mean reciprocal rank on the validation rows.
    inspect : bool, default=True
        Add what explains the scores: distance to training, specificity, mechanisms,
        latent maps, attributions, for the first of `embedders`.
    figures : bool, default=True
        Draw figures, which needs matplotlib.
    cache_folder : path-like or None, default=None
        Folder for the result of every fit. The same call goes on from it after a
        kill. It holds pickles: do not point it at what you do not trust.
    command : str or None, default=None
        What repeats this study, for the report; None says how it was called.
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
        If `split`, a method or an embedder is not as described, or `weights` cannot be
        read, before any fit. A method that fails later has its error in its row, and
        the others go on.

    Notes
    -----
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
    if figures:
        new_figure(1, 1)  # without matplotlib it raises now, not when all is done
    if weights is not None:
        ChempropEmbedder(weights).fit(study.smiles[:1])  # raises if it cannot be read
    data = views_of(study, weights)
    repeats = make_repeats(split, study.groups, n_repeats, random_state)
    validated = all(len(repeat.split.val) for repeat in repeats)
    if expression is None:
        expression = profile_features(
            study.level, controls=study.control_ge is not None, preset=preset
        )
    if embedders is None:
        embedder = preset_embedder(preset, weights=weights, validated=validated)
        embedders = {"aligned": embedder}
    if methods is None:
        n_drugs = min(len(set(data.drugs[r.split.train])) for r in repeats)
        fewest = min(n_drugs, len(study.genes))
        methods = finlayson2020_methods(
            expression, n_components=max(1, min(50, fewest // 2)),
            weights=_or_random(weights), embedder=next(iter(embedders), "aligned"),
        )  # fmt: skip
        if ablations:
            methods |= ablation_methods(expression, weights=weights, preset=preset)
    checked = check_methods(methods, embedders, baseline)
    audits = audit_repeats(study, repeats)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        cache = ResultCache(folder if cache_folder is None else cache_folder)
        run = partial(run_tasks, n_jobs=n_jobs, verbose=verbose)
        fitted = fit_embedders(
            dict(embedders), expression, data, repeats, cache, partial(run, unit="fit")
        )
        trained = time.perf_counter()
        outcomes = run_methods(
            checked, data, repeats, fitted, cache, partial(run, unit="fit")
        )
        scored = time.perf_counter()
        ranks = rank_table(outcomes, list(checked), repeats, data.groups)
        if baseline is None:
            baseline = choose_baseline(checked, outcomes, n_repeats)
        explained = None
        if inspect and embedders:
            explained = explain(
                study, data, repeats, fitted, cache, figures=figures,
                molecules=ChempropEmbedder(_or_random(weights), random_state=0),
            )  # fmt: skip
    seconds = {
        "fitting the embedders": trained - start,
        "fitting and ranking the methods": scored - trained,
        "inspection": time.perf_counter() - scored,
    }
    evaluation = Evaluation(
        study=study, repeats=repeats, methods=checked, fitted=fitted,
        outcomes=outcomes, ranks=ranks, baseline=baseline, explained=explained,
        reference=reference, seconds=seconds, figures=figures, audits=audits,
    )  # fmt: skip
    settings = {
        "split": "drug_cell_line_split's defaults" if split is None else str(split),
        "repeats": str(n_repeats),
        "preset": preset,
        "seed": str(random_state),
        "profiles": repr(expression),
        "pretrained weights": "none" if weights is None else str(weights),
    }
    return assemble(evaluation, settings, command or " ".join(sys.argv))


def _or_random(weights: Any) -> Any:
    return "random" if weights is None else weights
