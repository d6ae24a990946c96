"""Kernels of molecules, in the shape of scikit-learn's kernels."""

from __future__ import annotations

from functools import partial
from typing import Self

import joblib
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.gaussian_process.kernels import (
    GenericKernelMixin,
    Hyperparameter,
    Kernel,
    NormalizedKernelMixin,
)
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.utils import gen_batches
from sklearn.utils.validation import check_array

from sklearn_molge._compat import _safe_indexing
from sklearn_molge._utils.checks import check_named
from sklearn_molge._utils.identity import describe
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge._utils.typing import Matrix, Rows
from sklearn_molge.molecules._descriptors import MoleculeDescriptors
from sklearn_molge.molecules._fingerprints import (
    MoleculeFingerprinter,
    MorganFingerprinter,
)

__all__ = ["DescriptorKernel", "StructureKernel", "TanimotoKernel"]

_FP_SIZE = 2048
# Above this share of entries that are set, dense products are the quicker ones.
_DENSE = 0.03
_BLOCK_ROWS = 4096
# Of counts there are fewer; each level costs a product.
_MOST_LEVELS = 1000
# Whatever scikit-learn's output is set to.
_ARRAYS = partial(config_context, transform_output="default")


class _MoleculeKernel(GenericKernelMixin, NormalizedKernelMixin, Kernel):
    """Base: features of the molecules of `fit`, and of those seen last, are kept.

    A subclass has a transformer of SMILES, ``_transformer()``, and ``_compare(A, B)``
    of features.
    """

    _fitted: tuple[dict[str, int], object, Matrix] | None = None
    _last: tuple[NDArray, str, Matrix] | None = None

    def fit(self, X: Rows) -> Self:
        """Learn what the features need, and keep those of the training molecules.

        Parameters
        ----------
        X : array-like of shape (n_molecules,) or (n_molecules, n_features)
            Training molecules: SMILES, or features where there is no transformer.

        Returns
        -------
        self : object
            Fitted kernel.
        """
        transformer = self._transformer()
        self._last = self._fitted = None
        if transformer is not None:
            texts = as_smiles_array(X)
            with _ARRAYS():
                features = transformer.fit_transform(texts)
            rows = {text: row for row, text in enumerate(texts)}
            self._fitted = rows, transformer, features
        return self

    def __call__(self, X, Y=None, eval_gradient=False):
        """Return the kernel between the molecules of X and those of Y.

        Parameters
        ----------
        X : array-like of shape (n_molecules_X,) or (n_molecules_X, n_features)
            Molecules: SMILES, or features where there is no transformer.
        Y : array-like of shape (n_molecules_Y,) or (n_molecules_Y, n_features), \
                default=None
            Molecules; those of X if None.
        eval_gradient : bool, default=False
            Return the gradient too; there are no hyperparameters to be learnt.

        Returns
        -------
        K : ndarray of shape (n_molecules_X, n_molecules_Y)
            Between 0 and 1; 1 for equal features.
        K_gradient : ndarray of shape (n_molecules_X, n_molecules_X, 0)
            Only where `eval_gradient` is True.
        """
        right = self._features(X if Y is None else Y)
        K = self._compare(right if Y is None else self._features(X), right)
        return (K, np.empty((*K.shape, 0))) if eval_gradient else K

    def _features(self, X: Rows) -> Matrix:
        transformer = self._transformer()
        if transformer is None:
            return check_named(
                check_array, X, name="X", accept_sparse="csr", dtype=np.float64
            )
        texts = as_smiles_array(X)
        if self._fitted is not None:
            known, transformer, features = self._fitted
            rows = [known.get(text, -1) for text in texts]
            if min(rows, default=-1) >= 0:
                return _safe_indexing(features, rows)
        told = joblib.hash(describe(transformer, name=id))
        if self._last is not None and told == self._last[1]:
            if np.array_equal(texts, self._last[0]):
                return self._last[2]
        with _ARRAYS():
            features = self._transform(transformer, texts)
        self._last = texts, told, features
        return features

    def _transform(self, transformer, texts: NDArray) -> Matrix:
        if self._fitted is None:
            return transformer.fit_transform(texts)
        return transformer.transform(texts)

    def is_stationary(self) -> bool:
        """Whether the kernel depends on differences of features only: it does not."""
        return False

    def __getstate__(self):
        return {**self.__dict__, "_last": None}  # not the molecules of the last query


