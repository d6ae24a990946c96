"""Replace a file whole: a reader, or a kill, meets the old one or the new one."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

__all__ = ["is_draft", "replace_bytes", "replacing", "sync"]

_SUFFIX = ".part"


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a draft, which takes the name `path` when the block ends.

    The draft lies in the same folder and does not exist yet. It reaches the disk
    before it gets its name, and is removed where the block raises. After a kill it
    stays: :func:`is_draft` knows it by its name.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    """
    final = Path(path)
    if not final.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(final.parent)!r}.")
    draft = final.with_name(f".{final.name}.{uuid4().hex}{_SUFFIX}")
    try:
        yield draft
        sync(draft)
        os.replace(draft, final)
        sync(final.parent)
    finally:
        draft.unlink(missing_ok=True)


def replace_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` in the place of a file, at once and durably."""
    with replacing(path) as draft:
        draft.write_bytes(content)


def is_draft(path: Path) -> bool:
    """Whether a file is one that `replacing` left behind when it was killed."""
    return path.name.startswith(".") and path.name.endswith(_SUFFIX)


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    if path.is_dir() and sys.platform == "win32":
        return  # where a folder cannot be opened
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
