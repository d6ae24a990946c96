"""Why the embedder of a study works or fails: numbers and figures."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._divisions import FEWEST_CANDIDATES
from sklearn_molge.evaluation._plan import Plan
from sklearn_molge.evaluation._results import (
    SEED,
    Explanation,
    FittedRepeat,
    StudyResults,
)
from sklearn_molge.evaluation._run import Outcomes, ResultCache
from sklearn_molge.evaluation.report._sections import ReportFigure, new_figure
from sklearn_molge.expression import match_controls
from sklearn_molge.inspection import (
    TRAINING_DISTANCES,
    AtomAttributionDisplay,
    GeneAttributionDisplay,
    LatentMapDisplay,
    RegressionDisplay,
    cell_line_mixing,
    differential_genes,
    latent_map,
    neighbor_change,
    performance_regression,
    training_distances,
)
from sklearn_molge.metrics import retrieval_ranks, similarity
from sklearn_molge.molecules import MorganFingerprinter

__all__ = [
    "attribution_best",
    "distance_to_training",
    "explain",
    "map_mechanisms",
    "map_profiles",
    "specificity",
]

_LOG_X = ("molecule_features",)  # as in the paper's Figure 3A
_MOST_ROWS = 3000  # more points than this hide each other
_N_GENES = "n_genes"


def explain(
    plan: Plan, fitted: Outcomes, cache: ResultCache, molecules: BaseEstimator
) -> Explanation:
    """Inspect the first embedder; a part that fails is a note, the others go on."""
    name = next(name for _, name in fitted)
    models, failed = _load(name, plan, fitted, cache)
    e = Explanation(plan.study, plan.data, models, molecules)
    if failed:
        e.notes.append(
            f"The embedder {name!r} is not explained in repeat "
            f"{', '.join(map(str, failed))}: {next(iter(failed.values()))}"
        )
    for part in (_distances, _specificity, _mechanisms, _mixing) if models else ():
        try:
            part(e)
        except Exception as error:
            what = part.__name__.strip("_")
            e.notes.append(
                f"The inspection of {what} failed: {type(error).__name__}: {error}"
            )
    if e.regressions:
        rows = [
            {"against": name, "label": e.labels[name]} | fit.summary()
            for name, fit in e.regressions.items()
        ]
        e.tables = {"regressions": pd.DataFrame(rows).set_index("against")} | e.tables
    return e


def _load(
    name: str, plan: Plan, fitted: Outcomes, cache: ResultCache
) -> tuple[list[FittedRepeat], dict[int, str]]:
    """Return what can be explained, and why each other repeat cannot."""
    models, failed = [], {}
    data = plan.data
    for i, repeat in enumerate(plan.repeats):
        path = fitted[i, name].path
        if path is None:
            failed[i] = fitted[i, name].error
            continue
        if plan.candidates("test")[i] < FEWEST_CANDIDATES:
            failed[i] = "its test rows are of one drug"
            continue
        train, test = repeat.split.train, repeat.split.test
        try:
            alignment = cache.load(path)[0]
            model = alignment.tower("both").fit(data.X[train[:2]], data.y[train[:2]])
            ranks = retrieval_ranks(
                model, data.X[test], data.y[test], drugs=data.drugs[test]
            )
        except Exception as error:  # it cannot rank: it has diverged to NaN
            failed[i] = f"{type(error).__name__}: {error}"
            continue
        models.append(FittedRepeat(i, repeat, alignment, model, ranks))
    return models, failed


def _distances(e: Explanation) -> None:
    """Regress performance on distance to training."""
    tables = []
    for m in e.models:
        rows = m.repeat.split.train, m.test
        views = [view[part] for part in rows for view in (e.data.X, e.data.y)]
        spaces = {"expression": m.alignment.expression, "embedder": m.model}
        tables.append(training_distances(*views, molecules=e.molecules, **spaces))
    distances = pd.concat(tables, ignore_index=True)
    ranks, drugs, sizes = e.queries()
    for name in map(str, distances):
        per, e.labels[name] = TRAINING_DISTANCES[name]
        e.regressions[name] = performance_regression(
            distances[name],
            ranks,
            drugs,
            n_candidates=sizes,
            per=per,
            log_x=name in _LOG_X,
            random_state=SEED,
        )


def _specificity(e: Explanation) -> None:
    """Regress performance on the breadth of the effect."""
    ranks, drugs, sizes = e.queries()
    n_genes = differential_genes(e.study).groupby("drug")["n_genes"].mean()
    x = np.log1p(pd.Series(drugs).map(n_genes).to_numpy(dtype=np.float64))
    known = ~np.isnan(x)
    x, ranks, drugs, sizes = (each[known] for each in (x, ranks, drugs, sizes))
    e.regressions[_N_GENES] = performance_regression(
        x, ranks, drugs, n_candidates=sizes, random_state=SEED
    )
    e.labels[_N_GENES] = "ln(1 + number of genes changed)"


def _mechanisms(e: Explanation) -> None:
    """Say how often neighbours share a mechanism, before and after alignment."""
    if "moa" not in e.study.obs:
        e.notes.append("Mechanisms are not looked at: obs has no column 'moa'.")
        return
    rows = []
    for m in e.models:
        for space, transformer, metric in (
            ("Morgan", MorganFingerprinter(), "jaccard"),
            ("Chemprop", e.molecules, "correlation"),
        ):
            X, labels = _distinct_molecules(e.study, m.test)
            before = transformer.fit(e.data.X[m.repeat.split.train]).transform(X)
            after, metrics = m.model.transform(X), (metric, "correlation")
            change = neighbor_change(
                before, after, labels, metric=metrics, random_state=SEED
            )
            rows += _change_rows(change, space, m.number)
    e.tables["mechanisms"] = pd.DataFrame(rows).set_index("measure")


def _change_rows(change, space, i):
    nulls = {"rate": "expected", "average_precision": "expected_average_precision"}
    p_values = {"rate": "p_value", "average_precision": "average_precision_p_value"}
    rows = []
    for measure, numbers in change.table.iterrows():
        row = {"measure": measure, "repeat": i, "before is": space}
        row["molecules"] = change.before.n_queries
        row["chance"] = getattr(change.after, nulls[measure])
        for when, result in (("before", change.before), ("after", change.after)):
            row[when] = numbers[when]
            row[f"{when} p_value"] = getattr(result, p_values[measure])
        row["difference"] = numbers["difference"]
        row["difference_low"], row["difference_high"] = numbers["low"], numbers["high"]
        rows.append(row)
    return rows


def _distinct_molecules(study: Study, rows: NDArray) -> tuple[NDArray, NDArray]:
    """Return the first SMILES of each drug, and its mechanisms."""
    moa = study.obs["moa"].iloc[rows].astype(object).fillna("").astype(str)
    table = pd.DataFrame(
        {
            "drug": study.groups[rows, 0],
            "smiles": study.smiles[rows],
            "moa": moa.to_numpy(),
        }
    )
    first = table.sort_values(["smiles", "moa"]).groupby("drug").first()
    return first["smiles"].to_numpy(dtype=object), first["moa"].to_numpy(dtype=object)


def _mixing(e: Explanation) -> None:
    """Say how far the profiles of several lines mix, before and after alignment."""
    rows = []
    for m in e.models:
        y, lines = e.data.y[m.test], e.data.groups[m.test, 1]
        n_lines = len(np.unique(lines))
        if n_lines < 2:
            continue
        raw, aligned = m.alignment.expression.transform(y), m.model.transform_ge(y)
        for space, embedded in (("raw", raw), ("aligned", aligned)):
            mixing = cell_line_mixing(
                embedded, lines, drugs=e.data.drugs[m.test], random_state=SEED
            )
            low, high = mixing.interval
            rows.append(
                {
                    "space": space,
                    "repeat": m.number,
                    "lines": n_lines,
                    "profiles": len(lines),
                    "mixing": mixing.mixing,
                    "mixing_low": low,
                    "mixing_high": high,
                    "p_value": mixing.p_value,
                }
            )
    if rows:
        e.tables["mixing"] = pd.DataFrame(rows).set_index("space")
    else:
        e.notes.append("Mixing is not looked at: the test rows are of one line.")


def distance_to_training(results: StudyResults) -> ReportFigure | None:
    """Draw the regressions on distances: Figures 3A and A2 of the paper."""
    e = results.explained
    found = e.regressions if e else {}
    fits = {name: fit for name, fit in found.items() if name in TRAINING_DISTANCES}
    if e is None or not fits:
        return None
    n_rows = -(-len(fits) // 2)
    figure = new_figure(9.5, 3.6 * n_rows)
    axes = figure.subplots(n_rows, 2, squeeze=False).ravel()
    for ax in axes[len(fits) :]:
        figure.delaxes(ax)
    for ax, name in zip(axes, fits, strict=False):
        RegressionDisplay(fits[name], xlabel=e.labels[name]).plot(ax)
    return ReportFigure.from_figure(
        figure,
        title="Distance to the training set",
        caption="Does the embedder rank worse far from what it was trained on? One "
        "point a drug for molecules, one a profile for expression; band: 95 % over "
        "drugs; dashed: chance.",
        alt="Scatter plots with regression lines: "
        + "; ".join(_in_words(name, fit) for name, fit in fits.items()),
    )


def specificity(results: StudyResults) -> ReportFigure | None:
    """Draw the regression on the breadth of the effect: the paper's Figure 3B."""
    e = results.explained
    if e is None or _N_GENES not in e.regressions:
        return None
    fit = e.regressions[_N_GENES]
    figure = new_figure(5.6, 3.8)
    RegressionDisplay(fit, xlabel=e.labels[_N_GENES]).plot(figure.subplots())
    return ReportFigure.from_figure(
        figure,
        title="Breadth of the effect",
        caption="Are molecules that change many genes found more easily? One point a "
        "drug; band: 95 % over drugs; dashed: chance.",
        alt="Scatter plot with regression line: " + _in_words("number of genes", fit),
    )