class TanimotoKernel(_MoleculeKernel):
    r"""Min-max kernel of counts, which is Tanimoto's coefficient of bits.

    A kernel of scikit-learn's kind: it adds and multiplies with others, and
    ``GaussianProcessRegressor``, ``KernelRidge`` and ``SVR`` take its values.

    Parameters
    ----------
    fingerprinter : transformer or None, default=None
        Transformer of SMILES into counts or bits, at least 0, such as
        ``MorganFingerprinter(count=True)``; None for features that X holds itself.

    See Also
    --------
    StructureKernel : The mean of several kernels.

    Notes
    -----
    .. math:: k(a, b) = \frac{\sum_j \min(a_j, b_j)}{\sum_j \max(a_j, b_j)}

    and 1 for two molecules without any feature; positive definite (Ralaivola et al.
    2005, Section 4.3).

    References
    ----------
    L. Ralaivola, S. J. Swamidass, H. Saigo and P. Baldi, "Graph kernels for chemical
    informatics", Neural Networks 18 (2005).

    Examples
    --------
    >>> from sklearn_molge.molecules import MorganFingerprinter, TanimotoKernel
    >>> TanimotoKernel()([[2, 0, 1], [1, 1, 1]]).round(2)
    array([[1. , 0.5],
           [0.5, 1. ]])
    >>> kernel = TanimotoKernel(MorganFingerprinter(count=True))
    >>> kernel(["CCO", "CCCO"]).round(2)
    array([[1. , 0.5],
           [0.5, 1. ]])
    """

    def __init__(self, fingerprinter=None):
        self.fingerprinter = fingerprinter

    def _transformer(self):
        return None if self.fingerprinter is None else clone(self.fingerprinter)

    def _compare(self, A, B):
        return _min_max(A, B)


class DescriptorKernel(_MoleculeKernel):
    r"""Gaussian kernel of descriptors that are scaled on the training molecules.

    Parameters
    ----------
    descriptors : transformer or None, default=None
        Transformer of SMILES into numbers; None is ``MoleculeDescriptors()``, which
        standardises and clips.
    length_scale : float or None, default=None
        Length scale l; None takes the root of half the median squared distance
        between the training molecules.

    Attributes
    ----------
    length_scale_ : float
        The length scale used.

    Notes
    -----
    :math:`k(a, b) = \exp(-|a - b|^2 / 2 l^2)`. `fit` learns scales and `length_scale_`
    from the training molecules;
    :class:`~sklearn_molge.alignment.GaussianProcessRetriever` calls it.

    Examples
    --------
    >>> from sklearn_molge.molecules import DescriptorKernel, MoleculeDescriptors
    >>> kernel = DescriptorKernel(MoleculeDescriptors(["MolWt", "NumHDonors"]))
    >>> kernel.fit(["CCO", "CCCCO", "CC=O"])(["CCO", "CCCCO"]).round(2)
    array([[1. , 0.4],
           [0.4, 1. ]])
    """

    def __init__(self, descriptors=None, length_scale=None):
        self.descriptors = descriptors
        self.length_scale = length_scale

    def _transformer(self):
        return clone(self.descriptors or MoleculeDescriptors())

    def fit(self, X) -> Self:
        """Learn the scales of the descriptors and the length scale.

        Parameters
        ----------
        X : array-like of shape (n_molecules,)
            SMILES of the training molecules.

        Returns
        -------
        self : object
            Fitted kernel.

        Raises
        ------
        ValueError
            If `length_scale` is not a finite number above 0.
        """
        given = self.length_scale
        is_number = isinstance(given, int | float | np.number)
        if given is not None and not (is_number and 0 < given < np.inf):
            raise ValueError(
                f"length_scale must be a finite number above 0, or None. Got {given!r}."
            )
        super().fit(X)
        median = _median_length(self._features(X)) if given is None else given
        self.length_scale_ = float(median)
        return self

    def _transform(self, transformer, texts):
        if self._fitted is None:
            raise NotFittedError(
                "This DescriptorKernel has no scales yet: call `fit` with the "
                "training molecules."
            )
        return super()._transform(transformer, texts)

    def _compare(self, A, B):
        squares = euclidean_distances(_as_float(A), _as_float(B), squared=True)
        return np.exp(squares / (-2 * self.length_scale_**2))


