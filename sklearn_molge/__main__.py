"""The command ``python -m sklearn_molge``: a whole study, or the audit of its split."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sklearn_molge._files.reading import reading
from sklearn_molge._utils.messages import counted, printable
from sklearn_molge._utils.optional import import_optional

if TYPE_CHECKING:  # importing this module stays light
    from sklearn_molge.datasets import Study

__all__ = ["main"]

PROGRAM = "python -m sklearn_molge"
SIMULATED = "simulated"
N_MOLECULES = 300
N_LINES = 8
_SPLIT = ("val_drugs", "test_drugs", "val_cell_lines", "test_cell_lines")
_FILTERS = ("pert_time", "pert_dose", "cell_lines", "metadata", "shared_by_all_lines")
# What a user can mend; anything else is our fault, and shows where it happened.
_USER_ERRORS = (ValueError, OSError, ImportError)
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)
_EXAMPLES = """\
examples:
  {0} evaluate --data simulated --preset quick --out demo
  {0} evaluate --data path/to/lincs --pert-time 24 --pert-dose 10 \\
      --test-drugs 0.35 --val-drugs 0.15 --test-cell-lines 6 --val-cell-lines 3 \\
      --out report
  {0} evaluate --data a.gct b.h5ad --metadata wells.csv --level 3 \\
      --out report

A command that was killed goes on where it was when it is called again: its fits
lie in the folder of --cache-folder, which may be deleted to free its space.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, default=None
        The arguments; None takes those of the process.

    Returns
    -------
    code : int
        0, or 1 where an audit found a violation or an index is damaged, 2 after an
        error that is said on stderr, 130 after an interruption.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    parser = _make_parser()
    options = parser.parse_args(argv)
    _limit_threads()
    try:
        if options.command == "verify":
            return _verify(options)
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
        said = printable(str(error))
        print(f"{parser.prog} {options.command}: error: {said}", file=sys.stderr)
        return 2


def _limit_threads() -> None:
    """Give each process one thread, unless the user says how many it should have.

    BLAS and torch take all cores, and their threads wait for each other in loops: where
    other work runs on these cores, too, that is many times slower. They read this when
    they are imported; who has done that and calls `main` from Python decides.
    """
    if "numpy" in sys.modules:
        return
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if not any(map(os.environ.get, _THREADS)):  # set, and not to ""
        os.environ.update(dict.fromkeys(_THREADS, "1"))


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
    for name in ("metadata", "encoder"):
        needed.append((f"--{name}", getattr(options, name, None)))
    for flag, path in needed:
        if path is not None and not path.exists():
            raise FileNotFoundError(f"{flag}: there is no {path}.")
    for name in ("out", "cache_folder"):
        folder: Path | None = getattr(options, name, None)
        if folder is not None and folder.exists() and not folder.is_dir():
            flag = name.replace("_", "-")
            raise NotADirectoryError(f"--{flag}: {folder} is a file, not a folder.")


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
            random_state=options.random_state,
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

    anndata = import_optional("anndata", extra="anndata", needed_by="An .h5ad file")
    with reading(path):
        data = anndata.read_h5ad(path)
    return Study.from_anndata(data, level=level)


def _split(options: argparse.Namespace) -> dict[str, Any] | None:
    """Return parameters of draw_split, None for its defaults."""
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

    evaluation.StudyReport.check_folder(options.out)  # before any work
    cache_folder = options.cache_folder or _default_cache()
    study = _load(options)
    if not options.quiet:
        print(printable(str(study)), flush=True)
    report = evaluation.evaluate_study(
        study,
        paper=evaluation.PaperOptions(
            preset=options.preset,
            encoder=options.encoder,
            ablations=options.ablations,
            reference=options.reference is not None,
        ),
        split=_split(options),
        n_repeats=options.n_repeats,
        baseline=options.baseline,
        inspect=options.inspect,
        cache_folder=cache_folder,
        random_state=options.random_state,
        n_jobs=options.n_jobs,
        verbose=int(not options.quiet),
    )
    report.command = command
    saved = report.save(options.out)
    if not options.quiet:
        print(f"\n{report}\n")
        print(_about_cache(cache_folder))
    print(f"The report is {saved}")
    return 0


