"""Which of the paper's claims hold in a study: each a number with an interval."""

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from sklearn_molge.metrics import paired_comparison

__all__ = ["claim_tables"]

# Of each claim: the row that should be better, and the row that should be worse.
_CONTRASTS = {
    "aligned profiles beat raw ones": [
        ("cca_aligned_aligned", "cca_raw_aligned"),
        ("cca_aligned_morgan", "cca_raw_morgan"),
        ("dnn_aligned_aligned", "dnn_raw_aligned"),
        ("dnn_aligned_morgan", "dnn_raw_morgan"),
    ],
    "aligned molecules beat Morgan bits": [
        ("cca_aligned_aligned", "cca_aligned_morgan"),
        ("cca_raw_aligned", "cca_raw_morgan"),
        ("dnn_aligned_aligned", "dnn_aligned_morgan"),
        ("dnn_raw_aligned", "dnn_raw_morgan"),
    ],
    "CCA beats D-NN": [
        ("cca_raw_morgan", "dnn_raw_morgan"),
        ("cca_raw_chemprop", "dnn_raw_chemprop"),
        ("cca_aligned_aligned", "dnn_aligned_aligned"),
    ],
    "the embedder beats CCA of raw views": [("corr_aligned_aligned", "cca_raw_morgan")],
    "CCA on top helps": [("cca_aligned_aligned", "corr_aligned_aligned")],
    "embedding lifts the oracles": [
        (
            "oracle_train_lines_aligned_correlation",
            "oracle_train_lines_raw_correlation",
        ),
        ("oracle_test_lines_aligned_correlation", "oracle_test_lines_raw_correlation"),
        ("oracle_test_lines_aligned_euclidean", "oracle_test_lines_raw_euclidean"),
    ],
}

# Of each claim: rows of the regressions, and the sign that their slopes should have.
_SLOPES = {
    "distance to training hurts": (
        [
            "fingerprint",
            "molecule_features",
            "aligned_molecule",
            "raw_expression",
            "aligned_expression",
        ],
        1,
    ),
    "broad effects are easier": (["n_genes"], -1),
}
_ALPHA = 0.05
_RESPONSES = {"drug": "-ln MRR of the drug", "profile": "ln rank of the profile"}


def claim_tables(
    ranks: pd.DataFrame,
    labels: Mapping[str, str],
    regressions: pd.DataFrame | None = None,
    *,
    random_state: int = 0,
) -> dict[str, pd.DataFrame]:
    """Return the claims about methods and about slopes, those that can be tested.

    Parameters
    ----------
    ranks : DataFrame
        One row a query, with its drug and the rank that each method gave it.
    labels : mapping of str to str
        What each method is called.
    regressions : DataFrame or None, default=None
        Slopes of the embedder's performance.
    random_state : int, default=0
        Draws the intervals.

    Returns
    -------
    tables : dict of str to DataFrame
        "claims" and "claims_slopes", where there are any.
    """
    tables = {"claims": list(_contrasts(ranks, labels, random_state))}
    if regressions is not None:
        tables["claims_slopes"] = list(_slopes(regressions))
    return {
        name: pd.DataFrame(rows).set_index("claim")
        for name, rows in tables.items()
        if rows
    }


def _contrasts(
    ranks: pd.DataFrame, labels: Mapping[str, str], random_state: int
) -> Iterator[dict[str, object]]:
    for claim, pairs in _CONTRASTS.items():
        for better, worse in pairs:
            if better not in ranks or worse not in ranks:
                continue
            if ranks[[better, worse]].isna().any(axis=None):
                continue
            c = paired_comparison(
                ranks[better], ranks[worse], ranks["drug"], random_state=random_state
            )
            yield {
                "claim": claim,
                "holds": _verdict(c.low, c.high, c.p_value, 1),
                "gain": c.difference,
                "gain_low": c.low,
                "gain_high": c.high,
                "p_value": c.p_value,
                "measured": f"MRR of {labels[better]}, less that of {labels[worse]}",
            }


def _slopes(regressions: pd.DataFrame) -> Iterator[dict[str, object]]:
    for claim, (names, sign) in _SLOPES.items():
        for name in names:
            if name not in regressions.index:
                continue
            r = regressions.loc[name]
            holds = _verdict(r["slope_low"], r["slope_high"], r["p_value"], sign)
            yield {
                "claim": claim,
                "holds": holds,
                **r[["slope", "slope_low", "slope_high", "p_value"]],
                "measured": f"{_RESPONSES[str(r['per'])]} on {r['label']}",
            }


def _verdict(low, high, p_value, sign):
    """Say whether interval and test agree that the value has this sign."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "cannot be said"
    if sign < 0:
        low, high = -high, -low
    if p_value >= _ALPHA or low <= 0 <= high:
        return "undecided"
    return "yes" if low > 0 else "no: the opposite"
