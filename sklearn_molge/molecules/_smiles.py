"""Reading SMILES: what is a molecule, and what is not, and why."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from sklearn_molge._utils.interrupts import give_back_interrupts
from sklearn_molge._utils.messages import N_SHOWN
from sklearn_molge._utils.rows import as_smiles_array
from sklearn_molge.exceptions import InvalidSmilesError

__all__ = [
    "MAX_ATOMS",
    "MAX_LENGTH",
    "MISSING_SMILES",
    "Recent",
    "canonical_smiles",
    "check_smiles",
    "is_inchi",
    "may_be_pattern",
    "may_be_tangled",
    "of_each",
    "of_valid",
    "parse_smiles",
    "parsed_once",
    "recent_results",
    "refuse_invalid",
    "shared_molecule",
    "text_fault",
    "valid_smiles_mask",
]

MISSING_SMILES = frozenset({"", "-666", "restricted", "nan", "none", "na"})
"""What LINCS writes for an unknown or withheld structure, in lower case."""

MAX_ATOMS = 1000
"""Most heavy atoms of a molecule: far more than any drug of LINCS has (170), and few
enough for every algorithm on them. InChI crashes at 20,000 carbon atoms in a row."""

# A text this long is not even parsed: an atom in brackets takes about 10 characters.
MAX_LENGTH = 20 * MAX_ATOMS

# What OpenSMILES lets an atom have. RDKit keeps numbers in a byte or two and lets the
# rest overflow: it reads [C+9999] as [C+15], [65548C] as [12C], [UH256] as [U].
MAX_CHARGE = 15
_BEYOND_OPENSMILES = re.compile(
    r"\[(?:\d{4,}|[^\[\]]*?(?:H\d{2,}|[+-](?:1[6-9]|[2-9]\d|\d{3})\d*|[+-]{16}))"
)
# RDKit reads the bond that closes C1CC~1 as a single one.
_ANY_RING_BOND = re.compile(r"~[\d%]")

# Most connected subgraphs of 1 to 7 bonds: what fingerprints of paths, MACCS keys and
# descriptors walk over, about a second. A molecule of LINCS has up to 14,000, C60
# 39,000, a peptide of 900 atoms 53,000; 13 metal atoms each bound to all, 10 ** 9.
MAX_SUBGRAPHS = 700_000
_N_BONDS = 7

# What a thread keeps of molecules (RDKit's objects) and of what was computed from them,
# in bytes; and either within a block of `parsed_once`.
_MOLECULES = 128 * 2**20
_RESULTS = 64 * 2**20
_IN_BLOCK = 2**30
# Measured: RDKit 2025.9, drugs of LINCS.
_BYTES_PER_ATOM = 800
_BYTES_PER_ENTRY = 300  # of a dictionary, with the key


class Recent(OrderedDict[Hashable, Any]):
    """Values by their keys; the oldest leave when all take more than `limit` bytes."""

    def __init__(self, limit: int):
        super().__init__()
        self.limit, self.n_bytes = limit, 0
        self._sizes: dict[Hashable, int] = {}

    def keep(self, key: Hashable, value: object, n_bytes: int) -> None:
        """Add a value of about `n_bytes`, unless there is one."""
        if key not in self:
            # In this order: an interrupt may lose room, and no more.
            self._sizes[key] = n_bytes + _BYTES_PER_ENTRY
            self.n_bytes += self._sizes[key]
            self[key] = value
            self.shrink(self.limit)

    def shrink(self, limit: int) -> None:
        """Set the limit, and let go of what is beyond it."""
        self.limit = limit
        while self and self.n_bytes > limit:
            self.n_bytes -= self._sizes.pop(self.popitem(last=False)[0])


class _Memory(threading.local):
    """What a thread has read: RDKit's molecules must not be shared by threads."""

    def __init__(self) -> None:
        self.molecules = Recent(_MOLECULES)
        self.results = Recent(_RESULTS)
        self.in_block = False


_memory = _Memory()


