"""Molecule graphs against chemprop's SimpleMoleculeMolGraphFeaturizer.

OMP_NUM_THREADS=1 python benchmarks/bench_graphs.py
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from _timing import compare, describe_machine, report
from chemprop.data import BatchMolGraph
from chemprop.featurizers import SimpleMoleculeMolGraphFeaturizer
from rdkit import Chem

from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.molecules import MoleculeGraphs


def read_smiles(file, n):
    if file:
        smiles = Path(file).read_text(encoding="utf-8").split()
    else:
        study = make_perturbation_study(n, n_cell_lines=1, n_genes=20, random_state=0)
        smiles = np.unique(study.smiles)
    return list(np.random.default_rng(0).permutation(smiles)[:n])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--molecules", type=int, default=1000)
    parser.add_argument("--smiles", help="text file, one SMILES a line")
    options = parser.parse_args()
    describe_machine("torch", "chemprop", "rdkit")
    smiles = read_smiles(options.smiles, options.molecules)
    featurizer = SimpleMoleculeMolGraphFeaturizer()
    mols = [Chem.MolFromSmiles(text) for text in smiles]
    theirs = [featurizer(mol) for mol in mols]
    ours = MoleculeGraphs.from_smiles(smiles)
    batch, expected = ours.take(range(len(ours))), BatchMolGraph(theirs)
    for part in ("V", "E", "edge_index", "rev_edge_index", "batch"):
        assert torch.equal(getattr(batch, part), getattr(expected, part)), part
    print(
        f"{len(smiles)} molecules, {len(batch.V) / len(smiles):.1f} atoms each: "
        f"bit-equal, {ours.nbytes / len(smiles):.0f} bytes a molecule"
    )
    times = compare(
        lambda: MoleculeGraphs.from_smiles(smiles),
        lambda: [featurizer(Chem.MolFromSmiles(text)) for text in smiles],
        repeats=options.repeats,
    )
    report("graphs from SMILES", *times, goal="1/4")
    times = compare(
        lambda: MoleculeGraphs.from_smiles(smiles),
        lambda: [featurizer(mol) for mol in mols],
        repeats=options.repeats,
    )
    report("ours from SMILES, theirs from RDKit molecules", *times, goal="1/4")
    times = compare(
        lambda: ours.take(range(256)).bags,
        lambda: BatchMolGraph(theirs[:256]),
        repeats=options.repeats,
    )
    report("a batch of 256, ours with the bags of DMPNN", *times, goal="2")


if __name__ == "__main__":
    main()
