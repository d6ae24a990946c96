import numpy as np
import pandas as pd
import pytest

from sklearn_molge.datasets import Study, make_perturbation_study
from sklearn_molge.expression import consensus_signatures, robust_zscore


def wells(**changes):
    """Six wells of two drugs on two plates, and three controls on each."""
    rng = np.random.default_rng(0)
    obs = pd.DataFrame(
        {
            "pert_id": ["B1", "B1", "B2", "B3", "B3", "B3"],
            "drug": ["X", "X", "X", "Y", "Y", "Y"],
            "cell_line": ["L", "L", "L", "L", "L", "M"],
            "plate": ["P", "Q", "P", "P", "Q", "Q"],
            "dose_um": [10.0, 10, 10, 3.3, 3.3, 3.3],
            "time_h": [6.0] * 6,
            "moa": ["m|n", "m|n", "m|n", np.nan, np.nan, "k"],
            "run": [1, 2, 3, 4, 4, 5],
        },
        index=list("abcdef"),
    )
    parts = {
        "smiles": ["CCO", "CCO", "OCC", "CCN", "CCN", "CCN"],
        "ge": rng.normal(8, 1, (6, 5)),
        "obs": obs,
        "genes": pd.DataFrame(
            {"gene_id": range(5), "is_landmark": [True] * 4 + [False]}
        ),
        "control_ge": rng.normal(8, 1, (6, 5)),
        "control_obs": pd.DataFrame({"plate": list("PQPQPQ")}),
        "level": 3,
        "dropped": pd.DataFrame(
            {"step": ["read"], "n_dropped": [0], "n_left": [6], "detail": [""]}
        ),
    }
    return Study(**(parts | changes))


@pytest.mark.parametrize("against", ["plate", "controls"])
def test_level4(against):
    study = wells()
    z = study.to_level4(against=against)
    pair = {"against": against, "clip": None}
    treated, controls = study.obs["plate"], study.control_obs["plate"]
    expected = robust_zscore(
        study.ge, treated, control_ge=study.control_ge, control_plates=controls, **pair
    )
    np.testing.assert_array_equal(z.ge, expected)
    # Controls are scored like treated wells.
    both = np.vstack([study.ge, study.control_ge])
    population = both if against == "plate" else study.control_ge
    plates = pd.concat([treated, controls]) if against == "plate" else controls
    expected = robust_zscore(
        study.control_ge,
        controls,
        control_ge=population,
        control_plates=plates,
        against="controls",
    )
    np.testing.assert_array_equal(z.control_ge, expected)
    assert z.level == 4
    assert z.ge.dtype == np.float32
    pd.testing.assert_frame_equal(z.obs, study.obs)
    pd.testing.assert_frame_equal(z.dropped, study.dropped)
    assert np.abs(study.to_level4(clip=0.5).ge).max() == 0.5


def test_level4_without_controls():
    study = wells(control_ge=None, control_obs=None)
    z = study.to_level4()
    np.testing.assert_array_equal(z.ge, robust_zscore(study.ge, study.obs["plate"]))
    assert z.control_ge is None
    with pytest.raises(ValueError, match="needs controls, and the study has none"):
        study.to_level4(against="controls")


def test_level4_errors():
    with pytest.raises(ValueError, match=r"needs a study of level 3. Got 4"):
        wells(level=4).to_level4()
    with pytest.raises(ValueError, match=r"needs a study of level 3. Got None"):
        wells(level=None).to_level4()
    with pytest.raises(ValueError, match="needs a column 'plate'"):
        wells(obs=wells().obs.drop(columns="plate")).to_level4()
    obs = wells().obs.assign(plate=["P", "Q", "P", None, "Q", "Q"])
    with pytest.raises(ValueError, match="plates must name a plate for every well"):
        wells(obs=obs).to_level4()
    lonely = wells(control_obs=pd.DataFrame({"plate": list("PQPPPP")}))
    with pytest.raises(ValueError, match=r"2 control wells .* Got 'Q': 1"):
        lonely.to_level4(against="controls")
    with pytest.raises(ValueError, match="'min_mad' parameter"):
        wells().to_level4(min_mad=0)


