"""The sections of a report: which tables and figures, in which order, with notes."""

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

import sklearn_molge
from sklearn_molge._utils.messages import counted, first_few
from sklearn_molge._utils.rows import distinct_rows
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._audit import covered_lines, held_out
from sklearn_molge.evaluation._divisions import (
    FEWEST_CANDIDATES,
    MIN_CANDIDATES,
    Repeat,
)
from sklearn_molge.evaluation._explain import (
    attribution_best,
    distance_to_training,
    map_mechanisms,
    map_profiles,
    specificity,
)
from sklearn_molge.evaluation._one_query import answer_table, one_query, query_text
from sklearn_molge.evaluation._plan import (
    Plan,
)
from sklearn_molge.evaluation._results import SEED, StudyResults
from sklearn_molge.evaluation._run import Outcomes
from sklearn_molge.evaluation.paper._findings import (
    claim_tables,
    precision_recall,
    recall_at_k,
    with_reference,
)
from sklearn_molge.evaluation.report._sections import ReportFigure, ReportTable, Section
from sklearn_molge.exceptions import FewDrugsWarning
from sklearn_molge.metrics import chance_scores

__all__ = ["DrawFigure", "describe_study", "make_sections", "report_notes", "versions"]

DrawFigure = Callable[[StudyResults], ReportFigure | None]

_ONE_QUERY = "What does an answer look like?"

# The report: names of tables, and the functions that draw figures, which are called
# with the results and return None where there is nothing to draw. A figure's name is
# that of its function. To add one, write the function and name it here.
SECTIONS: dict[str, tuple[str | DrawFigure, ...]] = {
    "How good is each method?": ("candidates", "table1", recall_at_k, precision_recall),
    _ONE_QUERY: ("answer", one_query),
    "How far from the ceiling?": ("table2",),
    "Which of the paper's claims hold here?": ("claims", "claims_slopes"),
    "What matters in training?": ("ablations", "embedders"),
    "Why does it work, and where does it fail?": (
        "regressions",
        distance_to_training,
        specificity,
        "mechanisms",
        "mixing",
        map_mechanisms,
        map_profiles,
        attribution_best,
    ),
    "Is the comparison honest?": ("audit", "similarity", "splits", "test_molecules"),
}
_MORE = "More figures"
_PACKAGES = (
    "numpy scipy scikit-learn torch skorch chemprop rdkit pandas hyperopt joblib"
).split()
_CAPTIONS = {
    "candidates": "What each repeat ranks: its test profiles, each among its test "
    "drugs, and what a random ranking scores there. The scores below pool the profiles "
    "of all repeats, and so does their chance.",
    "table1": "{unseen}: how high each method ranks the true "
    "molecule, with 95 % intervals from resampling whole drugs; the difference of the "
    "first score to that of the baseline.",
    "answer": "The best answers, and the true molecule wherever it ranks.",
    "table2": "Ceilings: oracles rank by the drugs' own measured profiles, in the "
    "training lines or in the test lines with the query left out, raw or embedded.",
    "ablations": "One base, one change a row; each ranks by its own similarity.",
    "claims": "The paper's claims about methods on these data: the gain in MRR, with a "
    "95 % interval over drugs. A claim holds if the whole interval is above 0 and p "
    "is below 0.05; with 16 contrasts, expect one by chance where nothing holds.",
    "claims_slopes": "The paper's claims about molecules on these data: slopes of "
    "performance, with 95 % intervals over drugs.",
    "embedders": "What was trained: epochs, the best one on the validation rows.",
    "splits": "Rows, drugs and cell lines of each repeat.",
    "audit": "What two parts share, in the repeat where they share most. A shared drug "
    "or cell line is a leak; the rest is there to be judged.",
    "similarity": "Tanimoto similarity of each test drug to the nearest training drug, "
    "and how many have a training drug with the same fingerprint.",
    "test_molecules": "Each test drug with the nearest training drug.",
    "regressions": "Performance of the embedder against distance to the training set "
    "and breadth of the effect. Slopes of -ln MRR, with intervals over drugs.",
    "mechanisms": "How often a test molecule's nearest neighbours share a mechanism of "
    "action, before and after alignment, against a permutation null.",
    "mixing": "How well the test profiles of several cell lines mix: 1 is fully mixed, "
    "0 is separate.",
}


