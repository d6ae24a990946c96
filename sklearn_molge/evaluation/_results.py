"""What came of a study: ranks, scores with intervals, comparisons with a baseline."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.base import BaseEstimator

from sklearn_molge.datasets import Study
from sklearn_molge.evaluation._divisions import (
    FEWEST_CANDIDATES,
    MIN_CANDIDATES,
    Repeat,
    n_distinct,
)
from sklearn_molge.evaluation._methods import FittedAlignment, Method
from sklearn_molge.evaluation._plan import (
    CHANCE,
    RANK_COLUMNS,
    Data,
    Plan,
)
from sklearn_molge.evaluation._run import Outcomes
from sklearn_molge.metrics import (
    Score,
    bootstrap_scores,
    chance_scores,
    paired_comparison,
)

__all__ = ["Explanation", "FittedRepeat", "StudyResults", "rank_table"]

SEED = 0  # of intervals and maps: the same ranks give the same report
_SOURCE = "this run"
_FEWEST_RESAMPLED = 5  # drugs: of fewer, an interval says nothing
_COMPARED = ("difference", "difference_low", "difference_high", "p_value")


@dataclass(frozen=True)
class FittedRepeat:
    """An embedder of one repeat, its test rows, and its ranks there."""

    number: int  # of the repeat
    repeat: Repeat
    alignment: FittedAlignment
    model: BaseEstimator  # of SMILES and profiles as the study has them
    ranks: NDArray

    @property
    def test(self) -> NDArray[np.intp]:
        return self.repeat.split.test


@dataclass
class Explanation:
    """What explains the scores of an embedder.

    Attributes
    ----------
    study : Study
    data : Data
    models : list of FittedRepeat
        The repeats in which it can be explained.
    molecules : transformer
        Of SMILES: a fixed representation, compared with the embedder's.
    regressions : dict of str to PerformanceRegression
        Performance against distance to training and breadth of the effect.
    labels : dict of str to str
        What each is against.
    tables : dict of str to DataFrame
    notes : list of str
    """

    study: Study
    data: Data
    models: list[FittedRepeat]
    molecules: BaseEstimator
    regressions: dict[str, Any] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def queries(self) -> tuple[NDArray, NDArray, NDArray]:
        """Return rank, drug and number of candidates of each query of all repeats."""
        drugs = [self.data.drugs[m.test] for m in self.models]
        sizes = [np.full(len(d), len(np.unique(d))) for d in drugs]
        ranks = [m.ranks for m in self.models]
        return np.concatenate(ranks), np.concatenate(drugs), np.concatenate(sizes)


@dataclass
class StudyResults:
    """All that came of a study: what a figure of the report is drawn from.

    Attributes
    ----------
    plan : Plan
        What was fitted, on what: repeats, methods, embedders.
    fitted, outcomes : dict of (int, str) to Outcome
        What came of each embedder and of each method, by repeat and name.
    study : Study
        The molecules and profiles.
    methods : dict of str to Method
        The rows of the tables.
    labels : dict of str to str
        What each method is called.
    scores : list of Score
        The first is the one that methods are compared by.
    ranks : DataFrame
        One row a query: "repeat", "row", "drug", "cell_line", "n_candidates", and a
        column for each method, under its name: the rank that it gave to the true
        molecule, NaN where it failed or where a repeat tests fewer than two drugs.
    baseline : str or None
        The method that all are compared with.
    explained : Explanation or None
        What explains the scores of the first embedder.

    Examples
    --------
    A figure of a report: `evaluate_study` gets it as ``figures=[ranks_by_line]``.

    >>> from matplotlib.figure import Figure
    >>> from sklearn_molge.evaluation import ReportFigure, StudyResults
    >>> def ranks_by_line(results: StudyResults) -> ReportFigure:
    ...     picture = Figure()
    ...     means = results.ranks.groupby("cell_line")["CCA"].mean()
    ...     picture.subplots().bar(means.index, means)
    ...     words = {"title": "Ranks by line", "caption": "Means.", "alt": "Bars."}
    ...     return ReportFigure.from_figure(picture, **words)
    """

    plan: Plan
    fitted: Outcomes
    outcomes: Outcomes
    ranks: pd.DataFrame
    scores: Sequence[Score]
    baseline: str | None
    explained: Explanation | None = None

    @property
    def study(self) -> Study:
        return self.plan.study

    @property
    def methods(self) -> dict[str, Method]:
        return self.plan.methods

    @property
    def labels(self) -> dict[str, str]:
        return self.plan.labels

    @property
    def errors(self) -> dict[str, str]:
        """What each failed method raised, and in how many repeats."""
        n_repeats = len(self.plan.repeats)
        found = {}
        for name in self.methods:
            own = [self.outcomes[i, name].error for i in range(n_repeats)]
            texts = "; ".join(dict.fromkeys(text for text in own if text))
            if texts:
                n = sum(map(bool, own))
                of = f" (in {n} of {n_repeats} repeats)" if n < n_repeats else ""
                found[name] = f"{texts}{of}"
        return found

    @property
    def finished(self) -> dict[str, Method]:
        """The methods that did not fail."""
        return {n: m for n, m in self.methods.items() if n not in self.errors}

    @property
    def scored(self) -> pd.DataFrame:
        """The queries that a score is defined for: of two candidates or more."""
        return self.ranks[self.ranks["n_candidates"] >= FEWEST_CANDIDATES]

    @property
    def undefined(self) -> dict[str, str]:
        """Why methods that did not fail have no score."""
        if not len(self.scored):
            why = "no repeat has test rows of two drugs: there is nothing to rank"
            return dict.fromkeys((CHANCE, *self.finished), why)
        why = "it knows no other profile of any query's drug, so that it cannot rank"
        return {
            name: why
            for name, method in self.finished.items()
            if method.train != "train" and not self.known_share(method.train)
            if all(
                method.candidates[0].get_params().get(key) is not False
                for key in ("leave_query_out", "retriever__leave_query_out")
            )
        }

    def known_share(self, train: str) -> float:
        """Return the share of the queries of whose drug an oracle knows a profile."""
        drugs = self.plan.data.drugs
        known = []
        for repeat in self.plan.repeats:
            test = pd.Series(drugs[repeat.split.test])
            if train == "oracle_test_lines":
                known.append(test.duplicated(keep=False))
            else:
                known.append(test.isin(drugs[repeat.rows(train)]))
        return float(pd.concat(known).mean())

    @property
    def too_few(self) -> str:
        """Why nothing is judged: too few candidates; empty where there are enough."""
        sizes, least = self.plan.candidates("test"), MIN_CANDIDATES["test"]
        if min(sizes) >= least:
            return ""
        span = " to ".join(map(str, sorted({min(sizes), max(sizes)})))
        return f"too few candidates, {span} test drugs (at least {least} are needed)"

    @property
    def resamples(self) -> bool:
        """Whether there are drugs enough to resample."""
        return n_distinct(self.scored["drug"].to_numpy()) >= _FEWEST_RESAMPLED

    def candidate_table(self) -> pd.DataFrame:
        """Return what each repeat ranks, with chance of the first score."""
        rows = []
        counts = (self.plan.candidates(part) for part in ("test", "val"))
        for i, (test, val) in enumerate(zip(*counts, strict=True)):
            split = self.plan.repeats[i].split
            row: dict[str, Any] = {"repeat": i, "test_profiles": len(split.test)}
            row["candidates"] = test
            row["test_cell_lines"] = n_distinct(self.plan.data.groups[split.test, 1])
            first = self.scores[0]
            chance = chance_scores([test], scores=[first])[first.name]
            defined = test >= FEWEST_CANDIDATES
            row[f"chance_{first.name}"] = chance if defined else np.nan
            rows.append(row | {"validation_candidates": val})
        return pd.DataFrame(rows).set_index("repeat")

    def score_tables(self) -> dict[str, pd.DataFrame]:
        """Return the tables that have a row, each with chance as its first."""
        rows = {name: self._row(name) for name in self.methods}
        chance = self._chance_row()
        tables: dict[str, pd.DataFrame] = {}
        for table in ("table1", "table2", "ablations"):
            there = {n: m for n, m in self.methods.items() if table in m.tables}
            if not there or (tables and all(m.control for m in there.values())):
                continue  # nothing, or controls of nothing
            own = {name: rows[name] for name in there}
            frame = pd.DataFrame({CHANCE: chance} | own).T
            frame = frame.infer_objects().rename_axis("method")
            if table == "table2":
                frame = frame.drop(columns="valid_mrr")
            tables[table] = frame
        return tables

    def _row(self, name: str) -> dict[str, object]:
        method = self.methods[name]
        own = [outcome for (_, n), outcome in self.outcomes.items() if n == name]
        error, why = self.errors.get(name, ""), self.undefined.get(name, "")
        row: dict[str, object] = {
            "label": self.labels[name],
            "expression": method.expression,
            "molecules": method.molecules,
            "compared_by": method.method,
        }
        row |= self._score_columns(None if error or why else self.intervals(name))
        row |= self._difference(name)
        row["valid_mrr"] = np.mean([outcome.valid_mrr for outcome in own])
        row["seconds"] = sum(outcome.seconds for outcome in own)
        row |= {"error": error, "undefined": why}
        row["source"], row["control"] = _SOURCE, method.control
        n = len(method.candidates)
        chosen = ", ".join(f"{o.chosen + 1} of {n}" for o in own) if n > 1 else ""
        return row | {"chosen": chosen}

    def intervals(self, name: str) -> pd.DataFrame:
        """Return score, low and high of each score of a method that has ranks."""
        ranks, drugs = self.scored[name], self.scored["drug"]
        table = bootstrap_scores(ranks, drugs, scores=self.scores, random_state=SEED)
        return table if self.resamples else table.assign(low=np.nan, high=np.nan)

    def _score_columns(self, table: pd.DataFrame | None) -> dict[str, float]:
        ends = {"": "score", "_low": "low", "_high": "high"}
        return {
            f"{score.name}{suffix}": np.nan
            if table is None
            else float(table[column][score.name])
            for score in self.scores
            for suffix, column in ends.items()
        }

    def _difference(self, name: str) -> dict[str, float]:
        baseline = self.baseline
        unknown = dict.fromkeys(_COMPARED, np.nan)
        if baseline is None or baseline == name:
            return unknown
        if not {name, baseline} <= self.finished.keys() - self.undefined.keys():
            return unknown
        three = (self.scored[column] for column in (name, baseline, "drug"))
        c = paired_comparison(*three, scoring=self.scores[0], random_state=SEED)
        values = (c.difference, c.low, c.high, c.p_value)
        if not self.resamples:
            values = (c.difference, np.nan, np.nan, np.nan)
        return dict(zip(_COMPARED, values, strict=True))

    def _chance_row(self) -> dict[str, object]:
        sizes, why = self.scored["n_candidates"], self.undefined.get(CHANCE, "")
        row: dict[str, object] = {"label": CHANCE, "expression": "", "molecules": ""}
        row["compared_by"] = CHANCE
        row |= self._score_columns(None)
        row |= {} if why else chance_scores(sizes, scores=self.scores)
        row |= dict.fromkeys((*_COMPARED, "valid_mrr"), np.nan)
        row |= {"seconds": 0.0, "error": "", "undefined": why}
        return row | {"source": _SOURCE, "control": "", "chosen": ""}


def rank_table(plan: Plan, outcomes: Outcomes) -> pd.DataFrame:
    """Return one row a query: repeat, row, drug, candidates, and each method's rank."""
    parts = []
    for i, repeat in enumerate(plan.repeats):
        test = repeat.split.test
        drugs, lines = plan.data.groups[test].T
        known = (i, test, drugs, lines, len(np.unique(drugs)))
        columns = dict(zip(RANK_COLUMNS, known, strict=True))
        for name in plan.methods:
            ranks = outcomes[i, name].ranks
            columns[name] = np.full(len(test), np.nan) if ranks is None else ranks
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def choose_baseline(plan: Plan, outcomes: Outcomes) -> str | None:
    """Return the classical method with the best validation score over all repeats."""
    scores = {}
    for name, method in plan.methods.items():
        own = [outcomes[i, name] for i in range(len(plan.repeats))]
        if method.is_classical and not any(outcome.error for outcome in own):
            scores[name] = np.mean([outcome.valid_mrr for outcome in own])
    known = {name: score for name, score in scores.items() if np.isfinite(score)}
    return max(known, key=known.__getitem__) if known else None