@contextmanager
def parsed_once(*, max_bytes: int = _IN_BLOCK) -> Iterator[None]:
    """Parse each distinct SMILES once within a block, and fingerprint it once.

    Every function and transformer of this library that reads SMILES takes part, so
    that a pipeline, a split and a ranking over the same molecules share them, and the
    fits of a cross-validation identities, fingerprints and descriptors of equal
    settings. The results are those without the block. A block within another one
    shares its molecules.

    Parameters
    ----------
    max_bytes : int, default=2**30
        How much of molecules may be kept. 0 keeps none, where memory is scarce, and
        each is parsed anew.

    Notes
    -----
    Without a block, too, a thread keeps what it read and computed last: up to 128 MiB
    of molecules, about 5,000 drugs, and 64 MiB of their identities, fingerprints and
    descriptors. So a cross-validation of a study of usual size needs no block. Within
    one it is up to `max_bytes` of molecules, 1 GiB for about 40,000 drugs, and 1 GiB of
    results. Beyond, the oldest leave and are computed again when they are needed.

    A block covers its own thread: worker processes parse for themselves, and so does
    chemprop's featurizer, which computes the graphs of a D-MPNN.

    Examples
    --------
    >>> from sklearn_molge.molecules import MorganFingerprinter, drug_ids, parsed_once
    >>> smiles = ["CCO", "c1ccccc1"]
    >>> with parsed_once():
    ...     ids = drug_ids(smiles)
    ...     fingerprints = MorganFingerprinter().fit_transform(smiles)
    """
    if _memory.in_block:
        yield
        return
    _memory.in_block = True
    _memory.molecules.shrink(max_bytes)
    _memory.results.shrink(_IN_BLOCK)
    try:
        yield
    finally:
        _memory.in_block = False
        _memory.molecules.shrink(_MOLECULES)
        _memory.results.shrink(_RESULTS)