def make_sections(
    results: StudyResults,
    audits: dict[str, pd.DataFrame],
    figures: Sequence[DrawFigure] | None,
    *,
    reference: bool,
) -> tuple[list[Section], list[str]]:
    """Return the sections, and a note for each figure that could not be drawn.

    `figures` are drawn beside those of the report; None draws none at all.
    """
    tables = _tables(results, audits, reference=reference)
    unseen = _unseen(results.plan)
    notes: list[str] = []
    sections = []
    for title, parts in (SECTIONS | {_MORE: tuple(figures or ())}).items():
        items: dict[str, ReportTable | ReportFigure] = {}
        for part in parts:
            if isinstance(part, str):
                if len(tables.get(part, ())):
                    caption = _CAPTIONS[part].format(unseen=unseen)
                    items[part] = ReportTable(tables[part], caption)
            elif figures is not None:
                drawn = _draw(part, results, notes)
                if drawn is not None:
                    items[part.__name__] = drawn
        if items:
            text = query_text(results) if title == _ONE_QUERY else ""
            sections.append(Section(title, items, text))
    return sections, notes


def _draw(
    draw: DrawFigure, results: StudyResults, notes: list[str]
) -> ReportFigure | None:
    try:
        return draw(results)
    except Exception as error:
        name, kind = draw.__name__, type(error).__name__
        notes.append(f"The figure {name} failed: {kind}: {error}")
        return None


def _tables(
    results: StudyResults, audits: dict[str, pd.DataFrame], *, reference: bool
) -> dict[str, pd.DataFrame]:
    tables = results.score_tables()
    if reference:
        for name in tables.keys() & {"table1", "table2"}:
            tables[name] = with_reference(name, tables[name])
    explained = results.explained.tables if results.explained else {}
    slopes = explained.get("regressions")
    too_few = results.too_few
    tables |= claim_tables(
        results.scored, results.labels, slopes, too_few=too_few, random_state=SEED
    )
    tables["candidates"] = results.candidate_table()
    tables["answer"] = answer_table(results)
    tables["embedders"] = _embedder_table(results.fitted)
    tables["splits"] = _split_table(results.study, results.plan.repeats)
    return tables | audits | explained


def _embedder_table(fitted: Outcomes) -> pd.DataFrame:
    rows = [
        {"embedder": name, "repeat": i}
        | outcome.details
        | {"seconds": outcome.seconds, "error": outcome.error}
        for (i, name), outcome in sorted(fitted.items())
    ]
    return pd.DataFrame(rows).set_index("embedder") if rows else pd.DataFrame()


def _split_table(study: Study, repeats: Sequence[Repeat]) -> pd.DataFrame:
    rows = []
    for i, repeat in enumerate(repeats):
        for part in ("train", "val", "test"):
            chosen = getattr(repeat.split, part)
            drugs, lines = study.groups[chosen].T
            row = {
                "repeat": i,
                "part": part,
                "profiles": len(drugs),
                "drugs": len(np.unique(drugs)),
                "cell_lines": len(np.unique(lines)),
            }
            if _n_sources(study) > 1:
                row["sources"] = _sources_text(study, chosen)
            row["which_lines"] = ", ".join(map(str, np.unique(lines)))
            rows.append(row)
    return pd.DataFrame(rows).set_index("repeat")


def _n_sources(study: Study) -> int:
    return study.obs["source"].nunique() if "source" in study.obs else 0


def _sources_text(study: Study, rows: NDArray[np.intp]) -> str:
    counts = study.obs["source"].iloc[rows].value_counts(sort=False)
    return ", ".join(f"{source} {n:,}" for source, n in counts.items() if n)


def _unseen(plan: Plan) -> str:
    """Say what the test rows are, in training."""
    kept = {held_out(repeat.split) for repeat in plan.repeats}
    if kept == {"both"}:
        said = "Unseen drugs in unseen cell lines"
    elif kept == {"drugs"}:
        return "Unseen drugs in cell lines that were trained on"
    elif kept == {"cell_lines"}:
        said = "Drugs that were trained on, in unseen cell lines"
    else:
        return "The repeats hold out different things"
    covered = any(covered_lines(plan.study, repeat.split) for repeat in plan.repeats)
    return said + (
        ", some of which training profiles of several lines cover" if covered else ""
    )


def report_notes(
    results: StudyResults, refused: Mapping[str, str], *, reference: bool
) -> list[str]:
    """Return what a reader should know before the numbers.

    `refused` says of each task why its result could not be kept.
    """
    notes = [*_candidate_notes(results), *_failure_notes(results)]
    if refused:
        why = next(iter(refused.values()))
        notes.append(f"Not kept in cache_folder: {', '.join(refused)}. {why}")
    notes += [*_source_notes(results.plan), *_control_notes(results)]
    notes += [*_selection_notes(results), *_data_notes(results)]
    if reference:
        notes.append(
            "Rows marked (paper) are printed from Finlayson et al. 2020: other data, "
            "437 candidates, no intervals. They are not comparable with ours."
        )
    return notes + (results.explained.notes if results.explained else [])


