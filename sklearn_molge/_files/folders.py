"""Folders that results will go into, tried before the work that makes them."""

import os
import tempfile
from pathlib import Path

__all__ = ["make_folder"]


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make a folder where there is none, and find out whether it can be written to.

    Raises
    ------
    OSError
        If it cannot, or a file is in its place; the error names `path`.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except FileExistsError as error:
        raise NotADirectoryError(f"{folder} is a file, not a folder.") from error
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise type(error)(error.errno, why, str(folder)) from error
    return folder
