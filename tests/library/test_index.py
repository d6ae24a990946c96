"""MoleculeIndex as users call it: against scikit-learn and the library's own ranks."""

import os
import pickle
import signal
import subprocess
import sys
import time

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import (
    GeneNamesWarning,
    InvalidSmilesError,
    LibraryWarning,
)
from sklearn_molge.expression import profile_from_genes
from sklearn_molge.library import MoleculeFile, MoleculeIndex
from sklearn_molge.metrics import pairwise_similarity, retrieval_ranks
from sklearn_molge.molecules import MorganFingerprinter, drug_ids
from sklearn_molge.retrieval import DoubleNNRetriever, TransformedTargetRetriever

ignore_unreadable = pytest.mark.filterwarnings(
    "ignore::sklearn_molge.exceptions.LibraryWarning"
)


@pytest.fixture(scope="module")
def study():
    return STUDY


@pytest.fixture(scope="module")
def pipe(study):
    pipe = make_pipeline(MorganFingerprinter(fp_size=256), CCA(8, ridge=0.1))
    return pipe.fit(study.smiles, study.ge)


@pytest.fixture(scope="module")
def library(study):
    return np.unique(study.smiles.astype(str)).astype(object)


@pytest.fixture
def index(pipe, library):
    return MoleculeIndex(pipe).fit(
        library, names=[f"m{i}" for i in range(len(library))]
    )


STUDY = make_perturbation_study(60, n_cell_lines=3, n_genes=40, level=5, random_state=0)
FITTED = STUDY.smiles, STUDY.ge


def embeddings(pipe, library, study):
    return pipe.transform(library), pipe[-1].transform_ge(study.ge)


# What it answers.


@pytest.mark.parametrize("metric", ["correlation", "cosine", "euclidean"])
def test_kneighbors_are_those_of_scikit_learn(pipe, library, study, metric):
    index = MoleculeIndex(pipe, metric=metric).fit(library)
    molecules, profiles = embeddings(pipe, library, study)
    peer = NearestNeighbors(n_neighbors=7, metric=metric, algorithm="brute")
    expected, rows = peer.fit(molecules).kneighbors(profiles)
    distances, found = index.kneighbors(study.ge, 7)
    np.testing.assert_allclose(distances, expected, atol=2e-5)
    assert (found == rows).mean() > 0.99  # near-ties may change places
    np.testing.assert_array_equal(
        index.kneighbors(study.ge, 7, return_distance=False), found
    )


def test_dot_product_is_negated_as_a_distance(pipe, library, study):
    index = MoleculeIndex(pipe, metric="dot").fit(library)
    molecules, profiles = embeddings(pipe, library, study)
    expected = np.sort(profiles @ molecules.T, axis=1)[:, ::-1][:, :3]
    distances, _ = index.kneighbors(study.ge, 3)
    np.testing.assert_allclose(-distances, expected, rtol=1e-4)


def test_auto_is_the_metric_of_the_embedder(pipe, library):
    assert MoleculeIndex(pipe).fit(library).metric_ == pipe[-1].metric


def test_rank_is_that_of_retrieval_ranks(pipe, library, study, index):
    first = {d: s for s, d in zip(library[::-1], drug_ids(library)[::-1], strict=True)}
    X = np.array([first[d] for d in study.groups[:, 0]], dtype=object)
    expected = retrieval_ranks(pipe, X, study.ge)
    np.testing.assert_array_equal(index.rank(study.ge, X), expected)


def test_rank_of_one_molecule_for_all_queries(index, library, study):
    ranks = index.rank(study.ge[:4], library[0])
    order = index.kneighbors(study.ge[:4], len(library), return_distance=False)
    np.testing.assert_array_equal(ranks, 1 + np.argmax(order == 0, axis=1))


def test_reverse_finds_the_least_similar(index, library, study):
    rows = index.kneighbors(study.ge, len(library), return_distance=False)
    distances, reverse = index.kneighbors(study.ge, len(library), reverse=True)
    assert (np.diff(distances, axis=1) <= 0).all()
    np.testing.assert_array_equal(reverse[:, 0], rows[:, -1])
    ranks = index.rank(study.ge, library[3], reverse=True)
    forward = index.rank(study.ge, library[3])
    np.testing.assert_array_equal(ranks, len(library) + 1 - forward)


def test_genes_are_shown_as_a_number(pipe, study):
    index = MoleculeIndex(pipe, genes=study.genes)
    assert f"genes=<{len(study.genes)} genes>" in repr(index)
    assert index.genes is study.genes
    assert "genes" not in repr(MoleculeIndex(pipe))