def _default_cache() -> Path:
    """Return the user's own folder: a report may be anybody's."""
    from sklearn_molge._files.signing import user_cache_folder

    return user_cache_folder("evaluations")


def _about_cache(folder: Path) -> str:
    """Say where the fits lie, and how much there is of them."""
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
    return (
        f"Finished fits are kept in {folder} ({counted(len(sizes), 'file')}, "
        f"{sum(sizes) / 1e6:.1f} MB), for the same command and others on the same "
        "study; the folder may be deleted."
    )


def _audit(options: argparse.Namespace) -> int:
    from sklearn_molge.evaluation import audit_split, draw_split

    study = _load(options)
    split = draw_split(
        study.groups, random_state=options.random_state, **(_split(options) or {})
    )
    audit = audit_split(study, split)
    print(printable(f"{study}\n\n{audit}"))
    return 1 if audit.violations else 0


def _verify(options: argparse.Namespace) -> int:
    from sklearn_molge.exceptions import CorruptFileError
    from sklearn_molge.library import verify_index

    try:
        checked = verify_index(options.folder)
    except CorruptFileError as error:
        print(f"damaged: {error}")
        return 1
    for what, n in checked.items():
        print(f"{n:>14,} {what}")
    print(f"{options.folder}: all as it was written.")
    return 0


