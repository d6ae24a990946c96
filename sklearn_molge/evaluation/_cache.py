"""Results on disk, so that a killed study goes on where it was."""

import os
from pathlib import Path
from pickle import PicklingError
from typing import Any

import cloudpickle
import joblib

from sklearn_molge._utils.identity import describe

__all__ = ["ResultCache"]


class ResultCache:
    """Results of tasks in a folder, each in a file named by what it depends on.

    A file is written to a second name first and then renamed, so that a kill leaves
    a whole file or none. They are pickles: opening a folder from a source that is not
    trusted runs its code.

    Parameters
    ----------
    folder : path-like
        Made if it is not there.
    """

    def __init__(self, folder: Any):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def path(self, kind: str, *parts: Any) -> Path:
        """Return the file of a result that depends on `parts`."""
        return self.folder / f"{kind}-{joblib.hash(describe(parts))}.joblib"

    def has(self, path: Path) -> bool:
        """Whether the result is there."""
        return path.exists()

    def load(self, path: Path) -> Any:
        """Read a result.

        Raises
        ------
        ValueError
            If the file cannot be read.
        """
        try:
            return joblib.load(path)
        except Exception as error:
            raise ValueError(
                f"cache_folder: {path} cannot be read ({type(error).__name__}: "
                f"{error}); remove it to compute it again."
            ) from error

    def save(self, path: Path, value: Any) -> None:
        """Write a result."""
        partial = path.with_suffix(f".{os.getpid()}.part")
        try:
            joblib.dump(value, partial)
        except (PicklingError, AttributeError, TypeError):  # a function without a name
            partial.write_bytes(cloudpickle.dumps(value))
        os.replace(partial, path)