def _in_words(name, fit):
    return f"{name.replace('_', ' ')}: slope {fit.slope:.2g}, p = {fit.p_value:.2g}"


def map_mechanisms(results: StudyResults) -> ReportFigure | None:
    """Draw molecules before and after alignment (Figure A4)."""
    e = results.explained
    if e is None or not e.models or "moa" not in e.study.obs:
        return None
    model = e.models[0].model
    X, labels = _distinct_molecules(e.study, e.models[0].test)
    if not any(labels):
        return None
    figure = new_figure(11, 4.2)
    LatentMapDisplay.from_embeddings(
        MorganFingerprinter().transform(X),
        labels,
        after=model.transform(X),
        metric=("jaccard", "correlation"),
        names=("Morgan bits", "aligned"),
        ax=figure.subplots(1, 2),
        random_state=SEED,
    )
    return ReportFigure.from_figure(
        figure,
        title="Test molecules by mechanism of action",
        caption="Test molecules of the first repeat, before and after alignment. "
        "The titles give what the eye should not be trusted with: how often the "
        "nearest neighbours share a mechanism, over all classes.",
        alt="Two maps of the test molecules, coloured by mechanism of action.",
    )


def map_profiles(results: StudyResults) -> ReportFigure | None:
    """Draw training and test profiles on one map for each space (Figure A5)."""
    e = results.explained
    if e is None or not e.models:
        return None
    m = e.models[0]
    y, kinds = _profiles_to_draw(e.study, e.data.y, e.data.groups, m.repeat.split)
    spaces = (m.alignment.expression.transform(y), m.model.transform_ge(y))
    coordinates = [latent_map(space, random_state=SEED) for space in spaces]
    figure = new_figure(11, 4.0 * len(kinds))
    axes = figure.subplots(len(kinds), 2)
    for panels, (kind, labels) in zip(axes, kinds.items(), strict=True):
        LatentMapDisplay.from_embeddings(
            spaces[0],
            labels,
            after=spaces[1],
            coordinates=coordinates,
            highlight=_most_frequent(labels),
            score="mixing",
            ax=panels,
            names=(f"raw, by {kind}", f"aligned, by {kind}"),
            random_state=SEED,
        )
    return ReportFigure.from_figure(
        figure,
        title="Profiles before and after alignment",
        caption="Profiles of the first repeat; one map a space, fitted once on all of "
        "them. The titles give the mixing: 1 where the classes are mixed at random, 0 "
        "where each lies apart.",
        alt="Maps of raw and of aligned profiles, coloured by " + ", ".join(kinds),
    )


