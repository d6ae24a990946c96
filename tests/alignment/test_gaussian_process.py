"""GaussianProcessRetriever against scikit-learn's regressor and slow loops."""

import pickle
import tracemalloc

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import cross_validate

from sklearn_molge.alignment import GaussianProcessRetriever
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.exceptions import InvalidSmilesError, JointSpaceWarning
from sklearn_molge.metrics import RetrievalScorer, retrieval_ranks
from sklearn_molge.model_selection import DrugCellLineKFold
from sklearn_molge.molecules import (
    MoleculeFingerprinter,
    MorganFingerprinter,
    StructureKernel,
    TanimotoKernel,
)

KERNEL = TanimotoKernel(MorganFingerprinter(count=True, sparse_output=True))


def make_features(n_molecules=60, n_profiles=200, n_genes=40, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n_molecules, 5))
    effects = np.tanh(features @ rng.normal(size=(5, n_genes)))
    codes = np.concatenate(
        [np.arange(n_molecules), rng.integers(0, n_molecules, n_profiles - n_molecules)]
    )
    y = effects[codes] + rng.normal(size=(n_profiles, n_genes))
    return features[codes], y, codes, features


@pytest.fixture(scope="module")
def study():
    return make_perturbation_study(
        60, n_cell_lines=4, n_genes=60, level=5, random_state=0
    )


@pytest.fixture(scope="module")
def fitted(study):
    retriever = GaussianProcessRetriever(KERNEL, heritability=0.85, random_state=0)
    return retriever.fit(study.smiles, study.ge)


def training_means(model, y, codes, weights):
    n = np.bincount(codes, weights)
    z = model.transform_ge(y)
    return n, np.stack([np.bincount(codes, weights * c) / n for c in z.T], axis=1)


@pytest.mark.parametrize("heritability", [0.6, 1.0])
def test_means_and_deviations_are_those_of_scikit_learns_regressor(heritability):
    X, y, codes, features = make_features()
    weights = np.random.default_rng(1).uniform(0.3, 2, len(y))
    model = GaussianProcessRetriever(heritability=heritability, n_components=6)
    model.fit(X, y, sample_weight=weights)
    order = np.argsort(codes, kind="stable")
    assert len(order) == len(y)
    n, means = training_means(model, y, codes, weights)
    new = np.random.default_rng(2).normal(size=(7, 5))
    mean, std = model.predict(new, return_std=True)
    total = 0.0
    for k, variance in enumerate(model.effect_variances_):
        kernel = ConstantKernel(variance * heritability) * model.kernel_
        if heritability < 1:
            kernel = kernel + WhiteKernel(variance * (1 - heritability))
        gp = GaussianProcessRegressor(kernel, alpha=1 / n, optimizer=None)
        gp.fit(features, means[:, k])
        expected = gp.predict(new, return_std=True)
        np.testing.assert_allclose(mean[:, k], expected[0], atol=1e-8)
        np.testing.assert_allclose(std[:, k], expected[1], atol=1e-8)
        total += gp.log_marginal_likelihood_value_
    assert model.log_marginal_likelihood_ == pytest.approx(total, abs=1e-6)


def test_noise_has_unit_variance_and_effects_their_variances():
    X, y, codes, _ = make_features()
    model = GaussianProcessRetriever(
        heritability=1.0, n_components=6, shrinkage=0.0, profile_scaling=None
    ).fit(X, y)
    z = model.transform_ge(y)
    _, means = training_means(model, y, codes, np.ones(len(y)))
    within = (z - means[codes]).T @ (z - means[codes]) / (len(y) - len(means))
    np.testing.assert_allclose(within, np.eye(6), atol=1e-8)
    total = z.T @ z / len(y)
    expected = np.diag(model.effect_variances_) + np.eye(6)
    np.testing.assert_allclose(total, expected, atol=1e-8)


