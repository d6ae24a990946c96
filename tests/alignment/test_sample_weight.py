"""sample_weight of CoordinatedEmbedder: absent rows, equal weights, and shares."""

import numpy as np
import pytest
import sklearn
from hyperopt import hp
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sklearn_molge.alignment import CoordinatedEmbedder
from sklearn_molge.alignment.losses import InfoNCELoss
from sklearn_molge.alignment.samplers import (
    DistanceWeightedSampler,
    DrugBalancedSampler,
    UniformSampler,
)
from sklearn_molge.metrics import RetrievalScorer
from sklearn_molge.model_selection import DrugCellLineShuffleSplit, HyperoptSearchCV
from sklearn_molge.retrieval import TransformedTargetRetriever, VotingRetriever

RNG = np.random.default_rng(0)
MOLECULES = RNG.normal(size=(12, 6))
DRUGS, LINES = np.repeat(np.arange(12), 4), np.tile(np.arange(4), 12)
X = MOLECULES[DRUGS].astype(np.float32)
Y = (X @ RNG.normal(size=(6, 10)) + RNG.normal(size=(48, 10))).astype(np.float32)
GROUPS = np.column_stack([DRUGS, LINES])


def net(**options):
    given = {
        "encoder": None,
        "module__expression_layers": (8,),
        "module__embedding_size": 4,
        "max_epochs": 3,
        "batch_size": 16,
        "random_state": 0,
    }
    return CoordinatedEmbedder(**given | options)


def embedded(model):
    return np.vstack([model.transform(X), model.transform_ge(Y)])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sampler": UniformSampler},
        {"sampler": DrugBalancedSampler, "criterion": InfoNCELoss},
        {"module__start": "cca"},
        {"train_split": DrugCellLineShuffleSplit(1, random_state=0)},
    ],
    ids=["default", "uniform", "balanced", "cca", "validated"],
)
def test_zero_is_absent_and_equal_is_none(options):
    weight = np.where(RNG.random(48) < 0.3, 0.0, 0.7)
    used = weight > 0
    fitted = net(**options).fit(X, Y, GROUPS, sample_weight=weight)
    absent = net(**options).fit(X[used], Y[used], GROUPS[used])
    np.testing.assert_array_equal(embedded(fitted), embedded(absent))


@pytest.mark.parametrize("start", ["random", "cca"])
def test_the_same_seed_gives_the_same(start, tmp_path):
    weight = RNG.random(48)
    options = {"module__start": start, "sampler": DistanceWeightedSampler}
    one = net(**options).fit(X, Y, sample_weight=weight)
    other = net(**options, checkpoint_folder=tmp_path).fit(X, Y, sample_weight=weight)
    np.testing.assert_array_equal(embedded(one), embedded(other))
    scaled = net(**options).fit(X, Y, sample_weight=7 * weight)
    np.testing.assert_allclose(embedded(one), embedded(scaled), rtol=1e-3, atol=1e-3)
    assert not np.array_equal(embedded(one), embedded(net(**options).fit(X, Y)))


class CountingSampler(UniformSampler):
    """Counts the anchors that it draws, by the value of their first gene."""

    seen: list = []

    def prepare(self, drugs, *, profiles=None, **others):
        self.rows = profiles[:, 0]
        return super().prepare(drugs, profiles=profiles, **others)

    def epoch(self, rng):
        for batch in super().epoch(rng):
            self.seen.extend(self.rows[batch.profiles[batch.triplets.anchors]])
            yield batch


def test_rows_are_drawn_by_their_weight():
    weight = np.tile([1.0, 2.0, 4.0, 0.0], 12)
    CountingSampler.seen = []
    net(sampler=CountingSampler, max_epochs=200).fit(X, Y, sample_weight=weight)
    counts = np.array([np.sum(np.array(CountingSampler.seen) == v) for v in Y[:, 0]])
    shares = [counts[weight == w].mean() / 200 for w in (1, 2, 4, 0)]
    np.testing.assert_allclose(shares, [0.25, 0.5, 1, 0], atol=0.05)


def test_two_drugs_are_in_each_epoch():
    weight = np.where(DRUGS == 0, 1.0, 1e-9)
    assert np.isfinite(embedded(net().fit(X, Y, sample_weight=weight))).all()


def test_useless_rows_with_little_weight_harm_less():
    wrong = np.random.default_rng(1).permutation(48)
    both = np.vstack([X, X]), np.vstack([Y, Y[wrong]])
    options = {"module__start": "cca", "max_epochs": 1}
    scores = []
    for low in (1.0, 0.05):
        weight = np.repeat([1.0, low], 48)
        model = net(**options).fit(*both, sample_weight=weight)
        scores.append(model.score(X, Y))
    assert scores[0] < scores[1]


def test_refused():
    with pytest.raises(ValueError, match="Negative values"):
        net().fit(X, Y, sample_weight=np.arange(48) - 1)
    with pytest.raises(ValueError, match="non-zero"):
        net().fit(X, Y, sample_weight=np.zeros(48))
    with pytest.raises(ValueError, match="sample_weight"):
        net().fit(X, Y, sample_weight=np.ones(47))
    with pytest.raises(ValueError, match="2 drugs"):
        net().fit(X, Y, sample_weight=(DRUGS == 0).astype(float))


def test_routed_through_everything():
    weight = np.where(LINES == 0, 0.0, 1.0)
    expected = embedded(net().fit(X, Y, sample_weight=weight))
    with sklearn.config_context(enable_metadata_routing=True):
        inner = net().set_fit_request(sample_weight=True)
        pipe = make_pipeline(FunctionTransformer(), inner)
        vote = VotingRetriever([("one", TransformedTargetRetriever(pipe))])
        vote.fit(X, Y, sample_weight=weight)
        fitted = vote.estimators_[0].retriever_[-1]
        np.testing.assert_array_equal(embedded(fitted), expected)
        search = HyperoptSearchCV(
            inner,
            {"lr": hp.choice("lr", [1e-3])},
            n_iter=1,
            cv=2,
            scoring=RetrievalScorer("mrr"),
            random_state=0,
        )
        search.fit(X, Y, sample_weight=weight)
        np.testing.assert_array_equal(embedded(search.best_estimator_), expected)
    partial = net().partial_fit(X, Y, sample_weight=weight)
    np.testing.assert_array_equal(embedded(partial), expected)
