"""Folders in the layout of LINCS 2020: Level 3 of any size, and a small Level 5.

Real bytes, not holes: a block of random values, shifted from band to band, so that the
value of any well and gene is known without reading the file (`value_of`).
"""

import shutil
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from sklearn_molge.datasets import make_perturbation_study, write_gctx

MATRIX = "0/DATA/0/matrix"
N_GENES, N_LANDMARKS = 12_328, 978
PAPER_LINES = ("HA1E", "HCC515", "VCAP", "A375", "PC3", "MCF7", "A549", "HT29")
LINES = (*PAPER_LINES, "HEPG2", "NPC")
CONDITIONS = list(product((6, 24), ("X1", "X2", "X3"), LINES))
DOSES = (0.04, 0.12, 0.37, 1.11, 3.33, 10)
BAND, SHIFT = 1024, 37
# Chunks of the Broad Institute's own writer (cmapM): at most 1000 genes and 1 MiB.
LAYOUTS = {
    "contiguous": {},
    "chunked": {"chunks": (262, 1000)},
    "gzip": {"chunks": (262, 1000), "compression": 4, "shuffle": True},
}
COLUMNS = (
    "bead_batch nearest_dose pert_dose pert_dose_unit pert_idose pert_time pert_itime "
    "pert_time_unit cell_mfc_name pert_mfc_id det_plate det_well rna_plate rna_well "
    "count_mean count_cv qc_f_logp qc_iqr qc_slope pert_id sample_id pert_type "
    "cell_iname qc_pass dyn_range inv_level_10 build_name failure_mode project_code "
    "cmap_name"
).split()
CORES = ["c1ccc({0})cc1{1}", "c1cnc({0})cc1{1}", "C1CCC({0})CC1{1}", "c1cc({0})sc1{1}"]
ARMS = "O N F Cl Br C CC C#N OC N(C)C C(=O)O C(=O)N S(C)(=O)=O C(F)(F)F OCC CCO".split()


