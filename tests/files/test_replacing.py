import errno
import multiprocessing
import os
import signal
import stat
import sys
import time

import pytest

from sklearn_molge._files import replacing as module
from sklearn_molge._files.replacing import (
    is_draft,
    replace_bytes,
    replacing,
    reserve,
)

posix = pytest.mark.skipif(sys.platform == "win32", reason="rights and locks of POSIX")


def write(path, block):
    with replacing(path) as draft:
        block(draft)


def test_the_old_file_stands_until_the_block_ends(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with replacing(path) as draft:
        draft.write_text("new")
        assert path.read_text() == "old"
        assert is_draft(draft)
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_a_block_that_raises_leaves_the_old_file_and_no_draft(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replacing(path) as draft:
        draft.write_text(str(1 / 0))
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["table.csv"]


def test_two_writers_do_not_meet(tmp_path):
    path = tmp_path / "table.csv"
    with replacing(path) as one, replacing(path) as other:
        one.write_text("one")
        other.write_text("other")
    assert path.read_text() == "one"


def test_a_file_has_the_rights_of_any_new_file(tmp_path):
    replace_bytes(tmp_path / "a", b"1")
    (tmp_path / "b").write_bytes(b"1")
    assert rights_of(tmp_path / "a") == rights_of(tmp_path / "b")


def rights_of(path):
    return stat.S_IMODE(path.stat().st_mode)


@posix
@pytest.mark.parametrize("rights", [0o600, 0o664, 0o777])
def test_a_file_that_is_replaced_keeps_its_rights(tmp_path, rights):
    path = tmp_path / "a"
    path.write_bytes(b"1")
    path.chmod(rights)
    with replacing(path) as draft:
        assert rights_of(draft) & ~rights == 0  # never more than those
        draft.write_bytes(b"2")
    assert (rights_of(path), path.read_bytes()) == (rights, b"2")


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        replace_bytes(tmp_path / "nowhere" / "a", b"1")


# Places that take no file


@posix
def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "linked").write_bytes(b"old")
    path = tmp_path / "link"
    path.symlink_to("linked")
    replace_bytes(path, b"new")
    assert not path.is_symlink()
    assert [(tmp_path / n).read_bytes() for n in ("link", "linked")] == [b"new", b"old"]
    (tmp_path / "dangling").symlink_to("nowhere")
    replace_bytes(tmp_path / "dangling", b"new")
    assert sorted(os.listdir(tmp_path)) == ["dangling", "link", "linked"]


@pytest.mark.parametrize("name", ["folder", ".", "file/under", "folder/no/file"])
def test_no_work_is_done_for_a_place_that_takes_no_file(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"1")
    with pytest.raises(OSError, match=r"folder|file"), replacing(tmp_path / name):
        pytest.fail("the block ran")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]


@posix
def test_a_write_protected_file_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may all
    with pytest.raises(PermissionError, match="write-protected") as e:
        replace_bytes(path, b"new")
    assert e.value.filename == str(path)
    assert path.read_bytes() == b"old"


def test_a_read_only_folder_is_told(tmp_path, monkeypatch):
    def refuse(path, *args):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

    monkeypatch.setattr(module.os, "open", refuse)
    with pytest.raises(OSError, match="no file can be made there") as e:
        replace_bytes(tmp_path / "a", b"new")
    assert e.value.filename == str(tmp_path / "a")


@posix
def test_odd_and_long_names(tmp_path):
    names = ["a b", "-", "*?[x]", "\n", "\u00fc" * 100, "x" * 255, "y" * 254, ".part"]
    for name in names:
        replace_bytes(tmp_path / name, name.encode())
        replace_bytes(tmp_path / name, name.encode())
    assert sorted(os.listdir(tmp_path)) == sorted(names)
    with pytest.raises(OSError, match="too long") as e:
        replace_bytes(tmp_path / ("x" * 256), b"1")
    assert e.value.filename == str(tmp_path / ("x" * 256))


@pytest.mark.parametrize("name", ["a\0b", "a\ud800b"])
def test_names_that_no_file_has(tmp_path, name):
    with pytest.raises(ValueError, match="No file can be named"):
        replace_bytes(tmp_path / name, b"1")


@posix
def test_a_folder_that_vanishes_meanwhile(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="no file was written") as e:
        write(folder / "a", lambda draft: (draft.unlink(), folder.rmdir()))
    assert e.value.filename == str(folder / "a")


# Errors in the block


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_names_the_file_and_what_stayed(tmp_path, there):
    path = tmp_path / "a"
    if there:
        path.write_bytes(b"old")
    what = "the file there is as it was" if there else "no file was written"
    with pytest.raises(OSError, match=what) as e, replacing(path):
        full()
    assert (e.value.errno, e.value.filename) == (errno.ENOSPC, str(path))
    assert os.listdir(tmp_path) == (["a"] if there else [])


