import numpy as np
import pytest
from scipy import linalg, sparse
from sklearn import cross_decomposition
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import CCA
from sklearn_molge.exceptions import JointSpaceWarning
from sklearn_molge.metrics import retrieval_ranks


def paired_views(n=300, p=20, q=30, hidden=4, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, hidden))
    X = z @ rng.normal(size=(hidden, p)) + noise * rng.normal(size=(n, p))
    y = z @ rng.normal(size=(hidden, q)) + noise * rng.normal(size=(n, q))
    return X, y


def exact_correlations(X, y):
    """Cosines of the principal angles between the centred column spaces."""
    qx, qy = (linalg.qr(v - v.mean(0), mode="economic")[0] for v in (X, y))
    return linalg.svdvals(qx.T @ qy)


def slow_ridge_cca(X, y, weights, ridge, k):
    """Textbook solution: full covariances, inverse square roots, one SVD."""
    w = weights / weights.sum()
    X, y = X - w @ X, y - w @ y
    cxx, cyy, cxy = (X.T * w) @ X, (y.T * w) @ y, (X.T * w) @ y

    def inverse_root(c):
        c = c + ridge * np.trace(c) / len(c) * np.eye(len(c))
        values, vectors = linalg.eigh(c)
        return vectors / np.sqrt(values) @ vectors.T

    rx, ry = inverse_root(cxx), inverse_root(cyy)
    u, s, vt = linalg.svd(rx @ cxy @ ry)
    return s[:k], rx @ u[:, :k], ry @ vt[:k].T


def test_equals_exact_svd():
    X, y = paired_views()
    cca = CCA(20, ridge=0).fit(X, y)
    np.testing.assert_allclose(
        cca.correlations_, exact_correlations(X, y), rtol=0, atol=1e-10
    )
    a, b = cca.transform(X), cca.transform_ge(y)
    # Variates have unit variance, and correlate with their partner only.
    np.testing.assert_allclose(a.T @ a / len(a), np.eye(20), atol=1e-9)
    np.testing.assert_allclose(b.T @ b / len(b), np.eye(20), atol=1e-9)
    np.testing.assert_allclose(a.T @ b / len(a), np.diag(cca.correlations_), atol=1e-9)


def test_equals_scikit_learn_where_that_is_well_posed():
    X, y = paired_views(n=500, p=8, q=10)
    a, b = cross_decomposition.CCA(4, max_iter=10_000, tol=1e-12).fit_transform(X, y)
    expected = [np.corrcoef(a[:, i], b[:, i])[0, 1] for i in range(4)]
    correlations = CCA(4, ridge=0).fit(X, y).correlations_
    np.testing.assert_allclose(correlations, expected, atol=1e-3)


@pytest.mark.parametrize(("n", "p", "q"), [(60, 10, 15), (40, 70, 15), (40, 70, 90)])
@pytest.mark.parametrize("ridge", [0.01, 1.0])
def test_equals_slow_ridge_solution(n, p, q, ridge):
    X, y = paired_views(n, p, q)
    weights = np.random.default_rng(1).uniform(0.5, 2, n)
    cca = CCA(5, ridge=ridge).fit(X, y, sample_weight=weights)
    s, a, b = slow_ridge_cca(X, y, weights, ridge, 5)
    np.testing.assert_allclose(cca.correlations_, s, atol=1e-9)
    np.testing.assert_allclose(np.abs(cca.x_rotations_), np.abs(a), atol=1e-7)
    np.testing.assert_allclose(np.abs(cca.y_rotations_), np.abs(b), atol=1e-7)
    # The signs of a pair go together.
    pair = np.diag(cca.transform(X).T @ (cca.transform_ge(y) * weights[:, None]))
    assert (pair > 0).all()


def test_molecules_with_several_profiles_equal_repeated_rows():
    X, y = paired_views(30, 40, 20)
    rows = np.random.default_rng(0).integers(0, 30, 100)
    y = y[rows] + np.random.default_rng(1).normal(size=(100, 20))
    s, a, _ = slow_ridge_cca(X[rows], y, np.ones(100), 0.1, 4)
    cca = CCA(4, ridge=0.1).fit(X[rows], y)
    np.testing.assert_allclose(cca.correlations_, s, atol=1e-9)
    np.testing.assert_allclose(np.abs(cca.x_rotations_), np.abs(a), atol=1e-7)
    balanced = CCA(4, ridge=0.1, balance_molecules=True).fit(X[rows], y)
    weights = 1 / np.bincount(rows, minlength=30)[rows]
    s, a, _ = slow_ridge_cca(X[rows], y, weights, 0.1, 4)
    np.testing.assert_allclose(balanced.correlations_, s, atol=1e-9)


