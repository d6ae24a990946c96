import pytest
import torch

from sklearn_molge.alignment.losses import QuadrupletLoss, QuintupletLoss, TripletLoss


@pytest.mark.parametrize("variant", ["code", "paper"])
@pytest.mark.parametrize("sampled", [False, True])
def test_equals_a_slow_loop(
    make_batch, slow_triplets, slow_distance, slow_margin_loss, variant, sampled
):
    batch = make_batch(seed=3, sampled=sampled)
    within = []
    for a, partner, n in slow_triplets(batch):
        pull = slow_distance(batch.profiles[a], batch.profiles[partner], "euclidean")
        push = slow_distance(batch.profiles[a], batch.profiles[n], "euclidean")
        within.append(([pull], [push]))
    parameters = {"margin": 0.3, "beta": 1.7, "average": "active"}
    expected = slow_margin_loss(within, 0.3, 1.7, "active")
    expected += QuadrupletLoss(variant=variant, **parameters)(batch).item()
    loss = QuintupletLoss(variant=variant, **parameters)
    assert loss(batch).item() == pytest.approx(expected, abs=1e-6)


def test_drugs_with_one_profile_have_only_the_push(line_batch):
    # Profiles 1 apart, each on its molecule: pushes of 1.2 - 1 + 0.2 = 0.4 everywhere,
    # pulls to itself of 0.
    batch = line_batch([0.0, 1.0], [0.0, 1.0])
    loss = QuintupletLoss(margin=0.2, beta=1.2)
    assert loss(batch).item() == pytest.approx(3 * 0.4, abs=1e-6)


def test_one_beta_for_all_parts(make_batch):
    batch = make_batch(seed=3)
    loss = QuintupletLoss(learn_beta=True)
    assert [name for name, _ in loss.named_parameters()] == ["beta"]
    loss(batch).backward()
    parts = [
        QuadrupletLoss(learn_beta=True),
        TripletLoss(anchor="expression_only", learn_beta=True),
    ]
    for part in parts:
        part(batch).backward()
    torch.testing.assert_close(loss.beta.grad, sum(part.beta.grad for part in parts))


def test_message_names_the_class():
    with pytest.raises(ValueError, match="QuintupletLoss"):
        QuintupletLoss(margin=-0.5)
