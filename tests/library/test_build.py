"""What becomes of the rows of a library: embedded, left out, kept through a kill."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_molge.alignment import CCA, CoordinatedEmbedder
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import InvalidSmilesError, LibraryWarning
from sklearn_molge.library import MoleculeFile, MoleculeIndex
from sklearn_molge.molecules import MISSING_SMILES, MorganFingerprinter, drug_ids
from sklearn_molge.retrieval import TransformedTargetRetriever

STUDY = make_perturbation_study(
    n_molecules=60, n_cell_lines=1, n_genes=12, random_state=0
)
GOOD = list(dict.fromkeys(STUDY.smiles))
MISSING, INVALID = "no structure is given", "not a valid SMILES"
pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn_molge.exceptions.LibraryWarning"
)


class Counting(CCA):
    """Counts the molecules that are embedded, and stops after some of them."""

    n_embedded, stops_after = 0, np.inf

    def transform(self, X):
        Counting.n_embedded += len(X)
        if Counting.n_embedded > Counting.stops_after:
            raise KeyboardInterrupt
        return super().transform(X)


def counts(stops_after=np.inf):
    Counting.n_embedded, Counting.stops_after = 0, stops_after


@pytest.fixture
def pipeline():
    counts()
    return make_pipeline(MorganFingerprinter(fp_size=128), Counting(3, ridge=0.1)).fit(
        STUDY.smiles, STUDY.ge
    )


@pytest.fixture(scope="module")
def wrapped():
    cca = TransformedTargetRetriever(CCA(4, ridge=0.1), transformer=StandardScaler())
    pipeline = make_pipeline(MorganFingerprinter(fp_size=256), cca)
    return pipeline.fit(STUDY.smiles, STUDY.ge)


@pytest.fixture(scope="module")
def net():
    return CoordinatedEmbedder(
        encoder__hidden_size=16,
        module__embedding_size=8,
        max_epochs=1,
        random_state=0,
    ).fit(STUDY.smiles, STUDY.ge)


@pytest.fixture(params=["memory", "disk"])
def new(request, tmp_path):
    """Make an index that is not fitted; the same name gives the same folder."""
    kept = {}

    def make(estimator, name="index", **params):
        params = {"batch_size": 4, "progress": False, **params}
        if request.param == "disk":
            return MoleculeIndex(estimator, folder=tmp_path / name, **params)
        return kept.setdefault(name, MoleculeIndex(estimator)).set_params(
            estimator=estimator, **params
        )

    return make


def contents(index):
    """All that an index holds, for comparison to the bit."""
    rows = np.arange(index.n_rows_)
    scores = index.similarity_to_rows(STUDY.ge[:9], rows)
    table = index.get_molecules(rows).to_csv()
    return scores.tobytes(), table, index.skipped_.to_csv()


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
            is_missing = str(text).lower() in MISSING_SMILES
            reasons[row] = "missing" if is_missing else INVALID
            continue
        key = {"drug": drug, "smiles": text, None: row}[unique_by]
        if key in first:
            reasons[row] = f"the molecule of index_row {first[key]}"
        else:
            first[key] = len(kept)
            kept.append(row)
    return kept, reasons


# Which rows are kept


@pytest.mark.parametrize("unique_by", ["drug", "smiles", None])
@pytest.mark.parametrize("batch_size", [1, 4, 1000])
def test_rows_are_kept_or_listed_with_the_reason(new, pipeline, unique_by, batch_size):
    X, names = dirty_library()
    index = new(pipeline, unique_by=unique_by, batch_size=batch_size)
    index.fit(X, names=names)
    kept, reasons = slow_loop(X, unique_by)
    table = index.get_molecules()
    assert table["smiles"].tolist() == [X[i] for i in kept]
    assert table["name"].tolist() == [names[i] for i in kept]
    assert index.skipped_["library_row"].is_monotonic_increasing
    skipped = index.skipped_.set_index("library_row")
    assert skipped["reason"].to_dict() == reasons
    assert skipped["entry"].tolist() == [str(X[i]) for i in reasons]
    if unique_by == "drug":
        assert table["drug"].tolist() == [drug_ids(X[i : i + 1])[0] for i in kept]


def test_the_vectors_are_those_of_the_embedder(new, wrapped):
    X, _ = dirty_library()
    index = new(wrapped, unique_by=None, metric="dot").fit(X)
    kept, _ = slow_loop(X, None)
    features = wrapped[:-1].transform([X[i] for i in kept])
    wrapper = wrapped[-1]
    molecules = wrapper.retriever_.transform(features)
    profiles = wrapper.retriever_.transform_ge(wrapper.transformer_.transform(STUDY.ge))
    np.testing.assert_allclose(
        index.similarity_to_rows(STUDY.ge, range(len(kept))),
        profiles @ molecules.T,
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_second_library_is_compared_with_the_first(new, pipeline):
    index = new(pipeline).fit(GOOD[:10])
    index.remove(GOOD[2])
    index.partial_fit([GOOD[5], GOOD[2], GOOD[11]])
    assert index.n_rows_ == 12
    assert index.get_molecules([10, 11])["smiles"].tolist() == [GOOD[2], GOOD[11]]
    table = index.get_molecules([9, 10, 11])
    assert table["library"].tolist() == [0, 1, 1]
    assert table["library_row"].tolist() == [9, 1, 2]
    told = "the molecule of index_row 5"
    assert index.skipped_.values.tolist() == [[1, 0, GOOD[5], told, 5]]


def test_each_molecule_is_read_once(wrapped, read_in):
    index = MoleculeIndex(wrapped)
    index.fit(GOOD[:1])  # embeds the molecules that tell an embedder
    texts = read_in(lambda: index.partial_fit(GOOD[1:]))
    assert len(texts) == len(set(texts)) > 30


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("-666", "missing"),
        ("", "missing"),
        ('a\t"b"\nc', INVALID),
        ("é", f"{INVALID}: no SMILES has the character 'é'"),
        ("a\x00b", rf"{INVALID}: no SMILES has the character '\x00'"),
        ("C" * 1001, f"{INVALID}: 1,001 heavy atoms, more than max_atoms=1000"),
    ],
)
def test_entries_of_any_kind_are_listed(new, pipeline, entry, reason):
    index = new(pipeline).fit(["CCO", entry])
    assert index.skipped_["reason"].tolist() == [reason]
    assert new(pipeline).fit(["CCO", entry]).skipped_["entry"].tolist() == [entry]


def test_on_bad_smiles_raise(new, pipeline):
    X, _ = dirty_library()
    bad = [20, 22, 43]
    with pytest.raises(InvalidSmilesError) as caught:
        new(pipeline, on_bad_smiles="raise").fit(X)
    assert caught.value.indices == bad
    assert caught.value.entries == [X[i] for i in bad]
    index = new(pipeline, "read once", on_bad_smiles="raise")
    with pytest.raises(InvalidSmilesError, match="index 20: '-666', index 22: None"):
        index.fit(iter(X))
    assert index.n_rows_ == 20  # what came before is kept
    index = new(pipeline, "doubles", on_bad_smiles="raise")
    assert index.fit(["CCO", "OCC"]).n_rows_ == 1


@pytest.mark.parametrize(
    ("X", "reason"),
    [
        ([], "has no rows"),
        (["x", ""], "0 of 2 rows .* 1 have no SMILES and 1 .*row 0: 'x'"),
    ],
)
def test_a_library_without_a_molecule_is_refused(new, pipeline, X, reason):
    with pytest.raises(ValueError, match=reason):
        new(pipeline).fit(X)
    with pytest.raises(ValueError, match=reason):
        new(pipeline, "read once").fit(iter(X))
    # Nothing is in the way of the right one.
    index = new(pipeline, "read once").fit(GOOD[:3])
    for bad in (X, iter(X)):
        with pytest.raises(ValueError, match=reason):
            index.partial_fit(bad)
        assert len(index.skipped_) == 0
    index.partial_fit(GOOD[3:5])
    assert index.get_molecules()["library"].tolist() == [0, 0, 0, 1, 1]


class Holes(CCA):
    def transform(self, X):
        vectors = super().transform(X)
        vectors[X.sum(axis=1) < 3] = np.nan
        return vectors


def test_an_embedding_that_is_not_finite_is_a_bad_row(new, pipeline):
    features = pipeline[0].transform(STUDY.smiles)
    holes = make_pipeline(pipeline[0], Holes(3, ridge=0.1).fit(features, STUDY.ge))
    # The probes are embedded, too, and ethanol is not among them.
    index = new(holes).fit(["CCO", "C", STUDY.smiles[0]])
    assert index.skipped_["library_row"].tolist() == [1]
    assert index.skipped_["reason"].tolist() == ["its embedding is not finite"]
    assert index.get_molecules()["smiles"].tolist() == ["CCO", STUDY.smiles[0]]


def refuse_bromine(smiles):
    if any("Br" in text for text in smiles):
        raise ValueError("no bromine, please")
    return smiles


@pytest.mark.parametrize("unique_by", ["drug", None])
def test_a_molecule_that_a_step_refuses_is_found_and_skipped(new, wrapped, unique_by):
    estimator = make_pipeline(FunctionTransformer(refuse_bromine), *wrapped)
    smiles = ["CCO", "CBr", "CCBr", "CN", "x", "CCC", "CCCBr", "CCCC"]
    index = new(estimator, batch_size=8, unique_by=unique_by).fit(smiles)
    assert index.get_molecules()["smiles"].tolist() == ["CCO", "CN", "CCC", "CCCC"]
    assert index.skipped_["library_row"].tolist() == [1, 2, 4, 6]
    assert index.skipped_["reason"][0] == "ValueError: no bromine, please"
    raising = MoleculeIndex(estimator, on_bad_smiles="raise", unique_by=unique_by)
    with pytest.raises(ValueError, match="row 1, 'CBr': ValueError: no bromine"):
        raising.fit(["CCO", "CBr"])


def test_a_step_that_refuses_all_is_an_error_that_says_where(new, wrapped):
    estimator = make_pipeline(FunctionTransformer(refuse_bromine), *wrapped)
    smiles = ["CCO"] * 20 + [f"{'C' * (i + 1)}Br" for i in range(20)]
    with pytest.raises(ValueError, match="no bromine") as caught:
        new(estimator, batch_size=20).fit(smiles)
    assert caught.value.__notes__ == ["while rows 20 to 39"]


def test_invalid_smiles_without_indices_is_an_error(wrapped):
    def refuse(smiles):
        if "CCO" in smiles:
            raise InvalidSmilesError([], [])
        return smiles

    estimator = make_pipeline(FunctionTransformer(refuse), *wrapped)
    with pytest.raises(InvalidSmilesError):
        MoleculeIndex(estimator).fit(["CCO"])


def test_profiles_whose_embedding_is_not_finite(pipeline):
    broken = clone(pipeline).fit(STUDY.smiles, STUDY.ge)
    broken[-1].y_mean_ = broken[-1].y_mean_ * np.nan
    index = MoleculeIndex(broken).fit(GOOD[:5])
    message = r"y has values too large.* of 2 of 2 rows"
    with pytest.raises(ValueError, match=message):
        index.kneighbors(STUDY.ge[:2])


class Silent(CCA):
    """Gives NaN, and says nothing."""

    def transform_ge(self, y):
        return np.full_like(super().transform_ge(y), np.nan)


def test_an_embedder_that_gives_nan_without_a_word():
    embedder = make_pipeline(MorganFingerprinter(fp_size=64), Silent(3, ridge=0.1))
    index = MoleculeIndex(embedder.fit(STUDY.smiles, STUDY.ge)).fit(GOOD[:5])
    message = r"y: the embedding of 2 profiles is not finite.*\[0, 1\]"
    with pytest.raises(ValueError, match=message):
        index.kneighbors(STUDY.ge[:2])


def test_the_embedder_is_found_inside_a_frozen_one(net):
    index = MoleculeIndex(FrozenEstimator(net)).fit(GOOD[:5])
    assert index.metric_ == net.metric


def test_progress(new, pipeline, capsys):
    new(pipeline, progress=True).fit(GOOD)
    assert f"{len(GOOD)}/{len(GOOD)}" in capsys.readouterr().err
    new(pipeline, "quiet").fit(GOOD)
    assert capsys.readouterr().err == ""


# Processes


@pytest.fixture
def fresh_workers():
    """Start from workers that have imported nothing."""
    get_reusable_executor().shutdown(wait=True)
    yield
    get_reusable_executor().shutdown(wait=True)


def assert_alike(index, other):
    one, two = contents(index), contents(other)
    np.testing.assert_allclose(
        np.frombuffer(one[0], np.float32),
        np.frombuffer(two[0], np.float32),
        rtol=1e-4,
        atol=1e-4,
    )
    assert one[1:] == two[1:]


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("which", ["wrapped", "net"])
def test_n_jobs_and_backend_change_nothing(which, backend, request, fresh_workers):
    estimator = request.getfixturevalue(which)
    X, names = dirty_library()
    alone = MoleculeIndex(estimator, batch_size=8).fit(X, names=names)
    with joblib.parallel_config(backend, n_jobs=2):
        together = MoleculeIndex(estimator, batch_size=8).fit(X, names=names)
    assert_alike(alone, together)


@pytest.mark.parametrize("which", ["wrapped", "net"])
def test_batch_size_changes_nothing_but_rounding(which, request):
    estimator = request.getfixturevalue(which)
    X, names = dirty_library()
    whole = MoleculeIndex(estimator, batch_size=100).fit(X, names=names)
    for batch_size in (1, 7, 31):
        parts = MoleculeIndex(estimator, batch_size=batch_size).fit(X, names=names)
        assert_alike(whole, parts)


class Logging(BaseEstimator, TransformerMixin):
    """Passes molecules on; a file with the process's name tells how it came here."""

    def __init__(self, folder):
        self.folder = folder

    def fit(self, X, y=None):
        return self

    def __setstate__(self, state):
        super().__setstate__(state)
        with open(f"{self.folder}/{os.getpid()}", "a") as file:
            file.write("unpickled\n")

    def transform(self, X):
        import torch

        with open(f"{self.folder}/{os.getpid()}", "a") as file:
            file.write(f"{torch.get_num_threads()} threads\n")
        return X


