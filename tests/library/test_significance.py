"""Queries against noise: by a slow loop, and how often noise is called better."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom, false_discovery_control
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.datasets import make_perturbation_study
from sklearn_molge.expression import profile_from_genes
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.metrics import pairwise_similarity
from sklearn_molge.molecules import MorganFingerprinter

STUDY = make_perturbation_study(
    150, n_cell_lines=2, n_genes=60, level=5, random_state=0
)
METRICS = ["correlation", "cosine", "dot", "euclidean"]


@pytest.fixture(scope="module")
def pipe():
    pipe = make_pipeline(MorganFingerprinter(fp_size=256), CCA(8, ridge=0.1))
    return pipe.fit(STUDY.smiles, STUDY.ge)


@pytest.fixture(scope="module")
def index(pipe):
    return MoleculeIndex(pipe).fit(STUDY.smiles)


def slow_p_values(pipe, index, profile, metric, reverse, n_permutations=99):
    """The p-value of a query and of its score with each molecule, one by one."""
    molecules = pipe.transform(index.get_molecules()["smiles"].to_numpy())
    draw = np.random.RandomState(0)
    orders = [np.arange(len(profile))]
    orders += [draw.permutation(len(profile)) for _ in range(n_permutations)]
    scores = pairwise_similarity(
        pipe[-1].transform_ge(np.stack([profile[order] for order in orders])),
        molecules,
        metric=metric,
    )
    scores = -scores if reverse else scores
    of_molecules = (scores >= scores[0] - 1e-6).mean(axis=0)
    standard = (scores - scores.mean(axis=0)) / scores.std(axis=0)
    n_best = int(np.ceil(len(molecules) / 100))
    best = np.sort(standard, axis=1)[:, -n_best:].mean(axis=1)
    return (best >= best[0] - 1e-6).mean(), of_molecules


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_p_values_equal_a_slow_loop(pipe, metric, reverse):
    index = MoleculeIndex(pipe, metric=metric).fit(STUDY.smiles)
    asked = STUDY.ge[[0, 7, 40]]
    options = {"reverse": reverse, "n_permutations": 99}
    found = index.significance(asked, **options)
    table = index.query(asked, 6, **options)
    for i, profile in enumerate(asked):
        expected, own = slow_p_values(pipe, index, profile, metric, reverse)
        assert found["p_value"][i] == pytest.approx(expected, abs=0.011)
        answers = table[table["query"] == i]
        np.testing.assert_allclose(
            answers["p_value"], own[answers["index_row"]], atol=0.011
        )
    q_values = false_discovery_control(found["p_value"])
    np.testing.assert_allclose(found["q_value"], q_values)
    for name in ("p_value", "q_value"):
        expected = np.repeat(found[name].to_numpy(), 6)
        np.testing.assert_array_equal(table[f"query_{name}"], expected)
    called = np.repeat(found["better_than_noise"].to_numpy(), 6)
    np.testing.assert_array_equal(table["better_than_noise"], called)


def within(n_called, n, share=0.05):
    """Whether so many of n are no more than `share` allows, 1 in 1000 times."""
    return n_called <= binom.isf(1e-3, n, share)


def test_noise_is_seldom_better_than_noise(index):
    noise = np.random.default_rng(0).normal(size=(200, 60))
    table = index.significance(noise, n_permutations=199)
    assert within((table["p_value"] <= 0.05).sum(), 200)
    assert within(table["better_than_noise"].sum(), 200)
    real = index.significance(STUDY.ge[:200], n_permutations=199)
    assert not within((real["p_value"] <= 0.05).sum(), 200)


def test_random_gene_lists_are_seldom_better_than_noise(index):
    draw = np.random.default_rng(0)
    lists = []
    for _ in range(100):
        genes = STUDY.genes["symbol"].to_numpy()[draw.permutation(60)]
        query = profile_from_genes(STUDY.genes, up=genes[:8], down=genes[8:16])
        lists.append(np.asarray(query)[0])
    table = index.significance(np.array(lists), n_permutations=199)
    assert within((table["p_value"] <= 0.05).sum(), 100)
    assert index.significance(query, n_permutations=9).shape == (1, 3)


def test_a_query_s_p_value_depends_on_no_other_query(index):
    profiles = pd.DataFrame(STUDY.ge[:4], index=list("abcd"))
    table = index.significance(profiles, n_permutations=99)
    assert table.index.tolist() == list("abcd")
    alone = index.significance(profiles.iloc[[2]], n_permutations=99)
    assert alone["p_value"]["c"] == table["p_value"]["c"]
    assert alone["q_value"]["c"] == alone["p_value"]["c"]
    pd.testing.assert_frame_equal(
        table, index.significance(profiles, n_permutations=99)
    )
    other = index.significance(profiles, n_permutations=99, random_state=1)
    assert (other["p_value"] != table["p_value"]).any()
    strict = index.significance(profiles, n_permutations=99, level=0.0)
    assert not strict["better_than_noise"].any()


def test_profiles_of_a_condition_are_permuted_alike(index):
    groups = ["b", "a", "b", "a"]
    table = index.significance(STUDY.ge[:4], groups=groups, n_permutations=49)
    assert table.index.tolist() == ["a", "b"]
    twice = np.repeat(STUDY.ge[:1], 2, axis=0)  # the same profile, measured twice
    expected = index.significance(twice[:1], n_permutations=49)["p_value"][0]
    found = index.significance(twice, groups=["x", "x"], n_permutations=49)
    assert found["p_value"]["x"] == expected


def test_the_numbers_can_be_left_out(index):
    table = index.query(STUDY.ge[:2], 3, n_permutations=0)
    assert not {"p_value", "query_p_value", "better_than_noise"} & set(table)
    with pytest.raises(ValueError, match=r"n_permutations must be .* Got -1"):
        index.query(STUDY.ge[:2], n_permutations=-1)


@pytest.mark.parametrize("value", [0.0, 3.5, -1.0])
def test_profiles_that_say_nothing_are_refused(index, value):
    profiles = STUDY.ge[:4].copy()
    profiles[[1, 3]] = value
    for ask in (index.query, index.kneighbors, index.significance):
        with pytest.raises(ValueError, match=r"2 of 4 have the same .* rows \[1, 3\]"):
            ask(profiles)
    with pytest.raises(ValueError, match="genes differ"):
        index.rank(pd.DataFrame(profiles), STUDY.smiles[0])


def test_a_query_where_a_correlation_is_undefined_is_refused(index_of):
    index = index_of([[1.0, 2, 4], [3, 1, 0]], "cosine")
    opposite = np.array([[1.0, 2.0, 3.0], [-1.0, -2.0, -3.0], [1.0, 0.0, 0.0]])
    with pytest.raises(ValueError, match=r"where cosine is undefined.*\[0\]"):
        index.kneighbors(opposite, 1, groups=["a", "a", "b"])


def test_faiss_has_the_same_numbers(pipe, index):
    pytest.importorskip("faiss")
    quick = MoleculeIndex(pipe, backend="faiss", faiss_factory="Flat").fit(STUDY.smiles)
    columns = ["index_row", "p_value", "query_p_value", "better_than_noise"]
    found, expected = (i.query(STUDY.ge[:5], 3)[columns] for i in (quick, index))
    pd.testing.assert_frame_equal(found, expected)
