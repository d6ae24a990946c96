"""Signatures: a matrix in numpy's .npz, and a table of what its rows are."""

import csv
import io
import os
import pickle
import re
import warnings
import zipfile
from itertools import product

import numpy as np
from harness import FileKind, same
from kind_tables import CELLS, set_cells, slow_cells
from mutations import mutate

from sklearn_molge.datasets import load_signatures

X = np.array([[1.5, -2, 0.25], [0.5, 3, -7], [12, 1e-3, 4], [8, 9, -1]], "f4")
GENES = np.array([780, 5720, 7416])
OBS = """sig_id,name,smiles,cell,dose,time,source
s1,ethanol,CCO,A375,10 uM,24 h,ours
s2,benzene,c1ccccc1,MCF7,500 nM,24 h,ours
s3,ethanol,CCO,consensus,mixed,6 h,ours
s4,acetone,CC(C)=O,?,1 uM,6 h,ours
"""
MARK = "ran"  # the file that a pickle leaves if it is run


class Signatures(FileKind):
    """What `numpy.savez` and a spreadsheet write, damaged."""

    name = "signatures"

    def make(self, folder):
        np.savez_compressed(folder / "a.npz", X=X, gene_id=GENES)
        folder.joinpath("a.obs.csv").write_text(OBS)

    def read(self, folder):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            study = load_signatures(folder / "a.npz", folder / "a.obs.csv")
        self.is_told = any("of one id" in str(t.message) for t in told)
        obs = study.obs.astype(object).to_dict("list")
        genes = study.genes.iloc[:, 0].astype(str).tolist()
        return [study.ge, genes, list(study.smiles), list(study.obs.index), obs]

    def mutate(self, rng, path, content):
        if path.suffix == ".csv":
            if rng.random() < 0.5:
                return mutate(rng, content, self.max_bytes)
            return set_cells(rng, content.decode(), ",").encode()
        if rng.random() < 0.3:
            return mutate(rng, content, self.max_bytes)
        members = members_of(content)
        name = list(members)[rng.integers(len(members))]
        members[name] = mutate(rng, members[name], self.max_bytes)
        return packed(rng, members.items())

    def is_clear(self, case, error):
        # What the two say together names them by their parameters, not a path.
        told = str(error)
        names = (str(self.folder), "obs", "profiles", "SMILES")
        return isinstance(error, ValueError | OSError) and any(n in told for n in names)

    def judge(self, case, answer):
        ge, genes, smiles, ids, obs = answer
        if (self.folder / MARK).exists():
            return "a pickle was run"
        if np.isinf(ge).any() or np.isnan(ge).all(axis=1).any():
            return "an infinite value, or a profile without one"
        if len(set(genes)) < len(genes):
            return "two genes of one name"
        if len(set(ids)) < len(ids) and not self.is_told:
            return "two profiles of one id, and no warning"
        numbers = [v for name in ("dose_um", "time_h") for v in obs[name]]
        if np.isinf(np.array(numbers, dtype=float)).any():
            return "an infinite dose or time"
        with np.load(self.folder / "a.npz", allow_pickle=False) as file:
            matrix, names = file["X.npy"], file["gene_id.npy"]
        with np.errstate(over="ignore"):
            matrix = matrix.astype(np.float32)
        matrix[matrix == -666] = np.nan  # CMap's mark of a missing value
        if genes != [written(name) for name in names.tolist()]:
            return f"other genes than {names.tolist()}"
        if not self.is_of_table(ge, smiles, matrix):
            return "another profile for a molecule than the files have"
        return None

    def is_of_table(self, ge, smiles, matrix):
        """Whether each profile has the SMILES of its row in the table, in order."""
        content = (self.folder / "a.obs.csv").read_bytes()
        return any(
            self.fits(slow_cells(content, sep, quoting), ge, smiles, matrix)
            for sep, quoting in product(",\t;|", (csv.QUOTE_MINIMAL, csv.QUOTE_NONE))
        )

    def fits(self, rows, ge, smiles, matrix):
        """Whether the rows of a table say so."""
        if len(rows) != len(matrix) + 1:
            return False
        header = [cell.lower() for cell in rows[0]]
        if len(rows[1]) == len(header) + 1 and rows[1][-1]:
            header = ["", *header]  # R names rows, but not their column
        places = [i for i, name in enumerate(header) if "smiles" in name]
        for at in places:
            texts = [row[at] if at < len(row) else "" for row in rows[1:]]
            left = zip(texts, matrix, strict=True)
            if all(
                any(text == own and same(row, found) for text, row in left)
                for own, found in zip(smiles, ge, strict=True)
            ):
                return True
        return False


