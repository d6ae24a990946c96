"""GeneImputer: the conditional mean, what is left, and genes masked in real data."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import load_lincs
from sklearn_molge.expression import GeneImputer
from sklearn_molge.metrics import RetrievalScorer
from sklearn_molge.retrieval import TransformedTargetRetriever

RNG = np.random.default_rng(0)
TRAIN = RNG.normal(size=(60, 3)) @ RNG.normal(size=(3, 8)) + 0.3 * RNG.normal(
    size=(60, 8)
)


def with_holes(X, seed=1):
    rng = np.random.default_rng(seed)
    X = X.copy()
    X[rng.random(X.shape) < 0.4] = np.nan
    X[0], X[1, 1:] = X[0], np.nan
    X[2] = np.nan
    return X


def textbook(imputer, row):
    """Condition one row, element by element: Bishop's equations 2.81 and 2.82."""
    mean, cov = imputer.location_, imputer.covariance_
    o, u = np.flatnonzero(~np.isnan(row)), np.flatnonzero(np.isnan(row))
    inverse = np.linalg.inv(cov[np.ix_(o, o)])
    filled, left = row.copy(), 0.0
    for i in u:
        weights = cov[i, o] @ inverse
        filled[i] = mean[i] + weights @ (row[o] - mean[o])
        left += cov[i, i] - weights @ cov[o, i]
    return filled, 1 - left / np.trace(cov)


@pytest.mark.parametrize("shrinkage", ["auto", 1e-3, 0.5, 1.0])
def test_the_conditional_mean_row_by_row(shrinkage):
    imputer = GeneImputer(shrinkage=shrinkage).fit(TRAIN)
    X = with_holes(TRAIN)
    filled, share = imputer.transform(X), imputer.explained_variance_ratio(X)
    for i, row in enumerate(X):
        expected, explained = textbook(imputer, row)
        np.testing.assert_allclose(filled[i], expected, atol=1e-8)
        assert share[i] == pytest.approx(explained, abs=1e-8)
    known = ~np.isnan(X)
    assert np.array_equal(filled[known], X[known])
    assert share[2] == 0
    np.testing.assert_allclose(filled[2], imputer.location_)


def test_without_shrinkage_it_is_least_squares():
    imputer = GeneImputer(shrinkage=1e-8).fit(TRAIN)
    X = TRAIN[:5].copy()
    X[:, 5:] = np.nan
    regression = LinearRegression().fit(TRAIN[:, :5], TRAIN[:, 5:])
    expected = regression.predict(X[:, :5])
    np.testing.assert_allclose(imputer.transform(X)[:, 5:], expected, atol=1e-5)


def test_more_genes_explain_more_and_rows_do_not_matter_to_each_other():
    imputer = GeneImputer().fit(TRAIN)
    X = np.repeat(TRAIN[:1], 9, axis=0)
    for i in range(9):
        X[i, i:] = np.nan
    share = imputer.explained_variance_ratio(X)
    assert share[0] == 0
    assert share[-1] == 1
    assert (np.diff(share) > 0).all()
    order = RNG.permutation(9)
    np.testing.assert_allclose(imputer.transform(X[order]), imputer.transform(X)[order])
    one_by_one = np.vstack([imputer.transform(row[None]) for row in X])
    np.testing.assert_allclose(imputer.transform(X), one_by_one)


def test_only_complete_rows_are_learnt_from():
    X = with_holes(TRAIN)
    X[5:40] = TRAIN[5:40]
    complete = X[~np.isnan(X).any(axis=1)]
    one, other = GeneImputer().fit(X), GeneImputer().fit(complete)
    assert one.n_complete_ == len(complete)
    assert np.array_equal(one.covariance_, other.covariance_)


def test_shrinkage_follows_the_data():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(50, 20))
    signal = rng.normal(size=(500, 2)) @ rng.normal(size=(2, 20))
    assert GeneImputer().fit(noise).shrinkage_ > 0.5
    assert GeneImputer().fit(signal + 0.1 * rng.normal(size=(500, 20))).shrinkage_ < 0.1
    few = GeneImputer().fit([[0.0, 1], [1, 2]])
    assert few.transform([[0, np.nan]]).shape == (1, 2)


def test_types_and_names():
    frame = pd.DataFrame(TRAIN.astype(np.float32), columns=list("abcdefgh"))
    imputer = GeneImputer().fit(frame)
    holes = frame.mask(frame > 1)
    assert imputer.transform(holes).dtype == np.float32
    assert not np.isnan(imputer.set_output(transform="pandas").transform(holes)).any(
        axis=None
    )
    assert imputer.get_feature_names_out().tolist() == list("abcdefgh")


@pytest.mark.parametrize(
    ("X", "match"),
    [
        ([[1.0, np.nan], [2, 3]], "needs 2 or more. Got 1 of n_samples=2"),
        ([[1.0, 2], [1, 2], [1, np.nan]], "X must vary"),
        ([[1.0, np.inf], [2, 3]], "infinity"),
    ],
)
def test_refused(X, match):
    with pytest.raises(ValueError, match=match):
        GeneImputer().fit(X)


def test_before_a_retriever():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 5))
    y = with_holes(np.hstack([X, TRAIN]))
    y[20:] = np.hstack([X, TRAIN])[20:]
    model = TransformedTargetRetriever(CCA(4, ridge=0.1), GeneImputer()).fit(X, y)
    assert RetrievalScorer("mrr")(model, X, y) > 0.5
    assert model.similarity(X, y).shape == (60, 60)
    nested = TransformedTargetRetriever(CCA(4, ridge=0.1), make_pipeline(GeneImputer()))
    np.testing.assert_allclose(
        nested.fit(X, y).similarity(X, y), model.similarity(X, y)
    )


def test_masked_genes_of_real_profiles(level5_folder):
    study = load_lincs(level5_folder, level=5)
    X = study.ge / np.linalg.norm(study.ge, axis=1, keepdims=True)
    held = np.isin(study.groups[:, 0], np.unique(study.groups[:, 0])[::3])
    masked = X[held]
    missing = np.arange(X.shape[1]) % 8 > 0
    masked[:, missing] = np.nan
    imputer = GeneImputer().fit(X[~held])
    filled, truth = imputer.transform(masked)[:, missing], X[held][:, missing]
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(filled, truth, strict=True)]
    assert np.mean(r) > 0.45
    whole = imputer.transform(masked)
    error = np.sum((whole - X[held]) ** 2) / np.sum((X[held] - X.mean(axis=0)) ** 2)
    said = imputer.explained_variance_ratio(masked[:1])[0]
    assert 1 - error - 0.15 < said < 1 - error  # a careful answer
