import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from sklearn_molge.metrics import (
    connectivity_tau,
    normalized_connectivity,
    pairwise_connectivity,
    summarize_connectivity,
)

RNG = np.random.default_rng(0)


def top(query, n_genes):
    """Mask of the largest values above 0, with all that tie with the last."""
    above = sorted(query[query > 0], reverse=True)
    if not above:
        return np.zeros(len(query), dtype=bool)
    return query >= above[min(n_genes, len(above)) - 1]


def slow_enrichment(hits, signature):
    """Walk through the distinct values of a signature, from the largest."""
    total = np.abs(signature[hits]).sum()
    if not hits.any() or total == 0:
        return 0.0 if hits.any() else None
    sums = [0.0]
    for value in sorted(set(signature), reverse=True):
        passed = signature >= value
        gained = np.abs(signature[passed & hits]).sum() / total
        lost = (passed & ~hits).sum() / max((~hits).sum(), 1)
        sums.append(gained - lost)
    largest, least = max(sums), min(sums)
    extreme = largest if largest + 1e-13 >= -least else least
    return extreme if abs(extreme) > 1e-13 else 0.0


def slow_wtcs(query, signature, n_genes):
    up = slow_enrichment(top(query, n_genes), signature)
    down = slow_enrichment(top(-query, n_genes), signature)
    if up is None or down is None:
        return up or -(down or 0.0)
    return (up - down) / 2 if np.sign(up) != np.sign(down) else 0.0


@pytest.mark.parametrize("size", [3, 8, 25])
@pytest.mark.parametrize("n_genes", [1, 4, 150])
def test_equals_a_slow_walk_with_and_without_ties(size, n_genes):
    signatures, queries = RNG.normal(size=(14, size)), RNG.normal(size=(9, size))
    signatures[6:] = signatures[6:].round()
    signatures[:2] = [[0.0], [2.0]]  # constant
    queries[4:] = queries[4:].round()
    queries[0] = 0
    queries[1], queries[2] = np.abs(queries[1]), -np.abs(queries[2])  # one set
    expected = [[slow_wtcs(q, z, n_genes) for z in signatures] for q in queries]
    found = pairwise_connectivity(queries, signatures, n_genes=n_genes)
    np.testing.assert_allclose(found, expected, atol=1e-12)
    single = pairwise_connectivity(
        queries.astype(np.float32), signatures.astype(np.float32), n_genes=n_genes
    )
    assert single.dtype == np.float32


def test_a_score_worked_by_hand():
    # Up gene 0 comes first: ES 1. Down gene 3 comes third of four: after two of the
    # three misses, -2/3.
    signature = [[4.0, 1.0, -2.0, -1.0]]
    found = pairwise_connectivity([[1.0, 0, 0, -1]], signature)
    np.testing.assert_allclose(found, (1 + 2 / 3) / 2)


def test_order_of_genes_and_sign_of_the_query():
    signatures = RNG.normal(size=(40, 60)).round(1)
    queries = RNG.normal(size=(10, 60))
    found = pairwise_connectivity(queries, signatures, n_genes=10)
    genes = RNG.permutation(60)
    permuted = pairwise_connectivity(
        queries[:, genes], signatures[:, genes], n_genes=10
    )
    np.testing.assert_allclose(permuted, found, atol=1e-12)
    reversed_ = pairwise_connectivity(-queries, signatures, n_genes=10)
    np.testing.assert_array_equal(reversed_, -found)
    assert set(np.sign(found.ravel())) == {-1, 0, 1}


def test_more_signatures_than_are_held_at_once():
    signatures, query = RNG.normal(size=(600, 400)), RNG.normal(size=(1, 400))
    found = pairwise_connectivity(query, signatures)
    rows = [0, 217, 218, 599]
    expected = [slow_wtcs(query[0], signatures[row], 150) for row in rows]
    np.testing.assert_allclose(found[0, rows], expected, atol=1e-12)