class HostileSignatures(Signatures):
    """Arrays and tables made on purpose."""

    name = "signatures-hostile"

    def mutate(self, rng, path, content):
        if path.suffix == ".csv":
            return hostile_table(rng, content.decode()).encode()
        members = members_of(content)
        arrays = {"X": X.copy(), "gene_id": GENES.copy()}
        change = CHANGES[rng.integers(len(CHANGES))]
        changed = change(rng, arrays, path.parent / MARK)
        members.update(changed or {f"{k}.npy": npy_of(a) for k, a in arrays.items()})
        pairs = [(name, c) for name, c in members.items() if c is not None]
        if rng.random() < 0.1:
            pairs.append(pairs[rng.integers(len(pairs))])
        return packed(rng, pairs)


def written(name):
    """Return the name of a gene as it is told: of ids that are written out, the int."""
    text = str(name).strip()
    is_id = re.fullmatch(r"\d+(\.0)?", text, re.ASCII)
    return str(int(float(text))) if is_id else text


def members_of(content):
    """Return the files in a zip archive, by name."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(rng, members):
    """Return a zip archive whose checksums are right."""
    kinds = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", kinds[rng.integers(3)]) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return out.getvalue()


def npy_of(array):
    """Return an array as numpy writes it, objects by a pickle."""
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asanyarray(array), allow_pickle=True)
    return out.getvalue()


def declared(descr, shape, body, fortran_order=False):
    """Return the file of an array whose header says what it likes."""
    header = repr({"descr": descr, "fortran_order": fortran_order, "shape": shape})
    header = header.encode().ljust(245) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + body


class Bomb:
    """A pickle that leaves a file where it is run."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.open, (str(self.path), os.O_CREAT | os.O_WRONLY)


def pickled(rng, arrays, mark):
    """Put objects in the place of numbers, whole, as a field, or without a header."""
    name = ["X", "gene_id"][rng.integers(2)]
    shape = arrays[name].shape
    bomb = pickle.dumps(Bomb(mark))
    return [
        {f"{name}.npy": declared("|O", shape, bomb)},
        {f"{name}.npy": declared([("a", "<f4"), ("b", "|O")], shape, bomb)},
        {f"{name}.npy": bomb},
        {name: bomb},
        {f"{name}.npy": None, name: bomb},
    ][rng.integers(5)]


def other_types(rng, arrays, mark):
    """Write the same values as of another type."""
    kinds = [
        "?", "c8", "f2", "f8", ">f4", ">f8", "i1", "u1", "i8", ">i4", "u8", "U", "U9",
        "S9", "M8[s]", "m8[h]", "V4", "g",
    ]  # fmt: skip
    name = ["X", "gene_id"][rng.integers(2)]
    kind = kinds[rng.integers(len(kinds))]
    with np.errstate(all="ignore"):
        whole = arrays[name].astype("i8") if kind[0] in "Mm" else arrays[name]
        arrays[name] = whole.astype(kind)


def odd_values(rng, arrays, mark):
    """Set some values, a row or a column to what is no number, or too large a one."""
    values = [np.nan, np.inf, -np.inf, 1e39, 1e300, -666.0, 1e-320]
    matrix = arrays["X"].astype("f8")
    value = values[rng.integers(len(values))]
    rows, columns = rng.integers(4), rng.integers(3)
    area = [(rows, columns), (rows,), (slice(None), columns), ()][rng.integers(4)]
    matrix[area] = value
    arrays["X"] = matrix