def test_calibration_is_the_error_of_leaving_each_molecule_out():
    X, y, codes, features = make_features(30, 90)
    model = GaussianProcessRetriever(heritability=0.8, n_components=3).fit(X, y)
    n, means = training_means(model, y, codes, np.ones(len(y)))
    for k, variance in enumerate(model.effect_variances_):
        K = variance * (0.8 * model.kernel_(features) + 0.2 * np.eye(30))
        errors = []
        for i in range(30):
            rest = np.arange(30) != i
            solved = np.linalg.solve(
                K[np.ix_(rest, rest)] + np.diag(1 / n[rest]),
                np.column_stack([means[rest, k], K[rest, i]]),
            )
            left = means[i, k] - K[i, rest] @ solved[:, 0]
            spread = K[i, i] + 1 / n[i] - K[i, rest] @ solved[:, 1]
            errors.append(left**2 / spread)
        assert model.calibration_[k] == pytest.approx(np.mean(errors))


def test_likelihood_ratio_is_that_of_normal_densities():
    X, y, *_ = make_features()
    model = GaussianProcessRetriever(
        heritability=0.85, n_components=4, score_by="log_likelihood_ratio"
    ).fit(X, y)
    queries, candidates = model.transform_ge(y[:3]), X[:5]
    mean, std = model.predict(candidates, return_std=True)
    c, variances = model.calibration_, model.effect_variances_
    expected = np.empty((3, 5))
    for i, q in enumerate(queries):
        for j in range(5):
            given = norm.logpdf(q, mean[j], np.sqrt(c * (std[j] ** 2 + 1)))
            without = norm.logpdf(q, 0, np.sqrt(c * (variances + 1)))
            expected[i, j] = np.sum(given - without)
    np.testing.assert_allclose(model.similarity(candidates, y[:3]), expected)


def test_combined_score_depends_on_no_other_candidate(study, fitted):
    alone = [fitted.similarity([s], study.ge[:4])[:, 0] for s in study.smiles[:6]]
    together = fitted.similarity(study.smiles[:6], study.ge[:4])
    np.testing.assert_allclose(together, np.stack(alone, axis=1), rtol=1e-9)


def test_cosine_is_the_cosine_in_the_joint_space(study, fitted):
    model = clone(fitted).set_params(score_by="cosine").fit(study.smiles, study.ge)
    a, b = model.transform_ge(study.ge[:4]), model.transform(study.smiles[:5])
    expected = (
        (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1)
    )
    np.testing.assert_allclose(
        model.similarity(study.smiles[:5], study.ge[:4]), expected, atol=1e-12
    )


@pytest.mark.parametrize("score_by", ["combined", "log_likelihood_ratio", "cosine"])
def test_similarity_is_a_product_of_vectors(study, fitted, score_by):
    model = clone(fitted).set_params(score_by=score_by).fit(study.smiles, study.ge)
    space = model.similarity_space()
    candidates, profiles = study.smiles[:7], study.ge[:9]
    molecules, queries = space.transform(candidates), space.transform_ge(profiles)
    expected = model.similarity(candidates, profiles)
    np.testing.assert_allclose(queries @ molecules.T, expected, rtol=1e-9, atol=1e-9)
    small = queries.astype(np.float32) @ molecules.astype(np.float32).T
    np.testing.assert_allclose(small, expected, atol=2e-5 * np.abs(expected).max())


def test_works_as_it_is_on_smiles(study):
    few = study.take(np.isin(study.groups[:, 0], np.unique(study.groups[:, 0])[:12]))
    model = GaussianProcessRetriever(random_state=0).fit(few.smiles, few.ge)
    assert isinstance(model.kernel_, StructureKernel)
    assert set(model.cv_scores_) == {(h, 100) for h in (0.3, 0.5, 0.7, 0.85, 1.0)}
    assert model.score(few.smiles, few.ge) > 0.5
    again = GaussianProcessRetriever(random_state=0).fit(few.smiles, few.ge)
    np.testing.assert_array_equal(
        again.transform(few.smiles), model.transform(few.smiles)
    )


