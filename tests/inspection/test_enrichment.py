import os
from math import comb
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.inspection import (
    EnrichmentDisplay,
    RunningSumDisplay,
    class_enrichment,
)
from sklearn_molge.library import MoleculeIndex
from sklearn_molge.molecules import MorganFingerprinter

STATISTICS = ["running_sum", "auc", "hypergeometric"]
MOA = ["a", "a|b", "b", None, "a", "c", "b", "", "c", "c", "b", "c"]
SCORES = -np.arange(12.0)
FEW = {"random_state": 0, "n_permutations": 200}
MORE = {"random_state": 0, "n_permutations": 5000}


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def table(scores=SCORES, labels=MOA, **more):
    return class_enrichment(scores, labels, **(FEW | more)).table


def slow_running_sum(scores, labels, of, weight):
    """Walk down the list of labelled molecules, over whole ties at a time."""
    rows = [i for i, text in enumerate(labels) if text]
    n, own = len(rows), [i for i in rows if of in labels[i].split("|")]
    rank = dict(zip(rows, stats.rankdata([-scores[i] for i in rows]), strict=True))
    weights = {
        i: max(abs(1 - 2 * (rank[i] - 1) / (n - 1)), 1 / n) ** weight for i in rows
    }
    best = 0.0
    for at in sorted(set(rank.values())):
        hits = sum(weights[i] for i in own if rank[i] <= at)
        misses = sum(rank[i] <= at for i in rows if i not in own)
        value = hits / sum(weights[i] for i in own) - misses / (n - len(own))
        best = max(best, value)
    return best


@pytest.mark.parametrize("weight", [0, 1, 2.5])
@pytest.mark.parametrize("tied", [False, True])
def test_statistics_by_slow_loops(tied, weight):
    rng = np.random.default_rng(0)
    labels = np.array(
        ["|".join(np.array(list("abcd"))[rng.random(4) < 0.3]) for _ in range(60)]
    )
    scores = rng.normal(size=60)
    scores = np.round(scores) if tied else scores
    found = table(scores, labels, weight=weight)
    areas = table(scores, labels, statistic="auc")
    has = np.array([bool(text) for text in labels])
    for name in "abcd":
        expected = slow_running_sum(scores, labels, name, weight)
        assert found["statistic"][name] == pytest.approx(expected)
        own = np.array([name in text.split("|") for text in labels])
        test = stats.mannwhitneyu(scores[own], scores[~own & has])
        area = test.statistic / own.sum() / (~own & has).sum()
        assert areas["statistic"][name] == pytest.approx(area)
        display = RunningSumDisplay.from_predictions(
            scores, labels, of=name, weight=weight
        )
        assert display.sums.max() == pytest.approx(expected)
        assert display.sums[-1] == pytest.approx(0)


def test_hypergeometric_by_hand():
    result = class_enrichment(SCORES, MOA, k=3, statistic="hypergeometric", min_size=1)
    # Of 10 labelled molecules 3 are drawn; a has 3, of which 2 are drawn.
    row = result.table.loc["a"]
    assert (row["n"], row["n_hits"], row["expected"]) == (3, 2, pytest.approx(0.9))
    expected = (comb(3, 2) * comb(7, 1) + comb(3, 3)) / comb(10, 3)
    assert row["p_value"] == pytest.approx(expected)
    assert row["statistic"] == pytest.approx(2 / 0.9)
    assert row["hits"] == "0|1"
    counts = result.queries.loc[0]
    assert counts.tolist() == [12, 10, 2, 3, 3, 0]
    q_values = stats.false_discovery_control(result.table["p_value"])
    np.testing.assert_allclose(result.table["q_value"], q_values)


def test_hits_that_tie_with_the_last_count_too():
    scores = [3, 2, 2, 2, 1, 1, 1, 0, 0, 0, 0, 0]
    result = class_enrichment(scores, MOA, k=2, statistic="hypergeometric")
    assert result.queries["k"].tolist() == [4]
    moved = class_enrichment(scores[::-1], MOA[::-1], k=2, statistic="hypergeometric")
    cut = result.table.drop(columns="hits")
    pd.testing.assert_frame_equal(moved.table.drop(columns="hits"), cut)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_order_of_rows_and_monotone_scores_do_not_matter(statistic):
    rng = np.random.default_rng(1)
    scores = rng.permutation(12) // 2 / 7
    plain = table(scores, MOA, statistic=statistic, names=list("ABCDEFGHIJKL"))
    order = rng.permutation(12)
    moved = table(
        np.exp(3 * scores[order]),
        np.array(MOA)[order],
        statistic=statistic,
        names=np.array(list("ABCDEFGHIJKL"))[order],
    )
    pd.testing.assert_frame_equal(
        moved.drop(columns="hits"), plain.drop(columns="hits")
    )


