"""The page and the REST interface, through a real server on this machine."""

import csv
import gzip
import hashlib
import html
import http.client
import io
import json
import pickle
import re
import shutil
import socket
import struct
import threading
import time
import warnings
import zipfile
import zlib
from contextlib import closing, contextmanager
from functools import partial
from html.parser import HTMLParser
from importlib.resources import files
from urllib.parse import parse_qs, urlencode, urlsplit

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from sklearn_molge import datasets
from sklearn_molge.alignment import CCA
from sklearn_molge.base import EmbedderMixin
from sklearn_molge.datasets import Study, make_perturbation_study
from sklearn_molge.exceptions import DataWarning
from sklearn_molge.expression import profile_from_genes
from sklearn_molge.inspection import atom_attribution, gene_attribution
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.metrics import similarity
from sklearn_molge.molecules import MorganFingerprinter, canonical_smiles
from sklearn_molge.retrieval import ConformalRetriever, PredictedProfileRetriever

fastapi = pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
from sklearn_molge.app import make_app, serve  # noqa: E402

ARGS = "--no-sandbox --disable-gpu --disable-quic --no-first-run".split()
EVIL = "<script>alert('x')</script>"
TOKEN = "a token of some length"

STUDY = make_perturbation_study(60, n_cell_lines=3, n_genes=60, level=5, random_state=0)
LIBRARY = list(dict.fromkeys(STUDY.smiles))
SYMBOLS = STUDY.genes["symbol"].tolist()
UP, DOWN = SYMBOLS[:8], SYMBOLS[8:14]


def make_index(estimator, **params):
    names = [EVIL if i == 0 else f"molecule {i}" for i in range(len(LIBRARY))]
    columns = {
        "moa": [f"class {i % 4}" for i in range(len(LIBRARY))],
        "target": [f"T{i % 7}|ABC" for i in range(len(LIBRARY))],
        "price": list(range(len(LIBRARY))),
    }
    index = MoleculeIndex(estimator, genes=STUDY.genes, **params)
    index.fit(LIBRARY, names=names, columns=columns)
    return index.calibrate(STUDY.smiles[:60], STUDY.ge)


def cca():
    model = make_pipeline(MorganFingerprinter(fp_size=256), CCA(8, ridge=0.1))
    return model.fit(STUDY.smiles, STUDY.ge)


@pytest.fixture(scope="module")
def index():
    return make_index(cca())


@contextmanager
def served(app):
    """Yield the port of a server in a thread."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        config = uvicorn.Config(app, log_level="critical", ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="module")
def port(index):
    with served(make_app(index, study=STUDY, max_upload=200_000)) as port:
        yield port


def ask(port, method, path, body=None, headers=None):
    """Return status, headers and body, without following anywhere."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as asked:
        asked.request(method, path, body, headers or {})
        with asked.getresponse() as response:
            content = response.read().decode()
            return response.status, dict(response.getheaders()), content


def api(port, path, data):
    headers = {"content-type": "application/json"}
    status, _, body = ask(port, "POST", path, json.dumps(data), headers)
    return status, json.loads(body)


def send_form(port, *, file=None, **fields):
    """Send the form, and return where it leads."""
    edge, parts = "edge-of-a-part", []
    for name, value in fields.items():
        head = f'content-disposition: form-data; name="{name}"'
        parts.append(f"--{edge}\r\n{head}\r\n\r\n{value}\r\n".encode())
    if file:
        head = f'content-disposition: form-data; name="file"; filename="{file[0]}"'
        parts.append(f"--{edge}\r\n{head}\r\n\r\n".encode() + file[1] + b"\r\n")
    body = b"".join([*parts, f"--{edge}--\r\n".encode()])
    kind = {"content-type": f"multipart/form-data; boundary={edge}"}
    status, headers, text = ask(port, "POST", "/ask", body, kind)
    return status, headers.get("location", ""), text


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


def answer_rows(port, **fields):
    path = f"/answer.csv?{urlencode({'up': ' '.join(UP), **fields})}"
    status, _, text = ask(port, "GET", path)
    assert status == 200, text
    return rows_of(text)


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.labelled, self.fields = [], [], set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.append(tag)
        self.links += [attrs[n] for n in ("href", "src", "action") if n in attrs]
        assert "style" not in attrs
        if tag == "label":
            self.labelled.add(attrs["for"])
        if tag in ("input", "textarea", "select"):
            self.fields.add(attrs["id"])


# Questions and answers


def test_from_the_form_to_the_table(port, index):
    status, where, _ = send_form(
        port, up="\n".join(UP), down=", ".join(DOWN), n="7", near_min="", near_max=""
    )
    assert status == 303
    status, _, page = ask(port, "GET", where)
    assert status == 200
    query = profile_from_genes(STUDY.genes, up=UP, down=DOWN)
    expected = index.query(query, 7)
    status, headers, text = ask(port, "GET", where.replace("/answer", "/answer.csv"))
    assert headers["content-disposition"] == 'attachment; filename="molecules.csv"'
    found = rows_of(text)
    assert [row["molecule"] for row in found] == expected["molecule"].tolist()
    scores = [float(row["score"]) for row in found]
    np.testing.assert_allclose(scores, expected["score"], rtol=1e-6)
    called = expected["better_than_noise"].iloc[0]
    assert ("No better than noise." in page) == (not called)
    assert "14 of 14 genes used" in page
    for word in ("What speaks for the first", "Where they lie", "Permalink"):
        assert word in page


def test_the_interface_gives_the_same_answer(port, index):
    query = profile_from_genes(STUDY.genes, up=UP)
    status, found = api(port, "/api/query", {"up": UP, "n": 5})
    expected = index.query(query, 5)
    assert status == 200
    assert [a["molecule"] for a in found["answers"]] == expected["molecule"].tolist()
    assert found["p_value"] == expected["query_p_value"].iloc[0]
    assert found["metric"] == "correlation"
    assert ask(port, "GET", found["permalink"])[0] == 200
    _, info = api_get(port, "/api/info")
    assert info["n_molecules"] == len(LIBRARY)
    assert info["columns"] == ["moa", "target", "price"]


def api_get(port, path):
    status, _, body = ask(port, "GET", path)
    return status, json.loads(body)


