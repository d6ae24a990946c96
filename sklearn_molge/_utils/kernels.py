"""Kernels of scikit-learn's kind, some of which learn from the training molecules."""

from sklearn.gaussian_process.kernels import Exponentiation, KernelOperator

__all__ = ["fit_kernel"]


def fit_kernel(kernel, molecules):
    """Hand the training molecules to every kernel inside `kernel` that learns."""
    if isinstance(kernel, KernelOperator):
        fit_kernel(kernel.k1, molecules)
        fit_kernel(kernel.k2, molecules)
    elif isinstance(kernel, Exponentiation):
        fit_kernel(kernel.kernel, molecules)
    elif hasattr(kernel, "fit"):
        kernel.fit(molecules)
