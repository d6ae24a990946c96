from itertools import product

import numpy as np
import pandas as pd
import pytest
from rdkit import Chem
from rdkit.Chem import Crippen, Descriptors, Lipinski
from rdkit.Chem.rdFingerprintGenerator import GetMorganGenerator

from sklearn_molge.datasets import make_perturbation_study

# Private, because a study shows neither blocks nor the potencies that they add up to.
from sklearn_molge.datasets._simulation import (
    BLOCKS,
    SCAFFOLDS,
    assemble_molecules,
    draw_pec50,
)
from sklearn_molge.molecules import canonical_smiles, drug_ids

SMALL = {"n_molecules": 12, "n_cell_lines": 3, "n_genes": 20}


def morgan_bits(smiles):
    generator = GetMorganGenerator(radius=2, fpSize=1024)
    mols = map(Chem.MolFromSmiles, smiles)
    return np.array([generator.GetFingerprintAsNumPy(m) for m in mols], dtype=float)


def jaccard(a, b):
    shared = a @ b.T
    return shared / (a.sum(axis=1)[:, None] + b.sum(axis=1) - shared)


def correlation(a, b):
    def unit(x):
        x = x - x.mean(axis=1, keepdims=True)
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    return unit(a) @ unit(b).T


def mean_reciprocal_rank(similarity, true):
    own = np.take_along_axis(similarity, true[:, None], axis=1)
    n_ties = (similarity == own).sum(axis=1)
    ranks = 1 + (similarity > own).sum(axis=1) + (n_ties - 1) / 2
    return np.mean(1 / ranks)


# --- molecules ------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_molecules_are_valid_canonical_and_distinct(seed):
    smiles, drugs, blocks = assemble_molecules(2000, np.random.default_rng(seed))
    assert all(s == t for s, t in zip(smiles, canonical_smiles(smiles), strict=True))
    assert drugs[:200].tolist() == drug_ids(smiles[:200]).tolist()
    assert len(set(drugs)) == 2000
    assert len(np.unique(blocks, axis=0)) == 2000


def test_molecules_are_made_of_their_blocks():
    smiles, _, blocks = assemble_molecules(50, np.random.default_rng(0))
    for text, row in zip(smiles, blocks, strict=True):
        scaffold, *parts = (names[i] for names, i in zip(BLOCKS, row, strict=True))
        assembled = Chem.MolFromSmiles(scaffold.format(*parts))
        assert text == Chem.MolToSmiles(assembled)


def test_every_block_fits_every_scaffold():
    # Each block in turn, at its place on each scaffold, with the plainest others.
    plain = [1, 0, 0]
    rows = {
        (s, *plain[:place], i, *plain[place + 1 :])
        for s in range(len(SCAFFOLDS))
        for place in range(3)
        for i in range(len(BLOCKS[place + 1]))
    }
    texts = [
        SCAFFOLDS[s].format(*(BLOCKS[k + 1][i] for k, i in enumerate(rest)))
        for s, *rest in sorted(rows)
    ]
    assert all(Chem.MolFromSmiles(text) is not None for text in texts)
    assert all("." not in text for text in texts)


def test_molecules_are_drug_like():
    smiles, *_ = assemble_molecules(500, np.random.default_rng(0))
    mols = [Chem.MolFromSmiles(s) for s in smiles]
    weight = np.array([Descriptors.MolWt(m) for m in mols])
    broken = (
        (weight > 500)
        + (np.array([Crippen.MolLogP(m) for m in mols]) > 5)
        + (np.array([Lipinski.NumHDonors(m) for m in mols]) > 5)
        + (np.array([Lipinski.NumHAcceptors(m) for m in mols]) > 10).astype(int)
    )
    assert weight.min() > 150
    assert weight.max() < 550
    assert np.mean(broken <= 1) > 0.99  # Lipinski's rule of five


def test_molecules_come_in_series():
    # ceil(sqrt(300 / 4)) = 9 scaffolds and as many pharmacophores.
    _, _, blocks = assemble_molecules(300, np.random.default_rng(0))
    assert len(np.unique(blocks[:, 0])) == 9
    assert len(np.unique(blocks[:, 1])) == 9


# --- structure, potency and mechanism -------------------------------------------------


def test_potency_is_a_sum_over_blocks_when_nothing_is_unexplained():
    # All 2 x 2 x 2 x 2 combinations: in a sum, every mixed difference is zero.
    blocks = np.array(list(product([0, 1], repeat=4)))
    pec50 = draw_pec50(blocks, 5, 0.0, np.random.default_rng(0))
    cube = pec50.reshape(2, 2, 2, 2, 5)
    for first, second in [(0, 1), (1, 2), (2, 3), (0, 3)]:
        mixed = np.diff(np.diff(cube, axis=first), axis=second)
        np.testing.assert_allclose(mixed, 0, atol=1e-12)
    assert cube.std() > 0.5


