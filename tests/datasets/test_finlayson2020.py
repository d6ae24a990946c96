"""The paper's cut of a made-up release, checked well by well."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import train_test_split

from sklearn_molge.datasets import Finlayson2020, finlayson2020_study, write_gctx
from sklearn_molge.molecules import drug_ids

TRAIN = ["HA1E", "HCC515", "VCAP", "A375", "PC3", "MCF7"]
LINES = [*TRAIN, "A549", "HT29"]
SMILES = {f"BRD-{i:02d}": "C" * (i + 1) + "O" for i in range(14)}
SMILES["BRD-13"] = "[Na+].CC[O-]"  # BRD-01 once more
GENES = [7, 30, 16]


def wells(lines, time, dose=10, perts=tuple(SMILES), replicates=2):
    return [
        (f"{line}_{time}H_X{r}", pert, "trt_cp", dose, time, line)
        for line in lines
        for r in range(replicates)
        for pert in perts
    ]


def write_release(folder, rows):
    plates = sorted({(row[0], row[4], row[5]) for row in rows})
    controls = [(p, "DMSO", "ctl_vehicle", -666, t, line) for p, t, line in plates]
    names = ["rna_plate", "pert_id", "pert_type", "pert_dose", "pert_time", "cell_id"]
    table = pd.DataFrame([*rows, *controls], columns=names)
    table["inst_id"] = [f"{p}:{i:04d}" for i, p in enumerate(table["rna_plate"])]
    table["pert_dose_unit"] = "um"
    # The files' order is no order of lines, plates or drugs.
    table = table.sample(frac=1, random_state=0)
    values = np.linspace(4, 15, len(table) * 3, dtype=np.float32).reshape(-1, 3)
    write_gctx(
        folder / "GSE_Level3_INF.gctx",
        values,
        pd.DataFrame(index=table["inst_id"]),
        pd.DataFrame({"pr_is_lm": [1, 1, 1]}, index=[str(g) for g in GENES]),
    )
    table.to_csv(folder / "GSE_inst_info.txt", sep="\t", index=False)
    known = SMILES | {"BRD-99": "CCN"}
    pd.Series(known, name="canonical_smiles").rename_axis("pert_id").to_csv(
        folder / "GSE_pert_info.txt", sep="\t"
    )
    return table, values


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    folder = tmp_path_factory.mktemp("release")
    rows = wells(LINES, 6) + wells(LINES, 24) + wells(["HEPG2"], 6)
    rows += wells(LINES, 6, dose=1) + wells(["PC3"], 6, perts=["BRD-99"])
    rows = [row for row in rows if row[1] != "BRD-05" or row[5] != "VCAP"]
    return folder, *write_release(folder, rows)


@pytest.fixture(scope="module")
def cut(release):
    return finlayson2020_study(release[0])


def in_the_cut(table, time=6):
    return table[
        (table["pert_type"] == "trt_cp")
        & (table["pert_time"] == time)
        & (table["pert_dose"] == 10)
        & table["cell_id"].isin(LINES)
        & table["pert_id"].isin(SMILES.keys() - {"BRD-05"})
    ]


def test_the_cut_by_a_slow_selection(release, cut):
    _, table, values = release
    chosen = in_the_cut(table)
    assert cut.study.obs.index.tolist() == chosen["inst_id"].tolist()
    assert cut.study.smiles.tolist() == [SMILES[p] for p in chosen["pert_id"]]
    position = {name: i for i, name in enumerate(table["inst_id"])}
    rows = [position[name] for name in chosen["inst_id"]]
    np.testing.assert_array_equal(cut.study.ge, values[rows][:, [0, 2, 1]])
    controls = table[(table["pert_type"] == "ctl_vehicle") & (table["pert_time"] == 6)]
    controls = controls[controls["cell_id"].isin(LINES)]
    assert cut.study.control_obs.index.tolist() == controls["inst_id"].tolist()
    assert cut.study.paired_ge().shape == (len(chosen), 6)


def test_rows_of_each_part_by_a_slow_loop(cut):
    # Of 13 pert_ids in all lines two are one molecule: 12 drugs, as they first appear.
    drugs = list(dict.fromkeys(cut.study.groups[:, 0]))
    assert len(drugs) == 12
    train, rest = train_test_split(drugs, test_size=0.2, random_state=370)
    validation, test = train_test_split(rest, test_size=0.5, random_state=370)
    for part, lines, own in [
        ("train", TRAIN, train),
        ("validation", ["A549"], validation),
        ("test", ["HT29"], test),
    ]:
        expected = [
            i
            for i, (drug, line) in enumerate(cut.study.groups)
            if drug in own and line in lines
        ]
        assert getattr(cut, part).tolist() == expected
    assert (len(train), len(validation), len(test)) == (9, 1, 2)


@pytest.mark.parametrize("split", ["drug_cell_line", "drug", "cell_line"])
def test_what_the_parts_have_apart(release, split):
    cut = finlayson2020_study(release[0], split=split, random_state=0)
    parts = [cut.train, cut.validation, cut.test]
    drugs, lines = (
        [set(cut.study.groups[part][:, i]) for part in parts] for i in (0, 1)
    )
    assert len(np.unique(np.concatenate(parts))) == sum(map(len, parts))
    if split == "cell_line":
        assert drugs[0] == drugs[1] == drugs[2]
    else:
        assert sum(map(len, drugs)) == len(set.union(*drugs)) == 12
    if split == "drug":
        assert lines[0] == lines[1] == lines[2] == set(LINES)
    else:
        assert lines == [set(TRAIN), {"A549"}, {"HT29"}]


def test_time_of_the_text(release):
    cut = finlayson2020_study(release[0], pert_time=24)
    assert set(cut.study.obs["time_h"]) == {24.0}
    names = in_the_cut(release[1], time=24)["inst_id"].tolist()
    assert cut.study.obs.index.tolist() == names


def test_seeds(release, cut):
    again = finlayson2020_study(release[0], random_state=370)
    other = finlayson2020_study(release[0], random_state=1)
    np.testing.assert_array_equal(again.train, cut.train)
    assert not np.array_equal(other.train, cut.train)


def test_table_a1(cut):
    table = cut.table
    assert table.index.tolist() == ["train", "validation", "test"]
    assert set(table.loc["train", "cell_lines"].split(", ")) == set(TRAIN)
    assert table["cell_lines"].tolist()[1:] == ["A549", "HT29"]
    # 9, 1 and 2 drugs, two wells a line; ethanol has two pert_ids.
    ethanol = drug_ids(["CCO"])[0]
    for part, n_lines in [("train", 6), ("validation", 1), ("test", 1)]:
        own = cut.study.groups[getattr(cut, part)][:, 0]
        n_perts = table.loc[part, "n_drugs"] + (ethanol in own)
        assert table.loc[part, "n_profiles"] == 2 * n_lines * n_perts
    assert table["n_drugs"].tolist() == [9, 1, 2]
    printed = repr(cut)
    assert "profiles_per_drug" in printed
    assert printed.startswith("Study: 208 profiles (level 3) of 12 drugs in 8 cell")
    beside = cut.table_beside_paper
    assert beside["n_profiles_paper"].tolist() == [97_210, 1_255, 2_317]
    assert beside["n_drugs"].tolist() == [9, 1, 2]
    per_drug = beside["profiles_per_drug_paper"].round(2).tolist()
    assert per_drug == [27.85, 2.88, 5.30]


def test_options_go_to_load_lincs(release, tmp_path, cut):
    path = tmp_path / "ge.npy"
    same = finlayson2020_study(release[0], mmap_path=path, n_jobs=2, progress=False)
    np.testing.assert_array_equal(np.load(path), cut.study.ge)
    np.testing.assert_array_equal(same.test, cut.test)


def test_a_line_that_is_missing_is_named(tmp_path):
    write_release(tmp_path, wells([line for line in LINES if line != "HT29"], 6))
    with pytest.raises(ValueError, match="lines without a treated profile: HT29"):
        finlayson2020_study(tmp_path)


def test_a_line_without_the_time_is_named(tmp_path):
    rows = wells([line for line in LINES if line != "A549"], 6) + wells(["A549"], 24)
    write_release(tmp_path, rows)
    with pytest.raises(ValueError, match=r"7 of 8 lines .*no profile is left of A549"):
        finlayson2020_study(tmp_path)


def test_too_few_drugs(tmp_path):
    write_release(tmp_path, wells(LINES, 6, perts=list(SMILES)[:5]))
    with pytest.raises(ValueError, match=r"6 or more drugs .* Got 5\."):
        finlayson2020_study(tmp_path)


def test_bad_options(release):
    with pytest.raises(ValueError, match="'split' parameter of finlayson2020_study"):
        finlayson2020_study(release[0], split="both")
    with pytest.raises(ValueError, match="pert_time must be one or more numbers"):
        finlayson2020_study(release[0], pert_time="soon")


def test_frozen(cut):
    with pytest.raises(AttributeError):
        cut.train = np.arange(3)
    assert isinstance(cut, Finlayson2020)


def test_real_plates_lack_lines(level3_folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(ValueError, match=r"without a treated profile: A549, HA1E"):
            finlayson2020_study(
                sorted(level3_folder.glob("*.level3.gct")),
                metadata=level3_folder / "obs.csv",
            )