def test_reverse(port, index):
    _, found = api(port, "/api/query", {"up": UP, "n": 3, "reverse": True})
    expected = index.query(profile_from_genes(STUDY.genes, up=UP), 3, reverse=True)
    assert [a["molecule"] for a in found["answers"]] == expected["molecule"].tolist()


def test_genes_are_marked(port):
    gene_id = int(STUDY.genes["gene_id"].iloc[3])
    names = [SYMBOLS[0].lower(), str(gene_id), "NOTAGENE", "TP53", SYMBOLS[0]]
    inside = "TP53" in SYMBOLS
    _, marks = api(port, "/api/genes", {"genes": names})
    assert [m["status"] for m in marks][:3] == [
        "used", marks[1]["status"], "unknown"
    ]  # fmt: skip
    assert marks[1]["symbol"] == SYMBOLS[3]
    assert marks[3]["status"] == ("used" if inside else "not in the model")
    assert marks[4]["status"] == "came before"
    page = ask(port, "GET", f"/answer?up={'+'.join(names)}")[2]
    assert "NOTAGENE: unknown" in page


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"mechanism": "CLASS 2"}, lambda row: row["moa"] == "class 2"),
        ({"target": "t3"}, lambda row: row["target"].startswith("T3|")),
        ({"column": "target", "how": "equals", "value": "ABC"}, lambda row: True),
        ({"column": "price", "how": "equals", "value": "1"},
         lambda row: row["price"] == "1"),
        ({"column": "name", "value": "ule 1"}, lambda row: "ule 1" in row["name"]),
        ({"smarts": "[#7]"}, lambda row: has(row, "[#7]")),
        ({"near_min": "0.2", "near_max": "0.9"},
         lambda row: 0.2 <= float(row["nearest_similarity"]) <= 0.9),
        ({"like": LIBRARY[5], "like_min": "1"},
         lambda row: row["molecule"] == LIBRARY[5]),
        ({"mechanism": "class 1", "smarts": "[#7]"},
         lambda row: row["moa"] == "class 1" and has(row, "[#7]")),
    ],
)  # fmt: skip
def test_filters(port, fields, passes):
    every = answer_rows(port, n=len(LIBRARY))
    assert len(every) == len(LIBRARY)
    expected = [row for row in every if passes(row)]
    found = answer_rows(port, n=9, **fields)
    assert [r["molecule"] for r in found] == [r["molecule"] for r in expected[:9]]
    assert len(expected) > 0
    page = ask(port, "GET", f"/answer?{urlencode({'up': UP[0], **fields})}")[2]
    assert f"of the nearest {len(LIBRARY)} molecules pass" in page


def has(row, smarts):
    pattern = Chem.MolFromSmarts(smarts)
    return Chem.MolFromSmiles(row["molecule"]).HasSubstructMatch(pattern)


def test_no_molecule_passes(port):
    where = f"/answer?up={UP[0]}&mechanism=nothing+has+it"
    status, _, page = ask(port, "GET", where)
    assert status == 200
    assert "No molecule passes the filters." in page
    status, found = api(port, "/api/query", {"up": UP, "mechanism": "nothing has it"})
    assert found["answers"] == []
    assert found["better_than_noise"] is None


def test_why(port, index):
    where = f"?up={'+'.join(UP)}&down={'+'.join(DOWN)}&n=3"
    assert f'href="/why?{where[1:]}"' in html.unescape(
        ask(port, "GET", f"/answer{where}")[2]
    )
    page = ask(port, "GET", f"/why{where}")[2]
    query = profile_from_genes(STUDY.genes, up=UP, down=DOWN)
    first = index.query(query, 1)["molecule"].iloc[0]
    shares = gene_attribution(index.estimator_, first, query.profile).values
    place = int(np.argmax(np.abs(shares)))
    told = f"{abs(shares[place]):.4f} {'for' if shares[place] > 0 else 'against'}"
    assert page.index(SYMBOLS[place], page.index("speaks for")) < page.index(told)
    status, found = api(port, "/api/why", {"up": UP, "down": DOWN, "n": 3})
    assert (status, [each["rank"] for each in found]) == (200, [1, 2, 3])
    assert found[0]["molecule"] == first
    gene = {"gene": SYMBOLS[place], "share": shares[place]}
    assert found[0]["genes"][0] == pytest.approx(
        gene | {"value": query.profile[0, place]}
    )
    atoms = atom_attribution(index.estimator_, first, query.profile).values
    np.testing.assert_allclose(found[0]["atoms"], atoms, rtol=1e-6)


def test_why_is_asked_like_any_question(port):
    assert ask(port, "GET", "/why?up=NOTAGENE")[0] == 400
    page = ask(port, "GET", f"/why?up={UP[0]}&mechanism=nothing+has+it")[2]
    assert "There is nothing to show" in page


# Several at once


@pytest.fixture
def held(monkeypatch):
    """Hold the calls of a method back until the test lets them go, and count them."""
    gates = []

    def hold(owner, name, when=lambda *args, **kwargs: True):
        gate, begun, real = threading.Event(), [], getattr(owner, name)
        gates.append(gate)

        def call(*args, **kwargs):
            if when(*args, **kwargs):
                begun.append(args)
                assert gate.wait(30)
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)
        return gate, begun

    yield hold
    for gate in gates:
        gate.set()


def until(happens):
    deadline = time.monotonic() + 20
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextmanager
def asking(*calls):
    """Call in threads of their own, and yield what came so far."""
    came = []
    threads = [threading.Thread(target=lambda c=c: came.append(c())) for c in calls]
    for thread in threads:
        thread.start()
    yield came
    for thread in threads:
        thread.join()


def test_the_classes_of_the_library_are_read_once_and_hold_nobody_up(index, held):
    def is_whole(self, rows=None):
        return rows is None

    with served(make_app(index, n_running=4)) as port:
        answers = [f"/answer.csv?up={gene}" for gene in UP[:2]]
        assert ask(port, "GET", answers[0])[0] == 200
        gate, begun = held(MoleculeIndex, "get_molecules", is_whole)
        cold = [partial(ask, port, "GET", f"/answer?up={gene}") for gene in UP[:2]]
        with asking(*cold) as came:
            until(lambda: begun)
            # One that is remembered and one that is not, beside what waits.
            assert [ask(port, "GET", path)[0] for path in answers] == [200, 200]
            assert not came
            gate.set()
        assert [status for status, _, _ in came] == [200, 200]
        assert len(begun) == 1


