import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import sparse, stats
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GroupKFold, permutation_test_score
from sklearn.pipeline import make_pipeline

from sklearn_molge.alignment import CCA
from sklearn_molge.base import TwoViewMixin
from sklearn_molge.datasets import load_lincs, make_perturbation_study
from sklearn_molge.exceptions import (
    DataWarning,
    FewCandidatesWarning,
    InvalidSmilesError,
    LeakageWarning,
)
from sklearn_molge.metrics import (
    RetrievalScorer,
    retrieval_ranks,
    retrieval_scores,
    similarity,
)
from sklearn_molge.model_selection import (
    DrugCellLineKFold,
    cross_val_ranks,
    drug_cell_line_split,
    drug_permutation_test_score,
)
from sklearn_molge.molecules import MorganFingerprinter, drug_ids
from sklearn_molge.retrieval import DoubleNNRetriever

CV = DrugCellLineKFold(2, 2, random_state=0)


@pytest.fixture(scope="module")
def study():
    return make_perturbation_study(
        60, n_cell_lines=4, n_genes=50, level=5, random_state=0
    )


def pipe():
    return make_pipeline(MorganFingerprinter(fp_size=256), CCA(5, ridge=1.0))


class Linear(TwoViewMixin, BaseEstimator):
    """The covariance of features and profiles, in a few microseconds."""

    def fit(self, X, y):
        self.weights_ = np.asarray(y).T @ np.asarray(X)
        return self

    def compare_to(self, X):
        return lambda y: np.asarray(y) @ self.weights_ @ np.asarray(X).T


def drugs_in_lines(n_drugs, n_lines, rng, *, effect=0.0, n_genes=6, p=0.7):
    """Features, profiles that share each drug's own response, and groups."""
    features = rng.normal(size=(n_drugs, 4))
    drug, line = np.divmod(np.arange(n_drugs * n_lines), n_lines)
    keep = (rng.uniform(size=len(drug)) < p) | (line == drug % n_lines)
    drug, line = drug[keep], line[keep]
    response = rng.normal(size=(n_drugs, n_genes))
    response += effect * features @ rng.normal(size=(4, n_genes))
    y = response[drug] + rng.normal(size=(n_lines, n_genes))[line]
    y += rng.normal(size=y.shape)
    return features[drug], y, np.column_stack([drug, line])


@pytest.mark.parametrize("candidates", ["all", "fold"])
@pytest.mark.parametrize("scoring", ["mrr", "neg_median_rank", "hits@10"])
def test_by_a_slow_loop(study, candidates, scoring):
    X, y, groups = study.smiles, study.ge, study.groups
    drugs = drug_ids(X)
    given = {"groups": groups, "cv": CV, "candidates": candidates}

    def score(molecules):
        table = cross_val_ranks(
            pipe(), molecules, y, drugs=drugs, known_drugs="ignore", **given
        )
        name = scoring.removeprefix("neg_")
        value = retrieval_scores(table["rank"], scores=[name])[name]
        return -value if name != scoring else value

    names, codes = np.unique(drugs, return_inverse=True)
    molecule = np.array([min(X[codes == i]) for i in range(len(names))], dtype=object)
    rng = np.random.RandomState(3)
    expected = [score(molecule[rng.permutation(len(names))[codes]]) for _ in range(4)]
    found = drug_permutation_test_score(
        pipe(), X, y, scoring=scoring, n_permutations=4, random_state=3, **given
    )
    assert found[0] == score(molecule[codes])
    np.testing.assert_array_equal(found[1], expected)
    assert found[2] == (1 + sum(np.array(expected) >= found[0])) / 5


def test_the_score_is_that_of_cross_validation(study):
    score, _, _ = drug_permutation_test_score(
        pipe(), study.smiles, study.ge, groups=study.groups, cv=CV, n_permutations=1
    )
    scores = [
        (len(test), pipe().fit(study.smiles[train], study.ge[train]).score(
            study.smiles[test], study.ge[test]))
        for train, test in CV.split(study.smiles, groups=study.groups)
    ]  # fmt: skip
    weights, values = zip(*scores, strict=True)
    assert score == pytest.approx(np.average(values, weights=weights))


