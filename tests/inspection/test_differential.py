import numpy as np
import pandas as pd
import pytest
from scipy import special, stats

from sklearn_molge.datasets import Study, load_lincs, make_perturbation_study
from sklearn_molge.exceptions import DataWarning, MissingControlError
from sklearn_molge.inspection import differential_genes

# Smyth's test is compared with slow definitions of each of its parts: counts of genes
# alone would not show an error of the prior.
from sklearn_molge.inspection._differential import (
    fit_variance_prior,
    moderated_t_test,
    trigamma_inverse,
)

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


def test_differential_genes_does_not_depend_on_the_order_of_wells():
    rng = np.random.RandomState(0)
    ge, controls = rng.normal(8, 1, (12, 15)), rng.normal(8, 1, (9, 15))
    ge[::4, :5] += 4

    def counts(rows, wells):
        return differential_genes(
            Study(
                smiles=np.full(12, "C", dtype=object),
                ge=ge[rows],
                genes=pd.DataFrame({"symbol": [f"g{i}" for i in range(15)]}),
                obs=pd.DataFrame(
                    {
                        "cell_line": "A",
                        "drug": np.tile(list("abcd"), 3)[rows],
                        "plate": np.repeat(["P", "Q"], 6)[rows],
                    }
                ),
                control_ge=controls[wells],
                control_obs=pd.DataFrame({"plate": np.tile(["P", "Q", "P"], 3)[wells]}),
                level=3,
            )
        )

    plain = counts(np.arange(12), np.arange(9))
    moved = counts(rng.permutation(12), rng.permutation(9))
    pd.testing.assert_frame_equal(plain, moved)
    assert plain["n_genes"].max() >= 4


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
    with pytest.warns(DataWarning, match="1 treated profiles have the dose 0"):
        study = load_lincs(
            [level3_folder / "CPC006_A375_6H_X1.level3.gct"],
            level=3,
            metadata=level3_folder / "obs.csv",
        )
    counts = differential_genes(study).set_index("drug")["n_genes"]
    names = study.obs.drop_duplicates("drug").set_index("drug")["pert_name"]
    geldanamycin = names.index[names.str.upper() == "GELDANAMYCIN"][0]
    assert counts[geldanamycin] > 2 * counts.median() > 0


# The moderated t-test.


@pytest.mark.parametrize("y", [1e-4, 0.01, 0.5, 1.0, 3.7, 40.0, 1e5, 1e8])
def test_trigamma_inverse(y):
    assert trigamma_inverse(special.polygamma(1, y)) == pytest.approx(y, rel=1e-4)


def trigamma_by_series(x):
    """Slow: the sum of 1 / (x + k)^2, and its tail as an integral."""
    k = np.arange(200_000)
    return np.sum(1 / (x + k) ** 2) + 1 / (x + len(k) - 0.5)


def test_prior_by_a_slow_search():
    """The moment equations, by bisection and sums in place of Newton and scipy."""
    variances = np.array([0.2, 0.5, 1.0, 1.5, 4.0, 9.0, 0.05, 2.0])
    df = 6
    digamma_3 = 1 + 1 / 2 - np.euler_gamma
    e = [np.log(s) - digamma_3 + np.log(3) for s in variances]
    mean = sum(e) / len(e)
    excess = sum((each - mean) ** 2 for each in e) / (len(e) - 1)
    excess -= trigamma_by_series(3)
    low, high = 0.01, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        if trigamma_by_series(middle) > excess:
            low = middle
        else:
            high = middle
    step = 1e-5
    digamma = (special.gammaln(low + step) - special.gammaln(low - step)) / (2 * step)
    d0, s2 = fit_variance_prior(variances, df)
    assert d0 == pytest.approx(2 * low, rel=1e-5)
    assert s2 == pytest.approx(np.exp(mean + digamma - np.log(low)), rel=1e-5)


def test_equal_variances_have_an_infinite_prior():
    assert fit_variance_prior(np.full(100, 2.5), 4) == (np.inf, 2.5)
    drawn = 2.0 * stats.chi2(4).rvs(200, random_state=1) / 4
    # Less scatter than sampling alone: the middle of what was drawn.
    d0, s2 = fit_variance_prior(np.sort(drawn)[50:150], 4)
    assert np.isinf(d0)
    assert s2 == pytest.approx(np.mean(np.sort(drawn)[50:150]))


@pytest.mark.parametrize(("d0", "s2", "df"), [(4.0, 0.3, 10), (12.0, 5.0, 3)])
def test_recovers_the_prior_that_was_drawn_from(d0, s2, df):
    rng = np.random.default_rng(0)
    true = d0 * s2 / rng.chisquare(d0, size=200_000)
    variances = true * rng.chisquare(df, size=len(true)) / df
    fitted = fit_variance_prior(variances, df)
    assert fitted == pytest.approx((d0, s2), rel=0.05)


def test_zero_variances():
    with pytest.raises(ValueError, match="More than half"):
        fit_variance_prior(np.array([0.0, 0.0, 1.0]), 3)
    d0, s2 = fit_variance_prior(np.array([0.0, 1.0, 2.0, 3.0]), 3)
    assert np.isfinite([d0, s2]).all()


def test_without_prior_it_is_the_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(5, 30)), rng.normal(size=(7, 30))
    expected = stats.ttest_ind(a, b)
    squares = a.var(axis=0) * 5 + b.var(axis=0) * 7
    t, p = moderated_t_test(
        a.mean(axis=0) - b.mean(axis=0),
        squares / 10,
        10,
        unscaled_variance=1 / 5 + 1 / 7,
        prior=(0.0, 1.0),
    )
    np.testing.assert_allclose(t, expected.statistic)
    np.testing.assert_allclose(p, expected.pvalue)


def test_shrinkage_by_hand():
    effects, variances = np.array([1.0, 2.0]), np.array([1.0, 4.0])
    t, p = moderated_t_test(
        effects, variances, 4, unscaled_variance=0.5, prior=(2.0, 1.0)
    )
    # (2 * 1 + 4 * 1) / 6 = 1 and (2 * 1 + 4 * 4) / 6 = 3.
    np.testing.assert_allclose(t, [1 / np.sqrt(0.5), 2 / np.sqrt(1.5)])
    np.testing.assert_allclose(p, 2 * stats.t.sf(t, 6))
    # With an infinite prior all genes have its variance, and together 8 df.
    t, p = moderated_t_test(
        effects, variances, 4, unscaled_variance=1.0, prior=(np.inf, 4.0)
    )
    np.testing.assert_allclose(t, [0.5, 1.0])
    np.testing.assert_allclose(p, 2 * stats.t.sf(t, 8))


def test_p_values_are_uniform_without_an_effect():
    rng = np.random.default_rng(0)
    sd = np.sqrt(4 * 0.5 / rng.chisquare(4, size=5000))
    wells = sd * rng.normal(size=(6, 5000))
    effects = wells[:3].mean(axis=0) - wells[3:].mean(axis=0)
    squares = 3 * (wells[:3].var(axis=0) + wells[3:].var(axis=0))
    _, p = moderated_t_test(effects, squares / 4, 4, unscaled_variance=2 / 3)
    assert stats.kstest(p, "uniform").pvalue > 0.01
