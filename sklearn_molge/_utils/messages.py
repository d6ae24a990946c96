"""Lists and counts in messages: the first few, and how many more there are."""

import re
from collections.abc import Callable, Collection, Iterable
from difflib import get_close_matches
from typing import TypeVar

__all__ = [
    "N_SHOWN", "counted", "first_few", "first_few_at", "printable", "refuse_unknown",
    "shortened",
]  # fmt: skip

N_SHOWN = 20
# Of a longer text a message shows the beginning.
_MAX_TEXT = 100
# A terminal obeys control characters, and a text of data may hold any.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

T = TypeVar("T")


def counted(n: int, what: str) -> str:
    """Write a number of things, with an s where they are not one.

    Examples
    --------
    >>> from sklearn_molge._utils.messages import counted
    >>> counted(1, "cell line"), counted(1200, "drug")
    ('1 cell line', '1,200 drugs')
    """
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def first_few(
    values: Iterable[T], *, write: Callable[[T], str] = repr, n: int = N_SHOWN
) -> str:
    """Write the first `n` values, and say how many more there are.

    Examples
    --------
    >>> from sklearn_molge._utils.messages import first_few
    >>> first_few(["A375", "HT29", "MCF7"], n=2)
    "'A375', 'HT29' and 1 more"
    """
    listed = list(values)
    shown = ", ".join(write(value) for value in listed[:n])
    more = len(listed) - n
    return f"{shown} and {more:,} more" if more > 0 else shown


def first_few_at(
    indices: Iterable[int],
    values: Iterable[T],
    *,
    write: Callable[[T], str] = repr,
    n: int = N_SHOWN,
) -> str:
    """Write the first `n` values with their indices, and how many more there are.

    Examples
    --------
    >>> from sklearn_molge._utils.messages import first_few_at
    >>> first_few_at([3, 7], ["CCO", "C1CC"])
    "index 3: 'CCO', index 7: 'C1CC'"
    """

    def write_at(pair: tuple[int, T]) -> str:
        return f"index {pair[0]}: {write(pair[1])}"

    return first_few(zip(indices, values, strict=True), write=write_at, n=n)


def shortened(value: object) -> str:
    """Write a value as `repr` does, of a long text its beginning and its length.

    Examples
    --------
    >>> from sklearn_molge._utils.messages import shortened
    >>> shortened("CCO")
    "'CCO'"
    >>> shortened("C" * 5000)[-28:]
    "CCC...' of 5,000 characters"
    """
    if not isinstance(value, str) or len(value) <= _MAX_TEXT:
        return repr(value)
    return f"{value[:_MAX_TEXT] + '...'!r} of {len(value):,} characters"


def refuse_unknown(
    of: str, names: Iterable[str], allowed: Collection[str], *, prefix: str = ""
) -> None:
    """Raise a TypeError for the first name that is none of those allowed.

    Parameters
    ----------
    of : str
        What has parameters, such as the name of a function.
    names : iterable of str
        Names that were given.
    allowed : collection of str
        Names that there are.
    prefix : str, default=""
        What stands before each name in the message.

    Examples
    --------
    >>> from sklearn_molge._utils.messages import refuse_unknown
    >>> try:
    ...     refuse_unknown("draw_split", ["tset_drugs"], ["test_drugs", "val_drugs"])
    ... except TypeError as error:
    ...     print(error)
    draw_split has no parameter 'tset_drugs'. The nearest is 'test_drugs'.
    """
    for name in names:
        if name not in allowed:
            nearest = get_close_matches(name, allowed, n=1, cutoff=0.0)
            said = f" The nearest is {prefix + nearest[0]!r}." if nearest else ""
            raise TypeError(f"{of} has no parameter {prefix + name!r}.{said}")


def printable(text: str) -> str:
    r"""Write out the control characters of a text, but tabs and ends of lines.

    Examples
    --------
    >>> from sklearn_molge._utils.messages import printable
    >>> print(printable("a\x1b[2J\nb"))
    a\x1b[2J
    b
    """
    return _CONTROL.sub(lambda found: repr(found[0])[1:-1], text)
