"""Pickles signed by this installation: those of others are named, not run.

A pickle calls whatever it names. So each that the library writes ends with a code
(HMAC-SHA256) of its bytes and a secret of the user, and is unpickled only where the
code is right, or where the caller says so. The secret lies in the user's folder for
data, readable by nobody else. A checksum behind the code tells damage from the hand of
somebody else.
"""

import hmac
import os
import pickle
import pickletools
import secrets
import stat
import sys
import warnings
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import cloudpickle
import platformdirs

from sklearn_molge._files.reading import reading
from sklearn_molge._files.replacing import replacing
from sklearn_molge.exceptions import CorruptFileError, UntrustedFileError

__all__ = [
    "check_signed",
    "dump_signed",
    "load_signed",
    "signature",
    "signing_key",
    "user_cache_folder",
]

_MARK = b"sklearn_molge-signed-2\n"
_CODE_BYTES, _CHECKSUM_BYTES = 32, 32
_END_BYTES = _CHECKSUM_BYTES + _CODE_BYTES
_SECRET_BYTES = 32


def user_cache_folder(name: str) -> Path:
    """Return a folder of this user for what can be computed again; it may not exist."""
    return platformdirs.user_cache_path("sklearn_molge") / name


def signing_key(purpose: str) -> bytes:
    """Return a key of this installation that may go to the workers of a call.

    They may have another home, or none. It is made of the secret and does not tell it,
    and signs nothing but the files of one purpose.
    """
    return hmac.digest(_secret(), purpose.encode(), "sha256")


def dump_signed(
    value, path: str | os.PathLike[str], *, key: bytes | None = None
) -> None:
    """Write a pickle that this installation will open; the file is whole or not there.

    What only cloudpickle can write, such as a lambda, is written by it. `key` is one of
    :func:`signing_key`; None is the installation's secret itself.
    """
    try:
        content = pickle.dumps(value, protocol=5)
    except (pickle.PicklingError, AttributeError, TypeError):
        content = cloudpickle.dumps(value, protocol=5)
    code = _code(content, key)
    with replacing(path) as draft, open(draft, "wb") as file:
        file.write(_MARK)
        file.write(content)
        file.write(code)
        file.write(_checksum(content, code))


def load_signed(
    path: str | os.PathLike[str],
    *,
    trust: bool = False,
    instead: str = "",
    key: bytes | None = None,
):
    """Unpickle a file that this installation wrote.

    Parameters
    ----------
    path : path-like
        What :func:`dump_signed` wrote.
    trust : bool, default=False
        Whether to unpickle it whoever wrote it.
    instead : str, default=""
        For the error: what else a caller can do, a whole sentence.
    key : bytes or None, default=None
        As given to :func:`dump_signed`.

    Raises
    ------
    CorruptFileError
        If it is empty, cut or damaged, or unpickling fails.
    UntrustedFileError
        If another installation wrote it, or it is no file of ours, and not `trust`.
    """
    content = _read_checked(path)
    is_ours = content[: len(_MARK)] == _MARK
    body = content[len(_MARK) : -_END_BYTES] if is_ours else content
    code = content[-_END_BYTES:-_CHECKSUM_BYTES]
    is_signed = is_ours and hmac.compare_digest(_code(body, key), code)
    if not is_signed and not trust:
        raise UntrustedFileError(path, *names_in_pickle(body), instead)
    with reading(path, "the pickle"):
        return pickle.loads(body)


def check_signed(path: str | os.PathLike[str]) -> None:
    """Compare a file with its checksum, whoever wrote it.

    Raises
    ------
    CorruptFileError
        If it is not what :func:`dump_signed` wrote, or was changed.
    """
    if _read_checked(path)[: len(_MARK)] != _MARK:
        raise CorruptFileError(path, "", "it is no signed pickle")


def _read_checked(path: str | os.PathLike[str]) -> memoryview:
    """Return what a file holds; one of ours has its checksum."""
    with reading(path):
        content = memoryview(Path(path).read_bytes())
    if not content:
        raise CorruptFileError(path, "", "it is empty")
    if content[: len(_MARK)] == _MARK:
        code, checksum = (
            content[-_END_BYTES:-_CHECKSUM_BYTES],
            content[-_CHECKSUM_BYTES:],
        )
        if _checksum(content[len(_MARK) : -_END_BYTES], code) != checksum:
            raise CorruptFileError(path, "", "it was cut or changed")
    return content


def signature(content: bytes, *, purpose: str) -> str:
    """Return a code of bytes that only this installation can tell.

    For files that are no pickles, of which a library believes too much. What is signed
    for one purpose is not for another, nor is it a signed pickle.
    """
    return hmac.digest(signing_key(purpose), content, "sha256").hex()


def _checksum(content, code) -> bytes:
    found = sha256(content)
    found.update(code)
    return found.digest()


def _code(content, key: bytes | None) -> bytes:
    return hmac.digest(_secret() if key is None else key, content, "sha256")


@cache
def _secret() -> bytes:
    """Return the secret of this user, made at the first call.

    Where it cannot be kept, or others could have read it, there is one for this
    process: what it signs is not opened by the next.
    """
    path = platformdirs.user_data_path("sklearn_molge") / "signing.key"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            _keep_new(path)
        return _read_private(path)
    except OSError as error:
        warnings.warn(
            f"The secret that signs pickles cannot be kept in {path} ({error}): files "
            "that this process writes will count as another's for the next one.",
            stacklevel=2,
        )
        return secrets.token_bytes(_SECRET_BYTES)


def _keep_new(path: Path) -> None:
    """Write a new secret, unless another process was first."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(handle, "wb") as file:
            file.write(secrets.token_bytes(_SECRET_BYTES))
        try:
            os.link(draft, path)  # unlike a rename, it replaces nothing
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _read_private(path: Path) -> bytes:
    content = path.read_bytes()
    if len(content) != _SECRET_BYTES:
        raise OSError(f"it has {len(content)} bytes instead of {_SECRET_BYTES}")
    if sys.platform != "win32":
        found = path.stat()
        if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
            raise OSError("other users can read or change it")
    return content


# What a pickle would call


def names_in_pickle(content) -> tuple[list[str], bool]:
    """Return the classes and functions that a pickle names, without running it.

    And whether it could be read to its end.
    """
    names: dict[str, None] = {}
    texts: list[str] = []  # the last texts on the stack
    memo: dict[int, object] = {}
    last: object = None
    argument: Any
    try:
        for code, argument, _ in pickletools.genops(bytes(content)):
            if code.name in ("GLOBAL", "INST"):
                last = None
                names[str(argument).replace(" ", ".")] = None
            elif code.name == "STACK_GLOBAL":
                last = None
                names[".".join(texts[-2:])] = None
            elif code.name == "MEMOIZE":
                memo[len(memo)] = last
            elif code.name in ("PUT", "BINPUT", "LONG_BINPUT"):
                memo[int(argument)] = last
            else:
                is_get = code.name in ("GET", "BINGET", "LONG_BINGET")
                last = memo.get(int(argument)) if is_get else argument
                if isinstance(last, str):
                    texts = [*texts[-1:], last]
    except Exception:
        return sorted(names), False
    return sorted(names), True
