"""The one definition of a molecule's identity, and the account of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache, partial
from itertools import chain, combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem
from rdkit.Chem import rdMolHash
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.rdBase import BlockLogs
from sklearn.utils.validation import column_or_1d

from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.molecules._smiles import (
    MISSING_SMILES,
    NO_METALS,
    check_smiles,
    of_valid,
    shared_molecule,
)

__all__ = [
    "IDENTITY_VERSION",
    "drug_ids",
    "identity_report",
    "name_conflicts",
    "parent_molecule",
]

IDENTITY_VERSION = 3
"""Which rule :func:`drug_ids` follows. Identities of different versions cannot be
compared: what stores them stores this number as well."""


def drug_ids(X: ArrayLike, *, stereo: bool = False) -> NDArray[np.object_]:
    """Identity of each molecule, as splits, galleries and scores use it.

    The identity is the first block of the InChIKey of the uncharged parent, in one
    canonical tautomer, so that salts, charge states, tautomers, stereo-isomers and
    spellings of one drug are one drug. It depends on the molecule alone.

    Parameters
    ----------
    X : array-like of shape (n_samples,)
        SMILES.
    stereo : bool, default=False
        Keep stereo-isomers apart (first two blocks of the InChIKey).

    Returns
    -------
    ids : ndarray of shape (n_samples,), dtype=object
        Strings of 14 characters (25 with `stereo`); the canonical SMILES of the few
        structures that InChI refuses.

    Raises
    ------
    InvalidSmilesError
        With index and text of every bad entry. A pattern (``*``, R-groups) is none of
        the molecules that it stands for.

    See Also
    --------
    identity_report : What was removed, merged and kept apart, and why.
    name_conflicts : Names with more than one identity.
    parent_molecule : The molecule that is named.

    Notes
    -----
    **Parent.** See :func:`parent_molecule`: without counter-ions, solvents and alkali
    metals; the whole formula of what is inorganic.

    **Tautomers.** InChI itself moves hydrogens between hetero-atoms. Where one could
    also move to or from carbon (enols, enamines, 1,3-dicarbonyls, imines, quinoid rings
    and the like), the tautomer that RDKit's ``TautomerEnumerator`` calls canonical is
    named. It is not always the one that is usually drawn, so that the identity of such
    a molecule may differ from its InChIKey. Not merged: double bonds that move in an
    enone (they are different drugs, as norethisterone and noretynodrel), open and
    closed rings, sugars, and tautomers of more than 400 atoms.

    The paper (Finlayson et al. 2020) compares the SMILES text, which lets one drug be
    on both sides of a split.

    References
    ----------
    M. Sitzmann et al., "Tautomerism in large databases", Journal of Computer-Aided
    Molecular Design 24 (2010).

    Examples
    --------
    >>> from sklearn_molge.molecules import drug_ids
    >>> drug_ids(["CC(=O)O", "CC(=O)[O-].[Na+]", "OC(C)=O"])
    array(['QTBSBXVTEAMEQO', 'QTBSBXVTEAMEQO', 'QTBSBXVTEAMEQO'], dtype=object)
    """
    kept_as = "drug_ids", bool(stereo)
    identify = partial(_identity, stereo=stereo)
    return of_valid(identify, X, kept_as=kept_as, with_text=True)


def parent_molecule(mol: Chem.Mol) -> Chem.Mol:
    """Return the molecule that :func:`drug_ids` names, in the tautomer that was drawn.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        A molecule, with or without counter-ions; it is not changed.

    Returns
    -------
    parent : rdkit.Chem.Mol
        The parent, without the charges that protons can balance.

    Notes
    -----
    1. Alkali and alkaline-earth metals are disconnected from all but carbon.
    2. Of several fragments, those without carbon (and carbonates, cyanides and the
       like), then solvents, then the acids and bases of common salts are left out, as
       long as something with carbon remains; of what remains, the fragment with the
       most heavy atoms is the parent. Two isomers of one molecule lose their
       stereochemistry: a racemate is none of its enantiomers.
    3. Where nothing has carbon, all fragments but water are the parent: lithium
       chloride is neither sodium chloride nor hydrogen chloride.
    4. Other metals belong to the molecule, with all their ligands: these are
       disconnected, unless by carbon, and neutral, so that all ways to draw a complex
       are one. Ions of zinc and aluminium beside a molecule are counter-ions.

    Examples
    --------
    >>> from rdkit import Chem
    >>> from sklearn_molge.molecules import parent_molecule, parse_smiles
    >>> def parent(text):
    ...     return Chem.MolToSmiles(parent_molecule(parse_smiles(text)))
    >>> parent("CC(=O)[O-].[Na+]"), parent("[Na]OC(C)=O")
    ('CC(=O)O', 'CC(=O)O')
    >>> parent("N[Pt](N)(Cl)Cl")
    'Cl.Cl.N.N.[Pt]'
    """
    return _parent(mol).mol


# -- parent --------------------------------------------------------------------------

_ALKALINE = frozenset({3, 11, 19, 37, 55, 87, 4, 12, 20, 38, 56, 88})
# Zinc and aluminium.
_IONS = _ALKALINE | {30, 13}
# Fragments by their uncharged SMILES, from what is left out first to what is left out
# last. The lists extend RDKit's Salts.txt.
_WATER = "O"
_INORGANIC = """O=C(O)O O=C=O [C-]#[O+] C#N N=C=O N#CO N#CS N=C=S S=C=S"""
_SOLVENTS = """
    CO CCO CCCO CC(C)O CCCCO CC(C)CO CC(C)=O CC#N CS(C)=O CN(C)C=O CC(=O)N(C)C NC=O
    CN1CCCC1=O C1CCOC1 C1COCCO1 ClCCl ClC(Cl)Cl Cc1ccccc1 c1ccccc1 CCCCCC CCCCCCC
    C1CCCCC1 CCOC(C)=O CCOCC COC(C)(C)C COCCOC OCCO CC(O)CO OCC(O)CO c1ccncc1
"""
_ACIDS = """
    O=CO CC(=O)O O=C(O)C(F)(F)F CCC(=O)O CCCCCCCC(=O)O CCCCCCCCCCCC(=O)O
    CCCCCCCCCCCCCCCC(=O)O CCCCCCCCCCCCCCCCCC(=O)O CCCCCCCCC=CCCCCCCCC(=O)O
    CC(O)C(=O)O O=C(O)CO O=CC(=O)O CC(=O)C(=O)O O=C(O)C(=O)O O=C(O)CC(=O)O
    O=C(O)CCC(=O)O O=C(O)CCCC(=O)O O=C(O)CCCCC(=O)O O=C(O)CCCCCCCCC(=O)O
    O=C(O)C=CC(=O)O O=C(O)CC(O)C(=O)O O=C(O)C(O)C(O)C(=O)O
    O=C(O)CC(O)(CC(=O)O)C(=O)O O=C(O)CC(=CC(=O)O)C(=O)O O=C(O)CCC(=O)C(=O)O
    O=C(O)C(O)C(O)C(O)C(O)CO O=C(O)C(O)C(O)C(O)C(O)C(O)CO O=CC(O)C(O)C(O)C(O)C(=O)O
    O=C(O)C(O)C(O)C(O)C(O)C(=O)O O=C(O)C1OC(O)C(O)C(O)C1O
    O=C(O)C(O)C(O)C(OC1OC(CO)C(O)C(O)C1O)C(O)CO O=C(O)c1ccccc1 O=C(O)C(O)c1ccccc1
    O=C(O)CNC(=O)c1ccccc1 O=C(O)C=Cc1ccccc1 O=C(O)c1ccc(O)cc1 O=C(O)C1CCC(=O)N1
    O=C(O)c1cc2ccccc2cc1O O=C(O)c1ccc2ccccc2c1O
    O=C(O)c1cc2ccccc2c(Cc2c(O)c(C(=O)O)cc3ccccc23)c1O
    CS(=O)(=O)O CCS(=O)(=O)O O=S(=O)(O)CCO O=S(=O)(O)CCS(=O)(=O)O
    O=S(=O)(O)C(F)(F)F O=S(=O)(O)c1ccccc1 Cc1ccc(S(=O)(=O)O)cc1
    O=S(=O)(O)c1ccc(Cl)cc1 Cc1ccc(C)c(S(=O)(=O)O)c1 Cc1cc(C)c(S(=O)(=O)O)c(C)c1
    O=S(=O)(O)c1ccc2ccccc2c1 O=S(=O)(O)c1cccc2ccccc12
    O=S(=O)(O)c1cccc2c(S(=O)(=O)O)cccc12 CC1(C)C2CCC1(CS(=O)(=O)O)C(=O)C2
    COS(=O)(=O)O CCOS(=O)(=O)O CCCCCCCCCCCCOS(=O)(=O)O O=S(=O)(O)NC1CCCCC1
    CCCCC(CC)COC(=O)CC(C(=O)OCC(CC)CCCC)S(=O)(=O)O
    O=C1NS(=O)(=O)c2ccccc21 O=[N+]([O-])c1cc([N+](=O)[O-])c(O)c([N+](=O)[O-])c1
    O=C(O)CCC(N)C(=O)O NC(CC(=O)O)C(=O)O
    O=S(=O)(NS(=O)(=O)C(F)(F)F)C(F)(F)F c1ccc([B-](c2ccccc2)(c2ccccc2)c2ccccc2)cc1
"""
_BASES = """
    NCCCCC(N)C(=O)O N=C(N)NCCCC(N)C(=O)O NC(N)=NCCCC(N)C(=O)O NCCCC(N)C(=O)O
    NC(Cc1c[nH]cn1)C(=O)O NC(Cc1cnc[nH]1)C(=O)O NCC(=O)O
    NC(CO)(CO)CO CNCC(O)C(O)C(O)C(O)CO CCNCC(O)C(O)C(O)C(O)CO C[N+](C)(C)CCO
    C[N+](C)(C)C CC[N+](CC)(CC)CC CCCC[N+](CCCC)(CCCC)CCCC NCCO OCCNCCO OCCN(CCO)CCO
    CN(C)CCO CCN(CC)CCO CN CNC CN(C)C CCN CCNCC CCN(CC)CC CCN(C(C)C)C(C)C CC(C)(C)N
    NCCN NC1CCCCC1 C1CCC(NC2CCCCC2)CC1 OCCN1CCCC1 C1COCCN1 NCc1ccccc1
    c1ccc(CNCCNCc2ccccc2)cc1 c1ccc(CCNCc2ccccc2)cc1
"""
_DRUG = 4
REASONS = {
    "counter-ion": "an acid or base of common salts, or an inorganic ion, was removed",
    "solvent": "a solvent was removed",
    "part": "a smaller molecule beside the parent was removed",
    "metal": "a metal was disconnected from its ligands",
    "inorganic": "nothing has carbon: all of the formula is named",
    "charge": "charges were balanced by protons",
    "tautomer": "another tautomer is named than was drawn",
    "isomer": "the stereochemistry that was drawn is left out",
}