def test_profiles_of_one_condition_are_averaged_in_the_joint_space(
    pipe, index, library, study
):
    groups = study.groups[:, 0]
    molecules, profiles = embeddings(pipe, library, study)
    labels = np.unique(groups)
    means = np.stack([profiles[groups == g].mean(axis=0) for g in labels])
    expected = pairwise_similarity(means, molecules, metric=index.metric_)
    table = index.query(study.ge, 1, groups=groups)
    assert table["query"].tolist() == labels.tolist()
    np.testing.assert_allclose(table["score"], expected.max(axis=1), rtol=1e-5)
    X = study.smiles[np.unique(groups, return_index=True)[1]]
    ranks = retrieval_ranks(pipe, study.smiles, study.ge, per="drug")
    np.testing.assert_array_equal(index.rank(study.ge, X, groups=groups), ranks)


def test_query_is_a_table(index, library, study):
    profiles = pd.DataFrame(study.ge[:2], index=["first", "second"])
    table = index.query(profiles, 3)
    _, rows = index.kneighbors(study.ge[:2], 3)
    assert table["query"].tolist() == ["first"] * 3 + ["second"] * 3
    assert table["rank"].tolist() == [1, 2, 3, 1, 2, 3]
    assert table["molecule"].tolist() == library[rows.ravel()].tolist()
    assert table["name"].tolist() == [f"m{row}" for row in rows.ravel()]
    assert table["drug"].tolist() == drug_ids(table["molecule"]).tolist()
    assert not {"percentile", "nearest_training", "structure"} & set(table)
    assert "<svg" in index.query(profiles, 1, pictures=True)["structure"][0]


def test_calibration_adds_what_answers_are_compared_with(pipe, library, study):
    index = MoleculeIndex(pipe).fit(library).calibrate(study.smiles[:30], study.ge)
    table = index.query(study.ge[:1], 5)
    molecules, profiles = embeddings(pipe, library, study)
    scores = pairwise_similarity(profiles, molecules, metric=index.metric_)
    below = (scores[:, table["index_row"]] < scores[0, table["index_row"]]).mean(axis=0)
    one = 100 / len(study)
    np.testing.assert_allclose(table["percentile"], 100 * below + one / 2, atol=1e-6)
    trained = set(drug_ids(study.smiles[:30]))
    assert table["in_training"].tolist() == [d in trained for d in table["drug"]]
    assert (table["nearest_similarity"][table["in_training"]] == 1).all()
    assert table["nearest_training"].isin(study.smiles[:30]).all()


def test_one_of_the_two_calibrations_is_enough(index, study):
    table = index.calibrate(y=study.ge).query(study.ge[:1], 2)
    assert "percentile" in table
    assert "in_training" not in table
    table = index.calibrate(study.smiles).query(study.ge[:1], 2)
    assert "percentile" not in table
    assert table["in_training"].all()


def test_get_molecules_looks_rows_up(index, library):
    table = index.get_molecules([[3, 0]])
    assert table.index.tolist() == [3, 0]
    assert table["smiles"].tolist() == [library[3], library[0]]
    assert table["name"].tolist() == ["m3", "m0"]
    assert index.get_molecules()["smiles"].tolist() == library.tolist()
    with pytest.raises(
        IndexError, match=rf"from 0 to {len(library) - 1}. Got \[99999\]"
    ):
        index.get_molecules([99999])


def test_similarity_to_rows(pipe, index, library, study):
    molecules, profiles = embeddings(pipe, library, study)
    expected = pairwise_similarity(profiles, molecules, metric=index.metric_)
    found = index.similarity_to_rows(study.ge, [5, 2])
    np.testing.assert_allclose(found, expected[:, [5, 2]], atol=1e-5)


# What it holds.


@ignore_unreadable
def test_bad_rows_and_second_spellings_are_listed(pipe):
    library = [
        "CCO",
        "-666",
        "OCC",
        "c1ccccc1",
        None,
        "C[N+](C)(C)CC(=O)[O-]",
        "CCO.Cl",
    ]
    index = MoleculeIndex(pipe).fit(library)
    assert index.skipped_["library_row"].tolist() == [1, 2, 4, 6]
    assert index.skipped_["entry"].astype(str).tolist() == [
        "-666", "OCC", "None", "CCO.Cl",
    ]  # fmt: skip
    told = ["missing", "the molecule of index_row 0"] * 2
    assert index.skipped_["reason"].tolist() == told
    assert index.skipped_["same_as"].fillna(-1).tolist() == [-1, 0, -1, 0]
    assert index.n_molecules_ == 3
    by_text = MoleculeIndex(pipe, unique_by="smiles").fit([*library, "CCO"])
    assert by_text.skipped_["library_row"].tolist() == [1, 4, 7]
    every = MoleculeIndex(pipe, unique_by=None).fit([*library, "CCO"])
    assert every.n_molecules_ == 6