def test_auto_takes_the_best_of_what_it_tried(study):
    model = GaussianProcessRetriever(
        KERNEL, heritability="auto", n_components="auto", random_state=0
    ).fit(study.smiles, study.ge)
    assert len(model.cv_scores_) == 20
    best = max(model.cv_scores_.values())
    assert any(
        h == model.heritability_ and score == best
        for (h, _), score in model.cv_scores_.items()
    )


def test_is_far_above_chance_under_the_honest_split(study):
    scores = cross_validate(
        GaussianProcessRetriever(KERNEL, random_state=0),
        study.smiles, study.ge, groups=study.groups,
        cv=DrugCellLineKFold(3, 2, random_state=0),
        scoring=RetrievalScorer("mrr"),
    )["test_score"]  # fmt: skip
    assert scores.mean() > 0.35  # chance is 0.18


def test_order_of_rows_and_spelling_of_smiles_do_not_matter(study, fitted):
    shuffled = np.random.default_rng(0).permutation(len(study))
    other = clone(fitted).fit(study.smiles[shuffled], study.ge[shuffled])
    expected = fitted.similarity(study.smiles[:5], study.ge[:5])
    np.testing.assert_allclose(
        other.similarity(study.smiles[:5], study.ge[:5]), expected, rtol=1e-6
    )


def test_rows_of_weight_zero_are_as_if_they_were_not_there(study, fitted):
    weights = np.ones(len(study))
    weights[::3] = 0
    weighted = clone(fitted).fit(study.smiles, study.ge, sample_weight=weights)
    kept = weights > 0
    without = clone(fitted).fit(study.smiles[kept], study.ge[kept])
    np.testing.assert_array_equal(
        weighted.transform(study.smiles[:5]), without.transform(study.smiles[:5])
    )


def test_weights_are_precisions():
    X, y, codes, _ = make_features()
    precise = np.random.default_rng(3).random(60)[codes] < 0.5
    noisy = y + np.where(precise, 0, 3)[:, None] * np.random.default_rng(4).normal(
        size=y.shape
    )
    model = GaussianProcessRetriever(heritability=1.0, n_components=5)
    scorer = RetrievalScorer("mrr", known_drugs="ignore")
    plain = scorer(clone(model).fit(X, noisy), X, y)
    weighted = clone(model).fit(X, noisy, sample_weight=np.where(precise, 1, 0.1))
    assert scorer(weighted, X, y) > plain


def test_equal_molecules_tie_exactly(study, fitted):
    twice = np.array(["OCC", "CCO", study.smiles[0], "C(O)C"], dtype=object)
    similarity = fitted.similarity(twice, study.ge[:7])
    np.testing.assert_array_equal(similarity[:, 0], similarity[:, 1])
    np.testing.assert_array_equal(similarity[:, 0], similarity[:, 3])


def test_averages_of_a_drugs_profiles_are_taken_in_the_joint_space(study, fitted):
    model = clone(fitted).set_params(score_by="cosine").fit(study.smiles, study.ge)
    drugs = study.groups[:, 0]
    names, first = np.unique(drugs, return_index=True)
    z, mu = model.transform_ge(study.ge), model.transform(study.smiles[first])
    expected = []
    for i, name in enumerate(names):
        mean = z[drugs == name].mean(axis=0)
        cosines = mu @ mean / np.linalg.norm(mu, axis=1)
        expected.append(1 + np.sum(cosines > cosines[i]))
    ranks = retrieval_ranks(model, study.smiles, study.ge, drugs=drugs, per="drug")
    np.testing.assert_array_equal(ranks, expected)


def test_many_molecules_are_divided_among_experts(study, fitted):
    model = clone(fitted).set_params(max_expert_size=40).fit(study.smiles, study.ge)
    assert fitted.n_experts_ == 1
    assert model.n_experts_ == 2
    drugs = np.unique(study.smiles)
    exact, near = fitted.transform(drugs), model.transform(drugs)
    assert np.corrcoef(exact.ravel(), near.ravel())[0, 1] > 0.97
    _, std = model.predict(["CCCCCC", study.smiles[0]], return_std=True)
    assert (std**2 <= model.effect_variances_ * (1 + 1e-9)).all()


