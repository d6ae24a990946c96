"""Which stretches of an axis to read for the positions wanted of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["PAGE_BYTES", "Block", "Selector", "as_slice", "cover", "grid"]

# A contiguous matrix has no chunks; its columns are looked at in pages of a disk.
PAGE_BYTES = 2**12

Selector = slice | NDArray[np.intp]


@dataclass(frozen=True)
class Block:
    """Stretches of one axis that lie side by side in the buffer.

    `spans` are their bounds in the file, `size` their total length; what is wanted
    of them lies at `inside` in the buffer and goes to `target` of the result.
    """

    spans: list[tuple[int, int]]
    size: int
    inside: Selector
    target: Selector


def cover(
    positions: NDArray[np.intp], *, unit: int, length: int, max_size: int, max_gap: int
) -> list[Block]:
    """Cover positions by stretches of whole units, and group these into blocks.

    A stretch may run on through at most `max_gap` unwanted places.
    """
    order = np.argsort(positions, kind="stable")
    ordered = positions[order]
    firsts, lasts = _stretches(ordered // unit, max_size // unit, max_gap // unit)
    starts = firsts * unit
    stops = np.minimum((lasts + 1) * unit, length)
    ends = np.cumsum(stops - starts)
    blocks: list[Block] = []
    begin = done = 0
    while begin < len(ends):
        end = max(int(np.searchsorted(ends, done + max_size, "right")), begin + 1)
        done = ends[end - 1]
        low, high = np.searchsorted(ordered, [starts[begin], stops[end - 1]])
        # In the order of the result, so that a lone block fills it as one slice.
        target = np.sort(order[low:high])
        blocks.append(_block(starts[begin:end], stops[begin:end], positions, target))
        begin = end
    return blocks


def _stretches(
    units: NDArray[np.intp], max_units: int, max_gap: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return first and last of each run of sorted units, of at most `max_units`."""
    max_units = max(max_units, 1)
    # A gap as long as a stretch would leave a stretch of which nothing is wanted.
    gaps = np.diff(units) > 1 + min(max_gap, max_units - 1)
    firsts = units[np.r_[True, gaps]]
    lasts = units[np.r_[gaps, True]]
    n_parts = (lasts - firsts) // max_units + 1
    number = np.arange(n_parts.sum()) - np.repeat(np.cumsum(n_parts) - n_parts, n_parts)
    firsts = np.repeat(firsts, n_parts) + number * max_units
    return firsts, np.minimum(firsts + max_units - 1, np.repeat(lasts, n_parts))


def _block(
    starts: NDArray[np.intp],
    stops: NDArray[np.intp],
    positions: NDArray[np.intp],
    target: NDArray[np.intp],
) -> Block:
    sizes = stops - starts
    places = np.cumsum(sizes) - sizes
    wanted = positions[target]
    span = np.searchsorted(starts, wanted, side="right") - 1
    return Block(
        spans=list(zip(starts.tolist(), stops.tolist(), strict=True)),
        size=int(sizes.sum()),
        inside=as_slice(wanted - starts[span] + places[span]),
        target=as_slice(target),
    )


def as_slice(positions: NDArray[np.intp]) -> Selector:
    """Return a slice where it says the same: a slice is a view, a list a copy."""
    if np.all(np.diff(positions) == 1):
        return slice(int(positions[0]), int(positions[-1]) + 1)
    return positions


def grid(rows: Selector, columns: Selector) -> tuple:
    if isinstance(rows, slice) or isinstance(columns, slice):
        return rows, columns
    return np.ix_(rows, columns)
