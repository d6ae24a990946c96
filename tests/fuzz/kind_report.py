"""A report: a folder of JSON, CSV and pictures, which people send each other."""

import csv
import hashlib
import html.parser
import json
import os
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
from harness import FileKind, same
from mutations import mutate

from sklearn_molge.evaluation import (
    ColumnInfo,
    ReportFigure,
    ReportTable,
    Section,
    StudyReport,
)

EVIL = [
    None, True, -1, 1e308, 10**30, 10**400, float("inf"), "", "x", "../../etc/passwd",
    "/etc/passwd", [], {}, [[]], {"a": {}}, "<script>alert(1)</script>", "\ud800",
    "javascript:alert(1)", "=1+1", "@x", "\x1b[2J", "'\" onload=alert(1) x='",
    "A" * 9999, "S999999999", "Sparse[int]", "datetime64[ns]", "integer", "index",
    "method", "name", "label", "error", "source", "undefined", "x_low", "figure",
    "table", "primaryKey", 10**9, 99, "Infinity", 0.1,
]  # fmt: skip
CELLS = [
    "", "x", "=1+1", "'=1", "-5", "1e999", "nan", '"', '""', "\r", "\n", "\0", "1_0",
    ",", "99999999999999999999", "\u0661", "A" * 9999, "-inf", "TRUE",
]  # fmt: skip
IN_PICTURES = [
    "<script>alert(1)</script>", "<g onload='alert(1)'/>", "<foreignObject/>", "<g>",
    "<a href='javascript:alert(1)'/>", "<image href='https://example.org/x.png'/>",
    "<style>@import 'x';</style>", "<g style='fill: url(x.svg)'/>", "&#0;", "<g/>",
    "<img xmlns='http://www.w3.org/1999/xhtml' src='x' onerror='alert(1)'/>",
    "<use href='#a'/>", "]]>", "<!-- -->", "<?php ?>", "<g a='1' a='2'/>",
]  # fmt: skip
SVG = (
    "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'><style>*{stroke: red}"
    "</style><path id='a' d='M0 0L1 1' fill='url(#b)'/></svg>"
)


def make_report():
    scores = pd.DataFrame(
        {
            "label": ["CCA", "<b>D-NN</b>", "chance"],
            "mrr": [0.25, 0.125, np.nan],
            "mrr_low": [0.2, 0.1, np.nan],
            "mrr_high": [0.3, 0.2, np.inf],
            "n": [3, 4, 5],
            "error": ["", "=no", ""],
        },
        index=pd.Index(["cca", "dnn", "chance"], name="method"),
    )
    plain = pd.DataFrame({"x": [1.5, -2.0], "ok": [True, False]})
    few = pd.DataFrame({"k": pd.array([1, None], dtype="Int64")}, index=["a", "-b"])
    tables = {"scores": scores, "plain": plain, "few": few}
    items = {name: ReportTable(table, name) for name, table in tables.items()}
    return StudyReport(
        "A study",
        [
            Section("Results", items, "Text."),
            Section("Pictures", {"p": ReportFigure("T", "C", "A", SVG, b"\x89PNG")}),
        ],
        description={"profiles": "10"},
        settings={"seed": "0"},
        seconds={"all": 1.5},
        command="python -m sklearn_molge evaluate",
        notes=["A note."],
        ranks=pd.DataFrame({"repeat": [0, 0], "drug": ["a", "=b"], "m": [1.0, 2.5]}),
        columns={"mrr": ColumnInfo("MRR", "help", True, 3)},
    )


class Report(FileKind):
    """A small report, in which a disk or a transfer changes bytes."""

    name = "report"
    sealed = True

    def make(self, folder):
        os.fsync = lambda handle: None  # of a thousand reports that nobody keeps
        make_report().save(folder)

    def read(self, folder):
        return contents(StudyReport.load(folder))


class HostileReport(Report):
    """A report whose checksums are right, and whose words and numbers are anything."""

    name = "report-hostile"
    sealed = False

    def prepare(self, folder):
        super().prepare(folder)
        read = [p for p in self.files if p.suffix in (".json", ".svg")]
        alone = [p for p in self.files if p.name in ("ranks.csv", "report.json")]
        self.files = read + 2 * alone

    def draw(self, rng):
        self.changed = super().draw(rng).relative_to(self.folder).as_posix()
        seal(self.folder, self.changed)
        return self.folder / self.changed

    def mutate(self, rng, path, content):
        if rng.random() < 0.2:
            return mutate(rng, content, self.max_bytes)
        if path.suffix == ".json":
            value = json.loads(content)
            for _ in range(rng.integers(1, 4)):
                value = changed_json(rng, value)
            return json.dumps(value).encode()
        if path.suffix == ".csv":
            return changed_csv(rng, content)
        if path.suffix == ".svg":
            at = content.index(b">", int(rng.integers(len(content) - 1))) + 1
            piece = IN_PICTURES[rng.integers(len(IN_PICTURES))].encode()
            return content[:at] + piece + content[at:]
        return mutate(rng, content, self.max_bytes)

    def read(self, folder):
        report = StudyReport.load(folder)
        found = contents(report)
        page = report.save(folder.with_name("again"))
        again = contents(StudyReport.load(page.parent))
        files = {p.name: p.read_bytes().decode() for p in page.parent.rglob("*.[hcs]*")}
        return {"found": found, "again": again, "text": str(report), "files": files}

    def judge(self, case, answer):
        if not same(answer["found"], answer["again"]):
            return "saved again, it is another report"
        if any(ord(c) < 32 and c not in "\n\t" for c in answer["text"]):
            return "control characters reach the terminal"
        for name, table in answer["found"]["tables"].items():
            good = self.expected["found"]["tables"].get(name)
            if self.changed not in ("report.json", f"tables/{name}.json") and not same(
                table, good
            ):
                return f"{name} is another table"
        return active_content(answer["files"])


