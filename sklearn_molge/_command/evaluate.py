"""``molge evaluate``: a whole study, and a report."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from sklearn_molge._command._options import (
    PATH,
    Output,
    jobs,
    option,
    output,
    seed,
)
from sklearn_molge._command._options import (
    command as make_command,
)
from sklearn_molge._command._study import (
    check_paths,
    check_study,
    load_study,
    sizes_of_split,
    split_options,
    study_options,
)
from sklearn_molge._utils.messages import counted

__all__ = ["command"]

_EXAMPLES = """
molge evaluate --data simulated --preset quick --out demo
molge evaluate --data path/to/lincs --pert-time 24 --pert-dose 10 --out report
molge evaluate --data a.gct b.h5ad --metadata wells.csv --level 3 --out report
"""


def _default_cache() -> Path:
    """Return the user's own folder: a report may be anybody's."""
    from sklearn_molge._files.signing import user_cache_folder

    return user_cache_folder("evaluations")


@make_command(examples=_EXAMPLES)
@study_options()
@split_options()
@option(
    "Methods",
    "--preset",
    type=click.Choice(["recommended", "paper", "quick"]),
    default="recommended",
    help="settings of the trained embedder",
)
@option(
    "Methods",
    "--encoder",
    "--weights",
    type=PATH,
    metavar="FILE",
    help="pretrained graph network, a chemprop file",
)
@option(
    "Methods",
    "--baseline",
    metavar="NAME",
    help="method that all are compared with, "
    "such as cca_raw_morgan (by default the best classical one on the validation rows)",
)
@option(
    "Methods",
    "--reference",
    type=click.Choice(["finlayson2020"]),
    help="print the paper's numbers below ours",
)
@option(
    "Methods",
    "--no-ablations",
    "ablations",
    flag_value=False,
    type=bool,
    default=True,
    show_default=False,
    help="leave the ablations out",
)
@option(
    "Methods",
    "--no-inspection",
    "inspect",
    flag_value=False,
    type=bool,
    default=True,
    show_default=False,
    help="leave out what explains the scores",
)
@option(
    "Run",
    "--out",
    type=PATH,
    required=True,
    metavar="REPORT",
    help="folder of the report",
)
@option(
    "Run",
    "--n-repeats",
    "--repeats",
    type=click.IntRange(min=1),
    default=3,
    metavar="N",
    help="divisions of the study",
)
@jobs
@option(
    "Run",
    "--cache-folder",
    "--cache",
    type=PATH,
    metavar="DIR",
    help="folder of finished fits, from which a killed command goes on; delete it to "
    f"free its space  [default: {_default_cache()}]. It may be shared: files that this "
    "installation did not sign are not opened",
)
@seed
@output(json=False)
@click.pass_context
def command(ctx: click.Context, given: Any) -> int:
    """Compare methods on a study, and write a report.

    Fits the paper's methods, oracles, a strong classical Pipeline and ablations on one
    study, scores them on unseen drugs in unseen cell lines, and writes tables, figures
    and a report in HTML. A command that was killed goes on where it was when it is
    called again.
    """
    check_study(given)
    if given.encoder is not None:
        check_paths("--encoder", [given.encoder])
    for name in ("out", "cache_folder"):
        folder: Path | None = getattr(given, name)
        if folder is not None and folder.exists() and not folder.is_dir():
            flag = name.replace("_", "-")
            raise NotADirectoryError(f"--{flag}: {folder} is a file, not a folder.")
    from sklearn_molge import evaluation

    evaluation.StudyReport.check_folder(given.out)  # before any work
    cache_folder, said = given.cache_folder or _default_cache(), Output.of(given)
    study = load_study(given)
    said.text(str(study))
    report = evaluation.evaluate_study(
        study,
        paper=evaluation.PaperOptions(
            preset=given.preset,
            encoder=given.encoder,
            ablations=given.ablations,
            reference=given.reference is not None,
        ),
        split=sizes_of_split(given) or None,
        n_repeats=given.n_repeats,
        baseline=given.baseline,
        inspect=given.inspect,
        cache_folder=cache_folder,
        random_state=given.random_state,
        n_jobs=given.n_jobs,
        verbose=int(sys.stderr.isatty() and not given.quiet),
    )
    report.command = f"{ctx.find_root().command_path} {shlex.join(ctx.obj)}"
    saved = report.save(given.out)
    said.text(f"\n{report}\n\n{_about_cache(cache_folder)}")
    print(f"The report is {saved}")
    return 0


def _about_cache(folder: Path) -> str:
    """Say where the fits lie, and how much there is of them."""
    sizes = [p.stat().st_size for p in folder.rglob("*") if p.is_file()]
    return (
        f"Finished fits are kept in {folder} ({counted(len(sizes), 'file')}, "
        f"{sum(sizes) / 1e6:.1f} MB), for the same command and others on the same "
        "study; the folder may be deleted."
    )