def test_optimizer_raises_the_likelihood(study):
    kernel = StructureKernel(
        [("ecfp", KERNEL), ("keys", TanimotoKernel(MoleculeFingerprinter("maccs")))]
    )
    model = GaussianProcessRetriever(kernel, heritability=0.85)
    plain = model.fit(study.smiles, study.ge).log_marginal_likelihood_
    model.set_params(optimizer="fmin_l_bfgs_b").fit(study.smiles, study.ge)
    assert model.log_marginal_likelihood_ > plain
    assert model.kernel is kernel
    assert kernel.weights is None


def test_optimizer_leaves_the_shares_of_a_sum_shares(study):
    X, y, _, features = make_features()
    start = 0.5 * RBF(1.0) + 0.5 * RBF(3.0)
    model = GaussianProcessRetriever(start, heritability=0.85).fit(X, y)
    plain = model.log_marginal_likelihood_
    model.set_params(optimizer="fmin_l_bfgs_b").fit(X, y)
    assert model.log_marginal_likelihood_ > plain
    np.testing.assert_allclose(model.kernel_.diag(features), 1)
    best = model.log_marginal_likelihood_
    for step in (-0.1, 0.1):  # of the logarithm of the second length
        other = model.kernel_.clone_with_theta(model.kernel_.theta)
        theta = other.theta.copy()
        theta[-1] += step
        other.theta = theta
        near = GaussianProcessRetriever(other, heritability=0.85).fit(X, y)
        assert near.log_marginal_likelihood_ < best


def test_kernels_of_scikit_learn_add_up(study):
    X, y, *_ = make_features()
    kernel = 0.5 * RBF(1.0) + 0.5 * RBF(3.0)
    model = GaussianProcessRetriever(kernel, heritability=0.85).fit(X, y)
    assert model.score(X, y) > 0.2


def test_every_kernel_inside_another_gets_the_training_molecules(study):
    parts = [("ecfp", KERNEL), ("keys", TanimotoKernel(MoleculeFingerprinter("maccs")))]
    for kernel in (
        StructureKernel(parts) ** 2,
        0.8 * StructureKernel(parts) + 0.2 * KERNEL,
    ):
        model = GaussianProcessRetriever(kernel, heritability=0.85)
        model.fit(study.smiles, study.ge)
        assert model.score(study.smiles, study.ge) > 0.5


def test_pickles_without_the_molecules_of_the_last_query(study, fitted):
    expected = fitted.similarity(study.smiles[:4], study.ge[:4])
    size = len(pickle.dumps(fitted))
    copy = pickle.loads(pickle.dumps(fitted))
    copy.transform(np.array(["C" * n for n in range(1, 200)], dtype=object))
    assert len(pickle.dumps(copy)) == size
    np.testing.assert_array_equal(
        copy.similarity(study.smiles[:4], study.ge[:4]), expected
    )


def test_says_that_the_noise_is_assumed_without_replicates():
    X, y, *_ = make_features(50, 50)
    with pytest.warns(JointSpaceWarning, match="None of the 50 molecules of X has two"):
        GaussianProcessRetriever(heritability=1.0).fit(X, y)


@pytest.mark.parametrize("scaling", ["normal_scores", "unit_length", None])
def test_equal_profiles_are_refused_whatever_their_rounding(scaling):
    X, y, *_ = make_features()
    model = GaussianProcessRetriever(heritability=0.85, profile_scaling=scaling)
    for value in (0.0, 1.0, 0.1, 1e-3):
        with pytest.raises(ValueError, match="y must hold profiles that differ"):
            model.fit(X, np.full_like(y, value))
    pattern = np.random.default_rng(0).normal(size=y.shape[1])
    if scaling is not None:
        with pytest.raises(ValueError, match="y must hold profiles that differ"):
            model.fit(X, pattern * np.linspace(1, 9, len(y))[:, None])


