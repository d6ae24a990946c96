"""Tables of text: of profiles, and those that come with a release of LINCS."""

import csv
import gzip
import re
from itertools import product

import numpy as np
from harness import FileKind, same
from kind_gct import bare
from mutations import PIECES, mutate

from sklearn_molge.datasets import load_lincs, read_profiles

PROFILES = """gene,symbol,case 1,case 2,case 3
780,DDR1,1.5,-2,0.25
5720,PSME1,0.5,3,-7
7416,VDAC1,12,1e-3,4
"""
CELLS = [
    "1_000", "infinity", "nan", "nan(1)", "\uff11\uff12", "0x1p3", "1d5", "1 2", " 5 ",
    "1e39", "1e999", "-666", "NA", "", "+", ".", "1,5", '"7"', '"7', '7"', '"a\n1"',
    "\u0663", "1\u2028", "1\x85", "\ufeff1", "\x1a", "\x00", "9" * 400, "780",
    "99999999999999", "10 uM", "1e400 uM", "1e308 M", "10_uM",
    "\uff11\uff10 uM", "=1+1",
    "1" + " " * 5000 + "x", "trt_cp", "ctl_vehicle", "\ud7ff", "A\tB", "A;B|C",
]  # fmt: skip
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def set_cells(rng, text, sep):
    """Set some cells of a table to what is easily misread."""
    rows = [line.split(sep) for line in text.split("\n")]
    for _ in range(rng.integers(1, 3)):
        row = rows[rng.integers(len(rows))]
        cell = CELLS[rng.integers(len(CELLS))]
        if rng.random() < 0.2:
            cell = PIECES[rng.integers(len(PIECES))].decode("latin-1")
        row[rng.integers(len(row))] = cell
    rng.shuffle(rows[1:]) if rng.random() < 0.2 else None
    return "\n".join(sep.join(row) for row in rows)


def slow_cells(content, sep, quoting):
    """Return the filled rows of a table, line by line; None where a quote joins two."""
    if content[:2] == b"\x1f\x8b":
        content = gzip.decompress(content)
    wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = content.decode("utf-16" if wide else "utf-8-sig", errors="replace")
    rows = []
    for line in re.split("\r\n|\r|\n", text):
        row = next(csv.reader([line], delimiter=sep, quoting=quoting), [])
        if any(cell.strip(' \t\xa0\ufeff\u200b"') for cell in row):
            rows.append([bare(cell) for cell in row])
    return rows


class Profiles(FileKind):
    """A table of profiles with its genes in rows."""

    name = "tables"
    sep = ","

    def make(self, folder):
        folder.joinpath("a.txt").write_text(PROFILES.replace(",", self.sep))

    def read(self, folder):
        found = read_profiles(folder / "a.txt", genes_in="rows")
        return [found.to_numpy(), list(found.index), list(found.columns)]

    def mutate(self, rng, path, content):
        if rng.random() < 0.5:
            return super().mutate(rng, path, content)
        text = set_cells(rng, content.decode(), self.sep)
        return text.encode("utf-16" if rng.random() < 0.1 else "utf-8")

    def judge(self, case, answer):
        matrix, profiles, _ = answer
        if not np.isfinite(matrix).all():
            return "values that are not finite"
        quotings = csv.QUOTE_MINIMAL, csv.QUOTE_NONE
        for sep, quoting in product(",\t;|", quotings):
            rows = slow_cells(case.read_bytes(), sep, quoting)
            if rows and rows[0] and rows[0][0].lower().startswith("sep="):
                rows = rows[1:]
            if self.fits(rows, matrix, profiles):
                return None
        return f"other values than those of the file: {answer}"

    def fits(self, rows, matrix, profiles):
        """Whether the columns of those profiles hold the numbers that were read."""
        if len(rows) != matrix.shape[1] + 1:
            return False
        header = rows[0]
        if len(rows[1]) == len(header) + 1 and rows[1][0] and rows[1][-1]:
            header = ["", *header]
        columns = {}
        for i, name in enumerate(header[1:], 1):
            cells = [row[i] if i < len(row) else "" for row in rows[1:]]
            if all(map(NUMBER.fullmatch, cells)):
                with np.errstate(over="ignore"):
                    numbers = np.array([float(c) for c in cells]).astype(np.float32)
                columns.setdefault(name, []).append(numbers)
        return all(
            any(same(row, found) for found in columns.get(name, ()))
            for name, row in zip(profiles, matrix, strict=True)
        )


