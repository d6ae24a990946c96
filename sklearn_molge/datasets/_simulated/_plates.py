"""Plates of the simulated study: wells, what they show, and their z-scores."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = [
    "TIME_H",
    "WELLS",
    "add_responses",
    "collapse_replicates",
    "draw_untreated",
    "lay_out_plates",
    "z_scores",
]

WELLS = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
TIME_H = 24.0
LOG2_RANGE = (3.0, 15.0)
Z_LIMIT = 10.0
MIN_Z_SCALE = 0.1  # as the LINCS pipeline does, for genes that hardly vary

BASELINE_RANGE = (5.5, 12.0)
LINE_SD = 0.7
NOISE_SPREAD = 0.4
PROGRAMME_SD = 0.5
PROGRAMME_SHARE = 0.1
SENSITIVITY_SPREAD = 0.3
N_SIDE_PROGRAMMES = 10


def lay_out_plates(
    pairs: NDArray[np.bool_],
    doses: NDArray[np.float64],
    n_replicates: int,
    n_controls: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Give each condition a well of a plate map, and each replicate of a map a plate.

    Controls have molecule -1. Conditions are in the same order in each replicate.
    """
    capacity = len(WELLS) - n_controls
    plates = []
    for line, in_line in enumerate(pairs.T):
        molecules = np.repeat(np.flatnonzero(in_line), len(doses))
        order = rng.permutation(len(molecules))
        conditions = pd.DataFrame(
            {
                "molecule": molecules[order],
                "dose_um": np.tile(doses, in_line.sum())[order],
            }
        )
        for start in range(0, len(conditions), capacity):
            n_map = start // capacity + 1
            controls = pd.DataFrame({"molecule": [-1] * n_controls, "dose_um": np.nan})
            plate_map = pd.concat([controls, conditions[start : start + capacity]])
            plate_map["well"] = rng.permutation(WELLS)[: len(plate_map)].astype(object)
            plate_map["line"] = line
            plate_map["map"] = f"SIM{n_map:03d}_LINE{line + 1:02d}_{TIME_H:.0f}H"
            for replicate in range(1, n_replicates + 1):
                plate = plate_map["map"] + f"_X{replicate}"
                plates.append(plate_map.assign(replicate=replicate, plate=plate))
    return pd.concat(plates, ignore_index=True)


def draw_untreated(
    wells: pd.DataFrame,
    shape: tuple[int, int],
    batch_effect: float,
    noise: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw what each well would show without a molecule."""
    n_genes = shape[1]
    baseline = rng.uniform(*BASELINE_RANGE, n_genes) + rng.normal(0, LINE_SD, shape)
    noise_sd = noise * rng.lognormal(0, NOISE_SPREAD, n_genes)
    plate, names = pd.factorize(wells["plate"])
    batch = rng.normal(0, batch_effect, (len(names), n_genes))
    ge = rng.standard_normal((len(wells), n_genes), dtype=np.float32)
    ge *= noise_sd.astype(np.float32)
    ge += baseline.astype(np.float32)[wells["line"]]
    ge += batch.astype(np.float32)[plate]
    return ge


def add_responses(
    ge: NDArray[np.float32],
    wells: pd.DataFrame,
    pec50: NDArray[np.float64],
    line_effect: float,
    drug_effect: float,
    pair_effect: float,
    rng: np.random.Generator,
) -> None:
    """Add the response of each treated well to `ge`, which then is log2 intensity."""
    n_molecules, n_mechanisms = pec50.shape
    n_genes = ge.shape[1]
    shared = _draw_programmes((n_mechanisms, n_genes), rng)
    side = _draw_programmes((N_SIDE_PROGRAMMES, n_genes), rng)
    everywhere = rng.normal(0, drug_effect, (n_molecules, N_SIDE_PROGRAMMES))
    molecule = wells["molecule"].to_numpy()
    for line in range(wells["line"].max() + 1):
        sensitivity = rng.lognormal(0, SENSITIVITY_SPREAD, (n_mechanisms, 1))
        specific = _draw_programmes((n_mechanisms, n_genes), rng)
        programmes = sensitivity * (shared + line_effect * specific)
        loadings = rng.normal(everywhere, pair_effect)
        rows = np.flatnonzero((wells["line"] == line) & (molecule >= 0))
        dose = wells["dose_um"].to_numpy()[rows, None]
        activity = dose / (dose + 10 ** (6 - pec50[molecule[rows]]))
        ge[rows] += activity @ programmes + loadings[molecule[rows]] @ side
    np.clip(ge, *LOG2_RANGE, out=ge)


def _draw_programmes(
    shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    return rng.normal(0, PROGRAMME_SD, shape) * (rng.random(shape) < PROGRAMME_SHARE)


def z_scores(
    ge: NDArray[np.float32], plates: pd.Series, treated: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Measure each well against the controls of its plate (Level 4)."""
    z = np.empty_like(ge)
    for rows in plates.groupby(plates).indices.values():
        controls = ge[rows[~treated[rows]]]
        scale = np.maximum(controls.std(axis=0, ddof=1), MIN_Z_SCALE)
        z[rows] = (ge[rows] - controls.mean(axis=0)) / scale
    return z


def collapse_replicates(
    z: NDArray[np.float32], wells: pd.DataFrame
) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Average the replicates of each condition, and limit the result (Level 5)."""
    replicate = wells["replicate"].to_numpy()
    mean = np.mean([z[replicate == r] for r in np.unique(replicate)], axis=0)
    signatures = wells[replicate == 1]
    return (
        np.clip(mean, -Z_LIMIT, Z_LIMIT),
        signatures.assign(plate=signatures["map"]),
    )
