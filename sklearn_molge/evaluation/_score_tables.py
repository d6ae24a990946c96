"""Tables of a study: scores with intervals, comparisons, the paper's claims."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from sklearn_molge.evaluation._methods import Method
from sklearn_molge.evaluation._tasks import Outcome, Repeat
from sklearn_molge.metrics import bootstrap_scores, chance_scores, paired_comparison

__all__ = ["choose_baseline", "rank_table", "score_tables"]

KEYS = ("mrr", "median_rank", "hits@1", "hits@10", "hits@100")
HITS = (1, 10, 100)
SOURCE = "this run"
CHANCE = "chance"
RANK_COLUMNS = ("repeat", "row", "drug", "cell_line", "n_candidates")
Outcomes = dict[tuple[int, str], Outcome]


def rank_table(
    outcomes: Outcomes, methods: Sequence[str], repeats: Sequence[Repeat], groups: Any
) -> pd.DataFrame:
    """Return one row a query: repeat, row, drug, candidates, and each method's rank."""
    parts = []
    for i, repeat in enumerate(repeats):
        test = repeat.split.test
        drugs, lines = groups[test].T
        known = (i, test, drugs, lines, len(np.unique(drugs)))
        columns = dict(zip(RANK_COLUMNS, known, strict=True))
        for name in methods:
            ranks = outcomes[i, name].ranks
            columns[name] = np.full(len(test), np.nan) if ranks is None else ranks
        parts.append(pd.DataFrame(columns))
    return pd.concat(parts, ignore_index=True)


def choose_baseline(
    methods: dict[str, Method], outcomes: Outcomes, n_repeats: int
) -> str | None:
    """Return the classical method with the best validation score over all repeats."""
    scores = {
        name: np.mean([outcomes[i, name].valid_mrr for i in range(n_repeats)])
        for name, method in methods.items()
        if method.is_classical
        and not any(outcomes[i, name].error for i in range(n_repeats))
    }
    known = {name: score for name, score in scores.items() if np.isfinite(score)}
    return max(known, key=known.__getitem__) if known else None


def score_tables(
    methods: dict[str, Method],
    outcomes: Outcomes,
    ranks: pd.DataFrame,
    baseline: str | None,
    *,
    random_state: int,
) -> dict[str, pd.DataFrame]:
    """Return the tables that have a row, each with chance as its first."""
    used = dict.fromkeys(t for method in methods.values() for t in method.tables)
    rows = {
        name: _row(name, method, outcomes, ranks, baseline, random_state)
        for name, method in methods.items()
    }
    chance = _chance_row(ranks["n_candidates"])
    tables = {}
    for table in sorted(used, key=("table1", "table2", "ablations").index):
        own = {n: rows[n] for n, method in methods.items() if table in method.tables}
        frame = pd.DataFrame({CHANCE: chance} | own).T
        frame = frame.infer_objects().rename_axis("method")
        if table == "table2":
            frame = frame.drop(columns="valid_mrr")
        tables[table] = frame
    return tables


def _row(
    name: str, method: Method, outcomes: Outcomes, ranks: pd.DataFrame,
    baseline: str | None, random_state: int,
) -> dict[str, Any]:  # fmt: skip
    own = [outcome for (_, n), outcome in outcomes.items() if n == name]
    errors = list(dict.fromkeys(outcome.error for outcome in own if outcome.error))
    row: dict[str, Any] = {
        "expression": method.expression,
        "molecules": method.molecules,
        "compared_by": method.method,
    }
    values = ranks[name].to_numpy()
    if errors:
        row |= _scores(None)
    else:
        table = bootstrap_scores(
            values, ranks["drug"], k=HITS, random_state=random_state
        )
        row |= _scores(table)
    row |= _difference(values, name, baseline, ranks, errors, random_state)
    row["valid_mrr"] = np.mean([outcome.valid_mrr for outcome in own])
    row["seconds"] = sum(outcome.seconds for outcome in own)
    row["error"] = "; ".join(errors)
    row["source"] = SOURCE
    n = len(method.candidates)
    row["chosen"] = ", ".join(f"{o.chosen + 1} of {n}" for o in own) if n > 1 else ""
    return row


def _scores(table: pd.DataFrame | None) -> dict[str, float]:
    columns = {}
    for key in KEYS:
        for column, suffix in (("score", ""), ("low", "_low"), ("high", "_high")):
            value = np.nan if table is None else float(table.loc[key, column])  # type: ignore[arg-type]
            columns[f"{key}{suffix}"] = value
    return columns


def _difference(
    values: Any, name: str, baseline: str | None, ranks: pd.DataFrame,
    errors: list[str], random_state: int,
) -> dict[str, float]:  # fmt: skip
    keys = ("difference", "difference_low", "difference_high", "p_value")
    if errors or baseline in (None, name) or ranks[baseline].isna().any():
        return dict.fromkeys(keys, np.nan)
    c = paired_comparison(
        values, ranks[baseline], ranks["drug"], random_state=random_state
    )
    return dict(zip(keys, (c.difference, c.low, c.high, c.p_value), strict=True))


def _chance_row(n_candidates: pd.Series) -> dict[str, Any]:
    scores = chance_scores(n_candidates, k=HITS)
    row: dict[str, Any] = {"expression": "", "molecules": "", "compared_by": CHANCE}
    row |= _scores(None) | {key: scores[key] for key in KEYS}
    keys = ("difference", "difference_low", "difference_high", "p_value", "valid_mrr")
    row |= dict.fromkeys(keys, np.nan)
    return row | {"seconds": 0.0, "error": "", "source": SOURCE, "chosen": ""}
