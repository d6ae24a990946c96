from types import SimpleNamespace

import numpy as np
import pytest
import torch
from skorch.history import History
from torch.utils.data import Subset

from sklearn_molge.alignment import _callbacks
from sklearn_molge.alignment._callbacks import RetrievalScoring, validation_mrr
from sklearn_molge.alignment._inputs import build_dataset
from sklearn_molge.metrics import mean_reciprocal_rank, retrieval_ranks


def test_validation_scores_are_those_of_retrieval_ranks(make_net, study, split):
    net = make_net(train_split=split)
    net.fit(study.smiles, study.ge, groups=study.groups)
    _, valid = next(split.split(study.smiles, groups=study.groups))
    X, y, drugs = study.smiles[valid], study.ge[valid], study.groups[valid, 0]
    for key, level in (("valid_mrr", "profile"), ("valid_mrr_drug", "drug")):
        ranks = retrieval_ranks(net, X, y, drugs=drugs, per=level)
        assert net.history[-1, key] == pytest.approx(mean_reciprocal_rank(ranks))


@pytest.mark.parametrize("metric", ["correlation", "euclidean"])
def test_validation_scores_by_hand(make_net, study, split, metric):
    net = make_net(train_split=split, metric=metric, max_epochs=1)
    net.fit(study.smiles, study.ge, groups=study.groups)
    _, valid = next(split.split(study.smiles, groups=study.groups))
    drugs, first, own = np.unique(
        study.groups[valid, 0], return_index=True, return_inverse=True
    )
    gallery = net.transform(study.smiles[valid][first])
    profiles = net.transform_ge(study.ge[valid])
    means = np.array([profiles[own == i].mean(0) for i in range(len(drugs))])

    def reciprocal_ranks(queries, own):
        for query, i in zip(queries, own, strict=True):
            if metric == "euclidean":
                distances = np.linalg.norm(gallery - query, axis=1)
            else:
                distances = [1 - np.corrcoef(query, m)[0, 1] for m in gallery]
            yield 1 / (1 + np.sum(distances < distances[i]))

    expected = np.mean(list(reciprocal_ranks(profiles, own)))
    assert net.history[-1, "valid_mrr"] == pytest.approx(expected)
    expected = np.mean(list(reciprocal_ranks(means, range(len(drugs)))))
    assert net.history[-1, "valid_mrr_drug"] == pytest.approx(expected)


def test_the_same_isomer_stands_for_its_drug_as_in_retrieval_ranks(make_net, study):
    X = study.smiles[:60].copy()
    X[:6:2], X[1:6:2] = "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"
    y = study.ge[:60]
    net = make_net().fit(X, y)
    ranks = retrieval_ranks(net, X, y)
    for order in (np.arange(60), np.arange(60)[::-1]):
        dataset = build_dataset(net, X[order], y[order], None)
        score, _ = validation_mrr(net, Subset(dataset, np.arange(60)))
        assert score == pytest.approx(mean_reciprocal_rank(ranks))


def test_best_epochs_are_marked(monkeypatch):
    scores = iter([(0.1, 0.5), (0.3, 0.5), (0.2, 0.6)])
    monkeypatch.setattr(_callbacks, "validation_mrr", lambda net, part: next(scores))
    net = SimpleNamespace(history=History())
    callback = RetrievalScoring().initialize()
    for _ in range(3):
        net.history.new_epoch()
        callback.on_epoch_end(net, dataset_valid=object())
    assert net.history[:, "valid_mrr"] == [0.1, 0.3, 0.2]
    assert net.history[:, "valid_mrr_best"] == [True, True, False]
    assert net.history[:, "valid_mrr_drug_best"] == [True, False, True]


def test_without_a_validation_part_nothing_is_recorded(fitted):
    assert not any("valid" in key for key in fitted.history[-1])


def test_scoring_leaves_the_generator_alone(fitted, study):
    dataset = build_dataset(fitted, study.smiles, study.ge, None)
    before = torch.get_rng_state()
    validation_mrr(fitted, dataset)
    assert torch.equal(torch.get_rng_state(), before)
