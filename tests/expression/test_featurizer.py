import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from sklearn_molge.datasets import load_lincs, make_perturbation_study
from sklearn_molge.expression import L1000Featurizer, match_controls

BLOCKS = ("control", "treated", "difference", "log2_fold_change")

# Two treated wells of three genes; both controls come from one well.
TREATED = np.array([[8.0, 4.0, 2.0], [11.0, 4.0, 4.0]])
CONTROL = np.array([[5.0, 4.0, 3.0], [5.0, 4.0, 3.0]])
PAIRED = np.hstack([TREATED, CONTROL])

# Pooled wells: 8, 11, 5 (mean 8, sd 3), 4, 4, 4 (constant) and 2, 4, 3 (3, 1).
Z_TREATED = [[0, 0, -1], [1, 0, 1]]
Z_CONTROL = [[-1, 0, 0], [-1, 0, 0]]
DIFFERENCE = [[1, 0, -1], [2, 0, 1]]
FOLD_CHANGE = [[3, 0, -1], [6, 0, 1]]
BY_HAND = {
    "treated": Z_TREATED,
    "control": Z_CONTROL,
    "difference": DIFFERENCE,
    "log2_fold_change": FOLD_CHANGE,
}

check_default = parametrize_with_checks(
    [
        L1000Featurizer(),
        L1000Featurizer(["treated"], standardize=False),
        L1000Featurizer(rank_transform=True, normalize=True),
    ]
)


@check_default
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.fixture
def paired():
    rng = np.random.default_rng(0)
    treated, control = rng.normal(7, 2, (2, 30, 6)).clip(0)
    return np.hstack([treated, control])


@pytest.mark.parametrize("block", BLOCKS)
def test_each_block_by_hand(block):
    featurizer = L1000Featurizer((block,), paired=True)
    np.testing.assert_allclose(featurizer.fit_transform(PAIRED), BY_HAND[block])


@pytest.mark.parametrize(
    "blocks",
    [("log2_fold_change", "treated"), ("difference", "control", "treated"), BLOCKS],
)
def test_blocks_come_in_the_order_asked_for(blocks):
    features = L1000Featurizer(blocks, paired=True).fit_transform(PAIRED)
    np.testing.assert_allclose(features, np.hstack([BY_HAND[b] for b in blocks]))


def test_default_blocks():
    assert L1000Featurizer().fit(TREATED).blocks_ == ("treated",)
    assert L1000Featurizer(paired=True).fit(PAIRED).blocks_ == (
        "control",
        "treated",
        "log2_fold_change",
    )


def test_moments_by_hand():
    featurizer = L1000Featurizer(paired=True).fit(PAIRED)
    np.testing.assert_allclose(featurizer.mean_, [8, 4, 3])
    np.testing.assert_allclose(featurizer.scale_, [3, 1, 1])
    # Treated wells alone: 8, 11 with sd 3 / sqrt(2).
    unpaired = L1000Featurizer().fit(TREATED)
    np.testing.assert_allclose(unpaired.mean_, [9.5, 4, 3])
    np.testing.assert_allclose(unpaired.scale_, [3 / 2**0.5, 1, 2**0.5])


def test_a_control_counts_once_however_many_wells_it_serves(paired):
    treated = np.vstack([paired[:, :6], paired[:4, :6] + 1])
    control = np.vstack([paired[:, 6:], np.tile(paired[0, 6:], (4, 1))])
    featurizer = L1000Featurizer(paired=True).fit(np.hstack([treated, control]))
    pooled = pd.DataFrame(np.vstack([treated, paired[:, 6:]]))
    np.testing.assert_allclose(featurizer.mean_, pooled.mean())
    np.testing.assert_allclose(featurizer.scale_, pooled.std())


def test_constant_gene_has_scale_one_in_single_precision():
    X = np.full((50, 2), 0.1, dtype=np.float32)
    X[0, 1] = 3
    featurizer = L1000Featurizer().fit(X)
    assert featurizer.scale_[0] == 1
    np.testing.assert_allclose(featurizer.transform(X)[:, 0], 0, atol=1e-7)


