"""AnnotationKernel: molecules that should have the same mechanisms and targets."""

from __future__ import annotations

import warnings
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import normalize
from sklearn.utils.validation import check_array

from sklearn_molge._utils.checks import check_named, check_same_rows
from sklearn_molge._utils.messages import first_few_at
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.exceptions import LeakageWarning
from sklearn_molge.molecules._annotations import AnnotationMatrix
from sklearn_molge.molecules._fingerprints import (
    MoleculeFingerprinter,
    MorganFingerprinter,
)
from sklearn_molge.molecules._identity import drug_ids
from sklearn_molge.molecules._kernels import (
    StructureKernel,
    TanimotoKernel,
    _MoleculeKernel,
)
from sklearn_molge.molecules._smiles import check_smiles, parsed_once

__all__ = ["AnnotationKernel"]

_FP_SIZE = 4096


class AnnotationKernel(_MoleculeKernel):
    r"""Cosine between the labels that other annotated molecules let expect.

    Libraries of drugs come with mechanisms of action and targets. Kernel ridge
    regression predicts these labels from structure, for every molecule from *other*
    molecules: its own labels never count, so that a molecule nobody has annotated is
    treated as one that somebody has. Mixed into a kernel of structures it says which
    differences between structures matter.

    Parameters
    ----------
    molecules : array-like of shape (n_annotated,)
        SMILES of the annotated molecules. Rows of one drug are joined, by
        :func:`~sklearn_molge.molecules.drug_ids`: it has the labels of any of them.
    labels : AnnotationMatrix, array-like or sparse matrix of shape \
            (n_annotated, n_labels)
        Their labels, 0 or 1, as :func:`annotation_matrix` makes them of a table, and
        scikit-learn's ``MultiLabelBinarizer`` of lists.
    kernel : kernel or None, default=None
        Kernel of structures by which labels are predicted. None takes the mean of the
        :class:`TanimotoKernel` of ECFP, FCFP, atom pairs, torsions and MACCS keys.
    alpha : float, default=0.3
        Ridge of the regression, above 0.
    exclude : array-like of shape (n_excluded,) or None, default=None
        SMILES of molecules whose labels are not used for any molecule, such as those of
        a test set: for a new molecule nobody knows labels.

    Attributes
    ----------
    n_annotated_ : int
        Number of annotated drugs that are used.

    See Also
    --------
    StructureKernel : Mixes this kernel with others.

    Notes
    -----
    With the kernel matrix K of the annotated drugs and their labels Y, a molecule x is
    expected to have the labels :math:`k(x)^\top (K + \alpha I)^{-1} Y`; an annotated
    drug i the leave-one-out prediction :math:`Y_i - (A^{-1} Y)_i / (A^{-1})_{ii}` with
    :math:`A = K + \alpha I` (Rasmussen and Williams 2006, Section 5.4.2). The kernel is
    the cosine of these vectors; two molecules like no annotated one have 1.

    Put candidates into `exclude`: the label of one that is not excluded counts for its
    neighbours among the candidates but not for itself, which puts them before it. The
    kernel of such molecules with others comes with a ``LeakageWarning``.

    A share of 0.15 raised the mean reciprocal rank of
    :class:`~sklearn_molge.alignment.GaussianProcessRetriever` on real profiles by 0.004
    [-0.002, +0.011] (see docs/benchmarks.md): not for certain. 2,600 annotated drugs
    take 10 s to fit.

    References
    ----------
    C. E. Rasmussen and C. K. I. Williams, "Gaussian Processes for Machine Learning",
    MIT Press 2006.

    Examples
    --------
    >>> from sklearn.preprocessing import MultiLabelBinarizer
    >>> from sklearn_molge.molecules import AnnotationKernel, StructureKernel
    >>> mechanisms = ["alcohol", "alcohol", "aromatic", "aromatic|alcohol"]
    >>> labels = MultiLabelBinarizer().fit_transform(m.split("|") for m in mechanisms)
    >>> kernel = AnnotationKernel(["CCO", "CCCO", "c1ccccc1C", "c1ccccc1O"], labels)
    >>> kernel.fit(["CCO"])(["CCO", "CCCCO", "c1ccccc1CC"]).round(2)
    array([[1.  , 1.  , 0.51],
           [1.  , 1.  , 0.46],
           [0.51, 0.46, 1.  ]])
    >>> mixed = 0.85 * StructureKernel() + 0.15 * kernel
    """

    def __init__(self, molecules, labels, *, kernel=None, alpha=0.3, exclude=None):
        self.molecules = molecules
        self.labels = labels
        self.kernel = kernel
        self.alpha = alpha
        self.exclude = exclude

    def _transformer(self):
        return _LabelRegression(self.kernel, self.alpha)

    def fit(self, X) -> Self:
        """Learn to predict labels, and predict those of the training molecules.

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
            If lengths differ, labels are not 0 or 1, `alpha` is not above 0, or fewer
            than two annotated drugs are left.
        InvalidSmilesError
            With index and text of every bad SMILES.
        """
        texts = as_smiles_array(X)
        check_smiles(texts)
        molecules, drugs, labels = self._annotations()
        regression = self._transformer().fit(molecules, drugs, labels)
        self._last = None
        rows = {text: row for row, text in enumerate(texts)}
        self._fitted = rows, regression, _with_empty(regression.predict(texts))
        place, is_annotated = regression.find(texts)
        self._trained = place[is_annotated]
        self.n_annotated_ = len(drugs)
        return self

    def predict_labels(self, X) -> NDArray[np.float64]:
        """Say how much each label is to be expected of molecules.

        Parameters
        ----------
        X : array-like of shape (n_molecules,)
            SMILES.

        Returns
        -------
        expected : ndarray of shape (n_molecules, n_labels)
            About 0 where nothing hints at a label, about 1 where much does.
        """
        return self._regression().predict(as_smiles_array(X))

    def _regression(self):
        if self._fitted is None:
            raise NotFittedError(
                "This AnnotationKernel is not fitted yet: call `fit` with the training "
                "molecules."
            )
        return self._fitted[1]

    def _transform(self, transformer, texts):
        regression = self._regression()
        with parsed_once():
            self._say_used(texts, *regression.find(texts))
            return _with_empty(regression.predict(texts))

    def _say_used(self, texts, place, is_annotated):
        """Warn of molecules whose labels count, and that are not of the training."""
        new = np.flatnonzero(is_annotated & ~np.isin(place, self._trained))
        if len(new):
            warnings.warn(
                f"{len(new):,} of {len(texts):,} molecules are annotated, and neither "
                f"in the training nor in `exclude`: "
                f"{first_few_at(new, texts[new], n=3)}. Their labels count for their "
                "neighbours among the candidates, as no new molecule's can.",
                LeakageWarning,
                stacklevel=5,
            )

    def _compare(self, A, B):
        return A @ B.T

    def _annotations(self):
        """Return one molecule, the identity and the labels of each annotated drug."""
        is_number = isinstance(self.alpha, int | float | np.number)
        if not (is_number and 0 < self.alpha < np.inf):
            raise ValueError(
                f"alpha must be a finite number above 0. Got {self.alpha!r}."
            )
        molecules = check_smiles(self.molecules)
        labels = self._label_matrix()
        check_same_rows(molecules=molecules, labels=labels)
        labels = sparse.csr_array(labels, dtype=np.float64)
        if not np.isin(labels.data, (0, 1)).all():
            raise ValueError(
                "labels must be 0 or 1, as MultiLabelBinarizer makes them. Got "
                f"{labels.data[~np.isin(labels.data, (0, 1))][0]:.4g}."
            )
        order = np.argsort(molecules, kind="stable")  # one spelling, whatever the rows'
        molecules, labels = molecules[order], labels[order]
        drugs, first, codes = np.unique(
            drug_ids(molecules), return_index=True, return_inverse=True
        )
        rows = np.arange(len(codes))
        joined = sparse.csr_array((np.ones(len(codes)), (codes, rows))) @ labels
        used = np.ones(len(drugs), dtype=bool)
        if self.exclude is not None:
            used = ~np.isin(drugs, drug_ids(self.exclude))
        if used.sum() < 2:
            raise ValueError(
                f"molecules must hold at least 2 drugs that are not in exclude. Got "
                f"{used.sum()} of {len(drugs)}."
            )
        Y = np.minimum(joined.toarray(), 1)[used]
        return molecules[first[used]], drugs[used], Y

    def _label_matrix(self):
        """Return labels as an array of numbers or a sparse one."""
        labels = self.labels
        if isinstance(labels, AnnotationMatrix):
            labels = labels.matrix
        try:
            return check_named(check_array, labels, name="labels", accept_sparse="csr")
        except (TypeError, ValueError) as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(
                f"{error} annotation_matrix makes labels of a table's texts."
            ) from None


