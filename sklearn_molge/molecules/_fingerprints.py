"""MoleculeFingerprinter: fingerprints beside the circular ones."""

from numbers import Integral
from typing import Any

from rdkit.Chem import rdFingerprintGenerator, rdMolDescriptors

from sklearn_molge._compat import Interval, StrOptions
from sklearn_molge.molecules._base import FingerprintTransformer

__all__ = ["MoleculeFingerprinter"]

_N_MACCS_BITS = 167
_CHIRAL_GENERATORS: dict[str, Any] = {
    "atom_pair": rdFingerprintGenerator.GetAtomPairGenerator,
    "torsion": rdFingerprintGenerator.GetTopologicalTorsionGenerator,
}


class MoleculeFingerprinter(FingerprintTransformer):
    """Atom-pair, torsion, path and MACCS fingerprints.

    The bits are those of RDKit's generators. Each distinct SMILES is read and computed
    once per call. Join kinds, and :class:`MorganFingerprinter`, by scikit-learn's
    ``FeatureUnion``.

    Parameters
    ----------
    kind : {"atom_pair", "torsion", "rdkit", "maccs"}, default="atom_pair"
        What a bit stands for:

        - "atom_pair": two atoms and the bonds between them along the shortest path;
        - "torsion": four atoms in a chain;
        - "rdkit": paths and branched subgraphs of 1 to 7 bonds;
        - "maccs": the 166 public MACCS keys in 167 bits, as in RDKit: key i is bit i
          and bit 0 is never set.
    fp_size : int, default=2048
        Number of bits the patterns are hashed to; "maccs" always has 167.
    count : bool, default=False
        How often each pattern occurs (uint32) instead of whether (uint8). Not for
        "maccs".
    include_chirality : bool, default=False
        Let stereo-centres change the bits; for "atom_pair" and "torsion". Without it,
        stereo-isomers are equal.
    sparse_output : bool, default=False
        Return a sparse matrix.
    n_jobs : int or None, default=None
        Number of processes; None is 1, or as a ``joblib.parallel_config`` says, and
        -1 all. The result does not depend on it.

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
        "kind": [StrOptions({"atom_pair", "torsion", "rdkit", "maccs"})],
        "fp_size": [Interval(Integral, 1, None, closed="left")],
        "count": ["boolean"],
        "include_chirality": ["boolean"],
        "sparse_output": ["boolean"],
        "n_jobs": [Integral, None],
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
    ):
        self.kind = kind
        self.fp_size = fp_size
        self.count = count
        self.include_chirality = include_chirality
        self.sparse_output = sparse_output
        self.n_jobs = n_jobs

    def _fingerprint_function(self):
        if self.include_chirality and self.kind not in _CHIRAL_GENERATORS:
            raise ValueError(
                "include_chirality=True is possible for kind "
                f"{' and '.join(map(repr, _CHIRAL_GENERATORS))}. Got {self.kind!r}."
            )
        if self.kind == "maccs":
            if self.count:
                raise ValueError('count=True is not possible for kind "maccs".')
            return rdMolDescriptors.GetMACCSKeysFingerprint
        if self.kind == "rdkit":
            generator = rdFingerprintGenerator.GetRDKitFPGenerator(fpSize=self.fp_size)
        else:
            generator = _CHIRAL_GENERATORS[self.kind](
                fpSize=self.fp_size, includeChirality=self.include_chirality
            )
        return generator.GetCountFingerprint if self.count else generator.GetFingerprint

    @property
    def _n_features_out(self):
        return _N_MACCS_BITS if self.kind == "maccs" else self.fp_size
