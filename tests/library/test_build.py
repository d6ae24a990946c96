import hashlib
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import MoleculeFile, MorganFingerprinter, drug_ids
from sklearn_molge.retrieval._index import _segments, _sources
from sklearn_molge.retrieval._index._building import (
    SkippedRows,
    add_library,
    check_library,
    is_complete,
    unfinished_start,
)
from sklearn_molge.retrieval._index._seen import SeenIds, hash_ids
from sklearn_molge.retrieval._index._sources import as_source
from sklearn_molge.retrieval._index._store import VectorStore

STUDY = make_perturbation_study(
    n_molecules=60, n_cell_lines=1, n_genes=12, random_state=0
)
GOOD = list(dict.fromkeys(STUDY.smiles))


class Counting(CCA):
    """Counts the molecules that it embeds, and stops after some of them."""

    def transform(self, X):
        self.n_embedded = getattr(self, "n_embedded", 0) + len(X)
        if self.n_embedded > getattr(self, "stops_after", np.inf):
            raise KeyboardInterrupt
        return super().transform(X)


@pytest.fixture
def pipeline():
    return make_pipeline(MorganFingerprinter(fp_size=128), Counting(3, ridge=0.1)).fit(
        STUDY.smiles, STUDY.ge
    )


@pytest.fixture(params=["memory", "disk"])
def make_store(request, tmp_path):
    def make(name="index"):
        path = tmp_path / name if request.param == "disk" else None
        store = VectorStore.create(
            path, n_components=3, dtype="float32", metric="correlation", identity={}
        )
        return store, SkippedRows(path and path / "skipped.tsv")

    return make


def add(made, pipeline, X, names=None, **options):
    store, skipped = made
    options = {"batch_size": 4, "progress": False, **options}
    add_library(store, pipeline, as_source(X, names), skipped, **options)


def contents(made):
    """All that an index holds, for comparison to the bit."""
    store, skipped = made
    rows = np.arange(store.n_rows)
    return (
        store.prepared(slice(0, store.n_rows)).tobytes(),
        store.texts(rows).tolist(),
        store.names(rows).tolist(),
        store.ids(rows).tolist(),
        skipped.to_frame().to_csv(),
    )


def dirty_library():
    X = [*GOOD[:20], "-666", GOOD[3], None, *GOOD[20:40], "C1C", GOOD[25], "OCC", "CCO"]
    return X, [f"name {i}" for i in range(len(X))]


def slow_loop(X, unique_by):
    """What is kept, and the reasons of all others, one row after the other."""
    kept, reasons, first = [], {}, {}
    for row, text in enumerate(X):
        try:
            (drug,) = drug_ids([text])
        except InvalidSmilesError:
            reasons[row] = "not a valid SMILES"
            continue
        key = {"drug": drug, "smiles": text, None: row}[unique_by]
        if key in first:
            reasons[row] = f"same molecule as row {first[key]}"
        else:
            first[key] = len(kept)
            kept.append(row)
    return kept, reasons


@pytest.mark.parametrize("unique_by", ["drug", "smiles", None])
@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_rows_are_kept_or_listed_with_the_reason(
    make_store, pipeline, unique_by, batch_size
):
    made = make_store()
    X, names = dirty_library()
    add(made, pipeline, X, names, unique_by=unique_by, batch_size=batch_size)
    kept, reasons = slow_loop(X, unique_by)
    store, skipped = made
    rows = np.arange(store.n_rows)
    assert store.texts(rows).tolist() == [X[i] for i in kept]
    assert store.names(rows).tolist() == [names[i] for i in kept]
    table = skipped.to_frame()
    assert dict(zip(table["row"], table["reason"], strict=True)) == reasons
    assert table["row"].is_monotonic_increasing
    assert table["entry"].tolist() == [str(X[i]) for i in reasons]
    expected = [
        drug_ids(X[i : i + 1])[0] if unique_by == "drug" else X[i] for i in kept
    ]
    assert store.ids(rows).tolist() == expected


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_n_jobs_does_not_matter(make_store, pipeline, n_jobs):
    X, names = dirty_library()
    one, other = make_store("one"), make_store("other")
    add(one, pipeline, X, names)
    with joblib.parallel_config("threading"):
        add(other, pipeline, X, names, n_jobs=n_jobs)
    assert contents(one) == contents(other)


def test_a_second_library_is_compared_with_the_first(make_store, pipeline):
    made = make_store()
    add(made, pipeline, GOOD[:10])
    made[0].remove(np.array([2]))
    add(made, pipeline, [GOOD[5], GOOD[2], GOOD[11]])
    store, skipped = made
    assert store.n_rows == 12
    assert store.texts(np.array([10, 11])).tolist() == [GOOD[2], GOOD[11]]
    assert skipped.to_frame().values.tolist() == [
        [0, GOOD[5], "same molecule as row 5"]
    ]


