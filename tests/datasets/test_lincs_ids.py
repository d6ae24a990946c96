"""Ids are found as a dictionary finds them, whatever their hashes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_molge.datasets._lincs import _profile_ids as _ids
from sklearn_molge.datasets._lincs._profile_ids import ProfileIds, decode_ids, encode_ids

# Few letters, so that texts meet; NUL cannot end a text of fixed length.
TEXTS = st.lists(st.text("abµ:", min_size=1, max_size=20), max_size=30)


def dictionary(ids):
    first = {}
    for position, text in enumerate(ids):
        first.setdefault(text, position)
    return first


@given(ids=TEXTS.filter(bool), wanted=TEXTS)
def test_find_is_a_look_up(ids, wanted):
    found = ProfileIds(encode_ids(ids)).find(encode_ids(wanted))
    first = dictionary(ids)
    assert found.tolist() == [first.get(text, -1) for text in wanted]


@given(ids=TEXTS.filter(bool))
def test_repeated_ids_are_told(ids):
    repeated = ProfileIds(encode_ids(ids)).repeated()
    assert repeated.tolist() == [i for i, t in enumerate(ids) if ids.count(t) > 1]


def test_equal_hashes_do_no_harm(monkeypatch):
    monkeypatch.setattr(
        _ids, "_hash", lambda ids, width: np.zeros(len(ids), dtype=np.uint64)
    )
    texts = ["b", "a", "c"]
    ids = ProfileIds(encode_ids(texts))
    assert ids.find(encode_ids(["c", "x", "a"])).tolist() == [2, -1, 1]
    assert ids.repeated().tolist() == []
    assert ProfileIds(encode_ids(["b", "a", "b"])).repeated().tolist() == [0, 2]


def test_blocks_and_widths(monkeypatch):
    monkeypatch.setattr(_ids, "BLOCK", 7)
    texts = [f"PLATE{i:03d}:A{i}" for i in range(50)]
    ids = ProfileIds(encode_ids(texts))
    assert len(ids) == 50
    assert ids.find(encode_ids(texts)).tolist() == list(range(50))
    longer = [f"{text} and something behind it" for text in texts]
    assert (ids.find(encode_ids(longer)) == -1).all()
    assert (ids.find(encode_ids([text[:-1] for text in texts[:10]])) == -1).all()


@pytest.mark.parametrize("texts", [["a", "bb"], ["\u00b5M", "x"], [12, 3], []])
def test_there_and_back(texts):
    encoded = encode_ids(texts)
    assert encoded.dtype.kind == "S"
    assert decode_ids(encoded).tolist() == [str(text) for text in texts]
