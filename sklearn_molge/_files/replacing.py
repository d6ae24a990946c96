"""Replace a file whole: a reader, or a kill, meets the old one or the new one."""

import errno
import hashlib
import os
import re
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

fcntl: Any
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

__all__ = [
    "alone_in",
    "is_draft",
    "remove_drafts",
    "replace_bytes",
    "replacing",
    "reserve",
    "sync",
]

_SUFFIX = ".part"
_DRAFT = re.compile(r"\..+\.[0-9a-f]{32}\.part", re.DOTALL)
# Most file systems take names of 255 bytes, and a draft's has 40 more than the file's.
_LONGEST_NAME = 255 - 40
# Where a draft cannot be locked, it is that of a dead writer after so many seconds.
_LONGEST_WRITE = 7 * 24 * 3600.0
_PROBE = bytes(1 << 20)
_ZEROS = bytes(1 << 24)
_CANNOT = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield the path of a draft, which takes the name `path` when the block ends.

    The draft lies in the same folder, and is empty at first. It reaches the disk
    before it gets its name, and is removed where the block raises, be it by Ctrl-C.
    After a kill it stays, and the next writer of the same file removes it: who writes
    holds a lock on the draft, which goes with the process. So two may write one file
    at once, and the last counts.

    A new file gets the rights of any new file, one that is replaced keeps its own. A
    symbolic link is replaced itself, never followed.

    Parameters
    ----------
    path : path-like
        The file; its folder must be there.

    Raises
    ------
    OSError
        If the file cannot be written, with `path` as its name and what became of the
        file there: the folder is missing or read-only, the file is a folder or
        write-protected, or the disk is full, whatever a library made of that.
    ValueError
        If `path` cannot be the name of a file.
    """
    final = Path(path)
    _check(final)
    remove_drafts(final)
    old = _rights(final)
    is_new = not os.path.lexists(final)
    state = "no file was written" if is_new else "the file there is as it was"
    draft, handle = _new_draft(final, 0o666 if old is None else old | stat.S_IRUSR)
    try:
        yield draft
        if old is not None:
            with suppress(PermissionError):  # where all files have the same rights
                draft.chmod(old)
        sync(draft)
        if fcntl is None:  # Windows renames no open file
            os.close(handle)
        os.replace(draft, final)
        state = "the new file is there, but may not outlive a loss of power"
        sync(final.parent)
    except OSError as error:
        if error.errno is None:
            _tell_full_disk(draft, final, state, error)
        elif error.filename in (None, str(draft)):
            raise _named(error, final, state) from error
        raise
    except Exception as error:
        _tell_full_disk(draft, final, state, error)
        raise
    finally:
        with suppress(OSError):
            os.close(handle)
        with suppress(OSError):  # as of a folder that is gone
            draft.unlink(missing_ok=True)


def replace_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Put `content` in the place of a file, at once and durably."""
    with replacing(path) as draft:
        draft.write_bytes(content)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let no other block of this kind run on a folder; the lock goes with the process.

    Raises
    ------
    BlockingIOError
        If one does. Where a file system has no locks, nobody is told.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        if _lock(handle, shared=False) is False:
            why = "another process or thread is writing there"
            raise _error(errno.EAGAIN, folder, why)
        yield
    finally:
        os.close(handle)


def is_draft(path: Path) -> bool:
    """Whether a file has the name of one that `replacing` writes."""
    return _DRAFT.fullmatch(path.name) is not None


def reserve(path: str | os.PathLike[str], n_bytes: int) -> None:
    """Make a file so long, with room on the disk for all of it.

    A write through a memory map to a part of a file for which there is no room ends
    the process. What lies behind the file's present end is zeros.

    Raises
    ------
    OSError
        If the disk is full, or the file larger than is allowed.
    """
    with open(path, "r+b") as file:
        present = file.seek(0, os.SEEK_END)
        if hasattr(os, "posix_fallocate") and n_bytes > present:
            try:
                os.posix_fallocate(file.fileno(), present, n_bytes - present)
                return
            except OSError as error:
                if error.errno not in _CANNOT:
                    raise
        while present < n_bytes:
            present += file.write(_ZEROS[: n_bytes - present])


