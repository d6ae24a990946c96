"""Kernels of molecules against slow loops, and in scikit-learn's own estimators."""

import pickle

import numpy as np
import pytest
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from sklearn_molge.molecules import (
    DescriptorKernel,
    MoleculeDescriptors,
    MoleculeFingerprinter,
    MorganFingerprinter,
    StructureKernel,
    TanimotoKernel,
)

SMILES = np.array(
    ["CCO", "c1ccccc1O", "CC(=O)Oc1ccccc1C(=O)O", "CCN(CC)CC", "C"], dtype=object
)
KERNELS = [
    ("ecfp", TanimotoKernel(MorganFingerprinter(count=True, sparse_output=True))),
    ("keys", TanimotoKernel(MoleculeFingerprinter("maccs"))),
    ("descriptors", DescriptorKernel(MoleculeDescriptors(["MolWt", "TPSA"]))),
]


def slow_min_max(A, B):
    return np.array(
        [
            [
                np.minimum(a, b).sum() / np.maximum(a, b).sum()
                if np.maximum(a, b).sum()
                else 1.0
                for b in B
            ]
            for a in A
        ]
    )


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, n: rng.integers(0, 9, (n, 30)),
        lambda rng, n: rng.poisson(0.02, (n, 300)),
        lambda rng, n: np.log1p(rng.integers(0, 4, (n, 40))),
        lambda rng, n: rng.random((n, 200)),
        lambda rng, n: np.zeros((n, 3)),
    ],
    ids=["dense", "sparse", "logarithms", "real", "empty"],
)
def test_tanimoto_is_the_sum_of_minima_over_that_of_maxima(draw, container):
    rng = np.random.default_rng(0)
    A, B = draw(rng, 9), draw(rng, 7)
    expected = slow_min_max(A, B)
    K = TanimotoKernel()(container(A), container(B))
    np.testing.assert_allclose(K, expected, rtol=1e-12, atol=1e-12)


def test_tanimoto_of_bits_is_that_of_rdkit():
    bits = MorganFingerprinter().fit_transform(SMILES).astype(float)
    shared = bits @ bits.T
    total = bits.sum(axis=1)
    expected = shared / (total[:, None] + total - shared)
    K = TanimotoKernel(MorganFingerprinter())(SMILES)
    np.testing.assert_allclose(K, expected)
    np.testing.assert_array_equal(np.diag(K), 1.0)


def test_tanimoto_refuses_negative_numbers():
    with pytest.raises(ValueError, match=r"at least 0.*Got -1"):
        TanimotoKernel()([[1.0, -1.0]])


def test_kernels_run_in_scikit_learns_regressor():
    gp = GaussianProcessRegressor(KERNELS[0][1], alpha=0.1, optimizer=None)
    gp.fit(SMILES, np.arange(5.0))
    K = KERNELS[0][1](SMILES)
    expected = K @ np.linalg.solve(K + 0.1 * np.eye(5), np.arange(5.0))
    np.testing.assert_allclose(gp.predict(SMILES), expected)


def test_descriptors_are_scaled_on_the_training_molecules():
    kernel = DescriptorKernel(MoleculeDescriptors(["MolWt", "TPSA"])).fit(SMILES)
    scaled = MoleculeDescriptors(["MolWt", "TPSA"]).fit_transform(SMILES)
    squares = ((scaled[:, None] - scaled) ** 2).sum(axis=-1)
    length = np.sqrt(np.median(squares[squares > 0]) / 2)
    assert kernel.length_scale_ == pytest.approx(length, rel=1e-5)
    np.testing.assert_allclose(
        kernel(SMILES[:2], SMILES), np.exp(-squares[:2] / 2 / length**2), atol=1e-6
    )
    with pytest.raises(NotFittedError):
        DescriptorKernel()(SMILES)


def test_structure_kernel_is_the_weighted_mean():
    kernel = StructureKernel(KERNELS, weights=[1, 2, 5]).fit(SMILES)
    parts = [clone(k).fit(SMILES)(SMILES[:3], SMILES) for _, k in KERNELS]
    expected = (parts[0] + 2 * parts[1] + 5 * parts[2]) / 8
    np.testing.assert_allclose(kernel(SMILES[:3], SMILES), expected)
    assert len(StructureKernel().fit(SMILES).kernels_) == 9


