"""drug_ids against what any identity needs: a parse, and an InChIKey."""

import numpy as np
from _molecules import read_molecules
from _timing import compare
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from sklearn_molge.molecules import drug_ids, identity_report

SMOKE = {"molecules": 40}


def add_arguments(parser):
    parser.add_argument("--molecules", type=int, default=2000, help="a call")


def run(options):
    n = options.molecules
    smiles = read_molecules(options, 2 * n * (options.repeats + 1))
    # Each call gets other molecules: identities are remembered.
    batches = np.split(smiles, 2 * (options.repeats + 1))
    records = []
    for option, name in (("", "MolToInchiKey"), ("-SNon", "MolToInchiKey, no stereo")):
        some = [batches.pop() for _ in range(options.repeats + 1)]
        ours, theirs = iter(some), iter(some)

        def keys(batch, option=option):
            return [Chem.MolToInchiKey(Chem.MolFromSmiles(s), option) for s in batch]

        with BlockLogs():
            record = compare(
                "drug_ids, from SMILES", lambda it=ours: drug_ids(next(it)),
                lambda it=theirs, keys=keys: keys(next(it)), options,
                against=f"parse and {name}", sizes={"molecules": n}, memory=False,
            )  # fmt: skip
        records.append(record)
    with BlockLogs():
        drugs = identity_report(smiles)["drug"].nunique()
    sizes = {"molecules": len(smiles)}
    return [*records, {"what": "identities", "sizes": sizes, "drugs": int(drugs)}]
