"""What options of all commands have in common: groups, several values, kinds, words."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click

from sklearn_molge._utils.messages import printable

__all__ = [
    "NAMES",
    "PATH",
    "SHARE",
    "Command",
    "Decorator",
    "Examples",
    "Output",
    "check_out",
    "command",
    "jobs",
    "option",
    "options",
    "output",
    "plain",
    "seed",
]

PATH = click.Path(path_type=Path)


class Examples:
    """A command whose help ends with `examples`, as they are to be typed."""

    def __init__(self, *args: Any, examples: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples.strip().splitlines()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples."""
        with formatter.section("Examples"):
            formatter.write("".join(f"  {line}\n" for line in self.examples))


class Command(Examples, click.Command):
    """A command that gets its options in one namespace, and helps in groups."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Let an option take all values up to the next option."""
        several = {flag for p in self.params if p.multiple for flag in p.opts}
        return super().parse_args(ctx, list(_a_flag_each(args, several)))

    def invoke(self, ctx: click.Context) -> Any:
        """Call the function with the options."""
        assert self.callback is not None
        try:
            return ctx.invoke(self.callback, SimpleNamespace(**ctx.params))
        except KeyboardInterrupt:  # for which click writes an empty line
            raise click.Abort from None

    def format_options(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the options by their groups."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                title = getattr(param, "group", "Other options")
                groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def _a_flag_each(args: Sequence[str], several: Iterable[str]) -> Iterator[str]:
    flag, n_values = "", 0
    for arg in args:
        if arg.startswith("-") and arg != "-":
            flag, n_values = arg if arg in several else "", -1
        if flag and n_values > 0:
            yield flag
        yield arg
        n_values += 1


class _Option(click.Option):
    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


Decorator = Callable[[Callable], Callable]


def command(*, examples: str) -> Decorator:
    """Make a command of a function of one namespace, which returns an exit code."""
    return click.command(cls=Command, examples=examples)


def option(group: str, *names: str, **settings: Any) -> Decorator:
    """Declare an option in the group of the help that is called `group`."""
    settings.setdefault("show_default", settings.get("default") is not None)
    return click.option(*names, cls=_Option, group=group, **settings)


def options(*decorators: Decorator) -> Decorator:
    """Join options, in their order."""

    def decorate(function: Callable) -> Callable:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


# What is the same in all commands

seed = option(
    "Run", "--random-state", "--seed", type=click.IntRange(min=0), default=0,
    metavar="N", help="seed of all that is drawn",
)  # fmt: skip
jobs = option(
    "Run", "--n-jobs", "--jobs", type=click.IntRange(min=-1), metavar="N",
    callback=lambda ctx, param, value: _check_jobs(value),
    help="processes, -1 for one a core; same numbers. Each has one thread, or "
    "OMP_NUM_THREADS of them",
)  # fmt: skip
_quiet = option("Run", "--quiet", is_flag=True, help="no progress, no tables")
_traceback = option(
    "Run", "--traceback", is_flag=True, help="show where an error happened"
)
_json = option("Run", "--json", "as_json", is_flag=True, help="write JSON to stdout")


def output(*, json: bool = True, quiet: bool = True) -> Decorator:
    """Declare what a command says, and how."""
    said = [_json] * json + [_quiet] * quiet
    return options(*said, _traceback)


def _check_jobs(value: int | None) -> int | None:
    if value == 0:
        raise click.BadParameter("must be at least 1, or -1 for all. Got '0'")
    return value


class _Share(click.ParamType):
    """A share, a number, or names."""

    name = "share|n|names"

    def convert(self, value: Any, param: Any, ctx: Any) -> float | int | list[str]:
        for kind in (int, float):
            try:
                number = kind(value)
            except ValueError:
                continue
            if number < 0 or number != number or (kind is float and number >= 1):
                break
            return number
        else:
            return NAMES.convert(value, param, ctx)
        self.fail(
            "must be a share in [0, 1), a number of at least 0, or names. "
            f"Got {value!r}",
            param,
            ctx,
        )


class _Names(click.ParamType):
    """Names with commas between them."""

    name = "a,b,..."

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:
        names = [name.strip() for name in value.split(",") if name.strip()]
        if not names:
            self.fail(f"must be names, joined by ','. Got {value!r}", param, ctx)
        return names


SHARE, NAMES = _Share(), _Names()


# What is said, and where to


@dataclass(frozen=True)
class Output:
    """Where a command says what: results on stdout, what it is about on stderr."""

    quiet: bool = False
    as_json: bool = False

    @classmethod
    def of(cls, given: Any) -> Output:
        """Take what the user gave."""
        return cls(getattr(given, "quiet", False), getattr(given, "as_json", False))

    def step(self, text: str) -> None:
        """Say what is being done, in a line."""
        if not self.quiet:
            print(printable(text), file=sys.stderr, flush=True)

    def text(self, text: str) -> None:
        """Say what a person reads, and a program that asked for JSON does not."""
        if not (self.quiet or self.as_json):
            print(printable(text), flush=True)

    def result(self, text: str, facts: dict[str, Any]) -> None:
        """Say what came of it: a line, or all of it as JSON."""
        if self.as_json:
            text = json.dumps(plain(facts), indent=2, allow_nan=False)
        print(printable(text), flush=True)


def plain(value: Any) -> Any:
    """Write what JSON has no words for by those that it has."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and (value != value or abs(value) == float("inf")):
        return None
    known = value is None or isinstance(value, str | int | float | bool)
    return value if known else str(value)


def check_out(path: Path, *, force: bool, flag: str = "--out") -> None:
    """Refuse, before any work, a file that is there or cannot be made.

    Raises
    ------
    OSError
    """
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{flag}: there is no folder {path.parent}.")
    if path.is_dir():
        raise IsADirectoryError(f"{flag}: {path} is a folder.")
    if os.path.lexists(path) and not force:
        raise FileExistsError(f"{flag}: {path} is there; --force replaces it.")