def _make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Rank molecules by the expression profiles that they induce.",
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"sklearn-molge {version('sklearn-molge')}",
    )
    commands = parser.add_subparsers(
        title="commands", dest="command", required=True, metavar="COMMAND"
    )
    evaluate = commands.add_parser(
        "evaluate",
        help="compare methods on a study, and write a report",
        description="Fit the paper's methods, oracles, a strong classical Pipeline "
        "and ablations\non one study, score them on unseen drugs in unseen cell lines, "
        "and write tables,\nfigures and a report in HTML.",
        epilog=_EXAMPLES.format(PROGRAM),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _add_data(evaluate)
    _add_split(evaluate)
    _add_methods(evaluate)
    _add_run(evaluate)
    audit = commands.add_parser(
        "audit",
        help="say what the parts of a split share",
        description="Draw a split of a study and look for what its parts share: drugs, "
        "cell lines, salts, isomers, fingerprints, plates, copied profiles. The exit "
        "code is 1 where a drug or a cell line is in two parts.",
    )
    _add_data(audit)
    _add_split(audit)
    _add_common(audit)
    verify = commands.add_parser(
        "verify",
        help="compare the folder of an index with its checksums",
        description="Read all that an index of molecules has stored, and compare it "
        "with the checksums that were written with it. The exit code is 1 where a part "
        "is damaged.",
    )
    verify.add_argument("folder", type=Path, metavar="FOLDER", help="of the index")
    verify.add_argument("--traceback", action="store_true", help=argparse.SUPPRESS)
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("study").add_argument
    data = (
        "a folder in the layout of the public LINCS releases; .gct, .gctx and .h5ad "
        f"files, which are joined; or {SIMULATED!r}"
    )
    add("--data", nargs="+", required=True, metavar="PATH", help=data)
    level = "3: log2 intensities, 4: z-scores of wells, 5: of signatures (default: 5)"
    add("--level", type=int, choices=(3, 4, 5), default=5, help=level)
    metadata = "table of profiles beside GCT and GCTX files"
    add("--metadata", type=Path, metavar="FILE", help=metadata)
    time = "keep profiles of this time of exposure"
    add("--pert-time", type=float, metavar="HOURS", help=time)
    dose = "keep profiles of this dose in um"
    add("--pert-dose", type=float, metavar="UM", help=dose)
    add("--cell-lines", type=_names, metavar="A,B,...", help="keep these cell lines")
    shared = "keep drugs that are in each of the lines, as the paper does"
    add("--shared-by-all-lines", action="store_true", default=None, help=shared)
    molecules = f"of the simulated study (default: {N_MOLECULES})"
    add("--molecules", type=_count, metavar="N", help=molecules)


def _add_split(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "split",
        "A share (0.1), a number (3), or names (HT29,PC3). A single name\n"
        "that looks like a number needs a comma behind it (697,). Default: as many as\n"
        "make the test part rank 50 drugs, where the study has them (see draw_split).",
    )
    for name in ("test_drugs", "val_drugs", "test_cell_lines", "val_cell_lines"):
        part, what = name.split("_", 1)
        said = {"test": "to score on", "val": "to select by; 0 for none"}[part]
        flag, text = f"--{name.replace('_', '-')}", f"{what.replace('_', ' ')} {said}"
        group.add_argument(flag, type=_choice, metavar="SHARE|N|NAMES", help=text)
    group.add_argument(
        "--geometry",
        choices=("paper",),
        help="paper: select by A549 and score on HT29 (of the simulated study, by two "
        "lines drawn), with a tenth of the drugs for each; the options above override",
    )


def _add_methods(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("methods").add_argument
    presets = ("recommended", "paper", "quick")
    preset = "settings of the trained embedder (default: recommended)"
    add("--preset", choices=presets, default="recommended", help=preset)
    encoder = "pretrained graph network, a chemprop file"
    add("--encoder", "--weights", type=Path, metavar="FILE", help=encoder)
    baseline = (
        "method that all are compared with, such as cca_raw_morgan (default: the best "
        "classical one on the validation rows)"
    )
    add("--baseline", metavar="NAME", help=baseline)
    reference = "print the paper's numbers below"
    add("--reference", choices=("finlayson2020",), help=reference)
    ablations = "leave the ablations out"
    add("--no-ablations", dest="ablations", action="store_false", help=ablations)
    inspection = "leave out what explains the scores"
    add("--no-inspection", dest="inspect", action="store_false", help=inspection)


def _add_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    add = group.add_argument
    out = "folder of the report"
    add("--out", type=Path, required=True, metavar="REPORT", help=out)
    repeats = "divisions of the study (default: 3)"
    add("--n-repeats", "--repeats", type=_count, default=3, metavar="N", help=repeats)
    jobs = (
        "processes, -1 for one a core; same numbers. Each has one thread, or "
        "OMP_NUM_THREADS of them"
    )
    add("--n-jobs", "--jobs", type=_jobs, metavar="N", help=jobs)
    default = str(_default_cache()).replace("%", "%%")
    cache = (
        "folder of finished fits, from which a killed command goes on; delete it to "
        f"free its space (default: {default}). It may be shared: files that this "
        "installation did not sign are not opened"
    )
    add("--cache-folder", "--cache", type=Path, metavar="DIR", help=cache)
    add("--quiet", action="store_true", help="no progress, no tables")
    _add_common(group)


def _add_common(parser) -> None:
    seed = "of the simulation, divisions and methods (default: 0)"
    names = ("--random-state", "--seed")
    parser.add_argument(*names, type=_seed, default=0, metavar="N", help=seed)
    where = "show where an error happened"
    parser.add_argument("--traceback", action="store_true", help=where)


def _choice(text: str) -> float | int | list[str]:
    """Read a share, a number, or names."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        if value < 0 or value != value or (kind is float and value >= 1):
            break
        return value
    else:
        return _names(text)
    raise argparse.ArgumentTypeError(
        f"must be a share in [0, 1), a number of at least 0, or names. Got {text!r}"
    )


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(f"must be names, joined by ','. Got {text!r}")
    return names


def _whole(text: str, least: int, said: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"must be {said}. Got {text!r}")
    return value


def _count(text: str) -> int:
    return _whole(text, 1, "a whole number of at least 1")


def _seed(text: str) -> int:
    return _whole(text, 0, "a whole number of at least 0")


def _jobs(text: str) -> int:
    value = _whole(text, -1, "a whole number of at least 1, or -1 for all")
    if value == 0:
        raise argparse.ArgumentTypeError("must be at least 1, or -1 for all. Got '0'")
    return value


if __name__ == "__main__":
    sys.exit(main())
