"""Each leak is planted alone in a split that has no other."""

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import Study, load_lincs, make_perturbation_study
from sklearn_molge.evaluation import audit_split
from sklearn_molge.exceptions import InvalidSmilesError
from sklearn_molge.model_selection import drug_cell_line_split
from sklearn_molge.molecules import MorganFingerprinter, drug_ids

# Two drugs in each part, different in every respect.
SMILES = [
    "CC(=O)Oc1ccccc1C(=O)O",  # train: aspirin, no salt
    "C1CCNCC1CO",
    "c1ccc2ncccc2c1C",  # val
    "CCCCCCN",
    "O=C1CCCCC1Cl",  # test
    "C1=COCC1CBr",
]
SPLIT = {"train": [0, 1], "val": [2, 3], "test": [4, 5]}


def make_study(smiles=SMILES, *, controls=True, **columns):
    obs = pd.DataFrame(
        {
            "cell_line": ["A375", "PC3", "A549", "A549", "HT29", "HT29"],
            "pert_id": [f"BRD-{i}" for i in range(6)],
            "plate": ["P1", "P1", "P2", "P2", "P3", "P3"],
        }
    ).assign(**columns)
    ge = np.random.default_rng(0).normal(size=(6, 4))
    more = {}
    if controls:
        more["control_obs"] = pd.DataFrame({"plate": ["P1", "P1", "P2", "P3", "P4"]})
        more["control_ge"] = np.zeros((5, 4))
    genes = pd.DataFrame({"gene_id": range(4)})
    return Study(smiles, ge=ge, obs=obs, genes=genes, **more)


def counts(audit, parts="train/test"):
    table = audit.table[audit.table["parts"] == parts].set_index("check")
    return table["n_shared"]


def found(audit, parts="train/test"):
    """Return what is shared between two parts."""
    shared = counts(audit, parts)
    return set(shared.index[shared.fillna(0) > 0])


def replace(position, smiles):
    return [smiles if i == position else s for i, s in enumerate(SMILES)]


def test_each_molecule_is_read_once(read_in):
    study = make_study()
    split = {"train": [0, 1], "test": [2, 3]}
    texts = read_in(lambda: audit_split(study, split))
    assert len(texts) == len(set(texts))


def test_clean_split():
    audit = audit_split(make_study(), SPLIT)
    assert audit.violations == []
    assert (audit.table["n_shared"] == 0).all()
    assert set(audit.table["parts"]) == {"train/test", "train/val", "val/test"}
    required = {"rows", "drugs", "drugs, as grouped", "cell lines"}
    for row in audit.table.itertuples():
        assert row.ok is (True if row.check in required else None), row.check
    assert "No violation" in str(audit)
    assert repr(audit) == "<SplitAudit: 0 violations>"
    table = audit.table.set_index(["check", "parts"])
    assert table.loc[("control wells", "train/test"), ["n_a", "n_b"]].tolist() == [2, 1]
    assert table.loc[("cell lines", "train/test"), ["n_a", "n_b"]].tolist() == [2, 1]
    # The second validation drug has no ring.
    assert table.loc[("scaffolds", "train/val"), "n_b"] == 1
    assert audit.parts.loc["train"].tolist() == [2, 2, 2]


def test_shared_row():
    audit = audit_split(make_study(), SPLIT | {"test": [4, 0]})
    assert {"rows", "drugs", "cell lines", "profiles", "plates"} <= found(audit)
    assert any(v.startswith("rows in both") for v in audit.violations)
    assert "VIOLATION" in str(audit)
    assert "VIOLATION" in audit._repr_html_()


def test_shared_drug_though_the_labels_differ():
    groups = ["a", "b", "c", "d", "e", "f"]
    audit = audit_split(
        make_study(replace(4, "OC(=O)c1ccccc1OC(C)=O"), drug=groups), SPLIT
    )
    assert found(audit) == {
        "drugs", "protomers", "scaffolds", "fingerprints", "fingerprints, 512 bits",
    }  # fmt: skip
    (violation,) = audit.violations
    assert violation.startswith(
        "drugs in both parts of train/test: 1 of 2 (BSYNRYMUTXBXSQ"
    )
    assert found(audit, "train/val") == set()
    neighbour = audit.neighbours.set_index("drug").loc["BSYNRYMUTXBXSQ"]
    assert neighbour["similarity"] == 1
    assert neighbour["same_fingerprint"]


def test_drug_shared_by_label_only():
    audit = audit_split(make_study(drug=["a", "b", "c", "d", "a", "f"]), SPLIT)
    assert found(audit) == {"drugs, as grouped"}
    (violation,) = audit.violations
    assert violation == "drugs, as grouped in both parts of train/test: 1 of 2 (a)"


