"""What makes two molecules alike to a chemist, as keys that can be compared."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rdkit import Chem
from rdkit.Chem import rdMolHash
from rdkit.Chem.Scaffolds import MurckoScaffold
from rdkit.rdBase import BlockLogs
from sklearn.base import clone

from sklearn_molge._utils.rows import distinct_rows, row_batches
from sklearn_molge.metrics import pairwise_similarity
from sklearn_molge.molecules import (
    MorganFingerprinter,
    drug_ids,
    parent_molecule,
    parse_smiles,
)

__all__ = ["fingerprint_codes", "nearest_molecules", "structure_table"]

PAPER_BITS = 512


def structure_table(texts: NDArray[np.object_]) -> pd.DataFrame:
    """Describe each distinct SMILES: one row a text.

    ``drug``, ``isomer``: identities without and with stereochemistry; ``parent``:
    SMILES of the uncharged largest fragment; ``partners``: drugs of its others;
    ``protomer``: equal for tautomers and charge states; ``scaffold``: of Bemis and
    Murcko, None for an acyclic molecule.
    """
    table = pd.DataFrame({"drug": drug_ids(texts)}, index=texts)
    table["isomer"] = drug_ids(texts, stereo=True)
    columns = ["parent", "protomer", "scaffold", "fragments"]
    with BlockLogs():
        mols = map(parse_smiles, texts)
        described = [_describe(mol) for mol in mols if mol is not None]
    for name, values in zip(columns, zip(*described, strict=True), strict=True):
        table[name] = list(values)
    table["partners"] = _partners(table["drug"], table.pop("fragments"))
    return table


def _describe(mol: Chem.Mol) -> tuple[str, str, str | None, tuple[str, ...]]:
    parent = parent_molecule(mol)
    text = Chem.MolToSmiles(parent)
    if parse_smiles(text) is None:  # a few metal complexes do not survive it
        text = Chem.MolToSmiles(mol)
    scaffold = Chem.MolToSmiles(
        MurckoScaffold.GetScaffoldForMol(parent), isomericSmiles=False
    )
    flat = Chem.Mol(parent)
    Chem.RemoveStereochemistry(flat)
    protomer = rdMolHash.MolHash(flat, rdMolHash.HashFunction.HetAtomProtomerv2)
    whole = Chem.MolToSmiles(mol)
    fragments = tuple(whole.split(".")) if "." in whole else ()
    return text, protomer, scaffold or None, fragments


def _partners(drugs: pd.Series, fragments: pd.Series) -> pd.Series:
    """Return the drugs of the fragments other than the molecule itself."""
    texts = sorted({f for several in fragments for f in several})
    readable = [text for text in texts if parse_smiles(text) is not None]
    ids = dict(zip(readable, drug_ids(readable) if readable else [], strict=True))
    partners = [
        frozenset(ids[f] for f in several if f in ids) - {drug}
        for drug, several in zip(drugs, fragments, strict=True)
    ]
    return pd.Series(partners, index=drugs.index, dtype=object)


def fingerprint_codes(parents: NDArray[np.object_], fingerprinter: Any) -> NDArray:
    """Give molecules with equal fingerprints one number."""
    return distinct_rows(clone(fingerprinter).fit_transform(parents))[1]


def nearest_molecules(
    queries: NDArray[np.object_], gallery: NDArray[np.object_], fingerprinter: Any
) -> tuple[NDArray[np.intp], NDArray]:
    """Return the position of the nearest of `gallery`, and Tanimoto's similarity."""
    both = np.concatenate([gallery, queries])
    features = clone(fingerprinter).fit_transform(both)
    known, asked = features[: len(gallery)], features[len(gallery) :]
    nearest, similarity = [], []
    for rows in row_batches(len(queries), max(len(gallery), 1)):
        block = pairwise_similarity(asked[rows], known, metric="tanimoto")
        best = block.argmax(axis=1)
        nearest.append(best)
        similarity.append(block[np.arange(len(best)), best])
    return np.concatenate(nearest), np.concatenate(similarity)


def paper_fingerprinter() -> MorganFingerprinter:
    """Return the fingerprint of the paper's D-NN."""
    return MorganFingerprinter(radius=2, fp_size=PAPER_BITS)