def test_one_question_asked_at_once_is_answered_once(index, held):
    with served(make_app(index, n_running=4)) as port:
        gate, begun = held(MoleculeIndex, "query")
        ask_it = partial(ask, port, "GET", f"/answer.csv?up={UP[3]}")
        with asking(ask_it, ask_it, ask_it) as came:
            until(lambda: begun)
            gate.set()
        assert len(begun) == 1
        assert len({body for _, _, body in came}) == 1


def test_a_failure_is_not_remembered(index, monkeypatch):
    with served(make_app(index)) as port:
        with monkeypatch.context() as patched:
            patched.setattr(MoleculeIndex, "query", lambda *args, **kwargs: 1 / 0)
            assert ask(port, "GET", f"/answer.csv?up={UP[4]}")[0] == 500
        assert ask(port, "GET", f"/answer.csv?up={UP[4]}")[0] == 200


def test_a_slow_upload_holds_no_other_up(index, held):
    contents = [matrix_csv(STUDY.ge[i : i + 1], ["a"]) for i in (1, 2)]
    with served(make_app(index, n_running=2)) as port:
        first = []

        def is_first(*args, **kwargs):
            first.append(args)
            return len(first) == 1

        gate, begun = held(datasets, "read_profiles", is_first)
        slow = partial(send_form, port, file=("slow.csv", contents[0]))
        with asking(slow) as came:
            until(lambda: begun)
            assert send_form(port, file=("quick.csv", contents[1]))[0] == 303
            assert not came
            gate.set()
        assert came[0][0] == 303


# Files


def matrix_csv(profiles, names):
    return pd.DataFrame(profiles, columns=SYMBOLS, index=names).to_csv().encode()


def test_profiles_of_a_file_are_one_condition(port, index):
    chosen = STUDY.ge[[3, 4, 9]]
    content = matrix_csv(chosen, ["a", "b", "c"])
    status, where, _ = send_form(port, file=("mine.csv", content), n=5)
    assert status == 303
    found = rows_of(ask(port, "GET", where.replace("/answer", "/answer.csv"))[2])
    expected = index.query(chosen, 5, groups=["x"] * 3)
    assert [row["molecule"] for row in found] == expected["molecule"].tolist()
    scores = [float(row["score"]) for row in found]
    np.testing.assert_allclose(scores, expected["score"], rtol=1e-4)
    page = ask(port, "GET", where)[2]
    assert "3 profiles are asked as one condition." in page
    assert "mine.csv" in page


def test_gct(port, index):
    lines = ["#1.2", f"{len(SYMBOLS)}\t1", "NAME\tDescription\tq"]
    lines += [f"{s}\tna\t{v}" for s, v in zip(SYMBOLS, STUDY.ge[5], strict=True)]
    content = "\n".join(lines).encode() + b"\n"
    status, where, text = send_form(port, file=("q.gct", content), n=2)
    assert status == 303, text
    found = rows_of(ask(port, "GET", where.replace("/answer", "/answer.csv"))[2])
    expected = index.query(STUDY.ge[5:6], 2)
    assert [row["molecule"] for row in found] == expected["molecule"].tolist()


def test_a_table_of_differential_expression(port):
    if not hasattr(datasets, "read_de_table"):
        pytest.skip("datasets has no read_de_table")
    table = pd.DataFrame(
        {
            "baseMean": 100.0, "log2FoldChange": STUDY.ge[7] / 2, "lfcSE": 0.5,
            "stat": STUDY.ge[7], "pvalue": 0.01, "padj": 0.02,
        },
        index=SYMBOLS,
    )  # fmt: skip
    table.loc["NOTAGENE"] = table.iloc[0]
    status, where, text = send_form(port, file=("d.csv", table.to_csv().encode()), n=3)
    assert status == 303, text
    page = ask(port, "GET", where)[2]
    assert "A DESeq2 table" in page
    assert "60 of 61 genes used" in page
    assert "unknown 1" in page
    found = rows_of(ask(port, "GET", where.replace("/answer", "/answer.csv"))[2])
    content = matrix_csv(STUDY.ge[7:8], ["a"])
    where = send_form(port, file=("m.csv", content), n=3)[1]
    expected = rows_of(ask(port, "GET", where.replace("/answer", "/answer.csv"))[2])
    assert [r["molecule"] for r in found] == [r["molecule"] for r in expected]


class Runs:
    def __reduce__(self):
        return (print, ("ran",))


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.csv", "x")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (pickle.dumps(Runs()), "It is a pickle"),
        (gzip.compress(b"a,b\n1,2\n"), "It is packed (gzip)"),
        (zipped(), "It is packed (.zip"),
        (b"  \n", "is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "evil.csv"),
        (b"<html><script>alert(1)</script>", ""),
        (b"#1.3\n999999999\t999999999\t9\t9\n", ""),
        (bytes(range(256)) * 20, ""),
        (b"gene,x\nNOTAGENE,1\nNORTHIS,2\n", ""),
    ],
    # Not the bytes, in which gzip writes the time: workers must collect the same.
    ids=["pickle", "gzip", "zip", "blank", "HDF5", "HTML", "GCT", "any", "no genes"],
)
def test_files_that_are_refused(port, capfd, content, said):
    status, _, text = send_form(port, file=("evil.csv", content))
    assert status == 400
    assert said in text
    assert "/tmp" not in text
    assert "Traceback" not in text
    assert "<script>alert" not in text
    assert "ran" not in capfd.readouterr().out


def test_an_upload_that_is_gone(port):
    status, _, text = ask(port, "GET", f"/answer?upload={'0' * 32}")
    assert status == 410
    assert "upload it again" in text


def test_uploads_are_kept_within_some_bytes(index):
    app = make_app(index, max_kept=1)
    with served(app) as port:
        places = [
            send_form(port, file=(f"{i}.csv", matrix_csv(STUDY.ge[i : i + 1], ["a"])))[
                1
            ]
            for i in range(2)
        ]
        assert [ask(port, "GET", where)[0] for where in places] == [410, 200]


