"""KernelFeatures: a kernel of molecules as features, for every other estimator."""

from numbers import Integral, Real

import numpy as np
from scipy import linalg
from sklearn.base import clone
from sklearn.gaussian_process.kernels import Kernel
from sklearn.utils import check_random_state

from sklearn_molge._compat import Interval
from sklearn_molge._utils.kernels import fit_kernel
from sklearn_molge.molecules._kernels import StructureKernel
from sklearn_molge.molecules._smiles import check_smiles
from sklearn_molge.molecules._transformer import SmilesTransformer

__all__ = ["KernelFeatures"]


class KernelFeatures(SmilesTransformer):
    r"""Features of molecules whose dot products are a kernel.

    A linear method on these features is the kernel method: ``make_pipeline(
    KernelFeatures(), CCA())`` is kernel CCA, with ``Ridge`` it is kernel ridge
    regression. The twin of scikit-learn's ``Nystroem``, for kernels of SMILES.

    Parameters
    ----------
    kernel : kernel or None, default=None
        A kernel of scikit-learn's kind over SMILES, such as
        :class:`~sklearn_molge.molecules.TanimotoKernel` or a sum. None takes
        :class:`~sklearn_molge.molecules.StructureKernel`.
    n_components : int, default=2000
        Largest number of training molecules that span the features. With at least as
        many as there are distinct ones the kernel is exact between them.
    smallest_eigenvalue : float, default=1e-6
        Directions with a smaller share of the largest eigenvalue are rounding errors,
        and left out.
    random_state : int, RandomState instance or None, default=None
        Chooses the molecules where there are more than `n_components`.

    Attributes
    ----------
    kernel_ : kernel
        The kernel used, fitted on the training molecules.
    components_ : ndarray of shape (n_molecules,)
        SMILES that span the features.
    normalization_ : ndarray of shape (n_molecules, n_features_out)
        The kernel to them times this matrix gives the features.

    See Also
    --------
    sklearn.kernel_approximation.Nystroem : The same for features.
    sklearn_molge.alignment.GaussianProcessRetriever : Takes kernels as they are.

    Notes
    -----
    With the eigenvalues :math:`\Lambda` and eigenvectors U of the kernel between the
    components, a molecule with the kernel k to them has the features
    :math:`k U \Lambda^{-1/2}` (Williams and Seeger 2001).

    References
    ----------
    C. K. I. Williams and M. Seeger, "Using the Nystroem method to speed up kernel
    machines", NIPS 2001.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_molge.molecules import (
    ...     KernelFeatures, MorganFingerprinter, TanimotoKernel,
    ... )
    >>> kernel = TanimotoKernel(MorganFingerprinter(count=True))
    >>> features = KernelFeatures(kernel).fit_transform(["CCO", "CCCO", "CCN"])
    >>> np.allclose(features @ features.T, kernel(["CCO", "CCCO", "CCN"]))
    True
    """

    _parameter_constraints: dict = {
        "kernel": [Kernel, None],
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "smallest_eigenvalue": [Interval(Real, 0, 1, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        kernel=None,
        *,
        n_components=2000,
        smallest_eigenvalue=1e-6,
        random_state=None,
    ):
        self.kernel = kernel
        self.n_components = n_components
        self.smallest_eigenvalue = smallest_eigenvalue
        self.random_state = random_state

    def _fit(self, texts):
        check_smiles(texts, wildcards=True)
        rng = check_random_state(self.random_state)
        self.components_ = texts
        if len(texts) > self.n_components:
            # Of the texts in order, so that the order of rows does not choose.
            chosen = rng.choice(len(texts), self.n_components, replace=False)
            self.components_ = np.sort(texts)[np.sort(chosen)]
        self.kernel_ = StructureKernel() if self.kernel is None else clone(self.kernel)
        fit_kernel(self.kernel_, self.components_)
        values, vectors = linalg.eigh(self.kernel_(self.components_))
        if values[0] < -self.smallest_eigenvalue * values[-1]:
            raise ValueError(
                "kernel must be positive semi-definite over the training molecules. "
                f"Got eigenvalues from {values[0]:.3g} to {values[-1]:.3g}."
            )
        kept = values > self.smallest_eigenvalue * values[-1]
        values, vectors = values[kept][::-1], vectors[:, kept][:, ::-1]
        self.normalization_ = vectors / np.sqrt(values)

    def _transform(self, texts):
        return self.kernel_(texts, self.components_) @ self.normalization_

    @property
    def _n_features_out(self):
        return self.normalization_.shape[1]
