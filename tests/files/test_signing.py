import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pytest

from sklearn_molge._files.signing import check_signed, dump_signed, load_signed
from sklearn_molge.exceptions import CorruptFileError, UntrustedFileError


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_what_was_written_here_comes_back(tmp_path):
    path = tmp_path / "value"
    dump_signed({"a": np.arange(3.0), "f": lambda x: x + 1}, path)
    value = load_signed(path)
    np.testing.assert_array_equal(value["a"], [0, 1, 2])
    assert value["f"](1) == 2
    assert os.listdir(tmp_path) == ["value"]


@pytest.mark.parametrize("dump", [pickle.dump, joblib.dump])
def test_a_foreign_pickle_is_named_and_not_run(tmp_path, dump):
    path, made = tmp_path / "value", tmp_path / "made"
    with open(path, "wb") as file:
        dump(Payload(made), file)
    with pytest.raises(UntrustedFileError, match=r"posix\.mkdir.*trust=True") as e:
        load_signed(path)
    assert not made.exists()
    assert e.value.names == [f"{os.mkdir.__module__}.mkdir"]
    assert load_signed(path, trust=True) is None
    assert made.is_dir()


def test_every_changed_byte_is_found(tmp_path):
    path = tmp_path / "value"
    dump_signed([1, "two"], path)
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises((CorruptFileError, UntrustedFileError)):
            load_signed(path)
        with pytest.raises(CorruptFileError):
            check_signed(path)
    for end in range(len(content)):
        path.write_bytes(content[:end])
        with pytest.raises((CorruptFileError, UntrustedFileError)):
            load_signed(path)
    path.write_bytes(content)
    check_signed(path)


def test_another_installation_refuses_it(tmp_path):
    dump_signed([1], tmp_path / "value")
    code = (
        "import sys; from sklearn_molge._files.signing import load_signed\n"
        "load_signed(sys.argv[1])"
    )

    def run(home):
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "value")],
            env=os.environ | {"XDG_DATA_HOME": home},
            capture_output=True,
            text=True,
        )

    assert run(os.environ["XDG_DATA_HOME"]).returncode == 0
    other = run(str(tmp_path / "other"))
    assert "UntrustedFileError" in other.stderr
    (key,) = Path(tmp_path, "other").rglob("*.key")
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o644)
    assert "other users can read" in run(str(tmp_path / "other")).stderr


def test_damage_is_told_from_the_hand_of_another(tmp_path):
    path = tmp_path / "value"
    dump_signed([1, "two"], path)
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    for trust in (False, True):
        with pytest.raises(CorruptFileError, match="value cannot be read: it was cut"):
            load_signed(path, trust=trust)
    path.write_bytes(b"")
    with pytest.raises(CorruptFileError, match="it is empty"):
        load_signed(path, trust=True)