class StructureKernel(_MoleculeKernel):
    r"""Weighted mean of kernels of molecules; nine of them by default.

    Parameters
    ----------
    kernels : list of (str, kernel) or None, default=None
        Names and kernels. None takes the :class:`TanimotoKernel` of counts of "ecfp2",
        "ecfp3", "fcfp", "atom_pair", "torsion", "paths" (RDKit's) and "avalon", that
        of the "maccs" keys, and the :class:`DescriptorKernel` as "descriptors".
    weights : array-like of shape (n_kernels,) or None, default=None
        Positive weights of the kernels; None weights them equally.
    weights_bounds : tuple of two floats or "fixed", default=(1e-5, 1e5)
        Bounds of the weights where an optimiser looks for them, as scikit-learn's
        kernels have them. Only the ratios of the weights count.

    Notes
    -----
    :math:`k = \sum_i w_i k_i / \sum_i w_i`. Descriptors take 8 ms a molecule, all
    else together 4 ms; features of the training molecules and of the last others are
    kept.

    Examples
    --------
    >>> from sklearn_molge.molecules import (
    ...     MoleculeFingerprinter, MorganFingerprinter, StructureKernel, TanimotoKernel
    ... )
    >>> kernel = StructureKernel([
    ...     ("ecfp", TanimotoKernel(MorganFingerprinter(count=True))),
    ...     ("maccs", TanimotoKernel(MoleculeFingerprinter("maccs"))),
    ... ])
    >>> kernel.fit(["CCO", "CCCO", "c1ccccc1"])(["CCO", "CCCO"]).round(2)
    array([[1.  , 0.57],
           [0.57, 1.  ]])
    """

    def __init__(self, kernels=None, weights=None, weights_bounds=(1e-5, 1e5)):
        self.kernels = kernels
        self.weights = weights
        self.weights_bounds = weights_bounds

    @property
    def hyperparameter_weights(self) -> Hyperparameter:
        """The weights, as what an optimiser may change."""
        n = len(self._parts())
        return Hyperparameter("weights", "numeric", self.weights_bounds, n)

    @property
    def theta(self) -> NDArray[np.float64]:
        """Logarithms of the weights."""
        if self.hyperparameter_weights.fixed:
            return np.empty(0)
        return np.log(self._weights())

    @theta.setter
    def theta(self, theta):
        if not self.hyperparameter_weights.fixed:
            self.weights = np.exp(np.asarray(theta))

    def fit(self, X) -> Self:
        """Fit the kernels on the training molecules.

        Parameters
        ----------
        X : array-like of shape (n_molecules,)
            SMILES of the training molecules.

        Returns
        -------
        self : object
            Fitted kernel.

        Raises
        ------
        ValueError
            If `kernels` or `weights` are not as described above.
        """
        self._weights()
        self.kernels_ = [clone(kernel) for _, kernel in self._parts()]
        for kernel in self.kernels_:
            if hasattr(kernel, "fit"):
                kernel.fit(X)
        return self

    def __call__(self, X, Y=None, eval_gradient=False):
        """Return the weighted mean of the kernels.

        Parameters
        ----------
        X : array-like of shape (n_molecules_X,)
            SMILES.
        Y : array-like of shape (n_molecules_Y,), default=None
            SMILES; those of X if None.
        eval_gradient : bool, default=False
            Return the gradient with respect to the logarithms of the weights too.

        Returns
        -------
        K : ndarray of shape (n_molecules_X, n_molecules_Y)
            Between 0 and 1.
        K_gradient : ndarray of shape (n_molecules_X, n_molecules_X, n_kernels)
            Only where `eval_gradient` is True; no entries where the weights are fixed.
        """
        if not hasattr(self, "kernels_"):
            raise NotFittedError(
                "This StructureKernel is not fitted yet: call `fit` with the training "
                "molecules."
            )
        weights = self._weights()
        shares = weights / weights.sum()
        parts = (kernel(X, Y) for kernel in self.kernels_)
        if not eval_gradient:
            return sum(s * part for s, part in zip(shares, parts, strict=True))
        values = np.stack(list(parts), axis=-1)
        K = values @ shares
        if self.hyperparameter_weights.fixed:
            return K, np.empty((*K.shape, 0))
        return K, (values - K[..., None]) * shares

    def _parts(self):
        return _default_kernels() if self.kernels is None else self.kernels

    def _weights(self) -> NDArray:
        n = len(self._parts())
        if not n:
            raise ValueError("kernels must hold one pair of name and kernel or more.")
        if self.weights is None:
            return np.ones(n)
        weights = np.asarray(self.weights, dtype=np.float64)
        if weights.shape != (n,) or not ((weights > 0) & (weights < np.inf)).all():
            raise ValueError(
                f"weights must be {n} positive, finite numbers, one a kernel. "
                f"Got {self.weights!r}."
            )
        return weights