def test_one_file_has_one_link(index):
    content = matrix_csv(STUDY.ge[:1], ["a"])
    with served(make_app(index)) as port:
        links = [send_form(port, file=(n, content))[1] for n in ("a.csv", "b.txt")]
        assert links[0] == links[1]
        key = hashlib.sha256(content).hexdigest()[:32]
        assert parse_qs(urlsplit(links[0]).query)["upload"] == [key]


def test_links_to_uploads_outlive_the_server(index, tmp_path):
    folder = tmp_path / "kept"
    table = dict(zip([*SYMBOLS, "FOO"], np.linspace(-2, 2, 61), strict=True))
    with served(make_app(index, uploads=folder)) as port:
        where = send_form(port, file=("mine.csv", table_of(table)))[1]
        before = ask(port, "GET", where)[2]
    assert folder.stat().st_mode & 0o777 == 0o700
    with served(make_app(index, uploads=folder)) as port:
        assert ask(port, "GET", where)[2] == before
    assert "FOO: unknown" in before
    (kept,) = folder.iterdir()
    damaged = kept.read_bytes()
    kept.write_bytes(damaged[:-1] + bytes([damaged[-1] ^ 1]))
    shutil.copy(kept, folder / f"{'0' * 32}-{'0' * 12}.upload")
    with pytest.warns(DataWarning, match="1 file .* cannot be read.*; 1 file .* other"):
        app = make_app(index, uploads=folder)
    with served(app) as port:
        assert ask(port, "GET", where)[0] == 410
        assert send_form(port, file=("mine.csv", table_of(table)))[1] == where
        assert ask(port, "GET", where)[2] == before
    assert kept.read_bytes() == damaged


def test_no_file_of_uploads_is_unpickled(index, tmp_path, capfd):
    make_app(index, uploads=tmp_path)
    with served(make_app(index, uploads=tmp_path)) as port:
        where = send_form(port, file=("a.csv", matrix_csv(STUDY.ge[:1], ["a"])))[1]
    (kept,) = tmp_path.iterdir()
    rest = pickle.dumps(Runs())
    kept.write_bytes(hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest)
    with pytest.warns(DataWarning, match="cannot be read"):
        app = make_app(index, uploads=tmp_path)
    with served(app) as port:
        assert ask(port, "GET", where)[0] == 410
    assert "ran" not in capfd.readouterr().out


def test_the_folder_of_uploads_is_bounded(index, tmp_path):
    with served(make_app(index, max_kept=1, uploads=tmp_path)) as port:
        for i in range(3):
            content = matrix_csv(STUDY.ge[i : i + 1], ["a"])
            where = send_form(port, file=("a.csv", content))[1]
            assert len(list(tmp_path.iterdir())) == 1
    with served(make_app(index, max_kept=1, uploads=tmp_path)) as port:
        assert ask(port, "GET", where)[0] == 200


def test_servers_share_a_folder_of_uploads(index, tmp_path):
    apps = [make_app(index, uploads=tmp_path) for _ in range(2)]
    with served(apps[0]) as first, served(apps[1]) as second:
        where = send_form(first, file=("a.csv", matrix_csv(STUDY.ge[:1], ["a"])))[1]
        assert ask(second, "GET", where)[0] == 200


