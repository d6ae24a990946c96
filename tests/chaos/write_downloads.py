"""Downloads, which go on where they stopped, and the key that signs pickles."""

import gzip
import hashlib
import os
import re
import time
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module

import numpy as np
import platformdirs
from harness import Operation, forked, kill_all

from sklearn_molge.datasets import fetch_lincs, list_lincs_files

# Private: what signs is called by index folders and caches alike.
signing = import_module("sklearn_molge._files.signing")
SUMS, *TABLES, PACKED = list_lincs_files("GSE70138", level=5)["name"]
CONTENT = np.random.default_rng(0).bytes(30 * 2**16)  # not shrunk by packing


class Handler(BaseHTTPRequestHandler):
    """Small files under public names, some of them slowly, and ranges of them."""

    def do_GET(self):
        body = self.server.files.get(self.path.rpartition("/")[2])
        if body is None:
            return self.send_error(404)
        tag = f'"{hashlib.md5(body).hexdigest()}"'
        start = 0
        if self.headers["Range"] and self.headers["If-Range"] == tag:
            start = int(re.fullmatch(r"bytes=(\d+)-", self.headers["Range"])[1])
        if start > len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            end = f"{len(body) - 1}/{len(body)}"
            self.send_header("Content-Range", f"bytes {start}-{end}")
        self.send_header("Content-Length", str(len(body) - start))
        self.send_header("ETag", tag)
        self.end_headers()
        for at in range(start, len(body), 2**16):
            self.wfile.write(body[at : at + 2**16])
            time.sleep(0.003)

    def log_message(self, *args):
        pass


class Server(ThreadingHTTPServer):
    """One whose clients are killed."""

    def handle_error(self, request, client_address):
        pass


class Fetch(Operation):
    """A matrix of 2 MB in 30 pieces, unpacked."""

    name = "fetch-lincs"

    def prepare(self, folder):
        server = Server(("127.0.0.1", 0), Handler)
        server.files = {name: gzip.compress(name.encode(), mtime=0) for name in TABLES}
        server.files[PACKED] = gzip.compress(CONTENT, mtime=0)
        sums = {name: hashlib.sha512(b).hexdigest() for name, b in server.files.items()}
        lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        server.files[SUMS] = gzip.compress(lines.encode(), mtime=0)
        self.url = f"http://127.0.0.1:{server.server_port}/suppl"
        os.environ["NO_PROXY"] = "127.0.0.1"
        self.server, _ = forked(server.serve_forever)
        server.server_close()

    def close(self):
        kill_all(self.server)
        os.waitpid(self.server, 0)

    def run(self, folder):
        fetch_lincs(
            "GSE70138", level=5, data_home=folder, base_url=self.url, delay=0,
            progress=False,
        )  # fmt: skip

    def result(self, folder):
        paths = sorted(p for p in folder.rglob("*") if p.is_file())
        return {p.name: p.read_bytes() for p in paths if p.name != "verified.json"}

    def look(self, folder):
        for path in folder.rglob("*"):
            if path.name in self.expected:
                assert path.read_bytes() == self.expected[path.name], path


class SigningKey(Operation):
    """The user's secret, made by eight processes at once, each of which signs a file.

    Each file is then opened by all: there is one secret.
    """

    name = "signing-key"
    is_warmed = False  # each process makes, or reads, the secret itself

    def run(self, folder):
        os.environ["XDG_DATA_HOME"] = str(folder / "data")
        signers = [self.sign(folder, n) for n in range(8)]
        if any([os.waitpid(process, 0)[1] for process in signers]):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                signing.dump_signed(0, folder / "0.pickle")  # which says why
            raise AssertionError("a signer failed")

    def is_clear(self, folder, error):
        is_expected = isinstance(error, OSError | UserWarning)
        return is_expected and str(folder) in str(error)

    def sign(self, folder, n):
        """Sign in a fork, which dies with this process's group."""
        process = os.fork()
        if process:
            return process
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")  # as of a secret that is not kept
                signing.dump_signed(n, folder / f"{n}.pickle")
            os._exit(0)
        finally:
            os._exit(1)

    def result(self, folder):
        os.environ["XDG_DATA_HOME"] = str(folder / "data")
        return [signing.load_signed(folder / f"{n}.pickle") for n in range(8)]

    def look(self, folder):
        os.environ["XDG_DATA_HOME"] = str(folder / "data")
        key = platformdirs.user_data_path("sklearn_molge") / "signing.key"
        if key.exists():
            assert len(key.read_bytes()) == 32, "a half key"
        for path in folder.glob("*.pickle"):
            signing.load_signed(path)


OPERATIONS = [SigningKey(), Fetch()]