def test_structure_predicts_mechanism_but_not_perfectly():
    for seed in range(3):
        study = make_perturbation_study(
            400,
            n_cell_lines=1,
            n_genes=1,
            n_replicates=1,
            doses_um=[1],
            random_state=seed,
        )
        moa = study.obs["moa"].to_numpy()
        similarity = jaccard(*[morgan_bits(study.smiles)] * 2)
        np.fill_diagonal(similarity, -1)
        accuracy = np.mean(moa[similarity.argmax(axis=1)] == moa)
        majority = pd.Series(moa).value_counts(normalize=True).iloc[0]
        assert majority + 0.1 < accuracy < 0.8


def test_some_near_analogues_differ_in_mechanism():
    rng = np.random.default_rng(0)
    # 500 series, each with all 12 small substituents, and nothing unexplained.
    series = rng.integers(0, [32, 32, 24], (500, 3))
    blocks = np.column_stack(
        [np.repeat(series, 12, axis=0), np.tile(np.arange(12), 500)]
    )
    best = draw_pec50(blocks, 20, 0.0, rng).argmax(axis=1).reshape(500, 12)
    different = np.mean(best[:, :-1] != best[:, 1:])
    assert 0.1 < different < 0.5


def test_potent_molecules_respond_more_and_higher_doses_too():
    study = make_perturbation_study(
        100, n_cell_lines=2, drug_effect=0, pair_effect=0, noise=0.1, random_state=0
    )
    n_genes = len(study.genes)
    paired = study.paired_ge()
    size = np.linalg.norm(paired[:, :n_genes] - paired[:, n_genes:], axis=1)
    by_dose = pd.Series(size).groupby(study.obs["dose_um"].to_numpy()).mean()
    assert by_dose[10.0] > 1.1 * by_dose[3.33]
    assert np.corrcoef(size, study.obs["pec50"])[0, 1] > 0.3


# --- plates ---------------------------------------------------------------------------


def test_study_has_the_contract_columns_and_shapes():
    study = make_perturbation_study(**SMALL, n_controls=4, random_state=0)
    columns = [
        "pert_id",
        "pert_name",
        "drug",
        "cell_line",
        "plate",
        "well",
        "dose_um",
        "time_h",
        "pert_type",
        "moa",
    ]
    assert set(columns) <= set(study.obs.columns)
    assert list(study.obs.columns) == list(study.control_obs.columns)
    assert study.ge.shape == (12 * 3 * 2 * 2, 20)
    assert study.ge.dtype == study.control_ge.dtype == np.float32
    assert study.control_ge.shape == (3 * 2 * 4, 20)  # 3 lines, 2 replicates, 4 wells
    assert list(study.groups[:, 0]) == list(drug_ids(study.smiles))
    assert set(study.obs["pert_type"]) == {"trt_cp"}
    assert set(study.control_obs["pert_type"]) == {"ctl_vehicle"}
    assert study.obs.index.is_unique
    assert list(study.genes.columns) == ["gene_id", "symbol"]
    assert study.obs.groupby("drug")["moa"].nunique().eq(1).all()


def test_plates_hold_384_wells_of_one_line_and_have_controls():
    study = make_perturbation_study(
        200, n_cell_lines=2, n_genes=3, n_controls=10, random_state=0
    )
    wells = pd.concat([study.obs, study.control_obs])
    assert not wells.duplicated(["plate", "well"]).any()
    # 200 molecules at 2 doses fill one plate (374 wells) and part of another.
    sizes = wells.groupby("plate").size()
    assert sizes.sort_values().tolist() == [36] * 4 + [384] * 4
    assert wells.groupby("plate")["cell_line"].nunique().eq(1).all()
    n_controls = study.control_obs["plate"].value_counts()
    assert set(n_controls.index) == set(study.obs["plate"])
    assert n_controls.eq(10).all()


def test_replicates_are_in_the_same_well_of_different_plates():
    study = make_perturbation_study(**SMALL, n_replicates=3, random_state=0)
    replicates = study.obs.groupby(["drug", "cell_line", "dose_um"])
    assert replicates.size().eq(3).all()
    assert replicates["plate"].nunique().eq(3).all()
    assert replicates["well"].nunique().eq(1).all()