def test_raise_names_every_bad_row_before_any_work(pipe, tmp_path):
    index = MoleculeIndex(pipe, on_bad_smiles="raise", folder=tmp_path / "index")
    with pytest.raises(InvalidSmilesError, match="index 1: 'no', index 3: ''"):
        index.fit(["CCO", "no", "CCN", ""])
    assert not (tmp_path / "index").exists()


def test_partial_fit_and_remove_leave_the_other_rows(pipe, library, study):
    half = len(library) // 2
    index = MoleculeIndex(pipe).partial_fit(library[:half]).partial_fit(library[half:])
    whole = MoleculeIndex(pipe).fit(library)
    np.testing.assert_array_equal(
        index.kneighbors(study.ge, 5)[1], whole.kneighbors(study.ge, 5)[1]
    )
    gone = library[[2, 7]]
    index.remove(gone)
    assert index.n_molecules_ == len(library) - 2
    assert index.n_rows_ == len(library)
    rows = index.kneighbors(study.ge, index.n_molecules_, return_distance=False)
    assert not np.isin([2, 7], rows).any()
    with pytest.raises(ValueError, match="1 of the 1 molecules are not in the index"):
        index.rank(study.ge[:1], library[2])
    index.partial_fit(gone)  # it may come back, as a new row
    assert index.get_molecules([len(library)])["smiles"].tolist() == [gone[0]]


def test_remove_is_all_or_nothing(index, library):
    with pytest.raises(ValueError, match="index 1: 'CCCCCCCCCCCCCl'"):
        index.remove([library[0], "CCCCCCCCCCCCCl"])
    assert index.n_molecules_ == len(library)


@pytest.mark.parametrize("dtype", ["float16", "int8"])
def test_compressed_rows_answer_nearly_alike(pipe, library, study, index, dtype):
    small = MoleculeIndex(pipe, dtype=dtype).fit(library)
    exact, rows = index.kneighbors(study.ge, 10)
    near, found = small.kneighbors(study.ge, 10)
    shared = [len(set(a) & set(b)) for a, b in zip(rows, found, strict=True)]
    assert np.mean(shared) / 10 > 0.95
    np.testing.assert_allclose(near, exact, atol=0.02)


def test_faiss_finds_what_exact_search_finds(pipe, library, study, index):
    pytest.importorskip("faiss")
    quick = MoleculeIndex(pipe, backend="faiss", faiss_factory="Flat").fit(library)
    distances, rows = quick.kneighbors(study.ge, 5)
    expected, exact = index.kneighbors(study.ge, 5)
    np.testing.assert_allclose(distances, expected, atol=1e-5)
    assert (rows == exact).mean() > 0.99


# Where it lies.


def test_folder_is_opened_again(pipe, library, study, tmp_path):
    path = tmp_path / "index"
    index = MoleculeIndex(pipe, folder=path, dtype="int8").fit(library, names=library)
    index.calibrate(study.smiles, study.ge).remove(library[1])
    expected = index.query(study.ge, 5)
    opened = MoleculeIndex.open(path)
    assert opened.get_params()["dtype"] == "int8"
    assert opened.n_molecules_ == len(library) - 1
    pd.testing.assert_frame_equal(opened.query(study.ge, 5), expected)
    pd.testing.assert_frame_equal(opened.skipped_, index.skipped_)
    opened.partial_fit(["CCCCCCCCCCCCCl"])
    assert MoleculeIndex.open(path, estimator=pipe).n_molecules_ == len(library)


def test_fit_on_a_finished_folder_has_nothing_to_do(pipe, library, tmp_path):
    path = tmp_path / "index"
    MoleculeIndex(pipe, folder=path).fit(library)
    before = {p.name: p.stat().st_mtime_ns for p in path.iterdir()}
    assert len(before) == 3
    assert MoleculeIndex(pipe, folder=path).fit(library).n_molecules_ == len(library)
    assert {p.name: p.stat().st_mtime_ns for p in path.iterdir()} == before
    with pytest.raises(FileExistsError, match="holds another library"):
        MoleculeIndex(pipe, folder=path).fit(library[:3])


def test_another_embedder_or_precision_is_refused(pipe, library, study, tmp_path):
    path = tmp_path / "index"
    MoleculeIndex(pipe, folder=path).fit(library)
    other = clone(pipe).fit(study.smiles[::2], study.ge[::2])
    with pytest.raises(ValueError, match="estimator must be the embedder that made"):
        MoleculeIndex(other, folder=path).fit(library)
    with pytest.raises(ValueError, match="estimator must be the embedder that made"):
        MoleculeIndex.open(path, estimator=other)
    with pytest.raises(ValueError, match=r"dtype must be 'float32'.*Got 'int8'"):
        MoleculeIndex(pipe, folder=path, dtype="int8").fit(library)
    with pytest.raises(ValueError, match=r"unique_by must be 'drug'.*Got None"):
        MoleculeIndex(pipe, folder=path, unique_by=None).fit(library)


