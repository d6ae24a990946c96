"""The points of a regression: drugs or profiles, and how well they were found."""

from typing import Any

import numpy as np
import pandas as pd
from scipy import special

__all__ = ["chance_response", "drug_or_profile_points"]

# Random rankings whose mean response is the chance line: its error is that of the
# mean response over the root of their number.
_N_RANDOM = 200


def drug_or_profile_points(rows: pd.DataFrame, per: str, response: str) -> pd.DataFrame:
    """Return one row a drug (sorted) or a profile (in order)."""
    rows = rows.assign(reciprocal=1 / rows["rank"])
    if per == "drug":
        groups = rows.groupby("drug")
        points = groups[["x", "reciprocal"]].mean()
        points["median_rank"] = groups["rank"].median()
        points["n_profiles"] = groups.size()
        points = points.reset_index()
    else:
        points = rows.assign(median_rank=rows["rank"], n_profiles=1)
    points = points.rename(columns={"reciprocal": "mrr"})
    if response == "rank":
        points["response"] = points["median_rank"]
    else:
        points["response"] = -np.log(points["mrr"])
    return points[["drug", "x", "response", "n_profiles", "mrr", "median_rank"]]


def chance_response(rows: pd.DataFrame, per: str, response: str, rng: Any) -> float:
    """Return the mean response of random rankings of the same queries."""
    if len(rows) == 0:
        return np.nan
    sizes = rows["n_candidates"].to_numpy()
    if response == "rank" and (per == "profile" or np.ptp(sizes) == 0):
        return float(np.mean((sizes + 1) / 2))
    if per == "profile":
        return float(np.mean(special.gammaln(sizes + 1) / sizes))  # log(M!) / M
    codes = pd.factorize(rows["drug"], sort=True)[0]
    order = np.lexsort((sizes, codes))  # the same draws whatever the order of the rows
    codes, sizes = codes[order], sizes[order]
    means = []
    for _ in range(_N_RANDOM):
        ranks = rng.randint(1, sizes + 1)
        if response == "rank":
            of_drug = pd.Series(ranks).groupby(codes).median().to_numpy()
        else:
            of_drug = -np.log(np.bincount(codes, 1 / ranks) / np.bincount(codes))
        means.append(of_drug.mean())
    return float(np.mean(means))