def test_plate_controls_remove_the_batch_effect():
    study = make_perturbation_study(
        40, n_cell_lines=1, n_replicates=8, batch_effect=0.5, noise=0.2, random_state=0
    )
    n_genes = len(study.genes)
    paired = study.paired_ge()

    def between_plates(values):
        """Standard deviation of the plates' means, over the same molecules."""
        means = [
            values[rows].mean(axis=0)
            for rows in study.obs.groupby("plate").indices.values()
        ]
        return np.sqrt(np.mean(np.var(means, axis=0, ddof=1)))

    # 80 wells and 16 controls a plate; noise has rms 0.2 exp(0.4^2) = 0.235.
    left = 0.2 * np.exp(0.4**2) * np.sqrt(1 / 80 + 1 / 16)
    assert between_plates(paired[:, :n_genes]) == pytest.approx(0.5, rel=0.05)
    difference = paired[:, :n_genes] - paired[:, n_genes:]
    assert between_plates(difference) == pytest.approx(left, rel=0.1)


def test_intensities_are_in_range():
    study = make_perturbation_study(50, random_state=0)
    assert study.ge.min() >= 3
    assert study.ge.max() <= 15
    assert 7.5 < np.median(study.ge) < 10
    assert np.mean((study.ge == 3) | (study.ge == 15)) < 0.01


def test_missing_pairs_are_random_and_no_molecule_is_lost():
    study = make_perturbation_study(
        200, n_genes=2, measured=0.3, n_replicates=1, doses_um=[5.0], random_state=0
    )
    assert len(study.ge) == 0.3 * 200 * 8
    n_lines = study.obs.groupby("drug")["cell_line"].nunique()
    assert len(n_lines) == 200
    assert n_lines.nunique() > 3
    # Each line expects 60 of the 200 molecules; 30 is more than four deviations.
    assert abs(study.obs["cell_line"].value_counts() - 60).max() < 30
    one_each = make_perturbation_study(
        30, n_cell_lines=4, n_genes=2, measured=0.25, n_replicates=1, random_state=0
    )
    assert one_each.obs.groupby("drug")["cell_line"].nunique().eq(1).all()


# --- levels ---------------------------------------------------------------------------


def test_levels_4_and_5_by_hand():
    options = dict(**SMALL, n_controls=3, doses_um=[1.0, 30.0], random_state=5)
    wells = make_perturbation_study(level=3, **options)
    z_wells = make_perturbation_study(level=4, **options)
    signatures = make_perturbation_study(level=5, **options)
    z = {}
    for i, (name, row) in enumerate(wells.obs.iterrows()):
        controls = wells.control_ge[wells.control_obs["plate"] == row["plate"]]
        scale = np.maximum(np.std(controls, axis=0, ddof=1), 0.1)
        z[name] = (wells.ge[i] - controls.mean(axis=0)) / scale
    np.testing.assert_allclose(z_wells.ge, [*z.values()], rtol=1e-4, atol=1e-4)
    assert list(z_wells.obs.index) == list(z)
    np.testing.assert_allclose(
        z_wells.control_ge[z_wells.control_obs["plate"] == row["plate"]].mean(axis=0),
        0,
        atol=1e-4,
    )

    assert len(signatures.ge) == 12 * 3 * 2
    assert signatures.control_ge is signatures.control_obs is None
    key = ["drug", "cell_line", "dose_um"]
    for i, signature in enumerate(signatures.obs.itertuples()):
        same = (wells.obs[key] == [getattr(signature, k) for k in key]).all(axis=1)
        replicates = [z[name] for name in wells.obs.index[same]]
        assert len(replicates) == 2
        expected = np.clip(np.mean(replicates, axis=0), -10, 10)
        np.testing.assert_allclose(signatures.ge[i], expected, rtol=1e-4, atol=1e-4)
        assert wells.smiles[same].tolist() == [signatures.smiles[i]] * 2
    assert np.abs(signatures.ge).max() == 10


# --- determinism and parameters -------------------------------------------------------


def same_study(a, b):
    return (
        a.smiles.tolist() == b.smiles.tolist()
        and a.ge.tobytes() == b.ge.tobytes()
        and a.control_ge.tobytes() == b.control_ge.tobytes()
        and a.obs.equals(b.obs)
        and a.control_obs.equals(b.control_obs)
        and a.genes.equals(b.genes)
    )


def test_same_seed_same_study():
    first = make_perturbation_study(**SMALL, random_state=7)
    assert same_study(first, make_perturbation_study(**SMALL, random_state=7))
    assert not same_study(first, make_perturbation_study(**SMALL, random_state=8))
    rng = np.random.RandomState(7)
    drawn = make_perturbation_study(**SMALL, random_state=rng)
    again = make_perturbation_study(**SMALL, random_state=np.random.RandomState(7))
    assert same_study(drawn, again)
    assert not same_study(drawn, make_perturbation_study(**SMALL, random_state=rng))


def test_random_state_none_differs_and_leaves_the_global_generator_alone():
    before = np.random.get_state()
    a, b = (make_perturbation_study(**SMALL) for _ in range(2))
    after = np.random.get_state()
    assert not same_study(a, b)
    assert before[2] == after[2]
    np.testing.assert_array_equal(before[1], after[1])