def test_a_folder_of_something_else_is_left_alone(pipe, library, tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match=r"thesis\.tex"):
        MoleculeIndex(pipe, folder=tmp_path).fit(library)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(FileNotFoundError, match="not the folder of a MoleculeIndex"):
        MoleculeIndex.open(tmp_path)


@pytest.mark.parametrize("on_disk", [False, True])
def test_pickles(pipe, library, study, tmp_path, on_disk):
    path = tmp_path / "index" if on_disk else None
    index = MoleculeIndex(pipe, folder=path).fit(library).calibrate(y=study.ge)
    expected = index.query(study.ge, 5)
    again = pickle.loads(pickle.dumps(index))
    pd.testing.assert_frame_equal(again.query(study.ge, 5), expected)
    joblib.dump(index, tmp_path / "index.joblib")
    again = joblib.load(tmp_path / "index.joblib")
    pd.testing.assert_frame_equal(again.query(study.ge, 5), expected)


@pytest.mark.parametrize("batch_size", [7, 1000])
def test_result_does_not_depend_on_processes(pipe, library, study, batch_size, index):
    two = MoleculeIndex(pipe, n_jobs=2, batch_size=batch_size).fit(library)
    distances, rows = two.kneighbors(study.ge, 5)
    expected, exact = index.kneighbors(study.ge, 5)
    np.testing.assert_array_equal(rows, exact)
    np.testing.assert_allclose(distances, expected, atol=1e-6)


KILLED = """
import joblib, sys
from sklearn_molge.library import MoleculeIndex
pipe, library = joblib.load({data!r})
MoleculeIndex(pipe, folder={path!r}, batch_size=16).fit(library)
"""


@pytest.mark.slow
def test_killed_fit_goes_on(pipe, study, tmp_path):
    library = [f"{'C' * (i + 1)}{'N' * (1 + i % 3)}O{'C' * j}" for i in range(40)
               for j in range(40)]  # fmt: skip
    joblib.dump((pipe, library), tmp_path / "data.joblib")
    path = tmp_path / "index"
    code = KILLED.format(data=str(tmp_path / "data.joblib"), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code])
    while process.poll() is None:  # until some rows are written
        if (path / "model.molge").exists() and MoleculeIndex.open(path).n_rows_:
            os.kill(process.pid, signal.SIGKILL)
            break
        time.sleep(0.001)
    assert process.wait() == -signal.SIGKILL
    there = MoleculeIndex.open(path).n_rows_
    assert 0 < there < len(library)
    with pytest.raises(ValueError, match="another"):
        MoleculeIndex(pipe, folder=path, batch_size=16).fit(library[::-1])
    index = MoleculeIndex(pipe, folder=path, batch_size=16).fit(library)
    whole = MoleculeIndex(pipe, batch_size=16).fit(library)
    pd.testing.assert_frame_equal(index.query(study.ge, 20), whole.query(study.ge, 20))
    pd.testing.assert_frame_equal(index.skipped_, whole.skipped_)


# Its own embedder.


@pytest.fixture
def other_study():
    return make_perturbation_study(
        60, n_cell_lines=3, n_genes=40, level=5, random_state=1
    )


@pytest.fixture(params=["memory", "folder", "unpickled", "opened"])
def kept(request, pipe, library, tmp_path):
    """An index, its embedder that the test may spoil, and what it does not hold."""
    embedder = clone(pipe).fit(*FITTED)
    on_disk = request.param in ("folder", "opened")
    index = MoleculeIndex(embedder, folder=tmp_path / "index" if on_disk else None)
    index.fit(library[:40])
    if request.param == "unpickled":
        index = pickle.loads(pickle.dumps(index))
    if request.param == "opened":
        index = MoleculeIndex.open(tmp_path / "index")
    return index, embedder if request.param in ("memory", "folder") else index.estimator


def test_fitting_the_embedder_again_changes_no_answer(kept, study, other_study):
    index, embedder = kept
    expected = index.query(study.ge[:5], 3)
    embedder.fit(other_study.smiles, other_study.ge)
    pd.testing.assert_frame_equal(index.query(study.ge[:5], 3), expected)
    embedder.set_params(cca__metric="euclidean")
    index.set_params(estimator__cca__n_components=2)
    pd.testing.assert_frame_equal(index.query(study.ge[:5], 3), expected)
    index.calibrate(y=study.ge)
    assert "percentile" in index.query(study.ge[:5], 3)