def test_a_profile_without_differences_is_at_the_origin(study, fitted):
    profiles = np.vstack([study.ge[:9], np.zeros(60), np.full(60, -0.7)])
    coordinates = fitted.transform_ge(profiles)
    assert coordinates[:9].any(axis=1).all()
    assert not coordinates[9:].any()


def test_normal_scores_ignore_scale_and_tails(study, fitted):
    stretched = np.sign(study.ge) * study.ge**2 * 7
    np.testing.assert_allclose(
        fitted.transform_ge(stretched), fitted.transform_ge(study.ge), atol=1e-10
    )


def test_no_molecules_to_predict_are_refused(study, fitted):
    for call in (fitted.transform, fitted.compare_to):
        with pytest.raises(ValueError, match="X must hold at least one molecule"):
            call(study.smiles[:0])


def test_refuses_a_kernel_of_another_scale_or_of_other_molecules(study):
    X, y, *_ = make_features()
    for kernel, values in [(3.0 * RBF(1.0), "3 to 3"), (RBF() + RBF(2.0), "2 to 2")]:
        model = GaussianProcessRetriever(kernel, heritability=0.85)
        with pytest.raises(ValueError, match=f"weights of a sum .* {values}"):
            model.fit(X, y)
    with pytest.raises(ValueError, match=r"of X, which are SMILES\. Got RBF"):
        model.set_params(kernel=RBF()).fit(study.smiles, study.ge)


def test_refuses_what_it_cannot_learn_from(study):
    X, y, *_ = make_features()
    model = GaussianProcessRetriever(heritability=0.85)
    with pytest.raises(ValueError, match=r"at least 2 distinct molecules\. Got 1"):
        model.fit(X[[0, 0, 0]], y[:3])
    with pytest.raises(ValueError, match="at least 10 distinct molecules"):
        GaussianProcessRetriever().fit(X[:8], y[:8])
    with pytest.raises(ValueError, match="Negative"):
        model.fit(X, y, sample_weight=-np.ones(len(y)))
    with pytest.raises(InvalidSmilesError, match="index 1"):
        model.fit(np.array(["CCO", "no", "C"], dtype=object), y[:3])
    codes = np.repeat(np.arange(2), 40)
    same = np.random.default_rng(0).normal(size=(80, 3))
    same -= np.stack([same[codes == c].mean(axis=0) for c in (0, 1)])[codes]
    model.set_params(profile_scaling=None, shrinkage=0.0)
    with pytest.warns(JointSpaceWarning, match="by no more than the noise"):
        model.fit(X[codes], same)
    with pytest.raises(ValueError, match="All 80 rows with a weight are the same"):
        model.fit(X[codes], np.ones((80, 3)))
    model.set_params(kernel=4 * RBF(1.0) + ConstantKernel(-3.0), heritability=1.0)
    with pytest.raises(ValueError, match="positive semi-definite"):
        model.fit(X, y)


def test_scores_come_in_blocks_of_queries():
    """As those of a few queries alone, in little more memory than they take."""
    rng = np.random.default_rng(0)
    X, y = np.repeat(rng.normal(size=(60, 6)), 2, axis=0), rng.normal(size=(120, 30))
    y[:, :6] += X
    retriever = GaussianProcessRetriever(heritability=0.85, random_state=0).fit(X, y)
    candidates, queries = rng.normal(size=(6000, 6)), rng.normal(size=(2500, 30))
    compare = retriever.compare_to(candidates)
    tracemalloc.start()
    scores = compare(queries)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * scores.nbytes
    few = np.r_[:3, 1200:1203, 2497:2500]
    np.testing.assert_allclose(scores[few], compare(queries[few]), rtol=1e-8, atol=1e-9)