def test_a_folder_that_cannot_be_written(index, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        make_app(index, uploads=tmp_path / "file")


# Workbooks


def de_table():
    columns = {"log2FoldChange": STUDY.ge[7] / 2, "stat": STUDY.ge[7], "padj": 0.02}
    return pd.DataFrame(columns, index=pd.Index(SYMBOLS, name="gene"))


def test_a_workbook(port):
    pytest.importorskip("openpyxl")
    book = io.BytesIO()
    de_table().to_excel(book)
    sent = [
        send_form(port, file=("d.xlsx", book.getvalue()), n=3),
        send_form(port, file=("d.csv", de_table().to_csv().encode()), n=3),
    ]
    assert [status for status, _, _ in sent] == [303, 303], sent
    pages = [ask(port, "GET", where.replace("r?", "r.csv?"))[2] for _, where, _ in sent]
    molecules = [[row["molecule"] for row in rows_of(page)] for page in pages]
    assert len(molecules[0]) == 3
    assert molecules[0] == molecules[1]


SHEET = '<worksheet xmlns="{}">{{}}<sheetData>{{}}</sheetData></worksheet>'.format(
    "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
)


def workbook(sheet, **others):
    """Return a workbook with another sheet than its own, and further members."""
    book, changed = io.BytesIO(), io.BytesIO()
    de_table().to_excel(book)
    with (
        zipfile.ZipFile(book) as old,
        zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.namelist():
            is_sheet = member == "xl/worksheets/sheet1.xml"
            new.writestr(member, sheet if is_sheet else old.read(member))
        for name, content in others.items():
            new.writestr(f"{name}.xml", content)
    return changed.getvalue()


@pytest.mark.parametrize(
    ("sheet", "others", "said"),
    [
        # A bomb of zip: 80 MB in 80 KB.
        (SHEET.format("", ""), {"more": bytes(8 * 10**7)}, "unpacks into 80,"),
        # One that openpyxl pads: few cells, far away.
        (SHEET.format("", '<row r="9999999"/>'), {}, "A sheet may have 200,000 rows"),
        (SHEET.format("", '<row><c r="XFD1"/></row>'), {}, "1,000 columns"),
        (SHEET.format("", '<row><c r="B9999999"/></row>'), {}, "200,000 rows"),
        (SHEET.format('<dimension ref="A1:XFD1048576"/>', ""), {}, "A sheet may have"),
        (SHEET.format("", '<row r="150000"><c r="ZZ150000"/></row>'), {}, "4,000,000"),
        (SHEET.format("", "<row/>" * 200_001), {}, "200,000 rows"),
        (SHEET.format("", '<row r="-1"/>'), {}, "is no row"),
        (SHEET.format("", '<row><c r="?"/></row>'), {}, "is no cell"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', {}, "entities of its own"),
        ("<a>" * 200 + "</a>" * 200, {}, "nested too deeply"),
        ("<a>", {}, "The workbook is damaged"),
        (SHEET.format("", ""), {f"a{i}": "<a/>" for i in range(1000)}, "1,000 parts"),
    ],
)
def test_workbooks_that_are_refused(port, sheet, others, said):
    pytest.importorskip("openpyxl")
    content = workbook(sheet, **others)
    assert len(content) < 200_000
    status, _, text = send_form(port, file=("evil.xlsx", content))
    assert status == 400
    assert said in text


def test_a_workbook_that_says_it_is_smaller(port):
    pytest.importorskip("openpyxl")
    large = 8 * 10**7
    content = workbook(SHEET.format("", ""), more=b" " * large)
    # The directory of the archive, which is what readers go by, says less.
    lying = content.replace(struct.pack("<I", large), struct.pack("<I", 1000))
    assert lying != content
    status, _, text = send_form(port, file=("evil.xlsx", lying))
    assert status == 400
    assert "The workbook is damaged" in text


# Sets


def test_a_profile_has_a_set_and_a_list_of_genes_has_none():
    sure = ConformalRetriever(
        make_pipeline(MorganFingerprinter(fp_size=256), CCA(8, ridge=0.1)),
        0.8, random_state=0,
    )  # fmt: skip
    index = MoleculeIndex(
        sure.fit(STUDY.smiles, STUDY.ge, groups=STUDY.groups), genes=STUDY.genes
    ).fit(LIBRARY)
    clear = index.significance(STUDY.ge[:30])["p_value"].argsort()
    with served(make_app(index)) as port:
        sent = matrix_csv(STUDY.ge[clear[:1]], ["a"])
        where = send_form(port, file=("a.csv", sent))[1]
        page = ask(port, "GET", where)[2]
        assert "The 80 % set has " in page
        assert "In the set" in page
        key = parse_qs(urlsplit(where).query)["upload"][0]
        assert "in_set" in api(port, "/api/query", {"upload": key})[1]["answers"][0]
        noise = matrix_csv(STUDY.ge[clear[-1:]], ["a"])
        where = send_form(port, file=("b.csv", noise))[1]
        assert "Its conformal set says nothing" in ask(port, "GET", where)[2]
        assert " % set " not in ask(port, "GET", f"/answer?up={'+'.join(UP)}")[2]
        assert "in_set" not in api(port, "/api/query", {"up": UP})[1]["answers"][0]
        assert ask(port, "GET", where.replace("/answer", "/why"))[2].count("<img") == 3


# What is refused


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({}, 400, "Paste at least one gene"),
        ({"up": "NOTAGENE"}, 400, "None of 1 gene is in the model"),
        ({"up": UP[0], "down": UP[0]}, 400, "In both lists"),
        ({"up": UP[0], "smarts": "C(("}, 400, "must be SMARTS"),
        ({"up": UP[0], "like": "C(("}, 400, "not a valid SMILES"),
        ({"up": UP[0], "column": "nothing", "value": "1"}, 400, "has no column"),
        ({"up": UP[0], "n": "0"}, 422, "n: "),
        ({"up": UP[0], "near_min": "2"}, 422, "near_min"),
        ({"up": UP[0], "unheard": "of"}, 422, "unheard"),
        ({"up": "A " * 6000}, 400, "At most 5,000 genes"),
        ({"up": EVIL}, 400, ""),
        ({"up": UP[0], "upload": "../../etc/passwd"}, 422, "upload"),
    ],
)
def test_questions_that_are_refused(port, fields, status, said):
    found, headers, text = ask(port, "GET", f"/answer?{urlencode(fields)}")
    assert found == status
    assert said in text
    assert "alert('x')" not in text.replace("&#39;", "?")
    assert headers["content-type"].startswith("text/html")


def test_errors_of_the_interface_are_json(port):
    assert api(port, "/api/query", {"up": ["NOTAGENE"]})[0] == 400
    status, found = api(port, "/api/query", {"up": ["A"], "other": 1})
    assert status == 422
    assert "other" in found["detail"]
    assert api_get(port, "/api/nothing")[0] == 404
    assert ask(port, "GET", "/nothing")[0] == 404
    assert ask(port, "GET", "/static/..%2f_app.py")[0] == 404


@pytest.mark.parametrize("announced", [True, False])
def test_more_than_can_be_sent(port, announced):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    head = 'content-disposition: form-data; name="file"; filename="a"'
    body = f"--e\r\n{head}\r\n\r\n".encode() + b"x" * 300_000
    parts = (body[i : i + 50_000] for i in range(0, len(body), 50_000))
    kind = {"content-type": "multipart/form-data; boundary=e"}
    try:
        connection.request(
            "POST", "/ask", body if announced else parts, kind,
            encode_chunked=not announced,
        )  # fmt: skip
        status = connection.getresponse().status
    except (BrokenPipeError, ConnectionResetError):  # it hung up before the end
        status = 413
    finally:
        connection.close()
    assert status == 413


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil"]
)
def test_other_names_of_the_server(port, host):
    assert ask(port, "GET", "/", headers={"host": host})[0] == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:1", "[::1]:8000", "[::1]"])
def test_own_names_of_the_server(port, host):
    assert ask(port, "GET", "/", headers={"host": host})[0] == 200


def test_other_pages_may_not_send_forms(port):
    headers = {"origin": "http://evil.example", "content-type": "application/json"}
    assert ask(port, "POST", "/api/genes", '{"genes": []}', headers)[0] == 403
    headers["origin"] = "null"
    assert ask(port, "POST", "/api/genes", '{"genes": []}', headers)[0] == 403
    headers["origin"] = f"http://127.0.0.1:{port}"
    assert ask(port, "POST", "/api/genes", '{"genes": []}', headers)[0] == 200


@pytest.mark.parametrize(
    "path",
    ["/", f"/answer?up={UP[0]}", f"/why?up={UP[0]}", "/molecule", "/api", "/x"],
)
def test_headers_and_no_other_server(port, path):
    _, headers, text = ask(port, "GET", path)
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    page = Page(text)
    assert all(link.startswith(("/", "data:", "#")) for link in page.links)
    assert not any(link.startswith("//") for link in page.links)
    assert page.fields <= page.labelled
    assert page.tags.count("script") == 1 + (path in ("/", "/molecule"))