def contents(report):
    """Return all that a report says, as plain values."""
    tables = {
        name: {
            str(key): [None if value is pd.NA else value for value in column]
            for key, column in frame.reset_index().items()
        }
        for name, frame in report.tables.items()
    }
    pictures = {
        n: (f.title, f.alt, f.svg, f.png.hex()) for n, f in report.figures.items()
    }
    about = [report.title, report.command, report.notes, report.settings]
    ranks = report.ranks.to_dict("list")
    return {"tables": tables, "pictures": pictures, "about": about, "ranks": ranks}


def seal(folder, changed):
    """Make the checksums right again."""
    path = folder / "report.json"
    try:
        metadata = json.loads(path.read_bytes())
        metadata.pop("sha256")
        if changed in metadata["files"]:
            content = (folder / changed).read_bytes()
            metadata["files"][changed] = hashlib.sha256(content).hexdigest()
        text = json.dumps(metadata, indent=1, ensure_ascii=False)
        metadata["sha256"] = hashlib.sha256(text.encode()).hexdigest()
        text = json.dumps(metadata, indent=1, ensure_ascii=False)
        path.write_bytes(text.encode())
    except (ValueError, KeyError, TypeError, AttributeError):
        pass  # it is so broken that no checksum helps


def changed_json(rng, value):
    """Return a value with one change somewhere inside."""
    places = list(walk(value))
    if not places:
        return EVIL[rng.integers(len(EVIL))]
    holder, key = places[rng.integers(len(places))]
    evil = EVIL[rng.integers(len(EVIL))]
    kind = rng.integers(5)
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[str(evil)] = holder.pop(key)
    elif kind == 2 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif kind == 3:
        other, where = places[rng.integers(len(places))]
        moved = json.loads(json.dumps(other[where])) if where in keys(other) else None
        holder[key] = moved
    else:
        holder[key] = evil
    return value


def keys(holder):
    return range(len(holder)) if isinstance(holder, list) else holder


def walk(value):
    if isinstance(value, dict | list):
        for key in list(keys(value)):
            yield value, key
            yield from walk(value[key])


def changed_csv(rng, content):
    """Return a table with another cell, or with a row or column more or less."""
    rows = list(csv.reader(content.decode().splitlines()))
    row = rows[rng.integers(len(rows))]
    cell = CELLS[rng.integers(len(CELLS))]
    kind = rng.integers(4)
    if kind == 0:
        row.append(cell)
    elif kind == 1:
        row.pop()
    elif kind == 2:
        rows.insert(int(rng.integers(len(rows))), list(row))
    elif row:
        row[rng.integers(len(row))] = cell
    quote = '"' if rng.random() < 0.5 else ""
    return "\n".join(",".join(f"{quote}{c}{quote}" for c in r) for r in rows).encode()


class Tags(html.parser.HTMLParser):
    """Finds what runs or loads something, by another parser than the library's."""

    def __init__(self):
        super().__init__()
        self.scripts, self.found = 0, None

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        if tag in ("iframe", "object", "embed", "base", "form", "foreignobject"):
            self.found = tag
        for key, value in attrs:
            links = key in ("href", "src", "xlink:href", "action")
            if key.startswith("on") or (
                links and not (value or "").startswith(("#", "data:"))
            ):
                self.found = f"{tag} {key}={value}"


def active_content(files):
    """Say what in the files of a report would run or load something."""
    for name, text in files.items():
        if name.endswith((".html", ".svg")):
            tags = Tags()
            tags.feed(text)
            if tags.found or tags.scripts != name.endswith(".html"):
                return f"{name} holds {tags.found or 'a script'}"
        if name.endswith(".svg"):
            ET.fromstring(text)
        if name.endswith(".csv"):
            for cell in (c for row in csv.reader(text.splitlines(True)) for c in row):
                if cell[:1] and cell[0] in "=+-@\t\r" and not is_number(cell):
                    return f"{name} holds the formula {cell!r}"
    return None


def is_number(text):
    try:
        float(text)
    except ValueError:
        return False
    return True


KINDS = [Report(), HostileReport()]
