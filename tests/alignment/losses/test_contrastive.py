import pytest

from sklearn_molge.alignment.losses import ContrastiveLoss


@pytest.mark.parametrize("anchor", ["expression", "molecule", "expression_only"])
@pytest.mark.parametrize("sampled", [False, True])
def test_equals_a_slow_loop(make_batch, slow_triplets, slow_distance, anchor, sampled):
    batch = make_batch(seed=4, sampled=sampled)
    terms = []
    for a, partner, n in slow_triplets(batch):
        own = batch.molecules[batch.molecule_index[a]]
        other = batch.molecules[batch.molecule_index[n]]
        profile, negative = batch.profiles[a], batch.profiles[n]
        pairs = {
            "expression": ((profile, own, 1), (profile, other, 0)),
            "molecule": ((profile, own, 1), (negative, own, 0)),
            "expression_only": (
                (profile, batch.profiles[partner], 1),
                (profile, negative, 0),
            ),
        }
        for left, right, y in pairs[anchor]:
            d = slow_distance(left, right, "euclidean")
            terms.append(0.5 * (y * d**2 + (1 - y) * max(0, 2.5 - d) ** 2))
    loss = ContrastiveLoss(margin=2.5, anchor=anchor)
    assert loss(batch).item() == pytest.approx(sum(terms) / len(terms), abs=1e-6)


def test_margin_by_hand(line_batch):
    # Two matching pairs at 0 and two others at 3, with margin 5: (2 * 2^2 / 2) / 4.
    batch = line_batch([0.0, 3.0], [0.0, 3.0])
    assert ContrastiveLoss()(batch).item() == pytest.approx(1.0)
    assert ContrastiveLoss(margin=3)(batch).item() == 0


@pytest.mark.parametrize(
    ("parameters", "match"),
    [
        ({"margin": -1.0}, r"'margin'.*\[0.*-1.0"),
        ({"anchor": "drug"}, r"'anchor'.*'molecule'.*'drug'"),
    ],
)
def test_bad_parameters(parameters, match):
    with pytest.raises(ValueError, match=match):
        ContrastiveLoss(**parameters)
