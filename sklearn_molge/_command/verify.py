"""``molge verify``: whether an index is as it was written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sklearn_molge._command._options import Output, output
from sklearn_molge._command._options import command as make_command

__all__ = ["command"]


@make_command(examples="molge verify index")
@click.argument("folder", type=click.Path(path_type=Path))
@output(quiet=False)
def command(given: Any) -> int:
    """Compare the folder of an index with its checksums.

    Reads all that an index of molecules has stored, and compares it with the checksums
    that were written with it. The exit code is 1 where a part is damaged.
    """
    from sklearn_molge.exceptions import CorruptFileError
    from sklearn_molge.library import verify_index

    said = Output.of(given)
    try:
        checked = verify_index(given.folder)
    except CorruptFileError as error:
        said.result(f"damaged: {error}", {"ok": False, "damaged": str(error)})
        return 1
    lines = [f"{n:>14,} {what}" for what, n in checked.items()]
    lines.append(f"{given.folder}: all as it was written.")
    said.result("\n".join(lines), {"ok": True, "checked": checked})
    return 0
