"""The manifest of an index's folder: what of its files counts."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

__all__ = [
    "check_files",
    "has_manifest",
    "one_writer",
    "read_manifest",
    "refuse_used",
    "replace_file",
    "write_manifest",
]

FORMAT = "sklearn_molge.MoleculeIndex"
VERSION = 1
_MANIFEST = "manifest.json"
_LOCK = "lock"
_KEYS = {
    *("format", "version", "key", "n_components", "dtype", "metric", "identity"),
    *("note", "has_ids", "largest_norm", "n_rows", "files"),
}


def refuse_used(path: Path) -> None:
    """Raise where a folder holds anything but what a killed creation left."""
    if path.exists() and not path.is_dir():
        raise FileExistsError(f"path must be a folder. {path} is a file.")
    left = {_LOCK, f"{_MANIFEST}.partial"}
    found = sorted({p.name for p in path.iterdir()} - left) if path.exists() else []
    if found:
        raise FileExistsError(
            f"path must be a new or an empty folder. {path} holds {found[:5]}."
        )


def replace_file(path: Path, content: bytes) -> None:
    """Put a file in the place of another at once, and durably."""
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    if sys.platform != "win32":  # where a folder can be opened, its entries need it
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_manifest(folder: Path, manifest: dict) -> None:
    replace_file(folder / _MANIFEST, json.dumps(manifest, indent=1).encode())


def has_manifest(folder: Path) -> bool:
    """Whether a folder is that of an index, perhaps a damaged one."""
    return (folder / _MANIFEST).is_file()


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If it is not one of ours.
    """
    path = folder / _MANIFEST
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} is not the folder of a MoleculeIndex: it has no {_MANIFEST}."
        )
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is damaged: it is not JSON ({error}).") from error
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ValueError(f"{path} is not the manifest of a MoleculeIndex.")
    if manifest.get("version") != VERSION:
        raise ValueError(
            f"{path} is of version {manifest.get('version')}; this release of "
            f"sklearn_molge reads version {VERSION}."
        )
    missing = sorted(_KEYS - manifest.keys())
    if missing:
        raise ValueError(f"{path} is damaged: it lacks {missing}.")
    return manifest


def check_files(folder: Path, sizes: dict[str, int]) -> None:
    """Compare files with the sizes in the manifest; longer ones were being written.

    Raises
    ------
    FileNotFoundError, ValueError
        If a file is missing or shorter.
    """
    for name, size in sizes.items():
        path = folder / name
        if not path.exists():
            if size == 0:
                continue
            raise FileNotFoundError(
                f"{path} is missing; the index was written with {size:,} bytes of it."
            )
        found = path.stat().st_size
        if found < size:
            raise ValueError(
                f"{path} is cut: it has {found:,} bytes, and the index was written "
                f"with {size:,}."
            )


@contextmanager
def one_writer(folder: Path, known: dict) -> Iterator[None]:
    """Hold the folder for a write, unless another process holds or has changed it.

    A killed process holds nothing. On Windows, which lacks such a lock, two writes at
    the same moment are not noticed; one after the other are.

    Raises
    ------
    BlockingIOError
        If another process is writing.
    ValueError
        If the manifest is not the `known` one any more.
    """
    with open(folder / _LOCK, "ab") as lock:
        if sys.platform != "win32":
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(
                    f"Another process is writing to {folder}."
                ) from error
        if read_manifest(folder) != known:
            raise ValueError(
                f"{folder} was changed by another process since it was opened here. "
                "Open it again."
            )
        yield
