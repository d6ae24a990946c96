"""Fingerprints: MorganFingerprinter and MoleculeFingerprinter."""

from collections.abc import Callable
from functools import partial
from itertools import chain
from numbers import Integral

import numpy as np
from rdkit.Avalon import pyAvalonTools
from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors
from scipy import sparse
from sklearn import get_config

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge._utils.interrupts import one_by_one
from sklearn_molge.molecules._smiles import MAX_ATOMS
from sklearn_molge.molecules._transformer import SmilesTransformer

__all__ = ["FingerprintTransformer", "MoleculeFingerprinter", "MorganFingerprinter"]


class FingerprintTransformer(SmilesTransformer):
    """Base of the fingerprints, which learn nothing.

    A subclass has the parameters constrained here, and ``_fingerprint_function()``,
    which refuses parameters that do not go together and returns the function from a
    molecule to RDKit's fingerprint of it.
    """

    _parameter_constraints: dict = {
        "fp_size": [Interval(Integral, 1, None, closed="left")],
        "count": ["boolean"],
        "include_chirality": ["boolean"],
        "sparse_output": ["boolean"],
        "n_jobs": [Integral, None],
        "on_bad_smiles": [StrOptions({"raise", "nan"})],
    }

    def _fit(self, texts):
        self._fingerprint_function()
        self._features(texts, wildcards=False)  # kept for `transform`

    def _fit_transform(self, texts):
        return self._transform(texts)

    def _transform(self, texts):
        self._fingerprint_function()
        features = self._features(texts)
        if not self.sparse_output:
            return features.toarray()
        if get_config()["sparse_interface"] == "spmatrix":
            return sparse.csr_matrix(features)
        return features

    def _featurize(self, mols):
        function = self._fingerprint_function()
        fingerprints = [function(mol) for mol in one_by_one(mols)]
        if self.count:
            counts = [fp.GetNonzeroElements() for fp in fingerprints]
            bits = [list(c) for c in counts]
            data = np.array([n for c in counts for n in c.values()], dtype=np.uint32)
        else:
            bits = [list(fp.GetOnBits()) for fp in fingerprints]
            data = np.ones(sum(map(len, bits)), dtype=np.uint8)
        indices = np.fromiter(chain.from_iterable(bits), dtype=np.int32)
        indptr = np.cumsum([0, *map(len, bits)], dtype=np.int32)
        rows = sparse.csr_array(
            (data, indices, indptr), shape=(len(mols), self._n_features_out)
        )
        rows.sort_indices()
        return rows

    @property
    def _n_features_out(self):
        return self.fp_size

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


