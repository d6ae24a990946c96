import pickle

import numpy as np
import pytest
from rdkit import Chem, DataStructs
from rdkit.Chem import rdFingerprintGenerator

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.metrics import pairwise_similarity
from sklearn_molge.molecules import drug_ids
from sklearn_molge.retrieval._index import _background
from sklearn_molge.retrieval._index._background import Background
from sklearn_molge.retrieval._index._search import top_k
from sklearn_molge.retrieval._index._store import VectorStore

SMILES = np.array(["CCO", "CCN", "c1ccccc1O", "CC(=O)O", "CCCCCC", "C#N"], dtype=object)


def make_store(vectors, metric="correlation", dtype="float32"):
    n, d = vectors.shape
    store = VectorStore.create(
        None, n_components=d, dtype=dtype, metric=metric, identity={}
    )
    texts = np.array(["C" * (i + 1) for i in range(n)], dtype=object)
    store.append(vectors.astype(np.float32), texts, texts, drug_ids(texts))
    return store


def slow_percentiles(scores, known, rows, reverse):
    """Count, for each answer, the background's scores with its molecule."""
    out = np.empty(rows.shape)
    sign = -1 if reverse else 1
    for query, row in np.ndindex(*rows.shape):
        column, score = known[:, rows[query, row]], scores[query, row]
        tied = np.isclose(column, score, rtol=1e-6, atol=1e-7)
        below = (sign * column < sign * score) & ~tied
        out[query, row] = 100 * (below.sum() + 0.5 * tied.sum()) / len(column)
    return out


@pytest.fixture
def data():
    rng = np.random.default_rng(0)
    vectors, known, queries = (rng.normal(size=(n, 6)) for n in (30, 40, 7))
    return [v.astype(np.float32) for v in (vectors, known, queries)]


@pytest.mark.parametrize("metric", ["correlation", "cosine", "dot", "euclidean"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("block", [1, 100, 2**22])
def test_percentiles_equal_slow_loop(data, metric, reverse, block, monkeypatch):
    vectors, known, queries = data
    monkeypatch.setattr(_background, "_BLOCK_SCORES", block)
    store = make_store(vectors, metric)
    scores, rows = top_k(store, queries, 5, reverse=reverse)
    got = Background.make(known).percentiles(store, scores, rows, reverse=reverse)
    expected = slow_percentiles(
        scores, pairwise_similarity(known, vectors, metric=metric), rows, reverse
    )
    np.testing.assert_allclose(got, expected, atol=1e-9)


def test_percentiles_by_hand():
    store = make_store(np.array([[1.0, 0.0], [0.0, 1.0]]), "dot")
    background = Background.make(np.array([[1.0, 5], [2, 5], [2, 5], [4, 5]]))
    scores = np.array([[2.0, 6.0], [0.5, 5.0]], dtype=np.float32)
    rows = np.array([[0, 1], [0, 1]])
    got = background.percentiles(store, scores, rows)
    np.testing.assert_array_equal(got, [[50, 100], [0, 50]])
    got = background.percentiles(store, scores, rows, reverse=True)
    np.testing.assert_array_equal(got, [[50, 0], [100, 50]])


def test_a_query_of_the_background_ties_with_itself(data):
    vectors, known, _ = data
    store = make_store(vectors)
    scores, rows = top_k(store, known, 30)
    got = Background.make(known).percentiles(store, scores, rows)
    counts = got * len(known) / 100
    np.testing.assert_allclose(counts % 1, 0.5)
    # All of the background with one molecule: each percentile comes once.
    for row in range(30):
        np.testing.assert_allclose(np.sort(counts[rows == row]), np.arange(40) + 0.5)


def test_no_answers(data):
    vectors, known, _ = data
    scores, rows = np.empty((0, 3), np.float32), np.empty((0, 3), np.intp)
    got = Background.make(known).percentiles(make_store(vectors), scores, rows)
    assert got.shape == (0, 3)


# The training set.


def rdkit_bits(smiles):
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    return [generator.GetFingerprint(Chem.MolFromSmiles(s)) for s in smiles]


def test_nearest_training_molecule_is_rdkits(data):
    background = Background.make(data[1], SMILES)
    assert background.knows_training
    asked = np.array(["CCCO", "CCO", "Oc1ccccc1C", "CCCO", "[Na+].[Cl-]"], dtype=object)
    similarity, nearest = background.nearest_training(asked)
    known = rdkit_bits(background.smiles)
    for i, bits in enumerate(rdkit_bits(asked)):
        expected = DataStructs.BulkTanimotoSimilarity(bits, known)
        assert similarity[i] == max(expected)
        assert nearest[i] == np.argmax(expected)
    assert similarity[1] == 1
    assert background.smiles[nearest[1]] == "CCO"
    np.testing.assert_array_equal(background.drugs, drug_ids(background.smiles))


def test_nearest_training_does_not_depend_on_order_or_repeats(data, monkeypatch):
    asked = np.array(["CCCO", "CCCl", "NCC"], dtype=object)
    expected = Background.make(data[1], SMILES).nearest_training(asked)
    monkeypatch.setattr(_background, "_BLOCK_MOLECULES", 2)
    order = np.array([5, 3, 3, 1, 0, 4, 2, 2])
    got = Background.make(data[1], SMILES[order].tolist()).nearest_training(asked)
    np.testing.assert_array_equal(got, expected)


def test_without_training_molecules(data):
    assert not Background.make(data[1]).knows_training


def test_bad_training_molecules(data):
    with pytest.raises(InvalidSmilesError, match="index 1: '-666'"):
        Background.make(data[1], ["CCO", "-666"])


def test_nothing_is_known():
    with pytest.raises(ValueError, match="X, y or both must be given"):
        Background.make()


def test_profiles_are_needed_for_percentiles(data):
    background = Background.make(None, SMILES)
    assert not background.knows_profiles
    store = make_store(data[0])
    with pytest.raises(ValueError, match="needs profiles"):
        background.percentiles(store, *top_k(store, data[2], 2))


@pytest.mark.parametrize(
    ("profiles", "smiles"), [(True, None), (True, SMILES), (False, SMILES)]
)
def test_it_is_stored_and_pickled(data, tmp_path, profiles, smiles):
    assert Background.load(tmp_path) is None
    Background.make(data[2]).save(tmp_path)  # to be replaced
    background = Background.make(data[1] if profiles else None, smiles)
    background.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    for copy in (Background.load(tmp_path), pickle.loads(pickle.dumps(background))):
        assert copy.knows_profiles == profiles
        assert copy.knows_training == (smiles is not None)
        for name in ("embedded", "smiles", "drugs", "bits")[not profiles :]:
            value = getattr(copy, name)
            np.testing.assert_array_equal(value, getattr(background, name))
            assert value.dtype == getattr(background, name).dtype


@pytest.mark.parametrize("kept", [0, 100, -30])
def test_a_damaged_file(data, tmp_path, kept):
    Background.make(data[1], SMILES).save(tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"background\.npz is damaged; call calibrate"):
        Background.load(tmp_path)