def _default_kernels():
    counted = {"count": True, "fp_size": _FP_SIZE, "sparse_output": True}
    fingerprinters = {
        "ecfp2": MorganFingerprinter(2, **counted),
        "ecfp3": MorganFingerprinter(3, **counted),
        "fcfp": MorganFingerprinter(2, feature_invariants=True, **counted),
        "atom_pair": MoleculeFingerprinter("atom_pair", **counted),
        "torsion": MoleculeFingerprinter("torsion", **counted),
        "paths": MoleculeFingerprinter("rdkit", **counted),
        "avalon": MoleculeFingerprinter("avalon", **counted),
        "maccs": MoleculeFingerprinter("maccs", sparse_output=True),
    }
    kernels = [(name, TanimotoKernel(f)) for name, f in fingerprinters.items()]
    return [*kernels, ("descriptors", DescriptorKernel())]


# -- values ---------------------------------------------------------------------------


def _as_float(A) -> NDArray:
    return np.asarray(A.toarray() if sparse.issparse(A) else A, dtype=np.float64)


def _median_length(features) -> float:
    squares = euclidean_distances(_as_float(features), squared=True)
    apart = squares[squares > 0]
    return float(np.sqrt(np.median(apart) / 2)) if apart.size else 1.0


def _min_max(A: Matrix, B: Matrix) -> NDArray:
    """Sum of the minima over the sum of the maxima."""
    A, B = _counts(A), _counts(B)
    totals = np.asarray(B.sum(axis=1)).ravel()
    result = np.empty((A.shape[0], B.shape[0]))
    for rows in gen_batches(A.shape[0], _BLOCK_ROWS):
        block = A[rows]
        shared = _sum_of_minima(block, B)
        sums = np.asarray(block.sum(axis=1)).ravel()[:, None] + totals - shared
        empty = sums == 0
        result[rows] = np.where(empty, 1.0, shared / np.where(empty, 1.0, sums))
    return result


def _counts(A: Matrix) -> sparse.csr_array:
    A = sparse.csr_array(A, dtype=np.float64)
    if not (A.has_canonical_format and A.data.all()):
        A = A.copy()  # it may be the caller's, and read-only
        A.sum_duplicates()
        A.eliminate_zeros()
    if A.data.size and not A.data.min() >= 0:
        raise ValueError(
            "X must hold counts or bits, numbers of at least 0, for Tanimoto's "
            f"coefficient. Got {A.data.min():.4g}."
        )
    return A


def _sum_of_minima(A: sparse.csr_array, B: sparse.csr_array) -> NDArray:
    """Sum over features of the smaller value.

    The smaller of two values is the sum, over the levels that both reach, of the steps
    between levels: so it is a product of indicators, one column a feature and level.
    """
    highest = min(A.data.max(initial=0), B.data.max(initial=0))
    levels = np.unique(np.concatenate([A.data, B.data]))
    levels = levels[levels <= highest]
    if len(levels) > _MOST_LEVELS:  # no counts
        dense = B.toarray()
        return np.array([np.minimum(row, dense).sum(axis=1) for row in A.toarray()])
    shared = np.zeros((A.shape[0], B.shape[0]))
    steps = np.diff(levels, prepend=0)
    n_dense = 0
    for level, step in zip(levels, steps, strict=True):
        a, b = _at_least(A, level), _at_least(B, level)
        if min(_share(a), _share(b)) < _DENSE:
            break
        shared += step * (a.toarray() @ b.toarray().T)
        n_dense += 1
    a, b = _unary(A, levels, n_dense), _unary(B, levels, n_dense)
    b.data = steps[b.indices % len(levels)] if len(levels) else b.data
    return shared + (a @ b.T).toarray()


def _share(rows) -> float:
    return rows.nnz / max(1, rows.shape[0] * rows.shape[1])


def _at_least(rows, level) -> sparse.csr_array:
    # float32 counts exactly up to 2**24, more than there are features.
    reached = (rows.data >= level).astype(np.float32)
    parts = (reached, rows.indices, rows.indptr)
    result = sparse.csr_array(parts, shape=rows.shape, copy=True)
    result.eliminate_zeros()
    return result


def _unary(rows, levels, first) -> sparse.csr_array:
    """One column a feature and level, 1 where a level from `first` on is reached."""
    reached = np.searchsorted(levels, rows.data, side="right")
    n_columns = np.maximum(reached - first, 0)
    ends = np.cumsum(n_columns)
    steps = np.arange(ends[-1] if len(ends) else 0) - np.repeat(
        ends - n_columns, n_columns
    )
    indices = np.repeat(rows.indices.astype(np.int64) * len(levels), n_columns)
    indptr = np.concatenate([[0], ends])[rows.indptr]
    return sparse.csr_array(
        (np.ones(len(indices)), indices + steps + first, indptr),
        shape=(rows.shape[0], rows.shape[1] * max(1, len(levels))),
    )