class _Parent(NamedTuple):
    mol: Chem.Mol
    removed: tuple[Chem.Mol, ...] = ()
    reasons: frozenset[str] = frozenset()


class _Fragment(NamedTuple):
    drawn: Chem.Mol
    mol: Chem.Mol  # uncharged
    text: str
    rank: int  # 0: inorganic; then solvents, acids, bases; _DRUG: all others
    elements: frozenset[int]
    charge: bool  # whether that changed it


@lru_cache(maxsize=1)
def _ranks() -> dict[str, int]:
    lists = (_INORGANIC, _SOLVENTS, _ACIDS, _BASES)
    return {text: rank for rank, texts in enumerate(lists) for text in texts.split()}


@lru_cache(maxsize=1)
def _uncharger():
    return rdMolStandardize.Uncharger()


def _uncharged(mol: Chem.Mol) -> Chem.Mol:
    return _uncharger().uncharge(mol)


def _elements(mol: Chem.Mol) -> frozenset[int]:
    return frozenset(atom.GetAtomicNum() for atom in mol.GetAtoms())


def _parent(mol: Chem.Mol) -> _Parent:
    # Most molecules are one organic fragment without charges. A pattern finds the
    # others, since a loop over atoms costs more.
    odd = mol.HasSubstructMatch(_odd_pattern()) or not mol.HasSubstructMatch(_CARBON)
    if not odd and len(Chem.GetMolFrags(mol)) == 1:
        return _Parent(mol)
    elements = _elements(mol)
    metals = elements - NO_METALS
    if metals or 6 not in elements or len(Chem.GetMolFrags(mol)) > 1:
        return _parent_of_fragments(mol, metals)
    parent = _uncharged(mol)
    same = Chem.MolToSmiles(parent) == Chem.MolToSmiles(mol)
    return _Parent(parent, (), frozenset() if same else frozenset({"charge"}))


