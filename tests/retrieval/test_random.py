import numpy as np
from scipy import stats

from sklearn_molge.metrics import chance_scores, retrieval_ranks
from sklearn_molge.retrieval import RandomRetriever

SMILES = np.array([f"{'C' * i}{f}" for i in range(1, 21) for f in "ONFS"], dtype=object)


def test_similarities_are_uniform_and_independent_of_company():
    y = np.random.default_rng(0).normal(size=(300, 5))
    model = RandomRetriever(random_state=0).fit(SMILES[:1], y[:1])
    similarities = model.similarity(SMILES, y)
    assert stats.kstest(similarities.ravel(), "uniform").pvalue > 1e-3
    correlations = np.corrcoef(similarities.T)[np.triu_indices(len(SMILES), 1)]
    assert abs(correlations).max() < 0.3
    part = model.similarity(SMILES[[5, 2]], y[[7, 3]])
    np.testing.assert_array_equal(part, similarities[np.ix_([7, 3], [5, 2])])


def test_seeds():
    y = np.random.default_rng(0).normal(size=(40, 5))
    tables = [
        RandomRetriever(random_state=seed).fit(SMILES[:40], y).similarity(SMILES, y)
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(tables[0], tables[1])
    assert abs(np.corrcoef(tables[0].ravel(), tables[2].ravel())[0, 1]) < 0.1


def test_scores_are_chance():
    rng = np.random.default_rng(0)
    rows = np.tile(np.arange(80), 25)
    y = rng.normal(size=(len(rows), 3))
    model = RandomRetriever(random_state=0).fit(SMILES[rows], y)
    ranks = retrieval_ranks(model, SMILES[rows], y)
    assert stats.kstest(ranks, stats.randint(1, 81).cdf).statistic < 0.05
    assert abs(np.mean(1 / ranks) - chance_scores(80)["mrr"]) < 0.015
