"""Axes and labels that the displays of a search share."""

from typing import Any

import numpy as np

from sklearn_molge.inspection._search import Searched

__all__ = ["describe_test", "places_of", "short_names"]


def short_names(names: list[str]) -> list[str]:
    """Return names without the prefix that all have, up to a double underscore."""
    if len(names) < 2:
        return names
    parts = [name.split(" = ")[0].split("__")[:-1] for name in names]
    n_shared = 0
    for column in zip(*parts, strict=False):
        if len(set(column)) > 1:
            break
        n_shared += 1
    prefix = "".join(f"{part}__" for part in parts[0][:n_shared])
    joined = [[n.removeprefix(prefix) for n in name.split(" = ")] for name in names]
    return ["\n= ".join(parts) for parts in joined]


def places_of(ax: Any, parameter: Searched) -> Any:
    """Return where each trial lies along the axis, which is set up for it."""
    if parameter.numbers is not None:
        if parameter.is_log:
            _set_log_scale(ax, parameter.numbers)
        return parameter.numbers
    levels, codes = parameter.levels, parameter.codes
    crowded = max(map(len, levels)) * len(levels) > 24
    ax.set_xticks(np.arange(len(levels)))
    rotation = {"rotation": 30, "ha": "right"} if crowded else {}
    ax.set_xticklabels(levels, fontsize="small", **rotation)
    ax.set_xlim(-0.5, len(levels) - 0.5)
    # Spread evenly by the golden ratio: no two neighbours lie on each other.
    spread = (np.arange(len(codes)) * 0.6180339887 % 1 - 0.5) * 0.5
    return codes + spread


def describe_test(row: Any) -> str:
    p_value = row["p_value"]
    if np.isnan(p_value):
        return ""
    p = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"
    return p if np.isnan(row["rho"]) else f"rho = {row['rho']:+.2f}, {p}"


def _set_log_scale(ax: Any, numbers: Any) -> None:
    """Label few ticks: those of a range below two decades would collide."""
    from matplotlib.ticker import LogLocator, NullFormatter

    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1.0,), numticks=6))
    ax.xaxis.set_minor_formatter(NullFormatter())
    if np.nanmax(numbers) < 100 * np.nanmin(numbers):
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=6))
        ax.xaxis.set_major_formatter("{x:g}")