def test_one_seed_one_result_whatever_the_workers_and_the_order_of_rows(study):
    X, y, groups = study.smiles, study.ge, study.groups
    given = {"cv": CV, "n_permutations": 5, "random_state": 1}
    state = np.random.get_state()[1].copy()
    one = drug_permutation_test_score(pipe(), X, y, groups=groups, **given)
    two = drug_permutation_test_score(pipe(), X, y, groups=groups, n_jobs=2, **given)
    np.testing.assert_array_equal(np.random.get_state()[1], state)
    np.testing.assert_array_equal(one[1], two[1])
    assert one[0] == two[0]
    order = np.random.RandomState(0).permutation(len(X))
    moved = drug_permutation_test_score(
        pipe(), X[order], y[order], groups=groups[order], **given
    )
    np.testing.assert_allclose(moved[1], one[1], rtol=1e-6)
    assert moved[2] == one[2]


def test_signal_is_found_and_noise_is_not(study):
    X, y, groups = study.smiles, study.ge, study.groups
    given = {"groups": groups, "cv": CV, "n_permutations": 19, "random_state": 0}
    assert drug_permutation_test_score(pipe(), X, y, **given)[2] == 1 / 20
    names, codes = np.unique(drug_ids(X), return_inverse=True)
    other = np.random.RandomState(2).permutation(len(names))
    molecule = np.array([X[codes == i][0] for i in range(len(names))], dtype=object)
    assert drug_permutation_test_score(pipe(), molecule[other[codes]], y, **given)[
        2
    ] > 0.05  # fmt: skip


@pytest.mark.parametrize("refit", [pytest.param(True, marks=pytest.mark.slow), False])
def test_p_values_are_uniform_under_the_null(refit):
    # 200 p-values on a grid: the 0.1 % critical value of the KS distance is 0.138,
    # and conservative for a grid.
    n = 9 if refit else 19
    p_values = []
    for seed in range(200):
        rng = np.random.RandomState(seed)
        X, y, groups = drugs_in_lines(24, 3, rng)
        cv = DrugCellLineKFold(2, hold_out="drugs", random_state=seed)
        splits = list(cv.split(X, groups=groups))
        p_values.append(
            drug_permutation_test_score(
                Linear(), X, y, drugs=groups[:, 0], cv=splits if refit else splits[:1],
                n_permutations=n, random_state=rng, refit=refit,
            )[2]
        )  # fmt: skip
    p_values = np.array(p_values)
    grid = np.arange(1, n + 2) / (n + 1)
    below = (p_values[:, None] <= grid + 1e-9).mean(axis=0)
    assert np.abs(below - grid).max() < 0.138


def test_with_signal_p_values_are_small_with_and_without_refit():
    X, y, groups = drugs_in_lines(60, 3, np.random.RandomState(0), effect=2.0)
    given = {"drugs": groups[:, 0], "groups": groups, "random_state": 0}
    cv = DrugCellLineKFold(2, hold_out="drugs", random_state=0)
    assert drug_permutation_test_score(Linear(), X, y, cv=cv, **given)[2] < 0.02
    once = [next(cv.split(X, groups=groups))]
    score, scores, p = drug_permutation_test_score(
        Linear(), X, y, cv=once, refit=False, n_permutations=999, **given
    )
    assert p == 1 / 1000
    assert len(scores) == 999
    assert scores.max() < score


def test_agrees_with_scikit_learn_where_one_group_suffices():
    # One profile a drug: exchanging drugs is permuting rows.
    X, y, groups = drugs_in_lines(60, 1, np.random.RandomState(1), effect=0.5)
    drugs, cv = groups[:, 0], GroupKFold(2)
    n = 200
    ours = drug_permutation_test_score(
        Linear(), X, y, groups=drugs, drugs=drugs, cv=cv, n_permutations=n,
        random_state=0,
    )  # fmt: skip
    theirs = permutation_test_score(
        Linear(), X, y, cv=list(cv.split(X, groups=drugs)), n_permutations=n,
        scoring=RetrievalScorer("mrr"), random_state=0,
    )  # fmt: skip
    assert ours[0] == pytest.approx(theirs[0])  # the folds are of one size
    assert stats.ks_2samp(ours[1], theirs[1]).pvalue > 0.01
    assert abs(ours[2] - theirs[2]) < 4 * np.sqrt(2 * 0.25 / n)


