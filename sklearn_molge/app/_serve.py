"""serve: an index as a page in the browser."""

from __future__ import annotations

import os
import socket
from typing import Any

from sklearn_molge._utils.optional import import_optional
from sklearn_molge.app._guard import is_loopback
from sklearn_molge.library import MoleculeIndex

__all__ = ["serve"]


def serve(
    index_folder: str | os.PathLike[str],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    trust: bool = False,
    **options: Any,
) -> None:
    """Run the page of an index, until it is interrupted.

    Parameters
    ----------
    index_folder : path-like
        Folder of a :class:`~sklearn_molge.library.MoleculeIndex`.
    host : str, default="127.0.0.1"
        Address to listen at. The default is reached from this machine only; any other
        needs a `token`.
    port : int, default=8000
        Port to listen at; 0 chooses a free one.
    token : str, default=None
        What every caller must know, 8 characters or more; see :func:`make_app`.
    trust : bool, default=False
        As of :meth:`MoleculeIndex.open`: run the embedder in the folder whoever wrote
        it.
    **options : dict
        Options of :func:`make_app`, such as `study` and `hosts`.

    Raises
    ------
    ImportError
        If the extra ``app`` is not installed.
    ValueError
        If `host` can be reached from other machines, and there is no `token`.
    OSError
        If `port` is taken, or `host` no address of this machine.

    See Also
    --------
    make_app : The application alone.

    Examples
    --------
    >>> from sklearn_molge.app import serve
    >>> serve("index", host="0.0.0.0")
    Traceback (most recent call last):
        ...
    ValueError: host='0.0.0.0' is reached from other machines, and needs a token.
    """
    if token is None and not is_loopback(host):
        raise ValueError(
            f"host={host!r} is reached from other machines, and needs a token."
        )
    uvicorn = import_optional("uvicorn", extra="app", needed_by="serve")
    _check_free(host, port)
    from sklearn_molge.app._app import make_app

    if not is_loopback(host):
        options = {"hosts": None, **options}
    index = MoleculeIndex.open(index_folder, trust=trust)
    app = make_app(index, token=token, **options)
    # A log of addresses would hold tokens and genes.
    uvicorn.run(
        app,
        host=host,
        port=port,
        access_log=False,
        ws="none",
        server_header=False,
        timeout_keep_alive=10,
        h11_max_incomplete_event_size=2**17,  # long lists of genes in an address
    )


def _check_free(host: str, port: int) -> None:
    """Raise before an index is opened: uvicorn says it afterwards, in its log."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        raise OSError(
            f"port={port} of host={host!r} cannot be listened at: {error.strerror}. "
            "Give another port; 0 chooses a free one."
        ) from error
