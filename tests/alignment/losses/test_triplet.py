import pytest

from sklearn_molge.alignment.losses import TripletLoss


def anchored(batch, anchor, a, partner, n):
    """Anchor, positive and negative embedding of one triplet."""
    own, other = batch.molecule_index[a], batch.molecule_index[n]
    if anchor == "expression":
        return batch.profiles[a], batch.molecules[own], batch.molecules[other]
    if anchor == "molecule":
        return batch.molecules[own], batch.profiles[a], batch.profiles[n]
    return batch.profiles[a], batch.profiles[partner], batch.profiles[n]


@pytest.mark.parametrize("anchor", ["expression", "molecule", "expression_only"])
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
    anchor,
    sampled,
    distance,
    beta,
    average,
):
    batch = make_batch(sampled=sampled)
    triplets = []
    for a, partner, n in slow_triplets(batch):
        first, positive, negative = anchored(batch, anchor, a, partner, n)
        pull = slow_distance(first, positive, distance)
        push = slow_distance(first, negative, distance)
        triplets.append(([pull], [push]))
    loss = TripletLoss(
        anchor=anchor, margin=0.3, beta=beta, distance=distance, average=average
    )
    expected = slow_margin_loss(triplets, 0.3, beta, average)
    assert expected > 0
    assert loss(batch).item() == pytest.approx(expected, abs=1e-6)


def test_active_average_counts_triplets_not_terms(line_batch):
    # Anchor 0: pull 3 - 2 + 0.5 and push 2 - 1 + 0.5, two active terms. Anchor 1: push
    # 2 - 2.25 + 0.5, one active term. Anchor 2: none.
    batch = line_batch(
        [3.0, 1.0, 40.0, 3.25],
        [0.0, 1.0, 40.0, 3.25],
        triplets=[(0, 0, 1), (1, 1, 3), (2, 2, 0)],
    )
    parameters = {"margin": 0.5, "beta": 2.0}
    active = TripletLoss(**parameters, average="active")(batch)
    assert active.item() == pytest.approx((3.0 + 0.25) / 2, abs=1e-6)
    mean = TripletLoss(**parameters, average="mean")(batch)
    assert mean.item() == pytest.approx((3.0 + 0.25) / 3, abs=1e-6)


@pytest.mark.parametrize("anchor", ["expression", "molecule", "expression_only"])
def test_no_active_triplet_is_exactly_zero(line_batch, anchor):
    batch = line_batch([0.0, 50.0], [0.0, 50.0])
    batch.profiles.requires_grad_()
    batch.molecules.requires_grad_()
    loss = TripletLoss(anchor=anchor, average="active", learn_beta=True)
    value = loss(batch)
    value.backward()
    assert value.item() == 0
    assert loss.beta.grad.item() == 0
    assert not batch.profiles.grad.any()
    if anchor == "expression_only":
        assert batch.molecules.grad is None
    else:
        assert not batch.molecules.grad.any()


def test_learned_beta_moves_to_fewer_active_terms(line_batch):
    # One active pull, d = 3: lowering the loss raises beta by the count of pulls.
    batch = line_batch([3.0, 90.0], [0.0, 90.0])
    loss = TripletLoss(beta=1.0, average="active", learn_beta=True)
    loss(batch).backward()
    assert loss.beta.grad.item() == pytest.approx(-1.0)
    assert [name for name, _ in loss.named_parameters()] == ["beta"]
    assert not list(TripletLoss().parameters())


def test_unknown_anchor():
    with pytest.raises(ValueError, match=r"'anchor'.*'expression_only'.*'profile'"):
        TripletLoss(anchor="profile")
