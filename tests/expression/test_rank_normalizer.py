"""RankNormalizer: normal scores of the ranks within each profile."""

import numpy as np
import pytest
from scipy.stats import norm

from sklearn_molge.expression import RankNormalizer


def test_scores_are_normal_quantiles_of_mid_ranks():
    X = [[3.0, -1.0, 3.0, 10.0], [0.5, 0.5, 0.5, 0.5]]
    expected = norm.ppf((np.array([[2.5, 1, 2.5, 4], [2.5] * 4]) - 0.5) / 4)
    np.testing.assert_allclose(RankNormalizer().fit_transform(X), expected, atol=1e-15)


def test_missing_genes_stay_missing_and_are_not_counted():
    X = np.array([[3.0, np.nan, -1.0, 10.0], [1.0, 2.0, 3.0, 4.0]])
    found = RankNormalizer().fit_transform(X)
    known = RankNormalizer().fit_transform(X[:1, [0, 2, 3]])
    np.testing.assert_array_equal(found[0, [0, 2, 3]], known[0])
    assert np.isnan(found[0, 1])
    np.testing.assert_allclose(found[1], norm.ppf((np.arange(4) + 0.5) / 4))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_each_row_by_itself_at_any_scale(dtype):
    X = np.random.default_rng(0).normal(size=(20, 30)).astype(dtype)
    transformer = RankNormalizer().fit(X)
    found = transformer.transform(X)
    assert found.dtype == dtype
    np.testing.assert_array_equal(transformer.transform(X[7:8] * 100), found[7:8])
    with pytest.raises(ValueError, match="29 features"):
        transformer.transform(X[:, 1:])
    with pytest.raises(ValueError, match="infinity"):
        transformer.transform(np.where(X > 2, np.inf, X))


def test_many_rows_are_scored_as_each_by_itself():
    X = np.random.default_rng(0).normal(size=(600, 1000)).round(2)  # more than a block
    X[::7, 3] = np.nan
    found = RankNormalizer().fit_transform(X)
    alone = [RankNormalizer().fit_transform(row[None])[0] for row in X[515:535]]
    np.testing.assert_array_equal(found[515:535], alone)
