"""Which profiles of a release make a study, and what each filter took."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sklearn_molge._utils.messages import first_few
from sklearn_molge.datasets._columns import ACCOUNT, several_structures
from sklearn_molge.datasets._formats._values import describe_missing
from sklearn_molge.datasets._quantities import (
    TOLERANCE,
    UNIT,
    describe_readings,
    parse_quantity,
    unread,
)
from sklearn_molge.exceptions import DataWarning, InvalidSmilesError
from sklearn_molge.molecules import drug_ids, parsed_once, valid_smiles_mask

__all__ = [
    "Funnel",
    "as_tuple",
    "keep_molecules",
    "parse_wanted",
    "select_controls",
    "select_treated",
]

N_SHOWN = 5


class Funnel:
    """A table of profiles that filters narrow (`obs`), and the account of it."""

    def __init__(self, obs: pd.DataFrame):
        self.obs = obs
        self._steps = [("in the matrices", 0, len(obs), "")]

    def keep(self, mask: NDArray[np.bool_] | pd.Series, step: str, detail: str) -> None:
        """Keep the profiles of `mask`; an empty rest is an error that names `step`."""
        n_before = len(self.obs)
        self.obs = self.obs[np.asarray(mask)]
        n_left = len(self.obs)
        self._steps.append((step, n_before - n_left, n_left, detail))
        if n_left == 0:
            course = "; ".join(f"{name}: {left:,}" for name, _, left, _ in self._steps)
            raise ValueError(
                f"No profile is left after the filter {step} ({detail}). "
                f"Profiles after each filter: {course}."
            )

    def keep_values(self, column: str, mask: NDArray | pd.Series, step: str) -> None:
        """Keep the profiles of `mask`, and note which values of `column` there were."""
        # Spelled out: categories would count values that are not there, and by code.
        values = self.obs[column].astype(self.obs[column].to_numpy().dtype)
        counts = [f"{v} ({n:,})" for v, n in values.value_counts(dropna=False).items()]
        shown = first_few(counts, write=str, n=N_SHOWN)
        self.keep(mask, step, f"{column} before: {shown}")

    def note(self, *texts: str) -> None:
        """Add to the detail of the first step: what is said of all profiles."""
        name, n_dropped, n_left, detail = self._steps[0]
        detail = "; ".join(filter(None, [detail, *texts]))
        self._steps[0] = (name, n_dropped, n_left, detail)

    def tell_quantities(self, *, stacklevel: int) -> None:
        """Note the units of doses and times; warn of what could not be read."""
        self.note(describe_readings(self.obs))
        for told in unread(self.obs):
            warnings.warn(f"{told}.", DataWarning, stacklevel=stacklevel + 1)

    def identify(self, *, stacklevel: int) -> None:
        """Add the column ``drug``; tell where ids or names are not one to one."""
        with parsed_once(max_bytes=0):  # they would be a good part of the memory
            self.obs = self.obs.assign(drug=drug_ids(self.obs["smiles"]))
        by_id = self.obs.set_index("pert_id")["smiles"]
        several = several_structures(by_id)
        if several:
            warnings.warn(
                f"{len(several):,} pert_ids have profiles of several molecules; each "
                "profile keeps its own: "
                f"{first_few(several, write=str, n=N_SHOWN)}.",
                DataWarning,
                stacklevel=stacklevel + 1,
            )
        pairs = self.obs[["pert_name", "drug"]].dropna().drop_duplicates()
        told = [
            f"{len(found):,} {what}: {first_few(found, write=str, n=N_SHOWN)}"
            for what, found in (
                ("names of several molecules", _names_of_several(pairs)),
                ("molecules of several names", _molecules_of_several(pairs)),
            )
            if found
        ]
        self.note(*told)

    def tell_missing(self, *matrices: NDArray[np.floating]) -> None:
        """Note how many values of treated profiles and controls are missing."""
        for what, matrix in zip(("treated", "controls"), matrices, strict=False):
            told = describe_missing(matrix)
            self.note(f"{what}: {told}" if told else "")

    def report(self) -> pd.DataFrame:
        """Return the account, one row a step."""
        return pd.DataFrame(self._steps, columns=ACCOUNT)


def _names_of_several(pairs: pd.DataFrame) -> list[str]:
    again = pairs[pairs["pert_name"].duplicated(keep=False)]
    groups = again.groupby("pert_name", sort=False)["drug"]
    return [f"{name} ({', '.join(drugs)})" for name, drugs in groups]


def _molecules_of_several(pairs: pd.DataFrame) -> list[str]:
    again = pairs[pairs["drug"].duplicated(keep=False)]
    groups = again.groupby("drug", sort=False)["pert_name"]
    return [f"{' = '.join(names)} ({drug})" for drug, names in groups]


def as_tuple(values: str | Sequence[str]) -> tuple[str, ...]:
    """Make a tuple of one text or of many."""
    return (values,) if isinstance(values, str) else tuple(values)


def parse_wanted(
    values: float | str | Sequence[float | str] | None, parameter: str, column: str
) -> list[float] | None:
    """Read the doses (um) or times (h) of a filter; None where there is no filter."""
    if values is None:
        return None
    wanted = [parse_quantity(entry, column) for entry in np.atleast_1d(values)]
    if not wanted or np.isnan(wanted).any():
        raise ValueError(
            f"{parameter} must be one or more numbers >= 0 in {UNIT[column]}, or texts "
            f"such as '10 {UNIT[column]}'. Got {values!r}."
        )
    return wanted


def _is_wanted(
    obs: pd.DataFrame, column: str, wanted: list[float]
) -> NDArray[np.bool_]:
    values = obs[column].to_numpy(dtype=float)
    mask = np.zeros(len(values), dtype=bool)
    for value in wanted:
        mask |= np.isclose(values, value, rtol=TOLERANCE[column], atol=1e-9)
    return mask


def select_treated(
    obs: pd.DataFrame,
    *,
    pert_types: tuple[str, ...],
    times: list[float] | None,
    doses: list[float] | None,
    cell_lines: tuple[str, ...] | None,
    on_bad_smiles: str,
    min_cell_lines: int,
    shared_by_all_lines: bool,
) -> Funnel:
    """Narrow the profiles of a release to the treated ones of a study.

    The ``obs`` of the result has a column ``drug``. It is an error if a filter leaves
    nothing, or `cell_lines` names a line that is not there.
    """
    funnel = Funnel(obs)
    mask = funnel.obs["pert_type"].isin(pert_types)
    funnel.keep_values("pert_type", mask, f"pert_type={', '.join(pert_types)}")
    known = funnel.obs["cell_line"].notna()
    if not known.all():
        funnel.keep(known, "known cell line", "the metadata give no cell line")
    funnel.tell_quantities(stacklevel=4)
    _check_cell_lines(cell_lines, funnel.obs["cell_line"])
    for parameter, column, wanted in [
        ("pert_time", "time_h", times),
        ("pert_dose", "dose_um", doses),
    ]:
        if wanted is not None:
            shown = ", ".join(f"{value:g} {UNIT[column]}" for value in wanted)
            funnel.keep_values(
                column, _is_wanted(funnel.obs, column, wanted), f"{parameter}={shown}"
            )
    if cell_lines is not None:
        mask = funnel.obs["cell_line"].isin(cell_lines)
        funnel.keep_values("cell_line", mask, f"cell_lines={', '.join(cell_lines)}")
    funnel.obs = _spelled_out(funnel.obs)
    keep_molecules(funnel, on_bad_smiles, stacklevel=4)
    funnel.identify(stacklevel=4)
    if min_cell_lines > 1:
        n_lines = _count_lines(funnel.obs)
        funnel.keep(
            n_lines >= min_cell_lines,
            f"min_cell_lines={min_cell_lines}",
            f"a drug is in {n_lines.max()} lines at most",
        )
    if shared_by_all_lines:
        n_lines = _count_lines(funnel.obs)
        left = set(funnel.obs["cell_line"])
        every = set(cell_lines or left)
        gone = ", ".join(sorted(every - left))
        funnel.keep(
            n_lines == len(every),
            "shared_by_all_lines=True",
            f"a drug is in {n_lines.max()} of {len(every)} lines at most"
            + (f"; no profile is left of {gone}" if gone else ""),
        )
    return funnel


def _spelled_out(obs: pd.DataFrame) -> pd.DataFrame:
    """Turn categories into texts; before, where profiles are many, they are small."""
    coded = obs.columns[[isinstance(t, pd.CategoricalDtype) for t in obs.dtypes]]
    return obs.astype(dict.fromkeys(coded, object))


def _count_lines(obs: pd.DataFrame) -> pd.Series:
    return obs.groupby("drug")["cell_line"].transform("nunique")


def _check_cell_lines(cell_lines: tuple[str, ...] | None, column: pd.Series) -> None:
    there = sorted(column.unique())
    unknown = sorted(set(cell_lines or ()) - set(there))
    if unknown:
        raise ValueError(
            f"cell_lines names lines without a treated profile: {', '.join(unknown)}. "
            f"There are: {', '.join(there)}."
        )


def keep_molecules(funnel: Funnel, on_bad_smiles: str, *, stacklevel: int) -> None:
    """Keep the profiles with a readable SMILES; warn of the others, or raise."""
    obs = funnel.obs
    codes, distinct = pd.factorize(obs["smiles"])
    with parsed_once(max_bytes=0):  # as in Funnel.identify
        good = np.append(valid_smiles_mask(distinct), False)[codes]
    bad = obs.loc[~good, ["pert_id", "smiles"]]
    if bad.empty:
        return
    perts = bad.drop_duplicates("pert_id")
    named = [f"{pert} ({smiles})" for pert, smiles in perts.to_numpy()]
    shown = first_few(named, write=str, n=N_SHOWN)
    detail = f"{len(bad):,} profiles of {len(perts):,} pert_ids: {shown}"
    if on_bad_smiles == "raise":
        error = InvalidSmilesError(
            np.flatnonzero(~good).tolist(), bad["smiles"].tolist()
        )
        error.add_note(
            f"No readable SMILES for {detail}. An index counts the selected profiles; "
            "on_bad_smiles='drop' leaves them out."
        )
        raise error
    funnel.keep(good, "readable SMILES", detail)
    warnings.warn(
        f"Left out for want of a readable SMILES: {detail}.",
        DataWarning,
        stacklevel=stacklevel + 1,
    )


def select_controls(
    obs: pd.DataFrame,
    treated: pd.DataFrame,
    control_types: tuple[str, ...],
    times: list[float] | None,
) -> pd.DataFrame:
    """Keep the control wells that share plate, line and time with treated wells.

    No dose filter: a release writes -666, 0 or the volume of the vehicle as the dose of
    a control.
    """
    mask = obs["pert_type"].isin(control_types)
    mask &= obs["plate"].isin(treated["plate"].dropna())
    mask &= obs["cell_line"].isin(treated["cell_line"])
    if times is not None:
        mask &= _is_wanted(obs, "time_h", times)
    return _spelled_out(obs[mask])