def test_names_of_the_library_are_text(port):
    page = ask(port, "GET", f"/answer?up={UP[0]}&column=name&value=script")[2]
    assert EVIL not in page
    assert "&lt;script&gt;alert" in page


# A token


def test_token(index):
    with served(make_app(index, token=TOKEN)) as port:
        status, _, text = ask(port, "GET", "/")
        assert status == 401
        assert "<form" in text
        assert TOKEN not in text
        assert ask(port, "GET", "/?token=wrong")[0] == 401
        assert ask(port, "GET", "/static/page.css")[0] == 401
        where = f"/answer?{urlencode({'up': UP[0], 'token': TOKEN, 'n': 2})}"
        status, headers, _ = ask(port, "GET", where)
        assert status == 303
        assert headers["location"] == f"/answer?up={UP[0]}&n=2"
        cookie = headers["set-cookie"].split(";")
        assert TOKEN not in cookie[0]
        assert {" HttpOnly", " SameSite=Lax"} <= set(cookie)
        known = {"cookie": f"other=1; {cookie[0]}"}
        assert ask(port, "GET", headers["location"], headers=known)[0] == 200
        assert ask(port, "GET", "/", headers={"cookie": "molge=wrong"})[0] == 401
        assert ask(port, "GET", "/", headers={"cookie": '="\x01;;'})[0] == 401
        bearer = {"authorization": f"Bearer {TOKEN}"}
        assert ask(port, "GET", "/api/info", headers=bearer)[0] == 200
        assert ask(port, "GET", "/api/info")[0] == 401
        token = urlencode({"token": TOKEN})
        status, headers, _ = ask(port, "GET", f"/%09/evil.example?{token}")
        assert (status, headers["location"]) == (303, "/%09/evil.example")
        status, headers, _ = ask(port, "GET", f"//evil.example?{token}")
        assert headers["location"] == "/evil.example"


def test_unsafe_settings_are_refused(index, tmp_path):
    with pytest.raises(ValueError, match="8 characters or more"):
        make_app(index, token="short")
    with pytest.raises(ValueError, match="needs a token"):
        make_app(index, hosts=None)
    for host in ("0.0.0.0", "192.168.1.2", "example.org", "::"):
        with pytest.raises(ValueError, match="reached from other machines"):
            serve(tmp_path, host=host)
    fewer = Study(
        STUDY.smiles, ge=STUDY.ge[:, :50], obs=STUDY.obs, genes=STUDY.genes.head(50)
    )
    with pytest.raises(ValueError, match="study must have all 60 genes"):
        make_app(index, study=fewer)


def test_a_taken_port_is_told_before_the_index_is_opened(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"port={port} .* Give another port"):
            serve(tmp_path / "no-index", port=port)


# Too much at once, and failures

GATE = threading.Event()
FAILS = threading.Event()


class Gated(EmbedderMixin, BaseEstimator):
    """Waits where a test wants it to, or fails."""

    metric = "correlation"

    def fit(self, X, y):
        self.n_genes_in_ = y.shape[1]
        return self

    def transform(self, X):
        return MorganFingerprinter(fp_size=32).transform(X).astype(float)

    def transform_ge(self, y):
        GATE.wait(20)
        if FAILS.is_set():
            raise RuntimeError("a secret of the server")
        return np.asarray(y)[:, :32]


@pytest.fixture
def gated():
    GATE.set()
    index = MoleculeIndex(Gated().fit(STUDY.smiles, STUDY.ge), genes=STUDY.genes)
    yield index.fit(LIBRARY)
    GATE.set()
    FAILS.clear()


def test_a_full_queue(gated):
    with served(make_app(gated, n_running=1, n_waiting=1)) as port:
        GATE.clear()
        found = []

        def client(gene):
            found.append(ask(port, "GET", f"/answer.csv?up={gene}&n=2"))

        clients = [threading.Thread(target=client, args=(gene,)) for gene in UP[:6]]
        for thread in clients:
            thread.start()
        # One is worked on and one waits, until the gate opens.
        deadline = time.monotonic() + 15
        while len(found) < 4 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert [status for status, _, _ in found] == [503] * 4
        assert found[0][1]["retry-after"] == "5"
        assert ask(port, "GET", "/")[0] == 200  # what needs no work is served
        GATE.set()
        for thread in clients:
            thread.join()
        assert sorted(status for status, _, _ in found) == [200] * 2 + [503] * 4
        assert ask(port, "GET", f"/answer.csv?up={UP[2]}&n=2")[0] == 200


def test_a_question_that_takes_too_long(gated):
    with served(make_app(gated, n_running=1, timeout=0.2)) as port:
        GATE.clear()
        status, _, text = ask(port, "GET", f"/answer?up={UP[0]}")
        assert status == 504
        assert "No answer within 0.2 seconds" in text
        GATE.set()


def test_no_traceback_is_shown(gated, caplog):
    with served(make_app(gated)) as port:
        FAILS.set()
        for path in (f"/answer?up={UP[0]}", f"/answer.csv?up={UP[0]}"):
            status, headers, text = ask(port, "GET", path)
            assert status == 500
            assert "secret" not in text
            assert "Traceback" not in text
            assert "content-security-policy" in headers
        assert "a secret of the server" in caplog.text


# One molecule


def test_a_molecule_by_its_model(port, index):
    smiles = LIBRARY[3]
    status, found = api(port, "/api/molecule", {"smiles": smiles, "n": 4})
    assert status == 200
    both = np.concatenate([np.eye(60), -np.eye(60)])
    scores = similarity(index.estimator_, [smiles], both)[:, 0]
    slow = (scores[:60] - scores[60:]) / 2
    assert found["up"][0]["gene"] == SYMBOLS[int(np.argmax(slow))]
    assert found["down"][0]["gene"] == SYMBOLS[int(np.argmin(slow))]
    measured = similarity(index.estimator_, [smiles], STUDY.ge)[:, 0]
    scores = [row["score"] for row in found["signatures"]]
    np.testing.assert_allclose(scores, np.sort(measured)[::-1][:4], rtol=1e-6)
    inchi = Chem.MolToInchi(Chem.MolFromSmiles(smiles))
    again = api(port, "/api/molecule", {"smiles": inchi, "n": 4})[1]
    assert again["up"] == found["up"]
    page = ask(port, "GET", f"/molecule?{urlencode({'smiles': smiles})}")[2]
    assert "Nearest measured signatures" in page
    assert page.count("<img") == 1


