import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn_molge.retrieval._index._precision import (
    Encoded,
    decode,
    encode,
    prepare,
    rotate,
)
from sklearn_molge.retrieval._index._search import top_k
from sklearn_molge.retrieval._index._store import VectorStore

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import load_lincs
from sklearn_molge.metrics import pairwise_similarity
from sklearn_molge.molecules import MorganFingerprinter
from sklearn_molge.molecules._smiles import valid_smiles_mask


def decoded(encoded):
    return decode(encoded, np.empty(encoded.vectors.shape, dtype=np.float32))


def test_prepare_by_hand():
    rows = np.array([[1, 2, 3], [4, 4, 4], [0, 0, 0]], dtype=np.float32)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(
        prepare(rows, "correlation"),
        [[-half, 0, half], [0, 0, 0], [0, 0, 0]],
        atol=1e-7,
    )
    third = 4 / np.sqrt(48)
    np.testing.assert_allclose(
        prepare(rows, "cosine")[1:], [[third] * 3, [0, 0, 0]], rtol=1e-6
    )
    for metric in ("dot", "euclidean"):
        np.testing.assert_array_equal(prepare(rows, metric), rows)
    assert prepare(np.empty((0, 3)), "cosine").shape == (0, 3)


@pytest.mark.parametrize("metric", ["correlation", "cosine"])
def test_prepared_rows_give_the_similarity(metric):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 7)).astype(np.float32)
    np.testing.assert_allclose(
        prepare(a, metric) @ prepare(b, metric).T,
        pairwise_similarity(a, b, metric=metric),
        atol=1e-6,
    )


def test_int8_by_hand():
    rows = np.array([[254, -127, 1.1], [0, 0, 0], [1e-30, 0, -1e-30]], np.float32)
    vectors, scales = encode(rows, "int8")
    assert vectors.dtype == np.int8
    np.testing.assert_array_equal(vectors, [[127, -64, 1], [0, 0, 0], [127, 0, -127]])
    np.testing.assert_allclose(scales, [2, 0, 1e-30 / 127], rtol=1e-6)
    error = np.abs(decoded(Encoded(vectors, scales)) - rows).max(axis=1)
    assert (error <= scales / 2 * (1 + 1e-6)).all()


def test_every_float16_is_decoded_as_numpy_does():
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = values[np.isfinite(values)][:, None]
    result = decoded(Encoded(values, None))
    np.testing.assert_array_equal(result, values.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(result), np.signbit(values))


def test_float32_is_not_copied():
    rows = np.ones((2, 3), dtype=np.float32)
    assert decoded(encode(rows, "float32")) is rows


def test_too_large_for_float16():
    rows = np.zeros((4, 2), dtype=np.float32)
    rows[2, 1] = 70_000
    with pytest.raises(ValueError, match=r"65504 .*float16.* \[2\]; first value 70000"):
        encode(rows, "float16")
    vectors, scales = encode(rows, "int8")
    assert decoded(Encoded(vectors, scales))[2, 1] == pytest.approx(70_000)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(dtype, value):
    rows = np.zeros((3, 2), dtype=np.float32)
    rows[1, 0] = value
    with pytest.raises(ValueError, match=r"must be finite.*\[1\]"):
        encode(rows, dtype)


def test_rotation_keeps_products_and_comes_back():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 9, 31)).astype(np.float32)
    np.testing.assert_allclose(rotate(a) @ rotate(b).T, a @ b.T, atol=1e-4)
    np.testing.assert_allclose(rotate(rotate(a), back=True), a, atol=1e-6)
    spike = np.eye(1, 31, dtype=np.float32)
    assert np.abs(rotate(spike)).max() < 0.7


def test_the_rotation_is_the_same_everywhere():
    # Written down once: a stored index must be read with the rotation that made it.
    np.testing.assert_allclose(
        rotate(np.eye(2, dtype=np.float32)),
        [[-0.1914834, -0.9814959], [-0.9814959, 0.1914834]],
        atol=1e-6,
    )


def test_rotated_equal_rows_stay_equal():
    row = np.random.default_rng(0).normal(size=129).astype(np.float32)
    rows = np.tile(row, (301, 1))
    assert len(np.unique(rotate(rows), axis=0)) == 1
    np.testing.assert_array_equal(rotate(rows[:1]), rotate(rows)[-1:])


@pytest.fixture(scope="module")
def real_embeddings(level5_folder, shared_data):
    """Distinct molecules of the public library, and profiles, in CCA's joint space."""
    import pandas as pd

    path = shared_data / "library" / "compoundinfo.txt.gz"
    library = pd.read_csv(path, sep="\t")["canonical_smiles"].dropna()
    library = library.astype(object).drop_duplicates().to_numpy()[::4]
    library = library[valid_smiles_mask(library)]
    study = load_lincs(level5_folder, level=5)
    embedder = make_pipeline(MorganFingerprinter(), CCA(50, random_state=0))
    embedder.fit(study.smiles, study.ge)
    molecules = np.unique(embedder.transform(library).astype(np.float32), axis=0)
    return molecules, embedder[-1].transform_ge(study.ge[::10]).astype(np.float32)


@pytest.mark.parametrize("metric", ["correlation", "cosine", "dot", "euclidean"])
def test_recall_of_real_embeddings(real_embeddings, metric):
    molecules, queries = real_embeddings
    found = {}
    for dtype in ("float32", "float16", "int8"):
        store = VectorStore.create(
            None, n_components=50, dtype=dtype, metric=metric, identity={}
        )
        texts = np.arange(len(molecules)).astype(str).astype(object)
        store.append(molecules, texts, texts, None)
        found[dtype] = top_k(store, queries, 10)[1]
    recall = {
        dtype: np.mean(
            [np.isin(a, b).mean() for a, b in zip(rows, found["float32"], strict=True)]
        )
        for dtype, rows in found.items()
    }
    assert recall["float16"] >= 0.995
    assert recall["int8"] >= 0.98