class TabProfiles(Profiles):
    """The same between tabs, by gzip."""

    name = "tables-tab"
    sep = "\t"

    def make(self, folder):
        text = PROFILES.replace(",", self.sep).encode()
        folder.joinpath("a.txt").write_bytes(gzip.compress(text, mtime=0))

    def mutate(self, rng, path, content):
        if rng.random() < 0.7:
            inner = super().mutate(rng, path, gzip.decompress(content))
            return gzip.compress(inner, 1, mtime=0)
        return mutate(rng, content, self.max_bytes)


MATRIX = """#1.2
3\t4
id\tname\ts1\ts2\ts3\ts4
780\tDDR1\t1.5\t-2\t0.25\t1
5720\tPSME1\t0.5\t3\t-7\t2
7416\tVDAC1\t1\t2\t3\t4
"""
SIG_INFO = """sig_id\tpert_id\tpert_iname\tpert_type\tcell_id\tpert_idose\tpert_itime
s1\tB1\tethanol\ttrt_cp\tA375\t10 uM\t24 h
s2\tB2\tbenzene\ttrt_cp\tMCF7\t500 nM\t24 h
s3\tB1\tethanol\ttrt_cp\tPC3\t10 uM\t6 h
s4\tB3\tacetone\ttrt_cp\tA375\t1 uM\t6 h
"""
PERT_INFO = """pert_id\tpert_iname\tcanonical_smiles
B1\tethanol\tCCO
B2\tbenzene\tc1ccccc1
B3\tacetone\tCC(C)=O
"""
GENE_INFO = """pr_gene_id\tpr_gene_symbol\tpr_is_lm
780\tDDR1\t1
5720\tPSME1\t1
7416\tVDAC1\t1
"""


class Lincs(FileKind):
    """A small release: a matrix and three tables."""

    name = "tables-lincs"

    def make(self, folder):
        folder.joinpath("x_level5.gct").write_text(MATRIX)
        folder.joinpath("x_sig_info.txt").write_text(SIG_INFO)
        folder.joinpath("x_pert_info.txt").write_text(PERT_INFO)
        folder.joinpath("x_gene_info.txt").write_text(GENE_INFO)

    def read(self, folder):
        study = load_lincs(folder, level=5, progress=False)
        obs = study.obs[["pert_id", "cell_line", "dose_um", "time_h"]]
        return [study.ge, list(study.obs.index), obs.astype(object).to_dict("list")]

    def mutate(self, rng, path, content):
        if rng.random() < 0.5:
            return super().mutate(rng, path, content)
        return set_cells(rng, content.decode(), "\t").encode()

    def is_clear(self, case, error):
        # What the tables say together names tables and profiles, not a path.
        told = str(error)
        names = (str(self.folder), "_info.txt", "profile", "SMILES", "No ", "gene")
        return isinstance(error, ValueError | OSError) and any(n in told for n in names)

    def judge(self, case, answer):
        y, _, obs = answer
        if not np.isfinite(y).all():
            return "values that are not finite"
        numbers = [v for name in ("dose_um", "time_h") for v in obs[name]]
        if np.isinf(np.array(numbers, dtype=float)).any():
            return "an infinite dose or time"
        if len(y) > 4 or y.shape[1] > 3:
            return "more than the file has"
        return None


KINDS = [Profiles(), TabProfiles(), Lincs()]
