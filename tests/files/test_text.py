"""Texts are read whole or refused: by their bytes, line by line, in bounds."""

import bz2
import gzip
import io
import lzma
import os
import zipfile

import pytest

from sklearn_molge._files.text import check_is_file, look_into, open_text
from sklearn_molge.exceptions import CorruptFileError

TEXT = "Käse,1\r\nb,2\n\nc,3"


def zipped(content):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", content)
    return out.getvalue()


PACKERS = {
    None: bytes,
    "gzip": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zip": zipped,
}


def lines(path, **options):
    with open_text(path, **options) as file:
        return list(file)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("packer", PACKERS, ids=str)
def test_packing_and_encoding_are_told_by_the_bytes(tmp_path, packer, encoding):
    path = tmp_path / "a"
    path.write_bytes(PACKERS[packer](TEXT.encode(encoding)))
    assert look_into(path).compression == packer
    assert lines(path) == ["Käse,1\r\n", "b,2\n", "\n", "c,3"]
    assert lines(path, newline=None) == ["Käse,1\n", "b,2\n", "\n", "c,3"]


@pytest.mark.parametrize("packer", ["gzip", "bz2", "xz"])
def test_streams_behind_each_other_are_one_text(tmp_path, packer):
    path = tmp_path / "a"
    pack = PACKERS[packer]
    whole = pack(b"one\n" * 9000) + pack(b"") + pack(b"two\n") + bytes(8)
    path.write_bytes(whole)
    assert lines(path) == ["one\n"] * 9000 + ["two\n"]
    broken = bytearray(whole)
    broken[len(pack(b"one\n" * 9000) + pack(b"")) + 1] ^= 1  # the third magic number
    for damaged in (broken, whole + b"what is no stream", whole[:-20]):
        path.write_bytes(damaged)
        # Of what is packed; the boundary of a reader names the file.
        with pytest.raises((EOFError, OSError, lzma.LZMAError)):
            lines(path)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_line_has_a_bound(tmp_path, end, encoding):
    path = tmp_path / "a.gz"
    n = 70_000  # more than is read at a time
    for size, is_good in ((n, True), (n + 1, False)):
        text = f"a{end}b{end}{'x' * size}{end}" + f"c{end}" * n
        path.write_bytes(gzip.compress(text.encode(encoding)))
        if is_good:
            assert lines(path, longest=n)[2] == "x" * n + end
        else:
            with pytest.raises(CorruptFileError, match=r"a\.gz.*line 3: .*70,000"):
                lines(path, longest=n)


@pytest.mark.parametrize("text", ["\u0a0a\u0d0d", "\u2028\x85"])
def test_what_looks_like_the_end_of_a_line_is_none(tmp_path, text):
    path = tmp_path / "a"
    path.write_bytes((text * 50_000).encode("utf-16"))
    with pytest.raises(CorruptFileError, match="line 1: it is longer than 99,999"):
        lines(path, longest=99_999)


def test_zero_bytes_are_refused(tmp_path):
    path = tmp_path / "a"
    for encoding in ("utf-8", "utf-16"):
        path.write_bytes(("a\nb\n" * 20_000 + "c\0\0d\n").encode(encoding))
        with pytest.raises(CorruptFileError, match=r"line 40,001: .*zero bytes"):
            lines(path)
        assert lines(path, n_zeros=3)[-1] == "c\0\0d\n"


def test_what_is_no_file_is_refused(tmp_path):
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to(fifo)
    for path, kind in ((fifo, "a pipe"), (link, "a pipe"), ("/dev/zero", "a device")):
        with pytest.raises(ValueError, match=f"Got '{path}', {kind}"):
            look_into(path)
    with pytest.raises(IsADirectoryError, match="Got the folder"):
        check_is_file(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no file"):
        check_is_file(tmp_path / "none")


def test_an_archive_of_several_files_is_refused(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(3):
            archive.writestr(f"{i}.txt", "x")
    with pytest.raises(ValueError, match=r"a\.zip must hold a single file.* of 3"):
        look_into(path)
