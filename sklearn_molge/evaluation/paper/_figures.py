"""The paper's curves: recall at k in panels, precision against recall."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sklearn_molge.evaluation._results import SEED, StudyResults
from sklearn_molge.evaluation.report._sections import ReportFigure, new_figure
from sklearn_molge.metrics import RetrievalCurveDisplay

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["precision_recall", "recall_at_k"]

_MANY = 20  # colours and dashes that can be told apart
_MOST_BANDS = 9  # more bands than this hide each other
# The embedder with and without CCA, the raw baselines and the oracles.
_MAIN = (
    "cca_aligned_aligned",
    "corr_aligned_aligned",
    "cca_raw_six_features",
    "cca_raw_morgan",
    "dnn_raw_morgan",
    "oracle_train_lines_raw_correlation",
    "oracle_test_lines_raw_euclidean",
)


def recall_at_k(results: StudyResults) -> ReportFigure | None:
    """Draw recall at k, a panel for each kind of method."""
    titles = ("D-NN", "CCA", "Oracles", "Other", "Ablations")
    panels: dict[str, list[str]] = {title: [] for title in titles}
    own = {"D-NN": "D-NN", "CCA": "CCA", "Corr": "CCA"}
    for name, method in results.finished.items():
        if method.method in own:
            panels[own[method.method]].append(name)
        elif "table1" in method.tables:
            panels["Other"].append(name)
        if "table2" in method.tables:
            panels["Oracles"].append(name)
        if "ablations" in method.tables:
            panels["Ablations"].append(name)
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        return None
    figure = new_figure(9.5, 4.0 * len(panels))
    axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for ax, (title, names) in zip(axes, panels.items(), strict=True):
        _draw(ax, names[:_MANY], results)
        ax.set_title(title, loc="left")
    return ReportFigure.from_figure(
        figure,
        title="Recall at k",
        caption="Share of the queries whose molecule is among the first k, with 95 % "
        f"intervals over drugs where there are at most {_MOST_BANDS} methods; the "
        "dashed grey line is chance.",
        alt="Recall against k for each method, in panels: " + "; ".join(panels) + ".",
    )


def precision_recall(results: StudyResults) -> ReportFigure | None:
    """Draw precision against recall of the main methods."""
    finished = results.finished
    names = [name for name in _MAIN if name in finished] or list(finished)[:_MANY]
    if not names:
        return None
    figure = new_figure(9.5, 4.6)
    _draw(figure.subplots(), names, results, kind="precision_recall")
    labels = ", ".join(results.labels[name] for name in names)
    return ReportFigure.from_figure(
        figure,
        title="Precision and recall",
        caption="Precision (recall at k over k) against recall, with 95 % intervals. "
        "The paper's Figure 2 multiplies precision by the number of profiles a drug.",
        alt=f"Precision against recall for {labels}.",
    )


def _draw(
    ax: "Axes", names: Sequence[str], results: StudyResults, kind: str = "recall"
) -> None:
    """Draw the curves on one axes, with a legend beside it, the best method first."""
    ranks, score = results.ranks, results.scores[0]
    level = 0.95 if len(names) <= _MOST_BANDS else None
    options = {"ax": ax, "kind": kind, "scoring": score, "linewidth": 1.6}
    options |= {"n_resamples": 400, "confidence_level": level, "random_state": SEED}
    displays = []
    for i, name in enumerate(names):
        style = {"color": f"C{i % 10}", "linestyle": "-" if i < 10 else "--"}
        given = {"drugs": ranks["drug"], "name": results.labels[name]} | style
        display = RetrievalCurveDisplay.from_predictions(
            ranks[name], ranks["n_candidates"], plot_chance=i == 0, **given, **options
        )
        displays.append(display)
    best_first = sorted(
        displays, key=lambda display: display.score, reverse=score.greater_is_better
    )
    lines = [display.line_ for display in best_first]
    ax.legend(
        handles=[*lines, displays[0].chance_line_],
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        frameon=False,
        fontsize="small",
    )
