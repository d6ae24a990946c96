import pickle

import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import Study
from sklearn_molge.exceptions import InvalidSmilesError, MissingControlError
from sklearn_molge.molecules import drug_ids


def parts(**changes):
    """Three profiles on two plates, three controls: a1, a2 on A and b1 on B."""
    plain = {
        "smiles": ["CCO", "OCC", "CCN"],
        "ge": [[1, 2], [3, 4], [5, 6]],
        "obs": pd.DataFrame(
            {"cell_line": ["L1", "L2", "L2"], "plate": ["A", "B", "A"]},
            index=["t1", "t2", "t3"],
        ),
        "genes": pd.DataFrame({"gene_id": [16, 23], "symbol": ["AARS", "ABCF1"]}),
        "control_ge": [[1, 1], [2, 5], [7, 8]],
        "control_obs": pd.DataFrame({"plate": ["A", "A", "B"]}, ["a1", "a2", "b1"]),
        "level": 3,
    }
    return plain | changes


@pytest.fixture
def study():
    return Study(**parts())


def test_arrays(study):
    ethanol, ethylamine = drug_ids(["CCO", "CCN"])
    assert study.groups.tolist() == [
        [ethanol, "L1"],
        [ethanol, "L2"],
        [ethylamine, "L2"],
    ]
    assert study.groups.dtype == object
    assert study.smiles.dtype == object
    assert study.ge.dtype == np.float32
    assert study.control_ge.dtype == np.float32
    assert len(study) == 3
    assert study.obs["drug"].tolist() == [ethanol, ethanol, ethylamine]


def test_given_identities_are_kept():
    obs = parts()["obs"].assign(drug=["a", "b", "c"])
    study = Study(**parts(obs=obs, smiles=["?", "?", "?"]))
    assert study.groups[:, 0].tolist() == ["a", "b", "c"]


def test_the_callers_table_is_left_alone():
    obs = parts()["obs"]
    Study(**parts(obs=obs))
    assert list(obs) == ["cell_line", "plate"]


def test_repr(study):
    assert repr(study) == (
        "Study: 3 profiles (level 3) of 2 drugs in 2 cell lines, 2 genes, 3 controls"
    )
    bare = Study(**parts(control_ge=None, control_obs=None, level=None))
    assert repr(bare) == (
        "Study: 3 profiles of 2 drugs in 2 cell lines, 2 genes, 0 controls"
    )


@pytest.mark.parametrize(
    ("how", "controls"),
    [
        ("mean", [[1.5, 3], [7, 8], [1.5, 3]]),
        ("median", [[1.5, 3], [7, 8], [1.5, 3]]),
    ],
)
def test_paired_by_hand(study, how, controls):
    paired = study.paired_ge(how)
    assert paired.dtype == np.float32
    np.testing.assert_array_equal(paired, np.hstack([study.ge, controls]))


def test_paired_at_random(study):
    draws = {tuple(study.paired_ge("random", seed)[:, 2]) for seed in range(20)}
    # Plate A has wells 1 and 2, plate B only 7.
    assert draws == {(a, 7.0, c) for a in (1.0, 2.0) for c in (1.0, 2.0)}
    same = [study.paired_ge("random", random_state=3) for _ in range(2)]
    np.testing.assert_array_equal(*same)


def test_take_keeps_the_controls_of_its_plates(study):
    part = study.take([2, 0])
    assert part.obs.index.tolist() == ["t3", "t1"]
    assert part.smiles.tolist() == ["CCN", "CCO"]
    np.testing.assert_array_equal(part.ge, [[5, 6], [1, 2]])
    np.testing.assert_array_equal(part.groups, study.groups[[2, 0]])
    assert part.control_obs.index.tolist() == ["a1", "a2"]
    np.testing.assert_array_equal(part.control_ge, [[1, 1], [2, 5]])
    np.testing.assert_array_equal(part.paired_ge(), study.paired_ge()[[2, 0]])
    assert part.level == 3