def test_an_index_is_extended_by_its_own_embedder_alone(
    kept, library, study, other_study, pipe
):
    index, embedder = kept
    embedder.fit(other_study.smiles, other_study.ge)
    with pytest.raises(ValueError, match="estimator must be the embedder that made"):
        index.partial_fit(library[40:])
    assert index.n_rows_ == 40
    index.set_params(estimator=index.estimator_).partial_fit(library[40:])
    expected = MoleculeIndex(pipe).fit(library).kneighbors(study.ge, 5)
    np.testing.assert_allclose(index.kneighbors(study.ge, 5)[0], expected[0], atol=1e-6)
    np.testing.assert_array_equal(index.kneighbors(study.ge, 5)[1], expected[1])


def test_profiles_alone_tell_another_embedder(library, study):
    scaled = TransformedTargetRetriever(CCA(3, ridge=0.1), transformer=StandardScaler())
    pipe = make_pipeline(MorganFingerprinter(fp_size=64), scaled)
    index = MoleculeIndex(pipe.fit(study.smiles, study.ge)).fit(library[:40])
    pipe[-1].transformer_.fit(3 * study.ge + 1)
    with pytest.raises(ValueError, match="projects the same profiles to other places"):
        index.partial_fit(library[40:])


def test_an_own_embedder_that_was_changed_answers_nothing(index, study, other_study):
    index.estimator_.fit(other_study.smiles, other_study.ge)
    for ask in (index.query, index.significance, index.kneighbors):
        with pytest.raises(ValueError, match="estimator_ of this index was changed"):
            ask(study.ge[:1])
    with pytest.raises(ValueError, match="estimator_ of this index was changed"):
        index.partial_fit(["CCCCCCCCCl"])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"unique_by": None}, "unique_by must be 'drug'"),
        ({"metric": "dot"}, "metric must be 'correlation'"),
        ({"dtype": "int8"}, "dtype must be 'float32'"),
        ({"folder": "elsewhere"}, "folder must be None"),
    ],
)
def test_what_rows_are_cannot_be_changed_later(index, library, study, params, message):
    expected = index.query(study.ge[:3], 3)
    index.set_params(**params)
    with pytest.raises(ValueError, match=message):
        index.partial_fit(["CCCCCCCCCl"])
    pd.testing.assert_frame_equal(index.query(study.ge[:3], 3), expected)
    assert index.rank(study.ge[:1], library[3]) >= 1


def test_rows_of_the_library_and_of_the_index(pipe, study, tmp_path):
    vendor = pd.DataFrame(
        {
            "smiles": ["CCO", "OCC", "CCN", "?", "CCCl", "CCCO", "NCC"],
            "name": [f"N{i}" for i in range(7)],
            "code": [f"S{i}" for i in range(7)],
            "price": [10, 20, None, 40, 50.5, 60, 70],
            "score": list("abcdefg"),
        }
    )
    vendor.to_csv(tmp_path / "vendor.csv", index=False)
    texts = tmp_path / "vendor.csv"
    for library in (vendor, texts, str(texts), MoleculeFile(texts)):
        with pytest.warns(LibraryWarning, match="6 of 7 rows"):
            index = MoleculeIndex(pipe).fit(library)
        table = index.query(study.ge[:2], 4)
        rows = vendor.iloc[table["library_row"]]
        assert table["molecule"].tolist() == rows["smiles"].tolist()
        assert table["code"].tolist() == rows["code"].tolist()
        assert table["score_library"].tolist() == rows["score"].tolist()
        assert sorted(set(table["index_row"])) == [0, 1, 2, 3]
        assert (table["library"] == 0).all()
        looked_up = index.get_molecules(table["index_row"])
        assert looked_up["library_row"].tolist() == table["library_row"].tolist()
        skipped = index.skipped_
        assert skipped["library_row"].tolist() == [1, 3, 6]
        assert skipped["same_as"].fillna(-1).tolist() == [0, -1, 1]
    with pytest.warns(LibraryWarning):
        index = MoleculeIndex(pipe).fit(vendor, columns=["price"])
    prices = index.get_molecules()["price"]
    np.testing.assert_array_equal(prices, [10, np.nan, 50.5, 60])
    index.partial_fit(["CCCCO"], columns={"moa": ["none"]})
    table = index.get_molecules()
    assert table["library"].tolist() == [0, 0, 0, 0, 1]
    assert table["library_row"].tolist() == [0, 2, 4, 5, 0]
    assert table["moa"].isna().tolist() == [True] * 4 + [False]
    assert table["price"].isna().tolist() == [False, True, False, False, True]


def test_columns_that_are_not_there(pipe, tmp_path):
    vendor = pd.DataFrame({"smiles": ["CCO"], "name": ["x"], "price": [1.0]})
    with pytest.raises(ValueError, match=r"\['moa'\]"):
        MoleculeIndex(pipe).fit(vendor, columns=["moa"])
    with pytest.raises(ValueError, match="columns must be 'all', a list"):
        MoleculeIndex(pipe).fit(vendor, columns="price")
    table = MoleculeIndex(pipe).fit(vendor, columns=None).get_molecules()
    assert "price" not in table
    (tmp_path / "a.smi").write_text("CCO x\n")
    assert MoleculeIndex(pipe).fit(tmp_path / "a.smi").n_rows_ == 1


