"""Reading SMILES, and the one definition of a molecule's identity."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache, partial

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.rdBase import BlockLogs

from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.exceptions import InvalidSmilesError

__all__ = [
    "MISSING_SMILES",
    "canonical_smiles",
    "check_smiles",
    "drug_ids",
    "parent_molecule",
    "parse_smiles",
    "parsed_once",
    "valid_smiles_mask",
]

MISSING_SMILES = frozenset({"", "-666", "restricted", "nan", "none", "na"})
"""What LINCS writes for an unknown or withheld structure, in lower case."""

# Molecules that were read in the present block of `parsed_once`.
_parsed: ContextVar[dict[str, Chem.Mol | None] | None] = ContextVar(
    "_parsed", default=None
)


@contextmanager
def parsed_once() -> Iterator[None]:
    """Parse each distinct SMILES once within a block.

    Every function and transformer of this library that reads SMILES takes part, so
    that a pipeline, a split and a ranking over the same molecules share them. The
    results are those without the block. A block within another one shares its
    molecules.

    Notes
    -----
    The molecules (about 10 kB each) are kept until the outermost block ends. The block
    covers its own thread: worker processes parse for themselves, and so does chemprop's
    featurizer, which computes the graphs of a D-MPNN.

    Examples
    --------
    >>> from sklearn_molge.molecules import MorganFingerprinter, drug_ids, parsed_once
    >>> smiles = ["CCO", "c1ccccc1"]
    >>> with parsed_once():
    ...     ids = drug_ids(smiles)
    ...     fingerprints = MorganFingerprinter().fit_transform(smiles)
    """
    if _parsed.get() is not None:
        yield
        return
    token = _parsed.set({})
    try:
        yield
    finally:
        _parsed.reset(token)


def parse_smiles(entry: object) -> Chem.Mol | None:
    """Parse one SMILES, by the rules that hold everywhere in this library.

    Parameters
    ----------
    entry : object
        A SMILES, or whatever stands in its place.

    Returns
    -------
    mol : rdkit.Chem.Mol or None
        The molecule, to be read and not changed: others may share it (see
        :func:`parsed_once`). None where `entry` is no text, is one of
        :data:`MISSING_SMILES`, has no atoms, or is not a SMILES.

    Examples
    --------
    >>> from sklearn_molge.molecules import parse_smiles
    >>> parse_smiles("CCO").GetNumAtoms()
    3
    >>> parse_smiles("-666") is None
    True
    """
    if not isinstance(entry, str):
        return None
    parsed = _parsed.get()
    if parsed is None:
        return _read(entry)
    if entry not in parsed:
        parsed[entry] = _read(entry)
    return parsed[entry]


def _read(entry):
    if entry.strip().lower() in MISSING_SMILES:
        return None
    _, *rest = entry.split(maxsplit=1)
    if rest and not rest[0].startswith("|"):
        return None  # RDKit would take a second molecule for the name of the first
    with BlockLogs():  # RDKit prints each parse error; the caller reports them all
        try:
            mol = Chem.MolFromSmiles(entry)
        except UnicodeEncodeError:  # half a surrogate pair, as of a badly read file
            return None
    return None if mol is None or mol.GetNumAtoms() == 0 else mol


def valid_smiles_mask(X: ArrayLike) -> NDArray[np.bool_]:
    """Mask of the entries that are molecules.

    Parameters
    ----------
    X : array-like of shape (n_samples,) or (n_samples, 1)
        SMILES.

    Returns
    -------
    valid : ndarray of shape (n_samples,), dtype=bool
        Whether :func:`check_smiles` accepts the entry.

    Examples
    --------
    >>> from sklearn_molge.molecules import valid_smiles_mask
    >>> valid_smiles_mask(["CCO", "-666", None])
    array([ True, False, False])
    """
    return _of_each(lambda mol: True, as_smiles_array(X)).astype(bool)


def check_smiles(X: ArrayLike) -> NDArray[np.object_]:
    """Check that every entry is a molecule.

    Parameters
    ----------
    X : array-like of shape (n_samples,) or (n_samples, 1)
        SMILES. LINCS's marks for an unknown structure ("-666", "restricted", "",
        NaN) are not molecules; nor is a text without atoms.

    Returns
    -------
    smiles : ndarray of shape (n_samples,), dtype=object
        The entries as they came.

    Raises
    ------
    InvalidSmilesError
        With index and text of every bad entry.
    ValueError
        If X is not one column.

    Examples
    --------
    >>> from sklearn_molge.molecules import check_smiles
    >>> check_smiles(["CCO", "c1ccccc1"])
    array(['CCO', 'c1ccccc1'], dtype=object)
    >>> check_smiles(["CCO", "-666"])
    Traceback (most recent call last):
        ...
    sklearn_molge.exceptions.InvalidSmilesError: 1 entry of X is not a valid SMILES:
    index 1: '-666'.
    """
    array = as_smiles_array(X)
    refuse_invalid(array, valid_smiles_mask(array))
    return array


def refuse_invalid(array: NDArray[np.object_], valid: NDArray[np.bool_]) -> None:
    """Raise the error that names the entries that are not valid."""
    bad = np.flatnonzero(~valid)
    if bad.size:
        raise InvalidSmilesError(bad.tolist(), array[bad].tolist())


def canonical_smiles(X: ArrayLike) -> NDArray[np.object_]:
    """Write each molecule in RDKit's canonical SMILES.

    Parameters
    ----------
    X : array-like of shape (n_samples,)
        SMILES.

    Returns
    -------
    smiles : ndarray of shape (n_samples,), dtype=object
        One spelling per molecule; stereochemistry and salts are kept.

    Raises
    ------
    InvalidSmilesError
        With index and text of every bad entry.

    See Also
    --------
    drug_ids : Identity of the molecule whatever its salt or stereochemistry.

    Examples
    --------
    >>> from sklearn_molge.molecules import canonical_smiles
    >>> canonical_smiles(["OCC", "C(C)O"])
    array(['CCO', 'CCO'], dtype=object)
    """
    return _of_valid(Chem.MolToSmiles, X)


def drug_ids(X: ArrayLike, *, stereo: bool = False) -> NDArray[np.object_]:
    """Identity of each molecule, as splits, galleries and scores use it.

    The identity is the first block of the InChIKey of the uncharged largest
    fragment, so that salts, charge states, stereo-isomers and spellings of one
    drug are one drug.

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
        With index and text of every bad entry.

    Notes
    -----
    "Largest" counts atoms, hydrogens included, as RDKit's ``LargestFragmentChooser``
    does, organic fragments first: lysine acetylsalicylate is a lysine. The paper
    (Finlayson et al. 2020) compares the SMILES text, which lets one drug be on both
    sides of a split.

    Examples
    --------
    >>> from sklearn_molge.molecules import drug_ids
    >>> drug_ids(["CC(=O)O", "CC(=O)[O-].[Na+]", "OC(C)=O"])
    array(['QTBSBXVTEAMEQO', 'QTBSBXVTEAMEQO', 'QTBSBXVTEAMEQO'], dtype=object)
    """
    return _of_valid(partial(_inchi_blocks, n_blocks=2 if stereo else 1), X)


def _of_valid(function, X):
    array = as_smiles_array(X)
    results = _of_each(function, array)
    refuse_invalid(array, ~pd.isna(results))
    return results


def _of_each(function, array):
    """Apply `function` to each distinct molecule; None where an entry is not one."""
    results = {}
    with BlockLogs():
        # One molecule at a time: they are large.
        for text in dict.fromkeys(s for s in array if isinstance(s, str)):
            mol = parse_smiles(text)
            results[text] = None if mol is None else function(mol)
    of_entries = np.empty(len(array), dtype=object)
    of_entries[:] = [results[s] if isinstance(s, str) else None for s in array]
    return of_entries


@lru_cache(maxsize=1)
def _standardizers():
    parameters = rdMolStandardize.CleanupParameters()
    parameters.preferOrganic = True  # type: ignore[assignment]
    return (
        rdMolStandardize.LargestFragmentChooser(parameters),
        rdMolStandardize.Uncharger(),
    )


def parent_molecule(mol: Chem.Mol) -> Chem.Mol:
    """Return the uncharged largest fragment: the molecule that :func:`drug_ids` names.

    Parameters
    ----------
    mol : rdkit.Chem.Mol
        A molecule, with or without counter-ions; it is not changed.

    Returns
    -------
    parent : rdkit.Chem.Mol
        The largest fragment by its atoms, organic ones first, without the charges that
        protons can balance.

    Examples
    --------
    >>> from rdkit import Chem
    >>> from sklearn_molge.molecules import parent_molecule, parse_smiles
    >>> Chem.MolToSmiles(parent_molecule(parse_smiles("CC(=O)[O-].[Na+]")))
    'CC(=O)O'
    """
    chooser, uncharger = _standardizers()
    parent = mol if len(Chem.GetMolFrags(mol)) == 1 else chooser.choose(mol)
    if any(atom.GetFormalCharge() for atom in parent.GetAtoms()):
        parent = uncharger.uncharge(parent)
    return parent


def _inchi_blocks(mol: Chem.Mol, *, n_blocks: int) -> str:
    parent = parent_molecule(mol)
    # The first block knows no stereochemistry: without it, InChI is faster.
    key = Chem.MolToInchiKey(parent, "-SNon" if n_blocks == 1 else "")
    if key:
        return "-".join(key.split("-")[:n_blocks])
    # InChI refuses a few exotic structures; their canonical text is an identity too.
    return Chem.MolToSmiles(parent, isomericSmiles=n_blocks > 1)