@pytest.mark.parametrize("rank_transform", [False, True])
@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("fold_change", ["difference", "paper"])
def test_equals_slow_loop(paired, rank_transform, normalize, fold_change):
    paired[:, [0, 6]] = paired[:, [1, 7]]  # ties, for the ranks
    train, test = paired[:20], paired[20:]
    featurizer = L1000Featurizer(
        BLOCKS,
        paired=True,
        rank_transform=rank_transform,
        normalize=normalize,
        fold_change=fold_change,
    ).fit(train)
    pooled = pd.DataFrame(np.vstack([train[:, :6], train[:, 6:]]))

    def standardise(profile):
        z = (profile - pooled.mean().to_numpy()) / pooled.std().to_numpy()
        if not rank_transform:
            return z
        less = np.array([(z < value).sum() for value in z])
        equal = np.array([(z == value).sum() for value in z])
        return (less + (equal - 1) / 2) / 5

    expected = []
    for row in test:
        r_t, r_c = row[:6], row[6:]
        z_t, z_c = standardise(r_t), standardise(r_c)
        change = r_t - r_c
        if fold_change == "paper":
            change = np.log2((r_t + 1e-6) / (r_c + 1e-6))
        out = np.concatenate([z_c, z_t, z_t - z_c, change])
        expected.append(out / np.sqrt((out**2).sum()) if normalize else out)
    np.testing.assert_allclose(featurizer.transform(test), expected, atol=1e-12)


def test_rank_transform_by_hand():
    X = np.array([[3.0, 1.0, 2.0, 2.0], [9.0, 9.0, 9.0, 9.0]])
    featurizer = L1000Featurizer(rank_transform=True, standardize=False)
    np.testing.assert_allclose(
        featurizer.fit_transform(X), [[1, 0, 0.5, 0.5], [0.5] * 4]
    )


def test_rank_transform_leaves_the_fold_change_alone():
    featurizer = L1000Featurizer(
        ("log2_fold_change",), paired=True, rank_transform=True
    )
    np.testing.assert_allclose(featurizer.fit_transform(PAIRED), FOLD_CHANGE)


def test_normalize_makes_whole_rows_of_unit_length():
    X = np.array([[3.0, 0.0, 0.0, 4.0], [0.0, 0.0, 0.0, 0.0]])
    featurizer = L1000Featurizer(
        ("treated", "control"), paired=True, standardize=False, normalize=True
    )
    np.testing.assert_allclose(
        featurizer.fit_transform(X), [[0.6, 0, 0, 0.8], [0, 0, 0, 0]]
    )


def test_without_standardize_values_stay():
    featurizer = L1000Featurizer(standardize=False)
    np.testing.assert_array_equal(featurizer.fit_transform(TREATED), TREATED)
    assert featurizer.mean_ is None
    assert featurizer.scale_ is None
    assert featurizer.fit_transform(TREATED[:1]).shape == (1, 3)


def test_transform_uses_training_moments(paired):
    featurizer = L1000Featurizer(paired=True).fit(paired[:20])
    np.testing.assert_array_equal(
        featurizer.transform(paired)[20:], featurizer.transform(paired[20:])
    )


def test_input_is_left_alone(paired):
    before = paired.copy()
    L1000Featurizer(BLOCKS, paired=True, normalize=True).fit_transform(paired)
    L1000Featurizer(standardize=False, normalize=True).fit_transform(paired)
    np.testing.assert_array_equal(paired, before)


@pytest.mark.parametrize("options", [{}, {"rank_transform": True}, {"normalize": True}])
def test_precision(paired, options):
    featurizer = L1000Featurizer(BLOCKS, paired=True, **options)
    double = featurizer.fit_transform(paired)
    single = featurizer.fit_transform(paired.astype(np.float32))
    assert double.dtype == np.float64
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double, atol=1e-5)


def test_feature_names():
    featurizer = L1000Featurizer(("treated", "difference"), paired=True).fit(PAIRED)
    assert featurizer.get_feature_names_out().tolist() == [
        "treated_x0",
        "treated_x1",
        "treated_x2",
        "difference_x0",
        "difference_x1",
        "difference_x2",
    ]
    named = featurizer.get_feature_names_out(list("abcdef"))
    assert named[:3].tolist() == ["treated_a", "treated_b", "treated_c"]
    with pytest.raises(ValueError, match="length equal to number of features"):
        featurizer.get_feature_names_out(["a"])


