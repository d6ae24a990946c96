import itertools
import math
import os
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import (
    GroupKFold,
    GroupShuffleSplit,
    LeaveOneGroupOut,
    LeavePGroupsOut,
    ShuffleSplit,
    StratifiedGroupKFold,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_molge.alignment import CCA
from sklearn_molge.base import TwoViewMixin
from sklearn_molge.datasets import load_lincs, make_perturbation_study
from sklearn_molge.exceptions import (
    CalibrationWarning,
    DataWarning,
    FewCandidatesWarning,
    LeakageWarning,
)
from sklearn_molge.expression import GeneImputer, SourceScaler
from sklearn_molge.metrics import RetrievalScorer, query_beliefs, set_coverage
from sklearn_molge.model_selection import (
    DrugCellLineKFold,
    DrugCellLineShuffleSplit,
)
from sklearn_molge.molecules import MorganFingerprinter, drug_ids
from sklearn_molge.retrieval import (
    ConformalRetriever,
    OracleRetriever,
    RandomRetriever,
    TransformedTargetRetriever,
)

SAMPLE = Path(os.environ.get("SKLEARN_MOLGE_DATA", "../shared/data"))
SAMPLE /= "lincs_level5_sample"


class Table(TwoViewMixin, BaseEstimator):
    """Its similarities are a table: X holds the columns and y the rows."""

    def __init__(self, table):
        self.table = table

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def compare_to(self, X):
        columns = np.asarray(X, dtype=int)[:, 0]
        return lambda y: np.asarray(self.table)[
            np.ix_(np.asarray(y, dtype=int)[:, 0], columns)
        ]


class Weighted(CCA):
    """Keeps the weights that it was fitted with."""

    def fit(self, X, y, sample_weight=None):
        self.seen_ = sample_weight
        assert sample_weight is None or len(sample_weight) == len(X)
        return super().fit(X, y)


def noisy_views(n_drugs, n_profiles, *, noise=1.0, seed=0):
    """Return molecules, profiles that are these plus noise, and [drug, line]."""
    rng = np.random.default_rng(seed)
    places = np.repeat(np.arange(n_drugs), n_profiles)
    molecules = rng.normal(size=(n_drugs, 8))
    y = molecules[places] + noise * rng.normal(size=(len(places), 8))
    lines = np.tile([f"line{i}" for i in range(n_profiles)], n_drugs)
    drugs = np.array([f"drug{i}" for i in places], dtype=object)
    return molecules[places], y, np.column_stack([drugs, lines.astype(object)])


@pytest.fixture
def views():
    return noisy_views(75, 4)


CCA_4 = CCA(4, ridge=0.1)


def softmax_by_hand(row, mean, scale, a, c):
    """Return the beliefs of a row of similarities, by slow loops."""
    u = [(s - mean) / scale for s in row]
    powers = [math.exp(a * x + c * x * abs(x)) for x in u]
    return [power / sum(powers) for power in powers]


def best_on_a_grid(table, match, a, c):
    """Return the most likely slopes of a grid."""
    u = (table - table.mean()) / table.std()
    rows = np.arange(len(table))

    def loss(slopes):
        logits = slopes[0] * u + slopes[1] * u * np.abs(u)
        own = logits[rows, match]
        return -np.mean(own - np.log(np.exp(logits).sum(axis=1)))

    return min(itertools.product(a, c), key=loss)


def calibrated_table(table, match):
    """Return a retriever that is calibrated on a table, a drug a column."""
    X, y = match[:, None].astype(float), np.arange(float(len(match)))[:, None]
    sure = ConformalRetriever(FrozenEstimator(Table(table).fit(X, y)))
    with pytest.warns(LeakageWarning, match="drugs that calibrate it"):
        return sure.fit(X, y)


def test_p_values_equal_slow_loops_in_which_each_drug_weighs_the_same():
    rng = np.random.default_rng(0)
    match = np.array([*range(20), *([3] * 30)])  # one drug has 31 profiles
    table = rng.normal(size=(60, 20))
    table[np.arange(50), match] += 1.5
    sure = calibrated_table(table, match)
    assert sure.n_calibration_drugs_ == 20
    # Each drug weighs the same: its rows, so often that all have as many.
    rows = np.concatenate([np.repeat(i, 1 if match[i] == 3 else 31) for i in range(50)])
    shift = table[:50].mean(), table[:50].std()
    u = (table[:50] - shift[0]) / shift[1]

    def loss(a):
        own = a * u[np.arange(50), match] - np.log(np.exp(a * u).sum(axis=1))
        return -own[rows].mean()

    a = min(np.linspace(0.5, 4, 20_001), key=loss)
    own = [
        20 * softmax_by_hand(row, *shift, a, 0)[m]
        for row, m in zip(table[:50], match, strict=True)
    ]
    expected = []
    for row in table[50:]:
        expected.append([])
        for belief in softmax_by_hand(row, *shift, a, 0):
            total = 1.0
            for drug in range(20):
                of_drug = [o for o, m in zip(own, match, strict=True) if m == drug]
                total += sum(o <= 20 * belief for o in of_drug) / len(of_drug)
            expected[-1].append(total / 21)
    candidates, new = np.arange(20.0)[:, None], np.arange(50.0, 60)[:, None]
    np.testing.assert_allclose(sure.predict_p(candidates, new), expected)
    for coverage in (0.5, 0.8, 0.9):
        np.testing.assert_array_equal(
            sure.predict_set(candidates, new, coverage=coverage),
            np.array(expected) > 1 - coverage + 1e-9,
        )
    np.testing.assert_array_equal(
        sure.predict_set(candidates, new), sure.predict_set(candidates, new, 0.9)
    )


def test_beliefs_have_the_slopes_of_maximum_likelihood():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(300, 300))
    table[np.diag_indices(300)] = rng.normal(1.5, 1.5, size=300)
    sure = calibrated_table(table, np.arange(300))
    near = sure.slopes_[:, None] + np.linspace(-0.06, 0.06, 13)
    best = best_on_a_grid(table, np.arange(300), *near)
    np.testing.assert_allclose(sure.slopes_, best)
    assert (sure.slopes_ > 0.06).all()
    X = y = np.arange(300.0)[:, None]
    np.testing.assert_allclose(
        sure.predict_belief(X, y[:1])[0],
        softmax_by_hand(table[0], table.mean(), table.std(), *sure.slopes_),
    )
    other = calibrated_table(1e6 * table - 1e7, np.arange(300))  # any unit will do
    np.testing.assert_allclose(
        other.predict_belief(X, y), sure.predict_belief(X, y), rtol=1e-3, atol=1e-6
    )


