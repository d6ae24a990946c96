"""The libraries that an index holds, known again by their rows."""

import warnings
from dataclasses import dataclass, field
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from sklearn_molge.exceptions import LibraryWarning
from sklearn_molge.library._file import Batch, IterableSource, Source
from sklearn_molge.library._store import VectorStore

__all__ = [
    "Library",
    "beginning_of",
    "check_libraries",
    "check_unfinished",
    "is_complete",
    "row_digests",
    "warn_of_known",
]

_COMPARED = 1000  # rows that are compared at a time with those that are there


@dataclass(frozen=True)
class Library:
    """A library that is in a store, as far as it was read.

    Attributes
    ----------
    library, n_rows : int
        Its number, and its rows.
    source : str
        Its fingerprint.
    digest : int
        The sum of its `row_digests`.
    head : list of int
        The number of rows of its first batch, and their sum: by these most other
        libraries are told from it without being read to the end.
    counts : dict of str to int
        What its rows were.
    """

    library: int = -1
    n_rows: int = 0
    source: str = ""
    digest: int = 0
    head: list[int] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)


def check_libraries(progress: dict | None) -> None:
    """Refuse a progress that no fit has written.

    Raises
    ------
    KeyError, TypeError, ValueError
        If it is one.
    """
    if progress is None:
        return
    libraries = [Library(**told) for told in (progress["begun"], *progress["held"])]
    numbers = [progress["n_skipped"], progress["library"], int(progress["done"])]
    for library in libraries:
        head, counts = library.head, library.counts.values()
        numbers += [library.n_rows, library.digest, *head, *counts]
    if any(type(n) is not int or n < 0 for n in numbers):
        raise ValueError("numbers of rows must be counts")


def row_digests(batch: Batch) -> NDArray[np.uint64]:
    """Hash each row with its number.

    Their sum, modulo 2**64, tells a library, and each beginning of one, from others,
    however it is cut into batches.
    """
    rows = range(batch.first_row, batch.first_row + len(batch))
    columns = [values.tolist() for values in batch.columns.values()]
    entries = zip(
        rows, batch.smiles.tolist(), batch.names.tolist(), *columns, strict=True
    )
    header = blake2b(repr(list(batch.columns)).encode(), digest_size=8)
    hashes = bytearray()
    for row in entries:
        digest = header.copy()
        digest.update(_bytes_of(row))
        hashes += digest.digest()
    return np.frombuffer(hashes, dtype="<u8").astype(np.uint64)


def _bytes_of(row: tuple) -> bytes:
    try:
        return repr(row).encode("utf-8", "surrogatepass")
    except Exception:  # of an object that cannot be written
        return repr((row[0], *(type(value).__name__ for value in row[1:]))).encode()


def beginning_of(store: VectorStore, source: Source) -> tuple[Library | None, bool]:
    """Find the longest library of a store with which `source` begins, to the byte.

    Returns
    -------
    library : Library or None
    is_all : bool
        Whether `source` has no other rows.
    """
    open_ones = [Library(**known) for known in (store.progress or {}).get("held", [])]
    found: Library | None = None
    n_done, digest = 0, np.uint64(0)
    if not open_ones:
        return None, False
    for batch in getattr(source, "look", source.iter_batches)(_COMPARED):
        first, n_done = n_done, n_done + len(batch)
        if not open_ones:
            break
        sums = np.cumsum(np.append(digest, row_digests(batch)))  # modulo 2**64
        digest = sums[-1]

        def agrees(n_rows: int, known: int, first=first, sums=sums) -> bool:
            is_here = first < n_rows < first + len(sums)
            return not is_here or int(sums[n_rows - first]) == known

        alike = [
            known
            for known in open_ones
            if agrees(*known.head) and agrees(known.n_rows, known.digest)
        ]
        ended = [known for known in alike if known.n_rows <= n_done]
        open_ones = [known for known in alike if known.n_rows > n_done]
        found = max(ended, key=lambda known: known.n_rows, default=found)
        if not open_ones and (found is None or found.n_rows < n_done):
            break
    return found, found is not None and found.n_rows == n_done


def is_complete(store: VectorStore, source: Source) -> bool:
    """Whether `source` is the last library that was added, and all of it is there."""
    known = store.progress
    if not (known and known["done"] and _is_last(store, source)):
        return False
    # Others are known by more than their first rows.
    return not isinstance(source, IterableSource) or beginning_of(store, source)[1]


def _is_last(store: VectorStore, source: Source) -> bool:
    progress = store.progress
    return bool(progress and progress["begun"]["source"] == source.fingerprint())


def check_unfinished(store: VectorStore, source: Source) -> bool:
    """Whether the last library is not finished.

    Raises
    ------
    ValueError
        If it is not, and `source` is another one.
    """
    progress = store.progress
    if progress is None or progress["done"]:
        return False
    if not _is_last(store, source):
        raise ValueError(
            f"X: {store.folder or 'the index'} holds "
            f"{progress['begun']['n_rows']:,} rows of a library that is not finished, "
            "and X is another one. Give that library to go on with it."
        )
    return True


def warn_of_known(store: VectorStore, known: Library, is_all: bool) -> None:
    """Say which rows of a library are there already."""
    rows = f"all of its {known.n_rows:,}" if is_all else f"its first {known.n_rows:,}"
    rest = "nothing is added" if is_all else "only the rows behind them are added"
    removed = "; what was removed stays removed"
    warnings.warn(
        f"X: {rows} rows are in {store.folder or 'the index'} already, as library "
        f"{known.library}: {rest}{removed if store.n_active < store.n_rows else ''}.",
        LibraryWarning,
        stacklevel=2,
    )