def test_gradient_is_that_of_small_steps():
    kernel = StructureKernel(KERNELS).fit(SMILES)
    _, gradient = kernel(SMILES, eval_gradient=True)
    theta = kernel.theta
    for i in range(3):
        step = np.zeros(3)
        step[i] = 1e-6
        kernel.theta = theta + step
        up = kernel(SMILES)
        kernel.theta = theta - step
        down = kernel(SMILES)
        np.testing.assert_allclose(gradient[..., i], (up - down) / 2e-6, atol=1e-8)


def test_fixed_weights_are_no_hyperparameters():
    kernel = StructureKernel(KERNELS, weights_bounds="fixed").fit(SMILES)
    assert kernel.theta.size == 0
    assert kernel(SMILES, eval_gradient=True)[1].shape == (5, 5, 0)


@pytest.mark.parametrize(
    "weights", [[1, 2], [1, -1, 1], [0, 1, 1], [np.inf, 1, 1], [np.nan, 1, 1]]
)
def test_refuses_other_weights(weights):
    with pytest.raises(ValueError, match="weights must be 3 positive, finite numbers"):
        StructureKernel(KERNELS, weights=weights).fit(SMILES)


def test_training_molecules_are_found_whatever_their_order():
    kernel = StructureKernel(KERNELS).fit(SMILES)
    whole = kernel(SMILES)
    order = np.array([3, 0, 4])
    np.testing.assert_array_equal(kernel(SMILES[order]), whole[np.ix_(order, order)])
    new = np.array(["CCO", "CCCCC"], dtype=object)
    np.testing.assert_allclose(kernel(new, SMILES)[0], whole[0])
    copy = pickle.loads(pickle.dumps(kernel))
    np.testing.assert_array_equal(copy(SMILES), whole)


def test_refuses_no_kernels():
    with pytest.raises(ValueError, match="kernels must hold one pair"):
        StructureKernel([]).fit(SMILES)


@pytest.mark.parametrize("length_scale", [0, -1.0, np.nan, np.inf, "a"])
def test_refuses_other_length_scales(length_scale):
    with pytest.raises(ValueError, match="length_scale must be a finite number above"):
        DescriptorKernel(length_scale=length_scale).fit(SMILES)


def test_what_a_fingerprinter_learnt_is_not_learnt_anew_from_queries():
    counts = MorganFingerprinter(count=True, fp_size=64)
    kernel = TanimotoKernel(make_pipeline(counts, MaxAbsScaler())).fit(SMILES[:4])
    new = np.array(["CCCCO", "CCCN", "c1ccccc1N"], dtype=object)
    scale = counts.fit_transform(SMILES[:4]).max(axis=0)
    scale = np.where(scale == 0, 1, scale)
    rows = [counts.transform(molecules) / scale for molecules in (new, SMILES[:4])]
    expected = slow_min_max(*rows)
    np.testing.assert_allclose(kernel(new, SMILES[:4]), expected)
    np.testing.assert_allclose(kernel(new[:1], SMILES[:4]), expected[:1])


def test_other_parameters_are_seen_without_a_fit():
    kernel = TanimotoKernel(MorganFingerprinter(1))
    kernel(SMILES)
    for fingerprinter in (MorganFingerprinter(3), MorganFingerprinter(3, count=True)):
        kernel.set_params(fingerprinter=fingerprinter)
        expected = TanimotoKernel(fingerprinter)(SMILES)
        np.testing.assert_array_equal(kernel(SMILES), expected)
    kernel.fingerprinter.set_params(radius=0)
    expected = TanimotoKernel(MorganFingerprinter(0, count=True))(SMILES)
    np.testing.assert_array_equal(kernel(SMILES), expected)


def test_sparse_rows_are_what_their_entries_add_up_to():
    """Entries may come twice or be 0, and the array may be read-only."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        parts = (rng.integers(0, 4, 6).astype(float), rng.integers(0, 4, 6), [0, 3, 6])
        rows = sparse.csr_array(parts, shape=(2, 4))
        others = rng.integers(0, 4, (3, 4)).astype(float)
        expected = slow_min_max(rows.toarray(), others)
        before = rows.data.copy()
        for array in (rows.data, rows.indices, rows.indptr):
            array.setflags(write=False)
        np.testing.assert_allclose(TanimotoKernel()(rows, others), expected)
        np.testing.assert_array_equal(rows.data, before)


def test_global_output_does_not_reach_inside():
    expected = StructureKernel().fit(SMILES)(SMILES[:2])
    with config_context(transform_output="pandas"):
        kernel = StructureKernel().fit(SMILES)
        np.testing.assert_array_equal(kernel(SMILES[:2]), expected)
        np.testing.assert_allclose(kernel(SMILES[:2], ["CCO"]).ravel()[0], 1)