def _candidate_notes(results: StudyResults) -> Iterator[str]:
    """Say what is ranked, and whether that is enough to judge by."""
    table, score = results.candidate_table(), results.scores[0]
    chance = table[f"chance_{score.name}"]
    pooled = table["candidates"].nunique() > 1
    yield (
        f"{_unseen(results.plan)}. Ranked in each repeat: "
        f"{_span(table['test_profiles'], 'test profile')} among "
        f"{_span(table['candidates'], 'candidate')} (test drugs), in "
        f"{_span(table['test_cell_lines'], 'cell line')}; chance {score.label} "
        f"{_chance_span(chance)}."
        + (" Repeats are pooled, profile by profile." if pooled else "")
    )
    one = table.index[table["candidates"] < FEWEST_CANDIDATES].tolist()
    if one:
        yield (
            f"Undefined in repeat {', '.join(map(str, one))}: its test rows are of one "
            "drug, which any method ranks first. It counts in no score."
        )
    if results.too_few:
        yield (
            f"Not judged: {results.too_few}. No claim holds or fails by these numbers, "
            "and no method is best. `split` may hold out more drugs and cell lines, "
            "where the study has them."
        )
    if not results.resamples:
        yield (
            "No intervals and no p-values: the test profiles are of "
            f"{counted(results.scored['drug'].nunique(), 'drug')}, too few to resample."
        )
    n_drugs = min(results.plan.n_train_drugs)
    if n_drugs < FewDrugsWarning.fewest:
        yield str(FewDrugsWarning(n_drugs))
    sizes = results.scored["n_candidates"]
    for score in results.scores if len(sizes) else ():
        if chance_scores(sizes, scores=[score])[score.name] == score(np.ones(1)):
            yield (
                f"{score.label} says nothing: among at most {sizes.max()} candidates "
                "it is the same for any ranking."
            )
    lines = table.index[table["test_cell_lines"] < 2].tolist()
    if lines:
        yield (
            f"Repeat {', '.join(map(str, lines))} is tested in one cell line: another "
            "line may score otherwise, which no interval here shows."
        )


def _span(values: pd.Series, what: str) -> str:
    """Write the smallest and the largest count of something."""
    low, high = int(values.min()), int(values.max())
    return (f"{low:,} to " if low < high else "") + counted(high, what)


def _chance_span(values: pd.Series) -> str:
    known = values.dropna()
    ends = dict.fromkeys(f"{end:.3f}" for end in (known.min(), known.max()))
    return " to ".join(ends) if len(known) else "undefined"


def _failure_notes(results: StudyResults) -> Iterator[str]:
    labels = results.labels
    if results.errors:
        each = "; ".join(f"{labels[n]} ({text})" for n, text in results.errors.items())
        n, of = counted(len(results.errors), "method"), len(results.methods)
        yield f"{n} failed, of {of}, without a score: {each}"
    names = [labels[name] for name in results.undefined if name in labels]
    if names and len(results.scored):
        why = next(why for n, why in results.undefined.items() if n in labels)
        yield f"Undefined: {', '.join(names)}: {why}."


def _source_notes(plan: Plan) -> Iterator[str]:
    """Say what other sources gave away of the test lines, and how rows weigh."""
    for i, repeat in enumerate(plan.repeats):
        lines = covered_lines(plan.study, repeat.split)
        if lines:
            yield (
                f"Repeat {i}: {first_few(lines, write=str)} are unseen for the test "
                "molecules alone. Training profiles of several lines cover them, of "
                "other molecules."
            )
    weighed: dict[str, list[str]] = {}
    for name, method in plan.methods.items():
        if method.sample_weight is not None:
            said = _weights_text(np.asarray(method.sample_weight), plan.repeats)
            weighed.setdefault(said, []).append(plan.labels[name])
    for said, labels in weighed.items():
        all_of_them = len(labels) == len(plan.methods)
        whose = "all methods" if all_of_them else first_few(labels, write=str, n=5)
        yield f"Training rows of {whose} are weighted, {said}"


def _weights_text(weights: NDArray, repeats: Sequence[Repeat]) -> str:
    rows = np.concatenate([repeat.split.train for repeat in repeats])
    used = weights[rows][weights[rows] > 0]
    low, high = (used.min(), used.max()) if len(used) else (0, 0)
    n_out = len(rows) - len(used)
    left = f"; {n_out:,} of {len(rows):,}, of weight 0, are left out" if n_out else ""
    return f"{low:g} to {high:g}{left}. Test rows all count the same."