def test_the_estimator_is_unpickled_once_a_process(tmp_path, fresh_workers):
    steps = Logging(tmp_path), MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1)
    estimator = make_pipeline(*steps).fit(STUDY.smiles, STUDY.ge)
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        MoleculeIndex(estimator, batch_size=2).fit(GOOD)
    mine = tmp_path / str(os.getpid())
    logs = [p.read_text().splitlines() for p in tmp_path.iterdir() if p != mine]
    assert 1 <= len(logs) <= 3  # one may have been replaced
    assert sum(log.count("1 threads") for log in logs) == len(GOOD) // 2
    assert all(log.count("unpickled") == 1 for log in logs)


class Watching(CCA):
    """Notes how many entries had been taken when a batch was embedded."""

    taken: list[int] = []
    ahead: list[int] = []

    def transform(self, X):
        self.ahead.append(len(self.taken))
        return super().transform(X)


def test_the_source_is_read_as_results_are_taken(new):
    """At most 32 batches a process are read ahead of what is embedded."""
    pipeline = make_pipeline(MorganFingerprinter(fp_size=64), Watching(3, ridge=0.1))
    pipeline.fit(STUDY.smiles, STUDY.ge)
    Watching.taken.clear()
    Watching.ahead.clear()

    def entries():
        for i in range(1200):
            Watching.taken.append(i)
            yield STUDY.smiles[0]

    with joblib.parallel_config("threading", n_jobs=2):
        new(pipeline, batch_size=1, unique_by=None).fit(entries())
    # Eight probes; a thousand entries are looked at to know the library again.
    ahead = np.array(Watching.ahead[-1200:])
    assert (ahead <= np.maximum(1000, np.arange(1200) + 3 * 2 * 32)).all()
    assert ahead[900] <= 1000 + 2 * 32
    assert len(Watching.taken) == 1200


