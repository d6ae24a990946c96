"""A download that goes on where it stopped."""

import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path

from sklearn_molge._files.replacing import sync
from sklearn_molge._utils.progress import progress_bar

__all__ = ["ResumableDownloader"]

Headers = Mapping[str, str]

_CHUNK = 2**16
_TIMEOUT = (30, 60)  # seconds: to connect, and without a byte
_LONGEST_WAIT = 60  # seconds
# Where a server does not tell a length; the largest file of a release has 83 GiB.
_MOST_BYTES = 1 << 38
_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})


class ResumableDownloader:
    """Download one file over HTTP, resumed after a break and checked at the end.

    Bytes are kept in `part`; what the server said of them (length, ETag or date, MD5)
    beside it, in `part` + ".json". A later call asks for the rest with `Range` and
    `If-Range`, so that a file that changed meanwhile is taken from its start, never
    stitched. Only a file that passed its check gets its name.

    Parameters
    ----------
    part : Path
        Where unfinished bytes are kept, in the folder of the finished file.
    known_hash : str, default=None
        "algorithm:digest". None goes by what the server tells: an ETag of Amazon S3
        that is a plain MD5, else the length alone.
    n_retries, delay, progress, verify
        As of `fetch_lincs`.

    Attributes
    ----------
    check_ : str
        The check that the file passed: "algorithm:digest", "size" or "none".
    """

    def __init__(
        self,
        part: Path,
        known_hash: str | None = None,
        *,
        n_retries: int = 3,
        delay: float = 1.0,
        progress: bool = True,
        verify: bool = True,
    ):
        self.part = part
        self.known_hash = known_hash
        self.n_retries = n_retries
        self.delay = delay
        self.progress = progress
        self.verify = verify

    def download(self, url: str, path: Path) -> None:
        """Download `url` into a file, which is there when it is whole."""
        try:
            self._download_whole(url)
        except OSError as error:
            if error.errno is not None and error.filename is None:  # a full disk
                error.filename = str(self.part)
            raise
        sync(self.part)
        os.replace(self.part, path)
        self._state_path.unlink()

    def _download_whole(self, url: str) -> None:
        found = self._download_and_check(url)
        if found is not None:
            warnings.warn(
                f"{self._name} came corrupt from {url} ({found}); it is downloaded "
                "once more.",
                stacklevel=2,
            )
            found = self._download_and_check(url)
        if found is not None:
            raise OSError(
                f"{self._name} came corrupt twice from {url}: {found}. It was deleted."
            )

    @property
    def _name(self) -> str:
        return self.part.name.removesuffix(".part")

    @property
    def _state_path(self) -> Path:
        return self.part.with_name(f"{self.part.name}.json")

    def _download_and_check(self, url: str) -> str | None:
        """Return None, or what is wrong with the file, which is then gone."""
        state = self._download(url)
        of_server = f"md5:{state['md5']}" if state["md5"] else None
        expected = self.known_hash or of_server
        if not self.verify or expected is None:
            is_sized = self.verify and state["total"] is not None
            self.check_ = "size" if is_sized else "none"
            return None
        from pooch import file_hash

        algorithm, _, digest = expected.partition(":")
        found = file_hash(str(self.part), alg=algorithm)
        if found != digest.lower():
            self._discard()
            return f"expected {algorithm} {digest}, found {found}"
        self.check_ = expected
        return None

    def _download(self, url: str) -> dict:
        """Try until the file is whole; return what the server said of it."""
        import requests
        from urllib3.exceptions import HTTPError

        n_failures, longest = 0, self._size()
        while True:
            try:
                return self._attempt(url)
            except (requests.RequestException, HTTPError) as error:
                n_failures = 1 if self._size() > longest else n_failures + 1
                longest = max(longest, self._size())
                if n_failures > self.n_retries:
                    raise ConnectionError(
                        f"{self._name} could not be downloaded from {url} "
                        f"({type(error).__name__}: {error}); gave up after "
                        f"n_retries={self.n_retries} retries in a row. {self._kept()}"
                    ) from error
                time.sleep(min(self.delay * 2 ** (n_failures - 1), _LONGEST_WAIT))

    def _kept(self) -> str:
        if not self._size():
            return "Nothing was downloaded; call again once the server can be reached."
        return f"{self._size():,} bytes are kept in {self.part}; call again to go on."

    def _attempt(self, url: str) -> dict:
        """One connection: the whole file, or what is missing of it."""
        import requests

        state, offset = self._resume_point()
        if state and offset == state["total"]:
            return state
        headers = {"Accept-Encoding": "identity"}
        if offset:
            headers |= {"Range": f"bytes={offset}-", "If-Range": state["validator"]}
        with requests.get(
            url, headers=headers, stream=True, timeout=_TIMEOUT
        ) as response:
            if response.status_code in (206, 416):
                if not _continues(response.headers, state, offset):
                    self._discard()
                    raise requests.ConnectionError("the file changed on the server")
            else:
                self._raise_for_status(response)
                self._check_address(url, response.url)
                self._check_space(_content_length(response.headers))
                state, offset = self._start_over(response.headers), 0
            self._receive(response.raw, offset, state["total"])
        if state["total"] is not None and self._size() != state["total"]:
            raise requests.ConnectionError("the connection ended early")
        return state

    def _receive(self, raw, offset: int, total: int | None) -> None:
        with (
            open(self.part, "ab") as target,
            progress_bar(
                shown=self.progress,
                desc=self._name,
                total=total,
                initial=offset,
                unit="B",
                unit_scale=True,
            ) as bar,
        ):
            most = _MOST_BYTES if total is None else total
            for chunk in raw.stream(_CHUNK, decode_content=False):
                offset += len(chunk)
                if offset > most:
                    raise OSError(
                        f"{self._name}: the server sent more than {most:,} bytes, "
                        + ("which no file has." if total is None else "as it said.")
                    )
                target.write(chunk)
                bar.update(len(chunk))

    def _check_address(self, asked: str, got: str) -> None:
        """Refuse a redirection that gives up encryption."""
        if asked.startswith("https:") and not got.startswith("https:"):
            raise OSError(
                f"{self._name}: {asked} redirects to {got}, which is not encrypted."
            )

    def _check_space(self, total: int | None) -> None:
        free = shutil.disk_usage(self.part.parent).free + self._size()
        if total is not None and total > free:
            raise OSError(
                f"{self._name} has {total:,} bytes as the server says, and there is "
                f"room for {free:,} in {self.part.parent}."
            )

    def _raise_for_status(self, response) -> None:
        """Let a passing fault be tried again; say what a final one means."""
        import requests

        status = f"{response.status_code} {response.reason}"
        if response.status_code in _TRY_AGAIN:
            raise requests.HTTPError(f"the server answered {status}")
        if response.status_code != 200:
            raise OSError(
                f"{self._name}: the server answered {status} for {response.url}. "
                "A file that you got in another way can be put in "
                f"{self.part.parent} under its public name."
            )

    def _size(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _resume_point(self) -> tuple[dict, int]:
        """Return what is known of the bytes at hand, and how many can be built upon."""
        try:
            state = _checked(json.loads(self._state_path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return {}, 0
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            warnings.warn(
                f"{self._state_path}, which says what the bytes of {self.part} are, "
                f"is damaged ({error}): {self._name} is downloaded from its start.",
                stacklevel=2,
            )
            self._discard()
            return {}, 0
        size = self._size()
        is_whole = size == state["total"]
        return (state, size) if is_whole or state["validator"] else ({}, 0)

    def _start_over(self, headers: Headers) -> dict:
        state = {
            "total": _content_length(headers),
            "validator": _validator(headers),
            "md5": _md5_of_s3(headers),
        }
        # Emptied before the note is written: bytes never stand under a later note.
        self.part.write_bytes(b"")
        self._state_path.write_text(json.dumps(state), encoding="utf-8")
        return state

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        self._state_path.unlink(missing_ok=True)


def _checked(state: dict) -> dict:
    """Return what a note says, if it can be what :func:`_start_over` wrote."""
    total, validator, md5 = (state[key] for key in ("total", "validator", "md5"))
    if total is not None and (type(total) is not int or total < 0):
        raise ValueError(f"'total' is {total!r}")
    if validator is not None and not re.fullmatch(r"[\x20-\x7e]+", validator):
        raise ValueError(f"'validator' is {validator!r}")
    if md5 is not None and not re.fullmatch(r"[0-9a-f]{32}", md5):
        raise ValueError(f"'md5' is {md5!r}")
    return {"total": total, "validator": validator, "md5": md5}


def _content_length(headers: Headers) -> int | None:
    length = headers.get("Content-Length", "")
    return int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None


def _validator(headers: Headers) -> str | None:
    """Value for `If-Range`: a strong ETag, else the date of the last change."""
    etag = headers.get("ETag", "")
    strong = etag if etag.startswith('"') else None
    return strong or headers.get("Last-Modified")


def _md5_of_s3(headers: Headers) -> str | None:
    """MD5 in the ETag of Amazon S3: not of multipart or KMS-encrypted objects."""
    if headers.get("Server") != "AmazonS3":
        return None
    if headers.get("x-amz-server-side-encryption", "AES256") != "AES256":
        return None
    match = re.fullmatch(r'"([0-9a-f]{32})"', headers.get("ETag", ""))
    return match[1] if match else None


def _continues(headers: Headers, state: dict, offset: int) -> bool:
    """Whether a partial answer starts at `offset` of the very file at hand."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
    if not state or match is None or int(match[1]) != offset:
        return False
    same_length = match[2] in ("*", str(state["total"]))
    return same_length and _validator(headers) in (None, state["validator"])
