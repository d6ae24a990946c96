import sys

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.frozen import FrozenEstimator

from sklearn_molge.inspection import latent_map


@pytest.fixture
def embeddings():
    return np.random.default_rng(0).normal(size=(30, 6))


@pytest.fixture
def no_umap(monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)


class CountingReducer(TransformerMixin, BaseEstimator):
    """Keeps two columns and counts, over all copies, how often it is fitted."""

    fits = []

    def fit(self, X, y=None):
        self.fits.append(X.copy())
        return self

    def transform(self, X):
        return X[:, :2]


def test_pca_of_unit_rows(embeddings):
    got = latent_map(embeddings, reducer="pca", random_state=0)
    rows = embeddings - embeddings.mean(axis=1, keepdims=True)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    expected = PCA(2).fit_transform(rows)
    np.testing.assert_allclose(np.abs(got), np.abs(expected), atol=1e-10)
    assert list(got.columns) == ["PCA 1", "PCA 2"]
    # Rows that correlate perfectly are one point.
    moved = latent_map(3 * embeddings + 7, reducer="pca", random_state=0)
    np.testing.assert_allclose(moved, got, atol=1e-10)


def test_a_constant_row_and_integers():
    bits = np.random.default_rng(0).integers(0, 2, size=(12, 9), dtype=np.uint8)
    bits[4] = 1
    dense = latent_map(bits, reducer="pca", random_state=0)
    assert np.isfinite(dense.to_numpy()).all()
    for kind in (sparse.csr_array, sparse.csr_matrix):
        got = latent_map(kind(bits), reducer="pca", random_state=0)
        np.testing.assert_allclose(got, dense, atol=1e-10)


def test_the_reducer_is_fitted_once_for_all_parts(embeddings):
    CountingReducer.fits.clear()
    reducer = CountingReducer()
    got = latent_map(embeddings, reducer=reducer, fit_rows=np.arange(20))
    (fitted,) = CountingReducer.fits
    np.testing.assert_array_equal(fitted, embeddings[:20])
    np.testing.assert_array_equal(got, embeddings[:, :2])
    assert list(got.columns) == ["CountingReducer 1", "CountingReducer 2"]


def test_rows_left_out_of_the_fit_are_put_on_the_same_map(embeddings):
    train = np.arange(30) % 3 > 0
    whole = latent_map(embeddings, reducer="pca", fit_rows=train, random_state=0)
    alone = latent_map(embeddings[train], reducer="pca", random_state=0)
    np.testing.assert_allclose(whole[train], alone, atol=1e-10)
    changed = embeddings.copy()
    changed[0] *= [1, -5, 1, 2, 3, 4]
    other = latent_map(changed, reducer="pca", fit_rows=train, random_state=0)
    np.testing.assert_allclose(other[1:], whole[1:], atol=1e-10)
    assert not np.allclose(other.iloc[0], whole.iloc[0])
    positions = np.flatnonzero(train)[::-1]
    got = latent_map(embeddings, reducer="pca", fit_rows=positions, random_state=0)
    np.testing.assert_allclose(np.abs(got), np.abs(whole), atol=1e-10)


def test_a_fitted_reducer_is_kept_as_it_is(embeddings):
    fitted = TruncatedSVD(2, random_state=0).fit(embeddings[:10])
    got = latent_map(embeddings, reducer=FrozenEstimator(fitted))
    np.testing.assert_allclose(got, fitted.transform(embeddings))


def test_without_umap(embeddings, no_umap):
    got = latent_map(embeddings, random_state=0)
    assert list(got.columns) == ["PCA 1", "PCA 2"]
    pd.testing.assert_frame_equal(
        got, latent_map(embeddings, reducer="pca", random_state=0)
    )
    with pytest.raises(ImportError, match=r"needs umap: pip .*sklearn-molge\[umap\]"):
        latent_map(embeddings, reducer="umap")


@pytest.mark.slow  # numba compiles
@pytest.mark.filterwarnings("ignore::ImportWarning")
def test_umap(embeddings):
    umap = pytest.importorskip("umap", reason="the extra umap is not installed")
    embeddings[3] = 1.0
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    got = latent_map(embeddings[:12], random_state=0)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    assert list(got.columns) == ["UMAP 1", "UMAP 2"]
    assert np.isfinite(got.to_numpy()).all()
    again = latent_map(embeddings[:12], reducer="umap", random_state=0)
    pd.testing.assert_frame_equal(got, again)
    assert not np.allclose(got, latent_map(embeddings[:12], random_state=1))
    others = latent_map(embeddings, fit_rows=np.arange(12), random_state=0)
    assert others.shape == (30, 2)
    rows = embeddings[:12] - embeddings[:12].mean(axis=1, keepdims=True)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows /= np.where(norms > 0, norms, 1)
    seed = np.random.RandomState(0).randint(2**31 - 1)
    plain = umap.UMAP(11, metric="cosine", random_state=seed, n_jobs=1)
    np.testing.assert_array_equal(got, plain.fit_transform(rows))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"reducer": "tsne"}, "reducer"),
        ({"reducer": PCA(3)}, r"reducer must return 2 columns. Got .* \(30, 3\)"),
        ({"fit_rows": [0, 1, 2, 3]}, "at least 5 rows, each once. Got .* 4 distinct"),
        ({"fit_rows": [0, 1, 2, 3, 4, 4]}, r"shape \(6,\) with 5 distinct rows"),
        ({"fit_rows": [0, 1, 2, 3, 30]}, "positions in the 30 rows"),
        ({"fit_rows": [True] * 29}, "positions in the 30 rows, or be a mask of them"),
        ({"fit_rows": ["a"] * 30}, "fit_rows must hold positions"),
        ({"embeddings": np.full((9, 3), np.nan)}, "embeddings contains NaN"),
    ],
)
def test_errors(embeddings, change, match):
    good = {"embeddings": embeddings, "reducer": "pca"}
    with pytest.raises(ValueError, match=match):
        latent_map(**{**good, **change})