def test_sets_hold_unseen_molecules_as_often_as_stated():
    held = {coverage: [] for coverage in (0.5, 0.8, 0.9)}
    for seed in range(20):
        X, y, groups = noisy_views(170, 2, noise=2.0, seed=seed)
        sure = ConformalRetriever(CCA_4, random_state=seed)
        sure.fit(X[:200], y[:200], groups=groups[:200])
        for coverage, shares in held.items():
            sets = sure.predict_set(X[200:], y[200:], coverage)
            shares.append(sets.diagonal().mean())
    for coverage, shares in held.items():
        assert coverage - 0.03 < np.mean(shares) < coverage + 0.05


def test_sets_hold_the_truth_among_fewer_candidates_than_in_the_calibration():
    X, y, groups = noisy_views(420, 1, noise=2.0)
    drug_folds = DrugCellLineKFold(2, hold_out="drugs", random_state=0)
    sure = ConformalRetriever(CCA_4, cv=drug_folds)
    sure.fit(X[:200], y[:200], groups=groups[:200])  # among 100
    for size in (20, 220):
        parts = np.arange(200, 420).reshape(-1, size)
        sets = [sure.predict_set(X[p], y[p]).diagonal() for p in parts]
        assert 0.83 < np.mean(sets) < 0.97
        beliefs = [sure.predict_belief(X[p], y[p]) for p in parts]
        confidence = np.mean([b.max(axis=1) for b in beliefs])
        right = np.mean([b.argmax(axis=1) == np.arange(size) for b in beliefs])
        assert abs(confidence - right) < 0.1


def test_p_values_of_similarities_equal_slow_loops_and_know_no_list():
    rng = np.random.default_rng(0)
    match = np.array([*range(20), *([3] * 30)])  # one drug has 31 profiles
    table = rng.normal(size=(len(match), 20))
    table[np.arange(len(match)), match] += 1
    sure = calibrated_table(table, match)
    own = [(table[i, drug], drug) for i, drug in enumerate(match)]
    counts = np.bincount(match)
    asked = np.append(rng.normal(size=50), own[7][0])  # one ties
    slow = [
        (1 + sum((s <= x) / counts[drug] for s, drug in own)) / (20 + 1) for x in asked
    ]
    np.testing.assert_allclose(sure.predict_p_from_similarity(asked), slow)
    for coverage in (0.5, 0.8, 0.9):
        held = asked >= sure.least_similarity(coverage)
        assert held.tolist() == [p > 1 - coverage + 1e-9 for p in slow]
    with pytest.warns(CalibrationWarning, match="needs at least 99 calibration drugs"):
        assert sure.least_similarity(0.99) == -np.inf
    with pytest.raises(ValueError, match="Got NaN"):
        sure.predict_p_from_similarity([np.nan])
    with pytest.raises(ValueError, match="'coverage' parameter of least_similarity"):
        sure.least_similarity(1.0)


