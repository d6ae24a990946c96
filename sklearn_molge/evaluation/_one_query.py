"""One query of the test rows with its answer: what the scores are scores of."""

import pandas as pd
from scipy.stats import rankdata

from sklearn_molge._utils.messages import counted
from sklearn_molge.evaluation._results import StudyResults
from sklearn_molge.evaluation._run import example_row
from sklearn_molge.evaluation.report._sections import ReportFigure, new_figure
from sklearn_molge.library import MoleculeQueryDisplay

__all__ = ["answer_table", "one_query", "query_text"]

_N_SHOWN = 10
_N_COLUMNS = 5
_CELL = 2.4, 2.3  # inches
_TRUE = "#d3efdb"


def best_method(results: StudyResults) -> str | None:
    """Return the method with the best first score that ranks as in use."""
    score = results.scores[0]
    known = {
        name: results.intervals(name)["score"][score.name]
        for name, method in results.finished.items()
        if method.train == "train" and not method.control
        if results.outcomes[0, name].answer is not None
    }
    choose = max if score.greater_is_better else min
    return choose(known, key=known.__getitem__) if known else None


def answer_table(results: StudyResults) -> pd.DataFrame:
    """Return the best method's answer to the example query, and the true molecule."""
    name = best_method(results)
    if name is None:
        return pd.DataFrame()
    outcome, data, obs = results.outcomes[0, name], results.plan.data, results.study.obs
    assert outcome.answer is not None
    assert outcome.ranks is not None
    rows, scores = outcome.answer
    row = example_row(results.plan.repeats[0])
    called = obs["pert_name" if "pert_name" in obs else "drug"]
    table = pd.DataFrame(
        {
            "rank": rankdata(-scores),
            "name": called.iloc[rows].astype(str).to_numpy(),
            "molecule": data.X[rows],
            "score": scores,
            "true": data.drugs[rows] == data.drugs[row],
        }
    )
    if "moa" in obs:
        moa = obs["moa"].iloc[rows].astype(object)  # it may hold categories
        table["moa"] = moa.fillna("").astype(str).to_numpy()
    own = outcome.ranks[results.plan.repeats[0].split.test == row]
    table.loc[table["true"], "rank"] = own
    table = table.sort_values(["rank", "molecule"], ignore_index=True)
    first = table.head(_N_SHOWN)
    if not first["true"].any():
        first = pd.concat([table.head(_N_SHOWN - 1), table[table["true"]]])
    return first.set_index("rank")


def query_text(results: StudyResults) -> str:
    """Say whose answer it is, how the query was chosen, and how good it is."""
    name, table = best_method(results), answer_table(results)
    if name is None:
        return ""
    repeat = results.plan.repeats[0]
    line = results.plan.data.groups[example_row(repeat), 1]
    true = table[table["true"]]
    n = results.plan.candidates("test")[0]
    return (
        f"The query is a profile of {true['name'].iloc[0]} in {line}, drawn at random "
        f"from the {counted(len(repeat.split.test), 'test profile')} of the first "
        f"repeat, not picked. {results.labels[name]}, which has the "
        f"best {results.scores[0].label} on the test rows, ranks its molecule "
        f"{true.index[0]:g} of {n}; chance would, on average, rank it {(n + 1) / 2:g}. "
        "One query is an illustration: how good a method is, the scores over all "
        "queries say."
    )


def one_query(results: StudyResults) -> ReportFigure | None:
    """Draw the structures of the answer, the true molecule shaded."""
    table = answer_table(results)
    if table.empty:
        return None
    shown = table.reset_index().assign(query="query")
    shown["rank"] = [f"{rank:g}" for rank in shown["rank"]]
    n_rows = -(-len(shown) // _N_COLUMNS)
    n_columns = min(_N_COLUMNS, len(shown))
    figure = new_figure(_CELL[0] * n_columns, _CELL[1] * n_rows + 0.4)
    figure.set_layout_engine("none")
    true = shown["true"].to_numpy()
    rank, name = shown["rank"][true].iloc[0], shown["name"][true].iloc[0]
    display = MoleculeQueryDisplay.from_table(
        shown,
        metric="similarity",
        ax=figure.add_axes((0, 0, 1, 1)),
        n_columns=n_columns,
        title=f"True molecule (shaded): {name}, rank {rank}",
    )
    for ax in display.axes_[true]:
        ax.set_axis_on()
        ax.set(xticks=[], yticks=[], facecolor=_TRUE)
        ax.spines[:].set_visible(False)
    return ReportFigure.from_figure(
        figure,
        title="The answer to one query",
        caption="Structures of the best answers by their ranks, and below each how "
        "similar the profile is to it; the true molecule is shaded, wherever it ranks.",
        alt=f"Structures of {counted(len(shown), 'molecule')}; the true one, {name}, "
        f"has rank {rank}.",
    )