def test_integer_weights_equal_repeated_rows():
    X, y = paired_views(40)
    repeats = np.random.default_rng(0).integers(0, 4, 40)
    weighted = CCA(3, ridge=0.1).fit(X, y, sample_weight=repeats)
    repeated = CCA(3, ridge=0.1).fit(np.repeat(X, repeats, 0), np.repeat(y, repeats, 0))
    np.testing.assert_allclose(weighted.correlations_, repeated.correlations_)
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-9)


def test_noise_with_more_features_than_rows_does_not_pass_for_signal():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(60, 200)), rng.normal(size=(60, 100))
    with pytest.warns(JointSpaceWarning, match="59 correlations of 1 in any 60 rows"):
        without = CCA(5, ridge=0).fit(X, y)
    np.testing.assert_allclose(without.correlations_, 1, atol=1e-6)  # means nothing
    fitted = CCA(5, ridge=1.0).fit(X, y)
    assert (fitted.correlations_ < 0.9).all()


def test_constant_columns_change_nothing():
    X, y = paired_views()
    X2 = np.insert(X, [0, 5], 3.0, axis=1)
    y2 = np.insert(y, 2, -1.0, axis=1)
    plain, padded = (CCA(3, ridge=0.3).fit(*v) for v in ((X, y), (X2, y2)))
    np.testing.assert_allclose(plain.correlations_, padded.correlations_, rtol=1e-12)
    np.testing.assert_allclose(plain.transform(X), padded.transform(X2), atol=1e-9)


def test_finds_held_out_partners_and_shuffled_molecules_are_chance():
    X, y = paired_views(n=400, p=50, q=60, hidden=8)
    train, test = np.arange(300), np.arange(300, 400)
    cca = CCA(8, random_state=0).fit(X[train], y[train])
    ranks = retrieval_ranks(cca, X[test], y[test])
    assert np.mean(1 / ranks) > 0.8
    shuffled = np.random.default_rng(0).permutation(train)
    ranks = retrieval_ranks(
        CCA(8, random_state=0).fit(X[shuffled], y[train]), X[test], y[test]
    )
    # 100 uniform ranks: mean 50.5, standard error 2.9.
    assert abs(ranks.mean() - 50.5) < 12


def test_auto_ridge_is_the_best_of_a_slow_cross_validation():
    X, y = paired_views(n=80, p=100, q=40)
    cca = CCA(5, random_state=3).fit(X, y)
    best = max(cca.ridge_scores_.values())
    assert cca.ridge_scores_[cca.ridge_] == best
    first = {}
    for row in X:
        first.setdefault(row.tobytes(), len(first))
    # The folds are drawn over the distinct molecules in the order of their bytes.
    order = {key: i for i, key in enumerate(sorted(first))}
    fold = np.random.RandomState(3).permutation(80) % 5
    fold = np.array([fold[order[row.tobytes()]] for row in X])
    total = 0.0
    for k in range(5):
        inner = CCA(5, ridge=0.3).fit(X[fold != k], y[fold != k])
        total += (1 / retrieval_ranks(inner, X[fold == k], y[fold == k])).sum()
    assert cca.ridge_scores_[0.3] == pytest.approx(total / 80, abs=1e-12)


def slow_ridge_scores(X, y, ridges, seed, **params):
    """Fit anew on the other molecules of each fold; rank the left-out ones."""
    keys = [row.tobytes() for row in np.asarray(X, dtype=np.float64)]
    order = {key: i for i, key in enumerate(sorted(set(keys)))}
    fold = np.random.RandomState(seed).permutation(len(order)) % 5
    fold = fold[[order[key] for key in keys]]
    totals = dict.fromkeys(ridges, 0.0)
    for ridge in ridges:
        for k in range(5):
            inner = CCA(ridge=ridge, **params).fit(X[fold != k], y[fold != k])
            test = fold == k
            totals[ridge] += (1 / retrieval_ranks(inner, X[test], y[test])).sum()
    return {ridge: total / len(y) for ridge, total in totals.items()}


