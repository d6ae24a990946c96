"""Precision: what rounding does to vectors.

Private: what a component becomes in 2 bytes or 1 is compared with numpy and by hand.
"""

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import load_lincs
from sklearn_molge.library import MoleculeFile, MoleculeIndex
from sklearn_molge.library._vectors import StoredVectors, prepare, rotate
from sklearn_molge.metrics import pairwise_similarity
from sklearn_molge.molecules import MorganFingerprinter


def stored(rows, dtype, metric="dot"):
    vectors = StoredVectors(None, rows.shape[1], dtype, metric)
    records, _ = vectors.encode(rows)
    vectors.write(records, 0)
    return records, vectors.read(len(rows), slice(None))


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
    rows = np.array([[254, -126, 1.1], [0, 0, 0], [1e-30, 0, -1e-30]], np.float32)
    records, decoded = stored(rows @ rotate(np.eye(3)).T, "int8")
    np.testing.assert_array_equal(
        records["vector"], [[127, -63, 1], [0, 0, 0], [127, 0, -127]]
    )
    np.testing.assert_allclose(records["scale"], [2, 0, 1e-30 / 127], rtol=1e-6)
    error = np.abs(decoded - rows).max(axis=1)
    assert (error <= records["scale"] / 2 * (1 + 1e-5)).all()


@pytest.mark.parametrize("n_components", [1, 5])
def test_every_float16_is_decoded_as_numpy_does(n_components):
    values = np.arange(2**16, dtype=np.uint16).view(np.float16)
    values = np.repeat(values[np.isfinite(values)][:, None], n_components, axis=1)
    _, decoded = stored(values.astype(np.float32), "float16", "euclidean")
    np.testing.assert_array_equal(decoded, values.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(decoded), np.signbit(values))


@pytest.mark.parametrize("metric", ["dot", "euclidean"])
def test_float32_is_not_copied(metric):
    vectors = StoredVectors(None, 3, "float32", metric)
    vectors.write(vectors.encode(np.ones((2, 3)))[0], 0)
    read = [vectors.read(2, slice(None)) for _ in range(2)]
    assert np.shares_memory(*read)
    assert not read[0].flags.writeable


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("n_components", [1, 2, 3, 50])
def test_records_are_aligned(dtype, n_components):
    record = StoredVectors(None, n_components, dtype, "euclidean").record
    assert record.itemsize % 4 == 0
    assert all(offset % 4 == 0 for _, offset, *_ in record.fields.values())


def test_too_large_for_float16():
    rows = np.zeros((4, 2), dtype=np.float32)
    rows[2, 1] = 70_000
    with pytest.raises(ValueError, match=r"65504 .*float16.* \[2\]; first value 70000"):
        stored(rows, "float16")
    _, decoded = stored(rows, "int8")
    assert np.linalg.norm(decoded[2]) == pytest.approx(70_000, rel=0.01)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(dtype, value):
    rows = np.zeros((3, 2), dtype=np.float32)
    rows[1, 0] = value
    with pytest.raises(ValueError, match=r"must be finite.*\[1\]"):
        stored(rows, dtype)


def test_rotation_keeps_products():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 9, 31)).astype(np.float32)
    np.testing.assert_allclose(rotate(a) @ rotate(b).T, a @ b.T, atol=1e-4)
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
def real(level5_folder, shared_data):
    """Molecules of the public library, and profiles, with an embedder of both."""
    library = MoleculeFile(shared_data / "library" / "compoundinfo.txt.gz")
    smiles = np.concatenate([part for _, part, _ in library.iter_batches(4096)])
    study = load_lincs(level5_folder, level=5)
    embedder = make_pipeline(MorganFingerprinter(), CCA(50, random_state=0))
    embedder.fit(study.smiles, study.ge)
    return embedder, np.unique(smiles[smiles != ""])[::4], study.ge[::10]


@pytest.mark.parametrize("metric", ["correlation", "cosine", "dot", "euclidean"])
def test_recall_of_real_embeddings(real, metric):
    embedder, smiles, profiles = real
    exact, scores = None, {}
    for dtype in ("float32", "float16", "int8"):
        params = {"dtype": dtype, "metric": metric, "unique_by": "smiles"}
        index = MoleculeIndex(embedder, **params).fit(smiles)
        exact = index if dtype == "float32" else exact
        rows = index.kneighbors(profiles, 10, return_distance=False)
        scores[dtype] = np.array(
            [
                exact.similarity_to_rows(profile[None], found)[0]
                for profile, found in zip(profiles, rows, strict=True)
            ]
        )
    # By score, not by row: isomers lie at one point.
    worst = scores["float32"].min(axis=1, keepdims=True)
    tolerance = 1e-6 * np.abs(worst)
    assert (scores["float16"] >= worst - tolerance).mean() >= 0.995
    assert (scores["int8"] >= worst - tolerance).mean() >= 0.98