def test_salt():
    audit = audit_split(
        make_study(replace(4, "[Na+].CC(=O)Oc1ccccc1C(=O)[O-]"), drug=list("abcdef")),
        SPLIT,
    )
    assert {"drugs", "salts"} <= found(audit)
    assert not {"isomers", "mixtures", "profiles"} & found(audit)


def test_isomer():
    smiles = ["C[C@H](N)C(=O)O", *SMILES[1:4], "C[C@@H](N)C(=O)O", SMILES[5]]
    audit = audit_split(make_study(smiles), SPLIT)
    assert {"drugs", "isomers"} <= found(audit)
    assert not {"salts", "mixtures"} & found(audit)


def test_one_form_of_a_shared_drug_is_neither_salt_nor_isomer():
    audit = audit_split(make_study(replace(4, SMILES[0])), SPLIT)
    assert {"drugs"} <= found(audit)
    assert not {"salts", "isomers"} & found(audit)


@pytest.mark.parametrize("swapped", [False, True])
def test_mixture(swapped):
    # The test molecule is caffeine, mixed with what is a drug of the training part.
    mixture = "CC(=O)Oc1ccccc1C(=O)O.Cn1cnc2c1c(=O)n(C)c(=O)n2C"
    audit = audit_split(make_study(replace(4, mixture)), SPLIT)
    if swapped:
        audit = audit_split(
            make_study(replace(4, mixture)), {"train": [4, 5], "test": [0, 1]}
        )
    assert found(audit) == {"mixtures"}
    assert audit.violations == []
    (example,) = audit.table.query("check == 'mixtures' and n_shared > 0")["examples"]
    assert "BSYNRYMUTXBXSQ" in example
    assert "RYYVLZVUVIJVGH" in example


def test_protomer_with_another_identity():
    # A nitrile and its ketenimine, which are no known tautomers.
    smiles = ["CCC#N", *SMILES[1:4], "CC=C=N", SMILES[5]]
    audit = audit_split(make_study(smiles), SPLIT)
    assert found(audit) == {"protomers"}


def test_scaffold():
    audit = audit_split(make_study(replace(4, "c1ccccc1C(C)(C)CS")), SPLIT)
    assert found(audit) == {"scaffolds"}


def test_fingerprint_that_cannot_tell_two_drugs_apart():
    smiles = ["C" * 12, *SMILES[1:4], "C" * 14, SMILES[5]]
    audit = audit_split(make_study(smiles), SPLIT)
    assert found(audit) == {"fingerprints", "fingerprints, 512 bits"}
    twin = audit.neighbours.query("similarity == 1")
    assert twin["smiles"].tolist() == ["C" * 14]
    assert twin["nearest_smiles"].tolist() == ["C" * 12]
    assert twin["same_fingerprint"].tolist() == [True]
    counted = audit_split(
        make_study(smiles), SPLIT, fingerprinter=MorganFingerprinter(count=True)
    )
    assert found(counted) == {"fingerprints, 512 bits"}
    assert (counted.neighbours["similarity"] < 1).all()


def test_cell_line():
    lines = ["A375", "PC3", "A549", "A549", "HT29", "PC3"]
    audit = audit_split(make_study(cell_line=lines), SPLIT)
    assert found(audit) == {"cell lines"}
    (violation,) = audit.violations
    assert violation == "cell lines in both parts of train/test: 1 of 2 (PC3)"
    only_drugs = audit_split(make_study(cell_line=lines), SPLIT, hold_out="drugs")
    assert only_drugs.violations == []
    assert found(only_drugs) == {"cell lines"}


def test_perturbagen_id():
    ids = ["BRD-0", "BRD-1", "BRD-2", "BRD-3", "BRD-1", "BRD-5"]
    audit = audit_split(make_study(pert_id=ids), SPLIT)
    assert found(audit) == {"perturbagen ids", "names"}
    (pair,) = audit.kept_apart.itertuples()
    assert (pair.column, pair.name, pair.why) == ("pert_id", "BRD-1", "structure")
    assert (pair.smiles_a, pair.smiles_b) == (SMILES[1], SMILES[4])
    assert (pair.parts_a, pair.parts_b) == ("train", "test")
    assert "one name or id is two drugs: BRD-1 (train | test, structure)" in str(audit)