def _bits(n, p, seed=0):
    return (np.random.default_rng(seed).random((n, p)) < 0.1).astype(np.uint8)


def _study(kind):
    """Views whose folds are easily wrong where a covariance is a difference."""
    rng = np.random.default_rng(0)
    X, y = paired_views(60, 25, 30)
    if kind == "wide":
        X, y = paired_views(60, 150, 110)
    elif kind == "one feature":
        X = X[:, :1]
    elif kind == "one gene":
        y = y[:, :1]
    elif kind == "replicates":
        rows = rng.permutation(np.r_[np.arange(60), rng.integers(0, 60, 140)])
        X, y = X[rows], y[rows] + rng.normal(size=(200, 30))
    elif kind == "far from zero":
        X, y = X + 1e5, y - 1e6
    elif kind == "outlier":  # whose fold has almost all variance
        X[7] *= 3e7
        y[7] *= 3e7
    elif kind in ("rare bits", "many rare bits"):  # columns that only one fold has
        X = _bits(60, 25 if kind == "rare bits" else 150)
        X[::7, :4] = np.eye(4)[rng.integers(0, 4, 9)]
        X[1::7, :4] = X[2::7, :4] = X[3::7, :4] = X[4::7, :4] = 0
    return X, y


@pytest.mark.parametrize(
    "kind",
    [
        "plain",
        "wide",
        "replicates",
        "far from zero",
        "outlier",
        "rare bits",
        "many rare bits",
        "one feature",
        "one gene",
    ],
)
def test_ridge_scores_are_those_of_fits_without_each_fold(kind):
    X, y = _study(kind)
    params = {"n_components": 6, "metric": "euclidean", "correlation_power": 0.5}
    if kind == "outlier":  # beside it only one component is more than rounding
        params |= {"n_components": 1, "metric": "dot"}
    if kind.startswith("one"):
        params["n_components"] = 1
    found = CCA(random_state=1, **params).fit(X, y).ridge_scores_
    ridges = [0.01, 0.3, 10.0]
    expected = slow_ridge_scores(X, y, ridges, seed=1, **params)
    np.testing.assert_allclose(
        [found[ridge] for ridge in ridges], list(expected.values()), rtol=1e-12
    )


@pytest.mark.parametrize("to", ["uint8", "int64", "f4", "sparse", "sparse uint8"])
@pytest.mark.parametrize("largest", [1, 9])
def test_molecules_may_come_in_any_precision_and_sparse(to, largest):
    X, y = _study("many rare bits")
    rows = np.random.default_rng(0).integers(0, 60, 150)
    X = X[rows] * np.random.default_rng(1).integers(1, largest + 1, 150)[:, None]
    y = y[rows] + np.random.default_rng(2).normal(size=(150, 30))
    plain = CCA(5, random_state=0).fit(X.astype(float), y)
    dtype = to.removeprefix("sparse").strip() or "f8"
    given = X.astype(dtype)
    if "sparse" in to:
        given = sparse.csr_array(given)
    cca = CCA(5, random_state=0).fit(given, y)
    assert cca.ridge_scores_ == plain.ridge_scores_
    np.testing.assert_array_equal(cca.x_rotations_, plain.x_rotations_)
    tolerance = 1e-5 if to == "f4" else 1e-12
    np.testing.assert_allclose(
        cca.transform(given), plain.transform(X.astype(float)), atol=tolerance
    )
    assert cca.similarity(given[:4], y).shape == (150, 4)


def test_blocks_of_rows_change_nothing(monkeypatch):
    X, y = _study("replicates")
    whole = CCA(4, random_state=0).fit(X, y)
    monkeypatch.setattr("sklearn_molge.alignment._cca._BLOCK_BYTES", 1000)
    parts = CCA(4, random_state=0).fit(X, y)
    assert parts.ridge_scores_ == whole.ridge_scores_
    np.testing.assert_allclose(parts.transform(X), whole.transform(X), atol=1e-10)


