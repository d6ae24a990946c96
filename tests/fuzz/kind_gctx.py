"""GCTX: matrices in HDF5, as we write them, as others do, and made on purpose."""

import zlib

import h5py
import numpy as np
import pandas as pd
from harness import FileKind
from mutations import flip_bit, mutate, set_byte, set_integer, zero_block

from sklearn_molge.datasets import read_gctx, read_profiles, write_gctx

MATRIX, COLUMNS, ROWS = "0/DATA/0/matrix", "0/META/COL", "0/META/ROW"
LAYOUTS = {
    "one": {},
    "gzip": {"chunks": (2, 3), "compression": 1, "shuffle": True},
    "plain": {"chunks": (3, 2)},
    "lzf": {"chunks": (5, 2), "compression": "lzf", "fletcher32": True},
}


def profiles():
    return np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)


def write_as_others(path, options, **how):
    with h5py.File(path, "w", **how) as file:
        file.create_dataset(MATRIX, data=profiles(), **options)
        file[f"{COLUMNS}/id"] = np.array(list("abcdef"), dtype="S3")
        file[f"{COLUMNS}/dose"] = np.arange(6.0)
        file[f"{COLUMNS}/cell"] = ["A375", "MCF7", "é", "A375", "PC3", "x"]
        file.create_dataset(
            f"{ROWS}/id", data=np.array(list("12345"), dtype="S9"), compression=4
        )
        file[f"{ROWS}/good"] = np.array([True, False, True, True, False])


def few_flips(rng, content):
    """Change bits and numbers alone, so that the file keeps its layout."""
    content = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        change = [flip_bit, set_byte, set_integer, zero_block][rng.integers(4)]
        change(rng, content)
    return bytes(content)


class Gctx(FileKind):
    """A file of write_gctx; it has checksums."""

    name = "gctx"
    sealed = True

    def make(self, folder):
        obs = pd.DataFrame({f"c{i}": list("uvwxyz") for i in range(9)}, list("abcdef"))
        genes = pd.DataFrame({"n": np.arange(5)}, list("12345"))
        for name, options in (("a", {}), ("b", {"compression": 1, "chunks": (2, 3)})):
            write_gctx(folder / f"{name}.gctx", profiles(), obs, genes, **options)

    def mutate(self, rng, path, content):
        return (mutate if rng.random() < 0.5 else lambda *a: few_flips(*a[:2]))(
            rng, content, self.max_bytes
        )

    def read(self, folder):
        return [self.read_one(path) for path in sorted(folder.glob("*.gctx"))]

    def read_one(self, path):
        data = read_gctx(path, missing="nan")
        return [
            np.asarray(data.matrix),
            data.obs.to_dict("list"),
            data.genes.to_dict("list"),
            data.obs.index.tolist(),
            data.genes.index.tolist(),
        ]


class Foreign(Gctx):
    """Files of h5py in many layouts, without checksums; values may change."""

    name = "gctx-foreign"
    sealed = False
    versions = ("earliest",)

    def make(self, folder):
        for name, options in LAYOUTS.items():
            for version in self.versions:
                path = folder / f"{name}-{version}.gctx"
                write_as_others(path, options, libver=version)

    def use(self, case):
        part = read_gctx(case, samples=[4, 1], genes=[0, 3], missing="nan")
        read_profiles(case, missing="nan")
        return self.read_one(case), np.asarray(part.matrix)

    def judge(self, case, answer):
        (matrix, _, _, ids, names), part = answer
        with h5py.File(case) as file:
            if not same_values(matrix, file[MATRIX][...]):
                return "other values than h5py reads"
        if not same_values(part, matrix[[4, 1]][:, [0, 3]]):
            return "a part that is not that of the whole"
        if (len(ids), len(names)) != matrix.shape or not np.isfinite(part).all():
            return "shapes that do not fit, or values that are none"
        return None


def same_values(a, b):
    with np.errstate(all="ignore"):
        b = np.where(b == -666, np.nan, b).astype(a.dtype)
    return np.array_equal(a, b, equal_nan=True)


class Latest(Foreign):
    """The same in the newest layouts, whose metadata have checksums."""

    name = "gctx-latest"
    versions = ("v108", "latest")


class Hostile(Foreign):
    """Good files changed through h5py: links, types, shapes, chunks and filters."""

    name = "gctx-hostile"

    def mutate(self, rng, path, content):
        path.write_bytes(content)
        try:
            with h5py.File(path, "r+") as file:
                for _ in range(rng.integers(1, 3)):
                    CHANGES[rng.integers(len(CHANGES))](rng, file, pick(rng, file))
        except Exception:
            pass  # what h5py does not let us do is left undone
        return path.read_bytes()

    def judge(self, case, answer):
        (matrix, *_), _ = answer
        if (matrix == 0).any():
            return "values that were never written"
        return super().judge(case, answer)


def pick(rng, file):
    names = []
    file.visit(names.append)
    return sorted(names)[rng.integers(len(names))]


def remove(rng, file, name):
    """Take an object away."""
    del file[name]


