"""The scores of the validation part that every training records."""

import numpy as np
import pytest

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


class Rows:
    """Split off the rows that were named."""

    def __init__(self, train, valid):
        self.train, self.valid = train, valid

    def split(self, X, y=None, groups=None):
        yield self.train, self.valid


@pytest.mark.parametrize("step", [1, -1])
def test_the_same_isomer_stands_for_its_drug_as_in_retrieval_ranks(
    make_net, study, step
):
    X = study.smiles[:60].copy()
    X[:6:2], X[1:6:2] = "C[C@H](N)C(=O)O", "C[C@@H](N)C(=O)O"
    y, rows = study.ge[:60], np.arange(60)[::step]
    net = make_net(train_split=Rows(rows, rows), max_epochs=1).fit(X, y)
    ranks = retrieval_ranks(net, X, y)
    assert net.history[-1, "valid_mrr"] == pytest.approx(mean_reciprocal_rank(ranks))


def test_best_epochs_are_marked(make_net, study, split):
    net = make_net(train_split=split, max_epochs=8, lr=0.05)
    net.fit(study.smiles, study.ge, groups=study.groups)
    for key in ("valid_mrr", "valid_mrr_drug"):
        scores = np.array(net.history[:, key])
        before = np.maximum.accumulate([-np.inf, *scores[:-1]])
        best = net.history[:, f"{key}_best"]
        assert best == (scores > before).tolist()
        assert not all(best)


def test_without_a_validation_part_nothing_is_recorded(fitted):
    assert not any("valid" in key for key in fitted.history[-1])


def test_scoring_changes_nothing(make_net, study, split):
    """Dropout draws the same numbers, with and without a validation part."""
    X, y, groups = study.smiles, study.ge, study.groups
    train, _ = next(split.split(X, groups=groups))
    params = {"module__dropout": 0.3}
    scored = make_net(**params, train_split=split).fit(X, y, groups=groups)
    alone = make_net(**params).fit(X[train], y[train], groups=groups[train])
    np.testing.assert_allclose(
        scored.transform_ge(y[:5]), alone.transform_ge(y[:5]), atol=1e-5
    )