@pytest.mark.parametrize("n_done", [0, 9, 35])
def test_an_interrupted_library_goes_on(make_store, pipeline, monkeypatch, n_done):
    monkeypatch.setattr(_segments, "_BATCHES_PER_SEGMENT", 3)
    X, names = dirty_library()
    whole, made = make_store("whole"), make_store("interrupted")
    add(whole, pipeline, X, names)
    pipeline[-1].n_embedded, pipeline[-1].stops_after = 0, n_done
    with pytest.raises(KeyboardInterrupt):
        add(made, pipeline, X, names)
    source = as_source(X, names)
    start = unfinished_start(made[0], source)
    if n_done:
        assert 0 < start < len(X)
    else:
        assert start is None
    pipeline[-1].n_embedded, pipeline[-1].stops_after = 0, np.inf
    add(made, pipeline, X, names, start=start or 0)
    assert pipeline[-1].n_embedded <= len(X) - (start or 0)
    assert contents(made) == contents(whole)
    assert is_complete(made[0], source)
    assert unfinished_start(made[0], source) is None


def test_an_unfinished_library_goes_on_in_batches_of_another_size(make_store, pipeline):
    whole, made = make_store("whole"), make_store("interrupted")
    add(whole, pipeline, GOOD)
    pipeline[-1].n_embedded, pipeline[-1].stops_after = 0, 30
    with pytest.raises(KeyboardInterrupt):
        add(made, pipeline, GOOD)
    pipeline[-1].stops_after = np.inf
    add(
        made,
        pipeline,
        GOOD,
        start=unfinished_start(made[0], as_source(GOOD)),
        batch_size=7,
    )
    one, other = (store.prepared(slice(0, store.n_rows)) for store, _ in (whole, made))
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert contents(whole)[1:] == contents(made)[1:]


def test_an_unfinished_library_is_not_mixed_with_another(make_store, pipeline):
    made = make_store()
    pipeline[-1].n_embedded, pipeline[-1].stops_after = 0, 10
    with pytest.raises(KeyboardInterrupt):
        add(made, pipeline, GOOD)
    assert not is_complete(made[0], as_source(GOOD))
    with pytest.raises(
        ValueError, match=r"X: .* holds 8 rows of a library that is not"
    ):
        unfinished_start(made[0], as_source(GOOD[1:]))
    with pytest.raises(ValueError, match="X is another one"):
        unfinished_start(made[0], as_source(iter(GOOD[1:])))


def test_an_iterable_goes_on(make_store, pipeline):
    made, whole = make_store(), make_store("whole")
    add(whole, pipeline, iter(GOOD))
    pipeline[-1].n_embedded, pipeline[-1].stops_after = 0, 10
    with pytest.raises(KeyboardInterrupt):
        add(made, pipeline, iter(GOOD))
    pipeline[-1].stops_after = np.inf
    start = unfinished_start(made[0], as_source(iter(GOOD)))
    add(made, pipeline, iter(GOOD), start=start)
    assert contents(made) == contents(whole)


def test_an_error_keeps_what_was_done(make_store, pipeline, monkeypatch):
    monkeypatch.setattr(_sources, "_N_PEEKED", 3)

    def broken():
        yield from GOOD[:10]
        raise OSError("the disk is gone")

    made = make_store()
    with pytest.raises(OSError, match="the disk is gone"):
        add(made, pipeline, broken())
    assert made[0].n_rows == 8
    assert made[0].note["next_row"] == 8


def test_on_bad_smiles_raise(make_store, pipeline):
    X, _ = dirty_library()
    bad = [20, 22, 43]
    with pytest.raises(InvalidSmilesError) as caught:
        check_library(as_source(X), 4)
    assert caught.value.indices == bad
    assert caught.value.entries == [X[i] for i in bad]
    check_library(as_source(GOOD), 4)
    check_library(as_source(iter(X)), 4)  # it can be read only once
    made = make_store()
    with pytest.raises(InvalidSmilesError, match="index 20: '-666', index 22: None"):
        add(made, pipeline, iter(X), on_bad_smiles="raise")
    assert made[0].n_rows == 20  # what came before is kept
    made = make_store("doubles")
    add(made, pipeline, ["CCO", "OCC"], on_bad_smiles="raise")
    assert made[0].n_rows == 1


def test_a_library_without_a_molecule(make_store, pipeline):
    for name, X in (("empty", []), ("bad", ["x", ""])):
        made = make_store(name)
        add(made, pipeline, X)
        assert made[0].n_rows == 0
        assert is_complete(made[0], as_source(X))
        assert len(made[1].to_frame()) == len(X)


