"""Where the profiles of a study are put while they are read: memory, or a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike, fspath
from pathlib import Path
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

__all__ = ["ProfileStore"]


class ProfileStore:
    """Arrays of float32 in memory, or memory-mapped files.

    Parameters
    ----------
    path : path-like or None
        The file of the treated profiles; None is memory.

    Raises
    ------
    ValueError
        If `path` does not end in ``.npy``.
    FileNotFoundError
        If its folder does not exist.
    """

    def __init__(self, path: str | PathLike[str] | None):
        self.path = None if path is None else Path(path)
        if self.path is None:
            return
        if self.path.suffix != ".npy":
            raise ValueError(
                f"mmap_path must be the path of a .npy file, or None. "
                f"Got {fspath(self.path)!r}."
            )
        if not self.path.parent.is_dir():
            raise FileNotFoundError(f"There is no folder {str(self.path.parent)!r}.")

    def path_of(self, name: str) -> Path | None:
        """Return the file of an array: ``x.npy``, or ``x.name.npy``."""
        if self.path is None or not name:
            return self.path
        return self.path.with_suffix(f".{name}.npy")

    @contextmanager
    def fill(
        self, shape: tuple[int, int], name: str = ""
    ) -> Iterator[list[NDArray[np.float32]]]:
        """Give an array to fill, in a list; afterwards the list holds the result.

        A file has its name only when it is whole, and is read-only then.
        """
        path = self.path_of(name)
        if path is None or 0 in shape:  # an empty file cannot be mapped
            yield [np.empty(shape, dtype=np.float32)]
            return
        draft = path.with_name(f".{path.name}.{uuid4().hex}.part")
        try:
            mapped = np.lib.format.open_memmap(draft, "w+", np.float32, shape)
            filled: list[NDArray[np.float32]] = [mapped]
            yield filled
            mapped.flush()
            draft.replace(path)
            filled[0] = np.load(path, mmap_mode="r")
        finally:
            draft.unlink(missing_ok=True)