class _LabelRegression:
    """Kernel ridge regression that leaves each molecule's own labels out."""

    def __init__(self, kernel, alpha):
        self.kernel = kernel
        self.alpha = alpha

    def fit(self, molecules: NDArray, drugs: NDArray, Y: NDArray) -> _LabelRegression:
        self.kernel = _default_kernel() if self.kernel is None else clone(self.kernel)
        if hasattr(self.kernel, "fit"):
            self.kernel.fit(molecules)
        A = self.kernel(molecules) + self.alpha * np.eye(len(molecules))
        inverse = linalg.inv(A, overwrite_a=True)
        self.molecules, self.drugs = molecules, drugs
        self.coefficients = inverse @ Y
        self.left_out = Y - self.coefficients / np.diag(inverse)[:, None]
        return self

    def predict(self, texts: NDArray) -> NDArray:
        expected = self.kernel(texts, self.molecules) @ self.coefficients
        place, own = self.find(texts)
        expected[own] = self.left_out[place[own]]
        return expected

    def find(self, texts: NDArray) -> tuple[NDArray, NDArray]:
        """Return the place of each molecule among the annotated, and if it is there."""
        drugs = drug_ids(texts)
        place = np.searchsorted(self.drugs, drugs).clip(max=len(self.drugs) - 1)
        return place, self.drugs[place] == drugs


def _with_empty(expected: NDArray) -> NDArray:
    """Scale to unit length; rows that say nothing get a column of their own."""
    empty = np.abs(expected).max(axis=1, keepdims=True) <= 1e-12
    return np.hstack([normalize(np.where(empty, 0, expected)), empty])


def _default_kernel() -> StructureKernel:
    counted = {"count": True, "fp_size": _FP_SIZE, "sparse_output": True}
    fingerprinters = {
        "ecfp": MorganFingerprinter(2, **counted),
        "fcfp": MorganFingerprinter(2, feature_invariants=True, **counted),
        "atom_pair": MoleculeFingerprinter("atom_pair", **counted),
        "torsion": MoleculeFingerprinter("torsion", **counted),
        "maccs": MoleculeFingerprinter("maccs", sparse_output=True),
    }
    return StructureKernel([(n, TanimotoKernel(f)) for n, f in fingerprinters.items()])
