"""Splits of several sources: what is tested, and what no source may give away."""

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import Study, join_studies
from sklearn_molge.evaluation import audit_split
from sklearn_molge.model_selection import (
    DrugCellLineKFold,
    DrugCellLineShuffleSplit,
    drug_cell_line_split,
)

PLAIN = ["CCO", "CC(=O)O", "CCN", "c1ccccc1O", "CC(N)C(=O)O", "CCCl", "CCC=O", "CCS"]
# The same drugs as others may draw them: salts, charges, isomers, spellings.
OTHER = ["OCC", "CC(=O)[O-].[Na+]", "CCN.Cl", "Oc1ccccc1", "C[C@H](N)C(=O)O", "ClCC"]
LINES = ["A375", "HT29", "MCF7", "PC3"]


def study_of(smiles, lines, seed, **columns):
    rows = [(s, line) for s in smiles for line in lines]
    ge = np.random.default_rng(seed).normal(size=(len(rows), 5))
    obs = pd.DataFrame({"cell_line": [line for _, line in rows], **columns})
    genes = pd.DataFrame({"gene_id": range(1, 6)})
    return Study([s for s, _ in rows], ge=ge, obs=obs, genes=genes)


STUDY = join_studies(
    {
        "ours": study_of(PLAIN, LINES, 0),
        "wells": study_of([*OTHER, "CCCCBr"], ["PC3", "VCAP"], 1),
        "mixed": study_of([*OTHER, "CCCCI"], ["consensus"], 2, covered_lines="*"),
    }
)
OBS = STUDY.obs
OURS = (OBS["source"] == "ours").to_numpy()


def check(train, test):
    assert OURS[test].all()
    for column in ("drug", "cell_line"):
        assert not set(OBS[column].iloc[train]) & set(OBS[column].iloc[test])
    assert not OURS[train].all()


def test_no_source_trains_on_a_test_drug_or_line():
    split = drug_cell_line_split(
        OBS, test_drugs=3, val_drugs=2, test_sources="ours", random_state=0
    )
    check(split.train, split.test)
    check(split.train, split.val)
    assert OURS[split.oracle_train_lines].all()
    everything = [*split.train, *split.val, *split.test, *split.dropped]
    assert sorted(everything) == list(range(len(STUDY)))
    # what trains is all that shares neither a drug nor a line with what is held out
    drugs = [*split.drugs["test"], *split.drugs["val"]]
    lines = [*split.cell_lines["test"], *split.cell_lines["val"]]
    expected = ~OBS["drug"].isin(drugs) & ~OBS["cell_line"].isin(lines)
    assert split.train.tolist() == np.flatnonzero(expected).tolist()
    assert audit_split(STUDY, split).violations == []


@pytest.mark.parametrize("hold_out", ["both", "drugs", "cell_lines"])
@pytest.mark.parametrize(
    "cv", [DrugCellLineKFold(2, 2), DrugCellLineShuffleSplit(3, test_drugs=0.4)]
)
def test_cross_validation_tests_one_source(cv, hold_out):
    cv = cv.set_params(test_sources=["ours"], hold_out=hold_out, random_state=0)
    tested = []
    for train, test in cv.split(STUDY.smiles, groups=OBS):
        assert OURS[test].all()
        assert not OURS[train].all()
        for column, kept in (("drug", "cell_lines"), ("cell_line", "drugs")):
            shared = set(OBS[column].iloc[train]) & set(OBS[column].iloc[test])
            assert not shared or hold_out == kept
        tested.extend(test)
    if isinstance(cv, DrugCellLineKFold):
        assert sorted(tested) == np.flatnonzero(OURS).tolist()


def test_the_primary_source_is_divided_as_if_it_were_alone():
    cv = DrugCellLineShuffleSplit(4, test_drugs=0.4, random_state=0)
    alone = cv.split(OBS[OURS], groups=OBS[OURS])
    cv = DrugCellLineShuffleSplit(
        4, test_drugs=0.4, test_sources="ours", random_state=0
    )
    for (train, test), (own, own_test) in zip(
        cv.split(OBS, groups=OBS), alone, strict=True
    ):
        assert test.tolist() == own_test.tolist()
        assert train[OURS[train]].tolist() == own.tolist()


def test_oracles_know_the_tested_source_alone():
    cv = DrugCellLineKFold(2, 2, train="oracle_train_lines", test_sources="ours")
    for train, _ in cv.set_params(random_state=0).split(OBS, groups=OBS):
        assert OURS[train].all()


def test_the_audit_says_which_lines_are_covered():
    split = drug_cell_line_split(
        OBS, val_drugs=0, test_cell_lines=["HT29"], test_sources="ours", random_state=0
    )
    audit = audit_split(STUDY, split)
    table = audit.table.set_index(["check", "parts"])
    covered = table.loc[("covered lines", "train/test")]
    assert (covered["n_shared"], covered["n_b"], covered["ok"]) == (1, 1, None)
    assert "consensus" in covered["examples"]
    assert table.loc[("cell lines", "train/test"), "n_shared"] == 0
    assert "covered lines 1 of 1" in " ".join(str(audit).split())
    # named lines cover no others, and a consensus in no part covers nothing
    named = STUDY[:]
    named.obs = named.obs.assign(covered_lines=OBS["covered_lines"].replace("*", "PC3"))
    covered = audit_split(named, split).table.set_index(["check", "parts"])
    assert covered.loc[("covered lines", "train/test"), "n_shared"] == 0
    named.obs = named.obs.assign(
        covered_lines=OBS["covered_lines"].replace("*", "PC3|HT29")
    )
    covered = audit_split(named, split).table.set_index(["check", "parts"])
    assert covered.loc[("covered lines", "train/test"), "n_shared"] == 1
    own = {"train": split.train[OURS[split.train]], "test": split.test}
    covered = audit_split(STUDY, own).table.set_index(["check", "parts"])
    assert covered.loc[("covered lines", "train/test"), "n_shared"] == 0


def test_refused():
    cv = DrugCellLineKFold(2, 2, test_sources="ours")
    with pytest.raises(ValueError, match="needs groups with the columns"):
        next(cv.split(STUDY.smiles, groups=STUDY.groups))
    for wrong in ("theirs", []):
        with pytest.raises(ValueError, match="must name sources of groups"):
            drug_cell_line_split(OBS, test_sources=wrong)
    with pytest.raises(ValueError, match="more than the 8 distinct drugs"):
        cv.set_params(n_drug_folds=9).split(OBS, groups=OBS)
