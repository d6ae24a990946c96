"""SMILES: real ones with small changes, given to all that reads them."""

import numpy as np
from harness import Kind
from mutations import mutate
from rdkit import Chem
from rdkit.rdBase import BlockLogs

from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.molecules import (
    MoleculeFingerprinter,
    MoleculeGraphs,
    MorganFingerprinter,
    canonical_smiles,
    check_smiles,
    drug_ids,
    parse_smiles,
    valid_smiles_mask,
)

REAL = """
    CC(=O)Oc1ccccc1C(=O)O Cn1c(=O)c2c(ncn2C)n(C)c1=O CN1CCC[C@H]1c1cccnc1
    CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O C[C@H]([NH3+])C(=O)O.[Cl-] N[Pt](N)(Cl)Cl
    Clc1ccc2c(c1)C(=NCC(=O)N2C)c1ccccc1 CC(=O)[O-].[Na+] F/C=C/F [2H]C([2H])([2H])O
    O=C1CC(=O)C=C1 CC(O)=CC(C)=O c1ccc2[nH]ccc2c1 C1CC2CCC1CC2 [NH3]->[Pt](Cl)Cl
    CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O OB(O)c1ccccc1 C[Si](C)(C)C CS(=O)(=O)C
    NCC(=O)NCC(=O)N[C@@H](C)C(=O)O OC1=CC=NC=C1 CCP(CC)(CC)=[Au]SC [13CH4] C#N [H][H]
""".split()
PIECES = [
    "\x00", "\ud800", "\ufeff", "\u200b", "~", "~1", "*", "[#0]", "[C+9999]", "[Og]",
    "[70000C]", "[UH256]", "[C:99999]", "$", "->", "<-", "%99", "%(12345)", "|$A$|",
    " |^1:0|", "@@", "[Fe]", "[H]", ".", "(" * 500, "C" * 2000, "[U]12", "=1", "#", " ",
    "[nH]", "[CH0]", "\u0663", "\u2160", "[C@TH1]", "[2H]", "[Xe](F)(F)(F)(F)F", "'",
]  # fmt: skip
ATOMS = ["N", "O", "S", "P", "[N+]", "[O-]", "[Fe]", "[Na+]", "B", "[13C]", "CC", "C=C"]
MORGAN = MorganFingerprinter(fp_size=64)
MACCS = MoleculeFingerprinter("maccs")
FEW = ["O", "CCO"]


def random_texts(rng):
    """Return a real SMILES, changed in characters, pieces, bytes or as a whole."""
    text = REAL[rng.integers(len(REAL))]
    for _ in range(rng.integers(1, 4)):
        at, change = int(rng.integers(len(text) + 1)), rng.integers(8)
        other = REAL[rng.integers(len(REAL))]
        if change == 0:
            text = text[:at] + PIECES[rng.integers(len(PIECES))] + text[at:]
        elif change == 1:
            text = text[:at] + other[int(rng.integers(len(other) + 1)) :]
        elif change == 2:
            text = text[:at] + text[at + 1 :]
        elif change == 3:
            text = mutate(rng, text.encode("utf-8", "surrogatepass"), 30_000).decode(
                "utf-8", ["ignore", "surrogateescape", "replace"][rng.integers(3)]
            )
        elif change == 4:
            text = f"{text}.{other}"
        elif change == 5:
            text = f"{other}({text})C"
        else:  # another atom for a carbon
            places = [i for i, character in enumerate(text) if character == "C"] or [0]
            at = places[rng.integers(len(places))]
            text = text[:at] + ATOMS[rng.integers(len(ATOMS))] + text[at + 1 :]
    return text


class Smiles(Kind):
    """A text between two good ones."""

    name = "smiles"

    def prepare(self, folder):
        self.few = MORGAN.transform(FEW), drug_ids(FEW)

    def draw(self, rng):
        return random_texts(rng)

    def use(self, case):
        is_valid = valid_smiles_mask([case]).item()
        X = [FEW[0], case, FEW[1], case]
        found = {"valid": is_valid, "read": parse_smiles(case) is not None}
        for name, answer in {
            "check": check_smiles,
            "ids": drug_ids,
            "canonical": canonical_smiles,
            "morgan": MORGAN.transform,
            "maccs": MACCS.transform,
            "graphs": MoleculeGraphs.from_smiles,
        }.items():
            try:
                found[name] = answer(X)
            except InvalidSmilesError as error:
                if error.indices != [1, 3]:
                    raise RuntimeError(f"{name}: other entries are named") from error
                found[name] = None
        if not is_valid:
            check_smiles(X)
        return found

    def is_clear(self, case, error):
        return isinstance(error, InvalidSmilesError) and error.indices == [1, 3]

    def judge(self, case, answer):
        named = [answer[name] is not None for name in ("check", "ids", "canonical")]
        if len({answer["valid"], *named}) > 1:
            return f"valid for some only: {answer['valid']}, {named}"
        read = [answer[name] is not None for name in ("morgan", "maccs", "graphs")]
        if len({answer["read"], *read}) > 1:
            return f"read by some only: {answer['read']}, {read}"
        rows, ids = answer["morgan"], answer["ids"]
        if (
            not (rows[[0, 2]] == self.few[0]).all()
            or not (ids[[0, 2]] == self.few[1]).all()
        ):
            return "rows depend on their neighbours"
        if not (rows[1] == rows[3]).all() or ids[1] != ids[3]:
            return "the same text has two rows"
        if len(answer["graphs"]) != 4:
            return "graphs are missing"
        return _other_spelling(case, ids[1], rows[1])


def _other_spelling(case, drug, row):
    """Say whether the molecule that a text is has another identity when respelt."""
    with BlockLogs():
        mol = parse_smiles(case)
        order = np.random.default_rng(0).permutation(mol.GetNumAtoms()).tolist()
        spelt = Chem.MolToSmiles(Chem.RenumberAtoms(mol, order), canonical=False)
    if not valid_smiles_mask([spelt]).item():
        return None  # RDKit does not read all that it writes
    with BlockLogs():
        again = Chem.MolToSmiles(parse_smiles(spelt), isomericSmiles=False)
        if again != Chem.MolToSmiles(mol, isomericSmiles=False):
            return None  # or reads it as another molecule
    if drug_ids([spelt]).item() != drug:
        return f"another identity as {spelt!r}"
    return None


KINDS = [Smiles()]
