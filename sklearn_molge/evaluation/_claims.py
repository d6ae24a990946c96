"""Which of the paper's claims hold in a study: each a number with an interval."""

from typing import Any

import numpy as np
import pandas as pd

from sklearn_molge.metrics import paired_comparison

__all__ = ["claim_tables"]

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
_ALPHA = 0.05
_RESPONSES = {"drug": "-ln MRR of the drug", "profile": "ln rank of the profile"}


def claim_tables(
    ranks: pd.DataFrame, regressions: pd.DataFrame | None, *, random_state: int
) -> dict[str, pd.DataFrame]:
    """Return the claims about methods and about slopes, those that can be tested."""
    tables = {"claims": _contrasts(ranks, random_state)}
    if regressions is not None:
        tables["claims_slopes"] = _slopes(regressions)
    return {
        name: pd.DataFrame(rows).set_index("claim")
        for name, rows in tables.items()
        if rows
    }


def _contrasts(ranks: pd.DataFrame, random_state: int) -> list[dict[str, Any]]:
    rows = []
    for claim, better, worse in _CONTRASTS:
        if better not in ranks or worse not in ranks:
            continue
        if ranks[[better, worse]].isna().any(axis=None):
            continue
        c = paired_comparison(
            ranks[better], ranks[worse], ranks["drug"], random_state=random_state
        )
        rows.append(
            {
                "claim": claim,
                "holds": _verdict(c.low, c.high, c.p_value, 1),
                "gain": c.difference,
                "gain_low": c.low,
                "gain_high": c.high,
                "p_value": c.p_value,
                "measured": f"MRR of {better}, less that of {worse}",
            }
        )
    return rows


def _slopes(regressions: pd.DataFrame) -> list[dict[str, Any]]:
    rows = []
    for claim, name, sign in _SLOPES:
        if name not in regressions.index:
            continue
        r = regressions.loc[name]
        rows.append(
            {
                "claim": claim,
                "holds": _verdict(r["slope_low"], r["slope_high"], r["p_value"], sign),
                "slope": r["slope"],
                "slope_low": r["slope_low"],
                "slope_high": r["slope_high"],
                "p_value": r["p_value"],
                "measured": f"{_RESPONSES[str(r['per'])]} on {r['label']}",
            }
        )
    return rows


def _verdict(low: Any, high: Any, p_value: Any, sign: int) -> str:
    """Say whether interval and test agree that the value has this sign."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "cannot be said"
    if sign < 0:
        low, high = -high, -low
    if p_value >= _ALPHA or low <= 0 <= high:
        return "undecided"
    return "yes" if low > 0 else "no: the opposite"