def link_outside(rng, file, name):
    """Put a link to another file in its place."""
    del file[name]
    file[name] = h5py.ExternalLink("/etc/passwd", "/x")


def link_inside(rng, file, name):
    """Put a soft link, to anything, in its place."""
    del file[name]
    file[name] = h5py.SoftLink(
        ["/", ".", "/0/META", f"/{name}", "/nowhere"][rng.integers(5)]
    )


def link_twice(rng, file, name):
    """Give one object two names, or make a ring."""
    other = pick(rng, file)
    del file[other]
    file[other] = file[name]


def store_outside(rng, file, name):
    """Let its values lie in another file."""
    del file[name]
    outside = [("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    file.create_dataset(name, (6,), "S40", external=outside)


def make_virtual(rng, file, name):
    """Let its values be those of another dataset."""
    shape = getattr(file[name], "shape", (6,))
    layout = h5py.VirtualLayout(shape, "f4")
    layout[...] = h5py.VirtualSource("/tmp/other.h5", "x", shape)
    del file[name]
    file.create_virtual_dataset(name, layout)


def leave_unwritten(rng, file, name):
    """Write a chunk of many, or none."""
    shape = getattr(file[name], "shape", (6,))
    del file[name]
    chunks = tuple(max(n // 2, 1) for n in shape) if rng.random() < 0.7 else None
    dataset = file.create_dataset(name, shape, "f4", chunks=chunks)
    if chunks and rng.random() < 0.7:
        dataset[tuple(0 for _ in shape)] = 5


def declare_much(rng, file, name):
    """Declare far more than there is."""
    n = int(10 ** rng.uniform(3, 12))
    shape = (n, 5) if name == MATRIX else (n,)
    del file[name]
    most = tuple(min(m, int(10 ** rng.uniform(1, 7))) for m in shape)
    options = {"chunks": most, "compression": 9} if rng.random() < 0.7 else {}
    kind = ["f4", "S9", f"S{2**20}", h5py.string_dtype()][rng.integers(4)]
    file.create_dataset(name, shape, kind, **options)


def store_bomb(rng, file, name):
    """Store a chunk that unpacks to far more, or less, than it should."""
    shape = getattr(file[name], "shape", (6,))
    del file[name]
    packed = zlib.compress(bytes(int(10 ** rng.uniform(0, 7))), 9)
    dataset = file.create_dataset(name, shape, "f4", chunks=shape, compression=9)
    dataset.id.write_direct_chunk((0,) * len(shape), packed, int(rng.integers(2)))


def change_type(rng, file, name):
    """Store values of another type."""
    kinds = [
        "i8", "u1", "S0", "S1", "V7", "c8", "f2", ">f4", ">i2", "bool", "f16",
        h5py.string_dtype(), h5py.vlen_dtype("f4"), h5py.ref_dtype,
        h5py.enum_dtype({"a": 1, "b": 2}), [("x", "f4"), ("y", "S3")], ("f4", (2,)),
    ]  # fmt: skip
    shape = getattr(file[name], "shape", (6,))
    del file[name]
    kind = kinds[rng.integers(len(kinds))]
    values = np.ones(shape) if rng.random() < 0.5 else None
    file.create_dataset(name, shape, kind, data=values)


def change_shape(rng, file, name):
    """Store another number of values, or dimensions."""
    shapes = [(), (0,), (1,), (6, 1), (5, 6), (6, 5, 1), (0, 5), (7,), None]
    shape = shapes[rng.integers(len(shapes))]
    del file[name]
    file[name] = h5py.Empty("f4") if shape is None else np.ones(shape, "f4")


def change_filters(rng, file, name):
    """Pack by other filters, of the library's own and of none."""
    values = np.asarray(file[name][()])
    del file[name]
    codes = [1, 2, 3, 5, 6, 32000]
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(values.shape)
    for code in rng.permutation(codes)[: rng.integers(1, 4)].tolist():
        cd = tuple(rng.integers(0, 9, rng.integers(0, 4)).tolist())
        plist.set_filter(code, h5py.h5z.FLAG_OPTIONAL, cd)
    space = h5py.h5s.create_simple(values.shape)
    kind = h5py.h5t.py_create(values.dtype, logical=True)
    made = h5py.h5d.create(file.id, name.encode(), kind, space, dcpl=plist)
    # As it is: some filters of the library crash with such parameters.
    made.write_direct_chunk((0,) * values.ndim, values.tobytes())


def set_values(rng, file, name):
    """Store what is no value."""
    values = np.asarray(file[name][()])
    bad = [np.nan, np.inf, -666, 1e38, b"\xff\xfe", b"", b"x\x00y"]
    values[tuple(0 for _ in values.shape)] = bad[rng.integers(len(bad))]
    file[name][...] = values


CHANGES = [
    remove, link_outside, link_inside, link_twice, store_outside, make_virtual,
    leave_unwritten, declare_much, store_bomb, change_type, change_shape,
    change_filters, set_values,
]  # fmt: skip
KINDS = [Gctx(), Foreign(), Latest(), Hostile()]
