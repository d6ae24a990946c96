"""The page under load: clients that ask at once, each with genes of its own.

A library of made-up molecules is embedded by a CCA of a simulated study, and served by
a process of its own. Every client asks for whole pages, one after the other, with
structures, enrichment and map: seconds from the question to the last byte, which
include the queue; what was not answered; and the peak of the server's memory. One
client alone is compared with ``MoleculeIndex.query`` in this process, for the answer
and for its explanations, which are a question of their own.
"""

import http.client
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import numpy as np
from _molecules import read_molecules
from _timing import compare

SMOKE = {"molecules": 300, "clients": 4, "questions": 2}
N_GENES, N_LISTED = 978, 50


def add_arguments(parser):
    add = parser.add_argument
    add("--molecules", type=int, default=100_000, help="of the library")
    add("--clients", type=int, default=50, help="at once")
    add("--questions", type=int, default=4, help="of each client")


def make_index(options, folder):
    """Embed a library, and return the index and the names of its genes."""
    from sklearn.pipeline import make_pipeline

    from sklearn_molge.alignment import CCA
    from sklearn_molge.datasets import make_perturbation_study
    from sklearn_molge.library import MoleculeIndex
    from sklearn_molge.molecules import MorganFingerprinter

    study = make_perturbation_study(
        200, n_cell_lines=3, n_genes=N_GENES, level=5, random_state=0
    )
    model = make_pipeline(MorganFingerprinter(), CCA(40, ridge=1.0))
    model.fit(study.smiles, study.ge)
    smiles = read_molecules(options, options.molecules)
    index = MoleculeIndex(
        model, genes=study.genes, folder=folder, unique_by="smiles", progress=False
    )
    classes = np.random.default_rng(0).integers(0, 200, len(smiles))
    index.fit(smiles, columns={"moa": [f"class {i}" for i in classes]})
    index.calibrate(study.smiles, study.ge)
    return index, study.genes["symbol"].to_numpy()


def serve(folder):
    """Serve an index, and print the port; of the process that is measured."""
    import uvicorn

    from sklearn_molge.app import make_app
    from sklearn_molge.library import MoleculeIndex

    app = make_app(MoleculeIndex.open(folder, trust=True), timeout=600)
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(1024)
        print(listening.getsockname()[1], flush=True)
        config = uvicorn.Config(
            app, log_level="warning", ws="none", h11_max_incomplete_event_size=2**17
        )
        uvicorn.Server(config).run([listening])


def memory(process, kind):
    """Return MiB that a process holds or held, NaN where it cannot be read."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except OSError:
        return float("nan")
    return int(re.search(rf"{kind}:\s+(\d+)", text)[1]) / 1024


def ask(port, genes, page="answer"):
    """Ask for a page, and return its status, and the seconds until it was there."""
    query = urlencode(
        {"up": " ".join(genes[:N_LISTED]), "down": " ".join(genes[N_LISTED:])}
    )
    start = time.perf_counter()
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=900)
        connection.request("GET", f"/{page}?{query}")
        response = connection.getresponse()
        response.read()
        status = response.status
        connection.close()
    except OSError:
        status = 0
    return status, time.perf_counter() - start


def load(port, symbols, options):
    """Let all clients ask at once; return statuses and seconds."""
    found = []

    def client(i):
        rng = np.random.default_rng(i + 1)
        for _ in range(options.questions):
            found.append(ask(port, rng.choice(symbols, 2 * N_LISTED, replace=False)))

    clients = [
        threading.Thread(target=client, args=(i,)) for i in range(options.clients)
    ]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    return found


def run(options):
    from sklearn_molge.expression import profile_from_genes

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "index"
        index, symbols = make_index(options, folder)
        sizes = {"molecules": index.n_molecules_, "clients": options.clients}
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(folder)],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            port = int(server.stdout.readline())
            rng = np.random.default_rng(0)

            def genes():
                return rng.choice(symbols, 2 * N_LISTED, replace=False)

            def alone(page="answer"):
                status, _ = ask(port, genes(), page)
                assert status == 200

            def in_process():
                up, down = np.split(genes(), 2)
                index.query(profile_from_genes(index.genes, up=up, down=down), 20)

            single = compare(
                "a whole page, one client", alone, in_process, options,
                against="MoleculeIndex.query", sizes=sizes, memory=False, wall=True,
            )  # fmt: skip
            why = compare(
                "an answer and its explanations, one client", lambda: alone("why"),
                in_process, options, against="MoleculeIndex.query", sizes=sizes,
                memory=False, wall=True,
            )  # fmt: skip
            before = memory(server, "VmRSS")
            start = time.perf_counter()
            found = load(port, symbols, options)
            wall = time.perf_counter() - start
            peak = memory(server, "VmHWM")
        finally:
            server.terminate()
            server.wait(30)
    seconds = [second for _, second in found]
    record = {
        "what": f"whole pages, {options.clients} clients at once",
        "sizes": sizes,
        "questions": len(found),
        "errors": sum(status != 200 for status, _ in found),
        "wall_s": wall,
        "p50_s": float(np.quantile(seconds, 0.5)),
        "p95_s": float(np.quantile(seconds, 0.95)),
        "before_mib": before,
        "peak_mib": peak,
    }
    return [single, why, record]


if __name__ == "__main__":
    serve(sys.argv[1])
