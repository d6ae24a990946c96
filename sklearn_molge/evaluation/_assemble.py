"""From outcomes to the report: tables, figures, notes, in order."""

import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

import sklearn_molge
from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._audit import audit_split
from sklearn_molge.evaluation._claims import claim_tables
from sklearn_molge.evaluation._explain import Explanation
from sklearn_molge.evaluation._figures import curve_figures
from sklearn_molge.evaluation._finlayson2020 import reference_table
from sklearn_molge.evaluation._methods import Method
from sklearn_molge.evaluation._report import ReportFigure, StudyReport
from sklearn_molge.evaluation._tables import score_tables
from sklearn_molge.evaluation._tasks import Outcome, Repeat
from sklearn_molge.model_selection._holdout import DrugCellLineSplit

__all__ = ["Audits", "Evaluation", "assemble", "audit_repeats"]

_SEED = 0  # of the intervals: the same ranks give the same report
_PACKAGES = (
    "numpy scipy scikit-learn torch skorch chemprop rdkit pandas hyperopt joblib"
).split()
_CAPTIONS = {
    "table1": "Unseen drugs in unseen cell lines: how high each method ranks the true "
    "molecule. Mean reciprocal rank (MRR), median rank and hits at k, with 95 % "
    "intervals from resampling whole drugs; the difference in MRR to the baseline.",
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


@dataclass
class Audits:
    """What the parts of the repeats share: tables, and a note for each leak."""

    tables: dict[str, pd.DataFrame]
    leaks: list[str]


@dataclass
class Evaluation:
    """Everything that came of a study."""

    study: Study
    repeats: Sequence[Repeat]
    methods: dict[str, Method]
    fitted: dict[tuple[int, str], Outcome]
    outcomes: dict[tuple[int, str], Outcome]
    ranks: pd.DataFrame
    baseline: str | None
    explained: Explanation | None
    reference: str | None
    seconds: dict[str, float]
    figures: bool
    audits: Audits


def assemble(
    evaluation: Evaluation, settings: dict[str, str], command: str
) -> StudyReport:
    """Build the report."""
    e = evaluation
    tables = score_tables(
        e.methods, e.outcomes, e.ranks, e.baseline, random_state=_SEED
    )
    if e.reference is not None:
        tables |= _with_reference(tables)
    regressions = e.explained.tables.get("regressions") if e.explained else None
    more = claim_tables(e.ranks, regressions, random_state=_SEED) | {
        "embedders": _embedder_table(e.fitted),
        "splits": _split_table(e.study, e.repeats),
    }
    more |= e.audits.tables
    if e.explained:
        more |= e.explained.tables
    tables |= {name: table for name, table in more.items() if len(table)}
    figures = {}
    if e.figures:
        figures = curve_figures(e.methods, e.ranks, random_state=_SEED)
    if e.explained:
        figures |= e.explained.figures
    settings = settings | {"baseline": e.baseline or "none"}
    return StudyReport(
        title="Which molecule causes this profile?",
        tables=tables,
        captions={name: _CAPTIONS.get(name, "") for name in tables},
        figures=figures,
        sections=_sections(tables, figures),
        description=_description(e.study),
        settings=settings,
        versions=_versions(),
        seconds=e.seconds,
        command=command,
        notes=e.audits.leaks + _notes(e),
        ranks=e.ranks,
    )


def _with_reference(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Append the paper's numbers to the tables that the paper has."""
    joined: dict[str, pd.DataFrame] = {}
    for name in ("table1", "table2"):
        if name in tables:
            paper = reference_table(name).rename(columns={"method": "compared_by"})
            paper = paper.rename(index="{} (paper)".format)
            shared = paper.reindex(columns=tables[name].columns)
            shared["error"] = ""
            both = pd.concat([tables[name].astype(object), shared.astype(object)])
            joined[name] = both.infer_objects().rename_axis("method")
    return joined


def _embedder_table(fitted: dict[tuple[int, str], Outcome]) -> pd.DataFrame:
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


def _held_out(split: DrugCellLineSplit) -> str:
    """Return what a split keeps apart, by the labels that it gives to its parts."""
    if np.array_equal(split.cell_lines["train"], split.cell_lines["test"]):
        return "drugs"
    if np.array_equal(split.drugs["train"], split.drugs["test"]):
        return "cell_lines"
    return "both"


def audit_repeats(study: Study, repeats: Sequence[Repeat]) -> Audits:
    """Audit each repeat; return what was shared most, and the nearest molecules."""
    audits = [audit_split(study, r.split, hold_out=_held_out(r.split)) for r in repeats]
    everything = pd.concat([audit.table for audit in audits], ignore_index=True)
    keys = ["check", "parts"]
    worst = everything.sort_values("share", ascending=False, kind="stable")
    worst = worst.drop_duplicates(keys).set_index(keys)
    # Not every repeat has validation rows.
    order = everything[keys].drop_duplicates().itertuples(index=False, name=None)
    table = worst.loc[list(order)].reset_index("parts")
    # Leaks first, then what is shared and there to be judged.
    harmless = np.array([ok is not False for ok in table["ok"]])
    nothing = ~(table["n_shared"].fillna(0).to_numpy(dtype=float) > 0)
    table = table.iloc[np.lexsort((nothing, harmless))]
    table = table.rename(columns={"n_a": "in_the_first", "n_b": "in_the_second"})
    near = pd.concat(
        [audit.neighbours.assign(repeat=i) for i, audit in enumerate(audits)]
    )
    molecules = near.sort_values("similarity", ascending=False).set_index("drug")
    similar = near.groupby("repeat").agg(
        test_drugs=("drug", "size"),
        median_similarity=("similarity", "median"),
        largest_similarity=("similarity", "max"),
        above_0_7=("similarity", lambda s: int((s > 0.7).sum())),
        same_fingerprint=("same_fingerprint", "sum"),
        same_fingerprint_512=("same_fingerprint_512", "sum"),
    )
    notes = [
        f"Leak in repeat {i}: {text}"
        for i, audit in enumerate(audits)
        for text in audit.violations
    ]
    tables = {"audit": table, "similarity": similar, "test_molecules": molecules}
    return Audits(tables, notes)


def _notes(e: Evaluation) -> list[str]:
    notes = []
    failed = [n for n in e.methods if e.ranks[n].isna().any()]
    if failed:
        notes.append(
            f"{len(failed)} methods failed; their errors are in their rows: "
            + "; ".join(failed)
        )
    if not all(len(repeat.split.val) for repeat in e.repeats):
        notes.append(
            "There are no validation rows: embedders trained for a fixed number of "
            "epochs, of a list of estimators the first was taken"
            + (", and no baseline was chosen." if e.baseline is None else ".")
        )
    for lines in ("training", "test") if _has_oracles(e.methods) else ():
        share = np.mean([_known(e.study, repeat, lines) for repeat in e.repeats])
        notes.append(
            f"An oracle knows another profile of the query's drug in the {lines} lines "
            f"for {share:.0%} of the queries; it ranks the others last."
        )
    if e.reference is not None:
        notes.append(
            "Rows marked (paper) are printed from Finlayson et al. 2020: other data, "
            "437 candidates, no intervals. They are not comparable with ours."
        )
    if e.explained:
        notes += e.explained.notes
    return notes


def _has_oracles(methods: dict[str, Method]) -> bool:
    return any(method.train != "train" for method in methods.values())


def _known(study: Study, repeat: Repeat, lines: str) -> float:
    drugs = study.groups[:, 0]
    test = pd.Series(drugs[repeat.split.test])
    if lines == "test":
        return float(test.duplicated(keep=False).mean())
    return float(test.isin(drugs[repeat.split.oracle_train_lines]).mean())


def _description(study: Study) -> dict[str, str]:
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


def _versions() -> dict[str, str]:
    versions = {
        "sklearn_molge": sklearn_molge.__version__,
        "Python": platform.python_version(),
    }
    return versions | {name: importlib.metadata.version(name) for name in _PACKAGES}


def _sections(
    tables: dict[str, pd.DataFrame], figures: dict[str, ReportFigure]
) -> dict[str, list[str]]:
    wanted = {
        "How good is each method?": ["table1", "recall_*", "precision_recall"],
        "How far from the ceiling?": ["table2"],
        "Which of the paper's claims hold here?": ["claims", "claims_slopes"],
        "What matters in training?": ["ablations", "embedders"],
        "Why does it work, and where does it fail?": [
            "regressions", "distance_*", "specificity", "mechanisms", "mixing",
            "map_*", "attribution_*",
        ],
        "Is the comparison honest?": [
            "audit", "similarity", "splits", "test_molecules",
        ],
    }  # fmt: skip
    present = [*tables, *figures]
    sections = {}
    for title, patterns in wanted.items():
        own = [
            name
            for pattern in patterns
            for name in present
            if name == pattern or (pattern[-1] == "*" and name.startswith(pattern[:-1]))
        ]
        if own:
            sections[title] = own
    return sections