def test_an_index_without_a_molecule_says_so(pipe, study):
    index = MoleculeIndex(pipe).fit(["CCO"]).remove("CCO")
    for ask in (index.query, index.kneighbors, index.significance):
        with pytest.raises(ValueError, match="has no molecule that can be found: all"):
            ask(study.ge[:1])


# Its genes.


@pytest.fixture(params=["genes", "named", "both", "opened"])
def knowing(request, pipe, library, study, tmp_path):
    """An index that knows its genes from a table, its estimator, or both."""
    named = request.param in ("named", "both")
    embedder = clone(pipe).fit(study.smiles, study.profiles() if named else study.ge)
    genes = None if request.param == "named" else study.genes
    folder = tmp_path / "index" if request.param == "opened" else None
    index = MoleculeIndex(embedder, genes=genes, folder=folder).fit(library)
    return MoleculeIndex.open(folder) if folder else index


def test_columns_in_another_order_give_the_same_answer(knowing, study, pipe, library):
    profiles = study.profiles().iloc[:4].set_axis(list("abcd"))
    expected = MoleculeIndex(pipe).fit(library).query(study.ge[:4], 3)
    found = knowing.query(profiles, 3)
    assert found["query"].tolist() == list("aaabbbcccddd")
    assert found["index_row"].tolist() == expected["index_row"].tolist()
    shuffled = profiles.sample(frac=1, axis=1, random_state=0)
    pd.testing.assert_frame_equal(knowing.query(shuffled, 3), found)
    pd.testing.assert_frame_equal(
        knowing.significance(shuffled), knowing.significance(profiles)
    )
    assert (
        knowing.rank(shuffled, library[2]) == knowing.rank(profiles, library[2])
    ).all()
    if knowing.genes is not None:
        by_symbol = profiles.set_axis(study.genes["symbol"], axis=1).iloc[:, ::-1]
        pd.testing.assert_frame_equal(knowing.query(by_symbol, 3), found)


def test_annotated_profiles_and_gene_lists_are_aligned(knowing, study):
    anndata = pytest.importorskip("anndata")
    profiles = study.profiles().iloc[:2, ::-1]
    expected = knowing.query(study.profiles().iloc[:2], 3)["index_row"].tolist()
    annotated = anndata.AnnData(
        profiles.to_numpy(), var=pd.DataFrame(index=profiles.columns.astype(str))
    )
    assert knowing.query(annotated, 3)["index_row"].tolist() == expected
    symbols = study.genes["symbol"]
    lists = {"up": symbols[:6], "down": symbols[6:12]}
    found = [
        knowing.query(profile_from_genes(genes, **lists), 3)
        for genes in (study.genes, study.genes[::-1].reset_index(drop=True))
    ]
    pd.testing.assert_frame_equal(*found)


def test_missing_genes_are_told_and_most_must_be_there(knowing, study):
    profiles = study.profiles().iloc[:1]
    with pytest.warns(GeneNamesWarning, match="lacks 5 of the 40 genes .* are 0 now"):
        found = knowing.query(profiles.iloc[:, 5:], 3)
    zeros = profiles.copy()
    zeros.iloc[:, :5] = 0
    pd.testing.assert_frame_equal(found, knowing.query(zeros, 3))
    with pytest.raises(ValueError, match="19 of the 40 genes, less than min_share"):
        knowing.query(profiles.iloc[:, :19], 3)


def test_names_that_nobody_knows_are_refused(index, study):
    for profiles in (study.profiles(), study.profiles().iloc[:, ::-1]):
        with pytest.raises(
            ValueError, match=r"MoleculeIndex\(..., genes=study.genes\)"
        ):
            index.query(profiles[:1])
    assert len(index.query(study.profiles()[:1].to_numpy(), 2)) == 2


def test_genes_must_be_those_of_the_estimator(pipe, library, study, tmp_path):
    with pytest.raises(ValueError, match=r"must be the 40 genes .* Got 39"):
        MoleculeIndex(pipe, genes=study.genes[1:]).fit(library)
    with pytest.raises(ValueError, match=r"a column 'gene_id', .* Got \['x'\]"):
        MoleculeIndex(pipe, genes=pd.DataFrame({"x": range(40)})).fit(library)
    named = clone(pipe).fit(study.smiles, study.profiles())
    with pytest.raises(ValueError, match=r"in their order. Gene 0 of the estimator is"):
        MoleculeIndex(named, genes=study.genes[::-1]).fit(library)
    path = tmp_path / "index"
    index = MoleculeIndex(pipe, genes=study.genes["symbol"], folder=path).fit(library)
    with pytest.raises(ValueError, match="genes must be those with which"):
        MoleculeIndex(pipe, genes=study.genes["symbol"][::-1], folder=path).fit(library)
    index.set_params(genes=None)
    with pytest.raises(ValueError, match="genes must be those with which"):
        index.partial_fit(["CCCCCCCl"])