def test_similarities_hold_the_truth_in_a_list_of_another_kind():
    """Of molecules that are unlike those of the calibration, 40 times as many."""
    molecules, y, groups = noisy_views(240, 2)
    train = np.arange(len(y)) < 240
    others = 3 + np.random.default_rng(1).normal(size=(4000, 8))
    model = make_pipeline(StandardScaler(with_std=False), CCA(8, ridge=1e-3))
    sure = ConformalRetriever(model, random_state=0)
    sure.fit(molecules[train], y[train], groups=groups[train])
    listed = np.concatenate([molecules[~train], others])
    similarities = sure.similarity(listed, y[~train])
    held = similarities >= sure.least_similarity()
    own = held[np.arange(len(held)), np.arange(len(held))]
    assert 0.82 < own.mean() < 0.98
    assert held.mean() < 0.9


def test_rows_of_beliefs_have_sum_one_over_distinct_molecules(views):
    X, y, groups = views
    sure = ConformalRetriever(CCA_4, random_state=0).fit(X, y, groups=groups)
    once = sure.predict_belief(X[::4], y[:9])
    np.testing.assert_allclose(once.sum(axis=1), 1)
    assert ((once >= 0) & (once <= 1)).all()
    many = sure.predict_belief(X, y[:9])
    np.testing.assert_allclose(many, np.repeat(once, 4, axis=1))
    np.testing.assert_array_equal(
        sure.predict_p(X, y[:9]), np.repeat(sure.predict_p(X[::4], y[:9]), 4, axis=1)
    )


def test_sets_are_nested_and_follow_the_ranking(views):
    X, y, groups = views
    sure = ConformalRetriever(CCA_4, random_state=0).fit(X, y, groups=groups)
    similarity, p_values = sure.similarity(X[::4], y), sure.predict_p(X[::4], y)
    order = np.argsort(-similarity, axis=1)
    assert (np.diff(np.take_along_axis(p_values, order, axis=1)) <= 0).all()
    coverages = np.linspace(0.02, 0.98, 25)
    sets = sure.predict_set(X[::4], y, coverages)
    assert sets.shape == (25, 300, 75)
    assert (sets[1:] >= sets[:-1]).all()
    assert sets[0].sum() < sets[12].sum() < sets[-1].sum()
    np.testing.assert_array_equal(
        sure.predict_set(X[::4], y, coverages[::-1].tolist()), sets[::-1]
    )


def test_several_coverages_by_hand():
    """With 9 drugs that calibrate, the p-values are tenths, here those of each row."""
    match = np.arange(9)
    table = np.zeros((10, 9))
    table[match, match - 1] = 4.0
    table[match, match] = 9.0 - match  # drug 0 is the surest, drug 8 the least
    sure = calibrated_table(table, match)
    candidates = match[:, None].astype(float)
    p_values = sure.predict_p(candidates, np.arange(9.0)[:, None])
    np.testing.assert_allclose(p_values.diagonal(), (10 - match) / 10)
    sets = sure.predict_set(candidates, np.arange(9.0)[:, None], [0.85, 0.5, 0.15])
    held = sets[:, match, match]
    # Above 0.15, above 0.5 (0.5 itself is not), above 0.85.
    np.testing.assert_array_equal(held[0], match <= 8)
    np.testing.assert_array_equal(held[1], match <= 4)
    np.testing.assert_array_equal(held[2], match <= 1)
    for one, c in zip(sets, (0.85, 0.5, 0.15), strict=True):
        alone = sure.predict_set(candidates, np.arange(9.0)[:, None], c)
        assert alone.shape == (9, 9)
        np.testing.assert_array_equal(one, alone)
        array = sure.predict_set(candidates, np.arange(9.0)[:, None], [c])
        np.testing.assert_array_equal(array, one[None])
    # The last row says nothing: its candidates are in together, or out.
    tied = sure.predict_set(candidates, [[9.0]], np.linspace(0.05, 0.85, 9))[:, 0]
    np.testing.assert_array_equal(tied, np.repeat(tied[:, :1], 9, axis=1))


