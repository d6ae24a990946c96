"""A made-up study of the paper's size: wells on plates, and a library's molecules."""

import itertools

import numpy as np
import pandas as pd
from _authors_port import EPS
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from sklearn_molge.datasets._simulation import assemble_molecules

N_GENES, N_LINES, PROFILES_A_PLATE, CONTROLS_A_PLATE = 978, 6, 300, 20


def read_molecules(library, n, rng):
    if library is None:
        return assemble_molecules(n, rng)[0]
    texts = pd.read_csv(library, sep="\t", dtype=str)["canonical_smiles"].dropna()
    with BlockLogs():
        readable = (t for t in rng.permutation(texts.unique()) if _is_molecule(t))
        smiles = list(itertools.islice(readable, n))
    if len(smiles) < n:
        raise SystemExit(f"--library holds {len(smiles)} molecules, --drugs is {n}")
    return np.array(smiles, dtype=object)


def _is_molecule(text):
    molecule = Chem.MolFromSmiles(text)
    return molecule is not None and molecule.GetNumAtoms() > 0


def make_wells(n_profiles, smiles, controls_a_plate, rng):
    """Make treated and control wells: only their number and layout matter."""
    n_drugs = len(smiles)
    drugs = np.concatenate(
        [np.arange(n_drugs), rng.integers(0, n_drugs, n_profiles - n_drugs)]
    )
    n_plates = -(-n_profiles // PROFILES_A_PLATE)
    plates = rng.integers(0, n_plates, n_profiles)
    control_plates = np.repeat(np.arange(n_plates), controls_a_plate)
    treated = _wells(drugs, plates, smiles[drugs], rng)
    none = np.full(len(control_plates), -1)
    return treated, _wells(none, control_plates, "-666", rng)


def _wells(drugs, plates, smiles, rng):
    raw = rng.standard_normal((len(drugs), N_GENES), dtype=np.float32)
    lines = plates % N_LINES
    raw = np.abs(8 + 1.5 * raw)
    return dict(drugs=drugs, plates=plates, lines=lines, smiles=smiles, raw=raw)


def make_features(treated, controls, rng):
    """Return control, treated and log2 ratio of each profile, with one control each."""
    order = np.argsort(controls["plates"], kind="stable")
    counts = np.bincount(controls["plates"])
    drawn = rng.integers(0, counts[treated["plates"]])
    rows = order[(np.cumsum(counts) - counts)[treated["plates"]] + drawn]
    both = np.concatenate([treated["raw"], controls["raw"]])
    mean, std = both.mean(0), both.std(0, ddof=1, dtype=np.float64)
    std = std.astype(np.float32)
    features = np.empty((len(drawn), 3 * N_GENES), dtype=np.float32)
    features[:, :N_GENES] = ((controls["raw"] - mean) / std)[rows]
    features[:, N_GENES : 2 * N_GENES] = (treated["raw"] - mean) / std
    ratio = (treated["raw"] + EPS) / (controls["raw"][rows] + EPS)
    features[:, 2 * N_GENES :] = np.log2(ratio)
    return features