def test_a_name_of_two_drugs():
    """One name in both parts, of two identities: one may be drawn wrongly."""
    names = ["Aspirin ", "x", "y", "-666", "aspirin", "-666"]
    audit = audit_split(make_study(pert_name=names), SPLIT)
    assert found(audit) == {"names"}
    assert audit.violations == []
    assert audit.kept_apart["name"].tolist() == ["Aspirin"]
    assert audit.kept_apart["column"].tolist() == ["pert_name"]
    # A drug that is in both parts by its structure has its name there, too.
    same = audit_split(make_study(replace(4, SMILES[0]), pert_name=names), SPLIT)
    assert "names" not in found(same)
    assert same.kept_apart.empty


def test_what_was_merged_and_why():
    nifedipine = "COC(=O)C1=C(C)NC(C)=C(C1c1ccccc1[N+]([O-])=O)C(=O)OC"
    smiles = [
        *(nifedipine, "CC(=O)Oc1ccccc1C(=O)O", "[Na]OC(=O)c1ccccc1OC(C)=O", "CCCCCCN"),
        "COC(=O)C1C(C(=C(C)N=C1C)C(=O)OC)c1ccccc1[N+](=O)[O-]",  # drawn otherwise
        "CC(=O)Oc1ccccc1C(=O)O.Cl",
    ]
    audit = audit_split(make_study(smiles, drug=list("abcdef")), SPLIT)
    merged = audit.merged.set_index("smiles")
    assert set(merged.index) == set(smiles) - {"CCCCCCN"}
    assert merged["drug"].nunique() == 2
    parts = merged["parts"].to_dict()
    assert [parts[s] for s in smiles if s in parts] == [
        "train", "train", "val", "test", "test",
    ]  # fmt: skip
    assert "tautomer" in ", ".join(merged.loc[[smiles[0], smiles[4]], "reasons"])
    assert "metal" in merged.loc[smiles[2], "reasons"]
    assert "counter-ion" in merged.loc[smiles[5], "reasons"]
    assert "5 SMILES are 2 drugs; they differ by" in " ".join(str(audit).split())
    assert audit.violations  # of the drugs themselves


def test_plate_and_its_controls():
    plates = ["P1", "P1", "P2", "P2", "P1", "P3"]
    audit = audit_split(make_study(plate=plates), SPLIT)
    assert found(audit) == {"plates", "control wells"}
    assert counts(audit)["control wells"] == 2
    assert audit.violations == []


def test_copied_profile():
    study = make_study()
    study.ge[4] = study.ge[1]
    audit = audit_split(study, SPLIT)
    assert found(audit) == {"profiles"}
    example = audit.table.query("check == 'profiles' and n_shared > 0")["examples"]
    assert example.tolist() == ["row 4 ~ row 1"]


def test_leak_between_the_other_parts():
    audit = audit_split(make_study(replace(5, SMILES[3])), SPLIT)
    assert found(audit) == found(audit, "train/val") == set()
    assert "drugs" in found(audit, "val/test")


@pytest.mark.parametrize("missing", ["absent", "empty"])
def test_unknown(missing):
    study = make_study(controls=False, plate=np.nan, pert_id=None)
    if missing == "absent":
        study.obs = study.obs.drop(columns=["plate", "pert_id"])
    audit = audit_split(study, SPLIT)
    unknown = audit.table[audit.table["n_shared"].isna()]
    expected = {"plates", "control wells", "perturbagen ids"}
    # An empty column of ids has no two alike.
    assert set(unknown["check"]) - {"names"} == expected
    assert ("names" in set(unknown["check"])) == (missing == "absent")
    assert unknown["reading"].str.startswith("unknown: ").all()
    assert all(ok is None for ok in unknown["ok"])
    assert "unknown" in str(audit)


def test_neighbours_by_a_slow_loop():
    from rdkit import Chem, DataStructs
    from rdkit.Chem import rdFingerprintGenerator

    study = make_perturbation_study(40, n_cell_lines=3, n_genes=5, random_state=0)
    split = drug_cell_line_split(study.groups, test_drugs=0.3, random_state=0)
    audit = audit_split(study, split)
    generator = rdFingerprintGenerator.GetMorganGenerator(radius=2, fpSize=2048)
    bits = {
        s: generator.GetFingerprint(Chem.MolFromSmiles(s)) for s in set(study.smiles)
    }
    assert len(audit.neighbours) == len(set(study.groups[split.test, 0]))
    for row in audit.neighbours.itertuples():
        best = max(
            DataStructs.TanimotoSimilarity(bits[row.smiles], bits[s])
            for s in set(study.smiles[split.train])
        )
        assert row.similarity == pytest.approx(best, abs=1e-6)
        own = DataStructs.TanimotoSimilarity(bits[row.smiles], bits[row.nearest_smiles])
        assert own == pytest.approx(best, abs=1e-6)
    quantiles = audit.similarity_quantiles
    assert quantiles[1.0] == audit.neighbours["similarity"].max()