def test_set_output_keeps_index_and_names_genes():
    frame = pd.DataFrame(TREATED, index=["w1", "w2"], columns=["AARS", "ABL1", "ABCF1"])
    featurizer = L1000Featurizer().set_output(transform="pandas")
    features = featurizer.fit_transform(frame)
    assert features.index.tolist() == ["w1", "w2"]
    assert features.columns.tolist() == [
        "treated_AARS",
        "treated_ABL1",
        "treated_ABCF1",
    ]
    featurizer.set_params(genes=pd.Series(["g1", "g2", "g3"], index=[5, 6, 7]))
    features = featurizer.fit_transform(frame)
    assert features.columns.tolist() == ["treated_g1", "treated_g2", "treated_g3"]


def test_clone_and_pickle(paired):
    featurizer = L1000Featurizer(BLOCKS, paired=True, genes=list("abcdef")).fit(paired)
    expected = featurizer.transform(paired)
    again = pickle.loads(pickle.dumps(featurizer))
    np.testing.assert_array_equal(again.transform(paired), expected)
    np.testing.assert_array_equal(clone(featurizer).fit_transform(paired), expected)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"blocks": ("treated", "contorl"), "paired": True},
            r"Got \('treated', 'conto",
        ),
        ({"blocks": ("treated", "treated")}, "each once"),
        ({"blocks": ()}, r"Got \(\)"),
        (
            {"blocks": ("difference",), "paired": False},
            r"blocks=\('difference',\) needs the control",
        ),
        ({"blocks": "treated"}, "'blocks' parameter of L1000Featurizer must be"),
        ({"fold_change": "ratio"}, "'fold_change' parameter"),
        ({"genes": ["AARS"]}, "each of the 6 genes of X. Got 1 names"),
        ({"genes": ["AARS"], "paired": True}, "each of the 3 genes of X. Got 1 names"),
    ],
)
def test_parameters_refused(params, message):
    with pytest.raises(ValueError, match=message):
        L1000Featurizer(**params).fit(PAIRED)


@pytest.mark.parametrize(
    ("blocks", "paired"),
    [
        (None, False),
        (("treated",), False),
        (("control",), True),
        (("treated", "difference"), True),
    ],
)
def test_blocks_say_whether_the_input_is_paired(blocks, paired):
    auto = L1000Featurizer(blocks).fit(PAIRED)
    assert auto.paired_ is paired
    explicit = L1000Featurizer(blocks, paired=paired).fit(PAIRED)
    np.testing.assert_array_equal(auto.transform(PAIRED), explicit.transform(PAIRED))


def test_odd_columns_are_no_pairs():
    with pytest.raises(ValueError, match=r"even number of columns. Got 3"):
        L1000Featurizer(paired=True).fit(TREATED)


def test_paper_fold_change_refuses_negative_values():
    negative = PAIRED.copy()
    negative[1, 4] = -0.5
    featurizer = L1000Featurizer(paired=True, fold_change="paper")
    with pytest.raises(ValueError, match=r"Got -0.5 at row 1, column 4"):
        featurizer.fit(negative)
    with pytest.raises(ValueError, match=r"Got -0.5 at row 1, column 4"):
        featurizer.fit(PAIRED).transform(negative)
    featurizer.set_params(blocks=("treated", "control")).fit(negative)


def test_paper_fold_change_at_zero():
    X = np.array([[0.0, 1.0], [2.0, 0.0]])
    featurizer = L1000Featurizer(
        ("log2_fold_change",), paired=True, fold_change="paper"
    )
    expected = [[np.log2(1e-6 / (1 + 1e-6))], [np.log2((2 + 1e-6) / 1e-6)]]
    np.testing.assert_allclose(featurizer.fit_transform(X), expected)