def sync(path: Path) -> None:
    """Wait until a file, or the entries of a folder, are on the disk."""
    if path.is_dir() and sys.platform == "win32":
        return  # where a folder cannot be opened
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# The place


def _check(final: Path) -> None:
    """Refuse, before any work, what could not get its name at the end."""
    try:
        name = os.fsencode(final)
    except UnicodeEncodeError as error:
        raise ValueError(f"No file can be named {str(final)!r}: {error}") from error
    if b"\0" in name:
        raise ValueError(f"No file can be named {str(final)!r}: it holds a NUL.")
    if final.parent.exists() and not final.parent.is_dir():
        raise _error(errno.ENOTDIR, final.parent, f"{final.name!r} cannot lie in it")
    if not final.parent.is_dir():
        raise FileNotFoundError(f"There is no folder {str(final.parent)!r}.")
    if final.is_dir() and not final.is_symlink():
        raise _error(errno.EISDIR, final, "a file cannot take the place of a folder")
    if _rights(final) is not None and not os.access(final, os.W_OK):
        raise _error(errno.EACCES, final, "the file there is write-protected")


def _rights(final: Path) -> int | None:
    """Return the mode of the file that is there; None where there is none."""
    try:
        found = final.lstat().st_mode
    except FileNotFoundError:
        return None
    return stat.S_IMODE(found) if stat.S_ISREG(found) else None


# Drafts


def _beginning(final: Path) -> str:
    """Return what the drafts of a file, and of no other, begin with."""
    name = os.fsencode(final.name)
    if len(name) <= _LONGEST_NAME:
        return f".{final.name}."
    return f".{hashlib.sha256(name).hexdigest()}."


def _new_draft(final: Path, mode: int) -> tuple[Path, int]:
    """Make an empty draft, and hold a lock on it by an open handle."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    while True:
        draft = final.with_name(f"{_beginning(final)}{uuid4().hex}{_SUFFIX}")
        try:
            handle = os.open(draft, flags, mode & 0o777)
        except OSError as error:
            raise _named(error, final, "no file can be made there") from error
        is_swept = _lock(handle, shared=True) is False
        if not is_swept and os.fstat(handle).st_nlink:
            return draft, handle
        os.close(handle)  # another writer took it for abandoned


def _lock(handle: int, *, shared: bool) -> bool | None:
    """Lock a file without waiting; None where that cannot be done here.

    Writers share, so that HDF5, which locks as well, can read a file at once.
    """
    if fcntl is None:
        return None
    try:
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def remove_drafts(final: Path) -> None:
    """Remove the drafts of a file whose writers are dead."""
    start = _beginning(final)
    with suppress(OSError), os.scandir(final.parent) as entries:
        for entry in entries:
            name = entry.name
            if (
                name.startswith(start)
                and _DRAFT.fullmatch(name)
                and len(name) == len(start) + 32 + len(_SUFFIX)
                and entry.is_file(follow_symlinks=False)
            ):
                _remove_if_abandoned(Path(entry.path))


def _remove_if_abandoned(draft: Path) -> None:
    with suppress(OSError):
        handle = os.open(draft, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0))
        try:
            is_free = _lock(handle, shared=False)
            if is_free is None:
                age = time.time() - os.fstat(handle).st_mtime
                is_free = age > _LONGEST_WRITE
        finally:
            if fcntl is None:
                os.close(handle)  # Windows removes no open file
        try:
            if is_free:
                draft.unlink()
        finally:
            if fcntl is not None:
                os.close(handle)


# Errors


def _error(number: int, path: Path, why: str) -> OSError:
    return OSError(number, f"{os.strerror(number)}; {why}", str(path))


def _named(error: OSError, final: Path, state: str) -> OSError:
    assert error.errno is not None
    return _error(error.errno, final, state)


def _tell_full_disk(draft: Path, final: Path, state: str, error: Exception) -> None:
    """Raise where an error of a library may come from a disk that takes no more.

    Most of them keep no number of the operating system's: so ask it again.
    """
    try:
        with open(draft, "ab") as file:
            file.write(_PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as found:
        raise _named(found, final, state) from error
