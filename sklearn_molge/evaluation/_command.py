"""The command line: a whole study, or the audit of its split, in one call."""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn_molge.evaluation._command_options import (
    N_MOLECULES,
    PROGRAM,
    SIMULATED,
    make_parser,
)

if TYPE_CHECKING:  # importing this module stays light
    from sklearn_molge.datasets import Study

__all__ = ["main"]

N_LINES = 8
_SPLIT = ("val_drugs", "test_drugs", "val_cell_lines", "test_cell_lines")
_FILTERS = ("pert_time", "pert_dose", "cell_lines", "metadata", "shared_by_all_lines")
# What a user can mend; anything else is our fault, and shows where it happened.
_USER_ERRORS = (ValueError, OSError, ImportError)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    code : int
        0, or 1 where an audit found a violation, 2 after an error that is said on
        stderr, 130 after an interruption.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = make_parser()
    options = parser.parse_args(argv)
    try:
        _check(options)
        if options.command == "audit":
            return _audit(options)
        return _evaluate(options, f"{PROGRAM} {shlex.join(argv)}")
    except KeyboardInterrupt:
        goes_on = " The same command goes on from here."
        said = goes_on if options.command == "evaluate" else ""
        print(f"Interrupted.{said}", file=sys.stderr)
        return 130
    except _USER_ERRORS as error:
        if (getattr(error, "name", None) or "").startswith("sklearn_molge"):
            raise  # an ImportError of our own modules is no missing extra
        if options.traceback:
            traceback.print_exc()
        print(f"{parser.prog} {options.command}: error: {error}", file=sys.stderr)
        return 2


def _check(options: argparse.Namespace) -> None:
    """Refuse what cannot work before anything is loaded."""
    simulated = options.data == [SIMULATED]
    if SIMULATED in options.data and not simulated:
        raise ValueError(f"--data: {SIMULATED!r} stands alone. Got {options.data}.")
    if options.molecules is not None and not simulated:
        raise ValueError(f"--molecules is for --data {SIMULATED}.")
    _check_filters(options)
    needed: list[tuple[str, Path | None]] = [
        ("--data", Path(p)) for p in options.data if not simulated
    ]
    for name in ("metadata", "weights"):
        needed.append((f"--{name}", getattr(options, name, None)))
    for flag, path in needed:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{flag}: there is no {path}.")
    for name in ("out", "cache"):
        folder: Path | None = getattr(options, name, None)
        if folder is not None and folder.exists() and not folder.is_dir():
            raise NotADirectoryError(f"--{name}: {folder} is a file, not a folder.")


def _check_filters(options: argparse.Namespace) -> None:
    """Refuse filters that the files do not go through."""
    given = [name for name in _FILTERS if getattr(options, name) is not None]
    flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
    if not given:
        return
    if options.data == [SIMULATED] or all(map(_is_h5ad, options.data)):
        raise ValueError(f"{flags}: for LINCS folders, GCT and GCTX files only.")
    if given != ["metadata"] and any(map(_is_h5ad, options.data)):
        raise ValueError(f"{flags}: not for .h5ad files, which are joined whole.")


def _load(options: argparse.Namespace) -> Study:
    from sklearn_molge.datasets import Study, load_lincs, make_perturbation_study

    if options.data == [SIMULATED]:
        return make_perturbation_study(
            options.molecules or N_MOLECULES,
            n_cell_lines=N_LINES,
            level=options.level,
            random_state=options.seed,
        )
    annotated = [p for p in options.data if _is_h5ad(p)]
    lincs = [p for p in options.data if not _is_h5ad(p)]
    filters = {name: getattr(options, name) for name in _FILTERS}
    given = {name: value for name, value in filters.items() if value is not None}
    studies = [load_lincs(lincs, level=options.level, **given)] if lincs else []
    studies += [_load_h5ad(path, options.level) for path in annotated]
    return studies[0] if len(studies) == 1 else Study.concat(studies)


def _is_h5ad(path: str) -> bool:
    return path.lower().endswith(".h5ad")


def _load_h5ad(path: str, level: int) -> Study:
    from sklearn_molge.datasets import Study

    try:
        import anndata
    except ImportError as error:
        raise ImportError(
            '.h5ad files need anndata: pip install "sklearn-molge[anndata]"'
        ) from error
    try:
        data = anndata.read_h5ad(path)
    except (OSError, KeyError, TypeError, ValueError) as error:  # without its name
        raise ValueError(f"{path} cannot be read as .h5ad: {error}") from error
    return Study.from_anndata(data, level=level)


def _split(options: argparse.Namespace) -> dict[str, Any] | None:
    """Return parameters of drug_cell_line_split, None for its defaults."""
    split: dict[str, Any] = {}
    if options.geometry == "paper":
        split = {"val_drugs": 0.1, "test_drugs": 0.1}
        real = options.data != [SIMULATED]
        split["val_cell_lines"] = ["A549"] if real else 1
        split["test_cell_lines"] = ["HT29"] if real else 1
    given = {name: getattr(options, name) for name in _SPLIT}
    split |= {name: value for name, value in given.items() if value is not None}
    return split or None


def _evaluate(options: argparse.Namespace, command: str) -> int:
    from sklearn_molge import evaluation

    study = _load(options)
    if not options.quiet:
        print(study, flush=True)
    report = evaluation.evaluate_study(
        study,
        split=_split(options),
        preset=options.preset,
        ablations=options.ablations,
        weights=options.weights,
        n_repeats=options.repeats,
        reference=options.reference,
        baseline=options.baseline,
        inspect=options.inspect,
        cache_folder=options.cache or options.out / "cache",
        command=command,
        random_state=options.seed,
        n_jobs=options.jobs,
        verbose=int(not options.quiet),
    )
    saved = report.save(options.out)
    if not options.quiet:
        print(f"\n{report}\n")
    print(f"The report is {saved}")
    return 0


def _audit(options: argparse.Namespace) -> int:
    from sklearn_molge.evaluation import audit_split
    from sklearn_molge.model_selection import drug_cell_line_split

    study = _load(options)
    split = drug_cell_line_split(
        study.groups, random_state=options.seed, **(_split(options) or {})
    )
    audit = audit_split(study, split)
    print(study, audit, sep="\n\n")
    return 1 if audit.violations else 0
