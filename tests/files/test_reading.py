import errno

import pytest

from sklearn_molge._files.reading import reading
from sklearn_molge.exceptions import CorruptFileError


@pytest.mark.parametrize(
    "error", [KeyError("shape"), IndexError("3"), ZeroDivisionError(), OSError("bad")]
)
def test_what_a_file_breaks_names_the_file_and_the_part(error):
    with pytest.raises(
        CorruptFileError, match=r"a\.h5 cannot be read: the matrix: "
    ) as e:
        with reading("a.h5", "the matrix"):
            raise error
    assert e.value.__cause__ is error
    assert (e.value.path, e.value.part) == ("a.h5", "the matrix")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("a.h5 has no genes."),
        ImportError("h5py is needed"),
        UserWarning("a guess"),
        CorruptFileError("other", "", "x"),
        KeyboardInterrupt(),
    ],
)
def test_errors_that_say_enough_pass(error):
    with pytest.raises(type(error)) as e, reading("a.h5"):
        raise error
    assert e.value is error


def test_errors_of_the_system_get_the_path():
    with pytest.raises(OSError, match=r"No space left.*a\.h5") as e, reading("a.h5"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert e.value.errno == errno.ENOSPC
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"), reading("a.h5"):
        open("nowhere.csv")