def make_release(
    folder: Path,
    *,
    n_wells: int,
    n_table_rows: int,
    layout: str,
    n_genes: int = N_GENES,
    library: Path | None = None,
) -> None:
    """Write the tables and both matrices; a folder that is whole stays as it is.

    Parameters
    ----------
    folder : Path
        Where; one layout and one size a folder.
    n_wells : int
        Treated wells; a tenth as many controls come on top.
    n_table_rows : int
        Rows of instinfo; those beyond the wells are of other perturbations.
    layout : {"contiguous", "chunked", "gzip"}
        Of the matrices.
    n_genes : int
        Genes of the matrices.
    library : Path, default=None
        A table with the columns pert_id and canonical_smiles; None makes molecules.
    """
    done = folder / "complete"
    if done.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    genes = _write_genes(folder, n_genes)
    n_treated = max(min(352, n_wells // (3 * len(CONDITIONS))), 6)
    n_controls = -(-n_treated // 11)
    compounds = _compounds(library)
    compounds.to_csv(folder / "compoundinfo_beta.txt", sep="\t", index=False)
    treated, controls = _write_wells(
        folder, compounds, n_wells, n_treated, n_controls, n_table_rows
    )
    for kind, ids in [("trt_cp", treated), ("ctl", controls)]:
        name = f"level3_beta_{kind}_n{len(ids)}x{n_genes}.gctx"
        _write_matrix(folder / name, ids, genes, LAYOUTS[layout])
    done.touch()


def make_level5(folder: Path) -> None:
    """Write a small simulated study as a release has it, Level 5, for a smoke run."""
    folder.mkdir(parents=True)
    study = make_perturbation_study(
        48, n_cell_lines=24, n_genes=40, doses_um=(10,), measured=0.35, level=5,
        random_state=0,
    )  # fmt: skip
    obs = study.obs
    ids = [f"SIM_{line}_24H:{i}" for i, line in enumerate(obs["cell_line"])]
    perts = obs["pert_id"].to_numpy()
    signatures = pd.DataFrame(
        {"sig_id": ids, "pert_id": perts, "cmap_name": perts, "pert_type": "trt_cp",
         "cell_iname": obs["cell_line"].to_numpy(), "pert_dose": 10,
         "pert_dose_unit": "uM", "pert_idose": "10 uM", "pert_time": 24,
         "pert_time_unit": "h", "pert_itime": "24 h"}
    )  # fmt: skip
    compounds = pd.DataFrame({"pert_id": perts, "canonical_smiles": study.smiles})
    compounds["cmap_name"] = compounds["pert_id"]
    mechanism = obs["moa"].to_numpy()
    compounds["target"] = compounds["moa"] = mechanism
    genes = study.genes.rename(columns={"symbol": "gene_symbol"})
    genes["feature_space"] = "landmark"
    for name, table in (
        ("siginfo", signatures), ("compoundinfo", compounds.drop_duplicates("pert_id")),
        ("geneinfo", genes[["gene_id", "gene_symbol", "feature_space"]]),
    ):  # fmt: skip
        table.to_csv(folder / f"{name}.txt", sep="\t", index=False)
    rows = pd.DataFrame(index=genes["gene_id"].astype(str))
    path = folder / f"level5_trt_cp_n{len(ids)}x{len(genes)}.gctx"
    write_gctx(path, study.ge, pd.DataFrame(index=ids), rows)


def value_of(rows: np.ndarray, columns: np.ndarray, n_genes: int) -> np.ndarray:
    """Return what the matrices hold in rows x columns."""
    shift = SHIFT * (rows // BAND)
    return _block(n_genes)[
        (rows % BAND)[:, None], (columns[None, :] - shift[:, None]) % n_genes
    ]


def _block(n_genes: int) -> np.ndarray:
    values = np.random.default_rng(0).standard_normal((BAND, n_genes), np.float32)
    return np.clip(8 + 2 * values, 0, 15)


def _write_genes(folder: Path, n_genes: int) -> list[str]:
    """Write geneinfo; return the row names in the order of the release: as texts."""
    rng = np.random.default_rng(1)
    entrez = np.sort(rng.choice(np.arange(16, 400_000), n_genes, replace=False))
    space = np.full(n_genes, "inferred", dtype=object)
    n_landmarks = min(N_LANDMARKS, n_genes)
    space[rng.choice(n_genes, n_landmarks, replace=False)] = "landmark"
    table = pd.DataFrame(
        {
            "gene_id": entrez,
            "gene_symbol": [f"GENE{i}" for i in entrez],
            "ensembl_id": [f"ENSG{i:011d}" for i in entrez],
            "gene_title": "a gene",
            "gene_type": "protein-coding",
            "src": "NCBI",
            "feature_space": space,
        }
    )
    table.to_csv(folder / "geneinfo_beta.txt", sep="\t", index=False)
    return sorted(map(str, entrez))


def _compounds(library: Path | None) -> pd.DataFrame:
    if library is not None:
        table = pd.read_csv(library, sep="\t", dtype=str)
        return table.drop_duplicates("pert_id")
    pairs = product(CORES, ARMS, ARMS, ARMS, ARMS)
    smiles = [c.format(a, f"C({b})CC({d})NC{e}") for c, a, b, d, e in pairs]
    # Far apart in the list, so that a plate's molecules are unlike each other.
    order = np.random.default_rng(2).permutation(len(smiles))[:34_000]
    table = pd.DataFrame({"pert_id": [f"BRD-K{i:08d}" for i in range(len(order))]})
    table["cmap_name"] = table["pert_id"]
    table["target"], table["moa"] = "", ""
    table["canonical_smiles"] = [smiles[i] for i in order]
    table.loc[::97, "canonical_smiles"] = "restricted"
    return table


def _write_wells(
    folder: Path,
    compounds: pd.DataFrame,
    n_wells: int,
    n_treated: int,
    n_controls: int,
    n_table_rows: int,
) -> tuple[list[str], list[str]]:
    """Write instinfo; return the ids of the treated and of the control wells."""
    perts = compounds["pert_id"].tolist()
    treated: list[str] = []
    controls: list[str] = []
    n_plates = -(-n_wells // n_treated)
    per_plate = n_treated + n_controls
    n_other = max(n_table_rows - n_wells - n_plates * n_controls, 0)
    with open(folder / "instinfo_beta.txt", "w", encoding="utf-8") as file:
        file.write("\t".join(COLUMNS) + "\n")
        for plate in range(n_plates):
            n_left = min(n_treated, n_wells - len(treated))
            own, rows = _plate(plate, perts, n_left, n_controls)
            treated += own[:n_left]
            controls += own[n_left:]
            # Other perturbations stand between, as they do in the release.
            share = n_other * (plate + 1) // n_plates - n_other * plate // n_plates
            file.writelines(rows)
            file.writelines(_others(plate, share, per_plate))
    return treated, controls


def _plate(
    plate: int, perts: list[str], n_treated: int, n_controls: int
) -> tuple[list[str], list[str]]:
    number, condition = divmod(plate, len(CONDITIONS))
    time, replicate, line = CONDITIONS[condition]
    if line == "VCAP" and number % 10 == 9:
        line = "NEU"  # a map that was not measured in all lines
    name = f"MAP{number:03d}_{line}_{time}H_{replicate}"
    n_doses = len(DOSES) if number % 4 == 3 else 1
    first = number * 352
    ids, rows = [], []
    for well in range(n_treated + n_controls):
        place = f"{chr(65 + well // 24 % 16)}{well % 24 + 1:02d}"
        if well < n_treated:
            pert = perts[(first + well // n_doses) % len(perts)]
            dose = DOSES[-1 - well % n_doses]
            kind = "trt_cp"
        else:
            pert, dose, kind = "DMSO", -666, "ctl_vehicle"
        ids.append(f"{name}_B22:{place}")
        rows.append(_row(ids[-1], name, place, line, time, pert, dose, kind))
    return ids, rows


def _others(plate: int, n_rows: int, per_plate: int) -> list[str]:
    rows = []
    for i in range(n_rows):
        name = f"SH{plate:05d}.{i // per_plate:02d}_A375_96H_X1"
        place = f"{chr(65 + i // 24 % 16)}{i % 24 + 1:02d}"
        pert = f"TRCN{i * 7919 % 20_000:010d}"
        well = f"{name}_B22:{place}:{i}"
        rows.append(_row(well, name, place, "A375", 96, pert, -666, "trt_sh"))
    return rows


def _row(
    sample: str,
    name: str,
    place: str,
    line: str,
    time: int,
    pert: str,
    dose: float,
    kind: str,
) -> str:
    unit, dose_text = ("uM", f"{dose:g} uM") if dose > 0 else ("", "")
    nearest = f"{dose:g}" if dose > 0 else ""
    return (
        f"b22\t{nearest}\t{dose}\t{unit}\t{dose_text}\t{time}.0\t{time} h\th\t{line}\t"
        f"{pert}\t{name}_B22\t{place}\t{name}\t{place}\t57.21\t18.45\t1.37\t9.68\t57\t"
        f"{pert}\t{sample}\t{kind}\t{line}\t1\t13.06\t3418.0\tbuild\t\tMAP\t{pert}\n"
    )


def _write_matrix(path: Path, ids: list[str], genes: list[str], layout: dict) -> None:
    block = _block(len(genes))
    with h5py.File(path, "w", libver="earliest") as file:
        file.attrs["version"] = "GCTX1.0"
        shape = len(ids), len(genes)
        options = dict(layout)
        if "chunks" in options:
            options["chunks"] = tuple(np.minimum(options["chunks"], shape).tolist())
        matrix = file.create_dataset(MATRIX, shape, np.float32, **options)
        height = options.get("chunks", (BAND,))[0]
        # Whole rows of chunks at once, so that each chunk is packed once.
        step = height * max(BAND // height, 1)
        for first in range(0, len(ids), step):
            rows = np.arange(first, min(first + step, len(ids)))
            shifts = SHIFT * (rows // BAND)
            parts = [
                np.roll(block[rows[shifts == s] % BAND], s, axis=1)
                for s in np.unique(shifts)
            ]
            matrix[first : first + len(rows)] = np.concatenate(parts)
        for name, texts in [("COL", ids), ("ROW", genes)]:
            file.create_dataset(
                f"0/META/{name}/id", data=np.array(texts, dtype="S"), compression=6
            )
