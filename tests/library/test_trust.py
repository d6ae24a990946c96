"""Whose embedder runs: one's own; that of others only where the caller says so."""

import os
import pickle
import shutil
import subprocess
import sys

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import (
    CorruptFileError,
    PickledModelWarning,
    UntrustedFileError,
)
from sklearn_molge.library import MoleculeIndex, verify_index
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.persistence import describe_model, load_model
from sklearn_molge.retrieval import DoubleNNRetriever

STUDY = make_perturbation_study(30, n_cell_lines=1, n_genes=12, random_state=0)


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.fixture(scope="module")
def storable():
    pipe = make_pipeline(MorganFingerprinter(fp_size=64), CCA(3, ridge=0.1))
    return pipe.fit(STUDY.smiles, STUDY.ge)


@pytest.fixture(scope="module")
def pipe():
    """Return an embedder with a function, which no model file holds."""
    fingerprints, same = MorganFingerprinter(fp_size=64), FunctionTransformer(abs)
    pipe = make_pipeline(fingerprints, same, CCA(3, ridge=0.1))
    return pipe.fit(STUDY.smiles, STUDY.ge)


@pytest.fixture
def folder(pipe, tmp_path):
    MoleculeIndex(pipe, folder=tmp_path / "index").fit(STUDY.smiles)
    return tmp_path / "index"


def embedder_of(folder):
    return folder / "embedder.pickle"


# -- model files ---------------------------------------------------------------------


def test_the_embedder_is_a_model_file(storable, tmp_path):
    index = MoleculeIndex(storable, folder=tmp_path / "index").fit(STUDY.smiles)
    assert not embedder_of(tmp_path / "index").exists()
    card = describe_model(tmp_path / "index" / "model.molge")
    assert (card.n_genes, card.n_components) == (12, 3)
    assert load_model(tmp_path / "index" / "model.molge").transform(["CCO"]).size == 3
    opened = MoleculeIndex.open(tmp_path / "index")
    pd.testing.assert_frame_equal(
        opened.query(STUDY.ge[:3], 4), index.query(STUDY.ge[:3], 4)
    )
    assert verify_index(tmp_path / "index")["embedder"] == 1


def test_a_model_file_of_another_user_opens(storable, tmp_path):
    data, folder = tmp_path / "data.joblib", tmp_path / "index"
    joblib.dump((storable, STUDY.smiles), data)
    home = {name: str(tmp_path / name) for name in ("HOME", "XDG_DATA_HOME")}
    command = [sys.executable, "-c", OTHER, str(data), str(folder)]
    subprocess.run(command, env={**os.environ, **home}, check=True)
    theirs = MoleculeIndex.open(folder).query(STUDY.ge[:2], 3)
    mine = MoleculeIndex.open(folder, estimator=storable).query(STUDY.ge[:2], 3)
    pd.testing.assert_frame_equal(mine, theirs)


def test_a_model_file_with_what_finds_its_candidates(storable, tmp_path):
    nearest = make_pipeline(MorganFingerprinter(fp_size=64), DoubleNNRetriever())
    nearest.fit(STUDY.smiles, STUDY.ge)
    index = MoleculeIndex(nearest, candidates_by=storable, folder=tmp_path / "index")
    index.fit(STUDY.smiles)
    opened = MoleculeIndex.open(tmp_path / "index")
    assert opened.reranks_
    assert repr(opened.candidates_by) == repr(storable)
    pd.testing.assert_frame_equal(
        opened.query(STUDY.ge[:3], 4), index.query(STUDY.ge[:3], 4)
    )


@pytest.mark.parametrize("at", [0, 40, 5000, -70, -1])
def test_a_changed_model_file_is_refused(storable, tmp_path, at):
    MoleculeIndex(storable, folder=tmp_path / "index").fit(STUDY.smiles)
    path = tmp_path / "index" / "model.molge"
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    for trust in (False, True):
        with pytest.raises(CorruptFileError, match=r"model\.molge"):
            MoleculeIndex.open(tmp_path / "index", trust=trust)
    with pytest.raises(CorruptFileError, match=r"model\.molge"):
        verify_index(tmp_path / "index")
    assert MoleculeIndex.open(tmp_path / "index", estimator=storable).n_molecules_


