"""What stands between the network and the work: hosts, a token, sizes, a queue."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import logging
from collections.abc import (
    Awaitable,
    Callable,
    Collection,
    MutableMapping,
)
from concurrent.futures import Future, ThreadPoolExecutor
from html import escape
from http.cookies import CookieError, SimpleCookie
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

__all__ = ["BusyError", "Desk", "Guard", "is_loopback"]

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_LOG = logging.getLogger(__name__)
_COOKIE = "molge"
# Seconds that a client may take for the next part of what it sends.
_PATIENCE = 20
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'self'; script-src "
    "'self'; connect-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",  # none would hide the Origin of our own forms
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, which no other reaches."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


class BusyError(Exception):
    """There is no room in the queue, or an answer took too long.

    Parameters
    ----------
    status : int
        503 or 504.
    text : str
    """

    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


class Desk:
    """Runs work in a few threads; more waits in line, and more than that is refused.

    Parameters
    ----------
    n_running, n_waiting : int
        How many calls run and wait.
    timeout : float
        Seconds from the call to the answer. A thread cannot be stopped: it keeps its
        place until it is done, and nobody waits for it.
    """

    def __init__(self, n_running: int, n_waiting: int, timeout: float):
        self._most = n_running + n_waiting
        self._timeout = timeout
        self._n = 0
        self._pool = ThreadPoolExecutor(n_running, thread_name_prefix="molge")

    async def run(self, work: Callable[..., T], *args: Any) -> T:
        """Run `work` in a thread.

        Raises
        ------
        BusyError
        """
        if self._n >= self._most:
            raise BusyError(503, "Too many questions at once. Ask again soon.")
        self._n += 1
        loop = asyncio.get_running_loop()
        future = self._pool.submit(work, *args)

        def leave(_: Future) -> None:
            loop.call_soon_threadsafe(self._leave)

        future.add_done_callback(leave)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self._timeout)
        except TimeoutError as error:
            text = f"No answer within {self._timeout:g} seconds. Ask for less."
            raise BusyError(504, text) from error

    def _leave(self) -> None:
        self._n -= 1


class Guard:
    """ASGI middleware: refuses before any work is done, and sets the headers.

    Parameters
    ----------
    app : callable
        The application.
    hosts : collection of str or None
        Names by which the server may be called, so that no web page of another name
        that is made to lead here (DNS rebinding) gets an answer. None are all: where a
        token is asked for, which that page does not have.
    token : str or None
        What every caller must know.
    max_bytes : int
        Of what is sent.
    """

    def __init__(
        self,
        app: Callable,
        *,
        hosts: Collection[str] | None,
        token: str | None,
        max_bytes: int,
    ):
        self.app = app
        self.hosts = hosts
        self.token = token
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass, or answer it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = {
            k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]
        }

        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                given = {name for name, _ in message.setdefault("headers", [])}
                added = _HEADERS | {"cache-control": "no-store"}
                message["headers"] = [*message["headers"]] + [
                    (name.encode(), value.encode())
                    for name, value in added.items()
                    if name.encode() not in given
                ]
            await send(message)

        refused = self._refusal(scope, headers)
        if refused is not None:
            await _respond(send_guarded, *refused)
            return
        limited = _limited(receive, self.max_bytes)
        try:
            await self.app(scope, limited, send_guarded)
        except _TooMuchError:
            text = f"No more than {self.max_bytes:,} bytes can be sent at once."
            await _respond(send_guarded, 413, text)
        except _TooSlowError:
            await _respond(send_guarded, 408, "The rest of what you sent did not come.")
        except Exception:
            _LOG.exception("A question failed.")
            if started:
                raise
            text = "Something went wrong; the log of the server says what."
            await _respond(send_guarded, 500, text)

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple | None:
        host = headers.get("host", "")
        if self.hosts is not None and _name_of(host) not in self.hosts:
            return 421, "This server does not go by that name."
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None:
            if urlsplit(origin).netloc != host:
                return 403, "Another web page may not send anything here."
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self.max_bytes:
            return 413, f"No more than {self.max_bytes:,} bytes can be sent at once."
        return None if self.token is None else self._without_token(scope, headers)

    def _without_token(self, scope: Scope, headers: dict[str, str]) -> tuple | None:
        assert self.token is not None
        query = parse_qsl(scope["query_string"].decode("latin-1"), True)
        given = dict(query).get("token")
        if given is not None and _same(given, self.token):
            rest = urlencode([pair for pair in query if pair[0] != "token"])
            # A path of two slashes, or of a tab and one, would lead to another server.
            path = "/" + quote(scope["path"].lstrip("/\\"))
            where = path + (f"?{rest}" if rest else "")
            cookie = f"{_COOKIE}={_proof(self.token)}; HttpOnly; SameSite=Lax; Path=/"
            return (
                303,
                "",
                [(b"location", where.encode()), (b"set-cookie", cookie.encode())],
            )
        bearer = headers.get("authorization", "").removeprefix("Bearer ")
        if _same(bearer, self.token) or _same(_cookie(headers), _proof(self.token)):
            return None
        if scope["path"].startswith("/api"):
            return 401, "A token is needed: the header Authorization: Bearer TOKEN."
        return 401, "", None, _ASK_FOR_TOKEN


async def _respond(
    send: Send, status: int, text: str, headers: list | None = None, html: str = ""
) -> None:
    kind = "text/html" if html else "text/plain"
    head = [(b"content-type", f"{kind}; charset=utf-8".encode()), *(headers or [])]
    await send({"type": "http.response.start", "status": status, "headers": head})
    body = html or escape(text, quote=False)
    await send({"type": "http.response.body", "body": body.encode()})


_ASK_FOR_TOKEN = """<!DOCTYPE html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Token</title><h1>Token</h1>
<form method="get" action="/"><p><label for="token">Whoever runs this server has a token
for you.</label></p><p><input id="token" name="token" type="password" required
autocomplete="current-password"> <button>Enter</button></p></form></html>"""


class _TooMuchError(Exception):
    pass


class _TooSlowError(Exception):
    pass


def _limited(receive: Receive, most: int) -> Receive:
    """Count what comes, which may be more than was announced, or never end."""
    n_bytes = 0
    is_whole = False

    async def limited() -> Message:
        nonlocal n_bytes, is_whole
        if is_whole:  # what comes now is that the client has gone
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), _PATIENCE)
        except TimeoutError as error:
            raise _TooSlowError from error
        n_bytes += len(message.get("body", b""))
        is_whole = not message.get("more_body", False)
        if n_bytes > most:
            raise _TooMuchError
        return message

    return limited


def _name_of(host: str) -> str:
    """Return the name of a header Host, without its port."""
    name = host.rpartition(":")[0] if host.rpartition("]")[2].count(":") else host
    return name.lower()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _proof(token: str) -> str:
    """Return what the browser keeps: it shows that the token was known."""
    return hmac.new(token.encode(), b"cookie", hashlib.sha256).hexdigest()


def _cookie(headers: dict[str, str]) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(_COOKIE)
    except CookieError:
        return ""
    return "" if found is None else found.value