# Interrupted and killed


@pytest.mark.parametrize("n_done", [0, 9, 17, 35])
def test_an_interrupted_library_goes_on(new, pipeline, n_done):
    X, names = dirty_library()
    whole = new(pipeline, "whole").fit(X, names=names)
    index = new(pipeline, "interrupted", batch_size=1)
    counts(stops_after=8 + n_done)  # the probes are eight
    with pytest.raises(KeyboardInterrupt):
        index.fit(X, names=names)
    assert index.n_rows_ <= n_done <= index.n_rows_ + 2  # doubles are embedded, too
    counts()
    index = new(pipeline, "interrupted")
    index.partial_fit(X, names=names) if index.folder is None else index.fit(
        X, names=names
    )
    assert Counting.n_embedded <= len(X) - n_done + 8
    assert_alike(index, whole)
    counts()
    again = new(pipeline, "interrupted")
    if again.folder is not None:
        again.fit(X, names=names)
        assert Counting.n_embedded == 8


def test_an_interrupted_iterable_goes_on(new, pipeline):
    whole = new(pipeline, "whole").fit(iter(GOOD))
    index = new(pipeline, "interrupted")
    counts(stops_after=8 + 10)
    with pytest.raises(KeyboardInterrupt):
        index.fit(iter(GOOD))
    assert index.n_rows_ == 8
    counts()
    assert contents(index.partial_fit(iter(GOOD))) == contents(whole)


