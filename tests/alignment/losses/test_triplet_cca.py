import pytest
import torch

from sklearn_molge.alignment.losses import DeepCCALoss, TripletCCALoss, TripletLoss


@pytest.mark.parametrize("sampled", [False, True])
def test_is_the_weighted_sum(make_batch, sampled):
    batch = make_batch(dim=2, sampled=sampled)
    margin = {
        "anchor": "molecule",
        "margin": 0.4,
        "beta": 1.5,
        "distance": "euclidean",
        "average": "mean",
    }
    cca = {"ridge": 0.1, "n_components": 1}
    expected = DeepCCALoss(**cca)(batch) + 3 * TripletLoss(**margin)(batch)
    loss = TripletCCALoss(triplet_weight=3.0, **margin, **cca)
    torch.testing.assert_close(loss(batch), expected)


def test_default_weight_is_two(make_batch):
    batch = make_batch(dim=2)
    expected = DeepCCALoss()(batch) + 2 * TripletLoss()(batch)
    torch.testing.assert_close(TripletCCALoss()(batch), expected)


def test_bad_weight():
    with pytest.raises(ValueError, match=r"'triplet_weight' parameter of TripletCCA"):
        TripletCCALoss(triplet_weight=-2)
