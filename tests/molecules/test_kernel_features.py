"""KernelFeatures: dot products are the kernel."""

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import ConstantKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import (
    KernelFeatures,
    MorganFingerprinter,
    StructureKernel,
    TanimotoKernel,
)

SMILES = np.array(
    ["CCO", "CCCO", "c1ccccc1O", "CC(=O)O", "CCN", "CCOCC", "Clc1ccccc1", "CCO"],
    dtype=object,
)
NEW = np.array(["CCCCO", "c1ccccc1N"], dtype=object)
KERNEL = TanimotoKernel(MorganFingerprinter(count=True))


def test_dot_products_are_the_kernel():
    transformer = KernelFeatures(KERNEL).fit(SMILES)
    features = transformer.transform(SMILES)
    np.testing.assert_allclose(features @ features.T, KERNEL(SMILES), atol=1e-10)
    new = transformer.transform(NEW)
    np.testing.assert_allclose(new @ features.T, KERNEL(NEW, SMILES), atol=1e-10)
    assert len(transformer.components_) == 7


def test_ridge_on_the_features_is_kernel_ridge():
    y = np.random.default_rng(0).normal(size=(7, 3))
    transformer = KernelFeatures(KERNEL).fit(SMILES[:7])
    ridge = Ridge(alpha=0.5, fit_intercept=False)
    ridge.fit(transformer.transform(SMILES[:7]), y)
    peer = KernelRidge(alpha=0.5, kernel="precomputed").fit(KERNEL(SMILES[:7]), y)
    np.testing.assert_allclose(
        ridge.predict(transformer.transform(NEW)),
        peer.predict(KERNEL(NEW, SMILES[:7])),
        atol=1e-10,
    )


def test_fewer_components_are_those_of_a_seed_whatever_the_order():
    first = KernelFeatures(KERNEL, n_components=4, random_state=0).fit(SMILES)
    again = KernelFeatures(KERNEL, n_components=4, random_state=0).fit(SMILES[::-1])
    np.testing.assert_array_equal(first.components_, again.components_)
    assert first.transform(NEW).shape[1] <= 4
    chosen = first.components_
    inner = first.transform(chosen)
    np.testing.assert_allclose(inner @ inner.T, KERNEL(chosen), atol=1e-10)


def test_kernels_that_learn_are_fitted():
    mixed = 0.5 * StructureKernel([("ecfp", KERNEL)]) + 0.5 * KERNEL
    found = KernelFeatures(mixed).fit_transform(SMILES)
    np.testing.assert_allclose(found @ found.T, KERNEL(SMILES), atol=1e-10)
    assert not hasattr(mixed.k1.k2, "kernels_")


def test_refuses_what_is_no_molecule_or_no_kernel():
    with pytest.raises(InvalidSmilesError, match="index 2"):
        KernelFeatures(KERNEL).fit(["CCO", "CCN", "no"])
    with pytest.raises(ValueError, match="positive semi-definite"):
        KernelFeatures(KERNEL + ConstantKernel(4) * KERNEL**2 * -1.0).fit(SMILES)
    with pytest.raises(ValueError, match="n_components"):
        KernelFeatures(n_components=0).fit(SMILES)
    with pytest.raises(ValueError, match="0 sample"):
        KernelFeatures(KERNEL).fit(SMILES).transform([])
