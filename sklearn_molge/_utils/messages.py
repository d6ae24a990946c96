"""Lists in messages: the first few, and how many more there are."""

from collections.abc import Callable, Iterable
from typing import TypeVar

__all__ = ["N_SHOWN", "first_few", "first_few_at", "shortened"]

N_SHOWN = 20
# Of a longer text a message shows the beginning.
_MAX_TEXT = 100

T = TypeVar("T")


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
