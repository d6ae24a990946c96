"""What every loss owes the training, whichever it is."""

import math
from dataclasses import replace

import pytest
import torch
from torch.autograd import gradcheck
from torch.func import functional_call

from sklearn_molge.alignment import losses
from sklearn_molge.alignment.losses import (
    ContrastiveLoss,
    DeepCCALoss,
    InfoLOOBLoss,
    InfoNCELoss,
    QuadrupletLoss,
    QuintupletLoss,
    SigmoidLoss,
    SoftTargetInfoNCELoss,
    TripletCCALoss,
    TripletLoss,
)

MARGIN = {"margin": 0.3, "beta": 1.7, "learn_beta": True}
LOSSES = {
    "quadruplet-code": QuadrupletLoss(**MARGIN),
    "quadruplet-paper": QuadrupletLoss(variant="paper", average="mean", **MARGIN),
    "quadruplet-cosine": QuadrupletLoss(distance="cosine", beta=0.8),
    "triplet-expression": TripletLoss(**MARGIN),
    "triplet-molecule": TripletLoss(anchor="molecule", **MARGIN),
    "triplet-expression_only": TripletLoss(anchor="expression_only", **MARGIN),
    "quintuplet": QuintupletLoss(**MARGIN),
    "contrastive": ContrastiveLoss(margin=2.5),
    "deep-cca": DeepCCALoss(ridge=0.1),
    "triplet-cca": TripletCCALoss(ridge=0.1, **MARGIN),
    "info-nce": InfoNCELoss(),
    "sigmoid": SigmoidLoss(bias=-1.0),
    "info-loob": InfoLOOBLoss(learn_temperature=True),
    "soft-target": SoftTargetInfoNCELoss(min_similarity=-0.5),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())
ALL_PAIRS = [InfoNCELoss, SigmoidLoss, InfoLOOBLoss, SoftTargetInfoNCELoss]


def test_every_public_loss_is_here():
    assert {type(loss).__name__ for loss in LOSSES.values()} == set(losses.__all__)


@every_loss
@pytest.mark.parametrize("sampled", [False, True])
def test_gradients(make_batch, loss, sampled):
    batch = make_batch(dim=2, sampled=sampled)
    names = [name for name, p in loss.named_parameters() if p.requires_grad]
    start = {k: p.detach().double() for k, p in loss.named_parameters()}

    def value(molecules, profiles, *learned):
        parameters = start | dict(zip(names, learned, strict=True))
        changed = replace(batch, molecules=molecules, profiles=profiles)
        return functional_call(loss, parameters, (changed,))

    inputs = [batch.molecules, batch.profiles, *(start[name] for name in names)]
    assert gradcheck(value, [tensor.clone().requires_grad_() for tensor in inputs])


@every_loss
def test_order_of_rows_and_molecules_does_not_matter(make_batch, loss):
    batch = make_batch(dim=2)
    rows, columns = torch.tensor([3, 1, 4, 0, 2]), torch.tensor([2, 0, 3, 1])
    shuffled = replace(
        batch,
        molecules=batch.molecules[columns],
        molecule_drugs=batch.molecule_drugs[columns],
        profiles=batch.profiles[rows],
        inputs=batch.inputs[rows],
        molecule_index=torch.argsort(columns)[batch.molecule_index[rows]],
    )
    torch.testing.assert_close(loss(shuffled), loss(batch))


@every_loss
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_collapsed_embeddings_have_a_finite_loss_and_gradient(make_batch, loss, level):
    batch = make_batch(dim=2, dtype=torch.float32)
    batch = replace(
        batch,
        molecules=torch.full_like(batch.molecules, level).requires_grad_(),
        profiles=torch.full_like(batch.profiles, level).requires_grad_(),
    )
    value = loss(batch)
    leaves = (batch.molecules, batch.profiles)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    assert value.isfinite()
    assert all(g is None or g.isfinite().all() for g in gradients)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_a_scalar_in_the_precision_of_the_embeddings(make_batch, loss, dtype):
    value = loss(make_batch(dim=2, dtype=dtype))
    assert value.shape == ()
    assert value.dtype == dtype


@every_loss
def test_one_drug_has_no_negatives(make_batch, loss):
    # Two isomers are two molecules, but one drug.
    batch = replace(
        make_batch(dim=2),
        molecule_index=torch.tensor([0, 1, 0, 1, 0]),
        molecule_drugs=torch.tensor([7, 7, 7, 7]),
    )
    with pytest.raises(ValueError, match=r"at least two drugs.*n_profiles=5"):
        loss(batch)