_CARBON = Chem.MolFromSmarts("[#6]")


@lru_cache(maxsize=1)
def _odd_pattern() -> Chem.Mol:
    # Carbon first: of most atoms one comparison decides.
    others = sorted(NO_METALS, key=lambda number: number != 6)
    return Chem.MolFromSmarts(f"[!+0,{'&'.join(f'!#{n}' for n in others)}]")


def _parent_of_fragments(mol: Chem.Mol, metals: frozenset[int]) -> _Parent:
    """Choose the parent of a molecule of several fragments, or with metals."""
    drawn = Chem.GetMolFrags(mol, asMols=True)
    water = [part for part in drawn if Chem.MolToSmiles(part) == _WATER]
    if len(water) == len(drawn):
        return _Parent(drawn[0], tuple(drawn[1:]))
    reasons = {"solvent"} if water else set()
    pieces = [
        piece
        for part in drawn
        if Chem.MolToSmiles(part) != _WATER
        for half in Chem.GetMolFrags(_cut(part, metals & _ALKALINE), asMols=True)
        for piece in _cut_complex(half)
    ]
    if len(pieces) + len(water) > len(drawn):
        reasons.add("metal")
    kept, removed = _choose([_describe(piece) for piece in pieces])
    for fragment in removed:
        reasons.add({1: "solvent", _DRUG: "part"}.get(fragment.rank, "counter-ion"))
    if all(fragment.rank == 0 for fragment in kept):
        reasons.add("inorganic")
    if any(f.charge and not _is_atom(f.mol) for f in kept):
        reasons.add("charge")
    parent = kept[0].mol
    for fragment in kept[1:]:
        parent = Chem.CombineMols(parent, fragment.mol)
    Chem.GetSymmSSSR(parent)
    left_out = (*water, *(fragment.drawn for fragment in removed))
    return _Parent(parent, left_out, frozenset(reasons))


