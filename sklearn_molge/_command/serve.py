"""``molge serve``: the page in a browser."""

from __future__ import annotations

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
from sklearn_molge._command._study import (
    check_paths,
    check_study,
    load_study,
    of_changes,
    study_options,
)
from sklearn_molge._utils.optional import import_optional

__all__ = ["command"]

_EXAMPLES = """
molge serve --index index
molge serve --index index --host 0.0.0.0 --token "$(openssl rand -hex 16)"
"""


@make_command(examples=_EXAMPLES)
@option(
    "Page",
    "--index",
    type=PATH,
    required=True,
    metavar="DIR",
    help="what molge index wrote",
)
@option(
    "Page",
    "--host",
    default="127.0.0.1",
    help="address to listen on; 0.0.0.0 lets other machines in",
)
@option("Page", "--port", type=click.IntRange(0, 65535), default=8000)
@option(
    "Page",
    "--token",
    envvar="MOLGE_TOKEN",
    metavar="TEXT",
    help="what visitors must know, also read from MOLGE_TOKEN",
)
@option(
    "Page",
    "--uploads",
    type=PATH,
    metavar="DIR",
    help="keep what was read of uploaded files there, so that links to answers outlive "
    "the server; the oldest are removed",
)
@study_options(required=False)
@output(json=False, quiet=False)
def command(given: Any) -> int:
    """Show a page on which molecules are searched.

    Genes are pasted there, or files dropped; it is there until Ctrl-C.

    With --data it also shows the measured profiles that are nearest to a molecule's.
    """
    check_paths("--index", [given.index])
    if given.data:
        check_study(given)
    for module in ("fastapi", "uvicorn"):
        import_optional(module, extra="app", needed_by="molge serve")
    from sklearn_molge.app import serve

    options: dict[str, Any] = {"uploads": given.uploads}
    if given.data:
        options["study"] = of_changes(load_study(given), Output())
    serve(given.index, host=given.host, port=given.port, token=given.token, **options)
    return 0
