"""HDF5 is opened only where its metadata are sound: no crash, no hang, no way out."""

import zlib

import h5py
import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from sklearn_molge._files.hdf5 import open_hdf5, seal
from sklearn_molge.exceptions import CorruptFileError

VERSIONS = ["earliest", "v108", "latest"]


def write(path, **how):
    with h5py.File(path, "w", **how) as file:
        file["a/plain"] = np.arange(12.0)
        file.create_dataset(
            "a/packed", data=np.arange(5000), chunks=(7,), compression=1, shuffle=True
        )
        file.create_dataset(
            "a/lzf", data=np.arange(50) // 9, chunks=(7,), compression="lzf"
        )
        file["a/texts"] = ["é", "", "a" * 300] * 40
        file["a/flags"] = [True, False]
        file["a/pairs"] = np.ones(3, dtype=[("x", "f4"), ("y", "S3")])
        file["a"].attrs["words"] = ["b", "cc"]
        file["a"].attrs["to"] = file["a/plain"].ref
        file["b"] = h5py.ExternalLink("elsewhere.h5", "/x")
    return path


def make_virtual(file):
    layout = h5py.VirtualLayout((3,), "f4")
    layout[...] = h5py.VirtualSource("elsewhere.h5", "x", (3,))
    file.create_virtual_dataset("a", layout)


def read(path, *parts):
    with open_hdf5(path, *(parts or "a")) as file:
        for part in parts or "a":
            file.check_values(part)
        found = []
        file["a"].visititems(lambda _, node: found.append(node))
        return [node[()] for node in found if isinstance(node, h5py.Dataset)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("how", [{}, {"userblock_size": 1024}, {"track_order": True}])
def test_good_files_are_read(tmp_path, version, how):
    path = write(tmp_path / "x.h5", libver=version, **how)
    found = {len(values): values for values in read(path)}
    assert_array_equal(found[12], np.arange(12.0))
    assert_array_equal(found[5000], np.arange(5000))
    assert_array_equal(found[50], np.arange(50) // 9)
    assert found[120][2] == b"a" * 300
    with open_hdf5(path, "a/plain", "nothing", "no/thing") as file:
        assert file.parts == {"a/plain"} == set(file.stored)
        assert file.names == {"a", "b"}


def test_large_groups_and_many_chunks(tmp_path):
    """B-trees of several levels; in the newest layout heaps and arrays."""
    for version in VERSIONS:
        path = tmp_path / f"{version}.h5"
        with h5py.File(path, "w", libver=version) as file:
            for i in range(300):
                file[f"a/{i}"] = i
            file.create_dataset("a/x", data=np.ones((80, 70)), chunks=(1, 1))
        with open_hdf5(path, "a") as file:
            assert len(file.stored) == 301
            assert len(file.stored["a/x"].places) == 5600


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.update(a=h5py.ExternalLink("/etc/passwd", "x")), "not followed"),
        (lambda f: f.update(a=h5py.SoftLink("/b")), "is not followed"),
        (lambda f: f.create_group("a").update(x=h5py.SoftLink("..")), "not followed"),
        (
            lambda f: f.create_dataset(
                "a", (9,), "S9", external=[("/etc/passwd", 0, 81)]
            ),
            "in another file",
        ),
        (lambda f: make_virtual(f), "virtual"),
        (lambda f: f.create_dataset("a", (10**12,), "f4"), "were never written"),
        (lambda f: f.create_dataset("a", (9,), "f4", chunks=(2,)), "5 of 5 chunks"),
        (lambda f: f.create_dataset("a", (2**40,), "f4", chunks=(2,)), "more than"),
        (
            lambda f: f.create_dataset("a", (2**28,), "f8", chunks=(2**28,)),
            "a chunk has 2,147,483,648 bytes, more than the 1,073,741,824",
        ),
        (lambda f: f.create_dataset("a", (2,), f"S{2**17}"), "more than 65,536 bytes"),
        (lambda f: f.create_dataset("a", (1,), h5py.vlen_dtype("f4")), "of class 9"),
        (
            lambda f: f.create_dataset("a", data=np.ones(9), scaleoffset=2),
            "packed by filter 6",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(tmp_path, version, change, message):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=version) as file:
        file["b"] = 1
        change(file)
    with pytest.raises(CorruptFileError, match=rf"x\.h5 .*'a.*{message}"):
        read(path)


def test_rings_and_objects_of_two_names(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a/b/c"] = 1
        file["a/b/again"] = file["a"]
    with pytest.raises(CorruptFileError, match="share byte"):
        read(path)


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (zlib.compress(bytes(2**22), 9), "unpacks to more than 4,004 bytes"),
        (zlib.compress(b"short" * 20), "has 100 bytes instead of 4,000"),
        (zlib.compress(bytes(4000), 0)[:-9], "a packed chunk is cut"),
        (b"no", "a chunk has 2 bytes in the file"),
    ],
)
def test_chunks_that_unpack_to_something_else(tmp_path, packed, message):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        dataset = file.create_dataset(
            "a/x", (1000,), "f4", chunks=(1000,), compression=1
        )
        dataset.id.write_direct_chunk((0,), packed)
    with pytest.raises(CorruptFileError, match=rf"x\.h5 .*'a/x': .*{message}"):
        read(path)


