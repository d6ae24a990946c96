"""``molge completion``: the TAB key of a shell."""

from __future__ import annotations

from typing import Any

import click

from sklearn_molge._command._options import command as make_command
from sklearn_molge._command._options import output

__all__ = ["command"]

_EXAMPLES = """
molge completion bash > ~/.molge-complete.bash
"""


@make_command(examples=_EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@output(json=False, quiet=False)
@click.pass_context
def command(ctx: click.Context, given: Any) -> int:
    """Write what makes a shell complete commands, options and files.

    Source it in the shell's start file: of bash add ". ~/.molge-complete.bash" to
    ~/.bashrc, of zsh the like to ~/.zshrc; of fish write it to
    ~/.config/fish/completions/molge.fish.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(given.shell)
    assert kind is not None
    print(kind(ctx.find_root().command, {}, "molge", "_MOLGE_COMPLETE").source())
    return 0
