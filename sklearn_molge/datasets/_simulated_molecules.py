"""Molecules of the simulated study, and the potency that their blocks give them."""

from math import ceil, prod, sqrt

import numpy as np
from numpy.typing import NDArray
from rdkit import Chem

from sklearn_molge.molecules import drug_ids

__all__ = ["MAX_MOLECULES", "assemble_molecules", "draw_pec50"]

# Positions on carbon only, so that every block fits every scaffold. A scaffold's
# rings are numbered from 1, a block's from 7: an open ring is never closed early.
SCAFFOLDS = (
    "c1({})cc({})cc({})c1",  # benzene
    "c1({})nc({})cc({})c1",  # pyridine
    "c1({})nc({})nc({})c1",  # pyrimidine
    "c1({})nc({})c({})s1",  # thiazole
    "c1({})cc({})nn1-c1ccc({})cc1",  # 1-phenylpyrazole
    "c1({})cc({})nc2ccc({})cc12",  # quinoline
    "c1({})ncc({})c2ccc({})cc12",  # isoquinoline
    "c1({})nc({})nc2ccc({})cc12",  # quinazoline
    "O=c1[nH]c({})nc2cc({})c({})cc12",  # quinazolinone
    "O=c1[nH]nc({})c2cc({})c({})cc12",  # phthalazinone
    "c1({})c({})[nH]c2ccc({})cc12",  # indole
    "c1({})n[nH]c2cc({})c({})cc12",  # indazole
    "c1({})nc2cc({})c({})cc2[nH]1",  # benzimidazole
    "c1({})nc2cc({})c({})cc2s1",  # benzothiazole
    "c1({})nc2cc({})c({})cc2o1",  # benzoxazole
    "c1({})c({})oc2ccc({})cc12",  # benzofuran
    "c1({})c({})sc2ccc({})cc12",  # benzothiophene
    "c1({})c({})nc2ccc({})cn12",  # imidazo[1,2-a]pyridine
    "c1({})nc({})nc2sc({})cc12",  # thieno[2,3-d]pyrimidine
    "c1({})nc({})nc2[nH]c({})cc12",  # pyrrolo[2,3-d]pyrimidine
    "c1({})nc({})nc2nc({})[nH]c12",  # purine
    "c1({})c({})c(=O)oc2cc({})ccc12",  # coumarin
    "c1({})c({})c(=O)c2cc({})ccc2o1",  # chromone
    "c1({})ccc2[nH]c3cc({})c({})cc3c2c1",  # carbazole
    "c1({})ccc2Sc3cc({})c({})cc3Nc2c1",  # phenothiazine
    "CN1Cc2cc({})c({})c({})c2CC1",  # tetrahydroisoquinoline
    "c1({})ccc(cc1)-c1ccc({})c({})c1",  # biphenyl
    "c1({})ccc(cc1)Oc1ccc({})c({})c1",  # diphenyl ether
    "c1({})ccc(cc1)C(=O)Nc1ccc({})c({})c1",  # benzanilide
    "c1({})ccc(cc1)S(=O)(=O)Nc1ccc({})c({})c1",  # sulfonanilide
    "c1({})ccc(cc1)-c1nnc(o1)-c1ccc({})c({})c1",  # diphenyloxadiazole
    "O=C1CN=C(c2ccc({})cc2)c2cc({})c({})cc2N1",  # benzodiazepinone
)
PHARMACOPHORES = tuple(
    (
        "N7CCN(C)CC7 N7CCOCC7 N7CCC(O)CC7 NC7CCNCC7 NCCN(C)C NC7=NCCS7 Nc7cccc(Cl)c7 "
        "Nc7ccc(OC)cc7 NS(C)(=O)=O NC(=O)C=C NC(=O)c7ccccc7 NC(=O)C7CCCN7 OCCN7CCCC7 "
        "OCC(O)CNC(C)C Oc7ccc(F)cc7 C(=O)NO C(=O)O C(=O)NC7CC7 C(=O)N7CCNCC7 "
        "C(=O)NCc7ccco7 S(N)(=O)=O S(=O)(=O)N7CCCC7 C(N)=N C7=NCCN7 c7nnn[nH]7 "
        "c7ccncc7 c7cnn(C)c7 c7ccc(O)cc7 CN7CCOCC7 CC7SC(=O)NC7=O CC(N)C(=O)O "
        "C(O)(C(F)(F)F)C(F)(F)F"
    ).split()
)
SUBSTITUENTS = tuple(
    (
        "[H] C CC C(C)C C7CC7 CO CCOC OC OCC OC(F)F OC7CCCC7 C(F)(F)F C#N N NC N(C)C "
        "NC(C)=O C(C)=O C(N)=O C(=O)OC SC S(C)(=O)=O c7ccccc7 c7ccsc7"
    ).split()
)
SMALL_SUBSTITUENTS = tuple("[H] F Cl Br C CC O OC N C#N C#C C(F)(F)F".split())
BLOCKS = (SCAFFOLDS, PHARMACOPHORES, SUBSTITUENTS, SMALL_SUBSTITUENTS)
BLOCK_SIZES = tuple(len(blocks) for blocks in BLOCKS)
MAX_MOLECULES = 250_000  # of 293,568 that differ

