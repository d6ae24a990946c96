import os
import pickle

import joblib
import numpy as np
import pytest
from joblib.externals.loky import get_reusable_executor
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from sklearn_molge._utils.parallel import SentOnce, received
from sklearn_molge.alignment import CCA, CoordinatedEmbedder
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import MorganFingerprinter, drug_ids
from sklearn_molge.retrieval import DoubleNNRetriever, TransformedTargetRetriever
from sklearn_molge.retrieval._index import _embedding
from sklearn_molge.retrieval._index._embedding import (
    embed_library,
    embed_profiles,
    probe,
    two_view,
)
from sklearn_molge.retrieval._index._sources import as_source

STUDY = make_perturbation_study(
    n_molecules=40, n_cell_lines=2, n_genes=20, random_state=0
)
BAD = {3: "-666", 4: "", 11: float("nan"), 12: "C1CC", 29: "CCO CCN", 30: None}


@pytest.fixture
def fresh_workers():
    """loky replaces a worker that grows, as by importing torch, with a warning."""
    get_reusable_executor().shutdown(wait=True)
    yield
    get_reusable_executor().shutdown(wait=True)


def library():
    smiles = np.array(list(dict.fromkeys(STUDY.smiles)) * 2, dtype=object)[:70]
    for row, entry in BAD.items():
        smiles[row] = entry
    return smiles


@pytest.fixture(scope="module")
def pipeline():
    cca = TransformedTargetRetriever(CCA(4, ridge=0.1), transformer=StandardScaler())
    return make_pipeline(MorganFingerprinter(fp_size=256), cca).fit(
        STUDY.smiles, STUDY.ge
    )


@pytest.fixture(scope="module")
def net():
    return CoordinatedEmbedder(
        encoder__hidden_size=16,
        module__embedding_size=8,
        max_epochs=1,
        random_state=0,
    ).fit(STUDY.smiles, STUDY.ge)


def embed(estimator, X=None, **options):
    source = as_source(library() if X is None else X)
    options = {"batch_size": 16, **options}
    return list(embed_library(estimator, source, **options))


def vectors_of(batches):
    return np.concatenate([b.vectors for b in batches if len(b.rows)])


def skipped_of(batches):
    return [row for batch in batches for row in batch.skipped]


@pytest.mark.parametrize("unique_by", ["drug", "smiles", None])
def test_good_rows_are_embedded_and_bad_ones_named(pipeline, unique_by):
    smiles = library()
    good = [i for i in range(70) if i not in BAD]
    batches = embed(pipeline, unique_by=unique_by)
    assert [(b.first_row, b.n_rows) for b in batches] == [
        (0, 16),
        (16, 16),
        (32, 16),
        (48, 16),
        (64, 6),
    ]
    expected = pipeline[:-1].transform(smiles[good])
    expected = pipeline[-1].retriever_.transform(expected)
    np.testing.assert_allclose(vectors_of(batches), expected, rtol=1e-5, atol=1e-6)
    assert vectors_of(batches).dtype == np.float32
    assert np.concatenate([b.rows for b in batches]).tolist() == good
    assert np.concatenate([b.texts for b in batches]).tolist() == [
        smiles[i] for i in good
    ]
    assert [(row, str(e), reason) for row, e, reason in skipped_of(batches)] == [
        (row, str(entry), "not a valid SMILES") for row, entry in BAD.items()
    ]
    ids = [b.ids for b in batches]
    if unique_by is None:
        assert ids == [None] * 5
    else:
        by = drug_ids if unique_by == "drug" else np.asarray
        assert np.concatenate(ids).tolist() == by(smiles[good]).tolist()


def test_each_molecule_is_read_once(pipeline, monkeypatch):
    from sklearn_molge.molecules import _smiles

    texts = []
    read = _smiles._read
    monkeypatch.setattr(_smiles, "_read", lambda s: texts.append(s) or read(s))
    embed(pipeline, X=list(dict.fromkeys(s for s in library() if isinstance(s, str))))
    assert len(texts) == len(set(texts)) > 30


@pytest.mark.parametrize("which", ["pipeline", "net"])
def test_batch_size_and_start_change_nothing_but_rounding(which, request):
    estimator = request.getfixturevalue(which)
    whole = embed(estimator, batch_size=100)
    for options in ({"batch_size": 1}, {"batch_size": 7}, {"batch_size": 31}):
        parts = embed(estimator, **options)
        np.testing.assert_allclose(
            vectors_of(parts), vectors_of(whole), rtol=1e-4, atol=1e-5
        )
        assert str(skipped_of(parts)) == str(skipped_of(whole))
    rest = embed(estimator, start=16)
    assert rest[0].first_row == 16
    assert np.array_equal(vectors_of(rest), vectors_of(embed(estimator)[1:]))


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("which", ["pipeline", "net"])
def test_n_jobs_and_backend_change_nothing(which, backend, request, fresh_workers):
    estimator = request.getfixturevalue(which)
    alone = embed(estimator)
    with joblib.parallel_config(backend, n_jobs=2):
        together = embed(estimator)
    np.testing.assert_allclose(
        vectors_of(together), vectors_of(alone), rtol=1e-4, atol=1e-5
    )
    assert str(skipped_of(together)) == str(skipped_of(alone))
    assert [b.first_row for b in together] == [b.first_row for b in alone]


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


def logging_pipeline(folder):
    steps = Logging(folder), MorganFingerprinter(fp_size=64), CCA(2, ridge=0.1)
    return make_pipeline(*steps).fit(STUDY.smiles, STUDY.ge)