def test_ranks_and_embeds_as_the_retriever_does(views):
    X, y, groups = views
    sure = ConformalRetriever(CCA_4, random_state=0).fit(X, y, groups=groups)
    plain = clone(CCA_4).fit(X, y)
    np.testing.assert_array_equal(sure.similarity(X, y), plain.similarity(X, y))
    np.testing.assert_array_equal(sure.transform(X), plain.transform(X))
    np.testing.assert_array_equal(sure.transform_ge(y), plain.transform_ge(y))
    assert sure.score(X, y) == plain.score(X, y)
    without = ConformalRetriever(RandomRetriever(0))
    assert not hasattr(without, "transform")
    assert not hasattr(without, "transform_ge")


def test_no_clone_has_seen_a_molecule_or_a_line_that_it_is_calibrated_on(views):
    fits: list = []

    class Watched(CCA):
        def fit(self, X, y):
            fits.append(self)
            self.rows_ = {tuple(row) for row in X}, {tuple(row) for row in y}
            return super().fit(X, y)

        def transform(self, X):
            assert not self.rows_[0] & {tuple(row) for row in X}
            return super().transform(X)

        def transform_ge(self, y):
            known = {line_of[row] for row in self.rows_[1]}
            assert not known & {line_of[tuple(row)] for row in y}
            return super().transform_ge(y)

    X, y, groups = views
    line_of = {tuple(row): line for row, line in zip(y, groups[:, 1], strict=True)}
    ConformalRetriever(Watched(4, ridge=0.1), random_state=0).fit(X, y, groups=groups)
    assert len(fits) == 1 + 3  # on all rows, and without each of 3 folds


@pytest.mark.parametrize(
    ("n_drugs", "n_lines", "cv", "n_clones"),
    [
        (75, 4, None, 3),  # at least 20 drugs a fold
        (170, 3, None, 8),
        (170, 1, None, 5),  # about 5 of the 170 rows in a pair
        (24, 2, None, 2),
        (75, 4, 3, 3),
        (75, 2, 3, 3),
        (75, 1, 3, 3),
    ],
)
def test_number_of_clones(n_drugs, n_lines, cv, n_clones):
    fits: list = []

    class Counted(CCA):
        def fit(self, X, y):
            fits.append(len(X))
            return super().fit(X, y)

    X, y, groups = noisy_views(n_drugs, n_lines)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ConformalRetriever(Counted(4, ridge=0.1), cv=cv).fit(X, y, groups=groups)
    assert len(fits) == 1 + n_clones


def test_same_seed_same_result_and_no_global_generator(views):
    X, y, groups = views
    state = np.random.get_state()[1].copy()
    with joblib.parallel_config("threading"):
        fits = [
            ConformalRetriever(CCA_4, random_state=3, n_jobs=n_jobs)
            .fit(X, y, groups=groups)
            .predict_p(X[::4], y)
            for n_jobs in (None, 2)
        ]
    np.testing.assert_array_equal(*fits)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    order = np.random.default_rng(0).permutation(len(X))
    turned = ConformalRetriever(CCA_4, random_state=3)
    turned.fit(X[order], y[order], groups=groups[order])
    np.testing.assert_allclose(
        turned.predict_belief(X[::4], y),
        ConformalRetriever(CCA_4, random_state=3)
        .fit(X, y, groups=groups)
        .predict_belief(X[::4], y),
        rtol=1e-6,
    )


def test_pipelines_smiles_names_pickle_and_cross_validation(tmp_path):
    study = make_perturbation_study(80, n_cell_lines=4, level=5, random_state=0)
    y = study.profiles()
    inner = make_pipeline(
        MorganFingerprinter(fp_size=128),
        TransformedTargetRetriever(CCA(4, ridge=1.0), StandardScaler()),
    )
    sure = ConformalRetriever(inner, random_state=0)
    sure.fit(study.smiles, y, groups=study.groups)
    p_values = sure.predict_p(study.smiles[:30], y[:5])
    assert p_values.shape == (5, 30)
    joblib.dump(sure, tmp_path / "sure.joblib")
    again = joblib.load(tmp_path / "sure.joblib")
    np.testing.assert_array_equal(again.predict_p(study.smiles[:30], y[:5]), p_values)
    with pytest.raises(ValueError, match="order"):
        sure.predict_p(study.smiles[:30], y.iloc[:5, ::-1])
    outer = make_pipeline(
        MorganFingerprinter(fp_size=128),
        ConformalRetriever(CCA(4, ridge=1.0), cv=2, random_state=0),
    )
    result = cross_validate(
        outer, study.smiles, study.ge, groups=study.groups, error_score="raise",
        cv=DrugCellLineKFold(2, 2, random_state=0), scoring=RetrievalScorer("mrr"),
    )  # fmt: skip
    assert (result["test_score"] > 0).all()
    outer.fit(study.smiles, study.ge, conformalretriever__groups=study.groups)
    table = query_beliefs(outer, study.smiles, study.ge)
    assert len(table) == len(study.smiles)