def test_a_predicted_profile():
    regressor = make_pipeline(MorganFingerprinter(fp_size=64), Ridge(1.0))
    model = PredictedProfileRetriever(regressor).fit(STUDY.smiles, STUDY.ge)
    with served(make_app(make_index(model))) as port:
        _, found = api(port, "/api/molecule", {"smiles": LIBRARY[0], "n": 3})
    predicted = model.transform(LIBRARY[:1])[0]
    order = np.argsort(-predicted)
    assert "predicts" in found["how"]
    assert [g["gene"] for g in found["up"]] == [SYMBOLS[i] for i in order[:3]]
    values = [g["value"] for g in found["up"]]
    np.testing.assert_allclose(values, predicted[order[:3]], rtol=1e-6)
    assert found["signatures"] == []


def test_a_molecule_that_is_none(port):
    status, _, page = ask(port, "GET", f"/molecule?{urlencode({'smiles': EVIL})}")
    assert status == 400
    assert "<script>alert" not in page
    assert api(port, "/api/molecule", {"smiles": "C(("})[0] == 400


# For programs


def test_openapi(port):
    _, found = api_get(port, "/api/openapi.json")
    assert found["openapi"].startswith("3.1")
    assert set(found["paths"]) == {
        "/api/info", "/api/genes", "/api/query", "/api/why", "/api/molecule",
    }  # fmt: skip
    page = ask(port, "GET", "/api")[2]
    assert all(path in page for path in found["paths"])
    assert [ask(port, "GET", path)[0] for path in ("/docs", "/redoc")] == [404, 404]


def test_downloads(port):
    where = f"/answer.{{}}?up={UP[0]}&n=3"
    sdf = ask(port, "GET", where.format("sdf"))[2]
    supplier = Chem.SDMolSupplier()
    supplier.SetData(sdf)
    assert len(list(supplier)) == 3
    page = ask(port, "GET", where.format("html"))[2]
    assert page.startswith("<!DOCTYPE html>")
    assert "default-src" in page
    assert ask(port, "GET", where.format("pkl"))[0] == 404


def test_the_examples_of_the_page_and_the_guide_are_one():
    """A client of ten lines."""
    from pathlib import Path

    template = files("sklearn_molge.app").joinpath("_interface.html.jinja").read_text()
    shown = template.split("<pre><code>")[1].split("</code>")[0].strip()
    guide = Path(__file__).parents[2] / "docs" / "user_guide" / "page.md"
    assert shown in guide.read_text(encoding="utf-8")


# In a browser


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright")
    path = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if path is None:
        pytest.skip("no browser on the path")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=ARGS)
        yield browser
        browser.close()


@pytest.mark.parametrize("script", [True, False])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_from_pasted_genes_to_a_csv(browser, port, width, scheme, script, tmp_path):
    context = browser.new_context(
        viewport={"width": width, "height": 800}, color_scheme=scheme,
        java_script_enabled=script,
    )  # fmt: skip
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    home = f"http://127.0.0.1:{port}/"
    page.goto(home)
    page.get_by_label("Genes that go up").fill("\n".join(UP))
    page.get_by_label("Genes that go down").fill(", ".join(DOWN))
    page.get_by_label("Genes that go down").press("Tab")
    page.get_by_text("Only some molecules").click()
    page.get_by_label("Mechanism contains").fill("class 1")
    page.get_by_role("button", name="Rank molecules").press("Enter")
    page.wait_for_url("**/answer?**")
    assert page.get_by_text("genes used").first.is_visible()
    wide = page.locator("html").bounding_box()["width"]
    assert wide <= width
    page.get_by_role("link", name="Show the atoms and genes").click()
    page.get_by_text("Blue atoms").wait_for()
    assert ("/why?" in page.url) == (not script)
    assert page.locator(".why img").count() == 3
    assert page.locator("html").bounding_box()["width"] <= width
    if script:
        assert page.locator("#why-title").evaluate("e => e === document.activeElement")
    else:
        page.get_by_role("link", name="Back to the answer").click()
    with page.expect_download() as download:
        page.get_by_role("link", name="CSV", exact=True).click()
    found = pd.read_csv(download.value.path())
    assert set(found["moa"]) == {"class 1"}
    assert found["rank"].tolist() == list(range(1, len(found) + 1))
    address = page.url
    assert parse_qs(urlsplit(address).query)["up"] == [" ".join(UP)]
    page.get_by_role("link", name="Change the question").click()
    assert page.get_by_label("Mechanism contains").input_value() == "class 1"
    assert page.get_by_label("Genes that go up").input_value() == " ".join(UP)
    if script:
        page.goto(home)
        page.locator("#history a").first.click()
        assert page.url == address
        page.goto(home)
        page.get_by_role("button", name="Forget them").click()
        assert not page.locator("#history").is_visible()
    context.close()
    assert said == []
    assert {urlsplit(url).netloc for url in asked} <= {f"127.0.0.1:{port}", ""}


@pytest.mark.parametrize(("path", "field"), [("/", "like"), ("/molecule", "smiles")])
def test_a_structure_is_drawn(browser, port, path, field):
    context = browser.new_context()
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"http://127.0.0.1:{port}{path}")
    if path == "/":
        page.get_by_text("Only some molecules").click()
    page.locator(f"#{field}").fill("c1ccccc1C(=O)O")
    page.get_by_role("button", name="Draw it").click()
    dialog = page.get_by_role("dialog", name="Draw a structure")
    canvas = dialog.locator(".sketch-canvas")
    canvas.wait_for()
    box = canvas.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 40, box["y"] + box["height"] - 40)
    dialog.get_by_role("button", name="Use it").click()
    # What was in the field, and a bond where the click was.
    drawn = page.locator(f"#{field}").input_value()
    assert set(canonical_smiles([drawn])) == set(
        canonical_smiles(["OC(=O)c1ccccc1.CC"])
    )
    page.locator(f"#{field}").fill("((%")
    page.get_by_role("button", name="Draw it").click()
    dialog.get_by_text("no SMILES").wait_for()
    page.keyboard.press("Escape")
    assert page.locator(f"#{field}").input_value() == "((%"
    context.close()
    assert said == []


