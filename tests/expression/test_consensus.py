import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from sklearn_molge.expression import consensus_signatures

RNG = np.random.default_rng(1)


def slow_modz(z, compared, min_weight=0.01, clip=10):
    """MODZ as its authors describe it, pair by pair."""
    z = np.clip(z, -clip, clip)
    n = len(z)
    if n == 1:
        return z[0], [1.0], np.nan
    raw, pairs = [], []
    for i in range(n):
        others = []
        for j in range(n):
            if i == j:
                continue
            rho = spearmanr(z[i][compared], z[j][compared])[0]
            others.append(max(rho, 0))
            if i < j:
                pairs.append(rho)
        raw.append(max(sum(others) / (n - 1), min_weight))
    weights = [weight / sum(raw) for weight in raw]
    signature = sum(w * row for w, row in zip(weights, z, strict=True))
    return signature, weights, np.percentile(pairs, 75, method="hazen")


def test_by_hand():
    # Ranks 1234, 1243, 4321: Spearman 1 - 6 sum d^2 / 60: 0.8, -1, -0.8.
    z = np.array([[1, 2, 3, 4], [1, 2, 5, 4], [4, 3, 2, 0]], dtype=float)
    made = consensus_signatures(z, ["a"] * 3)
    # Means of the others, negatives as 0: 0.4, 0.4, 0 -> 0.01; sum 0.81.
    weights = np.array([0.4, 0.4, 0.01]) / 0.81
    np.testing.assert_allclose(made.weights, weights)
    np.testing.assert_allclose(made.signatures, [weights @ z])
    assert made.groups.tolist() == ["a"]
    assert made.group_of.tolist() == [0, 0, 0]
    # Hazen: of -1, -0.8, 0.8 the 75th lies at place 2.75: -0.8 + 0.75 * 1.6.
    assert made.quality["cc_q75"].tolist() == pytest.approx([0.4])
    # Signature times sqrt(3): 1.8, 3.5, 7.0, 6.8: three genes from 2.
    assert made.quality["ss_ngene"].tolist() == [3]
    assert made.quality["tas"].tolist() == pytest.approx([np.sqrt(3 * 0.4 / 4)])
    assert made.quality["n_replicates"].tolist() == [3]


def test_one_and_two_replicates():
    z = np.array([[1.0, 2, 3], [3, 2, 1], [12, -11, 0.5]])
    made = consensus_signatures(z, ["two", "two", "one"])
    np.testing.assert_allclose(made.signatures, [[2, 2, 2], [10, -10, 0.5]])
    np.testing.assert_allclose(made.weights, [0.5, 0.5, 1])
    assert made.quality["cc_q75"][0] == pytest.approx(-1)
    # cc below 0.001 counts as 0.001; sqrt(2) * 2 is over 2 in all three genes.
    assert made.quality["tas"][0] == pytest.approx(np.sqrt(3 * 0.001 / 3))
    assert made.quality.loc[1, ["cc_q75", "tas"]].isna().all()
    assert made.quality["ss_ngene"].tolist() == [3, 2]
    as_it_is = consensus_signatures(z, ["two", "two", "one"], clip=None)
    np.testing.assert_array_equal(as_it_is.signatures[1], z[2])


@pytest.mark.parametrize("some_genes", [True, False])
def test_slow_loop(some_genes):
    groups = RNG.choice(list("abcdefgh"), size=30)
    signal = RNG.normal(scale=4, size=(30, 40))
    z = np.round(signal + RNG.normal(scale=3, size=(30, 40)))  # ties
    mask = np.arange(40) < 25 if some_genes else np.ones(40, dtype=bool)
    made = consensus_signatures(z, groups, landmarks=mask if some_genes else None)
    assert made.groups.tolist() == list(dict.fromkeys(groups.tolist()))
    for row, group in enumerate(made.groups):
        members = groups == group
        signature, weights, agreement = slow_modz(z[members], mask)
        np.testing.assert_allclose(made.signatures[row], signature, atol=1e-12)
        np.testing.assert_allclose(made.weights[members], weights)
        np.testing.assert_allclose(made.quality["cc_q75"][row], agreement)
        assert made.quality["n_replicates"][row] == members.sum()
        assert (made.group_of[members] == row).all()