@pytest.mark.parametrize("on_disk", [False, True])
def test_another_rule_of_identity_is_refused(
    pipe, library, study, tmp_path, on_disk, monkeypatch
):
    path = tmp_path / "index" if on_disk else None
    index = MoleculeIndex(pipe, folder=path).fit(library)
    data = pickle.dumps(index)
    monkeypatch.setattr("sklearn_molge.library._identity.IDENTITY_VERSION", 99)
    calls = [
        lambda: index.partial_fit(["CCCCCCCl"]),
        lambda: pickle.loads(data).query(study.ge[:1]),
    ]
    calls += [lambda: MoleculeIndex.open(path)] if on_disk else []
    for call in calls:
        with pytest.raises(ValueError, match=r"of drug_ids; this release has .* 99"):
            call()


# What it is given.


GIVEN = ["CCO", "CCN", float("nan"), "CCC", "C"]
NAMES = ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    "kind", ["list", "array", "series", "pairs", "file", "path", "text"]
)
def test_a_library_is_an_array_an_iterable_or_a_file(pipe, tmp_path, kind):
    names = None
    if kind in ("file", "path", "text"):
        path = tmp_path / "library.smi"
        pairs = zip(["CCO", "CCN", "nan", "CCC", "C"], NAMES, strict=True)
        path.write_text("".join(f"{smiles} {name}\n" for smiles, name in pairs))
        X = {"path": path, "text": str(path)}.get(kind, MoleculeFile(path))
    elif kind == "pairs":
        X = zip(GIVEN, NAMES, strict=True)
    else:
        to = {"list": list, "array": np.array, "series": pd.Series}[kind]
        X, names = to(np.array(GIVEN, dtype=object)), NAMES
    index = MoleculeIndex(pipe, batch_size=2)
    if isinstance(X, str | os.PathLike | MoleculeFile):
        with pytest.warns(LibraryWarning, match="4 of 5 rows of .*; 1 have no SMILES"):
            index.fit(X)
    else:
        index.fit(X, names=names)
    table = index.get_molecules()
    assert table["smiles"].tolist() == ["CCO", "CCN", "CCC", "C"]
    assert table["name"].tolist() == ["a", "b", "d", "e"]
    assert index.skipped_["library_row"].tolist() == [2]


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_a_library_is_a_table_in_memory(pipe, kind):
    table = {"Catalog No.": [1.0, None, 3.0], "SMILES": ["CCO", "CCN", "CCC"]}
    make = {"pandas": pd.DataFrame, "polars": "DataFrame", "pyarrow": "table"}[kind]
    if isinstance(make, str):
        make = getattr(pytest.importorskip(kind), make)
    molecules = MoleculeIndex(pipe).fit(make(table)).get_molecules()
    assert molecules["smiles"].tolist() == ["CCO", "CCN", "CCC"]
    assert molecules["name"].tolist() == ["1", "", "3"]
    named = MoleculeIndex(pipe).fit(make(table), names=["a", "b", "c"]).get_molecules()
    assert named["name"].tolist() == ["a", "b", "c"]
    with pytest.raises(ValueError, match=r"X: .*a column of SMILES.*\['a', 'b'\]"):
        MoleculeIndex(pipe).fit(make({"a": [1, 2], "b": [3, 4]}))
    bad = make({"smiles": ["CCO", "x", "CCN"], "name": ["a", "b", "c"]})
    with pytest.warns(LibraryWarning, match="2 of 3 rows"):
        MoleculeIndex(pipe).fit(bad)
    with pytest.warns(LibraryWarning, match="names are empty"):
        MoleculeIndex(pipe).fit(make({"smiles": ["CCO"], "price": [1]}))


def test_names_are_texts_and_may_be_absent(pipe):
    assert MoleculeIndex(pipe).fit(["C"], names=[7]).get_molecules()["name"][0] == "7"
    for X in (["C"], iter(["C"]), {"C": 1}.keys()):
        assert MoleculeIndex(pipe).fit(X).get_molecules()["name"].tolist() == [""]


@pytest.mark.parametrize("X", [b"CCO", None, 3, {"CCO": "a"}])
def test_what_is_no_library(pipe, X):
    with pytest.raises(ValueError, match=r"X must be an array-like .*path of a file"):
        MoleculeIndex(pipe).fit(X)
    with pytest.raises(FileNotFoundError, match=r"no file 'CCO'.* a list, \['CCO'\]"):
        MoleculeIndex(pipe).fit("CCO")