def test_keys_by_which_a_chunk_is_not_found(tmp_path):
    """The library reads zeros where the last key of a B-tree is too small."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a/x", data=np.arange(6, dtype="i8") + 1, chunks=(2,))
    content = bytearray(path.read_bytes())
    at = content.find(b"TREE\x01")
    last = at + 24 + 3 * (8 + 16 + 8) + 8  # behind three keys and children
    assert content[last] == 6
    content[last] = 0
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"'a/x': its chunks are not in order"):
        read(path)


def test_collections_of_texts_that_would_hang(tmp_path):
    """An object of length 0 is an endless loop in the library (2.0.0)."""
    path = write(tmp_path / "x.h5")
    content = bytearray(path.read_bytes())
    at = content.find(b"GCOL")
    content[at + 16 : at + 32] = bytes(16)
    path.write_bytes(content)
    with pytest.raises(CorruptFileError, match=r"x\.h5 .*collection of texts"):
        read(path)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_flipped_byte_of_the_metadata_is_survived(tmp_path, version):
    """As far as it is read at all, it is read as h5py reads it."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver=version) as file:
        file.create_dataset("a/x", data=np.arange(6), chunks=(3,), compression=1)
        file["a/y"] = ["b", "cc"]
    good = path.read_bytes()
    n_refused = 0
    for at in range(0, len(good), 29):
        bad = bytearray(good)
        bad[at] ^= 0xFF
        path.write_bytes(bad)
        try:
            read(path)
        except (CorruptFileError, KeyError, OSError, ValueError, RuntimeError):
            n_refused += 1
    assert n_refused > 10


def test_a_seal_tells_every_change(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a/x"] = np.arange(40.0)
        file.create_dataset("a/z", data=np.arange(90), chunks=(40,))
        file.attrs["sklearn_molge_seal"] = True
    seal(path, "a/z")
    good = path.read_bytes()
    read(path)
    assert pd.Series(h5py.File(path)["a/z"][...]).tolist() == list(range(90))
    for at in range(0, len(good), 101):
        path.write_bytes(good[:at] + bytes([good[at] ^ 4]) + good[at + 1 :])
        with pytest.raises(CorruptFileError, match=r"x\.h5"):
            with open_hdf5(path, "a") as file:
                file.check_matrix()
    for n in (1, 30, 200):
        path.write_bytes(good[:-n])
        with pytest.raises(CorruptFileError, match=r"x\.h5 .*(seal is missing|cut)"):
            read(path)
    path.write_bytes(good + b"more")
    with pytest.raises(CorruptFileError, match=r"x\.h5 .*seal is missing"):
        read(path)


def test_attributes_that_are_not_read_may_be_anything(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["a"] = 1
        file.attrs["x"] = np.void(b"any bytes")
    with open_hdf5(path, "a", attributes=False) as file:
        assert file["a"][()] == 1


def test_a_file_that_remembers_its_free_space_is_read(tmp_path):
    # The superblock's own header goes on elsewhere then.
    path = tmp_path / "a.h5"
    space = {"fs_strategy": "page", "fs_persist": True}
    with h5py.File(path, "w", **space) as file:
        file["x"] = np.arange(3)
    with open_hdf5(path, "x") as file:
        assert file["x"][:].tolist() == [0, 1, 2]


def test_shuffled_texts_are_read(tmp_path):
    path = tmp_path / "a.h5"
    how = {"chunks": (7,), "compression": "gzip", "shuffle": True}
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=["é", "", "abc"] * 10, **how)
    with open_hdf5(path, "x") as file:
        file.check_values("x")
        assert file["x"].asstr()[:3].tolist() == ["é", "", "abc"]