def test_splitters_and_iterables(views):
    X, y, groups = views
    folds = list(GroupKFold(3).split(X, y, groups[:, 0]))
    results = [
        ConformalRetriever(CCA_4, cv=cv).fit(X, y).predict_p(X[::4], y)
        for cv in (GroupKFold(3), folds)
    ]
    assert results[0].shape == results[1].shape == (300, 75)
    shuffled = list(ShuffleSplit(2, random_state=0).split(X))
    with pytest.raises(ValueError, match=r"whole drugs\. Fold 0 trains"):
        ConformalRetriever(CCA_4, cv=shuffled).fit(X, y)
    lines = DrugCellLineKFold(2, 2, hold_out="cell_lines", random_state=0)
    with pytest.raises(ValueError, match="cv must hold out whole drugs"):
        ConformalRetriever(CCA_4, cv=lines).fit(X, y, groups=groups)
    alone = [(np.arange(4, 300), np.arange(4))]
    with pytest.raises(ValueError, match=r"Fold 0 leaves .* alone"):
        ConformalRetriever(CCA_4, cv=alone).fit(X, y)


@pytest.mark.parametrize(
    "cv",
    [
        GroupKFold(3),
        GroupShuffleSplit(2, random_state=0),
        StratifiedGroupKFold(3),
        LeaveOneGroupOut(),
        LeavePGroupsOut(2),
    ],
    ids=lambda cv: type(cv).__name__,
)
def test_splitters_by_group_get_the_drugs(cv):
    X, y, groups = noisy_views(6, 4)
    drugs = groups[:, 0]
    if isinstance(cv, LeaveOneGroupOut):  # alone, a drug has no other to be told from
        with pytest.raises(ValueError, match=r"Fold 0 leaves 'drug0' alone"):
            ConformalRetriever(CCA(2, ridge=0.1), cv=cv).fit(X, y, groups=groups)
        return
    target = np.repeat([0, 1], 12) if isinstance(cv, StratifiedGroupKFold) else y
    one_gene = target.reshape(24, -1)
    folds = list(cv.split(X, target, drugs))
    results = []
    for one_cv in (cv, folds):
        sure = ConformalRetriever(CCA(1, ridge=0.1), 0.5, cv=one_cv)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sure.fit(X, one_gene if isinstance(cv, GroupKFold) else target, groups)
        results.append(sure.conformity_scores_)
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        ([], "cv must make at least one fold. Got none"),
        ([(np.arange(296), np.arange(0))], "Fold 0 has 296 training and 0 test rows"),
        ([(np.arange(0), np.arange(300))], "Fold 0 has 0 training and 300 test rows"),
    ],
)
def test_folds_without_rows_are_refused(views, cv, message):
    X, y, groups = views
    with pytest.raises(ValueError, match=message):
        ConformalRetriever(CCA_4, cv=cv).fit(X, y, groups=groups)


def test_a_pair_of_folds_without_rows_takes_fewer_folds():
    """Of 100 drugs in two lines each, nearly all rows are of one line."""
    rng = np.random.default_rng(0)
    drugs = np.repeat(np.arange(100), 2)
    lines = np.where(rng.uniform(size=200) < 0.85, 0, rng.integers(1, 30, size=200))
    groups = np.column_stack([drugs, lines])
    X, y = drugs[:, None].astype(float), np.arange(200.0)[:, None]
    table = rng.normal(size=(200, 100))
    table[np.arange(200), drugs] += 2
    n_fewer = 0
    for seed in range(12):
        sure = ConformalRetriever(Table(table), 0.5, random_state=seed)
        try:
            cv = DrugCellLineKFold(5, 5, paired=True, random_state=seed)
            list(cv.split(X, groups=groups))
        except ValueError:
            n_fewer += 1
            with pytest.raises(ValueError, match="has no test row"):  # as asked for
                clone(sure).set_params(cv=5).fit(X, y, groups)
        with warnings.catch_warnings():
            warnings.simplefilter("error", CalibrationWarning)
            sure.fit(X, y, groups)
        assert 5 < sure.n_calibration_drugs_ < 100
    assert 0 < n_fewer < 12