def test_consensus_by_hand():
    study = wells(level=4)
    made = study.consensus()
    assert made.level == 5
    assert made.control_ge is None
    assert made.obs.index.tolist() == ["X:L:10:6", "Y:L:3.3:6", "Y:M:3.3:6"]
    expected = consensus_signatures(
        study.ge, [0, 0, 0, 1, 1, 2], landmarks=study.genes["is_landmark"]
    )
    np.testing.assert_array_equal(made.ge, expected.signatures)
    assert made.smiles.tolist() == ["CCO", "CCN", "CCN"]
    assert made.groups.tolist() == [["X", "L"], ["Y", "L"], ["Y", "M"]]
    # Texts that differ are joined, numbers that differ are missing.
    assert made.obs["pert_id"].tolist() == ["B1|B2", "B3", "B3"]
    assert made.obs["plate"].tolist() == ["P|Q", "P|Q", "Q"]
    assert made.obs["moa"].fillna("?").tolist() == ["m|n", "?", "k"]
    assert made.obs["run"].fillna(0).tolist() == [0, 4, 5]
    assert made.obs["dose_um"].tolist() == [10, 3.3, 3.3]
    assert made.obs["replicates"].tolist() == ["a|b|c", "d|e", "f"]
    assert made.obs["weights"].tolist()[1:] == ["0.500|0.500", "1.000"]
    first = [float(weight) for weight in made.obs["weights"].iloc[0].split("|")]
    np.testing.assert_allclose(first, expected.weights[:3], atol=0.0005)
    for name in expected.quality:
        assert made.obs[name].equals(
            expected.quality[name].set_axis(made.obs.index, axis=0)
        )
    pd.testing.assert_frame_equal(
        made.dropped,
        pd.DataFrame(
            {
                "step": ["read", "min_replicates", "consensus"],
                "n_dropped": [0, 0, 3],
                "n_left": [6, 6, 3],
                "detail": [
                    "",
                    "conditions with fewer than 1 profiles",
                    "modz of 6 profiles by drug, cell_line, dose_um, time_h; "
                    "6 controls left out",
                ],
            }
        ),
    )


def test_consensus_of_other_conditions():
    study = wells(level=4)
    one = study.consensus(["cell_line", "pert_id"], min_replicates=2)
    assert one.obs.index.tolist() == ["L:B1", "L:B3"]
    assert one.obs["replicates"].tolist() == ["a|b", "d|e"]
    assert one.dropped["n_dropped"].tolist() == [0, 2, 2]
    assert one.dropped["n_left"].tolist() == [6, 4, 2]
    np.testing.assert_allclose(one.ge[0], study.ge[:2].mean(axis=0), rtol=1e-6)
    # The default takes the columns that are there; missing is equal to missing.
    obs = study.obs.drop(columns="time_h").assign(dose_um=np.nan)
    plain = wells(level=None, obs=obs, dropped=None).consensus(how="median")
    assert plain.obs.index.tolist() == ["X:L:nan", "Y:L:nan", "Y:M:nan"]
    assert plain.obs["weights"].isna().all()
    assert plain.level is None
    assert plain.dropped["step"].tolist()[0] == "in the study"
    np.testing.assert_allclose(plain.ge[0], np.median(study.ge[:3], axis=0))
    again = study.consensus().consensus()
    assert again.level == 5
    np.testing.assert_array_equal(again.ge, study.consensus().ge)


def test_consensus_errors():
    study = wells(level=4)
    with pytest.raises(ValueError, match=r"study.to_level4\(\).consensus"):
        wells().consensus()
    with pytest.raises(ValueError, match=r"by must name .* Got 'batch'"):
        study.consensus("batch")
    with pytest.raises(ValueError, match="by must name one or more columns"):
        study.consensus([])
    with pytest.raises(ValueError, match=r"must have one drug: add 'drug'.*cell_line"):
        study.consensus("cell_line")
    with pytest.raises(ValueError, match=r"min_replicates=4 profiles; .* has 3"):
        study.consensus(min_replicates=4)
    for name, value in [("how", "sum"), ("min_replicates", 0), ("min_weight", 0)]:
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            study.consensus(**{name: value})


