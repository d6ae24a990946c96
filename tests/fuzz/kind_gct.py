"""GCT: tables of profiles as text, packed or not."""

import gzip
import re

import numpy as np
from harness import FileKind, same
from mutations import PIECES, mutate

from sklearn_molge.datasets import read_gct

GOOD = """#1.3
3\t4\t1\t2
id\tsymbol\ts1\ts2\ts3\ts4
cell\tna\tA375\tMCF7\tPC3\tVCAP
dose\tna\t1\t2.5\t10\t10
10\tAAA\t1.5\t-2.25\t0\t9.25
11\tBBB\t3\t4\t1e-3\t-6
12\tCCC\t7.125\t8\t9\t10
"""
# What some readers take for a number, and what none holds.
CELLS = [
    "9.25\x007", "1_000", "infinity", "-inf", "nan", "nan(1)", "\uff11\uff12",
    "0x1p3", "1d5", "1 2", " 5 ", "1e39", "1e999", "-666", "NA", "", "+", "1e",
    ".", "1,5", '"7"', '"7', "7.", ".5", "+1", "1\x0b", "9" * 400, "\u0663", "1\u2028",
    "1\x85", "1\xa0", "\ufeff1", "True", "1+2j", "1e-400", "00012", "--1",
]  # fmt: skip
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
BLANKS = ' \t\r\n\xa0\ufeff\u200b"'


def slow_read(content):
    """Read as the format says, cell by cell; None where that cannot be."""
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    try:
        wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("latin-1")
    lines = [t for t in re.split("\r\n|\r|\n", text) if t.strip(BLANKS)]
    version, counts = lines[0].strip(BLANKS), lines[1].replace('"', "").split()
    n_genes, n_samples, n_left, n_top = map(int, [*counts, "1", "0"][:4])
    assert version in ("#1.2", "#1.3")
    assert len(lines) == 3 + n_top + n_genes
    cells = [[bare(cell) for cell in line.split("\t")] for line in lines[2:]]
    matrix = [row[1 + n_left : 1 + n_left + n_samples] for row in cells[1 + n_top :]]
    numbers = [[float(t) if NUMBER.fullmatch(t) else None for t in r] for r in matrix]
    ids = [row[0] for row in cells[1 + n_top :]]
    return numbers, cells[0][1 + n_left :][:n_samples], ids


def bare(cell):
    cell = cell.strip().strip("\ufeff\u200b").strip()
    while len(cell) > 1 and cell[0] == cell[-1] == '"':
        cell = cell[1:-1].replace('""', '"').strip()
    return cell


class Gct(FileKind):
    """A small file of version 1.3."""

    name = "gct"

    def make(self, folder):
        folder.joinpath("a.gct").write_text(GOOD)

    def read(self, folder):
        data = read_gct(folder / "a.gct")
        texts = [data.obs.to_dict(), data.genes.to_dict()]
        return [data.matrix, list(data.obs.index), list(data.genes.index), texts]

    def mutate(self, rng, path, content):
        if rng.random() < 0.5:
            return super().mutate(rng, path, content)
        rows = [line.split("\t") for line in content.decode().split("\n")]
        for _ in range(rng.integers(1, 3)):
            row = rows[rng.integers(len(rows))]
            cell = CELLS[rng.integers(len(CELLS))]
            if rng.random() < 0.2:
                cell = PIECES[rng.integers(len(PIECES))].decode("latin-1")
            row[rng.integers(len(row))] = cell
        text = "\n".join("\t".join(row) for row in rows)
        return text.encode("utf-16" if rng.random() < 0.1 else "utf-8")

    def judge(self, case, answer):
        matrix, samples, genes, _ = answer
        numbers, columns, rows = slow_read(case.read_bytes())
        if any(None in row for row in numbers):
            return "a cell that is no number is read"
        with np.errstate(over="ignore"):
            expected = np.array(numbers).astype(np.float32).reshape(len(rows), -1).T
        if not np.isfinite(expected).all():
            return "a number that is not finite is read"
        return (
            None
            if same([expected, columns, rows], [matrix, samples, genes])
            else ("other numbers than the file's, or other names")
        )


class PackedGct(Gct):
    """The same by gzip, changed inside or outside."""

    name = "gct-gz"

    def make(self, folder):
        folder.joinpath("a.gct").write_bytes(gzip.compress(GOOD.encode(), mtime=0))

    def mutate(self, rng, path, content):
        if rng.random() < 0.3:
            inner = super().mutate(rng, path, GOOD.encode())
            return gzip.compress(inner, mtime=0)
        return mutate(rng, content, self.max_bytes)


KINDS = [Gct(), PackedGct()]