@pytest.mark.parametrize("kind", [RuntimeError, OSError])
def test_a_full_disk_behind_the_error_of_a_library(tmp_path, monkeypatch, kind):
    def fail(draft):
        raise kind("inline_container.cc:672: unexpected pos")

    path = tmp_path / "a"
    with pytest.raises(kind, match="unexpected pos"):
        write(path, fail)
    monkeypatch.setattr(module.os, "fsync", full)
    with pytest.raises(OSError, match="no file was written") as e:
        write(path, fail)
    assert (e.value.errno, e.value.filename) == (errno.ENOSPC, str(path))
    assert os.listdir(tmp_path) == []


def test_errors_about_another_file_pass(tmp_path):
    with pytest.raises(FileNotFoundError) as e, replacing(tmp_path / "a"):
        open(tmp_path / "source")
    assert e.value.filename == str(tmp_path / "source")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, MemoryError, SystemExit])
def test_an_interruption_leaves_the_old_file_and_no_draft(tmp_path, kind):
    path = tmp_path / "a"

    def interrupt(draft):
        draft.write_bytes(b"new")
        raise kind

    path.write_bytes(b"old")
    with pytest.raises(kind):
        write(path, interrupt)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a"]


# Drafts of killed writers


def write_and_die(path):
    write(path, lambda draft: os.kill(os.getpid(), signal.SIGKILL))


def write_and_wait(path, started):
    write(path, lambda draft: (started.set(), time.sleep(60)))


@posix
def test_the_next_writer_removes_drafts_of_dead_writers_only(tmp_path):
    path, other = tmp_path / "a.b", tmp_path / "a"
    spawn = multiprocessing.get_context("spawn")
    alive = spawn.Event()
    writer = spawn.Process(target=write_and_wait, args=(path, alive))
    writer.start()
    try:
        assert alive.wait(60)
        for target in (path, other):
            dead = spawn.Process(target=write_and_die, args=(target,))
            dead.start()
            dead.join()
        assert len(list(filter(is_draft, tmp_path.iterdir()))) == 3
        replace_bytes(path, b"new")
        left = [p.name for p in tmp_path.iterdir() if is_draft(p)]
        assert sum(name.startswith(".a.b.") for name in left) == 1
        assert len(left) == 2
    finally:
        writer.kill()
        writer.join()
    replace_bytes(path, b"new")
    replace_bytes(other, b"new")
    assert sorted(os.listdir(tmp_path)) == ["a", "a.b"]


@pytest.mark.parametrize("days", [1, 30])
def test_without_locks_only_old_drafts_are_removed(tmp_path, monkeypatch, days):
    monkeypatch.setattr(module, "fcntl", None)
    draft = tmp_path / f".a.{0:032x}.part"
    draft.write_bytes(b"half")
    then = time.time() - days * 24 * 3600
    os.utime(draft, (then, then))
    replace_bytes(tmp_path / "a", b"new")
    assert draft.exists() == (days == 1)


@posix
def test_what_only_looks_like_a_draft_stays(tmp_path):
    (tmp_path / "mine").write_bytes(b"mine")
    names = [f".a.{0:032x}.part", ".a.0.part", f".a.b.{0:032x}.part", ".a.part"]
    (tmp_path / names[0]).symlink_to("mine")
    for name in names[1:]:
        (tmp_path / name).write_bytes(b"mine")
    os.mkfifo(tmp_path / f".a.{1:032x}.part")
    replace_bytes(tmp_path / "a", b"new")
    assert len(os.listdir(tmp_path)) == 7


@posix
def test_one_at_a_time_in_a_folder(tmp_path):
    with module.alone_in(tmp_path):
        with module.alone_in(tmp_path.parent):
            pass
        with pytest.raises(BlockingIOError, match="another process") as e:
            module.alone_in(tmp_path).__enter__()
    assert e.value.filename == str(tmp_path)
    with module.alone_in(tmp_path):
        pass


# Room


@pytest.mark.parametrize("allocates", [True, False])
def test_reserve_takes_room_on_the_disk(tmp_path, monkeypatch, allocates):
    if not allocates:
        monkeypatch.delattr(os, "posix_fallocate", raising=False)
    path = tmp_path / "a"
    path.write_bytes(b"head")
    reserve(path, 20_000_000)
    assert path.stat().st_size == 20_000_000
    assert path.read_bytes() == b"head".ljust(20_000_000, b"\0")
    if sys.platform != "win32":
        assert path.stat().st_blocks * 512 >= 20_000_000
    reserve(path, 10)
    assert path.stat().st_size == 20_000_000