def recent_results() -> Recent:
    """Return what this thread computed last, by (what it is, text), to add to."""
    return _memory.results


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
        mask atoms. So may bonds (``~``), but for those of metals, whose order decides
        nothing.
    max_atoms : int, default=1000
        Most atoms, without the hydrogens of other atoms.

    Returns
    -------
    mol : rdkit.Chem.Mol or None
        The molecule, the caller's own. None where `entry` is no text, is one of
        :data:`MISSING_SMILES`, is not a SMILES, has no atoms or too many, or numbers
        beyond those of OpenSMILES (charges up to 15, isotopes up to 999), is more
        tangled than any drug (700,000 connected subgraphs of up to 7 bonds), or is a
        pattern and `wildcards` is False.

    Examples
    --------
    >>> from sklearn_molge.molecules import parse_smiles
    >>> parse_smiles("CCO").GetNumAtoms()
    3
    >>> parse_smiles("-666") is None, parse_smiles("*CC", wildcards=False) is None
    (True, True)
    """
    mol = shared_molecule(entry, wildcards=wildcards, max_atoms=max_atoms)
    return None if mol is None else Chem.Mol(mol)  # should the caller change it


def shared_molecule(
    entry: object, *, wildcards: bool = True, max_atoms: int = MAX_ATOMS
) -> Chem.Mol | None:
    """Parse as `parse_smiles` does, for those who only read: molecules are shared."""
    mol = _parse(entry)
    if mol is None or _fault(str(entry), mol, wildcards=wildcards, max_atoms=max_atoms):
        return None
    return mol


def _parse(text: object) -> Chem.Mol | None:
    """Return the molecule that this thread has read, or read it."""
    if not isinstance(text, str):
        return None  # and perhaps no key
    molecules = _memory.molecules
    if text in molecules:
        return molecules[text]
    mol = _read(text)
    n_atoms = 0 if mol is None else mol.GetNumAtoms()
    molecules.keep(text, mol, len(text) + _BYTES_PER_ATOM * n_atoms)
    return mol


def _read(entry: object) -> Chem.Mol | None:
    """Parse what is neither too long nor a mark for a missing structure."""
    if not isinstance(entry, str):
        return None
    if entry.strip().lower() in MISSING_SMILES or text_fault(entry):
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


def is_inchi(entry: object) -> bool:
    """Whether an entry is written as an InChI, right or wrong."""
    return isinstance(entry, str) and entry.lstrip().startswith("InChI=")


def text_fault(entry: str) -> str | None:
    """Say what RDKit would pass over in a text, or read as something else."""
    if is_inchi(entry):
        return "an InChI; molecules.smiles_from_inchi converts it, if it is a right one"
    if len(entry) > MAX_LENGTH:
        return f"{len(entry):,} characters, and {MAX_LENGTH:,} are allowed"
    word = entry.split(maxsplit=1)[0] if entry.strip() else ""
    if not (word.isascii() and word.isprintable()):  # RDKit trims some, and ends at NUL
        odd = next(c for c in word if not (c.isascii() and c.isprintable()))
        return f"no SMILES has the character {odd!r}"
    beyond = _BEYOND_OPENSMILES.search(word)
    if beyond:
        atom = word[beyond.start() :].partition("]")[0] + "]"
        return (
            f"{atom} goes beyond what an atom has: charges of -{MAX_CHARGE} "
            f"to {MAX_CHARGE}, isotopes of 0 to 999, 0 to 9 hydrogens"
        )
    return None


def _fault(entry: str, mol: Chem.Mol, *, wildcards: bool, max_atoms: int) -> str | None:
    """Say why what RDKit reads is no molecule for us; None if it is one."""
    n_atoms = mol.GetNumAtoms()
    if n_atoms > max_atoms:
        n_heavy = mol.GetNumHeavyAtoms()
        kind = "heavy atoms" if n_heavy > max_atoms else "atoms"
        return f"{max(n_heavy, n_atoms):,} {kind}, more than max_atoms={max_atoms}"
    # The only ways to write a wildcard: parsing each text twice would cost more.
    if not wildcards and may_be_pattern(entry):
        fault = _pattern_fault(entry, mol)
        if fault:
            return fault
    is_odd = may_be_tangled(n_atoms, mol.GetNumBonds()) or (
        _MAY_BE_CROWDED.search(entry) and mol.HasSubstructMatch(_crowded_pattern())
    )
    give_back_interrupts()
    if is_odd and _n_subgraphs(mol) > MAX_SUBGRAPHS:
        return f"tangled: more than {MAX_SUBGRAPHS:,} subgraphs of {_N_BONDS} bonds"
    return None


def may_be_pattern(text: str) -> bool:
    """Whether a text has a sign of a wildcard; without one it has none."""
    return any(sign in text for sign in ("*", "#0", "|", "~"))


def _pattern_fault(entry: str, mol: Chem.Mol) -> str | None:
    if any(atom.GetAtomicNum() == 0 or atom.HasQuery() for atom in mol.GetAtoms()):
        return "a wildcard stands for an atom: a pattern, not a molecule"
    may_be_any = _ANY_RING_BOND.search(entry) or any(
        bond.HasQuery() or bond.GetBondType() in _UNKNOWN_BONDS
        for bond in mol.GetBonds()
        if not any(
            atom.GetAtomicNum() not in NO_METALS
            for atom in (bond.GetBeginAtom(), bond.GetEndAtom())
        )
    )
    return "a bond may be any: a pattern, not a molecule" if may_be_any else None


_UNKNOWN_BONDS = (Chem.BondType.UNSPECIFIED, Chem.BondType.ZERO)
NO_METALS = frozenset(
    {0, 1, 2, *range(5, 11), *range(14, 19), *range(32, 37), *range(52, 55), 85, 86}
)


def may_be_tangled(n_atoms, n_bonds):
    """Whether molecules may have very many subgraphs though no atom has many bonds."""
    return (n_atoms > 200) | (n_bonds - n_atoms > 30)


# More than four neighbours: S, P, I, or an element in brackets other than C, N and O.
_MAY_BE_CROWDED = re.compile(r"[SPI]|\[\d*(?![CNOcno](?![a-z]))")


@lru_cache(maxsize=1)
def _crowded_pattern() -> Chem.Mol:
    return Chem.MolFromSmarts("[!D0;!D1;!D2;!D3;!D4]")


def _n_subgraphs(mol: Chem.Mol) -> float:
    """Bound the number of connected subgraphs of 1 to 7 bonds; exact for a tree.

    It counts the subtrees of the tree that all walks from an atom make: by power
    series in the number of bonds, those that begin with a bond from what may follow it.
    """
    ends = np.array(
        [(b.GetBeginAtomIdx(), b.GetEndAtomIdx()) for b in mol.GetBonds()], dtype=int
    ).reshape(-1, 2)
    source, target = np.concatenate([ends, ends[:, ::-1]]).T
    back = np.roll(np.arange(len(source)), len(ends))  # each bond's other direction
    trees = np.zeros((len(source), _N_BONDS + 1))
    logs = np.zeros((mol.GetNumAtoms(), _N_BONDS + 1))
    for _ in range(_N_BONDS):
        own = _log_of_one_plus(trees)
        logs[:] = 0
        np.add.at(logs, source, own)
        follow = _exp(logs[target] - own[back])
        trees[:, 1:] = follow[:, :-1]
    logs[:] = 0
    np.add.at(logs, source, _log_of_one_plus(trees))
    sizes = np.arange(1, _N_BONDS + 1)
    # A tree of n bonds has been counted from each of its n + 1 atoms.
    return float((_exp(logs)[:, 1:].sum(axis=0) / (sizes + 1)).sum())


def _log_of_one_plus(series: NDArray) -> NDArray:
    """Logarithm of 1 + a power series without a constant, row by row."""
    logs = np.zeros_like(series)
    for n in range(1, series.shape[1]):
        earlier = np.arange(1, n)
        products = earlier * logs[:, earlier] * series[:, n - earlier]
        logs[:, n] = series[:, n] - products.sum(axis=1) / n
    return logs


def _exp(series: NDArray) -> NDArray:
    """Exponential of a power series without a constant, row by row."""
    exps = np.zeros_like(series)
    exps[:, 0] = 1
    for n in range(1, series.shape[1]):
        parts = np.arange(1, n + 1)
        exps[:, n] = (parts * series[:, parts] * exps[:, n - parts]).sum(axis=1) / n
    return exps


def _why_invalid(entry: object, *, wildcards: bool, max_atoms: int) -> str | None:
    """Say why an entry is no molecule, where its text alone does not show it."""
    if not isinstance(entry, str):
        return None
    mol = _parse(entry)
    if mol is None:
        return text_fault(entry)
    return _fault(entry, mol, wildcards=wildcards, max_atoms=max_atoms)


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


def of_valid(
    function: Callable[..., object],
    X: ArrayLike,
    *,
    kept_as: Hashable | None = None,
    with_text: bool = False,
) -> NDArray:
    """Apply `function` to each distinct molecule; refuse what is none."""
    array = as_smiles_array(X)
    results = of_each(function, array, kept_as=kept_as, with_text=with_text)
    refuse_invalid(array, ~pd.isna(results))
    return results


def of_each(
    function: Callable[..., object],
    array: NDArray[np.object_],
    *,
    wildcards: bool = False,
    max_atoms: int = MAX_ATOMS,
    kept_as: Hashable | None = None,
    with_text: bool = False,
) -> NDArray[np.object_]:
    """Apply `function` to each distinct molecule; None where an entry is not one.

    Short results may be kept for later calls, by the name `kept_as`. The function takes
    the molecule, and `with_text` its SMILES behind it.
    """
    results: dict[str, object] = {}
    recent = recent_results() if kept_as is not None else {}
    with BlockLogs():
        # One molecule at a time: they are large.
        for text in dict.fromkeys(s for s in array if isinstance(s, str)):
            result = recent.get((kept_as, text))
            if result is None:
                mol = shared_molecule(text, wildcards=wildcards, max_atoms=max_atoms)
                given = (mol, text) if with_text else (mol,)
                result = None if mol is None else function(*given)
                give_back_interrupts()
                if result is not None and isinstance(recent, Recent):
                    recent.keep((kept_as, text), result, len(text) + len(str(result)))
            results[text] = result
    of_entries = np.empty(len(array), dtype=object)
    of_entries[:] = [results[s] if isinstance(s, str) else None for s in array]
    return of_entries