def test_order_of_rows_does_not_matter():
    study = make_perturbation_study(30, n_cell_lines=3, n_genes=5, random_state=0)
    split = drug_cell_line_split(study.groups, random_state=0)
    shuffled = {
        part: np.random.default_rng(0).permutation(getattr(split, part))
        for part in ("train", "val", "test")
    }
    first, second = audit_split(study, split), audit_split(study, shuffled)
    columns = ["check", "parts", "n_shared", "n_a", "n_b"]
    pd.testing.assert_frame_equal(first.table[columns], second.table[columns])
    pd.testing.assert_frame_equal(first.neighbours, second.neighbours)


def test_masks_and_a_split_without_validation():
    rows = np.arange(6)
    audit = audit_split(make_study(), {"train": rows < 2, "test": rows > 3, "val": []})
    assert set(audit.table["parts"]) == {"train/test"}
    assert audit.violations == []
    listed = audit_split(make_study(), {"train": [0, 1], "test": [4, 5]})
    pd.testing.assert_frame_equal(audit.table, listed.table)


def test_rows_outside_the_parts_may_be_anything():
    study = make_study(replace(3, "-666"), drug=list("abcdef"))
    assert audit_split(study, SPLIT | {"val": [2]}).violations == []
    with pytest.raises(InvalidSmilesError, match="-666"):
        audit_split(study, SPLIT)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"test": [4, 5]}, r"must have rows to train on, as `split.train`"),
        ({"train": [0], "test": []}, r"must have rows to test on"),
        ({"train": [0], "test": np.zeros(6, dtype=bool)}, r"must have rows to test on"),
        ({"train": [0], "test": [6]}, r"test rows of split must be positions in the 6"),
        ({"train": [0.5], "test": [5]}, r"train rows of split must be positions"),
        ({"train": [0], "test": np.ones(3, dtype=bool)}, "test rows of split must be"),
        ({"train": [0], "tset": [1]}, "must have rows to test on"),
        (([0], [1]), "must have rows to train on"),
    ],
)
def test_bad_split(split, message):
    with pytest.raises(ValueError, match=message):
        audit_split(make_study(), split)


def test_bad_parameters():
    with pytest.raises(ValueError, match="'study'"):
        audit_split(SMILES, SPLIT)
    with pytest.raises(ValueError, match="'fingerprinter'"):
        audit_split(make_study(), SPLIT, fingerprinter="morgan")
    with pytest.raises(ValueError, match="'hold_out'"):
        audit_split(make_study(), SPLIT, hold_out="nothing")


@pytest.mark.slow
def test_real_study(level5_folder):
    study = load_lincs(level5_folder, level=5)
    sizes = {"val_drugs": 0.15, "test_drugs": 0.35, "val_cell_lines": 3,
             "test_cell_lines": 6, "random_state": 0}  # fmt: skip
    split = drug_cell_line_split(study.groups, **sizes)
    audit = audit_split(study, split)
    assert audit.violations == []
    assert set(audit.neighbours["drug"]) == set(study.groups[split.test, 0])
    by_sample = np.column_stack([study.obs["pert_id"], study.groups[:, 1]])
    leaky = audit_split(study, drug_cell_line_split(by_sample, **sizes))
    # The paper's way to divide: isomers of 7 of the test drugs are trained on, and
    # NVP-AUY922 under another id and as another tautomer.
    assert counts(leaky)[["drugs", "isomers", "perturbagen ids"]].tolist() == [8, 7, 0]
    tautomer = leaky.merged[leaky.merged["reasons"].str.contains("tautomer")]
    assert set(tautomer["drug"]) == {"NDAZATDQFDPQBD"}
    assert len(leaky.violations) == 6


# -- poor studies, and slow loops ------------------------------------------------------

POOR_SMILES = ["CCO", "OCC", "c1ccccc1", "CCN", "CCN.Cl", "Cc1ccccc1", "CCO", "CC(=O)O"]
POOR_LINES = ["A", "B", "A", "B", "C", "C", "A", "B"]


def make_poor_study(smiles=POOR_SMILES, *, controls=None, ge=None, **obs):
    rng = np.random.default_rng(0)
    ge = rng.normal(size=(len(smiles), 4)) if ge is None else ge
    return Study(
        smiles=smiles,
        ge=ge,
        genes=pd.DataFrame({"symbol": list("abcd")}),
        obs=pd.DataFrame({"cell_line": POOR_LINES[: len(smiles)]} | obs),
        control_ge=None if controls is None else np.ones((len(controls), 4)),
        control_obs=None if controls is None else pd.DataFrame({"plate": controls}),
    )


