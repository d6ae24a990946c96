"""MoleculeDescriptors: RDKit's 2-D descriptors, standardised."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from numpy.typing import NDArray
from rdkit.Chem import Descriptors
from rdkit.rdBase import BlockLogs
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge._utils.interrupts import one_by_one
from sklearn_molge.molecules._smiles import MAX_ATOMS
from sklearn_molge.molecules._transformer import SmilesTransformer

__all__ = ["MoleculeDescriptors"]

_FUNCTIONS = dict(Descriptors.descList)
# Ipc grows exponentially with the molecule, beyond 1e40; AvgIpc says the same.
_UNSTABLE = frozenset({"Ipc"})


class MoleculeDescriptors(SmilesTransformer):
    r"""RDKit's 2-D descriptors, standardised on the training molecules.

    Physico-chemical properties, charges, topological indices and fragment counts. Each
    distinct SMILES is computed once per call, which takes 5 to 10 ms.

    Parameters
    ----------
    names : list of str or None, default=None
        Descriptors by their names in ``rdkit.Chem.Descriptors.descList``, in this
        order. None takes all of them except "Ipc", which overflows ("AvgIpc" is kept).
    clip : float or None, default=5.0
        Limit of the standardised values on both sides, in standard deviations, so that
        a rare fragment or an odd molecule does not dominate; None sets no limit.
    n_jobs : int or None, default=None
        Number of processes; None is 1 unless ``joblib.parallel_config`` says otherwise,
        -1 takes all cores. The result does not depend on it.
    on_bad_smiles : {"raise", "nan"}, default="raise"
        What becomes of entries that are no molecules: "raise" names them all in an
        error; "nan" gives them rows of NaN, in float32, and counts them in an
        :class:`~sklearn_molge.exceptions.InvalidSmilesWarning`.
    max_atoms : int, default=300
        Most heavy atoms of a molecule; a larger one is a bad entry. The time grows with
        the fourth power: 0.2 s at 100 atoms, 1.5 s at 300, minutes at 1,000 ("AvgIpc").

    Attributes
    ----------
    names_ : list of str
        The descriptors, one per column.
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
        "max_atoms": [Interval(Integral, 1, MAX_ATOMS, closed="both")],
        "on_bad_smiles": [StrOptions({"raise", "nan"})],
    }

    _reads_first = True

    def __init__(
        self, names=None, *, clip=5.0, n_jobs=None, on_bad_smiles="raise", max_atoms=300
    ):
        self.names = names
        self.clip = clip
        self.n_jobs = n_jobs
        self.on_bad_smiles = on_bad_smiles
        self.max_atoms = max_atoms

    def get_feature_names_out(self, input_features=None) -> NDArray[np.object_]:
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

    def _fit(self, texts):
        self.names_ = _check_names(self.names)
        values = self._descriptors(texts)
        with np.errstate(invalid="ignore"):  # a descriptor may never be defined
            scaler = StandardScaler().fit(values)
        # StandardScaler puts 1 for a descriptor that is constant up to rounding.
        varies = scaler.scale_ == np.sqrt(scaler.var_)
        self.mean_, self.scale_ = scaler.mean_, np.where(varies, scaler.scale_, 0.0)
        return values

    def _fit_transform(self, texts):
        return self._standardize(self._fit(texts))

    def _transform(self, texts):
        return self._standardize(self._descriptors(texts))

    def _descriptors(self, texts):
        """Descriptors of the texts, NaN where undefined."""
        values = self._features(texts)
        return np.where(np.isfinite(values), values, np.nan)

    def _standardize(self, values):
        limit = np.inf if self.clip is None else self.clip
        z = np.zeros_like(values)
        np.divide(values - self.mean_, self.scale_, out=z, where=self.scale_ > 0)
        return np.nan_to_num(z.clip(-limit, limit), nan=0.0).astype(np.float32)

    def _featurize(self, mols):
        functions = [_FUNCTIONS[name] for name in self.names_]
        with BlockLogs():
            rows = [
                [_value(function, mol) for function in functions]
                for mol in one_by_one(mols)
            ]
        return np.array(rows, dtype=np.float64)


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
