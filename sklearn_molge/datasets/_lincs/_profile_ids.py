"""Ids of millions of profiles: kept as bytes in one array, and looked up by hash."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

__all__ = ["ProfileIds", "decode_ids", "encode_ids"]

BLOCK = 2**16
PRIME = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(29)


class ProfileIds:
    """Ids (UTF-8) of the profiles of a release, to be found by their text.

    An index of Python texts would take five times the memory. Found ids are compared
    letter by letter, so that equal hashes do no harm.
    """

    def __init__(self, ids: NDArray[np.bytes_]):
        self.ids = ids
        hashes = _hash(ids, ids.itemsize)
        self._order = np.argsort(hashes, kind="stable").astype(np.int32)
        self._hashes = hashes[self._order]
        self._longest_run = _longest_run(self._hashes)

    def __len__(self) -> int:
        return len(self.ids)

    def find(self, wanted: NDArray[np.bytes_]) -> NDArray[np.intp]:
        """Return the position of each wanted id, the first of several; -1: none."""
        width = self.ids.itemsize
        positions = np.full(len(wanted), -1)
        if not len(self):
            return positions
        # Texts that are longer than any id are cut to match none.
        short = wanted.astype(f"S{width}")
        hashes = _hash(short, width)
        starts = np.searchsorted(self._hashes, hashes)
        for step in range(self._longest_run):
            places = np.minimum(starts + step, len(self) - 1)
            candidates = self._order[places]
            same = (self.ids[candidates] == wanted) & (positions < 0)
            positions[same] = candidates[same]
        return positions

    def repeated(self) -> NDArray[np.intp]:
        """Return the positions of ids that stand more than once, in order."""
        if self._longest_run < 2:
            return np.empty(0, dtype=np.intp)
        near = np.diff(self._hashes) == 0
        suspect = np.sort(self._order[np.r_[near, False] | np.r_[False, near]])
        texts = pd.Index(self.ids[suspect].astype(object))
        return suspect[texts.duplicated(keep=False)].astype(np.intp)


def encode_ids(texts: Sequence[str] | NDArray | pd.Index) -> NDArray[np.bytes_]:
    """Return texts as UTF-8 in one array."""
    array = np.asarray(texts, dtype=object)
    try:
        return array.astype(bytes)  # in C, and for ASCII only
    except UnicodeEncodeError:
        return np.array([str(text).encode() for text in array], dtype=bytes)


def decode_ids(ids: NDArray[np.bytes_]) -> pd.Index:
    """Return ids as an index of Python texts."""
    return pd.Index([i.decode() for i in ids.tolist()], dtype=object)


def _hash(ids: NDArray[np.bytes_], width: int) -> NDArray[np.uint64]:
    """Hash each id as a row of 64-bit words; equal texts of any width, equal hashes."""
    n_words = -(-width // 8)
    hashes = np.empty(len(ids), dtype=np.uint64)
    for first in range(0, len(ids), BLOCK):
        block = ids[first : first + BLOCK].astype(f"S{8 * n_words}")
        words = block.view(np.uint64).reshape(len(block), n_words)
        value = np.zeros(len(block), dtype=np.uint64)
        for word in words.T:
            value = (value ^ word) * PRIME
            value ^= value >> SHIFT
        hashes[first : first + BLOCK] = value
    return hashes


def _longest_run(values: NDArray) -> int:
    """Return the length of the longest run of equal values in sorted ones."""
    if not len(values):
        return 0
    starts = np.flatnonzero(np.r_[True, values[1:] != values[:-1], True])
    return int(np.diff(starts).max())
