"""The sections of a report: which tables and figures, in which order, with notes."""

import importlib.metadata
import platform
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

import sklearn_molge
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._explain import (
    attribution_best,
    distance_to_training,
    map_mechanisms,
    map_profiles,
    specificity,
)
from sklearn_molge.evaluation._plan import Repeat
from sklearn_molge.evaluation._results import SEED, StudyResults
from sklearn_molge.evaluation._run import Outcomes
from sklearn_molge.evaluation.paper._findings import (
    claim_tables,
    precision_recall,
    recall_at_k,
    with_reference,
)
from sklearn_molge.evaluation.report._sections import ReportFigure, ReportTable, Section

__all__ = ["DrawFigure", "describe_study", "make_sections", "report_notes", "versions"]

DrawFigure = Callable[[StudyResults], ReportFigure | None]

# The report: names of tables, and the functions that draw figures, which are called
# with the results and return None where there is nothing to draw. A figure's name is
# that of its function. To add one, write the function and name it here.
SECTIONS: dict[str, tuple[str | DrawFigure, ...]] = {
    "How good is each method?": ("table1", recall_at_k, precision_recall),
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
    "table1": "Unseen drugs in unseen cell lines: how high each method ranks the true "
    "molecule, with 95 % intervals from resampling whole drugs; the difference of the "
    "first score to that of the baseline.",
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
    notes: list[str] = []
    sections = []
    for title, parts in (SECTIONS | {_MORE: tuple(figures or ())}).items():
        items: dict[str, ReportTable | ReportFigure] = {}
        for part in parts:
            if isinstance(part, str):
                if len(tables.get(part, ())):
                    items[part] = ReportTable(tables[part], _CAPTIONS[part])
            elif figures is not None:
                drawn = _draw(part, results, notes)
                if drawn is not None:
                    items[part.__name__] = drawn
        if items:
            sections.append(Section(title, items))
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
    tables |= claim_tables(results.ranks, results.labels, slopes, random_state=SEED)
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
            drugs, lines = study.groups[getattr(repeat.split, part)].T
            rows.append(
                {
                    "repeat": i,
                    "part": part,
                    "profiles": len(drugs),
                    "drugs": len(np.unique(drugs)),
                    "cell_lines": len(np.unique(lines)),
                    "which_lines": ", ".join(map(str, np.unique(lines))),
                }
            )
    return pd.DataFrame(rows).set_index("repeat")


def report_notes(
    results: StudyResults, refused: Mapping[str, str], *, reference: bool
) -> list[str]:
    """Return what a reader should know before the numbers.

    `refused` says of each task why its result could not be kept.
    """
    plan = results.plan
    notes = []
    failed = [results.labels[n] for n in plan.methods if n not in results.finished]
    if failed:
        notes.append(
            f"{len(failed)} methods failed; their errors are in their rows: "
            + "; ".join(failed)
        )
    if refused:
        why = next(iter(refused.values()))
        notes.append(f"Not kept in cache_folder: {', '.join(refused)}. {why}")
    if not plan.validated:
        notes.append(
            "There are no validation rows: embedders trained for a fixed number of "
            "epochs, of a list of estimators the first was taken"
            + (", and no baseline was chosen." if results.baseline is None else ".")
        )
    has_oracles = any(method.train != "train" for method in plan.methods.values())
    for lines in ("training", "test") if has_oracles else ():
        share = np.mean([_known(plan.study, repeat, lines) for repeat in plan.repeats])
        notes.append(
            f"An oracle knows another profile of the query's drug in the {lines} lines "
            f"for {share:.0%} of the queries; it ranks the others last."
        )
    if reference:
        notes.append(
            "Rows marked (paper) are printed from Finlayson et al. 2020: other data, "
            "437 candidates, no intervals. They are not comparable with ours."
        )
    return notes + (results.explained.notes if results.explained else [])


def _known(study: Study, repeat: Repeat, lines: str) -> float:
    drugs = study.groups[:, 0]
    test = pd.Series(drugs[repeat.split.test])
    if lines == "test":
        return float(test.duplicated(keep=False).mean())
    return float(test.isin(drugs[repeat.split.oracle_train_lines]).mean())


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