# Spread of pEC50 over the scaffolds, the pharmacophores and both kinds of substituents.
PEC50_MEAN = 3.5
PEC50_SPREAD = (1.4, 1.4, 0.3, 0.3)
# A small substituent may clash with the target, and one analogue of a series is lost.
CLASH_SHARE = 0.1
CLASH_COST = 1.5


def assemble_molecules(
    n_molecules: int, rng: np.random.Generator
) -> tuple[NDArray[np.object_], NDArray[np.object_], NDArray[np.intp]]:
    """Assemble distinct molecules from a scaffold and three blocks each.

    Returns RDKit's canonical SMILES, their identities (`drug_ids`), and the blocks of
    each: indices of the scaffold, the pharmacophore and the two substituents,
    (n_molecules, 4).
    """
    candidates = _candidate_blocks(n_molecules, rng)
    found: dict[str, tuple[str, NDArray[np.intp]]] = {}
    start = 0
    # Symmetric scaffolds make some molecules twice, so a round may fall short.
    while (n_missing := n_molecules - len(found)) > 0:
        chosen = candidates[start : start + n_missing]
        start += n_missing
        smiles = [_join_blocks(row) for row in chosen]
        for drug, text, row in zip(drug_ids(smiles), smiles, chosen, strict=True):
            found.setdefault(drug, (text, row))
    texts, rows = zip(*found.values(), strict=True)
    return (
        np.array(texts, dtype=object),
        np.array(list(found), dtype=object),
        np.array(rows),
    )


def _candidate_blocks(n_molecules: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return distinct combinations of blocks, many more than are needed.

    About sqrt(n) / 2 scaffolds and as many pharmacophores are used, so that a library
    of any size has series of analogues: about four molecules to each pair.
    """
    n_cores = ceil(sqrt(n_molecules / 4))
    used = [
        rng.permutation(size)[:limit]
        for size, limit in zip(BLOCK_SIZES, (n_cores, n_cores, None, None), strict=True)
    ]
    shape = tuple(len(indices) for indices in used)
    codes = np.unravel_index(rng.permutation(prod(shape)), shape)
    return np.stack([u[code] for u, code in zip(used, codes, strict=True)], axis=1)


def _join_blocks(row: NDArray[np.intp]) -> str:
    scaffold, *parts = (blocks[i] for blocks, i in zip(BLOCKS, row, strict=True))
    return Chem.MolToSmiles(Chem.MolFromSmiles(scaffold.format(*parts)))


def draw_pec50(
    blocks: NDArray[np.intp],
    n_mechanisms: int,
    unexplained: float,
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """Draw the potency of each molecule at each mechanism (Free and Wilson 1964).

    `unexplained` is the standard deviation of what `blocks` do not explain. A pEC50 is
    -log10 of the concentration (mol/l) of half the effect; (n_molecules, n_mechanisms).
    """
    pec50 = rng.normal(PEC50_MEAN, unexplained, (len(blocks), n_mechanisms))
    for block, size, spread in zip(blocks.T, BLOCK_SIZES, PEC50_SPREAD, strict=True):
        pec50 += rng.normal(0, spread, (size, n_mechanisms))[block]
    clashes = rng.random((BLOCK_SIZES[3], n_mechanisms)) < CLASH_SHARE
    return pec50 - CLASH_COST * clashes[blocks[:, 3]]
