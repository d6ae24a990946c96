import numpy as np
import pandas as pd
import pytest
from scipy import stats

from sklearn_molge.datasets import Study, load_lincs, make_perturbation_study
from sklearn_molge.exceptions import MissingControlError
from sklearn_molge.inspection import differential_genes
from sklearn_molge.inspection._differential import moderated_t_test

N_GENES = 60


def make_study(plates, drugs, *, control_plates, ge=None, level=3, seed=0, **obs):
    rng = np.random.default_rng(seed)
    if ge is None:
        ge = rng.normal(8, 1, size=(len(plates), N_GENES))
    return Study(
        np.full(len(plates), "C", dtype=object),
        ge=ge,
        obs=pd.DataFrame({"cell_line": "A375", "plate": plates, "drug": drugs, **obs}),
        genes=pd.DataFrame({"gene_id": np.arange(ge.shape[1])}),
        control_ge=rng.normal(8, 1, size=(len(control_plates), ge.shape[1])),
        control_obs=pd.DataFrame({"plate": control_plates}),
        level=level,
    )


def least_squares_counts(study, wells, alpha=0.05):
    """Slow: the model y ~ plate + drug, by least squares over controls and wells."""
    plates = np.concatenate([study.control_obs["plate"], study.obs["plate"][wells]])
    y = np.vstack([study.control_ge, study.ge[wells]]).astype(np.float64)
    design = (plates[:, None] == np.unique(plates)).astype(float)
    treated = np.arange(len(y)) >= len(study.control_ge)
    design = np.column_stack([design, treated])
    coefficients, squares, *_ = np.linalg.lstsq(design, y, rcond=None)
    df = len(y) - design.shape[1]
    variance = np.linalg.inv(design.T @ design)[-1, -1]
    _, p = moderated_t_test(
        coefficients[-1], squares / df, df, unscaled_variance=variance
    )
    found = stats.false_discovery_control(p) <= alpha
    effects = coefficients[-1]
    return np.sum(found & (effects > 0)), np.sum(found & (effects < 0)), effects


def test_moderated_t_is_least_squares_with_plates_as_blocks():
    plates = ["P1", "P1", "P2", "P1", "P2", "P2", "P2", "P3"]
    drugs = ["a", "a", "a", "b", "b", "c", "c", "d"]
    rng = np.random.default_rng(1)
    effect = rng.normal(size=N_GENES) * 3
    ge = (
        rng.normal(8, 1, size=(8, N_GENES)) + effect * (np.array(drugs) != "c")[:, None]
    )
    study = make_study(
        plates, drugs, ge=ge, control_plates=["P1"] * 4 + ["P2"] * 3 + ["P3"] * 5
    )
    counts = differential_genes(study).set_index("drug")
    assert counts["n_profiles"].to_dict() == {"a": 3, "b": 2, "c": 2, "d": 1}
    for drug in "abcd":
        up, down, _ = least_squares_counts(study, np.array(drugs) == drug)
        row = counts.loc[drug]
        assert (row["n_genes_up"], row["n_genes_down"]) == (up, down)
        assert row["n_genes"] == up + down
    assert counts.loc["a", "n_genes"] > 10
    # A smallest fold change leaves those beyond it.
    few = differential_genes(study, min_log_fold_change=4.0).set_index("drug")
    assert 0 < few.loc["a", "n_genes"] < counts.loc["a", "n_genes"]


def test_plate_offsets_do_not_matter():
    plates = ["P1", "P2", "P2", "P1"]
    control_plates = ["P1"] * 5 + ["P2"] * 4
    study = make_study(plates, ["a", "a", "b", "b"], control_plates=control_plates)
    study.ge[:2] += np.linspace(-5, 5, N_GENES, dtype=np.float32)
    before = differential_genes(study)
    offset = np.random.default_rng(2).normal(size=N_GENES).astype(np.float32) * 4
    study.ge[[1, 2]] += offset
    study.control_ge[5:] += offset
    pd.testing.assert_frame_equal(differential_genes(study), before)
    assert before["n_genes"][0] > 0


def test_lines_have_their_own_controls():
    """The rows of another line change nothing, on a plate of their own or not."""
    study = make_perturbation_study(
        6, n_cell_lines=2, n_genes=80, doses_um=[10.0], random_state=0
    )
    both = differential_genes(study)
    assert len(both) == 12
    line = both["cell_line"][0]
    alone = differential_genes(study[study.obs["cell_line"] == line])
    pd.testing.assert_frame_equal(
        both[both["cell_line"] == line].reset_index(drop=True), alone
    )
    order = np.random.default_rng(0).permutation(len(study))
    pd.testing.assert_frame_equal(differential_genes(study[order]), both)


def test_no_effect_finds_next_to_nothing():
    drugs = np.arange(40).astype(str).astype(object)
    study = make_study(["P1"] * 40, drugs, control_plates=["P1"] * 12)
    assert differential_genes(study)["n_genes"].gt(0).mean() <= 0.15


def test_z_scores_by_hand():
    ge = np.array([[2.0, -2.0, 1.9, 3.0], [0, 0, 0, -5], [9, 9, 9, 9]])
    study = Study(
        ["C", "C", "CC"],
        ge=ge,
        obs=pd.DataFrame(
            {"cell_line": ["A375", "A375", "PC3"], "drug": ["a", "a", "a"]}
        ),
        genes=pd.DataFrame({"gene_id": range(4)}),
        level=5,
    )
    counts = differential_genes(study)
    assert counts.to_dict("list") == {
        "drug": ["a", "a"],
        "cell_line": ["A375", "PC3"],
        "n_profiles": [2, 1],
        "n_genes_up": [1.0, 4.0],
        "n_genes_down": [1.0, 0.0],
        "n_genes": [2.0, 4.0],
    }
    stricter = differential_genes(study, threshold=3.5)
    assert stricter["n_genes"].tolist() == [0.5, 4.0]


def test_errors():
    study = make_study(["P1", "P2"], ["a", "b"], control_plates=["P1", "P1"])
    with pytest.raises(MissingControlError, match="P2"):
        differential_genes(study)
    with pytest.raises(ValueError, match="needs z-scores"):
        differential_genes(study, test="z_score")
    lone = make_study(["P1"], ["a"], control_plates=["P1"])
    with pytest.raises(ValueError, match=r"'a' in cell line 'A375'.*no degree of"):
        differential_genes(lone)
    study.level = None
    with pytest.raises(ValueError, match=r"study\.level, which is None"):
        differential_genes(study)
    study.obs = study.obs.drop(columns="plate")
    with pytest.raises(ValueError, match="needs the plate of every profile"):
        differential_genes(study, test="moderated_t")
    study.control_ge = None
    with pytest.raises(ValueError, match="needs controls, and the study has none"):
        differential_genes(study, test="moderated_t")
    with pytest.raises(ValueError, match="'alpha' parameter"):
        differential_genes(study, alpha=0)


@pytest.mark.filterwarnings("ignore:Left out for want of a readable SMILES")
def test_real_plate(level3_folder):
    """An HSP90 inhibitor changes more genes than the median compound."""
    study = load_lincs(
        [level3_folder / "CPC006_A375_6H_X1.level3.gct"],
        level=3,
        metadata=level3_folder / "obs.csv",
    )
    counts = differential_genes(study).set_index("drug")["n_genes"]
    names = study.obs.drop_duplicates("drug").set_index("drug")["pert_name"]
    geldanamycin = names.index[names.str.upper() == "GELDANAMYCIN"][0]
    assert counts[geldanamycin] > 2 * counts.median() > 0