def odd_genes(rng, arrays, mark):
    """Name genes twice, not at all, or by what looks like an id."""
    names = [
        "780", "", " 780", "780.0", "7_80", "\uff17\uff18\uff10", "nan", "-780", "DDR1",
        "ddr1", "ENSG00000204580", "smiles", "NA", "A" * 5000, "\ud7ff", "x\ny", "1e3",
        "0780", "+780", "780 ",
    ]  # fmt: skip
    if rng.random() < 0.3:
        arrays["gene_id"][rng.integers(3)] = [780, -780, 0, -1, 2**62][rng.integers(5)]
        return
    texts = arrays["gene_id"].astype("U5000")
    texts[rng.integers(3)] = names[rng.integers(len(names))]
    arrays["gene_id"] = texts


def other_shapes(rng, arrays, mark):
    """Give one of the two another shape than the other, or than the table."""
    matrix, genes = arrays["X"], arrays["gene_id"]
    arrays["X"] = [
        matrix.T, matrix[0], matrix[None], matrix[:3], np.vstack([matrix, matrix]),
        matrix[:, :2], np.hstack([matrix, matrix]), matrix[:0], matrix[:, :0],
        np.float32(3), np.asfortranarray(matrix), matrix,
    ][rng.integers(12)]  # fmt: skip
    if rng.random() < 0.3:
        arrays["gene_id"] = [genes[:2], genes[None], genes[:0], genes[0]][
            rng.integers(4)
        ]


def huge_shapes(rng, arrays, mark):
    """Declare far more than there is, or what is no size."""
    sizes = [2**28, 2**31, 2**33, 2**40, 2**62, 2**64, -1, 0, 4.0, True, "4", None]
    size = sizes[rng.integers(len(sizes))]
    name = ["X", "gene_id"][rng.integers(2)]
    shape = [(size, 3), (4, size), (size,), (size, size), size][rng.integers(5)]
    kinds = ["<f4", "<i8", "<U5", "|i1", "<U999999999", "|V0", "<f3", [["a", "<f4"]]]
    kind = kinds[rng.integers(len(kinds))]
    body = arrays[name].tobytes()
    return {f"{name}.npy": declared(kind, shape, body, bool(rng.integers(2)))}


def large(rng, arrays, mark):
    """Hold some megabytes of zeros, which pack into little."""
    kind, n = [("|i1", 2**24), ("<f4", 2**22), ("<U1", 2**22)][rng.integers(3)]
    body = bytes(2**24)
    shape = [(n,), (n, 1), (1, n), (n // 4, 4)][rng.integers(4)]
    return {["X.npy", "gene_id.npy"][rng.integers(2)]: declared(kind, shape, body)}


def other_members(rng, arrays, mark):
    """Leave a file out, or put in others that look like it."""
    other = npy_of(arrays["X"] + 1)
    return [
        {"X.npy": None}, {"gene_id.npy": None}, {"X": other}, {"gene_id": other},
        {"X.npy.npy": other}, {"../X.npy": other}, {"x.npy": other}, {"X/": b""},
        {"X.npy": None, "X": other}, {"a.npy": npy_of(np.array([Bomb(mark)], object))},
    ][rng.integers(10)]  # fmt: skip


CHANGES = [
    pickled, other_types, odd_values, odd_genes, other_shapes, huge_shapes, large,
    other_members,
]  # fmt: skip


def hostile_table(rng, text):
    """Repeat ids, names of columns or rows, leave some out, or change their order."""
    rows = [line.split(",") for line in text.splitlines()]
    i, j = rng.integers(1, len(rows), size=2)
    a, b = rng.integers(len(rows[0]), size=2)
    choice = rng.integers(7)
    if choice == 0:
        rows[i][0] = rows[j][0]
    elif choice == 1:
        rows[0][a] = rows[0][b]
    elif choice == 2:
        rows.insert(i, list(rows[j]))
    elif choice == 3:
        del rows[i]
    elif choice == 4:
        rows = [[c for k, c in enumerate(row) if k != a] for row in rows]
    elif choice == 5:
        rows = [[*row, row[a]] for row in rows]
        rows[0][-1] = ["drug", "pert_id", "cell_id", "id", "position", ""][
            rng.integers(6)
        ]
    else:
        for row in rows[1:]:
            row[a] = CELLS[rng.integers(len(CELLS))]
    return "\n".join(",".join(row) for row in rows) + "\n"


KINDS = [Signatures(), HostileSignatures()]
