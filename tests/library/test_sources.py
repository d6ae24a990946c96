from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.molecules import MoleculeFile
from sklearn_molge.retrieval._index._sources import (
    ArraySource,
    IterableSource,
    as_source,
)

SMILES = ["CCO", "CCN", float("nan"), "CCC", "C"]
NAMES = ["a", "b", "c", "d", "e"]


def rows_of(source, batch_size=2, start=0):
    rows = []
    for first, smiles, names in source.iter_batches(batch_size, start=start):
        assert smiles.dtype == names.dtype == object
        assert len(smiles) == len(names) <= batch_size
        rows += zip(range(first, first + len(smiles)), smiles, names, strict=True)
    return rows


def expected(start=0, names=NAMES):
    return list(zip(range(start, 5), SMILES[start:], names[start:], strict=True))


@pytest.mark.parametrize("start", range(6))
def test_array_and_iterable(start):
    pairs = list(zip(SMILES, NAMES, strict=True))
    for source in (as_source(SMILES, NAMES), as_source(iter(pairs))):
        assert rows_of(source, start=start) == expected(start)
    assert rows_of(as_source(iter(SMILES)), start=start) == expected(start, [""] * 5)


def test_kinds(tmp_path):
    path = tmp_path / "x.smi"
    path.write_text("CCO a\n")
    file = MoleculeFile(path)
    assert as_source(file) is file
    assert isinstance(as_source(path), MoleculeFile)
    for array in (SMILES, np.array(SMILES, dtype=object), pd.Series(SMILES)):
        assert isinstance(as_source(array), ArraySource)
        assert as_source(array).n_rows == 5
    assert isinstance(as_source({"C": 1}.keys()), IterableSource)
    assert as_source(s for s in SMILES).n_rows is None


@pytest.mark.parametrize("X", ["CCO", b"CCO", None, 3, {"CCO": "a"}])
def test_what_is_no_library(X):
    with pytest.raises(ValueError, match="X must be an array-like of SMILES"):
        as_source(X)


def test_a_text_is_not_taken_for_a_path(tmp_path):
    with pytest.raises(ValueError, match=r"pathlib.Path.*Got 'library.smi'"):
        as_source("library.smi")
    with pytest.raises(FileNotFoundError):
        as_source(Path(tmp_path, "library.smi"))


def test_names_go_with_arrays_alone():
    with pytest.raises(ValueError, match=r"names must be None.*type list"):
        as_source(iter(SMILES), NAMES)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        as_source(SMILES, NAMES[1:])
    assert as_source(["C"], [7]).names.tolist() == ["7"]


def test_fingerprints():
    pairs = list(zip(SMILES, NAMES, strict=True))
    of_array = [
        as_source(SMILES, NAMES),
        as_source(SMILES),
        as_source(SMILES[::-1], NAMES),
    ]
    of_iterable = [as_source(iter(pairs)), as_source(iter(pairs[1:]))]
    for sources in (of_array, of_iterable):
        assert len({source.fingerprint() for source in sources}) == len(sources)
    assert of_array[0].fingerprint() == as_source(SMILES, NAMES).fingerprint()
    assert of_iterable[0].fingerprint() == as_source(iter(pairs)).fingerprint()


def test_the_fingerprint_of_an_iterable_loses_none_of_it():
    source = as_source(str(i) for i in range(2500))
    first = source.fingerprint()
    assert source.fingerprint() == first
    assert [row[1] for row in rows_of(source, 999)] == [str(i) for i in range(2500)]


def test_an_iterable_is_read_no_further_than_its_batches():
    taken = []
    source = as_source(taken.append(i) or "C" for i in range(100))
    next(source.iter_batches(10, start=5))
    assert len(taken) == 15