def test_lines_that_no_pair_can_hold_out_are_said():
    """Drugs of the first fold lie in one line, and a pair may have no training row."""
    X, y, groups = noisy_views(30, 1)
    groups[:, 1] = np.where(np.arange(30) < 29, "line0", "line1")
    sure = ConformalRetriever(CCA_4, 0.5, random_state=0)
    with pytest.warns(CalibrationWarning, match="groups has too few rows") as said:
        sure.fit(X, y, groups=groups)
    assert said[0].filename == __file__
    assert sure.n_calibration_drugs_ == 30


def test_names_of_one_molecule_are_one_drug():
    """As the same data by drug_ids: no clone is calibrated on a molecule it knows."""
    study = make_perturbation_study(60, n_cell_lines=3, level=5, random_state=0)
    pipe = make_pipeline(MorganFingerprinter(fp_size=128), CCA(4, ridge=1.0))
    X, y, groups = study.smiles, study.ge, study.groups.copy()
    # Names are sorted as the identities are, so that the folds are the same.
    groups[:, 0] = drug_ids(X)
    several = groups.copy()
    several[:, 0] = [" ".join(pair) for pair in groups]
    one = ConformalRetriever(pipe, random_state=0).fit(X, y, groups=groups)
    with pytest.warns(DataWarning, match="180 names for 60 drugs") as w:
        named = ConformalRetriever(pipe, random_state=0).fit(X, y, groups=several)
    assert w[0].filename == __file__
    assert named.n_calibration_drugs_ == one.n_calibration_drugs_ == 60
    np.testing.assert_allclose(named.conformity_scores_, one.conformity_scores_)
    order = np.random.default_rng(0).permutation(len(X))
    with pytest.warns(DataWarning, match="180 names"):
        turned = ConformalRetriever(pipe, random_state=0).fit(
            X[order], y[order], groups=several[order]
        )
    np.testing.assert_allclose(
        turned.conformity_scores_, one.conformity_scores_, rtol=1e-4, atol=1e-6
    )
    # A splitter that goes by the names is refused.
    cv = DrugCellLineKFold(2, 2, random_state=0)
    with (
        pytest.warns(DataWarning, match="180 names"),
        pytest.raises(ValueError, match="cv must hold out whole drugs"),
    ):
        ConformalRetriever(pipe, cv=cv).fit(X, y, groups=several)


def test_salts_under_several_names_are_one_drug():
    """Names are linked by structures, and structures by names."""
    texts = ["CCO", "OCC.Cl", "CCN", "CCN", "CCC", "CCCC", "CCCO"]
    smiles = np.array(texts * 4, dtype=object)
    names = np.array(["a", "b", "b", "c", "d", "e", "f"] * 4, dtype=object)
    groups = np.column_stack([names, np.repeat(["w", "x", "y", "z"], 7)])
    y = np.random.default_rng(0).normal(size=(28, 4))
    pipe = make_pipeline(
        MorganFingerprinter(fp_size=64), CCA(1, ridge=1.0, metric="dot")
    )
    one = np.flatnonzero(np.isin(names, ["a", "b", "c", "d"]))
    other = np.flatnonzero(np.isin(names, ["e", "f"]))
    sure = ConformalRetriever(pipe, 0.5, cv=[(one, other), (other, one)])
    with pytest.warns() as said:
        sure.fit(smiles, y, groups=groups)
    texts = [str(w.message) for w in said if w.category is DataWarning]
    assert len(texts) == 1
    assert texts[0].startswith("groups has 6 names for 4 drugs, by the SMILES of X.")
    assert "('a', 'b', 'c')" in texts[0]


def test_features_of_one_molecule_under_several_names_are_said(views):
    X, y, groups = views
    several = groups.copy()
    several[:, 0] = [f"{d} {i % 4}" for i, d in enumerate(groups[:, 0])]
    with pytest.warns(LeakageWarning, match="have the features of another drug") as w:
        ConformalRetriever(CCA_4, random_state=0).fit(X, y, groups=several)
    assert w[0].filename == __file__
    # Different drugs may have equal features.
    X = X.copy()
    X[:24] = X[24:48]
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        ConformalRetriever(CCA_4, random_state=0).fit(X, y, groups=groups)


def test_genes_that_the_retriever_fills_may_be_missing():
    study = make_perturbation_study(
        60, n_cell_lines=3, n_genes=40, level=5, random_state=0
    )
    y = study.profiles()
    y.iloc[::2, :5] = np.nan
    filling = TransformedTargetRetriever(
        CCA(4, ridge=1.0), make_pipeline(SourceScaler(), GeneImputer())
    )
    pipe = make_pipeline(MorganFingerprinter(fp_size=128), filling)
    sure = ConformalRetriever(pipe, random_state=0)
    sure.fit(study.smiles, y, groups=study.groups)
    assert sure.n_calibration_drugs_ == 60
    alone = clone(filling).fit(pipe[0].fit_transform(study.smiles), y)
    np.testing.assert_allclose(
        sure.similarity(study.smiles, y),
        alone.similarity(pipe[0].transform(study.smiles), y),
    )
    assert np.isfinite(sure.predict_belief(study.smiles, y)).all()
    plain = make_pipeline(MorganFingerprinter(fp_size=128), CCA(4, ridge=1.0))
    with pytest.raises(ValueError, match="y contains NaN"):
        sure.set_params(retriever=plain).fit(study.smiles, y, groups=study.groups)