def test_an_unfinished_library_is_not_mixed_with_another(new, pipeline):
    index = new(pipeline)
    counts(stops_after=8 + 10)
    with pytest.raises(KeyboardInterrupt):
        index.fit(GOOD)
    counts()
    for other in (GOOD[1:], iter(GOOD[1:])):
        with pytest.raises(
            ValueError, match=r"X: .* holds 8 rows of a library that is not"
        ):
            index.partial_fit(other)
    assert index.partial_fit(GOOD).n_rows_ == len(GOOD)


def test_an_error_keeps_what_was_done(new, pipeline):
    def broken():
        yield from GOOD * 40
        raise OSError("the disk is gone")

    index = new(pipeline, unique_by=None)
    with pytest.raises(OSError, match="the disk is gone"):
        index.fit(broken())
    assert len(GOOD) * 40 > 1000  # by which a library is known
    assert index.n_rows_ == len(GOOD) * 40 // 4 * 4


# Runs in a process of its own, which is killed. Each transform takes its time.
SCRIPT = """
import sys, time
from pathlib import Path

import joblib

from sklearn_molge.alignment import CCA
from sklearn_molge.library import MoleculeFile, MoleculeIndex

folder, index, pause = Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
transform = CCA.transform

def slow_transform(self, X):
    time.sleep(pause)
    with open(f"{index}.log", "a") as log:
        log.write(f"{len(X)}\\n")
    return transform(self, X)

CCA.transform = slow_transform
pipeline = joblib.load(folder / "pipeline.joblib")
library = MoleculeFile(folder / "library.csv")
MoleculeIndex(pipeline, folder=index, batch_size=1, progress=False).fit(library)
"""