@pytest.fixture(scope="module")
def plate_pair(level3_folder):
    """Wells of two A375 plates: frames of (wells x genes) by Entrez id, and obs."""
    obs = pd.read_csv(level3_folder / "obs.csv").set_index("inst_id")
    files = ["LJP005_A375_24H_X1_B19.level3.gct", "CPC006_A375_6H_X1.level3.gct"]
    wells = []
    for file in files:
        table = pd.read_csv(
            level3_folder / file, sep="\t", skiprows=2, index_col="pr_gene_id",
            low_memory=False,
        )  # fmt: skip
        table = table.loc[table.index.astype(str).str.isdigit()]
        table.index = table.index.astype(int)
        wells.append(table[table.columns.intersection(obs.index)].T.astype(np.float32))
    ge = pd.concat(wells).sort_index(axis=1)
    return ge, obs.loc[ge.index]


def test_level3_plates(plate_pair):
    ge, obs = plate_pair
    is_control = (obs["pert_type"] == "ctl_vehicle").to_numpy()
    assert ge.shape == (748, 978)
    plates = obs["plate"]
    dmso = ge[is_control].groupby(plates[is_control]).mean()
    controls = match_controls(plates[~is_control], ge[is_control], plates[is_control])
    np.testing.assert_allclose(controls, dmso.loc[plates[~is_control]], rtol=1e-5)

    treated = ge[~is_control].to_numpy()
    X = np.hstack([treated, controls])
    featurizer = L1000Featurizer(BLOCKS, paired=True).fit(X)
    control_z, treated_z, difference, fold_change = np.split(
        featurizer.transform(X).astype(np.float64), 4, axis=1
    )
    # The two plate means are the distinct controls.
    plate_rows = [np.flatnonzero(plates[~is_control] == p)[0] for p in dmso.index]
    training_z = np.vstack([treated_z, control_z[plate_rows]])
    np.testing.assert_allclose(training_z.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(training_z.std(0, ddof=1), 1, atol=1e-4)
    np.testing.assert_allclose(difference, treated_z - control_z, atol=1e-5)
    np.testing.assert_allclose(
        fold_change, treated - dmso.loc[plates[~is_control]].to_numpy(), atol=1e-5
    )


# Half of a profile is no control.

Z_SCORES = np.random.default_rng(1).normal(size=(40, 978))
GENES = [str(i) for i in range(100, 589)]


@pytest.mark.parametrize("blocks", [["difference"], ["control", "treated"]])
def test_unpaired_profiles_are_not_halved(blocks):
    genes = GENES + [str(i) for i in range(600, 1089)]
    for X in (Z_SCORES, pd.DataFrame(Z_SCORES, columns=genes)):
        with pytest.raises(ValueError, match=r"second half of its 978 columns is not"):
            L1000Featurizer(blocks).fit(X)
        with pytest.warns(UserWarning, match="paired=True takes it for that"):
            L1000Featurizer(blocks, paired=True).fit(X)


def test_signs_of_pairs():
    treated, control = np.hsplit(Z_SCORES, 2)
    difference = L1000Featurizer(["difference"], standardize=False)
    shared = np.hstack([treated, control[np.arange(40) // 2]])
    intensities = Z_SCORES + np.tile(np.linspace(4, 14, 489), 2)
    for X in (shared, intensities):
        values = difference.fit_transform(X)
        np.testing.assert_allclose(values, X[:, :489] - X[:, 489:])
    for treated_name in ("treated_", ""):
        names = [treated_name + g for g in GENES] + ["control_" + g for g in GENES]
        named = pd.DataFrame(Z_SCORES, columns=names)
        np.testing.assert_allclose(difference.fit_transform(named), treated - control)


def test_real_profiles_are_not_halved(level5_folder):
    study = load_lincs(level5_folder, level=5)
    for y in (study.ge, study.profiles()):
        with pytest.raises(ValueError, match="does not look like"):
            L1000Featurizer(["difference"]).fit(y)


@pytest.mark.parametrize("how", ["mean", "median", "random"])
def test_pairs_of_a_study_pass(how):
    study = make_perturbation_study(
        20, n_cell_lines=3, n_genes=30, level=3, random_state=0
    )
    for wells in (study, study.to_level4()):
        y = wells.paired_ge(how, random_state=0)
        frame = wells.paired_ge(how, random_state=0, as_frame=True)
        assert frame.columns[0].startswith("treated_")
        np.testing.assert_array_equal(
            L1000Featurizer(["difference"]).fit_transform(frame),
            L1000Featurizer(["difference"]).fit_transform(y),
        )