@pytest.mark.parametrize(
    ("rows", "ids"),
    [
        (slice(1, None), ["t2", "t3"]),
        (np.array([True, False, True]), ["t1", "t3"]),
        (1, ["t2"]),
        (-1, ["t3"]),
        ([0, 0], ["t1", "t1"]),
        ([], []),
    ],
)
def test_getitem(study, rows, ids):
    assert study[rows].obs.index.tolist() == ids
    assert study[rows].ge.shape == (len(ids), 2)


def test_getitem_by_a_column(study):
    assert study[study.obs["cell_line"] == "L2"].obs.index.tolist() == ["t2", "t3"]


def test_getitem_outside(study):
    with pytest.raises(IndexError):
        study[3]
    with pytest.raises(IndexError):
        study[[True, False]]


def test_pickle(study):
    again = pickle.loads(pickle.dumps(study))
    assert repr(again) == repr(study)
    np.testing.assert_array_equal(again.paired_ge(), study.paired_ge())


def test_concat(study):
    swapped = Study(
        **parts(
            genes=pd.DataFrame({"gene_id": [23, 16, 25]}),
            ge=[[20, 10, 0], [40, 30, 0], [60, 50, 0]],
            control_ge=[[1, 2, 3]],
            control_obs=pd.DataFrame({"plate": ["C"]}),
        )
    )
    with pytest.warns(UserWarning, match="1 of 3 genes are not in every study.*: 25"):
        both = Study.concat([study, swapped])
    np.testing.assert_array_equal(both.ge[:, 0], [1, 3, 5, 10, 30, 50])
    np.testing.assert_array_equal(both.control_ge[-1], [2, 1])
    assert both.control_obs["plate"].tolist() == ["A", "A", "B", "C"]
    assert both.genes["symbol"].tolist() == ["AARS", "ABCF1"]
    assert both.groups.tolist() == [*study.groups.tolist()] * 2
    halves = Study.concat([study[:1], study[1:]])
    pd.testing.assert_frame_equal(halves.obs, study.obs)


def test_concat_refuses_levels(study):
    other = Study(**parts(level=4))
    with pytest.raises(
        ValueError, match=r"one level. Got 2 studies of levels \[3, 4\]"
    ):
        Study.concat([study, other])
    with pytest.raises(ValueError, match="Got 0 studies"):
        Study.concat([])
    genes = pd.DataFrame({"gene_id": [1, 2]})
    with pytest.raises(ValueError, match="No gene is in every study"):
        Study.concat([study, Study(**parts(genes=genes))])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smiles": [["CCO"] * 2] * 3}, r"smiles must be 1-D. Got .* shape \(3, 2\)"),
        ({"smiles": ["CCO"]}, "obs must have one row for each of the 1 profiles"),
        ({"ge": [[1, 2]] * 2}, "obs must have one row for each of the 2 rows of ge"),
        ({"ge": [[1, 2, 3]] * 3}, r"ge must be of shape \(n, 2\), .* shape \(3, 3\)"),
        ({"ge": [1, 2, 3]}, r"ge must be of shape \(n, 2\), .*Got .* shape \(3,\)"),
        ({"control_ge": [[1]] * 3}, r"control_ge must be of shape \(n, 2\)"),
        ({"control_ge": [[1, 1]]}, "control_obs must have one row .* Got 3 rows"),
        ({"control_ge": None}, "must be given together. Got control_ge=None"),
        ({"control_obs": None}, "must be given together. Got control_obs=None"),
        (
            {"control_obs": pd.DataFrame({"well": list("abc")})},
            "control_obs must have a column 'plate'. Got well",
        ),
        (
            {"obs": pd.DataFrame({"line": list("abc")})},
            "obs must have a column 'cell_line'. Got line",
        ),
    ],
)
def test_wrong_shapes(changes, message):
    with pytest.raises(ValueError, match=message):
        Study(**parts(**changes))


