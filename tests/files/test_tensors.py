"""Files of torch are read without torch's own reader, and nothing in them is called."""

import io
import pickle
import struct
import tarfile
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_molge._files.tensors import Inert, read_tensors
from sklearn_molge.exceptions import CorruptFileError


def saved(value, **options):
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def read(content, **options):
    return read_tensors(io.BytesIO(content), "a.pt", **options)


def repacked(content, changes, *, add=(), compression=zipfile.ZIP_STORED):
    """Return a file with other records, and the right checksums."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as source,
        zipfile.ZipFile(out, "w", compression) as target,
    ):
        for name in source.namelist():
            record = source.read(name)
            change = changes.get(name.partition("/")[2])
            target.writestr(name, record if change is None else change(record))
        for name in add:
            target.writestr(name, b"x")
    return out.getvalue()


def with_pickle(content, *, old=b"", new=b""):
    return repacked(
        saved(content), {"data.pkl": lambda record: record.replace(old, new)}
    )


DTYPES = [
    torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64,
    torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool, torch.complex64,
    torch.complex128, torch.uint16, torch.uint32, torch.float8_e4m3fn,
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_tensors_come_back(dtype):
    whole = torch.arange(24).reshape(4, 6).to(dtype)
    tensors = [whole, whole[1:3, ::2], whole.T, whole[0, 0], whole[:0], whole[2]]
    for got, expected in zip(read(saved(tensors)), tensors, strict=True):
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
        assert str(got) == str(expected)


def test_states_come_back():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    state = {
        "module": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "parameter": nn.Parameter(torch.ones(2)),
        "other": [None, True, -1, 1 << 70, 0.5, "é", (), (1,), (1, 2, 3, [4])],
        5: {},
    }
    got = read(saved(state))
    expected = torch.load(io.BytesIO(saved(state)))
    assert str(got) == str(expected).replace("Parameter containing:\n", "").replace(
        ", requires_grad=True", ""
    )
    assert isinstance(got["module"], OrderedDict)
    assert got["module"]._metadata == state["module"]._metadata


class Other:
    def __reduce__(self):
        return exec, ("raise SystemExit",)


def test_what_a_file_names_is_not_called():
    with pytest.raises(CorruptFileError, match=r"it names __builtin__\.exec"):
        read(saved([Other()]))
    (kept,) = read(saved([Other()]), inert=True)
    assert isinstance(kept, Inert)
    assert (type(kept).__name__, kept.args) == ("exec", ("raise SystemExit",))


def test_every_flipped_bit_is_found():
    good = {"w": torch.arange(4.0), "b": [1, 2]}
    content = saved(good)
    for at in range(len(content)):
        flipped = bytearray(content)
        flipped[at] ^= 1 << at % 8
        try:
            got = read(bytes(flipped))
        except CorruptFileError:
            continue
        assert torch.equal(got["w"], good["w"])
        assert got["b"] == [1, 2]


def packed(content):
    return repacked(content, {}, compression=zipfile.ZIP_DEFLATED)


def with_two(content):
    out = io.BytesIO(content)
    with (
        zipfile.ZipFile(out, "a") as archive,
        pytest.warns(UserWarning, match="Duplicate"),
    ):
        archive.writestr("archive/data/0", bytes(16))
    return out.getvalue()


def in_tar(content):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    return out.getvalue()


def overlapping(content):
    """Let both tensors' records lie at the first's place, as zip bombs do."""
    content = bytearray(content)
    places = {}
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        n = struct.unpack_from("<H", content, at + 28)[0]
        places[bytes(content[at + 46 : at + 46 + n])] = at
        at = content.find(b"PK\x01\x02", at + 1)
    first, second = places[b"archive/data/0"], places[b"archive/data/1"]
    content[second + 42 : second + 46] = content[first + 42 : first + 46]
    return bytes(content)


TENSORS = {"a": torch.arange(4.0), "b": torch.arange(4.0) + 1}
NO_FILES = {
    "no file of PyTorch": lambda _: b"weights",
    r"no file of PyTorch \(": lambda _: b"",
    "is cut or damaged": lambda content: content[:-30],
    "saved before PyTorch 1.6, or is a pickle": lambda _: pickle.dumps(1),
    "saved before PyTorch 1.6": in_tar,
    "not one of torch.save": lambda content: repacked(content, {}, add=["b/data.pkl"]),
    "TorchScript": lambda content: repacked(content, {}, add=["archive/constants.pkl"]),
    "record 'archive/data.pkl' is packed": packed,
    "two of its records have one name": with_two,
    "overlaps another": overlapping,
    "bytes are not in": lambda content: repacked(
        content, {"byteorder": lambda _: b"big"}
    ),
    "has not the 4 numbers it should": lambda content: repacked(
        content, {"data/1": lambda record: record[:-4]}
    ),
    "instruction LONG4": lambda content: repacked(
        content, {"data.pkl": lambda _: b"\x80\x02\x8b\x04\x00\x00\x00abcd."}
    ),
    "bytes in a bytes8, but only 1 remain": lambda content: repacked(
        content, {"data.pkl": lambda _: b"\x8e" + b"\xff" * 7 + b"\x00."}
    ),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("message", NO_FILES)
def test_files_that_are_not_read(message):
    with pytest.raises(CorruptFileError, match=f"a.pt cannot be read: .*{message}"):
        read(NO_FILES[message](saved(TENSORS)))


def test_old_files_of_torch():
    for value in (TENSORS, torch.ones(2)):
        old = saved(value, _use_new_zipfile_serialization=False)
        with pytest.raises(CorruptFileError, match="load and save it again"):
            read(old)


MORE = "more than what is stored"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        # A view by stride 0 of 4 numbers as 16,711,680.
        (
            b"K\x04\x85q\x08K\x01",
            b"M\x00\xff\x85q\x08K\x00",
            MORE,
        ),
        (b"K\x04\x85q\x08K\x01", b"K\x05\x85q\x08K\x01", MORE),
        (b"K\x04\x85q\x08K\x01", b"K\x02\x85q\x08K\x09", MORE),
        (b"K\x04\x85q\x08K\x01", b"J\xff\xff\xff\xff\x85q\x08K\x01", r"shape \(-1,\)"),
        (b"K\x04\x85q\x08K\x01", b"N\x85q\x08K\x01", r"shape \(None,\)"),
        (b"_rebuild_tensor_v2", b"_rebuild_meta_tensor_no_storage", "it names"),
        (b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x009", "'archive/data/9' is missing"),
    ],
    ids=str,
)
def test_tensors_that_are_not_what_is_stored(old, new, message):
    changed = with_pickle({"a": torch.arange(4.0)}, old=old, new=new)
    assert changed != saved({"a": torch.arange(4.0)})
    with pytest.raises(CorruptFileError, match=message):
        read(changed)


def pickled(record):
    return repacked(saved([]), {"data.pkl": lambda _: record})


BOMBS = {
    # Lists of twice the same list, 40 deep: 2**40 objects in 300 bytes.
    "doubled": b"\x80\x02]" + b"".join(
        b"q%c]h%ch%c\x86\x85" % (i, i, i) for i in range(40)
    ) + b".",
    "deep": b"\x80\x02" + b"]" * 20_000 + b"a" * 19_999 + b".",
    # The hash of a tuple in a tuple in a tuple ended the process.
    "a key": b"\x80\x02})" + b"\x85" * 200_000 + b"Ns.",
    "itself": b"\x80\x02]q\x00h\x00a.",
    "memo": b"\x80\x02]r\xff\xff\xff\xff.",
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_small_files_that_are_endless(bomb):
    if bomb == "memo":
        assert read(pickled(BOMBS[bomb])) == []
        return
    with pytest.raises(CorruptFileError, match=r"a\.pt cannot be read"):
        read(pickled(BOMBS[bomb]))


def test_a_file_by_its_path(tmp_path):
    torch.save(TENSORS, tmp_path / "w.pt")
    assert torch.equal(read_tensors(tmp_path / "w.pt")["b"], TENSORS["b"])
    with pytest.raises(FileNotFoundError, match=r"none\.pt"):
        read_tensors(tmp_path / "none.pt")
    with pytest.raises(OSError, match=str(tmp_path)):
        read_tensors(tmp_path)
    np.testing.assert_array_equal(read_tensors(tmp_path / "w.pt")["a"], np.arange(4))