def test_mean_and_median():
    z = np.array([[0.0, 5], [1, 7], [8, 40]])
    mean = consensus_signatures(z, ["a"] * 3, how="mean")
    np.testing.assert_allclose(mean.signatures, [[3, 22 / 3]])
    np.testing.assert_allclose(mean.weights, [1 / 3] * 3)
    median = consensus_signatures(z, ["a"] * 3, how="median")
    np.testing.assert_allclose(median.signatures, [[1, 7]])
    assert np.isnan(median.weights).all()
    pd.testing.assert_series_equal(mean.quality["cc_q75"], median.quality["cc_q75"])


def test_order_does_not_matter():
    z, groups = RNG.normal(size=(12, 9)), np.repeat(["a", "b", "c"], 4)
    made = consensus_signatures(z, groups)
    order = RNG.permutation(12)
    shuffled = consensus_signatures(z[order], groups[order])
    np.testing.assert_allclose(shuffled.weights, made.weights[order])
    places = [shuffled.groups.tolist().index(group) for group in made.groups]
    np.testing.assert_allclose(shuffled.signatures[places], made.signatures)


def test_identical_replicates_are_their_own_signature():
    profile = RNG.normal(size=9)
    made = consensus_signatures([profile] * 4, ["a"] * 4)
    np.testing.assert_allclose(made.signatures, [profile])
    np.testing.assert_allclose(made.weights, 0.25)
    assert made.quality["cc_q75"][0] == pytest.approx(1)


def test_an_outlier_gets_the_least_weight():
    signal = RNG.normal(size=200)
    z = signal + RNG.normal(scale=0.3, size=(4, 200))
    z[2] = RNG.normal(scale=5, size=200)
    made = consensus_signatures(z, ["a"] * 4)
    assert made.weights.argmin() == 2
    assert made.weights[2] < 0.1
    mean = consensus_signatures(z, ["a"] * 4, how="mean")
    near, far = (np.abs(m.signatures[0] - signal).mean() for m in (made, mean))
    assert near < far / 2


def test_a_profile_that_does_not_vary_agrees_with_none():
    z = np.array([[1.0, 2, 3], [2, 4, 6], [5, 5, 5]])
    made = consensus_signatures(z, ["a"] * 3)
    np.testing.assert_allclose(made.weights, np.array([0.5, 0.5, 0.01]) / 1.01)
    alone = consensus_signatures(np.zeros((3, 3)), ["a"] * 3)
    np.testing.assert_allclose(alone.weights, 1 / 3)


def test_labels_of_several_columns():
    labels = pd.DataFrame(
        {"drug": ["x", "x", "y", "x"], "dose": [1.0, np.nan, 1, None]}
    )
    made = consensus_signatures(np.eye(4), labels)
    assert made.group_of.tolist() == [0, 1, 2, 1]
    assert made.groups.shape == (3, 2)
    assert made.groups[:, 0].tolist() == ["x", "x", "y"]
    assert made.groups[1, 1] != made.groups[1, 1]
    one = consensus_signatures(np.eye(4), [3, 1, 3, 1])
    assert one.groups.tolist() == [3, 1]
    # Labels do not run into each other.
    pairs = consensus_signatures(
        np.eye(4), [["a", "bc"], ["ab", "c"], ["a", "bc"], ["zz", ""]]
    )
    assert pairs.group_of.tolist() == [0, 1, 0, 2]


def test_precision():
    z = RNG.normal(size=(6, 8))
    single = consensus_signatures(z.astype(np.float32), [0, 0, 0, 1, 1, 1])
    double = consensus_signatures(z, [0, 0, 0, 1, 1, 1])
    assert single.signatures.dtype == np.float32
    np.testing.assert_allclose(single.signatures, double.signatures, atol=1e-6)


def test_errors():
    z = np.eye(3)
    with pytest.raises(ValueError, match=r"groups must be of shape \(3,\).* \(2,\)"):
        consensus_signatures(z, ["a", "b"])
    for mask in ([True, False], [1, 1, 0], [True, False, False]):
        with pytest.raises(ValueError, match="landmarks must be None or a mask of 3"):
            consensus_signatures(z, ["a"] * 3, landmarks=mask)
    with pytest.raises(ValueError, match="NaN"):
        consensus_signatures([[1.0, np.nan]], ["a"])
    for name, value in [("how", "modZ"), ("clip", 0), ("min_weight", 0)]:
        with pytest.raises(ValueError, match=f"'{name}' parameter"):
            consensus_signatures(z, ["a"] * 3, **{name: value})