def test_the_estimator_is_unpickled_once_a_process(tmp_path, fresh_workers):
    estimator = logging_pipeline(tmp_path)
    for log in tmp_path.iterdir():
        log.unlink()
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        embed(estimator, batch_size=2)
    logs = [log.read_text().splitlines() for log in tmp_path.iterdir()]
    assert 1 <= len(logs) <= 2
    assert sum(log.count("1 threads") for log in logs) == 35
    assert all(log.count("unpickled") == 1 for log in logs)


def test_results_come_in_order_and_the_source_is_read_as_they_are_taken(
    pipeline, monkeypatch
):
    monkeypatch.setattr(_embedding, "_AHEAD", 2)
    smiles, taken = STUDY.smiles[0], []
    source = as_source(taken.append(i) or smiles for i in range(400))
    with joblib.parallel_config("threading", n_jobs=2):
        batches = embed_library(pipeline, source, batch_size=4)
        for n, batch in enumerate(batches):
            assert batch.first_row == 4 * n
            assert len(taken) <= 4 * (n + 1 + 2 * 2)
            if n == 50:
                batches.close()
    assert len(taken) < 400


class Holes(CCA):
    def transform(self, X):
        vectors = super().transform(X)
        vectors[X.sum(axis=1) < 3] = np.nan
        return vectors


def test_an_embedding_that_is_not_finite_is_a_bad_row(pipeline):
    holes = Holes(2, ridge=0.1).fit(*training_features(pipeline))
    (batch,) = embed(make_pipeline(pipeline[0], holes), ["CCO", "C", STUDY.smiles[0]])
    assert batch.skipped == [(1, "C", "its embedding is not finite")]
    assert batch.rows.tolist() == [0, 2]


def refuse_bromine(smiles):
    if any("Br" in text for text in smiles):
        raise ValueError("no bromine, please")
    return smiles


def test_a_molecule_that_a_step_refuses_is_found_and_skipped(pipeline):
    estimator = make_pipeline(FunctionTransformer(refuse_bromine), *pipeline)
    smiles = ["CCO", "CBr", "CCBr", "CN", "x", "CCC", "CCCBr", "CCCC"]
    for unique_by in ("drug", None):
        (batch,) = embed(estimator, smiles, unique_by=unique_by)
        assert batch.texts.tolist() == ["CCO", "CN", "CCC", "CCCC"]
        assert [row for row, *_ in batch.skipped] == [1, 2, 4, 6]
        assert batch.skipped[0][2] == "ValueError: no bromine, please"
        whole = embed(pipeline, batch.texts)[0].vectors
        np.testing.assert_allclose(batch.vectors, whole, rtol=1e-5, atol=1e-6)


def test_a_step_that_refuses_all_is_an_error_that_says_where(pipeline):
    estimator = make_pipeline(FunctionTransformer(refuse_bromine), *pipeline)
    smiles = ["CCO"] * 20 + [f"{'C' * (i + 1)}Br" for i in range(20)]
    with pytest.raises(ValueError, match="no bromine") as caught:
        embed(estimator, smiles, batch_size=20)
    assert caught.value.__notes__ == ["while rows 20 to 39"]


def test_a_batch_without_a_molecule(pipeline):
    (batch,) = embed(pipeline, ["x", ""])
    assert len(batch.rows) == len(batch.vectors) == len(batch.texts) == 0
    assert [row for row, *_ in batch.skipped] == [0, 1]
    assert embed(pipeline, []) == []


def test_the_embedder_is_found_inside(pipeline, net):
    assert two_view(pipeline) is pipeline[-1].retriever_
    assert two_view(FrozenEstimator(net)) is net
    double = make_pipeline(MorganFingerprinter(), DoubleNNRetriever())
    with pytest.raises(TypeError, match=r"estimator must embed.*DoubleNNRetriever"):
        two_view(double.fit(STUDY.smiles, STUDY.ge))
    with pytest.raises(TypeError, match="two-view estimator"):
        two_view(StandardScaler())


def test_profiles_go_through_their_transformer(pipeline):
    wrapper = pipeline[-1]
    expected = wrapper.retriever_.transform_ge(wrapper.transformer_.transform(STUDY.ge))
    np.testing.assert_allclose(
        embed_profiles(pipeline, STUDY.ge), expected, rtol=1e-5, atol=1e-6
    )
    broken = clone(wrapper.retriever_).fit(*training_features(pipeline))
    broken.y_mean_ = broken.y_mean_ * np.nan
    with pytest.raises(
        ValueError, match=r"y: the embedding of 2 profiles is not finite.*\[0, 1\]"
    ):
        embed_profiles(make_pipeline(pipeline[0], broken), STUDY.ge[:2])


def training_features(pipeline):
    return pipeline[0].transform(STUDY.smiles), STUDY.ge


def test_probes_tell_embedders_apart_and_refuse_features(pipeline, net):
    assert probe(pipeline).shape == (8, 4)
    assert np.array_equal(probe(pipeline), probe(pickle.loads(pickle.dumps(pipeline))))
    features = np.random.default_rng(0).normal(size=(len(STUDY.ge), 3))
    with pytest.raises(ValueError, match=r"estimator must be fitted on SMILES.*CC\(=O"):
        probe(CCA(2).fit(features, STUDY.ge))


def test_sent_once():
    value = {"array": np.arange(3), "function": lambda x: x + 1}
    sent = SentOnce(value)
    first = received(sent.payload, sent.key)
    assert first["function"](1) == 2
    assert received(sent.payload, sent.key) is first
    other = SentOnce([1])
    assert received(other.payload, other.key) == [1]
    assert received(sent.payload, sent.key) is not first


def test_invalid_smiles_without_indices_is_an_error(pipeline):
    def refuse(smiles):
        raise InvalidSmilesError([], [])

    estimator = make_pipeline(FunctionTransformer(refuse), *pipeline)
    with pytest.raises(InvalidSmilesError):
        embed(estimator, ["CCO"])
