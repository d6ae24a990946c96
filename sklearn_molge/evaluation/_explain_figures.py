"""Figures of the inspection: regressions, maps, what drives a match."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._figures import new_figure
from sklearn_molge.evaluation._report import ReportFigure
from sklearn_molge.evaluation._tasks import Data
from sklearn_molge.expression import match_controls
from sklearn_molge.inspection import (
    AtomAttributionDisplay,
    GeneAttributionDisplay,
    LatentMapDisplay,
    RegressionDisplay,
    latent_map,
)
from sklearn_molge.metrics import similarity
from sklearn_molge.molecules import MorganFingerprinter

__all__ = [
    "attribution_figures",
    "distance_figures",
    "map_figures",
    "specificity_figure",
]

_SEED = 0
_MOST_ROWS = 3000  # more points than this hide each other


def distance_figures(
    fits: dict[str, Any], labels: dict[str, str]
) -> dict[str, ReportFigure]:
    """Draw the regressions on distances: Figures 3A and A2 of the paper."""
    n_rows = -(-len(fits) // 2)
    figure = new_figure(9.5, 3.6 * n_rows)
    axes = figure.subplots(n_rows, 2, squeeze=False).ravel()
    for ax in axes[len(fits) :]:
        figure.delaxes(ax)
    for ax, name in zip(axes, fits, strict=False):
        RegressionDisplay(fits[name], xlabel=labels[name]).plot(ax)
    drawn = ReportFigure.from_figure(
        figure,
        title="Distance to the training set",
        caption="Does the embedder rank worse far from what it was trained on? One "
        "point a drug for molecules, one a profile for expression; band: 95 % over "
        "drugs; dashed: chance.",
        alt="Scatter plots with regression lines: "
        + "; ".join(_in_words(name, fit) for name, fit in fits.items()),
    )
    return {"distance_to_training": drawn}


def specificity_figure(fit: Any, label: str) -> dict[str, ReportFigure]:
    """Draw the regression on the breadth of the effect: the paper's Figure 3B."""
    figure = new_figure(5.6, 3.8)
    RegressionDisplay(fit, xlabel=label).plot(figure.subplots())
    drawn = ReportFigure.from_figure(
        figure,
        title="Breadth of the effect",
        caption="Are molecules that change many genes found more easily? One point a "
        "drug; band: 95 % over drugs; dashed: chance.",
        alt="Scatter plot with regression line: " + _in_words("number of genes", fit),
    )
    return {"specificity": drawn}


def _in_words(name: str, fit: Any) -> str:
    return f"{name.replace('_', ' ')}: slope {fit.slope:.2g}, p = {fit.p_value:.2g}"


def map_figures(
    study: Study, data: Data, fitted: Any, distinct: tuple | None
) -> dict[str, ReportFigure]:
    """Draw molecules and profiles before and after alignment (Figures A4, A5)."""
    figures = {}
    if distinct is not None and any(distinct[1]):
        X, labels = distinct
        figure = new_figure(11, 4.2)
        LatentMapDisplay.from_embeddings(
            MorganFingerprinter().transform(X), labels, after=fitted.model.transform(X),
            metric=("jaccard", "correlation"), names=("Morgan bits", "aligned"),
            ax=figure.subplots(1, 2), random_state=_SEED,
        )  # fmt: skip
        figures["map_mechanisms"] = ReportFigure.from_figure(
            figure,
            title="Test molecules by mechanism of action",
            caption="Test molecules of the first repeat, before and after alignment. "
            "The titles give what the eye should not be trusted with: how often the "
            "nearest neighbours share a mechanism, over all classes.",
            alt="Two maps of the test molecules, coloured by mechanism of action.",
        )
    figures["map_profiles"] = _profile_maps(study, data, fitted)
    return figures


