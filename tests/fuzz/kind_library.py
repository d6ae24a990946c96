"""Libraries of molecules: lines of SMILES, tables, SDF and Parquet, packed or not."""

import bz2
import csv
import gzip
import io
import lzma
import re
import zipfile

import pandas as pd
from harness import FileKind, same
from mutations import PIECES, mutate

from sklearn_molge.library import MoleculeFile

SMI = "CCO ethanol\nc1ccccc1 benzene\n# a note\nCC(=O)O acetic acid\nrestricted x\n"
CSV = """smiles,name,price
CCO,ethanol,1.5
c1ccccc1,"benzene, pure",2
CC(=O)O,acetic acid,3
CCN,"two ""quotes"" b",4
"""
RECORD = """{0}
  made by hand

  3  2  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0
    1.5000    0.0000    0.0000 C   0  0
    3.0000    0.0000    0.0000 {1}   0  0
  1  2  1  0
  2  3  1  0
M  END
> <id>
{2}

> <note>
one
two

$$$$
"""
SDF = "".join(RECORD.format(f"m{i}", "ONSF"[i], 100 + i) for i in range(4))
FIELDS = [
    "", "\x00", "\x00" * 20, '"', '"open', 'shut"', "C" * 300, "C\x00C", "O\x1aO",
    "\x85", "\u2028", "\ufeff",
    "999999", "M  END", "$$$$", "> <id>", "-1", "1e999", "\ud7ff",
    "999999999999  0", "0  0  0", "[C+9999]", "*", "C1CC", "a\nb", "a\rb", "V3000",
]  # fmt: skip


def set_fields(rng, text):
    """Put what readers trip over in the place of some words or fields."""
    parts = re.split(r"([,\n \t])", text)
    for _ in range(rng.integers(1, 4)):
        field = FIELDS[rng.integers(len(FIELDS))]
        if rng.random() < 0.2:
            field = PIECES[rng.integers(len(PIECES))].decode("latin-1")
        parts[rng.integers(len(parts))] = field
    return "".join(parts)


class Smi(FileKind):
    """A SMILES and a name a line."""

    name = "library"
    file, text = "a.smi", SMI

    def make(self, folder):
        folder.joinpath(self.file).write_text(self.text)

    def read(self, folder):
        library = MoleculeFile(folder / self.file).with_columns("all")
        smiles, names, further = [], [], {}
        for batch in library.iter_batches(2):
            smiles += batch.smiles.tolist()
            names += batch.names.tolist()
            for name, values in batch.columns.items():
                further.setdefault(name, []).extend(values.tolist())
        library.describe(3)
        return [smiles, names, further, library.n_rows]

    def mutate(self, rng, path, content):
        if rng.random() < 0.5:
            return super().mutate(rng, path, content)
        text = set_fields(rng, content.decode())
        return text.encode("utf-16" if rng.random() < 0.1 else "utf-8")

    def judge(self, case, answer):
        smiles, names, further, n_rows = answer
        if not len(smiles) == len(names) == n_rows:
            return f"{len(smiles)} rows, {len(names)} names, and {n_rows} are counted"
        if any(len(column) != n_rows for column in further.values()):
            return "columns of other lengths"
        return self.compare(decoded(case.read_bytes()), smiles, names)

    def compare(self, text, smiles, names):
        """Look for each entry in the file, and for each line among the entries."""
        if re.search("^([$]{4}|M  END)", text, re.MULTILINE):  # taken for an SDF
            return None
        lines = [t for t in re.split("\r\n|\r|\n", text) if t and not t.isspace()]
        lines = [line for line in lines if line[0] != "#"]
        if len(smiles) not in (len(lines), len(lines) - 1):  # a header
            return f"{len(smiles)} rows of {len(lines)} lines"
        for line, entry in zip(lines[len(lines) - len(smiles) :], smiles, strict=True):
            if any(word not in line for word in entry.split() if "\\x" not in word):
                return f"{entry!r} is read of {line!r}"
        return None