@pytest.mark.parametrize("anchor", ["expression", "molecule", "expression_only"])
def test_triplets_without_partners(make_batch, anchor):
    batch = make_batch(sampled=True)
    batch = replace(batch, triplets=batch.triplets._replace(partners=None))
    loss = TripletLoss(anchor=anchor)
    if anchor == "expression_only":
        with pytest.raises(ValueError, match="set sampler__partners=True"):
            loss(batch)
    else:
        assert loss(batch).isfinite()


def test_isomers_are_not_pushed_apart(line_batch):
    # The isomers of drug 0 lie in one place, drug 1 far away: nothing is left to do.
    batch = line_batch([0.0, 0.0, 9.0], [0.0, 0.0, 9.0], molecule_drugs=[0, 0, 1])
    hinges = [QuadrupletLoss, TripletLoss, QuintupletLoss, ContrastiveLoss]
    assert [loss()(batch).item() for loss in hinges] == pytest.approx([0] * 4, abs=1e-9)


@pytest.mark.parametrize("loss", ALL_PAIRS)
def test_isomers_attract(make_batch, loss):
    """Nearer to the profile of its isomer a molecule costs less."""
    batch = replace(
        make_batch(dim=2),
        molecules=torch.tensor([[1.0, 0.0], [0.6, 0.8], [-1.0, 0.0], [0.0, -1.0]]),
        profiles=torch.tensor(
            [[1.0, 0.0], [-1.0, 0.0], [1.0, 0.0], [0.0, -1.0], [-1.0, 0.0]]
        ),
        inputs=torch.eye(5),
    )
    batch.molecules.requires_grad_()
    loss(temperature=1.0)(batch).backward()
    assert batch.molecules.grad[1] @ torch.tensor([0.8, -0.6]) < 0


@pytest.mark.parametrize("loss", ALL_PAIRS)
def test_temperature_is_held_at_100_and_can_come_back(make_batch, loss):
    batch = make_batch(dim=2)
    module = loss(temperature=0.01, learn_temperature=True)
    at_limit = module(batch)
    with torch.no_grad():
        module.log_scale.fill_(9.0)
    beyond = module(batch)
    beyond.backward()
    assert module.log_scale.item() == pytest.approx(math.log(100))
    torch.testing.assert_close(beyond, at_limit, rtol=1e-5, atol=1e-5)
    assert module.log_scale.grad.item() != 0


@pytest.mark.parametrize("loss", ALL_PAIRS)
def test_bad_temperature(loss):
    with pytest.raises(
        ValueError, match=rf"'temperature' parameter of {loss.__name__}.*0\.01.*0\.001"
    ):
        loss(temperature=0.001)


CROSS_MODAL = {
    name: loss
    for name, loss in LOSSES.items()
    if name not in ("triplet-expression_only", "deep-cca")
}


@pytest.mark.parametrize("loss", CROSS_MODAL.values(), ids=CROSS_MODAL.keys())
def test_minimising_it_puts_profiles_beside_their_drug(make_batch, loss):
    batch = make_batch(seed=5, dtype=torch.float32)
    leaves = [batch.molecules.requires_grad_(), batch.profiles.requires_grad_()]
    optimizer = torch.optim.Adam(leaves, lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        loss(batch).backward()
        optimizer.step()
    molecules, profiles = (
        torch.nn.functional.normalize(leaf.detach(), dim=1) for leaf in leaves
    )
    nearest = (profiles @ molecules.T).argmax(1)
    assert (batch.molecule_drugs[nearest] == batch.profile_drugs).all()


@pytest.mark.parametrize(
    ("loss", "needs"),
    [
        (QuintupletLoss(), True),
        (TripletLoss(anchor="expression_only"), True),
        (TripletLoss(), False),
        (TripletCCALoss(anchor="expression_only"), True),
        (TripletCCALoss(), False),
        (QuadrupletLoss(), False),
    ],
)
def test_a_loss_says_whether_it_needs_partners(make_batch, loss, needs):
    assert loss.needs_partners is needs
    batch = make_batch(dim=2, sampled=True)
    batch = replace(batch, triplets=batch.triplets._replace(partners=None))
    if needs:
        with pytest.raises(ValueError, match="set sampler__partners=True"):
            loss(batch)
    else:
        assert loss(batch).isfinite()