def test_progress(make_store, pipeline, capsys):
    add(make_store(), pipeline, GOOD, progress=True)
    assert f"{len(GOOD)}/{len(GOOD)}" in capsys.readouterr().err
    add(make_store("quiet"), pipeline, GOOD, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("entry", ["-666", 'a\t"b"\nc', "é", "\udce9", ""])
def test_skipped_rows_in_a_file(tmp_path, entry):
    path = tmp_path / "skipped.tsv"
    skipped = SkippedRows(path)
    assert skipped.to_frame().empty
    skipped.append([(3, entry, "no")])
    position = skipped.position
    skipped.append([(4, "lost in a kill", "no")])
    opened = SkippedRows(path, position)
    shown = entry.replace("\udce9", "\\udce9")
    assert opened.to_frame().values.tolist() == [[3, shown, "no"]]
    opened.append([(5, "C", "no")])
    assert opened.to_frame()["row"].tolist() == [3, 5]
    opened.append([])
    assert SkippedRows(path, opened.position).to_frame()["entry"].tolist()[1] == "C"


def test_seen_ids_against_a_dictionary():
    rng = np.random.default_rng(0)
    seen, expected, n_rows = SeenIds(), {}, 0
    for size in rng.integers(1, 60, size=40):
        ids = np.array([f"id{i}" for i in rng.integers(0, 900, size)], dtype=object)
        ids = np.unique(ids)
        found = seen.find(hash_ids(ids))
        assert found.tolist() == [expected.get(i, -1) for i in ids]
        new = ids[found < 0]
        rows = n_rows + np.arange(len(new))
        seen.add(hash_ids(new), rows)
        expected |= dict(zip(new, rows.tolist(), strict=True))
        n_rows += len(new)
    assert seen.nbytes == 16 * n_rows
    assert len(seen._levels) <= 12


# Runs in a process of its own, which is killed. Each transform takes its time.
SCRIPT = """
import sys, time
from pathlib import Path

import joblib

from sklearn_molge.alignment import CCA
from sklearn_molge.molecules import MoleculeFile
from sklearn_molge.retrieval._index._building import (
    SkippedRows, add_library, unfinished_start,
)
from sklearn_molge.retrieval._index import _segments, _sources
from sklearn_molge.retrieval._index._store import VectorStore

_segments._BATCHES_PER_SEGMENT = 3
folder, index, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
transform = CCA.transform

def slow_transform(self, X):
    time.sleep(pause)
    with open(f"{index}.log", "a") as log:
        log.write(f"{len(X)}\\n")
    return transform(self, X)

CCA.transform = slow_transform
pipeline = joblib.load(folder / "pipeline.joblib")
source = MoleculeFile(folder / "library.csv")
if index.exists():
    store = VectorStore.open(index, writable=True)
else:
    store = VectorStore.create(
        index, n_components=3, dtype="float32", metric="correlation", identity={}
    )
add_library(
    store, pipeline, source, SkippedRows(index / "skipped.tsv"),
    start=unfinished_start(store, source) or 0, batch_size=4, progress=False,
)
"""


def start_building(folder, index, pause):
    (folder / "build.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "build.py"), folder, index, str(pause)]
    return subprocess.Popen([str(part) for part in command])


def rows_on_disk(index):
    try:
        return VectorStore.open(index).n_rows
    except (FileNotFoundError, ValueError):
        return 0


def hashes(index, sizes):
    """Hash the first bytes of each file."""
    return {
        name: hashlib.sha256((index / name).read_bytes()[:size]).hexdigest()
        for name, size in sizes.items()
    }


def test_killed_and_called_again(tmp_path):
    X, names = dirty_library()
    rows = [f"{x or ''},{name}" for x, name in zip(X * 3, names * 3, strict=True)]
    (tmp_path / "library.csv").write_text("\n".join(["smiles,name", *rows]))
    steps = MorganFingerprinter(fp_size=128), CCA(3, ridge=0.1)
    pipeline = make_pipeline(*steps).fit(STUDY.smiles, STUDY.ge)
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    whole, index = tmp_path / "whole", tmp_path / "index"
    assert start_building(tmp_path, whole, 0).wait() == 0
    process = start_building(tmp_path, index, 0.2)
    try:
        while rows_on_disk(index) < 12 and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()  # the signal that cannot be caught
        process.wait()
    assert process.returncode == -9
    store = VectorStore.open(index)
    n_done, next_row = store.n_rows, store.note["next_row"]
    assert 12 <= n_done < 40
    assert not store.note["done"]
    sizes = {k: size for k, size in store._settings["files"].items() if size}
    before = hashes(index, sizes)
    del store
    Path(f"{index}.log").unlink()
    assert start_building(tmp_path, index, 0).wait() == 0
    opened = [VectorStore.open(path) for path in (whole, index)]
    results = [
        contents(
            (store, SkippedRows(store.path / "skipped.tsv", store.note["skipped"]))
        )
        for store in opened
    ]
    assert results[0] == results[1]
    assert opened[1].note == opened[0].note
    assert hashes(index, sizes) == before
    embedded = sum(map(int, Path(f"{index}.log").read_text().split()))
    total = sum(map(int, Path(f"{whole}.log").read_text().split()))
    assert embedded < total
    assert embedded <= len(rows) - next_row


def test_the_compounds_of_lincs(shared_data, pipeline, make_store):
    library = MoleculeFile(shared_data / "library" / "compoundinfo.txt.gz")
    smiles = np.concatenate([s for _, s, _ in library.iter_batches(4096)])[::40]
    made = make_store()
    add(made, pipeline, smiles, batch_size=256)
    kept, reasons = slow_loop(smiles, "drug")
    assert made[0].n_rows == len(kept)
    table = made[1].to_frame()
    assert dict(zip(table["row"], table["reason"], strict=True)) == reasons