def test_too_few_drugs_give_full_sets_and_say_so():
    X, y, groups = noisy_views(18, 2, noise=0.3)
    sure = ConformalRetriever(CCA_4, 0.95, cv=2, random_state=0)
    with pytest.warns() as said:
        sure.fit(X, y, groups=groups)
    texts = [str(w.message) for w in said if w.category is CalibrationWarning]
    assert texts == [
        "coverage=0.95 needs at least 19 calibration drugs. Got 18: every set holds "
        "all candidates."
    ]
    assert any(w.category is FewCandidatesWarning for w in said)
    with pytest.warns(CalibrationWarning, match="needs at least 19"):
        assert sure.predict_set(X, y).all()
    with pytest.warns(CalibrationWarning, match="needs at least 99"):
        assert sure.predict_set(X, y, coverage=0.99).all()
    assert not sure.predict_set(X, y, coverage=0.5).all()
    with pytest.warns(CalibrationWarning, match="needs at least") as said:
        sets = sure.predict_set(X, y, coverage=[0.95, 0.5, 0.99])
    assert len(said) == 2
    assert sets.all(axis=(1, 2)).tolist() == [True, False, True]
    X, y, groups = noisy_views(60, 2)
    sure = ConformalRetriever(CCA_4, random_state=0, cv=2).fit(X, y)
    assert not sure.predict_set(X, y, coverage=0.9).all()


def test_exactly_enough_drugs_are_enough():
    """1 - 0.95 is more than 0.05 in floating point, and 1 - 0.9 less than 0.1."""
    match = np.arange(19)
    table = np.eye(19) * 5.0
    X = match[:, None].astype(float)
    sure = ConformalRetriever(FrozenEstimator(Table(table).fit(X, X)), 0.95)
    with pytest.warns() as said:
        sure.fit(X, X)
    assert not any(w.category is CalibrationWarning for w in said)
    np.testing.assert_array_equal(sure.predict_set(X, X), np.eye(19, dtype=bool))


def test_similarities_that_tell_nothing_give_equal_beliefs_and_full_sets():
    sure = ConformalRetriever(Table(np.zeros((200, 200))), cv=2, random_state=0)
    molecules = np.repeat(np.arange(60.0), 2)[:, None]
    with pytest.warns(CalibrationWarning, match="tell nothing"):
        sure.fit(molecules, np.arange(120.0)[:, None])
    columns = np.arange(40.0)[:, None]
    assert sure.slopes_.tolist() == [0, 0]
    np.testing.assert_allclose(sure.predict_belief(columns, columns), 1 / 40)
    assert sure.predict_set(columns, columns, coverage=0.5).all()


def test_one_cell_line_cannot_be_held_out(views):
    X, y, groups = noisy_views(75, 1)
    with pytest.warns(CalibrationWarning, match="groups has one cell line, 'line0'"):
        ConformalRetriever(CCA_4, random_state=0).fit(X, y, groups=groups)


def test_an_oracle_that_knows_no_molecule_is_calibrated_too(views):
    X, y, _ = views
    with pytest.warns(CalibrationWarning, match="tell nothing"):
        sure = ConformalRetriever(OracleRetriever(), random_state=0).fit(X, y)
    assert np.isfinite(sure.predict_belief(X[::4], y)).all()


def test_frozen_retrievers_are_calibrated_on_all_rows(views):
    X, y, _ = views
    fitted = clone(CCA_4).fit(X[:150], y[:150])
    sure = ConformalRetriever(FrozenEstimator(fitted))
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        sure.fit(X[152:], y[152:])
    assert sure.n_calibration_drugs_ == 37
    with pytest.warns(LeakageWarning, match="fitted on 38 of the 75 drugs"):
        sure.fit(X, y)
    with pytest.raises(ValueError, match="cv must be None where retriever is frozen"):
        sure.set_params(cv=3).fit(X, y)