@pytest.mark.parametrize("statistic", ["running_sum", "auc"])
@pytest.mark.parametrize("tied", [False, True])
def test_p_values_are_uniform_under_the_null(statistic, tied):
    # 200 p-values each of two classes: 0.138 is the 0.1 % critical value of KS.
    rng = np.random.default_rng(0)
    labels = np.repeat(["a", "b", "a|b", "c"], [5, 25, 3, 27])
    scores = rng.normal(size=(200, 60))
    scores = np.round(scores, 1 if tied else 9)
    found = table(scores, labels, statistic=statistic, n_permutations=499)
    for name in "ab":
        p = found["p_value"].xs(name, level="class")
        assert stats.kstest(p, "uniform").statistic < 0.138
    exact = table(scores, labels, statistic="hypergeometric", k=12)["p_value"]
    for name, p in exact.groupby("class"):
        for level in (0.01, 0.05, 0.2, 0.5):  # discrete: never more than it says
            assert (p <= level).mean() <= level + 4 * np.sqrt(level / len(p)), name


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_planted_class_is_found_and_only_that_one(statistic):
    rng = np.random.default_rng(0)
    labels = np.repeat([f"class {i}" for i in range(30)], 8)
    scores = rng.normal(size=240) + 3.0 * (labels == "class 7")
    found = table(scores, labels, statistic=statistic, n_permutations=5000)
    assert found.index[0] == "class 7"
    assert found["q_value"].iloc[0] < 0.01
    assert (found["q_value"] < 0.05).sum() == 1
    assert (found["statistic"] > found["chance"]).iloc[0]


@pytest.mark.parametrize("statistic", STATISTICS)
def test_queries_do_not_depend_on_each_other(statistic):
    rng = np.random.default_rng(0)
    scores = np.array([rng.normal(size=12), rng.integers(0, 3, 12), SCORES])
    together = table(scores, statistic=statistic)
    for i in (0, 1, 2):
        alone = table(scores[i], statistic=statistic)
        pd.testing.assert_frame_equal(together.loc[i], alone)


def test_pooled_queries_are_ranked_by_their_mean_rank():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(3, 12)) * [[1], [10], [100]]
    ranks = stats.rankdata(-scores, axis=1).mean(axis=0)
    pd.testing.assert_frame_equal(table(scores, pool=True), table(-ranks))


def test_rows_of_one_drug_are_one_molecule_with_its_best_score():
    drugs = ["x", "y", "x", "z", "w"]
    scores, labels = [1, 5, 9, 3, 2], ["a", "b", "b", "", "a"]
    merged = table(scores, labels, drugs=drugs, min_size=1, k=1)
    plain = table([9, 5, 3, 2], ["a|b", "b", "", "a"], names=list("xyzw"), min_size=1,
                  k=1)  # fmt: skip
    pd.testing.assert_frame_equal(merged, plain)
    assert plain["hits"]["a"] == "x"


def test_sizes_of_classes_are_limited_and_counted():
    result = class_enrichment(SCORES, MOA, min_size=4, max_size=4, **FEW)
    assert sorted(result.table.index) == ["b", "c"]
    assert result.queries["n_left_out"].tolist() == [1]


def test_of_a_table_of_an_index_with_background():
    rng = np.random.default_rng(0)
    smiles = np.array(["C" * i + end for i in range(1, 11) for end in ("O", "N", "S")])
    y = rng.normal(size=(30, 8))
    labels = np.array(["short"] * 6 + ["long"] * 20 + [""] * 4)
    model = make_pipeline(
        MorganFingerprinter(fp_size=64, count=True), CCA(3, ridge=0.1)
    )
    model.fit(smiles, y)
    frame = pd.DataFrame({"smiles": smiles, "name": smiles, "moa": labels})
    index = MoleculeIndex(model).fit(frame)
    answers = index.query(y[:2], 10)
    library = index.get_molecules()["moa"]
    found = class_enrichment(
        answers, "moa", statistic="hypergeometric", background=library
    )
    sizes = {"short": 6, "long": 20, None: 26}
    counted = class_enrichment(
        answers, "moa", statistic="hypergeometric", background=sizes
    )
    pd.testing.assert_frame_equal(counted.table, found.table)
    del sizes[None]
    with pytest.raises(ValueError, match="background must have the key None"):
        class_enrichment(answers, "moa", statistic="hypergeometric", background=sizes)
    assert found.table["hits"].iloc[0].split("|")[0] in smiles
    everything = index.similarity_to_rows(y[:2], index.get_molecules().index)
    full = class_enrichment(everything, library, statistic="hypergeometric", k=10)
    assert found.table.index.names == ["query", "class"]
    pd.testing.assert_frame_equal(
        found.table.drop(columns="hits"),
        full.table.drop(columns="hits").loc[found.table.index],
    )
    assert found.queries["k"].tolist() == [10, 10]
    all_of_it = class_enrichment(index.query(y[:1], 30), "moa", **FEW)
    np.testing.assert_allclose(
        all_of_it.table["statistic"].loc[0].sort_index(),
        table(everything[0], library)["statistic"].sort_index(),
    )


