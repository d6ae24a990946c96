"""The command ``molge``: what its commands share, errors, exit codes, threads.

A module of this room is a command, of which `command` is run. None imports anything
heavy when it is imported, so that help and completion are quick, and a search does not
wait for torch.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from sklearn_molge._command._options import Command, Examples
from sklearn_molge._utils.messages import printable

__all__ = ["main"]

# As they are listed: from files to answers.
_COMMANDS = (
    *("fetch", "describe", "convert", "train", "index", "search", "serve"),
    *("evaluate", "audit", "verify", "completion"),
)
_GOES_ON = ("fetch", "index", "evaluate")
_EXAMPLES = """
molge train --data path/to/lincs --out model.molge
molge index --model model.molge --library vendor.sdf --out index
molge search --index index --de results.csv --out answer.html
"""
# What a user can mend; anything else is our fault, and shows where it happened.
_USER_ERRORS = (ValueError, OSError, ImportError)
_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


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
    is_script = Path(sys.argv[0]).stem == "molge"
    program = "molge" if is_script else "python -m sklearn_molge"
    _limit_threads()
    as_before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_, **__: f"warning: {_line(message)}\n"
    try:
        with _any_letters(sys.stdout), _any_letters(sys.stderr):
            return _run(argv, program)
    finally:
        warnings.formatwarning = as_before


@contextmanager
def _any_letters(stream: Any) -> Iterator[None]:
    """Escape letters that the terminal's encoding lacks, instead of failing on them."""
    if getattr(stream, "reconfigure", None) is None:  # closed, or no stream of Python's
        yield
        return
    errors = stream.errors
    stream.reconfigure(errors="backslashreplace")
    try:
        yield
    finally:
        with suppress(OSError, ValueError):  # what is left to write may not be written
            stream.reconfigure(errors=errors)


def _run(argv: list[str], program: str) -> int:
    name = next((arg for arg in argv if arg in _COMMANDS), "")
    try:
        code = _molge.main(
            argv,
            prog_name=program,
            complete_var="_MOLGE_COMPLETE",
            standalone_mode=False,
            obj=argv,
        )
        if sys.stdout is not None:  # None where it is closed
            sys.stdout.flush()
        return code or 0
    except click.Abort:
        goes_on = " The same command goes on from here." if name in _GOES_ON else ""
        print(f"Interrupted.{goes_on}", file=sys.stderr)
        return 130
    except click.UsageError as error:
        where = program if error.ctx is None else error.ctx.command_path
        said = f"{_line(error.format_message())} Try {where} --help."
        print(f"{where}: error: {said}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # of `molge ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except _USER_ERRORS as error:
        if (getattr(error, "name", None) or "").startswith("sklearn_molge"):
            raise  # an ImportError of our own modules is no missing extra
        if "--traceback" in argv:
            traceback.print_exc()
        print(f"{program} {name}: error: {_line(error)}", file=sys.stderr)
        return 2


def _line(message: object) -> str:
    """Write a message in one line, without what a terminal would obey."""
    return " ".join(printable(str(message)).split())


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


class _Commands(Examples, click.Group):
    """The commands, each imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = import_module(f"sklearn_molge._command.{cmd_name}")
        return module.command


@click.group(
    cls=_Commands,
    examples=_EXAMPLES,
    context_settings={"max_content_width": 88},
    no_args_is_help=False,
)
@click.version_option(version("sklearn-molge"), message="sklearn-molge %(version)s")
def _molge() -> None:
    """Rank molecules by the expression profiles that they induce."""
