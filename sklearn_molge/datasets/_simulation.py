"""A simulated study: molecules, and the profiles that they induce."""

from __future__ import annotations

from math import ceil, prod, sqrt
from numbers import Integral, Real

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from rdkit import Chem

from sklearn_molge._compat import Interval, validate_params
from sklearn_molge.datasets._study import Study
from sklearn_molge.molecules import drug_ids

__all__ = ["make_perturbation_study"]

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

FIRST_GENE_ID = 900_000_001  # beyond Entrez, so that no real gene is meant
WELLS = [f"{row}{column:02d}" for row in "ABCDEFGHIJKLMNOP" for column in range(1, 25)]
TIME_H = 24.0
LOG2_RANGE = (3.0, 15.0)
Z_LIMIT = 10.0
MIN_Z_SCALE = 0.1  # as the LINCS pipeline does, for genes that hardly vary

BASELINE_RANGE = (5.5, 12.0)
LINE_SD = 0.7
NOISE_SPREAD = 0.4
PROGRAMME_SD = 0.5
PROGRAMME_SHARE = 0.1
SENSITIVITY_SPREAD = 0.3
N_SIDE_PROGRAMMES = 10


@validate_params(
    {
        "n_molecules": [Interval(Integral, 1, MAX_MOLECULES, closed="both")],
        "n_cell_lines": [Interval(Integral, 1, None, closed="left")],
        "n_genes": [Interval(Integral, 1, None, closed="left")],
        "n_mechanisms": [Interval(Integral, 1, None, closed="left")],
        "n_replicates": [Interval(Integral, 1, None, closed="left")],
        "doses_um": ["array-like"],
        "n_controls": [Interval(Integral, 2, len(WELLS) - 1, closed="both")],
        "measured": [Interval(Real, 0, 1, closed="right")],
        "unexplained_potency": [Interval(Real, 0, None, closed="left")],
        "line_effect": [Interval(Real, 0, None, closed="left")],
        "drug_effect": [Interval(Real, 0, None, closed="left")],
        "pair_effect": [Interval(Real, 0, None, closed="left")],
        "batch_effect": [Interval(Real, 0, None, closed="left")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "level": [Interval(Integral, 3, 5, closed="both")],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_perturbation_study(
    n_molecules: int = 300,
    *,
    n_cell_lines: int = 8,
    n_genes: int = 978,
    n_mechanisms: int = 14,
    n_replicates: int = 2,
    doses_um: ArrayLike = (3.33, 10.0),
    n_controls: int = 16,
    measured: float = 1.0,
    unexplained_potency: float = 1.0,
    line_effect: float = 0.7,
    drug_effect: float = 0.6,
    pair_effect: float = 0.9,
    batch_effect: float = 0.15,
    noise: float = 0.3,
    level: int = 3,
    random_state: int | np.random.RandomState | None = None,
) -> Study:
    r"""Simulate a study: molecules, and the profiles that they induce.

    **A simulation.** Molecules are put together from building blocks, mechanisms and
    genes are invented, and profiles are drawn from the equations in Notes. The same
    steps as in L1000 data are there (structure, potency, cell lines, plates,
    controls, replicates), so that methods can be tried, tested and compared where the
    truth is known. Nothing follows from it about a real molecule, gene or cell line,
    nor about how well a method does on real data.

    Parameters
    ----------
    n_molecules : int, default=300
        Number of distinct molecules, from 1 to 250,000.
    n_cell_lines : int, default=8
        Number of cell lines.
    n_genes : int, default=978
        Number of genes; L1000 measures 978.
    n_mechanisms : int, default=14
        Number of mechanisms of action.
    n_replicates : int, default=2
        Wells of each molecule, line and dose, each on another plate.
    doses_um : array-like of float, default=(3.33, 10.0)
        Distinct doses in um (micromol/l).
    n_controls : int, default=16
        DMSO wells on each plate of 384 wells, from 2 to 383.
    measured : float, default=1.0
        Share of the (molecule, line) pairs that are measured, in (0, 1]. The others are
        missing at random, but every molecule is measured in one line at least. (A line
        may be left without a profile.)
    unexplained_potency : float, default=1.0
        Standard deviation of the pEC50 that the structure does not explain.
    line_effect : float, default=0.7
        Size of the part of a mechanism's programme that differs between lines,
        relative to the part that they share.
    drug_effect : float, default=0.6
        Size of the response that is peculiar to a molecule, the same in all lines,
        whatever its structure, mechanism and dose.
    pair_effect : float, default=0.9
        Size of the response that is peculiar to a molecule in one line.
    batch_effect : float, default=0.15
        Standard deviation of a plate's shift of a gene, in log2 intensity.
    noise : float, default=0.3
        Median over the genes of the standard deviation between wells, in log2
        intensity.
    level : {3, 4, 5}, default=3
        3: log2 intensity of each well; 4: z-score of each well; 5: z-score of each
        molecule, line and dose, the mean over replicates. The same seed gives the
        same study at each level.
    random_state : int, RandomState instance or None, default=None
        Pass an int for the same study each time.

    Returns
    -------
    study : Study
        ``n_molecules * n_cell_lines * len(doses_um) * n_replicates`` profiles where
        all pairs are measured, without the last factor at Level 5; 4 bytes for each
        value. ``obs`` has the name of the molecule's mechanism (``moa``: the one
        with the highest pEC50) and that pEC50 (``pec50``). Levels 3 and 4 have
        controls; at Level 5 ``plate`` is the plate map that the replicates share.

    Raises
    ------
    ValueError
        If `doses_um` are not distinct positive numbers, or `measured` is less than
        ``1 / n_cell_lines``.

    See Also
    --------
    load_lincs : Real data.

    Notes
    -----
    *Molecules* are a scaffold with a pharmacophore and two substituents, written by
    RDKit. A study takes about :math:`\sqrt{n}/2` scaffolds and as many pharmacophores,
    so that molecules come in series of analogues.

    *Potency* of molecule i at mechanism m is a sum over its four blocks b(i)
    (Free and Wilson 1964), less a cost where its small substituent clashes with the
    target (C is 0 or 1), so that near analogues may differ in mechanism:

    .. math:: \text{pEC50}_{im} = 3.5 + \sum_{b=1}^{4} A^b_{b(i), m}
        - 1.5\, C_{b_4(i), m} + \varepsilon_{im}

    with normal A (standard deviation 1.4, 1.4, 0.3, 0.3) and :math:`\varepsilon`
    (`unexplained_potency`). At dose d it is active by
    :math:`a_{imd} = d / (d + \text{EC50}_{im})`.

    *The response* in line l is

    .. math:: r_{ild} = \sum_m a_{imd}\, s_{lm} (P_m + \lambda Q_{lm})
        + \sum_{k=1}^{10} (u_{ik} + v_{ilk}) S_k

    with the line's sensitivity s (log-normal), gene programmes P, Q and S (a tenth of
    the genes, normal with standard deviation 0.5), :math:`\lambda` = `line_effect` and
    normal u (`drug_effect`) and v (`pair_effect`). What cannot be learnt sets how far
    apart the methods and the oracles are: :math:`\varepsilon` and u for unseen
    molecules, Q for unseen lines, v for both.

    *Level 3* is the line's baseline + the plate's batch effect + the response + normal
    noise, limited to 3 to 15. *Level 4* is the difference from the mean of the plate's
    DMSO wells, divided by their standard deviation (at least 0.1). *Level 5* is the
    mean of Level 4 over replicates, limited to -10 to 10.

    With the defaults, and a third of the drugs and of the lines unseen, mean
    reciprocal ranks come in the order of Finlayson et al. 2020 (means over 5 seeds;
    Morgan fingerprints, 100 candidates):

    ======================== ======= =======
    Retriever                Level 3 Level 5
    ======================== ======= =======
    Oracle on test lines     0.86    0.75
    Oracle on training lines 0.56    0.58
    CCA                      0.26    0.27
    Double nearest neighbour 0.09    0.09
    Chance                   0.05    0.05
    ======================== ======= =======

    Level 3 is measured by its difference from the plate's controls; the order is the
    same, with smaller gaps, for its intensities as they are.

    References
    ----------
    S. M. Free and J. W. Wilson, "A mathematical contribution to structure-activity
    studies", Journal of Medicinal Chemistry 7 (1964).

    Examples
    --------
    >>> from sklearn_molge.datasets import make_perturbation_study
    >>> study = make_perturbation_study(20, n_cell_lines=3, n_genes=50, random_state=0)
    >>> study
    Study: 240 profiles (level 3) of 20 drugs in 3 cell lines, 50 genes, 96 controls
    >>> study.paired_ge().shape
    (240, 100)
    >>> signatures = make_perturbation_study(
    ...     20, n_cell_lines=3, n_genes=50, level=5, random_state=0
    ... )
    >>> signatures.ge.shape
    (120, 50)
    """
    doses = _check_doses(doses_um)
    if measured * n_cell_lines < 1:
        raise ValueError(
            "measured must be at least 1 / n_cell_lines, so that every molecule has a "
            f"profile: {1 / n_cell_lines:.3g} for {n_cell_lines} cell lines. "
            f"Got {measured}."
        )
    if isinstance(random_state, np.random.RandomState):
        random_state = random_state.randint(2**31 - 1)
    # A stream for each step: more noise does not change the molecules.
    rngs = np.random.default_rng(random_state).spawn(6)

    smiles, drugs, blocks = assemble_molecules(n_molecules, rngs[0])
    pec50 = draw_pec50(blocks, n_mechanisms, unexplained_potency, rngs[1])
    pairs = _draw_pairs((n_molecules, n_cell_lines), measured, rngs[2])
    wells = _lay_out_plates(pairs, doses, n_replicates, n_controls, rngs[3])
    ge = _draw_untreated(wells, (n_cell_lines, n_genes), batch_effect, noise, rngs[4])
    _add_responses(ge, wells, pec50, line_effect, drug_effect, pair_effect, rngs[5])

    treated = wells["molecule"].to_numpy() >= 0
    if level > 3:
        ge = _z_scores(ge, wells["plate"], treated)
    if level == 5:
        ge, wells = _collapse_replicates(ge[treated], wells[treated])
        treated = np.ones(len(wells), dtype=bool)
    obs = _describe_wells(wells, drugs, pec50)
    return Study(
        smiles[wells["molecule"].to_numpy()[treated]],
        ge=ge[treated],
        obs=obs[treated],
        genes=_describe_genes(n_genes),
        control_ge=None if level == 5 else ge[~treated],
        control_obs=None if level == 5 else obs[~treated],
        level=level,
    )


def _check_doses(doses_um: ArrayLike) -> NDArray[np.float64]:
    doses = np.asarray(doses_um, dtype=np.float64)
    valid = doses.ndim == 1 and doses.size and len(np.unique(doses)) == doses.size
    if not valid or not np.all(np.isfinite(doses) & (doses > 0)):
        raise ValueError(
            f"doses_um must be distinct positive numbers (um). Got {doses_um!r}."
        )
    return doses


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


def _draw_pairs(
    shape: tuple[int, int], measured: float, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Draw the measured (molecule, line) pairs, at least one for each molecule."""
    keys = rng.random(shape)
    keys[np.arange(len(keys)), keys.argmin(axis=1)] -= 1
    n_measured = round(measured * keys.size)
    return keys <= np.partition(keys, n_measured - 1, axis=None)[n_measured - 1]


def _describe_wells(
    wells: pd.DataFrame, drugs: NDArray[np.object_], pec50: NDArray[np.float64]
) -> pd.DataFrame:
    """Write wells in the columns of a study; -1 takes the control's value."""
    molecule = wells["molecule"].to_numpy()
    numbers = range(1, len(drugs) + 1)
    mechanisms = [f"mechanism {m + 1:02d}" for m in pec50.argmax(axis=1)]

    def texts(values, control):
        return np.array([*values, control], dtype=object)[molecule]

    lines = "LINE" + (wells["line"] + 1).astype(str).str.zfill(2)
    columns = {
        "pert_id": texts((f"SIM-{i:06d}" for i in numbers), "DMSO"),
        "pert_name": texts((f"simulated {i}" for i in numbers), "DMSO"),
        "drug": texts(drugs, np.nan),
        "cell_line": lines.to_numpy(dtype=object),
        "plate": wells["plate"].to_numpy(dtype=object),
        "well": wells["well"].to_numpy(dtype=object),
        "dose_um": wells["dose_um"].to_numpy(),
        "time_h": TIME_H,
        "pert_type": texts(["trt_cp"] * len(drugs), "ctl_vehicle"),
        "moa": texts(mechanisms, np.nan),
        "pec50": np.append(pec50.max(axis=1), np.nan)[molecule],
    }
    names = pd.Index(columns["plate"] + ":" + columns["well"], name="profile_id")
    return pd.DataFrame(columns, index=names)


def _describe_genes(n_genes: int) -> pd.DataFrame:
    symbols = np.array([f"SIM{i:04d}" for i in range(1, n_genes + 1)], dtype=object)
    ids = np.arange(FIRST_GENE_ID, FIRST_GENE_ID + n_genes)
    return pd.DataFrame({"gene_id": ids, "symbol": symbols})


def _lay_out_plates(
    pairs: NDArray[np.bool_],
    doses: NDArray[np.float64],
    n_replicates: int,
    n_controls: int,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Give each condition a well of a plate map, and each replicate of a map a plate.

    Controls have molecule -1. Conditions are in the same order in each replicate.
    """
    capacity = len(WELLS) - n_controls
    plates = []
    for line, in_line in enumerate(pairs.T):
        molecules = np.repeat(np.flatnonzero(in_line), len(doses))
        order = rng.permutation(len(molecules))
        conditions = pd.DataFrame(
            {
                "molecule": molecules[order],
                "dose_um": np.tile(doses, in_line.sum())[order],
            }
        )
        for start in range(0, len(conditions), capacity):
            n_map = start // capacity + 1
            controls = pd.DataFrame({"molecule": [-1] * n_controls, "dose_um": np.nan})
            plate_map = pd.concat([controls, conditions[start : start + capacity]])
            plate_map["well"] = rng.permutation(WELLS)[: len(plate_map)].astype(object)
            plate_map["line"] = line
            plate_map["map"] = f"SIM{n_map:03d}_LINE{line + 1:02d}_{TIME_H:.0f}H"
            for replicate in range(1, n_replicates + 1):
                plate = plate_map["map"] + f"_X{replicate}"
                plates.append(plate_map.assign(replicate=replicate, plate=plate))
    return pd.concat(plates, ignore_index=True)


def _draw_untreated(
    wells: pd.DataFrame,
    shape: tuple[int, int],
    batch_effect: float,
    noise: float,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """Draw what each well would show without a molecule."""
    n_genes = shape[1]
    baseline = rng.uniform(*BASELINE_RANGE, n_genes) + rng.normal(0, LINE_SD, shape)
    noise_sd = noise * rng.lognormal(0, NOISE_SPREAD, n_genes)
    plate, names = pd.factorize(wells["plate"])
    batch = rng.normal(0, batch_effect, (len(names), n_genes))
    ge = rng.standard_normal((len(wells), n_genes), dtype=np.float32)
    ge *= noise_sd.astype(np.float32)
    ge += baseline.astype(np.float32)[wells["line"]]
    ge += batch.astype(np.float32)[plate]
    return ge


def _add_responses(
    ge: NDArray[np.float32],
    wells: pd.DataFrame,
    pec50: NDArray[np.float64],
    line_effect: float,
    drug_effect: float,
    pair_effect: float,
    rng: np.random.Generator,
) -> None:
    """Add the response of each treated well to `ge`, which then is log2 intensity."""
    n_molecules, n_mechanisms = pec50.shape
    n_genes = ge.shape[1]
    shared = _draw_programmes((n_mechanisms, n_genes), rng)
    side = _draw_programmes((N_SIDE_PROGRAMMES, n_genes), rng)
    everywhere = rng.normal(0, drug_effect, (n_molecules, N_SIDE_PROGRAMMES))
    molecule = wells["molecule"].to_numpy()
    for line in range(wells["line"].max() + 1):
        sensitivity = rng.lognormal(0, SENSITIVITY_SPREAD, (n_mechanisms, 1))
        specific = _draw_programmes((n_mechanisms, n_genes), rng)
        programmes = sensitivity * (shared + line_effect * specific)
        loadings = rng.normal(everywhere, pair_effect)
        rows = np.flatnonzero((wells["line"] == line) & (molecule >= 0))
        dose = wells["dose_um"].to_numpy()[rows, None]
        activity = dose / (dose + 10 ** (6 - pec50[molecule[rows]]))
        ge[rows] += activity @ programmes + loadings[molecule[rows]] @ side
    np.clip(ge, *LOG2_RANGE, out=ge)


def _draw_programmes(
    shape: tuple[int, int], rng: np.random.Generator
) -> NDArray[np.float64]:
    return rng.normal(0, PROGRAMME_SD, shape) * (rng.random(shape) < PROGRAMME_SHARE)


def _z_scores(
    ge: NDArray[np.float32], plates: pd.Series, treated: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Measure each well against the controls of its plate (Level 4)."""
    z = np.empty_like(ge)
    for rows in plates.groupby(plates).indices.values():
        controls = ge[rows[~treated[rows]]]
        scale = np.maximum(controls.std(axis=0, ddof=1), MIN_Z_SCALE)
        z[rows] = (ge[rows] - controls.mean(axis=0)) / scale
    return z


def _collapse_replicates(
    z: NDArray[np.float32], wells: pd.DataFrame
) -> tuple[NDArray[np.float32], pd.DataFrame]:
    """Average the replicates of each condition, and limit the result (Level 5)."""
    replicate = wells["replicate"].to_numpy()
    mean = np.mean([z[replicate == r] for r in np.unique(replicate)], axis=0)
    signatures = wells[replicate == 1]
    return (
        np.clip(mean, -Z_LIMIT, Z_LIMIT),
        signatures.assign(plate=signatures["map"]),
    )