def _is_atom(mol: Chem.Mol) -> bool:
    return mol.GetNumAtoms() == 1


def _describe(piece: Chem.Mol) -> _Fragment:
    elements = _elements(piece)
    mol = _neutral_atom(piece) if _is_atom(piece) else _uncharged(piece)
    flat = Chem.Mol(mol)
    for atom in flat.GetAtoms():
        atom.SetIsotope(0)
    text = Chem.MolToSmiles(flat, isomericSmiles=False)
    rank = _ranks().get(text, _DRUG) if 6 in elements else 0
    charge = Chem.GetFormalCharge(mol) != Chem.GetFormalCharge(piece)
    return _Fragment(piece, mol, text, rank, elements, charge)


def _choose(
    fragments: Sequence[_Fragment],
) -> tuple[list[_Fragment], list[_Fragment]]:
    """Split fragments into those that are the parent and those that are left out."""
    highest = max(fragment.rank for fragment in fragments)
    if any(fragment.elements - NO_METALS - _IONS for fragment in fragments):
        # The ligands of a complex may be on the lists.
        kept = [f for f in fragments if _may_be_ligand(f, organic=highest > 0)]
    elif highest == 0:
        kept = list(fragments)
    else:
        kept = _largest(f for f in fragments if f.rank == highest)
    removed = [f for f in fragments if not any(f is other for other in kept)]
    return kept, removed


def _may_be_ligand(fragment: _Fragment, *, organic: bool) -> bool:
    if fragment.rank in (1, 3):
        return False
    return not (organic and fragment.rank == 0 and fragment.elements <= _ALKALINE)


def _largest(fragments: Iterable[_Fragment]) -> list[_Fragment]:
    # Takes as long as the rest of this module, and is for molecules in several parts.
    from rdkit.Chem import Descriptors

    def size(fragment):
        mol = fragment.mol
        # A sum over atoms in their order: rounding must not choose between isomers.
        weight = round(Descriptors.HeavyAtomMolWt(mol), 3)
        return mol.GetNumHeavyAtoms(), weight, fragment.text

    ordered = sorted(fragments, key=size)
    largest = ordered[-1]
    texts = {Chem.MolToSmiles(f.mol) for f in ordered if f.text == largest.text}
    if len(texts) > 1:  # a racemate
        flat = Chem.Mol(largest.mol)
        Chem.RemoveStereochemistry(flat)
        position = next(i for i, f in enumerate(ordered) if f is largest)
        ordered[position] = largest = largest._replace(mol=flat)
    return [largest]


def _cut_complex(piece: Chem.Mol) -> tuple[Chem.Mol, ...]:
    """Cut the other metals from their ligands; zinc and aluminium if inorganic."""
    elements = _elements(piece)
    metals = elements - NO_METALS - _ALKALINE
    if not metals or (metals <= _IONS and 6 in elements):
        return (piece,)
    return Chem.GetMolFrags(_cut(piece, metals), asMols=True)


def _cut(mol: Chem.Mol, metals: frozenset[int]) -> Chem.Mol:
    """Cut the bonds between these metals and all but carbon; make ligands neutral."""
    bonds = []
    for bond in mol.GetBonds() if metals else ():
        first, second = bond.GetBeginAtom(), bond.GetEndAtom()
        for metal, ligand in ((first, second), (second, first)):
            if metal.GetAtomicNum() in metals and ligand.GetAtomicNum() != 6:
                bonds.append((metal.GetIdx(), ligand.GetIdx()))
                break
    if not bonds:
        return mol
    cut = Chem.RWMol(mol)
    Chem.Kekulize(cut, clearAromaticFlags=True)  # whose bonds can be counted
    for ends in bonds:
        cut.RemoveBond(*ends)
    for i in {i for ends in bonds for i in ends}:
        _fill(cut.GetAtomWithIdx(i))
    with BlockLogs():
        try:
            Chem.SanitizeMol(cut)
        except Chem.MolSanitizeException:  # a ligand that has no neutral state
            return mol
    return cut.GetMol()