def test_rows_as_units_are_too_sure_of_themselves():
    # scikit-learn's permutes rows of y, which are no units where drugs have many.
    X, y, groups = drugs_in_lines(24, 8, np.random.RandomState(0), p=1.0)
    cv = list(GroupKFold(2).split(X, groups=groups[:, 0]))
    rows = permutation_test_score(
        Linear(), X, y, cv=cv, scoring=RetrievalScorer("mrr"), random_state=0
    )[1]
    drugs = drug_permutation_test_score(
        Linear(), X, y, drugs=groups[:, 0], cv=cv, random_state=0
    )[1]
    assert drugs.std() > 1.5 * rows.std()


def test_without_refit_by_a_slow_loop(study):
    X, y = study.smiles, study.ge
    split = drug_cell_line_split(
        study.groups, test_drugs=0.5, test_cell_lines=0.5, random_state=0
    )
    train, test = split.train, split.test
    model = pipe().fit(X[train], y[train])
    drugs = drug_ids(X)
    names, own = np.unique(drugs[test], return_inverse=True)
    molecule = np.array([X[drugs == name][0] for name in names], dtype=object)
    rng = np.random.RandomState(5)
    expected = []
    for _ in range(3):
        dealt = molecule[rng.permutation(len(names))[own]]
        ranks = retrieval_ranks(model, dealt, y[test], drugs=drugs[test])
        expected.append(retrieval_scores(ranks)["mrr"])
    given = {"cv": [(train, test)], "refit": False, "n_permutations": 3}
    found = drug_permutation_test_score(pipe(), X, y, random_state=5, **given)
    np.testing.assert_allclose(found[1], expected)
    assert found[0] == pytest.approx(model.score(X[test], y[test]))
    fitted = drug_permutation_test_score(
        FrozenEstimator(model), X, y, random_state=5, **given
    )
    np.testing.assert_allclose(fitted[1], expected)


def test_spellings_of_a_drug_count_as_one_and_features_that_differ_are_said(study):
    X, y, groups = study.smiles.copy(), study.ge, study.groups
    given = {"groups": groups, "cv": CV, "n_permutations": 2, "random_state": 0}
    plain = drug_permutation_test_score(pipe(), X, y, **given)
    X[drug_ids(X) == drug_ids(X[:1])[0]] = X[0] + ".Cl"
    X[0] = study.smiles[0]
    np.testing.assert_array_equal(
        drug_permutation_test_score(pipe(), X, y, **given)[1], plain[1]
    )
    features = np.random.RandomState(0).normal(size=(len(X), 3))
    with pytest.warns(DataWarning, match="Rows of 60 drugs of 60 have different feat"):
        drug_permutation_test_score(Linear(), features, y, drugs=groups[:, 0], **given)


def test_what_is_said_of_the_data_is_said_once(study):
    X, y, groups = study.smiles, study.ge, study.groups
    with pytest.warns(LeakageWarning) as said:
        drug_permutation_test_score(pipe(), X, y, cv=2, n_permutations=2)
    assert len(said) == 1
    assert any(name in str(said[0].message) for name in set(drug_ids(X)))
    few = DrugCellLineKFold(10, hold_out="drugs", random_state=0)
    with pytest.warns(FewCandidatesWarning) as said:
        drug_permutation_test_score(
            pipe(), X, y, groups=groups, cv=few, n_permutations=2
        )
    assert len(said) == 10  # once a fold