def start_building(folder, index, pause):
    (folder / "build.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "build.py"), folder, index, str(pause)]
    return subprocess.Popen([str(part) for part in command])


def rows_on_disk(index):
    try:
        return MoleculeIndex.open(index).n_rows_
    except FileNotFoundError:
        return 0


def n_embedded(index):
    return sum(map(int, Path(f"{index}.log").read_text().split()))


def test_killed_and_called_again(tmp_path):
    X, names = dirty_library()
    rows = [f"{x or ''},{name}" for x, name in zip(X * 3, names * 3, strict=True)]
    (tmp_path / "library.csv").write_text("\n".join(["smiles,name", *rows]))
    steps = MorganFingerprinter(fp_size=128), CCA(3, ridge=0.1)
    pipeline = make_pipeline(*steps).fit(STUDY.smiles, STUDY.ge)
    joblib.dump(pipeline, tmp_path / "pipeline.joblib")
    whole, index = tmp_path / "whole", tmp_path / "index"
    assert start_building(tmp_path, whole, 0).wait() == 0
    process = start_building(tmp_path, index, 0.05)
    try:
        while rows_on_disk(index) < 12 and process.poll() is None:
            time.sleep(0.02)
    finally:
        process.kill()  # the signal that cannot be caught
        process.wait()
    assert process.returncode == -9
    n_done = rows_on_disk(index)
    assert 12 <= n_done < 40
    vectors = index / "vectors.bin"
    counted = vectors.read_bytes()[: n_done * 3 * 4]
    before = hashlib.sha256(counted).hexdigest()
    Path(f"{index}.log").unlink()
    assert start_building(tmp_path, index, 0).wait() == 0
    opened = [MoleculeIndex.open(path) for path in (whole, index)]
    assert contents(opened[0]) == contents(opened[1])
    assert vectors.read_bytes() == (whole / "vectors.bin").read_bytes()
    assert hashlib.sha256(vectors.read_bytes()[: len(counted)]).hexdigest() == before
    assert n_embedded(index) <= n_embedded(whole) - n_done


def test_the_compounds_of_lincs(shared_data, pipeline, new):
    library = MoleculeFile(shared_data / "library" / "compoundinfo.txt.gz")
    smiles = np.concatenate([s for _, s, _ in library.iter_batches(4096)])[::40]
    index = new(pipeline, batch_size=256).fit(smiles)
    kept, reasons = slow_loop(smiles, "drug")
    assert index.n_rows_ == len(kept)
    pd.testing.assert_series_equal(
        index.skipped_.set_index("library_row")["reason"],
        pd.Series(reasons, name="reason").rename_axis("library_row"),
    )


def test_a_library_that_cannot_be_embedded_is_refused(new, wrapped):
    estimator = make_pipeline(FunctionTransformer(refuse_bromine), *wrapped)
    index = new(estimator).fit(["CCO", "CCN", "CCC"])
    with pytest.raises(ValueError, match=r"none of the 2 molecules .*no bromine"):
        index.partial_fit(["CBr", "CCBr"])
    assert (index.n_rows_, len(index.skipped_)) == (3, 0)


def test_what_an_interrupted_library_was_is_counted_on(new, pipeline):
    X = [*GOOD[:20], *["x"] * 40]
    with pytest.warns(LibraryWarning, match="20 of 60 rows"):
        new(pipeline, "whole", batch_size=1).fit(X)
    index = new(pipeline, "interrupted", batch_size=1)
    counts(stops_after=8 + 18)
    with pytest.raises(KeyboardInterrupt):
        index.fit(X)
    counts()
    again = new(pipeline, "interrupted", batch_size=1)
    with pytest.warns(LibraryWarning, match="20 of 60 rows"):
        again.partial_fit(X) if again.folder is None else again.fit(X)
    assert again.n_rows_ == 20


# Rows that break what embeds them


class Odd:
    """Has no text."""

    def __str__(self):
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize("unique_by", ["drug", "smiles", None])
@pytest.mark.parametrize(
    "entry", ["C\udc80", "C\x00C", "C" * 20_000, "C" * 2_000_000, b"\xff", Odd(), []]
)
def test_one_bad_entry_is_a_skipped_row(new, pipeline, unique_by, entry):
    X = np.empty(4, dtype=object)
    X[:] = ["CCO", None, "CCN", "CCC"]
    X[1] = entry
    index = new(pipeline, unique_by=unique_by).fit(X)
    assert index.get_molecules()["smiles"].tolist() == ["CCO", "CCN", "CCC"]
    assert index.skipped_["library_row"].tolist() == [1]
    assert len(index.skipped_["entry"][0]) < 30_000


@pytest.mark.parametrize("text", ["\udc80", "\x00", "n" * 1_000_001])
def test_odd_names_and_columns(new, pipeline, text):
    is_long = len(text) > 1
    kept = ["CCO", "CCC"] if is_long else ["CCO", "CCN", "CCC"]
    for name, given in (
        ("names", {"names": ["a", text, "c"]}),
        ("price", {"columns": {"price": ["a", text, "c"]}}),
    ):
        index = new(pipeline, name).fit(["CCO", "CCN", "CCC"], **given)
        table = index.get_molecules()
        assert table["smiles"].tolist() == kept
        if is_long:
            assert "more than 1,000,000 characters" in index.skipped_["reason"][0]
        else:
            assert table["name" if name == "names" else name][1] == text


class Raising(BaseEstimator, TransformerMixin):
    """Raises an error for molecules with bromine."""

    def __init__(self, error=None):
        self.error = error

    def fit(self, X, y=None):
        return self

    def __sklearn_is_fitted__(self):
        return True

    def transform(self, X):
        if any("Br" in text for text in X):
            raise self.error
        return X


@pytest.mark.parametrize(
    "error",
    [
        ValueError("half a pair: \udc80"),
        RuntimeError("out of range"),
        KeyError("Br"),
        MemoryError(),
        ZeroDivisionError("no atoms"),
        IndexError("no bond"),
    ],
)
@pytest.mark.parametrize("unique_by", ["drug", None])
def test_one_molecule_that_raises_is_a_skipped_row(new, wrapped, error, unique_by):
    estimator = make_pipeline(Raising(error), *wrapped)
    smiles = ["CCO", "CCN", "CBr", "CCC"]
    name = type(error).__name__
    with pytest.warns(
        LibraryWarning, match=rf"1 of 4 molecules .*row 2, 'CBr': {name}"
    ):
        index = new(estimator, batch_size=8, unique_by=unique_by).fit(smiles)
    assert index.get_molecules()["smiles"].tolist() == ["CCO", "CCN", "CCC"]
    assert index.skipped_["library_row"].tolist() == [2]


def test_what_is_no_fault_of_a_molecule_is_raised(new, wrapped):
    lost = make_pipeline(Raising(OSError("the server is gone")), *wrapped)
    with pytest.raises(OSError, match="the server is gone"):
        new(lost, "lost").fit(["CCO", "CBr", "CCN"])
    many = ["CCO", *[f"{'C' * (i + 1)}Br" for i in range(16)], "CCN"]
    broken = make_pipeline(Raising(RuntimeError("device lost")), *wrapped)
    with pytest.raises(RuntimeError, match="device lost") as caught:
        new(broken, "broken", batch_size=32).fit(many)
    assert caught.value.__notes__ == ["while rows 0 to 17"]


class Values(CCA):
    """Puts small molecules where they should not be."""

    value = 0.0

    def transform(self, X):
        vectors = np.array(super().transform(X), dtype=np.float64)
        vectors[X.sum(axis=1) < 3] = self.value
        return vectors


@pytest.mark.parametrize("metric", ["correlation", "cosine", "dot", "euclidean"])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300, 1e38, 1e20, 1e5])
def test_an_embedding_that_is_too_long_is_a_skipped_row(pipeline, metric, dtype, value):
    features = pipeline[0].transform(STUDY.smiles)
    values = Values(3, ridge=0.1).fit(features, STUDY.ge)
    values.value = value
    params = {"metric": metric, "dtype": dtype}
    index = MoleculeIndex(make_pipeline(pipeline[0], values), **params)
    index.fit(["CCO", "C", STUDY.smiles[0]])
    has_length = metric in ("dot", "euclidean")
    # The last two have a direction, which is all that the others compare.
    left_out = (
        not value <= 1e38
        or value < 0
        or (has_length and (value > 1e18 or dtype == "float16"))
    )
    assert index.skipped_["library_row"].tolist() == [1] * left_out
    table = index.query(STUDY.ge[:2], 2, n_permutations=3)
    assert np.isfinite(table["score"]).all()


