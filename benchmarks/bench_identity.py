"""Who is a molecule: what drug_ids merges and keeps apart, and its speed.

OMP_NUM_THREADS=1 python benchmarks/bench_identity.py compoundinfo.txt.gz

The table has the columns ``canonical_smiles`` and ``cmap_name``, as LINCS's
compoundinfo. The rule before version 2 was: the uncharged largest fragment as it is
drawn.
"""

import argparse
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pandas as pd
from _timing import compare, describe_machine, report
from rdkit import Chem
from rdkit.Chem.MolStandardize import rdMolStandardize
from rdkit.rdBase import BlockLogs
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.molecules import (
    MorganFingerprinter,
    drug_ids,
    identity_report,
    name_conflicts,
    parent_molecule,
    valid_smiles_mask,
)
from sklearn_molge.molecules._identity import _mobile_pattern

MOVED = "tautomer|metal|inorganic|counter-ion|solvent|part"


def read_table(path):
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    table = table[valid_smiles_mask(table["canonical_smiles"])]
    print(f"{len(table):,} compounds, {table.canonical_smiles.nunique():,} SMILES")
    return table


def old_ids(smiles):
    """Identities of version 1."""
    parameters = rdMolStandardize.CleanupParameters()
    parameters.preferOrganic = True
    chooser = rdMolStandardize.LargestFragmentChooser(parameters)
    uncharger = rdMolStandardize.Uncharger()
    ids = []
    for text in smiles:
        parent = uncharger.uncharge(chooser.choose(Chem.MolFromSmiles(text)))
        key = Chem.MolToInchiKey(parent, "-SNon").split("-")[0]
        ids.append(key or Chem.MolToSmiles(parent, isomericSmiles=False))
    return ids


def inchi_keys(smiles):
    return [Chem.MolToInchiKey(Chem.MolFromSmiles(text)) for text in smiles]


def flat_keys(smiles):
    """Do the least that an identity needs: parse, and InChI without stereochemistry."""
    return [Chem.MolToInchiKey(Chem.MolFromSmiles(text), "-SNon") for text in smiles]


def time_it(smiles, repeats):
    """Compare speeds; each call gets other molecules, since identities are cached."""
    order = np.random.default_rng(0).permutation(smiles)
    sets = np.array_split(order, 3)
    with BlockLogs():
        moves = np.array([_has_mobile(text) for text in sets[2]])
    print(f"{moves.mean():.1%} have hydrogens that may move to or from carbon")
    for title, peer, texts, goal in (
        ("InChIKey", inchi_keys, sets[0], "none"),
        ("parse + InChI -SNon", flat_keys, sets[1], "none"),
        ("the same, of fixed hydrogens", flat_keys, sets[2][~moves], "1.05"),
    ):
        size = min(1000, len(texts) // (repeats + 1))
        parts = np.array_split(texts[: size * (repeats + 1)], repeats + 1)
        times = compare(
            partial(_on_next, drug_ids, iter(parts)),
            partial(_on_next, peer, iter(parts)),
            repeats=repeats,
            clock=time.process_time,
        )
        report(f"drug_ids against {title}, {size:,} SMILES", *times, goal=goal)


def time_build(smiles, repeats, n_jobs):
    """Compare an index of distinct drugs with one of distinct texts.

    Each is built of its own molecules in a thread of its own, which has read none.
    """
    n = min(len(smiles) // 2, 1000 * n_jobs * (repeats + 1))
    order = np.random.default_rng(1).permutation(smiles)[: 2 * n]
    parts = np.array_split(order, 2 * (repeats + 1))
    profiles = np.random.default_rng(0).normal(size=(len(parts[0]), 50))
    pipe = make_pipeline(MorganFingerprinter(), CCA(20, ridge=10.0))
    pipe.fit(parts[0], profiles)

    def build(unique_by, part):
        params = {"unique_by": unique_by, "batch_size": 256, "n_jobs": n_jobs}
        with ThreadPoolExecutor(1) as pool:
            pool.submit(MoleculeIndex(pipe, **params).fit, part).result()

    times = compare(
        partial(_on_next, partial(build, "drug"), iter(parts[::2])),
        partial(_on_next, partial(build, "smiles"), iter(parts[1::2])),
        repeats=repeats,
        # That of other processes is not ours.
        clock=time.process_time if n_jobs == 1 else time.perf_counter,
    )
    title = f"unique_by='drug' against 'smiles', {len(parts[0]):,} SMILES, {n_jobs=}"
    report(title, *times, goal="1.8")


def _on_next(function, parts):
    return function(next(parts))


def _has_mobile(text):
    parent = parent_molecule(Chem.MolFromSmiles(text))
    return parent.HasSubstructMatch(_mobile_pattern())


def show_groups(groups, names, n_shown):
    """Print groups of molecules: the names and one SMILES of each."""
    for members in groups[:n_shown]:
        print("  " + " = ".join(sorted({names[text] for text in members["smiles"]})))
        for row in members.itertuples():
            print(f"      {row.smiles}  [{row.reasons or 'as drawn'}]")


def changed_groups(found, by, within):
    """Return the groups of `by` that are several groups of `within`."""
    several = found.groupby(by)[within].nunique()
    for group in several[several > 1].index:
        yield found[found[by] == group].drop_duplicates(within)


def why(members):
    reasons = members["reasons"].str.findall(MOVED).explode().dropna()
    return ", ".join(sorted(set(reasons))) or "as drawn"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="of building an index")
    parser.add_argument("--only-speed", action="store_true")
    parser.add_argument("--shown", type=int, default=30)
    options = parser.parse_args()
    describe_machine("rdkit")
    table = read_table(options.table)
    smiles = table["canonical_smiles"].unique()
    time_build(smiles, options.repeats, options.jobs)  # first: nothing is known yet
    time_it(smiles, options.repeats)
    if options.only_speed:
        return
    names = table.groupby("canonical_smiles")["cmap_name"].first()
    with BlockLogs():
        found = identity_report(names.index)
        found["old"] = old_ids(found["smiles"])
    print(f"before: {found.old.nunique():,} drugs; after: {found.drug.nunique():,}")
    found["reasons"].str.split(", ").explode().value_counts().pipe(print)
    for title, by, within in (("merged", "drug", "old"), ("split", "old", "drug")):
        groups = list(changed_groups(found, by, within))
        print(f"{title}: {len(groups)} groups")
        print(pd.Series(list(map(why, groups)), dtype=object).value_counts())
        show_groups(groups, names, options.shown)
    conflicts = name_conflicts(table["canonical_smiles"], table["cmap_name"])
    print(f"{conflicts.name.nunique()} names of several drugs")
    print(conflicts["why"].value_counts())
    likely = conflicts[conflicts["why"] == "double bonds"]
    print(likely[["name", "smiles_a", "smiles_b"]].to_string())


if __name__ == "__main__":
    main()