def _profile_maps(study: Study, data: Data, fitted: Any) -> ReportFigure:
    """Draw training and test profiles on one map for each space."""
    split = fitted.repeat.split
    rng = np.random.default_rng(_SEED)
    most = _MOST_ROWS if study.control_ge is None else _MOST_ROWS // 2
    train = rng.permutation(split.train)[: max(most - len(split.test), most // 2)]
    test = rng.permutation(split.test)[: most - len(train)]
    rows = np.concatenate([train, test])
    y = data.y[rows]
    parts = np.repeat(["train", "test"], [len(train), len(test)]).astype(object)
    kinds = {"train or test": parts, "cell line": data.groups[rows, 1]}
    if study.control_ge is not None:
        wells, lines = _control_wells(study, len(rows), rng)
        control = np.full(len(wells), "control", dtype=object)
        treated = np.full(len(rows), "treated", dtype=object)
        y = np.vstack([y, wells])
        kinds = {
            "train or test": np.append(parts, control),
            "treated or control": np.append(treated, control),
            "cell line": np.append(kinds["cell line"], lines),
        }
    spaces = (
        fitted.alignment.expression.transform(y),
        fitted.model.transform_ge(y),
    )
    coordinates = [latent_map(space, random_state=_SEED) for space in spaces]
    figure = new_figure(11, 4.0 * len(kinds))
    axes = figure.subplots(len(kinds), 2)
    for panels, (kind, labels) in zip(axes, kinds.items(), strict=True):
        LatentMapDisplay.from_embeddings(
            spaces[0], labels, after=spaces[1], coordinates=coordinates,
            highlight=_most_frequent(labels), score="mixing", ax=panels,
            names=(f"raw, by {kind}", f"aligned, by {kind}"), random_state=_SEED,
        )  # fmt: skip
    return ReportFigure.from_figure(
        figure,
        title="Profiles before and after alignment",
        caption="Profiles of the first repeat; one map a space, fitted once on all of "
        "them. The titles give the mixing: 1 where the classes are mixed at random, 0 "
        "where each lies apart.",
        alt="Maps of raw and of aligned profiles, coloured by " + ", ".join(kinds),
    )


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


def attribution_figures(
    study: Study, data: Data, fitted: Any
) -> dict[str, ReportFigure]:
    """Draw atoms and genes of the test match that was found most clearly."""
    best = np.flatnonzero(fitted.ranks == fitted.ranks.min())
    rows = fitted.test[best]
    matches = [
        similarity(fitted.model, data.X[[row]], data.y[[row]])[0, 0] for row in rows
    ]
    row = rows[int(np.argmax(matches))]
    smiles, profile = str(data.X[row]), data.y[row]
    line = data.groups[row, 1]
    columns = study.obs.columns
    name = str(study.obs.iloc[row]["pert_name" if "pert_name" in columns else "drug"])
    genes = study.genes
    column = "symbol" if "symbol" in genes else "gene_id"
    figure = new_figure(11, 4.6)
    left, right = figure.subplots(
        1, 2, width_ratios=(3, 2), gridspec_kw={"wspace": 0.2}
    )
    AtomAttributionDisplay.from_estimator(
        fitted.model, smiles, profile, ax=left, name=name
    )
    options: dict[str, Any] = {}
    if study.control_ge is not None:  # what the treatment changed
        control = profile[len(profile) // 2 :]
        options["baseline"] = np.concatenate([control, control])
    GeneAttributionDisplay.from_estimator(
        fitted.model, smiles, profile, ax=right, gene_names=genes[column].to_numpy(),
        **options,
    )  # fmt: skip
    figure_ = ReportFigure.from_figure(
        figure,
        title=f"What drives the match of {name} in {line}",
        caption="The test query that the embedder ranked best. An atom's or a gene's "
        "value is the similarity that is lost when it is taken out (occlusion). It "
        "says what the fitted model looks at, not what the drug does.",
        alt=f"The molecule {name} with its atoms coloured, and a bar chart of genes.",
    )
    return {"attribution_best": figure_}
