import pytest
import torch

from sklearn_molge.alignment.losses import QuadrupletLoss, TripletLoss

# The defaults of the paper's code.
AS_RELEASED = {"margin": 0.2, "beta": 1.2, "average": "active"}


def pair_distances(batch, slow_triplets, slow_distance, kind):
    """d(gA, mA), d(gA, mB), d(gB, mA), d(gB, mB) of each quadruplet."""
    found = []
    for a, _, b in slow_triplets(batch):
        profiles = [batch.profiles[a], batch.profiles[b]]
        molecules = [batch.molecules[batch.molecule_index[i]] for i in (a, b)]
        found.append([slow_distance(g, m, kind) for g in profiles for m in molecules])
    return found


@pytest.mark.parametrize("variant", ["code", "paper"])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize(
    ("distance", "beta", "average"),
    [("euclidean", 1.7, "active"), ("euclidean", 1.7, "mean"), ("cosine", 0.8, "mean")],
)
def test_equals_a_slow_loop(
    make_batch,
    slow_triplets,
    slow_distance,
    slow_margin_loss,
    variant,
    sampled,
    distance,
    beta,
    average,
):
    batch = make_batch(seed=1, sampled=sampled)
    pairs = pair_distances(batch, slow_triplets, slow_distance, distance)
    if variant == "paper":
        quadruplets = [([aa, bb], [ab, ba]) for aa, ab, ba, bb in pairs]
        expected = slow_margin_loss(quadruplets, 0.3, beta, average)
    else:
        first = [([aa], [ab]) for aa, ab, _, _ in pairs]
        second = [([aa], [ba]) for aa, _, ba, _ in pairs]
        expected = slow_margin_loss(first, 0.3, beta, average)
        expected += slow_margin_loss(second, 0.3, beta, average)
    loss = QuadrupletLoss(
        margin=0.3, beta=beta, variant=variant, distance=distance, average=average
    )
    assert loss(batch).item() == pytest.approx(expected, abs=1e-6)


def test_code_variant_is_both_triplet_losses(make_batch):
    batch = make_batch(seed=2)
    halves = [
        TripletLoss(anchor=anchor)(batch) for anchor in ("expression", "molecule")
    ]
    torch.testing.assert_close(QuadrupletLoss()(batch), sum(halves))


def test_each_half_of_the_code_has_its_own_count(line_batch):
    # d(g0, m0) = 0, d(g0, m1) = 1, d(g1, m0) = 10, d(g1, m1) = 9.
    batch = line_batch([0.0, 1.0], [0.0, 10.0], triplets=[(0, 0, 1), (1, 1, 0)])
    # Against the other molecule: push 0.4 and pull 8, over two active triplets.
    # Against the other profile: nothing and pull 8 + push 0.4, over one.
    code = QuadrupletLoss(**AS_RELEASED)(batch)
    assert code.item() == pytest.approx(8.4 / 2 + 8.4)
    # The paper's sum is push 0.4 + pull 8 from either side.
    paper = QuadrupletLoss(variant="paper", **AS_RELEASED)(batch)
    assert paper.item() == pytest.approx((8.4 + 8.4) / 2)


def test_paper_variant_pulls_the_second_pair_too(line_batch):
    batch = line_batch([0.0, 50.0], [0.0, 53.0], triplets=[(0, 0, 1)])
    assert QuadrupletLoss(variant="code", **AS_RELEASED)(batch).item() == 0
    paper = QuadrupletLoss(variant="paper", **AS_RELEASED)(batch)
    assert paper.item() == pytest.approx(3 - 1.2 + 0.2)


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"variant": "print"}, r"'variant'.*'code'.*'print'"),
        ({"margin": -1}, r"'margin'.*\[0.*-1"),
        ({"beta": 0}, r"'beta'.*\(0.*Got 0"),
        ({"distance": "manhattan"}, r"'distance'.*'cosine'.*'manhattan'"),
        ({"average": "sum"}, r"'average'.*'active'.*'sum'"),
        ({"learn_beta": "yes"}, r"'learn_beta'.*bool.*'yes'"),
    ],
)
def test_bad_parameters(parameters, match):
    with pytest.raises(ValueError, match=match):
        QuadrupletLoss(**parameters)