def test_displays():
    rng = np.random.default_rng(0)
    labels = np.repeat([f"class {i}" for i in range(30)], 8)
    scores = rng.normal(size=240) + 3.0 * (labels == "class 7")
    display = EnrichmentDisplay.from_predictions(scores, labels, max_classes=5, **MORE)
    assert len(display.points_.get_offsets()) == 5
    assert display.ax_.get_yticklabels()[0].get_text() == "class 7"
    np.testing.assert_allclose(
        display.points_.get_offsets()[:, 0], display.table["statistic"][:5]
    )
    one = RunningSumDisplay.from_predictions(
        scores, labels, of="class 7", ax=display.ax_
    )
    assert one.ax_ is display.ax_
    assert len(one.members) == 8
    with pytest.raises(ValueError, match=r"scores must be of one query\. Got 2"):
        EnrichmentDisplay.from_predictions(np.array([scores] * 2), labels, **MORE)
    with pytest.raises(ValueError, match=r"`of` one of its classes\. Got 'x'"):
        RunningSumDisplay.from_predictions(scores, labels, of="x")


def test_another_separator_is_taken_or_told():
    other = [text and text.replace("|", "; ") for text in MOA]
    pd.testing.assert_frame_equal(table(labels=other, sep="; "), table())
    with pytest.warns(
        UserWarning, match="No label has '|' between classes, and 1 have"
    ):
        assert "a" in table(labels=other, min_size=1).index


def test_too_few_permutations_are_said():
    labels = np.repeat([f"class {i}" for i in range(30)], 4)
    with pytest.warns(
        UserWarning, match="no single class can have a q-value below 0.1"
    ):
        class_enrichment(np.arange(120), labels, **FEW)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": [np.nan] * 12}, "scores: Input contains NaN"),
        ({"labels": MOA[1:]}, "labels must hold the classes of each of the 12"),
        ({"drugs": ["x"] * 3}, "inconsistent numbers of samples"),
        ({"min_size": 50}, "No class has from 50 to any number of labelled"),
        ({"labels": [""] * 12}, "No class has from 3"),
        ({"k": 12, "statistic": "hypergeometric"}, "k must leave some of the 12"),
        ({"k": 0}, "'k' parameter"),
        ({"background": MOA}, "background is for statistic='hypergeometric'"),
        (
            {"background": ["a"] * 20, "statistic": "hypergeometric"},
            "It has fewer of 'b', 'c'",
        ),
        ({"labels": "moa"}, "Got scores without the columns 'query', 'rank', 'moa'"),
        ({"labels": "moa", "pool": True}, "pool=True needs the scores of all"),
    ],
)
def test_bad_parameters(change, message):
    given = {"scores": SCORES, "labels": MOA} | change
    with pytest.raises(ValueError, match=message):
        class_enrichment(**given)


def test_real_annotations():
    folder = Path(os.environ.get("SKLEARN_MOLGE_DATA", "../shared/data"))
    path = folder / "library" / "compoundinfo.txt.gz"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    library = pd.read_csv(path, sep="\t", usecols=["target", "moa", "pert_id"])
    rng = np.random.default_rng(0)
    own = library["moa"].fillna("").str.contains("HDAC inhibitor", regex=False)
    scores = rng.normal(size=len(library)) + 2.0 * own
    given = {"random_state": 0, "sep": "; ", "min_size": 5}
    found = class_enrichment(scores, library["moa"], drugs=library["pert_id"], **given)
    assert found.table["q_value"]["HDAC inhibitor"] < 0.05
    assert found.queries["n_unlabelled"].iloc[0] > 20_000
    targets = class_enrichment(scores, library["target"], **given)
    assert targets.table.index[0].startswith("HDAC")


def test_classes_as_lists_are_those_of_joined_texts():
    texts = ["A|B", "C", "", "A", "B|C", "A", "C", "B", "A|C", "B"]
    scores = -np.arange(10)
    expected = class_enrichment(scores, texts, min_size=1, random_state=0)
    lists = [text.split("|") if text else [] for text in texts]
    for labels in (lists, [set(row) for row in lists], pd.Series(lists)):
        result = class_enrichment(scores, labels, min_size=1, random_state=0)
        pd.testing.assert_frame_equal(result.table, expected.table)
    pairs = [["A", "B"], ["C", "D"]] * 5  # which numpy takes for a matrix
    found = class_enrichment(scores, pairs, random_state=0).table
    assert set(found.index) == set("ABCD")
    test = {"statistic": "hypergeometric", "background": lists * 2, "min_size": 1}
    class_enrichment(scores, lists, **test)
    for indicator in ([[0, 1], [1, 0]] * 5, np.eye(10)):
        with pytest.raises(ValueError, match="labels must"):
            class_enrichment(scores, indicator, random_state=0)


def test_a_weight_that_leaves_nothing():
    result = class_enrichment(-np.arange(9), list("ABABABABA"), weight=1e6,
                              random_state=0)  # fmt: skip
    assert result.table["statistic"].notna().all()