def test_a_pickle_in_the_place_of_a_model_file_is_not_run(storable, tmp_path):
    MoleculeIndex(storable, folder=tmp_path / "index").fit(STUDY.smiles)
    with open(tmp_path / "index" / "model.molge", "wb") as file:
        pickle.dump(Payload(tmp_path / "made"), file)
    with pytest.raises(CorruptFileError, match="it is a pickle"):
        MoleculeIndex.open(tmp_path / "index", trust=True)
    assert not (tmp_path / "made").exists()


def test_what_no_model_file_holds_is_pickled_and_told(pipe, storable, tmp_path):
    with pytest.warns(PickledModelWarning, match=r"func is a function.*trust=True"):
        MoleculeIndex(pipe, folder=tmp_path / "index").fit(STUDY.smiles)
    assert embedder_of(tmp_path / "index").is_file()
    assert not (tmp_path / "index" / "model.molge").exists()
    # The same embedder without the function, which changed nothing.
    embedder_of(tmp_path / "index").unlink()
    MoleculeIndex(storable, folder=tmp_path / "index").fit(STUDY.smiles)
    assert not embedder_of(tmp_path / "index").exists()
    assert MoleculeIndex.open(tmp_path / "index").n_molecules_


# -- pickles -------------------------------------------------------------------------


@pytest.mark.parametrize("dump", [pickle.dump, joblib.dump])
def test_the_pickle_of_somebody_else_is_named_and_not_run(pipe, folder, dump, tmp_path):
    made = tmp_path / "made"
    with open(embedder_of(folder), "wb") as file:
        dump(Payload(made), file)
    with pytest.raises(UntrustedFileError, match=r"mkdir.*estimator=.*trust=True") as e:
        MoleculeIndex.open(folder)
    assert e.value.path == str(embedder_of(folder))
    index = MoleculeIndex.open(folder, estimator=pipe)
    assert len(index.query(STUDY.ge[:1], 2)) == 2
    assert not made.exists()
    with pytest.raises(CorruptFileError, match=r"embedder\.pickle.*no embedder"):
        MoleculeIndex.open(folder, trust=True)
    assert made.is_dir()


OTHER = """
import sys
import joblib
from sklearn_molge.library import MoleculeIndex, verify_index
pipe, smiles = joblib.load(sys.argv[1])
MoleculeIndex(pipe, folder=sys.argv[2]).fit(smiles)
"""


def test_an_index_of_another_user_opens_by_name(pipe, tmp_path):
    data, folder = tmp_path / "data.joblib", tmp_path / "index"
    joblib.dump((pipe, STUDY.smiles), data)
    home = {name: str(tmp_path / name) for name in ("HOME", "XDG_DATA_HOME")}
    command = [sys.executable, "-c", OTHER, str(data), str(folder)]
    subprocess.run(command, env={**os.environ, **home}, check=True)
    with pytest.raises(UntrustedFileError, match=r"CCA.*estimator=") as caught:
        MoleculeIndex.open(folder)
    assert any(name.endswith("MorganFingerprinter") for name in caught.value.names)
    mine = MoleculeIndex.open(folder, estimator=pipe).query(STUDY.ge[:2], 3)
    theirs = MoleculeIndex.open(folder, trust=True).query(STUDY.ge[:2], 3)
    pd.testing.assert_frame_equal(mine, theirs)
    # Whoever gives an embedder to fit has said which one it is.
    assert MoleculeIndex(pipe, folder=folder).fit(STUDY.smiles).n_molecules_