def test_parameters_of_fit_stay_with_their_profiles(study):
    class Own(TwoViewMixin, BaseEstimator):
        def fit(self, X, y, groups=None):
            assert groups.shape == (len(X), 2)
            return self

        def compare_to(self, X):
            return lambda y: np.zeros((len(y), len(X)))

    for refit, cv in ((True, CV), (False, [(np.arange(9), np.arange(9, 50))])):
        _, scores, p = drug_permutation_test_score(
            Own(), study.smiles, study.ge, groups=study.groups, cv=cv, refit=refit,
            params={"groups": study.groups}, n_permutations=2, candidates="all",
        )  # fmt: skip
        assert p == 1.0
        np.testing.assert_allclose(scores, 1 / 30.5)


def test_bad_parameters(study):
    X, y, groups = study.smiles, study.ge, study.groups
    given = {"groups": groups, "cv": CV}
    with pytest.raises(ValueError, match="'scores' parameter must name a score"):
        drug_permutation_test_score(pipe(), X, y, scoring="accuracy", **given)
    with pytest.raises(ValueError, match="refit=False is a test of one split"):
        drug_permutation_test_score(pipe(), X, y, refit=False, **given)
    with pytest.raises(ValueError, match="'n_permutations' parameter"):
        drug_permutation_test_score(pipe(), X, y, n_permutations=0, **given)
    with pytest.raises(ValueError, match="X must hold at least 2 drugs"):
        drug_permutation_test_score(pipe(), X[:1].repeat(4), y[:4], cv=2)
    alone = [(np.arange(8, 80), np.arange(8))]
    given = {"cv": alone, "drugs": np.arange(len(X)) // 8}
    with pytest.raises(ValueError, match="Folds with one test drug"):
        drug_permutation_test_score(pipe(), X, y, **given)
    with pytest.raises(ValueError, match="Got only one of them"):
        drug_permutation_test_score(pipe(), X, y, refit=False, **given)


def ranks_among(model, own, profiles, library):
    """Rank each row's molecule among a library, beside it where it is not there."""
    of = {drug_ids([s])[0]: s for s in library}
    ranks = []
    for smiles, profile in zip(own, profiles, strict=True):
        key = drug_ids([smiles])[0]
        others = [s for other, s in of.items() if other != key]
        asked = np.array([of.get(key, smiles), *others], dtype=object)
        row = similarity(model, asked, profile[None])[0]
        closer, tied = row[1:] > row[0], row[1:] == row[0]
        ranks.append(1 + closer.sum() + tied.sum() / 2)
    return np.array(ranks)


@pytest.mark.filterwarnings("ignore::sklearn_molge.exceptions.FewCandidatesWarning")
@pytest.mark.parametrize("refit", [True, False])
def test_a_fixed_set_by_a_slow_loop(study, refit):
    keep = np.flatnonzero(study.groups[:, 1] != "LINE01")
    X, y, groups = study.smiles[keep], study.ge[keep], study.groups[keep]
    # some are of the study, as salts, twice, some are not
    library = [*(f"{s}.Cl" for s in np.unique(X)[:15]), "CCCCCl", "CCCCBr", "CCCCBr"]
    split = list(CV.split(X, groups=groups))[:1]
    train, test = split[0]
    names, codes = np.unique(drug_ids(X), return_inverse=True)
    molecule = np.array([min(X[codes == i]) for i in range(len(names))], dtype=object)
    rng = np.random.RandomState(2)
    expected = []
    fixed = pipe().fit(X[train], y[train])
    tested, own = np.unique(codes[test], return_inverse=True)
    for _ in range(3):
        if refit:
            dealt = molecule[rng.permutation(len(names))[codes]]
            model, asked = pipe().fit(dealt[train], y[train]), dealt[test]
        else:
            model, asked = fixed, molecule[tested[rng.permutation(len(tested))[own]]]
        ranks = ranks_among(model, asked, y[test], library)
        expected.append((1 / ranks).mean())
    found = drug_permutation_test_score(
        pipe(), X, y, groups=groups, cv=split, candidates=np.array(library, object),
        n_permutations=3, random_state=2, refit=refit,
    )  # fmt: skip
    np.testing.assert_allclose(found[1], expected)
    ranks = ranks_among(fixed, molecule[codes[test]], y[test], library)
    assert found[0] == pytest.approx((1 / ranks).mean())
    table = cross_val_ranks(pipe(), X, y, cv=split, candidates=library, groups=groups)
    np.testing.assert_array_equal(table["rank"], ranks)
    there = np.isin(drug_ids(X[test]), drug_ids(library))
    np.testing.assert_array_equal(table["n_candidates"], np.where(there, 17, 18))


def test_a_fixed_set_of_all_is_all_and_one_of_a_fold_is_that_fold(study):
    X, y, groups = study.smiles, study.ge, study.groups
    given = {"groups": groups, "cv": CV}
    every = cross_val_ranks(pipe(), X, y, **given)
    fixed = cross_val_ranks(pipe(), X, y, candidates=X, **given)
    pd.testing.assert_frame_equal(fixed, every)
    bits = MorganFingerprinter(fp_size=64).fit_transform(X)
    frame = pd.DataFrame(bits).add_prefix("bit")
    for features in (bits, sparse.csr_array(bits), frame):
        if sparse.issparse(features):
            model = DoubleNNRetriever()
        else:
            model = CCA(4, ridge=1.0)
        every = cross_val_ranks(model, features, y, **given)
        fixed = cross_val_ranks(model, features, y, candidates=bits, **given)
        np.testing.assert_array_equal(fixed["rank"], every["rank"])


@pytest.mark.filterwarnings("ignore::sklearn_molge.exceptions.FewCandidatesWarning")
def test_among_a_fixed_set_p_values_are_uniform_under_the_null():
    rng = np.random.RandomState(0)
    p_values = []
    for _ in range(60):
        X, y, groups = drugs_in_lines(12, 4, rng)
        split = DrugCellLineKFold(2, 2, random_state=rng).split(X, groups=groups)
        p_values.append(
            drug_permutation_test_score(
                Linear(), X, y, cv=[next(split)], candidates=rng.normal(size=(25, 4)),
                n_permutations=19, refit=False, random_state=rng,
            )[2]
        )  # fmt: skip
    assert stats.kstest(p_values, "uniform", alternative="greater").pvalue > 0.01
    assert 0.4 < np.mean(p_values) < 0.65


def test_bad_fixed_sets(study):
    X, y, groups = study.smiles, study.ge, study.groups
    given = {"groups": groups, "cv": CV, "n_permutations": 1}
    for candidates, match in (
        (["CCO", "OCC"], "at least 2 distinct molecules. Got 1"),
        (np.eye(3), "Got SMILES in X and features in candidates"),
        ("every", "'candidates' parameter"),
    ):
        with pytest.raises(ValueError, match=match):
            drug_permutation_test_score(pipe(), X, y, candidates=candidates, **given)
    with pytest.raises(InvalidSmilesError, match="nonsense"):
        drug_permutation_test_score(
            pipe(), X, y, candidates=["CCO", "nonsense"], **given
        )
    with pytest.warns(FewCandidatesWarning, match="has only 2 molecules") as said:
        drug_permutation_test_score(pipe(), X, y, candidates=["CCO", "CCN"], **given)
    assert len(said) == 1


def test_real_profiles():
    folder = Path(os.environ.get("SKLEARN_MOLGE_DATA", "../shared/data"))
    if not (folder / "lincs_level5_sample").is_dir():
        pytest.skip(f"{folder} has no lincs_level5_sample")
    study = load_lincs(folder / "lincs_level5_sample", level=5)
    model = make_pipeline(MorganFingerprinter(), CCA(20, ridge=1.0))
    split = drug_cell_line_split(
        study.groups, test_drugs=0.35, test_cell_lines=0.25, random_state=0
    )
    score, scores, p = drug_permutation_test_score(
        clone(model), study.smiles, study.ge, drugs=study.groups[:, 0],
        cv=[(split.train, split.test)], refit=False, n_permutations=999,
        random_state=0,
    )  # fmt: skip
    assert p < 0.01
    assert scores.mean() < score / 2
