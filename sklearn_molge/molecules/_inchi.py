"""smiles_from_inchi: structures that are written as InChI."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from sklearn_molge._compat import StrOptions, validate_params
from sklearn_molge._utils.interrupts import one_by_one
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules._smiles import MAX_LENGTH, is_inchi

__all__ = ["smiles_from_inchi"]


@validate_params(
    {"X": ["array-like"], "on_bad": [StrOptions({"raise", "keep"})]},
    prefer_skip_nested_validation=True,
)
def smiles_from_inchi(X: ArrayLike, *, on_bad: str = "raise") -> NDArray[np.object_]:
    """Write structures that are InChI as SMILES; what is no InChI stays as it is.

    Files of molecules, and tables of a study, are converted where they are read.

    Parameters
    ----------
    X : array-like of shape (n_samples,)
        InChI, such as ``"InChI=1S/CH4/h1H4"``; SMILES may stand among them. An InChIKey
        is a hash, of which no structure can be made.
    on_bad : {"raise", "keep"}, default="raise"
        What to do with an InChI that cannot be read: raise, or leave it, so that who
        reads the SMILES counts it as a bad one.

    Returns
    -------
    smiles : ndarray of shape (n_samples,), dtype=object
        RDKit's canonical SMILES of the InChI, and the other entries as they came.

    Raises
    ------
    InvalidSmilesError
        With index and text of every InChI that cannot be read.

    Notes
    -----
    An InChI stands for several tautomers, of which RDKit takes one that few would draw:
    it makes an imidic acid of an amide. Amides, and amino groups of rings, are put
    back. Of 877 drugs of LINCS, 96 % have the SMILES again that their InChI was made of
    (57 % without that), and all have the same :func:`drug_ids`.

    Examples
    --------
    >>> from sklearn_molge.molecules import smiles_from_inchi
    >>> smiles_from_inchi(["InChI=1S/C2H5NO/c1-2(3)4/h1H3,(H2,3,4)", "CCN"])
    array(['CC(N)=O', 'CCN'], dtype=object)
    """
    smiles = as_smiles_array(X).copy()
    places = np.flatnonzero([is_inchi(entry) for entry in smiles])
    read: dict[str, str | None] = {}
    with BlockLogs():
        for text in one_by_one(dict.fromkeys(smiles[places])):
            read[text] = _read(text.strip())
    bad = [int(place) for place in places if read[smiles[place]] is None]
    if bad and on_bad == "raise":
        entries = smiles[bad].tolist()
        raise InvalidSmilesError(
            bad, entries, ["an InChI that cannot be read"] * len(bad)
        )
    for place in places:
        smiles[place] = read[smiles[place]] or smiles[place]
    return smiles


def _read(text: str) -> str | None:
    if len(text) > MAX_LENGTH or not text.isascii():
        return None
    mol = Chem.MolFromInchi(text)
    if mol is None or mol.GetNumAtoms() == 0:
        return None
    try:
        mol = _usual_tautomer(Chem.RWMol(mol))
    except ValueError:  # of RDKit, where no bonds fit: as InChI has it
        pass
    written: str = Chem.MolToSmiles(mol)
    return written


def _usual_tautomer(mol: Chem.RWMol) -> Chem.Mol:
    """Move the hydrogens that InChI leaves open to where chemists draw them."""
    Chem.Kekulize(mol, clearAromaticFlags=True)
    for pattern in _unusual():
        for _ in range(mol.GetNumAtoms()):
            path = mol.GetSubstructMatch(pattern)
            if not path:
                break
            for i, ends in enumerate(pairwise(path)):
                bond = mol.GetBondBetweenAtoms(*ends)
                kinds = Chem.BondType.DOUBLE, Chem.BondType.SINGLE
                bond.SetBondType(kinds[i % 2])
                bond.SetStereo(Chem.BondStereo.STEREONONE)
            for end in (path[0], path[-1]):
                atom = mol.GetAtomWithIdx(end)
                atom.SetNoImplicit(False)
                atom.SetNumExplicitHs(0)
            mol.UpdatePropertyCache(strict=False)
    Chem.SanitizeMol(mol)
    # Through its text: what a bond said of stereochemistry may be gone.
    return Chem.MolFromSmiles(Chem.MolToSmiles(mol)) or mol


@cache
def _unusual() -> list[Chem.Mol]:
    """Return imidic acids, and rings whose amino group is drawn as an imine.

    The hydrogen goes from the first atom to the last, and the bonds swap.
    """
    return [
        Chem.MolFromSmarts(smarts)
        for smarts in (
            "[OX2H1,SX2H1;+0]-[#6]=[NX2;+0]",
            "[#7X3;H1;R;+0]-[#6;R]=[NX2;!R;+0]",
            "[#7X3;H1;R;+0]-[#6;R]=[#6;R]-[#6;R]=[NX2;!R;+0]",
        )
    ]
