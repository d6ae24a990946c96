import pytest
import torch

from sklearn_molge.alignment import EmbeddedBatch, Triplets

# Molecules 0 and 1 are isomers of drug 0; drug 1 has one molecule and two profiles.
MOLECULE_DRUGS = [0, 0, 1, 2]
MOLECULE_INDEX = [0, 2, 1, 3, 2]
SAMPLED = {
    "anchors": [0, 1, 3, 4, 2],
    "partners": [2, 4, 3, 1, 0],
    "negatives": [1, 2, 0, 3, 3],
}


@pytest.fixture
def make_batch():
    def make(*, seed=0, dim=3, dtype=torch.float64, sampled=False):
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape):
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        triplets = Triplets(**{name: torch.tensor(v) for name, v in SAMPLED.items()})
        return EmbeddedBatch(
            molecules=normal(len(MOLECULE_DRUGS), dim).to(dtype),
            profiles=normal(len(MOLECULE_INDEX), dim).to(dtype),
            molecule_index=torch.tensor(MOLECULE_INDEX),
            molecule_drugs=torch.tensor(MOLECULE_DRUGS),
            inputs=normal(len(MOLECULE_INDEX), 6).to(dtype),
            triplets=triplets if sampled else None,
        )

    return make


@pytest.fixture
def line_batch():
    """Points on a line, so that distances are differences that one sees."""

    def make(molecules, profiles, *, molecule_drugs=None, triplets=None):
        if triplets:
            anchors, partners, negatives = torch.tensor(triplets).T
            triplets = Triplets(anchors, negatives, partners)
        n = len(molecules)
        return EmbeddedBatch(
            molecules=torch.tensor(molecules, dtype=torch.float64)[:, None],
            profiles=torch.tensor(profiles, dtype=torch.float64)[:, None],
            molecule_index=torch.arange(n),
            molecule_drugs=torch.tensor(molecule_drugs or list(range(n))),
            inputs=torch.eye(n, dtype=torch.float64),
            triplets=triplets,
        )

    return make


@pytest.fixture
def slow_triplets():
    """(anchor, partner, negative) of a batch, by the definition, one by one."""

    def triplets(batch):
        if batch.triplets is not None:
            anchors, negatives, partners = batch.triplets
            parts = (anchors, partners, negatives)
            return list(zip(*(part.tolist() for part in parts), strict=True))
        drugs = batch.profile_drugs.tolist()
        found = []
        for anchor, drug in enumerate(drugs):
            same = [i for i, other in enumerate(drugs) if other == drug]
            partner = same[(same.index(anchor) + 1) % len(same)]
            found += [
                (anchor, partner, i) for i, other in enumerate(drugs) if other != drug
            ]
        return found

    return triplets


@pytest.fixture
def slow_distance():
    def distance(a, b, kind):
        a, b = a.tolist(), b.tolist()
        if kind == "euclidean":
            return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) ** 0.5
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return 1 - dot / (sum(x * x for x in a) * sum(y * y for y in b)) ** 0.5

    return distance


@pytest.fixture
def slow_margin_loss():
    """Average over triplets of (pull distances, push distances), one by one."""

    def loss(triplets, margin, beta, average):
        total, active = 0.0, 0
        for pulls, pushes in triplets:
            terms = [max(0.0, d - beta + margin) for d in pulls]
            terms += [max(0.0, beta - d + margin) for d in pushes]
            total += sum(terms)
            active += any(term > 0 for term in terms)
        n = len(triplets) if average == "mean" else active
        return total / n if n else 0.0

    return loss