def test_seed_and_row_order():
    X, y = paired_views(n=90, p=30, q=40)
    order = np.random.default_rng(0).permutation(90)
    before = np.random.get_state()[1].copy()
    a = CCA(3, random_state=0).fit(X, y)
    b = CCA(3, random_state=0).fit(X[order], y[order])
    assert a.ridge_ == b.ridge_
    np.testing.assert_allclose(a.transform(X), b.transform(X), atol=1e-8)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_correlation_power_weighs_the_variates():
    X, y = paired_views()
    plain = CCA(4, ridge=0.1).fit(X, y)
    squared = CCA(4, ridge=0.1, correlation_power=2).fit(X, y)
    np.testing.assert_allclose(
        squared.transform(X), plain.transform(X) * plain.correlations_**2
    )
    np.testing.assert_allclose(
        squared.transform_ge(y), plain.transform_ge(y) * plain.correlations_**2
    )


def test_a_step_hands_on_an_array():
    X, y = paired_views()
    pipe = make_pipeline(CCA(4, ridge=0.1), StandardScaler()).set_output(
        transform="pandas"
    )
    frame = pipe.fit_transform(X, y)
    assert list(frame.columns) == ["cca0", "cca1", "cca2", "cca3"]
    assert CCA(4, ridge=0.1).fit(X, y).transform(X.astype(np.float32)).dtype == "f4"


def test_errors():
    X, y = paired_views(n=20)
    with pytest.raises(ValueError, match=r"n_components must be at most 19, .* Got 25"):
        CCA(25, ridge=0.1).fit(X, y)
    with pytest.raises(ValueError, match=r"at least 10 distinct molecules.* Got 5"):
        CCA(3).fit(X[:5], y[:5])
    with pytest.raises(ValueError, match="Negative values in data"):
        CCA(3, ridge=1).fit(X, y, sample_weight=np.arange(20) - 1)
    with pytest.raises(ValueError, match=r"'ridge' parameter of CCA .* Got -1"):
        CCA(ridge=-1).fit(X, y)
    with pytest.raises(ValueError, match="y has 3 genes, but CCA was fitted on 30"):
        CCA(3, ridge=1).fit(X, y).transform_ge(y[:, :3])
    with pytest.raises(ValueError, match="contains NaN"):
        CCA(3, ridge=1).fit(X, np.where(y > 2, np.nan, y))


# -- degenerate views ----------------------------------------------------------------


def slow_number_of_correlations(X, y, ridge):
    """Singular values above rounding of the whitened covariance, by an SVD."""
    X, y = X - X.mean(0), y - y.mean(0)
    whitened = []
    for view in (X, y):
        u, s, _ = linalg.svd(view / np.sqrt(len(view)), full_matrices=False)
        varying = np.count_nonzero(np.ptp(view, axis=0))
        whitened.append(u * (s / np.sqrt(s**2 + ridge * (s**2).sum() / varying)))
    return int((linalg.svdvals(whitened[0].T @ whitened[1]) > 1e-9).sum())


HADAMARD = linalg.hadamard(32)[:, 1:].astype(float)


@pytest.mark.parametrize("n_shared", [3, 4, 6])
@pytest.mark.parametrize("swap", [False, True])
def test_components_without_correlation_are_left_out(n_shared, swap):
    """Orthogonal columns: those in both views correlate, the others not at all."""
    X = HADAMARD[:, :8]
    y = np.c_[HADAMARD[:, :n_shared], HADAMARD[:, 10:20]]
    X, y = (y, X) if swap else (X, y)
    assert slow_number_of_correlations(X, y, 0.1) == n_shared
    cca = CCA(7, ridge=0.1)
    with pytest.warns(JointSpaceWarning, match=f"{n_shared} canonical .* is 7"):
        cca.fit(X, y)
    assert cca.n_components_ == n_shared
    # Each column has variance 1, so that the ridge makes 1 / (1 + 0.1) of 1.
    np.testing.assert_allclose(cca.correlations_, 1 / 1.1)
    assert np.abs(cca.x_rotations_).max() <= 1
    assert np.abs(cca.y_rotations_).max() <= 1
    assert cca.transform(X).shape == cca.transform_ge(y).shape == (32, n_shared)
    similarity = cca.similarity(X[:5], y[:5])
    np.testing.assert_allclose(np.diag(similarity), 1)
    assert len(cca.get_feature_names_out()) == n_shared


def test_components_of_noise_are_as_many_as_a_slow_svd_says():
    X, y = paired_views(n=40, p=8, q=9)
    y[:, 5:] = 0  # rank 5
    assert CCA(5, ridge=0.1).fit(X, y).n_components_ == 5
    assert slow_number_of_correlations(X, y, 0.1) == 5
    with pytest.raises(ValueError, match="n_components must be at most 5"):
        CCA(6, ridge=0.1).fit(X, y)