def shared(audit, check, parts="train/test"):
    table = audit.table.set_index(["check", "parts"])
    return table.loc[(check, parts), ["n_a", "n_b", "n_shared"]].tolist()


@pytest.mark.parametrize("seed", range(6))
def test_counts_by_a_slow_loop(seed):
    rng = np.random.default_rng(seed)
    n = 30
    ge = rng.integers(0, 2, size=(n, 2)).astype(np.float32) @ np.ones((2, 4))
    smiles = rng.choice(POOR_SMILES, n).tolist()
    obs = {name: rng.choice(list("PQRSTUVW"), n) for name in ("plate", "pert_id")}
    study = Study(
        smiles=smiles,
        ge=ge,
        genes=pd.DataFrame({"symbol": list("abcd")}),
        obs=pd.DataFrame({"cell_line": rng.choice(list("ABCDEF"), n), **obs}),
        control_ge=np.ones((9, 4)),
        control_obs=pd.DataFrame({"plate": list("PQRPQRWWV")}),
    )
    part = rng.choice(["train", "val", "test"], n)
    split = {name: np.flatnonzero(part == name) for name in ("train", "val", "test")}
    audit = audit_split(study, split)
    drugs = drug_ids(smiles)
    plates = study.obs["plate"].tolist()
    entities = {
        "rows": range(n),
        "drugs": drugs,
        "drugs, as grouped": drugs,
        "cell lines": study.obs["cell_line"].tolist(),
        "perturbagen ids": study.obs["pert_id"].tolist(),
        "plates": plates,
    }
    for a, b in (("train", "test"), ("train", "val"), ("val", "test")):
        for check, values in entities.items():
            first, second = ({values[i] for i in split[name]} for name in (a, b))
            slow = [len(first), len(second), len(first & second)]
            assert shared(audit, check, f"{a}/{b}") == slow, check
        wells = [
            {i for i, plate in enumerate("PQRPQRWWV") if plate in of_part}
            for of_part in ({plates[i] for i in split[name]} for name in (a, b))
        ]
        slow = [len(wells[0]), len(wells[1]), len(wells[0] & wells[1])]
        assert shared(audit, "control wells", f"{a}/{b}") == slow
        copies = sum(any((ge[i] == ge[j]).all() for j in split[a]) for i in split[b])
        assert shared(audit, "profiles", f"{a}/{b}")[2] == copies


def test_only_what_a_study_must_have():
    audit = audit_split(make_poor_study(), {"train": [0, 2], "test": [3, 4]})
    unknown = audit.table.loc[audit.table["n_shared"].isna(), "check"].tolist()
    assert unknown == ["perturbagen ids", "names", "plates", "control wells"]
    assert audit.violations == []
    assert str(audit).count("unknown") == 4
    assert "unknown" in audit._repr_html_()


def test_missing_entries_are_not_shared():
    plates = [None, "P", np.nan, None, "P", None, None, "Q"]
    lines = {"cell_line": ["A", None, "A", "B", None, "C", "A", "B"]}
    study = make_poor_study(plate=plates, controls=["P", "Q"], **lines)
    audit = audit_split(study, {"train": [0, 1, 2], "test": [3, 4]})
    assert shared(audit, "plates") == [1, 1, 1]
    assert shared(audit, "cell lines") == [1, 1, 0]
    assert shared(audit, "control wells") == [1, 1, 1]
    audit = audit_split(study, {"train": [0, 2], "test": [3]})
    assert shared(audit, "plates") == [0, 0, 0]
    assert "control wells" in str(audit)


def test_nothing_is_changed_or_drawn():
    study = make_poor_study(plate=list("PPQQPPQQ"), controls=["P", "Q"])
    before, obs = study.ge.copy(), study.obs.copy()
    state = np.random.get_state()[1].copy()
    split = {"train": np.array([0, 2]), "test": np.array([3, 4])}
    first, second = (audit_split(study, split) for _ in range(2))
    pd.testing.assert_frame_equal(first.table, second.table)
    np.testing.assert_array_equal(study.ge, before)
    pd.testing.assert_frame_equal(study.obs, obs)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("seed", range(5))
def test_the_splits_of_the_library_are_honest(seed):
    study = make_perturbation_study(25, n_cell_lines=5, level=3, random_state=seed)
    for hold_out in ("both", "drugs", "cell_lines"):
        split = drug_cell_line_split(study.groups, hold_out=hold_out, random_state=seed)
        assert audit_split(study, split, hold_out=hold_out).violations == []
