"""Which of the paper's claims hold in a study: each a number with an interval."""

from typing import Any

import numpy as np
import pandas as pd

from sklearn_molge.metrics import paired_comparison

__all__ = ["claim_table"]

# Claim, the row that should be better, the row that should be worse.
_CONTRASTS = [
    ("aligned profiles beat raw ones", "CCA, aligned / aligned", "CCA, raw / aligned"),
    ("aligned profiles beat raw ones", "CCA, aligned / Morgan", "CCA, raw / Morgan"),
    (
        "aligned profiles beat raw ones",
        "D-NN, aligned / aligned",
        "D-NN, raw / aligned",
    ),
    ("aligned profiles beat raw ones", "D-NN, aligned / Morgan", "D-NN, raw / Morgan"),
    (
        "aligned molecules beat Morgan bits",
        "CCA, aligned / aligned",
        "CCA, aligned / Morgan",
    ),
    ("aligned molecules beat Morgan bits", "CCA, raw / aligned", "CCA, raw / Morgan"),
    (
        "aligned molecules beat Morgan bits",
        "D-NN, aligned / aligned",
        "D-NN, aligned / Morgan",
    ),
    ("aligned molecules beat Morgan bits", "D-NN, raw / aligned", "D-NN, raw / Morgan"),
    ("CCA beats D-NN", "CCA, raw / Morgan", "D-NN, raw / Morgan"),
    ("CCA beats D-NN", "CCA, raw / Chemprop", "D-NN, raw / Chemprop"),
    ("CCA beats D-NN", "CCA, aligned / aligned", "D-NN, aligned / aligned"),
    ("the embedder beats CCA of raw views", "Corr, aligned / aligned",
     "CCA, raw / Morgan"),
    ("CCA on top helps", "CCA, aligned / aligned", "Corr, aligned / aligned"),
    (
        "embedding lifts the oracles",
        "oracle, train lines, aligned, correlation",
        "oracle, train lines, raw, correlation",
    ),
    (
        "embedding lifts the oracles",
        "oracle, test lines, aligned, correlation",
        "oracle, test lines, raw, correlation",
    ),
    (
        "embedding lifts the oracles",
        "oracle, test lines, aligned, euclidean",
        "oracle, test lines, raw, euclidean",
    ),
]  # fmt: skip

# Claim, row of the regressions, the sign of its slope that the claim asks for.
_SLOPES = [
    ("distance to training hurts", "fingerprint", 1),
    ("distance to training hurts", "molecule_features", 1),
    ("distance to training hurts", "aligned_molecule", 1),
    ("distance to training hurts", "raw_expression", 1),
    ("distance to training hurts", "aligned_expression", 1),
    ("broad effects are easier", "n_genes", -1),
]


def claim_table(
    ranks: pd.DataFrame, regressions: pd.DataFrame | None, *, random_state: int
) -> pd.DataFrame:
    """Return one row a contrast: the number, its interval and what it says."""
    rows = []
    for claim, better, worse in _CONTRASTS:
        if better not in ranks or worse not in ranks:
            continue
        if ranks[[better, worse]].isna().any(axis=None):
            continue
        c = paired_comparison(
            ranks[better], ranks[worse], ranks["drug"], random_state=random_state
        )
        numbers = {"value": c.difference, "value_low": c.low, "value_high": c.high}
        rows.append(
            {"claim": claim, "measured": f"MRR of {better}, less that of {worse}"}
            | numbers
            | {"p_value": c.p_value, "holds": _verdict(c.low, c.high, 1)}
        )
    for claim, name, sign in _SLOPES:
        if regressions is None or name not in regressions.index:
            continue
        r = regressions.loc[name]
        rows.append(
            {
                "claim": claim,
                "measured": f"slope of {r['response']} on {r['label']}",
                "value": r["slope"],
                "value_low": r["slope_low"],
                "value_high": r["slope_high"],
                "p_value": r["p_value"],
                "holds": _verdict(r["slope_low"], r["slope_high"], sign),
            }
        )
    table = pd.DataFrame(rows)
    return table.rename_axis("contrast")


def _verdict(low: Any, high: Any, sign: int) -> str:
    if not (np.isfinite(low) and np.isfinite(high)):
        return "cannot be said"
    if sign < 0:
        low, high = -high, -low
    if low > 0:
        return "yes"
    return "no: the opposite" if high < 0 else "undecided"
