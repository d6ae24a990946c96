"""Options that say which study is meant, and how it is divided; and the study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sklearn_molge._command._matrix import is_saved_study
from sklearn_molge._command._options import (
    NAMES,
    PATH,
    SHARE,
    Decorator,
    Output,
    option,
    options,
)

if TYPE_CHECKING:  # importing this module stays light
    from sklearn_molge.datasets import Study

__all__ = [
    "SIMULATED",
    "check_paths",
    "check_study",
    "load_study",
    "of_changes",
    "sizes_of_split",
    "split_options",
    "study_options",
]

SIMULATED = "simulated"
_N_MOLECULES = 300
_N_LINES = 8
_LEVEL = 5
_SIZES = ("val_drugs", "test_drugs", "val_cell_lines", "test_cell_lines")
# Parameters of load_lincs that are options.
_FILTERS = (
    *("pert_time", "pert_dose", "cell_lines", "metadata", "shared_by_all_lines"),
    *("landmark_only", "layer"),
)


def study_options(*, required: bool = True) -> Decorator:
    """Declare --data, and what chooses among its profiles."""
    group = "Study"
    return options(
        option(
            group, "--data", multiple=True, required=required, metavar="PATH...",
            type=click.Path(), help="a folder in the layout of the public LINCS "
            "releases; .gct, .gctx and .h5ad files, which are joined; or "
            f"'{SIMULATED}'",
        ),
        option(
            group, "--level", type=click.Choice(["3", "4", "5"]),
            help="3: log2 intensities, 4: z-scores of wells, 5: of signatures; of a "
            f"saved study as it says  [default: {_LEVEL}]",
            callback=lambda ctx, param, value: value and int(value),
        ),
        option(
            group, "--metadata", type=PATH, metavar="FILE",
            help="table of profiles beside GCT and GCTX files",
        ),
        option(
            group, "--pert-time", type=float, metavar="HOURS",
            help="keep profiles of this time of exposure",
        ),
        option(
            group, "--pert-dose", type=float, metavar="UM",
            help="keep profiles of this dose in um",
        ),
        option(group, "--cell-lines", type=NAMES, help="keep these cell lines"),
        option(
            group, "--shared-by-all-lines", is_flag=True, default=None,
            help="keep drugs that are in each of the lines, as the paper does",
        ),
        option(
            group, "--all-genes", "landmark_only", flag_value=False, type=bool,
            default=None, help="keep inferred genes, too, and not the 978 landmarks",
        ),
        option(
            group, "--layer", metavar="NAME",
            help="the layer of .h5ad files with the profiles  [default: X]",
        ),
        option(
            group, "--molecules", type=click.IntRange(min=1), metavar="N",
            help=f"of the simulated study  [default: {_N_MOLECULES}]",
        ),
    )  # fmt: skip


def split_options() -> Decorator:
    """Declare how large the parts are."""
    said = {
        "test": "to score on: a share (0.1), a number (3), or names (HT29,PC3; a "
        "single one that looks like a number needs a comma behind it). By default as "
        "many as make the test part rank 50 drugs, where the study has them",
        "val": "to select by, in the same way; 0 for none",
    }
    sizes = [
        option(
            "Split", f"--{name.replace('_', '-')}", type=SHARE, metavar="SIZE",
            help=f"{what.replace('_', ' ')} {said[part]}",
        )
        for name in ("test_drugs", "val_drugs", "test_cell_lines", "val_cell_lines")
        for part, _, what in [name.partition("_")]
    ]  # fmt: skip
    geometry = option(
        "Split", "--geometry", type=click.Choice(["paper"]),
        help="select by A549 and score on HT29 (of the simulated study, by two lines "
        "drawn), with a tenth of the drugs for each; the options above override",
    )  # fmt: skip
    return options(*sizes, geometry)


def sizes_of_split(given: Any) -> dict[str, Any]:
    """Return parameters of draw_split, as far as they are given."""
    sizes: dict[str, Any] = {}
    if given.geometry == "paper":
        real = not _is_simulated(given)
        sizes = {"val_drugs": 0.1, "test_drugs": 0.1}
        sizes["val_cell_lines"] = ["A549"] if real else 1
        sizes["test_cell_lines"] = ["HT29"] if real else 1
    named = {name: getattr(given, name) for name in _SIZES}
    return sizes | {name: value for name, value in named.items() if value is not None}


def check_study(given: Any) -> None:
    """Refuse what cannot work before anything is loaded."""
    simulated = _is_simulated(given)
    if SIMULATED in given.data and not simulated:
        got = list(given.data)
        raise ValueError(f"--data: {SIMULATED!r} stands alone. Got {got}.")
    if given.molecules is not None and not simulated:
        raise ValueError(f"--molecules is for --data {SIMULATED}.")
    names = ["all_genes" if n == "landmark_only" else n for n in _filters_of(given)]
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in names)
    if simulated and flags:
        raise ValueError(f"{flags}: not for --data {SIMULATED}, which has no files.")
    if not simulated:
        check_paths("--data", given.data)
    if given.metadata is not None:
        check_paths("--metadata", [given.metadata])


def check_paths(flag: str, paths) -> None:
    """Refuse paths where nothing lies."""
    for path in map(Path, paths):
        if not path.exists():
            raise FileNotFoundError(f"{flag}: there is no {path}.")


def load_study(given: Any) -> Study:
    """Load, and join, what --data names."""
    from sklearn_molge.datasets import Study, load_lincs, make_perturbation_study

    level = given.level or _LEVEL
    if _is_simulated(given):
        return make_perturbation_study(
            given.molecules or _N_MOLECULES,
            n_cell_lines=_N_LINES,
            level=level,
            random_state=getattr(given, "random_state", 0),
        )
    filters = _filters_of(given)
    # What chooses profiles chooses in all files; without it a study stays as it was.
    whole = [path for path in given.data if is_saved_study(Path(path))]
    whole = [] if set(filters) - {"metadata"} else whole
    parts = [path for path in given.data if path not in whole]
    studies = [load_lincs(parts, level=level, **filters)] if parts else []
    studies += [_load_saved(path, given.level) for path in whole]
    return studies[0] if len(studies) == 1 else Study.concat(studies)


def _filters_of(given: Any) -> dict[str, Any]:
    """Return the parameters of load_lincs that are given."""
    named = {name: getattr(given, name) for name in _FILTERS}
    return {name: value for name, value in named.items() if value is not None}


def _is_simulated(given: Any) -> bool:
    return list(given.data) == [SIMULATED]


def _load_saved(path: str, level: int | None) -> Study:
    from sklearn_molge.datasets import Study

    study = Study.load(path)
    study.level = level or study.level or _LEVEL
    return study


def of_changes(study: Study, said: Output) -> Study:
    """Make z-scores of intensities."""
    if study.level != 3:
        return study
    if study.control_obs is None:
        raise ValueError(
            "--data: intensities (level 3) without controls are no changes, which "
            "queries are. Give z-scores (level 4 or 5)."
        )
    said.step("Level 3: z-scores against the controls of each plate")
    return study.to_level4()