def decoded(content):
    for bom, encoding in ((b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(bom):
            return content.decode(encoding, errors="backslashreplace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.removeprefix(b"\xef\xbb\xbf")
        encoding = "utf-8" if text != content else "cp1252"
        return text.decode(encoding, errors="backslashreplace")


class Csv(Smi):
    """A table with quotes."""

    name = "library-csv"
    file, text = "a.csv", CSV

    def compare(self, text, smiles, names):
        if '"' in text.replace('"benzene, pure"', "").replace('"two ""quotes"" b"', ""):
            return None  # by which quote a line is joined to the next is a guess
        if re.search("^([$]{4}|M  END)", text, re.MULTILINE):
            return None
        rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row]
        found = [row for row in rows if len(row) > 1 or row[0].strip()]
        if any(sep in text for sep in ";\t|") or any(len(r) > 3 for r in found):
            return None
        if len(smiles) not in (len(found), len(found) - 1):
            return f"{len(smiles)} rows of {len(found)}"
        for row, entry in zip(found[len(found) - len(smiles) :], smiles, strict=True):
            if entry and entry not in row:
                return f"{entry!r} is read of {row}"
        return None


class Sdf(Smi):
    """Records with fields."""

    name = "library-sdf"
    file, text = "a.sdf", SDF

    def compare(self, text, smiles, names):
        most = text.count("$$$$") + len(re.findall("V[23]000", text)) + 1
        return f"{len(smiles)} rows of {most} records" if len(smiles) > most else None


PACKERS = {
    "gz": lambda content: gzip.compress(content, 1, mtime=0),
    "bz2": bz2.compress,
    "xz": lzma.compress,
}


def zipped(content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)
    return out.getvalue()


class Packed(Csv):
    """The table packed, in one stream or two, and damaged outside."""

    name = "library-packed"

    def make(self, folder):
        folder.joinpath(self.file).write_text(CSV)

    def mutate(self, rng, path, content):
        how = ["gz", "bz2", "xz", "zip"][rng.integers(4)]
        if how == "zip":
            packed = zipped(content)
        else:
            at = int(rng.integers(len(content)))
            packed = PACKERS[how](content[:at]) + PACKERS[how](content[at:])
        return mutate(rng, packed, self.max_bytes)

    def judge(self, case, answer):
        # What unpacks has right checksums; magic numbers can be lost to plain text, and
        # whole streams can be lost or come twice.
        if set(answer[0]) <= {"smiles", *self.expected[0]}:
            return None
        magic = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"PK\x03\x04")
        if case.read_bytes().startswith(magic) and not same(answer, self.expected):
            return f"another answer than that of the good file: {answer[0]}"
        return None


class Member(Csv):
    """One file of a zip archive, which is damaged inside or out, or is a bomb."""

    name = "library-member"
    file = "a.zip"

    def make(self, folder):
        folder.joinpath(self.file).write_bytes(self.archive(CSV.encode()))

    @staticmethod
    def archive(content, other=b"SMILES,name\nN,ammonia\n"):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("notes/b.csv", other)
            archive.writestr("a.csv", content)
        return out.getvalue()

    def read(self, folder):
        library = MoleculeFile(folder / self.file, member="a.csv").with_columns("all")
        batches = list(library.iter_batches(2))
        smiles = [text for batch in batches for text in batch.smiles.tolist()]
        names = [text for batch in batches for text in batch.names.tolist()]
        return [smiles, names, {}, library.n_rows]

    def mutate(self, rng, path, content):
        if rng.random() < 0.6:
            return mutate(rng, content, self.max_bytes)
        if rng.random() < 0.1:
            return self.archive(b"CCO\n" * (1 << int(rng.integers(10, 20))))
        return self.archive(mutate(rng, CSV.encode(), self.max_bytes))

    def judge(self, case, answer):
        smiles, names, _, n_rows = answer
        if not len(smiles) == len(names) == n_rows:
            return f"{len(smiles)} rows, {len(names)} names, and {n_rows} are counted"
        with zipfile.ZipFile(case) as archive:
            text = decoded(archive.read("a.csv"))
        return self.compare(text, smiles, names)


class Parquet(Smi):
    """A table in two row groups, with checksums of its pages."""

    name = "library-parquet"
    file = "a.parquet"

    def make(self, folder):
        table = pd.read_csv(io.StringIO(CSV))
        table.to_parquet(folder / self.file, row_group_size=2, write_page_checksum=True)

    def mutate(self, rng, path, content):
        return mutate(rng, content, self.max_bytes)

    def judge(self, case, answer):
        # Names of columns stand where no checksum is.
        told = [[s, n, list(f.values()), k] for s, n, f, k in (answer, self.expected)]
        if not same(*told):
            return f"another answer than that of the good file: {answer}"
        return None


KINDS = [Smi(), Csv(), Sdf(), Packed(), Member(), Parquet()]