@pytest.mark.parametrize("at", [0, 40, -40, -1])
@pytest.mark.parametrize("trust", [False, True])
def test_a_changed_embedder_is_not_run(folder, at, trust):
    content = bytearray(embedder_of(folder).read_bytes())
    content[at] ^= 1
    embedder_of(folder).write_bytes(content)
    expected = UntrustedFileError if at == 0 and not trust else CorruptFileError
    with pytest.raises(expected, match=r"embedder\.pickle"):
        MoleculeIndex.open(folder, trust=trust)
    with pytest.raises(CorruptFileError, match=r"embedder\.pickle"):
        verify_index(folder)


@pytest.mark.parametrize("trust", ["no", 1, None])
def test_trust_is_a_bool(folder, trust):
    with pytest.raises(ValueError, match="trust must be True or False"):
        MoleculeIndex.open(folder, trust=trust)


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "dangling"])
def test_an_embedder_that_is_no_file(pipe, folder, kind, tmp_path):
    embedder_of(folder).unlink()
    if kind == "folder":
        embedder_of(folder).mkdir()
    elif kind == "pipe":
        if not hasattr(os, "mkfifo"):
            pytest.skip("needs named pipes")
        os.mkfifo(embedder_of(folder))
    elif kind == "dangling":
        embedder_of(folder).symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"embedder\.pickle.*index.*estimator"):
        MoleculeIndex.open(folder)
    assert MoleculeIndex.open(folder, estimator=pipe).n_molecules_
    if kind in ("missing", "dangling"):  # what is missing is written again
        MoleculeIndex(pipe, folder=folder).fit(STUDY.smiles)
        assert MoleculeIndex.open(folder).n_molecules_
        assert not (tmp_path / "nowhere").exists()


def test_a_link_is_replaced_and_not_followed(pipe, tmp_path):
    folder, victim = tmp_path / "index", tmp_path / "victim"
    victim.write_bytes(b"mine")
    index = MoleculeIndex(pipe, folder=folder, batch_size=1, progress=False)

    def broken():
        yield "CCO"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.fit(broken())
    (real := tmp_path / "real").symlink_to(folder)  # the folder itself may be one
    embedder_of(folder).unlink()
    embedder_of(folder).symlink_to(victim)
    with pytest.raises(UntrustedFileError):
        MoleculeIndex.open(real)
    with pytest.raises(KeyboardInterrupt):
        MoleculeIndex(pipe, folder=real).fit(broken())
    assert victim.read_bytes() == b"mine"
    assert not embedder_of(folder).is_symlink()
    assert MoleculeIndex.open(real).metric_ == index.metric_


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("unique_by", ["os.system"]),
        ("unique_by", "inchi"),
        ("probes", [[1.0, 2.0]]),
        ("probes", "x"),
        ("profiles", [[1.0], [2.0, 3.0]]),
        ("genes", {"symbol": [1, 2]}),
        ("genes", {"symbol": ["a"], "gene_id": []}),
        ("genes", 7),
    ],
)
def test_what_a_database_says_of_the_embedder_is_looked_at(
    pipe, monkeypatch, folder, part, value
):
    index = MoleculeIndex.open(folder)
    identity = {**index.store_.identity, part: value}
    open_ = type(index.store_).open

    def crafted(path):
        store = open_(path)
        store.identity = identity
        return store

    monkeypatch.setattr("sklearn_molge.library._store.VectorStore.open", crafted)
    for call in (
        lambda: MoleculeIndex.open(folder, estimator=pipe),
        lambda: MoleculeIndex(pipe, folder=folder).fit(STUDY.smiles),
    ):
        with pytest.raises(CorruptFileError, match=r"index\.sqlite.*embedder is"):
            call()


def test_a_copy_of_ones_own_index_opens(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    expected = MoleculeIndex.open(folder).kneighbors(STUDY.ge[:2], 3)
    found = MoleculeIndex.open(tmp_path / "copy").kneighbors(STUDY.ge[:2], 3)
    np.testing.assert_array_equal(found, expected)