# Bonds of a neutral atom, the first that is enough.
_VALENCES = {
    **dict.fromkeys((1, 9, 17, 35, 53), (1,)),
    **dict.fromkeys((5, 7), (3,)),
    8: (2,),
    **dict.fromkeys((15, 33), (3, 5)),
    **dict.fromkeys((16, 34, 52), (2, 4, 6)),
}


def _fill(atom: Chem.Atom) -> None:
    """Give an atom that lost bonds to a metal its neutral state, with hydrogens."""
    atom.SetNumRadicalElectrons(0)
    atom.SetNoImplicit(True)
    number = atom.GetAtomicNum()
    if number not in _VALENCES:
        atom.SetNumExplicitHs(0)
        atom.SetFormalCharge(0)
        return
    bonds = int(sum(bond.GetBondTypeAsDouble() for bond in atom.GetBonds()))
    valence = next((v for v in _VALENCES[number] if v >= bonds), None)
    if valence is None:  # as of ammonium
        atom.SetNumExplicitHs(0)
        atom.SetFormalCharge(bonds - _VALENCES[number][-1])
        return
    atom.SetFormalCharge(0)
    atom.SetNumExplicitHs(valence - bonds)


def _neutral_atom(piece: Chem.Mol) -> Chem.Mol:
    """Write an ion of one atom as the element, or with its hydrogens."""
    if not Chem.GetFormalCharge(piece):
        return piece
    neutral = Chem.RWMol(piece)
    _fill(neutral.GetAtomWithIdx(0))
    Chem.SanitizeMol(neutral)
    return neutral.GetMol()


# -- identity ------------------------------------------------------------------------

# Where a hydrogen may move to or from carbon; elsewhere InChI moves them itself. Each
# pattern stands behind an atom that all those below it have, and most molecules have
# none of these atoms.
_MOBILE = {
    "$([O,S,N;!H0;+0]-[CX3]=[CX3])": (
        "[O,S,N;!H0;+0]-[CX3]=[CX3]",  # enols and enamines
    ),
    "NX2": (
        "[CX4;!H0]-[CX3]=[NX2]",  # imines
        "[NX2]=c:c:c:[nH]",
        "[NX2;!H0]=c",
        # nitroso compounds, oximes, hydrazones
        "[#6;!$([CX3;!R]=[#6])]-[NX2]=[OX1]",
        "[OX2;!H0]-[NX2]=[#6;R]",
        "[NX3;!H0]-[NX2]=[#6;R]-,=[#6]=,-[#6,O]",
    ),
    "$([CX4;!H0](-[#6]=,:*)-[#6]=,:*)": (
        "[CX4;!H0](-[CX3]=[O,S,N])-[CX3]=[O,S,N]",  # between two carbonyls
        "[CX4;!H0]1-[#6](=[O,S,N])-[#6]=,:[#6]-[#6]=,:[#6]1",
        "[CX4;!H0]1-[#6]=,:[#6]-[#6](=[O,S,N])-[#6]=,:[#6]1",
    ),
    "$([CX4;!H0]@[CX3]=[O,S,N])": (
        "[CX4;!H0]1-[CX3](=[O,S,N])-[#7,#8,#16]-*~*1",  # rings that become aromatic
        "[CX4;!H0]1-[CX3](=[O,S,N])-*~*-[#7,#8,#16]1",
    ),
    "$([O,S;!H0]-[c,n,N+])": (
        "[O,S;!H0;+0]-[c;r5]",
        "[O,S;!H0;+0]-c:c:c=[O,S]",
        "[O,S;!H0;+0]-c:c:c:[nX2]",  # 4-hydroxypyridines, which InChI keeps apart
        "[O,S;!H0;+0]-c1c2ccccc2cc2ccccc21",
        "[OX2;!H0]-[N+]=[#6]",
    ),
    "$([#6;R]=;!@[#6])": (  # quinoid rings
        "[#6;R]=;!@[#6;R]",
        "[#6;R]=;!@[#6;!R]-[N,O,S;!H0]",
        "[#6;R]1(=;!@[#6])-[#6]=,:[#6]-[#6](=[O,S,N])-[#6]=,:[#6]1",
        "[#6;R]=;!@[#6;!R]-c:[nH]",
    ),
}


@lru_cache(maxsize=1)
def _mobile_pattern() -> Chem.Mol:
    texts = chain(*_MOBILE.values())
    return Chem.MolFromSmarts(f"[{','.join(f'$({text})' for text in texts)}]")


@lru_cache(maxsize=1)
def _perhaps_mobile_pattern() -> Chem.Mol:
    """Find more than `_mobile_pattern` and `_UNUSUAL` do, in far less time."""
    return Chem.MolFromSmarts(f"[{','.join(_MOBILE)}]")