def test_signatures_are_nearer_to_the_truth_than_wells():
    options = {"n_cell_lines": 2, "n_genes": 60, "random_state": 0}
    study = make_perturbation_study(20, n_replicates=4, level=3, **options).to_level4()
    clean = (
        make_perturbation_study(
            20, n_replicates=1, noise=0.0, batch_effect=0.0, level=3, **options
        )
        .to_level4()
        .consensus()
    )
    made = study.consensus()
    assert set(made.obs["n_replicates"]) == {4}
    rows = clean.obs.index.get_indexer(made.obs.index)
    assert (rows >= 0).all()

    def agreement(profiles, truth):
        pairs = zip(profiles, truth, strict=True)
        return np.median([np.corrcoef(one, other)[0, 1] for one, other in pairs])

    ids = study.obs[["drug", "cell_line", "dose_um", "time_h"]].apply(
        lambda row: f"{row.iloc[0]}:{row.iloc[1]}:{row.iloc[2]:g}:{row.iloc[3]:g}",
        axis=1,
    )
    single = agreement(study.ge, clean.ge[clean.obs.index.get_indexer(ids)])
    assert agreement(made.ge, clean.ge[rows]) > single + 0.05


def test_saved_and_mapped(tmp_path):
    pytest.importorskip("anndata")
    made = wells(level=4).consensus()
    made.save(tmp_path / "study.h5ad")
    again = Study.load(tmp_path / "study.h5ad")
    pd.testing.assert_frame_equal(again.obs, made.obs)
    pd.testing.assert_frame_equal(again.dropped, made.dropped)


def test_real_replicate_plates(level3_folder):
    """HT115 X1 and X2 have one map: a compound's two wells agree, others do not."""
    anndata = pytest.importorskip("anndata")
    adata = anndata.read_h5ad(level3_folder / "CPC006_HT115_6H_X1_X2.level3.h5ad")
    study = Study.from_anndata(adata, level=3).to_level4()
    made = study.consensus(["pert_id", "drug", "cell_line", "dose_um", "well"])
    twice = made[made.obs["n_replicates"] == 2]
    assert len(twice) > 300
    assert set(twice.obs["plate"]) == {"CPC006_HT115_6H_X1|CPC006_HT115_6H_X2"}
    for row in range(0, len(twice), 50):
        ids = twice.obs["replicates"].iloc[row].split("|")
        pair = study.ge[study.obs.index.get_indexer(ids)].clip(-10, 10)
        np.testing.assert_allclose(twice.ge[row], pair.mean(axis=0), atol=1e-6)
        rho = pd.DataFrame(pair.T).corr(method="spearman").iloc[0, 1]
        assert twice.obs["cc_q75"].iloc[row] == pytest.approx(rho)
    assert twice.obs["cc_q75"].median() > 0.15
    # Wells of the two plates that hold different compounds.
    by_plate = [
        study.ge[study.obs["plate"] == name] for name in study.obs["plate"].unique()
    ]
    n = min(map(len, by_plate))
    ranks = [pd.DataFrame(ge[:n]).rank(axis=1).to_numpy() for ge in by_plate]
    others = [np.corrcoef(ranks[0][i], ranks[1][i - 7])[0, 1] for i in range(n)]
    assert abs(np.median(others)) < 0.05


def test_labels_and_whole_numbers_lose_nothing():
    obs = wells().obs.assign(dose_um=[1.1111111, 1.1111111, 1.1111112, 3.0, 3.0, 3.0])
    obs["large"] = [2**60 + 1, 2**60 + 1, 3, 4, 5, 6]
    obs["flag"] = [True, True, False, True, False, True]
    made = wells(level=4, obs=obs).consensus()
    assert made.obs.index.tolist() == [
        "X:L:1.1111111:6", "X:L:1.1111112:6", "Y:L:3:6", "Y:M:3:6",
    ]  # fmt: skip
    assert made.obs["large"].tolist() == [2**60 + 1, 3, pd.NA, 6]
    assert made.obs["flag"].tolist() == [True, False, pd.NA, True]


@pytest.mark.parametrize(
    ("marks", "got"),
    [([True, True, np.nan, False, None], "2 missing"), ([True] + [False] * 4, "1")],
)
def test_landmarks_that_are_not_known(marks, got):
    genes = pd.DataFrame({"is_landmark": marks})
    message = rf"genes\['is_landmark'\] must be .* Got {got}\."
    with pytest.raises(ValueError, match=message):
        wells(level=4, genes=genes).consensus()