def test_an_embedder_that_loses_columns(pipeline, monkeypatch):
    index = MoleculeIndex(pipeline).fit(["CCO"])
    transform = Counting.transform

    def short(self, X):
        return transform(self, X)[:, : 2 if len(X) == 3 else 3]

    monkeypatch.setattr(Counting, "transform", short)
    with pytest.raises(ValueError, match=r"all molecules in 3 components. Got \(2,\)"):
        index.partial_fit(GOOD[:3])
    assert index.n_rows_ == 1


class Deadly(CCA):
    """Ends its process when it meets some molecules."""

    def transform(self, X):
        if (X.sum(axis=1) > 1).any() and os.getpid() != self.parent_:
            os._exit(1)
        return super().transform(X)


def few_bits(smiles):
    """One bit a molecule, two for those with bromine."""
    features = np.zeros((len(smiles), 64))
    features[np.arange(len(smiles)), [len(s) % 60 for s in smiles]] = 1
    features[["Br" in s for s in smiles], 60] = 1
    return features


@pytest.mark.slow
def test_a_molecule_that_kills_its_process_is_a_skipped_row(fresh_workers):
    deadly = Deadly(3, ridge=0.1)
    estimator = make_pipeline(FunctionTransformer(few_bits), deadly)
    estimator.fit(STUDY.smiles, STUDY.ge)
    deadly.parent_ = os.getpid()
    X = ["CCO", "CCN", "CCC", "CCCBr", "CCCC", "x"]
    params = {"batch_size": 2}
    with pytest.warns(LibraryWarning) as caught:
        index = MoleculeIndex(estimator, n_jobs=2, **params).fit(X)
    alone = MoleculeIndex(estimator, **params).fit([s for s in X if s != "CCCBr"])
    smiles = index.get_molecules()["smiles"].tolist()
    assert smiles == alone.get_molecules()["smiles"].tolist()
    rows = index.skipped_.set_index("library_row")["reason"]
    assert rows.to_dict() == {3: "the process that embedded it died", 5: INVALID}
    messages = [str(warning.message) for warning in caught]
    assert any("were being embedded" in m for m in messages)
    assert any("row 3, 'CCCBr': the process" in m for m in messages)


# Two at a time


def test_two_fits_into_one_new_folder(pipeline, tmp_path):
    """The second is told, and the first ends as if it had been alone."""
    folder = tmp_path / "index"
    other = MoleculeIndex(pipeline, folder=folder, progress=False)
    told = []
    file = tmp_path / "library.smi"
    file.write_text("".join(f"{text} x\n" for text in GOOD))
    Counting.stops_after = np.inf
    source = MoleculeFile(file)
    read = source.iter_batches

    def watched(batch_size, *, start=0):
        for batch in read(batch_size, start=start):
            if batch.first_row == 8 and batch_size == 4:
                for X in (source.path, GOOD):
                    with pytest.raises((BlockingIOError, ValueError)) as caught:
                        other.fit(X)
                    told.append(str(caught.value))
            yield batch

    source.iter_batches = watched
    MoleculeIndex(pipeline, folder=folder, batch_size=4, progress=False).fit(source)
    assert len(told) == 2
    assert all(str(folder) in message for message in told)
    whole = MoleculeIndex(pipeline, folder=tmp_path / "whole").fit(file)
    assert contents(MoleculeIndex.open(folder)) == contents(whole)
