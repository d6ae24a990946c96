"""Reading SMILES: what is a molecule, and what is not, and why."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from sklearn_molge._utils.messages import N_SHOWN
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.exceptions import InvalidSmilesError

__all__ = [
    "MAX_ATOMS",
    "MAX_LENGTH",
    "MISSING_SMILES",
    "canonical_smiles",
    "check_smiles",
    "of_each",
    "of_valid",
    "parse_smiles",
    "parsed_once",
    "valid_smiles_mask",
]

MISSING_SMILES = frozenset({"", "-666", "restricted", "nan", "none", "na"})
"""What LINCS writes for an unknown or withheld structure, in lower case."""

MAX_ATOMS = 1000
"""Most heavy atoms of a molecule: far more than any drug of LINCS has (170), and few
enough for every algorithm on them. InChI crashes at 20,000 carbon atoms in a row."""

# A text this long is not even parsed: an atom in brackets takes about 10 characters.
MAX_LENGTH = 20 * MAX_ATOMS

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


def parse_smiles(
    entry: object, *, wildcards: bool = True, max_atoms: int = MAX_ATOMS
) -> Chem.Mol | None:
    """Parse one SMILES, by the rules that hold everywhere in this library.

    Parameters
    ----------
    entry : object
        A SMILES, or whatever stands in its place.
    wildcards : bool, default=True
        Read a pattern, with atoms that may be any (``*``, R-groups), as well. It is no
        molecule and has no identity: :func:`check_smiles` refuses it. Transformers draw
        features of it, so that :func:`~sklearn_molge.inspection.atom_attribution` can
        mask atoms.
    max_atoms : int, default=1000
        Most atoms, without hydrogens.

    Returns
    -------
    mol : rdkit.Chem.Mol or None
        The molecule, to be read and not changed: others may share it (see
        :func:`parsed_once`). None where `entry` is no text, is one of
        :data:`MISSING_SMILES`, has no atoms or too many, is not a SMILES, or is a
        pattern and `wildcards` is False.

    Examples
    --------
    >>> from sklearn_molge.molecules import parse_smiles
    >>> parse_smiles("CCO").GetNumAtoms()
    3
    >>> parse_smiles("-666") is None, parse_smiles("*CC", wildcards=False) is None
    (True, True)
    """
    mol = _parse(entry)
    if mol is None or _fault(str(entry), mol, wildcards=wildcards, max_atoms=max_atoms):
        return None
    return mol


def _parse(entry: object) -> Chem.Mol | None:
    """Parse what is neither too long nor a mark for a missing structure."""
    if not isinstance(entry, str) or len(entry) > MAX_LENGTH:
        return None
    parsed = _parsed.get()
    if parsed is None:
        return _read(entry)
    if entry not in parsed:
        parsed[entry] = _read(entry)
    return parsed[entry]


def _read(entry: str) -> Chem.Mol | None:
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


def _fault(entry: str, mol: Chem.Mol, *, wildcards: bool, max_atoms: int) -> str | None:
    """Say why what RDKit reads is no molecule for us; None if it is one."""
    n_atoms = mol.GetNumHeavyAtoms()
    if n_atoms > max_atoms:
        return f"{n_atoms:,} heavy atoms, more than max_atoms={max_atoms}"
    # The only ways to write a wildcard: parsing each text twice would cost more.
    may_be_pattern = not wildcards and ("*" in entry or "#0" in entry or "|" in entry)
    if may_be_pattern and any(
        atom.GetAtomicNum() == 0 or atom.HasQuery() for atom in mol.GetAtoms()
    ):
        return "a wildcard stands for an atom: a pattern, not a molecule"
    return None


def _why_invalid(entry: object, *, wildcards: bool, max_atoms: int) -> str | None:
    """Say why an entry is no molecule, where its text alone does not show it."""
    if isinstance(entry, str) and len(entry) > MAX_LENGTH:
        return f"{len(entry):,} characters, and {MAX_LENGTH:,} are allowed"
    mol = _parse(entry)
    if mol is None:
        return None
    return _fault(str(entry), mol, wildcards=wildcards, max_atoms=max_atoms)


def valid_smiles_mask(
    X: ArrayLike, *, wildcards: bool = False, max_atoms: int = MAX_ATOMS
) -> NDArray[np.bool_]:
    """Mask of the entries that are molecules.

    Parameters
    ----------
    X : array-like of shape (n_samples,) or (n_samples, 1)
        SMILES.
    wildcards : bool, default=False
        Let patterns pass, see :func:`parse_smiles`.
    max_atoms : int, default=1000
        Most atoms, without hydrogens.

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
    valid = of_each(
        lambda mol: True, as_smiles_array(X), wildcards=wildcards, max_atoms=max_atoms
    )
    return valid.astype(bool)


def check_smiles(
    X: ArrayLike, *, wildcards: bool = False, max_atoms: int = MAX_ATOMS
) -> NDArray[np.object_]:
    """Check that every entry is a molecule.

    Parameters
    ----------
    X : array-like of shape (n_samples,) or (n_samples, 1)
        SMILES. LINCS's marks for an unknown structure ("-666", "restricted", "",
        NaN) are not molecules; nor is a text without atoms, with more than 1,000 that
        are not hydrogen, or with wildcards (``*``, R-groups) in the place of atoms.
    wildcards : bool, default=False
        Let patterns pass, see :func:`parse_smiles`.
    max_atoms : int, default=1000
        Most atoms, without hydrogens.

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
    valid = valid_smiles_mask(array, wildcards=wildcards, max_atoms=max_atoms)
    refuse_invalid(array, valid, wildcards=wildcards, max_atoms=max_atoms)
    return array


def refuse_invalid(
    array: NDArray[np.object_],
    valid: NDArray[np.bool_],
    *,
    wildcards: bool = False,
    max_atoms: int = MAX_ATOMS,
) -> None:
    """Raise the error that names the entries that are not valid."""
    bad = np.flatnonzero(~valid)
    if bad.size:
        entries = array[bad].tolist()
        # Only some are shown with their reason, and each has to be read for it.
        shown = entries[:N_SHOWN]
        reasons = [
            _why_invalid(entry, wildcards=wildcards, max_atoms=max_atoms)
            for entry in shown
        ]
        raise InvalidSmilesError(bad.tolist(), entries, reasons)


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
    return of_valid(Chem.MolToSmiles, X)


def of_valid(function: Callable[[Chem.Mol], object], X: ArrayLike) -> NDArray:
    """Apply `function` to each distinct molecule; refuse what is none."""
    array = as_smiles_array(X)
    results = of_each(function, array)
    refuse_invalid(array, ~pd.isna(results))
    return results


def of_each(
    function: Callable[[Chem.Mol], object],
    array: NDArray[np.object_],
    *,
    wildcards: bool = False,
    max_atoms: int = MAX_ATOMS,
) -> NDArray[np.object_]:
    """Apply `function` to each distinct molecule; None where an entry is not one."""
    results = {}
    with BlockLogs():
        # One molecule at a time: they are large.
        for text in dict.fromkeys(s for s in array if isinstance(s, str)):
            mol = parse_smiles(text, wildcards=wildcards, max_atoms=max_atoms)
            results[text] = None if mol is None else function(mol)
    of_entries = np.empty(len(array), dtype=object)
    of_entries[:] = [results[s] if isinstance(s, str) else None for s in array]
    return of_entries
