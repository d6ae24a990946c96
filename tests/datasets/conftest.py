"""A server on the loopback with a small stand-in of a LINCS release."""

import gzip
import hashlib
import io
import re
import socket
import threading
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from sklearn_molge.datasets import fetch_lincs, list_lincs_files

# Private, because a test cannot serve the 300 GiB of a real release.
from sklearn_molge.datasets._lincs._release_files import RELEASES

SUMS, *TABLES, PACKED = list_lincs_files("GSE70138", level=5)["name"]
CONTROLS_2020 = "level3_beta_ctl_n188708x12328.gctx"


@dataclass
class Answer:
    """How the server answers one request, where that is not by the book."""

    status: int | None = None
    body: bytes | None = None
    cut: int | None = None
    claim: int | None = None
    etag: str | None = "of the body"
    ignore_range: bool = False
    ignore_if_range: bool = False
    shift: int = 0
    at_most: int | None = None
    may_pack: bool = False
    headers: dict = field(default_factory=dict)
    stall: threading.Event | None = None


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.paths.append(self.path)
        name = self.path.rpartition("/")[2]
        asked, if_range = self.headers["Range"], self.headers["If-Range"]
        self.server.seen.append((name, asked, if_range))
        queue = self.server.answers.get(name, [])
        answer = queue.pop(0) if queue else Answer()
        body = self.server.files.get(name) if answer.body is None else answer.body
        if answer.status == 302:
            self.send_response(302)
            self.send_header("Location", answer.headers["Location"])
            return self.end_headers()
        if answer.status or body is None:
            return self.send_error(answer.status or 404)
        etag = self.server.tag(body) if answer.etag == "of the body" else answer.etag
        same = answer.ignore_if_range or if_range == etag
        start = 0
        if asked and same and not answer.ignore_range:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) + answer.shift
        if start > len(body):
            return self.send_error(416)
        self.send(answer, body, start, etag)

    def send(self, answer, body, start, etag):
        end = min(len(body), start + answer.at_most if answer.at_most else len(body))
        rest = body[start:end]
        if answer.may_pack and "gzip" in self.headers.get("Accept-Encoding", ""):
            rest = gzip.compress(rest)
            answer.headers["Content-Encoding"] = "gzip"
        self.send_response(206 if start else 200)
        headers = {"Content-Length": len(rest) if not answer.claim else answer.claim}
        if start:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(body)}"
        if etag:
            headers["ETag"] = etag
        for key, value in (headers | answer.headers).items():
            if value is not None:
                self.send_header(key, value)
        self.end_headers()
        self.wfile.write(rest[: answer.cut])
        if answer.stall:
            answer.stall.wait(30)
        if answer.cut is not None:
            self.connection.shutdown(socket.SHUT_RDWR)

    def version_string(self):
        return self.server.software

    def log_message(self, *args):
        pass


class Loopback(ThreadingHTTPServer):
    """GSE70138, Level 5, under its public names.

    `answers` has the next answers for a name, `seen` the requests: name, `Range` and
    `If-Range`.
    """

    Answer = Answer
    # Random, so that packing does not shrink it: about five chunks of the downloader.
    content = np.random.default_rng(0).bytes(5 * 2**16 + 123)

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/suppl"
        self.software = "test"
        self.seen, self.paths, self.answers = [], [], {}
        self.files = {name: gzip.compress(name.encode(), mtime=0) for name in TABLES}
        self.files[PACKED] = gzip.compress(self.content, mtime=0)
        self.publish_sums(self.files)

    def publish_sums(self, names):
        sums = {name: hashlib.sha512(self.files[name]).hexdigest() for name in names}
        lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        self.files[SUMS] = gzip.compress(lines.encode(), mtime=0)

    def asked_for(self, name):
        """Return the `Range` of each request for `name`."""
        return [asked for seen, asked, _ in self.seen if seen == name]

    @staticmethod
    def tag(body):
        return f'"{hashlib.sha256(body).hexdigest()[:10]}-1"'

    @staticmethod
    def corrupt(body):
        return body[:15] + bytes([body[15] ^ 1]) + body[16:]


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Loopback()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def fetch(server, tmp_path):
    pytest.importorskip("pooch")
    pytest.importorskip("requests")
    defaults = {"data_home": tmp_path, "base_url": server.url, "delay": 0}

    def fetch(release="GSE70138", level=5, **options):
        return fetch_lincs(
            release, level=level, **({"progress": False} | defaults | options)
        )

    return fetch


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "lincs" / "GSE70138"
    path.mkdir(parents=True)
    return path


@pytest.fixture
def change_2020(monkeypatch):
    """Leave of LINCS2020 only some files, with other sizes or checksums."""

    def change(changes):
        release = RELEASES["LINCS2020"]
        files = tuple(
            replace(file, **changes[file.name])
            for file in release.files
            if file.name in changes
        )
        monkeypatch.setitem(RELEASES, "LINCS2020", replace(release, files=files))

    return change


@pytest.fixture
def one_2020_file(server, change_2020):
    """LINCS2020 shrunk to one matrix, of which no checksum is known."""

    def install(**changes):
        change_2020({CONTROLS_2020: changes})

    install()
    server.files[CONTROLS_2020] = server.content
    return install


@pytest.fixture
def bytes_read(monkeypatch):
    """How many bytes of files were asked for past HDF5, request by request."""
    asked = []

    class Counting(io.FileIO):
        def readinto(self, buffer):
            asked.append(memoryview(buffer).nbytes)
            return super().readinto(buffer)

    monkeypatch.setattr(io, "FileIO", Counting)
    return asked