def test_noise_changes_neither_molecules_nor_layout():
    a = make_perturbation_study(**SMALL, noise=0.1, random_state=0)
    b = make_perturbation_study(**SMALL, noise=0.9, batch_effect=1, random_state=0)
    assert a.smiles.tolist() == b.smiles.tolist()
    assert a.obs.equals(b.obs)
    assert not np.allclose(a.ge, b.ge)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_molecules", 0),
        ("n_molecules", 250_001),
        ("n_cell_lines", 0),
        ("n_genes", 2.5),
        ("n_mechanisms", 0),
        ("n_replicates", 0),
        ("n_controls", 1),
        ("n_controls", 384),
        ("measured", 0),
        ("measured", 1.1),
        ("unexplained_potency", -1),
        ("line_effect", -1),
        ("drug_effect", -1),
        ("pair_effect", -1),
        ("batch_effect", -0.1),
        ("noise", -0.1),
        ("level", 2),
        ("random_state", "seed"),
    ],
)
def test_parameters_are_validated(name, value):
    with pytest.raises(ValueError, match=f"The '{name}' parameter"):
        make_perturbation_study(**{name: value})


@pytest.mark.parametrize("doses", [[], [0.0], [1.0, 1.0], [np.nan], [np.inf], [[1.0]]])
def test_doses_are_validated(doses):
    with pytest.raises(ValueError, match="doses_um must be distinct positive numbers"):
        make_perturbation_study(doses_um=doses)


def test_measured_must_leave_a_profile_to_each_molecule():
    message = r"at least 1 / n_cell_lines.*: 0.25 for 4 cell lines. Got 0.2"
    with pytest.raises(ValueError, match=message):
        make_perturbation_study(n_cell_lines=4, measured=0.2)


# --- the task -------------------------------------------------------------------------


def retrieval_scores(study, seed):
    """MRR of both oracles and of D-NN, on unseen drugs in two unseen lines."""
    profiles = study.ge
    if study.level == 3:
        profiles, controls = np.hsplit(study.paired_ge(), 2)
        profiles = profiles - controls
    drug, names = pd.factorize(study.groups[:, 0])
    line = pd.factorize(study.groups[:, 1])[0]
    rng = np.random.default_rng(seed)
    test_drugs, train_drugs = np.split(rng.permutation(len(names)), [len(names) // 3])
    new_drug, new_line = (
        np.isin(drug, test_drugs),
        np.isin(line, rng.choice(8, 2, False)),
    )
    bits = morgan_bits(study.smiles[[np.argmax(drug == d) for d in range(len(names))]])

    def means(rows, drugs):
        return np.array([profiles[rows & (drug == d)].mean(axis=0) for d in drugs])

    test = new_drug & new_line
    queries = profiles[test]
    true = (drug[test][:, None] == test_drugs).argmax(axis=1)
    all_means = means(test, test_drugs)
    n_own = np.bincount(true)[true, None]
    others = (all_means[true] * n_own - queries) / (n_own - 1)
    test_oracle = correlation(queries, all_means)
    own = [
        correlation(q[None], o[None])[0, 0]
        for q, o in zip(queries, others, strict=True)
    ]
    test_oracle[np.arange(len(true)), true] = own
    train_oracle = correlation(queries, means(new_drug & ~new_line, test_drugs))
    nearest = correlation(queries, means(~new_drug & ~new_line, train_drugs)).argmax(
        axis=1
    )
    double_nn = jaccard(bits[train_drugs][nearest], bits[test_drugs])
    shuffled = rng.permutation(bits)
    shuffled_nn = jaccard(shuffled[train_drugs][nearest], shuffled[test_drugs])
    return {
        "test oracle": mean_reciprocal_rank(test_oracle, true),
        "train oracle": mean_reciprocal_rank(train_oracle, true),
        "double nn": mean_reciprocal_rank(double_nn, true),
        "shuffled": mean_reciprocal_rank(shuffled_nn, true),
        "chance": np.mean(1 / np.arange(1, len(test_drugs) + 1)),
    }


@pytest.mark.parametrize("level", [3, 5])
@pytest.mark.parametrize("seed", [0, 1])
def test_methods_come_out_in_the_order_of_the_paper(level, seed):
    study = make_perturbation_study(level=level, random_state=seed)
    mrr = retrieval_scores(study, seed)
    assert 0.95 > mrr["test oracle"] > mrr["train oracle"] + 0.1
    assert mrr["train oracle"] > mrr["double nn"] + 0.15
    assert mrr["double nn"] > 1.4 * mrr["chance"]
    assert mrr["shuffled"] == pytest.approx(mrr["chance"], abs=0.02)
