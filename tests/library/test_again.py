"""Libraries that are added again, or have grown: no row comes twice."""

import gzip
import warnings

import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import LibraryWarning
from sklearn_molge.library import MoleculeFile, MoleculeIndex
from sklearn_molge.molecules import MorganFingerprinter

STUDY = make_perturbation_study(60, n_cell_lines=1, n_genes=12, random_state=0)
GOOD = list(dict.fromkeys(STUDY.smiles))
HERE = "all of its 5 rows are in .* already, as library 1: nothing is added"


@pytest.fixture(scope="module")
def pipe():
    pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1))
    return pipe.fit(STUDY.smiles, STUDY.ge)


def contents(index):
    return index.get_molecules().to_csv(), index.skipped_.to_csv()


def csv_of(path, smiles, opener=open):
    lines = [f"{text},m{i},{i}\n" for i, text in enumerate(smiles)]
    with opener(path, "wt") as file:
        file.write("".join(["smiles,name,price\n", *lines]))
    return path


def given_as(kind, smiles, folder, name="b"):
    if kind == "iterable":
        return iter(smiles)
    if kind == "frame":
        return pd.DataFrame({"smiles": smiles, "name": smiles})
    if kind == "file":
        return csv_of(folder / f"{name}.csv", smiles)
    return smiles


KINDS = pytest.mark.parametrize("kind", ["array", "iterable", "frame", "file"])


@KINDS
@pytest.mark.parametrize("unique_by", ["drug", "smiles", None])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_library_that_is_there_is_not_added_again(
    pipe, tmp_path, kind, unique_by, on_disk
):
    folder = tmp_path / "index" if on_disk else None
    index = MoleculeIndex(pipe, folder=folder, unique_by=unique_by).fit(GOOD[:4])
    added = [*GOOD[2:6], GOOD[3]]
    index.partial_fit(given_as(kind, added, tmp_path))
    expected = contents(index)
    index.partial_fit(GOOD[10:12])
    more = contents(index)
    assert more != expected
    for _ in range(2):
        with pytest.warns(LibraryWarning, match=HERE):
            index.partial_fit(given_as(kind, added, tmp_path, name="moved"))
        assert contents(index) == more
    if on_disk:
        with pytest.warns(LibraryWarning, match=HERE):
            MoleculeIndex.open(folder).partial_fit(given_as(kind, added, tmp_path))
        assert contents(MoleculeIndex.open(folder)) == more
    with pytest.warns(LibraryWarning, match="all of its 4 rows .* as library 0"):
        index.partial_fit(GOOD[:4])
    assert contents(index) == more


@KINDS
@pytest.mark.parametrize("unique_by", ["drug", None])
@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_of_a_library_that_has_grown_the_new_rows_are_added(
    pipe, tmp_path, kind, unique_by, batch_size
):
    params = {"unique_by": unique_by, "batch_size": batch_size}
    index = MoleculeIndex(pipe, **params).fit(GOOD[10:14])
    index.partial_fit(given_as(kind, GOOD[:3], tmp_path))
    grown = [*GOOD[:9], "x", "CCO"]
    with pytest.warns(LibraryWarning, match="its first 3 rows .* library 1: only the"):
        index.partial_fit(given_as(kind, grown, tmp_path))
    table = index.get_molecules()
    assert table["smiles"].tolist() == [*GOOD[10:14], *GOOD[:9], "CCO"]
    assert table["library"].tolist() == [0] * 4 + [1] * 3 + [2] * 7
    assert table["library_row"].tolist() == [*range(4), *range(9), 10]
    assert index.skipped_.iloc[:, :2].values.tolist() == [[2, 9]]
    with pytest.warns(LibraryWarning, match="all of its 11 rows .* library 2: nothing"):
        index.partial_fit(given_as(kind, grown, tmp_path))


def test_what_differs_anywhere_is_another_library(pipe, tmp_path):
    index = MoleculeIndex(pipe, unique_by=None).fit(GOOD[:5])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        index.partial_fit(GOOD[:5][::-1])
        index.partial_fit([*GOOD[:4], GOOD[5]])
        index.partial_fit(GOOD[:5], names=list("abcde"))
        index.partial_fit(GOOD[:5], columns={"price": [1, 2, 3, 4, 5]})
        index.partial_fit(GOOD[:4])  # of it nobody said that it ends there
    assert index.n_rows_ == 5 * 5 + 4
    with pytest.warns(LibraryWarning, match="library 3: nothing"):
        index.partial_fit(GOOD[:5], names=list("abcde"))


def test_a_library_is_known_however_it_is_packed(pipe, tmp_path):
    index = MoleculeIndex(pipe, unique_by=None).fit(csv_of(tmp_path / "a.csv", GOOD))
    packed = csv_of(tmp_path / "b.csv.gz", GOOD, gzip.open)
    with pytest.warns(LibraryWarning, match="nothing is added"):
        index.partial_fit(MoleculeFile(packed))
    assert index.n_rows_ == len(GOOD)


def test_what_was_removed_stays_removed(pipe):
    index = MoleculeIndex(pipe).fit(GOOD[:5]).remove(GOOD[2])
    with pytest.warns(LibraryWarning, match="what was removed stays removed"):
        index.partial_fit(GOOD[:5])
    assert index.n_molecules_ == 4
    assert index.partial_fit([GOOD[2]]).n_molecules_ == 5


def test_long_iterables_are_compared_to_their_end(pipe, tmp_path):
    texts = [f"{'C' * (i % 50 + 1)}{'N' * (i // 50)}" for i in range(1100)]
    params = {"folder": tmp_path / "index", "unique_by": None}
    index = MoleculeIndex(pipe, **params).fit(iter(texts))
    assert MoleculeIndex(pipe, **params).fit(iter(texts)).n_rows_ == 1100
    for other in ([*texts, "CCO"], [*texts[:-1], "CCO"], texts[:-1]):
        with pytest.raises(FileExistsError, match="another library"):
            MoleculeIndex(pipe, **params).fit(iter(other))
    with pytest.warns(LibraryWarning, match="its first 1,100 rows"):
        index.partial_fit(iter([*texts, "CCO"]))
    assert index.get_molecules()["smiles"].tolist() == [*texts, "CCO"]
    index.partial_fit(iter([*texts[:-1], "CCS"]))  # another one, from its first row on
    assert index.n_rows_ == 1101 + 1100


@pytest.mark.parametrize("first", [[], GOOD[:3]])
def test_a_library_that_failed_when_it_went_on_leaves_no_trace(pipe, tmp_path, first):
    bad = ["x"] * 1100  # so many tell an iterable, and more

    def interrupted():
        yield from bad
        raise KeyboardInterrupt

    params = {"folder": tmp_path / "index", "batch_size": 10, "progress": False}
    index = MoleculeIndex(pipe, **params)
    if first:
        index.fit(first)
    with pytest.raises(KeyboardInterrupt):
        index.partial_fit(interrupted())
    assert len(index.skipped_) == 1100
    with pytest.raises(ValueError, match="0 of 1,100 rows of the library"):
        index.partial_fit(iter(bad))
    assert (index.n_rows_, len(index.skipped_)) == (len(first), 0)
    if first:
        assert MoleculeIndex(pipe, **params).fit(first).n_rows_ == 3
        MoleculeIndex.open(tmp_path / "index").partial_fit(GOOD[3:5])
    else:
        MoleculeIndex(pipe, **params).fit(GOOD[3:5])
    table = MoleculeIndex.open(tmp_path / "index").get_molecules()
    assert table["library"].tolist() == [0] * len(first) + [bool(first)] * 2