def test_a_file_in_the_browser(browser, port, tmp_path):
    path = tmp_path / "profiles.csv"
    path.write_bytes(matrix_csv(STUDY.ge[:2], ["a", "b"]))
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{port}/")
    page.get_by_label("Or a file").set_input_files(path)
    page.get_by_role("button", name="Rank molecules").click()
    page.wait_for_url("**/answer?upload=*")
    assert re.search("2 profiles are asked", page.content())
    context.close()


# What is asked is what is answered


def answer_of(port, **fields):
    """Send the form, and return the status and the text of the page it leads to."""
    status, where, body = send_form(port, **fields)
    return ask(port, "GET", where)[::2] if status == 303 else (status, body)


def table_of(values, header="gene,value"):
    rows = [f"{name},{value}" for name, value in values.items()]
    return "\n".join([header, *rows]).encode()


def test_a_question_is_of_genes_or_of_a_file(port):
    values = dict(zip(SYMBOLS, np.linspace(-2, 2, len(SYMBOLS)), strict=True))
    status, body = answer_of(port, up=UP[0], file=("a.csv", table_of(values)))
    assert status == 400
    assert "genes or a file, not both" in body


def test_a_field_that_was_emptied_keeps_its_address(port):
    assert answer_of(port, up=" ".join(UP), like_min="")[0] == 200


@pytest.mark.parametrize("part", [{"column": "price"}, {"value": "7"}])
def test_half_a_filter_is_refused(port, part):
    status, body = api(port, "/api/query", {"up": UP, **part})
    assert status == 400
    assert "needs the column and what it contains" in body["detail"]


@pytest.mark.parametrize("side", ["rows", "columns"])
def test_the_account_of_a_file_has_its_own_names(port, side):
    values = dict(zip([*SYMBOLS[:40], "FOO"], np.linspace(-2, 2, 41), strict=True))
    content = table_of(values)
    if side == "columns":
        content = pd.DataFrame([values], index=["a"]).to_csv().encode()
    status, body = answer_of(port, file=("a.csv", content))
    assert status == 200
    assert "40 of 41 genes used" in body
    assert "FOO: unknown" in body


def test_a_table_with_fold_changes_is_no_table_of_profiles(port):
    header = "gene,log2FC,p_adj.loc"
    values = {name: f"{i % 7 - 3},0.5" for i, name in enumerate(SYMBOLS)}
    body = answer_of(port, file=("a.csv", table_of(values, header)))[1]
    assert "2 profiles" not in body
    assert "A statistics table: log2FC." in body


def test_a_packed_file_behind_a_text_is_refused(port):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("[Content_Types].xml", "")
    status, body = answer_of(port, file=("a.csv", b"gene,t\n" + packed.getvalue()))
    assert status == 400
    assert "It is packed" in body


def test_filters_by_numbers_and_by_columns_of_taken_names():
    index = MoleculeIndex(cca(), genes=STUDY.genes)
    n = len(LIBRARY)
    columns = {"price": [7, None] * (n // 2), "drug": ["a", "b"] * (n // 2)}
    index.fit(LIBRARY, columns=columns)
    with served(make_app(index, n_permutations=0)) as port:
        for column, value in [("price", "7"), ("price", "7.0"), ("drug_library", "a")]:
            asked = {"up": UP, "column": column, "value": value, "how": "equals"}
            status, found = api(port, "/api/query", {**asked, "n": n})
            assert status == 200
            assert len(found["answers"]) == n // 2
            assert {row["drug_library"] for row in found["answers"]} == {"a"}
        assert api(port, "/api/query", asked | {"column": "drug"})[0] == 400


def test_genes_that_a_model_knows_by_number_are_shown_by_symbol():
    human = files("sklearn_molge.expression").joinpath("human_genes.tsv.gz")
    known = pd.read_csv(human, sep="\t", comment="#", dtype=str).iloc[:60]
    profiles = pd.DataFrame(STUDY.ge, columns=known["gene_id"].to_numpy(object))
    model = make_pipeline(MorganFingerprinter(fp_size=256), CCA(8, ridge=0.1))
    index = MoleculeIndex(model.fit(STUDY.smiles, profiles)).fit(LIBRARY)
    with served(make_app(index, n_permutations=0)) as port:
        asked = {"up": known["symbol"].tolist()[:3], "n": 2}
        (first, _) = api(port, "/api/why", asked)[1]
        assert {each["gene"] for each in first["genes"]} <= set(known["symbol"])
        found = api(port, "/api/molecule", {"smiles": LIBRARY[0], "n": 3})[1]
        assert {each["gene"] for each in found["up"]} <= set(known["symbol"])


def test_warnings_of_others_are_not_noted(port, monkeypatch):
    read = datasets.read_profiles

    def reading(*args, **kwargs):
        other = threading.Thread(target=warnings.warn, args=("of another question",))
        other.start()
        other.join()
        warnings.warn("of this question", stacklevel=2)
        return read(*args, **kwargs)

    monkeypatch.setattr(datasets, "read_profiles", reading)
    values = dict(zip(SYMBOLS, np.linspace(-3, 2, len(SYMBOLS)), strict=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        body = answer_of(port, file=("w.csv", table_of(values)))[1]
    assert "of this question" in body
    assert "of another question" not in body


@pytest.mark.parametrize("group", ["obs", "var", "X"])
def test_a_small_h5ad_that_unpacks_to_much_is_refused(group, index):
    h5py = pytest.importorskip("h5py")
    content, chunk = io.BytesIO(), zlib.compress(bytes(8 * 10**7), 9)
    with h5py.File(content, "w") as file:
        bomb = file.create_dataset(
            group if group == "X" else f"{group}/k", shape=(10**8,), dtype="f8",
            chunks=(10**7,), compression="gzip",
        )  # fmt: skip
        for start in range(0, 10**8, 10**7):
            bomb.id.write_direct_chunk((start,), chunk)
    assert len(content.getvalue()) < 10**6
    with served(make_app(index)) as port:
        status, body = answer_of(port, file=("a.h5ad", content.getvalue()))
    assert status == 400
    assert "It unpacks into 800,000,000 bytes" in body