@lru_cache(maxsize=2)
def _enumerator(*, stereo: bool):
    enumerator = rdMolStandardize.TautomerEnumerator()
    enumerator.SetMaxTautomers(50)
    enumerator.SetMaxTransforms(100)
    # By default isomers that a tautomer turns into each other become one.
    enumerator.SetRemoveSp3Stereo(not stereo)
    enumerator.SetRemoveBondStereo(not stereo)
    return enumerator


def _identity(mol: Chem.Mol, text: str, *, stereo: bool) -> str:
    parent = mol if _is_plain(text) else _parent(mol).mol
    return _identity_of_parent(parent, stereo=stereo)


# A dot, or an atom with a charge or of a metal; and what may stand behind a SMILES.
_NOT_PLAIN = re.compile(
    r"[.|\s]|\[(?!\d*(?:[BCFHINOPScnops]|Br|Cl|S[ei]|se)@{0,2}(?:H\d?)?\])"
)
_HAS_CARBON = re.compile(r"c|C(?!l)")


def _is_plain(text: str) -> bool:
    """Whether a SMILES shows that it is its own parent, as that of most molecules does.

    It is one organic fragment, and whatever charges it has are those that RDKit draws
    in a neutral group, as nitro.
    """
    return not _NOT_PLAIN.search(text) and bool(_HAS_CARBON.search(text))


def _identity_of_parent(parent: Chem.Mol, *, stereo: bool) -> str:
    if not parent.HasSubstructMatch(_perhaps_mobile_pattern()):
        return _inchi_blocks(parent, stereo=stereo)
    parent = _usual_form(parent)
    if parent.HasSubstructMatch(_mobile_pattern()):
        return _mobile_identity(Chem.MolToSmiles(parent, isomericSmiles=stereo), stereo)
    return _inchi_blocks(parent, stereo=stereo)


# Imidic acids, and ring N-hydroxides beside C=O, C=S or C=N. InChI knows the former,
# but where other hydrogens move must not depend on them; the latter it keeps apart.
_UNUSUAL = tuple(
    map(
        Chem.MolFromSmarts,
        ("[O,S;X2;!H0;+0]-[CX3;+0]=[NX2;+0]", "[nX3;+0](-[OX2;!H0;+0]):c=[O,S,N;+0]"),
    )
)


def _usual_form(parent: Chem.Mol) -> Chem.Mol:
    """Draw amides and N-oxides, so that all ways to draw them walk one way."""
    matches = [m for pattern in _UNUSUAL for m in parent.GetSubstructMatches(pattern)]
    if not matches:
        return parent
    if len(matches) > 1:  # they may overlap, and the order of atoms must not choose
        ranks = list(Chem.CanonicalRankAtoms(parent, includeChirality=False))
        matches.sort(key=lambda match: (len(match), [ranks[i] for i in match]))
    drawn = Chem.RWMol(parent)
    Chem.Kekulize(drawn, clearAromaticFlags=True)
    done: set[int] = set()
    for first, *oxide, middle, last in matches:
        if not done.isdisjoint((first, middle, last)):
            continue
        done.update((first, middle, last))
        drawn.GetBondBetweenAtoms(first, middle).SetBondType(Chem.BondType.DOUBLE)
        bond = drawn.GetBondBetweenAtoms(middle, last)
        bond.SetStereo(Chem.BondStereo.STEREONONE)
        bond.SetBondType(Chem.BondType.SINGLE)
        for i in oxide:
            drawn.GetAtomWithIdx(i).SetFormalCharge(-1)
            drawn.GetAtomWithIdx(first).SetFormalCharge(1)
        for i in (first, *oxide, last):
            drawn.GetAtomWithIdx(i).SetNoImplicit(False)
            drawn.GetAtomWithIdx(i).SetNumExplicitHs(0)
    with BlockLogs():
        try:
            Chem.SanitizeMol(drawn)
        except Chem.MolSanitizeException:
            return parent
    Chem.AssignStereochemistry(drawn, cleanIt=True, force=True)
    return drawn.GetMol()


@lru_cache(maxsize=2**16)
def _mobile_identity(text: str, stereo: bool) -> str:
    """Identity of a molecule with mobile hydrogens, by its canonical SMILES.

    What the enumerator finds within its limits may depend on the order of the atoms.
    """
    mol = shared_molecule(text)
    if mol is None:  # a few metal complexes cannot be read again
        return text
    canonical = _canonical_tautomer(mol, stereo=stereo)
    if not stereo:
        return _inchi_blocks(canonical, stereo=False)
    flat = Chem.Mol(mol)
    Chem.RemoveStereochemistry(flat)
    first = _mobile_identity(Chem.MolToSmiles(flat), False)
    return "-".join([first, *_inchi_blocks(canonical, stereo=True).split("-")[1:]])


