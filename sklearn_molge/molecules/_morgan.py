"""MorganFingerprinter: circular fingerprints."""

from numbers import Integral

from rdkit.Chem import rdFingerprintGenerator

from sklearn_molge._compat import Interval
from sklearn_molge.molecules._base import FingerprintTransformer

__all__ = ["MorganFingerprinter"]


class MorganFingerprinter(FingerprintTransformer):
    """Morgan (circular) fingerprints: the neighbourhood of every atom, hashed.

    The bits are those of RDKit's Morgan generator. Each distinct SMILES is read and
    computed once per call.

    Parameters
    ----------
    radius : int, default=2
        Largest neighbourhood of an atom, in bonds; 2 makes what is known as ECFP4.
    fp_size : int, default=2048
        Number of bits the neighbourhoods are hashed to.
    count : bool, default=False
        How often each neighbourhood occurs (uint32) instead of whether (uint8).
    feature_invariants : bool, default=False
        Describe atoms by their pharmacophoric roles (donor, acceptor, aromatic, ...)
        instead of their element and bonds: FCFP instead of ECFP.
    include_chirality : bool, default=False
        Let stereo-centres change the bits. Without it, stereo-isomers are equal.
    use_bond_types : bool, default=True
        Let the order of bonds change the bits.
    sparse_output : bool, default=False
        Return a sparse matrix; a molecule of drug size sets about 50 bits.
    n_jobs : int or None, default=None
        Number of processes; None is 1, or as a ``joblib.parallel_config`` says, and
        -1 all. The result does not depend on it.

    See Also
    --------
    MoleculeFingerprinter : Other fingerprints.
    MoleculeDescriptors : Standardised physico-chemical descriptors.

    Notes
    -----
    The transformer is stateless: `transform` can be called without `fit`. The integer
    output is small. scikit-learn's estimators convert it to the precision they need;
    arithmetic of your own should too, since a product of uint8 matrices wraps at 256.
    For the logarithm of counts put ``FunctionTransformer(np.log1p)`` behind.

    References
    ----------
    D. Rogers and M. Hahn, "Extended-connectivity fingerprints", Journal of Chemical
    Information and Modeling 50 (2010).

    Examples
    --------
    >>> from sklearn_molge.molecules import MorganFingerprinter
    >>> fingerprints = MorganFingerprinter().fit_transform(["CCO", "OCC", "CCN"])
    >>> fingerprints.shape, fingerprints.dtype
    ((3, 2048), dtype('uint8'))
    >>> fingerprints.sum(axis=1).tolist()  # bits set
    [6, 6, 6]
    >>> bool((fingerprints[0] == fingerprints[1]).all())
    True
    """

    _parameter_constraints: dict = {
        "radius": [Interval(Integral, 0, None, closed="left")],
        "fp_size": [Interval(Integral, 1, None, closed="left")],
        "count": ["boolean"],
        "feature_invariants": ["boolean"],
        "include_chirality": ["boolean"],
        "use_bond_types": ["boolean"],
        "sparse_output": ["boolean"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        radius=2,
        *,
        fp_size=2048,
        count=False,
        feature_invariants=False,
        include_chirality=False,
        use_bond_types=True,
        sparse_output=False,
        n_jobs=None,
    ):
        self.radius = radius
        self.fp_size = fp_size
        self.count = count
        self.feature_invariants = feature_invariants
        self.include_chirality = include_chirality
        self.use_bond_types = use_bond_types
        self.sparse_output = sparse_output
        self.n_jobs = n_jobs

    def _fingerprint_function(self):
        invariants = (
            rdFingerprintGenerator.GetMorganFeatureAtomInvGen()
            if self.feature_invariants
            else None
        )
        generator = rdFingerprintGenerator.GetMorganGenerator(
            radius=self.radius,
            fpSize=self.fp_size,
            includeChirality=self.include_chirality,
            useBondTypes=self.use_bond_types,
            atomInvariantsGenerator=invariants,
        )
        return generator.GetCountFingerprint if self.count else generator.GetFingerprint