class MorganFingerprinter(FingerprintTransformer):
    """Morgan (circular) fingerprints: the neighbourhood of every atom, hashed.

    The bits are those of RDKit's Morgan generator. Each distinct SMILES is computed
    once per call.

    Parameters
    ----------
    radius : int, default=2
        Largest neighbourhood of an atom, in bonds; 2 makes what is known as ECFP4.
    fp_size : int, default=2048
        Number of bits the neighbourhoods are hashed to.
    count : bool, default=False
        Return how often each neighbourhood occurs (uint32) instead of whether it does
        (uint8).
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
        Number of processes; None is 1 unless ``joblib.parallel_config`` says otherwise,
        -1 takes all cores. The result does not depend on it.
    on_bad_smiles : {"raise", "nan"}, default="raise"
        What becomes of entries that are no molecules: "raise" names them all in an
        error; "nan" gives them rows of NaN, in float32, and counts them in an
        :class:`~sklearn_molge.exceptions.InvalidSmilesWarning`.

    See Also
    --------
    MoleculeFingerprinter : Other fingerprints.
    MoleculeDescriptors : Standardised physico-chemical descriptors.

    Notes
    -----
    The transformer is stateless: `transform` can be called without `fit`. Its integers
    save memory. scikit-learn's estimators convert them to the precision they need;
    arithmetic of your own should too, since a product of uint8 matrices wraps at 256.
    For the logarithm of counts, add a ``FunctionTransformer(np.log1p)``.

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
        **FingerprintTransformer._parameter_constraints,
        "radius": [Interval(Integral, 0, None, closed="left")],
        "feature_invariants": ["boolean"],
        "use_bond_types": ["boolean"],
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
        on_bad_smiles="raise",
    ):
        self.radius = radius
        self.fp_size = fp_size
        self.count = count
        self.feature_invariants = feature_invariants
        self.include_chirality = include_chirality
        self.use_bond_types = use_bond_types
        self.sparse_output = sparse_output
        self.n_jobs = n_jobs
        self.on_bad_smiles = on_bad_smiles

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


# Kinds of MoleculeFingerprinter: RDKit's generators, those whose bits can depend on
# stereo-centres, and functions of a molecule with their number of bits.
_GENERATORS: dict[str, Callable] = {
    "atom_pair": rdFingerprintGenerator.GetAtomPairGenerator,
    "torsion": rdFingerprintGenerator.GetTopologicalTorsionGenerator,
    "rdkit": rdFingerprintGenerator.GetRDKitFPGenerator,
}
_CHIRAL = ("atom_pair", "torsion")
_AVALON = "avalon"
_KEYS = {"maccs": (rdMolDescriptors.GetMACCSKeysFingerprint, 167)}


class MoleculeFingerprinter(FingerprintTransformer):
    """Atom-pair, torsion, path and MACCS fingerprints.

    The bits are those of RDKit's generators. Each distinct SMILES is computed once per
    call. Combine kinds, and :class:`MorganFingerprinter`, in a ``FeatureUnion``.

    Parameters
    ----------
    kind : {"atom_pair", "torsion", "rdkit", "avalon", "maccs"}, default="atom_pair"
        What a bit stands for:

        - "atom_pair": two atoms and the bonds between them along the shortest path;
        - "torsion": four atoms in a chain;
        - "rdkit": paths and branched subgraphs of 1 to 7 bonds;
        - "avalon": atoms, bonds, paths and rings of the Avalon toolkit (Gedeck et al.
          2006);
        - "maccs": the 166 public MACCS keys in 167 bits, as in RDKit: key i is bit i
          and bit 0 is never set.
    fp_size : int, default=2048
        Number of bits the patterns are hashed to; "maccs" always has 167.
    count : bool, default=False
        Return how often each pattern occurs (uint32) instead of whether it does
        (uint8). Not for "maccs".
    include_chirality : bool, default=False
        Let stereo-centres change the bits, for "atom_pair" and "torsion". Without it,
        stereo-isomers are equal.
    sparse_output : bool, default=False
        Return a sparse matrix.
    n_jobs : int or None, default=None
        Number of processes; None is 1 unless ``joblib.parallel_config`` says otherwise,
        -1 takes all cores. The result does not depend on it.
    on_bad_smiles : {"raise", "nan"}, default="raise"
        What becomes of entries that are no molecules: "raise" names them all in an
        error; "nan" gives them rows of NaN, in float32, and counts them in an
        :class:`~sklearn_molge.exceptions.InvalidSmilesWarning`.
    max_atoms : int, default=1000
        Most heavy atoms of a molecule, 1,000 at most; a larger one is a bad entry.
        There are as many atom pairs as the square of it.

    See Also
    --------
    MorganFingerprinter : Circular fingerprints.
    MoleculeDescriptors : Standardised physico-chemical descriptors.

    Notes
    -----
    The transformer is stateless: `transform` can be called without `fit`. As in RDKit,
    the bits of "atom_pair" and "torsion" simulate counts: a pattern has up to four
    bits, set from 1, 2, 4 and 8 occurrences on. At 2048 bits this hides chirality from
    the "atom_pair" bits of about half of the chiral drugs; ``count=True`` or 4096 bits
    show it.

    Examples
    --------
    >>> from sklearn.pipeline import make_union
    >>> from sklearn_molge.molecules import MoleculeFingerprinter, MorganFingerprinter
    >>> union = make_union(MorganFingerprinter(), MoleculeFingerprinter("maccs"))
    >>> union.fit_transform(["CCO", "c1ccccc1"]).shape
    (2, 2215)
    """

    _parameter_constraints: dict = {
        **FingerprintTransformer._parameter_constraints,
        "max_atoms": [Interval(Integral, 1, MAX_ATOMS, closed="both")],
        "kind": [StrOptions({*_GENERATORS, *_KEYS, _AVALON})],
    }

    def __init__(
        self,
        kind="atom_pair",
        *,
        fp_size=2048,
        count=False,
        include_chirality=False,
        sparse_output=False,
        n_jobs=None,
        on_bad_smiles="raise",
        max_atoms=1000,
    ):
        self.kind = kind
        self.fp_size = fp_size
        self.count = count
        self.include_chirality = include_chirality
        self.sparse_output = sparse_output
        self.n_jobs = n_jobs
        self.on_bad_smiles = on_bad_smiles
        self.max_atoms = max_atoms

    def _fingerprint_function(self):
        if self.include_chirality and self.kind not in _CHIRAL:
            raise ValueError(
                "include_chirality=True is possible for kind "
                f"{' and '.join(map(repr, _CHIRAL))}. Got {self.kind!r}."
            )
        if self.kind in _KEYS:
            if self.count:
                raise ValueError(f'count=True is not possible for kind "{self.kind}".')
            return _KEYS[self.kind][0]
        if self.kind == _AVALON:
            if self.count:
                return partial(pyAvalonTools.GetAvalonCountFP, nBits=self.fp_size)
            return partial(pyAvalonTools.GetAvalonFP, nBits=self.fp_size)
        options = {"includeChirality": True} if self.include_chirality else {}
        generator = _GENERATORS[self.kind](fpSize=self.fp_size, **options)
        return generator.GetCountFingerprint if self.count else generator.GetFingerprint

    @property
    def _n_features_out(self):
        return _KEYS[self.kind][1] if self.kind in _KEYS else self.fp_size