def test_a_fold_without_correlation_ranks_all_molecules_alike():
    X, y = np.eye(10), np.zeros((10, 4))
    y[0] = [1, 2, 3, 4]  # the fold without this molecule learns from a constant view
    cca = CCA(1, metric="dot", random_state=0).fit(X, y)
    # Two molecules a fold: one and a half is the rank of a guess.
    assert cca.ridge_scores_[0.01] == pytest.approx(1 / 1.5)
    assert np.isfinite(cca.transform(X)).all()


@pytest.mark.parametrize("value", [0.0, 0.1, -1e6])
def test_a_view_without_variance_is_refused(value):
    X, y = paired_views(n=30)
    for views, name in (
        ((np.full_like(X, value), y), "X"),
        ((X, np.full_like(y, value)), "y"),
    ):
        for ridge in ("auto", 0.1, 0):
            with pytest.raises(ValueError, match=rf"^{name} must vary: its \d+ column"):
                CCA(3, ridge=ridge).fit(*views)
    with pytest.raises(ValueError, match=r"^X must vary: .* the 1 row"):
        CCA(1, ridge=1).fit(X, y, sample_weight=np.arange(30) == 3)


def test_views_that_do_not_correlate_are_refused():
    with pytest.raises(ValueError, match="Nothing in X correlates with anything in y"):
        CCA(3, ridge=0.1).fit(HADAMARD[:, :5], HADAMARD[:, 10:15])


def test_repeated_columns_count_once():
    X, y = paired_views(n=60, p=6)
    twice = np.repeat(X, 2, axis=1)
    a, b = (CCA(4, ridge=0).fit(view, y) for view in (X, twice))
    np.testing.assert_allclose(a.correlations_, b.correlations_, atol=1e-9)
    np.testing.assert_allclose(a.transform(X), b.transform(twice), atol=1e-8)


def test_columns_that_do_not_count_are_said():
    X, y = paired_views(n=60)
    X[:, 3] *= 1e12
    with pytest.warns(JointSpaceWarning, match="19 of the 20 varying columns of X"):
        with pytest.raises(ValueError, match="n_components must be at most 1"):
            CCA(3, ridge=0.1).fit(X, y)


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_size_of_the_numbers_does_not_matter(size):
    X, y = paired_views(n=60)
    plain = CCA(4, ridge=0.1).fit(X, y)
    y = (y * size).astype(np.float32)  # whose squares are none in its own precision
    scaled = CCA(4, ridge=0.1).fit(X, y)
    np.testing.assert_allclose(scaled.correlations_, plain.correlations_, rtol=1e-5)
    similarity = scaled.similarity(X, y)
    np.testing.assert_allclose(
        similarity, plain.similarity(X, y / size), rtol=0, atol=1e-4
    )


@pytest.mark.parametrize(("size", "what"), [(1e200, "large"), (1e-200, "small")])
def test_numbers_without_a_square_are_refused(size, what):
    X, y = paired_views(n=30)
    with pytest.raises(ValueError, match=f"^y is too {what} for its squares"):
        CCA(3, ridge=0.1).fit(X, y * size)


@pytest.mark.parametrize(("n", "what"), [(1, "0"), (2, "1, 0 or -1")])
def test_too_few_components_for_a_correlation(n, what):
    X, y = paired_views(n=30)
    with pytest.warns(JointSpaceWarning, match=rf"of rows of length {n} is {what},"):
        cca = CCA(n, ridge=0.1).fit(X, y)
    assert set(np.abs(cca.similarity(X, y).round(6)).ravel()) == {n - 1.0}
    CCA(n, ridge=0.1, metric="cosine").fit(X, y)  # without a warning


def test_auto_takes_what_the_data_support(recwarn):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 12)), rng.normal(size=(30, 8))
    found = CCA("auto", ridge=0.1).fit(X, y)
    assert found.n_components_ == 8
    np.testing.assert_array_equal(
        found.transform(X), CCA(8, ridge=0.1).fit(X, y).transform(X)
    )
    X, y = rng.normal(size=(300, 140)), rng.normal(size=(300, 130))
    assert CCA("auto", ridge=0.1).fit(X, y).n_components_ == 100
    assert not recwarn
