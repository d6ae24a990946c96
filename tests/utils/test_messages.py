import pytest

from sklearn_molge._utils.messages import N_SHOWN, first_few, first_few_at
from sklearn_molge._utils.optional import import_optional


def test_as_many_as_are_shown_are_written_whole():
    values = list(range(N_SHOWN))
    assert first_few(values) == ", ".join(map(str, values))


def test_more_are_counted():
    assert first_few(range(5003), n=3) == "0, 1, 2 and 5,000 more"


def test_values_with_their_places():
    assert first_few_at([2, 4, 9], "abc", n=1) == "index 2: 'a' and 2 more"


def test_a_missing_extra_is_named():
    with pytest.raises(
        ImportError,
        match=r"Picture\.plot needs no_such_package: pip "
        r'install "sklearn-molge\[plot\]"',
    ):
        import_optional("no_such_package.inner", extra="plot", needed_by="Picture.plot")