def test_bad_smiles():
    with pytest.raises(InvalidSmilesError, match="index 1: 'restricted'"):
        Study(**parts(smiles=["CCO", "restricted", "CCN"]))


def test_pairs_need_controls():
    bare = Study(**parts(control_ge=None, control_obs=None))
    with pytest.raises(ValueError, match=r"needs controls, and the study has none.$"):
        bare.paired_ge()
    no_plate = Study(**parts(obs=parts()["obs"][["cell_line"]]))
    with pytest.raises(ValueError, match="obs must have a column 'plate'"):
        no_plate.paired_ge()
    obs = parts()["obs"].assign(plate=["A", "X", "Y"])
    with pytest.raises(MissingControlError, match="'X', 'Y'"):
        Study(**parts(obs=obs)).paired_ge()


def test_a_new_column_is_of_one_study_only(study):
    part, z = study[:2], Study(**parts(ge=np.eye(3)[:, :2])).to_level4()
    for other in (part, z):  # without pandas' warning of a copy of a slice
        other.obs["new"] = 1
        other.genes["new"] = 1
    assert "new" not in study.obs
    assert "new" not in study.genes
    obs = parts()["obs"].assign(drug="d")
    with_drugs = Study(**parts(obs=obs))
    with_drugs.obs["new"] = 1
    assert "new" not in obs


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        (pd.DataFrame({"name": list("ab")}), "Got a study whose genes have name"),
        (pd.DataFrame({"gene_id": [1, 1]}), "different gene_id. .* more than once: 1"),
        (pd.DataFrame({"symbol": ["A", None]}), "different symbol. Missing .*: None"),
    ],
)
def test_concat_needs_names_of_genes(genes, message):
    with pytest.raises(ValueError, match=message):
        Study.concat([Study(**parts(genes=genes))] * 2)


# Genes have names.


def test_profiles_have_the_names_of_their_genes(study):
    profiles = study.profiles()
    assert profiles.columns.tolist() == ["16", "23"]
    assert profiles.index.tolist() == ["t1", "t2", "t3"]
    assert np.shares_memory(profiles.to_numpy(), study.ge)
    assert study.profiles(names="symbol").columns.tolist() == ["AARS", "ABCF1"]
    np.testing.assert_array_equal(profiles, study.ge)
    with pytest.raises(ValueError, match="'names' parameter"):
        study.profiles(names="ensembl")


@pytest.mark.parametrize(
    ("genes", "message"),
    [
        (pd.DataFrame({"title": ["a", "b"]}), "genes must have a column 'gene_id'"),
        (pd.DataFrame({"gene_id": [16, 16]}), "profiles.. needs genes of different"),
    ],
)
def test_profiles_need_names(genes, message):
    with pytest.raises(ValueError, match=message):
        Study(**parts(genes=genes)).profiles()


def test_profiles_by_symbol_where_there_is_no_id():
    genes = pd.DataFrame({"symbol": ["AARS", "ABCF1"]})
    assert Study(**parts(genes=genes)).profiles().columns.tolist() == ["AARS", "ABCF1"]


def test_pairs_with_names(study):
    paired = study.paired_ge(as_frame=True)
    assert paired.columns.tolist() == [
        "treated_16", "treated_23", "control_16", "control_23"
    ]  # fmt: skip
    np.testing.assert_array_equal(paired, study.paired_ge())
    assert paired.index.tolist() == ["t1", "t2", "t3"]


@pytest.mark.parametrize("name", ["ge", "control_ge"])
@pytest.mark.parametrize("columns", [["23", "16"], [23, 16], ["ABCF1", "AARS"]])
def test_columns_in_another_order_than_genes(name, columns):
    frame = pd.DataFrame(parts()[name], columns=columns)
    with pytest.raises(ValueError, match=f"{name} must have its columns in the order"):
        Study(**parts(**{name: frame}))
    Study(**parts(**{name: frame.iloc[:, ::-1].set_axis(columns[::-1], axis=1)}))