def test_other_metrics():
    A, B = RNG.normal(size=(4, 20)).round(), RNG.normal(size=(5, 20))
    for metric, peer in (("spearman", spearmanr), ("correlation", pearsonr)):
        expected = [[peer(a, b)[0] for b in B] for a in A]
        np.testing.assert_allclose(pairwise_connectivity(A, B, metric=metric), expected)
    cosine = pairwise_connectivity(A, B, metric="cosine")
    assert cosine[1, 2] == pytest.approx(
        A[1] @ B[2] / np.linalg.norm(A[1]) / np.linalg.norm(B[2])
    )


def test_normalised_scores_equal_a_slow_loop():
    scores = RNG.normal(size=(5, 30)).round(1)
    lines = RNG.choice(["A", "B", "C"], 30)
    expected = np.zeros_like(scores)
    for q, row in enumerate(scores):
        for r, w in enumerate(row):
            of_line = row[lines == lines[r]]
            if w > 0:
                expected[q, r] = w / of_line[of_line > 0].mean()
            elif w < 0:
                expected[q, r] = -w / of_line[of_line < 0].mean()
    np.testing.assert_allclose(normalized_connectivity(scores, lines), expected)
    for line in "ABC":
        found = normalized_connectivity(scores, lines)[0, lines == line]
        assert found[found > 0].mean() == pytest.approx(1)
    one = np.full(30, "A")
    np.testing.assert_array_equal(
        normalized_connectivity(scores), normalized_connectivity(scores, one)
    )


def test_tau_equals_a_slow_loop():
    ncs, reference = RNG.normal(size=(6, 4)).round(1), RNG.normal(size=(50, 4)).round(1)
    expected = [
        [np.sign(v) * 100 * np.mean(np.abs(reference[:, j]) < abs(v)) for j, v in row]
        for row in (list(enumerate(row)) for row in ncs)
    ]
    np.testing.assert_allclose(connectivity_tau(ncs, reference), expected)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_tie_of_tau_is_a_tie_whatever_the_rounding(dtype):
    reference = np.array([[0.1], [-0.7], [0.7], [3.0]], dtype=dtype)
    ulp = np.spacing(dtype(0.7))
    scores = np.array([[0.7 + 3 * ulp], [-0.7], [0.7 - ulp]], dtype=dtype)
    tau = connectivity_tau(scores, reference)
    np.testing.assert_array_equal(tau, [[25], [-25], [25]])


@pytest.mark.parametrize("summary", ["max_quantile", "max", "mean", "median"])
def test_summary_equals_a_slow_loop(summary):
    scores = RNG.normal(size=(4, 20)).astype(np.float32)
    labels = RNG.choice(["x", "y", "z", "only"], 20)
    labels[7] = "once"
    expected = []
    for label in sorted(set(labels)):
        own = scores[:, labels == label].astype(float)
        if summary == "max_quantile":
            high, low = (np.quantile(own, q, axis=1) for q in (0.67, 0.33))
            expected.append(np.where(abs(high) >= abs(low), high, low))
        else:
            expected.append(getattr(np, summary)(own, axis=1))
    found = summarize_connectivity(scores, labels, summary=summary)
    np.testing.assert_allclose(found, np.transpose(expected), rtol=1e-5)


def test_errors():
    with pytest.raises(ValueError, match="same number of features"):
        pairwise_connectivity([[1.0, 2.0]], [[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match="A contains NaN"):
        pairwise_connectivity([[1.0, np.nan]], [[1.0, 2.0]])
    with pytest.raises(ValueError, match="labels must have one entry for each of"):
        normalized_connectivity([[1.0, 2.0]], ["A"])
    with pytest.raises(ValueError, match="Got 1"):
        connectivity_tau([[1.0, 2.0]], [[1.0]])
    with pytest.raises(ValueError, match="'summary' parameter"):
        summarize_connectivity([[1.0]], ["a"], summary="sum")