def _control_notes(results: StudyResults) -> Iterator[str]:
    """Say what controls score, and which are above chance."""
    score, sizes = results.scores[0], results.scored["n_candidates"]
    sign = 1 if score.greater_is_better else -1
    said, above = [], []
    known = results.finished.keys() - results.undefined.keys()
    for name, method in results.methods.items():
        if not method.control or name not in known:
            continue
        row = results.intervals(name).loc[score.name]
        ends = row["low"], row["high"]
        interval = " [{:.3f}, {:.3f}]".format(*ends) if results.resamples else ""
        said.append(f"{results.labels[name]} {row['score']:.3f}{interval}")
        chance = chance_scores(sizes, scores=[score])[score.name]
        if min(sign * end for end in ends) > sign * chance:
            above.append(results.labels[name])
    if said:
        yield f"Controls, which know nothing of a drug's effect: {'; '.join(said)}."
    if above:
        yield (
            f"Above chance: {', '.join(above)}. So much of the other scores is owed to "
            "which molecules were tested in which lines, or to a leak, and not to what "
            "a drug does."
        )
    if not any(method.control for method in results.methods.values()):
        yield (
            "No control stands beside the methods: controls=True adds molecules in "
            "random order and means of cell lines."
        )


def _selection_notes(results: StudyResults) -> Iterator[str]:
    """Say what was selected, by how much."""
    plan = results.plan
    if not plan.validated:
        yield (
            "There are no validation rows, of two drugs or more, in every repeat: "
            "embedders trained for a fixed number of epochs, of a list of estimators "
            "the first was taken"
            + (", and no baseline was chosen." if results.baseline is None else ".")
        )
        return
    sizes = plan.candidates("val")
    if min(sizes) < MIN_CANDIDATES["val"]:
        yield (
            "Selection is noise: the validation rows rank "
            f"{_span(pd.Series(sizes), 'drug')} (at least {MIN_CANDIDATES['val']} are "
            "needed). Which epoch, which "
            "of a list of estimators, and which baseline is best there, is mostly "
            "chance."
        )


def _data_notes(results: StudyResults) -> Iterator[str]:
    """Say what is odd about the data: oracles that know little, copied profiles."""
    plan = results.plan
    seen = {"oracle_train_lines": "training", "oracle_test_lines": "test"}
    asked = {method.train for method in plan.methods.values()}
    for train in sorted(asked & seen.keys(), reverse=True):
        share = results.known_share(train)
        others = "; it ranks the others last" if share < 1 else ""
        yield (
            "An oracle knows another profile of the query's drug in the "
            f"{seen[train]} lines for {share:.0%} of the queries{others}."
        )
    copies = [
        len(test) - len(distinct_rows(plan.data.y[test])[0])
        for test in (repeat.split.test for repeat in plan.repeats)
    ]
    if any(copies):
        n = sum(len(repeat.split.test) for repeat in plan.repeats)
        yield (
            f"{sum(copies)} of {n} test profiles are copies of another one in the same "
            "repeat, equal in every gene: they count twice, and an oracle in the test "
            "lines that leaves the query out still finds it."
        )


def describe_study(study: Study) -> dict[str, str]:
    """Return what the data are, in numbers."""
    drugs, lines = (len(pd.unique(column)) for column in study.groups.T)
    n_controls = 0 if study.control_ge is None else len(study.control_ge)
    level = "unknown" if study.level is None else f"Level {study.level}"
    description = {
        "Profiles": f"{len(study):,}",
        "Drugs": f"{drugs:,}",
        "Cell lines": f"{lines:,}",
        "Genes": f"{len(study.genes):,}",
        "Level": level,
        "Control wells": f"{n_controls:,}",
    }
    if _n_sources(study) > 1:
        description["Sources"] = _sources_text(study, np.arange(len(study)))
    for column, name, unit in (("dose_um", "Dose", "um"), ("time_h", "Time", "h")):
        if column in study.obs:
            values = study.obs[column].dropna()
            if len(values):
                low, high = values.min(), values.max()
                span = f"{low:g}" if low == high else f"{low:g} to {high:g}"
                description[name] = f"{span} {unit}"
    if "moa" in study.obs:
        known = study.obs["moa"].astype(object).fillna("").astype(str) != ""
        share = study.obs.loc[known, "drug"].nunique() / drugs
        description["Drugs with a mechanism"] = f"{share:.0%}"
    return description


def versions() -> dict[str, str]:
    """Return the versions of the software."""
    own = {
        "sklearn_molge": sklearn_molge.__version__,
        "Python": platform.python_version(),
    }
    return own | {name: importlib.metadata.version(name) for name in _PACKAGES}