# How often the enumerator starts, and with how many atoms in all; of a larger molecule
# the tautomer that was drawn is named. A molecule of LINCS has up to 170 atoms, and
# needs up to 5 starts with 114; a chain of enols would need 34 with 900, minutes.
_MAX_STARTS = 10
_MAX_WORK = 1000
_MAX_TAUTOMERIC = 400


def _canonical_tautomer(mol: Chem.Mol, *, stereo: bool) -> Chem.Mol:
    # Within its limits the enumerator sees a part of the tautomers of a tetracycline:
    # which ones depends on where it starts, and so it starts again from the best.
    if mol.GetNumAtoms() > _MAX_TAUTOMERIC:
        return mol
    enumerator = _enumerator(stereo=stereo)
    seen: list[str] = []
    n_starts = min(_MAX_STARTS, _MAX_WORK // mol.GetNumAtoms())
    while (text := Chem.MolToSmiles(mol)) not in seen and len(seen) < n_starts:
        seen.append(text)
        found = enumerator.Enumerate(mol)
        mol = enumerator.PickCanonical(found)
        if found.status == rdMolStandardize.TautomerEnumeratorStatus.Completed:
            break
        mol = Chem.MolFromSmiles(Chem.MolToSmiles(mol)) or mol
    return mol


def _inchi_blocks(parent: Chem.Mol, *, stereo: bool) -> str:
    # The first block knows no stereochemistry: without it, InChI is faster, by a minute
    # in a large ring of double bonds.
    is_flat = not (stereo and _is_drawn_in_space(parent))
    key = Chem.MolToInchiKey(parent, "-SNon" if is_flat else "")
    if key:
        return "-".join(key.split("-")[: 1 + stereo])
    # InChI refuses a few exotic structures; their canonical text is an identity too.
    return Chem.MolToSmiles(parent, isomericSmiles=stereo)


def _is_drawn_in_space(mol: Chem.Mol) -> bool:
    """Whether an atom or a bond has stereochemistry, or an isotope that may make it."""
    return any(
        atom.GetChiralTag() != Chem.ChiralType.CHI_UNSPECIFIED or atom.GetIsotope()
        for atom in mol.GetAtoms()
    ) or any(bond.GetStereo() > Chem.BondStereo.STEREOANY for bond in mol.GetBonds())


# -- account -------------------------------------------------------------------------


def identity_report(X: ArrayLike, *, names: ArrayLike | None = None) -> pd.DataFrame:
    """Say of each molecule who it is, and what was left out to find it.

    Parameters
    ----------
    X : array-like of shape (n_samples,)
        SMILES.
    names : array-like of shape (n_samples,) or None, default=None
        Names or catalogue numbers, to be shown beside.

    Returns
    -------
    report : DataFrame of shape (n_samples, 6) or (n_samples, 7)
        A row for each entry of X, in its order: ``smiles``, ``name`` (with `names`),
        ``drug`` (see :func:`drug_ids`), ``isomer`` (the same with ``stereo=True``),
        ``parent`` (SMILES of :func:`parent_molecule`), ``removed`` (SMILES of the
        fragments that were left out, "" for none) and ``reasons``: which of these make
        the identity differ from the structure that was drawn, joined by ", ":

        - "counter-ion": an acid or base of common salts, or an inorganic ion;
        - "solvent" and "part": a solvent, or a smaller molecule, was left out;
        - "metal": a metal was disconnected from its ligands;
        - "inorganic": nothing has carbon, so that the whole formula is named;
        - "charge": charges were balanced by protons;
        - "tautomer": another tautomer is named than was drawn;
        - "isomer": stereochemistry was drawn, and is left out.

    Raises
    ------
    InvalidSmilesError
        With index and text of every bad entry.
    ValueError
        If `names` has another length than X.

    See Also
    --------
    name_conflicts : Names with more than one identity.

    Examples
    --------
    >>> from sklearn_molge.molecules import identity_report
    >>> report = identity_report(["CC(=O)[O-].[Na+]", "CC(O)=CC(C)=O"])
    >>> report[["drug", "parent", "removed", "reasons"]]  # doctest: +SKIP
                 drug         parent removed              reasons
    0  QTBSBXVTEAMEQO        CC(=O)O   [Na+]  counter-ion, charge
    1  YRKCREAYFQTBPV  CC(=O)C=C(C)O                     tautomer
    >>> report["reasons"].tolist()
    ['counter-ion, charge', 'tautomer']

    Which molecules were merged:

    >>> merged = report[report["drug"].duplicated(keep=False)]
    """
    array = check_smiles(X)
    rows = {}
    with BlockLogs():
        for text in dict.fromkeys(array):
            rows[text] = _account(_read(text))
    columns = ["drug", "isomer", "parent", "removed", "reasons"]
    report = pd.DataFrame([rows[text] for text in array], columns=columns)
    if names is not None:
        report.insert(0, "name", _as_names(names, len(array)))
    report.insert(0, "smiles", array)
    return report


def _read(checked: str) -> Chem.Mol:
    mol = shared_molecule(checked)
    assert mol is not None
    return mol


def _account(mol: Chem.Mol) -> tuple[str, str, str, str, str]:
    found = _parent(mol)
    reasons = set(found.reasons)
    text = Chem.MolToSmiles(found.mol)
    drug = _identity_of_parent(found.mol, stereo=False)
    if drug != _inchi_blocks(found.mol, stereo=False):
        reasons.add("tautomer")
    if text != Chem.MolToSmiles(found.mol, isomericSmiles=False):
        reasons.add("isomer")
    return (
        drug,
        _identity_of_parent(found.mol, stereo=True),
        text,
        ".".join(sorted(Chem.MolToSmiles(part) for part in found.removed)),
        ", ".join(reason for reason in REASONS if reason in reasons),
    )


def _as_names(names, n):
    array = column_or_1d(np.asarray(names, dtype=object))
    if len(array) != n:
        raise ValueError(
            f"names must name each molecule. Got {len(array)} names of {n} molecules."
        )
    return array


def name_conflicts(X: ArrayLike, names: ArrayLike) -> pd.DataFrame:
    """List the names that stand for more than one drug.

    Such a pair may be one drug that :func:`drug_ids` keeps apart, one structure that is
    drawn wrongly, or a name that means several molecules: to be looked at.

    Parameters
    ----------
    X : array-like of shape (n_samples,)
        SMILES.
    names : array-like of shape (n_samples,)
        Names or catalogue numbers. Blanks around them and upper case make no
        difference; a missing one, or one of :data:`MISSING_SMILES`, says nothing.

    Returns
    -------
    conflicts : DataFrame
        A row for each pair of drugs with one name, in the order of X: ``name``,
        ``drug_a``, ``drug_b``, ``smiles_a``, ``smiles_b`` (the first of each) and
        ``why`` they are kept apart:

        - "double bonds": the same atoms in the same order, and as many hydrogens. It
          may be a tautomer that is not known as one;
        - "hydrogens": the same atoms in the same order, with more hydrogens;
        - "structure": other atoms, or another order.

    Raises
    ------
    InvalidSmilesError
        With index and text of every bad entry.
    ValueError
        If `names` has another length than X.

    Examples
    --------
    >>> from sklearn_molge.molecules import name_conflicts
    >>> smiles = ["CC(=O)[O-].[Na+]", "CC(=O)O", "CCC(=O)O", "C=CC(=O)O"]
    >>> conflicts = name_conflicts(smiles, ["acetate", "Acetate", "acid", "acid"])
    >>> conflicts[["name", "smiles_a", "smiles_b", "why"]]
       name  smiles_a   smiles_b        why
    0  acid  CCC(=O)O  C=CC(=O)O  hydrogens
    """
    array = as_smiles_array(X)
    named = _as_names(names, len(array))
    table = pd.DataFrame({"name": named, "drug": drug_ids(array), "smiles": array})
    table = table[table["name"].notna()]
    table["name"] = table["name"].astype(str).str.strip()
    table["key"] = table["name"].str.lower()
    table = table[~table["key"].isin(list(MISSING_SMILES))]
    table = table.drop_duplicates(["key", "drug"])
    table = table[table["key"].duplicated(keep=False)]
    rows = []
    with BlockLogs():
        for _, group in table.groupby("key", sort=False):
            members = group[["name", "drug", "smiles"]].to_numpy()
            for first, second in combinations(members, 2):
                (name, *drug_a), (_, *drug_b) = first, second
                pairs = chain(*zip(drug_a, drug_b, strict=True))
                rows.append((name, *pairs, _why_apart(first[2], second[2])))
    columns = ["name", "drug_a", "drug_b", "smiles_a", "smiles_b", "why"]
    return pd.DataFrame(rows, columns=columns)


def _why_apart(first: str, second: str) -> str:
    skeletons, formulas = set(), set()
    for text in (first, second):
        parent = _parent(_read(text)).mol
        graph = rdMolHash.HashFunction.ElementGraph
        skeletons.add(rdMolHash.MolHash(parent, graph))
        formulas.add(rdMolHash.MolHash(parent, rdMolHash.HashFunction.MolFormula))
    if len(skeletons) > 1:
        return "structure"
    return "double bonds" if len(formulas) == 1 else "hydrogens"
