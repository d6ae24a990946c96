import os
import stat

import pytest

from sklearn_molge._files.replacing import is_draft, replace_bytes, replacing


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
    rights = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in "ab"}
    assert len(rights) == 1


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        replace_bytes(tmp_path / "nowhere" / "a", b"1")
