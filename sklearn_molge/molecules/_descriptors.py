"""MoleculeDescriptors: RDKit's 2-D descriptors, standardised."""

from numbers import Integral, Real

import numpy as np
from rdkit.Chem import Descriptors
from rdkit.rdBase import BlockLogs
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import Interval, _fit_context
from sklearn_molge.molecules._smiles import check_smiles
from sklearn_molge.molecules._transformer import SmilesTransformer

__all__ = ["MoleculeDescriptors"]

_FUNCTIONS = dict(Descriptors.descList)
# Ipc grows exponentially with the molecule, beyond 1e40; AvgIpc says the same.
_UNSTABLE = frozenset({"Ipc"})


class MoleculeDescriptors(SmilesTransformer):
    r"""RDKit's 2-D descriptors, standardised by the training molecules.

    Physico-chemical properties, charges, topological indices and counts of fragments.
    Each distinct SMILES is computed once per call, which takes 5 to 10 ms.

    Parameters
    ----------
    names : list of str or None, default=None
        Descriptors by their names in ``rdkit.Chem.Descriptors.descList``, in this
        order. None takes all of them but "Ipc", which overflows; "AvgIpc" is there.
    clip : float or None, default=5.0
        Limit of the standardised values on both sides, in standard deviations, so that
        a rare fragment or an odd molecule does not dominate; None sets no limit.
    n_jobs : int or None, default=None
        Number of processes; None is 1, or as a ``joblib.parallel_config`` says, and
        -1 all. The result does not depend on it.

    Attributes
    ----------
    names_ : list of str
        The descriptors, one a column.
    mean_ : ndarray of shape (n_descriptors,)
        Mean over the distinct training SMILES where the descriptor is defined, NaN
        if it never is.
    scale_ : ndarray of shape (n_descriptors,)
        Standard deviation over the same, 0 for a constant descriptor.

    See Also
    --------
    MorganFingerprinter : Circular fingerprints.

    Notes
    -----
    A value x becomes :math:`(x - \text{mean}) / \text{scale}`, clipped. A drug seen in
    many profiles counts once in mean and scale. A value that RDKit cannot compute (NaN
    or infinite, as partial charges of metals) becomes 0, the training mean, and so does
    every value of a descriptor that is constant in training. The paper's encoder used
    200 of these descriptors, scaled by their distribution over another set of
    molecules, with the training mean in place of NaN.

    Examples
    --------
    >>> from sklearn_molge.molecules import MoleculeDescriptors
    >>> descriptors = MoleculeDescriptors(["MolWt", "NumHDonors"])
    >>> descriptors.fit_transform(["CCO", "CCCCO", "CC=O"]).round(2)
    array([[-0.63,  0.71],
           [ 1.41,  0.71],
           [-0.78, -1.41]], dtype=float32)
    >>> descriptors.get_feature_names_out()
    array(['MolWt', 'NumHDonors'], dtype=object)
    """

    _parameter_constraints: dict = {
        "names": [list, tuple, None],
        "clip": [Interval(Real, 0, None, closed="neither"), None],
        "n_jobs": [Integral, None],
    }

    def __init__(self, names=None, *, clip=5.0, n_jobs=None):
        self.names = names
        self.clip = clip
        self.n_jobs = n_jobs

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y=None):
        """Learn mean and scale of each descriptor.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            SMILES.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        self : object
            Fitted transformer.

        Raises
        ------
        InvalidSmilesError
            With index and text of every bad entry.
        ValueError
            If `names` holds an unknown descriptor, or one twice.
        """
        self._fit(X)
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def fit_transform(self, X, y=None):
        """Learn mean and scale, and compute; each molecule once for both.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            SMILES.
        y : Ignored
            Not used, present for API consistency.

        Returns
        -------
        descriptors : ndarray of shape (n_samples, n_descriptors), dtype=float32
            Standardised descriptors.

        Raises
        ------
        InvalidSmilesError
            With index and text of every bad entry.
        ValueError
            If `names` holds an unknown descriptor, or one twice.
        """
        return self._standardize(*self._fit(X))

    def transform(self, X):
        """Compute the standardised descriptors.

        Parameters
        ----------
        X : array-like of shape (n_samples,) or (n_samples, 1)
            SMILES.

        Returns
        -------
        descriptors : ndarray of shape (n_samples, n_descriptors), dtype=float32
            Standardised descriptors.

        Raises
        ------
        InvalidSmilesError
            With index and text of every bad entry.
        """
        check_is_fitted(self)
        return self._standardize(*self._descriptors(X))

    def get_feature_names_out(self, input_features=None):
        """Names of the descriptors.

        Parameters
        ----------
        input_features : Ignored
            Not used, present for API consistency.

        Returns
        -------
        names : ndarray of shape (n_descriptors,), dtype=object
            As in `names_`.
        """
        check_is_fitted(self)
        return np.array(self.names_, dtype=object)

    def _fit(self, X):
        self.names_ = _check_names(self.names)
        values, codes = self._descriptors(X)
        with np.errstate(invalid="ignore"):  # a descriptor may never be defined
            scaler = StandardScaler().fit(values)
        # StandardScaler puts 1 for a descriptor that is constant up to rounding.
        varies = scaler.scale_ == np.sqrt(scaler.var_)
        self.mean_, self.scale_ = scaler.mean_, np.where(varies, scaler.scale_, 0.0)
        return values, codes

    def _descriptors(self, X):
        """Descriptors of the distinct texts, NaN where undefined, and their codes."""
        # Reading is quick beside computing: an error shows at once.
        values, codes = self._distinct_features(check_smiles(X))
        return np.where(np.isfinite(values), values, np.nan), codes

    def _standardize(self, values, codes):
        limit = np.inf if self.clip is None else self.clip
        z = np.zeros_like(values)
        np.divide(values - self.mean_, self.scale_, out=z, where=self.scale_ > 0)
        z = np.nan_to_num(z.clip(-limit, limit), copy=False, nan=0.0)
        return z.astype(np.float32)[codes]

    def _featurize(self, mols):
        functions = [_FUNCTIONS[name] for name in self.names_]
        with BlockLogs():
            rows = [[_value(function, mol) for function in functions] for mol in mols]
        return np.array(rows, dtype=np.float64)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags


def _check_names(names):
    if names is None:
        return [name for name in _FUNCTIONS if name not in _UNSTABLE]
    unknown = [name for name in names if name not in _FUNCTIONS]
    if unknown or len(names) == 0 or len(set(names)) < len(names):
        raise ValueError(
            "names must be names in rdkit.Chem.Descriptors.descList, each once. "
            f"Got {list(names)!r}" + (f", unknown: {unknown!r}." if unknown else ".")
        )
    return list(names)


def _value(function, mol):
    try:
        return function(mol)
    except Exception:  # RDKit raises errors of many kinds for odd molecules
        return np.nan
