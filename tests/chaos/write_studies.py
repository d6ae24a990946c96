"""Studies and matrices: one file, replaced whole."""

import numpy as np
import pandas as pd
from harness import Operation

from sklearn_molge.datasets import (
    Study,
    load_lincs,
    make_perturbation_study,
    read_gctx,
    write_gctx,
)


def make_study(seed, n_molecules):
    return make_perturbation_study(
        n_molecules, n_cell_lines=4, n_genes=100, level=3, random_state=seed
    )


def told(study):
    return [np.array(study.ge), study.smiles.tolist(), study.obs.to_dict("list")]


class StudySave(Operation):
    """Over an older study."""

    name = "study-save"

    def prepare(self, folder):
        self.old, self.new = make_study(0, 5), make_study(1, 200)

    def start(self, folder):
        self.old.save(folder / "a.h5ad")

    def run(self, folder):
        self.new.save(folder / "a.h5ad")

    def result(self, folder):
        return told(Study.load(folder / "a.h5ad"))


def gct_parts(study):
    n_samples, n_genes = study.ge.shape
    ids = [f"p{i}" for i in range(n_samples)]
    genes = pd.DataFrame(index=[str(900_001 + i) for i in range(n_genes)])
    return study.ge, study.obs.astype(str).set_axis(ids), genes


class WriteGctx(StudySave):
    """Over an older matrix, compressed."""

    name = "write-gctx"

    def start(self, folder):
        write_gctx(folder / "a.gctx", *gct_parts(self.old))

    def run(self, folder):
        write_gctx(folder / "a.gctx", *gct_parts(self.new), compression=1)

    def result(self, folder):
        data = read_gctx(folder / "a.gctx")
        return [np.array(data.matrix), data.obs.to_dict("list")]


class MapLincs(Operation):
    """Profiles into a file that is mapped."""

    name = "load-lincs-mmap"

    def prepare(self, folder):
        self.source = folder
        study = make_study(0, 100)
        ge, obs, genes = gct_parts(study)
        write_gctx(folder / "level5.gctx", ge, pd.DataFrame(index=obs.index), genes)
        table = pd.DataFrame(
            {"pert_id": study.smiles, "pert_type": "trt_cp", "cell_id": "A375"},
            index=obs.index,
        )
        table["canonical_smiles"] = study.smiles
        table.rename_axis("sig_id").to_csv(folder / "sig_info.csv")

    def run(self, folder):
        load_lincs(
            self.source, level=5, landmark_only=False, mmap_path=folder / "a.npy"
        )

    def result(self, folder):
        return [np.load(folder / "a.npy")]


OPERATIONS = [StudySave(), WriteGctx(), MapLincs()]
