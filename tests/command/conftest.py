import json
import shutil
from importlib.resources import files

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem

from sklearn_molge.__main__ import main
from sklearn_molge.datasets import (
    GctData,
    Study,
    make_perturbation_study,
    write_gctx,
)
from sklearn_molge.evaluation import draw_split

MINE = """
from sklearn.pipeline import make_pipeline as join
from sklearn_molge.alignment import CCA
from sklearn_molge.molecules import MorganFingerprinter

def make_pipeline():
    return join(MorganFingerprinter(fp_size=128), CCA(5, ridge=0.1))
"""
NAMED = ["HMOX1", "TXNRD1", "CCND1", "AARS1"]


def human_genes(n):
    """Genes that have names in the world: NAMED, and others."""
    path = files("sklearn_molge.expression").joinpath("human_genes.tsv.gz")
    with path.open("rb") as file:
        table = pd.read_csv(file, sep="\t", comment="#", compression="gzip")
    named = table["symbol"].isin(NAMED)
    chosen = pd.concat([table[named], table[~named].head(n - len(NAMED))])
    chosen = chosen[["gene_id", "symbol"]].sort_values("gene_id", ignore_index=True)
    return chosen.assign(is_landmark=True)


def with_human_genes(study):
    return Study(
        study.smiles, ge=study.ge, obs=study.obs, level=study.level,
        genes=human_genes(study.ge.shape[1]), control_ge=study.control_ge,
        control_obs=study.control_obs,
    )  # fmt: skip


def write_lincs(folder, study):
    """One matrix with all metadata inside, in the words of LINCS."""
    folder.mkdir(parents=True)
    obs = pd.DataFrame(
        {
            "pert_id": study.obs["pert_id"], "pert_type": "trt_cp",
            "cell_id": study.obs["cell_line"], "pert_dose": "10",
            "pert_dose_unit": "um", "pert_time": "24", "pert_time_unit": "h",
            "canonical_smiles": study.smiles,
        },
        index=study.obs.index,
    )  # fmt: skip
    genes = study.genes.set_axis(study.genes["gene_id"].astype(str), axis=0)
    genes = genes.rename(columns={"gene_id": "pr_gene_id", "symbol": "pr_gene_symbol"})
    genes = genes.drop(columns="is_landmark").assign(pr_is_lm=1)
    write_gctx(folder / "level5.gctx", GctData(study.ge, obs, genes))


def write_library(folder, smiles):
    smiles = list(dict.fromkeys(smiles))
    with Chem.SDWriter(str(folder / "vendor.sdf")) as writer:
        for i, text in enumerate(smiles):
            mol = Chem.MolFromSmiles(text)
            mol.SetProp("_Name", f"V{i}")
            mol.SetProp("price", str(i))
            writer.write(mol)
    lines = [f"{text} a{i}" for i, text in enumerate(smiles[:8])]
    (folder / "a.smi").write_text("\n".join([*lines, "nothing x"]) + "\n")
    table = pd.DataFrame(
        {"SMILES": [*smiles[5:20], "C(C"], "name": [f"b{i}" for i in range(16)]}
    )
    for name in ("b.csv.gz", "vendor.csv.gz"):
        table.to_csv(folder / name, index=False)


def write_queries(folder, study):
    symbols = study.genes["symbol"]
    z = study.ge[:2].mean(axis=0)
    table = pd.DataFrame(
        {"baseMean": 1.0, "log2FoldChange": z, "stat": z, "pvalue": 0.01, "padj": 0.1}
    ).set_axis(symbols.replace("AARS1", "AARS").to_numpy())
    table.loc["NOSUCHGENE"] = table.iloc[0]
    for name in ("results.csv", "disease.csv"):
        table.to_csv(folder / name)
    assert main(["convert", f"{folder}/path/to/lincs/level5.gctx",
                 f"{folder}/queries.gct", "--quiet"]) == 0  # fmt: skip


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """A folder with the files that the examples name."""
    pytest.importorskip("anndata")
    folder = tmp_path_factory.mktemp("made")
    study = with_human_genes(
        make_perturbation_study(
            30, n_cell_lines=4, n_genes=40, n_replicates=1, level=5, random_state=0
        )
    )
    study.save(folder / "study.h5ad")
    write_lincs(folder / "path" / "to" / "lincs", study)
    write_library(folder, study.smiles)
    write_queries(folder, study)
    (folder / "mine.py").write_text(MINE)
    split = draw_split(study.groups, random_state=0)
    parts = pd.Series("train", index=study.obs.index[split.train])
    parts = pd.concat([parts, pd.Series("test", index=study.obs.index[split.test])])
    parts.rename("part").rename_axis("id").to_csv(folder / "split.csv")
    intensities = with_human_genes(
        make_perturbation_study(
            6, n_cell_lines=1, n_genes=40, n_replicates=1, level=3, random_state=0
        )
    )
    intensities.save(folder / "b.h5ad")
    at = str(folder)
    model = f"{at}/mine.py:make_pipeline"
    assert main([
        "train", "--data", f"{at}/study.h5ad", "--model", model, "--no-score",
        "--out", f"{at}/model.molge", "--quiet",
    ]) == 0  # fmt: skip
    assert main([
        "index", "--model", f"{at}/model.molge", "--library", f"{at}/vendor.sdf",
        "--data", f"{at}/study.h5ad", "--out", f"{at}/index", "--quiet",
    ]) == 0  # fmt: skip
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    """Be in a copy of that folder."""
    folder = tmp_path / "here"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def json_of(capsys):
    """Return a function that runs a command with --json and reads what it writes."""

    def run(*arguments, code=0):
        capsys.readouterr()
        assert main([*map(str, arguments), "--json"]) == code
        return json.loads(capsys.readouterr().out)

    return run


@pytest.fixture
def error_of(capsys):
    """Return a function that runs a command, which must fail with one line."""

    def run(*arguments):
        capsys.readouterr()
        assert main(list(map(str, arguments))) == 2
        out, err = capsys.readouterr()
        assert out == ""
        return err.splitlines()[-1]

    return run


@pytest.fixture
def values():
    return np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
