"""``molge fetch``: the files of a public release."""

from __future__ import annotations

import sys
from typing import Any

import click

from sklearn_molge._command._options import (
    PATH,
    Output,
    option,
    output,
)
from sklearn_molge._command._options import (
    command as make_command,
)

__all__ = ["command"]

_EXAMPLES = """
molge fetch LINCS2020 --list
molge fetch GSE70138 --level 5 --folder data
"""


@make_command(examples=_EXAMPLES)
@click.argument("release", type=click.Choice(["GSE92742", "GSE70138", "LINCS2020"]))
@option(
    "Files",
    "--level",
    type=click.Choice(["3", "4", "5"]),
    default="5",
    help="3: log2 intensities, 4: z-scores of wells, 5: of signatures",
)
@option(
    "Files",
    "--no-controls",
    is_flag=True,
    help="leave the matrix of controls out, where it is a file of its own",
)
@option(
    "Files",
    "--list",
    "only_list",
    is_flag=True,
    help="show names and sizes, and fetch nothing",
)
@option(
    "Run",
    "--folder",
    type=PATH,
    metavar="DIR",
    help="where the files go, in lincs/RELEASE there (by default scikit-learn's folder "
    "of data, SCIKIT_LEARN_DATA or ~/scikit_learn_data)",
)
@option("Run", "--mirror", metavar="URL", help="address of a mirror of the release")
@option("Run", "--yes", is_flag=True, help="do not ask before the download")
@output()
def command(given: Any) -> int:
    """Download a level of a public LINCS release.

    Shows what comes, and asks where there is somebody to answer. Called again it goes
    on where it was stopped; every file is checked, and what is there and whole is kept.
    """
    from sklearn_molge.datasets import fetch_lincs, list_lincs_files

    chosen: dict[str, Any] = {
        "level": int(given.level),
        "controls": not given.no_controls,
        "base_url": given.mirror,
    }
    said = Output.of(given)
    files = list_lincs_files(given.release, **chosen)
    listed = files[["name", "gib", "purpose"]].to_string(
        index=False, float_format="{:.3f}".format, na_rep="?"
    )
    total = f"{files['gib'].sum():.1f} GiB in {len(files)} files"
    facts = {"release": given.release, "files": files.to_dict("records")}
    if given.only_list:
        said.result(f"{listed}\n{total}", facts)
        return 0
    said.step(f"{listed}\n{total}")
    if sys.stdin.isatty() and not given.yes:
        click.confirm("Fetch them?", default=True, abort=True, err=True)
    folder = fetch_lincs(
        given.release, **chosen, data_home=given.folder, progress=not given.quiet
    )
    said.result(f"The files are in {folder}", facts | {"folder": folder})
    return 0