def test_a_frozen_retriever_knows_the_salts_of_its_molecules():
    study = make_perturbation_study(40, n_cell_lines=2, level=5, random_state=0)
    X, y = study.smiles, study.ge
    new = np.isin(X, np.unique(X)[:20])
    # Fitted on SMILES, of which its transformer makes features.
    filling = TransformedTargetRetriever(
        make_pipeline(MorganFingerprinter(fp_size=64), CCA(4, ridge=1.0)), None
    )
    fitted = filling.fit(X[~new], y[~new])
    salts = np.array([f"{text}.Cl" for text in X], dtype=object)
    sure = ConformalRetriever(FrozenEstimator(fitted), 0.5)
    with pytest.warns(LeakageWarning, match="fitted on 20 of the 40 drugs"):
        sure.fit(salts, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeakageWarning)
        sure.fit(salts[new], y[new])
    with pytest.warns(LeakageWarning, match="20 of the 20 test drugs"):
        RetrievalScorer("mrr")(fitted, salts[~new], y[~new] + 1.0)


def test_fit_parameters_are_cut_to_the_folds(views):
    X, y, groups = views
    sure = ConformalRetriever(Weighted(4, ridge=0.1), random_state=0)
    sure.fit(X, y, groups=groups, sample_weight=np.arange(300.0))
    np.testing.assert_array_equal(sure.retriever_.seen_, np.arange(300.0))
    with sklearn.config_context(enable_metadata_routing=True):
        routed = ConformalRetriever(
            Weighted(4, ridge=0.1).set_fit_request(sample_weight=True), random_state=0
        ).fit(X, y, groups=groups, sample_weight=np.arange(300.0))
    np.testing.assert_array_equal(routed.retriever_.seen_, np.arange(300.0))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"coverage": 1.0}, ValueError, "'coverage' parameter"),
        ({"coverage": "high"}, ValueError, "'coverage' parameter"),
        ({"retriever": 3}, ValueError, "'retriever' parameter"),
        ({"retriever": LinearRegression()}, TypeError, "similarity"),
        ({"cv": 1}, ValueError, "'cv' parameter"),
        ({"cv": 99}, ValueError, "more than the 75 distinct drugs"),
    ],
)
def test_bad_parameters(views, change, error, message):
    X, y, groups = views
    sure = ConformalRetriever(CCA_4, random_state=0).set_params(**change)
    with pytest.raises(error, match=message):
        sure.fit(X, y, groups=groups)


def test_bad_input(views):
    X, y, groups = views
    sure = ConformalRetriever(CCA_4, random_state=0)
    with pytest.raises(ValueError, match="X and y must have the same number of rows"):
        sure.fit(X[:-1], y, groups=groups)
    with pytest.raises(ValueError, match="at least 2 drugs"):
        sure.fit(X[:4], y[:4])
    with pytest.raises(ValueError, match="y is None"):
        sure.fit(X, None)
    nothing = np.full((300, 75), np.nan)
    numbered = np.repeat(np.arange(75.0), 4)[:, None], np.arange(300.0)[:, None]
    with pytest.raises(ValueError, match="are NaN, first profile 0"):
        ConformalRetriever(Table(nothing), random_state=0).fit(*numbered)
    sure.fit(X, y, groups=groups)
    for coverage in (0, 1, 1.5, "all", [], [0.5, 1], [[0.5]], [0.5, None]):
        with pytest.raises(ValueError, match="'coverage' parameter of predict_set"):
            sure.predict_set(X, y, coverage=coverage)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no {SAMPLE}")
def test_coverage_on_real_profiles():
    study = load_lincs(SAMPLE, level=5)
    X = MorganFingerprinter(fp_size=256).fit_transform(study.smiles)
    y = PCA(100, random_state=0).fit_transform(study.ge)  # fewer genes: a quick test
    cv = DrugCellLineShuffleSplit(4, test_drugs=0.35, test_cell_lines=6, random_state=1)
    tables, held = [], []
    for train, test in cv.split(X, groups=study.groups):
        sure = ConformalRetriever(CCA(50, ridge=3.0), cv=2, random_state=0)
        sure.fit(X[train], y[train], groups=study.groups[train])
        drugs = study.groups[test, 0]
        tables.append(query_beliefs(sure, X[test], y[test], drugs=drugs))
        own = sure.similarity(X[test], y[test]).diagonal()
        held.append(pd.Series(own >= sure.least_similarity()).groupby(drugs).mean())
    table = set_coverage(pd.concat(tables), random_state=0)
    assert 0.84 < table.loc[0.9, "held"] < 0.96
    assert table.loc[0.9, "mean_size"] < 0.9  # of a random ranking
    assert table["mean_size"].is_monotonic_increasing
    assert 0.84 < pd.concat(held).mean() < 0.96