def test_names_go_with_arrays_alone(pipe, tmp_path):
    with pytest.raises(ValueError, match=r"names must be None.*type list"):
        MoleculeIndex(pipe).fit(iter(GIVEN), names=NAMES)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        MoleculeIndex(pipe).fit(GIVEN, names=NAMES[1:])
    with pytest.raises(FileNotFoundError):
        MoleculeIndex(pipe).fit(tmp_path / "library.smi")


def test_an_iterable_is_told_by_its_first_thousand_and_loses_none(pipe, tmp_path):
    texts = [f"{'C' * (i % 50 + 1)}{'N' * (i // 50)}" for i in range(1200)]
    params = {"folder": tmp_path / "index", "unique_by": "smiles"}
    index = MoleculeIndex(pipe, **params).fit(iter(texts))
    assert index.get_molecules()["smiles"].tolist() == texts
    assert MoleculeIndex(pipe, **params).fit(iter(texts)).n_rows_ == 1200
    with pytest.raises(FileExistsError, match="another library"):
        MoleculeIndex(pipe, **params).fit(iter(texts[1:]))
    with pytest.raises(FileExistsError, match="another library"):
        MoleculeIndex(pipe, **params).fit(texts)


# What it refuses.


def test_unfitted_index_and_embedder(pipe, study, library):
    with pytest.raises(NotFittedError):
        MoleculeIndex(pipe).kneighbors(study.ge)
    with pytest.raises(NotFittedError):
        MoleculeIndex(clone(pipe)).fit(library)


def test_embedder_must_have_a_joint_space_of_smiles(study, library):
    retriever = make_pipeline(MorganFingerprinter(fp_size=64), DoubleNNRetriever())
    with pytest.raises(TypeError, match=r"one space .*DoubleNNRetriever"):
        MoleculeIndex(retriever.fit(study.smiles, study.ge)).fit(library)
    features = MorganFingerprinter(fp_size=64).transform(study.smiles)
    with pytest.raises(ValueError, match="must be fitted on SMILES"):
        MoleculeIndex(CCA(3, ridge=0.1).fit(features, study.ge)).fit(library)


@pytest.mark.parametrize("n_neighbors", [0, 100_000, 2.5])
def test_n_neighbors_must_be_there(index, study, n_neighbors):
    with pytest.raises(ValueError, match=rf"n_neighbors must be .* Got {n_neighbors}"):
        index.kneighbors(study.ge, n_neighbors)


def test_wrong_profiles(index, study):
    with pytest.raises(ValueError, match="has 39 genes"):
        index.query(study.ge[:, 1:])
    bad = study.ge[:3].copy()
    bad[1, 2] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        index.query(bad)
    with pytest.raises(ValueError, match="groups must name the condition"):
        index.query(study.ge[:2], groups=["a", None])
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        index.rank(study.ge[:2], ["CCO"] * 3)


def test_unknown_and_bad_molecules(index, study):
    with pytest.raises(ValueError, match="1 of the 2 molecules are not in the index: "
                       "index 1: 'CCCCCCCCCCCCCl'"):  # fmt: skip
        index.rank(study.ge[:2], [study.smiles[0], "CCCCCCCCCCCCCl"])
    with pytest.raises(InvalidSmilesError, match="index 0: 'no'"):
        index.rank(study.ge[:1], ["no"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"reverse": "no"}, "reverse must be True or False. Got 'no'"),
        ({"pictures": 1}, "pictures must be True or False. Got 1"),
        ({"n_permutations": 10**12}, "n_permutations must be an int from 0 to 100,000"),
        ({"level": float("nan")}, "level must be a number from 0 to 1. Got nan"),
        ({"level": "a"}, "level must be a number from 0 to 1. Got 'a'"),
        ({"n_neighbors": True}, "n_neighbors must be an int from 1 .* Got True"),
        ({"groups": ["a"]}, "one entry a profile.* 2 profiles, and 1 as"),
        ({"groups": "a"}, "one entry a profile.* 2 profiles, and .a. as"),
    ],
)
def test_odd_questions(index, study, given, told):
    with pytest.raises(ValueError, match=told):
        index.query(study.ge[:2], **given)


@pytest.mark.parametrize("value", [1e200, -1e308, np.nan, np.inf])
def test_values_that_no_profile_has(index, study, value):
    profiles = study.ge[:3].astype(float)
    profiles[1, 2] = value
    for ask in (index.query, index.kneighbors, index.significance):
        with pytest.raises(
            ValueError, match=r"y: .* not finite, in rows \[1\]|Input y"
        ):
            ask(profiles)
    with pytest.raises(ValueError, match="X must hold a molecule"):
        index.calibrate([])