def _profiles_to_draw(study: Study, y: NDArray, groups: NDArray, split):
    """Return as many rows as can be told apart, and their labels of each kind."""
    rng = np.random.default_rng(SEED)
    most = _MOST_ROWS if study.control_ge is None else _MOST_ROWS // 2
    train = rng.permutation(split.train)[: max(most - len(split.test), most // 2)]
    test = rng.permutation(split.test)[: most - len(train)]
    rows = np.concatenate([train, test])
    parts = np.repeat(["train", "test"], [len(train), len(test)]).astype(object)
    kinds = {"train or test": parts, "cell line": groups[rows, 1]}
    if study.control_ge is None:
        return y[rows], kinds
    wells, lines = _control_wells(study, len(rows), rng)
    control = np.full(len(wells), "control", dtype=object)
    treated = np.full(len(rows), "treated", dtype=object)
    kinds = {
        "train or test": np.append(parts, control),
        "treated or control": np.append(treated, control),
        "cell line": np.append(kinds["cell line"], lines),
    }
    return np.vstack([y[rows], wells]), kinds


def _control_wells(
    study: Study, most: int, rng: np.random.Generator
) -> tuple[NDArray, NDArray]:
    """Return control wells in the treated well's place, and the line of each."""
    assert study.control_ge is not None
    assert study.control_obs is not None
    plates = study.control_obs["plate"].to_numpy(dtype=object)
    means = match_controls(plates, study.control_ge, plates)
    lines = np.full(len(plates), "control", dtype=object)
    if "cell_line" in study.control_obs:
        lines = study.control_obs["cell_line"].to_numpy(dtype=object)
    chosen = rng.permutation(len(plates))[:most]
    return np.hstack([study.control_ge, means])[chosen], lines[chosen]


def _most_frequent(labels: NDArray, n: int = 8) -> list[str]:
    names, counts = np.unique(labels, return_counts=True)
    return [str(name) for name in names[np.argsort(-counts, kind="stable")][:n]]


def attribution_best(results: StudyResults) -> ReportFigure | None:
    """Draw atoms and genes of the test match that was found most clearly."""
    e = results.explained
    if e is None or not e.models:
        return None
    m, study = e.models[0], e.study
    X, y = e.data.X, e.data.y
    rows = m.test[m.ranks == m.ranks.min()]
    matches = [similarity(m.model, X[[row]], y[[row]])[0, 0] for row in rows]
    row = rows[int(np.argmax(matches))]
    smiles, profile, line = str(X[row]), y[row], e.data.groups[row, 1]
    called = "pert_name" if "pert_name" in study.obs else "drug"
    name = str(study.obs.iloc[row][called])
    symbol = "symbol" if "symbol" in study.genes else "gene_id"
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(
        1, 2, width_ratios=(3, 2), gridspec_kw={"wspace": 0.2}
    )
    AtomAttributionDisplay.from_estimator(m.model, smiles, profile, ax=left, name=name)
    baseline: str | NDArray = "zero"
    if study.control_ge is not None:  # what the treatment changed
        baseline = np.tile(profile[len(profile) // 2 :], 2)
    GeneAttributionDisplay.from_estimator(
        m.model,
        smiles,
        profile,
        ax=right,
        gene_names=study.genes[symbol].to_numpy(),
        baseline=baseline,
    )
    return ReportFigure.from_figure(
        figure,
        title=f"What drives the match of {name} in {line}",
        caption="The test query that the embedder ranked best. An atom's or a gene's "
        "value is the similarity that is lost when it is taken out (occlusion). It "
        "says what the fitted model looks at, not what the drug does.",
        alt=f"The molecule {name} with its atoms coloured, and a bar chart of genes.",
    )
