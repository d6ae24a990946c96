"""The boundary of a reader: a damaged file is a CorruptFileError, whatever it broke."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sklearn_molge.exceptions import CorruptFileError, UntrustedFileError

__all__ = ["reading"]

# They say what is wrong without the file: a missing extra, a warning made an error.
_OF_ANOTHER_KIND = (ImportError, Warning, CorruptFileError, UntrustedFileError)


@contextmanager
def reading(
    path: str | os.PathLike[str], part: str | Callable[[], str] = ""
) -> Iterator[None]:
    """Name `path`, and the part that is read, in whatever goes wrong in the block.

    Put it around the calls that interpret what a file says, of libraries as well as our
    own. An error that names the file already passes as it is, and so does one of the
    operating system, which gets the path.

    Parameters
    ----------
    path : path-like
        The file that is read.
    part : str or callable, default=""
        The part of it, such as ``"dataset '/0/DATA/0/matrix'"``, or what tells it when
        something has gone wrong.

    Raises
    ------
    CorruptFileError
        In the place of every other error, which is its cause.
    OSError
        If the file cannot be opened or read.
    """
    try:
        yield
    except _OF_ANOTHER_KIND:
        raise
    except OSError as error:
        if error.errno is None:  # as of gzip and h5py, about what they read
            if isinstance(error, FileNotFoundError | IsADirectoryError):
                raise  # of our own
            raise _corrupt(error, path, part) from error
        if error.filename is None:
            raise type(error)(
                error.errno, os.strerror(error.errno), str(path)
            ) from error
        raise
    except Exception as error:
        if str(path) in str(error):
            raise
        raise _corrupt(error, path, part) from error


def _corrupt(error: Exception, path, part) -> Exception:
    part = part() if callable(part) else part
    if str(path) in str(error) and isinstance(error, OSError | ValueError):
        return CorruptFileError(path, part, str(error).replace(str(path), "it"))
    kind = "" if type(error) is ValueError else f"{type(error).__name__}: "
    return CorruptFileError(path, part, f"{kind}{error}")
