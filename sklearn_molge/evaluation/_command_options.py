"""The options of the command line."""

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any

__all__ = ["N_MOLECULES", "PROGRAM", "SIMULATED", "make_parser"]

PROGRAM = "python -m sklearn_molge"
SIMULATED = "simulated"
N_MOLECULES = 300

_EXAMPLES = """\
examples:
  {0} evaluate --data simulated --preset quick --out demo
  {0} evaluate --data path/to/lincs --pert-time 24 --pert-dose 10 \\
      --test-drugs 0.35 --val-drugs 0.15 --test-cell-lines 6 --val-cell-lines 3 \\
      --out report
  {0} evaluate --data a.gct b.h5ad --metadata wells.csv --level 3 \\
      --out report

A command that was killed goes on where it was when it is called again.
"""


def make_parser() -> argparse.ArgumentParser:
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
    return parser


def _add_data(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("study")
    group.add_argument(
        "--data", nargs="+", required=True, metavar="PATH",
        help="a folder in the layout of the public LINCS releases; .gct, .gctx and "
        f".h5ad files, which are joined; or {SIMULATED!r}",
    )  # fmt: skip
    group.add_argument(
        "--level", type=int, choices=(3, 4, 5), default=5,
        help="3: log2 intensities, 4: z-scores of wells, 5: of signatures (default: 5)",
    )  # fmt: skip
    group.add_argument("--metadata", type=Path, metavar="FILE",
                       help="table of profiles beside GCT and GCTX files")  # fmt: skip
    group.add_argument("--pert-time", type=float, metavar="HOURS",
                       help="keep profiles of this time of exposure")  # fmt: skip
    group.add_argument("--pert-dose", type=float, metavar="UM",
                       help="keep profiles of this dose in um")  # fmt: skip
    group.add_argument("--cell-lines", type=_names, metavar="A,B,...",
                       help="keep these cell lines")  # fmt: skip
    group.add_argument(
        "--shared-by-all-lines", action="store_true", default=None,
        help="keep drugs that are in each of the lines, as the paper does",
    )  # fmt: skip
    group.add_argument(
        "--molecules", type=_count, metavar="N",
        help=f"of the simulated study (default: {N_MOLECULES})",
    )  # fmt: skip


def _add_split(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "split", "A share (0.1), a number (3), or names (HT29,PC3). A single name\n"
        "that looks like a number needs a comma behind it (697,). Default: as in the\n"
        "paper, a tenth of the drugs and one cell line for each part."
    )  # fmt: skip
    for name in ("test_drugs", "val_drugs", "test_cell_lines", "val_cell_lines"):
        part, what = name.split("_", 1)
        said = {"test": "to score on", "val": "to select by; 0 for none"}[part]
        group.add_argument(
            f"--{name.replace('_', '-')}", type=_choice, metavar="SHARE|N|NAMES",
            help=f"{what.replace('_', ' ')} {said}",
        )  # fmt: skip
    group.add_argument(
        "--geometry", choices=("paper",),
        help="paper: select by A549 and score on HT29 (of the simulated study, by two "
        "lines drawn), with a tenth of the drugs for each; the options above override",
    )  # fmt: skip


def _add_methods(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("methods")
    group.add_argument(
        "--preset", choices=("recommended", "paper", "quick"), default="recommended",
        help="settings of the trained embedder (default: recommended)",
    )  # fmt: skip
    group.add_argument("--weights", type=Path, metavar="FILE",
                       help="pretrained graph network, a chemprop file")  # fmt: skip
    group.add_argument("--baseline", metavar="NAME",
                       help="method that all are compared with (default: the best "
                       "classical one on the validation rows)")  # fmt: skip
    group.add_argument("--reference", choices=("finlayson2020",),
                       help="print the paper's numbers below")  # fmt: skip
    group.add_argument("--no-ablations", dest="ablations", action="store_false",
                       help="leave the ablations out")  # fmt: skip
    group.add_argument("--no-inspection", dest="inspect", action="store_false",
                       help="leave out what explains the scores")  # fmt: skip


def _add_run(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("run")
    group.add_argument("--out", type=Path, required=True, metavar="REPORT",
                       help="folder of the report")  # fmt: skip
    group.add_argument("--repeats", type=_count, default=3, metavar="N",
                       help="divisions of the study (default: 3)")  # fmt: skip
    group.add_argument("--jobs", type=_jobs, metavar="N",
                       help="processes, -1 for all; same numbers")  # fmt: skip
    group.add_argument(
        "--cache", type=Path, metavar="DIR",
        help="folder of finished fits, from which a killed command goes on (default: "
        "REPORT/cache). They are pickles: do not use one that you do not trust",
    )  # fmt: skip
    group.add_argument("--quiet", action="store_true",
                       help="no progress, no tables")  # fmt: skip
    _add_common(group)


def _add_common(parser: Any) -> None:
    parser.add_argument("--seed", type=_seed, default=0, metavar="N",
                        help="of the simulation, divisions and methods "
                        "(default: 0)")  # fmt: skip
    parser.add_argument("--traceback", action="store_true",
                        help="show where an error happened")  # fmt: skip


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
