"""The paper's curves: recall at k in four panels, precision against recall."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sklearn_molge.evaluation._methods import Method
from sklearn_molge.evaluation._report import ReportFigure
from sklearn_molge.metrics import RetrievalCurveDisplay

__all__ = ["curve_figures", "new_figure"]

_STYLE = {"linewidth": 1.6}
_MANY = 20  # colours and dashes that can be told apart
_MOST_BANDS = 9  # more bands than this hide each other


def new_figure(width: float, height: float, **kwargs: Any) -> Any:
    """Return a figure that needs no screen and no pyplot."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            'The figures of a report need matplotlib: pip install "sklearn-molge[plot]"'
        ) from error
    return Figure(figsize=(width, height), layout="constrained", **kwargs)


def curve_figures(
    methods: dict[str, Method], ranks: pd.DataFrame, *, random_state: int
) -> dict[str, ReportFigure]:
    """Draw what can be drawn of the methods that did not fail."""
    fine = {n: m for n, m in methods.items() if not ranks[n].isna().any()}
    panels = {
        "D-NN": [n for n, m in fine.items() if m.method == "D-NN"],
        "CCA": [n for n, m in fine.items() if m.method in ("CCA", "Corr")],
        "Oracles": [n for n, m in fine.items() if "table2" in m.tables],
        "Other": [
            n
            for n, m in fine.items()
            if "table1" in m.tables and m.method not in ("D-NN", "CCA", "Corr")
        ],
        "Ablations": [n for n, m in fine.items() if "ablations" in m.tables],
    }
    drawn = {title: names for title, names in panels.items() if names}
    figures = {}
    if drawn:
        figures["recall_at_k"] = _recall_figure(drawn, ranks, random_state)
    best = _main_methods(fine, ranks)
    if best:
        figures["precision_recall"] = _precision_figure(best, ranks, random_state)
    return figures


def _draw(
    ax: Any, names: Sequence[str], ranks: pd.DataFrame, random_state: int, **kwargs: Any
) -> None:
    """Draw the curves on one axes, with a legend beside it, the best method first."""
    level = 0.95 if len(names) <= _MOST_BANDS else None
    displays = [
        RetrievalCurveDisplay.from_predictions(
            ranks[name], ranks["n_candidates"], drugs=ranks["drug"], name=name, ax=ax,
            plot_chance=i == 0, random_state=random_state, color=f"C{i % 10}",
            linestyle="-" if i < 10 else "--", n_resamples=400,
            confidence_level=level, **_STYLE, **kwargs,
        )
        for i, name in enumerate(names)
    ]  # fmt: skip
    best_first = sorted(displays, key=lambda display: -display.score)
    lines = [display.line_ for display in best_first]
    ax.legend(
        handles=[*lines, displays[0].chance_line_], loc="center left",
        bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize="small",
    )  # fmt: skip


def _recall_figure(
    panels: dict[str, list[str]], ranks: pd.DataFrame, random_state: int
) -> ReportFigure:
    figure = new_figure(9.5, 4.0 * len(panels))
    axes = figure.subplots(len(panels), squeeze=False)[:, 0]
    for ax, (title, names) in zip(axes, panels.items(), strict=True):
        _draw(ax, names[:_MANY], ranks, random_state)
        ax.set_title(title, loc="left")
    return ReportFigure.from_figure(
        figure,
        title="Recall at k",
        caption="Share of the queries whose molecule is among the first k, with 95 % "
        f"intervals over drugs where there are at most {_MOST_BANDS} methods; the "
        "dashed grey line is chance.",
        alt="Recall against k for each method, in panels: " + "; ".join(panels) + ".",
    )


def _main_methods(fine: dict[str, Method], ranks: pd.DataFrame) -> list[str]:
    """Return the embedder with and without CCA, the raw baselines and the oracles."""
    wanted = [
        "CCA, aligned / aligned", "Corr, aligned / aligned", "CCA, raw / six features",
        "CCA, raw / Morgan", "D-NN, raw / Morgan",
        "oracle, train lines, raw, correlation", "oracle, test lines, raw, euclidean",
    ]  # fmt: skip
    return [name for name in wanted if name in fine] or list(fine)[:_MANY]


def _precision_figure(
    names: list[str], ranks: pd.DataFrame, random_state: int
) -> ReportFigure:
    figure = new_figure(9.5, 4.6)
    ax = figure.subplots()
    _draw(ax, names, ranks, random_state, kind="precision_recall")
    return ReportFigure.from_figure(
        figure,
        title="Precision and recall",
        caption="Precision (recall at k over k) against recall, with 95 % intervals. "
        "The paper's Figure 2 multiplies precision by the number of profiles a drug.",
        alt="Precision against recall for " + ", ".join(names) + ".",
    )
